"""The process that compacts: one of the lowest priority for all runs of a training.

`python -m tracking_core.compaction.server FD` reads requests from stdin, lines of JSON, and writes an answer to each
to FD. The end of stdin is the end of the training: after a "bye" it does what it was asked for, for `LAST` seconds at
most, and goes; without one the training was killed, and it goes at once. It may be killed at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any

from tracking_core.base.redaction import redact_text
from tracking_core.compaction.compaction import NICE, compact, need_pyarrow
from tracking_core.errors import StoreError

LAST = 30.0
"""Seconds for which it goes on after a training that has ended."""

_Requests = queue.SimpleQueue[dict[str, Any] | None]


def _listen(requests: _Requests) -> None:
    """Pass requests on, until the training is gone."""
    said_bye = False
    with contextlib.suppress(OSError, ValueError), os.fdopen(0, "rb", buffering=0) as lines:
        for line in lines:
            request = json.loads(line)
            if "dir" in request:
                requests.put(request)
            else:
                said_bye = True
    if not said_bye:
        os._exit(3)
    timer = threading.Timer(LAST, os._exit, [0])
    timer.daemon = True
    timer.start()
    requests.put(None)


def _problem(request: dict[str, Any]) -> str:
    """Compact one run; what went wrong, or ""."""
    try:
        compact(Path(request["dir"]), over=request["over"])
    except Exception as error:  # noqa: BLE001 - the training is told in one line
        # A run that was removed meanwhile has nothing to compact.
        gone = isinstance(error, (OSError, StoreError)) and not os.path.lexists(Path(request["dir"], "run.json"))
        return "" if gone else redact_text(f"{type(error).__name__}: {error}")[:500]
    return ""


def main() -> None:
    """Serve the training at the other end."""
    requests = _Requests()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    # First: at the lowest priority that takes minutes on a busy machine.
    with contextlib.suppress(Exception):
        need_pyarrow(Path())
    with contextlib.suppress(OSError, AttributeError):
        os.nice(NICE)
    while (request := requests.get()) is not None:
        line = json.dumps({"problem": _problem(request)}).encode() + b"\n"
        # A training that is gone does not read it.
        with contextlib.suppress(OSError):
            os.write(int(sys.argv[1]), line)
    os._exit(0)


if __name__ == "__main__":
    main()
