"""The benchmark of regional SST from global SST: planted field, samples, stages, and what it finds."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xairt import runs
from xairt.benchmarks.xairt_sst import XAIRT_SST, planted_grid, planted_sst, samples
from xairt.benchmarks.xairt_sst.settings import PAPER_METHOD
from xairt.benchmarks.xairt_sst.stages import bounded, split_of
from xairt.data.files import read_dataset
from xairt.errors import DataError, MethodError
from xairt.fields import region
from xairt.grid import Grid

TARGET = (52.5, 227.5)
SMALL = {"n_months": 600, "lag": 3, "epochs": 60, "halved_every": 20, "optimal_iterations": 10_000, "dpi": 60}


def settings_of(**given) -> runs.CaseSettings:
    """Return the settings that all stages of the first case may read."""
    config = XAIRT_SST.configured(given, "quick")
    own = next(iter(XAIRT_SST.case_table(config).values()))
    return XAIRT_SST.case_settings(config, own, "figures")


# --------------------------------------------------------------------------- the planted field


@pytest.fixture(scope="module")
def grid() -> Grid:
    return planted_grid()


def anomalies_of(sst: xr.DataArray, grid: Grid) -> np.ndarray:
    """Return (time, cells) without seasonal cycle and trend, by least squares."""
    values = grid.to_vector(sst).values.astype(np.float64)
    month = np.arange(len(values))
    angle = 2 * np.pi * month / 12
    basis = np.stack([np.ones(len(month)), month, np.sin(angle), np.cos(angle)], axis=1)
    return values - basis @ np.linalg.lstsq(basis, values, rcond=None)[0]


@pytest.mark.parametrize(("lag", "share"), [(3, 0.9), (6, 0.5)])
def test_the_target_follows_the_source_region(grid, lag, share):
    box = (30.0, 45.0, 150.0, 180.0)
    sst = planted_sst(grid, TARGET, n_months=3000, lag=lag, share=share, source_box=box, seed=1)
    found = anomalies_of(sst, grid)
    inside = region(grid, lat=box[:2], lon=box[2:])
    source = found[:, inside] @ grid.area_weights[inside]
    target = found[:, grid.nearest(*TARGET)]
    by_lag = [np.corrcoef(source[: len(source) - k], target[k:])[0, 1] for k in range(1, 10)]
    assert int(np.argmax(by_lag)) + 1 == lag
    assert by_lag[lag - 1] == pytest.approx(share, abs=0.05)
    np.testing.assert_allclose(found.std(axis=0).mean(), 1.0, atol=0.05)


def test_the_planted_field_is_repeatable_and_covers_the_ocean(grid):
    first, again, other = (planted_sst(grid, TARGET, n_months=120, seed=seed) for seed in (0, 0, 1))
    xr.testing.assert_identical(first, again)
    assert not np.allclose(first, other, equal_nan=True)
    np.testing.assert_array_equal(first[0].notnull(), grid.mask)
    assert first.attrs["units"] == "degC"
    assert first.dtype == np.float32


def test_a_source_region_on_land_is_refused(grid):
    with pytest.raises(DataError, match=r"source region .*no ocean cell"):
        planted_sst(grid, TARGET, n_months=120, source_box=(45.0, 50.0, 90.0, 100.0))


# --------------------------------------------------------------------------- samples


@pytest.fixture
def record(tmp_path) -> Path:
    """A monthly SST of 20 years on a 15-degree grid without leap years, land filled, in a file."""
    lat, lon = np.arange(-82.5, 90, 15.0), np.arange(7.5, 360, 15.0)
    time = xr.date_range("2000-01-01", periods=240, freq="MS", calendar="noleap", use_cftime=True)
    values = np.random.default_rng(0).normal(size=(240, len(lat), len(lon))).astype(np.float32)
    values += 10 * np.cos(2 * np.pi * np.arange(240) / 12)[:, None, None].astype(np.float32)
    coords = {"time": time, "lat": lat, "lon": lon}
    field = xr.DataArray(values, coords, ("time", "lat", "lon"), "sst", {"units": "degC"})
    field.to_netcdf(tmp_path / "record.nc")
    return tmp_path / "record.nc"


def of_record(record: Path, **given) -> xr.Dataset:
    place = {"target_place": (37.5, 187.5), "source": "netcdf", "source_file": str(record)}
    return samples(settings_of(**place, **given))


@pytest.mark.parametrize("lag", [-2, 0, 4])
def test_samples_pair_a_map_with_the_averaged_target_a_lag_later(record, lag):
    found = of_record(record, lag=lag)
    field = xr.open_dataset(record)["sst"].load()
    year, month = field["time"].dt.year.values, field["time"].dt.month.values
    naive = np.empty(field.shape)
    for m in range(1, 13):
        rows = np.flatnonzero(month == m)
        for j in range(field.shape[1]):
            for i in range(field.shape[2]):
                values = field.values[rows, j, i].astype(np.float64)
                naive[rows, j, i] = values - np.polyval(np.polyfit(year[rows], values, 1), year[rows])
    series = naive[:, 8, 12]
    averaged = {
        (y, m): series[t - 1 : t + 2].mean()
        for t, (y, m) in enumerate(zip(year, month, strict=True))
        if 0 < t < 239
    }
    dates = [(t.year, t.month) for t in found["time"].values]
    later = [divmod(12 * y + m - 1 + lag, 12) for y, m in dates]
    expected = np.array([averaged[y, m + 1] for y, m in later])
    np.testing.assert_allclose(found["y"], expected, atol=2e-6)
    np.testing.assert_array_equal(found["label"], found["y"] > 0)
    rows = [12 * (y - 2000) + m - 1 for y, m in dates]
    assert (found["lat"] >= -20).all()
    assert found.sizes["lat"] == 7
    south_to_north = naive[rows][:, 5:][:, ::-1]
    np.testing.assert_allclose(found["x"], south_to_north, atol=2e-6)
    np.testing.assert_array_equal(found["now"], series[rows] > 0)
    assert found["y"].attrs["lag"] == lag
    assert found["y"].attrs["lag_units"] == "months"


@pytest.mark.parametrize("lag", [-6, 0, 6])
def test_nothing_that_tested_samples_use_is_known_to_anomalies_of_the_training_years(record, tmp_path, lag):
    settings = settings_of(lag=lag, running_mean=5)
    whole = of_record(record, lag=lag, running_mean=5)
    n = whole.sizes["sample"]
    tested = whole.isel(sample=slice(n - round(settings.test_share * n), None))
    dates = xr.open_dataset(record)["time"].values
    earliest = min(tested["time"].values[0], dates[list(dates).index(tested["target_time"].values[0]) - 2])
    changed = xr.open_dataset(record).load()
    changed["sst"][list(dates).index(earliest) :] += 5.0
    changed.to_netcdf(tmp_path / "changed.nc")
    for fitted_on, same in (("training", True), ("all", False)):
        first, second = (
            of_record(path, lag=lag, running_mean=5, fitted_on=fitted_on)["x"][:100].values
            for path in (record, tmp_path / "changed.nc")
        )
        assert np.array_equal(first, second) is same


def test_mds_files_are_read_as_their_names_and_times_say(tmp_path, monkeypatch):
    from xairt.benchmarks.xairt_sst import generation

    asked = {}
    monkeypatch.setattr("xairt.data.llc.llc_grid", lambda folder: f"grid of {folder}")

    def read(folder, name, grid, **options):
        asked.update(folder=folder, name=name, grid=grid, **options)
        raise DataError("as far as that")

    monkeypatch.setattr("xairt.data.llc.read_mds_series", read)
    given = {"source": "llc", "source_file": "run", "grid_folder": "grid", "mds_name": "SST"}
    with pytest.raises(DataError, match="as far as that"):
        generation.sea_surface(settings_of(**given, mds_time_step=3600.0, mds_start="1992-01-01"))
    times = {"time_step_seconds": 3600.0, "start": "1992-01-01"}
    assert asked == {"folder": "run", "name": "SST", "grid": "grid of grid", **times}


def test_a_date_is_one_however_it_is_written():
    mds = ["source=llc", "source_file=run", "grid_folder=grid", "mds_name=SST", "mds_time_step=3600"]
    for text in ("1992-01-01", '"1992-01-01"'):
        given = runs.parse_settings([*mds, f"mds_start={text}"])
        assert XAIRT_SST.configured(given).mds_start == "1992-01-01"


def test_filled_land_is_masked_by_natural_earth_or_by_a_file(record, tmp_path):
    assert of_record(record, lag=0)["x"].notnull().all()
    masked = of_record(record, lag=0, land="natural_earth")["x"][0]
    assert np.isnan(masked.sel(lat=52.5, lon=97.5))
    assert masked.sel(lat=37.5, lon=187.5).notnull()
    mask = xr.open_dataset(record).load()
    mask["sst"][:] = mask["sst"].where((mask.lat < 0) | (mask.lon > 100))
    mask.to_netcdf(tmp_path / "mask.nc")
    by_file = of_record(record, lag=0, land=str(tmp_path / "mask.nc"))["x"][0]
    np.testing.assert_array_equal(by_file.isnull(), (by_file.lat > 0) & (by_file.lon < 100))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"source": "netcdf"}, MethodError, "source 'netcdf' reads a file; set source_file"),
        ({"source": "llc"}, DataError, "source 'llc' reads files; set source_file"),
        ({"source": "llc", "source_file": "a", "mds_name": "SST"}, MethodError, "mds_name: MDS files need"),
        ({"source_box": [45, 30, 150, 180]}, MethodError, "source_box: south"),
        ({"latitudes": [-89.9, -89.8]}, DataError, "no ocean cell lies there"),
        ({"target_box": [60, 65, 90, 95]}, DataError, "holds no ocean cell"),
        ({"lag": 700, "n_months": 600}, DataError, "lag=700"),
        ({"latitudes": [20, -20]}, MethodError, "southern limit"),
        ({"running_mean": 4}, MethodError, "must be odd"),
        ({"input_bounds": [2, 1]}, MethodError, "input_bounds"),
        ({"methods": ["gradient"]}, MethodError, "shown_methods names one"),
        ({"split": "random"}, MethodError, "split"),
    ],
)
def test_bad_settings_are_refused_in_one_line(given, error, message):
    with pytest.raises(error, match=message) as caught:
        samples(settings_of(**given))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("preset", runs.PRESETS)
def test_presets_are_valid(preset):
    config = XAIRT_SST.configured({}, preset)
    assert len(XAIRT_SST.case_table(config)) == len(config.lag) * len(config.split)
    assert XAIRT_SST.configured(config.plain()) == config


# --------------------------------------------------------------------------- training and explaining


def test_the_blocked_split_shares_no_date_between_its_parts():
    config = settings_of(split="blocked", lag=4)
    split = split_of(config, 400)
    reach = config.running_mean // 2

    def dates(rows):
        return {t for i in rows for t in (i, *range(i + 4 - reach, i + 4 + reach + 1))}

    parts = [dates(rows) for rows in (split.train, split.validation, split.test)]
    assert not parts[0] & parts[1]
    assert not parts[1] & parts[2]
    assert not parts[0] & parts[2]
    shuffled = split_of(settings_of(split="shuffled", lag=4), 400)
    np.testing.assert_array_equal(shuffled.test, split.test)
    assert len(shuffled.train) + len(shuffled.validation) == 320


def test_bounds_of_the_data_are_written_into_the_method():
    assert "Bounded(low=-2, high=3.5)" in bounded(PAPER_METHOD, (-2.0, 3.5))
    explicit = "lrp.z(input_layer_rule='Bounded(low=-1, high=1)')"
    assert bounded(explicit, (-2.0, 3.5)) == explicit
    assert bounded("integrated_gradients(steps=8)", (-2.0, 3.5)) == "integrated_gradients(steps=8)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    outcome = runs.execute(XAIRT_SST, XAIRT_SST.configured(SMALL, "quick"), folder)
    assert not outcome.failed
    return folder


@pytest.fixture(scope="module")
def scores(folder) -> pd.DataFrame:
    return (
        runs.Run.opened(folder).scores if hasattr(runs.Run, "opened") else pd.read_csv(folder / "scores.csv")
    )


@pytest.mark.parametrize("split", ["blocked", "shuffled"])
def test_relevance_and_optimal_input_find_the_planted_region(scores, split):
    table = scores[scores["case"] == f"lag3.{split}"].set_index(["label", "metric"])["value"]
    cells = table["random", "source_share.positive"]
    for label in (PAPER_METHOD, "linear.input_t_gradient", "optimal_input"):
        for name in ("negative", "positive"):
            assert table[label, f"source_maximum.{name}"] == 1
            assert table[label, f"source_share.{name}"] > 3 * cells
    assert table["optimal_input", "probability.negative"] > 0.95
    assert table["optimal_input", "probability.positive"] > 0.95
    assert table[PAPER_METHOD, "lag_correlation.positive"] > 0.5
    assert abs(table["random", "lag_correlation.positive"]) < 0.2
    own = table["network"]
    baseline = max(own["class_frequency.test"], own["persistence.test"])
    assert own["gain"] == pytest.approx(own["accuracy.test"] - baseline)
    assert own["validation_minus_test"] == pytest.approx(own["accuracy.validation"] - own["accuracy.test"])
    assert own["accuracy.test"] > own["class_frequency.test"]


def test_composites_are_the_means_over_correct_samples(folder):
    case = folder / "cases/lag3.blocked"
    composites = read_dataset(case / "composites.nc")
    data, predictions = read_dataset(case / "data.nc"), read_dataset(case / "predictions.nc")
    file = next(case.glob("attributions/random.nc"))
    attribution = read_dataset(file)["attribution"].values.astype(np.float64)
    for number, name in enumerate(("negative", "positive")):
        right = (data["label"].values == number) & (predictions["network"].values == number)
        found = composites.sel(label="random", **{"class": name})
        assert found["count"] == right.sum()
        np.testing.assert_allclose(found["mean"], attribution[right].mean(axis=0), atol=1e-6)
    flat = data["x"].values.reshape(data.sizes["sample"], -1)
    cell = int(np.flatnonzero(~np.isnan(flat[0]))[40])
    expected = np.corrcoef(flat[:, cell], data["y"])[0, 1]
    assert composites["lag_correlation"].values.reshape(-1)[cell] == pytest.approx(expected, abs=1e-6)
    assert set(np.unique(predictions["part"].values)) == {"train", "validation", "test", "none"}


def test_the_linear_model_is_explained_exactly(folder):
    case = folder / "cases/lag3.blocked"
    gap = read_dataset(next(case.glob("attributions/linear*.nc")))
    predictions = read_dataset(case / "predictions.nc")
    np.testing.assert_array_equal(gap["prediction"].values > 0, np.ones(gap.sizes["sample"], bool))
    np.testing.assert_array_equal(gap["target"].values, predictions["linear"].values)


def test_figures_are_drawn(folder):
    names = {path.name for path in (folder / "figures").glob("*.png")}
    assert names == {
        "skill-by-lag.png",
        *(
            f"{kind}-{split}.png"
            for kind in ("relevance-by-lag", "optimal-input")
            for split in ("blocked", "shuffled")
        ),
    }


def test_a_case_without_proven_skill_is_told(tmp_path, caplog):
    given = SMALL | {
        "planted_share": 0.01,
        "lag": 6,
        "split": "blocked",
        "methods": [PAPER_METHOD],
        "optimal_iterations": 0,
    }
    with caplog.at_level(logging.WARNING):
        runs.execute(XAIRT_SST, XAIRT_SST.configured(given, "quick"), tmp_path / "run")
    told = [
        record.getMessage() for record in caplog.records if "not significantly above" in record.getMessage()
    ]
    assert len(told) == 1
    assert "class frequency" in told[0]
    assert "persistence" in told[0]


def test_a_sensitivity_is_compared_with_the_composites(folder, tmp_path):
    composites = read_dataset(folder / "cases/lag3.blocked/composites.nc")
    own = composites["mean"].sel(label=PAPER_METHOD, **{"class": "positive"}).drop_vars(["label", "class"])
    own.rename("sensitivity").to_netcdf(tmp_path / "adjoint.nc")
    given = SMALL | {"sensitivity_file": str(tmp_path / "adjoint.nc")}
    shutil.copytree(folder, tmp_path / "run")
    folder = tmp_path / "run"
    outcome = runs.execute(XAIRT_SST, XAIRT_SST.configured(given, "quick"), folder)
    assert {step.split("/")[-1] for step in outcome.done} == {"score", "figures"}
    table = pd.read_csv(folder / "scores.csv")
    table = table[table["case"] == "lag3.blocked"].set_index(["label", "metric"])["value"]
    assert table[PAPER_METHOD, "sensitivity.positive"] == pytest.approx(1.0)
    assert abs(table["random", "sensitivity.positive"]) < 0.2


# --------------------------------------------------------------------------- LLC geometry


def test_on_the_real_llc_grid_relevance_and_optimal_input_peak_in_the_planted_region(data_dir, tmp_path):
    given = SMALL | {
        "grid_folder": str(data_dir / "ecco"),
        "target_place": (50.0, 234.0),
        "n_months": 480,
        "methods": [PAPER_METHOD, "random"],
        "split": "blocked",
    }
    outcome = runs.execute(XAIRT_SST, XAIRT_SST.configured(given, "quick"), tmp_path / "run")
    assert not outcome.failed
    data = read_dataset(tmp_path / "run/cases/lag3.blocked/data.nc")
    assert data.sizes["cell"] == 31811
    place = data["y"].attrs["target_place"]
    np.testing.assert_allclose(place % [180, 360], (49.1, 233.5), atol=0.1)
    composites = read_dataset(tmp_path / "run/cases/lag3.blocked/composites.nc")
    lat, lon = data["lat"].values, data["lon"].values % 360
    inside = (lat >= 30) & (lat <= 45) & (lon >= 150) & (lon <= 180)
    for name in ("negative", "positive"):
        relevance = composites["mean"].sel(label=PAPER_METHOD, **{"class": name}).values
        optimal = composites["optimal_input"].sel({"class": name}).values
        assert inside[np.abs(relevance).argmax()]
        assert inside[np.abs(optimal).argmax()]
        assert not inside[np.abs(composites["mean"].sel(label="random", **{"class": name}).values).argmax()]
