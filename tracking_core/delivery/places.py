"""Which place at its backend a target leads to. The place has the cursor and the lease.

`wandb://team/moons` and `wandb` may be two ways to write one place, and a record must not be sent to it twice. Only the
adapter knows, and its answer may depend on the environment. So it is asked when a target is opened for the first time.
Its answer is kept in the run, for each way of writing the target:

```
cursors/<adapter>-<hash of the target>.place    {"v": 1, "target": "wandb", "place": "wandb://team/moons"}
cursors/<adapter>-<hash of the place>.json      the cursor, and beside it the lease
```

If the adapter does not say, the place is the target itself: both hashes are the same, and no file is needed. Runs from
before adapters could say have a cursor for the target. It becomes the cursor of the place when the target is opened,
under the leases of both.

Code that only looks reads the files, and does not load an adapter for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking_core.backends.targets import Target, key_of
from tracking_core.base.files import replace_file, write_exclusively
from tracking_core.base.json_text import dump_json, read_json
from tracking_core.base.processes import owner_of
from tracking_core.base.regular import SMALL, own_folder
from tracking_core.delivery.described import described, run_info
from tracking_core.delivery.lease import Lease
from tracking_core.errors import TrackingError

if TYPE_CHECKING:
    from tracking_core.backends.plugins import Adapter

FOLDER, ENDING = "cursors", ".place"


def cursor_key(directory: Path, target: Target, *, ask: bool = False) -> str:
    """The key of the cursor and the lease of a target in a run.

    Args:
        directory: The run directory.
        target: The target, however it is written.
        ask: Whether to ask the adapter, if the run does not know the place yet. An adapter that fails is ignored.
    """
    place = _kept(_file(directory, target))
    if place is None and ask:
        place = _asked(directory, target)
    return target.key if place is None else key_of(target.name, place)


def cursor_path(directory: Path, target: Target, *, ask: bool = False) -> Path:
    """Path of the cursor of a target; the file need not be there."""
    path = directory / FOLDER / f"{cursor_key(directory, target, ask=ask)}.json"
    before = path.with_name(f"{target.key}.json")
    # Renamed when the target is opened.
    return before if before != path and before.is_file() and not path.is_file() else path


def cursor_paths(directory: Path) -> list[Path]:
    """The cursors of a run, one for each place."""
    found = {path.stem: path for path in sorted((directory / FOLDER).glob("[!.]*.json"))}
    for path in (directory / FOLDER).glob(f"[!.]*{ENDING}"):
        place = _kept(path)
        key = path.stem if place is None else key_of(path.stem.rpartition("-")[0], place)
        # Two ways to write a place may both have an old cursor; one of them is used.
        if key != path.stem and key in found:
            found.pop(path.stem, None)
    return list(found.values())


def owner(directory: Path, target: Target, *, ask: bool = False) -> int | None:
    """The process that delivers to a target now; None when none does."""
    for key in {cursor_key(directory, target, ask=ask): None, target.key: None}:
        found = owner_of(directory / FOLDER / f"{key}.lease")
        if found is not None:
            return found
    return None


def expected_key(target: Target, adapter: Adapter, facts: Mapping[str, Any], directory: Path) -> str:
    """As `cursor_key`, for a run that may not be there yet.

    Args:
        target: The target.
        adapter: Its adapter.
        facts: What the `run.json` of the run will say.
        directory: Where the run will be, or is.

    Raises:
        BrokenAdapterError: The adapter failed to say where.
    """
    place = _kept(_file(directory, target))
    if place is None and adapter.names_places:
        place = adapter.place(target, run_info(facts, directory))
    return target.key if place is None else key_of(target.name, place)


def distinct(directory: Path, targets: list[Target]) -> tuple[list[Target], list[Target]]:
    """The first target that leads to each place, and the others whose filters differ from it."""
    found: dict[str, Target] = {}
    other: list[Target] = []
    for target in targets:
        first = found.setdefault(cursor_key(directory, target, ask=True), target)
        if first.filters != target.filters:
            other.append(target)
    return list(found.values()), other


def take_lease(directory: Path, target: Target, adapter: Adapter, label: str) -> Lease:
    """Take the lease of a target. From then on `cursor_path` is the cursor to go on from.

    Args:
        directory: The run directory.
        target: The target.
        adapter: Its adapter.
        label: Name of the target, for messages.

    Raises:
        LeaseHeldError: A living worker delivers to it.
        BrokenAdapterError: The adapter failed to say where.
        OddFileError: `cursors` is a link.
        OSError: The run directory cannot be written.
    """
    own_folder(directory / FOLDER)
    _settle(directory, target, adapter)
    key = cursor_key(directory, target)
    lease = Lease(directory, key, label)
    try:
        _take_over(directory / FOLDER / f"{target.key}.json", directory / FOLDER / f"{key}.json", label)
    except BaseException:
        lease.release()
        raise
    return lease


def _settle(directory: Path, target: Target, adapter: Adapter) -> None:
    """Write down what the adapter says; of several processes the first one counts."""
    path = _file(directory, target)
    if not adapter.names_places or _kept(path) is not None:
        return
    place = adapter.place(target, described(directory))
    content = dump_json({"v": 1, "target": str(target.bare), "place": place})
    own_folder(path.parent)
    if not write_exclusively(path, content) and _kept(path) is None:
        # The file is damaged.
        replace_file(path, content)


def _take_over(before: Path, now: Path, label: str) -> None:
    """Rename the cursor of a target to that of its place.

    Its lease is taken meanwhile: an older version, which knows no places, may be about to write it.
    """
    if before == now:
        return
    lease = Lease(before.parent.parent, before.stem, label)
    try:
        if before.is_file() and not now.is_file():
            before.rename(now)
    finally:
        lease.release()


def _file(directory: Path, target: Target) -> Path:
    return directory / FOLDER / f"{target.key}{ENDING}"


def _kept(path: Path) -> str | None:
    """The place that a file names; None when there is no such file, or it cannot be read."""
    try:
        place = read_json(path, SMALL)["place"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return place if isinstance(place, str) and place else None


def _asked(directory: Path, target: Target) -> str | None:
    from tracking_core.backends.plugins import find_adapter

    try:
        adapter = find_adapter(target.name)
        return adapter.place(target, described(directory)) if adapter.names_places else None
    except TrackingError:
        # Opening the target reports what is wrong.
        return None
