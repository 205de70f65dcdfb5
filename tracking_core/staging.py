"""A place beside the projects where a run is put together, until it appears as a whole.

Crash invariant: a run that is being imported, unpacked or forked stands under `<root>/.staging/`, which no reader looks
into, until all of it is there; then its directory is renamed into its project. What an interruption left behind is
removed by the next one who puts a run together under that root.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Generator
from pathlib import Path

from tracking_core.errors import StoreError
from tracking_core.journal.liveness import owner_of
from tracking_core.journal.writer import process_facts
from tracking_core.layout import is_run

FOLDER = ".staging"
_LONG = 3600.0


@contextlib.contextmanager
def staging(root: Path) -> Generator[Path]:
    """A directory of this process under a root, removed in the end with all that is still in it.

    Raises:
        StoreError: The root cannot be written.
    """
    place = root / FOLDER / secrets.token_hex(8)
    try:
        for again in (True, True, False):
            try:
                place.mkdir(parents=True)
                break
            except FileNotFoundError:
                # Another process has just removed the folder after itself.
                if not again:
                    raise
        (place / "owner").write_text(json.dumps(process_facts()), encoding="utf-8")
        _sweep(root)
    except OSError as error:
        raise StoreError(f"no run can be put together in {root}: {error}") from error
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        with contextlib.suppress(OSError):
            # The last one leaves nothing behind.
            place.parent.rmdir()


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
            raise StoreError(f"{place} is in the way of the run: move it, or what is in it, elsewhere") from error
        return False
    return True


def _sync(run: Path) -> None:
    """Bring a directory onto the disk, so that after a power cut no part of it is empty."""
    for path in (*run.rglob("*"), run):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            with contextlib.suppress(OSError):
                # Not every file system can.
                fd = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)


def _sweep(root: Path) -> None:
    """Remove what was left behind by processes that were interrupted."""
    for place in (root / FOLDER).iterdir():
        with contextlib.suppress(OSError):
            if _is_left(place):
                shutil.rmtree(place, ignore_errors=True)


def _is_left(place: Path) -> bool:
    """Whether nobody works in a directory any more.

    Of a process on another host, and of one that has not said yet who it is, only time tells: it is believed to be
    gone when nothing has changed for an hour.
    """
    owner = place / "owner"
    try:
        here = json.loads(owner.read_bytes())["host"] == socket.gethostname()
    except (OSError, ValueError, KeyError, TypeError):
        here = False
    if here:
        return owner_of(owner) is None
    changed = max((path.stat().st_mtime for path in (place, *place.rglob("*"))), default=0.0)
    return time.time() - changed > _LONG
