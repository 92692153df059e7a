"""LIME: a local linear model of what happens when features are replaced by the baseline."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from pydantic import Field

from xairt.attribution.blocks import Setting, compiled
from xairt.attribution.groups import GroupedParameters, group_index
from xairt.errors import MethodError


class LimeParameters(GroupedParameters):
    """Parameters of LIME."""

    nsamples: int = Field(1000, ge=2, le=1_000_000, description="number of changed copies of each sample")
    kernel_width: float = Field(
        0.25, gt=0, allow_inf_nan=False, description="width of the kernel of the cosine distance"
    )


class LimeEngine:
    """LIME (Ribeiro et al. 2016, arXiv:1602.04938, section 3) by the lime package.

    A feature (or group) is on, with its value in x, or off, with its value in the baseline; of a baseline set
    the mean over the set is explained. Copies have each feature on with probability one half, weights fall with
    the cosine distance from x, and a ridge regression (penalty 1) of f on the on/off features gives
    the attributions, as in that package's image explainer. A group's weight is shared equally over
    its features. Copies are keyed by seed and sample.

    Parameters
    ----------
    setting : Setting
        Model, target and baseline.
    call : MethodCall
        The method and its parameters.
    size : int or None
        Samples per block; they are explained one after the other.

    Raises
    ------
    MethodError
        If the package is not installed.
    """

    name = "lime"
    threads = 1

    def __init__(self, setting: Setting, call: Any, size: int | None) -> None:
        base = _package()
        self.setting, self.sizes, self._parameters = setting, (size or 1,), call.parameters
        setting.network.outputs(setting.dtype)  # weights become tensors here, outside of compiled functions
        self._index = group_index(call.parameters.groups, setting.network.input_shape)
        width = call.parameters.kernel_width
        self._base = base.LimeBase(
            lambda distance: np.sqrt(np.exp(-(distance**2) / width**2)), random_state=0
        )
        shape = setting.network.input_shape
        self._predict = compiled(
            self._explained, tf.TensorSpec((None, *shape), setting.dtype), tf.TensorSpec((None,), tf.int32)
        )
        self._values = compiled(
            self._mean_of_copies,
            tf.TensorSpec(shape, setting.dtype),
            tf.TensorSpec((), tf.int32),
            tf.TensorSpec((None, len(self._index)), tf.bool),
        )

    def __call__(self, x: np.ndarray, indices: np.ndarray, keys: np.ndarray) -> dict[str, np.ndarray]:
        """Explain one block; see `NativeEngine`."""
        prediction, chosen = (v.numpy() for v in self._predict(tf.constant(x), tf.constant(indices)))
        weights = [self._weights(*sample) for sample in zip(x, chosen, keys, strict=True)]
        shared = np.stack(weights) / np.bincount(self._index)
        attribution = shared[:, self._index].reshape(x.shape).astype(x.dtype)
        return {"attribution": attribution, "prediction": prediction, "target": chosen}

    def _explained(self, x: tf.Tensor, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        outputs = self.setting.outputs(x)
        chosen = self.setting.target.chosen(outputs, indices)
        return self.setting.target.select(outputs, chosen), chosen

    def _mean_of_copies(self, x: tf.Tensor, index: tf.Tensor, on: tf.Tensor) -> tf.Tensor:
        """Return the mean over the baselines of f at copies with features on (copies, features)."""
        on = tf.reshape(on, (-1, *x.shape))
        indices = tf.fill(tf.shape(on)[:1], index)
        scalar = self.setting.scalar(self.setting.outputs)
        baselines = tf.constant(self.setting.baseline, x.dtype)
        return tf.reduce_mean(
            tf.map_fn(lambda b: scalar(tf.where(on, x, b), indices), baselines, fn_output_signature=x.dtype),
            axis=0,
        )

    def _weights(self, x: np.ndarray, index: int, key: np.ndarray) -> np.ndarray:
        """Return the weight of every feature or group of one sample."""
        n, players = self._parameters.nsamples, int(self._index.max()) + 1
        on = np.random.default_rng(key.tolist()).integers(0, 2, (n, players)).astype(bool)
        on[0] = True
        parts = np.array_split(on, -(-n // self.setting.rows))
        values = np.concatenate(
            [
                self._values(tf.constant(x), tf.constant(index), tf.constant(part[:, self._index]))
                for part in parts
            ]
        )
        distances = 1 - np.sqrt(on.mean(axis=1))  # cosine distance from all on; all off is at right angles
        _, ordered, _, _ = self._base.explain_instance_with_data(
            on.astype(float), values[:, None], distances, 0, players, feature_selection="none"
        )
        weights = np.zeros(players)
        for feature, weight in ordered:  # the package orders them by size
            weights[feature] = weight
        return weights


def _package() -> Any:
    try:
        from lime import lime_base
    except ImportError:
        raise MethodError("lime: the package lime is not installed: pip install 'xairt[lime]'") from None
    return lime_base
