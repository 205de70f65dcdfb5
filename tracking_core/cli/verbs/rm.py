"""`tracking rm`: remove runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tracking_core.cli.arguments import json_option, root_option, runs_argument, said_plainly, stages

if TYPE_CHECKING:
    from tracking_core.store import RunRecord


@click.command()
@runs_argument
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also remove runs that are running, being delivered, or not readable.")
@root_option
@json_option
@said_plainly()
def verb(runs: tuple[str, ...], yes: bool, force: bool, root: str | None, as_json: bool) -> None:
    """Remove runs from the store, after asking.

    A note of each run stays, in .removed of its project. Artifact contents stay, and so do records that were delivered
    to other places. If one of the runs is running, or does not exist, nothing is removed.
    """
    from tracking_core.base.text import size
    from tracking_core.cli.choosing import choose_all_in, own_root
    from tracking_core.cli.output import print_json, shown
    from tracking_core.errors import RunBusyError
    from tracking_core.store import open_store

    own_root(root, "rm")
    store = open_store(root)
    records = choose_all_in(store, runs, whole=True)
    try:
        if not yes:
            _ask(records, force=force)
        with stages() as progress:
            removed = store.remove(records, force=force, progress=progress)
    except RunBusyError as error:
        text = f"run {error.run_id} ({error.name}) {error.reason}; --force removes it anyway"
        raise click.ClickException(shown(text)) from error
    if as_json:
        facts = [
            {"id": one.id, "name": one.name, "project": one.project, "bytes": one.size, "tombstone": str(one.tombstone)}
            for one in removed
        ]
        print_json({"removed": facts, "bytes": sum(one.size for one in removed)})
    else:
        for one in removed:
            click.echo(shown(f"removed {one.id} ({one.name}), {size(one.size)}"))


def _ask(records: list[RunRecord], *, force: bool) -> None:
    """Show what would be removed, and ask.

    Raises:
        RunBusyError: One of the runs would be refused.
        Abort: The answer is no.
    """
    from tracking_core.base.text import counted, size
    from tracking_core.cli.output import shown
    from tracking_core.store.removal import look, refuse_busy

    found = [look(record) for record in records]
    if not force:
        refuse_busy(found)
    for one in found:
        status = one.status or "unreadable"
        line = f"{one.record.id} ({one.record.name}) of {one.record.project}, {status}, {size(one.size)}"
        line += "".join(
            f"; {counted(count, 'record')} not delivered to {target}" for target, count in one.pending.items()
        )
        click.echo(shown(line), err=True)
    click.confirm(f"Remove {'it' if len(found) == 1 else f'these {len(found)} runs'}?", abort=True, err=True)
