"""A killed training, compacted, compared and replayed: what a backend then holds is what the journal held, once.

The training logs every kind there is, at moments long ago, and is killed with SIGKILL somewhere. Its journal is read
before anything is done to it, with json alone; all that follows goes through the command line.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter

import pytest

from tests.support.commands import as_json
from tests.support.everything import OTHER, from_journal, killed_training
from tests.support.programs import run as run_program
from tests.support.replayed import at_server, check_tensorboard, check_wandb, from_tensorboard, from_wandb, offline
from tests.support.wandb_server import WandbServer

SEED = random.SystemRandom().randrange(10**6)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A store with a training that was killed, and a run that it uses; and what the journal of the training holds."""
    place = tmp_path_factory.mktemp("killed")
    run_program(OTHER, place)
    print(f"seed {SEED}")
    run_dir = killed_training(place, "r", random.Random(SEED), 30, 60)
    journal = from_journal(run_dir)
    (compacted,) = as_json("compact", "r", "--root", "runs", cwd=place)["runs"]
    assert compacted["parts"] >= 1, compacted
    assert list(run_dir.glob("scalars-*.parquet"))
    return place, journal


@pytest.fixture
def place(killed, tmp_path):
    """A copy of the store, to be delivered from."""
    shutil.copytree(killed[0] / "runs", tmp_path / "runs")
    return tmp_path


@pytest.fixture
def journal(killed):
    return killed[1]


def test_compaction_keeps_it_and_it_is_compared(killed, journal):
    place, _ = killed
    kinds = {row[0] for row in journal.rows}
    assert kinds == {"scalars", "images", "histogram", "table", "text", "audio", "video", "figure", "html"}
    assert journal.alerts and journal.artifacts and journal.used and journal.summary
    assert max(Counter(row[1:4] for row in journal.rows if row[0] == "scalars").values()) > 1, "no step came twice"
    assert not list((place / "runs" / "p" / "r" / "journal").glob("*.jsonl")), "the segments are still there"
    result = as_json("compare", "r", "data", "--root", "runs", cwd=place)
    assert {run["id"]: run["status"] for run in result["runs"]} == {"r": "crashed", "data": "finished"}
    assert result["config"]["lr"] == {"r": 0.1, "data": 0.2}
    assert result["config"]["model.depth"] == {"r": journal.config["model"]["depth"], "data": 1}
    losses = [row for row in journal.rows if row[:3] == ("scalars", "train/loss", "step")]
    last = max(losses, key=lambda row: (row[3], row[5]))
    (shown,) = [one["runs"] for one in result["metrics"] if (one["name"], one["axis"]) == ("train/loss", "step")]
    assert (shown["r"]["last"], shown["r"]["last_step"]) == (float(last[4]), last[3])
    assert shown["r"]["points"] == len({row[3] for row in losses})
    assert (shown["data"]["last"], shown["data"]["points"]) == (0.4, 5)


def test_to_tensorboard(place, journal):
    sync(place, "r", "tensorboard:./tb")
    check_tensorboard(from_tensorboard(place, "r"), journal)


def test_to_wandb_offline(place, journal):
    sync(place, "r", "wandb://?mode=offline")
    run = offline(place / "runs" / "p" / "r")
    found = from_wandb(run)
    check_wandb(found, journal, online=False)
    assert found.used == ["data:latest"]
    assert (run.display_name, run.project, run.tags, run.group, run.notes) == (
        "everything",
        "p",
        ("a b", "ü"),
        "g",
        "n",
    )
    assert (run.exit_code, run.complete) == (1, True)


def test_to_wandb_online(place, journal, tmp_path):
    with WandbServer("team") as server:
        env = server.env(tmp_path / "client")
        sync(place, "data", "wandb://team/p", **env)
        sync(place, "r", "wandb://team/p", **env)
        run = server.runs["r"]
    check_wandb(from_wandb(at_server(server, "r", tmp_path / "files")), journal, online=True)
    assert (run.display_name, run.project, run.tags) == ("everything", "p", ["a b", "ü"])
    assert (run.group, run.notes, run.state) == ("g", "n", "failed")
    assert [used.name for used in run.used_artifacts] == ["data"]
    assert server.unknown == []


def sync(place, run_id, target, **env):
    result = as_json("sync", run_id, "--to", target, "--root", "runs", cwd=place, **env)
    (run,) = result["runs"]
    (report,) = run["targets"]
    assert (report["pending"], report["failed"]) == (0, 0), run
    assert report["delivered"] > 0
    return report
