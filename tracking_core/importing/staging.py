"""A place beside the projects where a run is put together, until it appears as a whole.

Crash invariant: a run that is being imported stands under `<root>/.importing/`, which no reader looks into, until all
of it is on the disk; then its directory is renamed into its project. What an interrupted import left behind is
removed by the next import into that root.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import time
from collections.abc import Generator
from pathlib import Path

from tracking_core.errors import StoreError
from tracking_core.journal.liveness import owner_of
from tracking_core.journal.writer import process_facts
from tracking_core.layout import is_run

FOLDER = ".importing"
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
                # Another import has just removed the folder after itself.
                if not again:
                    raise
        (place / "owner").write_text(json.dumps(process_facts()), encoding="utf-8")
        _sweep(root)
    except OSError as error:
        raise StoreError(f"cannot import into {root}: {error}") from error
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        with contextlib.suppress(OSError):
            # The last one leaves nothing behind.
            place.parent.rmdir()


def publish(run: Path, place: Path) -> bool:
    """Move a run directory that was put together to where it belongs.

    Returns:
        False when there is one already.

    Raises:
        StoreError: Something else is there.
    """
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
    for path in run.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _sweep(root: Path) -> None:
    for place in (root / FOLDER).iterdir():
        with contextlib.suppress(OSError):
            owned = (place / "owner").exists()
            # One without an owner is being made just now, unless that was a while ago.
            if owner_of(place / "owner") is None and (owned or time.time() - place.stat().st_mtime > _LONG):
                shutil.rmtree(place, ignore_errors=True)
