"""What the command prints: tables and colours at a terminal, aligned plain text anywhere else, and JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracking_core.naming import printable

_LONGEST = 2000
_UNBOUNDED = 8000
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

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str | tuple[str, str]]]) -> None:
        """A table.

        Args:
            columns: Headings.
            rows: As many texts, or (text, style) pairs, as there are columns.
        """
        table = Table(
            box=SIMPLE_HEAD if self._terminal else None,
            pad_edge=False,
            show_edge=False,
            header_style="bold",
            padding=(0, 2 if not self._terminal else 1, 0, 0),
        )
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*map(_text, row))
        self._print(table)

    def _print(self, what: Any) -> None:
        with self._console.capture() as capture:
            self._console.print(what)
        # Rich fills lines up with blanks, which only gets in the way of whoever reads the text with a program.
        click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()) or "")


def _text(part: str | tuple[str, str]) -> Text:
    return Text(shown(part)) if isinstance(part, str) else Text(shown(part[0]), part[1])


def shown(text: str) -> str:
    """Text for a terminal: on one line, without control characters, in bounds."""
    return printable(text, limit=_LONGEST)


def print_json(value: Any) -> None:
    """Print a value as JSON, for programs."""
    click.echo(json.dumps(value, indent=2))
