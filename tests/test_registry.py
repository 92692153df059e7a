"""Names, aliases, canonical forms and parameters of the methods, and the conventions."""

from __future__ import annotations

import keyword

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xairt
from xairt.attribution import calls
from xairt.attribution.registry import ALIASES, METHODS, resolve
from xairt.conventions import CONVENTIONS, check
from xairt.errors import MethodError

WORDS = st.from_regex(r"[a-z][a-z_0-9]{0,8}", fullmatch=True).filter(lambda word: not keyword.iskeyword(word))
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1000, 1000),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text("abc XYZ.-_", max_size=9),
    st.tuples(st.integers(0, 9), st.integers(0, 9)),
)


@given(name=st.lists(WORDS, min_size=1, max_size=3), parameters=st.dictionaries(WORDS, VALUES, max_size=4))
def test_form_and_parse_are_inverse(name, parameters):
    assert calls.parse(calls.form(".".join(name), parameters)) == (".".join(name), parameters)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("  lrp.z ", ("lrp.z", {})),
        ("occlusion(patch=(2, 1), value=-1.5)", ("occlusion", {"patch": (2, 1), "value": -1.5})),
        ("lrp.z(bias=ignore)", ("lrp.z", {"bias": "ignore"})),
        (
            "lrp.z(input_layer_rule=Bounded(low=-1, high=2))",
            ("lrp.z", {"input_layer_rule": "Bounded(low=-1, high=2)"}),
        ),
        ("a(x=__import__('os').getcwd())", ("a", {"x": "__import__('os').getcwd()"})),
    ],
)
def test_parse_reads_calls_and_evaluates_nothing(text, parsed):
    assert calls.parse(text) == parsed


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "method '' cannot be read: write a name"),
        ("lrp.z(", r"method 'lrp.z\(' cannot be read"),
        ("lrp z", "method 'lrp z' cannot be read"),
        ("1", "method '1' cannot be read"),
        ("f()()", r"method 'f\(\)\(\)' cannot be read"),
        ("lrp.z(1)", r"method 'lrp.z\(1\)' has a value without a name: write name\(parameter=value, ...\)"),
        ("lrp.z(**a)", "has a value without a name"),
        ("lrp.z(bias=1, bias=2)", "gives parameter 'bias' twice: give it once"),
    ],
)
def test_parse_refuses_the_rest(text, reason):
    with pytest.raises(MethodError, match=reason) as caught:
        calls.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("alias", ALIASES)
def test_aliases_are_canonical_methods_with_fixed_parameters(alias):
    name, fixed = ALIASES[alias]
    call = resolve(alias)
    assert (call.method.name, call.label) == (name, alias)
    assert {k: getattr(call.parameters, k) for k in fixed} == fixed
    key = next(iter(fixed))
    with pytest.raises(
        MethodError, match=f"{alias}: parameter '{key}' is fixed by the name already: leave it out"
    ):
        resolve(alias, {key: fixed[key]})
    with pytest.raises(MethodError, match=rf"parameter '{key}' is fixed by the name '{alias}': use {name}"):
        resolve(calls.form(alias, {key: fixed[key]}))


@pytest.mark.parametrize("name", [*METHODS, *ALIASES])
def test_canonical_form_names_the_same_method(name):
    call = resolve(name)
    again = resolve(call.form)
    assert (again.method.name, again.parameters) == (call.method.name, call.parameters)
    assert again.form == call.form


def test_parameters_stand_in_the_name_or_beside_it():
    inside, beside = (
        resolve("lrp.epsilon(epsilon=0.1, bias=False)"),
        resolve("lrp.epsilon", {"epsilon": 0.1, "bias": False}),
    )
    assert inside.parameters == beside.parameters
    assert inside.form == beside.form == 'lrp.epsilon(input_layer_rule=None, bias="ignore", epsilon=0.1)'
    assert inside.label == beside.label == "lrp.epsilon(epsilon=0.1, bias=False)"
    with pytest.raises(MethodError, match=r"parameter 'epsilon' is fixed by the name already: leave it out"):
        resolve("lrp.epsilon(epsilon=0.1)", {"epsilon": 0.2})


def test_numpy_numbers_are_numbers():
    call = resolve("lrp.epsilon", {"epsilon": np.float32(0.5)})
    assert call.parameters.epsilon == 0.5
    assert resolve("integrated_gradients", {"steps": np.int64(9)}).parameters.steps == 9


def test_bounded_input_rule_is_part_of_the_form():
    call = resolve("lrp.z(input_layer_rule=Bounded(low=-3, high=2.5))")
    assert "Bounded(low=-3, high=2.5)" in call.form
    assert resolve("lrp.z", {"input_layer_rule": "Bounded"}).parameters.input_layer_rule.high == 1.0
    assert resolve(call.form).parameters == call.parameters


def test_close_bounds_keep_their_digits():
    call = resolve("lrp.z(input_layer_rule=Bounded(low=0.12345678, high=0.12345679))")
    assert resolve(call.form).parameters == call.parameters


def test_convention_sets_what_the_caller_left_open():
    free = resolve("lrp.alpha_beta", convention="innvestigate")
    assert (free.parameters.bias, free.convention) == ("innvestigate", "innvestigate")
    assert resolve("lrp.alpha_1_beta_0_IB", convention="innvestigate").parameters.bias == "ignore"
    assert resolve("lrp.alpha_beta", {"bias": "ignore"}, "innvestigate").parameters.bias == "ignore"
    assert resolve("lrp.alpha_beta").parameters.bias == "canonical"


def test_every_convention_of_a_method_is_registered():
    named = {name for method in METHODS.values() for name in method.conventions}
    assert named <= set(CONVENTIONS)
    for name, convention in CONVENTIONS.items():
        assert convention.name == name
        assert all((convention.applies_to, convention.difference, convention.source))


def test_check_of_conventions():
    assert check(None, ()) is None
    assert check("krell2025", ("krell2025",)) == "krell2025"
    with pytest.raises(
        MethodError, match="convention 'krell' does not apply here: known are krell2025; did you mean"
    ):
        check("krell", ("krell2025",))
    with pytest.raises(MethodError, match="convention 'x' does not apply here: known are none"):
        check("x", ())


def test_table_tells_parameters_and_promises():
    table = xairt.methods()
    assert table.index.name == "name"
    assert "epsilon=1e-07" in table.parameters["lrp.epsilon"]
    assert table.needs_baseline["integrated_gradients"]
    assert not table.needs_baseline["gradient"]
    assert not table.signed["saliency"]
    assert table.sum_promises["integrated_gradients"] == "f(x) - f(baseline)"
    engines = {"native", "innvestigate", "deeplift", "shap", "lime"}
    assert set(table.engines.str.split(", ").explode()) == engines
    assert table.reference.str.len().min() > 0
