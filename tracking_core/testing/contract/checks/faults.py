"""Faults: bad values are refused by name, calls return, and later calls are stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tracking_core.errors import InvalidStepError, InvalidValueError
from tracking_core.testing.contract.comparing import Row, require_rows
from tracking_core.testing.contract.registry import check
from tracking_core.testing.contract.watching import run_calls_within

if TYPE_CHECKING:
    from tracking_core.testing.contract.context import Context


class _Hostile:
    """An object that breaks whoever looks at it as a number."""

    shape = (1,)
    dtype = "float32"

    def __array__(self, *_args: object, **_keywords: object) -> Any:
        raise RuntimeError("this object cannot be read")

    def __float__(self) -> float:
        raise RuntimeError("this object cannot be read")


@check("faults.bad_scalar_raises")
def bad_scalar_raises(ctx: Context) -> None:
    """A value that is not a number raises `InvalidValueError` with the key, and later calls are stored.

    In a run the value is dropped and counted; a guess would be stored as a real value. If this fails, pass the values
    through `tracking_core.values.to_scalars`.
    """
    run = ctx.new_run()
    bad: dict[str, Any] = {
        "text": "0.5",
        "none": None,
        "object": object(),
        "two": np.zeros(2),
        "nothing": np.zeros(0),
        "complex": 1j,
        "list": [0.5],
        "hostile": _Hostile(),
    }
    with ctx.tracker(run) as tracker:
        tracker.log_scalars({"loss": 0.5}, step=1)
        for name, value in bad.items():
            error = ctx.raises(
                InvalidValueError, f"a scalar that is {name}", tracker.log_scalars, {f"bad/{name}": value}, step=2
            )
            ctx.require(f"bad/{name}" in str(error), f"the error does not name the key 'bad/{name}': {error}")
        ctx.raises(InvalidValueError, "a number in place of a mapping", tracker.log_scalars, 0.5, step=2)
        tracker.log_scalars({"loss": 0.25}, step=3)
    require_rows(ctx, run, [Row("loss", "step", 1, 0.5), Row("loss", "step", 3, 0.25)])


@check("faults.bad_step_raises")
def bad_step_raises(ctx: Context) -> None:
    """A value that is not a step raises `InvalidStepError`, and later calls are stored.

    If this fails, pass steps through `tracking_core.values.to_step`, and axes through `to_axis`.
    """
    run = ctx.new_run()
    bad: dict[str, Any] = {"None": None, "text": "3", "a fraction": 0.5, "NaN": float("nan"), "too large": 2**63}
    with ctx.tracker(run) as tracker:
        for name, step in bad.items():
            ctx.raises(InvalidStepError, f"a step that is {name}", tracker.log_scalars, {"loss": 1.0}, step=step)
        ctx.raises(InvalidStepError, "an empty axis", tracker.log_scalars, {"loss": 1.0}, step=1, step_axis="")
        tracker.log_scalars({"loss": 0.25}, step=3)
    require_rows(ctx, run, [Row("loss", "step", 3, 0.25)])


@check("faults.bad_image_raises", needs=("images",))
def bad_image_raises(ctx: Context) -> None:
    """A value that is not an image raises `InvalidValueError`, and later calls are stored.

    If this fails, pass the values through `tracking_core.values.to_image_mapping`.
    """
    run = ctx.new_run()
    bad: dict[str, Any] = {
        "channels first": np.zeros((3, 8, 8)),
        "out of range": np.full((4, 4), 200.0),
        "a line": np.zeros(5),
        "NaN": np.full((4, 4), np.nan),
        "text": "image.png",
        "empty": np.zeros((0, 4, 3), np.uint8),
        "an empty list": [],
    }
    with ctx.tracker(run) as tracker:
        for name, value in bad.items():
            ctx.raises(InvalidValueError, f"an image that is {name}", tracker.log_images, {"bad": value}, step=1)
        tracker.log_images({"good": np.zeros((2, 2), np.uint8)}, step=2)
    ctx.require(any(one.name == "good" for one in ctx.images(run)), "the image after the bad ones is missing")


@check("faults.bad_histogram_raises", needs=("histograms",))
def bad_histogram_raises(ctx: Context) -> None:
    """Values that are not numbers raise `InvalidValueError`, and later calls are stored.

    If this fails, pass the values through `tracking_core.values.to_histogram`.
    """
    run = ctx.new_run()
    bad: dict[str, Any] = {"text": "weights", "complex": np.zeros(3, complex), "None": None, "hostile": _Hostile()}
    with ctx.tracker(run) as tracker:
        for name, value in bad.items():
            ctx.raises(InvalidValueError, f"values that are {name}", tracker.log_histogram, "bad", value, step=1)
        ctx.raises(InvalidValueError, "no bins", tracker.log_histogram, "bad", [1.0, 2.0], step=1, bins=0)
        tracker.log_histogram("good", [1.0, 2.0], step=2)
    ctx.require(any(one.name == "good" for one in ctx.histograms(run)), "the histogram after the bad ones is missing")


@check("faults.bad_artifact_raises", needs=("artifacts",))
def bad_artifact_raises(ctx: Context) -> None:
    """A missing file, an empty artifact and a path that leads outside raise `InvalidValueError`; others are stored.

    Names come from users: "../x" must not write beside the store. If this fails, list the files with
    `tracking_core.values.artifact_files`.
    """
    run = ctx.new_run()
    bad: dict[str, Any] = {
        "a missing file": ctx.directory / "no-such-file",
        "outside": {"../up": b""},
        "absolute": {"/etc/x": b""},
        "empty": {},
        "a number": 3,
    }
    with ctx.tracker(run) as tracker:
        for name, value in bad.items():
            ctx.raises(InvalidValueError, f"an artifact that is {name}", tracker.log_artifact, value, name="bad")
        tracker.log_artifact({"file": b"1"}, name="good")
    ctx.require(any(one.name == "good" for one in ctx.artifacts(run)), "the artifact after the bad ones is missing")


@check("faults.returns_in_time")
def returns_in_time(ctx: Context) -> None:
    """Every call returns within `AdapterHarness.call_limit` seconds, in a burst of 400 calls too.

    A worker that waits forever delivers nothing more. If this fails, give every wait on the backend a limit, and raise
    `RetryLater` when it is over.
    """
    run = ctx.new_run()
    opened: list[Any] = []

    def tracker() -> Any:
        return opened[0]

    calls: list[tuple[str, Callable[[], object]]] = [("open_tracker", lambda: opened.append(ctx.open(run)))]
    calls += [
        (f"log_scalars at step {step}", lambda step=step: tracker().log_scalars({"loss": 0.5}, step=step))
        for step in range(400)
    ]
    if ctx.supports("images"):
        calls.append(("log_images", lambda: tracker().log_images({"x": np.zeros((8, 8, 3), np.uint8)}, step=1)))
    if ctx.supports("histograms"):
        calls.append(("log_histogram", lambda: tracker().log_histogram("x", np.arange(100.0), step=1)))
    if ctx.supports("artifacts"):
        calls.append(("log_artifact", lambda: tracker().log_artifact({"x": b"x"}, name="x")))
    if ctx.supports("flush"):
        calls.append(("flush", lambda: tracker().flush()))
    calls.append(("finish", lambda: tracker().finish()))
    run_calls_within(calls, ctx.harness.call_limit, "contract calls")
