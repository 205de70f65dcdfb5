"""What is not here: names that W&B has, arguments that nothing is made of, and calls before `init`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

from tracking_core.base.problems import Troubles
from tracking_core.errors import TrackingError

_INSTEAD = {
    "Audio": "log a tracking_core.Audio",
    "Html": "log a tracking_core.Html",
    "Video": "log a tracking_core.Video",
    "alert": "wandb.run.tracking.log_alert raises an alert",
    "login": "nobody has to log in here: a key is found by the backend",
    "save": "log_artifact stores files",
    "use_artifact": "wandb.run.tracking.use_artifact records that an artifact is used",
}
_NATIVE = (
    "wandb.run.native('wandb') is W&B's own run, with TRACKING_DELIVERY=thread and wandb among the backends, and "
    "`import wandb` its module"
)
_troubles = Troubles("compat.wandb")


class Error(TrackingError):
    """Something was used before `init`, or in a way that it cannot be used."""


def no_such_name(where: str, name: str, known: Iterable[str]) -> str:
    """The message about a name of W&B that is not here.

    Args:
        where: What was asked for it.
        name: The name.
        known: The names that are there.
    """
    instead = f"{_INSTEAD[name]}; otherwise " if name in _INSTEAD else ""
    return f"{where} has no {name!r}: it has {', '.join(sorted(known))}; {instead}{_NATIVE}"


def ignored(where: str, name: str, why: str) -> None:
    """Say once that an argument changes nothing.

    Args:
        where: What it was given to.
        name: The argument.
        why: Why it does not, and what to do instead.
    """
    _troubles.note("ignored", f"{where}: {name} is ignored: {why}", key=f"{where} {name}")


def said(message: str, key: str) -> None:
    """Say something once."""
    _troubles.note("compat", message, key=key)


class BeforeInit:
    """Stands where something of a run will be, and says that there is none yet."""

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def _refuse(self, what: str) -> NoReturn:
        raise Error(f"You must call wandb.init() before {self._name}{what}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        self._refuse(f".{name}")

    def __setattr__(self, name: str, value: object) -> None:
        self._refuse(f".{name}")

    def __getitem__(self, key: object) -> Any:
        self._refuse(f"[{key!r}]")

    def __setitem__(self, key: object, value: object) -> None:
        self._refuse(f"[{key!r}]")
