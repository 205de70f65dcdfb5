"""A journal in several files: nothing is lost while the writer goes on in the next one, for whoever reads it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tracking_core.backends.targets import parse_target
from tracking_core.delivery.cursor import Cursor, Position
from tracking_core.delivery.inbox import Inbox
from tracking_core.journal import JournalReader, JournalWriter, encode_line, read_events


def segments(directory):
    return sorted((directory / "journal").glob("*.jsonl"))


def lines(path):
    return [json.loads(line) for line in path.read_bytes().splitlines() if line]


def row(number):
    return {"axis": "step", "step": number, "values": {"x": number}}


def write_segments(directory, rows=60, limit=600):
    """A journal of several sealed segments, and one that is not."""
    writer = JournalWriter(directory, "run")
    for number in range(rows):
        writer.append("scalars", row(number))
        writer.rotate(limit)
    writer.rotate(1 << 30)
    writer.close()
    return writer


def test_segments_follow_one_another_and_are_sealed(tmp_path):
    writer = write_segments(tmp_path)
    files = segments(tmp_path)
    assert len(files) > 5
    headers = [lines(path)[0] for path in files]
    assert [header["segment"] for header in headers] == list(range(1, len(files) + 1))
    assert [header["previous"] for header in headers] == [None, *(path.name for path in files[:-1])]
    assert {header["writer"] for header in headers} == {writer.id}
    seals = {line["segment"]: line for path in files for line in lines(path) if line["kind"] == "seal"}
    assert sorted(seals) == list(range(1, len(files)))
    for path, (_, seal) in zip(files, sorted(seals.items()), strict=False):
        content = path.read_bytes()
        assert (seal["bytes"], seal["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert [e.fields["step"] for e in read_events(tmp_path) if e.kind == "scalars"] == list(range(60))


def test_many_threads_while_it_rotates_and_a_reader_beside(tmp_path):
    writer = JournalWriter(tmp_path, "run")
    over = threading.Event()

    turns = [0]

    def write(start):
        for number in range(start, 2000, 8):
            assert writer.append("scalars", row(number))
            if number % 80 == start:
                # Otherwise they are through before it has turned twice.
                before = turns[0]
                while turns[0] == before:
                    time.sleep(0)

    def rotate():
        while not over.is_set():
            writer.rotate(2000)
            turns[0] += 1

    threads = [threading.Thread(target=write, args=(start,), daemon=True) for start in range(8)]
    keeper = threading.Thread(target=rotate, daemon=True)
    keeper.start()
    inbox = Inbox(tmp_path, Cursor(None))
    for thread in threads:
        thread.start()
    delivered = []
    deadline = time.monotonic() + 60
    while any(thread.is_alive() for thread in threads) or len(delivered) < 2000:
        assert time.monotonic() < deadline
        inbox.pull()
        for event in inbox.ready(100):
            delivered.append(event.seq)
            inbox.done(event)
    over.set()
    keeper.join()
    writer.rotate(1 << 30)
    assert len(segments(tmp_path)) > 20
    # In order, each once, though lines came to two files at once.
    assert delivered == sorted(set(delivered))
    events = [event for event in read_events(tmp_path) if event.kind == "scalars"]
    assert [event.seq for event in events] == delivered
    assert sorted(event.fields["step"] for event in events) == list(range(2000))
    # All but the last are done with: nothing before the place where the reader stands is looked at again.
    inbox.pull()
    assert inbox.positions()[writer.id].segment == len(segments(tmp_path))
    writer.close()


def test_a_line_that_comes_late_to_the_old_segment_is_waited_for(tmp_path):
    """A claim of the new segment does not pass over a line that is still to come to the one before."""
    folder = tmp_path / "journal"
    folder.mkdir()
    alive = JournalWriter(tmp_path / "other", "run")
    (folder / "w.alive").write_bytes((tmp_path / "other" / "journal" / f"{alive.id}.alive").read_bytes())
    alive.close()
    old, new = folder / "w-000001.jsonl", folder / "w-000002.jsonl"
    old.write_bytes(encode_line(1, 2, "scalars", 0.0, row(1)))
    inbox = Inbox(tmp_path, Cursor(None))
    inbox.pull()
    new.write_bytes(encode_line(3, 3, "scalars", 0.0, row(3)) + encode_line(4, 5, "mark", 0.0, {}))
    inbox.pull()
    assert [event.seq for event in inbox.ready(9)] == [1]
    with old.open("ab") as file:
        file.write(encode_line(2, 3, "scalars", 0.0, row(2)))
    inbox.pull()
    assert [event.seq for event in inbox.ready(9)] == [1, 2, 3]


def test_what_never_came_is_passed_over_once_the_segment_is_sealed(tmp_path):
    folder = tmp_path / "journal"
    folder.mkdir()
    alive = JournalWriter(tmp_path / "other", "run")
    (folder / "w.alive").write_bytes((tmp_path / "other" / "journal" / f"{alive.id}.alive").read_bytes())
    alive.close()
    old, new = folder / "w-000001.jsonl", folder / "w-000002.jsonl"
    old.write_bytes(encode_line(1, 2, "scalars", 0.0, row(1)))
    new.write_bytes(encode_line(3, 4, "scalars", 0.0, row(3)))
    inbox = Inbox(tmp_path, Cursor(None))
    inbox.pull()
    assert [event.seq for event in inbox.ready(9)] == [1]
    with new.open("ab") as file:
        seal = {"segment": 1, "bytes": old.stat().st_size, "sha256": "0" * 64}
        file.write(encode_line(4, 5, "seal", 0.0, seal))
    inbox.pull()
    inbox.pull()
    assert [event.seq for event in inbox.ready(9)] == [1, 3]


def test_a_cursor_goes_on_in_a_later_segment(tmp_path):
    writer = write_segments(tmp_path)
    target = parse_target("tensorboard:tb")
    cursor = Cursor.load(tmp_path, target)
    inbox = Inbox(tmp_path, cursor)
    inbox.pull()
    first = inbox.ready(25)
    for event in first:
        inbox.done(event)
    assert inbox.waiting() == 35
    cursor.save(inbox.positions())
    stored = json.loads(next((tmp_path / "cursors").glob("*.json")).read_text())["writers"][writer.id]
    assert stored["segment"] > 1
    # What it is done with is not needed any more.
    for path in segments(tmp_path)[: stored["segment"] - 1]:
        path.unlink()
    again = Inbox(tmp_path, Cursor.load(tmp_path, target))
    assert again.waiting() == 35
    again.pull()
    steps = [event.fields["step"] for event in (*first, *again.ready(1000))]
    assert steps == list(range(60))


def test_journals_and_cursors_of_before_there_were_segments(tmp_path):
    """As version 0.1 wrote them."""
    (tmp_path / "journal").mkdir()
    (tmp_path / "cursors").mkdir()
    header = {"v": 1, "run": "r", "writer": "w", "segment": 1, "previous": None, "parent": None}
    content = [
        encode_line(0, 1, "segment", 0.0, header),
        *(encode_line(n, n + 1, "scalars", 1.0, row(n)) for n in (1, 2)),
    ]
    (tmp_path / "journal" / "w-000001.jsonl").write_bytes(b"".join(content))
    target = parse_target("tensorboard:tb")
    old = {
        "v": 1, "target": str(target), "writers": {"w": {"seq": 1, "offset": len(content[0]) + len(content[1])}},
        "state": {"a": 1}, "counts": {"delivered": 1}, "opened": 1, "status": None, "updated": 0.0,
    }  # fmt: skip
    (tmp_path / "cursors" / f"{target.key}.json").write_text(json.dumps(old))
    cursor = Cursor.load(tmp_path, target)
    assert cursor.writers == {"w": Position(1, len(content[0]) + len(content[1]), 1)}
    assert (cursor.state, cursor.opened) == ({"a": 1}, 1)
    inbox = Inbox(tmp_path, cursor)
    inbox.pull(final=True)
    assert [event.seq for event in inbox.ready(9)] == [2]


@pytest.mark.system
def test_killed_while_it_rotates(tmp_path):
    """Whatever was acknowledged is there, and what is there can be read."""
    code = """
