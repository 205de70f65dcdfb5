"""Functions that log any kind of value to any tracker: a kind without a method is converted to one that has a method.

| kind | with the capability | without it |
|---|---|---|
| table | `log_table` | an artifact of type "table", one JSON file |
| video | `log_video` | a strip of up to 16 frames, as an image |
| audio | `log_audio` | an artifact of type "audio", one WAV file |
| text | `log_text` | an artifact of type "text", one file |
| HTML | `log_html` | an artifact of type "html", one file |
| figure | `log_figure` | an image; a plotly figure becomes an artifact of type "figure" |
| config, summary | `log_config`, `log_summary` | an artifact of that type, one JSON file |
| alert, use of an artifact | `log_alert`, `use_artifact` | nothing: there is no place for it |
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from tracking_core.errors import InvalidValueError, TrackingError
from tracking_core.values.kinds import MEDIA, FileOf

if TYPE_CHECKING:
    from tracking_core.protocol import Tracker
    from tracking_core.values import Record
    from tracking_core.values.kinds import Medium

REPLAYED = ("version", "digest")
"""What of an artifact a replay passes on beyond the protocol, besides `wall_time`, to whoever takes it."""


def call(method: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    """Call a method with the keywords that its signature accepts.

    Later versions of the protocol may add keywords; an adapter built for this version must continue to work.
    """
    function = getattr(method, "__func__", None)
    # What is no method of a class, such as a wrapper's closure, must not be kept alive by the cache.
    known = _keywords(function) if function is not None else _keywords.__wrapped__(method)
    if known is not None:
        keywords = {key: value for key, value in keywords.items() if key in known}
    return method(*args, **keywords)


@lru_cache(maxsize=512)
def _keywords(function: Callable[..., Any]) -> frozenset[str] | None:
    """The keywords a function takes; None for all."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD))


def replay(record: Record, tracker: Tracker, *, on_fallback: Callable[[str], None] | None = None) -> None:
    """Send one record to a tracker, through its own methods or the fallbacks.

    Args:
        record: What was recorded; "finish" records are not sent: the code that opened the tracker closes it.
        tracker: Any tracker.
        on_fallback: Called with the kind when the tracker has no method for it.
    """
    data = record.data
    when: dict[str, Any] = {"step": record.step, "step_axis": record.axis, "wall_time": record.time}
    match record.kind:
        case "scalars":
            call(tracker.log_scalars, data, **when)
        case "images":
            call(tracker.log_images, data, **when)
        case "histogram":
            call(tracker.log_histogram, data["name"], data["value"], **when)
        case "artifact":
            call(
                tracker.log_artifact,
                data["artifact"],
                name=data["name"],
                type=data["type"],
                metadata=data["metadata"],
                aliases=data["aliases"],
                wall_time=record.time,
                **{key: data.get(key) for key in REPLAYED},
            )
        case kind if kind in MEDIA:
            _log(MEDIA[kind], tracker, data["name"], data["value"], when, on_fallback)
        case "config" | "summary":
            _facts(record.kind, tracker, data, on_fallback, wall_time=record.time)
        case "alert":
            method = getattr(tracker, "log_alert", None)
            if method is not None:
                call(method, data["title"], data["text"], level=data["level"], wall_time=record.time)
            elif on_fallback:
                on_fallback("alert")
        case "use_artifact":
            method = getattr(tracker, "use_artifact", None)
            if method is not None:
                call(method, data["artifact"])
            elif on_fallback:
                on_fallback("use_artifact")
        case _:
            # A kind of a later version, or "finish": nothing a tracker of this version could do with it.
            pass


def log_table(
    tracker: Tracker, name: str, value: Any, *, step: int, step_axis: str = "step", wall_time: float | None = None
) -> None:
    """Log a table to any tracker."""
    log_medium(MEDIA["table"], tracker, name, value, step=step, step_axis=step_axis, wall_time=wall_time)


def log_video(
    tracker: Tracker,
    name: str,
    value: Any,
    *,
    step: int,
    step_axis: str = "step",
    wall_time: float | None = None,
    fps: float = 8.0,
    value_range: tuple[float, float] | None = None,
) -> None:
    """Log a video to any tracker."""
    when: dict[str, Any] = {"step": step, "step_axis": step_axis, "wall_time": wall_time}
    log_medium(MEDIA["video"], tracker, name, value, **when, fps=fps, value_range=value_range)


