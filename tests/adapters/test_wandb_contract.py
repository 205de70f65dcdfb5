"""The contract, kept by the W&B adapter, which is found and read as an outsider's would be."""

from __future__ import annotations

import pytest

from tracking_core.backends.plugins import find_adapter
from tracking_core.testing import ContractSuite

pytestmark = pytest.mark.system


class TestWandb(ContractSuite):
    harness = find_adapter("wandb").harness()
