"""CSV files come into the run store as scalars."""

from __future__ import annotations

import json
import math
import os
import time

import pytest
from click.testing import CliRunner

import tracking_core as tracking
from tracking_core.cli.app import app
from tracking_core.transfer import import_runs


def one(path, **options):
    (done,) = import_runs(path, root="store", **options)
    return done, tracking.open_store("store").run(done.run)


def rows(record, name, axis=None):
    series = record.scalars(name, axis)
    return list(zip(series.step.tolist(), series.value.tolist(), strict=True))


def test_numeric_columns_are_scalars(tmp_path):
    (tmp_path / "log.csv").write_text(
        "step,loss,acc,note,right,empty,mixed\n0,1.5,,a,true,,1\n10,0.5,0.25,b,false,,x\n20.0,nan,0.5,,true,,\n\n"
    )
    os.utime("log.csv", (1.5e9, 1.5e9))
    done, record = one("log.csv")
    assert record.scalar_names() == ["acc", "loss", "right"]
    assert rows(record, "loss")[:2] == [(0, 1.5), (10, 0.5)]
    assert math.isnan(rows(record, "loss")[2][1])
    assert rows(record, "acc") == [(10, 0.25), (20, 0.5)]
    assert rows(record, "right") == [(0, 1.0), (10, 0.0), (20, 1.0)]
    assert done.problems == ("columns that are not numeric were left out: 'note', 'mixed'",)
    assert (record.name, record.status, record.started) == ("log", "finished", 1.5e9)
    assert record.scalars("loss").time.tolist() == [1.5e9] * 3


def test_the_column_of_steps_can_be_named(tmp_path):
    (tmp_path / "log.csv").write_text("epoch;val\n1;0,5\n2;0,25\n")
    with pytest.raises(tracking.SettingsError, match="no column 'step'.*'epoch', 'val': name one with --step"):
        one("log.csv")
    (tmp_path / "log.csv").write_text("epoch;val\n1;0.5\nx;1\n2;0.25\n1.5;7\n")
    done, record = one("log.csv", step="epoch")
    assert rows(record, "val", "epoch") == [(1, 0.5), (2, 0.25)]
    assert done.problems == ("2 rows left out: 'epoch' is not a whole number",)


def test_times_are_kept(tmp_path, monkeypatch):
    # The form in which TensorBoard lets series be downloaded.
    (tmp_path / "a.csv").write_text("Wall time,Step,Value\n1600000000.25,0,0.5\n1600000001.5,1,0.25\n")
    _, record = one("a.csv")
    assert record.scalars("Value").time.tolist() == [1600000000.25, 1600000001.5]
    assert (record.started, record.finished) == (1600000000.25, 1600000001.5)
    # Whatever the zone of whoever imports it.
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    (tmp_path / "b.csv").write_text("step,when,x\n0,2020-09-13T12:26:40,1\n1,2020-09-13T14:26:41+02:00,2\n")
    try:
        _, record = one("b.csv", time="when")
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert record.scalars("x").time.tolist() == [1600000000.0, 1600000001.0]


def test_large_integers_and_names_are_exact(tmp_path):
    (tmp_path / "log.csv").write_text(f'step,"a, ""b""",n\n{2**60},1,{2**70}\n', encoding="utf-8-sig")
    _, record = one("log.csv")
    assert record.scalar_names() == ['a, "b"', "n"]
    (data,) = [r.data for r in record.records() if r.kind == "scalars"]
    assert data["n"] == 2**70
    assert record.scalars("n").step.tolist() == [2**60]


def test_a_second_import_does_nothing_and_other_content_is_another_run(tmp_path):
    (tmp_path / "log.csv").write_text("step,a\n1,2\n")
    first, _ = one("log.csv")
    assert one("log.csv")[0].there
    (tmp_path / "log.csv").write_text("step,a\n1,3\n")
    other, _ = one("log.csv")
    assert (other.there, other.run != first.run) == (False, True)


