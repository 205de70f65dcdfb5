"""Trackers around trackers: each is small, and works with any tracker."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Self, SupportsIndex

from tracking_core.errors import InvalidStepError, SettingsError
from tracking_core.protocol import OPTIONAL_CAPABILITIES
from tracking_core.values.kinds import MEDIA, MediaMethods, Medium, with_media

if TYPE_CHECKING:
    from tracking_core.protocol import Tracker
    from tracking_core.values import ArtifactRef

_OF_MEDIA = frozenset(kind.method for kind in MEDIA.values())
#: Whoever has whole records to deliver must go through the methods that wrappers change.
_HIDDEN = frozenset({"deliver"})


def _ignore(self: object, *args: Any, **keywords: Any) -> None:
    """Do nothing."""


class NullTracker(MediaMethods):
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

    log_config = log_summary = log_alert = use_artifact = flush = deliver = _ignore


for _method in _OF_MEDIA:
    # Directly, since a call must cost next to nothing.
    setattr(NullTracker, _method, _ignore)


class Single:
    """What there is one of: a copy is that very object, and it does not go to another process."""

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(
            f"{self!r} cannot be pickled, since it belongs to the process that made it. In another process, call "
            "start_run there: for a run of its own, or with the run_id of this one and resume='allow' to add to it"
        )


class _Around(Single):
    """The base of wrappers: everything they do not change comes from the wrapped tracker."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        # Since Python 3.12 `isinstance(tracker, SupportsTables)` does not see what only `__getattr__` knows.
        for _, name in OPTIONAL_CAPABILITIES.values():
            method = getattr(tracker, name, None) if name not in _HIDDEN else None
            if method is not None:
                self.__dict__[name] = self._wrapped(name, method)

    def scope(self, prefix: str) -> ScopedTracker:
        """A tracker around this one that puts `prefix/` before every name."""
        return ScopedTracker(self, prefix)  # pyright: ignore[reportArgumentType] - its subclasses are trackers

    def every(self, steps: int) -> EveryTracker:
        """A tracker around this one that passes on only steps that are a multiple of `steps`."""
        return EveryTracker(self, steps)  # pyright: ignore[reportArgumentType] - as above

    def log_artifact(
        self,
        artifact: Any,
        *,
        name: str | None = None,
        type: str = "file",  # noqa: A002 - the protocol's word
        metadata: Mapping[str, Any] | None = None,
        aliases: Sequence[str] = (),
        **replayed: Any,
    ) -> ArtifactRef:
        """`Tracker.log_artifact`: artifacts have no step, and are named across runs."""
        return _log_artifact(
            self._tracker, artifact, replayed, name=name, type=type, metadata=metadata, aliases=aliases
        )

    def finish(self, status: str = "finished", *, error: str | None = None) -> None:
        """`Tracker.finish`."""
        self._tracker.finish(status, error=error)

    def __getattr__(self, name: str) -> Any:
        if name == "_tracker" or name in _HIDDEN:
            raise AttributeError(name)
        return self._wrapped(name, getattr(self._tracker, name))

    def _wrapped(self, name: str, method: Any) -> Any:
        """What stands in for a method of the wrapped tracker; it must not hold the wrapper, or cycles arise."""
        raise NotImplementedError


class ScopedTracker(_Around):
    """Puts a prefix and a "/" before every name; see `scope`."""

    def __init__(self, tracker: Tracker, prefix: str) -> None:
        if not isinstance(prefix, str) or not prefix.strip("/"):
            raise SettingsError(f"scope: expected a non-empty prefix, got {prefix!r}")
        self._prefix = prefix.rstrip("/") + "/"
        super().__init__(tracker)

    def __repr__(self) -> str:
        return f"scope({self._tracker!r}, {self._prefix[:-1]!r})"

    def log_scalars(self, scalars: Mapping[str, Any], **keywords: Any) -> None:
        """`Tracker.log_scalars` with prefixed names."""
        self._tracker.log_scalars(_prefixed(self._prefix, scalars), **keywords)

    def log_images(self, images: Mapping[str, Any], **keywords: Any) -> None:
        """`Tracker.log_images` with prefixed names."""
        self._tracker.log_images(_prefixed(self._prefix, images), **keywords)

    def log_histogram(self, name: str, values: Any, **keywords: Any) -> None:
        """`Tracker.log_histogram` with a prefixed name."""
        self._tracker.log_histogram(_prefixed(self._prefix, name), values, **keywords)

    def _wrapped(self, name: str, method: Any) -> Any:
        if name not in _OF_MEDIA and name not in {"log", "log_summary"}:
            return method
        prefix = self._prefix

        @functools.wraps(method)
        def log_named(named: Any, *args: Any, **keywords: Any) -> None:
            method(_prefixed(prefix, named), *args, **keywords)

        return log_named


