"""The Weights & Biases backend of tracking-core: the real client, through Run objects only.

`TRACKING_BACKEND=wandb` records a run at W&B, `TRACKING_BACKEND='wandb://?mode=offline'` on disk for `wandb sync`.
Importing this package imports no backend: the client is loaded when a run is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracking_core import AdapterInfo, hookimpl
from tracking_wandb.options import OPTION_HELP

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tracking_core import Finding, ForeignRun, RunInfo, Target, Tracker

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
        "alerts",
        "use_artifact",
        "flush",
        "deliver",
        "resume",
    }
)


@hookimpl
def tracking_adapter() -> AdapterInfo:
    """What this adapter is."""
    return AdapterInfo(
        name="wandb",
        api_version=1,
        capabilities=_CAPABILITIES,
        options=OPTION_HELP,
        extra="tracking-core[wandb]",
        requires=("wandb",),
        local_path=False,
        guarantee="rows once: online by comparing with the server, offline by writing the run again",
        replaces="beside",
        description="Weights & Biases, online or offline",
    )


@hookimpl
def check_target(target: Target) -> None:
    """Look at the options, the mode, the server and whether there is a key, and remember a server that was named."""
    from tracking_wandb.checking import check

    check(target)


@hookimpl
def target_place(target: Target, run: RunInfo) -> str:
    """Server, entity and project; offline the directory, entity and project."""
    from tracking_wandb import client_settings, places
    from tracking_wandb.options import read_options

    options = read_options(target)
    return places.place(options, run, client_settings.mode(options.mode))


@hookimpl
def open_tracker(target: Target, run: RunInfo) -> Tracker:
    """Open a run at W&B, or go on with it."""
    from tracking_wandb.opening import open_run

    return open_run(target, run)


@hookimpl
def diagnose(target: Target) -> list[Finding]:
    """Look at the client, the key, the server and the directory; nothing is created."""
    from tracking_wandb.diagnosis import diagnose as look

    return look(target)


@hookimpl
def tracking_harness() -> Any:
    """The contract harness, which reads the client's transaction log."""
    from tracking_wandb.testing import WandbHarness

    return WandbHarness()


@hookimpl
def tracking_import(path: Path) -> Iterable[ForeignRun] | None:
    """The runs in the client's transaction logs."""
    from tracking_wandb.offline.importing import runs

    return runs(path)
