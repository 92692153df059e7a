"""The scalar of each sample that is explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from xairt.attribution.network import Network
from xairt.attribution.parameters import as_array, one_line
from xairt.errors import DataError

TargetLike = None | int | Sequence[int] | np.ndarray | Callable
"""None, an output's index, an index per sample, or a function from the outputs to one scalar per sample."""


@dataclass(frozen=True, eq=False)
class Target:
    """How a scalar is chosen among the outputs.

    Attributes
    ----------
    kind : {"only", "largest", "index", "callable"}
        The only output, each sample's largest (before a final softmax or sigmoid), given indices, or
        a function.
    n_outputs : int
        Number of outputs that an index may name (1 for a callable).
    indices : numpy.ndarray or None
        One index, or one per sample.
    function : callable or None
        From the output tensor (or the tuple of them) to shape (samples,).
    description : str
        What goes into the method's identity.
    """

    kind: str
    n_outputs: int
    indices: np.ndarray | None
    function: Callable | None
    description: str

    @classmethod
    def of(cls, target: TargetLike, network: Network) -> Target:
        """Check a target against a network.

        Raises
        ------
        DataError
            If the index is out of range or not an integer, the outputs need a callable target, or a
            callable gives something else than one number per sample.
        """
        shapes = network.output_shapes
        if callable(target):
            name = getattr(target, "__qualname__", type(target).__name__)
            made = cls("callable", 1, None, target, f"callable {name}")
            made._try(shapes)
            return made
        if len(shapes) > 1 or len(shapes[0]) > 1:
            raise DataError(
                f"model '{network.name}' has outputs of shape {' and '.join(map(str, shapes))}: give a callable "
                "target that maps them to one number per sample, e.g. target=lambda y: tf.reduce_mean(y, axis=(1, 2, 3))"
            )
        n_outputs = shapes[0][0] if shapes[0] else 1
        if target is None:
            kind = "only" if n_outputs == 1 else "largest"
            return cls(kind, n_outputs, None, None, kind)
        indices = as_array(target, "target")
        if indices.dtype.kind not in "iu" or indices.ndim > 1:
            raise DataError(
                f"target {one_line(target)} is not an output index: give an integer, one integer per sample, or a callable"
            )
        _check_range(indices, n_outputs)
        text = str(int(indices)) if indices.ndim == 0 else "index per sample"
        return cls("index", n_outputs, indices.astype(np.int32), None, text)

    def per_sample(self, n: int) -> np.ndarray:
        """Return an index for each of n samples (int32); -1 where none is given."""
        if self.indices is None:
            return np.full(n, -1, np.int32)
        if self.indices.ndim == 1 and len(self.indices) != n:
            raise DataError(
                f"target has {len(self.indices)} indices for {n} samples: give one per sample, or one for all"
            )
        return np.broadcast_to(self.indices, n)

    def select(self, outputs: tuple[tf.Tensor, ...], indices: tf.Tensor) -> tf.Tensor:
        """Return the explained scalar (samples,) of the outputs; `indices` as from `chosen`.

        The index is chosen once at the sample itself and kept along a path or under noise.
        """
        if self.kind == "callable":
            return self._call(outputs)
        return tf.gather(self._flat(outputs), indices, axis=1, batch_dims=1)

    def chosen(self, outputs: tuple[tf.Tensor, ...], indices: tf.Tensor) -> tf.Tensor:
        """Return the index of the explained output of each sample (int32); -1 for a callable."""
        if self.kind in ("callable", "index"):
            return indices
        return tf.argmax(self._flat(outputs), axis=1, output_type=tf.int32)

    def _flat(self, outputs: tuple[tf.Tensor, ...]) -> tf.Tensor:
        return tf.reshape(outputs[0], (-1, self.n_outputs))

    def _try(self, shapes: tuple[tuple[int, ...], ...]) -> None:
        """Call the function once with zeros for a number of samples that is no other size of the outputs."""
        n = 1 + max((size for shape in shapes for size in shape), default=1)
        self._call(tuple(tf.zeros((n, *shape)) for shape in shapes))

    def _call(self, outputs: tuple[tf.Tensor, ...]) -> tf.Tensor:
        value = self.function(outputs[0] if len(outputs) == 1 else outputs)
        if not tf.is_tensor(value) or not value.shape.is_compatible_with(outputs[0].shape[:1]):
            got = f"shape {tuple(value.shape)}" if tf.is_tensor(value) else type(value).__name__
            raise DataError(
                f"the callable target returned {got}: it must return a TensorFlow tensor of one number per sample"
            )
        return value


def _check_range(indices: np.ndarray, n_outputs: int) -> None:
    wrong = indices[(indices < 0) | (indices >= n_outputs)] if indices.ndim else indices
    if (indices.ndim and wrong.size) or (not indices.ndim and not 0 <= indices < n_outputs):
        first = int(wrong.flat[0])
        raise DataError(
            f"target {first} is out of range: the model has {n_outputs} output(s), 0 to {n_outputs - 1}"
        )