import sys, threading
from pathlib import Path
from tracking_core.journal import JournalWriter
writer = JournalWriter(Path(sys.argv[1]), "run")
def write(start):
    for number in range(start, 10**9, 4):
        writer.append("scalars", {"axis": "step", "step": number, "values": {"x": number}})
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
for start in range(4):
    threading.Thread(target=write, args=(start,), daemon=True).start()
while True:
    writer.rotate(3000)
"""
    generator = random.Random(7)
    for attempt in range(6):
        place = tmp_path / str(attempt)
        process = subprocess.Popen([sys.executable, "-c", code, str(place)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        acknowledged = [process.stdout.readline() for _ in range(generator.randint(50, 1500))]
        process.kill()
        rest = process.stdout.read()
        process.stdout.close()
        process.wait()
        assert process.returncode == -signal.SIGKILL
        said = [int(one) for one in (b"".join(acknowledged) + rest).split(b"\n")[:-1]]
        damage = []
        steps = {event.fields["step"] for event in read_events(place, damage=damage) if event.kind == "scalars"}
        assert not set(said) - steps
        assert not damage
        # To a target, too, and each once.
        inbox = Inbox(place, Cursor(None))
        delivered = []
        while True:
            inbox.pull(final=True)
            events = inbox.ready(1000)
            if not events:
                break
            for event in events:
                delivered.append(event.seq)
                inbox.done(event)
        assert delivered == sorted(set(delivered))
        assert len(delivered) == len(steps)


def test_closing_while_it_rotates_leaves_other_files_alone(tmp_path):
    """The number of a closed descriptor may be another file's at once."""
    for attempt in range(30):
        writer = JournalWriter(tmp_path / str(attempt), "run")
        begin = threading.Barrier(2)

        def rotate(writer=writer, begin=begin):
            begin.wait()
            for _ in range(20):
                try:
                    writer.rotate(1)
                except OSError:
                    # It was closed between two looks.
                    return

        thread = threading.Thread(target=rotate)
        thread.start()
        begin.wait()
        writer.close()
        paths = [tmp_path / f"own-{attempt}-{count}" for count in range(10)]
        files = [os.open(path, os.O_CREAT | os.O_WRONLY) for path in paths]
        thread.join()
        for path, file in zip(paths, files, strict=True):
            os.write(file, path.name.encode())
            os.close(file)
        assert [path.read_text() for path in paths] == [path.name for path in paths]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_writes_segments_of_its_own(tmp_path):
    writer = JournalWriter(tmp_path, "run")
    for number in range(20):
        writer.append("scalars", row(number))
        writer.rotate(500)
    code = """
import os, sys
from pathlib import Path
from tracking_core.journal import JournalWriter
writer = JournalWriter(Path(sys.argv[1]), "run")
for number in range(20):
    writer.append("scalars", {"axis": "step", "step": number, "values": {"x": number}})
    writer.rotate(500)
child = os.fork()
if child == 0:
    writer.reopen()
for number in range(20, 40):
    writer.append("scalars", {"axis": "step", "step": number, "values": {"x": number}})
    writer.rotate(500)
writer.close()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
"""
    writer.close()
    place = tmp_path / "forked"
    subprocess.run([sys.executable, "-c", code, str(place)], check=True, timeout=60)
    reader = JournalReader(place)
    reader.look()
    steps = {}
    for name, one in reader.writers.items():
        found = [event.fields["step"] for _, event in one.read() if event.kind == "scalars"]
        steps[name] = (one.parent is not None, sorted(found))
    assert list(steps.values()) == [(False, list(range(40))), (True, list(range(20, 40)))]
    assert not reader.damage


