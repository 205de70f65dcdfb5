"""What arrives, compared with the journal row by row: after kills around the cursor, and with several who deliver."""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter

import pytest

import tracking_core as tracking
from tests.support.programs import only_run, scalar_rows, start
from tests.support.programs import run as run_program
from tests.support.wandb_server import WandbServer
from tracking_core.backends.plugins import find_adapter
from tracking_tensorboard.testing import find_run, read_run

#: Delivers in small batches, each with a cursor of its own, and dies before or after writing one of them. What logs
#: goes on until then.
KILLED_AT_A_CURSOR = """
import itertools, os, signal, time
import tracking_core as tracking
from tracking_core.delivery import worker
from tracking_core.delivery.cursor import Cursor

worker.BATCH, worker.COMMIT_INTERVAL = 32, 0.0
save, calls = Cursor.save, itertools.count(1)

def dying_save(self, positions):
    number = next(calls)
    if number == {at} and not {after}:
        os.kill(os.getpid(), signal.SIGKILL)
    save(self, positions)
    if number == {at}:
        os.kill(os.getpid(), signal.SIGKILL)

Cursor.save = dying_save
run = tracking.start_run(
    "p", name="r", run_id="r", root="runs", resume="allow", backends={backend!r}, delivery="thread"
)
for step in itertools.count({first}):
    run.log_scalars({{"x": float(step)}}, step=step)
    time.sleep(0.001)
"""
RESUMED = """
import tracking_core as tracking
run = tracking.start_run("p", name="r", run_id="r", root="runs", resume="must", backends={backend!r})
for step in range({first}, {first} + 100):
    run.log_scalars({{"x": float(step)}}, step=step)
report = run.finish()
assert report.ok, str(report)
"""
SYNC = "from tracking_core.cli.app import app; app(['sync', 'r', '--root', 'runs', '--json'])"


def kill_at_cursors(tmp_path, backend, kills, seed, **env):
    """Kill one run again and again, complete it by hand or by resuming it; returns the rows of its journal."""
    dice = random.Random(seed)
    first = 0
    for _ in range(kills):
        # The first cursor says no more than that the backend is open.
        code = KILLED_AT_A_CURSOR.format(backend=backend, at=dice.randint(1, 6), after=dice.random() < 0.5, first=first)
        run_program(code, tmp_path, code_expected=-signal.SIGKILL, **env)
        first = len(journal(tmp_path))
    if seed % 2:
        run_program(RESUMED.format(backend=backend, first=first), tmp_path, **env)
    else:
        out, _ = run_program(SYNC, tmp_path, **env)
        assert json.loads(out)["ok"]
    rows = journal(tmp_path)
    assert [row[2:] for row in rows] == [(step, float(step)) for step in range(len(rows))]
    assert len(rows) == first + 100 * (seed % 2)
    return rows


def journal(tmp_path):
    return scalar_rows(only_run(tmp_path / "runs"))


def tensorboard(place, run_id="r"):
    """Every row in the event files of a run, as TensorBoard's own reader finds them."""
    return [(row.name, row.axis, row.step, row.value) for row in read_run(find_run(place, run_id)).scalars]


def wandb_server_rows(server):
    return Counter((row["step"], row["x"]) for row in server.runs["r"].history if "x" in row)


@pytest.mark.parametrize("seed", [0, 1])
def test_tensorboard_after_kills_around_the_cursor(tmp_path, seed):
    rows = kill_at_cursors(tmp_path, "tensorboard:./tb", 3, seed)
    assert Counter(tensorboard(tmp_path / "tb")) == Counter(rows)


def test_wandb_online_after_kills_around_the_cursor(tmp_path):
    with WandbServer() as server:
        rows = kill_at_cursors(tmp_path, "wandb://team/p?system_metrics=off", 2, 2, **server.env(tmp_path))
        assert wandb_server_rows(server) == Counter(row[2:] for row in rows)


def wandb_offline(tmp_path, seed, kills):
    # Kept out of the home directory of whoever runs this.
    backend = "wandb://team/p?mode=offline&system_metrics=off"
    rows = kill_at_cursors(tmp_path, backend, kills, seed, HOME=str(tmp_path))
    run_dir = only_run(tmp_path / "runs")
    info = tracking.RunInfo(id="r", name="r", project="p", dir=run_dir)
    stored = find_adapter("wandb").harness().read(run_dir, info).scalars
    assert Counter((row.name, row.axis, row.step, row.value) for row in stored) == Counter(rows)


def test_wandb_offline_after_kills_around_the_cursor(tmp_path):
    wandb_offline(tmp_path, 3, 2)


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(10, 20))
def test_tensorboard_after_many_kills_around_the_cursor(tmp_path, seed):
    rows = kill_at_cursors(tmp_path, "tensorboard:./tb", 5, seed)
    assert Counter(tensorboard(tmp_path / "tb")) == Counter(rows)


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(10, 20))
def test_wandb_online_after_many_kills_around_the_cursor(tmp_path, seed):
    with WandbServer() as server:
        rows = kill_at_cursors(tmp_path, "wandb://team/p?system_metrics=off", 5, seed, **server.env(tmp_path))
        assert wandb_server_rows(server) == Counter(row[2:] for row in rows)


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(10, 20))
def test_wandb_offline_after_many_kills_around_the_cursor(tmp_path, seed):
    wandb_offline(tmp_path, seed, 5)


