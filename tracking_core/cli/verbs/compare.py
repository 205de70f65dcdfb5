"""`tracking compare`: runs side by side."""

from __future__ import annotations

import click

from tracking_core.cli.arguments import json_option, root_option, runs_argument, said_plainly


@click.command(short_help="Show runs side by side.")
@runs_argument
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME", help="Only these metrics; patterns too (repeatable)."
)
@click.option("--max", "largest", multiple=True, metavar="PATTERN", help="The largest value of these is the best.")
@click.option("--min", "smallest", multiple=True, metavar="PATTERN", help="The smallest value of these is the best.")
@click.option("--all-config", is_flag=True, help="Also show configuration that does not differ.")
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
    """Show runs side by side: where their configurations differ, and the last and the best value of every metric.

    The best is the largest for names such as accuracy, auc, reward or psnr, and the smallest for any other; --max and
    --min say it where that is wrong.
    """
    from tracking_core.cli.choosing import choose_all
    from tracking_core.cli.comparison import compare, print_comparison
    from tracking_core.cli.output import print_json

    found = compare(choose_all(runs, root), metrics, largest, smallest, all_config=all_config)
    if as_json:
        print_json(found)
    else:
        print_comparison(found)
