"""The journal: what was acknowledged is there, in the format that is documented, whatever happens to the rest.

The tests read with json and zlib alone wherever they ask what was written.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
import threading
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.programs import run as run_program
from tests.support.programs import start as start_program
from tracking_core.base.processes import process_start
from tracking_core.errors import InvalidValueError, JournalError
from tracking_core.journal import (
    Event,
    JournalWriter,
    WriterReader,
    decode_line,
    encode_line,
    pack,
    read_events,
    unpack,
)
from tracking_core.journal.events import to_record
from tracking_core.journal.reader import JournalReader

any_text = st.text(alphabet=st.characters(exclude_categories=()), max_size=8)
huge = st.integers(-(2**1023), 2**1023)
leaves = st.one_of(st.none(), st.booleans(), huge, st.floats(), any_text)
keys = st.one_of(any_text, st.sampled_from(["$", "$$", "$float", "$int", "$$float", "seq", "crc"]))
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=10
)
values = st.dictionaries(any_text, st.one_of(st.booleans(), huge, st.floats()), min_size=1, max_size=5)


@pytest.fixture
def writer(tmp_path):
    made = JournalWriter(tmp_path / "run", "run-1")
    yield made
    made.close()


def same(one, other):
    return repr(one) == repr(other)


def independent(line):
    """One line as the documentation describes it: the crc covers what stands before it, and is always last."""
    head, mark, tail = line.rpartition(b',"crc":"')
    assert mark
    assert tail.endswith(b'"}') and len(tail) == 10
    assert f"{zlib.crc32(head):08x}".encode() == tail[:8]

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(line, parse_constant=refuse)


def lines_of(path):
    return [independent(line) for line in path.read_bytes().split(b"\n") if line]


def number(text):
    """A number of a scalar event, as documented."""
    if not isinstance(text, str):
        return text
    return int(text) if text.lstrip("-").isdecimal() else float(text)


def untag(value):
    """Numbers and keys of trees, as documented."""
    if isinstance(value, dict):
        if value.keys() == {"$float"}:
            return float(value["$float"])
        if value.keys() == {"$int"}:
            return int(value["$int"])
        return {key.removeprefix("$"): untag(part) for key, part in value.items()}
    return [untag(part) for part in value] if isinstance(value, list) else value


def read_all(path):
    """(events by seq, damage) of one file, by our reader."""
    reader = WriterReader(path)
    return [event for _, event in reader.read(final=True)], reader.damage


# ---------------------------------------------------------------- the format


@given(values, st.integers(-(2**63), 2**63 - 1), any_text)
def test_scalars_come_back_exactly(given_, step, axis):
    line = encode_line(7, 5, "scalars", 1.5, {"axis": axis, "step": step, "values": given_})
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    event = decode_line(line[:-1], "w")
    assert (event.seq, event.low, event.kind, event.time, event.writer) == (7, 5, "scalars", 1.5, "w")
    assert same(event.fields["values"], given_)
    assert (event.fields["step"], event.fields["axis"]) == (step, axis)
    stored = independent(line[:-1])
    assert list(stored) == ["seq", "low", "kind", "t", "axis", "step", "values", "crc"]
    assert same({name: number(value) for name, value in stored["values"].items()}, given_)
    # What many readers of JSON would lose is a string.
    for name, value in given_.items():
        odd = not math.isfinite(value) if isinstance(value, float) else not -(2**63) <= value < 2**63
        assert isinstance(stored["values"][name], str) is odd


@pytest.mark.parametrize(
    "given_",
    [
        {"a": 2**70, "b": -float(2**70)},
        {"a": -(2**70), "b": float(2**70)},
        {"a": -(2**70), **{f"b{n}": 8.9e18 for n in range(133)}},
        {"a": math.inf, "b": -math.inf},
        {"a": math.nan, "b": 1},
        {"a": 1, "b": math.nan},
        {"a": 1e308, "b": 1e308},
        {"a": 2**63, "b": 2**63 - 1, "c": -(2**63), "d": -(2**63) - 1},
        {"a": True, "b": -0.0, "c": 5e-324},
    ],
    ids=lambda given_: "-".join(map(str, list(given_.values())[:2])),
)
def test_numbers_that_cancel_out_are_still_written_as_documented(given_):
    stored = independent(encode_line(1, 1, "scalars", 0.0, {"values": given_})[:-1])
    assert same({name: number(value) for name, value in stored["values"].items()}, given_)
    for name, value in given_.items():
        odd = not math.isfinite(value) if isinstance(value, float) else not -(2**63) <= value < 2**63
        assert isinstance(stored["values"][name], str) is odd


@given(st.dictionaries(keys, trees, max_size=4))
def test_trees_come_back_exactly(tree):
    line = encode_line(1, 2, "config", 0.0, {"config": pack(tree)})
    assert same(unpack(decode_line(line[:-1]).fields["config"]), tree)
    assert same(untag(independent(line[:-1])["config"]), tree)


def test_the_line_that_is_documented():
    line = encode_line(1, 2, "scalars", 1764000000.125, {"axis": "step", "step": 3, "values": {"loss": 0.5}})
    assert line == (
        b'{"seq":1,"low":2,"kind":"scalars","t":1764000000.125,"axis":"step","step":3,"values":{"loss":0.5},'
        b'"crc":"ec535ce0"}\n'
    )


@pytest.mark.parametrize(
    "body",
    [
        b"[1,2]", b"3", b'"text"', b"{}", b'{"seq":1}', b'{"seq":"1","low":1,"kind":"x","t":0}', b'{"seq":1,"low":1,"kind":3,"t":0}',
        b'{"seq":1,"low":1,"kind":"x","t":null}', b'{"seq":1,"low":1,"kind":"scalars","t":0}', b"{not json}", b'{"\xff":1}',
        b'{"seq":1,"low":1,"kind":"scalars","t":0,"values":{"a":"many"}}', b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda body: body[:60],
)  # fmt: skip
def test_intact_lines_that_are_no_events_are_refused(body):
    head = body[:-1]
    line = head + f',"crc":"{zlib.crc32(head):08x}"}}'.encode()
    with pytest.raises(JournalError):
        decode_line(line)


@pytest.mark.parametrize("line", [b"", b"{}", b'{"seq":1}', b"\0" * 100, b',"crc":"00000000"}', b"x" * 1000])
def test_what_has_no_checksum_is_refused(line):
    with pytest.raises(JournalError, match="checksum|not JSON"):
        decode_line(line)


# ---------------------------------------------------------------- writing


def test_the_first_line_is_the_header(writer):
    (header,) = lines_of(writer.path)
    crc = header.pop("crc")
    assert len(crc) == 8
    assert abs(header.pop("t") - time.time()) < 60
    assert header == {
        "seq": 0, "low": 1, "kind": "segment", "v": 1, "run": "run-1", "writer": writer.id, "segment": 1,
        "previous": None, "parent": None,
    }  # fmt: skip
    assert writer.path == writer.directory / "journal" / f"{writer.id}-000001.jsonl"


@pytest.mark.system
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_=values, tree=st.dictionaries(keys, trees, max_size=3), at=st.floats(0, 2**33))
def test_what_is_appended_is_read(writer, given_, tree, at):
    assert writer.append("scalars", {"axis": "step", "step": 1, "values": given_}, time=at) is True
    assert writer.append("config", {"config": pack(tree)}) is True
    *_, first, second = lines_of(writer.path)
    assert same({name: number(value) for name, value in first["values"].items()}, given_)
    assert first["t"] == round(at, 6)
    assert same(untag(second["config"]), tree)
    events, damage = read_all(writer.path)
    assert not damage
    assert [event.seq for event in events] == list(range(1, writer.written + 1))
    assert same(events[-2].fields["values"], given_)
    assert same(unpack(events[-1].fields["config"]), tree)


@pytest.mark.parametrize("at", [math.nan, math.inf, "soon", object(), [1.0], 10**400])
def test_times_that_are_none_are_refused_and_hold_nothing_up(writer, at):
    writer.append("mark", {})
    with pytest.raises(InvalidValueError, match="wall_time"):
        writer.append("mark", {}, time=at)
    writer.append("mark", {}, time=np.float64(2.5))
    events, _ = read_all(writer.path)
    assert [(event.seq, event.low) for event in events] == [(1, 2), (2, 3)]
    assert events[-1].time == 2.5


def test_what_cannot_be_encoded_holds_nothing_up(writer):
    """Its number is done with: readers must not wait for an event that will never come."""
    with pytest.raises(TypeError):
        writer.append("config", {"config": object()})
    writer.append("mark", {})
    writer.append("mark", {})
    events, _ = read_all(writer.path)
    assert [(event.seq, event.low) for event in events] == [(2, 3), (3, 4)]


def test_a_closed_journal_says_so(writer):
    writer.append("mark", {})
    writer.close()
    writer.close()
    assert writer.closed
    with pytest.raises(JournalError, match="closed"):
        writer.append("mark", {})
    assert len(lines_of(writer.path)) == 2


def test_two_writers_have_files_of_their_own(tmp_path):
    writers = [JournalWriter(tmp_path, "run") for _ in range(20)]
    assert len({writer.path for writer in writers}) == 20
    assert [writer.id for writer in writers] == sorted(writer.id for writer in writers)
    for writer in writers:
        writer.append("mark", {})
        writer.close()
    assert [event.writer for event in read_events(tmp_path)] == [writer.id for writer in writers]


def test_many_threads(writer):
    """Numbers are unique, each thread's events are in its order, and `low` says the truth at every line."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    barrier = threading.Barrier(8)

    def work(name):
        barrier.wait()
        for count in range(250):
            assert writer.append(
                "scalars", {"axis": "step", "step": 0, "thread": name, "count": count, "values": {"x": count}}
            )

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    writer.mark()
    _, *events = lines_of(writer.path)
    assert sorted(event["seq"] for event in events) == list(range(1, 2002))
    assert writer.written == 2001
    seen = set()
    for event in events:
        seen.add(event["seq"])
        assert seen.issuperset(range(1, event["low"]))
    assert events[-1]["low"] == 2002
    by_seq = sorted(events, key=lambda event: event["seq"])
    for name in range(8):
        assert [event["count"] for event in by_seq if event.get("thread") == name] == list(range(250))


