"""Which place at its backend a target leads to, and so which cursor and which lease are its own.

`wandb://team/moons` and `wandb` may be one place, written in two ways: what one was given must not be given again under
the name of the other. Only the adapter knows, and its answer may depend on the environment. So it is asked when a
target is opened for the first time, and what it says is kept in the run, for each way of writing the target:

```
cursors/<adapter>-<hash of the target>.place    {"v": 1, "target": "wandb", "place": "wandb://team/moons"}
cursors/<adapter>-<hash of the place>.json      the cursor, and beside it the lease
```

An adapter that does not say is taken to mean the target itself: both hashes are the same then, and no file is needed.
So it was for every target once, and so it is before an adapter learns to say more. A cursor that was begun like that
is taken over by the place when the target is opened, under the lease that goes with it.

Whoever only looks reads the files, and asks no adapter unless he has use for one anyway.
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
        ask: Whether to ask the adapter where the run does not know yet; one that cannot answer is passed over.
    """
    place = _kept(_file(directory, target))
    if place is None and ask:
        place = _asked(directory, target)
    return target.key if place is None else key_of(target.name, place)


def cursor_path(directory: Path, target: Target, *, ask: bool = False) -> Path:
    """Where the cursor of a target is read; the file need not be there."""
    path = directory / FOLDER / f"{cursor_key(directory, target, ask=ask)}.json"
    before = path.with_name(f"{target.key}.json")
    # Not taken over yet, which happens when the target is opened.
    return before if before != path and before.is_file() and not path.is_file() else path


def cursor_paths(directory: Path) -> list[Path]:
    """The cursors of a run, one for each place."""
    found = {path.stem: path for path in sorted((directory / FOLDER).glob("[!.]*.json"))}
    for path in (directory / FOLDER).glob(f"[!.]*{ENDING}"):
        place = _kept(path)
        key = path.stem if place is None else key_of(path.stem.rpartition("-")[0], place)
        # Of two ways to write a place, each with a cursor from before that was known, one cursor goes on.
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
    """Of several targets the first that leads to each place, and those left out though their filters are others."""
    found: dict[str, Target] = {}
    other: list[Target] = []
    for target in targets:
        first = found.setdefault(cursor_key(directory, target, ask=True), target)
        if first.filters != target.filters:
            other.append(target)
    return list(found.values()), other


def take(directory: Path, target: Target, adapter: Adapter, label: str) -> Lease:
    """Become the one who delivers to a target; from then on `cursor_path` is the cursor to go on from.

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
    """Keep what the adapter says, once: of several processes the first is believed."""
    path = _file(directory, target)
    if not adapter.names_places or _kept(path) is not None:
        return
    place = adapter.place(target, described(directory))
    content = dump_json({"v": 1, "target": str(target.bare), "place": place})
    own_folder(path.parent)
    if not write_exclusively(path, content) and _kept(path) is None:
        # It is damaged.
        replace_file(path, content)


def _take_over(before: Path, now: Path, label: str) -> None:
    """Let the cursor of one way to write a place become that of the place.

    Who delivers with it, and knows of no places, may be about to write the first.
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
    """What a run keeps of a place; None when it does not know, or that cannot be read."""
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
        # What is wrong with it is said when it is opened.
        return None
