"""How two `FakeTracker`s differ, in lines that people read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from tracking_core.naming import printable
from tracking_core.testing.fake.records import Entry, StoredVersion, same
from tracking_core.values import Histogram, Image
from tracking_core.values.kinds import KINDS

if TYPE_CHECKING:
    from tracking_core.testing.fake.tracker import FakeTracker

_STEPPED = {kind.method: kind.singular for kind in KINDS.values() if kind.has_step}
_MOST = 40


def difference(left: FakeTracker, right: FakeTracker) -> list[str]:
    """Lines that say what one holds and the other does not; none when they are equal."""
    lines: list[str] = []
    for line in _lines(left, right):
        lines.append(line)
        if len(lines) >= _MOST:
            lines.append("… and more")
            break
    return lines


def _lines(left: FakeTracker, right: FakeTracker) -> Iterator[str]:
    mine, theirs = _content(left), _content(right)
    for key in [*mine, *(key for key in theirs if key not in mine)]:
        kind, name = key
        label = f"{kind} {printable(name)!r}"
        yield from _sequences(label, mine.get(key, ()), theirs.get(key, ()))
    yield from _mappings("config", left.config, right.config)
    yield from _mappings("summary", left.summary, right.summary)
    yield from _sequences("alert", left.alerts, right.alerts)
    yield from _sequences("used artifact", left.used, right.used)
    for field in ("status", "error"):
        one, two = getattr(left, field), getattr(right, field)
        if one != two:
            yield f"{field}: {one!r} != {two!r}"


def _content(fake: FakeTracker) -> dict[tuple[str, str], Sequence[Any]]:
    content: dict[tuple[str, str], Sequence[Any]] = {}
    # Calls are the one place that knows the axis of every value.
    for call in fake.calls:
        kind = _STEPPED.get(call.method)
        if kind is None:
            continue
        for name, value in call.data.items():
            entries: Any = content.setdefault((kind, name), [])
            entries.append(Entry(call.axis or "step", call.step or 0, value))
    for name, versions in fake.artifacts.items():
        content["artifact", name] = versions
    return content


def _sequences(label: str, left: Sequence[Any], right: Sequence[Any]) -> Iterator[str]:
    for number in range(max(len(left), len(right))):
        if number >= len(right):
            yield f"{label}: only on the left: {_shown(left[number])}"
        elif number >= len(left):
            yield f"{label}: only on the right: {_shown(right[number])}"
        elif not _equal(left[number], right[number]):
            yield f"{label}, number {number}: {_shown(left[number])} != {_shown(right[number])}"


def _mappings(label: str, left: Mapping[str, Any], right: Mapping[str, Any]) -> Iterator[str]:
    for key in [*left, *(key for key in right if key not in left)]:
        if key not in right:
            yield f"{label} {key!r}: only on the left: {left[key]!r:.200}"
        elif key not in left:
            yield f"{label} {key!r}: only on the right: {right[key]!r:.200}"
        elif not same(left[key], right[key]):
            yield f"{label} {key!r}: {left[key]!r:.200} != {right[key]!r:.200}"


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, StoredVersion) and isinstance(right, StoredVersion):
        mine = (left.name, left.type, left.version, dict(left.files), left.aliases)
        theirs = (right.name, right.type, right.version, dict(right.files), right.aliases)
        return mine == theirs and same(left.metadata, right.metadata)
    return same(left, right)


def _shown(value: Any) -> str:
    if isinstance(value, Entry):
        axis = "" if value.axis == "step" else f" of {value.axis!r}"
        return f"step {value.step}{axis}: {_brief(value.value)}"
    if isinstance(value, StoredVersion):
        aliases = f" aliases {list(value.aliases)}" if value.aliases else ""
        metadata = f" metadata {_brief(dict(value.metadata))}" if value.metadata else ""
        digest = f" sha256 {value.digest[:12]}" if value.digest else ""
        return f"{value!r}{digest}{aliases}{metadata}"
    return _brief(value)


def _brief(value: Any) -> str:
    """A value on one line, such that what differs looks different."""
    if isinstance(value, list) and value and all(isinstance(one, Image) for one in cast("list[Any]", value)):
        return ", ".join(_brief(one) for one in cast("list[Any]", value))
    if isinstance(value, Image):
        shape = "x".join(map(str, value.pixels.shape))
        caption = f" {value.caption!r:.60}" if value.caption is not None else ""
        return f"image {shape}{caption} sha256 {value.digest()[:12]}"
    if isinstance(value, Histogram):
        counts = " ".join(str(value.counts.tolist()).split())
        return f"histogram of {value.count} values in {len(value.counts)} bins {counts:.120}"
    return " ".join(repr(value).split())[:200]
