"""Markdown for the Text tab: tables, lists and facts, with everything that users gave escaped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracking_core.values import Table

#: The dashboard takes about a second for 10,000 rows, each time the tab is opened; the run store has them all.
MOST_ROWS = 1000

_SPECIAL = re.compile(r"[\\`*_\[\]|<>&]")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_LEADING = re.compile(r"^(\s*\d*)([#+.)\-])")


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line (a line break becomes `<br>`)."""
    lines = re.split(r"\r\n|\r|\n", text)
    return "<br>".join(_SPECIAL.sub(lambda match: _ENTITIES.get(match[0], "\\" + match[0]), line) for line in lines)


def table(value: Table) -> str:
    """A table; rows beyond `MOST_ROWS` are counted, not shown."""
    parts = [_row(value.columns), _row(["---"] * len(value.columns), raw=True)]
    parts += [_row(row) for row in value.rows[:MOST_ROWS]]
    text = "\n".join(parts)
    if len(value.rows) > MOST_ROWS:
        text += f"\n\n… and {len(value.rows) - MOST_ROWS} more rows, in the run store."
    return text


def facts(pairs: Mapping[str, Any]) -> str:
    """Names and values, one row each; empty values are left out."""
    rows = [_row(["", ""]), _row(["---", "---"], raw=True)]
    rows += [_row([name, value]) for name, value in pairs.items() if value not in (None, "", ())]
    return "\n".join(rows)


def labels(texts: Sequence[str]) -> str:
    """Labels on one line; as JSON where a comma between them would not tell them apart."""
    joined = ", ".join(texts)
    plain = not joined.startswith("[") and tuple(joined.split(", ")) == tuple(texts) and "" not in texts
    return joined if plain or not texts else json.dumps(list(texts), ensure_ascii=False)


def captions(texts: Sequence[str | None]) -> str:
    """Captions of the images of one step, numbered from 1; images without one are left out."""
    return "\n".join(f"{number}. {_start(escape(text))}" for number, text in enumerate(texts, 1) if text is not None)


def document(value: Mapping[str, Any]) -> str:
    """A mapping as a block of JSON."""
    text = json.dumps(dict(value), indent=2, ensure_ascii=False, default=str)
    return f"```json\n{text}\n```"


def size(count: int) -> str:
    """A number of bytes for people."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def encode(text: str) -> bytes:
    r"""UTF-8; a lone surrogate, which UTF-8 cannot hold, becomes `\udXXX`."""
    return text.encode("utf-8", "backslashreplace")


def _row(cells: Iterable[Any], *, raw: bool = False) -> str:
    return f"| {' | '.join(str(cell) if raw else _cell(cell) for cell in cells)} |"


def _cell(cell: Any) -> str:
    if isinstance(cell, (list, tuple)):
        return escape(json.dumps(cell, ensure_ascii=False, default=str))
    return escape(str(cell))


def _start(text: str) -> str:
    # At the start of a list item these would open a heading or another list.
    return _LEADING.sub(lambda match: f"{match[1]}\\{match[2]}", text)
