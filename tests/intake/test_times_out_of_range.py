"""Moments that no column and no calendar can hold: refused where they come in, and read where they are."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import tracking_core as tracking
from tests.support.hurt_stores import STEPPED, bad_run, line_of, said
from tests.support.programs import journal_events
from tracking_core.compaction.compaction import compact
from tracking_core.errors import InvalidValueError
from tracking_core.journal.times import LATEST, to_seconds
from tracking_core.store import RunRecord
from tracking_core.values import Image

REFUSED = [1e308, -1e308, 1e10, 1.764e12, 2**70, 10**400, math.inf, -math.inf, math.nan, "soon", None, [1.0]]


@pytest.mark.parametrize("time", [0, -1, 1.5, 1764000000.1234567, LATEST, -LATEST, np.float64(3.5), True])
def test_moments_that_are_kept(time):
    assert to_seconds(time) == round(float(time), 6)


@pytest.mark.parametrize("time", REFUSED)
def test_moments_that_are_refused(time):
    with pytest.raises(InvalidValueError, match="wall_time"):
        to_seconds(time)


def test_the_limit_is_that_of_64_bits_of_nanoseconds():
    assert int(np.datetime64(int(LATEST), "s").astype("datetime64[ns]").astype("int64")) == int(LATEST) * 10**9
    assert LATEST * 1e9 <= 2**63 - 1


def test_a_call_at_such_a_moment_is_left_out_and_counted(tmp_path, troubles):
    with tracking.start_run("p", root=tmp_path, backends="local") as run:
        for time in (1e308, math.nan, 1.764e12):
            run.log_scalars({"loss": 1.0}, step=1, wall_time=time)
            run.log_images({"i": Image(np.zeros((2, 2), np.uint8))}, step=1, wall_time=time)
            run.log_histogram("h", [1.0, 2.0], step=1, wall_time=time)
            run.log_text("t", "x", step=1, wall_time=time)
            run.log_alert("a", wall_time=time)
        run.log_scalars({"loss": 2.0}, step=2, wall_time=5.5)
        run.log_scalars({"loss": 3.0}, step=3)
    assert run.health.dropped == {"invalid": 15}
    assert any("are these milliseconds" in message for _, message, _ in troubles)
    logged = [event for event in journal_events(run.dir) if event["kind"] == "scalars"]
    assert [(event["step"], event["values"]["loss"]) for event in logged] == [(2, 2.0), (3, 3.0)]
    assert logged[0]["t"] == 5.5


def test_strict_runs_are_told(tmp_path):
    run = tracking.start_run("p", root=tmp_path, backends="local", strict=True)
    with pytest.raises(InvalidValueError, match="wall_time"):
        run.log_scalars({"loss": 1.0}, step=1, wall_time=1e308)
    run.finish()


@pytest.mark.system
@pytest.mark.parametrize("time", [1e308, -1e308, 1e12, 253402300800.0])
def test_older_stores_that_have_one_go_on(tmp_path, time):
    """As it was recorded before: compaction keeps the row and its time exactly, in the events file."""
    root = tmp_path / "runs"
    row = {"kind": "scalars", **STEPPED, "values": {"loss": 1.0}}
    lines = [line_of({"seq": seq, "low": seq, "t": t, **row, "step": seq}) for seq, t in ((2, time), (3, 5.0))]
    lines.append(line_of({"seq": 4, "low": 4, "kind": "alert", "t": time, "title": "t", "text": "x", "level": "info"}))
    lines.append(line_of({"seq": 5, "low": 6, "kind": "finish", "t": time, "status": "finished", "error": None}))
    directory = bad_run(root, lines, started=time)
    before = RunRecord(directory).scalars("loss", raw=True)
    assert before.time.tolist() == [1764000000.0, time, 5.0]
    for again in (False, True):
        for arguments in (
            ["runs"], ["runs", "--json"], ["runs", "--where", "started>2020-01-01"], ["show", "bad"], ["scalars", "bad", "loss"],
            ["plot", "bad", "loss", "--x", "time"], ["plot", "bad", "loss", "--png", str(tmp_path / "x.png")],
            ["compare", "bad"], ["tail", "bad", "--all"], ["verify", "bad"], ["compact", "bad"],
            ["export", "bad", "--force", "--to", str(tmp_path / "x.parquet")],
            ["sync", "bad", "--to", f"tensorboard:{tmp_path}/tb-{again}"],
        ):  # fmt: skip
            said(*arguments, root=root, code=0)
        said("export", "bad", "--force", "--to", str(tmp_path / "x.jsonl"), root=root, code=0)
        rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
        assert [row["time"] for row in rows] == [1764000000.0, time, 5.0]
    assert RunRecord(directory).scalars("loss", raw=True).time.tolist() == before.time.tolist()
    assert RunRecord(directory).finished == time
    compact(directory)
    assert not list(directory.glob("journal/*.jsonl"))