class EveryTracker(_Around):
    """Lets only some steps through; see `every`."""

    def __init__(self, tracker: Tracker, steps: int) -> None:
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
            raise SettingsError(f"every: expected a positive whole number of steps, got {steps!r}")
        self._steps = steps
        super().__init__(tracker)

    def __repr__(self) -> str:
        return f"every({self._tracker!r}, steps={self._steps})"

    def log_scalars(self, scalars: Mapping[str, Any], *, step: Any = None, **keywords: Any) -> None:
        """`Tracker.log_scalars` at every n-th step."""
        if _is_due(step, self._steps):
            self._tracker.log_scalars(scalars, step=step, **keywords)

    def log_images(self, images: Mapping[str, Any], *, step: Any = None, **keywords: Any) -> None:
        """`Tracker.log_images` at every n-th step."""
        if _is_due(step, self._steps):
            self._tracker.log_images(images, step=step, **keywords)

    def log_histogram(self, name: str, values: Any, *, step: Any = None, **keywords: Any) -> None:
        """`Tracker.log_histogram` at every n-th step."""
        if _is_due(step, self._steps):
            self._tracker.log_histogram(name, values, step=step, **keywords)

    def _wrapped(self, name: str, method: Any) -> Any:
        if name not in _OF_MEDIA and name != "log":
            return method
        steps = self._steps

        @functools.wraps(method)
        def log_sometimes(*args: Any, **keywords: Any) -> None:
            # `Run.log(values, step)` takes its step by position too.
            step = args[1] if name == "log" and len(args) > 1 else keywords.get("step")
            if _is_due(step, steps):
                method(*args, **keywords)

        return log_sometimes


def _prefixed(prefix: str, named: Any) -> Any:
    """A name, or a mapping of names, behind a prefix; the tracker says what is wrong with anything else."""
    if isinstance(named, Mapping):
        return {_prefixed(prefix, name) if isinstance(name, str) else name: value for name, value in named.items()}
    return prefix + named if isinstance(named, str) else named


def _is_due(step: Any, steps: int) -> bool:
    """Whether a step is passed on; a step that is none is, since the tracker says what is wrong with it."""
    if type(step) is not int:
        from tracking_core.values import to_step

        try:
            step = to_step(step) if step is not None else 0
        except InvalidStepError:
            return True
    return step % steps == 0


def _log_artifact(tracker: Tracker, artifact: Any, replayed: Mapping[str, Any], **keywords: Any) -> ArtifactRef:
    """Pass an artifact on; of what a replay adds, only what the tracker takes."""
    from tracking_core.fallbacks import REPLAYED, call

    unknown = replayed.keys() - {*REPLAYED, "wall_time"}
    if unknown:
        raise TypeError(f"log_artifact() got an unexpected keyword argument {min(unknown)!r}")
    return call(tracker.log_artifact, artifact, **keywords, **replayed)


@with_media
class MultiTracker(Single, MediaMethods):
    """Sends every call to several trackers in order; see `multi`."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        if not trackers:
            raise SettingsError("multi: expected at least one tracker")
        for tracker in trackers:
            if not callable(getattr(tracker, "log_scalars", None)):
                raise SettingsError(f"multi: expected trackers, each as an argument, got {type(tracker).__name__}")
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

    def log_artifact(
        self,
        artifact: Any,
        *,
        name: str | None = None,
        type: str = "file",  # noqa: A002 - the protocol's word
        metadata: Mapping[str, Any] | None = None,
        aliases: Sequence[str] = (),
        **replayed: Any,
    ) -> ArtifactRef:
        """`Tracker.log_artifact` on each.

        Returns:
            The reference of the first.
        """
        keywords = {"name": name, "type": type, "metadata": metadata, "aliases": aliases}
        return self._each(lambda tracker: _log_artifact(tracker, artifact, replayed, **keywords))[0]

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

    def use_artifact(self, artifact: Any) -> Any:
        """The use of an artifact, on each that records it.

        Returns:
            The first reference that a tracker returns.
        """
        found = self._each(lambda tracker: self._optional(tracker, "use_artifact", artifact))
        return next((ref for ref in found if ref is not None), None)

    def flush(self) -> None:
        """Flush each that buffers."""
        self._each(lambda tracker: self._optional(tracker, "flush"))

    def finish(self, status: str = "finished", *, error: str | None = None) -> None:
        """Finish each, even when one of them raises."""
        self._each(lambda tracker: tracker.finish(status, error=error))

    def _log_medium(self, kind: Medium, name: str, value: Any, **keywords: Any) -> None:
        from tracking_core.fallbacks import log_medium

        self._each(lambda tracker: log_medium(kind, tracker, name, value, **keywords))

    def _each(self, do: Callable[[Any], Any]) -> list[Any]:
        """Call every tracker; the first error is raised when all were called."""
        first: Exception | None = None
        results: list[Any] = []
        for tracker in self._trackers:
            try:
                results.append(do(tracker))
            except Exception as error:  # noqa: BLE001 - the others must get the call all the same
                if first is None:
                    first = error
                else:
                    first.add_note(f"and from {tracker!r}: {error!r}")
        if first is not None:
            raise first
        return results

    @staticmethod
    def _optional(tracker: Any, method: str, *args: Any, **keywords: Any) -> Any:
        function = getattr(tracker, method, None)
        return function(*args, **keywords) if function is not None else None


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
    """A tracker that passes on only calls whose step is a multiple of `steps`.

    Calls without a step always pass: artifacts, configuration, summaries, alerts, and calls that let the run count the
    step.

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
