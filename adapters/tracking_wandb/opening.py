"""Opening a run with the client: new or continued, online or offline, and what is known of what it has already."""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking_core import NullTracker, SettingsError
from tracking_wandb import client, client_settings, places, recovery
from tracking_wandb.credentials import require_key
from tracking_wandb.failures import is_gone, opening_error, settings_understood
from tracking_wandb.folders import Folders
from tracking_wandb.options import Options, read_options
from tracking_wandb.plain import plain_config
from tracking_wandb.session import OPEN, Session
from tracking_wandb.state import clear_up

if TYPE_CHECKING:
    from tracking_core import RunInfo, Target, Tracker

_PAUSES = (0.05, 0.2, 0.5, 1.0, None)
"""Seconds before opening is tried again, when wandb-core was gone or still held the run; None gives up."""


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
    OPEN[run.id] = session
    run.state["openings"] = run.state.get("openings", 0) + 1
    run.state["mode"] = mode
    run.state["dir"] = str(session.directory)
    if mode == "online":
        recovery.begun(session)
    return WandbTracker(session)


def _init(wandb: Any, options: Options, run: RunInfo, mode: str, folders: Folders, server: str | None) -> Any:
    """Call `wandb.init`; again with a new wandb-core if the one that was there is gone, or still holds the run."""
    arguments = client.init_arguments(options, run)
    where = f"{server or 'the server'}, run {run.id!r}" if mode == "online" else f"run {run.id!r}"
    if OPEN.get(run.id) is not None:
        raise SettingsError(
            f"wandb: the run {run.id!r} is already open in this process; the client opens a run id "
            "only once at a time, so name the backend wandb once, and finish a tracker before opening its run again"
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
        f"wandb: the client did not write into {folders.root} but into {folder.parent}; check that the directory "
        "can be read and written, or name another one with dir=…"
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
