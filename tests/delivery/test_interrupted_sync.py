"""Ctrl-C on `tracking sync`, several of them at once, and backends that are away: nothing is lost, nothing comes twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.commands import COMMAND, as_json, environment
from tests.support.everything import OTHER, from_journal, killed_training, train
from tests.support.processes import MARK, marked, wait_until_gone
from tests.support.programs import run as run_program
from tests.support.programs import scalar_rows
from tests.support.replayed import at_server, check_tensorboard, check_wandb, from_tensorboard, from_wandb, marks_of
from tests.support.wandb_server import WandbServer

pytestmark = pytest.mark.system

ROWS = 80_000
LONG = f"""
import os
import tracking_core as tracking
run = tracking.start_run("p", "long", root="runs", run_id="r")
for step in range({ROWS}):
    run.log_scalars({{"x": float(step)}}, step=step)
os._exit(1)
"""


def start(folder: Path, *arguments: str, **env: str) -> subprocess.Popen:
    return subprocess.Popen(
        [*COMMAND, "sync", "r", "--root", "runs", *arguments],
        cwd=folder,
        env=environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As at a terminal: a shell that started the tests in the background has SIGINT ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def until(condition, process: subprocess.Popen, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def leases(run_dir: Path) -> list[Path]:
    return list((run_dir / "cursors").glob("*.lease"))


def test_ctrl_c_in_the_middle(tmp_path):
    """It ends at once with 130, the lease is free, and what follows goes on behind what is there."""
    run_program(LONG, tmp_path, code_expected=1)
    run_dir = tmp_path / "runs" / "p" / "r"

    def begun() -> bool:
        for path in (run_dir / "cursors").glob("*.json"):
            return any(position["seq"] > 0 for position in json.loads(path.read_text())["writers"].values())
        return False

    first = start(tmp_path, "--to", "tensorboard:./tb")
    until(begun, first)
    first.send_signal(signal.SIGINT)
    out, err = first.communicate(timeout=60)
    assert first.returncode == 130, (out, err)
    assert out == ""
    assert err == "interrupted: delivered records are kept, and the same command continues from there\n"
    assert leases(run_dir) == []
    second = as_json("sync", "r", "--to", "tensorboard:./tb", "--root", "runs", cwd=tmp_path)
    (report,) = second["runs"][0]["targets"]
    assert 0 < report["delivered"] < ROWS
    found = from_tensorboard(tmp_path, "r")
    assert sorted(row[3] for row in found.rows.elements()) == [row[2] for row in scalar_rows(run_dir)]


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A store with a run that was killed, and the one that it uses."""
    place = tmp_path_factory.mktemp("killed")
    run_program(OTHER, place)
    killed_training(place, "r", random.Random(3), 15, 20)
    return place / "runs"


