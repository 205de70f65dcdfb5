"""What a `FakeTracker` returns: calls, artifacts, alerts, and entries by name."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar, cast

from tracking_core.errors import NameNotFoundError
from tracking_core.naming import printable
from tracking_core.values import ArtifactRef

T = TypeVar("T")


class Entry(NamedTuple):
    """One value under a name."""

    axis: str
    step: int
    value: Any


class Alert(NamedTuple):
    """One alert, as it was raised."""

    title: str
    text: str
    level: str


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One version of an artifact, with the bytes of its files.

    Args:
        name: Name of the artifact.
        type: Its kind.
        version: Counted from 0 for each name and type.
        files: Relative POSIX paths to bytes.
        aliases: The aliases given in the call.
        metadata: A copy of what was given.
        digest: sha256 over the files, hex.
    """

    name: str
    type: str
    version: int
    files: Mapping[str, bytes]
    aliases: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    digest: str = ""

    @property
    def ref(self) -> ArtifactRef:
        """The reference that `log_artifact` returned."""
        return ArtifactRef(self.name, self.type, self.version, self.digest, self.aliases)

    def __repr__(self) -> str:
        files = ", ".join(f"{path} ({len(data)} B)" for path, data in sorted(self.files.items())[:5])
        more = ", …" if len(self.files) > 5 else ""
        return f"{self.type} {self.name}:v{self.version} [{files}{more}]"


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call of a method of the protocol, in the form in which a backend receives it.

    Args:
        method: Name of the method, such as "log_scalars".
        names: The names in it, in order.
        step: The step; None for methods without steps.
        axis: The step axis; None for methods without steps.
        wall_time: The given time; None if the caller did not set it.
        data: The values after coercion: a dict of numbers, a dict of lists of `Image`, a `Histogram`, and so on.
    """

    method: str
    names: tuple[str, ...] = ()
    step: int | None = None
    axis: str | None = None
    wall_time: float | None = None
    data: Any = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Call):
            return NotImplemented
        mine = (self.method, self.names, self.step, self.axis, self.wall_time)
        theirs = (other.method, other.names, other.step, other.axis, other.wall_time)
        return mine == theirs and same(self.data, other.data)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        parts = [repr(printable(name)) for name in self.names[:4]]
        if len(self.names) > 4:
            parts.append(f"… {len(self.names) - 4} more")
        if self.step is not None:
            parts.append(f"step={self.step}")
        if self.axis not in {None, "step"}:
            parts.append(f"step_axis={self.axis!r}")
        if self.wall_time is not None:
            parts.append(f"wall_time={self.wall_time!r}")
        return f"{self.method}({', '.join(parts)})"


class Names(Mapping[str, T], Generic[T]):
    """A live, read-only view: names to what was recorded under them, with a helpful error for a wrong name."""

    def __init__(self, kind: str, entries: Mapping[str, Sequence[Any]], shown: Callable[[Sequence[Any]], T]) -> None:
        self._kind = kind
        self._entries = entries
        self._shown = shown

    def __getitem__(self, name: str) -> T:
        shown = self._shown(self._entries[name]) if name in self._entries else None
        if not shown:
            raise NameNotFoundError(self._missing(name))
        return shown

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, entries in list(self._entries.items()) if self._shown(entries)])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __repr__(self) -> str:
        return repr(dict(self))

    def _missing(self, name: object) -> str:
        there = list(self)
        close = difflib.get_close_matches(name, there, n=1, cutoff=0.6) if isinstance(name, str) else []
        hint = f": did you mean {close[0]!r}?" if close else ""
        names = ", ".join(repr(printable(one)) for one in there[:20]) or "none at all"
        more = f" and {len(there) - 20} more" if len(there) > 20 else ""
        return f"no {self._kind} {name!r:.100} was logged{hint}; there are {names}{more}"


def same(left: Any, right: Any) -> bool:
    """Equality that lets NaN equal NaN, at any depth of mappings and sequences."""
    if isinstance(left, float) and isinstance(right, float):
        return left == right or (math.isnan(left) and math.isnan(right))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        mine, theirs = cast("Mapping[Any, Any]", left), cast("Mapping[Any, Any]", right)
        return mine.keys() == theirs.keys() and all(same(mine[key], theirs[key]) for key in mine)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        ours, others = cast("Sequence[Any]", left), cast("Sequence[Any]", right)
        return len(ours) == len(others) and all(same(a, b) for a, b in zip(ours, others, strict=True))
    return bool(left == right)
