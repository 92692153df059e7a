"""Regression explained relative to a reference value: attributions of f(x) - y_ref.

Letzgus et al. 2022 (arXiv:2112.11407) give two ways. *Restructuring* (`attribute_relative`) keeps the network:
with a the activations of the last hidden layer and v the output weights, the reference activations a_ref >= 0
fulfil v.a_ref + bias = y_ref, so that f(x) - y_ref = v.(a - a_ref). With the pre-activation z of that layer

    a - a_ref = relu(z - a_ref) + relu(-z) - relu(a_ref - z)

which are three ReLU networks that share all lower layers, and LRP explains each. *Retraining* (`retrained`) fits
a network without output bias to y - y_ref, which any method then explains.

Methods of gradients need neither: f and f - y_ref have the same gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from xairt._version import __version__
from xairt.attribution import batching, inputs, recent, result, several_inputs
from xairt.attribution.blocks import sum_in_float64
from xairt.attribution.explainer import GridLike, check_choices, identified
from xairt.attribution.lrp.engine import LEDGER, RelevancePass, totals
from xairt.attribution.registry import MethodCall, resolve
from xairt.attribution.restructuring import (
    Head,
    Restructured,
    by_blocks,
    flooded,
    read,
    references,
    restructured,
    sizes_of,
    with_reference,
)
from xairt.errors import DataError, MethodError, ModelError, UnsupportedLayerError
from xairt.models.graph.nodes import Linear
from xairt.progress import track
from xairt.training import fit

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Restructured", "attribute_relative", "flooded", "restructured", "retrained"]


# --------------------------------------------------------------------------- attribution


def attribute_relative(
    model: tf.keras.Model,
    x: Any,
    y_ref: ArrayLike,
    method: str = "lrp.gamma",
    *,
    dtype: str = "float32",
    batch_size: int | None = None,
    grid: GridLike = None,
    progress: bool = False,
    **params: Any,
) -> xr.Dataset:
    """Explain f(x) - y_ref by LRP through the restructured network (Letzgus et al. 2022, arXiv:2112.11407).

    The attribution is the sum of those of the three networks of `restructured`.

    Parameters
    ----------
    model : tf.keras.Model
        Whose output is one linear unit that reads a ReLU layer; it is not changed.
    x : array_like, xarray.DataArray; with several inputs a dict, sequence or xarray.Dataset
        Samples as for `xairt.attribute`.
    y_ref : array_like
        Reference in units of the output: one number, or one per sample (n,).
    method : str
        An LRP method, for example "lrp.gamma" or "lrp.alpha_1_beta_0". Each layer gets the rule that it has in the
        model; the last hidden layer's bias in a rule is what takes a_ref's place in the three networks.
    dtype : {"float32", "float64"}
        Precision of the networks; references are flooded in float64.
    batch_size : int, optional
        Samples computed at once.
    grid : Grid, optional
        Valid cells of maps, as for `xairt.attribute`.
    progress : bool
        Show a progress bar on a terminal.
    **params
        The method's own parameters.

    Returns
    -------
    xarray.Dataset
        As of `xairt.attribute`: ``attribution``, positive where an input raises the output above the
        reference; ``prediction`` f(x); ``reference`` y_ref; the ledger, whose ``absorbed_by_bias`` holds
        a_ref's share; ``completeness_gap``: sum of attribution and ledger minus (f(x) - y_ref). Where y_ref is f(x)
        to 1e-6, see `flooded`, everything is 0.

    Raises
    ------
    MethodError
        If the method is not LRP, or a parameter is unknown.
    UnsupportedLayerError
        If the model ends in another way, or a layer prevents LRP; the message names the layer.
    DataError
        If samples or references do not fit, or flooding cannot reach a reference.

    Notes
    -----
    With ``lrp.z``, and ``lrp.epsilon`` of a small epsilon, an input's share is its value times the gradient, which
    the reference does not change: all of it is absorbed by the bias. Use rules that share out the difference
    itself, such as ``lrp.gamma``, ``lrp.alpha_beta``, or ``bias=False``.
    """
    call = resolve(method, params)
    if call.method.build is None or not call.method.name.startswith("lrp."):
        raise MethodError(
            f"{call.label}: only LRP methods are restructured; methods of gradients need no reference, f - y_ref has "
            "the gradient of f: use xairt.attribute"
        )
    check_choices(call, None, "native", dtype, batch_size, None)
    sha256 = identified(model)
    network = recent.network(model, sha256)
    samples, head = read(x, network, grid, dtype), Head.of(network)
    rules = call.method.build.rules(network, call.parameters)
    made = with_reference(network, head, samples.values, y_ref, dtype)
    passing = RelevancePass(made.network.evaluator(dtype), {p: rules[o] for p, o in _weighted(made)})
    sizes, n = sizes_of(made.network, dtype, batch_size), len(made.values)
    probes = batching.probed(n, sizes) if dtype == "float32" else 0
    blocks = by_blocks(_explaining(made, passing), made.rows(), sizes, probes)
    shown = track(blocks, batching.n_blocks(n, sizes, probes), call.label, progress)
    computed = batching.joined(shown, n + probes)
    sensitivity = batching.sensitivity(computed, n) if probes else None
    identity = _identity(call, y_ref, dtype) | {"model_sha256": sha256}
    return _dataset({k: v[:n] for k, v in computed.items()}, made, samples, call.label, identity, sensitivity)


def _weighted(made: Restructured) -> Iterator[tuple[int, int]]:
    """Yield for each linear node its position and that in the model's graph."""
    for position, node in enumerate(made.network.graph.nodes):
        if isinstance(node.op, Linear):
            yield position, made.origin[position]


