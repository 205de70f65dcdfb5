"""Runs: what is recorded, what is refused, and how they end. Read back from the files by json alone."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import threading
from pathlib import Path

import jax
import numpy as np
import pytest

import tracking_core as tracking
from tests.support.programs import journal_events, only_run, scalar_rows
from tests.support.programs import run as run_code


def started(**keywords):
    keywords.setdefault("root", "runs")
    return tracking.start_run("digits", **keywords)


def facts(run):
    return json.loads((run.dir / "run.json").read_text())


def test_a_run_records_what_it_is_told():
    with started(name="first", tags=["a", "b"], group="g", job_type="train", notes="why", config={"lr": 0.1}) as run:
        run.log_scalars({"loss": 1.5, "nested": {"a": 2}}, step=3)
        run.log_scalars({"val": 0.25}, step=1, step_axis="epoch", wall_time=12.5)
    stored = facts(run)
    assert {k: stored[k] for k in ("id", "name", "project", "tags", "group", "job_type", "notes", "config")} == {
        "id": run.id,
        "name": "first",
        "project": "digits",
        "tags": ["a", "b"],
        "group": "g",
        "job_type": "train",
        "notes": "why",
        "config": {"lr": 0.1},
    }
    assert scalar_rows(run.dir) == [("loss", "step", 3, 1.5), ("nested/a", "step", 3, 2.0), ("val", "epoch", 1, 0.25)]
    times = [event["t"] for event in journal_events(run.dir) if event["kind"] == "scalars"]
    assert times[1] == 12.5
    assert run.dir == Path("runs").absolute() / "digits" / run.id


def test_names_are_made_up_and_differ():
    with started() as one, started() as two:
        assert one.name != two.name
        assert one.id != two.id
        assert one.name.count("-") == 2


@dataclasses.dataclass
class Optimizer:
    name: str = "adam"
    betas: tuple = (0.9, 0.999)


@pytest.mark.parametrize(
    ("config", "plain"),
    [
        ({"a": {"b": np.float32(0.5)}}, {"a": {"b": 0.5}}),
        (Optimizer(), {"name": "adam", "betas": [0.9, 0.999]}),
        (argparse.Namespace(lr=0.1, path=Path("x")), {"lr": 0.1, "path": "x"}),
    ],
)
def test_config_is_stored_as_plain_json(config, plain):
    with started(config=config) as run:
        assert dict(run.config) == plain
    assert facts(run)["config"] == plain


def test_config_of_pydantic_and_config_dict():
    pydantic = pytest.importorskip("pydantic")
    ml_collections = pytest.importorskip("ml_collections")

    class Model(pydantic.BaseModel):
        depth: int = 3

    with started(config={"model": Model(), "data": ml_collections.ConfigDict({"batch": 8})}) as run:
        pass
    assert facts(run)["config"] == {"model": {"depth": 3}, "data": {"batch": 8}}


def test_config_changes_are_events_and_run_json_stays():
    with started(config={"a": {"x": 1, "y": 2}}) as run:
        before = (run.dir / "run.json").read_bytes()
        run.log_config({"a": {"y": 3}, "b": math.inf})
        assert dict(run.config) == {"a": {"x": 1, "y": 3}, "b": math.inf}
    assert (run.dir / "run.json").read_bytes() == before
    assert tracking.open_store("runs").run(run.id).config == {"a": {"x": 1, "y": 3}, "b": math.inf}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "finished"),
        (ValueError("broken"), "failed"),
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(0), "finished"),
        (SystemExit(2), "failed"),
        (SystemExit(143), "preempted"),
    ],
)
def test_the_status_tells_how_the_body_ended(error, status):
    def body():
        with started() as run:
            kept.append(run)
            if error is not None:
                raise error

    kept = []
    if error is None:
        body()
    else:
        with pytest.raises(type(error)):
            body()
    (run,) = kept
    end = journal_events(run.dir)[-1]
    assert (end["kind"], end["status"]) == ("finish", status)
    assert run.status == tracking.open_store("runs").run(run.id).status == status
    if status == "failed" and isinstance(error, ValueError):
        assert "ValueError: broken" in end["error"]


def test_finish_takes_only_known_statuses_and_repeats_its_report():
    run = started()
    with pytest.raises(tracking.SettingsError, match="finished, failed, interrupted, preempted"):
        run.finish("done")
    first = run.finish("preempted")
    assert first.ok
    assert run.finish() is first
    assert [e["status"] for e in journal_events(run.dir) if e["kind"] == "finish"] == ["preempted"]


def test_what_cannot_be_recorded_is_counted_and_the_rest_is_kept(troubles):
    with started() as run:
        run.log_scalars({"good": 1.0, "bad": "text", "many": np.zeros(3)}, step=0)
        run.log_scalars({"good": 2.0}, step="one")
        run.log_images({"image": np.zeros((3, 32, 32)), "fine": np.zeros((2, 2))}, step=1)
        run.log_histogram("h", "nothing", step=1)
        run.log_artifact("no/such/file")
        run.log({"good": 3.0, 7: 1.0})
    assert [row for row in scalar_rows(run.dir) if row[0] == "good"] == [
        ("good", "step", 0, 1.0),
        ("good", "step", 2, 3.0),
    ]
    images = [event["images"] for event in journal_events(run.dir) if event["kind"] == "images"]
    assert [list(entry) for entry in images] == [["fine"]]
    assert run.health.dropped == {"invalid": 7}
    assert run.finish()["local"].dropped == 7
    assert not run.finish().ok
    said = " ".join(message for _, message, _ in troubles)
    assert "log_text" in said
    assert "transpose(1, 2, 0)" in said


def test_each_kind_of_mistake_in_a_call_is_warned_about_once(caplog, troubles):
    mistakes = [
        lambda run, n: run.log_scalars(3.0 + n),
        lambda run, n: run.log_scalars({"a": 1.0}, step=n + 1.5),
        lambda run, n: run.log_scalars({"a": 1.0}, step="abc"[n]),
        lambda run, n: run.log_scalars({"a": 1.0}, step=2**63 + n),
        lambda run, n: run.log_scalars({"a": 1.0}, step=0, step_axis=n),
        lambda run, n: run.log_scalars({"a": 1.0}, step=0, wall_time=1e300 + n),
        lambda run, n: run.log_histogram("w", [[1.0], "a"], step=n),
        lambda run, n: run.log_histogram("w", [1.0], step=n, bins=0),
        lambda run, n: run.log_histogram("w", [1.0], step=0.5 + n),
        lambda run, n: run.log_images([n]),
        lambda run, n: run.log_images({"x": np.zeros((2, 2))}, step=n + 1.5),
        lambda run, n: run.log(n),
        lambda run, n: run.log({"a": 1}, step=n + 1.5),
    ]
    with started() as run:
        for number in range(3):
            for mistake in mistakes:
                mistake(run, number)
    warned = [record.message for record in caplog.records if "not recorded: " in record.message]
    assert len(warned) == len(mistakes) + 1, "the end counts them"
    assert not [message for message in warned if "as before" in message]
    assert run.health.dropped == {"invalid": 3 * len(mistakes)}
    troubles.clear()


def test_traced_values_in_config_and_summary_are_left_out_by_key(troubles):
    with started() as run:
        jax.jit(lambda x: run.log_summary({"best": x, "deep": {"x": x, "y": 2}, "fine": 1}))(1.0)
        jax.jit(lambda x: run.log_config({"lr": x, "width": 3}))(1.0)
        run.log_artifact({"a": b"x"}, name="a", metadata={"n": 1})
    events = {event["kind"]: event for event in journal_events(run.dir)}
    assert events["summary"]["summary"] == {"deep": {"y": 2}, "fine": 1}
    assert (events["config"]["config"], run.config) == ({"width": 3}, {"width": 3})
    said = [message for reason, message, _ in troubles if reason == "invalid"]
    assert len(said) == 3
    for message, name in zip(said, ("best", "deep", "lr"), strict=True):
        assert name in message
        assert "the log call is inside jit; return the value from the jitted function, and log that" in message
    for call in (run.log_summary, run.log_config):
        with started(strict=True) as run, pytest.raises(tracking.InvalidValueError, match="inside jit"):
            jax.jit(lambda x: getattr(run, call.__name__)({"a": x}))(1.0)
    with pytest.raises(tracking.InvalidValueError, match="inside jit"):
        jax.jit(lambda x: started(config={"a": x}))(1.0)


@pytest.mark.system
def test_a_subinterpreter_is_told_where_runs_are_started(tmp_path):
    code = (
        "try: import _interpreters as interpreters\n"
        "except ImportError: import _xxsubinterpreters as interpreters\n"
        "inside = '''\n"
        "import sys, tracking_core\n"
        "try: tracking_core.start_run(root='runs')\n"
        "except tracking_core.SettingsError as error: print(error)\n"
        "print('numpy' in sys.modules)\n"
        "'''\n"
        "interpreters.run_string(interpreters.create(), inside)\n"
        "import tracking_core\n"
        "tracking_core.start_run(root='runs', backends='local').finish()\n"
    )
    out, _ = run_code(code, tmp_path)
    said, numpy = out.splitlines()
    assert said.startswith("start_run: this is a subinterpreter")
    assert "main interpreter" in said
    assert numpy == "False"


def test_strict_raises_what_is_otherwise_counted():
    with started(strict=True) as run:
        with pytest.raises(tracking.InvalidValueError, match="'bad'"):
            run.log_scalars({"bad": None}, step=0)
        with pytest.raises(tracking.InvalidValueError):
            run.log_config(object())
    with pytest.raises(tracking.TrackingError, match=r"after finish"):
        run.log_scalars({"late": 1.0}, step=1)


def test_logging_after_finish_is_counted(troubles):
    run = started()
    run.finish()
    run.log_scalars({"late": 1.0}, step=0)
    run.log_summary({"late": 1.0})
    assert run.health.dropped == {"finished": 2}
    assert [reason for reason, _, _ in troubles] == ["finished", "finished"]
    assert scalar_rows(run.dir) == []


def test_step_none_is_the_next_on_its_axis():
    with started() as run:
        run.log_scalars({"a": 0.0}, step=10)
        run.log_scalars({"a": 1.0}, step=4)
        run.log({"a": 2.0})
        run.log({"a": 3.0}, step=20)
        run.log({"a": 4.0})
        run.log({"b": 5.0}, step_axis="epoch")
        run.log({"b": 6.0}, step_axis="epoch")
    assert [row[1:3] for row in scalar_rows(run.dir)] == [
        ("step", 10),
        ("step", 4),
        ("step", 11),
        ("step", 20),
        ("step", 21),
        ("epoch", 0),
        ("epoch", 1),
    ]


def test_log_takes_a_mixture():
    with started() as run:
        run.log(
            {
                "loss": 0.5,
                "words": "some text",
                "image": np.zeros((4, 4), np.uint8),
                "weights": np.linspace(0.0, 1.0, 100).reshape(10, 10),
                "table": tracking.Table(["a"], [[1]]),
            },
            step=7,
        )
    kinds = sorted(e["kind"] for e in journal_events(run.dir) if e.get("step") == 7)
    assert kinds == ["histogram", "images", "scalars", "table", "text"]


def test_scope_and_every():
    with started() as run:
        train = run.scope("train").scope("loss")
        train.log_scalars({"kl": 1.0}, step=0)
        train.log_histogram("z", [1.0, 2.0], step=0)
        sometimes = run.every(10)
        for step in range(25):
            sometimes.log_scalars({"slow": 1.0}, step=step)
    assert scalar_rows(run.dir)[0][0] == "train/loss/kl"
    assert [row[2] for row in scalar_rows(run.dir) if row[0] == "slow"] == [0, 10, 20]
    assert [e["name"] for e in journal_events(run.dir) if e["kind"] == "histogram"] == ["train/loss/z"]


def test_current_run_is_the_newest_open_one():
    assert tracking.current_run() is None
    with started() as outer:
        with started() as inner:
            assert tracking.current_run() is inner
        assert tracking.current_run() is outer
    assert tracking.current_run() is None


def test_current_run_of_threads_and_tasks():
    """Each has its own, where it has one; otherwise the last of the process that is open."""
    import asyncio
    import contextvars
    import threading

    seen = {}

    def in_thread(name, go_on):
        seen[f"{name} without one"] = tracking.current_run()
        with started() as own:
            seen[name] = tracking.current_run() is own
            go_on.wait(60)
            seen[f"{name} later"] = tracking.current_run() is own

    async def task(all_started):
        before = tracking.current_run()
        with started() as own:
            await all_started.wait()
            assert tracking.current_run() is own
        assert tracking.current_run() is before

    async def tasks():
        all_started = asyncio.Barrier(3)
        await asyncio.gather(*(task(all_started) for _ in range(3)))

    with started() as outer:
        asyncio.run(tasks())
        assert tracking.current_run() is outer
        go_on = threading.Event()
        threads = [threading.Thread(target=in_thread, args=(name, go_on)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        go_on.set()
        for thread in threads:
            thread.join()
        assert [seen[key] for key in ("a", "b", "a later", "b later")] == [True] * 4
        assert tracking.current_run() is outer
        with started(), outer:
            assert tracking.current_run() is outer
        assert tracking.current_run() is None
    # A context that has kept what was finished meanwhile.
    held = []

    def start():
        held.append(started())

    context = contextvars.copy_context()
    context.run(start)
    newest = started()
    assert context.run(tracking.current_run) is held[0]
    held[0].finish()
    assert context.run(tracking.current_run) is newest
    newest.finish()
    assert context.run(tracking.current_run) is None


@pytest.mark.parametrize("backends", ["local", "none"])
def test_copies_of_a_run_are_the_run(backends):
    import copy
    import pickle

    with started(backends=backends) as run:
        for one in (run, run.scope("train"), run.every(10), run.scope("a").every(2), tracking.multi(run, run)):
            assert copy.copy(one) is one
            assert copy.deepcopy({"tracker": [one]})["tracker"][0] is one
            with pytest.raises(TypeError, match=r"start_run there.*resume='allow'"):
                pickle.dumps(one)
        copy.deepcopy(run).log_scalars({"x": 1.0}, step=0)
    if backends == "local":
        assert scalar_rows(run.dir) == [("x", "step", 0, 1.0)]


def test_none_records_nothing_and_still_is_a_run():
    with started(backends="none", config={"a": 1}, name="ghost") as run:
        assert isinstance(run, tracking.Run)
        assert isinstance(run, tracking.Tracker)
        assert (run.name, run.project, dict(run.config)) == ("ghost", "digits", {"a": 1})
        assert tracking.current_run() is run
        run.log_scalars({"x": object()}, step=0)
        run.log({"anything": object()})
        run.log_table("t", object(), step=0)
        assert run.log_artifact("nowhere", name="m", type="model") == tracking.ArtifactRef("m", "model")
        run.scope("a").log_scalars({"b": 1}, step=0)
        run.flush()
    assert run.finish().ok
    assert list(Path().iterdir()) == []


def test_settings_come_from_the_environment(monkeypatch):
    for name, value in {
        "DIR": "elsewhere",
        "PROJECT": "proj",
        "RUN_ID": "id-1",
        "NAME": "named",
        "TAGS": "x, y",
        "GROUP": "grp",
        "NOTES": "note",
    }.items():
        monkeypatch.setenv(f"TRACKING_{name}", value)
    with tracking.start_run() as run:
        pass
    assert run.dir == Path("elsewhere/proj/id-1").absolute()
    stored = facts(run)
    assert [stored[key] for key in ("name", "tags", "group", "notes")] == ["named", ["x", "y"], "grp", "note"]
    monkeypatch.setenv("TRACKING_RESUME", "must")
    with tracking.start_run() as again:
        assert again.dir == run.dir


def test_resume():
    with started(run_id="r1", config={"a": 1}) as run:
        run.log_scalars({"x": 1.0}, step=0)
    with pytest.raises(tracking.RunExistsError, match="resume='allow'"):
        started(run_id="r1")
    with pytest.raises(tracking.RunNotFoundError, match="r2"):
        started(run_id="r2", resume="must")
    with started(run_id="r1", resume="allow", config={"b": 2}) as run:
        assert tracking.open_store("runs").run("r1").status == "running"
        run.log_scalars({"x": 2.0}, step=1)
    assert scalar_rows(run.dir) == [("x", "step", 0, 1.0), ("x", "step", 1, 2.0)]
    record = tracking.open_store("runs").run("r1")
    assert record.config == {"a": 1, "b": 2}
    with started(run_id="r1", resume="must") as run:
        assert dict(run.config) == {"a": 1, "b": 2}
    assert record.status == "finished"
    with started(run_id="r3", resume="allow") as fresh:
        assert fresh.id == "r3"


def test_an_unwritable_root_is_replaced(troubles, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with started(root=tmp_path / "file") as run:
        run.log_scalars({"x": 1.0}, step=0)
    assert scalar_rows(run.dir) == [("x", "step", 0, 1.0)]
    assert [reason for reason, _, _ in troubles] == ["root"]
    with pytest.raises(tracking.SettingsError, match="cannot be written"):
        started(root=tmp_path / "file", strict=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"project_": 3},
        {"run_id": "../x"},
        {"run_id": ""},
        {"run_id": "artifacts"},
        {"resume": "maybe"},
        {"delivery": "pigeon"},
        {"backends": []},
        {"backends": 7},
        {"backends": ["none", "local"]},
        {"backends": "nosuch"},
        {"tags": [1]},
        {"config": 5},
        {"resume_step": 3},
    ],
)
def test_wrong_settings_raise_at_once(wrong):
    keywords = dict(wrong)
    project = keywords.pop("project_", "digits")
    with pytest.raises((tracking.SettingsError, tracking.InvalidValueError)):
        tracking.start_run(project, root="runs", **keywords)
    assert tracking.current_run() is None


@pytest.mark.parametrize("project", ["../up", "a/b", "new\nline", "", "COM1", "x" * 500, "é", "."])
def test_hostile_project_names_escape_nowhere(project):
    with tracking.start_run(project, root="runs") as run:
        pass
    assert run.dir.parent.parent == Path("runs").absolute()
    assert sorted(p.name for p in Path().iterdir()) == ["runs"]
    record = tracking.open_store("runs").run(run.id)
    assert record.project == (project or "default")


def test_the_environment_is_captured(tmp_path):
    import subprocess

    subprocess.run(["git", "init", "-q", "."], check=True)
    Path("a.txt").write_text("a")
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", "add", "a.txt"], check=True)
    subprocess.run(["git", *identity, "commit", "-qm", "first"], check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    jax.devices()  # what a run notes of accelerators is what JAX has found by then
    with started() as run:
        pass
    environment = tracking.open_store("runs").run(run.id).environment
    assert environment["git"]["commit"] == commit
    assert environment["pid"] == os.getpid()
    assert any(package.startswith("numpy==") for package in environment["packages"])
    assert "accelerators" in environment


def test_many_threads_lose_nothing():
    with started() as run:

        def work(worker):
            for step in range(200):
                run.log_scalars({f"w{worker}": step}, step=step)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    rows = scalar_rows(run.dir)
    for worker in range(8):
        assert [row[2] for row in rows if row[0] == f"w{worker}"] == list(range(200))
    seqs = sorted(event["seq"] for event in journal_events(run.dir))
    assert seqs == list(range(len(seqs)))


def test_donated_arrays_are_safe_to_log():
    import jax
    import jax.numpy as jnp

    @jax.jit
    def init():
        return jnp.arange(4.0), jnp.int32(0)

    step_fn = jax.jit(lambda w, n: (w * 0.5, n + 1), donate_argnums=(0, 1))
    weights, count = init()
    expected = []
    with started() as run:
        for _ in range(20):
            run.log_scalars({"w0": weights[1], "count": count}, step=count)
            run.log_histogram("w", weights, step=count)
            expected.append((float(weights[1]), int(count)))
            weights, count = step_fn(weights, count)
    rows = scalar_rows(run.dir)
    assert [(row[3], row[2]) for row in rows if row[0] == "w0"] == expected
    assert [e["step"] for e in journal_events(run.dir) if e["kind"] == "histogram"] == [n for _, n in expected]


def test_process_gating(monkeypatch):
    with started(process=1) as other:
        other.log_scalars({"x": 1.0}, step=0)
    assert not Path("runs").exists()
    monkeypatch.setenv("TRACKING_PROCESS", "all")
    with started(process=1) as both:
        both.log_scalars({"x": 1.0}, step=0)
    assert scalar_rows(only_run(Path("runs"))) == [("x", "step", 0, 1.0)]


def test_artifacts_are_stored_and_referenced(tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "a.bin").write_bytes(b"\x00\x01")
    with started() as run:
        first = run.log_artifact(tmp_path / "weights", type="model", metadata={"acc": 0.9}, aliases=["best"])
        second = run.log_artifact({"a.bin": b"other"}, name="weights", type="model")
        used = run.use_artifact("weights:best")
    assert (str(first), str(second), used.version) == ("weights:v0", "weights:v1", 0)
    events = [e for e in journal_events(run.dir) if e["kind"] == "artifact"]
    blob = events[0]["files"]["a.bin"]["sha256"]
    assert (Path("runs/.blobs/sha256") / blob[:2] / blob[2:]).read_bytes() == b"\x00\x01"
    assert events[0]["metadata"] == {"acc": 0.9}
    record = tracking.open_store("runs").run(run.id)
    assert [str(version.ref) for version in record.artifacts()] == ["weights:v0", "weights:v1"]
    assert record.artifacts()[1].read("a.bin") == b"other"
    assert [ref.name for ref in record.used_artifacts()] == ["weights"]


def test_names_of_a_subclass_of_str_are_names():
    class Name(str):
        __slots__ = ()

    with started(strict=True) as run:
        run.log_scalars({Name("s"): 1.0}, step=0)
        run.log_images({Name("i"): np.zeros((2, 2))}, step=0)
        run.log_histogram(Name("h"), [1.0], step=0)
        run.log_text(Name("t"), "words", step=0)
    kinds = {e["kind"]: e for e in journal_events(run.dir)}
    assert list(kinds["scalars"]["values"]) == ["s"]
    assert list(kinds["images"]["images"]) == ["i"]
    assert (kinds["histogram"]["name"], kinds["text"]["name"]) == ("h", "t")
