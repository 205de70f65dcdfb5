"""What reading the run store takes, and how large it is, against TensorBoard's EventAccumulator over the same values.

With `--big` a series of ten million points is read as well; making it takes minutes.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.machine import alone, render

SERIES, ROWS = 10, 100_000
RUNS, LISTED = 300, 10_000
BIG = 10_000_000
WITH_BIG: list[int] = []
START = 1_764_000_000.0


def make_run(root: Path, run_id: str, series: int, rows: int) -> Path:
    """A compacted run: float64 values that hold float32 noise, regular steps, a step of about 3.5 ms."""
    from tracking_core.journal import JournalWriter
    from tracking_core.layout import create_run
    from tracking_core.store.compaction import compact

    directory = root / "p" / run_id
    create_run(directory, {"id": run_id, "name": run_id, "project": "p", "config": {"lr": 0.1}, "started": START})
    journal = JournalWriter(directory, run_id)
    generator = np.random.default_rng(0)
    names = [f"train/metric_{index}" for index in range(series)]
    at = START
    for step in range(rows):
        if step % 10_000 == 0:
            block = generator.normal(size=(10_000, series)).astype(np.float32).astype(float).tolist()
            gaps = np.abs(generator.normal(0.0035, 0.0002, 10_000)).tolist()
            journal.rotate(8 << 20)
        at += gaps[step % 10_000]
        values = dict(zip(names, block[step % 10_000], strict=True))
        journal.append("scalars", {"axis": "step", "step": step, "values": values}, time=at)
    journal.append("finish", {"status": "finished", "error": None})
    journal.close()
    compact(directory, over=True)
    return directory


def copies(directory: Path, count: int) -> None:
    """The same run, many times over."""
    text = (directory / "run.json").read_text()
    for number in range(1, count):
        other = directory.with_name(f"r{number}")
        shutil.copytree(directory, other)
        (other / "run.json").write_text(text.replace(f'"{directory.name}"', f'"r{number}"'))


def bytes_of(directory: Path) -> int:
    """Size of what holds the values."""
    return sum(path.stat().st_size for path in directory.glob("*-*-*-*.*"))


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    """The median, after one that warms up."""
    spent = []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        work()
        spent.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(spent[1:])


def tensorboard(place: Path, directory: Path, rounds: int) -> dict[str, float]:
    """The same values in an event file, read by TensorBoard."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboardX import SummaryWriter

    from tracking_core.store import RunRecord

    record = RunRecord(directory)
    writer = SummaryWriter(str(place), max_queue=10_000, flush_secs=600)
    for name in record.scalar_names():
        series = record.scalars(name)
        for step, at, value in zip(series.step.tolist(), series.time.tolist(), series.value.tolist(), strict=True):
            writer.add_scalar(name, value, step, walltime=at)
    writer.close()

    def read() -> None:
        accumulator = EventAccumulator(str(place), size_guidance={"scalars": 0})
        accumulator.Reload()
        assert len(accumulator.Scalars("train/metric_3")) == ROWS

    size = sum(path.stat().st_size for path in place.iterdir())
    return {"one_series_ms": milliseconds(read, max(1, rounds // 5)), "bytes_a_point": size / (SERIES * ROWS)}


def measure(rounds: int) -> dict[str, dict[str, float]]:
    import tracking_core as tracking

    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        directory = make_run(place / "one", "r0", SERIES, ROWS)
        ours = tracking.open_store(place / "one").run("r0")
        results["tracking-core"] = {
            "one_series_ms": milliseconds(lambda: ours.scalars("train/metric_3"), rounds),
            "bytes_a_point": bytes_of(directory) / (SERIES * ROWS),
        }
        cold = milliseconds(lambda: tracking.open_store(place / "one").run("r0").scalars("train/metric_3"), rounds)
        results["tracking-core"]["one_series_and_open_ms"] = cold
        results["TensorBoard EventAccumulator"] = tensorboard(place / "tb", directory, rounds)
        copies(make_run(place / "many", "r0", SERIES, 1000), RUNS)
        many = tracking.open_store(place / "many")
        results["tracking-core"]["last_of_300_runs_ms"] = milliseconds(
            lambda: [record.summary() for record in many.runs()], rounds
        )
        copies(make_run(place / "lots", "r0", 3, 20), LISTED)
        lots = tracking.open_store(place / "lots")
        results["tracking-core"]["list_10000_runs_ms"] = milliseconds(
            lambda: [(record.id, record.name, record.status) for record in lots.runs()], rounds
        )
        for points in WITH_BIG:
            make_run(place / "big", "r0", 1, points)
            big = tracking.open_store(place / "big").run("r0")
            read = partial(big.scalars, "train/metric_0", raw=True)
            results["tracking-core"]["ten_million_points_ms"] = milliseconds(read, rounds)
    return results


def table(results: dict[str, dict[str, float]]) -> str:
    keys = list(results["tracking-core"])
    rows = [
        [name, *(f"{numbers[key]:.2f}" if key in numbers else "" for key in keys)] for name, numbers in results.items()
    ]
    return render("Reading the run store", ["", *keys], rows)


if __name__ == "__main__":
    if "--big" in sys.argv:
        # What is left is for the command line that all measurements share.
        sys.argv.remove("--big")
        WITH_BIG.append(BIG)
    alone("store_read", measure, table)
