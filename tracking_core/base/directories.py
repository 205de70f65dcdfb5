"""Checks of a directory before anything is written to it, and without creating anything."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tracking_core.naming import printable

_URL = re.compile(r"[^/\\]{2,}://")
_MOUNTS = "/proc/self/mountinfo"
_KEEP_NOTHING = frozenset(
    {
        "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "efivarfs", "fusectl", "mqueue",
        "nsfs", "proc", "pstore", "securityfs", "selinuxfs", "sysfs", "tracefs",
    }
)  # fmt: skip
"""File systems that show the state of the kernel. Their directories look writable to root."""


def is_url(path: str) -> bool:
    """Whether a path begins like an address: `scheme://`. Write `./scheme://` for a directory of that name."""
    return _URL.match(path) is not None


def directory_problem(path: str | os.PathLike[str], *, listed: bool = False) -> str | None:
    """Why a directory cannot be written to or created, as far as that can be known; None if no problem is found.

    Args:
        path: The path as in a target; "~" is the home directory.
        listed: Whether it must be readable as well.
    """
    text = os.fspath(path)
    try:
        if b"\0" in os.fsencode(text):
            return f"{printable(text)} contains a null character"
    except UnicodeEncodeError:
        return f"{printable(text)} contains characters that no file name can hold"
    try:
        place = Path(text).expanduser().absolute()
        found = next(one for one in (place, *place.parents) if one.exists() or one.is_symlink())
        behind = "" if found == place else f", so {place} cannot be a directory"
        if not found.exists():
            return f"{found} is a broken link" + behind
        if not found.is_dir():
            return f"{found} is a file" + behind
        if not os.access(found, os.W_OK | os.X_OK):
            return f"{found} cannot be written to"
        if listed and not os.access(found, os.R_OK):
            return f"{found} cannot be read"
        kind = _file_system(os.path.realpath(found))
        if kind in _KEEP_NOTHING:
            return f"{found} is in a file system that cannot store files ({kind})"
    except RuntimeError as error:
        # A "~" of which nobody knows whose home it is.
        return f"{printable(text)}: {error}"
    except FileNotFoundError:
        # The working directory is gone; whoever makes the path absolute says so.
        return None
    except OSError as error:
        return f"{printable(text)} cannot be a directory: {error.strerror}"
    return None


def _file_system(path: str) -> str:
    """The kind of file system that a path is in; "" where the system does not say."""
    kind, longest = "", -1
    try:
        with Path(_MOUNTS).open(encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                front, _, back = line.partition(" - ")
                where = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), front.split(" ")[4]).rstrip("/")
                # Of several at one place the last one is on top.
                if len(where) >= longest and (path == where or path.startswith(f"{where}/")):
                    kind, longest = back.split(" ")[0], len(where)
    except (OSError, IndexError, ValueError):
        return ""
    return kind
