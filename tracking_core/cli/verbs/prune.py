"""`tracking prune`: remove runs that are safe elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tracking_core.cli.arguments import json_option, root_option, said_plainly, stages

if TYPE_CHECKING:
    from tracking_core.store.pruning import Pruned


@click.command(short_help="Remove runs that were delivered to all targets.")
@click.option(
    "--keep",
    "rules",
    multiple=True,
    required=True,
    metavar="RULE",
    help="Which runs to keep: delivered:30d, tag:TAG, status:STATUS, project:NAME or last:N (repeatable).",
)
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and remove nothing.")
@root_option
@json_option
@said_plainly()
def verb(rules: tuple[str, ...], dry_run: bool, root: str | None, as_json: bool) -> None:
    """Remove runs that have ended and were completely delivered to every target.

    A rule delivered:AGE is required: such runs are kept for AGE (12h, 30d, 4w) after their end and delivery. The rules
    tag:, status: and project: keep matching runs; last:N keeps the newest N of each project. Never removed are runs
    that only the local store has, runs of which a target refused records, and runs of which every target leaves
    something out.
    """
    from tracking_core.base.text import counted, size
    from tracking_core.cli.choosing import own_root
    from tracking_core.cli.output import Output, moment, print_json
    from tracking_core.errors import InvalidValueError
    from tracking_core.store import open_store
    from tracking_core.store.pruning import parse_rules

    own_root(root, "prune")
    try:
        parsed = parse_rules(rules)
    except InvalidValueError as error:
        raise click.BadParameter(str(error), param_hint="--keep") from error
    if parsed.age is None:
        raise click.UsageError("name what to keep, such as --keep delivered:30d")
    with stages() as progress:
        result = open_store(root).prune(rules, dry_run=dry_run, progress=progress)
    if as_json:
        print_json(_facts(result))
        return
    if result.removed:
        Output().table(
            ("id", "name", "project", "ended", "size"),
            [(one.id, (one.name, "bold"), one.project, moment(one.ended), size(one.size)) for one in result.removed],
            whole=("id",),
        )
    does = "would free" if dry_run else "freed"
    click.echo(f"{does} {size(result.size)} of {counted(len(result.removed), 'run')}; {_kept(result)}", err=True)


def _kept(result: Pruned) -> str:
    """What stays, for people."""
    from tracking_core.naming import printable

    if not result.kept:
        return "nothing else is there"
    return "kept " + ", ".join(f"{count} ({printable(reason)})" for reason, count in result.kept.most_common())


def _facts(result: Pruned) -> dict[str, Any]:
    return {
        "dry_run": result.dry_run,
        "bytes": result.size,
        "removed": [
            {
                "id": one.id,
                "name": one.name,
                "project": one.project,
                "status": one.status,
                "ended": one.ended,
                "bytes": one.size,
                "targets": list(one.targets),
            }
            for one in result.removed
        ],
        "kept": dict(result.kept),
    }
