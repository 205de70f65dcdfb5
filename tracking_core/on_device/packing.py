"""Scalars of a device, packed into few arrays that travel to the host together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tracking_core.errors import InvalidValueError
from tracking_core.on_device.arrays import OnError, local_view
from tracking_core.on_device.programs import carrier, programs
from tracking_core.values.arrays import describe

WARMED_PACK = 16
"""Packs up to this size are compiled when the first of their kind is met, off the training thread."""
LARGEST_PACK = 256
"""How many scalars one program packs; more are packed by several."""
#: The kinds of scalars (dtype, shape, sharding) whose packs are compiled, or will be soon.
_WARMED: set[Any] = set()


@dataclass(frozen=True, slots=True)
class Pack:
    """Scalars on their way to the host.

    Args:
        words: One device array of unsigned words for each group.
        groups: For each group the dtype its words stand for, and the names in order.
    """

    words: list[Any]
    groups: list[tuple[np.dtype[Any], list[str]]]

    def read(self, host: Sequence[np.ndarray[Any, Any]]) -> dict[str, Any]:
        """The numbers by name, from the words once they are on the host."""
        found: dict[str, Any] = {}
        for words, (dtype, names) in zip(host, self.groups, strict=True):
            values = words.view(dtype)
            if dtype.kind in "biu" or dtype.kind == "f":
                found.update(zip(names, values.tolist(), strict=False))
            else:
                wide = values.astype(np.float64).tolist()
                found.update(zip(names, wide, strict=False))
        return found


def pack_scalars(
    named: Sequence[tuple[str, Any]], on_error: OnError, later: Callable[[Callable[[], None]], None] | None = None
) -> Pack:
    """Dispatch the packing of size-1 device arrays.

    Arrays are grouped by dtype, shape and placement, and each group filled up to a power of two, so that the number of
    programs that are ever compiled is small, whatever keys come and go.

    Args:
        named: Names and arrays.
        on_error: Called with what cannot be packed, which is left out.
        later: Takes what is better done soon, on another thread: compiling for further sizes of a new group.
    """
    groups: dict[Any, tuple[list[str], list[Any], bool]] = {}
    for name, value in named:
        aval = value.aval
        key = (aval.dtype, aval.shape, value.sharding)
        group = groups.get(key)
        try:
            if group is None:
                # What is true of one array of a group is true of all, but for being deleted.
                _check_scalar(value, name)
                group = groups[key] = ([], [], local_view(value, name) is not value)
            if group[2] or value.is_deleted():
                value = local_view(value, name)  # noqa: PLW2901 - the copy on this process's device
        except InvalidValueError as error:
            on_error(name, error)
            continue
        group[0].append(name)
        group[1].append(value)
    pack = Pack([], [])
    program = programs().pack
    for key, (names, arrays, _) in groups.items():
        dtype = key[0]
        if later is not None and key not in _WARMED:
            _WARMED.add(key)
            # One like it of our own: the array may be donated before the thread comes to it, and may hold a NaN.
            later(partial(_warm, programs().blank(arrays[0])))
        for start in range(0, len(arrays), LARGEST_PACK):
            part = arrays[start : start + LARGEST_PACK]
            size = 1 << (len(part) - 1).bit_length()
            pack.words.append(program(*part, *[part[-1]] * (size - len(part))))
            pack.groups.append((carrier(np.dtype(dtype)), names[start : start + LARGEST_PACK]))
    return pack


def _warm(array: Any) -> None:
    """Compile the packs of a kind of array in all sizes that are common."""
    program = programs().pack
    for power in range(WARMED_PACK.bit_length()):
        program(*[array] * (1 << power))


def pack_stacked(array: Any, names: Sequence[str]) -> Pack:
    """Dispatch the packing of a device array of shape `[N]`.

    Args:
        array: The array.
        names: Names of its elements.

    Raises:
        InvalidValueError: It was deleted, holds no real numbers, or is spread over several processes.
    """
    dtype = array.dtype
    if not isinstance(dtype, np.dtype) or dtype.kind == "c":
        raise InvalidValueError(f"{names[0]!r}: expected real numbers, got {describe(array)}")
    words = programs().stacked(local_view(array, names[0]))
    return Pack([words], [(carrier(dtype), list(names))])


def _check_scalar(value: Any, name: str) -> None:
    dtype = value.dtype
    if not isinstance(dtype, np.dtype) or dtype.kind == "c":
        raise InvalidValueError(f"{name!r}: expected a real number, got {describe(value)}")
    if value.size != 1:
        remedy = "reduce it (x.mean())"
        if value.ndim == 1:
            remedy += ", or log x[0] where the axis is a replica axis"
        raise InvalidValueError(f"{name!r}: expected one number, got {describe(value)}; {remedy}")
