"""A run that is open at W&B: what opening it found, and what closing it leaves."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking_wandb.folders import Folders
from tracking_wandb.history import ServerHistory
from tracking_wandb.options import Options

if TYPE_CHECKING:
    from tracking_core import RunInfo
    from tracking_core.values import Record

OPEN: weakref.WeakValueDictionary[str, Session] = weakref.WeakValueDictionary()
"""By id, the sessions of this process whose run the client holds."""


@dataclass(slots=True, weakref_slot=True)
class Session:
    """One opening of a run.

    Args:
        wandb: The client.
        native: The client's Run.
        info: The run as the core knows it.
        options: What the target asked for.
        mode: "online" or "offline".
        server: Address of the server; "" offline.
        directory: The run's folder, with its transaction log.
        folders: Where that is, beside those of earlier openings.
        known: By writer, the highest number that was handed to the client before this opening.
        confirmed: By writer, the highest sequence number the backend has; None where the cursor is to be trusted.
        replaced: Folders of earlier openings that this one replaces once records are delivered again.
        have: By writer, the highest sequence number of a row at the server; its rows up to there are not sent again.
        again: Writer and number of rows at the server that had failed at first; None until somebody asks.
    """

    wandb: Any
    native: Any
    info: RunInfo
    options: Options
    mode: str
    server: str
    directory: Path
    folders: Folders
    known: Mapping[str, int] = field(default_factory=dict[str, int])
    confirmed: dict[str, int] | None = None
    replaced: list[Path] = field(default_factory=list[Path])
    have: dict[str, int] = field(default_factory=dict[str, int])
    again: set[tuple[str, int]] | None = None

    @property
    def log(self) -> Path:
        """The transaction log."""
        return self.directory / f"run-{self.info.id}.wandb"

    def knew(self, record: Record) -> bool:
        """Whether a record was handed to the client in an earlier opening already."""
        return record.seq <= self.known.get(record.writer, -1)

    def history(self, *, timeout: int = 10) -> ServerHistory:
        """The rows at the server."""
        return ServerHistory(self.wandb, str(self.native.path), self.server, timeout=timeout)


def closed(session: Session) -> None:
    """The client is done with a run: it may be opened again."""
    if OPEN.get(session.info.id) is session:
        del OPEN[session.info.id]


def remove_replaced(session: Session) -> None:
    """Remove what earlier openings wrote offline: this one is given everything again.

    Two folders of one run must not stay: whichever is synchronised second replaces the first at the server.
    """
    for folder in session.replaced:
        if folder != session.directory:
            session.folders.remove(folder)
    session.replaced.clear()
