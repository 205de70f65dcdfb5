"""Compaction after the end of a run, and beside it: in one process for all of them that costs the training nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import tracking_core as tracking
from tests.support.commands import tracking as command
from tests.support.processes import MARK, wait_until_gone
from tests.support.programs import run, start
from tracking_core.compaction import background
from tracking_core.runs import exit as exits
from tracking_core.runs import housekeeping
from tracking_core.runs import start as starting

pytestmark = pytest.mark.system

LOOP = """
import os, sys
import tracking_core as tracking
from tracking_core.compaction import background
from tracking_core.compaction.background import compaction
background.WORTH = 4000

def record(rows=300):
    run = tracking.start_run("p", root="runs", backends="local")
    for step in range(rows):
        run.log_scalars({"x": float(step)}, step=step)
    return run

def started():
    # Held by whoever starts the process: when it can be had, the process is there, if there is to be one.
    while compaction.pid is None:
        pass
    return compaction.pid
"""


def journals(directory):
    return sorted(path.name for path in (directory / "journal").glob("*.jsonl"))


def until(done, what):
    deadline = time.monotonic() + 120
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def ended(pid):
    """Whether a process is gone, as far as others are concerned."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - no path of ours
            return file.read().rpartition(b")")[2].split()[0] in {b"Z", b"X"}
    except (FileNotFoundError, ProcessLookupError):
        return True


class Started:
    """What compacts the runs of a test, and the processes that it started."""

    def __init__(self, compaction):
        self.compaction = compaction
        self.by = []


@pytest.fixture
def compacting(monkeypatch):
    """What compacts the runs of this test, and of no other."""
    found = Started(background.Compaction())
    for module in (background, exits, starting):
        monkeypatch.setattr(module, "compaction", found.compaction)
    monkeypatch.setattr(background, "WORTH", 4000)

    class Counted(background._Process):
        def __init__(self):
            found.by.append(threading.current_thread().name)
            super().__init__()

    monkeypatch.setattr(background, "_Process", Counted)
    yield found
    found.compaction.leave(at_once=True)
    if found.compaction._process is not None:
        found.compaction._process.end()


def record(rows, **keywords):
    with tracking.start_run("p", backends="local", root="runs", **keywords) as run:
        for step in range(rows):
            run.log_scalars({"x": float(step), "y": 1 / (step + 1)}, step=step)
    return run


def test_runs_are_compacted_after_they_ended_by_one_process(compacting):
    # Nothing can be started while this is held: no end of a run waits for it.
    with compacting.compaction._starting:
        runs = [record(300) for _ in range(4)]
        assert [len(journals(one.dir)) for one in runs] == [1] * 4
        assert compacting.by == []
    until(lambda: not any(journals(one.dir) for one in runs), "all are compacted")
    assert compacting.by == ["tracking-compaction"]
    for one in runs:
        series = tracking.open_store("runs").run(one.id).scalars("x")
        assert series.value.tolist() == [float(step) for step in range(300)]
        assert one.health.errors == {}


def test_a_short_run_stays_as_it_is(compacting, monkeypatch):
    monkeypatch.setattr(background, "WORTH", 256 << 10)
    short, long = record(10), record(4000)
    until(lambda: not journals(long.dir), "the other is compacted")
    assert len(journals(short.dir)) == 1
    assert not list(short.dir.glob("*.parquet"))


def test_a_process_without_work_is_let_go_and_another_is_started(compacting, monkeypatch):
    monkeypatch.setattr(background, "IDLE", 0.01)
    for count in (1, 2):
        finished = record(300)
        until(lambda finished=finished: not journals(finished.dir), "it is compacted")
        until(lambda: compacting.compaction.pid is None, "the process is let go")
        assert len(compacting.by) == count


@pytest.mark.parametrize(("status", "merged"), [("failed", True), ("interrupted", False), ("preempted", False)])
def test_a_process_that_was_told_to_go_goes(compacting, status, merged):
    started = tracking.start_run("p", backends="local", root="runs")
    for step in range(300):
        started.log_scalars({"x": float(step)}, step=step)
    started.finish(status)
    after = record(300)
    until(lambda: not journals(after.dir), "what came after it")
    assert (journals(started.dir) == []) is merged


def test_what_goes_wrong_is_only_said(compacting, troubles):
    started = tracking.start_run("p", backends="local", root="runs")
    for step in range(300):
        started.log_scalars({"x": float(step), "y": 1 / (step + 1)}, step=step)
    with compacting.compaction._starting:
        started.finish()
        # Its files cannot be put there: a directory has that name.
        writer = next(started.dir.glob("journal/*.alive")).stem
        lines = [line for path in started.dir.glob("journal/*.jsonl") for line in path.read_bytes().splitlines()]
        last = max(json.loads(line)["seq"] for line in lines)
        for name in (f"events-{writer}-1-{last}.jsonl", f"scalars-{writer}-1-{last}.parquet"):
            (started.dir / name).mkdir()
    until(lambda: troubles, "it is said")
    ((reason, message, _),) = troubles
    assert reason == "compaction"
    assert "stays JSON Lines for now" in message and "directory" in message.lower()
    assert len(journals(started.dir)) == 1


