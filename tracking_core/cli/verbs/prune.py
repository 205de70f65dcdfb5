"""`tracking prune`: remove runs that are safe elsewhere."""

from __future__ import annotations

import click

from tracking_core.cli.arguments import json_option, root_option, said_plainly


@click.command(short_help="Remove runs that are safe elsewhere.")
@click.option(
    "--keep",
    "rules",
    multiple=True,
    required=True,
    metavar="RULE",
    help="What stays: delivered:30d, tag:TAG, status:STATUS, project:NAME or last:N (repeatable).",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@root_option
@json_option
@said_plainly()
def verb(rules: tuple[str, ...], dry_run: bool, root: str | None, as_json: bool) -> None:
    """Remove runs that have ended, and of which every target has everything.

    delivered:AGE keeps them for AGE (such as 12h, 30d or 4w) after they ended and were delivered; one such rule must be
    given. tag:, status: and project: keep runs of that kind, last:N the newest N of each project. Runs that are in the
    local store alone are never removed; nor are those of which a target refused records, or whose targets all leave
    something out.
    """
    from tracking_core.base.text import size
    from tracking_core.cli.choosing import own_root
    from tracking_core.cli.output import Output, moment, print_json
    from tracking_core.cli.pruning import prune

    own_root(root, "prune")
    result = prune(rules, root, dry_run=dry_run)
    if as_json:
        print_json(result.as_json())
        return
    if result.removed:
        Output().table(
            ("id", "name", "project", "ended", "size"),
            [
                (one.record.id, (one.record.name, "bold"), one.record.project, moment(ended), size(one.size))
                for one, ended in result.removed
            ],
            whole=("id",),
        )
    does = "would free" if dry_run else "freed"
    click.echo(f"{does} {size(result.bytes)} of {len(result.removed)} runs; {result.kept_words()}", err=True)
