"""What many records and many runs cost in memory and file descriptors, in the training and in its deliverer."""

from __future__ import annotations

import json

import pytest

from tests.support.faulty import faulty_site
from tests.support.programs import run as run_program
from tests.support.programs import scalar_rows
from tracking_tensorboard.testing import find_run, read_run

GROWTH_MB = 50
"""How much training and deliverer may grow together, however many records a backend lags behind."""
SHORT_MB = 25
"""The same for 50,000 records: more than the constant part, and less than they would all take."""
RUN_FDS = {"training": 2, "deliverer": 2}
"""Open files that each open run may take: in the training its journal; in the deliverer the event file."""
RUN_KB = {"training": 50, "deliverer": 200}
"""Memory that each open run may take."""
MEASURE = """
import json, os, time
from pathlib import Path
import tracking_core as tracking
from tracking_core.delivery.process.client import deliverer

def private(pid):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))

def both(measure):
    return {"training": measure(os.getpid()), "deliverer": measure(deliverer().process.pid)}

def files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))

def wait(condition):
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
"""
LAG = """
run = tracking.start_run("p", root="runs", backends="faulty:{place}?mode={mode},tensorboard:./tb?every={every}")
found = []
for first, last in ((0, {warm}), ({warm}, {rows})):
    for step in range(first, last):
        run.log_scalars({{"a": 0.5 * step, "b": 1.0}}, step=step)
    wait(lambda: run.health.pending["tensorboard"] == 0)
    if {taken} and last == {rows}:
        # Now it goes on, with all of this before it, for as long as it takes to read several times.
        Path("{place}/behind").touch()
        wait(lambda: run.health.pending["faulty"] == {rows} - {taken})
    found.append(both(private))
health = run.health
report = run.finish(timeout=1.0)
print(json.dumps([found, health.pending["faulty"], report["tensorboard"].pending, report["local"].dropped]))
"""


def growth(tmp_path, rows, *, warm=5000, mode="block", every=1):
    taken = 1000 if mode == "stagger" else 0
    code = MEASURE + LAG.format(place=tmp_path / "faulty", mode=mode, warm=warm, rows=rows, every=every, taken=taken)
    out, _ = run_program(code, tmp_path, timeout=1500, **faulty_site(tmp_path))
    (before, after), *rest = json.loads(out)
    assert rest == [rows - taken, 0, 0]
    grown = {name: (after[name] - before[name]) / 1024 for name in before}
    print(f"{rows} records, MB: {grown}, from {before} KB")
    return grown


@pytest.mark.parametrize("mode", ["block", "stagger"])
def test_memory_with_a_backend_that_lags_behind(tmp_path, mode):
    grown = growth(tmp_path, 50_000, mode=mode, every=10)
    assert sum(grown.values()) < SHORT_MB, grown


@pytest.mark.stress
@pytest.mark.parametrize("mode", ["block", "stagger", "later"])
def test_memory_with_a_backend_a_million_records_behind(tmp_path, mode):
    grown = growth(tmp_path, 1_000_000, mode=mode, every=100)
    assert sum(grown.values()) < GROWTH_MB, grown


MANY = """
def start(number):
    run = tracking.start_run("p", name=f"r{{number}}", run_id=f"r{{number}}", root="runs", backends="tensorboard:./tb")
    for step in range({rows}):
        run.log_scalars({{"x": float(step * number)}}, step=step)
    return run

# The first ones pay for what all share.
runs = [start(number) for number in range({warm})]
wait(lambda: not any(run.health.pending["tensorboard"] for run in runs))
before = both(private), both(files)
runs += [start(number) for number in range({warm}, {warm} + {runs})]
wait(lambda: not any(run.health.pending["tensorboard"] for run in runs))
after = both(private), both(files)
reports = [run.finish() for run in runs]
assert all(report.ok for report in reports), [str(report) for report in reports if not report.ok]
closed = both(files)
print(json.dumps([before, after, closed]))
"""


def many(tmp_path, runs, *, warm=10, rows=20, timeout=1500):
    out, _ = run_program(MEASURE + MANY.format(runs=runs, warm=warm, rows=rows), tmp_path, timeout=timeout)
    (memory, files), (more_memory, more_files), closed = json.loads(out)
    for name in ("training", "deliverer"):
        kilobytes = (more_memory[name] - memory[name]) / runs
        descriptors = (more_files[name] - files[name]) / runs
        print(f"{name}: {kilobytes:.0f} KB and {descriptors:.2f} files per run; {closed[name]} files at the end")
        assert descriptors <= RUN_FDS[name]
        assert kilobytes <= RUN_KB[name]
        # Finished runs keep nothing open.
        assert closed[name] <= files[name]
    for number in range(warm + runs):
        stored = [(row.step, row.value) for row in read_run(find_run(tmp_path / "tb", f"r{number}")).scalars]
        assert stored == [(step, float(step * number)) for step in range(rows)]
        (directory,) = (tmp_path / "runs").glob(f"*/r{number}")
        assert [row[2:] for row in scalar_rows(directory)] == stored


def test_a_hundred_open_runs(tmp_path):
    many(tmp_path, 100)


@pytest.mark.stress
def test_a_thousand_open_runs(tmp_path):
    many(tmp_path, 1000)
