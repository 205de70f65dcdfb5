"""The index beside the runs: a listing is quicker with it, and never another."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest

import tracking_core as tracking
from tests.support.programs import REPO
from tests.support.programs import run as run_program
from tracking_core.compaction.compaction import compact
from tracking_core.errors import NameNotFoundError
from tracking_core.store import RunRecord, index

ENDED = ("finished", "failed", "compacted", "crashed", "odd", "resumed", "forked", "large", "parallel")


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    """An index of a few runs, that were written a moment ago."""
    monkeypatch.setattr(index, "FEWEST", 1)
    monkeypatch.setattr(index, "SETTLED", 0)
    monkeypatch.setattr(index, "SECONDS", 60)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Runs that have ended in every way there is."""
    place = tmp_path_factory.mktemp("index")
    root = place / "runs"

    def start(run_id, **keywords):
        return tracking.start_run("p", run_id, run_id=run_id, root=root, backends="local", **keywords)

    with start("finished", config={"lr": 0.1, "model": {"depth": 2}}, tags=["a", "b"], notes="é", group="g") as run:
        for step in range(20):
            run.log_scalars({"loss": 1 / (step + 1), "n": step, "on": True}, step=step)
        run.log_config({"model": {"width": 3}})
        run.log_summary({"best": {"step": 3, "of": [1, None, "x"]}})
    start("failed", config={"lr": 1}).finish("failed", error="out of memory")
    with start("compacted") as run:
        run.log_scalars({"loss": 0.25}, step=1)
    compact(run.dir, over=True)
    with start("odd", config={"big": 2**70, "inf": float("inf"), "$x": 1}) as run:
        run.log_scalars({"nan": float("nan"), "huge": 2**80, "low": -(2**63), "f": np.float32(0.1)}, step=0)
    with start("resumed") as run:
        run.log_scalars({"loss": 3.0}, step=0)
    with start("resumed", resume="must") as run:
        run.log_scalars({"loss": 2.0}, step=1)
    with start("large", config={"text": "x" * 200_000}, notes="n") as run:
        run.log_scalars({"loss": 1.0}, step=0)
    with start("parallel") as run:
        run.log_scalars({"loss": 1.0}, step=0)
    run_program(
        """
        import os
        import tracking_core as tracking
        with tracking.start_run("p", "forked", run_id="forked", root="runs", backends="local") as run:
            run.log_scalars({"loss": 1.0}, step=0)
            child = os.fork()
            if not child:
                run.log_scalars({"loss": 2.0}, step=1)
                os._exit(0)
            os.waitpid(child, 0)
        run = tracking.start_run("p", "crashed", run_id="crashed", root="runs", backends="local", config={"lr": 9})
        run.log_scalars({"loss": 5.0}, step=0)
        os._exit(0)
        """,
        place,
    )
    return root


@pytest.fixture
def root(made, tmp_path):
    return shutil.copytree(made, tmp_path / "runs", symlinks=True)


def said(record):
    """Everything that a listing says of a run."""
    return repr(
        (
            record.id, record.name, record.project, record.tags, record.group, record.job_type, record.notes,
            record.started, record.targets, record.status, record.error, record.finished, record.config,
            record.environment, record.summary(), record.scalar_names(), record.has_ended,
        )
    )  # fmt: skip


def plainly(root):
    """The same of all runs of one project, each read by itself, without an index."""
    return {path.name: said(RunRecord(path)) for path in (root / "p").iterdir() if (path / "run.json").is_file()}


def listed(root):
    return {record.id: said(record) for record in tracking.open_store(root).runs()}


def is_held(record):
    """Whether the index says what there is to say of a run."""
    return record._held is not None and record._held.is_current()  # noqa: SLF001 - nothing shows it but the time it takes


def indexed(root):
    """Lists the runs until all that have ended are in the index; their names."""
    until = time.monotonic() + 30
    while True:
        held = {record.id for record in tracking.open_store(root).runs() if is_held(record)}
        if held >= {path.name for path in (root / "p").iterdir() if path.name in ENDED}:
            return held
        # A tick of the clock of the file system must have passed.
        assert time.monotonic() < until, held
        time.sleep(0.005)


@pytest.mark.system
def test_a_listing_says_the_same_with_it(root):
    expected = plainly(root)
    assert set(expected) == set(ENDED)
    assert listed(root) == expected
    assert indexed(root) == set(ENDED)
    assert listed(root) == expected
    store = tracking.open_store(root)
    assert all(is_held(record) for record in store.runs())
    assert {record.id for record in store.runs(status="crashed")} == {"crashed"}
    assert {record.id for record in store.runs(config={"model.width": 3})} == {"finished"}
    assert {record.id for record in store.runs(metrics={"loss": lambda loss: loss >= 2})} == {
        "resumed",
        "forked",
        "crashed",
    }
    assert {record.id for record in store.runs(tags="a", metrics={"n": 19, "best.step": 3})} == {"finished"}
    # What is handed out is the caller's own.
    (record,) = store.runs(tags="a")
    record.config["lr"] = 7
    record.summary()["n"] = 7
    assert (record.config["lr"], record.summary()["n"]) == (0.1, 19)
    with pytest.raises(NameNotFoundError, match="loss"):
        record.scalars("lost")
    assert record.scalars("loss").last == 1 / 20


