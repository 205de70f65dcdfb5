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
_REMOTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
#: Other names of a kind of storage.
_SAME = {"gcs": "gs", "s3a": "s3"}


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

    Options do not count: they say what is written, and not where.
    """
    directory = log_directory(target, run)
    return f"tensorboard:{directory if remote_scheme(directory) else os.path.realpath(directory)}"


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
