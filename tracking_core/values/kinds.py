"""One table of all kinds of what is recorded: whatever is the same for every kind stands in its row.

Trackers, wrappers, the journal, the store, delivery, the fake and the contract suite go through this table. So a kind
of medium is added in one place: a value class, a row here, its protocol (`protocol.py`) and its method on `Run`.

Importing this module loads neither numpy nor msgspec: rows load what they need when they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from tracking_core.values.images import Image

Put = Callable[[bytes, str], str]
"""Keeps bytes under a file name ending, and returns the name of the file."""
File = Callable[[str], Path]
"""Where the file of that name is. It raises a ValueError for a name that leads elsewhere."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FileOf:
    """A value as one file.

    Args:
        ending: How the file name ends, with the dot.
        content: The bytes.
    """

    ending: str
    content: bytes


class Kind:
    """One row: a kind of what is recorded."""

    name: str
    """What its events and records are called."""
    method: str
    """The method that takes it."""
    capability: str
    """What an adapter declares that has the method."""
    singular: str
    """What one is called."""
    plural: str
    """What several are called."""
    has_step: bool = True
    """Whether it has a step, on an axis."""
    is_media: bool = True
    """Whether `media=off` keeps it from a target."""

    def fields(self) -> list[tuple[Any, ...]]:
        """What stands in an event besides name, axis and step: (field, type) or (field, type, default)."""
        raise NotImplementedError

    def data(self, fields: Mapping[str, Any], file: File) -> Mapping[str, Any]:
        """What a record says, from the fields of an event."""
        del file
        return fields


class Named(Kind):
    """One value under a name: `log_…(name, value, *, step)`; a record says `{"name": …, "value": …}`."""

    options: tuple[str, ...] = ()
    """What the method takes besides name, value and where."""

    def normal(self, value: Any, **options: Any) -> Any:
        """The value in its normal form; one that is in that form stays as it is.

        Args:
            value: The value.
            **options: Those of `options` that were given.

        Raises:
            InvalidValueError: It is no value of this kind.
            TypeError: There is no such option.
        """
        for name in options.keys() - set(self.options):
            raise TypeError(f"{self.method}() got an unexpected keyword argument {name!r}")
        return self._normal(value, **options)

    def _normal(self, value: Any, **options: Any) -> Any:
        """As `normal`, with options that there are."""
        raise NotImplementedError

    def encode(self, value: Any, put: Put) -> dict[str, Any]:
        """A value in its normal form as fields of an event."""
        raise NotImplementedError

    def decode(self, fields: Mapping[str, Any], file: File) -> Any:
        """The value of an event."""
        raise NotImplementedError

    def hide(self, value: Any) -> Any:
        """The value without secrets in what of it is text; fields `text` and `caption` are looked at elsewhere."""
        return value

    def data(self, fields: Mapping[str, Any], file: File) -> Mapping[str, Any]:
        """Name and value."""
        return {"name": fields["name"], "value": self.decode(fields, file)}


class Medium(Named):
    """A value that a backend may have no method for: then it becomes an image, or a file in an artifact."""

    def fallback(self, value: Any) -> Image | FileOf:
        """What is shown in its place."""
        raise NotImplementedError

    def is_one(self, value: Any) -> bool:
        """Whether `log` takes a value for one of this kind."""
        raise NotImplementedError


class _Scalars(Kind):
    name, method, capability, singular, plural = "scalars", "log_scalars", "scalars", "scalar", "scalars"
    is_media = False

    def data(self, fields: Mapping[str, Any], file: File) -> Mapping[str, Any]:
        return fields["values"]


class _Images(Kind):
    name, method, capability, singular, plural = "images", "log_images", "images", "image", "images"

    def data(self, fields: Mapping[str, Any], file: File) -> Mapping[str, Any]:
        from tracking_core.values.images import Image

        return {
            name: [Image.from_png(file(entry["file"]), entry.get("caption")) for entry in entries]
            for name, entries in fields["images"].items()
        }


class _Histogram(Named):
    name, method, capability, singular, plural = "histogram", "log_histogram", "histograms", "histogram", "histograms"
    options = ("bins",)

    def _normal(self, value: Any, **options: Any) -> Any:
        from tracking_core.values.histograms import to_histogram

        return to_histogram(value, **options)

    def encode(self, value: Any, put: Put) -> dict[str, Any]:
        from tracking_core.base.json_text import pack

        del put
        numbers = {key: pack(float(getattr(value, key))) for key in ("min", "max", "mean", "std")}
        lost = {key: getattr(value, key) for key in ("nan", "posinf", "neginf")}
        return {"counts": value.counts.tolist(), "edges": value.edges.tolist(), **lost, **numbers}

    def decode(self, fields: Mapping[str, Any], file: File) -> Any:
        from tracking_core.base.json_text import unpack
        from tracking_core.values.histograms import Histogram

        numbers: dict[str, Any] = {key: float(unpack(fields[key])) for key in ("min", "max", "mean", "std")}
        lost: dict[str, Any] = {key: fields[key] for key in ("nan", "posinf", "neginf")}
        return Histogram(fields["counts"], fields["edges"], **lost, **numbers)


