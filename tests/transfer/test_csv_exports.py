"""What `tracking export` writes comes back as it was; what only looks like it is refused, with what to do."""

from __future__ import annotations

import csv
import math
import random

import pytest
from click.testing import CliRunner

import tracking_core as tracking
from tracking_core.cli.app import app
from tracking_core.transfer import import_runs

NAMES = [
    "loss",
    "val/loss",
    "a,b",
    'q"q',
    "line\nbreak",
    "cr\rlf\r\n",
    " spaces ",
    "ünïcode 日本",
    "name",
    "1,5",
    "-",
    "nan",
]
VALUES = [0.1, 1 / 3, -0.0, 1e308, 5e-324, math.nan, math.inf, -math.inf, 2.0**60, 7.0]


@pytest.fixture
def runs():
    """Runs of two projects, of one name, with scalars of one name on several axes."""
    made = []
    rng = random.Random(5)
    for project, name, run_id in (("p", "same", "a"), ("p", "same", "b"), ("q/ü", "a, b\n", "c"), ("q/ü", "same", "d")):
        with tracking.start_run(project, name, root="runs", run_id=run_id) as run:
            for number in range(200):
                axis = rng.choice(["step", "epoch", "a,xis", ""])
                run.log_scalars(
                    {rng.choice(NAMES): rng.choice(VALUES), "loss": rng.random()},
                    step=rng.randrange(-(2**62), 2**62) if number % 2 else number,
                    step_axis=axis or "step",
                    wall_time=1.6e9 + rng.random() * 1e6,
                )
        made.append(run)
    return made


def invoke(*arguments):
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert isinstance(result.exception, (SystemExit, type(None))), result.exc_info
    return result


def everything(record, *, raw=False):
    """All rows of a run, as they are read."""
    return {
        (name, axis): [
            (step, time, "nan" if math.isnan(value) else math.copysign(1, value), value if value == value else 0)
            for step, time, value in zip(*(getattr(series, key).tolist() for key in ("step", "time", "value")), strict=True)
        ]
        for name, axes in record.scalar_axes().items()
        for axis in axes
        if len(series := record.scalars(name, axis, raw=raw))
    }  # fmt: skip


def by_name(done):
    store = tracking.open_store("store")
    return {(one.project, one.dir.name.split("-")[1]): store.run(one.run) for one in done}


@pytest.mark.parametrize("how", [[], ["--raw"], ["--partition"]])
def test_an_export_comes_back_as_it_was(runs, how):
    to = "data" if "--partition" in how else "out.csv"
    ids = [run.id for run in runs]
    assert invoke("export", *ids, "--to", to, "--root", "runs", "--format", "csv", *how).exit_code == 0
    done = list(import_runs(to, root="store", kind="csv"))
    assert [one.error for one in done] == [None] * 4
    assert [one.problems for one in done] == [()] * 4
    found = by_name(done)
    for run in runs:
        before, after = tracking.open_store("runs").run(run.id), found[run.project, run.id]
        assert (after.name, after.project) == (before.name, before.project)
        raw = "--raw" in how
        # Of raw rows the order counts; of others there is one a step.
        assert everything(after, raw=raw) == everything(before, raw=raw)
        assert after.status == "finished"
        times = [time for rows in everything(before).values() for _, time, *_ in rows]
        assert after.started == pytest.approx(min(times), abs=1e-5)
    assert all(one.there for one in import_runs(to, root="store", kind="csv"))


def test_scalars_as_csv_come_back_as_they_were(runs, tmp_path):
    result = invoke("scalars", "a", "*", "--csv", "--root", "runs")
    (tmp_path / "mine.csv").write_bytes(result.stdout_bytes)
    (done,) = import_runs("mine.csv", root="store")
    found = tracking.open_store("store").run(done.run)
    assert everything(found) == everything(tracking.open_store("runs").run("a"))
    assert (found.name, found.project) == ("mine", "default")
    # Which scalars there are, with the last value of each, is no series.
    (tmp_path / "list.csv").write_bytes(invoke("scalars", "a", "--csv", "--root", "runs").stdout_bytes)
    with pytest.raises(tracking.SettingsError, match="several series would become one"):
        next(import_runs("list.csv", root="store"))


