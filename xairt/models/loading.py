"""Loading archived Keras models safely, and knowing afterwards where a model came from.

Every file is screened as data before anything of it reaches Keras; see `xairt.models.safety`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorflow as tf

from xairt.errors import ModelError, UntrustedCodeError, reason_of
from xairt.models.archive import CONFIG_MEMBER, Archive, locate, read_archive, screen
from xairt.models.safety import Finding, code_refusal, mappings, match_custom_objects, unknown_refusal
from xairt.models.seeding import global_state_kept

CustomObjects = Mapping[str, Any]


@dataclass(frozen=True)
class ModelSource:
    """Where a loaded model came from.

    Attributes
    ----------
    path : Path
        The file or SavedModel folder.
    sha256 : str
        Hash of the file; of a folder, over its sorted relative names and contents.
    weights_digest : str
        Digest of the weights and of the layers' settings right after loading.
    """

    path: Path
    sha256: str
    weights_digest: str


_sources: weakref.WeakKeyDictionary[tf.keras.Model, ModelSource] = weakref.WeakKeyDictionary()
_fingerprints: weakref.WeakKeyDictionary[tf.keras.Model, tuple[str, str]] = weakref.WeakKeyDictionary()


def load_model(
    source: str | os.PathLike[str], *, trust_code: bool = False, custom_objects: CustomObjects | None = None
) -> tf.keras.Model:
    """Load a Keras model from a file, never compiled.

    Parameters
    ----------
    source : str or path
        Path, registered name (``"mamalakis2022-sst"``) or http(s) URL of an HDF5 file (Keras 2.0 to 2.15),
        a ``.keras`` file, a SavedModel folder or a pickle. The content decides, not the suffix.
    trust_code : bool
        Load a file even if that can execute code of its author (Lambda layers, classes imported from
        modules, TensorFlow operations named in the file, pickles).
    custom_objects : mapping, optional
        Classes and functions that the model uses and Keras does not have, by name.

    Returns
    -------
    tf.keras.Model
        Uncompiled. Global state (random state, registered objects) is left as it was.

    Raises
    ------
    UntrustedCodeError
        If the file could execute code and `trust_code` is False; nothing of it was executed.
    ModelError
        If the file is missing, damaged, no Keras model, written by Keras 3, holds weights only, or uses a
        class that neither Keras nor `custom_objects` has.
    DataError
        If a download fails.
    """
    archive = read_archive(locate(source))
    if archive.refusal:
        raise ModelError(f"{archive.path}: {archive.refusal}")
    known = match_custom_objects(archive.screened, {**_registered(archive), **(custom_objects or {})})
    _refuse(archive, screen(archive, known), trust_code)
    with global_state_kept():
        model = _build(archive, known, trust_code)
    _sources[model] = ModelSource(archive.path.absolute(), archive.sha256, _state_digest(model))
    return model


def source_of(model: tf.keras.Model) -> ModelSource | None:
    """Return where `load_model` got a model from, None for a model made otherwise."""
    return _sources.get(model)


def fingerprint(model: tf.keras.Model) -> str:
    """Return a SHA-256 that identifies a model with its weights.

    Parameters
    ----------
    model : tf.keras.Model

    Returns
    -------
    str
        64 hexadecimal digits: the hash of the file, as long as weights and layers are what was loaded;
        else a hash over the configuration and the weights. A change is found by a CRC-32 of each weight
        array (about 2 ms for 400,000 parameters), so this may be called at every attribution.
    """
    digest = _state_digest(model)
    source = _sources.get(model)
    if source is not None and source.weights_digest == digest:
        return source.sha256
    known = _fingerprints.get(model)
    if known is None or known[0] != digest:
        known = _fingerprints[model] = (digest, _content_hash(model))
    return known[1]


# ------------------------------------------------------------------------------------------- refusing


def _registered(archive: Archive) -> dict[str, Any]:
    """Return the classes of the file that the running program has registered with Keras."""
    names = {
        item.get(key) for item in mappings(archive.screened) for key in ("class_name", "registered_name")
    }
    found = {name: tf.keras.saving.get_registered_object(name) for name in names if isinstance(name, str)}
    return {name: item for name, item in found.items() if item is not None}


def _refuse(archive: Archive, findings: tuple[Finding, ...], trust_code: bool) -> None:
    code, unknown = code_refusal(findings), unknown_refusal(findings)
    if code and not trust_code:
        raise UntrustedCodeError(f"{archive.path}: {code}")
    if unknown:
        raise ModelError(f"{archive.path}: {unknown}")


# ------------------------------------------------------------------------------------------- building


def _build(archive: Archive, custom_objects: CustomObjects, trust_code: bool) -> tf.keras.Model:
    builders: dict[str, Callable[[Archive, CustomObjects, bool], Any]] = {
        "hdf5": _build_hdf5,
        "keras": _build_keras,
        "savedmodel": _build_saved_model,
        "pickle": _build_pickle,
    }
    try:
        model = builders[archive.format](archive, custom_objects, trust_code)
    except Exception as error:  # Keras raises many kinds, with messages of many lines
        raise ModelError(
            f"{archive.path}: Keras cannot rebuild the model ({reason_of(error)}); pass custom_objects "
            "if it has classes of its own, else save it again with tf.keras"
        ) from error
    if not isinstance(model, tf.keras.Model):
        raise ModelError(
            f"{archive.path}: holds a {type(model).__name__}, not a tf.keras.Model; save the model"
        )
    return model


def _build_hdf5(archive: Archive, custom_objects: CustomObjects, _trust_code: bool) -> tf.keras.Model:
    """Load a copy in memory that holds the screened configuration: Keras sees exactly what was screened."""
    with h5py.File(io.BytesIO(archive.path.read_bytes()), "r+") as file:
        file.attrs["model_config"] = json.dumps(_with_custom_names(archive.model, custom_objects))
        return tf.keras.models.load_model(file, custom_objects=dict(custom_objects), compile=False)


def _build_keras(archive: Archive, custom_objects: CustomObjects, trust_code: bool) -> tf.keras.Model:
    """Load a copy that holds the screened configuration."""
    config = _with_custom_names(archive.model, custom_objects)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "model.keras"
        with zipfile.ZipFile(archive.path) as old, zipfile.ZipFile(copy, "w") as new:
            for name in old.namelist():
                new.writestr(name, json.dumps(config) if name == CONFIG_MEMBER else old.read(name))
        return tf.keras.models.load_model(
            copy, custom_objects=dict(custom_objects), compile=False, safe_mode=not trust_code
        )


def _with_custom_names(value: Any, custom_objects: CustomObjects) -> Any:
    """Copy a configuration so that the caller's classes are found by name and never imported."""
    if isinstance(value, list):
        return [_with_custom_names(item, custom_objects) for item in value]
    if not isinstance(value, Mapping):
        return value
    if value.get("class_name") == "function" and value.get("config") in custom_objects:
        return value["config"]
    copy = {key: _with_custom_names(item, custom_objects) for key, item in value.items()}
    names = [copy.get("registered_name"), copy.get("class_name")]
    ours = [name for name in names if isinstance(name, str) and name in custom_objects]
    return copy | {"module": None, "registered_name": ours[0]} if ours and "module" in copy else copy


