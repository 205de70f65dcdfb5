"""The event file of one run, opened or continued, and the table of its tags."""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import time
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking_core import RetryLater, SettingsError
from tracking_tensorboard import summaries
from tracking_tensorboard.events import EventFile, LocalEventFile, RemoteEventFile
from tracking_tensorboard.location import file_name, log_directory, remote_scheme, run_directory
from tracking_tensorboard.protos import Event, SessionLog, Summary
from tracking_tensorboard.tags import TagTable

if TYPE_CHECKING:
    from tracking_core import RunInfo, Target

#: What no waiting repairs.
_FINAL = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.EEXIST,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ENAMETOOLONG,
    }
)


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
        directory: The directory the file is in.
        fresh: Whether the file holds nothing of the run yet.
    """

    def __init__(
        self,
        file: EventFile,
        tags: TagTable,
        state: MutableMapping[str, Any],
        *,
        name: str,
        directory: str,
        fresh: bool,
    ) -> None:
        self.directory = directory
        self.fresh = fresh
        self.appended = 0
        """How many events were written since opening."""
        self._file = file
        self._tags = tags
        self._state = state
        self._name = name
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


def open_recording(target: Target, run: RunInfo) -> Recording:
    """Continue the file that the run's state names, or begin a new one.

    Raises:
        SettingsError: The place cannot be written to.
        RetryLater: The file system refuses for now.
    """
    root = log_directory(target, run)
    remote = remote_scheme(root) is not None
    try:
        if not remote:
            continued = _continue(root, run)
            if continued is not None:
                return continued
        earlier = max((str(state.get("file", "")) for state in run.replaced), default="")
        name = f"{run_directory(run)}/{file_name(earlier)}"
        if remote:
            if run.generation:
                # Objects are only added to: what is recorded anew stands beside.
                name = f"{run_directory(run)}-went-back-{run.generation}/{file_name()}"
            place = posixpath.join(root, name)
            # The earlier files stay as they are, and so do the tags in them.
            tags = TagTable(run.state.get("tags"), described=False)
            fresh = "file" not in run.state
            return _recording(RemoteEventFile(place), tags, run, name, place, fresh=fresh)
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        recording = _recording(LocalEventFile(path), TagTable(), run, name, str(path), fresh=True)
        _empty_replaced(root, run)
    except OSError as error:
        if error.errno in _FINAL:
            raise SettingsError(
                f"tensorboard: cannot write to {root}: {error.strerror}; name a directory that can be written to, "
                "as in tensorboard:DIRECTORY"
            ) from error
        raise RetryLater(f"tensorboard: cannot open a file in {root}: {error}") from error
    if run.generation:
        recording.forget_earlier()
    return recording


def _empty_replaced(root: str, run: RunInfo) -> None:
    """Empty the files of earlier generations: all that counts of them is recorded anew.

    They stay, without content: a TensorBoard that has read one goes on to the next file only when it finds its end.
    """
    for state in run.replaced:
        name = state.get("file")
        path = Path(root, str(name)).resolve()
        # A state may come from anywhere; nothing outside the log directory is the run's.
        if isinstance(name, str) and path.is_relative_to(Path(root).resolve()) and path.name.startswith("events.out."):
            with contextlib.suppress(FileNotFoundError):
                os.truncate(path, 0)


def _continue(root: str, run: RunInfo) -> Recording | None:
    name, length = run.state.get("file"), run.state.get("length")
    if not isinstance(name, str) or not isinstance(length, int):
        return None
    path = Path(root, name)
    try:
        file = LocalEventFile(path, length=length)
    except FileNotFoundError:
        # Somebody has cleaned up: what comes from now on goes into a new file.
        return None
    return _recording(file, TagTable(run.state.get("tags")), run, name, str(path), fresh=False)


def _recording(file: EventFile, tags: TagTable, run: RunInfo, name: str, place: str, *, fresh: bool) -> Recording:
    return Recording(file, tags, run.state, name=name, directory=posixpath.dirname(place), fresh=fresh)
