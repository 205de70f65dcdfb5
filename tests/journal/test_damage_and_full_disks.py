"""Journals under damage and on disks that fail: what is intact is read, what was not stored is counted exactly."""

from __future__ import annotations

import errno
import json
import logging
import os
import random
import shutil
import subprocess
import tempfile
import zlib
from pathlib import Path

import pytest

import tracking_core as tracking
from tests.support.commands import tracking as command
from tests.support.hurt_stores import delete
from tests.support.programs import journal_events, only_run, scalar_rows
from tests.support.programs import run as run_program
from tracking_core.journal import JournalWriter, read_events
from tracking_core.journal import writer as writer_module
from tracking_core.layout import fallback

# ---------------------------------------------------------------- torn and flipped


def small_journal(directory: Path) -> tuple[Path, bytes]:
    """A journal with events of several kinds, and lone surrogates, non-finite numbers and nested values in them."""
    journal = JournalWriter(directory, "r", clock=lambda: 1.5)
    journal.append("config", {"config": {"lr": 0.1, "deep": {"list": [1, None, "ü"]}}})
    journal.append("scalars", {"axis": "step", "step": 1, "values": {"loss": 1 / 3, "nan": float("nan")}})
    journal.append("scalars", {"axis": "epoch", "step": 0, "values": {"\udcff": 1.0}})
    journal.append("text", {"axis": "step", "step": 1, "name": "t", "text": '{"seq":1,"crc":"'})
    journal.append("finish", {"status": "finished", "error": None})
    journal.close()
    return journal.path, journal.path.read_bytes()


def lines_of(content: bytes) -> list[tuple[int, bytes]]:
    """(offset, line without its end) of every line."""
    found, offset = [], 0
    for line in content.split(b"\n")[:-1]:
        found.append((offset, line))
        offset += len(line) + 1
    return found


def number_of(line: bytes) -> int:
    """The sequence number of a line, read by json alone; its checksum is checked by zlib alone."""
    head, _, tail = line.rpartition(b',"crc":"')
    assert int(tail[:8], 16) == zlib.crc32(head)
    return json.loads(line)["seq"]


def read(directory: Path):
    damage = []
    return [event.seq for event in read_events(directory, damage=damage)], damage


def test_truncated_at_every_byte(tmp_path):
    path, content = small_journal(tmp_path)
    lines = lines_of(content)
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        seqs, damage = read(tmp_path)
        whole = [(offset, line) for offset, line in lines if offset + len(line) < size]
        assert seqs == [number for _, line in whole if (number := number_of(line))]
        torn = sum(len(line) + 1 for _, line in whole)
        if torn == size:
            assert damage == []
        else:
            assert [(one.offset, one.length, one.file) for one in damage] == [(torn, size - torn, path)]
            assert f"byte {torn}" in str(damage[0])


@pytest.mark.system
def test_every_bit_flipped(tmp_path):
    path, content = small_journal(tmp_path)
    lines = lines_of(content)
    numbers = [number_of(line) for _, line in lines]
    for at in range(len(content)):
        (hit,) = [i for i, (offset, line) in enumerate(lines) if offset <= at <= offset + len(line)]
        expected = [number for i, number in enumerate(numbers) if i != hit and number]
        for bit in range(8):
            damaged = bytearray(content)
            damaged[at] ^= 1 << bit
            path.write_bytes(damaged)
            seqs, damage = read(tmp_path)
            assert seqs == expected, (at, bit)
            offset, line = lines[hit]
            assert damage, (at, bit)
            assert all(offset <= one.offset <= offset + len(line) for one in damage), (at, bit)


