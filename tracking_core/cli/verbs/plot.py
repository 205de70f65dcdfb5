"""`tracking plot`: draw a scalar."""

from __future__ import annotations

from pathlib import Path

import click

from tracking_core.cli.arguments import RunName, json_option, root_option, said_plainly


@click.command(short_help="Draw a scalar of runs.")
@click.argument("runs", metavar="RUN...", type=RunName(), nargs=-1, required=True)
@click.argument("name", metavar="NAME")
@click.option("--axis", metavar="NAME", help="The step axis.  [default: the only one, or step]")
@click.option(
    "--x", "over", type=click.Choice(["step", "time"]), default="step", show_default=True, help="What the x axis shows."
)
@click.option("--log", is_flag=True, help="Logarithmic y axis; values that are not positive are left out.")
@click.option("--width", type=click.IntRange(10, 1000), metavar="N", help="Width in columns.")
@click.option("--height", type=click.IntRange(2, 500), metavar="N", help="Height in lines.")
@click.option("--raw", is_flag=True, help="All rows, including those that a later row of the same step replaces.")
@click.option("--png", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write an image file.")
@root_option
@json_option
@said_plainly()
def verb(
    runs: tuple[str, ...],
    name: str,
    axis: str | None,
    over: str,
    log: bool,
    width: int | None,
    height: int | None,
    raw: bool,
    png: Path | None,
    root: str | None,
    as_json: bool,
) -> None:
    """Plot scalar NAME of runs over their steps, in the terminal or into a file.

    With --x time, the x axis is the time in seconds since each run started. In a terminal without colours, each run
    gets its own plot, all with the same scale.
    """
    from tracking_core.cli import plotting
    from tracking_core.cli.choosing import choose_all
    from tracking_core.cli.output import print_json, shown

    if png is not None and as_json:
        raise click.UsageError("--png and --json cannot be combined")
    curves = plotting.curves(choose_all(runs, root), name, axis, over=over, raw=raw)
    if as_json:
        print_json(plotting.as_json(name, curves), indent=None)
    elif png is not None:
        plotting.draw_file(png, name, curves, over=over, log=log)
        click.echo(f"wrote {shown(str(png))}", err=True)
    else:
        plotting.draw(name, curves, log=log, width=width, height=height)
