"""The model card and the table of what can be explained."""

import io
import json
import subprocess
import sys
import zipfile
from fnmatch import fnmatchcase
from importlib.util import find_spec

import h5py
import networks
import numpy as np
import pytest
import tensorflow as tf

import xairt
from xairt.attribution.deeplift import require_rules
from xairt.attribution.legacy import export
from xairt.attribution.registry import METHODS
from xairt.errors import ModelError, UnsupportedLayerError, XairtError
from xairt.models.card import inspect_model
from xairt.models.graph import convert
from xairt.models.loading import load_model
from xairt.models.support import (
    ACTIVATIONS,
    FAMILIES,
    conversion_obstacle,
    obstacles,
    walk_layers,
)

L = tf.keras.layers


def layered(name="net"):
    inner = tf.keras.Sequential([L.Dense(5, input_shape=(8,)), L.BatchNormalization()], name="inner")
    inputs = L.Input((6, 5, 2), name="field")
    x = L.Conv2D(3, (3, 2), padding="same", dilation_rate=(1, 2), activation="relu", name="conv")(inputs)
    x = L.Conv2D(3, 1, strides=2, use_bias=False, name="point")(x)
    x = inner(L.Dense(8)(L.Flatten()(L.MaxPooling2D((2, 1))(x))))
    model = tf.keras.Model(inputs, L.Dense(4, activation="softmax", name="classes")(x), name=name)
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    model.train_on_batch(np.zeros((2, 6, 5, 2)), np.eye(4)[:2])
    return model


@pytest.fixture(scope="module")
def archived(tmp_path_factory):
    """One model and its files by format."""
    folder, model = tmp_path_factory.mktemp("card"), layered()
    files = {"HDF5": folder / "m.h5", "Keras zip (.keras)": folder / "m.keras", "SavedModel": folder / "m"}
    for path in files.values():
        model.save(path)
    return model, files


@pytest.mark.parametrize("kind", ["HDF5", "Keras zip (.keras)", "SavedModel"])
def test_card_agrees_with_the_model(archived, kind):
    model, files = archived
    card = inspect_model(files[kind])
    assert card.format == kind
    assert card.written_by.startswith("TensorFlow 2.14" if kind == "SavedModel" else "Keras 2.14")
    assert (card.model_class, card.name) == ("Functional", "net")
    assert card.input_shapes == ((6, 5, 2),)
    assert (card.outputs, card.last_activation) == (("classes",), "softmax")
    assert card.parameters == model.count_params()
    rows = {row.name: row for row in card.layers}
    assert [name for name in rows if "/" not in name] == [layer.name for layer in model.layers]
    for layer in model.layers:
        assert rows[layer.name].parameters == layer.count_params()
        shapes = sorted(tuple(w.shape) for w in layer.weights)
        assert sorted(rows[layer.name].weights) == shapes
    for layer in model.get_layer("inner").layers:
        assert rows[f"inner/{layer.name}"].parameters == layer.count_params()
    assert card.loads
    assert card.executes_code == ()
    assert card.training["optimizer"].lower() == "adam"
    assert "categorical_crossentropy" in card.training["loss"]
    assert "accuracy" in card.training["metrics"]


def test_details_in_words(archived):
    details = {row.name: row.detail for row in inspect_model(archived[1]["HDF5"]).layers}
    assert details["field"] == "input shape 6x5x2"
    assert details["conv"] == "3 filters 3x2 strides 1 dilation 1x2 same"
    assert details["point"] == "3 filters 1x1 strides 2x2 valid"
    assert details["classes"] == "4 units"
    assert details["inner"] == "3 layers"


def test_details_of_convolutions_in_words(tmp_path):
    model = chain(
        L.DepthwiseConv2D(3, strides=2, depth_multiplier=2, name="depthwise"),
        L.Conv2DTranspose(4, 2, strides=2, padding="same", output_padding=1, name="transposed"),
        L.PReLU(shared_axes=[1, 2], name="slopes"),
        shape=CONV,
    )
    details = {row.name: row.detail for row in stored(model, tmp_path, "h5").layers}
    assert details["depthwise"] == "3x3 strides 2x2 depth multiplier 2 valid"
    assert details["transposed"] == "4 filters 2x2 strides 2x2 same output padding 1x1"
    assert details["slopes"] == "shared axes 1x2"


