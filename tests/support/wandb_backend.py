"""What a W&B server keeps, and its answers to the GraphQL operations of the real client.

`Backend` holds the runs and artifacts; the HTTP side of it is in `wandb_server`. Everything is guarded by one
condition variable, `Backend.changed`, which is notified after each request that changed something. The properties
of runs and artifacts give copies, so that a test may look at them while the client goes on.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import Any

HISTORY, EVENTS, SUMMARY, CONSOLE = "wandb-history.jsonl", "wandb-events.jsonl", "wandb-summary.json", "output.log"


def _loads(text: str | None) -> Any:
    return json.loads(text) if text else {}


@dataclass
class ServerAlert:
    """An alert: `wait_duration` in nanoseconds, as the client sends it."""

    title: str
    text: str
    severity: str
    wait_duration: int | None


class ServerArtifact:
    """One version of an artifact: `version` is its number in the collection, None until it is committed."""

    def __init__(self, artifact_id: str, spec: dict[str, Any], lock: threading.Condition) -> None:
        self._lock = lock
        self._files: dict[str, bytes] = {}
        self.id = artifact_id
        self.spec = spec
        self.name: str = spec["artifactCollectionName"]
        self.type: str = spec["artifactTypeName"]
        self.entity: str = spec["entityName"]
        self.project: str = spec["projectName"]
        self.run_id: str | None = spec.get("runName")
        self.digest: str = spec.get("digest") or ""
        self.description: str | None = spec.get("description")
        self.metadata: Any = _loads(spec.get("metadata"))
        self.aliases: list[str] = [alias["alias"] for alias in spec.get("aliases") or []]
        self.tags: list[str] = [tag["tagName"] for tag in spec.get("tags") or []]
        self.client_id: str | None = spec.get("clientID")
        self.version: int | None = None
        self.manifest: dict[str, Any] = {}
        self.used_by: list[str] = []

    @property
    def committed(self) -> bool:
        return self.version is not None

    @property
    def files(self) -> dict[str, bytes]:
        """The uploaded files by their name in the artifact; references have none."""
        with self._lock:
            return dict(self._files)

    def put(self, name: str, content: bytes) -> None:
        self._files[name] = content


class ServerRun:
    """A run as the server knows it."""

    def __init__(self, run_id: str, entity: str, project: str, lock: threading.Condition) -> None:
        self._lock = lock
        self._streams: dict[str, dict[int, str]] = {}
        self._files: dict[str, bytes] = {}
        self._config: dict[str, Any] = {}
        self.id = run_id
        self.storage_id = f"storage-{run_id}"
        self.entity = entity
        self.project = project
        self.display_name = f"generated-{run_id}"
        self.group: str | None = None
        self.job_type: str | None = None
        self.notes: str | None = None
        self.tags: list[str] = []
        self.host: str | None = None
        self.program: str | None = None
        self.commit: str | None = None
        self.repo: str | None = None
        self.complete = False
        self.exitcode: int | None = None
        self.preempting = False
        self.uploaded: list[str] = []
        self.artifacts: list[ServerArtifact] = []
        self.used_artifacts: list[ServerArtifact] = []
        self.alerts: list[ServerAlert] = []
        self.sessions = 0  # how often a client opened it
        self.retransmitted = 0  # lines that came again for an offset that was there already

    @property
    def name(self) -> str:
        """W&B's word for the run id."""
        return self.id

    @property
    def git(self) -> dict[str, str | None]:
        return {"remote": self.repo, "commit": self.commit}

    @property
    def config(self) -> dict[str, Any]:
        """The configuration with plain values, without the client's own entry."""
        with self._lock:
            return {key: item["value"] for key, item in self._config.items() if key != "_wandb"}

    @property
    def raw_config(self) -> dict[str, Any]:
        with self._lock:
            return dict(self._config)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The `define_metric` definitions, in the shape of `tracking_wandb.offline_log.metric_definition`.

        The client sends them as field numbers of its MetricRecord message; 5 is the one-based index of the
        definition of the axis.
        """
        with self._lock:
            packed = self._config.get("_wandb", {}).get("value", {}).get("m") or []
        aggregates = {1: "min", 2: "max", 3: "mean", 4: "best", 5: "last", 6: "none", 7: "copy", 8: "first"}
        return [
            {
                "name": item.get("1"),
                "glob": item.get("2"),
                "step_metric": packed[item["5"] - 1]["1"] if "5" in item else item.get("4"),
                "step_sync": 1 in item.get("6", []),
                "hidden": 2 in item.get("6", []),
                "summary": tuple(sorted(aggregates[number] for number in item.get("7", []))),
            }
            for item in packed
        ]

    @property
    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines(HISTORY)]

    @property
    def events(self) -> list[dict[str, Any]]:
        """System metrics."""
        return [json.loads(line) for line in self.lines(EVENTS)]

    @property
    def summary(self) -> dict[str, Any]:
        """The summary as last sent, without the client's own entry."""
        return {key: value for key, value in _loads(self.raw_summary).items() if key != "_wandb"}

    @property
    def raw_summary(self) -> str:
        return (self.lines(SUMMARY) or ["{}"])[-1]

    @property
    def console(self) -> list[str]:
        return self.lines(CONSOLE)

    @property
    def files(self) -> dict[str, bytes]:
        """The uploaded files by name."""
        with self._lock:
            return dict(self._files)

    @property
    def state(self) -> str:
        if not self.complete:
            return "preempting" if self.preempting else "running"
        return "failed" if self.exitcode else "finished"

    def lines(self, stream: str) -> list[str]:
        """The lines of one stream in the order of their offsets, each offset once."""
        with self._lock:
            return [line for _, line in sorted(self._streams.get(stream, {}).items())]

    def line_count(self, stream: str) -> int:
        """What the server would tell a client that resumes: one more than the highest offset."""
        return max(self._streams.get(stream, {}), default=-1) + 1

    def put(self, name: str, content: bytes) -> None:
        self._files[name] = content

    def take_stream(self, body: dict[str, Any]) -> None:
        """Account for one file_stream request."""
        for name, chunk in (body.get("files") or {}).items():
            lines = self._streams.setdefault(name, {})
            for offset, line in enumerate(chunk["content"], chunk.get("offset", 0)):
                # The summary is one line that is replaced; of the others, an offset is written once.
                self.retransmitted += offset in lines and name != SUMMARY
                lines[offset] = line
        self.uploaded += body.get("uploaded") or []
        self.preempting |= bool(body.get("preempting"))
        if body.get("complete"):
            self.complete, self.exitcode = True, body.get("exitcode")

    def take_upsert(self, values: dict[str, Any]) -> None:
        """Account for one UpsertBucket mutation: what it leaves null stays as it is."""
        names = {
            "displayName": "display_name",
            "display_name": "display_name",
            "groupName": "group",
            "jobType": "job_type",
            "notes": "notes",
            "tags": "tags",
            "host": "host",
            "program": "program",
            "commit": "commit",
            "repo": "repo",
        }
        for key, attribute in names.items():
            if values.get(key) is not None:
                setattr(self, attribute, values[key])
        if values.get("config") is not None:
            self._config = json.loads(values["config"])
        if values.get("summaryMetrics") is not None:
            self._streams[SUMMARY] = {0: values["summaryMetrics"]}


