"""Trackers around trackers: each is small, and works with any tracker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tracking_core.errors import SettingsError

if TYPE_CHECKING:
    from tracking_core.protocol import Tracker
    from tracking_core.values import ArtifactRef

_STEPPED = frozenset({"log_table", "log_video", "log_audio", "log_text", "log_figure"})


class NullTracker:
    """A tracker that records nothing, and has every capability.

    Example:
        >>> NullTracker().log_scalars({"loss": 1.0}, step=0)
    """

    def log_scalars(self, scalars: Any, *, step: Any = 0, step_axis: str = "step", wall_time: Any = None) -> None:
        """Do nothing."""

    def log_images(
        self, images: Any, *, step: Any = 0, step_axis: str = "step", wall_time: Any = None, value_range: Any = None
    ) -> None:
        """Do nothing."""

    def log_histogram(
        self, name: str, values: Any, *, step: Any = 0, step_axis: str = "step", wall_time: Any = None, bins: int = 64
    ) -> None:
        """Do nothing."""

    def log_artifact(
        self,
        artifact: Any,  # noqa: ARG002 - the protocol's signature
        *,
        name: str | None = None,
        type: str = "file",  # noqa: A002 - the protocol's word
        metadata: Any = None,  # noqa: ARG002
        aliases: Any = (),  # noqa: ARG002
    ) -> ArtifactRef:
        """Do nothing.

        Returns:
            A reference without a version.
        """
        from tracking_core.values import ArtifactRef

        return ArtifactRef(name or "unnamed", type)

    def finish(self, status: str = "finished", *, error: str | None = None) -> None:
        """Do nothing."""

    def _ignore(self, *args: Any, **keywords: Any) -> None:
        """Do nothing."""

    log_table = log_video = log_audio = log_text = log_figure = _ignore
    log_config = log_summary = log_alert = use_artifact = flush = deliver = _ignore


class _Around:
    """What wrappers share: what they do not change is the wrapped tracker's, so its capabilities show through."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def __getattr__(self, name: str) -> Any:
        if name == "_tracker":
            raise AttributeError(name)
        return getattr(self._tracker, name)

    def scope(self, prefix: str) -> ScopedTracker:
        """This tracker with a prefix before every name."""
        return ScopedTracker(self, prefix)  # pyright: ignore[reportArgumentType] - every subclass is a tracker

    def every(self, steps: int) -> EveryTracker:
        """This tracker, for every n-th step only."""
        return EveryTracker(self, steps)  # pyright: ignore[reportArgumentType] - as above


class ScopedTracker(_Around):
    """Puts a prefix and a "/" before every name; see `scope`."""

    def __init__(self, tracker: Tracker, prefix: str) -> None:
        super().__init__(tracker)
        if not isinstance(prefix, str) or not prefix.strip("/"):
            raise SettingsError(f"scope: expected a non-empty prefix, got {prefix!r}")
        self._prefix = prefix.rstrip("/") + "/"

    def __repr__(self) -> str:
        return f"scope({self._tracker!r}, {self._prefix[:-1]!r})"

    def log_scalars(self, scalars: Mapping[str, Any], **keywords: Any) -> None:
        """`Tracker.log_scalars` with prefixed names."""
        self._tracker.log_scalars(self._prefixed(scalars), **keywords)

    def log_images(self, images: Mapping[str, Any], **keywords: Any) -> None:
        """`Tracker.log_images` with prefixed names."""
        self._tracker.log_images(self._prefixed(images), **keywords)

    def log_histogram(self, name: str, values: Any, **keywords: Any) -> None:
        """`Tracker.log_histogram` with a prefixed name."""
        self._tracker.log_histogram(self._prefix + name, values, **keywords)

    def log_summary(self, summary: Mapping[str, Any]) -> None:
        """`log_summary` with prefixed names."""
        from tracking_core.fallbacks import log_summary

        log_summary(self._tracker, self._prefixed(summary))

    def log(self, values: Mapping[str, Any], **keywords: Any) -> None:
        """`Run.log` with prefixed names."""
        method: Any = super().__getattr__("log")
        method(self._prefixed(values), **keywords)

    def finish(self, status: str = "finished", *, error: str | None = None) -> None:
        """`Tracker.finish`."""
        self._tracker.finish(status, error=error)

    def log_artifact(self, artifact: Any, **keywords: Any) -> ArtifactRef:
        """`Tracker.log_artifact`: artifacts are named across runs, and keep their names."""
        return self._tracker.log_artifact(artifact, **keywords)

    def __getattr__(self, name: str) -> Any:
        method = super().__getattr__(name)
        if name not in _STEPPED:
            return method

        def log_named(key: str, value: Any, **keywords: Any) -> None:
            method(self._prefix + key, value, **keywords)

        return log_named

    def _prefixed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {self._prefix + name: value for name, value in values.items()}


