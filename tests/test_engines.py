"""Engines "deeplift" and "shap": agreement with golden numbers and naive derivations, and what they refuse."""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path

import networks
import numpy as np
import pytest
import tensorflow as tf
from conftest import GOLDEN
from test_golden import model as golden_model

import xairt
from xairt.attribution.engines import PEERS
from xairt.attribution.legacy import client, orders
from xairt.errors import EngineError, MethodError, UnsupportedLayerError

L = tf.keras.layers
MODES = {"Rescale": "deeplift.rescale", "RevealCancel": "deeplift.reveal_cancel"}


def sequential(*layers) -> tf.keras.Model:
    return networks.randomised(tf.keras.Sequential(list(layers)))


def explained(model, method, x=None, **options) -> np.ndarray:
    x = networks.samples(model) if x is None else x
    engine = method.partition(".")[0]
    return xairt.attribute(model, x, method, engine=engine, **options).attribution.values


# --------------------------------------------------------------------------- DeepLIFT


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reference", ["zero", "reference"])
@pytest.mark.parametrize("network", ["mlp", "cnn", "mamalakis2022"])
def test_deeplift_equals_the_original_stack(network, reference, mode, request):
    if network == "mamalakis2022":
        request.getfixturevalue("data_dir")
    with np.load(GOLDEN / f"deeplift0613_{network}.npz") as archive:
        x, want = archive["x"], archive[f"{mode}|{reference}|target=0"]
        baseline = None if reference == "zero" else archive["reference"]
    got = explained(golden_model(network), MODES[mode], x, target=0, baseline=baseline)
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


@pytest.mark.parametrize("method", MODES.values())
def test_deeplift_averages_over_a_set_of_references(method):
    model = networks.mlp()
    references = networks.samples(model, 3, seed=5)
    single = [explained(model, method, baseline=r, target=[0, 1, 2, 1, 0]) for r in references]
    got = xairt.attribute(
        model,
        networks.samples(model),
        method,
        baseline=references,
        target=[0, 1, 2, 1, 0],
        engine="deeplift",
    )
    np.testing.assert_allclose(got.attribution, np.mean(single, axis=0), rtol=1e-5, atol=1e-7)
    assert np.abs(got.completeness_gap).max() < 1e-6


def functional_chain() -> tf.keras.Model:
    x = tf.keras.Input((9, 2))
    inner = tf.keras.Sequential([L.Conv1D(4, 3, strides=2, padding="same"), L.BatchNormalization()])
    h = L.Activation("tanh")(inner(x))
    h = L.Conv1D(3, 2)(L.AveragePooling1D(2, strides=1)(h))
    h = L.Dropout(0.3)(L.Activation("sigmoid")(h))
    return networks.randomised(tf.keras.Model(x, L.Dense(2, "softmax")(L.GlobalAveragePooling1D()(h))))


CHAINS = {
    "functional with a nested model": functional_chain,
    "2-D": lambda: sequential(
        L.InputLayer((7, 6, 2)),
        L.Conv2D(3, 3, strides=(2, 1), padding="same", activation="relu"),
        L.AveragePooling2D((2, 1), strides=1, padding="same"),
        L.Conv2D(4, 2, use_bias=False, activation="relu"),
        L.Flatten(),
        L.Dense(2),
    ),
}


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("method", MODES.values())
def test_deeplift_on_chains_sums_to_the_difference(chain, method):
    model = CHAINS[chain]()
    x = networks.samples(model)
    out = xairt.attribute(model, x, method, baseline=0.3, engine="deeplift")
    assert np.abs(out.attribution).max() > 1e-3
    assert np.abs(out.completeness_gap).max() < 1e-5 * np.abs(out.attribution).sum(axis=None)


def residual() -> tf.keras.Model:
    x = tf.keras.Input(4)
    h = L.Dense(4, "relu")(x)
    return tf.keras.Model(x, L.Dense(1)(L.Add(name="sum")([x, h])))


