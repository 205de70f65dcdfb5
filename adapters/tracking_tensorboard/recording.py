"""The event files of one run, and the tables of their tags; `opening` opens them."""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, NamedTuple

from tracking_core import Rejected, RetryLater
from tracking_core.naming import FILE_NAMES
from tracking_tensorboard import summaries
from tracking_tensorboard.events import EventFile
from tracking_tensorboard.kept import MOST_SCOPES, Kept
from tracking_tensorboard.protos import Event, SessionLog, Summary
from tracking_tensorboard.tags import TagTable

#: Kinds of values that are about the run as a whole: they are in the run itself in every layout.
_OWN = frozenset({"about", "config", "summary", "metric", "status", "artifact"})


class Placed(NamedTuple):
    """A summary value, and where it belongs.

    Args:
        part: Directory of a sub-run; "" for the run itself.
        value: The summary value.
    """

    part: str
    value: Any


class Part:
    """The run itself, or a sub-run of it: an event file and its tags.

    Args:
        file: The open file; None as long as nothing was written.
        name: The file, relative to the log directory.
        tags: The tags in it.
        state: What a restart needs of it.
    """

    def __init__(
        self, file: EventFile | None, name: str, tags: TagTable, state: MutableMapping[str, Any] | None = None
    ) -> None:
        self.file = file
        self.name = name
        self.tags = tags
        self.state: MutableMapping[str, Any] = {} if state is None else state
        # How many tags the state knows; a new file, whatever an older one held, is introduced by a first tag.
        self._tags_saved = len(tags)

    def flush(self) -> dict[str, Any]:
        """Make the file durable; what a restart needs of it, as far as it may have changed.

        Raises:
            OSError: The file system refuses.
        """
        if self.file is None:
            return {}
        changed: dict[str, Any] = {"length": self.file.flush(), "file": self.name}
        if self.file.last is not None:
            changed["last"] = self.file.last
        if self._tags_saved != len(self.tags):
            changed["tags"] = self.tags.saved()
            self._tags_saved = len(self.tags)
        return changed