class Slow(Mapping):
    """Fields that take their time: the number of the event is taken, and its line not yet written."""

    def __init__(self):
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __iter__(self):
        self.reached.set()
        assert self.go_on.wait(60)
        return iter(())

    def __len__(self):
        return 0

    def __getitem__(self, key):
        raise KeyError(key)


def test_low_waits_for_an_event_that_is_slow(writer):
    slow = Slow()
    thread = threading.Thread(target=writer.append, args=("mark", slow))
    thread.start()
    assert slow.reached.wait(60)
    writer.append("mark", {})
    writer.append("mark", {})
    assert [(line["seq"], line["low"]) for line in lines_of(writer.path)[1:]] == [(2, 1), (3, 1)]
    slow.go_on.set()
    thread.join()
    writer.append("mark", {})
    assert [(line["seq"], line["low"]) for line in lines_of(writer.path)[3:]] == [(1, 2), (4, 5)]


# ---------------------------------------------------------------- damage


def small_journal(tmp_path):
    """A finished journal of few bytes; returns (path, content, [(start, end of line with newline, seq)])."""
    writer = JournalWriter(tmp_path, "r", clock=lambda: 1.5)
    writer.append("scalars", {"axis": "step", "step": 1, "values": {"a": 0.5}})
    writer.append("text", {"axis": "s", "step": 2, "name": "b", "text": '{"seq":9}'})
    writer.append("config", {"config": {"seq": 1, "x": {"seq": 2}}})
    writer.append("mark", {})
    writer.close()
    content = writer.path.read_bytes()
    spans, at = [], 0
    for line in content.splitlines(keepends=True):
        spans.append((at, at + len(line), json.loads(line)["seq"]))
        at += len(line)
    assert len(spans) == 5
    return writer.path, content, spans


