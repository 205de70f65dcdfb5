"""What may be killed, at each backend, again and again: a training that delivers, `tracking sync`, and one that follows.

Each row ends up there once. Three kinds of death: the process alone, as the kernel kills for memory (a client that W&B runs beside it goes on for a
while); all of it, as when a machine goes down; and Ctrl-C. The seed of a failure is in its output.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.commands import COMMAND, as_json, environment
from tests.support.everything import OTHER, from_journal, killed_training, train
from tests.support.processes import MARK, marked, wait_until_gone
from tests.support.programs import run as run_program
from tests.support.replayed import at_server, check_tensorboard, check_wandb, from_tensorboard, from_wandb, offline
from tests.support.wandb_server import WandbServer

BACKENDS = ["tensorboard", "wandb-offline", "wandb-online"]


class Place:
    """A store, a target, and what delivers to it; everything that is started carries a mark, to be found by."""

    def __init__(self, folder: Path, backend: str) -> None:
        self.folder, self.backend, self.mark = folder, backend, uuid4().hex
        self.server = WandbServer("team").start() if backend == "wandb-online" else None
        # With sub-runs or without: one of both each time.
        layout = random.SystemRandom().choice(["flat", "scoped"])
        self.target = {
            "tensorboard": f"tensorboard:./tb?layout={layout}",
            "wandb-offline": "wandb://?mode=offline",
            "wandb-online": "wandb://team/p",
        }[backend]
        print(self.target)
        self.env = {MARK: self.mark, **(self.server.env(folder / "client") if self.server else {"HOME": str(folder)})}

    def start(self, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [*COMMAND, "sync", *arguments, "--to", self.target],
            cwd=self.folder,
            env=environment(**self.env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill(self, process: subprocess.Popen, everything: bool) -> None:
        os.kill(process.pid, signal.SIGKILL)
        if everything:
            while left := marked(self.mark):
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=60)

    def check(self, run_dir: Path, journal) -> None:
        """Compare what is there now with the journal, when nothing is on its way any more."""
        wait_until_gone(self.mark)
        if self.backend == "tensorboard":
            check_tensorboard(from_tensorboard(self.folder, "r"), journal)
        elif self.backend == "wandb-offline":
            check_wandb(from_wandb(offline(run_dir)), journal, online=False, alerts_once=False)
        else:
            held = at_server(self.server, "r", self.folder / f"server-{uuid4().hex}")
            check_wandb(from_wandb(held), journal, online=True, alerts_once=False)

    def end(self) -> None:
        for pid in marked(self.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.server:
            self.server.stop()
            self.server = None


@pytest.fixture
def open_place(tmp_path):
    """Make a place; in the end nothing of it goes on."""
    made = []

    def make(backend: str) -> Place:
        folder = tmp_path / f"place{len(made)}"
        folder.mkdir()
        made.append(Place(folder, backend))
        return made[-1]

    yield make
    for place in made:
        place.end()


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A store with a training that was killed after some hundred calls, and the run that it uses."""
    place = tmp_path_factory.mktemp("killed")
    run_program(OTHER, place)
    run_dir = killed_training(place, "r", random.Random(7), 120, 140)
    return place, from_journal(run_dir)


def moment(run_dir: Path, process: subprocess.Popen, dice: random.Random, window: float) -> bool:
    """Wait for a random moment: mostly some time after the target was taken; False if the process ended before."""
    if dice.random() < 0.85:
        deadline = time.monotonic() + 60
        while not list((run_dir / "cursors").glob("*.lease")) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(dice.random() * window)
    return process.poll() is None


WINDOWS = {"tensorboard": 0.4, "wandb-offline": 3.0, "wandb-online": 5.0}


def sync_campaign(open_place: Callable[[str], Place], killed, backend: str, kills: int, seed: int) -> int:
    """Kill syncs until they end by themselves, and begin with a new target until there were enough kills.

    Returns:
        How many runs were brought to a target.
    """
    dice = random.Random(seed)
    store, journal = killed
    done = rounds = 0
    while True:
        place = open_place(backend)
        shutil.copytree(store / "runs", place.folder / "runs")
        run_dir = place.folder / "runs" / "p" / "r"
        if backend == "wandb-online":
            as_json("sync", "data", "--to", place.target, "--root", "runs", cwd=place.folder, **place.env)
        here = 0
        while True:
            process = place.start("r", "--root", "runs", "--json")
            # What never comes to its end is given time in the end.
            if done < kills and here < 12 and moment(run_dir, process, dice, WINDOWS[backend]):
                everything = dice.random() < 0.5
                place.kill(process, everything)
                done, here = done + 1, here + 1
                print(f"seed {seed}: kill {done} {'of everything' if everything else 'of the process'}")
                continue
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, (seed, out, err)
            assert json.loads(out)["ok"]
            break
        place.check(run_dir, journal)
        assert not list((run_dir / "cursors").glob("*.lease"))
        place.end()
        rounds += 1
        print(f"seed {seed}: whole after {here} kills")
        if done >= kills:
            return rounds


