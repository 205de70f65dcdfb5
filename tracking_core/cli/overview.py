"""What `tracking show` says of a run."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, cast

import click
from rich.cells import cell_len

from tracking_core.base.text import counted, size
from tracking_core.cli.output import STYLES, Output, duration, exactly, moment, number, shown, status_style
from tracking_core.errors import JournalError, MissingDependencyError
from tracking_core.layout.runs import ORIGIN_FILE, read_origin
from tracking_core.runs.continuing import last_steps
from tracking_core.store import RunRecord
from tracking_core.store.last import last_moment, restarts
from tracking_core.values.config import flatten
from tracking_core.values.kinds import NAMED

_MOST = 100
"""Lines of a section."""
_NAMES = 50
"""Names in a line."""


def overview(record: RunRecord) -> dict[str, Any]:
    """Everything about a run but its values, as JSON values.

    A part that is damaged keeps nothing else from being shown.
    """
    return {
        "id": record.id,
        "name": record.name,
        "project": record.project,
        "status": record.status,
        "error": record.error,
        "tags": list(record.tags),
        "group": record.group,
        "job_type": record.job_type,
        "notes": record.notes,
        "forked_from": {"run": record.forked_from[0], "step": record.forked_from[1]} if record.forked_from else None,
        "origin": read_origin(record.dir),
        "started": record.started,
        "finished": record.finished,
        "duration": _duration(record),
        "restarts": restarts(record.dir),
        "last_step": _last_step(record),
        "dir": str(record.dir),
        "config": record.config,
        "summary": record.summary(),
        "environment": record.environment,
        "scalars": record.scalar_names(),
        "images": record.image_names(),
        "media": {kind: names for kind in NAMED if (names := record.names(kind))},
        "artifacts": [
            {
                "name": one.ref.name,
                "type": one.ref.type,
                "version": one.ref.version,
                "digest": one.ref.digest,
                "aliases": list(one.ref.aliases),
                "files": len(one.files),
                "bytes": sum(count for _, count in one.files.values()),
            }
            for one in record.artifacts()
        ],
        "used_artifacts": [
            {"name": ref.name, "type": ref.type, "version": ref.version, "digest": ref.digest}
            for ref in record.used_artifacts()
        ],
        "alerts": [
            {"time": at, "title": title, "text": text, "level": level} for at, title, text, level in record.alerts()
        ],
        "targets": [one.as_json() for one in record.deliveries()],
        "damage": _damage(record),
    }


def _duration(record: RunRecord) -> float | None:
    """How long it took, in seconds: up to its end, up to now, or, if it crashed, up to its last record."""
    status = record.status
    end = time.time() if status == "running" else last_moment(record.dir) if status == "crashed" else record.finished
    return None if end is None else end - record.started


def _last_step(record: RunRecord) -> dict[str, int]:
    """Axis → the last step there, whatever was logged at it; {} where that cannot be read."""
    try:
        return last_steps(record.dir, record.forks)
    except (JournalError, MissingDependencyError, OSError):
        # The damage is shown by itself.
        return {}


def _damage(record: RunRecord) -> list[str]:
    """What cannot be read of it."""
    try:
        return [str(one) for one in record.damage()]
    except JournalError as error:
        return [str(error)]
    except MissingDependencyError as error:
        click.echo(f"not looked through for damage: {shown(str(error))}", err=True)
        return []


def print_overview(run: Mapping[str, Any]) -> None:
    """Print it for people."""
    output = Output()
    output.line((run["name"], "bold"), f" ({run['id']}) of {run['project']}")
    took = "" if run["duration"] is None else f", {duration(run['duration'])}"
    took += f", {counted(run['restarts'], 'restart')}" if run["restarts"] else ""
    _item(output, "status", (run["status"], status_style(run["status"])))
    if run["error"]:
        _lines(output, "error", run["error"], STYLES["error"])
    _item(output, "started", moment(run["started"]) + took)
    if run["last_step"]:
        _item(output, "last step", _few([f"{step} ({axis})" for axis, step in sorted(run["last_step"].items())]))
    if run["forked_from"]:
        _item(output, "fork of", f"{run['forked_from']['run']}, up to step {run['forked_from']['step']}")
    if run["origin"] is not None:
        _item(output, "came from", _came_from(run["origin"]))
    for key in ("group", "job_type", "notes"):
        if run[key]:
            _lines(output, key, run[key])
    if run["tags"]:
        _item(output, "tags", " ".join(run["tags"]))
    _item(output, "directory", run["dir"])
    for key, value in _circumstances(run["environment"]):
        _item(output, key, value)
    _section(output, "config", {key: exactly(value) for key, value in flatten(run["config"], ".").items()})
    # One value is made into text after the other: of very many only those that are shown.
    values = run["summary"]
    _section(
        output, "summary", {key: number(values[key]) if at < _MOST else "" for at, key in enumerate(sorted(values))}
    )
    logged = {"scalars": run["scalars"], "images": run["images"], **run["media"]}
    _section(output, "logged", {kind: _few(names) for kind, names in logged.items() if names})
    _section(
        output,
        "artifacts",
        {
            f"{one['name']}:v{one['version']}": f"{one['type']}, {counted(one['files'], 'file')}, {size(one['bytes'])}"
            + (f" ({', '.join(one['aliases'])})" if one["aliases"] else "")
            for one in run["artifacts"]
        },
    )
    used = {f"{one['name']}:v{one['version']}": one["type"] for one in run["used_artifacts"]}
    _section(output, "used artifacts", used)
    _section(output, "targets", {one["target"]: _progress(one) for one in run["targets"]})
    for url in dict.fromkeys(one["url"] for one in run["targets"] if one["url"]):
        output.item("  ", url)
    if run["alerts"]:
        output.heading("alerts")
        for one in run["alerts"]:
            output.item(f"  {moment(one['time'])}  {one['level']:<5}  ", f"{one['title']}: {one['text']}")
    for text in run["damage"]:
        output.item(("damaged  ", STYLES["warning"]), text)


def _came_from(origin: Mapping[str, Any]) -> str:
    kind, source, at = (origin.get(key) for key in ("kind", "source", "time"))
    if not isinstance(kind, str) or not isinstance(source, str):
        return f"elsewhere, and its {ORIGIN_FILE} cannot be read"
    when = f", {moment(at)}" if isinstance(at, (int, float)) else ""
    return f"{kind}: {source}{when}"


def _circumstances(environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Where it ran, as far as that was recorded."""
    host, argv, git = (environment.get(key) for key in ("host", "argv", "git"))
    if isinstance(host, str):
        yield "host", host
    if isinstance(argv, list) and argv:
        yield "command", shlex.join(map(str, cast("list[Any]", argv)))
    if isinstance(git, dict):
        facts = cast("dict[str, Any]", git)
        if facts.get("commit"):
            yield "commit", f"{facts['commit']}{' with changes' if facts.get('dirty') else ''}"


