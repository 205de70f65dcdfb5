"""From what `start_run` is told about backends to the destinations of a run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tracking_core.backends.targets import (
    KEYS_COME,
    QUOTES,
    Target,
    check_options,
    parse_targets,
    redact_targets,
)
from tracking_core.base.redaction import redact_name
from tracking_core.environment.settings import Settings, absolute_path
from tracking_core.errors import SettingsError

ARGUMENT = "the argument backends"


def requested_targets(backends: Any, settings: Settings) -> list[Any]:
    """The targets and trackers that were asked for: the argument, or else what is set.

    Args:
        backends: None, a str of targets, a target, a tracker, or a sequence of these.
        settings: Environment and file.

    Returns:
        `Target` and tracker objects. `local` may be among them; `none` stands alone.

    Raises:
        SettingsError: Nothing, or something else, was given; or `none` stands beside others.
    """
    if backends is None:
        found: list[Any] = list(parse_targets(settings.get("backend") or "local", origin=settings.origin("backend")))
    else:
        parts: Sequence[Any] = [backends] if isinstance(backends, (str, Target)) or _is_tracker(backends) else backends
        found = []
        if not isinstance(parts, Sequence):
            raise SettingsError(f"backends: expected targets or trackers, got {type(backends).__name__}")
        for part in parts:
            if isinstance(part, str):
                found.extend(parse_targets(part, origin=ARGUMENT))
            elif isinstance(part, Target) or _is_tracker(part):
                found.append(part)
            else:
                raise SettingsError(f"backends: expected a target or a tracker, got {type(part).__name__}")
        if not found:
            raise SettingsError("backends: the list is empty; use 'local' for the run store only, 'none' for nothing")
    names = [target.name for target in found if isinstance(target, Target)]
    if "none" in names and len(found) > 1:
        raise SettingsError(
            "the backend 'none' records nothing, and cannot be combined with others; remove it, or the others"
        )
    return [with_options(target, settings) if isinstance(target, Target) else target for target in found]


def refuse_secrets(target: Target, *, origin: str) -> None:
    """Refuse a target that holds the value of a secret environment variable: targets are written down with the run.

    Raises:
        SettingsError: It does.
    """
    parts = {"": target.path, "//": target.authority, **target.options, **target.filters}
    for option, part in parts.items():
        if redact_name(part) != part:
            source = target.origins.get(option) or origin
            raise SettingsError(
                f"{source}: {redact_targets(str(target))!r} holds the value of a secret environment variable; "
                f"{KEYS_COME}"
            )


def local_root(requested: Sequence[Any]) -> str | None:
    """The root that a target `local:path` names, if there is one."""
    for target in requested:
        if isinstance(target, Target) and target.name == "local" and target.path:
            return target.path
    return None


def with_options(target: Target, settings: Settings) -> Target:
    """Add options from environment and file that the target itself does not set.

    Raises:
        SettingsError: One of them is a secret, or a filter that makes no sense.
    """
    found = settings.backend_options(target.name)
    missing = {
        key: setting
        for key, setting in found.items()
        if key not in target.options and key not in target.filters and setting.value
    }
    if not missing:
        return target
    own: dict[str, str] = {}
    filters: dict[str, str] = {}
    for key, setting in missing.items():
        if setting.value.startswith(QUOTES):
            raise SettingsError(
                f"{setting.origin}: the option {key!r} of {target.name!r} begins with a quotation mark; remove it"
            )
        if key in {"include", "exclude"} and any(one.strip() != one for one in setting.value.split("|")):
            raise SettingsError(
                f"{setting.origin}: the option {key!r} of {target.name!r} has a pattern with a blank at its beginning "
                "or end; remove it, or write [ ] if it belongs to the pattern"
            )
        more, others = check_options(target.name, {key: setting.value}, origin=setting.origin)
        own.update(more)
        filters.update(others)
    origins = {**target.origins, **{key: setting.origin for key, setting in missing.items()}}
    return replace(target, options={**own, **target.options}, filters={**filters, **target.filters}, origins=origins)


def absolute_target(target: Target) -> Target:
    """A target whose local path does not depend on the working directory: workers may run elsewhere, and later.

    Raises:
        SettingsError: The working directory was removed.
    """
    if target.authority or not target.path or re.match(r"[^/\\]+://", target.path):
        return target
    return replace(target, path=str(absolute_path(target.path, f"the target {str(target)!r}")))


def _is_tracker(value: Any) -> bool:
    return callable(getattr(value, "log_scalars", None)) and callable(getattr(value, "finish", None))
