"""The run store: what was recorded, read back.

The names here are loaded when they are first used: whoever needs only the layout of the files, as the artifact store
does, must not load the queries, which need the artifact store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracking_core.store.comparing import Comparison, MetricSummary
    from tracking_core.store.records import RunRecord
    from tracking_core.store.series import Series
    from tracking_core.store.store import Store, open_store

_HOMES = {
    "Comparison": "comparing",
    "MetricSummary": "comparing",
    "RunRecord": "records",
    "Series": "series",
    "Store": "store",
    "open_store": "store",
}

__all__ = ["Comparison", "MetricSummary", "RunRecord", "Series", "Store", "open_store"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
