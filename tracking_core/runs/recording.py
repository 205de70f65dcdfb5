"""The methods of a run that record: every call takes microseconds, and none raises or waits."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, cast

from tracking_core.base.handlers import from_handler, raise_from_handler
from tracking_core.base.problems import brief, kind_of_mistake
from tracking_core.errors import InvalidValueError, TrackingError
from tracking_core.intake import Recorder
from tracking_core.intake.steps import StepCounter
from tracking_core.journal.numbers import let_go
from tracking_core.on_device.arrays import is_device_array, is_ready_on_host, tracing
from tracking_core.runs.config import RunConfig, change
from tracking_core.runs.health import CallTimes
from tracking_core.wrappers import EveryTracker, ScopedTracker, Single

if TYPE_CHECKING:
    from tracking_core.base.problems import Troubles
    from tracking_core.delivery.interface import Delivery
    from tracking_core.journal import JournalWriter
    from tracking_core.values import ArtifactRef

_generation = 0


def _in_child() -> None:
    global _generation  # noqa: PLW0603 - how often this process was forked belongs to the module
    _generation += 1


# In a forked child the runs are the parent's: logging goes to a writer of the child, finishing is not its business.
os.register_at_fork(after_in_child=_in_child)


class Recording(Single):
    """What records, of a `Run`."""

    _facts: Mapping[str, Any]
    _recorder: Recorder
    _journal: JournalWriter
    _troubles: Troubles
    _delivery: Delivery
    _steps: StepCounter
    _times: CallTimes
    _config: RunConfig
    _status: str
    _strict: bool
    _late_error: Exception | None

    def __init__(self) -> None:
        self._born = _generation

    @property
    def id(self) -> str:
        """Identity of the run."""
        return self._facts["id"]

    @property
    def _forked(self) -> bool:
        """Whether this process is a fork of the one that started the run."""
        return self._born != _generation

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
                mappings are joined with "/". NaN and infinities are kept. The call does not wait for values on a
                device.
            step: Position on `step_axis`, an int or a 0-d integer array; None uses the next one on that axis.
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
                self._check_usable("log_scalars")
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
                `Image` objects (with captions), Pillow images, or lists and tuples of any of these.
            step: Position on `step_axis`, an int or a 0-d integer array; None uses the next one on that axis.
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
                histogram for each, named by its path. Non-finite values are counted separately. Arrays on a device are
                counted there.
            step: Position on `step_axis`, an int or a 0-d integer array; None uses the next one on that axis.
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
            name: Name of the artifact; None uses the name of the file or directory.
            type: Kind of artifact, such as "model" or "dataset".
            metadata: JSON-like facts about it.
            aliases: Further names of this version, such as "best"; "latest" is always added.

        Returns:
            The version. If the contents equal those of the newest version, that version is returned.

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

        Example:
            >>> from tracking_core import start_run
            >>> with start_run("digits", backends="none") as run:
            ...     ref = run.use_artifact("mnist:latest")
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
            value: A `Table`, a mapping of columns, a sequence of row mappings, a structured array, or a data frame or a
                column of pandas, polars (a lazy frame is computed) or pyarrow. Cells that are no number, str, date,
                list or None become text. The columns are copied; the rest of the work is done after the call.
            step: Position on `step_axis`, an int or a 0-d integer array; None uses the next one on that axis.
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
            step: Position on `step_axis`, an int or a 0-d integer array; None uses the next one on that axis.
            step_axis: Which axis `step` counts on.
            wall_time: Seconds since the epoch; None means now.
            fps: Frames a second, for frames in an array.
            value_range: `(low, high)` that float frames are scaled from; None means `[0, 1]`.

        Example:
            >>> import numpy as np
            >>> from tracking_core import start_run
            >>> frames = np.zeros((16, 64, 64, 3), dtype=np.uint8)
            >>> with start_run("digits", backends="none") as run:
            ...     run.log_video("rollout", frames, step=0, fps=4.0)
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
            step: Position on `step_axis`, an int or a 0-d integer array; None uses the next one on that axis.
            step_axis: Which axis `step` counts on.
            wall_time: Seconds since the epoch; None means now.
            sample_rate: Samples a second, for samples in an array.

        Example:
            >>> import numpy as np
            >>> from tracking_core import start_run
            >>> tone = np.sin(np.linspace(0.0, 2764.6, 16000))
            >>> with start_run("digits", backends="none") as run:
            ...     run.log_audio("tone", tone, step=0, sample_rate=16000)
        """
        self._record("log_audio", (name, value), {"wall_time": wall_time, "sample_rate": sample_rate}, step, step_axis)

    def log_text(
        self, name: str, value: str, *, step: int | None = None, step_axis: str = "step", wall_time: float | None = None
    ) -> None:
        """Record text. It is shown as Markdown if the backend can do that.

        Args:
            name: Name of the text.
            value: The text, or a `Text`.
            step: Position on `step_axis`, an int or a 0-d integer array; None uses the next one on that axis.
            step_axis: Which axis `step` counts on.
            wall_time: Seconds since the epoch; None means now.

        Example:
            >>> from tracking_core import start_run
            >>> with start_run("digits", backends="none") as run:
            ...     run.log_text("sample", "a *seven* that looks like a one", step=0)
        """
        self._record("log_text", (name, value), {"wall_time": wall_time}, step, step_axis)

    def log_figure(
        self, name: str, value: Any, *, step: int | None = None, step_axis: str = "step", wall_time: float | None = None
    ) -> None:
        """Record a figure.

        Args:
            name: Name of the figure.
            value: A figure of matplotlib or plotly, or a `Figure`.
            step: Position on `step_axis`, an int or a 0-d integer array; None uses the next one on that axis.
            step_axis: Which axis `step` counts on.
            wall_time: Seconds since the epoch; None means now.

        Example:
            >>> from tracking_core import Figure, start_run
            >>> with start_run("digits", backends="none") as run:
            ...     run.log_figure("loss", Figure.from_plotly('{"data": []}'), step=0)
        """
        self._record("log_figure", (name, value), {"wall_time": wall_time}, step, step_axis)

    def log_html(
        self, name: str, value: Any, *, step: int | None = None, step_axis: str = "step", wall_time: float | None = None
    ) -> None:
        """Record HTML: a page, or a part of one. It is shown in a sandbox, where no script runs.

        Args:
            name: Name of the page.
            value: HTML as a str, an `Html`, or the path of a file (a `pathlib.Path`).
            step: Position on `step_axis`, an int or a 0-d integer array; None uses the next one on that axis.
            step_axis: Which axis `step` counts on.
            wall_time: Seconds since the epoch; None means now.

        Example:
            >>> from tracking_core import start_run
            >>> with start_run("digits", backends="none") as run:
            ...     run.log_html("attention", "<p>the <mark>seven</mark> was seen as a one</p>", step=0)
        """
        self._record("log_html", (name, value), {"wall_time": wall_time}, step, step_axis)

    def log_config(self, config: Any) -> None:
        """Extend or change the configuration; nested mappings are merged.

        Args:
            config: Anything that `start_run` accepts as config.

        Example:
            >>> from tracking_core import start_run
            >>> with start_run("digits", backends="none") as run:
            ...     run.log_config({"model": {"width": 128}})
            >>> run.config["model"]["width"]
            128
        """

        def extend() -> None:
            change(self._config, self._recorder.log_config(config))

        self._guarded(extend, (), {})

    def log_summary(self, summary: Mapping[str, Any]) -> None:
        """Set values that describe the run as a whole, such as the best accuracy.

        Args:
            summary: Names to JSON-like values; a name that was set before is replaced.

        Example:
            >>> from tracking_core import start_run
            >>> with start_run("digits", backends="none") as run:
            ...     run.log_summary({"best/accuracy": 0.98})
        """
        self._guarded("log_summary", (summary,), {})

    def log_alert(self, title: str, text: str = "", *, level: str = "info", wall_time: float | None = None) -> None:
        """Raise an alert on the backends that support alerts.

        Args:
            title: What happened, in a few words.
            text: More about it.
            level: "info", "warn" or "error".
            wall_time: Seconds since the epoch; None means now.

        Example:
            >>> from tracking_core import start_run
            >>> with start_run("digits", backends="none") as run:
            ...     run.log_alert("the loss is not finite", "at step 120", level="warn")
        """
        self._guarded("log_alert", (title, text), {"level": level, "wall_time": wall_time})

    def log(self, values: Mapping[str, Any], step: int | None = None, *, step_axis: str = "step") -> None:
        """Record values of different kinds by key; the kind of each is recognised.

        Args:
            values: Names to numbers, images, histograms, tables, data frames and so on; see `log_mixed`.
            step: Position on the axis; None uses the next one.
            step_axis: Which axis `step` counts on.

        Example:
            >>> from tracking_core import start_run
            >>> with start_run("digits", backends="none") as run:
            ...     run.log({"loss": 0.5, "note": "after warm-up"}, step=0)
        """
        from tracking_core.fallbacks import log_mixed

        def mixed() -> None:
            on_error = None if self._strict else self._left_out
            # It is a tracker together with the other half of `Run`.
            log_mixed(
                cast("Any", self), values, step=self._step(step, step_axis), step_axis=step_axis, on_error=on_error
            )

        self._guarded(mixed, (), {})

    def scope(self, prefix: str) -> ScopedTracker:
        """A tracker that puts `prefix/` before every name.

        Args:
            prefix: What comes before the slash.

        Example:
            >>> from tracking_core import start_run
            >>> with start_run("digits", backends="none") as run:
            ...     run.scope("train").log_scalars({"loss": 0.5}, step=0)
        """
        return ScopedTracker(self, prefix)  # pyright: ignore[reportArgumentType] - step=None on top of the protocol

    def every(self, steps: int) -> EveryTracker:
        """A tracker that passes on only steps that are a multiple of `steps`.

        Args:
            steps: A positive int.

        Example:
            >>> from tracking_core import start_run
            >>> with start_run("digits", backends="none") as run:
            ...     run.every(100).log_text("sample", "a seven", step=200)
        """
        return EveryTracker(self, steps)  # pyright: ignore[reportArgumentType] - as above

    def _record(self, method: str, args: tuple[Any, ...], keywords: dict[str, Any], step: Any, step_axis: str) -> None:
        begin = perf_counter_ns()
        try:
            if self._status != "running" or self._forked or self._late_error is not None:
                self._check_usable(method)
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
                self._check_usable(name)
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

    def _check_usable(self, method: str) -> None:
        """Handle calls after `finish()`, in a forked child, or after a deferred error."""
        if self._late_error is not None:
            error, self._late_error = self._late_error, None
            raise error
        if self._status != "running":
            if self._strict:
                raise TrackingError(f"run {self.id}: {method} was called after finish()")
            self._troubles.note("finished", f"{method} was called after finish(); nothing is recorded", key=method)
        elif self._journal.is_foreign:
            self._journal.reopen()

    def _problem(self, method: str, args: tuple[Any, ...], error: Exception) -> None:
        """What a call raised: raised on in strict mode; otherwise counted, and each kind of it warned about once.

        What a signal handler of the program raised was not raised by the call, and is always raised on.
        """
        interruption = from_handler(error)
        if interruption is not None:
            self._interrupted(interruption)
            raise interruption
        if self._strict:
            raise error
        key = args[0] if args and isinstance(args[0], str) else method
        kind = kind_of_mistake(error)
        if isinstance(error, InvalidValueError):
            self._troubles.note("invalid", f"not recorded: {error}", key=key, kind=kind, error=error)
        else:
            self._troubles.note("intake", f"{method} failed: {brief(error)}", key=key, kind=kind, error=error)

    def _left_out(self, key: str, error: Exception) -> None:
        """One of several values of a call was left out."""
        raise_from_handler(error)
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


def _is_here(step: Any) -> bool:
    """Whether a step on a device can be read without waiting."""
    try:
        return not tracing() and is_ready_on_host((step,))
    except Exception as error:  # noqa: BLE001 - a deleted array says so when it is packed
        raise_from_handler(error)
        return False


def _text(value: object, otherwise: str) -> str:
    """A name as it was given; objects that are no str may do anything when they are asked for one."""
    return (str.__str__(value) or otherwise) if isinstance(value, str) else otherwise
