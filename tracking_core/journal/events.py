"""What stands in the events of each kind, and how a record is made from one."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tracking_core.base.contents import FOLDER, content_key, digest_of
from tracking_core.base.json_text import pack, to_json, unpack
from tracking_core.base.regular import LARGEST, read_regular
from tracking_core.base.trees import is_plain_file
from tracking_core.errors import JournalError
from tracking_core.journal.lines import Event
from tracking_core.remote.fetching import fetched, is_copy
from tracking_core.values import Audio, Figure, Histogram, Image, Record, Table, Text, Video
from tracking_core.values.images import LARGEST_DECODED

ORIGIN = "origin.json"
"""As `layout.ORIGIN_FILE`, which stands above this module."""
_MEDIUM = re.compile(r"[0-9a-f]{64}(?:\.[A-Za-z0-9]{1,16}){1,3}")
MEDIA_KINDS = frozenset({"table", "video", "audio", "text", "figure"})
RECORD_KINDS = MEDIA_KINDS | {
    "scalars",
    "images",
    "histogram",
    "artifact",
    "use_artifact",
    "config",
    "summary",
    "alert",
}
"""Kinds that are delivered. Others are the store's own, or of a later version."""


def histogram_fields(histogram: Histogram) -> dict[str, Any]:
    """A histogram as fields of an event."""
    numbers = {key: pack(float(getattr(histogram, key))) for key in ("min", "max", "mean", "std")}
    lost = {key: getattr(histogram, key) for key in ("nan", "posinf", "neginf")}
    return {"counts": histogram.counts.tolist(), "edges": histogram.edges.tolist(), **lost, **numbers}


def media_fields(kind: str, value: Any, put: Callable[[bytes, str], str]) -> dict[str, Any]:
    """A medium as fields of an event.

    Args:
        kind: One of `MEDIA_KINDS`.
        value: The normal form of that kind.
        put: Keeps bytes under an ending, and returns the file name.
    """
    if kind == "text":
        return {"text": str(value)}
    if kind == "table":
        content = to_json(pack({"columns": list(value.columns), "rows": [list(r) for r in value.rows]}))
        return {"file": put(content, "table.json"), "rows": len(value.rows), "columns": len(value.columns)}
    if kind == "audio":
        return {"file": put(value.wav(), "wav"), "sample_rate": value.sample_rate, "caption": said(value.caption)}
    if kind == "video":
        if value.frames is None:
            return {"file": put(value.encoded, value.format), "fps": value.fps}
        # Every codec at hand loses colours or repeated frames; the store keeps what was logged.
        out = io.BytesIO()
        np.savez_compressed(out, frames=value.frames)
        return {"file": put(out.getvalue(), "npz"), "fps": value.fps, "shape": list(value.frames.shape)}
    if value.plotly is not None:
        return {"file": put(value.plotly.encode("utf-8", "surrogatepass"), "plotly.json")}
    return {"file": put(value.image.png(), "png")}


def said(caption: object) -> str | None:
    """A caption as text, whatever it was given as."""
    return None if caption is None else str(caption)


def to_record(event: Event, directory: Path) -> Record:
    """Make the record of an event; media are read from the run directory.

    Args:
        event: An event of one of `RECORD_KINDS`.
        directory: The run directory.

    Raises:
        JournalError: Fields are missing, or a medium is.
    """
    fields = event.fields
    try:
        return Record(
            event.kind,
            event.seq,
            event.writer,
            event.time,
            fields.get("step"),
            fields.get("axis", "step"),
            _data(event.kind, fields, directory),
        )
    except Exception as error:
        # Fields and media may be damaged in any way, and every decoder has errors of its own.
        raise JournalError(
            f"event {event.seq} ({event.kind}) of writer {event.writer} cannot be read: {error}"
        ) from error


def _data(kind: str, fields: Mapping[str, Any], directory: Path) -> Mapping[str, Any]:
    if kind == "scalars":
        return fields["values"]
    if kind == "images":
        return {
            name: [Image.from_png(_medium(directory, entry["file"]), entry.get("caption")) for entry in entries]
            for name, entries in fields["images"].items()
        }
    if kind == "histogram":
        return {"name": fields["name"], "value": read_histogram(fields)}
    if kind in MEDIA_KINDS:
        return {"name": fields["name"], "value": _read_medium(kind, fields, directory)}
    if kind == "artifact":
        files = {
            _inside(path): content_path(fields, directory, entry["sha256"], entry.get("size"))
            for path, entry in fields["files"].items()
        }
        keys = ("name", "type", "version", "digest")
        facts = {"metadata": unpack(fields["metadata"]), "aliases": tuple(fields["aliases"])}
        return {"artifact": files, **{key: fields[key] for key in keys}, **facts}
    if kind in {"config", "summary"}:
        return unpack(fields[kind])
    return fields


