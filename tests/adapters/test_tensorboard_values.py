"""What the TensorBoard adapter writes, read back with TensorBoard's own loader."""

from __future__ import annotations

import hashlib
import io
import math
import wave

import numpy as np
import pytest
from PIL import Image as Pillow

from tracking_core import InvalidValueError, RunInfo, open_tracker
from tracking_core.values import Audio, Figure, Histogram, Image, Table, Text, Video
from tracking_tensorboard.testing import entries, find_run, read_run

PIXELS = np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)


@pytest.fixture
def log_dir(tmp_path):
    return tmp_path / "tb"


@pytest.fixture
def opened(log_dir):
    """Open trackers for the run "r"; `read` finishes them and gives what is stored."""

    class Opened:
        run = RunInfo(id="r", name="run r")
        tracker = open_tracker(f"tensorboard:{log_dir}", run)

        def read(self):
            self.tracker.finish()
            return read_run(find_run(log_dir, "r"))

        def entries(self):
            self.tracker.finish()
            return list(entries(find_run(log_dir, "r")))

    opened = Opened()
    yield opened
    opened.tracker.finish()


def test_scalars_are_rounded_to_float32_and_nothing_else(opened):
    cases = {
        "third": (1 / 3, np.float32(1 / 3)),
        "big": (1e300, math.inf),
        "bigger": (-(10**308), -math.inf),
        "tiny": (1e-320, 0.0),
        "nan": (math.nan, math.nan),
        "inf": (math.inf, math.inf),
        "ninf": (-math.inf, -math.inf),
        "flag": (True, 1.0),
        "int": (16777217, 16777216.0),
        "np": (np.float32(0.1), np.float32(0.1)),
    }
    opened.tracker.log_scalars({name: value for name, (value, _) in cases.items()}, step=5, wall_time=1234.5)
    stored = {row.name: row for row in opened.read().scalars}
    assert set(stored) == set(cases)
    for name, (_, expected) in cases.items():
        assert np.array_equal(stored[name].value, float(expected), equal_nan=True), name
    assert {(row.axis, row.step, row.time) for row in stored.values()} == {("step", 5, 1234.5)}


def test_one_call_is_one_event(opened):
    opened.tracker.log_scalars({"a": 1, "b": {"c": 2, "d": 3}}, step=1)
    opened.tracker.log_scalars({"a": 4}, step=2)
    rows = [entry for entry in opened.entries() if entry.kind == "scalars"]
    assert [(row.name, row.value.item()) for row in rows] == [("a", 1), ("b/c", 2), ("b/d", 3), ("a", 4)]
    assert len({row.event for row in rows[:3]}) == 1
    assert rows[3].event == rows[0].event + 1


def test_jax_values(opened):
    jnp = pytest.importorskip("jax.numpy")
    opened.tracker.log_scalars({"x": jnp.float32(0.25), "b": jnp.bfloat16(1.5), "n": jnp.array([3])}, step=jnp.array(7))
    opened.tracker.log_images({"i": jnp.ones((2, 3))}, step=7)
    opened.tracker.log_histogram("h", jnp.arange(4.0), step=7, bins=3)
    stored = opened.read()
    assert [(row.name, row.step, row.value) for row in stored.scalars] == [("x", 7, 0.25), ("b", 7, 1.5), ("n", 7, 3)]
    assert stored.images[0].pixels.tolist() == [[[255]] * 3] * 2
    assert stored.histograms[0].value.counts.tolist() == [1, 1, 2]


def test_a_call_that_raises_writes_nothing(opened):
    with pytest.raises(InvalidValueError, match="bad"):
        opened.tracker.log_scalars({"good": 1.0, "bad": "text"}, step=0)
    with pytest.raises(InvalidValueError, match="channels first"):
        opened.tracker.log_images({"good": PIXELS, "bad": np.zeros((3, 8, 9))}, step=0)
    with pytest.raises(InvalidValueError):
        opened.tracker.log_scalars({"good": 1.0}, step=0.5)
    stored = opened.read()
    assert (stored.scalars, stored.images) == ([], [])


def test_inputs_are_left_as_they_were(opened):
    scalars = {"a": {"b": np.float32(1)}}
    array = np.linspace(-1, 1, 12).reshape(3, 4)
    before = array.copy()
    config = {"a": [1, {"b": 2}]}
    opened.tracker.log_scalars(scalars, step=0)
    opened.tracker.log_histogram("h", array, step=0)
    opened.tracker.log_images({"i": array}, step=0, value_range=(-1, 1))
    opened.tracker.log_config(config)
    assert scalars == {"a": {"b": np.float32(1)}}
    assert config == {"a": [1, {"b": 2}]}
    assert np.array_equal(array, before)


