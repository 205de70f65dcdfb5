"""Tags: which one a value of some name, kind and axis is written under.

TensorBoard knows a series by its tag alone, with one plugin and one step axis for each tag. Names of ours may be
shared by several kinds and several axes. The rules, in this order:

- Whoever uses a name first (one kind, one axis) gets the name itself as the tag, uncleaned. `val/loss` counted on
  "epoch" is the tag `val/loss`, and its steps are epochs.
- Anyone else gets the name and, in parentheses, what tells it from the first: `val/loss (step)`, `weights (images)`,
  `weights (images, epoch)`; and a number where that is taken too.
- What protocol buffers cannot hold (lone surrogates) is written as `~` and two hex digits a byte; a `~` that would be
  read as that becomes `~7e`; the empty name is `~`. A name longer than 400 characters is cut and ends in a digest.
- The first event of a tag says, in its description, what the tag alone does not: `step axis: epoch`, `kind: video`,
  `name: "…"` (JSON). TensorBoard shows the description beside the chart.

The table of tags is part of the run's state, so that a restart continues with the same ones.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

#: Tags that TensorBoard's HParams tab keeps for itself.
EXPERIMENT_TAG = "_hparams_/experiment"
SESSION_START_TAG = "_hparams_/session_start_info"
SESSION_END_TAG = "_hparams_/session_end_info"
_RESERVED = frozenset({EXPERIMENT_TAG, SESSION_START_TAG, SESSION_END_TAG})

DEFAULT_AXIS = "step"
#: Kind → the TensorBoard plugin that shows it.
PLUGINS: Mapping[str, str] = {
    "scalars": "scalars",
    "images": "images",
    "histogram": "histograms",
    "audio": "audio",
    "text": "text",
    "video": "images",
    "figure": "images",
    "table": "text",
    "html": "text",
    "artifact": "text",
    "captions": "text",
    "note": "text",
    "about": "text",
    "config": "text",
    "summary": "text",
    "metric": "scalars",
    "status": "text",
    "nan": "scalars",
    "posinf": "scalars",
    "neginf": "scalars",
}
#: Kinds that need not be named, because their plugin says it.
_PLAIN_KINDS = frozenset({"scalars", "images", "histogram", "audio", "text"})

_LONGEST = 400
_UNSAFE = re.compile("[\ud800-\udfff]|~(?=[0-9a-fA-F]{2})")
_SIMPLE_AXIS = re.compile(r"[\w./-]+(?: [\w./-]+)*")


def escape(name: str) -> str:
    """The name as protocol buffers can hold it; two names never meet.

    Example:
        >>> escape("loss"), escape("~"), escape(chr(0xD800))
        ('loss', '~7e', '~ed~a0~80')
    """
    if name in {"", "~"}:
        return "~7e" if name else "~"
    return _UNSAFE.sub(_escaped, name)


def _escaped(match: re.Match[str]) -> str:
    return "".join(f"~{byte:02x}" for byte in match[0].encode("utf-8", "surrogatepass"))


def shorten(text: str) -> str:
    """An escaped name that is not too long for a tag; a long one is cut and ends in a digest of the whole."""
    if len(text) <= _LONGEST:
        return text
    # "~z" follows no escaping: a cut name meets no whole one.
    return f"{text[: _LONGEST - 18]}~z{hashlib.sha256(text.encode()).hexdigest()[:16]}"


class TagTable:
    """Which tag belongs to whom, and which tags are described in the file already.

    Args:
        saved: What `saved` returned in an earlier process.
        described: Whether the file holds the first events of those tags.
    """

    def __init__(self, saved: Mapping[str, Any] | None = None, *, described: bool = True) -> None:
        self._owners: dict[str, tuple[str, str, str]] = {}
        self._tags: dict[tuple[str, str, str], str] = {}
        self._described: set[str] = set()
        # The scalars of a training loop are the same few hundred names every step: one look-up for each.
        self._known: dict[tuple[str, str, str], str] = {}
        self._saved: dict[str, list[str]] = {}
        for tag, entry in (saved or {}).items():
            kind, axis, *rest = entry
            self._own(tag, (kind, axis, rest[0] if rest else tag))
            self._saved[tag] = list(entry)
            if described:
                self._described.add(tag)

    def tag(self, name: str, kind: str, axis: str = DEFAULT_AXIS) -> str:
        """The tag for a name; claimed, if this is its first use."""
        key = (name, kind, axis)
        tag = self._known.get(key)
        if tag is None:
            owner = (kind, shorten(escape(axis)), shorten(escape(name)))
            tag = self._tags.get(owner)
            if tag is None:
                tag = self._free(owner)
                self._own(tag, owner)
            self._known[key] = tag
        return tag

    def description(self, tag: str, name: str, kind: str, axis: str = DEFAULT_AXIS) -> str | None:
        """What the first event of a tag must say; None when the tag is described in the file already."""
        if tag in self._described:
            return None
        lines: list[str] = []
        if axis != DEFAULT_AXIS:
            lines.append(f"step axis: {axis if _SIMPLE_AXIS.fullmatch(axis) else json.dumps(axis)}")
        if kind not in _PLAIN_KINDS:
            lines.append(f"kind: {kind}")
        if tag != name:
            lines.append(f"name: {json.dumps(name)}")
        return "\n\n".join(lines)

    def mark_described(self, tags: Iterable[str]) -> None:
        """Say that the first events of these tags are in the file now."""
        for tag in tags:
            if tag in self._described or tag in _RESERVED:
                continue
            self._described.add(tag)
            kind, axis, base = self._owners[tag]
            self._saved[tag] = [kind, axis] if base == tag else [kind, axis, base]

    def saved(self) -> dict[str, list[str]]:
        """The table as JSON values, of the tags that the file holds."""
        return dict(self._saved)

    def __len__(self) -> int:
        """How many tags the file holds."""
        return len(self._saved)

    def _own(self, tag: str, owner: tuple[str, str, str]) -> None:
        self._owners[tag] = owner
        self._tags[owner] = tag

    def _free(self, owner: tuple[str, str, str]) -> str:
        kind, axis, base = owner
        first = self._owners.get(base)
        if first is None and base not in _RESERVED:
            return base
        differs: list[str] = []
        if first is None or first[0] != kind:
            differs.append(kind)
        if first is not None and first[1] != axis:
            differs.append(axis)
        plain = f"{base} ({', '.join(differs)})" if differs else base
        tag, number = plain, 2
        while tag in self._owners:
            tag = f"{plain} ({number})"
            number += 1
        return tag
