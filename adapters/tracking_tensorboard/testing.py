"""The contract harness: reads event files with TensorBoard's own loader, and with nothing of what wrote them."""

from __future__ import annotations

import ast
import html
import io
import itertools
import json
import re
import wave
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tracking_core import MissingDependencyError
from tracking_core.testing import (
    AdapterHarness,
    Stored,
    StoredArtifact,
    StoredHistogram,
    StoredImage,
    StoredScalar,
    StoredValue,
)
from tracking_core.values import Histogram, Table

if TYPE_CHECKING:
    from tracking_core import RunInfo


class Entry(NamedTuple):
    """One summary value, as TensorBoard's loader gives it.

    Args:
        event: Number of the event it stood in.
        tag: Its tag.
        plugin: The plugin that shows it.
        name: The name the user gave.
        kind: What it is: "scalars", "images", "histogram", "text", "video", "captions", …
        axis: The step axis.
        step: The step.
        time: Seconds since the epoch.
        value: The tensor as numpy sees it.
        content: The plugin's own metadata.
    """

    event: int
    tag: str
    plugin: str
    name: str
    kind: str
    axis: str
    step: int
    time: float
    value: Any
    content: bytes


_LISTED = "TensorBoard shows which files an artifact has, with sizes and digests; their bytes are in the run store"


class TensorBoardHarness(AdapterHarness):
    """Checks the TensorBoard adapter; needs the package `tensorboard`."""

    target = "tensorboard:{dir}/tb"
    expected_failures: Mapping[str, str] = {
        "artifacts.file_kept": _LISTED,
        "artifacts.directory_kept": _LISTED,
        "artifacts.mapping_kept": _LISTED,
        "artifacts.source_may_go": _LISTED,
    }

    def read(self, directory: Path, run: RunInfo) -> Stored:
        """Read the event files of a run back."""
        return read_run(find_run(directory, run.id))


def find_run(directory: Path, run_id: str) -> Path:
    """The directory of a run's event files, somewhere below a directory; of several the topmost.

    Raises:
        FileNotFoundError: There is none.
    """
    files = sorted(path for path in directory.rglob("*tfevents*") if path.is_file())
    places = {path.parent for path in files if whose(path).get("run") == run_id}
    if not places:
        raise FileNotFoundError(f"there is no run {run_id!r} below {directory}; there are {files!r}")
    return min(places, key=lambda place: (len(place.parts), place))


def whose(path: Path) -> dict[str, Any]:
    """What the first event of a file says of the run that it is of; {} if nothing."""
    first = next(iter(_loader(path)), None)
    kind, _, facts = ("" if first is None else str(first.source_metadata.writer)).partition(" ")
    if kind == "tracking-core":
        return json.loads(facts)
    # Files of before they said so: what they introduce.
    for event in itertools.islice(_loader(path), 4):
        for value in event.summary.value:
            if value.tag == "_run_/about":
                facts_of_run = {row[0]: row[1] for row in _rows(value.tensor.string_val[0].decode())}
                return {"run": facts_of_run.get("id")}
    return {}


def _loader(path: Path) -> Iterator[Any]:
    yield from _tensorboard()[0](str(path)).Load()


def _tensorboard() -> tuple[Any, Any]:
    """What reads event files, and what reads the values in them."""
    try:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from tensorboard.util import tensor_util
    except ImportError as error:
        raise MissingDependencyError(
            f"reading event files back needs TensorBoard itself: pip install tensorboard ({error})"
        ) from error
    return EventFileLoader, tensor_util


def entries(directory: Path) -> Iterator[Entry]:
    """Every summary value in the event files of a run, in order; those of its sub-runs come last."""
    _, tensor_util = _tensorboard()
    files = sorted(directory.glob("*tfevents*"))
    if any(whose(path).get("layout") == "scoped" for path in files):
        files += sorted(directory.glob("*/*tfevents*"))
    first: dict[tuple[Path, str], tuple[str, str, str, str, bytes]] = {}
    number = 0
    for path in files:
        for event in _loader(path):
            number += 1
            for value in event.summary.value:
                key = (path.parent, value.tag)
                if key not in first:
                    first[key] = (*_described(value.tag, value.metadata), value.metadata.plugin_data.content)
                plugin, name, kind, axis, content = first[key]
                array: Any = tensor_util.make_ndarray(value.tensor)
                yield Entry(
                    number, value.tag, plugin, name, kind, axis, int(event.step), event.wall_time, array, content
                )


