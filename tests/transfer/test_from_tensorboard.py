"""Event files of other writers, and ours, come into the run store with everything that was logged."""

from __future__ import annotations

import io
import json
import time

import numpy as np
import pytest
from click.testing import CliRunner
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2
from tensorboard.plugins.histogram import summary_v2 as histograms
from tensorboard.plugins.scalar import summary_v2 as scalars
from tensorboard.plugins.text import summary_v2 as texts
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboardX import SummaryWriter

import tracking_core as tracking
from tests.support.logged import log_everything, pixels
from tracking_core.cli.app import app
from tracking_core.transfer import import_runs

T0 = 1_600_000_000.0


def imported(source, **options):
    """All runs of a source, imported into ./store: (what became of them, their records)."""
    done = list(import_runs(source, root="store", **options))
    return done, [tracking.open_store("store").run(one.run) for one in done]


def one(source, **options):
    done, records = imported(source, **options)
    assert len(done) == 1, done
    return done[0], records[0]


def rows(record, name, axis=None):
    series = record.scalars(name, axis)
    return list(zip(series.step.tolist(), series.time.tolist(), series.value.tolist(), strict=True))


# ---------------------------------------------------------------- tensorboardX


@pytest.fixture
def written(tmp_path):
    """A run of tensorboardX, with every kind of value that it has."""
    values = np.random.default_rng(0).normal(size=1000)
    with SummaryWriter(str(tmp_path / "logs" / "exp" / "train")) as writer:
        for step in range(50):
            writer.add_scalar("train/loss", 1 / (step + 1), step * 10, walltime=T0 + step)
        writer.add_scalar("bad", float("nan"), 1, walltime=T0 + 1)
        writer.add_scalar("large", 2.0**100, 2**40, walltime=T0 + 1)
        writer.add_image("picture", pixels(), 3, walltime=T0 + 2, dataformats="HWC")
        writer.add_image("gray", pixels(channels=1)[..., 0], 4, walltime=T0 + 2, dataformats="HW")
        writer.add_histogram("weights", values, 5, bins="fd", walltime=T0 + 3)
        writer.add_histogram("same", np.full(7, 3.0), 5, walltime=T0 + 3)
        writer.add_text("note", "hello *there*", 6, walltime=T0 + 4)
        writer.add_audio("beep", np.linspace(-0.5, 0.5, 800)[:, None], 7, sample_rate=8000, walltime=T0 + 5)
    return tmp_path / "logs", values


def test_every_kind_of_tensorboardx_comes_in(written):
    logs, values = written
    done, record = one(logs)
    assert (done.there, done.problems) == (False, ())
    assert (record.name, record.project, record.status) == ("exp/train", "default", "finished")
    assert record.scalar_names() == ["bad", "large", "train/loss"]
    expected = [(step * 10, T0 + step, float(np.float32(1 / (step + 1)))) for step in range(50)]
    assert rows(record, "train/loss") == expected
    assert np.isnan(record.scalars("bad").value).tolist() == [True]
    assert rows(record, "large") == [(2**40, T0 + 1, 2.0**100)]

    ((step, (picture,)),) = record.images("picture")
    assert step == 3
    assert np.array_equal(picture.pixels, pixels())
    ((step, (gray,)),) = record.images("gray")
    assert gray.pixels.shape[:2] == (6, 5)
    assert np.array_equal(gray.pixels[..., 0], pixels(channels=1)[..., 0])

    ((step, histogram),) = record.histograms("weights")
    assert (step, histogram.count) == (5, 1000)
    assert (histogram.min, histogram.max) == (values.min(), values.max())
    assert (histogram.mean, histogram.std) == (pytest.approx(values.mean()), pytest.approx(values.std()))
    assert np.array_equal(histogram.counts, np.histogram(values, histogram.edges)[0])
    ((_, same),) = record.histograms("same")
    assert same.count == 7
    assert same.edges[0] <= 3.0 <= same.edges[-1]

    assert record.media("text", "note") == [(6, "hello *there*")]
    ((step, sound),) = record.media("audio", "beep")
    assert (step, sound.sample_rate, sound.samples.shape) == (7, 8000, (800, 1))
    assert np.abs(sound.samples[:, 0] / 32767 - np.linspace(-0.5, 0.5, 800)).max() < 1e-3
    times = {r.kind: r.time for r in record.records()}
    assert {kind: times[kind] - T0 for kind in ("images", "histogram", "text", "audio")} == {
        "images": 2, "histogram": 3, "text": 4, "audio": 5
    }  # fmt: skip


