"""Turning a configuration of any common kind into plain JSON data.

Libraries are recognised by what their types offer (`__attrs_attrs__`, `model_dump`, `dtype`, …) and never imported.
Only types are asked, not objects: `ConfigDict(dtype="float32")` has an attribute `dtype` too.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import math
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from typing import Any, TypeAlias, cast

from tracking_core.base.redaction import redact_text, redact_tree
from tracking_core.errors import InvalidValueError

JSONScalar: TypeAlias = bool | int | float | str | None
"""A leaf of a configuration; floats may be NaN or infinite."""

OnError: TypeAlias = Callable[[str, InvalidValueError], None]
"""Called with (path, error) for a value that is left out."""

JSONValue: TypeAlias = "JSONScalar | list[JSONValue] | dict[str, JSONValue]"
"""Plain nested data."""

MAX_DEPTH = 64
MAX_VALUES = 500_000
MAX_ARRAY_SIZE = 64
MAX_REPR = 200

_TOP = "config"
"""What the whole of it is called in messages."""
_ACCEPTED = (
    "a mapping, a dataclass, an argparse.Namespace, a ConfigDict, a pydantic model, an attrs class, a NamedTuple, "
    "or an object with to_dict()"
)


Defer: TypeAlias = "Callable[[Any], Later | None]"
"""Takes an array; gives what stands for it until it has arrived, or None where it can be read now."""


class Later:
    """A part of a configuration that a device still computes.

    Args:
        array: A copy of it, which is ours.
    """

    __slots__ = ("_plain", "array")

    def __init__(self, array: Any) -> None:
        self.array = array
        self._plain: list[JSONValue] | None = None

    def arrive(self, host: Any) -> None:
        """Give it the array on the host."""
        self._plain = [_Conversion().convert(host, "config")]
        self.array = None

    @property
    def plain(self) -> JSONValue:
        """It as plain data; waits for its device."""
        array = self.array
        if self._plain is None and array is not None:
            import numpy as np

            self.arrive(np.asarray(array))
        assert self._plain is not None
        return self._plain[0]


def settled(value: Any) -> Any:
    """Plain data with nothing in it that has to arrive; waits for that."""
    if isinstance(value, Later):
        return value.plain
    if isinstance(value, dict):
        return {key: settled(part) for key, part in cast("dict[Any, Any]", value).items()}
    return [settled(part) for part in cast("list[Any]", value)] if isinstance(value, list) else value


def to_plain(
    config: object, on_error: OnError | None = None, defer: Defer | None = None, *, search: bool = True
) -> dict[str, JSONValue]:
    """A configuration as plain JSON data: dicts with str keys, lists, str, int, float, bool and None.

    Nested values may be mappings, dataclasses, namespaces, objects with `to_dict()`, pydantic, attrs and msgspec
    classes, NamedTuples, enums (by value), sequences and sets (lists; sets sorted), paths, dates, NumPy and JAX
    scalars, arrays of up to 64 elements (nested lists; larger ones become a description), dtypes, classes and functions
    (`module.qualname`). Anything else becomes a short repr. NaN and infinities stay floats. Keys that are not a str are
    converted. Secrets are replaced as `tracking_core.base.redaction.redact_tree` does.

    Args:
        config: The configuration; its top level must have names.
        on_error: Called with (path, error) for a value that no call can record, such as a traced one; its key is left
            out. None raises.
        defer: What becomes of small arrays; None reads them. With it, the result may hold a `Later`.
        search: Whether secrets are replaced; whoever says no does it later.

    Raises:
        InvalidValueError: The top level has no names, two keys become the same str, or the data refers to itself, is
            nested deeper than 64 levels, or holds more than 500,000 values or one that is traced. The message has the
            path.

    Example:
        >>> import argparse, pathlib
        >>> to_plain(argparse.Namespace(lr=0.1, data=pathlib.PurePosixPath("/data"), api_key="abc"))
        {'lr': 0.1, 'data': '/data', 'api_key': '[redacted]'}
    """
    plain = _Conversion(on_error, defer).convert(config, _TOP)
    if not isinstance(plain, dict):
        kind = f"the class {config.__qualname__}" if isinstance(config, type) else type(config).__qualname__
        hint = "; pass an instance of it" if dataclasses.is_dataclass(config) else ""
        raise InvalidValueError(f"config: expected {_ACCEPTED}, got {kind}{hint}")
    return redact_tree(plain) if search else plain


def length_of_text(value: JSONValue) -> int:
    """How many characters the texts in plain data have, keys left out.

    Args:
        value: The result of `to_plain`.
    """
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(length_of_text, value.values()))
    return sum(map(length_of_text, value)) if isinstance(value, list) else 0


def flatten(config: Mapping[str, JSONValue], sep: str = "/") -> dict[str, JSONScalar]:
    """Plain nested data as one level, for backends that take flat hyperparameters.

    Names are joined with `sep`; lists and empty dicts become JSON text. Where two joined names coincide, the later
    one gets "#2" (then "#3", …), so that nothing is lost.

    Args:
        config: The result of `to_plain`.
        sep: The separator between the names.

    Example:
        >>> flatten({"model": {"width": 64, "act": "gelu"}, "sizes": [1, 2]})
        {'model/width': 64, 'model/act': 'gelu', 'sizes': '[1, 2]'}
    """
    flat: dict[str, JSONScalar] = {}

    def visit(prefix: str, value: JSONValue) -> None:
        if isinstance(value, Mapping) and value:
            for key, inner in value.items():
                visit(f"{prefix}{sep}{key}", inner)
            return
        name, number = prefix, 1
        while name in flat:
            number += 1
            name = f"{prefix}#{number}"
        flat[name] = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value

    for key, value in config.items():
        visit(key, value)
    return flat


class _TracedError(InvalidValueError):
    """A value of a function that is being compiled: there is no number yet."""


class _Conversion:
    """One walk over a configuration, with what it must remember: the way down and how much it has seen."""

    def __init__(self, on_error: OnError | None = None, defer: Defer | None = None) -> None:
        self._on_error = on_error
        self._defer = defer
        self._paths: dict[int, str] = {}  # of the objects that enclose the present one, by id
        self._count = 0

    def convert(self, value: object, path: str) -> JSONValue:
        self._count += 1
        if self._count > MAX_VALUES:
            raise InvalidValueError(
                f"{path}: the configuration holds more than {MAX_VALUES:,} values; log large data as an artifact"
            )
        try:
            return self._convert(value, path)
        except InvalidValueError:
            raise
        except Exception:  # noqa: BLE001 - a user's class may raise anything from any of its methods
            return short_repr(value)

    def _convert(self, value: object, path: str) -> JSONValue:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, enum.Enum):
            return self.convert(value.value, path)
        if isinstance(value, str):
            return _valid_text(str.__str__(value))
        if isinstance(value, int):
            return _valid_int(int.__int__(value))
        if isinstance(value, float):
            return float.__float__(value)
        if isinstance(value, type):
            return _type_name(value)
        text = _as_text(value)
        if text is not None:
            return _valid_text(text)
        named = _names_of(value)
        if named is not None:
            return self._enclosed(value, path, lambda: self._mapping(named, path))
        if _is_array(value):
            return self._enclosed(value, path, lambda: self._array(value, path))
        if isinstance(value, list | tuple | deque | AbstractSet | Sequence | ValuesView) and not isinstance(
            value, bytes | bytearray | memoryview | range
        ):
            items = cast("Iterable[object]", value)
            return self._enclosed(value, path, lambda: self._list(items, path))
        return _qualified_name(value) or short_repr(value)

    def _enclosed(self, value: object, path: str, convert: Callable[[], JSONValue]) -> JSONValue:
        """Convert what is inside `value`, unless `value` is inside itself."""
        if id(value) in self._paths:
            raise InvalidValueError(f"{path}: refers back to {self._paths[id(value)]}; a configuration has no cycles")
        if len(self._paths) >= MAX_DEPTH:
            raise InvalidValueError(f"{path}: the configuration is nested deeper than {MAX_DEPTH} levels")
        self._paths[id(value)] = path
        try:
            return convert()
        finally:
            del self._paths[id(value)]

    def _mapping(self, named: Iterable[tuple[object, Callable[[], object]]], path: str) -> dict[str, JSONValue]:
        plain: dict[str, JSONValue] = {}
        keys: dict[str, object] = {}
        for key, read in named:
            name = self._key(key, path)
            if name in plain:
                both = f"{short_repr(keys[name])} and {short_repr(key)}"
                raise InvalidValueError(f"{path}: the keys {both} both become {name!r}; rename one")
            keys[name] = key
            try:
                value = read()
            except Exception as error:  # noqa: BLE001 - placeholders and interpolations raise when they are read
                plain[name] = f"<unreadable: {type(error).__name__}>"
            else:
                inside = f"{path}.{name}" if name.isidentifier() else f"{path}[{name!r}]"
                try:
                    plain[name] = self.convert(value, inside)
                except _TracedError as error:
                    if self._on_error is None:
                        raise
                    self._on_error(name if path == _TOP else inside, error)
        return plain

    def _key(self, key: object, path: str) -> str:
        try:
            if isinstance(key, tuple):
                # Paths into trees, as `flax.traverse_util.flatten_dict` makes them, are joined.
                return "/".join(str(self.convert(part, path)) for part in cast("tuple[object, ...]", key))
        except InvalidValueError:
            raise
        except Exception:  # noqa: BLE001, S110 - a user's class may raise anything; `convert` knows what to do
            pass
        return str(self.convert(key, path))

    def _list(self, items: Iterable[object], path: str) -> list[JSONValue]:
        plain = [self.convert(item, f"{path}[{index}]") for index, item in enumerate(items)]
        if isinstance(items, set | frozenset):
            # Their iteration order differs between processes, and means nothing.
            plain.sort(key=lambda item: (type(item).__name__, _sort_key(item)))
        return plain

    def _array(self, value: Any, path: str) -> JSONValue:
        if _is_traced(value):
            from tracking_core.values.arrays import traced_text

            raise _TracedError(f"{path!r}: {traced_text(value)}")
        shape = tuple(int(size) for size in value.shape)
        dtype = str(value.dtype)
        # What lies partly in other processes cannot be read here.
        if math.prod(shape) <= MAX_ARRAY_SIZE and getattr(value, "is_fully_addressable", True) is True:
            later = self._defer(value) if self._defer is not None else None
            if later is not None:
                return cast("JSONValue", later)
            try:
                plain = (value.astype(str) if dtype.startswith(("datetime64", "timedelta64")) else value).tolist()
            except Exception:  # noqa: BLE001 - deleted, traced, abstract arrays and random keys: only a description
                plain = None
            if isinstance(plain, list):
                return self._list(cast("list[object]", plain), path)
            if plain is not None:
                # The item of a type that Python lacks may be of that very type again.
                return float(plain) if _is_array(plain) else self.convert(plain, path)
        return f"<{type(value).__name__} {dtype}[{', '.join(map(str, shape))}]>"


# --- what a value offers ---------------------------------------------------------------------------------------


def _names_of(value: object) -> Iterable[tuple[object, Callable[[], object]]] | None:
    """The named parts of `value`, as (name, function that reads it), or None where it has no named parts."""
    kind: Any = type(value)
    if isinstance(value, Mapping):
        return _by_key(cast("Mapping[object, object]", value))
    if callable(getattr(kind, "model_dump", None)) and isinstance(getattr(kind, "model_fields", None), Mapping):
        dumped = _called(value, "model_dump", mode="json", warnings=False)
        # It fails for a model that holds an array, or itself; a root model gives no mapping.
        return _by_key(dumped) if isinstance(dumped, Mapping) else _by_attribute(value, kind.model_fields)
    if dataclasses.is_dataclass(value):
        return _by_attribute(value, [field.name for field in dataclasses.fields(value)])
    if hasattr(kind, "__attrs_attrs__"):
        return _by_attribute(value, [field.name for field in kind.__attrs_attrs__])
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return _by_attribute(value, kind._fields)
    if isinstance(getattr(kind, "__struct_fields__", None), tuple):  # msgspec
        return _by_attribute(value, kind.__struct_fields__)
    if hasattr(kind, "shape"):
        return None  # arrays and tables have keys() or to_dict() too, but are data
    for method in ("to_dict", "flag_values_dict"):  # ml_collections, transformers, and many more; absl
        if callable(getattr(kind, method, None)):
            mapping = _called(value, method)
            if isinstance(mapping, Mapping):
                return _by_key(cast("Mapping[object, object]", mapping))
    if hasattr(kind, "keys") and hasattr(kind, "__getitem__"):
        return _by_key(cast("Mapping[object, object]", value))
    if any(base.__name__ in {"Namespace", "SimpleNamespace"} for base in kind.__mro__):
        return _by_key(cast("Mapping[object, object]", vars(value)))
    return None


def _by_key(mapping: Mapping[object, object]) -> list[tuple[object, Callable[[], object]]]:
    return [(key, lambda key=key: mapping[key]) for key in mapping.keys()]  # noqa: SIM118 - may have only keys()


def _by_attribute(value: object, names: Iterable[str]) -> list[tuple[object, Callable[[], object]]]:
    return [(name, lambda name=name: getattr(value, name)) for name in names]


def _called(value: object, method: str, **options: object) -> object:
    try:
        return getattr(value, method)(**options)
    except Exception:  # noqa: BLE001 - then the other ways to read it are tried
        return None


def _is_array(value: object) -> bool:
    kind = type(value)
    if all(hasattr(kind, name) for name in ("dtype", "shape", "ndim")):
        return True
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(value, jax.Array)  # a tracer's type does not offer them


def _is_traced(value: object) -> bool:
    return "Tracer" in type(value).__name__ and "jax" in sys.modules


def _as_text(value: object) -> str | None:
    """Values that have an obvious text."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, os.PathLike):
        return os.fsdecode(cast("os.PathLike[str]", value))
    if isinstance(value, bytes | bytearray) and len(value) > MAX_REPR:
        return f"<{type(value).__name__} of length {len(value)}>"
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.dtype):
        return str(value)
    if isinstance(value, datetime.timedelta) or type(value).__module__ in {"decimal", "fractions", "uuid", "ipaddress"}:
        return str(value)
    return None


