"""Files that are written whole, or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_exclusively(path: Path, content: bytes) -> bool:
    """Create a file with its whole content, or do nothing if there is one.

    Readers never see half of it: the content is written aside and linked into place, which on every POSIX file system,
    NFS included, only one of several competing processes can do.

    Returns:
        Whether this call created it.
    """
    aside = path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}")
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


def replace_file(path: Path, content: bytes) -> None:
    """Write a file that readers see either as it was or as it will be."""
    aside = path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
