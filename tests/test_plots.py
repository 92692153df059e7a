"""Maps: cells in their place on every projection, colours, words, and everything that is refused."""

from __future__ import annotations

import itertools
import socket

import cartopy
import cartopy.crs as ccrs
import matplotlib as mpl
import numpy as np
import pytest
import shapely
import xarray as xr
from cartopy.mpl.feature_artist import FeatureArtist
from cartopy.mpl.geoaxes import GeoAxes
from matplotlib._pylab_helpers import Gcf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from scipy.ndimage import binary_erosion

from xairt import plots
from xairt.errors import DataError
from xairt.grid import Grid
from xairt.plots.colours import LAND, normalised
from xairt.plots.style import wrap_label

LAT = np.arange(85.0, -90.0, -10.0)
CONVENTIONS = {
    "0..350": np.arange(0.0, 360.0, 10.0),
    "5..355": np.arange(5.0, 360.0, 10.0),
    "-180..170": np.arange(-180.0, 180.0, 10.0),
    "355..5": np.arange(355.0, 0.0, -10.0),
}
ATLANTIC = (np.arange(21.0, 61.0, 2.0), np.r_[np.arange(321.0, 360.0, 2.0), np.arange(1.0, 21.0, 2.0)])
PACIFIC = (np.arange(-20.0, 41.0, 5.0), np.r_[np.arange(140.0, 180.0, 5.0), np.arange(-180.0, -119.0, 5.0)])


@pytest.fixture(autouse=True)
def _offline_and_untouched(monkeypatch):
    """No map reaches for the network, makes a pyplot figure or changes a global setting."""

    def refuse(*args, **kwargs):
        raise AssertionError("network access")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    settings, style = dict(cartopy.config), dict(mpl.rcParams)
    yield
    assert dict(cartopy.config) == settings
    assert dict(mpl.rcParams) == style
    assert not Gcf.figs


def field(lat, lon, seed=0):
    values = np.random.default_rng(seed).normal(size=(len(lat), len(lon)))
    attrs = {"long_name": "relevance", "units": "K"}
    return xr.DataArray(values, {"lat": lat, "lon": lon}, ("lat", "lon"), "attribution", attrs)


def samples(count=3, seed=0, lat=LAT, lon=CONVENTIONS["5..355"]):
    return xr.concat([field(lat, lon, seed + i) for i in range(count)], "sample")


def render(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3] / 255.0


def geo_axes(figure):
    return [ax for ax in figure.axes if isinstance(ax, GeoAxes)]


def bars(figure):
    return [ax for ax in figure.axes if not isinstance(ax, GeoAxes)]


def mesh(ax):
    """The cells with values: drawn last, above the grey of the cells without."""
    return [c for c in ax.collections if isinstance(c, mpl.collections.QuadMesh)][-1]


def outlines(ax):
    return sum(isinstance(child, FeatureArtist) for child in ax.get_children())


def bar_label(ax):
    return " ".join((ax.get_xlabel() or ax.get_ylabel()).split())


def plain(da, **kwargs):
    return plots.map(da, colorbar=False, coastlines=False, **kwargs)


SEAMS = [
    *itertools.product(["Robinson"], (180, -150), CONVENTIONS),
    ("Robinson", 0, "-180..170"),
    *itertools.product(["PlateCarree"], (180, 37.5), ("0..350", "-180..170")),
    *itertools.product(("Mollweide", "Orthographic"), (180, 12), ["5..355"]),
    ("EqualEarth", 90, "-180..170"),
    ("InterruptedGoodeHomolosine", 0, "0..350"),
]


@pytest.mark.parametrize(("projection", "centre", "convention"), SEAMS)
def test_the_globe_is_covered_without_gap(projection, centre, convention):
    full = xr.ones_like(field(LAT, CONVENTIONS[convention]))
    look = {"projection": projection, "central_longitude": centre, "vlim": (0, 1)}
    figure = plain(full, **look)
    ax = figure.axes[0]
    colour = mesh(ax).cmap(1.0)[:3]
    off = np.abs(render(figure) - colour).max(axis=-1)
    mesh(ax).remove()
    ax.set_facecolor("lime")
    inside = binary_erosion(np.abs(render(figure) - to_rgb("lime")).max(axis=-1) < 0.01, iterations=2)
    assert inside.mean() > 0.3
    assert off[inside].max() < 0.02


