"""What a contract check needs to know about an adapter: how to open it, and how to read back what it stored."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from tracking_core.backends.plugins import Adapter, find_adapter
from tracking_core.backends.targets import Target, parse_target
from tracking_core.values.kinds import KINDS, MEDIA

if TYPE_CHECKING:
    import numpy as np

    from tracking_core.backends.hooks import RunInfo
    from tracking_core.protocol import Tracker
    from tracking_core.values import Histogram


class StoredScalar(NamedTuple):
    """One number, as it was read back. `time` is in seconds since the epoch, None if it is not kept."""

    name: str
    axis: str
    step: int
    value: float
    time: float | None = None


class StoredImage(NamedTuple):
    """One image; `pixels` is uint8 of shape `[H, W, C]` (or `[H, W]`). Images of one call come in order."""

    name: str
    axis: str
    step: int
    pixels: np.ndarray[Any, Any]
    caption: str | None = None
    time: float | None = None


class StoredHistogram(NamedTuple):
    """One histogram."""

    name: str
    axis: str
    step: int
    value: Histogram
    time: float | None = None


class StoredValue(NamedTuple):
    """One value of some other kind.

    A table is a `Table`, a text or HTML a `str`, audio int16 samples of shape `[T, channels]`, a video uint8 frames of
    shape `[T, H, W, C]`, and a figure its pixels.
    """

    name: str
    axis: str
    step: int
    value: Any
    time: float | None = None


class StoredArtifact(NamedTuple):
    """One version of an artifact: relative POSIX paths to bytes."""

    name: str
    type: str
    files: Mapping[str, bytes]
    aliases: tuple[str, ...] = ()
    metadata: Mapping[str, Any] | None = None


@dataclass(slots=True)
class Stored:
    """All that a backend holds of one run, in the order in which it holds it.

    Names are as the user gave them (decoded, where the adapter encodes). None means that this harness cannot read that
    kind: a check that needs it fails, unless the adapter does not declare the capability.
    """

    scalars: list[StoredScalar] | None = None
    images: list[StoredImage] | None = None
    histograms: list[StoredHistogram] | None = None
    artifacts: list[StoredArtifact] | None = None
    tables: list[StoredValue] | None = None
    texts: list[StoredValue] | None = None
    audio: list[StoredValue] | None = None
    videos: list[StoredValue] | None = None
    figures: list[StoredValue] | None = None
    values: dict[str, list[StoredValue]] = field(default_factory=dict[str, list[StoredValue]])
    """Values of further kinds of media, such as "html"; a missing kind cannot be read."""
    config: Mapping[str, Any] | None = None
    summary: Mapping[str, Any] | None = None
    alerts: list[tuple[str, str, str]] | None = None
    status: str | None = None
    extra: dict[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def empty(cls, **facts: Any) -> Stored:
        """An empty result for a harness that can read every kind; `facts` are further fields."""
        lists: dict[str, Any] = {kind.plural: [] for kind in KINDS.values() if kind.has_step and kind.plural in _LISTS}
        others = {kind.plural: [] for kind in MEDIA.values() if kind.plural not in _LISTS}
        return cls(**lists, artifacts=[], alerts=[], values=others, **facts)

    def of(self, plural: str) -> list[Any] | None:
        """What is held of one kind of value, by its plural such as "tables"; None where it cannot be read."""
        return getattr(self, plural) if plural in _LISTS else self.values.get(plural)


_LISTS = frozenset({"scalars", "images", "histograms", "tables", "texts", "audio", "videos", "figures"})
"""Kinds that have a field of their own in `Stored`."""


class AdapterHarness:
    """Subclass this for your adapter: a target, and a reader that is not your writer.

    ```python
    class CsvHarness(AdapterHarness):
        target = "csv:{dir}/out"

        def read(self, directory, run):
            with (directory / "out" / "scalars.csv").open() as file:
                return Stored(scalars=[StoredScalar(*convert(row)) for row in csv.reader(file)])
    ```
    """

    target: str = ""
    """A target as in TRACKING_BACKEND; `{dir}` is replaced by a fresh directory."""

    expected_failures: Mapping[str, str] = {}
    """Checks that this adapter is known to fail, each with its reason. A check that passes although it is listed is
    reported too."""

    call_limit: float = 20.0
    """Seconds within which every call must return; `faults.returns_in_time` measures it."""

    check_limit: float = 120.0
    """Seconds after which a check is given up, and fails."""

    def plugin(self) -> Any:
        """The object that holds the hooks; None (the default) uses the installed entry point, as for users."""
        return None

    def plugin_reference(self) -> str | None:
        """How another interpreter finds `plugin()`: "module", "module:attribute" or "module:Class()".

        None uses the installed entry point. Override it if the object is made in another way.
        """
        plugin = self.plugin()
        if plugin is None:
            return None
        if isinstance(plugin, ModuleType):
            return plugin.__name__
        module = str(getattr(plugin, "__module__", type(plugin).__module__))
        for name, value in vars(sys.modules[module]).items():
            if value is plugin:
                return f"{module}:{name}"
        return f"{module}:{type(plugin).__qualname__}()"

    def adapter(self) -> Adapter:
        """The loaded adapter."""
        plugin = self.plugin()
        name = parse_target(self.target).name
        return find_adapter(name, origin=type(self).__name__) if plugin is None else Adapter(plugin, name)

    def target_for(self, directory: Path) -> Target:
        """The target inside a directory."""
        # The directory may hold what the grammar of targets gives a meaning.
        place = quote(str(directory), safe="/:\\")
        return parse_target(self.target.format(dir=place), origin=type(self).__name__)

    def open(self, directory: Path, run: RunInfo) -> Tracker:
        """Open a tracker whose data lands in the directory."""
        return self.adapter().open(self.target_for(directory), run)

    def read(self, directory: Path, run: RunInfo) -> Stored:
        """Read back everything the backend holds of the run, without the adapter's own code that wrote it."""
        raise NotImplementedError(f"{type(self).__name__} must define read(directory, run)")
