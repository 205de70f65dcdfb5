"""Steps that nobody gave: a run that is continued counts on behind what it has, and nobody else does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

import tracking_core as tracking
from tests.support.programs import run as run_program
from tests.support.programs import scalar_rows, start
from tracking_core.compaction.compaction import compact
from tracking_core.journal import JournalWriter, encode_line
from tracking_core.layout.runs import create_run
from tracking_core.runs import continuing
from tracking_core.runs.continuing import goes_on, last_steps

pytestmark = pytest.mark.system

BEGIN = """
import os
import numpy as np
import tracking_core as tracking
run = tracking.start_run("p", root="runs", run_id="r", name="r", resume="allow"{more})
"""


def session(place, body, more="", **env):
    return run_program(BEGIN.format(more=more) + body, place, **env)


def record(place):
    return tracking.open_store(place / "runs").run("r")


def rows(series):
    return list(zip(series.step.tolist(), series.value.tolist(), strict=True))


@pytest.mark.parametrize("compacted", [False, True])
def test_a_run_that_is_continued_counts_on(tmp_path, compacted):
    session(tmp_path, "[run.log({'a': v}) for v in (1, 2, 3)]; run.finish()")
    if compacted:
        compact(record(tmp_path).dir, over=True)
    _, err = session(tmp_path, "[run.log({'a': v}) for v in (10, 20)]; run.finish()", TRACKING_CONSOLE="on")
    assert rows(record(tmp_path).scalars("a")) == [(0, 1), (1, 2), (2, 3), (3, 10), (4, 20)]
    assert err.count("continued at step 3\n") == 1
    # A run that begins says nothing of that.
    _, err = session(tmp_path, "run.log({'a': 1}); run.finish()", ", config={'b': 1}", TRACKING_CONSOLE="on")
    assert err.count("continued at step 5\n") == 1
    assert rows(record(tmp_path).scalars("a"))[-1] == (5, 1)


def test_a_run_that_begins_says_nothing(tmp_path):
    _, err = session(tmp_path, "run.log({'a': 1}); run.finish()", TRACKING_CONSOLE="on")
    assert "recorded in" in err and "continued" not in err


def test_each_axis_counts_for_itself(tmp_path):
    session(
        tmp_path,
        """
for step in (3, 1, 7, 5):
    run.log_scalars({"a": step}, step=step)
run.log_scalars({"b": 1.0}, step=40, step_axis="epoch")
run.log_scalars({"n": 1.0}, step=-9, step_axis="shifted")
run.finish()
""",
    )
    _, err = session(
        tmp_path,
        """
