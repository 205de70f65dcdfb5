"""Where a run's event file goes: the log directory, the run's own directory in it, the file's name."""

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
_REMOTE = re.compile(r"([a-z][a-z0-9+.-]+)://")


def remote_scheme(path: str) -> str | None:
    """The scheme of a URL such as `gs://bucket/runs`; None for a path on this machine."""
    match = _REMOTE.match(path)
    return match[1] if match else None


def log_directory(target: Target, run: RunInfo) -> str:
    """The directory that `tensorboard --logdir` is to be given: an absolute path, or a URL.

    Raises:
        SettingsError: The target names a host.
    """
    if target.authority:
        raise SettingsError(
            f"the backend 'tensorboard' writes into a directory, and {str(target)!r} names the host "
            f"{target.authority!r}: write tensorboard:DIRECTORY, as in tensorboard:./tb or tensorboard:gs://bucket/runs"
        )
    if remote_scheme(target.path):
        return target.path.rstrip("/")
    if target.path:
        return str(Path(target.path).expanduser().absolute())
    return str(run.directory("tensorboard").absolute())


def run_directory(run: RunInfo) -> str:
    """Name of the run's directory inside the log directory: its name, and its id unless the name ends in it."""
    name = FILE_NAMES.encode(run.name) if run.name else ""
    identity = FILE_NAMES.encode(run.id)
    if not name or name == identity:
        return identity
    return name if name.endswith(f"-{identity}") else f"{name}-{identity}"


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
