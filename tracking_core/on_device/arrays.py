"""Device values: recognised, checked, and packed on their device, so that the training thread never waits for them.

Whatever is dispatched here is dispatched before the call returns, and so before any later call that donates the arrays:
it reads what they hold now. Everything crosses to the host as unsigned words, bit for bit: a NaN is no float that
`jax_debug_nans` could stumble over, and integers beyond 2**24 do not pass through float32.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from tracking_core.errors import InvalidValueError
from tracking_core.values.arrays import describe

WARMED_PACK = 16
"""Packs up to this size are compiled when the first of their kind is met, off the training thread."""
LARGEST_PACK = 256
"""How many scalars one program packs; more are packed by several."""

DEVICE_TYPES: set[type] = set()
"""The classes of JAX arrays, as far as they have been met."""
_OTHER_TYPES: set[type] = {bool, int, float, str, bytes, dict, list, tuple, type(None), np.ndarray}
#: The kinds of scalars (dtype, shape, sharding) whose packs are compiled, or will be soon.
_WARMED: set[Any] = set()

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


def is_at_hand(values: Sequence[Any]) -> bool:
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


#: The sharding that was last found to be at hand.
_last_at_hand: list[Any] = [None]


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
    program = _programs().pack
    for key, (names, arrays, _) in groups.items():
        dtype = key[0]
        if later is not None and key not in _WARMED:
            _WARMED.add(key)
            # One like it of our own: the array may be donated before the thread comes to it, and may hold a NaN.
            later(partial(_warm, _programs().blank(arrays[0])))
        for start in range(0, len(arrays), LARGEST_PACK):
            part = arrays[start : start + LARGEST_PACK]
            size = 1 << (len(part) - 1).bit_length()
            pack.words.append(program(*part, *[part[-1]] * (size - len(part))))
            pack.groups.append((_carrier(np.dtype(dtype)), names[start : start + LARGEST_PACK]))
    return pack


def _warm(array: Any) -> None:
    """Compile the packs of a kind of array in all sizes that are common."""
    program = _programs().pack
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
    words = _programs().stacked(local_view(array, names[0]))
    return Pack([words], [(_carrier(dtype), list(names))])


def _check_scalar(value: Any, name: str) -> None:
    dtype = value.dtype
    if not isinstance(dtype, np.dtype) or dtype.kind == "c":
        raise InvalidValueError(f"{name!r}: expected a real number, got {describe(value)}")
    if value.size != 1:
        remedy = "reduce it (x.mean())"
        if value.ndim == 1:
            remedy += ", or log x[0] where the axis is a replica axis"
        raise InvalidValueError(f"{name!r}: expected one number, got {describe(value)}; {remedy}")


def histogram_words(arrays: Sequence[Any], bins: int) -> Any:
    """Dispatch the reduction of device arrays to bins; see `read_histogram` for what comes out.

    Args:
        arrays: Arrays of real numbers, of any shapes, on one device or alike sharded ones.
        bins: Number of bins.

    Returns:
        A device array of unsigned words, of shape `[len(arrays), bins + 8]`.
    """
    return _programs().histogram(list(arrays), bins)


def read_histogram(words: np.ndarray[Any, Any]) -> dict[str, Any]:
    """The numbers of one histogram from its words.

    Returns:
        counts (int64 `[bins]`), low, high, mean, std (floats), and nan, posinf, neginf, count (ints).
    """
    numbers = words[-8:]
    as_float = numbers.view(np.float64 if numbers.dtype.itemsize == 8 else np.float32)
    signed = words.view(np.int64 if numbers.dtype.itemsize == 8 else np.int32)
    return {
        "counts": signed[:-8].astype(np.int64),
        "low": float(as_float[0]),
        "high": float(as_float[1]),
        "mean": float(as_float[2]),
        "std": float(as_float[3]),
        "nan": int(signed[-4]),
        "posinf": int(signed[-3]),
        "neginf": int(signed[-2]),
        "count": int(signed[-1]),
    }


def image_bytes(array: Any, low: float, high: float) -> tuple[Any, Any]:
    """Dispatch the conversion of float pixels to bytes.

    Args:
        array: Floats of any shape.
        low: What becomes 0.
        high: What becomes 255.

    Returns:
        The uint8 array, and words of (smallest, largest, how many are not finite, how many were clipped).
    """
    return _programs().image(array, np.float32(low), np.float32(high))


def snapshot(array: Any) -> Any:
    """Dispatch a copy of a device array, which is ours whatever becomes of the original."""
    return _programs().copy(array)


def _carrier(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that the words of a group are read as."""
    if dtype.kind == "b":
        return np.dtype(np.bool_)
    name = dtype.name
    if name in {"int2", "int4"}:
        return np.dtype(np.int8)
    if name in {"uint2", "uint4"}:
        return np.dtype(np.uint8)
    if name.startswith(("float4_", "float6_")):
        return np.dtype(np.float32)
    return dtype


