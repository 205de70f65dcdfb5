"""What backends hold of a run, in the form of `tests.support.everything`: read by TensorBoard's loader, from W&B's own
transaction log, or from what the stand-in for its server was sent."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.everything import Found, artifact, as_lines, cells, digest, number, require_same, sound, spread
from tests.support.wandb_server import WandbServer
from tracking_tensorboard import testing as tensorboard
from tracking_wandb import testing as wandb
from tracking_wandb.offline.run import (
    OfflineAlert,
    OfflineArtifact,
    OfflineArtifactEntry,
    OfflineRun,
    decode_value,
    read_offline_run,
)


def from_tensorboard(directory: Path, run_id: str) -> Found:
    """What the event files of a run hold."""
    place = tensorboard.find_run(directory, run_id)
    files = [path for path in directory.rglob("*tfevents*") if tensorboard.whose(path).get("run") == run_id]
    assert {path.parent for path in files} - set(place.iterdir()) == {place}, "the run is there more than once"
    stored = tensorboard.read_run(place)
    assert stored.images is not None
    found = Found(config=dict(stored.config or {}), summary=dict(stored.summary or {}))
    _numbers(found, stored.scalars)
    _pictures(found, stored.images)
    for one in stored.histograms or ():
        lost = [one.value.nan, one.value.posinf, one.value.neginf]
        found.rows["histogram", *one[:3], spread(one.value.counts, one.value.edges, lost), one.time] += 1
    _values(found, "table", stored.tables, lambda table: cells(table.columns, table.rows))
    _values(found, "text", stored.texts, str)
    _values(found, "html", stored.of("html"), str)
    _values(found, "video", stored.videos, digest)
    _values(found, "figure", stored.figures, digest)
    every = list(tensorboard.entries(place))
    captions = {(e.event, e.name): e for e in every if e.kind == "captions"}
    for entry in every:
        if entry.kind == "audio":
            caption = tensorboard._captions(captions.get((entry.event, entry.name))).get(1)
            heard = (sound(entry.value.reshape(-1)[0]), caption)
            found.rows["audio", entry.name, entry.axis, entry.step, heard, entry.time] += 1
        elif entry.kind in {"config", "summary", "artifact"}:
            found.times[entry.kind, entry.time] += 1
        elif entry.kind == "note":
            found.rows["note", entry.name, entry.axis, entry.step, "", entry.time] += 1
    for one in stored.artifacts or ():
        digests = {path: text.decode() for path, text in one.files.items()}
        found.artifacts[artifact(one.name, one.type, one.aliases, one.metadata, digests)] += 1
    return found


def marks_of(row: dict[str, Any]) -> range:
    """The numbers of the calls that a row of W&B's history holds."""
    last = row["_tracking_seq"]
    return range(row.get("_tracking_first", last), last + 1)


def from_wandb(run: OfflineRun) -> Found:
    """What W&B has of a run."""
    stored = wandb.stored(run)
    names = run.config.get("_tracking", {}).get("names", {})
    found = Found(config=dict(stored.config or {}), summary=dict(stored.summary or {}))
    for row in run.history:
        if "_tracking_seq" not in row:
            found.rows["unmarked row", json.dumps(row)] += 1
            continue
        writer, numbers = row["_tracking_writer"], marks_of(row)
        for seq in numbers:
            found.marks[writer, seq] += 1
            if seq > numbers[0]:
                found.joined[writer, seq] = numbers[0]
        column = row.get("_tracking_axis", "step")
        values = {key: value for key, value in row.items() if key != column and not key.startswith("_")}
        if any(isinstance(value, dict) for value in values.values()):
            for key, value in values.items():
                if isinstance(value, dict) and value["_type"] == "audio-file":
                    heard = (sound(run.files[value["path"]].read_bytes()), value.get("caption"))
                    where = (wandb._decode(key, names), wandb._decode(column, names), row[column])
                    found.rows["audio", *where, heard, row["_timestamp"]] += 1
            continue
        # Here and not through the harness: integers of 64 bits stay exact.
        for key, value in values.items():
            where = (wandb._decode(key, names), wandb._decode(column, names), row[column])
            found.rows["scalars", *where, number(value), row["_timestamp"]] += 1
    _pictures(found, stored.images)
    for one in stored.histograms or ():
        lost = [one.value.nan, one.value.posinf, one.value.neginf]
        found.rows["histogram", *one[:3], spread(one.value.counts, one.value.edges, lost), one.time] += 1
    _values(found, "table", stored.tables, lambda table: cells(table.columns, table.rows))
    _values(found, "text", stored.texts, str)
    _values(found, "html", stored.of("html"), str)
    _values(found, "video", stored.videos, digest)
    _values(
        found, "figure", stored.figures, lambda f: json.dumps(f, sort_keys=True) if isinstance(f, dict) else digest(f)
    )
    for alert in stored.alerts or ():
        found.alerts[alert] += 1
    for one in stored.artifacts or ():
        digests = {path: hashlib.sha256(content).hexdigest() for path, content in one.files.items()}
        found.artifacts[artifact(one.name, one.type, one.aliases, one.metadata, digests)] += 1
    found.used = list(stored.extra["used_artifacts"])
    return found


def offline(run_dir: Path) -> OfflineRun:
    """The only transaction log of a run that was recorded offline."""
    (log,) = run_dir.rglob("offline-run-*/run-*.wandb")
    return read_offline_run(log)


