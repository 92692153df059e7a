"""Scores of images averaged over buckets: groups of images with the same features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError
from xairt.metrics.arrays import is_dataarray
from xairt.metrics.samples import per_sample

if TYPE_CHECKING:
    import xarray as xr


def bucket_scores(
    scores: ArrayLike | xr.DataArray, bucket: ArrayLike | xr.DataArray, *, sample: str = "sample"
) -> xr.Dataset:
    """Average scores over the images of each bucket, then over buckets.

    Parameters
    ----------
    scores : (samples,) or DataArray with the dimension `sample`
        NaN where an image has no score; it is left out. Further dimensions (role, method) are kept.
    bucket : (samples,)
        Name of each image's bucket; where settings are pooled, name them too.
    sample : str
        The dimension of the samples.

    Returns
    -------
    xarray.Dataset
        Along ``bucket``, in the order of their first image: ``mean`` (NaN without a score) and ``count`` of the
        scores. Over the buckets that have a score: ``average`` (each bucket counts alike), ``minimum``, and their
        number ``n_buckets``; NaN, NaN and 0 where there is none.

    Raises
    ------
    DataError
        If there is not one bucket for each score, or a score is infinite.

    References
    ----------
    Kim, Plumb and Talwalkar (2022), arXiv:2105.06506, section 5.

    Examples
    --------
    >>> found = bucket_scores([0.2, 0.4, np.nan, 0.9], ["a", "a", "b", "c"])
    >>> found["mean"].values.round(2), found["count"].values, found["minimum"].item()
    (array([0.3, nan, 0.9]), array([2, 0, 1]), 0.30000000000000004)
    """
    import xarray as xr

    found = scores if is_dataarray(scores) else xr.DataArray(_plain(scores), dims=(sample,))
    labels = per_sample(bucket, found, sample, "bucket")
    if labels.ndim != 1 or not len(labels):
        raise DataError(f"bucket {labels.shape}: not one name for each sample; join features to one name")
    values = np.moveaxis(found.values.astype(np.float64), found.get_axis_num(sample), -1)
    if np.isinf(values).any():
        raise DataError("scores: infinite; give finite numbers, NaN where there is no score")
    names, first, member = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(first)
    members = np.eye(len(names))[member][:, order]
    valid = ~np.isnan(values)
    count = (valid @ members).astype(np.int64)
    mean = np.nan_to_num(values) @ members / np.where(count > 0, count, np.nan)
    n_buckets = (count > 0).sum(axis=-1)
    dims = [d for d in found.dims if d != sample]
    variables = {
        "mean": ([*dims, "bucket"], mean),
        "count": ([*dims, "bucket"], count),
        "average": (dims, np.nansum(mean, axis=-1) / np.where(n_buckets > 0, n_buckets, np.nan)),
        "minimum": (dims, np.fmin.reduce(mean, axis=-1)),
        "n_buckets": (dims, n_buckets),
    }
    coords = {n: c for n, c in found.coords.items() if sample not in c.dims}
    return xr.Dataset(variables, coords | {"bucket": names[order]})


def _plain(scores: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(scores, np.float64)
    if array.ndim != 1:
        raise DataError(f"scores {array.shape}: not (samples,); give a DataArray for further dimensions")
    return array