def test_what_is_there_is_not_imported_again(written, tmp_path):
    logs, _ = written
    first, record = one(logs)
    files = {path: path.read_bytes() for path in record.dir.rglob("*") if path.is_file()}
    again, _ = one(logs)
    assert (again.there, again.run, again.problems) == (True, first.run, ())
    # The same files elsewhere, even those of another project, are the same run.
    (tmp_path / "moved").mkdir()
    logs.rename(tmp_path / "moved" / "x")
    moved, _ = one(tmp_path / "moved", project="other")
    assert (moved.there, moved.run, moved.project) == (True, first.run, "default")
    assert files == {path: path.read_bytes() for path in record.dir.rglob("*") if path.is_file()}
    assert not (tmp_path / "store" / ".staging").exists()


def test_a_source_that_has_grown_is_named(tmp_path):
    writer = SummaryWriter(str(tmp_path / "logs"))
    writer.add_scalar("a", 1, 1)
    writer.close()
    one(tmp_path / "logs")
    (file,) = (tmp_path / "logs").iterdir()
    with file.open("ab") as out:
        out.write(b"x" * 100)
    (problem,) = one(tmp_path / "logs")[0].problems
    assert "has grown" in problem
    # What is said to be the remedy is one.
    (done,), _ = imported(tmp_path / "logs")
    removed = CliRunner().invoke(app, ["rm", done.run, "--root", "store", "--yes"])
    assert removed.exit_code == 0, removed.output
    again, record = one(tmp_path / "logs")
    assert (again.there, again.run, record.scalar_names()) == (False, done.run, ["a"])


def test_hyperparameters_are_the_configuration(tmp_path):
    with SummaryWriter(str(tmp_path / "logs")) as writer:
        writer.add_scalar("loss", 1.0, 1)
        writer.add_hparams({"lr": 0.5, "layers": 4, "act": "gelu", "bias": True}, {"acc": 0.75}, name="trial")
    _, records = imported(tmp_path / "logs")
    by_name = {record.name: record for record in records}
    trial = by_name["trial"]
    assert trial.config == {"lr": 0.5, "layers": 4, "act": "gelu", "bias": True}
    assert type(trial.config["layers"]) is int
    assert trial.scalars("acc").value.tolist() == [0.75]
    assert len({record.id for record in records}) == 2


def test_a_video_is_a_video(tmp_path):
    clip = tracking.Video(np.arange(4 * 6 * 5 * 3, dtype=np.uint8).reshape(4, 6, 5, 3), fps=10)
    writer = EventFileWriter(str(tmp_path / "logs"))
    image = summary_pb2.Summary.Image(height=6, width=5, colorspace=3, encoded_image_string=clip.gif())
    summary = summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag="clip", image=image)])
    writer.add_event(event_pb2.Event(wall_time=T0, step=1, summary=summary))
    writer.close()
    _, record = one(tmp_path / "logs")
    ((step, found),) = record.media("video", "clip")
    assert (step, found.encoded, found.fps) == (1, clip.gif(), 10.0)


# ---------------------------------------------------------------- values as tensors


def tensor_writer(directory):
    writer = EventFileWriter(str(directory))

    def add(summary, step, at):
        writer.add_event(event_pb2.Event(wall_time=at, step=step, summary=summary))

    return writer, add


