"""The contract as a pytest class; pytest itself is imported only when a test runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking_core.errors import SettingsError
from tracking_core.testing.contract.harness import AdapterHarness
from tracking_core.testing.contract.outcomes import ContractFailure
from tracking_core.testing.contract.registry import all_checks, expected_failures
from tracking_core.testing.contract.runner import run_check

if TYPE_CHECKING:
    import pytest


class ContractSuite:
    """Every check of the contract as a test of its own; subclass it and name your harness.

    Checks of capabilities the adapter lacks are skipped; expected failures are strict.

    Example:
        ```python
        from tracking_core.testing import ContractSuite

        class TestCsv(ContractSuite):
            harness = CsvHarness()
        ```
    """

    harness: AdapterHarness | type[AdapterHarness]
    """The harness of the adapter, or its class."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make one test a check; wrong expected failures are errors here."""
        if "contract_check" in metafunc.fixturenames:
            expected_failures(self._harness())
            metafunc.parametrize("contract_check", list(all_checks()))

    def test_contract(self, contract_check: str, tmp_path: Path) -> None:
        """Run one check."""
        import pytest

        result = run_check(all_checks()[contract_check], self._harness(), tmp_path)
        if result.outcome == "skipped":
            pytest.skip(result.message)
        if result.outcome == "expected":
            pytest.xfail(result.message)
        if result.outcome == "failed":
            message = f"{result.name}: {result.message}\n\n{result.doc}"
            if isinstance(result.error, ContractFailure):
                # The message says it all; where in the check it was found is of no use to the adapter's author.
                pytest.fail(message, pytrace=False)
            raise ContractFailure(message) from result.error

    @classmethod
    def _harness(cls) -> AdapterHarness:
        harness: Any = getattr(cls, "harness", None)
        if isinstance(harness, type) and issubclass(harness, AdapterHarness):
            harness = cls.harness = harness()
        if not isinstance(harness, AdapterHarness):
            raise SettingsError(
                f"{cls.__name__} needs a harness: set `harness = …` to an instance of a subclass of AdapterHarness"
            )
        return harness
