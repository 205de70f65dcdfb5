"""What a training feels of a call: none waits for a device, and none compiles, whatever is logged for the first time."""

from __future__ import annotations

import itertools
import threading
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tracking_core as tracking
from tests.support.programs import journal_events
from tracking_core.on_device import beside, reducing
from tracking_core.values import Audio, Histogram, Video

slow = jax.jit(lambda x: jax.lax.fori_loop(0, 20_000, lambda _, y: jnp.sin(y @ y.T @ y / 1e3), x))
parts = jax.jit(lambda x: (x[0, 0], x[0, :2] * 0, jnp.arange(3.0) + x[0, 0] * 0, (x[:4, :4] > 2) * jnp.uint8(7)))
one_more = jax.jit(lambda x: x + 1, donate_argnums=0)
shapes = itertools.count(5)


@contextmanager
def compiled_here():
    """The names of what this thread compiles meanwhile."""
    me, found = threading.get_ident(), []

    def listen(event, seconds, **facts):
        if event.endswith("backend_compile_duration") and threading.get_ident() == me:
            found.append(facts.get("fun_name", event))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def started(**keywords):
    return tracking.start_run("p", root="runs", **keywords)


def events(run, *kinds):
    return [event for event in journal_events(run.dir) if event["kind"] in kinds]


def stored(run):
    return tracking.open_store("runs").run(run.id)


CALLS = {
    "scalars": lambda run, n, counts, edges, pixels: run.log_scalars({"n": n}, step=0),
    "counts and edges": lambda run, n, counts, edges, pixels: run.log_histogram("h", (counts, edges), step=0),
    "a mapping": lambda run, n, counts, edges, pixels: run.log_histogram(
        "h", {"counts": counts, "edges": edges, "num": n}, step=0
    ),
    "Histogram": lambda run, n, counts, edges, pixels: run.log_histogram("h", Histogram(counts, edges, nan=n), step=0),
    "values": lambda run, n, counts, edges, pixels: run.log_histogram("h", edges, step=0),
    "images": lambda run, n, counts, edges, pixels: run.log_images({"x": pixels}, step=0),
    "float images": lambda run, n, counts, edges, pixels: run.log_images(
        {"x": edges[None]}, step=0, value_range=(0, 9)
    ),
    "frames": lambda run, n, counts, edges, pixels: run.log_video("v", pixels[None], step=0),
    "a list of frames": lambda run, n, counts, edges, pixels: run.log_video(
        "v", [pixels, np.asarray(0) + pixels], step=0
    ),
    "Video": lambda run, n, counts, edges, pixels: run.log_video("v", Video(pixels[None], 3.0), step=0),
    "audio": lambda run, n, counts, edges, pixels: run.log_audio("a", edges * 0, step=0),
    "Audio": lambda run, n, counts, edges, pixels: run.log_audio("a", Audio(edges * 0, 8000), step=0),
    "columns": lambda run, n, counts, edges, pixels: run.log_table("t", {"edges": edges, "x": [1, 2, 3]}, step=0),
    "rows": lambda run, n, counts, edges, pixels: run.log_table("t", [{"n": n, "x": 1}], step=0),
    "summary": lambda run, n, counts, edges, pixels: run.log_summary({"best": {"n": n, "edges": edges}}),
    "config": lambda run, n, counts, edges, pixels: run.log_config({"deep": [{"n": n}]}),
    "a mixture": lambda run, n, counts, edges, pixels: run.log({"n": n, "h": Histogram(counts, edges)}, step=0),
    "a step": lambda run, n, counts, edges, pixels: run.log_text("t", "x", step=pixels[0, 0]),
}


def values(scale):
    """A pending array, and a number, counts, edges and pixels that come of it."""
    source = slow(jnp.eye(64) * scale)
    return source, *parts(source)


