"""Programs that JAX compiles once, and runs on the device of the arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np


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


def carrier(dtype: np.dtype[Any]) -> np.dtype[Any]:
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
    histogram: Callable[..., Any]
    image: Callable[..., Any]


@lru_cache(maxsize=1)
def programs() -> _Programs:
    """The jitted functions; JAX is imported here, when the training has imported it long since."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    words_of = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint64}

    def bits(x: Any) -> Any:
        words = carrier(np.dtype(x.dtype))
        if words.kind == "b":
            return x.astype(jnp.uint8)
        if words != x.dtype:
            x = x.astype(words)
        return lax.bitcast_convert_type(x, words_of[words.itemsize])

    def pack(*arrays: Any) -> Any:
        return jnp.stack([bits(x).reshape(()) for x in arrays])

    def histogram(x: Any, bins: int) -> Any:
        # Words of shape [bins + 8]: see `read_histogram`.
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

    def image(x: Any, low: Any, high: Any) -> Any:
        # `low` becomes 0, `high` 255. Words: smallest, largest, how many are not finite, how many were clipped.
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
        histogram=jax.jit(histogram, static_argnums=1),
        image=jax.jit(image),
    )
