"""Compaction: columns and events come to the same as the journal they were made of, whatever happens meanwhile."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import zlib

import duckdb
import numpy as np
import polars
import pyarrow.parquet
import pytest

import tracking_core as tracking
from tests.support.programs import journal_events, scalar_rows
from tests.support.segmented import START, everything, exact, files, journals, record
from tracking_core.backends.plugins import find_adapter
from tracking_core.backends.targets import parse_target
from tracking_core.compaction.compaction import compact
from tracking_core.compaction.merging import KEPT, merge
from tracking_core.compaction.parts import codec_of, row_groups
from tracking_core.delivery.cursor import Cursor
from tracking_core.delivery.inbox import Inbox
from tracking_core.delivery.sync import sync_run
from tracking_core.errors import MissingDependencyError
from tracking_core.intake.local_adapter import LocalTracker
from tracking_core.journal import JournalReader, encode_line, read_events
from tracking_core.layout.runs import create_run
from tracking_core.store import RunRecord
from tracking_core.store.verify import verify


def test_everything_comes_back_exactly(tmp_path):
    directory = record(tmp_path)
    events, before = list(map(exact, read_events(directory))), everything(directory)
    live = RunRecord(directory)
    assert live.scalar_names()
    assert len(journals(directory)) > 8
    result = compact(directory, over=True)
    assert (result.waiting, journals(directory)) == (0, [])
    assert result.parts > 1
    assert result.after < result.before
    assert list(map(exact, read_events(directory))) == events
    assert everything(directory) == before
    # Also to one that had read the segments, and to one that is asked again.
    assert live.scalars("m1").value.tolist() == RunRecord(directory).scalars("m1").value.tolist()
    assert compact(directory, over=True).parts == 0
    assert not RunRecord(directory).damage()


def test_tools_that_know_nothing_of_us_read_the_files(tmp_path):
    directory = record(tmp_path)
    expected = {}
    for name, axis, step, value in scalar_rows(directory):
        if name not in {"huge", "late"}:
            expected.setdefault((name, axis), []).append((step, value))
    # The one integer beside a huge one stays with it.
    expected["int", "step"].pop()
    compact(directory, over=True)
    paths = sorted(str(path) for path in directory.glob("scalars-*.parquet"))

    def grouped(rows):
        found = {}
        for name, axis, step, value in rows:
            found.setdefault((name, axis), []).append((step, value))
        return {key: repr(rows) for key, rows in found.items()}

    wanted = {key: repr(rows) for key, rows in expected.items()}
    columns = ["name", "axis", "step", "value"]
    tables = [pyarrow.parquet.read_table(path) for path in paths]
    rows = [tuple(row[c] for c in columns) for table in tables for row in table.to_pylist()]
    assert grouped(sorted(rows, key=lambda row: 0)) == wanted
    assert {str(field.type) for field in tables[0].schema if field.name == "time"} == {"timestamp[us, tz=UTC]"}
    frame = polars.concat([polars.read_parquet(path) for path in paths]).sort("seq", maintain_order=True)
    assert grouped(frame.select(columns).rows()) == wanted
    answer = duckdb.sql(f"select name, axis, step, value from read_parquet({paths}) order by seq").fetchall()
    assert grouped(answer) == wanted
    first = frame.filter(polars.col("name") == "m0")["time"][0]
    assert first.timestamp() == START
    # The rest is JSON Lines with a checksum, as a journal is.
    kinds = []
    for path in sorted(directory.glob("events-*.jsonl")):
        for line in path.read_bytes().splitlines():
            head, _, tail = line.rpartition(b',"crc":"')
            assert int(tail[:8], 16) == zlib.crc32(head)
            kinds.append(json.loads(line)["kind"])
    assert {"compacted", "names", "text", "images", "histogram", "summary", "config", "seal", "finish"} <= set(kinds)
    assert kinds.count("scalars") == 2


def test_a_series_is_read_without_the_others(tmp_path):
    codes = np.repeat(np.arange(6), [10, 70_000, 30_000, 30_000, 30_000, 200_000])
    groups = row_groups(codes, 6)
    assert groups == [(0, 10), (10, 70_010), (70_010, 130_010), (130_010, 160_010), (160_010, 360_010)]
    directory = record(tmp_path)
    compact(directory, over=True)
    (path, *_) = sorted(directory.glob("scalars-*.parquet"))
    metadata = pyarrow.parquet.read_metadata(path)
    encodings = {
        metadata.row_group(0).column(i).path_in_schema: metadata.row_group(0).column(i).encodings
        for i in range(metadata.num_columns)
    }
    assert "BYTE_STREAM_SPLIT" in encodings["value"]
    assert all("DELTA_BINARY_PACKED" in encodings[column] for column in ("seq", "step", "time"))


def test_values_are_compressed_so_that_they_read_quickly_and_stay_small(tmp_path):
    generator = np.random.default_rng(0)
    noise = generator.normal(size=50_000)
    assert codec_of(noise.astype(np.float32).astype(float)) == "lz4"
    assert codec_of(noise) == "lz4"
    assert codec_of(generator.integers(0, 100, 50_000) / 100) == "zstd"
    assert codec_of(noise[:1]) == "lz4"
    assert codec_of(noise[:0]) == "lz4"
    directory = record(tmp_path)
    compact(directory, over=True)
    (path, *_) = sorted(directory.glob("scalars-*.parquet"))
    metadata = pyarrow.parquet.read_metadata(path).row_group(0)
    codecs = {metadata.column(i).path_in_schema: metadata.column(i).compression for i in range(metadata.num_columns)}
    assert codecs.pop("value") == "LZ4"
    assert set(codecs.values()) == {"ZSTD"}


def test_parts_that_an_earlier_version_compressed_are_read(tmp_path):
    directory = record(tmp_path)
    compact(directory, over=True)
    expected = [(name, list(RunRecord(directory).scalars(name))) for name in RunRecord(directory).scalar_names()]
    for path in directory.glob("scalars-*.parquet"):
        # All columns with zstd.
        table = pyarrow.parquet.read_table(path)
        pyarrow.parquet.write_table(table, path, compression="zstd", write_page_checksum=True)
    assert repr([(name, list(RunRecord(directory).scalars(name))) for name, _ in expected]) == repr(expected)
    assert len([event for event in read_events(directory) if event.kind == "scalars"]) > 400


def test_small_files_for_regular_data(tmp_path):
    info = tracking.RunInfo(id="r", name="r", project="p", started=START)
    tracker = LocalTracker(tmp_path, info)
    generator = np.random.default_rng(0)
    at = START
    noise = generator.normal(size=(20_000, 5)).astype(np.float32).astype(float)
    for step, row in enumerate(noise.tolist()):
        at += float(abs(generator.normal(0.0035, 0.0003)))
        tracker.log_scalars(dict(zip("abcde", row, strict=True)), step=step, wall_time=at)
    tracker.finish()
    directory = tmp_path / "p" / "r"
    compact(directory, over=True)
    assert sum(map(len, (c for name, c in files(directory).items() if name != "run.json"))) <= 6.5 * noise.size


def test_two_compactors_make_the_same_files(tmp_path):
    directory = record(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    other = tmp_path / "b" / "p" / "r"
    compact(other, over=True)
    expected = files(other)
    results = []
    barrier = threading.Barrier(4)

    def work():
        barrier.wait()
        try:
            compact(directory, over=True)
        except Exception as error:  # noqa: BLE001 - it is looked at below
            results.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not results
    assert files(directory) == expected
    assert journals(directory) == []


@pytest.mark.system
def test_killed_at_any_moment_and_repeated(tmp_path):
    """Nothing is lost at any time, and what comes out in the end is the same."""
    original = record(tmp_path / "a")
    events, before = list(map(exact, read_events(original))), everything(original)
    reference = tmp_path / "ref"
    shutil.copytree(tmp_path / "a", reference)
    compact(reference / "p" / "r", over=True)
    # Every system call that changes something is one to be killed at.
    code = """
