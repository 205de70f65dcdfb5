"""FakeTracker: what it records, how it is read, and how two of them are compared."""

from __future__ import annotations

import math
import subprocess
import sys
import threading

import numpy as np
import pytest

import tracking_core as tracking
from tracking_core import InvalidStepError, InvalidValueError, NameNotFoundError, SettingsError, TrackingError
from tracking_core.protocol import OPTIONAL_CAPABILITIES
from tracking_core.testing import FakeTracker
from tracking_core.values import ArtifactRef, Audio, Histogram, Html, Image, Record, Table, Video


def test_scalars_are_read_by_name_in_order():
    fake = FakeTracker()
    fake.log_scalars({"train": {"loss": np.float32(0.5)}, "n": 3}, step=2)
    fake.log_scalars({"train/loss": 0.25}, step=1)
    assert fake.scalars["train/loss"] == [(2, 0.5), (1, 0.25)]
    assert dict(fake.scalars) == {"train/loss": [(2, 0.5), (1, 0.25)], "n": [(2, 3)]}
    assert list(fake.scalars) == ["train/loss", "n"]
    assert "loss" not in fake.scalars
    assert fake.scalars.get("loss") is None


def test_axes_are_told_apart():
    fake = FakeTracker()
    fake.log_scalars({"loss": 1.0}, step=1000)
    fake.log_scalars({"loss": 2.0, "eval": 3.0}, step=1, step_axis="epoch")
    assert fake.scalars_on("epoch")["loss"] == [(1, 2.0)]
    assert fake.scalars_on("step")["loss"] == [(1000, 1.0)]
    assert fake.scalars["loss"] == [(1000, 1.0), (1, 2.0)]
    assert list(fake.scalars_on("step")) == ["loss"]
    with pytest.raises(NameNotFoundError, match="no scalar on the axis 'step' 'eval' was logged; there are 'loss'"):
        fake.scalars_on("step")["eval"]


def test_a_wrong_name_gets_a_hint():
    fake = FakeTracker()
    fake.log_scalars({"train/loss": 0.5, "lr": 1}, step=0)
    with pytest.raises(KeyError) as caught:
        fake.scalars["train/los"]
    assert str(caught.value) == (
        "no scalar 'train/los' was logged: did you mean 'train/loss'?; there are 'train/loss', 'lr'"
    )
    with pytest.raises(KeyError, match="no image 'x' was logged; there are none at all"):
        fake.images["x"]


def test_every_capability_is_there_and_recorded():
    fake = FakeTracker()
    for protocol, _method in OPTIONAL_CAPABILITIES.values():
        assert isinstance(fake, protocol)
    assert isinstance(fake, tracking.Tracker)
    fake.log_table("t", {"a": [1, 2]}, step=1)
    fake.log_text("x", "hello", step=1)
    fake.log_audio("s", np.zeros(4), step=1, sample_rate=8000)
    fake.log_video("v", np.zeros((2, 4, 4), np.uint8), step=1)
    fake.log_figure("f", _png(), step=1)
    fake.log_html("p", "<b>bold</b>", step=1)
    fake.log_config({"lr": 0.1, "model": {"depth": 2}})
    fake.log_config({"lr": 0.2})
    fake.log_summary({"best": 1})
    fake.log_alert("look", "here", level="warn")
    fake.flush()
    assert fake.tables["t"] == [(1, Table(["a"], [[1], [2]]))]
    assert fake.texts["x"] == [(1, "hello")]
    assert fake.audio["s"] == [(1, Audio(np.zeros(4), 8000))]
    assert fake.videos["v"] == [(1, Video(np.zeros((2, 4, 4), np.uint8)))]
    assert fake.values("html")["p"] == [(1, Html("<b>bold</b>"))]
    for kind in ("pages", "artifact", "alert"):
        with pytest.raises(InvalidValueError, match="expected one of audio, figure, histogram, html"):
            fake.values(kind)
    assert fake.values("table")["t"] == fake.tables["t"]
    assert fake.figures["f"][0][1].image.pixels.shape == (2, 3, 3)
    assert fake.config == {"lr": 0.2, "model": {"depth": 2}}
    assert fake.summary == {"best": 1}
    assert fake.alerts == [("look", "here", "warn")]
    assert [call.method for call in fake.calls] == [
        "log_table", "log_text", "log_audio", "log_video", "log_figure", "log_html",
        "log_config", "log_config", "log_summary", "log_alert", "flush",
    ]  # fmt: skip


