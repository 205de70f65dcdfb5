"""Going back to an earlier step, and forking: in the store, in every first-party target, and in a plain reading."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from click.testing import CliRunner

import tracking_core as tracking
from tests.support.programs import journal_events
from tests.support.programs import run as run_program
from tracking_core.backends.plugins import find_adapter
from tracking_core.cli.app import app
from tracking_core.compaction.compaction import compact

pytestmark = pytest.mark.system

RED, BLUE = (np.full((4, 4, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))

ATTEMPT = """
import sys
import numpy as np
import tracking_core as tracking
first, last, shift = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
how = {{}} if len(sys.argv) < 5 else {{"resume": "must", "resume_step": int(sys.argv[4])}}
with tracking.start_run("p", root="runs", run_id="r", name="r", backends={backend!r}, **how) as run:
    for step in range(first, last):
        run.log_scalars({{"loss": step + shift, "system/memory": float(step)}}, step=step)
        if step % 10 == 0:
            run.log_scalars({{"val": step + shift}}, step=step // 10, step_axis="epoch")
            run.log_images({{"sample": np.full((4, 4), int(shift * 100), np.uint8)}}, step=step)
        if step % 50 == 0:
            run.log_summary({{"best": step + shift}})
"""

#: After 0..99 with 0.25 and going back to 60, then 61..79 with 0.5: what counts of each name.
LOSS = [(step, step + 0.25) for step in range(61)] + [(step, step + 0.5) for step in range(61, 80)]
VAL = [(epoch, epoch * 10 + 0.25) for epoch in range(7)] + [(7, 70.5)]
MEMORY = sorted([*range(100), *range(61, 80)])


def attempt(backend, place, *arguments, **env):
    """Train; in a process of its own where the environment of a client must be another."""
    program = ATTEMPT.format(backend=backend).replace("sys.argv", repr(["", *arguments]))
    if env:
        run_program(program, place, **env)
    else:
        with contextlib.chdir(place):
            exec(program, {})


def rows(series):
    return list(zip(series.step.tolist(), series.value.tolist(), strict=True))


def check_store(record):
    assert rows(record.scalars("loss")) == LOSS
    assert rows(record.scalars("val")) == VAL
    assert record.scalars("system/memory").step.tolist() == list(range(100))
    assert [(step, int(np.asarray(images[0].pixels).flat[0])) for step, images in record.images("sample")] == [
        *((step, 25) for step in range(0, 61, 10)), (70, 50)
    ]  # fmt: skip
    assert record.summary()["best"] == 50.25
    assert record.scalars("loss", raw=True).step.tolist() == [*range(100), *range(61, 80)]


@pytest.mark.parametrize("compacted", [False, True])
def test_the_store_counts_only_what_was_not_taken_back(tmp_path, compacted):
    attempt("local", tmp_path, "0", "100", "0.25")
    store = tracking.open_store(tmp_path / "runs")
    before = store.run("r")
    assert len(before.scalars("loss")) == 100
    if compacted:
        compact(before.dir, over=True)
        assert list(before.dir.glob("*.parquet"))
    attempt("local", tmp_path, "61", "80", "0.5", "60")
    check_store(store.run("r"))
    # One that was read before sees it too.
    check_store(before)
    compact(before.dir, over=True)
    check_store(store.run("r"))
    values = [(r.step, r.data["loss"]) for r in store.run("r").records() if r.kind == "scalars" and "loss" in r.data]
    assert values == LOSS
    followed = [(r.step, r.data["loss"]) for r in store.run("r").follow() if r.kind == "scalars" and "loss" in r.data]
    assert followed == LOSS


def test_nothing_is_erased(tmp_path):
    attempt("local", tmp_path, "0", "30", "0.25")
    (journal,) = (tmp_path / "runs/p/r/journal").glob("*.jsonl")
    content = journal.read_bytes()
    attempt("local", tmp_path, "11", "20", "0.5", "10")
    assert journal.read_bytes() == content
    newest = max((tmp_path / "runs/p/r/journal").glob("*.jsonl"))
    event = json.loads(newest.read_text().splitlines()[1])
    assert (event["kind"], event["seq"], event["axis"], event["step"]) == ("truncate", 1, "step", 10)
    writer = journal.name.removesuffix("-000001.jsonl")
    numbered = [json.loads(line) for line in content.splitlines()]
    first = next(line["seq"] for line in numbered if line.get("step") == 11)
    assert event["writers"] == {writer: {"last": max(line["seq"] for line in numbered), "from": first}}


def test_going_back_twice_and_further(tmp_path):
    attempt("local", tmp_path, "0", "100", "0.25")
    attempt("local", tmp_path, "61", "90", "0.5", "60")
    attempt("local", tmp_path, "31", "70", "0.75", "30")
    record = tracking.open_store(tmp_path / "runs").run("r")
    assert rows(record.scalars("loss")) == [
        *((step, step + 0.25) for step in range(31)), *((step, step + 0.75) for step in range(31, 70))
    ]  # fmt: skip
    # To before everything: nothing is left of it.
    attempt("local", tmp_path, "0", "3", "0.5", "-1")
    record = tracking.open_store(tmp_path / "runs").run("r")
    assert rows(record.scalars("loss")) == [(0, 0.5), (1, 1.5), (2, 2.5)]
    assert record.summary()["best"] == 0.5


def test_a_writer_without_the_axis_is_cut_by_time(tmp_path):
    """A data worker, say, that logs on an axis of its own beside the training."""
    training = tracking.start_run("p", run_id="r", root=tmp_path, backends="local")
    worker = tracking.start_run("p", run_id="r", root=tmp_path, backends="local", resume="must")
    for step in range(6):
        training.log_scalars({"loss": float(step)}, step=step)
        worker.log_scalars({"shard": float(step)}, step=step, step_axis="batch")
    worker.finish()
    training.finish()
    with tracking.start_run("p", run_id="r", root=tmp_path, backends="local", resume="must", resume_step=2) as run:
        assert run.id == "r"
    record = tracking.open_store(tmp_path).run("r")
    assert record.scalars("loss").step.tolist() == [0, 1, 2]
    assert record.scalars("shard").step.tolist() == [0, 1, 2]


def test_steps_go_on_after_the_one_that_was_gone_back_to(tmp_path):
    with tracking.start_run("p", run_id="r", root=tmp_path, backends="local") as run:
        for value in range(10):
            run.log({"x": value})
    with tracking.start_run(
        "p", run_id="r", root=tmp_path, backends="local", resume="allow", resume_step=np.int64(4)
    ) as run:
        run.log({"x": 50})
    record = tracking.open_store(tmp_path).run("r")
    assert rows(record.scalars("x")) == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 50)]
    assert type(record.summary()["x"]) is int


def test_another_axis(tmp_path):
    with tracking.start_run("p", run_id="r", root=tmp_path, backends="local") as run:
        for epoch in range(4):
            for step in range(epoch * 3, epoch * 3 + 3):
                run.log_scalars({"loss": float(step)}, step=step)
            run.log_scalars({"val": float(epoch)}, step=epoch, step_axis="epoch")
    with tracking.start_run("p", run_id="r", root=tmp_path, backends="local", resume="must", resume_step=("epoch", 1)):
        pass
    record = tracking.open_store(tmp_path).run("r")
    assert record.scalars("val").step.tolist() == [0, 1]
    # What came between the end of epoch 1 and that of epoch 2 is no row of an epoch beyond.
    assert record.scalars("loss").step.tolist() == list(range(9))


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"resume_step": 3}, "pass its run_id"),
        ({"resume_step": 3, "run_id": "r"}, "resume='must'"),
        ({"resume_step": "3", "run_id": "r", "resume": "must"}, "64-bit integer"),
        ({"resume_step": 3.5, "run_id": "r", "resume": "must"}, "64-bit integer"),
        ({"resume_step": True, "run_id": "r", "resume": "must"}, "64-bit integer"),
        ({"resume_step": ("epoch",), "run_id": "r", "resume": "must"}, "64-bit integer"),
        ({"fork_from": "r"}, "(run id, step)"),
        ({"fork_from": ("r", None)}, "64-bit integer"),
        ({"fork_from": ("r", 3), "run_id": "r"}, "from itself"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, keywords, words):
    with pytest.raises(tracking.SettingsError) as caught:
        tracking.start_run("p", root=tmp_path, backends="local", **keywords)
    assert words in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_fork_of_nothing_is_refused(tmp_path):
    with pytest.raises(tracking.RunNotFoundError):
        tracking.start_run("p", root=tmp_path, backends="local", fork_from=("nobody", 3))
    assert not list(tmp_path.rglob("run.json"))


def test_a_truncation_that_cannot_be_written_is_no_resumption(tmp_path, monkeypatch):
    from tracking_core.journal import JournalWriter

    attempt("local", tmp_path, "0", "20", "0.25")
    monkeypatch.setattr(JournalWriter, "append", lambda *_, **__: False)
    with pytest.raises(tracking.SettingsError, match="resume_step"):
        tracking.start_run(
            "p", root=tmp_path / "runs", run_id="r", backends="local", resume="must", resume_step=10, strict=True
        )


def test_an_axis_that_is_not_there_is_said(tmp_path, troubles):
    attempt("local", tmp_path, "0", "20", "0.25")
    root = tmp_path / "runs"
    with tracking.start_run("p", run_id="r", root=root, backends="local", resume="must", resume_step=("epochs", 0)):
        pass
    ((reason, message, _),) = troubles
    assert reason == "resume_step"
    assert "'epochs', only on 'epoch', 'step'" in message
    assert len(tracking.open_store(root).run("r").scalars("loss")) == 20


def test_a_writer_that_is_still_at_it_is_said(tmp_path, troubles):
    first = tracking.start_run("p", run_id="r", root=tmp_path, backends="local")
    first.log_scalars({"loss": 0.5}, step=0)
    with tracking.start_run("p", run_id="r", root=tmp_path, backends="local", resume="must", resume_step=0):
        pass
    first.finish()
    ((reason, message, _),) = troubles
    assert (reason, "still writes to the run" in message) == ("resume_step", True)
    with tracking.start_run("p", run_id="r", root=tmp_path, backends="local", resume="must", resume_step=0):
        pass
    assert len(troubles) == 1


# ---------------------------------------------------------------- forks


def parent(tmp_path, **keywords):
    with tracking.start_run(
        "p", run_id="r", root=tmp_path, backends="local", config={"lr": 0.1, "model": {"depth": 2}}, **keywords
    ) as run:
        for step in range(20):
            run.log_scalars({"loss": float(step), "system/memory": 1.0}, step=step)
            run.log_images({"sample": RED if step < 10 else BLUE}, step=step)
            if step in {5, 15}:
                run.log_summary({"best": step})
        run.log_artifact({"weights.bin": b"w"}, name="weights")
        run.log_alert("careful")
    return run


@pytest.mark.parametrize("compacted", [False, True])
def test_a_fork_has_the_history_up_to_its_step_and_no_more(tmp_path, compacted):
    run = parent(tmp_path)
    if compacted:
        compact(run.dir)
    before = {path: path.read_bytes() for path in run.dir.rglob("*") if path.is_file()}
    child = tracking.start_run(
        "q", run_id="c", root=tmp_path, backends="local", fork_from=("r", 9), config={"lr": 0.5, "new": 1}
    )
    child.log({"loss": -1.0})
    child.finish()
    record = tracking.open_store(tmp_path).run("c")
    assert rows(record.scalars("loss")) == [*((step, float(step)) for step in range(10)), (10, -1.0)]
    assert [step for step, _ in record.images("sample")] == list(range(10))
    assert record.config == {"lr": 0.5, "model": {"depth": 2}, "new": 1} == dict(child.config)
    assert record.summary() == {"loss": -1.0, "system/memory": 1.0, "best": 5}
    assert record.scalars("system/memory").step.tolist() == list(range(10))
    assert (record.forked_from, record.project, record.status) == (("r", 9), "q", "finished")
    assert (record.artifacts(), record.alerts()) == ([], [])
    told = CliRunner().invoke(app, ["show", "c", "--root", str(tmp_path)], terminal_width=100).output
    assert "r, up to step 9" in told
    # The parent is as it was, and can go.
    assert {path: path.read_bytes() for path in run.dir.rglob("*") if path.is_file()} == before
    for path in sorted(run.dir.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    run.dir.rmdir()
    compact(record.dir)
    record = tracking.open_store(tmp_path).run("c")
    assert len(record.scalars("loss")) == 11
    assert all(np.array_equal(np.asarray(images[0].pixels), RED) for _, images in record.images("sample"))


def test_a_fork_of_a_fork_and_of_one_that_went_back(tmp_path):
    parent(tmp_path)
    with tracking.start_run("p", run_id="r", root=tmp_path, backends="local", resume="must", resume_step=14) as run:
        run.log_scalars({"loss": 150.0}, step=15)
    with tracking.start_run("p", run_id="c", root=tmp_path, backends="local", fork_from=("r", 15)) as run:
        run.log_scalars({"loss": 160.0}, step=16)
        run.log_scalars({"loss": 170.0}, step=17)
    with tracking.start_run("p", run_id="d", root=tmp_path, backends="local", fork_from=("c", 16)) as run:
        run.log_scalars({"loss": 171.0}, step=17)
    record = tracking.open_store(tmp_path).run("d")
    assert rows(record.scalars("loss")) == [
        *((step, float(step)) for step in range(15)), (15, 150.0), (16, 160.0), (17, 171.0)
    ]  # fmt: skip
    assert record.forked_from == ("c", 16)


def test_a_fork_that_is_killed_while_it_is_made_leaves_nothing_to_be_taken_up(tmp_path):
    parent(tmp_path)
    program = """
        import os, signal
        import tracking_core as tracking
        from tracking_core.runs import fork as forking
        forking.find_truncation = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        tracking.start_run("p", run_id="c", root=".", backends="local", fork_from=("r", 9))
    """
    run_program(program, tmp_path, code_expected=-signal.SIGKILL)
    assert list((tmp_path / ".staging").glob("*/c/journal/*.jsonl"))
    assert [record.id for record in tracking.open_store(tmp_path).runs()] == ["r"]
    with tracking.start_run("p", run_id="c", root=tmp_path, backends="local") as run:
        run.log({"mine": 1})
    assert tracking.open_store(tmp_path).run("c").scalar_names() == ["mine"]
    with tracking.start_run("p", run_id="d", root=tmp_path, backends="local", fork_from=("r", 9)):
        pass
    assert not (tmp_path / ".staging").exists()


def test_a_fork_of_a_run_that_goes_on_does_not_grow(tmp_path):
    run = tracking.start_run("p", run_id="r", root=tmp_path, backends="local")
    run.log_scalars({"loss": 0.0}, step=0)
    child = tracking.start_run("p", run_id="c", root=tmp_path, backends="local", fork_from=("r", 9))
    run.log_scalars({"loss": 1.0}, step=1)
    child.finish()
    run.finish()
    store = tracking.open_store(tmp_path)
    assert store.run("c").scalars("loss").step.tolist() == [0]
    assert store.run("r").scalars("loss").step.tolist() == [0, 1]
    assert store.run("c").status == "finished"


@pytest.mark.parametrize(
    "forks",
    [
        "r",
        [{"run": "r"}],
        [{"run": "r", "axis": "step", "step": "9", "writers": {}}],
        [{"run": "r", "axis": "step", "step": 9, "writers": {"w": {"last": "no", "from": None}}}],
        [{"run": "r", "axis": "step", "step": 9, "writers": {"w": 3}}],
    ],
)
def test_a_damaged_fork_is_said_and_hides_no_other_run(tmp_path, forks):
    parent(tmp_path)
    with tracking.start_run("p", run_id="c", root=tmp_path, backends="local", fork_from=("r", 9)) as run:
        pass
    path = run.dir / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "forks": forks}))
    store = tracking.open_store(tmp_path)
    assert "r" in [record.id for record in store.runs(metrics={"loss": 19})]
    with pytest.raises(tracking.StoreError, match="forks|truncation"):
        store.run("c").scalar_names()
    told = CliRunner().invoke(app, ["show", "c", "--root", str(tmp_path)])
    assert (told.exit_code, "Error: " in told.output, "Traceback" in told.output) == (1, True, False)


def test_a_fork_that_is_requeued_is_continued(tmp_path):
    parent(tmp_path)
    for _ in range(2):
        with tracking.start_run(
            "p", run_id="c", root=tmp_path, backends="local", resume="allow", fork_from=("r", 4)
        ) as run:
            run.log({"loss": 0.5})
    record = tracking.open_store(tmp_path).run("c")
    # And not from the step that it was forked at: what it has logged since stays.
    assert rows(record.scalars("loss", raw=True))[-2:] == [(5, 0.5), (6, 0.5)]
    assert record.scalars("loss").step.tolist() == [0, 1, 2, 3, 4, 5, 6]


# ---------------------------------------------------------------- targets


def stored(name, place, run_dir, run_id="r"):
    info = tracking.RunInfo(id=run_id, name=run_id, project="p", dir=run_dir)
    return find_adapter(name).harness().read(place, info)


def of(content, name):
    return sorted((row.step, row.value) for row in content.scalars if row.name == name)


def check_target(content):
    assert of(content, "loss") == LOSS
    assert of(content, "val") == VAL
    assert [step for step, _ in of(content, "system/memory")] == MEMORY


def test_tensorboard_shows_only_what_counts(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    attempt("tensorboard:./tb", tmp_path, "0", "100", "0.25")
    watching = EventAccumulator(str(tmp_path / "tb/r"), size_guidance={"scalars": 0})
    watching.Reload()
    assert len(watching.Scalars("loss")) == 100
    attempt("tensorboard:./tb", tmp_path, "61", "80", "0.5", "60")
    check_target(stored("tensorboard", tmp_path, tmp_path / "runs/p/r"))
    assert sorted(path.stat().st_size > 0 for path in (tmp_path / "tb/r").iterdir()) == [False, True]
    # One that had read the old file lets go of it.
    watching.Reload()
    assert [(row.step, row.value) for row in watching.Scalars("loss")] == LOSS
    fresh = EventAccumulator(str(tmp_path / "tb/r"), size_guidance={"scalars": 0})
    fresh.Reload()
    assert [(row.step, row.value) for row in fresh.Scalars("loss")] == LOSS


def test_wandb_offline_holds_only_what_counts(tmp_path):
    attempt("wandb://?mode=offline", tmp_path, "0", "100", "0.25", HOME=str(tmp_path))
    attempt("wandb://?mode=offline", tmp_path, "61", "80", "0.5", "60", HOME=str(tmp_path))
    run_dir = tmp_path / "runs/p/r"
    assert len(list(tmp_path.rglob("offline-run-*/*.wandb"))) == 1
    check_target(stored("wandb", run_dir, run_dir))


def test_wandb_online_gets_a_run_beside_that_holds_only_what_counts(tmp_path):
    from tests.support.wandb_server import WandbServer

    with WandbServer() as server:
        env = {**server.env(tmp_path), "HOME": str(tmp_path)}
        attempt("wandb://team/p", tmp_path, "0", "100", "0.25", **env)
        attempt("wandb://team/p", tmp_path, "61", "80", "0.5", "60", **env)
        attempt("wandb://team/p", tmp_path, "80", "82", "0.5", "79", **env)
        runs = {name: list(run.history) for name, run in server.runs.items()}
        names = {run.display_name for run in server.runs.values()}
    assert sorted(runs) == ["r", "r-went-back-1"]
    assert names == {"r"}
    assert len([row for row in runs["r"] if "loss" in row]) == 100
    later = [(80, 80.5), (81, 81.5)]
    assert sorted((row["step"], row["loss"]) for row in runs["r-went-back-1"] if "loss" in row) == [*LOSS, *later]
    assert sorted((row["epoch"], row["val"]) for row in runs["r-went-back-1"] if "val" in row) == [*VAL, (8, 80.5)]


@pytest.mark.parametrize(
    ("backend", "kills"),
    [
        ("tensorboard:./tb", 3),
        pytest.param("tensorboard:./tb", 40, marks=pytest.mark.stress),
        pytest.param("wandb://?mode=offline", 20, marks=pytest.mark.stress),
        pytest.param("wandb://team/p", 20, marks=pytest.mark.stress),
    ],
)
def test_a_target_that_is_killed_while_it_is_recorded_anew_ends_right(tmp_path, backend, kills):
    seed = int.from_bytes(os.urandom(4))
    chance = random.Random(seed)
    with contextlib.ExitStack() as stack:
        env = {"HOME": str(tmp_path)} if "wandb" in backend else {}
        if "team" in backend:
            from tests.support.wandb_server import WandbServer

            server = stack.enter_context(WandbServer())
            env |= server.env(tmp_path)
        attempt(backend, tmp_path, "0", "3000", "0.25", **env)
        attempt("local", tmp_path, "2001", "2500", "0.5", "2000")
        command = [sys.executable, "-m", "tracking_core.cli", "sync", "r", "--to", backend, "--root", "runs"]
        killed, longest = 0, 6.0
        for _ in range(kills):
            process = subprocess.Popen(
                command, cwd=tmp_path, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            try:
                # At a random moment; one that is over before ends as it would have.
                begin = time.monotonic()
                process.communicate(timeout=chance.uniform(0.2, longest))
                longest = max(0.5, (time.monotonic() - begin) * 0.9)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                killed += 1
        done = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, **env}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (seed, done.stdout + done.stderr)
        expected = [(s, s + 0.25) for s in range(2001)] + [(s, s + 0.5) for s in range(2001, 2500)]
        if "team" in backend:
            (name,) = {name for name in server.runs if name != "r"}
            found = sorted((row["step"], row["loss"]) for row in server.runs[name].history if "loss" in row)
        else:
            run_dir = tmp_path / "runs/p/r"
            name = backend.partition(":")[0]
            found = of(stored(name, tmp_path if name == "tensorboard" else run_dir, run_dir), "loss")
        assert found == expected, (seed, killed)
        assert killed, seed


def test_a_target_that_cannot_take_back_says_so(tmp_path, monkeypatch, troubles):
    monkeypatch.setenv("TRACKING_DELIVERY", "thread")
    adapter = find_adapter("tensorboard")
    import dataclasses

    monkeypatch.setattr(adapter, "info", dataclasses.replace(adapter.info, replaces=None))
    for how in ({}, {"resume": "must", "resume_step": 4}):
        run = tracking.start_run("p", run_id="r", name="r", root=tmp_path, backends=f"tensorboard:{tmp_path}/tb", **how)
        for step in range(5 if how else 0, 8):
            run.log_scalars({"loss": float(step)}, step=step)
        run.finish()
    ((reason, message, _),) = troubles
    assert reason == "superseded"
    assert message.endswith("tensorboard cannot delete records; those after step 4 remain beside the new ones")
    content = stored("tensorboard", tmp_path, run.dir)
    assert [step for step, _ in of(content, "loss")] == [0, 1, 2, 3, 4, 5, 5, 6, 6, 7, 7]


def test_a_tracker_that_is_followed_live_is_begun_anew(tmp_path, troubles):
    """A login node that follows sees the run go back while its target is open."""
    from tracking_core.backends.targets import parse_target
    from tracking_core.delivery.destinations import Destination
    from tracking_core.delivery.worker import TargetWorker

    def log(run, *steps):
        for step in steps:
            run.log_scalars({"loss": float(step)}, step=step)

    first = tracking.start_run("p", run_id="r", name="r", root=tmp_path, backends="local")
    target = parse_target(f"tensorboard:{tmp_path}/tb")
    worker = TargetWorker(first.dir, Destination(str(target), target), pause=lambda _: False, note=lambda *_: None)
    assert worker.open(wait=0.0)
    log(first, *range(10))
    while worker.deliver():
        pass
    second = tracking.start_run(
        "p", run_id="r", name="r", root=tmp_path, backends="local", resume="must", resume_step=4
    )
    log(second, 5, 6)
    while worker.deliver():
        pass
    worker.commit()
    assert of(stored("tensorboard", tmp_path, first.dir), "loss") == [(step, float(step)) for step in range(7)]
    worker.close("finished", None)
    assert of(stored("tensorboard", tmp_path, first.dir), "loss") == [(step, float(step)) for step in range(7)]
    first.finish()
    second.finish()
    assert [reason for reason, _, _ in troubles] == ["resume_step"]


def test_a_fork_is_delivered_with_what_it_inherited(tmp_path):
    parent(tmp_path / "runs")
    with tracking.start_run(
        "p", run_id="c", name="c", root=tmp_path / "runs", backends=f"tensorboard:{tmp_path}/tb", fork_from=("r", 9)
    ) as run:
        run.log_scalars({"loss": 100.0}, step=10)
    assert of(stored("tensorboard", tmp_path, run.dir, "c"), "loss") == [
        *((step, float(step)) for step in range(10)), (10, 100.0)
    ]  # fmt: skip
    assert not [row for row in stored("tensorboard", tmp_path, run.dir, "c").artifacts]


def test_a_plain_reader_can_tell_what_counts(tmp_path):
    """As docs/formats.md says it, with nothing but json."""
    attempt("local", tmp_path, "0", "100", "0.25")
    attempt("local", tmp_path, "61", "80", "0.5", "60")
    events = journal_events(tmp_path / "runs/p/r")
    (truncate,) = [event for event in events if event["kind"] == "truncate"]

    def counts(event):
        cut = truncate["writers"].get(event["writer_file"])
        if cut is None or event["seq"] > cut["last"]:
            return True
        if event["axis"] == truncate["axis"]:
            return event["step"] <= truncate["step"]
        return cut["from"] is None or event["seq"] < cut["from"]

    scalars = [event for event in events if event["kind"] == "scalars"]
    assert [(e["step"], e["values"]["loss"]) for e in scalars if "loss" in e["values"] and counts(e)] == LOSS
    assert [(e["step"], e["values"]["val"]) for e in scalars if "val" in e["values"] and counts(e)] == VAL


# ---------------------------------------------------------------- between two steps of a worker


def store_run(root, steps, shift=0.0, names=("loss",), **how):
    with tracking.start_run("p", run_id="r", name="r", root=root, backends="local", **how) as run:
        for step in steps:
            run.log_scalars({name: step + shift for name in names}, step=step)
    return run


def worker_of(run_dir, target):
    from tracking_core.backends.targets import parse_target
    from tracking_core.delivery.destinations import Destination
    from tracking_core.delivery.worker import TargetWorker

    parsed = parse_target(target)
    return TargetWorker(run_dir, Destination(target, parsed), pause=lambda _: True, note=lambda *_: None)


def deliver_all(worker):
    assert worker.open(wait=0.0)
    while worker.deliver(final=True):
        pass
    worker.close("finished", None)


AFTER = [*((step, float(step)) for step in range(5)), (5, 5.5)]


@pytest.mark.parametrize("moment", ["opening", "delivering"])
def test_a_report_at_the_wrong_moment_hides_no_truncation(tmp_path, monkeypatch, moment):
    """Reports are asked for by other threads, and look at the journals as well."""
    run = store_run(tmp_path, range(10))
    target = f"tensorboard:{tmp_path}/tb"
    once = []

    def go_back_and_report(worker):
        if not once:
            once.append(True)
            store_run(tmp_path, [5], 0.5, resume="must", resume_step=4)
            worker.report()

    if moment == "opening":
        deliver_all(worker_of(run.dir, target))
    worker = worker_of(run.dir, target)
    if moment == "opening":
        adapter = find_adapter("tensorboard")
        opens = adapter.open
        monkeypatch.setattr(adapter, "open", lambda *a: (go_back_and_report(worker), opens(*a))[1])
    else:
        assert worker.open(wait=0.0)
        tracker = type(worker.tracker)
        logs = tracker.log_scalars

        def log_scalars(self, scalars, *, step, **keywords):
            if step == 3:
                go_back_and_report(worker)
            return logs(self, scalars, step=step, **keywords)

        monkeypatch.setattr(tracker, "log_scalars", log_scalars)
    deliver_all(worker)
    assert once
    assert of(stored("tensorboard", tmp_path, run.dir), "loss") == AFTER


def test_opening_that_takes_several_tries_begins_one_generation(tmp_path, monkeypatch):
    run = store_run(tmp_path, range(10))
    target = f"tensorboard:{tmp_path}/tb"
    worker = worker_of(run.dir, target)
    assert worker.open(wait=0.0)
    while worker.deliver():
        pass
    store_run(tmp_path, [5], 0.5, resume="must", resume_step=4)
    adapter = find_adapter("tensorboard")
    opens, generations = adapter.open, []

    def open_late(place, info):
        generations.append(info.generation)
        if len(generations) < 4:
            raise tracking.RetryLater("busy", after=0.0)
        return opens(place, info)

    monkeypatch.setattr(adapter, "open", open_late)
    deliver_all(worker)
    assert generations == [1, 1, 1, 1]
    assert of(stored("tensorboard", tmp_path, run.dir), "loss") == AFTER


def test_filters_that_change_with_a_truncation_are_backfilled_all_the_same(tmp_path, monkeypatch):
    import dataclasses

    adapter = find_adapter("tensorboard")
    monkeypatch.setattr(adapter, "info", dataclasses.replace(adapter.info, replaces=None))
    run = store_run(tmp_path, range(8), names=("a", "b"))
    deliver_all(worker_of(run.dir, f"tensorboard:{tmp_path}/tb?include=a"))
    store_run(tmp_path, [5], 0.5, ("a", "b"), resume="must", resume_step=4)
    deliver_all(worker_of(run.dir, f"tensorboard:{tmp_path}/tb"))
    content = stored("tensorboard", tmp_path, run.dir)
    assert of(content, "b") == AFTER
    # What it was given cannot be taken back.
    assert of(content, "a") == sorted([*((step, float(step)) for step in range(8)), (5, 5.5)])


@pytest.mark.parametrize(
    "fields",
    [
        '"axis":"step","step":4',
        '"axis":"step","step":4,"writers":null',
        '"axis":"step","step":4,"writers":{"w":{"last":3}}',
        '"axis":"step","step":"4","writers":{}',
        '"axis":"step","step":1e999,"writers":{}',
        '"axis":"step","step":99999999999999999999,"writers":{}',
        '"axis":["step"],"step":4,"writers":{}',
    ],
)
def test_a_truncation_that_cannot_be_read_is_said_every_time(tmp_path, fields):
    from tracking_core.journal import JournalWriter

    run = store_run(tmp_path, range(10))
    journal = JournalWriter(run.dir, "r")
    head = f'{{"seq":1,"low":2,"kind":"truncate","t":1.0,{fields}'.encode()
    with journal.path.open("ab") as file:
        file.write(b'%b,"crc":"%08x"}\n' % (head, zlib.crc32(head)))
    journal.close()
    store = tracking.open_store(tmp_path)
    record = store.run("r")
    for _ in range(2):
        with pytest.raises(tracking.StoreError, match="truncation"):
            record.scalars("loss")
        with pytest.raises(tracking.StoreError, match="truncation"):
            record.summary()
    assert [one.id for one in store.runs()] == ["r"]
    assert store.runs(metrics={"loss": 9.0}) == []