def test_values_as_tensors_come_in(tmp_path):
    writer, add = tensor_writer(tmp_path / "logs")
    values = np.random.default_rng(1).normal(size=500)
    add(scalars.scalar_pb("loss", 0.1), 1, T0)
    add(scalars.scalar_pb("loss", 0.2), 2, T0 + 0.5)
    add(histograms.histogram_pb("weights", values, buckets=10), 3, T0)
    add(histograms.histogram_pb("same", np.full(9, 2.5), buckets=5), 3, T0)
    add(histograms.histogram_pb("empty", np.array([]), buckets=5), 3, T0)
    add(texts.text_pb("note", "a text"), 4, T0)
    png = tracking.values.to_images("x", pixels())[0].png()
    metadata = summary_pb2.SummaryMetadata(plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name="images"))
    value = summary_pb2.Summary.Value(tag="pictures", metadata=metadata)
    value.tensor.dtype = 7
    value.tensor.tensor_shape.dim.add().size = 4
    value.tensor.string_val.extend([b"5", b"6", png, png])
    add(summary_pb2.Summary(value=[value]), 5, T0)
    metadata.plugin_data.plugin_name = "audio"
    value = summary_pb2.Summary.Value(tag="sound", metadata=metadata)
    value.tensor.dtype = 7
    for size in (1, 2):
        value.tensor.tensor_shape.dim.add().size = size
    sound = tracking.Audio(np.arange(100, dtype=np.int16), 8000)
    value.tensor.string_val.extend([sound.wav(), b"label"])
    add(summary_pb2.Summary(value=[value]), 6, T0)
    metadata.plugin_data.plugin_name = "pr_curves"
    value = summary_pb2.Summary.Value(
        tag="curve", metadata=metadata, tensor=scalars.scalar_pb("x", 1.0).value[0].tensor
    )
    add(summary_pb2.Summary(value=[value]), 7, T0)
    writer.close()

    done, record = one(tmp_path / "logs")
    assert rows(record, "loss") == [(1, T0, float(np.float32(0.1))), (2, T0 + 0.5, float(np.float32(0.2)))]
    ((step, histogram),) = record.histograms("weights")
    counts, edges = np.histogram(values, 10)
    assert step == 3
    assert np.array_equal(histogram.counts, counts)
    assert np.allclose(histogram.edges, edges)
    ((_, same),) = record.histograms("same")
    assert (same.count, same.edges[0] < 2.5 < same.edges[-1]) == (9, True)
    assert record.media("text", "note") == [(4, "a text")]
    ((_, pictures),) = record.images("pictures")
    assert [np.array_equal(picture.pixels, pixels()) for picture in pictures] == [True, True]
    assert record.media("audio", "sound") == [(6, sound)]
    assert any("'pr_curves' are not read" in problem for problem in done.problems)


@pytest.mark.parametrize(
    ("buckets", "counts", "edges"),
    [
        ([[0, 1, 2], [1, 1, 3], [1, 2, 4]], [5, 4], [0, 1, 2]),
        ([[1, 1, 3], [1, 2, 4]], [7], [1, 2]),
        ([[0, 1, 2], [3, 4, 5]], [2, 0, 5], [0, 1, 3, 4]),
        ([[2, 2, 3]], [3], [1.5, 2.5]),
    ],
)
def test_buckets_without_width_and_gaps_lose_no_value(tmp_path, buckets, counts, edges):
    writer, add = tensor_writer(tmp_path / "logs")
    summary = histograms.histogram_pb("h", np.array([0.0]))
    tensor = summary.value[0].tensor
    del tensor.double_val[:], tensor.tensor_shape.dim[:]
    tensor.tensor_content = np.array(buckets, "<f8").tobytes()
    for size in (len(buckets), 3):
        tensor.tensor_shape.dim.add().size = size
    add(summary, 1, T0)
    writer.close()
    _, record = one(tmp_path / "logs")
    ((_, histogram),) = record.histograms("h")
    assert (histogram.counts.tolist(), histogram.edges.tolist()) == (counts, edges)


def test_a_continued_run_has_no_step_twice(tmp_path):
    """`purge_step` takes back what an earlier writer wrote from that step on, as TensorBoard does."""
    with SummaryWriter(str(tmp_path / "logs"), filename_suffix=".a") as writer:
        for step in range(10):
            writer.add_scalar("loss", step, step, walltime=T0 + step)
    time.sleep(1.1)  # the names of the files have seconds in them, and order them
    with SummaryWriter(str(tmp_path / "logs"), purge_step=6, filename_suffix=".b") as writer:
        for step in range(6, 12):
            writer.add_scalar("loss", 100 + step, step, walltime=T0 + 100 + step)
    done, record = one(tmp_path / "logs")
    assert record.scalars("loss").step.tolist() == list(range(12))
    assert record.scalars("loss").value.tolist() == [0, 1, 2, 3, 4, 5, 106, 107, 108, 109, 110, 111]
    assert done.problems == ("4 events left out: purged when the run was continued from an earlier step",)


# ---------------------------------------------------------------- damage


def event_file(tmp_path):
    with SummaryWriter(str(tmp_path / "logs")) as writer:
        for step in range(20):
            writer.add_scalar("loss", step, step, walltime=T0 + step)
    (file,) = (tmp_path / "logs").iterdir()
    return file


