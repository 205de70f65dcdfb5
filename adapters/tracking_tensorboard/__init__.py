"""The TensorBoard backend of tracking-core: runs as real event files.

`TRACKING_BACKEND=tensorboard:./tb` writes each run into a directory of its name below `./tb`; look at them with
`tensorboard --logdir ./tb`. Importing this package imports no backend: tensorboardX is loaded when a run is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracking_core import AdapterInfo, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tracking_core import Finding, ForeignRun, RunInfo, Target, Tracker

_OPTIONS = {
    "hparams": "on (default): the configuration is a row of the HParams tab; off: it is shown as text only",
    "layout": "flat (default): the tag of a value is its name; scoped: train/loss and val/loss are the tag loss in the "
    "sub-runs train and val, and are drawn in one chart",
}
_CAPABILITIES = frozenset(
    {
        "scalars",
        "images",
        "histograms",
        "artifacts",
        "tables",
        "video",
        "audio",
        "text",
        "figures",
        "html",
        "config",
        "summary",
        "flush",
        "resume",
    }
)


@hookimpl
def tracking_adapter() -> AdapterInfo:
    """What this adapter is."""
    return AdapterInfo(
        name="tensorboard",
        api_version=1,
        capabilities=_CAPABILITIES,
        options=_OPTIONS,
        extra="tracking-core[tensorboard]",
        requires=("tensorboardX", "crc32c"),
        precision="float32",
        guarantee="exactly once",
        replaces="in place",
        description="event files for TensorBoard",
    )


@hookimpl
def open_tracker(target: Target, run: RunInfo) -> Tracker:
    """Open the event file of a run; continue it where its last confirmed record ended."""
    from tracking_tensorboard.tracker import open_run

    return open_run(target, run)


@hookimpl
def check_target(target: Target) -> None:
    """Refuse a host where a directory was meant, values that an option does not take, and places that are none."""
    from tracking_tensorboard.checking import check

    check(target)


@hookimpl
def target_place(target: Target, run: RunInfo) -> str:
    """The log directory and the layout: one place under all its names."""
    from tracking_tensorboard.location import place

    return place(target, run)


@hookimpl
def diagnose(target: Target) -> list[Finding]:
    """Look at packages and the log directory; nothing is created."""
    from tracking_tensorboard.diagnosis import diagnose as look

    return look(target)


@hookimpl
def tracking_harness() -> Any:
    """The contract harness, which reads with TensorBoard's own loader."""
    from tracking_tensorboard.testing import TensorBoardHarness

    return TensorBoardHarness()


@hookimpl
def tracking_import(path: Path) -> Iterable[ForeignRun] | None:
    """The runs in event files, whoever wrote them."""
    from tracking_tensorboard.reading.importing import runs

    return runs(path)