def test_a_torn_tail_at_every_byte(tmp_path):
    path, content, spans = small_journal(tmp_path)
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        events, damage = read_all(path)
        assert [event.seq for event in events] == [seq for _, end, seq in spans if end <= cut and seq]
        torn = [(start, cut - start) for start, end, _ in spans if start < cut < end]
        assert [(one.offset, one.length) for one in damage] == torn
        # To one who follows a writer that lives, it is a line that is being written.
        assert not (reader := WriterReader(path)).read() or not reader.damage


@pytest.mark.system
def test_every_flipped_bit_costs_one_line_and_is_reported(tmp_path):
    path, content, spans = small_journal(tmp_path)
    original = {event.seq: event for event in read_all(path)[0]}
    file = os.open(path, os.O_WRONLY)
    for at in range(len(content)):
        start, end, hit = next(span for span in spans if span[0] <= at < span[1])
        for bit in range(8):
            os.pwrite(file, bytes([content[at] ^ 1 << bit]), at)
            events, damage = read_all(path)
            assert [event.seq for event in events] == [seq for seq in original if seq != hit]
            assert all(event == original[event.seq] for event in events)
            assert damage
            assert all(start <= one.offset < end for one in damage)
            assert damage[0].offset == start
            assert path.name in str(damage[0]) and f"byte {start}" in str(damage[0])
        os.pwrite(file, content[at : at + 1], at)
    os.close(file)
    assert read_all(path) == (list(original.values()), [])