def test_images_of_one_name_are_under_one_tag(opened):
    opened.tracker.log_images({"batch": PIXELS, "one": PIXELS[0]}, step=2, wall_time=10.25)
    opened.tracker.log_images({"batch": PIXELS[:2]}, step=3)
    every = opened.entries()
    batches = [entry for entry in every if entry.tag == "batch"]
    assert [len(entry.value) - 2 for entry in batches] == [3, 2]
    assert batches[0].value[:2].tolist() == [b"5", b"4"]
    assert batches[0].plugin == "images"
    stored = opened.read()
    assert [(image.name, image.step) for image in stored.images] == [("batch", 2)] * 3 + [("one", 2)] + [
        ("batch", 3)
    ] * 2
    assert all(
        np.array_equal(image.pixels, pixels) for image, pixels in zip(stored.images, [*PIXELS, PIXELS[0], *PIXELS[:2]])
    )
    assert stored.images[0].time == 10.25


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixels_come_back_exactly(opened, channels):
    pixels = np.random.default_rng(channels).integers(0, 256, (7, 9, channels), np.uint8)
    opened.tracker.log_images({"i": pixels}, step=0)
    assert np.array_equal(opened.read().images[0].pixels, pixels)


def test_captions_stand_beside_the_images(opened):
    texts = ["a | b", None, "1. # *x* <b>\\ `c` [l](u)"]
    opened.tracker.log_images({"i": Image(PIXELS, caption=texts), "plain": PIXELS[0]}, step=0)
    opened.tracker.log_images({"i": Image(PIXELS[0], caption="later")}, step=1)
    stored = opened.read()
    assert [image.caption for image in stored.images] == [*texts, None, "later"]
    assert {entry.tag: entry.plugin for entry in opened.entries()}["i (captions)"] == "text"


def test_histograms_come_back_without_loss(opened):
    counts, edges = [3, 0, 2**40 + 1], [-1e300, -0.1, 0.1, 1e300]
    opened.tracker.log_histogram("ready", Histogram(counts, edges), step=1, wall_time=3.5)
    opened.tracker.log_histogram("tuple", (np.array([0.5, 1.25]), np.array([0.0, 1.0, 2.0])), step=1)
    values = np.random.default_rng(0).normal(size=1000)
    opened.tracker.log_histogram("values", values, step=2, bins=17)
    ready, pair, counted = (one.value for one in opened.read().histograms)
    assert ready.counts.tolist() == counts
    assert ready.edges.tolist() == edges
    assert pair.counts.tolist() == [0.5, 1.25]
    expected_counts, expected_edges = np.histogram(values, bins=17)
    assert counted.counts.tolist() == expected_counts.tolist()
    assert np.array_equal(counted.edges, expected_edges)


def test_values_that_are_not_finite_are_counted_beside_the_histogram(opened):
    opened.tracker.log_histogram("w", [1.0, 2.0, math.nan, math.nan, math.inf, -math.inf], step=4, bins=2)
    opened.tracker.log_histogram("w", [1.0, 2.0], step=5, bins=2)
    every = opened.entries()
    beside = {
        entry.tag: (entry.plugin, entry.step, entry.value.item()) for entry in every if entry.tag.startswith("w (")
    }
    assert beside == {
        "w (nan)": ("scalars", 4, 2.0),
        "w (posinf)": ("scalars", 4, 1.0),
        "w (neginf)": ("scalars", 4, 1.0),
    }
    first, second = (one.value for one in opened.read().histograms)
    assert (first.nan, first.posinf, first.neginf, first.count) == (2, 1, 1, 2)
    assert (second.nan, second.posinf, second.neginf, second.count) == (0, 0, 0, 2)


def test_a_histogram_of_nothing(opened):
    opened.tracker.log_histogram("none", [], step=0, bins=3)
    opened.tracker.log_histogram("nan", [math.nan], step=0, bins=3)
    none, nan = (one.value for one in opened.read().histograms)
    assert none.counts.tolist() == nan.counts.tolist() == [0, 0, 0]
    assert (none.nan, nan.nan) == (0, 1)


def test_text(opened):
    opened.tracker.log_text("notes", Text("# Title\n\nsome *words*, ü, 数"), step=3, wall_time=7.0)
    opened.tracker.log_text("odd", "a\udc80b", step=3)
    notes, odd = opened.read().texts
    assert notes == ("notes", "step", 3, "# Title\n\nsome *words*, ü, 数", 7.0)
    assert odd.value == "a\\udc80b"


