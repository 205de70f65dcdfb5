"""Where a run says what it is about to do and what came of it: on stderr, or in the notebook that it runs in."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from tracking_core.environment.settings import Settings


def say(settings: Settings, message: str, page: str | None = None) -> None:
    """Tell the user something, as the setting `console` has it.

    Args:
        settings: The settings.
        message: What is said, in one line or more.
        page: The same as HTML, for a notebook; None shows the text there.
    """
    where = settings.choice("console")
    if where == "off":
        return
    # What the user asked for; a terminal or a browser that is gone is no reason to fail.
    if (display := notebook()) is not None:
        with contextlib.suppress(Exception):
            data = {"text/plain": f"tracking: {message}"}
            display(data if page is None else {**data, "text/html": page}, raw=True)
    elif where == "on" or (sys.stderr is not None and sys.stderr.isatty()):
        with contextlib.suppress(OSError, ValueError):
            print(f"tracking: {message}", file=sys.stderr)  # noqa: T201


def notebook() -> Any:
    """What shows something in the notebook that this process runs in; None elsewhere. IPython is not imported."""
    ipython = sys.modules.get("IPython")
    try:
        shell = ipython.get_ipython() if ipython is not None else None
        # At a terminal there is no kernel.
        return sys.modules["IPython.display"].display if getattr(shell, "kernel", None) is not None else None
    except (AttributeError, KeyError):
        return None
