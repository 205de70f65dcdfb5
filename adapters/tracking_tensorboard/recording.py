"""The event file of one run, and the table of its tags; `opening` opens them."""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

from tracking_core import RetryLater
from tracking_tensorboard import summaries
from tracking_tensorboard.events import EventFile
from tracking_tensorboard.kept import Kept
from tracking_tensorboard.protos import Event, SessionLog, Summary
from tracking_tensorboard.tags import TagTable


class Recording:
    """Writes events, and keeps what a restart needs in the run's state.

    The state is only touched by `flush`, after the file is on the disk: whoever stores it together with how far
    delivery has come finds, after a crash, a file that is cut back to exactly the records that were confirmed.
    What was cut off is delivered again, as the same bytes at the same place, so that a TensorBoard that looks on
    sees nothing twice.

    Args:
        file: The open file.
        tags: The tags in it.
        state: What is durable.
        name: The file, relative to the log directory.
        target: Key of the target that it was begun for, which its first event says.
        directory: The directory the file is in.
        kept: What the state said when it was opened.
        fresh: Whether nothing of the run is there yet.
    """

    def __init__(
        self,
        file: EventFile,
        tags: TagTable,
        state: MutableMapping[str, Any],
        *,
        name: str,
        target: str,
        directory: str,
        kept: Kept | None = None,
        fresh: bool = True,
    ) -> None:
        self.directory = directory
        self.fresh = fresh
        self.kept = kept or Kept()
        self.remarks: list[str] = []
        """Messages for the caller that opened it."""
        self.appended = 0
        """How many events were written since opening."""
        self._file = file
        self._tags = tags
        self._state = state
        self._name = name
        self._target = target
        # How many tags the state knows; a new file, whatever an older one held, is introduced by a first tag.
        self._tags_saved = len(tags)

    def value(self, make: Callable[..., Any], name: str, kind: str, axis: str, *args: Any) -> Any:
        """A summary value under the tag of a name; `make(tag, *args, metadata)` builds it."""
        tag = self._tags.tag(name, kind, axis)
        return make(tag, *args, summaries.metadata(kind, self._tags.description(tag, name, kind, axis)))

    def append(self, values: Sequence[Any], *, step: int = 0, wall_time: float | None = None) -> None:
        """Write one event.

        Args:
            values: Summary values.
            step: Position on the axis of their tags.
            wall_time: Seconds since the epoch; None means now.

        Raises:
            RetryLater: The file system refuses; nothing was written.
        """
        when = time.time() if wall_time is None else float(wall_time)
        event = Event(wall_time=when, step=step, summary=Summary(value=values)).SerializeToString()
        try:
            self._file.append(event)
        except OSError as error:
            raise RetryLater(f"tensorboard: cannot write to {self.directory}: {error}") from error
        self.appended += 1
        self._tags.mark_described(value.tag for value in values)

    def forget_earlier(self) -> None:
        """Tell a TensorBoard that looks on to let go of what it read of this run before.

        Raises:
            RetryLater: The file system refuses; nothing was written.
        """
        event = Event(wall_time=time.time(), step=0, session_log=SessionLog(status=SessionLog.START))
        try:
            self._file.append(event.SerializeToString())
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
            length = self._file.flush()
        except OSError as error:
            raise RetryLater(f"tensorboard: cannot write to {self.directory}: {error}") from error
        self._state["file"] = self._name
        self._state["length"] = length
        self._state["target"] = self._target
        if self._file.last is not None:
            self._state["last"] = self._file.last
        if self._tags_saved != len(self._tags):
            self._state["tags"] = self._tags.saved()
            self._tags_saved = len(self._tags)
        for key, value in state.items():
            if value is None:
                self._state.pop(key, None)
            else:
                self._state[key] = value

    def close(self) -> None:
        """Release the file."""
        self._file.close()
