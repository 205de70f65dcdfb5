"""Secrets are taken out of what is logged here, once, before anything is written down.

Names are searched for the exact values of secret variables; documents (text, captions, tables, figures) for keys of a
known form as well, but not for what stands behind a word: `token: the` is what language models are logged with.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from tracking_core.base.redaction import REDACTED, redact_document, redact_name
from tracking_core.values.cells import Column
from tracking_core.values.media import Figure
from tracking_core.values.tables import Table

_MOST_KNOWN = 100_000
_PNG_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt", b"eXIf"})


class Names:
    """The names of a run. Each is searched when it is first seen; asking again costs next to nothing.

    A name with a secret in it is kept under another one: two that differ in their secrets alone stay apart, the second
    as `…#2`. No lock is taken: a call may come from a signal handler.
    """

    def __init__(self) -> None:
        self.known: set[str] = set()
        """Names that are kept as they are."""
        self.last: list[str] = []
        """Names of the last call that are all kept as they are, in their order."""
        self._shown: dict[str, str] = {}
        self._owners: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        """The name that one is kept under."""
        if name in self.known:
            return name
        shown = self._shown.get(name)
        if shown is None:
            shown = redact_name(name)
            if shown == name and REDACTED not in name:
                if len(self.known) >= _MOST_KNOWN:
                    # New names without end: looking again is cheaper than keeping them all.
                    self.known = set()
                self.known.add(name)
                return name
            shown = self._shown[name] = self._free(shown, name)
        return shown

    def keys(self, mapping: Mapping[str, Any]) -> Mapping[str, Any]:
        """A mapping under the names that its keys are kept under."""
        names = list(mapping)
        if self.known.issuperset(names):
            self.last = names
            return mapping
        return {self(name): value for name, value in mapping.items()}

    def _free(self, shown: str, name: str) -> str:
        candidate, number = shown, 1
        while self._owners.setdefault(candidate, name) != name:
            number += 1
            candidate = f"{shown}#{number}"
        return candidate


def hide_fields(fields: dict[str, Any], names: Names) -> dict[str, Any]:
    """The fields of an event that a call recorded, under names and with text that may be written.

    Args:
        fields: As the recorder made them; configurations, metadata and errors are searched where they are made.
        names: The names of the run.
    """
    for key in ("axis", "name"):
        if key in fields:
            fields[key] = names(fields[key])
    if "values" in fields:
        fields["values"] = names.keys(fields["values"])
    elif "images" in fields:
        fields["images"] = images = names.keys(fields["images"])
        for entries in images.values():
            for entry in entries:
                if entry["caption"]:
                    entry["caption"] = redact_document(entry["caption"])
    for key in ("text", "caption"):
        if fields.get(key):
            fields[key] = redact_document(fields[key])
    return fields


def hide_figure(figure: Figure) -> Figure:
    """A figure without secrets in its labels, or in the comments of its PNG file."""
    if figure.plotly is not None:
        return Figure.from_plotly(_hide_json(figure.plotly))
    assert figure.image is not None
    return Figure(hide_png(figure.image.png()))


def hide_table(table: Table) -> Table:
    """A table with the secrets in its cells and columns replaced; itself where there are none."""
    cells = [_hidden_column(column) for column in table.cells]
    if cells == table.cells and not _has_secret(table.columns):
        return table
    names = Names()
    return Table.from_columns([names(column) for column in table.columns], cells)


def _hidden_column(column: Column) -> Column:
    """A column with the secrets in its cells replaced; itself where there are none."""
    if isinstance(column.cells, np.ndarray) or not any(map(_has_secret, column.parts())):
        return column
    return Column([_hidden(cell) for part in column.parts() for cell in part])


def _has_secret(cells: Sequence[Any]) -> bool:
    # Many at once: a table may have a million cells.
    texts = [cell if isinstance(cell, str) else repr(cell) for cell in cells if isinstance(cell, (str, list))]
    whole = "\n".join(texts)
    return redact_document(whole) != whole


def _hide_json(text: str) -> str:
    """JSON, such as that of a figure, with the secrets in its texts replaced; as it was where there are none."""
    # Not in the text itself: a value that is a number would be torn out of it.
    if redact_document(text) == text:
        return text
    return json.dumps(_hidden(json.loads(text)), ensure_ascii=False, separators=(",", ":"))


def hide_png(png: bytes) -> bytes:
    """A PNG file without those comments that hold a secret."""
    chunks, at = [png[:8]], 8
    while at + 12 <= len(png):
        (length,) = struct.unpack_from(">I", png, at)
        chunk = png[at : at + 12 + length]
        if chunk[4:8] not in _PNG_TEXTS or not _is_secret_comment(chunk[4:8], chunk[8:-4]):
            chunks.append(chunk)
        at += len(chunk)
    return b"".join((*chunks, png[at:])) if len(chunks) > 1 else png


def _is_secret_comment(kind: bytes, content: bytes) -> bool:
    """Whether the content of a text chunk holds a secret; https://www.w3.org/TR/png-3/#11textinfo."""
    parts = [content]
    if kind != b"eXIf":
        # What is compressed stands at the end: behind the keyword and the method, and behind two more texts in iTXt.
        for start in (place for place in range(len(content)) if content[place] == 0x78):
            try:
                parts.append(zlib.decompressobj().decompress(content[start:], 1 << 20))
                break
            except zlib.error:
                continue
    texts = [part.decode(encoding, "replace") for part in parts for encoding in ("utf-8", "latin-1")]
    return any(redact_document(text) != text for text in texts)


def _hidden(value: Any) -> Any:
    if isinstance(value, str):
        return redact_document(value)
    if isinstance(value, list):
        return [_hidden(part) for part in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {_hidden(key): _hidden(part) for key, part in cast("dict[str, Any]", value).items()}
    return value
