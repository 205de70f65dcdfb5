"""What went into TensorBoard through the adapter comes back through the importer: every kind, several events a tag."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tracking_core as tracking
from tests.support.programs import REPO
from tracking_core import RunInfo, open_tracker
from tracking_core.transfer import import_runs

FIXTURE = REPO / "tests" / "fixtures" / "tensorboard-1"
NAMES = ["plain", "", "~7e", "\ud800", "späß <b>\n", "x" * 700, "train/loss (epoch)", "notes/text_summary"]
PIXELS = np.arange(3 * 5 * 6 * 3, dtype=np.uint8).reshape(3, 5, 6, 3)


def log(run, first, last):
    """Every kind, each tag with an event for every number; names that are shared by kinds and axes."""
    for i in range(first, last):
        at = {"step": i, "wall_time": 1.6e9 + i + 0.25}
        run.log_scalars({"train/loss": i / 4, "odd": math.nan if i % 2 else -math.inf, "weights": i}, **at)
        run.log_scalars({"val/loss": i / 2, "train/loss": i / 8}, step_axis="epoch", **at)
        run.log_scalars({"train/loss": i}, step_axis='a "strange"\n\naxis: ü', **at)
        run.log_scalars({name: number * 10 + i for number, name in enumerate(NAMES)}, **at)
        for axis in ("step", "epoch"):
            values = [0.0, 1.0, *[math.nan] * (i % 3), *[math.inf] * i, *[-math.inf] * (i % 2)]
            run.log_histogram("weights", values, bins=2, step_axis=axis, **at)
        run.log_histogram("all lost", [math.nan] * (i + 1), bins=2, **at)
        captioned = [tracking.Image(PIXELS[0] + np.uint8(i), caption=f"*one* {i}"), PIXELS[1]]
        run.log_images({"sample": captioned, "bare": PIXELS[2]}, **at)
        run.log_images({"sample": [tracking.Image(PIXELS[2], caption=f"epoch {i}")]}, step_axis="epoch", **at)
        run.log_table("weights", tracking.Table(["n", "text"], [[i, "x|y"], [None, "z\nü"]]), **at)
        run.log_text("notes/text_summary", f"text {i}\nof *lines*\n\nmore", **at)
        run.log_text("train/loss", f"beside a number {i}", **at)
        run.log_audio("tone", tracking.Audio(np.arange(50, dtype=np.int16) + i, 8000, caption=f"tone {i}"), **at)
        run.log_video("sample", np.stack([np.full((4, 4, 3), shade, np.uint8) for shade in (0, 8 + i, 255)]), **at)
        run.log_figure(
            "sample", tracking.Figure(tracking.values.to_images("x", PIXELS[1] + np.uint8(i))[0].png()), **at
        )
        run.log_config({"added": {f"at {i}": [i, None, math.inf]}, "lr": i})
        run.log_summary({"best": i / 4, f"of {i}": "words"})


def start(**details):
    facts = {
        "name": "ein Läuf / 1", "run_id": "r-1", "resume": "allow", "root": "runs", "backends": "tensorboard:./tb",
        "config": {"lr": 0.1, "net": {"width": 8}}, "tags": ["a", "b, c", "[d"], "group": "g|h", "job_type": "train",
        "notes": "some\n\n| notes |", "delivery": "thread",
    }  # fmt: skip
    return tracking.start_run("the project", **{**facts, **details})


def imported(source="tb", root="store"):
    (done,) = import_runs(source, root=root)
    return done, tracking.open_store(root).run(done.run)


def rows(record, name, axis):
    series = record.scalars(name, axis, raw=True)
    return list(zip(series.step.tolist(), series.time.tolist(), [repr(v) for v in series.value.tolist()], strict=True))


def of_kind(record, kind):
    """(name, axis, step, time, what is comparable) of all values of a kind, those of a name in order."""
    shown = {
        "images": lambda group: [(image.caption, image.pixels.tolist()) for image in group],
        "histogram": histogram,
        "video": lambda value: value.gif(),
    }
    found = []
    for one in record.records():
        if one.kind == kind:
            values = one.data.items() if kind == "images" else [(one.data["name"], one.data["value"])]
            for name, value in values:
                found.append((name, one.axis, one.step, one.time, shown.get(kind, lambda same: same)(value)))
    return sorted(found, key=lambda row: row[0])


def histogram(value):
    return value.counts.tolist(), value.edges.tolist(), value.nan, value.posinf, value.neginf


def check(record, original):
    for field in ("id", "name", "project", "config", "tags", "group", "job_type", "notes", "status", "started"):
        assert getattr(record, field) == getattr(original, field), field
    assert record.scalar_names() == original.scalar_names()
    for name in original.scalar_names():
        axes = {one.axis for one in original.records() if one.kind == "scalars" and name in one.data}
        assert axes == {one.axis for one in record.records() if one.kind == "scalars" and name in one.data}, name
        for axis in axes:
            assert rows(record, name, axis) == rows(original, name, axis), (name, axis)
    kinds = ("images", "histogram", "table", "text", "audio", "video", "figure")
    for kind in kinds:
        assert of_kind(record, kind) == of_kind(original, kind), kind
    for name, value in original.summary().items():
        # Last values of scalars are in it, and they are float32 there.
        number = repr(float(value)) if isinstance(value, (int, float)) else repr(value)
        assert repr(record.summary()[name]) == number, name


def test_everything_comes_back(tmp_path):
    with start() as run:
        log(run, 0, 4)
    done, record = imported()
    assert done.problems == ()
    check(record, tracking.open_store("runs").run("r-1"))
    assert rows(record, "val/loss", "epoch") == [(i, 1.6e9 + i + 0.25, repr(i / 2)) for i in range(4)]


def test_everything_comes_back_of_a_run_that_was_continued(tmp_path):
    """In the same file, whose descriptions were written by the first process."""
    for first, last in ((0, 2), (2, 3), (3, 5)):
        with start() as run:
            log(run, first, last)
    assert len(list(Path("tb").rglob("*tfevents*"))) == 1
    done, record = imported()
    assert done.problems == ()
    check(record, tracking.open_store("runs").run("r-1"))


def test_everything_comes_back_of_several_files(tmp_path, monkeypatch, troubles):
    """Where the first file is gone from its cursor's sight, a second one is begun; each tells what its tags are."""
    with start() as run:
        log(run, 0, 2)
    (file,) = Path("tb").rglob("*tfevents*")
    aside = file.rename(tmp_path / "aside")
    with start() as run:
        log(run, 2, 4)
    aside.rename(file)
    assert len(list(Path("tb").rglob("*tfevents*"))) == 2
    done, record = imported()
    assert done.problems == ()
    original = tracking.open_store("runs").run("r-1")
    for name, axis in (("val/loss", "epoch"), ("train/loss", "epoch"), ("weights", "step"), ("~7e", "step")):
        assert rows(record, name, axis) == rows(original, name, axis), name
    assert of_kind(record, "histogram") == of_kind(original, "histogram")


