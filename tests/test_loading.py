"""Loading archived models: what loads, what cannot, and knowing where a model came from."""

import json
import random
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
    edit_attribute,
    edit_config,
    rewrite_zip,
    save,
    small,
)

from xairt.errors import DataError, ModelError, UntrustedCodeError
from xairt.models import loading
from xairt.models.loading import fingerprint, load_model, source_of


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    """A trained network with a nested model, normalisation and a wrapper, and its files by format."""
    inner = tf.keras.Sequential(
        [L.Dense(4, activation="relu", input_shape=(6,)), L.BatchNormalization()], name="inner"
    )
    x = inputs = L.Input((6,))
    x = L.Reshape((2, 2))(inner(x))
    wrapped = L.Flatten()(L.TimeDistributed(L.Dense(3))(x))
    joined = L.Concatenate()([wrapped, L.GlobalMaxPooling1D()(x)])
    model = tf.keras.Model(inputs, L.Dense(2, activation=tf.nn.tanh, kernel_regularizer="l2")(joined))
    model.compile("adam", "mse", metrics=["mae"])
    model.train_on_batch(X, X[:, :2])
    folder = tmp_path_factory.mktemp("rich")
    return model, {kind: save(model, folder, kind) for kind in FORMATS}


# ------------------------------------------------------------------------------------------ what loads


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_reproduces_the_model_and_stays_uncompiled(rich, kind):
    model, files = rich
    loaded = load_model(files[kind])
    assert isinstance(loaded, tf.keras.Model)
    np.testing.assert_allclose(loaded(X), model(X), atol=1e-6)
    assert not loaded._is_compiled
    assert loaded.optimizer is None


@pytest.mark.parametrize(("old", "new"), [("model.h5", "weights.dat"), ("model.keras", "archive.bin")])
def test_content_decides_and_not_the_suffix(tmp_path, old, new):
    model = small()
    model.save(tmp_path / old)
    (tmp_path / old).rename(tmp_path / new)
    np.testing.assert_array_equal(load_model(str(tmp_path / new))(X), model(X))


def _bare_list(config):
    return {"class_name": "Sequential", "config": config["config"]["layers"][1:]}


@pytest.mark.parametrize("as_bytes", [False, True])
def test_sequential_config_as_a_bare_list_without_input_layer(tmp_path, as_bytes):
    model = tf.keras.Sequential([L.Dense(3, activation="relu", input_shape=(6,)), L.Dense(2)])
    path = edit_config(save(model, tmp_path, "h5"), _bare_list)
    with h5py.File(path, "r+") as file:
        for key in ("model_config", "keras_version", "backend"):
            text = file.attrs[key]
            text = text.decode() if isinstance(text, bytes) else str(text)
            file.attrs[key] = np.bytes_(text) if as_bytes else text
        names = [
            name.decode() if isinstance(name, bytes) else name
            for name in file["model_weights"].attrs["layer_names"]
        ]
        file["model_weights"].attrs["layer_names"] = [n.encode() if as_bytes else n for n in names]
    np.testing.assert_array_equal(load_model(path)(X), model(X))


def test_unknown_metric_loss_and_old_optimizer_do_not_matter(tmp_path):
    training = {
        "optimizer_config": {"class_name": "SGD", "config": {"lr": 0.02}},
        "loss": "a_loss_of_mine",
        "metrics": [[{"class_name": "MaxCriticalSuccessIndex", "config": {"name": "max_csi"}}]],
    }
    model = small()
    path = edit_attribute(save(model, tmp_path, "h5"), training_config=json.dumps(training))
    np.testing.assert_array_equal(load_model(path)(X), model(X))


@pytest.mark.parametrize("kind", ["keras", "savedmodel"])
def test_custom_metric_is_not_needed(tmp_path, kind):
    class HitRate(tf.keras.metrics.MeanSquaredError):
        pass

    model = small()
    model.compile("adam", "mse", metrics=[HitRate()])
    model.train_on_batch(X, X[:, :2])
    np.testing.assert_allclose(load_model(save(model, tmp_path, kind))(X), model(X), atol=1e-6)


@pytest.mark.parametrize("kind", FORMATS)
def test_custom_objects_supply_a_layer_of_the_author(tmp_path, kind):
    model = small(Doubling())
    path = save(model, tmp_path, kind)
    loaded = load_model(path, custom_objects={"Doubling": Doubling})
    np.testing.assert_allclose(loaded(X), model(X), atol=1e-6)
    with pytest.raises(ModelError, match=r"'doubling.*' .Doubling. .*custom_objects"):
        load_model(path)