class EveryTracker(_Around):
    """Lets only some steps through; see `every`."""

    def __init__(self, tracker: Tracker, steps: int) -> None:
        super().__init__(tracker)
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
            raise SettingsError(f"every: expected a positive whole number of steps, got {steps!r}")
        self._steps = steps

    def __repr__(self) -> str:
        return f"every({self._tracker!r}, steps={self._steps})"

    def log_scalars(self, scalars: Mapping[str, Any], *, step: int, **keywords: Any) -> None:
        """`Tracker.log_scalars` at every n-th step."""
        if step % self._steps == 0:
            self._tracker.log_scalars(scalars, step=step, **keywords)

    def log_images(self, images: Mapping[str, Any], *, step: int, **keywords: Any) -> None:
        """`Tracker.log_images` at every n-th step."""
        if step % self._steps == 0:
            self._tracker.log_images(images, step=step, **keywords)

    def log_histogram(self, name: str, values: Any, *, step: int, **keywords: Any) -> None:
        """`Tracker.log_histogram` at every n-th step."""
        if step % self._steps == 0:
            self._tracker.log_histogram(name, values, step=step, **keywords)

    def log_artifact(self, artifact: Any, **keywords: Any) -> ArtifactRef:
        """`Tracker.log_artifact`, always: artifacts have no step."""
        return self._tracker.log_artifact(artifact, **keywords)

    def finish(self, status: str = "finished", *, error: str | None = None) -> None:
        """`Tracker.finish`."""
        self._tracker.finish(status, error=error)

    def __getattr__(self, name: str) -> Any:
        method = super().__getattr__(name)
        if name not in _STEPPED:
            return method

        def log_sometimes(*args: Any, step: int, **keywords: Any) -> None:
            if step % self._steps == 0:
                method(*args, step=step, **keywords)

        return log_sometimes


