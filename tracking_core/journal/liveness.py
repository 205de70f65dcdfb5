"""Whether the writer of a journal still lives: derived when it is asked, never stored."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from tracking_core.journal.writer import boot_id, process_start

STALE = 60.0
"""Seconds without a heartbeat after which a writer on another host counts as gone."""


def is_alive(directory: Path, writer: str) -> bool:
    """Whether a writer of a run lives.

    On the same host its process is looked for, by number, start time and boot; elsewhere its heartbeat is trusted
    while it is fresh.

    Args:
        directory: The run directory.
        writer: Name of the writer.
    """
    return owner_of(directory / "journal" / f"{writer}.alive") is not None


def lives_here(directory: Path, writer: str) -> bool:
    """Whether a writer of a run lives on this machine, which can be told without waiting.

    Args:
        directory: The run directory.
        writer: Name of the writer.
    """
    path = directory / "journal" / f"{writer}.alive"
    try:
        return json.loads(path.read_bytes())["host"] == socket.gethostname() and owner_of(path) is not None
    except (OSError, ValueError, KeyError, TypeError):
        return False


def owner_of(path: Path) -> int | None:
    """The process that a file of facts names (see `writer.process_facts`), if it lives as far as one can tell.

    Args:
        path: A heartbeat or a lease.

    Returns:
        Its number; 0 when the file is being written just now; None when the process is gone, or there is no file.
    """
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        pid, host = int(facts["pid"]), facts["host"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        # Being written in place just now.
        return 0 if _fresh(path) else None
    if host != socket.gethostname():
        return pid if _fresh(path) else None
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


def _fresh(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime < STALE
    except OSError:
        return False
