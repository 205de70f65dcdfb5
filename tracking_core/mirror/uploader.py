"""Brings one run directory to a mirror, round by round.

Invariants, whenever this or the server dies: what is in the mirror can be read as a root. A medium, and the content of
an artifact, is there before the line that names it, unless it takes longer than a few seconds: then lines do not wait,
and it comes after them. A segment is removed only when both files of a part that holds it are there. A cursor that is
there was read before the journals were looked at, and comes after them: it is never ahead of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tracking_core.base import trees
from tracking_core.base.contents import FOLDER, content_key
from tracking_core.base.regular import SMALL as SMALLEST
from tracking_core.base.regular import OddFileError, read_regular
from tracking_core.delivery.lease import Lease
from tracking_core.errors import LeaseHeldError, TrackingError
from tracking_core.journal.events import content_path
from tracking_core.journal.part_reader import PartReader
from tracking_core.journal.segments import PartFiles, segment_path
from tracking_core.layout.presence import Presence
from tracking_core.layout.runs import ORIGIN_FILE, RUN_FILE, is_from_elsewhere, origin_content
from tracking_core.mirror import files
from tracking_core.mirror.uploads import Uploads
from tracking_core.naming import FILE_NAMES
from tracking_core.remote.address import Mirroring
from tracking_core.remote.objects import Objects

LONG = 5.0
"""Seconds that lines wait for media."""


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
        self._uploads = Uploads(objects, lines, bulk, moved)
        self.state = self._uploads.state
        self._interval = mirroring.interval
        self._objects = objects
        self._bulk = bulk
        self._project = directory.parent.name
        self._run = f"{self._project}/{directory.name}"
        self._presence = Presence(directory)
        self._key = f"mirror-{hashlib.sha256(str(mirroring.address).encode()).hexdigest()[:12]}"
        self._lease: Lease | None = None
        self._is_listed = False
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
        self._uploads.begin()
        if not (self.directory / RUN_FILE).exists() or self._presence.look() == "another":
            # Somebody has removed the run, or put another in its place: what is in the mirror stays.
            return True
        try:
            if not last and not self._is_ours():
                self.state.since, self.state.error = began, None
                return True
            self._upload()
        except Exception as error:  # noqa: BLE001 - said, and tried again in the next round
            self._uploads.fail("", error)
        return self._uploads.end(began)

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
        uploads = self._uploads
        if not self._is_listed:
            uploads.there, self._is_listed = self._objects.listing(self._run, deep=True), True
        # Before the journals are looked at, so that none is ahead of them.
        cursors = files.cursors(self.directory)
        now = files.snapshot(self.directory)
        uploads.gone = now.moved
        self._look_for_artifacts(now)
        if is_from_elsewhere(self.directory):
            # Before the run is seen: whoever reads it is told not to obey it.
            uploads.put_now(f"{self._run}/{ORIGIN_FILE}", origin_content(self.directory))
        uploads.put_file(f"{self._run}/{RUN_FILE}", self.directory / RUN_FILE)
        uploads.wait(self._interval)
        self.beat()
        for path in self._names("media"):
            uploads.put_file(f"{self._run}/media/{path.name}", path, self._bulk)
        for key, content in self._contents.items():
            uploads.put_file(key, content, self._bulk, look=True)
        uploads.wait(LONG)
        ahead = set(uploads.under_way)
        for segment in now.segments:
            uploads.put_segment(f"{self._run}/journal/{segment.path.name}", segment)
        for part in now.parts:
            uploads.put_file(f"{self._run}/{part.scalars.name}", part.scalars)
            uploads.put_file(f"{self._run}/{part.events.name}", part.events)
        uploads.wait(None, but=ahead)
        for part in now.parts:
            self._remove_merged(part)
        # What an event says of an artifact is enough to read it; these are for who asks for one by its name.
        for version in sorted(self._versions):
            uploads.put_version(self._key_of(version), version)
        uploads.wait(None, but=ahead)
        for folder in sorted({version.parent for version in self._versions}):
            self._put_aliases(folder)
        if not uploads.failed:
            for name, content in cursors.items():
                uploads.put_now(f"{self._run}/cursors/{name}", content)

    def _names(self, folder: str) -> Iterable[Path]:
        try:
            # What a link leads to is not of this run.
            with trees.opened(self.directory / folder) as fd:
                names = [name for name in trees.names(fd) if not name.startswith(".")]
            return [path for name in names if not (path := self.directory / folder / name).is_symlink()]
        except (FileNotFoundError, NotADirectoryError):
            return []

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

    def _key_of(self, path: Path) -> str:
        return f"{self._project}/{path.relative_to(self.directory.parent).as_posix()}"

    def _put_aliases(self, folder: Path) -> None:
        """Upload the aliases of an artifact that were moved."""
        for path in (folder / "aliases").glob("[!.]*"):
            key = self._key_of(path)
            try:
                self._uploads.put_now(key, read_regular(path, SMALLEST))
            except OddFileError as error:
                self._uploads.refuse(key, error)
            except Exception as error:  # noqa: BLE001 - one object must not stop the others
                self._uploads.fail(key, error)

    # ------------------------------------------------------------------ segments that became parts

    def _remove_merged(self, part: PartFiles) -> None:
        """Remove the segments that a part holds, as far as they are gone here too."""
        both = {f"{self._run}/{part.scalars.name}", f"{self._run}/{part.events.name}"}
        if not both <= self._uploads.sent.keys():
            return
        with contextlib.suppress(TrackingError, FileNotFoundError):
            first, last = PartReader(part).segments
            for number in range(first, last + 1):
                path = segment_path(self.directory / "journal", part.writer, number)
                if not path.exists():
                    self._uploads.remove(f"{self._run}/journal/{path.name}")
