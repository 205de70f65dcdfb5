"""Contents of a mirror that are fetched when somebody asks for them: media, and the files of artifacts.

The local copy of a mirror says in its root whose copy it is, so that any process can complete it.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path

from tracking_core.base.files import written_aside
from tracking_core.base.regular import SMALL, own_folder, read_regular
from tracking_core.errors import StoreError, TrackingError
from tracking_core.remote.address import parse_address
from tracking_core.remote.objects import Objects, open_objects

MARK = ".mirror.json"
"""In the root of a local copy: whose copy it is."""


def is_copy(root: Path) -> bool:
    """Whether a root is the local copy of a mirror."""
    return (root / MARK).is_file()


def fetched(path: Path, root: Path) -> Path:
    """A file below a root, fetched first where the root is the copy of a mirror and does not have it yet.

    Args:
        path: The file.
        root: The root.

    Returns:
        The path. Where there is no such object, there is no file.

    Raises:
        StoreError: The mirror cannot be read.
    """
    if not path.exists() and is_copy(root) and path.is_relative_to(root):
        fetch(objects_of(root), path.relative_to(root).as_posix(), path, str(root))
    return path


def fetch(objects: Objects, key: str, path: Path, where: str) -> bool:
    """Fetch one object into a file, which is there as a whole or not at all; False when there is no such object.

    Raises:
        StoreError: The mirror cannot be read.
    """
    own_folder(path.parent, parents=True)
    try:
        with written_aside(path) as aside:
            objects.get_file(key, aside)
    except FileNotFoundError:
        return False
    except Exception as error:
        # Every client has errors of its own.
        raise StoreError(f"{key} cannot be fetched from {where}: {error}") from error
    return True


def objects_of(root: Path) -> Objects:
    """The mirror that a root is the copy of.

    Raises:
        StoreError: That cannot be found out.
    """
    try:
        url = json.loads(read_regular(root / MARK, SMALL))["url"]
        if not isinstance(url, str):
            raise TypeError("it is not text")  # noqa: TRY301 - as where there is none
        return _open(url, os.getpid())
    except (OSError, ValueError, KeyError, TypeError, RecursionError, TrackingError) as error:
        raise StoreError(f"{root / MARK} does not name the mirror of this copy: {error}") from error


@lru_cache(maxsize=8)
def _open(url: str, pid: int) -> Objects:  # noqa: ARG001 - a forked child has connections of its own
    return open_objects(parse_address(url, origin=MARK))
