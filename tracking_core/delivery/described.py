"""The description of a run that an adapter gets, from the run directory."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracking_core.backends.hooks import RunInfo
from tracking_core.journal import Superseded, unpack
from tracking_core.journal.finding import EventFinder
from tracking_core.layout.runs import read_run
from tracking_core.values.config import merge


def run_info(facts: Mapping[str, Any], directory: Path) -> RunInfo:
    """A run as it was at its start.

    Args:
        facts: Contents of `run.json`, which need not be written yet.
        directory: The run directory.
    """
    return RunInfo(
        id=facts["id"],
        name=facts["name"],
        project=facts["project"],
        config=facts.get("config", {}),
        tags=tuple(facts.get("tags", ())),
        group=facts.get("group"),
        job_type=facts.get("job_type"),
        notes=facts.get("notes"),
        dir=directory,
        environment=facts.get("environment", {}),
        started=facts.get("started", 0.0),
    )


def described(directory: Path) -> RunInfo:
    """A recorded run as it was at its start.

    Raises:
        RunNotFoundError: There is none.
        StoreError: Its `run.json` is damaged, or of a newer format.
    """
    return run_info(read_run(directory), directory)


def current_config(directory: Path, config: Mapping[str, Any], forks: Any = ()) -> dict[str, Any]:
    """The configuration with every change written so far, as `RunRecord.config` has it.

    No scalar is decoded. Nothing is cached: a backend is opened rarely, and a worker lives long.

    Args:
        directory: The run directory.
        config: The configuration that the run was started with.
        forks: The entry `forks` of `run.json`.

    Raises:
        JournalError: A file's format is newer than this version knows, or a truncation cannot be read.
    """
    merged = copy.deepcopy(dict(config))
    finder = EventFinder(directory)
    changes = finder.of("config")
    if changes:
        superseded = Superseded(directory, forks)
        superseded.learn(finder.of("truncate"))
        for event in superseded.living(changes):
            change = unpack(event.fields.get("config"))
            if isinstance(change, Mapping):
                merge(merged, change)
    return merged
