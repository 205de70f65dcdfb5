"""A place beside the projects where a run is put together, until it appears as a whole.

Crash invariant: a run that is being imported, unpacked or forked stands under `<root>/.staging/`, which no reader looks
into, until all of it is there; then its directory is renamed into its project. What an interruption left behind is
removed by the next one who puts a run together under that root: directories of the names that are given here and that
hold the file which says whose they are, and nothing that a link leads to.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from tracking_core.base import trees
from tracking_core.base.files import sync
from tracking_core.base.processes import owner_of, process_facts
from tracking_core.base.regular import is_regular, open_regular
from tracking_core.errors import StoreError
from tracking_core.layout.runs import is_run

FOLDER = ".staging"
_LONG = 3600.0
_OURS = re.compile(r"[0-9a-f]{16}")
_OWNER = "owner"
_FACTS = frozenset({"pid", "started", "boot", "host"})
_LARGEST_OWNER = 1 << 12


@contextlib.contextmanager
def staging(root: Path) -> Generator[Path]:
    """A directory of this process under a root, removed in the end with all that is still in it.

    Raises:
        StoreError: The root cannot be written.
    """
    name = secrets.token_hex(8)
    try:
        folder = _begin(root, name)
    except OSError as error:
        raise StoreError(f"no run can be assembled in {root}: {error}") from error
    try:
        _sweep(root / FOLDER, folder)
        yield root / FOLDER / name
    finally:
        with contextlib.suppress(OSError):
            trees.remove(name, folder)
        os.close(folder)
        with contextlib.suppress(OSError):
            # The last one leaves nothing behind. Of a link this fails.
            (root / FOLDER).rmdir()


def _begin(root: Path, name: str) -> int:
    """Make a directory of this process; a descriptor of the folder that it is in.

    Raises:
        StoreError: Something else is there in place of the folder.
        OSError: The root cannot be written.
    """
    for again in (True, True, False):
        with contextlib.ExitStack() as stack:
            try:
                fd = _open_folder(root / FOLDER)
                stack.callback(os.close, fd)
                os.mkdir(name, dir_fd=fd)
            except FileNotFoundError:
                # Another process has just removed the folder after itself.
                if not again:
                    raise
                continue
            with trees.opened(name, fd) as inside:
                trees.write_file(_OWNER, inside, json.dumps(process_facts()).encode())
            stack.pop_all()
            return fd
    raise AssertionError("the loop returns or raises")


def _open_folder(folder: Path) -> int:
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(exist_ok=True)
        return trees.open_directory(folder)
    except (FileExistsError, NotADirectoryError) as error:
        raise StoreError(
            f"{folder} is a link, or not a directory: runs are assembled there, and it is cleared; remove it"
        ) from error


def publish(run: Path, place: Path, *, durable: bool = True) -> bool:
    """Move a run directory that was put together to where it belongs.

    Args:
        run: The directory.
        place: Where it belongs.
        durable: Whether to bring all of it onto the disk first.

    Returns:
        False when there is one already.

    Raises:
        StoreError: Something else is there.
    """
    if durable:
        _sync(run)
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        run.rename(place)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
            raise
        if not is_run(place):
            raise StoreError(f"{place} is in the way of the run: move it or its contents elsewhere") from error
        return False
    return True


def _sync(run: Path) -> None:
    """Bring a directory onto the disk, so that after a power cut no part of it is empty."""
    for path in (*run.rglob("*"), run):
        if is_regular(path):
            with open_regular(path) as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            with contextlib.suppress(OSError):
                # Not every file system can.
                sync(path)


def _sweep(folder: Path, fd: int) -> None:
    """Remove what was left behind by processes that were interrupted."""
    with contextlib.suppress(OSError):
        for name in filter(_OURS.fullmatch, trees.names(fd)):
            with contextlib.suppress(OSError):
                if _is_left(folder / name, name, fd):
                    trees.remove(name, fd)


def _is_left(place: Path, name: str, fd: int) -> bool:
    """Whether a directory is one of ours, and nobody works in it any more.

    Of a process on another host only time tells: it is believed to be gone when nothing has changed for an hour.
    """
    with trees.opened(name, fd) as inside:
        owner = _owner(inside)
        if owner is None:
            return False
        if owner["host"] == socket.gethostname():
            return owner_of(place / _OWNER) is None
        return time.time() - trees.newest_change(inside) > _LONG


def _owner(inside: int) -> dict[str, Any] | None:
    """Whose an open directory is; None where nothing says so, and it is none of ours."""
    try:
        facts = json.loads(trees.read_file(_OWNER, inside, _LARGEST_OWNER))
    except (OSError, ValueError, RecursionError):
        return None
    return facts if isinstance(facts, dict) and facts.keys() >= _FACTS else None
