"""The registry of attribution methods: names, aliases, parameters, engines, and what a sum promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import tensorflow as tf

from xairt.attribution import activations, calls, controls, deeplift, gradients, lime, perturbation, shap
from xairt.attribution.blocks import BlockMethod, Setting
from xairt.attribution.engines import peers_of
from xairt.attribution.groups import Groups
from xairt.attribution.lrp import methods as lrp
from xairt.attribution.lrp import rules
from xairt.attribution.lrp.composites import RULE_ALIASES
from xairt.attribution.parameters import Parameters
from xairt.errors import MethodError, suggest

NOTHING = "nothing"
DIFFERENCE = "f(x) - f(baseline)"
CONSERVED = "f(x) - absorbed_by_bias - lost_to_stabiliser - lost_to_empty_pot"
POSITIVE_OUTPUT = "max(f(x), 0) - lost_to_empty_pot"


@dataclass(frozen=True)
class Method:
    """One attribution method.

    Attributes
    ----------
    name : str
        Canonical name.
    parameters : type of Parameters
        Its checked parameters with defaults.
    build : callable or None
        Makes the native block function; None where only another engine has the method.
    reference : str
        Publication.
    promise : str
        What the sum of an attribution is, in words.
    signed : bool
        Whether an attribution may be negative.
    baseline : bool
        Whether a baseline is used.
    conventions : mapping
        For each accepted convention the parameters it sets where the user did not.
    uses_cells : bool
        Whether patches move over the axes of a sample.
    evaluations : callable
        From (parameters, setting) to the number of rows that the network computes for one sample.
    noise : callable or None
        From (parameters, shape of a sample) to the shape of the noise that is drawn for a sample.
    by_xla : bool
        Whether XLA gains anything on dense networks; of a single gradient TensorFlow's own kernels are faster.
    """

    name: str
    parameters: type[Parameters]
    build: Callable[[Setting, Any], BlockMethod] | None
    reference: str
    promise: str = NOTHING
    signed: bool = True
    baseline: bool = False
    conventions: MappingProxyType[str, dict[str, Any]] = field(default_factory=lambda: MappingProxyType({}))
    uses_cells: bool = False
    evaluations: Callable[[Any, Setting], int] = lambda parameters, setting: 1
    noise: Callable[[Any, tuple[int, ...]], tuple[int, ...]] | None = None
    by_xla: bool = True

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that have the method, the default first."""
        native = ("native",) if self.build is not None else ()
        return native + peers_of(self.name)


BACH = "Bach et al. 2015, doi:10.1371/journal.pone.0130140"
MONTAVON = "Montavon et al. 2017, doi:10.1016/j.patcog.2016.11.008"
MONTAVON_2019 = "Montavon et al. 2019, doi:10.1007/978-3-030-28954-6_10"
LAPUSCHKIN = "Lapuschkin et al. 2019, doi:10.1038/s41467-019-08987-4"
KOHLBRENNER = "Kohlbrenner et al. 2020, arXiv:1910.09840"
PRESET = "Alber et al. 2019, JMLR 20(93)"
SIMONYAN = "Simonyan et al. 2014, arXiv:1312.6034"
SHRIKUMAR = "Shrikumar et al. 2016, arXiv:1605.01713"
SUNDARARAJAN = "Sundararajan et al. 2017, arXiv:1703.01365"
SMILKOV = "Smilkov et al. 2017, arXiv:1706.03825"
ZEILER = "Zeiler and Fergus 2014, arXiv:1311.2901"
SPRINGENBERG = "Springenberg et al. 2015, arXiv:1412.6806"
SELVARAJU = "Selvaraju et al. 2017, arXiv:1610.02391"
DEEPLIFT = "Shrikumar et al. 2017, arXiv:1704.02685"
LUNDBERG = "Lundberg and Lee 2017, arXiv:1705.07874"
ERION = "Erion et al. 2021, doi:10.1038/s42256-021-00343-w"
ANCONA = "Ancona et al. 2018, arXiv:1711.06104"
RIBEIRO = "Ribeiro et al. 2016, arXiv:1602.04938"
ADEBAYO = "control of Adebayo et al. 2018, arXiv:1810.03292"


def _convention(**parameters: Any) -> MappingProxyType:
    return MappingProxyType({"innvestigate": parameters})


def _lrp(
    name: str, parameters: type[Parameters], composite: Callable, reference: str, **convention: Any
) -> Method:
    build = lrp.method(composite)
    return Method(name, parameters, build, reference, CONSERVED, conventions=_convention(**convention))


def _preset(name: str, alpha: float, beta: float, first: rules.Rule | None = None) -> Method:
    composite = lrp.preset(alpha, beta, first)
    return _lrp(f"lrp.{name}", lrp.PresetParameters, composite, PRESET, bias="innvestigate")


def _deep_taylor(name: str, parameters: type[Parameters]) -> Method:
    build = lrp.method(lrp.deep_taylor, start=tf.nn.relu)
    return Method(name, parameters, build, MONTAVON, POSITIVE_OUTPUT, signed=False, conventions=_convention())


