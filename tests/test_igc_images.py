"""Images, masks and statistics of the IGC benchmark: spectrum, seeds, pixel counts, naive loops, gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from xairt.benchmarks.igc import images as stream
from xairt.benchmarks.igc.experiments import EXPERIMENTS, STATISTICS, Experiment, experiment_of
from xairt.benchmarks.igc.functions import function_model
from xairt.benchmarks.igc.images import gain, image_blocks, images
from xairt.benchmarks.igc.masks import MASKS, Disc, Gaussian, Mask, Square, mask_of, pixel_centres
from xairt.benchmarks.igc.statistics import Scaling, sample_blocks, samples, scaling_of, statistic
from xairt.errors import DataError
from xairt.keys import generator_of

N_MANY = 1500


@pytest.fixture(scope="module")
def many():
    return images(N_MANY, seed=3)


# ----------------------------------------------------------------------------------------------- images


def naive_gain() -> np.ndarray:
    """The spectrum's amplitude as the publication words it, in loops."""
    cycles = [k / 64 if k < 32 else (k - 64) / 64 for k in range(64)]
    size = np.array([[(v**2 + u**2) ** 0.5 for u in cycles] for v in cycles])
    size[0, 0] = 0.5 * size[0, 1]
    amplitude = size**-1.2
    return amplitude / np.sqrt((amplitude**2).sum() / 4096)


def test_gain_is_the_naive_one():
    np.testing.assert_allclose(gain(), naive_gain(), rtol=1e-12)


def test_spectrum_slope_and_zero_frequency_of_the_gain():
    amplitude = gain()
    row = amplitude[0, 1:33]
    slope = np.polyfit(np.log(np.arange(1, 33)), np.log(row), 1)[0]
    assert slope == pytest.approx(-1.2, abs=1e-9)
    assert amplitude[0, 0] == pytest.approx(2**1.2 * amplitude[0, 1])
    assert np.mean(amplitude**2) == pytest.approx(1)
    np.testing.assert_allclose(amplitude, amplitude.T)


def naive_image(number: int, part: int, seed: int) -> np.ndarray:
    """One image from its noise: fill the Hermitian spectrum term by term, then sum the waves."""
    noise = generator_of([seed, number], part).standard_normal((64, 33, 2), dtype=np.float32)
    half = noise[..., 0].astype(complex) + 1j * noise[..., 1]
    spectrum, amplitude = np.zeros((64, 64), complex), naive_gain()
    for v in range(64):
        for u in range(64):
            if u in (0, 32):
                term = (half[v, u] + np.conj(half[-v % 64, u])) / 2
            elif u < 32:
                term = half[v, u] / np.sqrt(2)
            else:
                term = np.conj(half[-v % 64, 64 - u]) / np.sqrt(2)
            spectrum[v, u] = amplitude[v, u] * term
    waves = np.exp(2j * np.pi * np.outer(np.arange(64), np.arange(64)) / 64) / 8
    field = waves @ spectrum @ waves
    assert np.abs(field.imag).max() < 1e-12
    return field.real


@pytest.mark.parametrize(("number", "part", "seed"), [(0, "validation", 0), (131, "train", 5)])
def test_images_are_the_naive_sum_of_waves(number, part, seed):
    found = images(1, start=number, part=part, seed=seed)
    assert found.shape == (1, 64, 64)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], naive_image(number, stream.PARTS[part], seed), atol=5e-6)


def test_power_of_every_frequency(many):
    """Sums of squares of the coefficients are chi-square, 2 n degrees of freedom, n for the four real ones."""
    power = (np.abs(np.fft.fft2(many, norm="ortho")) ** 2).sum(axis=0) / gain() ** 2
    p = stats.chi2.cdf(2 * power, 2 * N_MANY)
    for v, u in ((0, 0), (0, 32), (32, 0), (32, 32)):
        p[v, u] = stats.chi2.cdf(power[v, u], N_MANY)
    independent = np.concatenate([p[:, 1:32].ravel(), p[:33, 0], p[:33, 32]])
    assert stats.kstest(independent, "uniform").pvalue > 1e-3
    assert independent.min() > 1e-6
    assert independent.max() < 1 - 1e-6


