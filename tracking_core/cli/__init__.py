"""The command `tracking`.

This module is loaded to look up `main` and must stay cheap: what a verb needs is imported when the verb runs.
"""

from __future__ import annotations


def main() -> None:
    """Run the command line; the process ends with its exit code: 0 fine, 1 errors were found, 2 wrong usage."""
    import io
    import os
    import sys

    from tracking_core.cli import bounded
    from tracking_core.cli.app import app
    from tracking_core.cli.terminal import guard

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names may hold anything, and a terminal may know less.
            stream.reconfigure(errors="backslashreplace")
    # For good: a traceback of what nobody foresaw may hold anything as well.
    guard()
    try:
        app(prog_name="tracking")
    except SystemExit as end:
        if bounded.stuck():
            # What hangs, or threads that it started, must not keep the process from ending.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code if isinstance(end.code, int) else 1)
        raise
