"""The one engine that passes relevance backwards through the canonical graph and keeps the ledger."""

from __future__ import annotations

import copy
import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import tensorflow as tf

from xairt.attribution.lrp.relevance import Relevance, per_sample
from xairt.attribution.lrp.rules import POSITIVE, POSITIVE_BY_SIZE, WHOLE, Pot, Rule, Term
from xairt.models.graph.nodes import (
    Activation,
    Add,
    Convolution,
    Dense,
    Evaluator,
    Linear,
    Node,
    Source,
    ZeroPad,
    pull_back,
    pull_back_each,
)

LEDGER = ("absorbed_by_bias", "lost_to_stabiliser", "lost_to_empty_pot")
"""What relevance can be kept back by, each entered on its own."""

MANY_INPUTS = 64
"""Inputs of a unit from which on POSITIVE_BY_SIZE is tried: with few, one sign often outweighs the other by far."""

SMALL_PART = 0.01
"""Part of the size of all contributions below which positive ones are not computed by POSITIVE_BY_SIZE."""

ROUNDING = 16
"""Sums by POSITIVE_BY_SIZE below so many last digits of their last term are rounding error and count as 0."""

RECTIFIED_POSITIVE = (Term("a", "w+"),)
"""POSITIVE for inputs that are never negative."""

LAYER_LEDGER = ("relevance_in", "relevance_out", *LEDGER)

WEIGHT_PARTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "w": lambda w: w,
    "w+": lambda w: np.maximum(w, 0),
    "w-": lambda w: np.minimum(w, 0),
    "|w|": np.abs,
    "w^2": np.square,
    "1": np.ones_like,
}

BIAS_PARTS: dict[str, Callable[[Any], Any]] = {
    "b": lambda b: b,
    "b+": lambda b: (b + abs(b)) / 2,
    "b-": lambda b: (b - abs(b)) / 2,
}
"""Of arrays, and of tensors where every sample has a bias of its own."""

INPUT_PARTS: dict[str, Callable[[tf.Tensor, Rule], tf.Tensor]] = {
    "a": lambda a, rule: a,
    "a+": lambda a, rule: tf.nn.relu(a),
    "a-": lambda a, rule: tf.minimum(a, 0),
    "|a|": lambda a, rule: tf.abs(a),
    "1": lambda a, rule: tf.ones_like(a[:1]),
    "low": lambda a, rule: tf.fill(tf.shape(a[:1]), tf.cast(rule.low, a.dtype)),
    "high": lambda a, rule: tf.fill(tf.shape(a[:1]), tf.cast(rule.high, a.dtype)),
}
"""Parts that are the same for every sample have a sample axis of one."""


