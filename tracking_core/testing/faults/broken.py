"""Adapters that are broken on purpose, each in one narrow way that one check of the contract is there to find.

Each is a class that holds the hooks: `harness.plugin()` returns it, and `faults.harness(faults.Drops)` is a harness
around it. `fails` names the check.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import random
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

import numpy as np

from tracking_core.backends.hooks import AdapterInfo, RunInfo, hookimpl
from tracking_core.testing.faults.lines import Honest, LinesTracker
from tracking_core.values import to_scalars

if TYPE_CHECKING:
    from tracking_core.values import Image


class _DropsTracker(LinesTracker):
    calls = 0

    def _write_scalars(self, lines: list[dict[str, Any]]) -> None:
        self.calls += 1
        if self.calls % 200:
            super()._write_scalars(lines)


class Drops(Honest):
    """Loses every 200th call, as a queue does that overflows."""

    fails = "scalars.nothing_dropped"
    tracker = _DropsTracker


class _DuplicatesTracker(LinesTracker):
    calls = 0

    def _write_scalars(self, lines: list[dict[str, Any]]) -> None:
        self.calls += 1
        super()._write_scalars(lines if self.calls % 40 else lines * 2)


class Duplicates(Honest):
    """Writes every 40th call twice, as a retry does that was not needed."""

    fails = "scalars.nothing_duplicated"
    tracker = _DuplicatesTracker


class _ReordersTracker(LinesTracker):
    _held: list[dict[str, Any]] | None = None

    def _write_scalars(self, lines: list[dict[str, Any]]) -> None:
        held, self._held = self._held, None
        if held is None:
            self._held = lines
        else:
            super()._write_scalars(lines + held)

    def finish(self, status: str = "finished", *, error: str | None = None) -> None:
        if self._held is not None and self._file is not None:
            super()._write_scalars(self._held)
        super().finish(status, error=error)


class Reorders(Honest):
    """Writes calls in pairs, the second one first, as two threads may."""

    fails = "steps.order_kept"
    tracker = _ReordersTracker


class _RoundsTracker(LinesTracker):
    def _write_scalars(self, lines: list[dict[str, Any]]) -> None:
        with np.errstate(over="ignore"):
            super()._write_scalars([{**line, "value": repr(float(np.float32(line["value"])))} for line in lines])


class RoundsToFloat32(Honest):
    """Rounds numbers to 32 bits, and does not say so."""

    fails = "scalars.precision_as_declared"
    tracker = _RoundsTracker


class _BlocksTracker(LinesTracker):
    calls = 0

    def _write_scalars(self, lines: list[dict[str, Any]]) -> None:
        self.calls += 1
        if self.calls > 300 and not Blocks.released.is_set():
            Blocks.released.wait(Blocks.seconds)
            Blocks.released.set()
        super()._write_scalars(lines)


class Blocks(Honest):
    """Waits in the 301st call, as a client does whose queue is full and whose server is gone: for 10 s at most."""

    fails = "faults.returns_in_time"
    tracker = _BlocksTracker
    call_limit = 1.0
    seconds = 10.0
    released: ClassVar[threading.Event] = threading.Event()
    """Ends the wait; `faults.harness` makes a new one."""


class ImportsEagerly(Honest):
    """Imports what it requires as soon as it is asked what it is."""

    fails = "discovery.imports_lazily"

    @hookimpl
    @classmethod
    def tracking_adapter(cls) -> AdapterInfo:
        """What this adapter is."""
        info = super().tracking_adapter()
        for module in info.requires:
            importlib.import_module(module)
        return info

    @classmethod
    def _requires(cls) -> tuple[str, ...]:
        # Some module of the standard library that nothing else here imports.
        return ("mailbox",)


class _MutatesTracker(LinesTracker):
    def log_histogram(self, name: str, values: Any, **keywords: Any) -> None:
        super().log_histogram(name, values, **keywords)
        if isinstance(values, np.ndarray) and values.ndim:
            values.sort()


class MutatesInputs(Honest):
    """Sorts the caller's array on its way to a histogram."""

    fails = "hygiene.inputs_not_mutated"
    tracker = _MutatesTracker


class _IgnoresAxesTracker(LinesTracker):
    def _write_scalars(self, lines: list[dict[str, Any]]) -> None:
        super()._write_scalars([{**line, "axis": "step"} for line in lines])


class IgnoresAxes(Honest):
    """Stores every scalar on the axis "step"."""

    fails = "steps.axes_kept"
    tracker = _IgnoresAxesTracker


class _LosesNaNTracker(LinesTracker):
    def _write_scalars(self, lines: list[dict[str, Any]]) -> None:
        super()._write_scalars([line for line in lines if math.isfinite(float(line["value"]))])


class LosesNaN(Honest):
    """Leaves out numbers that JSON does not know."""

    fails = "scalars.nonfinite_kept"
    tracker = _LosesNaNTracker


