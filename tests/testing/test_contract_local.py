"""The contract suite on the embedded store."""

from __future__ import annotations

from tracking_core.backends.plugins import find_adapter
from tracking_core.testing import ContractSuite


class TestLocal(ContractSuite):
    harness = find_adapter("local").harness()
