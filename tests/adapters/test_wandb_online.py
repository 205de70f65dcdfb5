"""The W&B adapter with the real client online, against a stand-in for the server, with faults of server and client."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tracking_core as tracking
from tests.support.programs import REPO
from tests.support.wandb_adapter import open_run, scalar
from tests.support.wandb_client import wandb_client
from tests.support.wandb_server import WandbServer
from tracking_core.backends.plugins import find_adapter
from tracking_core.backends.targets import parse_target
from tracking_core.values import Image, Record
from tracking_wandb.offline.run import read_offline_run

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    with WandbServer() as server:
        env = server.env(tmp_path_factory.mktemp("client"))
        with wandb_client(env) as wandb:
            wandb.setup()
            yield SimpleNamespace(server=server, env=env, wandb=wandb)


@pytest.fixture(autouse=True)
def _environment(online, monkeypatch):
    for name, value in online.env.items():
        monkeypatch.setenv(name, value)
    yield
    online.server.heal()


@pytest.fixture
def server(online):
    return online.server


@pytest.fixture
def start(server, tmp_path):
    """Open a run; what a test leaves open is finished."""
    opened = []

    def start(run_id, options="finish_timeout=20", **info):
        opened.append(open_run(tmp_path, run_id, f"base_url={server.url}&{options}", **info))
        return opened[-1]

    yield start
    with contextlib.suppress(AssertionError):
        server.accept()
    server.heal()
    for tracker in opened:
        try:
            tracker.finish()
        except tracking.RetryLater:
            assert "fault" in tracker.native.id


def seqs(run, writer="w1"):
    return [row["_tracking_seq"] for row in run.history if row.get("_tracking_writer") == writer]


def again(state):
    """The state as it comes from the cursor of the run."""
    return json.loads(json.dumps(state))


# ---- what arrives


def test_a_run_arrives_whole(server, start, tmp_path):
    tracker = start(
        "whole",
        name="readable",
        project="digits",
        config={"lr": 0.1},
        tags=("a", "b"),
        group="g",
        job_type="train",
        notes="n",
        environment={"program": "/code/train.py", "host": "node-7", "git": {"commit": "c" * 40, "remote": "r.git"}},
    )
    assert tracker.url == f"{server.url}/loopback/digits/runs/whole"
    tracker.log_scalars({"loss": 0.5, "bad": math.nan}, step=100, wall_time=1.6e9 + 0.25)
    tracker.log_scalars({"loss": 0.25}, step=50, wall_time=1.5e9)
    tracker.log_scalars({"val/loss": 4.0}, step=1, step_axis="epoch")
    tracker.log_images({"image": np.zeros((3, 4, 3), np.uint8)}, step=1)
    tracker.log_table("table", {"a": [1, 2]}, step=1)
    tracker.log_config({"batch": 32})
    tracker.log_summary({"best": 0.1})
    tracker.log_alert("Diverged", "loss is NaN", level="warn")
    tracker.log_artifact({"w.bin": b"123"}, name="weights", type="model", aliases=["best"], metadata={"n": 3})
    tracker.flush()
    tracker.finish("failed", error="ValueError")

    run = server.runs["whole"]
    first, second, third = run.history[:3]
    assert (first["loss"], first["step"], first["_timestamp"]) == (0.5, 100, 1.6e9 + 0.25)
    assert math.isnan(first["bad"])
    assert (second["loss"], second["step"], second["_timestamp"]) == (0.25, 50, 1.5e9)
    assert (third["val/loss"], third["epoch"], third["_tracking_axis"]) == (4, 1, "epoch")
    (path,) = run.history[3]["image"]["filenames"]
    assert run.files[path].startswith(b"\x89PNG")
    assert {metric["name"]: metric["step_metric"] for metric in run.metrics}["val/loss"] == "epoch"
    assert run.config == {"lr": 0.1, "batch": 32}
    assert (run.summary["best"], run.summary["loss"], run.summary["tracking/error"]) == (0.1, 0.25, "ValueError")
    assert (run.display_name, run.project, run.tags) == ("readable", "digits", ["a", "b"])
    assert (run.group, run.job_type, run.notes) == ("g", "train", "n")
    assert (run.program, run.host, run.git) == ("/code/train.py", "node-7", {"remote": "r.git", "commit": "c" * 40})
    (alert,) = run.alerts
    assert (alert.title, alert.text, alert.severity) == ("Diverged", "loss is NaN", "WARN")
    (artifact,) = [one for one in server.artifacts if one.type == "model"]
    assert (artifact.name, artifact.aliases, artifact.metadata) == ("weights", ["best", "latest"], {"n": 3})
    assert artifact.files == {"w.bin": b"123"}
    assert (run.state, run.exitcode) == ("failed", 1)


def test_artifacts_are_used(server, start):
    tracker = start("used")
    tracker.log_artifact({"d.txt": b"1"}, name="a dataset", type="dataset", aliases=["best"])
    server.wait_for(lambda: [one for one in server.artifacts if one.name.startswith("a__x20") and one.committed])
    used = tracker.use_artifact("a dataset:best")
    assert (used.name, used.type, used.aliases) == ("a dataset", "dataset", ("best",))
    with pytest.raises(tracking.Rejected, match="nothing"):
        tracker.use_artifact("nothing:latest")
    tracker.finish()
    (artifact,) = server.runs["used"].used_artifacts
    assert artifact.name == "a__x20dataset"


# ---- going on


def test_a_run_goes_on_after_what_the_server_has(server, start):
    state: dict = {}
    first = start("resumed", state=state)
    assert first.confirmed is None
    first.deliver([scalar(1), Record("config", 2, "w1", 0.0, data={"a": 1}), scalar(3), scalar(4, writer="w0")])
    first.finish("interrupted")
    assert server.runs["resumed"].exitcode == 130

    second = start("resumed", state=again(state), resumed=True)
    assert second.confirmed == {"w1": 3, "w0": 4}
    second.deliver([scalar(4), scalar(5)])
    second.finish()
    run = server.runs["resumed"]
    assert (seqs(run), seqs(run, "w0"), run.exitcode) == ([1, 3, 4, 5], [4], 0)
    assert run.config == {"a": 1}

    # The state may be lost; the rows at the server are not.
    third = start("resumed")
    assert third.confirmed == {"w1": 5, "w0": 4}
    third.finish()
    assert seqs(server.runs["resumed"]) == [1, 3, 4, 5]


def test_only_the_end_of_a_long_history_is_read(server, start):
    state: dict = {}
    tracker = start("long", state=state)
    tracker.deliver([scalar(1, writer="w0"), *(scalar(seq) for seq in range(1, 1201))])
    tracker.finish()
    pages = len([name for name, _ in server.operations if name == "HistoryPage"])
    tracker = start("long", state=again(state), resumed=True)
    assert tracker.confirmed == {"w0": 1, "w1": 1200}
    assert len([name for name, _ in server.operations if name == "HistoryPage"]) == pages + 1
    tracker.finish()


def test_what_a_later_writer_sent_and_the_server_never_had_is_sent_again(server, start):
    """Its client was killed with rows in its log: that they were sent once does not mean that they arrived."""
    state: dict = {}
    tracker = start("cut", state=state)
    tracker.deliver([scalar(1, writer="w0"), *(scalar(seq) for seq in range(1, 1201))])
    tracker.finish("interrupted")
    state["sent"]["w2"] = 100
    tracker = start("cut", state=again(state), resumed=True)
    assert tracker.confirmed == {"w0": 1, "w1": 1200}
    tracker.deliver([scalar(seq, writer="w2") for seq in range(1, 101)])
    tracker.finish()
    run = server.runs["cut"]
    assert (seqs(run, "w0"), seqs(run), seqs(run, "w2")) == ([1], list(range(1, 1201)), list(range(1, 101)))


def test_a_run_that_the_server_does_not_know_is_sent_from_the_start(start):
    tracker = start("forgotten", state={"openings": 1, "mode": "online", "sent": {"w1": 7}}, resumed=True)
    assert tracker.confirmed == {}
    tracker.finish()


def test_without_an_answer_the_cursor_is_left_to_tell(server, start):
    state: dict = {}
    start("unsure", state=state).finish()
    server.fail(operation="Run")
    tracker = start("unsure", state=again(state), resumed=True)
    assert tracker.confirmed is None
    server.heal()
    tracker.finish()


def test_an_artifact_that_was_on_its_way_is_sent_again_and_rows_are_not(server, start, tmp_path):
    (tmp_path / "w.bin").write_bytes(b"weights")
    data = {"artifact": {"w.bin": tmp_path / "w.bin"}, "name": "late", "type": "model", "metadata": {}, "aliases": []}
    records = [scalar(1), Record("artifact", 2, "w1", 0.0, data=data), scalar(3)]
    state: dict = {}
    server.stall(operation="CommitArtifact")
    first = start("uploading", state=state)
    first.deliver(records)
    first.flush()
    assert state["uploads"] == [["w1", 2]]
    crashed = again(state)
    server.release()
    first.finish()
    assert state["uploads"] == []

    second = start("uploading", state=crashed, resumed=True)
    assert second.confirmed == {"w1": 1}
    second.deliver(records[1:])
    second.deliver([scalar(4)])
    second.finish()
    assert seqs(server.runs["uploading"]) == [1, 3, 4]
    # Equal content is no new version.
    assert [one.version for one in server.artifacts if one.name == "late" and one.committed] == [0]


# ---- configuration


def configs(server, run_id):
    """What the server was told of the configuration, in order, without what the client adds."""
    sent = [
        v for name, v in server.operations if name == "UpsertBucket" and v.get("name") == run_id and v.get("config")
    ]
    found = [{key: item["value"] for key, item in json.loads(v["config"]).items()} for v in sent]
    return [{key: value for key, value in one.items() if not key.startswith("_")} for one in found]


def test_a_changed_configuration_is_never_set_back(server, start):
    """Opened again, a run is told all of its configuration; what comes once more of it is older."""
    changes = [
        Record("config", 2, "w1", 0.0, data={"a": 2, "n": {"x": 1}}),
        Record("config", 3, "w1", 0.0, data={"a": 3, "n": {"y": [1]}}),
    ]
    state: dict = {}
    first = start("changed", config={"a": 1, "b": 1}, state=state)
    first.deliver([scalar(1), *changes])
    crashed = again(state)
    newest = {"a": 3, "b": 1, "n": {"x": 1, "y": [1]}}
    server.wait_for(lambda: configs(server, "changed")[-1] == newest)
    first.finish("interrupted")

    told = len(configs(server, "changed"))
    # Kept by an earlier version, and older.
    second = start("changed", config=newest, state={**crashed, "config": {"a": 2}}, resumed=True)
    assert server.runs["changed"].config == newest
    second.deliver(changes)
    second.deliver([Record("config", 4, "w1", 0.0, data={"n": {"x": 2}})])
    second.finish()
    assert server.runs["changed"].config == {**newest, "n": {"x": 2, "y": [1]}}
    assert all(one["a"] == 3 for one in configs(server, "changed")[told:])


def test_the_configuration_of_a_resumed_run_is_the_newest(server, start):
    state: dict = {}
    start("newest", config={"a": 1}, state=state).finish("interrupted")
    second = start("newest", config={"a": 2, "n": {"x": 1}}, state=again(state), resumed=True)
    assert server.runs["newest"].config == {"a": 2, "n": {"x": 1}}
    second.finish()
    assert server.runs["newest"].config == {"a": 2, "n": {"x": 1}}


# ---- tables


@pytest.mark.parametrize("run_id", ["t", "t" * 64, "t" * 64 + "-went-back-12"])
@pytest.mark.parametrize("name", ["n" * 99, "n" * 100, "n" * 128, "n" * 1500, "é" * 200, "a/b " * 60, "x" * 40 + "~"])
def test_tables_of_any_name_arrive(server, start, run_id, name):
    run_id = f"{['n' * 99, 'n' * 100, 'n' * 128, 'n' * 1500, 'é' * 200, 'a/b ' * 60].index(name) if name[-1] != '~' else 6}{run_id[1:]}"
    tracker = start(run_id)
    tracker.log_table(name, {"a": [1, 2]}, step=1)
    tracker.log_table(name, {"a": [3]}, step=2)
    tracker.log_table(name + "!", {"a": [4]}, step=2)
    tracker.finish()
    run = server.runs[run_id]
    assert len(run.history) == 3
    keys = [next(key for key in row if not key.startswith("_") and key != "step") for row in run.history]
    assert keys[0] == keys[1] != keys[2]
    names = run.config.get("_tracking", {}).get("names", {})
    assert [names.get(key, key.replace("~7e", "~")) for key in keys] == [name, name, name + "!"]
    rows = [json.loads(run.files[row[key]["path"]])["data"] for row, key in zip(run.history, keys, strict=True)]
    assert rows == [[[1], [2]], [[3]], [[4]]]
    artifacts = [one for one in server.artifacts if one.type == "run_table" and one.run_id == run_id]
    assert len({one.name for one in artifacts}) == 2
    assert sorted(json.loads(next(iter(one.files.values())))["data"] for one in artifacts) == rows
    assert all(len(one.name) <= 128 for one in artifacts)


def test_a_short_name_of_a_table_stays_as_it_is(server, start):
    tracker = start("short")
    for length in (1, 30, 118, 119):
        tracker.log_table("m" * length, {"a": [length]}, step=0)
    tracker.finish()
    keys = [next(key for key in row if key.startswith("m")) for row in server.runs["short"].history]
    assert keys[:3] == ["m", "m" * 30, "m" * 118]
    assert "~z" in keys[3]


def test_nothing_of_a_run_stays_in_the_temporary_directory(server, start, tmp_path, monkeypatch):
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    monkeypatch.delenv("WANDB_DIR")
    (place / "loopback" / "theirs").mkdir(parents=True)
    tracker = start("tidy", project="mine")
    for step in range(3):
        tracker.log_table(f"table{step}", {"a": [step]}, step=step)
        assert sorted(path.name for path in place.iterdir()) == ["loopback"]
    tracker.log_images({"x": Image(np.zeros((2, 2), np.uint8))}, step=0)
    with pytest.raises(Exception, match="unhashable|step|int"):
        tracker.log_table("bad", {"a": [1]}, step="no")
    tracker.finish()
    # What the client makes for a run that it is asked about is gone too; what others made is not.
    assert [path.relative_to(place).as_posix() for path in sorted(place.rglob("*"))] == ["loopback", "loopback/theirs"]
    artifacts = [one for one in server.artifacts if one.run_id == "tidy" and one.committed]
    assert sorted(json.loads(next(iter(one.files.values())))["data"] for one in artifacts) == [[[0]], [[1]], [[2]]]


# ---- secrets


def test_no_secret_stands_in_the_logs_of_the_client(server, start, monkeypatch):
    secret = "Correct-Horse-Battery-9"
    monkeypatch.setenv("MY_SERVICE_TOKEN", secret)
    tracker = start("secrets", config={"a": secret, secret: 1}, notes=secret)
    tracker.log_config({"b": [secret]})
    server.fail(status=400, operation="CreateArtifact")
    tracker.log_artifact({"a": b"a"}, name="a", metadata={"a": secret})
    tracker._uploads.join(10)
    with pytest.raises(tracking.Rejected):
        tracker.flush()
    server.heal()
    tracker.finish()
    folder = Path(tracker.native.dir).parent
    texts = {path.name: path.read_text() for path in (folder / "logs").iterdir()}
    assert "[redacted]" in texts["debug.log"]
    assert not [name for name, text in texts.items() if secret in text or "0123456789" * 4 in text]


def test_no_secret_stands_there_when_a_run_cannot_be_opened(server, start, monkeypatch, caplog):
    monkeypatch.setenv("MY_SERVICE_TOKEN", "a fault of the test")  # so the server answers
    server.fail(status=400)
    with caplog.at_level("DEBUG", logger="wandb"), pytest.raises(tracking.SettingsError):
        start("fault-secret")
    assert "a fault of the test" not in caplog.text


# ---- faults of the server


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (401, tracking.SettingsError, "wandb login"),
        (403, tracking.SettingsError, "wandb login"),
        (404, tracking.SettingsError, "entity, project"),
        (500, tracking.RetryLater, "500"),
        (429, tracking.RetryLater, "429"),
    ],
)
def test_a_server_that_refuses(server, start, status, error, message):
    server.fail(status=status)
    with pytest.raises(error, match=message) as caught:
        start("fault-refused")
    assert "0123456789" not in str(caught.value)


def test_a_server_that_is_back_is_used(server, start, tmp_path):
    """The client keeps the id of a run that it could not open, unless it is told not to."""
    other = start("beside")
    server.fail(status=500)
    with pytest.raises(tracking.RetryLater):
        start("fault-passing")
    assert not list(tmp_path.glob("wandb/*fault-passing*"))
    server.heal()
    tracker = start("fault-passing")
    for one in (tracker, other):
        one.log_scalars({"x": 1}, step=0)
        one.finish()
    assert [len(server.runs[run].history) for run in ("fault-passing", "beside")] == [1, 1]


def test_no_server(online, tmp_path):
    with pytest.raises(tracking.RetryLater, match="could not be opened"):
        open_run(tmp_path, "fault-nowhere", "base_url=http://127.0.0.1:9")


def test_rows_that_the_server_did_not_take_are_missed_and_sent_again(server, start):
    state: dict = {}
    first = start("fault-lost", "finish_timeout=2.5", state=state)
    first.deliver([scalar(seq) for seq in range(1, 4)])
    server.wait_for(lambda: seqs(server.runs["fault-lost"]) == [1, 2, 3])
    server.fail(status=500, on="file_stream")
    first.deliver([scalar(seq) for seq in range(4, 7)])
    # The client itself says nothing of it.
    with pytest.raises(tracking.RetryLater, match=r"3 of 6 rows.*fault-lost"):
        first.finish()
    # What did not arrive is on disk.
    assert [row["_tracking_seq"] for row in read_offline_run(state["dir"]).history] == [1, 2, 3, 4, 5, 6]

    server.heal()
    second = start("fault-lost", state=again(state), resumed=True)
    assert second.confirmed == {"w1": 3}
    second.deliver([scalar(seq) for seq in range(4, 8)])
    second.finish()
    assert seqs(server.runs["fault-lost"]) == [1, 2, 3, 4, 5, 6, 7]


def test_a_stall_holds_up_nobody(server, start):
    tracker = start("stalled")
    server.stall(on="file_stream")
    for step in range(500):
        tracker.log_scalars({"x": step}, step=step)
    tracker.flush()
    server.release()
    tracker.finish()
    assert [row["x"] for row in server.runs["stalled"].history] == list(range(500))


def test_finishing_has_an_end(server, start):
    tracker = start("fault-endless", "finish_timeout=1")
    server.stall(on="file_stream")
    tracker.log_scalars({"x": 1}, step=0)
    for _ in range(2):
        with pytest.raises(tracking.RetryLater, match="within 1 s"):
            tracker.finish()


@pytest.mark.parametrize("fault", [500, 429, 503, "files"])
def test_an_artifact_that_a_short_outage_kept_back_is_sent_by_the_next_opening(server, start, fault):
    run_id = f"outage-{fault}"
    data = {"artifact": {"w.bin": run_id.encode()}, "name": run_id, "type": "model", "metadata": {}, "aliases": []}
    records = [scalar(1), Record("artifact", 2, "w1", 0.0, data=data)]
    state: dict = {}
    tracker = start(f"fault-{run_id}", "finish_timeout=5", state=state)
    faults = {"on": "files"} if fault == "files" else {"status": fault, "operation": "CreateArtifact"}
    server.fail(**faults)
    tracker.deliver(records)
    tracker._uploads.join(20)
    with pytest.raises(tracking.RetryLater, match=rf"(?s)artifact '{run_id}' of the run .* opening the run again"):
        tracker.flush()
    server.heal()
    # It goes on meanwhile, and says at the end that it is not all there.
    tracker.flush()
    tracker.deliver([scalar(3)])
    for _ in range(2):
        with pytest.raises(tracking.RetryLater):
            tracker.finish()
    assert state["uploads"] == [["w1", 2]]

    second = start(f"fault-{run_id}", "finish_timeout=20", state=again(state), resumed=True)
    assert second.confirmed["w1"] <= 1
    second.deliver([*records[second.confirmed["w1"] :], scalar(3)])
    second.finish()
    assert seqs(server.runs[f"fault-{run_id}"]) == [1, 3]
    (artifact,) = [one for one in server.artifacts if one.name == run_id and one.committed]
    assert artifact.files == {"w.bin": run_id.encode()}


@pytest.mark.parametrize("status", [500, 503, 429, 408, 0])
def test_an_outage_while_an_artifact_is_used_is_waited_for(server, start, status):
    tracker = start(f"fault-use-{status}")
    used = Record("use_artifact", 1, "w1", 0.0, data={"artifact": "x:latest"})
    server.fail(status=status) if status else server.refuse()
    with pytest.raises(tracking.BatchInterrupted) as caught:
        tracker.deliver([used])
    if not status:
        server.accept()
    server.heal()
    assert isinstance(caught.value.__cause__, tracking.RetryLater)
    assert not tracker.broken
    with pytest.raises(tracking.BatchInterrupted) as caught:
        tracker.deliver([used])
    # There is none: that is no outage.
    assert isinstance(caught.value.__cause__, tracking.Rejected)
    tracker.finish()


def test_a_missing_file_is_no_outage(server, start, tmp_path):
    tracker = start("fault-missing")
    data = {"artifact": {"w.bin": tmp_path / "gone"}, "name": "gone", "type": "model", "metadata": {}, "aliases": []}
    with pytest.raises(tracking.BatchInterrupted) as caught:
        tracker.deliver([Record("artifact", 1, "w1", 0.0, data=data)])
    assert not isinstance(caught.value.__cause__, tracking.RetryLater)
    tracker.deliver([scalar(2)])
    tracker.finish()
    assert seqs(server.runs["fault-missing"]) == [2]


def test_an_artifact_that_cannot_be_stored_is_told_once(server, start):
    state: dict = {}
    tracker = start("fault-artifact", state=state)
    server.fail(status=400, operation="CreateArtifact")
    data = {"artifact": {"a": b"a"}, "name": "unwelcome", "type": "file", "metadata": {}, "aliases": []}
    tracker.deliver([Record("artifact", 1, "w1", 0.0, data=data)])
    tracker._uploads.join(10)
    with pytest.raises(tracking.Rejected, match="unwelcome"):
        tracker.flush()
    # It is not on its way any more: opening the run again does not send it again.
    assert state["uploads"] == []
    server.heal()
    tracker.flush()
    tracker.finish()


# ---- faults of the client

_CORE = """
import json, os, signal, sys, time
from pathlib import Path
import tracking_core as tracking
from tests.support.wandb_adapter import open_run, scalar
from tracking_wandb import ending

