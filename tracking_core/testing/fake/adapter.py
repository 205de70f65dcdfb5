"""`FakeTracker` behind the hooks of an adapter, and its harness: the contract suite runs on it as on any other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking_core.backends.hooks import AdapterInfo, RunInfo, hookimpl
from tracking_core.protocol import CORE_CAPABILITIES, OPTIONAL_CAPABILITIES
from tracking_core.testing.contract.harness import (
    AdapterHarness,
    Stored,
    StoredArtifact,
    StoredHistogram,
    StoredImage,
    StoredScalar,
    StoredValue,
)
from tracking_core.testing.fake.tracker import FakeTracker
from tracking_core.values.kinds import KINDS

if TYPE_CHECKING:
    from tracking_core.backends.targets import Target


class FakeAdapter:
    """Opens fakes, and remembers them by place and run: a run that is opened again has several."""

    def __init__(self) -> None:
        self.opened: dict[tuple[str, str], list[FakeTracker]] = {}

    @hookimpl
    def tracking_adapter(self) -> AdapterInfo:
        """What this adapter is."""
        return AdapterInfo(
            name="fake",
            api_version=1,
            capabilities=frozenset({*CORE_CAPABILITIES, *OPTIONAL_CAPABILITIES, "resume"}),
            options={},
            guarantee="kept in memory",
            replaces="in place",
            description="FakeTracker, for tests",
        )

    @hookimpl
    def open_tracker(self, target: Target, run: RunInfo) -> FakeTracker:
        """A fake, with the configuration of the run."""
        tracker = FakeTracker()
        tracker.config.update(run.config)
        opened = self.opened.setdefault((target.path, run.id), [])
        if run.generation and not run.resumed:
            opened.clear()
        opened.append(tracker)
        return tracker


fake_adapter = FakeAdapter()


class FakeHarness(AdapterHarness):
    """The harness of `FakeTracker`; it reads through `calls`, which hold axes and times."""

    target = "fake:{dir}"

    def plugin(self) -> FakeAdapter:
        """The adapter of this module."""
        return fake_adapter

    def read(self, directory: Path, run: RunInfo) -> Stored:
        """Everything the fakes of a run hold."""
        stored = Stored.empty(config={}, summary={})
        for fake in fake_adapter.opened[str(directory), run.id]:
            for call in fake.calls:
                if call.method in _STEPPED:
                    _add(stored, call)
            for versions in fake.artifacts.values():
                for one in versions:
                    assert stored.artifacts is not None
                    stored.artifacts.append(StoredArtifact(one.name, one.type, one.files, one.aliases, one.metadata))
            stored.config = {**(stored.config or {}), **fake.config}
            stored.summary = {**(stored.summary or {}), **fake.summary}
            assert stored.alerts is not None
            stored.alerts.extend((alert.title, alert.text, alert.level) for alert in fake.alerts)
            stored.status = fake.status
        return stored


_STEPPED = {kind.method: kind for kind in KINDS.values() if kind.has_step}


def _add(stored: Stored, call: Any) -> None:
    kind = _STEPPED[call.method]
    rows = stored.of(kind.plural)
    assert rows is not None
    for name, value in call.data.items():
        if kind.name == "images":
            rows += [
                StoredImage(name, call.axis, call.step, image.pixels, image.caption, call.wall_time) for image in value
            ]
        elif kind.name == "scalars":
            rows.append(StoredScalar(name, call.axis, call.step, float(value), call.wall_time))
        elif kind.name == "histogram":
            rows.append(StoredHistogram(name, call.axis, call.step, value, call.wall_time))
        else:
            rows.append(StoredValue(name, call.axis, call.step, _plain(kind.name, value), call.wall_time))


def _plain(kind: str, value: Any) -> Any:
    """A value in the form `StoredValue` asks for."""
    if kind == "audio":
        return value.samples
    if kind == "video":
        return value.frames
    return value.image.pixels if kind == "figure" else value
