"""What a run writes opens with other tools as it is: none of our code reads here."""

from __future__ import annotations

import json
import shutil
import subprocess

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest

import tracking_core as tracking

LOSSES = [(step, 1.0 / (step + 1)) for step in range(20)]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """The directory of a run with scalars on two axes and other things between them."""
    root = tmp_path_factory.mktemp("files") / "runs"
    with tracking.start_run("digits", root=root, backends="local", config={"lr": 0.1, "model": {"depth": 2}}) as run:
        for step, loss in LOSSES:
            run.log_scalars({"train/loss": loss, "n": step}, step=step)
            if step % 5 == 0:
                run.log_scalars({"val/loss": 2 * loss}, step=step // 5, step_axis="epoch")
                run.log_images({"samples": np.zeros((2, 4, 4))}, step=step)
                run.log_text("note", 'é "quoted"\n', step=step)
    return run.dir


def test_duckdb(directory):
    with duckdb.connect() as connection:
        rows = connection.execute(
            """SELECT step, "values"."train/loss" FROM read_json_auto($1, format = 'newline_delimited', union_by_name = true)
            WHERE kind = 'scalars' AND axis = 'step' ORDER BY seq""",
            [str(directory / "journal" / "*.jsonl")],
        ).fetchall()
        assert rows == LOSSES
        facts = connection.execute(
            "SELECT config.model.depth, project FROM read_json_auto($1)", [str(directory / "run.json")]
        )
        assert facts.fetchall() == [(2, "digits")]


def test_polars(directory):
    frame = pl.read_ndjson(min((directory / "journal").glob("*.jsonl")), infer_schema_length=None)
    rows = frame.filter((pl.col("kind") == "scalars") & (pl.col("axis") == "step")).select(
        "step", pl.col("values").struct.field("train/loss")
    )
    assert rows.rows() == LOSSES


def test_pandas(directory):
    frame = pd.concat(
        pd.read_json(path, lines=True, precise_float=True) for path in sorted((directory / "journal").glob("*.jsonl"))
    )
    epochs = frame[(frame["kind"] == "scalars") & (frame["axis"] == "epoch")]
    assert [(int(row.step), row["values"]["val/loss"]) for _, row in epochs.iterrows()] == [
        (step // 5, 2 * loss) for step, loss in LOSSES if step % 5 == 0
    ]


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_jq(directory):
    program = 'select(.kind == "scalars" and .axis == "step") | [.step, .values["train/loss"]]'
    journals = sorted(map(str, (directory / "journal").glob("*.jsonl")))
    done = subprocess.run(["jq", "-c", program, *journals], capture_output=True, text=True, check=True)
    assert [tuple(json.loads(line)) for line in done.stdout.splitlines()] == LOSSES