def _build_saved_model(archive: Archive, custom_objects: CustomObjects, _trust_code: bool) -> tf.keras.Model:
    model = tf.keras.models.load_model(archive.path, custom_objects=dict(custom_objects), compile=False)
    if isinstance(model, tf.keras.Model):
        model.optimizer = None  # TensorFlow restores one with the variables, even for compile=False
    return model


def _build_pickle(archive: Archive, custom_objects: CustomObjects, _trust_code: bool) -> Any:
    with tf.keras.saving.custom_object_scope(dict(custom_objects)):
        model = pickle.loads(archive.path.read_bytes())
    if isinstance(model, tf.keras.Model) and getattr(model, "optimizer", None) is not None:
        weights = model.get_weights()
        model = type(model).from_config(model.get_config())
        model.set_weights(weights)
    return model


# ----------------------------------------------------------------------------------------- provenance


def _layers(model: tf.keras.Model) -> Iterator[tf.keras.layers.Layer]:
    """Yield the layers of a model, those of nested models and of wrappers included."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, tf.keras.Model):
            yield from _layers(layer)
        else:
            yield from (part for part in vars(layer).values() if isinstance(part, tf.keras.layers.Layer))


def _settings(layer: tf.keras.layers.Layer) -> str:
    """Return the plain public settings of a layer (units, strides, rate, activation, ...) as text."""
    plain = {
        key: getattr(value, "__qualname__", value)
        for key, value in vars(layer).items()
        if isinstance(value, int | float | str | tuple | np.ndarray | np.generic)
        or key.endswith("activation")
        if not key.startswith("_") and key != "built"
    }
    return f"{type(layer).__qualname__} {layer.name} {plain}"


def _state_digest(model: tf.keras.Model) -> str:
    """Return a quick digest that changes with any weight and any plain setting of a layer."""
    stored = model.weights if model.built else ()
    weights = [zlib.crc32(np.ascontiguousarray(weight.numpy())) for weight in stored]
    settings = "\n".join(map(_settings, _layers(model)))
    return f"{weights} {zlib.crc32(settings.encode())}"


def _content_hash(model: tf.keras.Model) -> str:
    try:
        config = json.dumps(model.get_config(), sort_keys=True, default=_json_name)
    except (NotImplementedError, TypeError):  # a model of its own class, or a function Keras cannot name
        config = "\n".join(map(_settings, _layers(model)))
    digest = hashlib.sha256(f"{type(model).__qualname__} {config}".encode())
    for weight in model.weights if model.built else ():
        value = np.ascontiguousarray(weight.numpy())
        digest.update(f"{value.shape} {value.dtype}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _json_name(value: Any) -> Any:
    """Return what stands for a value that JSON does not have, the same in every process."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return getattr(value, "__qualname__", type(value).__qualname__)
