"""Reading model files as data: what they hold, without building a model or running anything of them.

HDF5 and ``.keras`` files are read without TensorFlow; a SavedModel needs its protocol buffers.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py

from xairt.data import registry
from xairt.errors import DataError, ModelError
from xairt.models.safety import Finding, Operation, screen_config, screen_operations
from xairt.models.support import MODEL_CLASSES, entry_name, layer_entries

Shape = tuple[int, ...]

CONFIG_MEMBER, METADATA_MEMBER, WEIGHTS_MEMBER = "config.json", "metadata.json", "model.weights.h5"

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# What h5py raises, depending on which bytes are wrong.
_UNREADABLE = (OSError, RuntimeError, KeyError, TypeError, AttributeError, SystemError, UnicodeError)
_PICKLE_SUFFIXES = (".pkl", ".pickle", ".joblib")
DAMAGED = "the file is truncated or damaged; copy or download it again"
"""What is said of a file that cannot be read to its end."""

_KERAS_3 = (
    "written by Keras {}, which TensorFlow 2.14 cannot read; rebuild the network with tf.keras 2 "
    "and save it again"
)
_REVIVED = "is not of Keras and would run from the stored graph, unless custom_objects has it"
_WEIGHTS_ONLY = (
    "weights only, the file holds no architecture; rebuild the network in tf.keras, "
    "call model.load_weights on this file and pass the model"
)


@dataclass(frozen=True)
class Archive:
    """The content of a model file, read as data.

    Attributes
    ----------
    path : Path
        The file or SavedModel folder.
    format : str
        ``"hdf5"``, ``"keras"``, ``"savedmodel"`` or ``"pickle"``.
    size : int
        Bytes.
    sha256 : str
        Hash of the file; of a folder, over the sorted relative names and contents.
    writer : str
        What wrote the file, ``"Keras 2.2.4 (tensorflow backend)"``.
    model : mapping or None
        Stored configuration of the model, ``{"class_name": ..., "config": ...}``.
    training : mapping or None
        Stored training configuration (optimizer, loss, metrics); never given to Keras.
    weights : mapping
        Shapes of the stored weights by layer name; of a nested model under its own name, and under
        ``outer/inner`` as far as the file tells them apart.
    parameters : int
        Number of stored weights, optimizer and metric state excluded.
    screened : tuple
        Every stored configuration that loading would interpret, for the screen.
    operations : tuple of Operation
        Operations of a SavedModel's graph.
    refusal : str
        Why no model can be loaded from the file whoever wrote it, with the remedy; empty if it can.
    """

    path: Path
    format: str
    size: int
    sha256: str
    writer: str = "unknown"
    model: Mapping[str, Any] | None = None
    training: Mapping[str, Any] | None = None
    weights: Mapping[str, tuple[Shape, ...]] = field(default_factory=dict)
    parameters: int = 0
    screened: tuple[Any, ...] = ()
    operations: tuple[Operation, ...] = ()
    refusal: str = ""


def locate(source: str | os.PathLike[str]) -> Path:
    """Return the local file or folder of a path, registered name or URL.

    Raises
    ------
    ModelError
        If it is none of the three.
    DataError
        If a download fails.
    """
    if Path(f"{os.fspath(source)}.index").is_file():
        raise ModelError(f"{source}: a TensorFlow checkpoint: {_WEIGHTS_ONLY}")
    try:
        return Path(registry.resolve(source))
    except DataError as error:
        known = os.fspath(source) in {entry.name for entry in registry.entries()}
        if known or "://" in os.fspath(source):
            raise
        raise ModelError(str(error)) from error


def read_archive(path: str | Path) -> Archive:
    """Read a model file without building the model.

    Parameters
    ----------
    path : str or Path
        HDF5 file, ``.keras`` file, pickle or SavedModel folder. The content decides, not the suffix.

    Returns
    -------
    Archive

    Raises
    ------
    ModelError
        If the file is missing, empty, truncated, damaged, or no model file at all.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file or folder; check the path")
    identity = {"path": path, "size": path.stat().st_size, "sha256": _file_hash(path)}
    if not identity["size"]:
        raise ModelError(f"{path}: the file is empty; copy or download it again")
    with path.open("rb") as handle:
        head = handle.read(16)
    if h5py.is_hdf5(path) or head.startswith(_HDF5_SIGNATURE):
        return Archive(format="hdf5", **identity, **_read_hdf5(path))
    if head.startswith(b"PK"):
        return Archive(format="keras", **identity, **_read_zip(path))
    if path.suffix.lower() in _PICKLE_SUFFIXES or re.match(rb"\x80[\x02-\x05]", head):
        return Archive(format="pickle", **identity)
    raise ModelError(f"{path}: {_unknown_reason(path, head)}")