@pytest.mark.parametrize("suffix", ["h5", "keras"])
@pytest.mark.parametrize("make", [networks.volume, networks.separable, networks.decoder, networks.averaged])
def test_networks_of_all_layers_are_read_and_load(make, suffix, tmp_path):
    model = make()
    card = stored(model, tmp_path, suffix)
    assert card.parameters == model.count_params()
    assert card.families["lrp"].applies
    x = networks.samples(model)
    np.testing.assert_array_equal(load_model(tmp_path / f"m.{suffix}")(x), model(x))


def test_card_as_text_dictionary_and_tables(archived):
    from rich.console import Console

    card = inspect_model(archived[1]["HDF5"])
    stored = json.loads(json.dumps(card.to_dict()))
    assert stored["parameters"] == card.parameters
    assert stored["families"]["lrp"]["applies"] is True
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(card.render())
    for text in (str(card), console.export_text()):
        for word in (
            card.sha256,
            "Keras 2.14",
            "6 x 5 x 2",
            "classes (softmax)",
            "inner/",
            "MaxPooling2D",
            *FAMILIES,
        ):
            assert word in text
        assert "yes: final softmax explained at its logit" in text


def test_cards_of_archived_models(data_dir):
    cards = {path.name: inspect_model(path) for path in (data_dir / "models").glob("*.h5")}
    assert len(cards) >= 8
    for name, card in cards.items():
        assert f"Keras {name.partition('keras')[2][:5]}" in card.written_by
        assert card.loads == ("weightsonly" not in name)
        assert card.parameters > 0
    sst = inspect_model("mamalakis2022-sst")
    assert sst.parameters == 410_112
    assert sst.training == {
        "optimizer": "SGD",
        "loss": "mean_squared_error",
        "metrics": "mean_absolute_error",
    }
    assert sst.families["lrp"].applies