def test_it_is_what_a_listing_reads(root):
    indexed(root)
    path = root / ".index" / "p"
    entries = msgspec.msgpack.decode(path.read_bytes().partition(b"\n")[2], type=dict[str, index.Entry])
    changed = msgspec.structs.replace(entries["finished"], end=("preempted", None, 1.0))
    content = msgspec.msgpack.encode({**entries, "finished": changed})
    path.write_bytes(index._head(content) + content)  # noqa: SLF001 - what it is read as is asked
    assert "finished" in {record.id for record in tracking.open_store(root).runs(status="preempted")}


def test_a_run_that_goes_on_is_read(root):
    indexed(root)
    before = {record.id: record for record in tracking.open_store(root).runs()}
    with tracking.start_run("p", run_id="finished", root=root, backends="local", resume="must") as run:
        # At once, in a record of before as well.
        assert before["finished"].status == "running"
        run.log_scalars({"loss": 77.0}, step=99)
        run.log_config({"lr": 0.5})
        for record in (before["finished"], *tracking.open_store(root).runs(status="running")):
            assert (record.id, record.status, record.finished) == ("finished", "running", None)
            assert (record.summary()["loss"], record.config["lr"]) == (77.0, 0.5)
        # However often it is listed meanwhile.
        for _ in range(3):
            (record,) = tracking.open_store(root).runs(status="running")
            assert not is_held(record)
        run.log_scalars({"loss": 78.0}, step=100)
        assert record.summary()["loss"] == 78.0
    assert record.status == "finished"
    assert listed(root) == plainly(root)
    assert indexed(root) == set(ENDED)
    assert listed(root) == plainly(root)


def append(directory):
    """Another writer adds to a file that is there."""
    (path, *_) = sorted((directory / "journal").glob("*.jsonl"))
    with path.open("ab") as file:
        head = b'{"seq":1000,"low":1,"kind":"scalars","t":1.0,"axis":"step","step":9,"values":{"added":1.0}'
        file.write(b'%s,"crc":"%08x"}\n' % (head, zlib.crc32(head)))


def rewrite(directory):
    """`run.json` becomes another of the same size and time."""
    path = directory / "run.json"
    found = path.stat()
    path.write_bytes(path.read_bytes().replace(b'"name": "crashed"', b'"name": "CRASHED"'))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def exchange(directory):
    """Another run takes the place of one."""
    shutil.rmtree(directory)
    shutil.copytree(directory.with_name("failed"), directory)


def add_writer(directory):
    (path, *_) = sorted((directory / "journal").glob("*.jsonl"))
    shutil.copy(path, path.with_name("ffffffffffffffff-00000000-000001.jsonl"))


def remove_journal(directory):
    shutil.rmtree(directory / "journal")


def empty_journal(directory):
    for path in (directory / "journal").glob("*.jsonl"):
        path.unlink()


def merge(directory):
    compact(directory, over=True)


@pytest.mark.parametrize("change", [append, rewrite, exchange, add_writer, remove_journal, empty_journal, merge])
def test_whatever_changes_shows_at_once(root, change):
    indexed(root)
    known = {record.id: record for record in tracking.open_store(root).runs()}
    # Its journal was not compacted.
    before = plainly(root)["crashed"]
    change(root / "p" / "crashed")
    (record,) = (r for r in tracking.open_store(root).runs() if r.dir.name == "crashed")
    assert said(record) == plainly(root)["crashed"]
    assert not is_held(record)
    if change not in (rewrite, exchange):
        assert said(known["crashed"]) == plainly(root)["crashed"]
    assert (said(record) == before) == (change in (add_writer, merge))
    assert is_held(known["failed"])


CONTENTS = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "noise": lambda content: bytes(range(256)) * 10,
    "another version": lambda content: content.replace(b"index 1 ", b"index 2 ", 1),
    "another package": lambda content: content.replace(tracking.__version__.encode(), b"0.0.7", 1),
    "a bit": lambda content: content[:-7] + bytes([content[-7] ^ 1]) + content[-6:],
    "no entries": lambda content: signed(msgspec.msgpack.encode([1, 2])),
    "other entries": lambda content: signed(msgspec.msgpack.encode({"finished": ["a", 2, {}]})),
    "no MessagePack": lambda content: signed(b"\xc1" * 9),
    "deep": lambda content: signed(b"\x91" * 100_000),
}


def signed(content):
    return index._head(content) + content  # noqa: SLF001 - a damage that the checksum does not show


@pytest.mark.parametrize("what", CONTENTS)
def test_a_damaged_index_says_nothing(root, what):
    indexed(root)
    path = root / ".index" / "p"
    path.write_bytes(CONTENTS[what](path.read_bytes()))
    assert not any(is_held(record) for record in tracking.open_store(root).runs())
    assert listed(root) == plainly(root)
    # It is made anew.
    assert indexed(root) == set(ENDED)


