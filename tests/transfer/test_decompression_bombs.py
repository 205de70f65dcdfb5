"""A few kilobytes can hold gigabytes. What is imported or read takes no more memory than it may, and is said to be too much."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from functools import cache

import pytest
from PIL import Image as Pillow

import tracking_core as tracking
from tests.support.commands import environment
from tests.support.programs import REPO
from tests.support.wandb_logs import write_log
from tracking_core.journal import encode_line
from tracking_core.journal import part_reader as parts_module
from tracking_core.transfer import import_runs, pack_run
from tracking_core.values import to_images

pytestmark = pytest.mark.system

MB = 1 << 20
LIMIT = 300
"""MB of memory at the peak, with interpreter and libraries; each of these took more, and most several gigabytes."""
BIG = 350
"""MB that a file becomes."""


#: Starts a command, and says at the end what memory it took and how it ended. What starts a process counts towards its
#: peak, and this process may have grown large.
LAUNCHER = """
import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(pid, 0)
print(f"\\n{used.ru_maxrss} {os.waitstatus_to_exitcode(status)}")
"""


def peak(arguments, cwd, expected):
    """Run a command; returns what it said. It takes no more memory than it may, at any time."""
    path = os.pathsep.join([str(REPO), str(REPO / "adapters")])
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LAUNCHER, *arguments],
        cwd=cwd,
        env=environment(PYTHONPATH=path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    ).stdout
    said, _, last = said.rstrip("\n").rpartition("\n")
    kilobytes, code = map(int, last.split())
    assert code == expected, said
    assert kilobytes / 1024 < LIMIT, f"{kilobytes // 1024} MB: {said[-500:]}"
    return said


def cli_and_api(source, cwd, expected=0):
    """What an import says, by the command and from Python, in a process that is measured."""
    program = f"""
from tracking_core.cli.app import app
from tracking_core.transfer import import_runs
try:
    app(["import", {str(source)!r}, "--root", "store"])
except SystemExit as end:
    print("ends with", end.code)
try:
    for done in import_runs({str(source)!r}, root="other"):
        print(done.error, *done.problems, sep="\\n")
except Exception as error:
    print(error)
"""
    said, code, other = peak([sys.executable, "-c", program], cwd, 0).partition(f"ends with {expected}\n")
    assert code, said
    return said, other


@cache
def block(pattern):
    """A megabyte of a pattern, and what deflate makes of it: that can stand there any number of times."""
    plain = pattern * (MB // len(pattern))
    packer = zlib.compressobj(9, wbits=-15)
    return plain, packer.compress(plain) + packer.flush(zlib.Z_FULL_FLUSH)


END = b"\x03\x00"
"""The end of what deflate makes."""


@cache
def png(width, height):
    """A gray PNG file of any size, which takes next to nothing."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    whole, rest = divmod((width + 1) * height, MB)
    packer = zlib.compressobj(9, wbits=-15)
    pixels = block(b"\0")[1] * whole + packer.compress(bytes(rest)) + packer.flush()
    # Of zeros alone one half of the checksum is their number.
    check = (whole * MB + rest) % 65521 << 16 | 1
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packed = b"\x78\xda" + pixels + struct.pack(">I", check)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def repeated(pattern, megabytes):
    """gzip of a pattern, over and over."""
    plain, packed = block(pattern)
    check = 0
    for _ in range(megabytes):
        check = zlib.crc32(plain, check)
    size = len(plain) * megabytes
    return gzip.compress(b"")[:10] + packed * megabytes + END + struct.pack("<II", check, size & 0xFFFFFFFF)


class Packed:
    """In place of the compressor of an entry of an archive: for one block, over and over."""

    def __init__(self, packed):
        self.packed = packed

    def compress(self, _):
        return self.packed

    def flush(self):
        return END


def write_repeated(archive, name, pattern, megabytes, head=b""):
    """Write an entry: a beginning, and so many megabytes of a pattern."""
    plain, packed = block(pattern)
    with archive.open(name, "w", force_zip64=True) as out:
        if head:
            out.write(head)
            out._compressor = Packed(out._compressor.flush(zlib.Z_FULL_FLUSH) + packed)
            out.write(plain)
            megabytes -= 1
        out._compressor = Packed(packed)
        for _ in range(megabytes):
            out.write(plain)


# ---------------------------------------------------------------- W&B