@pytest.mark.system
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rubbish=st.binary(min_size=1, max_size=60), where=st.integers(0, 4))
def test_rubbish_between_lines_costs_no_line(tmp_path, rubbish, where):
    path, content, spans = small_journal(tmp_path / os.urandom(8).hex())
    at = spans[where][0]
    path.write_bytes(content[:at] + rubbish + b"\n" + content[at:])
    events, damage = read_all(path)
    assert [event.seq for event in events] == [1, 2, 3, 4]
    assert bool(damage) is bool(rubbish.strip(b"\n"))
    # Without a line end, too: as after a write that a full disk cut short, while another thread went on.
    path.write_bytes(content[:at] + rubbish + content[at:])
    assert [event.seq for event in read_all(path)[0]] == [1, 2, 3, 4]


def test_damage_is_told_once(tmp_path):
    path, content, spans = small_journal(tmp_path)
    path.write_bytes(b"rubbish\n" + content[:-1])
    reader = WriterReader(path)
    first = reader.read(final=True)
    assert [event.seq for _, event in first] == [1, 2, 3]
    assert reader.read(final=True) == []
    assert [(one.offset, one.reason) for one in reader.damage] == [
        (0, "no checksum at the end of the line"),
        (8 + spans[-1][0], "the last line is incomplete"),
    ]


def test_offsets_lead_back_to_the_line(tmp_path):
    path, content, spans = small_journal(tmp_path)
    for offset, event in WriterReader(path).read():
        again = WriterReader(path, offset)
        assert [e.seq for _, e in again.read()] == list(range(event.seq, 5))


def test_lines_longer_than_any_buffer(tmp_path):
    writer = JournalWriter(tmp_path, "run")
    writer.append("text", {"axis": "step", "step": 0, "name": "t", "text": "x" * 3_000_000})
    writer.append("mark", {})
    reader = WriterReader(writer.path)
    found = []
    for _ in range(5):
        found += [event.seq for _, event in reader.read(limit=1)]
    assert found == [1, 2]
    assert WriterReader(writer.path).read(limit=10_000_000)[0][1].fields["text"] == "x" * 3_000_000
    writer.close()


