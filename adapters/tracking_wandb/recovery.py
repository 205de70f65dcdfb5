"""What a killed client leaves undone, besides rows: media, what is no row at all, and folders that nobody knows of.

Rows tell by their numbers which of them have arrived. But the client sends the files of a row after the row, and
configuration, summary, alerts and lineage by requests of their own; killed, it leaves rows behind whose files are
missing, and later rows may be there without an earlier change of the configuration. So these are sent again:

- what is no row, if it was sent within two minutes before the state was last kept, or after; sent twice it does no
  harm, but for an alert that is raised twice;
- files, when the run is finished: those that stand in the folders of unfinished openings, and that the server has not.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking_core import RetryLater
from tracking_wandb import client
from tracking_wandb.failures import within
from tracking_wandb.plain import merge, plain_config

if TYPE_CHECKING:
    from tracking_core import RunInfo
    from tracking_core.values import Record
    from tracking_wandb.opening import Session
    from tracking_wandb.options import Options

_FACTS, _FOLDERS, _OPENINGS, _CONFIG = "facts", "folders", "openings", "config"
_ON_THEIR_WAY = 120.0
"""Seconds after which a request of the client is taken to have been answered."""
_PAGE = 500


def begun(session: Session) -> None:
    """Remember the folder of an opening, until all of it is known to be at the server."""
    folders: list[str] = session.info.state.setdefault(_FOLDERS, [])
    if str(session.directory) not in folders:
        folders.append(str(session.directory))


def sent(state: MutableMapping[str, Any], record: Record) -> None:
    """Remember a record that becomes no row, while nobody knows whether it has arrived."""
    now = time.time()
    facts: list[list[Any]] = state.setdefault(_FACTS, [])
    if any(writer == record.writer and abs(now - at) < 1.0 for writer, _, at in facts):
        # Going back to the earlier one is enough: a summary that is set every step must cost nothing.
        return
    state[_FACTS] = [fact for fact in facts if abs(now - fact[2]) < _ON_THEIR_WAY]
    state[_FACTS].append([record.writer, record.seq, round(now, 3)])


def configured(state: MutableMapping[str, Any], change: Mapping[str, Any]) -> None:
    """Remember a change of the configuration: opening the run again must not take it back."""
    merge(state.setdefault(_CONFIG, {}), deepcopy(change))


def configuration(run: RunInfo) -> dict[str, Any]:
    """The configuration of a run, with the changes that were sent."""
    config = plain_config(run.config)
    merge(config, deepcopy(run.state.get(_CONFIG, {})))
    return config


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
    folders = [Path(folder) / "files" for folder in state.get(_FOLDERS, ())]
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


def announce(options: Options, run: RunInfo, folders: Iterable[Path]) -> None:
    """Write down which folders of an offline run are there before another is made: killed early, it bears no mark."""
    path = _announcement(options, run)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"v": 1, "folders": sorted(folder.name for folder in folders)}))


def announced(options: Options, run: RunInfo, folders: Iterable[Path]) -> set[Path]:
    """Those of the folders that were made after an announcement, for this run."""
    try:
        before = set(json.loads(_announcement(options, run).read_text())["folders"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {folder for folder in folders if folder.name.endswith(f"-{run.id}") and folder.name not in before}


def settled(options: Options, run: RunInfo) -> None:
    """Forget an announcement: every folder that it is about bears its mark."""
    with contextlib.suppress(OSError):
        _announcement(options, run).unlink(missing_ok=True)


def _announcement(options: Options, run: RunInfo) -> Path:
    return client.client_directory(options, run) / "wandb" / f".opening-{run.id}.json"


def _media(folder: Path) -> Iterator[Path]:
    return (path for path in (folder / "media").rglob("*") if path.is_file())