NO_CHAINS = {
    r"layer 'sum' \(Add\): engine 'deeplift' takes chains": residual,
    r"layer 'up' \(UpSampling1D\): engine 'deeplift' does not know this class": lambda: sequential(
        L.InputLayer((3, 1)), L.UpSampling1D(2, name="up"), L.Flatten(), L.Dense(1)
    ),
    r"layer 'softly' \(Activation\): .* has no rule for the activation gelu": lambda: sequential(
        L.InputLayer(3), L.Dense(2, "gelu", name="softly"), L.Dense(1)
    ),
    r"layer 'rows' \(Dense\): .* takes dense layers of vectors only": lambda: sequential(
        L.InputLayer((3, 2)), L.Dense(2, name="rows"), L.Flatten(), L.Dense(1)
    ),
    r"layer 'c' \(Conv1D\): .* has no dilated, grouped or causal": lambda: sequential(
        L.InputLayer((5, 2)), L.Conv1D(2, 2, dilation_rate=2, name="c"), L.Flatten(), L.Dense(1)
    ),
    r"layer 'end' \(Dense\): .* explains the outputs of a linear dense layer only": lambda: sequential(
        L.InputLayer(3), L.Dense(2, "relu", name="end")
    ),
}


@pytest.mark.parametrize("message", NO_CHAINS)
def test_deeplift_refuses_what_the_package_cannot_take(message):
    with pytest.raises(UnsupportedLayerError, match=message):
        xairt.explainer(NO_CHAINS[message](), "deeplift.rescale", engine="deeplift")


def test_deeplift_refuses_reveal_cancel_behind_max_pooling():
    model = sequential(
        L.InputLayer((6, 1)),
        L.Conv1D(2, 3),
        L.MaxPooling1D(2),
        L.Flatten(),
        L.Activation("relu", name="late"),
        L.Dense(1),
    )
    assert np.abs(explained(model, "deeplift.rescale")).max() > 0
    with pytest.raises(UnsupportedLayerError, match=r"'late' .* loses the contributions between max pooling"):
        xairt.explainer(model, "deeplift.reveal_cancel", engine="deeplift")


# --------------------------------------------------------------------------- SHAP


def rescale(model, x, baseline, target):
    """DeepLIFT's rescale rule of a network of three dense layers, in float64."""
    w1, b1, w2, b2, w3, _ = (w.astype(np.float64) for w in model.get_weights())
    act = model.layers[0].activation

    def forward(v):
        z = v.astype(np.float64) @ w1 + b1
        h = act(tf.constant(z)).numpy()
        y = h @ w2 + b2
        return z, h, y, act(tf.constant(y)).numpy()

    (z, h, y, g), (z0, h0, y0, g0) = forward(x), forward(baseline)
    multiplier = w3[:, target].T * (g - g0) / (y - y0)
    multiplier = (multiplier @ w2.T) * (h - h0) / (z - z0)
    return (multiplier @ w1.T) * (x - baseline)


