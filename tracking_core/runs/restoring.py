"""A run directory that is deleted or moved away while the run goes on is begun anew, in the same place.

What was in the files that are gone is lost, counted and said. Nothing is written into a directory that holds another
run by then: the run goes on beside it, under an id of its own.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking_core.base.files import write_exclusively
from tracking_core.base.json_text import dump_json, load_json
from tracking_core.base.regular import OddFileError, read_regular
from tracking_core.base.text import counted
from tracking_core.errors import StoreError
from tracking_core.layout.presence import identity_in
from tracking_core.layout.runs import RUN_FILE

if TYPE_CHECKING:
    from tracking_core.journal import JournalWriter

_LONGEST = 64
"""Characters of an id."""


class Restorer:
    """Begins the directory of a run anew when it is gone.

    Args:
        journal: The journal of the run in this process.
        note: Called with (message, error) for what has happened.
        on_restored: Called when the directory was begun anew, with the directory and what its `run.json` says.

    Raises:
        OSError: `run.json` cannot be read.
    """

    def __init__(
        self,
        journal: JournalWriter,
        note: Callable[[str, OSError | None], None],
        on_restored: Callable[[Path, Mapping[str, Any]], None],
    ) -> None:
        self._journal = journal
        self._note = note
        self._on_restored = on_restored
        self._content = read_regular(journal.directory / RUN_FILE)
        self._identity = identity_in(self._content)
        self._busy = threading.Lock()
        self._pid = os.getpid()

    def look(self) -> bool:
        """Begin the directory anew if it is gone; whether it was. Never raises."""
        journal = self._journal
        if not journal.is_astray and not self._is_unnamed():
            return False
        # A forked child has neither the lock nor the run; what its parent begins anew is there for it as well.
        if self._pid != os.getpid() or not self._busy.acquire(timeout=5.0):
            return False
        try:
            return self._restore()
        except (OSError, StoreError) as error:
            lost = journal.count_lost()
            failure = error if isinstance(error, OSError) else None
            self._note(
                f"the directory of the run was deleted or moved, and cannot be created again ({error}): "
                f"{counted(lost, 'event')} lost, and later events will be lost too; it will be tried again",
                failure,
            )
            return False
        finally:
            self._busy.release()

    def _is_unnamed(self) -> bool:
        """Whether the journal is there and `run.json` is not, without which nobody finds the run."""
        try:
            os.stat(self._journal.directory / RUN_FILE)  # noqa: PTH116 - asked every second
        except FileNotFoundError:
            return not self._journal.closed
        except OSError:
            return False
        return False

    def _restore(self) -> bool:
        journal = self._journal
        if not journal.is_astray:
            # Another thread was quicker; or it is only the name that is missing.
            if not self._is_unnamed():
                return False
            write_exclusively(journal.directory / RUN_FILE, self._content)
            self._note("run.json was deleted during the run: it was written again", None)
            return True
        before = journal.directory
        directory = self._place(before)
        deleted, lost = journal.is_deleted, journal.renew(directory, directory.name)
        self._on_restored(directory, load_json(self._content))
        what = (
            f"was deleted during the run, and {counted(lost, 'event')} with it"
            if deleted
            else "was moved during the run"
        )
        goes_on = f"the run continues in {directory}"
        if directory != before:
            goes_on = (
                f"another run is in its place, so {goes_on}, as {directory.name!r}; "
                f"`tracking sync {directory.name}` delivers it"
            )
        self._note(f"the directory of the run {what}; {goes_on}", None)
        return True

    def _place(self, directory: Path) -> Path:
        """Make a directory for the run, and say in it which run it is."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / RUN_FILE
        if write_exclusively(path, self._content) or self._is_own(path):
            return directory
        mark = f"-{secrets.token_hex(4)}"
        other = directory.with_name(directory.name[: _LONGEST - len(mark)] + mark)
        facts = {**load_json(self._content), "id": other.name}
        content = dump_json(facts)
        other.mkdir()
        write_exclusively(other / RUN_FILE, content)
        self._content, self._identity = content, (other.name, facts.get("started"))
        return other

    def _is_own(self, path: Path) -> bool:
        try:
            return identity_in(read_regular(path)) == self._identity
        except OddFileError:
            return False
