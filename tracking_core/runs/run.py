"""The run, which a training loop holds. Every call takes microseconds, and none raises or waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from tracking_core.base.handlers import raise_from_handler
from tracking_core.base.problems import brief
from tracking_core.base.redaction import redact_text
from tracking_core.delivery.closing import closing_words
from tracking_core.delivery.report import DeliveryReport, TargetReport
from tracking_core.errors import SettingsError, TrackingError
from tracking_core.intake import Recorder
from tracking_core.intake.resolver import resolver
from tracking_core.intake.steps import StepCounter
from tracking_core.naming import printable
from tracking_core.runs.config import HOW_TO_CHANGE, RunConfig
from tracking_core.runs.health import CallTimes, Health
from tracking_core.runs.outcome import check_status, outcome
from tracking_core.runs.recording import Recording

if TYPE_CHECKING:
    from tracking_core.base.problems import Troubles
    from tracking_core.delivery.interface import Delivery

FLUSH_PATIENCE = 60.0
"""Seconds without progress after which `flush` stops waiting, when no timeout is given."""


class Run(Recording):
    """A run that is being recorded. `start_run` makes one; use it as a context manager, or call `finish`.

    It is a `Tracker` with every capability. In normal mode its methods never raise: a value that cannot be recorded
    is left out, counted in `health.dropped` and warned about once. With `strict=True` they raise instead.
    """

    def __init__(
        self,
        facts: Mapping[str, Any],
        directory: Path,
        recorder: Recorder,
        delivery: Delivery,
        troubles: Troubles,
        *,
        strict: bool,
        on_enter: Callable[[Run], None],
        on_finish: Callable[[Run], None],
        say: Callable[[str, str | None], None],
        next_steps: Mapping[str, int] = MappingProxyType({}),
        elsewhere: str = "",
        resumed: bool = False,
    ) -> None:
        self._facts = facts
        self._say = say
        self._elsewhere = elsewhere
        """Said at the end of a run that is not recorded where it was to be."""
        self._dir = directory
        self._recorder = recorder
        self._journal = recorder.journal
        self._delivery = delivery
        self._troubles = troubles
        self._strict = strict
        self._on_enter = on_enter
        self._on_finish = on_finish
        self._config = RunConfig(facts["config"])
        self._resumed = resumed
        self._steps = StepCounter(next_steps)
        # A signal handler may end the run while the main thread is ending it.
        self._finishing = threading.RLock()
        self._ending = False
        self._report: DeliveryReport | None = None
        self._status = "running"
        super().__init__()
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
        """The directory was gone, and was created again.

        Args:
            directory: Where it is now.
            facts: What its `run.json` says.
        """
        self._dir = directory
        self._facts = {**self._facts, "id": facts["id"]}
        # What was changed since the start, or by earlier sessions, was in the journals.
        self._recorder.log_config(self.config)

    # ------------------------------------------------------------------ what it is

    @property
    def project(self) -> str:
        """The project it belongs to."""
        return self._facts["project"]

    @property
    def name(self) -> str:
        """The display name."""
        return self._facts["name"]

    @property
    def dir(self) -> Path:
        """Directory of the run in the local store."""
        return self._dir

    @property
    def config(self) -> RunConfig:
        """The configuration, as plain JSON values: `run.config.lr` or `run.config["lr"]`; `log_config` changes it.

        A key that a device still computes is waited for when it is read.
        """
        return self._config

    @config.setter
    def config(self, value: object) -> None:  # noqa: ARG002 - whatever it is, it is refused
        raise AttributeError(HOW_TO_CHANGE)

    @property
    def group(self) -> str | None:
        """Group of runs it belongs to."""
        return self._facts.get("group")

    @property
    def resumed(self) -> bool:
        """Whether it continues a run that was started earlier."""
        return self._resumed

    @property
    def step(self) -> int:
        """The step that comes next on the axis "step": that of a call which names none. 0 for a new run.

        A loop that continues a run counts on from here: `for step in range(run.step, 1000)`.
        """
        return self._steps.coming("step")

    @property
    def tags(self) -> tuple[str, ...]:
        """Labels."""
        return tuple(self._facts["tags"])

    @property
    def status(self) -> str:
        """The status: "running", or the one it was finished with."""
        return self._status

    @property
    def health(self) -> Health:
        """The state of recording: counts of records that were recorded, were dropped, or wait."""
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
    def summary(self) -> Mapping[str, Any]:
        """The last value of every scalar, and what `log_summary` has set, as far as it was recorded in this session.

        Values on a device are in it when they have arrived; `flush(local=True)` waits for them.
        """
        return MappingProxyType(self._recorder.results.summary())

    @property
    def should_stop(self) -> bool:
        """Whether a backend, or a person through a backend, has asked the training to stop."""
        if self._stop_requested:
            return True
        self._stop_requested = any(
            getattr(tracker, "should_stop", False) is True for _, tracker in self._delivery.open_trackers()
        )
        return self._stop_requested

    def url(self, target: str | None = None) -> str | None:
        """The address at which a target shows the run; None when it has none, or was not open yet.

        It is known with every kind of delivery, and stays known when the run has ended.

        Args:
            target: Name of the target; None uses the first that has an address.
        """
        from tracking_core.delivery.cursor import address_of
        from tracking_core.delivery.progress import addresses

        found = [] if self._forked else [(label, address_of(one)) for label, one in self._delivery.open_trackers()]
        for label, address in (*found, *addresses(self._dir)):
            if address is not None and (target is None or target in {label, label.partition(":")[0]}):
                return address
        return None

    def native(self, target: str) -> Any:
        """The backend's own object, such as the W&B run, for features that the protocol does not cover.

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

    def _repr_html_(self) -> str:
        from tracking_core.runs.results import run_html

        return run_html(self)

    def __repr__(self) -> str:
        return f"<Run {self.name!r} ({self.id}) of {self.project!r}, {self._status}>"

    # ------------------------------------------------------------------ the end

    def flush(self, timeout: float | None = None, *, local: bool = False) -> DeliveryReport:
        """Wait until every target has confirmed all records so far; with `local`, until they are in the journal.

        Args:
            timeout: Seconds without progress after which to stop waiting; None means 60. Records that still wait then
                are delivered later, and are pending in the report.
            local: Whether to wait only for the journal, not for the targets. This is cheap enough to call often. In a
                forked child the parent delivers, so there is nothing else to wait for.

        Returns:
            What became of the records, target by target; with `local`, only of the journal.
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
        """End the run: deliver everything and finish every target. A second call returns the same report.

        Args:
            status: "finished", "failed", "interrupted" or "preempted".
            timeout: Seconds without progress after which a target is given up; its records stay in the journal.
            error: What went wrong, for a failed run.

        Returns:
            What became of the records, target by target.

        Raises:
            SettingsError: The status is unknown.
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
        """Wait for a thread that is currently ending the run, for at most `timeout` seconds."""
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
            raise_from_handler(problem)
            self._troubles.note("journal", f"the end of the run could not be written: {problem}", error=problem)
        self._delivery.finish(status, error, timeout)
        self._report = self._make_report()
        empty = self._why_no_scalar()
        if empty:
            self._say(printable(f"run {self.name}: {empty}", limit=1000), None)
        # What is not well has been said, or is about to be, and once is enough.
        arrived = [str(report) for report in self._report.values() if report.ok]
        where = [self._elsewhere] if self._elsewhere else []
        head = "; ".join([f"run {self.name} {status}: {self.health.without_troubles()}", *arrived])
        self._say_results(printable(head, limit=4000), where)
        if not self._journal.waiting:
            # Otherwise the file system may yet take what waits for it, if the process lives that long.
            self._journal.close()
            self._compact(status)
        words = self._closing_words()
        if words and not self._strict:
            self._troubles.note("delivery", "; ".join([words, *where]))

    def _why_no_scalar(self) -> str:
        from tracking_core.runs.no_scalar import why_no_scalar

        dropped = self._dropped()
        last = self._troubles.last_of(*dropped)
        return why_no_scalar(self._journal.kinds, dropped, last, has_config=bool(self._config))

    def _say_results(self, head: str, where: list[str]) -> None:
        from tracking_core.delivery.progress import addresses
        from tracking_core.runs.results import closing, command_for

        try:
            urls = list(dict.fromkeys(address for _, address in addresses(self._dir)))
            command = command_for(self.id, self._dir.parent.parent)
            text, page = closing(head, self._recorder.results, urls, [command, *where])
        except Exception as error:  # noqa: BLE001 - what is only shown must not keep a run from ending
            text, page = f"{head} (its results cannot be shown: {brief(error)})", None
        self._say(text, page)

    def _closing_words(self) -> str:
        assert self._report is not None
        return closing_words(self._report.values(), self._dir, self._troubles.has_said)

    def _compact(self, status: str) -> None:
        """Have columns made of a long journal, later; a process that was told to go has no time for that."""
        from tracking_core.compaction.background import compaction

        def say(problem: str) -> None:
            self._troubles.note("compaction", f"run {self.id} stays JSON Lines for now: {problem}")

        if status not in {"interrupted", "preempted"}:
            compaction.add(self._dir, say, over=True)

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
        self._on_enter(self)
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
