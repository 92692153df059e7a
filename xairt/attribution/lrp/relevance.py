"""Relevance on its way through a network."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True, eq=False)
class Relevance:
    """Relevance at a node: its value times a multiplier, where the relevance is in proportion to the value.

    So it is behind every rule whose terms are a_i w_ij. Kept as a product it passes rectifiers, routes, sums
    and the z rule without a division, and where the value is 0 there is none.

    Attributes
    ----------
    multiplier : tf.Tensor
        (samples, ...), shaped like the node.
    value : tf.Tensor or None
        The node's value, or what a rectifier behind the node makes of it; None where the multiplier is the
        relevance itself.
    rectified : bool
        Whether there is relevance only where the node's value is positive.
    """

    multiplier: tf.Tensor
    value: tf.Tensor | None = None
    rectified: bool = False

    @property
    def amount(self) -> tf.Tensor:
        """The relevance."""
        return self.multiplier if self.value is None else self.value * self.multiplier

    @property
    def per_value(self) -> tf.Tensor:
        """The relevance divided by the node's value, 0 where there is none."""
        if self.rectified:
            return tf.raw_ops.ReluGrad(gradients=self.multiplier, features=self.value)
        return tf.where(self.value == 0, tf.zeros_like(self.multiplier), self.multiplier)

    @property
    def to_pass(self) -> tf.Tensor:
        """What a route hands back to its inputs: the multiplier of the node's own value."""
        return self.per_value if self.rectified else self.multiplier

    def passed_to(self, multiplier: tf.Tensor, value: tf.Tensor) -> Relevance:
        """Return the relevance of the input of a route, which copies numbers, from what was handed back to it."""
        return Relevance(multiplier, None if self.value is None else value, self.rectified)

    def behind_rectifier(self) -> Relevance:
        """Return the same relevance at the input of a rectifier, whose output has it."""
        return self if self.value is None else Relevance(self.multiplier, self.value, rectified=True)

    def plus(self, other: Relevance) -> Relevance:
        """Return the sum of two relevances of the same node."""
        if self.value is None or self.value is not other.value:
            return Relevance(self.amount + other.amount)
        return Relevance(self.multiplier + other.multiplier, self.value, self.rectified and other.rectified)


def per_sample(amount: tf.Tensor) -> tf.Tensor:
    """Return the sum over all axes but the first."""
    return tf.reduce_sum(amount, axis=list(range(1, amount.shape.rank)))