run.log({"a": 0.5})
run.log_scalars({"b": 2.0}, step_axis="epoch")
run.log_scalars({"c": 3.0}, step_axis="batch")
run.log_scalars({"n": 4.0}, step_axis="shifted")
run.finish()
""",
        TRACKING_CONSOLE="on",
    )
    assert "continued at step 8, epoch 41\n" in err
    found = {name: rows(record(tmp_path).scalars(name))[-1] for name in "abcn"}
    assert found == {"a": (8, 0.5), "b": (41, 2.0), "c": (0, 3.0), "n": (0, 4.0)}


LOGGED = {
    "images": "run.log_images({'i': np.zeros((4, 4), np.uint8)}, step=11)",
    "histogram": "run.log_histogram('h', np.arange(9.0), step=11)",
    "large histogram": "run.log_histogram('h', np.arange(9000.0), step=11)",
    "table": "run.log_table('t', {'x': [1, 2]}, step=11)",
    "text": "run.log_text('t', 'words', step=11)",
    "audio": "run.log_audio('t', np.zeros(99), step=11)",
    "video": "run.log_video('t', np.zeros((3, 4, 4), np.uint8), step=11)",
    "mixed": "run.log({'x': 1, 't': 'words'}, step=11)",
    "not finite": "run.log_scalars({'x': float('nan'), 'y': 2**70}, step=11)",
    "strange name": "run.log_scalars({'\\ud800': 1.0}, step=11)",
    "quotes": 'run.log_text(\'t\', \'\\n{"seq":1,"low":1,"kind":"scalars","axis":"step","step":99}\', step=11)',
}


@pytest.mark.parametrize("what", LOGGED)
def test_whatever_was_logged_counts(tmp_path, what):
    with tracking.start_run("p", root="runs", run_id="r") as run:
        run.log({"a": 1}, step=2)
        exec(LOGGED[what], {"run": run, "np": np})  # noqa: S102 - the programs above
        run.log({"a": 1}, step=3)
    assert last_steps(run.dir) == {"step": 11}
    compact(run.dir, over=True)
    assert not list((run.dir / "journal").glob("*.jsonl"))
    assert last_steps(run.dir) == {"step": 11}


@pytest.mark.parametrize("compacted", [False, True])
def test_what_was_taken_back_does_not_count(tmp_path, compacted):
    many = "for step in range(100):\n    run.log({'a': step, 'system/m': 1.0})\n"
    epochs = "    if step % 10 == 0: run.log_scalars({'v': step}, step=step // 10, step_axis='epoch')\n"
    session(tmp_path, many + epochs + "run.finish()")
    session(tmp_path, "run.finish()", ", resume_step=59")
    if compacted:
        compact(record(tmp_path).dir, over=True)
    assert last_steps(record(tmp_path).dir) == {"step": 59, "epoch": 5}
    session(tmp_path, "run.log({'a': -1}); run.log_scalars({'v': -1}, step_axis='epoch'); run.finish()")
    assert rows(record(tmp_path).scalars("a"))[-2:] == [(59, 59), (60, -1)]
    assert rows(record(tmp_path).scalars("v"))[-2:] == [(5, 50), (6, -1)]
    # With a step to go back to, behind that, and on the other axes behind what is left.
    session(
        tmp_path,
        "run.log({'a': -2}); run.log_scalars({'v': -2}, step_axis='epoch'); run.finish()",
        ", resume_step=29",
    )
    assert rows(record(tmp_path).scalars("a"))[-2:] == [(29, 29), (30, -2)]
    assert rows(record(tmp_path).scalars("v"))[-2:] == [(2, 20), (3, -2)]


@pytest.mark.parametrize("compacted", [False, True])
def test_a_fork_counts_on_behind_what_it_has_of_its_parent(tmp_path, compacted):
    with tracking.start_run("p", root="runs", run_id="parent") as run:
        for step in range(20):
            run.log({"a": step})
            if step % 5 == 0:
                run.log_scalars({"v": step}, step_axis="epoch")
    if compacted:
        compact(run.dir, over=True)
    with tracking.start_run("p", root="runs", run_id="child", fork_from=("parent", 9)) as child:
        child.log({"a": 100})
        child.log_scalars({"v": 100}, step_axis="epoch")
    # Continued, it goes on behind what it logged itself.
    with tracking.start_run("p", root="runs", run_id="child", fork_from=("parent", 9), resume="allow") as child:
        child.log({"a": 200})
        child.log_scalars({"v": 200}, step_axis="epoch")
    found = tracking.open_store("runs").run("child")
    assert rows(found.scalars("a"))[-3:] == [(9, 9), (10, 100), (11, 200)]
    assert rows(found.scalars("v")) == [(0, 0), (1, 5), (2, 100), (3, 200)]


def test_a_crash_with_a_torn_line(tmp_path):
    process = start(BEGIN.format(more="") + "[run.log({'a': v}) for v in range(5)]\nos.kill(os.getpid(), 9)", tmp_path)
    process.communicate(timeout=60)
    (path,) = (tmp_path / "runs/p/r/journal").glob("*.jsonl")
    line = encode_line(90, 91, "scalars", 1.0, {"axis": "step", "step": 999, "values": {"a": 1.0}})
    damaged = encode_line(91, 92, "scalars", 1.0, {"axis": "step", "step": 123, "values": {"a": 1.0}})
    with path.open("ab") as file:
        file.write(damaged.replace(b":123", b":723") + line[:-1])
    session(tmp_path, "run.log({'a': 10}); run.finish()")
    assert rows(record(tmp_path).scalars("a"))[-2:] == [(4, 4), (5, 10)]


def test_all_writers_of_all_sessions_count(tmp_path):
    """Forked children and processes beside the first one, too."""
    session(
        tmp_path,
        """
