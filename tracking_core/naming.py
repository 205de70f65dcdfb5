"""Reversible, collision-free encoding of names into a smaller alphabet.

Names come from users and may be any str: with `../`, newlines, lone surrogates, a megabyte long. Files and backends
hold less. An `Encoding` keeps what is allowed, and writes every other character as escaped bytes, so that two names
never meet and the original comes back.

Example:
    >>> from tracking_core.naming import FILE_NAMES
    >>> FILE_NAMES.encode("../loss: é")
    '~2e.~2floss~3a~20~c3~a9'
    >>> FILE_NAMES.decode(FILE_NAMES.encode("../loss: é"))
    '../loss: é'
"""

from __future__ import annotations

import hashlib
import re
import string
from dataclasses import dataclass

_WORD = string.ascii_letters + string.digits
#: What Windows takes for a device, whatever the ending.
_DEVICES = re.compile(r"(?i)^(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)")


@dataclass(frozen=True)
class Encoding:
    """An encoding into an alphabet.

    Args:
        alphabet: Characters that stay as they are.
        escape: What starts an escaped byte (two hex digits follow); where a name holds it, it is escaped itself.
            One character outside the alphabet, or several of the alphabet that seldom stand together, whose end is
            not also their beginning ("__x", but not "__").
        first: Characters that may stand at the start; None means any of the alphabet.
        last: Characters that may stand at the end; None means any of the alphabet.
        max_length: Longest result in characters. A longer name is cut, and ends in a digest of the whole: still
            free of collisions, but no longer reversible; keep the original beside it.
        file_names: Whether names that file systems treat specially are escaped too.
        fold_case: Whether upper-case letters are escaped, for backends that do not tell cases apart.

    Raises:
        ValueError: Names could meet under this escape, or no digest fits into `max_length`.
    """

    alphabet: str
    escape: str = "~"
    first: str | None = None
    last: str | None = None
    max_length: int | None = None
    file_names: bool = False
    fold_case: bool = False

    def __post_init__(self) -> None:
        escape = self.escape
        if not escape or any(escape.endswith(escape[:size]) for size in range(1, len(escape))):
            raise ValueError(f"the escape {escape!r} may overlap with itself, and names could meet")
        if self.max_length is not None and self.max_length < len(self._tail("")):
            raise ValueError(f"max_length={self.max_length} has no room for the digest of a name that is cut")

    def encode(self, name: str) -> str:
        """The name in the alphabet; the empty name is the escape alone."""
        if not name:
            return self.escape
        allowed = self._allowed()
        parts = [
            char if char in allowed and not name.startswith(self.escape, at) else self._escaped(char)
            for at, char in enumerate(name)
        ]
        if self.first is not None and name[0] not in self.first:
            parts[0] = self._escaped(name[0])
        if self.last is not None and name[-1] not in self.last:
            parts[-1] = self._escaped(name[-1])
        if self.file_names and _DEVICES.match(name):
            parts[0] = self._escaped(name[0])
        text = "".join(parts)
        if self.max_length is not None and len(text) > self.max_length:
            tail = self._tail(name)
            return text[: self.max_length - len(tail)] + tail
        return text

    def decode(self, text: str) -> str:
        """The name that was encoded.

        Raises:
            ValueError: The text is not an encoded name, or was cut to `max_length`.
        """
        if text == self.escape:
            return ""
        out = bytearray()
        position = 0
        while position < len(text):
            at = text.find(self.escape, position)
            plain = text[position:] if at < 0 else text[position:at]
            out += plain.encode("utf-8", "surrogatepass")
            if at < 0:
                break
            start = at + len(self.escape)
            digits = text[start : start + 2]
            if len(digits) != 2 or not all(digit in string.hexdigits for digit in digits):
                raise ValueError(f"{text[:80]!r} is not an encoded name, or was cut")
            out.append(int(digits, 16))
            position = start + 2
        return out.decode("utf-8", "surrogatepass")

    def _tail(self, name: str) -> str:
        # An escape that no byte follows: no encoded name ends like this.
        return f"{self.escape}z{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"

    def _allowed(self) -> frozenset[str]:
        allowed = set(self.alphabet)
        if self.fold_case:
            allowed -= set(string.ascii_uppercase)
        return frozenset(allowed)

    def _escaped(self, char: str) -> str:
        return "".join(f"{self.escape}{byte:02x}" for byte in char.encode("utf-8", "surrogatepass"))


FILE_NAMES = Encoding(_WORD + "._-", first=_WORD + "_-", last=_WORD + "_-", max_length=120, file_names=True)
"""For one component of a path, on any case-sensitive file system."""

ARTIFACT_NAMES = Encoding(_WORD + "._-", escape="__x", max_length=128)
"""For backends that accept only `[A-Za-z0-9._-]`, as W&B does for artifacts."""


def printable(name: str, *, limit: int = 80) -> str:
    """A name for a message or a terminal: on one line, without control characters, cut to `limit`."""
    text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in name[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"
