"""A model file that holds code is refused, and nothing of it is run."""

import json
import pickle
import sys
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf
from model_files import (
    FORMATS,
    Doubling,
    L,
    X,
    edit_config,
    marking_lambda,
    rewrite_zip,
    save,
    small,
)

from xairt.errors import ModelError, UntrustedCodeError
from xairt.models import safety, support
from xairt.models.graph.convert import CONVERTERS
from xairt.models.loading import load_model


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", FORMATS)
def test_lambda_is_refused_and_not_run(tmp_path, kind, nested):
    marker = tmp_path / "was_run"
    trap = marking_lambda(marker)
    layers = [tf.keras.Sequential([L.Dense(6), trap], name="outer")] if nested else [trap]
    path = save(small(*layers), tmp_path, kind)
    marker.unlink()
    with pytest.raises(UntrustedCodeError, match=r"layer 'trap' .Lambda. holds Python code.*trust_code=True"):
        load_model(path)
    assert not marker.exists()
    trusted = load_model(path, trust_code=True)
    trusted(X)
    assert marker.exists(), "the trap works, so the refusal above is what kept it from running"


def test_plain_keras_runs_the_lambda_of_an_h5_file(tmp_path):
    marker = tmp_path / "was_run"
    path = save(small(marking_lambda(marker)), tmp_path, "h5")
    marker.unlink()
    tf.keras.models.load_model(path, compile=False)
    assert marker.exists()


def test_lambda_inside_a_wrapper(tmp_path):
    marker = tmp_path / "was_run"
    model = tf.keras.Sequential([L.Input((2, 6)), L.TimeDistributed(marking_lambda(marker))])
    path = save(model, tmp_path, "h5")
    marker.unlink()
    with pytest.raises(UntrustedCodeError, match=r"'trap' .Lambda."):
        load_model(path)
    assert not marker.exists()


@pytest.fixture
def evil_module(tmp_path, monkeypatch):
    """A module that leaves a file behind when it is imported."""
    marker = tmp_path / "was_imported"
    (tmp_path / "evil_layers.py").write_text(
        f"open({str(marker)!r}, 'w').close()\nimport tensorflow as tf\n"
        "class Doubling(tf.keras.Sequential):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield marker
    sys.modules.pop("evil_layers", None)


def _importing(entry, **changes):
    return {
        **entry,
        "class_name": "Doubling",
        "module": "evil_layers",
        "registered_name": "Doubling",
        **changes,
    }


def test_import_paths_are_refused_and_not_imported(tmp_path, evil_module):
    path = save(small(name="foreign"), tmp_path, "keras")
    with zipfile.ZipFile(path) as file:
        rewritten = _importing(json.loads(file.read("config.json")))
    rewrite_zip(path, config_json=rewritten)
    with pytest.raises(
        UntrustedCodeError, match=r"'foreign' .Doubling. is imported from the module 'evil_layers'"
    ):
        load_model(path)
    assert not evil_module.exists()
    tf.keras.models.load_model(path, compile=False)
    assert evil_module.exists(), "plain Keras imports it, even in its safe mode"


@pytest.mark.parametrize("registered", ["Doubling", "theirs>Doubling", None])
def test_custom_objects_replace_the_import(tmp_path, evil_module, registered):
    path = save(small(Doubling(name="foreign")), tmp_path, "keras")
    with zipfile.ZipFile(path) as file:
        config = json.loads(file.read("config.json"))
    layers = config["config"]["layers"]
    layers[1] = _importing(layers[1], registered_name=registered)
    rewrite_zip(path, config_json=config)
    loaded = load_model(path, custom_objects={"Doubling": Doubling})
    assert type(loaded.layers[0]) is Doubling
    assert not evil_module.exists()


def test_pickle_is_refused_unread(tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "was_run"), "w")

    for name in ("model.pkl", "model.dat"):
        (tmp_path / name).write_bytes(pickle.dumps(Trap()))
        with pytest.raises(UntrustedCodeError, match=r"pickle.*trust_code=True"):
            load_model(tmp_path / name)
    assert not (tmp_path / "was_run").exists()


