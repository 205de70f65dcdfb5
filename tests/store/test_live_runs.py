"""Runs that go on: followed from another process, written by several, and asked what they are without being decoded."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time

import pytest

import tracking_core as tracking
from tests.support.programs import journal_events, only_run
from tests.support.programs import run as run_program
from tests.support.programs import start as start_program
from tracking_core.errors import InvalidValueError, JournalError
from tracking_core.journal import JournalWriter, decode_line, encode_line, read_events
from tracking_core.journal import writer as writing
from tracking_core.journal.finding import TAIL, EventFinder
from tracking_core.journal.liveness import is_alive
from tracking_core.layout.runs import create_run

#: Logs a step for every line it is told, and ends as the last one says.
TRAINING = """
import os, signal, sys
import tracking_core as tracking
run = tracking.start_run("p", root="runs", run_id="r", resume="allow", backends="local")
name = os.environ.get("NAME", "x")
print("ready", flush=True)
for line in sys.stdin:
    word = line.strip()
    if word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "finish":
        break
    run.log_scalars({name: float(word)}, step=int(word))
    print("logged", flush=True)
run.finish()
"""


class Training:
    """A training in a process of its own, told what to do through a pipe."""

    def __init__(self, directory, **env):
        self.process = start_program(
            f"import sys\nsys.stdin = open({str(directory / 'orders')!r})\n{TRAINING}", directory, **env
        )
        self.orders = (directory / "orders").open("w")
        assert self.process.stdout.readline() == "ready\n"

    def log(self, step):
        self.orders.write(f"{step}\n")
        self.orders.flush()
        assert self.process.stdout.readline() == "logged\n"

    def end(self, word, code):
        self.orders.write(f"{word}\n")
        self.orders.close()
        _, err = self.process.communicate(timeout=60)
        assert self.process.returncode == code, err


@pytest.fixture
def train(tmp_path):
    """Starts trainings under `tmp_path / "runs"`, each with a directory for its orders; none outlives the test."""
    begun = []

    def begin(**env):
        place = tmp_path / f"training-{len(begun)}"
        place.mkdir()
        (place / "runs").symlink_to(tmp_path / "runs")
        (tmp_path / "runs").mkdir(exist_ok=True)
        os.mkfifo(place / "orders")
        begun.append(Training(place, **env))
        return begun[-1]

    yield begin
    for training in begun:
        training.orders.close()
        training.process.kill()
        training.process.communicate()


def steps(records):
    return [record.step for record in records if record.kind == "scalars"]


# ---------------------------------------------------------------- following


def test_a_run_runs_from_its_first_file_on(tmp_path, monkeypatch):
    """Whoever lists runs while one is started must not take it for one that crashed."""
    directory = tmp_path / "runs" / "p" / "r"
    create_run(directory, {"id": "r", "name": "r", "project": "p", "config": {}, "tags": [], "started": time.time()})
    (record,) = tracking.open_store(tmp_path / "runs").runs()
    assert (record.status, record.has_ended) == ("running", False)

    def create(path):
        assert (record.status, record.has_ended) == ("running", False)
        assert list(path.parent.glob("*.alive"))
        return original(path)

    original = writing._create
    monkeypatch.setattr(writing, "_create", create)
    journal = JournalWriter(directory, "r")
    assert tracking.open_store(tmp_path / "runs").run("r").status == "running"
    journal.close()
    for path in (directory / "journal").iterdir():
        path.unlink()
    os.utime(directory / "run.json", (0, 0))
    assert tracking.open_store(tmp_path / "runs").run("r").status == "crashed"


@pytest.mark.parametrize(("word", "code", "status"), [("finish", 0, "finished"), ("kill", -signal.SIGKILL, "crashed")])
def test_a_run_of_another_process_is_followed_to_its_end(tmp_path, train, word, code, status):
    training = train()
    for step in range(3):
        training.log(step)
    record = tracking.open_store(tmp_path / "runs").run("r")
    coming = record.follow(poll=0.01)
    assert [next(coming).step for _ in range(3)] == [0, 1, 2]
    # From here on each is asked for after it was logged, and while the run goes on.
    for step in range(3, 6):
        training.log(step)
        found = next(coming)
        assert (found.kind, found.step, found.data) == ("scalars", step, {"x": float(step)})
    assert record.status == "running"
    training.log(6)
    # Ends while it is waited for.
    ender = threading.Timer(0.2, training.end, (word, code))
    ender.start()
    rest = list(coming)
    ender.join()
    assert steps(rest) == [6]
    assert record.status == status
    # From the beginning, once it is over.
    again = list(record.follow(poll=0.01))
    assert steps(again) == list(range(7))
    assert [(r.writer, r.seq) for r in again] == [(r.writer, r.seq) for r in record.records()]


def test_a_run_that_was_over_long_ago_is_followed_at_once(tmp_path):
    with tracking.start_run("p", root=tmp_path, backends="local") as run:
        for step in range(1000):
            run.log_scalars({"x": step}, step=step)
        run.log_text("note", "text", step=7)
    found = list(tracking.open_store(tmp_path).run(run.id).follow(poll=3600))
    assert steps(found) == list(range(1000))
    assert (found[-1].kind, found[-1].data["value"]) == ("text", "text")


def test_following_gives_up_when_nothing_comes(tmp_path):
    with tracking.start_run("p", root=tmp_path, backends="local") as run:
        run.log_scalars({"x": 1.0}, step=0)
        record = tracking.open_store(tmp_path).run(run.id)
        # It waits for the timeout, not for the next look, for which the test would have to wait.
        assert steps(record.follow(poll=3600, timeout=0.05)) == [0]
        assert steps(record.follow(timeout=0)) == [0]
        assert record.status == "running"


@pytest.mark.parametrize(
    "wrong", [{"poll": -1}, {"poll": "1"}, {"poll": None}, {"timeout": float("nan")}, {"timeout": "x"}]
)
def test_wrong_times_are_refused_at_once(tmp_path, wrong):
    with tracking.start_run("p", root=tmp_path, backends="local") as run:
        pass
    with pytest.raises(InvalidValueError, match=f"follow: {next(iter(wrong))} must be a number of seconds"):
        tracking.open_store(tmp_path).run(run.id).follow(**wrong)


def test_a_run_without_a_journal_has_nothing_to_follow(tmp_path):
    create_run(tmp_path / "p" / "r", {"id": "r", "name": "n", "project": "p", "started": 1.0})
    # Long ago: a run that has just been created may be about to write.
    os.utime(tmp_path / "p" / "r" / "run.json", (1.0, 1.0))
    assert list(tracking.open_store(tmp_path).run("r").follow()) == []


def test_records_that_are_held_back_wait_for_those_before_them(tmp_path):
    """A number that was taken and not written yet: what stands behind it is not given out before."""
    directory = tmp_path / "p" / "r"
    create_run(directory, {"id": "r", "name": "n", "project": "p", "started": 1.0})
    writer = JournalWriter(directory, "r")

    def line(seq, low):
        return encode_line(seq, low, "scalars", 1.0, {"axis": "step", "step": seq, "values": {"x": 1.0}})

    with writer.path.open("ab", buffering=0) as file:
        file.write(line(1, 2) + line(3, 2))
        record = tracking.open_store(tmp_path).run("r")
        assert steps(record.follow(poll=0.01, timeout=0)) == [1]
        coming = record.follow(poll=0.01)
        assert next(coming).step == 1
        file.write(line(2, 4))
        assert [next(coming).step for _ in range(2)] == [2, 3]
        # The writer is gone, and the one before the last was never written.
        file.write(line(5, 4) + line(6, 4)[:-1])
        writer.close()
        (directory / "journal" / f"{writer.id}.alive").unlink()
        assert steps(coming) == [5]


# ---------------------------------------------------------------- several writers


@pytest.mark.system
def test_writers_with_interleaved_steps(tmp_path, train):
    first = train()
    second = train()
    for step in range(0, 10, 2):
        first.log(step)
        second.log(step + 1)
    # Both log step 4 once more, the one that started first does so last.
    second.log(4)
    first.log(4)
    record = tracking.open_store(tmp_path / "runs").run("r")
    assert record.status == "running"
    coming = record.follow(poll=0.01)
    found = [next(coming) for _ in range(12)]
    second.end("finish", 0)
    assert record.status == "finished"
    first.log(10)
    # One of them goes on, though the newest session is over.
    assert not record.has_ended
    assert next(coming).step == 10
    first.end("kill", -signal.SIGKILL)
    assert list(coming) == []
    assert record.has_ended
    writers = sorted({r.writer for r in found})
    assert len(writers) == 2
    for writer, own in zip(writers, [[0, 2, 4, 6, 8, 4], [1, 3, 5, 7, 9, 4]], strict=True):
        assert steps(r for r in found if r.writer == writer) == own
        numbers = [r.seq for r in found if r.writer == writer]
        assert numbers == sorted(numbers)
    # Raw: writer by writer, each in its own order. Otherwise by step, once.
    raw = record.scalars("x", raw=True)
    assert raw.step.tolist() == [0, 2, 4, 6, 8, 4, 10, 1, 3, 5, 7, 9, 4]
    series = record.scalars("x")
    assert series.step.tolist() == list(range(11))
    newest = [
        e for e in journal_events(record.dir) if e["kind"] == "scalars" and e["writer_file"].startswith(writers[1])
    ]
    assert series.time[4] == next(e["t"] for e in newest if e["step"] == 4)


@pytest.mark.system
def test_names_of_several_writers_are_one_run(tmp_path, train):
    trainings = [train(NAME=name) for name in ("loss", "data/wait", "loss")]
    for training in trainings:
        training.log(1)
    record = tracking.open_store(tmp_path / "runs").run("r")
    assert record.scalar_names() == ["data/wait", "loss"]
    trainings[1].log(2)
    assert record.scalars("data/wait").step.tolist() == [1, 2]
    assert record.scalars("loss", raw=True).step.tolist() == [1, 1]
    assert len(record.scalars("loss")) == 1
    assert record.summary() == {"loss": 1.0, "data/wait": 2.0}
    for training in trainings:
        training.end("finish", 0)
    assert record.status == "finished"


# ---------------------------------------------------------------- what a run is, without decoding what it logged


@pytest.fixture
def busy(tmp_path):
    """The directory of a finished run with everything in it, and of a copy of it whose process is gone."""
    with tracking.start_run("p", root=tmp_path / "runs", backends="local", config={"a": 1}) as run:
        for step in range(50):
            # Values of users that look like lines.
            run.log_scalars({'"low":1,"kind":"finish"': 1.0, "x": step}, step=step)
            if step % 10 == 0:
                run.log_text("note", '{"seq":3,"low":4,"kind":"finish","t":1,"status":"failed"}', step=step)
                run.log_config({"kind": "finish", "low": 1, "nested": {"seq": 1, "low": 2, "kind": "summary"}})
                run.log_summary({"s": step, "kind": "finish"})
                run.log_histogram("h", [1.0, 2.0], step=step)
    shutil.copytree(run.dir, tmp_path / "copy" / "p" / run.dir.name, ignore=shutil.ignore_patterns("*.alive"))
    return run.dir


@pytest.mark.parametrize("kind", ["finish", "config", "summary", "text", "histogram", "environment", "nothing"])
def test_events_are_found_without_decoding_the_others(busy, kind):
    found = EventFinder(busy).of(kind)
    assert found == [event for event in read_events(busy) if event.kind == kind]
    assert bool(found) == (kind != "nothing")


def test_the_end_is_found_wherever_it_stands(busy, tmp_path):
    copy = tmp_path / "copy" / "p" / busy.name
    (journal,) = (copy / "journal").glob("*.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    (end,) = [line for line in lines if decode_line(line.rstrip(b"\n")).kind == "finish"]
    others = [line for line in lines if line != end]
    filler = encode_line(10_000, 1, "scalars", 1.0, {"axis": "step", "step": 1, "values": {"x": 1.0}})

    def status(content):
        journal.write_bytes(content)
        return tracking.open_store(tmp_path / "copy").runs()[0].status

    whole = b"".join(others)
    assert status(whole) == "crashed"
    assert status(whole + end) == "finished"
    # Behind a torn line; and itself torn, damaged, or not yet whole.
    assert status(whole + b'{"seq":9,"low":9,"kind":"scal' + end) == "finished"
    assert status(whole + end[:-1]) == "crashed"
    assert status(whole + end.replace(b'"finished"', b'"failed"')) == "crashed"
    assert status(whole + end[: len(end) // 2] + b"\n" + end) == "finished"
    # Far from the end of the file.
    assert status(whole + end + filler * (2 * TAIL // len(filler))) == "finished"
    assert status(others[0] + end + b"".join(others[1:]) * 20) == "finished"


def test_a_record_that_is_kept_sees_what_is_added(tmp_path):
    directory = tmp_path / "p" / "r"
    create_run(directory, {"id": "r", "name": "n", "project": "p", "started": 1.0, "config": {"lr": 1}})
    # One that is new is being started just now.
    os.utime(directory / "run.json", (1, 1))
    record = tracking.open_store(tmp_path).run("r")
    assert (record.status, record.config, record.summary()) == ("crashed", {"lr": 1}, {})
    writer = JournalWriter(directory, "r")
    assert record.status == "running"
    writer.append("config", {"config": {"lr": 2}})
    assert record.config == {"lr": 2}
    line = encode_line(2, 3, "config", 1.0, {"config": {"lr": 3}})
    with writer.path.open("ab", buffering=0) as file:
        # Half a line is none yet.
        file.write(line[:30])
        assert record.config == {"lr": 2}
        file.write(line[30:])
        assert record.config == {"lr": 3}
        file.write(encode_line(3, 4, "finish", 1.0, {"status": "preempted", "error": None})[:-1])
        assert record.status == "running"
        file.write(b"\n")
        assert record.status == "preempted"
    writer.close()


@pytest.mark.parametrize("parent", [None, "0-00000000"])
def test_events_are_found_where_compaction_put_them(busy, monkeypatch, parent):
    """Also when it does so between the listing of the files and the reading of them."""
    import tracking_core.journal.finding as finding

    (journal,) = (busy / "journal").glob("*.jsonl")
    writer = journal.name.rpartition("-")[0]
    before = {kind: EventFinder(busy).of(kind) for kind in ("config", "summary", "text", "finish")}
    numbers = [event.seq for events in before.values() for event in events]
    kept = EventFinder(busy)
    assert kept.of("config") == before["config"]

    def compact():
        lines = [
            line for line in journal.read_bytes().splitlines() if decode_line(line).kind not in {"scalars", "segment"}
        ]
        # The header may be long: it names the digest of every segment.
        header = {"v": 1, "writer": writer, "parent": parent, "segments": [1, 2000], "digests": ["0" * 64] * 2000}
        header |= {"first": min(numbers), "last": max(numbers), "count": len(lines), "records": 0, "whole": 0}
        header |= {"content": "0" * 64}
        (busy / f"events-{writer}-{min(numbers)}-{max(numbers)}.jsonl").write_bytes(
            encode_line(0, 1, "compacted", 1.0, header) + b"".join(line + b"\n" for line in lines)
        )
        journal.unlink()

    def scan_late(file, scan=finding._scan):
        monkeypatch.setattr(finding, "_scan", scan)
        compact()
        scan(file)

    monkeypatch.setattr(finding, "_scan", scan_late)
    late = EventFinder(busy)
    for kind, events in before.items():
        assert late.of(kind) == kept.of(kind) == EventFinder(busy).of(kind) == events
    assert EventFinder(busy).sessions() == ([] if parent else [writer])
    assert EventFinder(busy).finish(writer) == before["finish"][0]


def test_a_child_that_logs_is_found_to_be_one(tmp_path):
    run_program(
        """
        import os
        import tracking_core as tracking
        run = tracking.start_run("p", root="runs", backends="local")
        run.log_scalars({"x": 1.0}, step=0)
        child = os.fork()
        if not child:
            run.log_scalars({"x": 2.0}, step=1)
            os._exit(0)
        os.waitpid(child, 0)
        os._exit(0)
        """,
        tmp_path,
    )
    directory = only_run(tmp_path / "runs")
    finder = EventFinder(directory)
    writers = sorted(path.name.rpartition("-")[0] for path in (directory / "journal").glob("*.jsonl"))
    assert len(writers) == 2
    assert finder.sessions() == writers[:1] and finder.newest_end()[0] == writers[0]
    assert not is_alive(directory, writers[0])
    assert steps(tracking.open_store(tmp_path / "runs").runs()[0].follow()) == [0, 1]


def test_a_newer_format_is_not_misread(busy):
    (journal,) = (busy / "journal").glob("*.jsonl")
    journal.write_bytes(encode_line(0, 1, "segment", 1.0, {"v": 2, "parent": None}) + journal.read_bytes())
    record = tracking.open_store(busy.parent.parent).runs()[0]
    for ask in (lambda: record.status, lambda: record.config, record.summary, record.scalar_names, record.records):
        for _ in range(2):
            with pytest.raises(JournalError, match="format 2"):
                ask()


def test_what_a_run_is_costs_no_decoding_of_its_scalars(busy, monkeypatch):
    """Listing, status, configuration and tags look past the scalars; the journal is opened for no more than that."""
    import tracking_core.journal.finding as finding

    decoded = []

    def counting(line, writer=""):
        decoded.append(line)
        return decode_line(line, writer)

    monkeypatch.setattr(finding, "decode_line", counting)
    (record,) = tracking.open_store(busy.parent.parent).runs()
    assert record.tags == () and decoded == []
    assert record.status == "finished"
    assert 0 < len(decoded) <= 4
    assert record.config["kind"] == "finish" and record.image_names() == []
    assert not any(b'"kind":"scalars"' in line for line in decoded)
    assert record._columns._writers == {}
