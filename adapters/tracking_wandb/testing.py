"""The contract harness of this adapter: runs recorded offline, read from the client's own transaction log.

What is read here follows the documentation (`docs/backends/wandb.md`), and uses nothing of the code that wrote it.
"""

from __future__ import annotations

import contextlib
import html
import io
import json
import math
import os
import re
import wave
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tracking_core.testing import (
    AdapterHarness,
    Stored,
    StoredArtifact,
    StoredHistogram,
    StoredImage,
    StoredScalar,
    StoredValue,
)
from tracking_core.values import Histogram, Image, Table
from tracking_wandb.offline.run import OfflineArtifact, OfflineRun, read_offline_run

if TYPE_CHECKING:
    from tracking_core import RunInfo, Tracker

_STATUSES = {0: "finished", 1: "failed", 130: "interrupted", 143: "preempted"}
_ESCAPED = re.compile(r"((?:~[0-9a-f]{2})+)")
_SUFFIX = re.compile(r"~(?:value|part(\d+))\Z")
_OWN = "_tracking"
_TEXT_START = '<pre style="white-space: pre-wrap">\n'
_RESERVED = {"~5fwandb": "_wandb", "~5ftracking": "_tracking"}
_FOLDERS = {"WANDB_CACHE_DIR": "cache", "WANDB_CONFIG_DIR": "config", "WANDB_DATA_DIR": "data"}


class WandbHarness(AdapterHarness):
    """Opens runs offline in a directory, and reads them back from the transaction log."""

    target = "wandb://?mode=offline&dir={dir}&system_metrics=off&metadata=off&git=off"

    def open(self, directory: Path, run: RunInfo) -> Tracker:
        """Open a tracker whose data, and whatever else the client keeps, lands in the directory."""
        with isolated(directory):
            tracker = super().open(directory, run)
        log_table: Any = cast("Any", tracker).log_table

        def log_table_here(*args: Any, **keywords: Any) -> None:
            # The client stages the artifact that a table makes where the environment says at that moment.
            with isolated(directory):
                log_table(*args, **keywords)

        cast("Any", tracker).log_table = log_table_here
        return tracker

    def read(self, directory: Path, run: RunInfo) -> Stored:
        """Read the folder of the run's last opening: synchronised, it is what W&B has."""
        folders = [path.parent for path in directory.rglob(f"run-{run.id}.wandb")]
        if not folders:
            raise FileNotFoundError(f"there is no transaction log of the run {run.id!r} below {directory}")
        runs = [read_offline_run(folder) for folder in folders]
        return stored(max(runs, key=lambda one: one.start_time or 0.0))


@contextlib.contextmanager
def isolated(directory: Path) -> Generator[None]:
    """Keep the client's cache, configuration and staging files in a directory for a while."""
    before = {name: os.environ.get(name) for name in (*_FOLDERS, "WANDB_ERROR_REPORTING")}
    for name, folder in _FOLDERS.items():
        (directory / "wandb-client" / folder).mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(directory / "wandb-client" / folder)
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def stored(run: OfflineRun) -> Stored:
    """What a transaction log holds, in the terms of the contract."""
    own = run.config.get(_OWN, {})
    names: Mapping[str, str] = own.get("names", {})
    found = Stored.empty(
        config={_RESERVED.get(key, key): value for key, value in run.config.items() if key != _OWN},
        summary=_summary(run, names),
        status=_STATUSES.get(run.exit_code or 0, "failed") if run.complete else "running",
        extra={"run": run, "used_artifacts": own.get("used_artifacts", [])},
    )
    found.artifacts = [_artifact(one) for one in run.artifacts if one.type != "run_table"]
    found.alerts = [(alert.title, alert.text, alert.level.lower()) for alert in run.alerts]
    for row in run.history:
        _Row(run, row, names).into(found)
    return found


