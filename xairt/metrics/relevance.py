"""From the relevance maps of a classifier's samples to the maps of a paper: composites and frequencies."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError, suggest
from xairt.metrics.arrays import dimensions, is_dataarray, refuse_names
from xairt.metrics.samples import blocks_of_samples, labelled_samples, per_sample, valid_cells

if TYPE_CHECKING:
    import xarray as xr

Normalisation = Literal["sum", "absolute_sum", "largest_absolute"] | None
"""What a map is divided by; None leaves it as it is."""

CLASSES = ("negative", "positive")
"""Names of classes 0 and 1: anomalies of the target at most 0, and above."""

_DIVISORS = get_args(get_args(Normalisation)[0])
_CANCELLED = 16
_ROUNDING = 1e-9

log = logging.getLogger(__name__)


def normalise(
    relevance: ArrayLike | xr.DataArray,
    dim: str | Sequence[str] | None = None,
    *,
    by: Normalisation,
    axis: int | tuple[int, ...] = -1,
) -> Any:
    """Divide each map by one number of its own.

    Parameters
    ----------
    relevance : array (..., cells) or DataArray
        Relevance of samples, or a composite; NaN on land.
    dim : str or sequence of str
        For a DataArray: the dimensions of the cells; must be given.
    by : {"sum", "absolute_sum", "largest_absolute", None}
        The signed sum over the cells (the map then sums to 1, and its signs change where the sum is
        negative), the sum of the magnitudes, the largest magnitude, or nothing. There is no default: each
        answers another question, and the unit of the output is lost.
    axis : int or tuple of int
        For a plain array: the axes of the cells.

    Returns
    -------
    numpy.ndarray or xarray.DataArray
        As `relevance`, float64, without unit; a DataArray tells the divisor in its attribute
        ``normalisation``. Maps of zeros stay zero, and their number is logged; see `zero_maps`.

    Raises
    ------
    DataError
        If `by` is unknown, a relevance is infinite, the signed sum of a map is 0 within rounding though the
        map is not, the axis does not fit, or `dim` is missing, unknown, or given for a plain array.

    Examples
    --------
    >>> normalise([[1.0, -4.0, np.nan], [0.0, 0.0, np.nan]], by="largest_absolute")
    array([[ 0.25, -1.  ,   nan], [ 0.  ,  0.  ,   nan]])
    """
    _require_normalisation(by)
    if is_dataarray(relevance):
        import xarray as xr

        dims = dimensions(dim, relevance.dims)
        axes = tuple(range(-len(dims), 0))
        found = xr.apply_ufunc(
            lambda values: normalise(values, by=by, axis=axes),
            relevance,
            input_core_dims=[dims],
            output_core_dims=[dims],
            keep_attrs=True,
        ).transpose(*relevance.dims)
        return found if by is None else found.assign_attrs(units="1", normalisation=by)
    refuse_names(dim)
    axis = (axis,) if isinstance(axis, int) else tuple(axis)
    maps, rounding = _maps(relevance, axis)
    found, empty = _normalised(maps, by, axis, rounding)
    if by is not None and empty.any():
        log.warning("normalise: %d of %d maps are all zero and stay so", empty.sum(), empty.size)
    return found


def zero_maps(
    relevance: ArrayLike | xr.DataArray,
    dim: str | Sequence[str] | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
) -> Any:
    """Mark maps without any relevance, such as those of samples that no hidden unit answers to.

    Parameters
    ----------
    relevance, dim, axis
        As `normalise`.

    Returns
    -------
    numpy.ndarray, bool or xarray.DataArray
        Without the axes of the cells, True where all cells (NaN left out) are exactly 0; False for a map of
        nothing but NaN. ``int(zero_maps(relevance, "cell").sum())`` counts them.

    Raises
    ------
    DataError
        As `normalise`.

    Examples
    --------
    >>> zero_maps([[0.0, -0.0, np.nan], [0.0, 1e-30, np.nan]])
    array([ True, False])
    """
    if is_dataarray(relevance):
        import xarray as xr

        dims = dimensions(dim, relevance.dims)
        axes = tuple(range(-len(dims), 0))
        return xr.apply_ufunc(lambda values: zero_maps(values, axis=axes), relevance, input_core_dims=[dims])
    refuse_names(dim)
    axis = (axis,) if isinstance(axis, int) else tuple(axis)
    return _all_zero(_maps(relevance, axis)[0], axis)[()]


def class_composites(
    relevance: ArrayLike | xr.DataArray,
    predicted: ArrayLike | xr.DataArray,
    label: ArrayLike | xr.DataArray,
    dim: str | Sequence[str] | None = None,
    *,
    by: Normalisation,
    target: ArrayLike | xr.DataArray | None = None,
    sample: str = "sample",
) -> xr.Dataset:
    """Average relevance over the correctly predicted samples of each class.

    A sample counts for class c where its label and its prediction are both c. Its relevance must be that of
    the output of class c, as `xairt.attribute` gives it by default (``target=None``: the largest output).

    Parameters
    ----------
    relevance : array (samples, cells) or DataArray
        Relevance of each sample, in the unit of the output; NaN on land. Further dimensions (methods) are
        kept.
    predicted : (samples,) or (samples, 2)
        Predicted class numbers, 0 = negative and 1 = positive anomaly, or the network's two outputs; the
        class is that of the larger one, 0 if they are equal.
    label : (samples,)
        Right class numbers.
    dim : str or sequence of str
        For a DataArray: the dimensions of the cells; must be given.
    by : {"sum", "absolute_sum", "largest_absolute", None}
        What each sample's map is divided by before the mean, see `normalise`; there is no default. With None
        samples of large relevance count more. A composite itself is normalised by `normalise`.
    target : (samples,), optional
        Class that each sample is explained for, the variable ``target`` of what `xairt.attribute` gives.
        A correct sample explained for the other class is then an error. None: taken to be the predicted one.
    sample : str
        For a DataArray: the dimension of the samples.

    Returns
    -------
    xarray.Dataset
        Along dimension ``class`` ("negative", "positive"): ``mean`` and ``standard_deviation`` (divisor
        n - 1) over the samples, shaped as the maps; ``count`` of the samples averaged, ``n_labelled`` of all
        samples of this class, and ``zero_maps``, how many of those averaged are all zero (they count as
        zeros). A class without a correct sample has count 0 and NaN maps, and a warning is logged; the
        standard deviation of one sample is NaN.

    Raises
    ------
    DataError
        If shapes or samples do not fit, a class is not 0 or 1, an output is not finite, a cell is NaN in some
        samples only, a correct sample is explained for the other class, and as `normalise`.

    References
    ----------
    Toms, Barnes and Ebert-Uphoff (2020), doi:10.1029/2019MS002002, composites of relevance over accurate
    predictions of a class.

    Examples
    --------
    >>> found = class_composites([[1.0, 0.0], [3.0, 0.0], [0.0, 9.0]], [1, 1, 1], [1, 1, 0], by=None)
    >>> found["mean"].sel({"class": "positive"}).values, found["count"].values
    (array([2., 0.]), array([0, 2]))
    """
    _require_normalisation(by)
    maps, dims = labelled_samples(relevance, dim, sample, "relevance")
    labels = _class_numbers(per_sample(label, maps, sample, "label"), "label")
    guesses = _class_numbers(per_sample(predicted, maps, sample, "predicted"), "predicted")
    members = np.array([(labels == c) & (guesses == c) for c in range(len(CLASSES))])
    if target is not None:
        _require_own_class(per_sample(target, maps, sample, "target"), members)
    for name, count in zip(CLASSES, members.sum(axis=1), strict=True):
        if not count:
            log.warning("class '%s': no correctly predicted sample; its composite is NaN", name)
    extra = [d for d in maps.dims if d not in (sample, *dims)]
    ordered = maps.transpose(sample, *extra, *dims)
    moments = _moments(ordered.values, members, by, tuple(range(-len(dims), 0)))
    labelled = np.array([(labels == c).sum() for c in range(len(CLASSES))])
    return _composite_dataset(ordered, moments, members, labelled, len(dims), by)


def frequency_above_percentile(
    relevance: ArrayLike | xr.DataArray,
    percentile: float,
    dim: str | Sequence[str] | None = None,
    *,
    magnitude: bool,
    weights: ArrayLike | xr.DataArray | None = None,
    sample: str = "sample",
) -> Any:
    """Return for each cell the share of samples in which it is among the most relevant ones.

    A cell counts in a sample where its relevance is greater than the sample's percentile, which is the
    smallest relevance v such that cells with at most v make up at least this part of all cells (or of their
    area). So at most 100 - p percent of the cells count in each sample; equal values count together or not
    at all, and in a map of equal values, or of zeros, no cell counts.

    Parameters
    ----------
    relevance : array (samples, cells) or DataArray
        NaN on land, which counts nowhere.
    percentile : float
        p, 0 <= p < 100.
    dim : str or sequence of str
        For a DataArray: the dimensions of the cells; must be given.
    magnitude : bool
        Whether to rank the magnitudes, or the signed relevance. There is no default.
    weights : array (cells) or DataArray, optional
        Area of each cell, > 0; a plain array is shaped as the cells of `relevance`, in the order of `dim`.
        None: cells count alike.
    sample : str
        For a DataArray: the dimension of the samples.

    Returns
    -------
    numpy.ndarray or xarray.DataArray
        Without the samples, 0 .. 1, float64, NaN on land.

    Raises
    ------
    DataError
        If the percentile is out of range, a weight is not positive, a cell is NaN in some samples only, a
        relevance is infinite, or shapes or dimensions do not fit.

    Examples
    --------
    >>> frequency_above_percentile([[1.0, 2.0, -9.0, np.nan], [5.0, 0.0, 0.0, np.nan]], 60, magnitude=True)
    array([0.5, 0. , 0.5,  nan])
    """
    import xarray as xr

    if not 0 <= percentile < 100:
        raise DataError(f"percentile={percentile}: out of range; give 0 or more and below 100, such as 90")
    maps, dims = labelled_samples(relevance, dim, sample, "relevance")
    area = None if weights is None else _cell_weights(weights, maps, dims)
    found = xr.apply_ufunc(
        lambda values: _frequency(values, percentile, magnitude, area),
        maps,
        input_core_dims=[[sample, *dims]],
        output_core_dims=[dims],
        vectorize=True,
        output_dtypes=[np.float64],
    )
    if not is_dataarray(relevance):
        return found.values
    what = "|relevance|" if magnitude else "relevance"
    name = f"share of samples with {what} above its percentile {percentile:g}"
    return found.rename("frequency").assign_attrs(long_name=name, units="1")


def _require_normalisation(by: Any) -> None:
    if by is not None and by not in _DIVISORS:
        raise DataError(
            f"by={by!r} is unknown: give {', '.join(map(repr, _DIVISORS))} or None{suggest(by, _DIVISORS)}"
        )


def _maps(relevance: ArrayLike, axis: tuple[int, ...]) -> tuple[NDArray[np.float64], float]:
    """Return maps as float64, and the rounding of what they came in."""
    given = np.asarray(relevance)
    maps = np.asarray(given, np.float64)
    if np.isinf(maps).any():
        raise DataError("relevance: infinite; give finite numbers, NaN on land")
    if any(not -maps.ndim <= a < maps.ndim for a in axis):
        raise DataError(f"relevance {maps.shape}: axis {axis} does not fit; name axes that it has")
    return maps, _rounding(given)


def _rounding(given: NDArray[Any]) -> float:
    return float(np.finfo(given.dtype if given.dtype.kind == "f" else np.float64).eps)


def _all_zero(maps: NDArray[np.float64], axis: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.all((maps == 0) | np.isnan(maps), axis=axis) & np.any(maps == 0, axis=axis)


def _normalised(
    maps: NDArray[np.float64], by: Normalisation, axis: tuple[int, ...], rounding: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the maps divided, and which are all zero."""
    empty = _all_zero(maps, axis)
    if by is None:
        return maps, empty
    if by == "largest_absolute":
        divisor = np.fmax.reduce(np.abs(maps), axis=axis, keepdims=True, initial=0.0)
    else:
        magnitude = np.nansum(np.abs(maps), axis=axis, keepdims=True)
        divisor = magnitude if by == "absolute_sum" else np.nansum(maps, axis=axis, keepdims=True)
        cancelled = (np.abs(divisor) <= _CANCELLED * rounding * magnitude) & (magnitude > 0)
        if cancelled.any():
            raise DataError(
                f"relevance: the sum of {int(cancelled.sum())} maps is 0 within rounding; "
                "normalise by='absolute_sum' or by='largest_absolute'"
            )
    return maps / np.where(divisor == 0, 1.0, divisor), empty


