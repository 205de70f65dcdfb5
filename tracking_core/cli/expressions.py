"""Conditions on runs, as they are written on the command line: `val/loss<0.2`, `config.model.width=64`, `name~^vae`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click

from tracking_core.store.filters import ABSENT, find

_FORM = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^"=!<>~][^=!<>~]*?)\s*(!=|<=|>=|==|=|<|>|~)\s*(.*?)\s*', re.DOTALL)
_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}

_MOMENTS = frozenset({"started", "finished"})


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison.

    Args:
        left: What is compared; see `Row.value`.
        operator: "=", "!=", "<", "<=", ">", ">=" or "~".
        right: As it was written.
    """

    left: str
    operator: str
    right: str

    def holds(self, value: Any) -> bool:
        """Whether it holds for a value.

        Args:
            value: What stands on the left; None never matches, as there is nothing to compare.
        """
        if value is None:
            return False
        if self.operator == "~":
            return re.search(self.right, value if isinstance(value, str) else json.dumps(value)) is not None
        if self.operator in {"=", "!="}:
            return self._equals(value) == (self.operator == "=")
        right = _number(self.right)
        if isinstance(value, str):
            return _ORDER[self.operator](value, _literal(self.right, str, self.right))
        return isinstance(value, int | float) and right is not None and _ORDER[self.operator](value, right)

    def _equals(self, value: Any) -> bool:
        if isinstance(value, str):
            return value in {self.right, _literal(self.right, str, self.right)}
        if isinstance(value, bool):
            return self.right.lower() == str(value).lower() or _number(self.right) == value
        if isinstance(value, int | float):
            right = _number(self.right)
            # Whoever asks for NaN means it.
            return right is not None and (value == right or (value != value and right != right))  # noqa: PLR0124 - NaN
        return _literal(self.right, object, None) == value


def parse(text: str) -> Condition:
    """Read a condition.

    Args:
        text: LEFT OPERATOR RIGHT; a LEFT that holds operators is written as a JSON string.

    Raises:
        BadParameter: It is none.

    Example:
        >>> parse("val/loss <= 0.2")
        Condition(left='val/loss', operator='<=', right='0.2')
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise click.BadParameter(
            f"{text!r} is not a condition: expected NAME, one of = != < <= > >= ~, and a value", param_hint="--where"
        )
    left, operator, right = match.groups()
    left = _literal(left, str, left)
    operator = "=" if operator == "==" else operator
    if operator == "~":
        try:
            re.compile(right)
        except re.error as error:
            raise click.BadParameter(f"{right!r} is not a regular expression: {error}", param_hint="--where") from error
    if operator in _ORDER and not right:
        raise click.BadParameter(f"{text!r}: there is nothing to compare with", param_hint="--where")
    if left in _MOMENTS and operator != "~":
        right = _seconds(text, right)
    if left == "duration" and operator != "~" and _number(right) is None:
        raise click.BadParameter(f"{text!r}: expected a number of seconds", param_hint="--where")
    return Condition(left, operator, right)


def _seconds(text: str, right: str) -> str:
    """A moment as seconds since the epoch, from these or from a date with or without a time."""
    if _number(right) is not None:
        return right
    try:
        # Without a zone it is local time, as it is shown.
        return repr(datetime.fromisoformat(right).timestamp())
    except (ValueError, OverflowError, OSError) as error:
        raise click.BadParameter(
            f"{text!r}: expected a date such as 2026-01-31 or '2026-01-31 12:00', or seconds since the epoch",
            param_hint="--where",
        ) from error


def found_in(tree: Mapping[str, Any], path: str) -> Any:
    """A value in nested data, as `Store.runs` finds it; None where there is none.

    Args:
        tree: The mappings.
        path: The names on the way, joined by "." or "/"; a name that holds these itself is found as well, and in a list
            a number is a place.

    Example:
        >>> found_in({"model": {"widths": [64, 32]}, "val/loss": 0.5}, "model.widths.0")
        64
    """
    value = find(tree, path)
    return None if value is ABSENT else value


def _number(text: str) -> float | None:
    try:
        return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
    except ValueError:
        return None


def _literal(text: str, kind: type, default: Any) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return default
    return value if isinstance(value, kind) else default
