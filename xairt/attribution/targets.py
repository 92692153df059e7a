"""The scalar of each sample that is explained."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any

import numpy as np
import tensorflow as tf

from xairt.attribution.network import Network
from xairt.attribution.parameters import as_array, one_line
from xairt.errors import DataError
from xairt.models.graph.nodes import pull_back_each

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
            made = cls("callable", 1, None, target, f"callable {name} {code_digest(target)}")
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

    def slopes(
        self,
        outputs: tuple[tf.Tensor, ...],
        indices: tf.Tensor,
        start: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
    ) -> list[tf.Tensor]:
        """Return the derivative of `start` of the explained scalar by each output, shaped like it."""
        return pull_back_each(
            lambda *values: start(self.select(values, indices)),
            outputs,
            tf.ones(outputs[0].shape[:1], outputs[0].dtype),
        )

    def _flat(self, outputs: tuple[tf.Tensor, ...]) -> tf.Tensor:
        return tf.reshape(outputs[0], (-1, self.n_outputs))

    def _try(self, shapes: tuple[tuple[int, ...], ...]) -> None:
        """Call the function for a number of samples that is no other size of the outputs, and for one of them."""
        n = 1 + max((size for shape in shapes for size in shape), default=1)
        rng = np.random.default_rng(0)
        drawn = [rng.standard_normal((n, *shape)).astype(np.float32) for shape in shapes]
        try:
            together = self._call(tuple(map(tf.constant, drawn)))
            alone = self._call(tuple(tf.constant(value[:1]) for value in drawn))
        except DataError:
            raise
        except Exception as error:
            raise DataError(
                f"the callable target fails: {type(error).__name__}: {one_line(error)}"
            ) from error
        if not np.allclose(together[:1], alone, rtol=1e-4, atol=1e-6, equal_nan=True):
            raise DataError(
                "the callable target gives a sample another number when it comes with others: use its own outputs alone"
            )

    def _call(self, outputs: tuple[tf.Tensor, ...]) -> tf.Tensor:
        value = self.function(outputs[0] if len(outputs) == 1 else outputs)
        if not tf.is_tensor(value) or not value.shape.is_compatible_with(outputs[0].shape[:1]):
            got = f"shape {tuple(value.shape)}" if tf.is_tensor(value) else type(value).__name__
            raise DataError(
                f"the callable target returned {got}: it must return a TensorFlow tensor of one number per sample"
            )
        if value.dtype != outputs[0].dtype:
            raise DataError(
                f"the callable target returned {value.dtype.name} for outputs of {outputs[0].dtype.name}: keep their type"
            )
        return value


def _check_range(indices: np.ndarray, n_outputs: int) -> None:
    wrong = indices[(indices < 0) | (indices >= n_outputs)] if indices.ndim else indices
    if (indices.ndim and wrong.size) or (not indices.ndim and not 0 <= indices < n_outputs):
        first = int(wrong.flat[0])
        raise DataError(
            f"target {first} is out of range: the model has {n_outputs} output(s), 0 to {n_outputs - 1}"
        )


def code_digest(function: Callable) -> str:
    """Return what tells two callables of the same name apart, the same in every process.

    Parameters
    ----------
    function : callable
        A function, a lambda, a `functools.partial`, or an object with ``__call__``.

    Returns
    -------
    str
        12 hexadecimal digits of a SHA-256 over the bytecode and its constants, the defaults, and the values
        that the code takes from around it: closures and attributes, and global numbers, texts and arrays.

    Examples
    --------
    >>> code_digest(lambda y: y[:, 0]) == code_digest(lambda y: y[:, 0])
    True
    >>> code_digest(lambda y: y[:, 0]) == code_digest(lambda y: y[:, 1])
    False
    """
    return hashlib.sha256("\n".join(_described(function)).encode()).hexdigest()[:12]


def _described(value: Any, seen: tuple[int, ...] = ()) -> Iterator[str]:
    """Yield text that describes a value without naming its place in memory."""
    if id(value) in seen:  # a function may close over itself
        return
    seen = (*seen, id(value))
    if isinstance(value, CodeType):
        parts = (value.co_code, value.co_names, value.co_consts)
    elif isinstance(value, functools.partial):
        parts = (value.func, value.args, value.keywords)
    elif isinstance(value, np.ndarray | np.generic) or tf.is_tensor(value):
        parts = (str(np.shape(value)), np.asarray(value).tobytes())
    elif isinstance(value, Mapping):
        parts = [part for item in sorted(value.items(), key=str) for part in item]
    elif isinstance(value, list | tuple):
        parts = value
    elif hasattr(value, "__code__"):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        around = {name: value.__globals__.get(name) for name in value.__code__.co_names}
        parts = (value.__code__, value.__defaults__, value.__kwdefaults__, cells, _plain(around))
    elif isinstance(value, bytes | str | int | float | complex | bool | None):
        yield repr(value)
        return
    elif isinstance(value, frozenset | set):
        parts = sorted(map(repr, value))
    else:
        called = inspect.getattr_static(type(value), "__call__", None)
        state = _plain(getattr(value, "__dict__", {}))
        parts = (type(value).__qualname__, getattr(called, "__code__", ""), state)
    yield f"{type(value).__name__}:"
    for part in parts:
        yield from _described(part, seen)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers, texts and arrays among some values."""
    plain = bool | int | float | complex | str | tuple | list | np.ndarray | np.generic
    return {name: value for name, value in values.items() if isinstance(value, plain)}
