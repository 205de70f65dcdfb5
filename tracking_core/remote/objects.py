"""What a mirror is made of: whole objects under keys, of which a reader sees the old one or the new one.

Buckets are reached through fsspec; a directory without it, since fsspec writes local files in place.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tracking_core.base.files import written_aside
from tracking_core.base.regular import open_regular
from tracking_core.errors import MissingDependencyError
from tracking_core.remote.address import Address

_ASIDE = ".uploading-"
_CHUNK = 1 << 20
CONNECT, READ = 10.0, 60.0
"""Seconds to wait for a connection, and for an answer."""


class Listed(NamedTuple):
    """What a listing says of an object.

    Args:
        size: In bytes.
        tag: Changes with the content.
        modified: When it was put there, in seconds since the epoch; None where that is not known.
    """

    size: int
    tag: str
    modified: float | None


class Objects(Protocol):
    """The objects of a mirror. Keys are paths relative to it, with slashes."""

    def put(self, key: str, content: bytes) -> None:
        """Put an object there, whole."""

    def put_file(self, key: str, path: Path, moved: Callable[[int], None]) -> None:
        """Put the content of a file there; `moved` is called with numbers of bytes as it goes."""

    def get(self, key: str, start: int = 0) -> bytes:
        """The content of an object, from a byte on.

        Raises:
            FileNotFoundError: There is none.
        """
        ...

    def get_file(self, key: str, path: Path) -> None:
        """Write the content of an object into a file.

        Raises:
            FileNotFoundError: There is none.
        """

    def find(self, key: str) -> Listed | None:
        """What there is under a key; None for nothing."""
        ...

    def remove(self, key: str) -> None:
        """Remove an object; one that is gone is no error."""

    def folders(self) -> list[str]:
        """The first parts of all keys that have several."""
        ...

    def listing(self, folder: str, *, deep: bool) -> dict[str, Listed]:
        """All objects below a folder by key, or only those right in it."""
        ...


def open_objects(address: Address) -> Objects:
    """Open a mirror. Nothing is asked of a server yet.

    Raises:
        MissingDependencyError: A package is missing.
    """
    if address.scheme == "file":
        return FolderObjects(Path(address.place))
    try:
        import fsspec

        # Listings are asked for to see what has changed.
        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
        if address.scheme == "s3":
            # s3fs tries again by itself.
            waits = {"connect_timeout": CONNECT, "read_timeout": READ, "retries": {"max_attempts": 1}}
            options["config_kwargs"] = waits
        return BucketObjects(fsspec.filesystem(address.scheme, **options), address.place)
    except ImportError as error:
        raise MissingDependencyError(
            f"{address}: {error}; mirrors in buckets need pip install 'tracking-core[remote]'"
        ) from error


class FolderObjects:
    """A mirror in a directory.

    Args:
        root: The directory; it need not exist.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, key: str, content: bytes) -> None:
        """Put an object there, whole."""
        with self._aside(key) as aside:
            aside.write_bytes(content)

    def put_file(self, key: str, path: Path, moved: Callable[[int], None]) -> None:
        """Put the content of a file there."""
        with self._aside(key) as aside:
            _copy(path, aside)
            moved(aside.stat().st_size)

    def _aside(self, key: str) -> AbstractContextManager[Path]:
        place = self._root / key
        place.parent.mkdir(parents=True, exist_ok=True)
        return written_aside(place, place.with_name(f"{_ASIDE}{secrets.token_hex(8)}"))

    def get(self, key: str, start: int = 0) -> bytes:
        """The content of an object, from a byte on."""
        with open_regular(self._root / key) as file:
            file.seek(start)
            return file.read()

    def get_file(self, key: str, path: Path) -> None:
        """Write the content of an object into a file."""
        _copy(self._root / key, path)

    def find(self, key: str) -> Listed | None:
        """What there is under a key; None for nothing."""
        try:
            return _of_file((self._root / key).stat())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def remove(self, key: str) -> None:
        """Remove an object; one that is gone is no error."""
        (self._root / key).unlink(missing_ok=True)

    def folders(self) -> list[str]:
        """The first parts of all keys that have several."""
        try:
            return sorted(path.name for path in self._root.iterdir() if path.is_dir())
        except FileNotFoundError:
            return []

    def listing(self, folder: str, *, deep: bool) -> dict[str, Listed]:
        """All objects below a folder by key, or only those right in it."""
        found: dict[str, Listed] = {}
        for where, folders, files in os.walk(self._root / folder):
            for name in files:
                if not name.startswith(_ASIDE):
                    path = Path(where, name)
                    with contextlib.suppress(OSError):
                        facts = path.stat()
                        # Nothing else was put there by us.
                        if stat.S_ISREG(facts.st_mode):
                            found[path.relative_to(self._root).as_posix()] = _of_file(facts)
            if not deep:
                folders.clear()
        return found