@pytest.fixture
def online(killed, tmp_path):
    """A copy of the store, and a server of W&B; all that is started has a mark, and ends with the test."""
    run_dir = tmp_path / "runs" / "p" / "r"
    shutil.copytree(killed, tmp_path / "runs")
    with WandbServer("team") as server:
        env = {**server.env(tmp_path / "client"), MARK: tmp_path.name}
        yield server, env, run_dir
        server.heal()
        for pid in marked(tmp_path.name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def check_online(server, env, run_dir, journal):
    wait_until_gone(env[MARK])
    held = at_server(server, "r", run_dir.parents[2] / "held")
    check_wandb(from_wandb(held), journal, online=True, alerts_once=False)


def test_ctrl_c_while_a_backend_does_not_answer(online, tmp_path):
    server, env, run_dir = online
    journal = from_journal(run_dir)
    as_json("sync", "data", "--to", "wandb://team/p", "--root", "runs", cwd=tmp_path, **env)
    server.stall(operation="UpsertBucket")
    first = start(tmp_path, "--to", "wandb://team/p", **env)
    until(lambda: server.hits and leases(run_dir), first)
    first.send_signal(signal.SIGINT)
    out, err = first.communicate(timeout=60)
    assert first.returncode == 130, (out, err)
    assert "Traceback" not in err
    assert leases(run_dir) == []
    server.heal()
    as_json("sync", "r", "--to", "wandb://team/p", "--root", "runs", cwd=tmp_path, **env)
    check_online(server, env, run_dir, journal)


def test_one_target_goes_on_while_another_hangs(online, tmp_path):
    """A second process delivers to a second target meanwhile, is refused the first, and the first then completes."""
    server, env, run_dir = online
    journal = from_journal(run_dir)
    as_json("sync", "data", "--to", "wandb://team/p", "--root", "runs", cwd=tmp_path, **env)
    server.stall(operation="UpsertBucket")
    first = start(tmp_path, "--to", "wandb://team/p", "--json", **env)
    until(lambda: server.hits and leases(run_dir), first)
    second = start(tmp_path, "--to", "wandb://team/p", "--to", "tensorboard:./tb", "--json", **env)
    out, err = second.communicate(timeout=60)
    assert second.returncode == 1, (out, err)
    refused, done = json.loads(out)["runs"][0]["targets"]
    assert f"process {first.pid} delivers to it now" in refused["last_error"]
    assert (done["ok"], done["pending"]) == (True, 0)
    check_tensorboard(from_tensorboard(tmp_path, "r"), journal)
    assert first.poll() is None
    server.heal()
    out, err = first.communicate(timeout=100)
    assert first.returncode == 0, (out, err)
    check_online(server, env, run_dir, journal)


def test_a_target_that_is_away_is_completed_later_alone(online, tmp_path):
    server, env, run_dir = online
    journal = from_journal(run_dir)
    as_json("sync", "data", "--to", "wandb://team/p", "--root", "runs", cwd=tmp_path, **env)
    server.fail(status=403)
    both = ("--to", "wandb://team/p", "--to", "tensorboard:./tb")
    away, done = as_json("sync", "r", *both, "--root", "runs", cwd=tmp_path, code=1, **env)["runs"][0]["targets"]
    assert (away["ok"], away["delivered"], done["ok"]) == (False, 0, True)
    assert away["pending"] == done["delivered"] + done["skipped"]
    server.heal()
    there, again = as_json("sync", "r", *both, "--root", "runs", cwd=tmp_path, **env)["runs"][0]["targets"]
    assert (there["ok"], there["pending"], again["delivered"]) == (True, 0, 0)
    check_tensorboard(from_tensorboard(tmp_path, "r"), journal)
    check_online(server, env, run_dir, journal)


def test_media_that_a_killed_client_had_not_sent_yet_are_sent(online, tmp_path):
    """All rows had arrived already, and tell nothing of their files."""
    server, env, run_dir = online
    journal = from_journal(run_dir)
    as_json("sync", "data", "--to", "wandb://team/p", "--root", "runs", cwd=tmp_path, **env)
    server.stall(on="files")
    first = start(tmp_path, "--to", "wandb://team/p", **env)

    def all_rows() -> bool:
        found = [marks_of(row) for row in server.runs["r"].history] if server.hits and "r" in server.runs else []
        return sum(map(len, found)) == len(journal.marks)

    until(all_rows, first)
    while left := marked(env[MARK]):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    first.communicate(timeout=60)
    server.heal()
    as_json("sync", "r", "--to", "wandb://team/p", "--root", "runs", cwd=tmp_path, **env)
    check_online(server, env, run_dir, journal)


def test_a_run_that_goes_on_keeps_what_was_changed_before(online, tmp_path):
    """Opening it again must not take its configuration back to what it was at the start."""
    server, env, run_dir = online
    as_json("sync", "data", "--to", "wandb://team/p", "--root", "runs", cwd=tmp_path, **env)
    as_json("sync", "r", "--to", "wandb://team/p", "--root", "runs", cwd=tmp_path, **env)
    training = train(tmp_path, "r", 14, 18, 0, "must")
    while (line := training.stdout.readline()) != "done\n":
        assert line, training.communicate()
    journal = from_journal(run_dir)
    training.kill()
    training.communicate(timeout=60)
    assert journal.config["model"]["depth"] != 2
    as_json("sync", "r", "--to", "wandb://team/p", "--root", "runs", cwd=tmp_path, **env)
    check_online(server, env, run_dir, journal)


def test_what_the_client_gave_up_is_sent_or_said(online, tmp_path):
    """It says nothing of files that it could not upload, and the rows are there. So the server is asked for them."""
    server, env, run_dir = online
    journal = from_journal(run_dir)
    as_json("sync", "data", "--to", "wandb://team/p", "--root", "runs", cwd=tmp_path, **env)
    server.fail(on="files", status=500, times=12)
    for code in (1, 0):
        process = start(tmp_path, "--to", "wandb://team/p", "--json", **env)
        out, err = process.communicate(timeout=100)
        assert process.returncode in {code, 0}, (out, err)
        assert json.loads(out)["ok"] == (process.returncode == 0), out
        if process.returncode == 0:
            break
    assert server.hits == 12
    check_online(server, env, run_dir, journal)
