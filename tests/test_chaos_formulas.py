"""Formulas read safely, their truths and samples, and the scores of variables, against golden and naive numbers."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import truncnorm

from xairt import metrics
from xairt.benchmarks.chaos_symbolic import truths
from xairt.benchmarks.chaos_symbolic.data import samples
from xairt.benchmarks.chaos_symbolic.formulas import (
    FORMULAS,
    FUNCTIONS,
    LETTERS,
    LONGEST,
    Formula,
    formula_of,
    read_formulas,
)
from xairt.errors import DataError, MethodError

GOLDEN = Path(__file__).parent / "data/golden/chaosmining.npz"
NUMBERS = range(len(FORMULAS))


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN, allow_pickle=False) as archive:
        return dict(archive)


def uniform(n: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (n, columns))


# --------------------------------------------------------------------------- golden numbers


def test_formulas_are_the_published_ones(golden):
    assert [formula.text for formula in FORMULAS] == golden["formulas"].tolist()
    assert [formula.n_features for formula in FORMULAS] == golden["n_features"].tolist()


@pytest.mark.parametrize("number", NUMBERS)
def test_values_and_truths_are_those_of_the_published_program(golden, number):
    formula, x = FORMULAS[number], golden[f"{number:02d}_x"]
    np.testing.assert_allclose(formula(x), golden[f"{number:02d}_y"][:, 0], rtol=0, atol=2e-15)
    for name in ("intercept", "derivative", "integral20"):
        found = truths.TRUTHS[name](formula, x)
        np.testing.assert_allclose(found, golden[f"{number:02d}_{name}"], rtol=0, atol=2e-15)


def test_scores_are_those_of_the_published_program(golden):
    a, b, relevant = golden["score_a"], golden["score_b"], np.arange(9) < 4
    assert metrics.uniformity_score(a, b, relevant).mean() == pytest.approx(golden["uniformity"], abs=1e-14)
    precision = metrics.functional_precision(a, relevant).mean()
    assert precision == pytest.approx(golden["functional_precision_k4"], abs=1e-14)


# --------------------------------------------------------------------------- truths derived again


@pytest.mark.parametrize("number", NUMBERS)
def test_derivative_is_the_limit_of_differences(number):
    formula, x, step = FORMULAS[number], uniform(40, 10), 1e-5
    naive = [
        (formula(x + step * unit) - formula(x - step * unit)) / (2 * step)
        for unit in np.eye(10)[: formula.n_features]
    ]
    np.testing.assert_allclose(formula.derivative(x), np.transpose(naive), atol=1e-8)


@pytest.mark.parametrize("number", NUMBERS)
def test_integrals_sum_to_the_change_of_the_formula(number):
    formula, x = FORMULAS[number], uniform(200, 10)
    change = formula(x) - formula(np.zeros((1, 10)))
    np.testing.assert_allclose(truths.integral(formula, x).sum(axis=1), change, atol=1e-10)


def test_integral_is_the_integral_and_its_published_form_only_nears_it():
    formula, x = Formula("a**2*b", 2), uniform(50, 2)
    a, b = x.T
    exact = np.stack([2 * a * a * b / 3, a * a * b / 3], axis=1)
    np.testing.assert_allclose(truths.integral(formula, x), exact, atol=1e-14)
    assert 1e-3 < np.abs(truths.integral20(formula, x) - exact).max() < 0.05


def test_intercept_is_what_setting_a_letter_to_zero_takes_away():
    formula, x = Formula("a*b+cos(b)", 2), np.array([[2.0, 3.0]])
    expected = [[6.0, 6.0 + math.cos(3) - 1]]
    np.testing.assert_allclose(truths.intercept(formula, x), expected, atol=1e-14)


def test_a_kink_on_the_path_is_told(caplog):
    truths.integral(Formula("abs(a-0.3)", 1), [[1.0], [0.2]])
    assert "miss f(x) - f(0) by up to" in caplog.text


def test_truths_of_noise_variables_are_zero():
    x = uniform(5, 4)
    for name in truths.TRUTHS:
        found = truths.truth(name, FORMULAS[6], x)
        assert found.shape == (5, 4)
        assert (found[:, 2:] == 0).all()
        assert (found[:, :2] != 0).any()


def test_the_convention_of_the_integral_is_the_published_one_alone():
    with pytest.raises(MethodError, match="convention 'igc2025' does not apply here"):
        truths.integral(FORMULAS[0], [[1.0]], convention="igc2025")


# --------------------------------------------------------------------------- what a formula may be


def test_functions_and_constants_are_those_of_mathematics():
    x = np.array([[0.3, 0.7]])
    for name in ("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "exp", "log", "sqrt"):
        assert Formula(f"{name}(a)+b", 2)(x)[0] == pytest.approx(getattr(math, name)(0.3) + 0.7)
    assert Formula("abs(-a)+pi*E-(+b)", 2)(x)[0] == pytest.approx(0.3 + math.pi * math.e - 0.7)
    assert Formula("2**-a**2/b", 2)(x)[0] == pytest.approx(2 ** -(0.3**2) / 0.7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("__import__('os').system('touch /tmp/x')", "has the character"),
        ("__import__(a)", "calls the unknown '__import__'"),
        ("a.__class__", r"no arithmetic \(Attribute\)"),
        ("sin.a(a)", r"no arithmetic \(Call\)"),
        ("sin(a)(a)", r"no arithmetic \(Call\)"),
        ("lambda: a", "has the character ':'"),
        ("[a for a in b]", r"has the character '\['"),
        ("f'{a}'", "has the character"),
        ("'a'", "has the character"),
        ("(a:=2)", "has the character ':'"),
        ("a if a else a", r"no arithmetic \(IfExp\)"),
        ("a and a", r"no arithmetic \(BoolOp\)"),
        ("not a", r"no arithmetic \(UnaryOp\)"),
        ("(a, a)", r"no arithmetic \(Tuple\)"),
        ("a//2", r"no arithmetic \(BinOp\)"),
        ("a%2", "has the character '%'"),
        ("a@a", "has the character '@'"),
        ("a<1", "has the character '<'"),
        ("sin(a, a)", "other than one plain argument"),
        ("sin(*a)", "other than one plain argument"),
        ("sin()", "other than one plain argument"),
        ("gamma(a)", "calls the unknown 'gamma'; functions are sin, cos"),
        ("sine(a)", "did you mean 'sin'"),
        ("sin", "has the unknown name 'sin'"),
        ("A", "has the unknown name 'A'; known are a, E, pi"),
        ("b", "uses 'b', but has 1 variables"),
        ("\U0001d41a+1", "has the character"),
        ("а+1", "has the character"),  # Cyrillic
        ("a\n+1", "has the character"),
        ("a\x00", "has the character"),
        ("1j*a", "no real number"),
        ("True", "has True"),
        ("...", "has Ellipsis"),
        ("a b", "is no arithmetic expression"),
        ("(a", "is no arithmetic expression"),
        ("", "is no text, or empty"),
        ("1e60*a", "beyond 1e"),
        (f"1{'0' * 60}*a", "beyond 1e"),
        ("a+" * LONGEST + "a", f"write at most {LONGEST}"),
        ("-" * 290 + "a", "nested deeper"),
        ("(" * 250 + "a", "is no arithmetic expression"),
        ("+".join("a" for _ in range(61)), "nested deeper than 60 levels"),
        ("sin(" * 13 + "a" + ")" * 13, "more than 12 functions, powers and divisions inside of each other"),
        ("**".join("a" * 14), "more than 12 functions, powers and divisions inside of each other"),
        ("+".join(["a**2"] * 41), "more than 40 functions, powers and divisions"),
    ],
)
def test_anything_but_arithmetic_is_refused(text, message):
    with pytest.raises(DataError, match=message):
        Formula(text, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("9**9**9", "constant exponent beyond 100"),
        ("10**10**10", "constant exponent beyond 100"),
        ("9**(0*a+9)**9", "constant exponent beyond 100"),
        ("a**E**E**E", "constant exponent beyond 100"),
        ("((2*a)**64)**64", "number beyond 1e"),
        ("((7**40)**40)*a", "number beyond 1e"),
        ("exp(exp(exp(10)))", "number beyond 1e"),
        ("1/0", "no real number"),
        ("a/(b-b)", "no real number"),
        ("sqrt(-1)*a", "no real number"),
        ("asin(2)", "no real number"),
    ],
)
def test_constants_that_are_huge_or_not_real_are_refused_at_once(text, message):
    with pytest.raises(DataError, match=message):
        formula_of(f"2,{text}")


def test_a_value_outside_of_the_domain_names_formula_and_letters():
    formula = Formula("log(a)+b", 2)
    with pytest.raises(DataError, match=r"formula 'log\(a\)\+b': no finite value at a=-0.5, b=0.25"):
        formula([[0.5, 1.0], [-0.5, 0.25]])
    with pytest.raises(DataError, match="no finite derivative at a=1"):
        Formula("asin(a)", 1).derivative([[1.0]])


def nested(name: str, levels: int) -> str:
    return f"{name}(" * levels + "a" + ")" * levels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((nested(name, n), r"at most 300|inside of each other") for name, n in (("asin", 90), ("acos", 90))),
        *((nested(name, 97), "at most 300") for name in ("tan", "atan", "cosh", "exp")),
        (nested("sin", 98), "at most 300"),
        (nested("log(abs", 20).replace("a" + ")" * 20, "a" + ")" * 40), "inside of each other"),
        ("cos(" * 95 + "1" + ")" * 95, "at most 300"),
        ("**".join("a" * 95), "inside of each other"),
        ("a/(1+" * 13 + "a" + ")" * 13, "inside of each other"),
        ("+".join(f"sqrt({n})" for n in range(2, 62)), "at most 300"),
    ],
)
def test_formulas_that_would_take_long_are_refused(text, message):
    begin = time.process_time()
    with pytest.raises(DataError, match=message):
        formula_of(f"1,{text}")
    assert time.process_time() - begin < 1


@pytest.mark.parametrize(
    "text",
    [
        *(nested(name, 12) for name in ("asin", "acos", "tan", "atan", "cosh", "exp", "sin", "sqrt")),
        nested("log(abs", 6).replace(")" * 6, ")" * 12),
        "abs(" + "*".join(f"(log(a)+{'bcdefghij'[n % 9]}**{n + 1})" for n in range(16)) + ")",
        "abs((log(a)+b+c+d+e)**100*(sqrt(a)+b+c)**99)",
        "**".join("a" * 13),
        "a+" + "+".join(f"sqrt({n})" for n in range(2, 32)),
        "a+" + "cos(" * 12 + "1" + ")" * 12,
        "*".join(f"log(a+{n})" for n in range(1, 29)),
        "*".join(f"(a+{n})" for n in range(1, 43)),
        "*".join(f"({c}+{d})" for c in "abcdefg" for d in "hijklmn")[:293],
        "a/(b+" * 12 + "a" + ")" * 12,
        "a*(1+" * 29 + "a" + ")" * 29,
        "(" + "+".join(LETTERS) + ")**100",
    ],
)
def test_formulas_at_the_limits_take_no_time(text):
    begin, x = time.process_time(), uniform(4, 26) / 2 + 0.5
    formula = formula_of(f"26,{text}")
    for function in (formula, formula.derivative):
        with contextlib.suppress(DataError):  # no finite value, as of asin(asin(1))
            function(x)
    assert time.process_time() - begin < 5


@pytest.mark.parametrize(
    "text",
    [
        "a**b*2**a*E**(a*b)*(a+b)**(b/2)*(3*a)**2*(1/2)**-b",
        "sin(a)*cos(b)+tan(a*b)/acos(a)+asin(a*b)*atan(b-a)",
        "sinh(a)*cosh(b)-tanh(a/b)**3+exp(a-b)*log(a+b)*sqrt(a)",
        "abs(a-b)**3+abs(-a)/(1+a/(b+1/a))+pi*E**2*sqrt(2)-3**0.5",
        "a*(b+2)*2**100/(2**40*3**20)*a**0*b**1/2**60",
    ],
)
def test_every_function_and_its_derivative_is_that_of_the_standard_library(text):
    formula, x, step = Formula(text, 2), uniform(30, 2) / 4 + 0.5, 1e-5
    known = {name: getattr(math, name, abs) for name in FUNCTIONS} | {"pi": math.pi, "E": math.e}

    def naive(x: np.ndarray) -> np.ndarray:
        return np.array([eval(text, {}, {**known, "a": a, "b": b}) for a, b in x.tolist()])

    np.testing.assert_allclose(formula(x), naive(x), rtol=1e-13)
    for k, unit in enumerate(step * np.eye(2)):
        slope = (naive(x + unit) - naive(x - unit)) / (2 * step)
        np.testing.assert_allclose(formula.derivative(x)[:, k], slope, rtol=1e-7, atol=1e-8)


def test_powers_of_negative_constants_have_values_at_whole_exponents_alone():
    formula = Formula("(-2)**a", 1)
    assert formula([[3.0]]) == -8
    with pytest.raises(DataError, match=r"no finite value at a=0\.5"):
        formula([[0.5]])
    with pytest.raises(DataError, match="no finite derivative at a=3"):
        formula.derivative([[3.0]])


@pytest.mark.parametrize("x", [[1.0, 2.0], [[1.0]], np.zeros((2, 2, 2))])
def test_x_needs_a_column_for_each_letter(x):
    with pytest.raises(DataError, match=r"give \(samples, 2 or more\)"):
        Formula("a+b", 2)(x)


@pytest.mark.parametrize("count", [0, 27, 1.5, "2"])
def test_the_number_of_letters_is_checked(count):
    with pytest.raises(DataError, match="give a whole number from 1 to 26"):
        Formula("a", count)


def test_letters_without_use_are_named_and_kept(caplog):
    assert [formula.unused for formula in FORMULAS] == [""] * 12 + ["h"] + [""] * 2
    made = samples(FORMULAS[12], 20, 0, seed=0)
    assert "does not use h" in caplog.text
    assert (truths.integral(FORMULAS[12], made.x)[:, 7] == 0).all()


# --------------------------------------------------------------------------- files of formulas


def test_formulas_of_a_file(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text('count,formula\n2,a+b**2\n\n 1 , "sin(a)"\n', encoding="utf-8")
    assert read_formulas(path) == (Formula("a+b**2", 2), Formula("sin(a)", 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "let its first line be count,formula"),
        ("formula,count\na,1\n", "begins with 'formula,count'"),
        ("count,formula\n", "holds no formula"),
        ("count,formula\n1,a\ntwo,a+b\n", "formula 2: .*write the number of variables"),
        ("count,formula\n-1,a\n", "formula 1: .*write the number of variables"),
        ("count,formula\n0,a\n", "formula 1: .*give a whole number from 1"),
        ("count,formula\n1,a,b\n", "formula 1 has 3 columns"),
        ("count,formula\n1,a+b\n", "formula 1: .*uses 'b'"),
        ("count,formula\n1,9**9**9\n", "formula 1: .*exponent"),
    ],
)
def test_files_of_other_content_are_refused(tmp_path, text, message):
    path = tmp_path / "mine.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=f"mine.csv: .*{message}"):
        read_formulas(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_formulas(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="no text"):
        read_formulas(tmp_path / "bytes.csv")


@pytest.mark.parametrize("entry", [15, -1, "a+b", "x,a"])
def test_entries_that_are_no_formula(entry):
    with pytest.raises(DataError, match=r"give a number from 0 to 14|write the number of variables"):
        formula_of(entry)


# --------------------------------------------------------------------------- samples


def test_samples_are_cut_normal_numbers_with_noise_of_the_given_size():
    made = samples(FORMULAS[6], 20_000, 3, seed=1, label_noise=0.05)
    inside = np.abs(made.x) < 1
    assert made.x.dtype == np.float32
    assert np.abs(made.x).max() == 1
    assert (~inside).mean() == pytest.approx(2 * 0.5 * math.erfc(1 / 0.33 / math.sqrt(2)), abs=5e-4)
    cut = truncnorm(-1 / 0.33, 1 / 0.33, scale=0.33).std()
    assert made.x[inside].std() == pytest.approx(cut, abs=0.002)
    np.testing.assert_array_equal(made.clean, FORMULAS[6](made.x))
    assert (made.y - made.clean).std() == pytest.approx(0.05, rel=0.02)
    assert abs(np.corrcoef(made.x.T) - np.eye(5)).max() < 0.03
    assert (len(made.x[made.training]), len(made.x[made.test])) == (16_000, 4000)


def test_more_samples_and_more_noise_variables_keep_the_others():
    few, many = samples(FORMULAS[6], 10, 2, seed=4), samples(FORMULAS[6], 30, 9, seed=4)
    np.testing.assert_array_equal(few.x[:, :2], many.x[:10, :2])
    np.testing.assert_array_equal(few.y, many.y[:10])
    assert not np.array_equal(few.x[:, :2], samples(FORMULAS[6], 10, 2, seed=5).x[:, :2])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n": 2}, "training or test set empty"),
        ({"test_share": 1.0}, "training or test set empty"),
        ({"n_noise": -1}, "n_noise=-1: out of range"),
        ({"label_noise": -0.1}, "label_noise=-0.1: out of range"),
        ({"label_noise": math.inf}, "label_noise=inf: out of range"),
        ({"seed": -1}, "seed -1 is not usable"),
    ],
)
def test_samples_out_of_range(given, message):
    with pytest.raises(DataError, match=message):
        samples(FORMULAS[0], **{"n": 10, "n_noise": 1, "seed": 0, **given})


# --------------------------------------------------------------------------- scores


def naive_uniformity(a: np.ndarray, b: np.ndarray, relevant: list[int]) -> float:
    a, b = a / sum(map(abs, a)), b / sum(map(abs, b))
    return sum(1 - abs(a[k] - b[k]) / (abs(a[k]) + abs(b[k]) + 1e-7) for k in relevant) / len(relevant)


def test_uniformity_against_its_definition():
    a, b = uniform(30, 6), uniform(30, 6, seed=1)
    relevant = np.isin(np.arange(6), [0, 2, 5])
    naive = [naive_uniformity(*pair, [0, 2, 5]) for pair in zip(a, b, strict=True)]
    np.testing.assert_allclose(metrics.uniformity_score(a, b, relevant), naive, atol=1e-14)
    np.testing.assert_allclose(metrics.uniformity_score(7 * a, 0.1 * b, relevant), naive, atol=1e-14)


def test_uniformity_of_known_cases():
    relevant = [True, True, False]
    truth = np.array([0.5, -2.0, 0.0])
    assert metrics.uniformity_score(truth, truth, relevant) == 1
    assert metrics.uniformity_score(-truth, truth, relevant) == pytest.approx(0, abs=1e-6)
    assert metrics.uniformity_score(0 * truth, truth, relevant) == pytest.approx(0, abs=1e-6)
    assert metrics.uniformity_score(truth[::-1], truth, relevant) < 0.6
    assert np.isnan(metrics.uniformity_score([np.nan, 1.0, 1.0], truth, relevant))


def test_precision_against_sorting():
    a, relevant = uniform(40, 8), np.arange(8) < 3
    for k in (None, 1, 5, 8):
        count = k or 3
        largest = np.argsort(-np.abs(a), axis=1)[:, :count]
        np.testing.assert_allclose(
            metrics.functional_precision(a, relevant, k=k), (largest < 3).mean(axis=1), atol=1e-15
        )


def test_precision_counts_ties_as_their_average_over_orders():
    values, relevant = np.array([2.0, 1.0, 1.0, 1.0, 0.0]), np.array([0, 1, 0, 1, 1], bool)
    orders = [
        np.mean(relevant[[0, *chosen]]) for chosen in itertools.permutations([1, 2, 3], 2)
    ]  # of the three that tie two have a place
    assert metrics.functional_precision(values, relevant) == pytest.approx(np.mean(orders))


def test_scores_of_labelled_arrays():
    import xarray as xr

    a, b, relevant = uniform(6, 4), uniform(6, 4, seed=2), np.arange(4) < 2
    labelled = [xr.DataArray(v.T, dims=("variable", "sample")) for v in (a, b)]
    found = metrics.uniformity_score(*labelled, relevant, "variable")
    assert found.dims == ("sample",)
    np.testing.assert_allclose(found, metrics.uniformity_score(a, b, relevant))
    found = metrics.functional_precision(labelled[0], relevant, "variable", k=1)
    np.testing.assert_allclose(found, metrics.functional_precision(a, relevant, k=1))


@pytest.mark.parametrize(
    ("relevant", "options", "message"),
    [
        ([1, 0], {}, "give one bool for each variable"),
        ([True], {}, "give one bool for each variable"),
        ([False, False], {}, "all False"),
        ([True, False], {"k": 3}, "k=3: out of range"),
        ([True, False], {"k": 0}, "k=0: out of range"),
        ([True, False], {"dim": "variable"}, "plain arrays have no dimension names"),
    ],
)
def test_scores_refuse_what_does_not_fit(relevant, options, message):
    with pytest.raises(DataError, match=message):
        metrics.functional_precision([[1.0, 2.0]], relevant, **options)


def test_shapes_of_truth_and_prediction_are_checked():
    with pytest.raises(DataError, match="give both for the same variables"):
        metrics.uniformity_score([[1.0, 2.0]], [1.0, 2.0], [True, False])
    with pytest.raises(DataError, match="one truth for each prediction"):
        metrics.prediction_score([1.0, 2.0], [1.0])


def test_prediction_score_of_known_cases():
    found = metrics.prediction_score([3.0, 1.0, -1.0, 0.0], [1.0, 1.0, 1.0, 0.0])
    np.testing.assert_allclose(found, [0.5, 1, 0, 1], atol=1e-6)


def test_nothing_is_logged_for_formulas_that_use_all_letters(caplog):
    caplog.set_level(logging.WARNING)
    samples(FORMULAS[14], 10, 1, seed=0)
    truths.integral(FORMULAS[14], uniform(3, 10))
    assert caplog.text == ""