def fuzzed(content: bytes, dice: random.Random) -> bytes:
    """A journal after one of the things that befall files."""
    damaged = bytearray(content)
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(damaged) + 1)
        kind = dice.randrange(6)
        if kind == 0:
            damaged[at : at + dice.randint(0, 60)] = dice.randbytes(dice.randint(0, 60))
        elif kind == 1:
            del damaged[at : at + dice.randint(1, 100)]
        elif kind == 2:
            damaged[at:at] = content[dice.randrange(len(content)) :][: dice.randint(1, 400)]
        elif kind == 3:
            damaged[at:at] = b"\0" * dice.randint(1, 64)
        elif kind == 4:
            damaged[at:at] = dice.choice([b"\n", b"\r\n", b'{"seq":', b"[" * 3000, b'{"seq":' * 50, b'"', b"\xff"])
        else:
            # A line that is intact, and is no event, or one of another version.
            head = dice.choice(
                [
                    b'{"seq":1',
                    b'{"seq":-1,"low":1e99,"kind":"scalars","t":0',
                    b'{"seq":2,"low":1,"kind":"scalars","t":0,"values":[1]',
                    b'{"seq":3,"low":1,"kind":"scalars","t":0,"values":{"x":"no number"}',
                    b'{"seq":4,"low":null,"kind":[],"t":"x"',
                    b'{"seq":5,"low":1,"kind":"nosuch","t":0',
                    b'{"seq":' + b"[" * 4000,
                    b"[1",
                ]
            )
            damaged[at:at] = b'\n%b,"crc":"%08x"}\n' % (head, zlib.crc32(head))
    return bytes(damaged)


def survive_fuzz(tmp_path: Path, total: int) -> None:
    path, content = small_journal(tmp_path)
    dice, seen = random.Random(20), 0
    while seen < total:
        damaged = fuzzed(content, dice)
        path.write_bytes(damaged)
        seen += len(damaged)
        seqs, damage = read(tmp_path)
        # Whatever stands in it whole, from one line end to the next, is read.
        whole = set()
        for line in b"\n".join([b"", damaged]).split(b"\n")[:-1]:
            if line in content.split(b"\n"):
                whole.add(number_of(line) if line else 0)
        assert whole - {0} <= set(seqs)
        assert all(0 <= one.offset <= len(damaged) and one.length > 0 for one in damage)


def test_fuzzed_bytes(tmp_path):
    survive_fuzz(tmp_path, 1_000_000)


@pytest.mark.stress
def test_many_fuzzed_bytes(tmp_path):
    survive_fuzz(tmp_path, 30_000_000)


@pytest.mark.parametrize("seed", range(3))
def test_random_bytes(tmp_path, seed):
    path, _ = small_journal(tmp_path)
    dice = random.Random(seed)
    for size in (0, 1, 20, 1000, 20_000):
        path.write_bytes(dice.randbytes(size))
        assert read(tmp_path)[0] == []


def test_a_damaged_run_is_listed_and_read(tmp_path):
    with tracking.start_run("p", root="runs") as run:
        for step in range(20):
            run.log_scalars({"x": float(step)}, step=step)
    (path,) = (run.dir / "journal").glob("*.jsonl")
    content = path.read_bytes()
    dice = random.Random(3)
    for _ in range(100):
        path.write_bytes(fuzzed(content, dice))
        (record,) = tracking.open_store("runs").runs()
        # Without its end in the journal: the process that wrote it still lives.
        assert record.status in {"finished", "running"}
        record.damage()
        record.summary()
        if "x" in record.scalar_names():
            record.scalars("x")


# ---------------------------------------------------------------- disks that fail


class FaultyOs:
    """The `os` of the writer, whose `write` and `open` fail where they are told to.

    Args:
        fails: Says what the N-th write of a journal does, N from 0: None works, an error number is raised, and a
            fraction writes only that part of the bytes, as a disk does that fills up.
    """

    def __init__(self, fails):
        self._fails = fails
        self.writes = 0
        self.torn = 0

    def __getattr__(self, name):
        return getattr(os, name)

    def write(self, fd, data):
        what, self.writes = self._fails(self.writes), self.writes + 1
        if what is None:
            return os.write(fd, data)
        if isinstance(what, float):
            self.torn += 1
            return os.write(fd, data[: int(len(data) * what)])
        raise OSError(what, os.strerror(what))


CALLS = 8


