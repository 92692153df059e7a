"""Scores of images by boxes: the published numbers, naive loops, cases with known answers, bad input."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from conftest import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st

from xairt.errors import DataError
from xairt.metrics import (
    blurred,
    box_iou,
    bucket_scores,
    focus_level,
    localisation_scores,
    mean_focus_level,
    saliency_plane,
)

NONE = [-1, -1, -1, -1]
NAN = float("nan")


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "smerf_metrics.npz") as archive:
        return dict(archive)


def box_map(box, shape=(64, 64)) -> np.ndarray:
    image = np.zeros((1, *shape))
    image[0, box[0] : box[1], box[2] : box[3]] = 1.0
    return image


# -------------------------------------------------------------------------------------- naive loops


def naive_blur(plane, size):
    """Mean of a window of pixels, mirrored about the border pixels."""
    half, (height, width) = size // 2, plane.shape
    found = np.zeros_like(plane)
    for y in range(height):
        for x in range(width):
            window = [
                plane[mirrored(y + dy, height), mirrored(x + dx, width)]
                for dy in range(-half, half + 1)
                for dx in range(-half, half + 1)
            ]
            found[y, x] = sum(window) / len(window)
    return found


def mirrored(place, size):
    while not 0 <= place < size:
        place = -place if place < 0 else 2 * (size - 1) - place
    return place


def pixels_of(box):
    return {(y, x) for y in range(box[0], box[1]) for x in range(box[2], box[3])}


def naive_afl(plane, boxes):
    mass = {(y, x): plane[y, x] - plane.min() for y in range(plane.shape[0]) for x in range(plane.shape[1])}
    total = sum(mass.values())
    return sum(sum(mass[pixel] for pixel in pixels_of(box)) for box in boxes) / total


def naive_iou(plane, boxes, asked):
    counts, edges = np.histogram(plane, 10)
    lowest = max(k for k in range(10) if counts[k:].sum() >= asked)
    bright = {(y, x) for y, x in np.argwhere(plane >= edges[lowest]).tolist()}
    shares = [len(bright & pixels_of(box)) / len(bright | pixels_of(box)) for box in boxes]
    return sum(shares) / len(shares)


def naive_scores(plane, boxes, counted, primary):
    """AFL, MAFL, IOU and IOU with the threshold of the primary boxes; NaN without a box."""
    mine = [b for b, c in zip(boxes.tolist(), counted, strict=True) if c and b != NONE]
    first = [b for b, c in zip(boxes.tolist(), primary, strict=True) if c and b != NONE]
    if not mine:
        return [NAN] * 4
    held, held_first = (sum(len(pixels_of(b)) for b in group) for group in (mine, first))
    afl = naive_afl(plane, mine)
    return [afl, afl / held, naive_iou(plane, mine, held), naive_iou(plane, mine, held_first)]


@st.composite
def scenes(draw):
    height, width, objects = (draw(st.integers(*limits)) for limits in ((5, 14), (5, 14), (1, 3)))
    n = draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    values = rng.standard_normal((n, height, width, draw(st.integers(1, 3))))
    if draw(st.booleans()):  # ties
        values = np.round(values)
    start = rng.integers(0, [height, width], (n, objects, 2))
    stop = rng.integers(start + 1, [height + 1, width + 1])
    boxes = np.stack([start, stop], axis=3).reshape(n, objects, 4).astype(np.int16)
    boxes[rng.random((n, objects)) < 0.2] = -1
    primary, secondary = rng.random((2, n, objects)) < 0.6
    return values, boxes, primary, secondary


@settings(max_examples=60, deadline=None)
@given(scenes(), st.sampled_from([1, 3, 7]), st.sampled_from(["absolute_sum", "maximum"]))
def test_scores_are_those_of_loops(scene, size, reduction):
    values, boxes, primary, secondary = scene
    found = localisation_scores(values, boxes, primary, secondary, size=size, reduction=reduction)
    for i, image in enumerate(np.abs(values)):
        plane = image.sum(axis=2) if reduction == "absolute_sum" else image.max(axis=2)
        plane = blurred(plane[None], size)[0]  # compared with loops in its own test: rounding splits ties
        for role, counted in (("primary", primary[i]), ("secondary", secondary[i])):
            mine = found.sel(role=role).isel(sample=i)
            got = [float(mine[name]) for name in ("afl", "mafl", "iou", "iou_single")]
            want = naive_scores(plane, boxes[i], counted, primary[i])
            if bool(mine.flat):
                want = [value * 0 for value in want]
            np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(9, 12), (4, 3), (2, 8), (64, 5)])
def test_blur_is_the_mirrored_mean_of_a_window(shape):
    planes = np.random.default_rng(0).random((2, *shape))
    for size in (1, 3, 7):
        want = [naive_blur(plane, size) for plane in planes]
        np.testing.assert_allclose(blurred(planes, size), want, rtol=1e-12)


# ------------------------------------------------------------------------------------ published numbers


def test_published_numbers():
    published = golden()
    boxes = published["boxes"]
    every = np.ones(boxes.shape[:2], bool)
    found = localisation_scores(published["saliency"], boxes, every, every, reduction="maximum")
    for role in ("primary", "secondary"):
        for name, key in (("afl", "afl"), ("mafl", "mafl"), ("iou", "iou"), ("iou_single", "iou")):
            np.testing.assert_allclose(found[name].sel(role=role), published[key], rtol=1e-5)


def test_kernels_give_what_the_wrapper_gives():
    published = golden()
    boxes, values = published["boxes"], published["saliency"]
    first, second = np.array([[1, 0]] * 12, bool), np.array([[0, 1]] * 12, bool)
    found = localisation_scores(values, boxes, first, second)
    plane = blurred(saliency_plane(values))
    held = [len(pixels_of(box)) for box in boxes[:, 0]]
    for role, counted in (("primary", first), ("secondary", second)):
        mine = found.sel(role=role)
        np.testing.assert_array_equal(focus_level(plane, boxes, counted), mine.afl)
        np.testing.assert_array_equal(mean_focus_level(plane, boxes, counted), mine.mafl)
        np.testing.assert_array_equal(box_iou(plane, boxes, counted), mine.iou)
        np.testing.assert_array_equal(box_iou(plane, boxes, counted, pixels=held), mine.iou_single)
    absent = (boxes[:, 1] == -1).all(axis=1)
    assert absent.sum() == 8
    np.testing.assert_array_equal(np.isnan(found.iou.sel(role="secondary")), absent)


# -------------------------------------------------------------------------------------- known answers


@pytest.mark.parametrize(
    "box", [[10, 20, 30, 40], [0, 10, 0, 10], [54, 64, 54, 64], [63, 64, 0, 1], [0, 64, 5, 6], [5, 6, 7, 9]]
)
def test_boxes_as_the_map_itself_score_exactly_one(box):
    plane = box_map(box)
    held = len(pixels_of(box))
    assert focus_level(plane, [[box]]) == 1.0
    assert mean_focus_level(plane, [[box]]) == pytest.approx(1 / held, rel=1e-14)
    assert box_iou(plane, [[box]]) == 1.0
    assert box_iou(plane * 1e-300 + 3e-300, [[box]]) == 1.0


def test_two_equal_boxes_share_the_iou():
    boxes = [[[2, 6, 2, 6], [20, 24, 40, 44]]]
    plane = np.maximum(box_map(boxes[0][0]), box_map(boxes[0][1]))
    assert focus_level(plane, boxes) == pytest.approx(1.0, rel=1e-14)
    assert box_iou(plane, boxes) == 0.5
    assert box_iou(plane, boxes, [[True, False]]) == 0.5  # 32 pixels are bright, 16 of them in the box


def test_a_map_elsewhere_scores_zero():
    plane = box_map([0, 10, 0, 10])
    other = [[[30, 40, 30, 40]]]
    assert focus_level(plane, other) == mean_focus_level(plane, other) == box_iou(plane, other) == 0.0


def test_blurred_box_has_the_focus_of_the_blur():
    """Of a 10 x 10 box blurred by 7 x 7, each axis keeps (4 * 7 + 2 * (6 + 5 + 4)) / 70 of its mass."""
    plane = blurred(box_map([20, 30, 20, 30]), 7)
    kept = (4 * 7 + 2 * (6 + 5 + 4)) / 70
    assert focus_level(plane, [[[20, 30, 20, 30]]]) == pytest.approx(kept**2, rel=1e-12)


@pytest.mark.parametrize("value", [0.0, 2.7, 1e-8, 1e8])
@pytest.mark.parametrize("size", [1, 7])
def test_maps_of_one_value_score_zero_and_are_told(value, size, caplog):
    values = np.full((3, 16, 16, 3), value)
    values[1, 4:8, 4:8] += 1.0 + value
    boxes = np.array([[[4, 8, 4, 8]]] * 2 + [[NONE]])
    one = np.ones((3, 1), bool)
    found = localisation_scores(values, boxes, one, ~one, size=size)
    assert found.flat.values.tolist() == [True, False, True]
    for name in ("afl", "mafl", "iou", "iou_single"):
        scores = found[name].sel(role="primary").values
        assert scores[0] == 0
        assert scores[1] > 0
        assert np.isnan(scores[2])
        assert np.isnan(found[name].sel(role="secondary")).all()
    assert "2 of 3 maps have one value only" in caplog.text


def test_ties_are_bright_together():
    plane = np.zeros((1, 4, 4))
    plane[0, :2] = 5.0  # 8 pixels tie where the box asks for 1
    assert box_iou(plane, [[[0, 1, 0, 1]]]) == 1 / 8
    assert box_iou(plane, [[[0, 2, 0, 4]]]) == 1.0
    assert box_iou(plane, [[[0, 3, 0, 4]]]) == 12 / 16  # only all 16 are enough


def test_no_primary_pixels_ask_for_the_bin_of_the_largest():
    plane = np.zeros((1, 4, 4))
    plane[0, 0] = [10.0, 9.5, 8.9, 3.0]
    assert box_iou(plane, [[[0, 1, 0, 2]]], pixels=[0]) == 1.0
    values = np.zeros((1, 4, 4, 3))
    values[..., 0] = plane
    found = localisation_scores(values, [[[0, 1, 0, 2]]], [[False]], [[True]], size=1)
    assert found.iou_single.sel(role="secondary") == 1.0
    assert np.isnan(found.iou_single.sel(role="primary"))


def test_offset_and_scale_do_not_matter():
    rng = np.random.default_rng(3)
    plane = rng.random((4, 12, 12))
    boxes = np.tile([[2, 6, 3, 9]], (4, 1, 1))
    for other in (plane * 3e-20, plane * 1e30, plane + 5.0):
        np.testing.assert_allclose(focus_level(other, boxes), focus_level(plane, boxes), rtol=1e-11)
        np.testing.assert_array_equal(box_iou(other, boxes), box_iou(plane, boxes))


# ------------------------------------------------------------------------------------------ reductions


def test_reductions_of_channels():
    values = np.array([[[[1.0, -3.0, 2.0], [0.0, 0.0, 0.0], [-2.0, -2.0, -2.0]]]])
    np.testing.assert_array_equal(saliency_plane(values), [[[6.0, 0.0, 6.0]]])
    np.testing.assert_array_equal(saliency_plane(values, "maximum"), [[[3.0, 0.0, 2.0]]])
    both = np.concatenate([values, 7 * values + 2, np.ones_like(values)])  # each image has a scale of its own
    np.testing.assert_allclose(
        saliency_plane(both, "min_max"), [[[1.0, 0.6, 0.2]], [[1.0, 0.6, 0.2]], [[0.0, 0.0, 0.0]]]
    )


def test_heat_map_is_the_darkness_of_the_drawn_map():
    """White is 0; pure blue and red, halfway to the ends, are 2/3; the ends are darker."""
    sums = np.array([0.0, 1.0, -1.0, 0.5, -0.5, 0.001])
    values = np.stack([sums / 2, sums, -sums / 2], axis=-1)[None, None]
    plane = saliency_plane(values, "heat_map")[0, 0]
    np.testing.assert_allclose(plane, [0, 1 - 0.5 / 3, 1 - 0.3 / 3, 2 / 3, 2 / 3, 0], atol=0.01)
    np.testing.assert_array_equal(plane, saliency_plane(values * 1e5, "heat_map")[0, 0])
    assert np.ptp(saliency_plane(np.zeros((1, 2, 2, 3)), "heat_map")) == 0
    each = np.concatenate([values, 0.1 * values])  # scaled by each image's own largest
    np.testing.assert_array_equal(saliency_plane(each, "heat_map")[1], saliency_plane(values, "heat_map")[0])


# --------------------------------------------------------------------------------------------- wrapper


def test_dimensions_in_any_order_blocks_and_untouched_input(monkeypatch):
    rng = np.random.default_rng(5)
    values = rng.standard_normal((7, 10, 11, 3)).astype(np.float32)
    kept = values.copy()
    boxes = np.tile([[1, 5, 2, 8], [6, 9, 0, 2]], (7, 1, 1)).astype(np.int16)
    first, second = np.array([[1, 0]] * 7, bool), np.array([[0, 1]] * 7, bool)
    whole = localisation_scores(values, boxes, first, second)
    labelled = xr.DataArray(
        values.transpose(3, 1, 0, 2),
        dims=("channel", "y", "sample", "x"),
        coords={"sample": np.arange(3, 10)},
    )
    monkeypatch.setattr("xairt.metrics.samples.BLOCK_VALUES", 2 * 10 * 11 * 3)
    found = localisation_scores(
        labelled, xr.DataArray(boxes, dims=("sample", "object", "corner")), first, second
    )
    assert found.sample.values.tolist() == list(range(3, 10))
    xr.testing.assert_allclose(found.drop_vars("sample"), whole, rtol=1e-12)
    np.testing.assert_array_equal(values, kept)


# --------------------------------------------------------------------------------------------- buckets


def test_buckets_are_means_of_means():
    scores = xr.DataArray(
        [[0.0, 1.0, 0.5, NAN, 0.25], [NAN, NAN, NAN, NAN, NAN]],
        dims=("role", "image"),
        coords={"role": ["primary", "secondary"]},
    )
    found = bucket_scores(scores, ["z", "z", "a", "m", "z"], sample="image")
    assert found.bucket.values.tolist() == ["z", "a", "m"]
    primary = found.sel(role="primary")
    np.testing.assert_allclose(primary["mean"], [1.25 / 3, 0.5, NAN])
    assert primary["count"].values.tolist() == [3, 1, 0]
    assert float(primary.average) == pytest.approx((1.25 / 3 + 0.5) / 2)
    assert float(primary.minimum) == pytest.approx(1.25 / 3)
    assert int(primary.n_buckets) == 2
    secondary = found.sel(role="secondary")
    assert np.isnan(secondary["mean"]).all()
    assert np.isnan(secondary.average)
    assert np.isnan(secondary.minimum)
    assert int(secondary.n_buckets) == 0


# ------------------------------------------------------------------------------------------- bad input

PLANE = np.random.default_rng(0).random((2, 6, 6))
BOXES = np.array([[[0, 2, 0, 2]], [[1, 3, 1, 3]]])


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (BOXES[:1], r"boxes \(1, 1, 4\) of int64: give integers \(samples, objects, 4\) for 2 samples"),
        (BOXES[..., :3], r"boxes \(2, 1, 3\)"),
        (BOXES.astype(float), "of float64: give integers"),
        (BOXES + 5, r"boxes\[0, 0\] = \[5, 7, 5, 7\]: no box in 6 x 6 pixels"),
        (BOXES * 0, r"boxes\[0, 0\] = \[0, 0, 0, 0\]: no box"),
        (np.where(BOXES == 0, -1, BOXES), r"boxes\[0, 0\] = \[-1, 2, -1, 2\]: no box"),
    ],
)
def test_boxes_that_are_none(boxes, message):
    with pytest.raises(DataError, match=message):
        focus_level(PLANE, boxes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: focus_level(PLANE[0], BOXES),
            r"plane \(6, 6\) of float64: give real numbers \(samples, y, x\)",
        ),
        (lambda: focus_level(PLANE[:0], BOXES[:0]), r"plane \(0, 6, 6\)"),
        (lambda: focus_level(PLANE, BOXES, [[True], [2]]), r"counted \(2, 1\): give booleans"),
        (lambda: focus_level(PLANE, BOXES, [True, True]), r"counted \(2,\): give booleans .* shape \(2, 1\)"),
        (lambda: box_iou(PLANE * np.inf, BOXES), "plane: holds NaN or infinity"),
        (lambda: box_iou(PLANE, BOXES, pixels=[1]), r"pixels \(1,\) of int64: give one number >= 0"),
        (lambda: box_iou(PLANE, BOXES, pixels=[1, -1]), "give one number >= 0 for each of 2 samples"),
        (lambda: blurred(PLANE, 4), "size=4: out of range; give an odd number"),
        (lambda: saliency_plane(PLANE), r"attribution \(2, 6, 6\) of float64"),
        (lambda: saliency_plane(PLANE[..., None] * np.nan), "attribution: holds NaN"),
        (
            lambda: saliency_plane(PLANE[..., None], "max"),
            "reduction 'max': unknown; give one of absolute_sum",
        ),
        (lambda: localisation_scores(PLANE, BOXES, BOXES, BOXES), r"attribution \(2, 6, 6\)"),
        (
            lambda: localisation_scores(PLANE[..., None], BOXES, [[1]], [[1]]),
            r"primary \(1, 1\): does not fit 2",
        ),
        (
            lambda: localisation_scores(
                xr.DataArray(PLANE[..., None, None], dims=("sample", "y", "x", "channel", "method")),
                BOXES,
                [[1], [1]],
                [[0], [0]],
            ),
            "attribution: has dimension method too; select one of it",
        ),
        (lambda: bucket_scores([0.1, 0.2], ["a"]), r"bucket \(1,\): does not fit 2 samples"),
        (lambda: bucket_scores([0.1, np.inf], ["a", "b"]), "scores: infinite"),
        (lambda: bucket_scores(PLANE, ["a", "b"]), r"scores \(2, 6, 6\): not \(samples,\)"),
        (lambda: bucket_scores([0.1, 0.2], [["a", "b"]] * 2), r"bucket \(2, 2\): not one name for each"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(DataError, match=message):
        call()