import os, signal, sys
from pathlib import Path
left = int(sys.argv[2])
def count(event, arguments):
    global left
    if event in {"os.rename", "os.remove", "os.unlink"} or (event == "open" and arguments[1] and "r" not in str(arguments[1])):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
from tracking_core.compaction.compaction import compact
sys.addaudithook(count)
compact(Path(sys.argv[1]), over=True)
"""
    killed = 0
    for attempt in range(0, 60, 4):
        place = tmp_path / f"k{attempt}"
        shutil.copytree(tmp_path / "a", place)
        directory = place / "p" / "r"
        # Its process is not the one that recorded: that lives, and has finished the run.
        process = subprocess.run([sys.executable, "-c", code, str(directory), str(attempt)], timeout=60, check=False)
        assert process.returncode in {0, -signal.SIGKILL}
        killed += process.returncode != 0
        assert list(map(exact, read_events(directory))) == events
        assert everything(directory) == before
        compact(directory, over=True)
        assert files(directory) == files(reference / "p" / "r")
        assert list(map(exact, read_events(directory))) == events
        if process.returncode == 0:
            break
    assert killed > 3


@pytest.mark.system
def test_killed_at_random_times(tmp_path):
    original = record(tmp_path / "a", rows=1500)
    events = list(map(exact, read_events(original)))
    generator = random.Random(3)
    directory = None
    for attempt in range(4):
        place = tmp_path / f"k{attempt}"
        shutil.copytree(tmp_path / "a", place)
        directory = place / "p" / "r"
        command = [sys.executable, "-m", "tracking_core.compaction.compaction", str(directory), "--over"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE)
        # From when it has begun: importing takes most of its time.
        deadline = time.monotonic() + 60
        while not list(directory.glob(".*")) and process.poll() is None and time.monotonic() < deadline:
            pass
        until = time.monotonic() + generator.random() * 0.1
        while time.monotonic() < until:
            pass
        process.kill()
        process.wait()
        process.stdin.close()
        assert list(map(exact, read_events(directory))) == events
        compact(directory, over=True)
        assert list(map(exact, read_events(directory))) == events
        assert not [name for name in files(directory) if name.startswith(".")]


def test_a_live_writer_and_readers_beside(tmp_path):
    """Sealed segments are merged while the run goes on; followers see every event once, in order."""
    info = tracking.RunInfo(id="r", name="r", project="p", started=START)
    tracker = LocalTracker(tmp_path, info)
    directory = tmp_path / "p" / "r"
    over = threading.Event()
    failures = []

    def write():
        for step in range(3000):
            tracker.log_scalars({"x": float(step)}, step=step)
            if step % 20 == 0:
                tracker.journal.rotate(1500)
        tracker.finish()
        over.set()

    def merge_on():
        try:
            while not over.is_set():
                compact(directory)
        except Exception as error:  # noqa: BLE001 - it is looked at below
            failures.append(error)

    threads = [threading.Thread(target=write), threading.Thread(target=merge_on)]
    inbox, run = Inbox(directory, Cursor(None)), RunRecord(directory)
    for thread in threads:
        thread.start()
    delivered = []
    while True:
        last = over.is_set()
        inbox.pull()
        while events := inbox.ready(50):
            for event in events:
                delivered.append(event.fields["step"])
                inbox.done(event)
            inbox.pull()
        if "x" in run.scalar_names():
            steps = run.scalars("x", raw=True).step
            assert steps.tolist() == list(range(len(steps)))
        if last:
            break
    for thread in threads:
        thread.join()
    assert not failures
    assert delivered == list(range(3000))
    assert list(directory.glob("scalars-*.parquet"))
    compact(directory, over=True)
    assert run.scalars("x").step.tolist() == list(range(3000))
    assert RunRecord(directory).scalars("x").value.tolist() == [float(step) for step in range(3000)]
    assert run.status == "finished"


def test_the_segment_that_is_being_written_is_left_alone(tmp_path):
    directory = record(tmp_path, end=False)
    before = journals(directory)
    compact(directory, over=True)
    rest = journals(directory)
    # Blocks of eight that are sealed, and no others: whoever comes later must merge the same.
    assert rest == before[len(before) // 8 * 8 :] or rest == before[(len(before) - 1) // 8 * 8 :]
    assert before[-1] in rest


def test_a_writer_that_was_killed_is_merged_whole(tmp_path):
    code = """
