"""The recorder: calls of the protocol in, events of the journal out.

Values are copied, encoded or dispatched when a method returns: arrays may be donated, changed or deleted afterwards.
What cannot be taken raises `InvalidValueError`; the run above decides what becomes of that. What has a step says
whether anything of it is recorded by now: a call of which nothing was taken moves no step.
"""

from __future__ import annotations

import time as clock
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tracking_core.base.redaction import redact_text, redact_tree
from tracking_core.base.redaction.text import LARGE
from tracking_core.errors import InvalidValueError, StoreError
from tracking_core.intake.histograms import HistogramIntake
from tracking_core.intake.media import MediaIntake
from tracking_core.intake.scalars import ScalarIntake
from tracking_core.intake.sink import Array, is_here
from tracking_core.journal import pack
from tracking_core.journal.times import to_seconds
from tracking_core.on_device.arrays import is_device_array, local_view, snapshots, tracing
from tracking_core.values import ArtifactFile, ArtifactRef, artifact_files
from tracking_core.values.config import Later, length_of_text, settled, to_plain

LEVELS = ("info", "warn", "error")


class Recorder(ScalarIntake, HistogramIntake, MediaIntake):
    """Records calls into a journal; see `Sink` for what it is made of."""

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
        facts = to_plain(metadata or {}, self.on_error)
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

    def log_config(self, config: Any) -> dict[str, Any]:
        """See `SupportsConfig.log_config`; what is recorded, with a `Later` for what a device still computes."""
        return self._facts("config", config, search=True)

    def log_summary(self, summary: Any) -> None:
        """See `SupportsSummary.log_summary`; searching long texts for secrets is left to the encoder."""
        self.results.set(self._facts("summary", summary, search=False))

    def _facts(self, kind: str, facts: Any, *, search: bool) -> dict[str, Any]:
        found: list[Later] = []

        def defer(array: Any) -> Later | None:
            if not is_device_array(array) or is_here((array,)):
                return None
            try:
                found.append(Later(snapshots([local_view(array, kind)])[0]))
            except InvalidValueError:
                # Deleted, or elsewhere: described like any other that cannot be read.
                return None
            return found[-1]

        at_once = self._inline or tracing()
        plain = to_plain(facts, self.on_error, None if at_once else defer, search=search)

        def fields(host: list[Array]) -> dict[str, Any]:
            for later, array in zip(found, host, strict=True):
                later.arrive(array)
            whole = settled(plain) if found else plain
            return {kind: pack(whole if search else redact_tree(whole))}

        length = 0 if search or self._inline else length_of_text(plain)
        if not found and length <= LARGE:
            self.journal.append(kind, fields([]))
        else:
            arrays = [later.array for later in found]
            self._submit(kind, f"log_{kind}", arrays, fields, None, nbytes=length, encode=length > LARGE)
        return plain

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
