"""A backend in trouble inside the deliverer process: the training, the other targets and the journal are untouched."""

from __future__ import annotations

import json

import pytest

from tests.support.faulty import faulty_site, heal, lines
from tests.support.programs import only_run, scalar_rows
from tests.support.programs import run as run_program
from tracking_core.delivery.process.delivery import RESTARTS
from tracking_core.delivery.retry import BREAKER
from tracking_tensorboard.testing import find_run, read_run

ROWS = 300
#: Logs rows to a faulty target and to TensorBoard, and prints what became of them, and the health at the end.
TRAIN = """
import json
from dataclasses import asdict
import tracking_core as tracking
run = tracking.start_run("p", name="r", root="runs", backends="faulty:{place}?mode={mode},tensorboard:{tb}")
for step in range({rows}):
    run.log_scalars({{"x": float(step)}}, step=step)
report = run.finish(timeout={timeout})
print(json.dumps({{name: asdict(one) for name, one in report.items()}}))
print(json.dumps([run.health.recorded, dict(run.health.dropped)]))
"""


@pytest.fixture
def place(tmp_path):
    return tmp_path / "faulty"


@pytest.fixture
def env(tmp_path):
    return faulty_site(tmp_path)


@pytest.fixture
def train(tmp_path, place, env):
    """Train with a target that fails in some way; returns its report. Journal and store have every row, come what may."""

    def train(mode, timeout=30.0):
        code = TRAIN.format(place=place, mode=mode, tb=tmp_path / "tb", rows=ROWS, timeout=timeout)
        out, _ = run_program(code, tmp_path, **env)
        report, (recorded, dropped) = (json.loads(line) for line in out.splitlines())
        assert [row[2:] for row in journal(tmp_path)] == [(step, float(step)) for step in range(ROWS)]
        assert recorded >= ROWS
        assert dropped == {}
        local = report["local"]
        assert (local["delivered"] >= ROWS, local["pending"], local["failed"], local["dropped"]) == (True, 0, 0, 0)
        return report

    return train


@pytest.fixture
def sync(tmp_path, env):
    """`tracking sync` in a process of its own; returns what it says."""

    def sync(*arguments, code=0):
        words = ["sync", only_run(tmp_path / "runs").name, "--root", "runs", "--json", *arguments]
        command = f"from tracking_core.cli.app import app; app({words!r})"
        out, _ = run_program(command, tmp_path, code_expected=code, **env)
        return {one["target"].partition(":")[0]: one for one in json.loads(out)["runs"][0]["targets"]}

    return sync


def journal(tmp_path):
    return scalar_rows(only_run(tmp_path / "runs"))


def tensorboard(tmp_path):
    """Every row in the event files, as TensorBoard's own reader finds them."""
    found = read_run(find_run(tmp_path / "tb", only_run(tmp_path / "runs").name)).scalars
    return [(row.name, row.axis, row.step, row.value) for row in found]


def taken(place):
    return [tuple(row) for row in lines(place, "rows")]


def asked(place):
    """(step, moment) of every call that the backend was asked for."""
    return [tuple(row) for row in lines(place, "asked")]


def check_the_other_target(tmp_path, report):
    assert (report["tensorboard"]["delivered"], report["tensorboard"]["pending"]) == (ROWS, 0)
    assert report["tensorboard"]["failed"] == 0
    assert tensorboard(tmp_path) == journal(tmp_path)


@pytest.mark.parametrize("mode", ["block", "block_opening"])
def test_one_that_blocks_for_ever(tmp_path, place, train, sync, mode):
    report = train(mode, timeout=6.0)
    check_the_other_target(tmp_path, report)
    blocked = report["faulty"]
    assert (blocked["delivered"], blocked["pending"]) == (0, ROWS)
    assert "no progress" in blocked["last_error"]
    heal(place)
    assert (sync()["faulty"]["delivered"], taken(place)) == (ROWS, journal(tmp_path))


def test_one_that_blocks_when_it_is_finished(tmp_path, place, train, sync):
    """It has taken every row, and may not have them after all: that it was not finished is said."""
    report = train("block_finishing", timeout=6.0)
    check_the_other_target(tmp_path, report)
    assert (report["faulty"]["delivered"], report["faulty"]["pending"]) == (ROWS, 0)
    assert "no progress" in report["faulty"]["last_error"]
    assert report["faulty"]["abandoned"]
    assert lines(place, "finished") == []
    heal(place)
    sync()
    assert set(taken(place)) == set(journal(tmp_path))
    assert lines(place, "finished") == [["finished"]]