def test_trusted_pickle_must_hold_a_model(tmp_path):
    (tmp_path / "numbers.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ModelError, match=r"holds a list, not a tf.keras.Model"):
        load_model(tmp_path / "numbers.pkl", trust_code=True)
    model = small()
    model.compile("adam", "mse")
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    loaded = load_model(tmp_path / "model.pkl", trust_code=True)
    np.testing.assert_array_equal(loaded(X), model(X))
    assert not loaded._is_compiled


class Writing(L.Layer):
    """A layer whose graph writes a file."""

    def call(self, x):
        with tf.control_dependencies([tf.io.write_file(b"/tmp/never", b"")]):
            return tf.identity(x)


def test_saved_model_with_a_file_operation(tmp_path, monkeypatch):
    path = save(small(Writing(name="writer")), tmp_path, "savedmodel")
    with pytest.raises(UntrustedCodeError, match=r"'writer' .Writing. is not of Keras"):
        load_model(path)
    with pytest.raises(UntrustedCodeError, match=r"WriteFile. is an operation that can reach files"):
        load_model(path, custom_objects={"Writing": Writing})


def test_hdf5_that_refers_to_other_files(tmp_path):
    path = save(small(), tmp_path, "h5")
    with h5py.File(path, "r+") as file:
        file["model_weights/elsewhere"] = h5py.ExternalLink("/etc/other.h5", "/data")
    with pytest.raises(ModelError, match=r"elsewhere' refers to another file"):
        load_model(path)


def layer(class_name, **config):
    return {"class_name": class_name, "config": {"name": "it", **config}}


CODE = {
    "operation layer": (
        layer("TFOpLambda", function="io.write_file"),
        "TFOpLambda. calls a TensorFlow function",
    ),
    "slicing layer": (layer("SlicingOpLambda"), "SlicingOpLambda. calls"),
    "old operation layer": (layer("TensorFlowOpLayer", node_def="x"), "TensorFlowOpLayer. calls"),
    "vocabulary file": (layer("StringLookup", vocabulary="/etc/passwd"), "StringLookup. can read files"),
    "activation by path": (
        layer("Dense", activation="os.system"),
        "os.system. is imported as the activation",
    ),
    "initializer by path": (layer("Dense", kernel_initializer="a.b"), "a.b. is imported as the kernel_init"),
    "regularizer by path": (
        layer("Dense", bias_regularizer="a:b"),
        "a:b. is imported as the bias_regularizer",
    ),
    "constraint by path": (
        layer("Dense", kernel_constraint="a.b"),
        "a.b. is imported as the kernel_constraint",
    ),
    "function of builtins": (
        layer("Dense", activation={"module": "builtins", "class_name": "function", "config": "eval"}),
        "eval. is a function that the file names",
    ),
    "function of a module": (
        layer("Dense", activation={"module": "os", "class_name": "function", "config": "system"}),
        "system. is imported from the module 'os'",
    ),
    "initializer class of a module": (
        layer("Dense", kernel_initializer={"module": "evil", "class_name": "Zeros", "config": {}}),
        "Zeros. is imported from the module 'evil'",
    ),
    "look-alike of keras": ({"module": "kerasx.layers", **layer("Dense")}, "module 'kerasx.layers'"),
    "inside of keras": ({"module": "keras.src.utils", **layer("func_load")}, "not known to be harmless"),
    "lambda value": (
        layer("Dense", activation={"class_name": "__lambda__", "config": {}}),
        "__lambda__. holds",
    ),
    "wrapped in a wrapper": (
        layer("Bidirectional", layer=layer("TimeDistributed", layer=layer("Lambda"))),
        "Lambda",
    ),
    "cell of an RNN": (
        layer("RNN", cell=layer("StackedRNNCells", cells=[layer("ResidualWrapper")])),
        "ResidualW",
    ),
    "argument of a call": (
        {**layer("Dense"), "inbound_nodes": [[["in", 0, 0, {"mask": layer("Lambda")}]]]},
        "Lambda. holds Python code",
    ),
}


@pytest.mark.parametrize("where", ["sequential", "nested"])
@pytest.mark.parametrize("case", CODE)
def test_screen_finds_code_everywhere(tmp_path, case, where):
    entry, match = CODE[case]

    def insert(config):
        inner = {"class_name": "Functional", "config": {"name": "inner", "layers": [entry]}}
        config["config"]["layers"].append(entry if where == "sequential" else inner)

    path = edit_config(save(small(), tmp_path, "h5"), insert)
    with pytest.raises(UntrustedCodeError, match=match):
        load_model(path)


def test_allow_list_names_classes_of_keras():
    from keras.src import activations
    from keras.src.layers import serialization

    serialization.populate_deserializable_objects()
    known = set(serialization.LOCAL.ALL_OBJECTS)
    assert set(safety.SAFE_LAYERS) <= known
    assert set(safety.UNSAFE_LAYERS) - {"__lambda__"} <= known
    assert not set(safety.SAFE_LAYERS) & set(safety.UNSAFE_LAYERS)
    assert all(hasattr(activations, name) or name in known for name in safety.ACTIVATION_NAMES)


def test_convertible_layers_are_those_of_the_canonical_graph():
    names = set(support.LAYERS) - set(support.MODEL_CLASSES)
    assert names - {"InputLayer", "BatchNormalizationV1", "BatchNormalizationV2"} == set(CONVERTERS)