def test_a_class_registered_by_the_program_counts_as_supplied(tmp_path):
    model = small(Doubling())
    path = save(model, tmp_path, "h5")
    with tf.keras.saving.custom_object_scope({"Doubling": Doubling}):
        np.testing.assert_array_equal(load_model(path)(X), model(X))
    with pytest.raises(ModelError, match=r"pass custom_objects=\{'Doubling': \.\.\.\}"):
        load_model(path)


@pytest.mark.parametrize("kind", FORMATS)
def test_custom_activation_function(tmp_path, kind):
    def bump(x):
        return tf.exp(-x * x)

    model = small(L.Dense(3, activation=bump, name="hill"))
    path = save(model, tmp_path, kind)
    with pytest.raises(ModelError, match=r"layer 'hill' .bump. .*custom_objects"):
        load_model(path)
    np.testing.assert_allclose(load_model(path, custom_objects={"bump": bump})(X), model(X), atol=1e-6)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_golden_networks_reproduce_their_predictions(golden_dir, name):
    numbers = np.load(golden_dir / f"innvestigate109_{name}.npz")
    model = load_model(golden_dir / f"{name}_keras224.h5")
    np.testing.assert_allclose(model(numbers["x"]), numbers["prediction"], rtol=1e-5, atol=1e-5)


def test_archived_models_load_and_predict(data_dir):
    files = sorted((data_dir / "models").glob("*.h5"))
    loadable = [file for file in files if "weightsonly" not in file.name]
    assert len(loadable) >= 7
    for file in loadable:
        model = load_model(file)
        x = np.random.default_rng(1).normal(size=(2, *model.input_shape[1:])).astype(np.float32)
        assert np.isfinite(model(x).numpy()).all(), file.name


def test_archived_weights_only_file_is_refused(data_dir):
    (file,) = (data_dir / "models").glob("*weightsonly*")
    with pytest.raises(ModelError, match=r"weights only.*model\.load_weights"):
        load_model(file)


def test_registry_name_finds_the_archived_network(data_dir):
    model = load_model("mamalakis2022-sst")
    assert model.input_shape == (None, 458)
    assert source_of(model).sha256.startswith("7b8747ba1ca5")


# --------------------------------------------------------------------------------------- broken files


def _weights_file(folder):
    small().save_weights(folder / "w.h5")
    return folder / "w.h5"


def _checkpoint(folder):
    small().save_weights(folder / "ckpt" / "w")
    return folder / "ckpt" / "w"


def _written(folder, name, content):
    (folder / name).write_bytes(content)
    return folder / name


def _cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def _plain_saved_model(folder):
    module = tf.Module()
    module.v = tf.Variable(1.0)
    tf.saved_model.save(module, str(folder / "plain"))
    return folder / "plain"


def _broken_proto(folder):
    (folder / "sm").mkdir()
    return _written(folder / "sm", "saved_model.pb", b"\x0a\xff\xff").parent


def _data_hdf5(folder):
    with h5py.File(folder / "data.h5", "w") as file:
        file["sst"] = np.zeros(3)
    return folder / "data.h5"


def _zip_without_model(folder, member="a.txt"):
    with zipfile.ZipFile(folder / "a.keras", "w") as file:
        file.writestr(member, "x")
    return folder / "a.keras"


def _keras_3(folder, kind):
    path = save(small(), folder, kind)
    if kind == "h5":
        return edit_attribute(path, keras_version="3.4.1")
    return rewrite_zip(path, metadata_json={"keras_version": "3.4.1"})


