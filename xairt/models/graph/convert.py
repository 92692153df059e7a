"""Conversion of a Keras 2 model into the canonical graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import tensorflow as tf

from xairt.errors import ModelError, UnsupportedLayerError
from xairt.models.graph import fold
from xairt.models.graph.nodes import (
    NONNEGATIVE_ACTIVATIONS,
    Activation,
    ActivationLayer,
    Add,
    AveragePool,
    Concatenate,
    Convolution,
    Crop,
    Dense,
    DepthwiseConvolution,
    GlobalAverage,
    GlobalMax,
    Graph,
    Identity,
    Linear,
    MaxPool,
    Node,
    Operation,
    Permute,
    Reshape,
    Route,
    Scale,
    Source,
    TransposedConvolution,
    Upsample,
    ZeroPad,
)
from xairt.models.support import ANY_MODEL

FINAL_ACTIVATIONS = ("softmax", "sigmoid")
"""Taken off at the end of a network: its output is explained at the logit."""

Keras = tf.keras.layers


@dataclass
class Draft:
    """The graph while it is being built."""

    nodes: list[Node] = field(default_factory=list)

    def add(self, name: str, op: Operation, inputs: tuple[int, ...], shape: tuple[int, ...]) -> int:
        """Append a node and return its position."""
        self.nodes.append(Node(name, op, inputs, shape, self._nonnegative(op, inputs)))
        return len(self.nodes) - 1

    def _nonnegative(self, op: Operation, inputs: tuple[int, ...]) -> bool:
        if isinstance(op, Activation) and op.name in NONNEGATIVE_ACTIVATIONS:
            return True
        keeps_sign = isinstance(op, Route | Add | Concatenate) or (
            isinstance(op, Linear) and op.bias is None and bool(np.all(op.kernel >= 0))
        )
        return keeps_sign and all(self.nodes[i].nonnegative for i in inputs)


def convert(model: tf.keras.Model) -> Graph:
    """Convert a Keras model into the canonical graph.

    BatchNormalization is folded into a neighbouring linear layer where that is exact, nested models
    are flattened, and a final softmax or sigmoid is taken off. The model is not changed, and the
    graph keeps copies of its weights.

    Parameters
    ----------
    model : tf.keras.Model
        A built Sequential or Functional model.

    Returns
    -------
    Graph

    Raises
    ------
    ModelError
        If the model is not built, or is a subclass of Model whose layers Keras does not know.
    UnsupportedLayerError
        If a layer has no canonical form; the message names it and the methods that do work.
    """
    draft = Draft()
    _check_traceable(model)
    sources = tuple(draft.add(t.node.layer.name, Source(), (), _sample_shape(t)) for t in model.inputs)
    outputs = _convert_model(draft, model, sources, prefix="")
    nodes, outputs = fold.fold_batch_normalization(draft.nodes, outputs)
    ends = [_without_final_activation(nodes, i) for i in outputs]
    return _pruned(nodes, sources, tuple(i for i, _ in ends), tuple(name for _, name in ends))


def _pruned(
    nodes: list[Node], sources: tuple[int, ...], outputs: tuple[int, ...], removed: tuple[str | None, ...]
) -> Graph:
    """Return the graph of the nodes that the outputs depend on."""
    needed = set(outputs) | set(sources)
    for position in reversed(range(len(nodes))):
        if position in needed:
            needed.update(nodes[position].inputs)
    place = {old: new for new, old in enumerate(sorted(needed))}
    kept = [replace(nodes[old], inputs=tuple(place[i] for i in nodes[old].inputs)) for old in place]
    return Graph(tuple(kept), tuple(place[i] for i in sources), tuple(place[i] for i in outputs), removed)


def _check_traceable(model: tf.keras.Model) -> None:
    if not isinstance(model, tf.keras.Model):
        raise ModelError(f"{type(model).__name__} is not a Keras model: give a tf.keras.Model")
    if not getattr(model, "_is_graph_network", False):
        sequential = isinstance(model, tf.keras.Sequential)
        remedy = "build it (model.build(input_shape))" if sequential else "write it as a Functional model"
        raise ModelError(
            f"model '{model.name}' ({type(model).__name__}) has no known layer graph: {remedy}; "
            "gradient and occlusion methods work without one"
        )


def _sample_shape(tensor: object) -> tuple[int, ...]:
    return tuple(tensor.shape[1:])


def _without_final_activation(nodes: list[Node], position: int) -> tuple[int, str | None]:
    """Return the position of the logit and the name of the activation that follows it."""
    removed = None
    while True:
        op = nodes[position].op
        if isinstance(op, Activation) and op.name in FINAL_ACTIVATIONS and removed is None:
            removed = op.name
        elif not isinstance(op, Identity):
            return position, removed
        position = nodes[position].inputs[0]


def _convert_model(
    draft: Draft, model: tf.keras.Model, sources: tuple[int, ...], prefix: str
) -> tuple[int, ...]:
    """Append the layers of a (nested) model that reads `sources`; return its output positions."""
    position = {str(id(t)): source for t, source in zip(model.inputs, sources, strict=True)}
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for call in model._nodes_by_depth[depth]:
            if isinstance(call.layer, Keras.InputLayer):
                continue
            inputs = tuple(position[i] for i in call.flat_input_ids)
            results = _convert_call(draft, call, inputs, prefix)
            position.update(zip(call.flat_output_ids, results, strict=True))
    return tuple(position[str(id(t))] for t in model.outputs)


def _convert_call(draft: Draft, call: object, inputs: tuple[int, ...], prefix: str) -> tuple[int, ...]:
    layer, name = call.layer, prefix + call.layer.name
    if isinstance(layer, tf.keras.Model):
        _check_traceable(layer)
        return _convert_model(draft, layer, inputs, prefix=f"{name}/")
    converter = CONVERTERS.get(type(layer).__name__)
    if converter is None or not type(layer).__module__.startswith("keras."):
        raise unsupported(layer, name, "has no canonical form")
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        raise unsupported(layer, name, "keeps channels first; rebuild the model with channels last")
    shape = tuple(tf.nest.flatten(call.outputs)[0].shape[1:])
    if None in shape:
        raise unsupported(layer, name, f"has an output of unknown size {shape}; fix the model's input shape")
    return (converter(Call(draft, layer, name, inputs, shape)),)


def unsupported(layer: tf.keras.layers.Layer, name: str, reason: str) -> UnsupportedLayerError:
    """Return the error for a layer that the canonical graph cannot hold."""
    return UnsupportedLayerError(
        f"layer '{name}' ({type(layer).__name__}) {reason}: LRP, DeepLIFT and shap.deep do not apply; "
        f"{ANY_MODEL} do"
    )


@dataclass(frozen=True)
class Call:
    """One use of a layer: what a converter needs to know."""

    draft: Draft
    layer: tf.keras.layers.Layer
    name: str
    inputs: tuple[int, ...]
    shape: tuple[int, ...]

    def emit(self, op: Operation) -> int:
        """Append the operation as this layer's node."""
        return self.draft.add(self.name, op, self.inputs, self.shape)

    def emit_activated(self, op: Operation) -> int:
        """Append the operation and, where the layer has one, its activation."""
        return self.activated(self.emit(op))

    def activated(self, position: int) -> int:
        """Append the layer's activation, where it has one, behind a node."""
        function = self.layer.activation
        if function is None or function is tf.keras.activations.linear:
            return position
        return self.draft.add(self.name, activation(function), (position,), self.shape)

    def bias(self) -> np.ndarray | None:
        """Return a copy of the layer's bias."""
        return self.layer.bias.numpy() if self.layer.use_bias else None