def at_server(server: WandbServer, run_id: str, folder: Path) -> OfflineRun:
    """What the server was sent of a run, as a transaction log would tell it.

    Args:
        server: The server.
        run_id: The run.
        folder: Where its files are put.
    """
    run = server.runs[run_id]

    def kept(owner: str, name: str, content: bytes) -> Path:
        path = folder / owner / hashlib.sha256(name.encode()).hexdigest()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    artifacts = [
        OfflineArtifact(
            name=one.name, type=one.type, aliases=tuple(one.aliases), tags=(), description=None, metadata=one.metadata,
            digest=one.digest,
            entries=tuple(
                OfflineArtifactEntry(name, "", len(content), None, kept(one.id, name, content))
                for name, content in one.files.items()
            ),
        )
        for one in server.artifacts
        if one.run_id == run_id and one.committed
    ]  # fmt: skip
    assert run.retransmitted == 0
    return OfflineRun(
        id=run_id,
        path=folder,
        config=run.config,
        summary=run.summary,
        history=tuple(decode_value(line) for line in run.lines("wandb-history.jsonl")),
        files={name: kept(run_id, name, content) for name, content in run.files.items()},
        artifacts=tuple(artifacts),
        alerts=tuple(OfflineAlert(one.title, one.text, one.severity, 0) for one in run.alerts),
        exit_code=run.exitcode,
        complete=run.complete,
    )


def _numbers(found: Found, scalars: Any) -> None:
    for one in scalars:
        found.rows["scalars", one.name, one.axis, one.step, number(one.value), one.time] += 1


def _pictures(found: Found, images: Any) -> None:
    """Images, with their place among those of one call."""
    places: Counter = Counter()
    for one in images:
        where = (one.name, one.axis, one.step, one.time)
        found.rows["images", *where[:3], (places[where], digest(one.pixels), one.caption or ""), one.time] += 1
        places[where] += 1


def _values(found: Found, kind: str, values: Any, form: Any) -> None:
    for one in values:
        found.rows[kind, one.name, one.axis, one.step, form(one.value), one.time] += 1


def check_tensorboard(found: Found, journal: Found) -> None:
    """TensorBoard rounds to float32, names plotly's figures in a note, and has no place for alerts and uses."""
    want = Counter(
        {
            ("note", *row[1:4], "", row[5]) if row[0] == "figure" and row[4].startswith("{") else row: count
            for row, count in as_float32(journal.rows).items()
        }
    )
    require_same(found.rows, want)
    require_same(found.artifacts, journal.artifacts)
    require_same(found.times, journal.times)
    require_same(as_lines(found.config), as_lines(journal.config))
    require_same(as_lines(found.summary), as_lines(journal.summary))


def check_wandb(found: Found, journal: Found, *, online: bool, alerts_once: bool = True) -> None:
    """W&B has 64 bits and the numbers of all calls, the time of the first call of a row, and dates neither
    configurations nor alerts."""
    require_same(found.rows, as_float64(as_joined(journal, found.joined), signed_zero=not online))
    require_same(found.marks, journal.marks)
    require_same(found.artifacts, journal.artifacts)
    # An alert may come again after a crash.
    once = Counter if alerts_once else set
    require_same(Counter(once(found.alerts)), Counter(once(journal.alerts)))
    require_same(as_lines(as_words(found.config)), as_lines(as_words(journal.config)))
    # Beside what was set W&B has the last value of each scalar there.
    set_by_hand = {key: value for key, value in found.summary.items() if key in journal.summary}
    require_same(as_lines(as_words(set_by_hand)), as_lines(as_words(journal.summary)))


def as_joined(journal: Found, joined: Mapping[tuple[str, int], int]) -> Counter:
    """The rows of a journal with the times of a backend that has one time for calls that it joined to a row."""
    assert len(set(journal.moments.values())) == len(journal.moments), "calls are told apart by their times"
    moved = {journal.moments[call]: journal.moments[call[0], first] for call, first in joined.items()}
    rows: Counter = Counter()
    for row, count in journal.rows.items():
        rows[(*row[:5], moved.get(row[5], row[5])) if row[0] == "scalars" else row] += count
    return rows


def as_float32(rows: Counter) -> Counter:
    """Rows of scalars as a backend has them that keeps float32."""
    rounded: Counter = Counter()
    for (kind, *where, value, at), count in rows.items():
        with np.errstate(over="ignore"):
            value = number(float(np.float32(_exact(value)))) if kind == "scalars" else value
        rounded[kind, *where, value, at] += count
    return rounded


def as_float64(rows: Counter, *, signed_zero: bool = True) -> Counter:
    """Rows of scalars as W&B has them: larger integers than 64 bits become floats, and online -0 becomes 0."""
    kept: Counter = Counter()
    for (kind, *where, value, at), count in rows.items():
        exact = _exact(value) if kind == "scalars" else None
        if isinstance(exact, int) and not -(2**63) <= exact < 2**63:
            value = number(float(exact))
        if value == "-0.0" and not signed_zero:
            value = "0"
        kept[kind, *where, value, at] += count
    return kept


def as_words(value: Any) -> Any:
    """A mapping as W&B has it: words for the numbers that JSON has not, floats for integers beyond 64 bits, 1 for 1.0."""
    if isinstance(value, dict):
        return {key: as_words(part) for key, part in value.items()}
    if isinstance(value, list):
        return [as_words(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, float) and value == int(value) and abs(value) < 2**63:
        return int(value)
    return float(value) if isinstance(value, int) and abs(value) >= 2**63 else value


def _exact(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)
