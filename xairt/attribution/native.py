"""The native engine: compiled functions over fixed blocks of samples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from xairt.attribution.blocks import Block, Setting, block_sizes, compiled, noise
from xairt.attribution.registry import MethodCall
from xairt.errors import MethodError


class NativeEngine:
    """One method compiled for one model.

    Parameters
    ----------
    setting : Setting
        Model, target, baseline and dtype.
    call : MethodCall
        The method and its parameters.
    size : int or None
        Samples per block; None chooses by the network and by what the method costs.

    Attributes
    ----------
    sizes : tuple of int
        Samples in a block for few samples, and in one for many.
    """

    name = "native"

    def __init__(self, setting: Setting, call: MethodCall, size: int | None = None) -> None:
        self.setting, self.call = setting, call
        evaluations = call.method.evaluations(call.parameters, setting)
        self.sizes = block_sizes(setting.rows, evaluations) if size is None else (size, size)
        self._explain = call.method.build(setting, call.parameters)
        self._explain_layers = None
        self._made = {}
        self._explained = tf.function(self._run, jit_compile=setting.network.compiles_by_xla or None)

    def _block(self, x: tf.Tensor, indices: tf.Tensor, keys: tf.Tensor) -> dict[str, tf.Tensor]:
        shape = self.call.method.noise and self.call.method.noise(self.call.parameters, x.shape[1:])
        drawn = () if shape is None else (noise(keys, shape, self.setting.dtype),)
        return self._explained(x, indices, *drawn)

    def _run(self, x: tf.Tensor, indices: tf.Tensor, *drawn: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = self.setting.outputs(x)
        chosen = self.setting.target.chosen(outputs, indices)
        explained = self._explain(Block(x, chosen, *drawn))
        prediction = self.setting.target.select(outputs, chosen)
        result = {"attribution": explained.attribution, "prediction": prediction, "target": chosen}
        if explained.promised is not None:
            result["promised"] = explained.promised
        return result | explained.ledger

    def _block_layers(self, x: tf.Tensor, indices: tf.Tensor, keys: tf.Tensor) -> list:
        chosen = self.setting.target.chosen(self.setting.outputs(x), indices)
        return self._explain_layers(Block(x, chosen))[1]

    def _compiled(self, function: Callable, size: int) -> Callable:
        """Return a function of this engine compiled for blocks of a size, once for each size."""
        key = (function.__name__, size)
        if key not in self._made:
            shape = (size, *self.setting.network.input_shape)
            self._made[key] = compiled(
                function,
                tf.TensorSpec(shape, self.setting.dtype),
                tf.TensorSpec((size,), tf.int32),
                tf.TensorSpec((size, 2), tf.int32),
            )
        return self._made[key]

    def __call__(self, x: np.ndarray, indices: np.ndarray, keys: np.ndarray) -> dict[str, np.ndarray]:
        """Explain one block.

        Parameters
        ----------
        x : numpy.ndarray
            (b, ...) samples; b is one of `sizes`.
        indices : numpy.ndarray
            (b,) target indices, -1 where the largest output is meant.
        keys : numpy.ndarray
            (b, 2) seed and sample index.
        """
        run = self._compiled(self._block, len(x))
        return {k: v.numpy() for k, v in run(*map(tf.constant, (x, indices, keys))).items()}

    def layers(
        self, x: np.ndarray, indices: np.ndarray, keys: np.ndarray
    ) -> list[tuple[str, dict[str, np.ndarray]]]:
        """Return the ledger of every layer for one block, from the last layer to the first.

        Raises
        ------
        MethodError
            If the method is not LRP.
        """
        make = getattr(self.call.method.build, "with_ledger", None)
        if make is None:
            raise MethodError(f"{self.call.label} keeps no ledger: only the lrp methods do")
        if self._explain_layers is None:
            self._explain_layers = make(self.setting, self.call.parameters)
        run = self._compiled(self._block_layers, len(x))
        ledger = run(*map(tf.constant, (x, indices, keys)))
        return [(_text(name), {k: v.numpy() for k, v in entries.items()}) for name, entries in ledger]


def _text(name: tf.Tensor | str) -> str:
    return name if isinstance(name, str) else name.numpy().decode()