def _type_name(value: type) -> str:
    # The scalar types of NumPy, JAX and ml_dtypes are how a dtype is usually written.
    numpy: Any = sys.modules.get("numpy")
    dtype = getattr(value, "dtype", None)
    if numpy is not None and isinstance(dtype, numpy.dtype):
        return str(dtype)
    if numpy is not None and issubclass(value, numpy.generic):
        return value.__name__
    return f"{value.__module__}.{value.__qualname__}"


def _qualified_name(value: object) -> str | None:
    """`module.qualname` of a function, a method, or what wraps one."""
    name = getattr(value, "__qualname__", None)
    if not callable(value) or not isinstance(name, str):
        return None
    module = getattr(value, "__module__", None)
    return f"{module}.{name}" if isinstance(module, str) else name


# --- text ------------------------------------------------------------------------------------------------------


def short_repr(value: object) -> str:
    """A repr that cannot fail, is short, and is the same in every process."""
    try:
        # What is cut off here is never shown: redaction does not shorten a text a hundred times.
        text = str.__str__(repr(value))[: 100 * MAX_REPR]
        text = _valid_text(" ".join(re.sub(r" at 0x[0-9a-fA-F]+", "", text).split()))
        # Redacted before it is cut, because half a secret is not recognised.
        text = redact_text(text)
    except Exception:  # noqa: BLE001 - a user's __repr__ may raise anything
        # Past metaclasses, which may raise as well.
        text = f"<{type.__getattribute__(type(value), '__qualname__')}>"
    return text if len(text) <= MAX_REPR else f"{text[: MAX_REPR - 1]}…"