def test_rows_in_any_order_and_columns_in_any_order(runs, tmp_path):
    invoke("export", *(run.id for run in runs), "--to", "out.csv", "--root", "runs")
    with open("out.csv", newline="", encoding="utf-8") as file:
        head, *rows = list(csv.reader(file))
    order = list(range(len(head)))
    random.Random(1).shuffle(order)
    random.Random(2).shuffle(rows)
    with open("mixed.csv", "w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=";").writerows([row[at] for at in order] for row in [head, *rows])
    found = by_name(import_runs("mixed.csv", root="store"))
    for run in runs:
        assert everything(found[run.project, run.id]) == everything(tracking.open_store("runs").run(run.id))


def test_rows_that_cannot_be_read_are_counted(tmp_path):
    (tmp_path / "log.csv").write_text(
        "name,axis,step,value\nloss,step,1,0.5\nloss,step,2.0,1\nloss,step,x,1\nloss,step,,1\nloss,step,1.5,1\n"
        "loss,step,9223372036854775808,1\nloss,step,3,high\nloss,step,4,\nloss,step,5,NA\nloss\n\n,,,\nloss,epoch,1,2\n"
    )
    (done,) = import_runs("log.csv", root="store")
    record = tracking.open_store("store").run(done.run)
    assert record.scalars("loss", "step").step.tolist() == [1, 2]
    assert record.scalars("loss", "epoch").value.tolist() == [2.0]
    assert done.problems == (
        "5 rows left out: step is not a 64-bit integer", "1 row left out: value is not a number",
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "metric,step,value\nloss,1,0.5\nacc,1,0.25\n",
        "step,variable,value\n1,loss,0.5\n1,acc,0.25\n",
        "Name,Axis,Step,Value\nloss,step,1,0.5\n",
        "name,step,value\nloss,1,0.5\n",
        "name,axis,step,value,seed\nloss,step,1,0.5,3\n",
        ",name,axis,step,value\n0,loss,step,1,0.5\n",
        # A column of text that tells the rows of a step apart.
        "step,phase,loss\n1,train,0.5\n1,val,0.75\n2,train,0.25\n2,val,0.5\n",
        "step,rank,loss\n1,r0,0.5\n1,r1,0.75\n2,r0,0.25\n2,r1,0.5\n",
        "run,step,loss\nr1,0,1\nr2,0,2\n",
        # A column of numbers that does.
        "seed,step,loss\n1,0,0.1\n1,1,0.2\n2,0,0.8\n2,1,0.9\n",
        "id,epoch,step,value\n1,0,0,1\n2,0,0,2\n1,0,1,5\n2,0,1,6\n",
    ],
)
def test_what_only_looks_like_it_is_refused(tmp_path, text):
    (tmp_path / "log.csv").write_text(text)
    result = invoke("import", "log.csv", "--root", "store")
    assert result.exit_code == 1
    assert "several series would become one" in result.output
    assert "name, axis, step, value" in result.output
    assert tracking.open_store("store").runs() == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("step,loss,note\n1,0.5,a\n2,0.25,b\n3,1,a\n4,1,b\n", ["loss"]),
        ("step,loss,note\n1,0.5,a\n1,0.25,a\n2,1,a\n2,1,a\n", ["loss"]),
        ("step,loss,when\n1,0.5,mon\n1,0.25,tue\n2,1,wed\n2,1,thu\n", ["loss"]),
        ("step,loss,note\n1,0.5,\n1,0.25,restarted\n2,1,\n2,2,restarted\n", ["loss"]),
        # A training that was restarted, and logged some steps again; one that logs a step in two rows.
        ("step,epoch,loss\n1,0,9\n2,0,8\n3,1,7\n2,0,8\n3,1,6\n", ["epoch", "loss"]),
        ("step,loss,count\n1,0.5,7\n1,,7\n2,0.5,9\n2,,9\n", ["count", "loss"]),
        ("step,loss\n0,1\n0,2\n", ["loss"]),
        ("step,value,time\n1,2,3\n", ["time", "value"]),
        ("step,name,loss\n1,2,3\n", ["loss", "name"]),
    ],
)
def test_a_column_for_each_scalar_stays_that(tmp_path, text, names):
    (tmp_path / "log.csv").write_text(text)
    (done,) = import_runs("log.csv", root="store")
    assert tracking.open_store("store").run(done.run).scalar_names() == names


@pytest.mark.parametrize(
    ("text", "column", "example"),
    [
        ("step;loss\n1;0,5\n2;0,25\n", "loss", "0,5"),
        ("step\tloss\n1\t-1.234,5\n", "loss", "-1.234,5"),
        ('step,loss,acc\n1,"0,5",1\n2,"1,5e-3",2\n', "loss", "0,5"),
        ("step;loss;acc\n1;1;0,5\n2;2;1\n", "acc", "0,5"),
        ("name;axis;step;value\nloss;step;1;0,5\n", "value", "0,5"),
    ],
)
def test_decimal_commas_are_refused_by_name(tmp_path, text, column, example):
    (tmp_path / "log.csv").write_text(text)
    result = invoke("import", "log.csv", "--root", "store")
    assert result.exit_code == 1
    assert f"'{column}' have a decimal comma, as {example!r}" in result.output
    assert "decimal=','" in result.output
    assert tracking.open_store("store").runs() == []


def test_text_with_commas_is_text(tmp_path):
    (tmp_path / "log.csv").write_text('step;loss;note\n1;1;"1,5"\n2;2;about 1,5\n')
    (done,) = import_runs("log.csv", root="store")
    assert done.problems == ("columns that are not numeric were left out: 'note'",)


def test_options_for_columns_are_not_for_exports(runs):
    invoke("export", "a", "--to", "out.csv", "--root", "runs")
    with pytest.raises(tracking.SettingsError, match="leave out --step and --time"):
        next(import_runs("out.csv", root="store", step="step"))


def test_a_directory_of_exports(runs, tmp_path):
    for run in runs:
        invoke("export", run.id, "--to", f"{run.id}.csv", "--root", "runs")
    (tmp_path / "bad.csv").write_text("name,axis,step,value\n")
    (tmp_path / "log.csv").write_text("step,a\n1,2\n")
    done = list(import_runs(".", kind="csv", root="store"))
    assert [one.error is None for one in done] == [True, True, False, True, True, True]
    assert "no rows" in done[2].error
