"""Tensors of summaries as numpy arrays, and the two forms of histograms as ours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tracking_core import InvalidValueError
from tracking_core.values import Histogram

#: Number of the type in `tensorflow/core/framework/types.proto` → (type as numpy reads it, field of single values).
_TYPES = {
    1: ("<f4", "float_val"),
    2: ("<f8", "double_val"),
    3: ("<i4", "int_val"),
    4: ("<u1", "int_val"),
    5: ("<i2", "int_val"),
    6: ("<i1", "int_val"),
    9: ("<i8", "int64_val"),
    10: ("?", "bool_val"),
    14: ("<u2", "half_val"),
    17: ("<u2", "int_val"),
    19: ("<f2", "half_val"),
    22: ("<u4", "uint32_val"),
    23: ("<u8", "uint64_val"),
}
_STRING, _BFLOAT16, _HALF = 7, 14, 19
_HUGE = 1e308
_LARGEST = 2**20
"""Values up to which the short form is written out: a few bytes can say that there are any number of them."""


def strings(tensor: Any) -> list[bytes]:
    """The strings of a tensor.

    Raises:
        InvalidValueError: It holds something else.
    """
    if tensor.dtype != _STRING:
        raise InvalidValueError(f"expected a tensor of strings, got one of type {tensor.dtype}")
    return list(tensor.string_val)


def numbers(tensor: Any) -> np.ndarray[Any, Any]:
    """The numbers of a tensor, in its shape.

    Raises:
        InvalidValueError: It is of a kind that is not read here, or its parts do not fit together.
    """
    if tensor.dtype not in _TYPES:
        raise InvalidValueError(f"a tensor of type {tensor.dtype} is not read")
    kind, name = _TYPES[tensor.dtype]
    shape = tuple(dimension.size for dimension in tensor.tensor_shape.dim)
    if tensor.tensor_content:
        flat = (
            np.frombuffer(tensor.tensor_content, kind)
            if not len(tensor.tensor_content) % np.dtype(kind).itemsize
            else None
        )
    elif tensor.dtype == _HALF:
        flat = np.array(list(tensor.half_val), "<u2").view("<f2")
    else:
        # The message classes of tensorboardX know no fields for unsigned numbers: those are read as bytes alone.
        flat = np.array(list(getattr(tensor, name, ())), kind)
    if flat is not None and tensor.dtype == _BFLOAT16:
        flat = (flat.astype("<u4") << 16).view("<f4")
    size = math.prod(shape)
    if flat is not None and flat.size == 1 and 1 < size <= _LARGEST:
        # The format's short form: one value that all have.
        flat = np.full(size, flat[0])
    if flat is None or flat.size != size or min(shape, default=0) < 0:
        raise InvalidValueError(f"the number of values does not fit the shape {shape} of the tensor")
    return flat.reshape(shape)


def histogram(tensor: Any) -> Histogram | None:
    """A histogram from rows of (left, right, count); None for one without buckets, which has no values."""
    rows = numbers(tensor).astype(np.float64)
    if rows.ndim != 2 or rows.shape[1] != 3:
        raise InvalidValueError(f"expected a histogram of shape [k, 3], got {rows.shape}")
    return _histogram(rows[:, 0].tolist(), rows[:, 1].tolist(), rows[:, 2].tolist())


def raw_histogram(value: Any) -> Histogram | None:
    """A histogram from a `HistogramProto`; None for one without values.

    Its outermost limits may be as large as floats can be. As TensorBoard does (`data_compat.py`), empty buckets at
    both ends are dropped, and the smallest and the largest value are the outer edges.
    """
    counts, limits = list(value.bucket), list(value.bucket_limit)
    if len(counts) != len(limits):
        raise InvalidValueError(f"a histogram has {len(counts)} buckets and {len(limits)} limits")
    held = [at for at, count in enumerate(counts) if count > 0]
    if not held:
        return None
    first, last = held[0], held[-1]
    inner = limits[first:last]
    low, high = value.min, value.max
    if not (math.isfinite(low) and math.isfinite(high)) or (low == high == 0 and len(inner) > 1):
        # A writer that knew neither.
        low = limits[first - 1] if first else min(limits[0], 0.0)
        high = limits[last]
    mean = value.sum / value.num if value.num > 0 else math.nan
    std = math.sqrt(max(0.0, value.sum_squares / value.num - mean * mean)) if value.num > 0 else math.nan
    facts = (value.min, value.max, mean, std)
    return _histogram([low, *inner], [*inner, high], counts[first : last + 1], facts)


def _histogram(
    lefts: Sequence[float], rights: Sequence[float], counts: Sequence[float], facts: Sequence[float] = ()
) -> Histogram | None:
    """A histogram from buckets in order; those without width are added to a neighbour, gaps become empty ones."""
    if not counts:
        return None
    edges: list[float] = []
    held: list[float] = []
    waiting = 0.0
    for left, right, count in zip(lefts, rights, counts, strict=True):
        if not right > left:
            if held:
                held[-1] += count
            else:
                waiting += count
            continue
        if not edges:
            edges.append(left)
        elif left > edges[-1]:
            edges.append(left)
            held.append(0.0)
        edges.append(right)
        held.append(count + waiting)
        waiting = 0.0
    if not held:
        # All values are the same one.
        middle = lefts[-1]
        margin = max(0.5, abs(middle) * 1e-6)
        edges, held = [middle - margin, middle + margin], [waiting]
    known = [number if abs(number) < _HUGE else math.nan for number in facts]
    return Histogram(np.array(held), np.array(edges), 0, 0, 0, *known)