def _png():
    from tracking_core.values import Figure

    return Figure(Image.from_pixels(np.zeros((2, 3, 3), np.uint8)).png())


def test_images_and_histograms_are_normal_and_own():
    fake = FakeTracker()
    pixels = np.zeros((2, 4, 5, 3), np.uint8)
    counts = np.array([1, 2])
    shared = Image.from_pixels(np.zeros((2, 2, 1), np.uint8), "own")
    fake.log_images({"batch": pixels, "one": shared}, step=3)
    fake.log_histogram("h", (counts, np.array([0.0, 1.0, 2.0])), step=3)
    pixels[:] = 255
    counts[:] = 9
    shared.pixels[:] = 255
    [(step, images)] = fake.images["batch"]
    assert (step, len(images), images[0].pixels.shape) == (3, 2, (4, 5, 3))
    assert all(not image.pixels.any() for image in images)
    assert not fake.images["one"][0][1][0].pixels.any()
    assert fake.images["one"][0][1][0].caption == "own"
    assert fake.histograms["h"] == [(3, Histogram([1, 2], [0.0, 1.0, 2.0]))]
    with pytest.raises(ValueError, match="read-only"):
        images[0].pixels[0, 0, 0] = 1


def test_artifacts_are_kept_as_bytes_and_versioned(tmp_path):
    fake = FakeTracker()
    path = tmp_path / "w.bin"
    path.write_bytes(b"one")
    metadata = {"nested": {"x": 1}}
    first = fake.log_artifact(path, name="weights", type="model", metadata=metadata, aliases=["best"])
    path.write_bytes(b"two")
    metadata["nested"]["x"] = 2
    second = fake.log_artifact(path, name="weights", type="model")
    other = fake.log_artifact({"a/b": b"x"}, name="weights", type="other")
    assert [version.files for version in fake.artifacts["weights"]] == [
        {"w.bin": b"one"},
        {"w.bin": b"two"},
        {"a/b": b"x"},
    ]
    assert fake.artifacts["weights"][0].metadata == {"nested": {"x": 1}}
    assert (first.version, second.version, other.version) == (0, 1, 0)
    assert first.aliases == ("best",)
    assert first.digest != second.digest
    assert fake.use_artifact("weights:best") == first
    assert fake.use_artifact("elsewhere:v3") == ArtifactRef("elsewhere")
    assert fake.use_artifact(second) is second
    assert fake.used == ["weights:best", "elsewhere:v3", "weights:v1"]