def activation(function: Callable) -> Activation:
    """Return the activation node of a Keras activation function.

    Functions that Keras does not know keep their own name with "custom:" before it, so that no rule
    takes them for a built-in one.
    """
    name = getattr(function, "__name__", type(function).__name__)
    known = getattr(tf.keras.activations, name, None) is function
    return Activation(name if known else f"custom:{name}", function)


# --------------------------------------------------------------------------- converters


def _dense(call: Call) -> int:
    return call.emit_activated(Linear(Dense(), call.layer.kernel.numpy(), call.bias()))


def _convolution(call: Call) -> int:
    layer = call.layer
    op = Convolution(tuple(layer.strides), layer.padding, tuple(layer.dilation_rate), layer.groups)
    return call.emit_activated(Linear(op, layer.kernel.numpy(), call.bias()))


def _depthwise_map(layer: tf.keras.layers.Layer) -> DepthwiseConvolution:
    return DepthwiseConvolution(tuple(layer.strides), layer.padding, tuple(layer.dilation_rate))


def _depthwise(call: Call) -> int:
    op = _depthwise_map(call.layer)
    return call.emit_activated(Linear(op, call.layer.depthwise_kernel.numpy(), call.bias()))


def _separable(call: Call) -> int:
    """Append a depthwise and a pointwise convolution: rules take them for two linear layers.

    Nothing stands between them, and the bias belongs to the second. They are named "layer/depthwise" and
    "layer/pointwise".
    """
    layer, draft = call.layer, call.draft
    depthwise, pointwise = layer.depthwise_kernel.numpy(), layer.pointwise_kernel.numpy()
    shape = (*call.shape[:-1], pointwise.shape[-2])
    first = draft.add(f"{call.name}/depthwise", Linear(_depthwise_map(layer), depthwise), call.inputs, shape)
    ones = (1,) * len(layer.strides)
    op = Linear(Convolution(ones, "valid", ones), pointwise, call.bias())
    return call.activated(draft.add(f"{call.name}/pointwise", op, (first,), call.shape))


