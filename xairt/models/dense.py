"""Dense layers as data: what a fully connected network is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import tensorflow as tf

from xairt.errors import ModelError, suggest

CONSTRAINTS = ("max_norm", "min_max_norm", "non_neg", "radial_constraint", "unit_norm")
"""Keras's constraints by name, each with its defaults."""

Constraint = str | tf.keras.constraints.Constraint | None


@dataclass(frozen=True)
class DenseLayer:
    """One layer of `xairt.models.architectures.dense_network`.

    Attributes
    ----------
    size : int
        Units, >= 1.
    activation : str
        Name of a Keras activation.
    use_bias : bool
        Whether the units have a bias.
    l1, l2 : float
        Regularisation of the weights: l1 sum |w| + l2 sum w^2 is added to the loss.
    bias_l1, bias_l2 : float
        The same of the biases.
    constraint, bias_constraint : str, Keras constraint or None
        What weights and biases are brought to after each step: one of `CONSTRAINTS`, or a Keras object.

    Raises
    ------
    ModelError
        If a field has a value that it cannot have; the message names it.
    """

    size: int
    activation: str = "relu"
    use_bias: bool = True
    l1: float = 0.0
    l2: float = 0.0
    bias_l1: float = 0.0
    bias_l2: float = 0.0
    constraint: Constraint = None
    bias_constraint: Constraint = None

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int | np.integer) or self.size < 1:
            raise ModelError(f"size = {self.size!r}: give a whole number of units, 1 or more")
        if not isinstance(self.use_bias, bool):
            raise ModelError(f"use_bias = {self.use_bias!r}: give True or False")
        _require_activation(self.activation)
        for name in ("l1", "l2", "bias_l1", "bias_l2"):
            _require_strength(name, getattr(self, name))
        for name in ("constraint", "bias_constraint"):
            _require_constraint(name, getattr(self, name))
        if not self.use_bias and (self.bias_l1 or self.bias_l2 or self.bias_constraint is not None):
            raise ModelError("use_bias = False: there is no bias to regularise or constrain; leave that out")


def dense_layers(layers: Sequence[DenseLayer | Mapping[str, Any]]) -> tuple[DenseLayer, ...]:
    """Return layers, each given as a `DenseLayer` or as a mapping of its fields.

    Raises
    ------
    ModelError
        If there is none, a field is unknown, or a field has a value that it cannot have; the message names layer
        (from 1) and field.

    Examples
    --------
    >>> [layer.size for layer in dense_layers([{"size": 8, "l2": 10.0}, DenseLayer(2, "softmax")])]
    [8, 2]
    """
    if isinstance(layers, str | Mapping) or not isinstance(layers, Sequence) or not layers:
        raise ModelError(f"layers = {layers!r}: give a list of one layer or more, {{'size': 8}} for example")
    return tuple(_dense_layer(position, given) for position, given in enumerate(layers, start=1))


def _dense_layer(position: int, given: DenseLayer | Mapping[str, Any]) -> DenseLayer:
    if isinstance(given, DenseLayer):
        return given
    names = [field.name for field in fields(DenseLayer)]
    if not isinstance(given, Mapping) or "size" not in given:
        raise ModelError(f"layer {position}: {given!r} names no size; give {{'size': 8}} for example")
    for name in given:
        if name not in names:
            raise ModelError(
                f"layer {position}: no field '{name}'; a layer has {', '.join(names)}{suggest(name, names)}"
            )
    try:
        return DenseLayer(**given)
    except ModelError as error:
        raise ModelError(f"layer {position}: {error}") from None


def _require_activation(name: Any) -> None:
    try:
        known = isinstance(name, str) and callable(tf.keras.activations.get(name))
    except ValueError:
        known = False
    if not known:
        likely = (
            "elu",
            "exponential",
            "linear",
            "relu",
            "selu",
            "sigmoid",
            "softmax",
            "softplus",
            "swish",
            "tanh",
        )
        raise ModelError(f"activation = {name!r}: give a Keras activation by name{suggest(name, likely)}")


def _require_strength(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 <= value < math.inf:
        raise ModelError(f"{name} = {value!r}: give a number, 0 or more")


def _require_constraint(name: str, value: Any) -> None:
    known = value in CONSTRAINTS if isinstance(value, str) else True
    if not known or not isinstance(value, str | tf.keras.constraints.Constraint | None):
        raise ModelError(
            f"{name} = {value!r}: give {', '.join(CONSTRAINTS)} or a Keras constraint{suggest(value, CONSTRAINTS)}"
        )
