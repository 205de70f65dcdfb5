"""`tracking sync`: deliver what the targets of a run have not had yet."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tracking_core.delivery.sync import sync_run
from tracking_core.settings import load_settings
from tracking_core.store import open_store
from tracking_core.targets import Target, parse_targets


def sync(run_id: str, to: tuple[str, ...], root: str | None) -> dict[str, Any]:
    """Deliver a run.

    Args:
        run_id: Identity of the run.
        to: Targets; () takes those that the run was started with.
        root: Root of the store; None takes what is set.

    Returns:
        The run, and a report for each target.

    Raises:
        TrackingError: There is no such run or backend, or a target is being delivered to.
    """
    record = open_store(root).run(run_id)
    targets = _targets(to, record.targets)
    troubles: list[str] = []
    reports = sync_run(
        record.dir,
        targets,
        status=record.status,
        note=lambda reason, message, error: troubles.append(message),  # noqa: ARG005 - said in words
    )
    return {
        "run": record.id,
        "status": record.status,
        "targets": [{**asdict(report), "ok": report.ok} for report in reports],
        "troubles": troubles,
        "ok": all(report.ok for report in reports),
    }


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
    if not result["targets"]:
        return [f"run {result['run']} has no targets besides the store; name one with --to"]
    lines = []
    for report in result["targets"]:
        text = f"{report['target']}: {report['delivered']} delivered"
        for key in ("pending", "failed", "skipped"):
            if report[key]:
                text += f", {report[key]} {key}"
        lines.append(text + (f" ({report['last_error']})" if report["last_error"] and not report["ok"] else ""))
    return lines
