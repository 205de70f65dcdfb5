"""Where things are on disk.

```
<root>/<project>/<run_id>/
    run.json                      identity and circumstances at the start; never rewritten
    origin.json                   where a run that was imported or unpacked came from
    journal/<writer>-000001.jsonl events; one writer per file
    journal/<writer>.alive        heartbeat
    media/<sha256>.<ext>          images, video, audio, tables
    cursors/<adapter>-<hash>.json position of each target
<root>/<project>/.removed/<run_id>.json what is left of a run that was removed
<root>/.blobs/sha256/ab/cdef…     artifact contents, each once for the whole root
<root>/<project>/artifacts/<type>/<name>/v0.json …, aliases/
```

Names from users are encoded by `tracking_core.naming.FILE_NAMES`, so that they escape nowhere.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from tracking_core._version import __version__
from tracking_core.base.files import write_exclusively
from tracking_core.base.json_text import dump_json, load_json
from tracking_core.base.redaction import redact_text, redact_url
from tracking_core.base.regular import LARGEST, OddFileError, read_regular
from tracking_core.base.structs import ready
from tracking_core.base.trees import opened, read_file
from tracking_core.errors import RunExistsError, RunNotFoundError, SettingsError, StoreError
from tracking_core.journal.lines import FORMAT
from tracking_core.journal.schema import Count, Number, Truncating, is_flat_enough
from tracking_core.journal.segments import find_files
from tracking_core.layout.run_ids import is_run_id
from tracking_core.naming import FILE_NAMES

RUN_FILE = "run.json"
ORIGIN_FILE = "origin.json"
"""Beside `run.json` in a run that came from elsewhere: where from. The targets of such a run are ignored."""
ORIGIN_FORMAT = 1
_LARGEST_ORIGIN = 1 << 16
REMOVED = ".removed"
"""Directory of the tombstones in a project."""


def run_directory(root: Path, project: str, run_id: str) -> Path:
    """The directory of a run; `run_id` was checked by `names.check_run_id`."""
    return root / FILE_NAMES.encode(project) / run_id


def create_run(directory: Path, facts: Mapping[str, Any]) -> None:
    """Create the directory of a new run, with its `run.json`.

    Raises:
        RunExistsError: There is one already; of several processes exactly one creates it.
        SettingsError: It is more than readers take.
        OSError: The place cannot be written.
    """
    content = dump_json({"v": FORMAT, **facts})
    if len(content) > LARGEST:
        raise SettingsError(
            f"the configuration of the run {directory.name!r} has {len(content)} bytes, and the limit is {LARGEST}: "
            "log large data as an artifact"
        )
    directory.mkdir(parents=True, exist_ok=True)
    if not write_exclusively(directory / RUN_FILE, content):
        raise RunExistsError(
            f"the run {directory.name!r} already exists in {directory.parent}: pass resume='allow' to continue it, "
            "or another run_id"
        )


def read_run(directory: Path) -> dict[str, Any]:
    """Read `run.json`.

    Raises:
        RunNotFoundError: There is none.
        StoreError: It is damaged, or of a newer format.
    """
    path = directory / RUN_FILE
    try:
        facts = load_json(read_regular(path))
    except FileNotFoundError as error:
        raise RunNotFoundError(f"there is no run in {directory}") from error
    except OddFileError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    version = cast("dict[str, Any]", facts).get("v") if isinstance(facts, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise StoreError(f"{path} has format {version}, this version reads up to {FORMAT}: upgrade tracking-core")
    wrong = wrong_facts(facts)
    if wrong:
        raise StoreError(f"{path} does not describe a run: look at {', '.join(wrong)} in it")
    return {**facts, "started": float(facts["started"])}


@ready
class _Imported(msgspec.Struct):
    size: Count = 0


@ready
class _Fork(Truncating):
    run: str
    project: str = ""


_Trees = dict[str, Any]
_NEEDED: Mapping[str, Any] = {"v": Number, "id": str, "name": str, "project": str, "started": float}
_OPTIONAL: Mapping[str, Any] = {
    "config": _Trees, "tags": list[str], "group": str | None, "job_type": str | None, "notes": str | None,
    "environment": _Trees, "targets": list[str], "forks": list[_Fork], "imported": _Imported | None,
}  # fmt: skip
"""What `run.json` may say besides; fields that are not known are of a later version."""


_Facts = ready(
    msgspec.defstruct(
        "_Facts",
        [*_NEEDED.items(), *((key, kind | msgspec.UnsetType, msgspec.UNSET) for key, kind in _OPTIONAL.items())],
    )
)


def wrong_facts(facts: Any) -> list[str]:
    """Which entries of what `run.json` says are missing, or are not what they should be."""
    if not isinstance(facts, dict):
        return list(_NEEDED)
    entries = cast("dict[str, Any]", facts)
    # All at once, which is quicker: a listing asks this of every run.
    wrong = [] if _is(entries, _Facts) else [key for key, kind in _NEEDED.items() if not _is(entries.get(key), kind)]
    if wrong or not _is(entries, _Facts):
        wrong += [key for key, kind in _OPTIONAL.items() if key in entries and not _is(entries[key], kind)]
    return wrong or [key for key, holds in _FURTHER.items() if not holds(entries.get(key))]


def _is(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except (ValueError, OverflowError):
        return False
    return True


_FURTHER: Mapping[str, Callable[[Any], bool]] = {
    "id": is_run_id, "started": math.isfinite, "config": is_flat_enough, "environment": is_flat_enough,
}  # fmt: skip


def check_identity(directory: Path, facts: Mapping[str, Any]) -> None:
    """Check that a run directory is called as its run is, and stands in its project, where others find it by that.

    Args:
        directory: The directory.
        facts: Its `id` and `project`, as `run.json` says them.

    Raises:
        StoreError: It is not.
    """
    if directory.name != facts["id"]:
        raise StoreError(
            f"{directory} holds the run {facts['id']!r}, but has another name: it was renamed or copied; rename "
            "it to the id of the run, and keep only one copy"
        )
    if directory.absolute().parent.name != FILE_NAMES.encode(facts["project"]):
        raise StoreError(
            f"{directory} holds a run of the project {facts['project']!r}, but is not in its directory: move it to "
            f"{FILE_NAMES.encode(facts['project'])!r}"
        )


def is_from_elsewhere(directory: Path) -> bool:
    """Whether a run was imported or unpacked, and not recorded here; when in doubt it was."""
    try:
        (directory / ORIGIN_FILE).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def write_origin(directory: Path, kind: str, source: str, identity: str) -> None:
    """Say in a run directory that its run came from elsewhere, and where from; before the run is seen.

    Args:
        directory: The run directory. What stood there before is replaced: it is not ours.
        kind: What it came from, such as "pack" or "wandb".
        source: The file or directory, or a URL.
        identity: What tells this source from others: a digest in hex.
    """
    facts = {
        "v": ORIGIN_FORMAT,
        "kind": kind,
        "source": redact_url(source) if "://" in source else redact_text(source),
        "identity": identity,
        "time": round(time.time(), 6),
        "by": f"tracking-core {__version__}",
    }
    place = directory / ORIGIN_FILE
    place.unlink(missing_ok=True)
    write_exclusively(place, dump_json(facts))


def origin_content(directory: Path) -> bytes:
    """The content of `origin.json` of a run that came from elsewhere; where it cannot be read, it says nothing."""
    try:
        # A whole run directory may be a link.
        with opened(directory.resolve()) as fd:
            return read_file(ORIGIN_FILE, fd, _LARGEST_ORIGIN)
    except OSError:
        return b"{}"


def read_origin(directory: Path) -> dict[str, Any] | None:
    """What stands in `origin.json`; None for a run that was recorded here, and {} where it cannot be read."""
    if not is_from_elsewhere(directory):
        return None
    try:
        facts = load_json(origin_content(directory))
    except ValueError:
        return {}
    return cast("dict[str, Any]", facts) if isinstance(facts, dict) else {}


def find_run(root: Path, run_id: str) -> Path:
    """The directory of a run of any project.

    Raises:
        RunNotFoundError: This root has no such run.
    """
    # An id comes from whoever asks: it must not lead out of the root.
    if Path(run_id).name == run_id:
        for project in project_directories(root):
            if is_run(project / run_id):
                return project / run_id
    removed = tombstone_of(root, run_id)
    if removed is not None:
        raise RunNotFoundError(f"the run {run_id!r} was removed: see {removed}")
    raise RunNotFoundError(f"there is no run {run_id!r} under {root}")


def tombstone_of(root: Path, run_id: str, project: str | None = None) -> Path | None:
    """The tombstone of a run that was removed. It says nothing once there is a run of that id again.

    Args:
        root: The root.
        run_id: The run; what is no id has none.
        project: Its project; None looks in all.
    """
    if Path(run_id).name != run_id:
        return None
    places = project_directories(root) if project is None else [root / FILE_NAMES.encode(project)]
    try:
        return next((path for place in places if (path := place / REMOVED / f"{run_id}.json").is_file()), None)
    except (OSError, ValueError):
        return None


def is_run(directory: Path) -> bool:
    """Whether a directory that can be looked into holds a run, or something that keeps it from being one."""
    return os.path.lexists(directory / RUN_FILE)


def project_directories(root: Path) -> list[Path]:
    """The directories of all projects under a root, each once; a root that is not there has none.

    A link to one that is listed itself is left out.
    """
    try:
        entries = sorted((entry.name, _is_link(entry)) for entry in os.scandir(root) if not entry.name.startswith("."))
    except OSError:
        return []
    there = {name for name, is_link in entries if not is_link and (root / name).is_dir()}
    base, led_to = os.path.realpath(root), set[str]()
    for name, is_link in entries:
        if is_link and (root / name).is_dir():
            place = os.path.realpath(root / name)
            if place not in led_to and not (os.path.dirname(place) == base and os.path.basename(place) in there):  # noqa: PTH119, PTH120 - text
                led_to.add(place)
                there.add(name)
    return [root / name for name in sorted(there)]


def run_places(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """The directory of each project under a root, and the names in it that may be of runs.

    However many links lead to a run, it is among them once: a link to what is listed itself is left out.
    """
    projects = project_directories(root)
    real: set[str] | None = None
    led_to: set[str] = set()
    for project in projects:
        try:
            entries = sorted(
                (entry.name, _is_link(entry)) for entry in os.scandir(project) if not entry.name.startswith(".")
            )
        except OSError:
            continue
        names: list[str] = []
        for name, is_link in entries:
            if is_link:
                real = {os.path.realpath(one) for one in projects} if real is None else real
                place = os.path.realpath(project / name)
                if place in led_to or os.path.dirname(place) in real:  # noqa: PTH120 - text
                    continue
                led_to.add(place)
            names.append(name)
        yield project, names


def _is_link(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_symlink()
    except OSError:
        return False


def orphans(root: Path) -> list[Path]:
    """Directories under a root that hold a journal, and no `run.json`: no listing has them."""
    found: list[Path] = []
    for project, names in run_places(root):
        found += [project / name for name in names if not is_run(project / name) and _has_journal(project / name)]
    return found


def _has_journal(directory: Path) -> bool:
    try:
        return bool(find_files(directory))
    except OSError:
        return False
