"""`tracking sync`: deliver what the targets of runs have not had yet, once or as they grow."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from tracking_core.cli.choosing import choose_all
from tracking_core.cli.output import shown
from tracking_core.delivery.sync import sync_run
from tracking_core.errors import LeaseHeldError, StoreError, TrackingError
from tracking_core.mirror.address import is_address
from tracking_core.settings import load_settings
from tracking_core.store import RunRecord, open_store
from tracking_core.targets import Target, parse_targets

if TYPE_CHECKING:
    from tracking_core.delivery.report import TargetReport

INTERRUPTED = 128 + signal.SIGINT
"""Exit code after Ctrl-C, as shells have it."""


def sync(run_ids: Sequence[str], to: tuple[str, ...], root: str | None, *, failed: bool = False) -> dict[str, Any]:
    """Deliver runs.

    Args:
        run_ids: Identities of the runs; () takes all.
        to: Targets; () takes those that each run was started with.
        root: Root of the store; None takes what is set.
        failed: Whether to send again what the targets refused or failed on.

    Returns:
        For each run a report for each target. A run that somebody else delivers to is passed over when all are taken.

    Raises:
        TrackingError: There is no such run or backend, or a target is being delivered to.
    """
    records = choose_all(run_ids, root) if run_ids else open_store(root).runs()
    results = []
    for record in records:
        targets = _targets(to, record.targets)
        if not run_ids and not targets:
            continue
        try:
            results.append(_sync_one(record, targets, failed=failed))
        except LeaseHeldError as error:
            if run_ids:
                raise
            passed = {"run": record.id, "status": record.status, "targets": [], "troubles": [str(error)], "ok": True}
            results.append(passed)
    return {"runs": results, "ok": all(result["ok"] for result in results)}


def _sync_one(record: RunRecord, targets: Sequence[Target], *, failed: bool) -> dict[str, Any]:
    troubles: list[str] = []
    with progress_bar(f"run {record.id}") as advance:
        reports = sync_run(
            record.dir,
            targets,
            status=record.status,
            note=lambda reason, message, error: troubles.append(message),  # noqa: ARG005 - said in words
            progress=advance,
            failed=failed,
        )
    return {
        "run": record.id,
        "status": record.status,
        "targets": [{**asdict(report), "ok": report.ok} for report in reports],
        "troubles": troubles,
        "ok": all(report.ok for report in reports),
    }


def end_interrupted() -> NoReturn:
    """End the process after Ctrl-C."""
    click.echo("interrupted: what was delivered is kept, and the same command goes on from there", err=True)
    sys.stdout.flush()
    sys.stderr.flush()
    # Not through exit handlers: a backend's own would wait for what is on its way, and mark the run as finished.
    os._exit(INTERRUPTED)


def follow(root: str | None, to: tuple[str, ...], *, stop: Callable[[float], bool]) -> None:
    """Deliver all runs under a root as they grow, until told to stop.

    Args:
        root: Root of the store.
        to: Targets; () takes those that each run was started with.
        stop: Waits for some seconds, and says whether to stop.
    """
    from tracking_core.delivery.following import LOOK, Follower

    def say(directory: Path, reports: Sequence[TargetReport]) -> None:
        for report in reports:
            click.echo(shown(f"run {directory.name}: {report}"), err=True)

    follower = Follower(lambda reason, message, error: click.echo(shown(message), err=True), say)  # noqa: ARG005
    store = open_store(root)
    # A name that is wrong is said now, and not when the first run comes.
    _targets(to, ())
    if root is not None and not is_address(root) and not store.root.is_dir():
        click.echo(shown(f"there is nothing at {store.root} yet"), err=True)
    while True:
        for record in store.runs():
            with contextlib.suppress(StoreError, OSError):
                # One run that cannot be read must not keep the others waiting.
                follower.look(record.dir, _targets(to, record.targets), record.status, record.error)
        if stop(LOOK):
            break
    follower.leave(30.0)


def follow_until_interrupted(root: str, to: tuple[str, ...]) -> NoReturn:
    """Deliver all runs under a root until SIGINT or SIGTERM come; ends the process."""
    asked = threading.Event()

    def ask(number: int, frame: object) -> None:  # noqa: ARG001 - the signal's signature
        asked.set()

    signal.signal(signal.SIGINT, ask)
    signal.signal(signal.SIGTERM, ask)
    try:
        follow(root, to, stop=asked.wait)
    except TrackingError as error:
        click.echo(f"Error: {error}", err=True)
        os._exit(1)
    sys.stderr.flush()
    # Not through exit handlers: a backend's own would mark runs as finished that go on.
    os._exit(0)


@contextlib.contextmanager
def progress_bar(title: str) -> Generator[Callable[[str, int], None]]:
    """Show on a terminal how many records are done with; elsewhere nothing."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda label, done: None  # noqa: ARG005 - nobody looks
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda label, done: bar.update(task, description=f"{title} -> {label}: {done} records")


def _targets(to: tuple[str, ...], recorded: tuple[str, ...]) -> list[Target]:
    from tracking_core.destinations import destinations, requested_targets

    if to:
        # As a run would take them: with options from environment and file, and absolute paths.
        wanted = [target for text in to for target in parse_targets(text, origin="--to")]
        return [place.target for place in destinations(requested_targets(wanted, load_settings()))]
    found = [parse_targets(text, origin="run.json")[0] for text in recorded if "#" not in text]
    return [target for target in found if target.name not in {"local", "none"}]


def describe(result: dict[str, Any]) -> list[str]:
    """The result as lines for people."""
    lines: list[str] = []
    several = len(result["runs"]) > 1
    for one in result["runs"]:
        if several:
            lines.append(f"run {one['run']}")
        lines += [("  " if several else "") + line for line in _describe_one(one)]
    return lines or ["no run has targets besides the store; name one with --to"]


def _describe_one(result: dict[str, Any]) -> list[str]:
    if not result["targets"]:
        reason = "; ".join(result["troubles"]) or "no targets besides the store; name one with --to"
        return [f"run {result['run']}: {reason}"]
    lines: list[str] = []
    for report in result["targets"]:
        text = f"{report['target']}: {report['delivered']} delivered"
        for key in ("pending", "failed", "skipped"):
            if report[key]:
                text += f", {report[key]} {key}"
        notes = [report["last_error"]] if report["last_error"] and not report["ok"] else []
        if report["recoverable"]:
            notes.append(f"`tracking sync --failed` sends {report['recoverable']} that failed again")
        text += f" ({'; '.join(notes)})" if notes else ""
        # A backend may say anything.
        lines.append(shown(text))
    # What is not about one report, and would be said nowhere else.
    return lines + [shown(line) for line in result["troubles"] if "only the count is known" in line]
