"""Opening one backend directly, without a run around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracking_core.backends.hooks import RunInfo
    from tracking_core.backends.targets import Target
    from tracking_core.protocol import Tracker


def open_tracker(target: str | Target, run: RunInfo | None = None) -> Tracker:
    """Open one backend as a tracker: synchronous, without journal or worker; errors are raised where they happen.

    Args:
        target: A target as in TRACKING_BACKEND, such as "tensorboard:./tb".
        run: The run it records; None generates an id and a name.

    Returns:
        A tracker, which the caller finishes.

    Raises:
        SettingsError: The target or its options are wrong, or a package is missing.

    Example:
        >>> tracker = open_tracker("none")
        >>> tracker.log_scalars({"loss": 1.0}, step=0)
        >>> tracker.finish()
    """
    from dataclasses import replace

    from tracking_core.backends.hooks import RunInfo
    from tracking_core.backends.plugins import find_adapter
    from tracking_core.backends.targets import parse_targets
    from tracking_core.errors import SettingsError
    from tracking_core.layout.run_ids import new_run_id, readable_name

    if isinstance(target, str):
        targets = parse_targets(target, origin="open_tracker")
        if len(targets) != 1:
            raise SettingsError(
                f"open_tracker: expected one target, got {len(targets)}; open each, and join them with multi()"
            )
        target = targets[0]
    target = replace(target, named=True)
    if run is None:
        run = RunInfo(id=new_run_id(), name=readable_name())
    adapter = find_adapter(target.name, origin="open_tracker")
    adapter.check_target(target, origin="open_tracker")
    return adapter.open(target, run)
