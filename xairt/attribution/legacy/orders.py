"""What a worker is asked to build for a method: one function for each package."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xairt.attribution.blocks import Setting
from xairt.attribution.legacy import chain, export
from xairt.attribution.legacy.analyzers import ANALYZERS, STOCHASTIC
from xairt.errors import EngineError, MethodError, UnsupportedLayerError
from xairt.models.graph.nodes import (
    Activation,
    AveragePool,
    Convolution,
    DepthwiseConvolution,
    GlobalMax,
    Graph,
    Linear,
    LinearMap,
    MaxPool,
    TransposedConvolution,
    Upsample,
)

DEEPLIFT_MODES = {"deeplift.rescale": "Rescale", "deeplift.reveal_cancel": "RevealCancel"}
"""Canonical method name: the rule of every nonlinearity (not the package's own choice by kind of layer)."""

SHAP_EXPLAINERS = {"shap.deep": "deep", "shap.gradient": "gradient", "shap.kernel": "kernel"}
"""Canonical method name: which of SHAP's explainers it is."""

SHAP_DEEP_ACTIVATIONS = (
    *("relu", "elu", "selu", "sigmoid", "hard_sigmoid", "tanh", "softplus", "exponential"),
)
"""Activations that SHAP's DeepExplainer computes by the rescale rule."""


@dataclass(frozen=True, eq=False)
class Order:
    """What a worker is asked to build.

    Attributes
    ----------
    name : str
        Name of the explainer in the package.
    layers : list of dict
        The network, as from `export.describe`.
    weights : list of numpy.ndarray
        Its weights in the order of the layers.
    parameters : dict
        The explainer's parameters.
    noise_when_built : bool
        Whether the noise is fixed when the explainer is built, so that another seed needs another one.
    sample_by_sample : bool
        Whether the package explains one sample after the other, so that copies that fill a block cost time.
    """

    name: str
    layers: list[export.Description]
    weights: list[np.ndarray]
    parameters: dict[str, Any] = field(default_factory=dict)
    noise_when_built: bool = False
    sample_by_sample: bool = False


def innvestigate(setting: Setting, call: Any) -> Order:
    """Order an iNNvestigate analyzer.

    Raises
    ------
    UnsupportedLayerError
        If a layer cannot be handed over, or iNNvestigate does not explain it as it defines LRP.
    MethodError
        If the package has no such variant of the method.
    EngineError
        If the baseline is no single number.
    """
    graph = setting.network.require_graph()
    export.refuse_for_innvestigate(graph)
    name, translate = ANALYZERS[call.method.name]
    parameters = translate(call.parameters)
    if call.method.baseline:
        parameters["reference_inputs"] = _one_number(setting.baseline)
    return Order(name, *export.describe(graph), parameters, call.method.name in STOCHASTIC)


def _one_number(baseline: np.ndarray) -> float:
    """Return the baseline's only value; iNNvestigate takes one number for all inputs."""
    if np.ptp(baseline) != 0:
        raise EngineError(
            "engine 'innvestigate' takes one number as baseline: use engine='native' for an array"
        )
    return float(baseline.flat[0])


def deeplift(setting: Setting, call: Any) -> Order:
    """Order DeepLIFT's contributions of a chain of layers (Shrikumar et al. 2017, arXiv:1704.02685).

    Raises
    ------
    UnsupportedLayerError
        If a layer cannot be handed over, or the package does not take it; see `chain.as_chain`.
    """
    mode = DEEPLIFT_MODES[call.method.name]
    layers, weights = export.describe(setting.network.require_graph())
    return Order(mode, chain.as_chain(layers, mode == "RevealCancel"), weights)


def shap(setting: Setting, call: Any) -> Order:
    """Order one of SHAP's explainers (Lundberg and Lee 2017, arXiv:1705.07874).

    The baseline is SHAP's background. `shap.gradient` and `shap.kernel` take every network that can be handed
    over. `shap.deep` is exact for `SHAP_DEEP_ACTIVATIONS` and max pooling. Other nonlinearities are refused:
    leaky ReLU, GELU and softsign are errors in the package, as are global max pooling, upsampling, dilated,
    depthwise, separable and transposed convolutions, and convolutions and pooling over three axes; swish it
    computes wrongly. The check of additivity is off: the completeness gap says the same for each sample.
    Kernel SHAP is solved without regularisation.

    Raises
    ------
    UnsupportedLayerError
        If a layer cannot be handed over, or has no rule in the package.
    MethodError
        If groups are asked for: the package takes every input by itself.
    """
    graph = setting.network.require_graph()
    parameters = call.parameters.model_dump()
    parameters.pop("coalition_seed", None)  # the package draws with the seed of the call
    if parameters.pop("groups", None) is not None:
        raise MethodError(
            f"{call.label}: engine 'shap' takes every input by itself: leave groups out, or use engine='native'"
        )
    if call.method.name == "shap.deep":
        _refuse_what_deep_explainer_lacks(graph)
    name, (layers, weights) = SHAP_EXPLAINERS[call.method.name], export.describe(graph)
    return Order(name, layers, weights, parameters, sample_by_sample=True)


def _lacking_map(linear: LinearMap, axes: int) -> str | None:
    """Return what of a linear map over a number of axes SHAP's DeepExplainer lacks."""
    if isinstance(linear, DepthwiseConvolution):
        return "depthwise and separable convolutions"
    if isinstance(linear, TransposedConvolution):
        return "transposed convolutions"
    if max(getattr(linear, "dilation", (1,))) > 1:
        return "dilated convolutions"
    if axes == 3 and isinstance(linear, Convolution | AveragePool):
        return "convolutions and pooling over three axes"
    return None


def _refuse_what_deep_explainer_lacks(graph: Graph) -> None:
    for node in graph.nodes:
        op, lacks = node.op, None
        if isinstance(op, Activation) and op.name not in SHAP_DEEP_ACTIVATIONS:
            lacks = f"the activation {op.name.removeprefix('custom:')}"
        elif isinstance(op, GlobalMax):
            lacks = "global max pooling"
        elif isinstance(op, Upsample):
            lacks = "upsampling"
        elif isinstance(op, Linear):
            lacks = _lacking_map(op.map, axes=len(node.shape) - 1)
        elif isinstance(op, MaxPool) and len(op.window) == 3:
            lacks = "pooling over three axes"
        if lacks:
            raise UnsupportedLayerError(
                f"layer '{node.name}': SHAP's DeepExplainer has no right rule for {lacks}: use engine='native'"
            )
