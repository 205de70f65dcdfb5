"""Programs that record the same scalars, each written and read as its own code does it."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np

START = 1_764_000_000.0
BLOCK = 10_000


@dataclass(frozen=True)
class Shape:
    """How many runs there are, how many scalars each has, and how many rows these have."""

    runs: int
    series: int
    rows: int

    @property
    def names(self) -> list[str]:
        return [f"train/metric_{index}" for index in range(self.series)]

    @property
    def points(self) -> int:
        return self.runs * self.series * self.rows

    def blocks(self, run: int) -> Iterator[tuple[int, list[float], list[list[float]]]]:
        """(first step, times, values by row): float64 that hold float32 noise, a step of about 3.5 ms."""
        generator = np.random.default_rng(run)
        at = START + run
        for first in range(0, self.rows, BLOCK):
            count = min(BLOCK, self.rows - first)
            times = at + np.cumsum(np.abs(generator.normal(0.0035, 0.0002, count)))
            at = float(times[-1])
            yield first, times.tolist(), generator.normal(size=(count, self.series)).astype(np.float32).tolist()


class Peer(Protocol):
    """One program."""

    def write(self, place: Path, shape: Shape) -> None:
        """Record runs `r0`, `r1`, … in an empty directory."""

    def series(self, name: str) -> Any:
        """All rows of one scalar of `r0`; as from a program that has just started."""

    def last(self) -> Any:
        """The last value of every scalar of every run."""

    def compare(self, runs: int) -> Any:
        """(last, smallest) value of every scalar of the first runs."""

    def size(self) -> int:
        """Bytes on disk."""


def bytes_below(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


class TensorBoard:
    """Event files by tensorboardX, read by TensorBoard's EventAccumulator."""

    def write(self, place: Path, shape: Shape) -> None:
        from tensorboardX import SummaryWriter

        self._place, self._shape = place, shape
        for run in range(shape.runs):
            writer = SummaryWriter(str(place / f"r{run}"), max_queue=10_000, flush_secs=600)
            for first, times, rows in shape.blocks(run):
                for offset, (at, row) in enumerate(zip(times, rows, strict=True)):
                    for name, value in zip(shape.names, row, strict=True):
                        writer.add_scalar(name, value, first + offset, walltime=at)
            writer.close()

    def _read(self, run: int) -> Any:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        accumulator = EventAccumulator(str(self._place / f"r{run}"), size_guidance={"scalars": 0})
        accumulator.Reload()
        return accumulator

    def series(self, name: str) -> Any:
        return self._read(0).Scalars(name)

    def last(self) -> Any:
        read = map(self._read, range(self._shape.runs))
        return [{name: one.Scalars(name)[-1].value for name in self._shape.names} for one in read]

    def compare(self, runs: int) -> Any:
        found = []
        for one in map(self._read, range(runs)):
            curves = {name: [row.value for row in one.Scalars(name)] for name in self._shape.names}
            found.append({name: (curve[-1], min(curve)) for name, curve in curves.items()})
        return found

    def size(self) -> int:
        return bytes_below(self._place)


class Trackio:
    """trackio's SQLite file, by the functions behind its own command line."""

    def write(self, place: Path, shape: Shape) -> None:
        from trackio import sqlite_storage, utils

        # Read from the environment when it is imported; several places take turns here.
        for module in (sqlite_storage, utils):
            module.TRACKIO_DIR = place
        self._module, self._place, self._shape = sqlite_storage, place, shape
        storage = sqlite_storage.SQLiteStorage
        for run in range(shape.runs):
            for first, times, rows in shape.blocks(run):
                storage.bulk_log(
                    "p",
                    f"r{run}",
                    [dict(zip(shape.names, row, strict=True)) for row in rows],
                    steps=list(range(first, first + len(rows))),
                    timestamps=[datetime.fromtimestamp(at, UTC).isoformat() for at in times],
                )

    def _storage(self) -> Any:
        self._module.TRACKIO_DIR = self._place
        return self._module.SQLiteStorage

    def series(self, name: str) -> Any:
        return self._storage().get_metric_values("p", "r0", name)

    def last(self) -> Any:
        storage = self._storage()
        steps = [storage.get_last_step("p", f"r{run}") for run in range(self._shape.runs)]
        return [storage.get_snapshot("p", f"r{run}", step=step) for run, step in enumerate(steps)]

    def compare(self, runs: int) -> Any:
        storage = self._storage()
        found = []
        for run in range(runs):
            logs = storage.get_logs("p", f"r{run}")
            found.append({n: (logs[-1][n], min(row[n] for row in logs)) for n in self._shape.names})
        return found

    def size(self) -> int:
        return bytes_below(self._place)


class MLflow:
    """MLflow's SQLite store, through its client."""

    def write(self, place: Path, shape: Shape) -> None:
        from mlflow.entities import Metric
        from mlflow.tracking import MlflowClient

        self._place, self._shape = place, shape
        place.mkdir(parents=True)
        self._client = MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
        self._experiment = self._client.create_experiment("p", artifact_location=str(place / "artifacts"))
        self._ids: list[str] = []
        for run in range(shape.runs):
            run_id = self._client.create_run(self._experiment, run_name=f"r{run}").info.run_id
            self._ids.append(run_id)
            for first, times, rows in shape.blocks(run):
                metrics = [
                    Metric(name, value, int(at * 1000), first + offset)
                    for offset, (at, row) in enumerate(zip(times, rows, strict=True))
                    for name, value in zip(shape.names, row, strict=True)
                ]
                # As many as it takes at once.
                for begin in range(0, len(metrics), 1000):
                    self._client.log_batch(run_id, metrics[begin : begin + 1000])
            self._client.set_terminated(run_id)

    def series(self, name: str) -> Any:
        return self._client.get_metric_history(self._ids[0], name)

    def last(self) -> Any:
        runs = self._client.search_runs([self._experiment], max_results=self._shape.runs)
        assert len(runs) == self._shape.runs
        return [run.data.metrics for run in runs]

    def compare(self, runs: int) -> Any:
        found = []
        for run_id in self._ids[:runs]:
            curves = {n: [row.value for row in self._client.get_metric_history(run_id, n)] for n in self._shape.names}
            found.append({name: (curve[-1], min(curve)) for name, curve in curves.items()})
        return found

    def size(self) -> int:
        return bytes_below(self._place)


PEERS: dict[str, tuple[Callable[[], Peer], Sequence[str], str]] = {
    "TensorBoard EventAccumulator": (
        TensorBoard,
        ("tensorboard", "tensorboardX"),
        "pip install tensorboard tensorboardX",
    ),
    "trackio, SQLite": (Trackio, ("trackio",), "trackio"),
    "MLflow, SQLite": (MLflow, ("mlflow", "sqlalchemy", "alembic"), "mlflow"),
}
"""Name → (what makes one, the packages it takes, how to get them)."""


def installed() -> dict[str, Callable[[], Peer]]:
    """The programs that are there; it says why the others are left out."""
    os.environ.update({"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "HF_HUB_OFFLINE": "1"})
    found: dict[str, Callable[[], Peer]] = {}
    for name, (make, packages, command) in PEERS.items():
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        if missing:
            print(f"{name}: left out, {', '.join(missing)} not installed: pip install {command}", flush=True)
        else:
            found[name] = make
    return found


def milliseconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1e3
