"""Scalars of a device, packed into few arrays that travel to the host together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tracking_core.errors import InvalidValueError
from tracking_core.on_device import beside
from tracking_core.on_device.arrays import OnError, local_view, snapshots
from tracking_core.on_device.programs import carrier, programs
from tracking_core.values.arrays import describe

WARMED_PACK = 16
"""Packs up to this size are compiled when the first of their kind is met."""
LARGEST_PACK = 256
"""How many scalars one program packs; more are packed by several."""
_asked: set[Any] = set()
"""((dtype, shape, sharding, committed), size) of the packs that are compiled, or will be soon."""
_compiled: set[Any] = set()
"""Those that are compiled."""


@dataclass(frozen=True, slots=True)
class Pack:
    """Scalars on their way to the host.

    Args:
        words: Device arrays: of unsigned words, or as they are.
        groups: For each of them the dtype that its words stand for (None where it is as it is), and the names in order.
    """

    words: list[Any]
    groups: list[tuple[np.dtype[Any] | None, list[str]]]

    def read(self, host: Sequence[np.ndarray[Any, Any]]) -> dict[str, Any]:
        """The numbers by name, from the words once they are on the host."""
        found: dict[str, Any] = {}
        for words, (dtype, names) in zip(host, self.groups, strict=True):
            values = words.reshape(-1)
            if dtype is not None:
                values = values.view(dtype)
            elif (wanted := carrier(words.dtype)) != words.dtype:
                values = values.astype(wanted)
            if values.dtype.kind not in "biuf":
                values = values.astype(np.float64)
            found.update(zip(names, values.tolist(), strict=False))
        return found


def pack_scalars(named: Sequence[tuple[str, Any]], on_error: OnError) -> Pack:
    """Dispatch the packing of size-1 device arrays.

    Arrays are grouped by dtype, shape and placement, and each group filled up to a power of two, so that the number of
    programs that are ever compiled is small, whatever keys come and go. While a program is not compiled, each array is
    copied.

    Args:
        named: Names and arrays.
        on_error: Called with what cannot be packed, which is left out.
    """
    groups: dict[Any, tuple[list[str], list[Any], bool]] = {}
    for name, value in named:
        aval = value.aval
        key = (aval.dtype, aval.shape, value.sharding, value.committed)
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
        dtype = carrier(np.dtype(key[0]))
        for start in range(0, len(arrays), LARGEST_PACK):
            part = arrays[start : start + LARGEST_PACK]
            size = 1 << (len(part) - 1).bit_length()
            if (key, size) in _compiled:
                pack.words.append(program(*part, *[part[-1]] * (size - len(part))))
                pack.groups.append((dtype, names[start : start + LARGEST_PACK]))
                continue
            copies = snapshots(part)
            pack.words.extend(copies)
            pack.groups.extend((None, [name]) for name in names[start : start + LARGEST_PACK])
            sizes = {size, *(1 << power for power in range(WARMED_PACK.bit_length()))}
            wanted = [one for one in sorted(sizes) if (key, one) not in _asked]
            _asked.update((key, one) for one in wanted)
            for one in wanted:
                # With a copy: the array itself may be donated before the compiler comes to it.
                beside.soon(partial(_compile, copies[0], key, one))
    return pack


def _compile(array: Any, key: Any, size: int) -> None:
    programs().pack(*[array] * size)
    _compiled.add((key, size))


def pack_stacked(array: Any, names: Sequence[str]) -> Pack:
    """Dispatch the copy of a device array of shape `[N]`.

    Args:
        array: The array.
        names: Names of its elements.

    Raises:
        InvalidValueError: It was deleted, holds no real numbers, or is spread over several processes.
    """
    dtype = array.dtype
    if not isinstance(dtype, np.dtype) or dtype.kind == "c":
        raise InvalidValueError(f"{names[0]!r}: expected real numbers, got {describe(array)}")
    return Pack(snapshots([local_view(array, names[0])]), [(None, list(names))])


def _check_scalar(value: Any, name: str) -> None:
    dtype = value.dtype
    if not isinstance(dtype, np.dtype) or dtype.kind == "c":
        raise InvalidValueError(f"{name!r}: expected a real number, got {describe(value)}")
    if value.size != 1:
        remedy = "reduce it (x.mean())"
        if value.ndim == 1:
            remedy += ", or log x[0] where the axis is a replica axis"
        raise InvalidValueError(f"{name!r}: expected one number, got {describe(value)}; {remedy}")
