"""Finding the runs that somebody names on the command line."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from tracking_core.base.text import did_you_mean
from tracking_core.environment.settings import load_settings
from tracking_core.errors import RunNotFoundError, StoreError
from tracking_core.layout.runs import is_run, project_directories, read_run, run_places, tombstone_of
from tracking_core.naming import printable
from tracking_core.remote.address import refuse_address
from tracking_core.store import RunRecord, Store, open_store
from tracking_core.store.store import LATEST

_SHOWN = 5
_OFFERED = 100
_PLAIN = re.compile(r"[\w./@%+,=-]+")
"""What no shell takes apart, and no terminal for something else."""


def choose(text: str, root: str | None) -> RunRecord:
    """The run that a text names.

    Args:
        text: Its id, its name, "latest", or the beginning of its id, looked for in this order; "PROJECT/…" before it
            looks in one project alone. Only one run may fit; "latest" is the one that was started last.
        root: Root of the store; None takes it from the settings.

    Raises:
        RunNotFoundError: None fits, or several do.
    """
    return choose_in(open_store(root), text)


def choose_all(texts: Sequence[str], root: str | None) -> list[RunRecord]:
    """The runs that texts name, each once, in that order; see `choose`."""
    return choose_all_in(open_store(root), texts)


def choose_all_in(store: Store, texts: Sequence[str], *, whole: bool = False) -> list[RunRecord]:
    """As `choose_all`, in a store that is open.

    Args:
        store: The store.
        texts: What names the runs.
        whole: Whether only ids and names count, as where runs are removed: neither "latest" nor the beginning of an id.
    """
    store.refresh()
    there = _There(store.root)
    found = dict.fromkeys(_chosen(there, text, whole=whole) for text in texts)
    return [store.record(place) for place in found]


def own_root(root: str | None, verb: str) -> None:
    """See that a store is not a mirror, which nothing is changed in.

    Args:
        root: Root of the store; None takes it from the settings.
        verb: What was to be done.

    Raises:
        SettingsError: It is one.
    """
    refuse_address(
        load_settings().get("dir", root),
        what=f"tracking {verb}",
        remedy="do it where the runs are; in a bucket, use the tools of the cloud",
    )


def choose_in(store: Store, text: str) -> RunRecord:
    """As `choose`, in a store that is open."""
    store.refresh()
    return store.record(_chosen(_There(store.root), text))


class _There:
    """The runs that there are, looked for once, however many are named.

    Args:
        root: Root of the store.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def by_id(self) -> dict[str, list[Path]]:
        """Their directories, by the names of these."""
        found: dict[str, list[Path]] = {}
        for place in _places(self.root):
            found.setdefault(place.name, []).append(place)
        return found

    @cached_property
    def facts(self) -> dict[Path, tuple[str, str, str, float]]:
        """Id, name, project and start of those that can be read."""
        places = (place for same in self.by_id.values() for place in same)
        return {place: known for place in places if (known := _facts(place)) is not None}

    def latest(self, text: str) -> list[Path]:
        """The run that was started last, if a text asks for that: of all, or of one project."""
        project, _, word = text.rpartition("/")
        if word != LATEST:
            return []
        known = [
            (facts[3], place.name, place) for place, facts in self.facts.items() if not project or facts[2] == project
        ]
        return [max(known)[2]] if known else []


