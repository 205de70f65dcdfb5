"""`tracking plot`: draw a scalar."""

from __future__ import annotations

from pathlib import Path

import click

from tracking_core.cli.arguments import RunName, json_option, root_option, said_plainly


@click.command(short_help="Draw a scalar of runs.")
@click.argument("runs", metavar="RUN...", type=RunName(), nargs=-1, required=True)
@click.argument("name", metavar="NAME")
@click.option("--axis", metavar="NAME", help="The step axis.  [default: the only one, or step]")
@click.option("--x", "over", type=click.Choice(["step", "time"]), default="step", show_default=True, help="Over what.")
@click.option("--log", is_flag=True, help="Logarithmic values; those that are not positive are left out.")
@click.option("--width", type=click.IntRange(10, 1000), metavar="N", help="Columns of the drawing.")
@click.option("--height", type=click.IntRange(2, 500), metavar="N", help="Lines of the drawing.")
@click.option("--raw", is_flag=True, help="All rows, also those of a step that was logged again later.")
@click.option("--png", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Draw into an image file.")
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
    """Draw scalar NAME of runs over their steps, in the terminal or into a file.

    With --x time over the seconds since each run started. Where there are no colours, each run gets a drawing of its
    own, and all have the same scale.
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
