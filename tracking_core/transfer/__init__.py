"""Runs from elsewhere into the run store: from other trackers' files, from CSV, and from packs of another store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracking_core.base.lazy import load_on_use

if TYPE_CHECKING:
    from tracking_core.transfer.foreign import Imported
    from tracking_core.transfer.pack import Packed, pack_run
    from tracking_core.transfer.sources import import_runs
    from tracking_core.transfer.unpack import unpack_run

_HOMES: dict[str, tuple[str, ...]] = {
    "foreign": ("Imported",),
    "pack": ("Packed", "pack_run"),
    "sources": ("import_runs",),
    "unpack": ("unpack_run",),
}

__all__ = ["Imported", "Packed", "import_runs", "pack_run", "unpack_run"]

__getattr__, __dir__ = load_on_use(__name__, _HOMES)
