"""Where a target leads: which server a key may go to, and which spellings are one place.

A key of the account goes to W&B's own server, to one that the account's own settings name (WANDB_BASE_URL, `wandb
login`), and to one that was named to tracking: in a target of `start_run`, of a setting or of `--to`, now or before. A
server that only the files of a run name, or a `wandb/settings` in the working directory, gets no request at all.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

import tracking_core
from tracking_core import SettingsError, knows_server, remember_server
from tracking_wandb import client_settings
from tracking_wandb.names import project_name
from tracking_wandb.options import checked_address, refuse_own_domain

if TYPE_CHECKING:
    from tracking_core import RunInfo
    from tracking_wandb.options import Options

_BACKEND = "wandb"
OWN_SERVER = "https://api.wandb.ai"
_ALIASES = {"api.forge.coreweave.com": "", "forge.coreweave.com": "/api/wandb"}
"""Hosts under which W&B's own service is known too, with the path there; which one the client takes depends on its
version."""
_PORTS = {"http": 80, "https": 443}


def normal(address: str) -> str:
    """The one spelling of a server's address."""
    try:
        parts = urlsplit(address.strip())
        port = parts.port
    except ValueError:
        return address
    host = (parts.hostname or "").rstrip(".")
    path = parts.path.rstrip("/")
    if parts.scheme == "https" and port in {None, 443} and _ALIASES.get(host) == path:
        return OWN_SERVER
    shown = f"[{host}]" if ":" in host else host
    return (
        f"{parts.scheme.lower()}://{shown}"
        + (f":{port}" if port not in {None, _PORTS.get(parts.scheme)} else "")
        + path
    )


def server(options: Options, *, named: bool) -> str | None:
    """The server that a run goes to, as it was written; None for W&B's own.

    Args:
        options: Of the target.
        named: Whether this account named the target.

    Raises:
        SettingsError: Nobody named the server but the files of a run, or of the working directory; or it is no address.
    """
    # Also those that do not count in the end: the client reads them all the same.
    for value, what in client_settings.every("base_url"):
        checked_address(value, what)
        refuse_own_domain(value, what)
    found, origin = client_settings.setting("base_url")
    if options.base_url is not None:
        refuse_own_domain(options.base_url, "the option base_url")
        if named or _is_known(options.base_url):
            return options.base_url
        raise SettingsError(
            f"wandb: the run names the server {options.base_url}, which this account has not named before, and nothing "
            f"was sent there. If it is yours, name it: tracking sync --to 'wandb://?base_url={options.base_url}', with "
            "the other options of the run's target; it is remembered"
        )
    if found is not None and origin == "here" and not _is_known(found):
        raise SettingsError(
            f"wandb: {client_settings.local_file()} names the server {found}, which this account has not named before, "
            f"and nothing was sent there. If it is yours, set WANDB_BASE_URL={found}, or name it in a target: "
            f"tracking sync --to 'wandb://?base_url={found}'"
        )
    return None if found is None or normal(found) == OWN_SERVER else found.rstrip("/")


def remember(options: Options) -> None:
    """Remember the server of a target that this account named."""
    if options.base_url is not None and not _is_own(options.base_url):
        remember_server(_BACKEND, normal(options.base_url))


def place(options: Options, run: RunInfo, mode: str) -> str:
    """The same text for all options that lead to the same place.

    An entity that only the server knows, the account's default, is a spelling of its own. Offline, the place is where
    the run is written and what it will be uploaded as; to which server is said when it is.

    Args:
        options: Of the target.
        run: The run.
        mode: online, offline or disabled.
    """
    if mode == "disabled":
        return mode
    entity = options.entity or client_settings.setting("entity")[0]
    where = f"{'?' if not entity else quote(entity, safe='')}/{quote(project_of(options, run), safe='')}"
    if mode == "offline":
        found = f"offline {_offline(str(client_directory(options, run)), run)} {where}"
        return _before(found, run) or found
    address = options.base_url or client_settings.setting("base_url")[0] or OWN_SERVER
    return f"{normal(address)}/{where}"


def project_of(options: Options, run: RunInfo) -> str:
    """The project a run goes to: of the target, else the run's, else WANDB_PROJECT, else "default"."""
    if options.project:
        return project_name(options.project)
    if run.project == "default" and os.environ.get("WANDB_PROJECT"):
        return project_name(os.environ["WANDB_PROJECT"])
    return project_name(run.project)


def client_directory(options: Options, run: RunInfo) -> Path:
    """Where the client makes its folder `wandb`; in the end that is the adapter's own directory of the run.

    One that was named is told by its one name, whatever links lead to it.
    """
    named = named_directory(options)
    return run.directory("wandb").absolute().parent if named is None else Path(os.path.realpath(named))


def named_directory(options: Options) -> Path | None:
    """The directory that the target names, or else the environment; None where neither does."""
    if options.dir is None and os.environ.get("WANDB_DIR"):
        return Path(os.environ["WANDB_DIR"]).absolute()
    return options.dir


def directory_problem(found: Path) -> str | None:
    """Why the client could not make its folder in a directory; None where nothing speaks against it."""
    problem = tracking_core.directory_problem(found, listed=True)
    if problem is not None:
        return problem
    home = ".wandb" if (found / ".wandb").exists() else "wandb"
    return tracking_core.directory_problem(found / home)


def _offline(folder: str, run: RunInfo) -> str:
    # In the run's own directory it moves with it.
    real = os.path.realpath(folder)
    return "." if real == os.path.realpath(run.directory("wandb").parent) else quote(real, errors="surrogatepass")


def _before(place: str, run: RunInfo) -> str | None:
    """What the run calls an offline place already, where that was named by a link before links were followed.

    The cursor and the folders that are there are under that name; who goes on under another one has both once.
    """
    known: list[str] = []
    for file in sorted(run.dir.glob(f"cursors/{_BACKEND}-*.place")) if run.dir is not None else ():
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            content = json.loads(file.read_bytes()) if file.is_file() else {}
            known.append(str(content["place"]))
    for other in known if place not in known else ():
        kind, _, rest = other.partition(" ")
        folder, _, where = rest.partition(" ")
        if (
            kind == "offline"
            and folder != "."
            and f"{kind} {_offline(unquote(folder, errors='surrogatepass'), run)} {where}" == place
        ):
            return other
    return None


def _is_own(address: str) -> bool:
    """Whether the account's settings name a server, or it is W&B's own."""
    return normal(address) in {OWN_SERVER, *(normal(one) for one in client_settings.account("base_url"))}


def _is_known(address: str) -> bool:
    return _is_own(address) or knows_server(_BACKEND, normal(address))
