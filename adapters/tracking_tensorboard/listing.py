"""What TensorBoard shows of an artifact: its facts and the list of its files. The bytes stay where they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tracking_core.values import ArtifactRef, Table
from tracking_tensorboard import markdown

if TYPE_CHECKING:
    from tracking_core.values import ArtifactFile

#: Reading a checkpoint of many gigabytes once more, for a digest in a list, would hold up what comes after it.
LARGEST_HASHED = 64 * 1024 * 1024
_CHUNK = 1024 * 1024


def artifact(
    name: str,
    type: str,  # noqa: A002 - the protocol's word
    files: Sequence[ArtifactFile],
    *,
    version: int | None,
    metadata: Mapping[str, Any] | None,
    aliases: Sequence[str],
) -> tuple[ArtifactRef, str]:
    """The reference of an artifact, and the Markdown that describes it.

    Args:
        name: Its name.
        type: Its kind.
        files: Its files.
        version: Number of the version, where it is known.
        metadata: Facts about it.
        aliases: Further names.

    Returns:
        The reference has a digest if every file was small enough to be read.
    """
    listed = [_entry(file) for file in files]
    digest = ""
    if all(sha for _, _, sha in listed):
        lines = "".join(f"{path}\0{sha}\n" for path, _, sha in sorted(listed))
        digest = hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest()
    ref = ArtifactRef(name, type, version, digest, tuple(aliases))
    facts = {
        "artifact": name,
        "type": type,
        "version": None if version is None else f"v{version}",
        "aliases": ", ".join(aliases),
        "digest": digest,
        "metadata": json.dumps(dict(metadata), ensure_ascii=False, default=str) if metadata else None,
    }
    rows = [(path, markdown.size(size), sha or "(too large to read again)") for path, size, sha in listed]
    return ref, f"{markdown.facts(facts)}\n\n{markdown.table(Table(['file', 'size', 'sha256'], rows))}"


def _entry(file: ArtifactFile) -> tuple[str, int, str]:
    size = len(file.source) if isinstance(file.source, bytes) else file.source.stat().st_size
    if size > LARGEST_HASHED:
        return file.path, size, ""
    digest = hashlib.sha256()
    for chunk in _chunks(file):
        digest.update(chunk)
    return file.path, size, digest.hexdigest()


def _chunks(file: ArtifactFile) -> Iterator[bytes]:
    if isinstance(file.source, bytes):
        yield file.source
        return
    with file.source.open("rb") as source:
        while chunk := source.read(_CHUNK):
            yield chunk
