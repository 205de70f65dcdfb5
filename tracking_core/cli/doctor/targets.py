"""The targets of a run: grammar, options, packages, and what each adapter finds about its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tracking_core.backends.destinations import absolute_target, refuse_secrets, requested_targets, with_options
from tracking_core.backends.hooks import Finding
from tracking_core.backends.plugins import Adapter, find_adapter, refuse_joined
from tracking_core.backends.targets import Target, parse_target, parse_targets, redact_option, redact_targets
from tracking_core.cli.bounded import bounded
from tracking_core.cli.doctor.report import OptionRow, TargetLook
from tracking_core.delivery.destinations import destinations
from tracking_core.environment.settings import Settings
from tracking_core.errors import AdapterError, SettingsError

_ARGUMENT = "argument"


def read_targets(arguments: Sequence[str], settings: Settings) -> tuple[list[TargetLook], list[Target], list[Finding]]:
    """Parse the targets, each for itself.

    Args:
        arguments: Targets of the command line; without one those that are set.
        settings: Where they are set, and their options.

    Returns:
        A look at each, those that parse with their options from environment and file, and what is wrong with others.
    """
    origin = _ARGUMENT if arguments else settings.origin("backend")
    texts = arguments or [settings.get("backend") or "local"]
    looks: list[TargetLook] = []
    targets: list[Target] = []
    found: list[Finding] = []
    for text in texts:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        if not parts:
            found.append(_grammar(_error_of(text, origin)))
        for part in parts:
            try:
                target = parse_target(part, origin=origin)
            except SettingsError as error:
                looks.append(TargetLook(redact_targets(part), "", origin))
                found.append(_grammar(error))
                continue
            try:
                target = with_options(target, settings)
            except SettingsError as error:
                found.append(Finding("error", str(error), "take that option out there"))
            looks.append(_look(target))
            targets.append(target)
    return looks, targets, found


def check_targets(targets: Sequence[Target], settings: Settings, timeout: float) -> list[Finding]:
    """Check targets: adapter, options, packages, and what the adapter's own diagnosis says.

    Args:
        targets: What parses.
        settings: As `read_targets` had them.
        timeout: Seconds that one adapter may take.
    """
    found: list[Finding] = []
    for target in targets:
        found.extend(_check(target, timeout))
    if not any(finding.level == "error" for finding in found):
        # Each is right by itself; what remains is that they do not fit together.
        try:
            bounded(lambda: destinations(requested_targets(list(targets), settings)), timeout)
        except (SettingsError, TimeoutError) as error:
            found.append(Finding("error", str(error)))
    return found


def _check(target: Target, timeout: float) -> list[Finding]:
    name = redact_targets(str(target))
    try:
        adapter = bounded(lambda: find_adapter(target.name, origin=target.origin), timeout)
        refuse_joined(target)
        adapter.check_options(target)
    except TimeoutError as error:
        return [Finding("error", f"{name}: importing the adapter gives {error}")]
    except AdapterError as error:
        return [Finding("error", str(error), "tracking backends lists the installed backends")]
    except SettingsError as error:
        return [Finding("error", str(error), f"tracking backends {target.name} shows its options")]
    missing = adapter.missing()
    if missing:
        install = adapter.info.extra or " ".join(missing)
        return [Finding("error", f"{name}: {', '.join(missing)} is not installed", f"pip install '{install}'")]
    place = absolute_target(target) if adapter.info.local_path else target
    refused: list[Finding] = []
    try:
        refuse_secrets(target, origin=target.origin)
        bounded(lambda: adapter.check_target(replace(place, named=True)), timeout)
    except TimeoutError as error:
        return [Finding("error", f"{name}: checking the target gives {error}")]
    except SettingsError as error:
        refused = [Finding("error", str(error), "no run starts with it")]
    found = [Finding(one.level, f"{name}: {one.message}", one.remedy) for one in _diagnose(adapter, target, timeout)]
    if not any(one.level == "error" for one in found):
        # What the diagnosis finds wrong says the same, and more.
        found = refused + found
    if target.name == "local" and target.filters:
        remedy = "leave the filters out; they are for other targets"
        found.append(Finding("warning", f"{name}: the local store keeps everything, and ignores filters", remedy))
    return found or [Finding("ok", f"{name}: the adapter is installed, and has no checks")]


def _diagnose(adapter: Adapter, target: Target, timeout: float) -> list[Finding]:
    place = absolute_target(target) if adapter.info.local_path else target
    try:
        return bounded(lambda: adapter.diagnose(place), timeout)
    except TimeoutError as error:
        remedy = "is its server down, or a firewall in between? A run would not wait: records stay in the run store"
        return [Finding("error", f"its own checks give {error}", remedy)]


def _look(target: Target) -> TargetLook:
    options = [
        OptionRow(option, redact_option(option, value), target.origins.get(option, target.origin))
        for option, value in {**target.options, **target.filters}.items()
    ]
    return TargetLook(redact_targets(str(target)), target.name, target.origin, options)


def _error_of(text: str, origin: str) -> SettingsError:
    try:
        parse_targets(text, origin=origin)
    except SettingsError as error:
        return error
    return SettingsError(f"{origin}: names no backend")


def _grammar(error: SettingsError) -> Finding:
    return Finding("error", str(error), "a target is name[:path | ://authority/path][?option=value&…]")
