"""Scalars, steps and names."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from tracking_core.errors import InvalidStepError, InvalidValueError
from tracking_core.values.arrays import bounded, describe, is_array_like, is_integral, to_host
from tracking_core.values.right_call import right_call

Scalar: TypeAlias = bool | int | float
"""What a scalar is once it is on the host."""

_PLAIN = frozenset({float, int, bool})
_STEP_LIMIT = 2**63
#: From here on an int has no float, not even by rounding: no backend could hold it.
_INT_LIMIT = 2**1024 - 2**970
_MAX_DEPTH = 32
MOST_NAMES = 100_000
"""How many names a mapping that is not a dict may have: it may be endless."""
OnError: TypeAlias = Callable[[str, InvalidValueError], None]
"""Called with (name, error) for a value that cannot be taken."""


def to_scalar(value: Any, key: str) -> Scalar:
    """Turn one value into a bool, an int or a float, exactly.

    Args:
        value: bool, int, float, or a size-1 array of a real dtype, bfloat16 and float8 included.
        key: The name it is logged under, for the error message.

    Raises:
        InvalidValueError: Not a real number, or more than one.

    Example:
        >>> import numpy as np
        >>> to_scalar(np.float32(0.5), "loss")
        0.5
    """
    if type(value) in _PLAIN and type(value) is not int:
        return value
    if isinstance(value, (str, bytes)) or value is None:
        raise InvalidValueError(f"{key!r}: expected a number, got {describe(value)}{right_call(value)}")
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, int):
        if not -_INT_LIMIT < value < _INT_LIMIT:
            raise InvalidValueError(
                f"{key!r}: an integer of {value.bit_length()} bits is too large for a float; log a ratio"
            )
        return int.__index__(value)
    if not is_array_like(value):
        raise InvalidValueError(
            f"{key!r}: expected a number or an array of size 1, got {describe(value)}{right_call(value)}"
        )
    array = to_host(value, key)
    if array.size != 1:
        raise InvalidValueError(f"{key!r}: {_many(array.shape, describe(value))}")
    item = array.reshape(())[()]
    if array.dtype.kind == "b":
        return bool(item)
    if is_integral(array.dtype):
        return int(item)
    number = float(item)
    if math.isinf(number) and not np.isinf(item):
        raise InvalidValueError(f"{key!r}: {item} of dtype {array.dtype} is too large for float64")
    return number


def _many(shape: tuple[int, ...], text: str) -> str:
    if len(shape) == 1:
        return f"expected one number, got {text}; reduce it (x.mean()), or log x[0] where the axis is a replica axis"
    return f"expected one number, got {text}; reduce it (x.mean()), or use log_histogram or log_images"


def to_step(step: Any) -> int:
    """Turn a step into an int of 64 bits.

    Args:
        step: An int, a float without fraction, or a 0-d (size-1) integer array.

    Raises:
        InvalidStepError: It is not a whole number, or does not fit into 64 bits.
    """
    if type(step) is int:
        value = step
    elif isinstance(step, bool) or step is None or isinstance(step, (str, bytes)):
        raise InvalidStepError(f"step: expected an integer, got {describe(step)}")
    else:
        try:
            value = operator.index(step)
        except Exception:  # noqa: BLE001 - arrays of size 1 that are not 0-d, floats, and anything else come here
            value = _whole(step)
    if not -_STEP_LIMIT <= value < _STEP_LIMIT:
        raise InvalidStepError(f"step: an integer of {value.bit_length()} bits does not fit into 64")
    return value


def _whole(step: Any) -> int:
    try:
        number = to_scalar(step, "step")
    except InvalidValueError as error:
        raise InvalidStepError(str(error)) from error
    if isinstance(number, bool) or (isinstance(number, float) and not number.is_integer()):
        raise InvalidStepError(f"step: expected a whole number, got {number!r}")
    return int(number)


def to_name(name: Any) -> str:
    """Check that a name is a str (any str: adapters encode what their backend cannot hold)."""
    if isinstance(name, str):
        return name if type(name) is str else str.__str__(name)
    raise InvalidValueError(f"a name must be a str, got {describe(name)}")


def to_axis(axis: Any) -> str:
    """Check the name of a step axis."""
    if not isinstance(axis, str) or not axis:
        raise InvalidStepError(f"step_axis: expected a non-empty str, got {describe(axis) if axis != '' else axis!r}")
    return to_name(axis)


def entries(mapping: Mapping[Any, Any], where: str = "") -> Iterable[tuple[Any, Any]]:
    """The items of a mapping, up to a limit.

    Args:
        mapping: Any; a plain dict is what it is.
        where: Name of the mapping, for the error message.

    Raises:
        InvalidValueError: There are more than 100,000, and it is not a plain dict.
    """
    if type(mapping) is dict:
        return mapping.items()
    return bounded(mapping.items(), repr(where) if where else "a mapping of values", MOST_NAMES)


def flatten_scalars(
    scalars: Mapping[str, Any],
    prefix: str = "",
    on_error: OnError | None = None,
    _outer: tuple[Mapping[str, Any], ...] = (),
) -> Iterator[tuple[str, Any]]:
    """Yield (name, raw value) with nested mappings joined by "/"; anything that is not a mapping is a leaf.

    Args:
        scalars: Names to values or mappings.
        prefix: Put before every name, with a "/".
        on_error: Called with (name, error) for a value that is not valid; the value is left out. None raises.

    Raises:
        InvalidValueError: A key is not a str, or a mapping holds itself or is nested more than 32 levels deep.
    """
    outer = (*_outer, scalars)
    for key, value in entries(scalars, prefix):
        name = prefix
        try:
            name = f"{prefix}/{to_name(key)}" if prefix else to_name(key)
            if isinstance(value, Mapping):
                yield from flatten_scalars(_nested(value, name, outer), name, on_error, outer)
            else:
                yield name, value
        except InvalidValueError as error:
            if on_error is None:
                raise
            on_error(name or type(key).__name__, error)
        except Exception as error:
            # A mapping may be as hostile as an array; it costs its own name, not the others of the call.
            failure = InvalidValueError(f"{name!r}: cannot read {describe(value)} ({type(error).__name__})")
            if on_error is None:
                raise failure from error
            on_error(name, failure)


def _nested(value: Mapping[str, Any], name: str, outer: tuple[Mapping[str, Any], ...]) -> Mapping[str, Any]:
    if len(outer) > _MAX_DEPTH or any(value is one for one in outer):
        raise InvalidValueError(f"{name[-200:]!r}: a mapping that holds itself, or is over {_MAX_DEPTH} deep")
    return value


def to_scalars(
    scalars: Mapping[str, Any], on_error: OnError | None = None, defer: Callable[[str, Any], bool] | None = None
) -> dict[str, Scalar]:
    """Turn a (nested) mapping of values into a flat dict of host numbers.

    Args:
        scalars: Names to values as `to_scalar` takes them; nested mappings are joined with "/".
        on_error: Called with (name, error) for a value that is not valid; the value is left out. None raises.
        defer: Called with (name, value) for each value that is not a plain number; returns whether it handles the
            value.

    Raises:
        InvalidValueError: A value is not a number and `on_error` is None; or `scalars` is not a mapping.
    """
    if not isinstance(scalars, Mapping):
        raise InvalidValueError(f"log_scalars: expected a mapping of names to numbers, got {describe(scalars)}")
    plain: dict[str, Scalar] = {}
    for key, value in entries(scalars):
        kind = type(value)
        if kind in _PLAIN and type(key) is str and (kind is not int or -_INT_LIMIT < value < _INT_LIMIT):
            plain[key] = value
            continue
        if defer is not None and type(key) is str and defer(key, value):
            continue
        for name, leaf in flatten_scalars({key: value}, "", on_error, (scalars,)):
            if defer is not None and defer(name, leaf):
                continue
            try:
                plain[name] = to_scalar(leaf, name)
            except InvalidValueError as error:
                if on_error is None:
                    raise
                on_error(name, error)
    return plain