def test_a_torn_tail_costs_what_was_torn(tmp_path):
    file = event_file(tmp_path)
    file.write_bytes(file.read_bytes()[:-5])
    done, record = one(tmp_path / "logs")
    assert record.scalars("loss").step.tolist() == list(range(19))
    assert len(done.problems) == 1
    assert "is incomplete" in done.problems[0]


def test_a_damaged_record_costs_itself(tmp_path):
    file = event_file(tmp_path)
    data = bytearray(file.read_bytes())
    data[-60] ^= 0xFF  # inside the data of the last but one
    file.write_bytes(bytes(data))
    done, record = one(tmp_path / "logs")
    assert record.scalars("loss").step.tolist() == [*range(18), 19]
    assert "is damaged and was left out" in done.problems[0]


def test_a_damaged_length_ends_the_file(tmp_path):
    file = event_file(tmp_path)
    data = bytearray(file.read_bytes())
    at = 0
    for _ in range(11):
        at += 16 + int.from_bytes(data[at : at + 8], "little")
    data[at] ^= 0xFF
    file.write_bytes(bytes(data))
    done, record = one(tmp_path / "logs")
    # One record, the version of the format, stands before the first value.
    assert record.scalars("loss").step.tolist() == list(range(10))
    assert f"the record at byte {at} is damaged; the rest of this file cannot be read" in done.problems[0]


def test_a_file_of_which_nothing_can_be_read_is_no_run(tmp_path):
    file = event_file(tmp_path)
    data = bytearray(file.read_bytes())
    data[0] ^= 0xFF
    file.write_bytes(bytes(data))
    (done,) = import_runs(tmp_path / "logs", root="store")
    assert "nothing in it can be read (yet)" in done.error
    assert "the rest of this file cannot be read" in done.error
    assert tracking.open_store("store").runs() == []


def test_an_empty_file_is_no_run_until_there_is_something_in_it(tmp_path):
    """A writer makes its file before its first value; what comes later must not be a second run."""
    (tmp_path / "logs" / "empty").mkdir(parents=True)
    (tmp_path / "logs" / "empty" / "events.out.tfevents.1600000000.host").touch()
    (tmp_path / "logs" / "one").mkdir()
    event_file(tmp_path / "logs" / "one")
    done = {one.name: one for one in import_runs(tmp_path / "logs", root="store")}
    assert "nothing in it can be read (yet)" in done["empty"].error
    assert done["one/logs"].error is None
    (tmp_path / "logs" / "one" / "logs" / "events.out.tfevents.1500000000.host").touch()
    again = {one.name: one for one in import_runs(tmp_path / "logs", root="store")}
    assert again["one/logs"].there, "an empty file beside it makes no other run of it"


# ---------------------------------------------------------------- what nobody expects in a file


def event(writer, step, value=None, *, wall_time=T0, **fields):
    summary = None if value is None else summary_pb2.Summary(value=[value])
    writer.add_event(event_pb2.Event(wall_time=wall_time, step=step, summary=summary, **fields))


Value = summary_pb2.Summary.Value


def of_plugin(name, content=b""):
    data = summary_pb2.SummaryMetadata.PluginData(plugin_name=name, content=content)
    return summary_pb2.SummaryMetadata(plugin_data=data)


def test_one_tag_for_scalars_images_and_histograms(tmp_path):
    with SummaryWriter(str(tmp_path / "logs")) as writer:
        writer.add_scalar("x", 1.0, 0)
        writer.add_image("x", pixels(), 0, dataformats="HWC")
        writer.add_histogram("x", np.arange(5.0), 0)
        writer.add_scalar("x", 2.0, 1)
    done, record = one(tmp_path / "logs")
    assert done.problems == ()
    assert record.scalars("x").value.tolist() == [1.0, 2.0]
    assert np.array_equal(record.images("x")[0][1][0].pixels, pixels())
    assert record.histograms("x")[0][1].count == 5


