"""Files of images, sounds and tables that are damaged or not what they should be are told before work begins."""

import os
import struct
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from xairt.benchmarks.chaos_audio import sounds, wav
from xairt.benchmarks.chaos_audio.words import words
from xairt.benchmarks.chaos_media import training
from xairt.benchmarks.chaos_media.metadata import read_rows, whole_number
from xairt.benchmarks.chaos_media.writing import check_files
from xairt.benchmarks.chaos_vision import images
from xairt.errors import DataError
from xairt.selection import read_table

SILENCE = np.zeros((16000, 10), np.int16)


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
    return images.write_images(tmp_path_factory.mktemp("images"), "RBFP", 5, 3)


# ----------------------------------------------------------------------------- before training


def test_good_files_pass(image_folder, tmp_path):
    check_files(images.image_parts(image_folder), images.require_image)
    sounds.write_sounds(tmp_path, "RBFP", 3, 2)
    check_files(sounds.sound_parts(tmp_path), sounds.require_sound)


@pytest.mark.parametrize("mode", ["RGBA", "L", "P"])
def test_images_of_other_modes_are_told_before_the_first_epoch(tmp_path, monkeypatch, mode):
    """The first of two bad files is named, and no epoch has begun."""
    folder = images.write_images(tmp_path, "RBFP", 5, 3)
    for name in ("train/000003.png", "test/000001.png"):
        Image.open(folder / name).convert(mode).save(folder / name)
    epochs = []
    monkeypatch.setattr(training, "_fitted", lambda *given: epochs.append(given))
    parts = images.image_parts(folder)
    with pytest.raises(
        DataError, match=rf"train/000003.png: is 224 x 224 pixels of mode {mode}; give"
    ) as caught:
        training.train_case(
            SimpleNamespace(progress=False), None, parts, images.require_image, None, None, None
        )
    assert "\n" not in str(caught.value)
    assert epochs == []


def test_the_stages_check_their_files(image_folder, tmp_path, monkeypatch):
    from xairt.benchmarks.chaos_audio import stages as audio
    from xairt.benchmarks.chaos_vision import stages as vision

    Image.new("L", (224, 224)).save(tmp_path / "a.png")
    wavfile.write(tmp_path / "a.wav", 8000, SILENCE)
    one = SimpleNamespace(classes=("0", "1"), paths=[])
    for stages, name in ((audio, "a.wav"), (vision, "a.png")):
        bad = SimpleNamespace(classes=("0", "1"), paths=[tmp_path / name])
        monkeypatch.setattr(stages, "parts_of", lambda case, place, bad=bad: (one, bad))
        monkeypatch.setattr(stages, "network_of", lambda *given: None)
        with pytest.raises(DataError, match=rf"{name}: (has 8000 samples|is 224 x 224 pixels of mode L)"):
            stages.train(SimpleNamespace(progress=False, read=None))


def test_pixels_are_not_decoded_by_the_check(image_folder, tmp_path):
    """A file whose pixels are cut off has a header that is right; it is told when it is decoded."""
    whole = (image_folder / "train" / "000000.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    images.require_image(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a.png: damaged or no PNG image \(.*; restore it"):
        images.decoded(tmp_path / "a.png")


def test_an_image_that_is_no_png_is_refused(tmp_path):
    Image.new("RGB", (224, 224)).save(tmp_path / "a.png", format="JPEG")
    with pytest.raises(DataError, match=r"a.png: damaged or no PNG image"):
        images.require_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("rate", "levels", "match"),
    [
        (8000, SILENCE, r"has 8000 samples per second; resample it to 16000"),
        (16000, SILENCE[:, :1], r"has 1 channels; give 10"),
        (16000, SILENCE[:-1], r"has 15999 samples; cut or pad it"),
        (16000, SILENCE.astype(np.float32) + 1.5, r"holds 32-bit floats; write it as 16-bit PCM"),
        (16000, SILENCE.astype(np.int32), r"holds 32-bit PCM; write it as 16-bit PCM"),
        (16000, SILENCE.astype(np.uint8), r"holds 8-bit PCM; write it as 16-bit PCM"),
    ],
)
@pytest.mark.parametrize("read", [sounds.require_sound, sounds.heard])
def test_sounds_of_other_kinds_are_refused(tmp_path, rate, levels, match, read):
    wavfile.write(tmp_path / "a.wav", rate, levels)
    with pytest.raises(DataError, match=rf"a.wav: {match}"):
        read(tmp_path / "a.wav")


def test_sounds_of_another_byte_order_are_refused(tmp_path):
    (tmp_path / "a.wav").write_bytes(noted(SILENCE, ">", 10))
    with pytest.raises(DataError, match=r"a.wav: holds big-endian 16-bit PCM; write it as 16-bit PCM"):
        sounds.require_sound(tmp_path / "a.wav")


NOTES = {"even": b"abcd\4\0\0\0even", "odd": b"abcd\3\0\0\0odd\0"}


