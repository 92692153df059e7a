"""Registry of documented conventions: where a published program differs from the definition.

The default of every function is the definition. Naming a convention reproduces the publication
instead. Each convention is described here once, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

from xairt.errors import MethodError, suggest


@dataclass(frozen=True)
class Convention:
    """What a published program does differently.

    Attributes
    ----------
    name : str
        Value of the ``convention=`` parameter.
    applies_to : str
        Names of the functions or methods that accept it.
    difference : str
        One sentence: what is computed instead of the definition.
    source : str
        Program or publication that does so.
    """

    name: str
    applies_to: str
    difference: str
    source: str


INNVESTIGATE = Convention(
    name="innvestigate",
    applies_to="lrp.*, deep_taylor, deep_taylor.bounded, integrated_gradients, deconvnet, guided_backprop",
    difference=(
        "alpha-beta rules (also in the sequential presets and in lrp.composite) add the whole bias to the positive "
        "and to the negative pot, a denominator of exactly 0 is replaced by 1e-7 in every LRP rule and in deep "
        "Taylor decomposition, the input layer's rule serves only layers with nothing but reshaping before them "
        "(not in lrp.composite), integrated gradients are a left Riemann sum (points k/steps, k = 0 ... steps-1), "
        "and deconvnet and guided_backprop send the explained output f back in place of 1"
    ),
    source="iNNvestigate 1.0.9 and 2.1.2 (Alber et al. 2019, JMLR 20(93)); its issues 116, 273, 327",
)

KRELL2025 = Convention(
    name="krell2025",
    applies_to="fields.draw, fields.PiecewiseLinear",
    difference=(
        "contributions of negative values have their sign flipped (unit slopes give |x|), and slopes and "
        "breakpoints are drawn with the covariance in place of the correlation"
    ),
    source="Python port of the SST benchmark by Krell et al. 2025 (ekrell/geoscience-attribution-benchmarks)",
)

DEEPLIFT = Convention(
    name="deeplift",
    applies_to="deeplift.*, shap.deep",
    difference=(
        "max pooling hands its multiplier to the cell that is the largest in x, whatever the baseline's largest "
        "cell is, so that attributions do not sum to f(x) - f(baseline) where that is another one"
    ),
    source="deeplift 0.6.13.0 (Shrikumar et al. 2017, arXiv:1704.02685), MaxPoolDeepLiftMode.gradient",
)

SMERF2022 = Convention(
    name="smerf2022",
    applies_to="training.class_loss",
    difference=(
        "the two linear outputs are taken for probabilities, cut to 1e-7 .. 1 - 1e-7, and their mean binary "
        "cross-entropy is the loss, in place of the softmax cross-entropy of logits"
    ),
    source="SMERF (Kim, Plumb and Talwalkar 2022, arXiv:2105.06506), its program (wnstlr/SMERF), smerf/models.py",
)

IGC2025 = Convention(
    name="igc2025",
    applies_to="datasetwise.ig_std, datasetwise.naive_correlation, datasetwise.naive_ttest",
    difference=(
        "three square roots are left out: the standard deviation of integrated gradients is their variance, the "
        "correlation of a feature and the truth is divided by the feature's variance in place of its standard "
        "deviation, and the t-test takes variances of both groups for their standard deviations"
    ),
    source="igc 2025-10, the package of Lelievre and Chen 2024 (arXiv:2404.13910)",
)

CHAOSMINING2024 = Convention(
    name="chaosmining2024",
    applies_to="chaos_symbolic: truths.integral, and the truths of integrated_gradients and saliency",
    difference=(
        "the true integrated gradient is a sum of 20 increments, in each of which one variable moves from point t/20 to "
        "(t + 1)/20 of the line from 0 while the others stay at t/20, and the magnitude of the gradient is "
        "compared with the signed derivative"
    ),
    source="ChaosMining (Shi et al. 2024, arXiv:2406.12150), its program",
)

CONVENTIONS: dict[str, Convention] = {
    c.name: c for c in (INNVESTIGATE, KRELL2025, DEEPLIFT, SMERF2022, IGC2025, CHAOSMINING2024)
}
"""All conventions by name."""


def check(name: str | None, allowed: tuple[str, ...]) -> str | None:
    """Return `name` if it is None or one of the allowed conventions.

    Raises
    ------
    MethodError
        If the convention is unknown or does not apply here.

    Examples
    --------
    >>> check("innvestigate", ("innvestigate",))
    'innvestigate'
    >>> check("investigate", ("innvestigate",))
    Traceback (most recent call last):
    ...
    xairt.errors.MethodError: convention 'investigate' does not apply here: known are innvestigate; did you mean 'innvestigate'?
    """
    if name is None or name in allowed:
        return name
    known = ", ".join(allowed) or "none"
    raise MethodError(f"convention '{name}' does not apply here: known are {known}{suggest(name, allowed)}")
