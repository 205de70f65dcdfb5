"""`tracking show`: one run as a whole."""

from __future__ import annotations

import click

from tracking_core.cli.arguments import json_option, root_option, run_argument, said_plainly


@click.command(short_help="Show one run.")
@run_argument
@root_option
@json_option
@said_plainly()
def verb(run: str, root: str | None, as_json: bool) -> None:
    """Show a run: configuration, last values, what it logged, and how far each target is.

    RUN is an id, the beginning of an id, a name that only one run has, or "latest"; PROJECT/RUN searches one project.
    """
    from tracking_core.cli.choosing import choose
    from tracking_core.cli.output import print_json
    from tracking_core.cli.overview import overview, print_overview

    found = overview(choose(run, root))
    if as_json:
        print_json(found)
    else:
        print_overview(found)
