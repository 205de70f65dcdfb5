"""A run that goes on where the clock is behind: what was recorded later counts, whatever the clocks say."""

from __future__ import annotations

import json
import os
import re
import socket
import time

import pytest

import tracking_core as tracking
from tests.support.commands import as_json
from tests.support.commands import tracking as command
from tests.support.programs import journal_events
from tests.support.programs import run as run_program
from tests.support.programs import start as start_program
from tracking_core.backends.plugins import find_adapter
from tracking_core.base import processes
from tracking_core.compaction.compaction import compact
from tracking_core.journal import JournalWriter
from tracking_core.journal.segments import LIMIT, by_start, find_files

pytestmark = pytest.mark.system

HOUR, YEAR = 3600, 365 * 86400
SHIFTED = """
import time
real, real_ns = time.time, time.time_ns
time.time = lambda: real() + {shift}
time.time_ns = lambda: real_ns() + {shift} * 10**9
import os
import tracking_core as tracking
"""
SESSION = (
    SHIFTED
    + """
with tracking.start_run("p", root="runs", run_id="r", name="r", resume="allow", config={{"who": {who}}},
                        backends={backend!r}{more}) as run:
    for step in range({first}, {last}):
        run.log_scalars({{"loss": step + {who} / 8}}, step=step)
        if step % 2 == 0:
            run.log_scalars({{"val": step + {who} / 8}}, step=step // 2, step_axis="epoch")
    run.log_config({{"who": {who}}})
    run.log_summary({{"who": {who}}})
    run.log_text("note", "by {who}", step={last})
    {end}
"""
)


def session(place, shift, who, first, last, *, backend="local", more="", end="pass"):
    program = SESSION.format(shift=shift, who=who, first=first, last=last, backend=backend, more=more, end=end)
    run_program(program, place)


def names(run_dir):
    """Writers, in the order in which their files stand under their names as text."""
    return sorted({path.name[:25] for path in (run_dir / "journal").glob("*.jsonl")})


def began(run_dir):
    """(time, writer) of each writer, by the headers in their files."""
    return {event["writer"]: event["t"] for event in journal_events(run_dir) if event["kind"] == "segment"}


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize("back", [HOUR, YEAR])
def test_the_later_session_wins(tmp_path, back, compacted):
    session(tmp_path, 0, 1, 0, 6, end="run.finish('failed', error='the first')")
    record = tracking.open_store(tmp_path / "runs").run("r")
    if compacted:
        compact(record.dir, over=True)
        assert not list((record.dir / "journal").glob("*.jsonl"))
    session(tmp_path, -back, 2, 4, 8)
    for record in (record, tracking.open_store(tmp_path / "runs").run("r")):
        assert (record.config, record.summary()["who"]) == ({"who": 2}, 2)
        assert (record.status, record.error) == ("finished", None)
        assert record.summary()["loss"] == 7.25
        assert record.scalars("loss").value.tolist() == [0.125, 1.125, 2.125, 3.125, 4.25, 5.25, 6.25, 7.25]
    assert [text for _, text in record.media("text", "note")] == ["by 1", "by 2"]
    out = as_json("show", "r", cwd=tmp_path, TRACKING_DIR="runs")
    assert (out["status"], out["config"]) == ("finished", {"who": 2})
    tailed, _ = command("tail", "r", "--json", cwd=tmp_path, TRACKING_DIR="runs")
    losses = re.findall(r'"loss": ?([0-9.]+)', tailed)
    assert losses[-1] == "7.25"


def test_names_stay_in_order_over_many_sessions(tmp_path):
    """Each behind the ones before, whatever its clock says, and no further ahead than it must be."""
    shifts = [0, -HOUR, -YEAR, YEAR, -HOUR, 0]
    for who, shift in enumerate(shifts):
        session(tmp_path, shift, who, who, who + 1)
    run_dir = tmp_path / "runs/p/r"
    times = began(run_dir)
    assert [round(times[name] - time.time(), -4) for name in names(run_dir)] == [round(shift, -4) for shift in shifts]
    starts = [int(name[:16], 16) for name in names(run_dir)]
    assert (starts[1] - starts[0], starts[2] - starts[1]) == (1, 1)
    assert (starts[4] - starts[3], starts[5] - starts[4]) == (1, 1)
    assert abs(starts[3] / 1e9 - times[names(run_dir)[3]]) < 60
    assert all(re.fullmatch("[0-9a-f]{16}-[0-9a-f]{8}", name) for name in names(run_dir))
    assert tracking.open_store(tmp_path / "runs").run("r").config == {"who": 5}


