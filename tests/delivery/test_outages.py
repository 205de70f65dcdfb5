"""Backends that are away for a while: what may pass is waited for, however it is raised, and nothing is lost.

Time is that of a clock which only waiting moves: an outage of hours takes no time here.
"""

from __future__ import annotations

import errno
import json
import ssl
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

import tracking_core as tracking
from tracking_core.backends.hooks import AdapterInfo, hookimpl
from tracking_core.backends.plugins import Adapter
from tracking_core.backends.targets import parse_target
from tracking_core.delivery import backlog as backlog_module
from tracking_core.delivery.destinations import Destination
from tracking_core.delivery.inline import InlineDelivery
from tracking_core.delivery.retry import BREAKER, STUCK
from tracking_core.delivery.worker import TargetWorker
from tracking_core.errors import JournalError


class Clock:
    """Moves when somebody waits."""

    def __init__(self, until=float("inf")):
        self.now = 0.0
        self.until = until
        self.waits = []

    def __call__(self):
        return self.now

    def pause(self, seconds):
        self.waits.append(seconds)
        self.now += seconds
        return self.now < self.until


class Backend:
    """Keeps the steps that it is given; raises what `fails(step)` says."""

    def __init__(self, fails=lambda step: None):
        self.fails = fails
        self.steps = []
        self.asked = []
        self.ended = []

    def log_scalars(self, scalars, *, step, **keywords):
        self.asked.append(step)
        error = self.fails(step)
        if error is not None:
            raise error
        self.steps.append(step)

    def log_images(self, images, *, step, **keywords):
        self.log_scalars({}, step=step)

    def log_histogram(self, name, values, *, step, **keywords):
        self.log_scalars({}, step=step)

    def log_artifact(self, artifact, **keywords):
        return tracking.ArtifactRef("a")

    def finish(self, status="finished", *, error=None):
        self.ended.append(status)


class Batches(Backend):
    """The same, in batches."""

    def deliver(self, records):
        for taken, record in enumerate(records):
            try:
                self.log_scalars({}, step=record.step)
            except Exception as error:
                raise tracking.BatchInterrupted(taken) from error


def recorded(steps, *, images=()):
    with tracking.start_run("p", root="runs", backends="local") as run:
        for step in range(steps):
            if step in images:
                run.log_images({"i": np.zeros((2, 2), np.uint8)}, step=step)
                run.flush(local=True)
            else:
                run.log_scalars({"x": float(step)}, step=step)
    return run.dir


def worker_of(directory, tracker, clock, **keywords):
    return TargetWorker(
        directory,
        Destination("there", parse_target("there"), tracker),
        pause=clock.pause,
        note=lambda *_: None,
        clock=clock,
        **keywords,
    )


def deliver_all(worker, clock, rounds=100_000):
    """Deliver as a thread does: when there is nothing to do now, look again a little later."""
    assert worker.open(wait=0.0)
    for _ in range(rounds):
        if not worker.deliver(final=True):
            if not worker.pending() or clock.now >= clock.until:
                return
            clock.now += 5.0


def caused(inner):
    error = RuntimeError("the upload failed")
    error.__cause__ = inner
    return error


def status(number, **headers):
    error = RuntimeError(f"HTTP {number}")
    error.response = SimpleNamespace(status_code=number, headers=headers)
    return error


ERRORS = [
    lambda: ConnectionError("gone"),
    lambda: TimeoutError("no answer"),
    lambda: OSError(errno.ENETUNREACH, "unreachable"),
    lambda: OSError(errno.EIO, "input/output error"),
    lambda: ssl.SSLEOFError(8, "EOF occurred in violation of protocol"),
    lambda: caused(OSError(errno.ENOSPC, "disk full")),
    lambda: status(503),
    lambda: caused(status(429)),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda make: f"{type(make()).__name__}-{make()}"[:40])
