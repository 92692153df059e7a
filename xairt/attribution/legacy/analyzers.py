"""Which iNNvestigate analyzer each method is, with its parameters translated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xairt.attribution.parameters import Parameters
from xairt.errors import MethodError

Translation = Callable[[Parameters], dict[str, Any]]


def _none(p: Parameters) -> dict[str, Any]:
    return {}


def _input_rule(p: Parameters) -> dict[str, Any]:
    """Return iNNvestigate's input_layer_rule: a name, or (low, high) for Bounded."""
    rule = p.input_layer_rule
    if rule is None:
        return {}
    return {"input_layer_rule": (rule.low, rule.high) if rule.name == "Bounded" else rule.name}


def _bias(p: Parameters) -> dict[str, Any]:
    return {"bias": p.bias != "ignore"} | _input_rule(p)


def _z(p: Parameters) -> dict[str, Any]:
    if p.bias == "ignore":
        raise MethodError(
            "lrp.z: iNNvestigate has no z rule without bias: use lrp.epsilon(bias=False), or engine='native'"
        )
    return _input_rule(p)


def _epsilon(p: Parameters) -> dict[str, Any]:
    if p.epsilon == 0:
        raise MethodError("lrp.epsilon: iNNvestigate needs epsilon > 0: use lrp.z, or engine='native'")
    return {"epsilon": p.epsilon} | _bias(p)


def _refuse_canonical_bias(p: Parameters) -> None:
    if p.bias == "canonical":
        raise MethodError(
            "iNNvestigate puts the whole bias into both pots: use bias='innvestigate' or 'ignore', or engine='native'"
        )


def _alpha_beta(p: Parameters) -> dict[str, Any]:
    _refuse_canonical_bias(p)
    return {"alpha": p.alpha, "beta": p.beta} | _bias(p)


def _preset(p: Parameters) -> dict[str, Any]:
    _refuse_canonical_bias(p)
    if p.bias == "ignore":
        raise MethodError("iNNvestigate's presets keep the bias: leave bias out, or use engine='native'")
    return {"epsilon": p.epsilon} | _input_rule(p)


def _flat_preset(p: Parameters) -> dict[str, Any]:
    if p.input_layer_rule is not None:
        raise MethodError("iNNvestigate's flat presets have their own input rule: leave input_layer_rule out")
    return _preset(p)


def _smoothgrad(p: Parameters) -> dict[str, Any]:
    squared = {"postprocess": "square"} if p.square else {}
    return {"augment_by_n": p.augment_by_n, "noise_scale": p.noise_scale} | squared


ANALYZERS: dict[str, tuple[str, Translation]] = {
    "gradient": ("gradient", _none),
    "saliency": ("gradient", lambda p: {"postprocess": "abs"}),
    "input_t_gradient": ("input_t_gradient", _none),
    "integrated_gradients": ("integrated_gradients", lambda p: {"steps": p.steps}),
    "smoothgrad": ("smoothgrad", _smoothgrad),
    "input": ("input", _none),
    "random": ("random", _none),
    "deconvnet": ("deconvnet", _none),
    "guided_backprop": ("guided_backprop", _none),
    "lrp.z": ("lrp.z", _z),
    "lrp.epsilon": ("lrp.epsilon", _epsilon),
    "lrp.alpha_beta": ("lrp.alpha_beta", _alpha_beta),
    "lrp.z_plus_fast": ("lrp.z_plus_fast", _input_rule),
    "lrp.w_square": ("lrp.w_square", _input_rule),
    "lrp.flat": ("lrp.flat", _input_rule),
    "lrp.sequential_preset_a": ("lrp.sequential_preset_a", _preset),
    "lrp.sequential_preset_b": ("lrp.sequential_preset_b", _preset),
    "lrp.sequential_preset_a_flat": ("lrp.sequential_preset_a_flat", _flat_preset),
    "lrp.sequential_preset_b_flat": ("lrp.sequential_preset_b_flat", _flat_preset),
    "lrp.sequential_preset_b_flat_until_idx": (
        "lrp.sequential_preset_b_flat_until_idx",
        lambda p: _flat_preset(p) | {"until_layer_idx": p.until_layer_idx},
    ),
    "deep_taylor": ("deep_taylor", _none),
    "deep_taylor.bounded": ("deep_taylor.bounded", lambda p: {"low": p.low, "high": p.high}),
}
"""Canonical method name: iNNvestigate's name and the translation of the parameters."""

STOCHASTIC = ("smoothgrad", "random")
"""Methods whose noise iNNvestigate draws itself."""
