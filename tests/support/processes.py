"""Finds what a program left running, whoever its parent is now."""

from __future__ import annotations

import time
from pathlib import Path

MARK = "TEST_PROGRAM_MARK"
"""A variable that a program is started with, and that everything it starts inherits."""


def marked(mark: str) -> dict[int, str]:
    """Command lines of the live processes that carry a mark, by pid."""
    wanted = f"{MARK}={mark}".encode()
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            carries = wanted in (entry / "environ").read_bytes().split(b"\0")
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        # One that has ended, and that nobody has asked after, has neither.
        if carries and command:
            found[int(entry.name)] = command
    return found


def wait_until_gone(mark: str, timeout: float = 60.0) -> None:
    """Wait until no process carries a mark.

    Raises:
        AssertionError: Some still do after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while left := marked(mark):
        assert time.monotonic() < deadline, f"still there after {timeout} s: {left}"
        time.sleep(0.05)