import os, signal, sys
from pathlib import Path
from tracking_core.journal import JournalWriter
from tracking_core.layout.runs import create_run
place = Path(sys.argv[1])
create_run(place, {"id": "r", "name": "r", "project": "p", "config": {}, "started": 1.0})
writer = JournalWriter(place, "r")
for step in range(100):
    writer.append("scalars", {"axis": "step", "step": step, "values": {"x": step}})
    writer.rotate(1000)
os.write(writer._fd, b'{"seq":999,"low":')
os.kill(os.getpid(), signal.SIGKILL)
"""
    directory = tmp_path / "p" / "r"
    process = subprocess.run([sys.executable, "-c", code, str(directory)], timeout=60, check=False)
    assert process.returncode == -signal.SIGKILL
    run = RunRecord(directory)
    expected = ([(one.file.name, one.offset, one.length, one.reason) for one in run.damage()], run.status)
    assert expected[1] == "crashed" and len(expected[0]) == 1
    compact(directory)
    assert journals(directory) == []
    after = RunRecord(directory)
    assert after.scalars("x").step.tolist() == list(range(100))
    assert ([(one.file.name, one.offset, one.length, one.reason) for one in after.damage()], after.status) == expected


def test_segments_stay_until_every_target_has_passed_them(tmp_path):
    directory = record(tmp_path)
    target = parse_target("tensorboard:tb")
    cursor = Cursor.load(directory, target)
    inbox = Inbox(directory, cursor)
    inbox.pull()
    for event in inbox.ready(20):
        inbox.done(event)
    cursor.save(inbox.positions())
    there = journals(directory)
    result = compact(directory, over=True)
    # It is in the first segment.
    assert journals(directory)[0] == there[0]
    assert result.waiting > 0
    while True:
        inbox.pull(final=True)
        events = inbox.ready(1000)
        if not events:
            break
        for event in events:
            inbox.done(event)
    cursor.save(inbox.positions())
    again = compact(directory, over=True)
    assert (again.parts, again.waiting, journals(directory)) == (0, 0, [])


def test_a_target_that_was_never_opened_keeps_the_segments(tmp_path):
    directory = record(tmp_path)
    facts = json.loads((directory / "run.json").read_text())
    (directory / "run.json").write_text(json.dumps({**facts, "targets": ["tensorboard:tb", "<an object>"]}))
    assert compact(directory, over=True).removed == 0
    assert everything(directory)[0]["m0"][1] == list(range(400))


def test_a_target_goes_on_in_a_part(tmp_path):
    """Its cursor stands within segments that are not there any more."""
    directory = record(tmp_path)
    cursor = Cursor(tmp_path / "c.json")
    inbox = Inbox(directory, cursor)
    inbox.pull()
    done = inbox.ready(130)
    for event in done:
        inbox.done(event)
    cursor.save(inbox.positions())
    expected = [event.seq for event in read_events(directory) if event.kind not in {"seal", "mark", "finish"}]
    # The one that reads is not known of.
    compact(directory, over=True)
    for one in (inbox, Inbox(directory, Cursor(None, writers=dict(cursor.writers)))):
        rest = []
        assert one.waiting() == len(expected) - 130
        while True:
            one.pull(final=True)
            events = one.ready(100)
            if not events:
                break
            rest += events
            for event in events:
                one.done(event)
            assert one.waiting() == len(expected) - 130 - len(rest)
        assert [event.seq for event in (*done, *rest)] == expected


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_reader_goes_on_in_a_part_and_gives_nothing_twice(tmp_path, share):
    """It stands in the middle of a segment when the segment goes."""
    directory = record(tmp_path)
    reader = JournalReader(directory)
    reader.look()
    ((_, one),) = reader.writers.items()
    expected = [event.seq for event in read_events(directory)]
    seen, total = [], one.behind()
    while one.taken < share * total:
        seen += [event.seq for _, event in one.read(1)]
    assert 0 < len(seen) < len(expected)
    compact(directory, over=True)
    reader.look()
    while one.behind():
        seen += [event.seq for _, event in one.read(500, final=True)]
    assert sorted(seen) == expected
    assert one.behind() == 0
    assert one.unread() == ([], 0)


@pytest.mark.system
@pytest.mark.parametrize("backend", ["tensorboard", "wandb"])
def test_a_compacted_run_is_replayed_like_any_other(tmp_path, backend, monkeypatch):
    """Values, steps, axes, times and media of every row: as they come from the journal."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    directory = record(tmp_path / "a", rows=60, limit=2000)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    compact(tmp_path / "b" / "p" / "r", over=True)
    assert journals(tmp_path / "b" / "p" / "r") == []
    records = len(RunRecord(directory).records())
    found = []
    for root in ("a", "b"):
        place = tmp_path / root / "p" / "r"
        out = tmp_path / "out" / root
        target = parse_target(f"tensorboard:{out}" if backend == "tensorboard" else "wandb://?mode=offline")
        (report,) = sync_run(place, [target], status="finished", note=lambda *_: None)
        assert (report.pending, report.failed, report.delivered + report.skipped) == (0, 0, records), report
        info = tracking.RunInfo(id="r", name="r", project="p", dir=place)
        state = find_adapter(backend).harness().read(out if backend == "tensorboard" else place, info)
        found.append(
            [sorted(map(repr, getattr(state, kind))) for kind in ("scalars", "images", "histograms", "artifacts")]
        )
    assert found[0] == found[1]
    assert len(found[0][0]) > 240
    assert found[0][1] and found[0][2]


