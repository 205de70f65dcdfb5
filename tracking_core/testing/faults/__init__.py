"""Adapters and trackers that are broken on purpose.

Adapters, each of which fails exactly one check of the contract, named in its `fails` (see `broken.py`):

    Drops  Duplicates  Reorders  RoundsToFloat32  Blocks  ImportsEagerly  MutatesInputs  IgnoresAxes  LosesNaN
    IgnoresWallTime  MixesRuns  KeepsReferences  ForgetsOnResume  KeepsSuperseded  SwallowsBadValues  Reseeds
    LeavesThreads  LeaksFiles

`Honest` is the adapter they are made from, without a fault; `harness(Drops)` is a harness around one.

Trackers that fail while records are delivered (see `delivery.py`):

    Raises  RaisesBaseException  Slow  Hangs  RetriesThenWorks  Rejects

Example:
    >>> from tracking_core.testing import check_adapter, faults
    >>> sorted(check_adapter(harness=faults.harness(faults.IgnoresAxes), checks=["steps"]).failed)
    ['steps.axes_kept']
"""

from __future__ import annotations

import threading

from tracking_core.testing.faults.broken import (
    BROKEN,
    Blocks,
    Drops,
    Duplicates,
    ForgetsOnResume,
    IgnoresAxes,
    IgnoresWallTime,
    ImportsEagerly,
    KeepsReferences,
    KeepsSuperseded,
    LeaksFiles,
    LeavesThreads,
    LosesNaN,
    MixesRuns,
    MutatesInputs,
    Reorders,
    Reseeds,
    RoundsToFloat32,
    SwallowsBadValues,
)
from tracking_core.testing.faults.delivery import (
    Hangs,
    Interruption,
    Raises,
    RaisesBaseException,
    Rejects,
    RetriesThenWorks,
    Slow,
)
from tracking_core.testing.faults.lines import Honest
from tracking_core.testing.faults.reading import LinesHarness

__all__ = [
    "BROKEN",
    "Blocks",
    "Drops",
    "Duplicates",
    "ForgetsOnResume",
    "Hangs",
    "Honest",
    "IgnoresAxes",
    "IgnoresWallTime",
    "ImportsEagerly",
    "Interruption",
    "KeepsReferences",
    "KeepsSuperseded",
    "LeaksFiles",
    "LeavesThreads",
    "LinesHarness",
    "LosesNaN",
    "MixesRuns",
    "MutatesInputs",
    "Raises",
    "RaisesBaseException",
    "Rejects",
    "Reorders",
    "Reseeds",
    "RetriesThenWorks",
    "RoundsToFloat32",
    "Slow",
    "SwallowsBadValues",
    "harness",
]


def harness(adapter: type[Honest]) -> LinesHarness:
    """A harness around one of the adapters of this package."""
    if adapter is Blocks:
        Blocks.released = threading.Event()
    return LinesHarness(adapter)
