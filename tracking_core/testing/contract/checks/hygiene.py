"""Hygiene: the adapter leaves its inputs, the process and the machine as they were."""

from __future__ import annotations

import contextlib
import copy
import decimal
import locale
import logging
import os
import random
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tracking_core.testing.contract.comparing import Row, require_rows, same_pixels
from tracking_core.testing.contract.registry import check
from tracking_core.testing.fake.records import same

if TYPE_CHECKING:
    from tracking_core.testing.contract.context import Context

_GRACE = 10.0
_RUNS = 6


def _inputs() -> dict[str, Any]:
    return {
        "scalars": {"train": {"loss": np.array(0.5), "nested": {"lr": np.float32(0.25)}}, "plain": 1.0},
        "images": {
            "bytes": np.arange(48, dtype=np.uint8).reshape(4, 4, 3),
            "floats": np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4),
            "list": [np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8)],
        },
        "histogram": np.array([[3.0, 1.0], [np.nan, 2.0]]),
        "ready": (np.array([1, 2]), np.array([0.0, 1.0, 2.0])),
        "files": {"a.bin": b"a", "b/c.bin": b"c"},
        "metadata": {"nested": {"list": [3, 1, 2]}},
        "aliases": ["z", "a"],
        "config": {"model": {"layers": [3, 1, 2]}, "lr": 0.1},
    }


def _use(ctx: Context, tracker: Any, inputs: dict[str, Any]) -> None:
    """Use every method the adapter declares once."""
    tracker.log_scalars(inputs["scalars"], step=1)
    if ctx.supports("images"):
        tracker.log_images(inputs["images"], step=1)
    if ctx.supports("histograms"):
        tracker.log_histogram("values", inputs["histogram"], step=1)
        tracker.log_histogram("ready", inputs["ready"], step=1)
    if ctx.supports("artifacts"):
        tracker.log_artifact(inputs["files"], name="files", metadata=inputs["metadata"], aliases=inputs["aliases"])
    if ctx.supports("config"):
        tracker.log_config(inputs["config"])


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        return np.array_equal(left, right, equal_nan=np.asarray(left).dtype.kind == "f")
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(_same, left, right))
    return same(left, right)


@check("hygiene.inputs_not_mutated")
def inputs_not_mutated(ctx: Context) -> None:
    """Arrays, mappings and lists are the same after a call as before it.

    The loop continues to use them. If this fails, look for `pop`, `sort`, `*=` and for keys that are added.
    """
    inputs = _inputs()
    before = copy.deepcopy(inputs)
    with ctx.tracker(ctx.new_run(config=inputs["config"])) as tracker:
        _use(ctx, tracker, inputs)
    for name, value in before.items():
        ctx.require(_same(inputs[name], value), f"{name}: was {value!r:.200}, and is now {inputs[name]!r:.200}")


@check("hygiene.inputs_copied")
def inputs_copied(ctx: Context) -> None:
    """A change of the input after the call does not change the stored value.

    Buffers are reused for the next step. If this fails, copy (`to_image_mapping(…, copy=True)`) or encode before
    the call returns.
    """
    run = ctx.new_run()
    loss = np.array([0.5])
    scalars: dict[str, Any] = {"loss": loss, "plain": 0.25}
    pixels = np.full((4, 4, 3), 7, np.uint8)
    values = np.array([1.0, 2.0, 3.0])
    with ctx.tracker(run) as tracker:
        tracker.log_scalars(scalars, step=1)
        loss[:] = 9.0
        scalars["plain"] = 9.0
        if ctx.supports("images"):
            tracker.log_images({"pixels": pixels}, step=1)
            pixels[:] = 255
        if ctx.supports("histograms"):
            tracker.log_histogram("values", values, step=1)
            values[:] = 100.0
    require_rows(ctx, run, [Row("loss", "step", 1, 0.5), Row("plain", "step", 1, 0.25)])
    if ctx.supports("images"):
        stored = [one.pixels for one in ctx.images(run)]
        ctx.require(
            len(stored) == 1 and same_pixels(stored[0], np.full((4, 4, 3), 7, np.uint8)),
            "the image changed with the array after the call",
        )
    if ctx.supports("histograms"):
        edges = ctx.histograms(run)[0].value.edges
        ctx.require(edges[0] == 1.0 and edges[-1] == 3.0, "the histogram changed with the array after the call")


