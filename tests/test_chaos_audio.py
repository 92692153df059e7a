"""The benchmark of words in one of ten channels: scores on planted attributions, and a run from end to end."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from xairt import runs
from xairt.benchmarks.chaos_audio import CHAOS_AUDIO, AudioSettings, explain, stages
from xairt.benchmarks.chaos_audio.figures import channel_bars
from xairt.benchmarks.chaos_audio.scoring import CHANCE, SHARE, channel_shares, shares_from_word, sound_scores
from xairt.benchmarks.chaos_audio.sounds import load_sounds, sound_parts
from xairt.benchmarks.chaos_media.figures import method_radar
from xairt.data.files import read_array, read_dataset
from xairt.errors import DataError, MethodError
from xairt.models.saving import save_model
from xairt.runs.scores import missed_gates

SMALL = {
    "variant": ("RBRP",),
    "network": ("tcn", "rnn"),
    "n_train": 10,
    "n_test": 6,
    "n_explained": 3,
    "epochs": 1,
    "batch_size": 8,
    "methods": (
        *("saliency", "integrated_gradients(steps=2)", "deeplift.rescale", "feature_ablation"),
        *("random", "input"),
    ),
    "minimum_accuracy": 0.5,
    "dpi": 40,
}


def tiny(network):
    """The networks of the benchmark with three units."""
    from xairt.models import audio_networks

    def make(seed, n_classes, *, sound_shape):
        sizes = {"filters": (3,)} if network == "tcn" else {"depth": 1}
        return getattr(audio_networks, network)(seed, n_classes, sound_shape=sound_shape, width=3, **sizes)

    return make


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two tiny networks, and what it logged."""
    with pytest.MonkeyPatch.context() as patch:
        from xairt.models import audio_networks

        names = {name: tiny(name) for name in SMALL["network"]}
        patch.setattr(audio_networks, "AUDIO_NETWORKS", names)
        folder = tmp_path_factory.mktemp("run")
        config = CHAOS_AUDIO.configured(SMALL)
        outcome = runs.execute(CHAOS_AUDIO, config, folder)
        assert outcome.failed == []
        again = runs.execute(CHAOS_AUDIO, config, folder)
        assert again.done == []
    return runs.Run.open(folder, CHAOS_AUDIO)


def test_scores_of_a_run(finished):
    scores = finished.scores
    labels = {case: set(own["label"]) for case, own in scores.groupby("case")}
    assert labels["RBRP.tcn.seed0"] == {"network", *SMALL["methods"]}
    assert labels["RBRP.rnn.seed0"] == {"network", *SMALL["methods"]} - {"deeplift.rescale"}
    network = scores[(scores["label"] == "network") & (scores["case"] == "RBRP.tcn.seed0")]
    assert set(network["metric"]) == {
        f"{metric}.{part}" for metric in ("accuracy", "accuracy_top5") for part in ("train", "test")
    }
    shares = scores[(scores["metric"] == "channel_share") & (scores["statistic"] == "mean")]
    assert shares["value"].between(0, 1).all()
    assert (shares["n"] == SMALL["n_explained"]).all()
    random = shares[shares["label"] == "random"]["value"]
    np.testing.assert_allclose(random, 0.1, atol=0.01)


def test_scores_are_those_of_the_attributions(finished):
    for case in finished.cases.values():
        position = read_array(case.read("data.nc"), "position").values
        stored = read_dataset(case.read("sample_scores.nc"))
        for explanation in explain(case):
            values = np.abs(read_array(case.read(explanation.file), "attribution").values.astype(np.float64))
            own = [sample[:, channel].mean() for sample, channel in zip(values, position, strict=True)]
            expected = own / values.mean(axis=1).sum(axis=1)
            found = stored["channel_share"].sel(label=explanation.name)
            np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_ablation_leaves_out_whole_channels(finished):
    case = finished.cases["RBRP.rnn.seed0"]
    found = read_array(case.read("attributions/feature_ablation.nc"), "attribution").values
    assert np.ptp(found, axis=1).max() == 0
    model = tf.keras.models.load_model(case.read("model.h5"), compile=False)
    x = read_array(case.read("data.nc"), "x").values
    outputs = model.predict_on_batch(x)
    best = outputs.argmax(axis=1)
    without = x * (np.arange(10) != 4)
    fall = (outputs - model.predict_on_batch(without))[np.arange(len(x)), best]
    np.testing.assert_allclose(found[:, 0, 4], fall, rtol=1e-3, atol=1e-5)


def test_explained_sounds_are_the_first_test_sounds(finished):
    case = finished.cases["RBRP.tcn.seed0"]
    stored = read_dataset(case.read("data.nc"))
    _, test = sound_parts(case.read("data"))
    assert dict(stored["x"].sizes) == {"sample": 3, "time": 16_000, "channel": 10}
    np.testing.assert_array_equal(stored["x"].values, load_sounds(test[:3]))
    np.testing.assert_array_equal(stored["position"], test.position[:3])
    numbers = np.load(case.read("channels.npy"))
    assert (numbers == np.arange(10)).all()
    assert numbers.shape == (16_000, 10)


def test_a_network_that_has_not_learnt_is_told(finished):
    gates = CHAOS_AUDIO.case_gates(finished.config)
    missed = missed_gates(finished.scores, gates)
    assert {(gate.case, gate.metric, gate.minimum) for gate in missed} == {
        ("RBRP.tcn.seed0", "accuracy.test", 0.5),
        ("RBRP.rnn.seed0", "accuracy.test", 0.5),
    }