def _deeplift(name: str, build: Callable[[Setting, Any], BlockMethod], reference: str) -> Method:
    return Method(
        name,
        Parameters,
        build,
        reference,
        DIFFERENCE,
        baseline=True,
        conventions=MappingProxyType({"deeplift": {}}),
        evaluations=lambda p, setting: len(setting.baseline),
    )


class FlatUntilParameters(lrp.PresetParameters):
    """Parameters of the preset with the flat rule in its first layers."""

    bias: lrp.BiasChoice = "innvestigate"  # iNNvestigate has no other but "ignore"
    until_layer_idx: int = 0


METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Method("gradient", Parameters, gradients.gradient, SIMONYAN, by_xla=False),
        Method("saliency", Parameters, gradients.saliency, SIMONYAN, signed=False, by_xla=False),
        Method("input_t_gradient", Parameters, gradients.input_t_gradient, SHRIKUMAR, by_xla=False),
        Method(
            "integrated_gradients",
            gradients.IntegratedGradientsParameters,
            gradients.integrated_gradients,
            SUNDARARAJAN,
            DIFFERENCE,
            baseline=True,
            conventions=_convention(quadrature="innvestigate"),
            evaluations=lambda p, setting: p.steps,
        ),
        Method(
            "smoothgrad",
            gradients.SmoothGradParameters,
            gradients.smoothgrad,
            SMILKOV,
            evaluations=lambda p, setting: p.augment_by_n,
            noise=gradients.smoothgrad_noise,
        ),
        Method("deconvnet", Parameters, activations.deconvnet, ZEILER, conventions=_convention()),
        Method(
            "guided_backprop",
            Parameters,
            activations.guided_backprop,
            SPRINGENBERG,
            conventions=_convention(),
        ),
        Method("grad_cam", activations.GradCamParameters, activations.grad_cam, SELVARAJU, signed=False),
        _lrp("lrp.z", lrp.BiasParameters, lrp.z, BACH),
        _lrp("lrp.epsilon", lrp.EpsilonParameters, lrp.epsilon, BACH),
        _lrp("lrp.gamma", lrp.GammaParameters, lrp.gamma, MONTAVON_2019),
        _lrp("lrp.alpha_beta", lrp.AlphaBetaParameters, lrp.alpha_beta, BACH, bias="innvestigate"),
        _lrp("lrp.z_plus_fast", lrp.LRPParameters, lrp.z_plus_fast, MONTAVON),
        _lrp("lrp.w_square", lrp.LRPParameters, lrp.w_square, MONTAVON),
        _lrp("lrp.flat", lrp.LRPParameters, lrp.flat, LAPUSCHKIN),
        _lrp("lrp.composite", lrp.CompositeParameters, lrp.composite, KOHLBRENNER, bias="innvestigate"),
        _preset("sequential_preset_a", 1, 0),
        _preset("sequential_preset_b", 2, 1),
        _preset("sequential_preset_a_flat", 1, 0, rules.flat()),
        _preset("sequential_preset_b_flat", 2, 1, rules.flat()),
        Method(
            "lrp.sequential_preset_b_flat_until_idx",
            FlatUntilParameters,
            None,
            PRESET,
            conventions=_convention(),
        ),
        _deep_taylor("deep_taylor", Parameters),
        _deep_taylor("deep_taylor.bounded", lrp.Bounds),
        _deeplift("deeplift.rescale", deeplift.rescale, DEEPLIFT),
        _deeplift("deeplift.reveal_cancel", deeplift.reveal_cancel, DEEPLIFT),
        _deeplift("shap.deep", shap.deep, LUNDBERG),
        Method(
            "shap.gradient",
            shap.GradientParameters,
            shap.gradient,
            ERION,
            DIFFERENCE,
            baseline=True,
            evaluations=lambda p, setting: p.nsamples,
            noise=shap.noise_shape,
        ),
        Method(
            "shap.kernel",
            shap.KernelParameters,
            shap.kernel,
            LUNDBERG,
            DIFFERENCE,
            baseline=True,
            evaluations=shap.kernel_evaluations,
        ),
        Method(
            "occlusion",
            perturbation.OcclusionParameters,
            perturbation.occlusion,
            ZEILER,
            uses_cells=True,
            evaluations=perturbation.occlusion_evaluations,
        ),
        Method(
            "feature_ablation",
            perturbation.FeatureAblationParameters,
            perturbation.feature_ablation,
            ANCONA,
            evaluations=perturbation.feature_ablation_evaluations,
        ),
        Method("lime", lime.LimeParameters, None, RIBEIRO, baseline=True),
        Method("random", Parameters, controls.random, ADEBAYO, noise=lambda p, shape: shape),
        Method("edge", controls.EdgeParameters, controls.edge, ADEBAYO, signed=False),
        Method("input", Parameters, controls.input_itself, ADEBAYO),
    )
}
"""Every method by its canonical name."""