@pytest.mark.parametrize("kind", [Backend, Batches])
@pytest.mark.parametrize("outage", [8.0, 6 * 3600.0])
def test_an_outage_costs_nothing(error, kind, outage):
    directory = recorded(40)
    clock = Clock()
    backend = kind(lambda step: error() if step >= 5 and clock() < outage else None)
    worker = worker_of(directory, backend, clock)
    deliver_all(worker, clock)
    assert backend.steps == list(range(40))
    report = worker.report()
    assert (report.delivered, report.failed, report.pending) == (40, 0, 0)
    worker.close("finished", None)
    # It was not asked all the time.
    assert len(backend.asked) < 40 + outage / 10 + 20


def test_waits_grow_unless_the_backend_says_how_long():
    directory = recorded(3)
    clock = Clock()
    answers = [*(ConnectionError() for _ in range(8)), status(429, **{"Retry-After": "17"}), status(503)]
    deliver_all(worker_of(directory, Backend(lambda step: answers.pop(0) if answers else None), clock), clock)
    assert clock.waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 17.0, 30.0]


@pytest.mark.parametrize("after", [float("nan"), -1.0, 1e300])
def test_a_wait_that_cannot_be_waited_for_is_none(after):
    directory = recorded(3)
    clock = Clock()
    errors = [tracking.RetryLater(after=after)]
    worker = worker_of(directory, Backend(lambda step: errors.pop() if errors else None), clock)
    deliver_all(worker, clock)
    assert worker.report().delivered == 3
    assert clock.waits in ([0.5], [3600.0])


# ---------------------------------------------------------------- one record that never passes


@pytest.mark.parametrize("kind", [Backend, Batches])
def test_one_record_that_never_passes_fails_when_others_do(kind):
    directory = recorded(40)
    clock = Clock()
    first = []

    def fails(step):
        if step == 7:
            first.append(clock())
            return TimeoutError("it takes too long")
        return None

    backend = kind(fails)
    worker = worker_of(directory, backend, clock)
    deliver_all(worker, clock)
    assert backend.steps == [step for step in range(40) if step != 7]
    report = worker.report()
    assert (report.delivered, report.failed, report.pending) == (39, 1, 0)
    # It was waited for ten minutes, and not much longer.
    assert first[0] == 0.0
    assert STUCK <= clock.now <= STUCK + 31
    assert worker.cursor.failed.total == 1
    # Nothing behind it was asked for before.
    assert backend.asked.index(8) == len(first) - 1 + 7


def test_several_that_never_pass():
    directory = recorded(40)
    clock = Clock()
    bad = {7, 8, 9, 20, 39}
    backend = Backend(lambda step: status(502) if step in bad else None)
    worker = worker_of(directory, backend, clock)
    clock.until = 4 * STUCK
    deliver_all(worker, clock)
    assert backend.steps == [step for step in range(40) if step not in bad]
    # Of the last nobody can say whether it is the backend: it waits.
    assert (worker.report().failed, worker.report().pending) == (4, 1)


def test_what_comes_later_is_asked_for_too():
    """A record that was the last when it came to be tried, and has others behind it now."""
    run = tracking.start_run("p", root="runs", backends="local")
    run.log_scalars({"x": 0.0}, step=0)

    class Logging(Clock):
        def pause(self, seconds):
            run.log_scalars({"x": 1.0}, step=len(backend.asked))
            return super().pause(seconds)

    backend = Backend(lambda step: TimeoutError() if step == 0 else None)
    worker = worker_of(run.dir, backend, Logging())
    assert worker.open(wait=0.0)
    worker.deliver()
    assert worker.report().failed == 1
    assert backend.steps
    run.finish()


