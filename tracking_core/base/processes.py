"""Processes: who they are, and whether they live."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any, cast

from tracking_core.base.regular import SMALL, OddFileError, read_regular


def process_facts() -> dict[str, Any]:
    """Which process this is, so that others can tell whether it lives."""
    return {"pid": os.getpid(), "started": process_start(os.getpid()), "boot": boot_id(), "host": socket.gethostname()}


def process_start(pid: int) -> str | None:
    """When a process of this host was started, as its kernel counts; None when there is none, or no /proc."""
    try:
        # After the last ")": the name of the program may hold anything.
        facts = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        # One that has ended, and that its parent has not asked after yet, is still listed.
        return facts[19] if facts[0] not in {"Z", "X"} else None
    except (OSError, IndexError):
        return None


def boot_id() -> str | None:
    """Identity of this boot of this host; None where there is no /proc."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None


STALE = 60.0
"""Seconds without a heartbeat after which a writer on another host counts as gone."""
_PIDS = 1 << 31
_ahead: dict[Path, tuple[float, float]] = {}
"""File that was changed in the future → when that was, and since when it has been seen so, in monotonic seconds."""


def owner_of(path: Path) -> int | None:
    """The process that a file of facts names (see `writer.process_facts`), if it lives as far as one can tell.

    Args:
        path: A heartbeat or a lease.

    Returns:
        Its number; 0 when the file is being written just now; None when the process is gone, or there is no file.
    """
    try:
        facts = read_facts(path)
        pid, host = facts["pid"], facts["host"]
        if type(pid) is not int or not 0 < pid < _PIDS:
            raise ValueError(f"{pid!r:.40} is not the number of a process")  # noqa: TRY301 - as where there is none
    except (FileNotFoundError, OddFileError):
        return None
    except (OSError, ValueError, KeyError):
        # Being written in place just now.
        return 0 if is_fresh(path) else None
    if host != socket.gethostname():
        return pid if is_fresh(path) else None
    if facts.get("boot") is not None and facts["boot"] != boot_id():
        return None
    if facts.get("started") is not None:
        return pid if process_start(pid) == facts["started"] else None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        return pid
    return pid


def read_facts(path: Path) -> dict[str, Any]:
    """What a heartbeat, a lease, or another file of facts says.

    Raises:
        ValueError: It says none.
        OSError: It cannot be read, or is no regular file, or is larger than any.
    """
    try:
        facts = json.loads(read_regular(path, SMALL))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(facts, dict):
        raise ValueError(f"{path} does not describe a process")  # noqa: TRY004 - what was read is wrong
    return cast("dict[str, Any]", facts)


def is_fresh(path: Path) -> bool:
    """Whether a file was changed within the last `STALE` seconds, as far as clocks tell."""
    try:
        changed = path.stat().st_mtime
    except OSError:
        return False
    age = time.time() - changed
    if age > -STALE:
        return age < STALE
    # The clocks of two hosts differ. What this one says of the file counts from when it was first looked at.
    seen = _ahead.get(path)
    if seen is None or seen[0] != changed:
        seen = _ahead[path] = (changed, time.monotonic())
    return time.monotonic() - seen[1] < STALE