def test_what_another_version_wrote_is_kept_as_it_is(tmp_path):
    directory = tmp_path / "p" / "r"
    create_run(directory, {"id": "r", "name": "r", "project": "p", "config": {}, "started": 1.0})
    (directory / "journal").mkdir()
    header = {"v": 1, "run": "r", "writer": "w", "segment": 1, "previous": None, "parent": None}
    lines = [
        encode_line(0, 1, "segment", 1.0, header),
        encode_line(1, 2, "hologram", 1.0, {"x": 1}),
        encode_line(2, 3, "scalars", 1.0, {"axis": "step", "step": 1, "values": {"\udcff": 1.0, "a": 2.0}}),
        encode_line(3, 4, "scalars", 1.0, {"axis": "step", "step": 1, "values": {"a": 3.0}, "new": 1}),
        encode_line(4, 5, "scalars", 1.0, {"axis": "step", "step": 1, "values": {}}),
        encode_line(6, 7, "scalars", 1.0000001, {"axis": "step", "step": 2, "values": {"a": 4.0}}),
        encode_line(5, 7, "scalars", 1.0, {"axis": "\udcfe", "step": 2, "values": {"a": 4.5}}),
        encode_line(7, 8, "scalars", 1.0, {"axis": "step", "step": 3, "values": {"a": 5.0}}),
    ]
    (directory / "journal" / "w-000001.jsonl").write_bytes(b"".join(lines))
    before = list(map(exact, read_events(directory)))
    series = RunRecord(directory).scalars("a", axis="step", raw=True)
    compact(directory)
    assert journals(directory) == []
    (events,) = directory.glob("events-*.jsonl")
    kept = events.read_bytes()
    assert all(line in kept for line in lines[1:7])
    assert list(map(exact, read_events(directory))) == before
    after = RunRecord(directory).scalars("a", axis="step", raw=True)
    assert (after.step.tolist(), after.value.tolist()) == (series.step.tolist(), series.value.tolist())
    assert RunRecord(directory).summary() == {"\udcff": 1.0, "a": 5.0}


