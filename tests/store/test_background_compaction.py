"""Compaction at the end of a run, and beside it: in a process of its own that costs the training nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest

import tracking_core as tracking
from tests.support.programs import only_run, run, start
from tracking_core.compaction import background
from tracking_core.runs import housekeeping

pytestmark = pytest.mark.system


def journals(directory):
    return sorted(path.name for path in (directory / "journal").glob("*.jsonl"))


def record(rows, **keywords):
    with tracking.start_run("p", backends="local", root="runs", **keywords) as run:
        for step in range(rows):
            run.log_scalars({"x": float(step), "y": 1 / (step + 1)}, step=step)
    return run


def test_a_long_run_is_compacted_when_it_ends(monkeypatch):
    monkeypatch.setattr(background, "WORTH", 4000)
    finished = record(300)
    assert journals(finished.dir) == []
    series = tracking.open_store("runs").run(finished.id).scalars("x")
    assert series.value.tolist() == [float(step) for step in range(300)]
    assert finished.health.errors == {}


def test_a_short_run_stays_as_it_is():
    finished = record(10)
    assert len(journals(finished.dir)) == 1
    assert not list(finished.dir.glob("*.parquet"))


@pytest.mark.parametrize(("status", "merged"), [("failed", True), ("interrupted", False), ("preempted", False)])
def test_a_process_that_was_told_to_go_goes(monkeypatch, status, merged):
    monkeypatch.setattr(background, "WORTH", 4000)
    started = tracking.start_run("p", backends="local", root="runs")
    for step in range(300):
        started.log_scalars({"x": float(step)}, step=step)
    started.finish(status)
    assert (journals(started.dir) == []) is merged


def test_what_goes_wrong_is_only_said(monkeypatch, troubles):
    monkeypatch.setattr(background, "WORTH", 4000)

    class Fails(background.Compactor):
        def __init__(self, directory, *, over):
            # Its files cannot be put there: a directory has that name.
            for name in ("events", "scalars"):
                writer = next(directory.glob("journal/*.alive")).stem
                last = max(
                    json.loads(line)["seq"]
                    for path in directory.glob("journal/*.jsonl")
                    for line in path.read_bytes().splitlines()
                )
                ending = "jsonl" if name == "events" else "parquet"
                (directory / f"{name}-{writer}-1-{last}.{ending}").mkdir()
            super().__init__(directory, over=over)

    monkeypatch.setattr(background, "Compactor", Fails)
    finished = record(300)
    ((reason, message, _),) = troubles
    assert reason == "compaction"
    assert "stays JSON Lines for now" in message and "directory" in message.lower()
    assert len(journals(finished.dir)) == 1


def test_the_end_does_not_wait_for_ever(monkeypatch, troubles):
    monkeypatch.setattr(background, "WORTH", 4000)
    monkeypatch.setattr(background, "PATIENCE", 0.01)
    finished = record(300)
    assert [reason for reason, _, _ in troubles] == ["compaction"]
    assert "longer than 0.01 s" in troubles[0][1]
    assert tracking.open_store("runs").run(finished.id).scalars("x").last == 299


def test_segments_are_merged_while_the_run_goes_on(monkeypatch):
    monkeypatch.setattr(housekeeping, "SEGMENT", 2000)
    monkeypatch.setattr(housekeeping, "TICK", 0.01)
    monkeypatch.setattr(background, "WORTH", 4000)
    with tracking.start_run("p", backends="local", root="runs") as started:
        record = tracking.open_store("runs").run(started.id)
        deadline, step = time.monotonic() + 60, 0
        while not list(started.dir.glob("scalars-*.parquet")) and time.monotonic() < deadline:
            started.log_scalars({"x": float(step)}, step=step)
            step += 1
            time.sleep(0.001)
        assert list(started.dir.glob("scalars-*.parquet"))
        assert record.scalars("x").step.tolist() == list(range(step))
        assert record.status == "running"
    assert journals(started.dir) == []
    assert record.scalars("x").step.tolist() == list(range(step))
    assert tracking.open_store("runs").run(started.id).scalars("x").step.tolist() == list(range(step))


def test_the_training_does_not_import_pyarrow(tmp_path):
    out, _ = run(
        """
        import sys
        import tracking_core as tracking
        from tracking_core.compaction import background
        background.WORTH = 4000
        with tracking.start_run("p", root="runs", backends="local") as r:
            for step in range(300):
                r.log_scalars({"x": float(step)}, step=step)
        print(list(r.dir.glob("*.parquet")) != [], "pyarrow" in sys.modules)
        """,
        tmp_path,
    )
    assert out.split() == ["True", "False"]


def test_no_process_outlives_a_training_that_is_killed(tmp_path):
    process = start(
        """
        import os, sys
        from pathlib import Path
        import tracking_core as tracking
        from tracking_core.compaction import background
        r = tracking.start_run("p", root="runs", backends="local")
        for step in range(20000):
            r.log_scalars({"x": float(step)}, step=step)
        compactor = background.Compactor(r.dir)
        print(compactor._child.pid, flush=True)
        sys.stdin.read() if False else None
        import time
        while True:
            time.sleep(1)
        """,
        tmp_path,
    )
    pid = int(process.stdout.readline())
    # Stopped, so that it is there when the training is killed.
    os.kill(pid, signal.SIGSTOP)
    process.kill()
    process.communicate(timeout=30)
    os.kill(pid, signal.SIGCONT)
    deadline = time.monotonic() + 30
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:  # noqa: PTH110 - no path of ours
        time.sleep(0.01)
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    assert state.strip() == "" or state.startswith("Z")
    assert tracking.open_store(tmp_path / "runs").run(only_run(tmp_path / "runs").name).scalars("x").last == 19999
