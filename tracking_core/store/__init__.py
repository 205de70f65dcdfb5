"""The run store: what was recorded, read back."""

from tracking_core.store.records import RunRecord
from tracking_core.store.series import Series
from tracking_core.store.store import Store, open_store

__all__ = ["RunRecord", "Series", "Store", "open_store"]