def _item(output: Output, name: str, value: str | tuple[str, str]) -> None:
    output.item(f"  {name:<11}", value)


def _lines(output: Output, name: str, text: str, style: str = "") -> None:
    """A traceback or a note, which are read line by line."""
    for at, line in enumerate(text.rstrip().splitlines()):
        _item(output, "" if at else name, (line, style))


def _section(output: Output, title: str, rows: Mapping[str, str]) -> None:
    if rows:
        output.heading(title)
        # Laying out a line takes a while, and there may be any number.
        lines = [(shown(name), value) for name, value in islice(rows.items(), _MOST)]
        width = min(max(cell_len(name) for name, _ in lines), 40)
        for name, value in lines:
            output.item(f"  {name}{' ' * (width - cell_len(name))}  ", value)
        if len(rows) > _MOST:
            output.item("  ", f"and {len(rows) - _MOST:,} more, which --json prints")


def _few(names: Sequence[str]) -> str:
    """Names in a line, as far as somebody reads them."""
    more = f", and {len(names) - _NAMES:,} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more


def _progress(target: Mapping[str, Any]) -> str:
    if target["pending"] is None and target["opened"]:
        return f"{target['delivered']} delivered; pending records cannot be counted, because not all can be read"
    if target["pending"] is None:
        return "a tracker that was passed as an object: nobody keeps count"
    if not target["opened"]:
        return f"never opened, {target['pending']} pending"
    parts = [f"{target['delivered']} delivered", f"{target['pending']} pending"]
    parts += [f"{target[key]} {key}" for key in ("failed", "skipped") if target[key]]
    if target["delivering"] is not None:
        parts.append(f"process {target['delivering']} delivers")
    return ", ".join(parts)