def test_a_tag_belongs_to_whom_the_file_says(tmp_path):
    """Two files of a run of which the second was written without knowing the first may share tags differently."""
    for axes in (("epoch", "step"), ("step", "epoch")):
        tracker = open_tracker("tensorboard:./tb", RunInfo(id="r", name="r"))
        for i in range(2):
            for axis in axes:
                tracker.log_scalars({"loss": i + (axis == "epoch") / 2}, step=i, step_axis=axis)
        tracker.finish()
    _, record = imported()
    assert record.scalars("loss", "step", raw=True).value.tolist() == [0.0, 1.0] * 2
    assert record.scalars("loss", "epoch", raw=True).value.tolist() == [0.5, 1.5] * 2


def test_a_file_of_before_comes_back(tmp_path):
    """Its first value of a described series is a tensor, and the others are plain."""
    done, record = imported(FIXTURE)
    assert done.problems == ()
    assert (record.id, record.name, record.project, record.tags) == ("old", "an old run", "digits", ("a", "b"))
    assert record.config == {"lr": 0.5, "net": {"width": 8}, "added": 3}
    assert record.scalar_names() == ["", "train/loss", "val/loss", "weights", "~7e"]
    numbers = list(range(4))
    for name, axis, step, value in (
        ("train/loss", "step", 100, 0.25), ("train/loss", "epoch", 1, 0.125), ("val/loss", "epoch", 1, 0.5),
        ("~7e", "step", 100, 1.0), ("", "step", 100, -1.0), ("weights", "step", 1, 1.0),
    ):  # fmt: skip
        assert rows(record, name, axis) == [(step * i, 1.7e9 + i, repr(float(value * i) + 0.0)) for i in numbers], name
        assert {one.axis for one in record.records() if name in one.data} == (
            {"step", "epoch"} if name == "train/loss" else {axis}
        )
    assert [(one.nan, one.posinf, one.counts.sum()) for _, one in record.histograms("weights")] == [
        (1, i, 2) for i in numbers
    ]
    assert [pictures[0].caption for _, pictures in record.images("sample")] == [f"image {i}" for i in numbers]
    assert record.media("text", "words") == [(i, f"text {i}") for i in numbers]


# ---------------------------------------------------------------- the id


def test_the_id_is_the_one_it_had(tmp_path):
    with start() as run:
        run.log_scalars({"a": 1.0}, step=0)
    done, record = imported()
    assert (done.run, record.id, done.there) == ("r-1", "r-1", False)
    again, _ = imported()
    assert (again.run, again.there, again.problems) == ("r-1", True, ())
    # The files elsewhere are the same run still.
    shutil.move("tb", "moved")
    assert imported("moved")[0].there