@pytest.mark.parametrize("before", [b"fmt ", b"data"], ids=["first", "middle"])
@pytest.mark.parametrize("note", NOTES)
def test_sounds_with_notes_pass_where_tensorflow_reads_them(tmp_path, before, note):
    import tensorflow as tf

    from xairt.training.streaming import read_wav

    path = tmp_path / "a.wav"
    wavfile.write(path, 16000, SILENCE + 7)
    begin, end = path.read_bytes().split(before)
    path.write_bytes(begin + NOTES[note] + before + end)
    np.testing.assert_array_equal(wav.read_wav(path)[1], (SILENCE + 7) / 2**15)
    read = read_wav((16000, 10), 16000)
    if before == b"data" and note == "even":
        np.testing.assert_array_equal(read(str(path)), sounds.heard(path))
        return
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Unexpected field|No data chunk"):
        read(str(path))
    with pytest.raises(DataError, match=r"a.wav: has notes before its sound that TensorFlow cannot read"):
        sounds.require_sound(path)


def test_readers_of_training_convert_nothing(tmp_path):
    import tensorflow as tf

    from xairt.training.streaming import file_batches, read_png, read_wav

    Image.new("RGBA", (4, 4)).save(tmp_path / "rgba.png")
    Image.new("L", (4, 4)).save(tmp_path / "grey.png")
    wavfile.write(tmp_path / "slow.wav", 8000, SILENCE[:50])
    cases = {
        "rgba.png": read_png((4, 4, 3)),
        "grey.png": read_png((4, 4, 3)),
        "slow.wav": read_wav((50, 10), 16_000),
    }
    for name, read in cases.items():
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"4,4,[41]|has not 16000 samples per second"
        ):
            list(file_batches([tmp_path / name], [0], read, 1))
    assert len(list(file_batches([tmp_path / "slow.wav"], [0], read_wav((50, 10), 8000), 1))) == 1


# ------------------------------------------------------------------------------------ WAV files


def noted(levels: np.ndarray, order: str = "<", n_channels: int = 1) -> bytes:
    """A WAV file with notes of odd and even length before and after its sound."""
    frame = 2 * n_channels
    body = struct.pack(order + "4sIHHIIHH", b"fmt ", 16, 1, n_channels, 16000, 16000 * frame, frame, 16)
    sound = struct.pack(order + "4sI", b"data", 2 * levels.size) + levels.astype(order + "i2").tobytes()
    note = struct.pack(order + "4sI", b"abcd", 3) + b"odd\0"
    body = b"WAVE" + note + body + note + sound + struct.pack(order + "4sI", b"even", 2) + b"ok"
    return struct.pack(order + "4sI", b"RIFF" if order == "<" else b"RIFX", len(body)) + body


@pytest.mark.parametrize(
    ("order", "coding"), [("<", "16-bit PCM"), (">", "big-endian 16-bit PCM")], ids=["little", "big"]
)
def test_notes_beside_the_sound_are_passed_over(tmp_path, recwarn, order, coding):
    levels = np.arange(-500, 500)
    (tmp_path / "a.wav").write_bytes(noted(levels, order))
    rate, sound = wav.read_wav(tmp_path / "a.wav")
    assert rate == 16000
    np.testing.assert_array_equal(sound[:, 0] * 2**15, levels)
    assert wav.read_header(tmp_path / "a.wav") == wav.Header(coding, 16000, 1, 1000, plain=False)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("dtype", "coding"),
    [
        ("u1", "8-bit PCM"),
        ("<i2", "16-bit PCM"),
        ("<i4", "32-bit PCM"),
        ("<f4", "32-bit floats"),
    ],
)
def test_headers_and_values_of_all_codings(tmp_path, dtype, coding):
    levels = (np.arange(30).reshape(10, 3) * 4).astype(dtype)
    wavfile.write(tmp_path / "a.wav", 22050, levels)
    assert wav.read_header(tmp_path / "a.wav") == wav.Header(coding, 22050, 3, 10, plain=True)
    full = {"u": 2**7, "f": 1}.get(levels.dtype.kind, 2 ** (8 * levels.itemsize - 1))
    expected = (levels.astype(np.float64) - (128 if dtype == "u1" else 0)) / full
    np.testing.assert_allclose(wav.read_wav(tmp_path / "a.wav")[1], expected, rtol=1e-6)


@pytest.mark.parametrize("read", [wav.read_wav, wav.read_header, wav.one_second])
def test_a_recording_that_is_cut_short_is_refused(tmp_path, read):
    wavfile.write(tmp_path / "a.wav", 16000, np.ones(16000, np.int16))
    os.truncate(tmp_path / "a.wav", 44 + 10_000)
    with pytest.raises(DataError, match=r"a.wav: damaged or no WAV file \(it ends 22000 bytes too early\)"):
        read(tmp_path / "a.wav")


