"""The contract, kept by FakeTracker."""

from __future__ import annotations

from tracking_core.testing import ContractSuite, FakeHarness


class TestFake(ContractSuite):
    harness = FakeHarness()
