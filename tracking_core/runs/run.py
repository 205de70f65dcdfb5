"""The run: what a training loop holds. Every call takes microseconds, and none raises or waits."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter_ns
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from tracking_core.base.problems import brief
from tracking_core.base.redaction import redact_text
from tracking_core.delivery.closing import closing_words
from tracking_core.delivery.report import DeliveryReport, TargetReport
from tracking_core.errors import InvalidValueError, SettingsError, TrackingError
from tracking_core.intake import Recorder
from tracking_core.intake.resolver import resolver
from tracking_core.intake.steps import StepCounter
from tracking_core.journal.numbers import let_go
from tracking_core.on_device.arrays import is_device_array, is_ready_on_host, tracing
from tracking_core.runs.health import CallTimes, Health
from tracking_core.runs.outcome import check_status, outcome
from tracking_core.wrappers import EveryTracker, ScopedTracker

if TYPE_CHECKING:
    from tracking_core.base.problems import Troubles
    from tracking_core.delivery.interface import Delivery
    from tracking_core.journal import JournalWriter
    from tracking_core.values import ArtifactRef

FLUSH_PATIENCE = 60.0
"""Seconds without progress after which `flush` stops waiting, when it was given no timeout."""
_generation = 0


def _in_child() -> None:
    global _generation  # noqa: PLW0603 - how often this process was forked belongs to the module
    _generation += 1


# In a forked child the runs are the parent's: logging goes to a writer of the child, finishing is not its business.
os.register_at_fork(after_in_child=_in_child)


class Run:
    """A run that is being recorded. `start_run` makes one; use it as a context manager, or call `finish`.

    It is a `Tracker` with every capability. In normal mode its methods never raise: a value that cannot be recorded
    is left out, counted in `health.dropped` and warned about once. With `strict=True` they raise instead.
    """

    _recorder: Recorder
    _journal: JournalWriter
    _troubles: Troubles
    _delivery: Delivery

    def __init__(
        self,
        facts: Mapping[str, Any],
        directory: Path,
        recorder: Recorder,
        delivery: Delivery,
        troubles: Troubles,
        *,
        strict: bool,
        on_finish: Callable[[Run], None],
        say: Callable[[str], None],
        next_steps: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._facts = facts
        self._say = say
        self._dir = directory
        self._recorder = recorder
        self._journal = recorder.journal
        self._delivery = delivery
        self._troubles = troubles
        self._strict = strict
        self._on_finish = on_finish
        self._config: dict[str, Any] = dict(facts["config"])
        self._steps = StepCounter(next_steps)
        # A signal handler may end the run while the main thread is ending it.
        self._finishing = threading.RLock()
        self._ending = False
        self._report: DeliveryReport | None = None
        self._status = "running"
        self._born = _generation
        self._stop_requested = False
        self._late_error: Exception | None = None
        self._times = CallTimes()
        if not strict:
            recorder.on_error = self._left_out
        recorder.on_late = self._late
        recorder.on_drop = self._media_dropped
        recorder.on_promise = self._steps.promise
        recorder.on_outcome = self._steps.resolve

    def moved(self, directory: Path, facts: Mapping[str, Any]) -> None:
        """The directory was gone, and was begun anew.

        Args:
            directory: Where it is now.
            facts: What its `run.json` says.
        """
        self._dir = directory
        self._facts = {**self._facts, "id": facts["id"]}
        # What was changed since the start, or by earlier sessions, was in the journals.
        self._recorder.log_config(self._config)

    @property
    def _forked(self) -> bool:
        """Whether this process is a fork of the one that started the run."""
        return self._born != _generation

    # ------------------------------------------------------------------ what it is

    @property
    def id(self) -> str:
        """Identity of the run."""
        return self._facts["id"]

    @property
    def project(self) -> str:
        """The project it belongs to."""
        return self._facts["project"]

    @property
    def name(self) -> str:
        """The name people read."""
        return self._facts["name"]

    @property
    def dir(self) -> Path:
        """Directory of the run in the local store."""
        return self._dir

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration, as plain JSON values; `log_config` changes it."""
        return MappingProxyType(self._config)

    @property
    def tags(self) -> tuple[str, ...]:
        """Labels."""
        return tuple(self._facts["tags"])

    @property
    def status(self) -> str:
        """Either "running", or what it was finished with."""
        return self._status

    @property
    def health(self) -> Health:
        """How recording goes: counts of what was recorded, dropped and waits."""
        reports = [] if self._forked else self._delivery.reports()
        return Health(
            recorded=self._journal.written,
            unwritten=self._journal.unwritten,
            dropped=self._dropped(),
            pending={report.target: report.pending for report in reports},
            lag={"journal": self._journal.lag, **{report.target: report.lag for report in reports}},
            errors={report.target: report.last_error for report in reports if report.last_error},
            durability=self._journal.durability,
            calls=self._times.calls,
            call_seconds=self._times.total_ns / 1e9,
            call_median_us=self._times.quantile(0.5),
            call_p99_us=self._times.quantile(0.99),
            in_flight=resolver().waiting(),
        )

    @property
    def should_stop(self) -> bool:
        """Whether a backend, or somebody through one, asks the training to stop."""
        if self._stop_requested:
            return True
        self._stop_requested = any(
            getattr(tracker, "should_stop", False) is True for _, tracker in self._delivery.open_trackers()
        )
        return self._stop_requested

    def url(self, target: str | None = None) -> str | None:
        """Where a target shows the run; None when it has no address, or is not open yet.

        Args:
            target: Name of the target; None takes the first that has an address.
        """
        for label, tracker in self._delivery.open_trackers():
            if target is None or label == target or label.partition(":")[0] == target:
                address = getattr(tracker, "url", None)
                if isinstance(address, str):
                    return address
        return None

    def native(self, target: str) -> Any:
        """The backend's own object, such as the W&B run, for what the protocol does not cover.

        Args:
            target: Name of the target. Waits until it is open.

        Raises:
            SettingsError: The run has no such target, or it could not be opened.
        """
        tracker = self._delivery.tracker(target)
        if tracker is None:
            raise SettingsError(
                f"run {self.id}: there is no open target {target!r} in this process; a backend's own object needs "
                "delivery='thread'"
            )
        return getattr(tracker, "native", tracker)

    def __repr__(self) -> str:
        return f"<Run {self.name!r} ({self.id}) of {self.project!r}, {self._status}>"

    # ------------------------------------------------------------------ recording

    def log_scalars(
        self,
        scalars: Mapping[str, Any],
        *,
        step: int | None = None,
        step_axis: str = "step",
        wall_time: float | None = None,
    ) -> None:
        """Record scalars by name at one step.

        Args:
            scalars: Names to bool, int, float or size-1 arrays of a real dtype, on the host or on a device. Nested
                mappings are joined with "/". NaN and infinities are kept. Values of a device are not waited for.
            step: Position on `step_axis`, an int or a 0-d integer array; None takes the next one on that axis.
            step_axis: Which axis `step` counts on.
            wall_time: Seconds since the epoch; None means now.

        Example:
            >>> from tracking_core import start_run
            >>> with start_run("digits", backends="none") as run:
            ...     run.log_scalars({"train": {"loss": 0.5, "accuracy": 0.75}}, step=0)
        """
        # `_record`, written out: this is the call that every step makes.
        begin = perf_counter_ns()
        try:
            if self._status != "running" or self._born != _generation or self._late_error is not None:
                self._elsewhere("log_scalars")
                if self._status != "running":
                    return
            if type(step) is not int:
                step = self._step(step, step_axis)
            taken = self._recorder.log_scalars(scalars, step=step, step_axis=step_axis, wall_time=wall_time)
            if taken and type(step) is int and step >= self._steps.next.get(step_axis, 0):
                self._steps.accepted(step_axis, step)
        except Exception as error:  # noqa: BLE001 - see _problem
            self._problem("log_scalars", (scalars,), error)
        except BaseException as error:
            self._interrupted(error)
            raise
        else:
            self._delivery.recorded()
        finally:
            self._times.add(perf_counter_ns() - begin)

    def log_images(
        self,
        images: Mapping[str, Any],
        *,
        step: int | None = None,
        step_axis: str = "step",
        wall_time: float | None = None,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        """Record images by name at one step.

        Args:
            images: Names to uint8 or float arrays of shape `[H, W]`, `[H, W, 1|3|4]`, `[N, H, W]` or `[N, H, W, C]`, to
                `Image` objects (with captions), or to sequences of either.
            step: Position on `step_axis`, an int or a 0-d integer array; None takes the next one on that axis.
            step_axis: Which axis `step` counts on.
            wall_time: Seconds since the epoch; None means now.
            value_range: `(low, high)` that float images are scaled from; None means `[0, 1]`.

        Example:
            >>> import numpy as np
            >>> from tracking_core import start_run
            >>> with start_run("digits", backends="none") as run:
            ...     run.log_images({"samples": np.zeros((16, 28, 28))}, step=0)
        """
        self._record("log_images", (images,), {"wall_time": wall_time, "value_range": value_range}, step, step_axis)

    def log_histogram(
        self,
        name: str,
        values: Any,
        *,
        step: int | None = None,
        step_axis: str = "step",
        wall_time: float | None = None,
        bins: int = 64,
    ) -> None:
        """Record the distribution of many numbers.

        Args:
            name: Name of the distribution.
            values: Numbers of any shape, a ready-made `Histogram`, or a mapping or tree of arrays, which gives one
                histogram for each, named by its path. What is not finite is counted apart. Arrays of a device are
                counted there.
            step: Position on `step_axis`, an int or a 0-d integer array; None takes the next one on that axis.
            step_axis: Which axis `step` counts on.
            wall_time: Seconds since the epoch; None means now.
            bins: Number of equal bins between the smallest and the largest finite value, 1 to 4096.

        Example:
            >>> import numpy as np
            >>> from tracking_core import start_run
            >>> with start_run("digits", backends="none") as run:
            ...     run.log_histogram("weights", np.linspace(-1.0, 1.0, 1000), step=0)
        """
        self._record("log_histogram", (name, values), {"wall_time": wall_time, "bins": bins}, step, step_axis)

    def log_artifact(
        self,
        artifact: Any,
        *,
        name: str | None = None,
        type: str = "file",  # noqa: A002 - the protocol's word
        metadata: Mapping[str, Any] | None = None,
        aliases: Sequence[str] = (),
    ) -> ArtifactRef:
        """Store files as a new version of a named artifact: they are in the run store when this returns.

        Args:
            artifact: A file, a directory, or a mapping of relative names to paths or bytes.
            name: Name of the artifact; None takes the file's or directory's name.
            type: Kind of artifact, such as "model" or "dataset".
            metadata: JSON-like facts about it.
            aliases: Further names of this version, such as "best"; "latest" is always given.

        Returns:
            The version. Contents that are those of the newest version give that one again.

        Example:
            >>> from tracking_core import start_run
            >>> with start_run("digits", backends="none") as run:
            ...     ref = run.log_artifact({"weights.bin": b"..."}, name="vae", type="model", aliases=["best"])
            >>> ref.name
            'vae'
        """
        from tracking_core.values import ArtifactRef

        keywords = {"name": name, "type": type, "metadata": metadata, "aliases": aliases}
        ref = self._guarded("log_artifact", (artifact,), keywords)
        return ref if ref is not None else ArtifactRef(_text(name, "unnamed"), _text(type, "file"))

    def use_artifact(self, artifact: str | ArtifactRef) -> ArtifactRef:
        """Record that a version of an artifact is an input of this run.

        Args:
            artifact: `"name:v3"`, `"name:alias"`, `"name"`, or a reference.

        Returns:
            The version, as far as the local store knows it.
        """
        from tracking_core.values import ArtifactRef

        ref = self._guarded("use_artifact", (artifact,), {})
        if ref is None:
            ref = artifact if isinstance(artifact, ArtifactRef) else ArtifactRef(_text(artifact, "unnamed"))
        return ref

    def log_table(
        self, name: str, value: Any, *, step: int | None = None, step_axis: str = "step", wall_time: float | None = None
    ) -> None:
        """Record a table.

        Args:
            name: Name of the table.
            value: A `Table`, a mapping of columns, a sequence of row mappings, or a data frame.
            step: Position on `step_axis`, an int or a 0-d integer array; None takes the next one on that axis.
            step_axis: Which axis `step` counts on.
            wall_time: Seconds since the epoch; None means now.

        Example:
            >>> from tracking_core import start_run
            >>> with start_run("digits", backends="none") as run:
            ...     run.log_table("errors", {"label": [3, 5], "predicted": [8, 6]}, step=0)
        """
        self._record("log_table", (name, value), {"wall_time": wall_time}, step, step_axis)

    def log_video(
        self,
        name: str,
        value: Any,
        *,
        step: int | None = None,
        step_axis: str = "step",
        wall_time: float | None = None,
        fps: float = 8.0,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        """Record a video.

        Args:
            name: Name of the video.
            value: Frames of shape `[T, H, W]` or `[T, H, W, C]`, a `Video`, or the path of a file.
            step: Position on `step_axis`, an int or a 0-d integer array; None takes the next one on that axis.
            step_axis: Which axis `step` counts on.
            wall_time: Seconds since the epoch; None means now.
            fps: Frames a second, for frames in an array.
            value_range: `(low, high)` that float frames are scaled from; None means `[0, 1]`.
        """
        keywords = {"wall_time": wall_time, "fps": fps, "value_range": value_range}
        self._record("log_video", (name, value), keywords, step, step_axis)

    def log_audio(
        self,
        name: str,
        value: Any,
        *,
        step: int | None = None,
        step_axis: str = "step",
        wall_time: float | None = None,
        sample_rate: int = 16000,
    ) -> None:
        """Record audio.

        Args:
            name: Name of the audio.
            value: Samples of shape `[T]` or `[T, channels]` in [-1, 1], or an `Audio`.
            step: Position on `step_axis`, an int or a 0-d integer array; None takes the next one on that axis.
            step_axis: Which axis `step` counts on.
            wall_time: Seconds since the epoch; None means now.
            sample_rate: Samples a second, for samples in an array.
        """
        self._record("log_audio", (name, value), {"wall_time": wall_time, "sample_rate": sample_rate}, step, step_axis)

    def log_text(
        self, name: str, value: str, *, step: int | None = None, step_axis: str = "step", wall_time: float | None = None
    ) -> None:
        """Record text, which is shown as Markdown where the backend can.

        Args:
            name: Name of the text.
            value: The text, or a `Text`.
            step: Position on `step_axis`, an int or a 0-d integer array; None takes the next one on that axis.
            step_axis: Which axis `step` counts on.
            wall_time: Seconds since the epoch; None means now.
        """
        self._record("log_text", (name, value), {"wall_time": wall_time}, step, step_axis)

    def log_figure(
        self, name: str, value: Any, *, step: int | None = None, step_axis: str = "step", wall_time: float | None = None
    ) -> None:
        """Record a figure.

        Args:
            name: Name of the figure.
            value: A figure of matplotlib or plotly, or a `Figure`.
            step: Position on `step_axis`, an int or a 0-d integer array; None takes the next one on that axis.
            step_axis: Which axis `step` counts on.
            wall_time: Seconds since the epoch; None means now.
        """
        self._record("log_figure", (name, value), {"wall_time": wall_time}, step, step_axis)

    def log_html(
        self, name: str, value: Any, *, step: int | None = None, step_axis: str = "step", wall_time: float | None = None
    ) -> None:
        """Record HTML: a page, or a piece of one. Whoever shows it does so in a sandbox, where no script runs.

        Args:
            name: Name of the page.
            value: HTML as a str, an `Html`, or the path of a file (a `pathlib.Path`).
            step: Position on `step_axis`, an int or a 0-d integer array; None takes the next one on that axis.
            step_axis: Which axis `step` counts on.
            wall_time: Seconds since the epoch; None means now.

        Example:
            >>> from tracking_core import start_run
            >>> with start_run("digits", backends="none") as run:
            ...     run.log_html("attention", "<p>the <mark>seven</mark> was seen as a one</p>", step=0)
        """
        self._record("log_html", (name, value), {"wall_time": wall_time}, step, step_axis)

    def log_config(self, config: Any) -> None:
        """Add to, or change, the configuration; nested mappings are merged.

        Args:
            config: Whatever `start_run` takes as config.
        """
        from tracking_core.values.config import merge, to_plain

        def change() -> None:
            plain = to_plain(config)
            merge(self._config, plain)
            self._recorder.log_config(plain)

        self._guarded(change, (), {})

    def log_summary(self, summary: Mapping[str, Any]) -> None:
        """Set values that describe the run as a whole, such as the best accuracy.

        Args:
            summary: Names to JSON-like values; a name that was set before is replaced.
        """
        self._guarded("log_summary", (summary,), {})

    def log_alert(self, title: str, text: str = "", *, level: str = "info", wall_time: float | None = None) -> None:
        """Raise an alert on the backends that have them.

        Args:
            title: What happened, in a few words.
            text: More about it.
            level: "info", "warn" or "error".
            wall_time: Seconds since the epoch; None means now.
        """
        self._guarded("log_alert", (title, text), {"level": level, "wall_time": wall_time})

    def log(self, values: Mapping[str, Any], step: int | None = None, *, step_axis: str = "step") -> None:
        """Record a mixture of values by key, each as what it is.

        Args:
            values: Names to numbers, images, histograms, tables and so on; see `log_mixed`.
            step: Position on the axis; None is the next one.
            step_axis: Which axis `step` counts on.
        """
        from tracking_core.fallbacks import log_mixed

        def mixed() -> None:
            on_error = None if self._strict else self._left_out
            log_mixed(self, values, step=self._step(step, step_axis), step_axis=step_axis, on_error=on_error)

        self._guarded(mixed, (), {})

    def scope(self, prefix: str) -> ScopedTracker:
        """A tracker that puts `prefix/` before every name."""
        return ScopedTracker(self, prefix)  # pyright: ignore[reportArgumentType] - step=None on top of the protocol

    def every(self, steps: int) -> EveryTracker:
        """A tracker that passes on only steps that are a multiple of `steps`."""
        return EveryTracker(self, steps)  # pyright: ignore[reportArgumentType] - as above

    def _record(self, method: str, args: tuple[Any, ...], keywords: dict[str, Any], step: Any, step_axis: str) -> None:
        begin = perf_counter_ns()
        try:
            if self._status != "running" or self._forked or self._late_error is not None:
                self._elsewhere(method)
                if self._status != "running":
                    return
            step = self._step(step, step_axis)
            taken = getattr(self._recorder, method)(*args, step=step, step_axis=step_axis, **keywords)
            if taken and type(step) is int:
                self._steps.accepted(step_axis, step)
        except Exception as error:  # noqa: BLE001 - see _problem
            self._problem(method, args, error)
        except BaseException as error:
            self._interrupted(error)
            raise
        else:
            self._delivery.recorded()
        finally:
            self._times.add(perf_counter_ns() - begin)

    def _guarded(self, method: str | Callable[[], Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        name = method if isinstance(method, str) else getattr(method, "__name__", "log")
        try:
            if self._status != "running" or self._forked or self._late_error is not None:
                self._elsewhere(name)
                if self._status != "running":
                    return None
            result = method() if not isinstance(method, str) else getattr(self._recorder, method)(*args, **keywords)
        except Exception as error:  # noqa: BLE001 - see _problem
            self._problem(name, args, error)
            return None
        except BaseException as error:
            self._interrupted(error)
            raise
        self._delivery.recorded()
        return result

    def _step(self, step: Any, axis: str) -> Any:
        """A step as an int, the next one where there is none; one on a device travels with the values."""
        from tracking_core.values import to_axis, to_step

        if step is None:
            return self._steps.take(to_axis(axis))
        return step if is_device_array(step) and not _is_here(step) else to_step(step)

    def _interrupted(self, error: BaseException) -> None:
        """A call was broken off, as by Ctrl-C, wherever it stood: nothing may wait for what it had begun."""
        let_go(error)
        self._journal.reclaim()

    def _elsewhere(self, method: str) -> None:
        """A call that is not an ordinary one of the running run, in the process that started it."""
        if self._late_error is not None:
            error, self._late_error = self._late_error, None
            raise error
        if self._status != "running":
            if self._strict:
                raise TrackingError(f"run {self.id}: {method} after finish()")
            self._troubles.note("finished", f"{method} after finish(); nothing is recorded any more", key=method)
        elif self._journal.is_foreign:
            self._journal.reopen()

    def _problem(self, method: str, args: tuple[Any, ...], error: Exception) -> None:
        """What a call raised: raised on in strict mode; otherwise counted, and warned about once for each key."""
        if self._strict:
            raise error
        key = args[0] if args and isinstance(args[0], str) else method
        if isinstance(error, InvalidValueError):
            self._troubles.note("invalid", f"not recorded: {error}", key=key, error=error)
        else:
            self._troubles.note("intake", f"{method} failed: {brief(error)}", key=key, error=error)

    def _left_out(self, key: str, error: Exception) -> None:
        """One of several values of a call was left out."""
        self._troubles.note("invalid", f"not recorded: {error}", key=key, error=error)

    def _late(self, key: str, error: Exception) -> None:
        """A value that could not be recorded after its call had returned; a strict run raises it at the next call."""
        if self._strict:
            self._late_error = error
        elif isinstance(error, InvalidValueError):
            self._left_out(key, error)
        else:
            self._troubles.note("intake", f"{key!r} was not recorded: {brief(error)}", key=key, error=error)

    def _media_dropped(self, message: str) -> None:
        self._troubles.note("media", message, key="media")

    # ------------------------------------------------------------------ the end

    def flush(self, timeout: float | None = None, *, local: bool = False) -> DeliveryReport:
        """Wait until every target has confirmed what was recorded so far, or with `local` until it is in the journal.

        Args:
            timeout: Seconds without progress after which to stop waiting; None means 60. What waits then comes later
                all the same, and is pending in the report.
            local: Whether to wait for the journal alone, and not for the targets: cheap enough to be called often. In
                a forked child, whose parent delivers, that is all there is to wait for.

        Returns:
            What became of the records, target by target; with `local`, of the journal alone.
        """
        if self._report is not None:
            return self._local_report(self._report) if local else self._report
        patience = timeout if timeout is not None else FLUSH_PATIENCE
        if not self._journal.is_foreign:
            if not self._drain(patience) and timeout is None:
                # Whoever named a time reads in the report what has not come by then.
                self._troubles.note("slow", f"values did not arrive from their devices within {patience:g} s")
            self._journal.drain(patience)
            self._journal.recover()
            self._journal.settle()
        if local:
            return self._local_report(self._make_report(targets=False))
        if not self._forked:
            self._delivery.flush(timeout)
        return self._make_report()

    @staticmethod
    def _local_report(report: DeliveryReport) -> DeliveryReport:
        return DeliveryReport({"local": report["local"]}, report.status)

    def finish(self, status: str = "finished", timeout: float = 60.0, *, error: str | None = None) -> DeliveryReport:
        """End the run: everything is delivered, and every target finished. A second call returns the same report.

        Args:
            status: "finished", "failed", "interrupted" or "preempted".
            timeout: Seconds without progress after which a target is given up; its records stay in the journal.
            error: What went wrong, for a failed run.

        Returns:
            What became of the records, target by target.

        Raises:
            SettingsError: There is no such status.
        """
        check_status(status)
        if self._forked:
            return DeliveryReport({}, self._status)
        with self._finishing:
            if self._ending and self._report is None:
                return self._make_report()
            self._ending = True
            if self._report is None:
                self._end(status, error, timeout)
        assert self._report is not None
        if self._late_error is not None:
            late, self._late_error = self._late_error, None
            raise late
        if self._strict and not self._report.ok:
            raise TrackingError(f"run {self.id}: not everything arrived: {self._closing_words()}")
        return self._report

    def await_end(self, timeout: float = 60.0) -> None:
        """Wait for a thread that is ending the run just now, for at most `timeout` seconds."""
        if self._report is None and self._finishing.acquire(timeout=timeout):
            self._finishing.release()

    def _end(self, status: str, error: str | None, timeout: float) -> None:
        if error is not None:
            error = redact_text(error)
        self._on_finish(self)
        self._status = status
        arrived = self._drain(timeout)
        if not arrived:
            # Not dropped: the process may live on, and then they are written. The report has them as pending.
            self._troubles.note("slow", f"values did not arrive from their devices within {timeout:g} s")
        try:
            self._journal.seal()
            self._recorder.end(status, error, self._dropped())
            if self._journal.drain(timeout):
                if arrived:
                    self._journal.abandon(1.0)
                self._journal.settle()
                self._journal.drain(timeout)
                self._journal.beat()
                self._journal.sync()
            else:
                self._troubles.note("journal", f"lines were not written within {timeout:g} s")
        except OSError as problem:
            self._troubles.note("journal", f"the end of the run could not be written: {problem}", error=problem)
        self._delivery.finish(status, error, timeout)
        self._report = self._make_report()
        # What is not well has been said, or is about to be, and once is enough.
        arrived = "; ".join(str(report) for report in self._report.values() if report.ok)
        self._say(f"run {self.name} {status}: {self.health.without_troubles()}" + (f"; {arrived}" if arrived else ""))
        if not self._journal.waiting:
            # Otherwise the file system may yet take what waits for it, if the process lives that long.
            self._journal.close()
            self._compact(status)
        words = self._closing_words()
        if words and not self._strict:
            self._troubles.note("delivery", words)

    def _closing_words(self) -> str:
        assert self._report is not None
        return closing_words(self._report.values(), self._dir, self._troubles.has_said)

    def _compact(self, status: str) -> None:
        """Make columns of a journal that is worth it; a process that was told to go has no time for that."""
        from tracking_core.compaction.background import compact_at_end

        if status in {"interrupted", "preempted"}:
            return
        problem = compact_at_end(self._dir)
        if problem:
            self._troubles.note("compaction", f"run {self.id} stays JSON Lines for now: {problem}")

    def _drain(self, timeout: float) -> bool:
        """Wait until what calls have handed over is in the journal; False when it was not in time, and comes later."""
        return self._recorder.drain(timeout)

    def _dropped(self) -> dict[str, int]:
        """How many values were left out, by reason."""
        counts = self._troubles.counts
        return {reason: counts[reason] for reason in ("invalid", "finished", "intake", "media") if counts[reason]}

    def _make_report(self, *, targets: bool = True) -> DeliveryReport:
        dropped, unwritten = self._dropped(), self._journal.unwritten
        local = TargetReport(
            "local",
            delivered=self._journal.written,
            pending=self._journal.waiting,
            failed=unwritten,
            dropped=sum(dropped.values()),
            # What went wrong at a target is said by the target.
            last_error=self._troubles.last_of("journal", "directory", *dropped) if dropped or unwritten else None,
        )
        reports = self._delivery.reports() if targets and not self._forked else []
        return DeliveryReport({"local": local, **{report.target: report for report in reports}}, self._status)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status, text = outcome(error)
        if self._forked:
            return
        try:
            self.finish(status, error=text)
        except TrackingError as problem:
            # An error of the body says more than what a strict run has to say about its end.
            if error is None:
                raise
            self._troubles.note("delivery", str(problem), error=problem)


def _is_here(step: Any) -> bool:
    """Whether a step on a device can be read without waiting."""
    try:
        return not tracing() and is_ready_on_host((step,))
    except Exception:  # noqa: BLE001 - a deleted array says so when it is packed
        return False


def _text(value: object, otherwise: str) -> str:
    """A name as it was given; objects that are no str may do anything when they are asked for one."""
    return (str.__str__(value) or otherwise) if isinstance(value, str) else otherwise
