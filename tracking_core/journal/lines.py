r"""One line of a journal: JSON that ends in its own checksum.

```
{"seq":7,"low":8,"kind":"scalars","t":1764000000.125,"axis":"step","step":3,"values":{"loss":0.5},"crc":"9ab0c1d2"}
```

`seq` orders the events of one writer, from 1. `low` says that every event of this writer with a smaller number is in
the journal once this line is. `t` is seconds since the epoch. `crc` is the crc32 (as in zlib) of the bytes before
`,"crc"`, in hex. JSON knows no NaN: inside `values` non-finite numbers and integers beyond 64 bits are strings, and
everywhere else `{"$float": "NaN"}` and `{"$int": "…"}`, with one more `$` put before keys of users that start with one.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import msgspec

from tracking_core.base.json_text import INT_LIMIT, NOT_FINITE, number_out, to_json, unpack
from tracking_core.base.regular import LONGEST
from tracking_core.errors import InvalidValueError, JournalError
from tracking_core.journal.schema import HEADERS, Count, Number, Real, Step, check

FORMAT = 1
"""Number of the format, in the header of every segment."""

_CRC = b',"crc":"'
_TAIL = len(_CRC) + 8 + len(b'"}')
_WHOLE = re.compile(r"-?[0-9]+")


class _ScalarsLine(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """Most lines, checked while they are decoded."""

    seq: Number
    low: Count
    kind: Literal["scalars"]
    t: float
    axis: str
    step: Step
    values: dict[str, Real]


_decoder = msgspec.json.Decoder()
_scalars_decoder = msgspec.json.Decoder(_ScalarsLine)


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a journal.

    Args:
        seq: Its number in the order of its writer; 0 for the header of a segment.
        low: Every event of this writer with a smaller number is in the journal before or with this one.
        kind: What it is: a kind of `Record`, or "segment", "environment", "tags", "finish".
        time: Seconds since the epoch.
        fields: What belongs to the kind.
        writer: Which writer wrote it.
    """

    seq: int
    low: int
    kind: str
    time: float
    fields: Mapping[str, Any]
    writer: str = ""


def encode_line(seq: int, low: int, kind: str, time: float, fields: Mapping[str, Any], *, small: bool = False) -> bytes:
    """Encode an event as one line, newline included.

    Args:
        seq: Number of the event.
        low: See `Event`.
        kind: See `Event`.
        time: Seconds since the epoch.
        fields: JSON values; `values` may hold any real numbers, what else is non-finite was packed with `pack`.
        small: Whether it is known that no integer in `values` needs more than 64 bits.

    Raises:
        InvalidValueError: It is longer than any line that is read.
    """
    body: dict[str, Any] = {"seq": seq, "low": low, "kind": kind, "t": time, **fields}
    values = fields.get("values") if kind == "scalars" else None
    try:
        text = to_json(body)
    except ValueError:
        # An odd name is written by what takes nothing that is not finite.
        text = b"null"
    # What is not finite was written as null, which a name may say as well.
    if values and (b"null" in text or not (small or _small(values))):
        body["values"] = {name: number_out(value) for name, value in values.items()}
        text = to_json(body)
    head = text[:-1]
    if len(head) > LONGEST - _TAIL:
        raise InvalidValueError(f"{kind}: {len(head)} bytes do not fit into a line of the journal (at most {LONGEST})")
    return b'%b%b%08x"}\n' % (head, _CRC, zlib.crc32(head))


def decode_line(line: bytes, writer: str = "") -> Event:
    """Decode one line, without its newline.

    Raises:
        JournalError: It was damaged, or is no event.
    """
    head = line[:-_TAIL]
    tail = line[-_TAIL:]
    if not tail.startswith(_CRC) or not tail.endswith(b'"}'):
        raise JournalError("no checksum at the end of the line")
    if b"%08x" % zlib.crc32(head) != tail[len(_CRC) : -2]:
        raise JournalError("the checksum does not match")
    text = head + b"}"
    try:
        line_of = _scalars_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Another kind, or something that is unusual about it.
        return _decode_any(text, writer)
    values = line_of.values
    try:
        for name, value in values.items():
            if isinstance(value, str):
                values[name] = _number_in(value)
    except ValueError as error:
        raise JournalError(f"the line is intact, but is not an event: {error}") from error
    fields = {"axis": line_of.axis, "step": line_of.step, "values": values}
    return Event(line_of.seq, line_of.low, "scalars", line_of.t, fields, writer)


def _decode_any(text: bytes, writer: str) -> Event:
    body = _parse(text)
    try:
        seq, low, kind, time = (body.pop(key) for key in ("seq", "low", "kind", "t"))
        _check_common(seq, low, kind, time)
        version = body.get("v")
        # What stands in headers of later versions is theirs to say; whoever reads one is told to upgrade.
        if not (kind in HEADERS and type(version) is int and version > FORMAT):
            check(kind, seq, body, unpack)
        if kind == "scalars":
            numbers = cast("dict[str, Any]", body["values"])
            for name, value in numbers.items():
                if isinstance(value, str):
                    numbers[name] = _number_in(value)
        return Event(seq, low, kind, float(time), body, writer)
    except KeyError as error:
        raise JournalError(f"the line is intact, but is not an event: it has no {error}") from error
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise JournalError(f"the line is intact, but is not an event: {error!s:.200}") from error


def _check_common(seq: Any, low: Any, kind: Any, time: Any) -> None:
    try:
        msgspec.convert((seq, low, kind, time), tuple[Count, Count, str, float])
    except (ValueError, OverflowError) as error:
        raise ValueError(f"one of seq, low, kind and t is not valid: {error}") from error
    if not math.isfinite(time):
        raise ValueError(f"t is {time}")


def _small(values: Mapping[str, Any]) -> bool:
    """Whether no integer needs more than 64 bits."""
    return all(type(value) is float or -INT_LIMIT <= value < INT_LIMIT for value in values.values())


def _number_in(text: str) -> float:
    found = NOT_FINITE.get(text)
    if found is not None:
        return found
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a number")
    return int(text)


def _parse(text: bytes) -> dict[str, Any]:
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The standard library takes what msgspec does not: escapes of lone surrogates.
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise JournalError("the line is intact, but is not JSON") from error
