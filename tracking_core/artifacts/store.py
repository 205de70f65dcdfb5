"""The artifact store of a root.

Crash invariants: a manifest is created after all its contents are in place; a version number is taken by creating
its manifest exclusively, so that of several processes each gets its own number and none is lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from tracking_core.base.contents import FOLDER, content_key, digest_of_files
from tracking_core.base.files import replace_file, write_exclusively
from tracking_core.base.json_text import dump_json, read_json
from tracking_core.base.regular import SMALL, read_regular
from tracking_core.base.structs import ready
from tracking_core.base.trees import is_plain_file
from tracking_core.errors import InvalidValueError, NameNotFoundError, StoreError
from tracking_core.journal.schema import Count, Number, Sha256, is_flat_enough
from tracking_core.naming import FILE_NAMES
from tracking_core.remote.fetching import fetched
from tracking_core.values import ArtifactFile, ArtifactRef

_CHUNK = 1 << 20
_NUMBER = re.compile("0|[1-9][0-9]{0,14}")


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One version of an artifact.

    Args:
        ref: A reference to a version of an artifact.
        metadata: Facts about it.
        files: Relative path to (sha256 of the content in hex, size in bytes).
        run_id: The run that logged it.
        created: Seconds since the epoch.
        blobs: Where the contents are.
    """

    ref: ArtifactRef
    metadata: Mapping[str, Any]
    files: Mapping[str, tuple[str, int]]
    run_id: str
    created: float
    blobs: Path

    def path(self, name: str) -> Path:
        """Where the content of one of its files is; the file must not be changed.

        Raises:
            NameNotFoundError: There is no such file in it.
            StoreError: Something else stands in its place: a link, a pipe, or what is larger.
        """
        if name not in self.files:
            raise NameNotFoundError(f"{self.ref} has no file {name!r}; it has {', '.join(sorted(self.files))}")
        sha, size = self.files[name]
        path = fetched(self.blobs / content_key(sha), self.blobs.parent)
        if path.is_symlink():
            raise StoreError(f"{self.ref}: the content of {name!r} is a link to another place: {path}")
        if path.exists() and not is_plain_file(path):
            raise StoreError(f"{self.ref}: the content of {name!r} is not a regular file: {path}")
        if path.exists() and path.stat().st_size > size:
            raise StoreError(f"{self.ref}: the content of {name!r} is larger than its {size} bytes: {path}")
        return path

    def read(self, name: str) -> bytes:
        """The bytes of one of its files.

        Raises:
            NameNotFoundError: There is no such file in it.
            StoreError: Something else stands in its place.
            OSError: It cannot be read.
        """
        return read_regular(self.path(name), self.files[name][1])

    def download(self, directory: str | Path) -> Path:
        """Copy all its files into a directory, and return that.

        Raises:
            StoreError: A path leads out of the directory: the manifest was not made by this package.
        """
        target = Path(directory)
        for name in self.files:
            inside = PurePosixPath(name)
            if inside.is_absolute() or ".." in inside.parts:
                raise StoreError(f"{self.ref}: the path {name!r} leads out of the artifact")
            place = target / inside
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.path(name), place)
        return target


