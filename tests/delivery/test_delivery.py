"""Delivery: every target gets what was recorded, whatever happens to the others, and once where it can be once."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

import tracking_core as tracking
from tests.support.programs import run as run_program
from tests.support.programs import scalar_rows
from tracking_core.backends.targets import parse_target
from tracking_core.delivery.destinations import Destination
from tracking_core.delivery.worker import TargetWorker


class Plain:
    """A tracker with the five methods and nothing else."""

    def __init__(self):
        self.rows = []
        self.images = []
        self.histograms = []
        self.artifacts = []
        self.ended = []

    def log_scalars(self, scalars, *, step, step_axis="step", wall_time=None):
        for name, value in scalars.items():
            self.rows.append((name, step_axis, step, value, wall_time))

    def log_images(self, images, *, step, step_axis="step", wall_time=None, value_range=None):
        for name, value in images.items():
            self.images.append((name, step_axis, step, [image.pixels for image in value]))

    def log_histogram(self, name, values, *, step, step_axis="step", wall_time=None, bins=64):
        self.histograms.append((name, step, values))

    def log_artifact(self, artifact, *, name=None, type="file", metadata=None, aliases=()):
        files = {p: s if isinstance(s, bytes) else Path(s).read_bytes() for p, s in artifact.items()}
        self.artifacts.append((name, type, files, metadata, tuple(aliases)))
        return tracking.ArtifactRef(name, type)

    def finish(self, status="finished", *, error=None):
        self.ended.append((status, error))


class Faulty(Plain):
    """Raises what it is told to, for records it is told to."""

    def __init__(self, *errors):
        super().__init__()
        self.errors = list(errors)

    def log_scalars(self, scalars, **keywords):
        if self.errors:
            raise self.errors.pop(0)
        super().log_scalars(scalars, **keywords)


def started(*backends, **keywords):
    return tracking.start_run("p", root="runs", backends=list(backends), **keywords)


@pytest.mark.parametrize("delivery", ["thread", "inline"])
def test_a_tracker_gets_every_kind(delivery):
    plain = Plain()
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    with started(plain, delivery=delivery) as run:
        run.log_scalars({"a": 1, "b": float("nan")}, step=5, wall_time=99.5)
        run.log_scalars({"v": 2.5}, step=1, step_axis="epoch")
        run.log_images({"i": pixels}, step=5)
        run.log_histogram("h", [1.0, 2.0, 3.0], step=6, bins=2)
        run.log_artifact({"f.txt": b"hi"}, name="art", type="kind", metadata={"k": 1}, aliases=["x"])
    assert plain.rows[0] == ("a", "step", 5, 1, 99.5)
    assert plain.rows[1][:3] == ("b", "step", 5)
    assert np.isnan(plain.rows[1][3])
    assert plain.rows[2][:4] == ("v", "epoch", 1, 2.5)
    assert plain.images[0][:3] == ("i", "step", 5)
    np.testing.assert_array_equal(plain.images[0][3][0], pixels)
    assert plain.histograms[0][2] == tracking.Histogram.from_values([1.0, 2.0, 3.0], bins=2)
    assert plain.artifacts == [("art", "kind", {"f.txt": b"hi"}, {"k": 1}, ("x",))]
    assert plain.ended == [("finished", None)]
    report = run.finish()
    assert report.ok
    assert report["Plain"].delivered == 5


def test_fallbacks_are_used_and_said_once(troubles):
    plain = Plain()
    with started(plain) as run:
        for step in range(2):
            run.log_table("t", [{"a": 1}], step=step)
            run.log_text("note", "words", step=step)
        run.log_config({"lr": 0.1})
    assert [(a[0], a[1]) for a in plain.artifacts] == [
        ("t-step-0", "table"),
        ("note-step-0", "text"),
        ("t-step-1", "table"),
        ("note-step-1", "text"),
        ("config", "config"),
    ]
    assert plain.artifacts[1][2] == {"value.md": b"words"}
    assert [reason for reason, _, _ in troubles] == ["fallback"] * 3


def test_one_failing_target_leaves_the_others_and_the_training_alone(troubles):
    good, bad, dead = Plain(), Faulty(*[ValueError("no")] * 3), Faulty(*[SystemExit(1)] * 100)
    with started(good, bad, dead) as run:
        for step in range(20):
            run.log_scalars({"x": float(step)}, step=step)
    report = run.finish()
    assert [row[2] for row in good.rows] == list(range(20))
    assert [row[2] for row in bad.rows] == list(range(3, 20))
    assert (report["Plain"].delivered, report["Plain"].ok) == (20, True)
    assert (report["Faulty"].delivered, report["Faulty"].failed) == (17, 3)
    assert "ValueError: no" in report["Faulty"].last_error
    # After nine failures the breaker opens: the rest stays in the journal for later.
    assert (report["Faulty#2"].failed, report["Faulty#2"].pending) == (9, 11)
    assert not report.ok
    assert len(scalar_rows(run.dir)) == 20


def test_rejected_goes_on_and_retry_later_repeats(troubles):
    tracker = Faulty(tracking.RetryLater("busy", after=0.01), tracking.RetryLater(after=0.01), tracking.Rejected("no"))
    with started(tracker) as run:
        for step in range(4):
            run.log_scalars({"x": float(step)}, step=step)
    # The first record was tried three times, and refused at the third.
    assert [row[2] for row in tracker.rows] == [1, 2, 3]
    report = run.finish()["Faulty"]
    assert (report.delivered, report.failed, report.pending) == (3, 1, 0)


def test_finish_gives_up_on_a_hung_target_and_says_what_waits(troubles):
    release = threading.Event()

    class Hung(Plain):
        def log_scalars(self, scalars, **keywords):
            release.wait(30)

    good = Plain()
    try:
        with started(Hung(), good) as run:
            for step in range(10):
                run.log_scalars({"x": float(step)}, step=step)
            report = run.finish(timeout=0.3)
        assert report["Hung"].pending == 10
        assert "no progress" in report["Hung"].last_error
        assert report["Plain"].delivered == 10
        assert good.ended == [("finished", None)]
    finally:
        release.set()


def test_flush_returns_when_everything_was_confirmed():
    flushed = []

    class Flushing(Plain):
        def flush(self):
            flushed.append(len(self.rows))

    tracker = Flushing()
    with started(tracker) as run:
        for step in range(100):
            run.log_scalars({"x": float(step)}, step=step)
        report = run.flush()
        assert len(tracker.rows) == 100
        assert flushed[-1] == 100
        assert report["Flushing"].delivered == 100
        assert report.ok


def test_a_batch_that_is_interrupted_is_not_sent_twice(troubles):
    class Batches(Plain):
        def deliver(self, records):
            for number, record in enumerate(records):
                if record.kind == "scalars" and record.step in {3, 7} and record.step not in tried:
                    tried.add(record.step)
                    raise tracking.BatchInterrupted(number) from (
                        tracking.RetryLater(after=0.01) if record.step == 3 else ValueError("never")
                    )
                seen.append((record.seq, record.step))

    seen, tried = [], set()
    with started(Batches()) as run:
        for step in range(10):
            run.log_scalars({"x": float(step)}, step=step)
    steps = [step for _, step in seen]
    assert steps == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    assert [seq for seq, _ in seen] == sorted(seq for seq, _ in seen)
    assert run.finish()["Batches"].failed == 1


def test_filters_thin_what_a_target_gets(monkeypatch):
    # The csv adapter of the examples is not installed here: a filter belongs to the worker, whatever the adapter.
    target = parse_target("plain?include=train/*|lr&exclude=*/secret&every=10&media=off")
    plain = Plain()
    with started("local") as run:
        for step in range(20):
            run.log_scalars({"train/loss": 1.0, "train/secret": 2.0, "val/loss": 3.0, "lr": 4.0}, step=step)
        run.log_images({"train/image": np.zeros((2, 2))}, step=0)
        run.log_histogram("train/h", [1.0], step=0)
    worker = TargetWorker(run.dir, Destination("plain", target, plain), pause=lambda _: True, note=lambda *_: None)
    assert worker.open(wait=0.0)
    while worker.deliver(final=True):
        pass
    assert sorted({(row[0], row[2]) for row in plain.rows}) == [
        ("lr", 0),
        ("lr", 10),
        ("train/loss", 0),
        ("train/loss", 10),
    ]
    assert plain.images == plain.histograms == []
    assert worker.report().skipped == 20


def test_a_worker_needs_a_run_directory_and_a_target_and_nothing_else(tmp_path):
    with started("local") as run:
        for step in range(300):
            run.log_scalars({"x": float(step)}, step=step)
    code = f"""
    from pathlib import Path
    from tracking_core.delivery.worker import Destination, TargetWorker
    from tracking_core.backends.targets import parse_target
    target = parse_target("tensorboard:{tmp_path}/tb")
    worker = TargetWorker(Path({str(run.dir)!r}), Destination("tb", target), pause=lambda s: True, note=print)
    assert worker.open()
    while worker.deliver(final=True): pass
    worker.close("finished", None)
    print(worker.report())
    """
    out, _ = run_program(code, tmp_path)
    assert out.splitlines()[-1] == "tb: 300 delivered"


def test_cursors_hold_what_was_confirmed(tmp_path):
    with started(f"tensorboard:{tmp_path}/a", f"tensorboard:{tmp_path}/b") as run:
        run.log_scalars({"x": 1.0}, step=0)
    cursors = [json.loads(path.read_text()) for path in sorted((run.dir / "cursors").glob("*.json"))]
    assert sorted(cursor["target"] for cursor in cursors) == [
        f"tensorboard:{tmp_path}/a",
        f"tensorboard:{tmp_path}/b",
    ]
    for cursor in cursors:
        (position,) = cursor["writers"].values()
        assert position["seq"] >= 1
        assert cursor["status"] == "finished"
        assert cursor["counts"] == {"delivered": 1}


def test_an_interrupted_worker_goes_on_where_the_cursor_stands():
    with started("local") as run:
        for step in range(600):
            run.log_scalars({"x": float(step)}, step=step)

    target = parse_target("plain")
    kept = Plain()

    def worker():
        made = TargetWorker(run.dir, Destination("plain", target, kept), pause=lambda _: True, note=lambda *_: None)
        made._backlog.resume(type(made.cursor).load(run.dir, target))
        return made

    first = worker()
    assert first.open(wait=0.0)
    first.deliver()
    first.commit()
    confirmed = len(kept.rows)
    assert 0 < confirmed < 600
    first.deliver()
    # Killed here: what came after the cursor is sent again, and nothing is missing.
    second = worker()
    assert second.open(wait=0.0)
    while second.deliver(final=True):
        pass
    steps = [row[2] for row in kept.rows]
    assert set(steps) == set(range(600))
    assert steps[:confirmed] == list(range(confirmed))
    assert steps[-(600 - confirmed) :] == list(range(confirmed, 600))


class Gathering(Plain):
    """Puts together what comes next with what it has, until it is flushed."""

    gathering = False

    def __init__(self):
        super().__init__()
        self.flushes = []

    def deliver(self, records):
        self.rows += records

    def flush(self):
        self.flushes.append(len(self.rows))
        self.gathering = False


@pytest.mark.parametrize("final", [False, True])
def test_a_target_that_puts_records_together_is_not_flushed_meanwhile(final):
    with started("local") as run:
        run.log_scalars({"a": 1.0}, step=0)
    tracker, now = Gathering(), [0.0]
    target = Destination("gathering", parse_target("gathering"), tracker)
    worker = TargetWorker(run.dir, target, pause=lambda _: True, note=lambda *_: None, clock=lambda: now[0])
    assert worker.open(wait=0.0)
    tracker.flushes.clear()
    assert worker.deliver(final=final)
    tracker.gathering = True
    count = len(tracker.rows)
    # There is nothing more for now. Where nothing more can come, there is nothing to wait for.
    assert worker.deliver(final=final) == 0
    assert tracker.flushes == ([count] if final else [])
    tracker.gathering = False
    assert worker.deliver(final=final) == 0
    assert tracker.flushes == [count]
    worker.close("finished", None)


def test_held_events_are_not_passed_over(tmp_path):
    """An event below `low` that is still missing holds back what comes after it."""
    from tracking_core.base.processes import process_facts
    from tracking_core.delivery.cursor import Cursor
    from tracking_core.delivery.inbox import Inbox
    from tracking_core.journal import encode_line

    (tmp_path / "journal").mkdir()
    path = tmp_path / "journal" / "w-000001.jsonl"

    def line(seq, low):
        return encode_line(seq, low, "scalars", 0.0, {"axis": "step", "step": seq, "values": {"x": seq}})

    alive = tmp_path / "journal" / "w.alive"
    alive.write_text(json.dumps(process_facts()))
    path.write_bytes(line(1, 2) + line(3, 2))
    cursor = Cursor(tmp_path / "c.json")
    inbox = Inbox(tmp_path, cursor)
    inbox.pull()
    assert [event.seq for event in inbox.ready(10)] == [1]
    for event in inbox.ready(10):
        inbox.done(event)
    assert inbox.positions()["w"].seq == 1
    assert inbox.positions()["w"].offset == len(line(1, 2))
    cursor.save(inbox.positions())
    again = Inbox(tmp_path, Cursor(cursor.path, writers=dict(cursor.writers)))
    with path.open("ab") as file:
        file.write(line(2, 4))
    again.pull()
    assert [event.seq for event in again.ready(10)] == [2, 3]


def test_strict_waits_for_the_backends_and_says_why_not(troubles):
    class Broken(Plain):
        confirmed = property(lambda self: 1 / 0)

    with pytest.raises(tracking.SettingsError, match="cannot be written|cannot be opened|died|ZeroDivision"):
        started(Broken(), strict=True)
    assert tracking.current_run() is None


def test_url_native_and_should_stop():
    class Rich(Plain):
        url = "http://127.0.0.1/run"
        native = object()
        should_stop = False

    rich = Rich()
    with started(rich, Plain()) as run:
        assert run.native("Rich") is Rich.native
        assert run.url() == run.url("Rich") == "http://127.0.0.1/run"
        assert run.url("Plain") is None
        assert run.should_stop is False
        rich.should_stop = True
        assert run.should_stop is True
        with pytest.raises(tracking.SettingsError, match="nosuch"):
            run.native("nosuch")


def test_a_cursor_does_not_pass_over_what_was_not_confirmed(troubles):
    """A backend whose flush fails at the end: what it may not have is sent again when the run is opened again."""

    class Unsure(Plain):
        fails = True

        def flush(self):
            if self.fails and self.rows:
                raise OSError("disk full")

    with started("local") as run:
        for step in range(5):
            run.log_scalars({"x": float(step)}, step=step)
    target = parse_target("plain")

    def deliver(tracker):
        worker = TargetWorker(
            run.dir, Destination("plain", target, tracker), pause=lambda _: True, note=lambda *_: None
        )
        worker._backlog.resume(type(worker.cursor).load(run.dir, target))
        assert worker.open(wait=0.0)
        while worker.deliver(final=True) and not worker.last_error:
            pass
        worker.close("finished", None)
        return [row[2] for row in tracker.rows]

    assert deliver(Unsure()) == list(range(5))
    again = Unsure()
    again.fails = False
    assert deliver(again) == list(range(5))
    assert deliver(Plain()) == []


def test_a_broken_tracker_is_opened_again(troubles, tmp_path, monkeypatch):
    """An adapter whose connection dies: the worker opens it again, and goes on after what was confirmed."""
    from tracking_core.backends.hooks import AdapterInfo, hookimpl
    from tracking_core.backends.plugins import Adapter

    opened = []
    kept = []

    class Connection(Plain):
        broken = False

        def __init__(self, number):
            super().__init__()
            self.number = number

        def log_scalars(self, scalars, *, step, **keywords):
            if self.number == 0 and step >= 3:
                self.broken = True
                raise tracking.RetryLater("the connection is gone", after=0.0)
            kept.append(step)

    class Hooks:
        @hookimpl
        def tracking_adapter(self):
            return AdapterInfo(name="dying", api_version=1)

        @hookimpl
        def open_tracker(self, target, run):
            opened.append(run.resumed)
            return Connection(len(opened) - 1)

    with started("local") as run:
        for step in range(6):
            run.log_scalars({"x": float(step)}, step=step)
    destination = Destination("dying", parse_target("dying"))
    monkeypatch.setattr(Destination, "adapter", lambda self: Adapter(Hooks(), "dying"))
    worker = TargetWorker(run.dir, destination, pause=lambda _: True, note=lambda *_: None)
    assert worker.open(wait=0.0)
    for _ in range(5):
        worker.deliver(final=True)
    worker.close("finished", None)
    assert opened == [False, True]
    # Nothing had been confirmed before: it is sent again, and nothing is missing.
    assert kept == [0, 1, 2, 0, 1, 2, 3, 4, 5]


def test_a_target_that_cannot_be_finished_is_sent_again_what_it_may_not_have(troubles):
    class Unfinished(Plain):
        def finish(self, status="finished", *, error=None):
            raise tracking.RetryLater("the server has 3 of 5 rows")

    with started("local") as run:
        for step in range(5):
            run.log_scalars({"x": float(step)}, step=step)
    target = parse_target("plain")
    worker = TargetWorker(
        run.dir, Destination("plain", target, Unfinished()), pause=lambda _: True, note=lambda *_: None
    )
    worker._backlog.resume(type(worker.cursor).load(run.dir, target))
    assert worker.open(wait=0.0)
    worker.deliver(final=True)
    worker.close("finished", None)
    cursor = json.loads(next((run.dir / "cursors").glob("*.json")).read_text())
    assert cursor["status"] is None
    assert all(position["seq"] < 5 for position in cursor["writers"].values())


def test_a_gap_that_a_killed_writer_left_holds_nothing_back(tmp_path):
    """Its number was taken and never written: what comes after it is delivered once the writer is gone."""
    from tracking_core.delivery.cursor import Cursor
    from tracking_core.delivery.inbox import Inbox
    from tracking_core.journal import encode_line

    (tmp_path / "journal").mkdir()
    lines = [
        encode_line(seq, 2, "scalars", 0.0, {"axis": "step", "step": seq, "values": {"x": seq}}) for seq in (1, 3, 4)
    ]
    (tmp_path / "journal" / "w-000001.jsonl").write_bytes(b"".join(lines))
    inbox = Inbox(tmp_path, Cursor(None))
    inbox.pull()
    events = inbox.ready(10)
    assert [event.seq for event in events] == [1, 3, 4]
    for event in events:
        inbox.done(event)
    assert inbox.positions()["w"].seq == 4
