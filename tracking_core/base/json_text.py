"""JSON that holds every number of Python, and none that JSON does not have."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from tracking_core.base.regular import LARGEST, read_regular

INT_LIMIT = 2**63
NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""The words for numbers that JSON does not have."""
_WORDS = {repr(number): word for word, number in NOT_FINITE.items()}
_ENCODER = msgspec.json.Encoder()


def to_json(value: Any) -> bytes:
    """Compact JSON of what `pack` returns."""
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError:
        # Lone surrogates: the standard library writes them as escapes, which JSON allows.
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def pack(value: Any) -> Any:
    """Make a JSON-like tree safe for JSON: non-finite floats and large integers become tagged objects."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": number_out(value)}
    if isinstance(value, int) and not -INT_LIMIT <= value < INT_LIMIT:
        return {"$int": str(value)}
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return {(f"${key}" if key.startswith("$") else key): pack(part) for key, part in items}
    if isinstance(value, (list, tuple)):
        return [pack(part) for part in cast("list[Any]", value)]
    return value


def unpack(value: Any) -> Any:
    """Undo `pack`."""
    if isinstance(value, dict):
        tree = cast("dict[str, Any]", value)
        if len(tree) == 1:
            if isinstance(tree.get("$float"), str):
                return float(tree["$float"])
            if isinstance(tree.get("$int"), str):
                return int(tree["$int"])
        return {key.removeprefix("$"): unpack(part) for key, part in tree.items()}
    if isinstance(value, list):
        return [unpack(part) for part in cast("list[Any]", value)]
    return value


def number_out(value: float) -> Any:
    """A number as JSON can hold it: one that is not finite, or beyond 64 bits, is a string."""
    if isinstance(value, float) and not math.isfinite(value):
        return _WORDS[repr(float(value))]
    if type(value) is int and not -INT_LIMIT <= value < INT_LIMIT:
        return str(value)
    return value


def dump_json(value: Any) -> bytes:
    """JSON for files: non-finite numbers tagged, lone surrogates escaped, readable by people."""
    packed = pack(value)
    try:
        return msgspec.json.format(msgspec.json.encode(packed), indent=2)
    except UnicodeEncodeError:
        return json.dumps(packed, indent=2, allow_nan=False).encode("ascii")


def load_json(content: bytes) -> Any:
    """Undo `dump_json`.

    Raises:
        ValueError: It is no JSON, or nested too deep.
    """
    try:
        return unpack(json.loads(content))
    except (RecursionError, OverflowError) as error:
        raise ValueError(f"it cannot be read: {error}") from error


def read_json(path: Path, limit: int = LARGEST) -> Any:
    """What `dump_json` wrote into a file.

    Args:
        path: The file.
        limit: How many bytes it may have.

    Raises:
        ValueError: It is no JSON.
        OSError: It cannot be read, or is no regular file, or is larger.
    """
    return load_json(read_regular(path, limit))


def plain(value: Any) -> Any:
    """A value as any JSON reader takes it, without loss.

    Args:
        value: Nested data. Mappings become objects, sequences lists; numbers that are not finite become "NaN",
            "Infinity" or "-Infinity", and integers beyond 64 bits their digits, as in journals; what JSON does not know
            becomes its `str`.

    Example:
        >>> plain({"loss": float("nan"), "steps": (1, 2**70)})
        {'loss': 'NaN', 'steps': [1, '1180591620717411303424']}
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**64 else str(int(value))
    if isinstance(value, float):
        return number_out(float(value))
    if isinstance(value, Mapping):
        mapping = cast("Mapping[Any, Any]", value)
        return {str(key): plain(inner) for key, inner in mapping.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in cast("Sequence[Any]", value)]
    tolist = getattr(value, "tolist", None)
    return plain(tolist()) if callable(tolist) else str(value)


def portable_json(value: Any) -> bytes:
    """JSON for the readers of others: what `plain` gives, with its keys sorted."""
    return json.dumps(plain(value), sort_keys=True, allow_nan=False).encode("ascii")


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON of ASCII characters, of which none is a control character: what else there is, is escaped.

    Args:
        value: A value as `plain` gives it.
        indent: How far inner levels are moved to the right; None writes one line.
    """
    # The one control character that the module leaves as it is; it can only be in a string.
    return json.dumps(value, indent=indent, allow_nan=False).replace("\x7f", "\\u007f")
