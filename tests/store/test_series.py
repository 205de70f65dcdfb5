"""A series as data: repeated steps, Arrow for other tools, fewer points, and how it shows itself."""

from __future__ import annotations

import math

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tracking_core as tracking
from tests.support.programs import run as run_program
from tracking_core import Series
from tracking_core.errors import InvalidValueError, MissingDependencyError
from tracking_core.journal import JournalWriter, encode_line
from tracking_core.layout.runs import create_run


def series(values, step=None, name="val/loss", axis="step"):
    value = np.array(values, np.float64)
    steps = np.arange(len(value)) if step is None else np.array(step, np.int64)
    return Series(name, axis, steps, 1.7e9 + np.arange(len(value)) / 8, value)


# ---------------------------------------------------------------- repeated steps


@given(st.lists(st.tuples(st.integers(-3, 6), st.floats()), max_size=20))
def test_the_last_row_of_a_step_counts(rows):
    raw = series([value for _, value in rows], [step for step, _ in rows])
    resolved = raw.resolved()
    expected = {}
    for number, (step, value) in enumerate(rows):
        expected[step] = (value, raw.time[number])
    assert resolved.step.tolist() == sorted(expected)
    np.testing.assert_array_equal(resolved.value, [expected[step][0] for step in sorted(expected)])
    np.testing.assert_array_equal(resolved.time, [expected[step][1] for step in sorted(expected)])
    assert len(raw) == len(rows)


# ---------------------------------------------------------------- Arrow

WEIRD = [0.5, math.nan, math.inf, -math.inf, 5e-324, -0.0]


@pytest.fixture
def weird():
    return series(WEIRD, [-(2**63), -1, 0, 1, 2, 2**63 - 1])


def test_pyarrow_takes_a_series(weird):
    table = pa.table(weird)
    assert table.schema.names == ["step", "time", "value"]
    assert [str(field.type) for field in table.schema] == ["int64", "double", "double"]
    assert all(field.metadata == {b"name": b"val/loss", b"axis": b"step"} for field in table.schema)
    assert table.drop_columns("value").equals(weird.to_arrow().drop_columns("value"))
    assert table["step"].to_pylist() == weird.step.tolist()
    assert table["time"].to_pylist() == weird.time.tolist()
    np.testing.assert_array_equal(table["value"].to_numpy(), weird.value)
    # NaN is a value, not one that is missing; and the sign of a zero is kept.
    assert table["value"].null_count == 0
    assert math.copysign(1, table["value"][5].as_py()) == -1
    reader = pa.RecordBatchReader.from_stream(weird)
    assert reader.read_all().drop_columns("value").equals(table.drop_columns("value"))


def test_nothing_is_copied(weird):
    for name in ("step", "time", "value"):
        (chunk,) = weird.to_arrow()[name].chunks
        assert chunk.buffers()[1].address == getattr(weird, name).ctypes.data


def test_polars_takes_a_series(weird):
    # `from_arrow` makes a column of structs of a stream, in this version of polars.
    structs = pl.from_arrow(weird)
    for frame in (pl.DataFrame(weird), structs.struct.unnest() if isinstance(structs, pl.Series) else structs):
        assert frame.schema == {"step": pl.Int64, "time": pl.Float64, "value": pl.Float64}
        assert frame["step"].to_list() == weird.step.tolist()
        np.testing.assert_array_equal(frame["value"].to_numpy(), weird.value)
        assert frame["value"].null_count() == 0


def test_pandas_takes_a_series(weird):
    frames = [pa.table(weird).to_pandas()]
    if hasattr(pd.DataFrame, "from_arrow"):
        frames.append(pd.DataFrame.from_arrow(weird))
    for frame in frames:
        assert frame.columns.tolist() == ["step", "time", "value"]
        assert frame["step"].tolist() == weird.step.tolist()
        np.testing.assert_array_equal(frame["value"].to_numpy(), weird.value)


def test_duckdb_takes_a_series(weird):
    with duckdb.connect() as connection:
        loss = pa.table(weird)
        rows = connection.sql("SELECT step, value FROM loss WHERE isfinite(value) ORDER BY step").fetchall()
        assert rows == [(-(2**63), 0.5), (2, 5e-324), (2**63 - 1, -0.0)]
        assert connection.from_arrow(loss).aggregate("count(*)").fetchall() == [(6,)]


