"""Whether the writer of a journal still lives: derived when it is asked, never stored."""

from __future__ import annotations

import socket
from pathlib import Path

from tracking_core.base.processes import is_fresh, owner_of, read_facts


def is_alive(directory: Path, writer: str) -> bool:
    """Whether a writer of a run lives.

    On the same host its process is looked for, by number, start time and boot; elsewhere its heartbeat is trusted
    while it is fresh.

    Args:
        directory: The run directory.
        writer: Name of the writer.
    """
    return owner_of(directory / "journal" / f"{writer}.alive") is not None


def is_starting(directory: Path) -> bool:
    """Whether a run without a journal is being started just now: its `run.json` is written before the journal begins.

    Args:
        directory: The run directory.
    """
    return is_fresh(directory / "run.json")


def lives_here(directory: Path, writer: str) -> bool:
    """Whether a writer of a run lives on this machine, which can be told without waiting.

    Args:
        directory: The run directory.
        writer: Name of the writer.
    """
    path = directory / "journal" / f"{writer}.alive"
    try:
        return read_facts(path)["host"] == socket.gethostname() and owner_of(path) is not None
    except (OSError, ValueError, KeyError):
        return False
