"""What the fields of each kind of event are, checked where a line becomes an event.

A line may come from anywhere, and its checksum says only that it is whole. One whose fields are not those of its kind
is damage as any other: it is stepped over and reported, and nothing of it is obeyed. Kinds that are not known here, and
fields beyond those of a kind, are of later versions, and are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import Meta, Struct

from tracking_core.base.json_text import NOT_FINITE
from tracking_core.base.structs import ready
from tracking_core.protocol import STATUSES
from tracking_core.values.fields import Count, Number
from tracking_core.values.kinds import MEDIA

DEEPEST = 128
"""How deep the values of users may be nested; what is recorded is at most half of that."""

Step = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Real = bool | int | float | str
"""A number of a scalar; those that JSON has not are text."""
Tree = dict[str, Any]
"""Values of users, packed."""


class _Stepped(Struct):
    axis: str
    step: Step


class _Scalars(_Stepped):
    values: dict[str, Real]


class _Image(Struct):
    file: str
    shape: list[Count] = msgspec.field(default_factory=list[int])
    caption: str | None = None
    clipped: Count = 0


class _Images(_Stepped):
    images: dict[str, list[_Image]]


class _Named(_Stepped):
    name: str


class _Histogram(_Named):
    counts: list[float]
    edges: list[float]
    nan: Count
    posinf: Count
    neginf: Count
    min: float | Tree
    max: float | Tree
    mean: float | Tree
    std: float | Tree


class _Content(Struct):
    sha256: Sha256
    size: Count


class _Artifact(Struct):
    name: str
    type: str
    version: Count
    digest: str
    metadata: Tree
    aliases: list[str]
    files: dict[str, _Content]
    blobs: str


class _UsedArtifact(Struct):
    artifact: str
    name: str
    type: str
    version: Count | None
    digest: str


class _Config(Struct):
    config: Tree


class _Summary(Struct):
    summary: Tree


class _Environment(Struct):
    environment: Tree


class _Alert(Struct):
    title: str
    text: str
    level: Literal["info", "warn", "error"]


class _Finish(Struct):
    status: Literal[STATUSES]  # pyright: ignore[reportInvalidTypeForm] - the texts stand there
    error: str | None = None
    dropped: dict[str, Count] = msgspec.field(default_factory=dict[str, int])


class Cutting(Struct):
    """Where a writer is cut; see `superseded`."""

    last: Count
    begin: Count | None = msgspec.field(name="from")


class Truncating(_Stepped):
    """The event `truncate`, and an entry of `forks`; see `superseded`."""

    writers: dict[str, Cutting]


class _Seal(Struct):
    segment: Number
    bytes: Count
    sha256: Sha256


class _Segment(Struct):
    v: Number
    run: str
    writer: str
    segment: Number
    previous: str | None = None
    parent: str | None = None


class _Compacted(Struct):
    v: Number
    writer: str
    segments: tuple[Number, Number]
    digests: list[Sha256]
    first: Count
    last: Count
    count: Count
    records: Count
    whole: Count
    content: Sha256
    parent: str | None = None


class _Names(Struct):
    names: dict[str, tuple[Number, Count, Real]]


class _Damage(Struct):
    file: str
    offset: Count
    length: Count
    reason: str
    content: str | None = None


HEADERS = frozenset({"segment", "compacted"})
"""Kinds of the first lines of files; they carry the number of the format."""
OF_PARTS = frozenset({"compacted", "names", "damage"})
"""Kinds of lines of parts about the part; in a journal there are none."""
UNNUMBERED = HEADERS | OF_PARTS
"""Kinds of lines that are no events of the run: their number is 0."""

_FIELDS: Mapping[str, type[Struct]] = {
    **{kind.name: msgspec.defstruct(kind.name, kind.fields(), bases=(_Named,)) for kind in MEDIA.values()},
    "scalars": _Scalars, "images": _Images, "histogram": _Histogram, "artifact": _Artifact,
    "use_artifact": _UsedArtifact, "config": _Config, "summary": _Summary, "environment": _Environment,
    "alert": _Alert, "finish": _Finish, "truncate": Truncating, "seal": _Seal, "segment": _Segment,
    "compacted": _Compacted, "names": _Names, "damage": _Damage,
}  # fmt: skip
for _shape in (_Stepped, _Named, *_FIELDS.values()):
    ready(_shape)
_PACKED = {"config": "config", "summary": "summary", "environment": "environment", "artifact": "metadata"}
"""Kind → the field with values of users."""


def check(kind: str, seq: int, fields: Mapping[str, Any], unpack: Callable[[Any], Any]) -> None:
    """See that the fields of an event are those of its kind.

    Args:
        kind: The kind; there is nothing to say of one that is not known.
        seq: The number of the event.
        fields: Its fields.
        unpack: Makes values of users of packed ones.

    Raises:
        ValueError: Something is missing, of the wrong type or out of range; the message says what.
    """
    shape = _FIELDS.get(kind)
    if (seq == 0) != (kind in UNNUMBERED) and (shape is not None or kind == "mark"):
        raise ValueError(f"it has the number {seq}")
    if shape is None or shape is Truncating:
        # What takes others back cannot be stepped over: they would count again. `Truncation.read` refuses all of it.
        return
    try:
        found = msgspec.convert(fields, shape)
    except (ValueError, OverflowError) as error:
        raise ValueError(str(error)) from error
    if kind in _PACKED:
        check_tree(fields[_PACKED[kind]], unpack)
    elif isinstance(found, _Histogram):
        _check_histogram(found, unpack)
    elif isinstance(found, _Names):
        for _, _, number in found.names.values():
            if isinstance(number, str) and number not in NOT_FINITE:
                raise ValueError(f"{number[:40]!r} is not a number")
    elif isinstance(found, _Compacted):
        first, last = found.segments
        if last - first + 1 != len(found.digests) or found.first > found.last:
            raise ValueError("its segments and their digests do not fit together")


def check_tree(tree: Any, unpack: Callable[[Any], Any]) -> Mapping[str, Any]:
    """See that values of users can be unpacked, and are a mapping then.

    Raises:
        ValueError: They cannot, or are none, or are nested too deep for whoever goes through them.
    """
    if not is_flat_enough(tree):
        raise ValueError(f"it is nested deeper than {DEEPEST} levels")
    found = unpack(tree)
    if not isinstance(found, dict):
        raise ValueError(f"expected an object, got {type(found).__name__}")  # noqa: TRY004 - what was read is wrong
    return cast("Mapping[str, Any]", found)


def is_flat_enough(tree: Any) -> bool:
    """Whether values of users are nested no deeper than those who go through them can go."""
    level: list[Any] = [tree]
    for _ in range(DEEPEST):
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below += cast("dict[str, Any]", one).values()
            elif isinstance(one, list):
                below += cast("list[Any]", one)
        level = [one for one in below if isinstance(one, (dict, list))]
        if not level:
            return True
    return False


def _check_histogram(found: _Histogram, unpack: Callable[[Any], Any]) -> None:
    edges = found.edges
    if not found.counts or len(edges) != len(found.counts) + 1 or min(found.counts) < 0:
        raise ValueError("counts and edges of the histogram do not fit together")
    if any(low >= high for low, high in pairwise(edges)):
        raise ValueError("the edges of the histogram do not increase")
    for number in (found.min, found.max, found.mean, found.std):
        if isinstance(number, dict) and not isinstance(unpack(number), (int, float)):
            raise ValueError("a value of the histogram is not a number")  # noqa: TRY004 - as above