@pytest.mark.parametrize("activation", orders.SHAP_DEEP_ACTIVATIONS)
def test_shap_deep_is_the_rescale_rule_averaged_over_the_background(activation):
    layers = [L.Dense(9, activation), L.Dense(6, activation), L.Dense(3)]
    model = sequential(L.InputLayer(7), *layers)
    # in float32: differences large against rounding, but no exponentials of large exponentials
    spread = np.float32(0.5 if activation == "exponential" else 2)
    x, background = spread * networks.samples(model, 3), spread * networks.samples(model, 4, seed=8)
    target = np.array([0, 2, 1])
    want = np.mean([rescale(model, x, np.tile(b, (3, 1)), target) for b in background], axis=0)
    got = explained(model, "shap.deep", x, baseline=background, target=target)
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([L.Conv1D(2, 2, activation="swish")], "the activation swish"),
        ([L.Conv1D(2, 2), L.LeakyReLU(name="leaky")], "'leaky': SHAP's .* for the activation leaky_relu"),
        ([L.Conv1D(2, 2), L.UpSampling1D(2)], "upsampling"),
        ([L.Conv1D(2, 2, dilation_rate=2)], "dilated convolutions"),
        ([L.Conv1D(2, 2), L.GlobalMaxPooling1D()], "global max pooling"),
        (
            [L.SeparableConv1D(2, 2, name="odd")],
            "'odd/depthwise': SHAP's .* for depthwise and separable conv",
        ),
        ([L.DepthwiseConv1D(2, name="odd")], "'odd': SHAP's .* for depthwise and separable convolutions"),
        ([L.Conv1DTranspose(2, 2)], "transposed convolutions"),
        ([L.Reshape((3, 2, 1, 1)), L.Conv3D(2, 1)], "convolutions and pooling over three axes"),
        (
            [L.Reshape((3, 2, 1, 1)), L.AveragePooling3D((2, 1, 1))],
            "convolutions and pooling over three axes",
        ),
        ([L.Reshape((3, 2, 1, 1)), L.MaxPooling3D((2, 1, 1))], "pooling over three axes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_shap_deep_refuses_what_the_package_gets_wrong(layers, reason):
    model = sequential(L.InputLayer((6, 1)), *layers, L.Flatten(), L.Dense(1))
    with pytest.raises(
        UnsupportedLayerError, match=rf"DeepExplainer has no right rule for.*{reason}|{reason}"
    ):
        xairt.explainer(model, "shap.deep", engine="shap")


def test_shap_error_leaves_nothing_behind(monkeypatch):
    model = sequential(L.InputLayer(4), L.Dense(3, "gelu"), L.Dense(1))
    want = explained(model, "shap.gradient(nsamples=20)")
    monkeypatch.setattr(orders, "SHAP_DEEP_ACTIVATIONS", ("gelu",))
    with pytest.raises(EngineError, match=r"engine 'shap' .* failed at 'analyze': .*no entry for: shap_Erf"):
        explained(model, "shap.deep")
    new = xairt.explainer(model, "shap.gradient(nsamples=20)", engine="shap")
    np.testing.assert_array_equal(new(networks.samples(model)).attribution, want)


def test_shap_gradient_is_exact_on_a_linear_model_and_one_reference():
    model = sequential(L.InputLayer((2, 3)), L.Flatten(), L.Dense(2))
    x, reference = networks.samples(model), np.full((2, 3), 0.7, np.float32)
    got = explained(model, "shap.gradient(nsamples=3)", x, baseline=reference, target=1)
    kernel = model.get_weights()[0][:, 1].reshape(2, 3)
    np.testing.assert_allclose(got, kernel * (x - reference), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["shap.gradient(nsamples=30)", "shap.kernel(nsamples=40)"])
def test_shap_noise_is_keyed_by_seed_and_sample(method):
    model = networks.mlp(n_inputs=9, n_outputs=1)
    x, background = networks.samples(model, 4), networks.samples(model, 3, seed=8)
    explain = xairt.explainer(model, method, baseline=background, engine="shap")
    whole = explain(x, seed=3).attribution.values
    np.testing.assert_array_equal(explain(x, seed=3).attribution, whole)
    np.testing.assert_array_equal(explain(x[2:], seed=3, sample_index=[2, 3]).attribution, whole[2:])
    assert not np.array_equal(explain(x, seed=4).attribution, whole)


def shapley(f, x, background):
    """Shapley values of one sample by their definition: the mean marginal over all coalitions."""
    n = len(x)
    value = {
        s: f(np.where(np.isin(np.arange(n), s), x, background)).mean(axis=0)
        for k in range(n + 1)
        for s in itertools.combinations(range(n), k)
    }
    phi = np.zeros(n)
    for i in range(n):
        for s in value:
            if i not in s:
                weight = math.factorial(len(s)) * math.factorial(n - len(s) - 1) / math.factorial(n)
                phi[i] += weight * (value[tuple(sorted((*s, i)))] - value[s])
    return phi


def test_shap_kernel_with_all_coalitions_is_the_shapley_value():
    model = sequential(L.InputLayer((1, 4)), L.Conv1D(5, 1, activation="gelu"), L.Flatten(), L.Dense(2))
    x, background = networks.samples(model, 2), networks.samples(model, 3, seed=8)
    f = lambda rows: model(rows.reshape(-1, 1, 4)).numpy()[:, 1]  # noqa: E731
    want = [shapley(f, sample.ravel(), background.reshape(3, 4)) for sample in x]
    out = xairt.attribute(model, x, "shap.kernel", baseline=background, target=1, engine="shap")
    np.testing.assert_allclose(out.attribution.values.reshape(2, 4), want, atol=1e-5)
    assert np.abs(out.completeness_gap).max() < 1e-6


def test_shap_kernel_refuses_groups():
    with pytest.raises(MethodError, match="engine 'shap' takes every input by itself: leave groups out"):
        xairt.explainer(networks.mlp(), "shap.kernel", engine="shap", groups=np.arange(7))


# --------------------------------------------------------------------------- workers


def wrapper(folder: Path, without: str) -> str:
    """Return an interpreter that lacks a package."""
    script = folder / "python"
    script.write_text(
        f'#!/bin/sh\nshift\nexec "{sys.executable}" -I -c "import runpy, sys\n'
        f"sys.modules['{without}'] = None\nsys.argv = sys.argv[1:]\n"
        'runpy.run_path(sys.argv[0], run_name=\'__main__\')" "$@"\n'
    )
    script.chmod(0o755)
    return str(script)


@pytest.mark.parametrize(
    ("engine", "method", "module", "package"),
    [("shap", "shap.deep", "tensorflow", "tensorflow"), ("deeplift", "deeplift.rescale", "yaml", "pyyaml")],
)
def test_missing_package_is_named_with_the_way_to_install_it(
    engine, method, module, package, tmp_path, monkeypatch
):
    python = wrapper(tmp_path, without=module)
    monkeypatch.setenv(client.PYTHON_VARIABLE, python)
    message = rf"engine '{engine}' cannot start in {python} .*'?{module}.*: install '{package}' there, or set"
    with pytest.raises(EngineError, match=message) as error:
        explained(networks.mlp(), method)
    assert "\n" not in str(error.value)
    assert client.shared_worker(engine, python).process is None


def test_python_takes_precedence_over_the_variable(tmp_path, monkeypatch):
    explain = xairt.explainer(networks.mlp(), "deeplift.rescale", engine="deeplift")
    monkeypatch.setenv(client.PYTHON_VARIABLE, sys.executable)
    make = PEERS["deeplift"].make
    made = make(explain._engine.setting, explain.call, 4, python=str(tmp_path / "none"))
    with pytest.raises(EngineError, match=r"interpreter '.*/none' cannot be started"):
        made(np.zeros((4, 7), np.float32), np.zeros(4, np.int32), np.zeros((4, 2), np.int32))


def test_every_engine_has_a_worker_of_its_own():
    model = networks.mlp()
    explained(model, "deeplift.rescale")
    explained(model, "shap.deep")
    first, second = client.shared_worker("deeplift"), client.shared_worker("shap")
    assert first.process.pid != second.process.pid
    assert first.ask("versions")[0]["deeplift"] == "0.6.13.0"
    assert second.ask("versions")[0]["shap"]


def test_interrupted_start_is_started_anew_and_temporary_files_end_with_the_worker(monkeypatch):
    running = client.Worker("deeplift", sys.executable)

    def interrupted(stream):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(client.worker, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            running.start()
    assert running.process is None
    assert running.ask("versions")[0]["deeplift"]
    folder = Path(running.folder.name)
    assert folder.is_dir()
    running.process.kill()
    with pytest.raises(EngineError, match=r"engine 'deeplift' died at 'versions' \(killed by signal 9\)"):
        running._exchange("versions", ())
    assert not folder.exists()
    assert running.process is None
