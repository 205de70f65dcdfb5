"""Reads a run back with `csv`, `json` and Pillow, without the code that wrote it."""

import csv
import json

import numpy as np
from PIL import Image

from tracking_core.naming import FILE_NAMES
from tracking_core.testing import AdapterHarness, Stored, StoredArtifact, StoredHistogram, StoredImage, StoredScalar
from tracking_core.values import Histogram


class CsvHarness(AdapterHarness):
    target = "csv:{dir}/out"

    def read(self, directory, run):
        place = directory / "out" / FILE_NAMES.encode(run.id)
        stored = Stored(scalars=[], images=[], histograms=[], artifacts=[])
        for name, axis, step, time, value in rows(place / "scalars.csv"):
            stored.scalars.append(StoredScalar(name, axis, int(step), float(value), float(time)))
        for name, axis, step, time, caption, file in lines(place / "images.jsonl"):
            with Image.open(place / file) as image:
                stored.images.append(StoredImage(name, axis, step, np.array(image), caption, time))
        for name, axis, step, time, counts, edges in lines(place / "histograms.jsonl"):
            stored.histograms.append(StoredHistogram(name, axis, step, Histogram(counts, edges), time))
        for name, kind, folder, metadata, aliases in lines(place / "artifacts.jsonl"):
            paths = [path for path in (place / folder).rglob("*") if path.is_file()]
            files = {path.relative_to(place / folder).as_posix(): path.read_bytes() for path in paths}
            stored.artifacts.append(StoredArtifact(name, kind, files, tuple(aliases), metadata))
        return stored


def rows(path):
    if not path.exists():
        return []
    with path.open(encoding="utf-8", errors="surrogatepass", newline="") as file:
        return list(csv.reader(file))


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
