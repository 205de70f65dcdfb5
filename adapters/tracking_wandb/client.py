"""The client as we use it: its settings for one run, quiet, and with what is known of the training process."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, cast

from tracking_core import SettingsError, redact_text
from tracking_wandb import client_settings
from tracking_wandb.failures import is_gone
from tracking_wandb.names import MAX_LABEL, shortened, tag
from tracking_wandb.options import MODES
from tracking_wandb.places import project_of

if TYPE_CHECKING:
    from tracking_core import RunInfo
    from tracking_wandb.folders import Folders
    from tracking_wandb.options import Options

FLUSH_INTERVAL = 0.5
"""Seconds until a record is in the transaction log; the client's own default, 15, loses that much to a crash."""
_ARGV = threading.Lock()


def effective_mode(wandb: Any, options: Options) -> str:
    """online, offline or disabled: from the target, else environment and files, else what the program told the client.

    The client reads environment and files once in a process; what they say now counts, for the place of a run too.

    Raises:
        SettingsError: The environment names a mode that this adapter does not have.
    """
    wanted = options.mode or client_settings.setting("mode")[0]
    return checked_mode(client_settings.mode(wanted or str(wandb.setup().settings.mode)))


def checked_mode(mode: str) -> str:
    """A mode that this adapter has.

    Raises:
        SettingsError: It is another one.
    """
    if mode not in MODES:
        raise SettingsError(f"wandb: WANDB_MODE={mode}: expected {', '.join(MODES[:-1])} or {MODES[-1]}")
    return mode


def run_settings(wandb: Any, options: Options, run: RunInfo, mode: str, folders: Folders, server: str | None) -> Any:
    """The client's settings for one run.

    The client forbids what it does not know, and its version decides what that is: what is not there is left out.
    """
    fields = getattr(wandb.Settings, "model_fields", {})
    environment = run.environment
    git = environment.get("git")
    git = cast("Mapping[str, Any]", git) if isinstance(git, Mapping) else {}
    known_git = {
        "git_commit": git.get("commit"),
        "git_remote_url": git.get("remote"),
    }
    wanted: dict[str, Any] = {
        "mode": mode,
        "root_dir": str(folders.root),
        # Said always: the client's own setting may be that of a run before, or of a file in the working directory.
        "base_url": server or getattr(fields.get("base_url"), "default", None),
        "x_sync_dir_suffix": folders.suffix,
        "silent": True,
        "console": options.console,
        "save_code": options.save_code,
        "label_disable": True,
        "init_timeout": options.init_timeout,
        "finish_timeout": options.finish_timeout,
        "finish_timeout_raises": True,
        "program": environment.get("program"),
        "host": environment.get("host"),
        # With commit and remote at hand the client need not look, in a directory that may be another one.
        "disable_git": not options.git or any(known_git.values()),
        **(known_git if options.git else {}),
        "x_disable_stats": not options.system_metrics,
        "x_disable_meta": not options.metadata or _hides_arguments(environment),
        "x_save_requirements": options.metadata,
        "x_stats_pid": environment.get("pid") if isinstance(environment.get("pid"), int) else None,
        "x_transaction_log_flush_interval": FLUSH_INTERVAL,
        "x_file_stream_transmit_interval": _from_client("WANDB__FILE_STREAM_TRANSMIT_INTERVAL", 2),
    }
    return wandb.Settings(**{name: value for name, value in wanted.items() if value is not None and name in fields})


def writes_soon(wandb: Any) -> bool:
    """Whether this version of the client can be told to write its transaction log more often than every 15 s."""
    return "x_transaction_log_flush_interval" in getattr(wandb.Settings, "model_fields", {})


def init_arguments(options: Options, run: RunInfo) -> dict[str, Any]:
    """What `wandb.init` is told about the run; what is None is left to the environment (WANDB_NOTES and so on)."""
    tags = list(dict.fromkeys(tag(text) for text in run.tags if text))
    given = {
        "entity": options.entity,
        "project": project_of(options, run),
        "id": run.id,
        "name": shortened(run.name, MAX_LABEL) or None,
        "group": shortened(run.group, MAX_LABEL) if run.group else None,
        "job_type": shortened(run.job_type, MAX_LABEL) if run.job_type else None,
        "tags": tags or None,
        "notes": shortened(run.notes, 60_000) if run.notes else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def step_aside(wandb: Any, native: Any) -> None:
    """Take our run off the client's list of active runs.

    Otherwise a program that itself calls `wandb.init()` would be given our run as "the previous one", or end it.
    """
    remove = getattr(wandb.setup(), "remove_active_run", None)
    if callable(remove):
        remove(native)


def let_go(wandb: Any, run_id: str, error: BaseException) -> None:
    """Let wandb-core forget a run whose opening failed: otherwise its id stays "in use" in this process for ever.

    `wandb.init` tells wandb-core of the run before it asks the server, and does not take that back. What could do so
    is a local variable of it, which the traceback of the error still holds. Without it, the id stays in use.
    """
    trace = error.__traceback__
    interface: Any = None
    while trace is not None:
        interface = trace.tb_frame.f_locals.get("interface", interface)
        trace = trace.tb_next
    if interface is None or is_gone(error):
        return
    with contextlib.suppress(Exception):
        # In this order: a run that has not come to its end keeps wandb-core waiting, and then all others.
        interface.deliver_exit(1).wait_or(timeout=5)
        wandb.setup().assert_service().inform_finish(run_id=run_id)


class _Discreet(logging.Filter):
    """Keeps secrets out of the debug logs of runs, where the client writes configurations and answers of servers."""

    def filter(self, record: logging.LogRecord) -> bool:
        with contextlib.suppress(Exception):
            record.msg, record.args = redact_text(record.getMessage()), None
            if record.exc_info and not record.exc_text:
                # What a formatter finds here it takes as it is.
                record.exc_text = redact_text(logging.Formatter().formatException(record.exc_info))
        return True


_DISCREET = _Discreet()


def keep_secrets() -> None:
    """See that the client's Python side writes no secret into its logs: before a run is opened, and when it is."""
    # Adding it again changes nothing. What is logged below this logger passes by its own filters, not by its handlers'.
    logger = logging.getLogger("wandb")
    for one in (logger, *logger.handlers):
        one.addFilter(_DISCREET)


@contextlib.contextmanager
def quiet(wandb: Any) -> Generator[None]:
    """Keep the client from writing to the terminal for a while; what goes wrong is raised anyway."""
    setup = getattr(wandb, "termsetup", None)
    if setup is None:
        yield
        return
    own = wandb.setup().settings
    setup(wandb.Settings(silent=True), None)
    try:
        yield
    finally:
        setup(own, None)


@contextlib.contextmanager
def command_line(run: RunInfo) -> Generator[None]:
    """Let the client see the command line of the training, not that of the process which delivers for it.

    In the training process itself nothing is touched: others may look at `sys.argv` at the same time.
    """
    argv = run.environment.get("argv")
    if run.environment.get("pid") in {None, os.getpid()} or not isinstance(argv, list):
        yield
        return
    with _ARGV:
        before, sys.argv = sys.argv, [str(part) for part in cast("list[Any]", argv)]
        try:
            yield
        finally:
            sys.argv = before


def _hides_arguments(environment: Mapping[str, Any]) -> bool:
    """Whether this is the training process, and its command line was recorded with something left out of it."""
    argv = environment.get("argv")
    return environment.get("pid") == os.getpid() and isinstance(argv, list) and argv != sys.argv


def _from_client(variable: str, default: float) -> float | None:
    """None where the user set it for the client, in the client's own way."""
    return None if os.environ.get(variable) else default
