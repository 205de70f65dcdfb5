"""What reading the run store takes, and how large it is, against programs that hold the same values.

TensorBoard's EventAccumulator, trackio and MLflow are measured where they are installed; all take turns in every round.
With `--big` ten million points are read as well, as one series and as one of ten; making them takes minutes.
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
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.machine import alone, render
from benchmarks.peers import START, Shape, bytes_below, installed, milliseconds

ONE = Shape(1, 10, 100_000)
"""A million points."""
MANY = Shape(300, 10, 100)
COMPARED = 20
LISTED = 10_000
BIG = (Shape(1, 1, 10_000_000), Shape(1, 10, 1_000_000))
WITH_BIG: list[Shape] = []
OURS = "tracking-core"
NAME = "train/metric_0"


class RunStore:
    """Our own: compacted runs, read from a store that was opened just now."""

    def write(self, place: Path, shape: Shape, *, compacted: bool = True) -> None:
        from tracking_core.compaction.compaction import compact
        from tracking_core.journal import JournalWriter
        from tracking_core.layout.runs import create_run

        self.place = place
        for run in range(shape.runs):
            name = f"r{run}"
            directory = place / "p" / name
            facts = {"id": name, "name": name, "project": "p", "config": {"lr": 0.1 * run}, "started": START + run}
            create_run(directory, facts)
            journal = JournalWriter(directory, name)
            for first, times, rows in shape.blocks(run):
                for offset, (at, row) in enumerate(zip(times, rows, strict=True)):
                    values = dict(zip(shape.names, row, strict=True))
                    journal.append("scalars", {"axis": "step", "step": first + offset, "values": values}, time=at)
                journal.rotate(8 << 20)
            journal.append("finish", {"status": "finished", "error": None})
            journal.close()
            if compacted:
                compact(directory, over=True)

    @property
    def store(self) -> Any:
        import tracking_core as tracking

        return tracking.open_store(self.place)

    def series(self, name: str) -> Any:
        return self.store.run("r0").scalars(name)

    def last(self) -> Any:
        return [record.summary() for record in self.store.runs()]

    def compare(self, runs: int) -> Any:
        return self.store.compare([f"r{run}" for run in range(runs)])

    def size(self) -> int:
        return bytes_below(self.place)


def copies(directory: Path, count: int) -> None:
    """The same run, many times over."""
    text = (directory / "run.json").read_text()
    for number in range(1, count):
        other = directory.with_name(f"r{number}")
        shutil.copytree(directory, other)
        (other / "run.json").write_text(text.replace(f'"{directory.name}"', f'"r{number}"'))


def medians(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of each, all in turn, after one round that warms up."""
    spent: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            took = milliseconds(work)
            if turn:
                spent[name].append(took)
    return {name: statistics.median(times) for name, times in spent.items()}


def without_index(work: Callable[[], object]) -> object:
    """Do the same where there is no index, and none is made."""
    from tracking_core.store import index

    with patch.multiple(index, FEWEST=1 << 40, DIRECTORY=".no-index"):
        return work()


def fill_index(place: Path, listing: Callable[[], object]) -> None:
    """List runs until nothing is added to the index any more."""
    path, seen = place / ".index" / "p", None
    while seen is None or path.stat().st_ino != seen:
        seen = path.stat().st_ino if path.exists() else None
        listing()