LIMB = 12  # pixels at the rim, where the outline and narrow cells hide colours
PLACES = [
    *[(LAT, lon, "Robinson", c) for lon, c in zip(CONVENTIONS.values(), (180, 0, -150, 35), strict=True)],
    (LAT, CONVENTIONS["0..350"], "PlateCarree", 37),
    (LAT, CONVENTIONS["5..355"], "Orthographic", -60),
    (np.arange(-85.0, -30.0, 10.0), CONVENTIONS["-180..170"], "SouthPolarStereo", 0),
    (np.array([70.0, 50, 10, -5, -60]), np.array([0.0, 10, 50, 60, 100, 200, 220, 300]), "Robinson", 180),
    *[
        (*ATLANTIC, p, c)
        for p, c in (("Robinson", None), ("Robinson", 180), ("PlateCarree", 180), ("Mercator", 0))
    ],
    *[(*PACIFIC, p, c) for p, c in (("Robinson", None), ("PlateCarree", 0), ("Orthographic", 120))],
]


@pytest.mark.parametrize(("lat", "lon", "projection", "centre"), PLACES)
def test_every_cell_has_its_colour_at_its_place(lat, lon, projection, centre):
    da = field(lat, lon)
    figure = plain(da, projection=projection, central_longitude=centre)
    figure.set_dpi(200)
    picture, ax = render(figure), figure.axes[0]
    points = ax.projection.transform_points(ccrs.PlateCarree(), *np.meshgrid(lon, lat))[..., :2]
    pixels = ax.transData.transform(points.reshape(-1, 2)).reshape(points.shape)
    outline = ax.patch.get_path().transformed(ax.patch.get_transform())
    shown = shapely.Polygon(outline.vertices).buffer(-LIMB)
    inside = shapely.contains_xy(shown, *np.moveaxis(np.nan_to_num(pixels, posinf=-1), -1, 0))
    rows, columns = np.nonzero(inside & np.isfinite(points[..., 0]))
    assert rows.size > 0.2 * inside.size
    across, up = np.floor(pixels[rows, columns]).astype(int).T
    image = mesh(ax)
    expected = image.cmap(image.norm(da.values[rows, columns]))[:, :3]
    right = np.abs(picture[picture.shape[0] - 1 - up, across] - expected).max(axis=-1) < 0.02
    assert right.all()


def test_refined_cells_keep_every_value():
    da = field(LAT, CONVENTIONS["5..355"])
    drawn = mesh(plain(da).axes[0]).get_array().compressed()
    np.testing.assert_array_equal(np.unique(drawn), np.unique(da.values))