def read_run(directory: Path) -> Stored:
    """Everything in the event files of a run, in order."""
    every = list(entries(directory))
    beside = {(entry.event, entry.kind, entry.name): entry for entry in every}
    stored = Stored.empty()
    stored.alerts = None
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    for entry in every:
        where = (entry.name, entry.axis, entry.step)
        match entry.kind:
            case "scalars":
                _list(stored.scalars).append(StoredScalar(*where, float(entry.value.item()), entry.time))
            case "images":
                captions = _captions(beside.get((entry.event, "captions", entry.name)))
                _list(stored.images).extend(
                    StoredImage(*where, _pixels(data), captions.get(number), entry.time)
                    for number, data in enumerate(entry.value[2:].tolist(), 1)
                )
            case "histogram":
                lost = {
                    kind: int(beside[entry.event, kind, entry.name].value.item())
                    for kind in ("nan", "posinf", "neginf")
                    if (entry.event, kind, entry.name) in beside
                }
                _list(stored.histograms).append(StoredHistogram(*where, _histogram(entry.value, lost), entry.time))
            case "artifact":
                _list(stored.artifacts).append(_artifact(_text(entry)))
            case "table":
                _list(stored.tables).append(StoredValue(*where, _table(_text(entry)), entry.time))
            case "text":
                _list(stored.texts).append(StoredValue(*where, _text(entry), entry.time))
            case "html":
                _list(stored.of("html")).append(StoredValue(*where, _text(entry), entry.time))
            case "audio":
                _list(stored.audio).append(StoredValue(*where, _samples(entry.value.reshape(-1)[0]), entry.time))
            case "video":
                _list(stored.videos).append(StoredValue(*where, _frames(entry.value[2]), entry.time))
            case "figure":
                _list(stored.figures).append(StoredValue(*where, _pixels(entry.value[2]), entry.time))
            case "config":
                _merge(config, _document(_text(entry)))
            case "summary":
                summary.update(_document(_text(entry)))
            case "status":
                stored.status = _text(entry).partition(":")[0]
            case _:
                stored.extra.setdefault(entry.kind, []).append(entry)
    stored.config, stored.summary = config, summary
    return stored


def _described(tag: str, metadata: Any) -> tuple[str, str, str, str]:
    """(plugin, name, kind, axis) from the metadata of a tag's first event."""
    plugin = metadata.plugin_data.plugin_name
    facts = {"kind": "histogram" if plugin == "histograms" else plugin, "step axis": "step", "name": tag}
    for line in metadata.summary_description.split("\n\n"):
        key, colon, text = line.partition(": ")
        if colon:
            facts[key] = json.loads(text) if text.startswith('"') else text
    return plugin, facts["name"], facts["kind"], facts["step axis"]


def _list(values: list[Any] | None) -> list[Any]:
    assert values is not None
    return values


def _text(entry: Entry) -> str:
    return entry.value.item().decode()


def _document(text: str) -> dict[str, Any]:
    return json.loads(text.removeprefix("```json\n").removesuffix("\n```"))


def _merge(into: dict[str, Any], new: dict[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _pixels(data: bytes) -> np.ndarray[Any, Any]:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        pixels = np.array(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _frames(data: bytes) -> np.ndarray[Any, Any]:
    from PIL import Image, ImageSequence

    with Image.open(io.BytesIO(data)) as image:
        return np.stack([np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)])


def _samples(data: bytes) -> np.ndarray[Any, Any]:
    with wave.open(io.BytesIO(data), "rb") as file:
        channels = file.getnchannels()
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, channels).astype(np.int16)


def _histogram(rows: np.ndarray[Any, Any], lost: dict[str, int]) -> Histogram:
    return Histogram(rows[:, 2], np.append(rows[:, 0], rows[-1, 1]), **lost)


def _captions(entry: Entry | None) -> dict[int, str]:
    lines = _text(entry).split("\n") if entry is not None else []
    return {int(number): _plain(text) for number, _, text in (line.partition(". ") for line in lines)}


def _plain(text: str) -> str:
    """Escaped Markdown as the text it shows."""
    return html.unescape(re.sub(r"\\(.)", r"\1", text.replace("<br>", "\n")))


def _rows(text: str) -> list[list[str]]:
    """The cells of the first table in a text, its header included."""
    lines = [line for line in text.partition("\n\n")[0].split("\n") if line.startswith("|")]
    # A cell ends at the first bar that no backslash escapes.
    cells = [re.findall(r"((?:\\.|[^\\|])*)\|", line)[1:] for line in lines]
    rows = [[_plain(cell[1:-1]) for cell in row] for row in cells]
    return [rows[0], *rows[2:]]


def _table(text: str) -> Table:
    columns, *rows = _rows(text)
    return Table(columns, [[_cell(cell) for cell in row] for row in rows])


def _cell(text: str) -> Any:
    """A number, a bool or nothing, where the text is just that; else the text."""
    if text in {"nan", "inf", "-inf"}:
        return float(text)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return value if value is None or isinstance(value, (bool, int, float, list)) else text


def _artifact(text: str) -> StoredArtifact:
    """The facts; an event file holds names, sizes and digests of the files, not their bytes."""
    facts = {row[0]: row[1] for row in _rows(text)[1:]}
    files = {row[0]: row[2].encode() for row in _rows(text.partition("\n\n")[2])[1:]}
    aliases = tuple(alias for alias in facts.get("aliases", "").split(", ") if alias)
    return StoredArtifact(facts["artifact"], facts["type"], files, aliases, json.loads(facts.get("metadata", "{}")))