def test_power_is_that_of_complex_noise_whose_real_part_is_taken(many):
    """The publication's own words: mean power within the error of two samples, averaged along the rows."""
    random = np.random.default_rng(11)
    noise = random.standard_normal((N_MANY, 64, 64)) + 1j * random.standard_normal((N_MANY, 64, 64))
    literal = np.fft.ifft2(noise * naive_gain(), norm="ortho").real
    one, two = ((np.abs(np.fft.fft2(x, norm="ortho")) ** 2).mean(axis=(0, 2)) for x in (many, literal))
    np.testing.assert_allclose(one, two, rtol=0.06)
    assert literal.var() == pytest.approx(many.var(), rel=0.03)


def test_variance_and_independence(many):
    assert many.std() == pytest.approx(1, abs=0.02)
    assert np.abs(many.mean(axis=(1, 2))).max() < 6 * gain()[0, 0] / 64
    flat = many[:200].reshape(200, -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    alike = np.corrcoef(flat)[np.triu_indices(200, 1)]
    assert abs(alike.mean()) < 0.01
    assert np.abs(alike).max() < 0.9


def test_an_image_does_not_depend_on_what_else_is_asked_for():
    whole = images(300, seed=1)
    np.testing.assert_array_equal(images(7, start=125, seed=1), whole[125:132])
    np.testing.assert_array_equal(images(1, start=299, seed=1), whole[299:])
    joined, seen = np.zeros((290, 64, 64), np.float32), []
    for rows, block in image_blocks(290, start=10, seed=1):
        assert len(block) <= stream.BLOCK_IMAGES
        joined[rows] = block
        seen += range(*rows.indices(290))
    assert seen == list(range(290))
    np.testing.assert_array_equal(joined, whole[10:])


def test_seeds_and_parts_are_independent():
    made = [images(40, part=part, seed=seed).ravel() for part in stream.PARTS for seed in (0, 1)]
    made.append(images(40, start=40).ravel())
    alike = np.corrcoef(made)[np.triu_indices(5, 1)]
    assert np.abs(alike).max() < 0.2
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    images(2)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"n": 0}, "n=0, start=0: out of range"),
        ({"n": 2.0}, "n=2.0: is no whole number"),
        ({"n": 1, "start": -1}, "start=-1: out of range"),
        ({"n": 2, "start": 2**31 - 1}, "out of range"),
        ({"n": 1, "part": "valid"}, "part 'valid' is unknown; .*did you mean 'validation'"),
        ({"n": 1, "seed": -1}, "seed -1 is not usable"),
    ],
)
def test_bad_requests_are_refused_at_once(arguments, reason):
    with pytest.raises(DataError, match=reason):
        images(**arguments)
    with pytest.raises(DataError, match=reason):
        image_blocks(**arguments)


# ------------------------------------------------------------------------------------------------ masks


