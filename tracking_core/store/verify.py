"""Whether a run is as it was written: every checksum, every digest, and every file that is referred to.

What is kept meanwhile is small: of a journal one segment at a time, of media and artifacts names and digests alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tracking_core.base.contents import content_key, digest_of, digest_of_files
from tracking_core.base.regular import bounded_lines, open_regular
from tracking_core.base.text import counted
from tracking_core.compaction.parts import COLUMNS, KINDS, content_digest
from tracking_core.errors import JournalError, MissingDependencyError, StoreError
from tracking_core.journal import Event, Truncation, decode_line
from tracking_core.journal.events import RECORD_KINDS, blobs_of
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
from tracking_core.journal.segments import PartFiles, WriterFiles, find_files, split_segment_name
from tracking_core.layout.runs import RUN_FILE, orphans, read_run
from tracking_core.store.mirrored import fetch_everything

if TYPE_CHECKING:
    from tracking_core.store.records import RunRecord
    from tracking_core.store.store import Store

_TRIES = 3
_END = 1 << 62
_NAMED = 1000
"""Of missing segments in a row so many are named."""
Place = tuple[Path, int | None]
"""Where something is referred to: file, and offset in it."""


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
        files: How many files, contents of artifacts among them.
        events: How many events.
        breaks: What is wrong, in the order of writers, segments and lines; then media, then contents of artifacts.
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


def verify(directory: Path, *, quick: bool = False) -> Verified:
    """Check a run: its lines, segments, parts and media, and the contents of the artifacts that it logged.

    Args:
        directory: The run directory.
        quick: Of contents of artifacts only whether they are there, and as long as they should be.

    Raises:
        StoreError: There is no run in it, or `run.json` is damaged.
    """
    read_run(directory)
    tries = 1
    while True:
        found, referred = Verified(files=1), _Referred(directory)
        try:
            for writer, files in find_files(directory).items():
                _Writer(directory, writer, files, found, referred).check()
        except FileNotFoundError:
            # Segments were merged under our hands; a second look finds what they became.
            if tries == _TRIES:
                raise
            tries += 1
            continue
        _check_media(directory, referred, found)
        _check_contents(referred, found, quick=quick)
        return found


def verify_record(record: RunRecord, *, quick: bool = False) -> Verified:
    """Check a run of a listing; that it cannot be read is wrong with it, and keeps nobody from the others."""
    try:
        fetch_everything(record)
        return verify(record.dir, quick=quick)
    except (StoreError, OSError) as error:
        return Verified(breaks=[Break(record.dir, None, str(error))])


def not_runs(store: Store) -> list[tuple[str, Verified]]:
    """What stands where runs do and is none: (name, what is wrong).

    Args:
        store: The store, after a listing: runs that this left out are among them, and journals without a `run.json`.
    """
    wrong = {place: Break(place / RUN_FILE, None, why) for place, why in store.unreadable.items()}
    wrong |= {
        place: Break(place, None, f"a journal without {RUN_FILE}: no other command sees this run")
        for place in orphans(store.root)
    }
    return [(place.name, Verified(breaks=[one])) for place, one in wrong.items()]


class _Referred:
    """What events refer to: media by name, and contents of artifacts by where they are.

    Args:
        directory: The run directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.media: dict[str, Place] = {}
        self.contents: dict[Path, tuple[Place, str, int]] = {}
        """Path → where it is referred to, as what, and the size it should have."""

    def take(self, event: Event, path: Path, offset: int | None) -> str | None:
        """Note what an event refers to; what is wrong with it, if anything is."""
        try:
            for name in _media_of(event):
                self.media.setdefault(name, (path, offset))
            if event.kind == "truncate":
                Truncation.read(event.fields, event.writer)
            return self._take_artifact(event, path, offset) if event.kind == "artifact" else None
        except JournalError as error:
            return str(error)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return f"event {event.seq} ({event.kind}) cannot be read: {error!r}"

    def _take_artifact(self, event: Event, path: Path, offset: int | None) -> str | None:
        fields = event.fields
        blobs = blobs_of(fields, self._directory)
        for name, entry in sorted(fields["files"].items()):
            what = f"{name!r:.200} of the artifact {fields['name']!r:.200} v{fields['version']}"
            self.contents.setdefault(blobs / content_key(entry["sha256"]), ((path, offset), what, int(entry["size"])))
        if digest_of_files({name: entry["sha256"] for name, entry in fields["files"].items()}) != fields["digest"]:
            return f"the files of the artifact {fields['name']!r:.200} are not those of its digest"
        return None