def _unknown_reason(path: Path, head: bytes) -> str:
    if path.suffix == ".index" or ".data-0" in path.name:
        return f"part of a TensorFlow checkpoint: {_WEIGHTS_ONLY}"
    if path.name in ("saved_model.pb", "keras_metadata.pb"):
        return f"part of a SavedModel; pass the folder {path.parent}"
    if head.startswith((b"CDF\x01", b"CDF\x02", b"CDF\x05")):
        return "a netCDF data file, not a model; pass a Keras .h5 or .keras file or a SavedModel folder"
    return (
        "neither HDF5, .keras, SavedModel nor pickle; pass a Keras .h5 or .keras file or a SavedModel folder"
    )


def screen(archive: Archive, known: Collection[str] = ()) -> tuple[Finding, ...]:
    """List what in a model file is not known to be harmless.

    Parameters
    ----------
    archive : Archive
    known : collection of str
        Names of the classes and functions that the caller supplies.
    """
    if archive.format == "pickle":
        return (Finding("model", "pickle", "is a program of its own and is not read", True),)
    found = screen_config(archive.screened, known)
    if archive.format == "savedmodel":
        found = tuple(f if f.runs_code else replace(f, runs_code=True, reason=_REVIVED) for f in found)
        from xairt.models.savedmodel import is_stateful  # TensorFlow, needed for this format alone

        found += screen_operations(archive.operations, is_stateful)
    return found


def _writer(version: str, backend: str = "") -> str:
    return f"Keras {version or 'of unknown version'}" + (f" ({backend} backend)" if backend else "")


def _file_hash(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _folder_identity(path: Path) -> dict[str, Any]:
    files = sorted(file for file in path.rglob("*") if file.is_file())
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(path).as_posix()}\0{_file_hash(file)}\n".encode())
    return {"path": path, "size": sum(file.stat().st_size for file in files), "sha256": digest.hexdigest()}


def _decode(path: Path, text: Any, what: str) -> dict[str, Any]:
    """Return the JSON object stored as bytes or str, or raise ModelError."""
    try:
        value = json.loads(text)
    except (ValueError, TypeError) as error:
        raise ModelError(f"{path}: {what} is not valid JSON ({error}); the file is damaged") from error
    if not isinstance(value, dict):
        raise ModelError(
            f"{path}: {what} is a JSON {type(value).__name__}, not an object; the file is damaged"
        )
    return value


# ----------------------------------------------------------------------------------------------- HDF5