def naive_density(sigma, centre):
    """In loops, y upwards: the first row has the largest y."""
    field = np.zeros((64, 64))
    for i in range(64):
        for j in range(64):
            x, y = (j - 31.5) / 64, -(i - 31.5) / 64
            squared = (x - centre[0]) ** 2 + (y - centre[1]) ** 2
            field[i, j] = np.exp(-squared / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    return field


def test_gaussians_are_naive_and_sum_to_alpha():
    mask = MASKS["comb_01"]
    want = (-0.5 * naive_density(0.1, (0, 0)) + naive_density(0.18, (0, 0))) / 4096
    np.testing.assert_allclose(mask.weights(), want, atol=1e-15)
    np.testing.assert_array_equal(mask.generating(), mask.weights())
    assert Gaussian(0.1, alpha=-0.5).weights().sum() == pytest.approx(-0.5, abs=1e-5)
    inside = [(2 * stats.norm.cdf(0.5 / sigma) - 1) ** 2 for sigma in (0.18, 0.2)]
    assert MASKS["comb_01"].weights().sum() == pytest.approx(inside[0] - 0.5, abs=1e-3)
    assert MASKS["prf_00"].weights().sum() == pytest.approx(1 - inside[1], abs=1e-3)


def test_pixel_counts_of_the_publication():
    counts = {
        name: MASKS[name].region_pixels().sum(axis=(1, 2)) for name in ("ccat_01", "ccat_02", "ccat_03")
    }
    # The two lower discs of ccat_01 lie on whole pixels, the upper one between them.
    assert counts["ccat_01"].tolist() == [934, 936, 936]
    assert MASKS["ccat_01"].region_pixels().all(axis=0).sum() == 138
    assert counts["ccat_02"].tolist() == [524] * 4
    assert counts["ccat_03"].tolist() == [440] * 5 + [64] * 5


@pytest.mark.parametrize("name", ["ccat_01", "ccat_02", "ccat_03"])
def test_discs_are_where_the_density_exceeds_one(name):
    mask = MASKS[name]
    for region, pixels in zip(mask.regions, mask.region_pixels(), strict=True):
        if isinstance(region, Disc):
            np.testing.assert_array_equal(pixels, naive_density(region.sigma, region.centre) > 1)


def test_regions_are_apart_and_squares_lie_within_their_discs():
    assert MASKS["ccat_02"].region_pixels().sum(axis=0).max() == 1
    discs, squares = np.split(MASKS["ccat_03"].region_pixels(), 2)
    assert discs.sum(axis=0).max() == 1
    assert not (squares & ~discs).any()
    np.testing.assert_array_equal(MASKS["ccat_03"].generating(), discs.any(axis=0).astype(float))


def test_y_points_upwards_and_x_to_the_right():
    x, y = pixel_centres()
    assert (x[0], x[-1], y[0], y[-1]) == (-31.5 / 64, 31.5 / 64, 31.5 / 64, -31.5 / 64)
    top = MASKS["ccat_01"].region_pixels()[0]
    # A disc of whole pixels is centred to half a pixel.
    assert np.average(np.arange(64), weights=top.sum(axis=1)) == pytest.approx(31.5 - 8.32, abs=0.5)
    corner = Square(0.125, (-0.28125, 0.28125)).pixels()
    np.testing.assert_array_equal(np.argwhere(corner)[[0, -1]], [[10, 10], [17, 17]])


def test_bad_masks_are_refused():
    with pytest.raises(DataError, match="give either gaussians or regions"):
        Mask("none")
    with pytest.raises(DataError, match="give either gaussians or regions"):
        Mask("both", (Gaussian(0.1),), (Disc(0.1),))
    with pytest.raises(DataError, match="region 1 holds no pixel"):
        Mask("far", regions=(Disc(0.1), Disc(0.1, (3, 3))))
    with pytest.raises(DataError, match="sigma=0: out of range"):
        Disc(0)
    with pytest.raises(DataError, match="size=-1: out of range"):
        Square(-1)
    with pytest.raises(DataError, match="is made of regions"):
        MASKS["ccat_01"].weights()
    with pytest.raises(DataError, match="is made of Gaussians"):
        MASKS["prf_00"].region_pixels()
    with pytest.raises(DataError, match=r"mask 'ccat01' is unknown.*did you mean 'ccat_01'"):
        mask_of("ccat01")


# ------------------------------------------------------------------------------------------- statistics

MASK_OF = {"w_sum": "comb_01", "max_sim_random": "ccat_02", "max_sim": "ccat_02", "argmax_sim": "ccat_02"} | {
    "argmax_sim_random": "ccat_03"
}


def plain(name: str) -> Experiment:
    """Every statistic of the table, with nothing random."""
    output = 0 if STATISTICS[name].categorical else None
    return Experiment(name, MASKS[MASK_OF.get(name, "ccat_01")], name, output=output)


def cosine(a, b):
    return (
        sum(p * q for p, q in zip(a, b, strict=True)) / (sum(p * p for p in a) * sum(q * q for q in b)) ** 0.5
    )


def naive_scores(image, name, mask, order=(0, 1, 2, 3)):
    """Scores of one image, by looping over pixels; sd and similarity as they are defined."""
    image = image.astype(float)
    if name == "w_sum":
        weights = mask.weights()
        return [sum(image[i, j] * weights[i, j] for i in range(64) for j in range(64))]
    regions = mask.region_pixels()
    values = [[image[i, j] for i in range(64) for j in range(64) if region[i, j]] for region in regions]
    if name.endswith("mean"):
        return [sum(v) / len(v) for v in values]
    if name.endswith("std"):
        means = [sum(v) / len(v) for v in values]
        return [(sum((p - m) ** 2 for p in v) / len(v)) ** 0.5 for v, m in zip(values, means, strict=True)]
    if name.endswith("_sim"):
        return [cosine(values[0], v) for v in values[1:]]
    if name == "max_sim_random":
        return [cosine(values[0], values[2]), cosine(values[1], values[3])]
    rings = [
        [image[i, j] for i in range(64) for j in range(64) if regions[k, i, j] and not regions[k + 5, i, j]]
        for k in range(5)
    ]
    reference = rings[0] + values[5]
    return [cosine(reference, rings[1 + k] + values[6 + order[k]]) for k in range(4)]


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_are_the_naive_ones(name):
    experiment, x = plain(name), images(5, seed=2)
    found = statistic(x, experiment)
    scores = [naive_scores(image, name, experiment.mask) for image in x]
    if experiment.categorical:
        assert found.shape == (5, experiment.n_outputs)
        np.testing.assert_array_equal(found.argmax(axis=1), np.argmax(scores, axis=1))
        assert np.unique(found).tolist() == [0, 1]
        np.testing.assert_array_equal(found.sum(axis=1), 1)
    else:
        np.testing.assert_allclose(found, np.max(scores, axis=1), rtol=1e-9)


@pytest.mark.parametrize("name", STATISTICS)
def test_functions_agree_with_the_numbers(name, many):
    experiment, x = plain(name), many[:200]
    found = function_model(experiment)(tf.constant(x[..., np.newaxis])).numpy()
    want = statistic(x, experiment)
    if not experiment.categorical:
        assert found.shape == (200,)
        np.testing.assert_allclose(found, want, atol=2e-6 * np.abs(want).max())
        return
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    sure = found.max(axis=1) > 0.51
    assert sure.mean() > 0.5
    np.testing.assert_array_equal(found[sure].argmax(axis=1), want[sure].argmax(axis=1))


def test_softmax_of_a_hundred_times_the_similarity():
    x = images(3, seed=4)
    scores = np.array([naive_scores(image, "argmax_sim_random", MASKS["ccat_03"]) for image in x])
    weights = np.exp(100 * (scores - scores.max(axis=1, keepdims=True)))
    want = weights / weights.sum(axis=1, keepdims=True)
    found = function_model("D")(x.astype(np.float64)).numpy()
    np.testing.assert_allclose(found, want, atol=1e-9)


@pytest.mark.parametrize("name", STATISTICS)
def test_gradients_are_finite_and_those_of_differences(name):
    """Also of images that are 0 or constant, in all regions or in one."""
    model = function_model(plain(name))
    constant = np.full((64, 64), 0.1)
    mixed = images(1, seed=6)[0].astype(float)
    mixed[MASKS["ccat_02"].region_pixels()[0]] = 0
    batch = tf.constant(
        np.stack([np.zeros((64, 64)), constant, mixed, images(1, seed=7)[0]])[..., np.newaxis]
    )
    with tf.GradientTape() as tape:
        tape.watch(batch)
        values = model(batch)
        first = values if values.shape.rank == 1 else values[:, 0]
    gradient = tape.gradient(first, batch).numpy()
    assert np.isfinite(gradient).all()
    assert np.isfinite(values).all()
    move = np.random.default_rng(0).standard_normal((4, 64, 64, 1)) * 1e-5
    ends = [model(batch + sign * move).numpy()[-1] for sign in (1, -1)]
    change = np.ravel(ends[0] - ends[1])[0] / 2
    assert change == pytest.approx((gradient[-1] * move[-1]).sum(), rel=1e-4, abs=1e-12)
    assert gradient[-1].any()


def test_a_constant_disc_has_no_deviation_and_an_empty_one_no_similarity():
    zero = tf.zeros((1, 64, 64, 1))
    assert function_model(plain("max_std"))(zero).numpy() == 0
    assert function_model("C")(zero).numpy() == 0
    assert statistic(zero.numpy(), plain("max_sim_random")).tolist() == [0]
    assert statistic(np.full((1, 64, 64), 0.3), plain("max_std"))[0] < 1e-15


def test_pairs_are_dropped_as_often_as_asked(many):
    """The first pair never, the second every other time: then it counts as 0."""
    keep = EXPERIMENTS["C"]
    scores = np.array([naive_scores(x, "max_sim_random", keep.mask) for x in many[:8]])
    always = statistic(many[:8], replace(keep, probabilities=(0.0, 1.0)))
    np.testing.assert_allclose(always, np.maximum(scores[:, 0], 0), atol=1e-12)
    both = statistic(many[:8], replace(keep, probabilities=(1.0, 1.0)))
    np.testing.assert_array_equal(both, 0)
    full = statistic(many, replace(keep, probabilities=()))
    left = statistic(many, replace(keep, probabilities=(0.0, 1.0)))
    found, differ = statistic(many, keep, seed=3), full != left
    assert ((found == full) | (found == left)).all()
    assert np.mean(found[differ] == left[differ]) == pytest.approx(0.5, abs=5 * 0.5 / differ.sum() ** 0.5)


def test_permuted_squares_are_one_order_of_the_naive_ones():
    x, experiment = images(30, seed=8), EXPERIMENTS["D"]
    found = statistic(x, experiment, seed=8).argmax(axis=1)
    for number, image in enumerate(x[:5]):
        order = generator_of([8, number], stream.PARTS["validation"], 1).permutation(4)
        scores = naive_scores(image, "argmax_sim_random", experiment.mask, order)
        assert found[number] == np.argmax(scores)
    fixed = statistic(x, replace(experiment, permuted=False), seed=8).argmax(axis=1)
    assert (fixed != found).any()


@pytest.mark.parametrize("name", [name for name in STATISTICS if STATISTICS[name].categorical])
def test_classes_are_about_equally_frequent(name, many):
    experiment = plain(name)
    share = statistic(many, experiment).mean(axis=0)
    # ccat_01 and ccat_02 are not alike for all candidates: distances from the reference differ.
    spread = 0.15 if name == "argmax_sim" else 0.06
    np.testing.assert_allclose(share, 1 / experiment.n_outputs, atol=spread)


def test_random_parts_depend_on_the_number_of_the_image_alone():
    for name in ("C", "D"):
        x, y = samples(name, 140, seed=1, part="train")
        np.testing.assert_array_equal(x, images(140, seed=1, part="train"))
        np.testing.assert_array_equal(samples(name, 9, start=126, seed=1, part="train")[1], y[126:135])
        np.testing.assert_array_equal(statistic(x[5:8], name, start=5, seed=1, part="train"), y[5:8])
        blocks = list(sample_blocks(name, 140, seed=1, part="train"))
        assert [rows.stop - rows.start for rows, _, _ in blocks] == [128, 12]
        np.testing.assert_array_equal(np.concatenate([b for _, _, b in blocks]), y)
        assert not np.array_equal(statistic(x, name, seed=2, part="train"), y)
        assert not np.array_equal(statistic(x, name, seed=1), y)


def test_scaling_standardises_numbers_and_functions(many):
    y = statistic(many, "B")
    scaling = scaling_of(y)
    assert (scaling.mean, scaling.sd) == (pytest.approx(y.mean()), pytest.approx(y.std()))
    scaled = scaling.apply(y)
    assert (scaled.mean(), scaled.std()) == (pytest.approx(0, abs=1e-12), pytest.approx(1))
    found = function_model("B", scaling)(many[:50]).numpy()
    np.testing.assert_allclose(found, scaled[:50], atol=1e-5)


def test_table_of_the_experiments():
    table = {e.name: (e.mask.name, e.statistic, e.n_outputs, e.output) for e in EXPERIMENTS.values()}
    assert table == {
        "A": ("comb_01", "w_sum", 1, None),
        "B": ("ccat_01", "max_mean", 1, None),
        "C": ("ccat_02", "max_sim_random", 1, None),
        "D": ("ccat_03", "argmax_sim_random", 4, 0),
    }
    assert experiment_of("C").probabilities == (0.0, 0.5)
    assert experiment_of("D").permuted


@pytest.mark.parametrize(
    ("mask", "name", "options", "reason"),
    [
        ("ccat_01", "w_sum", {}, "mask ccat_01 does not suit w_sum; give one made of Gaussians"),
        ("prf_00", "max_mean", {}, "give one made of regions"),
        ("ccat_01", "max_men", {}, "statistic 'max_men' is unknown.*did you mean 'max_mean'"),
        ("ccat_01", "max_sim_random", {}, "has 3 regions, which make no two halves"),
        ("ccat_01", "max_sim", {}, "regions of 934, 936, 936 pixels cannot be compared"),
        ("ccat_02", "max_sim_random", {"probabilities": (0.5,)}, "give one for each pair"),
        ("ccat_02", "max_sim_random", {"probabilities": (0.5, 2)}, "are out of range"),
        ("ccat_01", "max_mean", {"probabilities": (0.5, 0.5)}, "do not suit max_mean"),
        ("ccat_01", "max_mean", {"permuted": True}, "max_mean permutes nothing"),
        ("ccat_01", "max_mean", {"output": 0}, "output 0 does not suit max_mean"),
        ("ccat_03", "argmax_sim_random", {"output": 4}, "output 4 does not suit"),
        ("ccat_03", "argmax_sim_random", {}, "output None does not suit"),
    ],
)
def test_experiments_that_do_not_fit_are_refused(mask, name, options, reason):
    with pytest.raises(DataError, match=reason):
        Experiment("mine", MASKS[mask], name, **options)


def test_inner_regions_must_lie_within():
    pairs = (Disc(0.07), Disc(0.07, (0.25, 0)), Square(0.125), Square(0.125, (0.25, 0.25)))
    with pytest.raises(DataError, match="an inner region leaves its patch"):
        Experiment("mine", Mask("mine", regions=pairs), "argmax_sim_random", output=0)
    with pytest.raises(DataError, match="has too few regions"):
        Experiment("mine", Mask("mine", regions=(Disc(0.1),)), "max_sim")


def test_bad_images_and_scalings_are_refused():
    with pytest.raises(DataError, match=r"images \(2, 3\): have another shape"):
        statistic(np.zeros((2, 3)), "A")
    with pytest.raises(DataError, match="images: hold NaN or infinity"):
        statistic(np.full((1, 64, 64), np.nan), "A")
    with pytest.raises(DataError, match="experiment 'E' is unknown"):
        statistic(np.zeros((1, 64, 64)), "E")
    with pytest.raises(DataError, match="classes are not standardised"):
        scaling_of(np.eye(4))
    with pytest.raises(DataError, match="give numbers that vary"):
        scaling_of([1.0, 1.0])
    with pytest.raises(DataError, match="classes are not standardised; leave scaling out"):
        function_model("D", Scaling(0.0, 1.0))
