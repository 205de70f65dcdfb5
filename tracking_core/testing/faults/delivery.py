"""Trackers that fail while records are delivered to them, each in one way; what gets through is recorded.

Each is a `FakeTracker`, so that a test can ask what arrived:

```python
from tracking_core.testing import faults

tracker = faults.RetriesThenWorks(2)
deliver(records, tracker)
assert tracker.scalars["loss"] == [(0, 0.5)]
```
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tracking_core.errors import Rejected, RetryLater
from tracking_core.testing.fake.tracker import FakeTracker

if TYPE_CHECKING:
    from tracking_core.testing.fake.records import Call


class Interruption(BaseException):
    """Raised by `RaisesBaseException`: no subclass of Exception, and none that ends an interpreter."""


class _Failing(FakeTracker):
    """Counts what it is asked, and fails in `_fail`.

    Args:
        methods: Names of the methods that fail; None is every method but `finish`.
    """

    def __init__(self, methods: Iterable[str] | None = None) -> None:
        super().__init__()
        self.attempts = 0
        """How many calls were made that may fail, those that failed included."""
        self._methods = None if methods is None else frozenset(methods)

    def _before(self, call: Call) -> None:
        if call.method in self._methods if self._methods is not None else call.method != "finish":
            self.attempts += 1
            self._fail(call)

    def _fail(self, call: Call) -> None:
        raise NotImplementedError


class Raises(_Failing):
    """Raises an ordinary error.

    Args:
        error: Makes the error; None makes a `RuntimeError`.
        methods: Names of the methods that fail; None is every method but `finish`.
    """

    def __init__(self, error: Callable[[], Exception] | None = None, methods: Iterable[str] | None = None) -> None:
        super().__init__(methods)
        self._error = error or (lambda: RuntimeError("the backend is broken"))

    def _fail(self, call: Call) -> None:
        del call
        raise self._error()


class RaisesBaseException(_Failing):
    """Raises what `except Exception` does not catch.

    Args:
        error: Makes the error; None makes an `Interruption`. `SystemExit` is another candidate.
        methods: Names of the methods that fail; None is every method but `finish`.
    """

    def __init__(self, error: Callable[[], BaseException] | None = None, methods: Iterable[str] | None = None) -> None:
        super().__init__(methods)
        self._error = error or (lambda: Interruption("the backend gave up"))

    def _fail(self, call: Call) -> None:
        del call
        raise self._error()


class Slow(_Failing):
    """Takes its time over every call.

    Args:
        seconds: How long each takes.
        methods: Names of the methods that are slow; None is every method but `finish`.
    """

    def __init__(self, seconds: float = 0.05, methods: Iterable[str] | None = None) -> None:
        super().__init__(methods)
        self.seconds = seconds

    def _fail(self, call: Call) -> None:
        del call
        threading.Event().wait(self.seconds)


class Hangs(_Failing):
    """Does not return until it is released, and then records the call.

    Args:
        seconds: After which it gives up waiting, so that no test hangs for ever.
        methods: Names of the methods that hang; None is every method but `finish`.
    """

    def __init__(self, seconds: float = 60.0, methods: Iterable[str] | None = None) -> None:
        super().__init__(methods)
        self.seconds = seconds
        self.entered = threading.Event()
        """Set when a call hangs."""
        self.released = threading.Event()
        """Set it to let every call through."""

    def release(self) -> None:
        """Let every call through, now and later."""
        self.released.set()

    def _fail(self, call: Call) -> None:
        del call
        self.entered.set()
        self.released.wait(self.seconds)


class RetriesThenWorks(_Failing):
    """Asks to retry later some times, and then works.

    Args:
        times: How many calls are refused.
        after: What `RetryLater` says of when to come again, in seconds.
        methods: Names of the methods that refuse; None is every method but `finish`.
    """

    def __init__(self, times: int = 1, *, after: float | None = 0.0, methods: Iterable[str] | None = None) -> None:
        super().__init__(methods)
        self.times = times
        self.after = after

    def _fail(self, call: Call) -> None:
        if self.attempts <= self.times:
            raise RetryLater(f"{call.method}: busy, attempt {self.attempts} of {self.times}", after=self.after)


class Rejects(_Failing):
    """Refuses records for good: all, or those with one of some names; the others are recorded.

    Args:
        names: The names that are refused; None refuses all.
        methods: Names of the methods that refuse; None is every method but `finish`.
    """

    def __init__(self, names: Iterable[str] | None = None, methods: Iterable[str] | None = None) -> None:
        super().__init__(methods)
        self._names = None if names is None else frozenset(names)

    def _fail(self, call: Call) -> None:
        refused = [name for name in call.names if self._names is None or name in self._names]
        if refused or self._names is None:
            raise Rejected("the backend does not take it", key=refused[0] if refused else None)
