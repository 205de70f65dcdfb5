"""The event files of a run, opened: continued where their last confirmed records ended, or begun."""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tracking_core import Rejected, RetryLater, SettingsError
from tracking_tensorboard.claiming import claim, event_files, sub_runs
from tracking_tensorboard.events import LocalEventFile
from tracking_tensorboard.kept import Kept, kept
from tracking_tensorboard.location import (
    FLAT,
    SCOPED,
    file_name,
    is_scoped,
    log_directory,
    name_with_id,
    remote_scheme,
)
from tracking_tensorboard.own_files import (
    EmptyError,
    NotOursError,
    confirmed_length,
    has_token,
    mark,
    open_own,
    shown,
)
from tracking_tensorboard.recording import Part, Recording, forget_earlier
from tracking_tensorboard.tags import TagTable

if TYPE_CHECKING:
    from tracking_core import RunInfo, Target
    from tracking_tensorboard.events import EventFile

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


def open_recording(target: Target, run: RunInfo) -> Recording:
    """Continue the files that the run's state names, or begin new ones.

    Raises:
        SettingsError: The place cannot be written to.
        RetryLater: The file system refuses for now.
    """
    root = log_directory(target, run)
    if remote_scheme(root) is not None:
        return _Remote(root, target, run).open()
    try:
        return _Local(root, target, run).open()
    except OSError as error:
        if error.errno in _FINAL:
            raise SettingsError(
                f"tensorboard: cannot write to {root}: {error.strerror}; name a directory that can be written to, "
                "as in tensorboard:DIRECTORY"
            ) from error
        raise RetryLater(f"tensorboard: cannot open a file in {root}: {error}") from error


class _Local:
    """The files of a run in a log directory of this machine.

    Args:
        root: The log directory.
        target: The target.
        run: The run.
    """

    def __init__(self, root: str, target: Target, run: RunInfo) -> None:
        self._root = root
        self._target = target
        self._run = run
        self._layout = SCOPED if is_scoped(target) else FLAT
        self._known = kept(run.state)
        self._replaced = [kept(state) for state in run.replaced]
        # Keys that a file of the target may have: another spelling of the same place has another.
        self._keys = [target.key, *([self._known.target] if self._known.target else [])]
        self._remarks: list[str] = []
        self._folder = ""
        self._anew: set[str] = set()
        """Sub-runs of which a TensorBoard may have read what does not count any more."""

    def open(self) -> Recording:
        """Open them."""
        self._refuse_link()
        if self._layout == SCOPED:
            # In the state before there is any file of a sub-run: what is found of one is known by it.
            self._run.state["token"] = self._known.token or secrets.token_hex(8)
        recording = self._continue() or self._begin()
        recording.remarks = self._remarks
        return recording

    def _refuse_link(self) -> None:
        """See that the directory inside the run's own is one: a run directory that was copied may hold anything."""
        if not self._target.path and self._run.dir is not None and Path(self._root).is_symlink():
            raise SettingsError(
                f"tensorboard: {self._root} is a link, and links inside a run directory are not followed: remove it, "
                "or name the directory that it leads to, as in tensorboard:DIRECTORY"
            )

    def _continue(self) -> Recording | None:
        known = self._known
        if known.file is None:
            if "file" in self._run.state:
                self._remarks.append("the cursor does not describe the event file correctly: a new file is started")
            return None
        file = self._continued(known)
        if file is None:
            return None
        self._folder = known.file.partition("/")[0]
        own = Part(file, known.file, TagTable(known.tags))
        return self._recording(own, known.target or self._target.key, kept=known, fresh=False)

    def _continued(self, known: Kept) -> LocalEventFile | None:
        """The file that a state names, cut back to what was confirmed; None where a new one has to be begun."""
        assert known.file is not None
        try:
            descriptor = open_own(self._root, self._run, known.file, self._keys)
            try:
                return LocalEventFile(Path(self._root, known.file), descriptor, confirmed_length(descriptor, known))
            except BaseException:
                os.close(descriptor)
                raise
        except NotOursError as error:
            self._remarks.append(
                f"the event file {shown(known.file)} {error}: the file stays unchanged, and a new one is started"
            )
        except FileNotFoundError:
            # Somebody has cleaned up: what comes from now on goes into a new file.
            self._remarks.append(
                f"the event file {shown(known.file)} is gone: a new one is started for the next records"
            )
        return None

    def _begin(self) -> Recording:
        files = [one.file for one in (self._known, *reversed(self._replaced)) if one.file]
        self._folder = claim(self._root, self._run, self._layout, files)
        # TensorBoard, and whoever reads the files of a run in order, is to see the new one after those before.
        name = f"{self._folder}/{file_name(_latest(files))}"
        facts = mark(self._run.id, self._target.key, layout=self._layout)
        own = Part(LocalEventFile.create(Path(self._root, name), facts), name, TagTable())
        for one in self._replaced:
            for part in (one, *one.scopes.values()):
                self._empty(part.file)
        recording = self._recording(own, self._target.key)
        if self._run.generation:
            recording.forget_earlier()
        return recording

    def _recording(self, own: Part, key: str, *, kept: Kept | None = None, fresh: bool = True) -> Recording:
        directory = str(Path(self._root, self._folder))
        if self._layout != SCOPED:
            return Recording(own, self._run.state, target=key, directory=directory, kept=kept, fresh=fresh)
        self._empty_leftovers()
        return Recording(
            own, self._run.state, target=key, directory=directory, kept=kept, fresh=fresh, parts=self._sub_runs(),
            begin=self._begin_sub_run,
        )  # fmt: skip

    def _sub_runs(self) -> dict[str, Part]:
        """The sub-runs that the state knows, if their files can be continued."""
        found: dict[str, Part] = {}
        for scope, known in self._known.scopes.items():
            if known.file is None or not known.file.startswith(f"{self._folder}/{scope}/"):
                continue
            file = self._continued(known)
            if file is not None:
                found[scope] = Part(file, known.file, TagTable(known.tags), known.as_state())
            else:
                # What was confirmed in it stays, although no state names it any more: it is no leftover.
                self._run.state["token"] = secrets.token_hex(8)
        return found

    def _begin_sub_run(self, scope: str) -> tuple[EventFile, str]:
        place = Path(self._root, self._folder, scope)
        if not place.is_symlink():
            with contextlib.suppress(FileExistsError):
                place.mkdir()
        if place.is_symlink() or not place.is_dir():
            raise Rejected(f"tensorboard: {place} is not a directory that this adapter made: remove it")
        name = file_name(_latest(file.name for file in event_files(place)))
        facts = mark(self._run.id, self._target.key, layout=SCOPED, token=self._run.state["token"])
        file = LocalEventFile.create(place / name, facts)
        if self._run.generation or scope in self._anew:
            forget_earlier(file)
        return file, f"{self._folder}/{scope}/{name}"

    def _empty_leftovers(self) -> None:
        """Empty the files of sub-runs that no state names: killed before they were noted, all of them comes again."""
        known = {part.file for one in (self._known, *self._replaced) for part in one.scopes.values()}
        tokens = {one.token for one in (self._known, *self._replaced) if one.token}
        for place in sub_runs(Path(self._root, self._folder)) if tokens else ():
            for file in event_files(place):
                name = f"{self._folder}/{place.name}/{file.name}"
                if name not in known and has_token(file, self._run.id, tokens):
                    self._anew.add(place.name)
                    self._empty(name)

    def _empty(self, name: str | None) -> None:
        """Empty a file of which nothing counts, or all is recorded anew.

        It stays, without content: a TensorBoard that has read one goes on to the next file only when it finds its end.
        """
        if name is None:
            return
        try:
            descriptor = open_own(self._root, self._run, name, self._keys_of_replaced())
        except (FileNotFoundError, EmptyError):
            # Killed after this, and before that was noted.
            return
        except NotOursError as error:
            self._remarks.append(
                f"the event file of an earlier attempt, {shown(name)}, {error}: the file stays unchanged"
            )
            return
        try:
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def _keys_of_replaced(self) -> list[str]:
        return [*self._keys, *(one.target for one in self._replaced if one.target)]


