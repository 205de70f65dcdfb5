"""Steps: they belong to metrics, on any axis, and in any order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracking_core.testing.contract.comparing import Row, listed, require_rows, rows_of
from tracking_core.testing.contract.registry import check

if TYPE_CHECKING:
    from tracking_core.testing.contract.context import Context


@check("steps.order_kept")
def order_kept(ctx: Context) -> None:
    """Under each name, rows are in the order in which they were logged, also where steps repeat or go back.

    Of two values at one step the later one counts. If this fails, do not sort by step, and write from one thread.
    """
    run = ctx.new_run()
    steps = [5, 6, 6, 2, 7, 6, 8, 0, 9]
    with ctx.tracker(run) as tracker:
        for number, step in enumerate(steps):
            tracker.log_scalars({"loss": float(number), "lr": number / 2}, step=step)
    stored = rows_of(ctx.scalars(run))
    for name, scale in (("loss", 1.0), ("lr", 0.5)):
        logged = [Row(name, "step", step, number * scale) for number, step in enumerate(steps)]
        # What is missing, or there twice, is for other checks to say.
        found = list(dict.fromkeys(row for row in stored if row in logged))
        expected = [row for row in logged if row in found]
        ctx.require(found == expected, f"logged in the order {listed(expected)}, stored in the order {listed(found)}")


@check("steps.repeated_kept")
def repeated_kept(ctx: Context) -> None:
    """A step that is logged again adds a row: other names at the same step, and the same name once more.

    Loops log training and evaluation at one step. If this fails, the backend merges or overwrites by step.
    """
    run = ctx.new_run()
    with ctx.tracker(run) as tracker:
        tracker.log_scalars({"loss": 0.5}, step=3)
        tracker.log_scalars({"eval": 0.25}, step=3)
        tracker.log_scalars({"loss": 0.125}, step=3)
        tracker.log_scalars({"loss": 0.125}, step=3)
    expected = [("loss", 0.5), ("eval", 0.25), ("loss", 0.125), ("loss", 0.125)]
    require_rows(ctx, run, [Row(name, "step", 3, value) for name, value in expected])


@check("steps.backward_kept")
def backward_kept(ctx: Context) -> None:
    """A step lower than those before is stored at that step.

    Late evaluations and restarts from a checkpoint go back. If this fails, the backend counts on one global clock:
    pass the step as a value, or use a clock per name.
    """
    run = ctx.new_run()
    steps = [100, 50, 101, 0, 102]
    with ctx.tracker(run) as tracker:
        for step in steps:
            tracker.log_scalars({"loss": step / 2}, step=step)
    require_rows(ctx, run, [Row("loss", "step", step, step / 2) for step in steps])


@check("steps.large_and_negative")
def large_and_negative(ctx: Context) -> None:
    """Steps beyond 32 bits, and steps below zero, are kept.

    Steps count tokens and samples, too. If this fails, look for 32-bit integers and for text.
    """
    run = ctx.new_run()
    steps = [-5, 0, 2**31, 2**32 + 1, 2**40, 2**40 + 1]
    with ctx.tracker(run) as tracker:
        for number, step in enumerate(steps):
            tracker.log_scalars({"loss": float(number)}, step=step)
    require_rows(ctx, run, [Row("loss", "step", step, float(number)) for number, step in enumerate(steps)])


@check("steps.array_as_step")
def array_as_step(ctx: Context) -> None:
    """A 0-d integer array, or a numpy integer, is a step.

    Train states have such a step. If this fails, use `tracking_core.values.to_step`.
    """
    run = ctx.new_run()
    with ctx.tracker(run) as tracker:
        tracker.log_scalars({"loss": 0.5}, step=np.int64(3))
        tracker.log_scalars({"loss": 0.25}, step=np.array(4, np.int32))
    require_rows(ctx, run, [Row("loss", "step", 3, 0.5), Row("loss", "step", 4, 0.25)])


@check("steps.axes_kept")
def axes_kept(ctx: Context) -> None:
    """Values keep their step and their axis: small epochs after large steps, one name on two axes, odd axis names.

    The axis is half of what a step means. If this fails, store the axis beside the step, and do not let the clock of
    one axis refuse values of another.
    """
    run = ctx.new_run()
    expected: list[Row] = []
    with ctx.tracker(run) as tracker:

        def log(name: str, value: float, step: int, axis: str) -> None:
            tracker.log_scalars({name: value}, step=step, step_axis=axis)
            expected.append(Row(name, axis, step, value))

        for epoch in range(3):
            log("train/loss", 0.5 + epoch, 1000 * (epoch + 1), "step")
            log("eval/loss", 0.25 + epoch, epoch, "epoch")
        log("loss", 8.0, 2000, "step")
        log("loss", 4.0, 1, "epoch")
        log("loss", 2.0, 2001, "step")
        log("tokens", 1.0, 2**33, "tokens seen/total")
        log("odd", 0.5, 7, 'größe: "x".y\n')
    require_rows(ctx, run, expected)


@check("steps.scalar_named_like_an_axis")
def scalar_named_like_an_axis(ctx: Context) -> None:
    """A scalar may have the name of an axis, its own or another one's, and keeps its value.

    Loops log `epoch` and `step` as numbers. If this fails, the column of the axis and the scalar share a name:
    keep axes under names that no scalar can have.
    """
    run = ctx.new_run()
    with ctx.tracker(run) as tracker:
        tracker.log_scalars({"epoch": 0.5, "step": 40.0, "loss": 1.0}, step=4)
        tracker.log_scalars({"epoch": 2.5, "step": 41.0}, step=2, step_axis="epoch")
        tracker.log_scalars({"epoch": 3.5}, step=5)
    expected = [("epoch", 4, 0.5), ("step", 4, 40.0), ("loss", 4, 1.0), ("epoch", 2, 2.5), ("step", 2, 41.0)]
    rows = [Row(name, "", step, value) for name, step, value in [*expected, ("epoch", 5, 3.5)]]
    # Which axis they are on is for axes_kept to say.
    require_rows(ctx, run, rows, axes=False)
