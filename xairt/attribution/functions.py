"""TensorFlow functions as the explainers see them: with the affine front that they begin with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from xairt.attribution.network import Front, Network, Rest
from xairt.errors import MethodError, ModelError, reason_of

TFFunction = Callable[[tf.Tensor], tf.Tensor]
"""A differentiable TensorFlow function from samples (n, ...) to (n,) or (n, outputs)."""

LARGEST_CUT = 4
"""Numbers at the end of the front, in those of a sample, up to which it is worth its own step."""

_OF_ALL = frozenset({"Add", "AddN", "AddV2", "BiasAdd", "ConcatV2", "Identity", "Neg", "Pack", "Sub"})
"""Operations that are affine where all their arguments are."""

_WEIGHTED = frozenset(
    {"BatchMatMul", "BatchMatMulV2", "Conv2D", "DepthwiseConv2dNative", "Einsum", "MatMul", "Mul"}
)
"""Operations that are linear in one argument, the other being constant."""

_SUMMED = frozenset({"AvgPool", "Mean", "Sum"})

_READ = frozenset({"GatherNd", "GatherV2", "Slice", "Split", "SplitV", "StridedSlice", "Unpack"})

_ARRANGED = frozenset({"BroadcastTo", "ExpandDims", "Pad", "Reshape", "Squeeze", "Tile", "Transpose"})

_OF_ONE = _WEIGHTED | _SUMMED | _READ | _ARRANGED
"""Operations that are linear in one argument, whatever constants (axes, places, weights) the others are."""

_NUMERATOR_ONLY = "RealDiv"


def network_of_function(function: TFFunction, input_shape: tuple[int, ...]) -> Network:
    """Return a TensorFlow function as a network without a canonical graph.

    The operations that the function begins with and that are affine in the samples (reading of pixels,
    sums and means, products with constant matrices) become the network's front, so that methods along a
    path compute them at its ends only. A function decorated with ``tf.function`` is taken as a whole.

    Parameters
    ----------
    function : callable
        Maps (n, *input_shape) float32 to (n,) or (n, outputs) float32; each sample by itself.
    input_shape : tuple of int
        Shape of one sample.

    Raises
    ------
    ModelError
        If it is no such function.
    """
    name = getattr(function, "__name__", type(function).__name__)
    trial = np.random.default_rng(0).standard_normal((3, *input_shape)).astype(np.float32)
    shape = _tried(function, name, trial)
    obstacle = MethodError(f"'{name}' is a TensorFlow function: use dtype='float32'")
    parts = _parts(function, name, trial)
    as_written = tf.autograph.experimental.do_not_convert(function)
    return Network(
        *(name, input_shape, ("x",), (input_shape,), (shape,), None, None, obstacle),
        keras_outputs=lambda x: (as_written(x),),
        parts=parts,
    )


def _tried(function: TFFunction, name: str, trial: np.ndarray) -> tuple[int, ...]:
    """Return the shape of a sample's output after trying the function on samples together and alone."""
    try:
        together = function(tf.constant(trial))
        alone = [function(tf.constant(sample[None])) for sample in trial]
    except Exception as error:
        remedy = "one that takes them" if trial.ndim > 1 else "samples (n, features), as x[:, None], or one"
        raise ModelError(
            f"function '{name}' fails on samples of shape {trial.shape}: {type(error).__name__}: "
            f"{reason_of(error)}; give {remedy}"
        ) from error
    fits = tf.is_tensor(together) and together.dtype == tf.float32 and together.shape.rank in (1, 2)
    if not fits or len(together) != len(trial):
        got = (
            f"{together.dtype.name} {tuple(together.shape)}"
            if tf.is_tensor(together)
            else type(together).__name__
        )
        raise ModelError(
            f"function '{name}' returned {got} for {len(trial)} samples: return a float32 tensor (samples,) or "
            "(samples, outputs)"
        )
    if not np.allclose(together, np.concatenate(alone), rtol=1e-3, atol=1e-5, equal_nan=True):
        raise ModelError(
            f"function '{name}' gives a sample another number when it comes with others: compute each by itself"
        )
    return tuple(together.shape[1:])


