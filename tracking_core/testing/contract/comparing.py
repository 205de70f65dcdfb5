"""Comparing what was logged with what was read back, with messages that show the difference."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from tracking_core.base.text import counted, of_all
from tracking_core.naming import printable

if TYPE_CHECKING:
    from tracking_core.backends.hooks import RunInfo
    from tracking_core.testing.contract.context import Context
    from tracking_core.testing.contract.harness import StoredScalar

_SHOWN = 5


class Row(NamedTuple):
    """A scalar that was logged."""

    name: str
    axis: str
    step: int
    value: float

    def __str__(self) -> str:
        return f"{printable(self.name)!r} at {printable(self.axis)} {self.step}: {self.value!r}"


def rows_of(stored: Iterable[StoredScalar]) -> list[Row]:
    """What was read back, without times."""
    return [Row(one.name, one.axis, int(one.step), float(one.value)) for one in stored]


def rounded(value: float, precision: str) -> float:
    """A number as a backend of that precision gives it back."""
    if precision != "float32":
        return float(value)
    with np.errstate(over="ignore"):
        return float(np.float32(value))


def require_rows(ctx: Context, run: RunInfo, expected: Sequence[Row], *, axes: bool = True) -> None:
    """Fail unless every row is there, as often as it was logged. What else is there does not matter here.

    Args:
        ctx: The context.
        run: The run to read.
        expected: What was logged.
        axes: Whether the axes are compared.
    """
    stored = rows_of(ctx.scalars(run))
    precision = ctx.info.precision
    missing = Counter(_key(row._replace(value=rounded(row.value, precision)), axes=axes) for row in expected)
    missing.subtract(Counter(_key(row, axes=axes) for row in stored))
    lost = [row for row in expected if missing[_key(row._replace(value=rounded(row.value, precision)), axes=axes)] > 0]
    if lost:
        names = {row.name for row in lost}
        near = [row for row in stored if row.name in names] or stored
        ctx.fail(
            f"missing: {of_all(len(lost), len(expected), 'rows')}: {listed(lost)}; "
            f"the backend holds {counted(len(stored), 'row')}, such as {listed(near)}"
        )


def extra_rows(stored: Iterable[Row], expected: Iterable[Row], precision: str) -> list[Row]:
    """Rows that are there more often than they were logged."""
    left = Counter(_key(row._replace(value=rounded(row.value, precision))) for row in expected)
    extra: list[Row] = []
    for row in stored:
        key = _key(row)
        if left[key] > 0:
            left[key] -= 1
        else:
            extra.append(row)
    return extra


def _key(row: Row, *, axes: bool = True) -> tuple[str, str, int, str]:
    # As text, NaN equals NaN; adding 0.0 makes -0.0 the same as 0.0.
    return row.name, row.axis if axes else "", row.step, repr(row.value + 0.0)


def listed(things: Sequence[object]) -> str:
    """The first few of many, for a message."""
    if not things:
        return "nothing"
    more = f", … {len(things) - _SHOWN} more" if len(things) > _SHOWN else ""
    return ", ".join(f"[{one}]" for one in things[:_SHOWN]) + more


def same_time(stored: float | None, expected: float) -> bool:
    """Whether a moment was kept, to the millisecond."""
    return stored is not None and abs(stored - expected) <= 1.5e-3


def pixels_of(pixels: Any) -> np.ndarray[Any, Any]:
    """Pixels with a channel axis."""
    array = np.asarray(pixels)
    return array[..., None] if array.ndim == 2 else array


def same_pixels(stored: Any, expected: Any) -> bool:
    """Whether pixels are equal; `[H, W]` and `[H, W, 1]` are the same shape."""
    one, two = pixels_of(stored), pixels_of(expected)
    return one.dtype == np.uint8 and one.shape == two.shape and bool(np.array_equal(one, two))


def leaves(config: Any, prefix: str = "") -> dict[str, Any]:
    """A nested mapping by path: keys are joined with "/", and "." in them counts as "/"."""
    if isinstance(config, Mapping):
        found: dict[str, Any] = {}
        for key, value in cast("Mapping[Any, Any]", config).items():
            found.update(leaves(value, f"{prefix}/{key}" if prefix else str(key)))
        return found
    return {prefix.replace(".", "/"): config}


def same_leaf(stored: Any, expected: Any) -> bool:
    """Whether a value of a configuration was kept: as it is, as text, or as JSON."""
    if isinstance(expected, bool) or isinstance(stored, bool):
        return stored == expected or str(stored).lower() == str(expected).lower()
    if isinstance(expected, (int, float)) and isinstance(stored, (int, float)):
        return math.isclose(stored, expected, rel_tol=1e-12)
    if isinstance(expected, (list, tuple)) and isinstance(stored, (list, tuple)):
        mine, theirs = cast("Sequence[Any]", stored), cast("Sequence[Any]", expected)
        return len(mine) == len(theirs) and all(map(same_leaf, mine, theirs))
    if stored == expected or str(stored) == str(expected):
        return True
    try:
        return isinstance(stored, str) and json.loads(stored) == expected
    except ValueError:
        return False


def require_leaves(ctx: Context, stored: Mapping[str, Any], expected: Mapping[str, Any], what: str) -> None:
    """Fail unless every leaf of a nested mapping was kept."""
    have = leaves(stored)
    for path, value in leaves(expected).items():
        if path not in have:
            ctx.fail(f"{what} {path!r} is missing; the backend holds {sorted(have)!r:.400}")
        if not same_leaf(have[path], value):
            ctx.fail(f"{what} {path!r} was {value!r}, and came back as {have[path]!r}")
