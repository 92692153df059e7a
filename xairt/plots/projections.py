"""Projections by name, and grid cells laid out so that a projection draws them without gap or smear.

A map is cut along a meridian, 180 degrees from its central longitude. Cells that straddle the cut would be
drawn across the whole map. Here they are split at the cut, and the columns are put in the order of the map,
relative to its central longitude; what is left to cartopy are cells at the limb of projections that show a
part of the globe.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

import cartopy.crs as ccrs
import numpy as np
from numpy.typing import NDArray

from xairt.errors import DataError, suggest

if TYPE_CHECKING:
    from cartopy.mpl.geoaxes import GeoAxes

GLOBAL_CENTRE = 180.0
"""Central longitude of global maps: the Pacific in one piece."""
FINE_STEP = 1.0
"""Cells wider than this, in degrees, are drawn in pieces: the sides of large cells are curved."""
GLOBAL_LATITUDES = 150.0
"""A grid around the globe that spans as many degrees of latitude is shown on a full globe."""
POLAR_LATITUDE = 30.0
"""Polar stereographic maps show what is poleward of this latitude: the other pole lies at infinity."""
_CUT = 1e-6
_STRAIGHT = (ccrs.PlateCarree, ccrs.Mercator, ccrs.Miller, ccrs.LambertCylindrical)


class Mesh(NamedTuple):
    """Cells ready for pcolormesh.

    Attributes
    ----------
    lon : (m + 1,) edges in degrees east of the central longitude of `crs`, increasing, within -181 .. 181
    lat : (n + 1,) edges in degrees north
    values : (n, m), NaN where nothing is drawn
    crs : coordinate system of the edges
    """

    lon: NDArray[np.float64]
    lat: NDArray[np.float64]
    values: NDArray[Any]
    crs: ccrs.PlateCarree


def is_cyclic(lon_edges: NDArray[np.float64]) -> bool:
    """Tell whether cells go around the globe."""
    return bool(abs(lon_edges[-1] - lon_edges[0]) > 360.0 - 1e-6)


def resolve_projection(
    projection: str | ccrs.Projection, central_longitude: float | None, lon_edges: NDArray[np.float64]
) -> ccrs.Projection:
    """Return a cartopy projection.

    Parameters
    ----------
    projection
        Name of a class of `cartopy.crs` (in any case), or a projection, which is returned as it is.
    central_longitude
        Degrees east, -360 .. 360. None: 180 for cells around the globe, else the middle of the cells.
    lon_edges
        (nlon + 1,) edges in degrees east of the cells to be drawn.

    Raises
    ------
    DataError
        If the name is unknown, the projection needs other arguments or has no central longitude to set, or
        the central longitude is not a number in -360 .. 360.
    """
    if isinstance(projection, ccrs.Projection):
        if central_longitude is not None:
            raise DataError(
                "central_longitude is for a projection given by name; set it in the projection object"
            )
        return projection
    kind = _projection_class(projection)
    parameters = inspect.signature(kind).parameters
    if any(p.default is p.empty and p.kind == p.POSITIONAL_OR_KEYWORD for p in parameters.values()):
        raise DataError(f"projection {kind.__name__} needs arguments; pass cartopy.crs.{kind.__name__}(...)")
    if "central_longitude" not in parameters:
        if central_longitude is not None:
            raise DataError(
                f"projection {kind.__name__} has no central longitude; leave central_longitude out"
            )
        return kind()
    if central_longitude is None:
        middle = (lon_edges[0] + lon_edges[-1]) / 2
        central_longitude = GLOBAL_CENTRE if is_cyclic(lon_edges) else (middle + 180.0) % 360.0 - 180.0
    return kind(central_longitude=_checked_longitude(central_longitude))


def _checked_longitude(value: Any) -> float:
    try:
        longitude = float(value)
    except (TypeError, ValueError):
        longitude = np.nan
    if not abs(longitude) <= 360.0:
        raise DataError(f"central_longitude {value!r} is not a longitude; give degrees east in -360 .. 360")
    return longitude


def _projection_class(name: Any) -> type[ccrs.Projection]:
    known = {
        key: value
        for key, value in vars(ccrs).items()
        if inspect.isclass(value)
        and issubclass(value, ccrs.Projection)
        and not key.startswith("_")
        and not inspect.isabstract(value)
        and value is not ccrs.Projection
    }
    by_lower = {key.lower(): key for key in known}
    if not isinstance(name, str) or name.lower() not in by_lower:
        hint = suggest(str(name), known) or "; use the name of a cartopy projection, such as Robinson"
        raise DataError(f"projection {name!r} is unknown{hint}")
    return known[by_lower[name.lower()]]


def central_longitude_of(projection: ccrs.Projection) -> float:
    """Return the longitude, in degrees east, opposite to which a projection cuts the globe."""
    parameters = projection.proj4_params
    return float(parameters.get("lon_0", parameters.get("pm", 0.0)))


def build_mesh(
    values: NDArray[Any],
    lat_edges: NDArray[np.float64],
    lon_edges: NDArray[np.float64],
    projection: ccrs.Projection,
) -> Mesh:
    """Lay cells out for a projection: split at its cut, in the order of the map, large cells in pieces.

    Parameters
    ----------
    values
        (nlat, nlon), NaN where nothing is drawn.
    lat_edges, lon_edges
        (nlat + 1,) and (nlon + 1,) edges in degrees north and east, monotonic.
    projection
        The map's projection.

    Returns
    -------
    Mesh
    """
    if lon_edges[0] > lon_edges[-1]:
        values, lon_edges = values[:, ::-1], lon_edges[::-1]
    centre = central_longitude_of(projection)
    lon, values = _in_map_order(values, lon_edges - centre)
    if is_cyclic(lon_edges):
        lon, values = _close(lon, values, projection, centre)
    if not isinstance(projection, _STRAIGHT):
        lon, values = _refine(lon, values, axis=1)
        lat_edges, values = _refine(lat_edges, values, axis=0)
    values = _drop_hidden(lon, lat_edges, values, projection, centre)
    return Mesh(lon, lat_edges, values, ccrs.PlateCarree(central_longitude=centre))


def _in_map_order(
    values: NDArray[Any], edges: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Split columns at -180 + 360 k and sort the parts into -180 .. 180; a hole between parts becomes NaN."""
    first = np.floor((edges[0] + 180.0) / 360.0)
    edges = edges - 360.0 * first
    cut = int(np.searchsorted(edges, 180.0 - _CUT))
    if cut == edges.size or edges[-1] <= 180.0 + _CUT:
        return np.clip(edges, -180.0, 180.0), values
    inside = edges[cut] > 180.0 + _CUT
    west = np.concatenate([[-180.0], edges[cut + (not inside) :] - 360.0])
    east = np.concatenate([edges[:cut], [180.0]])
    west_values, east_values = values[:, cut - inside :], values[:, :cut]
    if west[-1] > east[0] - _CUT:
        return np.concatenate([west[:-1], east]), np.concatenate([west_values, east_values], axis=1)
    hole = np.full((len(values), 1), np.nan, values.dtype)
    return np.concatenate([west, east]), np.concatenate([west_values, hole, east_values], axis=1)


