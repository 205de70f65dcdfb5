"""A run's event file, opened: continued where its last confirmed record ended, or begun."""

from __future__ import annotations

import errno
import os
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING

from tracking_core import RetryLater, SettingsError
from tracking_tensorboard.events import LocalEventFile
from tracking_tensorboard.kept import Kept, kept
from tracking_tensorboard.location import file_name, log_directory, remote_scheme, run_directory
from tracking_tensorboard.own_files import EmptyError, NotOursError, confirmed_length, mark, open_own, shown
from tracking_tensorboard.recording import Recording
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


def open_recording(target: Target, run: RunInfo) -> Recording:
    """Continue the file that the run's state names, or begin a new one.

    Raises:
        SettingsError: The place cannot be written to.
        RetryLater: The file system refuses for now.
    """
    root = log_directory(target, run)
    known = kept(run.state)
    if remote_scheme(root) is not None:
        return _begin_remote(root, target, run, known)
    remarks: list[str] = []
    try:
        _refuse_link(root, target, run)
        continued = _continue(root, target, run, known, remarks)
        if continued is not None:
            return continued
        # TensorBoard, and whoever reads the files of a run in order, is to see the new one after those before.
        name = f"{run_directory(run)}/{file_name(_latest(run, known))}"
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.is_symlink():
            raise SettingsError(
                f"tensorboard: {path.parent} is a link, and runs are not written through links: remove it, or name the "
                "directory that it leads to, as in tensorboard:DIRECTORY"
            )
        file = LocalEventFile.create(path, mark(run.id, target.key))
        recording = Recording(file, TagTable(), run.state, name=name, target=target.key, directory=str(path.parent))
        _empty_replaced(root, target, run, remarks)
    except OSError as error:
        if error.errno in _FINAL:
            raise SettingsError(
                f"tensorboard: cannot write to {root}: {error.strerror}; name a directory that can be written to, "
                "as in tensorboard:DIRECTORY"
            ) from error
        raise RetryLater(f"tensorboard: cannot open a file in {root}: {error}") from error
    recording.remarks = remarks
    if run.generation:
        recording.forget_earlier()
    return recording


def _begin_remote(root: str, target: Target, run: RunInfo, known: Kept) -> Recording:
    """Begin an object: those that are there stay as they are, whatever a state says of them."""
    from tracking_tensorboard.remote_events import RemoteEventFile

    folder = run_directory(run)
    if run.generation:
        # Objects are only added to: what is recorded anew stands beside.
        folder += f"-went-back-{run.generation}"
    name = f"{folder}/{file_name(_latest(run, known))}"
    place = posixpath.join(root, name)
    # The earlier files stay as they are, and so do the tags in them.
    tags = TagTable(known.tags, described=False)
    fresh = known.file is None or posixpath.dirname(known.file) != folder
    file = RemoteEventFile(place, mark(run.id, target.key))
    return Recording(
        file, tags, run.state, name=name, target=target.key, directory=posixpath.dirname(place), kept=known, fresh=fresh
    )


def _refuse_link(root: str, target: Target, run: RunInfo) -> None:
    """See that the directory inside the run's own is one: a run directory that was copied may hold anything."""
    if not target.path and run.dir is not None and Path(root).is_symlink():
        raise SettingsError(
            f"tensorboard: {root} is a link, and links inside a run directory are not followed: remove it, or name "
            "the directory that it leads to, as in tensorboard:DIRECTORY"
        )


def _continue(root: str, target: Target, run: RunInfo, known: Kept, remarks: list[str]) -> Recording | None:
    if known.file is None:
        if "file" in run.state:
            remarks.append("the cursor does not describe the event file correctly: a new file is started")
        return None
    try:
        descriptor = open_own(root, run, known.file, _targets(target, known))
        try:
            path = Path(root, known.file)
            file = LocalEventFile(path, descriptor, confirmed_length(descriptor, known))
        except BaseException:
            os.close(descriptor)
            raise
    except NotOursError as error:
        remarks.append(
            f"the event file {shown(known.file)} {error}: the file stays unchanged, and a new one is started"
        )
        return None
    except FileNotFoundError:
        # Somebody has cleaned up: what comes from now on goes into a new file.
        remarks.append(f"the event file {shown(known.file)} is gone: a new one is started for the next records")
        return None
    key = known.target or target.key
    return Recording(
        file, TagTable(known.tags), run.state, name=known.file, target=key, directory=str(path.parent), kept=known,
        fresh=False,
    )  # fmt: skip


def _empty_replaced(root: str, target: Target, run: RunInfo, remarks: list[str]) -> None:
    """Empty the files of earlier generations: all that counts of them is recorded anew.

    They stay, without content: a TensorBoard that has read one goes on to the next file only when it finds its end.
    """
    for state in run.replaced:
        known = kept(state)
        if known.file is None:
            continue
        try:
            descriptor = open_own(root, run, known.file, _targets(target, known))
        except (FileNotFoundError, EmptyError):
            # Killed after this, and before that was noted.
            continue
        except NotOursError as error:
            remarks.append(
                f"the event file of an earlier attempt, {shown(known.file)}, {error}: the file stays unchanged"
            )
            continue
        try:
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)


def _targets(target: Target, known: Kept) -> list[str]:
    """Keys that a file of the target may have: another spelling of the same place has another."""
    return [target.key, *([known.target] if known.target else [])]


def _latest(run: RunInfo, known: Kept) -> str:
    """The last of the files of the run that a new one has to come after."""
    files = [kept(state).file for state in run.replaced]
    return max((name.rpartition("/")[2] for name in (*files, known.file) if name), default="")
