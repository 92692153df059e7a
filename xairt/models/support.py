"""Which methods can explain which networks: what the canonical graph converts, and what stands in the way.

Everything here reads the stored configuration of a model (the JSON that Keras writes) and needs neither
TensorFlow nor the model itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

FAMILIES: dict[str, tuple[str, ...]] = {
    "gradient": (
        *("gradient", "saliency", "input_t_gradient", "integrated_gradients", "smoothgrad"),
        "shap.gradient",
    ),
    "perturbation": ("occlusion", "feature_ablation", "shap.kernel", "lime"),
    "deeplift": ("deeplift.*", "shap.deep"),
    "lrp": ("lrp.*", "deep_taylor", "deep_taylor.bounded"),
    "guided": ("deconvnet", "guided_backprop"),
    "grad_cam": ("grad_cam",),
    "engine innvestigate": (),
    "control": ("random", "edge", "input"),
}
"""Families of methods that share their requirements, with the names of the methods; an engine has those of others.

The first two take models without a canonical graph too.
"""

_NAMES = (*FAMILIES["gradient"], *FAMILIES["perturbation"])
ANY_MODEL = f"{', '.join(_NAMES[:-1])} and {_NAMES[-1]}"
"""The methods that need no canonical graph, as an error names them."""

MODEL_CLASSES = ("Sequential", "Functional", "Model")
"""Class names under which Keras stores a network made of layers."""


@dataclass(frozen=True)
class Support:
    """How a layer class or an activation function can be explained.

    Attributes
    ----------
    kind : str
        For layers the kind of node it becomes; for activations ``"passes"`` (LRP passes it anywhere),
        ``"end"`` (LRP accepts it only as the end of the network) or ``"forward"`` (never).
    note : str
        A condition, or an empty string.
    """

    kind: str
    note: str = ""


@dataclass(frozen=True)
class Obstacle:
    """A layer that keeps a family of methods from explaining a network, and the reason."""

    layer: str
    class_name: str
    reason: str

    def __str__(self) -> str:
        return f"layer {self.layer!r} ({self.class_name}): {self.reason}"


def _supported(kind: str, *names: str, note: str = "") -> dict[str, Support]:
    return {name: Support(kind, note) for name in names}


def _by_axes(name: str, axes: tuple[int, ...] = (1, 2, 3)) -> tuple[str, ...]:
    """Return "name1D", "name2D", ... for the numbers of axes; {} stands for the number."""
    return tuple(name.format(f"{n}D") for n in axes)


_CHANNELS = "channels last"
_NEAREST = "nearest interpolation only"
_PLAIN_RELU = "LRP needs threshold 0, no max_value and negative_slope 0"

LAYERS: dict[str, Support] = {
    **_supported("input", "InputLayer"),
    **_supported("linear", "Dense"),
    **_supported("linear", *_by_axes("Conv{}"), *_by_axes("DepthwiseConv{}", (1, 2)), note=_CHANNELS),
    **_supported("linear", *_by_axes("Conv{}Transpose"), note=_CHANNELS),
    **_supported("two linear", *_by_axes("SeparableConv{}", (1, 2)), note=_CHANNELS),
    **_supported("max pooling", *_by_axes("MaxPooling{}"), *_by_axes("GlobalMaxPooling{}")),
    **_supported("average pooling", *_by_axes("AveragePooling{}"), *_by_axes("GlobalAveragePooling{}")),
    **_supported("reshape", "Flatten", "Reshape", "Permute", "RepeatVector"),
    **_supported("reshape", *_by_axes("ZeroPadding{}"), *_by_axes("Cropping{}")),
    **_supported("reshape", "UpSampling1D", "UpSampling3D"),
    **_supported("reshape", "UpSampling2D", note=_NEAREST),
    **_supported("identity", "Dropout", *_by_axes("SpatialDropout{}"), "ActivityRegularization"),
    **_supported("identity", "GaussianNoise", "GaussianDropout", "AlphaDropout"),
    **_supported("batch normalization", "BatchNormalization", "BatchNormalizationV1", "BatchNormalizationV2"),
    **_supported("activation", "Activation"),
    **_supported("activation", "ReLU", note=_PLAIN_RELU),
    **_supported("activation", "LeakyReLU", "ELU", "PReLU", "ThresholdedReLU", note="not for LRP"),
    **_supported("activation", "Softmax", note="LRP only at the end of the network"),
    **_supported("merge", "Add", "Average", "Concatenate"),
    **_supported("model", *MODEL_CLASSES),
}
"""Layer classes that the canonical graph converts."""

ACTIVATIONS: dict[str, Support] = {
    **_supported("passes", "linear", "relu"),
    **_supported("end", "softmax", "sigmoid", note="explained at the logit"),
    **_supported("forward", "tanh", "softplus", "elu", "gelu", "swish", "silu", "selu"),
    **_supported("forward", "leaky_relu", "softsign", "exponential", "hard_sigmoid"),
}
"""Activation functions of Keras; any other is evaluated too, and passes no relevance."""

_ACTIVATION_LAYERS = {
    **{"Softmax": "softmax", "ReLU": "relu", "LeakyReLU": "leaky_relu", "ELU": "elu"},
    **{"PReLU": "prelu", "ThresholdedReLU": "thresholded_relu"},
}

_DEPTHWISE = "a depthwise convolution, which iNNvestigate's LRP does not take"
_NOT_FOR_INNVESTIGATE = {
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D"), _DEPTHWISE),
    "Average": "an average, which iNNvestigate shares equally, whatever the branches' values",
}
_NOT_IN_KERAS = ("silu", "leaky_relu", "relu6", "log_softmax")

_INTEGER_INPUT = "reads integers, so the output has no gradient with respect to the input"
_NO_GRADIENT = dict.fromkeys(
    ("Embedding", "Hashing", "HashedCrossing", "Discretization", "CategoryEncoding"), _INTEGER_INPUT
) | dict.fromkeys(("IntegerLookup", "StringLookup", "TextVectorization"), _INTEGER_INPUT)

_MIXING = ("softmax", "log_softmax")
"""Activations whose values depend on several arguments each."""

_WITH_ROWS_AND_COLUMNS = ("Conv2D", "Conv2DTranspose", "DepthwiseConv2D", "SeparableConv2D")

_SEVERAL = "the model has {} {}; {} takes one"


def layer_entries(model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the stored layers of a model configuration, in order.

    Parameters
    ----------
    model : mapping
        ``{"class_name": ..., "config": ...}``; the config is a mapping with ``layers`` or, as Keras 2.0
        to 2.2.2 wrote for Sequential models, the bare list of layers.

    Examples
    --------
    >>> layer_entries({"class_name": "Sequential", "config": [{"class_name": "Flatten", "config": {}}]})
    [{'class_name': 'Flatten', 'config': {}}]
    """
    config = model.get("config")
    layers = config.get("layers") if isinstance(config, Mapping) else config
    return [entry for entry in layers if isinstance(entry, dict)] if isinstance(layers, list) else []


