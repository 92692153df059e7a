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

from dataclasses import dataclass, field
from typing import Literal

Part = Literal["a", "a+", "a-", "|a|", "1", "low", "high"]
WeightPart = Literal["w", "w+", "w-", "|w|", "w^2", "1"]
BiasPart = Literal["none", "b", "b+", "b-"]
Bias = Literal["canonical", "innvestigate", "ignore"]


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
    """A named LRP rule for one linear layer; `low` and `high` bound the input in "low"/"high" terms."""

    name: str
    pots: tuple[Pot, ...]
    low: float = 0.0
    high: float = 0.0


POSITIVE = (Term("a+", "w+"), Term("a-", "w-"))
NEGATIVE = (Term("a+", "w-"), Term("a-", "w+"))

POSITIVE_BY_SIZE = (Term("a", "w", 0.5), Term("|a|", "|w|", 0.5))
"""The same as POSITIVE with one product less, since aw is known from the forward pass.

Digits are lost where negative contributions outweigh the positive ones by far.
"""


def z(bias: Bias = "canonical") -> Rule:
    """Return the z rule (Bach et al. 2015, eq. 56); the denominator holds the bias unless it is ignored."""
    return epsilon(0.0, bias, name="z")


def epsilon(epsilon: float = 1e-7, bias: Bias = "canonical", *, name: str = "epsilon") -> Rule:
    """Return the epsilon rule (Bach et al. 2015, eq. 58), with sign(0) = +1."""
    return Rule(name, (Pot((Term("a", "w"),), bias="none" if bias == "ignore" else "b", epsilon=epsilon),))


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
    return Rule("alpha_beta", tuple(pots))


def gamma(gamma: float = 0.25, bias: Bias = "canonical") -> Rule:
    """Return the gamma rule (Montavon et al. 2019, doi:10.1007/978-3-030-28954-6_10, section 10.2.3).

    Contributions of the sign of z_j are raised by the factor 1 + gamma. For inputs that are never
    negative and positive z_j that is w + gamma * w+ in place of w; the general form treats positive
    and negative z_j alike.
    """

    def pot(where: Literal["positive", "negative"], raised: tuple[Term, ...], further: BiasPart) -> Pot:
        terms = (Term("a", "w"), *(Term(t.activation, t.weight, gamma) for t in raised))
        if bias == "ignore":
            return Pot(terms, where=where)
        return Pot(terms, bias="b", further_bias=further, bias_factor=gamma, where=where)

    return Rule("gamma", (pot("positive", POSITIVE, "b+"), pot("negative", NEGATIVE, "b-")))


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
    return Rule("bounded", (Pot(terms),), low=low, high=high)


@dataclass(frozen=True)
class Composite:
    """Which rule serves which linear layer.

    Attributes
    ----------
    default : Rule
        For every linear layer (dense, convolution, average pooling, unfolded batch norm).
    convolution : Rule or None
        For convolutions, where they have a rule of their own.
    first : Rule or None
        For the weighted layers that read nothing but the input.
    scale : Rule or None
        For batch normalisation that could not be folded, where it has a rule of its own: the method's,
        always with canonical bias.
    pooling : Rule
        For average pooling: in proportion to the inputs.
    """

    default: Rule
    convolution: Rule | None = None
    first: Rule | None = None
    scale: Rule | None = None
    pooling: Rule = field(default_factory=lambda: z("ignore"))
