"""Video, audio, text, figures, tables and records: small values that know how to become bytes, read back here by
Pillow and the wave module.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import io
import json
import math
import pathlib
import uuid
import wave

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from tracking_core.errors import InvalidValueError
from tracking_core.values import (
    Audio,
    Figure,
    Histogram,
    Image,
    Record,
    Table,
    Text,
    Video,
    to_audio,
    to_figure,
    to_table,
    to_text,
    to_video,
)

RNG = np.random.default_rng(0)


def refused(do, *words):
    with pytest.raises(InvalidValueError) as caught:
        do()
    for word in words:
        assert word in str(caught.value), str(caught.value)


def gif_frames(data):
    """(frames as RGB arrays, durations in ms) of a GIF file."""
    with Pillow.open(io.BytesIO(data)) as image:
        assert image.format == "GIF"
        frames, durations = [], []
        for number in range(image.n_frames):
            image.seek(number)
            frames.append(np.array(image.convert("RGB")))
            durations.append(image.info["duration"])
        return frames, durations, image.info.get("loop")


# ---------------------------------------------------------------- video


@pytest.mark.parametrize(
    ("shape", "stored"),
    [((5, 4, 6), (5, 4, 6, 1)), ((5, 4, 3), (5, 4, 3, 1)), ((3, 4, 6), (3, 4, 6, 1)), ((1, 4, 6), (1, 4, 6, 1)),
     ((5, 4, 6, 1), (5, 4, 6, 1)), ((5, 4, 6, 3), (5, 4, 6, 3)), ((5, 4, 6, 4), (5, 4, 6, 4))],
)  # fmt: skip
@pytest.mark.parametrize(
    "make", [np.asarray, jnp.asarray, np.ndarray.tolist, list], ids=["numpy", "jax", "lists", "frames"]
)
def test_frames_of_every_shape(shape, stored, make):
    array = RNG.integers(0, 256, shape, dtype=np.uint8)
    if make is list and shape == (5, 4, 3):
        array = array[..., None]  # a frame alone is an image of 4x3 anyway
    video = Video(make(array))
    assert video.frames.dtype == np.uint8
    np.testing.assert_array_equal(video.frames, array.reshape(stored))


def test_frames_are_scaled_like_images():
    array = np.array([0.0, 0.5, 1.0], np.float32).reshape(3, 1, 1) * np.ones((1, 4, 5), np.float32)
    assert Video(array).frames[:, 0, 0, 0].tolist() == [0, 128, 255]
    assert Video(array, value_range=(-1, 1)).frames[:, 0, 0, 0].tolist() == [128, 191, 255]
    assert to_video(array, fps=3, value_range=(0, 2)).frames[:, 0, 0, 0].tolist() == [0, 64, 128]
    refused(lambda: Video(array * 9), "value_range")
    refused(lambda: Video(array * math.nan), "not finite")


def test_frames_may_be_images_and_share_no_memory():
    array = RNG.integers(0, 256, (3, 4, 5), dtype=np.uint8)
    video = Video([Image(array[0]), Pillow.fromarray(array[1]), array[2]])
    np.testing.assert_array_equal(video.frames[..., 0], array)
    for made in (Video(array), Video(list(array))):
        assert not np.shares_memory(made.frames, array)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (np.zeros((4, 5)), "[T, H, W]"), (np.zeros((0, 4, 5)), "no pixels"), (np.zeros((2, 3, 4, 5)), "channels first"),
        (np.zeros((2, 5, 6, 2)), "is not an image"), ([], "empty"), ([np.zeros((4, 5)), np.zeros((5, 4))], "one size"),
        (None, "real numbers"), (3.0, "[T, H, W]"), ("none.mp4", "no video file"), (b"\0\0\0\x18ftypmp42", "GIF"), (object(), "object"),
    ],
    ids=lambda value: str(getattr(value, "shape", type(value).__name__)),
)  # fmt: skip
def test_what_is_no_video_is_refused(data, word):
    refused(lambda: Video(data), word)


@pytest.mark.parametrize("fps", [0, -1, math.nan, math.inf, "fast", None])
def test_frame_rates_are_positive_numbers(fps):
    refused(lambda: Video(np.zeros((2, 4, 5)), fps))


@pytest.mark.parametrize(
    ("fps", "delay"), [(10, 100), (8, 120), (25, 40), (1, 1000), (0.001, 655_350), (1000, 20), (np.float32(4), 250)]
)
def test_gif_frames_and_times(fps, delay):
    array = np.zeros((3, 8, 9), np.uint8)
    array[1], array[2, 2:4] = 100, 255
    frames, durations, loop = gif_frames(Video(array, fps).gif())
    assert len(frames) == 3
    for frame, expected in zip(frames, array, strict=True):
        np.testing.assert_array_equal(frame, np.repeat(expected[..., None], 3, axis=-1))
    assert durations == [delay] * 3
    assert loop == 0


@pytest.mark.parametrize("channels", [3, 4])
def test_gif_in_colour(channels):
    array = np.zeros((2, 8, 9, channels), np.uint8)
    array[0, ..., 0], array[1, ..., 2] = 255, 255
    if channels == 4:
        array[..., 3] = 255
    frames, _, _ = gif_frames(Video(array).gif())
    assert [frame[0, 0].tolist() for frame in frames] == [[255, 0, 0], [0, 0, 255]]


def test_encoded_files_stay_as_they_are(tmp_path):
    gif = Video(RNG.integers(0, 256, (2, 4, 5), dtype=np.uint8)).gif()
    path = tmp_path / "clip.GIF"
    path.write_bytes(gif)
    for video in (Video(gif), Video(path), Video(str(path)), to_video(path)):
        assert (video.encoded, video.format, video.frames) == (gif, "gif", None)
        assert video.gif() == gif
    other = tmp_path / "clip.MP4"
    other.write_bytes(b"\0\0\0\x18ftypmp42")
    video = Video(other, fps=30)
    assert (video.encoded, video.format, video.fps) == (other.read_bytes(), "mp4", 30.0)
    refused(video.gif, "mp4")


@pytest.mark.parametrize("name", ["clip", "clip.", "clip.a b", "clip.\n", "clip." + "x" * 100, "clip.ünï"])
def test_strange_endings_become_no_part_of_file_names(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\0\0\0\x18ftyp")
    assert Video(path).format == "bin"


def test_videos_are_equal_by_content():
    array = RNG.integers(0, 256, (2, 4, 5), dtype=np.uint8)
    assert Video(array) == Video(array.copy()) == to_video(Video(array), fps=99)
    assert Video(array) != Video(array, fps=9)
    assert Video(array) != Video(array[:1])
    assert Video(array) != Video(Video(array).gif())
    assert Video(Video(array).gif()) == Video(Video(array).gif())
    assert Video(array) != array.tolist()
    assert repr(Video(array)) == "Video(2x4x5x1, fps=8)"


# ---------------------------------------------------------------- audio


def wav_of(audio):
    with wave.open(io.BytesIO(audio.wav()), "rb") as file:
        assert file.getsampwidth() == 2
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return samples.reshape(-1, file.getnchannels()), file.getframerate()


@pytest.mark.parametrize("shape", [(40,), (40, 1), (40, 2), (1,), (2, 2)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_samples_become_16_bit_pcm(shape, dtype):
    array = np.linspace(-1, 1, int(np.prod(shape))).reshape(shape).astype(dtype)
    for samples in (array, jnp.asarray(array, array.dtype) if dtype is not np.float64 else array):
        found, rate = wav_of(Audio(samples, 8000))
        assert rate == 8000
        expected = np.rint(array.astype(np.float64) * 32767).reshape(shape[0], -1)
        np.testing.assert_array_equal(found, expected)


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=50), st.integers(1, 2**31 - 1))
def test_int16_is_kept_exactly_through_a_file(samples, rate):
    audio = Audio(np.array(samples, np.int16), rate if rate < 2**30 else 48_000)
    again = Audio.from_wav(audio.wav())
    assert again == audio
    assert again.samples[:, 0].tolist() == samples


def test_overshoot_is_clipped_and_more_is_refused():
    assert Audio([1.005, -1.005, 0.0]).samples[:, 0].tolist() == [32767, -32767, 0]
    refused(lambda: Audio([1.5, 0.0]), "1.5", "[-1, 1]", "divide by the peak")
    refused(lambda: Audio([math.nan, 0.0]), "nan")
    refused(lambda: Audio([math.inf, 0.0]), "inf")


@pytest.mark.parametrize(
    ("samples", "word"),
    [
        ([], "[T]"), (np.zeros((0, 2)), "[T]"), (0.5, "[T]"), (np.zeros((4, 2, 2)), "[T]"), (np.zeros((2, 4000)), "x.T"),
        (np.zeros((1, 4000)), "x.T"), (np.zeros(4, np.int32), "int16"), (np.zeros(4, np.uint8), "uint8"), ("a", "real numbers"),
        (np.zeros(4, complex), "real numbers"), (None, "real numbers"),
    ],
    ids=lambda value: str(getattr(value, "shape", type(value).__name__)),
)  # fmt: skip
def test_what_is_no_sound_is_refused(samples, word):
    refused(lambda: Audio(samples), word)


@pytest.mark.parametrize("rate", [0, -1, 1.5, 2**31, "16000", None, True])
def test_sample_rates_are_positive_ints(rate):
    refused(lambda: Audio([0.0], rate), "sample_rate")


def test_sample_rates_may_be_numpy_integers():
    assert to_audio([0.0], sample_rate=np.int64(8000)).sample_rate == 8000


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_damaged_wav_files_are_refused(cut):
    data = Audio([0.0] * 10).wav()
    refused(lambda: Audio.from_wav(data[:cut]))
    refused(lambda: Audio.from_wav(b"not a file" * 10), "not a WAV file")


def test_wav_of_other_widths_is_refused():
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 1, 8000, 0, "NONE", ""))
        file.writeframes(b"\0\1")
    refused(lambda: Audio.from_wav(out.getvalue()), "16-bit")


def test_audio_is_copied_and_equal_by_content():
    array = np.array([1, 2, 3], np.int16)
    audio = Audio(array, caption="c")
    array[:] = 0
    assert audio.samples[:, 0].tolist() == [1, 2, 3]
    assert audio == Audio(np.array([1, 2, 3], np.int16), caption="c") == to_audio(audio, sample_rate=9)
    assert audio != Audio(np.array([1, 2, 3], np.int16))
    assert audio != Audio(np.array([1, 2, 3], np.int16), 9, "c")
    assert audio != Audio(np.array([1, 2, 4], np.int16), caption="c")
    assert audio != 3
    assert repr(audio) == "Audio(3x1, sample_rate=16000)"


# ---------------------------------------------------------------- text and figures


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_text_is_any_str(text):
    assert to_text(text) == text
    assert isinstance(to_text(text), Text)
    assert to_text(to_text(text)) is not None


@pytest.mark.parametrize("value", [None, 3, b"bytes", ["a"]])
def test_what_is_no_text_is_refused(value):
    refused(lambda: to_text(value), "log_text", "expected a str")


class MatplotlibLike:
    """Stands in for a matplotlib figure, which is not installed: `savefig` writes a real PNG file."""

    def __init__(self, colour=(1, 2, 3)):
        self.colour = colour

    def savefig(self, file, *, format, **keywords):  # noqa: A002 - matplotlib's word
        assert format == "png"
        Pillow.new("RGB", (6, 4), self.colour).save(file, format="PNG")


class PlotlyLike:
    """Stands in for a plotly figure, which is not installed."""

    def to_plotly_json(self):
        return {"data": []}

    def to_json(self):
        return '{"data":[]}'


def test_figures():
    figure = to_figure(MatplotlibLike())
    assert figure.plotly is None
    assert figure.image.pixels.shape == (4, 6, 3)
    assert figure.image.pixels[0, 0].tolist() == [1, 2, 3]
    assert to_figure(figure) is figure
    assert figure == Figure(figure.image.png()) != Figure(MatplotlibLike((4, 5, 6)))
    plotly = to_figure(PlotlyLike())
    assert (plotly.image, plotly.plotly) == (None, '{"data":[]}')
    assert plotly == Figure.from_plotly('{"data":[]}') != Figure.from_plotly("{}")
    assert plotly != figure
    assert figure != 3
    for wrong in (3, None, "figure", b"no png", np.zeros((4, 4))):
        refused(lambda wrong=wrong: to_figure(wrong))


# ---------------------------------------------------------------- tables

cells = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3))


@given(st.integers(0, 4).flatmap(lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), max_size=4).map(lambda rows: (width, rows))))  # fmt: skip
def test_plain_cells_are_kept(given_):
    width, rows = given_
    names = [f"c{number}" for number in range(width)]
    table = Table(names, rows)
    assert table.columns == tuple(names)
    assert repr([list(row) for row in table.rows]) == repr(rows)
    assert table == Table(names, rows)
    assert hash(table) == hash(Table(names, rows))
    assert to_table(table) is table
    # By rows and by columns it is the same table.
    if rows and width:
        assert to_table([dict(zip(names, row, strict=True)) for row in rows]) == table
        assert to_table({name: [row[at] for row in rows] for at, name in enumerate(names)}) == table


class Digit(enum.IntEnum):
    SEVEN = 7


@pytest.mark.parametrize(
    ("cell", "plain"),
    [
        (np.float32(0.5), 0.5), (np.int64(3), 3), (np.True_, True), (jnp.float32(0.5), 0.5), (np.str_("a"), "a"),
        (np.array(2, ml_dtypes.bfloat16), 2.0), (np.array(2, ml_dtypes.int4), 2), (Digit.SEVEN, 7),
        (datetime.date(2026, 1, 2), "2026-01-02"), (datetime.datetime(2026, 1, 2, 3, 4), "2026-01-02T03:04:00"),
        (np.datetime64("2026-01-02"), "2026-01-02"), ([1, np.float32(2)], [1, 2.0]), ((1, "a"), [1, "a"]),
        (np.arange(3), [0, 1, 2]), (jnp.arange(2), [0, 1]), (np.array([[1.5]]), [[1.5]]), (Text("md"), "md"), (2**70, 2**70),
    ],
    ids=lambda value: str(getattr(value, "shape", type(value).__name__)),
)  # fmt: skip
def test_other_cells_become_plain(cell, plain):
    ((found,),) = Table(["a"], [[cell]]).rows
    assert found == plain
    assert type(found) is type(plain)


class Colour(enum.Enum):
    RED = 1


class Hostile:
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


CYCLE = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (datetime.timedelta(days=1, seconds=2), "1 day, 0:00:02"), (datetime.time(3, 4), "03:04:00"), (decimal.Decimal("1.50"), "1.50"), (fractions.Fraction(1, 3), "1/3"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"), (pathlib.PurePosixPath("/data/x"), "/data/x"), (Colour.RED, "Colour.RED"), (b"bytes", "b'bytes'"),
        (b"x" * 1000, "<bytes of length 1000>"), (bytearray(b"a"), "b'a'"), (1j, "1j"), (np.complex64(1j), "1j"), ({}, "{}"), ({"a": [1, None], "b": {2.5}}, '{"a": [1, null], "b": [2.5]}'),
        ({3, 1}, "[1, 3]"), (frozenset(), "[]"), (np.timedelta64(3, "s"), "3 seconds"), (range(3), "range(0, 3)"), (print, "<built-in function print>"),
        (Image(np.zeros((2, 3)), "black"), "Image(<numpy.ndarray of shape (2, 3) and dtype float64>, caption='black')"), (Image.from_pixels(np.zeros((2, 3, 1), np.uint8)), "Image(2x3x1, caption=None)"),
        (np.zeros(5000), "<numpy.ndarray of shape (5000,) and dtype float64>"), (pd.Interval(0.5, 1.5), "(0.5, 1.5]"), (pd.Period("2026-01", "M"), "2026-01"),
        (pd.Timedelta(days=1), "1 days 00:00:00"), (Histogram([1], [0, 1]), None), (object(), "<object object>"), (Hostile(), None), (10**5000, None),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
@pytest.mark.parametrize("beside", [[], [object()]], ids=["copied", "converted"])
def test_any_other_cell_becomes_text(cell, text, beside):
    content = [[1, 2], [1, cell], *([3, one] for one in beside)]
    for table in (
        Table(["a", "b"], content),
        to_table({"a": [row[0] for row in content], "b": [row[1] for row in content]}),
    ):
        assert table.rows[0] == (1, 2)
        stored = json.loads(table.json())["rows"][1][1]
        assert isinstance(stored, str)
        assert stored == text or text is None
        if not isinstance(cell, int):
            assert table.rows[1] == (1, stored)


def test_pillow_images_lists_and_missing_values_in_cells():
    def one(cell):
        return Table(["a"], [[cell]]).rows[0][0]

    assert one(Pillow.new("L", (2, 2))).startswith("<PIL.Image.Image image mode=L size=2x2")
    assert one([decimal.Decimal(1), {"a": 1}, b"x"]) == ["1", '{"a": 1}', "b'x'"]
    assert [one(missing) for missing in (pd.NA, pd.NaT, np.datetime64("NaT"), np.ma.masked)] == [None] * 4
    assert "..." in str(one(CYCLE))
    assert one(np.array(["x", 1j], object)) == ["x", "1j"]
    assert one(np.array(["x", "y"])) == ["x", "y"]


def test_a_cell_that_should_have_been_a_number_is_refused():
    gone = jnp.ones(3)
    gone.delete()
    refused(lambda: Table(["a", "weight"], [[1, 2], [1, gone]]), "row 1", "'weight'", "donated")
    jax.jit(lambda x: refused(lambda: Table(["a"], [[x]]), "row 0", "inside jit"))(1.0)


@pytest.mark.parametrize(
    ("columns", "rows", "word"),
    [
        (["a", "a"], [], "each name may appear only once"), ([1, "1"], [], "each name may appear only once"), (["a"], [[1], [1, 2]], "row 1"), (["a", "b"], ["xy"], "row 0"),
        (["a", "b"], [{"a": 1, "b": 2}], "row 0"), (["a"], [3], "row 0"), (["a"], [iter([1])], "row 0"),
    ],
)  # fmt: skip
def test_wrong_tables_are_refused(columns, rows, word):
    refused(lambda: Table(columns, rows), word)


@pytest.mark.parametrize("value", [None, 3, "abc", [], [1, 2], [[1], [2]], {"a": 3}, {"a": "abc"}, {"a": [1], "b": [1, 2]}, {"a": np.array(3)}, object()])  # fmt: skip
def test_what_is_no_table_is_refused(value):
    refused(lambda: to_table(value))


def test_row_mappings_may_lack_cells():
    table = to_table([{"a": 1}, {"b": 2.5, "a": 3}])
    assert (table.columns, table.rows) == (("a", "b"), ((1, None), (3, 2.5)))


def test_columns_may_be_arrays_and_names_anything():
    table = to_table({"x": np.arange(2), 5: jnp.array([0.5, 1.5])})
    assert (table.columns, table.rows) == (("x", "5"), ((0, 0.5), (1, 1.5)))
    assert to_table({}).columns == ()


class PandasLike:
    """Stands in for a data frame of another library that is made like those of pandas."""

    columns, iloc = ["a", "b"], None

    def to_dict(self, orient):
        assert orient == "split"
        return {"index": [7, 9], "columns": ["a", "b"], "data": [[1, np.float64(0.5)], [2, datetime.date(2026, 1, 1)]]}


class PolarsLike:
    """The same, made like those of polars."""

    columns = ["a", "b"]

    def to_dict(self, *, as_series):
        assert as_series is False
        return {"a": [1, 2], "b": ["x", None]}


def test_what_is_like_a_data_frame():
    assert to_table(PandasLike()) == Table(["a", "b"], [[1, 0.5], [2, "2026-01-01"]])
    assert to_table(PolarsLike()) == Table(["a", "b"], [[1, "x"], [2, None]])


COLUMNS = {"n": [3, 7, 2**40], "x": [0.5, math.nan, -math.inf], "s": ["größe", "", "z"], "b": [True, False, True]}
FRAMES = {
    "mapping": lambda c: c,
    "arrays": lambda c: {name: np.array(cells) for name, cells in c.items()},
    "rows": lambda c: [dict(zip(c, row, strict=True)) for row in zip(*c.values(), strict=True)],
    "pandas": pd.DataFrame,
    "polars": lambda c: pl.DataFrame(c, nan_to_null=False),
    "polars, lazy": lambda c: pl.LazyFrame(c).filter(pl.col("n") > 0),
    "pyarrow": pa.table,
    "record batch": lambda c: pa.RecordBatch.from_pydict(c),
    "structured": lambda c: np.array(
        list(zip(*c.values(), strict=True)), [("n", "i8"), ("x", "f8"), ("s", "U9"), ("b", "?")]
    ),
    "records": lambda c: pd.DataFrame(c).to_records(index=False),
}


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("times", [1, 1500])
def test_data_frames_of_every_library_are_one_table(make, times):
    columns = {name: cells * times for name, cells in COLUMNS.items()}
    frame = make(columns)
    for table in (to_table(frame), Table(frame)):
        assert table == Table(list(columns), list(zip(*columns.values(), strict=True)))
        assert {name: [type(row[place]) for row in table.rows[:3]] for place, name in enumerate(table.columns)} == {
            "n": [int] * 3, "x": [float] * 3, "s": [str] * 3, "b": [bool] * 3,
        }  # fmt: skip
        stored = json.loads(table.json())
        assert [[row[place] for row in stored["rows"]] for place in (0, 2, 3)] == [columns[name] for name in "nsb"]
        assert stored["rows"][1][1] == {"$float": "NaN"}


def test_columns_of_data_frames_and_their_missing_values():
    for column in (
        pd.Series([1, 2], name="n"),
        pl.Series("n", [1, 2]),
        {"n": pd.Series([1, 2])},
        {"n": pl.Series([1, 2])},
        {"n": pa.array([1, 2])},
    ):
        assert to_table(column) == Table(["n"], [[1], [2]])
    for column in (pd.Series([1, 2]), pl.Series([1, 2]), pa.array([1, 2]), pa.chunked_array([[1], [2]])):
        assert to_table(column) == Table(["value"], [[1], [2]])
    expected = Table(["i", "s"], [[1, "a"], [None, None]])
    frame = pd.DataFrame({"i": pd.array([1, None], "Int64"), "s": pd.array(["a", None], "string")})
    assert to_table(frame) == expected
    assert to_table(frame.convert_dtypes(dtype_backend="pyarrow")) == expected
    assert to_table(pl.DataFrame({"i": [1, None], "s": ["a", None]})) == expected
    assert to_table(pa.table({"i": [1, None], "s": ["a", None]})) == expected
    assert to_table(pd.DataFrame({"c": pd.Categorical(["x", None]), "t": pd.to_timedelta([1, None], "s")})) == Table(["c", "t"], [["x", "0 days 00:00:01"], [None, None]])  # fmt: skip


def test_an_index_with_a_name_is_a_column():
    frame = pd.DataFrame({"digit": [3, 3, 7], "loss": [0.5, 1.5, 1.0]})
    assert to_table(frame[1:]) == Table(["digit", "loss"], [[3, 1.5], [7, 1.0]])
    assert to_table(frame.groupby("digit").mean()) == Table(["digit", "loss"], [[3, 1.0], [7, 1.0]])
    assert to_table(frame.groupby("digit")["loss"].mean()) == Table(["digit", "loss"], [[3, 1.0], [7, 1.0]])
    levels = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")]))
    assert to_table(levels) == Table(["a/x", "a/y"], [[1, 2]])
    refused(lambda: to_table(pd.DataFrame([[1, 2]], columns=["a", "a"])), "each name may appear only once")


def test_times_are_text_of_the_length_they_need():
    days = np.array(["2026-01-02", "2026-01-03"], "M8[ns]")
    for times in (days, pd.Series(days), pl.Series(days), pa.array(days)):
        assert to_table({"t": times}).rows[1] == ("2026-01-03T00:00:00",)
    odd = days + np.array([0, 250_000_000], "m8[ns]")
    assert to_table({"t": odd}).rows == (("2026-01-02T00:00:00.000",), ("2026-01-03T00:00:00.250",))
    assert to_table({"t": np.array(["NaT", "2026-01-02"], "M8[D]")}).rows == ((None,), ("2026-01-02",))


def test_a_frame_that_is_changed_afterwards_leaves_the_table_alone():
    arrays = {
        "x": np.zeros(3),
        "v": np.zeros((3, 2)),
        "t": np.zeros(3, "M8[s]"),
        "l": [0.0, 0.0, 0.0],
        "o": [[0], [0], [0]],
    }
    frame = pd.DataFrame({"x": np.zeros(3)})
    tables = [to_table(arrays), to_table(frame), to_table(np.zeros(3, [("x", "f8")]))]
    before = repr([table.rows for table in tables])
    tables = [to_table(arrays), to_table(frame), to_table(np.zeros(3, [("x", "f8")]))]
    for name in ("x", "v"):
        arrays[name][:] = 9
    arrays["t"][:] = np.datetime64("2026-01-02")
    arrays["l"][0] = 9.0
    arrays["o"][0].append(9)
    frame.loc[0, "x"] = 9.0
    assert repr([table.rows for table in tables]) == before


def test_columns_of_other_shapes():
    assert to_table({"v": np.arange(4).reshape(2, 2)}).rows == (([0, 1],), ([2, 3],))
    assert to_table({"v": jnp.arange(2.0).astype(jnp.bfloat16)}).rows == ((0.0,), (1.0,))
    assert to_table({"v": np.array([1, 2**64 - 1], np.uint64)}).rows == ((1,), (2**64 - 1,))
    assert to_table({"v": np.array([1, "a", None], object)}).rows == ((1,), ("a",), (None,))
    assert to_table({"v": np.zeros((1, 5000))}).rows == (("<numpy.ndarray of shape (5000,) and dtype float64>",),)
    assert Table(["a", "b"], np.arange(4).reshape(2, 2)).rows == ((0, 1), (2, 3))
    assert (Table(["a"], []).rows, Table([], [[], []]).rows, to_table({"a": []}).rows) == ((), ((), ()), ())
    assert json.loads(Table([], [[], []]).json()) == {"columns": [], "rows": [[], []]}


def test_what_a_library_cannot_read_is_refused():
    refused(lambda: to_table(pl.LazyFrame({"a": [1]}).select("b")), "LazyFrame cannot be read", "ColumnNotFoundError")


def test_tables_are_frozen_and_copied():
    row = [1, [2, 3]]
    table = Table(["a", "b"], [row])
    row[1].append(4)
    row[0] = 9
    assert table.rows == ((1, [2, 3]),)
    with pytest.raises(dataclasses.FrozenInstanceError):
        table.rows = ()
    assert table != Table(["a", "b"], [[1.0, [2, 3]]])
    assert Table(["a"], [[math.nan]]) == Table(["a"], [[math.nan]])
    assert table != 3


# ---------------------------------------------------------------- records


def test_records_are_frozen_and_have_defaults():
    record = Record("scalars", 1, "w", 2.5, data={"loss": 1.0})
    assert (record.step, record.axis, record.data) == (None, "step", {"loss": 1.0})
    assert record == Record("scalars", 1, "w", 2.5, None, "step", {"loss": 1.0})
    assert Record("config", 1, "w", 0.0).data == {}
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.seq = 2