def _close(
    lon: NDArray[np.float64], values: NDArray[Any], projection: ccrs.Projection, centre: float
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Treat the two sides of the cut: keep them apart where the map ends, overlap them where it goes on."""
    sides = np.array([180.0 - _CUT, -180.0 + _CUT])
    x, y = _project(projection, centre, sides, np.full(2, 10.0))
    width = projection.x_limits[1] - projection.x_limits[0]
    if np.isfinite(x).all() and np.hypot(np.diff(x), np.diff(y))[0] > 1e-3 * width:
        return np.clip(lon, sides[1], sides[0]), values
    overlap = min(FINE_STEP / 2, lon[1] - lon[0])
    closed = np.concatenate([values, values[:, :1]], axis=1)
    return np.concatenate([lon, [180.0 + overlap]]), closed


def _refine(
    edges: NDArray[np.float64], values: NDArray[Any], axis: int
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    pieces = np.maximum(1, np.ceil(np.abs(np.diff(edges)) / FINE_STEP - _CUT)).astype(int)
    parts = [np.linspace(a, b, n, endpoint=False) for a, b, n in zip(edges, edges[1:], pieces, strict=False)]
    return np.concatenate([*parts, edges[-1:]]), np.repeat(values, pieces, axis=axis)


def _drop_hidden(
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    values: NDArray[Any],
    projection: ccrs.Projection,
    centre: float,
) -> NDArray[Any]:
    """Set cells with all four corners off the map to NaN: cartopy would project each of them in vain."""
    x, y = _project(projection, centre, *np.meshgrid(lon, lat))
    seen = _within(x, projection.x_limits) & _within(y, projection.y_limits)
    seen = seen[1:, 1:] | seen[1:, :-1] | seen[:-1, 1:] | seen[:-1, :-1]
    return np.where(seen, values, np.nan)


def _within(values: NDArray[np.float64], limits: tuple[float, float]) -> NDArray[np.bool_]:
    margin = 1e-3 * (limits[1] - limits[0])
    return (values >= limits[0] - margin) & (values <= limits[1] + margin)


def _project(
    projection: ccrs.Projection, centre: float, lon: NDArray[np.float64], lat: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points = projection.transform_points(ccrs.PlateCarree(central_longitude=centre), lon, lat)
    return points[..., 0], points[..., 1]


def set_limits(
    ax: GeoAxes,
    lat_edges: NDArray[np.float64],
    lon_edges: NDArray[np.float64],
    extent: tuple[float, float, float, float] | None = None,
) -> None:
    """Show the whole globe for global cells, else what the cells cover.

    Polar stereographic maps show what the cells cover poleward of 30 degrees, if they cover any of it.

    Parameters
    ----------
    ax
        Axes whose limits are set.
    lat_edges, lon_edges
        Edges of the cells in degrees north and east.
    extent
        (west, east, south, north) in degrees to show instead; east may be smaller than west (date line).

    Raises
    ------
    DataError
        If the extent is not four finite numbers with south < north, or the projection shows none of the area.
    """
    if extent is not None:
        west, east, south, north = _checked_extent(extent)
        lon_edges, lat_edges = np.array([west, east]), np.array([south, north])
    elif isinstance(ax.projection, (ccrs.NorthPolarStereo, ccrs.SouthPolarStereo)):
        lat_edges = _poleward(lat_edges, isinstance(ax.projection, ccrs.NorthPolarStereo))
    elif is_cyclic(lon_edges) and abs(lat_edges[-1] - lat_edges[0]) >= GLOBAL_LATITUDES:
        ax.set_global()
        return
    centre = central_longitude_of(ax.projection)
    west, east = np.sort(lon_edges[[0, -1]]) - centre
    turns, lon = np.divmod(np.linspace(west + _CUT, east - _CUT, 181) + 180.0, 360.0)
    lon -= 180.0
    if turns[0] != turns[-1]:
        lon = np.concatenate([lon, [-180.0 + _CUT, 180.0 - _CUT]])
    lat = np.linspace(lat_edges.min(), lat_edges.max(), 91)
    x, y = _project(ax.projection, centre, *np.meshgrid(lon, lat))
    seen = np.isfinite(x) & np.isfinite(y)
    if not seen.any():
        raise DataError(
            "none of the area lies on the visible part of the projection; move its central longitude"
        )
    (x0, x1), (y0, y1) = ax.projection.x_limits, ax.projection.y_limits
    ax.set_xlim(max(x0, x[seen].min()), min(x1, x[seen].max()))
    ax.set_ylim(max(y0, y[seen].min()), min(y1, y[seen].max()))


def _poleward(lat_edges: NDArray[np.float64], north: bool) -> NDArray[np.float64]:
    """Return the lowest and highest latitude poleward of the limit; cells that lie outside it stay whole."""
    low, high = lat_edges.min(), lat_edges.max()
    if north and high > POLAR_LATITUDE:
        low = max(low, POLAR_LATITUDE)
    elif not north and low < -POLAR_LATITUDE:
        high = min(high, -POLAR_LATITUDE)
    return np.array([low, high])


def _checked_extent(extent: Any) -> tuple[float, float, float, float]:
    try:
        west, east, south, north = (float(value) for value in extent)
    except (TypeError, ValueError):
        raise DataError(f"extent {extent!r} is not four numbers; give (west, east, south, north)") from None
    if not (abs(west) <= 720.0 and abs(east) <= 720.0):
        raise DataError(
            f"extent has longitudes {west:g} .. {east:g}; give degrees east, such as (150, -90, -30, 20)"
        )
    if not -90.0 <= south < north <= 90.0:
        raise DataError(f"extent has latitudes {south:g} .. {north:g}; give (west, east, south, north)")
    while east <= west:
        east += 360.0
    return west, min(east, west + 360.0), south, north