def test_an_outage_that_ends_while_others_are_tried_costs_nothing():
    """The backend comes back between the record that is stuck and the one behind it: that one proves nothing yet."""
    directory = recorded(10)
    clock = Clock()
    back = []

    def fails(step):
        if step == 4:
            back.append(True)
        return None if back else TimeoutError("no answer")

    backend = Backend(fails)
    worker = worker_of(directory, backend, clock)
    deliver_all(worker, clock)
    assert sorted(backend.steps) == list(range(10))
    assert (worker.report().delivered, worker.report().failed) == (10, 0)


def test_a_backend_that_only_keeps_what_it_is_given_has_not_answered():
    """Others are taken, but into a buffer: as long as it cannot be flushed, nothing has failed."""
    directory = recorded(10)
    clock = Clock(until=5 * STUCK)

    class Buffering(Backend):
        def flush(self):
            raise ConnectionError("gone")

    backend = Buffering(lambda step: ConnectionError("gone") if step == 0 else None)
    worker = worker_of(directory, backend, clock)
    deliver_all(worker, clock)
    assert worker.report().failed == 0
    assert worker.cursor.failed.total == 0


def test_how_long_a_record_has_been_failing_is_remembered():
    """`tracking sync` waits for a minute: the next one goes on counting."""
    directory = recorded(10)
    target = parse_target("there")

    def session(backend, clock):
        worker = worker_of(directory, backend, clock)
        worker._backlog.resume(type(worker.cursor).load(directory, target))
        deliver_all(worker, clock)
        worker.commit()
        return worker

    backend = Backend(lambda step: TimeoutError() if step == 3 else None)
    assert session(backend, Clock(until=60.0)).report().pending == 7
    path = directory / "cursors" / f"{target.key}.json"
    content = json.loads(path.read_text())
    writer, seq, since = content["stuck"]
    content["stuck"] = [writer, seq, since - STUCK]
    path.write_text(json.dumps(content))
    report = session(backend, Clock(until=60.0)).report()
    assert (report.failed, report.pending) == (1, 0)
    assert backend.steps == [step for step in range(10) if step != 3]
    assert json.loads(path.read_text())["stuck"] is None


# ---------------------------------------------------------------- the breaker


def test_missing_files_fail_alone_and_the_queue_goes_on():
    directory = recorded(60)
    clock = Clock()
    bad = range(5, 45)
    missing = FileNotFoundError(errno.ENOENT, "no such file", "media/x.png")
    backend = Backend(lambda step: missing if step in bad else None)
    worker = worker_of(directory, backend, clock)
    deliver_all(worker, clock)
    assert backend.steps == [step for step in range(60) if step not in bad]
    assert (worker.report().failed, worker.report().pending, clock.waits) == (40, 0, [])


@pytest.mark.parametrize(
    "refusal", [lambda: status(404), lambda: tracking.InvalidValueError("[3] is no image"), lambda: caused(status(400))]
)
def test_refusals_leave_the_breaker_alone(refusal):
    directory = recorded(60)
    clock = Clock()
    backend = Backend(lambda step: refusal() if 5 <= step < 45 else None)
    worker = worker_of(directory, backend, clock)
    deliver_all(worker, clock)
    assert (worker.report().failed, worker.report().delivered, clock.waits) == (40, 20, [])


def test_a_dead_backend_is_left_alone_and_costs_nine_records():
    directory = recorded(60)
    clock = Clock(until=7200.0)
    backend = Backend(lambda step: RuntimeError("dead") if clock() < 6000.0 else None)
    worker = worker_of(directory, backend, clock)
    deliver_all(worker, clock)
    assert backend.steps == list(range(BREAKER - 1, 60))
    assert (worker.report().failed, worker.report().pending) == (BREAKER - 1, 0)


def test_many_bad_records_in_a_row_do_not_block_the_target_for_ever():
    directory = recorded(60)
    clock = Clock(until=7200.0)
    bad = range(5, 25)
    backend = Backend(lambda step: ValueError("nobody can read that") if step in bad else None)
    worker = worker_of(directory, backend, clock)
    deliver_all(worker, clock)
    assert backend.steps == [step for step in range(60) if step not in bad]
    assert (worker.report().failed, worker.report().pending) == (20, 0)