def test_a_fork_keeps_its_place_behind_its_parent_and_before_the_next_session(tmp_path):
    session(tmp_path, 0, 1, 0, 1)
    program = (
        SHIFTED.format(shift=-YEAR)
        + """
with tracking.start_run("p", root="runs", run_id="r", resume="must") as run:
    pid = os.fork()
    if pid == 0:
        run.log_scalars({"fork": 1.0}, step=0)
        os._exit(0)
    os.waitpid(pid, 0)
"""
    )
    run_program(program, tmp_path)
    session(tmp_path, -2 * YEAR, 3, 1, 2)
    run_dir = tmp_path / "runs/p/r"
    order = [event["parent"] for name in names(run_dir) for event in journal_events(run_dir)
             if event["kind"] == "segment" and event["writer"] == name]  # fmt: skip
    assert order == [None, None, names(run_dir)[1], None]
    record = tracking.open_store(tmp_path / "runs").run("r")
    assert (record.config, record.status) == ({"who": 3}, "finished")


def test_a_process_that_joins_comes_behind_what_it_joins(tmp_path):
    session(tmp_path, 0, 1, 0, 1)
    first = JournalWriter(tmp_path / "runs/p/r", "r")
    session(tmp_path, -HOUR, 2, 1, 2, more=", process=1", end="run.finish()")
    # It does not record; with TRACKING_PROCESS=all it does.
    assert len(names(tmp_path / "runs/p/r")) == 2
    program = SESSION.format(
        shift=-HOUR, who=2, first=1, last=2, backend="local", more=", process=1", end="run.finish()"
    )
    run_program(program, tmp_path, TRACKING_PROCESS="all")
    found = names(tmp_path / "runs/p/r")
    assert found[1] == first.id and len(found) == 3
    first.close()


@pytest.mark.parametrize("name", ["ffffffffffffffff-00000000", "zz-1", "7fffffffffffffff-00000000", "f" * 40])
def test_a_name_that_no_writer_has_pushes_nobody(tmp_path, name):
    session(tmp_path, 0, 1, 0, 2)
    run_dir = tmp_path / "runs/p/r"
    (own,) = names(run_dir)
    strange = run_dir / "journal" / f"{name}-000001.jsonl"
    strange.write_bytes((run_dir / "journal" / f"{own}-000001.jsonl").read_bytes())
    session(tmp_path, -HOUR, 2, 1, 4)
    session(tmp_path, -2 * HOUR, 3, 3, 5)
    later = [other for other in names(run_dir) if other != name[:25] and other != own and name[:2] != other[:2]]
    assert [int(other[:16], 16) - int(own[:16], 16) for other in later] == [1, 2]
    # And it does not hold against what was recorded since.
    record = tracking.open_store(tmp_path / "runs").run("r")
    assert (record.config, record.status) == ({"who": 3}, "finished")
    assert record.scalars("loss").value.tolist() == [0.125, 1.25, 2.25, 3.375, 4.375]


def test_a_clock_that_is_centuries_ahead_is_not_believed(tmp_path, monkeypatch):
    first = JournalWriter(tmp_path, "r")
    monkeypatch.setattr(time, "time_ns", lambda: LIMIT + 5)
    second = JournalWriter(tmp_path, "r")
    monkeypatch.setattr(time, "time_ns", lambda: -5)
    third = JournalWriter(tmp_path, "r")
    alone = JournalWriter(tmp_path / "other", "r")
    for one in (first, second, third, alone):
        one.close()
    start = by_start(first.id)[0]
    assert [by_start(one.id)[0] for one in (second, third, alone)] == [start + 1, start + 2, 1]
    assert alone.id.startswith("0000000000000001-")
    assert list(find_files(tmp_path)) == [first.id, second.id, third.id]


