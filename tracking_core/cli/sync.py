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

from tracking_core.backends.targets import Target, parse_target, parse_targets, redact_targets
from tracking_core.base.text import counted
from tracking_core.cli.choosing import choose_all
from tracking_core.cli.output import shown
from tracking_core.delivery import scratch
from tracking_core.delivery.cursor import Cursor
from tracking_core.delivery.ending import is_written_to
from tracking_core.delivery.places import distinct
from tracking_core.delivery.sync import sync_run
from tracking_core.environment.settings import load_settings
from tracking_core.errors import LeaseHeldError, SettingsError, TrackingError
from tracking_core.layout.runs import is_from_elsewhere
from tracking_core.remote.address import is_address
from tracking_core.store import RunRecord, open_store

if TYPE_CHECKING:
    from tracking_core.delivery.report import TargetReport

INTERRUPTED = 128 + signal.SIGINT
"""Exit code after Ctrl-C, as shells have it."""


def sync(
    run_ids: Sequence[str], to: tuple[str, ...], root: str | None, *, failed: bool = False, wait: bool = False
) -> dict[str, Any]:
    """Deliver runs.

    Args:
        run_ids: Identities of the runs; () takes all.
        to: Targets; () takes those that each run was started with.
        root: Root of the store; None takes it from the settings.
        failed: Whether to send again what the targets refused or failed on.
        wait: Whether to wait for other processes that deliver, and for backends that do not answer.

    Returns:
        For each run a report for each target. When all are taken, a run that somebody else delivers to is passed over,
        and so is one that came from elsewhere, as long as no target is named; and no target is opened that lacks
        nothing.

    Raises:
        TrackingError: There is no such run or backend, or a target is being delivered to.
    """
    store = open_store(root)
    records = choose_all(run_ids, root) if run_ids else store.runs()
    # One run that cannot be read must not keep the others waiting.
    results = [_unreadable(place.name, why) for place, why in store.unreadable.items()]
    for record in records:
        try:
            targets, troubles = _targets_of(record, to)
            if targets or (run_ids and not troubles):
                results.append(_sync_one(record, targets, troubles, anew=bool(run_ids), failed=failed, wait=wait))
            elif troubles:
                # Of a run that was named this is no success.
                results.append(_passed(record, troubles, ok=not run_ids))
        except LeaseHeldError as error:
            if run_ids:
                raise
            results.append(_passed(record, [str(error)], ok=True))
        except (TrackingError, OSError) as error:
            if run_ids or to:
                raise
            results.append(_unreadable(record.id, str(error)))
    if not is_address(load_settings().get("dir", root) or ""):
        # What came from a bucket is not changed.
        _compact(records)
    return {"runs": results, "ok": all(result["ok"] for result in results)}


def _compact(records: Sequence[RunRecord]) -> None:
    """Make columns of what trainings left; a run for which that is not possible stays as it is."""
    from tracking_core.compaction.background import is_left_over, is_possible

    for record in records if is_possible() else ():
        with contextlib.suppress(TrackingError, OSError):
            if is_left_over(record.dir):
                from tracking_core.compaction.compaction import compact

                compact(record.dir)


def _unreadable(run_id: str, why: str) -> dict[str, Any]:
    return {"run": run_id, "status": None, "targets": [], "troubles": [why], "ok": False}


def _passed(record: RunRecord, troubles: list[str], *, ok: bool) -> dict[str, Any]:
    return {"run": record.id, "status": record.status, "targets": [], "troubles": troubles, "ok": ok}


def _sync_one(
    record: RunRecord, targets: Sequence[Target], troubles: list[str], *, anew: bool, failed: bool, wait: bool
) -> dict[str, Any]:
    def note(reason: str, message: str, error: BaseException | None) -> None:  # noqa: ARG001 - said in words
        if wait and message not in troubles:
            # Whoever waits wants to know for what.
            click.echo(shown(f"run {record.id}: {message}"), err=True)
        troubles.append(message)

    with progress_bar(f"run {record.id}") as advance:
        reports = sync_run(
            record.dir,
            targets,
            status=_status(record),
            anew=anew,
            note=note,
            progress=advance,
            failed=failed,
            wait=wait,
        )
    return {
        "run": record.id,
        "status": record.status,
        "targets": [
            {**asdict(report), "ok": report.ok, "url": Cursor.load(record.dir, target).url}
            for report, target in zip(reports, targets, strict=True)
        ],
        "troubles": troubles,
        "ok": all(report.ok for report in reports),
    }


