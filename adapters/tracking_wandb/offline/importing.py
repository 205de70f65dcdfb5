"""What W&B's client keeps on disk as runs: offline directories, and the copies that online runs leave behind."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tracking_core import ForeignRun, Record, StoreError
from tracking_wandb.offline.run import read_offline_run, seconds

if TYPE_CHECKING:
    from tracking_wandb.offline.run import OfflineArtifact, OfflineRun

_STATUSES = {0: "finished", 1: "failed", 130: "interrupted", 143: "preempted"}
_RESERVED = {"~5fwandb": "_wandb", "~5ftracking": "_tracking"}
_OWN, _MARK, _ERROR = "_tracking", "tracking-core.json", "tracking/error"
_CHUNK = 1 << 20


def runs(path: Path) -> Iterable[ForeignRun] | None:
    """The runs in a transaction log, or below a directory; None when there are none."""
    if path.is_file():
        return _read([path]) if path.suffix == ".wandb" else None
    logs = sorted(log for log in path.rglob("run-*.wandb") if log.is_file())
    return _read(logs) if logs else None


def _read(logs: list[Path]) -> Iterator[ForeignRun]:
    for log in logs:
        try:
            foreign = _WandbRun(read_offline_run(log)).foreign()
        except Exception as error:  # noqa: BLE001 - what damaged files bring a reader to is not to be foreseen
            # It must not keep the others from being read: it fails by itself, when its records are asked for.
            foreign = ForeignRun(log.stem, _failing(error), str(log), source=log.parent)
        yield foreign


def _failing(error: Exception) -> Iterator[Record]:
    raise error
    yield  # a generator, which raises when it is asked


class _WandbRun:
    """One run, as its transaction log tells it.

    Args:
        run: What the log holds.
    """

    def __init__(self, run: OfflineRun) -> None:
        self._run = run
        self._problems: list[str] = []
        if not run.introduced:
            raise StoreError(f"nothing in it can be read (yet): {run.end.reason or 'there is no record of a run'}")
        # Another program may have an entry of this name as well.
        self._own: Mapping[str, Any] = _mapping(run.config.get(_OWN))
        ours = bool(self._own) or (run.path.parent / _MARK).is_file()
        ours = ours or any("_tracking_seq" in row or "_tracking_axis" in row for row in run.history[:1000])
        self._names: Mapping[str, str] | None = _mapping(self._own.get("names")) if ours else None
        times = [time for row in run.history if (time := seconds(row.get("_timestamp"))) is not None]
        self._started = run.start_time if run.start_time is not None else min(times, default=None)
        self._ended = max(times, default=self._started or 0.0)

    def foreign(self) -> ForeignRun:
        """The run."""
        run = self._run
        if run.end.kind != "clean":
            self._problems.append(f"{run.path.name} is {run.end.kind} at byte {run.end.offset}: {run.end.reason}")
        elif not run.complete:
            self._problems.append(f"{run.path.name} has no record of the run's end")
        if run.console:
            self._problems.append("the console output was left out")
        theirs = self._own.get("project")
        own = {_OWN} if self._own else set[str]()
        config = {_RESERVED.get(key, key): value for key, value in run.config.items() if key not in own}
        git = {key: value for key, value in (run.git or {}).items() if value}
        environment = {"host": run.host, "program": run.program, "git": git}
        return ForeignRun(
            id=run.id,
            records=self._records(),
            # A run that was continued offline has a log, with a start of its own, for each time.
            identity=f"{run.entity or ''}/{run.project or ''}/{run.id}/{run.start_time}",
            name=run.display_name or run.id,
            project=theirs if isinstance(theirs, str) and theirs else run.project,
            config=config,
            tags=run.tags,
            group=run.group,
            job_type=run.job_type,
            notes=run.notes,
            started=self._started,
            environment={key: value for key, value in environment.items() if value},
            source=run.path.parent,
            size=run.path.stat().st_size,
            problems=self._problems,
        )

    def _records(self) -> Iterator[Record]:
        from tracking_wandb.offline.rows import RowReader

        run, end = self._run, self._ended
        reader = RowReader(run, self._names, self._problems)
        last: dict[str, Any] = {}
        counted: set[str] = set()
        for row in run.history:
            for record in reader.records(row):
                if record.kind == "scalars":
                    last.update(record.data)
                elif record.kind == "histogram" and self._names is not None:
                    # What this adapter logs beside it, as a number; the histogram has it.
                    counted.add(f"{record.data['name']}/nonfinite")
                yield record
        used = self._own.get("used_artifacts")
        for reference in cast("list[Any]", used) if isinstance(used, list) else []:
            yield Record("use_artifact", 0, "", end, data={"artifact": str(reference)})
        for artifact in run.artifacts:
            if artifact.type != "run_table":
                yield from self._artifact(artifact)
            elif any(not entry.path.endswith(".table.json") for entry in artifact.entries):
                # A table that was logged is a value of its row already, but for this.
                self._problems.append(f"{artifact.name}: media in the cells of this table are not read")
        for alert in run.alerts:
            data = {"title": alert.title, "text": alert.text, "level": alert.level.lower()}
            yield Record("alert", 0, "", end, data=data)
        summary = self._summary()
        error = summary.pop(_ERROR, None)
        # What the client set by itself is the last value of each row.
        extra = {
            name: value
            for name, value in summary.items()
            if name not in counted and (name not in last or not _same(last[name], value))
        }
        if extra:
            yield Record("summary", 0, "", end, data=extra)
        if run.complete:
            status = _STATUSES.get(run.exit_code or 0, "failed")
            if run.preempting and run.exit_code:
                # As W&B has it: it was said to be about to be preempted, and did not end well.
                status = "preempted"
            yield Record("finish", 0, "", end, data={"status": status, "error": error})

    def _summary(self) -> dict[str, Any]:
        from tracking_wandb.names import decode
        from tracking_wandb.offline.rows import CLIENT_KEYS

        columns = {metric["step_metric"] for metric in self._run.metrics} - {None}
        found: dict[str, Any] = {}
        for key, value in self._run.summary.items():
            if key in CLIENT_KEYS or (isinstance(value, dict) and "_type" in value):
                continue
            if self._names is not None:
                if key not in columns and not key.startswith("_"):
                    found[key if key == _ERROR else decode(key, self._names)] = value
            else:
                found.update(_flat(key, value))
        return found

    def _artifact(self, artifact: OfflineArtifact) -> Iterator[Record]:
        metadata = dict(_mapping(artifact.metadata))
        own = _mapping(metadata.pop(_OWN, None)) if self._names is not None else {}
        if own and list(metadata) == ["metadata"]:
            metadata = _mapping(metadata["metadata"])
        name, kind = own.get("name", artifact.name), own.get("type", artifact.type)
        files: dict[str, Path] = {}
        lost = 0
        for entry in artifact.entries:
            # The log says where on this machine a file is: only what has the digest of the artifact's is taken.
            if entry.local_path is not None and _digest(entry.local_path) == entry.digest:
                files[entry.path] = entry.local_path
            else:
                lost += 1
        if not artifact.entries:
            self._problems.append(f"{name}: the list of the files of this artifact is missing")
        if lost:
            self._problems.append(
                f"{name}: files of this artifact that are not on this machine: {lost} of {len(artifact.entries)}"
            )
        if files:
            aliases = own.get("aliases", [alias for alias in artifact.aliases if alias != "latest"])
            data = {"artifact": files, "name": name, "type": kind, "metadata": metadata, "aliases": tuple(aliases)}
            yield Record("artifact", 0, "", self._ended, data=data)


def _mapping(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _flat(key: str, value: Any) -> dict[str, Any]:
    """Nested values of the summary by the names that W&B shows."""
    if isinstance(value, dict) and "_type" not in value:
        return {name: leaf for inner, part in value.items() for name, leaf in _flat(f"{key}.{inner}", part).items()}
    return {} if isinstance(value, dict) else {key: value}


def _same(one: Any, other: Any) -> bool:
    return one == other or (one != one and other != other)  # noqa: PLR0124 - NaN equals NaN


def _digest(path: Path) -> str:
    """Base64 of the MD5 of a file, as the client writes it; "" for one that cannot be read."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        if not path.is_file():
            # The log may come from anybody: what a device gives never ends.
            return ""
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError:
        return ""
    return base64.b64encode(digest.digest()).decode()
