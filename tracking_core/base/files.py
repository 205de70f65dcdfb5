"""Files that are written whole, or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


def aside_of(path: Path) -> Path:
    """A new hidden name beside a file, for what will take its place."""
    return path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}")


@contextmanager
def written_aside(path: Path, aside: Path | None = None) -> Generator[Path]:
    """Give the name of a file to write, which takes the place of `path` when nothing went wrong.

    Readers of `path` see it either as it was or as it will be. Whatever happens, nothing is left under the other name.

    Args:
        path: The file.
        aside: The name to write to, on the same file system; None takes `aside_of` the file.
    """
    aside = aside or aside_of(path)
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Bring a file or a directory onto the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_file(path: Path, content: bytes) -> None:
    """Write a whole file; see `written_aside`."""
    with written_aside(path) as aside:
        aside.write_bytes(content)


def write_exclusively(path: Path, content: bytes) -> bool:
    """Create a file with its whole content, or do nothing if there is one.

    Readers never see half of it: the content is written aside and linked into place, which on every POSIX file system,
    NFS included, only one of several competing processes can do.

    Returns:
        Whether this call created it.
    """
    aside = aside_of(path)
    try:
        aside.write_bytes(content)
        os.link(aside, path)
    except FileExistsError:
        return False
    except OSError:
        if not aside.is_file() or aside.read_bytes() != content:
            raise
        # No links on this file system.
        return _create(path, content)
    finally:
        aside.unlink(missing_ok=True)
    return True


def _create(path: Path, content: bytes) -> bool:
    """As `write_exclusively`: exclusive creation competes as well, but a reader may see a part of the file."""
    try:
        file = path.open("xb")
    except FileExistsError:
        return False
    try:
        with file:
            file.write(content)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return True
