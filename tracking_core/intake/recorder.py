"""The recorder: calls of the protocol in, events of the journal out.

Everything is on the host, and copied or encoded, when a method returns: arrays may be donated, changed or deleted
afterwards. What cannot be taken raises `InvalidValueError`; the run above decides what becomes of that.
"""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tracking_core.artifacts import ArtifactStore
from tracking_core.base.redaction import redact_text
from tracking_core.errors import InvalidValueError, StoreError
from tracking_core.intake.hiding import Names, hide_fields, hide_medium, hide_png
from tracking_core.journal import JournalWriter, pack
from tracking_core.journal.events import histogram_fields, media_fields, said
from tracking_core.journal.times import to_seconds
from tracking_core.layout.media import put_media
from tracking_core.values import (
    ArtifactFile,
    ArtifactRef,
    Image,
    artifact_files,
    to_audio,
    to_axis,
    to_figure,
    to_histogram,
    to_images,
    to_name,
    to_scalars,
    to_step,
    to_table,
    to_text,
    to_video,
)
from tracking_core.values.config import to_plain
from tracking_core.values.scalars import entries

LEVELS = ("info", "warn", "error")
OnError = Callable[[str, InvalidValueError], None]


class Recorder:
    """Records calls into a journal.

    What has a step says whether anything of it is recorded: a call of which nothing was taken moves no step.

    Args:
        journal: The writer.
        directory: The run directory, for media.
        artifacts: Where artifacts are stored.
        on_error: Called with (key, error) when one of several values of a call cannot be taken, which is then left
            out; None raises.
    """

    def __init__(
        self, journal: JournalWriter, directory: Path, artifacts: ArtifactStore, on_error: OnError | None = None
    ) -> None:
        self.journal = journal
        # The journal's, unless it is asked to be elsewhere: a run that was deleted may go on in another.
        self._elsewhere = directory if directory != journal.directory else None
        self.artifacts = artifacts
        self.on_error = on_error
        self.names = Names()

    @property
    def directory(self) -> Path:
        """The run directory, for media."""
        return self._elsewhere or self.journal.directory

    def _put(self, content: bytes, extension: str) -> str:
        """Keep a medium; the name of its file."""
        # Its directory may be gone, or another run's by now.
        self.journal.recover()
        try:
            return put_media(self.directory, content, extension)
        except (FileNotFoundError, NotADirectoryError):
            self.journal.recover()
            return put_media(self.directory, content, extension)

    def log_scalars(
        self, scalars: Mapping[str, Any], *, step: Any, step_axis: str = "step", wall_time: float | None = None
    ) -> bool:
        """See `Tracker.log_scalars`."""
        values = to_scalars(scalars, self.on_error)
        if values:
            fields = {"axis": to_axis(step_axis), "step": to_step(step), "values": values}
            self._append("scalars", fields, wall_time)
        return bool(values)

    def log_images(
        self,
        images: Mapping[str, Any],
        *,
        step: Any,
        step_axis: str = "step",
        wall_time: float | None = None,
        value_range: tuple[float, float] | None = None,
    ) -> bool:
        """See `Tracker.log_images`."""
        when = _when(step, step_axis)
        if not isinstance(images, Mapping):
            raise InvalidValueError(f"log_images: expected a mapping of names to images, got {type(images).__name__}")
        stored: dict[str, Any] = {}
        for key, value in entries(images):
            try:
                stored[to_name(key)] = self._entries(to_images(to_name(key), value, value_range=value_range))
            except InvalidValueError as error:
                if self.on_error is None:
                    raise
                self.on_error(key if isinstance(key, str) else repr(key)[:80], error)
        if stored:
            self._append("images", {**when, "images": stored}, wall_time)
        return bool(stored)

    def _entries(self, images: Sequence[Image]) -> list[dict[str, Any]]:
        """Keep images as media, and describe them."""
        entries: list[dict[str, Any]] = []
        for image in images:
            file = self._put(hide_png(image.png()), "png")
            entries.append({"file": file, "shape": list(image.pixels.shape), "caption": said(image.caption)})
            if image.clipped:
                entries[-1]["clipped"] = image.clipped
        return entries

    def log_histogram(
        self,
        name: str,
        values: Any,
        *,
        step: Any,
        step_axis: str = "step",
        wall_time: float | None = None,
        bins: int = 64,
    ) -> bool:
        """See `Tracker.log_histogram`."""
        when = _when(step, step_axis)
        name = to_name(name)
        histogram = to_histogram(values, bins=bins, key=name)
        self._append("histogram", {**when, "name": name, **histogram_fields(histogram)}, wall_time)
        return True

    def log_artifact(
        self,
        artifact: Any,
        *,
        name: str | None = None,
        type: str = "file",  # noqa: A002 - the protocol's word
        metadata: Mapping[str, Any] | None = None,
        aliases: Sequence[str] = (),
        wall_time: float | None = None,
    ) -> ArtifactRef:
        """See `Tracker.log_artifact`."""
        if not isinstance(type, str) or not type:
            raise InvalidValueError(f"log_artifact: type must be a non-empty str, got {type!r:.80}")
        if isinstance(aliases, str):
            aliases = (aliases,)
        if not all(isinstance(alias, str) and alias for alias in aliases):
            raise InvalidValueError(f"log_artifact: aliases must be non-empty strs, got {aliases!r:.80}")
        label, found = artifact_files(artifact, name)
        # A name or path with a secret in it is another one from here on: in the manifest, its digest and the reference.
        label, type, aliases = self.names(label), self.names(type), [self.names(alias) for alias in aliases]  # noqa: A001
        files = [ArtifactFile(self.names(file.path), file.source) for file in found]
        facts = to_plain(metadata or {})
        version = self.artifacts.put(
            label,
            type,
            files,
            metadata=facts,
            aliases=aliases,
            run_id=self.journal.run_id,
            created=to_seconds(clock.time() if wall_time is None else wall_time),
        )
        fields = {
            "name": label,
            "type": type,
            "version": version.ref.version,
            "digest": version.ref.digest,
            "metadata": pack(facts),
            "aliases": aliases,
            "files": {path: {"sha256": sha, "size": size} for path, (sha, size) in version.files.items()},
            "blobs": str(self.artifacts.blobs.resolve()),
        }
        self.journal.append("artifact", fields, time=wall_time)
        return version.ref

    def use_artifact(self, artifact: Any) -> ArtifactRef:
        """See `SupportsArtifactUse.use_artifact`."""
        if not isinstance(artifact, (str, ArtifactRef)):
            raise InvalidValueError(f"use_artifact: expected 'name:alias' or an ArtifactRef, got {artifact!r:.80}")
        if isinstance(artifact, str):
            artifact = ":".join(map(self.names, artifact.rsplit(":", 1)))
        else:
            artifact = replace(artifact, name=self.names(artifact.name), type=self.names(artifact.type))
        try:
            ref = self.artifacts.get(artifact).ref
        except StoreError:
            # Known to another backend, perhaps; that it was used is worth keeping all the same.
            ref = (
                artifact if isinstance(artifact, ArtifactRef) else ArtifactRef(artifact.rpartition(":")[0] or artifact)
            )
        text = artifact if isinstance(artifact, str) else str(artifact)
        fields = {"artifact": text, "name": ref.name, "type": ref.type, "version": ref.version, "digest": ref.digest}
        version = ref.version
        if not all(isinstance(part, str) for part in (ref.name, ref.type, ref.digest)) or not (
            version is None or (type(version) is int and version >= 0)
        ):
            raise InvalidValueError(f"use_artifact: a name, a type, a number or None, and a digest, got {ref!r:.200}")
        self.journal.append("use_artifact", fields)
        return ref

    def log_table(
        self, name: str, value: Any, *, step: Any, step_axis: str = "step", wall_time: float | None = None
    ) -> bool:
        """See `SupportsTables.log_table`."""
        return self._medium("table", name, to_table(value), step, step_axis, wall_time)

    def log_video(
        self,
        name: str,
        value: Any,
        *,
        step: Any,
        step_axis: str = "step",
        wall_time: float | None = None,
        fps: float = 8.0,
        value_range: tuple[float, float] | None = None,
    ) -> bool:
        """See `SupportsVideo.log_video`."""
        return self._medium(
            "video", name, to_video(value, fps=fps, value_range=value_range), step, step_axis, wall_time
        )

    def log_audio(
        self,
        name: str,
        value: Any,
        *,
        step: Any,
        step_axis: str = "step",
        wall_time: float | None = None,
        sample_rate: int = 16000,
    ) -> bool:
        """See `SupportsAudio.log_audio`."""
        return self._medium("audio", name, to_audio(value, sample_rate=sample_rate), step, step_axis, wall_time)

    def log_text(
        self, name: str, value: Any, *, step: Any, step_axis: str = "step", wall_time: float | None = None
    ) -> bool:
        """See `SupportsText.log_text`."""
        return self._medium("text", name, to_text(value), step, step_axis, wall_time)

    def log_figure(
        self, name: str, value: Any, *, step: Any, step_axis: str = "step", wall_time: float | None = None
    ) -> bool:
        """See `SupportsFigures.log_figure`."""
        return self._medium("figure", name, to_figure(value), step, step_axis, wall_time)

    def log_config(self, config: Any) -> None:
        """See `SupportsConfig.log_config`."""
        self.journal.append("config", {"config": pack(to_plain(config))})

    def log_summary(self, summary: Any) -> None:
        """See `SupportsSummary.log_summary`."""
        self.journal.append("summary", {"summary": pack(to_plain(summary))})

    def log_alert(self, title: str, text: str = "", *, level: str = "info", wall_time: float | None = None) -> None:
        """See `SupportsAlerts.log_alert`."""
        if level not in LEVELS:
            raise InvalidValueError(f"log_alert: level must be one of {', '.join(LEVELS)}, got {level!r:.80}")
        fields = {"title": redact_text(str(title)), "text": redact_text(str(text)), "level": level}
        self.journal.append("alert", fields, time=wall_time)

    def end(self, status: str, error: str | None, dropped: Mapping[str, int] | None = None) -> None:
        """Write the end of the run.

        Args:
            status: How it ended.
            error: What went wrong, if anything did.
            dropped: How many values were left out, by reason: the only trace of them that stays.
        """
        fields: dict[str, Any] = {"status": status, "error": error}
        if dropped:
            fields["dropped"] = dict(dropped)
        self.journal.append("finish", fields)

    def _medium(self, kind: str, name: str, value: Any, step: Any, step_axis: str, wall_time: float | None) -> bool:
        when = _when(step, step_axis)
        self._append(kind, {**when, "name": to_name(name), **self._media_fields(kind, value)}, wall_time)
        return True

    def _media_fields(self, kind: str, value: Any) -> dict[str, Any]:
        return media_fields(kind, hide_medium(kind, value), self._put)

    def _append(self, kind: str, fields: dict[str, Any], wall_time: float | None) -> None:
        self.journal.append(kind, hide_fields(fields, self.names), time=wall_time)


def _when(step: Any, step_axis: str) -> dict[str, Any]:
    return {"axis": to_axis(step_axis), "step": to_step(step)}
