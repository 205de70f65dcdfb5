"""Everything tracking-core raises, in one tree.

```
TrackingError
├── SettingsError                  a setting, a target or an argument is wrong (ValueError)
│   └── AdapterError               something about an adapter
│       ├── UnknownAdapterError        no adapter of that name is installed
│       ├── AdapterConflictError       two distributions claim one name
│       ├── AdapterVersionError        built for another version of the adapter API
│       ├── BrokenAdapterError         importing or registering it failed
│       └── MissingDependencyError     it needs a package that is not installed (ImportError)
├── InvalidValueError              a value that cannot be logged (ValueError, TypeError)
│   └── InvalidStepError               a step that is not an integer
├── StoreError                     the run store cannot do what was asked
│   ├── RunNotFoundError               no such run under this root (KeyError)
│   ├── RunExistsError                 the id is taken and resume="never"
│   ├── RunBusyError                   the run is active, or is being delivered, and cannot be removed
│   ├── PlaceTakenError                the file to write already exists
│   ├── NameNotFoundError              the run has no series, image, … of that name (KeyError)
│   ├── LeaseHeldError                 another worker delivers to this target
│   └── JournalError                   a journal line is damaged or of an unknown format
└── DeliveryError                  raised by adapters while records are delivered
    ├── RetryLater                     the failure may be temporary: try this record again
    ├── Rejected                       the failure is permanent: continue without this record
    └── BatchInterrupted               `deliver` delivered the first n records of a batch, then failed
```

Settings errors are raised when a run is started. After that no error reaches the training loop, unless `strict=True` is
set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class TrackingError(Exception):
    """Base of all errors of this package."""


class SettingsError(TrackingError, ValueError):
    """A setting, a target or an argument of `start_run` is wrong; the message says where it came from."""


class AdapterError(SettingsError):
    """An adapter cannot be used."""


class UnknownAdapterError(AdapterError):
    """No installed distribution provides an adapter of that name."""


class AdapterConflictError(AdapterError):
    """Two installed distributions provide an adapter of the same name."""


class AdapterVersionError(AdapterError):
    """The adapter was built for another version of the adapter API."""


class BrokenAdapterError(AdapterError):
    """The adapter's module cannot be imported, or does not have the required hooks."""


class MissingDependencyError(AdapterError, ImportError):
    """A package that is needed for this is not installed; the message has the install command."""


class InvalidValueError(TrackingError, ValueError, TypeError):
    """A value that cannot be logged, or an argument of a query that is of the wrong kind.

    The message names the key or the argument, the type, the shape and the remedy.
    """


class InvalidStepError(InvalidValueError):
    """A step, or a step axis, that cannot be used."""


class StoreError(TrackingError):
    """The run store cannot do what was asked."""


class RunNotFoundError(StoreError, KeyError):
    """This root has no run with that id."""

    def __str__(self) -> str:
        # KeyError would show the repr of the message.
        return str(self.args[0]) if self.args else ""


class RunExistsError(StoreError):
    """The run id is already taken, and `resume="never"`."""


class RunBusyError(StoreError):
    """A run is not removed, because it is in use or its state is unknown.

    Args:
        run_id: The run.
        name: Its name.
        reason: Why, such as "is running".
    """

    def __init__(self, run_id: str, name: str, reason: str) -> None:
        super().__init__(f"run {run_id} ({name}) {reason}; force=True removes it anyway")
        self.run_id = run_id
        self.name = name
        self.reason = reason


class PlaceTakenError(StoreError):
    """A file is not written, because it already exists.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} already exists: force=True replaces it, or name another place")
        self.path = path


class NameNotFoundError(StoreError, KeyError):
    """The run has recorded nothing of that name and kind."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class JournalError(StoreError):
    """A line of a journal is damaged, or its format is newer than this version knows."""


class LeaseHeldError(StoreError):
    """Another living worker delivers to this target of this run."""


class DeliveryError(TrackingError):
    """Base of the errors that an adapter raises on purpose during delivery."""


class RetryLater(DeliveryError):  # noqa: N818 - an instruction to the worker, named for what it asks
    """The backend cannot take this record now, but may later: the worker waits and tries it again.

    Args:
        message: What happened.
        after: Seconds to wait before the next try; None leaves it to the worker's backoff.
    """

    def __init__(self, message: str = "the backend asked to retry later", *, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Rejected(DeliveryError):  # noqa: N818 - an instruction to the worker, named for what it says
    """The backend will never take this record: the worker counts it as failed and continues.

    Args:
        key: The name that was refused, if one in particular was.
        reason: Why.
        record: From `flush` and `finish`, which of the records that were taken before it was: writer and number.
    """

    def __init__(
        self,
        reason: str = "the backend refused the record",
        *,
        key: str | None = None,
        record: tuple[str, int] | None = None,
    ) -> None:
        super().__init__(f"{key}: {reason}" if key else reason)
        self.key = key
        self.reason = reason
        self.record = record


class BatchInterrupted(DeliveryError):  # noqa: N818 - an instruction to the worker, named for what happened
    """Raised by `deliver(records)` from the error that stopped it in the middle of a batch.

    Args:
        taken: How many records from the start of the batch the backend has taken. The worker handles record number
            `taken` by the cause (`__cause__`) and continues after it, so that nothing is sent twice.
    """

    def __init__(self, taken: int) -> None:
        super().__init__(f"the batch was interrupted after {taken} record{'' if taken == 1 else 's'}")
        self.taken = taken