class _IgnoresWallTimeTracker(LinesTracker):
    def _write_scalars(self, lines: list[dict[str, Any]]) -> None:
        super()._write_scalars([{**line, "time": time.time()} for line in lines])


class IgnoresWallTime(Honest):
    """Stores the moment of delivery in place of the moment of the record."""

    fails = "scalars.wall_time_kept"
    tracker = _IgnoresWallTimeTracker


class _MixesRunsTracker(LinesTracker):
    newest: ClassVar[LinesTracker | None] = None

    def __init__(self, path: Path, run: RunInfo) -> None:
        super().__init__(path, run)
        _MixesRunsTracker.newest = self

    def _write_scalars(self, lines: list[dict[str, Any]]) -> None:
        newest = _MixesRunsTracker.newest
        usable = newest is not None and newest._file is not None  # noqa: SLF001 - of the same class
        LinesTracker._write_scalars(newest if newest is not None and usable else self, lines)  # noqa: SLF001


class MixesRuns(Honest):
    """Writes to whichever run was opened last, as clients do that have a current run."""

    fails = "lifecycle.runs_do_not_mix"
    tracker = _MixesRunsTracker


class _KeepsReferencesTracker(LinesTracker):
    def __init__(self, path: Path, run: RunInfo) -> None:
        self._later: list[tuple[dict[str, Any], Image]] = []
        super().__init__(path, run)

    def _write_image(self, line: dict[str, Any], image: Image) -> None:
        self._later.append((line, image))

    def finish(self, status: str = "finished", *, error: str | None = None) -> None:
        for line, image in self._later:
            super()._write_image(line, image)
        self._later.clear()
        super().finish(status, error=error)


class KeepsReferences(Honest):
    """Encodes images only when the run is finished."""

    fails = "hygiene.inputs_copied"
    tracker = _KeepsReferencesTracker


class _ForgetsTracker(LinesTracker):
    def __init__(self, path: Path, run: RunInfo) -> None:
        run.state["parts"] = self._parts = run.state.get("parts", 0) + 1
        super().__init__(path, run)

    def _opened(self, *, resumed: bool) -> TextIO:
        if self._parts > 2:
            self._path.unlink()
        return super()._opened(resumed=resumed)


class ForgetsOnResume(Honest):
    """Begins a new file when a run is opened for the third time."""

    fails = "resume.both_parts_kept"
    tracker = _ForgetsTracker


class KeepsSuperseded(Honest):
    """Says that it records a run anew, and adds to what is there."""

    fails = "resume.recorded_anew"

    @classmethod
    def _put_aside(cls, path: Path) -> None:
        pass


class _SwallowsTracker(LinesTracker):
    def log_scalars(self, scalars: Mapping[str, Any], **keywords: Any) -> None:
        super().log_scalars(to_scalars(scalars, lambda _name, _error: None), **keywords)


class SwallowsBadValues(Honest):
    """Leaves out what is no number, without a word."""

    fails = "faults.bad_scalar_raises"
    tracker = _SwallowsTracker


class _ReseedsTracker(LinesTracker):
    def __init__(self, path: Path, run: RunInfo) -> None:
        super().__init__(path, run)
        random.seed(0)


class Reseeds(Honest):
    """Seeds the random numbers of the process."""

    fails = "hygiene.global_state_untouched"
    tracker = _ReseedsTracker


class _LeavesThreadsTracker(LinesTracker):
    def finish(self, status: str = "finished", *, error: str | None = None) -> None:
        super().finish(status, error=error)
        # It ends by itself, so that whoever tests with it ends too.
        threading.Thread(target=threading.Event().wait, args=(LeavesThreads.seconds,), daemon=False).start()


class LeavesThreads(Honest):
    """Leaves a thread behind that keeps the process alive: for 3 s at most."""

    fails = "hygiene.no_threads_left"
    tracker = _LeavesThreadsTracker
    call_limit = 1.0
    seconds = 3.0


class _LeaksFilesTracker(LinesTracker):
    def __init__(self, path: Path, run: RunInfo) -> None:
        super().__init__(path, run)
        LeaksFiles.left.append(os.open(path, os.O_RDONLY))


class LeaksFiles(Honest):
    """Leaves a file open in every run; `close` closes them."""

    fails = "hygiene.no_files_left_open"
    tracker = _LeaksFilesTracker
    call_limit = 1.0
    left: ClassVar[list[int]] = []

    @classmethod
    def close(cls) -> None:
        """Close what was left open."""
        while cls.left:
            with contextlib.suppress(OSError):
                os.close(cls.left.pop())


BROKEN: tuple[type[Honest], ...] = (
    Drops,
    Duplicates,
    Reorders,
    RoundsToFloat32,
    Blocks,
    ImportsEagerly,
    MutatesInputs,
    IgnoresAxes,
    LosesNaN,
    IgnoresWallTime,
    MixesRuns,
    KeepsReferences,
    ForgetsOnResume,
    KeepsSuperseded,
    SwallowsBadValues,
    Reseeds,
    LeavesThreads,
    LeaksFiles,
)
"""Every broken adapter."""
