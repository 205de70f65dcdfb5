"""The older name of `tracking_core.transfer`."""

from __future__ import annotations

from typing import Any

from tracking_core import transfer

__all__ = transfer.__all__  # pyright: ignore[reportUnsupportedDunderAll] - what is public there is so here


def __getattr__(name: str) -> Any:
    return getattr(transfer, name)
