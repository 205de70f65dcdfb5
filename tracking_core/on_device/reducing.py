"""Arrays reduced where they are: by a program that is compiled, or by the host while none is.

Nobody waits for the compiler: what is met for the first time travels to the host as a copy, and is reduced there, as
are small arrays and those of a CPU always. What is spread over devices is an exception: reducing it may need all of
them, and they must come to it in one order, so the call dispatches it, compiled or not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tracking_core.on_device import beside
from tracking_core.on_device.arrays import counted_on_host, is_single, snapshots

SMALL = 4096
"""Arrays up to this size are reduced by the host, wherever they are."""
_asked: set[Any] = set()
_compiled: set[Any] = set()


def take(array: Any, program: Callable[..., Any], *options: Any, has_room: Callable[[int], bool]) -> tuple[Any, bool]:
    """Dispatch the reduction of an array, or a copy of it.

    Args:
        array: The array, of which every part is on this process.
        program: Reduces it, given the options; jitted.
        *options: Hashable; of each type and value a program may be compiled.
        has_room: Whether a copy of that many bytes may be held.

    Returns:
        What the program gives, and True; or a copy of the array, and False.
    """
    if not is_single(array):
        return program(array, *options), True
    if array.size <= SMALL or counted_on_host(array):
        if has_room(array.nbytes):
            return snapshots([array])[0], False
        return program(array, *options), True
    key = (program, options, array.shape, array.dtype, array.sharding, array.committed)
    if key in _compiled or not has_room(array.nbytes):
        return program(array, *options), True
    copy = snapshots([array])[0]
    if key not in _asked:
        _asked.add(key)
        beside.soon(partial(_compile, copy, key))
    return copy, False


def _compile(array: Any, key: Any) -> None:
    program, options, *_ = key
    program(array, *options)
    _compiled.add(key)
