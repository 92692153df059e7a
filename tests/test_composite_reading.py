"""Rules given layer by layer: how they are read, written and remembered, and what is refused."""

from __future__ import annotations

import json

import networks
import numpy as np
import pytest
import tensorflow as tf
from test_composite import entry

from xairt import attribute, explainer
from xairt.attribution.lrp import rules
from xairt.attribution.lrp.composites import RULE_ALIASES, RULES, read_rule
from xairt.attribution.registry import resolve
from xairt.errors import MethodError

L = tf.keras.layers

pytestmark = pytest.mark.usefixtures("run_eagerly")


# ------------------------------------------------------------------------------------- reading rules


@pytest.mark.parametrize("name", [*RULES, *RULE_ALIASES])
def test_rules_are_written_as_they_are_read(name):
    rule = read_rule(name)
    assert read_rule(str(rule)) == rule
    assert rules.MAKERS[rule.name](**dict(rule.parameters)) == rule


@pytest.mark.parametrize("value", [0.1, 1e-9, 1 / 3, 2.0, 12345678.9])
def test_parameters_of_rules_keep_their_digits(value):
    assert read_rule(str(rules.epsilon(value))) == rules.epsilon(value)


def test_open_bias_is_the_methods():
    for bias in ("canonical", "ignore", "innvestigate"):
        call = resolve("lrp.composite", {"rules": [entry("alpha_2_beta_1", index=0)], "bias": bias})
        assert call.parameters.rules[0].rule == f"alpha_beta(alpha=2, beta=1, bias={bias})"
        assert call.parameters.default == f"z(bias={bias})"
    entries = [
        entry("alpha_2_beta_1", index=0),
        entry("epsilon(bias=False)", index=1),
        entry("flat", index=2),
    ]
    published = resolve("lrp.composite", {"rules": entries}, "innvestigate").parameters
    assert [e.rule for e in published.rules] == [
        "alpha_beta(alpha=2, beta=1, bias=innvestigate)",
        "epsilon(epsilon=1e-07, bias=ignore)",
        "flat",
    ]


YAML = """
# the usual choice for convolutions
- layer: first
  rule: bounded(low=-3, high=3)
- {name: conv*, index: "0:1", rule: alpha_1_beta_0}
- {index: 1:3, rule: gamma}
- index: [-1]
  rule: epsilon(epsilon=0.1, bias=ignore)
"""
SAME_IN_PYTHON = [
    entry("bounded(low=-3, high=3)", layer="first"),
    entry("alpha_1_beta_0", name="conv*", index="0:1"),
    entry("gamma", index="1:3"),
    entry("epsilon(epsilon=0.1, bias=ignore)", index=[-1]),
]


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_yaml_holds_the_same_list(tmp_path, kind):
    file = tmp_path / "my rules.yaml"
    file.write_text(YAML, encoding="utf-8")
    read, given = (resolve("lrp.composite", {"rules": v}) for v in (kind(file), SAME_IN_PYTHON))
    assert read.parameters == given.parameters
    assert (read.form, read.label) == (given.form, "lrp.composite")
    inside = resolve(f'lrp.composite(rules="{file}")')
    assert (inside.form, inside.label) == (given.form, "lrp.composite")
    assert str(file) not in read.form


def test_form_names_the_same_rules_again():
    call = resolve("lrp.composite", {"rules": SAME_IN_PYTHON, "default": "z_plus_fast"})
    again = resolve(call.form)
    assert (again.parameters, again.form) == (call.parameters, call.form)


def test_identity_holds_the_rules_themselves(tmp_path):
    file = tmp_path / "rules.yaml"
    file.write_text("[{layer: dense, rule: alpha_2_beta_1}]")
    model = networks.mlp()
    x = networks.samples(model)
    identities = [
        json.loads(attribute(model, x, "lrp.composite", rules=v).identities)["lrp.composite"]
        for v in (str(file), [entry("alpha_2_beta_1", layer="dense")])
    ]
    assert identities[0] == identities[1]
    assert identities[0]["parameters"]["rules"] == [
        {"layer": "dense", "rule": "alpha_beta(alpha=2, beta=1, bias=canonical)"}
    ]
    assert resolve(identities[0]["form"]).parameters.model_dump(mode="json") == identities[0]["parameters"]


