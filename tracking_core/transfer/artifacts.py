"""Artifacts of a run that is imported: versions have their numbers before the run is there.

An import that was interrupted, or whose run was removed since, has left versions behind. They are found by the run that
they name, and taken again: importing once more makes no new ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tracking_core.artifacts import ArtifactStore, StoredVersion
from tracking_core.naming import FILE_NAMES
from tracking_core.values import ArtifactFile


class ImportedArtifacts(ArtifactStore):
    """The artifacts of a project, for one run.

    Args:
        root: The root of the run store.
        project: Name of the project.
        run_id: The run.
    """

    def __init__(self, root: Path, project: str, run_id: str) -> None:
        super().__init__(root, project)
        self._last: dict[tuple[str, str], StoredVersion] = {}
        self._left = [version for version in self.versions() if version.run_id == run_id]

    def put(
        self,
        name: str,
        type: str,  # noqa: A002 - the field's word
        files: Sequence[ArtifactFile],
        *,
        metadata: Mapping[str, Any],
        aliases: Sequence[str],
        run_id: str,
        created: float,
        **more: Any,
    ) -> StoredVersion:
        """As `ArtifactStore.put`; a version that this run has made before is taken again, each once and in order."""
        key = (name, type)
        left = [version for version in self._left if (version.ref.name, version.ref.type) == key]
        # What comes twice in a row is one version, as it was the first time.
        known = [self._last[key], *left] if left and key in self._last else left
        stored = {file.path: self._keep(file) for file in files} if known else {}
        for version in known:
            if dict(version.files) == stored and _text(version.metadata) == _text(metadata):
                if version in self._left:
                    self._left.remove(version)
                folder = self._folder / FILE_NAMES.encode(type) / FILE_NAMES.encode(name)
                self._last[key] = version
                return self._point(folder, version, aliases)
        found = super().put(
            name, type, files, metadata=metadata, aliases=aliases, run_id=run_id, created=created, **more
        )
        self._last[key] = found
        return found


def _text(metadata: Mapping[str, Any]) -> str:
    # NaN is itself there, and a tuple the list that it comes back as.
    return json.dumps(dict(metadata), sort_keys=True)
