"""Whether a run is still where it was: its directory may be deleted, begun anew, or hold another run by now."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from tracking_core.base.json_text import load_json
from tracking_core.base.regular import read_regular
from tracking_core.layout.runs import RUN_FILE

Whereabouts = Literal["here", "gone", "anew", "another"]


class Presence:
    """Looks after the `run.json` of a run.

    Args:
        directory: The run directory.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / RUN_FILE
        self._seen: tuple[int, ...] | None = None
        self._identity: Any = None
        self._content = b""
        self.look()

    def look(self) -> Whereabouts:
        """What there is now.

        Returns:
            "here": the run. "gone": nothing. "anew": the run, in a directory that was made since the last look; said
            once. "another": a run that is not this one.
        """
        try:
            found = os.stat(self._path)  # noqa: PTH116 - asked many times a second
        except (FileNotFoundError, NotADirectoryError):
            # A journal may be read without one.
            return "gone" if self._identity is not None else "here"
        except OSError:
            return "here"
        stamp = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
        if stamp == self._seen:
            return "here"
        try:
            content = read_regular(self._path)
        except OSError:
            content = b""
        identity = identity_in(content)
        if identity is None:
            return "gone" if self._identity is not None else "here"
        if self._identity is not None and identity != self._identity:
            return "another"
        # Written again it says the same; edited it does not. The number of a file may be that of one that is gone.
        anew = self._seen is not None and content == self._content
        self._seen, self._identity, self._content = stamp, identity, content
        return "anew" if anew else "here"


def identity_in(content: bytes) -> tuple[Any, Any] | None:
    """Which run a `run.json` describes: its id, and when it was started; None when it cannot be read."""
    try:
        facts = load_json(content)
        return facts["id"], facts["started"]
    except (ValueError, KeyError, TypeError):
        return None
