"""A training that is killed: what it has at backends is completed and ended as failed, unless somebody goes on with it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import textwrap
import threading
import time

import pytest
from click.testing import CliRunner

from tests.support.processes import MARK, marked, wait_until_gone
from tests.support.programs import journal_events, start
from tests.support.recording_adapter import install_recorder
from tests.support.wandb_server import WandbServer
from tracking_core.cli.app import app
from tracking_core.delivery.process import server as deliverer_process
from tracking_core.store.records import RunRecord

pytestmark = pytest.mark.system

BROKE_OFF = "the process ended without finishing the run"
TRAIN = """
import os, sys, time
import tracking_core as tracking
from tracking_core.delivery.process import client as deliverer
run = tracking.start_run("p", root="runs", run_id="r", resume="allow", backends=os.environ["BACKENDS"])
for step in range(20):
    run.log_scalars({"x": float(step)}, step=step)
"""
READY = """
pid = deliverer._shared.process.pid if deliverer._shared else 0
print("ready", pid, flush=True)
time.sleep(200)
"""


@pytest.fixture
def rec(tmp_path, monkeypatch):
    """The adapter; what a test starts ends with it."""
    monkeypatch.setenv(MARK, str(tmp_path))
    yield install_recorder(tmp_path, monkeypatch)
    for pid in marked(str(tmp_path)):
        if pid != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Training:
    """A training in a process of its own.

    Args:
        rec: The adapter it may deliver to.
        tmp_path: Where it runs.
        backends: Its targets.
        then: More of its program, before it waits.
        env: More for its environment.
    """

    def __init__(self, rec, tmp_path, backends="rec", then="run.flush()", **env):
        program = TRAIN + textwrap.dedent(then) + READY
        path = os.pathsep.join([str(rec.site), os.environ.get("PYTHONPATH", "")])
        self.process = start(program, tmp_path, BACKENDS=backends, PYTHONPATH=path, **env)
        line = self.process.stdout.readline().split()
        assert line[:1] == ["ready"], self.process.communicate()
        self.deliverer = int(line[1])

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.communicate(timeout=60)


def directory(tmp_path):
    return tmp_path / "runs" / "p" / "r"


def journal(tmp_path):
    return {path.name: path.read_bytes() for path in sorted((directory(tmp_path) / "journal").glob("*.jsonl"))}


def ends(rec):
    return [(call["status"], call["error"]) for call in rec.all("finish")]


def at_tensorboard(tmp_path):
    """How often its files say that the run failed like that; text stands in them as it is."""
    held = b"".join(path.read_bytes() for path in (tmp_path / "tb").rglob("*tfevents*"))
    return held.count(f"failed: {BROKE_OFF}".encode())


def until(condition, seconds=240.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def gone(tmp_path):
    """Wait for the deliverer; this process carries the mark itself only by what it passes on."""
    wait_until_gone(str(tmp_path), 100)


def test_a_killed_run_is_ended_as_failed_at_its_backends(rec, tmp_path):
    with WandbServer("team") as server:
        client = server.env(tmp_path / "client")
        training = Training(rec, tmp_path, "wandb://team/p,tensorboard:./tb,rec", **client)
        assert server.runs["r"].state == "running"
        training.kill()
        written = journal(tmp_path)
        gone(tmp_path)
        assert (server.runs["r"].state, server.runs["r"].exitcode) == ("failed", 1)
        assert len(server.runs["r"].history) == 20
        assert at_tensorboard(tmp_path) == 1
        assert ends(rec) == [("failed", BROKE_OFF)]
        # The store says of it what it did: nothing was written there.
        assert journal(tmp_path) == written
        assert not [event for event in journal_events(directory(tmp_path)) if event["kind"] == "finish"]
        assert RunRecord(directory(tmp_path)).status == "crashed"
        cursors = [json.loads(path.read_text()) for path in (directory(tmp_path) / "cursors").glob("*.json")]
        assert [cursor["status"] for cursor in cursors] == ["failed"] * 3
        # Nothing is left to do.
        opened = rec.opened
        result = CliRunner(env=client).invoke(app, ["sync", "--all", "--root", "runs", "--json"])
        assert result.exit_code == 0, result.output
        assert rec.opened == opened
        # Resuming opens it again.
        again = Training(rec, tmp_path, "wandb://team/p,rec", then="run.flush(); time.sleep(1); run.flush()", **client)
        assert server.runs["r"].state == "running"
        assert rec.all("open")[-1]["resumed"] is True
        again.process.terminate()
        again.process.communicate(timeout=60)
        gone(tmp_path)
        assert server.runs["r"].complete
        assert ends(rec)[1:] == [("preempted", "SIGTERM")]
        assert server.unknown == []


def test_a_process_that_leaves_without_a_word_is_ended_as_failed(rec, tmp_path):
    start(
        TRAIN + "os._exit(0)",
        tmp_path,
        BACKENDS="rec",
        PYTHONPATH=os.pathsep.join([str(rec.site), os.environ.get("PYTHONPATH", "")]),
    ).communicate(timeout=60)
    gone(tmp_path)
    assert [step for _, step in rec.steps()] == list(range(20))
    assert ends(rec) == [("failed", BROKE_OFF)]


def test_a_run_that_was_finished_is_ended_once(rec, tmp_path):
    training = Training(rec, tmp_path, then="run.finish()")
    training.kill()
    gone(tmp_path)
    assert ends(rec) == [("finished", None)]


def test_sigterm_on_the_deliverer_ends_no_run_of_a_living_training(rec, tmp_path):
    training = Training(rec, tmp_path)
    os.kill(training.deliverer, signal.SIGTERM)
    # Another goes on for the training.
    until(lambda: rec.opened == 2)
    assert ends(rec) == []
    training.kill()
    gone(tmp_path)
    assert ends(rec) == [("failed", BROKE_OFF)]


def test_a_run_that_another_process_goes_on_with_is_left_open(rec, tmp_path):
    """A rank that is killed is not the run; when the last of them dies, `tracking sync` ends it."""
    training = Training(rec, tmp_path)
    other = Training(rec, tmp_path, "local", then="run.log_scalars({'x': 1.0}, step=100)")
    training.kill()
    until(lambda: str(training.deliverer) not in map(str, marked(str(tmp_path))), 100)
    assert ends(rec) == []
    assert (100 in [step for _, step in rec.steps()], RunRecord(directory(tmp_path)).status) == (True, "running")
    other.kill()
    gone(tmp_path)
    assert ends(rec) == []
    result = CliRunner().invoke(app, ["sync", "--all", "--root", "runs", "--json"])
    assert result.exit_code == 0, result.output
    assert ends(rec) == [("failed", BROKE_OFF)]


def test_a_run_that_a_forked_child_goes_on_with_is_left_open(rec, tmp_path):
    fork = """
    run.flush()
    if os.fork() == 0:
        run.log_scalars({"x": 2.0}, step=100)
        time.sleep(200)
    time.sleep(0.5)
    """
    training = Training(rec, tmp_path, then=fork)
    os.kill(training.process.pid, signal.SIGKILL)
    training.process.wait(60)
    until(lambda: training.deliverer not in marked(str(tmp_path)), 100)
    assert RunRecord(directory(tmp_path)).status == "crashed"
    assert ends(rec) == []
    (child,) = marked(str(tmp_path))
    os.kill(child, signal.SIGKILL)
    training.process.communicate(timeout=60)


# ---------------------------------------------------------------- the deliverer, seen from inside


@pytest.fixture
def killed(rec, tmp_path):
    """A run that was killed before anything was delivered of it."""
    Training(rec, tmp_path, "local", then="").kill()
    return directory(tmp_path)


def serve(run_dir, monkeypatch, *targets, last=b"", unread=False):
    """What a deliverer does whose training dies: its real server, in this process.

    Args:
        run_dir: The run directory.
        monkeypatch: The fixture.
        targets: Where the run goes.
        last: What the training was saying when it died.
        unread: Whether it dies before it has read what the deliverer said.
    """
    ours, theirs = socket.socketpair()
    server = deliverer_process.Server(theirs)
    # Priorities and the environment are those of the tests.
    monkeypatch.setattr(deliverer_process, "set_priority", lambda *_: None)
    monkeypatch.setattr(deliverer_process, "lower_backends", lambda: None)
    monkeypatch.setattr(deliverer_process, "_raise_file_limit", lambda: None)
    monkeypatch.setattr(deliverer_process, "_follow", lambda path, environ: None)
    request = {"do": "open", "run": "r", "dir": str(run_dir), "path": [], "env": None}
    ours.sendall(json.dumps({**request, "targets": [[one, one, True] for one in targets]}).encode() + b"\n" + last)
    failed = []

    def run():
        try:
            server.serve()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    if unread:
        assert select.select([ours], [], [], 60)[0]
        ours.close()
    else:
        ours.shutdown(socket.SHUT_WR)
    thread.join(300)
    assert not thread.is_alive()
    assert failed == []
    ours.close()
    theirs.close()


@pytest.mark.parametrize("how", [{"last": b'{"do":"flu'}, {"unread": True}], ids=str)
def test_a_training_may_die_in_the_middle_of_a_word(rec, killed, monkeypatch, how):
    """A socket that is closed with something unread in it is an error at the other end, and no end of file."""
    serve(killed, monkeypatch, "rec", **how)
    assert [step for _, step in rec.steps()] == list(range(20))
    assert ends(rec) == [("failed", BROKE_OFF)]


@pytest.mark.parametrize("how", ["away", "broken"])
def test_where_something_waits_the_target_is_left_for_sync(rec, killed, tmp_path, monkeypatch, how):
    monkeypatch.setattr(deliverer_process, "DRAIN", 10.0)
    # One that fails again and again is paused.
    rec.away(True) if how == "away" else rec.break_down()
    serve(killed, monkeypatch, "rec", f"tensorboard:{tmp_path}/tb")
    # What has everything is ended, and the other is not.
    assert ends(rec) == []
    assert at_tensorboard(tmp_path) == 1
    assert RunRecord(killed).status == "crashed"


@pytest.mark.parametrize(("age", "ended"), [(0, False), (50, False), (100, True)])
def test_a_process_on_another_host_is_not_declared_dead_early(rec, killed, tmp_path, monkeypatch, age, ended):
    monkeypatch.setattr(deliverer_process, "DEATH", 0.2)
    writer = next((killed / "journal").glob("*.alive"))
    facts = json.loads(writer.read_text())
    # Another process of the same training, on another host; it has written nothing yet.
    other = writer.with_name(f"{writer.stem[:-1]}{'0' if writer.stem[-1] != '0' else '1'}.alive")
    other.write_text(json.dumps({**facts, "host": "elsewhere"}))
    now = time.time()
    os.utime(other, (now, now - age))
    serve(killed, monkeypatch, "rec")
    assert ends(rec) == ([("failed", BROKE_OFF)] if ended else [])
    assert len(rec.steps()) == 20


def test_a_backend_that_does_not_come_back_from_its_end_holds_nobody_up(rec, killed, tmp_path, monkeypatch, troubles):
    monkeypatch.setattr(deliverer_process, "ENDING", 3.0)
    hang = threading.Event()
    from tracking_core.backends.plugins import find_adapter

    module = find_adapter("rec").candidate.entry_point.load()
    monkeypatch.setattr(module.Recorder, "finish", lambda self, status="finished", *, error=None: hang.wait(60))
    try:
        serve(killed, monkeypatch, "rec", f"tensorboard:{tmp_path}/tb")
    finally:
        hang.set()
    assert at_tensorboard(tmp_path) == 1
