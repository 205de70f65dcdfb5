"""Runs from elsewhere into the run store: from other trackers' files, from CSV, and from packs of another store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracking_core.transfer.foreign import Imported
    from tracking_core.transfer.pack import Packed, pack_run
    from tracking_core.transfer.sources import import_runs
    from tracking_core.transfer.unpack import unpack_run

_HOMES = {
    "Imported": "foreign",
    "Packed": "pack",
    "import_runs": "sources",
    "pack_run": "pack",
    "unpack_run": "unpack",
}

__all__ = ["Imported", "Packed", "import_runs", "pack_run", "unpack_run"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
