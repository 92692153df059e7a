"""Maps of LLC fields: every cell at its place on every projection, in all forms, on the command line too."""

from __future__ import annotations

import cartopy.crs as ccrs
import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from llc_files import grid
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from PIL import Image

from xairt import plots
from xairt.cli import main
from xairt.data.files import write_dataset
from xairt.data.llc import llc_grid, llc_tiles
from xairt.data.mds import read_mds
from xairt.errors import DataError
from xairt.llc import LLCGrid
from xairt.plots.colours import LAND

OCEAN = grid(12)
NORTH = OCEAN.restricted(OCEAN.places[0] > -20)


def field(grid=OCEAN, seed=0, samples=None):
    shape = (grid.n_valid,) if samples is None else (samples, grid.n_valid)
    values = np.random.default_rng(seed).normal(size=shape)
    dims = ("cell",) if samples is None else ("sample", "cell")
    return xr.DataArray(values, grid.cell_coordinates(), dims, "attribution", {"units": "K"})


def render(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3] / 255.0


def cells_of(ax):
    return [c for c in ax.collections if isinstance(c, mpl.collections.QuadMesh)][-1]


def colours_at(figure, lat, lon):
    """The colours of a picture at places, and which of the places lie well inside the map."""
    picture, ax = render(figure), figure.axes[0]
    x, y = ax.projection.transform_points(ccrs.PlateCarree(), np.asarray(lon), np.asarray(lat))[:, :2].T
    low, high = (np.array([ax.get_xlim()[k], ax.get_ylim()[k]]) for k in (0, 1))
    size = high - low
    inside = (np.abs((np.stack([x, y], -1) - low) / size - 0.5) < 0.48).all(axis=1)
    columns, rows = np.floor(ax.transData.transform(np.stack([x, y], -1)[inside])).astype(int).T
    return picture[picture.shape[0] - 1 - rows, columns], inside


@pytest.mark.parametrize(
    ("projection", "centre"),
    [
        ("Robinson", 180),
        ("Robinson", 0),
        ("PlateCarree", 180),
        ("NorthPolarStereo", 0),
        ("SouthPolarStereo", 0),
    ],
)
def test_every_cell_has_its_colour_at_its_place(projection, centre):
    da = field()
    figure = plots.map(da, projection=projection, central_longitude=centre, colorbar=False, coastlines=False)
    figure.set_dpi(200)
    found, inside = colours_at(figure, *OCEAN.places)
    assert inside.sum() > 150
    image = cells_of(figure.axes[0])
    wanted = image.cmap(image.norm(da.values[inside]))[:, :3]
    right = np.abs(found - wanted).max(axis=1) < 0.02
    assert right.mean() > 0.99  # narrow cells of the cap lie between the pixels


@pytest.mark.parametrize("projection", ["Robinson", "NorthPolarStereo"])
def test_the_arctic_and_the_date_line_have_no_gap(projection):
    ones = LLCGrid(np.ones(OCEAN.shape), OCEAN.lat, OCEAN.lon)
    figure = plots.map(
        np.ones(ones.n_valid), grid=ones, projection=projection, colorbar=False, coastlines=False, vlim=(0, 1)
    )
    rng = np.random.default_rng(0)
    lat = np.concatenate([rng.uniform(-60, 89.9, 500), np.linspace(-60, 89.9, 200)])
    lon = np.concatenate([rng.uniform(8, 352, 500), np.repeat([179.9, -179.9], 100)])  # off the rim
    found, inside = colours_at(figure, lat, lon)
    assert inside.sum() > 300
    assert np.abs(found - cells_of(figure.axes[0]).cmap(1.0)[:3]).max() < 0.02


def test_land_is_grey():
    figure = plots.map(field(), grid=OCEAN, central_longitude=0, colorbar=False, coastlines=False)
    land = ~OCEAN.mask & (np.abs(OCEAN.lat - 10) < 30) & (np.abs(OCEAN.lon - 20) < 18)
    assert land.sum() > 20
    found, inside = colours_at(figure, OCEAN.lat[land], OCEAN.lon[land])
    assert inside.all()
    np.testing.assert_allclose(found, np.broadcast_to(to_rgb(LAND), found.shape), atol=0.01)


