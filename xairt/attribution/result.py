"""The result of an explanation: a labelled Dataset that carries its own completeness gap and identity."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from xairt.attribution import status
from xairt.attribution.inputs import Samples
from xairt.attribution.lrp.engine import LEDGER
from xairt.attribution.several_inputs import PackedSamples

LONG_NAMES = {
    "attribution": "attribution",
    "prediction": "explained output f(x)",
    "target": "index of the explained output (-1: callable target)",
    "completeness_gap": "sum of attribution minus what the method promises",
    "status": "whether the sum of attribution keeps its promise",
    "absorbed_by_bias": "relevance absorbed by biases",
    "lost_to_stabiliser": "relevance lost to the stabiliser",
    "lost_to_empty_pot": "relevance lost where a denominator is exactly 0",
}


def to_dataset(
    computed: dict[str, np.ndarray],
    samples: Samples | PackedSamples,
    label: str,
    identity: dict[str, Any],
    note: str | None,
    sensitivity: float | None = None,
) -> xr.Dataset:
    """Build the result of one method.

    Parameters
    ----------
    computed : dict
        ``attribution`` (n, ...), ``prediction`` (n,), ``target`` (n,), and where the method has them
        ``promised`` (n,) and the ledger totals (n,).
    samples : Samples or PackedSamples
        The explained samples.
    label : str
        Short name of the method.
    identity : dict
        Everything the result depends on.
    note : str or None
        Name of the final activation that was taken off.
    sensitivity : float, optional
        Change of the attribution with the last digit of the samples, where it was measured.

    Returns
    -------
    xarray.Dataset
    """
    attribution = computed["attribution"]
    sums = _sums(computed, sensitivity)
    kept_promise = status.flags(sums)
    gap = np.full(len(attribution), np.nan) if sums.gap is None else sums.gap
    columns = {
        "prediction": computed["prediction"],
        "target": computed["target"],
        "completeness_gap": gap.astype(attribution.dtype),
        "status": kept_promise,
        **{name: computed[name] for name in LEDGER if name in computed},
    }
    fields = samples.variables(attribution)
    result = xr.Dataset(fields | {name: (samples.sample_dim, v) for name, v in columns.items()})
    for name, variable in result.data_vars.items():
        variable.attrs["long_name"] = LONG_NAMES.get(name) or _input_long_name(name)
    if note:
        result["prediction"].attrs["long_name"] += f", before the final {note}"
    result["status"].attrs |= {"flag_values": status.FLAGS, "flag_meanings": " ".join(status.MEANINGS)}
    result.attrs = _attributes(label, identity, status.Tally.of(sums, kept_promise))
    return result


def _attributes(label: str, identity: dict[str, Any], tally: status.Tally) -> dict[str, str]:
    by_name = {
        "identities": identity,
        "status_report": status.report(tally, identity),
        "status_numbers": tally.to_json(),
    }
    return {"method": label} | {name: json.dumps({label: v}, sort_keys=True) for name, v in by_name.items()}


def merged_attributes(first: Mapping[str, Any], numbers: Iterable[str]) -> dict[str, str]:
    """Return the attributes of the result on all samples from those of results on blocks of them.

    Parameters
    ----------
    first : mapping
        Attributes of one of them; all are of one method by one explainer.
    numbers : iterable of str
        The attribute ``status_numbers`` of each.

    Returns
    -------
    dict
        ``method``, ``identities``, ``status_report`` and ``status_numbers``, see `status.Tally.merged`.
    """
    label = first["method"]
    tallies = (status.Tally.from_json(json.loads(text)[label]) for text in numbers)
    return _attributes(label, json.loads(first["identities"])[label], status.Tally.merged(tallies))


def _input_long_name(variable: str) -> str:
    return f"attribution of input {variable.removeprefix('attribution_')}"


def _sums(computed: dict[str, np.ndarray], sensitivity: float | None) -> status.Sums:
    if "promised" not in computed:
        with np.errstate(invalid="ignore", over="ignore"):
            flat = computed["attribution"].reshape(len(computed["prediction"]), -1)
            totals = flat @ np.ones(flat.shape[1], flat.dtype)
            if not np.isfinite(totals).all():  # a sum may overflow where no value is infinite
                totals = flat.sum(axis=1, dtype=np.float64)
        return status.Sums(None, computed["prediction"], totals)
    if "total" in computed:
        total, magnitude = computed["total"], computed["magnitude"]
    else:
        flat = computed["attribution"].reshape(len(computed["attribution"]), -1)
        total, magnitude = (part.sum(axis=1, dtype=np.float64) for part in (flat, np.abs(flat)))
    has_ledger = any(name in computed for name in LEDGER)
    amount = computed["prediction" if has_ledger else "promised"]
    return status.Sums(total - computed["promised"], amount, magnitude, sensitivity)


def combine(results: Sequence[xr.Dataset]) -> xr.Dataset:
    """Join the results of several methods along a ``method`` dimension of unique labels.

    Ledger totals of methods that keep none are NaN.
    """
    labels: list[str] = []
    by_method: dict[str, dict[str, Any]] = {
        name: {} for name in ("identities", "status_report", "status_numbers")
    }
    for result in results:
        label = _unique(result.attrs["method"], labels)
        labels.append(label)
        for name, found in by_method.items():
            found[label] = next(iter(json.loads(result.attrs[name]).values()))
    names = list(dict.fromkeys(name for result in results for name in result.data_vars))
    complete = [_with_ledger(result, names) for result in results]
    joined = xr.concat(
        complete,
        dim=xr.IndexVariable("method", labels),
        combine_attrs="drop",
        coords="minimal",
        compat="override",
    )
    for name in names:
        joined[name].attrs = dict(next(r[name].attrs for r in results if name in r))
    joined.attrs = {name: json.dumps(found, sort_keys=True) for name, found in by_method.items()}
    return joined


def _unique(label: str, taken: list[str]) -> str:
    candidate, count = label, 2
    while candidate in taken:
        candidate, count = f"{label} #{count}", count + 1
    return candidate


def _with_ledger(result: xr.Dataset, names: list[str]) -> xr.Dataset:
    missing = {name: xr.full_like(result["completeness_gap"], np.nan) for name in names if name not in result}
    return result.assign(missing)
