"""The contract, kept by tracking-csv."""

from csv_harness import CsvHarness

from tracking_core.testing import ContractSuite


class TestCsv(ContractSuite):
    harness = CsvHarness()
