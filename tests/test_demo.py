"""The demonstration at its smallest size."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xairt
from xairt import demo, training
from xairt.errors import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    output = tmp_path_factory.mktemp("a folder") / "demo"
    lines: list[str] = []
    demo.run(output, quick=True, echo=lines.append)
    (output / "log.txt").write_text("\n".join(lines))
    return output


def test_everything_is_written(folder):
    names = {p.name for p in folder.iterdir()}
    wanted = {
        "model.h5",
        "history.csv",
        "truth.nc",
        "attributions.nc",
        "correlations.csv",
        "maps.png",
        "summary.html",
    }
    assert wanted <= names
    assert not [name for name in names if ".part" in name]


def test_scores_follow_from_the_files(folder):
    table = pd.read_csv(folder / "correlations.csv").set_index("method")
    with xr.open_dataset(folder / "attributions.nc") as result, xr.open_dataset(folder / "truth.nc") as truth:
        z, contribution = result.attribution.sel({"method": "lrp.z"}).values, truth.contribution.values
    ocean = np.isfinite(contribution[0])
    r = [np.corrcoef(a[ocean], c[ocean])[0, 1] for a, c in zip(z, contribution, strict=True)]
    assert table.loc["lrp.z", "mean r"] == pytest.approx(np.mean(r), abs=1e-4)


def test_truth_adds_up_to_the_output(folder):
    with xr.open_dataset(folder / "truth.nc") as truth:
        np.testing.assert_allclose(truth.contribution.sum(("lat", "lon")), truth.y, atol=1e-6)


def test_methods_beat_random_numbers(folder):
    table = pd.read_csv(folder / "correlations.csv").set_index("method")
    assert abs(table.loc["random", "mean r"]) < 0.05
    assert table.loc["lrp.z", "mean r"] > 0.15


def test_page_is_one_file(folder):
    page = (folder / "summary.html").read_text()
    assert "data:image/png;base64," in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_saved_network_explains_alike(folder):
    model = xairt.load_model(folder / "model.h5")
    with xr.open_dataset(folder / "attributions.nc") as stored:
        assert model.input_shape == (None, int(np.isfinite(stored.attribution[0, 0]).sum()))


def test_output_that_is_a_file_is_refused(tmp_path):
    path = tmp_path / "taken"
    path.write_text("mine")
    with pytest.raises(DataError, match="taken: is a file; name a folder"):
        demo.run(path, quick=True)
    assert path.read_text() == "mine"


def test_archived_network_is_drawn(data_dir, tmp_path):
    ((name, caption),) = demo._archived(tmp_path, 0, lambda text: None)
    assert (tmp_path / name).stat().st_size > 50_000
    assert "approximation" in caption


def test_interrupted_training_is_no_demonstration(monkeypatch, tmp_path):
    original = training.fit

    def stopped(*args, **options):
        return dataclasses.replace(original(*args, **options), interrupted=True)

    monkeypatch.setattr(training, "fit", stopped)
    with pytest.raises(KeyboardInterrupt):
        demo.run(tmp_path, quick=True)
    assert not list(tmp_path.iterdir())
