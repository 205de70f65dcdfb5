"""What importing does whatever the source: adapters of others, sources that fail, several kinds at once."""

from __future__ import annotations

import json
import os
import sys

import pytest
from click.testing import CliRunner
from tensorboardX import SummaryWriter

import tracking_core as tracking
from tests.support.distributions import install
from tracking_core.cli.app import app
from tracking_core.importing import import_runs
from tracking_core.importing.runs import imported_id

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
    assert not (tmp_path / "store" / ".importing").exists()


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
    assert (code, "losses and of tensorboard: say which are meant with --from" in result["failures"][0]["error"]) == (
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
    assert (code, "--step and --time are for those alone" in result["failures"][0]["error"]) == (1, True)


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
    assert (code, "cannot import into store" in result["failures"][0]["error"]) == (1, True)