class Recording:
    """Writes events, and keeps what a restart needs in the run's state.

    The state is only touched by `flush`, after the files are on the disk: whoever stores it together with how far
    delivery has come finds, after a crash, files that are cut back to exactly the records that were confirmed.
    What was cut off is delivered again, as the same bytes at the same place, so that a TensorBoard that looks on
    sees nothing twice.

    Args:
        own: The run itself.
        state: What is durable; that of the run itself, too.
        target: Key of the target that the files were begun for, which their first events say.
        directory: The directory the run's own file is in.
        kept: What the state said when it was opened.
        fresh: Whether nothing of the run is there yet.
        parts: The sub-runs that the state knows.
        begin: Begins the event file of a sub-run: its directory in that of the run → the file and its name. None where
            scopes have no sub-runs.
    """

    def __init__(
        self,
        own: Part,
        state: MutableMapping[str, Any],
        *,
        target: str,
        directory: str,
        kept: Kept | None = None,
        fresh: bool = True,
        parts: dict[str, Part] | None = None,
        begin: Callable[[str], tuple[EventFile, str]] | None = None,
    ) -> None:
        self.directory = directory
        self.fresh = fresh
        self.kept = kept or Kept()
        self.remarks: list[str] = []
        """Messages for the caller that opened it."""
        self.appended = 0
        """How many events were written since opening; those of one call count once."""
        own.state = state
        self._parts = {"": own, **(parts or {})}
        self._state = state
        self._target = target
        self._begin = begin
        self._places: dict[str, tuple[str, str]] = {}

    def value(self, make: Callable[..., Any], name: str, kind: str, axis: str, *args: Any) -> Placed:
        """A summary value under the tag of a name; `make(tag, *args, metadata)` builds it."""
        part, base = self._place(name, kind)
        tags = self._part(part).tags
        tag = tags.tag(base, kind, axis)
        about = summaries.metadata(kind, tags.description(tag, name, kind, axis))
        return Placed(part, make(tag, *args, about))

    def append(self, values: Sequence[Placed], *, step: int = 0, wall_time: float | None = None) -> None:
        """Write one event, or one in each sub-run that the values belong to.

        Args:
            values: Summary values.
            step: Position on the axis of their tags.
            wall_time: Seconds since the epoch; None means now.

        Raises:
            RetryLater: The file system refuses; nothing was written.
            Rejected: The directory of a sub-run cannot be used; nothing was written.
        """
        when = time.time() if wall_time is None else float(wall_time)
        groups: dict[str, list[Any]] = {}
        for part, value in values:
            groups.setdefault(part, []).append(value)
        done: list[tuple[EventFile, Any]] = []
        try:
            for name, group in groups.items():
                file = self._file(name)
                before = file.position
                event = Event(wall_time=when, step=step, summary=Summary(value=group)).SerializeToString()
                file.append(event)
                done.append((file, before))
        except (OSError, Rejected) as error:
            for file, before in done:
                file.take_back(before)
            if isinstance(error, Rejected):
                raise
            raise RetryLater(f"tensorboard: cannot write to {self.directory}: {error}") from error
        self.appended += 1
        for name, group in groups.items():
            self._part(name).tags.mark_described(value.tag for value in group)

    def forget_earlier(self) -> None:
        """Tell a TensorBoard that looks on to let go of what it read of this run before.

        Raises:
            RetryLater: The file system refuses; nothing was written.
        """
        try:
            forget_earlier(self._file(""))
        except OSError as error:
            raise RetryLater(f"tensorboard: cannot write to {self.directory}: {error}") from error

    def flush(self, **state: Any) -> None:
        """Make everything durable, and put into the state what a restart needs.

        Args:
            state: What else belongs into it, JSON values; None takes a key out.

        Raises:
            RetryLater: The file system refuses.
        """
        try:
            # All before any: the state is of one moment.
            changed = [(part, part.flush()) for part in self._parts.values()]
        except OSError as error:
            raise RetryLater(f"tensorboard: cannot write to {self.directory}: {error}") from error
        for part, facts in changed:
            part.state.update(facts)
        state["target"] = self._target
        if self._begin is not None:
            state["scopes"] = {name: dict(part.state) for name, part in self._parts.items() if name and part.state}
        for key, value in state.items():
            if value is None:
                self._state.pop(key, None)
            else:
                self._state[key] = value

    def close(self) -> None:
        """Release the files."""
        for part in self._parts.values():
            if part.file is not None:
                part.file.close()

    def _place(self, name: str, kind: str) -> tuple[str, str]:
        """The directory of the sub-run that a name belongs to, "" for the run itself; and what it is called there."""
        if self._begin is None or kind in _OWN:
            return "", name
        place = self._places.get(name)
        if place is None:
            scope, _, rest = name.partition("/")
            folder = FILE_NAMES.encode(scope)
            # A name without a scope, what TensorBoard would take for a file, and more scopes than files may be open.
            alone = not scope or not rest or "tfevents" in folder
            alone = alone or (folder not in self._parts and len(self._parts) > MOST_SCOPES)
            place = self._places[name] = ("", name) if alone else (folder, rest)
        return place

    def _part(self, name: str) -> Part:
        part = self._parts.get(name)
        if part is None:
            part = self._parts[name] = Part(None, "", TagTable())
        return part

    def _file(self, name: str) -> EventFile:
        part = self._part(name)
        if part.file is None:
            assert self._begin is not None
            part.file, part.name = self._begin(name)
        return part.file


def forget_earlier(file: EventFile) -> None:
    """Say in a new file that what was read of the run before does not count.

    Raises:
        OSError: The file system refuses.
    """
    event = Event(wall_time=time.time(), step=0, session_log=SessionLog(status=SessionLog.START)).SerializeToString()
    # Twice: TensorBoard takes the first that it reads of a run for its beginning, and drops nothing for that.
    for _ in range(2):
        file.append(event)