class ArtifactStore:
    """Artifacts of one project under a root.

    Args:
        root: The root of the run store.
        project: Name of the project.
        blobs: Where contents are kept; None means `<root>/.blobs`.
    """

    def __init__(self, root: Path, project: str, blobs: Path | None = None) -> None:
        self.blobs = blobs if blobs is not None else root / FOLDER
        self._folder = root / FILE_NAMES.encode(project) / "artifacts"
        self.unreadable: dict[Path, str] = {}
        """Descriptions of versions that the last `versions` left out, as they cannot be read → why."""

    def put(
        self,
        name: str,
        type: str,  # noqa: A002 - the field's word
        files: Sequence[ArtifactFile],
        *,
        metadata: Mapping[str, Any],
        aliases: Sequence[str],
        run_id: str,
        created: float,
    ) -> StoredVersion:
        """Store files as a new version.

        Contents and metadata equal to the newest version's give no new one, only the aliases.

        Raises:
            OSError: The disk refuses.
            InvalidValueError: A file changed or vanished while it was read.
        """
        stored = {file.path: self._keep(file) for file in files}
        digest = digest_of_files({path: sha for path, (sha, _) in stored.items()})
        folder = self._folder / FILE_NAMES.encode(type) / FILE_NAMES.encode(name)
        folder.mkdir(parents=True, exist_ok=True)
        version = max(_numbers(folder), default=-1)
        while True:
            newest = self._load_if_readable(folder, version)
            if newest is not None and newest.ref.digest == digest and _same(newest.metadata, metadata):
                return self._point(folder, newest, aliases)
            version += 1
            manifest = {
                "v": 1,
                "name": name,
                "type": type,
                "version": version,
                "digest": digest,
                "metadata": dict(metadata),
                "files": {path: {"sha256": sha, "size": size} for path, (sha, size) in stored.items()},
                "run": run_id,
                "created": created,
                "aliases": list(aliases),
            }
            if write_exclusively(folder / f"v{version}.json", dump_json(manifest)):
                break
        return self._point(folder, self._load(folder, version), aliases)

    def get(self, reference: str | ArtifactRef, type: str | None = None) -> StoredVersion:  # noqa: A002
        """Look up a version.

        Args:
            reference: `"name:v3"`, `"name:alias"`, `"name"` (the latest), or an `ArtifactRef`.
            type: Kind of artifact; None looks in all.

        Raises:
            NameNotFoundError: There is none.
            StoreError: What describes it cannot be read.
        """
        if isinstance(reference, ArtifactRef):
            type = reference.type  # noqa: A001
            wanted = [(reference.name, "latest" if reference.version is None else f"v{reference.version}")]
        else:
            # Names and aliases may hold colons themselves.
            colons = [at for at, char in enumerate(reference) if char == ":"]
            wanted = [(reference[:at], reference[at + 1 :]) for at in reversed(colons)] + [(reference, "latest")]
        kinds = [FILE_NAMES.encode(type)] if type is not None else self._kinds()
        for name, mark in wanted:
            for kind in kinds:
                folder = self._folder / kind / FILE_NAMES.encode(name)
                numbers = _numbers(folder)
                marks = {**_aliases(folder), **{f"v{number}": number for number in numbers}}
                if numbers:
                    marks["latest"] = numbers[-1]
                if marks.get(mark) in numbers:
                    return self._load(folder, marks[mark])
        raise NameNotFoundError(f"there is no artifact {str(reference)!r} in {self._folder}")

    def versions(self) -> Iterator[StoredVersion]:
        """All versions of all artifacts of the project; those that cannot be read are in `unreadable` then."""
        self.unreadable = {}
        for kind in self._kinds():
            for folder in _directories(self._folder / kind):
                for number in _numbers(folder):
                    try:
                        version = self._load(folder, number)
                    except StoreError as error:
                        self.unreadable[folder / f"v{number}.json"] = str(error)
                        continue
                    yield version

    def _kinds(self) -> list[str]:
        return [path.name for path in _directories(self._folder)]

    def _load_if_readable(self, folder: Path, version: int) -> StoredVersion | None:
        """A version; None where there is none, or nobody can read it: the next one is made all the same."""
        try:
            return self._load(folder, version) if version >= 0 else None
        except StoreError:
            return None

    def _load(self, folder: Path, version: int) -> StoredVersion:
        manifest = read_manifest(folder / f"v{version}.json")
        aliases = [alias for alias, number in sorted(_aliases(folder).items()) if number == version]
        # "latest" is not kept but seen: of two processes the slower one could point it back.
        if version == max(_numbers(folder), default=None):
            aliases.append("latest")
        ref = ArtifactRef(manifest["name"], manifest["type"], version, manifest["digest"], tuple(aliases))
        files = {path: (entry["sha256"], entry["size"]) for path, entry in manifest["files"].items()}
        return StoredVersion(ref, manifest["metadata"], files, manifest["run"], manifest["created"], self.blobs)

    def _point(self, folder: Path, version: StoredVersion, aliases: Sequence[str]) -> StoredVersion:
        number = version.ref.version
        assert number is not None
        if aliases:
            (folder / "aliases").mkdir(exist_ok=True)
        for alias in aliases:
            replace_file(folder / "aliases" / FILE_NAMES.encode(alias), dump_json({"alias": alias, "version": number}))
        return self._load(folder, number)

    def _keep(self, file: ArtifactFile) -> tuple[str, int]:
        """Copy one content into place, and return its digest and size."""
        self.blobs.mkdir(parents=True, exist_ok=True)
        aside = self.blobs / f".{secrets.token_hex(8)}"
        digest = hashlib.sha256()
        try:
            size = 0
            with aside.open("wb") as out:
                for chunk in _chunks(file):
                    digest.update(chunk)
                    out.write(chunk)
                    size += len(chunk)
            place = self.blobs / content_key(digest.hexdigest())
            # What nobody would read as the content is no reason to throw that away.
            if not (is_plain_file(place) and place.stat().st_size == size):
                place.parent.mkdir(parents=True, exist_ok=True)
                aside.replace(place)
        finally:
            aside.unlink(missing_ok=True)
        return digest.hexdigest(), size


@ready
class _Content(msgspec.Struct):
    sha256: Sha256
    size: Count


@ready
class _Manifest(msgspec.Struct):
    v: Number
    name: str
    type: str
    version: Count
    digest: str
    metadata: dict[str, Any]
    files: dict[str, _Content]
    run: str
    created: float


@ready
class _Alias(msgspec.Struct):
    alias: str
    version: Count


def read_manifest(path: Path) -> dict[str, Any]:
    """What `v<N>.json` says.

    Raises:
        StoreError: It cannot be read, or is none.
    """
    try:
        manifest = read_json(path)
        msgspec.convert(manifest, _Manifest)
    except (OSError, ValueError, OverflowError) as error:
        raise StoreError(f"{path} does not describe a version of an artifact: {error}") from error
    if not is_flat_enough(manifest["metadata"]):
        raise StoreError(f"{path} does not describe a version of an artifact: its metadata are nested too deeply")
    return manifest


def _numbers(folder: Path) -> list[int]:
    """The versions in the folder of an artifact, in order."""
    names = (path.stem[1:] for path in folder.glob("v*.json"))
    return sorted(int(name) for name in names if _NUMBER.fullmatch(name))


def _directories(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []


def _aliases(folder: Path) -> dict[str, int]:
    """Alias to version, as they stand now; one that cannot be read stands for nothing."""
    found: dict[str, int] = {}
    for path in (folder / "aliases").glob("[!.]*"):
        with contextlib.suppress(OSError, ValueError, OverflowError):
            content = msgspec.convert(read_json(path, SMALL), _Alias)
            found[content.alias] = content.version
    found.pop("latest", None)
    return found


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    # As text, where NaN is itself, and a tuple is the list that it comes back as.
    return json.dumps(dict(one), sort_keys=True) == json.dumps(dict(other), sort_keys=True)


def _chunks(file: ArtifactFile) -> Iterator[bytes]:
    if isinstance(file.source, bytes):
        yield file.source
        return
    try:
        with file.source.open("rb") as source:
            while chunk := source.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise InvalidValueError(f"log_artifact: {file.path!r} cannot be read: {error}") from error