def _chosen(there: _There, text: str, *, whole: bool = False) -> Path:
    same = there.by_id.get(text) or _linked(there.root, text)
    if len(same) == 1:
        return same[0]
    facts = there.facts
    places = [place for found in there.by_id.values() for place in found]
    ids: dict[Path, tuple[str, ...]] = {place: (place.name,) for place in places}
    for place, (run_id, _, project, _) in facts.items():
        # What holds a "/" cannot be an id.
        ids[place] = (run_id, f"{project}/{run_id}")
    # As it is shown as well: what holds control characters cannot be typed.
    names = {place: (name, f"{project}/{name}", printable(name)) for place, (_, name, project, _) in facts.items()}
    beginning = [place for place, found in ids.items() if text and any(one.startswith(text) for one in found)]
    for fits in (
        [place for place, found in ids.items() if text in found],
        [place for place, found in names.items() if text in found],
        [] if whole else there.latest(text),
        [] if whole else beginning,
    ):
        if len(fits) == 1:
            return fits[0]
        if fits:
            raise RunNotFoundError(_ambiguous(text, fits))
    if whole and (beginning or there.latest(text)):
        raise RunNotFoundError(
            f"{printable(repr(text))} is neither the id nor the name of a run, and a run is removed by nothing less"
            + (f"; {beginning[0].name} begins so" if len(beginning) == 1 else "")
        )
    raise RunNotFoundError(_unknown(there.root, text, facts.values()))


def all_ids(root: Path) -> list[str]:
    """The ids of all runs under a root."""
    return [name for _, names in run_places(root) for name in names]


def completions(root: str | None, beginning: str) -> Iterable[tuple[str, str]]:
    """(what may be typed, what it is) of the runs whose id or name begins so, ids first and the newest first.

    A name that several runs have is none to choose by, and one that a shell would take apart is not offered.
    """
    places = list(_places(open_store(root).root))
    fitting = [place for place in places if place.name.startswith(beginning)]
    for place in sorted(fitting, key=lambda place: place.name, reverse=True)[:_OFFERED]:
        facts = _facts(place)
        yield place.name, printable(facts[1]) if facts is not None else ""
    if not beginning or fitting:
        # Nobody waits for every run to be opened while typing what may become anything.
        return
    names = Counter(facts[1] for place in places if (facts := _facts(place)) is not None)
    offered = (name for name, count in names.items() if count == 1 and name.startswith(beginning))
    yield from ((name, "name of a run") for name in sorted(filter(_PLAIN.fullmatch, offered))[:_OFFERED])


def scalar_completions(root: str | None, run: str, beginning: str) -> Iterable[tuple[str, str]]:
    """(name, "") of the scalars of a run that begin so."""
    found = (name for name in choose(run, root).scalar_names() if name.startswith(beginning))
    yield from ((name, "") for name in filter(_PLAIN.fullmatch, found))


def _places(root: Path) -> Iterator[Path]:
    for project, names in run_places(root):
        yield from (project / name for name in names if is_run(project / name))


def _linked(root: Path, name: str) -> list[Path]:
    """Links of a name that lead to a run which is listed under its own."""
    if not name or Path(name).name != name:
        return []
    places = (project / name for project in project_directories(root))
    return [place for place in places if os.path.islink(place) and is_run(place)]  # noqa: PTH114 - any text will do


def _facts(place: Path) -> tuple[str, str, str, float] | None:
    try:
        facts = read_run(place)
    except StoreError:
        return None
    return place.name, facts["name"], facts["project"], facts["started"]


def _ambiguous(text: str, fits: Sequence[Path]) -> str:
    shown = ", ".join(f"{place.parent.name}/{place.name}" for place in fits[:_SHOWN])
    more = f" and {len(fits) - _SHOWN} more" if len(fits) > _SHOWN else ""
    return f"{printable(repr(text))} fits {len(fits)} runs: {shown}{more}: name one by its id, or as PROJECT/ID"


def _unknown(root: Path, text: str, facts: Iterable[tuple[str, str, str, float]]) -> str:
    project, slash, run_id = text.rpartition("/")
    removed = tombstone_of(root, run_id, project if slash else None)
    if removed is not None:
        return f"the run {printable(repr(text))} was removed: see {removed}"
    known = [part for run_id, name, _, _ in facts for part in (run_id, name)]
    hint = did_you_mean(text, known) if known else ": there are no runs; --root names another store"
    return f"there is no run {printable(repr(text))} under {root}{hint}"
