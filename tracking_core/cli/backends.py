"""`tracking backends`: what is installed, what each backend can do, and why one cannot be used."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, Literal

from tracking_core.backends.plugins import FIRST_PARTY, Adapter, Candidate, candidates, conflict, load
from tracking_core.backends.targets import COMMON_OPTIONS
from tracking_core.base.redaction import redact_text
from tracking_core.base.text import did_you_mean
from tracking_core.cli.bounded import TIMEOUT, bounded
from tracking_core.cli.output import STYLES, Output
from tracking_core.environment.settings import option_variable
from tracking_core.errors import AdapterError, AdapterVersionError
from tracking_core.protocol import CORE_CAPABILITIES, OPTIONAL_CAPABILITIES

Status = Literal["available", "missing", "broken", "conflict", "outdated"]
#: In the order in which they are shown; others follow.
_CAPABILITIES = (*CORE_CAPABILITIES, *OPTIONAL_CAPABILITIES, "resume")
#: Nothing to see in a list: how records reach a backend, not what it can show.
_INTERNAL = frozenset({"flush", "deliver"})
_STYLES = {"available": STYLES["ok"], "missing": STYLES["warning"]}


@dataclass(frozen=True, slots=True)
class BackendRow:
    """One entry point of the group.

    Args:
        name: What TRACKING_BACKEND says.
        distribution: The distribution that brings it; "" when unknown.
        version: Version of that distribution.
        module: What the entry point names.
        status: "available", "missing" (a package it needs), "broken", "conflict" (two distributions) or "outdated"
            (built for another version of the adapter API).
        problem: Why it is not available.
        remedy: What to do about it.
        packages: The packages it needs, with their versions; None for one that is missing.
        capabilities: What it can show or keep; None where it does not say.
        guarantee: How often a record arrives when delivery is repeated.
        precision: Of scalars that come back.
        description: What it is.
        options: Its options with their help; None where it takes any.
        extra: What installs what it needs.
    """

    name: str
    distribution: str
    version: str
    module: str
    status: Status
    problem: str = ""
    remedy: str = ""
    packages: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    capabilities: Sequence[str] | None = None
    guarantee: str = ""
    precision: str = ""
    description: str = ""
    options: Mapping[str, str] | None = None
    extra: str | None = None

    @property
    def is_error(self) -> bool:
        """Whether something is wrong with it; that a package is not installed is somebody's choice."""
        return self.status not in {"available", "missing"}

    @property
    def source(self) -> str:
        """Distribution and version."""
        return f"{self.distribution} {self.version}".strip() or "unknown"

    def as_json(self) -> dict[str, Any]:
        """The row as JSON values."""
        return asdict(self)


def list_backends(name: str | None = None, *, timeout: float = TIMEOUT) -> list[BackendRow]:
    """Look at the installed adapters; none of them keeps the others from being shown.

    Args:
        name: Only those of this name.
        timeout: Seconds that importing one may take.

    Returns:
        A row for each entry point, by name.
    """
    rows: list[BackendRow] = []
    for key, entries in candidates().items():
        if name is not None and key != name:
            continue
        rows.extend(_row(candidate, entries, timeout) for candidate in entries)
    return rows


def unknown(name: str) -> str:
    """What to say of a name that nothing provides."""
    installed = list(candidates())
    close = did_you_mean(name, installed)
    return f"no backend {name!r} is installed{close}; installed are {', '.join(installed) or 'none'}"


def _row(candidate: Candidate, entries: Sequence[Candidate], timeout: float) -> BackendRow:
    def failed(status: Status, problem: str, remedy: str) -> BackendRow:
        return BackendRow(
            candidate.name.lower(),
            candidate.distribution,
            candidate.version,
            candidate.value,
            status,
            redact_text(problem),
            remedy,
        )

    if len(entries) > 1:
        return failed("conflict", conflict(candidate.name, entries), "uninstall one of them")
    package = candidate.distribution or "the distribution that brings it"
    try:
        adapter = bounded(lambda: load(candidate), timeout)
    except TimeoutError as error:
        return failed("broken", f"importing {candidate.value} gives {error}", f"uninstall or upgrade {package}")
    except AdapterVersionError as error:
        return failed("outdated", str(error), f"bring tracking-core and {package} to versions that fit each other")
    except AdapterError as error:
        return failed("broken", str(error), f"upgrade {package}, or uninstall it if it is not used")
    return _loaded(adapter, candidate)