def test_duckdb_scans_a_series_by_its_name(weird):
    with duckdb.connect() as connection:
        assert connection.sql("SELECT count(value), max(step) FROM weird").fetchall() == [(6, 2**63 - 1)]


@pytest.mark.parametrize("empty", [series([])])
def test_an_empty_series_is_an_empty_table(empty):
    assert pa.table(empty).num_rows == len(pl.DataFrame(empty)) == 0
    assert len(empty.resolved()) == len(empty.downsample(4)) == 0


def test_any_name_can_stand_in_the_metadata():
    table = pa.table(series([1.0], name="\ud800 é", axis="épo"))
    assert table.schema.field("value").metadata == {b"name": b"\\ud800 \xc3\xa9", b"axis": "épo".encode()}
    assert pl.DataFrame(table).shape == (1, 3)


def test_without_pyarrow_the_install_command_is_named(tmp_path):
    out, _ = run_program(
        """
        import sys
        sys.modules["pyarrow"] = None  # as where it is not installed
        import numpy as np
        import tracking_core as tracking
        series = tracking.Series("loss", "step", np.array([0]), np.array([0.0]), np.array([1.0]))
        for use in (series.to_arrow, series.__arrow_c_stream__):
            try:
                use()
            except tracking.MissingDependencyError as error:
                print(error)
        print(len(series), series.downsample(4).last)
        """,
        tmp_path,
    )
    first, second, rest = out.splitlines()
    assert first == second and "'loss'" in first and "pip install 'tracking-core[store]'" in first
    assert rest == "1 1.0"
    assert issubclass(MissingDependencyError, ImportError)


def test_reading_loads_no_arrow(tmp_path):
    out, _ = run_program(
        """
        import sys
        import tracking_core as tracking
        with tracking.start_run("p", root="runs", backends="local") as run:
            run.log_scalars({"x": 1.0}, step=0)
        record = tracking.open_store("runs").run(run.id)
        record.scalars("x").downsample(100)
        print(sorted({"pyarrow", "pandas", "polars", "duckdb"} & set(sys.modules)))
        """,
        tmp_path,
    )
    assert out.strip() == "[]"


# ---------------------------------------------------------------- fewer points


def is_part(part, whole):
    """Whether the rows of a series are rows of another, in order."""
    rows = [row.tobytes() for row in np.stack([whole.step.view(np.float64), whole.time, whole.value], axis=1)]
    found = [row.tobytes() for row in np.stack([part.step.view(np.float64), part.time, part.value], axis=1)]
    places = [rows.index(row) for row in found]
    return places == sorted(set(places))


@given(st.lists(st.floats() | st.just(math.nan), max_size=300), st.integers(4, 60))
def test_extremes_are_kept(values, n):
    whole = series(values)
    part = whole.downsample(n)
    assert len(part) == min(len(values), len(part)) <= max(n, 0)
    assert is_part(part, whole)
    assert (part.name, part.axis) == (whole.name, whole.axis)
    if len(values) <= n:
        assert part is whole
        return
    assert (part.step[0], part.step[-1]) == (whole.step[0], whole.step[-1])
    if not np.isnan(whole.value).all():
        assert np.nanmin(part.value) == np.nanmin(whole.value)
        assert np.nanmax(part.value) == np.nanmax(whole.value)