def test_without_pyarrow_the_json_lines_are_read(tmp_path, monkeypatch):
    directory = record(tmp_path, rows=50)
    expected = everything(directory)
    facts = json.loads((directory / "run.json").read_text())
    (directory / "run.json").write_text(json.dumps({**facts, "targets": ["tensorboard:tb"]}))
    assert compact(directory, over=True).parts
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert everything(directory) == expected
    with pytest.raises(MissingDependencyError, match=r"pip install 'tracking-core\[store\]'"):
        compact(directory)
    for path in (directory / "journal").glob("*.jsonl"):
        path.unlink()
    with pytest.raises(MissingDependencyError, match=r"pip install 'tracking-core\[store\]'"):
        RunRecord(directory).scalars("m0")
    assert RunRecord(directory).status == "finished"


def test_a_half_finished_pair_does_not_count(tmp_path):
    directory = record(tmp_path)
    before = everything(directory)
    paths = sorted((directory / "journal").glob("*.jsonl"))
    part = merge(directory, paths[0].name.rpartition("-")[0], paths[:8], tuple(range(1, 9)))
    part.scalars.unlink()
    assert everything(directory) == before
    compact(directory, over=True)
    assert everything(directory) == before
    assert part.scalars.exists()
    assert [event["seq"] for event in journal_events(directory)] == [event.seq for event in read_events(directory)]
    assert os.listdir(directory / "journal") == [f"{part.writer}.alive"]


