"""Media of a run: files named by their contents."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tracking_core.base.files import replace_file, write_exclusively
from tracking_core.base.regular import own_folder
from tracking_core.base.trees import is_plain_file


def put_media(directory: Path, content: bytes, extension: str) -> str:
    """Keep a medium under the digest of its content.

    Args:
        directory: The run directory.
        content: The bytes of the file.
        extension: Ending of the file name, without the dot.

    Returns:
        The file name inside `media/`.

    Raises:
        OddFileError: `media` is a link.
        OSError: It cannot be written.
    """
    name = f"{hashlib.sha256(content).hexdigest()}.{extension}"
    path = directory / "media" / name
    if not is_plain_file(path):
        own_folder(path.parent)
        if not write_exclusively(path, content) and not is_plain_file(path):
            # Something else is in its place, and nobody would read it.
            replace_file(path, content)
    return name
