"""The tracker: each call becomes one row, one file or one message of the client's Run."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tracking_core import BatchInterrupted, InvalidValueError, Rejected, RetryLater, replay
from tracking_core.values import (
    ArtifactRef,
    Record,
    artifact_files,
    to_audio,
    to_axis,
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
from tracking_wandb import ending, media, recovery
from tracking_wandb.artifacts import ArtifactBuilder, Uploads, reference
from tracking_wandb.client import quiet, writes_soon
from tracking_wandb.failures import call_error, gone, is_gone, is_unreachable
from tracking_wandb.joining import Joining, OpenRow
from tracking_wandb.names import MAX_TITLE, clean, metric_key, shortened
from tracking_wandb.offline.tail import LogTail
from tracking_wandb.plain import OWN, merge, plain_config
from tracking_wandb.rows import Rows, storable
from tracking_wandb.session import closed, remove_replaced

if TYPE_CHECKING:
    from tracking_wandb.session import Session

_LEVELS = {"info": "INFO", "warn": "WARN", "warning": "WARN", "error": "ERROR"}
_NUDGE_AFTER, _FLUSH_SECONDS = 3.0, 8.0


class WandbTracker:
    """Records one run at W&B.

    Usable from several threads. Made by `tracking_wandb.opening.open_run`.

    Args:
        session: The opened run.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.native
        self._wandb = session.wandb
        self._lock = threading.RLock()
        self._config = cast("dict[str, Any]", dict(self._run.config))
        self._own: dict[str, Any] = dict(self._config.pop(OWN, None) or {})
        self._summary: dict[str, Any] = {}
        self._record: Record | None = None
        self._joining = Joining(self._hand_over)
        self._unsent_row: RetryLater | None = None
        self._overwritten: dict[str, Any] = {}
        self._closed = False
        self._ending: ending.Ending | None = None
        self._gone: BaseException | None = None
        self._rows_sent = 0
        self._first_step = int(getattr(self._run, "starting_step", 0) or 0)
        self._builder = ArtifactBuilder(self._wandb, session.directory / "artifacts")
        self._uploads = Uploads(session.info.state)
        self._tail = LogTail(session.log)
        with self._talking():
            self._rows = Rows(self._run.define_metric, self._remember_name, round_=session.info.round)
            self._remember_project()

    def __repr__(self) -> str:
        return f"<wandb run {self._session.info.id!r}, {self._session.mode}>"

    # ------------------------------------------------------------------ what others ask

    @property
    def native(self) -> Any:
        """The client's Run."""
        return self._run

    @property
    def url(self) -> str | None:
        """Address of the run's page; None offline."""
        if self._session.mode == "offline":
            return None
        with quiet(self._wandb):
            return cast("str | None", self._run.url)

    @property
    def confirmed(self) -> Mapping[str, int] | None:
        """By writer, the highest sequence number W&B has; {} for nothing, None where the cursor is to be trusted."""
        return self._session.confirmed

    @property
    def arrived(self) -> Mapping[str, int]:
        """By writer, the highest sequence number of a row that W&B has; `confirmed` may lie before it."""
        return self._session.have

    @property
    def broken(self) -> bool:
        """Whether wandb-core is gone: only opening the run again helps."""
        return self._gone is not None

    @property
    def gathering(self) -> bool:
        """Whether a row is open that the next record may belong into; a flush would end it."""
        row = self._joining.row
        return row is not None and not row.is_due and self._gone is None

    # ------------------------------------------------------------------ rows

    def log_scalars(
        self, scalars: Mapping[str, Any], *, step: int, step_axis: str = "step", wall_time: float | None = None
    ) -> None:
        """See `tracking_core.Tracker.log_scalars`: one row of the history, or a part of one behind a run."""
        values = {name: storable(value) for name, value in to_scalars(scalars).items()}
        record = self._record
        if record is None or record.again or not values:
            self._log(values, step, step_axis, wall_time)
            return
        at, on = to_step(step), to_axis(step_axis)
        with self._talking(ends_row=False):
            self._joining.add(record, values, step=at, axis=on, wall_time=wall_time)

    def log_images(
        self,
        images: Mapping[str, Any],
        *,
        step: int,
        step_axis: str = "step",
        wall_time: float | None = None,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        """See `tracking_core.Tracker.log_images`; images of other sizes, or beyond 108, get keys of their own."""
        normal = to_image_mapping(images, value_range=value_range)
        values: dict[str | tuple[str, str], Any] = {}
        orders: dict[str, list[int]] = {}
        with _folder() as folder:
            for number, (name, several) in enumerate(normal.items()):
                parts, order = media.image_parts(self._wandb, several, folder, str(number))
                values |= {(name, media.part_suffix(part)): group for part, group in enumerate(parts)}
                if order != sorted(order):
                    orders[name] = order
            hidden = {media.ORDER: json.dumps(orders)} if orders else {}
            self._log(values, step, step_axis, wall_time, media=True, hidden=hidden)

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
        """See `tracking_core.Tracker.log_histogram`; bins beyond 512 are joined, non-finite numbers counted beside."""
        name = to_name(name)
        value, facts, nonfinite = media.histogram(self._wandb, to_histogram(values, bins=bins, key=name))
        row: dict[str | tuple[str, str], Any] = {name: value}
        if nonfinite:
            row[name, "/nonfinite"] = nonfinite
        self._log(row, step, step_axis, wall_time, hidden=facts)

    def log_table(
        self, name: str, value: Any, *, step: int, step_axis: str = "step", wall_time: float | None = None
    ) -> None:
        """Record a table."""
        name, parts = to_name(name), media.tables(self._wandb, to_table(value))
        values: dict[str | tuple[str, str], Any] = {
            (name, media.part_suffix(number)): part for number, part in enumerate(parts)
        }
        try:
            self._log(values, step, step_axis, wall_time, media=True, artifacts=True)
        finally:
            media.let_go(parts)

    def log_video(
        self,
        name: str,
        value: Any,
        *,
        step: int,
        step_axis: str = "step",
        wall_time: float | None = None,
        fps: float = 8.0,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        """Record a video; frames become a GIF. A format that W&B does not play becomes an artifact."""
        name, clip = to_name(name), to_video(value, fps=fps, value_range=value_range)
        with _folder() as folder:
            converted = media.video(self._wandb, clip, folder)
            if converted is not None:
                self._log({name: converted}, step, step_axis, wall_time, media=True)
                return
        where = {"step": to_step(step), "step_axis": to_axis(step_axis)}
        assert clip.encoded is not None
        content = {f"video.{clip.format}": clip.encoded}
        self.log_artifact(content, name=f"{name}-{step_axis}-{where['step']}", type="video", metadata=where)

    def log_audio(
        self,
        name: str,
        value: Any,
        *,
        step: int,
        step_axis: str = "step",
        wall_time: float | None = None,
        sample_rate: int = 16000,
    ) -> None:
        """Record sound, as a WAV file."""
        sound = to_audio(value, sample_rate=sample_rate)
        with _folder() as folder:
            self._log({to_name(name): media.audio(self._wandb, sound, folder)}, step, step_axis, wall_time, media=True)

    def log_text(
        self, name: str, value: Any, *, step: int, step_axis: str = "step", wall_time: float | None = None
    ) -> None:
        """Record text, as an HTML page that shows it as it is."""
        content = media.text(self._wandb, to_text(value))
        self._log({to_name(name): content}, step, step_axis, wall_time, media=True)

    def log_figure(
        self, name: str, value: Any, *, step: int, step_axis: str = "step", wall_time: float | None = None
    ) -> None:
        """Record a figure: of plotly as such, any other as an image."""
        with _folder() as folder:
            content = media.figure(self._wandb, to_figure(value), folder)
            self._log({to_name(name): content}, step, step_axis, wall_time, media=True)

    def log_html(
        self, name: str, value: Any, *, step: int, step_axis: str = "step", wall_time: float | None = None
    ) -> None:
        """Record HTML."""
        content = media.html_page(self._wandb, to_html(value))
        self._log({to_name(name): content}, step, step_axis, wall_time, media=True)

    # ------------------------------------------------------------------ facts about the run

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Extend or change the configuration; nested mappings are merged."""
        plain = plain_config(config)
        with self._talking():
            # Opened again, a run has all of its configuration: what comes once more is older than what it has.
            known = self._record is not None and self._session.knew(self._record)
            merge(self._config, plain, over=not known)
            self._run.config.update({key: self._config[key] for key in plain}, allow_val_change=True)

    def log_summary(self, summary: Mapping[str, Any]) -> None:
        """Set values of the summary; they hold against the last values of rows, which W&B puts there by itself."""
        plain = {metric_key(name): value for name, value in plain_config(summary).items()}
        with self._talking():
            self._summary.update(plain)
            self._run.summary.update(plain)

    def log_alert(self, title: str, text: str = "", *, level: str = "info", wall_time: float | None = None) -> None:  # noqa: ARG002 - W&B dates alerts itself
        """Raise an alert, which W&B sends by mail or chat; the same title not more often than once a minute."""
        if level not in _LEVELS:
            raise InvalidValueError(f"log_alert: expected the level info, warn or error, got {level!r:.80}")
        short = shortened(title, MAX_TITLE)
        text = clean(text)
        if short != title:
            text = f"{clean(title)}\n\n{text}".rstrip()
        with self._talking():
            self._run.alert(title=short, text=text, level=_LEVELS[level])

    # ------------------------------------------------------------------ artifacts

    def log_artifact(
        self,
        artifact: Any,
        *,
        name: str | None = None,
        type: str = "file",  # noqa: A002 - the protocol's word
        metadata: Mapping[str, Any] | None = None,
        aliases: Sequence[str] = (),
    ) -> ArtifactRef:
        """See `tracking_core.Tracker.log_artifact`; W&B counts versions by itself, and equal content is one version."""
        name, files = artifact_files(artifact, name)
        record = self._record
        with self._talking():
            built, sent_aliases, copies = self._builder.build(
                name, type, files, metadata=metadata, aliases=aliases, lasting=record is not None
            )
            self._run.log_artifact(built, aliases=sent_aliases or None)
        if self._session.mode == "online":
            self._uploads.watch(name, built, copies, record)
        return ArtifactRef(name, type, aliases=tuple(aliases))

    def use_artifact(self, artifact: str | ArtifactRef) -> ArtifactRef:
        """Record that an artifact is an input; offline, where W&B has no place for it, in the configuration."""
        wanted = reference(artifact)
        name, colon, alias = str(artifact).rpartition(":")
        name, alias = (name, alias) if colon else (alias, "latest")
        with self._talking():
            if self._session.mode == "offline":
                used = [*self._own.get("used_artifacts", []), wanted]
                self._tell("used_artifacts", list(dict.fromkeys(used)))
                return ArtifactRef(name, aliases=(alias,))
            try:
                found = self._run.use_artifact(wanted)
            except Exception as error:
                if "not found" in str(error):
                    raise Rejected(f"W&B has no artifact {wanted!r}", key=str(artifact)) from error
                raise
        return ArtifactRef(name, str(found.type), aliases=(alias,))

    # ------------------------------------------------------------------ delivery, flushing, finishing

    def deliver(self, records: Sequence[Record]) -> None:
        """Take journal records; their numbers go into the rows.

        Scalars of one step that follow one another are joined to one row, which may stay open behind the last record.

        Raises:
            BatchInterrupted: From the error, with how many records were taken before it.
        """
        remove_replaced(self._session)
        for taken, record in enumerate(records):
            try:
                self._deliver(record)
            except Exception as error:
                raise BatchInterrupted(taken) from error
            if self._joining.row is None:
                # Otherwise it is in the row that is open, or was not sent at all.
                self._sent(record)
            if record.step is None and not record.again and self._session.mode == "online":
                recovery.sent(self._session.info.state, record)

    def flush(self) -> None:
        """Return when every row stands in the client's transaction log, from which `wandb sync` can recover it.

        Versions of the client that cannot be told to write sooner are not waited for.

        Raises:
            RetryLater: The client does not write.
            Rejected: An artifact that was logged before could not be uploaded, or a row not be logged.
        """
        with self._talking():
            if self._overwritten:
                self._run.summary.update(self._overwritten)
                self._overwritten.clear()
            # Rows of an earlier opening stand in the log of that one.
            if self._rows_sent and writes_soon(self._wandb) and not self._tail.await_row(self._last_step, _NUDGE_AFTER):
                # Seen once in many thousands: what was written last stays in memory until something else is written.
                self._rows.repeat()
                if not self._tail.await_row(self._last_step, _FLUSH_SECONDS):
                    raise RetryLater(
                        f"wandb: {self._session.log} stays at {self._tail}, expected row {self._last_step}; "
                        "wandb-core does not write"
                    )
        self._joining.raise_refused()
        self._raise_failed_upload()

    def finish(self, status: str = "finished", *, error: str | None = None) -> None:
        """Close the run; see `tracking_wandb.ending` for what the statuses become.

        Raises:
            RetryLater: Not everything arrived; it is on disk, and opening the run again sends the rest.
        """
        with self._lock:
            if self._ending is None:
                try:
                    with self._talking():
                        self._closed = True
                except RetryLater as problem:
                    # The client does not take the last row. Its run is finished all the same.
                    self._closed, self._unsent_row = True, problem
                    if self._gone is not None:
                        raise
                self._ending = ending.Ending(self._session, self._tail, self._uploads)
                self._ending.begin(status, error, self._summary)
            self._ending.complete(self._last_step if self._rows_sent else None)
            if self._unsent_row is not None:
                raise self._unsent_row
            self._joining.raise_refused()
            self._raise_failed_upload()
            if self._uploads.unsent is not None:
                raise self._unsent(*self._uploads.unsent)

    # ------------------------------------------------------------------ inside

    @property
    def _last_step(self) -> int:
        """The client's own step of the last row."""
        return self._first_step + self._rows_sent - 1

    def _log(
        self,
        values: Mapping[Any, Any],
        step: Any,
        axis: Any,
        wall_time: float | None,
        *,
        media: bool = False,
        artifacts: bool = False,
        hidden: Mapping[str, Any] | None = None,
    ) -> None:
        at, on = to_step(step), to_axis(axis)
        if not values:
            return
        with self._talking():
            row = self._rows.build(
                values,
                step=at,
                axis=on,
                wall_time=wall_time,
                media=media,
                artifact_of=self._session.info.id if artifacts else None,
                hidden=hidden,
                record=self._record,
            )
            self._send(row, late=self._record is not None and self._record.again)

    def _hand_over(self, joined: OpenRow) -> None:
        """Log a row of the scalars of several records."""
        last = joined.records[-1]
        row = self._rows.build(
            cast("Mapping[Any, Any]", joined.values),
            step=joined.step,
            axis=joined.axis,
            wall_time=joined.wall_time,
            record=last,
            first=joined.records[0].seq,
        )
        self._send(row, late=False)
        self._sent(last)

    def _send(self, row: dict[str, Any], *, late: bool) -> None:
        """Log a row."""
        if late or self._overwritten:
            self._keep_summary(row, late=late)
        self._run.log(row)
        self._rows_sent += 1

    def _sent(self, record: Record) -> None:
        """Note in the state of the run that a record was handed to the client."""
        sent: dict[str, int] = self._session.info.state.setdefault("sent", {})
        sent[record.writer] = max(sent.get(record.writer, 0), record.seq)

    def _deliver(self, record: Record) -> None:
        if record.step is not None and self._has(record):
            return
        with self._lock:
            self._record = record
            try:
                replay(record, cast("Any", self))
            finally:
                self._record = None

    def _has(self, record: Record) -> bool:
        """Whether W&B has the row of a record.

        Raises:
            RetryLater: The server does not say.
        """
        session = self._session
        if not record.again:
            return record.seq <= session.have.get(record.writer, -1)
        if session.again is None:
            session.again = set()
            if session.mode == "online":
                try:
                    session.again = session.history().sent_again(round_=session.info.round)
                except Exception as error:
                    session.again = None
                    raise RetryLater(
                        f"wandb: the server does not report which rows of the run {session.info.id!r} it has "
                        f"({type(error).__name__}: {str(error)[:200]})"
                    ) from error
        return (record.writer, record.seq) in session.again

    def _keep_summary(self, row: Mapping[str, Any], *, late: bool) -> None:
        """A row that comes late must not be what the summary says: W&B takes the last one that it is given."""
        if not late:
            for key in self._overwritten.keys() & row.keys():
                del self._overwritten[key]
            return
        now = dict(self._run.summary)
        for key in row.keys() - self._overwritten.keys():
            if isinstance(now.get(key), (bool, int, float, str)):
                self._overwritten[key] = now[key]

    @contextmanager
    def _talking(self, *, ends_row: bool = True) -> Generator[None]:
        """Hold the lock while the client is called; refuse once the run is finished; know when wandb-core is gone.

        Args:
            ends_row: Whether the row that is open is handed over first, so that all is in the order in which it came.
        """
        with self._lock:
            if self._gone is not None:
                raise gone(self._session.info.id, self._gone)
            if self._closed:
                raise Rejected(f"wandb: the run {self._session.info.id!r} is finished; open it again to log more to it")
            try:
                if ends_row:
                    self._joining.end()
                yield
            except Exception as error:
                if is_gone(error):
                    self._gone = error
                    closed(self._session)
                    raise gone(self._session.info.id, error) from error
                told = call_error(error, f"the run {self._session.info.id!r}")
                if told is error:
                    raise
                raise told from error

    def _raise_failed_upload(self) -> None:
        failed = self._uploads.failure()
        if failed is None:
            return
        name, error, record = failed
        if is_unreachable(error):
            raise self._unsent(name, error) from error
        raise Rejected(f"W&B could not store it: {error}", key=name, record=record) from error

    def _unsent(self, name: str, error: BaseException) -> RetryLater:
        return RetryLater(
            f"wandb: the artifact {name!r} of the run {self._session.info.id!r} did not reach the server "
            f"({str(error)[:200]}); opening the run again sends it"
        )

    def _remember_name(self, key: str, name: str) -> None:
        self._tell("names", {**self._own.get("names", {}), key: clean(name)})

    def _remember_project(self) -> None:
        wanted = self._session.options.project or self._session.info.project
        if str(getattr(self._run, "project", wanted)) != wanted and self._session.options.project is None:
            self._tell("project", clean(wanted))

    def _tell(self, key: str, value: Any) -> None:
        """Keep something that W&B has no place for in our entry of the configuration."""
        if self._own.get(key) != value:
            self._own[key] = value
            self._run.config.update({OWN: dict(self._own)}, allow_val_change=True)


@contextmanager
def _folder() -> Generator[Path]:
    """A folder for files that the client copies while it logs."""
    with tempfile.TemporaryDirectory(prefix="tracking-wandb-") as name:
        yield Path(name)
