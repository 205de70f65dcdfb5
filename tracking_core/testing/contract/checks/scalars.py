"""Scalars: every number that was logged comes back, once, under its name."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tracking_core.base.text import counted
from tracking_core.testing.contract.comparing import (
    Row,
    extra_rows,
    listed,
    require_rows,
    rounded,
    rows_of,
    same_time,
)
from tracking_core.testing.contract.registry import check

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracking_core.testing.contract.context import Context

#: Names that are legal, and that something or other chokes on.
HOSTILE_NAMES = (
    "",
    " ",
    "a",
    "A",
    "a b",
    " padded ",
    "a/b/c",
    "/",
    "a//b",
    "/a",
    "a/",
    "../../up",
    "..",
    "a\\b",
    "C:\\x",
    "a.b",
    ".a",
    "a:b",
    "a,b",
    'say "a"',
    "it's",
    "a=b&c?d#e",
    "100%",
    "%2F",
    "{a}[0]",
    "*",
    "~",
    "-a",
    "_a",
    "_step",
    "_timestamp",
    "__x41",
    "step",
    "new\nline",
    "carriage\rreturn",
    "tab\t",
    "nul\0",
    "escape\x1b[31m",
    "größe",
    "gro\u0308ße",
    "損失",
    "🙂",
    "\ud800",
    "NaN",
    "null",
    "con",
    "x" * 500,
    "x" * 499 + "y",
)


@check("scalars.round_trip")
def round_trip(ctx: Context) -> None:
    """Numbers come back as they were logged: name, axis, step and value.

    The first thing an adapter has to do. If this fails, begin here: log one number, and read it with the harness.
    """
    run = ctx.new_run()
    logged: list[Mapping[str, float]] = [
        {"train/loss": 0.5, "train/accuracy": 0.25, "lr": 0.0009765625},
        {"train/loss": 0.0, "train/accuracy": 1.0},
        {"train/loss": -1234.5, "large": 1.5 * 2.0**80, "small": 2.0**-80},
    ]
    with ctx.tracker(run) as tracker:
        for step, values in enumerate(logged):
            tracker.log_scalars(values, step=step)
    require_rows(
        ctx, run, [_row(name, step, value) for step, values in enumerate(logged) for name, value in values.items()]
    )


@check("scalars.nonfinite_kept")
def nonfinite_kept(ctx: Context) -> None:
    """NaN and both infinities come back as such, and so do the numbers beside them.

    Users look for a loss that became NaN. If this fails, look at the format: JSON has no NaN.
    """
    run = ctx.new_run()
    values = {"nan": math.nan, "up": math.inf, "down": -math.inf, "fine": 0.5}
    with ctx.tracker(run) as tracker:
        tracker.log_scalars(values, step=7)
        tracker.log_scalars({"nan": 1.0}, step=8)
    require_rows(ctx, run, [*(_row(name, 7, value) for name, value in values.items()), _row("nan", 8, 1.0)])


@check("scalars.integers_kept")
def integers_kept(ctx: Context) -> None:
    """Integers that fit into the precision come back.

    Counts of tokens are large. If this fails, look for a conversion to int32, or to text.
    """
    run = ctx.new_run()
    values = {"zero": 0, "negative": -3, "int32": 2**24, "beyond": 2**40, "exact": 2**53, "down": -(2**53)}
    with ctx.tracker(run) as tracker:
        tracker.log_scalars(values, step=0)
    require_rows(ctx, run, [_row(name, 0, float(value)) for name, value in values.items()])


@check("scalars.booleans_kept")
def booleans_kept(ctx: Context) -> None:
    """True comes back as 1, False as 0.

    If this fails, convert the result of `to_scalars` with `float`.
    """
    run = ctx.new_run()
    with ctx.tracker(run) as tracker:
        tracker.log_scalars({"yes": True, "no": False, "array": np.bool_(True)}, step=0)
    require_rows(ctx, run, [_row("yes", 0, 1.0), _row("no", 0, 0.0), _row("array", 0, 1.0)])


@check("scalars.arrays_of_size_one")
def arrays_of_size_one(ctx: Context) -> None:
    """Arrays of size 1, of every real dtype of numpy and any shape, are numbers.

    Metrics come out of array code. If this fails, pass the values through `tracking_core.values.to_scalars`.
    """
    run = ctx.new_run()
    values: dict[str, Any] = {
        dtype: np.dtype(dtype).type(3)
        for dtype in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
    }
    values |= {dtype: np.dtype(dtype).type(0.5) for dtype in ("float16", "float32", "float64")}
    values |= {"0-d": np.array(0.5), "1-d": np.array([0.5]), "3-d": np.full((1, 1, 1), 0.5, np.float32)}
    with ctx.tracker(run) as tracker:
        tracker.log_scalars(values, step=1)
    require_rows(ctx, run, [_row(name, 1, float(np.reshape(value, ()))) for name, value in values.items()])


@check("scalars.small_floats")
def small_floats(ctx: Context) -> None:
    """bfloat16, float8 and int4 numbers are kept exactly.

    JAX models compute in them. If this fails, pass the values through `tracking_core.values.to_scalars`.
    """
    try:
        import ml_dtypes
    except ImportError:
        ctx.skip("ml_dtypes is not installed")
    run = ctx.new_run()
    names = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "int4")
    values = {name: np.asarray(1.5 if "float" in name else -3).astype(getattr(ml_dtypes, name)) for name in names}
    with ctx.tracker(run) as tracker:
        tracker.log_scalars(values, step=0)
    require_rows(ctx, run, [_row(name, 0, float(value)) for name, value in values.items()])


@check("scalars.nested_names")
def nested_names(ctx: Context) -> None:
    """Nested mappings are joined with "/".

    If this fails, pass the values through `tracking_core.values.to_scalars`.
    """
    run = ctx.new_run()
    with ctx.tracker(run) as tracker:
        tracker.log_scalars({"train": {"loss": 0.5, "grad": {"norm": 2.0}}, "lr": 0.25}, step=4)
    require_rows(ctx, run, [_row("train/loss", 4, 0.5), _row("train/grad/norm", 4, 2.0), _row("lr", 4, 0.25)])


@check("scalars.many_names_at_once")
def many_names_at_once(ctx: Context) -> None:
    """Several hundred names in one call are all stored.

    Statistics of every layer have this form. If this fails, look for a limit of the backend, and split the call.
    """
    run = ctx.new_run()
    values = {f"layers/{number:03d}/norm": number / 8 for number in range(500)}
    with ctx.tracker(run) as tracker:
        tracker.log_scalars(values, step=2)
    require_rows(ctx, run, [_row(name, 2, value) for name, value in values.items()])


@check("scalars.nothing_dropped")
def nothing_dropped(ctx: Context) -> None:
    """A burst of 250 calls is stored to the last row.

    Queues overflow, samplers thin out, the last buffer is forgotten. If this fails, look at how `finish` handles
    buffered rows, and for queues that drop rows.
    """
    run = ctx.new_run()
    with ctx.tracker(run) as tracker:
        for step in range(250):
            tracker.log_scalars({"loss": step / 4, "lr": 0.5}, step=step)
    expected = [row for step in range(250) for row in (_row("loss", step, step / 4), _row("lr", step, 0.5))]
    require_rows(ctx, run, expected)


@check("scalars.nothing_duplicated")
def nothing_duplicated(ctx: Context) -> None:
    """Every stored row was logged, and none is stored more often than it was logged.

    If this fails, look for retries that repeat rows that had arrived, and for buffers that are written twice.
    """
    run = ctx.new_run()
    expected = [_row("loss", step // 2, float(step)) for step in range(100)]
    with ctx.tracker(run) as tracker:
        for row in expected:
            tracker.log_scalars({row.name: row.value}, step=row.step)
            if row.step % 25 == 24 and ctx.supports("flush"):
                tracker.flush()
    extra = extra_rows(rows_of(ctx.scalars(run)), expected, ctx.info.precision)
    ctx.require(not extra, f"{counted(len(extra), 'row')} not logged, or there too often: {listed(extra)}")


@check("scalars.precision_as_declared")
def precision_as_declared(ctx: Context) -> None:
    """Numbers come back exactly, or as rounded as `AdapterInfo.precision` says.

    Users who compare runs to the last digit must know it. If this fails, store 64 bits, or declare
    `precision="float32"`.
    """
    run = ctx.new_run()
    values = {
        "tenth": 0.1,
        "third": -1 / 3,
        "pi": math.pi,
        "odd": float(2**24 + 1),
        "count": float(2**53 - 1),
        "near one": 1.0 + 2.0**-52,
        "learning rate": 3e-4,
    }
    if ctx.info.precision == "float64":
        values |= {"tiny": 5e-324, "huge": 1.7976931348623157e308}
    with ctx.tracker(run) as tracker:
        tracker.log_scalars(values, step=0)
    stored = {row.name: row.value for row in rows_of(ctx.scalars(run))}
    for name, value in values.items():
        expected = rounded(value, ctx.info.precision)
        ctx.require(name in stored, f"{name!r} is missing")
        ctx.require(
            stored[name] == expected,
            f"the adapter declares {ctx.info.precision}, but {value!r} came back as {stored[name]!r}, "
            f"expected {expected!r}",
        )


@check("scalars.hostile_names")
def hostile_names(ctx: Context) -> None:
    """Any str is a name, no two names collide, and the original comes back.

    Names are made from user input, paths and layer names. If this fails, encode names with an `Encoding` of
    `tracking_core.naming` that fits the backend, and decode them in the harness.
    """
    run = ctx.new_run()
    values = {name: number / 2 for number, name in enumerate(HOSTILE_NAMES)}
    with ctx.tracker(run) as tracker:
        tracker.log_scalars(values, step=3)
        for name, value in values.items():
            tracker.log_scalars({name: value + 0.25}, step=4)
    expected = [_row(name, 3, value) for name, value in values.items()]
    expected += [_row(name, 4, value + 0.25) for name, value in values.items()]
    require_rows(ctx, run, expected)


@check("scalars.wall_time_kept")
def wall_time_kept(ctx: Context) -> None:
    """The time that is passed as `wall_time` is stored, in any order of times.

    Records that are delivered late, or copied from another store, keep their time. If this fails, pass `wall_time` to
    the backend, or declare `stores_wall_time=False`.
    """
    if not ctx.info.stores_wall_time:
        ctx.skip("the adapter does not keep the time of a record (AdapterInfo.stores_wall_time)")
    run = ctx.new_run()
    moments = [1_600_000_000.25, 1_600_000_001.123456, 1_500_000_000.5, 1_600_000_000.25]
    with ctx.tracker(run) as tracker:
        for step, moment in enumerate(moments):
            tracker.log_scalars({"loss": float(step)}, step=step, wall_time=moment)
    stored = {one.step: one.time for one in ctx.scalars(run) if one.name == "loss"}
    for step, moment in enumerate(moments):
        ctx.require(step in stored, f"the row of step {step} is missing")
        ctx.require(same_time(stored[step], moment), f"wall_time={moment!r} came back as {stored[step]!r}")


def _row(name: str, step: int, value: float) -> Row:
    return Row(name, "step", step, value)