def log_audio(
    tracker: Tracker,
    name: str,
    value: Any,
    *,
    step: int,
    step_axis: str = "step",
    wall_time: float | None = None,
    sample_rate: int = 16000,
) -> None:
    """Log audio to any tracker."""
    when: dict[str, Any] = {"step": step, "step_axis": step_axis, "wall_time": wall_time}
    log_medium(MEDIA["audio"], tracker, name, value, **when, sample_rate=sample_rate)


def log_text(
    tracker: Tracker, name: str, value: str, *, step: int, step_axis: str = "step", wall_time: float | None = None
) -> None:
    """Log text to any tracker."""
    log_medium(MEDIA["text"], tracker, name, value, step=step, step_axis=step_axis, wall_time=wall_time)


def log_figure(
    tracker: Tracker, name: str, value: Any, *, step: int, step_axis: str = "step", wall_time: float | None = None
) -> None:
    """Log a figure to any tracker."""
    log_medium(MEDIA["figure"], tracker, name, value, step=step, step_axis=step_axis, wall_time=wall_time)


def log_html(
    tracker: Tracker, name: str, value: Any, *, step: int, step_axis: str = "step", wall_time: float | None = None
) -> None:
    """Log HTML to any tracker."""
    log_medium(MEDIA["html"], tracker, name, value, step=step, step_axis=step_axis, wall_time=wall_time)


def log_medium(
    kind: Medium,
    tracker: Tracker,
    name: str,
    value: Any,
    *,
    step: int,
    step_axis: str = "step",
    wall_time: float | None = None,
    **options: Any,
) -> None:
    """Log a value of some kind of medium to any tracker.

    Args:
        kind: The row of the table of kinds.
        tracker: Any tracker.
        name: Name of the value.
        value: What the kind's method takes.
        step: Position on `step_axis`.
        step_axis: Which axis `step` counts on.
        wall_time: Seconds since the epoch; None means now.
        options: Further arguments of that method.
    """
    when = {"step": step, "step_axis": step_axis, "wall_time": wall_time}
    _log(kind, tracker, name, kind.normal(value, **options), when, None)


def log_config(tracker: Tracker, config: Mapping[str, Any]) -> None:
    """Log configuration to any tracker."""
    _facts("config", tracker, config, None)


def log_summary(tracker: Tracker, summary: Mapping[str, Any]) -> None:
    """Log a summary to any tracker."""
    _facts("summary", tracker, summary, None)


def log_mixed(
    tracker: Tracker,
    values: Mapping[str, Any],
    *,
    step: int,
    step_axis: str = "step",
    on_error: Callable[[str, Exception], None] | None = None,
) -> None:
    """Log values of different kinds by key; the kind of each value is recognised.

    Args:
        tracker: Any tracker.
        values: Names to numbers, `Image`, `Histogram`, `Table`, `Video`, `Audio`, `Figure`, `Html`, `Text`, str (text),
            PIL images, figures, lists of images, data frames (tables), `(counts, edges)` as `numpy.histogram` returns
            them, or arrays: size 1 is a scalar; uint8 of 2 to 4 dimensions an image; anything else real a histogram,
            but for shapes `[T]` and `[H, W, 3|4]`, which may be meant in several ways. Mappings nest.
        step: Position on `step_axis`.
        step_axis: Which axis `step` counts on.
        on_error: Called with (key, error) for a value that cannot be recognised or logged; the value is left out. None
            raises.

    Raises:
        InvalidValueError: A value is not one of these, from trackers that raise.
    """
    from tracking_core.values import Histogram, flatten_scalars

    if not isinstance(values, Mapping):
        raise InvalidValueError(f"log: expected a mapping of names to values, got {type(values).__name__}")
    when: dict[str, Any] = {"step": step, "step_axis": step_axis}
    scalars: dict[str, Any] = {}
    images: dict[str, Any] = {}
    for name, value in flatten_scalars(values, "", on_error):
        try:
            kind = kind_of(value, name)
            if kind == "scalar":
                scalars[name] = value
            elif kind == "image":
                images[name] = value
            elif kind == "histogram":
                tracker.log_histogram(name, Histogram(*value) if isinstance(value, tuple) else value, **when)
            else:
                log_medium(MEDIA[kind], tracker, name, value, **when)
        except Exception as error:
            if on_error is None:
                raise
            on_error(name, _plain(name, error))
    for method, part in ((tracker.log_scalars, scalars), (tracker.log_images, images)):
        try:
            if part:
                method(part, **when)
        except Exception as error:
            if on_error is None:
                raise
            names = ", ".join(part)[:1000]
            on_error(names, _plain(names, error))


