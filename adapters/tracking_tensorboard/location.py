"""Where the event files of a run go: the log directory, how a run is called in it, the file's name."""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tracking_core import SettingsError
from tracking_core.naming import FILE_NAMES

if TYPE_CHECKING:
    from tracking_core import RunInfo, Target

_TIME = re.compile(r"events\.out\.tfevents\.(\d{10})\.")
_REMOTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
#: Other names of a kind of storage.
_SAME = {"gcs": "gs", "s3a": "s3"}
FLAT, SCOPED = "flat", "scoped"
"""Layouts: all tags in the directory of the run; or those of each scope of names in a sub-run of it."""


def remote_scheme(path: str) -> str | None:
    """The scheme of a URL such as `gs://bucket/runs`; None for a path on this machine."""
    match = _REMOTE.match(path)
    return _SAME.get(match[1].lower(), match[1].lower()) if match else None


def log_directory(target: Target, run: RunInfo) -> str:
    """The directory that `tensorboard --logdir` is to be given: an absolute path, or a URL.

    Raises:
        SettingsError: The target names a host.
    """
    refuse_host(target)
    scheme = remote_scheme(target.path)
    if scheme is not None:
        return f"{scheme}://{target.path.partition('://')[2].rstrip('/')}"
    if target.path:
        return str(Path(target.path).expanduser().absolute())
    return str(run.directory("tensorboard").absolute())


def place(target: Target, run: RunInfo) -> str:
    """The log directory by its one name, whatever the target calls it; see the hook `target_place`.

    Of the options the layout counts, since the same record is under another tag in another directory then. The others
    say what is written, and not where.
    """
    directory = log_directory(target, run)
    where = f"tensorboard:{directory if remote_scheme(directory) else os.path.realpath(directory)}"
    return f"{where}?layout={SCOPED}" if is_scoped(target) else where


def is_scoped(target: Target) -> bool:
    """Whether each scope of names has a sub-run."""
    return target.options.get("layout") == SCOPED


def refuse_host(target: Target) -> None:
    """See that a target names a directory, and no host.

    Raises:
        SettingsError: It names one.
    """
    if target.authority:
        path = f"{target.authority}/{target.path}".rstrip("/")
        raise SettingsError(
            f"the backend 'tensorboard' writes into a directory, and {str(target)!r} names the host "
            f"{target.authority!r}: write tensorboard:DIRECTORY, as in tensorboard:{path} or "
            "tensorboard:gs://bucket/runs"
        )


def short_name(run: RunInfo) -> str | None:
    """What the directory of a run is called if no other run has that name; None if its name is its id, or empty."""
    name = FILE_NAMES.encode(run.name) if run.name else ""
    return None if not name or _has_id(name, run) else name


def name_with_id(run: RunInfo) -> str:
    """The same with the id behind it, unless it ends in that."""
    name = FILE_NAMES.encode(run.name) if run.name else FILE_NAMES.encode(run.id)
    return name if _has_id(name, run) else f"{name}-{FILE_NAMES.encode(run.id)}"


def _has_id(name: str, run: RunInfo) -> bool:
    identity = FILE_NAMES.encode(run.id)
    return name == identity or name.endswith(f"-{identity}")


def file_name(after: str = "") -> str:
    """A name that no other event file has: TensorBoard's form, with the process and a random number.

    TensorBoard reads the files of a directory in the order of their names: the time comes first.

    Args:
        after: The name of a file that this one has to come after.
    """
    host = FILE_NAMES.encode(socket.gethostname())
    earlier = _TIME.match(after.rpartition("/")[2])
    at = max(int(time.time()), int(earlier[1]) + 1 if earlier else 0)
    return f"events.out.tfevents.{at:010d}.{host}.{os.getpid()}.{secrets.token_hex(4)}"
