"""Mirrors, against a server that speaks S3 on loopback, and in directories: what is uploaded, when, and how it is read."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import tracking_core as tracking
from tests.support.bucket_server import BucketServer, GoogleServer, free_port
from tests.support.commands import tracking as command
from tests.support.programs import journal_events, run, scalar_rows, start
from tracking_core.cli import doctor
from tracking_core.compaction import background
from tracking_core.mirror import client as training
from tracking_core.mirror import files, uploader
from tracking_core.mirror import server as mirror_server
from tracking_core.remote.address import Address, Mirroring
from tracking_core.remote.objects import FolderObjects
from tracking_core.runs import housekeeping

pytestmark = pytest.mark.system

PREFIX = "team/a"
TRAINING = """
    import sys, time, tracking_core as tracking
    run = tracking.start_run("p", run_id="r", backends="local", root="runs", config={"lr": 0.1})
    step = 0
    while True:
        run.log_scalars({"loss": 1 / (step + 1)}, step=step)
        print(step, time.time(), flush=True)
        step += 1
        time.sleep(0.005)
"""


@pytest.fixture(scope="module")
def server():
    one = BucketServer()
    yield one
    one.stop()


@pytest.fixture
def bucket(server, tmp_path, monkeypatch):
    """A bucket; it is set as the mirror of this test."""
    made = server.make_bucket(f"runs-{secrets.token_hex(4)}")
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TRACKING_MIRROR", f"s3://{made.name}/{PREFIX}")
    monkeypatch.setenv("TRACKING_MIRROR_INTERVAL", "0.3")
    monkeypatch.setenv("TRACKING_CACHE", str(tmp_path / "cache"))
    return made


def address(bucket):
    return f"s3://{bucket.name}/{PREFIX}"


def settings(bucket, server, **more):
    """The same for a program of its own."""
    return {**server.environ, "TRACKING_MIRROR": address(bucket), "TRACKING_MIRROR_INTERVAL": "0.3", **more}


def until(condition, what, seconds=180.0):
    """Wait for something to be true, and give it back."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.05)
    return found


