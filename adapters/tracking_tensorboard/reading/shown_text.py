"""What `markdown` and `listing` wrote, read back: captions, tables, facts and documents."""

from __future__ import annotations

import ast
import contextlib
import html
import json
import re
from typing import Any, cast

from tracking_core.values import Table


def plain(text: str) -> str:
    """Escaped Markdown as the text that it shows."""
    return html.unescape(re.sub(r"\\(.)", r"\1", text.replace("<br>", "\n")))


def rows(text: str) -> list[list[str]]:
    """The cells of the first table in a text, its header included."""
    lines = [line for line in text.partition("\n\n")[0].split("\n") if line.startswith("|")]
    # A cell ends at the first bar that no backslash escapes.
    cells = [re.findall(r"((?:\\.|[^\\|])*)\|", line)[1:] for line in lines]
    found = [[plain(cell[1:-1]) for cell in row] for row in cells]
    return [found[0], *found[2:]] if found else []


def facts(text: str) -> tuple[dict[str, str], str]:
    """Names and values of a table of facts, and the text that follows it."""
    pairs = {row[0]: row[1] for row in rows(text)[1:] if len(row) == 2}
    return pairs, text.partition("\n\n")[2]


def labels(text: str) -> tuple[str, ...]:
    """Labels that `markdown.labels` put on one line."""
    if text.startswith("["):
        with contextlib.suppress(ValueError, RecursionError):
            found: Any = json.loads(text)
            if isinstance(found, list):
                return tuple(label for label in cast("list[Any]", found) if isinstance(label, str))
    return tuple(label for label in text.split(", ") if label)


def table(text: str) -> Table:
    """A table; cells that show a number, a bool or nothing become that again."""
    columns, *cells = rows(text)
    return Table(columns, [[_cell(cell) for cell in row] for row in cells])


def captions(text: str) -> dict[int, str]:
    """Captions by the number of their image, from 1."""
    lines = (line.partition(". ") for line in text.split("\n"))
    return {int(number): plain(caption) for number, dot, caption in lines if dot and number.isdigit()}


def document(text: str) -> dict[str, Any]:
    """A mapping that was shown as a block of JSON.

    Raises:
        ValueError: It is none.
    """
    content = json.loads(text.removeprefix("```json\n").removesuffix("\n```"))
    if not isinstance(content, dict):
        raise TypeError(f"expected an object, got {type(content).__name__}")
    return content


def _cell(text: str) -> Any:
    if text in {"nan", "inf", "-inf"}:
        return float(text)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return value if value is None or isinstance(value, (bool, int, float, list)) else text