def test_a_changed_file_is_read_again(tmp_path):
    file = tmp_path / "rules.yaml"
    model = networks.mlp()
    x = networks.samples(model)
    for rule in ("flat", "w_square"):
        file.write_text(f"[{{layer: dense, rule: {rule}}}]")
        want = attribute(model, x, f"lrp.{rule}").attribution
        np.testing.assert_array_equal(attribute(model, x, "lrp.composite", rules=str(file)).attribution, want)
        inside = attribute(model, x, [f'lrp.composite(rules="{file}")', "gradient"])
        np.testing.assert_array_equal(inside.attribution[0], want)


def test_equal_lists_share_one_explainer():
    from xairt.attribution import explainer as module

    model = networks.mlp()
    x = networks.samples(model)
    for _ in range(2):
        attribute(model, x, "lrp.composite", rules=[entry("flat", index=0)])
    last, before = [module._recent[key] for key in list(module._recent)[-1:-3:-1]]
    assert last.call.parameters.rules[0].rule == "flat"
    assert before.call.parameters != last.call.parameters


# ------------------------------------------------------------------------------------- what is refused

REFUSED = [
    (
        [entry("z", layer="dens")],
        "entry 1: parameter 'layer' = 'dens': Input should be 'dense', 'convolution'",
    ),
    (
        [entry("z", name="*"), entry("epsilom", index=0)],
        "entry 2: unknown rule 'epsilom': .*; did you mean 'epsilon'",
    ),
    (
        [entry("epsilon(epsilon=-1)", index=0)],
        "entry 1: epsilon: parameter 'epsilon' = -1: Input should be greater",
    ),
    (
        [entry("alpha_beta(alpha=2, beta=2)", index=0)],
        "entry 1: alpha_beta: .* alpha - beta must be 1, got 2 - 2",
    ),
    (
        [entry("alpha_1_beta_0(alpha=2)", index=0)],
        "parameter 'alpha' is fixed by the name 'alpha_1_beta_0': use alpha_beta",
    ),
    ([entry("epsilon(gamma=2)", index=0)], "entry 1: epsilon has no parameter 'gamma': it has bias, epsilon"),
    ([entry("epsilon(", index=0)], r"entry 1: method 'epsilon\(' cannot be read"),
    ([entry("bounded(low=2, high=1)", index=0)], r"low \(2.0\) must lie below high \(1.0\)"),
    (
        [entry("z", index=0, layers="dense")],
        "entry 1 has no parameter 'layers': it has layer, name, index, rule; did you",
    ),
    ([{"layer": "dense"}], "entry 1: parameter 'rule' = .*: Field required"),
    (
        [{"rule": "z"}],
        "entry 1: parameters: name the layers by layer, name or index; default= serves all others",
    ),
    (["epsilon"], "entry 1: 'epsilon' is no entry: write"),
    ([{1: 2}], "entry 1: {1: 2} is no entry: write"),
    ({"layer": "dense", "rule": "z"}, "is no list of entries: write"),
    (
        [entry("z", index=True)],
        r"entry 1: parameter 'index' = True: write a position such as 0 or -1, a list \[0, 1\]",
    ),
    ([entry("z", index=[0, 0.5])], "entry 1: parameter 'index' = .*: write a position"),
    ([entry("z", index="a")], "entry 1: parameter 'index' = 'a': write a position"),
    ([entry("z", index="0:3:0")], "index '0:3:0' is no range: write 'start:stop'"),
    ([entry("z", index="0:1:2:3")], "index '0:1:2:3' is no range"),
]