@pytest.mark.parametrize("place", ["a file", "a directory", "not writable"])
def test_where_none_can_be_written_there_is_none(root, place):
    if place == "a file":
        (root / ".index").write_text("mine")
    elif place == "a directory":
        (root / ".index" / "p" / "sub").mkdir(parents=True)
    else:
        if os.geteuid() == 0:
            pytest.skip("root may write anywhere")
        root.chmod(0o555)
    store = tracking.open_store(root)
    expected = plainly(root)
    for _ in range(3):
        assert {record.id: said(record) for record in store.runs()} == expected
        assert not any(is_held(record) for record in store.runs())
    root.chmod(0o755)
    if place == "a file":
        assert (root / ".index").read_text() == "mine"
    if place == "a directory":
        assert [path.name for path in (root / ".index").iterdir()] == ["p"]


def test_it_is_written_when_that_is_worth_it(root, monkeypatch):
    monkeypatch.setattr(index, "FEWEST", len(ENDED) + 1)
    for _ in range(3):
        listed(root)
    assert not (root / ".index").exists()
    monkeypatch.setattr(index, "FEWEST", 2)
    indexed(root)
    (path,) = (root / ".index").iterdir()
    before = path.stat()
    with tracking.start_run("p", run_id="new", root=root, backends="local"):
        pass
    shutil.rmtree(root / "p" / "failed")
    # One that is new, and one that is gone: neither is worth it.
    for _ in range(3):
        assert listed(root) == plainly(root)
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert [one.name for one in (root / ".index").iterdir()] == ["p"]


def test_what_was_written_a_moment_ago_is_not_held(root, monkeypatch):
    monkeypatch.setattr(index, "SETTLED", 10**12)
    for _ in range(3):
        assert not any(is_held(record) for record in tracking.open_store(root).runs())
    assert [path.name for path in (root / ".index").iterdir()] == []


def test_what_is_long_is_not_held(root, monkeypatch):
    indexed(root)
    path = root / ".index" / "p"
    assert path.stat().st_size < 50_000
    entries = index._decoded(path.read_bytes())  # noqa: SLF001 - its size is asked
    assert {name for name, entry in entries.items() if entry.config is None} == {"odd", "large"}
    # Altogether: the newest come first.
    monkeypatch.setattr(index, "TOTAL", 150)
    path.unlink()
    assert indexed(root) == set(ENDED)
    entries = index._decoded(path.read_bytes())  # noqa: SLF001 - as above
    kept = {name for name, entry in entries.items() if entry.config is not None and entry.summary is not None}
    assert "finished" not in kept
    assert kept
    assert listed(root) == plainly(root)
    # Files of a journal, of which each would have to be looked at.
    monkeypatch.setattr(index, "MOST_FILES", 0)
    path.unlink()
    for _ in range(3):
        held = {record.id for record in tracking.open_store(root).runs() if is_held(record)}
    assert "compacted" in held
    assert "crashed" not in held


def test_what_is_gone_is_dropped(root):
    indexed(root)
    shutil.copytree(root / "p", root / "q")
    (root / ".index" / ".p.0123456789ab").write_bytes(b"left behind")
    os.utime(root / ".index" / ".p.0123456789ab", (1, 1))
    tracking.open_store(root).runs()
    until = time.monotonic() + 30
    while not (root / ".index" / "q").exists():
        assert time.monotonic() < until
        tracking.open_store(root).runs()
    shutil.rmtree(root / "q")
    shutil.rmtree(root / "p" / "failed")
    append(root / "p" / "crashed")
    assert "failed" not in listed(root)
    indexed(root)
    assert set(index._decoded((root / ".index" / "p").read_bytes())) == set(ENDED) - {"failed"}  # noqa: SLF001
    assert [path.name for path in (root / ".index").iterdir()] == ["p"]


def test_one_store_in_many_threads(root):
    expected = plainly(root)
    store = tracking.open_store(root)

    def work(_):
        return all({r.id: said(r) for r in store.runs()} == expected for _ in range(5))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


LISTING = """
from tracking_core.store import index, open_store
index.FEWEST, index.SETTLED = 1, 0
for _ in range(40):
    found = [(r.id, r.status, r.config, r.summary()) for r in open_store("runs").runs()]
    print(sorted(map(repr, found)) == open("wanted").read().splitlines())
"""


@pytest.mark.system
def test_many_at_once_while_it_is_removed_and_damaged(root):
    wanted = sorted(repr((r.id, r.status, r.config, r.summary())) for r in map(RunRecord, (root / "p").iterdir()))
    (root.parent / "wanted").write_text("\n".join(wanted))
    command = [sys.executable, "-c", LISTING]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    programs = [
        subprocess.Popen(command, cwd=root.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    path = root / ".index" / "p"
    for turn in itertools.count():
        if all(program.poll() is not None for program in programs):
            break
        if path.exists():
            if turn % 2:
                path.unlink(missing_ok=True)
            else:
                with path.open("r+b") as file:
                    file.seek(turn % 997)
                    file.write(b"\x00\xff")
        time.sleep(0.002)
    for program in programs:
        out, error = program.communicate()
        assert (program.returncode, error) == (0, b"")
        assert out.split() == [b"True"] * 40
