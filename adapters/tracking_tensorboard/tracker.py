"""The tracker: every call becomes one event of the run's file, or of that of each sub-run, before it returns."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tracking_core import Rejected, RetryLater, SettingsError
from tracking_core.values import (
    ArtifactRef,
    artifact_files,
    to_audio,
    to_axis,
    to_config,
    to_figure,
    to_histogram,
    to_html,
    to_image_mapping,
    to_name,
    to_scalars,
    to_step,
    to_table,
    to_text,
    to_video,
)
from tracking_tensorboard import hparams, listing, markdown, summaries
from tracking_tensorboard.checking import check_options
from tracking_tensorboard.kept import Kept
from tracking_tensorboard.opening import open_recording
from tracking_tensorboard.recording import Placed, Recording
from tracking_tensorboard.tags import DEFAULT_AXIS

if TYPE_CHECKING:
    from tracking_core import RunInfo, Target
    from tracking_core.values import Image

#: Where the Text tab shows what belongs to the run as a whole, apart from the user's own texts.
ABOUT, CONFIG, SUMMARY, STATUS, ARTIFACTS = (
    "_run_/about",
    "_run_/config",
    "_run_/summary",
    "_run_/status",
    "_run_/artifacts",
)

METRICS = "summary"
"""What stands in front of the name of a number of the summary, among the scalars."""


def open_run(target: Target, run: RunInfo) -> TensorBoardTracker:
    """Open a tracker for a run.

    Raises:
        SettingsError: An option or the directory is wrong.
        RetryLater: The file system refuses for now.
    """
    check_options(target)
    hparams_tab = target.options.get("hparams", "on") == "on"
    tracker = TensorBoardTracker(open_recording(target, run), run, hparams_tab=hparams_tab)
    try:
        # What is durable of the file must be known from the start: a crash before the first flush leaves a file behind
        # that would otherwise be taken for another run's.
        tracker.flush()
    except RetryLater as error:
        if isinstance(error.__cause__, (PermissionError, FileNotFoundError)):
            # A bucket that is not there, or nobody's login: no waiting repairs that.
            raise SettingsError(f"{error}; name another place, or log in with the cloud's own tools") from error
        raise
    return tracker


class TensorBoardTracker:
    """Records one run for TensorBoard.

    Usable from several threads. Values are taken as the protocol says; when a call raises, nothing of it was written.

    Args:
        recording: The event file.
        run: The run.
        hparams_tab: Whether the configuration becomes a row of the HParams tab.
    """

    def __init__(self, recording: Recording, run: RunInfo, *, hparams_tab: bool = True) -> None:
        self._recording = recording
        self._run = run
        self._lock = threading.RLock()
        self._finished = False
        self._hparams_tab = hparams_tab
        known = recording.kept if not recording.fresh else Kept()
        self._counts: dict[str, int] = dict(known.counts)
        self._ended: str | None = known.ended
        self._session: bool = known.session
        # What the row of the HParams tab will say. TensorBoard keeps the first that it reads: so it is written with
        # the first record that is no configuration, and holds all of the configuration that was known by then.
        self._pending: dict[str, bool | float | str] | None = None
        if hparams_tab and not self._session:
            self._pending = dict(known.hparams)
        if recording.fresh:
            self._introduce()

    @property
    def directory(self) -> str:
        """The directory of the run's event file: a path, or a URL."""
        return self._recording.directory

    @property
    def remarks(self) -> list[str]:
        """What was found when it was opened, that somebody should know."""
        return self._recording.remarks

    # -- the five methods --------------------------------------------------------------------------------------------

    def log_scalars(
        self, scalars: Mapping[str, Any], *, step: int, step_axis: str = DEFAULT_AXIS, wall_time: float | None = None
    ) -> None:
        """Record numbers, in one event of each file; they are rounded to float32. See `Tracker.log_scalars`."""
        step, axis = to_step(step), to_axis(step_axis)
        plain = to_scalars(scalars)
        with self._open():
            value = self._recording.value
            self._record(
                [value(summaries.scalar, name, "scalars", axis, number) for name, number in plain.items()],
                step,
                wall_time,
            )

    def log_images(
        self,
        images: Mapping[str, Any],
        *,
        step: int,
        step_axis: str = DEFAULT_AXIS,
        wall_time: float | None = None,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        """Record images; those of one name are under one tag, their captions are a text beside it."""
        step, axis = to_step(step), to_axis(step_axis)
        pictures = to_image_mapping(images, value_range=value_range)
        with self._open():
            values: list[Placed] = []
            for name, group in pictures.items():
                values.append(self._recording.value(summaries.images, name, "images", axis, group))
                values += self._captions(name, axis, [_caption(picture) for picture in group])
            self._record(values, step, wall_time)

    def log_histogram(
        self,
        name: str,
        values: Any,
        *,
        step: int,
        step_axis: str = DEFAULT_AXIS,
        wall_time: float | None = None,
        bins: int = 64,
    ) -> None:
        """Record a distribution; values that are not finite are counted in scalars beside it."""
        name, step, axis = to_name(name), to_step(step), to_axis(step_axis)
        counted = to_histogram(values, bins=bins, key=name)
        with self._open():
            value = self._recording.value
            parts = [value(summaries.histogram, name, "histogram", axis, counted)]
            lost = {"nan": counted.nan, "posinf": counted.posinf, "neginf": counted.neginf}
            parts += [value(summaries.scalar, name, kind, axis, number) for kind, number in lost.items() if number]
            self._record(parts, step, wall_time)

    def log_artifact(
        self,
        artifact: Any,
        *,
        name: str | None = None,
        type: str = "file",  # noqa: A002 - the protocol's word
        metadata: Mapping[str, Any] | None = None,
        aliases: Sequence[str] = (),
        version: int | None = None,
        wall_time: float | None = None,
    ) -> ArtifactRef:
        """Record what an artifact consists of, as text: facts, files, digests. The files are not copied.

        Args:
            artifact: See `Tracker.log_artifact`.
            name: Name of the artifact.
            type: Its kind.
            metadata: Facts about it.
            aliases: Further names of this version.
            version: Number of the version, when the caller has stored it already.
            wall_time: Seconds since the epoch; None means now.
        """
        name, files = artifact_files(artifact, name)
        ref, text = listing.artifact(name, type, files, version=version, metadata=metadata, aliases=aliases)
        with self._open():
            tag = f"{ARTIFACTS}/{name}"
            value = self._recording.value(summaries.text, tag, "artifact", DEFAULT_AXIS, markdown.encode(text))
            self._record([value], self._count(tag), wall_time)
            self._counted(tag)
        return ref

    def finish(self, status: str = "finished", *, error: str | None = None) -> None:
        """Write how the run ended, make everything durable, close the file. A second call does nothing."""
        with self._lock:
            if self._finished:
                return
            self._start_session()
            text = status if error is None else f"{status}: {error}"
            # A run that is opened only to see that all of it is here ends as it did before.
            if self._recording.appended or self._ended != text:
                self._end(status, text)
            self.flush()
            self._finished = True
            self._recording.close()

    # -- capabilities ------------------------------------------------------------------------------------------------

    def log_table(
        self, name: str, value: Any, *, step: int, step_axis: str = DEFAULT_AXIS, wall_time: float | None = None
    ) -> None:
        """Record a table, as Markdown in the Text tab."""
        self._text(name, "table", markdown.table(to_table(value)), step, step_axis, wall_time)

    def log_text(
        self, name: str, value: Any, *, step: int, step_axis: str = DEFAULT_AXIS, wall_time: float | None = None
    ) -> None:
        """Record text, shown as Markdown."""
        self._text(name, "text", to_text(value), step, step_axis, wall_time)

    def log_video(
        self,
        name: str,
        value: Any,
        *,
        step: int,
        step_axis: str = DEFAULT_AXIS,
        wall_time: float | None = None,
        fps: float = 8.0,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        """Record a video as an animated GIF in the Images tab; a file of another format is only named, as text."""
        video = to_video(value, fps=fps, value_range=value_range)
        if video.encoded is not None and video.format != "gif":
            what = f"a video, {video.format} file of {markdown.size(len(video.encoded))}"
            self._note(name, what, step, step_axis, wall_time)
            return
        name, step, axis, data = to_name(name), to_step(step), to_axis(step_axis), video.gif()
        with self._open():
            value = self._recording.value(summaries.gif, name, "video", axis, data, _gif_size(data))
            self._record([value], step, wall_time)

    def log_audio(
        self,
        name: str,
        value: Any,
        *,
        step: int,
        step_axis: str = DEFAULT_AXIS,
        wall_time: float | None = None,
        sample_rate: int = 16000,
    ) -> None:
        """Record sound as a WAV file; its caption is a text beside it."""
        name, step, axis = to_name(name), to_step(step), to_axis(step_axis)
        sound = to_audio(value, sample_rate=sample_rate)
        with self._open():
            values = [self._recording.value(summaries.audio, name, "audio", axis, sound)]
            values += self._captions(name, axis, [sound.caption])
            self._record(values, step, wall_time)

    def log_figure(
        self, name: str, value: Any, *, step: int, step_axis: str = DEFAULT_AXIS, wall_time: float | None = None
    ) -> None:
        """Record the picture of a figure; a plotly figure, which has none, is only named, as text."""
        figure = to_figure(value)
        if figure.image is None:
            self._note(name, "a plotly figure", step, step_axis, wall_time)
            return
        name, step, axis, pictures = to_name(name), to_step(step), to_axis(step_axis), [figure.image]
        with self._open():
            value = self._recording.value(summaries.images, name, "figure", axis, pictures)
            self._record([value], step, wall_time)

    def log_html(
        self, name: str, value: Any, *, step: int, step_axis: str = DEFAULT_AXIS, wall_time: float | None = None
    ) -> None:
        """Record HTML in the Text tab, which shows the tags that TensorBoard takes for harmless, and others as text."""
        self._text(name, "html", to_html(value), step, step_axis, wall_time)

    def log_config(self, config: Mapping[str, Any], *, wall_time: float | None = None) -> None:
        """Add to the configuration: a text with what is new, and the HParams tab as long as nothing was recorded."""
        plain = to_config(config)
        with self._open():
            self._document(CONFIG, "config", plain, wall_time=wall_time)
            if self._pending is not None:
                self._pending.update(hparams.flat(plain))

    def log_summary(self, summary: Mapping[str, Any], *, wall_time: float | None = None) -> None:
        """Record values that describe the run as a whole, as text; numbers also as metrics of the HParams tab."""
        plain = to_config(summary)
        with self._open():
            self._start_session()
            metrics = hparams.metrics(plain) if self._hparams_tab else {}
            value = self._recording.value
            beside = [
                value(summaries.scalar, f"{METRICS}/{name}", "metric", DEFAULT_AXIS, number)
                for name, number in metrics.items()
            ]
            self._document(SUMMARY, "summary", plain, beside, wall_time=wall_time)

    def flush(self) -> None:
        """Return when everything logged so far is on the disk.

        Raises:
            RetryLater: The file system refuses.
        """
        with self._lock:
            if self._finished:
                return
            self._recording.flush(
                counts=dict(self._counts) or None,
                hparams=dict(self._pending) if self._pending else None,
                session=self._session or None,
                ended=self._ended,
            )

    # -- inside ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _open(self) -> Generator[None]:
        """Hold the lock; refuse once the run is finished."""
        with self._lock:
            if self._finished:
                raise Rejected(f"tensorboard: the run {self._run.id!r} is finished; open it again to log more to it")
            yield

    def _record(self, values: Sequence[Placed], step: int, wall_time: float | None) -> None:
        if not values:
            return
        self._start_session()
        self._recording.append(values, step=step, wall_time=wall_time)

    def _text(self, name: str, kind: str, text: str, step: int, axis: str, wall_time: float | None) -> None:
        name, step, axis = to_name(name), to_step(step), to_axis(axis)
        with self._open():
            value = self._recording.value(summaries.text, name, kind, axis, markdown.encode(text))
            self._record([value], step, wall_time)

    def _note(self, name: str, what: str, step: int, axis: str, wall_time: float | None) -> None:
        text = f"*{markdown.escape(what)}: TensorBoard cannot show it; the run store has the original.*"
        self._text(name, "note", text, step, axis, wall_time)

    def _captions(self, name: str, axis: str, texts: Sequence[str | None]) -> list[Placed]:
        if all(text is None for text in texts):
            return []
        data = markdown.encode(markdown.captions(texts))
        return [self._recording.value(summaries.text, name, "captions", axis, data)]

    def _introduce(self) -> None:
        """The first events of a run: what it is, and its configuration."""
        run = self._run
        facts = {
            "run": run.name,
            "id": run.id,
            "project": run.project,
            "tags": markdown.labels(run.tags),
            "group": run.group,
            "job type": run.job_type,
        }
        text = markdown.facts(facts) + (f"\n\n{run.notes}" if run.notes else "")
        value = self._recording.value(summaries.text, ABOUT, "about", DEFAULT_AXIS, markdown.encode(text))
        self._recording.append([value], wall_time=run.started or None)
        if run.config:
            plain = to_config(run.config)
            self._document(CONFIG, "config", plain, wall_time=run.started or None)
            if self._pending is not None:
                self._pending.update(hparams.flat(plain))

    def _document(
        self,
        tag: str,
        kind: str,
        content: Mapping[str, Any],
        beside: Sequence[Placed] = (),
        *,
        wall_time: float | None = None,
    ) -> None:
        data = markdown.encode(markdown.document(content))
        value = self._recording.value(summaries.text, tag, kind, DEFAULT_AXIS, data)
        self._recording.append([value, *beside], step=self._count(tag), wall_time=wall_time)
        self._counted(tag)

    def _start_session(self) -> None:
        """Write the row of the HParams tab, once there is something to say in it."""
        if self._pending:
            started = self._run.started
            row = Placed("", hparams.session_start(self._pending, started))
            self._recording.append([row], wall_time=started or None)
            self._pending, self._session = None, True

    def _end(self, status: str, text: str) -> None:
        data = markdown.encode(markdown.escape(text))
        values = [self._recording.value(summaries.text, STATUS, "status", DEFAULT_AXIS, data)]
        # An interrupted run is often continued, and TensorBoard would never take back what it read first.
        if self._session and status in {"finished", "failed"}:
            values.append(Placed("", hparams.session_end(status)))
        self._recording.append(values, step=self._count(STATUS))
        self._counted(STATUS)
        self._ended = text

    def _count(self, tag: str) -> int:
        """How many events of one of the run's own tags there are: the step of the next."""
        return self._counts.get(tag, 0)

    def _counted(self, tag: str) -> None:
        self._counts[tag] = self._count(tag) + 1


def _caption(picture: Image) -> str | None:
    caption = picture.caption
    # A batch of one may carry its caption in a sequence of one.
    return caption if caption is None or isinstance(caption, str) else caption[0]


def _gif_size(data: bytes) -> tuple[int, int]:
    """(width, height), from the header of a GIF file."""
    return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
