"""`tracking import` and `tracking pack`: what they do, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracking_core.base.text import counted
from tracking_core.cli.choosing import choose
from tracking_core.cli.terminal import moving
from tracking_core.errors import TrackingError
from tracking_core.naming import printable
from tracking_core.transfer import Imported, Packed, import_runs, pack_run


def import_all(
    sources: Sequence[str],
    *,
    kind: str | None,
    project: str | None,
    root: str | None,
    step: str | None,
    time: str | None,
) -> dict[str, Any]:
    """Import every source; one that cannot be read does not keep the others from being.

    Returns:
        "runs" and "failures" as JSON values, and "ok".
    """
    runs: list[Imported] = []
    failures: list[dict[str, str]] = []
    with moving("looking") as line:
        for source in sources:
            try:
                # One by one: those before a failure are there.
                runs.extend(
                    import_runs(source, kind=kind, project=project, root=root, step=step, time=time, on_run=line.say)
                )
            except TrackingError as error:
                failures.append({"source": source, "error": str(error)})
    failures += [{"source": str(one.source), "error": one.error} for one in runs if one.error is not None]
    read = [_run(one) for one in runs if one.error is None]
    return {"runs": read, "failures": failures, "ok": not failures}


def pack(run: str, output: str | None, root: str | None) -> dict[str, Any]:
    """Pack a run.

    Raises:
        TrackingError: No run fits, or several do, or the file cannot be made.
    """
    record = choose(run, root)
    with moving(f"packing {record.name}"):
        packed: Packed = pack_run(record, output)
    return {
        "run": packed.run,
        "file": str(packed.file),
        "size": packed.size,
        "files": packed.files,
        "artifacts": list(packed.artifacts),
        "problems": list(packed.problems),
    }


def describe_imports(result: dict[str, Any]) -> list[str]:
    """What was imported, as lines for people."""
    lines: list[str] = []
    for run in result["runs"]:
        what = (
            "already there"
            if run["there"]
            else f"imported, {counted(run['records'], 'record')}"
            if run["records"]
            else "imported"
        )
        lines.append(printable(f"{run['run']}  {run['project']}/{run['name']}  {what}", limit=500))
        lines += [printable(f"  {problem}", limit=500) for problem in run["problems"]]
    for failure in result["failures"]:
        lines.append(printable(f"{failure['source']}: not imported: {failure['error']}", limit=1000))
    return lines


def describe_pack(result: dict[str, Any]) -> list[str]:
    """What was packed, as lines for people."""
    count = len(result["artifacts"])
    inside = counted(result["files"], "file") + (f", {counted(count, 'artifact version')}" if count else "")
    lines = [printable(f"{result['file']}: {inside}, {result['size']} bytes", limit=1000)]
    return lines + [printable(f"  {problem}", limit=500) for problem in result["problems"]]


def _run(done: Imported) -> dict[str, Any]:
    return {
        "run": done.run,
        "project": done.project,
        "name": done.name,
        "source": str(done.source),
        "there": done.there,
        "dir": str(done.dir),
        "records": done.records,
        "problems": list(done.problems),
    }
