"""Durability of event files: flushes, kills, restarts from a persisted state, full disks, two writers at once."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from tracking_core import Rejected, RetryLater, RunInfo, SettingsError, open_tracker
from tracking_core.backends.plugins import find_adapter
from tracking_core.backends.targets import parse_target
from tracking_tensorboard.testing import find_run, read_run


def open_run(tmp_path, state=None, **details):
    """A tracker of run "r", and the run. The state goes through JSON, as it does between processes."""
    details = {"id": "r", "name": "r", "started": 1000.0, **details}
    run = RunInfo(state=json.loads(json.dumps(state or {})), resumed=bool(state), **details)
    return open_tracker(f"tensorboard:{tmp_path / 'tb'}", run), run


def event_files(tmp_path):
    return sorted((tmp_path / "tb").glob("*/*tfevents*"))


def steps(tmp_path):
    return [row.step for row in read_run(find_run(tmp_path / "tb", "r")).scalars]


def log(tracker, numbers):
    for number in numbers:
        tracker.log_scalars({"loss": number, "acc": -number}, step=number, wall_time=1000.0 + number)


def child(code, *arguments, **options):
    """Run code in another interpreter."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        check=False, capture_output=True, text=True, timeout=120, **options,
    )  # fmt: skip


def test_what_was_not_confirmed_is_cut_off_and_written_again(tmp_path):
    tracker, run = open_run(tmp_path)
    log(tracker, range(10))
    tracker.flush()
    confirmed = copy.deepcopy(run.state)
    log(tracker, range(10, 20))
    tracker.log_histogram("only now", [1.0, 2.0], step=10)
    (path,) = event_files(tmp_path)
    before = path.read_bytes()
    assert len(before) > confirmed["length"]
    # The process is gone: what was persisted is the confirmed state, and the records from 10 on come again.
    tracker, run = open_run(tmp_path, confirmed)
    assert path.stat().st_size == confirmed["length"]
    log(tracker, range(10, 20))
    # The same bytes at the same place: a TensorBoard that had read on sees nothing twice, and nothing broken.
    assert path.read_bytes() == before[: path.stat().st_size]
    tracker.log_histogram("only now", [1.0, 2.0], step=10)
    tracker.finish()
    assert event_files(tmp_path) == [path]
    stored = read_run(path.parent)
    assert [(row.name, row.step) for row in stored.scalars] == [
        (name, step) for step in range(20) for name in ("loss", "acc")
    ]
    # Its first event was cut off, so the second first event describes it.
    assert stored.histograms[0].value.counts.sum() == 2


def test_a_tensorboard_that_looks_on_sees_a_restart_without_doubles(tmp_path):
    tracker, run = open_run(tmp_path)
    log(tracker, range(10))
    tracker.flush()
    confirmed = copy.deepcopy(run.state)
    log(tracker, range(10, 20))
    watching = EventAccumulator(str(find_run(tmp_path / "tb", "r")), size_guidance={"tensors": 0})

    def seen():
        return [event.step for event in watching.Reload().Tensors("loss")]

    assert seen() == list(range(20))
    tracker, run = open_run(tmp_path, confirmed)
    assert seen() == list(range(20))
    log(tracker, range(10, 15))
    assert seen() == list(range(20))
    log(tracker, range(15, 30))
    tracker.finish()
    assert seen() == list(range(30))


def test_a_tensorboard_that_looks_on_drops_what_a_run_that_went_back_had(tmp_path):
    tracker, run = open_run(tmp_path)
    log(tracker, range(5))
    tracker.finish()
    watching = EventAccumulator(str(find_run(tmp_path / "tb", "r")), size_guidance={"tensors": 0})
    assert [event.step for event in watching.Reload().Tensors("loss")] == list(range(5))
    states = (run.state,)
    for generation in (1, 2):
        tracker, run = open_run(tmp_path, generation=generation, replaced=states)
        log(tracker, [0, 1, 6 + generation])
        tracker.finish()
        assert [event.step for event in watching.Reload().Tensors("loss")] == [0, 1, 6 + generation]
        states += (run.state,)


def test_a_crash_before_the_first_flush_of_records(tmp_path):
    tracker, run = open_run(tmp_path, config={"lr": 1})
    opened = copy.deepcopy(run.state)
    log(tracker, range(5))
    tracker, run = open_run(tmp_path, opened, config={"lr": 1})
    log(tracker, range(5))
    tracker.finish()
    assert len(event_files(tmp_path)) == 1
    stored = read_run(event_files(tmp_path)[0].parent)
    assert [row.step for row in stored.scalars if row.name == "loss"] == list(range(5))
    assert len([entry for entry in stored.extra["hparams"] if entry.tag.endswith("session_start_info")]) == 1
    assert len(stored.extra["about"]) == 1


