"""What the client would be told by the environment and by settings files, found out without importing it.

The client reads two files: `settings` in the account's own configuration directory, and `wandb/settings` in the working
directory, where `wandb init` puts it. The second may have come with a copied directory, and the client takes anything
from it, a proxy, a header or another key. So only what is harmless may stand in it.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from pathlib import Path

from tracking_core import SettingsError

_HARMLESS = frozenset({"anonymous", "base_url", "entity", "mode", "organization", "project"})
"""What the file of a working directory may set: `wandb init` writes only this. Its base_url must also be known."""
_ALWAYS_TOLD = frozenset({"console", "disable_git", "quiet", "save_code", "silent"})
"""What this adapter tells the client itself, or what is only for looks."""
_MODE_NAMES = {"run": "online", "dryrun": "offline"}
_LARGEST = 100_000


def local_file() -> Path:
    """The file of the working directory, where the client looks for it."""
    hidden = Path(".wandb").absolute()
    return (hidden if hidden.exists() else Path("wandb").absolute()) / "settings"


def account_file() -> Path:
    """The file of the account, where the client looks for it."""
    given = os.environ.get("WANDB_CONFIG_DIR")
    return (Path(given) if given else Path("~/.config/wandb")).expanduser() / "settings"


def check_local_file() -> None:
    """See that the file of the working directory, if there is one, leads nothing astray.

    Raises:
        SettingsError: It sets something that decides where data or keys go.
    """
    path = local_file()
    if path.resolve() == account_file().resolve():
        return
    wrong = sorted(_read(path).keys() - _HARMLESS - _ALWAYS_TOLD)
    if wrong:
        raise SettingsError(
            f"wandb: {path} sets {', '.join(wrong)}, and may have come with a copied directory; the client would obey "
            f"it. Move your own settings to the environment or to {account_file()}"
        )


def setting(name: str) -> tuple[str | None, str]:
    """A setting of the client, and where it comes from.

    Returns:
        Its value, and "environment", "here" (the file of the working directory), "account" or, with None, "default".
    """
    value = os.environ.get(f"WANDB_{name.upper()}")
    if value:
        return value, "environment"
    for path, origin in ((local_file(), "here"), (account_file(), "account")):
        value = _read(path).get(name)
        if value:
            return value, origin
    return None, "default"


def every(name: str) -> list[tuple[str, str]]:
    """What a setting of the client is set to anywhere, and where, in words."""
    variable = f"WANDB_{name.upper()}"
    found = [(os.environ.get(variable), variable)]
    found += [(_read(path).get(name), f"{name} in {path}") for path in (local_file(), account_file())]
    return [(value, what) for value, what in found if value]


def account(name: str) -> list[str]:
    """What the account itself has set, in the environment or in its file; not what a working directory brings."""
    found = (os.environ.get(f"WANDB_{name.upper()}"), _read(account_file()).get(name))
    return [value for value in found if value]


def mode(option: str | None) -> str:
    """online, offline, disabled, or whatever else is set: from the target, else as the client itself has it."""
    found = option or setting("mode")[0] or "online"
    return _MODE_NAMES.get(found, found)


def _read(path: Path) -> Mapping[str, str]:
    """The settings in a file; {} for one that cannot be read: the client passes over it, too."""
    parser = configparser.ConfigParser()
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return {}
        parser.read_string(path.read_text(encoding="utf-8"))
        return dict(parser.items("default"))
    except (OSError, ValueError, configparser.Error):
        return {}