def _transposed(call: Call) -> int:
    layer, space = call.layer, call.shape[:-1]
    # Keras takes a dilation for three axes and leaves it out
    dilation = tuple(layer.dilation_rate) if len(space) < 3 else (1, 1, 1)
    op = TransposedConvolution(tuple(layer.strides), layer.padding, dilation, space)
    return call.emit_activated(Linear(op, layer.kernel.numpy(), call.bias()))


def _average_pool(call: Call) -> int:
    layer = call.layer
    op = AveragePool(_axes(layer.pool_size), _axes(layer.strides), layer.padding)
    return call.emit(Linear(op, np.ones((), np.float32)))


def _max_pool(call: Call) -> int:
    layer = call.layer
    return call.emit(MaxPool(_axes(layer.pool_size), _axes(layer.strides), layer.padding))


def _global_average(call: Call) -> int:
    return call.emit(Linear(GlobalAverage(call.layer.keepdims), np.ones((), np.float32)))


def _batch_normalization(call: Call) -> int:
    layer = call.layer
    scale = 1.0 / np.sqrt(layer.moving_variance.numpy().astype(np.float64) + layer.epsilon)
    if layer.scale:
        scale = scale * layer.gamma.numpy()
    shift = -layer.moving_mean.numpy() * scale
    if layer.center:
        shift = shift + layer.beta.numpy()
    axes = [axis - 1 for axis in layer.axis]
    if axes != [len(call.shape) - 1]:
        wide = [size if i in axes else 1 for i, size in enumerate(call.shape)]
        scale, shift = scale.reshape(wide), shift.reshape(wide)
    return call.emit(Linear(Scale(), scale, shift))


def _activation(call: Call) -> int:
    op = activation(call.layer.activation)
    return call.emit(Identity() if op.name == "linear" else op)


def _relu(call: Call) -> int:
    layer = call.layer
    if layer.max_value is None and layer.threshold == 0 and layer.negative_slope == 0:
        return call.emit(Activation("relu", tf.nn.relu))
    return _with_parameters("custom:relu", "max_value", "negative_slope", "threshold")(call)


def _with_parameters(name: str, *keys: str) -> Callable[[Call], int]:
    """Return the converter of an activation layer with the named numbers as parameters."""

    def emit(call: Call) -> int:
        config = call.layer.get_config()
        numbers = {key: None if config[key] is None else float(config[key]) for key in keys}
        return call.emit(
            Activation(name, call.layer.call, ActivationLayer(type(call.layer).__name__, numbers))
        )

    return emit


def _thresholded_relu(call: Call) -> int:
    theta = float(call.layer.theta)  # the layer itself computes in its own dtype only

    def function(x: tf.Tensor) -> tf.Tensor:
        return tf.where(x > theta, x, tf.zeros_like(x))

    stored = ActivationLayer("ThresholdedReLU", {"theta": theta})
    return call.emit(Activation("thresholded_relu", function, stored))