@pytest.mark.parametrize(("given", "reason"), REFUSED)
def test_wrong_entries_are_refused(given, reason):
    with pytest.raises(MethodError, match=reason) as caught:
        resolve("lrp.composite", {"rules": given})
    assert str(caught.value).startswith("lrp.composite: parameter 'rules' = ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("default", "reason"),
    [
        ("zz", "parameter 'default' = 'zz': unknown rule 'zz': rules are z, epsilon"),
        ("bounded", "the bounded rule is for layers that read the input: give it with layer='first'"),
        (3, "parameter 'default' = 3: Input should be a valid string"),
    ],
)
def test_wrong_default_is_refused(default, reason):
    with pytest.raises(MethodError, match=reason):
        resolve("lrp.composite", {"default": default})


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (
            entry("z", name="conv9*"),
            r"entry 1 \(name=conv9\*\) is for no layer of the model: it has dense 'in', dense 'mid', dense 'out'$",
        ),
        (entry("z", layer="pooling"), r"entry 1 \(layer=pooling\) is for no layer of the model"),
        (
            entry("z", layer="first", index=1),
            r"entry 1 \(layer=first, index=1\) is for no layer of the model",
        ),
        (entry("z", index="5:"), r"entry 1 \(index=5:\) is for no layer of the model"),
        (
            entry("z", index=[0, 3]),
            r"entry 1 \(index=\(0, 3\)\): the model has 3 dense and convolution layers, and none at 3: choose -3 to 2",
        ),
        (
            entry("bounded", layer="dense"),
            "layer 'mid' does not read the input, and the bounded rule is for layers that do: give it with layer='first'",
        ),
    ],
)
def test_entries_that_do_not_fit_the_model_are_refused(given, reason):
    layers = [L.Dense(4, "relu", name="in"), L.Dense(4, "relu", name="mid"), L.Dense(2, name="out")]
    model = tf.keras.Sequential([L.InputLayer(3), *layers])
    with pytest.raises(MethodError, match=reason):
        explainer(model, "lrp.composite", rules=[given])


def test_average_pooling_is_not_meant_by_accident():
    model = networks.cnn()
    table = explainer(model, "lrp.composite", rules=[entry("alpha_2_beta_1", name="*")]).rules()
    assert table.rule[table.kind == "pooling"].tolist() == ["z(bias=ignore)"]
    with pytest.raises(MethodError, match=r"'dense\w*'; entries for average pooling need layer='pooling'$"):
        explainer(model, "lrp.composite", rules=[entry("flat", name="average_pool*")])
    named = [entry("flat", layer="pooling", name="average_pool*")]
    table = explainer(model, "lrp.composite", rules=named).rules()
    assert table.rule[table.kind == "pooling"].tolist() == ["flat"]


def test_long_lists_of_layers_are_cut():
    model = tf.keras.Sequential([L.InputLayer(2), *[L.Dense(2) for _ in range(25)]])
    with pytest.raises(MethodError, match=r"dense '\w+' and 5 more$"):
        explainer(model, "lrp.composite", rules=[entry("z", name="x")])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, r"r.yaml: cannot be read \(No such file or directory\): give a YAML file of rules"),
        ("[{layer: dense", r"r.yaml: is no YAML at line 1, column 15 \(.*\): write a list of entries"),
        ("layer: dense\nrule: z", r"r.yaml, \{.*\} is no list of entries: write \["),
        ("", "r.yaml, None is no list of entries"),
        ("- {layer: dense, rule: z}\n- {layer: dense, rule: zz}", "r.yaml, entry 2: unknown rule 'zz'"),
        (
            "- !!python/object:os.system {}",
            "r.yaml, entry 1: .*no parameter|r.yaml, entry 1: .* is no entry|Field required",
        ),
        (b"\xff\xfe\xff", r"r.yaml: cannot be read \(is not UTF-8 text\)"),
    ],
)
def test_wrong_files_are_refused(tmp_path, monkeypatch, text, reason):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "r.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(
        MethodError, match=f"^lrp.composite: parameter 'rules' = 'r.yaml': .*({reason})"
    ) as caught:
        resolve("lrp.composite", {"rules": "r.yaml"})
    assert "\n" not in str(caught.value)


def test_max_pooling_takes_no_rule():
    layers = [L.InputLayer((6, 6, 1)), L.Conv2D(2, 3), L.MaxPooling2D(), L.Flatten(), L.Dense(1)]
    with pytest.raises(MethodError, match=r"is for no layer .*; layer='pooling' means average pooling"):
        explainer(tf.keras.Sequential(layers), "lrp.composite", rules=[entry("flat", layer="pooling")])