def core():
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"wandb-core" in (process / "cmdline").read_bytes():
                return int(process.name)
        except OSError:
            pass

def attempt(call):
    started = time.monotonic()
    try:
        call()
        kind = "nothing"
    except tracking.BatchInterrupted as error:
        kind = type(error.__cause__).__name__
    except BaseException as error:
        kind = type(error).__name__ + ": " + str(error)
    told.append([kind, time.monotonic() - started])

told = []
place, url = Path(sys.argv[1]), sys.argv[2]
state = {}
tracker = open_run(place, "core", f"base_url={url}&finish_timeout=1", state=state)
tracker.deliver([scalar(1), scalar(2)])
"""

_KILLED = """
tracker.flush()
os.kill(core(), signal.SIGKILL)
attempt(lambda: [(tracker.deliver([scalar(3)]), time.sleep(0.05)) for _ in range(100)])
attempt(lambda: tracker.log_config({"a": 1}))
attempt(lambda: tracker.finish())
told.append(tracker.broken)
tracker = open_run(place, "core", f"base_url={url}", state=json.loads(json.dumps(state)), resumed=True)
done = (tracker.confirmed or {}).get("w1", 0)
tracker.deliver([scalar(seq) for seq in range(done + 1, 4)])
tracker.finish()
print(json.dumps(told))
"""

_STOPPED = """
ending._GRACE = 0.5
stopped = core()
os.kill(stopped, signal.SIGSTOP)
attempt(lambda: tracker.finish())
print(json.dumps(told), flush=True)
os.kill(stopped, signal.SIGKILL)
os._exit(0)
"""


def _script(online, tmp_path, text):
    done = subprocess.run(
        [sys.executable, "-c", _CORE + text, str(tmp_path), online.server.url],
        cwd=REPO, env={**os.environ, **online.env}, timeout=60, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_killed_core_is_told_and_outlived(online, server, tmp_path):
    *told, broken = _script(online, tmp_path, _KILLED)
    assert [kind.partition(":")[0] for kind, _ in told] == ["RetryLater"] * 3
    assert all("wandb-core" in kind for kind, _ in told[1:])
    assert broken
    run = server.runs["core"]
    assert (seqs(run), run.exitcode) == ([1, 2, 3], 0)


def test_a_core_that_hangs_does_not_hang_us(online, tmp_path):
    ((kind, seconds),) = _script(online, tmp_path, _STOPPED)
    assert kind.startswith("RetryLater: wandb: finishing the run 'core' did not end within")
    assert seconds < 20


# ---- diagnosis


def diagnose(target):
    return [(finding.level, finding.message) for finding in find_adapter("wandb").diagnose(parse_target(target))]


def test_what_the_client_raises_is_sorted():
    """By what it says, whatever type it is: the client wraps what it is told."""
    from tracking_wandb.failures import call_error, opening_error

    comm = type("CommError", (Exception,), {"__module__": "wandb.errors"})
    auth = type("AuthenticationError", (comm,), {"__module__": "wandb.errors"})
    passing = [
        comm("HTTP 500: x"), comm("returned error 503: x"), comm("HTTP 429"), comm("HTTP 408"), comm("giving up after 2"),
        comm("dial tcp: connect: connection refused"), comm("lookup x: no such host"), TimeoutError(), BrokenPipeError(),
        OSError(28, "No space left on device"), OSError(116, "Stale file handle"), OSError(113, "No route to host"),
        auth("Failed to verify credentials with http://x: HTTP 502"), auth("credentials: connection reset by peer"),
    ]  # fmt: skip
    for error in passing:
        assert isinstance(call_error(error, "r"), tracking.RetryLater), error
        assert isinstance(opening_error(error, "r"), tracking.RetryLater), error
    for error in (comm("HTTP 400: x"), comm("returned error 403: x"), comm("HTTP 404")):
        assert isinstance(call_error(error, "r"), tracking.Rejected), error
        assert isinstance(opening_error(error, "r"), tracking.SettingsError), error
    assert isinstance(opening_error(auth("the key is wrong"), "r"), tracking.SettingsError)
    for error in (
        FileNotFoundError(2, "x"),
        PermissionError(13, "x"),
        ValueError("timed out"),
        tracking.InvalidValueError("connection"),
    ):
        assert call_error(error, "r") is error


def test_diagnosis(server, tmp_path, monkeypatch):
    target = f"wandb://?mode=online&base_url={server.url}"
    findings = diagnose(target)
    assert {level for level, _ in findings} == {"ok"}
    text = "\n".join(message for _, message in findings)
    for expected in ("wandb 0.", "mode online (from the target)", "is in WANDB_API_KEY", "logged in", "loopback"):
        assert expected in text
    assert "0123456789" not in text

    server.fail(status=401)
    assert ("error", f"{server.url} does not accept the API key: HTTP 401") in diagnose(target)
    server.heal()
    monkeypatch.delenv("WANDB_API_KEY")
    assert ("error", f"there is no API key for {server.url}") in diagnose(target)
    host = server.url.removeprefix("http://")
    Path(os.environ["NETRC"]).write_text(f"machine {host}\n  login user\n  password {'0123456789' * 4}\n")
    assert any("netrc" in message and level == "ok" for level, message in diagnose(target))
    Path(os.environ["NETRC"]).unlink()

    (level, message) = diagnose("wandb://?base_url=http://127.0.0.1:9")[-1]
    assert level == "error"
    assert "cannot be reached" in message
    assert diagnose("wandb://?mode=x")[0][0] == "error"
    offline = diagnose(f"wandb://?mode=offline&dir={tmp_path / 'new' / 'place'}")
    assert {level for level, _ in offline} == {"ok"}
    assert not (tmp_path / "new").exists()


def test_the_client_asked_only_for_what_is_known(online):
    """Last, so that it speaks for all: the stand-in answered everything the client wanted."""
    tracker = open_run(Path(online.env["WANDB_DIR"]), "known", f"base_url={online.server.url}")
    tracker.log_images({"x": Image(np.zeros((2, 2), np.uint8))}, step=0)
    tracker.finish()
    assert online.server.unknown == []


@pytest.mark.parametrize("delivery", ["process", "thread", "inline"])
def test_the_address_of_a_run_is_known_with_every_delivery_and_stays(server, tmp_path, monkeypatch, capsys, delivery):
    monkeypatch.setenv("TRACKING_CONSOLE", "on")
    backends = f"wandb://stub/moons?base_url={server.url}&finish_timeout=20"
    with tracking.start_run("p", root=tmp_path / "runs", backends=backends, delivery=delivery) as run:
        run.log_scalars({"val/loss": 1.0}, step=0)
        run.flush()
        # Before anything was said by the deliverer on its own.
        address = run.url()
    assert address == run.url("wandb") and address.startswith(server.url) and address.endswith(run.id)
    assert run.url("tensorboard") is None
    # What the file in the run directory says, which anybody can read.
    [cursor] = run.dir.glob("cursors/wandb-*.json")
    assert json.loads(cursor.read_text())["url"] == address == run.url()
    [target] = tracking.open_store(tmp_path / "runs").run(run.id).deliveries()
    assert target.url == address
    assert f"  {address}\n" in capsys.readouterr().err
    from tests.support.commands import as_json
    from tests.support.commands import tracking as command

    assert as_json("show", run.id, "--root", str(tmp_path / "runs"), cwd=tmp_path)["targets"][0]["url"] == address
    assert address in command("show", run.id, "--root", str(tmp_path / "runs"), cwd=tmp_path)[0]
