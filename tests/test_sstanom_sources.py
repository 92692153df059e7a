"""Where the maps and the truth of the SST benchmark come from: fields, matrices, the archive; its truth's options."""

from __future__ import annotations

import logging
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xairt import fields, runs
from xairt.benchmarks.sstanom import BENCHMARK, archive, generate, train
from xairt.benchmarks.sstanom.figures import cell_functions, known_function
from xairt.benchmarks.sstanom.map_figures import composite, deciles, sample_maps, shown_positions, slope_maps
from xairt.benchmarks.sstanom.scoring import sample_scores
from xairt.benchmarks.sstanom.stages import grid_of, vectors
from xairt.data.files import read_array, read_attributes, read_dataset
from xairt.data.provenance import sha256_of
from xairt.errors import DataError, MethodError
from xairt.grid import Grid
from xairt.models.architectures import mamalakis2022
from xairt.models.saving import save_model

TINY = {
    "n_samples": [60],
    "hidden_units": [8, 4],
    "epochs": 2,
    "linear_epochs": 2,
    "n_explained": 5,
    "methods": ["gradient", "input"],
    "dpi": 40,
}


def case_in(folder: Path, **settings) -> runs.Case:
    config = BENCHMARK.configured({**TINY, **settings})
    ((name, own),) = BENCHMARK.case_table(config).items()
    return runs.Case(name, BENCHMARK.case_settings(config, own, "figures"), folder)


def generated(folder: Path, **settings) -> xr.Dataset:
    case = case_in(folder, **settings)
    generate(case)
    return read_dataset(case.read("data.nc"))


# ----------------------------------------------------------------------------- a field or a matrix


@pytest.fixture(scope="module")
def sst_file(tmp_path_factory) -> Path:
    """Ten years of monthly maps of 20 degrees, land in one corner."""
    random = np.random.default_rng(0)
    time = xr.date_range("2001-01-15", periods=120, freq="MS")
    coords = {"time": time, "lat": np.arange(80.0, -81, -20), "lon": np.arange(0.0, 360, 20)}
    values = random.standard_normal((120, 9, 18)).cumsum(axis=2)
    values[:, :3, :4] = np.nan
    path = tmp_path_factory.mktemp("sst") / "sst.nc"
    xr.DataArray(values, coords, ("time", "lat", "lon"), "sst").to_netcdf(path)
    return path


def test_maps_have_the_correlation_of_a_field(sst_file, tmp_path):
    found = case_in(tmp_path, n_samples=[4000], source="netcdf", source_file=str(sst_file), step=3)
    generate(found)
    data = read_dataset(found.read("data.nc"))
    correlation, grid = fields.correlation_of("netcdf", sst_file, step=3)
    assert grid_of(found.read("data.nc")) == grid
    x = data["x"].values[:, grid.mask]
    np.testing.assert_allclose(np.corrcoef(x.T), correlation, atol=0.08)
    np.testing.assert_allclose(data["truth"].sum(("lat", "lon")), data["y"], atol=1e-6)


def test_maps_have_the_correlation_of_a_matrix_file(tmp_path):
    mask = np.array([[True, False], [True, True]])
    matrix = np.array([[4.0, 1.0, -2.0], [1.0, 1.0, 0.0], [-2.0, 0.0, 2.0]])
    np.savez(tmp_path / "c.npz", covariance=matrix, mask=mask, lat=[10.0, 0.0], lon=[0.0, 90.0])
    found = case_in(tmp_path, n_samples=[4000], source="correlation", source_file=str(tmp_path / "c.npz"))
    generate(found)
    x = read_dataset(found.read("data.nc"))["x"].values[:, mask]
    np.testing.assert_allclose(np.cov(x.T), fields.to_correlation(matrix), atol=0.08)


def test_a_run_of_a_field_goes_through_all_stages(sst_file, tmp_path):
    given = {**TINY, "methods": ["gradient"], "source": "netcdf", "source_file": str(sst_file), "step": 2}
    outcome = runs.execute(BENCHMARK, BENCHMARK.configured(given), tmp_path / "run")
    assert outcome.done[-1] == "figures"
    assert not outcome.failed