def short_run(monkeypatch, fails):
    """A short run whose journal is written through a `FaultyOs`; returns it and what stands in its journal."""
    faulty = FaultyOs(lambda number: None)
    monkeypatch.setattr(writer_module, "os", faulty)
    # Nothing but the run itself writes: what surrounds it is recorded by another thread.
    monkeypatch.setattr(
        "tracking_core.runs.housekeeping.Housekeeper._look_after", lambda self, charge: charge.captured.set()
    )
    monkeypatch.setattr(
        "tracking_core.runs.housekeeping.Housekeeper._note_accelerators", staticmethod(lambda charge: None)
    )
    run = tracking.start_run("p", root="runs", delivery="inline")
    faulty._fails, faulty.writes = fails, 0
    for step in range(CALLS):
        run.log_scalars({"x": float(step)}, step=step)
    return run, faulty


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT, 0.0, 0.5])
def test_a_write_that_fails_costs_what_it_should_have_written(monkeypatch, troubles, caplog, error):
    """For every N: the N-th write fails, and everything after it works again."""
    for number in range(CALLS + 1):
        troubles.clear()
        caplog.clear()
        shutil.rmtree("runs", ignore_errors=True)
        run, faulty = short_run(monkeypatch, lambda n, number=number: error if n == number else None)
        report = run.finish()
        # A short write is tried again at once: then nothing is lost.
        lost = [] if isinstance(error, float) else [number]
        assert [row[2] for row in scalar_rows_with_damage(run.dir)] == [n for n in range(CALLS) if n not in lost]
        assert run.health.unwritten == report["local"].failed == len(lost)
        assert report.ok == (not lost)
        assert len(said(caplog)) == len(lost)
        assert tracking.open_store("runs").run(run.id).status == ("running" if CALLS in lost else "finished")


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, 0.3])
@pytest.mark.parametrize("length", [2, 3, 1000])
def test_a_disk_that_fails_for_a_while(monkeypatch, troubles, caplog, error, length):
    """For every N: from the N-th write on the disk fails for some writes, then it recovers, if it does."""
    for number in range(CALLS):
        troubles.clear()
        caplog.clear()
        shutil.rmtree("runs", ignore_errors=True)
        run, faulty = short_run(monkeypatch, lambda n, number=number: error if number <= n < number + length else None)
        stored = {row[2] for row in scalar_rows_with_damage(run.dir)}
        unwritten = run.health.unwritten
        assert len(stored) + unwritten == CALLS
        assert stored >= set(range(number))
        if length < 1000:
            assert unwritten <= length
            assert number + length + 1 >= CALLS or CALLS - 1 in stored
        else:
            assert stored == set(range(number))
        assert len(said(caplog)) == (1 if unwritten else 0)
        report = run.finish()
        assert report["local"].failed == run.health.unwritten
        record = tracking.open_store("runs").run(run.id)
        assert sorted(record.scalars("x").step.tolist() if stored else []) == sorted(stored)
        assert bool(record.damage()) == (faulty.torn > 0)


def said(caplog):
    """Warnings about the journal that were given while the run went on; what `finish` says of its end aside."""
    texts = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    return [text for text in texts if "the journal could not be written" in text and "at the end," not in text]


def scalar_rows_with_damage(run_dir: Path):
    """As `scalar_rows`, of a journal in which lines are torn: by json and zlib alone."""
    rows = []
    for path in sorted((run_dir / "journal").glob("*.jsonl")):
        for line in path.read_bytes().split(b"\n"):
            head, mark, tail = line.rpartition(b',"crc":"')
            if mark and len(tail) == 10 and int(tail[:8], 16) == zlib.crc32(head):
                event = json.loads(line)
                if event["kind"] == "scalars":
                    rows += [(name, event["axis"], event["step"], value) for name, value in event["values"].items()]
    return rows


