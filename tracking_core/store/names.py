"""Scalars by name or pattern."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase


def matching(axes: Mapping[str, Sequence[str]], names: Sequence[str], axis: str | None = None) -> list[tuple[str, str]]:
    """(name, axis) of the series that names or patterns fit, in the order of these.

    Args:
        axes: The step axes of every scalar; see `RunRecord.scalar_axes`.
        names: Names or patterns; () takes all.
        axis: Only this axis.
    """
    chosen = dict.fromkeys(known for name in names for known in fitting(axes, name)) if names else axes
    return [(name, one) for name in chosen for one in axes[name] if axis is None or one == axis]


def fitting(axes: Mapping[str, Sequence[str]], name: str) -> list[str]:
    """The names that one name or pattern fits."""
    return [name] if name in axes else [known for known in axes if fnmatchcase(known, name)]
