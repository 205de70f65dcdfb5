"""`tracking runs`: which runs there are."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from tracking_core.cli.arguments import json_option, root_option, said_plainly
from tracking_core.protocol import STATUSES

if TYPE_CHECKING:
    from tracking_core.cli.listing import Row, Unreadable


@click.command()
@click.option(
    "--project",
    "projects",
    multiple=True,
    metavar="NAME",
    help="Only runs of this project (repeatable: of any of them).",
)
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(["running", *STATUSES, "crashed", "unreadable"]),
    metavar="STATUS",
    help="Only runs with this status (repeatable: with any of them).",
)
@click.option(
    "--tag", "tags", multiple=True, metavar="TAG", help="Only runs with this tag (repeatable: with all of them)."
)
@click.option(
    "--where",
    "conditions",
    multiple=True,
    metavar="EXPR",
    help="Only runs for which this is true, such as 'val/loss<0.2' or 'config.lr=1e-3' (repeatable: all must be).",
)
@click.option("--sort", metavar="METRIC", help="Sort by a metric, config.NAME or a field; smallest first.")
@click.option("--reverse", is_flag=True, help="Largest first.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Show at most N runs.")
@click.option(
    "--show", "columns", multiple=True, metavar="METRIC", help="Add a column: a metric or config.NAME (repeatable)."
)
@click.option("--ids", is_flag=True, help="Print only ids, for use by other commands.")
@root_option
@json_option
@said_plainly()
def verb(
    projects: tuple[str, ...],
    statuses: tuple[str, ...],
    tags: tuple[str, ...],
    conditions: tuple[str, ...],
    sort: str | None,
    reverse: bool,
    limit: int | None,
    columns: tuple[str, ...],
    ids: bool,
    root: str | None,
    as_json: bool,
) -> None:
    """List runs, newest first.

    EXPR is NAME OP VALUE. NAME is a metric (its last value), config.NAME, or one of id, name, project, status, group,
    job_type, notes, started, finished, duration. OP is one of = != < <= > >= or ~ (VALUE is a regular expression that
    is searched for). A run without that value does not match; --sort puts it last. At a terminal, ids are shown
    as far as they are unique, and the last column is the validation loss or accuracy, if the runs have one.

    A run that cannot be read is listed as unreadable, the reason goes to stderr, and the exit code is 1.
    """
    from tracking_core.cli import listing
    from tracking_core.cli.expressions import parse
    from tracking_core.cli.output import print_json, shown
    from tracking_core.layout.fallback import runs_elsewhere
    from tracking_core.store import open_store

    if ids and as_json:
        raise click.UsageError("--ids and --json cannot be combined")
    parsed = [parse(text) for text in conditions]
    rows, unreadable = listing.rows(root, projects, statuses, tags, parsed, sort=sort, reverse=reverse, limit=limit)
    if as_json:
        print_json({"runs": [row.as_json() for row in rows], "unreadable": [one.as_json() for one in unreadable]})
    elif ids:
        for row in rows:
            click.echo(row.record.id)
    elif rows or unreadable:
        asked: list[str] = list(dict.fromkeys([*columns, *([sort] if sort else []), *(one.left for one in parsed)]))
        main = listing.main_column(rows)
        _print(
            rows,
            unreadable,
            asked if main is None or main in asked else [*asked, main],
        )
    else:
        narrowed = projects or statuses or tags or conditions
        click.echo(shown("no runs match" if narrowed else f"no runs under {open_store(root).place}"), err=True)
    if root is None and (elsewhere := runs_elsewhere(open_store(root).root)):
        click.echo(shown(elsewhere), err=True)
    if not (as_json or ids):
        for text in listing.advice(rows, [*([sort] if sort else []), *columns]):
            click.echo(shown(text), err=True)
    broken = [row for row in rows if row.is_broken]
    for why in [*(str(row.problem) for row in broken), *(one.problem for one in unreadable)]:
        click.echo(f"unreadable: {shown(why)}", err=True)
    sys.exit(1 if broken or unreadable else 0)


def _print(rows: list[Row], unreadable: list[Unreadable], columns: list[str]) -> None:
    from tracking_core.cli.output import Output, duration, moment, number, status_style

    extra = [name for name in columns if name not in {"id", "name", "project", "status", "started", "duration"}]
    lines: list[Any] = []
    short = _short(rows) if sys.stdout.isatty() else {}
    for row in rows:
        values = [row.value(name) for name in extra]
        lines.append(
            (
                short.get(row.record.id, row.record.id),
                (row.record.name, "bold"),
                row.record.project,
                (row.status or "unreadable", status_style(row.status)),
                moment(row.record.started),
                duration(row.duration),
                " ".join(row.record.tags),
                *("" if value is None else number(value) for value in values),
            )
        )
    status = ("unreadable", status_style(None))
    lines += [(one.dir.name, "", one.dir.parent.name, status, "-", "-", "", *("" for _ in extra)) for one in unreadable]
    Output().table(
        ("id", "name", "project", "status", "started", "duration", "tags", *extra),
        lines,
        # Names are folded only where not even they and the ids have room.
        whole=("id", "status", "started", "duration", *(("name",) if _fit(lines) else ())),
        spare=("duration", "tags", "started", "project", "status"),
    )


def _short(rows: list[Row]) -> dict[str, str]:
    """Ids for a terminal: as long as they have to be to name the runs."""
    from tracking_core.cli.choosing import all_ids
    from tracking_core.cli.listing import short_ids

    if not rows:
        return {}
    root = rows[0].record.dir.parent.parent
    return short_ids([row.record.id for row in rows], all_ids(root))


def _fit(lines: list[Any]) -> bool:
    """Whether ids and names stand beside each other."""
    from shutil import get_terminal_size

    from rich.cells import cell_len

    ids, names = (max((cell_len(_text(line[at])) for line in lines), default=0) for at in (0, 1))
    return ids + 2 + names <= get_terminal_size().columns


def _text(cell: str | tuple[str, str]) -> str:
    """The text of a cell."""
    from tracking_core.cli.output import shown

    return shown(cell if isinstance(cell, str) else cell[0])
