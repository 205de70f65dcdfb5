"""Media of rows as values: what the client wrote about a file, and the file."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tracking_core import InvalidValueError
from tracking_core.values import Audio, Figure, Histogram, Html, Image, Table, Text, Video, to_images
from tracking_wandb.media import HISTOGRAM, ORDER, text_of
from tracking_wandb.offline.bounds import LARGEST_JSON, check_file, load_json, read_bytes

_LISTS = {"images": "image-file", "audio": "audio-file", "videos": "video-file"}


class Media:
    """Reads the media of one run.

    Args:
        files: Paths as rows give them, and where the files are.
        root: The directory that they are in.
    """

    def __init__(self, files: Mapping[str, Path], root: Path) -> None:
        self._files = files
        self._root = root.resolve()

    def read(self, name: str, parts: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """The values of one name in a row, as (kind of record, value) pairs.

        Args:
            name: The name.
            parts: What stands in the row: one entry, or several where this adapter had to divide it.
            row: The row, for what this adapter put beside it.

        Raises:
            InvalidValueError: A file is gone, or its content is not what it should be.
        """
        kind = str(parts[0]["_type"])
        try:
            if kind == "images/separated":
                order = json.loads(row.get(ORDER, "{}")).get(name)
                return [("images", list(self._separated(name, parts, order)))]
            if kind == "histogram":
                return [("histogram", _histogram(parts[0], row))]
            if kind == "table-file":
                return [("table", self._table(parts))]
            if kind in _LISTS:
                # They stand under the name of the kind.
                items: list[Any] = parts[0][kind]
                values = [pair for item in items for pair in self._single(_LISTS[kind], name, item)]
                pictures = [picture for what, group in values if what == "images" for picture in group]
                return [("images", pictures)] if pictures else values
            return self._single(kind, name, parts[0])
        except InvalidValueError:
            raise
        except Exception as error:
            raise InvalidValueError(f"{kind} cannot be read: {error}") from error

    def _single(self, kind: str, name: str, value: Mapping[str, Any]) -> list[tuple[str, Any]]:
        readers: Mapping[str, Callable[[str, Mapping[str, Any]], tuple[str, Any]]] = {
            "image-file": self._image,
            "html-file": self._html,
            "audio-file": self._audio,
            "video-file": self._video,
            "plotly-file": self._plotly,
        }
        if kind not in readers:
            raise InvalidValueError(f"values of the type {kind!r} are not read")
        return [readers[kind](name, value)]

    def _place(self, path: str) -> Path:
        place = self._files.get(path)
        if place is None or not place.is_file():
            raise InvalidValueError(f"its file {path!r} is missing")
        if not place.resolve().is_relative_to(self._root):
            # A directory may come from anybody: what a link in it leads to is none of its files.
            raise InvalidValueError(f"its file {path!r} is a link to another place")
        return place

    def _bytes(self, path: str) -> bytes:
        return read_bytes(self._place(path))

    def _json(self, path: str) -> Any:
        return load_json(read_bytes(self._place(path), LARGEST_JSON))

    def _picture(self, name: str, path: str, caption: str | None) -> Image:
        data = self._bytes(path)
        if data.startswith(b"\x89PNG"):
            to_images(name, data)  # raises for what is damaged
            return Image.from_png(data, caption)
        return to_images(name, data)[0].captioned(caption)

    def _separated(self, name: str, parts: Sequence[Mapping[str, Any]], order: Sequence[int] | None) -> Iterator[Image]:
        """Images of one step, in their order; several parts hold those of several sizes."""
        waiting: list[list[tuple[str, str | None]]] = []
        for part in parts:
            files: list[str] = list(part["filenames"])
            # A false in place of captions says that there are none.
            captions = list(part.get("captions") or [None] * len(files))
            waiting.append(list(zip(files, captions, strict=True)))
        sequence = order if order is not None else [at for at, part in enumerate(waiting) for _ in part]
        for at in sequence:
            path, caption = waiting[at].pop(0)
            yield self._picture(name, path, caption or None)

    def _image(self, name: str, value: Mapping[str, Any]) -> tuple[str, Any]:
        return "images", [self._picture(name, value["path"], value.get("caption") or None)]

    def _html(self, _: str, value: Mapping[str, Any]) -> tuple[str, Any]:
        page = self._bytes(value["path"]).decode("utf-8", "replace")
        text = text_of(page)
        return ("html", Html(page)) if text is None else ("text", Text(text))

    def _audio(self, _: str, value: Mapping[str, Any]) -> tuple[str, Any]:
        return "audio", Audio.from_wav(self._bytes(value["path"]), value.get("caption") or None)

    def _video(self, _: str, value: Mapping[str, Any]) -> tuple[str, Any]:
        place = self._place(value["path"])
        if place.suffix != ".gif":
            check_file(place)
            return "video", Video(place)
        data = read_bytes(place)
        return "video", Video(data, _gif_rate(data))

    def _plotly(self, _: str, value: Mapping[str, Any]) -> tuple[str, Any]:
        content = read_bytes(self._place(value["path"]), LARGEST_JSON)
        load_json(content)
        text = content.decode("utf-8")
        return "figure", Figure.from_plotly(text)

    def _table(self, parts: Sequence[Mapping[str, Any]]) -> Table:
        contents = [self._json(part["path"]) for part in parts]
        rows = [row for content in contents for row in content["data"]]
        return Table(contents[0]["columns"], [[_cell(cell) for cell in row] for row in rows])


def _histogram(value: Mapping[str, Any], row: Mapping[str, Any]) -> Histogram:
    counts = np.asarray(value["values"])
    if "bins" in value:
        edges = np.asarray(value["bins"], np.float64)
    else:
        packed = value["packedBins"]
        edges = float(packed["min"]) + float(packed["size"]) * np.arange(len(counts) + 1)
    facts = row.get(HISTOGRAM)
    if facts is None:
        return Histogram(counts, edges)
    nan, posinf, neginf, low, high, mean, std, _ = facts
    numbers = (math.nan if number is None else float(number) for number in (low, high, mean, std))
    return Histogram(counts, edges, *(int(count) for count in (nan, posinf, neginf)), *numbers)


def _cell(cell: Any) -> Any:
    # Media in a cell are entries of their own kind; the file's name is what a table of ours can hold.
    return json.dumps(cell) if isinstance(cell, dict) else cell


def _gif_rate(data: bytes) -> float:
    from PIL import Image as Pillow

    with Pillow.open(io.BytesIO(data), formats=("GIF",)) as clip:
        delay = clip.info.get("duration") or 0
    return 1000 / delay if delay else 8.0
