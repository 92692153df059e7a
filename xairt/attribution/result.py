"""The result of an explanation: a labelled Dataset that carries its own completeness gap and identity."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from xairt.attribution.inputs import Samples
from xairt.attribution.lrp.engine import LEDGER

LONG_NAMES = {
    "attribution": "attribution",
    "prediction": "explained output f(x)",
    "target": "index of the explained output (-1: callable target)",
    "completeness_gap": "sum of attribution minus what the method promises",
    "absorbed_by_bias": "relevance absorbed by biases",
    "lost_to_stabiliser": "relevance lost to the stabiliser",
    "lost_to_empty_pot": "relevance lost where a denominator is exactly 0",
}


def to_dataset(
    computed: dict[str, np.ndarray], samples: Samples, label: str, identity: dict[str, Any], note: str | None
) -> xr.Dataset:
    """Build the result of one method.

    Parameters
    ----------
    computed : dict
        ``attribution`` (n, ...), ``prediction`` (n,), ``target`` (n,), and where the method has them
        ``promised`` (n,) and the ledger totals (n,).
    samples : Samples
        The explained samples.
    label : str
        Short name of the method.
    identity : dict
        Everything the result depends on.
    note : str or None
        Name of the final activation that was taken off.

    Returns
    -------
    xarray.Dataset
    """
    attribution = computed["attribution"]
    total = attribution.reshape(len(attribution), -1).sum(axis=1, dtype=np.float64)
    promised = computed.get("promised", np.full(len(total), np.nan))
    columns = {
        "prediction": computed["prediction"],
        "target": computed["target"],
        "completeness_gap": (total - promised).astype(attribution.dtype),
        **{name: computed[name] for name in LEDGER if name in computed},
    }
    field = samples.restore(attribution)
    sample_dim = (samples.map_dims or samples.dims)[0]
    result = xr.Dataset({"attribution": field} | {name: (sample_dim, v) for name, v in columns.items()})
    for name, variable in result.data_vars.items():
        variable.attrs["long_name"] = LONG_NAMES[name]
    if note:
        result["prediction"].attrs["long_name"] += f", before the final {note}"
    result.attrs = {"method": label, "identities": json.dumps({label: identity}, sort_keys=True)}
    return result


def combine(results: Sequence[xr.Dataset]) -> xr.Dataset:
    """Join the results of several methods along a ``method`` dimension of unique labels.

    Ledger totals of methods that keep none are NaN.
    """
    labels: list[str] = []
    identities: dict[str, Any] = {}
    for result in results:
        label = _unique(result.attrs["method"], labels)
        labels.append(label)
        identities[label] = next(iter(json.loads(result.attrs["identities"]).values()))
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
    joined.attrs = {"identities": json.dumps(identities, sort_keys=True)}
    return joined


def _unique(label: str, taken: list[str]) -> str:
    candidate, count = label, 2
    while candidate in taken:
        candidate, count = f"{label} #{count}", count + 1
    return candidate


def _with_ledger(result: xr.Dataset, names: list[str]) -> xr.Dataset:
    missing = {name: xr.full_like(result["completeness_gap"], np.nan) for name in names if name not in result}
    return result.assign(missing)
