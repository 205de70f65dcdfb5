"""Many scalars in one array, with their names: a jitted step collects them, and one call logs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from tracking_core.base.text import counted
from tracking_core.errors import InvalidValueError
from tracking_core.values.arrays import bounded, describe, to_host


class Stacked(Mapping[str, Any]):
    """Scalars in one array: a mapping of names to its elements, which any tracker accepts.

    A run handles the array as a whole, so that two hundred numbers cost about as much as one: one read on the host, or
    one program and one transfer on a device.

    Args:
        names: Distinct names, one for each element. They are checked on first use; a tuple is cheapest.
        array: numpy or JAX array of shape `[N]` and a real dtype. It is not copied.

    Raises:
        InvalidValueError: A name is not a str or appears twice, or the array has another shape or length.

    Example:
        >>> import numpy as np
        >>> metrics = Stacked(("loss", "accuracy"), np.array([0.5, 0.25]))
        >>> float(metrics["accuracy"])
        0.25
    """

    __slots__ = ("_places", "array", "names")

    names: tuple[str, ...]
    array: Any

    def __init__(self, names: Sequence[str], array: Any) -> None:
        if type(names) is not tuple:
            names = _to_tuple(names)
        try:
            self._places = _checked(names)
        except InvalidValueError:
            raise
        except Exception as error:
            raise InvalidValueError(f"Stacked: the names cannot be read ({type(error).__name__})") from error
        shape = getattr(array, "shape", None)
        if type(shape) is not tuple:
            array = to_host(array, "Stacked", copy=True)
            shape = array.shape
        if shape != (len(names),):
            raise InvalidValueError(
                f"Stacked: {counted(len(names), 'name needs', 'names need')} an array of shape ({len(names)},), "
                f"got {describe(array)}"
            )
        self.names = names
        self.array = array

    def __getitem__(self, name: str) -> Any:
        return self.array[self._places[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"Stacked({counted(len(self.names), 'name')}, {describe(self.array)})"


def _to_tuple(names: Any) -> tuple[str, ...]:
    if isinstance(names, (str, bytes)):
        raise InvalidValueError(f"Stacked: expected a sequence of names, got {describe(names)}")
    try:
        return tuple(bounded(names, "Stacked: the names"))
    except InvalidValueError:
        raise
    except TypeError as error:
        raise InvalidValueError(f"Stacked: expected a sequence of names, got {describe(names)}") from error


@lru_cache(maxsize=64)
def _checked(names: tuple[Any, ...]) -> dict[str, int]:
    """Where each name is; a program has few lists of names, and uses each many times."""
    for name in names:
        if type(name) is not str:
            raise InvalidValueError(f"Stacked: a name must be a str, got {describe(name)}")
    places = {name: place for place, name in enumerate(cast("tuple[str, ...]", names))}
    if len(places) != len(names):
        twice = next(name for place, name in enumerate(names) if places[name] != place)
        raise InvalidValueError(f"Stacked: the name {twice!r:.80} appears twice")
    return places
