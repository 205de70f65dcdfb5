"""Artifacts: what is to be stored, and the reference one gets for it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tracking_core.errors import InvalidValueError
from tracking_core.values.arrays import describe
from tracking_core.values.scalars import to_name

_LONGEST_PATH = 4096


@dataclass(frozen=True, slots=True)
class ArtifactRef:
    """A reference to a version of an artifact.

    Args:
        name: Name of the artifact.
        type: Its kind, such as "model".
        version: Number of the version, counted from 0; None if the backend has not assigned it yet.
        digest: sha256 over the sorted (path, content digest) pairs, hex; "" if unknown.
        aliases: Further names of this version.
    """

    name: str
    type: str = "file"
    version: int | None = None
    digest: str = ""
    aliases: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}:v{self.version}"


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """One file of an artifact: its relative POSIX path inside, and where its bytes are."""

    path: str
    source: Path | bytes

    def read(self) -> bytes:
        """The bytes of the file."""
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()


def artifact_files(artifact: Any, name: str | None = None) -> tuple[str, list[ArtifactFile]]:
    """List the files of the argument of `log_artifact`.

    Args:
        artifact: A file, a directory, or a mapping of relative names to paths or bytes.
        name: Name of the artifact; None takes the file's or directory's own.

    Returns:
        The artifact's name, and its files sorted by path. Links are followed; sockets, devices and broken links are
        refused. Directories without files are not recorded.

    Raises:
        InvalidValueError: There is no such file, there are no files in it, a name is missing, or a path leads out of
            the artifact.
    """
    if name is not None:
        name = to_name(name)
    if isinstance(artifact, Mapping):
        if not name:
            raise InvalidValueError("log_artifact: a mapping of files needs name=…")
        files = [ArtifactFile(_inside(key), _source(key, value)) for key, value in artifact.items()]
    elif isinstance(artifact, (str, os.PathLike)):
        root = Path(artifact)
        if root.is_dir():
            files = [ArtifactFile(path.relative_to(root).as_posix(), path) for path in _walk(root)]
            name = name or root.resolve().name
        elif root.is_file():
            files = [ArtifactFile(root.name, root)]
            name = name or root.resolve().name
        else:
            raise InvalidValueError(f"log_artifact {name!r}: there is no file or directory {str(artifact)!r}")
    else:
        raise InvalidValueError(
            f"log_artifact: expected a path or a mapping of names to paths or bytes, got {describe(artifact)}"
        )
    if not files:
        raise InvalidValueError(f"log_artifact {name!r}: there are no files in it")
    files.sort(key=lambda file: file.path)
    paths = {file.path for file in files}
    folders = {parent.as_posix() for path in paths for parent in PurePosixPath(path).parents}
    for file, after in itertools.pairwise([*files, files[0]]):
        if file.path in folders or (file is not after and file.path == after.path):
            raise InvalidValueError(f"log_artifact {name!r}: the path {file.path!r} appears twice")
    return name, files


def _walk(directory: Path, outer: tuple[Path, ...] = ()) -> Iterator[Path]:
    """The files in a directory, sorted, with what links point to."""
    real = directory.resolve()
    if real in outer:
        raise InvalidValueError(f"log_artifact: the links in {str(directory)!r} form a loop")
    try:
        inside = sorted(directory.iterdir())
    except OSError as error:
        raise InvalidValueError(f"log_artifact: {str(directory)!r} cannot be read: {error}") from error
    for path in inside:
        if path.is_dir():
            yield from _walk(path, (*outer, real))
        elif path.is_file():
            yield path
        else:
            raise InvalidValueError(
                f"log_artifact: {str(path)!r} is a broken link, a socket or a device; remove it, or pass a mapping "
                "of the files you want"
            )


def _inside(key: Any) -> str:
    if not isinstance(key, str) or not key or "\0" in key:
        raise InvalidValueError(f"log_artifact: expected a relative path, got {key!r:.80}")
    if len(key) > _LONGEST_PATH:
        raise InvalidValueError(
            f"log_artifact: the path {key!r:.80}… has {len(key)} characters; no file system takes more than "
            f"{_LONGEST_PATH}"
        )
    path = PurePosixPath(key.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or ":" in path.parts[0]:
        raise InvalidValueError(f"log_artifact: the path {key!r:.80} leads out of the artifact; give a relative one")
    return path.as_posix()


def _source(key: Any, value: Any) -> Path | bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, (str, os.PathLike)):
        path = Path(value)
        if path.is_file():
            return path
        raise InvalidValueError(
            f"log_artifact: {key!r:.80} should come from {str(value)!r:.200}, which is not a file; "
            "pass content as bytes"
        )
    raise InvalidValueError(f"log_artifact: {key!r:.80}: expected a path or bytes, got {describe(value)}")
