"""Something else where a file should be, and files of other people: nothing waits, and nothing else is hidden."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import tracking_core as tracking
from tests.support.hurt_stores import (
    HEADER,
    LOSSES,
    STEPPED,
    bad_run,
    check_api,
    check_everything,
    in_time,
    line_of,
    make_store,
    said,
)
from tests.support.programs import REPO
from tracking_core.backends.targets import parse_target
from tracking_core.base import regular
from tracking_core.base.processes import owner_of
from tracking_core.base.regular import bounded_lines, open_regular, read_regular
from tracking_core.compaction.compaction import compact
from tracking_core.delivery.cursor import Cursor
from tracking_core.delivery.ending import broke_off
from tracking_core.delivery.inbox import Inbox
from tracking_core.delivery.lease import Lease
from tracking_core.journal import read_events
from tracking_core.journal.liveness import is_alive
from tracking_core.mirror import cache
from tracking_core.mirror.uploader import RunUploader
from tracking_core.remote.address import Address, Mirroring
from tracking_core.remote.objects import FolderObjects
from tracking_core.store.verify import verify

pytestmark = pytest.mark.system

KINDS = ["fifo", "directory", "socket", "device", "loop", "nowhere"]


def put(path, kind):
    """Something odd at a path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        path.unlink()
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "socket":
            before = os.getcwd()
            os.chdir(path.parent)  # its name may have few characters
            try:
                with socket.socket(socket.AF_UNIX) as one:
                    one.bind(path.name[-60:])
                os.rename(path.name[-60:], path.name)
            finally:
                os.chdir(before)
        case "device":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path.name)
        case "nowhere":
            path.symlink_to("nowhere")


@pytest.fixture(autouse=True)
def _in_time():
    with in_time(120):
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("made") / "runs")


@pytest.fixture
def root(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "runs"))