def entry_config(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the configuration of one stored layer as a mapping (empty where there is none)."""
    config = entry.get("config")
    return config if isinstance(config, Mapping) else {}


def entry_name(entry: Mapping[str, Any]) -> str:
    """Return the name of one stored layer, or its class in lower case when it was stored without a name."""
    name = entry_config(entry).get("name") or entry.get("name")
    return str(name or str(entry.get("class_name")).lower())


def boundary_names(model: Mapping[str, Any], key: str) -> list[str]:
    """Return the names of the input or output layers of a model.

    Parameters
    ----------
    model : mapping
        Stored model configuration.
    key : str
        ``"input_layers"`` or ``"output_layers"``. A Sequential model has neither: its first and last
        layer stand for them.
    """
    spec = entry_config(model).get(key)
    if spec is None:
        entries = layer_entries(model)
        return [entry_name(entries[0 if key == "input_layers" else -1])] if entries else []
    if isinstance(spec, Mapping):
        spec = list(spec.values())
    if not isinstance(spec, list | tuple):
        return []
    if spec and isinstance(spec[0], str):
        spec = [spec]
    return [str(item[0]) for item in spec if isinstance(item, list | tuple) and item]


def activation_name(entry: Mapping[str, Any]) -> str | None:
    """Return the name of the activation function a stored layer applies, None for a layer without one.

    Examples
    --------
    >>> activation_name({"class_name": "Dense", "config": {"activation": "relu"}})
    'relu'
    >>> activation_name({"class_name": "Softmax", "config": {}})
    'softmax'
    """
    class_name = str(entry.get("class_name"))
    if class_name in _ACTIVATION_LAYERS:
        return _ACTIVATION_LAYERS[class_name]
    value = entry_config(entry).get("activation")
    if isinstance(value, Mapping):
        value = value.get("config") if value.get("class_name") == "function" else value.get("class_name")
    return None if value is None else str(value)


def _sources(value: Any) -> Iterator[str]:
    """Yield the names of the layers whose tensors the inbound nodes `value` refer to."""
    if isinstance(value, Mapping):
        history = entry_config(value).get("keras_history")
        if history:
            yield str(history[0])
        value = list(value.values())
    if isinstance(value, list | tuple):
        if len(value) >= 3 and isinstance(value[0], str) and all(isinstance(v, int) for v in value[1:3]):
            yield value[0]
        for item in value:
            yield from _sources(item)


def _passes_unchanged(entry: Mapping[str, Any]) -> bool:
    support = LAYERS.get(str(entry.get("class_name")))
    linear = entry.get("class_name") == "Activation" and activation_name(entry) == "linear"
    return linear or (support is not None and support.kind == "identity")


def final_layers(model: Mapping[str, Any], prefix: str = "") -> set[str]:
    """Return the names of the layers whose result is an output of the model and feeds nothing else.

    Dropout and the like are looked through; layers of a nested model are named ``outer/inner``.

    Examples
    --------
    >>> layers = [{"class_name": "Dense", "config": {"name": "out"}},
    ...           {"class_name": "Dropout", "config": {"name": "drop"}}]
    >>> final_layers({"class_name": "Sequential", "config": {"layers": layers}})
    {'out'}
    """
    entries = layer_entries(model)
    position = {entry_name(entry): i for i, entry in enumerate(entries)}
    inbound = {entry_name(entry): list(_sources(entry.get("inbound_nodes"))) for entry in entries}
    if not any("inbound_nodes" in entry for entry in entries):
        inbound = {name: [entry_name(entries[i - 1])] if i else [] for name, i in position.items()}
    found = set()
    for name in boundary_names(model, "output_layers"):
        consumers = 0
        while name in position and _passes_unchanged(entries[position[name]]) and len(inbound[name]) == 1:
            name, consumers = inbound[name][0], 1
        if name not in position or sum(sources.count(name) for sources in inbound.values()) > consumers:
            continue
        entry = entries[position[name]]
        nested = entry.get("class_name") in MODEL_CLASSES
        found |= final_layers(entry, f"{prefix}{name}/") if nested else {prefix + name}
    return found


def _activation_reason(name: str, is_end: bool) -> str | None:
    support = ACTIVATIONS.get(name, Support("forward"))
    if support.kind == "passes" or (support.kind == "end" and is_end):
        return None
    if support.kind == "end":
        return f"activation {name!r} inside the network; LRP accepts it only at the end of the model"
    return f"activation {name!r}; LRP passes relevance through linear and relu only"


def _relu_reason(config: Mapping[str, Any]) -> str | None:
    changed = [
        f"{key}={config[key]}" for key in ("max_value", "negative_slope", "threshold") if config.get(key)
    ]
    return (
        f"ReLU with {', '.join(changed)}; LRP passes relevance through the plain ReLU only"
        if changed
        else None
    )


def conversion_obstacle(entry: Mapping[str, Any], name: str) -> Obstacle | None:
    """Return why the canonical graph cannot convert a stored layer, None if it can."""
    class_name = str(entry.get("class_name"))
    config = entry_config(entry)
    if class_name not in LAYERS:
        return Obstacle(name, class_name, f"{class_name} is not convertible yet")
    if class_name == "UpSampling2D" and config.get("interpolation", "nearest") != "nearest":
        return Obstacle(name, class_name, f"interpolation {config['interpolation']!r} is not convertible yet")
    if config.get("data_format") == "channels_first":
        return Obstacle(name, class_name, "keeps channels first; rebuild the model with channels last")
    return None


def _engine_obstacle(entry: Mapping[str, Any], name: str) -> Obstacle | None:
    """Return why engine innvestigate cannot take a stored layer, None if it can."""
    found = conversion_obstacle(entry, name)
    if found:
        return found
    class_name, config = str(entry.get("class_name")), entry_config(entry)
    reason = _NOT_FOR_INNVESTIGATE.get(class_name)
    if reason is None and config.get("groups", 1) != 1:
        reason = "a convolution in groups, of which TensorFlow has no gradient on the CPU"
    if reason is None and config.get("keepdims"):
        reason = "keepdims=True, which older Keras does not know"
    activation = activation_name(entry)
    if reason is None and class_name not in _ACTIVATION_LAYERS and activation in _NOT_IN_KERAS:
        reason = f"activation {activation!r} is no function of Keras, and the engine builds the network anew"
    return Obstacle(name, class_name, reason) if reason else None


def _deeplift_obstacle(entry: Mapping[str, Any], name: str, is_end: bool) -> Obstacle | None:
    found, activation = conversion_obstacle(entry, name), activation_name(entry)
    if found or activation not in _MIXING or (activation == "softmax" and is_end):
        return found
    reason = f"activation {activation!r} inside the network mixes units; DeepLIFT has no exact rule for it"
    return Obstacle(name, str(entry.get("class_name")), reason)


def _lrp_obstacle(entry: Mapping[str, Any], name: str, is_end: bool) -> Obstacle | None:
    found = conversion_obstacle(entry, name)
    if found:
        return found
    class_name = str(entry.get("class_name"))
    reason = _relu_reason(entry_config(entry)) if class_name == "ReLU" else None
    activation = activation_name(entry)
    if reason is None and activation is not None:
        reason = _activation_reason(activation, is_end)
    return Obstacle(name, class_name, reason) if reason else None


def walk_layers(model: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ``(name, entry)`` of every stored layer; layers of nested models as ``outer/inner``."""
    for entry in layer_entries(model):
        name = prefix + entry_name(entry)
        yield name, entry
        if entry.get("class_name") in MODEL_CLASSES:
            yield from walk_layers(entry, f"{name}/")


def _embedded_classes(value: Any) -> Iterator[str]:
    """Yield every class name stored anywhere in a configuration (wrappers hold their layer inside)."""
    if isinstance(value, Mapping):
        if isinstance(value.get("class_name"), str):
            yield value["class_name"]
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _embedded_classes(item)


def _gradient_obstacles(model: Mapping[str, Any]) -> list[Obstacle]:
    found = []
    for name, entry in walk_layers(model):
        if entry.get("class_name") in MODEL_CLASSES:
            continue
        blocking = [cls for cls in _embedded_classes(entry) if cls in _NO_GRADIENT]
        found += [Obstacle(name, cls, _NO_GRADIENT[cls]) for cls in blocking[:1]]
    return found


def obstacles(model: Mapping[str, Any]) -> dict[str, list[Obstacle]]:
    """Return, per family of methods, what keeps it from explaining a model.

    Parameters
    ----------
    model : mapping
        Stored configuration of the whole model: ``{"class_name": ..., "config": ...}``.

    Returns
    -------
    dict
        One list for each of `FAMILIES`, empty where the family applies. A final softmax or sigmoid is the
        activation of an output layer of the outermost model and is no obstacle: the logit is explained.

    Examples
    --------
    >>> model = {"class_name": "Sequential", "config": [
    ...     {"class_name": "LSTM", "config": {"name": "memory"}},
    ...     {"class_name": "Dense", "config": {"name": "out", "activation": "softmax"}}]}
    >>> [str(item) for item in obstacles(model)["lrp"]]
    ["layer 'memory' (LSTM): LSTM is not convertible yet"]
    >>> obstacles(model)["gradient"]
    []
    """
    label, class_name = entry_name(model), str(model.get("class_name"))
    counts = {end: len(boundary_names(model, f"{end}_layers")) for end in ("input", "output")}

    def several(end: str, reader: str) -> list[Obstacle]:
        reason = _SEVERAL.format(counts[end], f"{end}s", reader)
        return [Obstacle(label, class_name, reason)] if counts[end] > 1 else []

    entries, finals = list(walk_layers(model)), final_layers(model)
    graph = [found for name, entry in entries if (found := conversion_obstacle(entry, name))]
    engine = [found for name, entry in entries if (found := _engine_obstacle(entry, name))]
    deeplift = [
        found for name, entry in entries if (found := _deeplift_obstacle(entry, name, name in finals))
    ]
    lrp = [found for name, entry in entries if (found := _lrp_obstacle(entry, name, name in finals))]
    if not entries:
        own = Obstacle(label, class_name, "a model of its own class stores no layers to convert")
        graph = engine = deeplift = lrp = [own]
    if not any(entry.get("class_name") in _WITH_ROWS_AND_COLUMNS for _, entry in entries):
        graph = [*graph, Obstacle(label, class_name, "the model has no 2-D convolution")]
    return {
        "gradient": _gradient_obstacles(model),
        "perturbation": [],
        "deeplift": deeplift,
        "lrp": lrp,
        "guided": lrp,
        "grad_cam": several("input", "grad_cam") + graph,
        "engine innvestigate": several("input", "the engine") + several("output", "the engine") + engine,
        "control": [],
    }