@pytest.mark.parametrize("mode", ["fail", "leave", "interrupt", "strange"])
def test_one_that_raises(tmp_path, place, train, sync, mode):
    """It is paused after consecutive failures; what comes then waits in the journal and arrives later, once."""
    report = train(mode)
    check_the_other_target(tmp_path, report)
    broken = report["faulty"]
    assert broken["delivered"] == 0
    assert broken["failed"] >= BREAKER - 1
    assert broken["pending"] == ROWS - broken["failed"] > ROWS - 3 * BREAKER
    assert "paused for" in broken["last_error"]
    # The record at which it was paused is sent again, and no other is.
    assert len(asked(place)) <= broken["failed"] + 5
    heal(place)
    again = sync()
    assert (again["faulty"]["delivered"], again["faulty"]["pending"]) == (broken["pending"], 0)
    assert again["tensorboard"]["delivered"] == 0
    assert taken(place) == journal(tmp_path)[broken["failed"] :]
    assert tensorboard(tmp_path) == journal(tmp_path)


@pytest.mark.busy
def test_one_that_is_slow(tmp_path, place, train):
    report = train("slow")
    check_the_other_target(tmp_path, report)
    assert (report["faulty"]["delivered"], report["faulty"]["pending"]) == (ROWS, 0)
    assert taken(place) == journal(tmp_path)


@pytest.mark.busy
def test_one_that_kills_the_deliverer_once(tmp_path, place, train):
    """Another deliverer goes on; a backend that keeps no state may get again what was not confirmed."""
    report = train("dies_once")
    check_the_other_target(tmp_path, report)
    assert report["faulty"]["pending"] == 0
    assert list(dict.fromkeys(taken(place))) == journal(tmp_path)


@pytest.mark.parametrize("mode", ["die", "killed"])
def test_one_that_kills_every_deliverer(tmp_path, place, train, sync, mode):
    """The others get a deliverer of their own, the training goes on and ends, and what is left is completed by hand."""
    report = train(mode, timeout=10.0)
    check_the_other_target(tmp_path, report)
    assert len(asked(place)) <= 1 + RESTARTS
    assert report["faulty"]["pending"] == ROWS
    assert "has ended" in report["faulty"]["last_error"]
    heal(place)
    again = sync()
    assert [(one["pending"], one["failed"]) for one in again.values()] == [(0, 0), (0, 0)]
    assert taken(place) == journal(tmp_path)
    assert tensorboard(tmp_path) == journal(tmp_path)


@pytest.mark.busy
def test_one_that_asks_to_retry_later(tmp_path, place, train):
    """Asked again after longer and longer waits, and given every row once."""
    report = train("retry")
    check_the_other_target(tmp_path, report)
    assert (report["faulty"]["delivered"], report["faulty"]["failed"]) == (ROWS, 0)
    assert taken(place) == journal(tmp_path)
    steps, moments = zip(*asked(place), strict=True)
    assert list(steps) == [0, 0, 0, *range(ROWS)]
    gaps = [later - earlier for earlier, later in zip(moments, moments[1:4], strict=False)]
    # Waits may only be too long on a machine that is busy.
    assert gaps[0] >= 0.45
    assert gaps[1] >= 0.9
    assert gaps[2] >= 1.8


def test_one_that_always_asks_to_retry_later(tmp_path, place, train, sync):
    report = train("later", timeout=6.0)
    check_the_other_target(tmp_path, report)
    assert (report["faulty"]["delivered"], report["faulty"]["failed"], report["faulty"]["pending"]) == (0, 0, ROWS)
    assert "closed for today" in report["faulty"]["last_error"]
    assert {step for step, _ in asked(place)} == {0}
    heal(place)
    assert (sync()["faulty"]["delivered"], taken(place)) == (ROWS, journal(tmp_path))


@pytest.mark.busy
def test_one_that_refuses_some(tmp_path, place, train, sync):
    """What is refused for good is asked for once, and never again; many in a row are no reason to leave it alone."""
    report = train("reject")
    check_the_other_target(tmp_path, report)
    some = report["faulty"]
    assert (some["delivered"], some["failed"], some["pending"]) == (ROWS - 100, 100, 0)
    assert "some steps are not taken" in some["last_error"]
    heal(place)
    assert [one["delivered"] for one in sync().values()] == [0, 0]
    assert [step for step, _ in asked(place)] == list(range(ROWS))
    assert taken(place) == journal(tmp_path)[:100] + journal(tmp_path)[200:]
