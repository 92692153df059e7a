"""The benchmark chaos_vision: boxes found by attributions, and a run whose network looks where it should."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xairt import metrics, runs
from xairt.benchmarks.chaos_media import stages as media_stages
from xairt.benchmarks.chaos_media.training import accuracy_rows
from xairt.benchmarks.chaos_vision import CHAOS_VISION, stages
from xairt.benchmarks.chaos_vision.images import write_images
from xairt.benchmarks.chaos_vision.scoring import image_scores
from xairt.benchmarks.chaos_vision.settings import PRESETS
from xairt.data.files import read_array
from xairt.errors import DataError, MethodError
from xairt.runs import methods as run_methods

GOLDEN = Path(__file__).parent / "data" / "golden" / "chaosmining.npz"
TRUE = [20, 52, 30, 62]


# ------------------------------------------------------------------------------------- boxes found


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as data:
        return {name: data[name] for name in data if name.startswith("vision")}


def test_published_boxes_and_scores(golden):
    boxes = np.tile(TRUE, (4, 1))
    found = metrics.found_box_iou(golden["vision_maps"], boxes, convention="chaosmining2024")
    np.testing.assert_array_equal(found["found_box"].values.T, golden["vision_box"])
    np.testing.assert_allclose(found["iou"].values, golden["vision_iou"], rtol=1e-12)


def test_definition_differs_from_the_published_program(golden):
    """A side has one pixel more, and one bright pixel is left out."""
    found = metrics.found_box(golden["vision_maps"])
    published = golden["vision_box"].T
    assert (found[:, 1::2] <= published[:, 1::2] + 1).all()
    assert (found[:, 0::2] >= published[:, 0::2]).all()


def test_perfect_map():
    image = np.zeros((1, 96, 96, 3))
    image[:, 20:52, 30:62] = 1.0
    assert metrics.found_box_iou(image, [TRUE], sigma=0).iou.item() == 1.0
    image[:, 20, 30] = 2.0
    published = metrics.found_box_iou(image, [TRUE], pixels=1023, sigma=0, convention="chaosmining2024")
    assert published.iou.item() == pytest.approx((31 / 32) ** 2)


def test_signs_that_alternate_vanish_in_the_blur():
    """The blur comes first: a chequered patch is as nothing, a constant one is not, whatever its sign."""
    image = np.zeros((1, 96, 96, 1))
    image[0, 10:42, 10:42, 0] = 5.0 * (-1.0) ** np.add.outer(np.arange(32), np.arange(32))
    image[0, 50:82, 50:82, 0] = -1.0
    found = metrics.found_box(image)[0]
    assert (found[0::2] >= 48).all()
    channels = np.concatenate([image, -image], axis=-1)
    np.testing.assert_array_equal(metrics.found_box(channels)[0], found)


def test_found_box_by_hand():
    random = np.random.default_rng(0).normal(size=(5, 9, 11, 2))
    found = metrics.found_box(random, pixels=7, sigma=0)
    for image, box in zip(random, found, strict=True):
        plane = np.abs(image).mean(axis=-1)
        bright = np.argwhere(plane >= np.sort(plane, axis=None)[::-1][6])
        assert len(bright) == 7
        rows, columns = bright.T
        assert box.tolist() == [rows.min(), rows.max() + 1, columns.min(), columns.max() + 1]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 12), min_size=8, max_size=8))
def test_iou_by_counting_pixels(numbers):
    first, other = (
        np.sort(np.reshape(part, (2, 2)), axis=1).reshape(4) for part in (numbers[:4], numbers[4:])
    )
    masks = []
    for row0, row1, col0, col1 in (first, other):
        mask = np.zeros((12, 12), bool)
        mask[row0:row1, col0:col1] = True
        masks.append(mask)
    either = (masks[0] | masks[1]).sum()
    expected = (masks[0] & masks[1]).sum() / either if either else np.nan
    np.testing.assert_allclose(metrics.iou_of_boxes([first], [other]), [expected])


def test_dataarray_gives_the_same(golden):
    import xarray as xr

    maps = xr.DataArray(golden["vision_maps"], dims=("sample", "y", "x", "channel"))
    turned = maps.transpose("channel", "x", "y", "sample").assign_coords(sample=[3, 5, 7, 9])
    boxes = np.tile(TRUE, (4, 1))
    found = metrics.found_box_iou(turned, boxes)
    np.testing.assert_array_equal(found.iou, metrics.found_box_iou(maps.values, boxes).iou)
    assert found["sample"].values.tolist() == [3, 5, 7, 9]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"attribution": np.ones((1, 4, 4))}, r"give real numbers \(samples, y, x, channel\)"),
        ({"attribution": np.full((1, 4, 4, 1), np.nan)}, "holds NaN or infinity"),
        ({"pixels": 17}, r"pixels=17: out of range; give 1 to 16"),
        ({"pixels": 16, "convention": "chaosmining2024"}, r"pixels=16: out of range; give 1 to 15"),
        ({"sigma": -1.0}, r"sigma=-1.0: out of range"),
        ({"convention": "chaos"}, r"convention 'chaos': unknown here"),
    ],
)
def test_bad_maps(arguments, match):
    with pytest.raises(DataError, match=match):
        metrics.found_box(**{"attribution": np.ones((1, 4, 4, 1)), "pixels": 4, **arguments})


def test_bad_boxes():
    with pytest.raises(DataError, match=r"found \(1, 4\) of float64: give integers"):
        metrics.iou_of_boxes([[0.0, 1.0, 0.0, 1.0]], [[0, 1, 0, 1]])
    with pytest.raises(DataError, match=r"true: an end lies before its begin"):
        metrics.iou_of_boxes([[0, 1, 0, 1]], [[3, 1, 0, 1]])
    with pytest.raises(DataError, match=r"boxes \(2, 4\): does not fit 1 samples"):
        metrics.found_box_iou(np.ones((1, 4, 4, 1)), np.ones((2, 4), int), pixels=4)


def test_attributions_that_are_not_finite_have_no_score(caplog):
    maps = np.random.default_rng(0).normal(size=(2, 64, 64, 3))
    maps[1, 0, 0, 0] = np.inf
    found = image_scores(maps, [[0, 32, 0, 32]] * 2, 6.0)
    assert np.isfinite(found["iou"]).values.tolist() == [True, False]
    assert found["found_box"].values[1].tolist() == [-1] * 4
    assert "1 of 2 attributions are not finite" in caplog.text


# -------------------------------------------------------------------------------- settings, methods


def test_presets_make_cases():
    for preset in PRESETS:
        config = CHAOS_VISION.configured({}, preset)
        assert CHAOS_VISION.case_table(config)
    assert len(CHAOS_VISION.case_table(CHAOS_VISION.configured({}, "paper"))) == 28


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"n_test": 5, "n_explained": 6}, "n_explained 6 is more than n_test 5"),
        ({"backgrounds": "photographs"}, "set variant=SBFP"),
        ({"folder": "data", "variant": ["RBFP", "SBFP"]}, "folder is a data set of one variant"),
        ({"variant": "XBFP"}, "RBFP"),
        ({"methods": "salience"}, "salience"),
    ],
)
def test_bad_settings(given, match):
    with pytest.raises(MethodError, match=match):
        CHAOS_VISION.configured(given, "quick")


def test_photographs_are_given_to_structural_backgrounds_alone():
    config = CHAOS_VISION.configured({"variant": ["RBFP", "SBFP"], "backgrounds": "photographs"}, "quick")
    table = CHAOS_VISION.case_table(config)
    assert [own["backgrounds"] for own in table.values()] == [None, "photographs"]


def test_patches():
    patches = stages.patch_numbers(32)
    assert patches.shape == (224, 224, 3)
    assert np.bincount(patches.ravel()).tolist() == [32 * 32 * 3] * 49
    assert (patches[32:64, 96:128] == 10).all()
    assert stages.patch_numbers(100).max() == 8


def test_accuracy():
    outputs = np.array([[5.0, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5], [1, 1, 0, 0, 0, 0]])
    found = {row["metric"]: row["value"] for row in accuracy_rows(outputs, [0, 0, 0], "test")}
    assert found == pytest.approx({"accuracy.test": 1 / 3, "accuracy_top5.test": 2 / 3})


def test_methods_that_cannot_explain_a_network_are_left_out_once(tmp_path, caplog):
    import tensorflow as tf

    layers = tf.keras.layers
    model = tf.keras.Sequential([layers.Input((5, 2)), layers.LSTM(3), layers.Dense(2)])
    model.save(tmp_path / "model.h5", include_optimizer=False)
    methods = ("saliency", "deeplift.rescale", "feature_ablation", "random")
    with caplog.at_level(logging.WARNING, run_methods.__name__):
        for _ in range(2):
            assert run_methods.usable_methods(tmp_path / "model.h5", methods) == (
                "saliency",
                "feature_ablation",
                "random",
            )
    assert caplog.text.count("deeplift.rescale cannot explain") == 1
    assert "LSTM" in caplog.text
    with pytest.raises(DataError, match=r"none of the methods can explain it; choose others"):
        run_methods.usable_methods(tmp_path / "model.h5", ("lrp.z",))


# -------------------------------------------------------------------------------------------- a run

SMALL = {
    "n_train": 60,
    "n_test": 20,
    "n_explained": 3,
    "epochs": 2,
    "batch_size": 20,
    "shown_images": 2,
    "dpi": 50,
    "methods": ("saliency", "feature_ablation", "random", "input"),
}


def middle_reader(case):
    """Return a network that sees the middle of an image alone."""
    import tensorflow as tf

    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(0)
    cut = layers.Cropping2D(96)
    return tf.keras.Sequential([layers.Input((224, 224, 3)), cut, layers.Flatten(), layers.Dense(10)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stages, "network_of", middle_reader)
        patched.setattr(media_stages, "_BLOCK", 2)  # data.nc is written in two pieces
        config = CHAOS_VISION.configured(SMALL, "quick")
        outcome = runs.execute(CHAOS_VISION, config, folder)
    assert outcome.failed == []
    return runs.Run.open(folder, CHAOS_VISION)


def _mean(run, label, metric):
    table = run.scores
    row = table[
        (table["label"] == label) & (table["metric"] == metric) & table["statistic"].isin(("mean", "value"))
    ]
    return row["value"].item()


def test_a_network_that_sees_the_foreground_alone_scores_high(finished):
    """Blurred, the gradient of 32 x 32 random weights is widest in the middle; ablation names the one patch."""
    assert _mean(finished, "feature_ablation", "iou") > 0.8
    assert _mean(finished, "saliency", "iou") > 0.4
    assert _mean(finished, "random", "iou") < 0.1
    for metric in ("accuracy.train", "accuracy.test", "accuracy_top5.train", "accuracy_top5.test"):
        assert 0 <= _mean(finished, "network", metric) <= 1
    assert _mean(finished, "network", "accuracy_top5.test") >= _mean(finished, "network", "accuracy.test")


def test_ablation_treats_a_patch_as_one(finished):
    case = finished.cases["RBFP.small_cnn.seed0"]
    (file,) = [e.file for e in stages.explain(case) if e.method == "feature_ablation"]
    attribution = read_array(case.read(file), "attribution").values
    patches = stages.patch_numbers(32)
    for patch in range(49):
        assert len(np.unique(attribution[0][patches == patch])) == 1
    assert np.abs(attribution[:, patches != 24]).max() < 1e-4 * np.abs(attribution).max()


def test_files_and_figures(finished):
    case = finished.cases["RBFP.small_cnn.seed0"]
    history = pd.read_csv(case.read("history.csv"))
    assert len(history) == 2
    assert {"accuracy", "val_accuracy", "learning_rate"} <= set(history)
    assert len(list((case.folder / "data" / "train").glob("*.png"))) == 60
    names = {"scores.png", "methods.png", "learning.png", "examples-RBFP.small_cnn.seed0.png"}
    assert {file.name for file in (finished.folder / "figures").iterdir()} == names


def test_a_rerun_does_nothing_and_a_lost_image_is_written_again(finished, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    assert runs.execute(CHAOS_VISION, finished.config, folder).done == []
    image = folder / "cases" / "RBFP.small_cnn.seed0" / "data" / "test" / "000003.png"
    before = image.read_bytes()
    image.unlink()
    monkeypatch.setattr(stages, "network_of", middle_reader)
    assert runs.execute(CHAOS_VISION, finished.config, folder, only="generate").failed == []
    assert image.read_bytes() == before


def test_a_data_set_of_others(tmp_path, monkeypatch):
    """It is read where it is, of photographs at random places, with the published name of the test part."""
    folder = write_images(tmp_path / "set", "SBRP", 24, 8)
    (folder / "test").rename(folder / "val")
    monkeypatch.setattr(stages, "network_of", middle_reader)
    given = {**SMALL, "folder": str(folder), "variant": "SBRP", "n_train": 20, "n_test": 6, "epochs": 1}
    config = CHAOS_VISION.configured({**given, "methods": ("saliency", "random")}, "quick")
    assert runs.execute(CHAOS_VISION, config, tmp_path / "run").failed == []
    case = runs.Run.open(tmp_path / "run", CHAOS_VISION).cases["SBRP.small_cnn.seed0"]
    assert not (case.folder / "data").exists()
    assert read_array(case.read("data.nc"), "image").shape == (3, 224, 224, 3)
    (folder / "val" / "000001.png").unlink()
    with pytest.raises(DataError, match=r"metadata.csv line 3: file_name '000001.png' is no file"):
        stages.generate(case)


def test_importing_it_loads_no_tensorflow():
    import subprocess
    import sys

    code = (
        "import sys, xairt.benchmarks.chaos_vision as b; "
        "print([m for m in ('tensorflow', 'xarray', 'matplotlib.pyplot', 'cartopy') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
