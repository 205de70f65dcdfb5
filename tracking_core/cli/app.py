"""The verbs of the command `tracking`. What they do is imported when they are called."""

from __future__ import annotations

import sys

import click

from tracking_core._version import __version__
from tracking_core.cli.arguments import RunName, root_option, run_argument
from tracking_core.cli.bounded import TIMEOUT
from tracking_core.cli.loading import LazyVerbs
from tracking_core.cli.terminal import Group

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_VERBS = (
    "runs",
    "show",
    "scalars",
    "plot",
    "compare",
    "tail",
    "export",
    "rm",
    "prune",
    "compact",
    "verify",
    "completion",
)


@click.group(
    cls=Group,
    context_settings=_SETTINGS,
    commands=LazyVerbs({verb: f"tracking_core.cli.verbs.{verb}" for verb in _VERBS}),
)
@click.version_option(__version__, prog_name="tracking")
def app() -> None:
    """Read, compare and export recorded runs, deliver them to other places, and find out what is wrong.

    Exit codes: 0 for success; 1 if something failed, or if a check found a problem; 2 for wrong usage.
    """


@app.command(short_help="List the installed backends, or show one.")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def backends(name: str | None, as_json: bool) -> None:
    """List the installed backends, or show one with its options.

    Exit code 1: a backend is broken, outdated, or provided by two distributions.
    """
    from tracking_core.cli import backends as listing
    from tracking_core.cli.output import print_json

    if name is None:
        rows = listing.list_backends()
        if as_json:
            print_json({"backends": [row.as_json() for row in rows]})
        else:
            listing.print_table(rows)
    else:
        rows = listing.list_backends(name.lower())
        if not rows:
            raise click.BadParameter(listing.unknown(name), param_hint="NAME")
        if as_json:
            print_json({"backends": [row.as_json() for row in rows]})
        else:
            listing.print_details(rows)
    sys.exit(1 if any(row.is_error for row in rows) else 0)


@app.command(short_help="Check settings, store, backends and recent runs.")
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=TIMEOUT,
    show_default=True,
    help="Seconds that one check may take.",
)
@click.option("--advice", is_flag=True, help="Also say what to do if logging is slow, or something is missing.")
def doctor(targets: tuple[str, ...], as_json: bool, timeout: float, advice: bool) -> None:
    """Check settings, run store, backends and recent runs, and say at the end what is wrong and how to fix it.

    TARGET is written as in TRACKING_BACKEND, such as tensorboard:./tb; without TARGET the configured ones are checked.
    Exit code 1: a check found an error.
    """
    from contextlib import redirect_stdout
    from pathlib import Path

    from tracking_core.cli.doctor import examine
    from tracking_core.cli.output import print_json

    try:
        Path.cwd()
    except OSError as error:
        raise click.ClickException("the working directory is gone: change to one that exists") from error
    # What a backend has to say while it is asked must not get into the answer.
    with redirect_stdout(sys.stderr):
        diagnosis = examine(targets, timeout=timeout)
    if as_json:
        print_json(diagnosis.as_json())
    else:
        from tracking_core.cli.doctor.rendering import print_diagnosis

        print_diagnosis(diagnosis, advice=advice)
    sys.exit(0 if diagnosis.ok else 1)


@app.command(short_help="Deliver records that targets do not have yet.")
@click.argument("runs", metavar="[RUN]...", type=RunName(), nargs=-1)
@click.option("--to", "to", multiple=True, metavar="TARGET", help="Deliver to this target; may be given several times.")
@click.option("--all", "every", is_flag=True, help="Deliver all runs of the store.")
@click.option("--follow", metavar="ROOT", help="Deliver all runs under ROOT as they grow, until interrupted.")
@click.option("--failed", is_flag=True, help="Also send again the records that targets refused or failed on.")
@click.option(
    "--wait", is_flag=True, help="Wait for processes that deliver to a target, and for backends that do not answer."
)
@root_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def sync(
    runs: tuple[str, ...],
    to: tuple[str, ...],
    every: bool,
    follow: str | None,
    failed: bool,
    wait: bool,
    root: str | None,
    as_json: bool,
) -> None:
    """Deliver the records that targets of RUNs do not have yet, or deliver whole runs to other targets.

    Without --to, the targets are those that each run was started with; a run that was imported or unpacked needs --to.
    If it is interrupted, run it again: it continues where it stopped. With --follow it runs beside trainings that
    cannot reach their backends, also on another machine. Records that a target refused or failed on are sent again
    only with --failed. With --wait it ends when everything was delivered, or can never be. Exit codes: 1 if something
    was not delivered, 130 after Ctrl-C.
    """
    from tracking_core.cli import sync as syncing
    from tracking_core.cli.output import print_json
    from tracking_core.errors import LeaseHeldError, TrackingError

    if sum([bool(runs), every, follow is not None]) != 1:
        raise click.UsageError("name runs, or give --all, or --follow ROOT")
    if follow is not None and (as_json or root is not None):
        raise click.UsageError("--follow takes the root by itself, and prints no JSON")
    if follow is not None and (failed or wait):
        raise click.UsageError("--failed and --wait are for runs that are named, or --all")
    try:
        if follow is not None:
            syncing.follow_until_interrupted(follow, to)
        result = syncing.sync(runs, to, root, failed=failed, wait=wait)
    except LeaseHeldError as error:
        raise click.ClickException(f"{error}, or give --wait") from error
    except (TrackingError, OSError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        syncing.end_interrupted()
    if as_json:
        print_json(result)
    else:
        for line in syncing.describe(result):
            click.echo(line)
        if not wait and (advice := syncing.advice(result)) is not None:
            click.echo(advice, err=True)
    sys.exit(0 if result["ok"] else 1)


@app.command("import", short_help="Import runs from TensorBoard, W&B, CSV or packs.")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option("--from", "kind", metavar="KIND", help="tensorboard, wandb, csv or pack.  [default: detected]")
@click.option("--project", metavar="P", help="Project of the runs.  [default: from the source, else from the settings]")
@root_option
@click.option("--step", metavar="COLUMN", help="For CSV: the column of steps.  [default: step]")
@click.option("--time", metavar="COLUMN", help="For CSV: the column of times.  [default: time, if there is one]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def import_(
    sources: tuple[str, ...],
    kind: str | None,
    project: str | None,
    root: str | None,
    step: str | None,
    time: str | None,
    as_json: bool,
) -> None:
    """Import runs into the run store: TensorBoard event files, W&B runs on disk, CSV files, packs.

    SOURCE is a directory or a file. Runs that were imported before are left unchanged. Exit code 1: a source could not
    be read.
    """
    from tracking_core.cli.importing import describe_imports, import_all
    from tracking_core.cli.output import print_json

    result = import_all(sources, kind=kind, project=project, root=root, step=step, time=time)
    if as_json:
        print_json(result)
    else:
        for line in describe_imports(result):
            click.echo(line)
    sys.exit(0 if result["ok"] else 1)


@app.command(short_help="Pack a run into one archive.")
@run_argument
@click.option("-o", "--output", metavar="FILE", help="The file to write.  [default: RUN.tracking.zip]")
@root_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def pack(run: str, output: str | None, root: str | None, as_json: bool) -> None:
    """Pack RUN and the artifacts that it logged or used into one archive; `tracking import` unpacks it."""
    from tracking_core.cli.importing import describe_pack
    from tracking_core.cli.importing import pack as make_pack
    from tracking_core.cli.output import print_json
    from tracking_core.errors import TrackingError

    try:
        result = make_pack(run, output, root)
    except (TrackingError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json(result)
    else:
        for line in describe_pack(result):
            click.echo(line)