@pytest.fixture
def log(tmp_path):
    """Writes a run of W&B with files and an artifact."""
    pb = pytest.importorskip("wandb.proto.wandb_internal_pb2")

    def write(media=(), manifest=None):
        folder = tmp_path / "run-x"
        (folder / "files" / "media").mkdir(parents=True)
        records = [pb.Record(run=pb.RunRecord(run_id="x", project="p"))]
        for name, kind, content in media:
            place = folder / "files" / "media" / name
            if isinstance(content, int):
                with place.open("wb") as file:
                    file.truncate(content)
            else:
                place.write_bytes(content)
            records.append(pb.Record(files=pb.FilesRecord(files=[pb.FilesItem(path=f"media/{name}")])))
            value = json.dumps({"_type": kind, "path": f"media/{name}", "size": 1, "sha256": ""})
            records.append(pb.Record(history=pb.HistoryRecord(item=[pb.HistoryItem(key=name, value_json=value)])))
        if manifest is not None:
            (tmp_path / "manifest.gz").write_bytes(manifest)
            described = pb.ArtifactManifest(manifest_file_path=str(tmp_path / "manifest.gz"))
            records.append(pb.Record(artifact=pb.ArtifactRecord(name="a", type="t", manifest=described)))
        records.append(pb.Record(history=pb.HistoryRecord(item=[pb.HistoryItem(key="loss", value_json="0.5")])))
        records.append(pb.Record(exit=pb.RunExitRecord(exit_code=0)))
        write_log(folder / "run-x.wandb", records)
        return folder

    return write


@pytest.mark.parametrize(
    ("pattern", "megabytes"),
    [
        (b'{"path":"a","digest":"b"}\n', 200),
        (b"[],", 150),
        (b" ", BIG),
        (b"[" * 1000, 50),
    ],
    ids=["lines", "values", "one line", "depth"],
)
def test_a_list_of_an_artifacts_files(log, tmp_path, pattern, megabytes):
    manifest = repeated(pattern, megabytes)
    assert len(manifest) < 4 * MB
    for said in cli_and_api(log(manifest=manifest), tmp_path):
        assert "a: the list of the files of this artifact is missing" in said
    (record,) = tracking.open_store("store").runs()
    assert record.scalars("loss").value.tolist() == [0.5]


def test_a_list_that_is_a_pipe_holds_nothing_up(log, tmp_path):
    folder = log(manifest=b"")
    (tmp_path / "manifest.gz").unlink()
    os.mkfifo(tmp_path / "manifest.gz")
    (done,) = import_runs(folder, root="store")
    assert done.error is None


@pytest.mark.parametrize(
    ("name", "kind", "content", "words"),
    [
        ("x.png", "image-file", lambda: png(30_000, 28_000), "pixels"),
        ("x.gif", "image-file", lambda: gif(60_000, 60_000), "pixels"),
        ("x.table.json", "table-file", lambda: b'{"columns": ["a"], "data": [' + b"[]," * (20 * MB) + b"[]]}", "JSON of about"),
        ("y.table.json", "table-file", lambda: 20 << 30, "up to"),
        ("x.html", "html-file", lambda: 20 << 30, "up to"),
        ("x.wav", "audio-file", lambda: 20 << 30, "up to"),
        ("x.mp4", "video-file", lambda: 20 << 30, "up to"),
        ("x.plotly.json", "plotly-file", lambda: b"[" * MB, "recursion"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)  # fmt: skip
def test_media_of_a_run(log, tmp_path, name, kind, content, words):
    for said in cli_and_api(log([(name, kind, content())]), tmp_path):
        assert words in said, said
    (record,) = tracking.open_store("store").runs()
    assert record.scalars("loss").value.tolist() == [0.5]


def gif(width, height):
    """A GIF file that says it is of some size."""
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02L\x01\x00;"  # fmt: skip


def test_a_log_that_goes_on_with_zeros(log, tmp_path):
    folder = log()
    with (folder / "run-x.wandb").open("r+b") as file:
        file.truncate(BIG * MB)
    for said in cli_and_api(folder, tmp_path):
        assert "zeros only" in said


# ---------------------------------------------------------------- TensorBoard


@pytest.fixture
def events(tmp_path):
    """Writes an event file with some values."""
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import RecordWriter

    def write(*values):
        (tmp_path / "tb").mkdir()
        path = tmp_path / "tb" / "events.out.tfevents.1600000000.h"
        file = RecordWriter(str(path))
        file.write(Event(wall_time=1.6e9, file_version="brain.Event:2").SerializeToString())
        for value in (*values, {"tag": "loss", "simple_value": 0.5}):
            event = Event(wall_time=1.6e9, step=1)
            event.summary.value.add(**{key: one for key, one in value.items() if key != "fill"})
            if "fill" in value:
                value["fill"](event.summary.value[0])
            file.write(event.SerializeToString())
        file.close()
        return path

    return write


def short_form(value, size, plugin):
    value.metadata.plugin_data.plugin_name = plugin
    value.tensor.dtype = 1
    for dimension in size:
        value.tensor.tensor_shape.dim.add(size=dimension)
    value.tensor.float_val.append(1.0)


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (lambda value: setattr(value.image, "encoded_image_string", png(30_000, 28_000)), "pixels"),
        (lambda value: short_form(value, [2**26], "scalars"), "number of values"),
        (lambda value: short_form(value, [2**24, 3], "histograms"), "number of values"),
    ],
    ids=["image", "scalar", "histogram"],
)
def test_values_of_an_event(events, tmp_path, fill, words):
    path = events({"tag": "bad", "fill": fill})
    assert path.stat().st_size < 2 * MB
    for said in cli_and_api(path, tmp_path):
        assert words in said
    (record,) = tracking.open_store("store").runs()
    assert record.scalars("loss").value.tolist() == [0.5]


