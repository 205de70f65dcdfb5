"""What importing does whatever the source: adapters of others, sources that fail, several kinds at once."""

from __future__ import annotations

import json
import os
import sys
import time

import pyarrow.parquet
import pytest
from click.testing import CliRunner
from tensorboardX import SummaryWriter

import tracking_core as tracking
from tests.support.distributions import install
from tracking_core.cli.app import app
from tracking_core.store.verify import verify
from tracking_core.transfer import import_runs
from tracking_core.transfer.foreign import imported_id

ADAPTER = """
import tracking_core as tracking

@tracking.hookimpl
def tracking_adapter():
    return tracking.AdapterInfo(name="losses", api_version=1, requires=REQUIRES)

@tracking.hookimpl
def open_tracker(target, run):
    raise NotImplementedError

@tracking.hookimpl
def tracking_import(path):
    files = sorted(path.rglob("*.losses"))
    BEFORE
    return (read(file) for file in files) if files else None

def read(file):
    def records():
        for step, line in enumerate(file.read_text().splitlines()):
            yield tracking.Record("scalars", 0, "", 1.5e9, step, "tick", {"loss": float(line)})
        yield tracking.Record("images", 0, "", 1.5e9, 1, "tick", {"broken": [object()]})
        yield tracking.Record("unknown", 0, "", 1.5e9, 1)
        yield tracking.Record("finish", 0, "", 1.6e9, data={"status": "preempted", "error": "why"})
    return tracking.ForeignRun(
        id=file.stem, records=records(), identity=file.stem, name="of " + file.stem, source=file,
        config={"lr": 0.1, "api_key": "abc"}, started=1.4e9, environment={"host": "there"},
    )
"""


@pytest.fixture
def adapter(tmp_path, monkeypatch):
    """Installs the adapter: `adapter(before=…)`."""

    def prepare(requires="()", before="pass"):
        site = tmp_path / "site"
        source = ADAPTER.replace("REQUIRES", requires).replace("BEFORE", before)
        install(site, "tracking-losses", entries={"losses": "tracking_losses"}, modules={"tracking_losses": source})
        monkeypatch.syspath_prepend(str(site))

    yield prepare
    # The next test may have another module of this name.
    sys.modules.pop("tracking_losses", None)


