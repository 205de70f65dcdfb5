"""Writes into `<path>/<run id>/`. Every call appends and closes, so nothing is lost and no file stays open."""

import csv
import json
import time
from pathlib import Path

from tracking_core.naming import FILE_NAMES
from tracking_core.values import (
    ArtifactRef,
    artifact_files,
    to_axis,
    to_histogram,
    to_image_mapping,
    to_scalars,
    to_step,
)


class CsvTracker:
    def __init__(self, path, run_id):
        self.directory = Path(path, FILE_NAMES.encode(run_id))
        self.directory.mkdir(parents=True, exist_ok=True)

    def log_scalars(self, scalars, *, step, step_axis="step", wall_time=None):
        place = (to_axis(step_axis), to_step(step))
        numbers = [(name, *place, repr(float(value)), now(wall_time)) for name, value in to_scalars(scalars).items()]
        with self.append("scalars.csv") as file:
            csv.writer(file).writerows(numbers)

    def log_images(self, images, *, step, step_axis="step", wall_time=None, value_range=None):
        place = {"axis": to_axis(step_axis), "step": to_step(step), "time": now(wall_time)}
        for name, batch in to_image_mapping(images, value_range=value_range).items():
            for image in batch:
                number = self.note("images", name=name, caption=image.caption, **place)
                self.write(f"images/{number}.png", image.png())

    def log_histogram(self, name, values, *, step, step_axis="step", wall_time=None, bins=64):
        place = {"axis": to_axis(step_axis), "step": to_step(step), "time": now(wall_time)}
        histogram = to_histogram(values, bins=bins, key=name)
        self.note("histograms", name=name, counts=histogram.counts.tolist(), edges=histogram.edges.tolist(), **place)

    def log_artifact(self, artifact, *, name=None, type="file", metadata=None, aliases=()):
        name, files = artifact_files(artifact, name)
        number = self.note("artifacts", name=name, type=type, metadata=dict(metadata or {}), aliases=list(aliases))
        for file in files:
            self.write(f"artifacts/{number}/{file.path}", file.read())
        return ArtifactRef(name, type)

    def finish(self, status="finished", *, error=None):
        self.note("status", status=status, error=error)

    def append(self, file):
        return (self.directory / file).open("a+", encoding="utf-8", errors="surrogatepass", newline="")

    def note(self, kind, **facts):
        """Append a JSON line; gives its number, which is also the number of the file that belongs to it."""
        with self.append(f"{kind}.jsonl") as file:
            file.seek(0)
            number = sum(1 for _ in file)
            file.write(json.dumps(facts) + "\n")
        return number

    def write(self, path, data):
        target = self.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def now(wall_time):
    return time.time() if wall_time is None else wall_time
