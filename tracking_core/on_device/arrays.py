"""Device values: recognised, checked, and packed on their device, so that the training thread never waits for them.

Whatever is dispatched here is dispatched before the call returns, and so before any later call that donates the arrays:
it reads what they hold now. Everything crosses to the host as unsigned words, bit for bit: a NaN is no float that
`jax_debug_nans` could stumble over, and integers beyond 2**24 do not pass through float32.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from tracking_core.errors import InvalidValueError
from tracking_core.values.arrays import describe

DEVICE_TYPES: set[type] = set()
"""The classes of JAX arrays, as far as they have been met."""
_OTHER_TYPES: set[type] = {bool, int, float, str, bytes, dict, list, tuple, type(None), np.ndarray}

OnError = Callable[[str, InvalidValueError], None]


def is_device_array(value: object) -> bool:
    """Whether a value is a concrete JAX array (a tracer or a PRNG key is not)."""
    kind = type(value)
    if kind in DEVICE_TYPES:
        return True
    if kind in _OTHER_TYPES or "jax" not in sys.modules:
        return False
    import jax

    if kind.__name__ == "ArrayImpl" and isinstance(value, jax.Array):
        DEVICE_TYPES.add(kind)
        return True
    return False


def tracing() -> bool:
    """Whether a JAX transformation is being traced on this thread: nothing may be dispatched then."""
    return not _trace_state_clean()()


@lru_cache(maxsize=1)
def _trace_state_clean() -> Callable[[], bool]:
    core = sys.modules.get("jax._src.core")
    clean = getattr(core, "trace_state_clean", None)
    return clean if callable(clean) else lambda: True  # pyright: ignore[reportReturnType] - a function of JAX


@lru_cache(maxsize=64)
def _placement(sharding: Any) -> tuple[str, bool]:
    """What an array with this sharding is to us: "single", "replicated", "sharded" or "remote"; and if it is on CPU."""
    devices = list(sharding.device_set)
    on_cpu = devices[0].platform == "cpu"
    if len(devices) == 1 and sharding.is_fully_addressable:
        return "single", on_cpu
    if sharding.is_fully_replicated:
        return "replicated", on_cpu
    return ("sharded" if sharding.is_fully_addressable else "remote"), on_cpu


def local_view(value: Any, key: str) -> Any:
    """The array itself, or the copy of a replicated one on a device of this process.

    Raises:
        InvalidValueError: It was deleted, or parts of it are on devices of other processes.
    """
    if value.is_deleted():
        raise InvalidValueError(
            f"{key!r}: {type(value).__name__} was deleted, because it was donated to a jitted call; log it before that "
            "call, or log its result"
        )
    where, _ = _placement(value.sharding)
    if where == "replicated":
        return value.addressable_data(0)
    if where == "remote":
        raise InvalidValueError(
            f"{key!r}: {describe(value)} is spread over several processes; reduce or gather it first "
            "(jax.experimental.multihost_utils.process_allgather)"
        )
    return value


def counted_on_host(array: Any) -> bool:
    """Whether the host counts and converts as well as the device: its arrays lie in the memory of this process."""
    where, on_cpu = _placement(array.sharding)
    return on_cpu and where == "single"


def is_single(array: Any) -> bool:
    """Whether an array lies on one device of this process: then nothing about it needs other devices."""
    return _placement(array.sharding)[0] == "single"


def snapshots(arrays: Sequence[Any]) -> list[Any]:
    """Dispatch copies of device arrays, which are ours whatever becomes of the originals.

    The runtime copies: nothing is compiled, however many shapes there are.

    Args:
        arrays: Arrays of which every part is addressable, in `local_view`.
    """
    import jax

    if not arrays:
        return []
    with jax.transfer_guard("allow"):
        return jax.device_put(list(arrays), may_alias=False)


def is_ready_on_host(values: Sequence[Any]) -> bool:
    """Whether reading these arrays is cheap now: they are computed, and in the memory of this process."""
    # Asking a deleted array whether it is ready ends the process (JAX 0.10.2), so ask that first.
    last = _last_at_hand[0]
    for value in values:
        if value.is_deleted() or not value.is_ready():
            return False
        sharding = value.sharding
        # What one program has computed mostly shares the very object, and so do the results of its next run.
        if sharding is not last:
            where, on_cpu = _placement(sharding)
            if not on_cpu or where == "remote":
                return False
            last = _last_at_hand[0] = sharding
    return True


@lru_cache(maxsize=1)
def _is_all_here() -> bool:
    """Whether this process has no other device than CPUs, and no array is spread over others."""
    import jax
    from jax.extend.backend import backends

    return set(backends()) == {"cpu"} and jax.process_count() == 1


def read_ready(named: Sequence[tuple[str, Any]], values: dict[str, Any]) -> list[tuple[str, Any]] | None:
    """Read numbers that are computed, and in the memory of this process: `is_ready_on_host`, and reading, in one pass.

    This is what every step of a training does. After it the caches hold the data of the step: each array is touched
    once.

    Args:
        named: Names and arrays.
        values: Where the numbers go.

    Returns:
        What is no plain number of 64 bits; None where something is not ready, and nothing in `values` counts.
    """
    as_array, is_here = np.asarray, _is_all_here()
    odd: list[tuple[str, Any]] = []
    for name, value in named:
        if value.is_deleted() or not value.is_ready() or not (is_here or is_ready_on_host((value,))):
            return None
        # Nothing keeps the view that numpy gets, nor so the buffer from being donated.
        array = as_array(value)
        number = array.item() if array.size == 1 else None
        if type(number) is float or (type(number) is int and number < 2**63) or type(number) is bool:
            values[name] = number
        else:
            odd.append((name, value))
    return odd


#: The sharding that was last found to be at hand.
_last_at_hand: list[Any] = [None]