def test_what_passes_and_what_does_not_in_turns():
    directory = recorded(40)
    clock = Clock()
    counts: dict[int, int] = {}

    def fails(step):
        counts[step] = counts.get(step, 0) + 1
        return ConnectionResetError() if counts[step] < 3 else ValueError("no") if step % 4 == 0 else None

    backend = Backend(fails)
    worker = worker_of(directory, backend, clock)
    deliver_all(worker, clock)
    assert backend.steps == [step for step in range(40) if step % 4]
    assert worker.report().failed == 10


# ---------------------------------------------------------------- flushing, finishing


def deliver_with_cursor(directory, backend, clock):
    target = parse_target("there")
    worker = worker_of(directory, backend, clock)
    worker._backlog.resume(type(worker.cursor).load(directory, target))
    deliver_all(worker, clock)
    worker.close("finished", None)
    return worker


def test_a_backend_that_is_away_at_the_end_is_waited_for():
    directory = recorded(10)
    clock = Clock()

    class Away(Backend):
        def flush(self):
            if self.steps and clock() < 8.0:
                raise caused(TimeoutError())

    backend = Away()
    worker = deliver_with_cursor(directory, backend, clock)
    assert worker.report().ok
    assert backend.ended == ["finished"]
    assert deliver_with_cursor(directory, Backend(), Clock()).report().delivered == 0


def test_a_backend_that_stays_away_is_given_up_and_gets_it_again():
    directory = recorded(10)
    clock = Clock(until=60.0)

    class Away(Backend):
        def flush(self):
            if self.steps:
                raise ConnectionError("gone")

    worker = deliver_with_cursor(directory, Away(), clock)
    assert not worker.report().ok
    assert worker.report().abandoned
    again = Backend()
    assert deliver_with_cursor(directory, again, Clock()).report().ok
    assert again.steps == list(range(10))


