"""The W&B adapter in a test: opening it directly, and records as a worker would deliver them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import tracking_core as tracking
from tracking_core.backends.plugins import find_adapter
from tracking_core.backends.targets import parse_target

if TYPE_CHECKING:
    from pathlib import Path

LEAN = "system_metrics=off"


def open_run(directory: Path, run_id: str, options: str = "mode=offline", **info: Any) -> Any:
    """Open a tracker; `info` is for `RunInfo`, whose state may be passed on to a second opening."""
    info = {"name": run_id, **info}
    return open_target(f"wandb://?dir={directory}&{LEAN}&{options}", tracking.RunInfo(id=run_id, **info))


def open_target(target: str, run: tracking.RunInfo) -> Any:
    adapter = find_adapter("wandb")
    parsed = replace(parse_target(target), named=True)
    adapter.check_target(parsed)
    return adapter.open(parsed, run)


def scalar(seq: int, writer: str = "w1", **more: Any) -> tracking.Record:
    """The record of one number, which says where it belongs."""
    fields = {"step": seq * 10, "data": {"loss": seq / 4}, **more}
    return tracking.Record("scalars", seq, writer, 1.7e9 + seq, **fields)
