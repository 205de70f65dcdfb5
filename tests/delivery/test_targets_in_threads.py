"""Targets in trouble: the training and the other targets are untouched, and the end says what waits."""

from __future__ import annotations

import threading
import time

import pytest

import tracking_core as tracking
from tests.support.programs import journal_events, scalar_rows
from tracking_core.testing import FakeTracker, faults


def log(run, first, last):
    for step in range(first, last):
        run.log_scalars({"x": float(step)}, step=step)


@pytest.mark.parametrize(
    "make", [faults.Raises, faults.RaisesBaseException, lambda: faults.Slow(0.001), faults.Rejects]
)
def test_a_target_in_trouble_leaves_the_others_alone(troubles, make):
    good, bad = FakeTracker(), make()
    run = tracking.start_run("p", root="runs", backends=[bad, good])
    log(run, 0, 300)
    report = run.finish()
    expected = [(step, float(step)) for step in range(300)]
    assert good.scalars["x"] == expected
    assert [row[2] for row in scalar_rows(run.dir)] == list(range(300))
    assert report["FakeTracker"].ok
    assert report["local"].ok
    broken = report[type(bad).__name__]
    # One that fails again and again is paused, and the rest stays in the journal.
    assert broken.delivered + broken.failed + broken.pending == 300


def test_a_hung_target(troubles):
    """`finish` comes back, says what waits, and says it to everybody who asks, whatever the clock on the wall does."""
    good, hung = FakeTracker(), faults.Hangs()
    run = tracking.start_run("p", root="runs", backends=[hung, good])
    log(run, 0, 300)
    assert hung.entered.wait(30)
    assert run.health.lag["Hangs"] > 0
    assert run.health.pending["Hangs"] == 300
    reports = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: -1e6)
        threads = [threading.Thread(target=lambda: reports.append(run.finish(timeout=0.5))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    try:
        assert len(reports) == 4
        assert all(report is reports[0] for report in reports)
        assert run.finish() is reports[0]
        assert reports[0]["Hangs"].pending == 300
        assert "no progress" in reports[0]["Hangs"].last_error
        assert good.scalars["x"] == [(step, float(step)) for step in range(300)]
        assert [e["kind"] for e in journal_events(run.dir)].count("finish") == 1
        log(run, 300, 310)
        assert run.health.dropped["finished"] == 10
        assert len(scalar_rows(run.dir)) == 300
    finally:
        hung.release()
