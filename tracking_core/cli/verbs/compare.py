"""`tracking compare`: runs side by side."""

from __future__ import annotations

import click

from tracking_core.cli.arguments import json_option, root_option, runs_argument, said_plainly


@click.command(short_help="Show runs side by side.")
@runs_argument
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME", help="Only these metrics; patterns are allowed (repeatable)."
)
@click.option(
    "--max", "largest", multiple=True, metavar="PATTERN", help="Larger is better for these metrics (repeatable)."
)
@click.option(
    "--min", "smallest", multiple=True, metavar="PATTERN", help="Smaller is better for these metrics (repeatable)."
)
@click.option("--all-config", is_flag=True, help="Also show the configuration that is the same in all.")
@root_option
@json_option
@said_plainly()
def verb(
    runs: tuple[str, ...],
    metrics: tuple[str, ...],
    largest: tuple[str, ...],
    smallest: tuple[str, ...],
    all_config: bool,
    root: str | None,
    as_json: bool,
) -> None:
    """Show runs side by side: configuration that differs, and the last and best value of every metric.

    For names such as accuracy, auc, reward or psnr, larger is better; for all others, smaller is. --max and --min
    change that.
    """
    from tracking_core.cli.choosing import choose_all
    from tracking_core.cli.comparison import compare, print_comparison
    from tracking_core.cli.output import print_json

    found = compare(choose_all(runs, root), metrics, largest, smallest, all_config=all_config)
    if as_json:
        print_json(found)
    else:
        print_comparison(found)