def test_calls_are_readable():
    fake = FakeTracker()
    fake.log_scalars({"a": 1.0, "b\n": 2.0}, step=1, step_axis="epoch", wall_time=12.5)
    fake.log_histogram("h", [1.0], step=2)
    fake.log_artifact({"x": b""}, name="x")
    assert [repr(call) for call in fake.calls] == [
        r"log_scalars('a', 'b\\n', step=1, step_axis='epoch', wall_time=12.5)",
        "log_histogram('h', step=2)",
        "log_artifact('x')",
    ]
    call = fake.calls[0]
    assert (call.method, call.names, call.axis, call.step, call.wall_time) == (
        "log_scalars", ("a", "b\n"), "epoch", 1, 12.5,
    )  # fmt: skip
    with pytest.raises(AttributeError):
        call.step = 3
    fake.calls.clear()
    assert len(fake.calls) == 3


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (InvalidValueError, lambda fake: fake.log_scalars({"x": "text"}, step=1)),
        (InvalidValueError, lambda fake: fake.log_scalars({"x": np.zeros(2)}, step=1)),
        (InvalidStepError, lambda fake: fake.log_scalars({"x": 1.0}, step=0.5)),
        (InvalidStepError, lambda fake: fake.log_scalars({"x": 1.0}, step=1, step_axis="")),
        (InvalidValueError, lambda fake: fake.log_images({"x": np.zeros((3, 8, 8))}, step=1)),
        (InvalidValueError, lambda fake: fake.log_histogram("x", "text", step=1)),
        (InvalidValueError, lambda fake: fake.log_artifact("/no/such/file")),
        (InvalidValueError, lambda fake: fake.log_text("x", 3, step=1)),
        (SettingsError, lambda fake: fake.finish("done")),
    ],
)
def test_wrong_input_raises_and_records_nothing(error, call):
    fake = FakeTracker()
    with pytest.raises(error):
        call(fake)
    assert fake.calls == []
    assert fake.status == "running"


def test_finish():
    fake = FakeTracker()
    assert (fake.status, fake.error) == ("running", None)
    fake.finish("failed", error="out of memory")
    fake.finish()
    assert (fake.status, fake.error) == ("failed", "out of memory")
    with pytest.raises(TrackingError, match=r"log_scalars\('loss', step=1\) came after finish\('failed'\)"):
        fake.log_scalars({"loss": 1.0}, step=1)
    assert [call.method for call in fake.calls] == ["finish"]


def test_it_takes_records_in_batches():
    fake = FakeTracker()
    records = [
        Record("scalars", 0, "w", 5.0, step=1, data={"loss": 0.5}),
        Record("text", 1, "w", 6.0, step=1, axis="epoch", data={"name": "t", "value": "x"}),
        Record("scalars", 2, "w", 7.0, step=None, data={"loss": 0.5}),
    ]
    with pytest.raises(tracking.BatchInterrupted) as caught:
        fake.deliver(records)
    assert caught.value.taken == 2
    assert isinstance(caught.value.__cause__, InvalidStepError)
    assert [call.wall_time for call in fake.calls] == [5.0, 6.0]


def test_equality_is_about_what_a_backend_would_hold():
    one, two = FakeTracker(), FakeTracker()
    assert one == two
    one.log_scalars({"a": 1.0, "b": math.nan}, step=1)
    two.log_scalars({"a": 1}, step=1, wall_time=3.0)
    two.log_scalars({"b": math.nan}, step=1)
    two.flush()
    for fake in (one, two):
        fake.log_images({"x": np.zeros((2, 2), np.uint8)}, step=1)
        fake.log_artifact({"f": b"1"}, name="a", metadata={"n": math.nan})
        fake.log_config({"n": math.nan})
    assert one == two
    assert one.diff(two) == ""
    two.finish()
    assert one != two
    assert one.diff(two) == "status: 'running' != 'finished'"
    assert one != object()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda f: f.log_scalars({"loss": 9.0}, step=2), "scalar 'loss', number 1: step 2: 0.5 != step 2: 9.0"),
        (
            lambda f: f.log_scalars({"loss": 0.5}, step=2, step_axis="epoch"),
            "scalar 'loss', number 1: step 2: 0.5 != step 2 of 'epoch': 0.5",
        ),
        (lambda f: None, "scalar 'loss': only on the left: step 2: 0.5"),
    ],
)
def test_a_diff_names_the_place(change, line):
    one, two = FakeTracker(), FakeTracker()
    for fake in (one, two):
        fake.log_scalars({"loss": 1.0}, step=1)
    one.log_scalars({"loss": 0.5}, step=2)
    change(two)
    assert one.diff(two) == line