def blobs_of(fields: Mapping[str, Any], directory: Path) -> Path:
    """Where the contents of an artifact are, for the event that recorded it in a run directory."""
    recorded, beside = Path(fields["blobs"]), directory.parent.parent / FOLDER
    if (directory / ORIGIN).exists():
        # What a run that came from elsewhere says of paths is said of another machine, or by anybody.
        return beside
    # The root may have been moved or copied since. The copy of a mirror is complete by itself.
    return beside if beside.is_dir() and (not recorded.is_dir() or is_copy(beside.parent)) else recorded


def content_path(fields: Mapping[str, Any], directory: Path, sha256: str, size: int | None = None) -> Path:
    """Where one content of an artifact is, for whoever passes it on.

    A run directory may have been made by anybody: a link in place of a content, or a path to somebody's files, must
    not send them elsewhere. Where the path is not that of the root itself, only what has the digest is given.

    Args:
        fields: The fields of the event.
        directory: The run directory.
        sha256: Digest of the content.
        size: How many bytes it has; None where that is not known.

    Raises:
        ValueError: It is a link, or is not what was recorded. What is not there is no error here.
    """
    blobs, root = blobs_of(fields, directory), directory.parent.parent
    path = fetched(blobs / content_key(sha256), root)
    if not path.exists():
        return path
    if not is_plain_file(path):
        raise ValueError(f"{path} is no plain file")
    if size is not None and path.stat().st_size != size:
        raise ValueError(f"{path} is not as long as the content that was recorded")
    if blobs != root / FOLDER and digest_of(path) != sha256:
        raise ValueError(f"{path} is not the content that was recorded")
    return path


def _inside(name: str) -> str:
    """The path of a file in an artifact, which must not lead out of it."""
    if not name or name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or "\0" in name:
        raise ValueError(f"the path {name[:80]!r} leads out of the artifact")
    return name


def read_histogram(fields: Mapping[str, Any]) -> Histogram:
    """The histogram of an event."""
    numbers = {key: float(unpack(fields[key])) for key in ("min", "max", "mean", "std")}
    lost = {key: fields[key] for key in ("nan", "posinf", "neginf")}
    return Histogram(fields["counts"], fields["edges"], **lost, **numbers)  # pyright: ignore[reportArgumentType] - lists become arrays


def _read_medium(kind: str, fields: Mapping[str, Any], directory: Path) -> Any:
    if kind == "text":
        return Text(fields["text"])
    path = _medium(directory, fields["file"])
    if kind == "table":
        table = unpack(json.loads(_content(path)))
        return Table(table["columns"], table["rows"])
    if kind == "audio":
        return Audio.from_wav(_content(path), fields.get("caption"))
    if kind == "video":
        if path.suffix == ".npz":
            return Video(_frames(path), fields["fps"])
        return Video(path, fields["fps"])
    if path.name.endswith(".plotly.json"):
        return Figure.from_plotly(_content(path).decode("utf-8", "surrogatepass"))
    return Figure(_content(path))


def _frames(path: Path) -> np.ndarray[Any, Any]:
    # From memory: of a damaged archive numpy would leave the file open.
    content = io.BytesIO(_content(path))
    with zipfile.ZipFile(content) as archive:
        size = max((info.file_size for info in archive.infolist()), default=0)
    if size > LARGEST_DECODED:
        raise ValueError(f"frames of {size} bytes; up to {LARGEST_DECODED} are read, and a run takes no more than half")
    content.seek(0)
    with np.load(content, allow_pickle=False) as archive:
        return archive["frames"]


def _medium(directory: Path, name: str) -> Path:
    # A journal may come from anywhere: what it names must not lead out of the run, and nor must a link.
    if not _MEDIUM.fullmatch(name):
        raise ValueError(f"{name[:80]!r} is no file name of a medium")
    path = fetched(directory / "media" / name, directory.parent.parent)
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        # Whoever reads it says so.
        size = 0
    # Whoever opens a FIFO waits for ever.
    if path.is_symlink() or (path.exists() and not is_plain_file(path)):
        raise ValueError(f"{path} is no plain file")
    if size > LARGEST and digest_of(path) != name.partition(".")[0]:
        # A large one is recognised before it is in memory.
        raise ValueError(f"{path} is not the medium that was recorded, and has {size} bytes")
    return path


def _content(path: Path) -> bytes:
    """What is in a medium, which may be large where it was recorded so."""
    return read_regular(path, max(LARGEST, path.stat().st_size))
