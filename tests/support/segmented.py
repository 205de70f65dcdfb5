"""Runs whose journals have several segments, and what is compared of them before and after a compaction."""

from __future__ import annotations

import math

import numpy as np

import tracking_core as tracking
from tracking_core.intake.local_adapter import LocalTracker
from tracking_core.store import RunRecord

START = 1_764_000_000.0


def record(root, run_id="r", rows=400, limit=4000, *, end=True):
    """A run of several segments, with scalars of all kinds and everything else."""
    info = tracking.RunInfo(id=run_id, name=run_id, project="p", config={"lr": 0.1}, started=START)
    tracker = LocalTracker(root, info)
    generator = np.random.default_rng(0)
    for step in range(rows):
        values = {f"m{index}": float(np.float32(generator.normal())) for index in range(4)}
        tracker.log_scalars(values, step=step, wall_time=START + step / 7)
        if step % 50 == 0:
            tracker.log_scalars(
                {"epoch/loss": step / 3}, step=step // 50, step_axis="epoch", wall_time=START + step / 7
            )
            tracker.log_text("note", f"at {step}", step=step, wall_time=START + step / 7)
        tracker.journal.rotate(limit)
    odd = {"nan": math.nan, "inf": -math.inf, "int": 2**53, "flag": True, "zero": -0.0}
    tracker.log_scalars(odd, step=-5, wall_time=START)
    tracker.log_scalars({"huge": 2**80, "int": 3}, step=1, wall_time=START)
    tracker.log_scalars({"late": 1.0}, step=2**62, wall_time=9.2e9)
    tracker.log_images({"img": np.arange(48, dtype=np.uint8).reshape(4, 4, 3)}, step=1)
    tracker.log_histogram("h", np.arange(100.0), step=1)
    tracker.log_summary({"best": 0.5})
    tracker.log_config({"depth": 3})
    tracker.journal.rotate(1 << 40)
    if end:
        tracker.finish()
    return root / "p" / run_id


def exact(event):
    """What an event says, types of numbers included; not its `low`."""
    fields = {key: repr(value) for key, value in event.fields.items() if key != "values"}
    values = {name: (type(value), repr(value)) for name, value in event.fields.get("values", {}).items()}
    return event.writer, event.seq, event.kind, event.time, fields, values


def files(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def journals(directory):
    return sorted(path.name for path in (directory / "journal").glob("*.jsonl"))


def everything(directory):
    run = RunRecord(directory)
    series = {}
    for name in run.scalar_names():
        one = run.scalars(name, raw=True)
        series[name] = (one.axis, one.step.tolist(), one.time.tolist(), one.value.tobytes())
    other = (
        run.status,
        run.config,
        run.names("text"),
        run.media("text", "note"),
        run.image_names(),
        run.names("histogram"),
    )
    return series, {name: repr(value) for name, value in run.summary().items()}, repr(other)
