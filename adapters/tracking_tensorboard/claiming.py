"""Which directory of the log directory a run has: its name, as long as no other run has that.

A directory is claimed by making it, which only one of several processes can. It belongs to the run whose mark is in its
event files (`own_files`); a run finds its directory again by that, and by its state. Where a run is recorded in both
layouts, each has a directory of its own.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tracking_core import SettingsError
from tracking_tensorboard.location import name_with_id, short_name
from tracking_tensorboard.own_files import is_folder, is_name, layout_of

if TYPE_CHECKING:
    from tracking_core import RunInfo


def claim(root: str, run: RunInfo, layout: str, before: list[str]) -> str:
    """Make the directory of a run, or find it.

    Args:
        root: The log directory.
        run: The run.
        layout: How its tags are distributed.
        before: Event files of the run as states name them, the latest first: it keeps its directory.

    Returns:
        Its name in the log directory.

    Raises:
        SettingsError: The directory that the run has is a link.
        OSError: It cannot be made.
    """
    Path(root).mkdir(parents=True, exist_ok=True)
    for file in before:
        folder, _, leaf = file.partition("/")
        leaf = leaf.rpartition("/")[2]
        if is_folder(folder) and is_name(leaf):
            place = Path(root, folder)
            if _make(place) or _is_ours(_not_a_link(place), run, layout) or (place.is_dir() and _is_free(place)):
                return folder
    short = short_name(run)
    if short is not None:
        place = Path(root, short)
        if _make(place) or (not place.is_symlink() and _is_ours(place, run, layout)):
            return short
    for folder in _with_id(run):
        place = Path(root, folder)
        # With the id in its name it is the run's, if there is nothing in it.
        if _make(place) or _is_ours(_not_a_link(place), run, layout) or _is_free(place):
            return folder
    raise AssertionError("unreachable")


def sub_runs(place: Path) -> list[Path]:
    """The directories of sub-runs in that of a run."""
    with os.scandir(place) as entries:
        found = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    return [place / name for name in found if is_folder(name)]


def _make(place: Path) -> bool:
    try:
        place.mkdir()
    except FileExistsError:
        return False
    return True


def _with_id(run: RunInfo) -> Iterator[str]:
    name = name_with_id(run)
    return itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))


def _not_a_link(place: Path) -> Path:
    if place.is_symlink():
        raise SettingsError(
            f"tensorboard: {place} is a link, and runs are not written through links: remove it, or name the "
            "directory that it leads to, as in tensorboard:DIRECTORY"
        )
    return place


def _is_ours(place: Path, run: RunInfo, layout: str) -> bool:
    return any(layout_of(file, run.id) == layout for file in event_files(place))


def _is_free(place: Path) -> bool:
    """Whether there is nothing that TensorBoard would show of anybody else: what was there was deleted or emptied."""
    return not any(map(_has_content, event_files(place)))


def _has_content(file: Path) -> bool:
    facts = file.lstat()
    return not stat.S_ISREG(facts.st_mode) or facts.st_size > 0


def event_files(folder: Path) -> list[Path]:
    """What TensorBoard takes for event files in a directory; nothing where there is no directory."""
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / entry.name for entry in entries if "tfevents" in entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
