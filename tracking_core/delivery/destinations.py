"""Destinations of a run: checked targets, each with a name for reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tracking_core.backends.destinations import ARGUMENT, absolute_target, refuse_secrets
from tracking_core.backends.plugins import Adapter, find_adapter, refuse_joined
from tracking_core.backends.targets import Target, refuse_control_characters
from tracking_core.errors import SettingsError
from tracking_core.protocol import Tracker


@dataclass(frozen=True)
class Destination:
    """A destination: a target of an adapter, or a tracker that was passed as an object.

    Args:
        label: Its name in reports.
        target: The target. Of an object, only the name is used.
        tracker: The object, if it is one.
    """

    label: str
    target: Target
    tracker: Tracker | None = None

    def adapter(self) -> Adapter | None:
        """The adapter; None for an object."""
        return None if self.tracker is not None else find_adapter(self.target.name)


def destinations(
    requested: Sequence[Any], *, facts: Mapping[str, Any] | None = None, directory: Path | None = None
) -> list[Destination]:
    """Check targets, and give each destination a name for reports. `local`, the run store, is left out.

    Args:
        requested: Targets and trackers.
        facts: Contents of `run.json`, which need not be written yet. With them, two ways to write one place are known.
        directory: The run directory, which need not exist yet.

    Raises:
        SettingsError: A backend or option is unknown, or a package is missing; or one place has two sets of filters.
        BrokenAdapterError: An adapter failed to say which place a target leads to.
    """
    from tracking_core.delivery.places import expected_key

    named = [target.name for target in requested if isinstance(target, Target)]
    unique: dict[str, Target] = {}
    objects: list[Any] = []
    for target in requested:
        if not isinstance(target, Target):
            objects.append(target)
        elif target.name != "local" or target.options:
            origin = target.origin or ARGUMENT
            target = replace(target, named=True)  # noqa: PLW2901 - whatever comes this way was asked for by the user
            adapter = find_adapter(target.name, origin=origin)
            refuse_secrets(target, origin=origin)
            adapter.check_target(target, origin=origin)
            absolute = absolute_target(target) if adapter.info.local_path else target
            # The working directory may have one in its name.
            refuse_control_characters(absolute, origin=origin)
            key = absolute.key
            if facts is not None and directory is not None and named.count(target.name) > 1:
                key = expected_key(absolute, adapter, facts, directory)
            first = unique.setdefault(key, absolute)
            if first.filters != absolute.filters:
                raise SettingsError(
                    f"{origin}: {str(first)!r} and {str(absolute)!r} are one place with two sets of filters; "
                    "name it once (patterns are joined by '|')"
                )
        else:
            refuse_joined(target, origin=target.origin or ARGUMENT)
    names = [target.name for target in unique.values()]
    found = [
        Destination(target.name if names.count(target.name) == 1 else str(target), target) for target in unique.values()
    ]
    for tracker in objects:
        label = type(tracker).__name__
        taken = sum(1 for destination in found if destination.label.partition("#")[0] == label)
        found.append(Destination(f"{label}#{taken + 1}" if taken else label, Target(label), tracker))
    return found
