"""The names behind the keys of rows, for runs that this adapter wrote (`names` has the encoding)."""

from __future__ import annotations

import re
from collections.abc import Mapping

_ESCAPED = re.compile(r"((?:~[0-9a-f]{2})+)")
_SUFFIX = re.compile(r"~(?:value|part(\d+))\Z")


def decode(key: str, names: Mapping[str, str]) -> str:
    """The name behind a key.

    Args:
        key: A key of a row.
        names: The names of keys that do not hold their whole name.
    """
    key = _SUFFIX.sub("", key)
    if key in names:
        return names[key]
    if key == "~":
        return ""
    return _ESCAPED.sub(lambda found: bytes.fromhex(found[1].replace("~", "")).decode("utf-8", "surrogatepass"), key)


def part(key: str) -> tuple[int, str]:
    """For sorting: which part of several keys of one name this is, from 1."""
    found = _SUFFIX.search(key)
    return (int(found[1]) if found and found[1] else 1, key)