@pytest.mark.parametrize("name", CALLS)
def test_no_call_waits_for_a_device_or_compiles(name):
    call = CALLS[name]
    source, *arrays = values(2)
    # Operations of the calls above themselves are compiled once.
    with started(run_id="first", strict=True) as run:
        call(run, *arrays)
        run.flush(local=True)
    source, *arrays = values(3)
    with started(strict=True) as run:
        with compiled_here() as compiled:
            call(run, *arrays)
        pending = not source.is_ready()
        before = [event["kind"] for event in journal_events(run.dir)]
        run.flush(local=True)
        assert pending, "the machine was too fast for this test"
        assert not compiled
        after = [event["kind"] for event in journal_events(run.dir)]
        assert len(after) > len(before)
    n = float(arrays[0])
    record = stored(run)
    match name:
        case "scalars" | "a mixture":
            assert record.scalars("n").value.tolist() == [n]
        case "counts and edges" | "Histogram" | "a mapping":
            ((_, one),) = record.histograms("h")
            assert (one.counts.tolist(), one.edges.tolist()) == ([0, 0], [0, 1, 2])
        case "values":
            ((_, one),) = record.histograms("h")
            assert (one.count, one.min, one.max) == (3, 0, 2)
        case "images":
            assert record.images("x")[0][1][0].pixels.shape == (4, 4, 1)
        case "float images":
            assert record.images("x")[0][1][0].pixels.ravel().tolist() == [0, 28, 57]
        case "frames" | "Video" | "a list of frames":
            (event,) = events(run, "video")
            assert event["shape"] == [2 if "list" in name else 1, 4, 4, 1]
        case "audio" | "Audio":
            (event,) = events(run, "audio")
            assert event["sample_rate"] == (16000 if name == "audio" else 8000)
        case "columns":
            assert record.tables("t")[0][1].rows == ((0.0, 1), (1.0, 2), (2.0, 3))
        case "rows":
            assert record.tables("t")[0][1].rows == ((n, 1),)
        case "summary":
            assert record.summary()["best"] == {"n": n, "edges": [0.0, 1.0, 2.0]}
        case "config":
            assert record.config["deep"] == [{"n": n}]
        case "a step":
            assert [event["step"] for event in events(run, "text")] == [int(arrays[3][0, 0])]


def test_the_first_of_a_shape_compiles_nothing_on_the_caller():
    tree = {f"layer{n}": {"w": jax.device_put(np.full((next(shapes), 67), n, np.float32))} for n in range(100)}
    image = jax.device_put(np.full((next(shapes), 31, 3), 0.5, np.float32))
    with started(strict=True) as run:
        with compiled_here() as compiled:
            run.log_histogram("alone", tree["layer0"]["w"], step=0)
            run.log_histogram("tree", tree, step=0)
            run.log_images({"image": image}, step=0)
            run.flush(local=True)
        assert beside.settle(60)
        assert not compiled
    histograms = {event["name"]: event for event in events(run, "histogram")}
    assert len(histograms) == 101
    for n in range(100):
        found = histograms[f"tree/layer{n}/w"]
        assert (found["min"], found["max"], sum(found["counts"])) == (n, n, tree[f"layer{n}"]["w"].size)
    assert np.unique(stored(run).images("image")[0][1][0].pixels).tolist() == [128]


def test_an_accelerator_counts_by_itself_once_its_program_is_compiled(monkeypatch):
    """The CPU of the tests is told to be none; what the host counted and what the device counted is the same."""
    monkeypatch.setattr(reducing, "counted_on_host", lambda array: False)
    data = np.random.default_rng(0).normal(size=(70, 80)).astype(np.float32)
    pixels = np.random.default_rng(0).uniform(size=(70, 81)).astype(np.float32)
    program = reducing_programs()
    ways = []
    take = reducing.take
    monkeypatch.setattr(reducing, "take", lambda *args, **rest: ways.append(take(*args, **rest)) or ways[-1])
    with started(strict=True) as run:
        for step in range(2):
            arrays = jax.device_put((data, pixels))
            with compiled_here() as compiled:
                run.log_histogram("w", arrays[0], step=step)
                run.log_images({"x": arrays[1]}, step=step)
            assert not compiled
            run.flush(local=True)
            assert beside.settle(60)
    assert [reduced for _, reduced in ways] == [False, False, True, True]
    assert program.histogram._cache_size() >= 1
    first, second = events(run, "histogram")
    assert first["counts"] == second["counts"]
    assert first["mean"] == pytest.approx(second["mean"], rel=1e-5)
    (_, (one,)), (_, (other,)) = stored(run).images("x")
    assert np.array_equal(one.pixels, other.pixels)


def test_where_there_is_no_room_for_a_copy_the_device_counts(monkeypatch):
    monkeypatch.setattr("tracking_core.intake.resolver.COPIES_LIMIT", 100)
    with started(strict=True) as run:
        run.log_histogram("w", jnp.arange(9_000.0), step=0, bins=3)
    (event,) = events(run, "histogram")
    assert (event["counts"], event["max"]) == ([3000, 3000, 3000], 8999)


def reducing_programs():
    from tracking_core.on_device.programs import programs

    return programs()


def test_donated_arrays_are_what_they_were():
    x = jnp.arange(6.0)
    with started(strict=True) as run:
        for step in range(50):
            logged = x
            run.log_histogram("h", (x[:5] * 0 + step, x), step=step)
            run.log_table("t", {"x": x}, step=step)
            run.log_summary({f"s{step}": x})
            run.log_config({f"c{step}": x})
            x = one_more(x)
            assert logged.is_deleted()
    record = stored(run)
    expected = [np.arange(6.0) + step for step in range(50)]
    assert len(record.histograms("h")) == 50
    for (step, histogram), (_, table) in zip(record.histograms("h"), record.tables("t"), strict=True):
        assert histogram.edges.tolist() == expected[step].tolist()
        assert [row[0] for row in table.rows] == expected[step].tolist()
        assert record.summary()[f"s{step}"] == record.config[f"c{step}"] == expected[step].tolist()