def _explaining(made: Restructured, passing: RelevancePass) -> Callable[..., dict[str, tf.Tensor]]:
    """Return the function from samples, a_ref and whether they differ from the reference to their explanation."""
    outputs = made.network.graph.outputs

    def explain(x: tf.Tensor, a_ref: tf.Tensor, differs: tf.Tensor) -> dict[str, tf.Tensor]:
        own = passing.with_biases(made.biases(a_ref))
        values, products = own.evaluator.forward(x)
        (relevance,), layers = own(values, products, [differs[:, None]] * len(outputs))
        return {
            "attribution": relevance,
            "total": sum_in_float64(relevance),
            "magnitude": sum_in_float64(tf.abs(relevance)),
            "target": tf.zeros(x.shape[:1], tf.int32),
            **totals(layers, differs),
        }

    return explain


def _identity(call: MethodCall, y_ref: ArrayLike, dtype: str) -> dict[str, Any]:
    return {
        "method": call.method.name,
        "parameters": call.parameters.model_dump(mode="json"),
        "form": call.form,
        "target": "only",
        "baseline": None,
        "reference": inputs.describe_baseline(y_ref),
        "engine": "native",
        "convention": None,
        "dtype": dtype,
        "xairt": __version__,
    }


def _dataset(
    computed: dict[str, NDArray[Any]],
    made: Restructured,
    samples: inputs.Samples | several_inputs.PackedSamples,
    label: str,
    identity: dict[str, Any],
    sensitivity: float | None,
) -> xr.Dataset:
    """Return the result: sums are judged against f(x) - y_ref."""
    difference = np.where(made.differs, made.prediction - made.reference, 0.0)
    promised = difference - sum(computed[name].astype(np.float64) for name in LEDGER)
    judged = computed | {"prediction": difference, "promised": promised}
    found = result.to_dataset(judged, samples, label, identity, None, sensitivity)
    dtype = computed["attribution"].dtype
    for name, values, text in (
        ("prediction", made.prediction, "output f(x)"),
        ("reference", made.reference, "reference value y_ref"),
    ):
        found[name] = (samples.sample_dim, values.astype(dtype), {"long_name": text})
    for name in samples.variables(computed["attribution"]):
        found[name].attrs["long_name"] += " of f(x) - y_ref"
    return found


# --------------------------------------------------------------------------- retraining


def retrained(
    model: tf.keras.Model, x: ArrayLike, y: ArrayLike, y_ref: ArrayLike, **training: Any
) -> tf.keras.Model:
    """Return a copy of a network without output bias, fitted to y - y_ref (Letzgus et al. 2022, arXiv:2112.11407).

    Any method then explains it: its output is the prediction relative to the reference.

    Parameters
    ----------
    model : tf.keras.Model
        Sequential or Functional, with one linear dense unit as output; it is not changed. Training starts
        from its weights.
    x, y : array_like
        Samples (n, ...) and targets (n,) or (n, 1).
    y_ref : array_like
        Reference in units of the target: one number, or one per sample (n,).
    **training
        Of `xairt.training.fit`: epochs and more. The targets of ``validation`` are taken relative to the
        reference too, which must then be one number.

    Returns
    -------
    tf.keras.Model

    Raises
    ------
    UnsupportedLayerError
        If the output is anything but one linear dense unit.
    DataError, DivergedError
        As `xairt.training.fit`, or if y_ref does not fit.
    """
    copy = _without_output_bias(model)
    targets = np.asarray(y, np.float64)
    reference = references(y_ref, len(targets))
    if training.get("validation") is not None:
        if np.ndim(y_ref):
            raise DataError("validation with a y_ref per sample: give one number as y_ref, or no validation")
        held_out, truth = training["validation"]
        training = training | {"validation": (held_out, np.asarray(truth, np.float64) - float(y_ref))}
    fit(copy, x, targets - reference.reshape(-1, *[1] * (targets.ndim - 1)), **training)
    return copy


def _without_output_bias(model: tf.keras.Model) -> tf.keras.Model:
    """Return a copy with the same weights, but for the bias of the output unit."""
    if not getattr(model, "_is_graph_network", False) or len(model.outputs) != 1:
        raise ModelError(
            f"model '{model.name}': no Sequential or Functional model of one output; give such a model"
        )
    last = model.outputs[0].node.layer
    linear = isinstance(last, tf.keras.layers.Dense) and last.activation is tf.keras.activations.linear
    if not linear or last.units != 1:
        raise UnsupportedLayerError(
            f"layer '{last.name}' is no single linear dense unit: give a model that ends in one, without activation"
        )

    def cloned(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
        config = layer.get_config() | ({"use_bias": False} if layer is last else {})
        return type(layer).from_config(config)

    copy = tf.keras.models.clone_model(model, clone_function=cloned)
    copy.set_weights([w.numpy() for w in model.weights if w is not last.bias])
    return copy
