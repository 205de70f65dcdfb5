"""`tracking export`: scalars of runs as files for other tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracking_core.base.text import counted
from tracking_core.cli.arguments import RunName, json_option, root_option, said_plainly, stages

if TYPE_CHECKING:
    from tracking_core.store import RunRecord, Store


@click.command(short_help="Write scalars as Parquet, CSV or JSON Lines.")
@click.argument("runs", metavar="[RUN]...", type=RunName(), nargs=-1)
@click.option("--all", "every", is_flag=True, help="Export all runs of the store.")
@click.option(
    "--project", "projects", multiple=True, metavar="NAME", help="Export all runs of this project (repeatable)."
)
@click.option(
    "--to",
    "place",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE|DIR",
    help="Where to write; - is stdout.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["parquet", "csv", "jsonl"]),
    help="File format.  [default: from the file name]",
)
@click.option("--partition", is_flag=True, help="Write one file per run, below DIR/project=…/run_id=…/.")
@click.option(
    "--name", "names", multiple=True, metavar="NAME", help="Only these scalars; patterns are allowed (repeatable)."
)
@click.option("--raw", is_flag=True, help="All rows, including those that a later row of the same step replaces.")
@click.option("--force", is_flag=True, help="Replace existing files.")
@root_option
@json_option
@said_plainly()
def verb(
    runs: tuple[str, ...],
    every: bool,
    projects: tuple[str, ...],
    place: Path,
    kind: str | None,
    partition: bool,
    names: tuple[str, ...],
    raw: bool,
    force: bool,
    root: str | None,
    as_json: bool,
) -> None:
    """Write the scalars of runs as Parquet, CSV or JSON Lines: one file, or a Hive-partitioned dataset.

    The columns are project, run_id, run (its name), name, axis, step, time (seconds since the epoch) and value. In a
    dataset, project and run_id are in the directory names.
    """
    from tracking_core.cli.choosing import choose_all_in
    from tracking_core.cli.output import print_json, shown
    from tracking_core.cli.terminal import data
    from tracking_core.errors import MissingDependencyError, PlaceTakenError
    from tracking_core.naming import printable
    from tracking_core.store import open_store
    from tracking_core.store.export import format_of, write_text

    to_stdout = str(place) == "-"
    kind = kind or format_of(place)
    if kind is None:
        raise click.UsageError("--format is missing: parquet, csv or jsonl")
    if to_stdout and (partition or kind == "parquet" or as_json):
        raise click.UsageError("only one file of CSV or JSON Lines can be written to stdout, and nothing beside it")
    if not partition and place.is_dir():
        raise click.UsageError(f"{str(place)!r} is a directory: name a file in it, or use --partition")
    if sum([bool(runs), every, bool(projects)]) != 1:
        raise click.UsageError("name runs, or give --all, or --project NAME")
    store = open_store(root)
    records = choose_all_in(store, runs) if runs else _all(store, projects)
    if to_stdout:
        write_text(records, data(), kind, names, raw=raw)
        return
    try:
        with stages() as progress:
            result = store.export(
                records, place, names, format=kind, partition=partition, raw=raw, force=force, progress=progress
            )
    except PlaceTakenError as error:
        text = f"{error.path} already exists: --force replaces it, or name another place"
        raise click.ClickException(printable(text, limit=4000)) from error
    except MissingDependencyError as error:
        if kind != "parquet":
            raise
        text = f"{error}; --format csv and --format jsonl need nothing"
        raise click.ClickException(printable(text, limit=4000)) from error
    if as_json:
        print_json({"files": [str(path) for path in result.files], "rows": result.rows, "runs": list(result.runs)})
    else:
        where = shown(f"{counted(len(result.files), 'file')} below {place}" if partition else str(place))
        click.echo(f"wrote {counted(result.rows, 'row')} of {counted(len(records), 'run')} to {where}", err=True)


def _all(store: Store, projects: Sequence[str]) -> list[RunRecord]:
    """All runs of some projects, or of the store, the oldest first; those without scalars are among them.

    Raises:
        ClickException: There is none.
    """
    from tracking_core.cli.output import shown

    records = [record for record in reversed(store.runs()) if not projects or record.project in projects]
    for place, why in store.unreadable.items():
        click.echo(f"left out: {shown(f'{place.name}: {why}')}", err=True)
    if not records:
        of = f" of {', '.join(projects)}" if projects else ""
        raise click.ClickException(shown(f"there are no runs{of} under {store.place}"))
    return records