def test_a_directory_of_csv_files(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text(f"step,a\n1,{ord(name)}\n")
    refused = CliRunner().invoke(app, ["import", ".", "--root", "store"])
    assert (refused.exit_code, "use --from csv" in refused.output) == (1, True)
    result = CliRunner().invoke(app, ["import", ".", "--from", "csv", "--root", "store", "--json"])
    assert [run["name"] for run in json.loads(result.stdout)["runs"]] == ["a", "b"]


# ---------------------------------------------------------------- what nobody expects in a file


def values(record):
    return {name: rows(record, name) for name in record.scalar_names()}


@pytest.mark.parametrize("word", ["NA", "N/A", "null", "None", "-", "#N/A", " "])
def test_missing_values(tmp_path, word):
    (tmp_path / "log.csv").write_text(f"step,a\n1,{word}\n2,2.5\n")
    done, record = one("log.csv")
    assert (values(record), done.problems) == ({"a": [(2, 2.5)]}, ())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings(tmp_path, encoding):
    (tmp_path / "log.csv").write_bytes("step;größe\r\n1;0.5\r\n".encode(encoding))
    done, record = one("log.csv")
    assert values(record) == {"größe": [(1, 0.5)]}
    said = ("it is not UTF-8, and was read as Windows-1252",) if encoding == "cp1252" else ()
    assert done.problems == said


def test_what_only_python_takes_for_a_number_is_none(tmp_path):
    (tmp_path / "log.csv").write_text("step,a,commit\n1,1,1_000\ntrue,2,2_0\n3,3,7\n")
    done, record = one("log.csv")
    assert values(record) == {"a": [(1, 1.0), (3, 3.0)]}
    assert done.problems == (
        "columns that are not numeric were left out: 'commit'",
        "1 row left out: 'step' is not a whole number",
    )


def test_rows_and_columns_that_do_not_fit_are_said(tmp_path):
    """An index without a name, as pandas writes one, and rows of other lengths."""
    (tmp_path / "log.csv").write_text(",step,a\n0,1,1,99\n1,2\n2,3,3,\n")
    done, record = one("log.csv")
    assert values(record) == {"a": [(1, 1.0), (3, 3.0)]}
    assert done.problems == (
        "left out: 1 column without a name",
        "1 row with more cells than there are columns; the cells were left out",
    )


def test_steps_that_come_twice(tmp_path):
    (tmp_path / "log.csv").write_text("step,a\n1,1\n1,2\n0,9\n1,3\n")
    _, record = one("log.csv")
    assert rows(record, "a") == [(0, 9.0), (1, 3.0)]
    assert len(record.scalars("a", raw=True)) == 4


def test_a_column_called_time_that_holds_none(tmp_path):
    """Seconds since the start are a scalar, and do not put the run into 1970."""
    (tmp_path / "log.csv").write_text("step,time,a\n1,0.5,1\n2,1.5,2\n")
    os.utime("log.csv", (1.5e9, 1.5e9))
    _, record = one("log.csv")
    assert values(record) == {"a": [(1, 1.0), (2, 2.0)], "time": [(1, 0.5), (2, 1.5)]}
    assert record.started == 1.5e9
    # Whoever says so has it.
    (tmp_path / "log.csv").write_text("step,time,a\n1,0.5,1\n2,1e300,2\n3,nan,3\n")
    os.utime("log.csv", (1.5e9, 1.5e9))
    _, record = one("log.csv", time="time")
    assert record.scalars("a").time.tolist() == [0.5, 1.5e9, 1.5e9]


@pytest.mark.parametrize("content", ["step,a\n", "step\n1\n", "step,a\n1,x\n"])
def test_a_file_without_numbers_is_no_run(tmp_path, content):
    (tmp_path / "log.csv").write_text(content)
    (done,) = import_runs("log.csv", root="store")
    assert "has no column of numbers besides the steps" in done.error
    assert tracking.open_store("store").runs() == []


def test_one_file_that_cannot_be_read_does_not_hide_the_others(tmp_path):
    (tmp_path / "logs" / "folder.csv").mkdir(parents=True)
    (tmp_path / "logs" / "a.csv").write_text("epoch,a\n1,2\n")
    (tmp_path / "logs" / "b.csv").write_text("step,a\n1," + "9" * 200_000 + "\n")
    (tmp_path / "logs" / "c.csv").write_text("step,a,a\n1,2,3\n")
    (tmp_path / "logs" / "d.tsv").write_text("step\ta\n1\t2\n")
    done = {one.name: one.error for one in import_runs("logs", kind="csv", root="store")}
    assert "has no column 'step'" in done["a"]
    assert "field larger than" in done["b"]
    assert "appears twice" in done["c"]
    assert done["d"] is None
    assert [record.name for record in tracking.open_store("store").runs()] == ["d"]
