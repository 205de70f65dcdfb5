"""Values as the client's own types. Files that the client reads are written into a folder that lasts for one call."""

from __future__ import annotations

import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np

from tracking_core.values import Audio, Figure, Histogram, Image, Table, Video
from tracking_wandb.names import clean

MAX_IMAGES = 108
"""Images under one key in one row; the client drops the others."""
MAX_BINS = 512
MAX_ROWS = 200_000
"""Rows of a table that the client accepts."""
VIDEO_FORMATS = frozenset({"gif", "mp4", "webm", "ogg"})
ORDER, HISTOGRAM = "_tracking_order", "_tracking_histogram"
HTML_START, HTML_END = '<pre style="white-space: pre-wrap">\n', "</pre>"


def image_parts(wandb: Any, images: Sequence[Image], folder: Path, prefix: str) -> tuple[list[list[Any]], list[int]]:
    """Images as lists of `wandb.Image`: each of one size and of at most 108, which is what W&B shows under one key.

    Args:
        wandb: The client.
        images: At least one.
        folder: Where the PNG files go.
        prefix: Start of their names.

    Returns:
        The lists, in the order of their first images; and for each image the number of its list.
    """
    parts: list[list[Any]] = []
    open_part: dict[tuple[int, int], int] = {}
    order: list[int] = []
    captioned = any(image.caption is not None for image in images)
    for number, image in enumerate(images):
        path = folder / f"{prefix}-{number}.png"
        path.write_bytes(image.png())
        # The client takes captions from all or from none, and looks at the first image to tell.
        caption = clean(str(image.caption or "")) if captioned else None
        converted = wandb.Image(str(path), caption=caption)
        size = converted.image.size
        part = open_part.get(size)
        if part is None or len(parts[part]) == MAX_IMAGES:
            part = open_part[size] = len(parts)
            parts.append([])
        parts[part].append(converted)
        order.append(part)
    return parts, order


def part_suffix(part: int) -> str:
    """What stands behind the key of a part: nothing behind that of the first."""
    return f"~part{part + 1}" if part else ""


def histogram(wandb: Any, value: Histogram) -> tuple[Any, dict[str, Any], int]:
    """A histogram as the client's type.

    Returns:
        The histogram, of at most 512 bins; what else belongs to it, as hidden entries of its row (counts of NaN, +Inf
        and -Inf; smallest and largest value, mean, standard deviation; bins before neighbours were joined); and how
        many values were not finite.
    """
    counts, edges = value.counts, value.edges
    bins = len(counts)
    if bins > MAX_BINS:
        width = -(-bins // MAX_BINS)
        starts = np.arange(0, bins, width)
        counts, edges = np.add.reduceat(counts, starts), np.append(edges[starts], edges[-1])
    facts = [value.nan, value.posinf, value.neginf, value.min, value.max, value.mean, value.std, bins]
    nonfinite = int(value.nan) + int(value.posinf) + int(value.neginf)
    return wandb.Histogram(np_histogram=(counts.tolist(), edges.tolist())), {HISTOGRAM: facts}, nonfinite


def tables(wandb: Any, value: Table) -> list[Any]:
    """A table as one `wandb.Table`, or several where it has more rows than the client takes."""
    columns = [clean(column) for column in value.columns]
    starts = range(0, max(1, len(value.rows)), MAX_ROWS)
    return [
        wandb.Table(
            columns=columns,
            data=[[_cell(cell) for cell in row] for row in value.rows[start : start + MAX_ROWS]],
            allow_mixed_types=True,
        )
        for start in starts
    ]


def let_go(parts: Sequence[Any]) -> None:
    """Remove what the client keeps in the temporary directory of tables that were logged: it has copies by then.

    It makes an artifact of each table, and writes that into a directory of its own, which would stay until the artifact
    is collected, or for ever if the process is killed before.
    """
    for part in parts:
        artifact = getattr(getattr(part, "_artifact_target", None), "artifact", None)
        folder = getattr(artifact, "_tmp_dir", None)
        if isinstance(folder, TemporaryDirectory):
            cast("TemporaryDirectory[str]", folder).cleanup()


def video(wandb: Any, value: Video, folder: Path) -> Any | None:
    """A video as the client's type; frames become a GIF. None for a format that W&B does not play."""
    if value.encoded is not None and value.format not in VIDEO_FORMATS:
        return None
    ending = "gif" if value.encoded is None else value.format
    path = folder / f"video.{ending}"
    path.write_bytes(value.gif() if value.encoded is None else value.encoded)
    return wandb.Video(str(path), format=ending)


def audio(wandb: Any, value: Audio, folder: Path) -> Any:
    """Sound as the client's type; it is written as 16-bit WAV here, so that nobody needs soundfile."""
    path = folder / "audio.wav"
    path.write_bytes(value.wav())
    caption = None if value.caption is None else clean(value.caption)
    return wandb.Audio(str(path), sample_rate=value.sample_rate, caption=caption)


def text(wandb: Any, value: str) -> Any:
    """Text as an HTML page that shows it as it is, line breaks and spaces included; unescaping gives it back."""
    return wandb.Html(f"{HTML_START}{html.escape(clean(value))}{HTML_END}", inject=False)


def html_page(wandb: Any, value: str) -> Any:
    """HTML as the client's type, without the style sheet of W&B; W&B shows it in a sandbox."""
    # A file to read: a str that is the path of one would be taken for that.
    return wandb.Html(io.StringIO(clean(value)), inject=False)


def text_of(page: str) -> str | None:
    """The text that `text` made a page of; None for a page that was logged as such."""
    if not (page.startswith(HTML_START) and page.endswith(HTML_END)):
        return None
    escaped = page[len(HTML_START) : -len(HTML_END)]
    found = html.unescape(escaped)
    return found if html.escape(found) == escaped else None


def figure(wandb: Any, value: Figure, folder: Path) -> Any:
    """A figure as the client's type: plotly's stays one to interact with, any other is a picture."""
    if value.plotly is not None:
        return wandb.Plotly(_PlotlyJson(json.loads(value.plotly)))
    assert value.image is not None
    path = folder / "figure.png"
    path.write_bytes(value.image.png())
    # One image, where log_images makes a list: that tells them apart.
    return wandb.Image(str(path))


class _PlotlyJson:
    """Plotly's JSON as something that the client takes for a plotly figure, without importing plotly for it."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = content

    def to_plotly_json(self) -> Mapping[str, Any]:
        return self._content


# The client knows figures by the full name of their class.
_PlotlyJson.__module__, _PlotlyJson.__name__, _PlotlyJson.__qualname__ = "plotly.graph_objs._figure", "Figure", "Figure"


def _cell(cell: Any) -> Any:
    if isinstance(cell, str):
        return clean(cell)
    if isinstance(cell, (list, tuple)):
        return [_cell(part) for part in cell]  # pyright: ignore[reportUnknownVariableType] - cells are any plain value
    return cell
