"""A mirror is read through a local copy, which is a root: brought up to date before it is looked at.

Listings and journals are fetched whole, media and contents of artifacts when they are asked for (`fetching`). What is
gone from the mirror goes from the copy as well. Cursors and leases of whoever delivers from here are kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from tracking_core.base import trees
from tracking_core.base.contents import FOLDER, content_key
from tracking_core.base.files import replace_file
from tracking_core.base.processes import STALE
from tracking_core.base.regular import LARGEST, LONGEST, SMALL, OddFileError, own_folder, read_regular
from tracking_core.errors import StoreError, TrackingError
from tracking_core.layout.runs import ORIGIN_FILE, RUN_FILE
from tracking_core.mirror.files import is_read_at_once, is_safe
from tracking_core.remote.address import Address, check_packages, parse_address
from tracking_core.remote.fetching import MARK, fetch, objects_of
from tracking_core.remote.objects import Listed

FRESH, LISTED = 2.0, 5.0
"""Seconds for which a run, and all of them, count as up to date when they were looked at."""
AT_ONCE = 16
"""Downloads at a time."""
MISSED, SLACK = 3, 30.0
"""A writer counts as gone when its heartbeats have not come for so many intervals, and so many seconds."""
_SELDOM = 1e6
_LOCK = ".mirror.lock"


class MirrorCache:
    """The local copy of a mirror.

    Args:
        address: The mirror.
        root: The directory of the copy.
    """

    def __init__(self, address: Address, root: Path) -> None:
        self.address = address
        self.root = root
        self._listed: dict[str, float] = {}
        self._lock = threading.RLock()
        try:
            (root / FOLDER).mkdir(parents=True, exist_ok=True)
            replace_file(root / MARK, json.dumps({"url": str(address)}).encode())
        except OSError as error:
            raise StoreError(
                f"{address} is read through a copy in {root}, which cannot be written: {error}; set "
                "TRACKING_CACHE to another directory"
            ) from error
        self._objects = objects_of(root)

    def __repr__(self) -> str:
        return f"<MirrorCache of {self.address} in {self.root}>"

    # ------------------------------------------------------------------ bringing it up to date

    def refresh(self, *, journals: bool = True) -> None:
        """Bring what describes the runs up to date, and their journals if they are wanted.

        Raises:
            StoreError: The mirror cannot be read.
        """
        with self._lock, self._reading():
            if self._is_fresh("journals" if journals else "names", LISTED):
                return
            folders = [name for name in self._objects.folders() if is_safe(name)]
            for gone in {path.name for path in self.root.iterdir() if is_safe(path.name)} - set(folders):
                self._forget_all(self.root / gone, ())
            for project in folders:
                self._bring_project(project, journals=journals)
            self._listed["names"] = time.monotonic()
            if journals:
                self._listed["journals"] = time.monotonic()

    def _bring_project(self, project: str, *, journals: bool) -> None:
        runs: dict[str, dict[str, Listed]] = {}
        artifacts: dict[str, Listed] = {}
        for key, listed in self._objects.listing(project, deep=True).items():
            parts = key.split("/")
            if not all(map(is_safe, parts[1:])) or len(parts) < 3:
                continue
            name = "/".join(parts[2:])
            if parts[1] == "artifacts":
                artifacts[name] = listed
            else:
                runs.setdefault(parts[1], {})[name] = listed
        there = {name: files for name, files in runs.items() if RUN_FILE in files}
        self._forget_all(self.root / project, there)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            done = [
                pool.submit(self._bring_run, f"{project}/{run}", files, journals=journals)
                for run, files in there.items()
            ]
            done.append(pool.submit(self._bring_artifacts, project, artifacts))
        for one in done:
            one.result()
        if journals:
            now = time.monotonic()
            self._listed.update({f"{project}/{run}": now for run in there})

    @staticmethod
    def _forget_all(project: Path, there: Iterable[str]) -> None:
        with contextlib.suppress(OSError), trees.opened(project) as fd:
            for name in trees.names(fd):
                if name not in there and trees.is_directory(name, fd):
                    _forget(project / name)

    def refresh_run(self, directory: Path, age: float = FRESH) -> None:
        """Bring one run up to date.

        Args:
            directory: Its directory in the copy.
            age: It is left as it is when it was brought up to date so many seconds ago, or less.

        Raises:
            StoreError: The mirror cannot be read.
        """
        run = directory.relative_to(self.root).as_posix()
        with self._lock, self._reading():
            if self._is_fresh(run, age=age):
                return
            files = self._files_of(run)
            if RUN_FILE not in files:
                _forget(directory)
                return
            self._bring_run(run, files, journals=True)
            self._listed[run] = time.monotonic()

    def _files_of(self, run: str) -> dict[str, Listed]:
        """The files of a run, without media. Segments first: one that is gone is in a part that is listed after it."""
        found: dict[str, Listed] = {}
        for folder in ("/journal", "/cursors", ""):
            found |= self._objects.listing(f"{run}{folder}", deep=False)
        cut = len(run) + 1
        return {key[cut:]: listed for key, listed in found.items()}

    def fetch(self, directory: Path, contents: Iterable[str] = ()) -> None:
        """Fetch all media of a run, and contents of artifacts by their sha256, that are not here yet.

        Raises:
            StoreError: The mirror cannot be read.
        """
        run = directory.relative_to(self.root).as_posix()
        with self._reading():
            keys = [key for key in self._objects.listing(f"{run}/media", deep=False) if is_safe(key.rpartition("/")[2])]
            for sha in contents:
                with contextlib.suppress(ValueError):
                    keys.append(f"{FOLDER}/{content_key(sha)}")
            with ThreadPoolExecutor(AT_ONCE) as pool:
                missing = [key for key in keys if not (self.root / key).exists()]
                for one in [
                    pool.submit(fetch, self._objects, key, self.root / key, str(self.address)) for key in missing
                ]:
                    one.result()

    def _is_fresh(self, key: str, age: float = FRESH) -> bool:
        at = self._listed.get(key)
        return at is not None and time.monotonic() - at < age

    @contextlib.contextmanager
    def _reading(self) -> Generator[None]:
        try:
            yield
        except TrackingError:
            raise
        except Exception as error:
            # Every client has errors of its own.
            raise StoreError(f"the mirror {self.address} cannot be read: {type(error).__name__}: {error}") from error

    # ------------------------------------------------------------------ one run

    def _bring_run(self, run: str, there: Mapping[str, Listed], *, journals: bool) -> None:
        directory = self.root / run
        own_folder(directory / "journal", parents=True)
        with self._locked(directory):
            state = _State(directory)
            if journals and state.seen.keys() - there.keys():
                # Of a long listing the earlier part may be older than the part that something is gone from.
                there = self._files_of(run)
            wanted = [name for name in there if is_read_at_once(name) and (journals or name in {RUN_FILE, ORIGIN_FILE})]
            # The run is seen when its files are there; a part before the segments go that it replaces.
            for name in sorted(wanted, key=lambda name: (name == RUN_FILE, name)):
                try:
                    self._bring_file(run, name, there[name], state)
                except FileNotFoundError:
                    # It is in a part by now.
                    continue
            if journals:
                for name in state.seen.keys() - there.keys():
                    (directory / name).unlink(missing_ok=True)
                    del state.seen[name]
                state.looked = time.time()
            state.save()

    def _bring_file(self, run: str, name: str, listed: Listed, state: _State) -> None:
        path = self.root / run / name
        mark = [listed.size, listed.tag]
        if state.seen.get(name) == mark and path.exists():
            return
        key = f"{run}/{name}"
        if name.startswith("cursors/"):
            if not state.may_replace(name, path):
                return
            if listed.size > LARGEST:
                # Nobody would read it.
                return
            content = self._objects.get(key)
            own_folder(path.parent)
            replace_file(path, content)
            state.taken[name] = hashlib.sha256(content).hexdigest()
        elif name.endswith(".alive"):
            if listed.size > SMALL:
                return
            _keep_heartbeat(path, self._objects.get(key), listed, state.looked if name in state.seen else 0.0)
        elif name.startswith("journal/") and name in state.seen and self._can_lengthen(path, listed):
            self._lengthen(key, path, listed)
        elif not fetch(self._objects, key, path, str(self.address)):
            return
        state.seen[name] = mark

    @staticmethod
    def _can_lengthen(path: Path, listed: Listed) -> bool:
        """Whether what is here is a part of a segment, and the rest of it fits into memory."""
        return trees.is_plain_file(path) and listed.size - path.stat().st_size <= LONGEST

    def _lengthen(self, key: str, path: Path, listed: Listed) -> None:
        """Fetch what was added to a segment: nothing else ever happens to one."""
        size = path.stat().st_size
        if listed.size <= size:
            return
        content = self._objects.get(key, size)
        with path.open("ab") as file:
            file.write(content)

    def _bring_artifacts(self, project: str, there: Mapping[str, Listed]) -> None:
        folder = self.root / project / "artifacts"
        if not there:
            with contextlib.suppress(OSError), trees.opened(folder.parent) as fd:
                trees.remove(folder.name, fd)
            return
        folder.mkdir(parents=True, exist_ok=True)
        with self._locked(folder):
            state = _State(folder)
            for name, listed in there.items():
                mark = [listed.size, listed.tag]
                if state.seen.get(name) != mark:
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    if fetch(self._objects, f"{project}/artifacts/{name}", folder / name, str(self.address)):
                        state.seen[name] = mark
            for name in state.seen.keys() - there.keys():
                (folder / name).unlink(missing_ok=True)
                del state.seen[name]
            state.save()

    @staticmethod
    @contextlib.contextmanager
    def _locked(directory: Path) -> Generator[None]:
        """Let one process at a time change a directory of the copy."""
        fd = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def _forget(directory: Path) -> None:
    """Let go of a run that is gone from the mirror. How far targets have come stays: it may be back."""
    with contextlib.suppress(OSError), trees.opened(directory) as fd:
        for name in trees.names(fd):
            if name != "cursors":
                with contextlib.suppress(OSError):
                    trees.remove(name, fd)


class _State:
    """What is known of the files of a directory of the copy, kept beside them.

    Args:
        directory: The directory.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / MARK
        self.seen: dict[str, list[Any]] = {}
        """File → size and tag of the object that it was fetched from."""
        self.taken: dict[str, str] = {}
        """Cursor → digest of what was taken from the mirror."""
        self.looked = 0.0
        """When the mirror was looked at."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
            self.seen, self.taken, self.looked = _kept(json.loads(read_regular(self._path)))

    def save(self) -> None:
        """Keep it."""
        replace_file(self._path, json.dumps({"seen": self.seen, "taken": self.taken, "looked": self.looked}).encode())

    def may_replace(self, name: str, path: Path) -> bool:
        """Whether a cursor is as it was taken from the mirror: one that was moved here is further."""
        try:
            return hashlib.sha256(read_regular(path)).hexdigest() == self.taken.get(name)
        except FileNotFoundError:
            return True
        except OddFileError:
            return False


def _kept(content: Any) -> tuple[dict[str, list[Any]], dict[str, str], float]:
    seen, taken, looked = content["seen"], content["taken"], float(content["looked"])
    if not (isinstance(seen, dict) and isinstance(taken, dict)):
        raise TypeError("it has no list of known files")
    # They become paths.
    seen = {name: mark for name, mark in seen.items() if all(map(is_safe, name.split("/")))}
    return cast("dict[str, list[Any]]", seen), cast("dict[str, str]", taken), looked


def _keep_heartbeat(path: Path, content: bytes, listed: Listed, looked: float) -> None:
    """Keep a heartbeat, dated so that it goes stale when several more should have come, and did not.

    It was made when the object was; and if an earlier one was seen here, after that look, whatever the clocks say. That
    its process is gone from this host does not count: what it wrote last may be on its way.
    """
    try:
        facts = json.loads(content)
        interval = float(facts.get("mirrored", 0.0))
        if not 0 <= interval < _SELDOM:
            raise ValueError(f"its interval is {interval} s")  # noqa: TRY301 - as what is none
        replace_file(path, json.dumps({**facts, "host": f"the mirror of {facts['host']}"}).encode())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return
    now = time.time()
    made = min(now, max(listed.modified if listed.modified is not None else now, looked))
    until = made + MISSED * interval + SLACK
    os.utime(path, (now, until - STALE))


# ---------------------------------------------------------------- where copies are


def open_mirror(text: str, *, origin: str = "the root") -> MirrorCache:
    """The local copy of a mirror.

    Args:
        text: Its address.
        origin: Where that was written, for messages.

    Raises:
        SettingsError: It is no address of a mirror.
        MissingDependencyError: A package is missing.
        StoreError: The copy cannot be made.
    """
    address = parse_address(text, origin=origin)
    check_packages(address, origin=origin)
    return _cache(address, _place(address))


@lru_cache(maxsize=32)
def _cache(address: Address, root: Path) -> MirrorCache:
    return MirrorCache(address, root)


def _place(address: Address) -> Path:
    from tracking_core.environment.settings import load_settings

    chosen = load_settings().get("cache")
    if chosen:
        base = Path(chosen).expanduser().absolute()
    else:
        given = os.environ.get("XDG_CACHE_HOME", "")
        # As the specification has it: what is not absolute does not count.
        base = (Path(given) if Path(given).is_absolute() else Path.home() / ".cache") / "tracking"
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", str(address)).strip("-.")[:60]
    return base / "mirrors" / f"{readable}-{hashlib.sha256(str(address).encode()).hexdigest()[:12]}"
