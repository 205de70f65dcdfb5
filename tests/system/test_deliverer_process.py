"""The deliverer process: one that is stopped holds nobody up, and targets that lag behind are hurried."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import pytest

import tracking_core as tracking
from tests.support.programs import scalar_rows
from tracking_core.backends.plugins import forget_adapters
from tracking_core.backends.targets import parse_target
from tracking_core.delivery.destinations import Destination
from tracking_core.delivery.process import client as deliverer
from tracking_core.delivery.process import delivery as remote
from tracking_core.delivery.process import server as process
from tracking_core.delivery.threads import ThreadDelivery
from tracking_core.testing import FakeTracker
from tracking_tensorboard.testing import find_run, read_run


def log(run, first, last):
    for step in range(first, last):
        run.log_scalars({"x": float(step)}, step=step)


@pytest.mark.busy
def test_a_deliverer_that_is_stopped_holds_nobody_up(tmp_path, monkeypatch, troubles):
    monkeypatch.setattr(deliverer, "PATIENCE", 0.5)
    monkeypatch.setattr(deliverer, "GLANCE", 0.2)
    run = tracking.start_run("p", root="runs", backends=f"tensorboard:{tmp_path}/tb")
    log(run, 0, 10)
    assert run.flush(60)["tensorboard"].delivered == 10
    pid = deliverer.deliverer().process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        log(run, 10, 110)
        assert run.health.pending["tensorboard"] == 100
        report = run.finish()
        assert report["tensorboard"].pending == 100
        assert "does not answer" in report["tensorboard"].last_error
        assert report["local"].ok
    finally:
        os.kill(pid, signal.SIGCONT)
    assert [row[2] for row in scalar_rows(run.dir)] == list(range(110))


def delivered(tmp_path, run):
    """The steps that TensorBoard's own reader finds."""
    return [row.step for row in read_run(find_run(tmp_path / "tb", run.id)).scalars]


def kill(process):
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGKILL)
    process.wait(30)


def test_a_deliverer_that_dies_is_replaced(tmp_path, troubles):
    run = tracking.start_run("p", root="runs", backends=f"tensorboard:{tmp_path}/tb")
    for first in (0, 100, 200):
        log(run, first, first + 100)
        assert run.flush(60)["tensorboard"].pending == 0
        kill(deliverer.deliverer().process)
    log(run, 300, 400)
    report = run.finish()
    assert report.ok
    rows = delivered(tmp_path, run)
    assert rows == list(range(400))
    assert {reason for reason, _, _ in troubles} == {"deliverer"}


def test_a_deliverer_that_dies_again_and_again_is_given_up(tmp_path, monkeypatch, troubles):
    monkeypatch.setattr(remote, "RESTARTS", 0)
    run = tracking.start_run("p", root="runs", backends=f"tensorboard:{tmp_path}/tb")
    log(run, 0, 100)
    kill(deliverer.deliverer().process)
    log(run, 100, 200)
    report = run.finish(timeout=1.0)
    assert report["tensorboard"].pending >= 100
    assert "has ended" in report["tensorboard"].last_error
    assert [row[2] for row in scalar_rows(run.dir)] == list(range(200))
    again = tracking.start_run(
        "p", root="runs", run_id=run.id, resume="must", backends=f"tensorboard:{tmp_path}/tb", delivery="thread"
    )
    assert again.finish().ok
    assert delivered(tmp_path, run) == list(range(200))


