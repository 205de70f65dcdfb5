"""Runs and artifacts as the stand-in for the W&B server keeps them.

All properties give copies, taken under the server's lock, so that a test may look while the client goes on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import threading

HISTORY, EVENTS, SUMMARY, CONSOLE = "wandb-history.jsonl", "wandb-events.jsonl", "wandb-summary.json", "output.log"

_AGGREGATES = {1: "min", 2: "max", 3: "mean", 4: "best", 5: "last", 6: "none", 7: "copy", 8: "first"}

# What UpsertBucket calls its variables (the public API calls some of them otherwise), and our attributes.
_UPSERT = {
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


@dataclass(frozen=True)
class ServerAlert:
    """An alert; `wait_duration` is the client's number (0.31 sends milliseconds)."""

    title: str
    text: str
    severity: str
    wait_duration: int | None


class ServerArtifact:
    """One version of an artifact.

    Attributes:
        version: Its number in the collection; None until it is committed.
        aliases: Without the `v<number>` that every committed version answers to.
        manifest: The manifest as uploaded; its `contents` has the references too.
    """

    def __init__(self, artifact_id: str, spec: dict[str, Any], lock: threading.Condition) -> None:
        self._lock = lock
        self._files: dict[str, bytes] = {}
        self.id = artifact_id
        self.name: str = spec["artifactCollectionName"]
        self.type: str = spec["artifactTypeName"]
        self.entity: str = spec["entityName"]
        self.project: str = spec["projectName"]
        self.run_id: str | None = spec.get("runName")
        self.digest: str = spec.get("digest") or ""
        self.description: str | None = spec.get("description")
        self.metadata: dict[str, Any] = json.loads(spec.get("metadata") or "{}")
        self.aliases: list[str] = [alias["alias"] for alias in spec.get("aliases") or []]
        self.tags: list[str] = [tag["tagName"] for tag in spec.get("tags") or []]
        self.history_step: int | None = spec.get("historyStep")
        self.version: int | None = None
        self.manifest: dict[str, Any] = {}

    @property
    def committed(self) -> bool:
        return self.version is not None

    @property
    def collection(self) -> tuple[str, str, str]:
        return self.entity, self.project, self.name

    @property
    def files(self) -> dict[str, bytes]:
        """The uploaded files by their name in the artifact; references have no content here."""
        with self._lock:
            return dict(self._files)

    def put(self, name: str, content: bytes) -> None:
        self._files[name] = content


class ServerRun:
    """A run.

    Attributes:
        uploaded: File names that the client reported as uploaded, in order.
        retransmitted: How many lines came again for an offset that had one already.
        artifacts: What the run logged; `used_artifacts` what it used.
    """

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
        self.retransmitted = 0
        self.artifacts: list[ServerArtifact] = []
        self.used_artifacts: list[ServerArtifact] = []
        self.alerts: list[ServerAlert] = []

    @property
    def name(self) -> str:
        """W&B's word for the run id."""
        return self.id

    @property
    def git(self) -> dict[str, str | None]:
        return {"remote": self.repo, "commit": self.commit}

    @property
    def state(self) -> str:
        """One of running, preempting, finished and failed."""
        if not self.complete:
            return "preempting" if self.preempting else "running"
        return "failed" if self.exitcode else "finished"

    @property
    def config(self) -> dict[str, Any]:
        """The configuration with plain values, without the client's own entry."""
        return {key: item["value"] for key, item in self.raw_config.items() if key != "_wandb"}

    @property
    def raw_config(self) -> dict[str, Any]:
        with self._lock:
            return dict(self._config)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The `define_metric` definitions, in the shape of `tracking_wandb.offline.run.metric_definition`.

        The client sends them in the configuration, by the field numbers of its MetricRecord message; 5 is the
        one-based index of the definition of the axis. The client's order changes from run to run: sorted here.
        """
        packed = self.raw_config.get("_wandb", {}).get("value", {}).get("m") or []
        definitions = [
            {
                "name": item.get("1"),
                "glob": item.get("2"),
                "step_metric": packed[item["5"] - 1]["1"] if "5" in item else item.get("4"),
                "step_sync": 1 in item.get("6", []),
                "hidden": 2 in item.get("6", []),
                "summary": tuple(sorted(_AGGREGATES[number] for number in item.get("7", []))),
            }
            for item in packed
        ]
        return sorted(definitions, key=lambda item: (item["name"] or "", item["glob"] or ""))

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows, in the order of their offsets, each once however often it was sent."""
        return [json.loads(line) for line in self.lines(HISTORY)]

    @property
    def events(self) -> list[dict[str, Any]]:
        """System metrics."""
        return [json.loads(line) for line in self.lines(EVENTS)]

    @property
    def summary(self) -> dict[str, Any]:
        """The summary as last sent, without the client's own entry."""
        return {key: value for key, value in json.loads(self.raw_summary).items() if key != "_wandb"}

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

    def lines(self, stream: str) -> list[str]:
        with self._lock:
            return [line for _, line in sorted(self._streams.get(stream, {}).items())]

    def line_count(self, stream: str) -> int:
        """What a client that resumes is told: one more than the highest offset."""
        with self._lock:
            return max(self._streams.get(stream, {}), default=-1) + 1

    def put(self, name: str, content: bytes) -> None:
        self._files[name] = content

    def take_stream(self, body: dict[str, Any]) -> None:
        """Account for one file_stream request."""
        for name, chunk in (body.get("files") or {}).items():
            lines = self._streams.setdefault(name, {})
            for offset, line in enumerate(chunk["content"], chunk.get("offset", 0)):
                # The summary is one line that is replaced; in the other streams an offset is written once.
                self.retransmitted += offset in lines and name != SUMMARY
                lines[offset] = line
        self.uploaded += body.get("uploaded") or []
        self.preempting |= bool(body.get("preempting"))
        if body.get("complete"):
            self.complete, self.exitcode = True, body.get("exitcode")

    def take_upsert(self, values: dict[str, Any]) -> None:
        """Account for one UpsertBucket mutation: what it leaves null stays as it is."""
        for key, attribute in _UPSERT.items():
            if values.get(key) is not None:
                setattr(self, attribute, values[key])
        if values.get("config") is not None:
            self._config = json.loads(values["config"])
        if values.get("summaryMetrics") is not None:
            self._streams[SUMMARY] = {0: values["summaryMetrics"]}
