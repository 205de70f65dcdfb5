"""`tracking compact`: make columns of journals."""

from __future__ import annotations

import sys
from typing import Any

import click

from tracking_core.cli.arguments import RunName, json_option, progress, root_option, said_plainly


@click.command(short_help="Merge journals into Parquet.")
@click.argument("runs", metavar="[RUN]...", type=RunName(), nargs=-1)
@click.option("--all", "every", is_flag=True, help="Compact all runs of the store.")
@root_option
@json_option
@said_plainly()
def verb(runs: tuple[str, ...], every: bool, root: str | None, as_json: bool) -> None:
    """Merge the journals of RUNs into Parquet, which is smaller and fast to read.

    A training has this done in the background; this command is for what was left, and for runs that died. Of a running
    run, only full files are merged. Nothing is lost: a file that a target has not read yet is kept until it has. Exit
    code 1: a run could not be compacted.
    """
    from tracking_core.base.text import counted, size
    from tracking_core.cli.choosing import choose_all, own_root
    from tracking_core.cli.output import print_json
    from tracking_core.compaction.compaction import compact
    from tracking_core.errors import MissingDependencyError, TrackingError
    from tracking_core.naming import printable
    from tracking_core.store import open_store

    if bool(runs) == every:
        raise click.UsageError("name runs, or give --all")
    own_root(root, "compact")
    store = open_store(root)
    records = store.runs() if every else choose_all(runs, root)
    done: list[dict[str, Any]] = [{"id": place.name, "error": why} for place, why in store.unreadable.items()]
    with progress("compacting", len(records)) as advance:
        for record in records:
            entry: dict[str, Any] = {"id": record.id, "error": None}
            try:
                result = compact(record.dir)
            except MissingDependencyError:
                raise
            except (TrackingError, OSError) as error:
                entry["error"] = str(error)
            else:
                keys = ("parts", "removed", "waiting", "damaged", "before", "after")
                entry |= {key: getattr(result, key) for key in keys}
            done.append(entry)
            advance()
    ok = all(entry["error"] is None for entry in done)
    if as_json:
        print_json({"ok": ok, "runs": done})
        sys.exit(0 if ok else 1)
    for entry in done:
        if entry["error"] is not None:
            click.echo(f"{printable(entry['id'])}: {printable(str(entry['error']), limit=1000)}", err=True)
        elif entry["parts"] or entry["removed"]:
            stays = (
                f"; {counted(entry['waiting'], 'file')} kept until every target has read them"
                if entry["waiting"]
                else ""
            )
            stays += f"; {counted(entry['damaged'], 'damaged file')} kept" if entry["damaged"] else ""
            click.echo(f"{entry['id']}: {size(entry['before'])} became {size(entry['after'])}{stays}")
        elif not every:
            click.echo(f"{entry['id']}: there is nothing to merge")
    sys.exit(0 if ok else 1)
