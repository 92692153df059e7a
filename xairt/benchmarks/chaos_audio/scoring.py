"""The stage that scores: how much of an attribution lies in the channel of the word?"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from xairt.benchmarks.chaos_audio.sounds import N_CHANNELS
from xairt.benchmarks.chaos_audio.stages import explain
from xairt.benchmarks.chaos_media.stages import DATA
from xairt.benchmarks.chaos_media.training import network_rows
from xairt.data.files import read_array, write_dataset
from xairt.data.streams import sample_blocks
from xairt.errors import DataError
from xairt.runs import Case
from xairt.runs.scores import identity_of, statistic_rows

if TYPE_CHECKING:
    import xarray as xr

SAMPLE_SCORES = "sample_scores.nc"

SHARE, FOUND = "channel_share", "channel_found"
"""Share of the word's channel, and whether it is the channel with the largest share."""

CHANCE = 1 / N_CHANNELS
"""Share of a channel, and of sounds whose channel is found, where attributions know nothing."""

_BLOCK = 25

log = logging.getLogger(__name__)


def score(case: Case) -> pd.DataFrame:
    """Score the network and every attribution of a case.

    Writes ``sample_scores.nc``: ``share_by_channel`` (label, sample, channel), and ``channel_share`` and
    ``channel_found`` (label, sample).

    Parameters
    ----------
    case : Case

    Returns
    -------
    pandas.DataFrame
        For each attribution ``channel_share`` and ``channel_found``: ``mean, sd, median, p05, p95`` over sounds and
        ``missing``, the number of attributions that are 0 or not finite. Chance is 0.1 of both. For the network
        ``accuracy`` and ``accuracy_top5`` of its parts.
    """
    import xarray as xr

    position = read_array(case.read(DATA), "position").values
    rows, found = network_rows(case), []
    explanations = explain(case)
    for explanation in explanations:
        blocks = sample_blocks(case.read(explanation.file), "attribution", size=_BLOCK)
        found.append(sound_scores(np.concatenate([channel_shares(b.values) for b in blocks]), position))
        for metric in (SHARE, FOUND):
            rows += [identity_of(explanation) | row for row in statistic_rows(metric, found[-1][metric])]
    joined = xr.concat(found, "label").assign_coords(label=[e.name for e in explanations])
    write_dataset(joined, case.write(SAMPLE_SCORES), title="Share of each channel, of every sound by label")
    return pd.DataFrame(rows)


def channel_shares(attribution: ArrayLike) -> NDArray[np.float64]:
    """Return how the magnitude of attributions is divided among channels.

    The mean over time of |attribution| in each channel, divided by the sum of these means.

    Parameters
    ----------
    attribution : (samples, time, channel)

    Returns
    -------
    (samples, channel) float64
        Each row sums to 1; NaN where an attribution is 0 everywhere or not finite.

    Raises
    ------
    DataError
        If it has other dimensions.

    References
    ----------
    Shi et al. (2024), arXiv:2406.12150, section 3.3; the published program divides another number in the case of
    DeepLIFT, which is not copied.

    Examples
    --------
    >>> channel_shares([[[3.0, -1.0], [0.0, 0.0]]])
    array([[0.75, 0.25]])
    """
    values = np.asarray(attribution)
    if values.ndim != 3:
        raise DataError(f"attribution {values.shape}: give (samples, time, channel)")
    means = np.abs(values).mean(axis=1, dtype=np.float64)
    total = means.sum(axis=1, keepdims=True)
    shares = np.full(means.shape, np.nan)
    known = np.isfinite(total[:, 0]) & (total[:, 0] > 0)
    shares[known] = means[known] / total[known]
    return shares


def sound_scores(shares: ArrayLike, position: ArrayLike) -> xr.Dataset:
    """Score the shares of channels against the channel of the word.

    Parameters
    ----------
    shares : (samples, channel)
        Of `channel_shares`.
    position : (samples,)
        Channel of the word.

    Returns
    -------
    xarray.Dataset
        ``share_by_channel`` (sample, channel), ``channel_share`` (sample) and ``channel_found`` (sample): 1 where no
        other channel has as large a share, else 0. NaN where the shares are.
    """
    import xarray as xr

    values, true = np.asarray(shares, np.float64), np.asarray(position)[:, None]
    own = np.take_along_axis(values, true, axis=1)
    first = (values >= own).sum(axis=1) == 1
    missing = np.isnan(values).any(axis=1)
    if missing.any():
        log.warning("%d of %d attributions are 0 or not finite and have no score", missing.sum(), len(values))
    return xr.Dataset(
        {
            "share_by_channel": (("sample", "channel"), values, {"units": "1"}),
            SHARE: ("sample", own[:, 0], {"units": "1"}),
            FOUND: ("sample", np.where(missing, np.nan, first), {"units": "1"}),
        },
        {"channel": np.arange(values.shape[1])},
    )


def shares_from_word(shares: ArrayLike, position: ArrayLike) -> NDArray[np.float64]:
    """Return shares with the word's channel first, and the others in their order behind it.

    Parameters
    ----------
    shares : (samples, channel)
    position : (samples,)

    Examples
    --------
    >>> shares_from_word([[0.1, 0.7, 0.2]], [1])
    array([[0.7, 0.2, 0.1]])
    """
    values = np.asarray(shares, np.float64)
    order = (np.asarray(position)[:, None] + np.arange(values.shape[1])) % values.shape[1]
    return np.take_along_axis(values, order, axis=1)
