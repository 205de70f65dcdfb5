"""`tracking verify`: whether runs are as they were written."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from tracking_core.base.text import counted
from tracking_core.cli.arguments import RunName, json_option, progress, root_option, said_plainly

if TYPE_CHECKING:
    from tracking_core.store.verify import Verified


@click.command(short_help="Check that stored runs are intact.")
@click.argument("runs", metavar="[RUN]...", type=RunName(), nargs=-1)
@click.option("--all", "every", is_flag=True, help="Check all runs of the store.")
@click.option(
    "--quick", is_flag=True, help="For artifact contents, check only that they exist and have the right size."
)
@root_option
@json_option
@said_plainly()
def verb(runs: tuple[str, ...], every: bool, quick: bool, root: str | None, as_json: bool) -> None:
    """Check all checksums and digests of RUNs, all media and all artifact contents, and report what is damaged.

    With --all, also report runs that cannot be read, and journals without a run.json, which are not in any list. A
    running run is checked up to its newest record. Exit code 1: something is damaged.
    """
    from tracking_core.cli.choosing import choose_all
    from tracking_core.cli.output import print_json
    from tracking_core.naming import printable
    from tracking_core.store import open_store
    from tracking_core.store.verify import not_runs, verify_record

    if bool(runs) == every:
        raise click.UsageError("name runs, or give --all")
    store = open_store(root)
    records = store.runs() if every else choose_all(runs, root)
    with progress("verifying", len(records)) as advance:
        found: list[tuple[str, Verified]] = []
        for record in records:
            found.append((record.id, verify_record(record, quick=quick)))
            advance()
    if every:
        found += not_runs(store)
    ok = all(result.ok for _, result in found)
    if as_json:
        print_json(
            {
                "ok": ok,
                "runs": [
                    {
                        "id": run_id,
                        "ok": result.ok,
                        "files": result.files,
                        "events": result.events,
                        "breaks": [
                            {"file": str(one.file), "offset": one.offset, "reason": one.reason} for one in result.breaks
                        ],
                        "unchecked": result.unchecked,
                    }
                    for run_id, result in found
                ],
            }
        )
        sys.exit(0 if ok else 1)
    for run_id, result in found:
        if result.ok:
            click.echo(
                f"{run_id}: {counted(result.events, 'event')} in {counted(result.files, 'file')}, all as written"
            )
        else:
            more = f" (the first of {len(result.breaks)})" if len(result.breaks) > 1 else ""
            click.echo(f"{printable(run_id)}: {printable(str(result.breaks[0]), limit=1000)}{more}")
        for text in result.unchecked:
            click.echo(f"{run_id}: not checked: {printable(text, limit=1000)}", err=True)
    sys.exit(0 if ok else 1)