class _Row:
    """One row of the history."""

    def __init__(self, run: OfflineRun, row: Mapping[str, Any], names: Mapping[str, str]) -> None:
        self._run, self._row, self._names = run, row, names
        column = row.get("_tracking_axis", "step")
        self.axis = _decode(column, names)
        self.step = int(row[column])
        self.time = float(row["_timestamp"])
        self.values = {key: value for key, value in row.items() if key != column and not key.startswith("_")}

    def into(self, found: Stored) -> None:
        media = {key: value for key, value in self.values.items() if isinstance(value, dict) and "_type" in value}
        if not media:
            at = (self.axis, self.step)
            cast("list[Any]", found.scalars).extend(
                StoredScalar(_decode(key, self._names), *at, float(value), self.time)
                for key, value in self.values.items()
                if isinstance(value, (int, float))
            )
            return
        groups: dict[str, list[Any]] = {}
        for key in sorted(media, key=_part):
            groups.setdefault(_decode(key, self._names), []).append(media[key])
        for name, parts in groups.items():
            self._take(found, name, parts)

    def _take(self, found: Stored, name: str, parts: list[Any]) -> None:
        kind: str = parts[0]["_type"]
        where = (name, self.axis, self.step)
        if kind == "images/separated":
            orders = json.loads(self._row.get("_tracking_order", "{}"))
            cast("list[Any]", found.images).extend(
                StoredImage(*where, pixels, caption, self.time)
                for pixels, caption in self._images(parts, orders.get(name))
            )
            return
        if kind == "histogram":
            cast("list[Any]", found.histograms).append(StoredHistogram(*where, self._histogram(parts[0]), self.time))
            return
        readers = {
            "table-file": (found.tables, self._table),
            "audio-file": (found.audio, lambda: self._audio(parts[0])),
            "video-file": (found.videos, lambda: self._video(parts[0])),
            "plotly-file": (found.figures, lambda: json.loads(self._file(parts[0]["path"]))),
            "image-file": (found.figures, lambda: Image.from_png(self._file(parts[0]["path"])).pixels),
        }
        if kind == "html-file":
            page = self._file(parts[0]["path"]).decode()
            text = _text(page)
            into, read = (found.of("html"), lambda: page) if text is None else (found.texts, lambda: text)
        else:
            into, read = readers[kind]
        value = self._table(parts) if kind == "table-file" else cast("Any", read)()
        cast("list[Any]", into).append(StoredValue(*where, value, self.time))

    def _file(self, path: str) -> bytes:
        return self._run.files[path].read_bytes()

    def _images(self, parts: list[Any], order: list[int] | None) -> Iterator[tuple[np.ndarray[Any, Any], str | None]]:
        lists = [
            list(zip(part["filenames"], part.get("captions") or [None] * part["count"], strict=True)) for part in parts
        ]
        sequence = order if order is not None else [number for number, part in enumerate(lists) for _ in part]
        for number in sequence:
            path, caption = lists[number].pop(0)
            yield Image.from_png(self._file(path)).pixels, caption or None

    def _histogram(self, value: Any) -> Histogram:
        nan, posinf, neginf, low, high, mean, std, _ = self._row["_tracking_histogram"]
        return Histogram(
            np.asarray(value["values"]),
            np.asarray(value["bins"], np.float64),
            *(int(count) for count in (nan, posinf, neginf)),
            *(math.nan if number is None else float(number) for number in (low, high, mean, std)),
        )

    def _table(self, parts: list[Any]) -> Table:
        contents = [json.loads(self._file(part["path"])) for part in parts]
        return Table(contents[0]["columns"], [row for content in contents for row in content["data"]])

    def _audio(self, value: Any) -> np.ndarray[Any, Any]:
        with wave.open(io.BytesIO(self._file(value["path"]))) as sound:
            return np.frombuffer(sound.readframes(sound.getnframes()), "<i2").reshape(-1, sound.getnchannels())

    def _video(self, value: Any) -> np.ndarray[Any, Any]:
        from PIL import Image as Pillow
        from PIL import ImageSequence

        with Pillow.open(io.BytesIO(self._file(value["path"]))) as clip:
            return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(clip)])


def _text(page: str) -> str | None:
    """The text that a page was made of; None for a page that was logged as such."""
    if not (page.startswith(_TEXT_START) and page.endswith("</pre>")):
        return None
    escaped = page[len(_TEXT_START) : -len("</pre>")]
    return html.unescape(escaped) if not {*escaped} & {*"<>\"'"} else None


def _summary(run: OfflineRun, names: Mapping[str, str]) -> dict[str, Any]:
    """What was set, and the last values of rows, which W&B puts there by itself."""
    return {
        _decode(key, names): value
        for key, value in run.summary.items()
        if not key.startswith("_") and key != "tracking/error" and not (isinstance(value, dict) and "_type" in value)
    }


def _artifact(artifact: OfflineArtifact) -> StoredArtifact:
    metadata = dict(artifact.metadata)
    own = metadata.pop(_OWN, {})
    if list(metadata) == ["metadata"]:
        metadata = metadata["metadata"]
    aliases = own.get("aliases", [alias for alias in artifact.aliases if alias != "latest"])
    return StoredArtifact(
        own.get("name", artifact.name),
        own.get("type", artifact.type),
        {entry.path: entry.local_path.read_bytes() for entry in artifact.entries if entry.local_path is not None},
        tuple(aliases),
        metadata,
    )


def _part(key: str) -> tuple[int, str]:
    found = _SUFFIX.search(key)
    return (int(found[1]) if found and found[1] else 1, key)


def _decode(key: str, names: Mapping[str, str]) -> str:
    """The name behind a key."""
    key = _SUFFIX.sub("", key)
    if key in names:
        return names[key]
    if key == "~":
        return ""
    return _ESCAPED.sub(lambda found: bytes.fromhex(found[1].replace("~", "")).decode("utf-8", "surrogatepass"), key)
