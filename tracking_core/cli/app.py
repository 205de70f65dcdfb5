"""The verbs of the command `tracking`. What they do is imported when they are called."""

from __future__ import annotations

import sys

import click

from tracking_core._version import __version__
from tracking_core.cli.bounded import TIMEOUT

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="tracking")
def app() -> None:
    """Look after experiment tracking: which backends there are, and what is wrong when something is."""


@app.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def backends(name: str | None, as_json: bool) -> None:
    """List the installed backends, or show one with its options.

    Ends with 1 when one of them is broken, outdated, or provided by two distributions.
    """
    from tracking_core.cli import backends as listing
    from tracking_core.cli.output import print_json

    if name is None:
        rows = listing.list_backends()
        if as_json:
            print_json({"backends": [row.as_json() for row in rows]})
        else:
            listing.print_table(rows)
    else:
        rows = listing.list_backends(name.lower())
        if not rows:
            raise click.BadParameter(listing.unknown(name), param_hint="NAME")
        if as_json:
            print_json({"backends": [row.as_json() for row in rows]})
        else:
            listing.print_details(rows)
    sys.exit(1 if any(row.is_error for row in rows) else 0)


@app.command()
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=TIMEOUT,
    show_default=True,
    help="Seconds that one check may take.",
)
def doctor(targets: tuple[str, ...], as_json: bool, timeout: float) -> None:
    """Check settings, run store, backends and recent runs, and say what to do about what is wrong.

    TARGET is what TRACKING_BACKEND would say, such as tensorboard:./tb; without one, what is set is checked.
    Ends with 1 when something is an error.
    """
    from contextlib import redirect_stdout
    from pathlib import Path

    from tracking_core.cli.doctor import examine
    from tracking_core.cli.output import print_json

    try:
        Path.cwd()
    except OSError as error:
        raise click.ClickException("the working directory is gone: change to one that exists") from error
    # What a backend has to say while it is asked must not get into the answer.
    with redirect_stdout(sys.stderr):
        diagnosis = examine(targets, timeout=timeout)
    if as_json:
        print_json(diagnosis.as_json())
    else:
        from tracking_core.cli.doctor.rendering import print_diagnosis

        print_diagnosis(diagnosis)
    sys.exit(0 if diagnosis.ok else 1)


@app.command()
@click.argument("run", metavar="RUN")
@click.option("--to", "to", multiple=True, metavar="TARGET", help="Deliver to this target; may be given several times.")
@click.option("--root", metavar="DIR", help="Root of the run store.  [default: what is set]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def sync(run: str, to: tuple[str, ...], root: str | None, as_json: bool) -> None:
    """Deliver what the targets of RUN have not had yet, from its journal.

    Without --to these are the targets that the run was started with. Interrupted and repeated, it goes on where it
    stopped. Ends with 1 when something did not arrive.
    """
    from tracking_core.cli.output import print_json
    from tracking_core.cli.sync import describe
    from tracking_core.cli.sync import sync as deliver
    from tracking_core.errors import TrackingError

    try:
        result = deliver(run, to, root)
    except TrackingError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json(result)
    else:
        for line in describe(result):
            click.echo(line)
    sys.exit(0 if result["ok"] else 1)
