"""The root that runs are recorded under when their own cannot be written: one for each user of a host."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from tracking_core.base.text import counted
from tracking_core.layout.runs import RUN_FILE, run_places


def fallback_root() -> Path:
    """Where it is; it need not be there."""
    return Path(tempfile.gettempdir()).absolute() / f"tracking-{os.geteuid()}"


def make_fallback_root() -> Path:
    """Make it, if it is not there, and see that nobody else can write to it.

    Raises:
        OSError: It cannot be made, or somebody else has made something of that name or can write to it.
    """
    root = fallback_root()
    try:
        root.mkdir(mode=0o700)
    except FileExistsError:
        if not is_own(root):
            raise PermissionError(f"{root} is not a directory that only this user can write to") from None
    return root


def is_own(directory: Path) -> bool:
    """Whether something is a directory, no link to one, of this user, that nobody else can write to."""
    try:
        found = directory.lstat()
    except OSError:
        return False
    others = stat.S_IWGRP | stat.S_IWOTH
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & others


def runs_elsewhere(root: Path) -> str:
    """One line about runs under the fallback root, for whoever looks for them under another; "" if there are none.

    Args:
        root: Where one looks.
    """
    own = fallback_root()
    if own == root.absolute() or not is_own(own):
        return ""
    count = sum((project / name / RUN_FILE).is_file() for project, names in run_places(own) for name in names)
    if not count:
        return ""
    verb, whose = ("is", "its") if count == 1 else ("are", "their")
    return (
        f"{counted(count, 'run')} {verb} under {own}, because {whose} own root could not be written: "
        f"tracking runs --root {own}"
    )
