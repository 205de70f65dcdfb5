"""Configuration, summary and metadata as plain JSON values that the client can send."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

from tracking_core.values import to_config
from tracking_wandb.names import clean

OWN = "_tracking"
"""The one entry of the configuration that is ours; see `docs/backends/wandb.md`."""


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration or summary with plain values; the client's own entry, and ours, get an escaped name.

    The client makes null of NaN there, or leaves it out, and writes infinities as no JSON has them: so they are words.
    """
    reserved = {"_wandb": "~5fwandb", OWN: f"~5f{OWN[1:]}"}
    return {
        reserved.get(key, key): value for key, value in cast("dict[str, Any]", _sendable(to_config(config))).items()
    }


def plain_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of an artifact: W&B takes no NaN and no infinity there, so they are words."""
    return cast("dict[str, Any]", _sendable(to_config(metadata)))


def merge(into: dict[str, Any], change: Mapping[str, Any], *, over: bool = True) -> None:
    """Change a nested mapping: mappings are merged, anything else is replaced, or only added if not `over`."""
    for key, value in change.items():
        old = into.get(key)
        if isinstance(old, dict) and isinstance(value, Mapping):
            merge(cast("dict[str, Any]", old), cast("Mapping[str, Any]", value), over=over)
        elif over or key not in into:
            into[key] = value


def _sendable(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return {clean(key): _sendable(item) for key, item in items}
    if isinstance(value, (list, tuple)):
        return [_sendable(item) for item in cast("list[Any]", value)]
    return value