def test_a_run_of_the_store_is_never_taken_for_it(tmp_path):
    with start() as run:
        run.log_scalars({"a": 1.0}, step=0)
    before = {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()}
    done, record = imported(root="runs")
    assert (done.there, record.scalar_names()) == (False, ["a"])
    assert done.run.startswith("tensorboard-")
    assert done.problems == (f"there is another run 'r-1' in the store, so this one has the id {done.run}",)
    assert {path: path.read_bytes() for path in before} == before
    again, _ = imported(root="runs")
    assert (again.run, again.there) == (done.run, True)


def test_what_was_imported_before_ids_came_back_is_still_known(tmp_path, monkeypatch):
    with start() as run:
        run.log_scalars({"a": 1.0}, step=0)

    def refuse(_):
        raise tracking.errors.SettingsError("as before")

    with monkeypatch.context() as before:
        before.setattr("tracking_core.transfer.foreign.check_run_id", refuse)
        first, _ = imported()
    again, _ = imported()
    assert first.run.startswith("tensorboard-")
    assert (again.run, again.there) == (first.run, True)


@pytest.mark.parametrize("run_id", ["../../escaped", "artifacts", "a/b", "", "x" * 100, ".hidden", "a\nb"])
def test_an_id_that_leads_elsewhere_is_none(tmp_path, run_id):
    tracker = open_tracker("tensorboard:./tb", RunInfo(id=run_id, name="n"))
    tracker.log_scalars({"a": 1.0}, step=0)
    tracker.finish()
    done, record = imported()
    assert done.run.startswith("tensorboard-")
    assert record.scalar_names() == ["a"]
    assert {path.name for path in tmp_path.iterdir()} == {"tb", "store"}
    assert done.dir.parent == Path("store/default").resolve() or done.dir.parent == Path("store/default")


# ---------------------------------------------------------------- other readers


def test_every_point_of_a_described_series_is_a_scalar_to_any_reader(tmp_path):
    """`EventAccumulator.Scalars`, and what libraries read with it, know plain values alone."""
    tracker = open_tracker("tensorboard:./tb", RunInfo(id="r", name="r"))
    for i in range(3):
        at = {"step": i, "wall_time": 1.6e9 + i}
        tracker.log_scalars({"val/loss": i / 2, "loss": i}, step_axis="epoch", **at)
        tracker.log_scalars({"loss": -i}, **at)
        tracker.log_scalars({"~7e": i}, **at)
        tracker.log_histogram("w", [0.0, math.nan], bins=2, **at)
    tracker.finish()
    found = EventAccumulator("tb/r", size_guidance={"scalars": 0}).Reload()
    expected = {
        "val/loss": [0.0, 0.5, 1.0], "loss": [0.0, 1.0, 2.0], "loss (step)": [0.0, -1.0, -2.0],
        "~7e7e": [0.0, 1.0, 2.0], "w (nan)": [1.0, 1.0, 1.0],
    }  # fmt: skip
    assert sorted(found.Tags()["scalars"]) == sorted(expected)
    assert not set(found.Tags()["tensors"]) & set(expected)
    for tag, values in expected.items():
        assert [(e.wall_time, e.step, e.value) for e in found.Scalars(tag)] == [
            (1.6e9 + i, i, value) for i, value in enumerate(values)
        ], tag
    assert found.SummaryMetadata("val/loss").summary_description == "step axis: epoch"


def test_tensorboards_own_table_has_every_point(tmp_path):
    """Its data frames come from another loader, which makes tensors of plain values."""
    from tensorboard.backend.event_processing import plugin_event_accumulator

    tracker = open_tracker("tensorboard:./tb", RunInfo(id="r", name="r"))
    for i in range(3):
        tracker.log_scalars({"val/loss": i / 2}, step=i, step_axis="epoch")
    tracker.finish()
    found = plugin_event_accumulator.EventAccumulator("tb/r", size_guidance={"tensors": 0}).Reload()
    assert [event.tensor_proto.float_val[0] for event in found.Tensors("val/loss")] == [0.0, 0.5, 1.0]
    assert found.SummaryMetadata("val/loss").summary_description == "step axis: epoch"


def test_the_fixture_is_what_it_says():
    """The file goes on beyond what its state confirms, and its first described scalar is a tensor."""
    state = json.loads((FIXTURE / "state.json").read_text())
    file = FIXTURE / state["file"]
    assert file.stat().st_size > state["length"] > 0
    found = EventAccumulator(str(file.parent), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    assert len(found.Scalars("val/loss")) == 3
    assert "val/loss" in found.Tags()["tensors"]