def test_restarting_again_and_again(tmp_path):
    state, number = {}, 0
    for lost in range(6):
        tracker, run = open_run(tmp_path, state)
        log(tracker, [number])
        tracker.flush()
        state, number = copy.deepcopy(run.state), number + 1
        log(tracker, range(number, number + lost))
    tracker, run = open_run(tmp_path, state)
    tracker.finish()
    assert len(event_files(tmp_path)) == 1
    assert steps(tmp_path) == [step for step in range(6) for _ in range(2)]


def test_a_torn_record_at_the_end_is_cut_off(tmp_path):
    tracker, run = open_run(tmp_path)
    log(tracker, range(3))
    tracker.flush()
    (path,) = event_files(tmp_path)
    with path.open("ab") as file:
        file.write(b"\x50\x00\x00\x00\x00\x00\x00\x00torn")
    tracker, _ = open_run(tmp_path, run.state)
    log(tracker, range(3, 6))
    tracker.finish()
    assert steps(tmp_path) == [step for step in range(6) for _ in range(2)]


@pytest.mark.parametrize("damage", ["deleted", "emptied"])
def test_a_file_that_somebody_removed_is_begun_anew(tmp_path, damage):
    tracker, run = open_run(tmp_path, config={"lr": 0.5})
    log(tracker, range(3))
    tracker.finish()
    (path,) = event_files(tmp_path)
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(b"")
    tracker, run = open_run(tmp_path, run.state, config={"lr": 0.5})
    log(tracker, range(3, 6))
    tracker.finish()
    stored = read_run(path.parent)
    assert [row.step for row in stored.scalars] == [step for step in range(3, 6) for _ in range(2)]
    assert stored.config == {"lr": 0.5}
    assert run.state["file"] != f"r/{path.name}"
    assert set(run.state["tags"]) == {"_run_/about", "_run_/config", "_run_/status", "loss", "acc"}


def test_a_run_goes_on_after_it_was_finished(tmp_path):
    tracker, run = open_run(tmp_path, config={"lr": 0.5})
    log(tracker, range(2))
    tracker.finish("preempted")
    length = run.state["length"]
    assert event_files(tmp_path)[0].stat().st_size == length
    tracker, run = open_run(tmp_path, run.state, config={"lr": 0.5})
    log(tracker, range(2, 4))
    tracker.log_config({"lr": 0.25})
    tracker.finish("failed", error="ValueError: a *star*")
    assert len(event_files(tmp_path)) == 1
    stored = read_run(event_files(tmp_path)[0].parent)
    assert [row.step for row in stored.scalars] == [step for step in range(4) for _ in range(2)]
    assert stored.config == {"lr": 0.25}
    assert stored.status == "failed"
    # HParams: one row, ended once; interrupted and preempted runs are left open, because they often go on.
    tags = [entry.tag.rpartition("/")[2] for entry in stored.extra["hparams"]]
    assert tags == ["session_start_info", "session_end_info"]
    # Opened once more with nothing to do: nothing is added.
    size = event_files(tmp_path)[0].stat().st_size
    tracker, run = open_run(tmp_path, run.state)
    tracker.finish("failed", error="ValueError: a *star*")
    assert event_files(tmp_path)[0].stat().st_size == size


def test_nothing_is_purged_by_tensorboard(tmp_path):
    tracker, run = open_run(tmp_path)
    log(tracker, [100, 50])
    tracker.finish()
    tracker, run = open_run(tmp_path, run.state)
    log(tracker, [10, 200])
    tracker.finish()
    accumulator = EventAccumulator(str(find_run(tmp_path / "tb", "r")), size_guidance={"tensors": 0}).Reload()
    assert [event.step for event in accumulator.Tensors("loss")] == [100, 50, 10, 200]
    assert accumulator.file_version == 2


@pytest.mark.system
def test_every_record_is_in_the_file_when_the_call_returns(tmp_path):
    tracker, _ = open_run(tmp_path)
    log(tracker, range(3))
    reader = """
        import sys
        from tracking_tensorboard.testing import read_run
        from pathlib import Path
        print([row.step for row in read_run(Path(sys.argv[1])).scalars if row.name == "loss"])
    """
    result = child(reader, event_files(tmp_path)[0].parent)
    assert result.stdout.split("\n")[0] == "[0, 1, 2]", result.stderr
    tracker.finish()