def test_a_process_that_dies_is_replaced(compacting, troubles):
    first = record(300)
    until(lambda: not journals(first.dir), "it is compacted")
    os.kill(compacting.compaction.pid, signal.SIGKILL)
    second = record(300)
    until(lambda: not journals(second.dir), "that is compacted as well")
    assert len(compacting.by) == 2
    assert [reason for reason, _, _ in troubles] in ([], ["compaction"])


def test_segments_are_merged_while_the_run_goes_on(compacting, monkeypatch):
    monkeypatch.setattr(housekeeping, "SEGMENT", 2000)
    monkeypatch.setattr(housekeeping, "TICK", 0.01)
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
    # A short rest is left as it is.
    until(lambda: not background.is_worth_it(started.dir), "the rest")
    assert record.scalars("x").step.tolist() == list(range(step))
    assert tracking.open_store("runs").run(started.id).scalars("x").step.tolist() == list(range(step))
    assert len(compacting.by) == 1


def test_what_a_training_left_is_picked_up(compacting, tmp_path):
    """By the next one in the project, and by `tracking sync`; a run that somebody records is left alone."""
    left = (
        LOOP
        + """
for _ in range(2):
    record(4000).finish("interrupted")
"""
    )
    run(left, tmp_path)
    runs = sorted((tmp_path / "runs" / "p").iterdir())
    assert [len(journals(one)) for one in runs] == [1, 1]
    goes_on = tracking.start_run("q", backends="local", root="runs")
    for step in range(300):
        goes_on.log_scalars({"x": float(step)}, step=step)
    assert list(background.left_over(tmp_path / "runs" / "q")) == []
    assert compacting.by == []
    tracking.start_run("p", backends="local", root="runs").finish()
    until(lambda: not any(map(journals, runs)), "the next training picks it up")
    assert len(compacting.by) == 1
    run(left, tmp_path)
    runs = [one for one in (tmp_path / "runs" / "p").iterdir() if background.is_left_over(one)]
    assert len(runs) == 2
    command("sync", "--all", "--root", "runs", cwd=tmp_path)
    assert not any(map(journals, runs))
    assert tracking.open_store("runs").run(runs[0].name).scalars("x").last == 3999
    goes_on.finish()


def test_a_training_that_ends_does_not_wait_and_what_it_left_is_done(tmp_path):
    """Whoever waits for the training, and for its output, does not wait for the process, here one that is held up."""
    (tmp_path / "held.py").write_text(
        "import os, time\n"
        "while not os.path.exists('go'): time.sleep(0.01)\n"
        "from tracking_core.compaction.server import main\n"
        "main()\n"
    )
    out, _ = run(
        LOOP
        + """
from tracking_core.base import children

class Held(children.Child):
    def __init__(self, module, *arguments, **keywords):
        super().__init__("held" if module.endswith("compaction.server") else module, *arguments, **keywords)

children.Child = Held
record().finish()
pid = started()
# One that it was asked for, one that waits, and one that ends with the program.
record().finish()
record()
print(pid, "pyarrow" in sys.modules)
""",
        tmp_path,
        **{MARK: str(tmp_path)},
    )
    pid, imported = out.split()
    assert imported == "False"
    assert not ended(int(pid))
    (tmp_path / "go").touch()
    wait_until_gone(str(tmp_path))
    runs = list((tmp_path / "runs" / "p").iterdir())
    assert len(runs) == 3
    assert not any(map(journals, runs))


def test_what_a_training_leaves_running_goes_after_a_while(tmp_path):
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import time; from tracking_core.compaction import server\n"
            "server.LAST, server.compact = 0.1, lambda *_, **__: time.sleep(1000)\nserver.main()",
            "2",
        ],
        stdin=subprocess.PIPE,
    )
    process.communicate(b'{"dir": "runs/p/r", "over": true}\n{"do": "bye"}\n', timeout=120)
    assert process.returncode == 0


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_no_process_outlives_a_training_that_was_told_to_go(tmp_path, how):
    process = start(
        LOOP
        + """
import signal, time
record(20000).finish()
print(started(), flush=True)
# Ended by SIGTERM, as a run that is open has it.
run = record()
while True:
    time.sleep(1)
""",
        tmp_path,
    )
    pid = int(process.stdout.readline())
    if how == "SIGKILL":
        # Stopped, so that it is there when the training is killed.
        os.kill(pid, signal.SIGSTOP)
    process.send_signal(getattr(signal, how))
    process.communicate(timeout=60)
    if how == "SIGKILL":
        os.kill(pid, signal.SIGCONT)
    until(lambda: ended(pid), "it is gone")
    runs = [tracking.open_store(tmp_path / "runs").run(one.name) for one in (tmp_path / "runs" / "p").iterdir()]
    assert max(one.scalars("x").last for one in runs if one.scalar_names()) == 19999
