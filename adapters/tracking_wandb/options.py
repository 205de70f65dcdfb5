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

from tracking_core import SettingsError

if TYPE_CHECKING:
    from tracking_core import Target

MODES = ("online", "offline", "disabled")
CONSOLES = ("off", "auto", "redirect", "wrap")
_SWITCH = ("on", "off")
_NETLOC, _PATH = re.compile(r"[\w.\-]+(?::\d+)?|\[[0-9A-Fa-f:.]+\](?::\d+)?"), re.compile(r"[\w.\-/]*")

#: What `tracking backends` and error messages show; the values are checked in `read_options`.
OPTION_HELP: Mapping[str, str] = MappingProxyType(
    {
        "entity": "user or team; also wandb://ENTITY/PROJECT (default: WANDB_ENTITY, then the account's own)",
        "project": "project at W&B, if it is not to be the run's own (default: the run's project)",
        "mode": "online, offline or disabled (default: WANDB_MODE, then online)",
        "dir": "directory in which the client makes its 'wandb' folder (default: WANDB_DIR, then the run's directory)",
        "base_url": "address of the server (default: WANDB_BASE_URL, then W&B's own)",
        "console": "capture of the terminal: off (default), auto, redirect or wrap; of use with delivery in a thread",
        "system_metrics": "on (default): the client samples CPU, memory and accelerators of the training; or off",
        "metadata": "on (default): the client records program, host and machine; or off",
        "git": "on (default): commit and remote of the code are recorded; or off",
        "save_code": "on: the program is uploaded; off (default)",
        "init_timeout": "seconds in which a run must be open (default: 60)",
        "finish_timeout": "seconds that finishing may take until the rest stays on disk (default: 300)",
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
        dir=Path(options["dir"]).expanduser().absolute() if options.get("dir") else None,
        base_url=_address(options),
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
            "address of a server of your own as base_url=https://…"
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


def _address(options: Mapping[str, str]) -> str | None:
    value = options.get("base_url")
    if not value:
        return None
    try:
        parts = urlsplit(value)
        # Only what no two readers can take for different hosts; a key would stand before an "@".
        fits = parts.scheme in {"http", "https"} and bool(parts.hostname) and _NETLOC.fullmatch(parts.netloc)
        fits = fits and _PATH.fullmatch(parts.path) and not parts.query and not parts.fragment and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise SettingsError("wandb?base_url=…: expected an address such as https://wandb.example.org, without a key")
    return value.rstrip("/")


def _seconds(options: Mapping[str, str], name: str, default: float) -> float:
    text = options.get(name)
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise SettingsError(f"wandb?{name}={text}: expected a positive number of seconds")
    return value
