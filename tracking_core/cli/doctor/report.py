"""What the doctor found, as data: facts by section, findings, and advice."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tracking_core._version import __version__
from tracking_core.backends.hooks import Finding
from tracking_core.base.redaction import redact_text
from tracking_core.cli.backends import BackendRow

SECTIONS = ("settings", "run store", "backends", "targets", "recent runs")
"""Where findings belong, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class SettingRow:
    """A setting as it stands.

    Args:
        key: Its name in the settings file.
        variable: Its environment variable.
        value: Its value, without secrets; "" for none.
        origin: Where the value came from.
        otherwise: What happens without a value.
    """

    key: str
    variable: str
    value: str
    origin: str
    otherwise: str = ""


@dataclass(frozen=True, slots=True)
class OptionRow:
    """An option of a backend as it stands.

    Args:
        option: Its name.
        value: Its value, without secrets.
        origin: Where the value came from.
    """

    option: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class TargetLook:
    """A target that was checked.

    Args:
        target: The target without secrets: in canonical form, or as it was written where that does not parse.
        backend: Name of the adapter; "" where it does not parse.
        origin: Where it was written.
        options: Its options and filters.
    """

    target: str
    backend: str
    origin: str
    options: Sequence[OptionRow] = ()


@dataclass(frozen=True, slots=True)
class StoreLook:
    """The root of the run store.

    Args:
        root: Its absolute path.
        exists: Whether it is there.
        writable: Whether it can be written, or created.
        free_bytes: Free space; None when unknown.
        filesystem: Type of the file system, such as "ext4"; "" when unknown.
        device: What is mounted, such as "server:/export".
        kind: "local", "network" or "memory".
        append_seconds: Median time to append one record to a file there; None when it was not measured.
    """

    root: str
    exists: bool = False
    writable: bool = False
    free_bytes: int | None = None
    filesystem: str = ""
    device: str = ""
    kind: str = "local"
    append_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class DeliveryLook:
    """How far one target has come in a run.

    Args:
        target: The target in canonical form.
        pending: Records that have not reached it.
        exact: Whether `pending` was counted; otherwise it is about so many events.
        failed: Records that it refused or failed on.
        opened: Whether it was ever open.
    """

    target: str
    pending: int = 0
    exact: bool = True
    failed: int = 0
    opened: bool = True


@dataclass(frozen=True, slots=True)
class RunLook:
    """A recent run.

    Args:
        id: Identity.
        name: The display name.
        project: Its project.
        status: What it was finished with, "running" or "crashed".
        started: Seconds since the epoch.
        dir: Its directory.
        targets: How far each target has come.
        dropped: How many values were not recorded, by reason; known once the run is finished.
    """

    id: str
    name: str
    project: str
    status: str
    started: float
    dir: str
    targets: Sequence[DeliveryLook] = ()
    dropped: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do if something is as it should not be.

    Args:
        topic: The complaint: "if …".
        seen: What the doctor sees here that bears on it.
        remedies: What to try.
    """

    topic: str
    seen: Sequence[str]
    remedies: Sequence[str]


@dataclass
class Diagnosis:
    """Everything the doctor found."""

    settings: list[SettingRow] = field(default_factory=list[SettingRow])
    settings_file: str | None = None
    store: StoreLook | None = None
    backends: list[BackendRow] = field(default_factory=list[BackendRow])
    targets: list[TargetLook] = field(default_factory=list[TargetLook])
    runs: list[RunLook] = field(default_factory=list[RunLook])
    advice: list[Advice] = field(default_factory=list[Advice])
    findings: dict[str, list[Finding]] = field(default_factory=lambda: {section: [] for section in SECTIONS})

    def add(self, section: str, findings: Iterable[Finding]) -> None:
        """Add findings to a section; secrets in them are removed."""
        self.findings[section].extend(
            Finding(one.level, redact_text(str(one.message)), redact_text(str(one.remedy))) for one in findings
        )

    @property
    def ok(self) -> bool:
        """Whether nothing is an error."""
        return not any(one.level == "error" for found in self.findings.values() for one in found)

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "ok": self.ok,
            "version": __version__,
            "python": sys.version.split()[0],
            "settings": [asdict(row) for row in self.settings],
            "settings_file": self.settings_file,
            "store": None if self.store is None else asdict(self.store),
            "backends": [row.as_json() for row in self.backends],
            "targets": [asdict(target) for target in self.targets],
            "runs": [asdict(run) for run in self.runs],
            "findings": [
                {"section": section, "level": one.level, "message": one.message, "remedy": one.remedy}
                for section, found in self.findings.items()
                for one in found
            ],
            "advice": [asdict(advice) for advice in self.advice],
        }
