"""Brings one run directory to a mirror, round by round.

Invariants, whenever this or the server dies: what is in the mirror can be read as a root. A medium, and the content of
an artifact, is there before the line that names it, unless it takes longer than a few seconds: then lines do not wait,
and it comes after them. A segment is removed only when both files of a part that holds it are there. A cursor that is
there was read before the journals were looked at, and comes after them: it is never ahead of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tracking_core.base import trees
from tracking_core.base.contents import FOLDER, content_key
from tracking_core.base.redaction import redact_text
from tracking_core.base.regular import LONGEST, OddFileError, open_regular, read_regular
from tracking_core.base.regular import SMALL as SMALLEST
from tracking_core.delivery.lease import Lease
from tracking_core.errors import LeaseHeldError, StoreError, TrackingError
from tracking_core.journal.events import content_path
from tracking_core.journal.part_reader import PartReader
from tracking_core.journal.segments import PartFiles, segment_path
from tracking_core.layout.presence import Presence
from tracking_core.layout.runs import ORIGIN_FILE, RUN_FILE, is_from_elsewhere, origin_content
from tracking_core.mirror import files
from tracking_core.naming import FILE_NAMES
from tracking_core.remote.address import Mirroring
from tracking_core.remote.objects import Listed, Objects

SMALL = 8 << 20
"""Bytes up to which a file is read before it is uploaded."""
HOPELESS = 3
"""After so many failures in a row a round is given up."""
LONG = 5.0
"""Seconds that lines wait for media."""


@dataclass
class State:
    """How far a run has come.

    Args:
        delivered: Objects that were uploaded.
        pending: Objects that wait.
        failed: Objects that will not be there.
        error: What went wrong last; None when the last round went well.
        since: From when on everything is there that was there before, in seconds since the epoch.
    """

    delivered: int = 0
    pending: int = 0
    failed: int = 0
    error: str | None = None
    since: float = 0.0


def _is_local(error: BaseException) -> bool:
    """Whether a file here is what could not be read: that says nothing of the server."""
    return isinstance(error, OSError) and error.filename is not None


class RunUploader:
    """Uploads one run.

    Args:
        directory: The run directory.
        mirroring: The mirror.
        objects: Its objects.
        lines: Uploads what is small and urgent, several at a time.
        bulk: The same for media and contents of artifacts, which may be large.
        moved: Called with numbers of bytes, as they go.
    """

    def __init__(
        self,
        directory: Path,
        mirroring: Mirroring,
        objects: Objects,
        lines: ThreadPoolExecutor,
        bulk: ThreadPoolExecutor,
        moved: Callable[[int], None],
    ) -> None:
        self.directory = directory
        self.state = State(since=time.time())
        self._interval = mirroring.interval
        self._objects = objects
        self._lines = lines
        self._bulk = bulk
        self._moved = moved
        self._project = directory.parent.name
        self._run = f"{self._project}/{directory.name}"
        self._presence = Presence(directory)
        self._key = f"mirror-{hashlib.sha256(str(mirroring.address).encode()).hexdigest()[:12]}"
        self._lease: Lease | None = None
        self._there: dict[str, Listed] | None = None
        self._sent: dict[str, tuple[int, ...] | str] = {}
        self._under_way: dict[str, Future[None]] = {}
        self._failed: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self._row = {lines: 0, bulk: 0}
        self._gone = False
        self._read: dict[Path, int] = {}
        self._contents: dict[str, Callable[[], Path]] = {}
        self._versions: set[Path] = set()
        self._beating = threading.Lock()
        self._beats: dict[str, bytes] = {}

    # ------------------------------------------------------------------ rounds

    def round(self, *, last: bool = False) -> bool:
        """Upload what is new.

        Args:
            last: Whether nothing more will come from this process. What another process sees to is uploaded as well,
                and nothing is written into the run directory.

        Returns:
            Whether everything is there.
        """
        began = time.time()
        self._failed, self._gone = {}, False
        self._row = dict.fromkeys(self._row, 0)
        if not (self.directory / RUN_FILE).exists() or self._presence.look() == "another":
            # Somebody has removed the run, or put another in its place: what is in the mirror stays.
            return True
        try:
            if not last and not self._is_ours():
                self.state.since, self.state.error = began, None
                return True
            self._upload()
        except Exception as error:  # noqa: BLE001 - said, and tried again in the next round
            self._fail("", error)
        waiting = [key for key, one in self._under_way.items() if not one.done()]
        self.state.pending = len({*self._failed, *waiting})
        self.state.failed = len(self._refused)
        self.state.error = next(reversed({**self._refused, **self._failed}.values()), None)
        if self.state.pending or self._gone:
            return False
        self.state.since = began
        return True

    def release(self) -> None:
        """Let another process of this run directory do it from now on."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    def _is_ours(self) -> bool:
        """Whether this process mirrors the directory: of several that write to it one does."""
        if self._lease is None:
            with contextlib.suppress(LeaseHeldError):
                self._lease = Lease(self.directory, self._key, "the mirror")
        else:
            self._lease.beat()
        return self._lease is not None

    def beat(self) -> None:
        """Upload the heartbeats that have changed."""
        with self._beating:
            for name, content in files.heartbeats(self.directory, self._interval).items():
                if self._beats.get(name) != content:
                    self._objects.put(f"{self._run}/journal/{name}", content)
                    self._beats[name] = content

    def _upload(self) -> None:
        if self._there is None:
            self._there = self._objects.listing(self._run, deep=True)
        # Before the journals are looked at, so that none is ahead of them.
        cursors = files.cursors(self.directory)
        now = files.snapshot(self.directory)
        self._gone = now.moved
        self._look_for_artifacts(now)
        if is_from_elsewhere(self.directory):
            # Before the run is seen: whoever reads it is told not to obey it.
            self._put_now(f"{self._run}/{ORIGIN_FILE}", origin_content(self.directory))
        self._put_file(f"{self._run}/{RUN_FILE}", self.directory / RUN_FILE)
        self._await(self._interval)
        self.beat()
        for path in self._names("media"):
            self._put_file(f"{self._run}/media/{path.name}", path, self._bulk)
        for key, content in self._contents.items():
            self._put_file(key, content, self._bulk, look=True)
        self._await(LONG)
        ahead = set(self._under_way)
        for segment in now.segments:
            self._put_segment(segment)
        for part in now.parts:
            self._put_file(f"{self._run}/{part.scalars.name}", part.scalars)
            self._put_file(f"{self._run}/{part.events.name}", part.events)
        self._await(None, but=ahead)
        for part in now.parts:
            self._remove_merged(part)
        # What an event says of an artifact is enough to read it; these are for who asks for one by its name.
        for version in sorted(self._versions):
            self._put_version(version)
        self._await(None, but=ahead)
        for folder in sorted({version.parent for version in self._versions}):
            self._put_aliases(folder)
        if not self._failed:
            for name, content in cursors.items():
                self._put_now(f"{self._run}/cursors/{name}", content)

    def _names(self, folder: str) -> Iterable[Path]:
        try:
            # What a link leads to is not of this run.
            with trees.opened(self.directory / folder) as fd:
                names = [name for name in trees.names(fd) if not name.startswith(".")]
            return [path for name in names if not (path := self.directory / folder / name).is_symlink()]
        except (FileNotFoundError, NotADirectoryError):
            return []

    # ------------------------------------------------------------------ single objects

    def _put_file(
        self, key: str, file: Path | Callable[[], Path], pool: ThreadPoolExecutor | None = None, *, look: bool = False
    ) -> None:
        """Upload a file that never changes; `look` asks for the one object, where no listing has it."""

        def put() -> None:
            try:
                path = file if isinstance(file, Path) else file()
                with open_regular(path) as opened:
                    size = os.fstat(opened.fileno()).st_size
            except (ValueError, OddFileError) as error:
                self._refuse(key, error)
                return
            there = self._objects.find(key) if look else (self._there or {}).get(key)
            if there is None or there.size != size:
                if size <= SMALL:
                    self._objects.put(key, read_regular(path, SMALL))
                    self._moved(size)
                else:
                    self._objects.put_file(key, path, self._moved)
                self.state.delivered += 1
            self._sent[key] = ()

        if key not in self._sent:
            self._submit(key, put, pool)

    def _put_segment(self, segment: files.Segment) -> None:
        key = f"{self._run}/journal/{segment.path.name}"
        if self._sent.get(key) == (segment.length,) or not segment.length:
            return
        there = (self._there or {}).get(key)

        def put() -> None:
            if key in self._sent or there is None or there.size != segment.length:
                if segment.length > LONGEST:
                    # Longer than writers make them. A line that is cut off behind it does no harm.
                    self._objects.put_file(key, segment.path, self._moved)
                else:
                    with open_regular(segment.path) as file:
                        content = file.read(segment.length)
                    self._objects.put(key, content)
                    self._moved(len(content))
                self.state.delivered += 1
            self._sent[key] = (segment.length,)

        self._submit(key, put)

    def _put_now(self, key: str, content: bytes) -> None:
        """Upload something small that changes, if it has."""
        digest = hashlib.sha256(content).hexdigest()
        if self._sent.get(key) != digest:
            self._objects.put(key, content)
            self._moved(len(content))
            self._sent[key] = digest
            self.state.delivered += 1

    def _submit(self, key: str, put: Callable[[], None], pool: ThreadPoolExecutor | None = None) -> None:
        pool = pool or self._lines

        def guarded() -> None:
            if self._row[pool] >= HOPELESS:
                raise StoreError(next(reversed(self._failed.values()), "the server does not answer"))
            try:
                put()
            except Exception as error:
                if not _is_local(error):
                    self._row[pool] += 1
                raise
            self._row[pool] = 0

        if key not in self._under_way:
            self._under_way[key] = pool.submit(guarded)

    def _await(self, seconds: float | None, but: Iterable[str] = ()) -> None:
        """Wait for uploads, and see what became of them."""
        wanted = {key: self._under_way[key] for key in self._under_way.keys() - set(but)}
        deadline = None if seconds is None else time.monotonic() + seconds
        while wanted:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            wait_for(wanted.values(), left, return_when="FIRST_COMPLETED")
            self._collect()
            wanted = {key: one for key, one in wanted.items() if key in self._under_way}
        self._collect()

    def _collect(self) -> None:
        for key, one in list(self._under_way.items()):
            if not one.done():
                continue
            del self._under_way[key]
            error = one.exception()
            if error is None:
                continue
            if not (isinstance(error, FileNotFoundError) and _is_local(error)):
                self._fail(key, error)
            elif "/journal/" in key or key.endswith((".jsonl", ".parquet")):
                # It was compacted, and is in a part that the next round finds.
                self._gone = True
            elif not key.endswith(".json"):
                # Of a version that is gone, the event has all that a reader of the run needs.
                self._refused[key] = f"{key}: the file is gone"
                self._sent[key] = ()

    def _refuse(self, key: str, error: Exception) -> None:
        """Leave out what is none of a run's files, and never will be there."""
        self._refused[key] = redact_text(f"{key}: {getattr(error, 'strerror', None) or error}"[:2000])[:500]
        self._sent[key] = ()

    def _fail(self, key: str, error: BaseException) -> None:
        what = f"{key}: " if key else ""
        self._failed[key] = redact_text(f"{what}{type(error).__name__}: {error}"[:2000])[:500]

    # ------------------------------------------------------------------ artifacts

    def _look_for_artifacts(self, now: files.Snapshot) -> None:
        there = [(segment.path, segment.writer, segment.length) for segment in now.segments]
        there += [(part.events, part.writer, -1) for part in now.parts if part.events not in self._read]
        for path, writer, length in there:
            start = self._read.get(path, 0)
            with contextlib.suppress(FileNotFoundError):
                end = path.stat().st_size if length < 0 else length
                if end > start:
                    for fields in files.artifacts_in(path, writer, start, end):
                        with contextlib.suppress(KeyError, TypeError, ValueError):
                            self._take_artifact(fields)
                    self._read[path] = end

    def _take_artifact(self, fields: Any) -> None:
        if type(fields["version"]) is not int:
            raise TypeError("no number of a version")
        for entry in fields["files"].values():
            sha = entry["sha256"]
            content = partial(content_path, fields, self.directory, sha, entry.get("size"))
            self._contents[f"{FOLDER}/{content_key(sha)}"] = content
        kind, name = FILE_NAMES.encode(fields["type"]), FILE_NAMES.encode(fields["name"])
        self._versions.add(self.directory.parent / "artifacts" / kind / name / f"v{fields['version']}.json")

    def _put_version(self, path: Path) -> None:
        """Upload what describes a version. It is there already, or is new."""
        key = f"{self._project}/{path.relative_to(self.directory.parent).as_posix()}"

        def put() -> None:
            try:
                content = read_regular(path)
            except OddFileError as error:
                self._refuse(key, error)
                return
            if self._objects.find(key) is None:
                self._objects.put(key, content)
                self._moved(len(content))
                self.state.delivered += 1
            elif self._objects.get(key) != content:
                self._refused[key] = f"{key}: the mirror has another version of that number, from another root"
            self._sent[key] = ()

        if key not in self._sent:
            self._submit(key, put)

    def _put_aliases(self, folder: Path) -> None:
        """Upload the aliases of an artifact that were moved."""
        for path in (folder / "aliases").glob("[!.]*"):
            key = f"{self._project}/{path.relative_to(self.directory.parent).as_posix()}"
            try:
                self._put_now(key, read_regular(path, SMALLEST))
            except OddFileError as error:
                self._refuse(key, error)
            except Exception as error:  # noqa: BLE001 - one object must not stop the others
                self._fail(key, error)

    # ------------------------------------------------------------------ segments that became parts

    def _remove_merged(self, part: PartFiles) -> None:
        """Remove the segments that a part holds, as far as they are gone here too."""
        both = {f"{self._run}/{part.scalars.name}", f"{self._run}/{part.events.name}"}
        if not both <= self._sent.keys():
            return
        with contextlib.suppress(TrackingError, FileNotFoundError):
            first, last = PartReader(part).segments
            for number in range(first, last + 1):
                path = segment_path(self.directory / "journal", part.writer, number)
                key = f"{self._run}/journal/{path.name}"
                if (key in self._sent or key in (self._there or {})) and not path.exists():
                    self._objects.remove(key)
                    self._sent.pop(key, None)
                    if self._there is not None:
                        self._there.pop(key, None)
