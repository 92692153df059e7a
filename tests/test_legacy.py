"""The worker processes, and engine "innvestigate": isolation, crashes, and their end with the program."""

from __future__ import annotations

import gc
import io
import os
import signal
import subprocess
import sys
import time

import networks
import numpy as np
import pytest
import tensorflow as tf

import xairt
from xairt.attribution.legacy import client, worker
from xairt.errors import EngineError, MethodError, UnsupportedLayerError

L = tf.keras.layers


@pytest.fixture(scope="module")
def model() -> tf.keras.Model:
    return networks.mlp()


def with_worker(model, method, x=None, **options):
    return xairt.attribute(
        model, networks.samples(model) if x is None else x, method, engine="innvestigate", **options
    ).attribution.values


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] != "Z"


def test_frames_round_trip():
    stream = io.BytesIO()
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array(3), np.zeros((0, 4))]
    worker.send(stream, {"request": "analyze", "key": "α"}, arrays)
    stream.seek(0)
    header, received = worker.receive(stream)
    assert header == {"request": "analyze", "key": "α"}
    for sent, got in zip(arrays, received, strict=True):
        np.testing.assert_array_equal(sent, got)
        assert sent.dtype == got.dtype
    assert worker.receive(stream) is None


def test_objects_are_never_pickled():
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        worker.send(io.BytesIO(), {}, [np.array([{}])])


def test_this_process_stays_eager_and_models_stay_usable(model):
    trained = networks.mlp(n_outputs=1)
    trained.compile("sgd", "mse")
    x = networks.samples(trained)
    before = trained.predict(x, verbose=0)
    with_worker(model, "lrp.z")
    assert tf.executing_eagerly()
    np.testing.assert_array_equal(trained.predict(x, verbose=0), before)
    history = trained.fit(x, np.ones((len(x), 1)), epochs=2, verbose=0)
    assert history.history["loss"][1] < history.history["loss"][0]


@pytest.mark.parametrize("method", ["integrated_gradients", "smoothgrad(augment_by_n=8, noise_scale=0.1)"])
def test_no_sample_is_left_out(model, method):
    # with one index for all samples the package returns zeros after the first
    for target in (None, 1, [0, 1, 2, 0, 1]):
        got = with_worker(model, method, target=target)
        assert (np.abs(got).sum(axis=1) > 0).all()


def test_smoothgrad_is_repeatable_and_seeded(model):
    method = "smoothgrad(augment_by_n=4)"
    first = with_worker(model, method, seed=1)
    np.testing.assert_array_equal(first, with_worker(model, method, seed=1))
    assert not np.array_equal(first, with_worker(model, method, seed=2))


def test_controls_of_the_package(model):
    x = networks.samples(model)
    np.testing.assert_array_equal(with_worker(model, "input"), x)
    noise = with_worker(model, "random", seed=1)
    assert noise.shape == x.shape
    assert 0.5 < noise.std() < 1.5
    np.testing.assert_array_equal(noise, with_worker(model, "random", seed=1))
    assert not np.array_equal(noise, with_worker(model, "random", seed=2))


def test_more_samples_than_a_block(model):
    x = networks.samples(model, 21)
    whole = with_worker(model, "lrp.z", x, batch_size=8)
    np.testing.assert_allclose(whole, xairt.attribute(model, x, "lrp.z").attribution, rtol=1e-4, atol=1e-6)


def test_baseline_is_passed_on(model):
    x = networks.samples(model)
    got = with_worker(model, "integrated_gradients(steps=16)", baseline=0.5)
    want = xairt.attribute(
        model, x, "integrated_gradients(steps=16)", baseline=0.5, convention="innvestigate"
    ).attribution.values
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


NETWORKS = {
    "branched, final softmax": networks.branched,
    "1-D convolutions": networks.cnn_1d,
    "batch norm": lambda: networks.randomised(
        tf.keras.Sequential(
            [
                L.InputLayer((6, 6, 2)),
                L.Conv2D(3, 3),
                L.BatchNormalization(),
                L.ReLU(),
                L.Flatten(),
                L.Dense(2, "sigmoid"),
            ]
        )
    ),
    "nested": lambda: networks.randomised(
        tf.keras.Sequential(
            [L.InputLayer(5), tf.keras.Sequential([L.Dense(4, "relu"), L.Dropout(0.5)]), L.Dense(2)]
        )
    ),
}


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("method", ["gradient", "input_t_gradient"])
def test_other_networks_are_handed_over(kind, method):
    made = NETWORKS[kind]()
    want = xairt.attribute(made, networks.samples(made), method).attribution.values
    np.testing.assert_allclose(with_worker(made, method), want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["lrp.flat", "lrp.w_square", "lrp.alpha_2_beta_1"])
def test_causal_convolutions_agree_at_the_border(method):
    made = networks.cnn_1d()
    want = xairt.attribute(made, networks.samples(made), method, convention="innvestigate").attribution.values
    np.testing.assert_allclose(with_worker(made, method), want, rtol=1e-4, atol=1e-6)


def test_callable_target_is_refused(model):
    with pytest.raises(EngineError, match="explains one output by its index: give target=INDEX"):
        xairt.explainer(model, "lrp.z", engine="innvestigate", target=lambda y: y[:, 2] - y[:, 1])


def test_repeated_inputs_are_refused():
    x = tf.keras.Input(3)
    made = tf.keras.Model(x, L.Dense(1)(L.Add()([x, x])))
    with pytest.raises(UnsupportedLayerError, match="reads one tensor twice"):
        xairt.explainer(made, "gradient", engine="innvestigate")


