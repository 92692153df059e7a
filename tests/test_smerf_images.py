"""Images of SMERF: rules by hand, every image derived again one at a time, files in the published layout."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageEnhance, ImageFont
from scipy import stats

from xairt.benchmarks.smerf import drawing, files, placing, rules
from xairt.benchmarks.smerf.images import BLOCK_IMAGES, image_blocks, image_count, images, objects_added
from xairt.benchmarks.smerf.rules import SETTINGS, Features, Setting
from xairt.errors import DataError

# Features patch, character, switch; label; primary; secondary (p patch, c character, s switch).
TABLE = {
    "simple-fr": (
        "000 0 - -, 002 0 - s, 010 0 - c, 012 0 - cs, 020 0 - c, 022 0 - cs, "
        "100 1 p -, 102 1 p s, 110 1 p c, 112 1 p cs, 120 1 p c, 122 1 p cs"
    ),
    "simple-nr": ("010 0 c -, 020 1 c -, 110 0 c p, 120 1 c p, 012 0 c s, 022 1 c s, 112 0 c ps, 122 1 c ps"),
    "complex-fr": (
        "000 0 - -, 002 0 - -, 010 0 - c, 012 0 - c, 020 0 - c, 022 0 - c, "
        "100 0 - -, 102 1 ps -, 110 0 - c, 112 1 ps c, 120 0 - c, 122 1 ps c"
    ),
    "complex-cr1": (
        "010 0 c -, 020 1 c -, 110 0 c p, 120 1 c p, "
        "002 1 s -, 012 1 s c, 022 1 s c, 102 0 ps -, 112 0 ps c, 122 0 ps c"
    ),
    "complex-cr2": (
        "010 0 c -, 020 1 c -, 100 1 p -, 110 1 p c, 120 1 p c, "
        "012 0 c s, 022 1 c s, 102 0 ps -, 112 0 ps c, 122 0 ps c"
    ),
    "complex-cr3": (
        "000 1 - -, 010 1 - c, 020 1 - c, 100 0 p -, 110 0 p c, 120 0 p c, "
        "012 0 cs -, 022 1 cs -, 112 0 cs p, 122 1 cs p"
    ),
    "complex-cr4": (
        "000 1 - -, 010 1 - c, 020 1 - c, 110 0 pc -, 120 1 pc -, "
        "002 0 s -, 012 0 s c, 022 0 s c, 112 0 pc s, 122 1 pc s"
    ),
}
LETTERS = {"p": "patch", "c": "character", "s": "switch"}
EVERYTHING = Setting(
    name="everything",
    values={"patch": (0, 1), "character": (0, 1, 2), "switch": (0, 1, 2)},
    label=lambda features: features.patch,
    primary=lambda features: ("patch",),
    secondary=lambda features: ("character", "switch"),
)


def named(letters: str) -> tuple[str, ...]:
    return tuple(LETTERS[letter] for letter in letters if letter != "-")


# ------------------------------------------------------------------------------------------------ rules


@pytest.mark.parametrize("name", TABLE)
def test_buckets_follow_the_table_of_the_publication(name):
    buckets = SETTINGS[name].buckets
    found = [(tuple(b.features), b.label, b.primary, b.secondary) for b in buckets]
    rows = [row.split() for row in TABLE[name].split(", ")]
    wanted = [(tuple(map(int, f)), int(y), named(p), named(s)) for f, y, p, s in rows]
    assert found == wanted
    made = images(name, 1)
    for index, (features, label, primary, secondary) in enumerate(wanted):
        assert tuple(made.features[index]) == features
        assert made.label[index] == label
        assert made.bucket[index] == index
        assert made.primary[index].tolist() == [name in primary for name in rules.OBJECTS]
        assert made.secondary[index].tolist() == [name in secondary for name in rules.OBJECTS]


def test_the_table_has_the_published_settings():
    assert list(SETTINGS) == list(TABLE)
    ids = ["1.11", "2.11", "1.20", "3.71", "3.72", "3.73", "3.74"]
    assert [setting.published_id for setting in SETTINGS.values()] == ids
    counts = {name: (image_count(name, part="train"), image_count(name)) for name in SETTINGS}
    assert counts["simple-fr"] == (12 * 2000, 12 * 500)
    assert counts["simple-nr"] == (8 * 5000, 8 * 500)
    assert counts["complex-fr"] == (9 * 2000 + 3 * 6000, 12 * 500)
    for number in range(1, 5):
        assert counts[f"complex-cr{number}"] == (10 * 15000, 10 * 400)
    many = [b.features for b in SETTINGS["complex-fr"].buckets if b.n_train == 6000]
    assert many == [(1, 0, 2), (1, 1, 2), (1, 2, 2)]


def test_names_of_buckets_are_unique_and_found():
    names = [bucket.name for bucket in EVERYTHING.buckets]
    assert len(set(names)) == 18
    assert EVERYTHING.bucket("patch-B-fixed_switch").features == Features(1, 2, 1)
    with pytest.raises(DataError, match=r"no bucket 'patch-C'; give one of empty, .*did you mean 'patch-"):
        EVERYTHING.bucket("patch-C")


def test_a_setting_of_ones_own_is_known_by_its_name(monkeypatch):
    monkeypatch.setitem(SETTINGS, "everything", EVERYTHING)
    assert images("everything", 1).label.tolist() == [0] * 9 + [1] * 9


def own(**changed) -> Setting:
    rule = {"label": lambda f: f.patch, "primary": lambda f: ("patch",), "secondary": lambda f: ()}
    return Setting(**{"name": "mine", "values": {"patch": (0, 1)}, **rule, **changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"values": {"pach": (0, 1)}}, "feature 'pach' is unknown; .*did you mean 'patch'"),
        ({"values": {"patch": (0, 2)}}, r"patch cannot be \(0, 2\); give some of \(0, 1\)"),
        ({"values": {"patch": ()}}, r"patch cannot be \(\)"),
        ({"label": lambda f: f.patch - 1}, "label of empty is -1; give whole numbers"),
        ({"label": lambda f: 0.5}, "label of empty is 0.5"),
        ({"primary": lambda f: ("box",)}, "'box' is no object; give patch, character, switch"),
        ({"secondary": lambda f: ("patch",)}, "patch of empty is primary and secondary"),
        ({"excluded": lambda f: True}, "every combination is excluded"),
    ],
)
def test_settings_that_cannot_be_are_refused(changed, message):
    with pytest.raises(DataError, match=f"setting 'mine': .*{message}|setting 'mine': {message}"):
        own(**changed)


# ------------------------------------------------------------------------------------ one image at a time


class NaiveStream:
    """Words of an image, one after the other, from a generator of its own."""

    def __init__(self, seed, part, features, number):
        patch, character, switch = (int(value) for value in features)
        code = patch * 9 + character * 3 + switch
        key = [seed, number + code * 2**32 + {"train": 0, "test": 1}[part] * 2**40]
        self.generator = np.random.Philox(key=np.array(key, np.uint64))

    def word(self):
        return int(self.generator.random_raw())

    def uniform(self):
        return (self.word() >> 11) / 2**53


def naive_places(stream, features):
    """Return (row, column) of the corners of patch, character (without the offset of 6) and switch."""
    patch, letter, switch = features
    row, column = int(36 * stream.uniform()), int(36 * stream.uniform())
    attempts = [[int(54 * stream.uniform()) for _ in range(4)] for _ in range(500)]
    at_patch = at_switch = None
    if patch:
        for y, x, _, _ in attempts:
            far = not letter or (column - x) ** 2 + (row - y) ** 2 > 300
            if far and (switch != 1 or (x - 58) ** 2 + (y - 58) ** 2 > 300):
                at_patch = y, x
                break
    if switch == 1:
        at_switch = 58, 58
    elif switch == 2:
        for _, _, y, x in attempts:
            far = not letter or (column - x) ** 2 + (row - y) ** 2 > 400
            if far and (not patch or (at_patch[1] - x) ** 2 + (at_patch[0] - y) ** 2 > 300):
                at_switch = y, x
                break
    return at_patch, (row, column) if letter else None, at_switch


def naive_background(background, stream, state):
    if background == "noise":
        noise = np.random.SFC64(0)
        noise.state = {**noise.state, "state": {"state": np.array(state, np.uint64)}}
        words = [int(word) for word in noise.random_raw(64 * 64 * 3 // 4)]
        levels = [(word >> shift & 65535) * 100 // 65536 for word in words for shift in (0, 16, 32, 48)]
        return np.array(levels, np.uint8).reshape(64, 64, 3)
    if background == "natural":
        pictures = drawing.natural_images()
        return pictures[int(len(pictures) * ((state[0] >> 11) / 2**53))]
    return np.full((64, 64, 3), 255 if background == "white" else 0, np.uint8)


def naive_image(seed, part, features, number, background):
    """Return levels, and the boxes of patch and switch, drawn with Pillow on one image."""
    stream = NaiveStream(seed, part, features, number)
    state = [stream.word() for _ in range(4)]
    picture = Image.fromarray(naive_background(background, stream, state).copy())
    draw = ImageDraw.Draw(picture)
    ink = (0, 0, 0) if background == "white" else (255, 255, 255)
    boxes = {}
    at_patch, at_character, at_switch = naive_places(stream, features)
    for name, at, side in (("patch", at_patch, 10), ("switch", at_switch, 4)):
        if at is not None:
            row, column = at
            draw.rectangle((column, row, column + side - 1, row + side - 1), fill=ink)
            boxes[name] = (row, row + side, column, column + side)
    if at_character is not None:
        font = ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", 20)
        row, column = at_character
        draw.text((column + 6, row + 6), "AB"[features[1] - 1], fill=ink, font=font)
        boxes["origin"] = (row + 6, column + 6)
    return np.asarray(picture), boxes


@pytest.mark.parametrize("background", drawing.BACKGROUNDS)
def test_every_image_is_that_of_a_naive_program(background):
    made = images(EVERYTHING, 3, part="train", seed=11, background=background, tight_boxes=False)
    assert made.images.dtype == np.float32
    for index in range(len(made)):
        features = tuple(int(value) for value in made.features[index])
        levels, boxes = naive_image(11, "train", features, int(made.number[index]), background)
        difference = made.images[index] * 255 - levels
        # Pillow rounds a blend of 8 bits its own way where neither level is 0 or 255.
        assert np.abs(difference).max() <= (1 if background in ("noise", "natural") else 1e-4)
        for name, box in zip(rules.OBJECTS, made.boxes[index].tolist(), strict=True):
            if name == "character":
                assert (box[0], box[2]) == boxes.get("origin", (-1, -1))
            else:
                assert tuple(box) == boxes.get(name, (-1, -1, -1, -1))


@pytest.mark.parametrize("ink", [0, 255])
def test_characters_are_blended_to_the_nearest_level(ink):
    levels = np.arange(256)
    pictures = np.empty((256, 64, 64, 3), np.float32)
    pictures[...] = levels[:, None, None, None] / np.float32(255)
    features, places = np.tile((0, 1, 0), (256, 1)), np.full((256, 3, 2), 20)
    drawing.paint_objects(pictures, features, places, ink=ink / 255)
    opacity, (row, column) = drawing.glyph(1)
    over = np.zeros((64, 64), int)
    over[20 + row :, 20 + column :][: opacity.shape[0], : opacity.shape[1]] = opacity
    assert len(np.unique(over)) > 40
    wanted = (levels[:, None, None] * (255 - over) + ink * over + 127) // 255
    wanted = np.repeat(wanted[..., None], 3, axis=-1).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(pictures, wanted)


def test_images_whose_first_attempts_all_fail_go_on():
    features = np.tile(Features(1, 1, 2), (3000, 1))
    keys = placing.image_keys(0, "test", features, np.arange(3000))
    few = placing.STATE_WORDS + 2 + 4
    short = placing.place(keys, features, placing.random_words(keys, few))
    whole = placing.place(keys, features, placing.random_words(keys, placing.FIRST_WORDS))
    np.testing.assert_array_equal(short, whole)


def test_words_are_those_of_a_generator_for_each_key():
    keys = placing.image_keys(5, "test", [(0, 0, 0), (1, 2, 2)], [0, 2**31 - 1])
    wanted = [np.random.Philox(key=key).random_raw(9) for key in keys]
    np.testing.assert_array_equal(placing.random_words(keys, 9), wanted)


# ---------------------------------------------------------------------------------- places and their boxes


def test_distances_are_kept():
    made = images(EVERYTHING, 300, tight_boxes=False)
    at = made.boxes[:, :, ::2].astype(int)
    at[:, 1] -= 6
    there = made.features > 0
    for first, second, squared in ((0, 1, 300), (1, 2, 400), (0, 2, 300)):
        both = there[:, first] & there[:, second]
        distance = ((at[both, first] - at[both, second]) ** 2).sum(axis=1)
        assert both.sum() == 300 * sum(b.features[first] > 0 < b.features[second] for b in EVERYTHING.buckets)
        assert distance.min() > squared
        assert distance.min() <= squared + 60  # so close do some come


@pytest.mark.parametrize(
    "features", [(1, 0, 0), (0, 1, 0), (0, 2, 0), (0, 0, 1), (0, 0, 2)], ids=lambda f: Features(*f).name
)
@pytest.mark.parametrize("background", ["black", "white"])
def test_a_box_holds_exactly_what_is_drawn(features, background):
    made = images(EVERYTHING, 60, background=background)[0:]
    made = made[(made.features == features).all(axis=1)]
    assert len(made) == 60
    drawn = (made.images != (1 if background == "white" else 0)).all(axis=-1)
    index = int(np.flatnonzero(features)[0])
    for picture, box in zip(drawn, made.boxes[:, index], strict=True):
        rows, columns = np.nonzero(picture)
        assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == tuple(box)
    assert (np.delete(made.boxes, index, axis=1) == -1).all()


def test_published_boxes_of_characters_begin_at_the_origin():
    tight, loose = (images("simple-nr", 20, tight_boxes=tight).boxes[:, 1] for tight in (True, False))
    assert (tight[:, 0] - loose[:, 0] == 4).all()
    assert (loose[:, 2] <= tight[:, 2]).all()
    np.testing.assert_array_equal(tight[:, [1, 3]], loose[:, [1, 3]])
    assert loose[:, [0, 2]].min() == 6
    assert loose[:, [0, 2]].max() == 41


def test_objects_reach_no_border_and_stay_in_the_image():
    boxes = images(EVERYTHING, 400, part="train").boxes
    there = boxes[boxes[:, :, 0] >= 0]
    assert there.min() == 0
    assert there.max() <= 64


@pytest.mark.parametrize(("features", "index", "n_places"), [((1, 0, 0), 0, 54), ((0, 0, 2), 2, 54)])
def test_a_box_alone_is_uniform(features, index, n_places):
    keys = placing.image_keys(2, "train", np.tile(features, (40_000, 1)), np.arange(40_000))
    words = placing.random_words(keys, placing.FIRST_WORDS)
    places = placing.place(keys, np.tile(features, (40_000, 1)), words)[:, index]
    row, column = places.T
    counts = np.bincount(row * n_places + column, minlength=n_places**2)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_a_character_is_uniform_whatever_else_there_is():
    for features in ((0, 1, 0), (1, 2, 2)):
        shown = np.tile(features, (20_000, 1))
        keys = placing.image_keys(3, "test", shown, np.arange(20_000))
        row, column = placing.place(keys, shown, placing.random_words(keys, placing.FIRST_WORDS))[:, 1].T - 6
        assert stats.chisquare(np.bincount(row * 36 + column, minlength=36**2)).pvalue > 1e-3


def test_backgrounds_have_the_levels_that_they_should():
    noise = images(own(), 60, background="noise")
    levels = np.rint(noise.images[noise.label == 0] * 255).astype(int)
    assert stats.chisquare(np.bincount(levels.ravel(), minlength=100)).pvalue > 1e-3
    assert abs(np.corrcoef(levels[0, ..., 0].ravel(), levels[0, ..., 1].ravel())[0, 1]) < 0.05
    assert abs(np.corrcoef(levels[0].ravel(), levels[1].ravel())[0, 1]) < 0.05
    empty = images("simple-fr", 240, background="natural")[:240]
    pictures = drawing.natural_images() / np.float32(255)
    chosen = [np.flatnonzero((pictures == image).all(axis=(1, 2, 3))).item() for image in empty.images]
    assert pictures.shape == (12, 64, 64, 3)
    assert stats.chisquare(np.bincount(chosen, minlength=12)).pvalue > 1e-3


# ------------------------------------------------------------------------------------- seeds, parts, blocks


def test_an_image_does_not_depend_on_how_many_are_made_nor_on_the_setting():
    few, many = (images("simple-fr", n, background="noise", seed=4) for n in (2, 40))
    first = many[np.flatnonzero(many.number < 2)]
    np.testing.assert_array_equal(few.images, first.images)
    np.testing.assert_array_equal(few.boxes, first.boxes)
    other = images("complex-cr1", 2, background="noise", seed=4)
    code = rules.feature_codes(few.features)
    for index, of_other in enumerate(rules.feature_codes(other.features)):
        same = np.flatnonzero((code == of_other) & (few.number == other.number[index])).item()
        np.testing.assert_array_equal(few.images[same], other.images[index])


def test_blocks_are_parts_of_the_whole():
    whole = images("complex-cr2", 70, background="noise")
    rows, blocks = zip(*image_blocks("complex-cr2", 70, background="noise"), strict=True)
    assert [row.start for row in rows] == [0, BLOCK_IMAGES, 2 * BLOCK_IMAGES]
    assert rows[-1].stop == len(whole) == 700
    for name in ("images", "boxes", "label", "primary", "secondary", "bucket", "number", "features"):
        joined = np.concatenate([getattr(block, name) for block in blocks])
        np.testing.assert_array_equal(joined, getattr(whole, name))


def test_seeds_and_parts_are_independent():
    first, seed, part = (
        images("simple-nr", 50, **chosen).boxes[:, 1, 0] for chosen in ({}, {"seed": 1}, {"part": "train"})
    )
    for other in (seed, part):
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.15
    np.testing.assert_array_equal(first, images("simple-nr", 50).boxes[:, 1, 0])


def test_the_same_images_under_another_setting():
    made = images("complex-cr1", 2)
    other = made.under("simple-nr")
    assert other.images is made.images
    has_character = made.features[:, 1] > 0
    np.testing.assert_array_equal(other.label[has_character], made.features[has_character, 1] - 1)
    assert (other.label[~has_character] == -1).all()
    assert (other.bucket[~has_character] == -1).all()
    assert not other.primary[~has_character].any()
    np.testing.assert_array_equal(other.under("complex-cr1").primary, made.primary)


@pytest.mark.parametrize("order", [("patch", "character", "switch"), ("switch", "character", "patch")])
def test_objects_added_one_by_one(order):
    steps = objects_added("complex-cr1", "patch-B-switch", 4, order=order, background="noise", seed=9)
    whole = images("complex-cr1", 4, background="noise", seed=9)
    whole = whole[whole.bucket == 9]
    np.testing.assert_array_equal(steps[-1].images, whole.images)
    np.testing.assert_array_equal(steps[-1].label, whole.label)
    assert (steps[0].boxes == -1).all()
    for name, before, after in zip(order, steps, steps[1:], strict=False):
        index = rules.OBJECTS.index(name)
        np.testing.assert_array_equal(after.boxes[:, index], whole.boxes[:, index])
        for image in range(4):
            row0, row1, col0, col1 = after.boxes[image, index]
            changed = (before.images[image] != after.images[image]).any(axis=-1)
            assert changed.any()
            changed[row0:row1, col0:col1] = False
            assert not changed.any()
    has_bucket = {"patch": -1, "switch": 1}  # complex-cr1 has no images of a patch alone
    assert (steps[1].label == has_bucket[order[0]]).all()


def test_a_bucket_without_all_objects_has_fewer_steps():
    steps = objects_added("simple-fr", "A-switch", 2)
    assert [step.features[0].tolist() for step in steps] == [[0, 0, 0], [0, 1, 0], [0, 1, 2]]


# ------------------------------------------------------------------------------------------ natural images


def test_a_folder_of_natural_images(tmp_path):
    rng = np.random.default_rng(0)
    for name, shape in (("b.PNG", (64, 64, 3)), ("a.png", (40, 90, 3)), ("grey.png", (64, 64))):
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image", encoding="utf-8")
    found = drawing.natural_images(tmp_path)
    assert found.shape == (3, 64, 64, 3)
    with Image.open(tmp_path / "b.PNG") as picture:
        np.testing.assert_array_equal(found[1], np.asarray(ImageEnhance.Brightness(picture).enhance(0.7)))
        np.testing.assert_allclose(found[1], np.asarray(picture) * 0.7, atol=1)
    empty = images("simple-fr", 6, background="natural", natural=tmp_path)[:6]
    levels = np.rint(empty.images * 255).astype(np.uint8)
    assert all((found == image).all(axis=(1, 2, 3)).any() for image in levels)


def test_folders_that_hold_no_images_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no image .*; give another folder"):
        images("simple-fr", 1, background="natural", natural=tmp_path)
    with pytest.raises(DataError, match="absent: no such folder"):
        images("simple-fr", 1, background="natural", natural=tmp_path / "absent")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "good.png")
    whole = (tmp_path / "good.png").read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        (tmp_path / "bad.png").write_bytes(content)
        with pytest.raises(DataError, match=r"bad.png: damaged or no image .*; remove or replace it"):
            images("simple-fr", 1, background="natural", natural=tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"setting": "complex-cr5"}, "setting 'complex-cr5' is unknown; .*did you mean 'complex-cr"),
        ({"n": 0}, "n 0 is no number of images"),
        ({"n": 2.5}, "n 2.5 is no number of images"),
        ({"n": True}, "n True is no number of images"),
        ({"part": "tset"}, "part 'tset' is unknown; give 'train' or 'test'; did you mean 'test'"),
        ({"seed": -1}, "seed -1 is not usable"),
        ({"seed": 2**31}, "seed 2147483648 is not usable"),
        ({"background": "grey"}, "background 'grey' is unknown; give black, white, noise, natural"),
        ({"natural": "folder"}, "background 'black' reads no folder"),
    ],
)
def test_bad_arguments_are_refused(changed, message):
    with pytest.raises(DataError, match=message):
        images(**{"setting": "simple-fr", "n": 1, **changed})


def test_bad_steps_and_features_are_refused():
    with pytest.raises(DataError, match=r"no bucket 'patch-switch-A'; .*did you mean"):
        objects_added("simple-fr", "patch-switch-A", 1)
    with pytest.raises(DataError, match=r"order .*: does not name each object once"):
        objects_added("simple-fr", "patch", 1, order=("patch", "switch"))
    with pytest.raises(DataError, match=r"features: \(0, 3, 0\) is not valid"):
        rules.feature_codes([(0, 3, 0)])
    with pytest.raises(DataError, match=r"features: shape \(1, 2\) of int64"):
        rules.feature_codes([(0, 3)])


# -------------------------------------------------------------------------------------------------- files


def test_a_dataset_has_named_dimensions():
    made = images("simple-fr", 1)
    dataset = made.to_dataset()
    assert dataset["image"].dims == ("sample", "y", "x", "channel")
    np.testing.assert_array_equal(dataset["box"].sel(object="switch", bound="col1"), made.boxes[:, 2, 3])
    np.testing.assert_array_equal(dataset["primary"], made.primary)


def test_a_file_gives_back_what_was_written(tmp_path):
    train, test = (images("complex-fr", 3, part=part, background="noise") for part in rules.PARTS)
    files.write_npz(tmp_path / "made.npz", train, test)
    with np.load(tmp_path / "made.npz") as archive:
        assert set(files.KEYS) <= set(archive.files)
        assert archive["test_primary"].dtype == np.int16
        primary = archive["test_primary"]
        np.testing.assert_array_equal(primary[test.primary], test.boxes[test.primary])
        assert (primary[~test.primary] == -1).all()
    for wanted, found in zip((train, test), files.read_npz(tmp_path / "made.npz"), strict=True):
        for name in ("images", "boxes", "label", "primary", "secondary", "bucket", "number", "features"):
            np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
            assert getattr(found, name).dtype == getattr(wanted, name).dtype


def published_boxes(boxes, mask):
    """Return boxes as the published program stores them: for each image a list of arrays of objects."""
    listed = np.empty(len(boxes), dtype=object)
    for image in range(len(boxes)):
        listed[image] = [np.array(box.tolist(), dtype=object) for box in boxes[image][mask[image]]]
    return listed


def published_file(path, train, test, **changed):
    arrays = {}
    for part, made in (("train", train), ("test", test)):
        arrays |= {f"x_{part}": made.images, f"y_{part}": made.label}
        arrays[f"{part}_primary"] = published_boxes(made.boxes, made.primary)
        arrays[f"{part}_secondary"] = published_boxes(made.boxes, made.secondary)
    arrays |= changed
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.mark.parametrize("setting", ["simple-fr", "complex-fr", "complex-cr3"])
def test_a_published_file_is_read_only_when_trusted(tmp_path, setting):
    train, test = (images(setting, 2, part=part, tight_boxes=False) for part in rules.PARTS)
    path = published_file(tmp_path / "textbox.npz", train, test)
    with pytest.raises(DataError, match=r"textbox.npz: holds pickled objects, .*; give trust_pickle=True"):
        files.read_npz(path)
    for wanted, found in zip((train, test), files.read_npz(path, trust_pickle=True), strict=True):
        np.testing.assert_array_equal(found.images, wanted.images)
        np.testing.assert_array_equal(found.label, wanted.label)
        np.testing.assert_array_equal(found.primary, wanted.primary)
        np.testing.assert_array_equal(found.secondary, wanted.secondary)
        told = wanted.primary | wanted.secondary
        np.testing.assert_array_equal(found.boxes, np.where(told[..., None], wanted.boxes, -1))
        assert (found.features == -1).all()
        with pytest.raises(DataError, match=r"features: \(-1, -1, -1\) is not valid"):
            found.under("simple-fr")


def test_published_boxes_of_equal_number_need_no_pickle(tmp_path):
    train = test = images("simple-nr", 1, tight_boxes=False)[:2]  # a character alone
    one, none = train.boxes[:, 1:2].astype(np.int64), np.empty((2, 0))
    changed = {
        f"{part}_{name}": box for part in rules.PARTS for name, box in (("primary", one), ("secondary", none))
    }
    found, _ = files.read_npz(published_file(tmp_path / "textbox.npz", train, test, **changed))
    np.testing.assert_array_equal(found.boxes, train.boxes)
    assert found.primary.tolist() == [[False, True, False]] * 2
    assert not found.secondary.any()


def objects(*boxes):
    """Return boxes of the two images as pickled objects: these for the first one, none for the other."""
    listed = np.empty(2, dtype=object)
    listed[:] = [list(boxes), []]
    return listed


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"test_primary": None}, "lacks test_primary"),
        ({"x_train": np.zeros((2, 32, 32, 3))}, r"x_train is \(2, 32, 32, 3\) of float64"),
        ({"y_test": np.zeros(2)}, r"y_test \(2,\) of float64"),
        ({"test_secondary": np.empty((3, 0))}, "test_secondary is of 3 images, not 2"),
        ({"train_primary": objects((0, 10, 0, 10), (9, 19, 9, 19))}, "image 0 has two boxes of a patch"),
        ({"train_primary": objects((0, 10, 0))}, r"train_primary holds '\(0, 10, 0\)', no box"),
        ({"train_primary": objects((0, 10, 0, 65))}, r"'\(0, 10, 0, 65\)', no box"),
        ({"train_primary": objects((0, None, 0, 9))}, r"'\(0, None, 0, 9\)', no box"),
        ({"train_primary": objects((9, 3, 0, 7))}, r"holds the box \(9, 3, 0, 7\); give rows"),
        ({"train_primary": np.array([1, 2])}, "train_primary .*no box"),
        (
            {"train_primary": objects((0, 10, 0, 10)), "train_secondary": objects((0, 10, 0, 10))},
            "train: an object is primary and secondary",
        ),
        ({"test_bucket": np.zeros(2)}, r"test_bucket is \(2,\) of float64, not \(2,\) of int16"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, changed, message):
    both = images("simple-nr", 1)[:2]
    path = published_file(tmp_path / "bad.npz", both, both, **changed)
    with pytest.raises(DataError, match=f"bad.npz: .*{message}|bad.npz: {message}"):
        files.read_npz(path, trust_pickle=True)


def test_files_that_are_damaged_are_refused(tmp_path):
    both = images("simple-nr", 1)[:2]
    whole = published_file(tmp_path / "whole.npz", both, both).read_bytes()
    for content in (b"", b"text", whole[:2000], whole[: len(whole) // 2]):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"bad.npz: damaged or no npz file"):
            files.read_npz(tmp_path / "bad.npz")
    np.save(tmp_path / "bad.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"bad.npy: damaged or no npz file"):
        files.read_npz(tmp_path / "bad.npy")
    with pytest.raises(DataError, match=r"absent.npz: no such file"):
        files.read_npz(tmp_path / "absent.npz")
    with pytest.raises(DataError, match=r"made.nc: is no name of an npz file"):
        files.write_npz(tmp_path / "made.nc", both, both)