def _parts(function: TFFunction, name: str, trial: np.ndarray) -> tuple[Front, Rest] | None:
    """Return the affine front and the rest of a function; None where there is no front worth its own step."""
    traced = _traced(function, name, trial.shape[1:])
    given, result = traced.inputs[0], traced.outputs[0]
    cut = _cut(traced.graph, given, result)
    numbers = sum(t.shape[1:].num_elements() for t in cut)
    if given.ref() in {t.ref() for t in cut} or numbers > LARGEST_CUT * trial[0].size:
        return None
    before, behind = traced.prune([given], cut), traced.prune(cut, [result])

    def front(x: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return tuple(before(x))

    def rest(*tensors: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return tuple(behind(*tensors))

    return (front, rest) if _agree(function, front, rest, trial) else None


def _traced(function: TFFunction, name: str, input_shape: tuple[int, ...]) -> Any:
    """Return the function of samples (n, *input_shape) as a graph."""
    spec = tf.TensorSpec((None, *input_shape), tf.float32)
    try:
        return tf.compat.v1.wrap_function(lambda x: tf.identity(function(x)), [spec])
    except Exception as error:
        raise ModelError(
            f"function '{name}' computes with numbers, not with tensors alone: {type(error).__name__}: "
            f"{reason_of(error)}; write it in TensorFlow operations, or put tf.function before it where it "
            "holds if or for of tensors"
        ) from error


def _cut(graph: tf.Graph, given: tf.Tensor, result: tf.Tensor) -> list[tf.Tensor]:
    """Return the last tensors that are affine in the samples, on every way from them to the result."""
    depends, affine = {given.ref()}, {given.ref()}
    cut = []
    for operation in graph.get_operations():
        arguments = [t.ref() for t in operation.inputs if t.ref() in depends]
        if not arguments:
            continue
        depends.update(t.ref() for t in operation.outputs)
        if set(arguments) <= affine and _is_affine(operation, arguments):
            affine.update(t.ref() for t in operation.outputs)
        else:
            cut += [t for t in arguments if t in affine and t not in cut]
    if result.ref() in affine:
        cut.append(result.ref())
    return [t.deref() for t in cut]


def _is_affine(operation: tf.Operation, arguments: list) -> bool:
    """Return whether an operation on affine arguments gives samples along the first axis, affine again."""
    by_sample = all(
        t.shape.rank and t.shape[0] is None and t.shape[1:].is_fully_defined() for t in operation.outputs
    )
    if operation.type == _NUMERATOR_ONLY:
        return by_sample and arguments == [operation.inputs[0].ref()]
    return by_sample and (operation.type in _OF_ALL or (operation.type in _OF_ONE and len(arguments) == 1))


def _agree(function: TFFunction, front: Front, rest: Rest, trial: np.ndarray) -> bool:
    """Return whether the parts give what the function gives, each sample by itself and along a line."""
    ends = front(tf.constant(trial))
    if any(len(t) != len(trial) for t in ends):
        return False
    middle = front(tf.constant((trial[:1] + trial[1:2]) / 2))
    on_line = (
        np.allclose(m[0], (t[0] + t[1]) / 2, rtol=1e-3, atol=1e-4) for m, t in zip(middle, ends, strict=True)
    )
    return all(on_line) and np.allclose(rest(*ends)[0], function(tf.constant(trial)), rtol=1e-3, atol=1e-5)


def numbers_per_row(network: Network) -> int:
    """Return how many numbers the operations of a network without a canonical graph give for one sample."""
    spec = tf.TensorSpec((None, *network.input_shape), tf.float32)
    graph = tf.function(network.outputs()).get_concrete_function(spec).graph
    shapes = [t.shape for operation in graph.get_operations() for t in operation.outputs]
    by_sample = [s[1:] for s in shapes if s.rank and s[0] is None and s[1:].is_fully_defined()]
    return sum(s.num_elements() for s in by_sample)
