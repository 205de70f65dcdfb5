"""The stand-in for the W&B server, asked by the real client: what it keeps, what it gives back, and its faults."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.support import wandb_server
from tests.support.wandb_client import lean_settings, wandb_client
from tests.support.wandb_server import WandbServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

pytestmark = pytest.mark.system

PIXELS = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3) * 4


@dataclass(frozen=True)
class Shared:
    """One server and one client for the whole module, and the client's environment."""

    server: WandbServer
    wandb: ModuleType
    env: dict[str, str]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with WandbServer() as server:
        env = server.env(tmp_path_factory.mktemp("wandb_online"))
        with wandb_client(env) as wandb:
            yield Shared(server, wandb, env)
        assert server.unknown == []


@pytest.fixture
def server(shared: Shared) -> Iterator[WandbServer]:
    yield shared.server
    shared.server.heal()


@pytest.fixture
def wandb(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    # Each test begins without variables from outside, and so without those of the module's client.
    for name, value in shared.env.items():
        monkeypatch.setenv(name, value)
    return shared.wandb


def _init(wandb: ModuleType, run_id: str, settings: dict[str, Any] | None = None, **more: Any) -> Any:
    return wandb.init(
        project="proj", id=run_id, reinit="create_new", settings=lean_settings(**(settings or {})), **more
    )


def _logged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without what the client adds."""
    return [{key: value for key, value in row.items() if not key.startswith("_")} for row in rows]


# ---- what it keeps


@pytest.fixture(scope="module")
def rich(shared: Shared) -> Any:
    server, wandb = shared.server, shared.wandb
    settings = {
        "console": "wrap",
        "x_disable_machine_info": False,
        "host": "some-host",
        "program": "train.py",
        "git_commit": "c0ffee",
        "git_remote_url": "https://example.invalid/repo.git",
    }
    run = _init(
        wandb, "rich", settings, entity="team", name="first", config={"lr": 0.5, "net": {"a.b": [1, {"k": None}]}},
        tags=["t1"], notes="notes", group="grp", job_type="train",
    )  # fmt: skip
    run.define_metric("epoch", hidden=True)
    run.define_metric("val", step_metric="epoch", summary="min")
    run.log({"epoch": 2, "val": 1.5, "_timestamp": 1000.25})
    run.log({"epoch": 1, "val": 2.5, "bad": math.nan, "inf": -math.inf, "n": {"x.y": 1}})
    run.log({"img": wandb.Image(PIXELS, caption="one"), "h": wandb.Histogram(np_histogram=([1, 2], [0.0, 1.0, 2.0]))})
    run.config.update({"lr": 0.25, "late": True}, allow_val_change=True)
    run.summary["score"] = {"deep": 1}
    run.alert("title", "text", level="ERROR", wait_duration=3)
    run.tags = (*run.tags, "t2")
    run.name = "second"
    run.write_logs("a line")
    run.finish(exit_code=3)
    return server.runs["rich"]


def test_identity(rich: Any):
    assert (rich.id, rich.name, rich.entity, rich.project) == ("rich", "rich", "team", "proj")
    assert (rich.display_name, rich.notes, rich.tags) == ("second", "notes", ["t1", "t2"])
    assert (rich.group, rich.job_type, rich.host, rich.program) == ("grp", "train", "some-host", "train.py")
    assert rich.git == {"remote": "https://example.invalid/repo.git", "commit": "c0ffee"}


def test_config_summary_and_metrics(rich: Any):
    assert rich.config == {"lr": 0.25, "late": True, "net": {"a.b": [1, {"k": None}]}}
    assert rich.summary["val"] == {"min": 1.5}
    assert rich.summary["score"] == {"deep": 1}
    assert "_wandb" not in rich.summary
    nothing = {"name": None, "glob": None, "step_metric": None, "step_sync": False, "hidden": False, "summary": ()}
    assert rich.metrics == [
        {**nothing, "name": "epoch", "hidden": True},
        {**nothing, "name": "val", "step_metric": "epoch", "step_sync": True, "summary": ("min",)},
    ]


def test_history(rich: Any):
    rows = _logged(rich.history)
    assert [row["_step"] for row in rich.history] == [0, 1, 2]
    assert rich.history[0]["_timestamp"] == 1000.25
    assert rows[0] == {"epoch": 2, "val": 1.5}
    assert math.isnan(rows[1].pop("bad"))
    assert rows[1] == {"epoch": 1, "val": 2.5, "inf": -math.inf, "n": {"x.y": 1}}
    assert rows[2]["h"] == {"_type": "histogram", "values": [1, 2], "bins": [0, 1, 2]}


def test_image_bytes(rich: Any, tmp_path: Path):
    cell = rich.history[2]["img"]
    assert (cell["_type"], cell["caption"]) == ("image-file", "one")
    assert cell["path"] in rich.uploaded
    (tmp_path / "x.png").write_bytes(rich.files[cell["path"]])
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "x.png")), PIXELS)


def test_end_console_and_alert(rich: Any):
    assert (rich.complete, rich.exitcode, rich.state) == (True, 3, "failed")
    assert any(line.endswith("a line") for line in rich.console)
    (alert,) = rich.alerts
    assert (alert.title, alert.text, alert.severity) == ("title", "text", "ERROR")


def test_system_metrics(server: WandbServer, wandb: ModuleType):
    run = _init(
        wandb, "system", {"x_disable_stats": False, "x_disable_machine_info": False, "x_stats_sampling_interval": 1}
    )
    server.wait_for(lambda: server.runs["system"].events)
    assert server.runs["system"].state == "running"
    run.mark_preempting()
    run.finish()
    assert any(key.startswith("system.") for key in server.runs["system"].events[0])
    assert server.runs["system"].preempting
    assert server.runs["system"].state == "finished"


# ---- going on with a run


def test_resume_continues_after_the_last_row(server: WandbServer, wandb: ModuleType):
    run = _init(wandb, "again", config={"a": 1, "b": 1})
    for value in (1.0, 2.0):
        run.log({"loss": value})
    run.finish(exit_code=1)
    assert server.runs["again"].state == "failed"

    run = _init(wandb, "again", resume="must", config={"b": 2})
    assert run.resumed
    assert run.starting_step == 2
    assert server.runs["again"].state == "running"
    assert dict(run.summary)["loss"] == 2
    run.log({"loss": 3.0})
    run.finish()

    kept = server.runs["again"]
    assert [(row["_step"], row["loss"]) for row in kept.history] == [(0, 1), (1, 2), (2, 3)]
    assert (kept.retransmitted, kept.state, kept.config) == (0, "finished", {"a": 1, "b": 2})


def test_resume_allow_begins_a_new_run(server: WandbServer, wandb: ModuleType):
    run = _init(wandb, "fresh", resume="allow")
    assert not run.resumed
    run.finish()
    assert server.runs["fresh"].state == "finished"


def test_resume_must_and_never(server: WandbServer, wandb: ModuleType):
    with pytest.raises(wandb.errors.UsageError, match="does not exist"):
        _init(wandb, "nobody", resume="must")
    _init(wandb, "taken").finish()
    with pytest.raises(wandb.errors.UsageError, match="already exists"):
        _init(wandb, "taken", resume="never")
    assert "nobody" not in server.runs


# ---- artifacts


def _artifact(wandb: ModuleType, content: str, name: str = "weights") -> Any:
    artifact = wandb.Artifact(name, type="model", description="the weights", metadata={"n": {"k": [1]}})
    with artifact.new_file("dir/w.txt") as file:
        file.write(content)
    with artifact.new_file("same é #1?.txt") as file:
        file.write("same")
    return artifact


def test_artifacts_have_versions_and_aliases(server: WandbServer, wandb: ModuleType, tmp_path: Path):
    run = _init(wandb, "producer")
    first = run.log_artifact(_artifact(wandb, "one"), aliases=["best"], tags=["fine"]).wait()
    second = run.log_artifact(_artifact(wandb, "two")).wait()
    again = run.log_artifact(_artifact(wandb, "one"), aliases=["prod"]).wait()
    run.finish()
    assert (first.version, second.version, again.version) == ("v0", "v1", "v0")

    v0, v1 = server.runs["producer"].artifacts
    assert (v0.name, v0.type, v0.version, v0.run_id, v0.tags) == ("weights", "model", 0, "producer", ["fine"])
    assert (v0.description, v0.metadata) == ("the weights", {"n": {"k": [1]}})
    assert v0.files == {"dir/w.txt": b"one", "same é #1?.txt": b"same"}
    assert v1.files["dir/w.txt"] == b"two"
    assert (v1.version, v1.committed, sorted(v1.manifest["contents"])) == (1, True, ["dir/w.txt", "same é #1?.txt"])
    # Logging equal content again moved the aliases, as the real server does.
    assert (v0.aliases, v1.aliases) == (["best", "latest", "prod"], [])
    assert [v0, v1] == [artifact for artifact in server.artifacts if artifact.run_id == "producer"]

    run = _init(wandb, "consumer")
    used = run.use_artifact("weights:v1")
    folder = used.download(str(tmp_path / "all"))
    run.finish()
    assert (tmp_path / "all" / "dir" / "w.txt").read_text() == "two"
    assert folder == str(tmp_path / "all")
    assert used.get_entry("same é #1?.txt").download(str(tmp_path / "one")) == str(tmp_path / "one" / "same é #1?.txt")
    assert server.runs["consumer"].used_artifacts == [v1]


def test_an_artifact_keeps_its_type(server: WandbServer, wandb: ModuleType):
    run = _init(wandb, "typed")
    run.log_artifact(wandb.Artifact("typed", type="model")).wait()
    with pytest.raises(ValueError, match="already exists with type 'model'"):
        run.log_artifact(wandb.Artifact("typed", type="dataset"))
    run.finish()


# ---- reading back with the public API


def test_public_api_reads_the_run(server: WandbServer, wandb: ModuleType, tmp_path: Path):
    run = _init(wandb, "read", config={"lr": 0.5}, tags=["t"])
    for index in range(3):
        run.log({"loss": 1 / (index + 1), **({"odd": math.inf} if index == 1 else {})})
    run.log_artifact(_artifact(wandb, "read", name="read-weights")).wait()
    run.finish()

    public = wandb.Api(timeout=20).run("loopback/proj/read")
    assert (public.state, public.config, public.tags) == ("finished", {"lr": 0.5}, ["t"])
    assert public.summary["loss"] == 1 / 3
    expected = [{"loss": 1}, {"loss": 0.5, "odd": math.inf}, {"loss": 1 / 3}]
    assert _logged(public.history(pandas=False)) == expected
    assert _logged(list(public.scan_history())) == expected
    assert list(public.scan_history(keys=["_step", "loss"], min_step=1)) == [
        {"_step": 1, "loss": 0.5},
        {"_step": 2, "loss": 1 / 3},
    ]
    # Asked for single keys, the server samples, and answers in strict JSON.
    assert public.history(keys=["odd"], pandas=False) == [{"_step": 1, "odd": "Infinity"}]
    assert [artifact.type for artifact in public.logged_artifacts()] == ["model"]
    with public.file("config.yaml").download(str(tmp_path)) as file:
        assert "lr:" in file.read()
    assert "read" in [found.id for found in wandb.Api().runs("loopback/proj")]


# ---- faults


def test_error_500_at_the_start(server: WandbServer, wandb: ModuleType):
    server.fail(status=500)
    with pytest.raises(wandb.errors.Error, match="HTTP 500"):
        _init(wandb, "broken")
    assert server.hits >= 2
    assert "broken" not in server.runs


def test_error_401_at_the_start(server: WandbServer, wandb: ModuleType):
    server.fail(status=401, operation="UpsertBucket")
    with pytest.raises(wandb.errors.CommError):
        _init(wandb, "locked")
    assert "locked" not in server.runs


def test_one_error_is_got_over(server: WandbServer, wandb: ModuleType):
    server.fail(status=500, times=1)
    run = _init(wandb, "once")
    run.log({"a": 1})
    run.finish()
    assert _logged(server.runs["once"].history) == [{"a": 1}]


def test_a_lost_answer_does_not_double_rows(server: WandbServer, wandb: ModuleType):
    run = _init(wandb, "lost")
    run.log({"a": 1})
    server.wait_for(lambda: server.runs["lost"].history)
    server.fail(status=500, on="file_stream", times=1, applied=True)
    for value in (2, 3):
        run.log({"a": value})
    run.finish()
    kept = server.runs["lost"]
    assert _logged(kept.history) == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert kept.retransmitted > 0
    assert kept.complete


def test_a_broken_file_stream_loses_rows_and_raises_nothing(server: WandbServer, wandb: ModuleType):
    run = _init(wandb, "deaf")
    server.fail(status=500, on="file_stream")
    run.log({"a": 1})
    run.finish()
    kept = server.runs["deaf"]
    assert (kept.history, kept.complete, kept.state) == ([], False, "running")


def test_broken_uploads(server: WandbServer, wandb: ModuleType):
    server.fail(status=500, on="files")
    run = _init(wandb, "no-files")
    run.log({"img": wandb.Image(PIXELS)})
    run.finish()
    kept = server.runs["no-files"]
    assert (kept.files, kept.uploaded, kept.complete) == ({}, [], True)


def test_a_stalled_start_goes_on_after_release(server: WandbServer, wandb: ModuleType):
    before = server.hits
    server.stall(on="graphql", operation="UpsertBucket")
    opened: list[Any] = []
    opening = threading.Thread(target=lambda: opened.append(_init(wandb, "slow")))
    opening.start()
    server.wait_for(lambda: server.hits > before)
    assert (opened, "slow" in server.runs) == ([], False)
    server.release()
    opening.join(20)
    (run,) = opened
    run.finish()
    assert server.runs["slow"].complete


def test_a_stalled_file_stream_holds_rows_back(server: WandbServer, wandb: ModuleType):
    run = _init(wandb, "held")
    before = server.hits
    server.stall(on="file_stream")
    run.log({"a": 1})
    server.wait_for(lambda: server.hits > before)
    assert server.runs["held"].history == []
    server.release()
    run.finish()
    assert _logged(server.runs["held"].history) == [{"a": 1}]


def test_refused_connections(server: WandbServer, wandb: ModuleType):
    run = _init(wandb, "cut")
    server.refuse()
    with pytest.raises(urllib.error.URLError, match="refused"):
        _post(server, "/graphql", {"query": "query Viewer { viewer }"})
    run.log({"a": 1})
    server.accept()
    run.finish()
    assert _logged(server.runs["cut"].history) == [{"a": 1}]


# ---- the server itself


def _post(server: WandbServer, path: str, body: Any) -> Any:
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=20) as response:
        return json.load(response)


def test_unknown_operations_are_answered_and_recorded():
    with WandbServer() as server:
        assert _post(server, "/graphql", {"query": "mutation Frobnicate { x }", "variables": {"a": 1}}) == {"data": {}}
        with pytest.raises(urllib.error.HTTPError):
            _post(server, "/nowhere", {})
    assert server.unknown == ["Frobnicate", "POST /nowhere"]
    assert server.operations == [("Frobnicate", {"a": 1})]


def test_a_mistake_of_the_server_is_raised_at_its_end():
    server = WandbServer()
    with pytest.raises(KeyError, match="run"), server, pytest.raises(urllib.error.HTTPError, match="500"):
        _post(server, "/graphql", {"query": "mutation CreateRunFiles { x }"})


def test_stop_ends_stalled_requests_and_all_threads():
    before = set(threading.enumerate())
    server = WandbServer().start()
    server.stall(on="graphql")

    def ask() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            _post(server, "/graphql", {"query": "query Viewer { x }"})

    client = threading.Thread(target=ask)
    client.start()
    server.wait_for(lambda: server.hits)
    server.stop()
    client.join(20)
    assert not client.is_alive()
    assert set(threading.enumerate()) <= before


def test_stop_ends_idle_connections():
    before = set(threading.enumerate())
    server = WandbServer().start()
    client = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]), timeout=20)
    client.request("POST", "/graphql", b'{"query": "query Viewer { x }"}')
    assert client.getresponse().read()
    server.stop()
    assert set(threading.enumerate()) <= before
    client.close()


def test_a_stall_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wandb_server, "MAX_STALL", 0.1)
    with WandbServer("me") as server:
        server.stall()
        assert _post(server, "/graphql", {"query": "query Viewer { x }"})["data"]["viewer"]["entity"] == "me"


def test_wait_for_is_woken_and_gives_the_value():
    with WandbServer() as server:
        later = threading.Timer(0.2, _post, (server, "/graphql", {"query": "query Viewer { x }"}))
        later.start()
        assert server.wait_for(lambda: server.operations[0][0], timeout=60) == "Viewer"
        later.join(60)


def test_wait_for_says_what_it_saw():
    with WandbServer() as server:
        _post(server, "/graphql", {"query": "mutation UpsertBucket { x }", "variables": {"name": "r"}})
        with pytest.raises(TimeoutError, match=r"\('running', 0\).*UpsertBucket"):
            server.wait_for(lambda: server.runs["r"].complete or server.runs["missing"], timeout=0.05)
