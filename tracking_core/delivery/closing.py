"""The message about targets at the end of a run: what waits, and what to do. Errors were reported before."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

from tracking_core.base.text import counted
from tracking_core.delivery.report import TargetReport

_SHORT = 20
"""Letters of what is too short to be recognised in another message."""


def closing_words(reports: Iterable[TargetReport], directory: Path, has_said: Callable[[str], bool]) -> str:
    """One line about targets that do not have everything; "" if all have.

    Args:
        reports: What became of the records.
        directory: The run directory, for the command that delivers the rest.
        has_said: Whether a warning contained a text.
    """
    parts: list[str] = []
    waits = again = False
    for report in reports:
        if report.ok:
            continue
        local = report.target == "local"
        what = "file" if report.target == "mirror" else "record"
        found: list[str] = []
        if report.pending:
            found.append(f"{counted(report.pending, what)} {_verb(report.pending, 'wait')} for {report.target}")
        if report.failed:
            were = "was" if report.failed == 1 else "were"
            lost = f"{were} not written" if local else f"failed at {report.target}"
            found.append(f"{counted(report.failed, what)} {lost}")
        if report.dropped:
            found.append(f"{counted(report.dropped, 'value')} {'was' if report.dropped == 1 else 'were'} not recorded")
        if report.abandoned:
            found.append(f"{report.target} did not confirm its end")
        reason = report.last_error
        parts.append(" and ".join(found) + (f" ({reason})" if reason and not _was_said(reason, has_said) else ""))
        waits = waits or (report.target not in {"local", "mirror"} and bool(report.pending or report.abandoned))
        again = again or report.recoverable > 0
    if not parts:
        return ""
    command = _command(directory)
    remedies = [f"`{command}` delivers the waiting records"] if waits else []
    remedies += [f"`{command} --failed` sends failed records again"] if again else []
    return "at the end, " + "; ".join([", ".join(parts), *remedies])


def _was_said(reason: str, has_said: Callable[[str], bool]) -> bool:
    """Whether a warning had the reason, or what caused it: the counts before that may have grown since."""
    parts = reason.split(": ")
    causes = (": ".join(parts[begin:]) for begin in range(len(parts)))
    return any(has_said(cause) for cause in causes if len(cause) > _SHORT or cause == reason)


def _verb(count: int, verb: str) -> str:
    return f"{verb}s" if count == 1 else verb


def _command(directory: Path) -> str:
    root = directory.parent.parent
    return f"tracking sync {directory.name} --root {shlex.quote(str(root))}"
