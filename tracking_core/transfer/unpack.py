"""A pack back into a run store. What is in a pack may have been made by anybody.

Everything is unpacked aside and checked before anything is put in place: a pack that is cut off, damaged or not what
it should be leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from tracking_core.base.contents import FOLDER, content_key, digest_of_files
from tracking_core.base.files import replace_file, write_exclusively
from tracking_core.base.json_text import dump_json, load_json, read_json
from tracking_core.base.regular import read_regular
from tracking_core.base.trees import is_plain_file
from tracking_core.errors import RunExistsError, RunNotFoundError, StoreError, TrackingError
from tracking_core.layout.run_ids import check_run_id
from tracking_core.layout.runs import RUN_FILE, find_run, read_run, run_directory, write_origin
from tracking_core.layout.staging import publish, staging
from tracking_core.naming import FILE_NAMES
from tracking_core.transfer.foreign import Imported
from tracking_core.transfer.pack_format import FORMAT, MANIFEST, entries

_CHUNK = 1 << 20
_LARGEST_MANIFEST = 1 << 26
"""Bytes of JSON that are read at once; a few kilobytes in an archive can be any number of them."""
_MOST_VALUES = 1 << 21
"""Values in it; each takes a hundred bytes or more."""
_LARGE, _RATIO = 1 << 26, 300
"""From how many bytes on a file must not be so many times as large as in the archive: no journal or medium is."""
#: What zipfile raises for archives that are damaged, one way or another.
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error, OverflowError, UnicodeError)


def unpack_run(path: Path, root: Path) -> Imported:
    """Take the run of a pack, and its artifacts, into a root.

    `run.json`, journals and media are, byte for byte, what was packed.

    Args:
        path: The archive.
        root: Root of the run store.

    Raises:
        RunExistsError: There is another run of that id under the root.
        StoreError: The archive is cut off, damaged, no pack, or holds what a pack must not hold; or the disk refuses.
    """
    try:
        with zipfile.ZipFile(path) as archive, staging(root) as place:
            return _unpack(archive, path, root, place)
    except _BROKEN as error:
        raise StoreError(
            f"{path} is not a complete pack: it was cut off or damaged, or is another kind of file ({error})"
        ) from error
    except OSError as error:
        raise StoreError(f"{path} cannot be unpacked into {root}: {error}") from error


def _unpack(archive: zipfile.ZipFile, path: Path, root: Path, place: Path) -> Imported:
    inside = entries(archive, path)
    listed, aliases, made_of = _manifest(archive, inside, path)
    needed, free = sum(info.file_size for info in inside.values()), shutil.disk_usage(place).free
    if needed > free:
        raise StoreError(f"{path} needs {needed} bytes, and {root} has {free} left")
    for name, info in inside.items():
        if name.endswith(".json") and info.file_size > _LARGEST_MANIFEST:
            raise StoreError(f"{path} is refused: {name!r} in it has {info.file_size} bytes")
        if info.file_size > _LARGE and info.file_size > _RATIO * info.compress_size:
            raise StoreError(
                f"{path} is refused: {name!r} in it grows from {info.compress_size} to {info.file_size} bytes"
            )
    for name, facts in listed.items():
        _extract(archive, inside[name], place / name, facts, path)
    directory, facts = _destination(place / "run", root, path)
    versions = [_version(packed, path) for packed in sorted((place / "artifacts").rglob("v*.json"))]
    problems: list[str] = []
    there = directory.exists()
    if there and read_regular(directory / RUN_FILE) != (place / "run" / RUN_FILE).read_bytes():
        raise RunExistsError(f"{directory} already has another run with the id {facts['id']!r}; nothing was unpacked")
    if not there:
        # Whatever the pack has in its place: what it says of targets was said elsewhere.
        write_origin(place / "run", "pack", str(path.absolute()), made_of)
        _place_blobs(place, root)
        problems = _place_versions(versions, place, root, directory.parent, aliases)
        there = not publish(place / "run", directory)
    return Imported(
        facts["id"], facts["project"], facts["name"], path, there=there, dir=directory, problems=tuple(problems)
    )


def _manifest(
    archive: zipfile.ZipFile, inside: Mapping[str, zipfile.ZipInfo], path: Path
) -> tuple[Mapping[str, Any], Mapping[str, Sequence[str]], str]:
    """What is listed: the files with size and digest, and the aliases of versions; and the digest of that list."""
    if MANIFEST not in inside or inside[MANIFEST].file_size > _LARGEST_MANIFEST:
        raise StoreError(f"{path} is a ZIP archive, but not a pack of a run: it has no {MANIFEST}")
    try:
        content = archive.read(MANIFEST)
        manifest = _load_bounded(content)
        version, listed, aliases = manifest["v"], manifest["files"], manifest.get("aliases", {})
        known = isinstance(version, int) and isinstance(aliases, dict)
        known = known and all(
            isinstance(one["sha256"], str) and isinstance(one["size"], int) for one in listed.values()
        )
        known = known and all(isinstance(names, list) for names in aliases.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(f"{path}: {MANIFEST} in it is not valid: {error}") from error
    if not known or version > FORMAT:
        raise StoreError(f"{path} has format {version!r:.20}, this version reads up to {FORMAT}: upgrade tracking-core")
    if listed.keys() != inside.keys() - {MANIFEST}:
        wrong = sorted(listed.keys() ^ (inside.keys() - {MANIFEST}))
        raise StoreError(f"{path} does not match its own list of files: look at {wrong[0][:100]!r}")
    # Of all files at once, without reading the archive again.
    return listed, aliases, hashlib.sha256(content).hexdigest()


def _load_bounded(content: bytes) -> Any:
    """JSON as values, unless there are more of them than a pack has.

    Raises:
        ValueError: There are, or it is no JSON.
    """
    if content.count(b",") + content.count(b"[") + content.count(b"{") > _MOST_VALUES:
        raise ValueError(f"it holds more than {_MOST_VALUES} values")
    return load_json(content)


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, to: Path, facts: Mapping[str, Any], path: Path) -> None:
    """Unpack one file, and compare it with what is listed."""
    to.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    size = 0
    with archive.open(info) as source, to.open("xb") as out:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > info.file_size:
                break
            digest.update(chunk)
            out.write(chunk)
    found = digest.hexdigest()
    name = info.filename
    if size != facts["size"] or found != facts["sha256"]:
        raise StoreError(f"{path} is damaged: {name!r} in it has changed since it was packed")
    if name.startswith("blobs/") and name != f"blobs/{content_key(found)}":
        raise StoreError(f"{path} is refused: the content {name!r} has another digest than its name")


def _destination(run: Path, root: Path, path: Path) -> tuple[Path, dict[str, Any]]:
    """Where the run belongs, and what it is."""
    try:
        _load_bounded((run / RUN_FILE).read_bytes())
        facts = read_run(run)
        check_run_id(facts["id"])
    except (TrackingError, ValueError, RecursionError, FileNotFoundError) as error:
        raise StoreError(f"{path} holds no run that can be read: {error}") from error
    directory = run_directory(root, facts["project"], facts["id"])
    try:
        # The same id in another project would hide one of the two.
        return find_run(root, facts["id"]), facts
    except RunNotFoundError:
        return directory, facts


def _place_blobs(place: Path, root: Path) -> None:
    source = place / "blobs"
    for content in sorted(source.rglob("*")):
        to = root / FOLDER / content.relative_to(source)
        if content.is_file() and not is_plain_file(to):
            to.parent.mkdir(parents=True, exist_ok=True)
            content.replace(to)


def _version(packed: Path, path: Path) -> tuple[Path, dict[str, Any]]:
    """The manifest of a version, which must be one, and stand where it belongs."""
    try:
        manifest = _load_bounded(packed.read_bytes())
        where = (FILE_NAMES.encode(manifest["type"]), FILE_NAMES.encode(manifest["name"]), f"v{manifest['version']}")
        sound = where == (packed.parent.parent.name, packed.parent.name, packed.stem)
        sound = sound and type(manifest["version"]) is int and isinstance(manifest["metadata"], dict)
        files = manifest["files"]
        sound = sound and all(re.fullmatch("[0-9a-f]{64}", file["sha256"]) for file in files.values())
        sound = sound and all(type(file["size"]) is int and not _leads_out(name) for name, file in files.items())
        sound = sound and manifest["digest"] == digest_of_files({name: file["sha256"] for name, file in files.items()})
        sound = sound and isinstance(manifest["run"], str) and type(manifest["created"]) in {int, float}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        sound, manifest = False, {}
    if not sound:
        raise StoreError(f"{path} is refused: {packed.parent.name}/{packed.name} in it is not a version of an artifact")
    return packed, manifest


def _leads_out(name: str) -> bool:
    inside = PurePosixPath(name)
    return inside.is_absolute() or ".." in inside.parts


def _place_versions(
    versions: Sequence[tuple[Path, dict[str, Any]]],
    place: Path,
    root: Path,
    project: Path,
    aliases: Mapping[str, Sequence[str]],
) -> list[str]:
    """Give versions back the numbers they had; where one is taken by other content, the next free one."""
    problems: list[str] = []
    for packed, manifest in versions:
        entry = packed.relative_to(place)
        folder = project / entry.parent
        folder.mkdir(parents=True, exist_ok=True)
        number = int(packed.stem[1:])
        there = not write_exclusively(folder / packed.name, packed.read_bytes())
        if there and not _is_same(folder / packed.name, manifest, "digest"):
            was, number = number, _next_free(folder, manifest)
            problems.append(
                f"{root} has another v{was} of the artifact {manifest['name']!r}; it was imported as v{number}"
            )
        for alias in aliases.get(entry.as_posix(), ()):
            # "latest" is not kept, but seen.
            if not isinstance(alias, str) or alias in {"", "latest"}:
                continue
            marker = folder / "aliases" / FILE_NAMES.encode(alias)
            if not marker.exists():
                marker.parent.mkdir(exist_ok=True)
                replace_file(marker, dump_json({"alias": alias, "version": number}))
    return problems


def _is_same(place: Path, manifest: Mapping[str, Any], *keys: str) -> bool:
    """Whether a version that is there says the same as one that was packed."""
    try:
        there = read_json(place)
        return all(there[key] == manifest[key] for key in keys)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _next_free(folder: Path, manifest: dict[str, Any]) -> int:
    """The number that a version gets whose own is taken: the one that an unpacking which was interrupted gave it."""
    there = sorted(int(path.stem[1:]) for path in folder.glob("v*.json") if path.stem[1:].isdecimal())
    for number in there:
        if _is_same(folder / f"v{number}.json", manifest, "digest", "run"):
            return number
    number = there[-1] if there else -1
    while True:
        number += 1
        if write_exclusively(folder / f"v{number}.json", dump_json({**manifest, "version": number})):
            return number
