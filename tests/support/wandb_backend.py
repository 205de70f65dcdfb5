"""The answers of the stand-in for the W&B server to the GraphQL operations of the real client.

Written for the operations of wandb 0.31: the client's core (runs, files, alerts), its artifacts (in the base class)
and its public API (`wandb.Api().run(path)` with history, summary, config and files).
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from typing import Any

from tests.support.wandb_artifacts import ArtifactBackend
from tests.support.wandb_state import CONSOLE, EVENTS, HISTORY, ServerAlert, ServerRun

_CREATED = "2026-01-01T00:00:00Z"


class Backend(ArtifactBackend):
    """What the server holds, and what it answers.

    `changed` guards all of it; whoever answers a request holds it.

    Args:
        entity: Who the API key belongs to; runs without an entity are theirs.
    """

    def __init__(self, entity: str) -> None:
        super().__init__()
        self.entity = entity
        self.changed = threading.Condition(threading.RLock())
        self.operations: list[tuple[str, dict[str, Any]]] = []
        self.unknown: list[str] = []

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Give the `data` of one GraphQL operation; of one that is not known, nothing."""
        self.operations.append((operation, variables))
        resolver = getattr(self, f"on_{operation}", None)
        if resolver is None:
            self.unknown.append(operation)
            return {}
        return resolver(variables)

    def store(self, kind: str, owner: str, name: str, content: bytes) -> None:
        """Take an uploaded file of a run or of an artifact, or an artifact's manifest."""
        if kind == "run":
            self.runs[owner].put(name, content)
        elif kind == "manifest":
            self.artifacts[owner].manifest = json.loads(content)
        else:
            self.artifacts[owner].put(name, content)

    def fetch(self, kind: str, owner: str, name: str) -> bytes | None:
        """Give a file back, under the address it was uploaded to."""
        if kind == "manifest":
            return json.dumps(self.artifacts[owner].manifest).encode()
        holder = self.runs if kind == "run" else self.artifacts
        return holder[owner].files.get(name) if owner in holder else None

    def fetch_digest(self, md5: str) -> bytes | None:
        """Give an artifact's file by the hexadecimal MD5 of its content."""
        contents = (content for artifact in self.artifacts.values() for content in artifact.files.values())
        return next((content for content in contents if hashlib.md5(content).hexdigest() == md5), None)

    # ---- the client's core

    def on_Viewer(self, v: dict[str, Any]) -> dict[str, Any]:
        return {
            "viewer": {
                "id": "viewer",
                "entity": self.entity,
                "username": self.entity,
                "email": f"{self.entity}@example.invalid",
                "flags": "{}",
                "teams": {"edges": [{"node": {"name": self.entity}}]},
            }
        }

    def on_ServerFeaturesQuery(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def on_UpsertBucket(self, v: dict[str, Any]) -> dict[str, Any]:
        run_id = v.get("name") or str(v.get("id")).removeprefix("storage-")
        run = self.runs.get(run_id)
        inserted = run is None
        if run is None:
            run = ServerRun(run_id, v.get("entity") or self.entity, v.get("project") or "uncategorized", self.changed)
            self.runs[run_id] = run
        if run.complete and v.get("name"):  # the core goes on with it; the public API, which says `id`, does not
            run.complete, run.exitcode, run.preempting = False, None, False
        run.take_upsert(v)
        project = {"id": "project", "name": run.project, "entity": {"id": "entity", "name": run.entity}}
        return {"upsertBucket": {"bucket": {**self._run(run), "project": project}, "inserted": inserted}}

    def on_RunResumeStatus(self, v: dict[str, Any]) -> dict[str, Any]:
        entity, project = v.get("entity") or self.entity, v.get("project") or "uncategorized"
        run = self._find(entity, project, v["name"])
        bucket = run and {
            **self._run(run),
            "historyTail": json.dumps(run.lines(HISTORY)[-1:]),
            "eventsTail": json.dumps(run.lines(EVENTS)[-1:]),
            "logLineCount": run.line_count(CONSOLE),
            "eventsLineCount": run.line_count(EVENTS),
            "wandbConfig": json.dumps({"t": run.raw_config.get("_wandb", {}).get("value", {}).get("t", {})}),
        }
        return {
            "model": {"id": "project", "name": project, "entity": {"id": "entity", "name": entity}, "bucket": bucket}
        }

    def on_OrganizationCoreWeaveOrganizationID(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"organization": None}}

    def on_RunStoppedStatus(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"run": {"stopped": False}}}

    def on_CreateRunFiles(self, v: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[v["run"]]
        files = [{"name": name, "uploadUrl": self._file_url("run", run.id, name)} for name in v["files"]]
        return {"createRunFiles": {"runID": run.storage_id, "uploadHeaders": [], "files": files}}

    def on_NotifyScriptableRunAlert(self, v: dict[str, Any]) -> dict[str, Any]:
        alert = ServerAlert(v["title"], v["text"], v.get("severity") or "INFO", v.get("waitDuration"))
        self.runs[v["runName"]].alerts.append(alert)
        return {"notifyScriptableRunAlert": {"success": True}}

    # ---- the public API

    def on_GetDefaultEntity(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"viewer": {"id": "viewer", "entity": self.entity}}

    def on_Run(self, v: dict[str, Any]) -> dict[str, Any]:
        run = self._find(v["entity"], v["project"], v["name"])
        return {"project": {"run": run and self._run(run)}}

    def on_Runs(self, v: dict[str, Any]) -> dict[str, Any]:
        runs = [run for run in self.runs.values() if (run.entity, run.project) == (v["entity"], v["project"])]
        edges = [{"node": self._run(run), "cursor": run.id} for run in runs]
        page = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
        return {"project": {"internalId": "1", "runCount": len(runs), "readOnly": False, "runs": page}}

    def on_RunState(self, v: dict[str, Any]) -> dict[str, Any]:
        return self.on_Run({**v, "name": v.get("name") or v.get("run")})

    def on_RunHistoryKeys(self, v: dict[str, Any]) -> dict[str, Any]:
        return self.on_Run(v)

    def on_RunFullHistory(self, v: dict[str, Any]) -> dict[str, Any]:
        # Sampling is not imitated: all rows come.
        run = self.runs[v["name"]]
        return {"project": {"run": {"history": run.lines(HISTORY), "events": run.lines(EVENTS)}}}

    def on_RunSampledHistory(self, v: dict[str, Any]) -> dict[str, Any]:
        rows = self.runs[v["name"]].history
        return {"project": {"run": {"sampledHistory": [_sample(rows, json.loads(spec)) for spec in v["specs"]]}}}

    def on_SampledHistoryPage(self, v: dict[str, Any]) -> dict[str, Any]:
        return self.on_RunSampledHistory({"name": v["run"], "specs": [v["spec"]]})

    def on_RunParquetHistory(self, v: dict[str, Any]) -> dict[str, Any]:
        # Nothing was exported to Parquet yet: all rows are live.
        rows = self.runs[v["runName"]].history
        return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": _plain(rows)}}}}

    def on_HistoryPage(self, v: dict[str, Any]) -> dict[str, Any]:
        lines = self.runs[v["run"]].lines(HISTORY)
        wanted = [line for line in lines if v["minStep"] <= json.loads(line)["_step"] < v["maxStep"]]
        return {"project": {"run": {"history": wanted[: v["pageSize"]]}}}

    def on_RunFiles(self, v: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[v["name"]]
        names = [name for name in run.files if name in (v.get("fileNames") or run.files)]
        edges = [{"node": self._file("run", run.id, name, len(run.files[name])), "cursor": name} for name in names]
        files = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
        return {"project": {"internalId": "1", "run": {"fileCount": len(names), "files": files}}}

    def _find(self, entity: str, project: str, run_id: str) -> ServerRun | None:
        run = self.runs.get(run_id)
        return run if run is not None and (run.entity, run.project) == (entity, project) else None

    def _run(self, run: ServerRun) -> dict[str, Any]:
        return {
            "id": run.storage_id,
            "projectId": "1",
            "name": run.id,
            "displayName": run.display_name,
            "description": None,
            "config": json.dumps(run.raw_config),
            "summaryMetrics": run.raw_summary,
            "systemMetrics": "{}",
            "historyLineCount": run.line_count(HISTORY),
            "historyKeys": {"lastStep": max((row["_step"] for row in run.history), default=-1), "keys": {}},
            "state": run.state,
            "tags": run.tags,
            "notes": run.notes,
            "group": run.group,
            "jobType": run.job_type,
            "commit": run.commit,
            "sweepName": None,
            "readOnly": False,
            "createdAt": _CREATED,
            "heartbeatAt": _CREATED,
            "user": {"name": self.entity, "username": self.entity},
        }


def _sample(rows: list[dict[str, Any]], spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the rows that have all the keys of a sampling specification, and those keys only; there is no sampling."""
    low, high = spec.get("minStep", 0), spec.get("maxStep", float("inf"))
    full = [row for row in rows if low <= row["_step"] <= high and all(key in row for key in spec["keys"])]
    return [_plain({key: row[key] for key in spec["keys"]}) for row in full]


def _plain(value: Any) -> Any:
    """Write non-finite numbers as strings, since an answer, other than a line of the history, is strict JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
