"""The options of a `wandb` target: what they are called, which values they take, and what they mean together."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tracking_core import SettingsError, is_url

if TYPE_CHECKING:
    from tracking_core import Target

MODES = ("online", "offline", "disabled")
CONSOLES = ("off", "auto", "redirect", "wrap")
_SWITCH = ("on", "off")
_LONGEST = 7 * 86_400
"""Seconds; a longer time is as good as no limit."""
_OWN_DOMAIN = re.compile(r"(?:.*\.)?wandb\.ai")
_NETLOC, _PATH = re.compile(r"[\w.\-]+(?::\d+)?|\[[0-9A-Fa-f:.]+\](?::\d+)?"), re.compile(r"[\w.\-/]*")

#: What `tracking backends` and error messages show; the values are checked in `read_options`.
OPTION_HELP: Mapping[str, str] = MappingProxyType(
    {
        "entity": "user or team; also wandb://ENTITY/PROJECT (default: WANDB_ENTITY, then the account's own)",
        "project": "project at W&B, if it differs from the run's own (default: the run's project)",
        "mode": "online, offline or disabled (default: WANDB_MODE, then online)",
        "dir": "directory in which the client makes its 'wandb' folder (default: WANDB_DIR, then the run's directory)",
        "base_url": "address of the server (default: WANDB_BASE_URL, then W&B's own)",
        "console": "capture of the terminal: off (default), auto, redirect or wrap; useful with delivery in a thread",
        "system_metrics": "on (default): the client samples CPU, memory and accelerators of the training; or off",
        "metadata": "on (default): the client records program, host and machine; or off",
        "git": "on (default): commit and remote of the code are recorded; or off",
        "save_code": "on: the program is uploaded; off (default)",
        "init_timeout": "seconds in which a run must be open (default: 60, at most 7 days)",
        "finish_timeout": "seconds that finishing may take; then the rest stays on disk (default: 300, at most 7 days)",
    }
)


@dataclass(frozen=True, slots=True)
class Options:
    """What a target asks for; None leaves it to the environment, the client's own settings or the run."""

    entity: str | None = None
    project: str | None = None
    mode: str | None = None
    dir: Path | None = None
    base_url: str | None = None
    console: str = "off"
    system_metrics: bool = True
    metadata: bool = True
    git: bool = True
    save_code: bool = False
    init_timeout: float = 60.0
    finish_timeout: float = 300.0


def read_options(target: Target) -> Options:
    """Check the options of a target.

    Args:
        target: `wandb`, `wandb:PROJECT`, `wandb:ENTITY/PROJECT` or `wandb://ENTITY/PROJECT`, with options.

    Raises:
        SettingsError: A value is none of those an option takes, or two options contradict each other.
    """
    options = target.options
    for name in options:
        if name not in OPTION_HELP:
            raise SettingsError(f"wandb: there is no option {name!r}; its options are {', '.join(OPTION_HELP)}")
    entity, project = _place(target)
    return Options(
        entity=entity,
        project=project,
        mode=_one_of(options, "mode", MODES, None),
        dir=_directory(options["dir"]) if options.get("dir") else None,
        base_url=checked_address(options["base_url"], "the option base_url") if options.get("base_url") else None,
        console=_one_of(options, "console", CONSOLES, "off") or "off",
        system_metrics=_one_of(options, "system_metrics", _SWITCH, "on") == "on",
        metadata=_one_of(options, "metadata", _SWITCH, "on") == "on",
        git=_one_of(options, "git", _SWITCH, "on") == "on",
        save_code=_one_of(options, "save_code", _SWITCH, "off") == "on",
        init_timeout=_seconds(options, "init_timeout", 60.0),
        finish_timeout=_seconds(options, "finish_timeout", 300.0),
    )


def _place(target: Target) -> tuple[str | None, str | None]:
    """Entity and project, from authority, path and options."""
    entity, project = target.authority, target.path.strip("/")
    if not entity and project.count("/") == 1:
        entity, _, project = project.partition("/")
    if "/" in project:
        raise SettingsError(
            f"wandb: {str(target)!r} names more than an entity and a project; write wandb://ENTITY/PROJECT, and the "
            "address of your own server as base_url=https://…"
        )
    return _agree(target, "entity", entity), _agree(target, "project", project)


def _agree(target: Target, name: str, found: str) -> str | None:
    option = target.options.get(name, "")
    if found and option and found != option:
        raise SettingsError(f"wandb: {str(target)!r} names the {name} twice, as {found!r} and as {option!r}")
    return found or option or None


def _one_of(options: Mapping[str, str], name: str, values: tuple[str, ...], default: str | None) -> str | None:
    value = options.get(name, default)
    if value is not None and value not in values:
        raise SettingsError(f"wandb?{name}={value}: expected {', '.join(values[:-1])} or {values[-1]}")
    return value


def _directory(text: str) -> Path:
    if is_url(text):
        raise SettingsError(f"wandb?dir={text}: expected a directory on this machine, not an address")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        # A "~" of which nobody knows whose home it is.
        raise SettingsError(f"wandb?dir={text}: {error}") from error


def checked_address(value: str, what: str) -> str:
    """The address of a server, wherever it is set.

    Args:
        value: The address. It is not shown: it may hold a key.
        what: Where it was set, for the message.

    Raises:
        SettingsError: It is none.
    """
    try:
        parts = urlsplit(value)
        # Only what no two readers can take for different hosts; a key would stand before an "@".
        fits = parts.scheme in {"http", "https"} and bool(parts.hostname) and _NETLOC.fullmatch(parts.netloc)
        fits = fits and _PATH.fullmatch(parts.path) and not parts.query and not parts.fragment and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise SettingsError(f"wandb: {what}: expected an address such as https://wandb.example.org, without a key")
    return value.rstrip("/")


def refuse_own_domain(value: str | None, what: str) -> None:
    """Refuse addresses of W&B's own service at which there is no server, as the client does.

    Args:
        value: The address; None for the default.
        what: Where it was set, for the message.

    Raises:
        SettingsError: It is one.
    """
    parts = urlsplit(value or "")
    host = parts.hostname or ""
    if _OWN_DOMAIN.fullmatch(host) and ("api." not in host or parts.scheme != "https"):
        raise SettingsError(f"wandb: {what}: W&B's own server is https://api.wandb.ai, not {value}; leave it out")


def _seconds(options: Mapping[str, str], name: str, default: float) -> float:
    text = options.get(name)
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= _LONGEST:
        raise SettingsError(f"wandb?{name}={text}: expected a positive number of seconds, at most {_LONGEST} (7 days)")
    return value
