"""Where an API key for a server comes from. The key itself never leaves this module but into a request's header."""

from __future__ import annotations

import base64
import contextlib
import json
import netrc
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tracking_core import SettingsError
from tracking_wandb import client_settings
from tracking_wandb.places import OWN_SERVER

#: Hosts of W&B's own service; which of them the client calls its default depends on its version.
_SERVICE_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")
#: What the client takes for a key: a token of three parts, or 40 characters, with a prefix before a dash at times.
_TOKEN = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
_SECRET = re.compile(r"[\w-]+", re.ASCII)
_SHORTEST = 40
_VIEWER = {"query": "query Viewer { viewer { entity } }", "variables": {}}


def key_source(server: str) -> str | None:
    """Where a key for a server is found: the name of a variable or of a file; None where there is none."""
    for variable in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        if os.environ.get(variable):
            return variable
    path, _ = _from_netrc(server)
    if path is None and any(client_settings.account(name) for name in ("api_key", "identity_token_file")):
        return str(client_settings.account_file())
    return path


def key_problem(server: str) -> str | None:
    """What is wrong with the form of the key for a server, as the client sees it; None for a usable or unknown one.

    The key itself is not in the text.
    """
    key = os.environ.get("WANDB_API_KEY") or _from_netrc(server)[1]
    if not key or _TOKEN.fullmatch(key):
        return None
    if key != key.strip():
        return "it begins or ends with a space or a line break"
    secret = key.partition("-")[2] or key
    if not _SECRET.fullmatch(secret):
        return "it has other characters than letters, digits, '_' and '-'"
    if len(secret) < _SHORTEST:
        return f"it has {len(secret)} characters; a key has {_SHORTEST} or more"
    return None


def require_key(server: str | None, settings: Any = None) -> None:
    """Look for a key before the client does, which would ask for one at the terminal.

    Args:
        server: The server's address; None for W&B's own.
        settings: The client's own, where the client is there: the program may have logged in by itself.

    Raises:
        SettingsError: There is none.
    """
    if key_source(server or OWN_SERVER) is None and not getattr(settings, "api_key", None):
        raise SettingsError(
            f"wandb: there is no API key for {server or OWN_SERVER}; run 'wandb login', set WANDB_API_KEY, or record "
            "with mode=offline and run 'wandb sync' later"
        )


def ask_server(server: str, timeout: float) -> tuple[str, str]:
    """Ask a server who we are.

    Args:
        server: Its address.
        timeout: Seconds.

    Returns:
        ("ok", the entity), ("refused", why) for a key that it does not take or a missing one, or
        ("unreachable", why).
    """
    key = os.environ.get("WANDB_API_KEY") or _from_netrc(server)[1]
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = "Basic " + base64.b64encode(f"api:{key}".encode()).decode()
    request = urllib.request.Request(f"{server}/graphql", json.dumps(_VIEWER).encode(), headers)  # noqa: S310 - the scheme was checked
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=timeout) as answer:
            content: Any = json.loads(answer.read(100_000))
    except urllib.error.HTTPError as error:
        return ("refused" if error.code in {401, 403} else "unreachable"), f"HTTP {error.code}"
    except (OSError, ValueError) as error:
        return "unreachable", str(getattr(error, "reason", error))
    viewer: Any = None
    with contextlib.suppress(KeyError, TypeError):
        viewer = content["data"]["viewer"]
    return (
        ("ok", str(viewer.get("entity")))
        if isinstance(viewer, dict)
        else ("refused", "the server does not know this key")
    )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Answers of other servers are none, and a key is for one server alone."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        """Follow nothing."""


def _from_netrc(server: str) -> tuple[str | None, str | None]:
    """The file and the key."""
    given = os.environ.get("NETRC")
    paths = [Path(given)] if given else [Path.home() / ".netrc", Path.home() / "_netrc"]
    hosts = [urlsplit(server).netloc]
    if hosts[0] in _SERVICE_HOSTS:
        hosts += _SERVICE_HOSTS
    for path in paths:
        try:
            entries = netrc.netrc(path)
        except (OSError, netrc.NetrcParseError):
            continue
        for host in hosts:
            entry = entries.authenticators(host) if host in entries.hosts else None
            if entry and entry[2]:
                return str(path), entry[2]
    return None, None
