"""Event files as runs: those of any writer, and those of this adapter with all that it wrote beside the values.

Every directory that holds event files is one run, as it is for TensorBoard; but the sub-runs that this adapter makes
for scopes are part of their run.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking_core import ForeignRun, Record, StoreError

if TYPE_CHECKING:
    from tracking_tensorboard.reading.decoding import Decoder

_PATTERN = "*tfevents*"
_TIME = re.compile(r"tfevents\.(\d+)")
_WALL_TIME, _STEP, _SESSION_LOG = 0x09, 0x10, 0x3A
_START = 1


def runs(path: Path) -> Iterable[ForeignRun] | None:
    """The runs in an event file or below a directory; None when there are no event files."""
    if path.is_file():
        return _read([[path]], path.parent) if "tfevents" in path.name else None
    # Links are not followed below the directory: they may lead round in a circle.
    files = sorted(file for file in path.rglob(_PATTERN) if file.is_file() and not _hidden(file, path))
    if not files:
        return None
    folders: dict[Path, list[Path]] = {}
    for file in files:
        folders.setdefault(file.parent, []).append(file)
    groups = {folder: _in_order(some) for folder, some in folders.items()}
    for folder in [folder for folder in groups if folder.parent in groups]:
        if _is_sub_run(groups[folder], groups[folder.parent]):
            # Behind those of the run itself, whose first file says what it is.
            groups[folder.parent] += groups.pop(folder)
    return _read(list(groups.values()), path)


def _is_sub_run(files: list[Path], above: list[Path]) -> bool:
    from tracking_tensorboard.own_files import scoped_run

    runs = {run for file in files if (run := scoped_run(file)) is not None}
    return len(runs) == 1 and runs <= {scoped_run(file) for file in above}


def _hidden(file: Path, root: Path) -> bool:
    # TensorBoard reads files of its profiler from elsewhere; they only have a similar name.
    return file.name.endswith(".profile-empty") or any(
        part.startswith(".") for part in file.relative_to(root).parts[:-1]
    )


def _read(groups: list[list[Path]], root: Path) -> Iterator[ForeignRun]:
    for files in groups:
        try:
            foreign = _EventFiles(files, root).foreign()
        except Exception as error:  # noqa: BLE001 - what damaged files bring a reader to is not to be foreseen
            # It must not keep the others from being read: it fails by itself, when its records are asked for.
            directory = files[0].parent
            foreign = ForeignRun(directory.name, _failing(error), str(directory), source=directory)
        yield foreign


def _failing(error: Exception) -> Iterator[Record]:
    raise error
    yield  # a generator, which raises when it is asked


def _in_order(files: list[Path]) -> list[Path]:
    """As TensorBoard reads them: by the time in their names."""

    def key(file: Path) -> tuple[int, str]:
        found = _TIME.search(file.name)
        return (int(found[1]) if found else 0, file.name)

    return sorted(files, key=key)


class _EventFiles:
    """The event files of one run.

    Args:
        files: In the order in which they were written, directory by directory.
        root: The directory that was named; the run is called after the way from there.
    """

    def __init__(self, files: list[Path], root: Path) -> None:
        from tracking_tensorboard.reading.decoding import Decoder

        self._files = files
        self._root = root
        self._problems: list[str] = []
        self._decoder: Decoder = Decoder(self._problems)

    def foreign(self) -> ForeignRun:
        """The run; its first events tell what it is."""
        from tracking_tensorboard.reading.shown_text import labels

        directory = self._files[0].parent
        name = directory.relative_to(self._root).as_posix()
        if name == ".":
            name = directory.resolve().name or "run"
        records = self._records()
        first: list[Record] = []
        for record in records:
            first.append(record)
            if record.kind != "config":
                break
        if self._decoder.started is None:
            raise StoreError(f"nothing in it can be read (yet): {'; '.join(self._problems) or 'there are no events'}")
        about = self._decoder.about
        config: dict[str, Any] = {}
        if about and first and first[0].kind == "config":
            config = dict(first.pop(0).data)
        return ForeignRun(
            id=about.get("id") or name,
            records=_joined(first, records),
            identity=self._identity(),
            name=about.get("run") or name,
            project=about.get("project"),
            config=config,
            tags=labels(about.get("tags", "")),
            group=about.get("group"),
            job_type=about.get("job type"),
            notes=about.get("notes"),
            started=self._decoder.started,
            source=directory,
            size=sum(file.stat().st_size for file in self._files),
            problems=self._problems,
            run_id=about.get("id"),
        )

    def _identity(self) -> str:
        """The first file's name, with time, host and process in it, and its first record, which has the time again.

        A file in which nothing stands yet is passed over: it may have something the next time.
        """
        from tracking_tensorboard.reading.record_files import records

        for file in self._files:
            for first in records(file):
                return f"{file.name}/{hashlib.sha256(first).hexdigest()}"
        return self._files[0].name

    def _records(self) -> Iterator[Record]:
        from tracking_tensorboard.protos import Event
        from tracking_tensorboard.reading.record_files import records

        purges = self._purges()
        number = dropped = 0
        for file in self._files:
            self._decoder.begin_file()
            for data in records(file, self._problems):
                number += 1
                try:
                    event = Event.FromString(data)
                except Exception as error:  # noqa: BLE001 - the error class is the protocol buffer library's own
                    self._problems.append(f"{file.name}: a record is not an event ({error})")
                    continue
                before = purges.get(file.parent, ())
                if any(number < at and event.step >= step for at, step in before) and event.HasField("summary"):
                    dropped += 1
                    self._decoder.learn(event)
                    continue
                yield from self._decoder.decode(event)
        if dropped:
            self._problems.append(
                f"{dropped} event{'' if dropped == 1 else 's'} left out: "
                "purged when the run was continued from an earlier step"
            )
        yield from self._decoder.end()

    def _purges(self) -> dict[Path, list[tuple[int, int]]]:
        """By directory, (number of the event, step): what is before it and has this step or a later one was taken back.

        From step 0 on that is everything: the run was started anew in the same directory.
        """
        from tracking_tensorboard.protos import Event
        from tracking_tensorboard.reading.record_files import records

        found: dict[Path, list[tuple[int, int]]] = {}
        number = 0
        for file in self._files:
            for data in records(file):
                number += 1
                if not _may_be_session(data):
                    continue
                with contextlib.suppress(Exception):  # what is no event is said when its values are read
                    event = Event.FromString(data)
                    if event.HasField("session_log") and event.session_log.status == _START:
                        found.setdefault(file.parent, []).append((number, event.step))
        return found


def _may_be_session(data: bytes) -> bool:
    """Whether a serialized event holds a session log, from its first bytes alone: few do, and parsing takes long."""
    at = 9 if data[:1] == bytes([_WALL_TIME]) else 0
    if data[at : at + 1] == bytes([_STEP]):
        at += 1
        while at < len(data) and data[at] & 0x80:
            at += 1
        at += 1
    return data[at : at + 1] == bytes([_SESSION_LOG])


def _joined(first: list[Record], rest: Iterator[Record]) -> Iterator[Record]:
    yield from first
    yield from rest
