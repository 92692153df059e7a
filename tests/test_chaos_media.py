"""Data sets of ChaosMining: what is written is read back, and what others give is checked before it is opened."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from xairt.benchmarks.chaos_audio import sounds, wav
from xairt.benchmarks.chaos_audio.words import FORMANTS, background, recordings, synthetic_word, words
from xairt.benchmarks.chaos_media.metadata import part_folder, read_rows
from xairt.benchmarks.chaos_media.settings import MediaSettings, media_cases
from xairt.benchmarks.chaos_media.variants import VARIANTS, of_part, variant_of
from xairt.benchmarks.chaos_vision import images
from xairt.benchmarks.chaos_vision.backgrounds import photographs
from xairt.benchmarks.chaos_vision.foregrounds import foregrounds
from xairt.errors import DataError

CIFAR = "images/cifar10_jpeg_subset_200train_50test_per_class.npz"


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
    return images.write_images(tmp_path_factory.mktemp("images"), "SBRP", 6, 3, seed=4)


@pytest.fixture(scope="module")
def sound_folder(tmp_path_factory):
    return sounds.write_sounds(tmp_path_factory.mktemp("sounds"), "RBRP", 6, 3, seed=4)


# ---------------------------------------------------------------------------------------- variants


def test_variants():
    assert {name: (v.structural, v.random_position) for name, v in VARIANTS.items()} == {
        "RBFP": (False, False),
        "RBRP": (False, True),
        "SBFP": (True, False),
        "SBRP": (True, True),
    }
    with pytest.raises(DataError, match=r"variant 'RBPF': unknown; give one of RBFP.*did you mean"):
        variant_of("RBPF")


def test_parts_share_no_file():
    for n in (2, 3, 5, 11):
        names = [str(k) for k in range(n)]
        train, test = of_part(names, "train"), of_part(names, "test")
        assert test
        assert train
        assert sorted(train + test) == sorted(names)


def test_cases():
    settings = MediaSettings(variant=["RBFP", "SBRP"], seed=[0, 1])
    assert [name for name, _ in media_cases(settings, ["tcn"])] == [
        "RBFP.tcn.seed0",
        "RBFP.tcn.seed1",
        "SBRP.tcn.seed0",
        "SBRP.tcn.seed1",
    ]


# ------------------------------------------------------------------------------------------ images


def test_images_are_read_as_they_were_drawn(image_folder):
    _, test = images.image_parts(image_folder)
    drawn = images.drawing("SBRP", "test", seed=4)
    for number in range(3):
        picture, label, corner, _ = drawn.image(number)
        np.testing.assert_array_equal(images.decoded(test.paths[number]), picture)
        assert test.label[number] == label
        assert tuple(test.position[number]) == corner


def test_foreground_lies_at_row_position_x(image_folder):
    train, _ = images.image_parts(image_folder)
    header = (image_folder / "train" / "metadata.csv").read_text().splitlines()[0]
    assert header == "file_name,foreground_label,background_label,position_x,position_y"
    known = {picture.tobytes() for picture in foregrounds().pictures}
    for path, (row, column) in zip(train.paths, train.position, strict=True):
        assert images.decoded(path)[row : row + 32, column : column + 32].tobytes() in known


def test_image_does_not_depend_on_their_number(tmp_path):
    few = images.write_images(tmp_path / "few", "RBFP", 2, 1, seed=1)
    more = images.write_images(tmp_path / "more", "RBFP", 4, 2, seed=1)
    for name in ("000000.png", "000001.png"):
        assert (few / "train" / name).read_bytes() == (more / "train" / name).read_bytes()
    assert len(images.read_images(more / "train")) == 4
    images.write_images(more, "RBFP", 2, 1, seed=2)
    assert len(images.read_images(more / "train")) == 2
    assert (few / "train" / "000000.png").read_bytes() != (more / "train" / "000000.png").read_bytes()


def test_fixed_and_random_corners():
    fixed, free = images.drawing("RBFP"), images.drawing("SBRP")
    assert {fixed.image(number)[2] for number in range(3)} == {(96, 96)}
    corners = np.array([free.image(number)[2] for number in range(300)])
    assert corners.min() == pytest.approx(0, abs=4)
    assert 187 <= corners.max() <= 191


def test_noise_is_uniform_and_independent():
    picture = images.drawing("RBFP").image(5)[0].astype(np.float64)
    noise = picture[:96]
    assert noise.min() == 0
    assert noise.max() == 255
    assert noise.mean() == pytest.approx(127.5, abs=1.5)
    assert noise.std() == pytest.approx(np.sqrt((256**2 - 1) / 12), abs=1)
    assert abs(np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]) < 0.02


def test_training_and_test_share_no_foreground():
    train, test = foregrounds(part="train"), foregrounds(part="test")
    assert len(train) + len(test) == 1797
    assert not {p.tobytes() for p in train.pictures} & {p.tobytes() for p in test.pictures}
    assert set(test.label) == set(range(10))


def test_photographs_of_the_parts_share_no_pixel(tmp_path):
    for k in range(3):
        Image.fromarray(np.full((100, 300, 3), 50 * k, np.uint8)).save(tmp_path / f"{k}.png")
    parts = [photographs(tmp_path, part) for part in ("train", "test")]
    assert not set(parts[0].files) & set(parts[1].files)
    crop, number = parts[1].crop(np.random.default_rng(0))
    assert crop.shape == (224, 224, 3)
    assert number == 0
    assert (crop == 100).all()
    assert [photographs(part=part).count for part in ("train", "test")] == [2, 2]


def test_scaled_images(image_folder):
    _, test = images.image_parts(image_folder)
    data = images.image_dataset(test)
    assert data["image"].dims == ("sample", "y", "x", "channel")
    assert data["image"].dtype == np.float32
    assert data["image"].values.min() >= -1
    assert data["image"].values.max() <= 1
    np.testing.assert_array_equal(
        np.rint((data["image"].values[1] + 1) * 127.5), images.decoded(test.paths[1]).astype(np.float32)
    )
    row, column = test.position[0]
    assert data["box"].values[0].tolist() == [row, row + 32, column, column + 32]


def test_cifar_foregrounds(data_dir):
    made = foregrounds(data_dir / CIFAR, "test")
    assert made.pictures.shape == (500, 32, 32, 3)
    assert made.classes[0] == "airplane"
    label = images.drawing("RBFP", "test", foregrounds_of=data_dir / CIFAR).image(0)[1]
    assert 0 <= label < 10


def test_published_folders_are_read(image_folder, tmp_path):
    """A test part called val, further columns, another order of them, and numbers with a point."""
    (tmp_path / "val").mkdir()
    os.link(image_folder / "test" / "000000.png", tmp_path / "val" / "a.png")
    text = "split,position_y,position_x,foreground_label,file_name\nx,1.0,2.0,7,a.png\n"
    (tmp_path / "val" / "metadata.csv").write_text(text)
    found = images.read_images(part_folder(tmp_path, "test"))
    assert found.label.tolist() == [7]
    assert found.position.tolist() == [[2, 1]]
    with pytest.raises(DataError, match=r"has no train/metadata.csv; give the folder above train and test"):
        part_folder(tmp_path, "train")


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"x_train": np.zeros((2, 32, 32, 3), np.uint8)}, "lacks y_train"),
        ({"x_train": np.zeros((2, 28, 28, 3), np.uint8), "y_train": [0, 1]}, r"\(2, 28, 28, 3\) of uint8"),
        ({"x_train": np.zeros((2, 32, 32, 3)), "y_train": [0, 1]}, "of float64 for 2 labels"),
        ({"x_train": np.zeros((2, 32, 32, 3), np.uint8), "y_train": [0, 10]}, "no whole numbers from 0 to 9"),
        ({"x_train": np.array([{}]), "y_train": [0]}, "damaged, pickled or no npz file"),
    ],
)
def test_bad_foregrounds(tmp_path, arrays, match):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=match):
        foregrounds(tmp_path / "a.npz")


def test_bad_arguments_of_images(tmp_path):
    with pytest.raises(DataError, match=r"n_train 0: no number of samples"):
        images.write_images(tmp_path, "RBFP", 0, 1)
    with pytest.raises(DataError, match=r"variant RBFP: its background is noise; leave the photographs out"):
        images.drawing("RBFP", backgrounds_of=tmp_path)
    with pytest.raises(DataError, match=r"holds 0 images .* training and test need one each"):
        images.drawing("SBFP", backgrounds_of=tmp_path)
    with pytest.raises(DataError, match=r"part 'trian': unknown"):
        images.drawing("RBFP", "trian")
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a.png: damaged or no image"):
        images.drawing("SBFP", backgrounds_of=tmp_path).image(0)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written"):
        images.write_images(tmp_path / "file" / "below", "RBFP", 1, 1)


# -------------------------------------------------------------------------------------- metadata.csv


def _folder(
    tmp_path: Path, row: str, header: str = "file_name,foreground_label,position_x,position_y"
) -> Path:
    folder = tmp_path / "part"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"")
    (tmp_path / "secret.png").write_bytes(b"")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "metadata.csv").write_text(f"{header}\n{row}\n")
    return folder


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ("../secret.png,0,96,96", r"line 2: file_name '../secret.png' leads out of the folder"),
        ("sub/../../secret.png,0,96,96", r"line 2: .*leads out of the folder"),
        ("/etc/passwd,0,96,96", r"line 2: file_name '/etc/passwd' leads out of the folder"),
        (r"..\secret.png,0,96,96", r"leads out of the folder"),
        ("C:/secret.png,0,96,96", r"leads out of the folder"),
        ("link.png,0,96,96", r"line 2: file_name 'link.png' is a link out of the folder"),
        ("b.png,0,96,96", r"line 2: file_name 'b.png' is no file; restore it"),
        (".,0,96,96", r"is a link out of the folder|is no file"),
        ("a.png,0,96,96\n./a.png,0,96,96", r"line 3: names './a.png' a second time"),
        (
            "a.png,10,96,96",
            r"line 2: foreground_label is '10', out of range; give a whole number from 0 to 9",
        ),
        ("a.png,cat,96,96", r"foreground_label is 'cat', out of range"),
        ("a.png,0,193,96", r"position_x is '193', out of range; give a whole number from 0 to 192"),
        ("a.png,0,96,-1", r"position_y is '-1', out of range"),
        ("a.png,0,96,9.5", r"position_y is '9.5', out of range"),
        ("a.png,0,96,nan", r"position_y is 'nan', out of range"),
        ("a.png,0,96", r"line 2: has no position_y; give one value for each column"),
        ("a.png,0,96,96,1", r"line 2: has more values than columns"),
        ('"a.png,0,96,96', r"no table of text"),
    ],
)
def test_bad_rows(tmp_path, row, match):
    with pytest.raises(DataError, match=match):
        images.read_images(_folder(tmp_path, row))


def test_bad_tables(tmp_path):
    folder = _folder(tmp_path, "a.png,0", header="file_name,foreground_label")
    with pytest.raises(DataError, match=r"metadata.csv: lacks the column position_x, position_y"):
        images.read_images(folder)
    (folder / "metadata.csv").write_text("file_name,foreground_label,position_x,position_y\n")
    with pytest.raises(DataError, match=r"metadata.csv: has no row"):
        images.read_images(folder)
    (folder / "metadata.csv").write_bytes(b"file_name\n\xff\xfe\n")
    with pytest.raises(DataError, match=r"no table of text"):
        list(read_rows(folder, ()))
    (folder / "metadata.csv").unlink()
    with pytest.raises(DataError, match=r"metadata.csv"):
        images.read_images(folder)


@pytest.mark.parametrize(
    ("picture", "match"),
    [
        (np.zeros((224, 200, 3), np.uint8), r"is 200 x 224 pixels of mode RGB; give 224 x 224 of mode RGB"),
        (np.zeros((224, 224), np.uint8), r"is 224 x 224 pixels of mode L"),
        (None, r"damaged or no PNG image"),
    ],
)
def test_bad_images(tmp_path, picture, match):
    if picture is None:
        (tmp_path / "a.png").write_bytes(b"\x89PNG")
    else:
        Image.fromarray(picture).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=match):
        images.decoded(tmp_path / "a.png")


# ------------------------------------------------------------------------------------------ sounds


def test_sounds_are_read_as_they_were_mixed(sound_folder):
    _, test = sounds.sound_parts(sound_folder)
    mixed = sounds.mixing("RBRP", "test", seed=4)
    for number, heard in enumerate(sounds.load_sounds(test)):
        sound, label, channel = mixed.sound(number)
        assert np.abs(heard - sound).max() <= 1 / 2**15
        assert test.classes[test.label[number]] == mixed.words.classes[label]
        assert test.position[number] == channel


def test_layout_of_sounds(sound_folder):
    lines = (sound_folder / "train" / "metadata.csv").read_text().splitlines()
    assert lines[0] == "file_name,label,position"
    name, label, _ = lines[1].split(",")
    assert name == f"{label}/000000.wav"
    assert label in FORMANTS
    rate, levels = wavfile.read(sound_folder / "train" / name)
    assert rate == 16000
    assert levels.shape == (16000, 10)
    assert levels.dtype == np.int16


def test_noise_of_sounds():
    sound, _, channel = sounds.mixing("RBFP").sound(0)
    assert channel == 0
    assert sound.dtype == np.float32
    assert np.abs(sound).max() <= 1
    assert sound[:, 1:].std() == pytest.approx(0.25, rel=0.02)
    assert (np.abs(sound[:, 1:]) == 1).any()
    channels = {sounds.mixing("SBRP").sound(number)[2] for number in range(12)}
    assert len(channels) > 4


def test_structural_background_is_scaled():
    sound = background((), np.random.default_rng(1))
    assert np.quantile(np.abs(sound), 0.99) == pytest.approx(1, abs=0.01)
    assert np.abs(sound).max() == 1


def test_synthetic_words_have_their_formants():
    """The strongest frequencies of a vowel lie near its first formant."""
    for word in ("ah", "eh"):
        sound = synthetic_word(word, np.random.default_rng(2))
        power = np.abs(np.fft.rfft(sound)) ** 2
        frequency = np.fft.rfftfreq(16000, 1 / 16000)
        strongest = frequency[power.argmax()]
        assert abs(strongest - FORMANTS[word][0]) < 200
    assert not (words().clip(0) == words(part="test").clip(0)).all()


def test_spoken_digits(data_dir):
    folder = data_dir / "speech" / "fsdd"
    for split, n_test in (("take", 120), ("speaker", 100)):
        train, test = words(folder, "train", split), words(folder, "test", split)
        assert (len(train), len(test)) == (600 - n_test, n_test)
        assert not set(train.files) & set(test.files)
        assert test.classes == tuple("0123456789")
    speakers = {Path(file).stem.split("_")[1] for file in test.files}
    assert not speakers & {Path(file).stem.split("_")[1] for file in train.files}
    clip = test.clip(0)
    rate, levels = wavfile.read(test.files[0])
    assert rate == 8000
    assert clip.shape == (16000,)
    np.testing.assert_allclose(clip[: 2 * len(levels) : 2][200:-200], levels[200:-200] / 2**15, atol=0.02)


def test_folders_of_labels(tmp_path):
    for label in ("yes", "no", "_background_noise_"):
        (tmp_path / label).mkdir()
        for speaker in ("aa", "bb"):
            for take in range(2):
                wavfile.write(
                    tmp_path / label / f"{speaker}_nohash_{take}.wav", 16000, np.zeros(20, np.int16)
                )
    train, test = words(tmp_path, "train", "speaker"), words(tmp_path, "test", "speaker")
    assert train.classes == ("no", "yes")
    assert {Path(file).name[:2] for file in test.files} == {"bb"}
    assert [Path(file).name for file in words(tmp_path, "test").files] == [
        f"{speaker}_nohash_1.wav" for _ in range(2) for speaker in ("aa", "bb")
    ]
    with pytest.raises(DataError, match=r"split 'talker': unknown; give 'speaker' or 'take'"):
        words(tmp_path, "test", "talker")
    (tmp_path / "yes" / "cc.wav").write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"cc.wav: damaged or no WAV file"):
        wav.one_second(tmp_path / "yes" / "cc.wav")


def test_bad_words(tmp_path):
    with pytest.raises(DataError, match=r"no such folder; give one that holds WAV files"):
        words(tmp_path / "none")
    with pytest.raises(DataError, match=r"holds no WAV files of two labels"):
        words(tmp_path)
    (tmp_path / "word.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"word.wav: its name does not tell what it is"):
        words(tmp_path)
    with pytest.raises(DataError, match=r"holds 1 WAV files, training and test need one each"):
        recordings(tmp_path)
    with pytest.raises(DataError, match=r"variant RBFP: its background is noise; leave the recordings out"):
        sounds.mixing("RBFP", recordings_of=tmp_path)
    (tmp_path / "word.wav").rename(tmp_path / "a_x_0.wav")
    (tmp_path / "b_y_0.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"too few takes to train and to test with"):
        words(tmp_path)


@pytest.mark.parametrize(
    ("rate", "shape", "match"),
    [
        (8000, (16000, 10), r"has 8000 samples per second; resample it to 16000"),
        (16000, (16000, 2), r"has 2 channels; give 10"),
        (16000, (15999, 10), r"has 15999 samples; cut or pad it to 16000"),
    ],
)
def test_bad_sounds(tmp_path, rate, shape, match):
    wavfile.write(tmp_path / "a.wav", rate, np.zeros(shape, np.int16))
    with pytest.raises(DataError, match=rf"a.wav: {match}"):
        sounds.heard(tmp_path / "a.wav")


def test_bad_rows_of_sounds(sound_folder, tmp_path):
    train, _ = sounds.sound_parts(sound_folder)
    (tmp_path / "a.wav").write_bytes(b"")
    table = tmp_path / "metadata.csv"
    table.write_text("file_name,label,position\na.wav,ah,10\n")
    with pytest.raises(DataError, match=r"line 2: position is '10', out of range; .* from 0 to 9"):
        sounds.read_sounds(tmp_path)
    table.write_text("file_name,label,position\na.wav,uh,1\n")
    with pytest.raises(DataError, match=r"line 2: label 'uh' is unknown; give one of ah"):
        sounds.read_sounds(tmp_path, train.classes)
    table.write_text("file_name,label,position\n../a.wav,ah,1\n")
    with pytest.raises(DataError, match=r"line 2: file_name '../a.wav' leads out of the folder"):
        sounds.read_sounds(tmp_path)


# --------------------------------------------------------------------------- noise drawn anew


def test_noise_drawn_anew_leaves_the_foreground_and_changes_with_the_epoch():
    from xairt.benchmarks.chaos_audio import stages as sounds
    from xairt.benchmarks.chaos_vision import stages as images

    corner = np.array([[96, 96], [0, 191], [191, 0]])
    pictures = np.full((3, 224, 224, 3), 0.5, np.float32)
    changed = [images.with_other_noise(pictures, corner, [epoch, 0]).numpy() for epoch in (1, 1, 2)]
    for picture, (row, column) in zip(changed[0], corner, strict=True):
        inside = np.zeros((224, 224), bool)
        inside[row : row + 32, column : column + 32] = True
        assert (picture[inside] == 0.5).all()
        assert (picture[~inside] == 0.5).mean() < 0.01
        assert abs(picture[~inside].mean()) < 0.01
        assert picture[~inside].std() == pytest.approx(3**-0.5, rel=0.01)
    assert (changed[0] == changed[1]).all()
    assert (changed[0] == changed[2]).mean() < 0.1

    heard = np.full((2, 16000, 10), 0.5, np.float32)
    sound = sounds.with_other_noise(heard, np.array([0, 7]), [1, 0]).numpy()
    assert (sound[0, :, 0] == 0.5).all()
    assert (sound[1, :, 7] == 0.5).all()
    assert sound[1, :, :7].std() == pytest.approx(0.25, rel=0.02)


def test_redrawn_batches_hold_every_file_with_its_own_place():
    import tensorflow as tf

    from xairt import training
    from xairt.benchmarks.chaos_media.training import redrawn

    position = np.array([5, 6, 7, 8, 9])

    def read(name):
        return tf.strings.to_number(name)[tf.newaxis]

    def redraw(x, place, key):
        return tf.concat(
            [
                x,
                tf.cast(place, tf.float32)[:, tf.newaxis],
                tf.fill(tf.shape(x), float(0)) + tf.cast(key[0], tf.float32),
            ],
            1,
        )

    plain = training.shuffled_file_batches(["0", "1", "2", "3", "4"], np.arange(5), read, 2, 3)
    passes = []
    for epoch in (1, 1, 2):
        batches = list(redrawn(plain, position, redraw, 2, 3)(epoch))
        assert [len(y) for _, y in batches] == [2, 2, 1]
        x, y = (np.concatenate([batch[k].numpy() for batch in batches]) for k in (0, 1))
        assert (x[:, 0] == y).all()
        assert (x[:, 1] == y + 5).all()
        passes.append(x)
    assert (passes[0] == passes[1]).all()
    assert sorted(passes[2][:, 0]) == [0, 1, 2, 3, 4]
    assert set(passes[2][:, 2]).isdisjoint(passes[0][:, 2])