def test_a_configuration_that_is_still_computed_is_read_when_it_is_asked_for():
    source, n, *_ = values(4)
    with started(config={"lr": 0.1}) as run:
        run.log_config({"n": n, "sub": {"host": 1}})
        run.log_config({"sub": {"later": n * 2}})
        assert run.config["n"] == float(n)
        assert run.config["sub"] == {"host": 1, "later": float(n) * 2}
        # What is on the host alone is in the journal when the call returns.
        run.log_config({"now": np.float32(2)})
        assert [event["config"] for event in events(run, "config")][-1] == {"now": 2.0}
    assert stored(run).config == {"lr": 0.1, "n": float(n), "sub": {"host": 1, "later": float(n) * 2}, "now": 2.0}


def test_bad_values_on_a_device_are_counted_when_they_arrive(troubles):
    with started() as run:
        run.log_audio("a", jnp.full(16, 3.0), step=0)
        run.log_video("v", Video(jnp.zeros((2, 2))), step=0)
        run.log_histogram("h", (jnp.arange(3.0), jnp.array([0.0, 2.0, 1.0, 3.0])), step=0)
        run.log_histogram("negative", (-jnp.arange(3.0), jnp.arange(4.0)), step=0)
        deleted = jnp.arange(3.0)
        one_more(deleted)
        run.log_table("t", {"x": deleted}, step=0)
        run.flush(local=True)
        assert run.health.dropped == {"invalid": 5}
    said = " ".join(message for _, message, _ in troubles)
    for text in ("reaches 3", "shape [T, H, W]", "increase", "not negative", "was deleted"):
        assert text in said


def test_histograms_that_a_step_has_reduced():
    reduced = jax.jit(
        lambda x: {
            "counts": jnp.histogram(x, 4)[0], "edges": jnp.histogram(x, 4)[1], "min": x.min(), "max": x.max(),
            "sum": x.sum(), "sumsq": (x * x).sum(), "num": jnp.float32(x.size),
        }
    )  # fmt: skip
    data = np.array([1.0, 2.0, 3.0, 6.0], np.float32)
    with started(strict=True) as run:
        run.log_histogram("whole", reduced(data), step=0)
        run.log_histogram("whole", {name: np.asarray(one) for name, one in reduced(data).items()}, step=1)
        run.log_histogram("nan", reduced(np.array([1.0, np.nan, 3.0], np.float32)), step=0)
        run.log_histogram("nan", (jnp.zeros(4), jnp.full(5, jnp.nan)), step=1)
        run.log_histogram("flat", (jnp.array([0, 3, 4]), jnp.array([1.0, 1.0, 1.0, 2.0])), step=0)
        run.log_histogram("point", (jnp.array([0, 3, 4]), jnp.ones(4)), step=0)
        # A tree, whose leaves only happen to be called so.
        run.log_histogram("tree", {"counts": jnp.arange(3.0), "edges": jnp.arange(9.0)}, step=0)
    record = stored(run)
    for _, one in record.histograms("whole"):
        assert one.counts.tolist() == [2, 1, 0, 1]
        assert (one.min, one.max, one.mean) == (1, 6, 3)
        assert one.std == pytest.approx(data.std())
    (_, first), (_, second) = record.histograms("nan")
    assert (first.nan, first.count) == (3, 0)
    assert (second.nan, second.count) == (1, 0)
    ((_, flat),) = record.histograms("flat")
    assert (flat.counts.tolist(), flat.edges.tolist()) == ([7], [1.0, 2.0])
    ((_, point),) = record.histograms("point")
    assert (point.counts.tolist(), point.edges.tolist()) == ([7], [0.5, 1.5])
    assert {event["name"] for event in events(run, "histogram")} >= {"tree/counts", "tree/edges"}


def test_a_medium_larger_than_the_limit_waits_beside_the_others(monkeypatch, troubles):
    monkeypatch.setattr("tracking_core.intake.resolver.MEDIA_LIMIT", 10_000)
    gate = threading.Event()
    original = tracking.Image.png
    monkeypatch.setattr(tracking.Image, "png", lambda self: gate.wait(30) and original(self))
    with started() as run:
        run.log_images({"small": np.zeros((50, 50), np.uint8)}, step=0)
        run.log_images({"large": np.zeros((300, 300), np.uint8)}, step=0)
        run.log_images({"large": np.zeros((300, 300), np.uint8)}, step=1)
        run.log_images({"small": np.zeros((50, 50), np.uint8)}, step=1)
        gate.set()
    assert [(name, event["step"]) for event in events(run, "images") for name in event["images"]] == [
        ("small", 0), ("large", 0), ("small", 1),
    ]  # fmt: skip
    assert run.health.dropped == {"media": 1}