def test_a_file_system_that_is_really_full(tmp_path):
    """RLIMIT_FSIZE: the kernel writes a part of a line, then refuses; once there is room again, it goes on."""
    code = """
    import json, resource
    import tracking_core as tracking
    run = tracking.start_run("p", root="runs", delivery="inline")
    run.log_scalars({"x": -1.0}, step=-1)
    import time
    while not run.health.recorded >= 2:
        time.sleep(0.01)
    size = sum(p.stat().st_size for p in (run.dir / "journal").glob("*.jsonl"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4000, resource.RLIM_INFINITY))
    for step in range(100):
        run.log_scalars({"x": float(step)}, step=step)
    full = run.health.unwritten
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for step in range(100, 120):
        run.log_scalars({"x": float(step)}, step=step)
    report = run.finish()
    print(json.dumps([full, report["local"].failed, report["local"].delivered, report.ok]))
    """
    out, err = run_program(code, tmp_path)
    full, failed, _, ok = json.loads(out)
    rows = [row[2] for row in scalar_rows_with_damage(only_run(tmp_path / "runs"))]
    assert 0 < full == failed < 100
    assert rows == [-1, *range(100 - full), *range(100, 120)]
    assert not ok
    # One warning, and the end says once more what was lost.
    assert err.count("could not be written") <= 2
    record = tracking.open_store(tmp_path / "runs").runs()[0]
    assert record.scalars("x").step.tolist() == rows
    assert len(record.damage()) == 1


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB, where the one who runs the tests may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_small_disk_fills_up_and_is_emptied(small_disk, troubles, caplog):
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 100_000)
    run = tracking.start_run("p", root=small_disk / "runs")
    run._delivery.flush(1.0)
    for step in range(3000):
        run.log_scalars({"x": float(step)}, step=step)
    # On a busy machine lines wait in memory by now, and whether they are lost shows later.
    assert run.health.unwritten > 0
    ballast.unlink()
    for step in range(3000, 3100):
        run.log_scalars({"x": float(step)}, step=step)
    report = run.finish()
    steps = [row[2] for row in scalar_rows_with_damage(run.dir)]
    assert run.health.unwritten == report["local"].failed
    # The surroundings of the run are recorded as well, by another thread, and may be among what was lost.
    assert abs(3100 - len(steps) - run.health.unwritten) <= 3
    assert steps[-100:] == list(range(3000, 3100))
    assert tracking.open_store(small_disk / "runs").run(run.id).status == "finished"
    assert len(said(caplog)) == 1


# ---------------------------------------------------------------- directories