def _prelu(call: Call) -> int:
    layer, slopes = call.layer, call.layer.alpha.numpy()

    def function(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(x) - tf.cast(slopes, x.dtype) * tf.nn.relu(-x)

    stored = ActivationLayer("PReLU", {"shared_axes": layer.shared_axes}, (slopes,))
    return call.emit(Activation("prelu", function, stored))


def _softmax(call: Call) -> int:
    axis = call.layer.axis
    if axis not in (-1, len(call.shape)):
        return call.emit(
            Activation("custom:softmax", call.layer.call, ActivationLayer("Softmax", {"axis": axis}))
        )
    return call.emit(Activation("softmax", tf.nn.softmax))


def _add(call: Call) -> int:
    return _merged(call, Add())


def _average(call: Call) -> int:
    return _merged(call, Add(1 / len(call.inputs)))


def _merged(call: Call, op: Add) -> int:
    """Add inputs of different rank as Keras does: new axes of one come right after the samples."""
    draft, rank, inputs = call.draft, len(call.shape), []
    for i in call.inputs:
        shape = draft.nodes[i].shape
        wide = (1,) * (rank - len(shape)) + shape
        inputs.append(i if wide == shape else draft.add(call.name, Reshape(wide), (i,), wide))
    return draft.add(call.name, op, tuple(inputs), call.shape)


def _concatenate(call: Call) -> int:
    rank = len(call.shape) + 1
    return call.emit(Concatenate(call.layer.axis % rank))


def _repeat_vector(call: Call) -> int:
    """Append a step axis of one, and its repetition."""
    steps, features = call.shape
    first = call.draft.add(call.name, Reshape((1, features)), call.inputs, (1, features))
    return call.draft.add(call.name, Upsample((steps,)), (first,), call.shape)


def _upsample(call: Call) -> int:
    if getattr(call.layer, "interpolation", "nearest") != "nearest":
        raise unsupported(call.layer, call.name, f"interpolates ({call.layer.interpolation})")
    return call.emit(Upsample(_axes(call.layer.size)))


def _axes(value: int | tuple) -> tuple:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _widths(value: tuple) -> tuple[tuple[int, int], ...]:
    """Return paddings as ((before, after), ...): the 1-D layers store one plain pair."""
    return tuple(map(tuple, value)) if isinstance(value[0], tuple | list) else (tuple(value),)


def _identity(call: Call) -> int:
    return call.emit(Identity())


def _global_max(call: Call) -> int:
    return call.emit(GlobalMax(call.layer.keepdims))


def _zero_padding(call: Call) -> int:
    return call.emit(ZeroPad(_widths(call.layer.padding)))


def _cropping(call: Call) -> int:
    return call.emit(Crop(_widths(call.layer.cropping)))


def _reshape(call: Call) -> int:
    return call.emit(Reshape(call.shape))


def _in(axes: tuple[int, ...], converter: Callable[[Call], int], *names: str) -> dict[str, Callable]:
    """Return the converter under the names "name1D", "name2D", ... of the given numbers of axes."""
    return {name.format(f"{n}D"): converter for name in names for n in axes}


CONVERTERS: dict[str, Callable[[Call], int]] = {
    "Dense": _dense,
    **_in((1, 2, 3), _convolution, "Conv{}"),
    **_in((1, 2), _depthwise, "DepthwiseConv{}"),
    **_in((1, 2), _separable, "SeparableConv{}"),
    **_in((1, 2, 3), _transposed, "Conv{}Transpose"),
    **_in((1, 2, 3), _average_pool, "AveragePooling{}"),
    **_in((1, 2, 3), _max_pool, "MaxPooling{}"),
    **_in((1, 2, 3), _global_average, "GlobalAveragePooling{}"),
    **_in((1, 2, 3), _global_max, "GlobalMaxPooling{}"),
    "BatchNormalization": _batch_normalization,
    "Activation": _activation,
    "ReLU": _relu,
    "LeakyReLU": _with_parameters("leaky_relu", "alpha"),
    "ELU": _with_parameters("elu", "alpha"),
    "ThresholdedReLU": _thresholded_relu,
    "PReLU": _prelu,
    "Softmax": _softmax,
    "Flatten": _reshape,
    "Reshape": _reshape,
    "RepeatVector": _repeat_vector,
    "Permute": lambda call: call.emit(Permute(tuple(call.layer.dims))),
    **_in((1, 2, 3), _zero_padding, "ZeroPadding{}"),
    **_in((1, 2, 3), _cropping, "Cropping{}"),
    **_in((1, 2, 3), _upsample, "UpSampling{}"),
    "Add": _add,
    "Average": _average,
    "Concatenate": _concatenate,
    **_in((1, 2, 3), _identity, "SpatialDropout{}"),
    **dict.fromkeys(
        ("Dropout", "GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization"), _identity
    ),
}
"""Layer classes with a canonical form. `xairt.models.support` names the same classes without TensorFlow."""
