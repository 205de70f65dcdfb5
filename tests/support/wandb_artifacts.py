"""The artifact side of the stand-in for the W&B server: logging, aliases, versions, using and downloading."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tests.support.wandb_state import ServerArtifact

if TYPE_CHECKING:
    import threading

    from tests.support.wandb_state import ServerRun

_CREATED = "2026-01-01T00:00:00Z"
_LAST_PAGE = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}


class ArtifactBackend:
    """Artifacts, and the answers to the operations about them."""

    changed: threading.Condition

    def __init__(self) -> None:
        self.url = ""
        self.runs: dict[str, ServerRun] = {}
        self.artifacts: dict[str, ServerArtifact] = {}

    # ---- logging

    def on_ArtifactType(self, v: dict[str, Any]) -> dict[str, Any]:
        found = self._find_artifact(v["entity"], v["project"], v["name"])
        return {"project": {"artifact": found and {"artifactType": {"name": found.type}}}}

    def on_CreateArtifact(self, v: dict[str, Any]) -> dict[str, Any]:
        artifact = ServerArtifact(f"artifact-{len(self.artifacts)}", v["input"], self.changed)
        versions = self._versions(artifact.collection)
        latest = versions[-1] if versions else None
        # Equal content is no new version: the aliases move to the one there is, and nothing is uploaded.
        same = next((old for old in versions if old.digest == artifact.digest), None)
        if same is not None and v["input"].get("enableDigestDeduplication"):
            self._move_aliases(same, artifact.aliases)
            artifact = same
        else:
            self.artifacts[artifact.id] = artifact
        run = self.runs.get(v["input"].get("runName"))
        if run is not None and artifact not in run.artifacts:
            run.artifacts.append(artifact)
        sequence = {"id": artifact.name, "latestArtifact": latest and {"id": latest.id, "versionIndex": latest.version}}
        state = "COMMITTED" if artifact.committed else "PENDING"
        return {"createArtifact": {"artifact": {"id": artifact.id, "state": state, "artifactSequence": sequence}}}

    def on_CreateArtifactManifest(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"createArtifactManifest": self._manifest(v["artifactID"])}

    def on_UpdateArtifactManifest(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"updateArtifactManifest": self._manifest(v["artifactManifestID"])}

    def on_CreateArtifactFiles(self, v: dict[str, Any]) -> dict[str, Any]:
        nodes = [
            {
                "storagePath": spec["name"],
                "uploadUrl": self._file_url("artifact", spec["artifactID"], spec["name"]),
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": spec["artifactID"]},
            }
            for spec in v["input"]["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def on_CommitArtifact(self, v: dict[str, Any]) -> dict[str, Any]:
        artifact = self.artifacts[v["artifactID"]]
        if not artifact.committed:
            aliases = artifact.aliases
            artifact.version = len(self._versions(artifact.collection))
            self._move_aliases(artifact, aliases)
        return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.digest}}}

    # ---- using

    def on_ArtifactByID(self, v: dict[str, Any]) -> dict[str, Any]:
        found = self.artifacts.get(v["id"])
        return {"artifact": found and self._artifact(found)}

    def on_ArtifactMembershipByName(self, v: dict[str, Any]) -> dict[str, Any]:
        found = self._find_artifact(v["entity"], v["project"], v["name"])
        membership = found and {
            "__typename": "ArtifactCollectionMembership",
            "id": f"membership-{found.id}",
            "versionIndex": found.version,
            "createdAt": _CREATED,
            "aliases": [self._alias(found, alias) for alias in found.aliases],
            "artifactCollection": self._collection(found),
            "artifact": self._artifact(found),
        }
        return {"project": {"artifactCollectionMembership": membership}}

    def on_UseArtifact(self, v: dict[str, Any]) -> dict[str, Any]:
        spec = v.get("input") or v  # the core sends an input object, the Python client single variables
        artifact = self.artifacts[spec["artifactID"]]
        used = self.runs[spec["runName"]].used_artifacts
        if artifact not in used:
            used.append(artifact)
        return {"useArtifact": {"artifact": self._artifact(artifact)}}

    def on_FetchArtifactManifest(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"artifact": {"currentManifest": {"file": {"directUrl": self._manifest_url(v["id"])}}}}

    def on_ArtifactManifest(self, v: dict[str, Any]) -> dict[str, Any]:
        return self.on_FetchArtifactManifest({"id": v["artifact_id"]})

    def on_GetArtifactMembershipFileUrls(self, v: dict[str, Any]) -> dict[str, Any]:
        found = self._find_artifact(v["entity"], v["project"], f"{v['collection']}:{v['alias']}")
        contents = found.files.items() if found is not None else ()
        nodes = [
            self._file("artifact", found.id, name, len(content)) for name, content in contents if found is not None
        ]
        files = {"totalCount": len(nodes), "pageInfo": _LAST_PAGE, "edges": [{"node": node} for node in nodes]}
        membership = {"artifactMembership": {"files": files}}
        return {"project": {"artifactCollection": {"__typename": "ArtifactSequence", **membership}}}

    def on_ArtifactMembershipFiles(self, v: dict[str, Any]) -> dict[str, Any]:
        return self.on_GetArtifactMembershipFileUrls(v)

    def on_RunOutputArtifacts(self, v: dict[str, Any]) -> dict[str, Any]:
        return self._run_artifacts(self.runs[v["run"]].artifacts)

    def on_RunInputArtifacts(self, v: dict[str, Any]) -> dict[str, Any]:
        return self._run_artifacts(self.runs[v["run"]].used_artifacts)

    # ---- parts

    def _versions(self, collection: tuple[str, str, str]) -> list[ServerArtifact]:
        found = [art for art in self.artifacts.values() if art.committed and art.collection == collection]
        return sorted(found, key=lambda art: art.version or 0)

    def _move_aliases(self, artifact: ServerArtifact, aliases: list[str]) -> None:
        for other in self._versions(artifact.collection):
            other.aliases = [alias for alias in other.aliases if alias not in aliases]
        artifact.aliases = sorted({*artifact.aliases, *aliases})

    def _find_artifact(self, entity: str, project: str, name: str) -> ServerArtifact | None:
        """Find a committed version by `name:alias`, `name:v0` or `name` alone, which means the latest."""
        name, _, alias = name.partition(":")
        versions = self._versions((entity, project, name))
        if not alias:
            return versions[-1] if versions else None
        return next((art for art in versions if alias in {*art.aliases, f"v{art.version}"}), None)

    def _file_url(self, kind: str, owner: str, name: str) -> str:
        return f"{self.url}/storage/{kind}/{owner}/{quote(name)}"

    def _manifest_url(self, artifact_id: str) -> str:
        return self._file_url("manifest", artifact_id, "wandb_manifest.json")

    def _manifest(self, artifact_id: str) -> dict[str, Any]:
        file = {"id": artifact_id, "uploadUrl": self._manifest_url(artifact_id), "uploadHeaders": []}
        return {"artifactManifest": {"id": artifact_id, "file": file}}

    def _file(self, kind: str, owner: str, name: str, size: int) -> dict[str, Any]:
        url = self._file_url(kind, owner, name)
        return {
            "__typename": "File",
            "id": f"file-{owner}-{name}",
            "name": name,
            "url": url,
            "directUrl": url,
            "sizeBytes": size,
            "storagePath": name,
            "mimetype": None,
            "updatedAt": _CREATED,
            "digest": None,
            "md5": None,
        }

    def _run_artifacts(self, artifacts: list[ServerArtifact]) -> dict[str, Any]:
        edges = [{"node": self._artifact(artifact)} for artifact in artifacts]
        page = {"totalCount": len(edges), "pageInfo": _LAST_PAGE, "edges": edges}
        return {"project": {"run": {"artifacts": page}}}

    def _collection(self, artifact: ServerArtifact) -> dict[str, Any]:
        project = {"id": "project", "internalId": "1", "name": artifact.project, "entity": {"name": artifact.entity}}
        return {"__typename": "ArtifactSequence", "name": artifact.name, "project": project}

    def _alias(self, artifact: ServerArtifact, alias: str) -> dict[str, Any]:
        return {
            "__typename": "ArtifactAlias",
            "id": f"alias-{artifact.id}-{alias}",
            "alias": alias,
            "artifactCollection": self._collection(artifact),
        }

    def _artifact(self, artifact: ServerArtifact) -> dict[str, Any]:
        contents = artifact.manifest.get("contents", {})
        return {
            "__typename": "Artifact",
            "id": artifact.id,
            "artifactSequence": self._collection(artifact),
            "versionIndex": artifact.version,
            "artifactType": {"name": artifact.type},
            "description": artifact.description,
            "metadata": json.dumps(artifact.metadata),
            "ttlDurationSeconds": -2,  # what the real server sends where no time to live is set
            "ttlIsInherited": True,
            "tags": [{"__typename": "Tag", "id": f"tag-{tag}", "name": tag} for tag in artifact.tags],
            "historyStep": artifact.history_step,
            "state": "COMMITTED" if artifact.committed else "PENDING",
            "size": sum(entry.get("size", 0) for entry in contents.values()),
            "digest": artifact.digest,
            "digestAlgorithm": "MANIFEST_MD5",
            "commitHash": artifact.digest,
            "fileCount": len(contents),
            "createdAt": _CREATED,
            "updatedAt": _CREATED,
            "aliases": [self._alias(artifact, alias) for alias in artifact.aliases],
        }
