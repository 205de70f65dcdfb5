"""Running the checks of the contract, one at a time or all of them."""

from __future__ import annotations

import contextlib
import copy
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tracking_core.backends.plugins import find_adapter
from tracking_core.backends.targets import Target, parse_target
from tracking_core.errors import SettingsError
from tracking_core.testing.contract.context import Context
from tracking_core.testing.contract.outcomes import ContractFailure, ContractSkip
from tracking_core.testing.contract.registry import Check, expected_failures, select_checks
from tracking_core.testing.contract.report import CheckResult, ContractReport
from tracking_core.testing.contract.watching import run_within

if TYPE_CHECKING:
    from tracking_core.testing.contract.harness import AdapterHarness


def run_check(one: Check, harness: AdapterHarness, directory: Path) -> CheckResult:
    """Run one check in an empty directory.

    An expected failure that fails is "expected"; if it passes, it has "failed".

    Args:
        one: The check.
        harness: The harness of the adapter.
        directory: A directory of its own.
    """
    started = time.monotonic()
    reason = expected_failures(harness).get(one.name)
    ctx = Context(harness, directory)

    def work() -> None:
        for capability in sorted(one.needs):
            if not ctx.supports(capability):
                ctx.skip(f"the adapter does not declare the capability {capability!r}")
        one.function(ctx)

    result: CheckResult
    try:
        # An adapter behind a run is opened, used and finished in a worker's thread: so it is here.
        if one.main_thread and threading.current_thread() is threading.main_thread():
            work()
        else:
            run_within(work, harness.check_limit, f"contract check {one.name}")
    except ContractSkip as skip:
        result = CheckResult(one.name, "skipped", str(skip))
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever an adapter raises is a finding about it
        result = CheckResult(one.name, "failed", _message(error), one.doc, error=error)
    else:
        result = CheckResult(one.name, "passed")
    if reason is not None:
        result = _as_expected(result, reason)
    return CheckResult(
        result.name, result.outcome, result.message, result.doc, time.monotonic() - started, result.error
    )


def check_adapter(
    target: str | Target | None = None,
    harness: AdapterHarness | type[AdapterHarness] | None = None,
    checks: Iterable[str] | None = None,
    *,
    directory: Path | None = None,
    raise_on_failure: bool = False,
) -> ContractReport:
    """Check an adapter against the contract, without pytest.

    Args:
        target: A target as in TRACKING_BACKEND. Its options are added to those of the harness's own target. Every check
            records into a fresh directory, so its path is used only if it holds `{dir}`.
        harness: The harness; None uses the harness of the adapter (its hook `tracking_harness`).
        checks: Names of checks or groups; None runs all.
        directory: Directory for the data of the checks, which stays; None uses a temporary directory.
        raise_on_failure: Whether a failing check raises, once all have run.

    Returns:
        The result of each check.

    Raises:
        SettingsError: The adapter cannot be found or brings no harness, or a check does not exist.
        ContractFailure: A check failed and `raise_on_failure` is set.

    Example:
        >>> from tracking_core.testing import check_adapter, faults
        >>> report = check_adapter(harness=faults.harness(faults.Drops), checks=["scalars"])
        >>> list(report.failed)
        ['scalars.nothing_dropped']
    """
    chosen = _harness(target, harness)
    selected = select_checks(checks)
    expected_failures(chosen)
    name = chosen.adapter().name
    with contextlib.ExitStack() as stack:
        if directory is None:
            # A backend that did not close its files keeps a directory from being removed on some systems.
            temporary = tempfile.TemporaryDirectory(prefix="tracking-contract-", ignore_cleanup_errors=True)
            directory = Path(stack.enter_context(temporary))
        results: list[CheckResult] = []
        for one in selected:
            place = directory / one.name
            place.mkdir(parents=True, exist_ok=True)
            results.append(run_check(one, chosen, place))
    report = ContractReport(name, tuple(results))
    if raise_on_failure and not report.ok:
        raise ContractFailure(str(report))
    return report


def _harness(target: str | Target | None, harness: AdapterHarness | type[AdapterHarness] | None) -> AdapterHarness:
    wanted = parse_target(target, origin="check_adapter") if isinstance(target, str) else target
    if harness is None:
        if wanted is None:
            raise SettingsError("check_adapter: expected the name of an adapter, or a harness")
        found = find_adapter(wanted.name, origin="check_adapter").harness()
        if found is None:
            raise SettingsError(
                f"check_adapter: the adapter {wanted.name!r} has no contract harness; pass harness=…, or let its "
                "hook tracking_harness() return a subclass of tracking_core.testing.AdapterHarness"
            )
        harness = cast("AdapterHarness | type[AdapterHarness]", found)
    chosen = harness() if isinstance(harness, type) else harness
    if wanted is None:
        return chosen
    own = parse_target(chosen.target, origin=type(chosen).__name__)
    if own.name != wanted.name:
        raise SettingsError(
            f"check_adapter: {type(chosen).__name__} is the harness of {own.name!r}, not of {wanted.name!r}"
        )
    place = wanted if "{dir}" in wanted.path else own
    merged = Target(own.name, place.path, place.authority, {**own.options, **wanted.options})
    chosen = copy.copy(chosen)
    chosen.target = str(merged).replace("%7Bdir%7D", "{dir}")
    return chosen


def _as_expected(result: CheckResult, reason: str) -> CheckResult:
    if result.outcome == "failed":
        return CheckResult(result.name, "expected", reason, result.doc, error=result.error)
    if result.outcome == "passed":
        message = f"passed, but the harness expects it to fail ({reason}); remove it from expected_failures"
        return CheckResult(result.name, "failed", message, result.doc, error=ContractFailure(message))
    return result


def _message(error: BaseException) -> str:
    text = str(error)
    return text if isinstance(error, ContractFailure) else f"{type(error).__name__}: {text}"
