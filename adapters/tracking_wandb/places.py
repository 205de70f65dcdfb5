"""Where a target leads: which server a key may go to, and which spellings are one place.

A key of the account goes to W&B's own server, to one that the account's own settings name (WANDB_BASE_URL, `wandb
login`), and to one that was named to tracking: in a target of `start_run`, of a setting or of `--to`, now or before. A
server that only the files of a run name, or a `wandb/settings` in the working directory, gets no request at all.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from tracking_core import SettingsError, knows_server, remember_server
from tracking_wandb import client_settings
from tracking_wandb.names import project_name

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
    parts = urlsplit(address.strip())
    host = (parts.hostname or "").rstrip(".")
    path = parts.path.rstrip("/")
    try:
        port = parts.port
    except ValueError:
        return address
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
        SettingsError: Nobody named the server but the files of a run, or of the working directory.
    """
    found, origin = client_settings.setting("base_url")
    if options.base_url is not None:
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
        folder = client_directory(options, run)
        # In the run's own directory it moves with it.
        inside = folder == run.directory("wandb").absolute().parent
        return f"offline {'.' if inside else quote(str(folder))} {where}"
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
    """Where the client makes its folder `wandb`; in the end that is the adapter's own directory of the run."""
    if options.dir is not None:
        return Path(os.path.normpath(options.dir))
    if os.environ.get("WANDB_DIR"):
        return Path(os.path.normpath(Path(os.environ["WANDB_DIR"]).absolute()))
    return run.directory("wandb").absolute().parent


def _is_own(address: str) -> bool:
    """Whether the account's settings name a server, or it is W&B's own."""
    return normal(address) in {OWN_SERVER, *(normal(one) for one in client_settings.account("base_url"))}


def _is_known(address: str) -> bool:
    return _is_own(address) or knows_server(_BACKEND, normal(address))