@pytest.fixture
def open_place():
    """A directory that every user can come to, unlike those of the tests."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


def test_a_root_that_cannot_be_written(open_place):
    """Runs go to one place of their user in the temporary directory, and say so; `tracking runs` finds them there."""
    code = """
    import os, sys
    import tracking_core as tracking
    os.mkdir("closed")
    os.mkdir("tmp")
    os.chmod("tmp", 0o777)
    os.chmod("closed", 0o555)
    if os.geteuid() == 0:
        # What is imported later may lie where only root can read it.
        import tracking_core.cli, tracking_core.environment.machine, tracking_core.journal.deferral
        import tracking_core.layout.fallback
        with tracking.start_run("warm", root="warm") as run:
            run.log_scalars({"x": 1.0}, step=0)
        os.seteuid(65534)
    for _ in range(2):
        run = tracking.start_run("p", root="closed/runs")
        for step in range(10):
            run.log_scalars({"x": float(step)}, step=step)
        assert run.finish()["local"].delivered >= 10
        print(run.dir)
    from tracking_core.layout.fallback import runs_elsewhere
    from pathlib import Path
    print(runs_elsewhere(Path("closed/runs")))
    os.seteuid(os.getuid())
    """
    out, err = run_program(code, open_place, TMPDIR=str(open_place / "tmp"), TRACKING_CONSOLE="on")
    first, second, found = out.splitlines()
    root = Path(first).parents[1]
    assert root == Path(second).parents[1]
    assert root.parent == open_place / "tmp"
    assert root.stat().st_mode & 0o777 == 0o700
    assert [row[2] for row in scalar_rows(Path(second))] == list(range(10))
    assert err.count("cannot be written; this run is recorded under") == 2
    assert err.splitlines()[-1].endswith(
        f"it is recorded under {root}, because {open_place}/closed/runs could not be written"
    )
    assert found.startswith(f"2 runs are under {root}, ") and found.endswith(f"tracking runs --root {root}")


@pytest.mark.parametrize("how", ["of another user", "a link", "open to others", "a file"])
def test_a_place_that_somebody_else_has_made_is_not_used(tmp_path, monkeypatch, troubles, how):
    place = fallback.fallback_root()
    if how == "a link":
        (tmp_path / "theirs").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "theirs")
    elif how == "a file":
        place.write_text("")
    else:
        place.mkdir(mode=0o700)
        if how == "open to others":
            place.chmod(0o777)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    Path("taken").write_text("not a directory")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with tracking.start_run("p", root="taken") as run:
        run.log_scalars({"x": 1.0}, step=0)
    assert scalar_rows(run.dir) == [("x", "step", 0, 1.0)]
    assert not run.dir.is_relative_to(place)
    assert not run.dir.resolve().is_relative_to(tmp_path / "theirs")
    assert fallback.runs_elsewhere(Path("taken")) == ""
    ((reason, message, _),) = troubles
    assert reason == "root"
    assert f"{place} is not a directory that only this user can write to" in message


def test_runs_tell_of_those_elsewhere(tmp_path, troubles):
    Path("taken").write_text("not a directory")
    with tracking.start_run("p", root="taken") as run:
        pass
    root = run.dir.parents[1]
    out, err = command("runs", "--ids", cwd=tmp_path)
    assert out == ""
    assert err.splitlines()[-1].endswith(f"tracking runs --root {root}")
    assert command("runs", "--ids", "--root", str(root), cwd=tmp_path) == (f"{run.id}\n", "")


def test_a_root_that_is_a_file(tmp_path, troubles):
    Path("taken").write_text("not a directory")
    with tracking.start_run("p", root="taken") as run:
        run.log_scalars({"x": 1.0}, step=0)
    assert scalar_rows(run.dir) == [("x", "step", 0, 1.0)]
    assert [reason for reason, _, _ in troubles] == ["root"]
    shutil.rmtree(run.dir.parents[1])
    with pytest.raises(tracking.SettingsError, match="cannot be written"):
        tracking.start_run("p", root="taken", strict=True)


def test_media_that_cannot_be_written_are_counted_and_scalars_go_on(monkeypatch, troubles):
    import numpy as np

    from tracking_core.layout import media as layout

    with tracking.start_run("p", root="runs") as run:
        broken = True

        def fails(path, content, original=layout.write_exclusively):
            if broken:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            return original(path, content)

        monkeypatch.setattr(layout, "write_exclusively", fails)
        for step in range(5):
            run.log_images({"i": np.full((2, 2), step, np.uint8)}, step=step)
            run.log_scalars({"x": float(step)}, step=step)
        run.flush()
        broken = False
        run.log_images({"i": np.full((2, 2), 9, np.uint8)}, step=5)
    events = journal_events(run.dir)
    assert [event["step"] for event in events if event["kind"] == "images"] == [5]
    assert [row[2] for row in scalar_rows(run.dir)] == list(range(5))
    assert run.health.dropped == {"intake": 5}
    assert run.finish()["local"].dropped == 5
    # Nothing waits for what did not come.
    assert max(event["low"] for event in events) == max(event["seq"] for event in events) + 1


@pytest.mark.parametrize("delivery", ["process", "inline"])
def test_a_directory_that_is_deleted_under_the_run(troubles, delivery):
    """Training goes on; what went into a file that nobody can open is counted as lost, and said; the end is kept."""
    run = tracking.start_run("p", root="runs", delivery=delivery)
    for step in range(50):
        run.log_scalars({"x": float(step)}, step=step)
    delete("runs")
    for step in range(50, 100):
        run.log_scalars({"x": float(step)}, step=step)
    report = run.finish()
    assert not report.ok
    assert report["local"].failed >= 50
    stored = [event["step"] for event in journal_events(run.dir) if event["kind"] == "scalars"]
    assert stored == list(range(100 - len(stored), 100))
    assert report["local"].failed >= 100 - len(stored)
    assert report["local"].delivered == len(journal_events(run.dir)) - 1
    assert "deleted" in report["local"].last_error