def rows(*seqs):
    return [
        line_of({"seq": seq, "low": seq + 1, "kind": "scalars", "t": 1.0, **STEPPED, "values": {"more": 1.0}})
        for seq in seqs
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_not_opened(tmp_path, kind):
    path = tmp_path / "x"
    put(path, kind)
    before = len(os.listdir("/proc/self/fd"))
    for read in (open_regular, read_regular):
        with pytest.raises(OSError, match="regular file|link that leads|No such device"):
            read(path)
    assert len(os.listdir("/proc/self/fd")) == before
    assert not regular.is_regular(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["x-000001.jsonl", "w-000002.jsonl"])
def test_a_journal_file_that_is_none_is_damage(root, tmp_path, kind, name):
    directory = bad_run(root, rows(2))
    put(directory / "journal" / name, kind)
    assert [event.seq for event in read_events(directory)] == [1, 2]
    [damage] = check_api(directory).damage()
    assert damage.file.name == name
    assert [one.file.name for one in verify(directory).breaks if one.offset is None or one.offset == 0] != []
    inbox = Inbox(directory, Cursor(None))
    assert inbox.waiting() == 2
    inbox.pull(final=True)
    assert [event.seq for event in inbox.ready(10)] == [1, 2]
    check_everything(root, tmp_path)
    said("compact", "--all", root=root)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_file_that_is_none_is_said(root, tmp_path, kind):
    directory = bad_run(root, rows(2))
    put(directory / "run.json", kind)
    store = tracking.open_store(root)
    assert {record.id for record in store.runs()} == {"good-1", "good-2"}
    assert "run.json cannot be read: it is" in store.unreadable[directory]
    check_everything(root, tmp_path, bad_is_listed=False)
    assert "it is" in said("show", "bad", root=root, code=1).output
    assert "bad: " in said("verify", "--all", root=root, code=1).output


@pytest.mark.parametrize("kind", KINDS)
def test_the_small_files_beside_a_run(root, tmp_path, kind):
    """Heartbeat, cursor, lease, index, alias and manifest, media and parts."""
    directory = bad_run(root, rows(2))
    target = parse_target(f"tensorboard:{tmp_path}/tb")
    for name in ("journal/w.alive", f"cursors/{target.key}.json"):
        put(directory / name, kind)
    put(root / ".index" / "p", kind)
    assert Cursor.load(directory, target).writers == {}
    is_alive(directory, "w")
    check_everything(root, tmp_path)
    put(directory / "cursors" / "local-0.lease", kind)
    owner_of(directory / "cursors" / "local-0.lease")
    check_everything(root, tmp_path)
    store = tracking.open_store(root).artifacts("p")
    with tracking.start_run("p", run_id="logs", root=root, backends="local") as run:
        run.log_artifact({"a": b"1"}, name="x", aliases=["best"])
        folder = root / "p" / "artifacts" / "file" / "x"
        put(folder / "aliases" / "best", kind)
        put(folder / "v1.json", kind)
        # Versions go on behind what nobody can read.
        assert run.log_artifact({"a": b"2"}, name="x").version == 2
    assert [version.ref.version for version in store.versions()] == [0, 2]
    assert list(store.unreadable) == [folder / "v1.json"]
    said("pack", "logs", "-o", str(tmp_path / "logs.zip"), root=root, code=0)
    said("show", "logs", root=root, code=0)


@pytest.mark.parametrize("kind", [*KINDS, "schema", "cut", "rows", "nulls"])
@pytest.mark.parametrize("which", ["scalars", "events"])
def test_a_part_that_is_none(root, tmp_path, kind, which):
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    directory = bad_run(root, rows(*range(2, 40)))
    compact(directory)
    [path] = directory.glob(f"{which}-*")
    if kind in KINDS:
        put(path, kind)
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:-50])
    elif which == "events":
        pytest.skip("it is no Parquet file")
    else:
        table = parquet.read_table(path)
        if kind == "schema":
            table = table.rename_columns(["name", "writer", "seq", "axis", "step", "time", "value", "what"])
        elif kind == "rows":
            table = table.slice(3)
        else:
            table = table.set_column(4, "step", pyarrow.array([None] * table.num_rows, pyarrow.int64()))
        parquet.write_table(table, path)
    check_everything(root, tmp_path)
    assert said("verify", "bad", root=root, code=1).output.startswith("bad: ")
    if which == "scalars":
        assert "Error" in said("scalars", "bad", "more", root=root, code=1).output


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"null", b"3", b"{}", b'"x"', b'{"pid": 1e400, "host": "h"}', b'{"pid": -1, "host": "h"}', b"\xff",
        b'{"pid": "1", "host": 3}', b'{"pid": 1' + b"0" * 5000 + b"}", b"[" * 100_000, b'{"pid": true, "host": null}',
        b'{"writers": {"w": {"seq": 1e999, "offset": 0}}, "state": {}, "counts": {}, "opened": 0, "target": "x"}',
        b'{"writers": {"w": {"seq": 1, "offset": -5}}, "state": {}, "counts": {}, "opened": 0, "target": "x"}',
        b'{"writers": {"w": {"seq": 1, "offset": 1180591620717411303424}}, "state": {}, "counts": {}, "opened": 0}',
        b'{"writers": [], "state": 3, "counts": 4, "opened": "x", "target": null, "status": 3, "updated": "then"}',
        b'{"alias": 3, "version": "x"}', b'{"v": 1, "name": 3}', b'{"target": ["tensorboard:tb"], "updated": 1e308}',
    ],
    ids=lambda content: content[:40],
)  # fmt: skip
def test_small_files_that_say_something_else(root, tmp_path, content):
    directory = bad_run(root, rows(2))
    target = parse_target(f"tensorboard:{tmp_path}/tb")
    for name in ("journal/w.alive", f"cursors/{target.key}.json", f"cursors/{target.key}.lease"):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(content)
        os.utime(directory / name, (1.0, 1.0))
    (root / ".index").mkdir(exist_ok=True)
    (root / ".index" / "p").write_bytes(content)
    Lease(directory, target.key, "tb").release()
    assert Cursor.load(directory, target).writers == {}
    with tracking.start_run("p", run_id="logs", root=root, backends="local") as run:
        run.log_artifact({"a": b"1"}, name="x")
    folder = root / "p" / "artifacts" / "file" / "x"
    (folder / "aliases").mkdir()
    for name in ("v0.json", "aliases/best", "v999999999999999999999.json", "v01.json"):
        (folder / name).write_bytes(content)
    store = tracking.open_store(root).artifacts("p")
    assert list(store.versions()) == []
    assert list(store.unreadable) == [folder / "v0.json"]
    check_everything(root, tmp_path)
    said("pack", "logs", "-o", str(tmp_path / "logs.zip"), root=root, code=0)


