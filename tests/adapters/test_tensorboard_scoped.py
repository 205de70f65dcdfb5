"""The layout `scoped`: a sub-run for each scope of names, written and continued as exactly as the run itself."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

import tracking_core as tracking
from tests.support.bucket_server import BucketServer
from tests.support.tensorboard_server import in_process
from tracking_core import Rejected, RetryLater, RunInfo, open_tracker
from tracking_core.backends.plugins import find_adapter
from tracking_core.backends.targets import parse_target
from tracking_core.transfer import import_runs
from tracking_tensorboard.testing import find_run, read_run

TARGET = "tensorboard:tb?layout=scoped"


def opened(state=None, target=TARGET, **details):
    details = {"id": "r", "name": "vae", "started": 1000.0, **details}
    run = RunInfo(state=json.loads(json.dumps(state or {})), **details)
    return open_tracker(target, run), run


def log(tracker, *steps):
    for step in steps:
        scalars = {"train/loss": step, "val/loss": -step, "val/deep/acc": 1, "lr": 0.1}
        tracker.log_scalars(scalars, step=step, wall_time=1000.0 + step)


def tags(place):
    """The steps of each tag, as TensorBoard reads them; the run's own texts are left out."""
    found = EventAccumulator(str(place), size_guidance={"tensors": 0}).Reload()
    return {
        tag: [event.step for event in found.Tensors(tag)] for tag in found.Tags()["tensors"] if not tag.startswith("_")
    }


def files(place="tb/vae"):
    return {str(path.relative_to(place).parent): path for path in sorted(Path(place).rglob("*tfevents*"))}


def test_a_scope_is_a_sub_run(tmp_path):
    tracker, _ = opened(config={"lr": 0.1})
    log(tracker, 0, 1)
    tracker.log_images({"val/sample": np.zeros((2, 2, 3), np.uint8)}, step=1)
    tracker.log_text("notes", "none", step=1)
    tracker.log_artifact({"w": b"1"}, name="train/model")
    tracker.log_summary({"val/best": 0.5})
    tracker.finish()
    assert tags("tb/vae") == {"lr": [0, 1], "notes": [1], "summary/val/best": [0]}
    assert tags("tb/vae/train") == {"loss": [0, 1]}
    assert tags("tb/vae/val") == {"loss": [0, 1], "deep/acc": [0, 1], "sample": [1]}
    # The names come back, for whoever reads the run as one.
    stored = read_run(find_run(Path("tb"), "r"))
    assert {row.name for row in stored.scalars} == {"train/loss", "val/loss", "val/deep/acc", "lr"}
    assert [image.name for image in stored.images] == ["val/sample"]
    assert stored.summary == {"val/best": 0.5}


@pytest.mark.system
def test_tensorboard_overlays_the_scopes_and_has_one_row_for_the_run(tmp_path):
    tracker, _ = opened(config={"lr": 0.1})
    log(tracker, 0, 1)
    tracker.log_summary({"best": 0.25, "deep": {"n": 3}, "words": "a"})
    tracker.log_summary({"best": 0.5})
    tracker.finish()
    server = in_process(tmp_path / "tb")
    server.wait_for("vae", "lr")
    server.wait_for("vae/val", "deep/acc")
    # One tag of two runs is one chart.
    for run, sign in (("vae/train", 1), ("vae/val", -1)):
        assert server.plugin("scalars", "scalars", run=run, tag="loss") == [[1000, 0, 0], [1001, 1, sign]]
    answer = server.post(
        "plugin/hparams/session_groups",
        {"allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"], "sliceSize": 10},
    )
    (group,) = answer["sessionGroups"]
    assert (group["name"], group["hparams"]) == ("vae", {"lr": 0.1})
    metrics = {
        (metric["name"].get("group", ""), metric["name"]["tag"]): metric["value"] for metric in group["metricValues"]
    }
    assert metrics[("", "summary/best")] == 0.5
    assert metrics[("", "summary/deep/n")] == 3
    assert metrics["val", "loss"] == -1
    assert not [tag for _, tag in metrics if "words" in tag]


@pytest.mark.parametrize(
    ("name", "folder", "tag"),
    [
        ("../loss", "~2e~2e", "loss"), ("../../x", "~2e~2e", "../x"), ("a\nb/c\n", "a~0ab", "c\n"), ("a/", ".", "a/"),
        ("/a", ".", "/a"), ("", ".", "~"), ("loss", ".", "loss"), ("x" * 500 + "/y", None, "y"), ("_run_/a", "_run_", "a"),
        ("\ud800/x", "~ed~a0~80", "x"), ("events.out.tfevents.1/x", ".", "events.out.tfevents.1/x"), ("./x", "~2e", "x"),
    ],
)  # fmt: skip
def test_scopes_of_any_name(tmp_path, name, folder, tag):
    tracker, _ = opened()
    tracker.log_scalars({name: 1.0}, step=3)
    tracker.finish()
    place = Path("tb/vae")
    where = next(one for one in sorted(place.iterdir()) if one.is_dir()) if folder is None else place / folder
    assert tags(where) == {tag: [3]}
    assert [row.name for row in read_run(place).scalars] == [name]
    assert [path.name for path in Path("tb").iterdir()] == ["vae"]


