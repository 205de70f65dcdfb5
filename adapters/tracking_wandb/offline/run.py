"""What a W&B client recorded about a run, read back from its transaction log; no server is asked.

`read_offline_run` gives one `OfflineRun`; `TransactionLog`, which is shown here too, gives the bare records.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tracking_wandb.offline.bounds import json_lines
from tracking_wandb.offline.transaction_log import LogEnd, LogFormatError, Record, TransactionLog

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "LogEnd",
    "LogFormatError",
    "OfflineAlert",
    "OfflineArtifact",
    "OfflineArtifactEntry",
    "OfflineRun",
    "TransactionLog",
    "decode_value",
    "metric_definition",
    "read_offline_run",
    "seconds",
]


_FAR = 1e12
"""Larger numbers are not times: 30,000 years."""


@dataclass(frozen=True, slots=True)
class OfflineArtifactEntry:
    """One file or reference of an artifact.

    Attributes:
        path: Its name inside the artifact.
        digest: Base64 of the MD5 of a file; whatever the client took for a reference.
        size: Bytes; 0 where the client did not know it.
        ref: Where a reference points to; None for a file.
        local_path: The file that is to be uploaded, usually a copy in the client's staging directory; None for a
            reference. It may be gone.
    """

    path: str
    digest: str
    size: int
    ref: str | None
    local_path: Path | None


@dataclass(frozen=True, slots=True)
class OfflineArtifact:
    """One artifact version that the run logged.

    Tables make artifacts of their own, of type `run_table`.
    """

    name: str
    type: str
    aliases: tuple[str, ...]
    tags: tuple[str, ...]
    description: str | None
    metadata: Mapping[str, Any]
    digest: str
    entries: tuple[OfflineArtifactEntry, ...]


@dataclass(frozen=True, slots=True)
class OfflineAlert:
    """One alert: `level` is INFO, WARN or ERROR, `wait` the seconds in which it is not repeated."""

    title: str
    text: str
    level: str
    wait: float


@dataclass(frozen=True, slots=True)
class OfflineRun:
    """A run as its transaction log tells it.

    Attributes:
        id: The run id.
        path: The transaction log.
        project: Project; None where none was given.
        entity: User or team; None where none was given, as is usual offline.
        display_name: The name that people see; None where the server was to choose one.
        config: The configuration with plain values, without the client's own `_wandb` entry.
        summary: The summary, nested, with `_step`, `_runtime` and `_timestamp`. For a metric whose aggregates were
            asked for by `define_metric` it is a dict of these, as `{"min": 1.5}`.
        history: The rows in the order of logging. Each has `_step`, `_timestamp` (seconds since the epoch) and
            `_runtime` (seconds since the start) beside what was logged. Nested values, media among them, are nested
            dicts; a dot or a slash in a key is part of the key. Integral floats come back as int: the client
            writes 1.0 as `1`.
        metrics: The `define_metric` calls in order; see `metric_definition`.
        tags: Tags.
        notes: Notes.
        group: Group.
        job_type: Job type.
        files: Paths relative to the run's file directory, as media in `history` give them, and where they are on this
            machine. A file that was recorded may be gone.
        artifacts: The artifacts that the run logged.
        alerts: Alerts.
        console: The console output that was captured, and what the run was told to write there.
        start_time: Seconds since the epoch.
        host: Host name.
        program: The program that ran, if the client was allowed to record it.
        git: `remote` and `commit`; None without a repository.
        preempting: Whether the run was marked as about to be preempted.
        exit_code: The exit code; None before the end.
        introduced: Whether the record that says what the run is is there; it is the first that a client writes.
        complete: Whether the record of the run's end is there.
        end: Where the reading stopped, and why.
    """

    id: str
    path: Path
    project: str | None = None
    entity: str | None = None
    display_name: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    summary: Mapping[str, Any] = field(default_factory=dict[str, Any])
    history: tuple[Mapping[str, Any], ...] = ()
    metrics: tuple[Mapping[str, Any], ...] = ()
    tags: tuple[str, ...] = ()
    notes: str | None = None
    group: str | None = None
    job_type: str | None = None
    files: Mapping[str, Path] = field(default_factory=dict[str, Path])
    artifacts: tuple[OfflineArtifact, ...] = ()
    alerts: tuple[OfflineAlert, ...] = ()
    console: str = ""
    start_time: float | None = None
    host: str | None = None
    program: str | None = None
    git: Mapping[str, str] | None = None
    preempting: bool = False
    exit_code: int | None = None
    introduced: bool = False
    complete: bool = False
    end: LogEnd = field(default_factory=lambda: LogEnd("torn", 0, "nothing has been read yet"))


def read_offline_run(path: str | os.PathLike[str]) -> OfflineRun:
    """Read a run from its directory (`offline-run-…-<id>`) or from its `run-<id>.wandb` file.

    An unfinished or damaged log gives what could be read; `complete` and `end` tell which it was.

    Args:
        path: The directory or the file.

    Raises:
        FileNotFoundError: There is no such file, or no transaction log in the directory.
        LogFormatError: The file is something else than a transaction log.
        MissingDependencyError: wandb, whose message classes are needed, is not installed.

    Example:
        ```python
        run = read_offline_run("wandb/offline-run-20260101_120000-a1b2c3")
        losses = [(row["_step"], row["loss"]) for row in run.history if "loss" in row]
        ```
    """
    log = TransactionLog(_find_log(Path(path)))
    state = _State(log.path)
    for record in log:
        state.take(record)
    return state.freeze(log.end)


def decode_value(text: str) -> Any:
    """Decode the JSON of one item: NaN, Infinity and -Infinity are floats, and `-0` is the float it was."""
    return json.loads(text, parse_int=_parse_int)


def seconds(value: Any) -> float | None:
    """A value of `_timestamp` or `_runtime` as seconds; None for what is none: a program may log anything there."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < _FAR:
        return None
    return float(value)