def _state() -> dict[str, Any]:
    """What belongs to the process, not to an adapter."""
    root = logging.getLogger()
    return {
        "random state": random.getstate(),
        "numpy's random state": tuple(map(repr, np.random.get_state(legacy=True))),  # noqa: NPY002 - the global one
        "working directory": str(Path.cwd()),
        "environment": dict(os.environ),
        "signal handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "warning filters": list(warnings.filters),
        "showwarning": warnings.showwarning,
        "handlers of the root logger": list(root.handlers),
        "level of the root logger": root.level,
        "locale": locale.setlocale(locale.LC_ALL),
        "numpy's errstate": np.geterr(),
        "numpy's print options": repr(np.get_printoptions()),
        "decimal context": repr(decimal.getcontext()),
        "sys.stdout and sys.stderr": (sys.stdout, sys.stderr),
        "sys.excepthook": sys.excepthook,
        "sys.path": list(sys.path),
        "threading.excepthook": threading.excepthook,
        "socket timeout": socket.getdefaulttimeout(),
    }


@contextlib.contextmanager
def _elsewhere(directory: Path) -> Generator[None]:
    """A directory and random states that the first run has not seen, so that setting them again shows."""
    here, state, numpy_state = Path.cwd(), random.getstate(), np.random.get_state()  # noqa: NPY002 - the global one
    try:
        os.chdir(directory)
        random.seed()
        np.random.seed()  # noqa: NPY002
        yield
    finally:
        os.chdir(here)
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002


@check("hygiene.global_state_untouched", main_thread=True)
def global_state_untouched(ctx: Context) -> None:
    """A run leaves the process as it found it: random states, directory, environment, handlers, filters, streams.

    Training depends on them. A first run comes before the comparison, so that side effects of imports do not count. If
    this fails, undo in `finish` the changes of `open_tracker`, or do not make them.
    """
    with ctx.tracker(ctx.new_run()) as tracker:
        _use(ctx, tracker, _inputs())
    with _elsewhere(ctx.directory):
        before = _state()
        with ctx.tracker(ctx.new_run()) as tracker:
            _use(ctx, tracker, _inputs())
        after = _state()
    for what, value in before.items():
        if after[what] == value:
            continue
        changes = ""
        if isinstance(value, dict):
            keys = [key for key in {**value, **after[what]} if value.get(key) != after[what].get(key)]
            changes = f" ({', '.join(map(str, keys))})"
        ctx.fail(f"the run changed the {what}{changes}")


@check("hygiene.no_threads_left")
def no_threads_left(ctx: Context) -> None:
    """No thread that keeps the process alive is left when the run is finished.

    A program would never end. If this fails, join your threads in `finish`, or make them daemons.
    """
    before = set(threading.enumerate())
    with ctx.tracker(ctx.new_run()) as tracker:
        _use(ctx, tracker, _inputs())
    deadline = time.monotonic() + min(_GRACE, ctx.harness.call_limit)
    left = _strangers(before)
    while left and time.monotonic() < deadline:
        left[0].join(0.1)
        left = _strangers(before)
    ctx.require(not left, f"these threads are left: {', '.join(thread.name for thread in left)}")


def _strangers(before: set[threading.Thread]) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]


@check("hygiene.no_files_left_open")
def no_files_left_open(ctx: Context) -> None:
    """Opening and finishing runs does not use up file descriptors.

    A sweep opens hundreds. If this fails, close files and sockets in `finish`.
    """
    place = next((path for path in (Path("/proc/self/fd"), Path("/dev/fd")) if path.is_dir()), None)
    if place is None:
        ctx.skip("this system does not show which files are open")
    with ctx.tracker(ctx.new_run()) as tracker:
        _use(ctx, tracker, _inputs())
    before = len(list(place.iterdir()))
    for _ in range(_RUNS):
        with ctx.tracker(ctx.new_run()) as tracker:
            _use(ctx, tracker, _inputs())
    after = len(list(place.iterdir()))
    deadline = time.monotonic() + min(_GRACE, ctx.harness.call_limit)
    while after - before > _RUNS // 2 and time.monotonic() < deadline:
        # Some clients close in the background; one file a run would be a leak all the same.
        threading.Event().wait(0.1)
        after = len(list(place.iterdir()))
    ctx.require(after - before <= _RUNS // 2, f"{_RUNS} runs left {after - before} more files open")