def test_real_sst_is_a_source(data_dir, tmp_path):
    file = next(data_dir.rglob("ersstv5_sst_2deg_global_2010-2020.nc"))
    found = case_in(tmp_path, n_samples=[60], source="netcdf", source_file=str(file))
    generate(found)
    data = read_dataset(found.read("data.nc"))
    assert dict(data.sizes) | {"sample": 60, "lat": 18, "lon": 36} == dict(data.sizes)
    assert 440 < np.isfinite(data["x"].values[0]).sum() < 460


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"source": "netcdf"}, "sstanom: .*source 'netcdf' needs a file; set source_file"),
        ({"source_file": "x.npz"}, "sstanom: .*source 'analytic' reads no file; set source"),
        ({"source": "excel"}, "sstanom: parameter 'source' = 'excel'"),
        ({"source": "netcdf", "source_file": "x.nc", "step": 0}, "sstanom: parameter 'step' = 0"),
    ],
)
def test_a_source_and_its_file_belong_together(given, match):
    with pytest.raises(MethodError, match=match) as caught:
        BENCHMARK.configured(given)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


# --------------------------------------------------------------------------------------- the archive


@pytest.fixture(scope="module")
def archived() -> dict[str, np.ndarray]:
    """The arrays of synth_exm_data.nc in their layout, on a small grid: 300 samples of 8 x 4 (lon, lat)."""
    lat, lon = np.array([67.5, 22.5, -22.5, -67.5]), np.arange(0.0, 360, 45)
    mask = np.random.default_rng(1).random((4, 8)) < 0.7
    grid = Grid(mask, lat, lon)
    correlation = fields.analytic_sst_correlation(grid, length_scale_km=6000)
    function = fields.draw(correlation, seed=3)
    x = fields.sample_gaussian(correlation, 300, seed=4, dtype=np.float64)
    contribution, y = function.contribution_and_output(x)
    maps = {"SSTrand": x, "Cnt": contribution, "W": function.scaled_slopes.T}
    turned = {name: np.swapaxes(grid.to_map(values), 1, 2) for name, values in maps.items()}
    return {**turned, "y": y, "lat": lat, "lon": lon, "breakpoints": function.breakpoints, "mask": mask}


def write_netcdf(arrays: dict[str, np.ndarray], path: Path, dtype: str = "float32") -> Path:
    dims = {"SSTrand": ("time", "lon", "lat"), "Cnt": ("time", "lon", "lat"), "y": ("time",)}
    dims |= {"W": ("pieces", "lon", "lat"), "lon": ("lon",), "lat": ("lat",)}
    data = {name: (dims[name], arrays[name].astype(dtype)) for name in dims if name in arrays}
    xr.Dataset(data).to_netcdf(path)
    return path