def _parse_int(text: str) -> int | float:
    return -0.0 if text == "-0" else int(text)


def _find_log(path: Path) -> Path:
    if not path.is_dir():
        return path
    logs = sorted(path.glob("run-*.wandb"))
    if len(logs) != 1:
        found = ", ".join(log.name for log in logs) or "none"
        raise FileNotFoundError(
            f"Expected one run-<id>.wandb file in {path}, found {found}. Pass the file, or the directory of one run "
            "(offline-run-<date>-<id>)."
        )
    return logs[0]


class _State:
    """The run so far, while the records are read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run: dict[str, Any] = {"id": path.stem.removeprefix("run-")}
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.metrics: list[dict[str, Any]] = []
        self.files: dict[str, Path] = {}
        self.artifacts: list[OfflineArtifact] = []
        self.alerts: list[OfflineAlert] = []
        self.console: list[str] = []

    def take(self, record: Record) -> None:
        """Account for one record; kinds that say nothing about the run's content are passed over."""
        kind = record.WhichOneof("record_type")
        handler = getattr(self, f"_take_{kind}", None)
        if handler is not None:
            handler(getattr(record, kind))

    def freeze(self, end: LogEnd) -> OfflineRun:
        self.config.pop("_wandb", None)
        self.summary.pop("_wandb", None)
        return OfflineRun(
            path=self.path,
            config=self.config,
            summary=self.summary,
            history=tuple(self.history),
            metrics=tuple(self.metrics),
            files=self.files,
            artifacts=tuple(self.artifacts),
            alerts=tuple(self.alerts),
            console="".join(self.console),
            end=end,
            **self.run,
        )

    def _take_run(self, run: Any) -> None:
        # Each change of the name, the tags or the notes writes the whole record again: the last one holds.
        self.run |= {
            "introduced": True,
            "id": run.run_id or self.run["id"],
            "project": run.project or None,
            "entity": run.entity or None,
            "display_name": run.display_name or None,
            "tags": tuple(run.tags),
            "notes": run.notes or None,
            "group": run.run_group or None,
            "job_type": run.job_type or None,
            "start_time": run.start_time.seconds + run.start_time.nanos / 1e9 if run.HasField("start_time") else None,
        }
        self._take_environment(run)
        _apply(self.config, run.config)

    def _take_environment(self, part: Any) -> None:
        # Host and git stand in the run record, and with the program in the environment record, which is written
        # unless machine information was turned off, in several parts.
        if part.host:
            self.run["host"] = part.host
        if getattr(part, "program", ""):
            self.run["program"] = part.program
        if part.git.remote_url or part.git.commit:
            self.run["git"] = {"remote": part.git.remote_url, "commit": part.git.commit}

    def _take_config(self, config: Any) -> None:
        _apply(self.config, config)

    def _take_summary(self, summary: Any) -> None:
        _apply(self.summary, summary)

    def _take_history(self, history: Any) -> None:
        row: dict[str, Any] = {}
        for item in history.item:
            _place(row, _keys(item), _history_value(item))
        if history.HasField("step"):
            row.setdefault("_step", int(history.step.num))
        self.history.append(row)

    def _take_metric(self, metric: Any) -> None:
        self.metrics.append(metric_definition(metric))

    def _take_files(self, files: Any) -> None:
        root = self.path.parent.absolute() / "files"
        for item in files.files:
            place = Path(os.path.normpath(root / item.path))
            # A log may come from anybody: a path that leads out of the run's directory is none of its files.
            if place.is_relative_to(root) and place != root:
                self.files[item.path] = place

    def _take_artifact(self, artifact: Any) -> None:
        self.artifacts.append(
            OfflineArtifact(
                name=artifact.name,
                type=artifact.type,
                aliases=tuple(sorted(artifact.aliases)),  # the client writes a set, in any order
                tags=tuple(sorted(artifact.tags)),
                description=artifact.description or None,
                metadata=decode_value(artifact.metadata) if artifact.metadata else {},
                digest=artifact.digest,
                entries=tuple(_entries(artifact.manifest)),
            )
        )

    def _take_alert(self, alert: Any) -> None:
        self.alerts.append(OfflineAlert(alert.title, alert.text, alert.level, alert.wait_duration / 1000))

    def _take_output(self, output: Any) -> None:
        self.console.append(output.line)

    # What was captured from the standard streams, and what Run.write_logs was given.
    _take_output_raw = _take_output_logger = _take_output

    def _take_preempting(self, _: Any) -> None:
        self.run["preempting"] = True

    def _take_exit(self, exit_record: Any) -> None:
        self.run |= {"exit_code": exit_record.exit_code, "complete": True}


