"""Ctrl-C at any moment of a log call: nothing that was acknowledged is lost, and nothing waits for what was broken off.

The first tests raise KeyboardInterrupt, one after the other, at each single moment of a call at which the interpreter may
handle a signal.
"""

import dis
import functools
import gc
import itertools
import json
import signal
import sys
import threading
import time

import numpy as np
import pytest

import tracking_core as tracking
from tests.support.programs import scalar_rows
from tracking_core.base.latch import Latch
from tracking_core.runs import start as starting
from tracking_core.testing import FakeTracker

#: A file that was opened, and not yet handed to the one who asked for it, is closed by the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _closed_here():
    """What was broken off is collected here, and not in the middle of another test."""
    yield
    gc.collect()


@functools.cache
def _interruptible(code):
    """Offsets of the instructions behind which the interpreter looks for signals: calls, jumps back and beginnings."""
    names = ("CALL", "RESUME", "JUMP_BACKWARD", "POP_JUMP_BACKWARD")
    found = list(dis.get_instructions(code))
    # A signal counts as raised by the instruction behind which it was seen, and what is raised here by the next one:
    # where that has another handler, as behind the last call in a `with`, no signal would be raised like this.
    entries = dis._parse_exception_table(code)

    def handler(offset):
        return next((entry.target for entry in entries if entry.start <= offset < entry.end), None)

    return {
        one.offset
        for one, after in itertools.pairwise(found)
        if one.opname.startswith(names) and handler(one.offset) == handler(after.offset)
    }


class _Injector:
    """Raises KeyboardInterrupt the n-th time that a signal could be handled in code of the package, or of `threading`, on this thread."""

    def __init__(self, number):
        self.left = number
        self.fired = False
        self._before = {}

    def _trace(self, frame, event, arg):
        if not frame.f_globals.get("__name__", "").startswith(("tracking_core", "threading")):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            before, self._before[frame] = self._before.get(frame), frame.f_lasti
            if before in _interruptible(frame.f_code):
                if self.left == 0:
                    self._before.clear()
                    self.fired = True
                    self.where = (frame.f_code.co_qualname, frame.f_lineno)
                    self._raise()
                self.left -= 1
        return self._trace

    def _raise(self):
        raise KeyboardInterrupt

    def call(self, function):
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            function()
        except KeyboardInterrupt:
            assert self.fired
        finally:
            sys.settrace(before)


