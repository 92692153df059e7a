"""The native engine: compiled functions over fixed blocks of samples."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from xairt.attribution.blocks import Block, Setting, compiled
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
    size : int
        Samples per block.
    """

    name = "native"

    def __init__(self, setting: Setting, call: MethodCall, size: int) -> None:
        self.setting, self.call, self.size = setting, call, size
        outputs = setting.outputs
        explain = call.method.build(setting, call.parameters)
        scalar = setting.scalar(outputs)

        def run(x: tf.Tensor, indices: tf.Tensor, keys: tf.Tensor) -> dict[str, tf.Tensor]:
            chosen = setting.target.chosen(outputs(x), indices)
            explained = explain(Block(x, chosen, keys))
            result = {"attribution": explained.attribution, "prediction": scalar(x, chosen), "target": chosen}
            if explained.promised is not None:
                result["promised"] = explained.promised
            return result | explained.ledger

        self._run = self._compiled(run)
        self._layers = None

    def _compiled(self, function):
        shape = (self.size, *self.setting.network.input_shape)
        return compiled(
            function,
            tf.TensorSpec(shape, self.setting.dtype),
            tf.TensorSpec((self.size,), tf.int32),
            tf.TensorSpec((self.size, 2), tf.int32),
        )

    def __call__(self, x: np.ndarray, indices: np.ndarray, keys: np.ndarray) -> dict[str, np.ndarray]:
        """Explain one block of exactly `size` samples.

        Parameters
        ----------
        x : numpy.ndarray
            (size, ...) samples.
        indices : numpy.ndarray
            (size,) target indices, -1 where the largest output is meant.
        keys : numpy.ndarray
            (size, 2) seed and sample index.
        """
        return {k: v.numpy() for k, v in self._run(*map(tf.constant, (x, indices, keys))).items()}

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
        if self._layers is None:
            outputs = self.setting.outputs
            explain = make(self.setting, self.call.parameters)

            def run(x: tf.Tensor, indices: tf.Tensor, keys: tf.Tensor) -> list:
                return explain(Block(x, self.setting.target.chosen(outputs(x), indices), keys))[1]

            self._layers = self._compiled(run)
        ledger = self._layers(*map(tf.constant, (x, indices, keys)))
        return [(_text(name), {k: v.numpy() for k, v in entries.items()}) for name, entries in ledger]


def _text(name: tf.Tensor | str) -> str:
    return name if isinstance(name, str) else name.numpy().decode()