ALIASES: dict[str, tuple[str, dict[str, Any]]] = {
    f"lrp.{alias}": (f"lrp.{name}", fixed) for alias, (name, fixed) in RULE_ALIASES.items()
}
"""Other names: the canonical method and the parameters that the alias fixes."""


@dataclass(frozen=True)
class MethodCall:
    """A method with checked parameters, as one request names it.

    Attributes
    ----------
    method : Method
        The method.
    parameters : Parameters
        All its parameters.
    label : str
        Short name for figures and the ``method`` dimension: as the user wrote it.
    convention : str or None
        The convention that is followed.
    """

    method: Method
    parameters: Parameters
    label: str
    convention: str | None

    @property
    def form(self) -> str:
        """The canonical form: name and all parameters."""
        return calls.form(self.method.name, {k: _plain(v) for k, v in self.parameters})


def _plain(value: Any) -> Any:
    """Return a parameter's value as a literal that `calls.parse` reads."""
    if isinstance(value, tuple):
        return [v.model_dump(mode="json") for v in value] if _are_parameters(value) else value
    return str(value) if isinstance(value, Parameters) else value


def _are_parameters(values: tuple) -> bool:
    return bool(values) and all(isinstance(v, Parameters) for v in values)


def _shown(given: dict[str, Any], checked: Parameters) -> dict[str, Any]:
    """Return the given parameters as a label shows them: as they were written, groups in short."""
    values = {k: getattr(checked, k) for k in given if k not in checked.unlabelled}
    return {k: _plain(v if isinstance(v, Groups) else given[k]) for k, v in values.items()}


def resolve(text: str, parameters: dict[str, Any] | None = None, convention: str | None = None) -> MethodCall:
    """Read a method's name, alias or canonical form and check its parameters.

    Parameters
    ----------
    text : str
        For example "gradient", "lrp.alpha_1_beta_0" or "lrp.epsilon(epsilon=0.1)".
    parameters : dict, optional
        Further parameters.
    convention : str, optional
        Registered convention; it sets the parameters that the caller left open.

    Raises
    ------
    MethodError
        If the method, a parameter or the convention is unknown, or one is given twice.

    Examples
    --------
    >>> resolve("lrp.alpha_1_beta_0_IB").form
    'lrp.alpha_beta(input_layer_rule=None, bias="ignore", alpha=1.0, beta=0.0)'
    >>> resolve("lrp.alpha_1_beta_O")
    Traceback (most recent call last):
    ...
    xairt.errors.MethodError: unknown method 'lrp.alpha_1_beta_O'; did you mean 'lrp.alpha_1_beta_0'? `xairt methods` lists all
    """
    if not isinstance(text, str):
        raise MethodError(f"method {text!r} is not a name: `xairt methods` lists all")
    alias, given = calls.parse(text)
    further = parameters or {}
    name, fixed = ALIASES.get(alias, (alias, {}))
    if name not in METHODS:
        hint = suggest(alias, [*METHODS, *ALIASES]).rstrip("?")
        raise MethodError(f"unknown method '{alias}'{hint + '?' if hint else ';'} `xairt methods` lists all")
    for key in further:
        if key in given or key in fixed:
            raise MethodError(f"{text}: parameter '{key}' is fixed by the name already: leave it out")
    clash = set(given) & set(fixed)
    if clash:
        raise MethodError(f"{text}: parameter '{min(clash)}' is fixed by the name '{alias}': use {name}")
    method = METHODS[name]
    chosen = fixed | given | further
    if convention is not None:
        chosen = _follow(method, convention) | chosen
    checked = method.parameters.checked(alias, chosen)
    shown = _shown(given | further, checked)
    label = calls.form(alias, shown) if given or further else alias
    return MethodCall(method, checked, label, convention)


def _follow(method: Method, convention: str) -> dict[str, Any]:
    if convention not in method.conventions:
        known = ", ".join(method.conventions) or "none"
        raise MethodError(
            f"{method.name} has no convention '{convention}': it has {known}{suggest(convention, method.conventions)}"
        )
    return dict(method.conventions[convention])


def methods():
    """Return the table of all methods as a pandas DataFrame indexed by name.

    Columns: engines, parameters (with defaults), aliases, needs_baseline, signed, sum_promises,
    conventions, reference.
    """
    import pandas as pd

    rows = []
    for method in METHODS.values():
        defaults = {k: f.default for k, f in method.parameters.model_fields.items()}
        rows.append(
            {
                "name": method.name,
                "engines": ", ".join(method.engines),
                "parameters": ", ".join(f"{k}={v!r}" for k, v in defaults.items()),
                "aliases": ", ".join(a for a, (name, _) in ALIASES.items() if name == method.name),
                "needs_baseline": method.baseline,
                "signed": method.signed,
                "sum_promises": method.promise,
                "conventions": ", ".join(method.conventions),
                "reference": method.reference,
            }
        )
    return pd.DataFrame(rows).set_index("name")