def _class_numbers(values: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Return class numbers of class numbers (n,) or of two outputs (n, 2)."""
    if name == "predicted" and values.ndim == 2 and values.shape[1] == len(CLASSES):
        outputs = np.asarray(values, np.float64)
        if not np.isfinite(outputs).all():
            raise DataError("predicted: outputs are NaN or infinite; check the network")
        return np.argmax(outputs, axis=1)
    if values.ndim != 1:
        shapes = "(samples,) or outputs (samples, 2)" if name == "predicted" else "(samples,)"
        raise DataError(f"{name} {values.shape}: no class for each sample; give class numbers {shapes}")
    if not np.isin(values, range(len(CLASSES))).all():
        raise DataError(f"{name}: holds other numbers than 0 (negative) and 1 (positive); give class numbers")
    return values.astype(np.int64)


def _require_own_class(target: NDArray[Any], members: NDArray[np.bool_]) -> None:
    numbers = _class_numbers(target, "target")
    wrong = int(sum((member & (numbers != c)).sum() for c, member in enumerate(members)))
    if wrong:
        raise DataError(
            f"target: {wrong} correct samples are explained for the other class; "
            "explain each for its own class (target=label)"
        )


def _moments(
    values: NDArray[Any], members: NDArray[np.bool_], by: Normalisation, axis: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return mean, standard deviation and number of zero maps of groups of samples (samples, ..., cells).

    Blocks are joined by the formula of Chan, Golub and LeVeque (1983), which does not cancel.
    """
    valid_cells(values, "relevance")
    rounding = _rounding(values)
    shape, count = (len(members), *values.shape[1:]), np.zeros(len(members))
    mean, squares = np.zeros(shape), np.zeros(shape)
    zeros = np.zeros((len(members), *values.shape[1 : values.ndim - len(axis)]), np.int64)
    for rows, block in blocks_of_samples(values):
        for c, member in enumerate(members[:, rows]):
            part, empty = _normalised(block[member], by, axis, rounding)
            if not len(part):
                continue
            zeros[c] += empty.sum(axis=0)
            before, count[c] = count[c], count[c] + len(part)
            centre = part.mean(axis=0)
            shift = centre - mean[c]
            mean[c] += shift * (len(part) / count[c])
            squares[c] += ((part - centre) ** 2).sum(axis=0) + shift**2 * (before * len(part) / count[c])
    column = count.reshape(-1, *[1] * (values.ndim - 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = np.sqrt(squares / np.where(column > 1, column - 1, np.nan))
    return np.where(column > 0, mean, np.nan), deviation, zeros


def _composite_dataset(
    maps: xr.DataArray,
    moments: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]],
    members: NDArray[np.bool_],
    labelled: NDArray[np.int64],
    n_cell_dims: int,
    by: Normalisation,
) -> xr.Dataset:
    """Label the composites of maps (sample, ..., cells)."""
    import xarray as xr

    sample = maps.dims[0]
    mean, deviation, zeros = moments
    dims = ("class", *maps.dims[1:])
    units = "1" if by else maps.attrs.get("units", "1")
    quantity = _normalised_name(str(maps.attrs.get("long_name", "relevance")), by)
    found = {
        "mean": (dims, mean, {"long_name": f"mean of {quantity}", "units": units}),
        "standard_deviation": (
            dims,
            deviation,
            {"long_name": f"standard deviation of {quantity}", "units": units},
        ),
        "count": ("class", members.sum(axis=1), {"long_name": "correctly predicted samples"}),
        "n_labelled": ("class", labelled, {"long_name": "samples of the class"}),
        "zero_maps": (
            dims[: len(dims) - n_cell_dims],
            zeros,
            {"long_name": "maps of zeros among those averaged"},
        ),
    }
    coords = {name: c for name, c in maps.coords.items() if sample not in c.dims}
    return xr.Dataset(found, {**coords, "class": list(CLASSES)}, {"normalisation": str(by).lower()})


def _normalised_name(quantity: str, by: Normalisation) -> str:
    divisors = {
        "sum": "its sum",
        "absolute_sum": f"sum |{quantity}|",
        "largest_absolute": f"max |{quantity}|",
    }
    return quantity if by is None else f"{quantity} / {divisors[by]}"


def _cell_weights(weights: Any, maps: xr.DataArray, dims: list[str]) -> NDArray[np.float64]:
    """Return one weight for each cell, shaped as the cells."""
    if is_dataarray(weights):
        dimensions(list(map(str, weights.dims)), dims)
        weights = weights.broadcast_like(maps.isel({d: 0 for d in maps.dims if d not in dims}, drop=True))
        weights = weights.transpose(*dims).values
    shape = tuple(maps.sizes[d] for d in dims)
    found = np.asarray(weights, np.float64)
    if found.shape != shape:
        raise DataError(f"weights {found.shape}: do not fit cells {shape}; give one for each cell")
    return found


def _frequency(
    values: NDArray[Any], percentile: float, magnitude: bool, weights: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Return the share of samples (samples, ...) in which each cell is above the sample's percentile."""
    valid = valid_cells(values, "relevance")
    area = None if weights is None else weights[valid]
    if area is not None and not (np.isfinite(area).all() and (area > 0).all()):
        raise DataError("weights: not positive; give the area of each cell, for example grid.area_weights")
    count = np.zeros(int(valid.sum()))
    for _, block in blocks_of_samples(values):
        cells = np.abs(block[:, valid]) if magnitude else block[:, valid]
        count += (cells > _percentile(cells, percentile, area)).sum(axis=0)
    found = np.full(valid.shape, np.nan)
    found[valid] = count / len(values)
    return found


def _percentile(
    cells: NDArray[np.float64], percentile: float, area: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Return the smallest value below or at which enough cells (samples, cells), or area, lie, (samples, 1)."""
    n = cells.shape[1]
    if not n:
        return np.full((len(cells), 1), np.nan)
    if area is None:
        place = max(1, int(np.ceil(percentile / 100 * n - _ROUNDING)))
        return np.partition(cells, place - 1, axis=1)[:, place - 1 : place]
    order = np.argsort(cells, axis=1)
    below = np.cumsum(area[order], axis=1) / area.sum()
    place = np.argmax(below >= percentile / 100 - _ROUNDING, axis=1)[:, None]
    return np.take_along_axis(cells, np.take_along_axis(order, place, axis=1), axis=1)