def against_peers(place: Path, rounds: int, results: dict[str, dict[str, float]]) -> None:
    """The same values in every program."""
    contenders: dict[str, Callable[[], Any]] = {OURS: RunStore, **installed()}

    def written(shape: Shape) -> dict[str, Any]:
        made = {name: make() for name, make in contenders.items()}
        for number, (name, one) in enumerate(made.items()):
            begin = time.perf_counter()
            one.write(place / f"{shape.runs}-{number}", shape)
            print(f"{name}: {shape.points} points written in {time.perf_counter() - begin:.0f} s", flush=True)
        return made

    def take(key: str, works: dict[str, Callable[[], object]]) -> None:
        for name, took in medians(works, rounds).items():
            results.setdefault(name, {})[key] = took

    one = written(ONE)
    take("one_series_ms", {name: partial(peer.series, NAME) for name, peer in one.items()})
    for name, peer in one.items():
        results[name]["bytes_a_point"] = peer.size() / ONE.points
    record = one[OURS].store.run("r0")
    results[OURS]["one_series_of_an_open_run_ms"] = medians({"": lambda: record.scalars(NAME)}, rounds)[""]
    many = written(MANY)
    fill_index(many[OURS].place, many[OURS].last)
    plain = medians({"": partial(without_index, many[OURS].last)}, rounds)
    results[OURS]["last_of_300_runs_without_index_ms"] = plain[""]
    take("last_of_300_runs_ms", {name: peer.last for name, peer in many.items()})
    take("compare_20_runs_ms", {name: partial(peer.compare, COMPARED) for name, peer in many.items()})


def listings(place: Path, rounds: int, results: dict[str, float]) -> None:
    """Ten thousand runs, without the index beside them and with it."""
    ours = RunStore()
    ours.write(place, Shape(1, 3, 20))
    copies(place / "p" / "r0", LISTED)
    works: dict[str, Callable[[], object]] = {
        "list": lambda: [(record.id, record.name, record.status) for record in ours.store.runs()],
        "sort": lambda: sorted((record.summary()[NAME], record.id) for record in ours.store.runs()),
    }
    fill_index(place, works["sort"])
    found = medians(
        {**works, **{f"plain {name}": partial(without_index, work) for name, work in works.items()}}, rounds
    )
    for name in works:
        held, plain = found[name], found[f"plain {name}"]
        key = f"{name}_10000_runs"
        results[f"{key}_without_index_ms"], results[f"{key}_ms"], results[f"{key}_ratio"] = plain, held, plain / held


def ten_million(place: Path, shape: Shape, rounds: int, results: dict[str, float]) -> None:
    """A large run, against what it takes to load the same three arrays from .npy files."""
    ours = RunStore()
    ours.write(place / "run", shape)
    record = ours.store.run("r0")
    series = record.scalars(NAME)
    arrays = {name: place / f"{name}.npy" for name in ("step", "time", "value")}
    for name, path in arrays.items():
        np.save(path, getattr(series, name))
    del series
    works: dict[str, Callable[[], object]] = {
        "": lambda: record.scalars(NAME),
        "npy": lambda: [np.load(path) for path in arrays.values()],
    }
    found = medians(works, rounds)
    key = f"{shape.rows // 1_000_000}_of_10_million"
    results[f"{key}_ms"], results[f"{key}_npy_ms"] = found[""], found["npy"]
    results[f"{key}_bytes_a_point"] = ours.size() / shape.points


def measure(rounds: int) -> dict[str, dict[str, float]]:
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        against_peers(Path(name) / "peers", rounds, results)
    with tempfile.TemporaryDirectory() as name:
        listings(Path(name), rounds, results[OURS])
    for shape in WITH_BIG:
        with tempfile.TemporaryDirectory() as name:
            ten_million(Path(name), shape, rounds, results[OURS])
    return results


def table(results: dict[str, dict[str, float]]) -> str:
    ours = results[OURS]
    shared = [key for key in ours if any(key in numbers for name, numbers in results.items() if name != OURS)]
    shared = shared or ["one_series_ms", "bytes_a_point", "last_of_300_runs_ms", "compare_20_runs_ms"]
    rows = [
        [name, *(f"{numbers[key]:.3g} ({numbers[key] / ours[key]:.3g}x)" for key in shared)]
        for name, numbers in results.items()
    ]
    alone = [[key, f"{value:.3g}"] for key, value in ours.items() if key not in shared]
    return "\n\n".join(
        (render("Reading the run store", ["", *shared], rows), render("More of tracking-core", ["", ""], alone))
    )


if __name__ == "__main__":
    if "--big" in sys.argv:
        # What is left is for the command line that all measurements share.
        sys.argv.remove("--big")
        WITH_BIG.extend(BIG)
    alone("store_read", measure, table)