def mirrors_of(pid):
    """The processes that mirror for a training."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes()
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if b"tracking_core.mirror.server" in line and int(parent) == pid:
            found.append(int(entry.name))
    return found


def is_running(pid):
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def downloaded(bucket, tmp_path, run_id="r"):
    """The run as files, by a client that is not ours."""
    folder = tmp_path / f"download-{secrets.token_hex(4)}"
    return bucket.download(f"{PREFIX}/p/{run_id}", folder)


def steps(rows):
    return [step for _, _, step, _ in rows]


# ---------------------------------------------------------------- killed


@pytest.mark.busy
def test_what_a_round_has_seen_is_there_when_a_machine_is_gone(bucket, server, tmp_path):
    """Rounds begin an interval apart, see below; how long one takes on a busy machine is not asked here."""
    process = start(TRAINING, tmp_path, **settings(bucket, server))
    acknowledged = []
    reader = threading.Thread(target=lambda: acknowledged.extend(process.stdout))
    reader.start()

    def mirrored():
        try:
            return scalar_rows(downloaded(bucket, tmp_path))
        except FileNotFoundError:
            return []

    seen = 0
    for _ in range(3):
        seen = len(until(lambda seen=seen: (rows := mirrored())[seen:] and rows, "more rows in the bucket"))
    # At once, as a machine goes: what mirrors gets no time for a last look.
    for pid in (*mirrors_of(process.pid), process.pid):
        os.kill(pid, signal.SIGKILL)
    reader.join(60)
    process.communicate()
    shutil.rmtree(tmp_path / "runs")

    found = scalar_rows(downloaded(bucket, tmp_path))
    assert steps(found) == list(range(len(found)))
    assert seen <= len(found) <= len(acknowledged) + 1
    assert [value for *_, value in found] == [1 / (step + 1) for step in range(len(found))]
    read = tracking.open_store(address(bucket)).run("r")
    assert read.scalars("loss").step.tolist() == steps(found)
    assert (read.status, read.config) == ("running", {"lr": 0.1})


def test_a_round_begins_an_interval_after_the_last_one_began(tmp_path, monkeypatch):
    now, rounds = [100.0], []

    class Uploader:
        directory, state = tmp_path, types.SimpleNamespace()

        def round(self, *, last):
            rounds.append(now[0])
            now[0] += 0.2
            return outcomes.pop(0)

    monkeypatch.setattr(mirror_server, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    read, write = os.pipe()
    server = mirror_server.Server(types.SimpleNamespace(interval=25.0), FolderObjects(tmp_path), write)
    run = mirror_server._Run(Uploader())
    outcomes = [True, True, False, False, False, True, True]
    while outcomes:
        server._round_in_turn("r", run)
        now[0] = max(now[0], run.due)
    assert np.diff(rounds).round(6).tolist() == [25.0, 25.0, 2.0, 4.0, 8.0, 25.0]
    os.close(read)
    os.close(write)


def test_nothing_is_missing_when_only_the_training_is_killed(bucket, server, tmp_path):
    process = start(TRAINING, tmp_path, **settings(bucket, server, TRACKING_MIRROR_INTERVAL="3600"))
    for line in process.stdout:
        if int(line.split()[0]) == 300:
            break
    pids = until(lambda: mirrors_of(process.pid), "what mirrors")
    process.kill()
    rest = process.communicate()[0].split("\n")
    last = max([300, *(int(line.split()[0]) for line in rest[:-1])])
    until(lambda: not any(map(is_running, pids)), "the end of what mirrors")
    shutil.rmtree(tmp_path / "runs")
    found = scalar_rows(downloaded(bucket, tmp_path))
    assert set(steps(found)) >= set(range(last + 1))
    assert tracking.open_store(address(bucket)).run("r").scalars("loss").step.tolist() == steps(found)


def test_a_killed_run_that_is_continued_is_mirrored_as_a_whole(bucket, server, tmp_path, monkeypatch):
    process = start(TRAINING, tmp_path, **settings(bucket, server))
    for line in process.stdout:
        if int(line.split()[0]) > 300 and bucket.listed():
            break
    for pid in (*mirrors_of(process.pid), process.pid):
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    before = scalar_rows(tmp_path / "runs" / "p" / "r")
    with tracking.start_run("p", run_id="r", resume="must", backends="local", root="runs") as again:
        again.log_scalars({"loss": 0.0}, step=10_000)
    found = scalar_rows(downloaded(bucket, tmp_path))
    assert found == [*before, ("loss", "step", 10_000, 0.0)]
    assert again.finish()["mirror"].ok


def test_a_process_that_mirrors_and_dies_is_replaced(bucket, tmp_path, troubles):
    with tracking.start_run("p", run_id="r", backends="local", root="runs") as one:
        one.log_scalars({"x": 1.0}, step=1)
        until(bucket.listed, "the first upload")
        process = training._processes.all[-1]
        os.kill(process._child.pid, signal.SIGKILL)
        until(lambda: troubles, "the news of its end")
        one.log_scalars({"x": 2.0}, step=2)
    assert steps(scalar_rows(downloaded(bucket, tmp_path))) == [1, 2]
    assert [(reason, "a new one is started" in message) for reason, message, _ in troubles] == [("mirror", True)]
    assert one.finish().ok


# ---------------------------------------------------------------- what is there


def log_everything(one):
    one.log_scalars({"loss": 0.5, "nan": float("nan")}, step=1)
    one.log_scalars({"loss": 0.25}, step=2)
    one.log_images({"sample": np.full((4, 5, 3), 7, np.uint8)}, step=2)
    one.log_histogram("weights", np.arange(100.0), step=2)
    one.log_table("people", {"name": ["a", "b"], "age": [1, 2]}, step=2)
    one.log_text("note", "# hello", step=2)
    one.log_audio("beep", np.zeros((800, 1), np.float32), sample_rate=8000, step=2)
    one.log_config({"model": {"depth": 3}})
    one.log_summary({"best": 0.25})
    contents = {"a.bin": b"abc" * 1000, "b.txt": b"hello"}
    one.log_artifact(contents, name="weights", type="model", aliases=["best"])


@pytest.mark.parametrize("scheme", ["s3", "file"])
def test_everything_reads_back(scheme, bucket, tmp_path, monkeypatch):
    where = address(bucket) if scheme == "s3" else f"file://{tmp_path}/mirror"
    monkeypatch.setenv("TRACKING_MIRROR", where)
    with tracking.start_run(
        "p", "name", run_id="r", backends="local", root="runs", tags=["t"], config={"lr": 0.1}
    ) as one:
        log_everything(one)
    assert one.finish()["mirror"].ok
    local = tracking.open_store("runs").run("r")
    told = [str(record.data) for record in local.records() if record.kind != "artifact"]
    facts = (local.config, local.summary(), local.environment, local.tags, local.status, local.started)
    files = {path.name: path.read_bytes() for path in (one.dir / "media").iterdir()}
    events = journal_events(one.dir)
    shutil.rmtree("runs")

    there = downloaded(bucket, tmp_path) if scheme == "s3" else tmp_path / "mirror" / "p" / "r"
    assert {path.name: path.read_bytes() for path in (there / "media").iterdir()} == files
    assert str(journal_events(there)) == str(events)
    store = tracking.open_store(where)
    read = store.run("r")
    assert [str(record.data) for record in read.records() if record.kind != "artifact"] == told
    assert str((read.config, read.summary(), read.environment, read.tags, read.status, read.started)) == str(facts)
    (version,) = read.artifacts()
    assert (version.read("a.bin"), version.read("b.txt")) == (b"abc" * 1000, b"hello")
    stored = store.artifacts("p").get("weights:best")
    assert (stored.ref.version, stored.read("b.txt")) == (0, b"hello")
    (artifact,) = (record for record in read.records() if record.kind == "artifact")
    assert Path(artifact.data["artifact"]["a.bin"]).read_bytes() == b"abc" * 1000


def test_a_bucket_of_google_cloud_storage(tmp_path):
    program = """
        import os, shutil, tracking_core as tracking
        with tracking.start_run("p", run_id="r", backends="local", root="runs") as run:
            for step in range(100):
                run.log_scalars({"x": float(step)}, step=step)
            run.log_artifact({"w.bin": b"123"}, name="w")
        assert run.finish()["mirror"].ok, run.finish()
        shutil.rmtree("runs")
        read = tracking.open_store(os.environ["TRACKING_MIRROR"]).run("r")
        print(read.status, read.scalars("x").step.tolist() == list(range(100)), read.artifacts()[0].read("w.bin"))
    """
    google = GoogleServer()
    try:
        env = {"TRACKING_MIRROR": "gs://runs/team/a", "TRACKING_CACHE": str(tmp_path / "cache"), **google.environ}
        out, _ = run(program, tmp_path, **env)
        assert out.splitlines()[-1] == "finished True b'123'"
        there = google.listed()
    finally:
        google.stop()
    kinds = {key.removeprefix(f"{PREFIX}/p/").partition("/")[0] for key in there if key.startswith(f"{PREFIX}/p/")}
    assert kinds == {"r", "artifacts"}
    assert [size for key, size in there.items() if key.startswith(f"{PREFIX}/.blobs/sha256/")] == [3]


def test_finish_waits_for_the_last_look(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKING_MIRROR_INTERVAL", "3600")
    one = tracking.start_run("p", run_id="r", backends="local", root="runs")
    until(bucket.listed, "the first look")
    for step in range(50):
        one.log_scalars({"x": float(step)}, step=step)
    report = one.finish()
    assert steps(scalar_rows(downloaded(bucket, tmp_path))) == list(range(50))
    assert report["mirror"].ok and report["mirror"].delivered > 0


def test_segments_that_became_parts_go(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(housekeeping, "SEGMENT", 4000)
    monkeypatch.setattr(housekeeping, "TICK", 0.05)
    monkeypatch.setattr(background, "WORTH", 1)

    def keys(ending):
        return [key for key in bucket.listed() if key.endswith(ending)]

    one = tracking.start_run("p", run_id="r", backends="local", root="runs")
    step = 0
    seen = []
    cached = tracking.open_store(address(bucket))

    def logged():
        nonlocal step
        for _ in range(20):
            one.log_scalars({"x": float(step)}, step=step)
            step += 1
        seen.append(set(keys(".jsonl")))
        return seen[-1]

    until(logged, "the first segment")
    # A copy that has segments which will be gone.
    until(lambda: list(cached.root.glob("p/r/journal/*.jsonl")) or not cached.runs(), "the copy")
    until(lambda: logged() and keys(".parquet"), "a part of a run that goes on")
    one.finish()
    until(lambda: not [key for key in keys(".jsonl") if "/journal/" in key], "the end of the last segment")
    assert any("/journal/" in key for key in set.union(*seen))
    there = downloaded(bucket, tmp_path)
    assert steps(scalar_rows(there)) == list(range(step))

    def read():
        found = tracking.open_store(address(bucket)).run("r")
        return found if not list((found.dir / "journal").glob("*.jsonl")) else None

    read = until(read, "a copy without segments")
    assert read.scalars("x").step.tolist() == list(range(step))


def test_two_hosts_mirror_one_run_into_one_place(bucket, server, tmp_path):
    program = """
        import sys, tracking_core as tracking
        who = int(sys.argv[1]) if len(sys.argv) > 1 else {who}
        with tracking.start_run("p", run_id="r", resume="allow", backends="local", root="runs") as run:
            for step in range(100):
                run.log_scalars({{f"host{{who}}": float(step)}}, step=step)
            run.log_text("note", f"host {{who}}", step=1)
    """
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    both = [start(program.format(who=who), folder, **settings(bucket, server)) for who, folder in enumerate(folders)]
    for one in both:
        out, err = one.communicate(timeout=120)
        assert one.returncode == 0, err

    def rows():
        return sorted(scalar_rows(downloaded(bucket, tmp_path)))

    expected = sorted((f"host{who}", "step", step, float(step)) for who in (0, 1) for step in range(100))
    assert until(lambda: (found := rows()) == expected and found, "both writers") == expected
    read = tracking.open_store(address(bucket)).run("r")
    assert read.scalar_names() == ["host0", "host1"]


def test_a_process_that_ends_leaves_nothing_to_the_one_that_mirrors_for_it(tmp_path, monkeypatch):
    settings = {"TRACKING_MIRROR": f"file://{tmp_path}/mirror", "TRACKING_MIRROR_INTERVAL": "3600"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    there = tmp_path / "mirror" / "p" / "r"
    with tracking.start_run("p", run_id="r", backends="local", root="runs"):
        # This one mirrors for both, and does not look again for an hour.
        until(lambda: list(there.glob("journal/*.jsonl")), "its first look")
        program = """
            import tracking_core as tracking
            with tracking.start_run("p", run_id="r", resume="must", backends="local", root="runs") as run:
                run.log_scalars({"x": 1.0}, step=1)
            print(run.finish()["mirror"].ok)
        """
        assert run(program, tmp_path, **settings)[0] == "True\n"
        assert scalar_rows(there) == [("x", "step", 1, 1.0)]


def test_two_runs_of_one_directory_are_mirrored_until_both_have_ended(bucket, tmp_path):
    first = tracking.start_run("p", run_id="r", backends="local", root="runs")
    second = tracking.start_run("p", run_id="r", resume="must", backends="local", root="runs")
    first.log_scalars({"a": 1.0}, step=1)
    second.log_scalars({"b": 1.0}, step=1)
    assert first.finish()["mirror"].ok
    second.log_scalars({"b": 2.0}, step=2)
    until(lambda: len(scalar_rows(downloaded(bucket, tmp_path))) == 3, "what the second one logs, while it goes on")
    assert second.finish()["mirror"].ok
    rows = scalar_rows(downloaded(bucket, tmp_path))
    assert sorted(rows) == [("a", "step", 1, 1.0), ("b", "step", 1, 1.0), ("b", "step", 2, 2.0)]


def test_a_forked_child_does_not_keep_the_mirror(bucket, server, tmp_path):
    program = """
        import os, sys, time, tracking_core as tracking
        run = tracking.start_run("p", run_id="r", backends="local", root="runs")
        run.log_scalars({"x": 1.0}, step=1)
        child = os.fork()
        if not child:
            run.log_scalars({"x": 2.0}, step=2)
            print("child", os.getpid(), flush=True)
            time.sleep(600)
        time.sleep(600)
    """
    process = start(program, tmp_path, **settings(bucket, server))
    child = int(process.stdout.readline().split()[1])
    try:
        (mirror,) = until(lambda: mirrors_of(process.pid), "what mirrors")
        process.kill()
        process.wait()
        # The child lives on.
        until(lambda: not is_running(mirror), "the end of what mirrors")
        assert is_running(child)
        assert steps(scalar_rows(downloaded(bucket, tmp_path))) == [1, 2]
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()


# ---------------------------------------------------------------- servers that are not there


def test_a_training_goes_on_without_its_mirror_and_says_so(server, tmp_path, monkeypatch, troubles):
    for name, value in {**server.environ, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TRACKING_MIRROR", "s3://nowhere/runs")
    monkeypatch.setenv("TRACKING_MIRROR_INTERVAL", "0.3")
    with tracking.start_run("p", run_id="r", backends="local", root="runs") as one:
        one.log_scalars({"x": 1.0}, step=1)
        until(lambda: one.health.errors.get("mirror"), "the trouble")
        assert one.health.pending["mirror"] > 0
        report = one.finish(timeout=2.0)
    assert report["local"].ok and not report["mirror"].ok
    assert report["mirror"].pending > 0 and report["mirror"].last_error
    assert {reason for reason, _, _ in troubles} == {"mirror", "delivery"}
    assert scalar_rows(one.dir) == [("x", "step", 1, 1.0)]


def test_a_server_that_never_answers_is_seen_and_not_waited_for(server, monkeypatch, troubles):
    monkeypatch.setattr(training, "SLACK", 0.0)
    monkeypatch.setenv("TRACKING_MIRROR", "s3://nowhere/runs")
    monkeypatch.setenv("TRACKING_MIRROR_INTERVAL", "0.3")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for name, value in {
            **server.environ,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
        }.items():
            monkeypatch.setenv(name, value)
        with tracking.start_run("p", run_id="r", backends="local", root="runs") as one:
            one.log_scalars({"x": 1.0}, step=1)
            until(lambda: "nothing has been uploaded" in one.health.errors.get("mirror", ""), "the trouble")
            report = one.finish(timeout=1.0)
    assert report["mirror"].pending == 1 and "did not end within" in report["mirror"].last_error
    assert {reason for reason, _, _ in troubles} == {"delivery"}


def test_a_mirror_that_cannot_be_reached_is_an_error_for_readers(server, tmp_path, monkeypatch):
    for name, value in {**server.environ, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TRACKING_CACHE", str(tmp_path / "cache"))
    with pytest.raises(tracking.StoreError, match="the mirror s3://nowhere/runs cannot be read: .*connect"):
        tracking.open_store("s3://nowhere/runs").runs()


def test_the_doctor_looks_at_the_mirror(server, bucket, tmp_path, monkeypatch):
    def said():
        found = doctor.examine(["local"]).findings["run store"]
        return [(one.level, one.message) for one in found if "s3://" in one.message or "ftp://" in one.message]

    ((level, message),) = said()
    assert level == "ok" and f"{address(bucket)} can be written" in message
    assert bucket.listed() == []
    monkeypatch.setenv("TRACKING_MIRROR", f"s3://{bucket.name}-which-is-not/runs")
    ((level, message),) = said()
    assert level == "error" and "cannot be written" in message
    monkeypatch.setenv("TRACKING_MIRROR", "ftp://host/runs")
    assert [level for level, _ in said()] == ["error"]
    monkeypatch.delenv("TRACKING_MIRROR")
    monkeypatch.setenv("TRACKING_DIR", address(bucket))
    ((level, message),) = said()
    assert level == "error" and "only read" in message


def test_a_mirror_that_comes_back_gets_everything(tmp_path, monkeypatch, troubles):
    port = free_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("TRACKING_MIRROR", "s3://later/team/a")
    # What failed is tried again sooner.
    monkeypatch.setenv("TRACKING_MIRROR_INTERVAL", "3600")
    with tracking.start_run("p", run_id="r", backends="local", root="runs") as one:
        one.log_scalars({"x": 1.0}, step=1)
        until(lambda: troubles, "the trouble")
        late = BucketServer(port)
        try:
            there = late.make_bucket("later")
            until(lambda: [key for key in there.listed() if key.endswith(".jsonl")], "an upload")
            one.log_scalars({"x": 2.0}, step=2)
            assert one.finish()["mirror"].ok
            assert steps(scalar_rows(downloaded(there, tmp_path))) == [1, 2]
        finally:
            late.stop()


def test_bad_objects_do_not_stop_the_others(tmp_path):
    with tracking.start_run("p", run_id="r", backends="local", root="runs") as one:
        one.log_images({"sample": np.zeros((2, 2), np.uint8)}, step=1)
        one.log_scalars({"x": 1.0}, step=1)
    for number in range(9):
        (one.dir / "media" / f"0-broken{number}.png").mkdir()
    with ThreadPoolExecutor(1) as lines, ThreadPoolExecutor(1) as bulk:
        where = Mirroring(Address("file", str(tmp_path / "mirror")))
        brings = uploader.RunUploader(
            one.dir, where, FolderObjects(tmp_path / "mirror"), lines, bulk, lambda count: None
        )
        # They will never come: nothing waits for them.
        assert brings.round()
        brings.release()
    assert brings.state.failed == 9 and "broken" in brings.state.error
    there = tmp_path / "mirror" / "p" / "r"
    assert steps(scalar_rows(there)) == [1]
    assert len(list((there / "media").iterdir())) == 1


class Held(FolderObjects):
    """A mirror on which one kind of object takes long."""

    def __init__(self, root, ending):
        super().__init__(root)
        self.ending = ending
        self.free = threading.Event()

    def put(self, key, content):
        if key.endswith(self.ending):
            assert self.free.wait(60)
        super().put(key, content)


def test_lines_do_not_wait_for_ever_for_a_medium(tmp_path, monkeypatch):
    monkeypatch.setattr(uploader, "LONG", 0.1)
    with tracking.start_run("p", run_id="r", backends="local", root="runs") as one:
        # More of them than are uploaded at a time.
        one.log_images({"sample": [np.full((2, 2), level, np.uint8) for level in range(9)]}, step=1)
        one.log_scalars({"x": 1.0}, step=1)
    held = Held(tmp_path / "mirror", ".png")
    with ThreadPoolExecutor(2) as lines, ThreadPoolExecutor(2) as bulk:
        where = Mirroring(Address("file", str(tmp_path / "mirror")))
        brings = uploader.RunUploader(one.dir, where, held, lines, bulk, lambda count: None)
        assert not brings.round()
        there = tmp_path / "mirror" / "p" / "r"
        assert brings.state.pending == 9 and not list(there.glob("media/*"))
        assert steps(scalar_rows(there)) == [1]
        held.free.set()
        until(brings.round, "the medium")
        brings.release()
    assert len(list(there.glob("media/*.png"))) == 9


def test_a_medium_comes_before_the_lines_that_name_it(tmp_path):
    with tracking.start_run("p", run_id="r", backends="local", root="runs") as one:
        one.log_images({"sample": np.zeros((2, 2), np.uint8)}, step=1)
        one.log_artifact({"w.bin": b"123"}, name="w")
    put = []

    class Noting(FolderObjects):
        def put(self, key, content):
            if "/media/" in key or "/sha256/" in key:
                # So that lines which do not wait come first.
                time.sleep(0.2)
            put.append(key)
            super().put(key, content)

    with ThreadPoolExecutor(8) as pool:
        where = Mirroring(Address("file", str(tmp_path / "mirror")))
        brings = uploader.RunUploader(one.dir, where, Noting(tmp_path / "mirror"), pool, pool, lambda count: None)
        assert brings.round()
        brings.release()
    lines = min(at for at, key in enumerate(put) if key.endswith(".jsonl"))
    before = [key for key in put[:lines] if "/media/" in key or key.startswith(".blobs/")]
    assert len(before) == 2, put


def test_a_line_that_is_being_written_is_not_uploaded(tmp_path):
    with tracking.start_run("p", run_id="r", backends="local", root="runs") as one:
        one.log_scalars({"x": 1.0}, step=1)
    (path,) = (one.dir / "journal").glob("*.jsonl")
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(b'{"seq":99,"low":' + b"1" * 100_000)
    ((segment,), ()) = (files.snapshot(one.dir).segments, files.snapshot(one.dir).parts)
    assert segment.length == len(whole)


# ---------------------------------------------------------------- reading


def test_media_are_fetched_when_they_are_asked_for(bucket):
    with tracking.start_run("p", run_id="r", backends="local", root="runs") as one:
        one.log_images({"sample": np.full((2, 2), 9, np.uint8)}, step=1)
    shutil.rmtree("runs")
    (read,) = tracking.open_store(address(bucket)).runs()
    media = read.dir / "media"
    assert (read.status, read.image_names()) == ("finished", ["sample"])
    assert not media.exists()
    ((step, (image,)),) = read.images("sample")
    assert (step, image.pixels.max()) == (1, 9)
    assert len(list(media.iterdir())) == 1
    (key,) = (key for key in bucket.listed() if "/media/" in key)
    bucket.client.delete_object(Bucket=bucket.name, Key=key)
    shutil.rmtree(media)
    with pytest.raises((tracking.StoreError, OSError), match=key.rpartition("/")[2]):
        read.images("sample")[0][1][0].pixels


def test_a_live_run_is_followed(bucket, server, tmp_path):
    program = """
        import sys, tracking_core as tracking
        with tracking.start_run("p", run_id="r", backends="local", root="runs") as run:
            run.log_scalars({"x": 1.0}, step=1)
            sys.stdin.readline()
            run.log_scalars({"x": 2.0}, step=2)
    """
    process = subprocess.Popen(
        [os.sys.executable, "-c", __import__("textwrap").dedent(program)],
        cwd=tmp_path,
        env={**os.environ, **settings(bucket, server)},
        stdin=subprocess.PIPE,
    )

    def there():
        try:
            read = tracking.open_store(address(bucket)).run("r")
            return read if read.scalar_names() else None
        except tracking.StoreError:
            return None

    try:
        read = until(there, "the run")
        assert read.status == "running"
        found = []
        for record in read.follow(poll=0.1, timeout=180.0):
            found.append(record.step)
            if found == [1]:
                process.stdin.write(b"\n")
                process.stdin.close()
        assert found == [1, 2]
        assert process.wait(60) == 0
        assert tracking.open_store(address(bucket)).run("r").status == "finished"
    finally:
        process.kill()
        process.wait()


def test_a_writer_elsewhere_lives_as_long_as_its_heartbeats_come(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TRACKING_MIRROR", f"file://{tmp_path}/mirror")
    monkeypatch.setenv("TRACKING_MIRROR_INTERVAL", "0.3")
    one = tracking.start_run("p", run_id="r", backends="local", root="runs")
    one.log_scalars({"x": 1.0}, step=1)
    until(lambda: list((tmp_path / "mirror").glob("p/r/journal/*.jsonl")), "the upload")
    shutil.copytree(tmp_path / "mirror", tmp_path / "elsewhere")
    one.finish()
    (alive,) = (tmp_path / "elsewhere").glob("p/r/journal/*.alive")
    facts = json.loads(alive.read_text())
    assert facts["mirrored"] == 0.3
    where = f"file://{tmp_path}/elsewhere"

    def status(age, **changed):
        alive.write_text(json.dumps({**facts, "host": "another-host", **changed}))
        os.utime(alive, (time.time() - age,) * 2)
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        from tracking_core.mirror.cache import _cache

        _cache.cache_clear()
        return tracking.open_store(where).run("r").status

    assert status(0) == "running"
    assert status(10) == "running"
    assert status(60) == "crashed"
    # One that is seen less often is waited for longer.
    assert status(60, mirrored=25.0) == "running"
    assert status(130, mirrored=25.0) == "crashed"
    # That its process is gone from this host says nothing: the last lines may be on their way.
    assert status(0, **{**facts, "pid": 2**22 + 1}) == "running"


def test_what_is_gone_from_the_mirror_is_gone_from_its_copy(bucket):
    for name in ("a", "b"):
        with tracking.start_run("p", run_id=name, backends="local", root="runs") as one:
            one.log_scalars({"x": 1.0}, step=1)
    store = tracking.open_store(address(bucket))
    assert {read.id for read in store.runs()} == {"a", "b"}
    for key in bucket.listed(f"{PREFIX}/p/a/"):
        bucket.client.delete_object(Bucket=bucket.name, Key=key)
    until(lambda: [read.id for read in store.runs()] == ["b"], "the end of the run in the copy")
    with pytest.raises(tracking.RunNotFoundError):
        store.run("a")


@pytest.mark.busy
def test_cursors_of_places_that_stay_go_along_and_are_not_ahead(bucket, server, tmp_path):
    there = f"tensorboard:s3://{bucket.name}/tb"
    program = TRAINING.replace('backends="local"', f'backends="tensorboard:./tb,{there}"')
    process = start(program, tmp_path, **settings(bucket, server))

    def moved():
        """Cursors in the mirror that are beyond the beginning."""
        there = [key for key in bucket.listed(PREFIX) if "/cursors/" in key and key.endswith(".json")]
        return [key for key in there if any(one["seq"] for one in json.loads(bucket.read(key))["writers"].values())]

    found = until(moved, "a cursor")
    # Some more rounds.
    for line in process.stdout:
        if int(line.split()[0]) > 400:
            break
    for pid in (*mirrors_of(process.pid), process.pid):
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    (key,) = found
    cursor = json.loads(bucket.read(key))
    assert cursor["target"] == there
    events = journal_events(downloaded(bucket, tmp_path))
    ((writer, position),) = cursor["writers"].items()
    assert 0 < position["seq"] <= max(event["seq"] for event in events if event["writer_file"] == writer)

    # The copy takes it over, until somebody delivers from here.
    read = tracking.open_store(address(bucket)).run("r")
    (copy,) = (read.dir / "cursors").glob("*.json")
    assert json.loads(copy.read_bytes()) == cursor
    bucket.put(key, json.dumps({**cursor, "opened": 77}).encode())
    until(lambda: not read.has_ended and json.loads(copy.read_bytes())["opened"] == 77, "the newer one")
    copy.write_text(json.dumps({**cursor, "opened": 78}))
    bucket.put(key, json.dumps({**cursor, "opened": 79}).encode())
    time.sleep(2.1)  # a copy counts as up to date for two seconds
    assert not read.has_ended
    assert json.loads(copy.read_bytes())["opened"] == 78


def test_a_mirror_is_followed_to_a_target(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    where = f"file://{tmp_path}/mirror"
    monkeypatch.setenv("TRACKING_MIRROR", where)
    monkeypatch.setenv("TRACKING_MIRROR_INTERVAL", "0.3")
    command = f"import sys; from tracking_core.cli import main; sys.argv[1:] = ['sync', '--follow', {where!r}, '--to', 'tensorboard:./tb']; main()"
    follower = start(command, tmp_path, TRACKING_CACHE=str(tmp_path / "cache"))

    def rows():
        for directory in (tmp_path / "tb").glob("*"):
            found = EventAccumulator(str(directory), size_guidance={"scalars": 0})
            found.Reload()
            if "x" in found.Tags()["scalars"]:
                return [(event.step, event.value) for event in found.Scalars("x")]
        return []

    try:
        with tracking.start_run("p", run_id="r", backends="local", root="runs") as one:
            one.log_scalars({"x": 1.0}, step=1)
            until(rows, "the first row, while the run goes on")
            one.log_scalars({"x": 2.0}, step=2)
        assert until(lambda: len(found := rows()) > 1 and found, "the end of the run") == [(1, 1.0), (2, 2.0)]
    finally:
        follower.send_signal(signal.SIGINT)
        out, err = follower.communicate(timeout=120)
    assert follower.returncode == 0, err


def test_a_version_of_another_root_is_not_overwritten(tmp_path, monkeypatch, troubles):
    monkeypatch.setenv("TRACKING_MIRROR", f"file://{tmp_path}/mirror")
    monkeypatch.setenv("TRACKING_CACHE", str(tmp_path / "cache"))
    for number, root in enumerate(("one", "two")):
        with tracking.start_run("p", run_id=root, backends="local", root=root) as one:
            one.log_artifact({"w.bin": b"%d" % number}, name="w", type="model")
        report = one.finish()
        assert (report["mirror"].pending, report["mirror"].failed) == (0, number)
    assert "another version of that number" in report["mirror"].last_error
    assert json.loads((tmp_path / "mirror/p/artifacts/model/w/v0.json").read_text())["run"] == "one"
    # What a run logged is read by its own events.
    store = tracking.open_store(f"file://{tmp_path}/mirror")
    for number, name in enumerate(("one", "two")):
        assert store.run(name).artifacts()[0].read("w.bin") == b"%d" % number


def test_the_command_line_reads_a_mirror(bucket, server, tmp_path):
    for name in ("a", "b"):
        with tracking.start_run("p", name, run_id=name, backends="local", root="runs", config={"name": name}) as one:
            log_everything(one)
    shutil.rmtree("runs")
    env = {**server.environ, "TRACKING_CACHE": str(tmp_path / "cache")}

    where = address(bucket)
    listed = json.loads(command("runs", "--json", "--root", where, cwd=tmp_path, **env)[0])["runs"]
    assert {(one["id"], one["status"]) for one in listed} == {("a", "finished"), ("b", "finished")}
    assert json.loads(command("show", "a", "--json", cwd=tmp_path, TRACKING_DIR=where, **env)[0])["id"] == "a"
    for verb in (["scalars", "a", "loss"], ["compare", "a", "b"], ["tail", "a"], ["verify", "a", "b"]):
        assert command(*verb, "--root", where, cwd=tmp_path, **env)[0]
    command("export", "a", "--to", "a.csv", "--root", where, cwd=tmp_path, **env)
    assert "loss" in (tmp_path / "a.csv").read_text()
    command("pack", "a", "-o", "a.tracking.zip", "--root", where, cwd=tmp_path, **env)
    command("import", "a.tracking.zip", "--root", "taken", cwd=tmp_path, **env)
    taken = tracking.open_store(tmp_path / "taken").run("a")
    assert len(taken.images("sample")) == 1
    assert taken.artifacts()[0].read("b.txt") == b"hello"
    command("sync", "a", "--to", "tensorboard:./tb", "--root", where, cwd=tmp_path, **env)
    assert list((tmp_path / "tb").rglob("*tfevents*"))
    for verb in (["rm", "a", "-y"], ["compact", "--all"], ["prune", "--keep", "delivered:1d"], ["import", "a.csv"]):
        assert "mirrors are read-only" in "".join(command(*verb, "--root", where, cwd=tmp_path, code=1, **env))


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("runs", "is not the address of a mirror"),
        ("ftp://host/runs", "mirrors on ftp:// are not supported"),
        ("s3://", "expected s3://BUCKET"),
        ("s3://bucket/../x", "expected s3://BUCKET"),
        ("s3://key:secret@bucket/x", "holds a user, password or key"),
        ("s3://bucket/x?key=AKIAABCDEFGHIJKLMNOP", "has no options|holds a user"),
        ("file://relative", "needs an absolute path"),
    ],
)
def test_addresses_that_are_none(text, said, monkeypatch):
    monkeypatch.setenv("TRACKING_MIRROR", text)
    with pytest.raises(tracking.SettingsError, match=said) as caught:
        tracking.start_run("p", backends="local")
    assert "TRACKING_MIRROR" in str(caught.value)
    assert "secret" not in str(caught.value) and "AKIA" not in str(caught.value)
    assert not Path("tracking_runs").exists()


@pytest.mark.parametrize("text", ["0", "soon", "-1", "nan"])
def test_intervals_that_are_none(text, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKING_MIRROR", f"file://{tmp_path}/mirror")
    monkeypatch.setenv("TRACKING_MIRROR_INTERVAL", text)
    with pytest.raises(tracking.SettingsError, match="TRACKING_MIRROR_INTERVAL: expected seconds"):
        tracking.start_run("p", backends="local")


@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_a_missing_package_is_named(scheme, package, monkeypatch):
    from tracking_core.remote import address as module

    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setenv("TRACKING_MIRROR", f"{scheme}://bucket/runs")
    with pytest.raises(tracking.MissingDependencyError, match=rf"{package}.*pip install 'tracking-core\[remote\]'"):
        tracking.start_run("p", backends="local")
    with pytest.raises(tracking.MissingDependencyError, match=r"tracking-core\[remote\]"):
        tracking.open_store(f"{scheme}://bucket/runs")


def test_a_run_is_not_recorded_in_a_mirror(monkeypatch):
    with pytest.raises(tracking.SettingsError, match="TRACKING_MIRROR to this address"):
        tracking.start_run("p", backends="local", root="s3://bucket/runs")
    monkeypatch.setenv("TRACKING_DIR", "gs://bucket/runs")
    with pytest.raises(tracking.SettingsError, match="TRACKING_DIR.*mirrors are read-only"):
        tracking.start_run("p", backends="local")


def test_the_training_imports_no_client(bucket, server, tmp_path):
    program = """
        import sys, tracking_core as tracking
        with tracking.start_run("p", run_id="r", backends="local", root="runs") as run:
            run.log_scalars({"x": 1.0}, step=1)
        print(run.finish()["mirror"].ok, sorted({"fsspec", "s3fs", "botocore", "aiohttp"} & set(sys.modules)))
    """
    assert run(program, tmp_path, **settings(bucket, server))[0] == "True []\n"
