"""Parsing of SavedModel folders as protocol buffers, without loading the graph."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from keras.protobuf import saved_metadata_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from xairt.errors import ModelError
from xairt.models.archive import DAMAGED
from xairt.models.safety import Operation

_METRIC = "_tf_keras_metric"


@dataclass(frozen=True)
class StoredObject:
    """A Keras layer or model within a SavedModel.

    Attributes
    ----------
    path : str
        Place in the object graph, ``"root"`` for the model itself.
    layer : str
        Names of the layers that hold it joined by ``/``; empty for the model itself and for parts of layers.
    metadata : dict
        Decoded JSON that Keras stored for it.
    shapes : tuple of tuple of int
        Shapes of its weights.
    """

    path: str
    layer: str
    metadata: dict[str, Any]
    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class SavedGraph:
    """What a SavedModel folder says about itself: Keras objects, graph operations, TensorFlow version."""

    nodes: tuple[StoredObject, ...]
    operations: tuple[Operation, ...]
    tensorflow_version: str


def is_stateful(operation: str) -> bool | None:
    """Tell whether TensorFlow declares an operation stateful; None for one it does not have."""
    definition = op_def_registry.get(operation)
    return None if definition is None else definition.is_stateful


def read_saved_model(path: Path) -> SavedGraph:
    """Parse a SavedModel folder.

    Parameters
    ----------
    path : Path
        Folder with ``saved_model.pb``; Keras metadata is taken from ``keras_metadata.pb`` or, as written
        before TensorFlow 2.5, from the object graph.

    Raises
    ------
    ModelError
        If a protocol buffer is damaged.
    """
    try:
        saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    except DecodeError as error:
        raise ModelError(f"{path / 'saved_model.pb'}: {DAMAGED}") from error
    if not saved.meta_graphs:
        raise ModelError(f"{path / 'saved_model.pb'}: {DAMAGED}")
    meta = saved.meta_graphs[0]
    operations = tuple(op for graph in saved.meta_graphs for op in _operations(graph))
    version = meta.meta_info_def.tensorflow_version
    return SavedGraph(tuple(_objects(path, meta.object_graph_def)), operations, version)


# ------------------------------------------------------------------------------------- graph operations


def _called(node: Any) -> set[str]:
    """Return the names of the functions that a graph node calls."""
    values = node.attr.values()
    return {v.func.name for v in values if v.HasField("func")} | {f.name for v in values for f in v.list.func}


def _saver_functions(meta: Any) -> set[str]:
    """Return the functions that only the saver of the graph calls."""
    saver = {meta.saver_def.save_tensor_name.partition(":")[0], meta.saver_def.restore_op_name}
    owned, others = set(), set()
    for node in meta.graph_def.node:
        (owned if node.name in saver else others).update(_called(node))
    for function in meta.graph_def.library.function:
        for node in function.node_def:
            others.update(_called(node))
    return owned - others


def _operations(meta: Any) -> Iterator[Operation]:
    saver = _saver_functions(meta)
    for node in meta.graph_def.node:
        yield Operation(node.op, "graph")
    local = {function.signature.name for function in meta.graph_def.library.function}
    for function in meta.graph_def.library.function:
        name = function.signature.name
        for node in function.node_def:
            if node.op not in local:
                yield Operation(node.op, name, name in saver)


# ---------------------------------------------------------------------------------------- Keras objects


def _metadata(path: Path, objects: Any) -> Iterator[tuple[int, str, str, str]]:
    """Yield (node, object path, kind, JSON) of every Keras object."""
    file = path / "keras_metadata.pb"
    if file.is_file():
        try:
            stored = saved_metadata_pb2.SavedMetadata.FromString(file.read_bytes())
        except DecodeError as error:
            raise ModelError(f"{file}: {DAMAGED}") from error
        for node in stored.nodes:
            yield node.node_id, node.node_path, node.identifier, node.metadata
        return
    paths = _object_paths(objects)
    for index, node in enumerate(objects.nodes):
        if node.user_object.identifier.startswith("_tf_keras_") and index in paths:
            yield index, paths[index], node.user_object.identifier, node.user_object.metadata


def _object_paths(objects: Any) -> dict[int, str]:
    paths, waiting = {0: "root"}, [0]
    while waiting and objects.nodes:
        index = waiting.pop()
        for child in objects.nodes[index].children:
            if child.node_id not in paths:
                paths[child.node_id] = f"{paths[index]}.{child.local_name}"
                waiting.append(child.node_id)
    return paths


def _objects(path: Path, objects: Any) -> Iterator[StoredObject]:
    found: dict[str, tuple[int, dict[str, Any]]] = {}
    for index, place, kind, text in _metadata(path, objects):
        if kind == _METRIC:
            continue
        try:
            found[place] = (index, json.loads(text or "{}"))
        except ValueError as error:
            raise ModelError(
                f"{path}: the Keras metadata is not valid JSON; the folder is damaged"
            ) from error
    for place, (index, metadata) in found.items():
        yield StoredObject(place, _layer_name(place, found), metadata, _shapes(objects, index))


def _layer_name(place: str, found: dict[str, tuple[int, dict[str, Any]]]) -> str:
    """Return the names along an object path such as ``root.layer-0.layer_with_weights-1``."""
    parts = place.split(".")[1:]
    places = [".".join(["root", *parts[: i + 1]]) for i in range(len(parts))]
    if not all(part.startswith("layer") and p in found for part, p in zip(parts, places, strict=True)):
        return ""
    return "/".join(str(found[p][1].get("name")) for p in places)


def _shapes(objects: Any, index: int) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of the variables that Keras lists for an object."""
    shapes = []
    for child in objects.nodes[index].children:
        if child.local_name == "variables":
            for item in objects.nodes[child.node_id].children:
                dims = objects.nodes[item.node_id].variable.shape.dim
                shapes.append(tuple(dim.size for dim in dims))
    return tuple(shapes)
