"""Fallbacks: a tracker with the five methods alone gets everything, as what it has; read back from what it was given."""

from __future__ import annotations

import functools
import gc
import io
import json
import math
import wave
import weakref

import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import wandb
from PIL import Image as Pillow

import tracking_core as tracking
from tests.support.trackers import Five, Full
from tracking_core import fallbacks
from tracking_core.errors import InvalidValueError
from tracking_core.values import Audio, Figure, Histogram, Html, Image, Record, Table, Text, Video

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
TABLE = Table(["digit", "score"], [[3, 0.5], [7, None]])
WHEN = {"step": 7, "step_axis": "epoch"}


def refuse(word):
    raise AssertionError(f"{word} is no JSON")


def artifact(five):
    """The one artifact that was logged: (name, type, file name, bytes, metadata)."""
    ((kind, files, name, type_, metadata, aliases),) = five.calls
    assert kind == "artifact"
    assert aliases == ()
    ((file, content),) = files.items()
    return name, type_, file, content, metadata


# ---------------------------------------------------------------- one function for each kind


def test_a_table_becomes_a_json_artifact():
    five = Five()
    fallbacks.log_table(five, "errors", {"digit": [3, 7], "score": [math.nan, -math.inf], "s": ["\ud800", "é"]}, **WHEN)
    name, type_, file, content, metadata = artifact(five)
    assert (name, type_, file, metadata) == ("errors-epoch-7", "table", "value.json", {"step": 7, "step_axis": "epoch"})
    assert json.loads(content, parse_constant=refuse) == {
        "columns": ["digit", "score", "s"],
        "rows": [{"digit": 3, "score": "NaN", "s": "\ud800"}, {"digit": 7, "score": "-Infinity", "s": "é"}],
    }


