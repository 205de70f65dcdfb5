"""How a check of the contract suite ends, other than well."""

from __future__ import annotations


class ContractFailure(AssertionError):  # noqa: N818 - read as "a failure of the contract", as AssertionError is read
    """A check found that the adapter breaks the contract."""


class ContractSkip(Exception):  # noqa: N818 - an instruction to the runner
    """A check does not apply to this adapter; the message says why."""