def test_a_record_that_is_long_and_takes_no_room(events, tmp_path):
    crc32c = pytest.importorskip("crc32c")
    path = events()
    length = struct.pack("<Q", 1 << 30)
    with path.open("r+b") as file:
        file.seek(0, 2)
        check = crc32c.crc32c(length)
        file.write(length + struct.pack("<I", ((check >> 15 | check << 17) + 0xA282EAD8) & 0xFFFFFFFF))
        file.seek((1 << 30) + 4, 1)
        good = path.read_bytes()[: 1 << 16].rstrip(b"\0")
        # What stands behind it is read all the same.
        first = 12 + struct.unpack("<Q", good[:8])[0] + 4
        second = good[first:]
        file.write(second[: 12 + struct.unpack("<Q", second[:8])[0] + 4])
    for said in cli_and_api(path, tmp_path):
        assert "bytes and was left out; up to" in said
    (record,) = tracking.open_store("store").runs()
    assert record.scalars("loss", raw=True).value.tolist() == [0.5, 0.5]


# ---------------------------------------------------------------- packs


@pytest.fixture
def packed(tmp_path):
    with tracking.start_run("p", root="runs", run_id="a") as run:
        run.log_scalars({"loss": 0.5}, step=1)
    return pack_run(run.id, root="runs").file.absolute()


@cache
def digest_of_blanks(megabytes):
    digest = hashlib.sha256()
    for _ in range(megabytes):
        digest.update(block(b" ")[0])
    return digest.hexdigest()


def with_entry(file, name, megabytes, *, listed=True, lie=None):
    """The pack with one more file, or another of that name, of so many megabytes of blanks."""
    with zipfile.ZipFile(file) as archive:
        entries = {one: archive.read(one) for one in archive.namelist()}
    manifest = json.loads(entries.pop("tracking-pack.json"))
    entries.pop(name, None)
    if listed:
        manifest["files"][name] = {"size": megabytes * MB, "sha256": digest_of_blanks(megabytes)}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for one, content in entries.items():
            archive.writestr(one, content)
        write_repeated(archive, name, b" ", megabytes)
        if name != "tracking-pack.json":
            archive.writestr("tracking-pack.json", json.dumps(manifest))
    if lie is not None:
        content = file.read_bytes()
        at = content.rindex(b"PK\x01\x02", 0, content.rindex(name.encode()))
        file.write_bytes(content[: at + 24] + struct.pack("<I", lie) + content[at + 28 :])
    return file


@pytest.mark.parametrize(
    ("name", "megabytes", "words"),
    [
        ("run/journal/w-000001.jsonl", BIG, "grows from"),
        ("run/run.json", BIG, "is refused"),
        ("run/run.json", 60, "holds no run"),
        ("tracking-pack.json", BIG, "not a pack of a run"),
        ("tracking-pack.json", 60, "is not valid"),
    ],
)
def test_files_of_a_pack(packed, tmp_path, name, megabytes, words):
    file = with_entry(packed, name, megabytes)
    assert file.stat().st_size < 4 * MB
    for said in cli_and_api(file, tmp_path, expected=1):
        assert words in said, said
    assert not (tmp_path / "store").exists() or tracking.open_store("store").runs() == []


@pytest.mark.parametrize("lie", [10, 2**31])
def test_a_size_that_is_not_true(packed, tmp_path, lie):
    file = with_entry(packed, "run/notes.txt", BIG, lie=lie)
    for said in cli_and_api(file, tmp_path, expected=1):
        assert (
            "damaged" in said
            or "refused" in said
            or "not a complete pack" in said
            or "is left" in said
            or "has" in said
        )
    assert not any(
        (tmp_path / root).exists() and list((tmp_path / root).rglob("notes.txt")) for root in ("store", "other")
    )


