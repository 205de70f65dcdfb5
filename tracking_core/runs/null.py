"""The run of `TRACKING_BACKEND=none`: it has a name, and records nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tracking_core.delivery.report import DeliveryReport
from tracking_core.errors import InvalidValueError, SettingsError
from tracking_core.runs.config import RunConfig, change
from tracking_core.runs.health import Health
from tracking_core.runs.outcome import check_status
from tracking_core.runs.run import Run
from tracking_core.wrappers import NullTracker

if TYPE_CHECKING:
    from tracking_core.values import ArtifactRef


class NullRun(NullTracker, Run):
    """A run that records nothing. A call costs well under 1 µs.

    Args:
        facts: What `run.json` would say.
        directory: Where the run would be.
        on_enter: Called with the run when its `with` block begins.
        on_finish: Called with the run when it ends.
        origin: Says whether the run was resumed, and at which step it began, as far as another process knows.
        say: Called then with what there is to say.
        why: Why nothing is recorded.
    """

    def __init__(
        self,
        facts: Mapping[str, Any],
        directory: Path,
        on_enter: Callable[[Run], None],
        on_finish: Callable[[Run], None],
        origin: Callable[[], tuple[bool, int]] = lambda: (False, 0),
        *,
        say: Callable[[str], None] = lambda _: None,
        why: str = "",
    ) -> None:
        self._say, self._why = say, why
        self._facts = facts
        self._dir = directory
        self._on_enter = on_enter
        self._on_finish = on_finish
        self._config = RunConfig(facts["config"])
        self._origin = origin
        self._status = "running"

    def moved(self, directory: Path, facts: Mapping[str, Any]) -> None:
        """There is no directory that could be gone; it is only named anew."""
        self._dir, self._facts = directory, {**self._facts, "id": facts["id"]}

    @property
    def health(self) -> Health:
        """Nothing is recorded, and so nothing is wrong."""
        return Health(durability="none")

    @property
    def summary(self) -> Mapping[str, Any]:
        """Nothing is recorded."""
        return MappingProxyType({})

    @property
    def should_stop(self) -> bool:
        """Nobody asks."""
        return False

    @property
    def resumed(self) -> bool:
        """Whether the process that records continues a run, as far as that is known here; see `step`."""
        return self._origin()[0]

    @property
    def step(self) -> int:
        """Where the run began: 0, or what the process that records says, so that all of them begin at one step.

        It is asked under `jax.distributed`; the first question may wait until that process has opened the run.
        """
        return self._origin()[1]

    def url(self, target: str | None = None) -> str | None:  # noqa: ARG002 - the run's signature
        """There is no address."""
        return None

    def native(self, target: str) -> Any:
        """There is no backend.

        Raises:
            SettingsError: Always.
        """
        raise SettingsError(f"TRACKING_BACKEND=none: there is no open target {target!r}")

    def log(self, values: Any, step: Any = None, **keywords: Any) -> None:
        """Do nothing."""

    def log_config(self, config: Any) -> None:
        """Change the configuration that the run shows."""
        from tracking_core.values.config import to_plain

        try:
            change(self._config, to_plain(config))
        except InvalidValueError:
            return

    def log_artifact(
        self,
        artifact: Any,
        *,
        name: Any = None,
        type: Any = "file",  # noqa: A002 - the protocol's word
        metadata: Any = None,
        aliases: Any = (),
    ) -> ArtifactRef:
        """Do nothing.

        Returns:
            A reference without a version.
        """
        # Objects that are no str may do anything when they are asked for one.
        name, type = (str.__str__(one) if isinstance(one, str) else "" for one in (name, type))  # noqa: A001
        return super().log_artifact(artifact, name=name, type=type or "file", metadata=metadata, aliases=aliases)

    def use_artifact(self, artifact: Any) -> ArtifactRef:
        """Do nothing.

        Returns:
            A reference without a version.
        """
        from tracking_core.values import ArtifactRef

        return artifact if isinstance(artifact, ArtifactRef) else self.log_artifact(None, name=artifact)

    def flush(self, timeout: float | None = None, *, local: bool = False) -> DeliveryReport:  # noqa: ARG002 - the run's
        """Nothing waits."""
        return DeliveryReport({}, self._status)

    def finish(  # pyright: ignore[reportIncompatibleMethodOverride] - a run says what became of its records
        self,
        status: str = "finished",
        timeout: float = 60.0,  # noqa: ARG002
        *,
        error: str | None = None,  # noqa: ARG002
    ) -> DeliveryReport:
        """End the run.

        Raises:
            SettingsError: There is no such status.
        """
        check_status(status)
        if self._status == "running":
            self._on_finish(self)
            self._status = status
            self._say(f"run {self.name} {status}: {self._why}")
        return DeliveryReport({}, self._status)

    def await_end(self, timeout: float = 60.0) -> None:
        """Do nothing."""

    @property
    def _forked(self) -> bool:
        return False
