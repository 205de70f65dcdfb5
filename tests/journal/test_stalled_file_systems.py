"""A file system that stalls: one call waits, the next ones do not, and nothing is lost that was not counted.

The journal's `os.write` stands in for the file system here: it waits in the kernel, as a write to a dead file server
does, for as long as the test wants.
"""

from __future__ import annotations

import os
import threading
import time
from types import SimpleNamespace

import pytest

import tracking_core as tracking
from tests.support.programs import journal_events, scalar_rows
from tracking_core.journal import deferral, writer

pytestmark = pytest.mark.system


class Disk:
    """`os` as the journal sees it, with a write that can be held up."""

    def __init__(self) -> None:
        self.flowing = threading.Event()
        self.flowing.set()
        self.busy = 0.0
        self.waiting = threading.Event()

    def write(self, fd: int, text: bytes) -> int:
        until = time.monotonic() + self.busy
        while time.monotonic() < until:
            pass
        if not self.flowing.is_set():
            self.waiting.set()
            self.flowing.wait()
        return os.write(fd, text)


@pytest.fixture
def disk(monkeypatch):
    made = Disk()
    names = {name: getattr(os, name) for name in dir(os)}
    monkeypatch.setattr(writer, "os", SimpleNamespace(**{**names, "write": made.write}))
    yield made
    made.flowing.set()


def log(run, first, last):
    for step in range(first, last):
        run.log_scalars({"x": float(step)}, step=step)


def stall(disk, run, step, seconds):
    """Let one append wait for that long."""
    disk.flowing.clear()
    timer = threading.Timer(seconds, disk.flowing.set)
    timer.start()
    log(run, step, step + 1)
    timer.join()


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_calls_do_not_wait_for_a_file_system_that_stalls_and_write_again_when_it_has_recovered(disk, monkeypatch):
    monkeypatch.setattr(deferral, "RECOVERY", 0.1)
    run = tracking.start_run("p", root="runs")
    log(run, 0, 10)
    assert run.health.durability == "journal"
    stall(disk, run, 10, deferral.CERTAIN + 0.1)
    assert run.health.durability == "deferred"

    disk.flowing.clear()
    disk.waiting.clear()
    log(run, 11, 1011)
    assert disk.waiting.wait(20)
    # A thousand calls have returned, and what they logged waits.
    assert len(scalar_rows(run.dir)) == 11
    assert run.health.durability == "deferred"
    assert run.health.lag["journal"] > 0
    disk.flowing.set()
    wait_for(lambda: len(scalar_rows(run.dir)) == 1011)

    def recovered():
        log(run, 5000, 5001)
        return run.health.durability == "journal"

    wait_for(recovered)
    assert run.health.lag["journal"] == 0.0
    before = len(scalar_rows(run.dir))
    disk.flowing.set()
    log(run, 1011, 1020)
    # On return it is in the file again.
    assert len(scalar_rows(run.dir)) == before + 9
    assert run.finish().ok
    rows = [row[2] for row in scalar_rows(run.dir) if row[2] < 5000]
    assert sorted(rows) == list(range(1020))


def test_short_stalls_defer_once_they_are_told_from_a_busy_machine(disk):
    with tracking.start_run("p", root="runs") as run:
        stall(disk, run, 0, 0.2)
        assert run.health.durability == "journal"
        stall(disk, run, 1, 0.2)
        assert run.health.durability == "deferred"
    assert [row[2] for row in scalar_rows(run.dir)] == [0, 1]


def test_a_machine_that_is_merely_busy_defers_nothing(disk, monkeypatch):
    # The thread computes where a thread without a core would wait for one: neither gives up its core by itself.
    # How often it really did so on this machine, which may be busy as well, is kept out of the test.
    monkeypatch.setattr(writer, "switches", lambda: 7)
    disk.busy = 2 * deferral.SLOW
    with tracking.start_run("p", root="runs") as run:
        log(run, 0, 5)
        assert run.health.durability == "journal"
        assert len(scalar_rows(run.dir)) == 5


def test_waiting_is_counted_by_the_kernel_and_computing_is_not():
    before = deferral.switches()
    threading.Event().wait(0.01)
    assert deferral.switches() > before


@pytest.mark.busy
def test_what_does_not_fit_into_the_queue_is_counted_and_said_once(disk, monkeypatch, troubles, caplog):
    monkeypatch.setattr(deferral, "LIMIT", 10_000)
    run = tracking.start_run("p", root="runs")
    # What is noted of the surroundings would count as lost as well, if it came while the queue is full.
    wait_for(lambda: "environment" in [event["kind"] for event in journal_events(run.dir)])
    stall(disk, run, 0, deferral.CERTAIN + 0.1)
    disk.flowing.clear()
    log(run, 1, 1001)
    lost = run.health.unwritten
    assert 0 < lost < 1000
    assert sum("too many lines wait" in record.getMessage() for record in caplog.records) == 1
    disk.flowing.set()
    wait_for(lambda: len(scalar_rows(run.dir)) == 1001 - lost)
    log(run, 1001, 1011)
    report = run.finish()
    assert report["local"].failed == lost
    assert len(scalar_rows(run.dir)) == 1011 - lost
    # What was lost is no gap that a reader would wait at.
    last = journal_events(run.dir)[-1]
    assert last["low"] == last["seq"] + 1


def test_the_end_does_not_wait_for_ever(disk, troubles):
    run = tracking.start_run("p", root="runs")
    stall(disk, run, 0, deferral.CERTAIN + 0.1)
    disk.flowing.clear()
    log(run, 1, 11)
    try:
        report = run.finish(timeout=0.2)
        assert any("were not written" in message for _, message, _ in troubles)
        assert not report.ok
    finally:
        disk.flowing.set()
