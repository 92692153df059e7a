"""Correlation matrices, Gaussian fields and the piecewise-linear truth."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from xairt import fields
from xairt.errors import DataError, MethodError
from xairt.fields import PiecewiseLinear
from xairt.fields.gaussian import BLOCK_SAMPLES
from xairt.grid import Grid


@pytest.fixture(scope="module")
def grid():
    return fields.default_grid()


@pytest.fixture(scope="module")
def correlation(grid):
    return fields.analytic_sst_correlation(grid)


@pytest.fixture(scope="module")
def golden(golden_dir):
    with np.load(golden_dir / "pwl.npz") as archive:
        return dict(archive)


def _great_circle_km(a, b):
    phi, lam = np.deg2rad([a[0], b[0]]), np.deg2rad([a[1], b[1]])
    cosine = np.sin(phi[0]) * np.sin(phi[1]) + np.cos(phi[0]) * np.cos(phi[1]) * np.cos(lam[0] - lam[1])
    return 6371.0 * np.arccos(np.clip(cosine, -1, 1))


def _naive_contribution(x, breakpoints, slopes):
    """Walk from 0 to x piece by piece, one value at a time."""
    edges = [-np.inf, *breakpoints, np.inf]
    total = 0.0
    for left, right, slope in zip(edges[:-1], edges[1:], slopes, strict=True):
        overlap = min(max(x, 0), right) - max(min(x, 0), left)
        total += slope * max(overlap, 0.0) * np.sign(x)
    return total


def test_default_grid_is_the_ocean_north_first(grid):
    assert grid.shape == (18, 36)
    assert (grid.lat[0], grid.lat[-1]) == (89.5, -80.5)
    assert (grid.lon[0], grid.lon[-1]) == (0.5, 350.5)
    assert grid.mask[9, 20]
    assert not grid.mask[3, 10]
    assert 400 < grid.n_valid < 480


def test_analytic_correlation_is_one(grid, correlation):
    n = grid.n_valid
    assert correlation.shape == (n, n)
    assert correlation.dtype == np.float64
    assert (np.diag(correlation) == 1.0).all()
    np.testing.assert_array_equal(correlation, correlation.T)
    assert np.abs(correlation).max() == 1.0
    assert np.linalg.eigvalsh(correlation)[0] > 0


def test_local_part_decays_with_great_circle_distance(grid):
    local = fields.analytic_sst_correlation(grid, teleconnection=0.0)
    positions = list(zip(*grid.places, strict=True))
    pairs = [(i, j) for i in range(0, grid.n_valid, 17) for j in range(0, grid.n_valid, 13) if i != j]
    distance = np.array([_great_circle_km(positions[i], positions[j]) for i, j in pairs])
    value = np.array([local[i, j] for i, j in pairs])
    assert (np.diff(value[np.argsort(distance)]) <= 1e-9).all()
    assert np.interp(2000.0, np.sort(distance), value[np.argsort(distance)]) == pytest.approx(
        np.exp(-1), abs=0.03
    )


def test_length_scale_is_the_e_folding_chord():
    angle = np.rad2deg(2 * np.arcsin(1500.0 / (2 * 6371.0)))
    pair = Grid(np.ones((2, 1), bool), np.array([0.0, angle]), np.array([0.0]))
    value = fields.analytic_sst_correlation(pair, length_scale_km=1500.0, teleconnection=0.0)[0, 1]
    assert value == pytest.approx(np.exp(-1), rel=1e-12)


def test_teleconnections_link_distant_oceans(grid, correlation):
    lat, lon = grid.places

    def cell(north, east):
        return int(np.argmin((lat - north) ** 2 + (lon - east) ** 2))

    east_pacific = cell(0, 225)
    assert correlation[east_pacific, cell(0, 65)] > 0.15
    assert correlation[east_pacific, cell(25, 175)] < -0.25
    local = fields.analytic_sst_correlation(grid, teleconnection=0.0)
    assert abs(local[east_pacific, cell(0, 65)]) < 0.01


@pytest.mark.parametrize("name", ["length_scale_km", "teleconnection"])
def test_analytic_parameters_are_checked(grid, name):
    with pytest.raises(DataError, match=f"{name}=-1: must"):
        fields.analytic_sst_correlation(grid, **{name: -1})


def test_to_correlation_divides_by_deviations():
    deviations = np.array([0.5, 2.0, 3.0])
    wanted = np.array([[1, 0.2, -0.3], [0.2, 1, 0.6], [-0.3, 0.6, 1]])
    found = fields.to_correlation(wanted * np.outer(deviations, deviations))
    np.testing.assert_allclose(found, wanted, rtol=1e-15)


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        (np.ones((2, 3)), "not square"),
        (np.array([[1.0, np.nan], [np.nan, 1.0]]), "NaN or infinity"),
        (np.array([[1.0, 0.5], [0.2, 1.0]]), "not symmetric"),
        (np.array([[1.0, 0.0], [0.0, 0.0]]), "variance 0 of cell 1; leave constant cells out"),
    ],
)
def test_bad_covariances_are_refused(matrix, reason):
    with pytest.raises(DataError, match=reason):
        fields.to_correlation(matrix)


def test_factor_of_a_singular_matrix_says_what_was_clipped(caplog):
    base = np.random.default_rng(0).standard_normal((6, 4))
    matrix = base @ base.T
    with caplog.at_level(logging.INFO, "xairt"):
        factor = fields.factorise(matrix)
    assert factor.clipped_count == 2
    assert abs(factor.clipped_sum) < 1e-12
    assert "clipped 2 eigenvalues" in caplog.text
    np.testing.assert_allclose(factor.matrix @ factor.matrix.T, matrix, atol=1e-12)


def test_small_negative_eigenvalues_are_clipped_and_variances_kept():
    rotation, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((5, 5)))
    matrix = rotation @ np.diag([3.0, 1.0, 0.5, 0.2, -1e-6]) @ rotation.T
    factor = fields.factorise((matrix + matrix.T) / 2)
    assert factor.clipped_count == 1
    assert factor.clipped_sum == pytest.approx(-1e-6)
    np.testing.assert_allclose(np.diag(factor.matrix @ factor.matrix.T), np.diag(matrix), rtol=1e-12)


def test_indefinite_matrix_is_refused():
    with pytest.raises(DataError, match="not positive semidefinite"):
        fields.factorise([[1.0, 2.0], [2.0, 1.0]])


def test_one_covariance_beyond_its_variances_is_refused(data_dir):
    with np.load(next(data_dir.rglob("cobe_sstanom_correlation_10deg_460x460.npz"))) as archive:
        covariance = archive["covariance"]
    covariance[0, 1] = covariance[1, 0] = 5.0
    with pytest.raises(DataError, match="not positive semidefinite"):
        fields.factorise(covariance)
    with pytest.raises(DataError, match=r"correlation 4\.99 between cells 0 and 1, beyond 1"):
        fields.to_correlation(covariance)


def test_real_covariance_factorises(data_dir):
    with np.load(next(data_dir.rglob("cobe_sstanom_correlation_10deg_460x460.npz"))) as archive:
        covariance = archive["covariance"]
    factor = fields.factorise(covariance)
    assert factor.clipped_count == 1
    np.testing.assert_allclose(factor.matrix @ factor.matrix.T, covariance, atol=1e-12)


def test_samples_have_the_covariance():
    matrix = np.array([[2.0, 0.8, 0.0], [0.8, 1.0, -0.5], [0.0, -0.5, 1.5]])
    x = fields.sample_gaussian(matrix, 200_000, seed=3)
    assert x.dtype == np.float32
    # Standard error of a covariance estimate is below 2 sqrt(2) / sqrt(n) here; 5 of them.
    np.testing.assert_allclose(np.cov(x, rowvar=False), matrix, atol=0.032)
    np.testing.assert_allclose(x.mean(axis=0), 0.0, atol=0.016)


def test_first_samples_do_not_depend_on_their_number(correlation):
    factor = fields.factorise(correlation)
    many = fields.sample_gaussian(factor, BLOCK_SAMPLES + 5, seed=1)
    for n in (0, 1, 7, BLOCK_SAMPLES, BLOCK_SAMPLES + 1):
        np.testing.assert_array_equal(fields.sample_gaussian(correlation, n, seed=1), many[:n])
    blocks = list(fields.gaussian_blocks(factor, BLOCK_SAMPLES + 5, seed=1))
    assert [rows for rows, _ in blocks] == [slice(0, BLOCK_SAMPLES), slice(BLOCK_SAMPLES, BLOCK_SAMPLES + 5)]
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), many)


def test_seed_and_stream_change_samples():
    first = fields.sample_gaussian(np.eye(2), 4, seed=0)
    assert not np.isclose(first, fields.sample_gaussian(np.eye(2), 4, seed=1)).any()
    assert not np.isclose(first, fields.sample_gaussian(np.eye(2), 4, seed=0, stream=1)).any()
    block = fields.sample_gaussian(np.eye(2), 2 * BLOCK_SAMPLES, seed=0)
    assert not np.isclose(block[:BLOCK_SAMPLES], block[BLOCK_SAMPLES:]).all(axis=1).any()
    with pytest.raises(DataError, match="seed=-1, stream=0: must not be negative"):
        fields.sample_gaussian(np.eye(2), 4, seed=-1)


def test_golden_contributions(golden):
    function = PiecewiseLinear(golden["breakpoints"], golden["slopes"], divide=False)
    np.testing.assert_allclose(function.contribution(golden["x"]), golden["contribution"], rtol=0, atol=1e-12)
    divided = PiecewiseLinear(golden["breakpoints"], golden["slopes"])
    np.testing.assert_allclose(
        divided.contribution(golden["x"]), golden["contribution"] / 6, rtol=0, atol=1e-12
    )
    np.testing.assert_allclose(divided.output(golden["x"]), golden["contribution"].mean(axis=1), atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), n_breakpoints=st.integers(0, 6))
def test_contribution_is_the_walk_from_zero(seed, n_breakpoints):
    rng = np.random.default_rng(seed)
    breakpoints = np.sort(rng.standard_normal((3, n_breakpoints)), axis=1)
    slopes = rng.standard_normal((3, n_breakpoints + 1))
    x = np.concatenate([rng.standard_normal((5, 3)) * 3, np.zeros((1, 3))])
    found = PiecewiseLinear(breakpoints, slopes, divide=False).contribution(x)
    wanted = [[_naive_contribution(v, breakpoints[c], slopes[c]) for c, v in enumerate(row)] for row in x]
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    assert (found[-1] == 0).all()


def test_slope_is_the_derivative(golden):
    function = PiecewiseLinear(golden["breakpoints"], golden["slopes"])
    x, step = 2 * np.random.default_rng(0).standard_normal((50, 6)), 1e-7
    quotient = (function.contribution(x + step) - function.contribution(x - step)) / (2 * step)
    np.testing.assert_allclose(function.slope_at(x), quotient, atol=1e-7)
    on_edge = function.slope_at(golden["breakpoints"][:, 2][np.newaxis])
    np.testing.assert_array_equal(on_edge[0], golden["slopes"][:, 3] / 6)


def test_krell_convention_flips_the_negative_side():
    breakpoints, slopes = np.zeros((2, 1)), np.ones((2, 2))
    x = np.array([[-2.0, 3.0], [0.5, -0.1]])
    port = PiecewiseLinear(breakpoints, slopes, divide=False, convention="krell2025")
    np.testing.assert_array_equal(port.contribution(x), np.abs(x))
    np.testing.assert_array_equal(port.slope_at(x), np.sign(x))
    np.testing.assert_array_equal(port.output(x), np.abs(x).sum(axis=1))
    paper = PiecewiseLinear(breakpoints, slopes, divide=False)
    np.testing.assert_array_equal(paper.contribution(x), x)


def test_no_breakpoints_is_linear():
    function = fields.draw(np.eye(4), seed=0, n_breakpoints=0)
    assert function.breakpoints.shape == (4, 0)
    x = np.random.default_rng(0).standard_normal((10, 4))
    np.testing.assert_allclose(function.contribution(x), x * function.slopes[:, 0] / 4, rtol=1e-14)


def test_precision_shape_and_missing_values(golden):
    function = PiecewiseLinear(golden["breakpoints"], golden["slopes"])
    x = golden["x"].astype(np.float32)
    before = x.copy()
    assert function.contribution(x).dtype == np.float32
    assert function.slope_at(x).dtype == np.float32
    np.testing.assert_array_equal(x, before)
    assert function.contribution(x.reshape(20, 20, 6)).shape == (20, 20, 6)
    assert function.output(x.reshape(20, 20, 6)).shape == (20, 20)
    assert function.output(x[0]).shape == ()
    assert function.contribution(np.zeros((0, 6))).shape == (0, 6)
    assert function.contribution(np.ones(6, int)).dtype == np.float64
    x[0, 2] = np.nan
    assert np.flatnonzero(np.isnan(function.contribution(x)))[0] == 2
    assert np.isnan(function.slope_at(x)[0, 2])


def test_drawn_function_has_zero_among_sorted_breakpoints(correlation):
    function = fields.draw(correlation, seed=0)
    n = len(correlation)
    assert function.breakpoints.shape == (n, 5)
    assert function.slopes.shape == (n, 6)
    assert ((function.breakpoints == 0).sum(axis=1) == 1).all()
    assert (np.diff(function.breakpoints, axis=1) >= 0).all()
    again = fields.draw(correlation, seed=0)
    np.testing.assert_array_equal(function.slopes, again.slopes)
    assert not np.array_equal(function.slopes, fields.draw(correlation, seed=1).slopes)
    neighbours = np.corrcoef(function.slopes[:-1].ravel(), function.slopes[1:].ravel())[0, 1]
    assert neighbours > 0.5


def test_drawn_truth_is_independent_of_samples_of_the_same_seed(correlation):
    x = fields.sample_gaussian(correlation, 6, seed=0, dtype=np.float64)
    slopes = fields.draw(correlation, seed=0).slopes.T
    assert not np.isclose(x, slopes).any(axis=1).all()


def test_empirical_breakpoints_approach_the_population(correlation):
    small = correlation[:20, :20]
    x = fields.sample_gaussian(small, 100_000, seed=5)
    population = fields.draw(small, seed=2)
    empirical = fields.draw(small, seed=2, samples=x)
    np.testing.assert_array_equal(empirical.slopes, population.slopes)
    inside = np.abs(population.breakpoints) < 1.5
    np.testing.assert_allclose(empirical.breakpoints[inside], population.breakpoints[inside], atol=0.05)


def test_empirical_quantiles_interpolate_and_extrapolate():
    samples = np.array([[1.0], [2.0], [4.0], [8.0]])
    drawn = fields.draw(np.eye(1), seed=0)
    found = fields.draw(np.eye(1), seed=0, samples=samples).breakpoints[0]
    probabilities = norm.cdf(drawn.breakpoints[0][drawn.breakpoints[0] != 0])
    steps, values = np.arange(1, 5) / 4, samples[:, 0]
    wanted = np.interp(probabilities, steps, values)
    low = probabilities < steps[0]
    wanted[low] = values[0] + (probabilities[low] - steps[0]) * 4 * (values[1] - values[0])
    np.testing.assert_allclose(found, np.sort([0.0, *wanted]), rtol=1e-12)


def test_cell_weights_damp_cells(correlation):
    small = correlation[:4, :4]
    plain = fields.draw(small, seed=0)
    damped = fields.draw(small, seed=0, cell_weights=[0.0, 0.5, 1.0, 1.0])
    np.testing.assert_array_equal(damped.slopes, plain.slopes * np.array([[0.0], [0.5], [1.0], [1.0]]))


def test_krell_draws_with_the_covariance():
    covariance = np.array([[4.0, 1.0], [1.0, 4.0]])
    paper, port = fields.draw(covariance, seed=0), fields.draw(covariance, seed=0, convention="krell2025")
    np.testing.assert_allclose(port.slopes, 2 * paper.slopes, rtol=1e-12)
    np.testing.assert_array_equal(paper.slopes, fields.draw(fields.to_correlation(covariance), seed=0).slopes)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"n_breakpoints": -1}, "n_breakpoints=-1: must not be negative"),
        ({"samples": np.zeros((5, 2))}, r"samples: shape \(5, 2\); give at least 2 samples of 3 cells"),
        ({"samples": np.full((5, 3), np.nan)}, "samples: hold NaN"),
        ({"cell_weights": [1.0]}, "one weight for each of 3 cells"),
        ({"cell_weights": [0.0, 2.0, 1.0]}, "outside 0 .. 1"),
    ],
)
def test_draw_checks_its_parameters(arguments, reason):
    with pytest.raises(DataError, match=reason):
        fields.draw(np.eye(3), seed=0, **arguments)


def test_piecewise_checks_its_arrays():
    with pytest.raises(DataError, match="shapes do not fit"):
        PiecewiseLinear(np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(DataError, match="not ascending"):
        PiecewiseLinear(np.array([[1.0, 0.0]]), np.zeros((1, 3)))
    with pytest.raises(DataError, match="NaN or infinity"):
        PiecewiseLinear(np.zeros((1, 1)), np.full((1, 2), np.nan))
    with pytest.raises(DataError, match=r"shape \(4, 2\) does not end in 3 cells"):
        PiecewiseLinear(np.zeros((3, 0)), np.ones((3, 1))).contribution(np.zeros((4, 2)))
    with pytest.raises(MethodError, match="convention 'krell' does not apply here"):
        PiecewiseLinear(np.zeros((3, 0)), np.ones((3, 1)), convention="krell")
    with pytest.raises(ValueError, match="read-only"):
        PiecewiseLinear(np.zeros((3, 0)), np.ones((3, 1))).slopes[0] = 2.0


def test_contribution_and_output_are_those_computed_apart():
    function = fields.draw(np.eye(5), seed=1)
    x = np.random.default_rng(0).normal(size=(3, 40, 5)).astype(np.float32)
    contribution, output = function.contribution_and_output(x)
    np.testing.assert_array_equal(contribution, function.contribution(x))
    np.testing.assert_array_equal(output, function.output(x))
    assert contribution.dtype == np.float32
    assert output.dtype == np.float64


# ------------------------------------------------------------------------------------- fitted breakpoints


@pytest.mark.parametrize("dtype", [np.float32, np.float64, "float32 stored as float64"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_breakpoints_follow_from_slopes_and_contributions(correlation, seed, dtype):
    small = correlation[:60, :60]
    known = fields.draw(small, seed)
    x = fields.sample_gaussian(small, 4000, seed, np.float64)
    given = [known.contribution(x), x]
    if dtype != np.float64:
        given = [
            a.astype(np.float32).astype(np.float32 if dtype == np.float32 else np.float64) for a in given
        ]
    fitted = fields.fit_breakpoints(given[1], given[0], known.scaled_slopes)
    np.testing.assert_allclose(fitted.contribution(x), known.contribution(x), atol=1e-6)
    inside = np.abs(known.breakpoints) < 2
    precise = np.abs(fitted.breakpoints - known.breakpoints)[inside] < (1e-9 if dtype == np.float64 else 1e-4)
    assert precise.mean() > 0.97  # two breakpoints between neighbouring samples cannot be told apart
    new = fields.sample_gaussian(small, 2000, seed + 10, np.float64)
    assert (np.abs(fitted.slope_at(new) - known.slope_at(new)) < 1e-9).mean() > 0.998


def test_a_linear_function_has_no_breakpoints_to_fit():
    x = np.random.default_rng(0).normal(size=(50, 3))
    fitted = fields.fit_breakpoints(x, 2 * x, np.full((3, 1), 2.0))
    assert fitted.breakpoints.shape == (3, 0)


def test_contributions_of_other_slopes_are_refused(correlation):
    small = correlation[:10, :10]
    known, x = fields.draw(small, 0), fields.sample_gaussian(small, 500, 0, np.float64)
    given = known.contribution(x)
    for wrong in (known.scaled_slopes[:, ::-1], known.scaled_slopes * 1.01, known.scaled_slopes + 0.1):
        with pytest.raises(DataError, match=r"does not follow from the slopes in \d+ of 10 cells"):
            fields.fit_breakpoints(x, given, wrong)
    with pytest.raises(DataError, match="does not follow from the slopes in 10 of 10 cells"):
        fields.fit_breakpoints(x, given + 0.1, known.scaled_slopes)
    with pytest.raises(DataError, match="shapes do not fit"):
        fields.fit_breakpoints(x[:5], given, known.scaled_slopes)
    with pytest.raises(DataError, match="hold NaN or infinity"):
        fields.fit_breakpoints(x, given * np.nan, known.scaled_slopes)


# ------------------------------------------------------------------------------------------------- masks


def test_weights_of_bumps_fall_with_great_circle_distance(grid):
    centres, width = [(0.0, 215.0), (50.0, -30.0)], 1800.0
    weights = fields.bump_weights(grid, centres, width_km=width)
    positions = list(zip(*grid.places, strict=True))
    for cell in range(0, grid.n_valid, 29):
        nearest = min(_great_circle_km(positions[cell], centre) for centre in centres)
        assert weights[cell] == pytest.approx(np.exp(-((nearest / width) ** 2) / 2), abs=1e-9)
    assert weights.max() <= 1
    removed = fields.bump_weights(grid, centres, width_km=width, removed_below=0.5)
    np.testing.assert_array_equal(removed, np.where(weights < 0.5, 0, weights))
    function = fields.draw(fields.analytic_sst_correlation(grid), 0, cell_weights=removed)
    x = fields.sample_gaussian(np.eye(grid.n_valid), 5, 0)
    assert (function.contribution(x)[:, removed == 0] == 0).all()
    assert (function.contribution(x)[:, removed > 0] != 0).all()


@pytest.mark.parametrize(
    ("centres", "options", "reason"),
    [
        ([], {}, r"centres: shape \(0,\); give pairs"),
        ([(1.0, 2.0, 3.0)], {}, r"centres: shape \(1, 3\); give pairs"),
        ([(91.0, 0.0)], {}, "centres: not on the globe"),
        ([(np.nan, 0.0)], {}, "centres: not on the globe"),
        ([(0.0, 0.0)], {"width_km": 0}, "width_km=0: must be positive"),
        ([(0.0, 0.0)], {"removed_below": 2}, "removed_below=2: outside 0 .. 1"),
    ],
)
def test_bumps_check_their_parameters(grid, centres, options, reason):
    with pytest.raises(DataError, match=reason):
        fields.bump_weights(grid, centres, **options)


def test_values_beyond_all_pieces_and_at_zero():
    function = PiecewiseLinear(np.array([[-1.0, 0.5]]), np.array([[1.0, 2.0, 3.0]]), divide=False)
    x = np.array([[-3.0], [-1.0], [0.0], [0.5], [2.0], [np.nan]])
    np.testing.assert_allclose(function.contribution(x)[:, 0], [-4, -2, 0, 1, 5.5, np.nan], rtol=1e-15)
    assert function.contribution(x)[2, 0] == 0
    np.testing.assert_array_equal(function.slope_at(x)[:, 0], [1, 2, 2, 3, 3, np.nan])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fields.sample_gaussian(np.eye(2), 2.5, 0), r"n=2\.5: is no whole number"),
        (lambda: fields.sample_gaussian(np.eye(2), "3", 0), "n='3': is no whole number"),
        (lambda: fields.sample_gaussian(np.eye(2), 3, 1.5), r"seed=1\.5: is no whole number"),
        (lambda: fields.sample_gaussian(np.eye(2), 3, 0, int), "dtype=int64: would cut off"),
        (lambda: fields.draw(np.eye(2), 0, 2.5), r"n_breakpoints=2\.5: is no whole number"),
        (lambda: fields.strengthened(np.eye(2), "a"), "w='a': outside 0"),
        (lambda: fields.draw(np.eye(2), 0).contribution([["a", "b"]]), "x: holds <U1, no real numbers"),
        (lambda: fields.draw(np.eye(2), 0).contribution([[1j, 0]]), "x: holds complex128, no real numbers"),
    ],
)
def test_other_things_than_numbers_are_refused_in_one_line(call, message):
    with pytest.raises(DataError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_masked_values_contribute_nothing_known():
    function = fields.draw(np.eye(2), 0)
    x = np.ma.masked_array([[0.5, 1e20], [0.5, 0.3]], [[False, True], [False, False]])
    found = function.contribution(x)
    assert np.isnan(found[0, 1])
    np.testing.assert_array_equal(found[:, 0], function.contribution([[0.5, 0.0], [0.5, 0.3]])[:, 0])
