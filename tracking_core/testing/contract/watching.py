"""Running what may hang: in a thread, for a bounded time, with a message that says where it stood."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence

from tracking_core.testing.contract.outcomes import ContractFailure

_POLL = 0.05


class Watched:
    """A function in a daemon thread of its own, as a worker would call it."""

    def __init__(self, function: Callable[[], object], title: str) -> None:
        self._function = function
        self._error: BaseException | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name=title, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._function()
        except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that waits
            self._error = error
        finally:
            self._done.set()

    def wait(self, seconds: float | None) -> bool:
        """Wait until it is over; raises what it raised.

        Returns:
            False when it is still going.
        """
        if not self._done.wait(seconds):
            return False
        if isinstance(self._error, (KeyboardInterrupt, GeneratorExit)):
            # Raised again as it is, it would end whoever runs the checks.
            raise ContractFailure(f"raised {type(self._error).__name__}") from self._error
        if self._error is not None:
            raise self._error
        return True

    def where(self) -> str:
        """Where it stands, as a short traceback."""
        frame = sys._current_frames().get(self._thread.ident or 0)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - documented
        return "" if frame is None else "".join(traceback.format_stack(frame)[-4:])


def run_within(function: Callable[[], object], seconds: float, title: str) -> None:
    """Run a function; raise what it raises, or `ContractFailure` when it takes too long."""
    watched = Watched(function, title)
    if not watched.wait(seconds):
        raise ContractFailure(f"did not end within {seconds:g} s; its stack was:\n{watched.where()}")


def run_calls_within(calls: Sequence[tuple[str, Callable[[], object]]], seconds: float, title: str) -> None:
    """Run calls one after another in one thread; each has so many seconds to return."""
    current: list[tuple[str, float]] = []

    def run_all() -> None:
        for name, call in calls:
            current.append((name, time.monotonic()))
            call()

    watched = Watched(run_all, title)
    while not watched.wait(_POLL):
        name, started = current[-1] if current else ("the start", time.monotonic())
        if time.monotonic() - started > seconds:
            raise ContractFailure(
                f"call {len(current)}, {name}, did not return within {seconds:g} s; its stack was:\n{watched.where()}"
            )