def test_a_file_that_cannot_be_ended_has_every_row_once_when_it_is_continued(tmp_path, monkeypatch):
    """What the adapter keeps belongs to the positions it is kept with: of neither alone anything is kept."""
    import os

    from tracking_tensorboard.testing import find_run, read_run

    directory = recorded(10)
    target = parse_target(f"tensorboard:{tmp_path}/tb")
    notes = []

    def worker():
        return TargetWorker(directory, Destination("tb", target), pause=lambda _: True, note=lambda *a: notes.append(a))

    first = worker()
    assert first.open(wait=0.0)
    first.deliver(final=True)
    original = os.pwrite

    def full(descriptor, data, offset):
        if b"_run_/status" in bytes(data):
            raise OSError(errno.ENOSPC, "disk full")
        return original(descriptor, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        first.close("finished", None)
    assert first.report().abandoned
    second = worker()
    assert second.open(wait=0.0)
    while second.deliver(final=True):
        pass
    second.close("finished", None)
    rows = read_run(find_run(tmp_path / "tb", directory.name)).scalars
    assert [row.step for row in rows] == list(range(10))


def test_finish_returns_while_a_backend_is_away(troubles):
    backend = Backend(lambda step: ConnectionError("gone"))
    with tracking.start_run("p", root="runs", backends=[backend]) as run:
        for step in range(20):
            run.log_scalars({"x": 1.0}, step=step)
        report = run.finish(timeout=0.2)["Backend"]
    assert (report.failed, report.pending) == (0, 20)
    assert "ConnectionError: gone" in report.last_error
    assert set(backend.asked) == {0}


def test_nothing_waits_on_the_thread_that_logs(troubles, monkeypatch):
    training, sleep = threading.get_ident(), time.sleep

    def wait(seconds):
        # Others may: that which looks after the run, for git.
        assert threading.get_ident() != training, "the training waited"
        sleep(seconds)

    away = [True]
    backend = Backend(lambda step: TimeoutError("no answer") if away else None)
    run = tracking.start_run("p", root="runs", backends=[backend], delivery="inline")
    with monkeypatch.context() as patch:
        patch.setattr("time.sleep", wait)
        for step in range(20):
            run.log_scalars({"x": 1.0}, step=step)
        assert run.health.pending == {"Backend": 20}
        away.clear()
        run.log_scalars({"x": 1.0}, step=20)
    report = run.finish()["Backend"]
    assert (report.delivered, report.failed, report.pending) == (21, 0, 0)
    assert backend.steps == list(range(21))


# ---------------------------------------------------------------- opening, and opening again


class Hooks:
    """An adapter whose opening does what it is told to."""

    def __init__(self, opening):
        self.opening = opening

    @hookimpl
    def tracking_adapter(self):
        return AdapterInfo(name="there", api_version=1)

    @hookimpl
    def open_tracker(self, target, run):
        return self.opening()


@pytest.fixture
def adapter(monkeypatch):
    def install(opening):
        monkeypatch.setattr(Destination, "adapter", lambda self: Adapter(Hooks(opening), "there"))

    return install


@pytest.mark.parametrize("error", [*ERRORS, lambda: tracking.RetryLater("busy")])
def test_a_backend_that_cannot_be_reached_at_first(adapter, error):
    directory = recorded(10)
    clock = Clock()
    backend = Backend()

    def opening():
        if clock() < 500.0:
            raise error()
        return backend

    adapter(opening)
    worker = worker_of(directory, None, clock)
    deliver_all(worker, clock)
    assert backend.steps == list(range(10))
    assert worker.failure is None
    worker.close("finished", None)


def test_a_backend_that_is_not_trusted_is_given_up(adapter):
    directory = recorded(1)
    clock = Clock()

    def opening():
        raise caused(ssl.SSLCertVerificationError(1, "certificate verify failed"))

    adapter(opening)
    worker = worker_of(directory, None, clock)
    assert not worker.open(wait=0.0)
    assert len(clock.waits) == 2
    assert "SSLCertVerificationError" in str(worker.failure) or "upload" in str(worker.failure)


def test_what_passes_does_not_count_among_the_tries(adapter):
    directory = recorded(3)
    clock = Clock()
    backend = Backend()
    errors = [TimeoutError(), RuntimeError("a"), TimeoutError(), TimeoutError(), RuntimeError("b"), TimeoutError()]

    def opening():
        if errors:
            raise errors.pop(0)
        return backend

    adapter(opening)
    deliver_all(worker_of(directory, None, clock), clock)
    assert backend.steps == [0, 1, 2]


def test_a_backend_that_does_not_say_at_first_what_it_has(adapter):
    directory = recorded(10)
    clock = Clock()

    class Asks(Backend):
        @property
        def confirmed(self):
            if clock() < 8.0:
                raise ConnectionError("no answer")
            return None

    backend = Asks()
    adapter(lambda: backend)
    worker = worker_of(directory, None, clock)
    deliver_all(worker, clock)
    assert backend.steps == list(range(10))


def test_a_broken_tracker_is_opened_again_whatever_it_raises(adapter):
    directory = recorded(10)
    clock = Clock()
    opened = []

    class Connection(Backend):
        broken = False

        def log_scalars(self, scalars, *, step, **keywords):
            if step == 4 and len(opened) < 4:
                self.broken = True
                raise caused(BrokenPipeError())
            kept.append(step)

    def opening():
        opened.append(clock())
        if len(opened) in {2, 3}:
            raise ConnectionRefusedError
        return Connection()

    kept: list[int] = []
    adapter(opening)
    worker = worker_of(directory, None, clock)
    deliver_all(worker, clock)
    assert len(opened) == 4
    # Nothing had been confirmed: it came again.
    assert kept == [0, 1, 2, 3, *range(10)]
    assert worker.report().failed == 0


def test_a_record_that_breaks_every_connection_fails_in_the_end(adapter):
    directory = recorded(10)
    clock = Clock(until=7200.0)

    class Connection(Backend):
        broken = False
        confirmed = property(lambda self: {writer: seq for writer, seq in taken.items()})

        def deliver(self, records):
            for number, record in enumerate(records):
                if record.step == 4:
                    self.broken = True
                    raise tracking.BatchInterrupted(number) from ConnectionResetError()
                kept.append(record.step)
                taken[record.writer] = record.seq

    kept: list[int] = []
    taken: dict[str, int] = {}
    adapter(Connection)
    worker = worker_of(directory, None, clock)
    deliver_all(worker, clock)
    assert kept == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert worker.report().failed == 1
    assert clock.now >= STUCK


def test_a_target_of_the_thread_that_logs_is_opened_when_it_can_be(adapter, troubles, monkeypatch):
    backend = Backend()
    away = [True]

    def opening():
        if away:
            raise ConnectionRefusedError
        return backend

    adapter(opening)
    clock = Clock()
    monkeypatch.setitem(TargetWorker.__init__.__kwdefaults__, "clock", clock)
    run = tracking.start_run("p", root="runs", backends="local")
    opened = []
    inline = InlineDelivery(
        run.dir, [Destination("there", parse_target("there"))], lambda *_: None, lambda: opened.append(True)
    )
    for step in range(5):
        run.log_scalars({"x": 1.0}, step=step)
        inline.recorded()
    assert "there" in inline.await_open(0.0)[0]
    away.clear()
    # Not at every call: opening may take long.
    clock.now += 3600.0
    inline.recorded()
    assert backend.steps == list(range(5))
    assert opened == [True]
    assert inline.await_open(0.0) == []
    inline.finish("finished", None, 1.0)
    assert backend.ended == ["finished"]
    run.finish()


# ---------------------------------------------------------------- media that cannot be read now


@pytest.mark.parametrize("kind", [Backend, Batches])
def test_media_on_a_file_system_that_is_away(kind, monkeypatch):
    directory = recorded(10, images={4})
    clock = Clock()
    original = backlog_module.to_record

    def away(event, where):
        if event.kind == "images" and clock() < 8.0:
            raise JournalError("it cannot be read") from OSError(errno.ESTALE, "stale file handle")
        return original(event, where)

    monkeypatch.setattr(backlog_module, "to_record", away)
    backend = kind()
    worker = worker_of(directory, backend, clock)
    deliver_all(worker, clock)
    assert backend.steps == list(range(10))
    assert worker.report().failed == 0


def test_media_that_can_never_be_read_fail_alone(monkeypatch):
    directory = recorded(10, images={4})
    clock = Clock()
    original = backlog_module.to_record

    def bad(event, where):
        if event.kind == "images":
            raise JournalError("it cannot be read") from OSError(errno.EIO, "bad sector")
        return original(event, where)

    monkeypatch.setattr(backlog_module, "to_record", bad)
    backend = Backend()
    worker = worker_of(directory, backend, clock)
    deliver_all(worker, clock)
    assert backend.steps == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert worker.report().failed == 1
    assert clock.now >= STUCK


@pytest.mark.system
def test_threads_wait_in_an_outage_and_deliver_all_of_it(troubles):
    """As a training has it, with its own clock: the backend is back when it was asked three times."""
    asked = threading.Semaphore(0)
    left = [ConnectionRefusedError() for _ in range(3)]

    def fails(step):
        asked.release()
        return left.pop() if left else None

    backend = Backend(fails)
    with tracking.start_run("p", root="runs", backends=[backend]) as run:
        for step in range(50):
            run.log_scalars({"x": 1.0}, step=step)
    assert backend.steps == list(range(50))
    assert run.finish().ok
