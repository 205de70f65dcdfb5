"""Where a run begins: at its start, after an earlier step of its own, or with the history of another run."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tracking_core.base.redaction import redact_name
from tracking_core.errors import RunExistsError, SettingsError, StoreError
from tracking_core.layout.runs import RUN_FILE, create_run, find_run, read_run

if TYPE_CHECKING:
    from tracking_core.journal import JournalWriter

_STEP_LIMIT = 1 << 63
DRAIN = 10.0
"""Seconds that a file system which holds up appends has for the first line."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What `resume_step` and `fork_from` ask for.

    Args:
        back: (axis, step) to go on from; None goes on after everything.
        fork: (run id, axis, step) of another run to begin with; None begins empty.
        elsewhere: Whether another process puts it into the store, and this one only goes on after it.
    """

    back: tuple[str, int] | None = None
    fork: tuple[str, str, int] | None = None
    elsewhere: bool = False

    @classmethod
    def check(cls, resume_step: Any, fork_from: Any, resume: str, run_id: str | None) -> Origin:
        """Check the two arguments of `start_run`.

        Raises:
            SettingsError: One is of the wrong form, or does not fit the others.
        """
        back = fork = None
        if resume_step is not None:
            if resume == "never" or run_id is None:
                raise SettingsError(
                    "start_run: resume_step continues an existing run: pass its run_id, and resume='must' or 'allow'"
                )
            parts = _parts(resume_step) or ("step", resume_step)
            back = _axis_and_step("resume_step", parts, resume_step)
        if fork_from is not None:
            parts = _parts(fork_from)
            if parts is None or len(parts) not in {2, 3} or not isinstance(parts[0], str):
                raise SettingsError(
                    f"start_run: fork_from is (run id, step) or (run id, axis, step), got {fork_from!r:.80}"
                )
            if parts[0] == run_id:
                raise SettingsError(
                    f"start_run: the run {run_id!r} cannot be forked from itself; resume_step goes back to a step of it"
                )
            rest = parts[1:] if len(parts) == 3 else ("step", parts[1])
            fork = (parts[0], *_axis_and_step("fork_from", rest, fork_from))
        return cls(back, fork)

    def create(self, root: Path, directory: Path, facts: Mapping[str, Any]) -> Mapping[str, Any]:
        """Create a run; one that is forked appears with all of its history, or not at all.

        Args:
            root: The root that the run to fork from is under.
            directory: The directory of the run.
            facts: What its `run.json` says.

        Returns:
            What it says now: of a fork, the configuration is that of the other run, changed by its own.

        Raises:
            RunExistsError: There is a run already.
            RunNotFoundError: There is none to fork from.
            StoreError: That cannot be read.
            OSError: The place cannot be written.
        """
        if self.fork is None or self.elsewhere or (directory / RUN_FILE).is_file():
            create_run(directory, facts)
            return facts
        from tracking_core.layout.staging import publish, staging
        from tracking_core.runs.fork import inherit

        other, axis, step = self.fork
        axis = redact_name(axis)
        parent = find_run(root, other)
        with staging(directory.parent.parent) as place:
            child = place / directory.name
            facts = {**facts, **inherit(parent, child, facts["config"], axis=axis, step=step)}
            create_run(child, facts)
            if not publish(child, directory, durable=False):
                raise RunExistsError(
                    f"the run {directory.name!r} was started by another process at the same time: start it again"
                )
        return facts

    def go_back(self, directory: Path, run_id: str, note: Callable[[str, str], None]) -> JournalWriter:
        """Open the journal of a run that is continued, and say in it what is superseded.

        Args:
            directory: Its directory.
            run_id: Its id.
            note: Called with (reason, message) for what may not be meant so.

        Raises:
            StoreError: The run cannot be read.
            OSError: The journal cannot be written.
        """
        from tracking_core.journal import JournalWriter, Superseded
        from tracking_core.journal.liveness import lives_here

        if self.back is None or self.elsewhere:
            return JournalWriter(directory, run_id)
        from tracking_core.journal.finding import EventFinder
        from tracking_core.runs.truncate import find_truncation

        superseded = Superseded(directory, read_run(directory).get("forks", ()))
        axis, step = redact_name(self.back[0]), self.back[1]
        truncation, axes = find_truncation(directory, axis, step, superseded, by="?")
        if axes and axis not in axes:
            note(
                "resume_step",
                f"nothing is superseded: the run has logged nothing on the axis {axis!r}, only on "
                f"{', '.join(map(repr, sorted(axes)))}",
            )
        finder = EventFinder(directory)
        for writer in truncation.cuts:
            if lives_here(directory, writer) and finder.finish(writer) is None:
                note(
                    "resume_step",
                    f"another process of this machine still writes to the run (writer {writer}): its new "
                    "records count as well as those of this process",
                )
        journal = JournalWriter(directory, run_id)
        # The first event of its writer, so that whoever reads the run finds it without reading everything.
        written = journal.append("truncate", truncation.fields())
        if not (written and journal.drain(DRAIN)):
            journal.close()
            raise OSError(f"{journal.path}: the truncation of resume_step could not be written")
        return journal

    def next_steps(
        self, directory: Path, own: str, on_error: Callable[[StoreError], None], *, created: bool
    ) -> dict[str, int]:
        """Axis → the step that comes next, where none is given.

        A run that is continued goes on behind what its earlier sessions hold. Who joins a run that goes on counts for
        itself.

        Args:
            directory: The directory of the run.
            own: The writer of this process.
            on_error: Called with why some of what the run holds cannot be read.
            created: Whether this process has just created the run.

        Raises:
            StoreError: The run cannot be read.
            OSError: The same.
        """
        known: dict[str, int] = {}
        if self.fork is not None and (created or self.elsewhere):
            known[self.fork[1]] = self.fork[2]
        if self.back is not None:
            known[self.back[0]] = self.back[1]
        found: dict[str, int] = {}
        if not self.elsewhere and not (created and self.fork is None):
            from tracking_core.runs.continuing import goes_on, last_steps

            if created or not goes_on(directory, own):
                forks = read_run(directory).get("forks", ())
                found = last_steps(directory, forks, known, on_error=on_error)
        return {
            **{axis: step + 1 for axis, step in found.items() if step >= 0},
            **{axis: step + 1 for axis, step in known.items()},
        }


def _parts(value: Any) -> tuple[Any, ...] | None:
    return tuple(cast("tuple[Any, ...]", value)) if isinstance(value, (tuple, list)) else None


def _axis_and_step(argument: str, parts: tuple[Any, ...], given: Any) -> tuple[str, int]:
    if len(parts) == 2 and isinstance(parts[0], str) and not isinstance(parts[1], bool):
        try:
            step = operator.index(parts[1])
        except TypeError:
            step = None
        if step is not None and parts[0] and -_STEP_LIMIT <= step < _STEP_LIMIT - 1:
            return parts[0], step
    raise SettingsError(f"start_run: {argument} needs a step as a 64-bit integer, got {given!r:.80}")
