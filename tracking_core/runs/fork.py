"""Starting a run with the history of another: its files are linked into the new run's directory, not moved.

Sealed segments, parts and media never change, so that both runs may have the same file under two names; what may still
be written to is copied. The child needs nothing of its parent afterwards: either can be removed, moved or packed.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracking_core.base.files import written_aside
from tracking_core.base.regular import end_of_lines, is_regular, open_regular
from tracking_core.base.trees import is_plain_file
from tracking_core.journal import Superseded
from tracking_core.journal.segments import WriterFiles, find_files
from tracking_core.runs.truncate import find_truncation
from tracking_core.store.records import RunRecord
from tracking_core.values.config import merge

_AGAIN = 5
_CHUNK = 1 << 20


def inherit(parent: Path, child: Path, config: Mapping[str, Any], *, axis: str, step: int) -> dict[str, Any]:
    """Give a run that is not there yet the history of another.

    Args:
        parent: The run directory of the other.
        child: The directory of the run that begins.
        config: The configuration it begins with, which goes before that of its parent.
        axis: Name of a step axis.
        step: The last step that it has from its parent.

    Returns:
        What its `run.json` has to say of that, and its configuration.

    Raises:
        RunNotFoundError: There is no parent.
        StoreError: The parent cannot be read.
        OSError: The files cannot be linked or copied.
    """
    record = RunRecord(parent)
    inherited = copy.deepcopy(record.config)
    merge(inherited, config)
    _take_files(parent, child)
    forks = [dict(fork) for fork in record.forks]
    truncation, _ = find_truncation(child, axis, step, Superseded(child, forks), by="")
    own = {"run": record.id, "project": record.project, **truncation.fields()}
    return {"config": inherited, "forks": [*forks, own]}


def _take_files(parent: Path, child: Path) -> None:
    (child / "journal").mkdir(parents=True, exist_ok=True)
    for attempt in range(_AGAIN):
        try:
            for files in find_files(parent).values():
                _take_writer(files, child)
            break
        except FileNotFoundError:
            # Merged into a part since it was listed.
            if attempt == _AGAIN - 1:
                raise
    media = parent / "media"
    # What a link leads to is not of this run.
    if media.is_dir() and not media.is_symlink():
        (child / "media").mkdir(exist_ok=True)
        for name in sorted(os.listdir(media)):  # noqa: PTH208 - a run may have many thousands
            # A link would become a file of the child's own.
            if not name.startswith(".") and is_plain_file(media / name):
                _link(media / name, child / "media" / name)


def _take_writer(files: WriterFiles, child: Path) -> None:
    newest = max(files.segments, default=0)
    for number, path in sorted(files.segments.items()):
        if path.exists() and not is_regular(path):
            # Nothing was written there.
            continue
        place = child / "journal" / path.name
        if number == newest:
            _copy_lines(path, place)
        else:
            _link(path, place)
    for part in files.parts:
        # A part counts when both of its files are there.
        _link(part.events, child / part.events.name)
        _link(part.scalars, child / part.scalars.name)


def _link(source: Path, place: Path) -> None:
    try:
        os.link(source, place)
    except FileExistsError:
        return
    except FileNotFoundError:
        raise
    except OSError:
        # No links on this file system, or not between these two places.
        with written_aside(place) as aside, open_regular(source) as file, aside.open("xb") as out:
            shutil.copyfileobj(file, out, _CHUNK)


def _copy_lines(source: Path, place: Path) -> None:
    """Copy the whole lines of a file that may be written to."""
    with written_aside(place) as aside, open_regular(source) as file, aside.open("xb") as out:
        left = end_of_lines(file)
        file.seek(0)
        while left and (chunk := file.read(min(_CHUNK, left))):
            left -= len(chunk)
            out.write(chunk)
