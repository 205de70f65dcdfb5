"""Artifacts: contents stored once by their digest, versions numbered by name."""

from tracking_core.artifacts.store import ArtifactStore, StoredVersion

__all__ = ["ArtifactStore", "StoredVersion"]
