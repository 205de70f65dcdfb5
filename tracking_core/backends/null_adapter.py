"""The `none` backend: records nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracking_core.backends.hooks import AdapterInfo, RunInfo, hookimpl
from tracking_core.wrappers import NullTracker

if TYPE_CHECKING:
    from tracking_core.backends.targets import Target


@hookimpl
def tracking_adapter() -> AdapterInfo:
    """What this adapter is."""
    return AdapterInfo(
        name="none",
        api_version=1,
        capabilities=frozenset(),
        options={},
        guarantee="records nothing",
        description="record nothing at all",
    )


@hookimpl
def open_tracker(target: Target, run: RunInfo) -> NullTracker:  # noqa: ARG001 - the hook's signature
    """A tracker that does nothing."""
    return NullTracker()
