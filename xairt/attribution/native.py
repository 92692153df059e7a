"""The native engine: compiled functions over fixed blocks of samples."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from xairt.attribution.blocks import (
    Block,
    Setting,
    block_sizes,
    compiled,
    noise,
    sum_in_float64,
    with_largest,
)
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
        Samples that a block may hold, in rising order.
    threads : int
        Blocks to be computed at a time: one uses the cores that the other leaves idle between its operations.
    """

    name = "native"
    threads = 2

    def __init__(self, setting: Setting, call: MethodCall, size: int | None = None) -> None:
        self.setting, self.call = setting, call
        setting.network.outputs(setting.dtype)  # weights become tensors here, outside of compiled functions
        evaluations = call.method.evaluations(call.parameters, setting)
        graph = setting.network.graph
        chosen = block_sizes(setting.rows, evaluations, 0 if graph is None else graph.multiply_adds())
        self.sizes = chosen if size is None else with_largest(chosen, size)
        self._explain = call.method.build(setting, call.parameters)
        self._explain_layers = None
        self._made, self._making = {}, threading.Lock()
        asked = call.method.noise
        self._noise_shape = asked and asked(call.parameters, setting.network.input_shape)

    def _block(self, x: tf.Tensor, indices: tf.Tensor, *drawn: tf.Tensor) -> dict[str, tf.Tensor]:
        block = Block.of(self.setting, x, indices, *drawn)
        explained = self._explain(block)
        attribution = explained.attribution
        result = {"attribution": attribution, "prediction": block.value, "target": block.indices}
        if explained.promised is not None:
            result["promised"] = explained.promised
            result["total"] = sum_in_float64(attribution)
            result["magnitude"] = sum_in_float64(tf.abs(attribution))
        return result | explained.ledger

    def _block_layers(self, x: tf.Tensor, indices: tf.Tensor) -> list:
        return self._explain_layers(Block.of(self.setting, x, indices))[1]

    def _compiled(self, function: Callable, *arguments: np.ndarray, jit: bool) -> Callable:
        """Return a function of this engine compiled for arguments of these shapes, once for each shape."""
        key = (function.__name__, len(arguments[0]))
        with self._making:
            if key not in self._made:
                specs = (tf.TensorSpec(a.shape, a.dtype) for a in arguments)
                self._made[key] = compiled(function, *specs, jit=jit)
            return self._made[key]

    def __call__(self, x: np.ndarray, indices: np.ndarray, keys: np.ndarray) -> dict[str, np.ndarray]:
        """Explain one block; may be called by several threads at once.

        Parameters
        ----------
        x : numpy.ndarray
            (b, ...) samples; b is one of `sizes`.
        indices : numpy.ndarray
            (b,) target indices, -1 where the largest output is meant.
        keys : numpy.ndarray
            (b, 2) seed and sample index, which key the noise.

        Returns
        -------
        dict
            ``attribution`` (b, ...), ``prediction`` and ``target`` (b,); where a sum is promised,
            ``promised``, and in float64 the ``total`` and ``magnitude`` (sum of sizes) of the attribution;
            the ledger's totals. Arrays that are read only.
        """
        arguments = [x, indices]
        if self._noise_shape is not None:
            arguments.append(noise(keys, self._noise_shape, self.setting.dtype))
        by_xla = self.call.method.by_xla and self.setting.compiles_by_xla
        run = self._compiled(self._block, *arguments, jit=by_xla)
        results = run(*map(tf.constant, arguments))
        return {name: np.asarray(memoryview(value)) for name, value in results.items()}

    def layers(self, x: np.ndarray, indices: np.ndarray) -> list[tuple[str, dict[str, np.ndarray]]]:
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
        run = self._compiled(self._block_layers, x, indices, jit=False)
        ledger = run(tf.constant(x), tf.constant(indices))
        return [(_text(name), {k: v.numpy() for k, v in entries.items()}) for name, entries in ledger]


def _text(name: tf.Tensor | str) -> str:
    return name if isinstance(name, str) else name.numpy().decode()
