"""`tracking sync`: a run whose training is gone, or whose backend was away, comes to its targets by hand."""

from __future__ import annotations

import json
import os
import signal

import pytest
from click.testing import CliRunner

import tracking_core as tracking
from tests.support.programs import only_run, scalar_rows, start
from tracking_core.cli.app import app
from tracking_core.delivery.lease import Lease
from tracking_core.plugins import find_adapter
from tracking_core.targets import parse_target


def stored(place, run_dir):
    info = tracking.RunInfo(id=run_dir.name, name="r", project="p", dir=run_dir)
    return [(r.name, r.axis, r.step, r.value) for r in find_adapter("tensorboard").harness().read(place, info).scalars]


def sync(*arguments, code=0):
    result = CliRunner().invoke(app, ["sync", *arguments, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if code < 2 and result.stdout.startswith("{") else result.output


def test_a_local_run_is_brought_to_a_target_once(tmp_path):
    with tracking.start_run("p", name="r", root="runs") as run:
        for step in range(300):
            run.log_scalars({"x": float(step)}, step=step)
    assert sync(run.id, "--root", "runs")["targets"] == []
    first = sync(run.id, "--to", "tensorboard:./tb", "--root", "runs")
    assert [(t["delivered"], t["pending"]) for t in first["targets"]] == [(300, 0)]
    again = sync(run.id, "--to", "tensorboard:./tb", "--root", "runs")
    assert [(t["delivered"], t["pending"]) for t in again["targets"]] == [(0, 0)]
    assert stored(tmp_path, run.dir) == scalar_rows(run.dir)


def test_a_killed_run_is_completed(tmp_path):
    program = """
    import tracking_core as tracking
    run = tracking.start_run("p", name="r", root="runs", backends="tensorboard:./tb")
    for step in range(10**9):
        run.log_scalars({"x": float(step)}, step=step)
        if step % 100 == 0:
            print(step, flush=True)
    """
    process = start(program, tmp_path)
    for line in process.stdout:
        if int(line) >= 1000:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    run_dir = only_run(tmp_path / "runs")
    # The deliverer drains what the training has left, and gives its lease back by ending.
    for _ in range(600):
        result = CliRunner().invoke(app, ["sync", run_dir.name, "--root", "runs", "--json"])
        if result.exit_code == 0:
            break
        assert "delivers to it now" in result.output
        process_gone(run_dir)
    assert json.loads(result.stdout)["ok"]
    assert stored(tmp_path, run_dir) == scalar_rows(run_dir)


def process_gone(run_dir):
    """Wait for the owner of the lease to end, or for a tenth of a second."""
    import time

    lease = next((run_dir / "cursors").glob("*.lease"), None)
    if lease is not None:
        time.sleep(0.1)


def test_a_target_with_a_living_owner_is_left_alone():
    with tracking.start_run("p", root="runs") as run:
        run.log_scalars({"x": 1.0}, step=0)
    target = parse_target(f"tensorboard:{os.getcwd()}/tb")
    lease = Lease(run.dir, target.key, "tb")
    assert f"process {os.getpid()} delivers" in sync(run.id, "--to", "tensorboard:./tb", "--root", "runs", code=1)
    with pytest.raises(tracking.LeaseHeldError):
        Lease(run.dir, target.key, "tb")
    # The others are delivered to all the same.
    both = sync(run.id, "--to", "tensorboard:./tb,tensorboard:./free", "--root", "runs", code=1)
    assert [(t["delivered"], t["pending"]) for t in both["targets"]] == [(0, 1), (1, 0)]
    assert f"process {os.getpid()} delivers" in both["targets"][0]["last_error"]
    lease.release()
    assert sync(run.id, "--to", "tensorboard:./tb", "--root", "runs")["ok"]


def test_a_lease_of_a_dead_owner_is_taken_over(tmp_path):
    import subprocess
    import sys

    (tmp_path / "cursors").mkdir()
    dead = subprocess.run(
        [
            sys.executable,
            "-c",
            "from tracking_core.delivery.lease import Lease; from pathlib import Path; Lease(Path('.'), 'k', 'k')",
        ],
        check=True,
        cwd=tmp_path,
    )
    assert dead.returncode == 0
    assert (tmp_path / "cursors" / "k.lease").exists()
    Lease(tmp_path, "k", "k").release()
    assert not (tmp_path / "cursors" / "k.lease").exists()


def test_unknown_runs_and_targets():
    assert "there is no run" in sync("nosuch", "--root", "runs", code=1)
    with tracking.start_run("p", root="runs") as run:
        pass
    assert "nosuch" in sync(run.id, "--to", "nosuch", "--root", "runs", code=1)
