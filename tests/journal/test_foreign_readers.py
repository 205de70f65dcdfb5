"""Files of a run are opened with DuckDB, polars, pandas and jq, in processes in which none of our code is.

The run has NaN, infinities and integers beyond 64 bits, before it is compacted and after, and as a dataset that
`tracking export` made. What the programs find is compared here, as JSON, with what was logged.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys

import pytest

from tests.support.commands import environment, tracking
from tests.support.programs import run as run_program

pytestmark = pytest.mark.system

pytest.importorskip("pyarrow", reason="needs the extra store")

VALUES = [1 / 3, math.nan, math.inf, -math.inf, 1e-300, -2.5]
RECORD = r"""
import numpy as np
import tracking_core as tracking
run = tracking.start_run("digits", "a name", root="runs", run_id="r", config={"lr": 0.1, "model": {"depth": 2}})
for step, value in enumerate([1 / 3, float("nan"), float("inf"), -float("inf"), 1e-300, -2.5]):
    at = 1.6e9 + step + 0.25
    run.log_scalars({"train/loss": np.float64(value), "n": step, "ok": step % 2 == 0}, step=10 * step, wall_time=at)
    run.log_scalars({"val/loss": 2.0 * step}, step=step, step_axis="epoch", wall_time=at)
run.log_scalars({"train/loss": 7.0}, step=0, wall_time=1.7e9)
run.log_scalars({"huge": 2**70}, step=0, wall_time=1.7e9)
run.log_images({"samples": np.zeros((2, 4, 4))}, step=5)
run.log_text("note", "é \"quoted\"\n", step=5)
run.flush()
import os
os._exit(0)  # as a kill: nothing is compacted at the end
"""
LOSSES = [*((10 * step, value, 1.6e9 + step + 0.25) for step, value in enumerate(VALUES)), (0, 7.0, 1.7e9)]

#: Runs the code of a reader, and makes sure that none of our code was with it.
AROUND = r"""
import json, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0].startswith("tracking_"):
            raise AssertionError(f"{name} was imported")
sys.meta_path.insert(0, Refuse())
from pathlib import Path
run, dataset = map(Path, sys.argv[1:3])
found = []
CODE
assert not [name for name in sys.modules if name.startswith("tracking_")]
print(json.dumps([[int(step), repr(float(value)), float(time)] for step, value, time in found]))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run that was not compacted, a copy that was, and a dataset."""
    folder = tmp_path_factory.mktemp("files")
    run_program(RECORD, folder)
    run = folder / "runs" / "digits" / "r"
    shutil.copytree(run, folder / "journal-only")
    tracking("compact", "r", "--root", "runs", cwd=folder)
    assert list(run.glob("scalars-*.parquet"))
    arguments = ("export", "r", "--raw", "--partition", "--root", "runs")
    tracking(*arguments, "--to", "dataset", "--format", "parquet", cwd=folder)
    tracking(*arguments, "--to", "lines", "--format", "jsonl", cwd=folder)
    return folder


def read(code, run, dataset=""):
    """(step, value, seconds) of every row of train/loss that a reader finds, in order."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", AROUND.replace("CODE", code), str(run), str(dataset)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [(step, value, time) for step, value, time in json.loads(done.stdout)]


WANTED = [(step, repr(value), time) for step, value, time in LOSSES]

JOURNAL = {
    "json": """
for path in sorted(run.glob("journal/*.jsonl")):
    for event in map(json.loads, path.read_text().splitlines()):
        if event["kind"] == "scalars" and event["axis"] == "step" and "train/loss" in event["values"]:
            found.append((event["step"], event["values"]["train/loss"], event["t"]))
""",
    "duckdb": """
import duckdb
found = duckdb.execute('''
    SELECT step, CAST("values"->>'$."train/loss"' AS DOUBLE), t
    FROM read_json($1, format = 'newline_delimited', columns = {
        kind: 'VARCHAR', seq: 'BIGINT', t: 'DOUBLE', axis: 'VARCHAR', step: 'BIGINT', "values": 'JSON'})
    WHERE kind = 'scalars' AND axis = 'step' AND "values"->>'$."train/loss"' IS NOT NULL ORDER BY seq
''', [str(run / "journal" / "*.jsonl")]).fetchall()
""",
    "polars": """
import polars as pl
schema = {"kind": pl.String, "seq": pl.Int64, "t": pl.Float64, "axis": pl.String, "step": pl.Int64,
          "values": pl.Struct({"train/loss": pl.String})}
found = (
    pl.scan_ndjson(run / "journal" / "*.jsonl", schema=schema)
    .with_columns(pl.col("values").struct.field("train/loss").str.replace("Infinity", "inf").cast(pl.Float64))
    .filter((pl.col("kind") == "scalars") & (pl.col("axis") == "step") & pl.col("train/loss").is_not_null())
    .sort("seq").select("step", "train/loss", "t").collect().rows()
)
""",
    "pandas": """
import pandas as pd
frame = pd.concat(pd.read_json(path, lines=True, precise_float=True) for path in sorted(run.glob("journal/*.jsonl")))
frame = frame[(frame["kind"] == "scalars") & (frame["axis"] == "step")].sort_values("seq")
frame["loss"] = frame["values"].str.get("train/loss").astype(float)
found = frame[frame["values"].map(lambda values: "train/loss" in values)][["step", "loss", "t"]].itertuples(index=False)
""",
}


