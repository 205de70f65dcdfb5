"""A store with two good runs and a bad one, and every reader of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import zlib
from pathlib import Path

import pytest
from click.testing import CliRunner

import tracking_core as tracking
from tracking_core.cli.app import app
from tracking_core.store import RunRecord

HASH = "ab" * 32
STEPPED = {"axis": "step", "step": 3}
HEADER = {"v": 1, "run": "bad", "writer": "w", "segment": 1, "previous": None, "parent": None}
LOSSES = {"good-1": [0.0, 0.1, 0.2], "good-2": [1.0, 1.1, 1.2]}


@contextlib.contextmanager
def in_time(seconds=300):
    """What hangs is interrupted."""

    def stop(number, frame):
        # No exception that is handled anywhere, as a TimeoutError is where files are read.
        pytest.fail("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def make_store(root):
    """Two good runs under a root, which say nothing of the repository that the tests are in."""
    with contextlib.chdir(root.parent):
        for run_id, losses in LOSSES.items():
            with tracking.start_run("p", run_id, run_id=run_id, root=root, backends="local", config={"lr": 0.1}) as run:
                for step, loss in enumerate(losses):
                    run.log_scalars({"loss": loss}, step=step)
    return root


def line_of(body):
    """A line as a writer in any language makes it, not with our encoder."""
    head = json.dumps(body, separators=(",", ":")).encode()[:-1]
    return head + b',"crc":"%08x"}\n' % zlib.crc32(head)


def bad_run(root, lines, **facts):
    """A run whose journal holds these lines after a good one."""
    directory = root / "p" / "bad"
    (directory / "journal").mkdir(parents=True)
    about = {"v": 1, "id": "bad", "name": "bad", "project": "p", "started": 1764000000.0, "config": {}, "tags": []}
    (directory / "run.json").write_text(json.dumps({**about, "targets": [], **facts}))
    head = {"seq": 0, "low": 1, "kind": "segment", "t": 1.0, **HEADER}
    row = {"seq": 1, "low": 2, "kind": "scalars", "t": 1764000000.0, "axis": "step", "step": 0, "values": {"loss": 9.0}}
    (directory / "journal" / "w-000001.jsonl").write_bytes(b"".join([line_of(head), line_of(row), *lines]))
    return directory


def said(*arguments, root, code=None):
    """What a command answers; it may fail, but it says why in words."""
    result = CliRunner().invoke(app, [*arguments, "--root", str(root)])
    assert result.exception is None or isinstance(result.exception, SystemExit), (arguments, result.exc_info)
    assert "Traceback" not in result.output, result.output
    assert code is None or result.exit_code == code, (arguments, result.exit_code, result.output[:2000])
    return result


def check_everything(root, out, *, bad_is_listed=True):
    """Every verb that reads, and the API: they answer, and the good runs are what they were."""
    both = ["good-1", "good-2"]
    listed = json.loads(said("runs", "--json", root=root).stdout)
    finished = {run["id"]: run["status"] for run in listed["runs"] if run["id"] in both}
    assert finished == dict.fromkeys(both, "finished")
    assert ("bad" in {run["id"] for run in listed["runs"]}) == bad_is_listed
    for arguments in (
        ["runs"], ["runs", "--where", "loss<100", "--sort", "loss"], ["runs", "--tag", "x"], ["runs", "--ids"], ["show", "bad"],
        ["show", "bad", "--json"], ["scalars", "bad"], ["scalars", "bad", "loss", "--raw"], ["plot", "bad", "loss"],
        ["plot", *both, "bad", "loss", "--x", "time"], ["compare", *both, "bad"], ["tail", "bad", "--all"],
        ["tail", "bad", "--all", "--json"], ["verify", "bad"], ["verify", "--all"], ["prune", "--dry-run", "--keep", "delivered:0s"],
        ["pack", "bad", "-o", str(out / "bad.zip")],
        ["export", *both, "bad", "--force", "--to", str(out / "all.csv")],
        ["export", *both, "bad", "--force", "--to", str(out / "all.parquet")],
        ["sync", "bad", "--to", f"tensorboard:{out}/tb"], ["sync", "--all"],
    ):  # fmt: skip
        said(*arguments, root=root)
    (out / "bad.zip").unlink(missing_ok=True)
    for arguments in (["show", "good-1"], ["compare", *both], ["tail", "good-2"], ["verify", "good-1", "good-2"]):
        said(*arguments, root=root, code=0)
    said("export", *both, "--force", "--to", str(out / "good.jsonl"), root=root, code=0)
    rows = [json.loads(line) for line in (out / "good.jsonl").read_text().splitlines()]
    assert {run: [row["value"] for row in rows if row["run_id"] == run] for run in both} == LOSSES
    store = tracking.open_store(root)
    assert {record.id for record in store.runs(status="finished")} >= set(both)
    for run_id, losses in LOSSES.items():
        assert store.run(run_id).scalars("loss").value.tolist() == losses
    assert [record.id for record in store.runs(where=lambda run: run.summary().get("loss") == 1.2)] == ["good-2"]


def check_api(directory):
    """Whatever can be asked of the run itself."""
    record = RunRecord(directory)
    record.config, record.environment, record.status, record.error, record.finished, record.has_ended  # noqa: B018
    record.summary(), record.alerts(), record.artifacts(), record.used_artifacts(), record.scalar_axes()
    for kind in ("histogram", "table", "video", "audio", "text", "figure", "html"):
        record.names(kind)
    for name in record.scalar_names():
        record.scalars(name, raw=True)
    return record


def delete(place: Path | str) -> None:
    """Delete a directory that others write into: until it is gone."""
    while os.path.lexists(place):
        shutil.rmtree(place, ignore_errors=True)