class MultiTracker:
    """Sends every call to several trackers in order; see `multi`."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        if not trackers:
            raise SettingsError("multi: expected at least one tracker")
        self._trackers = tuple(trackers)

    def __repr__(self) -> str:
        return f"multi({', '.join(map(repr, self._trackers))})"

    def log_scalars(self, scalars: Mapping[str, Any], **keywords: Any) -> None:
        """`Tracker.log_scalars` on each."""
        self._each(lambda tracker: tracker.log_scalars(scalars, **keywords))

    def log_images(self, images: Mapping[str, Any], **keywords: Any) -> None:
        """`Tracker.log_images` on each."""
        self._each(lambda tracker: tracker.log_images(images, **keywords))

    def log_histogram(self, name: str, values: Any, **keywords: Any) -> None:
        """`Tracker.log_histogram` on each."""
        self._each(lambda tracker: tracker.log_histogram(name, values, **keywords))

    def log_artifact(self, artifact: Any, **keywords: Any) -> ArtifactRef:
        """`Tracker.log_artifact` on each.

        Returns:
            The reference of the first.
        """
        references: list[ArtifactRef] = []
        self._each(lambda tracker: references.append(tracker.log_artifact(artifact, **keywords)))
        return references[0]

    def log_table(self, name: str, value: Any, *, step: int, step_axis: str = "step") -> None:
        """A table on each, or its fallback."""
        self._media("log_table", name, value, step=step, step_axis=step_axis)

    def log_video(self, name: str, value: Any, **keywords: Any) -> None:
        """A video on each, or its fallback."""
        self._media("log_video", name, value, **keywords)

    def log_audio(self, name: str, value: Any, **keywords: Any) -> None:
        """Audio on each, or its fallback."""
        self._media("log_audio", name, value, **keywords)

    def log_text(self, name: str, value: str, **keywords: Any) -> None:
        """Text on each, or its fallback."""
        self._media("log_text", name, value, **keywords)

    def log_figure(self, name: str, value: Any, **keywords: Any) -> None:
        """A figure on each, or its fallback."""
        self._media("log_figure", name, value, **keywords)

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Configuration on each, or its fallback."""
        from tracking_core.fallbacks import log_config

        self._each(lambda tracker: log_config(tracker, config))

    def log_summary(self, summary: Mapping[str, Any]) -> None:
        """A summary on each, or its fallback."""
        from tracking_core.fallbacks import log_summary

        self._each(lambda tracker: log_summary(tracker, summary))

    def log_alert(self, title: str, text: str = "", **keywords: Any) -> None:
        """An alert on each that has alerts."""
        self._each(lambda tracker: self._optional(tracker, "log_alert", title, text, **keywords))

    def use_artifact(self, artifact: Any) -> None:
        """The use of an artifact, on each that records it."""
        self._each(lambda tracker: self._optional(tracker, "use_artifact", artifact))

    def flush(self) -> None:
        """Flush each that buffers."""
        self._each(lambda tracker: self._optional(tracker, "flush"))

    def finish(self, status: str = "finished", *, error: str | None = None) -> None:
        """Finish each, even when one of them raises."""
        self._each(lambda tracker: tracker.finish(status, error=error))

    def _media(self, method: str, name: str, value: Any, **keywords: Any) -> None:
        from tracking_core import fallbacks

        function = getattr(fallbacks, method)
        self._each(lambda tracker: function(tracker, name, value, **keywords))

    def _each(self, do: Callable[[Any], object]) -> None:
        """Call every tracker; the first error is raised when all were called."""
        first: Exception | None = None
        for tracker in self._trackers:
            try:
                do(tracker)
            except Exception as error:  # noqa: BLE001 - the others must get the call all the same
                if first is None:
                    first = error
                else:
                    first.add_note(f"and from {tracker!r}: {error!r}")
        if first is not None:
            raise first

    @staticmethod
    def _optional(tracker: Any, method: str, *args: Any, **keywords: Any) -> None:
        function = getattr(tracker, method, None)
        if function is not None:
            function(*args, **keywords)


def scope(tracker: Tracker, prefix: str) -> ScopedTracker:
    """A tracker that puts `prefix/` before every name of scalars, images, histograms and media.

    Example:
        >>> from tracking_core.testing import FakeTracker
        >>> fake = FakeTracker()
        >>> scope(fake, "train").log_scalars({"loss": 1.0}, step=0)
        >>> fake.scalars["train/loss"]
        [(0, 1.0)]
    """
    return ScopedTracker(tracker, prefix)


def every(tracker: Tracker, steps: int) -> EveryTracker:
    """A tracker that passes on only calls whose step is a multiple of `steps`; artifacts always pass.

    Example:
        >>> from tracking_core.testing import FakeTracker
        >>> fake = FakeTracker()
        >>> for step in range(300):
        ...     every(fake, steps=100).log_scalars({"loss": 1.0}, step=step)
        >>> [step for step, _ in fake.scalars["loss"]]
        [0, 100, 200]
    """
    return EveryTracker(tracker, steps)


def multi(*trackers: Tracker) -> MultiTracker:
    """A tracker that sends every call to each of several trackers."""
    return MultiTracker(trackers)
