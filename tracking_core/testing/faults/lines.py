"""An honest adapter that writes JSON Lines, plain enough to be broken in one narrow place at a time.

One file a run, one line a value: scalars with their number as text, so that NaN is kept; pixels, edges and bytes in
full. `reading.py` reads the files without anything from here.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

from tracking_core.backends.hooks import AdapterInfo, RunInfo, hookimpl
from tracking_core.errors import TrackingError
from tracking_core.naming import FILE_NAMES
from tracking_core.values import (
    ArtifactRef,
    Image,
    artifact_files,
    to_axis,
    to_histogram,
    to_image_mapping,
    to_name,
    to_scalars,
    to_step,
)

if TYPE_CHECKING:
    from tracking_core.backends.targets import Target


class LinesTracker:
    """Writes one JSON line a value, at once.

    Args:
        path: The file.
        run: The run it records.
    """

    def __init__(self, path: Path, run: RunInfo) -> None:
        self._path = path
        self._file: TextIO | None = self._opened(resumed=run.resumed)
        self.log_config(run.config)

    # -- the protocol ------------------------------------------------------------------------------------------------

    def log_scalars(
        self, scalars: Mapping[str, Any], *, step: int, step_axis: str = "step", wall_time: float | None = None
    ) -> None:
        """See `Tracker.log_scalars`."""
        where = self._where(step, step_axis, wall_time)
        self._write_scalars(
            [
                {"kind": "scalar", "name": name, "value": repr(float(value)), **where}
                for name, value in to_scalars(scalars).items()
            ]
        )

    def log_images(
        self,
        images: Mapping[str, Any],
        *,
        step: int,
        step_axis: str = "step",
        wall_time: float | None = None,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        """See `Tracker.log_images`."""
        where = self._where(step, step_axis, wall_time)
        for name, batch in to_image_mapping(images, value_range=value_range).items():
            for image in batch:
                self._write_image({"kind": "image", "name": name, "caption": image.caption, **where}, image)

    def log_histogram(
        self,
        name: str,
        values: Any,
        *,
        step: int,
        step_axis: str = "step",
        wall_time: float | None = None,
        bins: int = 64,
    ) -> None:
        """See `Tracker.log_histogram`."""
        where = self._where(step, step_axis, wall_time)
        histogram = to_histogram(values, bins=bins, key=to_name(name))
        counts, edges = histogram.counts.tolist(), histogram.edges.tolist()
        self._write({"kind": "histogram", "name": name, "counts": counts, "edges": edges, **where})

    def log_artifact(
        self,
        artifact: Any,
        *,
        name: str | None = None,
        type: str = "file",  # noqa: A002 - the protocol's word
        metadata: Mapping[str, Any] | None = None,
        aliases: Sequence[str] = (),
    ) -> ArtifactRef:
        """See `Tracker.log_artifact`."""
        name, files = artifact_files(artifact, name)
        contents = {file.path: base64.b64encode(file.read()).decode() for file in files}
        facts = {"type": type, "aliases": list(aliases), "metadata": dict(metadata or {})}
        self._write({"kind": "artifact", "name": name, "files": contents, **facts})
        return ArtifactRef(name, type)

    def log_config(self, config: Mapping[str, Any]) -> None:
        """See `SupportsConfig`."""
        self._write({"kind": "config", "config": dict(config)})

    def finish(self, status: str = "finished", *, error: str | None = None) -> None:
        """See `Tracker.finish`."""
        if self._file is not None:
            self._write({"kind": "finish", "status": status, "error": error})
            self._file.close()
            self._file = None

    # -- where faults are put in -------------------------------------------------------------------------------------

    def _opened(self, *, resumed: bool) -> TextIO:
        del resumed
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return self._path.open("a", encoding="utf-8")

    def _where(self, step: Any, axis: Any, wall_time: float | None) -> dict[str, Any]:
        moment = time.time() if wall_time is None else wall_time
        return {"step": to_step(step), "axis": to_axis(axis), "time": moment}

    def _write_scalars(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            self._write(line)

    def _write_image(self, line: dict[str, Any], image: Image) -> None:
        pixels = image.pixels
        self._write({**line, "shape": pixels.shape, "pixels": base64.b64encode(pixels.tobytes()).decode()})

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is None:
            raise TrackingError(f"{self._path.name}: this run is finished")
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


class Honest:
    """The adapter without a fault. The class itself is the plugin; those in `broken.py` inherit from it."""

    fails: ClassVar[str | None] = None
    """The one check of the contract that it fails."""

    tracker: ClassVar[type[LinesTracker]] = LinesTracker
    """What it opens."""

    call_limit: ClassVar[float] = 20.0
    """Its harness's `call_limit`."""

    @hookimpl
    @classmethod
    def tracking_adapter(cls) -> AdapterInfo:
        """What this adapter is."""
        return AdapterInfo(
            name=cls.__name__.lower(),
            api_version=1,
            capabilities=frozenset({"scalars", "images", "histograms", "artifacts", "config", "resume"}),
            options={},
            requires=cls._requires(),
            replaces="in place",
            description=(cls.__doc__ or "").splitlines()[0],
        )

    @hookimpl
    @classmethod
    def open_tracker(cls, target: Target, run: RunInfo) -> LinesTracker:
        """A tracker that writes `<path>/<run id>.jsonl`."""
        path = Path(target.path) / f"{FILE_NAMES.encode(run.id)}.jsonl"
        if run.generation and not run.resumed:
            cls._put_aside(path)
        return cls.tracker(path, run)

    @classmethod
    def _put_aside(cls, path: Path) -> None:
        path.unlink(missing_ok=True)

    @classmethod
    def _requires(cls) -> tuple[str, ...]:
        return ()
