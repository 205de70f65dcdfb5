"""Work that may hang: a server, a mount, or a module that never returns."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

TIMEOUT = 8.0
"""Seconds that one check may take."""

_stuck: list[threading.Thread] = []


def bounded(work: Callable[[], T], seconds: float = TIMEOUT) -> T:
    """Do something on a thread, and wait for it only so long.

    Args:
        work: What to do. When it does not return in time it is left alone, on a thread that keeps no process alive.
        seconds: How long to wait.

    Returns:
        What `work` returned.

    Raises:
        TimeoutError: It has not returned in time.
        BaseException: Whatever `work` raised.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again on the thread that asked
            errors.append(error)

    thread = threading.Thread(target=run, name="tracking-check", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        _stuck.append(thread)
        raise TimeoutError(f"no answer within {seconds:g} s")
    return results[0]


def stuck() -> bool:
    """Whether something that was not waited for still runs."""
    return any(thread.is_alive() for thread in _stuck)