def test_flush_reaches_the_disk(tmp_path, monkeypatch):
    synced = []
    real = os.fsync

    def fsync(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    tracker, run = open_run(tmp_path)
    (path,) = event_files(tmp_path)
    assert synced == [str(path), str(path.parent)]
    log(tracker, range(3))
    assert len(synced) == 2
    tracker.flush()
    assert synced[2:] == [str(path)]
    assert run.state["length"] == path.stat().st_size
    tracker.finish()


@pytest.mark.system
def test_a_killed_writer_loses_nothing(tmp_path):
    writer = """
        import json, os, sys
        from tracking_core import RunInfo, open_tracker
        run = RunInfo(id="r", name="r")
        tracker = open_tracker(f"tensorboard:{sys.argv[1]}", run)
        for step in range(100):
            tracker.log_scalars({"loss": step, "acc": -step}, step=step)
            if step == 59:
                tracker.flush()
                print(json.dumps(run.state), flush=True)
        os.kill(os.getpid(), 9)
    """
    result = child(writer, tmp_path / "tb")
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert steps(tmp_path) == [step for step in range(100) for _ in range(2)]
    tracker, _ = open_run(tmp_path, json.loads(result.stdout))
    assert steps(tmp_path) == [step for step in range(60) for _ in range(2)]
    log(tracker, range(60, 70))
    tracker.finish()
    assert steps(tmp_path) == [step for step in range(70) for _ in range(2)]


@pytest.mark.system
def test_a_full_disk_asks_for_patience_and_loses_nothing(tmp_path):
    # A limit on the size of files fails writes as a full disk does, in the middle of a record too.
    code = """
        import resource, signal, sys
        from tracking_core import RetryLater, RunInfo, open_tracker
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        run = RunInfo(id="r", name="r")
        tracker = open_tracker(f"tensorboard:{sys.argv[1]}", run)
        length = run.state["length"]
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        tracker.log_scalars({"loss": 0.0}, step=0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (length + 200, hard))
        step, refused = 1, 0
        while step < 50:
            try:
                tracker.log_scalars({"loss": step, "later": step} if refused else {"loss": step}, step=step)
            except RetryLater as error:
                refused += 1
                assert "cannot write to" in str(error), error
                if refused == 3:
                    tracker.log_scalars({}, step=step)
                    tracker.flush()
                    assert run.state["length"] <= length + 200
                    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            else:
                step += 1
        tracker.finish()
        print(refused)
    """
    result = child(code, tmp_path / "tb")
    assert result.stdout.strip() == "3", result.stderr
    stored = read_run(find_run(tmp_path / "tb", "r"))
    assert [row.step for row in stored.scalars if row.name == "loss"] == list(range(50))
    assert {row.name for row in stored.scalars} == {"loss", "later"}


def test_two_writers_of_the_same_second(tmp_path, monkeypatch):
    monkeypatch.setattr("tracking_tensorboard.location.time.time", lambda: 1_700_000_000.0)
    one, _ = open_run(tmp_path)
    two, _ = open_run(tmp_path)
    log(one, range(3))
    log(two, range(3, 6))
    one.finish()
    two.finish()
    assert len(event_files(tmp_path)) == 2
    assert len({path.name.rpartition(".")[0] for path in event_files(tmp_path)}) == 1
    assert sorted(steps(tmp_path)) == [step for step in range(6) for _ in range(2)]


def test_the_file_is_what_tensorboard_expects(tmp_path):
    tracker, _ = open_run(tmp_path)
    tracker.finish()
    (path,) = event_files(tmp_path)
    assert path.name.startswith("events.out.tfevents.")
    first = next(iter(EventFileLoader(str(path)).Load()))
    assert first.file_version == "brain.Event:2"


def test_after_finish(tmp_path):
    tracker, run = open_run(tmp_path)
    log(tracker, range(2))
    tracker.finish()
    size = event_files(tmp_path)[0].stat().st_size
    tracker.finish()
    tracker.finish("failed")
    tracker.flush()
    for call in (
        lambda: tracker.log_scalars({"x": 1}, step=0),
        lambda: tracker.log_text("x", "y", step=0),
        lambda: tracker.log_config({"x": 1}),
        lambda: tracker.log_artifact({"x": b"1"}, name="x"),
    ):
        with pytest.raises(Rejected, match="'r' is finished"):
            call()
    assert event_files(tmp_path)[0].stat().st_size == size


def test_a_directory_that_cannot_be_written_to(tmp_path):
    (tmp_path / "tb").write_text("a file")
    with pytest.raises(SettingsError, match=r"tb is a file; name another directory"):
        open_run(tmp_path)
    # The same, found out only when it is opened.
    with pytest.raises(SettingsError, match=r"cannot write to .*tb: .*tensorboard:DIRECTORY"):
        find_adapter("tensorboard").open(parse_target(f"tensorboard:{tmp_path}/tb"), RunInfo(id="r", name="r"))


def test_an_opening_that_fails_for_now(tmp_path, monkeypatch):
    def mkdir(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.mkdir", mkdir)
    with pytest.raises(RetryLater, match="No space left"):
        open_run(tmp_path)
