"""LRP rules as data.

Every rule is a sum of *pots*. A pot shares out a fraction of the relevance R_j that arrives at an
output z_j in proportion to terms t_ij:

    R_i = sum_j share * t_ij / (sum_i t_ij + b_j + stabiliser_j) * R_j

and a term is a product of something of the input a_i and something of the weight w_ij. What the bias
b_j, the stabiliser, or an empty pot (a denominator of exactly 0) keeps is entered in the ledger by the
engine. A new rule is a few lines here; the engine does not change.

Sources: Bach et al. 2015 (doi:10.1371/journal.pone.0130140, eqs 56-60: z, epsilon, alpha-beta);
Montavon et al. 2017 (doi:10.1016/j.patcog.2016.11.008, z+, w-square and bounded rules);
Lapuschkin et al. 2019 (doi:10.1038/s41467-019-08987-4, flat).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Part = Literal["a", "a+", "a-", "|a|", "1", "low", "high"]
WeightPart = Literal["w", "w+", "w-", "|w|", "w^2", "1"]
BiasPart = Literal["none", "b", "b+", "b-"]
Bias = Literal["canonical", "innvestigate", "ignore"]
Layer = Literal["dense", "convolution", "pooling", "batch_normalization", "first", "last"]


@dataclass(frozen=True)
class Term:
    """One product of an input part and a weight part.

    `activation`: the input "a", its positive or negative part "a+", "a-", its size "|a|", the number
    1, or the rule's lower or upper bound. `weight`: the kernel "w", its positive or negative part, its
    size, its square, or ones.
    """

    activation: Part
    weight: WeightPart
    factor: float = 1.0


@dataclass(frozen=True)
class Pot:
    """Shares out `share` of the relevance over its terms; see the module's formula.

    `bias` is added to the denominator, and `bias_factor` times `further_bias` (the gamma rule needs
    two parts). `where` restricts the pot to outputs whose z is positive or negative.
    """

    terms: tuple[Term, ...]
    share: float = 1.0
    bias: BiasPart = "none"
    epsilon: float = 0.0
    further_bias: BiasPart = "none"
    bias_factor: float = 0.0
    where: Literal["all", "positive", "negative"] = "all"


@dataclass(frozen=True)
class Rule:
    """A named LRP rule for one linear layer; `low` and `high` bound the input in "low"/"high" terms.

    `parameters` are those that the rule was made with: ``MAKERS[name](**dict(parameters))`` makes it again,
    and as text it is written as such a call.
    """

    name: str
    pots: tuple[Pot, ...]
    low: float = 0.0
    high: float = 0.0
    parameters: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        inside = ", ".join(f"{key}={_plain(value)}" for key, value in self.parameters)
        return f"{self.name}({inside})" if inside else self.name


def _plain(value: Any) -> str:
    return repr(float(value)).removesuffix(".0") if isinstance(value, int | float) else str(value)


WHOLE = (Term("a", "w"),)
POSITIVE = (Term("a+", "w+"), Term("a-", "w-"))
NEGATIVE = (Term("a+", "w-"), Term("a-", "w+"))

POSITIVE_BY_SIZE = (Term("a", "w", 0.5), Term("|a|", "|w|", 0.5))
"""The same as POSITIVE with one product less, since aw is known from the forward pass.

