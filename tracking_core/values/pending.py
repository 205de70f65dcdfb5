"""Values that hold arrays of a device: taken apart by the call that logs them, put together when the arrays are here.

A value class whose data may be on a device offers `is_normal`, `data` and `with_data(data)`: it looks at the data when
it is asked for what is made of them, and not when it is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, cast

DEEPEST = 64
"""Levels of lists, tuples and mappings that are looked into; no value that can be recorded has more."""
_PLAIN = {bool, int, float, complex, str, bytes, type(None)}


class Slot:
    """The place of an array in a value that was taken apart."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


class _Later:
    """A value whose data have slots."""

    __slots__ = ("data", "value")

    def __init__(self, value: Any, data: Any) -> None:
        self.value, self.data = value, data


class Apart:
    """A value in parts.

    Args:
        value: Lists, tuples, mappings and values with data, any of which may hold arrays at any depth.
        is_array: Whether something is an array that has to be fetched.
    """

    def __init__(self, value: Any, is_array: Callable[[Any], bool]) -> None:
        self.arrays: list[Any] = []
        """The arrays found, in the order of their slots."""
        self._is_array = is_array
        self._rest = self._take(value, 0)

    def whole(self, host: Sequence[Any]) -> Any:
        """The value, with what stands for its arrays in their place.

        Args:
            host: One for each of `arrays`.
        """
        return self._put(self._rest, host)

    def _take(self, value: Any, depth: int) -> Any:
        if self._is_array(value):
            self.arrays.append(value)
            return Slot(len(self.arrays) - 1)
        if depth >= DEEPEST:
            return value
        kind = type(value)
        if kind is list or kind is tuple:
            return value if _is_plain(value) else self._changed(value, [self._take(one, depth + 1) for one in value])
        if kind is dict:
            parts = {key: self._take(one, depth + 1) for key, one in value.items()}
            return parts if any(parts[key] is not one for key, one in value.items()) else value
        if getattr(kind, "with_data", None) is not None and not value.is_normal:
            data = self._take(value.data, depth + 1)
            return value if data is value.data else _Later(value, data)
        return value

    @staticmethod
    def _changed(value: Any, parts: list[Any]) -> Any:
        if all(map(_same, parts, value)):
            return value
        return parts if type(value) is list else tuple(parts)

    def _put(self, value: Any, host: Sequence[Any]) -> Any:
        kind = type(value)
        if kind is Slot:
            return host[value.number]
        if kind is _Later:
            return value.value.with_data(self._put(value.data, host))
        if kind is list or kind is tuple:
            return value if _is_plain(value) else self._changed(value, [self._put(one, host) for one in value])
        if kind is dict:
            return {key: self._put(one, host) for key, one in cast("Mapping[Any, Any]", value).items()}
        return value


def _is_plain(value: Sequence[Any]) -> bool:
    """Whether there is nothing but plain cells in a list, or a list of lists: tables have millions of them."""
    kinds = set(map(type, value))
    if kinds <= _PLAIN:
        return True
    return kinds <= {list, tuple} and set(map(type, chain.from_iterable(value))) <= _PLAIN


def _same(one: Any, other: Any) -> bool:
    return one is other
