"""Filters of a target that change: what they let through now is given later, once, and nothing is taken away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

import tracking_core as tracking
from tests.support.wandb_server import WandbServer
from tracking_core.backends.plugins import find_adapter
from tracking_core.cli.app import app

pytestmark = pytest.mark.system

STEPS = 40


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A run with two scalars of one call, one of another, and images."""
    monkeypatch.chdir(tmp_path)
    with tracking.start_run("p", run_id="r", name="r", root="runs", backends="local") as run:
        for step in range(STEPS):
            run.log_scalars({"train/loss": float(step), "val/loss": step + 0.5}, step=step)
            run.log_scalars({"other": -float(step)}, step=step)
        run.log_images({"sample": np.zeros((4, 4), np.uint8)}, step=3)
        run.log_config({"later": 1})
    return run


def sync(target, **env):
    """In a process of its own: the client of W&B reads its environment once."""
    done = subprocess.run(
        [sys.executable, "-m", "tracking_core.cli", "sync", "r", "--to", target, "--root", "runs", "--json"],
        env={**os.environ, **env}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = json.loads(done.stdout)["runs"]
    assert run["troubles"] == []
    (told,) = run["targets"]
    return told


def in_tensorboard(place, run_dir):
    info = tracking.RunInfo(id="r", name="r", project="p", dir=run_dir)
    content = find_adapter("tensorboard").harness().read(place, info)
    found = {}
    for row in content.scalars:
        found.setdefault(row.name, []).append((row.step, row.value))
    return found, [(image.name, image.step) for image in content.images]


TRAIN = [(step, float(step)) for step in range(STEPS)]
VAL = [(step, step + 0.5) for step in range(STEPS)]
OTHER = [(step, -float(step)) for step in range(STEPS)]


def test_tensorboard_is_written_anew_in_order(recorded, tmp_path):
    assert sync("tensorboard:./tb?include=train/*&media=off")["delivered"] == STEPS + 1
    assert in_tensorboard(tmp_path, recorded.dir) == ({"train/loss": TRAIN}, [])
    sync("tensorboard:./tb")
    assert in_tensorboard(tmp_path, recorded.dir) == (
        {"train/loss": TRAIN, "val/loss": VAL, "other": OTHER}, [("sample", 3)]
    )  # fmt: skip
    assert sorted(path.stat().st_size > 0 for path in (tmp_path / "tb/r").iterdir()) == [False, True]
    assert sync("tensorboard:./tb")["delivered"] == 0
    told = CliRunner().invoke(app, ["show", "r", "--root", "runs", "--json"]).stdout
    (target,) = json.loads(told)["targets"]
    # What counts is what is there, and not what was written and replaced.
    assert (target["delivered"], target["skipped"]) == (2 * STEPS + 2, 0)
    # Narrower: nothing that is there goes away, now or when it is written anew again.
    sync("tensorboard:./tb?include=val/*")
    sync("tensorboard:./tb?every=10")
    assert in_tensorboard(tmp_path, recorded.dir)[0] == {"train/loss": TRAIN, "val/loss": VAL, "other": OTHER}


def test_thinned_scalars_are_filled_in_between(recorded, tmp_path):
    sync("tensorboard:./tb?every=10&include=train/*")
    assert in_tensorboard(tmp_path, recorded.dir)[0] == {"train/loss": TRAIN[::10]}
    sync("tensorboard:./tb?every=5")
    assert in_tensorboard(tmp_path, recorded.dir)[0] == {
        "train/loss": TRAIN[::5], "val/loss": VAL[::5], "other": OTHER[::5]
    }  # fmt: skip
    sync("tensorboard:./tb?every=8")
    steps = sorted({*range(0, STEPS, 5), *range(0, STEPS, 8)})
    assert [step for step, _ in in_tensorboard(tmp_path, recorded.dir)[0]["other"]] == steps


def test_wandb_offline(recorded, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    sync("wandb://?mode=offline&include=train/*")
    sync("wandb://?mode=offline&include=val/*")
    info = tracking.RunInfo(id="r", name="r", project="p", dir=recorded.dir)
    content = find_adapter("wandb").harness().read(recorded.dir, info)
    assert sorted((row.name, row.step, row.value) for row in content.scalars) == sorted(
        [("train/loss", *row) for row in TRAIN] + [("val/loss", *row) for row in VAL]
    )
    assert len(list(tmp_path.rglob("offline-run-*/*.wandb"))) == 1


def online(server, name):
    return sorted((row["step"], row[name]) for row in server.runs["r"].history if name in row)


def set_env(monkeypatch, server, tmp_path):
    for key, value in {**server.env(tmp_path), "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(key, value)


def test_wandb_online_gets_what_is_new_into_the_same_run(recorded, tmp_path, monkeypatch):
    with WandbServer() as server:
        set_env(monkeypatch, server, tmp_path)
        assert sync("wandb://team/p?include=train/*&every=10")["delivered"] == 5
        assert (online(server, "train/loss"), online(server, "val/loss")) == (TRAIN[::10], [])
        # A row is given as far as it was not, and a configuration not again.
        assert sync("wandb://team/p?include=*/loss&every=5")["delivered"] == 8
        assert (online(server, "train/loss"), online(server, "val/loss")) == (TRAIN[::5], VAL[::5])
        assert online(server, "other") == []
        sync("wandb://team/p")
        assert [online(server, name) for name in ("train/loss", "val/loss", "other")] == [TRAIN, VAL, OTHER]
        assert len([row for row in server.runs["r"].history if "sample" in row]) == 1
        assert sync("wandb://team/p")["delivered"] == 0
        assert sync("wandb://team/p?every=10")["delivered"] == 0
        assert sync("wandb://team/p")["delivered"] == 0
        assert list(server.runs) == ["r"]
        assert [online(server, name) for name in ("train/loss", "val/loss", "other")] == [TRAIN, VAL, OTHER]


def test_wandb_online_backfill_that_is_killed_gives_each_row_once(tmp_path, monkeypatch):
    """Killed at several points, each of them in the second round."""
    monkeypatch.chdir(tmp_path)
    steps = 3000
    with tracking.start_run("p", run_id="r", name="r", root="runs", backends="local") as run:
        for step in range(steps):
            run.log_scalars({"train/loss": float(step), "val/loss": step + 0.5}, step=step)
    with WandbServer() as server:
        set_env(monkeypatch, server, tmp_path)
        sync("wandb://team/p?include=train/*")
        killed = 0
        for rows in (300, 1100, 2000):
            process = subprocess.Popen(
                [sys.executable, "-m", "tracking_core.cli", "sync", "r", "--to", "wandb://team/p", "--root", "runs"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "0.1"},
            )
            server.wait_for(lambda: process.poll() is not None or len(online(server, "val/loss")) >= rows, 60)
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                killed += 1
            process.wait()
        assert killed >= 1
        sync("wandb://team/p")
        assert online(server, "train/loss") == [(step, float(step)) for step in range(steps)]
        assert online(server, "val/loss") == [(step, step + 0.5) for step in range(steps)]


def test_records_after_the_change_are_under_the_new_filters(tmp_path, monkeypatch):
    """A run that is continued with other filters: what it had before stays under the old ones until it is synced."""
    monkeypatch.chdir(tmp_path)
    for first, filters in ((0, "?include=a"), (10, "?include=b"), (20, "")):
        with tracking.start_run(
            "p", run_id="r", name="r", root="runs", resume="allow", backends=f"tensorboard:./tb{filters}"
        ) as run:
            for step in range(first, first + 10):
                run.log_scalars({"a": float(step), "b": -float(step)}, step=step)
    rows, _ = in_tensorboard(tmp_path, run.dir)
    assert [step for step, _ in rows["a"]] == list(range(30))
    assert [step for step, _ in rows["b"]] == list(range(30))


def test_a_cursor_of_before_is_read(recorded, tmp_path):
    """One without rounds and generations goes on where it was."""
    sync("tensorboard:./tb")
    (path,) = (recorded.dir / "cursors").glob("*.json")
    content = json.loads(path.read_text())
    for key in ("generation", "replaced", "truncated", "round", "given", "kept", "before"):
        del content[key]
    path.write_text(json.dumps(content))
    assert sync("tensorboard:./tb")["delivered"] == 0
    assert in_tensorboard(tmp_path, recorded.dir)[0]["other"] == OTHER
