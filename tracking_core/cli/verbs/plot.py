"""`tracking plot`: draw scalars."""

from __future__ import annotations

from pathlib import Path

import click

from tracking_core.cli.arguments import RunName, json_option, root_option, said_plainly


@click.command(short_help="Draw scalars of runs.")
@click.argument("words", metavar="RUN... [NAME]...", type=RunName(), nargs=-1, required=True)
@click.option("--axis", metavar="NAME", help="The step axis.  [default: the only one, or step]")
@click.option(
    "--x", "over", type=click.Choice(["step", "time"]), default="step", show_default=True, help="What the x axis shows."
)
@click.option(
    "--smooth",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    metavar="WEIGHT",
    help="Smooth with a running mean, as TensorBoard does: 0 (not at all) to 0.99.",
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
    words: tuple[str, ...],
    axis: str | None,
    over: str,
    smooth: float,
    log: bool,
    width: int | None,
    height: int | None,
    raw: bool,
    png: Path | None,
    root: str | None,
    as_json: bool,
) -> None:
    """Plot scalars of runs over their steps, in the terminal or into a file.

    NAME is a scalar of a run before it, or a pattern such as 'val/*'; each scalar gets its own plot. Without NAME, the
    scalars of the runs are listed. With --x time, the x axis is the time in seconds since each run started. In a
    terminal without colours, each run gets its own plot, all with the same scale.
    """
    from tracking_core.cli import plotting
    from tracking_core.cli.output import print_json, shown
    from tracking_core.store import open_store

    if png is not None and as_json:
        raise click.UsageError("--png and --json cannot be combined")
    records, names = plotting.parted(words, open_store(root))
    if not names:
        if as_json:
            print_json({"scalars": {record.id: record.scalar_names() for record in records}})
        else:
            plotting.print_scalars(records)
        return
    curves = plotting.all_curves(records, names, axis, over=over, raw=raw, smooth=smooth)
    if as_json:
        print_json(plotting.as_json(curves), indent=None)
    elif png is not None:
        plotting.draw_file(png, curves, over=over, log=log)
        click.echo(f"wrote {shown(str(png))}", err=True)
    else:
        for name, several in curves.items():
            plotting.draw(name, several, log=log, width=width, height=height)
