"""`tracking doctor`: looks at everything a run depends on, and says what to do about what is wrong.

The checks return facts and findings; `rendering` prints them. No check can keep the others from being made: each has
a limit of time, and an error of its own is a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tracking_core.backends.hooks import Finding
from tracking_core.backends.targets import Target
from tracking_core.cli.bounded import TIMEOUT, bounded
from tracking_core.cli.doctor.report import Diagnosis, StoreLook

__all__ = ["Diagnosis", "examine"]

T = TypeVar("T")


def examine(targets: Sequence[str] = (), *, timeout: float = TIMEOUT) -> Diagnosis:
    """Look at settings, run store, backends, targets and recent runs, as they are for the working directory.

    Args:
        targets: Targets, as TRACKING_BACKEND has them; without one those that are set are checked.
        timeout: Seconds that each check may take.
    """
    from tracking_core.cli.backends import list_backends
    from tracking_core.cli.doctor.advice import advise
    from tracking_core.cli.doctor.configuration import check_settings, read_settings, setting_rows
    from tracking_core.cli.doctor.history import check_runs, misplaced_runs, recent_runs
    from tracking_core.cli.doctor.installed import check_backends
    from tracking_core.cli.doctor.mirrors import check_mirror
    from tracking_core.cli.doctor.targets import check_targets, read_targets

    diagnosis = Diagnosis()

    def attempt(section: str, what: str, work: Callable[[], T], otherwise: T, *, limit: float = timeout) -> T:
        try:
            return bounded(work, limit)
        except Exception as error:  # noqa: BLE001 - a check that fails must not hide the others
            reason = str(error) if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
            diagnosis.add(section, [Finding("error", f"{what}: {reason}")])
            return otherwise

    settings, found = read_settings()
    diagnosis.add("settings", found)
    diagnosis.settings_file = None if settings.file is None else str(settings.file)

    # No limit for the whole: each adapter has its own.
    diagnosis.backends = list_backends(timeout=timeout)
    diagnosis.settings = setting_rows(settings, targets, [row.name for row in diagnosis.backends])
    diagnosis.add("settings", check_settings(settings, diagnosis.backends))
    diagnosis.add(
        "backends", attempt("backends", "the installed backends", _of(check_backends, diagnosis.backends), [])
    )

    diagnosis.targets, parsed, found = read_targets(targets, settings)
    diagnosis.add("targets", [*found, *check_targets(parsed, settings, timeout)])

    mirror = attempt("run store", "the mirror", lambda: check_mirror(settings), [])
    root, origin = _root(parsed, settings.get("dir"), settings.origin("dir"))
    diagnosis.store, found = attempt(
        "run store", f"{root}", lambda: _store(root, origin, settings.get("dir")), (None, [])
    )
    diagnosis.add("run store", [*found, *mirror])
    diagnosis.runs = attempt("recent runs", f"the runs under {root}", lambda: recent_runs(root), [])
    diagnosis.add("recent runs", check_runs(diagnosis.runs))
    misplaced = attempt("recent runs", "the temporary directory", misplaced_runs, [])
    diagnosis.advice = advise(diagnosis, misplaced)
    return diagnosis


def _of(work: Callable[[Sequence[T]], list[Finding]], rows: Sequence[T]) -> Callable[[], list[Finding]]:
    return lambda: work(rows)


def _root(targets: Sequence[Target], configured: str | None, origin: str) -> tuple[Path, str]:
    """The root of the run store, and where it came from."""
    from tracking_core.backends.destinations import local_root

    named = local_root(targets)
    if named is not None:
        return Path(named).expanduser().absolute(), "target"
    return Path(configured or "tracking_runs").expanduser().absolute(), origin


def _store(root: Path, origin: str, configured: str | None) -> tuple[StoreLook | None, list[Finding]]:
    from tracking_core.cli.doctor.mirrors import refused_root
    from tracking_core.cli.doctor.storage import check_store

    refused = refused_root(configured, origin) if origin != "target" else None
    return (None, refused) if refused is not None else check_store(root, origin)