def plain_text(value: object) -> str:
    """Nested data as JSON text; what JSON does not know becomes what it is in a configuration.

    Args:
        value: A mapping, a set or a sequence; a short repr where it refers to itself, or is too large.
    """
    try:
        return json.dumps(_Conversion().convert(value, "value"), ensure_ascii=False)
    except InvalidValueError:
        return short_repr(value)


def _valid_text(text: str) -> str:
    """`text` without lone surrogates (undecodable file names have them), which JSON cannot carry as UTF-8."""
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def _valid_int(number: int) -> JSONValue:
    """`number`, or its hexadecimal text where Python itself refuses to write so many digits."""
    return number if number.bit_length() <= 4096 else hex(number)


def _sort_key(item: JSONValue) -> Any:
    # Within one type, numbers by size and text by alphabet; what else there is by its JSON.
    return item if isinstance(item, int | float | str) else json.dumps(item, sort_keys=True)


# --- changes ---------------------------------------------------------------------------------------------------


def merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Change a configuration; what is nested is merged, and anything else replaced.

    Args:
        into: The configuration that is changed.
        new: What is added to it.
    """
    for key, value in new.items():
        current = into.get(key)
        if isinstance(current, dict) and isinstance(value, Mapping):
            merge(cast("dict[str, Any]", current), cast("Mapping[str, Any]", value))
        else:
            into[key] = value


flatten_config, to_config = flatten, to_plain
"""What they are called in `tracking_core.values`."""
