"""What `tracking doctor tensorboard` finds: packages, the log directory, and how to look at it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from tracking_core import Finding, directory_problem
from tracking_tensorboard.location import remote_scheme

if TYPE_CHECKING:
    from tracking_core import Target

_INSTALL = "pip install 'tracking-core[tensorboard]'"


def diagnose(target: Target) -> list[Finding]:
    """Look at packages and the directory of a target; nothing is created."""
    return [*_packages(), *_directory(target), _viewer(target)]


def _packages() -> list[Finding]:
    missing = [name for name in ("tensorboardX", "crc32c") if importlib.util.find_spec(name) is None]
    if missing:
        return [Finding("error", f"{' and '.join(missing)} not installed", _INSTALL)]
    import crc32c
    from tensorboardX.crc32c import crc32c as used

    found = [Finding("ok", f"tensorboardX {_version('tensorboardX')}, crc32c {_version('crc32c')}")]
    if used is not crc32c.crc32c:
        message = "tensorboardX computes checksums in Python, which is 100 times slower than with crc32c"
        found.append(Finding("warning", message, f"reinstall crc32c: {_INSTALL}"))
    return found


def _directory(target: Target) -> list[Finding]:
    if target.authority:
        message = f"{str(target)!r} names the host {target.authority!r}; this backend writes into a directory"
        return [Finding("error", message, "write tensorboard:DIRECTORY, as in tensorboard:./tb")]
    if not target.path:
        return [Finding("ok", "event files go into the directory of each run, below TRACKING_DIR (./tracking_runs)")]
    if remote_scheme(target.path):
        message = f"{target.path} is remote: each flush uploads the whole file, and a crash may repeat records"
        remedy = "for long runs write to a local directory, and copy it"
        return [Finding("warning", message, remedy)]
    problem = directory_problem(target.path)
    if problem is not None:
        return [Finding("error", problem, "name another directory, or change its permissions")]
    path = Path(target.path).expanduser().absolute()
    return [Finding("ok", f"{path} can be written to")]


def _viewer(target: Target) -> Finding:
    if target.authority:
        place = "DIRECTORY"
    elif target.path:
        place = target.path if remote_scheme(target.path) else str(Path(target.path).expanduser().absolute())
    else:
        place = "TRACKING_DIR"
    command = f"tensorboard --load_fast=false --samples_per_plugin=scalars=100000,images=100 --logdir {place}"
    if importlib.util.find_spec("tensorboard") is None:
        return Finding(
            "warning",
            "tensorboard, which shows the event files, is not installed here",
            f"on the machine where you view them: pip install tensorboard; {command}",
        )
    return Finding("ok", f"to view them: {command}")


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "(unknown version)"