@dataclass
class Backend:
    """Runs, artifacts and the answers about them.

    Args:
        entity: Who the key belongs to; runs without an entity are theirs.
        url: Where the server answers; upload and download addresses begin with it.
    """

    entity: str
    url: str = ""
    changed: threading.Condition = field(default_factory=lambda: threading.Condition(threading.RLock()))
    runs: dict[str, ServerRun] = field(default_factory=dict)
    artifacts: dict[str, ServerArtifact] = field(default_factory=dict)
    operations: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    # ---- GraphQL

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Answer one GraphQL operation with its `data`."""
        self.operations.append((operation, variables))
        resolver = getattr(self, f"_on_{operation}", None)
        if resolver is None:
            self.unknown.append(operation)
            return {}
        return resolver(variables)

    def _on_Viewer(self, v: dict[str, Any]) -> dict[str, Any]:
        viewer = {
            "id": "viewer",
            "entity": self.entity,
            "username": self.entity,
            "email": f"{self.entity}@example.invalid",
            "flags": "{}",
            "teams": {"edges": [{"node": {"name": self.entity}}]},
        }
        return {"viewer": viewer}

    def _on_ServerFeaturesQuery(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _on_UpsertBucket(self, v: dict[str, Any]) -> dict[str, Any]:
        run_id = v.get("name") or str(v.get("id")).removeprefix("storage-")
        run = self.runs.get(run_id)
        inserted = run is None
        if run is None:
            run = ServerRun(run_id, v.get("entity") or self.entity, v.get("project") or "uncategorized", self.changed)
            self.runs[run_id] = run
        if v.get("program") is not None or inserted:
            # The first mutation of a client carries the program; a run that is opened again is running again.
            run.sessions += 1
            run.complete, run.exitcode, run.preempting = False, None, False
        run.take_upsert(v)
        return {"upsertBucket": {"bucket": {**self._run(run), "project": self._project(run)}, "inserted": inserted}}

    def _on_RunResumeStatus(self, v: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(v["name"])
        entity, project = v.get("entity") or self.entity, v.get("project") or "uncategorized"
        model = {"id": "project", "name": project, "entity": {"id": "entity", "name": entity}, "bucket": None}
        if run is not None and (run.entity, run.project) == (entity, project):
            model["bucket"] = {
                **self._run(run),
                "historyTail": json.dumps(run.lines(HISTORY)[-1:]),
                "eventsTail": json.dumps(run.lines(EVENTS)[-1:]),
                "logLineCount": run.line_count(CONSOLE),
                "eventsLineCount": run.line_count(EVENTS),
                "wandbConfig": json.dumps({"t": run.raw_config.get("_wandb", {}).get("value", {}).get("t", {})}),
            }
        return {"model": model}

    def _on_RunStoppedStatus(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"run": {"stopped": False}}}

    def _on_CreateRunFiles(self, v: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[v["run"]]
        files = [{"name": name, "uploadUrl": f"{self.url}/storage/run/{run.id}/{name}"} for name in v["files"]]
        return {"createRunFiles": {"runID": run.storage_id, "uploadHeaders": [], "files": files}}

    def _on_NotifyScriptableRunAlert(self, v: dict[str, Any]) -> dict[str, Any]:
        alert = ServerAlert(v["title"], v["text"], v.get("severity") or "INFO", v.get("waitDuration"))
        self.runs[v["runName"]].alerts.append(alert)
        return {"notifyScriptableRunAlert": {"success": True}}

    # ---- artifacts

    def _on_ArtifactType(self, v: dict[str, Any]) -> dict[str, Any]:
        name = v["name"].split(":")[0]
        found = next((art for art in self.artifacts.values() if art.name == name and art.project == v["project"]), None)
        return {"project": {"artifact": found and {"artifactType": {"name": found.type}}}}

    def _on_CreateArtifact(self, v: dict[str, Any]) -> dict[str, Any]:
        print("CREATE", v)
        spec = v["input"]
        artifact = ServerArtifact(f"artifact-{len(self.artifacts)}", spec, self.changed)
        self.artifacts[artifact.id] = artifact
        return {"createArtifact": {"artifact": {"id": artifact.id, "state": "PENDING", "artifactSequence": {"id": "q", "latestArtifact": None}}}}

    def _manifest(self, artifact_id):
        return {"artifactManifest": {"id": artifact_id, "file": {"id": artifact_id, "uploadUrl": f"{self.url}/storage/manifest/{artifact_id}/manifest.json", "uploadHeaders": []}}}

    def _on_CreateArtifactManifest(self, v):
        print("MAN", v)
        return {"createArtifactManifest": self._manifest(v["artifactID"])}

    def _on_UpdateArtifactManifest(self, v):
        print("UMAN", v)
        return {"updateArtifactManifest": self._manifest(v["artifactManifestID"])}

    def _on_CreateArtifactFiles(self, v):
        print("FILES", v)
        return {"createArtifactFiles": {"files": {"edges": [{"node": {"storagePath": f["name"], "uploadUrl": f"{self.url}/storage/artifact/{f['artifactID']}/{f['name']}", "uploadHeaders": [], "uploadMultipartUrls": None, "artifact": {"id": f["artifactID"]}}} for f in v["input"]["artifactFiles"]]}}}

    def _on_CommitArtifact(self, v):
        print("COMMIT", v)
        a = self.artifacts[v["artifactID"]]
        a.version = 0
        return {"commitArtifact": {"artifact": {"id": a.id, "digest": a.digest}}}

    def _project(self, run):
        return {"id": "project", "name": run.project, "entity": {"id": "entity", "name": run.entity}}

    def _run(self, run):
        return {"id": run.storage_id, "name": run.id, "displayName": run.display_name, "config": json.dumps(run.raw_config), "summaryMetrics": run.raw_summary, "historyLineCount": run.line_count(HISTORY), "tags": run.tags, "notes": run.notes}

    def store(self, kind, owner, name, content):
        if kind == "run": self.runs[owner].put(name, content)
        elif kind == "manifest": self.artifacts[owner].manifest = json.loads(content)
        else: self.artifacts[owner].put(name, content)