# ---- several who deliver

TWO = """
import tracking_core as tracking
run = tracking.start_run(
    "p", name="r", run_id="r", root="runs", resume="allow", backends={backends!r}, delivery={delivery!r}
)
for step in range({first}, {last}):
    run.log_scalars({{"x": float(step), "y": -1.0 * step}}, step=step)
report = run.finish()
assert report.ok, str(report)
print(sorted(report))
"""


@pytest.mark.parametrize("delivery", ["process", "thread"])
def test_two_targets_of_one_adapter_have_cursors_of_their_own(tmp_path, delivery):
    both = "tensorboard:./a,tensorboard:./b"
    run_program(TWO.format(backends=both, delivery=delivery, first=0, last=300), tmp_path)
    # What one of them has alone had, the other must get all the same.
    run_program(TWO.format(backends="tensorboard:./a", delivery=delivery, first=300, last=400), tmp_path)
    run_program(TWO.format(backends=both, delivery=delivery, first=400, last=500), tmp_path)
    assert len(list((only_run(tmp_path / "runs") / "cursors").glob("*.json"))) == 2
    rows = journal(tmp_path)
    assert len(rows) == 1000
    assert tensorboard(tmp_path / "a") == rows
    assert tensorboard(tmp_path / "b") == rows


def test_two_targets_of_one_adapter_with_filters_of_their_own(tmp_path):
    backends = "tensorboard:./a?exclude=y,tensorboard:./b?include=y&every=10,tensorboard:./c"
    out, _ = run_program(TWO.format(backends=backends, delivery="process", first=0, last=300), tmp_path)
    assert out.count("tensorboard") == 3
    rows = journal(tmp_path)
    assert tensorboard(tmp_path / "a") == [row for row in rows if row[0] == "x"]
    assert tensorboard(tmp_path / "b") == [row for row in rows if row[0] == "y" and row[2] % 10 == 0]
    assert tensorboard(tmp_path / "c") == rows


LIVE = """
import tracking_core as tracking
go = open("go")
run = tracking.start_run("p", name="r", run_id="r", root="runs", backends="tensorboard:./own")
for step in range(300):
    run.log_scalars({"x": float(step)}, step=step)
assert run.flush(60).ok
print("delivered", flush=True)
assert go.readline() == "go on\\n"
for step in range(300, 600):
    run.log_scalars({"x": float(step)}, step=step)
report = run.finish()
assert report.ok, str(report)
print("finished", flush=True)
"""


def test_a_live_run_and_sync_at_once(tmp_path):
    """The target of a living run is left to it; another is delivered to, and each row arrives at each once."""
    other = "from tracking_core.cli.app import app; app(['sync', 'r', '--root', 'runs', '--to', 'tensorboard:./other'])"
    os.mkfifo(tmp_path / "go")
    process = start(LIVE, tmp_path)
    try:
        # Both ends are there before any of them goes on.
        with (tmp_path / "go").open("w") as go:
            assert process.stdout.readline() == "delivered\n"
            _, said = run_program(SYNC, tmp_path, code_expected=1)
            assert "delivers to it now" in said
            run_program(other, tmp_path)
            rows = journal(tmp_path)
            assert len(rows) == 300
            assert tensorboard(tmp_path / "other") == tensorboard(tmp_path / "own") == rows
            go.write("go on\n")
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "finished\n"), err
    run_program(other, tmp_path)
    out, _ = run_program(SYNC, tmp_path)
    assert [one["delivered"] for one in json.loads(out)["runs"][0]["targets"]] == [0]
    rows = journal(tmp_path)
    assert len(rows) == 600
    assert tensorboard(tmp_path / "other") == tensorboard(tmp_path / "own") == rows


# ---- starting

NEVER_ANSWERED = """
import sys
import tracking_core as tracking
run = tracking.start_run("p", name="r", run_id="r", root="runs", backends="wandb://team/p?system_metrics=off")
for step in range(50):
    run.log_scalars({"x": float(step)}, step=step)
print("logged", flush=True)
report = run.finish()
assert report.ok, str(report)
assert "wandb" not in sys.modules
print("finished", flush=True)
"""


def test_starting_and_logging_do_not_wait_for_wandb(tmp_path):
    """Both return while the server has not answered a single request; and `wandb` never comes into the training."""
    with WandbServer() as server:
        server.stall()
        process = start(NEVER_ANSWERED, tmp_path, **server.env(tmp_path))
        try:
            assert process.stdout.readline() == "logged\n", process.stderr.read()
            server.wait_for(lambda: server.hits, timeout=60)
            assert server.operations == []
            assert server.runs == {}
            server.release()
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
            process.communicate(timeout=30)
        assert (process.returncode, out) == (0, "finished\n"), err
        assert wandb_server_rows(server) == Counter((step, float(step)) for step in range(50))
