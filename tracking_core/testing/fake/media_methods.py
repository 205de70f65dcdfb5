"""What type checkers know of the methods that `FakeTracker` has from the table of kinds; nothing loads this."""

from __future__ import annotations

from typing import Any


class MediaMethods:
    """The methods of `with_media`, with the signatures of the protocols."""

    def log_table(
        self, name: str, value: Any, *, step: int, step_axis: str = "step", wall_time: float | None = None
    ) -> None:
        """See `SupportsTables`."""

    def log_text(
        self, name: str, value: Any, *, step: int, step_axis: str = "step", wall_time: float | None = None
    ) -> None:
        """See `SupportsText`."""

    def log_html(
        self, name: str, value: Any, *, step: int, step_axis: str = "step", wall_time: float | None = None
    ) -> None:
        """See `SupportsHtml`."""

    def log_figure(
        self, name: str, value: Any, *, step: int, step_axis: str = "step", wall_time: float | None = None
    ) -> None:
        """See `SupportsFigures`."""

    def log_audio(
        self,
        name: str,
        value: Any,
        *,
        step: int,
        step_axis: str = "step",
        wall_time: float | None = None,
        sample_rate: int = 16000,
    ) -> None:
        """See `SupportsAudio`."""

    def log_video(
        self,
        name: str,
        value: Any,
        *,
        step: int,
        step_axis: str = "step",
        wall_time: float | None = None,
        fps: float = 8.0,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        """See `SupportsVideo`."""
