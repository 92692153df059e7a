"""The model card: what is inside a model file and which methods can explain it, read without running it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xairt.models.archive import Archive, Shape, locate, read_archive, screen
from xairt.models.safety import code_refusal, unknown_refusal
from xairt.models.support import (
    FAMILIES,
    MODEL_CLASSES,
    activation_name,
    boundary_names,
    entry_config,
    entry_name,
    final_layers,
    layer_entries,
    obstacles,
    walk_layers,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

_FORMAT_NAMES = {
    "hdf5": "HDF5",
    "keras": "Keras zip (.keras)",
    "savedmodel": "SavedModel",
    "pickle": "pickle",
}


@dataclass(frozen=True)
class LayerRow:
    """One layer of a model card.

    Attributes
    ----------
    name : str
        Layers of nested models as ``outer/inner``.
    class_name : str
    activation : str
        Name of the activation function; empty for a layer without one.
    detail : str
        Size and options, such as ``"32 filters 3x3 strides 1 same"``.
    weights : tuple of tuple of int
        Shapes of the stored weights.
    parameters : int
        Number of stored weights; of a nested model those of all its layers.
    """

    name: str
    class_name: str
    activation: str
    detail: str
    weights: tuple[Shape, ...]
    parameters: int


@dataclass(frozen=True)
class Verdict:
    """Whether a family of methods can explain a model, and the reason or condition."""

    applies: bool
    reason: str


@dataclass(frozen=True)
class ModelCard:
    """What a model file says about itself.

    Attributes
    ----------
    path : Path
        The file or SavedModel folder.
    format : str
        Name of the file format.
    size : int
        Bytes.
    sha256 : str
        Hash of the file; of a folder, over its sorted relative names and contents.
    written_by : str
        Program and version, ``"Keras 2.2.4 (tensorflow backend)"``.
    model_class, name : str
        Class and name of the model; empty where the file holds no architecture.
    input_shapes : tuple of tuple
        Without the sample axis; None for a size left open.
    outputs : tuple of str
        Names of the output layers.
    last_activation : str
        Activations of the output layers, joined by commas.
    layers : tuple of LayerRow
    parameters : int
        Number of stored weights, without optimizer and metrics.
    training : mapping
        Stored ``optimizer``, ``loss`` and ``metrics`` as text.
    executes_code : tuple of str
        What in the file could execute code of its author; empty for a file that cannot.
    loads : bool
        Whether `load_model` takes the file without further arguments.
    refusal : str
        Why it does not, with the remedy.
    families : mapping of str to Verdict
        Which families of methods can explain the model.
    """

    path: Path
    format: str
    size: int
    sha256: str
    written_by: str
    model_class: str = ""
    name: str = ""
    input_shapes: tuple[tuple[int | None, ...], ...] = ()
    outputs: tuple[str, ...] = ()
    last_activation: str = ""
    layers: tuple[LayerRow, ...] = ()
    parameters: int = 0
    training: Mapping[str, str] = field(default_factory=dict)
    executes_code: tuple[str, ...] = ()
    loads: bool = True
    refusal: str = ""
    families: Mapping[str, Verdict] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the card as a dictionary that JSON can hold."""
        return {**asdict(self), "path": str(self.path)}

    def facts(self) -> list[tuple[str, str]]:
        """Return label and text of every line above the table of layers."""
        shapes = ", ".join(_shape_text(shape) for shape in self.input_shapes)
        activation = f" ({self.last_activation})" if self.last_activation else ""
        lines = [
            ("file", f"{self.path} ({self.format}, {self.size:,} bytes)"),
            ("sha256", self.sha256),
            ("written by", self.written_by),
            ("model", f"{self.model_class} {self.name!r}" if self.model_class else ""),
            ("input", shapes),
            ("output", ", ".join(self.outputs) + activation if self.outputs else ""),
            ("parameters", f"{self.parameters:,}" if self.parameters else ""),
            ("training", ", ".join(f"{key} {value}" for key, value in self.training.items())),
            ("executes code", "; ".join(self.executes_code) or "no"),
            ("loads", "yes" if self.loads else f"no: {self.refusal}"),
        ]
        return [(label, text) for label, text in lines if text]

    def __str__(self) -> str:
        lines = [f"{label:<14}{text}" for label, text in self.facts()]
        if self.layers:
            rows = [("layer", "class", "activation", "detail", "parameters"), *map(_cells, self.layers)]
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            lines += ["", *("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)]
        lines += ["", "explained by"]
        lines += [f"  {name:<20}{_answer(verdict)}" for name, verdict in self.families.items()]
        return "\n".join(lines)

    def render(self) -> RenderableType:
        """Return the card as tables for a rich console."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        facts = Table.grid(padding=(0, 2))
        for label, text in self.facts():
            facts.add_row(Text(label, style="bold"), Text(text))
        layers = Table("layer", "class", "activation", "detail")
        layers.add_column("parameters", justify="right")
        for row in self.layers:
            layers.add_row(*map(Text, _cells(row)))
        families = Table("methods", "explain it?")
        for name, verdict in self.families.items():
            families.add_row(
                _family(name), Text(_answer(verdict), style="green" if verdict.applies else "yellow")
            )
        return Group(facts, layers, families) if self.layers else Group(facts, families)


def inspect_model(source: str | os.PathLike[str]) -> ModelCard:
    """Describe a model file without building the model or executing anything in the file.

    Parameters
    ----------
    source : str or path
        Path, registered name or http(s) URL, as for `load_model`.

    Returns
    -------
    ModelCard
        Also for files that do not load (weights only, written by Keras 3, holding code), with the reason.

    Raises
    ------
    ModelError
        If the file is missing, empty, truncated or no model file at all.
    """
    archive = read_archive(locate(source))
    findings = screen(archive)
    refusal = archive.refusal or code_refusal(findings) or unknown_refusal(findings)
    common = {
        "path": archive.path,
        "format": _FORMAT_NAMES[archive.format],
        "size": archive.size,
        "sha256": archive.sha256,
        "written_by": archive.writer,
        "parameters": archive.parameters,
        "training": _training(archive.training),
        "executes_code": tuple(str(finding) for finding in findings if finding.runs_code),
        "loads": not refusal,
        "refusal": refusal,
        "families": _families(archive),
    }
    return ModelCard(**common, **_architecture(archive))


def _architecture(archive: Archive) -> dict[str, Any]:
    model = archive.model
    if model is None:
        rows = [LayerRow(n, "", "", "", s, _count(s)) for n, s in archive.weights.items()]
        return {"layers": tuple(row for row in rows if row.parameters)}
    entries = dict(walk_layers(model))
    outputs = boundary_names(model, "output_layers")
    last = [activation_name(entries[name]) for name in sorted(final_layers(model)) if name in entries]
    return {
        "model_class": str(model.get("class_name")),
        "name": entry_name(model) if entry_config(model).get("name") else "",
        "input_shapes": tuple(_input_shapes(model)),
        "outputs": tuple(outputs),
        "last_activation": ", ".join(name for name in last if name),
        "layers": tuple(_row(name, entry, archive) for name, entry in entries.items()),
    }


def _input_shapes(model: Mapping[str, Any]) -> Iterator[tuple[int | None, ...]]:
    """Yield the shapes stored with the input layers, without the sample axis."""
    entries = {entry_name(entry): entry for entry in layer_entries(model)}
    for name in boundary_names(model, "input_layers"):
        entry = entries.get(name, {})
        while entry.get("class_name") in MODEL_CLASSES and layer_entries(entry):
            entry = layer_entries(entry)[0]
        shape = entry_config(entry).get("batch_input_shape") or entry_config(entry).get("batch_shape")
        shape = shape.get("items") if isinstance(shape, Mapping) else shape
        if isinstance(shape, list):
            yield tuple(shape[1:])


def _row(name: str, entry: Mapping[str, Any], archive: Archive) -> LayerRow:
    shapes = archive.weights.get(name, ())
    class_name = str(entry.get("class_name"))
    return LayerRow(name, class_name, activation_name(entry) or "", _detail(entry), shapes, _count(shapes))


def _count(shapes: tuple[Shape, ...]) -> int:
    return sum(map(math.prod, shapes))


_OPTIONS = (
    *("output_padding", "target_shape", "dims", "n", "cropping", "rate", "alpha", "theta", "shared_axes"),
    *("axis", "batch_input_shape"),
)
"""Further options of layers that a card shows, in this order."""


def _detail(entry: Mapping[str, Any]) -> str:
    """Return size and options of a layer in a few words."""
    if entry.get("class_name") in MODEL_CLASSES:
        return _counted(len(layer_entries(entry)), "layer")
    config = entry_config(entry)
    words = [_counted(config[key], key[:-1]) for key in ("units", "filters") if key in config]
    words += [_size_text(config[key]) for key in ("kernel_size", "pool_size", "size") if config.get(key)]
    for key in ("strides", "dilation_rate", "groups", "depth_multiplier"):
        size = _size_text(config.get(key) or 1)
        ones = set(size.split("x")) == {"1"}
        if not ones or (key == "strides" and config.get(key)):
            words.append(f"{key.removesuffix('_rate').replace('_', ' ')} {'1' if ones else size}")
    if isinstance(config.get("padding"), str):
        words.append(config["padding"])
    elif config.get("padding") is not None:
        words.append(f"padding {_size_text(config['padding'])}")
    for key in _OPTIONS:
        if config.get(key) is not None and not (
            key == "batch_input_shape" and entry.get("class_name") != "InputLayer"
        ):
            words.append(f"{key.removeprefix('batch_').replace('_', ' ')} {_size_text(config[key])}")
    return " ".join(words)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _size_text(value: Any) -> str:
    """Return a size or number as text.

    Examples
    --------
    >>> _size_text([3, 3]), _size_text({"class_name": "__tuple__", "items": [2, 1]}), _size_text(0.25)
    ('3x3', '2x1', '0.25')
    """
    if isinstance(value, Mapping):
        value = value.get("items", list(value.values()))
    if isinstance(value, list | tuple):
        return "x".join(_size_text(item) for item in value if item is not None)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _shape_text(shape: tuple[int | None, ...]) -> str:
    return " x ".join("any" if size is None else str(size) for size in shape)


def _cells(row: LayerRow) -> tuple[str, str, str, str, str]:
    return (
        row.name,
        row.class_name,
        row.activation,
        row.detail,
        f"{row.parameters:,}" if row.parameters else "",
    )


def _family(name: str) -> str:
    """Return a family's name, with its methods where the name does not tell them."""
    others = [method for method in FAMILIES[name] if method != name and not method.startswith(f"{name}.")]
    return f"{name} ({', '.join(others)})" if others else name


def _answer(verdict: Verdict) -> str:
    answer = "yes" if verdict.applies else "no"
    return f"{answer}: {verdict.reason}" if verdict.reason else answer


def _training(stored: Any) -> dict[str, str]:
    """Return optimizer, loss and metrics of a stored training configuration as text."""
    if not isinstance(stored, Mapping):
        return {}
    optimizer = stored.get("optimizer_config") or stored.get("optimizer")
    found = {
        "optimizer": _names(optimizer),
        "loss": _names(stored.get("loss")),
        "metrics": _names(stored.get("metrics")),
    }
    return {key: text for key, text in found.items() if text}


def _names(value: Any) -> str:
    """Return the names in a stored optimizer, loss or list of metrics, joined by commas."""
    if isinstance(value, Mapping) and "class_name" in value:
        config = value.get("config")
        if value["class_name"] == "function" or (isinstance(config, Mapping) and "fn" in config):
            return str(config if isinstance(config, str) else config.get("name"))
        return str(value["class_name"]).rpartition(">")[2]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return ", ".join(text for item in value if (text := _names(item)))
    return "" if value is None else str(value)


def _families(archive: Archive) -> dict[str, Verdict]:
    if archive.refusal or archive.model is None:
        reason = (
            "the model does not load" if archive.refusal else "the file is not read without trust_code=True"
        )
        return {family: Verdict(False, reason) for family in FAMILIES}
    ends = {
        activation_name(entry)
        for name, entry in walk_layers(archive.model)
        if name in final_layers(archive.model)
    }
    condition = ", ".join(
        f"final {name} explained at its logit" for name in ("softmax", "sigmoid") if name in ends
    )
    verdicts = {}
    for family, found in obstacles(archive.model).items():
        more = f" (and {_counted(len(found) - 1, 'more layer')})" if len(found) > 1 else ""
        reason = f"{found[0]}{more}" if found else condition if family != "control" else ""
        verdicts[family] = Verdict(not found, reason)
    return verdicts
