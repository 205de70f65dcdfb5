"""What is known of a tag when its values are read: plugin, kind, axis and name, from the metadata of its first event.

Metadata belong to the tag. Only the first event carries them, and later ones hold the same series whatever field they
use for it: earlier versions of this adapter wrote the first number of a described series as a tensor and the others
plainly. A file that says something of a tag itself is believed before the other files of the run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tracking_tensorboard.tags import DEFAULT_AXIS

TEXT_ENDING = "/text_summary"
_FIELDS = {"simple_value": "scalars", "image": "images", "histo": "histograms", "audio": "audio"}


@dataclass(frozen=True, slots=True)
class Tag:
    """What is known of a tag.

    Args:
        plugin: The plugin that shows it.
        name: The name that was logged.
        kind: What it is: a key of `tags.PLUGINS`, or the plugin of another writer.
        axis: The step axis.
    """

    plugin: str
    name: str
    kind: str
    axis: str


class Descriptions:
    """The tags of a run, as its events are read in order."""

    def __init__(self) -> None:
        # By tag and plugin: writers of the older form take one tag for scalars and for images alike.
        self._run: dict[tuple[str, str], Tag] = {}
        self._file: dict[tuple[str, str], Tag] = {}
        # By tag alone, for tensors, which do not say what they hold.
        self._first_of_run: dict[str, Tag] = {}
        self._first_of_file: dict[str, Tag] = {}
        # Most values are the few hundred series of a loop, without metadata: one look-up for each.
        self._known: dict[tuple[str, str | None], Tag] = {}

    def begin_file(self) -> None:
        """Say that what comes is from the next file: it may give a tag to another series."""
        self._file.clear()
        self._first_of_file.clear()
        self._known.clear()

    def learn(self, value: Any) -> None:
        """Remember what a value says of its tag."""
        if value.HasField("metadata"):
            self._learned(value)

    def tag(self, value: Any) -> Tag:
        """What is known of the tag of a value."""
        if value.HasField("metadata"):
            return self._learned(value)
        key = value.tag, value.WhichOneof("value")
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._undescribed(*key)
        return known

    def _learned(self, value: Any) -> Tag:
        # Other writers repeat the metadata in every event.
        tag = value.tag
        known = self._file.get((tag, value.metadata.plugin_data.plugin_name))
        if known is not None:
            return known
        made = _described(value)
        known = self._file.get((tag, made.plugin))
        if known is None:
            known = self._file[tag, made.plugin] = self._run[tag, made.plugin] = made
            self._first_of_file.setdefault(tag, made)
            self._first_of_run.setdefault(tag, made)
            for field in (*_FIELDS, "tensor", None):
                self._known.pop((tag, field), None)
        return known

    def _undescribed(self, tag: str, field: str | None) -> Tag:
        plugin = _FIELDS.get(field or "")
        if plugin is not None:
            found = self._file.get((tag, plugin)) or self._run.get((tag, plugin))
            return found or Tag(plugin, tag, _kind(plugin), DEFAULT_AXIS)
        found = self._first_of_file.get(tag) or self._first_of_run.get(tag)
        if found is None and tag.endswith(TEXT_ENDING):
            found = Tag("text", tag, "text", DEFAULT_AXIS)
        return found or Tag("", tag, "", DEFAULT_AXIS)


def _kind(plugin: str) -> str:
    return {"histograms": "histogram"}.get(plugin, plugin)


def _described(value: Any) -> Tag:
    """What an event with metadata says of its tag."""
    field = value.WhichOneof("value")
    plugin = value.metadata.plugin_data.plugin_name or _FIELDS.get(field or "", "")
    if field == "tensor" and not plugin and value.tag.endswith(TEXT_ENDING):
        plugin = "text"
    facts = {"kind": _kind(plugin), "step axis": DEFAULT_AXIS, "name": value.tag}
    for line in value.metadata.summary_description.split("\n\n"):
        key, colon, text = line.partition(": ")
        # Any other writer's description is a text about the chart.
        if colon and key in facts:
            try:
                facts[key] = json.loads(text) if text.startswith('"') else text
            except ValueError:
                continue
    return Tag(plugin, str(facts["name"]), str(facts["kind"]), str(facts["step axis"]) or DEFAULT_AXIS)