@pytest.mark.parametrize("tool", JOURNAL)
def test_the_journal(place, tool):
    assert read(JOURNAL[tool], place / "journal-only") == WANTED


PARTS = {
    "duckdb": """
import duckdb
found = duckdb.execute('''
    SELECT step, value, epoch(time) FROM read_parquet($1) WHERE name = 'train/loss' AND axis = 'step' ORDER BY seq
''', [str(run / "scalars-*.parquet")]).fetchall()
""",
    "polars": """
import polars as pl
found = (
    pl.scan_parquet(run / "scalars-*.parquet").filter((pl.col("name") == "train/loss") & (pl.col("axis") == "step"))
    .sort("seq").select("step", "value", pl.col("time").dt.epoch("us") / 1e6).collect().rows()
)
""",
    "pandas": """
import pandas as pd
frame = pd.concat(pd.read_parquet(path) for path in run.glob("scalars-*.parquet")).sort_values("seq")
frame = frame[(frame["name"] == "train/loss") & (frame["axis"] == "step")]
found = zip(frame["step"], frame["value"], frame["time"].map(lambda time: time.timestamp()))
""",
    "pyarrow": """
import pyarrow.parquet
for path in sorted(run.glob("scalars-*.parquet")):
    rows = pyarrow.parquet.read_table(path, filters=[("name", "==", "train/loss"), ("axis", "==", "step")]).to_pylist()
    found += [(row["step"], row["value"], row["time"].timestamp()) for row in sorted(rows, key=lambda row: row["seq"])]
""",
}


@pytest.mark.parametrize("tool", PARTS)
def test_the_parts(place, tool):
    assert read(PARTS[tool], place / "runs" / "digits" / "r") == WANTED


DATASETS = {
    "duckdb": """
import duckdb
found = duckdb.execute('''
    SELECT step, value, time FROM read_parquet($1, hive_partitioning = true)
    WHERE project = 'digits' AND run_id = 'r' AND name = 'train/loss' AND axis = 'step'
''', [str(dataset / "**" / "*.parquet")]).fetchall()
""",
    "polars": """
import polars as pl
found = (
    pl.scan_parquet(dataset, hive_partitioning=True)
    .filter((pl.col("run_id") == "r") & (pl.col("name") == "train/loss") & (pl.col("axis") == "step"))
    .select("step", "value", "time").collect().rows()
)
""",
    "pandas": """
import pandas as pd
frame = pd.read_parquet(dataset)
frame = frame[(frame["run_id"] == "r") & (frame["name"] == "train/loss") & (frame["axis"] == "step")]
found = frame[["step", "value", "time"]].itertuples(index=False)
""",
    "duckdb of lines": """
import duckdb
found = duckdb.execute('''
    SELECT step, value::DOUBLE, time FROM read_json($1, hive_partitioning = true)
    WHERE run_id = 'r' AND name = 'train/loss' AND axis = 'step'
''', [str(dataset.parent / "lines" / "**" / "*.jsonl")]).fetchall()
""",
}


@pytest.mark.parametrize("tool", DATASETS)
def test_a_dataset(place, tool):
    assert sorted(read(DATASETS[tool], "none", place / "dataset")) == sorted(WANTED)


JQ = 'select(.kind == "scalars" and .axis == "step" and .values["train/loss"] != null) | [.seq, .step, .values["train/loss"], .t]'


def by_jq(text):
    return [(step, repr(float(value)), time) for _, step, value, time in sorted(map(json.loads, text.splitlines()))]


@pytest.mark.skipif(shutil.which("jq") is None, reason="the program jq is not installed")
def test_jq(place):
    journals = sorted(map(str, (place / "journal-only" / "journal").glob("*.jsonl")))
    done = subprocess.run(["jq", "-c", JQ, *journals], capture_output=True, text=True, check=True)
    assert by_jq(done.stdout) == WANTED
    # The facts of a run, and what is no scalar.
    config = subprocess.run(
        ["jq", "-c", "[.id, .project, .config.model.depth]", str(place / "journal-only" / "run.json")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(config.stdout) == ["r", "digits", 2]
    events = sorted(map(str, (place / "runs" / "digits" / "r").glob("events-*.jsonl")))
    texts = subprocess.run(
        ["jq", "-r", 'select(.kind == "text").text', *events], capture_output=True, text=True, check=True
    )
    assert texts.stdout == 'é "quoted"\n\n'