def metric_definition(metric: Any) -> dict[str, Any]:
    """Give a `MetricRecord` as a dict.

    Returns:
        `name` or `glob` (the other is None), `step_metric` (None where the run's own step is the axis), `step_sync`,
        `hidden`, and `summary`, the sorted names of the aggregates that were asked for.
    """
    return {
        "name": metric.name or None,
        "glob": metric.glob_name or None,
        "step_metric": metric.step_metric or None,
        "step_sync": metric.options.step_sync,
        "hidden": metric.options.hidden,
        "summary": tuple(sorted(item.name for item, value in metric.summary.ListFields() if value is True)),
    }


def _keys(item: Any) -> list[str]:
    return list(item.nested_key) or [item.key]


def _apply(tree: dict[str, Any], change: Any) -> None:
    """Apply a ConfigRecord or a SummaryRecord to a nested dict."""
    for item in change.update:
        _place(tree, _keys(item), decode_value(item.value_json))
    for item in change.remove:
        _remove(tree, _keys(item))


def _place(tree: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        branch = tree.get(key)
        if not isinstance(branch, dict):
            branch = tree[key] = {}
        tree = cast("dict[str, Any]", branch)
    tree[keys[-1]] = value


def _remove(tree: dict[str, Any], keys: list[str]) -> None:
    for key in keys[:-1]:
        branch = tree.get(key)
        if not isinstance(branch, dict):
            return
        tree = cast("dict[str, Any]", branch)
    tree.pop(keys[-1], None)


def _history_value(item: Any) -> Any:
    if item.value_json:
        return decode_value(item.value_json)
    # The message also has typed fields. No client seen so far writes them; they are read for those that will.
    kind = item.WhichOneof("value")
    if kind is None or kind == "none":
        return None
    value = getattr(item, kind)
    return decode_value(value) if kind == "json" else value


def _entries(manifest: Any) -> Iterable[OfflineArtifactEntry]:
    for entry in manifest.contents:
        yield _entry(entry.path, entry.digest, entry.size, entry.ref, entry.local_path)
    if manifest.manifest_file_path:
        # Beyond 100,000 entries the client writes them to a file of JSON lines, which may be gone by now.
        try:
            rows = json_lines(Path(manifest.manifest_file_path)) or ()
            found = [
                _entry(row["path"], row["digest"], row.get("size"), row.get("ref"), row.get("local_path"))
                for row in rows
            ]
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            return
        yield from found


def _entry(path: str, digest: str, size: int | None, ref: str | None, local: str | None) -> OfflineArtifactEntry:
    return OfflineArtifactEntry(path, digest, int(size or 0), ref or None, Path(local) if local else None)
