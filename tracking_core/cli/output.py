"""What the command prints: tables and colours at a terminal, aligned plain text anywhere else, and JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracking_core.base.json_text import json_text, plain
from tracking_core.cli.terminal import styled
from tracking_core.naming import printable

_LONGEST = 2000
_UNBOUNDED = 8000
_MOST_ROWS = 1000
"""Of a table with frame and colours."""
_GAP, _FOLDED, _NARROWEST = 2, 12, 4
"""Cells between columns; those that a column keeps which may be folded, while others can be left out, and at least."""
STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}
"""Colour of each level."""


class Output:
    """Prints to stdout: for a person at a terminal, or as plain text without colours, frames and line breaks."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._console = Console(
            file=sys.stdout,
            width=None if self._terminal else _UNBOUNDED,
            force_terminal=self._terminal,
            highlight=False,
            markup=False,
            emoji=False,
        )

    def heading(self, text: str) -> None:
        """A heading, with an empty line before it."""
        self.line()
        self.line((text, "bold"))

    def line(self, *parts: str | tuple[str, str]) -> None:
        """One line.

        Args:
            parts: Texts, or (text, style) pairs, that follow each other.
        """
        self._print(Text().join(_text(part) for part in parts))

    def item(self, lead: str | tuple[str, str], text: str | tuple[str, str], *, indent: int = 0) -> None:
        """A text with something in front of it; at a terminal it goes on under its own start.

        Args:
            lead: What stands in front, blanks included; a (text, style) pair as well.
            text: The text, or a (text, style) pair.
            indent: How far both are moved to the right.
        """
        grid = Table.grid()
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row(Text(" " * indent).append_text(_text(lead)), _text(text))
        self._print(grid)

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str | tuple[str, str]]],
        *,
        whole: Sequence[str] = (),
        spare: Sequence[str] = (),
        repeated: bool = False,
    ) -> None:
        """A table.

        Args:
            columns: Headings.
            rows: As many texts, or (text, style) pairs, as there are columns.
            whole: Columns that are not folded where the terminal is narrow, so that they can be copied.
            spare: Columns that are left out where the terminal is too narrow for all, the first of them first.
            repeated: Whether columns that do not fit come in further tables below, each with the first column again.
        """
        if not self._terminal or len(rows) > _MOST_ROWS:
            # Rich needs a while for each cell, and there may be a million.
            self._plain_table(columns, rows)
            return
        cells = [[_text(cell) for cell in row] for row in (columns, *rows)]
        widths = [max(line[number].cell_len for line in cells) for number in range(len(columns))]
        kept = list(range(len(columns)))

        def least(numbers: Sequence[int], folded: int) -> int:
            narrow = (widths[at] if columns[at] in whole else min(widths[at], folded) for at in numbers)
            return sum(narrow) + _GAP * (len(numbers) - 1)

        for name in spare:
            if least(kept, _FOLDED) > self._console.width:
                kept.remove(columns.index(name))
        blocks = [kept]
        if repeated:
            blocks = []
            for at in kept[1:]:
                if not blocks or least([*blocks[-1], at], _FOLDED) > self._console.width:
                    blocks.append([kept[0]])
                blocks[-1].append(at)
        for number, block in enumerate(blocks):
            if number:
                self.line()
            if least(block, _NARROWEST) > self._console.width:
                # The terminal breaks the lines: rich would leave columns without a character.
                self._plain_table([columns[at] for at in block], [[row[at] for at in block] for row in rows])
            else:
                self._rich_table([[line[at] for at in block] for line in cells], [columns[at] in whole for at in block])

    def _rich_table(self, cells: Sequence[Sequence[Text]], whole: Sequence[bool]) -> None:
        table = Table(
            box=SIMPLE_HEAD,
            pad_edge=False,
            show_edge=False,
            header_style="bold",
            padding=(0, 1, 0, 0),
        )
        for head, no_wrap in zip(cells[0], whole, strict=True):
            table.add_column(head, overflow="fold", no_wrap=no_wrap)
        for row in cells[1:]:
            table.add_row(*row)
        self._print(table)

    def _plain_table(self, columns: Sequence[str], rows: Sequence[Sequence[str | tuple[str, str]]]) -> None:
        lines = [[shown(cell if isinstance(cell, str) else cell[0]) for cell in row] for row in (columns, *rows)]
        widths = [max(cell_len(line[number]) for line in lines) for number in range(len(columns))]
        text = (
            "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )
        click.echo("\n".join(text))

    def _print(self, what: Any) -> None:
        with self._console.capture() as capture:
            self._console.print(what)
        # Rich fills lines up with blanks, which only gets in the way of whoever reads the text with a program.
        styled("\n".join(line.rstrip() for line in capture.get().split("\n")).removesuffix("\n"))


def _text(part: str | tuple[str, str]) -> Text:
    return Text(shown(part)) if isinstance(part, str) else Text(shown(part[0]), part[1])


def shown(text: str) -> str:
    """Text for a terminal: on one line, without control characters, in bounds."""
    if len(text) <= _LONGEST and text.isprintable():
        return text
    return printable(text, limit=_LONGEST)


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print a value as JSON, for programs; see `plain` for numbers that JSON has not.

    Args:
        value: The value.
        indent: How far inner levels are moved to the right; None prints one line.
    """
    click.echo(json_text(plain(value), indent=indent))


def number(value: Any) -> str:
    """A value for people: six significant digits, on one line."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return shown(value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False))


def exactly(value: Any) -> str:
    """A value of a configuration for people, on one line: what differs looks different."""
    return repr(value) if isinstance(value, float) else number(value)


def moment(seconds: float | None) -> str:
    """Seconds since the epoch as local time; "-" for none."""
    if seconds is None:
        return "-"
    try:
        return datetime.fromtimestamp(seconds, tz=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g}"


def duration(seconds: float | None) -> str:
    """A length of time for people; "-" for none."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{max(0.0, seconds):.1f}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"


def status_style(status: str | None) -> str:
    """Colour of a run's status."""
    return {"finished": STYLES["ok"], "running": "cyan", "failed": STYLES["error"], "crashed": STYLES["error"]}.get(
        status or "", STYLES["warning"]
    )