class _Writer:
    """Checks what one writer wrote."""

    def __init__(self, directory: Path, writer: str, files: WriterFiles, found: Verified, referred: _Referred) -> None:
        self._directory = directory
        self._writer = writer
        self._files = files
        self._found = found
        self._referred = referred
        self._seals: dict[int, tuple[Mapping[str, Any], Path]] = {}
        self._merged: dict[int, tuple[str, Path]] = {}
        self._breaks: list[tuple[int, Break]] = []

    def check(self) -> None:
        """Check parts, then segments, then what they say of one another."""
        for part in self._files.parts:
            self._found.files += 2
            try:
                self._check_part(part)
            except FileNotFoundError:
                raise
            except (JournalError, OSError, KeyError, TypeError, ValueError, IndexError) as error:
                self._break(self._part_number(part), part.events, None, str(error))
        for number, path in sorted(self._files.segments.items()):
            self._found.files += 1
            self._check_segment(number, path)
        self._check_chain()
        # What the chain of digests says stands behind the lines of its segment: the first break is the first in time.
        ordered = sorted(self._breaks, key=lambda pair: (pair[0], _END if pair[1].offset is None else pair[1].offset))
        # Damage that a part tells of may still stand in the segment.
        self._found.breaks += dict.fromkeys(one for _, one in ordered)

    def _break(self, number: int, file: Path, offset: int | None, reason: str) -> None:
        self._breaks.append((number, Break(file, offset, reason)))

    def _part_number(self, part: PartFiles) -> int:
        """The first segment of a part, as far as its header can be read."""
        try:
            return int(read_header(part.events, self._writer).fields["segments"][0])
        except (JournalError, OSError, KeyError, TypeError, ValueError, IndexError):
            return 0

    def _check_segment(self, number: int, path: Path) -> None:
        reader = SegmentReader(path, self._writer, number)
        # Asked first: what a writer has not finished when it is gone will stay so.
        over = not is_alive(self._directory, self._writer)
        try:
            events = reader.read(final=over)
            with open_regular(path) as file:
                first = next(bounded_lines(file), (0, None))[1] or b""
        except FileNotFoundError:
            raise
        except (OSError, JournalError) as error:
            self._break(number, path, None, str(error))
            return
        strange = not self._is_in_place(number, path, first)
        for damage in reader.damage:
            self._break(number, path, damage.offset, f"{damage.reason} ({damage.length} bytes)")
        for (_, offset), event in events:
            # What does not belong here says nothing about the others.
            if not (strange and event.kind == "seal"):
                self._take(event, number, path, offset)

    def _is_in_place(self, number: int, path: Path, line: bytes) -> bool:
        try:
            header = decode_line(line)
        except JournalError:
            # It is among the damage.
            return True
        fields = header.fields
        right = header.kind == "segment" and (fields.get("writer"), fields.get("segment")) == (self._writer, number)
        if not right:
            reason = f"it does not begin with the header of segment {number} of writer {self._writer}"
            self._break(number, path, 0, reason)
        return right

    def _take(self, event: Event, number: int, path: Path, offset: int | None) -> None:
        self._found.events += 1
        if event.kind == "seal":
            self._seals[event.fields["segment"]] = event.fields, path
        wrong = self._referred.take(event, path, offset)
        if wrong is not None:
            self._break(number, path, offset, wrong)

    def _check_part(self, part: PartFiles) -> None:
        header = read_header(part.events, self._writer).fields
        first, last = header["segments"]
        digests = ((digest, part.events) for digest in header["digests"])
        self._merged.update(zip(range(first, last + 1), digests, strict=True))
        offset = count = records = whole = 0
        with open_regular(part.events) as file:
            for length, line in bounded_lines(file):
                event = None
                try:
                    if line is None:
                        raise JournalError("the line is longer than any that was written")  # noqa: TRY301 - as below
                    event = decode_line(line, self._writer) if length else None
                except JournalError as error:
                    self._break(first, part.events, offset, f"{error} ({length} bytes)")
                if event is not None and event.kind == "damage":
                    damage = read_damage(event, self._directory)
                    number = (split_segment_name(damage.file.name) or ("", first))[1]
                    self._break(number, damage.file, damage.offset, f"{damage.reason} ({damage.length} bytes)")
                elif event is not None and event.seq > 0:
                    count += 1
                    records += event.kind in RECORD_KINDS
                    whole += event.kind == "scalars"
                    self._take(event, first, part.events, offset)
                offset += length + 1
        calls = self._check_scalars(part, first, header["content"])
        if calls is not None:
            self._found.events += calls
            said = (header["count"], header["records"], header["whole"])
            if (count + calls, records + calls, whole) != said:
                reason = f"{counted(count + calls, 'event')}, but its header says {said[0]}"
                self._break(first, part.events, None, reason)

    def _check_scalars(self, part: PartFiles, number: int, expected: str) -> int | None:
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
        except FileNotFoundError:
            raise
        except Exception as error:  # noqa: BLE001 - a damaged file may bring a reader to anything
            self._break(number, part.scalars, None, f"it cannot be read: {error}")
            return None
        if digest != expected:
            self._break(number, part.scalars, None, f"its content does not match {part.events.name}")
        return len(np.unique(columns["seq"]))

    def _check_chain(self) -> None:
        segments = self._files.segments
        before = 0
        for there in sorted(segments.keys() | self._merged.keys()):
            # Any number of them, if somebody gave a file the name of the millionth.
            for number in range(before + 1, min(there, before + 1 + _NAMED)):
                path = self._directory / "journal" / f"{self._writer}-{number:06d}.jsonl"
                self._break(
                    number, path, None, f"segment {number} of writer {self._writer} is gone, and is not in a part"
                )
            before = there
        for number in sorted(self._seals.keys() | (self._merged.keys() & segments.keys())):
            seal, path = self._seals.get(number, (None, None))
            merged, part = self._merged.get(number, (None, None))
            if seal is not None and path is not None and merged not in {None, seal.get("sha256")}:
                reason = f"segment {number} was merged with another digest than that of its seal"
                self._break(number, path, None, reason)
            if number in segments:
                by = path or part
                assert by is not None
                self._check_digest(number, segments[number], seal or {"sha256": merged}, by)

    def _check_digest(self, number: int, segment: Path, said: Mapping[str, Any], by: Path) -> None:
        try:
            digest, length = digest_of(segment), segment.stat().st_size
        except FileNotFoundError:
            raise
        except OSError:
            # Reading its lines said so already.
            return
        if digest != said["sha256"]:
            size = said.get("bytes", length)
            told = f", and {length} bytes instead of {size}" if length != size else ""
            self._break(number, segment, None, f"its digest is not that of its seal in {by.name}{told}")


