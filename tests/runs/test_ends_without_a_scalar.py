"""A run that ends without a scalar says why; one with scalars says nothing of it."""

from __future__ import annotations

import numpy as np
import pytest

import tracking_core as tracking


@pytest.fixture(autouse=True)
def _console(monkeypatch):
    monkeypatch.setenv("TRACKING_CONSOLE", "on")


def said(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if "no scalar" in line or "nothing was" in line]


def test_nothing_at_all(capsys):
    with tracking.start_run(name="r"):
        pass
    assert said(capsys) == ["tracking: run r: no scalar was recorded: nothing was logged"]


@pytest.mark.parametrize("later", [False, True])
def test_only_a_configuration(capsys, later):
    with tracking.start_run(name="r", config=None if later else {"lr": 0.1}) as run:
        if later:
            run.log_config({"lr": 0.1})
    assert said(capsys) == ["tracking: run r: no scalar was recorded, only the configuration: nothing was logged"]


def test_everything_was_dropped(capsys, troubles):
    with tracking.start_run(name="r", config={"lr": 0.1}) as run:
        run.log_scalars({"loss": "high"}, step=0)
        run.log_scalars({"loss": None}, step=1)
    [line] = said(capsys)
    assert line.startswith(
        "tracking: run r: no scalar was recorded, only the configuration: 2 values cannot be recorded (not recorded: 'loss'"
    )


def test_other_values_are_named(capsys):
    with tracking.start_run(name="r") as run:
        run.log_images({"one": np.zeros((2, 2), np.uint8)}, step=0)
        run.log_table("t", {"a": [1]}, step=0)
    assert said(capsys) == ["tracking: run r: no scalar was recorded, only images, tables"]


def test_scalars_are_no_news(capsys):
    with tracking.start_run(name="r") as run:
        run.log_scalars({"loss": 0.5}, step=0)
    assert said(capsys) == []


def test_a_process_that_does_not_record(capsys, monkeypatch):
    with tracking.start_run(name="r", process=1) as run:
        run.log_scalars({"loss": 0.5}, step=0)
    [line] = said(capsys)
    assert line.startswith("tracking: run r finished: nothing was recorded here: this process does not record")
    monkeypatch.setenv("TRACKING_BACKEND", "none")
    tracking.start_run(name="r").finish()
    assert said(capsys) == ["tracking: run r finished: nothing was recorded: the backend is none"]