@dataclass(eq=False)
class RelevancePass:
    """LRP through one network with fixed rules.

    Parameters
    ----------
    evaluator : Evaluator
        The network and its dtype.
    rules : dict
        Rule of every linear node, see `xairt.attribution.lrp.assignment`.
    zero_guard : float
        Replaces a denominator of exactly 0 (iNNvestigate: 1e-7). By default a pot with such a
        denominator shares out nothing, and the ledger tells what was lost.
    """

    evaluator: Evaluator
    rules: dict[int, Rule]
    zero_guard: float = 0.0
    pots: dict[int, tuple[Pot, ...]] = field(init=False, repr=False)
    by_size: dict[int, Pot] = field(init=False, repr=False)
    kernels: dict[tuple[int, str], tf.Tensor | None] = field(init=False, repr=False)
    biases: dict[tuple[int, str], tf.Tensor | None] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.pots, self.by_size, self.kernels, self.biases = {}, {}, {}, {}
        for position, rule in self.rules.items():
            op = self.evaluator.graph.nodes[position].op
            self.pots[position] = tuple(self._prepared(position, op, pot) for pot in rule.pots)
            pot = self.pots[position][0]
            if pot.terms == POSITIVE and len(rule.pots) == 1 and _inputs_of_unit(op) >= MANY_INPUTS:
                terms = self._live_terms(position, op, POSITIVE_BY_SIZE)
                self.by_size[position] = replace(pot, terms=terms)

    def with_biases(self, biases: dict[int, tf.Tensor]) -> RelevancePass:
        """Return the same pass with other biases at some linear nodes, also one for each sample (samples, ...).

        Its evaluator computes with them too, see `Evaluator.with_biases`.
        """
        other = copy.copy(self)
        other.evaluator = self.evaluator.with_biases(biases)
        parts = {key: BIAS_PARTS[key[1]] for key in self.biases if key[0] in biases and key[1] in BIAS_PARTS}
        other.biases = self.biases | {key: part(biases[key[0]]) for key, part in parts.items()}
        return other

    def _prepared(self, position: int, op: Linear, pot: Pot) -> Pot:
        """Return a pot with the terms that are not zero for every input; keep the weights' parts it needs."""
        for name in (pot.bias, pot.further_bias):
            self.biases[position, name] = self._part(position, BIAS_PARTS, name, op.bias)
        return replace(pot, terms=self._live_terms(position, op, pot.terms))

    def _live_terms(self, position: int, op: Linear, terms: tuple[Term, ...]) -> tuple[Term, ...]:
        for term in terms:
            self.kernels[position, term.weight] = self._part(position, WEIGHT_PARTS, term.weight, op.kernel)
        never_negative = self._never_negative(position)
        return tuple(
            replace(term, activation="a") if never_negative and term.activation in ("a+", "|a|") else term
            for term in terms
            if self.kernels[position, term.weight] is not None
            and not (never_negative and term.activation == "a-")
            and term.factor != 0
        )

    def _never_negative(self, position: int) -> bool:
        """Whether the input of a node cannot be negative."""
        nodes = self.evaluator.graph.nodes
        return nodes[nodes[position].inputs[0]].nonnegative

    def _part(self, position: int, parts: dict, name: str, array: np.ndarray | None) -> tf.Tensor | None:
        """Return a part of a layer's weight as a tensor, None where there is nothing but zeros."""
        if array is None or name not in parts:
            return None
        shared = self.evaluator.derived
        if (position, name) not in shared:
            part = parts[name](array.astype(np.float64))  # squares in float32 would limit float64
            shared[position, name] = tf.constant(part, self.evaluator.dtype) if np.any(part) else None
        return shared[position, name]

    def __call__(
        self, values: list[tf.Tensor], products: dict[int, tf.Tensor], start: list[tf.Tensor]
    ) -> tuple[list[tf.Tensor], list[tuple[str, dict[str, tf.Tensor]]]]:
        """Pass relevance from the outputs to the inputs.

        Parameters
        ----------
        values, products : list, dict
            Of `Evaluator.forward` at the samples to explain.
        start : list of tf.Tensor
            For each output a multiplier shaped like it: output times multiplier is the relevance it starts with.

        Returns
        -------
        relevance : list of tf.Tensor
            At each input of the network, shaped like it.
        ledger : list of (layer name, entries)
            From the last layer to the first; the entries named in `LAYER_LEDGER` have shape (samples,).
        """
        nodes = self.evaluator.graph.nodes
        relevance: dict[int, Relevance] = {}
        for position, multiplier in zip(self.evaluator.graph.outputs, start, strict=True):
            _credit(relevance, position, Relevance(multiplier, values[position]))
        ledger = []
        for position in reversed(range(len(nodes))):
            node = nodes[position]
            if position not in relevance or isinstance(node.op, Source):
                continue
            arriving = relevance.pop(position)
            shares, kept = self._step(position, node, [values[i] for i in node.inputs], products, arriving)
            for source, share in zip(node.inputs, shares, strict=True):
                _credit(relevance, source, share)
            if kept is not None:
                entry = {
                    "relevance_in": per_sample(arriving.amount),
                    "relevance_out": sum(per_sample(share.amount) for share in shares),
                }
                ledger.append((node.name, entry | kept))
        sources = self.evaluator.graph.sources
        reached = [relevance[i].amount if i in relevance else tf.zeros_like(values[i]) for i in sources]
        return reached, ledger

    def _step(
        self,
        position: int,
        node: Node,
        inputs: list[tf.Tensor],
        products: dict[int, tf.Tensor],
        arriving: Relevance,
    ) -> tuple[list[Relevance], dict[str, tf.Tensor] | None]:
        """Return the relevance of a node's inputs and what was kept back (None where nothing can be)."""
        if isinstance(node.op, Linear):
            share, kept = self._linear(position, inputs[0], products[position], arriving)
            return [share], kept
        if isinstance(node.op, Add):
            return self._add(node.op, inputs, arriving)
        if isinstance(node.op, Activation):
            return [arriving.behind_rectifier()], None
        kept = _padding(node.op, inputs[0], arriving) if isinstance(node.op, ZeroPad) else None
        back = pull_back_each(node.op.forward, inputs, arriving.to_pass)
        return [arriving.passed_to(m, value) for m, value in zip(back, inputs, strict=True)], kept

    def _linear(
        self, position: int, a: tf.Tensor, product: tf.Tensor, arriving: Relevance
    ) -> tuple[Relevance, dict[str, tf.Tensor]]:
        """Apply the rule of a linear node."""
        pots, by_size, known = self.pots[position], self.by_size.get(position), {("a", "w"): product}
        per_value = all(term.activation == "a" for pot in pots for term in pot.terms)
        if by_size is None:
            share, kept = self._by_pots(position, pots, a, known, arriving)
        else:
            size = self.evaluator.graph.nodes[position].op.map(tf.abs(a), self.kernels[position, "|w|"])
            quick = functools.partial(
                self._by_pots, position, (by_size,), a, known | {("|a|", "|w|"): size}, arriving
            )
            if arriving.rectified and self._is_full(position, by_size):
                share, kept = quick()  # the positive contributions and the bias outweigh the negative ones
            else:
                large = (product > (2 * SMALL_PART - 1) * size) | (arriving.amount == 0)
                exact = functools.partial(self._by_pots, position, pots, a, known, arriving)
                share, kept = tf.cond(tf.reduce_all(large), quick, exact)
        return Relevance(share, a if per_value else None), kept

    def _by_pots(
        self,
        position: int,
        pots: tuple[Pot, ...],
        a: tf.Tensor,
        known: dict[tuple[str, str], tf.Tensor],
        arriving: Relevance,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Return what the inputs get from the pots, per value of the input if all terms are, and what is kept."""
        rule, apply = self.rules[position], self.evaluator.graph.nodes[position].op.map
        per_value = all(term.activation == "a" for pot in pots for term in pot.terms)
        shares, kept = [], []
        for pot in pots:
            per_unit, entries = self._share_out(position, pot, a, known, arriving)
            parts = []
            for term in pot.terms:
                kernel = self.kernels[position, term.weight]
                back = _scaled(pull_back(lambda v, k=kernel: apply(v, k), a, per_unit), term.factor)
                parts.append(back if per_value else INPUT_PARTS[term.activation](a, rule) * back)
            shares += [_total(pot, parts)] if parts else []
            kept.append(entries)
        entries = {name: _sum([entry[name] for entry in kept]) for name in LEDGER}
        return _sum(shares) if shares else tf.zeros_like(a), entries

    def _share_out(
        self,
        position: int,
        pot: Pot,
        a: tf.Tensor,
        known: dict[tuple[str, str], tf.Tensor],
        arriving: Relevance,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Return relevance per unit of a term of a pot, and what is kept back of what the pot shares out."""
        bias = self._bias(position, pot)
        if arriving.value is not None and self._is_whole(position, pot) and not pot.epsilon:
            per_unit = _scaled(arriving.per_value, pot.share)  # the denominator is the node's own value
            return per_unit, _kept(per_unit, bias)
        amount = self._amount(position, pot, known["a", "w"], arriving.amount)
        denominator = self._denominator(position, a, known, pot, bias)
        return self._divide(
            pot, amount, denominator, bias, arriving.rectified and self._is_full(position, pot)
        )

    def _is_whole(self, position: int, pot: Pot) -> bool:
        """Whether a pot's denominator, but for a stabiliser, is the node's own value."""
        return pot.terms == WHOLE and pot.where == "all" and pot.bias == self._own_bias(position, "b", pot)

    def _is_full(self, position: int, pot: Pot) -> bool:
        """Whether a pot's denominator is positive wherever the node's own value is."""
        if pot.terms == RECTIFIED_POSITIVE:
            positive = self._never_negative(position)
        else:
            positive = pot.terms in (WHOLE, POSITIVE, POSITIVE_BY_SIZE)
        return positive and pot.bias == self._own_bias(position, "b" if pot.terms == WHOLE else "b+", pot)

    def _own_bias(self, position: int, bias: str, pot: Pot) -> str:
        """Return the part of a node's bias asked for, or what the pot has where the node has no bias."""
        return pot.bias if self.evaluator.biases.get(position) is None else bias

    def _bias(self, position: int, pot: Pot) -> tf.Tensor | None:
        """Return what a pot's denominator holds of the bias, None where that is nothing."""
        bias, further = self.biases[position, pot.bias], self.biases[position, pot.further_bias]
        if further is None:
            return bias
        return pot.bias_factor * further if bias is None else bias + pot.bias_factor * further

    def _amount(self, position: int, pot: Pot, product: tf.Tensor, arriving: tf.Tensor) -> tf.Tensor:
        """Return the relevance that a pot shares out."""
        shared = _scaled(arriving, pot.share)
        if pot.where == "all":
            return shared
        bias = self.evaluator.biases.get(position)
        if pot.bias == "none" or bias is None:
            z = product
        else:
            z = product + bias
        chosen = z >= 0 if pot.where == "positive" else z < 0
        return tf.where(chosen, shared, tf.zeros_like(arriving))

    def _denominator(
        self,
        position: int,
        a: tf.Tensor,
        known: dict[tuple[str, str], tf.Tensor],
        pot: Pot,
        bias: tf.Tensor | None,
    ) -> tf.Tensor:
        """Return sum_i t_ij + b_j; its sample axis may be one. `known` holds products of parts, by their names."""
        rule, apply = self.rules[position], self.evaluator.graph.nodes[position].op.map
        parts = []
        for term in pot.terms:
            value = known.get((term.activation, term.weight))
            if value is None:
                value = apply(INPUT_PARTS[term.activation](a, rule), self.kernels[position, term.weight])
            parts.append(_scaled(value, term.factor))
        total = _total(pot, parts) if parts else tf.zeros_like(known["a", "w"][:1])
        return total if bias is None else total + bias

    def _divide(
        self, pot: Pot, amount: tf.Tensor, denominator: tf.Tensor, bias: tf.Tensor | None, full: bool
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Return relevance per unit of a term, and what bias, stabiliser and empty pots keep of `amount`.

        In a full pot the denominator is positive wherever there is relevance.
        """
        stabiliser = (pot.epsilon or None) if full else self._stabiliser(pot, denominator)
        divisor = denominator if stabiliser is None else denominator + stabiliser
        per_unit = tf.math.divide_no_nan(amount, divisor)
        empty = None if full else tf.where(divisor == 0, amount, tf.zeros_like(amount))
        return per_unit, _kept(per_unit, bias, stabiliser, empty)

    def _stabiliser(self, pot: Pot, denominator: tf.Tensor) -> tf.Tensor | None:
        """Return what is added to a denominator, None where that is nothing."""
        if not pot.epsilon and not self.zero_guard:
            return None
        zero = tf.zeros_like(denominator)
        stabiliser = tf.where(denominator >= 0, zero + pot.epsilon, zero - pot.epsilon)
        if self.zero_guard:
            stabiliser += tf.where(denominator + stabiliser == 0, zero + self.zero_guard, zero)
        return stabiliser

    def _add(
        self, op: Add, inputs: list[tf.Tensor], arriving: Relevance
    ) -> tuple[list[Relevance], dict[str, tf.Tensor]]:
        """Share relevance over branches in proportion to their values (z rule)."""
        if arriving.value is None:
            per_unit, kept = self._divide(Pot(()), arriving.amount, op.forward(*inputs), None, full=False)
        else:
            per_unit, kept = arriving.per_value, _kept(arriving.multiplier)
        back = pull_back_each(op.forward, inputs, per_unit)
        return [Relevance(b, value) for value, b in zip(inputs, back, strict=True)], kept


def totals(ledger: list[tuple[str, dict[str, tf.Tensor]]], like: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return the ledger's entries summed over layers, each (samples,) as `like`."""
    nothing = tf.zeros_like(like)
    return {name: sum((entries[name] for _, entries in ledger), nothing) for name in LEDGER}


def _padding(op: ZeroPad, a: tf.Tensor, arriving: Relevance) -> dict[str, tf.Tensor]:
    """Return what is lost on padded zeros: no input stands behind them, so their pot is empty."""
    if arriving.value is not None:
        return _kept(arriving.multiplier)  # nothing arrives at a value of zero
    border = 1 - op.forward(tf.ones_like(a[:1]))
    return _kept(arriving.amount, empty=arriving.amount * border)


def _kept(
    per_unit: tf.Tensor,
    bias: tf.Tensor | None = None,
    stabiliser: tf.Tensor | float | None = None,
    empty: tf.Tensor | None = None,
) -> dict[str, tf.Tensor]:
    """Return the ledger's entries: relevance per unit times bias and stabiliser, and what empty pots lose."""
    nothing = tf.zeros(tf.shape(per_unit)[:1], per_unit.dtype)
    return {
        "absorbed_by_bias": nothing if bias is None else per_sample(bias * per_unit),
        "lost_to_stabiliser": nothing if stabiliser is None else per_sample(stabiliser * per_unit),
        "lost_to_empty_pot": nothing if empty is None else per_sample(empty),
    }


def _credit(relevance: dict[int, Relevance], position: int, share: Relevance) -> None:
    relevance[position] = relevance[position].plus(share) if position in relevance else share


def _scaled(value: tf.Tensor, factor: float) -> tf.Tensor:
    return value if factor == 1 else factor * value


def _sum(parts: list[tf.Tensor]) -> tf.Tensor:
    return functools.reduce(operator.add, parts)


def _total(pot: Pot, parts: list[tf.Tensor]) -> tf.Tensor:
    """Return the sum over a pot's terms; what is rounding error alone in POSITIVE_BY_SIZE becomes 0."""
    total = _sum(parts)
    if pot.terms != POSITIVE_BY_SIZE:
        return total
    least = ROUNDING * np.finfo(total.dtype.as_numpy_dtype).eps
    return tf.where(tf.abs(total) > least * tf.abs(parts[-1]), total, tf.zeros_like(total))


def _inputs_of_unit(op: Linear) -> int:
    weighted = isinstance(op.map, Dense | Convolution)
    return int(np.prod(op.kernel.shape[:-1])) if weighted else 0
