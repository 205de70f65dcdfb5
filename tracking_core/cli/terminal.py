r"""The one way to the terminal: whatever the command prints goes through streams that let no control character pass.

Names, errors and file names may come from anybody, and an escape sequence in them could rewrite what is seen, set the
title, or type. So `guarded` puts streams in the place of stdout and stderr that write such characters as `\x1b`; what
libraries, warnings and tracebacks print is in it too. There are two doors past them: `styled`, for text that has
colours of ours, and `moving`, for a line of progress, whose text is made plain. `data` is the stream for
bytes that another program reads exactly as they are; at a terminal it is guarded as well.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, cast

import click

from tracking_core.naming import printable

if TYPE_CHECKING:
    from rich.progress import Progress

UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls, but for tab and newline
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb]"  # what turns the direction, or begins a line
)
"""Characters that change how a terminal shows the others."""
_LONGEST = 200
_STYLE = re.compile(r"(\x1b\[[0-9;]*m)")


def safe(text: str) -> str:
    r"""A text of one line or more in which `UNSAFE` characters are written as escapes.

    Example:
        >>> safe("loss\x1b[2J")
        'loss\\x1b[2J'
    """
    return UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class GuardedStream:
    """A text stream that passes on everything but unsafe characters.

    Args:
        stream: Where it goes.
    """

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text."""
        self.stream.write(safe(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _unguarded(stream: Any) -> IO[str]:
    return stream.stream if isinstance(stream, GuardedStream) else stream


def guard() -> None:
    """Guard stdout and stderr from now on."""
    sys.stdout, sys.stderr = _guarded(sys.stdout), _guarded(sys.stderr)


def _guarded(stream: Any) -> Any:
    return stream if isinstance(stream, GuardedStream) or stream is None else GuardedStream(stream)


@contextmanager
def guarded() -> Generator[None]:
    """Guard stdout and stderr for a while."""
    before = sys.stdout, sys.stderr
    guard()
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def styled(text: str) -> None:
    """Print a text whose only escapes are colours and the like; click takes them out where there is no terminal."""
    parts = _STYLE.split(text)
    # Every other one is what stands between two of them.
    parts[::2] = map(safe, parts[::2])
    click.echo("".join(parts), file=_unguarded(sys.stdout))


def data() -> IO[str]:
    """The stream for what a program reads: exactly as it is, unless a person does."""
    return cast("IO[str]", sys.stdout) if sys.stdout.isatty() else _unguarded(sys.stdout)


class Moving:
    """A line that moves while something takes long.

    Args:
        bar: The display; None where nobody looks.
        task: The line in it.
    """

    def __init__(self, bar: Progress | None = None, task: Any = None) -> None:
        self._bar = bar
        self._task = task

    def say(self, text: str) -> None:
        """Say what is being done."""
        if self._bar is not None:
            self._bar.update(self._task, description=printable(text, limit=_LONGEST))

    def advance(self) -> None:
        """One more is done."""
        if self._bar is not None:
            self._bar.advance(self._task)


@contextmanager
def moving(text: str, total: int | None = None) -> Generator[Moving]:
    """A line on stderr that says what is done, and how far it is; where nobody looks, nothing is shown.

    Args:
        text: What is done.
        total: Of how many things; None when nobody knows.
    """
    if not sys.stderr.isatty():
        yield Moving()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    words = TextColumn("{task.description}", markup=False)
    columns = (
        (SpinnerColumn(), words, TimeElapsedColumn())
        if total is None
        else (words, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    )
    console = Console(file=_unguarded(sys.stderr))
    # What anything else prints meanwhile goes through rich, which puts it above the line: it is guarded before.
    with Progress(*columns, console=console, transient=True) as bar, guarded():
        line = Moving(bar, bar.add_task("", total=total))
        line.say(text)
        yield line


class Group(click.Group):
    """The commands; what they print is guarded, and what click itself says of errors."""

    def main(self, *arguments: Any, **keywords: Any) -> Any:
        """Run the command line; see click."""
        with guarded():
            return super().main(*arguments, **keywords)
