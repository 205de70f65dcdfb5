"""The Tracker protocol: five methods that every backend has, and optional capabilities, one method each.

A training loop, or a library that records something, depends only on `Tracker`:

```python
import tracking_core as tracking

def train(tracker: tracking.Tracker) -> None:
    for step in range(3):
        tracker.log_scalars({"train/loss": 1.0 / (step + 1)}, step=step)

train(tracking.NullTracker())
```

The code that opens a tracker finishes it; code that receives a tracker never does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from os import PathLike

    from tracking_core.values import ArtifactRef, Record

API_VERSION = 1
"""Version of the adapter API: the five methods, the capabilities and the hooks. See the stability policy."""

#: bool, int, float, or any size-1 numpy or JAX array of a real dtype, bfloat16 and float8 included; mappings nest.
ScalarLike: TypeAlias = Any
#: `[H, W]`, `[H, W, 1|3|4]`, `[N, H, W]`, `[N, H, W, C]`, an `Image`, or a sequence of such images.
ImageLike: TypeAlias = Any
#: anything `numpy.asarray` turns into an array of real numbers, of any shape.
ArrayLike: TypeAlias = Any
#: a path to a file or a directory, or a mapping of names to paths or bytes.
ArtifactLike: TypeAlias = "str | PathLike[str] | Mapping[str, str | PathLike[str] | bytes]"


@runtime_checkable
class Tracker(Protocol):
    """The interface through which a training loop records.

    Steps belong to metrics, not to a global clock: going back, repeating a step and logging late are legal, and
    `step_axis` names the axis a step is counted on. `wall_time` (seconds since the epoch) is set when a record is
    replayed, so that the backend keeps the original time; a training loop does not set it.
    """

    def log_scalars(
        self,
        scalars: Mapping[str, ScalarLike],
        *,
        step: int,
        step_axis: str = "step",
        wall_time: float | None = None,
    ) -> None:
        """Record numbers by name at one step.

        Args:
            scalars: Names to bool, int, float or size-1 arrays of a real dtype. Nested mappings are joined with
                "/". NaN and infinities are kept exactly.
            step: Position on `step_axis`; an int or a 0-d integer array.
            step_axis: Which axis `step` counts on.
            wall_time: Seconds since the epoch; None means now.

        Raises:
            InvalidValueError: A value is not a real number of size 1 (from adapters and strict runs; otherwise that key
                is dropped and counted).
        """
        ...

    def log_images(
        self,
        images: Mapping[str, ImageLike],
        *,
        step: int,
        step_axis: str = "step",
        wall_time: float | None = None,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        """Record images by name at one step.

        Args:
            images: Names to uint8 or float arrays of shape `[H, W]`, `[H, W, 1|3|4]`, `[N, H, W]` or
                `[N, H, W, C]`, to `Image` objects (with captions), or to sequences of either.
            step: Position on `step_axis`.
            step_axis: Which axis `step` counts on.
            wall_time: Seconds since the epoch; None means now.
            value_range: `(lo, hi)` that float images are scaled from; None means `[0, 1]`.

        Raises:
            InvalidValueError: Wrong shape, channels first, or values outside the range; the message has the remedy.
        """
        ...

    def log_histogram(
        self,
        name: str,
        values: ArrayLike,
        *,
        step: int,
        step_axis: str = "step",
        wall_time: float | None = None,
        bins: int = 64,
    ) -> None:
        """Record the distribution of many numbers.

        Args:
            name: Name of the distribution.
            values: Numbers of any shape, or a ready-made `Histogram`. Non-finite values are counted separately.
            step: Position on `step_axis`.
            step_axis: Which axis `step` counts on.
            wall_time: Seconds since the epoch; None means now.
            bins: Number of equal bins between the smallest and the largest finite value.

        Raises:
            InvalidValueError: The values are not real numbers.
        """
        ...

    def log_artifact(
        self,
        artifact: ArtifactLike,
        *,
        name: str | None = None,
        type: str = "file",  # noqa: A002 - the field's word for it
        metadata: Mapping[str, Any] | None = None,
        aliases: Sequence[str] = (),
    ) -> ArtifactRef:
        """Store files as a new version of a named artifact.

        Args:
            artifact: A file, a directory, or a mapping of relative names to paths or bytes.
            name: Name of the artifact; None uses the name of the file or directory.
            type: Kind of artifact, such as "model" or "dataset".
            metadata: JSON-like facts about it.
            aliases: Further names of this version, such as "best"; "latest" is always added.

        Returns:
            A reference to the version that was stored or will be stored.

        Raises:
            InvalidValueError: There is no such file, or a name would escape the artifact.
        """
        ...

    def finish(self, status: str = "finished", *, error: str | None = None) -> object:
        """Close the tracker; nothing may be logged afterwards. A second call does nothing.

        The return value is not part of the protocol: adapters return None, a `Run` returns its delivery report.

        Args:
            status: "finished", "failed", "interrupted" or "preempted".
            error: What went wrong, for a failed run.
        """
        ...


@runtime_checkable
class SupportsTables(Protocol):
    """A tracker that shows tables."""

    def log_table(
        self, name: str, value: Any, *, step: int, step_axis: str = "step", wall_time: float | None = None
    ) -> None:
        """Record a `Table`, or anything `Table` accepts: a mapping of columns, or a sequence of row mappings."""
        ...


@runtime_checkable
class SupportsVideo(Protocol):
    """A tracker that shows video."""

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
        """Record a `Video`, or frames of shape `[T, H, W]` or `[T, H, W, C]`, at `fps` frames a second."""
        ...


@runtime_checkable
class SupportsAudio(Protocol):
    """A tracker that plays audio."""

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
        """Record an `Audio`, or samples of shape `[T]` or `[T, channels]` in [-1, 1], at `sample_rate` Hz."""
        ...


@runtime_checkable
class SupportsText(Protocol):
    """A tracker that shows text."""

    def log_text(
        self, name: str, value: Any, *, step: int, step_axis: str = "step", wall_time: float | None = None
    ) -> None:
        """Record a `Text` or a str; it is shown as Markdown if the backend can do that."""
        ...


@runtime_checkable
class SupportsFigures(Protocol):
    """A tracker that shows figures."""

    def log_figure(
        self, name: str, value: Any, *, step: int, step_axis: str = "step", wall_time: float | None = None
    ) -> None:
        """Record a `Figure`, a matplotlib figure, or a plotly figure."""
        ...


@runtime_checkable
class SupportsHtml(Protocol):
    """A tracker that shows HTML."""

    def log_html(
        self, name: str, value: Any, *, step: int, step_axis: str = "step", wall_time: float | None = None
    ) -> None:
        """Record an `Html`, a str of HTML, or the path of a file; it is shown in a sandbox."""
        ...


@runtime_checkable
class SupportsConfig(Protocol):
    """A tracker that keeps the configuration of the run."""

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Extend or change the configuration."""
        ...


