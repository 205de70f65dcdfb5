"""SIGKILL at a random moment: what was acknowledged is there, the run is readable and crashed, and can be completed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path

import pytest

import tracking_core as tracking
from tests.support.programs import journal_events, scalar_rows
from tests.support.programs import run as run_program
from tracking_core.backends.plugins import find_adapter

#: Forks trainings, kills each at a moment of its own, and prints what each had acknowledged. A training logs a row, and
#: only then says so through a pipe; `LOG` is what it does at every step.
KILLER = """
import json, os, random, select, signal, struct, sys, time
import tracking_core as tracking
{imports}
import tracking_core.delivery.process.delivery, tracking_core.journal, tracking_core.environment.machine, tracking_core.intake.recorder
dice = random.Random({seed})
found = []
for number in range({kills}):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            run = tracking.start_run("p", root="runs", run_id=f"r{{number}}", name=f"r{{number}}", backends={backend!r})
            {before}
            os.write(writing, struct.pack("<q", -1))
            for step in range(10**9):
                {log}
                os.write(writing, struct.pack("<q", step))
        finally:
            os._exit(9)
    os.close(writing)
    # Some die before their run has begun, the others after some rows.
    early = {early} and number % 5 == 0
    if not early:
        select.select([reading], [], [], 60)
        rows = dice.randrange({rows})
        while rows and os.read(reading, 8):
            rows -= 1
    time.sleep(dice.random() * {window})
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, status
    said = b""
    while part := os.read(reading, 1 << 16):
        said += part
    last = None if early and not said else -1
    acknowledged = [struct.unpack("<q", said[i:i + 8])[0] for i in range(0, len(said), 8)]
    found.append([f"r{{number}}", max(acknowledged, default=last), early])
    os.close(reading)
print(json.dumps(found))
"""

HOST = 'run.log_scalars({"x": float(step), "y": step * 2}, step=step)'


def kill(tmp_path, *, kills, seed=0, backend="local", log=HOST, imports="", before="pass", rows=200, window=0.01,
         early=True, timeout=120):  # fmt: skip
    code = KILLER.format(
        kills=kills, seed=seed, backend=backend, log=log, imports=imports, before=before, rows=rows, window=window,
        early=early,
    )  # fmt: skip
    out, _ = run_program(code, tmp_path, timeout=timeout)
    return json.loads(out)


def check(tmp_path: Path, found, name="x"):
    """Every acknowledged row is there once, and every run that was begun is readable and crashed."""
    store = tracking.open_store(tmp_path / "runs")
    known = {record.id: record for record in store.runs()}
    for run_id, acknowledged, early in found:
        if run_id not in known:
            # Killed before `start_run` returned.
            assert early and acknowledged in {None, -1}
            continue
        record = known[run_id]
        rows = [row for row in scalar_rows(record.dir) if row[0] == name]
        steps = [row[2] for row in rows]
        assert steps == list(range(len(steps)))
        assert len(steps) > (-1 if acknowledged is None else acknowledged)
        assert all(row[3] == float(row[2]) for row in rows)
        assert record.status == "crashed"
        # A killed process tears no line: each was handed over whole.
        # A kill may cut the line that was being written: it was not acknowledged.
        assert [damage.reason for damage in record.damage()] in ([], ["the last line is incomplete"])
        if steps:
            assert record.scalars(name).step.tolist() == steps
        record.summary()
    return known


def test_killed_at_random_moments(tmp_path):
    found = check(tmp_path, kill(tmp_path, kills=18))
    assert len(found) >= 14


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_many_random_moments(tmp_path, seed):
    check(tmp_path, kill(tmp_path, kills=250, seed=seed, timeout=900))


SLOW = """
import jax, jax.numpy as jnp
slow = jax.jit(lambda x: jax.lax.fori_loop(0, 2000, lambda _, y: jnp.sin(y @ y.T @ y / 1e3), x)[0, 0])
"""
#: A value that takes long, a row from the host, and a row of both: what is on the host does not wait for what is not.
PENDING = (
    'run.log_scalars({"d": slow(jnp.eye(64) * step)}, step=step);'
    ' run.log_scalars({"x": float(step)}, step=step);'
    ' run.log_histogram("h", jnp.arange(100.0) * step, step=step)'
)


def check_pending(tmp_path, found):
    pending = 0
    for record in check(tmp_path, found).values():
        events = journal_events(record.dir)
        written = {event["seq"] for event in events}
        # What the journal claims to be complete, is; the values that died with their process are no damage.
        assert all(set(range(1, event["low"])) <= written for event in events)
        steps = {name: [row[2] for row in scalar_rows(record.dir) if row[0] == name] for name in ("d", "x")}
        assert steps["d"] == list(range(len(steps["d"])))
        pending += len(steps["x"]) - len(steps["d"])
    return pending


def test_killed_while_device_values_are_pending(tmp_path):
    before = "jnp.zeros(1); slow(jnp.eye(64)).block_until_ready()"
    found = kill(tmp_path, kills=3, seed=1, imports=SLOW, before=before, log=PENDING, rows=20, window=0.1, early=False)
    assert check_pending(tmp_path, found) > 0, "nothing was pending: the machine was too fast for this test"


@pytest.mark.stress
def test_killed_many_times_while_device_values_are_pending(tmp_path):
    before = "jnp.zeros(1); slow(jnp.eye(64)).block_until_ready()"
    found = kill(
        tmp_path, kills=50, seed=1, imports=SLOW, before=before, log=PENDING, rows=20, window=0.1, early=False,
        timeout=900,
    )  # fmt: skip
    assert check_pending(tmp_path, found) > 0


def stored(place: Path, run_id: str, run_dir: Path):
    info = tracking.RunInfo(id=run_id, name=run_id, project="p", dir=run_dir)
    return [(r.name, r.axis, r.step, r.value) for r in find_adapter("tensorboard").harness().read(place, info).scalars]


def complete(tmp_path, kills, seed):
    """Kill trainings whose target lags, then open each run again: its target ends with every row of it, once."""
    before = (
        "from tracking_core.delivery.process.client import deliverer;"
        ' open(f"deliverer-r{number}", "w").write(str(deliverer().process.pid))'
    )
    target = f"tensorboard:{tmp_path}/tb"
    found = kill(
        tmp_path, kills=kills, seed=seed, backend=target, before=before, rows=2000, window=0.5, early=False,
        timeout=900,
    )  # fmt: skip
    for run_id, _, _ in found[::2]:
        # The deliverer of a killed training goes on for a while; of these it dies as well.
        with contextlib.suppress(ProcessLookupError):
            os.kill(int((tmp_path / f"deliverer-{run_id}").read_text()), signal.SIGKILL)
    check(tmp_path, found)
    for run_id, _, _ in found:
        run = tracking.start_run(
            "p", root=tmp_path / "runs", run_id=run_id, resume="must", backends=target, delivery="thread"
        )
        report = run.finish()
        assert report.ok, str(report)
        rows = scalar_rows(run.dir)
        assert sorted(stored(tmp_path, run_id, run.dir)) == sorted(rows)
        assert len(rows) == len(set(rows))
        assert tracking.open_store(tmp_path / "runs").run(run_id).status == "finished"


def test_opening_a_killed_run_again_completes_its_target(tmp_path, troubles):
    complete(tmp_path, 4, 2)
    # Where the deliverer of the killed training is still at it, it is waited for.
    assert {reason for reason, _, _ in troubles} <= {"tensorboard: retry"}


@pytest.mark.stress
def test_opening_many_killed_runs_again_completes_their_targets(tmp_path, troubles):
    complete(tmp_path, 50, 3)