def test_tables_are_markdown(opened):
    table = Table(
        ["a|b", "*c*", "d"],
        [[1, "x | y", None], [0.1, "two\nlines <b>&amp;</b>", True], [-5, "\\|`", math.inf], [2, "", [1, 2]]],
    )
    opened.tracker.log_table("t", table, step=2)
    opened.tracker.log_table("rows", [{"x": 1}, {"x": 2}], step=2)
    opened.tracker.log_table("long", {"n": list(range(1500))}, step=2)
    first, rows, long = opened.read().tables
    assert first.value == table
    assert rows.value == Table(["x"], [[1], [2]])
    assert [row[0] for row in long.value.rows] == list(range(1000))
    text = next(entry for entry in opened.entries() if entry.tag == "long").value.item().decode()
    assert text.endswith("… and 500 more rows, in the run store.")


def test_audio_is_a_wav_file(opened):
    samples = np.stack([np.sin(np.arange(100) / 5), np.cos(np.arange(100) / 5)], axis=1)
    opened.tracker.log_audio("tone", Audio(samples, 8000, "both | ears"), step=1)
    opened.tracker.log_audio("raw", samples[:, 0], step=1, sample_rate=4000)
    every = {entry.tag: entry for entry in opened.entries()}
    assert every["tone"].plugin == "audio"
    with wave.open(io.BytesIO(every["tone"].value.reshape(-1)[0])) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (8000, 2, 100)
    assert every["tone (captions)"].value.item().decode() == "1. both \\| ears"
    tone, raw = opened.read().audio
    assert np.array_equal(tone.value, Audio(samples).samples)
    assert np.array_equal(raw.value, Audio(samples[:, 0]).samples)


def test_video_is_an_animated_gif(opened):
    frames = np.zeros((4, 6, 8, 3), np.uint8)
    for number in range(4):
        frames[number, number] = [255, 0, 0]
    opened.tracker.log_video("v", frames, step=1, fps=10)
    entry = next(entry for entry in opened.entries() if entry.tag == "v")
    assert entry.plugin == "images"
    assert entry.value[:2].tolist() == [b"8", b"6"]
    with Pillow.open(io.BytesIO(entry.value[2])) as image:
        assert (image.format, image.n_frames, image.info["duration"]) == ("GIF", 4, 100)
    (video,) = opened.read().videos
    assert np.array_equal(video.value, frames)


def test_a_video_that_tensorboard_cannot_play_is_named(opened, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"\0" * 2048)
    opened.tracker.log_video("v", Video(path), step=1)
    stored = opened.read()
    assert stored.videos == []
    (note,) = stored.extra["note"]
    assert (note.tag, note.plugin) == ("v", "text")
    assert "mp4 file of 2.0 KiB" in note.value.item().decode()


def test_figures_are_pictures(opened):
    out = io.BytesIO()
    Pillow.fromarray(PIXELS[0]).save(out, format="PNG")
    opened.tracker.log_figure("f", Figure(out.getvalue()), step=1)
    opened.tracker.log_figure("p", Figure.from_plotly('{"data": []}'), step=1)
    stored = opened.read()
    (figure,) = stored.figures
    assert np.array_equal(figure.value, PIXELS[0])
    assert stored.images == []
    assert "plotly" in stored.extra["note"][0].value.item().decode()


def test_artifacts_are_listed(opened, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "w|1.bin").write_bytes(b"weights")
    (tmp_path / "model" / "c.json").write_bytes(b"{}")
    ref = opened.tracker.log_artifact(
        tmp_path / "model",
        name="vae",
        type="model",
        metadata={"loss": 0.5, "by": "é"},
        aliases=("best", "x"),
        version=3,
    )
    again = opened.tracker.log_artifact({"a": b"1"}, name="vae", type="model")
    assert (str(ref), ref.type, ref.aliases) == ("vae:v3", "model", ("best", "x"))
    digests = {"c.json": hashlib.sha256(b"{}").hexdigest(), "w|1.bin": hashlib.sha256(b"weights").hexdigest()}
    lines = "".join(f"{path}\0{digest}\n" for path, digest in sorted(digests.items()))
    assert ref.digest == hashlib.sha256(lines.encode()).hexdigest()
    assert again.version is None
    first, second = opened.read().artifacts
    assert first.files == {path: digest.encode() for path, digest in digests.items()}
    assert (first.name, first.type, first.aliases, first.metadata) == (
        "vae",
        "model",
        ("best", "x"),
        {"loss": 0.5, "by": "é"},
    )
    assert list(second.files) == ["a"]
    assert [entry.step for entry in opened.entries() if entry.tag == "_run_/artifacts/vae"] == [0, 1]


def test_large_files_of_an_artifact_are_not_read_again(opened, tmp_path, monkeypatch):
    monkeypatch.setattr("tracking_tensorboard.listing.LARGEST_HASHED", 5)
    ref = opened.tracker.log_artifact({"small": b"12345", "large": b"123456"}, name="a")
    assert ref.digest == ""
    (artifact,) = opened.read().artifacts
    assert artifact.files["small"].decode() == hashlib.sha256(b"12345").hexdigest()
    assert artifact.files["large"].decode() == "(too large to read again)"