def test_every_bucket_keeps_its_extremes():
    noise = np.random.default_rng(0).normal(size=10_000)
    noise[[1234, 5678]] = 50.0, -50.0
    whole = series(noise)
    part = whole.downsample(2000)
    assert 1900 <= len(part) <= 2000
    bounds = [at * len(noise) // 999 for at in range(1000)]
    kept = set(part.step.tolist())
    for start, end in zip(bounds, bounds[1:], strict=False):
        assert {start + noise[start:end].argmin(), start + noise[start:end].argmax()} <= kept


def test_gaps_stay_visible():
    value = np.sin(np.arange(100_000) / 1000)
    value[40_000:60_000] = np.nan
    value[70_000] = np.nan
    part = series(value).downsample(500)
    assert len(part) <= 500
    assert part.step[np.isnan(part.value)].tolist() == [40_000, 70_000]
    # Gaps everywhere do not crowd out what there is.
    value = np.arange(10_000.0)
    value[::2] = np.nan
    part = series(value).downsample(100)
    assert 20 <= np.isnan(part.value).sum() <= 30
    assert (np.nanmin(part.value), np.nanmax(part.value)) == (1.0, 9999.0)


@pytest.mark.parametrize("n", [3, 0, -1, 4.0, "10", None, True, np.float64(9)])
def test_numbers_of_points_that_are_none(n):
    with pytest.raises(InvalidValueError, match="downsample: expected a number of points of 4 or more"):
        series(range(10)).downsample(n)
    assert len(series([0, 5, -5, 0, 1, 0]).downsample(np.int64(4))) == 4


# ---------------------------------------------------------------- in the store


@pytest.fixture
def record(tmp_path):
    with tracking.start_run("p", root=tmp_path / "runs", backends="local") as run:
        for step in [0, 10, 20, 30]:
            run.log_scalars({"loss": float(step)}, step=step)
        # A restart from the checkpoint of step 10.
        for step in [20, 30, 40]:
            run.log_scalars({"loss": step + 0.5, "other": 1}, step=step)
        run.log_scalars({"loss": 5.0}, step=5)
        run.log_scalars({"loss": 7, "ok": True}, step=1, step_axis="epoch")
        run.log_scalars({"ok": False}, step=2, step_axis="epoch")
        run.log_scalars({"ok": True}, step=3)
    return tracking.open_store(tmp_path / "runs").run(run.id)


def test_repeated_steps_of_a_run(record):
    assert list(record.scalars("loss")) == [(0, 0.0), (5, 5.0), (10, 10.0), (20, 20.5), (30, 30.5), (40, 40.5)]
    assert list(record.scalars("loss", raw=True)) == [
        (0, 0.0), (10, 10.0), (20, 20.0), (30, 30.0), (20, 20.5), (30, 30.5), (40, 40.5), (5, 5.0),
    ]  # fmt: skip
    assert (record.scalars("loss").last, record.scalars("loss", raw=True).last) == (40.5, 5.0)
    assert list(record.scalars("other")) == [(20, 1.0), (30, 1.0), (40, 1.0)]


def test_the_summary_has_values_as_they_were_logged(record):
    assert list(record.scalars("ok", "epoch")) == [(1, 1.0), (2, 0.0)]
    assert list(record.scalars("ok")) == [(3, 1.0)]
    assert list(record.scalars("loss", "epoch")) == [(1, 7.0)]
    summary = record.summary()
    assert (summary["loss"], summary["ok"], summary["other"]) == (7, True, 1)
    assert [type(summary[name]) for name in ("loss", "ok", "other")] == [int, bool, int]


def test_the_axes_of_scalars(record):
    assert record.scalar_axes() == {"loss": ("step", "epoch"), "ok": ("epoch", "step"), "other": ("step",)}


def test_integers_beyond_the_floats_are_infinite(tmp_path):
    """A run does not log them; a journal may hold them all the same."""
    create_run(tmp_path / "p" / "r", {"id": "r", "name": "n", "project": "p", "started": 1.0})
    writer = JournalWriter(tmp_path / "p" / "r", "r")
    for step, value in enumerate([1, -(10**400), 10**400]):
        writer.append("scalars", {"axis": "step", "step": step, "values": {"a": 0.5, "n": value, "z": 2}})
    writer.close()
    record = tracking.open_store(tmp_path).run("r")
    assert record.scalars("n").value.tolist() == [1.0, -math.inf, math.inf]
    assert record.scalars("a").value.tolist() == [0.5] * 3
    assert record.scalars("z").value.tolist() == [2.0] * 3
    assert record.summary()["n"] == 10**400


def test_lines_out_of_order_are_put_in_order(tmp_path):
    """Threads take their numbers before they write."""
    directory = tmp_path / "p" / "r"
    create_run(directory, {"id": "r", "name": "n", "project": "p", "started": 1.0})
    (directory / "journal").mkdir()
    lines = []
    for seq in [1, 3, 2, 6, 7, 5, 4]:
        values = {"x": float(seq)} if seq % 2 else {"x": float(seq), "y": 0}
        lines.append(encode_line(seq, 1, "scalars", float(seq), {"axis": "step", "step": 7, "values": values}))
    (directory / "journal" / "1-00000000-000001.jsonl").write_bytes(b"".join(lines))
    record = tracking.open_store(tmp_path).run("r")
    raw = record.scalars("x", raw=True)
    assert raw.value.tolist() == raw.time.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert list(record.scalars("x")) == [(7, 7.0)]
    assert record.summary() == {"x": 7.0, "y": 0}