def _text(value: Any) -> str:
    """Return an HDF5 string attribute, which Keras wrote as bytes or str depending on its age."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _read_hdf5(path: Path) -> dict[str, Any]:
    try:
        with h5py.File(path, "r") as file:
            _refuse_outside_links(path, file)
            return _hdf5_content(path, file)
    except _UNREADABLE as error:
        raise ModelError(f"{path}: {DAMAGED}") from error


def _refuse_outside_links(path: Path, file: h5py.File) -> None:
    """Raise ModelError if the file takes data from other files of this computer."""

    def outside(name: str, link: Any) -> str | None:
        return name if isinstance(link, h5py.ExternalLink) else None

    def external(name: str, item: Any) -> str | None:
        return name if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual) else None

    name = file.visititems_links(outside) or file.visititems(external)
    if name:
        raise ModelError(f"{path}: {name!r} refers to another file; save the model with its weights inside")


def _hdf5_content(path: Path, file: h5py.File) -> dict[str, Any]:
    attributes = file.attrs
    stored = attributes.get("model_config")
    group = file.get("model_weights", file)
    version = _text(attributes.get("keras_version", group.attrs.get("keras_version", "")))
    content = {"writer": _writer(version, _text(attributes.get("backend", "")))}
    if stored is None:
        weights = _hdf5_weights(group, None) or _saver_groups(file)
        if not weights:
            raise ModelError(
                f"{path}: an HDF5 file that holds no Keras model (netCDF data?); pass a model file"
            )
        return {**content, "weights": weights, "parameters": _count(weights), "refusal": _WEIGHTS_ONLY}
    model = _decode(path, stored, "model_config")
    training = attributes.get("training_config")
    weights = _hdf5_weights(group, model)
    content |= {"model": model, "screened": (model,), "weights": weights, "parameters": _count(weights)}
    if training is not None:
        content["training"] = _decode(path, training, "training_config")
    if version.startswith("3"):
        content["refusal"] = _KERAS_3.format(version)
    elif "model_weights" not in file:
        content["refusal"] = "holds an architecture but no weights; save the whole model with model.save"
    return content


def _count(weights: Mapping[str, tuple[Shape, ...]]) -> int:
    """Return the number of weights of the outermost layers."""
    return sum(math.prod(shape) for name, shapes in weights.items() if "/" not in name for shape in shapes)


def _hdf5_weights(group: h5py.Group, model: Mapping[str, Any] | None) -> dict[str, tuple[Shape, ...]]:
    names = [_text(name) for name in group.attrs.get("layer_names", ())]
    nested = {entry_name(entry): entry for entry in layer_entries(model or {})}
    found: dict[str, tuple[Shape, ...]] = {}
    for name in names:
        shapes = {_text(w): group[name][_text(w)].shape for w in group[name].attrs.get("weight_names", ())}
        found[name] = tuple(shapes.values())
        if nested.get(name, {}).get("class_name") in MODEL_CLASSES:
            found |= _shapes_by_component(name, nested[name], shapes)
    return found


def _shapes_by_component(
    prefix: str, model: Mapping[str, Any], shapes: Mapping[str, Shape]
) -> dict[str, tuple[Shape, ...]]:
    """Assign the weights of a nested model to its layers by the layer name within the weight name."""
    found = {}
    for entry in layer_entries(model):
        inner = {key: value for key, value in shapes.items() if entry_name(entry) in key.split("/")}
        name = f"{prefix}/{entry_name(entry)}"
        found[name] = tuple(inner.values())
        if entry.get("class_name") in MODEL_CLASSES:
            found |= _shapes_by_component(name, entry, inner)
    return found


def _saver_groups(group: h5py.Group) -> dict[str, tuple[Shape, ...]]:
    """Return the weights below the layer groups of a ``.weights.h5`` file, by group name."""
    layers = _layer_group(group)
    return {name: _shapes_below(item) for name, item in layers.items()} if layers is not None else {}


def _layer_group(group: h5py.Group) -> h5py.Group | None:
    for key in ("_layer_checkpoint_dependencies", "layers"):
        if isinstance(group.get(key), h5py.Group):
            return group[key]
    return None


def _shapes_below(group: h5py.Group) -> tuple[Shape, ...]:
    """Return the shapes of all weights below a group, without optimizer and metric state."""
    shapes: list[Shape] = []
    for name, item in group.items():
        if isinstance(item, h5py.Dataset):
            shapes.append(item.shape)
        elif name not in ("optimizer", "metrics"):
            shapes.extend(_shapes_below(item))
    return tuple(shapes)


# ---------------------------------------------------------------------------------------------- .keras


def _read_zip(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if CONFIG_MEMBER not in names:
                kind = "a PyTorch file" if any(n.endswith("data.pkl") for n in names) else "a zip archive"
                raise ModelError(f"{path}: {kind} that holds no Keras model; pass a Keras model file")
            weights = io.BytesIO(archive.read(WEIGHTS_MEMBER)) if WEIGHTS_MEMBER in names else None
            metadata = archive.read(METADATA_MEMBER) if METADATA_MEMBER in names else b"{}"
            stored = _decode(path, archive.read(CONFIG_MEMBER), CONFIG_MEMBER)
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"{path}: {DAMAGED}") from error
    model = _without_compilation(stored)
    version = str(_decode(path, metadata, METADATA_MEMBER).get("keras_version", ""))
    content = {"writer": _writer(version), "model": model, "screened": (model,)}
    content["training"] = stored.get("compile_config")
    if version.startswith("3"):
        content["refusal"] = _KERAS_3.format(version)
    elif weights is None:
        content["refusal"] = f"holds no {WEIGHTS_MEMBER}; save the whole model with model.save"
    return content | (_zip_weights(path, weights, model) if weights is not None else {})


def _without_compilation(value: Any) -> Any:
    """Copy a configuration without what only compiling would use (it may name the author's own metrics)."""
    if isinstance(value, dict):
        return {key: _without_compilation(item) for key, item in value.items() if key != "compile_config"}
    return [_without_compilation(item) for item in value] if isinstance(value, list) else value


def _zip_weights(path: Path, weights: io.BytesIO, model: Mapping[str, Any]) -> dict[str, Any]:
    try:
        with h5py.File(weights, "r") as file:
            _refuse_outside_links(path, file)
            found = dict(_group_weights(file, model, ""))
            return {"weights": found, "parameters": _count(found) or sum(map(math.prod, _shapes_below(file)))}
    except _UNREADABLE as error:
        raise ModelError(f"{path}: {DAMAGED}") from error


def _snake_case(name: str) -> str:
    """Return the group name that Keras derives from a class name (``Conv2D`` is ``conv2d``)."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _group_weights(
    group: h5py.Group, model: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, tuple[Shape, ...]]]:
    """Yield layer names with their shapes; Keras numbers the groups of one class in the order of layers."""
    layers = _layer_group(group)
    groups: dict[str, list[h5py.Group]] = {}
    for key in sorted(layers or (), key=lambda name: (len(name), name)):
        groups.setdefault(re.sub(r"_\d+$", "", key), []).append(layers[key])
    for entry in layer_entries(model):
        name, class_name = prefix + entry_name(entry), str(entry.get("class_name"))
        waiting = groups.get(_snake_case(class_name.rpartition(">")[2]))
        if not waiting:
            continue
        item = waiting.pop(0)
        yield name, _shapes_below(item)
        if class_name in MODEL_CLASSES:
            yield from _group_weights(item, entry, f"{name}/")


# ------------------------------------------------------------------------------------------ SavedModel


def _read_folder(path: Path) -> Archive:
    if (path / "saved_model.pb").is_file():
        return Archive(format="savedmodel", **_folder_identity(path), **_read_saved_model(path))
    if (path / "checkpoint").is_file() or any(path.glob("*.index")):
        raise ModelError(f"{path}: a TensorFlow checkpoint: {_WEIGHTS_ONLY}")
    raise ModelError(f"{path}: the folder holds no saved_model.pb, so it is no SavedModel; pass a model file")


def _read_saved_model(path: Path) -> dict[str, Any]:
    from xairt.models.savedmodel import read_saved_model  # TensorFlow, needed for this format alone

    graph = read_saved_model(path)
    roots = [node for node in graph.nodes if node.path == "root"]
    content = {"operations": graph.operations, "writer": f"TensorFlow {graph.tensorflow_version}"}
    content["screened"] = tuple(
        {k: v for k, v in n.metadata.items() if k != "training_config"} for n in graph.nodes
    )
    if not roots or not roots[0].metadata:
        reason = "a SavedModel that is not a Keras model; save the model with model.save of tf.keras"
        return content | {"refusal": reason}
    if not (path / "variables" / "variables.index").is_file():
        content["refusal"] = (
            "its folder 'variables' is missing or incomplete; copy the whole SavedModel folder"
        )
    root = roots[0]
    model = {"class_name": root.metadata.get("class_name"), "config": root.metadata.get("config") or {}}
    if not layer_entries(model):
        model["config"] = {"name": root.metadata.get("name")}
    weights = {node.layer: node.shapes for node in graph.nodes if node.layer}
    parameters = sum(map(math.prod, root.shapes))
    return content | {
        "model": model,
        "training": root.metadata.get("training_config"),
        "weights": weights,
        "parameters": parameters,
    }