# ---------------------------------------------------------------- damage


def test_what_was_damaged_is_kept_in_the_part(tmp_path):
    directory = record(tmp_path)
    damaged = {}
    for name in (journals(directory)[1], journals(directory)[-1]):
        path = directory / "journal" / name
        lines = path.read_bytes().splitlines(keepends=True)
        lines[2] = lines[2][:20] + b"\xff\x00" + lines[2][22:]
        path.write_bytes(b"".join(lines))
        damaged[name, sum(map(len, lines[:2]))] = lines[2].rstrip(b"\n")
    before = RunRecord(directory)
    events, told = list(map(exact, read_events(directory))), [str(one) for one in before.damage()]
    assert len(told) == 2
    result = compact(directory, over=True)
    assert (result.waiting, result.damaged, journals(directory)) == (0, 0, [])
    assert list(map(exact, read_events(directory))) == events
    assert [str(one) for one in RunRecord(directory).damage()] == told
    # As docs/formats.md has it, without our reader.
    found = {}
    for path in directory.glob("events-*.jsonl"):
        for line in path.read_bytes().splitlines():
            event = json.loads(line)
            if event["kind"] == "damage":
                assert event["length"] == len(base64.b64decode(event["content"]))
                found[event["file"], event["offset"]] = base64.b64decode(event["content"])
    assert found == damaged


@pytest.mark.parametrize("which", [0, 2, -1])
def test_a_segment_with_much_damage_is_kept(tmp_path, which):
    directory = record(tmp_path, end=False)
    name = journals(directory)[which]
    path = directory / "journal" / name
    lines = path.read_bytes().splitlines(keepends=True)
    # As after a power cut: a hole of zeros.
    path.write_bytes(b"".join([*lines[:3], b"\0" * (KEPT + 1), b"\n", *lines[5:]]))
    content = path.read_bytes()
    events = list(map(exact, read_events(directory)))
    for alive in directory.glob("journal/*.alive"):
        alive.unlink()
    shutil.copytree(directory, tmp_path / "before")
    for _ in range(2):
        result = compact(directory, over=True)
        # Those that were merged with it stay as well, so that readers go on from one to the next.
        assert result.waiting == 0
        assert 1 <= result.damaged == len(journals(directory)) <= 8
        assert name in journals(directory)
        assert path.read_bytes() == content
        assert list(map(exact, read_events(directory))) == events
        assert everything(directory) == everything(tmp_path / "before")
    # One that was in the middle goes on, and gets each event once.
    target = parse_target("tensorboard:./x")
    inbox = Inbox(directory, Cursor(None, str(target)))
    assert inbox.waiting() == sum(event[2] not in {"seal", "mark", "environment", "finish"} for event in events)
    # Said once, though both the segment and the part tell of it.
    offset = sum(map(len, lines[:3]))
    assert [one.file for one in verify(directory).breaks if one.offset == offset] == [path]