@pytest.mark.parametrize("kept", range(44))
def test_a_header_that_is_cut_short_is_refused(tmp_path, kept):
    wavfile.write(tmp_path / "a.wav", 16000, np.ones(16000, np.int16))
    os.truncate(tmp_path / "a.wav", kept)
    with pytest.raises(DataError, match=r"a.wav: (damaged or no WAV file|is empty)"):
        wav.read_header(tmp_path / "a.wav")


def test_a_damaged_format_is_refused(tmp_path):
    whole = noted(np.zeros(9))
    begin = whole.index(b"fmt ")
    for change in (struct.pack("<I", 8), struct.pack("<I", 2**31)):
        (tmp_path / "a.wav").write_bytes(whole[: begin + 4] + change + whole[begin + 8 :])
        with pytest.raises(DataError, match=r"a.wav: damaged or no WAV file"):
            wav.read_wav(tmp_path / "a.wav")
    (tmp_path / "a.wav").write_bytes(whole[: begin + 20] + b"\0\0" + whole[begin + 22 :])
    with pytest.raises(DataError, match=r"a.wav: damaged or no WAV file"):
        wav.read_header(tmp_path / "a.wav")


# ------------------------------------------------------------------------------------ labels


@pytest.mark.parametrize("label", ["..", ".", "a\\b", "C:"])
def test_labels_that_cannot_name_a_folder_are_refused(tmp_path, label):
    spoken = tmp_path / "words"
    spoken.mkdir()
    for take in range(2):
        for word in ("yes", label):
            wavfile.write(spoken / f"{word}_bob_{take}.wav", 16000, np.ones(20, np.int16))
    for call in (words, lambda source: sounds.write_sounds(tmp_path / "set", "RBFP", 4, 4, words_of=source)):
        with pytest.raises(DataError, match=r"_bob_0.wav: its label '.*' cannot name a folder; rename it"):
            call(spoken)
    assert [path.name for path in tmp_path.iterdir()] == ["words"]


def test_folders_that_metadata_cannot_name_are_refused(tmp_path):
    for label in ("yes", "a:b"):
        (tmp_path / label).mkdir()
        wavfile.write(tmp_path / label / "0.wav", 16000, np.ones(20, np.int16))
    with pytest.raises(DataError, match=r"a:b/0.wav: its label 'a:b' cannot name a folder"):
        words(tmp_path)


# ------------------------------------------------------------------------------------ tables


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("96", 96), ("96.0", 96), (" 7 ", 7), ("192", 192)])
def test_whole_numbers(text, number):
    assert whole_number({"x": text}, "x", 193, "a.csv line 2") == number


@pytest.mark.parametrize(
    "text", ["1_0", "１２", "٣", "1e1", "+1", "-0", "0x1", "nan", "inf", ".0", "1.5", "9" * 5000, "1\n2", ""]
)
def test_what_is_no_whole_number(text):
    with pytest.raises(
        DataError, match=r"a.csv line 2: x is .*, out of range; give a whole number"
    ) as caught:
        whole_number({"x": text}, "x", 193, "a.csv line 2")
    assert "\n" not in str(caught.value)


def test_a_doubled_column_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "metadata.csv").write_text("file_name,label,label\na.png,1,2\n")
    with pytest.raises(DataError, match=r"metadata.csv: names the column 'label' twice; keep one"):
        list(read_rows(tmp_path, ("label",)))


def table(folder, rows):
    """A table whose rows begin in line 2."""
    path = folder / "table.csv"
    path.write_text("\n".join(["a,b,y", *rows]), encoding="utf-8")
    return path


ROWS = [f"{k},{k * k},{k % 3}" for k in range(20)]


def test_a_number_of_many_digits_is_a_number(tmp_path):
    found = read_table(table(tmp_path, [*ROWS, "12345678901234567890123,-5,1"]), "y")
    assert found.x[-1].tolist() == [12345678901234567890123.0, -5.0]
    assert found.x[:-1, 0].tolist() == list(range(20))


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([*ROWS, "red,1,2"], 22),
        ([*ROWS, "12345678901234567890123,1,2", "red,1,2"], 23),
        ([*ROWS[:10], "", "   ", *ROWS[10:], "red,1,2", ""], 24),
        (["", *ROWS[:10], "red,1,2"], 13),
        ([*ROWS[:10], '"1\n2",1,2', "red,1,2"], 12),
    ],
)
def test_the_line_of_what_is_no_number(tmp_path, rows, line):
    with pytest.raises(DataError, match=rf"column 'a' holds '.*' in line {line}, which is no number"):
        read_table(table(tmp_path, rows), "y")


def test_the_line_of_a_missing_value(tmp_path):
    rows = [*ROWS[:5], "", *ROWS[5:], "1,,2", "1,,2"]
    with pytest.raises(DataError, match=r"column 'b' has no value in 2 rows, the first in line 23;"):
        read_table(table(tmp_path, rows), "y")


def test_columns_without_a_name_after_a_blank_line(tmp_path):
    rows = ["", *(f"{row},4" for row in ROWS)]
    with pytest.raises(DataError, match=r"line 3 has 4 columns, line 1 names 3; name each column once"):
        read_table(table(tmp_path, rows), "y")