def _plain(name: str, error: Exception) -> TrackingError:
    """An error that can be shown: what a hostile object raises may not even have a text."""
    if isinstance(error, TrackingError):
        return error
    try:
        text = f": {error}"
    except Exception:  # noqa: BLE001 - see above
        text = ""
    return InvalidValueError(f"{name!r}: it cannot be read ({type(error).__name__}{text[:200]})")


def kind_of(value: Any, name: str = "value") -> str:
    """The kind `log_mixed` sees: "scalar", "image", "histogram", or one of `values.kinds.MEDIA`.

    Args:
        value: The value.
        name: Its name, for the error message.

    Raises:
        InvalidValueError: It is an array that may be meant in several ways; the message names the calls.
    """
    from tracking_core.values import Histogram
    from tracking_core.values.arrays import describe
    from tracking_core.values.right_call import array_call

    if isinstance(value, Histogram) or _is_counted(value):
        return "histogram"
    for kind in MEDIA.values():
        if kind.is_one(value):
            return kind.name
    if _is_image(value):
        return "image"
    size, dtype = getattr(value, "size", None), getattr(value, "dtype", None)
    if not isinstance(size, int) or size <= 1 or dtype is None:
        return "scalar"
    call = array_call(value)
    if call:
        raise InvalidValueError(f"{name!r}: {describe(value)} may be several things: use {call}")
    return "histogram"


def _is_image(value: Any) -> bool:
    """Whether a value is an image and nothing else, or a list of those."""
    from tracking_core.values import Image

    if isinstance(value, Image) or hasattr(value, "getbands"):
        return True
    if isinstance(value, (list, tuple)):
        return bool(value) and all(map(_is_image, cast("list[Any]", value)))
    size, dtype = getattr(value, "size", None), getattr(value, "dtype", None)
    return isinstance(size, int) and size > 1 and str(dtype) == "uint8" and 2 <= getattr(value, "ndim", 0) <= 4


def _is_counted(value: Any) -> bool:
    """Whether a value is what `numpy.histogram` returns: counts, and one edge more."""
    if not isinstance(value, tuple) or len(cast("tuple[Any, ...]", value)) != 2:
        return False
    counts, edges = map(_length, cast("tuple[Any, Any]", value))
    return counts > 0 and edges == counts + 1


def _length(value: Any) -> int:
    """How many numbers are in an array of one dimension, or a list; -1 for anything else."""
    if isinstance(value, list):
        parts = cast("list[Any]", value)
        return len(parts) if all(isinstance(part, (int, float)) for part in parts) else -1
    shape = getattr(value, "shape", None)
    return shape[0] if isinstance(shape, tuple) and len(cast("tuple[int, ...]", shape)) == 1 else -1


def _log(
    kind: Medium,
    tracker: Tracker,
    name: str,
    value: Any,
    when: Mapping[str, Any],
    on_fallback: Callable[[str], None] | None,
) -> None:
    """Log a value in its normal form."""
    method = getattr(tracker, kind.method, None)
    if method is not None:
        call(method, name, value, **when)
        return
    if on_fallback:
        on_fallback(kind.name)
    shown = kind.fallback(value)
    if isinstance(shown, FileOf):
        label = f"{name}-{when['step_axis']}-{when['step']}"
        _artifact(tracker, kind.name, label, f"value{shown.ending}", shown.content, when)
    else:
        call(tracker.log_images, {name: [shown]}, **when)


def _facts(
    kind: str,
    tracker: Tracker,
    facts: Mapping[str, Any],
    on_fallback: Callable[[str], None] | None,
    **when: float,
) -> None:
    method = getattr(tracker, f"log_{kind}", None)
    if method is not None:
        # The time is no part of the protocol here: for backends that show when a configuration changed.
        call(method, facts, **when)
        return
    if on_fallback:
        on_fallback(kind)
    from tracking_core.base.json_text import portable_json
    from tracking_core.values.config import to_plain

    _artifact(tracker, kind, kind, f"{kind}.json", portable_json(to_plain(facts)), {})


def _artifact(tracker: Tracker, kind: str, name: str, file: str, payload: bytes, when: Mapping[str, Any]) -> None:
    metadata = {key: value for key, value in when.items() if key != "wall_time"}
    aliases: Sequence[str] = ()
    call(tracker.log_artifact, {file: payload}, name=name, type=kind, metadata=metadata, aliases=aliases)
