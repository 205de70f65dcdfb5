"""Names of the W&B client over a run of tracking-core: `import tracking_core.compat.wandb as wandb`.

A program that was written for W&B records wherever `TRACKING_BACKEND` says, and in the run store. Every name records
through the methods of `Run`; what is not here yet says so. `docs/compat.md` lists what differs from W&B.

Importing it is cheap: every name is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracking_core.base.lazy import load_on_use
from tracking_core.compat.wandb.missing import no_such_name

if TYPE_CHECKING:
    from tracking_core.compat.wandb.artifacts import Artifact
    from tracking_core.compat.wandb.configuration import Config, Summary
    from tracking_core.compat.wandb.histograms import Histogram
    from tracking_core.compat.wandb.images import Image
    from tracking_core.compat.wandb.missing import Error
    from tracking_core.compat.wandb.runs import Run
    from tracking_core.compat.wandb.session import finish, init, log, log_artifact
    from tracking_core.compat.wandb.tables import Table

    run: Run | None
    config: Config
    summary: Summary

_HOMES: dict[str, tuple[str, ...]] = {
    "artifacts": ("Artifact",),
    "configuration": ("Config", "Summary"),
    "histograms": ("Histogram",),
    "images": ("Image",),
    "missing": ("Error",),
    "runs": ("Run",),
    "session": ("finish", "init", "log", "log_artifact"),
    "tables": ("Table",),
}
_OF_THE_RUN = ("config", "run", "summary")
"""Names that are others with every run, and so are never kept."""

__all__ = [
    "Artifact",
    "Config",
    "Error",
    "Histogram",
    "Image",
    "Run",
    "Summary",
    "Table",
    "config",
    "finish",
    "init",
    "log",
    "log_artifact",
    "run",
    "summary",
]

_load, __dir__ = load_on_use(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    if name in _OF_THE_RUN:
        from tracking_core.compat.wandb import session

        return getattr(session, f"current_{name}")()
    if name in __all__ or name.startswith("_"):
        return _load(name)
    raise AttributeError(no_such_name(f"module {__name__!r}", name, __all__), name=name)
