"""How much of an image's attribution lies in the boxes of the objects that a network uses."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError, suggest
from xairt.metrics.arrays import is_dataarray
from xairt.metrics.samples import blocks_of_samples, labelled_samples, per_sample

if TYPE_CHECKING:
    import xarray as xr

Reduction = Literal["absolute_sum", "maximum", "heat_map", "min_max"]
"""How the channels of an attribution become one plane, see `saliency_plane`."""

IMAGE_DIMS = ("y", "x", "channel")
IMAGE_AXES = (1, 2, 3)
ROLES = ("primary", "secondary")
"""Objects that the network should use for an image, and those that it should leave aside."""

BLUR = 7
"""Side of the box blur of the publication, pixels."""

BINS = 10
_FLAT = 1e-12
_REDUCTIONS = get_args(Reduction)

log = logging.getLogger(__name__)


def saliency_plane(attribution: ArrayLike, reduction: Reduction = "absolute_sum") -> NDArray[np.float64]:
    """Reduce the channels of attributions to one plane per image.

    Parameters
    ----------
    attribution : (samples, y, x, channel)
        Finite, signed or not, in the unit of the network's output.
    reduction : {"absolute_sum", "maximum", "heat_map", "min_max"}
        "absolute_sum" and "maximum": the sum or the largest of the channels' magnitudes. "heat_map": the darkness
        of a picture of the map: signed sum over the channels, divided by its largest magnitude in the image, in
        256 levels of the colour map "seismic" of matplotlib, and 1 minus the mean of red, green and blue; it ranks
        blue (negative) and red (positive) of one strength almost alike, and has no unit. "min_max": signed values,
        scaled so that those of an image lie from 0 to 1, the largest of the channels: negative ones rank lowest.

    Returns
    -------
    (samples, y, x) float64
        Not negative.

    Raises
    ------
    DataError
        If the shape does not fit, a value is not finite, or the reduction is unknown.

    References
    ----------
    Kim, Plumb and Talwalkar (2022), arXiv:2105.06506. Their program takes "heat_map" for relevance, the
    channel maximum of pictures for maps of magnitudes, and scaled values for SHAP.

    Examples
    --------
    >>> saliency_plane([[[[1.0, -3.0, 0.0]]]]), saliency_plane([[[[1.0, -3.0, 0.0]]]], "maximum")
    (array([[[4.]]]), array([[[3.]]]))
    """
    if reduction not in _REDUCTIONS:
        raise DataError(
            f"reduction {reduction!r}: unknown; give one of {', '.join(_REDUCTIONS)}{suggest(reduction, _REDUCTIONS)}"
        )
    values = finite_values(attribution, "attribution", IMAGE_DIMS)
    if reduction == "heat_map":
        return _darkness(values.sum(axis=-1))
    if reduction == "min_max":
        lowest = values.min(axis=IMAGE_AXES, keepdims=True)
        span = values.max(axis=IMAGE_AXES, keepdims=True) - lowest
        return ((values - lowest) / np.where(span > 0, span, 1.0)).max(axis=-1)
    magnitude = np.abs(values)
    return magnitude.sum(axis=-1) if reduction == "absolute_sum" else magnitude.max(axis=-1)


def blurred(plane: ArrayLike, size: int = BLUR) -> NDArray[np.float64]:
    """Average each pixel of images with its neighbours in a square window.

    Parameters
    ----------
    plane : (samples, y, x)
    size : int
        Side of the window in pixels, odd; 1 leaves the images as they are. Beyond the border images are mirrored
        about their outermost pixels (``d c b | a b c d``), as in OpenCV.

    Returns
    -------
    (samples, y, x) float64

    Raises
    ------
    DataError
        If the shape does not fit, a value is not finite, or the size is even or not positive.

    Examples
    --------
    >>> blurred([[[0.0, 3.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]], 3)[0].round(2)
    array([[0.67, 0.33, 0.67], [0.67, 0.33, 0.67], [0.  , 0.  , 0.  ]])
    """
    from scipy.ndimage import uniform_filter

    if size < 1 or size % 2 == 0:
        raise DataError(f"size={size}: out of range; give an odd number of pixels from 1")
    return uniform_filter(finite_values(plane, "plane", IMAGE_DIMS[:2]), (1, size, size), mode="mirror")


def focus_level(plane: ArrayLike, boxes: ArrayLike, counted: ArrayLike | None = None) -> NDArray[np.float64]:
    """Return the attribution focus level (AFL): the share of a map's mass inside the boxes.

    The smallest value of the map is subtracted first, so that a constant offset has no mass; then
    AFL = (sum inside the boxes) / (sum over the image), summed over boxes: what lies in two boxes counts twice.

    Parameters
    ----------
    plane : (samples, y, x)
        Saliency, see `saliency_plane` and `blurred`.
    boxes : (samples, objects, 4) integers
        First row, last row + 1, first column, last column + 1; four times -1 where an object is absent.
    counted : (samples, objects) booleans, optional
        Which objects count for an image; all by default. Absent ones never do.

    Returns
    -------
    (samples,) float64
        0 .. 1 for boxes that do not overlap. NaN where no box counts. 0 for a map of one value, of zeros too: it
        shows no pixel rather than another.

    Raises
    ------
    DataError
        If shapes do not fit, a value is not finite, or a box is none: not within the image, or without a pixel.

    References
    ----------
    Kim, Plumb and Talwalkar (2022), arXiv:2105.06506, section 4.

    Examples
    --------
    >>> focus_level([[[1.0, 1.0, 4.0, 2.0]]], [[[0, 1, 2, 3], [-1, -1, -1, -1]]])
    array([0.75])
    """
    values, corners, present = _checked(plane, boxes, counted)
    return _afl(_contrast(values)[0], corners, present)


def mean_focus_level(
    plane: ArrayLike, boxes: ArrayLike, counted: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Return the mean attribution focus level (MAFL): AFL divided by the number of pixels of all the boxes.

    Parameters
    ----------
    plane, boxes, counted
        As `focus_level`.

    Returns
    -------
    (samples,) float64
        Share of the mass per pixel of the boxes; a uniform noise gives about 1 / (pixels of the image). NaN and 0
        as `focus_level`.

    Raises
    ------
    DataError
        As `focus_level`.

    References
    ----------
    Kim, Plumb and Talwalkar (2022), arXiv:2105.06506, section 4.

    Examples
    --------
    >>> mean_focus_level([[[1.0, 1.0, 4.0, 2.0]]], [[[0, 1, 2, 4]]])
    array([0.5])
    """
    values, corners, present = _checked(plane, boxes, counted)
    return _afl(_contrast(values)[0], corners, present) / _or_nan(_pixels(corners, present))


def box_iou(
    plane: ArrayLike,
    boxes: ArrayLike,
    counted: ArrayLike | None = None,
    *,
    pixels: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Return the intersection over union of a map's brightest pixels with each box, averaged over the boxes.

    The values of an image are sorted into 10 bins of equal width between its smallest and its largest one. The
    brightest pixels are those at or above the highest lower edge of a bin above which at least as many lie as the
    boxes hold; ties make them more, never fewer.

    Parameters
    ----------
    plane, boxes, counted
        As `focus_level`.
    pixels : (samples,) integers, optional
        How many pixels are asked for at least, >= 0. By default as many as the counted boxes hold ("plain"); for
        "plain_single" that of the primary boxes is given when the secondary ones are scored. 0 asks for the bin of
        the largest values.

    Returns
    -------
    (samples,) float64
        0 .. 1; with k boxes of one size at most about 1 / k, since each box meets the whole of the brightest
        pixels. NaN where no box counts, 0 for a map of one value.

    Raises
    ------
    DataError
        As `focus_level`, or if `pixels` does not fit.

    References
    ----------
    Kim, Plumb and Talwalkar (2022), arXiv:2105.06506, section 4, and its program (``plain``, ``plain_single``).

    Examples
    --------
    >>> image = [[[0.0, 0.0, 4.0, 2.0]]]
    >>> box_iou(image, [[[0, 1, 2, 3]]]), box_iou(image, [[[0, 1, 0, 2]]], pixels=[1])
    (array([1.]), array([0.]))
    """
    values, corners, present = _checked(plane, boxes, counted)
    flat = _contrast(values)[1]
    asked = _pixels(corners, present) if pixels is None else _asked(pixels, len(values))
    return _iou(_brightest(values, asked, flat), corners, present)


def localisation_scores(
    attribution: ArrayLike | xr.DataArray,
    boxes: ArrayLike | xr.DataArray,
    primary: ArrayLike | xr.DataArray,
    secondary: ArrayLike | xr.DataArray,
    *,
    reduction: Reduction = "absolute_sum",
    size: int = BLUR,
    sample: str = "sample",
) -> xr.Dataset:
    """Score attributions of images by the boxes of primary and of secondary objects.

    Parameters
    ----------
    attribution : (samples, y, x, channel), or DataArray with these dimensions in any order
        As `saliency_plane`.
    boxes : (samples, objects, 4)
        As `focus_level`.
    primary, secondary : (samples, objects) booleans
        Which objects the network should use for an image, and which it should not.
    reduction : {"absolute_sum", "maximum", "heat_map", "min_max"}
        See `saliency_plane`.
    size : int
        Side of the blur, see `blurred`.
    sample : str
        For a DataArray: the dimension of the samples.

    Returns
    -------
    xarray.Dataset
        ``afl``, ``mafl``, ``iou`` ("plain") and ``iou_single`` ("plain_single") along ``role`` ("primary",
        "secondary") and `sample`, float64, NaN where an image has no such box; ``flat`` along `sample`: whether the
        map has one value only (it scores 0; their number is logged).

    Raises
    ------
    DataError
        As `focus_level`, or if dimensions or samples do not fit.

    Notes
    -----
    Works in blocks of samples: beside its input it needs about 200 MB, whatever the number of images.

    Examples
    --------
    >>> image = np.zeros((1, 8, 8, 3))
    >>> image[:, 1:4, 1:4] = 1.0
    >>> found = localisation_scores(image, [[[1, 4, 1, 4], [5, 6, 5, 6]]], [[1, 0]], [[0, 1]], size=1)
    >>> found.afl.values, found.iou.values
    (array([[1.], [0.]]), array([[1.], [0.]]))
    """
    import xarray as xr

    images = labelled_images(attribution, sample)
    arrays = [per_sample(a, images, sample, n) for a, n in ((boxes, "boxes"), (primary, "primary"))]
    arrays.append(per_sample(secondary, images, sample, "secondary"))
    found: dict[str, list[NDArray[Any]]] = {name: [] for name in ("afl", "mafl", "iou", "iou_single", "flat")}
    for rows, block in blocks_of_samples(images.values):
        plane = blurred(saliency_plane(block, reduction), size)
        for name, values in _scores(plane, *(array[rows] for array in arrays)).items():
            found[name].append(values)
    flat = np.concatenate(found.pop("flat"))
    if flat.any():
        log.warning("localisation: %d of %d maps have one value only and score 0", flat.sum(), flat.size)
    variables: dict[str, Any] = {n: (("role", sample), np.concatenate(v, axis=1)) for n, v in found.items()}
    coords = {n: c for n, c in images.coords.items() if c.dims == (sample,)}
    return xr.Dataset(variables | {"flat": (sample, flat)}, {"role": list(ROLES), **coords})


# ------------------------------------------------------------------------------------------- kernels


def _scores(
    plane: NDArray[np.float64], boxes: NDArray[Any], primary: NDArray[Any], secondary: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    """Return each score of both roles (2, samples), and which maps are flat (samples,)."""
    raised, flat = _contrast(plane)
    found: dict[str, list[NDArray[Any]]] = {name: [] for name in ("afl", "mafl", "iou", "iou_single")}
    single: NDArray[Any] | None = None
    for counted in (primary, secondary):
        _, corners, present = _checked(plane, boxes, counted)
        held = _pixels(corners, present)
        bright = _brightest(plane, held, flat)
        single = bright if single is None else single
        afl = _afl(raised, corners, present)
        iou = _iou(bright, corners, present)
        found["afl"].append(afl)
        found["mafl"].append(afl / _or_nan(held))
        found["iou"].append(iou)
        found["iou_single"].append(iou if single is bright else _iou(single, corners, present))
    return {name: np.stack(values) for name, values in found.items()} | {"flat": flat}


def _contrast(plane: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return maps above their minimum, 0 where flat, and which maps are flat (within rounding of the blur)."""
    raised = plane - plane.min(axis=(1, 2), keepdims=True)
    largest = raised.max(axis=(1, 2))
    flat = largest <= _FLAT * np.abs(plane).max(axis=(1, 2))
    # Divided by the maximum first: sums of denormal numbers would lose digits.
    raised /= np.where(flat, np.inf, largest)[:, None, None]
    return raised, flat


def _afl(
    raised: NDArray[np.float64], corners: NDArray[np.int64], present: NDArray[np.bool_]
) -> NDArray[np.float64]:
    mass = raised.sum(axis=(1, 2))
    inside = _box_sums(raised, corners, present).sum(axis=1)
    return np.where(present.any(axis=1), inside / np.where(mass > 0, mass, 1.0), np.nan)


def _brightest(
    plane: NDArray[np.float64], pixels: NDArray[np.int64], flat: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Mark pixels at or above the highest lower edge of a bin above which at least `pixels` lie, as 0 and 1."""
    edges = np.linspace(plane.min(axis=(1, 2)), plane.max(axis=(1, 2)), BINS + 1)[:-1]
    counts = np.array([np.count_nonzero(plane >= edge[:, None, None], axis=(1, 2)) for edge in edges])
    # Counts fall from edge to edge, so the number of edges with enough pixels tells the highest of them.
    highest = np.maximum((counts >= pixels).sum(axis=0) - 1, 0)
    threshold = edges[highest, np.arange(len(plane))]
    return ((plane >= threshold[:, None, None]) & ~flat[:, None, None]).astype(np.float64)


def _iou(
    bright: NDArray[np.float64], corners: NDArray[np.int64], present: NDArray[np.bool_]
) -> NDArray[np.float64]:
    both = _box_sums(bright, corners, present)
    either = _areas(corners) + bright.sum(axis=(1, 2))[:, None] - both
    shares = np.divide(both, either, out=np.zeros_like(both), where=present)
    return shares.sum(axis=1) / _or_nan(present.sum(axis=1))


def _box_sums(
    plane: NDArray[np.float64], corners: NDArray[np.int64], present: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the sum of an image over each box (samples, objects), 0 where it does not count."""
    rows, columns = (
        (np.arange(size) >= corners[..., i, None]) & (np.arange(size) < corners[..., i + 1, None])
        for size, i in ((plane.shape[1], 0), (plane.shape[2], 2))
    )
    sums = ((rows.astype(np.float64) @ plane) * columns).sum(axis=-1)
    return np.where(present, sums, 0.0)


def _areas(corners: NDArray[np.int64]) -> NDArray[np.int64]:
    return (corners[..., 1] - corners[..., 0]) * (corners[..., 3] - corners[..., 2])


def _pixels(corners: NDArray[np.int64], present: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.where(present, _areas(corners), 0).sum(axis=1)


def _or_nan(count: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return counts to divide by, NaN in place of 0."""
    return np.where(count > 0, count, np.nan)


def _darkness(signed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 minus the mean of red, green and blue of maps drawn with the colour map "seismic"."""
    from matplotlib import colormaps

    colours = colormaps["seismic"](np.arange(256))[:, :3]
    largest = np.abs(signed).max(axis=(1, 2), keepdims=True)
    scaled = signed / np.where(largest > 0, largest, 1.0)
    levels = ((scaled + 1) / 2 * 255).astype(np.int64)
    return (1 - colours.mean(axis=1))[levels]


# -------------------------------------------------------------------------------------------- checks


def finite_values(values: ArrayLike, name: str, dims: Sequence[str]) -> NDArray[np.float64]:
    """Return finite real numbers (samples, *dims) as float64.

    Raises
    ------
    DataError
        If the number of dimensions is another, there is no value, or one is not finite.
    """
    array = np.asarray(values)
    if array.ndim != 1 + len(dims) or not array.size or array.dtype.kind not in "fiu":
        raise DataError(
            f"{name} {array.shape} of {array.dtype}: give real numbers (samples, {', '.join(dims)})"
        )
    array = array.astype(np.float64, copy=False)
    if not np.isfinite(array).all():
        raise DataError(f"{name}: holds NaN or infinity; leave these samples out")
    return array


def _checked(
    plane: ArrayLike, boxes: ArrayLike, counted: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return images, boxes as int64 and which boxes are there and count (samples, objects)."""
    values = finite_values(plane, "plane", IMAGE_DIMS[:2])
    given = np.asarray(boxes)
    if (
        given.ndim != 3
        or given.shape[0] != len(values)
        or given.shape[2] != 4
        or given.dtype.kind not in "iu"
    ):
        raise DataError(
            f"boxes {given.shape} of {given.dtype}: give integers (samples, objects, 4) for {len(values)} samples"
        )
    corners = given.astype(np.int64)
    present = (corners != -1).any(axis=2)
    limits = np.array(values.shape[1:])
    starts, stops = corners[..., 0::2], corners[..., 1::2]
    good = ((starts >= 0) & (starts < stops) & (stops <= limits)).all(axis=2)
    if (present & ~good).any():
        i, k = np.argwhere(present & ~good)[0]
        raise DataError(
            f"boxes[{i}, {k}] = {corners[i, k].tolist()}: no box in {limits[0]} x {limits[1]} pixels; "
            "give first row, last + 1, first column, last + 1, or -1 four times"
        )
    if counted is None:
        return values, corners, present
    return values, corners, present & _flags(counted, present.shape)


def _flags(counted: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    flags = np.asarray(counted)
    if flags.shape != shape or not np.isin(flags, (0, 1)).all():
        raise DataError(f"counted {flags.shape}: give booleans (samples, objects) of shape {shape}")
    return flags.astype(bool)


def _asked(pixels: ArrayLike, samples: int) -> NDArray[np.int64]:
    asked = np.asarray(pixels)
    if asked.shape != (samples,) or asked.dtype.kind not in "iu" or asked.min(initial=0) < 0:
        raise DataError(
            f"pixels {asked.shape} of {asked.dtype}: give one number >= 0 for each of {samples} samples"
        )
    return asked.astype(np.int64)


def labelled_images(attribution: Any, sample: str) -> xr.DataArray:
    """Return attributions as a DataArray (sample, y, x, channel).

    Raises
    ------
    DataError
        If dimensions do not fit, or the values are no real numbers.
    """
    import xarray as xr

    if is_dataarray(attribution):
        images, _ = labelled_samples(attribution, IMAGE_DIMS, sample, "attribution")
        if images.ndim != 4:
            others = set(map(str, images.dims)) - {sample, *IMAGE_DIMS}
            raise DataError(f"attribution: has dimension {', '.join(sorted(others))} too; select one of it")
        return images.transpose(sample, *IMAGE_DIMS)
    array = np.asarray(attribution)
    if array.ndim != 4 or not array.size or array.dtype.kind not in "fiu":
        raise DataError(
            f"attribution {array.shape} of {array.dtype}: give real numbers (samples, y, x, channel)"
        )
    return xr.DataArray(array, dims=(sample, *IMAGE_DIMS))