def write_matlab(arrays: dict[str, np.ndarray], path: Path) -> Path:
    """As MATLAB writes (lat, lon, time), row and column vectors with -v7.3, and h5py reads it."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name in ("SSTrand", "Cnt", "W"):
            file[name] = arrays[name]
        file["y"] = arrays["y"][:, np.newaxis]
        for name in ("lat", "lon"):
            file[name] = arrays[name][np.newaxis]
    return path


@pytest.fixture(scope="module", params=["netCDF float32", "netCDF float64", "MATLAB"])
def archive_file(request, archived, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    if request.param == "MATLAB":
        return write_matlab(archived, folder / "synth_exm_data.mat")
    return write_netcdf(archived, folder / "synth_exm_data.nc", request.param.split()[1])


def test_the_archive_gives_the_layout_of_the_benchmark(archive_file, archived, tmp_path):
    data = generated(tmp_path, source="archive", source_file=str(archive_file), first_sample=100)
    drawn = generated(tmp_path / "drawn")
    assert data["x"].dims == drawn["x"].dims == ("sample", "lat", "lon")
    assert {n: (v.dims, v.dtype) for n, v in data.variables.items() if n not in ("lat", "lon")} == {
        n: (v.dims, v.dtype) for n, v in drawn.variables.items() if n not in ("lat", "lon")
    }
    mask = archived["mask"]
    assert (np.isfinite(data["x"].values) == mask).all()
    for name, stored in (("x", "SSTrand"), ("truth", "Cnt")):
        wanted = np.swapaxes(archived[stored][100:160], 1, 2)
        np.testing.assert_array_equal(data[name].values, wanted.astype("float32"))
    np.testing.assert_allclose(data["y"], archived["y"][100:160], rtol=1e-6)
    np.testing.assert_array_equal(data["lat"], archived["lat"])
    np.testing.assert_allclose(data["truth"].sum(("lat", "lon")), data["y"], atol=1e-6)


def test_breakpoints_and_slopes_follow_from_the_archived_pairs(archive_file, archived, tmp_path):
    case = case_in(tmp_path, source="archive", source_file=str(archive_file), n_samples=[300])
    generate(case)
    data, mask = read_dataset(case.read("data.nc")), archived["mask"]
    x = data["x"].values[:, mask].astype(float)
    wanted = fields.PiecewiseLinear(
        archived["breakpoints"], np.swapaxes(archived["W"], 1, 2)[:, mask].T, divide=False
    )
    close = np.abs(data["slope"].values[:, mask] - wanted.slope_at(x)) < 1e-6
    assert close.mean() > 0.999  # a value on the wrong side of a breakpoint by rounding has the other slope
    function = known_function(case.read("data.nc"))
    np.testing.assert_allclose(function.contribution(x), wanted.contribution(x), atol=1e-6)
    assert len(cell_functions(case).axes) >= 3


def test_southern_rows_first_give_the_same_data(archived, tmp_path):
    flipped = {n: v[..., ::-1] if n in ("SSTrand", "Cnt", "W", "lat") else v for n, v in archived.items()}
    given = {"source": "archive", "n_samples": [40]}
    one = generated(tmp_path / "a", source_file=str(write_netcdf(archived, tmp_path / "a.nc")), **given)
    other = generated(tmp_path / "b", source_file=str(write_netcdf(flipped, tmp_path / "b.nc")), **given)
    xr.testing.assert_equal(one, other)


def test_without_breakpoints_the_slopes_are_left_out(archived, tmp_path, caplog):
    """Contributions that do not follow from W: slopes cannot be known, and nothing is compared with them."""
    wrong = {**archived, "W": archived["W"][::-1]}
    given = {**TINY, "source": "archive", "source_file": str(write_netcdf(wrong, tmp_path / "w.nc"))}
    with caplog.at_level(logging.WARNING, "xairt"):
        outcome = runs.execute(BENCHMARK, BENCHMARK.configured(given), tmp_path / "run")
    assert not outcome.failed
    assert "breakpoints not found, slopes are left out (contribution: does not follow" in caplog.text
    run = runs.Run.open(tmp_path / "run", BENCHMARK)
    data = run.cases["n60"].read("data.nc")
    assert not {"slope", "breakpoints"} & set(read_dataset(data).variables)
    assert known_function(data) is None
    metrics = set(run.scores.query("label == 'gradient'")["metric"])
    assert metrics == {"pearson.contribution", "spearman.contribution"}
    drawn = {path.name for path in (tmp_path / "run" / "figures").iterdir()}
    assert "slopes.png" in drawn
    assert "cell-functions.png" not in drawn
    with pytest.raises(DataError, match="the breakpoints are not known"):
        cell_functions(run.cases["n60"])


def test_the_registered_archive_is_the_default(archived, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    file = write_netcdf(archived, tmp_path / "data" / "synth_exm_data.nc")
    monkeypatch.setenv("XAIRT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XAIRT_CACHE_DIR", str(tmp_path / "cache"))
    data = generated(tmp_path / "a", source="archive")
    assert data.attrs["source_file"] == "synth_exm_data.nc"
    assert data.attrs["source_sha256"] == sha256_of(file)
    xr.testing.assert_equal(data, generated(tmp_path / "b", source="archive", source_file=str(file)))


def test_the_archive_is_streamed(archived, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr("xairt.benchmarks.sstanom.generation._ARCHIVE_BLOCK", 32)
    monkeypatch.setattr(archive, "FITTED_SAMPLES", 64)
    original = archive._part
    monkeypatch.setattr(archive, "_part", lambda a, n, i, j: read.append(j - i) or original(a, n, i, j))
    file = write_netcdf(archived, tmp_path / "a.nc")
    whole = generated(tmp_path / "a", source="archive", source_file=str(file), n_samples=[300])
    assert max(read) <= 64
    np.testing.assert_array_equal(whole["truth"], np.swapaxes(archived["Cnt"], 1, 2).astype("float32"))


@pytest.mark.parametrize(
    ("change", "settings", "reason"),
    [
        ({"W": None}, {}, "lacks W; give synth_exm_data.nc or .mat"),
        ({"y": np.zeros(5)}, {}, r"SSTrand has the shape \(300, 8, 4\), not \(5, 8, 4\)"),
        ({"Cnt": np.zeros((300, 4, 8))}, {}, r"Cnt has the shape \(300, 4, 8\), not \(300, 8, 4\)"),
        ({"SSTrand": np.full((300, 8, 4), np.nan)}, {}, "SSTrand holds no value"),
        ({}, {"n_samples": [400]}, "has 300 samples, and the range is 0 to 400; choose within them"),
        ({}, {"first_sample": 290}, "has 300 samples, and the range is 290 to 350"),
    ],
)
def test_archives_that_do_not_fit_are_refused(archived, change, settings, reason, tmp_path):
    arrays = {n: v for n, v in {**archived, **change}.items() if v is not None}
    file = tmp_path / "bad.mat"
    with h5py.File(file, "w") as stored:
        for name in ("SSTrand", "Cnt", "W", "y", "lat", "lon"):
            if name in arrays:
                stored[name] = arrays[name]
    with pytest.raises(DataError, match=reason) as caught:
        generated(tmp_path / "case", source="archive", source_file=str(file), **settings)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_an_ocean_cell_without_a_value_is_refused(archived, tmp_path):
    arrays = {name: value.copy() for name, value in archived.items()}
    lon, lat = np.argwhere(archived["mask"].T)[3]
    arrays["Cnt"][55, lon, lat] = np.nan
    file = write_netcdf(arrays, tmp_path / "gap.nc")
    with pytest.raises(DataError, match=r"gap.nc: Cnt lacks values in ocean cells of samples 0 to 60"):
        generated(tmp_path / "case", source="archive", source_file=str(file))


def test_a_gap_in_the_first_samples_makes_no_land(archived, tmp_path):
    arrays = {name: value.copy() for name, value in archived.items()}
    lon, lat = np.argwhere(archived["mask"].T)[3]
    arrays["SSTrand"][7, lon, lat] = np.nan
    file = write_netcdf(arrays, tmp_path / "gap.nc")
    with pytest.raises(DataError, match="SSTrand lacks values in ocean cells of samples 0 to"):
        generated(tmp_path / "case", source="archive", source_file=str(file))


def test_outputs_are_looked_at(archived, tmp_path, caplog):
    other = {**archived, "y": archived["y"] + np.ptp(archived["y"])}
    file = write_netcdf(other, tmp_path / "other.nc")
    generated(tmp_path / "a", source="archive", source_file=str(file))
    assert "other.nc: outputs differ from the sum of the contributions by up to" in caplog.text
    other["y"] = np.where(np.arange(len(other["y"])) == 5, np.nan, other["y"])
    file = write_netcdf(other, tmp_path / "gap.nc")
    with pytest.raises(DataError, match=r"gap.nc: y lacks values of samples 0 to"):
        generated(tmp_path / "b", source="archive", source_file=str(file))


def test_what_was_clipped_stands_in_the_data(tmp_path):
    np.savez(tmp_path / "c.npz", covariance=np.ones((2, 2)), mask=[[True, True]], lat=[0.0], lon=[0.0, 90.0])
    data = generated(tmp_path / "a", source="correlation", source_file=str(tmp_path / "c.npz"))
    assert data.attrs["clipped_eigenvalues"].startswith("1, sum ")


def test_files_that_are_no_archive_are_refused(tmp_path):
    for name, reason in (
        ("old.mat", "damaged or no MATLAB 7.3 file"),
        ("x.nc", "damaged or not a netCDF file"),
    ):
        (tmp_path / name).write_text("MATLAB 5.0 MAT-file")
        with pytest.raises(DataError, match=f"{name}: {reason}"):
            generated(tmp_path / "case", source="archive", source_file=str(tmp_path / name))


def test_the_samples_of_the_paper_are_shown_where_the_run_has_them(tmp_path):
    def shown(**settings):
        return shown_positions(case_in(tmp_path, **settings))

    whole = {"source": "archive", "n_samples": [1_000_000], "n_explained": 100_000}
    assert shown(**whole) == [900_000, 900_001, 979_475, 995_902]
    assert shown(**whole | {"n_samples": [30_000], "first_sample": 970_000}) == [
        27_000,
        27_001,
        9_475,
        25_902,
    ]
    assert shown(source="analytic", n_samples=[1_000_000]) == [900_000, 900_001]


# ----------------------------------------------------------------------------- the archived network


@pytest.fixture
def small_network(archived, tmp_path, monkeypatch) -> Path:
    """A network of as many cells as the small archive, in place of the archived one."""
    path = save_model(mamalakis2022(int(archived["mask"].sum()), 0, (6, 3)), tmp_path / "archived.h5")
    monkeypatch.setattr("xairt.benchmarks.sstanom.stages.registry.path", lambda name: path)
    return path


def test_the_archived_network_is_taken_as_it_is_and_its_skill_is_measured(archived, small_network, tmp_path):
    import xairt

    file = write_netcdf(archived, tmp_path / "a.nc")
    case = case_in(tmp_path / "c", source="archive", source_file=str(file), network="pretrained")
    generate(case)
    train(case)
    assert case.read("model.h5").read_bytes() == small_network.read_bytes()
    assert not (case.folder / "history.csv").exists()
    assert (case.folder / "linear_history.csv").exists()
    data = case.read("data.nc")
    x, y = vectors(data, "x", grid_of(data), 54, 60), read_array(data, "y").values[54:]
    error = xairt.load_model(small_network).predict(x, verbose=0)[:, 0] - y
    told = pd.read_csv(case.read("networks.csv")).query("label == 'network'").set_index("metric")["value"]
    assert told["mse"] == pytest.approx(np.mean(error**2), rel=1e-4)
    assert told["r2"] == pytest.approx(1 - np.mean(error**2) / np.var(y), rel=1e-4)


def test_a_pretrained_network_of_other_cells_is_refused(archived, small_network, tmp_path):
    case = case_in(tmp_path / "c", network="pretrained", source="archive")
    generate(case_in(tmp_path / "c"))
    with pytest.raises(
        DataError, match=r"mamalakis2022-sst: takes \d+ cells, the maps have 446; use source=archive"
    ):
        train(case)


def test_the_cells_of_the_archived_network_are_approximated_and_labelled(data_dir, tmp_path, caplog):
    case = case_in(tmp_path, source="correlation", network="pretrained")
    with caplog.at_level(logging.WARNING, "xairt"):
        generate(case)
        train(case)
    assert "an approximation of the archived network's cells" in caplog.text
    data = case.read("data.nc")
    assert "an approximation" in read_attributes(data)["comment"]
    assert grid_of(data).n_valid == 458
    skill = pd.read_csv(case.read("networks.csv")).query("label == 'network'").set_index("metric")["value"]
    assert np.isfinite(skill).all()


# ------------------------------------------------------------------------------- options of the truth


def test_noise_has_its_share_of_the_standard_deviation_and_leaves_the_truth(tmp_path):
    plain = generated(tmp_path / "a", n_samples=[4000])
    noisy = generated(tmp_path / "b", n_samples=[4000], noise=0.5)
    np.testing.assert_array_equal(noisy["truth"], plain["truth"])
    noise = (noisy["y"] - plain["y"]).values
    assert noise.std() == pytest.approx(float(plain["y"].std()) / 2, rel=0.04)
    assert abs(np.corrcoef(noise, plain["y"])[0, 1]) < 0.06
    assert abs(noise.mean()) < 0.05 * noise.std() * 2


def test_the_median_can_be_removed(tmp_path):
    plain = generated(tmp_path / "a", n_samples=[61])
    case = case_in(tmp_path / "b", n_samples=[61], remove_median=True)
    generate(case)
    centred = read_dataset(case.read("data.nc"))
    assert float(np.median(centred["y"])) == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(centred["y"], plain["y"] - float(np.median(plain["y"])), atol=1e-12)
    np.testing.assert_allclose(centred["truth"].sum(("lat", "lon")), centred["y"], atol=1e-6)
    shift = (centred["truth"] - plain["truth"]).values
    np.testing.assert_allclose(shift[np.isfinite(shift)], float(centred["offset"]), atol=1e-8)
    cell = grid_of(case.read("data.nc")).nearest(0, 210)
    x, truth = (
        vectors(case.read("data.nc"), n, grid_of(case.read("data.nc")), 0, 61)[:, cell]
        for n in ("x", "truth")
    )
    line = cell_functions(case).axes[0].lines[0].get_data()
    inside = np.abs(x) < 3
    np.testing.assert_allclose(np.interp(x[inside], *line), truth[inside], atol=1e-5)


def test_cells_far_from_the_chosen_places_contribute_nothing(tmp_path):
    data = generated(tmp_path, kept_around=[[0, 210]], bump_width=1500)
    grid = Grid.from_dataarray(data["x"])
    share = np.abs(data["truth"].values[:, grid.mask]).max(axis=0)
    weights = fields.bump_weights(grid, [(0, 210)], width_km=1500)
    assert share[weights < 1e-4].max() < 1e-3 * share.max()
    assert share[grid.nearest(0, 210)] > 0.1 * share.max()


def test_the_convention_flips_the_negative_side(tmp_path):
    paper = generated(tmp_path / "a")
    case = case_in(tmp_path / "b", convention="krell2025")
    generate(case)
    port = read_dataset(case.read("data.nc"))
    np.testing.assert_allclose(port["truth"], np.sign(paper["x"]) * paper["truth"], atol=1e-9)
    function = known_function(case.read("data.nc"))
    x = port["x"].values[:, grid_of(case.read("data.nc")).mask]
    np.testing.assert_allclose(function.contribution(x).sum(axis=1), port["y"], atol=1e-6)


def test_empirical_quantiles_are_those_of_the_maps(tmp_path):
    data = generated(tmp_path, n_samples=[3000], quantiles="empirical")
    correlation, grid = fields.correlation_of("analytic")
    x = data["x"].values[:, grid.mask]
    wanted = fields.draw(correlation, seed=0, samples=x)
    found = data["breakpoints"].values[:, grid.mask].T
    np.testing.assert_allclose(found, wanted.breakpoints, rtol=1e-6, atol=1e-9)
    assert np.abs(found - fields.draw(correlation, seed=0).breakpoints).max() > 0.01
    np.testing.assert_allclose(data["truth"].values[:, grid.mask], wanted.contribution(x), atol=1e-8)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"network": "pretrained"}, "source 'analytic' has other cells than the pretrained network"),
        (
            {"source": "archive", "noise": 0.5},
            "source 'archive' has maps and a truth of its own; leave out noise",
        ),
        ({"first_sample": 5}, "first_sample counts maps of the archive; set source=archive"),
        ({"noise": -1}, "parameter 'noise' = -1"),
        ({"quantiles": "normal"}, "parameter 'quantiles' = 'normal'"),
        ({"convention": "innvestigate"}, "parameter 'convention' = 'innvestigate'"),
        ({"kept_around": [[95, 0]]}, "parameter 'kept_around.0.0' = 95"),
        ({"bump_width": 0}, "parameter 'bump_width' = 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(given, match):
    with pytest.raises(MethodError, match=match):
        BENCHMARK.configured(given)


# -------------------------------------------------------------------------------------------- figures


def test_composites_are_means_of_deciles_with_their_z():
    random = np.random.default_rng(0)
    values, y = random.normal(size=(200, 7)), random.normal(size=200)
    members = deciles(y)
    assert (members.sum(axis=1) == 20).all()
    assert y[members[0]].max() <= np.sort(y)[19]
    assert y[members[1]].min() >= np.sort(y)[-20]
    mean, z = composite([values[:150], values[150:]], members)
    for group in range(2):
        wanted = values[members[group]].mean(axis=0)
        np.testing.assert_allclose(mean[group], wanted, rtol=1e-10)
        error = values.std(axis=0) / np.sqrt(20)
        np.testing.assert_allclose(z[group], (wanted - values.mean(axis=0)) / error, rtol=1e-8)


def test_z_of_groups_that_know_nothing_is_standard_normal():
    random = np.random.default_rng(1)
    values = random.normal(size=(1000, 500))
    _, z = composite([values], deciles(random.normal(size=1000)))
    assert 0.85 < z.std() < 1.05
    assert (np.abs(z) > 1.96).mean() < 0.08


def test_maps_of_samples_and_slopes_tell_what_they_show(tmp_path):
    case = case_in(tmp_path)
    generate(case)
    y = read_array(case.read("data.nc"), "y").values
    titles = [ax.get_title() for ax in sample_maps(case).axes]
    assert titles[:2] == [f"sample {i}, y = {y[i]:.3g}" for i in (54, 55)]
    titles = [ax.get_title() for ax in slope_maps(case).axes]
    assert titles[0] == "piece 1 of 6 (lowest anomalies)"
    assert titles[5] == "piece 6 of 6 (highest anomalies)"


def test_a_run_with_enough_samples_has_composites(tmp_path):
    given = {**TINY, "n_samples": [300], "n_explained": 30, "shown_methods": ["gradient"]}
    outcome = runs.execute(BENCHMARK, BENCHMARK.configured(given), tmp_path / "run")
    assert not outcome.failed
    picture = tmp_path / "run" / "figures" / "composites-n300.png"
    assert picture.stat().st_size > 3000


def test_scores_without_slopes_leave_them_out():
    truth = np.random.default_rng(0).normal(size=(3, 10))
    found = sample_scores("gradient", truth, np.ones(3), truth, None)
    assert set(found) == {"pearson.contribution", "spearman.contribution"}
