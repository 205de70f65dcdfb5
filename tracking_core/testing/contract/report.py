"""The results of the checks, without pytest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Outcome = Literal["passed", "failed", "skipped", "expected"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check.

    Args:
        name: Name of the check.
        outcome: "passed"; "failed"; "skipped", if it does not apply; "expected", if it failed as expected.
        message: Why it did not pass.
        doc: What the check asserts, and what to do when it fails.
        seconds: How long it took.
        error: The error that was raised.
    """

    name: str
    outcome: Outcome
    message: str = ""
    doc: str = ""
    seconds: float = 0.0
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class ContractReport:
    """The results of all checks of an adapter.

    Args:
        adapter: Name of the adapter.
        results: One result a check, in order.
    """

    adapter: str
    results: tuple[CheckResult, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failed

    @property
    def passed(self) -> Mapping[str, str]:
        """Names of the checks that passed; the messages are empty."""
        return self._by("passed")

    @property
    def failed(self) -> Mapping[str, str]:
        """Names of the checks that failed, to what is wrong."""
        return self._by("failed")

    @property
    def skipped(self) -> Mapping[str, str]:
        """Names of the checks that do not apply, to the reason."""
        return self._by("skipped")

    @property
    def expected(self) -> Mapping[str, str]:
        """Names of the checks that failed as the harness says, to its reason."""
        return self._by("expected")

    def _by(self, outcome: Outcome) -> Mapping[str, str]:
        return MappingProxyType({one.name: one.message for one in self.results if one.outcome == outcome})

    def __str__(self) -> str:
        counts = [(self.passed, "passed"), (self.failed, "failed"), (self.expected, "failed as expected")]
        counts.append((self.skipped, "skipped"))
        summary = ", ".join(f"{len(names)} {word}" for names, word in counts if names) or "no checks ran"
        lines = [f"adapter {self.adapter!r}: {summary}"]
        for one in self.results:
            if one.outcome == "failed":
                lines += [f"  FAILED   {one.name}", *_indented(one.message), "", *_indented(one.doc), ""]
        lines += [f"  expected {name}: {reason}" for name, reason in self.expected.items()]
        lines += [f"  skipped  {name}: {reason}" for name, reason in self.skipped.items()]
        return "\n".join(lines).rstrip()


def _indented(text: str) -> list[str]:
    return [f"           {line}".rstrip() for line in text.splitlines()]
