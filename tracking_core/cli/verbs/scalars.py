"""`tracking scalars`: the values of scalars."""

from __future__ import annotations

import click

from tracking_core.cli.arguments import ScalarName, json_option, root_option, run_argument, said_plainly


@click.command(short_help="Print the values of scalars.")
@run_argument
@click.argument("names", metavar="[NAME]...", type=ScalarName(), nargs=-1)
@click.option("--axis", metavar="NAME", help="Only on this step axis.  [default: all]")
@click.option("--last", type=click.IntRange(min=1), metavar="N", help="Only the last N points of each scalar.")
@click.option("--raw", is_flag=True, help="All rows, including those that a later row of the same step replaces.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: name, axis, step, time, value.")
@root_option
@json_option
@said_plainly()
def verb(
    run: str,
    names: tuple[str, ...],
    axis: str | None,
    last: int | None,
    raw: bool,
    as_csv: bool,
    root: str | None,
    as_json: bool,
) -> None:
    """Print the values of scalars over their steps; without NAME, list the scalars.

    NAME may be a pattern, such as 'train/*'.
    """
    from tracking_core.cli import values
    from tracking_core.cli.choosing import choose

    if as_csv and as_json:
        raise click.UsageError("--csv and --json cannot be combined")
    if last is not None and not names:
        raise click.UsageError("--last needs a NAME; '*' is every scalar")
    record = choose(run, root)
    if not names:
        values.print_names(record, axis, as_json=as_json, as_csv=as_csv, raw=raw)
        return
    found = values.series_of(record, names, axis, raw=raw)
    if last is not None:
        found = [values.tail_of(series, last) for series in found]
    if as_json:
        values.print_as_json(record, found)
    elif as_csv:
        values.print_as_csv(found)
    else:
        values.print_table(found)