@runtime_checkable
class SupportsSummary(Protocol):
    """A tracker that keeps one value per run for some names."""

    def log_summary(self, summary: Mapping[str, Any]) -> None:
        """Set values that describe the run as a whole."""
        ...


@runtime_checkable
class SupportsAlerts(Protocol):
    """A tracker that can send alerts."""

    def log_alert(self, title: str, text: str = "", *, level: str = "info", wall_time: float | None = None) -> None:
        """Raise an alert; `level` is "info", "warn" or "error"."""
        ...


@runtime_checkable
class SupportsArtifactUse(Protocol):
    """A tracker that records which artifacts a run used."""

    def use_artifact(self, artifact: Any) -> Any:
        """Record that a version of an artifact is an input of this run; `"name:alias"` or an `ArtifactRef`."""
        ...


@runtime_checkable
class SupportsFlush(Protocol):
    """A tracker that buffers, and can make everything durable on request."""

    def flush(self) -> None:
        """Return when everything logged so far is as durable as this backend can make it."""
        ...


@runtime_checkable
class SupportsDelivery(Protocol):
    """A tracker that takes journal records in batches, sequence numbers included.

    It may also have an attribute `confirmed`, read once after opening: for each writer the highest sequence number
    that the backend itself says it has. `{}` means that it has nothing: it receives the run from the beginning; None,
    or no such attribute, means that the persisted cursor is right. When it also has an attribute `broken` that is True
    while it raises `RetryLater`, the worker does not try it again, but opens a new tracker. While an attribute
    `gathering` is True, as for a second while records that belong together arrive, a worker that has nothing more to
    deliver does not ask for a flush yet.
    """

    def deliver(self, records: Sequence[Record]) -> None:
        """Take records in order.

        Raises:
            BatchInterrupted: from the error that stopped it, with how many records were taken.
        """
        ...


#: Capability name → (protocol, method). What `AdapterInfo.capabilities` may name beyond the five methods.
OPTIONAL_CAPABILITIES: dict[str, tuple[type, str]] = {
    "tables": (SupportsTables, "log_table"),
    "video": (SupportsVideo, "log_video"),
    "audio": (SupportsAudio, "log_audio"),
    "text": (SupportsText, "log_text"),
    "figures": (SupportsFigures, "log_figure"),
    "html": (SupportsHtml, "log_html"),
    "config": (SupportsConfig, "log_config"),
    "summary": (SupportsSummary, "log_summary"),
    "alerts": (SupportsAlerts, "log_alert"),
    "use_artifact": (SupportsArtifactUse, "use_artifact"),
    "flush": (SupportsFlush, "flush"),
    "deliver": (SupportsDelivery, "deliver"),
}

#: Capabilities behind the five methods. "resume" says that a run that was closed can be opened again and continued.
CORE_CAPABILITIES: dict[str, str] = {
    "scalars": "log_scalars",
    "images": "log_images",
    "histograms": "log_histogram",
    "artifacts": "log_artifact",
}
STATUSES = ("finished", "failed", "interrupted", "preempted")
"""What `finish` accepts. An active run is "running"; a run whose writers are gone is "crashed"."""
PREEMPTED = 128 + 15
"""Exit code of a process that was ended by SIGTERM."""
