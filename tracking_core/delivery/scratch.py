"""Temporary files of a process that ends without exit handlers, in which backends would remove their files."""

from __future__ import annotations

import contextlib
import shutil
import tempfile

_own: list[str] = []


def begin() -> None:
    """Give this process its own temporary directory; modules that it imports later use that."""
    # If there can be none, files go to the usual place.
    with contextlib.suppress(OSError):
        _own.append(tempfile.mkdtemp(prefix="tracking-delivery-"))
        tempfile.tempdir = _own[-1]


def end() -> None:
    """Remove the directory: the process is about to end."""
    while _own:
        shutil.rmtree(_own.pop(), ignore_errors=True)