def training_campaign(place: Place, kills: int, iterations: int, seed: int) -> None:
    """Kill a training that delivers, at first before there is much, and continue it each time; its last part ends."""
    dice = random.Random(seed)
    print(f"seed {seed}")
    run_program(OTHER, place.folder)
    if place.backend == "wandb-online":
        as_json("sync", "data", "--to", place.target, "--root", "runs", cwd=place.folder, **place.env)
    env = {**place.env, "TRACKING_BACKEND": place.target}
    where, resume = 0, "never"
    for number in range(kills):
        training = train(place.folder, "r", where, where + 10**6, 0.005, resume, **env)
        try:
            # Moments of a part are told by where it began: none begins where another did.
            where = until_iteration(training, where + (number and dice.randrange(iterations))) + 1
            with contextlib.suppress(subprocess.TimeoutExpired):
                training.wait(dice.random() * WINDOWS[place.backend] / 4)
        finally:
            everything = dice.random() < 0.5
            place.kill(training, everything)
        print(f"seed {seed}: kill {number + 1} {'of everything' if everything else 'of the process'}")
        resume = "must"
    # The last part is finished in the time that a finish takes: nothing else holds its target any more.
    wait_until_gone(place.mark, 300)
    training = train(place.folder, "r", where, where + iterations, 0.0, resume, **env)
    try:
        assert "done\n" in training.stdout, training.stderr.read()
        journal = from_journal(place.folder / "runs" / "p" / "r")
        _, err = training.communicate("end\n", timeout=300)
        assert training.returncode == 0, (seed, err)
    finally:
        training.kill()
        training.communicate()
    place.check(place.folder / "runs" / "p" / "r", journal)


def follow_campaign(place: Place, kills: int, iterations: int, seed: int) -> None:
    """Follow a training that is killed itself and continued, with a follower that is killed again and again."""
    dice = random.Random(seed)
    print(f"seed {seed}")
    run_program(OTHER, place.folder)
    run_dir = place.folder / "runs" / "p" / "r"
    follower = place.start("--follow", "runs")
    training = train(place.folder, "r", 0, 10**6, 0.02)
    try:
        where = until_iteration(training, dice.randrange(10, iterations))
        for number in range(kills):
            if number == kills // 2:
                training.kill()
                training.communicate(timeout=60)
                training = train(place.folder, "r", where, where + 10**6, 0.02, "must")
            assert moment(run_dir, follower, dice, WINDOWS[place.backend])
            everything = dice.random() < 0.5
            place.kill(follower, everything)
            print(f"seed {seed}: kill {number + 1} {'of everything' if everything else 'of the process'}")
            where = until_iteration(training, where + 1 + dice.randrange(iterations))
            follower = place.start("--follow", "runs")
        training.kill()
        training.communicate(timeout=60)
        # The last part ends by itself: while its end is waited for, its journal is read as it is.
        training = train(place.folder, "r", where, where + iterations, 0.02, "must")
        for line in training.stdout:
            if line == "done\n":
                break
        journal = from_journal(run_dir)
        training.communicate("end\n", timeout=60)
        assert training.returncode == 0
        until_finished(run_dir, follower)
        follower.send_signal(signal.SIGTERM)
        out, err = follower.communicate(timeout=60)
        assert follower.returncode == 0, (out, err)
        assert "Traceback" not in err
        place.check(run_dir, journal)
        assert not list((run_dir / "cursors").glob("*.lease"))
    finally:
        for process in (training, follower):
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=60)


def until_iteration(training: subprocess.Popen, wanted: int) -> int:
    """Read what a training prints until it has come so far."""
    for line in training.stdout:
        if int(line) >= wanted:
            return int(line)
    raise AssertionError(training.stderr.read())


def until_finished(run_dir: Path, follower: subprocess.Popen, seconds: float = 120.0) -> None:
    """Wait until the target of a run was closed as the run was, and has all of it."""
    deadline = time.monotonic() + seconds
    cursors = run_dir / "cursors"
    while True:
        states = [json.loads(path.read_text()) for path in cursors.glob("*.json")]
        if [state["status"] for state in states] == ["finished"] and not list(cursors.glob("*.lease")):
            return
        assert follower.poll() is None, follower.communicate()
        assert time.monotonic() < deadline, states
        time.sleep(0.05)


CAMPAIGNS = {
    "training": lambda open_place, _, backend, long, seed: training_campaign(
        open_place(backend), kills=30 if long else 2, iterations=60, seed=seed
    ),
    "sync": lambda open_place, killed, backend, long, seed: sync_campaign(
        open_place, killed, backend, kills=30 if long else 3, seed=seed
    ),
    "follower": lambda open_place, _, backend, long, seed: follow_campaign(
        open_place(backend), kills=30 if long else 2, iterations=30 if long else 20, seed=seed
    ),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("who", CAMPAIGNS)
@pytest.mark.parametrize("length", ["short", pytest.param("long", marks=pytest.mark.stress)])
def test_each_row_is_there_once(open_place, killed, who, backend, length):
    """Of what follows, the training is killed once as well, and goes on."""
    CAMPAIGNS[who](open_place, killed, backend, length == "long", random.SystemRandom().randrange(10**6))
