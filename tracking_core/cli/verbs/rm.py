"""`tracking rm`: remove runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tracking_core.cli.arguments import json_option, progress, root_option, runs_argument, said_plainly

if TYPE_CHECKING:
    from tracking_core.cli.removal import Candidate


@click.command()
@runs_argument
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also remove runs that are running, being delivered, or not readable.")
@root_option
@json_option
@said_plainly()
def verb(runs: tuple[str, ...], yes: bool, force: bool, root: str | None, as_json: bool) -> None:
    """Remove runs from the store, after asking.

    A note of each stays, in .removed of its project. Contents of artifacts stay, and so does what was delivered to
    other places. Nothing is removed when one of the runs is running or is not there.
    """
    from tracking_core.base.text import size
    from tracking_core.cli.choosing import choose_all, own_root
    from tracking_core.cli.output import print_json, shown
    from tracking_core.cli.removal import look, remove

    own_root(root, "rm")
    found = [look(record) for record in choose_all(runs, root)]
    if not force:
        _refuse_busy(found)
    for one in found:
        status = one.status or "unreadable"
        line = f"{one.record.id} ({one.record.name}) of {one.record.project}, {status}, {size(one.size)}"
        line += "".join(f"; {count} records have not reached {target}" for target, count in one.pending.items())
        if not yes:
            click.echo(shown(line), err=True)
    if not yes:
        click.confirm(f"Remove {'it' if len(found) == 1 else f'these {len(found)} runs'}?", abort=True, err=True)
        if not force:
            # It may have been continued while nobody answered.
            _refuse_busy([look(one.record) for one in found])
    removed = [{**_facts(one.record, one.size), "tombstone": ""} for one in found]
    with progress("removing", len(found)) as advance:
        for one, facts in zip(found, removed, strict=True):
            facts["tombstone"] = str(remove(one))
            advance()
    if as_json:
        print_json({"removed": removed, "bytes": sum(one.size for one in found)})
    else:
        for one in found:
            click.echo(shown(f"removed {one.record.id} ({one.record.name}), {size(one.size)}"))


def _refuse_busy(found: list[Candidate]) -> None:
    from tracking_core.cli.output import shown

    for one in found:
        if one.busy is not None:
            raise click.ClickException(
                shown(f"run {one.record.id} ({one.record.name}) {one.busy}; --force removes it all the same")
            )


def _facts(record: object, count: int) -> dict[str, object]:
    return {**{key: getattr(record, key) for key in ("id", "name", "project")}, "bytes": count}
