"""`tracking tail`: watch a run."""

from __future__ import annotations

import sys

import click

from tracking_core.cli.arguments import ScalarName, json_option, root_option, run_argument, said_plainly


@click.command(short_help="Follow what a run logs.")
@run_argument
@click.argument("names", metavar="[NAME]...", type=ScalarName(), nargs=-1)
@click.option(
    "--last",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    metavar="N",
    help="Start with the last N lines.",
)
@click.option("--all", "everything", is_flag=True, help="Start at the beginning of the run.")
@root_option
@json_option
@said_plainly()
def verb(run: str, names: tuple[str, ...], last: int, everything: bool, root: str | None, as_json: bool) -> None:
    """Print what a run logs as it comes, until the run ends; with --json, one object per line.

    With NAME, only values of that name are printed; it may be a pattern, such as 'train/*'. Exit codes: 0 if the run
    finished, or after Ctrl-C; 1 if it failed, crashed, or was stopped.
    """
    from tracking_core.cli.choosing import choose
    from tracking_core.cli.following import follow, json_line, logs, text_line
    from tracking_core.cli.output import shown

    record = choose(run, root)
    for name in names:
        if not logs(record, name):
            click.echo(shown(f"run {record.id} has logged nothing yet that fits {name!r}"), err=True)
    status = "finished"
    try:
        for one in follow(record, names, None if everything else last):
            click.echo(json_line(one) if as_json else text_line(one))
            status = one["status"] if one["kind"] == "end" else status
    except KeyboardInterrupt:
        # The usual way to stop watching.
        sys.exit(0)
    sys.exit(0 if status == "finished" else 1)
