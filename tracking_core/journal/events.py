"""How a record is made from an event; what stands in the events of each kind is in the table of kinds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tracking_core.base.contents import FOLDER, content_key, digest_of
from tracking_core.base.json_text import unpack
from tracking_core.base.regular import LARGEST
from tracking_core.base.trees import is_plain_file
from tracking_core.errors import JournalError
from tracking_core.journal.lines import Event
from tracking_core.remote.fetching import fetched, is_copy
from tracking_core.values.kinds import KINDS
from tracking_core.values.records import Record

ORIGIN = "origin.json"
"""As `layout.ORIGIN_FILE`, which stands above this module."""
_MEDIUM = re.compile(r"[0-9a-f]{64}(?:\.[A-Za-z0-9]{1,16}){1,3}")
RECORD_KINDS = frozenset(KINDS)
"""Kinds that are delivered. Others are the store's own, or of a later version."""


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
    if kind == "artifact":
        files = {
            _inside(path): content_path(fields, directory, entry["sha256"], entry.get("size"))
            for path, entry in fields["files"].items()
        }
        keys = ("name", "type", "version", "digest")
        facts = {"metadata": unpack(fields["metadata"]), "aliases": tuple(fields["aliases"])}
        return {"artifact": files, **{key: fields[key] for key in keys}, **facts}
    return KINDS[kind].data(fields, partial(_medium, directory))


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
        raise ValueError(f"{path} is not a regular file")
    if size is not None and path.stat().st_size != size:
        raise ValueError(f"{path} does not have the length of the recorded content")
    if blobs != root / FOLDER and digest_of(path) != sha256:
        raise ValueError(f"{path} is not the recorded content")
    return path


def _inside(name: str) -> str:
    """The path of a file in an artifact, which must not lead out of it."""
    if not name or name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or "\0" in name:
        raise ValueError(f"the path {name[:80]!r} leads out of the artifact")
    return name


def _medium(directory: Path, name: str) -> Path:
    # A journal may come from anywhere: what it names must not lead out of the run, and nor must a link.
    if not _MEDIUM.fullmatch(name):
        raise ValueError(f"{name[:80]!r} is not a valid media file name")
    path = fetched(directory / "media" / name, directory.parent.parent)
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        # Whoever reads it says so.
        size = 0
    # Whoever opens a FIFO waits for ever.
    if path.is_symlink() or (path.exists() and not is_plain_file(path)):
        raise ValueError(f"{path} is not a regular file")
    if size > LARGEST and digest_of(path) != name.partition(".")[0]:
        # A large one is recognised before it is in memory.
        raise ValueError(f"{path} is not the recorded media file: it has {size} bytes")
    return path