def end_interrupted() -> NoReturn:
    """End the process after Ctrl-C."""
    click.echo("interrupted: delivered records are kept, and the same command continues from there", err=True)
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
    said: set[tuple[str, str]] = set()
    # A name that is wrong is said now, and not when the first run comes.
    _named(to)
    if root is not None and not is_address(root) and not store.root.is_dir():
        click.echo(shown(f"there is nothing at {store.root} yet"), err=True)
    while True:
        for record in store.runs():
            with contextlib.suppress(TrackingError, OSError):
                # One run that cannot be read must not keep the others waiting.
                targets, troubles = _targets_of(record, to)
                for trouble in troubles:
                    if (record.id, trouble) not in said:
                        said.add((record.id, trouble))
                        click.echo(shown(f"run {record.id}: {trouble}"), err=True)
                if targets:
                    follower.look(record.dir, targets, _status(record), record.error)
        if stop(LOOK):
            break
    follower.leave(30.0)


def follow_until_interrupted(root: str, to: tuple[str, ...]) -> NoReturn:
    """Deliver all runs under a root until SIGINT or SIGTERM come; ends the process."""
    asked = threading.Event()
    scratch.begin()

    def ask(number: int, frame: object) -> None:  # noqa: ARG001 - the signal's signature
        asked.set()

    signal.signal(signal.SIGINT, ask)
    signal.signal(signal.SIGTERM, ask)
    try:
        follow(root, to, stop=asked.wait)
    except TrackingError as error:
        click.echo(f"Error: {error}", err=True)
        scratch.end()
        os._exit(1)
    sys.stderr.flush()
    scratch.end()
    # Not through exit handlers: a backend's own would mark runs as finished that go on.
    os._exit(0)


@contextlib.contextmanager
def progress_bar(title: str) -> Generator[Callable[[str, int], None]]:
    """Show on a terminal how many records are done with; elsewhere nothing."""
    from tracking_core.cli.terminal import moving

    with moving(title) as line:
        yield lambda label, done: line.say(f"{title} -> {label}: {counted(done, 'record')}")


def _targets_of(record: RunRecord, to: tuple[str, ...]) -> tuple[list[Target], list[str]]:
    """Where a run is to go, and what is to be said of that."""
    wanted = _named(to) if to else _recorded(record)
    if wanted and not to and is_from_elsewhere(record.dir):
        names = redact_targets(", ".join(map(str, wanted)))
        return [], [f"it came from elsewhere, and its targets ({names}) are not ours; name one with --to"]
    targets, other = distinct(record.dir, wanted)
    troubles = [f"{target} is left out: it is one place with another target, with other filters" for target in other]
    if to and other:
        raise SettingsError(f"--to: {redact_targets(str(other[0]))!r} is named twice, with two sets of filters")
    return targets, troubles


def _named(to: tuple[str, ...]) -> list[Target]:
    """The targets of `--to`, as a run would take them: with options from environment and file, and absolute paths."""
    from tracking_core.backends.destinations import requested_targets
    from tracking_core.delivery.destinations import destinations

    wanted = [target for text in to for target in parse_targets(text, origin="--to")]
    return [place.target for place in destinations(requested_targets(wanted, load_settings()))] if wanted else []


def _recorded(record: RunRecord) -> list[Target]:
    """The targets that a run was started with. Its files say so, and nobody knows who wrote them."""
    found: list[Target] = []
    for text in record.targets:
        with contextlib.suppress(SettingsError):
            target = parse_target(text, origin="run.json")
            # The label of a tracker that was passed as an object is the name of its class.
            if text.startswith(target.name) and "#" not in text and target.name not in {"local", "none"}:
                found.append(target)
    return found


def _status(record: RunRecord) -> str:
    """Status of a run as its targets have to see it: while somebody writes to it, it goes on."""
    status = record.status
    return "running" if status == "crashed" and is_written_to(record.dir) else status


def advice(result: dict[str, Any]) -> str | None:
    """What to do about records that wait still; None where none do."""
    waits = any(report["pending"] for one in result["runs"] for report in one["targets"])
    return (
        "records that are pending stay in the journal: the same command goes on from here, or give --wait"
        if waits
        else None
    )


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
        return [shown(f"run {result['run']}: {reason}")]
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
        if report.get("url"):
            lines.append(shown(f"  {report['url']}"))
    # What is not about one report, and would be said nowhere else.
    return lines + [shown(line) for line in result["troubles"] if "only the count is known" in line]
