"""Whether a run is as it was written: every checksum, every digest, and every file that is referred to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from tracking_core.errors import JournalError, MissingDependencyError
from tracking_core.journal import Event, decode_line
from tracking_core.journal.events import RECORD_KINDS
from tracking_core.journal.liveness import is_alive
from tracking_core.journal.part_reader import (
    dictionary,
    integers,
    load_parquet,
    read_columns,
    read_damage,
    read_header,
)
from tracking_core.journal.segment_reader import SegmentReader
from tracking_core.journal.segments import PartFiles, WriterFiles, find_files
from tracking_core.layout import read_run
from tracking_core.store.parts import COLUMNS, KINDS, content_digest

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Break:
    """A place where a run is not what was written.

    Args:
        file: The file.
        offset: Where in it, in bytes; None for the file as a whole.
        reason: What is wrong.
    """

    file: Path
    offset: int | None
    reason: str

    def __str__(self) -> str:
        where = "" if self.offset is None else f", byte {self.offset}"
        return f"{self.file}{where}: {self.reason}"


@dataclass
class Verified:
    """What was looked at.

    Args:
        files: How many files.
        events: How many events.
        breaks: What is wrong, in the order of writers and segments; the media come last.
        unchecked: What could not be checked, in words.
    """

    files: int = 0
    events: int = 0
    breaks: list[Break] = field(default_factory=list[Break])
    unchecked: list[str] = field(default_factory=list[str])

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.breaks


def verify(directory: Path) -> Verified:
    """Check a run: lines against their checksums, segments against their digests, parts against their headers, media.

    Args:
        directory: The run directory.

    Raises:
        StoreError: There is no run in it, or `run.json` is damaged.
    """
    read_run(directory)
    found = Verified(files=1)
    named: dict[str, tuple[Path, int | None]] = {}
    for writer, files in find_files(directory).items():
        _Writer(directory, writer, files, found, named).check()
    _check_media(directory, named, found)
    return found


class _Writer:
    """Checks what one writer wrote."""

    def __init__(
        self,
        directory: Path,
        writer: str,
        files: WriterFiles,
        found: Verified,
        named: dict[str, tuple[Path, int | None]],
    ) -> None:
        self._directory = directory
        self._writer = writer
        self._files = files
        self._found = found
        self._named = named
        self._seals: dict[int, tuple[Mapping[str, Any], Path]] = {}
        self._merged: dict[int, str] = {}

    def check(self) -> None:
        """Check parts, then segments, then what they say of one another."""
        for part in self._files.parts:
            self._found.files += 2
            try:
                self._check_part(part)
            except (JournalError, OSError, KeyError, TypeError, ValueError) as error:
                self._break(part.events, None, str(error))
        for number, path in sorted(self._files.segments.items()):
            self._found.files += 1
            self._check_segment(number, path)
        self._check_chain()

    def _break(self, file: Path, offset: int | None, reason: str) -> None:
        self._found.breaks.append(Break(file, offset, reason))

    def _check_segment(self, number: int, path: Path) -> None:
        reader = SegmentReader(path, self._writer, number)
        # Asked first: what a writer has not finished when it is gone will stay so.
        over = not is_alive(self._directory, self._writer)
        try:
            events = reader.read(final=over)
            with path.open("rb") as file:
                first = file.readline().rstrip(b"\n")
        except (OSError, JournalError) as error:
            self._break(path, None, str(error))
            return
        self._check_first_line(number, path, first)
        for damage in reader.damage:
            self._break(path, damage.offset, f"{damage.reason} ({damage.length} bytes)")
        for (_, offset), event in events:
            self._take(event, path, offset)

    def _check_first_line(self, number: int, path: Path, line: bytes) -> None:
        try:
            header = decode_line(line)
        except JournalError:
            # It is among the damage.
            return
        fields = header.fields
        if header.kind != "segment" or (fields.get("writer"), fields.get("segment")) != (self._writer, number):
            self._break(path, 0, f"it does not begin with the header of segment {number} of writer {self._writer}")

    def _take(self, event: Event, path: Path, offset: int | None) -> None:
        self._found.events += 1
        if event.kind == "seal":
            self._seals[event.fields.get("segment", 0)] = event.fields, path
        for name in _media_of(event):
            self._named.setdefault(name, (path, offset))

    def _check_part(self, part: PartFiles) -> None:
        header = read_header(part.events, self._writer).fields
        first, last = header["segments"]
        self._merged.update(zip(range(first, last + 1), header["digests"], strict=True))
        offset = count = records = whole = 0
        for line in part.events.read_bytes().split(b"\n"):
            if line:
                try:
                    event = decode_line(line, self._writer)
                except JournalError as error:
                    self._break(part.events, offset, f"{error} ({len(line)} bytes)")
                else:
                    if event.kind == "damage":
                        damage = read_damage(event, self._directory)
                        self._break(damage.file, damage.offset, f"{damage.reason} ({damage.length} bytes)")
                    elif event.seq > 0:
                        count += 1
                        records += event.kind in RECORD_KINDS
                        whole += event.kind == "scalars"
                        self._take(event, part.events, offset)
            offset += len(line) + 1
        calls = self._check_scalars(part, header["content"])
        if calls is not None:
            self._found.events += calls
            said = (header["count"], header["records"], header["whole"])
            if (count + calls, records + calls, whole) != said:
                reason = f"{count + calls} events where its header says {said[0]}"
                self._break(part.events, None, reason)

    def _check_scalars(self, part: PartFiles, expected: str) -> int | None:
        """How many calls the Parquet file holds; None when it cannot be read."""
        import numpy as np

        try:
            load_parquet(part.scalars)
        except MissingDependencyError as error:
            self._found.unchecked.append(str(error))
            return None
        try:
            table = read_columns(part.scalars, list(COLUMNS))
            words = {key: dictionary(table, key) for key in ("name", "axis", "kind")}
            kinds = np.array([KINDS.index(kind) for kind in words["kind"][1]], np.int64)
            columns = {key: integers(table, key) for key in ("seq", "step", "time")}
            columns |= {"value": table.column("value").to_numpy(), "name": words["name"][0], "axis": words["axis"][0]}
            columns["kind"] = kinds[words["kind"][0]] if table.num_rows else words["kind"][0]
            digest = content_digest(words["name"][1], words["axis"][1], columns)
        except Exception as error:  # noqa: BLE001 - a damaged file may bring a reader to anything
            self._break(part.scalars, None, f"it cannot be read: {error}")
            return None
        if digest != expected:
            self._break(part.scalars, None, f"it does not hold what {part.events.name} says")
        return len(np.unique(columns["seq"]))

    def _check_chain(self) -> None:
        there = self._files.segments.keys() | self._merged.keys()
        for number in range(1, max(there, default=0)):
            if number not in there:
                path = self._directory / "journal" / f"{self._writer}-{number:06d}.jsonl"
                self._break(path, None, f"segment {number} of writer {self._writer} is gone, and is in no part")
        for number, (seal, path) in sorted(self._seals.items()):
            digest, size = seal.get("sha256"), seal.get("bytes")
            if self._merged.get(number, digest) != digest:
                self._break(path, None, f"segment {number} was merged with another digest than its seal says")
            segment = self._files.segments.get(number)
            if segment is not None and _digest(segment) != digest:
                length = segment.stat().st_size
                told = f", and {length} bytes instead of {size}" if length != size else ""
                self._break(segment, None, f"it has another digest than its seal in {path.name} says{told}")


def _media_of(event: Event) -> Iterator[str]:
    fields = event.fields
    if isinstance(fields.get("file"), str):
        yield fields["file"]
    images = fields.get("images")
    if event.kind == "images" and isinstance(images, dict):
        for entries in cast("dict[str, list[dict[str, Any]]]", images).values():
            yield from (entry["file"] for entry in entries)


def _check_media(directory: Path, named: Mapping[str, tuple[Path, int | None]], found: Verified) -> None:
    folder = directory / "media"
    there: set[str] = set()
    for path in sorted(folder.glob("[!.]*")) if folder.is_dir() else ():
        found.files += 1
        there.add(path.name)
        if _digest(path) != path.name.partition(".")[0]:
            found.breaks.append(Break(path, None, "its content is not what its name says"))
    for name, (path, offset) in sorted(named.items()):
        if name not in there:
            found.breaks.append(Break(path, offset, f"it refers to media/{name}, which is gone"))


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