class _Html(Medium):
    name, method, capability, singular, plural = "html", "log_html", "html", "html", "html"

    def _normal(self, value: Any, **options: Any) -> Any:
        from tracking_core.values.html import to_html

        return to_html(value)

    def fields(self) -> list[tuple[Any, ...]]:
        return [("file", str)]

    def encode(self, value: Any, put: Put) -> dict[str, Any]:
        return {"file": put(_to_bytes(value), "html")}

    def decode(self, fields: Mapping[str, Any], file: File) -> Any:
        from tracking_core.values.html import Html

        return Html(_to_text(_read(file(fields["file"]))))

    def hide(self, value: Any) -> Any:
        from tracking_core.base.redaction import redact_document

        return type(value)(redact_document(value))

    def fallback(self, value: Any) -> Image | FileOf:
        return FileOf(".html", _to_bytes(value))

    def is_one(self, value: Any) -> bool:
        from tracking_core.values.html import Html

        return isinstance(value, Html)


class _Table(Medium):
    name, method, capability, singular, plural = "table", "log_table", "tables", "table", "tables"

    def _normal(self, value: Any, **options: Any) -> Any:
        from tracking_core.values.tables import to_table

        return to_table(value)

    def fields(self) -> list[tuple[Any, ...]]:
        from tracking_core.values.fields import Count

        return [("file", str), ("rows", Count), ("columns", Count)]

    def encode(self, value: Any, put: Put) -> dict[str, Any]:
        return {"file": put(value.json(), "table.json"), "rows": value.height, "columns": len(value.columns)}

    def decode(self, fields: Mapping[str, Any], file: File) -> Any:
        import json

        from tracking_core.base.json_text import unpack
        from tracking_core.values.tables import Table

        table = unpack(json.loads(_read(file(fields["file"]))))
        return Table(table["columns"], table["rows"])

    def hide(self, value: Any) -> Any:
        from tracking_core.values.hiding import hide_table

        return hide_table(value)

    def fallback(self, value: Any) -> Image | FileOf:
        from tracking_core.base.json_text import portable_json

        rows = [dict(zip(value.columns, row, strict=True)) for row in value.rows]
        return FileOf(".json", portable_json({"columns": value.columns, "rows": rows}))

    def is_one(self, value: Any) -> bool:
        from tracking_core.values.frames import library_of
        from tracking_core.values.tables import Table

        # Of any shape: one number in a data frame is a table of one cell.
        return isinstance(value, Table) or library_of(value) is not None


class _Video(Medium):
    name, method, capability, singular, plural = "video", "log_video", "video", "video", "videos"
    options = ("fps", "value_range")

    def _normal(self, value: Any, **options: Any) -> Any:
        from tracking_core.values.media import to_video

        return to_video(value, **options)

    def fields(self) -> list[tuple[Any, ...]]:
        from tracking_core.values.fields import Count, Positive

        return [("file", str), ("fps", Positive), ("shape", list[Count] | None, None)]

    def encode(self, value: Any, put: Put) -> dict[str, Any]:
        if value.frames is None:
            return {"file": put(value.encoded, value.format), "fps": value.fps}
        # Every codec at hand loses colours or repeated frames; the store keeps what was logged.
        return {"file": put(value.npz(), "npz"), "fps": value.fps, "shape": list(value.frames.shape)}

    def decode(self, fields: Mapping[str, Any], file: File) -> Any:
        from tracking_core.values.media import Video

        path = file(fields["file"])
        return Video.from_npz(_read(path), fields["fps"]) if path.suffix == ".npz" else Video(path, fields["fps"])

    def fallback(self, value: Any) -> Image | FileOf:
        return value.strip() if value.frames is not None else FileOf(f".{value.format}", value.encoded)

    def is_one(self, value: Any) -> bool:
        from tracking_core.values.media import Video

        return isinstance(value, Video)


class _Audio(Medium):
    name, method, capability, singular, plural = "audio", "log_audio", "audio", "audio", "audio"
    options = ("sample_rate",)

    def _normal(self, value: Any, **options: Any) -> Any:
        from tracking_core.values.media import to_audio

        return to_audio(value, **options)

    def fields(self) -> list[tuple[Any, ...]]:
        from tracking_core.values.fields import Number

        return [("file", str), ("sample_rate", Number), ("caption", str | None, None)]

    def encode(self, value: Any, put: Put) -> dict[str, Any]:
        return {"file": put(value.wav(), "wav"), "sample_rate": value.sample_rate, "caption": said(value.caption)}

    def decode(self, fields: Mapping[str, Any], file: File) -> Any:
        from tracking_core.values.media import Audio

        return Audio.from_wav(_read(file(fields["file"])), fields.get("caption"))

    def fallback(self, value: Any) -> Image | FileOf:
        return FileOf(".wav", value.wav())

    def is_one(self, value: Any) -> bool:
        from tracking_core.values.media import Audio

        return isinstance(value, Audio)