Digits are lost where negative contributions outweigh the positive ones by far.
"""


def z(bias: Bias = "canonical") -> Rule:
    """Return the z rule (Bach et al. 2015, eq. 56); the denominator holds the bias unless it is ignored."""
    return Rule("z", _whole(0.0, bias), parameters=(("bias", bias),))


def epsilon(epsilon: float = 1e-7, bias: Bias = "canonical") -> Rule:
    """Return the epsilon rule (Bach et al. 2015, eq. 58), with sign(0) = +1."""
    return Rule("epsilon", _whole(epsilon, bias), parameters=(("epsilon", epsilon), ("bias", bias)))


def _whole(epsilon: float, bias: Bias) -> tuple[Pot, ...]:
    """Return the one pot of z_j as it is, with a stabiliser."""
    return (Pot(WHOLE, bias="none" if bias == "ignore" else "b", epsilon=epsilon),)


def alpha_beta(alpha: float, beta: float, bias: Bias = "canonical") -> Rule:
    """Return the alpha-beta rule (Bach et al. 2015, eq. 60).

    bias "canonical" puts the positive part of the bias into the positive pot and its negative part
    into the negative pot, "innvestigate" the whole bias into both, "ignore" none.
    """
    positive, negative = {"canonical": ("b+", "b-"), "innvestigate": ("b", "b"), "ignore": ("none", "none")}[
        bias
    ]
    pots = [Pot(POSITIVE, share=alpha, bias=positive)]
    if beta:
        pots.append(Pot(NEGATIVE, share=-beta, bias=negative))
    parameters = (("alpha", alpha), ("beta", beta), ("bias", bias))
    return Rule("alpha_beta", tuple(pots), parameters=parameters)


def gamma(gamma: float = 0.25, bias: Bias = "canonical") -> Rule:
    """Return the gamma rule (Montavon et al. 2019, doi:10.1007/978-3-030-28954-6_10, section 10.2.3).

    Contributions a_i w_ij (and the bias) of the sign of z_j are raised by the factor 1 + gamma. For inputs
    that are never negative and positive z_j that is w + gamma * w+ in place of w. For inputs of either sign it
    is the generalised rule (Andeol et al. 2021, arXiv:2106.04923): where z_j > 0 the share of input i is
    a_i+ (w_ij + gamma w_ij+) + a_i- (w_ij + gamma w_ij-), where z_j < 0 with the parts of w exchanged.
    Without bias the sign is that of sum_i a_i w_ij, so that the denominator never changes sign; z_j = 0 counts
    as positive.
    """

    def pot(where: Literal["positive", "negative"], raised: tuple[Term, ...], further: BiasPart) -> Pot:
        terms = (Term("a", "w"), *(Term(t.activation, t.weight, gamma) for t in raised))
        if bias == "ignore":
            return Pot(terms, where=where)
        return Pot(terms, bias="b", further_bias=further, bias_factor=gamma, where=where)

    pots = (pot("positive", POSITIVE, "b+"), pot("negative", NEGATIVE, "b-"))
    return Rule("gamma", pots, parameters=(("gamma", gamma), ("bias", bias)))


def z_plus_fast() -> Rule:
    """Return the z+ rule as it is for inputs that are never negative (Montavon et al. 2017, eq. 13)."""
    return Rule("z_plus_fast", (Pot((Term("a", "w+"),)),))


def w_square() -> Rule:
    """Return the w-square rule (Montavon et al. 2017, eq. 11); it looks at no input value."""
    return Rule("w_square", (Pot((Term("1", "w^2"),)),))


def flat() -> Rule:
    """Return the flat rule: equal shares for all inputs of an output."""
    return Rule("flat", (Pot((Term("1", "1"),)),))


def bounded(low: float = -1.0, high: float = 1.0) -> Rule:
    """Return the rule for inputs known to lie in [low, high] (Montavon et al. 2017, eq. 14)."""
    terms = (Term("a", "w"), Term("low", "w+", -1.0), Term("high", "w-", -1.0))
    return Rule("bounded", (Pot(terms),), low=low, high=high, parameters=(("low", low), ("high", high)))


MAKERS: dict[str, Callable[..., Rule]] = {
    maker.__name__: maker for maker in (z, epsilon, gamma, alpha_beta, z_plus_fast, w_square, flat, bounded)
}
"""Every rule by its name."""


def with_canonical_bias(rule: Rule) -> Rule:
    """Return the same rule with canonical bias; the rule itself where it has no bias.

    Examples
    --------
    >>> str(with_canonical_bias(alpha_beta(2, 1, "ignore")))
    'alpha_beta(alpha=2, beta=1, bias=canonical)'
    """
    parameters = dict(rule.parameters)
    return MAKERS[rule.name](**parameters | {"bias": "canonical"}) if "bias" in parameters else rule


@dataclass(frozen=True)
class Choice:
    """A rule and the layers that it is for: those that fulfil every condition given.

    Attributes
    ----------
    rule : Rule
        Their rule.
    layer : str or None
        Their kind: "dense", "convolution", "pooling" (average pooling), "batch_normalization" (where it could
        not be folded); or place: "first" (dense and convolution layers that read nothing but the input), "last"
        (those that no further one depends on). Average pooling is meant only where it is named here: an
        alpha-beta rule that a name pattern hands to it by accident would multiply relevance.
    name : str or None
        Pattern of the layer's name: ``*`` stands for any text, ``?`` for one character, ``[ab]`` for a or b.
    index : int, tuple of int, slice or None
        Positions among the dense and convolution layers, counted from the input; negative ones from the end.
    origin : str
        What an error calls the choice. Where it is given, a choice that no layer fulfils is an error.
    """

    rule: Rule
    layer: Layer | None = None
    name: str | None = None
    index: int | tuple[int, ...] | slice | None = None
    origin: str = ""


@dataclass(frozen=True)
class Composite:
    """Which rule serves which linear layer.

    Attributes
    ----------
    default : Rule
        For every dense, convolution and unfolded batch normalisation layer that no choice is for.
    choices : tuple of Choice
        The first one that a layer fulfils gives its rule.

    Notes
    -----
    Average pooling without a choice shares relevance in proportion to its inputs, whatever the default.
    Batch normalisation that could not be folded has canonical bias, whatever the bias of the rule, unless a
    choice is for ``layer="batch_normalization"``.
    """

    default: Rule
    choices: tuple[Choice, ...] = ()