def test_inspecting_does_not_import_tensorflow(archived):
    files = [str(archived[1][kind]) for kind in ("HDF5", "Keras zip (.keras)")]
    code = (
        "import sys; from xairt.models.card import inspect_model\n"
        f"for f in {files}: assert inspect_model(f).parameters\n"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ------------------------------------------------------------------------------- files that do not load


@pytest.mark.parametrize("suffix", ["h5", "keras", "savedmodel"])
def test_card_of_a_file_with_code_runs_nothing(tmp_path, suffix):
    marker = tmp_path / "was_run"
    trap = L.Lambda(eval(f"lambda x: (open({str(marker)!r}, 'w').close(), x)[1]"), name="trap")
    model = tf.keras.Sequential([L.Input((3,)), trap, L.Dense(2, name="out")])
    path = tmp_path / ("m" if suffix == "savedmodel" else f"m.{suffix}")
    model.save(path)
    marker.unlink()
    card = inspect_model(path)
    assert not marker.exists()
    assert card.executes_code == ("layer 'trap' (Lambda) holds Python code",)
    assert not card.loads
    assert "trust_code=True" in card.refusal
    assert card.parameters == 8
    assert card.families["gradient"].applies
    assert card.families["lrp"].reason == "layer 'trap' (Lambda): Lambda is not convertible yet"


def test_card_of_weights_only(tmp_path):
    model = tf.keras.Sequential([L.Dense(4, input_shape=(3,), name="a"), L.Dense(2, name="b")])
    for name in ("w.h5", "v.weights.h5"):
        model.save_weights(tmp_path / name)
        card = inspect_model(tmp_path / name)
        assert card.parameters == 26
        assert [row.parameters for row in card.layers] == [16, 10]
        assert "weights only" in card.refusal
        assert not any(verdict.applies for verdict in card.families.values())


@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_card_of_keras_3(tmp_path, suffix):
    path = tmp_path / f"m.{suffix}"
    tf.keras.Sequential([L.Dense(2, input_shape=(3,))]).save(path)
    if suffix == "h5":
        with h5py.File(path, "r+") as file:
            file.attrs["keras_version"] = "3.1.0"
    else:
        with zipfile.ZipFile(path) as old:
            content = {name: old.read(name) for name in old.namelist()}
        with zipfile.ZipFile(path, "w") as new:
            for name, value in {**content, "metadata.json": b'{"keras_version": "3.1.0"}'}.items():
                new.writestr(name, value)
    card = inspect_model(path)
    assert card.written_by.startswith("Keras 3.1.0")
    assert card.refusal.startswith("written by Keras 3.1.0, which TensorFlow 2.14 cannot read")
    assert len(card.layers) == 2
    assert "loads         no: written by Keras 3.1.0" in str(card)


def test_card_of_an_unknown_layer(tmp_path):
    class Blur(L.Layer):
        def call(self, x):
            return x

    tf.keras.Sequential([L.Input((3,)), Blur(name="soft"), L.Dense(1)]).save(tmp_path / "m.h5")
    card = inspect_model(tmp_path / "m.h5")
    assert card.executes_code == ()
    assert "layer 'soft' (Blur)" in card.refusal
    assert "custom_objects={'Blur': ...}" in card.refusal


def test_card_of_a_model_of_its_own_class(tmp_path):
    class Net(tf.keras.Model):
        def __init__(self):
            super().__init__()
            self.out = L.Dense(3)

        def call(self, x):
            return self.out(x)

    model = Net()
    model(np.zeros((1, 4), np.float32))
    model.save(tmp_path / "net")
    card = inspect_model(tmp_path / "net")
    assert card.parameters == 15
    assert "stores no layers to convert" in card.families["lrp"].reason
    assert any("(Net) is not of Keras" in reason for reason in card.executes_code)


def test_card_of_a_pickle_reads_nothing_of_it(tmp_path):
    (tmp_path / "m.pkl").write_bytes(b"\x80\x04broken")
    card = inspect_model(tmp_path / "m.pkl")
    assert card.format == "pickle"
    assert not card.loads
    assert "trust_code=True" in card.refusal


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, r"m\.h5: neither a file nor a known name|m\.h5: no such file"),
        (b"", r"m\.h5: the file is empty"),
        (b"plain text", r"m\.h5: neither HDF5, \.keras, SavedModel nor pickle"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), r"m\.h5: the file is truncated or damaged"),
        (b"PK\x03\x04" + bytes(40), r"m\.h5: the file is truncated or damaged"),
    ],
)
def test_no_card_for_files_that_cannot_be_read(tmp_path, content, match):
    if content is not None:
        (tmp_path / "m.h5").write_bytes(content)
    with pytest.raises(ModelError, match=match):
        inspect_model(tmp_path / "m.h5")


# ------------------------------------------------------------------------------------- what can explain


def chain(*layers, shape=(6,)):
    return tf.keras.Sequential([L.Input(shape), *layers])


def two_inputs():
    a, b = L.Input((3,)), L.Input((3,))
    return tf.keras.Model([a, b], L.Dense(1)(L.Add()([a, b])))


def averaged():
    a = L.Input((3,))
    return tf.keras.Model(a, L.Average()([L.Dense(2)(a), L.Dense(2)(a)]))


def two_outputs():
    a = L.Input((3,))
    return tf.keras.Model(a, [L.Dense(1)(a), L.Dense(2, activation="softmax")(a)])


def softmax_fed_on():
    a = L.Input((3,))
    first = L.Dense(2, activation="softmax", name="first")(a)
    return tf.keras.Model(a, [first, L.Dense(1)(first)])


