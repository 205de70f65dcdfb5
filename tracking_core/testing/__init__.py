"""Testing with trackers, and testing trackers.

For code that logs: `FakeTracker`. For authors of adapters: `AdapterHarness` and `ContractSuite`, or `check_adapter`
without pytest; and `faults`, adapters and trackers that are broken on purpose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracking_core.base.lazy import load_on_use

if TYPE_CHECKING:
    from tracking_core.testing import faults
    from tracking_core.testing.contract.harness import (
        AdapterHarness,
        Stored,
        StoredArtifact,
        StoredHistogram,
        StoredImage,
        StoredScalar,
        StoredValue,
    )
    from tracking_core.testing.contract.outcomes import ContractFailure
    from tracking_core.testing.contract.report import CheckResult, ContractReport
    from tracking_core.testing.contract.runner import check_adapter
    from tracking_core.testing.contract.suite import ContractSuite
    from tracking_core.testing.fake.adapter import FakeHarness
    from tracking_core.testing.fake.records import Alert, Call, StoredVersion
    from tracking_core.testing.fake.tracker import FakeTracker

#: Where each public name lives. The pytest plugin is part of this package, and every pytest run pays for it.
_HOMES: dict[str, tuple[str, ...]] = {
    "contract.outcomes": ("ContractFailure",),
    "fake.tracker": ("FakeTracker",),
    "fake.adapter": ("FakeHarness",),
    "fake.records": ("Alert", "Call", "StoredVersion"),
    "contract.harness": (
        "AdapterHarness",
        "Stored",
        "StoredArtifact",
        "StoredHistogram",
        "StoredImage",
        "StoredScalar",
        "StoredValue",
    ),
    "contract.report": ("CheckResult", "ContractReport"),
    "contract.runner": ("check_adapter",),
    "contract.suite": ("ContractSuite",),
}

__all__ = [
    "AdapterHarness",
    "Alert",
    "Call",
    "CheckResult",
    "ContractFailure",
    "ContractReport",
    "ContractSuite",
    "FakeHarness",
    "FakeTracker",
    "Stored",
    "StoredArtifact",
    "StoredHistogram",
    "StoredImage",
    "StoredScalar",
    "StoredValue",
    "StoredVersion",
    "check_adapter",
    "faults",
]

__getattr__, __dir__ = load_on_use(__name__, _HOMES, ("faults",))