def test_a_manifest_of_many_values(packed, tmp_path):
    with zipfile.ZipFile(packed) as archive:
        entries = {one: archive.read(one) for one in archive.namelist()}
    entries["tracking-pack.json"] = b"[" + b"[]," * (20 * MB) + b"[]]"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for one, content in entries.items():
            archive.writestr(one, content)
    for said in cli_and_api(packed, tmp_path, expected=1):
        assert "is not valid" in said


# ---------------------------------------------------------------- readers, and what is logged


def read(program, cwd):
    return peak([sys.executable, "-c", f"import tracking_core as tracking\n{program}"], cwd, 0)


def append(run, kind, **fields):
    (run.dir / "journal" / "zz-000001.jsonl").write_bytes(
        encode_line(0, 1, "segment", 1.0, {"v": 1, "run": run.id, "parent": None})
        + encode_line(1, 2, kind, 1.0, {"step": 1, "axis": "step", **fields})
    )


@pytest.fixture
def run(tmp_path):
    with tracking.start_run("p", root="runs", run_id="a") as run:
        run.log_scalars({"loss": 0.5}, step=1)
    (run.dir / "media").mkdir()
    return run


def test_images_of_a_run(run, tmp_path):
    (run.dir / "media" / f"{'a' * 64}.png").write_bytes(png(30_000, 28_000))
    append(run, "images", images={"x": [{"file": f"{'a' * 64}.png"}]})
    program = """
for step, images in tracking.open_store("runs").run("a").images("x"):
    try:
        images[0].pixels
    except tracking.InvalidValueError as error:
        print("refused:", error)
"""
    said = read(program, tmp_path)
    assert "refused:" in said


def test_frames_of_a_run(run, tmp_path):
    # Zeros as numpy writes them.
    with zipfile.ZipFile(run.dir / "media" / f"{'a' * 64}.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        head = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d, 1024, 1024, 1), }" % BIG
        head += b" " * (117 - len(head)) + b"\n"
        head = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head
        write_repeated(archive, "frames.npy", b"\0", BIG, head)
    append(run, "video", name="x", file=f"{'a' * 64}.npz", fps=8.0, shape=[BIG, 1024, 1024, 1])
    program = """
try:
    tracking.open_store("runs").run("a").records()
except tracking.TrackingError as error:
    print("refused:", error)
"""
    assert "are read, and a run takes no more than half" in read(program, tmp_path)


def test_columns_of_many_rows(run, monkeypatch):
    """A Parquet file holds a billion equal rows in some kilobytes."""
    pytest.importorskip("pyarrow")
    from tracking_core.compaction.compaction import compact

    compact(run.dir, over=True)
    assert tracking.open_store("runs").run("a").scalars("loss").value.tolist() == [0.5]
    monkeypatch.setattr(parts_module, "MOST_ROWS", 0)
    record = tracking.open_store("runs").run("a")
    with pytest.raises(tracking.TrackingError, match="a part of a journal has at most"):
        record.scalars("loss")
    with pytest.raises(tracking.TrackingError, match="a part of a journal has at most"):
        record.records()


@pytest.mark.parametrize("size", [(30_000, 28_000), (12_000, 12_000), (2**31 - 1, 1), (1, 2**31 - 1)])
def test_image_files_that_are_logged(tmp_path, size):
    data = png(*size) if max(size) < 2**20 else png(8, 8)[:16] + struct.pack(">II", *size) + png(8, 8)[24:]
    (tmp_path / "x.png").write_bytes(data)
    program = """
from pathlib import Path
from tracking_core.values import to_images
for data in (Path("x.png"), Path("x.png").read_bytes()):
    try:
        to_images("x", data)
    except tracking.InvalidValueError as error:
        print("refused:", error)
"""
    assert read(program, tmp_path).count("refused:") == 2


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16", "1"])
def test_what_fits_is_decoded(mode):
    """8K, as large as a screen is."""
    out = io.BytesIO()
    Pillow.new(mode, (7680, 4320)).save(out, "PNG", compress_level=1)
    (image,) = to_images("x", out.getvalue())
    assert image.pixels.shape[:2] == (4320, 7680)


def test_no_picture_is_a_program(tmp_path, monkeypatch):
    """Pillow hands EPS to Ghostscript."""
    (tmp_path / "bin").mkdir()
    for name in ("gs", "gswin32c", "gswin64c"):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(tracking.InvalidValueError, match="cannot read these bytes as an image file"):
        to_images("x", eps)
    assert not (tmp_path / "started").exists()
