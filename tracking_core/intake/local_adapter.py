"""The `local` backend as an adapter: the run store, opened directly as a tracker.

Inside a run the journal is the local store, and nothing has to be delivered to it. This is for `open_tracker("local")`,
and for whoever wants the store without a run around it; errors are raised where they happen.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking_core.artifacts import ArtifactStore
from tracking_core.backends.hooks import AdapterInfo, Finding, RunInfo, hookimpl
from tracking_core.environment.machine import identity
from tracking_core.environment.settings import load_settings
from tracking_core.errors import RunExistsError
from tracking_core.intake import Recorder
from tracking_core.journal import JournalWriter
from tracking_core.layout.runs import create_run, run_directory
from tracking_core.protocol import CORE_CAPABILITIES, OPTIONAL_CAPABILITIES

if TYPE_CHECKING:
    from tracking_core.backends.targets import Target


@hookimpl
def tracking_adapter() -> AdapterInfo:
    """What this adapter is."""
    capabilities = (frozenset(CORE_CAPABILITIES) | frozenset(OPTIONAL_CAPABILITIES) | {"resume"}) - {"deliver"}
    return AdapterInfo(
        name="local",
        api_version=1,
        capabilities=capabilities,
        options={},
        guarantee="exactly once: it is the journal itself",
        description="the embedded run store; always on",
    )


@hookimpl
def open_tracker(target: Target, run: RunInfo) -> LocalTracker:
    """Open the store at the target's path."""
    return LocalTracker(_root(target), run)


@hookimpl
def diagnose(target: Target) -> Sequence[Finding]:
    """Whether the root can be written."""
    root = _root(target)
    place = root
    while not place.exists():
        place = place.parent
    if os.access(place, os.W_OK):
        return [Finding("ok", f"{root} can be written")]
    return [Finding("error", f"{root} cannot be written", "set TRACKING_DIR to a directory that can be written")]


@hookimpl
def tracking_harness() -> Any:
    """The harness that the contract suite checks this adapter with."""
    from tracking_core.testing.contract.local import LocalHarness

    return LocalHarness()


class LocalTracker(Recorder):
    """Records into the run store, on the calling thread.

    Args:
        root: Root of the store.
        run: The run; with `resumed`, one of that id that is there already is continued.

    Raises:
        RunExistsError: There is such a run, and it is not to be resumed.
    """

    def __init__(self, root: Path, run: RunInfo) -> None:
        directory = run_directory(root, run.project, run.id)
        facts = {
            "id": run.id,
            "name": run.name,
            "project": run.project,
            "config": dict(run.config),
            "tags": list(run.tags),
            "group": run.group,
            "job_type": run.job_type,
            "notes": run.notes,
            "started": run.started,
            "environment": {**identity(), **run.environment},
        }
        try:
            create_run(directory, facts)
        except RunExistsError:
            if not run.resumed:
                raise
        super().__init__(JournalWriter(directory, run.id), directory, ArtifactStore(root, run.project))
        self.journal.on_error = _raise

    def flush(self) -> None:
        """Make everything durable against loss of power."""
        if not self.journal.closed:
            self.journal.sync()

    def finish(self, status: str = "finished", *, error: str | None = None) -> None:
        """Write the end of the run; a second call does nothing."""
        if not self.journal.closed:
            self.end(status, error)
            self.journal.close()


def _raise(error: OSError) -> None:
    raise error


def _root(target: Target) -> Path:
    if target.path:
        return Path(target.path).expanduser()
    return Path(load_settings().get("dir") or "tracking_runs").expanduser()
