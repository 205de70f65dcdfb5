"""What a run says of its targets at its end: what waits, and what to do; why was said when it happened."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

from tracking_core.delivery.report import TargetReport


def closing_words(reports: Iterable[TargetReport], directory: Path, has_said: Callable[[str], bool]) -> str:
    """One line about targets that have not got everything; "" where all have.

    Args:
        reports: What became of the records.
        directory: The run directory, for the command that delivers the rest.
        has_said: Whether a warning had a text in it.
    """
    parts: list[str] = []
    waits = again = False
    for report in reports:
        if report.ok:
            continue
        local = report.target == "local"
        what = "files" if report.target == "mirror" else "records"
        found = [f"{report.pending} {what} wait for {report.target}"] if report.pending else []
        if report.failed:
            found.append(f"{report.failed} {what} " + ("were not written" if local else f"failed at {report.target}"))
        if report.dropped:
            found.append(f"{report.dropped} values were not recorded")
        if report.abandoned:
            found.append(f"{report.target} did not confirm its end")
        reason = report.last_error
        parts.append(" and ".join(found) + (f" ({reason})" if reason and not has_said(reason) else ""))
        waits = waits or (report.target not in {"local", "mirror"} and bool(report.pending or report.abandoned))
        again = again or report.recoverable > 0
    if not parts:
        return ""
    command = _command(directory)
    remedies = [f"`{command}` delivers what waits"] if waits else []
    remedies += [f"`{command} --failed` sends again what failed"] if again else []
    return "at the end, " + "; ".join([", ".join(parts), *remedies])


def _command(directory: Path) -> str:
    root = directory.parent.parent
    return f"tracking sync {directory.name} --root {shlex.quote(str(root))}"