CONV = (8, 8, 2)
CASES = {
    "dense": (lambda: chain(L.Dense(3, activation="relu"), L.Dense(1)), None, None),
    "final softmax": (lambda: chain(L.Dense(3, activation="softmax")), None, None),
    "final softmax layer": (lambda: chain(L.Dense(3), L.Softmax()), None, None),
    "final activation layer": (lambda: chain(L.Dense(1), L.Activation("sigmoid")), None, None),
    "final softmax, then dropout": (
        lambda: chain(L.Dense(3, activation="softmax"), L.Dropout(0.1)),
        None,
        None,
    ),
    "final softmax of a nested model": (lambda: chain(chain(L.Dense(3, activation="softmax"))), None, None),
    "inner softmax": (lambda: chain(L.Dense(3, activation="softmax"), L.Dense(1)), "'softmax' inside", None),
    "inner sigmoid layer": (lambda: chain(L.Activation("sigmoid"), L.Dense(1)), "'sigmoid' inside", None),
    "softmax fed on": (softmax_fed_on, "'first' (Dense): activation 'softmax' inside", "2 outputs"),
    "two softmax": (lambda: chain(L.Dense(3, activation="softmax"), L.Softmax()), "'softmax' inside", None),
    "tanh": (lambda: chain(L.Dense(3, activation="tanh"), L.Dense(1)), "activation 'tanh'; LRP passes", None),
    "final tanh": (lambda: chain(L.Dense(3, activation="tanh")), "activation 'tanh'; LRP passes", None),
    "mish": (lambda: chain(L.Dense(3, activation="mish")), "activation 'mish'; LRP passes", None),
    "capped relu": (lambda: chain(L.ReLU(max_value=6.0)), "ReLU with max_value=6.0", None),
    "leaky relu": (lambda: chain(L.LeakyReLU(), L.Dense(1)), "activation 'leaky_relu'", None),
    "elu": (lambda: chain(L.ELU(), L.Dense(1)), "activation 'elu'", None),
    "pooling": (lambda: chain(L.Conv2D(2, 3), L.MaxPooling2D(), L.Flatten(), shape=CONV), None, None),
    "nearest": (lambda: chain(L.UpSampling2D(2), shape=CONV), None, None),
    "bilinear": (
        lambda: chain(L.UpSampling2D(2, interpolation="bilinear"), shape=CONV),
        "'bilinear'",
        "'bilinear'",
    ),
    "three axes": (
        lambda: chain(L.Conv3D(2, 2), L.MaxPooling3D(), L.Conv3DTranspose(2, 2), shape=(4, 4, 4, 1)),
        None,
        None,
    ),
    "groups": (lambda: chain(L.Conv2D(2, 3, groups=2), shape=CONV), None, "a convolution in groups"),
    "depthwise": (lambda: chain(L.DepthwiseConv2D(3), shape=CONV), None, "a depthwise convolution"),
    "separable": (lambda: chain(L.SeparableConv2D(2, 3), shape=CONV), None, "a depthwise convolution"),
    "transposed": (
        lambda: chain(L.Conv2DTranspose(2, 3, output_padding=1, strides=2), shape=CONV),
        None,
        None,
    ),
    "average": (averaged, None, "an average, which"),
    "kept axes": (lambda: chain(L.GlobalMaxPooling2D(keepdims=True), shape=CONV), None, "keepdims=True"),
    "prelu": (lambda: chain(L.PReLU()), "activation 'prelu'", None),
    "thresholded relu": (lambda: chain(L.ThresholdedReLU()), "activation 'thresholded_relu'", None),
    "function of TensorFlow": (
        lambda: chain(L.Dense(3, activation="leaky_relu")),
        "activation 'leaky_relu'",
        "'leaky_relu' is no function of Keras",
    ),
    "repeated": (lambda: chain(L.RepeatVector(3), L.Conv1D(2, 2)), None, None),
    "recurrent": (lambda: chain(L.SimpleRNN(2), shape=(4, 2)), "SimpleRNN is not", "SimpleRNN is not"),
    "nested": (
        lambda: chain(chain(L.LayerNormalization(name="norm"))),
        "/norm' (LayerNormal",
        "/norm' (LayerNormal",
    ),
    "several inputs": (two_inputs, None, "2 inputs"),
    "several outputs": (two_outputs, None, "2 outputs"),
}


def stored(model, folder, suffix):
    path = folder / f"m.{suffix}"
    model.save(path)
    return inspect_model(path)


@pytest.mark.parametrize("suffix", ["h5", "keras"])
@pytest.mark.parametrize("case", CASES)
def test_families_name_the_layer_in_the_way(tmp_path, case, suffix):
    make, lrp, engine = CASES[case]
    families = stored(make(), tmp_path, suffix).families
    assert set(families) == set(FAMILIES)
    for family, reason in {"lrp": lrp, "engine innvestigate": engine}.items():
        assert families[family].applies == (reason is None)
        assert (reason or "") in families[family].reason
    assert families["gradient"].applies
    assert families["perturbation"].applies


