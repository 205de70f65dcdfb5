"""Finding the runs that somebody names on the command line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tracking_core.cli.removal import tombstone_of
from tracking_core.errors import RunNotFoundError, StoreError
from tracking_core.layout import is_run, project_directories, read_run
from tracking_core.naming import printable
from tracking_core.settings import did_you_mean
from tracking_core.store import RunRecord, Store, open_store

_SHOWN = 5


def choose(text: str, root: str | None) -> RunRecord:
    """The run that a text names.

    Args:
        text: Its id, its name, or the beginning of its id, looked for in this order; "PROJECT/…" before it looks in
            one project alone. Only one run may fit.
        root: Root of the store; None takes what is set.

    Raises:
        RunNotFoundError: None fits, or several do.
    """
    return choose_in(open_store(root), text)


def choose_all(texts: Sequence[str], root: str | None) -> list[RunRecord]:
    """The runs that texts name, each once, in that order; see `choose`."""
    store = open_store(root)
    found = {record.dir: record for record in (choose_in(store, text) for text in texts)}
    return list(found.values())


def choose_in(store: Store, text: str) -> RunRecord:
    """As `choose`, in a store that is open."""
    places = list(_places(store.root))
    same = [place for place in places if place.name == text]
    if len(same) == 1:
        return RunRecord(same[0])
    facts = {place: known for place in places if (known := _facts(place)) is not None}
    ids: dict[Path, tuple[str, ...]] = {place: (place.name,) for place in places}
    for place, (run_id, _, project) in facts.items():
        # What holds a "/" cannot be an id.
        ids[place] = (run_id, f"{project}/{run_id}")
    # As it is shown as well: what holds control characters cannot be typed.
    names = {place: (name, f"{project}/{name}", printable(name)) for place, (_, name, project) in facts.items()}
    for fits in (
        [place for place, found in ids.items() if text in found],
        [place for place, found in names.items() if text in found],
        [place for place, found in ids.items() if text and any(one.startswith(text) for one in found)],
    ):
        if len(fits) == 1:
            return RunRecord(fits[0])
        if fits:
            raise RunNotFoundError(_ambiguous(text, fits))
    raise RunNotFoundError(_unknown(store.root, text, facts.values()))


def completions(root: str | None, beginning: str) -> Iterable[tuple[str, str]]:
    """(id, name) of the runs whose id begins so, the newest first."""
    places = [place for place in _places(open_store(root).root) if place.name.startswith(beginning)]
    for place in sorted(places, key=lambda place: place.name, reverse=True)[:100]:
        facts = _facts(place)
        yield place.name, printable(facts[1]) if facts is not None else ""


def _places(root: Path) -> Iterator[Path]:
    for project in project_directories(root):
        try:
            names = sorted(entry.name for entry in os.scandir(project) if not entry.name.startswith("."))
        except OSError:
            continue
        yield from (project / name for name in names if is_run(project / name))


def _facts(place: Path) -> tuple[str, str, str] | None:
    try:
        facts = read_run(place)
    except StoreError:
        return None
    return place.name, facts["name"], facts["project"]


def _ambiguous(text: str, fits: Sequence[Path]) -> str:
    shown = ", ".join(f"{place.parent.name}/{place.name}" for place in fits[:_SHOWN])
    more = f" and {len(fits) - _SHOWN} more" if len(fits) > _SHOWN else ""
    return f"{printable(repr(text))} fits {len(fits)} runs: {shown}{more}: name one by its id, or as PROJECT/ID"


def _unknown(root: Path, text: str, facts: Iterable[tuple[str, str, str]]) -> str:
    removed = tombstone_of(root, text)
    if removed is not None:
        return f"the run {printable(repr(text))} was removed: see {removed}"
    known = [part for run_id, name, _ in facts for part in (run_id, name)]
    hint = did_you_mean(text, known) if known else ": there are no runs; --root names another store"
    return f"there is no run {printable(repr(text))} under {root}{hint}"
