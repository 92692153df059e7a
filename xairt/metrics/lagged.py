"""Correlation of a field with a lagged target: the map that relevance has to be better than."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError
from xairt.metrics.arrays import is_dataarray
from xairt.metrics.samples import blocks_of_samples, labelled_samples, per_sample, valid_cells

if TYPE_CHECKING:
    import xarray as xr

_LEAST_SAMPLES = 3


def lag_correlation(
    x: ArrayLike | xr.DataArray,
    y: ArrayLike | xr.DataArray,
    *,
    sample: str = "sample",
) -> xr.Dataset:
    """Correlate each cell of a field with a target that is paired with it at a lag.

    Sample t pairs x(t) with y(t + lag), so a positive lag is prediction: the result is corr(x_i(t),
    y(t + lag)). The number of independent samples follows from the autocorrelation of both,

        n_eff = n (1 - r_x r_y) / (1 + r_x r_y),  at most n,

    with r_x and r_y the autocorrelations from one sample to the next, and p is that of Student's t with
    n_eff - 2 degrees of freedom.

    Parameters
    ----------
    x : array (samples, cells) or DataArray
        Field, for example SST anomaly in K; NaN on land. All dimensions but `sample` are cells. Samples in
        the order of dates, evenly spaced: a shuffled part has no autocorrelation and gets too small a p.
    y : (samples,)
        Target at the lagged date, for example in K.
    sample : str
        For a DataArray: the dimension of the samples; a coordinate ``time`` along it must increase.

    Returns
    -------
    xarray.Dataset
        ``correlation`` (-1 .. 1), ``n_effective`` and ``p_value`` (two-sided, for one cell: of many cells
        some are below any limit by chance, see `scipy.stats.false_discovery_control`), float64, shaped as a
        map. NaN on land and where x or y is constant; p is NaN also where n_eff is at most 2.

    Raises
    ------
    DataError
        If shapes or samples do not fit, there are fewer than 3 samples, y is not finite, a cell is NaN in
        some samples only, or dates do not increase.

    Notes
    -----
    The formula holds for red noise. A running mean over m steps makes an autocorrelation that falls as a
    line and not as an exponential: n_eff is then uncertain by a factor of about two. Fields are worked on in
    blocks of samples: 31,811 cells of 11,000 samples need no second copy of x.

    References
    ----------
    Bretherton et al. (1999), doi:10.1175/1520-0442(1999)012<1990:TENOSD>2.0.CO;2, eq. 31. On many cells:
    Wilks (2016), doi:10.1175/BAMS-D-15-00267.1.

    Examples
    --------
    >>> found = lag_correlation([[1.0, 3.0], [2.0, 2.0], [0.0, 4.0], [5.0, -1.0]], [2.0, 3.0, 1.0, 6.0])
    >>> found["correlation"].values
    array([ 1., -1.])
    """
    import xarray as xr

    labelled = is_dataarray(x)
    dims = [d for d in x.dims if d != sample] if labelled else None
    field, dims = labelled_samples(x, dims, sample, "x")
    field = field.transpose(sample, *dims)
    target = _target(y, field, sample)
    if labelled:
        _require_order(field, sample)
    values = field.values
    valid_cells(values, "x")
    found = _correlate(values.reshape(len(values), -1), target)
    names = {
        "correlation": "correlation with the target",
        "n_effective": "effective number of samples",
        "p_value": "p of no correlation",
    }
    variables = {
        name: (dims, found[i].reshape(values.shape[1:]), {"long_name": text, "units": "1"})
        for i, (name, text) in enumerate(names.items())
    }
    return xr.Dataset(variables, {n: c for n, c in field.coords.items() if sample not in c.dims})


def _target(y: Any, field: xr.DataArray, sample: str) -> NDArray[np.float64]:
    target = np.asarray(per_sample(y, field, sample, "y"), np.float64)
    if target.ndim != 1:
        raise DataError(f"y {target.shape}: not one number for each sample; select one target")
    if len(target) < _LEAST_SAMPLES:
        raise DataError(
            f"y: {len(target)} samples are too few for a correlation; give {_LEAST_SAMPLES} or more"
        )
    if not np.isfinite(target).all():
        raise DataError("y: NaN or infinite; leave samples without a target out of x and y")
    return target


def _require_order(field: xr.DataArray, sample: str) -> None:
    """Raise a DataError unless dates increase from sample to sample."""
    for name in ("time", sample):
        if name in field.coords and field[name].dims == (sample,) and field[name].dtype.kind in "MO":
            dates = field[name].values
            if not np.all(dates[1:] > dates[:-1]):
                raise DataError(f"x: dates along '{sample}' do not increase; sort the samples by '{name}'")


def _correlate(x: NDArray[Any], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return correlation, effective number of samples and p of cells (samples, cells), (3, cells)."""
    from scipy.special import betainc

    n = len(y)
    r, memory = _moments(x, y)
    product = memory * _moments(y[:, None], y)[1]
    n_effective = np.minimum(n, n * (1 - product) / (1 + product))
    freedom = np.where(n_effective > 2, n_effective - 2, np.nan)
    p = betainc(freedom / 2, 0.5, 1 - r**2)  # what Student's t = r sqrt(freedom / (1 - r^2)) exceeds
    return np.array([r, np.where(np.isnan(r), np.nan, n_effective), np.where(np.isnan(r), np.nan, p)])


def _moments(x: NDArray[Any], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return correlation with y, and autocorrelation over one sample, of cells (samples, cells).

    Two passes over blocks of samples, which are stored together: means first, so that squares do not cancel.
    Constants are NaN.
    """
    lowest, highest = x.min(axis=0), x.max(axis=0)
    mean = x.mean(axis=0, dtype=np.float64)
    anomaly_y = y - y.mean()
    squares, products, lagged = np.zeros((3, x.shape[1]))
    last = np.zeros(x.shape[1])
    for rows, block in blocks_of_samples(x):
        anomaly = block - mean
        squares += np.einsum("ij,ij->j", anomaly, anomaly)
        products += anomaly_y[rows] @ anomaly
        lagged += np.einsum("ij,ij->j", anomaly[1:], anomaly[:-1]) + last * anomaly[0]
        last = anomaly[-1]
    varies = (highest > lowest) & (y.max() > y.min())
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.clip(products / np.sqrt(squares * np.sum(anomaly_y**2)), -1.0, 1.0)
        return np.where(varies, r, np.nan), np.where(varies, lagged / squares, np.nan)