def test_analyzers_of_dropped_explainers_are_forgotten(model):
    explain = xairt.explainer(model, "gradient", engine="innvestigate")
    explain(networks.samples(model))
    key = explain._engine._key
    del explain
    gc.collect()
    dropped = client.shared_worker("innvestigate").dropped
    assert key in dropped
    with_worker(model, "gradient")
    assert key not in dropped


def test_killed_worker_gives_one_error_and_the_next_call_works(model):
    want = with_worker(model, "lrp.flat")
    running = client.shared_worker("innvestigate")
    running.process.kill()
    running.process.wait()
    generation = running.generation
    np.testing.assert_array_equal(
        with_worker(model, "lrp.flat"), want
    )  # noticed before asking: started again
    assert running.generation == generation + 1


def test_an_interrupted_request_is_not_answered_by_the_next(model, monkeypatch):
    x = networks.samples(model)
    explain = {m: xairt.explainer(model, m, engine="innvestigate") for m in ("lrp.flat", "lrp.w_square")}
    want = {m: e(x).attribution.values for m, e in explain.items()}

    def interrupted(stream):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(worker, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            explain["lrp.flat"](x)
    np.testing.assert_array_equal(explain["lrp.w_square"](x).attribution.values, want["lrp.w_square"])


def test_worker_killed_while_computing(model):
    want = with_worker(model, "lrp.flat")
    running = client.shared_worker("innvestigate")
    os.kill(running.process.pid, signal.SIGSTOP)
    explain = xairt.explainer(model, "lrp.w_square", engine="innvestigate")
    pid = running.process.pid
    killer = subprocess.Popen([sys.executable, "-c", f"import os, time; time.sleep(1); os.kill({pid}, 9)"])
    with pytest.raises(EngineError, match=r"worker of engine 'innvestigate' died at .*signal 9.*call again"):
        explain(networks.samples(model))
    killer.wait()
    assert np.abs(explain(networks.samples(model)).attribution).max() > 0
    np.testing.assert_array_equal(with_worker(model, "lrp.flat"), want)


def test_error_of_the_package_is_one_line(model):
    running = client.shared_worker("innvestigate")
    layers = [
        {"class": "Input", "config": {"shape": [3]}, "inputs": [], "n_weights": 0},
        {"class": "Flatten", "config": {}, "inputs": [0], "n_weights": 0},
    ]
    request = {"key": "k", "layers": layers, "name": "nonsense", "parameters": {}, "seed": 0}
    with pytest.raises(
        EngineError, match=r"failed at 'build': KeyError: .*with the name 'nonsense'"
    ) as error:
        running.ask("build", [np.zeros((1, 3))], **request)
    assert "\n" not in str(error.value)
    assert running.ask("versions")[0]["innvestigate"]


@pytest.mark.parametrize("how", ["end", "kill"])
def test_no_worker_outlives_the_program(how):
    program = f"""
import os, signal, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
import networks, xairt
from xairt.attribution.legacy import client
model = networks.mlp()
xairt.attribute(model, networks.samples(model), "lrp.z", engine="innvestigate")
running = client.shared_worker("innvestigate")
print(running.folder.name, running.process.pid, flush=True)
if {how!r} == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=180)
    *_, folder, pid = done.stdout.split()
    deadline = time.time() + 15
    while (alive(int(pid)) or os.path.exists(folder)) and time.time() < deadline:
        time.sleep(0.2)
    assert not alive(int(pid))
    assert not os.path.exists(folder)


def test_missing_interpreter(monkeypatch, model):
    monkeypatch.setenv(client.PYTHON_VARIABLE, "/nowhere/python")
    with pytest.raises(EngineError, match=r"'/nowhere/python' cannot be started .* set XAIRT_LEGACY_PYTHON"):
        with_worker(model, "lrp.flat")


def test_interpreter_without_the_package(monkeypatch, model, tmp_path):
    # an interpreter that sees no site-packages at all
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    monkeypatch.setenv(client.PYTHON_VARIABLE, str(bare))
    with pytest.raises(
        EngineError, match=r"died at 'start' .*No module named .*to a Python with tensorflow and innvestigate"
    ):
        with_worker(model, "lrp.flat")
    client.shared_worker("innvestigate", str(bare)).stop()


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("lrp.z", {"bias": "ignore"}, "iNNvestigate has no z rule without bias"),
        ("lrp.epsilon", {"epsilon": 0}, "iNNvestigate needs epsilon > 0"),
        ("lrp.sequential_preset_a", {"bias": "ignore"}, "presets keep the bias"),
        ("lrp.sequential_preset_a_flat", {"input_layer_rule": "WSquare"}, "have their own input rule"),
        ("occlusion", {}, "occlusion has no engine 'innvestigate'"),
    ],
)
def test_what_the_package_lacks_is_refused(model, method, options, message):
    with pytest.raises(MethodError, match=message):
        xairt.explainer(model, method, engine="innvestigate", **options)


def test_baseline_of_many_values_is_refused(model):
    with pytest.raises(EngineError, match="takes one number as baseline"):
        xairt.explainer(model, "integrated_gradients", engine="innvestigate", baseline=np.arange(7.0))


def test_layers_that_cannot_be_handed_over():
    made = tf.keras.Sequential(
        [L.InputLayer((4, 4, 1)), L.GlobalMaxPooling2D(keepdims=True), L.Flatten(), L.Dense(1)]
    )
    with pytest.raises(UnsupportedLayerError, match=r"GlobalMax\) cannot be handed to engine 'innvestigate'"):
        xairt.explainer(made, "gradient", engine="innvestigate")


def test_log_names_the_bias_convention(model):
    out = xairt.attribute(model, networks.samples(model), "lrp.alpha_2_beta_1", engine="innvestigate")
    assert '"engine": "innvestigate"' in out.attrs["identities"]
    assert '"bias": "innvestigate"' in out.attrs["identities"]
    assert np.isnan(out.completeness_gap).all()
