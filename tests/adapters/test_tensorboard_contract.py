"""The contract, kept by the TensorBoard adapter, which is found and read as an outsider's would be."""

from __future__ import annotations

from tracking_core.backends.plugins import find_adapter
from tracking_core.testing import ContractSuite


class TestTensorBoard(ContractSuite):
    harness = find_adapter("tensorboard").harness()
