"""Masks that the localised statistics are made with: Gaussian weights, or regions of pixels.

Coordinates are centred and in units of the image's side, x to the right and y upwards: the pixel of row i and
column j lies at x = (j - 31.5) / 64 and y = (31.5 - i) / 64, so that row 0 is the top of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xairt.errors import DataError, suggest

SIDE = 64
"""Rows and columns of an image."""

Point = tuple[float, float]
"""x and y."""


def pixel_centres() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x of the columns and y of the rows, (64,) each, in units of the image's side.

    Examples
    --------
    >>> x, y = pixel_centres()
    >>> bool(x[0] < 0 < x[-1]), bool(y[0] > 0 > y[-1]), float(x[1] - x[0])
    (True, True, 0.015625)
    """
    x = (np.arange(SIDE) - (SIDE - 1) / 2) / SIDE
    return x, -x


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian density times a factor, as weights of pixels.

    Attributes
    ----------
    sigma : float
        Standard deviation in units of the image's side.
    centre : (x, y)
    alpha : float
        What the weights sum to, if the density ends within the image; negative ones subtract.
    """

    sigma: float
    centre: Point = (0.0, 0.0)
    alpha: float = 1.0

    def __post_init__(self) -> None:
        _require_size("sigma", self.sigma)

    def weights(self) -> NDArray[np.float64]:
        """Return (64, 64): alpha times the density (normalised in two dimensions) times a pixel's area."""
        return self.alpha * _density(self.sigma, self.centre) / SIDE**2


@dataclass(frozen=True)
class Disc:
    """The pixels where a Gaussian density exceeds 1.

    Attributes
    ----------
    sigma : float
        Standard deviation of the density in units of the image's side; the radius follows from it.
    centre : (x, y)
    """

    sigma: float
    centre: Point = (0.0, 0.0)

    def __post_init__(self) -> None:
        _require_size("sigma", self.sigma)

    def pixels(self) -> NDArray[np.bool_]:
        """Return (64, 64), True within."""
        return _density(self.sigma, self.centre) > 1.0


@dataclass(frozen=True)
class Square:
    """The pixels whose centres are at most half a side away, in x and in y.

    Attributes
    ----------
    size : float
        Side of the square in units of the image's.
    centre : (x, y)
    """

    size: float
    centre: Point = (0.0, 0.0)

    def __post_init__(self) -> None:
        _require_size("size", self.size)

    def pixels(self) -> NDArray[np.bool_]:
        """Return (64, 64), True within."""
        x, y = pixel_centres()
        columns, rows = (
            np.abs(values - centre) <= self.size / 2
            for values, centre in zip((x, y), self.centre, strict=True)
        )
        return rows[:, np.newaxis] & columns


@dataclass(frozen=True)
class Mask:
    """What a statistic looks at: a sum of Gaussians, or one region and more, in order.

    Attributes
    ----------
    name : str
    gaussians : tuple of Gaussian
        Whose weights are summed; or
    regions : tuple of Disc and Square
        Their meaning, and their order, is that of the statistic.

    Raises
    ------
    DataError
        If both are given or none is, or a region holds no pixel.

    Examples
    --------
    A mask of one's own:

    >>> eyes = Mask("eyes", regions=(Disc(0.07, (-0.2, 0.1)), Disc(0.07, (0.2, 0.1)), Square(0.125, (0, -0.2))))
    >>> eyes.region_pixels().sum(axis=(1, 2))
    array([437, 437,  64])
    """

    name: str
    gaussians: tuple[Gaussian, ...] = ()
    regions: tuple[Disc | Square, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.gaussians) == bool(self.regions):
            raise DataError(f"mask {self.name}: give either gaussians or regions")
        for number, region in enumerate(self.regions):
            if not region.pixels().any():
                raise DataError(
                    f"mask {self.name}: region {number} holds no pixel; move it, or make it larger"
                )

    def weights(self) -> NDArray[np.float64]:
        """Return the sum of the Gaussians, (64, 64), signed; DataError for a mask of regions."""
        if not self.gaussians:
            raise DataError(f"mask {self.name}: is made of regions; give one made of Gaussians")
        return np.sum([gaussian.weights() for gaussian in self.gaussians], axis=0)

    def region_pixels(self) -> NDArray[np.bool_]:
        """Return the regions, (regions, 64, 64), True within; DataError for a mask of Gaussians."""
        if not self.regions:
            raise DataError(f"mask {self.name}: is made of Gaussians; give one made of regions")
        return np.stack([region.pixels() for region in self.regions])

    def generating(self) -> NDArray[np.float64]:
        """Return the map that an attribution should look like, (64, 64).

        The signed weights of Gaussians; 1 in the union of the regions and 0 elsewhere.
        """
        return self.weights() if self.gaussians else self.region_pixels().any(axis=0).astype(np.float64)


def mask_of(mask: str | Mask) -> Mask:
    """Return a mask of `MASKS` by its name, or the one given.

    Raises
    ------
    DataError
        If there is no such name.

    Examples
    --------
    >>> len(mask_of("ccat_02").regions)
    4
    """
    if isinstance(mask, Mask):
        return mask
    if mask not in MASKS:
        raise DataError(f"mask {mask!r} is unknown; give one of {', '.join(MASKS)}{suggest(mask, MASKS)}")
    return MASKS[mask]


def _density(sigma: float, centre: Point) -> NDArray[np.float64]:
    x, y = pixel_centres()
    squared = (x - centre[0]) ** 2 + (y[:, np.newaxis] - centre[1]) ** 2
    return np.exp(-squared / (2 * sigma**2)) / (2 * np.pi * sigma**2)


def _require_size(name: str, value: float) -> None:
    if not 0 < value < np.inf:
        raise DataError(f"{name}={value}: out of range; give a positive number")


_TRIANGLE = ((0.0, 0.1300079387), (-0.15625, -0.140625), (0.15625, -0.140625))
_RECTANGLE = ((-0.25, 0.21875), (0.25, 0.21875), (-0.25, -0.21875), (0.25, -0.21875))
_FIVE = ((0.0, 0.0), (-0.28125, 0.28125), (0.28125, 0.28125), (-0.28125, -0.28125), (0.28125, -0.28125))

MASKS = {
    mask.name: mask
    for mask in (
        Mask("comb_01", (Gaussian(0.1, alpha=-0.5), Gaussian(0.18))),
        Mask("prf_00", (Gaussian(0.1), Gaussian(0.2, alpha=-1.0))),
        Mask("ccat_01", regions=tuple(Disc(0.125, centre) for centre in _TRIANGLE)),
        Mask("ccat_02", regions=tuple(Disc(0.078125, centre) for centre in _RECTANGLE)),
        Mask(
            "ccat_03",
            regions=(
                *(Disc(0.07, centre) for centre in _FIVE),
                *(Square(0.125, centre) for centre in _FIVE),
            ),
        ),
    )
}
"""The masks of the publication, by name."""
