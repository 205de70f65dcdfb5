"""Reads a run directory back without the store's own code: JSON, Pillow and the standard library."""

from __future__ import annotations

import io
import json
import wave
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking_core.testing.contract.harness import (
    AdapterHarness,
    Stored,
    StoredArtifact,
    StoredHistogram,
    StoredImage,
    StoredScalar,
    StoredValue,
)

if TYPE_CHECKING:
    from tracking_core.backends.hooks import RunInfo


class LocalHarness(AdapterHarness):
    """The embedded store, opened directly."""

    target = "local:{dir}/runs"

    def read(self, directory: Path, run: RunInfo) -> Stored:
        """Read the JSON Lines of the run."""
        found = sorted(directory.glob(f"runs/*/{run.id}/run.json"))
        if not found:
            return Stored()
        return read_run_directory(found[0].parent)


def read_run_directory(directory: Path) -> Stored:
    """Read everything in a run directory, by its documented format alone."""
    facts = _tagged(json.loads((directory / "run.json").read_text(encoding="utf-8")))
    stored = Stored.empty(config=dict(facts["config"]), summary={}, status="running")
    stored.extra["used_artifacts"] = []
    for journal in sorted((directory / "journal").glob("*.jsonl")):
        lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines() if line]
        for event in sorted(lines, key=lambda event: event["seq"]):
            _take(stored, event, directory)
    return stored


def _take(stored: Stored, event: dict[str, Any], directory: Path) -> None:
    when: tuple[str, Any] = (event.get("axis", "step"), event.get("step"))
    time, kind = event["t"], event["kind"]
    if kind == "scalars":
        assert stored.scalars is not None
        stored.scalars += [StoredScalar(n, *when, float(v), time) for n, v in event["values"].items()]
    elif kind == "images":
        assert stored.images is not None
        for name, entries in event["images"].items():
            for entry in entries:
                pixels = _pixels((directory / "media" / entry["file"]).read_bytes())
                stored.images.append(StoredImage(name, *when, pixels, entry["caption"], time))
    elif kind == "histogram":
        assert stored.histograms is not None
        stored.histograms.append(StoredHistogram(event["name"], *when, _histogram(event), time))
    elif kind in _READERS:
        field, read = _READERS[kind]
        value = read(event, directory)
        rows = stored.of(field)
        assert rows is not None
        rows.append(StoredValue(event["name"], *when, value, time))
    elif kind == "artifact":
        assert stored.artifacts is not None
        blobs = Path(event["blobs"]) / "sha256"
        files = {p: (blobs / e["sha256"][:2] / e["sha256"][2:]).read_bytes() for p, e in event["files"].items()}
        stored.artifacts.append(
            StoredArtifact(event["name"], event["type"], files, tuple(event["aliases"]), _tagged(event["metadata"]))
        )
    elif kind in {"config", "summary"}:
        _merge(getattr(stored, kind), _tagged(event[kind]))
    elif kind == "alert":
        assert stored.alerts is not None
        stored.alerts.append((event["title"], event["text"], event["level"]))
    elif kind == "use_artifact":
        stored.extra["used_artifacts"].append(event["artifact"])
    elif kind == "finish":
        stored.status = event["status"]


def _histogram(event: dict[str, Any]) -> Any:
    from tracking_core.values import Histogram

    numbers: dict[str, Any] = {key: float(_tagged(event[key])) for key in ("min", "max", "mean", "std")}
    lost: dict[str, Any] = {key: event[key] for key in ("nan", "posinf", "neginf")}
    return Histogram(event["counts"], event["edges"], **lost, **numbers)


def _pixels(png: bytes) -> Any:
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        array = np.array(image)
    return array[..., None] if array.ndim == 2 else array


def _text(event: dict[str, Any], directory: Path) -> str:  # noqa: ARG001 - as the others
    return event["text"]


def _table(event: dict[str, Any], directory: Path) -> Any:
    from tracking_core.values import Table

    content = _tagged(json.loads((directory / "media" / event["file"]).read_text(encoding="utf-8")))
    return Table(content["columns"], content["rows"])


def _audio(event: dict[str, Any], directory: Path) -> Any:
    import numpy as np

    with wave.open(str(directory / "media" / event["file"]), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())


def _video(event: dict[str, Any], directory: Path) -> Any:
    import numpy as np

    path = directory / "media" / event["file"]
    if path.suffix != ".npz":
        return path.read_bytes()
    with np.load(path, allow_pickle=False) as archive:
        return archive["frames"]


def _figure(event: dict[str, Any], directory: Path) -> Any:
    content = (directory / "media" / event["file"]).read_bytes()
    return content.decode("utf-8") if event["file"].endswith(".plotly.json") else _pixels(content)


def _html(event: dict[str, Any], directory: Path) -> str:
    return (directory / "media" / event["file"]).read_bytes().decode("utf-8", "surrogatepass")


_READERS: dict[str, tuple[str, Any]] = {
    "text": ("texts", _text),
    "table": ("tables", _table),
    "audio": ("audio", _audio),
    "video": ("videos", _video),
    "figure": ("figures", _figure),
    "html": ("html", _html),
}


def _tagged(value: Any) -> Any:
    """Undo the tags that stand for numbers JSON does not have."""
    if isinstance(value, dict):
        if set(value) == {"$float"}:
            return float(value["$float"])
        if set(value) == {"$int"}:
            return int(value["$int"])
        return {key.removeprefix("$"): _tagged(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_tagged(part) for part in value]
    return value


def _merge(into: dict[str, Any], new: dict[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(into.get(key), dict) and isinstance(value, dict):
            _merge(into[key], value)
        else:
            into[key] = value
