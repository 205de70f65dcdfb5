"""How a run ended, as the exception says that left it."""

from __future__ import annotations

import traceback

from tracking_core.base.redaction import redact_text
from tracking_core.protocol import PREEMPTED


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
