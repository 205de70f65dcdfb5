"""Runs that are stopped by a scheduler and started again: the job script of the documentation, and JAX's own signals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tracking_core as tracking
from tests.support.pages import ROOT, blocks
from tests.support.programs import REPO, journal_events, run
from tests.support.programs import start as start_program

PAGE = ROOT / "docs" / "resuming.md"
SRUN = '#!/bin/sh\necho $$ > srun.pid\nexec "$@"\n'
SCONTROL = '#!/bin/sh\necho "$@" >> scontrol.log\n'


class Cluster:
    """A directory with the job script and the training of the page, and what stands in for SLURM's commands."""

    def __init__(self, place: Path) -> None:
        self.place = place
        for block in blocks(PAGE):
            if block.title:
                (place / block.title).write_text(block.text)
        commands = place / "bin"
        commands.mkdir()
        for name, text in {
            "srun": SRUN,
            "scontrol": SCONTROL,
            "python": f'#!/bin/sh\nexec {sys.executable} "$@"\n',
        }.items():
            (commands / name).write_text(text)
            (commands / name).chmod(0o755)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("TRACKING_", "WANDB_", "SLURM_"))}
        self.environment = {
            **clean,
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(REPO), str(REPO / "adapters")]),
            "JAX_PLATFORMS": "cpu",
            "SLURM_JOB_ID": "7",
        }

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["bash", "job.sh"], cwd=self.place, env=self.environment)

    def events(self) -> list[dict]:
        directory = self.place / "tracking_runs" / "digits" / "job-7"
        return journal_events(directory) if (directory / "run.json").is_file() else []

    def await_steps(self, job: subprocess.Popen[bytes], count: int) -> None:
        deadline = time.monotonic() + 120
        while sum(event["kind"] == "scalars" for event in self.events()) < count:
            assert job.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_the_job_script_of_the_page_is_requeued_until_all_is_done(tmp_path):
    cluster = Cluster(tmp_path)
    job = cluster.start()
    cluster.await_steps(job, 20)
    # As SLURM does it for `--signal=TERM@120`: to what srun has started.
    os.kill(int((tmp_path / "srun.pid").read_text()), signal.SIGTERM)
    assert job.wait(60) == 143
    assert (tmp_path / "scontrol.log").read_text() == "requeue 7\n"
    events = cluster.events()
    assert [event["status"] for event in events if event["kind"] == "finish"] == ["preempted"]
    steps = [event["step"] for event in events if event["kind"] == "scalars"]
    assert steps == list(range(len(steps)))
    assert 20 <= len(steps) < 200
    # The last step is in a checkpoint: the handler left time for it.
    assert max(int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()) == steps[-1]

    assert cluster.start().wait(120) == 0
    assert (tmp_path / "scontrol.log").read_text() == "requeue 7\n"
    events = cluster.events()
    assert [event["status"] for event in events if event["kind"] == "finish"] == ["preempted", "finished"]
    assert [event["step"] for event in events if event["kind"] == "scalars"] == list(range(200))
    (truncate,) = [event for event in events if event["kind"] == "truncate"]
    assert truncate["step"] == steps[-1]
    losses = [event["values"]["loss"] for event in events if event["kind"] == "scalars"]
    assert losses == pytest.approx([4 * 0.9 ** (2 * step + 2) for step in range(200)], rel=1e-6)


def test_a_job_that_is_killed_logs_what_it_lost_again(tmp_path):
    cluster = Cluster(tmp_path)
    job = cluster.start()
    cluster.await_steps(job, 20)
    os.kill(int((tmp_path / "srun.pid").read_text()), signal.SIGKILL)
    assert job.wait(60) == 137
    assert not (tmp_path / "scontrol.log").exists()
    assert cluster.start().wait(120) == 0
    record = tracking.open_store(tmp_path / "tracking_runs").run("job-7")
    assert record.status == "finished"
    assert record.scalars("loss").step.tolist() == list(range(200))
    assert len(record.scalars("loss", raw=True)) >= 220


PREEMPTED = """
    import os, signal, sys
    import jax
    import tracking_core as tracking
    from jax.experimental import multihost_utils

    def initialize():
        jax.distributed.initialize("127.0.0.1:{port}", 1, 0)

    order = {order!r}
    if order == "after":
        initialize()
    run = tracking.start_run("p", run_id="r", root="runs", backends="local")
    if order == "before":
        initialize()
    os.kill(os.getpid(), signal.SIGTERM)
    for step in range(10_000_000):
        run.log_scalars({{"loss": 0.5}}, step=step)
        if multihost_utils.reached_preemption_sync_point(step):
            break
    else:
        raise SystemExit("JAX was not told")
    run.finish("preempted")
"""


@pytest.mark.parametrize("order", ["before", "after"])
def test_the_signal_is_left_to_jax_when_it_listens(tmp_path, order):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    run(PREEMPTED.format(port=port, order=order), tmp_path)
    assert tracking.open_store(tmp_path / "runs").run("r").status == "preempted"


def test_without_jax_the_signal_ends_the_run(tmp_path):
    program = """
        import tracking_core as tracking, time
        run = tracking.start_run("p", run_id="r", root="runs", backends="local")
        print("ready", flush=True)
        # In short pieces: a signal that comes just before Python begins to sleep is seen when it wakes.
        while True:
            time.sleep(0.05)
    """
    process = start_program(program, tmp_path)
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert tracking.open_store(tmp_path / "runs").run("r").status == "preempted"


def test_the_other_processes_go_on_after_the_same_step(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKING_PROCESS", "all")

    def processes(**how):
        return [
            tracking.start_run("p", run_id="r", root=tmp_path, backends="local", process=process, **how)
            for process in (0, 1)
        ]

    for how in ({}, {"resume": "must", "resume_step": 4}):
        runs = processes(**how)
        for number, one in enumerate(runs):
            for _ in range(3 if how else 10):
                one.log({f"host{number}": 0.5})
        for one in reversed(runs):
            one.finish()
    record = tracking.open_store(tmp_path).run("r")
    for number in (0, 1):
        assert record.scalars(f"host{number}").step.tolist() == list(range(8))
        assert len(record.scalars(f"host{number}", raw=True)) == 13
    # Only the first says what is superseded.
    assert [event["step"] for event in journal_events(record.dir) if event["kind"] == "truncate"] == [4]


@pytest.mark.parametrize("step", [1 << 63, -(1 << 63) - 1, ("", 3)])
def test_a_step_that_no_row_can_have_is_refused(tmp_path, step):
    with pytest.raises(tracking.SettingsError, match="64-bit integer"):
        tracking.start_run("p", run_id="r", root=tmp_path, backends="local", resume="allow", resume_step=step)
