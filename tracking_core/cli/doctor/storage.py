"""The run store: whether its root can be written, how much room and which file system is below it."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

from tracking_core.backends.hooks import Finding
from tracking_core.base.text import size
from tracking_core.cli.doctor.report import StoreLook
from tracking_core.environment.mounts import mount_of

_SLOW = 1e-3
"""Seconds an append may take before it is worth a warning."""
_LITTLE, _NO_ROOM = 2**30, 64 * 2**20
_APPENDS = 50
_RECORD = b"x" * 299 + b"\n"


def check_store(root: Path, origin: str) -> tuple[StoreLook, list[Finding]]:
    """Look at the root of the run store. Nothing is created, but for a file that is gone when this returns.

    Args:
        root: The root.
        origin: Where it came from.
    """
    root = root.expanduser().absolute()
    place = next((folder for folder in (root, *root.parents) if folder.exists()), Path(root.anchor))
    remedy = "set TRACKING_DIR to a directory that can be written"
    if not place.is_dir():
        return StoreLook(str(root)), [Finding("error", f"{place} is a file, so no run can be kept in {root}", remedy)]
    exists = place == root
    free = shutil.disk_usage(place).free
    mount = mount_of(place)
    kind = mount.kind if mount is not None else "local"
    append, problem = _measure(place) if exists else (None, _may_write(place))
    look = StoreLook(
        str(root),
        exists,
        problem is None,
        free,
        mount.filesystem if mount is not None else "",
        mount.device if mount is not None else "",
        kind,
        append,
    )
    if problem is not None:
        what = f"{root} cannot be written: {problem}" if exists else f"{root} cannot be created: {problem}"
        return look, [Finding("error", f"{what} (root: {origin})", f"{remedy}; until then runs go to a temporary one")]
    state = "can be written" if exists else "is not there yet, and can be created"
    found = [Finding("ok", f"{root} {state} (root: {origin})")]
    return look, [*found, _space(look, place), *_filesystem(look), *_speed(look)]


def _space(look: StoreLook, place: Path) -> Finding:
    free = look.free_bytes or 0
    message = f"{size(free)} are free"
    if free < _NO_ROOM:
        return Finding("error", message, "make room, or set TRACKING_DIR to another disk: what does not fit is lost")
    if free < _LITTLE:
        return Finding("warning", message, "make room before a long run: what does not fit is lost")
    entries = os.statvfs(place)
    if entries.f_files and not entries.f_favail:
        return Finding("error", f"{message}, but no further file can be created", "delete files (df -i)")
    return Finding("ok", message)


def _filesystem(look: StoreLook) -> list[Finding]:
    if look.kind == "network":
        message = (
            f"the root is on the network file system {look.filesystem} ({look.device}): every record waits for it, "
            "so a slow or absent server holds up the training"
        )
        return [Finding("warning", message, "set TRACKING_DIR to a local disk, and copy the runs when they are done")]
    if look.kind == "memory":
        message = f"the root is in memory ({look.filesystem}): runs take up RAM, and are gone after a restart"
        return [Finding("warning", message, "set TRACKING_DIR to a disk")]
    return [Finding("ok", f"the file system is {look.filesystem}, on this machine")] if look.filesystem else []


def _speed(look: StoreLook) -> list[Finding]:
    if look.append_seconds is None:
        return []
    message = f"appending a record takes {look.append_seconds * 1e6:.0f} µs"
    if look.append_seconds > _SLOW:
        return [Finding("warning", f"{message}, and each call waits for one", "set TRACKING_DIR to a faster disk")]
    return [Finding("ok", message)]


def _measure(root: Path) -> tuple[float | None, str | None]:
    """Append to a file of our own, as a run does: (median seconds, None), or (None, what went wrong)."""
    taken: list[float] = []
    try:
        with tempfile.NamedTemporaryFile(dir=root, prefix=".tracking-doctor-") as file:
            for _ in range(_APPENDS):
                start = time.perf_counter()
                os.write(file.fileno(), _RECORD)
                taken.append(time.perf_counter() - start)
    except OSError as error:
        return None, error.strerror or str(error)
    return median(taken), None


def _may_write(place: Path) -> str | None:
    return None if os.access(place, os.W_OK | os.X_OK) else f"{place} is not writable"