BROKEN = {
    "missing": (lambda f: f / "none.h5", "none.h5: "),
    "empty": (lambda f: _written(f, "a.h5", b""), "the file is empty"),
    "not hdf5": (
        lambda f: _written(f, "a.h5", b"hello, world"),
        "neither HDF5, .keras, SavedModel nor pickle",
    ),
    "netcdf": (lambda f: _written(f, "a.nc", b"CDF\x01aaaaaaaaaaaaa"), "a netCDF data file, not a model"),
    "cut hdf5": (lambda f: _cut(save(small(), f, "h5")), "truncated or damaged"),
    "cut zip": (lambda f: _cut(save(small(), f, "keras")), "truncated or damaged"),
    "bad json": (
        lambda f: edit_attribute(save(small(), f, "h5"), model_config="{"),
        "model_config is not valid JSON",
    ),
    "no weights": (lambda f: edit_config(_without_weights(f), lambda c: None), "architecture but no weights"),
    "weights only": (_weights_file, r"weights only.*model\.load_weights"),
    "hdf5 data": (_data_hdf5, "holds no Keras model"),
    "zip": (_zip_without_model, "a zip archive that holds no Keras model"),
    "pytorch": (lambda f: _zip_without_model(f, "archive/data.pkl"), "a PyTorch file"),
    "keras 3 .keras": (lambda f: _keras_3(f, "keras"), r"written by Keras 3\.4\.1.*tf\.keras 2"),
    "keras 3 .h5": (lambda f: _keras_3(f, "h5"), r"written by Keras 3\.4\.1.*tf\.keras 2"),
    "checkpoint prefix": (_checkpoint, "a TensorFlow checkpoint"),
    "checkpoint file": (lambda f: _checkpoint(f).with_suffix(".index"), "part of a TensorFlow checkpoint"),
    "checkpoint folder": (lambda f: _checkpoint(f).parent, "a TensorFlow checkpoint"),
    "plain folder": (lambda f: f, "no saved_model.pb, so it is no SavedModel"),
    "no keras": (_plain_saved_model, "a SavedModel that is not a Keras model"),
    "broken proto": (_broken_proto, "truncated or damaged"),
}


def _without_weights(folder):
    path = save(small(), folder, "h5")
    with h5py.File(path, "r+") as file:
        del file["model_weights"]
    return path


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_refused_in_one_line(tmp_path, case):
    make, match = BROKEN[case]
    with pytest.raises(ModelError, match=match) as caught:
        load_model(make(tmp_path))
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, UntrustedCodeError)


def test_shape_mismatch_is_one_line_too(tmp_path):
    def widen(config):
        config["config"]["layers"][-1]["config"]["units"] = 3

    path = edit_config(save(small(), tmp_path, "h5"), widen)
    with pytest.raises(ModelError, match=r"Keras cannot rebuild the model") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def test_failed_download_stays_a_data_error():
    with pytest.raises(DataError, match=r"nowhere"):
        load_model("http://127.0.0.1:9/nowhere.h5")


# -------------------------------------------------------------------------------- state and provenance


@pytest.mark.parametrize("kind", FORMATS)
def test_global_state_is_left_alone(rich, kind):
    path = rich[1][kind]

    def numbers(load):
        tf.keras.utils.set_random_seed(3)
        if load:
            load_model(path)
        drawn = random.random(), float(np.random.rand()), float(tf.random.normal(()))  # noqa: NPY002
        model = tf.keras.Sequential([L.Dense(2, input_shape=(3,))])
        return np.array([*drawn, *model.get_weights()[0].ravel()])

    registered = dict(tf.keras.saving.get_custom_objects())
    np.testing.assert_array_equal(numbers(load=True), numbers(load=False))
    assert tf.keras.saving.get_custom_objects() == registered


@pytest.mark.parametrize("kind", FORMATS)
def test_fingerprint_is_the_hash_of_the_file_until_the_model_changes(rich, kind):
    path = rich[1][kind]
    model = load_model(path)
    source = source_of(model)
    assert source.path == path
    assert fingerprint(model) == source.sha256
    model(X)
    model.predict(X, verbose=0)
    assert fingerprint(model) == source.sha256
    weights = model.get_weights()
    changed = [w.copy() for w in weights]
    changed[-1].flat[0] += 1e-6
    model.set_weights(changed)
    assert fingerprint(model) != source.sha256
    model.set_weights(weights)
    assert fingerprint(model) == source.sha256
    model.layers[-1].activation = tf.keras.activations.linear
    assert fingerprint(model) != source.sha256


def test_fingerprint_of_a_model_without_file():
    model = small()
    twin = tf.keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    assert source_of(model) is None
    assert len(fingerprint(model)) == 64
    assert fingerprint(model) == fingerprint(twin) == fingerprint(model)
    twin.layers[0].bias.assign_add([1e-6, 0.0])
    assert fingerprint(model) != fingerprint(twin)


def test_provenance_does_not_keep_a_model_alive(tmp_path):
    import gc

    path = save(small(), tmp_path, "h5")
    before = len(loading._sources)
    model = load_model(path)
    assert len(loading._sources) == before + 1
    del model
    gc.collect()
    assert len(loading._sources) <= before


def test_hash_of_a_folder_does_not_depend_on_its_place(tmp_path):
    import shutil

    path = save(small(), tmp_path, "savedmodel")
    copy = shutil.copytree(path, tmp_path / "elsewhere")
    assert source_of(load_model(path)).sha256 == source_of(load_model(copy)).sha256
    (copy / "assets" / "note.txt").write_text("more")
    assert source_of(load_model(path)).sha256 != source_of(load_model(copy)).sha256
