"""Where an attribution says that the object of an image lies: the box around its brightest pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError
from xairt.metrics.localisation import finite_values, labelled_images
from xairt.metrics.samples import blocks_of_samples, per_sample

if TYPE_CHECKING:
    import xarray as xr

CHAOSMINING = "chaosmining2024"
"""Convention: one pixel more than asked for counts as bright, and a side is its last pixel minus its first."""

FoundBoxConvention = Literal["chaosmining2024"]

SIGMA = 6.0
"""Standard deviation of the blur of the publication, pixels."""

PIXELS = 1024
"""Pixels of the object of the publication, 32 x 32."""

_BOUNDS = ("row0", "row1", "col0", "col1")


def blurred_magnitude(attribution: ArrayLike, sigma: float = SIGMA) -> NDArray[np.float64]:
    """Reduce attributions to one plane: blur the signed values, then take magnitudes, then the channels' mean.

    Values of both signs side by side vanish in the blur: what stays is where the sign agrees.

    Parameters
    ----------
    attribution : (samples, y, x, channel)
        Finite, signed, in the unit of the network's output.
    sigma : float
        Standard deviation of the Gaussian, pixels, >= 0; cut off at 4 sigma, images mirrored at their border
        (``d c b a | a b c d``).

    Returns
    -------
    (samples, y, x) float64

    Raises
    ------
    DataError
        If the shape does not fit, a value is not finite, or sigma is out of range.

    References
    ----------
    Shi et al. (2024), arXiv:2406.12150, section 4.2.

    Examples
    --------
    >>> blurred_magnitude([[[[1.0, -3.0]], [[1.0, 3.0]]]], 0).tolist()
    [[[2.0], [2.0]]]
    """
    from scipy.ndimage import gaussian_filter

    if not sigma >= 0:
        raise DataError(f"sigma={sigma}: out of range; give pixels from 0")
    values = finite_values(attribution, "attribution", ("y", "x", "channel"))
    return np.abs(gaussian_filter(values, (0, sigma, sigma, 0))).mean(axis=-1)


def found_box(
    attribution: ArrayLike,
    *,
    pixels: int = PIXELS,
    sigma: float = SIGMA,
    convention: FoundBoxConvention | None = None,
) -> NDArray[np.int64]:
    """Return the box around the brightest pixels of each blurred attribution.

    Parameters
    ----------
    attribution : (samples, y, x, channel)
    pixels : int
        How many pixels are bright, those of the object; ties with the last one make them more. A map of one value
        has the whole image for its box.
    sigma : float
        See `blurred_magnitude`.
    convention : {"chaosmining2024"}, optional
        The published program takes one pixel more.

    Returns
    -------
    (samples, 4) int64
        First row, last row + 1, first column, last column + 1; with the convention the last ones themselves, so
        that a box of 32 x 32 pixels has an area of 31 x 31.

    Raises
    ------
    DataError
        As `blurred_magnitude`, or if the image has fewer pixels, or the convention is unknown.

    References
    ----------
    Shi et al. (2024), arXiv:2406.12150, section 4.2.

    Examples
    --------
    >>> image = np.zeros((1, 6, 6, 1))
    >>> image[:, 2:4, 1:3] = -1.0
    >>> found_box(image, pixels=4, sigma=0)
    array([[2, 4, 1, 3]])
    """
    _check_convention(convention)
    plane = blurred_magnitude(attribution, sigma)
    n, rows, columns = plane.shape
    counted = pixels + (convention == CHAOSMINING)
    if not 1 <= pixels <= counted <= rows * columns:
        raise DataError(f"pixels={pixels}: out of range; give 1 to {rows * columns - (counted - pixels)}")
    threshold = np.partition(plane.reshape(n, -1), -counted, axis=1)[:, -counted]
    bright = plane >= threshold[:, None, None]
    beyond = 0 if convention == CHAOSMINING else 1
    bounds = []
    for line in (bright.any(axis=2), bright.any(axis=1)):
        bounds += [line.argmax(axis=1), line.shape[1] - 1 - line[:, ::-1].argmax(axis=1) + beyond]
    return np.stack(bounds, axis=1)


def iou_of_boxes(found: ArrayLike, true: ArrayLike) -> NDArray[np.float64]:
    """Return the intersection over union of pairs of boxes.

    Parameters
    ----------
    found, true : (samples, 4) integers
        First row, end row, first column, end column: areas are (end - first) of rows times that of columns.

    Returns
    -------
    (samples,) float64
        0 .. 1; NaN where neither box has an area.

    Raises
    ------
    DataError
        If shapes do not fit, or an end lies before its begin.

    Examples
    --------
    >>> iou_of_boxes([[0, 2, 0, 2], [0, 2, 0, 2]], [[0, 2, 1, 3], [5, 6, 5, 6]])
    array([0.33333333, 0.        ])
    """
    boxes = [np.asarray(given) for given in (found, true)]
    for name, box in zip(("found", "true"), boxes, strict=True):
        if box.shape != (len(boxes[1]), 4) or box.dtype.kind not in "iu":
            raise DataError(f"{name} {box.shape} of {box.dtype}: give integers (samples, 4), as many of both")
        if (box[:, 1::2] < box[:, 0::2]).any():
            raise DataError(f"{name}: an end lies before its begin; give row0, row1, col0, col1")
    first, end = np.maximum(boxes[0], boxes[1])[:, 0::2], np.minimum(boxes[0], boxes[1])[:, 1::2]
    both = (end - first).clip(0).prod(axis=1)
    areas = [(box[:, 1::2] - box[:, 0::2]).prod(axis=1) for box in boxes]
    either = areas[0] + areas[1] - both
    return np.where(either > 0, both / np.where(either > 0, either, 1), np.nan)


def found_box_iou(
    attribution: ArrayLike | xr.DataArray,
    boxes: ArrayLike | xr.DataArray,
    *,
    pixels: int = PIXELS,
    sigma: float = SIGMA,
    convention: FoundBoxConvention | None = None,
    sample: str = "sample",
) -> xr.Dataset:
    """Score attributions of images by the intersection over union of the box found with the true one.

    Parameters
    ----------
    attribution : (samples, y, x, channel), or DataArray with these dimensions in any order
    boxes : (samples, 4) integers
        First row, last row + 1, first column, last column + 1 of each image's object.
    pixels, sigma, convention
        As `found_box`. With the convention a box found exactly scores (31 / 32)**2 = 0.94.
    sample : str
        For a DataArray: the dimension of the samples.

    Returns
    -------
    xarray.Dataset
        ``iou`` along `sample`, 0 .. 1, and ``found_box`` (sample, bound), see `found_box`.

    Raises
    ------
    DataError
        As `found_box` and `iou_of_boxes`, or if dimensions or samples do not fit.

    References
    ----------
    Shi et al. (2024), arXiv:2406.12150, section 4.2.

    Notes
    -----
    Works in blocks of samples: beside its input it needs about 200 MB, whatever the number of images.

    Examples
    --------
    >>> image = np.zeros((1, 6, 6, 1))
    >>> image[:, 2:4, 1:3] = 1.0
    >>> found_box_iou(image, [[2, 4, 1, 4]], pixels=4, sigma=0).iou.values
    array([0.66666667])
    """
    import xarray as xr

    images = labelled_images(attribution, sample)
    true = per_sample(boxes, images, sample, "boxes")
    settings = {"pixels": pixels, "sigma": sigma, "convention": convention}
    found = np.concatenate([found_box(block, **settings) for _, block in blocks_of_samples(images.values)])
    variables = {"iou": (sample, iou_of_boxes(found, true)), "found_box": ((sample, "bound"), found)}
    coords = {n: c for n, c in images.coords.items() if c.dims == (sample,)}
    return xr.Dataset(variables, {"bound": list(_BOUNDS), **coords})


def _check_convention(convention: str | None) -> None:
    if convention not in (None, CHAOSMINING):
        raise DataError(f"convention {convention!r}: unknown here; give '{CHAOSMINING}' or None")
