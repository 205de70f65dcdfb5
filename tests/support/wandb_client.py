"""The real W&B client in a test: an environment of its own, and settings without what a test does not look at."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import ModuleType


def client_env(tmp_path: Path, mode: str = "offline") -> dict[str, str]:
    """Environment variables that keep all files of the client under `tmp_path` and make it give up quickly."""
    folders = {
        "HOME": "home",
        "WANDB_DIR": "runs",
        "WANDB_CACHE_DIR": "cache",
        "WANDB_CONFIG_DIR": "config",
        "WANDB_DATA_DIR": "data",
    }
    for folder in folders.values():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    # `WANDB__X` is how the client reads its setting `x_x` from the environment. Of seconds it takes whole ones only:
    # below 1 it falls back to its defaults, which are long (15 s between two transmissions).
    quick = {
        f"WANDB__{part}_RETRY_{what}": "1"
        for part in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER")
        for what in ("MAX", "WAIT_MIN_SECONDS", "WAIT_MAX_SECONDS")
    }
    return {
        **{name: str(tmp_path / folder) for name, folder in folders.items()},
        **quick,
        "WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "1",
        "WANDB__TRANSACTION_LOG_FLUSH_INTERVAL": "1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "NETRC": str(tmp_path / "netrc"),
        "WANDB_MODE": mode,
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
    }


@contextlib.contextmanager
def wandb_client(env: Mapping[str, str]) -> Iterator[ModuleType]:
    """Give the `wandb` module with no other `WANDB_*` variables than these, and end its service process afterwards.

    Only then are transaction logs complete for certain: `Run.finish` may return before.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        for name, value in env.items():
            patch.setenv(name, value)
        import wandb
        from wandb.sdk.lib import module

        wandb.teardown()  # one that an earlier test left behind would go on in its own environment
        module.unset_globals()  # and the run of one that was disabled stays
        try:
            yield wandb
        finally:
            wandb.teardown()


def lean_settings(**more: Any) -> Any:
    """Settings without console capture, machine information, statistics, git and code; `more` overrides."""
    import wandb

    lean = {
        "console": "off",
        "silent": True,
        "x_disable_meta": True,
        "x_disable_stats": True,
        "x_disable_machine_info": True,
        "disable_git": True,
        "save_code": False,
        "init_timeout": 20,
    }
    return wandb.Settings(**{**lean, **more})
