"""`tracking pack`: a run, and the contents of the artifacts that it logged or used, as one file."""

from __future__ import annotations

import hashlib
import os
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracking_core._version import __version__
from tracking_core.artifacts import StoredVersion
from tracking_core.base.contents import content_key, digest_of
from tracking_core.base.files import sync, written_aside
from tracking_core.base.json_text import dump_json
from tracking_core.base.keywords import names_nearest
from tracking_core.base.regular import open_regular
from tracking_core.base.trees import is_plain_file
from tracking_core.errors import NameNotFoundError, StoreError
from tracking_core.layout.runs import check_identity
from tracking_core.naming import FILE_NAMES
from tracking_core.store import RunRecord, open_store
from tracking_core.store.mirrored import fetch_everything
from tracking_core.transfer.pack_format import ENDING, FORMAT, MANIFEST, is_entry

_CHUNK = 1 << 20
_COMPRESSED = frozenset({".png", ".gif", ".mp4", ".webm", ".npz", ".parquet"})
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Packed:
    """A pack that was made.

    Args:
        run: Id of the run.
        file: The archive.
        size: Its size in bytes.
        files: How many files of the run are in it.
        artifacts: Which versions of artifacts are.
        problems: What is missing in it, in words.
    """

    run: str
    file: Path
    size: int
    files: int
    artifacts: tuple[str, ...]
    problems: tuple[str, ...]


@names_nearest
def pack_run(
    run: str | RunRecord,
    output: str | os.PathLike[str] | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
) -> Packed:
    """Pack a run into one archive; `import_runs` imports it into any root.

    An active run is packed up to its current state.

    Args:
        run: The run, or its id.
        output: The file to create, which must not exist; None uses `<run id>.tracking.zip` in the working directory.
        root: Root of the run store; None uses the settings.

    Raises:
        RunNotFoundError: There is no such run.
        StoreError: The file already exists, or cannot be written.
    """
    record = run if isinstance(run, RunRecord) else open_store(root).run(run)
    check_identity(record.dir, {"id": record.id, "project": record.project})
    fetch_everything(record)
    file = Path(output) if output is not None else Path(f"{record.id}{ENDING}")
    if file.exists():
        raise StoreError(f"{file} already exists: name another file with -o, or remove it")
    try:
        with written_aside(file) as aside:
            packed = _write(record, aside)
            sync(aside)
    except OSError as error:
        raise StoreError(f"the run {record.id} cannot be packed into {file}: {error}") from error
    return Packed(record.id, file, file.stat().st_size, **packed)


def _write(record: RunRecord, path: Path) -> dict[str, Any]:
    tries = 1
    while True:
        try:
            return _Packing(record, path).write()
        except FileNotFoundError:
            # Segments were compacted under our hands; a second look finds what they became.
            if tries == _TRIES or not path.exists():
                raise
            tries += 1


class _Packing:
    """One archive in the making."""

    def __init__(self, record: RunRecord, path: Path) -> None:
        self._record = record
        self._path = path
        self._listed: dict[str, dict[str, Any]] = {}
        self._problems: list[str] = []

    def write(self) -> dict[str, Any]:
        """Write the archive; how much is in it."""
        record = self._record
        with zipfile.ZipFile(self._path, "w", allowZip64=True) as archive:
            for name, path in _run_files(record.dir, self._problems):
                if not is_entry(f"run/{name}"):
                    self._problems.append(f"the file {name!r:.200} was left out: a run has no files of such names")
                    continue
                self._add(archive, f"run/{name}", path, path.suffix not in _COMPRESSED)
            files = len(self._listed)
            versions = [version for version in self._versions() if self._add_version(archive, version)]
            manifest = {
                "v": FORMAT,
                "run": record.id,
                "project": record.project,
                "made": round(time.time(), 6),
                "by": f"tracking-core {__version__}",
                "files": self._listed,
                "aliases": {
                    _version_entry(version): [alias for alias in version.ref.aliases if alias != "latest"]
                    for version in versions
                },
            }
            archive.writestr(MANIFEST, dump_json(manifest), zipfile.ZIP_DEFLATED)
        return {
            "files": files,
            "artifacts": tuple(str(version.ref) for version in versions),
            "problems": tuple(self._problems),
        }

    def _add(self, archive: zipfile.ZipFile, name: str, path: Path, deflate: bool) -> None:
        """Add a file as long as it is now, and list its size and digest."""
        digest = hashlib.sha256()
        left = size = path.stat().st_size
        info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
        info.external_attr = 0o100644 << 16
        info.compress_type = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
        with open_regular(path) as source, archive.open(info, "w", force_zip64=size >= 1 << 31) as out:
            while left and (chunk := source.read(min(_CHUNK, left))):
                left -= len(chunk)
                digest.update(chunk)
                out.write(chunk)
        self._listed[name] = {"size": size - left, "sha256": digest.hexdigest()}

    def _versions(self) -> Iterator[StoredVersion]:
        """The versions that the run logged, and those that it used, each once."""
        record = self._record
        store = open_store(record.dir.parent.parent).artifacts(record.project)
        seen: set[tuple[str, str, int | None]] = set()
        for ref in [*(version.ref for version in record.artifacts()), *record.used_artifacts()]:
            key = (ref.type, ref.name, ref.version)
            if key in seen:
                continue
            seen.add(key)
            if ref.version is None:
                self._problems.append(f"the artifact {ref} was used, but is not in this store")
                continue
            try:
                yield store.get(ref)
            except NameNotFoundError:
                self._problems.append(f"the artifact {ref} is no longer in the store")
            except StoreError as error:
                self._problems.append(f"the artifact {ref} was left out: {error}")

    def _add_version(self, archive: zipfile.ZipFile, version: StoredVersion) -> bool:
        record = self._record
        name = _version_entry(version)
        self._add(archive, name, record.dir.parent / name, deflate=True)
        # Contents may be in the store that the event names, if that is another.
        logged = [one for one in record.artifacts() if one.ref.digest == version.ref.digest]
        for path, (sha, _) in version.files.items():
            entry = f"blobs/{content_key(sha)}"
            if entry in self._listed:
                continue
            places = [one.path(path) for one in (version, *logged) if path in one.files]
            place = next((place for place in places if is_plain_file(place)), None)
            if place is None:
                self._problems.append(f"the content of {path!r} of the artifact {version.ref} is gone")
            elif digest_of(place) != sha:
                # With it nobody could unpack the rest.
                self._problems.append(f"the content of {path!r} of the artifact {version.ref} is damaged")
            else:
                self._add(archive, entry, place, deflate=False)
        return True


def _version_entry(version: StoredVersion) -> str:
    ref = version.ref
    return f"artifacts/{FILE_NAMES.encode(ref.type)}/{FILE_NAMES.encode(ref.name)}/v{ref.version}.json"


def _run_files(directory: Path, problems: list[str]) -> Iterator[tuple[str, Path]]:
    """The files of a run that others can use: all but cursors, heartbeats, and what adapters keep there."""
    # Segments first: what is gone by the time it is packed is in a part that is listed after them; and media last, for
    # what is logged meanwhile.
    for folder in ("journal", "", "media"):
        if folder and (directory / folder).is_symlink():
            problems.append(f"the directory {folder!r} was left out: it is a link to something outside this run")
            continue
        try:
            paths = sorted((directory / folder).iterdir())
        except FileNotFoundError:
            continue
        for path in paths:
            if is_plain_file(path) and not path.name.startswith(".") and path.suffix != ".alive":
                yield path.relative_to(directory).as_posix(), path
