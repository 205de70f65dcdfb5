"""Ctrl-C at any moment of a log call: nothing that was acknowledged is lost, and nothing waits for what was broken off.

The first tests raise KeyboardInterrupt before each single instruction of a call in turn, which is where the interpreter
may deliver a signal, and at more places besides.
"""

import json
import signal
import sys
import time

import numpy as np
import pytest

import tracking_core as tracking
from tests.support.programs import scalar_rows
from tracking_core import starting
from tracking_core.testing import FakeTracker


class _Injector:
    """Raises KeyboardInterrupt before the n-th instruction that code of the package executes on this thread."""

    def __init__(self, number):
        self.left = number
        self.fired = False

    def _trace(self, frame, event, arg):
        if not frame.f_globals.get("__name__", "").startswith("tracking_core"):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            if self.left == 0:
                self.fired = True
                raise KeyboardInterrupt
            self.left -= 1
        return self._trace

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
def test_an_interrupt_before_any_instruction_of_a_call_holds_nothing_back(tmp_path, name):
    run = tracking.start_run("p", root=tmp_path, backends="local")
    # What housekeeping records once is not to come in between.
    assert starting._charges[id(run)].captured.wait(60)
    CALLS[name](run, -1)
    number = acknowledged = 0
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
        assert line["low"] == line["seq"] + 1, (
            f"interrupted before instruction {number}: what comes after waits for ever"
        )
        if not injector.fired:
            break
        number += 1
    assert number > 50
    assert run.finish().ok
    good = [row for row in scalar_rows(run.dir) if row[0] == "good"]
    assert good == [("good", "step", n, float(n)) for n in range(acknowledged)]


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
        assert all(seq < lines[-1]["low"] for seq in missing), f"interrupted before instruction {number}"
        if not injector.fired:
            break
        number += 1
    assert number > 50
    assert run.finish().ok


def test_a_second_interrupt_while_the_first_is_handled_is_made_up_for_at_the_end(tmp_path):
    """The exception is kept, as an interactive session keeps its last one, and with it the frames that were broken off."""
    kept = []
    for number in range(0, 400, 7):
        run = tracking.start_run("p", root=tmp_path, backends="local")

        class Twice(_Injector):
            second = None

            def _trace(self, frame, event, arg):
                if self.fired and event == "opcode" and frame.f_code.co_name in {"_interrupted", "let_go", "recover"}:
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