def test_a_diff_covers_every_kind():
    one, two = FakeTracker(), FakeTracker()
    one.log_images({"x": np.zeros((2, 2), np.uint8)}, step=1)
    two.log_images({"x": np.ones((2, 2), np.uint8)}, step=1)
    two.log_histogram("h", [1.0], step=1)
    one.log_artifact({"f": b"1"}, name="a")
    two.log_artifact({"f": b"2"}, name="a")
    one.log_config({"lr": 0.1, "same": 1})
    two.log_config({"lr": 0.2, "same": 1, "new": None})
    one.log_summary({"best": 1})
    two.log_alert("t", "x")
    one.log_table("t", {"a": [1]}, step=1)
    kinds = [line.split(":")[0] for line in one.diff(two).splitlines()]
    assert kinds == [
        "image 'x', number 0",
        "table 't'",
        "artifact 'a', number 0",
        "histogram 'h'",
        "config 'lr'",
        "config 'new'",
        "summary 'best'",
        "alert",
    ]


def test_a_long_diff_is_cut():
    one, two = FakeTracker(), FakeTracker()
    for step in range(500):
        one.log_scalars({"loss": 1.0}, step=step)
    lines = one.diff(two).splitlines()
    assert len(lines) == 41
    assert lines[-1] == "… and more"


def test_threads_may_share_one():
    fake = FakeTracker()

    def work(number: int) -> None:
        for step in range(200):
            fake.log_scalars({f"t{number}": step}, step=step)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        assert fake.scalars[f"t{number}"] == [(step, step) for step in range(200)]
    assert len(fake.calls) == 800


def test_its_repr_counts():
    fake = FakeTracker()
    assert repr(fake) == "FakeTracker(running: nothing)"
    fake.log_scalars({"a": 1, "b": 2}, step=1)
    fake.log_artifact({"f": b"1"}, name="a")
    assert repr(fake) == "FakeTracker(running: 2 scalars, 1 artifact)"


_PLUGIN_TEST = """
def test_fixture(fake_tracker):
    fake_tracker.log_scalars({"loss": 0.5}, step=1)
    assert fake_tracker.scalars["loss"] == [(1, 0.5)]

def test_difference(fake_tracker):
    other = type(fake_tracker)()
    other.log_scalars({"loss": 0.5}, step=1)
    assert fake_tracker == other
"""


@pytest.mark.system
def test_the_pytest_plugin_brings_a_fixture_and_explains_differences(tmp_path):
    (tmp_path / "test_plugin.py").write_text(_PLUGIN_TEST)
    # Where the entry point is installed, pytest would load the same module twice.
    plugins = ["-p", "no:tracking_core", "-p", "tracking_core.testing.pytest_plugin", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugins, "--rootdir", str(tmp_path), str(tmp_path)],
        capture_output=True, text=True, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "scalar 'loss': only on the right: step 1: 0.5" in done.stdout


def test_pytest_does_not_rewrite_the_package():
    """It would take it apart in threads of runs, which some versions of CPython cannot."""
    from tracking_core.runs import start as starting

    assert type(starting.__loader__).__name__ == "SourceFileLoader"
    assert type(sys.modules[__name__].__loader__).__name__ == "AssertionRewritingHook"


def test_the_pytest_plugin_is_cheap():
    code = """
import pytest, sys
before = set(sys.modules)
import tracking_core.testing.pytest_plugin
print(sorted({name.partition('.')[0] for name in set(sys.modules) - before}), sorted(
    name for name in sys.modules if name.startswith('tracking_core')))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split("] [")[0] == "['tracking_core'", done.stdout
    assert "tracking_core.testing.fake.tracker" not in done.stdout


def test_importing_the_package_imports_no_pytest():
    code = """
import sys
from tracking_core.testing import (
    AdapterHarness, ContractSuite, ContractReport, FakeHarness, FakeTracker, Stored, StoredScalar, check_adapter, faults
)
import tracking_core.testing as testing
for name in testing.__all__:
    getattr(testing, name)
assert "pytest" not in sys.modules and "jax" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)
