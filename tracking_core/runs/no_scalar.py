"""Why a run has no scalar, for the end of it: a training that logs nothing looks like one that went well."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tracking_core.base.text import counted
from tracking_core.naming import printable
from tracking_core.values.kinds import KINDS

_WHY = {
    "invalid": "cannot be recorded",
    "finished": "came after finish()",
    "intake": "could not be taken",
    "media": "were media for which there was no room",
}


def why_no_scalar(kinds: Collection[str], dropped: Mapping[str, int], last: str | None, *, has_config: bool) -> str:
    """What is said at the end of a run that recorded no scalar; "" of one that did.

    Args:
        kinds: Kinds of events that were recorded.
        dropped: How many values were not, by reason.
        last: The last message about those.
        has_config: Whether there is a configuration.

    Example:
        >>> why_no_scalar({"environment"}, {}, None, has_config=True)
        'no scalar was recorded, only the configuration: nothing was logged'
        >>> why_no_scalar({"images"}, {}, None, has_config=False)
        'no scalar was recorded, only images'
    """
    if "scalars" in kinds:
        return ""
    recorded = [kind.plural for kind in KINDS.values() if kind.name in kinds and kind.name != "config"]
    if not recorded and (has_config or "config" in kinds):
        recorded = ["the configuration"]
        nothing = True
    else:
        nothing = not recorded
    text = "no scalar was recorded" + (f", only {', '.join(recorded)}" if recorded else "")
    if dropped:
        reasons = ", ".join(
            f"{counted(count, 'value')} {_WHY.get(reason, reason)}" for reason, count in dropped.items()
        )
        return f"{text}: {reasons}" + (f" ({printable(last, limit=500)})" if last else "")
    return f"{text}: nothing was logged" if nothing else text


def why_not_recorded(*, by_backend: bool) -> str:
    """What is said at the end of a run of which this process records nothing.

    Args:
        by_backend: Whether the backend is "none"; otherwise another process records.
    """
    if by_backend:
        return "nothing was recorded: the backend is none"
    return (
        "nothing was recorded here: this process does not record, another one does (TRACKING_PROCESS=all changes that)"
    )
