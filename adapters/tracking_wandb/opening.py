"""Opening a run with the client: new or continued, online or offline, and what is known of what it has already."""

from __future__ import annotations

import contextlib
import shutil
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking_core import NullTracker, SettingsError
from tracking_wandb import client, client_settings, places, recovery
from tracking_wandb.credentials import require_key
from tracking_wandb.failures import is_gone, opening_error, settings_understood
from tracking_wandb.folders import Folders
from tracking_wandb.history import ServerHistory
from tracking_wandb.options import Options, read_options
from tracking_wandb.plain import plain_config
from tracking_wandb.state import clear_up

if TYPE_CHECKING:
    from tracking_core import RunInfo, Target, Tracker
    from tracking_core.values import Record

_PAUSES = (0.05, 0.2, 0.5, 1.0, None)
"""Seconds before opening is tried again, when wandb-core was gone or still held the run; None gives up."""


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


_OPEN: weakref.WeakValueDictionary[str, Session] = weakref.WeakValueDictionary()
"""By id, the sessions of this process whose run the client holds."""


class DisabledTracker(NullTracker):
    """Records nothing, as `mode=disabled` asks; the client's own disabled run is there for what goes past us."""

    url = None

    def __init__(self, native: Any) -> None:
        self.native = native


def open_run(target: Target, run: RunInfo) -> Tracker:
    """Open a run at W&B.

    Raises:
        SettingsError: Something in the target, the environment or the account has to be changed.
        RetryLater: The server or the client does not answer; it may later.
    """
    options = read_options(target)
    clear_up(run.state)
    # Both before anything of the client runs: it obeys the file, and talks to the server.
    client_settings.check_local_file()
    server = places.server(options, named=target.named)
    client.keep_secrets()
    import wandb

    from tracking_wandb.tracker import WandbTracker

    with settings_understood(f"run {run.id!r}"):
        mode = client.effective_mode(wandb, options)
        if mode == "disabled":
            return DisabledTracker(
                wandb.init(mode="disabled", reinit="create_new", project=places.project_of(options, run))
            )
        found = wandb.setup().settings
    if mode == "online":
        require_key(server, found)
        if run.generation:
            # W&B cannot take rows back, and never gives the id of a deleted run again. Nobody calls a run so.
            run = replace(run, id=f"{run.id}-went-back-{run.generation}")
    folders = Folders(places.client_directory(options, run), run, places.place(options, run, mode))
    folders.check()
    folders.prepare()
    earlier = folders.earlier() if mode == "offline" else []
    native = _init(wandb, options, run, mode, folders, server)
    session = Session(
        wandb=wandb,
        native=native,
        info=run,
        options=options,
        mode=mode,
        server="" if mode == "offline" else str(native.settings.base_url),
        directory=Path(native.dir).parent,
        folders=folders,
    )
    folders.mark(session.directory)
    reopened = bool(run.state.get("openings"))
    if run.state.get("round", 0) != run.round:
        run.state["round"], run.state["sent"] = run.round, {}
    session.known = dict(run.state.get("sent", {}))
    if mode == "offline":
        session.replaced = earlier
        session.confirmed = {} if reopened else None
    elif reopened or native.resumed:
        _compare_with_server(session)
    _OPEN[run.id] = session
    run.state["openings"] = run.state.get("openings", 0) + 1
    run.state["mode"] = mode
    run.state["dir"] = str(session.directory)
    if mode == "online":
        recovery.begun(session)
    return WandbTracker(session)


def closed(session: Session) -> None:
    """The client is done with a run: it may be opened again."""
    if _OPEN.get(session.info.id) is session:
        del _OPEN[session.info.id]


def remove_replaced(session: Session) -> None:
    """Remove what earlier openings wrote offline: this one is given everything again.

    Two folders of one run must not stay: whichever is synchronised second replaces the first at the server.
    """
    for folder in session.replaced:
        if folder != session.directory:
            session.folders.remove(folder)
    session.replaced.clear()


def _init(wandb: Any, options: Options, run: RunInfo, mode: str, folders: Folders, server: str | None) -> Any:
    """Call `wandb.init`; again with a new wandb-core if the one that was there is gone, or still holds the run."""
    arguments = client.init_arguments(options, run)
    where = f"{server or 'the server'}, run {run.id!r}" if mode == "online" else f"run {run.id!r}"
    if _OPEN.get(run.id) is not None:
        raise SettingsError(
            f"wandb: the run {run.id!r} is open in this process already; the client has one run of an id at a time, so "
            "name the backend wandb once, and finish a tracker before opening its run again"
        )
    for pause in _PAUSES:
        try:
            with client.quiet(wandb), client.command_line(run):
                native = wandb.init(
                    **arguments,
                    config=plain_config(run.config),
                    resume="allow" if mode == "online" else None,
                    reinit="create_new",
                    settings=client.run_settings(wandb, options, run, mode, folders, server),
                )
            client.keep_secrets()
            client.step_aside(wandb, native)
            _see_where_it_is(native, folders)
        except SettingsError:
            folders.undo()
            raise
        except Exception as error:
            client.let_go(wandb, run.id, error)
            folders.undo()
            if pause is None or not (is_gone(error) or "in use" in str(error)):
                raise opening_error(error, where) from error
            if is_gone(error):
                # Every run of this process is lost with its wandb-core; what is left of it only stands in the way.
                with contextlib.suppress(Exception):
                    wandb.teardown()
            time.sleep(pause)
        else:
            return native
    raise AssertionError("unreachable")


def _see_where_it_is(native: Any, folders: Folders) -> None:
    """See that the client did not take another directory than it was told: it does where that cannot be written to."""
    folder = Path(native.dir).parent
    if folders.holds(folder):
        return
    # What it has made there is empty, and of this opening.
    with contextlib.suppress(Exception):
        native.finish(exit_code=1)
    if folder.name.endswith(f"-{folders.suffix}"):
        shutil.rmtree(folder, ignore_errors=True)
    raise SettingsError(
        f"wandb: the client did not write into {folders.root} but into {folder.parent}; see that the directory can be "
        "read and written, or name another one with dir=…"
    )


def _compare_with_server(session: Session) -> None:
    """Find out what the server has; where it does not say, the cursor is left to tell."""
    state = session.info.state
    sent = session.known
    try:
        have = session.history().confirmed(sent, round_=session.info.round) if session.native.resumed else {}
    except Exception:  # noqa: BLE001 - the client raises much; without an answer the cursor is what there is
        return
    session.have = have
    session.confirmed = recovery.certain(have, state, sent)
    for writer, seq in state.get("uploads", []):
        # An artifact that was on its way is sent again; rows behind it that are there already are not.
        if writer in session.confirmed:
            session.confirmed[writer] = min(session.confirmed[writer], seq - 1)
    state["uploads"] = []
