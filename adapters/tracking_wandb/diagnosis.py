"""What `tracking doctor wandb` looks at: the client, the mode, the key, the server, the directory."""

from __future__ import annotations

import importlib.metadata
import time
from typing import TYPE_CHECKING

from tracking_core import Finding, SettingsError
from tracking_wandb import client_settings, places
from tracking_wandb.credentials import ask_server, key_problem, key_source
from tracking_wandb.options import Options, read_options

if TYPE_CHECKING:
    from tracking_core import Target

_TIMEOUT = 3.0
_ORIGINS = {
    "environment": "WANDB_MODE",
    "here": "wandb/settings in the working directory",
    "account": "the client's settings file",
    "default": "the default",
}
_OLDEST = (0, 19, 10)
"""The first version in which several runs can be open in one process."""
_LOGIN = "run 'wandb login', or set WANDB_API_KEY"
_OFFLINE = "or record with mode=offline and run 'wandb sync' later"


def diagnose(target: Target) -> list[Finding]:
    """Look whether a target could be used; takes at most about three seconds, and creates nothing."""
    try:
        options = read_options(target)
    except SettingsError as error:
        return [Finding("error", str(error), "correct the target")]
    findings = [_client()]
    mode = client_settings.mode(options.mode)
    origin = "the target" if options.mode else _ORIGINS[client_settings.setting("mode")[1]]
    findings.append(Finding("ok", f"mode {mode} (from {origin})"))
    try:
        client_settings.check_local_file()
        # What is looked at was named by whoever looks.
        server = places.server(options, named=True) or places.OWN_SERVER
        if mode == "offline":
            findings += _directory(options)
        elif mode == "online":
            findings += _account(server)
    except SettingsError as error:
        findings.append(Finding("error", str(error)))
    return findings


def _client() -> Finding:
    try:
        version = importlib.metadata.version("wandb")
    except importlib.metadata.PackageNotFoundError:
        return Finding("error", "wandb is not installed", "pip install 'tracking-core[wandb]'")
    numbers = tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
    if numbers < _OLDEST:
        return Finding(
            "error",
            f"wandb {version} cannot have several runs open in one process",
            f"pip install 'wandb>={'.'.join(map(str, _OLDEST))}'",
        )
    return Finding("ok", f"wandb {version} is installed")


def _account(server: str) -> list[Finding]:
    source = key_source(server)
    if source is None:
        return [
            Finding("error", f"there is no API key for {server}", f"{_LOGIN}, {_OFFLINE}"),
            *_server(server, with_key=False),
        ]
    problem = key_problem(server)
    if problem is not None:
        # A server that does not take it would say less.
        message = f"the API key for {server} in {source} is none: {problem}"
        return [Finding("error", message, f"{_LOGIN} again"), *_server(server, with_key=False)]
    return [Finding("ok", f"an API key for {server} is in {source}"), *_server(server, with_key=True)]


def _server(server: str, *, with_key: bool) -> list[Finding]:
    started = time.monotonic()
    answer, detail = ask_server(server, _TIMEOUT)
    took = time.monotonic() - started
    if answer == "unreachable":
        remedy = f"look at the network, proxies and base_url; {_OFFLINE[3:]}"
        return [Finding("error", f"{server} cannot be reached: {detail}", remedy)]
    found = [Finding("ok", f"{server} answers, within {took:.1f} s")]
    if with_key and answer == "refused":
        found.append(Finding("error", f"{server} does not accept the API key: {detail}", f"{_LOGIN} again"))
    elif with_key:
        found.append(Finding("ok", f"logged in at {server} as {detail}"))
    return found


def _directory(options: Options) -> list[Finding]:
    given = places.named_directory(options)
    if given is None:
        where = "the directory of each run"
        return [Finding("ok", f"offline runs go to {where}, below 'wandb'", "upload them with 'wandb sync FOLDER'")]
    problem = places.directory_problem(given)
    if problem is not None:
        return [Finding("error", problem, "choose another directory with dir=…")]
    remedy = f"upload them with 'wandb sync {given}/wandb/offline-run-*'"
    return [Finding("ok", f"offline runs go to {given}, below 'wandb'", remedy)]