def stored_config(model):
    return {"class_name": type(model).__name__, "config": model.get_config()}


@pytest.mark.parametrize("case", [name for name in CASES if "several" not in name])
def test_convertible_says_the_same_as_the_conversion(case):
    model = CASES[case][0]()
    layers = walk_layers(stored_config(model))
    if any(conversion_obstacle(entry, name) for name, entry in layers):
        with pytest.raises(UnsupportedLayerError, match=r"layer '"):
            convert(model)
    else:
        assert convert(model).nodes


@pytest.mark.parametrize("case", [name for name in CASES if "several inputs" not in name])
def test_engine_says_the_same_as_the_description(case):
    model = CASES[case][0]()
    if obstacles(stored_config(model))["engine innvestigate"]:
        with pytest.raises(UnsupportedLayerError, match=r"layer '|one output"):
            described(model)
    else:
        assert described(model)


def described(model):
    graph = convert(model)
    export.refuse_for_innvestigate(graph)
    return export.describe(graph)[0]


@pytest.mark.parametrize("name", [*ACTIVATIONS, "mish", "relu6"])
def test_engine_takes_the_activations_that_can_be_described(name):
    model = chain(L.Dense(3, activation=name), L.Dense(1))
    stored = json.loads(json.dumps(stored_config(model), default=str))
    stored["config"]["layers"][1]["config"]["activation"] = name
    if obstacles(stored)["engine innvestigate"]:
        with pytest.raises(UnsupportedLayerError, match=r"layer 'dense\S*' \(Activation\) cannot be handed"):
            described(model)
    else:
        assert described(model)


@pytest.mark.parametrize("case", [name for name in CASES if "several" not in name])
def test_deeplift_says_the_same_as_the_method(case):
    model = CASES[case][0]()
    if obstacles(stored_config(model))["deeplift"]:
        with pytest.raises(UnsupportedLayerError, match=r"layer '"):
            require_rules(convert(model))
    else:
        require_rules(convert(model))


def of_family(family):
    """Return the methods of a family, by the registry."""
    return [name for name in METHODS if any(fnmatchcase(name, pattern) for pattern in FAMILIES[family])]


def test_every_method_has_one_family():
    found = [name for family in FAMILIES for name in of_family(family)]
    assert sorted(found) == sorted(METHODS)


VERDICTS = {
    "recurrent": lambda: chain(L.Conv2D(2, 3), L.Reshape((36, 2)), L.SimpleRNN(2), L.Dense(2), shape=CONV),
    "tanh": lambda: chain(L.Conv2D(2, 3, activation="tanh"), L.Flatten(), L.Dense(2), shape=CONV),
    "inner softmax": lambda: chain(L.Conv2D(2, 3, activation="softmax"), L.Flatten(), L.Dense(2), shape=CONV),
    "plain": lambda: chain(L.Conv2D(2, 3, activation="relu"), L.Flatten(), L.Dense(2), shape=CONV),
    "no convolution": lambda: chain(L.Flatten(), L.Dense(2), shape=CONV),
}
NEEDED = {"lrp.composite": {"default": "z"}}


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "engine innvestigate"])
@pytest.mark.parametrize("case", VERDICTS)
def test_families_are_right_about_their_methods(case, family, tmp_path):
    model = VERDICTS[case]()
    verdict = stored(model, tmp_path, "keras").families[family]
    for method in of_family(family):
        engine = METHODS[method].engines[0]
        if engine == "innvestigate" or (engine == "lime" and find_spec("lime") is None):
            continue
        if verdict.applies:
            xairt.explainer(model, method, target=1, **NEEDED.get(method, {}))
        else:
            with pytest.raises(XairtError, match=r"layer '|no 2-D convolution"):
                xairt.explainer(model, method, target=1, **NEEDED.get(method, {}))


def test_integer_inputs_have_no_gradient(tmp_path):
    card = stored(chain(L.Embedding(5, 2), L.Flatten(), L.Dense(1)), tmp_path, "h5")
    assert card.families["gradient"].reason.startswith("layer 'embedding")
    assert card.families["perturbation"].applies