def test_there_are_not_more_sub_runs_than_files_may_be_open(tmp_path):
    tracker, run = opened()
    for number in range(100):
        tracker.log_scalars({f"s{number}/x": number}, step=0)
    tracker.flush()
    state = run.state
    tracker.log_scalars({f"s{number}/x": number for number in range(100)}, step=1)
    tracker, _ = opened(state)
    tracker.log_scalars({f"s{number}/x": number for number in range(100)}, step=1)
    tracker.finish()
    assert len([one for one in Path("tb/vae").iterdir() if one.is_dir()]) == 64
    assert tags("tb/vae") == {f"s{number}/x": [0, 1] for number in range(64, 100)}
    assert {(row.name, row.step) for row in read_run(Path("tb/vae")).scalars} == {
        (f"s{number}/x", step) for number in range(100) for step in (0, 1)
    }


# ---------------------------------------------------------------- exactly once


def test_what_was_not_confirmed_is_cut_off_in_every_file(tmp_path):
    tracker, run = opened()
    log(tracker, *range(5))
    tracker.flush()
    confirmed = copy.deepcopy(run.state)
    log(tracker, *range(5, 10))
    before = {name: path.read_bytes() for name, path in files().items()}
    tracker, run = opened(confirmed)
    log(tracker, *range(5, 10))
    # The same bytes at the same places.
    assert {name: path.read_bytes() for name, path in files().items()} == before
    tracker.finish()
    assert tags("tb/vae/val") == {"loss": list(range(10)), "deep/acc": list(range(10))}
    assert tags("tb/vae/train") == {"loss": list(range(10))}
    assert sorted(confirmed["scopes"]) == ["train", "val"]


def test_a_sub_run_that_was_never_confirmed_is_begun_anew(tmp_path):
    """Killed before its file was noted: the records come again, and a TensorBoard that looks on sees them once."""
    tracker, run = opened()
    tracker.log_scalars({"train/loss": 0}, step=0)
    tracker.flush()
    confirmed = copy.deepcopy(run.state)
    log(tracker, 1, 2)
    watching = EventAccumulator("tb/vae/val", size_guidance={"tensors": 0})
    assert [event.step for event in watching.Reload().Tensors("loss")] == [1, 2]
    for _ in range(2):
        tracker, run = opened(confirmed)
        assert tracker.remarks == []
        log(tracker, 1, 2)
    assert [event.step for event in watching.Reload().Tensors("loss")] == [1, 2]
    log(tracker, 3)
    tracker.finish()
    assert [event.step for event in watching.Reload().Tensors("loss")] == [1, 2, 3]
    assert tags("tb/vae/train") == {"loss": [0, 1, 2, 3]}
    assert tags("tb/vae/val")["loss"] == [1, 2, 3]
    assert len([path for path in Path("tb/vae/val").iterdir() if path.stat().st_size]) == 1


def test_sub_runs_of_another_store_with_the_same_id_are_left_alone(tmp_path):
    """They share the directory, as all runs of one id do; each knows its own files by what its state says."""
    first, _ = opened()
    log(first, 0)
    second, run = opened()
    log(second, 1)
    second.flush()
    second, _ = opened(run.state)
    second.finish()
    first.finish()
    assert sorted(tags("tb/vae/val")["loss"]) == [0, 1]


def test_going_back_replaces_every_file(tmp_path):
    tracker, run = opened()
    log(tracker, *range(5))
    tracker.finish()
    watching = EventAccumulator("tb/vae/val", size_guidance={"tensors": 0})
    assert [event.step for event in watching.Reload().Tensors("loss")] == list(range(5))
    tracker, run = opened(generation=1, replaced=(run.state,))
    log(tracker, 0, 1, 7)
    tracker.finish()
    assert tracker.remarks == []
    assert tags("tb/vae/train") == {"loss": [0, 1, 7]}
    assert tags("tb/vae/val")["loss"] == [0, 1, 7]
    assert [event.step for event in watching.Reload().Tensors("loss")] == [0, 1, 7]


