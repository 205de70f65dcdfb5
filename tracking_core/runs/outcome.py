"""How a run ended, as the exception says that left it."""

from __future__ import annotations

import traceback

from tracking_core.base.redaction import redact_text
from tracking_core.errors import SettingsError
from tracking_core.protocol import PREEMPTED, STATUSES


def outcome(error: BaseException | None) -> tuple[str, str | None]:
    """Status and text for how the body of a run ended.

    Args:
        error: What it raised; None for nothing.
    """
    if error is None:
        return "finished", None
    if isinstance(error, SystemExit):
        if error.code in (None, 0):
            return "finished", None
        if error.code == PREEMPTED:
            return "preempted", "SIGTERM"
        return "failed", f"SystemExit: {error.code}"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "KeyboardInterrupt"
    if isinstance(error, GeneratorExit):
        return "finished", None
    return "failed", redact_text("".join(traceback.format_exception(error)))[-20_000:]


def check_status(status: str) -> None:
    """Refuse a status that a run cannot end with.

    Raises:
        SettingsError: There is no such status.
    """
    if status not in STATUSES:
        raise SettingsError(f"finish: status must be one of {', '.join(STATUSES)}, got {status!r:.80}")