# ---------------------------------------------------------------- every file of a run, and everything that may stand there

HUGE = 4 << 30
DEEP = b"[" * 100_000 + b"]" * 100_000
WRONG = {
    "sparse": None,
    "deep": DEEP,
    "inside": b'{"place": %s, "beat": %s, "host": "h", "pid": 1, "target": %s, "v": 1}' % (DEEP, DEEP, DEEP),
    "number": b'{"pid": 1, "host": "elsewhere", "beat": 1%s, "started": 1%s, "place": 1%s}' % (b"0" * 400, b"0" * 400, b"0" * 400),
    "list": b"[1]",
    "stuck": b'{"v": 1, "writers": {}, "state": {}, "counts": {}, "opened": 1, "target": "tensorboard:x", '
    b'"stuck": ["w", 1e999, 1%s], "updated": 1%s}' % (b"0" * 400, b"0" * 400),
}  # fmt: skip
"""Name → what a file says; None for one of 4 GB."""
FILES = (
    "run.json", "origin.json", "journal/w.alive", "journal/w-000001.jsonl", "journal/w-000002.jsonl", "events-w-1-2.jsonl",
    "scalars-w-1-2.parquet", "media/" + "ab" * 32 + ".png", "cursors/KEY.json", "cursors/KEY.place", "cursors/KEY.lease",
)  # fmt: skip


SMALL_ONES = (".json", ".alive", ".place", ".lease", "best")


def put_odd(path, oddity, size=HUGE):
    """As `put`, and files that say something else or are large."""
    if oddity not in WRONG:
        put(path, oddity)
        return
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(WRONG[oddity] or b"")
    if WRONG[oddity] is None:
        os.truncate(path, size)