@dataclass(frozen=True, slots=True)
class _Programs:
    pack: Callable[..., Any]
    stacked: Callable[..., Any]
    blank: Callable[..., Any]
    histogram: Callable[..., Any]
    image: Callable[..., Any]
    copy: Callable[..., Any]


@lru_cache(maxsize=1)
def _programs() -> _Programs:
    """The jitted functions; JAX is imported here, when the training has imported it long since."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    words_of = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint64}

    def bits(x: Any) -> Any:
        carrier = _carrier(np.dtype(x.dtype))
        if carrier.kind == "b":
            return x.astype(jnp.uint8)
        if carrier != x.dtype:
            x = x.astype(carrier)
        return lax.bitcast_convert_type(x, words_of[carrier.itemsize])

    def pack(*arrays: Any) -> Any:
        return jnp.stack([bits(x).reshape(()) for x in arrays])

    def stacked(x: Any) -> Any:
        # A program that did nothing might hand out what came in, whose buffer may be donated: hence the copy.
        return jnp.copy(bits(x))

    def blank(x: Any) -> Any:
        # It looks at the array, so as to end up where that is.
        return lax.select(x == x, lax.full_like(x, 0), lax.full_like(x, 0))  # noqa: PLR0124 - see above

    def one_histogram(x: Any, bins: int) -> Any:
        real = jnp.float64 if x.dtype.itemsize == 8 else jnp.float32
        whole = jnp.int64 if real == jnp.float64 else jnp.int32
        x = x.reshape(-1).astype(real)
        finite = jnp.isfinite(x)
        count = finite.sum(dtype=whole)
        low = jnp.where(finite, x, jnp.inf).min(initial=jnp.inf)
        high = jnp.where(finite, x, -jnp.inf).max(initial=-jnp.inf)
        # Halves, since the spread itself may not be representable.
        spread = high / 2 - low / 2
        place = jnp.where(finite, (x / 2 - low / 2) / jnp.where(spread > 0, spread, 1) * bins, 0)
        index = jnp.clip(place.astype(jnp.int32), 0, bins - 1)
        counts = jnp.zeros(bins, whole).at[index].add(finite.astype(whole))
        number = jnp.maximum(count, 1).astype(real)
        mean = jnp.where(finite, x / number, 0).sum()
        deviation = jnp.sqrt(jnp.where(finite, (x - mean) ** 2 / number, 0).sum())
        floats = jnp.stack([low, high, mean, deviation])
        lost = jnp.stack([jnp.isnan(x).sum(dtype=whole), (x == jnp.inf).sum(dtype=whole),
                          (x == -jnp.inf).sum(dtype=whole), count])  # fmt: skip
        unsigned = jnp.uint64 if real == jnp.float64 else jnp.uint32
        parts = [counts, floats, lost]
        return jnp.concatenate([lax.bitcast_convert_type(part, unsigned) for part in parts])

    def histogram(arrays: list[Any], bins: int) -> Any:
        return [one_histogram(x, bins) for x in arrays]

    def image(x: Any, low: Any, high: Any) -> Any:
        x = x.astype(jnp.float32)
        finite = jnp.isfinite(x)
        scaled = jnp.where(finite, (x - low) * (255.0 / (high - low)), 0)
        pixels = jnp.clip(jnp.rint(scaled), 0, 255).astype(jnp.uint8)
        lowest = jnp.where(finite, x, jnp.inf).min()
        highest = jnp.where(finite, x, -jnp.inf).max()
        odd = jnp.stack([(~finite).sum(dtype=jnp.int32), ((x < low) | (x > high)).sum(dtype=jnp.int32)])
        floats = lax.bitcast_convert_type(jnp.stack([lowest, highest]), jnp.uint32)
        return pixels, jnp.concatenate([floats, lax.bitcast_convert_type(odd, jnp.uint32)])

    return _Programs(
        pack=jax.jit(pack),
        stacked=jax.jit(stacked),
        blank=jax.jit(blank),
        histogram=jax.jit(histogram, static_argnums=1),
        image=jax.jit(image),
        copy=jax.jit(jnp.copy),
    )
