"""Which step a call without one gets, after whatever calls went wrong before it."""

import threading

import jax.numpy as jnp
import numpy as np
import pytest

import tracking_core as tracking
from tests.support.programs import journal_events
from tracking_core.intake import resolver as resolver_module
from tracking_core.intake.steps import StepCounter

LAST = 2**63 - 1


@pytest.fixture
def run(tmp_path):
    run = tracking.start_run("p", root=tmp_path, backends="local")
    yield run
    run.finish()


def steps_of(run, name="a", axis="step"):
    run.finish()
    return [
        event["step"]
        for event in journal_events(run.dir)
        if event["kind"] == "scalars" and name in event["values"] and event["axis"] == axis
    ]


def test_a_step_beyond_64_bits_is_refused_and_moves_nothing(run, troubles):
    run.log({"a": 0.0})
    run.log_scalars({"a": 1.0}, step=2**63)
    run.log_scalars({"a": 1.0}, step=-(2**63) - 1)
    run.log({"a": 2.0})
    assert steps_of(run) == [0, 1]


REFUSED = {
    "an image that is none": lambda run: run.log_images({"i": np.zeros((2, 3, 4, 5, 6))}, step=5000),
    "pixels out of range": lambda run: run.log_images({"i": np.full((4, 4), 300.0)}, step=5000),
    "pixels that are not finite": lambda run: run.log_images({"i": np.full((4, 4), np.nan)}, step=5000),
    "channels first": lambda run: run.log_images({"i": np.zeros((3, 8, 8))}, step=5000),
    "no mapping of images": lambda run: run.log_images([np.zeros((4, 4))], step=5000),
    "no images": lambda run: run.log_images({}, step=5000),
    "text for a scalar": lambda run: run.log_scalars({"a": "text"}, step=5000),
    "a name that is none": lambda run: run.log_scalars({5: 1.0}, step=5000),
    "no scalars": lambda run: run.log_scalars({}, step=5000),
    "a large array of text": lambda run: run.log_histogram("h", np.full(10_000, "x"), step=5000),
    "too many bins": lambda run: run.log_histogram("h", np.zeros(10_000), step=5000, bins=10**6),
    "no histogram": lambda run: run.log_histogram("h", None, step=5000),
    "no table": lambda run: run.log_table("t", 5, step=5000),
    "no text": lambda run: run.log_text("t", 5, step=5000),
    "no video": lambda run: run.log_video("v", np.zeros(3), step=5000),
    "no audio": lambda run: run.log_audio("s", "x", step=5000),
    "no figure": lambda run: run.log_figure("f", {}, step=5000),
    "no HTML": lambda run: run.log_html("p", 3, step=5000),
    "a mixture of nothing": lambda run: run.log({"a": object()}, step=5000),
    "an axis that is none": lambda run: run.log_scalars({"a": 1.0}, step=5000, step_axis=""),
    "a time that is none": lambda run: run.log_scalars({"a": 1.0}, step=5000, wall_time=float("nan")),
    "a step that is none": lambda run: run.log_scalars({"a": 1.0}, step=5000.5),
    "device pixels that are no image": lambda run: run.log_images({"i": jnp.zeros((2, 3, 4, 5, 6))}, step=5000),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_call_of_which_nothing_is_taken_moves_no_step(run, troubles, name):
    run.log({"a": 0.0})
    REFUSED[name](run)
    run.log({"a": 1.0})
    assert troubles or name.startswith("no ")
    assert steps_of(run) == [0, 1]


def test_what_a_device_says_too_late_to_be_refused_is_taken_back(run, troubles):
    run.log({"a": 0.0})
    run.log_images({"i": jnp.full((4, 4), 300.0)}, step=5000)
    run._recorder.drain(60)
    run.log({"a": 1.0})
    assert steps_of(run) == [0, 1]


def bad():
    return jnp.full((4, 4), 300.0)


def test_what_is_taken_back_leaves_what_else_was_recorded(run, troubles):
    def late(step, axis, **images):
        run.log_images(images or {"i": bad()}, step=step, step_axis=axis)
        run._recorder.drain(60)

    # With a scalar in one call, behind one, before one, beside another image, and twice.
    run.log({"a": 1.0, "i": tracking.Image(bad())}, step=5000, step_axis="one")
    for step in range(3):
        run.log_scalars({"a": 1.0}, step=step, step_axis="behind")
    late(2, "behind")
    run.log_images({"i": bad()}, step=70, step_axis="before")
    run.log_scalars({"a": 1.0}, step=70, step_axis="before")
    late(80, "beside", i=jnp.zeros((4, 4)))
    late(80, "beside")
    late(100, "twice")
    late(200, "twice")
    run._recorder.drain(60)
    axes = ["one", "behind", "before", "beside", "twice"]
    for axis in axes:
        run.log({"a": 2.0}, step_axis=axis)
    assert [steps_of(run, axis=axis)[-1] for axis in axes] == [5001, 3, 71, 81, 0]
    assert [reason for reason, _, _ in troubles].count("invalid") == 6


def test_what_is_still_computed_counts_until_it_is_known(run, troubles, monkeypatch):
    """The next step comes behind it, since it may well be recorded."""
    resolving = threading.Event()
    write = resolver_module.Resolver._write
    monkeypatch.setattr(resolver_module.Resolver, "_write", lambda self, one: resolving.wait(60) and write(self, one))
    run.log_images({"i": bad()}, step=5000)
    run.log({"a": 1.0})
    resolving.set()
    run._recorder.drain(60)
    run.log({"a": 1.0})
    assert steps_of(run) == [5001, 5002]


def test_outcomes_do_not_pile_up(run):
    for step in range(1000):
        run.log_images({"i": jnp.zeros((1, 1))}, step=step)
    run._recorder.drain(60)
    # However far the encoder was behind: the next call counts what has come since.
    run.log_images({"i": jnp.zeros((1, 1))}, step=1000)
    assert len(run._steps._news) <= 3
    run._recorder.drain(60)
    run.log({"a": 1.0})
    assert (sum(map(len, run._steps._promised.values())), len(run._steps._news)) == (0, 0)
    assert steps_of(run) == [1001]


def test_promises_that_an_interrupt_has_left_are_forgotten():
    steps = StepCounter()
    for _ in range(1000):
        number = steps.take("step")
        # Broken off before it was handed over, or before its outcome was counted.
        steps.promise("step", number) if number % 2 else steps.resolve("step", number, None)
    steps.promise("step", 5000)
    assert steps.take("step") == 5001
    assert sum(map(len, steps._promised.values())) <= 1
    steps.accepted("step", 6000)
    assert (steps.take("step"), sum(map(len, steps._promised.values()))) == (6001, 0)


def test_a_call_of_which_something_is_taken_moves_the_step(run, troubles):
    run.log_scalars({"a": 1.0, "b": "text"}, step=5000)
    run.log({"a": 1.0})
    run.log_images({"i": np.zeros((4, 4)), "j": np.full((4, 4), 300.0)}, step=6000)
    run.log({"a": 1.0})
    assert steps_of(run) == [5000, 5001, 6001]


def test_a_call_without_a_step_takes_one_number_whatever_becomes_of_its_values(run, troubles):
    run.log({"a": 0.0})
    run.log({"a": object()})
    run.log_scalars({"a": "text"})
    run.log_images({"i": np.zeros(3)})
    run.log_table("t", 5)
    run.log({"a": 1.0})
    assert steps_of(run) == [0, 5]


def test_an_earlier_step_and_another_axis_move_nothing(run):
    run.log_scalars({"a": 1.0}, step=10)
    run.log_scalars({"a": 1.0}, step=3)
    run.log_scalars({"a": 1.0}, step=90, step_axis="epoch")
    run.log({"a": 1.0})
    run.log_scalars({"a": 1.0}, step_axis="epoch")
    assert steps_of(run) == [10, 3, 11]


def test_behind_the_last_step_there_is_the_last_step(run):
    run.log_scalars({"a": 1.0}, step=LAST)
    run.log({"a": 2.0})
    run.log({"a": 3.0})
    assert steps_of(run) == [LAST] * 3


def test_steps_that_come_from_a_device_move_the_counter_when_they_arrive(run):
    run.log_scalars({"a": jnp.float32(1.0)}, step=jnp.int32(41))
    run._recorder.drain(60)
    run.log({"a": 1.0})
    assert steps_of(run) == [41, 42]


def test_in_strict_mode_too_a_refused_call_moves_no_step(tmp_path):
    run = tracking.start_run("p", root=tmp_path, backends="local", strict=True)
    run.log({"a": 0.0})
    for refused in (
        lambda: run.log_scalars({"a": 1.0}, step=2**63),
        lambda: run.log_images({"i": np.full((4, 4), 300.0)}, step=5000),
    ):
        with pytest.raises(tracking.InvalidValueError):
            refused()
    run.log({"a": 1.0})
    assert steps_of(run) == [0, 1]


@pytest.mark.parametrize("delivery", ["inline", "thread"])
def test_it_is_the_same_however_values_are_taken_in(tmp_path, troubles, delivery):
    run = tracking.start_run("p", root=tmp_path, backends="local", delivery=delivery)
    run.log({"a": 0.0})
    for refused in REFUSED.values():
        refused(run)
    run.log({"a": 1.0})
    assert steps_of(run) == [0, 1]
