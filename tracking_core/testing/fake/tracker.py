"""A tracker for tests: it keeps everything in memory, and is easy to query.

```python
from tracking_core.testing import FakeTracker

def test_the_loss_is_logged_at_every_step():
    fake = FakeTracker()
    train(tracker=fake, steps=3)
    assert [step for step, _ in fake.scalars["train/loss"]] == [0, 1, 2]
```
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import threading
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tracking_core.errors import BatchInterrupted, InvalidValueError, SettingsError, TrackingError
from tracking_core.fallbacks import replay
from tracking_core.protocol import STATUSES
from tracking_core.testing.fake.difference import difference
from tracking_core.testing.fake.records import Alert, Call, Entry, Names, StoredVersion
from tracking_core.values import (
    ArtifactRef,
    Audio,
    Figure,
    Histogram,
    Image,
    Record,
    Scalar,
    Table,
    Text,
    Video,
    artifact_files,
    to_axis,
    to_histogram,
    to_image_mapping,
    to_name,
    to_scalars,
    to_step,
)
from tracking_core.values.kinds import KINDS, STEPPED, Medium, with_media

if TYPE_CHECKING:
    from tracking_core.testing.fake.media_methods import MediaMethods
else:
    MediaMethods = object


@with_media
class FakeTracker(MediaMethods):
    """Records every call in memory. It has the five methods and every optional capability.

    Values go through the same coercions as in real adapters, so wrong input raises the same errors; its arguments are
    copied, and never changed. Reading is by name, in the order of the calls:

    | | |
    |---|---|
    | `scalars[name]` | `[(step, number), …]` on any axis; `scalars_on(axis)[name]` on one |
    | `images[name]` | `[(step, [Image, …]), …]` |
    | `histograms[name]` | `[(step, Histogram), …]` |
    | `tables` `texts` `audio` `videos` `figures` | `[(step, value), …]` under each name |
    | `values(kind)[name]` | the same for any kind, such as "html" |
    | `artifacts[name]` | the versions, with `files` as bytes |
    | `config` `summary` `alerts` `used` | what was set, raised and used |
    | `calls` | every call, in order |
    | `status` `error` | "running" until `finish`, then its arguments |

    Two fakes are equal when a backend would hold the same after them: by kind, name, axis, step and value, in order,
    with the same configuration, summary, alerts and status. Wall times, flushes and how values were grouped into
    calls do not count. `diff` says where they differ.

    Example:
        >>> fake = FakeTracker()
        >>> fake.log_scalars({"train": {"loss": 0.5}}, step=1)
        >>> fake.scalars["train/loss"]
        [(1, 0.5)]
        >>> fake.calls
        [log_scalars('train/loss', step=1)]
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._calls: list[Call] = []
        self._entries: dict[str, dict[str, list[Entry]]] = {}
        self._versions: dict[str, list[StoredVersion]] = {}
        self.config: dict[str, Any] = {}
        """The configuration after all calls of `log_config`."""
        self.summary: dict[str, Any] = {}
        """The summary after all calls of `log_summary`."""
        self.alerts: list[Alert] = []
        """`(title, text, level)` of each alert."""
        self.used: list[str] = []
        """The arguments of `use_artifact`, as text."""
        self.status = "running"
        """ "running" until `finish`, then the given status."""
        self.error: str | None = None
        """The error passed to `finish`."""

    # -- the protocol ------------------------------------------------------------------------------------------------

    def log_scalars(
        self, scalars: Mapping[str, Any], *, step: int, step_axis: str = "step", wall_time: float | None = None
    ) -> None:
        """See `Tracker.log_scalars`."""
        plain = to_scalars(scalars)
        self._store("log_scalars", "scalar", plain, step, step_axis, wall_time)

    def log_images(
        self,
        images: Mapping[str, Any],
        *,
        step: int,
        step_axis: str = "step",
        wall_time: float | None = None,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        """See `Tracker.log_images`."""
        plain = {
            name: [_own(image) for image in batch]
            for name, batch in to_image_mapping(images, value_range=value_range).items()
        }
        self._store("log_images", "image", plain, step, step_axis, wall_time)

    def log_histogram(
        self,
        name: str,
        values: Any,
        *,
        step: int,
        step_axis: str = "step",
        wall_time: float | None = None,
        bins: int = 64,
    ) -> None:
        """See `Tracker.log_histogram`."""
        histogram = copy.deepcopy(to_histogram(values, bins=bins, key=to_name(name)))
        self._store("log_histogram", "histogram", {name: histogram}, step, step_axis, wall_time)

    def log_artifact(
        self,
        artifact: Any,
        *,
        name: str | None = None,
        type: str = "file",  # noqa: A002 - the protocol's word
        metadata: Mapping[str, Any] | None = None,
        aliases: Sequence[str] = (),
    ) -> ArtifactRef:
        """See `Tracker.log_artifact`; the files are read at once."""
        name, listed = artifact_files(artifact, name)
        files = {file.path: file.read() for file in listed}
        number = sum(version.type == type for version in self._versions.get(name, ()))
        own = copy.deepcopy(dict(metadata or {}))
        stored = StoredVersion(name, type, number, files, tuple(aliases), own, _digest(files))
        with self._taking(Call("log_artifact", (name,), data=stored)):
            self._versions.setdefault(name, []).append(stored)
        return stored.ref

    def finish(self, status: str = "finished", *, error: str | None = None) -> None:
        """See `Tracker.finish`.

        Raises:
            SettingsError: The status is not one of the protocol's statuses.
        """
        if status not in STATUSES:
            raise SettingsError(f"finish: expected one of {', '.join(STATUSES)}, got {status!r:.80}")
        if self.status == "running":
            with self._taking(Call("finish", data={"status": status, "error": error})):
                self.status, self.error = status, error

    # -- the optional capabilities -----------------------------------------------------------------------------------

    def _log_medium(
        self,
        kind: Medium,
        name: str,
        value: Any,
        *,
        step: int,
        step_axis: str = "step",
        wall_time: float | None = None,
        **options: Any,
    ) -> None:
        medium = copy.deepcopy(kind.normal(value, **options))
        self._store(kind.method, kind.singular, {to_name(name): medium}, step, step_axis, wall_time)

    def log_config(self, config: Mapping[str, Any]) -> None:
        """See `SupportsConfig`."""
        self._facts("log_config", self.config, config)

    def log_summary(self, summary: Mapping[str, Any]) -> None:
        """See `SupportsSummary`."""
        self._facts("log_summary", self.summary, summary)

    def log_alert(self, title: str, text: str = "", *, level: str = "info", wall_time: float | None = None) -> None:
        """See `SupportsAlerts`."""
        alert = Alert(title, text, level)
        with self._taking(Call("log_alert", (title,), wall_time=wall_time, data=alert)):
            self.alerts.append(alert)

    def use_artifact(self, artifact: Any) -> ArtifactRef:
        """See `SupportsArtifactUse`; a version that was logged here is found; of others only the name is known."""
        text = str(artifact)
        with self._taking(Call("use_artifact", (text,), data=artifact)):
            self.used.append(text)
        if isinstance(artifact, ArtifactRef):
            return artifact
        name, _, which = text.partition(":")
        for version in reversed(self._versions.get(name, [])):
            if which in {"", "latest", f"v{version.version}", *version.aliases}:
                return version.ref
        return ArtifactRef(name)

    def flush(self) -> None:
        """See `SupportsFlush`; there is nothing to do."""
        with self._taking(Call("flush")):
            pass

    def deliver(self, records: Sequence[Record]) -> None:
        """See `SupportsDelivery`."""
        for taken, record in enumerate(records):
            try:
                replay(record, self)
            except Exception as error:
                raise BatchInterrupted(taken) from error

    # -- reading -----------------------------------------------------------------------------------------------------

    @property
    def calls(self) -> list[Call]:
        """Every call, in order."""
        return list(self._calls)

    @property
    def scalars(self) -> Names[list[tuple[int, Scalar]]]:
        """Names to `[(step, number), …]`, on whatever axis."""
        return self._view("scalar")

    def scalars_on(self, axis: str) -> Names[list[tuple[int, Scalar]]]:
        """Names to `[(step, number), …]` on one axis."""
        return self._view("scalar", axis)

    @property
    def images(self) -> Names[list[tuple[int, list[Image]]]]:
        """Names to `[(step, [Image, …]), …]`."""
        return self._view("image")

    @property
    def histograms(self) -> Names[list[tuple[int, Histogram]]]:
        """Names to `[(step, Histogram), …]`."""
        return self._view("histogram")

    @property
    def tables(self) -> Names[list[tuple[int, Table]]]:
        """Names to `[(step, Table), …]`."""
        return self._view("table")

    @property
    def texts(self) -> Names[list[tuple[int, Text]]]:
        """Names to `[(step, Text), …]`."""
        return self._view("text")

    @property
    def audio(self) -> Names[list[tuple[int, Audio]]]:
        """Names to `[(step, Audio), …]`."""
        return self._view("audio")

    @property
    def videos(self) -> Names[list[tuple[int, Video]]]:
        """Names to `[(step, Video), …]`."""
        return self._view("video")

    @property
    def figures(self) -> Names[list[tuple[int, Figure]]]:
        """Names to `[(step, Figure), …]`."""
        return self._view("figure")

    def values(self, kind: str) -> Names[list[tuple[int, Any]]]:
        """Names to `[(step, value), …]` of any kind of value, such as "html".

        Raises:
            InvalidValueError: There is no such kind, or it has no steps.
        """
        if kind not in STEPPED:
            raise InvalidValueError(f"values: expected one of {', '.join(sorted(STEPPED))}, got {kind!r:.80}")
        return self._view(KINDS[kind].singular)

    @property
    def artifacts(self) -> Names[list[StoredVersion]]:
        """Names to the versions that were stored, oldest first."""
        return Names("artifact", self._versions, list)

    def diff(self, other: FakeTracker) -> str:
        """Where this and another fake differ, one difference a line; "" when they are equal."""
        return "\n".join(difference(self, other))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FakeTracker):
            return NotImplemented
        return not difference(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        counts = {kind: sum(map(len, names.values())) for kind, names in self._entries.items()}
        counts["artifact"] = sum(map(len, self._versions.values()))
        inside = ", ".join(f"{n} {kind}{'' if n == 1 else 's'}" for kind, n in counts.items() if n)
        return f"FakeTracker({self.status}: {inside or 'nothing'})"

    # -- inside ------------------------------------------------------------------------------------------------------

    def _before(self, call: Call) -> None:
        """Every call passes here before it is recorded; raising refuses it whole."""

    @contextlib.contextmanager
    def _taking(self, call: Call) -> Generator[None]:
        """Record a call, and what the block adds, as one."""
        self._before(call)
        with self._lock:
            if self.status != "running":
                raise TrackingError(
                    f"{call!r} came after finish({self.status!r}); log before the tracker is finished, "
                    "or open another one"
                )
            self._calls.append(call)
            yield

    def _store(
        self, method: str, kind: str, values: Mapping[str, Any], step: Any, axis: Any, wall_time: float | None
    ) -> None:
        at, on = to_step(step), to_axis(axis)
        with self._taking(Call(method, tuple(values), at, on, wall_time, dict(values))):
            names = self._entries.setdefault(kind, {})
            for name, value in values.items():
                names.setdefault(name, []).append(Entry(on, at, value))

    def _facts(self, method: str, facts: dict[str, Any], new: Mapping[str, Any]) -> None:
        own = copy.deepcopy(dict(new))
        with self._taking(Call(method, tuple(own), data=own)):
            facts.update(copy.deepcopy(own))

    def _view(self, kind: str, axis: str | None = None) -> Names[Any]:
        def shown(entries: Sequence[Entry]) -> list[tuple[int, Any]]:
            return [(entry.step, entry.value) for entry in entries if axis is None or entry.axis == axis]

        title = kind if axis is None else f"{kind} on the axis {axis!r}"
        return Names(title, self._entries.setdefault(kind, {}), shown)


def _own(image: Image) -> Image:
    """The image over pixels that nobody else holds."""
    caption = image.caption if isinstance(image.caption, str) else None
    pixels = np.array(image.pixels, copy=True)
    pixels.flags.writeable = False
    return Image.from_pixels(pixels, caption, image.clipped)


def _digest(files: Mapping[str, bytes]) -> str:
    whole = hashlib.sha256()
    for path in sorted(files):
        whole.update(f"{path}\0{hashlib.sha256(files[path]).hexdigest()}\n".encode("utf-8", "surrogatepass"))
    return whole.hexdigest()
