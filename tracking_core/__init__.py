"""One `Tracker` protocol for JAX training loops, and whatever records the experiment behind it.

Importing this package is cheap: every name is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracking_core._version import __version__
from tracking_core.base.lazy import load_on_use

if TYPE_CHECKING:
    from tracking_core import errors, fallbacks, naming, testing, values
    from tracking_core.backends.hooks import AdapterInfo, Finding, ForeignRun, RunInfo, hookimpl
    from tracking_core.backends.open_tracker import open_tracker
    from tracking_core.backends.targets import Target
    from tracking_core.base.directories import directory_problem, is_url
    from tracking_core.base.redaction import redact_text
    from tracking_core.delivery.report import DeliveryReport, TargetReport
    from tracking_core.environment.known_servers import knows_server, remember_server
    from tracking_core.errors import (
        AdapterConflictError,
        AdapterError,
        AdapterVersionError,
        BatchInterrupted,
        BrokenAdapterError,
        DeliveryError,
        InvalidStepError,
        InvalidValueError,
        JournalError,
        LeaseHeldError,
        MissingDependencyError,
        NameNotFoundError,
        PlaceTakenError,
        Rejected,
        RetryLater,
        RunBusyError,
        RunExistsError,
        RunNotFoundError,
        SettingsError,
        StoreError,
        TrackingError,
        UnknownAdapterError,
    )
    from tracking_core.fallbacks import log_mixed, replay
    from tracking_core.protocol import (
        API_VERSION,
        ArrayLike,
        ArtifactLike,
        ImageLike,
        ScalarLike,
        SupportsAlerts,
        SupportsArtifactUse,
        SupportsAudio,
        SupportsConfig,
        SupportsDelivery,
        SupportsFigures,
        SupportsFlush,
        SupportsHtml,
        SupportsSummary,
        SupportsTables,
        SupportsText,
        SupportsVideo,
        Tracker,
    )
    from tracking_core.runs.exit import current_run
    from tracking_core.runs.run import Run
    from tracking_core.runs.start import start_run
    from tracking_core.store import Comparison, MetricSummary, RunRecord, Series, Store, open_store
    from tracking_core.transfer import import_runs, pack_run
    from tracking_core.values import (
        ArtifactRef,
        Audio,
        Figure,
        Histogram,
        Html,
        Image,
        Record,
        Stacked,
        Table,
        Text,
        Video,
    )
    from tracking_core.wrappers import NullTracker, every, multi, scope

#: Where each public name lives; `__getattr__` loads it when it is first used.
_HOMES: dict[str, tuple[str, ...]] = {
    "backends.hooks": ("AdapterInfo", "Finding", "ForeignRun", "RunInfo", "hookimpl"),
    "backends.open_tracker": ("open_tracker",),
    "backends.targets": ("Target",),
    "base.directories": ("directory_problem", "is_url"),
    "base.redaction": ("redact_text",),
    "delivery.report": ("DeliveryReport", "TargetReport"),
    "environment.known_servers": ("knows_server", "remember_server"),
    "errors": (
        "AdapterConflictError",
        "AdapterError",
        "AdapterVersionError",
        "BatchInterrupted",
        "BrokenAdapterError",
        "DeliveryError",
        "InvalidStepError",
        "InvalidValueError",
        "JournalError",
        "LeaseHeldError",
        "MissingDependencyError",
        "NameNotFoundError",
        "PlaceTakenError",
        "Rejected",
        "RetryLater",
        "RunBusyError",
        "RunExistsError",
        "RunNotFoundError",
        "SettingsError",
        "StoreError",
        "TrackingError",
        "UnknownAdapterError",
    ),
    "fallbacks": ("log_mixed", "replay"),
    "protocol": (
        "API_VERSION",
        "ArrayLike",
        "ArtifactLike",
        "ImageLike",
        "ScalarLike",
        "SupportsAlerts",
        "SupportsArtifactUse",
        "SupportsAudio",
        "SupportsConfig",
        "SupportsDelivery",
        "SupportsFigures",
        "SupportsFlush",
        "SupportsHtml",
        "SupportsSummary",
        "SupportsTables",
        "SupportsText",
        "SupportsVideo",
        "Tracker",
    ),
    "runs.run": ("Run",),
    "runs.exit": ("current_run",),
    "runs.start": ("start_run",),
    "store": ("Comparison", "MetricSummary", "RunRecord", "Series", "Store", "open_store"),
    "transfer": ("import_runs", "pack_run"),
    "values": (
        "ArtifactRef",
        "Audio",
        "Figure",
        "Histogram",
        "Html",
        "Image",
        "Record",
        "Stacked",
        "Table",
        "Text",
        "Video",
    ),
    "wrappers": ("NullTracker", "every", "multi", "scope"),
}
_MODULES = ("errors", "fallbacks", "naming", "testing", "values")

__all__ = [
    "API_VERSION",
    "AdapterConflictError",
    "AdapterError",
    "AdapterInfo",
    "AdapterVersionError",
    "ArrayLike",
    "ArtifactLike",
    "ArtifactRef",
    "Audio",
    "BatchInterrupted",
    "BrokenAdapterError",
    "Comparison",
    "DeliveryError",
    "DeliveryReport",
    "Figure",
    "Finding",
    "ForeignRun",
    "Histogram",
    "Html",
    "Image",
    "ImageLike",
    "InvalidStepError",
    "InvalidValueError",
    "JournalError",
    "LeaseHeldError",
    "MetricSummary",
    "MissingDependencyError",
    "NameNotFoundError",
    "NullTracker",
    "PlaceTakenError",
    "Record",
    "Rejected",
    "RetryLater",
    "Run",
    "RunBusyError",
    "RunExistsError",
    "RunInfo",
    "RunNotFoundError",
    "RunRecord",
    "ScalarLike",
    "Series",
    "SettingsError",
    "Stacked",
    "Store",
    "StoreError",
    "SupportsAlerts",
    "SupportsArtifactUse",
    "SupportsAudio",
    "SupportsConfig",
    "SupportsDelivery",
    "SupportsFigures",
    "SupportsFlush",
    "SupportsHtml",
    "SupportsSummary",
    "SupportsTables",
    "SupportsText",
    "SupportsVideo",
    "Table",
    "Target",
    "TargetReport",
    "Text",
    "Tracker",
    "TrackingError",
    "UnknownAdapterError",
    "Video",
    "__version__",
    "current_run",
    "directory_problem",
    "errors",
    "every",
    "fallbacks",
    "hookimpl",
    "import_runs",
    "is_url",
    "knows_server",
    "log_mixed",
    "multi",
    "naming",
    "open_store",
    "open_tracker",
    "pack_run",
    "redact_text",
    "remember_server",
    "replay",
    "scope",
    "start_run",
    "testing",
    "values",
]


def _of_a_run(name: str) -> str:
    """Where a name is that a run has, and this package has not."""
    from tracking_core.runs.run import Run

    return f": a run has it: run = start_run(...), then run.{name}" if hasattr(Run, name) else ""


__getattr__, __dir__ = load_on_use(__name__, _HOMES, _MODULES, _of_a_run)