def test_a_call_that_one_file_refuses_is_in_none(tmp_path, monkeypatch):
    tracker, _ = opened()
    log(tracker, 0)
    sizes = {name: path.stat().st_size for name, path in files().items()}
    real = os.pwrite

    def pwrite(descriptor, data, at):
        if "/val/" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(28, "No space left on device")
        return real(descriptor, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(RetryLater, match="No space left"):
        log(tracker, 1)
    assert {name: path.stat().st_size for name, path in files().items()} == sizes
    monkeypatch.setattr(os, "pwrite", real)
    log(tracker, 1)
    tracker.finish()
    assert tags("tb/vae/train") == {"loss": [0, 1]}
    assert tags("tb/vae/val")["loss"] == [0, 1]


def test_a_link_in_the_place_of_a_sub_run_is_not_followed(tmp_path):
    tracker, run = opened()
    Path("elsewhere").mkdir()
    for name in ("val", "train"):
        Path("tb/vae", name).symlink_to(tmp_path / "elsewhere") if name == "val" else Path("tb/vae", name).write_text(
            ""
        )
        with pytest.raises(Rejected, match=f"{name} is not a directory that this adapter made"):
            tracker.log_scalars({"lr": 1, f"{name}/loss": 1.0}, step=0)
    tracker.log_scalars({"lr": 1}, step=0)
    tracker.finish()
    assert tags("tb/vae") == {"lr": [0]}
    assert list(Path("elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "wrong", [None, 5, "x", [], {"val": 5}, {"val": {"file": "../x"}}, {"../x": {"file": 1}}, {"": {}}]
)
def test_what_a_state_says_of_sub_runs_is_not_believed(tmp_path, wrong):
    tracker, run = opened()
    log(tracker, 0)
    tracker.finish()
    before = {name: path.read_bytes() for name, path in files().items() if name != "."}
    tracker, _ = opened({**run.state, "scopes": wrong, "token": None})
    log(tracker, 1)
    tracker.finish()
    after = {path.read_bytes() for path in Path("tb").rglob("*tfevents*")}
    assert set(before.values()) <= after
    assert sorted(tags("tb/vae/val")["loss"]) == [0, 1]


# ---------------------------------------------------------------- beside the other layout


def test_the_layouts_are_two_places(tmp_path):
    def place(target):
        return find_adapter("tensorboard").place(parse_target(target), RunInfo(id="r", name="r"))

    assert place("tensorboard:tb") == place("tensorboard:tb?layout=flat") == place("tensorboard:tb?hparams=off")
    assert (
        place(TARGET)
        == place("tensorboard:./tb/?hparams=off&layout=scoped")
        == place("tensorboard:tb") + "?layout=scoped"
    )


def test_a_target_whose_layout_changes_is_written_again_in_another_directory(tmp_path, monkeypatch):
    def session(first, last, backends, **more):
        start = {"run_id": "r", "root": "runs", "resume": "allow", "delivery": "inline"}
        with tracking.start_run("p", "vae", backends=backends, **start, **more) as run:
            for step in range(first, last):
                log(run, step)
        assert run.finish().ok

    session(0, 2, "tensorboard:tb")
    monkeypatch.setenv("TRACKING_BACKEND_TENSORBOARD_LAYOUT", "scoped")
    session(2, 4, "tensorboard:tb")
    monkeypatch.delenv("TRACKING_BACKEND_TENSORBOARD_LAYOUT")
    session(4, 6, ["tensorboard:tb", TARGET])
    assert sorted(path.name for path in Path("tb").iterdir()) == ["vae", "vae-r"]
    assert tags("tb/vae")["val/loss"] == tags("tb/vae-r/val")["loss"] == list(range(6))
    session(6, 8, ["tensorboard:tb", TARGET], resume_step=2)
    assert tags("tb/vae")["val/loss"] == tags("tb/vae-r/val")["loss"] == [0, 1, 2, 6, 7]
    assert tags("tb/vae-r/train")["loss"] == [0, 1, 2, 6, 7]
    # Filters that let less through: all is written anew, without what is left out.
    session(8, 9, [f"{TARGET}&exclude=val/*"])
    assert tags("tb/vae-r/train")["loss"] == [0, 1, 2, 6, 7, 8]


def test_a_run_with_sub_runs_is_imported_as_one(tmp_path):
    with tracking.start_run("p", "vae", run_id="r", root="runs", backends=TARGET, delivery="inline") as run:
        for step in range(3):
            log(run, step)
    with tracking.start_run(
        "p", "vae", run_id="r", root="runs", backends=TARGET, delivery="inline", resume="must", resume_step=1
    ) as run:
        log(run, 5)
        run.log_summary({"best": 1.5})
    (done,) = import_runs(Path("tb"), root="imported")
    assert done.problems == ()
    record = tracking.open_store("imported").run(done.run)
    assert record.name == "vae"
    for name in ("train/loss", "val/loss", "val/deep/acc", "lr"):
        assert record.scalars(name).step.tolist() == [0, 1, 5], name
    assert record.summary()["best"] == 1.5
    assert "summary/best" not in record.scalar_names()


def test_sub_runs_in_a_bucket(tmp_path, monkeypatch):
    server = BucketServer()
    try:
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        bucket = server.make_bucket("scoped")
        target = f"tensorboard:s3://{bucket.name}/logs?layout=scoped"
        tracker, run = opened(target=target)
        log(tracker, 0)
        tracker.finish()
        tracker, run = opened(run.state, target=target)
        log(tracker, 1)
        tracker.finish()
        there = bucket.download("logs", tmp_path / "there")
    finally:
        server.stop()
    assert [path.name for path in there.iterdir()] == ["vae-r-scoped"]
    assert sorted(tags(there / "vae-r-scoped" / "val")["loss"]) == [0, 1]
    assert sorted(tags(there / "vae-r-scoped" / "train")["loss"]) == [0, 1]