def test_land_is_grey_and_coastlines_are_embedded():
    da = field(LAT, CONVENTIONS["5..355"])
    da[:, :18] = np.nan
    figure = plots.map(da, central_longitude=90, colorbar=False)
    ax = figure.axes[0]
    assert outlines(ax) == 1
    picture = render(figure)
    centre = picture[picture.shape[0] // 2 - 4, picture.shape[1] // 2 - 3]
    np.testing.assert_allclose(centre, to_rgb(LAND), atol=0.01)
    assert outlines(plain(da).axes[0]) == 0


def share_of(picture, colour):
    return (np.abs(picture - to_rgb(colour)).max(axis=-1) < 0.01).mean()


@pytest.mark.parametrize("projection", ["Robinson", "PlateCarree", "NorthPolarStereo"])
def test_what_lies_outside_the_grid_is_white(projection):
    look = {"projection": projection, "central_longitude": 0, "extent": (-180, 180, 0, 80)}
    box = field(np.arange(32.0, 57.0, 4.0), np.arange(160.0, 201.0, 4.0))
    empty = box.copy()
    empty[2:5, 3:8] = np.nan
    figure = plain(box, **look)
    figure.axes[0].spines["geo"].set_visible(False)  # its rim has every shade of grey
    assert share_of(render(figure), LAND) == 0
    figure = plain(empty, **look)
    figure.axes[0].spines["geo"].set_visible(False)
    grey = share_of(render(figure), LAND)
    mesh(figure.axes[0]).remove()
    whole = share_of(render(figure), LAND)  # the grey lies below all cells: no seam beside values
    assert 0.1 < grey / whole < 0.3
    figure.axes[0].collections[0].remove()
    assert share_of(render(figure), LAND) == 0


@pytest.mark.parametrize(("lat", "lon"), [ATLANTIC, PACIFIC])
def test_regions_are_shown_alone(lat, lon):
    ax = plots.map(field(lat, lon), projection="PlateCarree").axes[0]
    west, east = ax.get_xlim()
    south, north = ax.get_ylim()
    step = lat[1] - lat[0]
    assert east - west == pytest.approx(len(lon) * step, abs=1e-4)
    assert (south, north) == pytest.approx((lat[0] - step / 2, lat[-1] + step / 2), abs=1e-4)
    globe = plots.map(field(LAT, CONVENTIONS["0..350"]), projection="PlateCarree").axes[0]
    assert globe.get_xlim() == pytest.approx((-180, 180))
    assert globe.projection.proj4_params["pm"] == 180


def test_extent_across_the_date_line_and_out_of_sight():
    da = field(LAT, CONVENTIONS["-180..170"])
    ax = plots.map(da, projection="PlateCarree", extent=(150, -90, -30, 20)).axes[0]
    assert ax.get_xlim() == pytest.approx((-30, 90), abs=1e-4)
    assert ax.get_ylim() == pytest.approx((-30, 20), abs=1e-4)
    with pytest.raises(DataError, match=r"extent has latitudes 20 .. -30; give \(west, east, south, north\)"):
        plots.map(da, extent=(150, -90, 20, -30))
    with pytest.raises(DataError, match="extent 5 is not four numbers"):
        plots.map(da, extent=5)
    with pytest.raises(DataError, match="none of the area lies on the visible part"):
        plots.map(field(*PACIFIC), projection="Orthographic", central_longitude=0)


@pytest.mark.parametrize(("projection", "pole"), [("NorthPolarStereo", 90), ("SouthPolarStereo", -90)])
def test_polar_maps_show_their_hemisphere(projection, pole):
    def shown(da, **look):
        ax = plain(da, projection=projection, **look).axes[0]
        edge = ax.projection.transform_points(
            ccrs.PlateCarree(), np.zeros(1), np.array([np.sign(pole) * 30.0])
        )
        return np.array([*ax.get_xlim(), *ax.get_ylim()]) / np.hypot(*edge[0, :2])

    globe = field(LAT, CONVENTIONS["5..355"])
    assert shown(globe) == pytest.approx([-1, 1, -1, 1], abs=1e-3)
    assert np.abs(shown(globe, extent=(0, 360, *sorted((np.sign(pole) * 60, pole))))).max() < 0.5
    polar = globe.sel(lat=globe.lat[np.abs(globe.lat - pole) < 40])
    assert np.abs(shown(polar)).max() < 0.7
    assert np.abs(shown(field(np.arange(-20.0, 21.0, 5.0), PACIFIC[1]))).max() > 1.2


@pytest.mark.parametrize("lat", [np.arange(-88, 89, 2.0), np.array([-89.5, -40, -10, 0, 30, 89.5])])
def test_edges_stay_between_the_poles(lat):
    figure = plain(field(lat, CONVENTIONS["0..350"]), projection="PlateCarree")
    corners = mesh(figure.axes[0])._coordinates[..., 1]
    assert np.abs(corners).max() <= 90


def test_signed_values_diverge_about_zero():
    da = field(LAT, CONVENTIONS["5..355"])
    figure = plots.map(da)
    image = mesh(figure.axes[0])
    largest = np.abs(da.values).max()
    assert image.get_clim() == (-largest, largest)
    assert image.cmap.name == "RdBu_r"
    (bar,) = bars(figure)
    assert bar_label(bar) == "relevance (K)"
    assert bar.get_xlim() == (-largest, largest)


def test_positive_values_start_at_zero():
    da = np.abs(field(LAT, CONVENTIONS["5..355"])) + 1
    image = mesh(plots.map(da).axes[0])
    assert image.get_clim() == (0, da.values.max())
    assert image.cmap.name == "YlOrRd"


def shown_words(ax):
    return [text.get_text() for text in ax.texts]


def test_maps_without_values_say_so(tmp_path):
    figure = plots.map(field(*PACIFIC) * np.nan, save=tmp_path / "empty.png", normalise="max")
    assert shown_words(figure.axes[0]) == ["no data"]
    assert not bars(figure)
    assert (tmp_path / "empty.png").stat().st_size > 1000
    assert shown_words(plots.map(field(*PACIFIC)).axes[0]) == []


def test_maps_of_zeros_say_so():
    zeros = field(*PACIFIC) * 0
    zeros[0, 0] = np.nan
    figure = plots.map(zeros, title="quiet")
    assert figure.axes[0].get_title() == "quiet\nall zero"
    render(figure)
    (bar,) = bars(figure)
    assert [label.get_text() for label in bar.get_xticklabels()] == ["0"]
    assert bar_label(bar) == bar_label(bars(plots.map(field(*PACIFIC)))[0])
    (bar,) = bars(plots.map(zeros, vlim=2))
    assert len(bar.get_xticks()) > 2
    assert plots.map(field(*PACIFIC)).axes[0].get_title() == ""


@pytest.mark.parametrize("share", ["panel", "row"])
def test_panels_without_values_stay_level(share):
    ds, truth = result()
    ds["attribution"][1, :2] = np.nan
    ds["attribution"][0, 1] = truth[1] = np.nan
    figure = plots.maps(ds, truth, samples=(0, 1), share=share, coastlines=False)
    render(figure)
    axes = geo_axes(figure)
    assert axes[2].get_title() == "gradient\nr undefined (no data)"
    empty = [False, False, True, True, True, True]
    assert ["no data" in shown_words(ax) for ax in axes] == empty
    assert len(bars(figure)) == (2 if share == "panel" else 1)
    boxes = np.array([ax.get_position().bounds for ax in axes]).reshape(2, 3, 4)
    np.testing.assert_allclose(np.ptp(boxes[..., 1], axis=1), 0, atol=1e-3)
    np.testing.assert_allclose(np.ptp(boxes[..., 0], axis=0), 0, atol=1e-3)


def test_robust_limits_are_named_and_marked():
    da = field(LAT, CONVENTIONS["5..355"])
    da[0, 0] = 1000
    figure = plots.map(da, robust=99)
    limit = np.percentile(np.abs(da.values), 99)
    assert mesh(figure.axes[0]).get_clim() == pytest.approx((-limit, limit))
    (bar,) = bars(figure)
    assert bar_label(bar) == "relevance (K), limits: 99th percentile"
    assert bar._colorbar.extend == "both"
    assert bars(plots.map(da))[0]._colorbar.extend == "neither"


def test_given_limits_colours_and_units():
    da = field(LAT, CONVENTIONS["5..355"])
    figure = plots.map(da, vlim=0.5, cmap="PiYG", units="degC")
    assert mesh(figure.axes[0]).get_clim() == (-0.5, 0.5)
    assert mesh(figure.axes[0]).cmap.name == "PiYG"
    assert bar_label(bars(figure)[0]) == "relevance (degC)"
    assert mesh(plots.map(da, vlim=(-1, 3)).axes[0]).get_clim() == (-1, 3)


@pytest.mark.parametrize(("how", "total"), [("max", np.max), ("sum", np.sum)])
def test_normalisation_is_asked_for_and_named(how, total):
    da = field(LAT, CONVENTIONS["5..355"])
    da[3, 3] = np.nan
    before = da.copy(deep=True)
    figure = plots.map(da, normalise=how)
    scale = total(np.abs(da.values[np.isfinite(da.values)]))
    drawn = mesh(figure.axes[0]).get_array()
    assert drawn.max() == pytest.approx(np.nanmax(da.values) / scale)
    assert bar_label(bars(figure)[0]).startswith(f"relevance / {how} |relevance|")
    xr.testing.assert_identical(da, before)
    np.testing.assert_array_equal(normalised(np.zeros(3), how), np.zeros(3))


def test_axes_of_the_user(tmp_path):
    figure = Figure()
    ax = figure.add_subplot(projection=ccrs.Mollweide(central_longitude=20))
    assert (
        plots.map(field(LAT, CONVENTIONS["0..350"]), ax=ax, title="mine", save=tmp_path / "f.pdf") is figure
    )
    assert ax.get_title() == "mine"
    assert mesh(ax).get_rasterized()
    assert (tmp_path / "f.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(DataError, match="ax is Axes, not a cartopy axes"):
        plots.map(field(*PACIFIC), ax=Figure().add_subplot())


def test_vectors_and_plain_maps_need_a_grid():
    grid = Grid(np.random.default_rng(0).random((18, 36)) < 0.7, LAT, CONVENTIONS["5..355"])
    v = np.random.default_rng(1).normal(size=grid.n_valid)
    for values in (v, v[None], grid.to_map(v)):
        drawn = mesh(plots.map(values, grid=grid).axes[0]).get_array().compressed()
        np.testing.assert_array_equal(np.unique(drawn), np.unique(v))
    with pytest.raises(DataError, match=r"has no latitude; .* for vectors or plain arrays pass grid="):
        plots.map(v)
    with pytest.raises(DataError, match=r"grid has \d+ valid cells, got vectors of 7"):
        plots.map(v[:7], grid=grid)


def test_projection_objects_names_and_notebooks():
    da = field(LAT, CONVENTIONS["0..350"])
    assert isinstance(plain(da, projection="robinson").axes[0].projection, ccrs.Robinson)
    projection = ccrs.EqualEarth(central_longitude=10)
    figure = plain(da, projection=projection)
    assert figure.axes[0].projection is projection
    assert figure._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"projection": "Robinsen"}, "projection 'Robinsen' is unknown; did you mean 'Robinson'?"),
        ({"projection": "Projection"}, "projection 'Projection' is unknown"),
        ({"projection": "UTM"}, r"projection UTM needs arguments; pass cartopy.crs.UTM\(...\)"),
        ({"central_longitude": np.nan}, "central_longitude nan is not a longitude; give degrees east"),
        ({"central_longitude": -np.inf}, "central_longitude -inf is not a longitude"),
        ({"central_longitude": 5000}, r"central_longitude 5000 is not .* in -360 .. 360"),
        ({"central_longitude": "west"}, "central_longitude 'west' is not a longitude"),
        ({"extent": (np.inf, 5, 0, 9)}, "extent has longitudes inf .. 5; give degrees east"),
        ({"extent": (0, np.nan, 0, 9)}, "extent has longitudes 0 .. nan"),
        ({"projection": "RotatedPole", "central_longitude": 3}, "RotatedPole has no central longitude"),
        (
            {"projection": ccrs.Robinson(), "central_longitude": 3},
            "central_longitude is for a projection given by",
        ),
        ({"cmap": "RdBu_q"}, "colour map 'RdBu_q' is unknown; did you mean 'RdBu_r'?"),
        ({"normalise": "total"}, "normalise='total' is unknown; use None, 'max' or 'sum'"),
        ({"robust": 120}, "robust=120 is not a percentile"),
        ({"robust": 99, "vlim": 1}, "vlim and robust both set the colour limits"),
        ({"vlim": (2, 1)}, r"vlim 2 .. 1 is not an increasing finite range"),
        ({"vlim": "wide"}, "vlim 'wide' is not a number"),
        ({"save": "map.xyz"}, "'.xyz' is not a figure format"),
    ],
)
def test_bad_options_of_a_map(kwargs, message):
    with pytest.raises(DataError, match=message):
        plots.map(field(*PACIFIC), **kwargs)


