"""From whatever holds numbers to a numpy array that is ours: one place that knows JAX arrays, duck-typed."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import islice
from typing import Any, cast

import numpy as np

from tracking_core.errors import InvalidValueError
from tracking_core.values.right_call import foreign_call

#: numpy's own real kinds. The `ml_dtypes` (bfloat16, float8_*, int4) report kind "V" and are known by name.
_REAL_KINDS = frozenset("biuf")
_EXTENSION_PREFIXES = ("bfloat", "float", "int", "uint")
LONGEST = 1_000_000
"""How much is taken from an iterable that is no list, tuple or array: it may have no end, whatever its length says."""
_FINITE = frozenset({bool, int, float, complex, str, bytes, bytearray, dict, type(None), np.ndarray})
"""What numpy reads without asking it for one part after another."""


def describe(value: object) -> str:
    """Type, dtype and shape of a value for an error message; never raises, whatever the object does."""
    kind = type(value)
    text = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
        if shape is not None and dtype is not None:
            return f"{text} of shape {tuple(shape)} and dtype {dtype}"
    except Exception:  # noqa: BLE001 - a hostile object must not break the message about it
        return text
    return text


def is_real(dtype: np.dtype[Any]) -> bool:
    """Whether arrays of this dtype hold real numbers (bool, integers, floats, and JAX's extension types)."""
    return dtype.kind in _REAL_KINDS or (dtype.kind == "V" and dtype.name.startswith(_EXTENSION_PREFIXES))


def is_integral(dtype: np.dtype[Any]) -> bool:
    """Whether arrays of this dtype hold integers (JAX's int2 and int4 included)."""
    return dtype.kind in "iu" or (dtype.kind == "V" and dtype.name.startswith(("int", "uint")))


def is_array_like(value: object) -> bool:
    """Whether a value says that it is an array; False for objects that cannot even be asked."""
    try:
        return hasattr(value, "dtype") or hasattr(value, "__array__")
    except Exception:  # noqa: BLE001 - a hostile object must not break the message about it
        return False


def is_on_device(value: object) -> bool:
    """Whether a value is a JAX array, which nobody may read before it is asked for: that waits for its device."""
    kind = type(value)
    return kind not in _FINITE and hasattr(kind, "is_fully_addressable") and hasattr(kind, "sharding")


def bounded(items: Iterable[Any], what: str, limit: int = LONGEST) -> list[Any] | tuple[Any, ...]:
    """What is in an iterable, unless it goes on and on.

    Args:
        items: Lists and tuples are what they are; of anything else at most `limit` parts are taken.
        what: What it is, for the error message.
        limit: See above.

    Raises:
        InvalidValueError: There is more.
    """
    if type(items) is list or type(items) is tuple:
        return items
    found = list(islice(items, limit + 1))
    if len(found) > limit:
        raise InvalidValueError(
            f"{what}: {describe(items)} gives more than {limit:,} parts, and may have no end; pass a list or an array"
        )
    return found


def _finite(value: Any, key: str) -> Any:
    """The value, with what numpy would read part by part turned into lists: it would go on for ever with some."""
    kind = type(value)
    if kind in _FINITE or isinstance(value, (str, bytes, np.generic)) or not hasattr(value, "__getitem__"):
        return value
    if kind is not list and kind is not tuple:
        if is_array_like(value) or hasattr(value, "__array_interface__") or isinstance(value, (memoryview, array)):
            return value
        value = bounded(value, repr(key))
    parts = cast("list[Any]", value)
    if all(part in _FINITE for part in set(map(type, parts))):
        return parts
    return [_finite(part, key) for part in parts]


def to_host(value: Any, key: str, *, copy: bool = False) -> np.ndarray[Any, Any]:
    """Bring an array-like of real numbers to the host.

    Args:
        value: numpy or JAX array of any shape, number, nested sequence, or anything with `__array__`.
        key: The name it is logged under, for the error message.
        copy: Whether the result must not share memory with `value`. JAX arrays are always copied: on CPU
            `numpy.asarray` gives a view of a buffer that may be donated to the next step.

    Returns:
        An array of a real dtype and the same shape.

    Raises:
        InvalidValueError: It holds no real numbers, was deleted by donation, is a tracer, or lives elsewhere.
    """
    found = _convert(value, key, copy=copy) if type(value) is not np.ndarray or copy else value
    if not is_real(found.dtype):
        msg = f"{key!r}: expected real numbers, got {describe(value)}{foreign_call(value)}"
        if found.dtype.kind == "c":
            msg += "; log its real part, imaginary part or magnitude"
        raise InvalidValueError(msg)
    return found


def _convert(value: Any, key: str, *, copy: bool) -> np.ndarray[Any, Any]:
    try:
        if hasattr(value, "is_fully_addressable") and hasattr(value, "sharding"):
            return np.array(value if value.is_fully_addressable else _local(value, key), copy=True)
        if isinstance(value, np.ma.MaskedArray):
            value = _unmasked(value, key)
        value = _finite(value, key)
        return np.array(value, copy=True) if copy else np.asarray(value)
    except InvalidValueError:
        raise
    except Exception as error:
        raise InvalidValueError(f"{key!r}: {_reason(value, error)}") from error


def _local(value: Any, key: str) -> Any:
    if not value.is_fully_replicated:
        raise InvalidValueError(
            f"{key!r}: {describe(value)} is spread over several processes; reduce or gather it first "
            "(jax.experimental.multihost_utils.process_allgather)"
        )
    return value.addressable_data(0)


def _unmasked(value: Any, key: str) -> Any:
    if np.ma.is_masked(value):
        # What is behind the mask is no data, and numpy would hand it out as if it were.
        raise InvalidValueError(f"{key!r}: {describe(value)} has masked entries; fill them, or log x.compressed()")
    return value.data


def traced_text(value: object) -> str:
    """What is said of a value of a function that is being compiled."""
    return (
        f"{describe(value)} is traced: the log call is inside jit; return the value from the jitted function, and log "
        "that"
    )


def _reason(value: object, error: Exception) -> str:
    text = describe(value)
    name = type(error).__name__
    if "Tracer" in name or "Tracer" in type(value).__name__:
        return traced_text(value)
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - the exception may be as hostile as the object
        message = ""
    if "deleted" in message or "donated" in message:
        return (
            f"{text} was deleted, because it was donated to a jitted call; log it before that call, or log its result"
        )
    if "key" in message and "dtype" in text:
        return f"{text} is a PRNG key; log jax.random.key_data(key) if you need its numbers"
    return f"cannot read {text} as numbers ({name}: {message[:200]})"