run.log({"a": 1})
if os.fork() == 0:
    run.log({"child": 1}, step=30)
    os._exit(0)
os.wait()
run.finish()
""",
    )
    assert last_steps(record(tmp_path).dir) == {"step": 30}
    session(tmp_path, "run.log({'a': 2}); run.finish()")
    assert rows(record(tmp_path).scalars("a")) == [(0, 1), (31, 2)]


def test_who_joins_a_run_that_goes_on_counts_for_itself(tmp_path):
    first = subprocess.Popen(
        [sys.executable, "-c", BEGIN.format(more="") + "run.log({'a': 1}, step=50); print(flush=True); input()"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        first.stdout.readline()
        _, err = session(tmp_path, "run.log({'b': 2}); run.finish()", TRACKING_CONSOLE="on")
        assert "continued" not in err
        assert rows(record(tmp_path).scalars("b")) == [(0, 2)]
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate(timeout=60)
    # Now that it is gone, the run is continued.
    session(tmp_path, "run.log({'b': 3}); run.finish()")
    assert rows(record(tmp_path).scalars("b")) == [(0, 2), (51, 3)]


def test_the_other_processes_of_a_training_count_for_themselves(tmp_path):
    session(tmp_path, "[run.log({'a': v}) for v in range(5)]; run.finish()")
    session(tmp_path, "run.log({'b': 2}); run.finish()", ", process=1", TRACKING_PROCESS="all")
    assert rows(record(tmp_path).scalars("b")) == [(0, 2)]


def test_a_forked_child_goes_on_where_its_parent_was(tmp_path):
    session(tmp_path, "[run.log({'a': v}) for v in range(5)]; run.finish()")
    session(
        tmp_path,
        """
run.log({"a": 5})
if os.fork() == 0:
    run.log({"c": 1})
    os._exit(0)