def test_figures_are_drawn(finished):
    names = {path.name for path in (finished.folder / "figures").glob("*.png")}
    assert names == {
        "channels-RBRP.tcn.seed0.png",
        "channels-RBRP.rnn.seed0.png",
        "methods.png",
        "learning.png",
    }
    panels = channel_bars(finished.cases["RBRP.tcn.seed0"]).axes
    assert len(panels) == 6
    heights = [[bar.get_height() for bar in ax.patches] for ax in panels]
    np.testing.assert_allclose(np.sum(heights, axis=1), 1, rtol=1e-6)
    lines = {
        line.get_label(): line
        for line in method_radar(finished.scores, SHARE, "share", CHANCE).axes[0].get_lines()
    }
    assert set(lines) == {"RBRP.tcn.seed0", "RBRP.rnn.seed0", "chance"}
    assert np.isnan(lines["RBRP.rnn.seed0"].get_ydata()).sum() == 1


def test_a_method_that_cannot_explain_the_network_is_left_out_with_a_warning(finished, tmp_path, caplog):
    model = tiny("rnn")(1, 3, sound_shape=(16_000, 10))
    save_model(model, tmp_path / "model.h5")
    settings = CHAOS_AUDIO.case_settings(finished.config, {}, "explain")
    case = runs.Case("other", settings, tmp_path)
    with caplog.at_level(logging.WARNING):
        found = [explanation.method for explanation in explain(case)]
    assert found == [method for method in SMALL["methods"] if method != "deeplift.rescale"]
    (record,) = [r for r in caplog.records if "left out" in r.message]
    assert "deeplift.rescale cannot explain" in record.message
    assert "SimpleRNN" in record.message


def test_planted_attributions_have_the_shares_they_were_given():
    random = np.random.default_rng(0)
    given = random.dirichlet(np.ones(10), 5)
    signs = random.choice([-1.0, 1.0], (5, 200, 10))
    attribution = given[:, None, :] * signs
    shares = channel_shares(attribution)
    np.testing.assert_allclose(shares, given)
    best = given.argmax(axis=1)
    scores = sound_scores(shares, best)
    np.testing.assert_allclose(scores["channel_share"], given.max(axis=1))
    assert (scores["channel_found"] == 1).all()
    assert (sound_scores(shares, (best + 1) % 10)["channel_found"] == 0).all()
    np.testing.assert_allclose(shares_from_word(shares, best)[:, 0], given.max(axis=1))


def test_attributions_without_a_score(caplog):
    attribution = np.ones((3, 20, 10))
    attribution[0] = 0
    attribution[1, 3, 2] = np.nan
    with caplog.at_level(logging.WARNING):
        scores = sound_scores(channel_shares(attribution), [0, 0, 0])
    assert "2 of 3 attributions are 0 or not finite" in caplog.text
    np.testing.assert_array_equal(np.isnan(scores["channel_share"]), [True, True, False])
    np.testing.assert_array_equal(scores["channel_found"], [np.nan, np.nan, 0])  # ties find nothing
    with pytest.raises(DataError, match=r"attribution \(20, 10\): give \(samples, time, channel\)"):
        channel_shares(np.ones((20, 10)))


def test_cases_are_variants_networks_and_seeds():
    settings = AudioSettings(variant=("RBFP", "SBRP"), network=("tcn", "lstm"), recordings="folder")
    table = CHAOS_AUDIO.case_table(settings)
    assert list(table) == ["RBFP.tcn.seed0", "RBFP.lstm.seed0", "SBRP.tcn.seed0", "SBRP.lstm.seed0"]
    assert table["RBFP.tcn.seed0"]["recordings"] is None
    assert table["SBRP.tcn.seed0"]["recordings"] == "folder"


@pytest.mark.parametrize("preset", runs.PRESETS)
def test_presets_are_valid(preset):
    settings = CHAOS_AUDIO.configured({}, preset)
    assert CHAOS_AUDIO.case_table(settings)
    if preset == "paper":
        assert (settings.learning_rate, settings.batch_size, settings.epochs) == (1e-4, 128, 30)
        assert settings.restart_epochs == 30
        assert len(CHAOS_AUDIO.case_table(settings)) == 16


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_explained": 7, "n_test": 6}, "n_explained 7 is more than n_test 6"),
        ({"recordings": "folder"}, "recordings are heard in SBFP and SBRP"),
        ({"folder": "data", "variant": ["RBFP", "SBFP"]}, "folder is a data set of one variant"),
        ({"network": "gru"}, "network"),
        ({"variant": "RBXX"}, "variant"),
        ({"methods": "nonsense"}, "nonsense"),
    ],
)
def test_bad_settings(given, message):
    with pytest.raises(MethodError, match=message):
        CHAOS_AUDIO.configured(given)


def test_a_missing_folder_is_told(tmp_path):
    settings = CHAOS_AUDIO.configured({**SMALL, "folder": str(tmp_path / "none")})
    case = runs.Case("one", CHAOS_AUDIO.case_settings(settings, {"variant": "RBRP"}, "generate"), tmp_path)
    with pytest.raises(DataError, match=r"none: has no train/metadata.csv"):
        stages.generate(case)


def test_digits_are_spoken_at_the_fixed_channel(data_dir, tmp_path):
    given = {**SMALL, "variant": "RBFP", "words": str(data_dir / "speech" / "fsdd"), "n_explained": 2}
    settings = CHAOS_AUDIO.configured(given)
    own = CHAOS_AUDIO.case_table(settings)["RBFP.tcn.seed0"]
    stages.generate(runs.Case("one", CHAOS_AUDIO.case_settings(settings, own, "generate"), tmp_path))
    train, test = sound_parts(tmp_path / "data")
    assert set(train.classes) <= set("0123456789")
    assert not train.position.any()
    assert not test.position.any()
    table = pd.read_csv(tmp_path / "data" / "train" / "metadata.csv")
    assert list(table) == ["file_name", "label", "position"]