def test_a_run_that_was_started_anew_in_the_same_directory(tmp_path):
    """`purge_step=0` takes back everything, as TensorBoard has it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for number, purge in enumerate((None, 0)):
        writer = SummaryWriter(str(tmp_path / "logs"), purge_step=purge, filename_suffix=f".{number}")
        for step in range(5 - 3 * number):
            writer.add_scalar("a", 10 * number + step, step)
        writer.close()
    shown = EventAccumulator(str(tmp_path / "logs")).Reload()
    done, record = one(tmp_path / "logs")
    assert record.scalars("a").value.tolist() == [e.value for e in shown.Scalars("a")] == [10.0, 11.0]
    assert "5 events left out" in done.problems[0]


def test_times_that_are_none(tmp_path):
    writer = EventFileWriter(str(tmp_path / "logs"))
    event(writer, 1, Value(tag="a", simple_value=1.0), wall_time=T0)
    event(writer, 2, Value(tag="a", simple_value=2.0), wall_time=float("nan"))
    event(writer, 3, Value(tag="a", simple_value=3.0), wall_time=float("inf"))
    writer.close()
    _, record = one(tmp_path / "logs")
    assert record.scalars("a").value.tolist() == [1.0, 2.0, 3.0]
    assert record.scalars("a").time.tolist() == [T0] * 3
    assert record.status == "finished"


def test_values_that_make_no_sense_cost_themselves(tmp_path):
    tensor = tensor_pb2.TensorProto
    writer = EventFileWriter(str(tmp_path / "logs"))
    event(writer, 0, Value(tag="_hparams_/session_start_info", metadata=of_plugin("hparams", b"\xff\xff")))
    huge = {"dim": [{"size": 1 << 40}]}
    event(
        writer,
        0,
        Value(tag="huge", tensor=tensor(dtype=1, tensor_shape=huge, float_val=[1]), metadata=of_plugin("scalars")),
    )
    shape = {"dim": [{"size": 1 << 40}, {"size": 3}]}
    event(
        writer,
        0,
        Value(tag="many", tensor=tensor(dtype=2, tensor_shape=shape, double_val=[1]), metadata=of_plugin("histograms")),
    )
    event(writer, 0, Value(tag="short", tensor=tensor(dtype=23, uint64_val=[1]), metadata=of_plugin("scalars")))
    for name, data in {"none": b"", "gif": b"GIF89a\1\0", "words": b"words"}.items():
        event(writer, 0, Value(tag=name, image=summary_pb2.Summary.Image(encoded_image_string=data)))
    event(writer, 0, Value(tag="../../x\n", simple_value=5.0))
    event(writer, 0, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.STOP))
    event(writer, 7, Value(tag="ok", simple_value=3.0))
    writer.close()
    done, record = one(tmp_path / "logs")
    assert record.scalar_names() == ["../../x\n", "ok"]
    assert {problem.partition(":")[0] for problem in done.problems} == {
        "_hparams_/session_start_info", "huge", "many", "short", "none", "gif", "words"
    }  # fmt: skip
    assert record.scalars("ok").step.tolist() == [7]
    assert sorted(path.name for path in record.dir.iterdir()) == ["journal", "origin.json", "run.json"]


# ---------------------------------------------------------------- our own runs there and back


def test_our_own_run_comes_back_from_event_files(tmp_path):
    with tracking.start_run(
        "proj", name="ours", root="runs", backends="tensorboard:./tb", config={"lr": 0.1, "net": {"width": 8}},
        tags=["a", "b"], group="g", job_type="train", notes="some\n\nnotes", delivery="thread",
    ) as run:  # fmt: skip
        log_everything(run)
        run.log_artifact({"f.txt": b"x"}, name="data")
    original = tracking.open_store("runs").run(run.id)
    done, record = one(tmp_path / "tb")
    assert done.problems == ("data: an artifact; its contents are not in event files",)
    for field in ("name", "project", "config", "tags", "group", "job_type", "notes", "status"):
        assert getattr(record, field) == getattr(original, field), field
    assert record.started == original.started
    assert record.scalar_names() == original.scalar_names()
    for name, axis in [("loss", "step"), ("loss", "epoch"), ("val/acc", "epoch"), ("odd", "step")]:
        ours, theirs = record.scalars(name, axis), original.scalars(name, axis)
        assert ours.step.tolist() == theirs.step.tolist()
        assert ours.time.tolist() == theirs.time.tolist()
        assert np.array_equal(ours.value, theirs.value.astype(np.float32).astype(float), equal_nan=True)
    ((step, ours),), ((_, theirs),) = record.images("pics"), original.images("pics")
    assert (step, [(i.caption, i.pixels.tolist()) for i in ours]) == (
        3,
        [(i.caption, i.pixels.tolist()) for i in theirs],
    )
    ((_, ours),), ((_, theirs),) = record.histograms("weights"), original.histograms("weights")
    assert np.array_equal(ours.counts, theirs.counts)
    assert np.array_equal(ours.edges, theirs.edges)
    assert (ours.nan, ours.posinf, ours.neginf) == (1, 1, 0)
    assert record.tables("table") == original.tables("table")
    for kind, name in [("text", "words"), ("audio", "sound"), ("figure", "figure")]:
        assert record.media(kind, name) == original.media(kind, name), kind
    ((step, clip),) = record.media("video", "clip")
    assert (step, clip.encoded) == (8, original.media("video", "clip")[0][1].gif())
    assert record.summary()["best"] == 0.25


def test_a_failed_run_comes_back_failed(tmp_path):
    with (
        pytest.raises(RuntimeError),
        tracking.start_run("p", root="runs", backends="tensorboard:./tb", delivery="thread") as run,
    ):
        run.log_scalars({"a": 1}, step=1)
        raise RuntimeError("a: *b*")
    _, record = one(tmp_path / "tb")
    assert (record.status, "a: *b*" in record.error) == ("failed", True)


# ---------------------------------------------------------------- the command


def test_the_command_finds_out_what_it_is(written):
    logs, _ = written
    result = CliRunner().invoke(app, ["import", str(logs), "--root", "store", "--project", "p", "--json"])
    assert result.exit_code == 0, result.output
    (run,) = json.loads(result.stdout)["runs"]
    assert (run["project"], run["there"], run["records"] > 50) == ("p", False, True)
    again = CliRunner().invoke(app, ["import", str(logs), "--root", "store", "--from", "tensorboard"])
    assert again.exit_code == 0
    assert "already there" in again.output


def test_what_is_nothing_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    result = CliRunner().invoke(app, ["import", "empty", "missing", "--root", "store"])
    assert result.exit_code == 1
    assert "holds no event files" in result.output
    assert "no file or directory 'missing'" in result.output
    assert not (tmp_path / "store").exists()
    wrong = CliRunner().invoke(app, ["import", "empty", "--from", "wandb", "--root", "store"])
    assert (wrong.exit_code, "holds no runs of wandb" in wrong.output) == (1, True)


def test_what_was_imported_can_be_delivered(written, tmp_path):
    """To another backend, with the original steps and times."""
    logs, _ = written
    done, record = one(logs)
    result = CliRunner().invoke(app, ["sync", record.id, "--to", "tensorboard:./again", "--root", "store", "--json"])
    assert result.exit_code == 0, result.output
    (back,) = list(import_runs("again", root="third"))
    there = tracking.open_store("third").run(back.run)
    assert there.scalar_names() == record.scalar_names()
    assert rows(there, "train/loss") == rows(record, "train/loss")
    assert there.media("audio", "beep") == record.media("audio", "beep")
    assert (there.name, there.started) == (record.name, record.started)


def test_hyperparameters_of_every_kind(tmp_path):
    from tensorboard.plugins.hparams import plugin_data_pb2 as hparams

    data = hparams.HParamsPluginData(version=0)
    held = data.session_start_info.hparams
    held["lr"].number_value = 0.5
    held["layers"].number_value = 64
    held["name"].string_value = "x"
    held["on"].bool_value = True
    held["none"].null_value = 0
    held["widths"].list_value.extend([8, 4.5, "a", None])
    held["nested"].struct_value.update({"a": 1, "b": [True]})
    writer = EventFileWriter(str(tmp_path / "logs"))
    content = data.SerializeToString()
    event(writer, 0, Value(tag="_hparams_/session_start_info", metadata=of_plugin("hparams", content)))
    writer.close()
    _, record = one(tmp_path / "logs")
    assert record.config == {
        "lr": 0.5, "layers": 64, "name": "x", "on": True, "none": None, "widths": [8, 4.5, "a", None],
        "nested": {"a": 1, "b": [True]},
    }  # fmt: skip


def test_of_very_many_problems_some_are_said(tmp_path):
    file = event_file(tmp_path)
    record = b"not an event"
    framed = RecordWriter.__new__(RecordWriter)
    framed._writer = io.BytesIO()
    for _ in range(500):
        framed.write(record)
    with file.open("ab") as out:
        out.write(framed._writer.getvalue())
    done, record = one(tmp_path / "logs")
    assert len(record.scalars("loss")) == 20
    assert len(done.problems) == 101
    assert done.problems[-1] == "and 400 more problems"
