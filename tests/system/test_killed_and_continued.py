"""A training that is killed and continued: every target ends with each acknowledged record, once where it can be once."""

from __future__ import annotations

import os
import signal

import pytest

import tracking_core as tracking
from tests.support.programs import only_run, scalar_rows, start
from tests.support.programs import run as run_program
from tracking_core.backends.plugins import find_adapter

TRAIN = """
import sys
import tracking_core as tracking
first, last = int(sys.argv[1]) if len(sys.argv) > 1 else {first}, {last}
run = tracking.start_run("p", root="runs", run_id="r", name="r", resume="allow", backends={backend!r})
if {wait}:
    run.flush()
for step in range(first, last):
    run.log_scalars({{"x": float(step)}}, step=step)
    if step % 100 == 99:
        print(step, flush=True)
    if {pace}:
        import time; time.sleep(0.0005)
report = run.finish()
assert report.ok, str(report)
"""


def train(backend, first, last, *, wait=False, pace=False):
    return TRAIN.format(backend=backend, first=first, last=last, wait=wait, pace=pace)


def kill_in_the_middle(tmp_path, backend, after, **env):
    process = start(train(backend, 0, 10**9, wait=True, pace=True), tmp_path, **env)
    try:
        for line in process.stdout:
            if int(line) >= after:
                break
        else:
            raise AssertionError(process.stderr.read())
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)
    rows = scalar_rows(only_run(tmp_path / "runs"))
    assert len(rows) > after
    return len(rows)


def stored_rows(name, place, run_dir):
    info = tracking.RunInfo(id="r", name="r", project="p", dir=run_dir)
    return [(r.name, r.axis, r.step, r.value) for r in find_adapter(name).harness().read(place, info).scalars]


@pytest.mark.parametrize("after", [99, 1499])
def test_tensorboard_has_every_row_once(tmp_path, after):
    survived = kill_in_the_middle(tmp_path, "tensorboard:./tb", after)
    run_program(train("tensorboard:./tb", survived, survived + 300), tmp_path)
    run_dir = only_run(tmp_path / "runs")
    rows = scalar_rows(run_dir)
    assert [row[2] for row in rows] == list(range(survived + 300))
    assert stored_rows("tensorboard", tmp_path, run_dir) == rows


def test_wandb_offline_is_rewritten_whole(tmp_path):
    survived = kill_in_the_middle(tmp_path, "wandb://?mode=offline", 499, HOME=str(tmp_path))
    run_program(train("wandb://?mode=offline", survived, survived + 100), tmp_path, HOME=str(tmp_path))
    run_dir = only_run(tmp_path / "runs")
    assert len(list(tmp_path.rglob("offline-run-*/*.wandb"))) == 1
    rows = scalar_rows(run_dir)
    assert [row[2] for row in rows] == list(range(survived + 100))
    assert stored_rows("wandb", run_dir, run_dir) == rows


def test_wandb_online_has_every_row_once(tmp_path):
    from tests.support.wandb_server import WandbServer

    with WandbServer() as server:
        env = {**server.env(tmp_path), "HOME": str(tmp_path)}
        survived = kill_in_the_middle(tmp_path, "wandb://team/p", 499, **env)
        run_program(train("wandb://team/p", survived, survived + 100), tmp_path, **env)
        history = server.runs["r"].history
    rows = scalar_rows(only_run(tmp_path / "runs"))
    assert [row[2] for row in rows] == list(range(survived + 100))
    assert sorted(row["x"] for row in history if "x" in row) == [row[3] for row in rows]
