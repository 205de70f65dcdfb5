"""What `init` returns: a run under the names that W&B's has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from tracking_core.compat.wandb.artifacts import Artifact
from tracking_core.compat.wandb.configuration import Config, Summary
from tracking_core.compat.wandb.histograms import Histogram
from tracking_core.compat.wandb.missing import no_such_name
from tracking_core.compat.wandb.tables import Table

if TYPE_CHECKING:
    from tracking_core.runs.run import Run as BaseRun

_DEEPEST = 64
_HAS = (
    "config", "dir", "finish", "group", "id", "job_type", "log", "log_artifact", "name", "native", "notes", "project",
    "step", "summary", "tags", "tracking", "url",
)  # fmt: skip


class Run:
    """A run under W&B's names. Everything is recorded by `tracking`, the run of tracking-core.

    Args:
        run: That run.
        facts: What else it was started with: group, job type and notes.
    """

    def __init__(self, run: BaseRun, facts: Mapping[str, Any]) -> None:
        self.tracking = run
        """The run of tracking-core, for what W&B has no name for."""
        self.config = Config(run)
        """The configuration."""
        self.summary = Summary(run)
        """What describes the run as a whole."""
        self.group: str | None = facts.get("group")
        """Group of runs it belongs to."""
        self.job_type: str | None = facts.get("job_type")
        """Kind of job."""
        self.notes: str | None = facts.get("notes")
        """Longer description."""
        self._step = run.step

    @property
    def id(self) -> str:
        """Identity of the run."""
        return self.tracking.id

    @property
    def name(self) -> str:
        """The display name."""
        return self.tracking.name

    @property
    def project(self) -> str:
        """Project of the run."""
        return self.tracking.project

    @property
    def dir(self) -> str:
        """Its directory in the run store."""
        return str(self.tracking.dir)

    @property
    def tags(self) -> tuple[str, ...]:
        """Labels."""
        return self.tracking.tags

    @property
    def url(self) -> str | None:
        """Where a backend shows it; None where none does, or it is not open yet."""
        return self.tracking.url()

    @property
    def step(self) -> int:
        """The step that the next call of `log` without one has."""
        return self._step

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return self.tracking.status == "running"

    def log(self, data: Mapping[str, Any], step: Any = None, commit: bool | None = None) -> None:
        """Record values by name. It never raises: what cannot be recorded is left out, counted and warned about once.

        Args:
            data: Names to numbers, text, `Image`, `Histogram`, `Table`, lists of images, figures, or whatever else
                `Run.log` of tracking-core takes; nested mappings are joined with "/".
            step: The step; None takes the current one. A step that goes back is recorded at that step.
            commit: Whether the next call without a step has the next one. None: only if no step was given.
        """
        at = self._take(step, commit)
        rest, own = _split(data, "", 0)
        for name, value in own:
            value.log_to(self.tracking, name, at)
        if rest or not isinstance(data, Mapping):
            self.tracking.log(rest, step=at)

    def _take(self, step: Any, commit: bool | None) -> Any:
        if step is None:
            at = self._step
            if commit is not False:
                self._step += 1
            return at
        # A step on a device is not waited for, and does not count.
        if isinstance(step, Integral) and not isinstance(step, bool):
            self._step = max(self._step, int(step) + bool(commit))
        return step

    def log_artifact(
        self,
        artifact_or_path: Artifact | str | Path,
        name: str | None = None,
        type: str | None = None,  # noqa: A002 - W&B's word
        aliases: Sequence[str] | None = None,
        **_: Any,
    ) -> Artifact:
        """Store an artifact as a new version: it is in the run store when this returns.

        Args:
            artifact_or_path: An `Artifact`, or the path of a file or directory.
            name: Name of the artifact, for a path; None takes `run-<id>-` and the name of the file.
            type: Its kind, for a path; None means "unspecified".
            aliases: Further names of the version; "latest" is always one.

        Returns:
            The artifact, with its version.
        """
        labels = [aliases] if isinstance(aliases, str) else aliases
        if isinstance(artifact_or_path, Artifact):
            artifact_or_path.log_to(self.tracking, labels)
            return artifact_or_path
        path = Path(artifact_or_path)
        artifact = Artifact(name or f"run-{self.id}-{path.name}", type or "unspecified")
        if path.is_dir():
            artifact.add_dir(path, policy="immutable")
        else:
            # One that is not there is left to whoever reads it, who warns and goes on.
            artifact.files[path.name] = path
        artifact.log_to(self.tracking, labels)
        return artifact

    def native(self, target: str = "wandb") -> Any:
        """A backend's own object, such as W&B's run; see `Run.native` of tracking-core."""
        return self.tracking.native(target)

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """End the run.

        Args:
            exit_code: Anything but 0 or None ends it as failed.
            quiet: Changes nothing.
        """
        del quiet
        self.tracking.finish("failed" if exit_code else "finished")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.tracking.__exit__(kind, error, trace)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(no_such_name("wandb.run", name, _HAS), name=name)

    def __repr__(self) -> str:
        return f"<wandb.Run over {self.tracking!r}>"


def _split(data: Any, prefix: str, depth: int) -> tuple[Any, list[tuple[str, Histogram | Table]]]:
    """What a run takes as it is, and what knows itself how it is recorded, with its whole name."""
    if type(data) is not dict or depth > _DEEPEST:
        return data, []
    rest: dict[Any, Any] = {}
    own: list[tuple[str, Histogram | Table]] = []
    for key, value in cast("dict[Any, Any]", data).items():
        if isinstance(value, (Histogram, Table)):
            own.append((f"{prefix}{key}", value))
        elif type(value) is dict:
            inner, found = _split(value, f"{prefix}{key}/", depth + 1)
            own += found
            if inner or not found:
                rest[key] = inner
        else:
            rest[key] = value
    return rest, own
