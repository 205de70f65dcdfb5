"""Where an API key for a server comes from. The key itself never leaves this module but into a request's header."""

from __future__ import annotations

import base64
import contextlib
import json
import netrc
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

DEFAULT_SERVER = "https://api.wandb.ai"
#: Hosts of W&B's own service; which of them the client calls its default depends on its version.
_SERVICE_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")
_VIEWER = {"query": "query Viewer { viewer { entity } }", "variables": {}}


def server_address(option: str | None) -> str:
    """The address of the server, as far as it can be known without the client."""
    return (option or os.environ.get("WANDB_BASE_URL") or DEFAULT_SERVER).rstrip("/")


def key_source(server: str) -> str | None:
    """Where a key for a server is found: the name of a variable or of a file; None where there is none."""
    for variable in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        if os.environ.get(variable):
            return variable
    path, _ = _from_netrc(server)
    return path


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
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310 - as above
            content: Any = json.loads(answer.read(100_000))
    except urllib.error.HTTPError as error:
        return ("refused" if error.code in {401, 403} else "unreachable"), f"HTTP {error.code}"
    except (OSError, ValueError) as error:
        return "unreachable", str(getattr(error, "reason", error))
    viewer: Any = None
    with contextlib.suppress(KeyError, TypeError):
        viewer = content["data"]["viewer"]
    return (
        ("ok", str(viewer.get("entity"))) if isinstance(viewer, dict) else ("refused", "the server knows no such key")
    )


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
