"""Contents that are kept by their sha256: where each is, and the digest of several."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from tracking_core.base.regular import open_regular

FOLDER = ".blobs"
"""Contents of artifacts below a root."""


def content_key(sha256: str) -> str:
    """The path of a content in the directory of all.

    Raises:
        ValueError: The digest is none, and might lead out of the directory.
    """
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError(f"{sha256[:80]!r} is not a sha256 in hex")
    return f"sha256/{sha256[:2]}/{sha256[2:]}"


def digest_of_files(files: Mapping[str, str]) -> str:
    """The digest of a version of an artifact: the sha256, in hex, over its sorted paths and their digests."""
    lines = (f"{path}\0{sha256}\n" for path, sha256 in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def digest_of(path: Path) -> str:
    """The sha256 of a file, in hex.

    Raises:
        OSError: It cannot be read, or is no regular file.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # pyright: ignore[reportArgumentType] - a file
