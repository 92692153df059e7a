"""The stage that scores attributions against the truth that their method is after, and averages over formulas."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xairt import conventions, metrics
from xairt.benchmarks.chaos_symbolic.formulas import formula_of
from xairt.benchmarks.chaos_symbolic.settings import CONTROLS, SWEPT
from xairt.benchmarks.chaos_symbolic.stages import NETWORKS, TRUTHS, explain
from xairt.data.files import read_array, read_dataset, write_dataset
from xairt.runs import Case
from xairt.runs.scores import NETWORK, identity_of, statistic_rows

SAMPLE_SCORES = "sample_scores.nc"
UNIFORMITY, PRECISION = "uniformity", "functional_precision"

TRUTHS_OF = {
    "gradient": ("derivative",),
    "smoothgrad": ("derivative",),
    "saliency": ("magnitude", "derivative"),
    "integrated_gradients": ("integral", "integral20"),
    "shap.gradient": ("integral", "integral20"),
    **dict.fromkeys(CONTROLS, ("intercept", "derivative", "integral")),
}
"""Truths that a method is scored against, the right one first; of all others it is the intercept."""

PUBLISHED_TRUTHS = {
    ("saliency", "derivative"),
    ("integrated_gradients", "integral20"),
    ("shap.gradient", "integral20"),
}
"""Methods with a truth that is the publication's where it differs from the right one."""

log = logging.getLogger(__name__)


def truths_of(method: str) -> tuple[str, ...]:
    """Return the names of the truths that a method is scored against.

    Parameters
    ----------
    method : str
        Method with its parameters, as of `xairt.explainer`.

    Examples
    --------
    >>> truths_of("saliency"), truths_of("deeplift.rescale")
    (('magnitude', 'derivative'), ('intercept',))
    """
    from xairt.attribution.registry import resolve

    return TRUTHS_OF.get(resolve(method).method.name, ("intercept",))


def sample_scores(
    method: str,
    attribution: NDArray[np.floating],
    truth: Mapping[str, NDArray[np.floating]],
    relevant: NDArray[np.bool_],
) -> dict[str, NDArray[np.float64]]:
    """Score the attributions of one method.

    Parameters
    ----------
    method : str
        Decides on the truths, see `truths_of`.
    attribution : (samples, variables)
    truth : mapping
        Name of a truth -> (samples, variables).
    relevant : (variables,) of bool

    Returns
    -------
    dict
        ``uniformity.<truth>`` for each of them, and ``functional_precision``: (samples,), 0 to 1; NaN where the
        attribution is not finite.
    """
    found = {
        f"{UNIFORMITY}.{name}": metrics.uniformity_score(attribution, truth[name], relevant)
        for name in truths_of(method)
    }
    return found | {PRECISION: metrics.functional_precision(attribution, relevant)}


def score(case: Case) -> pd.DataFrame:
    """Score the network and every attribution of a case; write ``sample_scores.nc``, the scores of every sample.

    Parameters
    ----------
    case : Case

    Returns
    -------
    pandas.DataFrame
        For each attribution and metric of `sample_scores` its `statistics` over samples; those of the publication's
        truth name its convention. For the network ``prediction_score``, ``mae`` and ``r2`` against noise-free y of the
        whole test set.
    """
    from xairt.attribution.registry import resolve

    known, n_letters = read_dataset(case.read(TRUTHS)), formula_of(case.config.formula).n_features
    relevant = np.arange(known.sizes["variable"]) < n_letters
    found, rows = {}, _network_rows(case)
    for explanation in explain(case):
        name = resolve(explanation.method).method.name
        attribution = read_array(case.read(explanation.file), "attribution").values
        truth = {name: known[name].values[: len(attribution)] for name in truths_of(explanation.method)}
        for metric, values in sample_scores(explanation.method, attribution, truth, relevant).items():
            found[explanation.name, metric] = values
            published = (name, metric.partition(".")[2]) in PUBLISHED_TRUTHS
            identity = identity_of(explanation)
            identity["convention"] = conventions.CHAOSMINING2024.name if published else None
            rows += [identity | row for row in statistic_rows(metric, values)]
    _write_sample_scores(case, found)
    return pd.DataFrame(rows)


def averages(table: pd.DataFrame, cases: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Average mean scores over seeds, and then over formulas.

    Parameters
    ----------
    table : pandas.DataFrame
        Scores of a run.
    cases : mapping
        Settings of each case by its name, as of `settings.cases`; cases without scores are left out.

    Returns
    -------
    pandas.DataFrame
        Columns: the swept settings but the seed, ``label, metric, value, sd, n_formulas, n_seeds``. ``sd`` is the
        standard deviation over seeds of the average over formulas, NaN for one seed.
    """
    judged = table[table["statistic"].isin(("mean", "value")) & table["case"].isin(list(cases))]
    swept = [name for name in SWEPT if name != "seed"]
    own = pd.DataFrame(
        [{"case": name, **{key: value[key] for key in ("formula", *SWEPT)}} for name, value in cases.items()]
    )
    full = judged[["case", "label", "metric", "value"]].merge(own.astype({"formula": str}), on="case")
    keys = [*swept, "label", "metric"]
    by_seed = full.groupby([*keys, "seed"], sort=False)["value"].mean().reset_index()
    by_formula = full.groupby([*keys, "formula"], sort=False)["value"].mean().reset_index()
    found = by_formula.groupby(keys, sort=False)["value"].agg(["mean", "size"])
    of_seeds = by_seed.groupby(keys, sort=False)["value"].agg(["std", "size"])
    found = found.rename(columns={"mean": "value", "size": "n_formulas"})
    return found.assign(sd=of_seeds["std"], n_seeds=of_seeds["size"]).reset_index()


def _network_rows(case: Case) -> list[dict[str, Any]]:
    """Return the skill of the network; tell of one that has not learnt, whose explanations say little."""
    table = pd.read_csv(case.read(NETWORKS))
    r2 = table.loc[table["metric"] == "r2", "value"].item()
    minimum = case.config.minimum_r2
    if minimum is not None and not r2 >= minimum:
        log.warning(
            "case %s: R2 %.3f on the test set, below minimum_r2=%g: its attributions tell little of the truth",
            *(case.name, r2, minimum),
        )
    return table.assign(method=NETWORK, statistic="value").to_dict("records")


def _write_sample_scores(case: Case, found: Mapping[tuple[str, str], NDArray[np.float64]]) -> None:
    import xarray as xr

    if not found:
        return
    labels, names = zip(*found, strict=True)
    dataset = xr.Dataset(
        {"score": (("comparison", "sample"), np.stack(list(found.values())), {"units": "1"})},
        {"label": ("comparison", list(labels)), "metric": ("comparison", list(names))},
    )
    dataset["score"].attrs["long_name"] = "score of the attribution of one sample"
    write_dataset(dataset, case.write(SAMPLE_SCORES), title="Scores of every explained sample")
