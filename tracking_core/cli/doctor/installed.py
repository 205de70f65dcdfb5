"""The installed adapters: those that are broken, outdated or in conflict, each named."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence

from tracking_core.backends.hooks import Finding
from tracking_core.backends.plugins import FIRST_PARTY
from tracking_core.cli.backends import BackendRow


def check_backends(rows: Sequence[BackendRow]) -> list[Finding]:
    """What is wrong with installed adapters, whether they are used or not.

    Args:
        rows: What `list_backends` gave.
    """
    found: list[Finding] = []
    available = [row.name for row in rows if row.status == "available"]
    if available:
        found.append(Finding("ok", f"available are {', '.join(available)}"))
    # Only who asks for it needs it.
    lacking = [row for row in rows if row.status == "missing"]
    if lacking:
        names = ", ".join(f"{row.name} (needs {', '.join(_lacks(row))})" for row in lacking)
        found.append(
            Finding("ok", f"left out, as nothing asks for them: {names}", "; ".join(row.remedy for row in lacking))
        )
    for row in rows:
        finding = Finding("error", row.problem, row.remedy)
        if row.is_error and finding not in found:
            found.append(finding)
    missing = [name for name in FIRST_PARTY if name not in {row.name for row in rows}]
    if missing:
        message = f"the entry points of tracking-core itself are missing: {', '.join(missing)}"
        found.append(Finding("error", message, "reinstall it: pip install --force-reinstall tracking-core"))
    return [*found, *_damaged()]


def _lacks(row: BackendRow) -> list[str]:
    """The packages that a backend needs, and that are not there."""
    return [module for module, version in row.packages.items() if version is None]


def _damaged() -> list[Finding]:
    """Distributions whose entry points cannot be read, which hides what they bring."""
    found: list[Finding] = []
    for distribution in importlib.metadata.distributions():
        try:
            _ = [entry.group for entry in distribution.entry_points]
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it is the finding
            name = getattr(distribution, "_path", None) or "a distribution"
            message = f"the entry points of {name} cannot be read: {type(error).__name__}: {error}"
            found.append(Finding("warning", message, "reinstall that distribution"))
    return found
