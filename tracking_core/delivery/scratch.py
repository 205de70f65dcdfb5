"""Temporary files of a process that ends without its exit handlers, in which backends would remove theirs."""

from __future__ import annotations

import contextlib
import shutil
import tempfile

_own: list[str] = []


def begin() -> None:
    """Give this process a temporary directory of its own; what it imports later puts its temporary files there."""
    # Without one, files go where they always went.
    with contextlib.suppress(OSError):
        _own.append(tempfile.mkdtemp(prefix="tracking-delivery-"))
        tempfile.tempdir = _own[-1]


def end() -> None:
    """Remove it, with all that is in it: the process is about to go."""
    while _own:
        shutil.rmtree(_own.pop(), ignore_errors=True)