class _Text(Medium):
    name, method, capability, singular, plural = "text", "log_text", "text", "text", "texts"

    def _normal(self, value: Any, **options: Any) -> Any:
        from tracking_core.values.media import to_text

        return to_text(value)

    def fields(self) -> list[tuple[Any, ...]]:
        return [("text", str)]

    def encode(self, value: Any, put: Put) -> dict[str, Any]:
        del put
        return {"text": str(value)}

    def decode(self, fields: Mapping[str, Any], file: File) -> Any:
        from tracking_core.values.media import Text

        del file
        return Text(fields["text"])

    def fallback(self, value: Any) -> Image | FileOf:
        return FileOf(".md", _to_bytes(value))

    def is_one(self, value: Any) -> bool:
        return isinstance(value, str)


class _Figure(Medium):
    name, method, capability, singular, plural = "figure", "log_figure", "figures", "figure", "figures"

    def _normal(self, value: Any, **options: Any) -> Any:
        from tracking_core.values.media import to_figure

        return to_figure(value)

    def fields(self) -> list[tuple[Any, ...]]:
        return [("file", str)]

    def encode(self, value: Any, put: Put) -> dict[str, Any]:
        if value.plotly is not None:
            return {"file": put(_to_bytes(value.plotly), "plotly.json")}
        return {"file": put(value.image.png(), "png")}

    def decode(self, fields: Mapping[str, Any], file: File) -> Any:
        from tracking_core.values.media import Figure

        path = file(fields["file"])
        if path.name.endswith(".plotly.json"):
            return Figure.from_plotly(_to_text(_read(path)))
        return Figure(_read(path))

    def hide(self, value: Any) -> Any:
        from tracking_core.values.hiding import hide_figure

        return hide_figure(value)

    def fallback(self, value: Any) -> Image | FileOf:
        return value.image if value.image is not None else FileOf(".plotly.json", _to_bytes(value.plotly))

    def is_one(self, value: Any) -> bool:
        from tracking_core.values.media import Figure

        return isinstance(value, Figure) or hasattr(value, "savefig") or hasattr(value, "to_plotly_json")


class _Fact(Kind):
    """What is said of the run as a whole."""

    has_step, is_media = False, False

    def __init__(self, name: str, method: str, capability: str, plural: str) -> None:
        self.name = self.singular = name
        self.method, self.capability, self.plural = method, capability, plural


class _Facts(_Fact):
    """The same, as a mapping."""

    def data(self, fields: Mapping[str, Any], file: File) -> Mapping[str, Any]:
        from tracking_core.base.json_text import unpack

        return unpack(fields[self.name])


HISTOGRAM = _Histogram()
MEDIA: Mapping[str, Medium] = {kind.name: kind for kind in (_Table(), _Video(), _Audio(), _Figure(), _Html(), _Text())}
"""Kinds of values under a name that a backend may have no method for. The first that fits is what `log` takes."""
KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        _Scalars(),
        _Images(),
        HISTOGRAM,
        *MEDIA.values(),
        _Fact("artifact", "log_artifact", "artifacts", "artifacts"),
        _Fact("use_artifact", "use_artifact", "use_artifact", "used artifacts"),
        _Facts("config", "log_config", "config", "config"),
        _Facts("summary", "log_summary", "summary", "summary"),
        _Fact("alert", "log_alert", "alerts", "alerts"),
    )
}
"""Every kind that is delivered. Other events are the store's own, or of a later version."""
NAMED: Mapping[str, Named] = {"histogram": HISTOGRAM, **MEDIA}
"""Kinds of values under a name."""
STEPPED: frozenset[str] = frozenset(kind.name for kind in KINDS.values() if kind.has_step)
"""Kinds that have a step."""


if TYPE_CHECKING:

    class MediaMethods:
        """What type checkers know of the methods that `with_media` gives a class."""

        log_table: Callable[..., Any]
        log_video: Callable[..., Any]
        log_audio: Callable[..., Any]
        log_figure: Callable[..., Any]
        log_html: Callable[..., Any]
        log_text: Callable[..., Any]

else:
    MediaMethods = object


def with_media(cls: type[T]) -> type[T]:
    """Give a class the method of each medium, as its `_log_medium(kind, name, value, …)` takes it.

    That is called with the row, the name, the value and whatever keywords the method was given.
    """
    for kind in MEDIA.values():
        if kind.method not in vars(cls):
            setattr(cls, kind.method, _method(kind))
    return cls


def _method(kind: Medium) -> Callable[..., Any]:
    def log(self: Any, name: str, value: Any, **keywords: Any) -> Any:
        return self._log_medium(kind, name, value, **keywords)

    log.__name__ = log.__qualname__ = kind.method
    log.__doc__ = f"See `Run.{kind.method}`."
    return log


def said(caption: object) -> str | None:
    """A caption as text, whatever it was given as."""
    return None if caption is None else str(caption)


def _read(path: Path) -> bytes:
    """What is in a medium, which may be large where it was recorded so."""
    from tracking_core.base.regular import LARGEST, read_regular

    return read_regular(path, max(LARGEST, path.stat().st_size))


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _to_text(content: bytes) -> str:
    return content.decode("utf-8", "surrogatepass")