def test_a_limit_is_no_damage(tmp_path):
    writer = JournalWriter(tmp_path, "run")
    for _ in range(3):
        writer.append("text", {"axis": "step", "step": 0, "name": "t", "text": "x" * 900_000})
    reader = WriterReader(writer.path)
    found = []
    while events := reader.read(limit=1, final=True):
        found += [event.seq for _, event in events]
    assert (found, reader.damage) == ([1, 2, 3], [])
    writer.close()


def test_a_newer_format_is_refused_every_time(tmp_path):
    path, content, _ = small_journal(tmp_path)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / path.name).write_bytes(content)
    path.write_bytes(encode_line(0, 1, "segment", 0.0, {"v": 2, "parent": None}) + content)
    reader = WriterReader(path)
    for _ in range(2):
        with pytest.raises(JournalError, match="format 2, this version reads up to 1: upgrade tracking-core"):
            reader.read()
    with pytest.raises(JournalError, match="format 2"):
        list(read_events(tmp_path))
    # One that says no format is damage as any other line.
    path.write_bytes(encode_line(0, 1, "segment", 0.0, {"parent": None}) + content)
    reader = WriterReader(path)
    whole = WriterReader(tmp_path / "c" / path.name)
    assert [event for _, event in reader.read()] == [event for _, event in whole.read()]
    assert "not an event" in reader.damage[0].reason


def test_kinds_of_later_versions_are_read_like_any_other(writer):
    writer.append("hologram", {"x": 1})
    (event,) = read_all(writer.path)[0]
    assert (event.kind, event.fields) == ("hologram", {"x": 1})


# ---------------------------------------------------------------- reading while writing


def test_reading_while_writing(writer):
    done = threading.Event()

    def write():
        for count in range(2000):
            writer.append("scalars", {"axis": "step", "step": 0, "values": {"x": count}})
        # On a busy machine appends may have been deferred.
        writer.drain(60)
        done.set()

    thread = threading.Thread(target=write)
    reader = WriterReader(writer.path)
    found = []
    thread.start()
    while True:
        last = done.is_set()
        found += [event for _, event in reader.read()]
        if last:
            break
    thread.join()
    assert [event.fields["values"]["x"] for event in found] == list(range(2000))
    assert not reader.damage


def test_half_a_line_is_waited_for(tmp_path):
    path, content, spans = small_journal(tmp_path)
    start, end, _ = spans[3]
    path.write_bytes(content[: start + 20])
    reader = WriterReader(path)
    assert [event.seq for _, event in reader.read()] == [1, 2]
    assert reader.read() == []
    path.write_bytes(content)
    assert [event.seq for _, event in reader.read()] == [3, 4]
    assert not reader.damage


def test_new_writers_are_found(tmp_path):
    reader = JournalReader(tmp_path)
    reader.look()
    assert reader.writers == {}
    first = JournalWriter(tmp_path, "run")
    reader.look()
    second = JournalWriter(tmp_path, "run")
    reader.look()
    assert list(reader.writers) == [first.id, second.id]
    first.close()
    second.close()


# ---------------------------------------------------------------- full disks, forks and kills


