"""Trackers around trackers: what passes, under which name, and that everything else shows through."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tracking_core as tracking
from tests.support.trackers import Five, Full
from tracking_core.errors import InvalidStepError, InvalidValueError, SettingsError
from tracking_core.fallbacks import replay
from tracking_core.protocol import OPTIONAL_CAPABILITIES
from tracking_core.testing import FakeTracker
from tracking_core.values import ArtifactRef, Histogram, Image, Record, Table, Text


class Broken(Five):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def _raise(self, *args, **keywords):
        raise self.error

    log_scalars = log_images = log_histogram = log_artifact = finish = log_table = flush = _raise


MEDIA = ["log_table", "log_video", "log_audio", "log_text", "log_figure", "log_html"]
WRAPPED = {
    "scope": lambda tracker: tracking.scope(tracker, "x"),
    "every": lambda tracker: tracking.every(tracker, 1),
    "both": lambda tracker: tracking.every(tracking.scope(tracker, "x"), 1),
}


# ---------------------------------------------------------------- scope


def test_scope_prefixes_every_name_and_nothing_else():
    full = Full()
    scoped = tracking.scope(full, "train")
    scoped.log_scalars({"loss": 1.0, "deep": {"a": 2}}, step=1, step_axis="epoch", wall_time=2.5)
    scoped.log_images({"grid": 3}, step=2, value_range=(-1, 1))
    scoped.log_histogram("w", [1.0], step=3, bins=5)
    for method in MEDIA:
        getattr(scoped, method)("m", "value", step=4, wall_time=1.5)
    scoped.log_summary({"best": 1})
    scoped.log({"mixed": 1}, 5, step_axis="e")
    scoped.log_artifact("path", name="art", type="model", metadata={"a": 1}, aliases=["b"])
    scoped.log_config({"lr": 1})
    scoped.log_alert("title", "text", level="warn")
    scoped.use_artifact("art:v1")
    scoped.flush()
    scoped.finish("failed", error="e")
    assert full.calls == [
        ("scalars", {"train/loss": 1.0, "train/deep/a": 2}, 1, "epoch", 2.5),
        ("images", {"train/grid": 3}, 2, "step", None, (-1, 1)),
        ("histogram", "train/w", [1.0], 3, "step", None, 5),
        *[("media", "train/m", "value", 4, "step", 1.5, {})] * len(MEDIA),
        ("summary", {"train/best": 1}),
        ("log", {"train/mixed": 1}, 5, "e"),
        ("artifact", "path", "art", "model", {"a": 1}, ["b"]),
        ("config", {"lr": 1}),
        ("alert", "title", "text", "warn", None),
        ("use", "art:v1"),
        ("flush",),
        ("finish", "failed", "e"),
    ]


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [("a", "a/x"), ("a/", "a/x"), ("a/b", "a/b/x"), ("a//", "a/x"), ("/a", "/a/x"), ("é", "é/x")],
)
def test_prefixes(prefix, expected):
    five = Five()
    tracking.scope(five, prefix).log_scalars({"x": 1}, step=0)
    assert five.calls == [("scalars", {expected: 1}, 0, "step", None)]


@pytest.mark.parametrize("prefix", ["", "/", "//", None, 3, b"a"])
def test_prefixes_that_are_none_are_refused(prefix):
    with pytest.raises(SettingsError, match="scope: expected a non-empty prefix"):
        tracking.scope(Five(), prefix)


def test_scopes_nest():
    five = Five()
    inner = tracking.scope(tracking.scope(five, "a"), "b")
    inner.log_scalars({"x": 1}, step=0)
    inner.log_histogram("h", [1], step=0)
    tracking.scope(five, "a").scope("b").log_scalars({"x": 1}, step=0)
    assert [call[1] for call in five.calls] == [{"a/b/x": 1}, "a/b/h", {"a/b/x": 1}]


# ---------------------------------------------------------------- every


@given(st.integers(1, 7), st.lists(st.integers(-20, 20), max_size=20))
def test_every_lets_multiples_through(steps, seen):
    full = Full()
    some = tracking.every(full, steps=steps)
    for step in seen:
        some.log_scalars({"x": 1}, step=step)
        some.log_images({"x": 1}, step=step)
        some.log_histogram("x", 1, step=step)
        some.log_text("x", "t", step=step)
        some.log({"x": 1}, step)
        some.log({"x": 1}, step=step)
    passed = [step for step in seen if step % steps == 0]
    assert len(full.calls) == 6 * len(passed)
    assert [call[2] for call in full.calls if call[0] == "scalars"] == passed
    assert [call[2] for call in full.calls if call[0] == "log"] == [step for step in passed for _ in range(2)]


@pytest.mark.parametrize("step", [np.int64(4), np.array(4), jnp.int32(4), 4.0, jnp.array([4])])
def test_every_understands_what_steps_may_be(step):
    five = Five()
    tracking.every(five, 2).log_scalars({"x": 1}, step=step)
    tracking.every(five, 3).log_scalars({"x": 1}, step=step)
    assert len(five.calls) == 1


def test_every_leaves_wrong_steps_to_the_tracker():
    some = tracking.every(Five(), 10)
    for wrong in ("3", 3.5, None, object(), True):
        with pytest.raises(InvalidStepError):
            some.log_scalars({"x": 1}, step=wrong)
    with pytest.raises(InvalidStepError):
        some.log_scalars({"x": 1})


def test_what_has_no_step_always_passes():
    full = Full()
    some = tracking.every(full, 1000)
    some.log_artifact("path")
    some.log_config({"a": 1})
    some.log_summary({"a": 1})
    some.log_alert("title")
    some.use_artifact("a")
    some.flush()
    some.finish()
    assert [call[0] for call in full.calls] == ["artifact", "config", "summary", "alert", "use", "flush", "finish"]


@pytest.mark.parametrize("steps", [0, -1, 1.5, "10", None, True])
def test_numbers_of_steps_that_are_none_are_refused(steps):
    with pytest.raises(SettingsError, match="every: expected a positive whole number of steps"):
        tracking.every(Five(), steps)


def test_scope_and_every_combine_in_any_order():
    """The methods of a run must not lead around what is wrapped around it."""
    with tracking.start_run("p", root="runs", backends="local") as run:
        for wrapped in [
            run.scope("a").every(2), run.every(2).scope("a"), tracking.every(tracking.scope(run, "a"), 2),
            tracking.scope(run.every(2), "a"),
        ]:  # fmt: skip
            for step in range(4):
                wrapped.log_scalars({"x": 1}, step=step)
                wrapped.log({"y": 2.0}, step)
                wrapped.log_text("t", "text", step=step)
    record = tracking.open_store("runs").run(run.id)
    assert record.scalar_names() == ["a/x", "a/y"]
    assert [record.scalars(name, raw=True).step.tolist() for name in ("a/x", "a/y")] == [[0, 2] * 4] * 2
    assert [step for step, _ in record.media("text", "a/t")] == [0, 2] * 4


# ---------------------------------------------------------------- what shows through


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_capabilities_show_through(wrap):
    for tracker, has in [(Full(), True), (Five(), False)]:
        wrapped = wrap(tracker)
        assert isinstance(wrapped, tracking.Tracker)
        for capability, (protocol, method) in OPTIONAL_CAPABILITIES.items():
            # Records that are delivered as they are would pass by the wrapper.
            expected = has and capability != "deliver"
            assert isinstance(wrapped, protocol) is expected, capability
            assert hasattr(wrapped, method) is expected, capability
            # As Python 3.12 and later look: without `__getattr__`.
            assert (method in vars(wrapped) or hasattr(type(wrapped), method)) is expected, capability
    assert wrap(Full()).url == "http://there"
    with pytest.raises(AttributeError, match="nothing"):
        _ = wrap(Full()).nothing
    with pytest.raises(AttributeError):
        wrap(Five()).log_table("t", {}, step=0)
    assert repr(tracker) in repr(wrap(tracker))


def test_capabilities_of_null_and_multi():
    for tracker in (tracking.NullTracker(), tracking.multi(Five())):
        assert isinstance(tracker, tracking.Tracker)
        for capability, (protocol, _) in OPTIONAL_CAPABILITIES.items():
            # Several trackers may not all take records as they are.
            assert isinstance(tracker, protocol) is (
                capability != "deliver" or isinstance(tracker, tracking.NullTracker)
            )


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_wrappers_pass_on_what_is_wrong(wrap):
    """The wrapped tracker says what is wrong with a value; behind a run nothing may raise into the loop."""
    wrapped = wrap(Five())
    for wrong in (None, 3, [("a", 1)], {3: 1}):
        with pytest.raises(InvalidValueError):
            wrapped.log_scalars(wrong, step=0)
    with pytest.raises(TypeError, match="setp"):
        wrapped.log_scalars({"x": 1}, step=0, setp=1)
    with pytest.raises(TypeError, match="alias"):
        wrapped.log_artifact("path", alias="best")


@pytest.mark.parametrize("wrap", [*WRAPPED.values(), lambda run: run.scope("x"), lambda run: run.every(1)])
def test_nothing_raises_into_the_loop_of_a_run(wrap, troubles):
    with tracking.start_run("p", root="runs", backends="local") as run:
        wrapped = wrap(run)
        for wrong in (None, 3, {3: 1}, {"a": "b"}):
            wrapped.log_scalars(wrong, step=0)
            wrapped.log_images(wrong, step=0)
        for wrong in (None, 3):
            wrapped.log_histogram(wrong, "text", step=0)
            wrapped.log_table(wrong, None, step=0)
        wrapped.log_scalars({"a": 1}, step="soon")
        wrapped.log_scalars({"good": 1.0}, step=0)
    assert [name.rpartition("/")[2] for name in tracking.open_store("runs").run(run.id).scalar_names()] == ["good"]
    assert len(troubles) > 5


RECORDS = [
    Record("scalars", 1, "w", 2.5, 3, "epoch", {"x": 1.0}),
    Record("images", 2, "w", 2.5, 3, "epoch", {"x": [Image.from_pixels(np.zeros((2, 3, 1), np.uint8))]}),
    Record("histogram", 3, "w", 2.5, 3, "epoch", {"name": "x", "value": Histogram([1], [0, 1])}),
    Record("table", 4, "w", 2.5, 3, "epoch", {"name": "x", "value": Table(["a"], [[1]])}),
    Record("text", 4, "w", 2.5, 3, "epoch", {"name": "x", "value": Text("t")}),
    Record(
        "artifact",
        5,
        "w",
        2.5,
        None,
        "step",
        {"artifact": {"f": b"1"}, "name": "n", "type": "t", "metadata": {}, "aliases": (), "version": 4, "digest": "d"},
    ),  # fmt: skip
    Record("alert", 6, "w", 2.5, None, "step", {"title": "t", "text": "", "level": "info"}),
    Record("config", 7, "w", 2.5, None, "step", {"a": 1}),
    Record("summary", 8, "w", 2.5, None, "step", {"a": 1}),
    Record("use_artifact", 9, "w", 2.5, None, "step", {"artifact": "n:v1"}),
]


@pytest.mark.parametrize("make", [*WRAPPED.values(), tracking.multi], ids=[*WRAPPED, "multi"])
@pytest.mark.parametrize("kind", [Five, Full, FakeTracker])
@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.kind)
def test_records_are_replayed_through_wrappers(make, kind, record):
    """What a replay adds (times, versions) reaches the tracker as far as its signature takes it, and no further."""
    tracker = kind()
    replay(record, make(tracker))
    if kind is Full and record.kind in {"scalars", "histogram", "table", "text"}:
        assert (2.5 in tracker.calls[-1]) and ("epoch" in tracker.calls[-1])


def test_versions_and_times_of_artifacts_reach_whoever_takes_them():
    class Dated(Five):
        def log_artifact(self, artifact, *, name=None, version=None, digest="", wall_time=None, **keywords):
            self.calls.append((name, version, digest, wall_time))
            return ArtifactRef(name)

    (artifact,) = [record for record in RECORDS if record.kind == "artifact"]
    for make in [*WRAPPED.values(), tracking.multi]:
        tracker = Dated()
        replay(artifact, make(tracker))
        assert tracker.calls == [("n", 4, "d", 2.5)]


def test_wrappers_are_given_to_runs_like_any_tracker():
    fake, five = FakeTracker(), Five()
    with tracking.start_run(
        "p", root="runs", backends=[tracking.scope(fake, "a"), tracking.multi(tracking.every(five, 2))]
    ) as run:
        for step in range(3):
            run.log_scalars({"x": float(step)}, step=step)
    assert fake.scalars == {"a/x": [(0, 0.0), (1, 1.0), (2, 2.0)]}
    assert [call[2] for call in five.calls if call[0] == "scalars"] == [0, 2]
    assert fake.status == "finished"
    assert five.calls[-1] == ("finish", "finished", None)


# ---------------------------------------------------------------- multi


def test_multi_sends_every_call_to_each_in_order():
    one, two = Full(), Full()
    both = tracking.multi(one, two)
    both.log_scalars({"x": 1}, step=1, step_axis="epoch", wall_time=2.5)
    both.log_images({"x": 1}, step=2, value_range=(0, 9))
    both.log_histogram("h", [1], step=3, bins=2)
    both.log_table("t", {"a": [1]}, step=4, wall_time=1.5)
    both.log_video("v", np.zeros((2, 4, 5)), step=4, fps=3, wall_time=1.5)
    both.log_audio("a", [0.0], step=4, sample_rate=8000, step_axis="epoch")
    both.log_text("x", "text", step=4)
    both.log_config({"a": 1})
    both.log_summary({"b": 2})
    both.log_alert("t", "x", level="error", wall_time=1.0)
    assert both.use_artifact("a:v1") == ArtifactRef("a:v1")
    both.flush()
    both.finish("preempted")
    kinds = [
        "scalars",
        "images",
        "histogram",
        "media",
        "media",
        "media",
        "media",
        "config",
        "summary",
        "alert",
        "use",
        "flush",
        "finish",
    ]
    assert [call[0] for call in one.calls] == kinds
    assert one.calls[:3] == two.calls[:3] and one.calls[7:] == two.calls[7:]
    table, video, audio, text = one.calls[3:7]
    assert table == ("media", "t", Table(["a"], [[1]]), 4, "step", 1.5, {})
    assert (video[2].fps, video[5], audio[2].sample_rate, audio[4]) == (3.0, 1.5, 8000, "epoch")
    assert text[2] == "text"


def test_multi_returns_the_reference_of_the_first():
    one, two = Five(), Five()
    two.calls.append("something")
    assert tracking.multi(one, two).log_artifact("path", name="n", type="t") == ArtifactRef("n", "t", 1)
    assert two.calls[-1] == ("artifact", "path", "n", "t", None, ())


def test_multi_falls_back_for_those_that_lack_a_capability():
    five, full = Five(), Full()
    both = tracking.multi(five, full)
    both.log_table("t", {"a": [1]}, step=4)
    both.log_alert("title")
    both.flush()
    assert both.use_artifact("a") == ArtifactRef("a")
    assert [call[0] for call in five.calls] == ["artifact"]
    assert [call[0] for call in full.calls] == ["media", "alert", "flush", "use"]


def test_an_error_of_one_reaches_the_caller_after_the_others_had_the_call():
    error = RuntimeError("first")
    good, last = Five(), Five()
    several = tracking.multi(good, Broken(error), Broken(ValueError("second")), last)
    for call in [
        lambda: several.log_scalars({"x": 1}, step=0),
        lambda: several.log_images({"x": 1}, step=0),
        lambda: several.log_histogram("x", 1, step=0),
        lambda: several.log_artifact("x"),
        lambda: several.log_table("t", {"a": [1]}, step=0),
        lambda: several.finish("failed", error="e"),
    ]:
        error.__notes__ = []
        with pytest.raises(RuntimeError, match="first") as caught:
            call()
        assert caught.value is error
        assert "second" in caught.value.__notes__[0]
    assert good.calls == last.calls
    assert len(good.calls) == 6
    with pytest.raises(RuntimeError):
        several.flush()


def test_multi_needs_trackers():
    with pytest.raises(SettingsError, match="at least one"):
        tracking.multi()
    with pytest.raises(SettingsError, match="each as an argument, got list"):
        tracking.multi([Five(), Five()])
    with pytest.raises(SettingsError, match="got str"):
        tracking.multi(Five(), "wandb")
    assert repr(tracking.multi(tracking.NullTracker())).startswith("multi(")


# ---------------------------------------------------------------- null


def test_the_null_tracker_takes_everything():
    null = tracking.NullTracker()
    assert null.log_scalars({"x": math.nan}, step=0, step_axis="e", wall_time=1.0) is None
    assert null.log_images(object(), step=0, value_range=(0, 1)) is None
    assert null.log_histogram("x", object(), step=0, bins=2) is None
    assert null.log_artifact(object()) == ArtifactRef("unnamed")
    assert null.log_artifact("x", name="n", type="t", metadata={}, aliases=()) == ArtifactRef("n", "t")
    for _, method in OPTIONAL_CAPABILITIES.values():
        assert getattr(null, method)("a", "b", step=0) is None
    assert null.finish("failed", error="e") is None
    assert null.finish() is None
    for record in RECORDS:
        replay(record, null)