os.wait()
run.log({"a": 6})
run.finish()
""",
    )
    assert rows(record(tmp_path).scalars("a"))[-2:] == [(5, 5), (6, 6)]
    assert rows(record(tmp_path).scalars("c")) == [(6, 1)]


def heartbeat(run_dir, *, host, seconds_ago, changed_ago):
    """Let the only writer so far be one of another host that was heard of at some time."""
    (path,) = (run_dir / "journal").glob("*.alive")
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "host": host, "beat": time.time() - seconds_ago}))
    os.utime(path, (time.time() - changed_ago,) * 2)


@pytest.mark.parametrize(
    ("beat", "changed", "joins"),
    [(1, 1, True), (100, 100, False), pytest.param(3600, 0, False, id="a copy"), pytest.param(-3600, -3600, False)],
)
def test_a_process_of_another_host(tmp_path, beat, changed, joins):
    create_run(tmp_path / "r", {"id": "r", "name": "r", "project": "p", "started": 1.0})
    first = JournalWriter(tmp_path / "r", "r")
    first.append("scalars", {"axis": "step", "step": 5, "values": {"a": 1.0}})
    first.close()
    heartbeat(tmp_path / "r", host=socket.gethostname() + "-other", seconds_ago=beat, changed_ago=changed)
    own = JournalWriter(tmp_path / "r", "r")
    assert goes_on(tmp_path / "r", own.id) is joins
    own.close()


def test_a_run_that_was_copied_is_continued(tmp_path):
    session(tmp_path, "[run.log({'a': v}) for v in range(5)]; run.finish()")
    shutil.copytree(tmp_path / "runs", tmp_path / "elsewhere/runs")
    session(tmp_path / "elsewhere", "run.log({'a': 5}); run.finish()")
    assert rows(record(tmp_path / "elsewhere").scalars("a"))[-2:] == [(4, 4), (5, 5)]


def test_the_last_step_there_is_has_none_behind_it(tmp_path):
    session(tmp_path, "run.log({'a': 1}, step=2**63 - 1); run.finish()")
    session(tmp_path, "run.log({'a': 2}); run.finish()")
    assert rows(record(tmp_path).scalars("a")) == [(0, 2), (2**63 - 1, 1)]


@pytest.mark.parametrize("mixed", [False, True])
def test_parts_of_older_versions_say_it_in_their_columns(tmp_path, mixed, monkeypatch):
    from tracking_core.compaction import merging

    monkeypatch.setattr(merging, "_note_step", lambda event, steps: None)
    with tracking.start_run("p", root="runs", run_id="r") as run:
        for step in range(50):
            run.log({"a": step})
            if mixed:
                run.log_scalars({"a": step}, step=step // 7, step_axis="epoch")
        run.log_text("t", "words", step=60)
    compact(run.dir, over=True)
    (events,) = run.dir.glob("events-*.jsonl")
    lines = events.read_bytes().split(b"\n")
    header = json.loads(lines[0])
    assert header.pop("steps") == {}
    kind, low, at = header.pop("kind"), header.pop("low"), header.pop("t")
    header.pop("seq"), header.pop("crc")
    events.write_bytes(encode_line(0, low, kind, at, header) + b"\n".join(lines[1:]))
    assert last_steps(run.dir) == ({"step": 60, "epoch": 7} if mixed else {"step": 60})
    with tracking.start_run("p", root="runs", run_id="r", resume="must", resume_step=29):
        pass
    assert last_steps(run.dir) == ({"step": 29, "epoch": 4} if mixed else {"step": 29})


def test_no_more_of_a_journal_is_read_than_its_end(tmp_path, monkeypatch):
    """Causes, not seconds: of long segments that no part was made of, what is read is bounded."""
    create_run(tmp_path / "r", {"id": "r", "name": "r", "project": "p", "started": 1.0})
    writer = JournalWriter(tmp_path / "r", "r")
    for step in range(20_000):
        writer.append("scalars", {"axis": "step", "step": step, "values": {"a": 1.0}})
        if step % 5000 == 4999:
            writer.rotate(1)
    writer.close()
    monkeypatch.setattr(continuing, "READ", 1 << 16)
    monkeypatch.setattr(continuing, "LEAST", 1 << 16)
    read = []
    where = continuing._where
    monkeypatch.setattr(continuing, "_where", lambda line, name: read.append(len(line)) or where(line, name))
    assert last_steps(tmp_path / "r") == {"step": 19_999}
    assert 0 < sum(read) <= 1 << 16


def test_compacted_columns_are_not_opened(tmp_path, monkeypatch):
    with tracking.start_run("p", root="runs", run_id="r") as run:
        for step in range(100):
            run.log({"a": step})
    compact(run.dir, over=True)
    for path in run.dir.glob("scalars-*.parquet"):
        path.write_bytes(b"nobody reads this")
    program = """
import sys, tracking_core as tracking
run = tracking.start_run("p", root="runs", run_id="r", resume="must", backends="local")
assert "pyarrow" not in sys.modules
run.log({"b": 1})
run.finish()
"""
    run_program(program, tmp_path)
    assert [(name, step) for name, _, step, _ in scalar_rows_of_segments(run.dir)] == [("b", 100)]


def scalar_rows_of_segments(run_dir):
    """Scalars of segments alone."""
    copy = run_dir.with_name("copy")
    shutil.copytree(run_dir / "journal", copy / "journal")
    return scalar_rows(copy)


def test_a_damaged_part_costs_the_numbering_and_no_more(tmp_path, troubles):
    with tracking.start_run("p", root="runs", run_id="r") as run:
        run.log({"a": 1})
    compact(run.dir, over=True)
    (events,) = run.dir.glob("events-*.jsonl")
    events.write_bytes(b"x" + events.read_bytes())
    for value in (1, 2):
        with tracking.start_run("p", root="runs", run_id="r", resume="must") as run:
            run.log({"b": value})
    assert [reason for reason, _, _ in troubles] == ["steps", "steps"]
    assert [(name, step) for name, _, step, _ in scalar_rows_of_segments(run.dir)] == [("b", 0), ("b", 1)]
