"""`flush`: what it waits for, and that nothing counts as dropped which only comes later."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import tracking_core as tracking
from tests.support.programs import journal_events, only_run
from tests.support.programs import run as run_program
from tracking_core.intake.resolver import resolver
from tracking_core.testing import FakeTracker, faults

PIXELS = np.zeros((4, 4), np.uint8)


def started(*backends, **keywords):
    return tracking.start_run("p", root="runs", backends=list(backends) or "local", **keywords)


def kinds(run_dir):
    return [event["kind"] for event in journal_events(run_dir)]


@pytest.fixture
def gate(monkeypatch):
    """Holds images up on their way into the journal, until it is set."""
    gate = threading.Event()
    original = tracking.Image.png

    def held(self):
        gate.wait(60)
        return original(self)

    monkeypatch.setattr(tracking.Image, "png", held)
    yield gate
    gate.set()


@pytest.mark.parametrize("keywords", [{}, {"local": True}, {"strict": True}])
def test_what_is_on_its_way_is_pending_and_not_dropped(gate, keywords):
    strict = keywords.pop("strict", False)
    run = started(strict=strict)
    run.log_images({"i": PIXELS}, step=0)
    for timeout in (0, 0.01):
        report = run.flush(timeout=timeout, **keywords)
        assert (report.dropped, report["local"].pending, report["local"].last_error) == (0, 1, None)
    assert run.health.dropped == {}
    assert "images" not in kinds(run.dir)
    gate.set()
    report = run.flush(**keywords)
    assert (report.dropped, report["local"].pending, report.ok) == (0, 0, True)
    assert kinds(run.dir).count("images") == 1
    assert run.finish().ok


def test_a_run_that_ends_before_its_values_came_says_that_they_wait(gate, troubles):
    run = started()
    run.log_images({"i": PIXELS}, step=0)
    report = run.finish(timeout=0.01)
    assert (report.dropped, report["local"].pending, report.ok) == (0, 1, False)
    assert any("did not arrive from their devices" in message for _, message, _ in troubles)
    gate.set()
    assert resolver().drain(60)
    assert kinds(run.dir).count("images") == 1


def test_a_flush_without_a_timeout_that_gives_up_is_said(gate, troubles, monkeypatch):
    monkeypatch.setattr("tracking_core.runs.run.FLUSH_PATIENCE", 0.01)
    run = started()
    run.log_images({"i": PIXELS}, step=0)
    assert run.flush()["local"].pending == 1
    assert [reason for reason, _, _ in troubles] == ["slow"]
    assert run.health.dropped == {}
    gate.set()
    assert run.finish().ok


def test_a_local_flush_waits_for_the_journal_and_for_no_target(gate):
    fake, hung = FakeTracker(), faults.Hangs()
    run = started(hung, fake)
    run.log_scalars({"x": 1.0}, step=0)
    assert hung.entered.wait(60)
    run.log_images({"i": PIXELS}, step=0)
    threading.Timer(0.05, gate.set).start()
    report = run.flush(local=True)
    assert list(report) == ["local"]
    assert report.ok
    assert kinds(run.dir).count("images") == 1
    # The target has been hanging all the while.
    assert not hung.released.is_set()
    hung.release()
    assert run.finish().ok
    assert list(run.flush(local=True)) == ["local"]
    assert set(run.flush()) == {"local", "Hangs", "FakeTracker"}


@pytest.mark.parametrize("delivery", ["process", "thread", "inline"])
def test_a_local_flush_asks_no_delivery(delivery, monkeypatch):
    run = started("tensorboard:./tb", delivery=delivery)
    run.log_scalars({"x": 1.0}, step=0)
    with monkeypatch.context() as patch:
        for method in ("flush", "reports", "open_trackers"):
            patch.setattr(run._delivery, method, None)
        assert run.flush(local=True).delivered > 0
    assert run.finish().ok


def test_a_local_flush_of_a_strict_run_and_of_none():
    run = started(FakeTracker(), strict=True)
    run.log_images({"i": PIXELS}, step=0)
    assert run.flush(local=True).ok
    assert kinds(run.dir).count("images") == 1
    run.finish()
    with tracking.start_run("p", root="runs", backends="none") as nothing:
        assert nothing.flush(local=True).ok
        assert nothing.flush(0, local=True).ok


FORKED = """
import os, sys
import numpy as np
import tracking_core as tracking

run = tracking.start_run("p", root="runs", backends="local")
run.log_images({{"parent": np.zeros((4, 4), np.uint8)}}, step=0)
child = os.fork()
if not child:
    # Nothing of its own is on its way yet, and what is on its parent's is not its business.
    assert list(run.flush(local=True)) == ["local"]
    for step in range(5):
        run.log_images({{"child": np.zeros((400, 400), np.uint8)}}, step=step)
    report = run.flush({arguments})
    assert report["local"].pending == 0
    # Without exit handlers: what is not in the journal now is lost.
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
run.finish()
"""


@pytest.mark.parametrize("arguments", ["local=True", ""])
def test_a_forked_child_flushes_what_it_logged(tmp_path, arguments):
    run_program(FORKED.format(arguments=arguments), tmp_path)
    events = journal_events(only_run(tmp_path / "runs"))
    names = [name for event in events if event["kind"] == "images" for name in event["images"]]
    assert sorted(names) == ["child"] * 5 + ["parent"]
