"""What verbs have in common: how a run is named, where the store is, and how errors are said."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    _Type = click.ParamType[str]
else:
    # Not generic in all versions of click.
    _Type = click.ParamType


class RunName(_Type):
    """An id, the beginning of one, or a name; it is looked for when the verb runs."""

    name = "run"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click's signature
        """The ids and names that begin with what was typed."""
        from tracking_core.cli.choosing import completions

        return _offered(lambda: completions(ctx.params.get("root"), incomplete))


class ScalarName(_Type):
    """The name of a scalar of the run that was named before, or a pattern."""

    name = "scalar"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click's signature
        """The names that begin with what was typed."""
        from tracking_core.cli.choosing import scalar_completions

        run = ctx.params.get("run")
        return _offered(lambda: scalar_completions(ctx.params.get("root"), run, incomplete)) if run else []


def _offered(find: Callable[[], Iterable[tuple[str, str]]]) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    try:
        return [CompletionItem(text, help=about) for text, about in find()]
    except Exception:  # noqa: BLE001 - whatever is wrong, it is not said while somebody types
        return []


run_argument = click.argument("run", metavar="RUN", type=RunName())
"""One run."""
runs_argument = click.argument("runs", metavar="RUN...", type=RunName(), nargs=-1, required=True)
"""One run or more."""
root_option = click.option(
    "--root", metavar="DIR", is_eager=True, help="Root of the run store, or a mirror.  [default: from the settings]"
)
"""Where the runs are."""
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
"""For programs."""


@contextmanager
def said_plainly() -> Generator[None]:
    """Say what went wrong in one line, without a traceback.

    Raises:
        ClickException: For any error of this package, or of a file.
    """
    from tracking_core.errors import TrackingError
    from tracking_core.naming import printable

    try:
        yield
    except (BrokenPipeError, click.ClickException):
        raise
    except (TrackingError, OSError) as error:
        raise click.ClickException(printable(_words(error), limit=4000)) from error


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and not hasattr(error, "reason"):
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


@contextmanager
def progress(label: str, total: int) -> Generator[Callable[[], None]]:
    """A progress bar on stderr, for work that takes long; where nobody looks, nothing is shown.

    Args:
        label: What is done.
        total: Of how many things.

    Yields:
        A function to be called as each of them is done.
    """
    from tracking_core.cli.terminal import moving

    with moving(label, total) as line:
        yield line.advance


@contextmanager
def stages() -> Generator[Callable[[str, int, int], None]]:
    """Progress bars that follow each other, for work that says itself what it does and how far it is.

    Yields:
        A function to be called with (what is done, how many are done, of how many).
    """
    with ExitStack() as bar:
        now: str | None = None
        advance: Callable[[], None] | None = None

        def say(what: str, done: int, total: int) -> None:
            nonlocal now, advance
            if what != now:
                bar.close()
                now, advance = what, bar.enter_context(progress(what, total))
            if done and advance is not None:
                advance()

        yield say
