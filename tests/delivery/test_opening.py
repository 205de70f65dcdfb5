"""What a target is opened for, and what it is told then: nothing for what it has, and everything as of now."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import tracking_core as tracking
from tests.support.programs import start
from tests.support.recording_adapter import install_recorder
from tracking_core.backends.targets import parse_target
from tracking_core.base.processes import process_start
from tracking_core.cli.app import app
from tracking_core.cli.sync import _status, _targets_of
from tracking_core.delivery import described
from tracking_core.delivery.cursor import Cursor
from tracking_core.delivery.ending import broke_off, closing, is_written_to, lacks
from tracking_core.delivery.following import Follower
from tracking_core.journal import finding
from tracking_core.layout.runs import ORIGIN_FILE
from tracking_core.store import open_store
from tracking_core.store.records import RunRecord

pytestmark = pytest.mark.system


@pytest.fixture
def rec(tmp_path, monkeypatch):
    return install_recorder(tmp_path, monkeypatch)


def begin(run_id="r", **more):
    more = {"delivery": "inline", "backends": "rec", "resume": "allow", **more}
    return tracking.start_run("p", root="runs", run_id=run_id, **more)


def record(steps=range(3), run_id="r", **more):
    with begin(run_id, **more) as run:
        for step in steps:
            run.log_scalars({"x": float(step)}, step=step)
    return run


def sync(*arguments, code=0):
    result = CliRunner().invoke(app, ["sync", *arguments, "--root", "runs", "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)["runs"]


def cursor_of(run_dir):
    (path,) = (run_dir / "cursors").glob("*.json")
    return json.loads(path.read_text())


class Following:
    """`tracking sync --follow`, look by look, so that a test need not wait for its clock."""

    def __init__(self, to=()):
        self.to = to
        self.reports = []
        self.follower = Follower(
            lambda *_: None, lambda directory, reports: self.reports.append((directory.name, reports))
        )

    def look(self):
        """Look at all runs once, and wait for those that are ending."""
        for one in open_store("runs").runs():
            targets, _ = _targets_of(one, self.to)
            if targets:
                self.follower.look(one.dir, targets, _status(one), one.error)
        for thread in tuple(self.follower._ending.values()):
            thread.join(60)
            assert not thread.is_alive()


# ---------------------------------------------------------------- nothing is opened for what is there


def test_finished_runs_are_not_opened_again(rec):
    for name in ("a", "b", "c"):
        record(run_id=name)
    assert rec.opened == 3
    following = Following()
    for _ in range(5):
        following.look()
        assert not following.follower.busy
    assert [one["targets"][0]["delivered"] for one in sync("--all")] == [0, 0, 0]
    assert all(one["ok"] for one in sync("--all", "--to", "rec://stub/p"))
    assert rec.opened == 3
    # Whoever names a run wants it to be looked at.
    sync("a")
    assert rec.opened == 4


def test_what_was_followed_to_its_end_is_not_opened_again(rec):
    record(run_id="a", backends="local")
    following = Following(("rec",))
    for _ in range(6):
        following.look()
    assert rec.opened == 1
    assert [call["status"] for call in rec.all("finish")] == ["finished"]
    assert [name for name, _ in following.reports] == ["a"]


def test_a_status_says_how_a_target_was_closed_last(rec):
    run = begin()
    run.log_scalars({"x": 0.0}, step=0)
    assert cursor_of(run.dir)["status"] is None
    run.finish("interrupted")
    target = parse_target("rec")
    assert (cursor_of(run.dir)["status"], Cursor.load(run.dir, target).status) == ("interrupted", "interrupted")
    # While it is open again it has no status, and that is written down at once.
    again = begin()
    assert cursor_of(run.dir)["status"] is None
    assert lacks(run.dir, target, "interrupted")
    again.finish()
    assert cursor_of(run.dir)["status"] == "finished"
    assert not lacks(run.dir, target, "finished")


def test_a_target_that_was_closed_with_another_status_is_opened_again(rec):
    """As when a run that broke off was ended as failed, and then continued without this target."""
    run = record()
    cursor = cursor_of(run.dir)
    (path,) = (run.dir / "cursors").glob("*.json")
    path.write_text(json.dumps({**cursor, "status": "failed"}))
    following = Following()
    following.look()
    following.look()
    assert [call["status"] for call in rec.all("finish")] == ["finished", "finished"]
    assert cursor_of(run.dir)["status"] == "finished"
    # A cursor of before there was a status, or one that is damaged, tells nothing.
    path.write_text(json.dumps({key: value for key, value in cursor.items() if key != "status"}))
    assert lacks(run.dir, parse_target("rec"), "finished")


def test_what_waits_other_filters_and_what_was_taken_back_are_reasons_to_open(rec):
    run = record(range(4), backends="rec?every=2")
    assert not lacks(run.dir, parse_target("rec?every=2"), "finished")
    assert lacks(run.dir, parse_target("rec"), "finished")
    assert [one["targets"][0]["delivered"] for one in sync("--all", "--to", "rec")] == [2]
    assert sorted(step for _, step in rec.steps()) == [0, 1, 2, 3]
    assert not lacks(run.dir, parse_target("rec"), "finished")
    record(range(4, 6), backends="local")
    assert lacks(run.dir, parse_target("rec"), "finished")
    sync("--all", "--to", "rec")
    assert not lacks(run.dir, parse_target("rec"), "finished")
    with begin(backends="local", resume_step=3):
        pass
    assert lacks(run.dir, parse_target("rec"), "finished")


def test_a_run_that_goes_on_is_followed(rec):
    run = begin("a", backends="local")
    following = Following(("rec",))
    following.look()
    run.log_scalars({"x": 0.0}, step=0)
    deadline = time.monotonic() + 30
    while not rec.steps():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    following.look()
    assert (rec.opened, following.follower.busy) == (1, True)
    run.finish()
    following.look()
    following.look()
    assert (rec.opened, following.follower.busy) == (1, False)


# ---------------------------------------------------------------- the configuration as of now


FIRST = {"lr": 1.0, "net": {"width": 8, "depth": 2}}


def changed():
    """A run whose configuration was changed in two sessions; nothing was delivered of either."""
    run = begin(backends="local", config=FIRST)
    run.log_config({"lr": 0.5, "net": {"depth": 3}})
    run.log_scalars({"x": 0.0}, step=0)
    run.finish()
    again = begin(backends="local", config={"lr": 0.25, "more": float("inf")})
    again.log_config({"seen": [1, 2]})
    again.finish()
    return {"lr": 0.25, "net": {"width": 8, "depth": 3}, "more": float("inf"), "seen": [1, 2]}


@pytest.mark.parametrize("delivery", ["inline", "thread", "process"])
def test_a_backend_is_opened_with_the_configuration_as_of_now(rec, delivery):
    now = changed()
    with begin(delivery=delivery, config={"last": True}) as run:
        run.flush()
    opened = rec.all("open")[-1]["config"]
    assert {key: value for key, value in opened.items() if key != "last"} == now
    # What is logged after that comes as it always did.
    assert rec.all("config")[-1]["config"] == {"last": True}
    assert RunRecord(run.dir).config == {**now, "last": True}


def test_sync_and_follow_tell_the_configuration_as_of_now(rec):
    now = changed()
    sync("r", "--to", "rec")
    assert rec.all("open")[-1]["config"] == now
    following = Following(("rec://stub/followed",))
    following.look()
    following.look()
    assert (rec.opened, rec.all("open")[-1]["config"]) == (2, now)


def test_a_backend_that_is_opened_again_does_not_go_back(rec):
    with begin(config=FIRST) as run:
        run.log_config({"lr": 0.5})
    record(())
    assert [call["config"]["lr"] for call in rec.all("open")] == [1.0, 0.5]
    assert [call["config"] for call in rec.all("config")] == [{"lr": 0.5}]
    assert run.config["lr"] == 0.5


def test_a_connection_that_is_made_anew_in_between_does_not_go_back(rec):
    """As a tracker that says it is broken is opened again."""
    from tracking_core.delivery.destinations import Destination
    from tracking_core.delivery.worker import TargetWorker

    run = begin(backends="local", config=FIRST)
    worker = TargetWorker(run.dir, Destination("rec", parse_target("rec")), pause=lambda _: True, note=lambda *_: None)
    assert worker.open(wait=0.0)
    run.log_config({"lr": 0.5})
    while worker.deliver():
        pass
    worker.commit()
    worker._session.broken = True
    worker.deliver()
    worker.close("finished", None)
    run.finish()
    assert [call["config"]["lr"] for call in rec.all("open")] == [1.0, 0.5]


def test_what_was_superseded_is_no_part_of_the_configuration(rec):
    """A fork begins with the configuration of its parent, and what that logged of it does not come on top."""
    with begin("parent", backends="local", config={"lr": 1.0, "from": "parent"}) as parent:
        parent.log_scalars({"x": 0.0}, step=0)
        parent.log_config({"lr": 0.5})
        parent.log_scalars({"x": 1.0}, step=5)
        parent.log_config({"lr": 0.1, "late": True})
    with tracking.start_run(
        "p",
        root="runs",
        run_id="child",
        fork_from=("parent", 2),
        delivery="inline",
        backends="rec",
        config={"lr": 9.0},
    ) as child:
        child.log_scalars({"x": 2.0}, step=3)
    (told,) = (call["config"] for call in rec.all("open"))
    assert told == RunRecord(child.dir).config == {"lr": 9.0, "from": "parent", "late": True}


def test_tensorboard_ends_with_the_configuration_as_of_now(tmp_path):
    """Changes that were in it when it was opened come again; the last one holds."""
    from tracking_tensorboard.testing import find_run, read_run

    now = changed()
    for _ in range(2):
        sync("r", "--to", "tensorboard:./tb")
        found = read_run(find_run(tmp_path / "tb", "r"))
        assert found.config == now
    held = b"".join(path.read_bytes() for path in (tmp_path / "tb").rglob("*tfevents*"))
    # Once at the start, and once for each change, the second opening adds none.
    assert held.count(b'"seen"') == 2


def test_no_scalar_is_decoded_for_it(rec, monkeypatch):
    changed()
    record(range(2000), backends="local")
    decoded = []
    monkeypatch.setattr(
        finding,
        "decode_line",
        lambda line, writer, decode=finding.decode_line: decoded.append(line) or decode(line, writer),
    )
    facts = json.loads(Path("runs/p/r/run.json").read_text())
    found = described.current_config(Path("runs/p/r"), facts["config"])
    assert found == RunRecord(Path("runs/p/r")).config
    kinds = {json.loads(line)["kind"] for line in decoded}
    assert "config" in kinds and "scalars" not in kinds


# ---------------------------------------------------------------- runs from elsewhere


def from_elsewhere(run_id="foreign"):
    """A run as a pack brings it."""
    run = record(run_id=run_id)
    shutil.rmtree(run.dir / "cursors")
    (run.dir / ORIGIN_FILE).write_text(json.dumps({"v": 1, "from": "pack"}))
    return run


def test_the_targets_of_a_run_from_elsewhere_are_not_followed(rec):
    from_elsewhere()
    record(run_id="own", backends="local")
    mine = record(run_id="mine")
    shutil.rmtree(mine.dir / "cursors")
    opened = rec.opened
    every = {one["run"]: one for one in sync("--all")}
    assert set(every) == {"foreign", "mine"}
    assert every["foreign"]["targets"] == []
    assert every["foreign"]["troubles"] == [
        "it came from elsewhere, and its targets (rec) are not ours; name one with --to"
    ]
    assert [target["delivered"] for target in every["mine"]["targets"]] == [3]
    assert rec.opened == opened + 1
    # Of a run that was named it is no success.
    (one,) = sync("foreign", code=1)
    assert (one["targets"], one["ok"]) == ([], False)
    said = CliRunner().invoke(app, ["sync", "foreign", "--root", "runs"]).output
    assert "run foreign: it came from elsewhere" in said
    following = Following()
    following.look()
    assert not following.follower.busy
    assert rec.opened == opened + 1
    # To a target that is named here it goes, and on from there.
    for delivered in (3, 0):
        (one,) = sync("foreign", "--to", "rec")
        assert [target["delivered"] for target in one["targets"]] == [delivered]


@pytest.mark.parametrize(
    "make", [lambda path: path.write_text(""), lambda path: path.mkdir(), lambda path: path.symlink_to("nowhere")]
)
def test_a_run_counts_as_from_elsewhere_when_in_doubt(rec, make):
    run = from_elsewhere()
    (run.dir / ORIGIN_FILE).unlink()
    make(run.dir / ORIGIN_FILE)
    assert sync("--all")[0]["targets"] == []


def test_only_a_target_that_was_named_here_says_so(rec):
    run = record(run_id="a")
    assert [call["named"] for call in rec.all("open")] == [True]
    for directory in (run.dir / "cursors").iterdir():
        directory.unlink()
    sync("--all")
    assert rec.all("open")[-1]["named"] is False
    sync("a", "--to", "rec")
    assert rec.all("open")[-1]["named"] is True
    shutil.rmtree(run.dir / "cursors")
    for to, named in (((), False), (("rec://stub/z",), True)):
        following = Following(to)
        following.look()
        following.look()
        assert rec.all("open")[-1]["named"] is named


def test_a_target_in_run_json_that_is_none_is_passed_over(rec):
    run = record(run_id="a")
    record(run_id="b")
    facts = json.loads((run.dir / "run.json").read_text())
    targets = ["rec", "%%", "wandb://user:secret@x", "FakeTracker", ""]
    (run.dir / "run.json").write_text(json.dumps({**facts, "targets": targets}))
    assert [len(one["targets"]) for one in sync("--all")] == [1, 1]


# ---------------------------------------------------------------- runs that broke off


def test_who_may_yet_write_to_a_run(tmp_path):
    """Several processes and forked children count, on this host and elsewhere, as long as their heartbeat is fresh."""
    code = """
    import os, signal, sys, time
    import tracking_core as tracking
    run = tracking.start_run("p", root="runs", run_id="r", resume="allow")
    run.log_scalars({"x": 1.0}, step=0)
    if "fork" in sys.argv or FORK:
        if os.fork() == 0:
            run.log_scalars({"x": 2.0}, step=1)
            print("child", os.getpid(), flush=True)
            time.sleep(100)
    else:
        print("ready", flush=True)
    time.sleep(100)
    """
    parent = start(code.replace("FORK", "True"), tmp_path)
    child = int(parent.stdout.readline().split()[1])
    directory = tmp_path / "runs" / "p" / "r"
    try:
        assert (broke_off(directory), is_written_to(directory)) == (False, True)
        parent.kill()
        parent.wait(30)
        # The run shows as crashed, but its child goes on.
        assert RunRecord(directory).status == "crashed"
        assert (broke_off(directory), _status(RunRecord(directory))) == (False, "running")
    finally:
        os.kill(child, signal.SIGKILL)
        parent.communicate(timeout=30)
    deadline = time.monotonic() + 30
    while process_start(child) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (broke_off(directory), _status(RunRecord(directory))) == (True, "crashed")
    # One on another host: its heartbeat tells.
    (beat, *_) = (directory / "journal").glob("*.alive")
    facts = json.loads(beat.read_text())
    beat.write_text(json.dumps({**facts, "host": "elsewhere"}))
    assert not broke_off(directory)
    now = time.time()
    os.utime(beat, (now, now - 50))
    assert not broke_off(directory)
    os.utime(beat, (now, now - 100))
    assert broke_off(directory)
    # What is being written just now tells nothing.
    beat.write_text("{")
    assert not broke_off(directory)


def test_a_heartbeat_from_elsewhere_is_not_stale_by_a_clock_that_is_ahead(tmp_path, monkeypatch):
    """The file system dates it, and the clock of this host may be minutes ahead of that."""
    start(
        """
    import os
    import tracking_core as tracking
    tracking.start_run("p", root="runs", run_id="r").log_scalars({"x": 1.0}, step=0)
    os._exit(1)
    """,
        tmp_path,
    ).communicate(timeout=60)
    directory = tmp_path / "runs" / "p" / "r"
    (beat,) = (directory / "journal").glob("*.alive")
    beat.write_text(json.dumps({**json.loads(beat.read_text()), "host": "elsewhere"}))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1000.0)
    assert not broke_off(directory)
    os.utime(beat, (now, now - 100))
    assert broke_off(directory)


def test_a_finished_run_did_not_break_off(rec):
    run = record()
    assert not broke_off(run.dir)
    assert closing("crashed") == ("failed", "the process ended without finishing the run")
    assert closing("preempted", "SIGTERM") == ("preempted", "SIGTERM")


# ---------------------------------------------------------------- what a report says


@pytest.mark.parametrize("order", ["local first", "target first"])
def test_the_store_does_not_report_the_trouble_of_a_target(rec, troubles, order):
    run = begin()
    if order == "local first":
        run.log_scalars({"bad": "text"}, step=0)
    rec.away(True)
    run.log_scalars({"x": 0.0}, step=0)
    if order == "target first":
        run.log_scalars({"bad": "text"}, step=0)
    report = run.flush()
    assert "away" in report["rec"].last_error
    assert (report["local"].dropped, "bad" in report["local"].last_error) == (1, True)
    assert "away" not in report["local"].last_error
    rec.away(False)
    # What went wrong at the target is no trouble of the store, whatever came last.
    assert "bad" in run.finish()["local"].last_error


def test_a_store_without_troubles_of_its_own_has_none_to_report(rec, troubles):
    run = begin()
    rec.away(True)
    run.log_scalars({"x": 0.0}, step=0)
    report = run.flush()
    assert (report["local"].last_error, report["local"].ok, report["rec"].pending) == (None, True, 1)
    rec.away(False)
    run.finish()


def test_the_last_of_several_troubles_of_a_kind_is_told(troubles):
    from tracking_core.base.problems import Troubles

    seen = Troubles("a run")
    for reason, message in [("invalid", "one"), ("rec: retry", "two"), ("journal", "three"), ("invalid", "four")]:
        seen.note(reason, message)
    assert seen.last_of("invalid", "journal") == "four"
    assert seen.last_of("journal") == "three"
    assert seen.last_of("media") is None