def test_after_a_short_write_the_next_line_is_read(tmp_path):
    """A limit of the file size makes the system write a part of a line, as a full disk does."""
    out, _ = run_program(
        """
        import json, resource, sys
        from pathlib import Path
        from tracking_core.journal import JournalWriter

        writer = JournalWriter(Path("run"), "run-1")
        errors = []
        writer.on_error = errors.append
        acknowledged = []
        # Room for some lines and a part of one, cut at many places.
        for number, room in enumerate(range(90, 400, 7)):
            size = writer.path.stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, resource.RLIM_INFINITY))
            for part in range(6):
                if writer.append("scalars", {"axis": "step", "step": 0, "values": {"x": number * 10 + part}}):
                    acknowledged.append(number * 10 + part)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            assert writer.append("scalars", {"axis": "step", "step": 0, "values": {"x": number * 10 + 9}})
            acknowledged.append(number * 10 + 9)
        assert writer.unwritten == len(errors) > 40, (writer.unwritten, len(errors))
        assert writer.written == len(acknowledged)
        assert all(isinstance(error, OSError) for error in errors)
        print(json.dumps(acknowledged))
        """,
        tmp_path,
    )
    acknowledged = json.loads(out)
    (path,) = (tmp_path / "run" / "journal").glob("*.jsonl")
    found, torn = [], 0
    for line in path.read_bytes().split(b"\n"):
        try:
            event = independent(line)
        except AssertionError:
            torn += bool(line)
            continue
        if event["kind"] == "scalars":
            found.append(event["values"]["x"])
    # A line that lacks but its newline becomes whole with the next one: it is there without having been promised.
    assert [x for x in found if x in acknowledged] == acknowledged
    assert len(set(found)) == len(found) <= len(acknowledged) + 5
    assert torn > 30
    events, damage = read_all(path)
    assert [event.fields["values"]["x"] for event in events] == found
    assert len(damage) == torn


def test_a_forked_child_goes_on_in_its_own_file(tmp_path):
    run_program(
        """
        import os, threading
        from pathlib import Path
        from tracking_core.journal import JournalWriter

        writer = JournalWriter(Path("run"), "run-1")
        writer.append("mark", {"who": "parent"})
        # A lock that another thread holds at the moment of the fork must not hang the child.
        writer._turning.busy.acquire()
        child = os.fork()
        if not child:
            assert writer.is_foreign
            writer.reopen()
            assert not writer.is_foreign
            for _ in range(3):
                assert writer.append("mark", {"who": "child"})
            writer.beat()
            os._exit(0)
        writer._turning.busy.release()
        assert os.waitpid(child, 0)[1] == 0
        assert not writer.is_foreign
        writer.append("mark", {"who": "parent"})
        """,
        tmp_path,
    )
    parent, child = sorted((tmp_path / "run" / "journal").glob("*.jsonl"))
    for path, name, count, origin in [(parent, "parent", 2, None), (child, "child", 3, lines_of(parent)[0]["writer"])]:
        header, *events = lines_of(path)
        assert header["parent"] == origin
        assert [event["who"] for event in events] == [name] * count
        assert [event["seq"] for event in events] == list(range(1, count + 1))
    reader = JournalReader(tmp_path / "run")
    reader.look()
    for one in reader.writers.values():
        one.read()
    assert [one.parent for one in reader.writers.values()] == [None, next(iter(reader.writers))]


def test_a_child_that_cannot_open_a_file_writes_into_no_other(tmp_path):
    """The number of a closed file is given to whatever is opened next."""
    writer = JournalWriter(tmp_path / "run", "run-1")
    journal = tmp_path / "run" / "journal"
    journal.rename(tmp_path / "away")
    journal.write_text("in the way")
    with pytest.raises(OSError):
        writer.reopen()
    with (tmp_path / "other").open("wb"), pytest.raises(JournalError, match="closed"):
        writer.append("mark", {})
    assert (tmp_path / "other").read_bytes() == b""