def _copy(source: Path, to: Path) -> None:
    with open_regular(source) as file, to.open("wb") as out:
        shutil.copyfileobj(file, out, _CHUNK)


def _of_file(facts: os.stat_result) -> Listed:
    return Listed(facts.st_size, f"{facts.st_ino}-{facts.st_mtime_ns}", facts.st_mtime)


class BucketObjects:
    """A mirror in a bucket.

    Args:
        fs: The file system of fsspec.
        base: Bucket and prefix.
    """

    def __init__(self, fs: Any, base: str) -> None:
        self._fs = fs
        self._base = base

    def put(self, key: str, content: bytes) -> None:
        """Put an object there, whole."""
        self._fs.pipe_file(self._path(key), content)

    def put_file(self, key: str, path: Path, moved: Callable[[int], None]) -> None:
        """Put the content of a file there."""
        from fsspec.callbacks import Callback

        class Told(Callback):
            def relative_update(self, inc: int = 1) -> None:
                moved(inc)

        self._fs.put_file(str(path), self._path(key), callback=Told())

    def get(self, key: str, start: int = 0) -> bytes:
        """The content of an object, from a byte on."""
        return self._fs.cat_file(self._path(key), start=start or None)

    def get_file(self, key: str, path: Path) -> None:
        """Write the content of an object into a file."""
        self._fs.get_file(self._path(key), str(path))

    def find(self, key: str) -> Listed | None:
        """What there is under a key; None for nothing."""
        try:
            facts = self._fs.info(self._path(key))
        except FileNotFoundError:
            return None
        return _of_object(facts) if facts.get("type") == "file" else None

    def remove(self, key: str) -> None:
        """Remove an object; one that is gone is no error."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(key))

    def folders(self) -> list[str]:
        """The first parts of all keys that have several."""
        found = self._listed(lambda: self._fs.ls(self._base, detail=True))
        return sorted(str(one["name"]).rpartition("/")[2] for one in found if one["type"] == "directory")

    def listing(self, folder: str, *, deep: bool) -> dict[str, Listed]:
        """All objects below a folder by key, or only those right in it."""
        path = self._path(folder)
        if deep:
            found = self._listed(lambda: list(self._fs.find(path, detail=True).values()))
        else:
            found = self._listed(lambda: self._fs.ls(path, detail=True))
        cut = len(self._base) + 1
        return {str(one["name"])[cut:]: _of_object(one) for one in found if one["type"] == "file"}

    def _listed(self, ask: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        self._fs.invalidate_cache()
        try:
            return ask()
        except FileNotFoundError:
            return []

    def _path(self, key: str) -> str:
        return f"{self._base}/{key}".rstrip("/")


def _of_object(facts: dict[str, Any]) -> Listed:
    tag = facts.get("ETag") or facts.get("etag") or facts.get("md5Hash") or facts.get("generation") or ""
    when = facts.get("LastModified") or facts.get("updated") or facts.get("mtime")
    with contextlib.suppress(ValueError):
        if isinstance(when, str):
            when = datetime.fromisoformat(when)
    if isinstance(when, datetime):
        when = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    return Listed(int(facts.get("size") or 0), str(tag), when if isinstance(when, float) else None)
