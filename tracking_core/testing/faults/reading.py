"""Reads what the JSON Lines adapters wrote, with nothing but `json`: what they share with it is the format."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tracking_core.naming import FILE_NAMES
from tracking_core.testing.contract.harness import (
    AdapterHarness,
    Stored,
    StoredArtifact,
    StoredHistogram,
    StoredImage,
    StoredScalar,
)
from tracking_core.values import Histogram

if TYPE_CHECKING:
    from tracking_core.backends.hooks import RunInfo
    from tracking_core.testing.faults.lines import Honest


class LinesHarness(AdapterHarness):
    """The harness of one of the adapters of this package.

    Args:
        adapter: Its class, such as `faults.Drops`.
    """

    def __init__(self, adapter: type[Honest]) -> None:
        self._adapter = adapter
        self.call_limit = adapter.call_limit
        self.target = f"{adapter.__name__.lower()}:{{dir}}/out"

    def plugin(self) -> type[Honest]:
        """The adapter's class, which holds the hooks."""
        return self._adapter

    def read(self, directory: Path, run: RunInfo) -> Stored:
        """Every line of the run's file, by kind."""
        stored = Stored(scalars=[], images=[], histograms=[], artifacts=[], config={})
        text = (directory / "out" / f"{FILE_NAMES.encode(run.id)}.jsonl").read_text("utf-8")
        for line in text.splitlines():
            _add(stored, json.loads(line))
        return stored


def _add(stored: Stored, line: dict[str, Any]) -> None:
    kind = line["kind"]
    assert stored.scalars is not None
    assert stored.images is not None
    assert stored.histograms is not None
    assert stored.artifacts is not None
    if kind == "scalar":
        stored.scalars.append(
            StoredScalar(line["name"], line["axis"], line["step"], float(line["value"]), line["time"])
        )
    elif kind == "image":
        pixels = np.frombuffer(base64.b64decode(line["pixels"]), np.uint8).reshape(line["shape"])
        place = (line["name"], line["axis"], line["step"])
        stored.images.append(StoredImage(*place, pixels, line["caption"], line["time"]))
    elif kind == "histogram":
        value = Histogram(np.array(line["counts"]), np.array(line["edges"]))
        stored.histograms.append(StoredHistogram(line["name"], line["axis"], line["step"], value, line["time"]))
    elif kind == "artifact":
        files = {path: base64.b64decode(data) for path, data in line["files"].items()}
        stored.artifacts.append(
            StoredArtifact(line["name"], line["type"], files, tuple(line["aliases"]), line["metadata"])
        )
    elif kind == "config":
        stored.config = {**(stored.config or {}), **line["config"]}
    elif kind == "finish":
        stored.status = line["status"]
