"""What is wrong with a target is said before a run starts, as far as neither client nor server are needed to tell."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from tracking_core import SettingsError
from tracking_wandb import client_settings, places
from tracking_wandb.client import checked_mode
from tracking_wandb.credentials import require_key
from tracking_wandb.options import read_options

if TYPE_CHECKING:
    from tracking_core import Target
    from tracking_wandb.options import Options


def check(target: Target) -> None:
    """Check a target, and remember its server if this account named it.

    Raises:
        SettingsError: It cannot work.
    """
    options = read_options(target)
    mode = checked_mode(client_settings.mode(options.mode))
    client_settings.check_local_file()
    server = places.server(options, named=target.named)
    if mode != "disabled":
        _check_directory(options)
    if mode == "online":
        if target.named:
            places.remember(options)
        require_key(server, _settings_of_client())


def _check_directory(options: Options) -> None:
    """See that the client can make its folder where it is told to: elsewhere it would take a temporary one."""
    found = places.named_directory(options)
    problem = None if found is None else places.directory_problem(found)
    if problem is not None:
        what = "WANDB_DIR" if options.dir is None else "the option dir"
        raise SettingsError(f"wandb: {what}: {problem}; name another directory")


def _settings_of_client() -> Any:
    """The client's settings, if the program uses it already: it may have logged in by itself."""
    wandb = sys.modules.get("wandb")
    with contextlib.suppress(Exception):
        return None if wandb is None else wandb.setup().settings
    return None
