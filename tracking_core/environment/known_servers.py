"""Servers that this account has named: an adapter may send a key to these without being told again.

Anybody may have written the targets in the files of a run, and `tracking sync` reads them. A key of the account must
not be sent to any server that they name. So an adapter remembers each server that its user named, and checks here
before it sends a key to a server that only the files of a run name.

One file for each server, below `$XDG_STATE_HOME/tracking-core/servers` (`~/.local/state/…` if that is not set),
readable and writable only by its owner. A file is written as a whole, also with several writers; a file that cannot be
read, is damaged, is a link or belongs to another user counts as missing. Removing it forgets the server.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from pathlib import Path

from tracking_core.base.files import written_aside

_LARGEST = 10_000
"""Bytes of a file; more is none of ours."""


def remember_server(backend: str, address: str) -> None:
    """Remember that the user of this account named a server.

    Call it where a target is checked whose `named` is True, never for one that the files of a run named. If the state
    directory of the account cannot be written, nothing is remembered and nothing is raised.

    Args:
        backend: Name of the adapter.
        address: The server, always in the same spelling.

    Example:
        ```python
        @tracking_core.hookimpl
        def check_target(target):
            if target.named and "server" in target.options:
                tracking_core.remember_server("mybackend", target.options["server"])
        ```
    """
    if knows_server(backend, address):
        return
    path = _file(backend, address)
    content = json.dumps({"v": 1, "backend": backend, "server": address}) + "\n"
    with contextlib.suppress(OSError, UnicodeEncodeError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with written_aside(path) as aside:
            aside.touch(mode=0o600, exist_ok=False)
            aside.write_text(content, encoding="utf-8")


def knows_server(backend: str, address: str) -> bool:
    """Whether the user of this account has named a server before; see `remember_server`."""
    try:
        # Whatever stands there must not be followed, and not be waited for.
        number = os.open(_file(backend, address), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError):
        return False
    try:
        facts = os.fstat(number)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & stat.S_IWOTH:
            return False
        content = json.loads(os.read(number, _LARGEST))
    except (OSError, ValueError, RecursionError):
        return False
    finally:
        os.close(number)
    return isinstance(content, dict) and (content.get("backend"), content.get("server")) == (backend, address)


def _file(backend: str, address: str) -> Path:
    given = os.environ.get("XDG_STATE_HOME", "")
    # A relative path is to be ignored, says the specification of these directories.
    base = Path(given) if Path(given).is_absolute() else Path("~/.local/state").expanduser()
    digest = hashlib.sha256(f"{backend}\0{address}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return base / "tracking-core" / "servers" / f"{digest}.json"