def test_appends_on_a_thread_of_their_own_go_on(tmp_path):
    writer = JournalWriter(tmp_path, "run")
    writer.defer(for_good=True)
    for number in range(300):
        writer.append("scalars", row(number))
        if number % 20 == 0:
            assert writer.drain(10.0)
        writer.rotate(2000)
    assert writer.drain(10.0)
    writer.rotate(1 << 30)
    assert writer.drain(10.0)
    writer.close()
    assert len(segments(tmp_path)) > 3
    assert sorted(e.fields["step"] for e in read_events(tmp_path) if e.kind == "scalars") == list(range(300))


def test_a_run_rotates_by_itself(tmp_path, monkeypatch):
    import tracking_core as tracking
    from tracking_core.compaction import background
    from tracking_core.runs import housekeeping

    monkeypatch.setattr(housekeeping, "SEGMENT", 2000)
    monkeypatch.setattr(housekeeping, "TICK", 0.01)
    monkeypatch.setattr("tracking_core.journal.segments.MERGED", 1000)
    monkeypatch.setattr(background, "WORTH", 1 << 30)
    with tracking.start_run("p", run_id="r", backends="local", root=str(tmp_path)) as run:
        deadline = time.monotonic() + 30
        step = 0
        while len(segments(run.dir)) < 4 and time.monotonic() < deadline:
            run.log_scalars({"loss": step}, step=step)
            step += 1
    assert len(segments(run.dir)) >= 4
    record = tracking.open_store(tmp_path).run("r")
    assert record.scalars("loss").step.tolist() == list(range(step))
    assert record.status == "finished"
    assert not record.damage()
    assert Path(run.dir, "journal").is_dir()