def command(*arguments):
    result = CliRunner().invoke(app, ["import", *map(str, arguments), "--root", "store", "--json"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result.exit_code, json.loads(result.stdout) if result.stdout.startswith("{") else result.output


def test_an_adapter_of_somebody_else_is_asked(tmp_path, adapter):
    adapter()
    (tmp_path / "data").mkdir()
    for name in "ab":
        (tmp_path / "data" / f"{name}.losses").write_text("1\n0.5\n")
    code, result = command("data")
    assert (code, [run["name"] for run in result["runs"]]) == (0, ["of a", "of b"])
    record = tracking.open_store("store").run(result["runs"][0]["run"])
    assert record.id == imported_id("losses", "a", "a")
    assert record.scalars("loss", "tick").value.tolist() == [1.0, 0.5]
    assert (record.status, record.error, record.started, record.finished) == ("preempted", "why", 1.4e9, 1.6e9)
    assert (record.config, record.environment["host"]) == ({"lr": 0.1, "api_key": "[redacted]"}, "there")
    (problem,) = result["runs"][0]["problems"]
    assert "broken" in problem


def test_one_run_that_cannot_be_read_does_not_hide_the_others(tmp_path, adapter):
    adapter()
    (tmp_path / "data").mkdir()
    for name, text in {"a": "1\nx\n", "b": "1\n", "c": "2\n"}.items():
        (tmp_path / "data" / f"{name}.losses").write_text(text)
    code, result = command("data")
    assert (code, [run["name"] for run in result["runs"]]) == (1, ["of b", "of c"])
    (failure,) = result["failures"]
    assert "could not convert string to float" in failure["error"]
    assert failure["source"].endswith("a.losses")
    assert len(tracking.open_store("store").runs()) == 2
    assert not (tmp_path / "store" / ".staging").exists()


def test_what_is_missing_is_said_with_the_remedy(tmp_path, adapter):
    adapter(requires="('no_such_module',)")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.losses").write_text("1\n")
    code, result = command("data")
    assert (code, result["runs"]) == (1, [])
    assert "pip install 'no_such_module'" in result["failures"][0]["error"]


def test_an_adapter_that_fails_does_not_keep_another_from_reading(tmp_path, adapter):
    adapter(before="raise RuntimeError('broken')")
    with SummaryWriter(str(tmp_path / "data")) as writer:
        writer.add_scalar("a", 1, 1)
    assert command("data")[0] == 0
    (tmp_path / "empty").mkdir()
    code, result = command("empty")
    assert (code, "RuntimeError: broken" in result["failures"][0]["error"]) == (1, True)


def test_of_several_kinds_one_must_be_named(tmp_path, adapter):
    adapter()
    with SummaryWriter(str(tmp_path / "data")) as writer:
        writer.add_scalar("a", 1, 1)
    (tmp_path / "data" / "a.losses").write_text("1\n")
    code, result = command("data")
    assert (code, "losses and of tensorboard: choose one with --from" in result["failures"][0]["error"]) == (
        1,
        True,
    )
    code, result = command("data", "--from", "tensorboard")
    assert (code, [run["name"] for run in result["runs"]]) == (0, ["data"])


def test_a_damaged_log_does_not_hide_the_others(tmp_path):
    (tmp_path / "w" / "offline-run-1-x").mkdir(parents=True)
    (tmp_path / "w" / "offline-run-1-x" / "run-x.wandb").write_bytes(b"no log at all")
    code, result = command("w")
    assert (code, result["runs"]) == (1, [])
    assert "not a W&B transaction log" in result["failures"][0]["error"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    with SummaryWriter(str(tmp_path / "data")) as writer:
        writer.add_scalar("a", 1, 1)
    (file,) = (tmp_path / "data").iterdir()
    file.chmod(0)
    code, result = command("data")
    assert (code, "Permission denied" in result["failures"][0]["error"]) == (1, True)


def test_options_of_csv_are_for_csv(tmp_path):
    with SummaryWriter(str(tmp_path / "data")) as writer:
        writer.add_scalar("a", 1, 1)
    code, result = command("data", "--step", "epoch")
    assert (code, "--step and --time are only for CSV files" in result["failures"][0]["error"]) == (1, True)


def test_the_project_is_the_one_that_is_named_or_set(tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.csv").write_text("step,x\n1,2\n")
    monkeypatch.setenv("TRACKING_PROJECT", "from the environment")
    assert [next(import_runs("a.csv", root="store")).project] == ["from the environment"]
    assert [next(import_runs("b.csv", root="store", project="named")).project] == ["named"]
    monkeypatch.delenv("TRACKING_PROJECT")
    assert [next(import_runs("c.csv", root="store")).project] == ["default"]


def test_a_root_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "a.csv").write_text("step,x\n1,2\n")
    (tmp_path / "store").write_text("a file")
    code, result = command("a.csv")
    assert (code, "no run can be assembled in store" in result["failures"][0]["error"]) == (1, True)


BROKEN = """
import tracking_core as tracking

@tracking.hookimpl
def tracking_adapter():
    return tracking.AdapterInfo(name="broken", api_version=1)

@tracking.hookimpl
def open_tracker(target, run):
    raise NotImplementedError

@tracking.hookimpl
def tracking_import(path):
    return [read(file) for file in sorted(path.rglob("*.broken"))] or None

def records():
    record = tracking.Record
    for step in range(3):
        yield record("scalars", 0, "", 1.5e9, step, data={"loss": 1.0})
    yield record("histogram", 0, "", 1.5e9, 1, data={})
    yield record("scalars", 0, "", 1.5e9, 1, data=None)
    yield record("scalars", 0, "", 1.5e9, "one", data={"loss": 2.0})
    yield record("scalars", 0, "", float("nan"), 5, data={"loss": 2.0})
    yield record("text", 0, "", 1.5e9, 1, data={"name": 5, "value": "words"})
    yield record("config", 0, "", 1.5e9, data={"\\udcff": object()})
    yield record("alert", 0, "", 1.5e9, data={"title": "t", "text": "x", "level": "loud"})
    yield record("artifact", 0, "", 1.5e9, data={"artifact": {"../x": b""}, "name": "n", "type": "t", "metadata": {}, "aliases": ()})
    yield record("finish", 0, "", 1.6e9, data={"status": ["finished"], "error": None})
    yield record("scalars", 0, "", 1.5e9, 9, data={"loss": 9.0})

def read(file):
    return tracking.ForeignRun(
        id="a\\nb/../c", records=records(), identity="a\\nb/../c" + file.stem, name=5, source=file, project=["p"],
        config=[1], tags=("one", 2), notes=b"x", started=float("nan"), environment=7, group={}, job_type="\\udcff",
    )
"""


def test_an_adapter_that_gives_nonsense_costs_its_nonsense(tmp_path, monkeypatch):
    site = tmp_path / "site"
    install(site, "tracking-broken", entries={"broken": "tracking_broken"}, modules={"tracking_broken": BROKEN})
    monkeypatch.syspath_prepend(str(site))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.broken").touch()
    code, result = command("data")
    assert code == 0, result
    (done,) = result["runs"]
    record = tracking.open_store("store").run(done["run"])
    assert record.scalars("loss").step.tolist() == [0, 1, 2, 9]
    assert (record.project, record.name, record.tags) == ("default", "a\nb/../c", ("one",))
    assert record.config == {"\\udcff": "<object object>"}
    assert abs(record.started - time.time()) < 600
    said = "\n".join(done["problems"])
    for kind in ("histogram", "step", "wall_time", "5: ", "level", "finish"):
        assert kind in said, (kind, said)
    assert sorted(path.name for path in (tmp_path / "store" / "default").iterdir()) == [done["run"]]


# ---------------------------------------------------------------- long runs


@pytest.mark.system
def test_a_long_run_is_compacted_before_it_appears(tmp_path):
    count = 30_000
    lines = "".join(f"{step},{step / 3}\n" for step in range(count))
    (tmp_path / "long.csv").write_text(f"step,a\n{lines}")
    (done,) = import_runs("long.csv", root="store")
    assert (done.records, done.problems) == (count + 1, ())
    assert list(done.dir.glob("journal/*.jsonl")) == []
    (scalars,) = done.dir.glob("scalars-*.parquet")
    table = pyarrow.parquet.read_table(scalars)
    assert table.column("value").to_pylist() == [step / 3 for step in range(count)]
    record = tracking.open_store("store").run(done.run)
    assert record.scalars("a").value.tolist() == [step / 3 for step in range(count)]
    assert record.status == "finished"
    (tmp_path / "short.csv").write_text("step,a\n1,2\n")
    (short,) = import_runs("short.csv", root="store")
    assert len(list(short.dir.glob("journal/*.jsonl"))) == 1


def test_without_pyarrow_it_stays_a_journal(tmp_path, monkeypatch):
    from tracking_core.transfer import foreign as runs

    monkeypatch.setattr(runs, "is_possible", lambda: False)
    (tmp_path / "long.csv").write_text("step,a\n" + "".join(f"{step},{step}\n" for step in range(9000)))
    (done,) = import_runs("long.csv", root="store")
    assert len(list(done.dir.glob("journal/*.jsonl"))) == 1
    assert len(tracking.open_store("store").run(done.run).scalars("a")) == 9000


def test_a_very_long_run_is_no_file_of_any_size(tmp_path, monkeypatch):
    """What is compacted at once has to fit into memory."""
    from tracking_core.transfer import foreign as runs

    monkeypatch.setattr(runs, "SEGMENT", 20_000)
    monkeypatch.setattr(runs, "_TURN", 10)
    (tmp_path / "long.csv").write_text("step,a\n" + "".join(f"{step},{step}\n" for step in range(9000)))
    (done,) = import_runs("long.csv", root="store")
    assert len(list(done.dir.glob("scalars-*.parquet"))) > 3
    record = tracking.open_store("store").run(done.run)
    assert record.scalars("a").value.tolist() == list(range(9000))
    assert verify(done.dir).ok


VERSIONS = """
import tracking_core as tracking

@tracking.hookimpl
def tracking_adapter():
    return tracking.AdapterInfo(name="versions", api_version=1)

@tracking.hookimpl
def open_tracker(target, run):
    raise NotImplementedError

@tracking.hookimpl
def tracking_import(path):
    return [read(file) for file in sorted(path.rglob("*.versions"))] or None

def read(file):
    def records():
        for content in file.read_text():
            data = {"artifact": {"f": content.encode()}, "name": "n", "type": "t", "metadata": {"x": float("nan")}, "aliases": (content,)}
            yield tracking.Record("artifact", 0, "", 1.5e9, data=data)
        yield tracking.Record("finish", 0, "", 1.6e9, data={"status": "finished", "error": None})
    return tracking.ForeignRun(id=file.stem, records=records(), identity=file.stem, source=file)
"""


def test_repeating_an_import_makes_no_new_versions(tmp_path, monkeypatch):
    """Neither when it was interrupted just before its end, nor when the run was removed since."""
    from tracking_core.transfer import foreign as runs

    site = tmp_path / "site"
    install(
        site, "tracking-versions", entries={"versions": "tracking_versions"}, modules={"tracking_versions": VERSIONS}
    )
    monkeypatch.syspath_prepend(str(site))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.versions").write_text("ABBA")
    with tracking.start_run("default", root="store", backends="local") as other:
        other.log_artifact({"f": b"B"}, name="n", type="t")

    def killed(*_):
        raise KeyboardInterrupt

    def versions(record):
        return [(version.ref.version, version.read("f")) for version in record.artifacts()]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runs, "publish", killed)
        list(import_runs("data", root="store"))
    assert [record.id for record in tracking.open_store("store").runs()] == [other.id]
    there = sorted(path.name for path in (tmp_path / "store").rglob("v?.json"))
    assert there == ["v0.json", "v1.json", "v2.json", "v3.json"]
    wanted = [(1, b"A"), (2, b"B"), (2, b"B"), (3, b"A")]
    for _ in range(2):
        (done,) = import_runs("data", root="store")
        assert versions(tracking.open_store("store").run(done.run)) == wanted
        assert sorted(path.name for path in (tmp_path / "store").rglob("v?.json")) == there
        artifacts = tracking.open_store("store").artifacts("default")
        assert (artifacts.get("n:A").ref.version, artifacts.get("n:B").ref.version) == (3, 2)
        assert CliRunner().invoke(app, ["rm", done.run, "--yes", "--root", "store"]).exit_code == 0