@pytest.mark.parametrize(("frames", "shown"), [(1, 1), (4, 4), (16, 16), (17, 9), (100, 15)])
def test_a_video_becomes_a_strip_of_frames(frames, shown):
    five = Five()
    array = np.zeros((frames, 2, 3), np.uint8) + np.arange(frames, dtype=np.uint8)[:, None, None]
    fallbacks.log_video(five, "clip", array, **WHEN, wall_time=2.5)
    ((kind, images, *when),) = five.calls
    assert (kind, when[:3]) == ("images", [7, "epoch", 2.5])
    with Pillow.open(io.BytesIO(images["clip"][0].png())) as strip:
        found = np.array(strip)
    assert found.shape == (2, 3 * shown)
    assert found[0, ::3].tolist() == list(range(0, frames, -(-frames // 16)))


def test_an_encoded_video_becomes_an_artifact(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x18ftyp")
    for value, ending in [(tmp_path / "clip.mp4", "mp4"), (Video(PIXELS).gif(), "gif")]:
        five = Five()
        fallbacks.log_video(five, "clip", value, **WHEN)
        assert artifact(five)[:4] == ("clip-epoch-7", "video", f"value.{ending}", Video(value).encoded)


def test_audio_becomes_a_wav_artifact():
    five = Five()
    fallbacks.log_audio(five, "beep", [0.0, 1.0, -1.0], **WHEN, sample_rate=8000)
    name, type_, file, content, _ = artifact(five)
    assert (name, type_, file) == ("beep-epoch-7", "audio", "value.wav")
    with wave.open(io.BytesIO(content)) as sound:
        assert (sound.getframerate(), sound.getnframes()) == (8000, 3)
        assert np.frombuffer(sound.readframes(3), "<i2").tolist() == [0, 32767, -32767]


def test_text_becomes_an_artifact():
    five = Five()
    fallbacks.log_text(five, "note", "# é \ud800", **WHEN)
    assert artifact(five)[:4] == ("note-epoch-7", "text", "value.md", "# é \ud800".encode("utf-8", "surrogatepass"))


def test_html_becomes_an_artifact():
    five = Five()
    fallbacks.log_html(five, "page", "<b>é</b>", **WHEN)
    assert artifact(five)[:4] == ("page-epoch-7", "html", "value.html", "<b>é</b>".encode())


def test_a_figure_becomes_an_image_and_plotly_an_artifact():
    five = Five()
    fallbacks.log_figure(five, "plot", Figure(Image(PIXELS[0]).png()), **WHEN)
    ((kind, images, *_),) = five.calls
    assert kind == "images"
    np.testing.assert_array_equal(images["plot"][0].pixels, PIXELS[0])
    five = Five()
    fallbacks.log_figure(five, "plot", Figure.from_plotly('{"data":[]}'), **WHEN)
    assert artifact(five)[:4] == ("plot-epoch-7", "figure", "value.plotly.json", b'{"data":[]}')


@pytest.mark.parametrize("kind", ["config", "summary"])
def test_config_and_summary_become_json_artifacts(kind):
    five = Five()
    facts = {"lr": np.float32(0.5), "nan": math.nan, 3: [math.inf, (1, "a")], "deep": {"b": True}, "api_key": "hush"}
    getattr(fallbacks, f"log_{kind}")(five, facts)
    name, type_, file, content, metadata = artifact(five)
    assert (name, type_, file, metadata) == (kind, kind, f"{kind}.json", {})
    assert json.loads(content, parse_constant=refuse) == {
        "lr": 0.5, "nan": "NaN", "3": ["Infinity", [1, "a"]], "deep": {"b": True}, "api_key": "[redacted]",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "value", "normal"),
    [
        ("table", {"a": [1]}, Table(["a"], [[1]])), ("video", PIXELS, Video(PIXELS, 3.0)), ("audio", [0.0], Audio([0.0], 9)),
        ("text", "x", Text("x")), ("html", "<b>", Html("<b>")), ("figure", Image(PIXELS[0]).png(), Figure(Image(PIXELS[0]).png())),
    ],
)  # fmt: skip
def test_a_tracker_with_the_capability_gets_the_value(kind, value, normal):
    full = Full()
    keywords = {"video": {"fps": 3}, "audio": {"sample_rate": 9}}.get(kind, {})
    getattr(fallbacks, f"log_{kind}")(full, "x", value, **WHEN, wall_time=2.5, **keywords)
    assert full.calls == [("media", "x", normal, 7, "epoch", 2.5, {})]
    assert type(full.calls[0][2]) is type(normal)
    with pytest.raises(InvalidValueError):
        getattr(fallbacks, f"log_{kind}")(full, "x", object(), **WHEN)


def test_a_video_is_scaled_before_it_is_handed_on():
    full = Full()
    fallbacks.log_video(full, "x", np.zeros((2, 4, 5)), step=0, value_range=(-1, 1))
    assert (full.calls[0][2].frames == 128).all()


def test_config_and_summary_reach_the_capability_as_they_are():
    full = Full()
    fallbacks.log_config(full, {"a": 1})
    fallbacks.log_summary(full, {"b": 2})
    assert full.calls == [("config", {"a": 1}), ("summary", {"b": 2})]


# ---------------------------------------------------------------- keywords


def test_keywords_are_passed_as_far_as_a_signature_takes_them():
    def some(a, /, b, *, c=None):
        return a, b, c

    def everything(a, **keywords):
        return a, keywords

    assert fallbacks.call(some, 1, b=2, c=3, d=4, a=5) == (1, 2, 3)
    assert fallbacks.call(everything, 1, b=2) == (1, {"b": 2})
    assert fallbacks.call(functools.partial(some, 1), b=2, d=3) == (1, 2, None)
    assert fallbacks.call(dict, a=1) == {"a": 1}
    assert fallbacks.call(Five().log_artifact, {"f": b""}, name="n", version=3, later=1).name == "n"
    with pytest.raises(TypeError):
        fallbacks.call(some, 1, c=3)

    class Callable:
        __hash__ = None

        def __call__(self, a):
            return a

    assert fallbacks.call(Callable(), a=1, b=2) == 1


def test_trackers_of_an_earlier_protocol_go_on_working():
    class Early:
        def __init__(self):
            self.calls = []

        def log_scalars(self, scalars, *, step):
            self.calls.append((scalars, step))

        def log_text(self, name, value, *, step):
            self.calls.append((name, value, step))

    early = Early()
    fallbacks.replay(Record("scalars", 1, "w", 2.5, 3, "epoch", {"x": 1.0}), early)
    fallbacks.replay(Record("text", 2, "w", 2.5, 3, "epoch", {"name": "t", "value": Text("x")}), early)
    fallbacks.log_text(early, "t", "y", step=4, step_axis="epoch", wall_time=1.0)
    assert early.calls == [({"x": 1.0}, 3), ("t", "x", 3), ("t", "y", 4)]


def test_no_tracker_is_kept_alive():
    full = Full()
    gone = weakref.ref(full)
    fallbacks.log_text(tracking.scope(full, "a"), "x", "y", step=0)
    fallbacks.log_text(full, "x", "y", step=0)
    del full
    gc.collect()
    assert gone() is None


# ---------------------------------------------------------------- replay


def record(kind, data, *, step=7):
    return Record(kind, 1, "w", 2.5, step, "epoch" if step is not None else "step", data)


REPLAYED = {
    "scalars": (record("scalars", {"x": 1.0}), [("scalars", {"x": 1.0}, 7, "epoch", 2.5)]),
    "images": (record("images", {"x": [1]}), [("images", {"x": [1]}, 7, "epoch", 2.5, None)]),
    "histogram": (
        record("histogram", {"name": "h", "value": Histogram([1], [0, 1])}),
        [("histogram", "h", Histogram([1], [0, 1]), 7, "epoch", 2.5, 64)],
    ),
    "artifact": (
        record("artifact", {"artifact": {"f": b"1"}, "name": "n", "type": "t", "metadata": {"a": 1}, "aliases": ("b",), "version": 3, "digest": "d"}, step=None),
        [("artifact", {"f": b"1"}, "n", "t", {"a": 1}, ("b",))],
    ),
    "table": (record("table", {"name": "x", "value": TABLE}), [("media", "x", TABLE, 7, "epoch", 2.5, {})]),
    "video": (record("video", {"name": "x", "value": Video(PIXELS)}), [("media", "x", Video(PIXELS), 7, "epoch", 2.5, {})]),
    "audio": (record("audio", {"name": "x", "value": Audio([0.0])}), [("media", "x", Audio([0.0]), 7, "epoch", 2.5, {})]),
    "text": (record("text", {"name": "x", "value": Text("t")}), [("media", "x", "t", 7, "epoch", 2.5, {})]),
    "html": (record("html", {"name": "x", "value": Html("<b>")}), [("media", "x", "<b>", 7, "epoch", 2.5, {})]),
    "figure": (
        record("figure", {"name": "x", "value": Figure.from_plotly("{}")}),
        [("media", "x", Figure.from_plotly("{}"), 7, "epoch", 2.5, {})],
    ),
    "config": (record("config", {"a": 1}, step=None), [("config", {"a": 1})]),
    "summary": (record("summary", {"a": 1}, step=None), [("summary", {"a": 1})]),
    "alert": (record("alert", {"title": "t", "text": "x", "level": "warn"}, step=None), [("alert", "t", "x", "warn", 2.5)]),
    "use_artifact": (record("use_artifact", {"artifact": "n:v1", "name": "n"}, step=None), [("use", "n:v1")]),
    "finish": (record("finish", {"status": "finished", "error": None}, step=None), []),
    "hologram": (record("hologram", {"x": 1}), []),
}  # fmt: skip
FIVE = {"scalars", "images", "histogram", "artifact"}
BECOMES = {
    "table": "artifact", "video": "images", "audio": "artifact", "text": "artifact", "figure": "artifact", "html": "artifact", "config": "artifact",
    "summary": "artifact", "alert": None, "use_artifact": None,
}  # fmt: skip


@pytest.mark.parametrize("kind", REPLAYED)
def test_every_kind_is_replayed(kind):
    given, expected = REPLAYED[kind]
    full, said = Full(), []
    fallbacks.replay(given, full, on_fallback=said.append)
    assert full.calls == expected
    assert said == []


@pytest.mark.parametrize("kind", REPLAYED)
def test_every_kind_is_replayed_to_a_tracker_with_five_methods(kind):
    given, expected = REPLAYED[kind]
    five, said = Five(), []
    fallbacks.replay(given, five, on_fallback=said.append)
    fallbacks.replay(given, Five())
    if kind in FIVE:
        assert (five.calls, said) == (expected, [])
    elif kind in BECOMES:
        assert ([call[0] for call in five.calls], said) == ([BECOMES[kind]] if BECOMES[kind] else [], [kind])
    else:
        assert (five.calls, said) == ([], [])


def test_every_kind_of_the_journal_is_known_here():
    from tracking_core.journal.events import RECORD_KINDS

    assert REPLAYED.keys() - {"finish", "hologram"} == RECORD_KINDS == FIVE | BECOMES.keys()


# ---------------------------------------------------------------- mixtures


class PandasLike:
    """A data frame is none of what a mixture may hold: its type is not told apart safely."""

    columns, size = ["a"], 3


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1, "scalar"), (0.5, "scalar"), (True, "scalar"), (np.float32(1), "scalar"), (np.zeros(1), "scalar"), (np.zeros((1, 1)), "scalar"),
        (jnp.float32(1), "scalar"), (jnp.zeros((1,)), "scalar"), (np.zeros((5, 5)), "histogram"),
        (jnp.zeros((5, 5, 8)), "histogram"), (jnp.zeros((3, 3, 5, 3)), "histogram"), (np.histogram([1, 2]), "histogram"), (([1, 2], [0.0, 0.5, 1.0]), "histogram"), (([1, 2], [0.0, 0.5]), "scalar"), (([1, "a"], [0.0, 0.5, 1.0]), "scalar"), (jnp.histogram(jnp.ones(3)), "histogram"), (np.zeros((5, 5), np.uint8), "image"),
        (np.zeros((2, 5, 5, 3), np.uint8), "image"), (jnp.zeros((5, 5, 3), jnp.uint8), "image"),
        (pd.DataFrame({"a": [1]}), "table"), (pd.DataFrame({"a": [1, 2]}), "table"), (pd.DataFrame(), "table"), (pd.Series([1.0]), "table"), (pl.DataFrame({"a": [1]}), "table"),
        (pl.LazyFrame({"a": [1]}), "table"), (pl.Series([1, 2]), "table"), (pa.table({"a": [1]}), "table"), (np.zeros(1, [("a", "f8")]), "table"), ((np.zeros(2), np.zeros(2)), "scalar"),
        (np.zeros((1, 1), np.uint8), "scalar"), (np.zeros((2,) * 5, np.uint8), "histogram"), (Image(np.zeros((2, 2))), "image"),
        (Pillow.new("L", (2, 2)), "image"), ([Image(np.zeros((2, 2)))], "image"), ([Pillow.new("L", (2, 2)), np.zeros((2, 2), np.uint8)], "image"),
        ("text", "text"), (Text("text"), "text"), (Html("<b>"), "html"), (TABLE, "table"), (Video(PIXELS), "video"), (Audio([0.0]), "audio"),
        (Histogram([1], [0, 1]), "histogram"), (Figure.from_plotly("{}"), "figure"), (type("F", (), {"savefig": 1})(), "figure"),
        (type("F", (), {"to_plotly_json": 1})(), "figure"), ([], "scalar"), ([1, 2], "scalar"), (None, "scalar"), (object(), "scalar"), (PandasLike(), "scalar"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{type(value).__name__}{getattr(value, 'shape', '')}",
)  # fmt: skip
def test_kinds_are_told_apart(value, kind):
    assert fallbacks.kind_of(value) == kind


def test_a_mixture_is_logged_by_kind():
    full = Full()
    values = {
        "loss": 1.0, "deep": {"acc": jnp.float32(0.5), "w": np.zeros((2, 2))}, "img": Image(PIXELS[0]), "imgs": [PIXELS[0], PIXELS[1]],
        "note": "text", "t": TABLE, "v": Video(PIXELS), "a": Audio([0.0]), "f": Figure.from_plotly("{}"), "h": Histogram([1], [0, 1]),
    }  # fmt: skip
    fallbacks.log_mixed(full, values, step=3, step_axis="epoch")
    by_kind = {}
    for call in full.calls:
        by_kind.setdefault(call[0], []).append(call)
    ((_, scalars, *when),) = by_kind["scalars"]
    assert (scalars, when) == ({"loss": 1.0, "deep/acc": 0.5}, [3, "epoch", None])
    ((_, images, *when),) = by_kind["images"]
    assert (list(images), when[:2]) == (["img", "imgs"], [3, "epoch"])
    assert [call[1] for call in by_kind["histogram"]] == ["deep/w", "h"]
    assert {call[1]: type(call[2]) for call in by_kind["media"]} == {
        "note": Text,
        "t": Table,
        "v": Video,
        "a": Audio,
        "f": Figure,
    }
    assert all(
        call[3:5] == (3, "epoch")
        for call in by_kind["media"] + [call[:1] + call[:1] + call[1:2] + call[3:5] for call in by_kind["histogram"]]
    )


def test_a_mixture_reaches_a_tracker_with_five_methods():
    five = Five()
    fallbacks.log_mixed(five, {"a": 1, "t": TABLE, "note": "x"}, step=1)
    assert [call[0] for call in five.calls] == ["artifact", "artifact", "scalars"]
    fallbacks.log_mixed(five, {}, step=1)
    assert len(five.calls) == 3


def test_wrong_values_in_a_mixture():
    values = {"good": 1, "bad": object(), 3: 1, "nested": {"ok": 2, 4: 1}, "table": Table(["a"], [[1]])}
    for tracker in (Five(), Full()):
        with pytest.raises(InvalidValueError):
            fallbacks.log_mixed(tracker, values, step=0)
    for wrong in (None, 3, [1]):
        with pytest.raises(InvalidValueError, match="expected a mapping"):
            fallbacks.log_mixed(Five(), wrong, step=0)


def test_errors_in_a_mixture_are_handed_over_and_cost_only_themselves():
    class Picky(Full):
        def log_histogram(self, name, values, **keywords):
            raise InvalidValueError("no histograms")

        def log_images(self, images, **keywords):
            raise InvalidValueError("no images")

    picky, errors = Picky(), []
    values = {"a": 1, 3: 1, "w": np.zeros((2, 2)), "img": Image(PIXELS[0]), "note": "x", "nested": {4: 1, "b": 2}}
    fallbacks.log_mixed(picky, values, step=0, on_error=lambda key, error: errors.append((key, type(error))))
    assert sorted(key for key, _ in errors) == ["img", "int", "nested", "w"]
    assert [call[:2] for call in picky.calls] == [("media", "note"), ("scalars", {"a": 1, "nested/b": 2})]


def test_a_run_takes_mixtures_and_keeps_the_good_ones(troubles):
    with tracking.start_run("p", root="runs", backends="local") as run:
        run.log(
            {
                "good": 1.0,
                "bad": object(),
                "nested": {"ok": 2, 3: 4},
                "note": "text",
                "img": PIXELS[0],
                "w": np.zeros((2, 2)),
            }
        )
    found = tracking.open_store("runs").run(run.id)
    assert (found.scalar_names(), found.image_names(), found.names("text"), found.names("histogram")) == (["good", "nested/ok"], ["img"], ["note"], ["w"])  # fmt: skip
    assert [reason for reason, _, _ in troubles if reason == "invalid"] == ["invalid"] * 2


WANDB = {
    "Image": lambda folder: wandb.Image(PIXELS[0]),
    "Table": lambda folder: wandb.Table(columns=["a"], data=[[1]]),
    "Histogram": lambda folder: wandb.Histogram([1.0, 2.0]),
    "Html": lambda folder: wandb.Html("<b>x</b>", inject=False),
    "Audio": lambda folder: wandb.Audio(_file(folder, "a.wav", Audio([0.0]).wav())),
    "Video": lambda folder: wandb.Video(_file(folder, "v.gif", Video(PIXELS).gif()), format="gif"),
}


def _file(folder, name, content):
    (folder / name).write_bytes(content)
    return str(folder / name)


@pytest.mark.parametrize("kind", WANDB)
def test_values_of_another_client_are_refused_with_the_name_of_our_call(tmp_path, monkeypatch, kind):
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    value = WANDB[kind](tmp_path)
    call = f"log_{kind.lower()}s?"
    for log in (
        lambda: fallbacks.log_mixed(Full(), {"x": value}, step=0),
        lambda: fallbacks.log_mixed(Full(), {"x": [value, value]}, step=0),
    ):
        with pytest.raises(
            InvalidValueError, match=rf"'x'.*a wandb.{kind} is W&B's own: use {call}.*tracking_core\.{kind}\("
        ):
            log()
    if kind in {"Image", "Histogram", "Table"}:
        log = {
            "Image": lambda run: run.log_images({"x": value}, step=0),
            "Histogram": lambda run: run.log_histogram("x", value, step=0),
            "Table": lambda run: run.log_table("x", value, step=0),
        }[kind]
        with (
            tracking.start_run(root="runs", strict=True, backends="local") as run,
            pytest.raises(InvalidValueError, match=f"tracking_core.{kind}"),
        ):
            log(run)


@pytest.mark.parametrize(
    ("value", "calls"),
    [
        ([1, 2.5], ["log_histogram", "log_table", "log_scalars"]), ([jnp.float32(1), 2], ["log_histogram"]), ([np.zeros((4, 4)), np.zeros((4, 4))], ["log_images", "log_histogram"]), ([np.zeros(4), np.zeros(3)], ["log_histogram"]),
        ((jnp.zeros((4, 4)),) * 2, ["log_images", "log_histogram"]), ([[1, 2], [3, 4]], ["log_images"]), ([{"digit": 3}, {"digit": 7}], ["log_table"]), (["a", "b"], ["log_text"]), (b"x", ["log_text"]),
        (np.zeros(5), ["log_histogram", "log_audio", "log_table", "log_scalars"]), (jnp.zeros(5), ["log_histogram"]), (np.zeros(5, np.uint8), ["log_histogram"]), (np.arange(3), ["log_histogram"]),
        (np.zeros((8, 8, 3)), ["log_images", "Image(", "log_histogram"]), (jnp.zeros((8, 8, 4)), ["log_images", "Image(", "log_histogram"]),
    ],
    ids=lambda value: f"{type(value).__name__}{getattr(value, 'shape', '')}",
)  # fmt: skip
def test_what_may_be_several_things_is_refused_with_the_names_of_the_calls(value, calls, troubles):
    full = Full()
    with pytest.raises(InvalidValueError, match="'x'") as caught:
        fallbacks.log_mixed(full, {"x": value, "y": 1}, step=0)
    for call in calls:
        assert call in str(caught.value)
    assert full.calls == []
    # It costs itself alone.
    with tracking.start_run("p", root="runs", backends="local") as run:
        run.log({"x": value, "y": 1.0})
    record = tracking.open_store("runs").run(run.id)
    assert (record.scalar_names(), record.names("histogram"), record.image_names()) == (["y"], [], [])
    assert [reason for reason, _, _ in troubles if reason == "invalid"] == ["invalid"]


def test_a_run_takes_data_frames_and_counts():
    frame = pd.DataFrame({"digit": [3, 7], "score": [0.5, np.nan]})
    with tracking.start_run("p", root="runs", strict=True, backends="local") as run:
        run.log(
            {
                "frame": frame,
                "deep": {"one": frame.iloc[:1, :1]},
                "h": np.histogram([1.0, 2.0, 4.0], bins=3),
                "j": jnp.histogram(jnp.array([1.0, 2.0]), bins=2),
            }
        )
    record = tracking.open_store("runs").run(run.id)
    ((_, table),) = record.tables("frame")
    assert repr(table.rows) == "((3, 0.5), (7, nan))"
    assert record.tables("deep/one")[0][1].rows == ((3,),)
    assert record.histograms("h")[0][1] == Histogram([1, 1, 1], [1.0, 2.0, 3.0, 4.0])
    assert record.histograms("j")[0][1].counts.tolist() == [1, 1]
    for wrong in ((np.array([1, -1]), np.arange(3.0)), (np.array([1, 1]), np.zeros(3))):
        with pytest.raises(InvalidValueError, match="histogram"):
            fallbacks.log_mixed(Full(), {"x": wrong}, step=0)
