"""`tracking sync`: a run whose training is gone, or whose backend was away, comes to its targets by hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

import tracking_core as tracking
from tests.support.programs import only_run, scalar_rows, start
from tracking_core.backends.plugins import find_adapter
from tracking_core.backends.targets import parse_target
from tracking_core.cli.app import app
from tracking_core.delivery.lease import Lease

pytestmark = pytest.mark.system


def stored(place, run_dir):
    info = tracking.RunInfo(id=run_dir.name, name="r", project="p", dir=run_dir)
    return [(r.name, r.axis, r.step, r.value) for r in find_adapter("tensorboard").harness().read(place, info).scalars]


def sync(*arguments, code=0):
    result = CliRunner().invoke(app, ["sync", *arguments, "--json"])
    assert result.exit_code == code, result.output
    if not result.stdout.startswith("{"):
        return result.output
    (run,) = json.loads(result.stdout)["runs"]
    return run


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


def test_all_runs_at_once(tmp_path):
    runs = []
    for number in range(3):
        with tracking.start_run("p", root="runs") as run:
            run.log_scalars({"x": float(number)}, step=number)
        runs.append(run)
    result = CliRunner().invoke(app, ["sync", "--all", "--to", "tensorboard:./tb", "--root", "runs", "--json"])
    assert result.exit_code == 0, result.output
    assert {one["run"] for one in json.loads(result.stdout)["runs"]} == {run.id for run in runs}
    for run in runs:
        assert stored(tmp_path, run.dir) == scalar_rows(run.dir)
    for wrong in ([], ["--all", runs[0].id], ["--follow", "runs", "--all"]):
        assert CliRunner().invoke(app, ["sync", *wrong]).exit_code == 2


FOLLOW = [sys.executable, "-m", "tracking_core.cli", "sync", "--follow", "runs", "--to", "tensorboard:./tb"]
GROWS = r"""
import os, sys
import tracking_core as tracking
run = tracking.start_run("p", name="r", root="runs", run_id=sys.argv[1], resume="allow")
for line in sys.stdin:
    if line == "end\n":
        run.finish()
    for step in range(*map(int, line.split()) if line != "end\n" else (0, 0)):
        run.log_scalars({"x": float(step)}, step=step)
    print("done", flush=True)
"""


class Growing:
    """A training on a machine without a network: it records what it is told to, into the local store."""

    def __init__(self, place, run_id):
        self.process = subprocess.Popen(
            [sys.executable, "-c", GROWS, run_id], cwd=place, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def tell(self, words):
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def kill(self):
        self.process.kill()
        self.process.communicate(timeout=30)


def until(condition, process, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def run_dir_of(tmp_path, run_id):
    return tmp_path / "runs" / "p" / run_id


def steps_at_target(tmp_path, run_id):
    try:
        return [row[2] for row in stored(tmp_path, run_dir_of(tmp_path, run_id))]
    except (OSError, StopIteration, AssertionError):
        return []


def test_following_runs_as_they_grow(tmp_path):
    """Begun before runs are there, killed and begun again in between: each row is there once, while the run goes on."""
    first, second = Growing(tmp_path, "one"), Growing(tmp_path, "two")
    follower = subprocess.Popen(FOLLOW, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        first.tell("0 500")
        second.tell("0 10")
        until(lambda: steps_at_target(tmp_path, "one") == list(range(500)), follower)
        follower.kill()
        follower.communicate(timeout=30)
        first.tell("500 600")
        follower = subprocess.Popen(FOLLOW, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        first.tell("600 700")
        until(lambda: steps_at_target(tmp_path, "one") == list(range(700)), follower)
        first.tell("end")
        first.kill()
        cursor = next((run_dir_of(tmp_path, "one") / "cursors").glob("tensorboard-*.json"))
        until(lambda: json.loads(cursor.read_text())["status"] == "finished", follower)
        second.kill()
        other = next((run_dir_of(tmp_path, "two") / "cursors").glob("tensorboard-*.json"))
        until(lambda: json.loads(other.read_text())["status"] == "failed", follower)
        assert steps_at_target(tmp_path, "two") == list(range(10))
        # One that ended is continued: it is followed again.
        again = Growing(tmp_path, "one")
        again.tell("700 800")
        until(lambda: steps_at_target(tmp_path, "one") == list(range(800)), follower)
        follower.send_signal(signal.SIGTERM)
        _, err = follower.communicate(timeout=60)
        assert follower.returncode == 0, err
        assert not list((run_dir_of(tmp_path, "one") / "cursors").glob("*.lease"))
        assert steps_at_target(tmp_path, "one") == list(range(800))
        again.kill()
    finally:
        for training in (first, second):
            training.kill()
        if follower.poll() is None:
            follower.kill()
            follower.communicate(timeout=30)


def test_following_needs_no_jax(tmp_path):
    code = "import sys\nsys.modules['jax'] = None\nfrom tracking_core.cli import main\nmain()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *FOLLOW[3:]], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    with tracking.start_run("p", root="runs", run_id="r") as run:
        run.log_scalars({"x": 1.0}, step=0)
    try:
        until(lambda: steps_at_target(tmp_path, "r") == [0], process)
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err


def test_with_wait_it_waits_for_the_process_that_delivers(tmp_path):
    with tracking.start_run("p", name="r", root="runs") as run:
        run.log_scalars({"x": 1.0}, step=0)
    target = parse_target(f"tensorboard:{tmp_path}/tb")
    held = Lease(run.dir, target.key, "tensorboard")
    words = ["sync", run.id, "--to", str(target), "--root", "runs"]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 1
    assert f"process {os.getpid()} delivers to it now" in refused.stderr and "or give --wait" in refused.stderr
    command = [sys.executable, "-m", "tracking_core.cli", *words, "--wait", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # It says what it waits for, and only then it may go on.
    line = process.stderr.readline()
    assert "delivers to it now" in line
    held.release()
    out, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    [result] = json.loads(out)["runs"]
    assert [(one["delivered"], one["pending"], one["url"]) for one in result["targets"]] == [(1, 0, None)]
    assert stored(tmp_path, run.dir) == scalar_rows(run.dir)


def test_what_waits_is_said_with_what_to_do():
    from tracking_core.cli.sync import advice

    runs = [{"run": "r", "targets": [{"pending": count}]} for count in (0, 3)]
    assert "the same command goes on from here, or give --wait" in advice({"runs": runs})
    assert advice({"runs": runs[:1]}) is None
    refused = CliRunner().invoke(app, ["sync", "--follow", "runs", "--wait"])
    assert refused.exit_code == 2 and "--failed and --wait are for runs" in refused.stderr