def test_all_forms_draw_the_same():
    da = field()
    with_land = plots.map(da.values, grid=OCEAN)
    wanted = cells_of(with_land.axes[0]).get_array()
    tiles = OCEAN.to_map(da)
    bare = tiles.drop_vars(["tile", "j", "i", "lat", "lon"])
    regular = OCEAN.to_regular(da, 0.5)
    for figure in (
        *(plots.map(form, grid=OCEAN) for form in (da, tiles, tiles.values, bare)),
        plots.map(regular),
    ):
        np.testing.assert_array_equal(cells_of(figure.axes[0]).get_array(), wanted)


def test_tiles_without_a_grid_are_refused():
    with pytest.raises(DataError, match=r"\('tile', 'j', 'i'\) has no latitude.*pass grid="):
        plots.map(OCEAN.to_map(field()).drop_vars(["lat", "lon"]))
    with pytest.raises(
        DataError, match=rf"grid has {NORTH.n_valid} valid cells, got vectors of {OCEAN.n_valid}"
    ):
        plots.map(field().values, grid=NORTH)


def test_a_part_of_the_latitudes_is_shown_alone():
    ax = plots.map(field(NORTH), projection="PlateCarree").axes[0]
    assert -25 < ax.get_ylim()[0] < -15
    assert ax.get_ylim()[1] > 85
    whole = plots.map(field(), projection="PlateCarree").axes[0]
    assert whole.get_ylim() == (-90, 90)


def test_panels_of_samples_methods_and_truth():
    da = field(samples=3)
    both = xr.Dataset({"attribution": xr.concat([da, 2 * da], "method").assign_coords(method=["one", "two"])})
    figure = plots.maps(both, da, samples=(0, 2))
    titles = [ax.get_title() for ax in figure.axes[:6]]
    assert titles == ["truth", "one\nr = 1.00", "two\nr = 1.00"] * 2
    drawn = cells_of(figure.axes[2]).get_array().compressed()
    assert set(np.unique(drawn)) <= set(2 * da.values[0])
    assert np.unique(drawn).size > 0.9 * OCEAN.n_valid


def test_the_command_line_draws_cells(tmp_path, capsys):
    name = "optimal_input"
    write_dataset(
        xr.Dataset({name: field(NORTH, samples=1).rename(name)}), tmp_path / "out.nc", title="cells"
    )
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["map", str(tmp_path / "out.nc"), "-o", str(tmp_path / "maps.png")])
    picture = np.asarray(Image.open(tmp_path / "maps.png").convert("RGB")) / 255.0
    assert 0.02 < (np.abs(picture - to_rgb(LAND)).max(axis=-1) < 0.01).mean() < 0.5
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100


SEA = {"Robinson": [(30, 190), (-50, 60), (75, 190)], "NorthPolarStereo": [(89.9, 0), (75, 190), (70, 2)]}
LANDS = {"Robinson": [(22, 20), (-5, 295), (43, 105)], "NorthPolarStereo": [(72, 320), (65, 100), (60, 250)]}


@pytest.mark.parametrize("projection", SEA)
def test_real_sea_and_land_are_where_they_are(data_dir, projection):
    real = llc_grid(data_dir / "ecco")
    depth = real.to_vector(llc_tiles(read_mds(data_dir / "ecco" / "Depth")))
    figure = plots.map(depth, grid=real, projection=projection, coastlines=False, colorbar=False)
    for places, is_land in ((SEA, False), (LANDS, True)):
        found, inside = colours_at(figure, *np.transpose(places[projection]))
        assert inside.all()
        assert ((np.abs(found - to_rgb(LAND)).max(axis=1) < 0.01) == is_land).all()