def test_every_acknowledged_event_survives_sigkill(tmp_path):
    process = start_program(
        """
        import sys, threading
        from pathlib import Path
        from tracking_core.journal import JournalWriter

        writer = JournalWriter(Path("run"), "run-1")
        def work(name):
            for count in range(10**9):
                writer.append("scalars", {"axis": "step", "step": 0, "thread": name, "values": {"x": count}})
                sys.stdout.write(f"{name} {count}\\n")
        for name in range(3):
            threading.Thread(target=work, args=(name,), daemon=True).start()
        threading.Event().wait()
        """,
        tmp_path,
        PYTHONUNBUFFERED="1",
    )
    lines = [process.stdout.readline() for _ in range(3000)]
    process.kill()
    lines += process.stdout.read().splitlines(keepends=True)
    process.communicate()
    acknowledged = {tuple(map(int, line.split())) for line in lines if line.endswith("\n") and line.count(" ") == 1}
    (path,) = (tmp_path / "run" / "journal").glob("*.jsonl")
    *whole, last = path.read_bytes().split(b"\n")
    events = [independent(line) for line in whole][1:]
    found = {(event["thread"], event["values"]["x"]) for event in events}
    assert len(acknowledged) >= 2900
    assert found >= acknowledged
    assert {(e.fields["thread"], e.fields["values"]["x"]) for e in read_all(path)[0]} == found


def test_a_process_that_ended_is_gone_though_nobody_asked_after_it():
    """A killed child stays listed until its parent waits for it."""
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{child}/stat").exists()
    assert process_start(child) is None
    os.waitpid(child, 0)
    assert process_start(child) is None
    own = process_start(os.getpid())
    assert own == Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]


# ---------------------------------------------------------------- records of events


def event(kind, **fields):
    return Event(3, 4, kind, 1.5, {"step": 2, "axis": "epoch", "name": "x", **fields}, "w")


@pytest.mark.parametrize("name", ["../run.json", "a/b", "a\\b", ".hidden", "/etc/passwd", "..", "missing.png"])
@pytest.mark.parametrize("kind", ["figure", "table", "audio", "video"])
def test_files_of_media_lie_in_the_run(tmp_path, kind, name):
    (tmp_path / "media").mkdir()
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(JournalError, match=rf"event 3 \({kind}\) of writer w cannot be read"):
        to_record(event(kind, file=name, fps=8), tmp_path)


@pytest.mark.parametrize(
    ("kind", "ending", "content"),
    [
        ("figure", "png", b"no png"), ("table", "table.json", b"{"), ("table", "table.json", b"[1]"), ("audio", "wav", b"RIFF"),
        ("video", "npz", b"PK\3\4"), ("video", "npz", b""),
    ],
)  # fmt: skip
def test_damaged_media_are_errors_of_the_journal(tmp_path, kind, ending, content):
    file = f"{'a' * 64}.{ending}"
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / file).write_bytes(content)
    with pytest.raises(JournalError, match="cannot be read"):
        to_record(event(kind, file=file, fps=8), tmp_path)


def test_pickles_in_media_are_not_run(tmp_path):
    (tmp_path / "media").mkdir()
    out = io.BytesIO()
    np.savez(out, frames=np.array([print], dtype=object), allow_pickle=True)
    file = f"{'a' * 64}.npz"
    (tmp_path / "media" / file).write_bytes(out.getvalue())
    with pytest.raises(JournalError, match="allow_pickle"):
        to_record(event("video", file=file, fps=8), tmp_path)


@pytest.mark.parametrize("kind", ["scalars", "images", "histogram", "table", "artifact", "config"])
def test_events_without_their_fields_are_errors_of_the_journal(tmp_path, kind):
    with pytest.raises(JournalError, match="cannot be read"):
        to_record(Event(3, 4, kind, 1.5, {}, "w"), tmp_path)


@pytest.mark.parametrize("digest", ["../../../../etc/passwd", "", "A" * 64, "a" * 63, 3])
def test_contents_of_artifacts_lie_in_their_store(tmp_path, digest):
    fields = {"type": "t", "version": 0, "digest": "", "metadata": {}, "aliases": [], "blobs": str(tmp_path)}
    with pytest.raises(JournalError, match="cannot be read"):
        to_record(event("artifact", **fields, files={"f": {"sha256": digest, "size": 1}}), tmp_path)
