"""What a killed client leaves undone, besides rows: media, and what is no row at all.

Rows tell by their numbers which of them have arrived. But the client sends the files of a row after the row, and
configuration, summary, alerts and lineage by requests of their own; killed, it leaves rows behind whose files are
missing, and later rows may be there without an earlier change of the configuration. So these are sent again:

- what is no row, if it was sent within two minutes before the state was last kept, or after; sent twice it does no
  harm, but for an alert that is raised twice;
- files, when the run is finished: those that stand in the folders of unfinished openings, and that the server has not.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking_core import RetryLater
from tracking_wandb import client
from tracking_wandb.failures import within

if TYPE_CHECKING:
    from tracking_core.values import Record
    from tracking_wandb.session import Session

_FACTS, _FOLDERS, _OPENINGS = "facts", "folders", "openings"
_ON_THEIR_WAY = 120.0
"""Seconds after which a request of the client is taken to have been answered."""
_PAGE = 500


def begun(session: Session) -> None:
    """Remember the folder of an opening, until all of it is known to be at the server."""
    folders: list[str] = session.info.state.setdefault(_FOLDERS, [])
    if session.directory.name not in folders:
        folders.append(session.directory.name)


def sent(state: MutableMapping[str, Any], record: Record) -> None:
    """Remember a record that becomes no row, while nobody knows whether it has arrived."""
    now = time.time()
    facts: list[list[Any]] = state.setdefault(_FACTS, [])
    if any(writer == record.writer and abs(now - at) < 1.0 for writer, _, at in facts):
        # Going back to the earlier one is enough: a summary that is set every step must cost nothing.
        return
    state[_FACTS] = [fact for fact in facts if abs(now - fact[2]) < _ON_THEIR_WAY]
    state[_FACTS].append([record.writer, record.seq, round(now, 3)])


def certain(have: Mapping[str, int], state: Mapping[str, Any], kept: Mapping[str, int]) -> dict[str, int]:
    """Up to where everything is at the server, not rows alone.

    Args:
        have: By writer, the highest number of a row at the server.
        state: The state of the run as it was last kept.
        kept: By writer, the highest number that had been sent by then.
    """
    found = dict(have)
    if state.get(_OPENINGS):
        # What was sent after that may have been anything.
        found = {writer: min(seq, kept.get(writer, 0)) for writer, seq in found.items()}
    for writer, seq, _ in state.get(_FACTS, ()):
        if writer in found:
            found[writer] = min(found[writer], seq - 1)
    return found


def complete(session: Session) -> None:
    """Upload the files that the server lacks; then forget what was unsure.

    Raises:
        RetryLater: They could not be uploaded.
    """
    state = session.info.state
    folders = [folder / "files" for folder in session.folders.remembered(state.get(_FOLDERS, []))]
    wanted = {path.relative_to(folder).as_posix(): folder for folder in folders for path in _media(folder)}
    if wanted:
        try:
            within(
                session.options.finish_timeout,
                f"uploading media of the run {session.info.id!r}",
                lambda: _upload_missing(session, wanted),
            )
        except Exception as error:
            raise RetryLater(
                f"wandb: the server may not have all media of the run {session.info.id!r} ({type(error).__name__}: "
                f"{str(error)[:200]}); they are in {session.directory}"
            ) from error
    state[_FACTS], state[_FOLDERS] = [], []


def _upload_missing(session: Session, wanted: Mapping[str, Path]) -> None:
    with client.quiet(session.wandb):
        run = session.history().run()
        there = {str(file.name): int(file.size or 0) for file in run.files(per_page=_PAGE)}
        for name, folder in wanted.items():
            if there.get(name) != (folder / name).stat().st_size:
                run.upload_file(str(folder / name), root=str(folder))


def _media(folder: Path) -> Iterator[Path]:
    """The files of media in a folder: no links, and nothing behind one, whoever made it."""
    media = folder / "media"
    if folder.is_symlink() or media.is_symlink():
        return
    for place, _, names in os.walk(media):
        yield from (path for name in names if stat.S_ISREG((path := Path(place, name)).lstat().st_mode))
