"""A CSV backend for tracking-core: `TRACKING_BACKEND=csv:./out` fills `./out/<run id>/`."""

import csv
import json
import time
from pathlib import Path

import tracking_core as tracking
from tracking_core.values import artifact_files, to_axis, to_histogram, to_image_mapping, to_scalars, to_step


@tracking.hookimpl
def tracking_adapter():
    return tracking.AdapterInfo(name="csv", api_version=1, options={}, description="CSV, JSON Lines and PNG files")


@tracking.hookimpl
def open_tracker(target, run):
    return CsvTracker(Path(target.path or "csv_runs", tracking.naming.FILE_NAMES.encode(run.id)))


class CsvTracker:
    def __init__(self, directory):
        self.directory = directory

    def log_scalars(self, scalars, *, step, step_axis="step", wall_time=None):
        place = to_axis(step_axis), to_step(step), wall_time or time.time()
        with self.file("scalars.csv").open("a", encoding="utf-8", errors="surrogatepass", newline="") as file:
            csv.writer(file).writerows((name, *place, repr(float(v))) for name, v in to_scalars(scalars).items())

    def log_images(self, images, *, step, step_axis="step", wall_time=None, value_range=None):
        place = to_axis(step_axis), to_step(step), wall_time or time.time()
        for name, batch in to_image_mapping(images, value_range=value_range).items():
            for image in batch:
                self.file(f"images/{image.digest()}.png").write_bytes(image.png())
                self.note("images", name, *place, image.caption, f"images/{image.digest()}.png")

    def log_histogram(self, name, values, *, step, step_axis="step", wall_time=None, bins=64):
        place = to_axis(step_axis), to_step(step), wall_time or time.time()
        histogram = to_histogram(values, bins=bins, key=name)
        self.note("histograms", name, *place, histogram.counts.tolist(), histogram.edges.tolist())

    def log_artifact(self, artifact, *, name=None, type="file", metadata=None, aliases=()):  # noqa: A002 - as in Tracker
        name, files = artifact_files(artifact, name)
        folder = f"artifacts/{tracking.naming.FILE_NAMES.encode(name)}-{time.time_ns()}"
        for file in files:
            self.file(f"{folder}/{file.path}").write_bytes(file.read())
        self.note("artifacts", name, type, folder, dict(metadata or {}), list(aliases))
        return tracking.ArtifactRef(name, type)

    def finish(self, status="finished", *, error=None):
        """Do nothing: every call has closed its file."""

    def note(self, kind, *facts):
        with self.file(f"{kind}.jsonl").open("a") as file:
            file.write(json.dumps(facts) + "\n")

    def file(self, path):
        (self.directory / path).parent.mkdir(parents=True, exist_ok=True)
        return self.directory / path