def test_where_no_process_can_be_started_threads_deliver(tmp_path, monkeypatch, troubles):
    monkeypatch.setattr(deliverer, "_shared", None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python here"))
    with tracking.start_run("p", root="runs", backends=f"tensorboard:{tmp_path}/tb") as run:
        log(run, 0, 10)
    assert run.finish().ok
    assert delivered(tmp_path, run) == list(range(10))
    assert [reason for reason, _, _ in troubles] == ["deliverer"]


def test_files_in_the_working_directory_are_not_imported_for_those_of_the_library(tmp_path):
    (tmp_path / "json.py").write_text("raise ImportError('this is not the json you are looking for')")
    script = tmp_path / "elsewhere" / "train.py"
    script.parent.mkdir()
    script.write_text(
        "import tracking_core as tracking\n"
        "with tracking.start_run('p', root='runs', backends='tensorboard:./tb') as run:\n"
        "    run.log_scalars({'x': 1.0}, step=0)\n"
        "assert run.finish().ok, str(run.finish())\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "json you are looking for" not in done.stderr
    assert list((tmp_path / "tb").glob("*/*tfevents*"))


@pytest.fixture
def adapter(tmp_path, monkeypatch):
    """Installs an adapter called "odd", which a deliverer finds as well."""

    def install(tracker):
        head = """
            import os, time
            import tracking_core as tracking
            from tracking_core.testing import FakeTracker

            @tracking.hookimpl
            def tracking_adapter():
                return tracking.AdapterInfo("odd", 1)

            @tracking.hookimpl
            def open_tracker(target, run):
                return Odd()

        """
        (tmp_path / "odd_adapter.py").write_text(textwrap.dedent(head) + textwrap.dedent(tracker))
        facts = tmp_path / "odd_adapter-1.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-adapter\nVersion: 1\n")
        (facts / "entry_points.txt").write_text("[tracking_core.adapters]\nodd = odd_adapter\n")
        monkeypatch.syspath_prepend(tmp_path)
        forget_adapters()
        # One that serves other tests as well may have imported another "odd".
        deliverer.deliverer().close()

    yield install
    deliverer.deliverer().close()
    forget_adapters()


def test_priorities_of_other_processes_are_left_alone():
    """What leads no group of its own may be in that of a shell, with whatever else was started there."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        before = [os.getpriority(os.PRIO_PROCESS, pid) for pid in (0, other.pid)]
        code = "from tracking_core.delivery.process.priority import lower_backends; lower_backends()"
        subprocess.run([sys.executable, "-c", code], check=True)
        assert [os.getpriority(os.PRIO_PROCESS, pid) for pid in (0, other.pid)] == before
        other.communicate(b"\n")


def test_a_deliverer_that_needs_time_is_waited_for(adapter, monkeypatch):
    """It says that it lives; silence alone counts, however long an answer takes."""
    monkeypatch.setattr(deliverer, "PATIENCE", 3 * process.WATCH)
    adapter(
        f"""
        class Odd(FakeTracker):
            def finish(self, status="finished", *, error=None):
                time.sleep({4.5 * process.WATCH})
        """
    )
    run = tracking.start_run("p", root="runs", backends="odd")
    log(run, 0, 3)
    report = run.finish()
    assert report["odd"].delivered == 3
    assert report.ok


def test_a_deliverer_that_would_run_if_it_could_is_waited_for(adapter, monkeypatch):
    """Silent because it does not get its turn, and not because it hangs: here one thread keeps all others waiting."""
    monkeypatch.setattr(deliverer, "PATIENCE", 0.5)
    adapter(
        """
        import sys

        class Odd(FakeTracker):
            def finish(self, status="finished", *, error=None):
                before = sys.getswitchinterval()
                sys.setswitchinterval(1000)
                until = time.monotonic() + 3
                while time.monotonic() < until:
                    pass
                sys.setswitchinterval(before)
        """
    )
    run = tracking.start_run("p", root="runs", backends="odd")
    log(run, 0, 3)
    report = run.finish()
    assert report["odd"].delivered == 3
    assert report.ok


def test_one_that_is_given_up_while_it_runs_is_not_said_to_be_stopped(adapter, monkeypatch, troubles):
    adapter(
        """
        import sys

        class Odd(FakeTracker):
            def log_scalars(self, scalars, **keywords):
                if keywords["step"] == 3:
                    sys.setswitchinterval(1000)
                    until = time.monotonic() + 5
                    while time.monotonic() < until:
                        pass
                    sys.setswitchinterval(0.005)
        """
    )
    run = tracking.start_run("p", root="runs", backends="odd")
    log(run, 0, 3)
    assert run.flush()["odd"].delivered == 3
    # What has to start first may take longer.
    monkeypatch.setattr(deliverer, "PATIENCE", 0.2)
    monkeypatch.setattr(deliverer, "GLANCE", 0.2)
    monkeypatch.setattr(deliverer, "STARVED", 0.5)
    log(run, 3, 4)
    report = run.finish()["odd"]
    assert report.pending == 1
    assert report.last_error == f"the deliverer process {remote.SILENT}"


#: Writes down the niceness of every thread and process that matters when it is called, where it is called.
WATCHED = """
import json, os, subprocess, sys, threading, time
import tracking_core as tracking
from tracking_core.testing import FakeTracker

@tracking.hookimpl
def tracking_adapter():
    return tracking.AdapterInfo("odd", 1)

@tracking.hookimpl
def open_tracker(target, run):
    return Odd()

def nice(task):
    return os.getpriority(os.PRIO_PROCESS, task)

class Odd(FakeTracker):
    def __init__(self):
        super().__init__()
        self.child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
        self.client = threading.Thread(target=self.child.wait, name="client", daemon=True)
        self.client.start()

    def note(self, what):
        line = [what, nice(threading.get_native_id()), nice(os.getpid()), nice(self.client.native_id), nice(self.child.pid)]
        with open("seen.jsonl", "a") as file:
            file.write(json.dumps(line) + chr(10))

    def log_scalars(self, scalars, **keywords):
        self.note(keywords["step"])
        # Until the training waits for it: then another thread stands ready to go on.
        until = time.monotonic() + 60
        while "wait" in scalars and sum(one.name == "tracking-odd" for one in threading.enumerate()) < 2:
            assert time.monotonic() < until
            time.sleep(0.01)

    def flush(self):
        self.note("flush")

    def finish(self, status="finished", *, error=None):
        self.note("finish")
        self.child.communicate(bytes([10]))
"""
USES_IT = """
import json, os, sys, time
from pathlib import Path
import tracking_core as tracking

def seen():
    return [json.loads(line) for line in Path("seen.jsonl").read_text().splitlines()] if Path("seen.jsonl").exists() else []

def log(step, name="x"):
    run.log_scalars({name: 1.0}, step=step)
    until = time.monotonic() + 60
    while not any(one[0] == step for one in seen()):
        assert time.monotonic() < until, seen()
        time.sleep(0.01)

run = tracking.start_run("p", root="runs", backends="odd")
log(0)
log(1, "wait")
assert run.flush()["odd"].delivered == 2
log(2)
log(3, "wait")
assert run.finish().ok
print(json.dumps(seen()))
before = os.getpriority(os.PRIO_PROCESS, 0)
os.setpriority(os.PRIO_PROCESS, 0, before + 1)
try:
    os.setpriority(os.PRIO_PROCESS, 0, before)
except PermissionError:
    sys.exit(0)
sys.exit("a priority can be raised here")
"""


def test_a_deliverer_is_at_its_first_priority_while_the_training_waits(open_place):
    """As a user who cannot raise a priority again."""
    site = open_place / "odd_adapter-1.dist-info"
    site.mkdir()
    (open_place / "odd_adapter.py").write_text(WATCHED)
    (site / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-adapter\nVersion: 1\n")
    (site / "entry_points.txt").write_text("[tracking_core.adapters]\nodd = odd_adapter\n")
    (open_place / "train.py").write_text(USES_IT)
    done = subprocess.run(
        [*unprivileged(), sys.executable, "train.py"],
        cwd=open_place, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first = os.getpriority(os.PRIO_PROCESS, 0)
    lines = json.loads(done.stdout)
    # Neither the main thread, nor what a client has started, changes again.
    assert {tuple(line[2:]) for line in lines} == {(first, 10, 10)}
    own = {step: nice for step, nice, *_ in lines if step != "flush"}
    assert own == {0: 19, 1: 19, 2: 19, 3: 19, "finish": first}
    # The last one before the training went on: it waited for that.
    assert [nice for what, nice, *_ in lines[: [one[0] for one in lines].index(2)] if what == "flush"][-1] == first


def unprivileged():
    """What starts a program without the privilege to raise a priority, as another user where that one can read all."""
    if os.getuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv to give privileges up with")
    check = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import tracking_core'], check=True)"
    for rights in (["--reuid", "65534", "--regid", "65534", "--clear-groups"], ["--bounding-set=-all"]):
        prefix = ["setpriv", *rights, "--inh-caps=-all"]
        if subprocess.run([*prefix, sys.executable, "-c", check], capture_output=True, check=False).returncode == 0:
            return prefix
    pytest.skip("nothing can be started without privileges here")
    return []


@pytest.fixture
def open_place():
    """A directory that every user can come to, unlike those of the tests."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o777)
    yield place
    shutil.rmtree(place)


def test_what_a_deliverer_said_before_it_died_is_passed_on(adapter, troubles):
    adapter(
        """
        class Odd(FakeTracker):
            def log_scalars(self, scalars, **keywords):
                os.write(2, b"something from C\\nterminate called: out of beans\\n")
                os._exit(3)
        """
    )
    run = tracking.start_run("p", root="runs", backends="odd")
    log(run, 0, 3)
    report = run.finish(timeout=5)
    assert report["odd"].pending == 3
    assert report["local"].ok
    said = [message for reason, message, _ in troubles if reason == "deliverer"]
    assert len(said) == 1 + remote.RESTARTS
    assert said[0] == "the deliverer process has ended (terminate called: out of beans); another is started"
    assert said[-1] == "the deliverer process has ended (terminate called: out of beans)"


def test_a_target_that_kills_each_deliverer_does_not_keep_the_others_waiting(adapter, tmp_path, troubles):
    adapter(
        """
        class Odd(FakeTracker):
            def log_scalars(self, scalars, **keywords):
                os._exit(3)
        """
    )
    run = tracking.start_run("p", root="runs", backends=f"odd,tensorboard:{tmp_path}/tb")
    log(run, 0, 500)
    report = run.finish(timeout=20)
    assert report["tensorboard"].ok
    assert report["odd"].pending == 500
    assert delivered(tmp_path, run) == list(range(500))


def test_a_target_that_lags_behind_is_hurried(tmp_path):
    with tracking.start_run("p", root="runs", backends="local") as run:
        log(run, 0, 1000)
    seen, halfway, go_on = [], threading.Event(), threading.Event()

    class Slow(FakeTracker):
        def log_scalars(self, scalars, **keywords):
            seen.append((keywords["step"], os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
            if len(seen) == 600:
                halfway.set()
                go_on.wait(60)
            super().log_scalars(scalars, **keywords)

    def nice(level):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), level)

    tracker = Slow()
    delivery = ThreadDelivery(
        run.dir, [Destination("slow", parse_target("slow"), tracker)], lambda *_: None, lambda: nice(process.NICE)
    )
    assert halfway.wait(60)
    assert delivery.lags()[0] > 0
    delivery.move(1e9, lambda: nice(0))
    delivery.move(0.0, lambda: nice(process.HURRY))
    go_on.set()
    delivery.finish("finished", None, 60)
    assert [step for step, _ in seen] == list(range(1000))
    assert seen[599][1] == process.NICE
    assert seen[-1][1] == process.HURRY
    assert tracker.status == "finished"
    assert delivery.lags() == [0.0]