def test_more_than_one_map_is_refused():
    with pytest.raises(DataError, match="field has 3 maps along 'sample'; select one with isel"):
        plots.map(samples())
    with pytest.raises(DataError, match="select until only samples, lat and lon remain"):
        plots.map(samples().expand_dims(level=2))
    with pytest.raises(DataError, match=r"dimensions \('y', 'x'\) has no latitude"):
        plots.map(xr.DataArray(np.zeros((2, 2)), dims=("y", "x")))


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "map.png"
    path.write_bytes(b"old")

    def fail(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(DataError, match="cannot be written"):
        plots.map(field(*PACIFIC), save=path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["map.png"]


def result(count=3):
    """A result with two methods, as an attribution run gives it, and its truth."""
    truth = samples(count, seed=10)
    stacked = xr.concat([truth + 0.5 * samples(count, seed=20), samples(count, seed=30)], "method")
    stacked = stacked.assign_coords(method=["lrp.z", "gradient"], sample=np.arange(count) + 100)
    stacked.attrs = {"long_name": "relevance", "units": "K"}
    truth.attrs = {"long_name": "true relevance", "units": "K"}
    return xr.Dataset({"attribution": stacked}), truth.assign_coords(sample=np.arange(count) + 100)


def test_rows_are_samples_and_columns_truth_and_methods(tmp_path):
    ds, truth = result()
    figure = plots.maps(ds, truth, samples=(0, 2), title="Synthetic task", save=tmp_path / "new" / "m.png")
    assert (tmp_path / "new" / "m.png").read_bytes().startswith(b"\x89PNG")
    axes = geo_axes(figure)
    assert [ax.get_subplotspec().get_geometry()[:3] for ax in axes] == [(2, 3, i) for i in range(6)]
    for row, i in enumerate((0, 2)):
        titles = [ax.get_title() for ax in axes[3 * row : 3 * row + 3]]
        assert titles[0] == "truth"
        for label, title in zip(("lrp.z", "gradient"), titles[1:], strict=True):
            a, b = truth.values[i].ravel(), ds["attribution"].sel({"method": label}).values[i].ravel()
            assert title == f"{label}\nr = {np.corrcoef(a, b)[0, 1]:.2f}"
        assert [t.get_text() for t in axes[3 * row].texts] == [f"sample {100 + i}"]
    assert figure._suptitle.get_text() == "Synthetic task"
    assert [bar_label(bar) for bar in bars(figure)] == ["relevance (K)", "relevance (K)"]


def limits(figure):
    return [mesh(ax).get_clim()[1] for ax in geo_axes(figure)]


def test_what_shares_a_scale():
    ds, truth = result()
    values = np.stack([truth.values, *ds["attribution"].values], axis=1)[:2]  # sample, column, lat, lon
    largest = np.abs(values).max(axis=(2, 3))
    expected = {
        "row": (np.repeat(largest.max(axis=1), 3), 2),
        "column": (np.tile(largest.max(axis=0), 2), 3),
        "all": (np.full(6, largest.max()), 1),
        "panel": (largest.ravel(), 6),
    }
    fast = {"coastlines": False, "projection": "PlateCarree"}
    for share, (high, count) in expected.items():
        figure = plots.maps(ds, truth, samples=(0, 1), share=share, **fast)
        assert limits(figure) == pytest.approx(high), share
        assert len(bars(figure)) == count
    assert limits(plots.maps(ds, truth, samples=(0, 1), **fast)) == pytest.approx(expected["row"][0])


def test_other_units_never_share_a_scale():
    ds, truth = result()
    truth.attrs["units"] = "mm"
    figure = plots.maps(ds, truth)
    assert len(set(limits(figure))) == 2
    assert [bar_label(bar) for bar in bars(figure)] == ["true relevance (mm)", "relevance (K)"]
    figure = plots.maps(ds, truth, normalise="max")
    assert limits(figure) == [1, 1, 1]
    assert [bar_label(bar) for bar in bars(figure)] == ["relevance / max |relevance|"]


def test_inputs_in_every_form_draw_the_same():
    ds, _ = result()
    grid = Grid.from_dataarray(ds["attribution"])
    parts = {str(m): ds["attribution"].sel({"method": m}, drop=True) for m in ds["method"].values}
    forms = [
        ds,
        ds["attribution"],
        parts,
        {label: grid.to_vector(part) for label, part in parts.items()},
        {label: grid.to_vector(part).values for label, part in parts.items()},
    ]
    for form in forms:
        figure = plots.maps(form, samples=1, grid=grid, methods=["gradient", "lrp.z"], coastlines=False)
        assert [ax.get_title() for ax in geo_axes(figure)] == ["gradient", "lrp.z"]
        for ax, label in zip(geo_axes(figure), ("gradient", "lrp.z"), strict=True):
            drawn = np.unique(mesh(ax).get_array().compressed())
            np.testing.assert_array_equal(drawn, np.unique(parts[label].values[1]))
    single = ds.sel({"method": "lrp.z"})
    assert [ax.get_title() for ax in geo_axes(plots.maps(single))] == ["lrp.z"]
    vectors = grid.to_vector(parts["lrp.z"]).values
    assert len(geo_axes(plots.maps(vectors, vectors, grid=grid, samples=(0, 1)))) == 4


def test_land_does_not_count_in_the_correlation():
    truth = samples(1)
    truth[0, 5] = np.nan
    maps = truth.copy(deep=True)
    maps[0, 6] = np.nan
    titles = [
        ax.get_title() for ax in geo_axes(plots.maps({"same": maps, "minus": -maps, "flat": maps * 0}, truth))
    ]
    assert titles == [
        "truth",
        "same\nr = 1.00",
        "minus\nr = -1.00",
        "flat\nall zero\nr undefined (constant map)",
    ]


def test_rows_are_named_by_time():
    times = np.array(["2010-01-01", "2010-02-01", "2010-03-01"], "datetime64[ns]")
    maps = samples().rename(sample="time").assign_coords(time=times)
    ax = geo_axes(plots.maps(maps, samples=1))[0]
    assert [t.get_text() for t in ax.texts] == ["time 2010-02-01"]
    assert [t.get_text() for t in geo_axes(plots.maps(samples()))[0].texts] == ["sample 0"]


LONG = "lrp.alpha_beta(input_layer_rule=None, bias='canonical', alpha=1.0, beta=0.0)"


@pytest.mark.parametrize(
    ("share", "columns", "title", "flat"),
    [
        ("row", 2, "Synthetic " * 9, 0),
        ("panel", 2, "Synthetic", 0),
        ("row", 6, None, 1),
        ("panel", 6, None, 1),
        ("row", 8, None, 0),
    ],
)
def test_nothing_overlaps_or_is_clipped(share, columns, title, flat):
    rows = 1 if flat or columns > 2 else 2
    look = {"share": share, "title": title, "robust": None if flat else 99, "coastlines": False}
    truth = samples(2, lat=np.arange(-8.0, 9.0, 4.0), lon=PACIFIC[1]) if flat else samples(2)
    methods = {LONG if i == 1 else f"method {i}": truth + i for i in range(columns)}
    figure = plots.maps(methods, truth, samples=range(rows), **look)
    figure.set_dpi(100)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [ax.get_tightbbox(canvas.get_renderer()) for ax in figure.axes]
    if title:
        boxes.append(figure._suptitle.get_window_extent(canvas.get_renderer()))
    for a, b in itertools.combinations(boxes, 2):
        assert not a.padded(-1).overlaps(b.padded(-1))
    inside = figure.bbox.padded(-1)
    assert all(inside.containsx(b.x0) and inside.containsx(b.x1) for b in boxes)
    assert all(inside.containsy(b.y0) and inside.containsy(b.y1) for b in boxes)


def test_labels_break_between_words():
    titles = [
        ax.get_title() for ax in geo_axes(plots.maps({LONG: samples(), **dict.fromkeys("abcd", samples())}))
    ]
    assert titles[0].splitlines() == [
        "lrp.alpha_beta(",
        "input_layer_rule=None,",
        "bias='canonical', alpha=1.0,",
        "beta=0.0)",
    ]
    assert wrap_label("two words\nlines stay", 80) == "two words\nlines stay"
    assert wrap_label("lrp.z()", 6) == "lrp.\nz()"
    assert wrap_label("indivisible", 4) == "indi\nvisi\nble"


@pytest.mark.parametrize("width", range(1, 40))
def test_wrapping_keeps_every_letter_and_the_width(width):
    lines = wrap_label(LONG, width).splitlines()
    assert max(len(line) for line in lines) <= width
    assert "".join(lines).replace(" ", "") == LONG.replace(" ", "")
    assert all(lines)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"samples": 3}, r"sample 3 does not exist; the attributions hold samples 0 .. 2"),
        ({"samples": (0, -1)}, "sample -1 does not exist"),
        ({"samples": ()}, "no sample to draw"),
        ({"methods": "lrp.zz"}, "method 'lrp.zz' is not among the attributions; did you mean 'lrp.z'?"),
        (
            {"methods": ["wavelet"]},
            "method 'wavelet' is not among the attributions; there are lrp.z, gradient",
        ),
        ({"methods": []}, "methods is empty"),
        ({"share": "rows"}, "share='rows' is unknown"),
        ({"truth": samples(2)}, r"truth has shape \(2, 18, 36\), 'lrp.z' has \(3, 18, 36\)"),
        ({"truth": samples(3, lat=LAT[::-1])}, "truth and 'lrp.z' have other coordinates"),
        ({"truth": samples(3).values}, "for vectors or plain arrays pass grid="),
    ],
)
def test_bad_options_of_maps(kwargs, message):
    with pytest.raises(DataError, match=message):
        plots.maps(result()[0], **kwargs)


def test_bad_attributions():
    ds, truth = result()
    with pytest.raises(DataError, match=r"dataset has no variable 'attribution'; it has \['relevance'\]"):
        plots.maps(ds.rename(attribution="relevance"))
    with pytest.raises(DataError, match="attributions are empty"):
        plots.maps({})
    with pytest.raises(DataError, match="method labels are not unique"):
        plots.maps(ds.assign_coords(method=["a", "a"]), truth)