class _Remote:
    """The objects of a run in a bucket: those that are there stay as they are, whatever a state says of them.

    Nothing can be claimed there, so that the name of a run always has its id.

    Args:
        root: The URL that is the log directory.
        target: The target.
        run: The run.
    """

    def __init__(self, root: str, target: Target, run: RunInfo) -> None:
        self._root = root
        self._target = target
        self._run = run
        self._known = kept(run.state)
        self._layout = SCOPED if is_scoped(target) else FLAT
        self._folder = name_with_id(run) + ("-scoped" if self._layout == SCOPED else "")
        if run.generation:
            # Objects are only added to: what is recorded anew stands beside.
            self._folder += f"-went-back-{run.generation}"

    def open(self) -> Recording:
        """Begin an object."""
        known = self._known
        before = [known.file, *(kept(state).file for state in self._run.replaced)]
        file, name = self._begin(self._folder, _latest(one for one in before if one))
        # The earlier files stay as they are, and so do the tags in them.
        own = Part(file, name, TagTable(known.tags, described=False))
        fresh = known.file is None or posixpath.dirname(known.file) != self._folder
        parts = {
            scope: Part(None, "", TagTable(one.tags, described=False), one.as_state())
            for scope, one in known.scopes.items()
        }
        return Recording(
            own, self._run.state, target=self._target.key, directory=posixpath.join(self._root, self._folder),
            kept=known, fresh=fresh, parts=parts, begin=self._begin_sub_run if self._layout == SCOPED else None,
        )  # fmt: skip

    def _begin_sub_run(self, scope: str) -> tuple[EventFile, str]:
        known = self._known.scopes.get(scope)
        return self._begin(f"{self._folder}/{scope}", (known.file if known else None) or "")

    def _begin(self, folder: str, after: str) -> tuple[EventFile, str]:
        from tracking_tensorboard.remote_events import RemoteEventFile

        name = f"{folder}/{file_name(after)}"
        facts = mark(self._run.id, self._target.key, layout=self._layout)
        return RemoteEventFile(posixpath.join(self._root, name), facts), name


def _latest(files: Iterable[str]) -> str:
    """The last of the files of the run that a new one has to come after."""
    return max((name.rpartition("/")[2] for name in files), default="")
