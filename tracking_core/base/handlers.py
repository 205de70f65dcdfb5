"""Exceptions that signal handlers of the program raise: they are the program's, wherever they happened to come.

A watchdog that raises from its handler for an alarm interrupts whatever the main thread does, a call of ours included.
What is swallowed otherwise must not swallow that.
"""

from __future__ import annotations

import functools
import inspect
import signal
import sys
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

_PACKAGE = __name__.partition(".")[0]


def from_handler(error: BaseException) -> BaseException | None:
    """The exception that an installed signal handler raised, if an error is one, or came of one.

    It is found by the frame of the handler in its traceback, so it takes some 20 µs, and is asked for errors only.

    Args:
        error: What was caught.
    """
    handlers = set(_handlers())
    callers = _callers()
    # Where an error is only made, what it is made of is being handled.
    waiting, seen = [sys.exception(), error], set[int]()
    while handlers and waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        frames = list(_frames(found))
        # What a caller has caught, and handles just now, is over.
        if frames and frames[0] not in callers:
            if any(frame.f_code in handlers for frame in frames):
                return found
            waiting += [found.__context__, found.__cause__]
    return None


def _frames(error: BaseException) -> Iterator[FrameType]:
    """The frames that an exception has come through, the one that caught it first."""
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def _callers() -> set[FrameType]:
    """The frames of this thread from the one on that called into the package."""
    frame, found = inspect.currentframe(), set[FrameType]()
    while frame is not None:
        if found or frame.f_globals.get("__name__", "").partition(".")[0] != _PACKAGE:
            found.add(frame)
        frame = frame.f_back
    return found


def raise_from_handler(error: BaseException) -> None:
    """Raise what an installed signal handler raised, if an error is that, or came of it; otherwise return."""
    trace = error.__traceback__
    alone = error is sys.exception() and error.__context__ is None and error.__cause__ is None
    if alone and (trace is None or trace.tb_next is None):
        # It was raised here, and of nothing else: there is no frame of a handler.
        return
    found = from_handler(error)
    if found is not None:
        raise found


def _handlers() -> Iterator[CodeType]:
    """The code of the handlers that are installed."""
    for number in signal.valid_signals():
        try:
            handler: Any = signal.getsignal(number)
        except (OSError, ValueError):
            continue
        if not callable(handler) or isinstance(handler, signal.Handlers):
            continue
        while isinstance(handler, functools.partial):
            handler = handler.func
        handler = getattr(handler, "__func__", handler)
        # An object that is called runs the method of its class; one of C has no frame.
        of_class = vars(type(handler)).get("__call__")
        code = getattr(handler, "__code__", None) or getattr(of_class, "__code__", None)
        if isinstance(code, CodeType):
            yield code