def _loaded(adapter: Adapter, candidate: Candidate) -> BackendRow:
    info = adapter.info
    missing = adapter.missing()
    status: Status = "missing" if missing else "available"
    problem = remedy = ""
    if missing:
        problem = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
        remedy = f"pip install '{info.extra or ' '.join(missing)}'"
    given = info.capabilities
    capabilities = None if given is None else [name for name in _CAPABILITIES if name in given]
    return BackendRow(
        adapter.name,
        candidate.distribution,
        candidate.version,
        candidate.value,
        status,
        problem,
        remedy,
        {module: None if module in missing else _version_of(module) for module in info.requires},
        capabilities,
        info.guarantee,
        info.precision,
        info.description,
        None if info.options is None else dict(info.options),
        info.extra,
    )


def _version_of(module: str) -> str:
    """Version of the distribution that a module comes from, found without importing it; "" when unknown."""
    top = module.partition(".")[0]
    try:
        return importlib.metadata.version(top)
    except importlib.metadata.PackageNotFoundError:
        pass
    try:
        return importlib.metadata.version(_distributions()[top][0])
    except (KeyError, IndexError, importlib.metadata.PackageNotFoundError):
        return ""


@cache
def _distributions() -> Mapping[str, list[str]]:
    # Reads the file list of every installed distribution: only when the short way did not help.
    return importlib.metadata.packages_distributions()


# ---------------------------------------------------------------- printing


def print_table(rows: Sequence[BackendRow]) -> None:
    """Print one line for each backend, and below what to do about those that cannot be used."""
    output = Output()
    output.table(
        ("backend", "status", "from", "needs", "guarantee", "capabilities", "description"),
        [
            (
                (row.name, "bold"),
                (row.status, _STYLES.get(row.status, STYLES["error"])),
                row.source,
                _packages(row),
                row.guarantee,
                _capabilities(row),
                row.description,
            )
            for row in rows
        ],
        whole=("status",),
        # `tracking backends NAME` has them.
        spare=("capabilities", "guarantee"),
    )
    _print_problems(output, rows)
    missing = [name for name in FIRST_PARTY if name not in {row.name for row in rows}]
    if missing:
        output.line()
        text = f"{', '.join(missing)}: the entry points of tracking-core itself are missing: reinstall it"
        output.item(("error    ", STYLES["error"]), text)


def print_details(rows: Sequence[BackendRow]) -> None:
    """Print everything that is known of one backend (or of those that claim one name)."""
    output = Output()
    for row in rows:
        output.line((row.name, "bold"), f" - {row.description}" if row.description else "")
        status = (row.status, _STYLES.get(row.status, STYLES["error"]))
        output.item("status        ", status, indent=2)
        output.item("from          ", f"{row.source} ({row.module})", indent=2)
        if row.status in {"available", "missing"}:
            output.item("needs         ", _packages(row), indent=2)
            output.item("guarantee     ", row.guarantee, indent=2)
            output.item("scalars       ", f"come back as {row.precision}", indent=2)
            output.item("capabilities  ", _capabilities(row), indent=2)
            _print_options(output, row)
        _print_problems(output, [row])


def _print_options(output: Output, row: BackendRow) -> None:
    output.line()
    if row.options is None:
        output.line("It declares no options: any option is passed on.")
    output.table(("option", "meaning"), list({**(row.options or {}), **COMMON_OPTIONS}.items()))
    output.line()
    variable = option_variable(row.name, "option")
    output.line(f"in a target {row.name}?option=value, in the environment {variable}, in the file [options.{row.name}]")


def _print_problems(output: Output, rows: Sequence[BackendRow]) -> None:
    said: set[str] = set()
    for row in rows:
        if row.problem and row.problem not in said:
            said.add(row.problem)
            level = "error" if row.is_error else "warning"
            output.line()
            output.item((f"{level:<9}", STYLES[level]), f"{row.name}: {row.problem}")
            if row.remedy and row.remedy not in row.problem:
                output.item("-> ", row.remedy, indent=9)


def _packages(row: BackendRow) -> str:
    if not row.packages:
        return "-"
    return ", ".join(
        f"{module} (missing)" if version is None else f"{module} {version}".rstrip()
        for module, version in row.packages.items()
    )


def _capabilities(row: BackendRow) -> str:
    if row.capabilities is None:
        return "" if row.is_error else "those of its methods"
    return " ".join(name for name in row.capabilities if name not in _INTERNAL) or "-"
