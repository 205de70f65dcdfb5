"""Merging segments into a part: the same bytes from whoever does it, and both files in place or none.

The events file comes first and the Parquet file last: a part counts when both are there.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from array import array
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from tracking_core.base.files import sync, written_aside
from tracking_core.base.json_text import number_out
from tracking_core.base.regular import LONGEST, open_regular
from tracking_core.compaction.parts import content_digest, number_of, write_scalars
from tracking_core.errors import JournalError
from tracking_core.journal import Event, decode_line, encode_line
from tracking_core.journal.events import RECORD_KINDS
from tracking_core.journal.lines import FORMAT
from tracking_core.journal.segment_reader import Damage, SegmentReader
from tracking_core.journal.segments import PartFiles
from tracking_core.journal.times import LATEST
from tracking_core.values.kinds import STEPPED

_EXACT = 2**53
KEPT = 1 << 16
"""Bytes up to which the content of a damaged place is kept in the part; with more its segment is not removed."""
_NUMBERS = {float: 0, int: 1, bool: 2}


@dataclass(slots=True)
class _Columns:
    """Scalars, call by call, as they are read."""

    names: dict[str, int] = field(default_factory=dict[str, int])
    axes: dict[str, int] = field(default_factory=dict[str, int])
    calls: dict[tuple[str, ...], tuple[int, ...] | None] = field(
        default_factory=dict[tuple[str, ...], "tuple[int, ...] | None"]
    )
    width: array[int] = field(default_factory=lambda: array("q"))
    seq: array[int] = field(default_factory=lambda: array("q"))
    step: array[int] = field(default_factory=lambda: array("q"))
    time: array[int] = field(default_factory=lambda: array("q"))
    axis: array[int] = field(default_factory=lambda: array("i"))
    name: array[int] = field(default_factory=lambda: array("i"))
    kind: array[int] = field(default_factory=lambda: array("b"))
    value: array[float] = field(default_factory=lambda: array("d"))

    def take(self, event: Event) -> bool:
        """Add a call; False when columns cannot hold it exactly."""
        fields = event.fields
        if fields.keys() != {"axis", "step", "values"}:
            return False
        values, step, axis = fields["values"], fields["step"], fields["axis"]
        if abs(event.time) > LATEST:
            # It was recorded before that was refused: its line says it as it is.
            return False
        micro = round(event.time * 1e6)
        if type(step) is not int or not -(2**63) <= step < 2**63 or not isinstance(axis, str):
            return False
        if abs(micro) > _EXACT or micro / 1e6 != event.time or not values or event.seq <= 0:
            return False
        names = tuple(values)
        codes = self.calls.get(names, ())
        if codes == ():
            codes = self.calls[names] = self._codes(names)
        numbers = list(values.values())
        kinds = [_NUMBERS.get(type(number), -1) for number in numbers]
        if codes is None or -1 in kinds or not _is_text(axis):
            return False
        if 1 in kinds and any(type(number) is int and abs(number) > _EXACT for number in numbers):
            return False
        self.width.append(len(codes))
        self.seq.append(event.seq)
        self.step.append(step)
        self.time.append(micro)
        self.axis.append(self.axes.setdefault(axis, len(self.axes)))
        self.name.extend(codes)
        self.kind.extend(kinds)
        self.value.extend(numbers)
        return True

    def _codes(self, names: tuple[str, ...]) -> tuple[int, ...] | None:
        if not all(_is_text(name) for name in names):
            return None
        return tuple(self.names.setdefault(name, len(self.names)) for name in names)

    def sorted(self) -> tuple[list[str], list[str], dict[str, np.ndarray[Any, Any]]]:
        """Names, axes, and the columns sorted by (name, seq)."""
        # One may have been met only in a call that columns cannot hold.
        used = set(self.name)
        names = sorted(name for name, code in self.names.items() if code in used)
        place = np.zeros(len(self.names), np.int32)
        place[[self.names[name] for name in names]] = np.arange(len(names), dtype=np.int32)
        width = np.array(self.width)
        repeated = {
            key: np.repeat(np.array(column), width)
            for key, column in (("seq", self.seq), ("step", self.step), ("time", self.time), ("axis", self.axis))
        }
        code = place[np.array(self.name, np.int32)]
        order = np.lexsort((repeated["seq"], code))
        columns = {"name": code, **repeated, "kind": np.array(self.kind), "value": np.array(self.value)}
        return names, list(self.axes), {key: column[order] for key, column in columns.items()}


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def merge(directory: Path, writer: str, paths: list[Path], numbers: tuple[int, ...]) -> PartFiles | None:
    """Make a part of segments; None when there is nothing in them.

    Raises:
        JournalError: One is of a newer format.
        FileNotFoundError: One is gone.
    """
    columns, lines, damage = _Columns(), list[bytes](), list[dict[str, Any]]()
    digests: list[str] = []
    seen: set[int] = set()
    steps: dict[str, int] = {}
    low = whole = records = 0
    parent, began = None, None
    for path, number in zip(paths, numbers, strict=True):
        reader = SegmentReader(path, writer, number)
        with open_regular(path) as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())  # pyright: ignore[reportArgumentType] - a file
            for (_, start), event in reader.read(final=True):
                records += event.kind in RECORD_KINDS
                if event.kind in STEPPED:
                    _note_step(event, steps)
                if event.kind == "scalars" and event.seq not in seen and columns.take(event):
                    seen.add(event.seq)
                    continue
                seen.add(event.seq)
                whole += event.kind == "scalars"
                file.seek(start)
                lines.append(file.readline(LONGEST + 1))
            low, parent = max(low, reader.low), reader.parent or parent
            damage += [_damage(one, file) for one in reader.damage]
            began = began if began is not None else _began(file)
    if not seen:
        return None
    part = PartFiles(writer, min(seen), max(seen), directory)
    names, axes, sorted_columns = columns.sorted()
    header: dict[str, Any] = {
        "v": FORMAT, "writer": writer, "parent": parent, "segments": [numbers[0], numbers[-1]], "digests": digests,
        "first": part.first, "last": part.last, "count": len(lines) + len(columns.seq), "records": records,
        "whole": whole, "content": content_digest(names, axes, sorted_columns), "steps": steps,
    }  # fmt: skip
    began = began or 0.0
    top = [
        encode_line(0, low, "compacted", began, header),
        encode_line(0, 0, "names", began, {"names": _last_values(names, sorted_columns)}),
        *(encode_line(0, 0, "damage", began, one) for one in damage),
    ]
    with _put(part.events) as aside, aside.open("xb") as file:
        file.writelines([*top, *lines])
    with _put(part.scalars) as aside:
        write_scalars(aside, writer, names, axes, sorted_columns)
    return part


def _note_step(event: Event, steps: dict[str, int]) -> None:
    """Note the largest step of each axis."""
    axis, step = event.fields.get("axis", "step"), event.fields.get("step")
    if isinstance(axis, str) and _is_text(axis) and type(step) is int and step > steps.get(axis, step - 1):
        steps[axis] = step


def _damage(one: Damage, file: IO[bytes]) -> dict[str, Any]:
    fields = {"file": one.file.name, "offset": one.offset, "length": one.length, "reason": one.reason}
    if one.length > KEPT:
        return fields
    # Somebody may make out what it said; nothing that was written is thrown away.
    file.seek(one.offset)
    return {**fields, "content": base64.b64encode(file.read(one.length)).decode("ascii")}


def _began(file: IO[bytes]) -> float | None:
    file.seek(0)
    try:
        return decode_line(file.readline(LONGEST).removesuffix(b"\n")).time
    except JournalError:
        return None


def _last_values(names: list[str], columns: dict[str, np.ndarray[Any, Any]]) -> dict[str, list[Any]]:
    """Name → how many rows it has, the number of the last, and its value."""
    ends = np.searchsorted(columns["name"], np.arange(len(names) + 1)).tolist()
    return {
        name: [
            end - begin,
            int(columns["seq"][end - 1]),
            number_out(number_of(float(columns["value"][end - 1]), int(columns["kind"][end - 1]))),
        ]
        for name, begin, end in zip(names, ends[:-1], ends[1:], strict=True)
    }


@contextmanager
def _put(path: Path) -> Generator[Path]:
    """Give the name of a file to write, which is put in place when it is durable."""
    # The sweep tells by the name whether the process that writes it lives.
    with written_aside(path, path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(6)}")) as aside:
        yield aside
        sync(aside)
    sync(path.parent)
