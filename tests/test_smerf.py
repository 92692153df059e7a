"""The benchmark of images whose label follows from known objects: stages, scores, and planted networks."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from xairt import runs
from xairt.benchmarks.smerf import SMERF, added_scores, identity_scores, stages
from xairt.benchmarks.smerf.figures import pooled_scores
from xairt.benchmarks.smerf.images import image_count, images
from xairt.benchmarks.smerf.rules import OBJECTS, SETTINGS, Setting, setting_of
from xairt.benchmarks.smerf.scoring import image_scores, reduction_of
from xairt.data.files import read_array, read_dataset
from xairt.errors import DataError, MethodError
from xairt.runs.manifest import Manifest
from xairt.runs.scores import missed_gates

N = 3
METHODS = ("input_t_gradient", "lrp.z", "shap.deep", "random", "input")
EXACT = ("input_t_gradient", "lrp.z")
SMALL = {
    "n_explained": N,
    "n_backgrounds": 24,
    "n_train": 10,
    "n_tested": 4,
    "epochs": 1,
    "learning_rate": 1e-9,
    "methods": METHODS,
    "blur": 1,
    "added_images": 2,
    "added_methods": ("input_t_gradient",),
    "dpi": 40,
}


def patch_reader(config: runs.CaseSettings | None = None) -> tf.keras.Model:
    """A network that tells whether a square of 10 x 10 is white: it reads the patch and nothing else."""
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            layers.Input((64, 64, 3)),
            layers.Conv2D(1, 10, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )
    kernel = np.full((10, 10, 3, 1), 1 / 300)
    model.set_weights([kernel, np.array([-0.95]), np.array([[0.0, 1e7]]), np.array([10.0, 0.0])])
    return model


def settings_of(**given) -> runs.CaseSettings:
    """Return the settings that all stages of the first case may read."""
    config = SMERF.configured(given, "quick")
    return SMERF.case_settings(config, next(iter(SMERF.case_table(config).values())), "figures")


# --------------------------------------------------------------------------- settings and cases


def test_all_means_the_seven_published_settings(monkeypatch):
    monkeypatch.setitem(SETTINGS, "mine", replace(setting_of("simple-fr"), name="mine", published_id=None))
    found = SMERF.case_table(SMERF.configured({"setting": "all"}))
    assert [own["setting"] for own in found.values()] == [name for name in SETTINGS if name != "mine"]
    assert list(SMERF.case_table(SMERF.configured({"setting": "mine"}))) == ["mine.black.plain.complex"]


@pytest.mark.parametrize(
    ("given", "network", "rate", "minimum"),
    [
        ({"setting": "simple-fr"}, "simple", 1e-4, 0.98),
        ({"setting": "simple-nr"}, "simple", 1e-5, 0.98),
        ({"setting": "complex-cr1"}, "complex", 1e-5, 0.95),
        ({"setting": "simple-fr", "background": "natural"}, "simple", 1e-4, 0.95),
        ({"setting": "complex-fr", "background": "natural"}, "complex", 1e-5, 0.90),
        ({"setting": "simple-fr", "network": "alexnet"}, "alexnet", 1e-4, 0.98),
        ({"setting": "complex-fr", "learning_rate": 0.01, "minimum_accuracy": 0}, "complex", 0.01, 0.0),
    ],
)
def test_a_case_has_the_published_numbers_where_none_are_given(given, network, rate, minimum):
    config = SMERF.configured(given, "paper")
    (own,) = SMERF.case_table(config).values()
    assert (own["network"], own["learning_rate"]) == (network, rate)
    (gates,) = SMERF.case_gates(config).values()
    assert gates == {"accuracy.train": minimum, "accuracy.validation": minimum}


def test_sweeps_make_a_case_each():
    given = {
        "setting": ["simple-fr", "complex-fr"],
        "background": ["black", "noise"],
        "training": "adversarial",
    }
    assert list(SMERF.case_table(SMERF.configured(given))) == [
        "simple-fr.black.adversarial.simple",
        "simple-fr.noise.adversarial.simple",
        "complex-fr.black.adversarial.complex",
        "complex-fr.noise.adversarial.complex",
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"setting": "simple-f"}, r"setting 'simple-f' is unknown.*did you mean 'simple-fr'"),
        ({"setting": ["all", "simple-fr"]}, r"setting 'all' is unknown"),
        ({"background": "grey"}, "background"),
        ({"network": "resnet"}, "network"),
        ({"blur": 4}, "blur 4 must be odd"),
        ({"natural_folder": "photos"}, "natural_folder is read for background 'natural' alone"),
        ({"vgg16_weights": "w.h5"}, "vgg16_weights are those of network vgg16"),
        ({"methods": ["gradien"]}, "did you mean 'gradient'"),
        ({"convention": "innvestigate"}, "convention"),
    ],
)
def test_bad_settings_are_refused_in_one_line(given, message):
    with pytest.raises(MethodError, match=message) as caught:
        SMERF.configured(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("network", "made"),
    [("simple", "smerf"), ("complex", "smerf"), ("alexnet", "alexnet"), ("vgg16", "vgg16")],
)
def test_networks_are_made_by_their_name(monkeypatch, network, made):
    from xairt.models import architectures

    for name in ("smerf", "alexnet", "vgg16"):
        monkeypatch.setattr(architectures, name, lambda *given, name=name: (name, *given))
    found = stages.network_of(settings_of(network=network, seed=7))
    assert (
        found
        == {"smerf": ("smerf", network, 7), "alexnet": ("alexnet", 7), "vgg16": ("vgg16", 7, None)}[made]
    )


# --------------------------------------------------------------------------- images of the stages


@pytest.mark.parametrize("name", ["simple-fr", "complex-fr"])
def test_the_last_training_images_of_each_bucket_validate(monkeypatch, name):
    small = replace(setting_of(name), n_train=5, n_train_positive=9 if name == "complex-fr" else None)
    monkeypatch.setitem(SETTINGS, name, small)
    fitted, held_out = stages.training_images(settings_of(setting=name, n_train=None, validation_share=0.4))
    whole = images(name, part="train", seed=1)
    counts = np.array([bucket.n_train for bucket in small.buckets])
    validates = whole.number >= (counts - np.round(0.4 * counts))[whole.bucket]
    assert len(held_out.label) == np.round(0.4 * counts).sum()
    for part, rows in ((fitted, ~validates), (held_out, validates)):
        np.testing.assert_array_equal(part.images, whole.images[rows])
        np.testing.assert_array_equal(part.label, whole.label[rows])
        np.testing.assert_array_equal(part.bucket, whole.bucket[rows])


def test_a_third_class_is_refused(monkeypatch):
    three = Setting(
        name="three",
        values={"character": (0, 1, 2)},
        label=lambda features: features.character,
        primary=lambda features: ("character",),
        secondary=lambda features: (),
    )
    monkeypatch.setitem(SETTINGS, "three", three)
    with pytest.raises(DataError, match=r"setting 'three': has class 2, networks tell 0 and 1"):
        stages.training_images(settings_of(setting="three"))


def test_compared_images_are_training_images_of_all_buckets(tmp_path):
    case = runs.Case("one", settings_of(setting="complex-cr1", n_backgrounds=17), tmp_path)
    stages.generate(case)
    found = read_array(tmp_path / stages.BACKGROUNDS).values
    among = images("complex-cr1", 2, part="train", seed=1)
    places = [int(np.flatnonzero((among.images == one).all(axis=(1, 2, 3)))[0]) for one in found]
    assert len(set(places)) == 17
    assert set(among.bucket[places]) == set(range(10))
    explained = read_dataset(tmp_path / stages.DATA)
    np.testing.assert_array_equal(explained["image"], images("complex-cr1", 5, seed=1).images)


def test_only_shap_compares_with_images():
    config = settings_of(methods=("gradient", "shap.deep", "deeplift.rescale"))
    found = stages.explain(runs.Case("one", config, Path()))
    assert [e.baselines for e in found] == [None, "backgrounds.nc", None]
    assert {e.target for e in found} == {None}


# --------------------------------------------------------------------------- a network that reads the patch alone


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> runs.Run:
    """A run of two settings with a network that reads the patch: right for simple-fr, wrong for simple-nr."""
    folder = tmp_path_factory.mktemp("planted") / "run"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stages, "network_of", patch_reader)
        config = SMERF.configured({"setting": ("simple-fr", "simple-nr"), **SMALL}, "quick")
        outcome = runs.execute(SMERF, config, folder)
    assert outcome.failed == []
    return runs.Run.open(folder, SMERF)


def mean_of(run: runs.Run, case: str) -> pd.Series:
    rows = run.scores.query("case == @case and statistic == 'mean'")
    return rows.set_index(["label", "metric"])["value"]


@pytest.mark.parametrize("method", EXACT)
def test_a_network_that_reads_the_patch_scores_its_maximum_where_the_patch_decides(planted, method):
    found = mean_of(planted, "simple-fr.black.plain.simple")
    assert found[method, "afl.primary"] > 0.98
    assert found[method, "iou.primary"] > 0.98
    assert found[method, "mafl.primary"] == pytest.approx(0.01, rel=0.02)
    assert found[method, "afl.secondary"] < 0.02
    assert found[method, "iou.secondary"] < 0.02
    assert found["random", "afl.primary"] < 0.1
    assert found["input", "afl.secondary"] > 0.4


@pytest.mark.parametrize("method", EXACT)
def test_the_same_network_shows_secondary_objects_where_the_character_decides(planted, method):
    table = pooled_scores([planted.cases["simple-nr.black.plain.simple"]])
    own = table.query("label == @method and metric == 'afl'").set_index(["role", "bucket"])["mean"]
    with_patch = [name for name in own["secondary"].index if name.startswith("patch")]
    assert own["secondary"][with_patch].min() > 0.98
    assert own["primary"].max() < 0.15
    assert own["primary"][["A", "B"]].tolist() == [0.0, 0.0]


def test_accuracy_is_told_of_each_part_and_the_wrong_network_misses_its_gate(planted):
    missed = missed_gates(planted.scores, SMERF.case_gates(planted.config))
    assert {gate.case for gate in missed} == {"simple-nr.black.plain.simple"}
    rows = planted.scores.query("label == 'network'").set_index(["case", "metric"])
    right = rows.loc["simple-fr.black.plain.simple"]
    assert right["value"].to_dict() == dict.fromkeys(
        ("accuracy.train", "accuracy.validation", "accuracy.test", "accuracy.test_minimum"), 1.0
    )
    assert right["n"].tolist() == [12 * 9, 12, 12 * 4, 4]
    wrong = rows.loc["simple-nr.black.plain.simple"]["value"]
    assert wrong["accuracy.test"] == 0.5
    assert wrong["accuracy.test_minimum"] == 0.0


@pytest.mark.parametrize("setting", ["simple-fr", "simple-nr"])
def test_every_bucket_is_scored_and_what_is_missing_is_no_number(planted, setting):
    case = planted.cases[f"{setting}.black.plain.simple"]
    table = pooled_scores([case])
    buckets = setting_of(setting).buckets
    assert len(table) == len(METHODS) * 4 * 2 * len(buckets)
    for bucket in buckets:
        for role in ("primary", "secondary"):
            rows = table.query("bucket == @bucket.name and role == @role")
            assert rows["mean"].notna().all() == bool(getattr(bucket, role))
            assert set(rows["n"]) == {N if getattr(bucket, role) else 0}
    assert table["mean"].min() >= 0
    scores = read_dataset(case.read("sample_scores.nc"))
    data = read_dataset(case.read("data.nc"))
    for name in ("iou", "iou_single", "afl", "mafl"):
        assert float(scores[name].min()) >= 0
        for role in ("primary", "secondary"):
            missing = ~data[role].values.any(axis=1)
            found = scores[name].sel(role=role).isnull().values
            np.testing.assert_array_equal(found, np.tile(missing, (len(METHODS), 1)))


def test_mean_and_minimum_are_over_buckets(planted):
    case = "simple-fr.black.plain.simple"
    table = pooled_scores([planted.cases[case]]).query(
        "label == 'input' and metric == 'iou' and role == 'secondary'"
    )
    rows = planted.scores.query("case == @case and label == 'input' and metric == 'iou.secondary'")
    found = rows.set_index("statistic")["value"]
    by_bucket = table["mean"].dropna()
    assert found["n_buckets"] == len(by_bucket) == 10
    assert found["mean"] == pytest.approx(by_bucket.mean(), rel=1e-12)
    assert found["minimum"] == by_bucket.min()
    assert found["missing"] == 2 * N
    assert set(rows.query("statistic == 'mean'")["n"]) == {10 * N}


def test_the_figures_of_the_contract_are_drawn(planted):
    found = {path.stem for path in (planted.folder / "figures").glob("*.png")}
    cases = [f"{setting}.black.plain.simple" for setting in ("simple-fr", "simple-nr")]
    of_cases = {f"{kind}-{case}" for kind in ("buckets", "examples", "added") for case in cases}
    assert found == of_cases | {"scores-black-plain-published", "identity-black-plain-published"}


def test_a_changed_reduction_scores_again_and_trains_nothing(planted, monkeypatch, tmp_path):
    folder = Path(shutil.copytree(planted.folder, tmp_path / "run"))
    assert runs.execute(SMERF, planted.config, folder).done == []
    monkeypatch.setattr(stages, "network_of", lambda config: pytest.fail("is not trained again"))
    before = Manifest.open(folder, "smerf").records
    changed = planted.config.changed("smerf", {"added_images": 0, "reduction": "maximum"})
    done = runs.execute(SMERF, changed, folder).done
    assert {step.split("/")[-1] for step in done} == {"score", "figures"}
    after = Manifest.open(folder, "smerf").records
    assert all(before[name] == after[name] for name in before if "explain" in name or "train" in name)
    assert not list((folder / "figures").glob("added-*"))


# --------------------------------------------------------------------------- adversarial training, backgrounds


def test_adversarial_training_goes_on_from_the_plain_network(tmp_path):
    given = {"n_train": 8, "n_tested": 2, "epochs": 2, "adversarial_epochs": 1, "attack_iterations": 2}
    weights = {}
    for training in ("plain", "adversarial"):
        config = settings_of(setting="simple-fr", training=training, **given)
        case = runs.Case("one", config, tmp_path / training)
        stages.train(case)
        weights[training] = tf.keras.models.load_model(case.read("model.h5"), compile=False).get_weights()
    first, second = (pd.read_csv(tmp_path / t / "history.csv") for t in ("plain", "adversarial"))
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), second.drop(columns="seconds"))
    assert len(pd.read_csv(tmp_path / "adversarial" / "adversarial_history.csv")) == 1
    assert any((a != b).any() for a, b in zip(*weights.values(), strict=True))
    table = pd.read_csv(tmp_path / "adversarial" / "networks.csv")
    assert table["metric"].value_counts().to_dict() == {
        "accuracy.train": 1,
        "accuracy.validation": 1,
        "accuracy.adversarial": 1,
        "accuracy.test": 13,
    }


def test_backgrounds_are_compared_where_there_are_several(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "network_of", patch_reader)
    given = {
        **SMALL,
        "setting": "simple-nr",
        "background": ("black", "noise"),
        "n_explained": 1,
        "added_images": 0,
    }
    folder = tmp_path / "run"
    config = SMERF.configured({**given, "methods": ("gradient", "random")}, "quick")
    assert runs.execute(SMERF, config, folder).failed == []
    assert (folder / "figures" / "backgrounds-plain-published.png").exists()
    levels = [
        read_array(folder / "cases" / f"simple-nr.{b}.plain.simple" / "data.nc", "image").values
        for b in given["background"]
    ]
    np.testing.assert_array_equal(levels[1][levels[0] == 1], 1)
    assert levels[0].mean() < 0.1 < levels[1].mean()


# --------------------------------------------------------------------------- scores of images, further tests


def boxes_as_maps(made, mask) -> np.ndarray:
    """Return maps (n, 64, 64, 3) that are 1 in the boxes of the objects of a mask (n, 3)."""
    maps = np.zeros((len(made), 64, 64, 3))
    for i, k in np.argwhere(mask):
        row0, row1, col0, col1 = made.boxes[i, k]
        maps[i, row0:row1, col0:col1] = 1
    return maps


def test_attributions_that_are_not_finite_have_no_score(caplog):
    made = images("simple-fr", 1)
    maps = boxes_as_maps(made, made.primary)
    maps[7, 3, 4, 0] = np.nan
    with caplog.at_level(logging.WARNING):
        found = image_scores(maps, made.boxes, made.primary, made.secondary, size=1)
    assert "1 of 12 attributions are not finite" in caplog.text
    afl = found["afl"].sel(role="primary").values
    np.testing.assert_array_equal(np.isnan(afl), ~made.primary.any(axis=1) | (np.arange(12) == 7))
    np.testing.assert_allclose(afl[~np.isnan(afl)], 1)


def test_images_without_any_object_to_score_are_missing():
    made = images("simple-fr", 1)[:1]
    found = image_scores(np.ones((1, 64, 64, 3)), made.boxes, made.primary, made.secondary)
    assert all(np.isnan(found[name]).all() for name in ("iou", "iou_single", "afl", "mafl"))


def test_the_published_reduction_depends_on_the_method():
    assert reduction_of("published", "lrp.epsilon(epsilon=1)") == "heat_map"
    assert reduction_of("published", "deep_taylor.bounded(low=0, high=1)") == "heat_map"
    assert reduction_of("published", "smoothgrad(noise_scale=0.1)") == "maximum"
    assert reduction_of("published", "shap.deep") == "min_max"
    assert reduction_of("absolute_sum", "smoothgrad") == "absolute_sum"


def test_the_identity_test_tells_reasoning_from_image():
    made = images("complex-cr1", 4)
    made = made[made.bucket == 8]
    names = ("complex-cr1", "complex-cr2", "complex-cr3")
    reasoned = {name: boxes_as_maps(made, made.under(name).primary) for name in names}
    found = identity_scores(reasoned, made, size=1)
    np.testing.assert_allclose(found["afl"].sel(role="primary"), 1, atol=0.2)  # more where boxes overlap
    np.testing.assert_allclose(np.diag(found["similarity"]), 1)
    own = [made.under(name).primary for name in names]
    assert (own[0] != own[2]).any()
    assert float(found["similarity"].sel(setting="complex-cr1", other="complex-cr3")) < 0.9
    alike = identity_scores(dict.fromkeys(names, reasoned["complex-cr1"]), made, size=1)
    np.testing.assert_allclose(alike["similarity"], 1)
    assert float(alike["afl"].sel(setting="complex-cr3", role="primary").mean()) < 0.9


def test_the_identity_test_refuses_images_that_a_setting_does_not_have():
    made = images("simple-fr", 1)
    with pytest.raises(DataError, match=r"setting 'complex-cr1': has no bucket of some image"):
        identity_scores({"complex-cr1": np.ones((12, 64, 64, 3))}, made)


def test_attribution_moves_to_the_patch_once_it_is_added():
    order = ("character", "patch", "switch")
    found = added_scores(
        patch_reader(), "input_t_gradient", "simple-fr", "patch-A-switch", 4, order=order, size=1
    )
    assert found["step"].values.tolist() == ["background", *order]
    assert found["object"].values.tolist() == list(OBJECTS)
    np.testing.assert_array_equal(found["share"].sel(object="patch").isel(step=slice(2)), 0)
    assert float(found["share"].sel(object="patch").isel(step=slice(2, None)).min()) > 0.98
    np.testing.assert_array_equal(found["predicted"].T, [[0, 0, 1, 1]] * 4)


def test_the_number_of_images_is_that_of_the_settings():
    config = SMERF.configured({"setting": "all"}, "paper")
    counts = {
        own["setting"]: image_count(own["setting"], config.n_train, "train")
        for own in SMERF.case_table(config).values()
    }
    assert counts["simple-fr"] == 24_000
    assert counts["complex-fr"] == 36_000
    assert counts["complex-cr4"] == 150_000