@contextlib.contextmanager
def in_memory(most=1 << 30):
    """What takes more than this many bytes gets a MemoryError."""
    taken = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (taken + most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


@pytest.mark.parametrize("oddity", ["fifo", "directory", "device", *WRONG])
def test_an_odd_file_in_a_run_is_the_trouble_of_that_run(root, tmp_path, troubles, oddity):
    """Each file of a run is odd in a run of its own: all can be continued or are refused, and nothing else is hurt."""
    target = f"tensorboard:{tmp_path}/tb"
    key = parse_target(target).key
    made = {}
    for name in FILES:
        directory = bad_run(root, rows(2), targets=[target])
        made[name] = directory.rename(directory.with_name(f"r{len(made)}"))
        facts = json.loads((made[name] / "run.json").read_bytes())
        (made[name] / "run.json").write_text(json.dumps({**facts, "id": made[name].name}))
        if name.startswith(("events", "scalars")):
            for part in FILES[5:7]:
                (made[name] / part).write_bytes(b"x")
        path = made[name] / name.replace("KEY", key)
        path.unlink(missing_ok=True)
        # What may be as long as that is read, in pieces, which takes a while.
        put_odd(path, oddity, HUGE if name.endswith(SMALL_ONES) else 1 << 24)
    with in_memory():
        for arguments in (
            ["runs"],
            ["sync", "--all"],
            ["verify", "--all"],
            ["prune", "--dry-run", "--keep", "delivered:0s"],
        ):
            with in_time(20):
                said(*arguments, root=root)
        for name, directory in made.items():
            with in_time(20):
                said("show", directory.name, root=root)
                broke_off(directory)
            with in_time(20), contextlib.suppress(tracking.TrackingError):
                with tracking.start_run("p", run_id=directory.name, root=root, resume="allow", backends="local") as run:
                    assert run.dir == directory, name
                    run.log_scalars({"more": 5.0}, step=7)
                if not name.startswith(("events", "scalars")):
                    assert tracking.open_store(root).run(directory.name).scalars("more").value[-1] == 5.0
    check_good(root)


@pytest.mark.parametrize("oddity", ["fifo", "directory", "device", "loop", "deep", "sparse"])
def test_media_and_contents_that_are_none(root, tmp_path, oddity):
    """Nothing that is read of a medium or an artifact waits, or takes the memory; it is refused, and the rest is there."""
    with tracking.start_run("p", run_id="logs", root=root, backends="local") as run:
        run.log_images({"i": np.zeros((2, 2), np.uint8)}, step=1)
        run.log_table("t", tracking.Table(["a"], [[1]]), step=1)
        run.log_audio("a", tracking.Audio(np.zeros(8, np.float32), 8000), step=1)
        run.log_video("v", tracking.Video(np.zeros((2, 4, 4, 3), np.uint8)), step=1)
        run.log_artifact({"x": b"12345"}, name="art")
    paths = list((run.dir / "media").iterdir())
    [blob] = [path for path in (root / ".blobs").rglob("*") if path.is_file()]
    before = blob.read_bytes()
    [[_, [image]]] = tracking.open_store(root).run("logs").images("i")
    for path in (*paths, blob):
        path.unlink()
        put_odd(path, oddity, 1 << 28)
    record = tracking.open_store(root).run("logs")
    with in_time(30), in_memory(200 << 20):
        if oddity != "deep":
            with pytest.raises(tracking.InvalidValueError):
                image.png()
            with pytest.raises(tracking.TrackingError):
                record.images("i")
        with pytest.raises(tracking.TrackingError):
            _ = record.images("i")[0][1][0].pixels
        for kind, name in (("table", "t"), ("audio", "a"), ("video", "v")):
            with pytest.raises(tracking.TrackingError):
                record.media(kind, name)
        [version] = record.artifacts()
        for read in (lambda: version.read("x"), lambda: version.download(tmp_path / "out")):
            with pytest.raises(tracking.StoreError, match="the content of 'x'"):
                read()
        said("verify", "logs", root=root, code=1)
        said("sync", "logs", "--to", f"tensorboard:{tmp_path}/tb", root=root)
        if oddity != "directory":
            # Logged again, it is there again.
            with tracking.start_run("p", run_id="again", root=root, backends="local") as again:
                again.log_artifact({"x": b"12345"}, name="other")
            assert blob.read_bytes() == before
    check_good(root)


@pytest.mark.parametrize("oddity", ["fifo", "device", "deep", "sparse"])
def test_a_mirror_takes_what_is_none_as_refused(root, tmp_path, monkeypatch, oddity):
    """Of a run with odd files the rest is mirrored, and read back from a copy in which other files are odd."""
    monkeypatch.setenv("TRACKING_CACHE", str(tmp_path / "cache"))
    address = Address("file", str(tmp_path / "mirror"))
    with tracking.start_run("p", run_id="logs", root=root, backends="local") as run:
        run.log_scalars({"x": 1.0}, step=1)
        run.log_artifact({"x": b"12345"}, name="art", aliases=["best"])
    art = root / "p" / "artifacts" / "file" / "art"
    for path in (
        run.dir / "origin.json", run.dir / "journal" / "u-000001.jsonl", run.dir / "journal" / "u.alive", art / "v0.json",
        run.dir / "cursors" / "tensorboard-0.json", run.dir / "media" / f"{'ab' * 32}.png", art / "aliases" / "best",
    ):  # fmt: skip
        path.unlink(missing_ok=True)
        put_odd(path, oddity, HUGE if path.name.endswith(SMALL_ONES) else 1 << 24)
    with in_time(60), in_memory(), ThreadPoolExecutor(2) as pool:
        objects = FolderObjects(tmp_path / "mirror")
        brings = RunUploader(run.dir, Mirroring(address), objects, pool, pool, lambda count: None)
        brings.round(last=True)
        there = tmp_path / "mirror" / "p" / "logs"
        assert (there / "run.json").is_file()
        if oddity in {"fifo", "device"}:
            assert brings.state.failed >= 2
        store = tracking.open_store(str(address))
        assert store.run("logs").scalars("x").value.tolist() == [1.0]
        copy = store.run("logs").dir
        for place in (copy / "cursors" / "tensorboard-0.json", copy / "run.json", copy / ".mirror.json"):
            place.unlink(missing_ok=True)
            put_odd(place, oddity)
        put_odd(there / "cursors" / "tensorboard-1.json", oddity)
        put_odd(there / "journal" / "v.alive", oddity)
        cache._cache.cache_clear()
        assert tracking.open_store(str(address)).run("logs").scalars("x").value.tolist() == [1.0]


def check_good(root):
    listed = json.loads(said("runs", "--json", root=root).stdout)["runs"]
    assert {run["id"]: run["status"] for run in listed if run["id"] in LOSSES} == dict.fromkeys(LOSSES, "finished")
    for run_id, losses in LOSSES.items():
        assert tracking.open_store(root).run(run_id).scalars("loss").value.tolist() == losses
        said("show", run_id, root=root, code=0)


# ---------------------------------------------------------------- too much


def test_lines_are_bounded(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"a\n" + b"b" * 5000 + b"\n\nlast" + b"c" * 3000)
    with path.open("rb") as file:
        assert [(length, line if line is None else line[:5]) for length, line in bounded_lines(file, 1000)] == [
            (1, b"a"), (5000, None), (0, b""), (3004, None),
        ]  # fmt: skip


def test_a_line_that_is_too_long_is_damage(root, tmp_path, monkeypatch):
    """Small, with the bound moved down: every reader goes past it, and none keeps it."""
    monkeypatch.setattr(regular, "LONGEST", 20_000)
    monkeypatch.setattr("tracking_core.journal.finding.LONGEST", 20_000)
    monkeypatch.setattr(regular, "BLOCK", 1000)
    long = b'{"seq":3,"low":1,"kind":"summary",' + b'{"seq":1,"low":2,"kind":"finish"' * 500 + b"x" * 9000 + b"\n"
    finish = line_of({"seq": 5, "low": 6, "kind": "finish", "t": 2.0, "status": "failed", "error": None})
    directory = bad_run(root, [*rows(2), long, *rows(4), finish])
    assert [event.seq for event in read_events(directory)] == [1, 2, 4, 5]
    record = check_api(directory)
    [damage] = record.damage()
    assert damage.length == len(long) - 1
    assert record.status == "failed"
    inbox = Inbox(directory, Cursor(None))
    assert inbox.waiting() in {3, 4}
    inbox.pull(final=True)
    assert [event.seq for event in inbox.ready(10)] == [1, 2, 4]
    check_everything(root, tmp_path)
    # One that is still being written, to its end.
    [path] = directory.glob("journal/*.jsonl")
    whole = path.read_bytes()
    reader = tracking_reader(directory)
    path.write_bytes(whole[: whole.index(long) + 15_000])
    assert [event.seq for _, event in reader.read()] == [1, 2]
    path.write_bytes(whole[: whole.index(long) + 22_000])
    assert reader.read() == []
    path.write_bytes(whole)
    assert [event.seq for _, event in reader.read()] == [4, 5]
    assert [one.length for one in reader.damage] == [len(long) - 1]
    compact(directory)
    assert [event.seq for event in read_events(directory)] == [1, 2, 4, 5]


def tracking_reader(directory):
    from tracking_core.journal.segment_reader import SegmentReader

    [path] = directory.glob("journal/*.jsonl")
    return SegmentReader(path, "w")


def test_a_gigabyte_without_a_line(root):
    """800 MB for a line, and for run.json: with 500 MB of memory everything is answered."""
    directory = bad_run(root, rows(2))
    [path] = directory.glob("journal/*.jsonl")
    with path.open("r+b") as file:
        file.seek(0, 2)
        end = file.tell()
        file.truncate(end + 800_000_000)
        file.seek(0, 2)
        file.write(b"\n" + b"".join(rows(3)))
    other = bad_run_beside(root, "huge")
    with (other / "run.json").open("wb") as file:
        file.truncate(800_000_000)
    program = """
import resource, sys
import numpy, pyarrow.parquet, rich.table, msgspec, pluggy
resource.setrlimit(resource.RLIMIT_DATA, (500 << 20, 500 << 20))
from click.testing import CliRunner
from tracking_core.cli.app import app
for arguments in (["runs"], ["show", "bad"], ["scalars", "bad"], ["tail", "bad"], ["compact", "bad"], ["show", "bad"],
                  ["verify", "bad"], ["verify", "--all"]):
    result = CliRunner().invoke(app, [*arguments, "--root", sys.argv[1]])
    assert result.exception is None or isinstance(result.exception, SystemExit), (arguments, result.exc_info)
    print(arguments, result.exit_code, result.output)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(root)],
        capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "PYTHONPATH": str(REPO)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "is larger than" in done.stdout
    assert "the line is longer than" in done.stdout
    assert "good-1: " in done.stdout
    assert [event.seq for event in read_events(directory)] == [1, 2, 3]


def bad_run_beside(root, name):
    directory = root / "p" / name
    directory.mkdir()
    return directory


def test_a_damaged_line_with_many_beginnings_takes_no_time(root, tmp_path):
    """Each might be the beginning of a whole line: only some are tried."""
    junk = b'{"seq":1,"low":1,"kind":"x","t":1.0,"crc":"00000000"}' * 200_000
    directory = bad_run(root, [junk + b"\n", *rows(2)])
    assert [event.seq for event in read_events(directory)] == [1, 2]
    check_api(directory)


def test_names_of_files_that_count_to_the_moon(root, tmp_path):
    directory = bad_run(root, rows(2))
    header = line_of({"seq": 0, "low": 1, "kind": "segment", "t": 1.0, **HEADER})
    for name in ("w-999999999999.jsonl", "w-99999999999999999999.jsonl", "v-٣٣٣٣٣٣.jsonl"):
        (directory / "journal" / name).write_bytes(header)
    for name in ("1-99999999999999999999", "9223372036854775807-9223372036854775807", "5-2"):
        for which, ending in (("events", "jsonl"), ("scalars", "parquet")):
            (directory / f"{which}-w-{name}.{ending}").write_bytes(b"x")
    compacted = {
        "v": 1, "writer": "u", "segments": [1, 10**15], "digests": [], "first": 1, "last": 2, "count": 2, "records": 2,
        "whole": 0, "content": "0" * 64, "parent": None,
    }  # fmt: skip
    (directory / "events-u-1-2.jsonl").write_bytes(
        line_of({"seq": 0, "low": 3, "kind": "compacted", "t": 1.0, **compacted})
    )
    (directory / "scalars-u-1-2.parquet").write_bytes(b"x")
    assert len(verify(directory).breaks) < 2000
    check_everything(root, tmp_path)
    assert json.loads(said("runs", "--json", root=root).stdout)["runs"] != []
