"""Records: what a worker delivers to a tracker, one per recorded call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Record:
    """One recorded call, over host values.

    Args:
        kind: "scalars", "images", "histogram", "table", "video", "audio", "text", "figure", "artifact",
            "use_artifact", "config", "summary", "alert" or "finish".
        seq: Its place in the order of its writer.
        writer: Which writer of the run recorded it.
        time: Seconds since the epoch, when it was recorded.
        step: Position on `axis`; None for kinds without steps.
        axis: The step axis.
        data: By kind. scalars: `{name: number}`. images: `{name: [Image, …]}`. histogram, table, video, audio,
            text, figure: `{"name": str, "value": Histogram | Table | …}`. artifact: `{"artifact": {path: Path},
            "name", "type", "metadata", "aliases", "version", "digest"}`. use_artifact: `{"artifact": str}`.
            config and summary: the mapping itself. alert: `{"title", "text", "level"}`. finish: `{"status", "error"}`.
        again: Whether it failed before and is sent again on request: later numbers of its writer may already have
            arrived.
    """

    kind: str
    seq: int
    writer: str
    time: float
    step: int | None = None
    axis: str = "step"
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])
    again: bool = False
