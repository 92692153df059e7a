"""What an optimal input minimises: the loss of the model's output, plus the regularisers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from xairt.attribution.network import Network, Outputs
from xairt.attribution.parameters import as_array, one_line
from xairt.attribution.targets import Target
from xairt.errors import DataError, suggest
from xairt.optimal_input.regularisers import Penalty

LOSSES = ("crossentropy", "squared_error", "maximise", "minimise")

Columns = dict[str, tf.Tensor]
"""Numbers of each start (starts,): ``loss``, ``penalty``, ``prediction``, and for a class ``probability``."""


@dataclass(frozen=True, eq=False)
class Goal:
    """What the model is to predict.

    Attributes
    ----------
    loss : str
        One of `LOSSES`.
    target : Target
        The output that the loss looks at.
    value : numpy.ndarray or None
        What it is to reach: one number, or one for each start.
    final_activation : str or None
        The softmax or sigmoid that was taken off the model.
    """

    loss: str
    target: Target
    value: np.ndarray | None
    final_activation: str | None

    @classmethod
    def of(cls, network: Network, target: Any, value: Any, loss: str | None) -> Goal:
        """Check what is asked for against the network.

        Raises
        ------
        DataError
            If the loss is unknown, or the target or value that it needs is missing, superfluous or out of range.
        """
        final = network.final_activation
        if loss is None:
            loss = "crossentropy" if final else "squared_error"
        if loss not in LOSSES:
            raise DataError(
                f"loss {one_line(loss)} is unknown; choose {', '.join(LOSSES)}{suggest(loss, LOSSES)}"
            )
        chosen = Target.of(target, network)
        if chosen.kind == "largest":
            raise DataError(
                f"model '{network.name}' has {chosen.n_outputs} outputs: give target=, 0 to {chosen.n_outputs - 1}"
            )
        made = cls(loss, chosen, None, final)
        return cls(loss, chosen, made._checked(value), final)

    @property
    def is_softmax(self) -> bool:
        """Whether the loss compares classes that exclude each other."""
        several = self.final_activation is None and self.target.n_outputs > 1
        return self.loss == "crossentropy" and (self.final_activation == "softmax" or several)

    def _checked(self, value: Any) -> np.ndarray | None:
        if self.loss == "crossentropy" and self.target.kind == "callable":
            raise DataError(
                "loss 'crossentropy' needs the index of a class; for a callable target use another"
            )
        if value is None:
            if self.loss == "squared_error":
                raise DataError("loss 'squared_error' needs value=, what to reach; or give loss='maximise'")
            return np.ones(()) if self.loss == "crossentropy" and not self.is_softmax else None
        if self.is_softmax or self.loss in ("maximise", "minimise"):
            raise DataError(f"value {one_line(value)}: loss '{self.loss}' takes none; leave it out")
        values = as_array(value, "value", "float64")
        if values.ndim > 1 or not np.isfinite(values).all():
            raise DataError(f"value {one_line(value)} is not finite; give a number, or one for each start")
        if self.loss == "crossentropy" and not ((values >= 0) & (values <= 1)).all():
            raise DataError(
                f"value {one_line(value)} is no probability; give 0 to 1, or loss='squared_error'"
            )
        return values

    def columns(self, outputs: tuple[tf.Tensor, ...], n: int) -> Columns:
        """Return loss, prediction and for a class the probability (n,) of outputs with logits."""
        indices = tf.constant(self.target.per_sample(n))
        only = indices if self.target.kind == "index" else tf.zeros_like(indices)
        prediction = self.target.select(outputs, only)
        if self.is_softmax:
            loss = tf.reduce_logsumexp(tf.reshape(outputs[0], (n, -1)), axis=1) - prediction
            return {"loss": loss, "prediction": prediction, "probability": tf.exp(-loss)}
        if self.loss == "crossentropy":
            aims = tf.constant(np.broadcast_to(self.value, n), prediction.dtype)
            loss = tf.nn.sigmoid_cross_entropy_with_logits(aims, prediction)
            return {"loss": loss, "prediction": prediction, "probability": tf.sigmoid(prediction)}
        if self.loss == "squared_error":
            aims = tf.constant(np.broadcast_to(self.value, n), prediction.dtype)
            return {"loss": tf.square(prediction - aims), "prediction": prediction}
        sign = -1.0 if self.loss == "maximise" else 1.0
        return {"loss": sign * prediction, "prediction": prediction}

    def identity(self) -> dict[str, Any]:
        """Return what identifies the goal."""
        indices, value = self.target.indices, self.value
        return {
            "loss": self.loss,
            "target": self.target.description if indices is None else indices.tolist(),
            "value": None if value is None else value.tolist(),
        }


@dataclass(frozen=True, eq=False)
class Objective:
    """The function of the inputs that is minimised, each start for itself.

    Attributes
    ----------
    outputs : callable
        From inputs to the model's outputs, with logits.
    goal : Goal
    penalties : sequence of (float, callable)
        Weight and penalty of each regulariser.
    """

    outputs: Outputs
    goal: Goal
    penalties: Sequence[tuple[float, Penalty]]

    def columns(self, x: tf.Tensor) -> Columns:
        """Return loss, penalty (with its weights), prediction and probability of each start."""
        found = self.goal.columns(self.outputs(x), x.shape[0])
        penalty = tf.zeros_like(found["loss"])
        for weight, function in self.penalties:
            penalty += weight * function(x)
        return found | {"penalty": penalty}

    def total(self, x: tf.Tensor) -> tf.Tensor:
        """Return the sum over all starts; its gradient by one start does not depend on the others."""
        found = self.columns(x)
        return tf.reduce_sum(found["loss"] + found["penalty"])
