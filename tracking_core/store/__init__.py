"""The run store: what was recorded, read back.

The names here are loaded when they are first used: whoever needs only the layout of the files, as the artifact store
does, must not load the queries, which need the artifact store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracking_core.base.lazy import load_on_use

if TYPE_CHECKING:
    from tracking_core.store.comparing import Comparison, MetricSummary
    from tracking_core.store.export import Exported
    from tracking_core.store.pruning import Pruned
    from tracking_core.store.records import RunRecord
    from tracking_core.store.removal import Removed
    from tracking_core.store.series import Series
    from tracking_core.store.store import Store, open_store

_HOMES: dict[str, tuple[str, ...]] = {
    "comparing": ("Comparison", "MetricSummary"),
    "export": ("Exported",),
    "pruning": ("Pruned",),
    "records": ("RunRecord",),
    "removal": ("Removed",),
    "series": ("Series",),
    "store": ("Store", "open_store"),
}

__all__ = [
    "Comparison",
    "Exported",
    "MetricSummary",
    "Pruned",
    "Removed",
    "RunRecord",
    "Series",
    "Store",
    "open_store",
]

__getattr__, __dir__ = load_on_use(__name__, _HOMES)