def test_going_back_again_where_the_clock_was_behind(tmp_path):
    """Times of two sessions say nothing of their order; what each had found when it went back does."""
    session(tmp_path, 0, 1, 0, 10)
    session(tmp_path, -HOUR, 2, 5, 10, more=", resume_step=4")
    session(tmp_path, -2 * HOUR, 3, 7, 12, more=", resume_step=6")
    record = tracking.open_store(tmp_path / "runs").run("r")
    loss = record.scalars("loss")
    assert loss.step.tolist() == list(range(12))
    assert [value % 1 * 8 for value in loss.value.tolist()] == [1] * 5 + [2] * 2 + [3] * 5
    val = record.scalars("val")
    assert list(zip(val.step.tolist(), val.value.tolist(), strict=True)) == [
        (0, 0.125), (1, 2.125), (2, 4.125), (3, 6.25), (4, 8.375), (5, 10.375)
    ]  # fmt: skip


def test_what_a_later_session_logged_on_another_axis_is_taken_back_too(tmp_path):
    session(tmp_path, 0, 1, 0, 10)
    program = (
        SHIFTED.format(shift=-HOUR)
        + """
with tracking.start_run("p", root="runs", run_id="r", resume="must", resume_step=8) as run:
    run.log_scalars({"val": 100.0}, step=5, step_axis="epoch")
"""
    )
    run_program(program, tmp_path)
    session(tmp_path, -2 * HOUR, 3, 5, 6, more=", resume_step=4")
    val = tracking.open_store(tmp_path / "runs").run("r").scalars("val")
    assert (val.step.tolist(), val.value.tolist()) == ([0, 1, 2], [0.125, 2.125, 4.125])


@pytest.mark.parametrize("delivery", ["thread", "process"])
def test_a_target_gets_the_later_session_last(tmp_path, delivery):
    more = f", delivery={delivery!r}"
    session(tmp_path, 0, 1, 0, 6, backend="tensorboard:./tb", more=more)
    session(tmp_path, -HOUR, 2, 4, 8, backend="tensorboard:./tb", more=more)
    info = tracking.RunInfo(id="r", name="r", project="p", dir=tmp_path / "runs/p/r")
    expected = [step + 0.125 for step in range(6)] + [step + 0.25 for step in range(4, 8)]

    def losses(place):
        stored = find_adapter("tensorboard").harness().read(place, info).scalars
        return [row.value for row in stored if row.name == "loss"]

    assert losses(tmp_path) == expected
    # And when it is brought somewhere as a whole.
    command("sync", "r", "--to", "tensorboard:again/tb", cwd=tmp_path, TRACKING_DIR="runs")
    assert losses(tmp_path / "again") == expected


def test_a_killed_session_is_followed_by_one_whose_clock_is_behind(tmp_path):
    program = (
        SHIFTED.format(shift=0)
        + """
run = tracking.start_run("p", root="runs", run_id="r", config={"who": 1})
run.log_scalars({"loss": 1.0}, step=0)
os.kill(os.getpid(), 9)
"""
    )
    process = start_program(program, tmp_path)
    process.communicate(timeout=60)
    assert tracking.open_store(tmp_path / "runs").run("r").status == "crashed"
    session(tmp_path, -HOUR, 2, 1, 2)
    record = tracking.open_store(tmp_path / "runs").run("r")
    assert (record.status, record.config) == ("finished", {"who": 2})


def test_an_owner_elsewhere_whose_clock_is_ahead_does_not_live_for_ever(tmp_path, monkeypatch):
    """Its heartbeat lies in the future here: it counts from when it was first looked at, until it beats again."""
    path = tmp_path / "w.alive"
    path.write_text(json.dumps({"pid": 1, "started": "1", "boot": None, "host": socket.gethostname() + "-other"}))
    ahead = time.time() + HOUR
    os.utime(path, (ahead, ahead))
    now = 1000.0
    monkeypatch.setattr(processes.time, "monotonic", lambda: now)
    assert processes.owner_of(path) == 1
    now += processes.STALE / 2
    os.utime(path, (ahead + 30, ahead + 30))
    assert processes.owner_of(path) == 1
    now += processes.STALE - 1
    assert processes.owner_of(path) == 1
    now += 2
    assert processes.owner_of(path) is None