def eventually(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _last_line(run):
    newest = max((run.dir / "journal").glob("*.jsonl"))
    return json.loads(newest.read_bytes().rstrip(b"\n").rpartition(b"\n")[2])


CALLS = {
    "scalars of the host": lambda run, n: run.log_scalars({"x": float(n)}, step=n),
    "numpy scalars": lambda run, n: run.log_scalars({"x": np.float32(n)}),
    "histogram": lambda run, n: run.log_histogram("h", np.arange(5), step=n),
    "text": lambda run, n: run.log_text("t", "text", step=n),
    "image, encoded by another thread": lambda run, n: run.log_images({"i": np.zeros((2, 2), np.uint8)}, step=n),
    "mixture": lambda run, n: run.log({"x": float(n), "t": tracking.Text("text")}),
    "summary": lambda run, n: run.log_summary({"best": n}),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_interrupt_at_any_moment_of_a_call_holds_nothing_back(tmp_path, name):
    run = tracking.start_run("p", root=tmp_path, backends="local")
    # What housekeeping records once is not to come in between, such as the accelerators where JAX has begun.
    monitored = starting._monitored[id(run)]
    assert monitored.captured.wait(60)
    CALLS[name](run, -1)
    number = acknowledged = 0
    # Nor is it to look at tickets while the interrupted call gives up its own: it would find that one a second later.
    with monitored.busy:
        while True:
            injector = _Injector(number)
            injector.call(lambda: CALLS[name](run, 0))
            run.log_scalars({"good": float(acknowledged)}, step=acknowledged)
            acknowledged += 1
            if name.startswith(("image", "text", "mixture")):
                # The encoder may be at what was handed over before.
                run._recorder.drain(60)
                run.log_scalars({"good": float(acknowledged)}, step=acknowledged)
                acknowledged += 1
            line = _last_line(run)
            assert line["low"] == line["seq"] + 1, f"interrupted at moment {number}: what comes after waits for ever"
            if not injector.fired:
                break
            number += 1
    assert number > 20
    assert run.finish().ok
    good = [row for row in scalar_rows(run.dir) if row[0] == "good"]
    assert good == [("good", "step", n, float(n)) for n in range(acknowledged)]


class _Alarm(Exception):
    """What the handler of a watchdog raises."""


@pytest.mark.parametrize("kind", [_Alarm, TimeoutError])
@pytest.mark.parametrize("name", ["scalars of the host", "mixture"])
def test_what_the_programs_own_handler_raises_reaches_the_program(tmp_path, name, kind):
    """At any moment of a call; what the values themselves raise is counted as ever."""

    def handler(number, frame):
        raise kind("too slow")

    class Watchdog(_Injector):
        def _raise(self):
            handler(signal.SIGUSR1, None)

    run = tracking.start_run("p", root=tmp_path, backends="local")
    assert starting._monitored[id(run)].captured.wait(60)
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        swallowed, number = [], 0
        while True:
            injector = Watchdog(number)
            try:
                injector.call(lambda number=number: CALLS[name](run, number))
            except kind:
                assert injector.fired
            else:
                if not injector.fired:
                    break
                swallowed.append((number, injector.where))
            number += 1
        assert swallowed == []
        assert number > 20
        assert run.health.dropped == {}
    finally:
        signal.signal(signal.SIGUSR1, before)
    run.log_scalars({"good": 1.0}, step=0)
    assert run.finish().ok
    assert [row for row in scalar_rows(run.dir) if row[0] == "good"] == [("good", "step", 0, 1.0)]


def test_an_alarm_that_is_over_is_not_raised_again(tmp_path, troubles):
    """Nor is what a value raises by itself, while one is being handled."""

    def handler(number, frame):
        raise _Alarm

    class Hostile:
        def __float__(self):
            raise RuntimeError("no number")

        __array__ = __float__

    run = tracking.start_run("p", root=tmp_path, backends="local")
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        signal.raise_signal(signal.SIGUSR1)
    except _Alarm:
        run.log_scalars({"x": Hostile(), "y": 1.0}, step=0)
        run.log({"x": Hostile(), "y": 2.0}, step=1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    run.finish()
    assert [row for row in scalar_rows(run.dir) if row[0] == "y"] == [("y", "step", 0, 1.0), ("y", "step", 1, 2.0)]
    assert troubles


def test_an_interrupt_while_appends_are_deferred_holds_nothing_back(tmp_path):
    run = tracking.start_run("p", root=tmp_path, backends="local")
    run._journal.defer(for_good=True)
    number = 0
    while True:
        injector = _Injector(number)
        injector.call(lambda: run.log_scalars({"x": 1.0}, step=number))
        run.log_scalars({"good": 1.0}, step=number)
        assert run._journal.drain(60)
        run._journal.settle()
        assert run._journal.drain(60)
        # Housekeeping may be about to say the same.
        eventually(lambda: run._journal.waiting == 0)
        lines = [json.loads(line) for line in next((run.dir / "journal").glob("*.jsonl")).read_bytes().splitlines()]
        missing = set(range(lines[-1]["seq"])) - {line["seq"] for line in lines}
        assert all(seq < lines[-1]["low"] for seq in missing), f"interrupted at moment {number}"
        if not injector.fired:
            break
        number += 1
    assert number > 20
    assert run.finish().ok


@pytest.mark.system
def test_a_second_interrupt_while_the_first_is_handled_is_made_up_for_at_the_end(tmp_path):
    """The exception is kept, as an interactive session keeps its last one, and with it the frames that were broken off."""
    kept = []
    for number in range(0, 120, 3):
        run = tracking.start_run("p", root=tmp_path, backends="local")

        class Twice(_Injector):
            second = None

            def _trace(self, frame, event, arg):
                if self.fired and event == "opcode" and frame.f_code.co_name in {"_interrupted", "let_go", "reclaim"}:
                    self.second = True
                    raise KeyboardInterrupt
                if self.fired:
                    frame.f_trace_opcodes = True
                    return self._trace
                return super()._trace(frame, event, arg)

        def call(run=run, number=number):
            try:
                run.log_scalars({"x": 1.0}, step=0)
            except KeyboardInterrupt as error:
                kept.append(error)
                raise

        Twice(number).call(call)
        run.log_scalars({"good": 1.0}, step=1)
        assert run.finish().ok
        lines = [json.loads(line) for line in next((run.dir / "journal").glob("*.jsonl")).read_bytes().splitlines()]
        assert max(line["low"] for line in lines) == max(line["seq"] for line in lines) + 1
    assert kept


class _Rung(BaseException):
    pass


@pytest.mark.parametrize("rows", [4000])
def test_signals_in_a_tight_loop_stop_no_target(tmp_path, rows):
    """Real signals, at whatever moment they come: every acknowledged row reaches the target."""
    fake = FakeTracker()
    run = tracking.start_run("p", root=tmp_path, backends=[fake], delivery="thread")
    acknowledged = []
    rung = 0

    def ring(_, frame):
        # Not into the loop around the call, which is this test's own.
        if frame is not None and frame.f_globals.get("__name__", "").startswith("tracking_core"):
            raise _Rung

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 2e-4, 3.1e-4)
    try:
        for number in range(rows):
            try:
                run.log_scalars({"x": float(number)}, step=number)
            except _Rung:
                rung += 1
            else:
                acknowledged.append(number)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    report = run.finish()
    assert rung > 20
    assert report.ok, report
    delivered = [step for step, _ in fake.scalars["x"]]
    assert len(delivered) == len(set(delivered))
    assert set(acknowledged) <= set(delivered)


def test_an_interrupted_flush_stops_no_target(tmp_path):
    fake = FakeTracker()
    run = tracking.start_run("p", root=tmp_path, backends=[fake], delivery="thread")
    number = step = 0
    fired = True
    while fired and number < 600:
        run.log_scalars({"x": 1.0}, step=step)
        run.log_images({"i": np.zeros((2, 2), np.uint8)}, step=step)
        step += 1
        injector = _Injector(number)
        injector.call(run.flush)
        fired = injector.fired
        number += 5
    assert step > 10
    assert run.flush().ok
    assert [number for number, _ in fake.scalars["x"]] == list(range(step))
    assert run.finish().ok
    assert len(fake.images["i"]) == step


def test_an_interrupted_flush_leaves_the_deliverer_at_work(tmp_path):
    run = tracking.start_run("p", root=tmp_path, backends=f"tensorboard:{tmp_path / 'tb'}")
    run.flush()
    number = step = 0
    fired = True
    while fired and number < 600:
        run.log_scalars({"x": 1.0}, step=step)
        step += 1
        injector = _Injector(number)
        injector.call(run.flush)
        fired = injector.fired
        number += 11
    report = run.finish()
    assert step > 5
    assert report.ok, report
    assert report["tensorboard"].delivered >= step


def test_a_latch_is_usable_whenever_its_waiter_is_interrupted():
    number = 0
    while True:
        latch = Latch()
        latch.set()
        latch.clear()
        injector = _Injector(number)
        injector.call(lambda latch=latch: latch.wait(0.001))
        setter = threading.Thread(target=latch.set, daemon=True)
        setter.start()
        assert latch.wait(60)
        setter.join(60)
        assert not setter.is_alive()
        if not injector.fired:
            break
        number += 1
    assert number >= 2


def test_a_latch_wakes_all_who_wait():
    latch, woken = Latch(), []
    threads = [threading.Thread(target=lambda: woken.append(latch.wait(60)), daemon=True) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert not latch.wait(0.0)
    assert not latch.is_set()
    latch.set()
    for thread in threads:
        thread.join(60)
    assert woken == [True] * 5
    assert latch.wait()
    latch.clear()
    assert not latch.wait(0.001)