def _media_of(event: Event) -> Iterator[str]:
    fields = event.fields
    if isinstance(fields.get("file"), str):
        yield fields["file"]
    images = fields.get("images")
    if event.kind == "images" and isinstance(images, dict):
        for entries in cast("dict[str, list[dict[str, Any]]]", images).values():
            yield from (str(entry["file"]) for entry in entries)


def _check_media(directory: Path, referred: _Referred, found: Verified) -> None:
    folder = directory / "media"
    there: set[str] = set()
    for path in sorted(folder.glob("[!.]*")) if folder.is_dir() else ():
        found.files += 1
        there.add(path.name)
        try:
            digest = digest_of(path)
        except OSError as error:
            found.breaks.append(Break(path, None, f"it cannot be read: {error}"))
            continue
        if digest != path.name.partition(".")[0]:
            found.breaks.append(Break(path, None, "its content does not match its name"))
    for name, (path, offset) in sorted(referred.media.items()):
        if name not in there:
            found.breaks.append(Break(path, offset, f"it refers to media/{name}, which is gone"))


def _check_contents(referred: _Referred, found: Verified, *, quick: bool) -> None:
    """Contents of artifacts, each once, against the digest that events name them by."""
    for path, ((source, offset), what, size) in referred.contents.items():
        found.files += 1
        try:
            length = path.stat().st_size
            digest = None if quick or length != size else digest_of(path)
        except FileNotFoundError:
            found.breaks.append(Break(source, offset, f"it refers to {what}, whose content {path} is gone"))
            continue
        except OSError as error:
            found.breaks.append(Break(path, None, f"it cannot be read: {error}; it is the content of {what}"))
            continue
        if length != size:
            found.breaks.append(Break(path, None, f"it has {length} bytes instead of the {size} of {what}"))
        elif digest not in {None, path.parent.name + path.name}:
            found.breaks.append(Break(path, None, f"its content does not match its name; it is that of {what}"))
    if quick and referred.contents:
        found.unchecked.append(
            f"{counted(len(referred.contents), 'artifact content')}: only existence and size were checked"
        )
