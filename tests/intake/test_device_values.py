"""Device values on their way into the journal: nobody waits, nothing is lost under donation, everything is exact."""

from __future__ import annotations

import itertools
import json
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tracking_core as tracking
from tests.support.programs import journal_events, only_run, scalar_rows
from tests.support.programs import run as run_program
from tracking_core.errors import InvalidStepError, InvalidValueError
from tracking_core.intake.resolver import resolver
from tracking_core.on_device import beside
from tracking_core.on_device.programs import programs
from tracking_core.values.kinds import MEDIA


def started(**keywords):
    return tracking.start_run("p", root="runs", **keywords)


def never_at_hand(monkeypatch):
    """Let nothing on a device be taken for computed."""
    monkeypatch.setattr("tracking_core.intake.sink.is_ready_on_host", lambda values: False)
    monkeypatch.setattr("tracking_core.intake.scalars.read_ready", lambda named, values: None)


def slow(x, rounds=400):
    """Something that is not ready when the call returns."""
    return jax.lax.fori_loop(0, rounds, lambda _, y: jnp.sin(y @ y.T @ y / 1e3), x)


slow_step = jax.jit(slow)
slower_step = jax.jit(lambda x: slow(x, 20_000))
donating = jax.jit(lambda w, n, k: (w * 0.5 + 1.0, n + 1, k * 2), donate_argnums=(0, 1, 2))


def test_two_hundred_of_two_hundred_under_donation():
    w, n, k = jnp.arange(64.0), jnp.int32(0), jnp.float32(1.0)
    expected = []
    with started() as run:
        for _ in range(200):
            run.log_scalars({"k": k, "host": 1.0}, step=n)
            run.log_histogram("w", w, step=n, bins=8)
            run.log_images({"w": w.reshape(8, 8) / 128}, step=n)
            expected.append((int(n), float(k), np.asarray(w).copy()))
            w, n, k = donating(w, n, k)
    rows = scalar_rows(run.dir)
    assert [(row[2], row[3]) for row in rows if row[0] == "k"] == [(n, k) for n, k, _ in expected]
    histograms = [event for event in journal_events(run.dir) if event["kind"] == "histogram"]
    assert [event["step"] for event in histograms] == [n for n, _, _ in expected]
    for event, (_, _, w) in zip(histograms, expected, strict=True):
        assert event["min"] == pytest.approx(w.min(), rel=1e-6)
        assert sum(event["counts"]) == 64
    images = tracking.open_store("runs").run(run.id).images("w")
    assert len(images) == 200


def test_values_that_are_not_ready_do_not_hold_up_the_call(monkeypatch):
    with started() as run:
        warm = slower_step(jnp.eye(64))[0, 0]
        run.log_scalars({"warm": warm}, step=0)
        run.flush()
        pending = slower_step(jnp.eye(64) * 2)
        assert not pending.is_ready()
        run.log_scalars({"late": pending[0, 0], "early": 5.0}, step=1)
        run.log_scalars({"after": 6.0}, step=2)
        still_running = not pending.is_ready()
        written = [row[0] for row in scalar_rows(run.dir)]
        assert still_running, "the machine was too fast for this test"
        assert "after" in written
        assert "late" not in written
    assert [row[:3] for row in scalar_rows(run.dir)][1:] == [
        ("early", "step", 1),
        ("late", "step", 1),
        ("after", "step", 2),
    ]


def test_low_does_not_pass_a_value_that_is_pending():
    with started() as run:
        for step in range(30):
            run.log_scalars({"d": slow_step(jnp.eye(32) * step)[0, 0]}, step=step)
            run.log_scalars({"h": float(step)}, step=step)
    lines = [json.loads(line) for line in next((run.dir / "journal").glob("*.jsonl")).read_text().splitlines()]
    seen = set()
    for line in lines:
        seen.add(line["seq"])
        assert set(range(1, line["low"])) <= seen
    assert [row[2] for row in scalar_rows(run.dir) if row[0] == "d"] == list(range(30))


DTYPES = ["bool", "int8", "uint8", "int16", "int32", "uint32", "float16", "bfloat16", "float32", "float8_e4m3fn",
          "float8_e5m2", "int4", "uint4"]  # fmt: skip


@pytest.mark.system
@pytest.mark.parametrize("ready", [True, False])
def test_scalars_of_every_dtype_are_exact(monkeypatch, ready):
    if not ready:
        never_at_hand(monkeypatch)
    values = {}
    for name in DTYPES:
        dtype = jnp.dtype(name)
        for number in (0, 1, 3, 16777217, -1.5, float("nan"), float("inf"), 0.1):
            if dtype.kind in "biu" or "int" in name:
                if (
                    number != number
                    or number in (float("inf"), -1.5, 0.1, 16777217)
                    and name not in {"int32", "uint32"}
                ):
                    continue
                number = int(abs(number)) if number == number and abs(number) < 2**31 else 1
            with np.errstate(all="ignore"):
                values[f"{name}/{number}"] = jnp.asarray(np.asarray(number).astype(dtype))
    with started() as run:
        run.log_scalars(values, step=0)
    rows = {row[0]: row[3] for row in scalar_rows(run.dir)}
    assert set(rows) == set(values)
    for name, array in values.items():
        expected = np.asarray(array).astype(np.float64)
        np.testing.assert_array_equal(rows[name], expected, err_msg=name)


def test_changing_keys_do_not_compile_for_ever(monkeypatch):
    never_at_hand(monkeypatch)
    program = programs().pack
    # What earlier tests have asked for.
    assert beside.settle(60)
    start = program._cache_size()
    with started() as run:
        for count in range(1, 40):
            run.log_scalars({f"k{count}-{i}": jnp.float32(i) for i in range(count)}, step=count)
        run.flush()
        assert beside.settle(60)
        before = program._cache_size()
        for count in range(1, 40):
            run.log_scalars({f"z{count}-{i}": jnp.float32(i) for i in range(count)}, step=count)
        run.flush()
        assert beside.settle(60)
        assert program._cache_size() == before
        assert before - start <= 12
    rows = scalar_rows(run.dir)
    assert len(rows) == 2 * sum(range(1, 40))
    assert all(row[3] == float(row[0].split("-")[1]) for row in rows)


@pytest.mark.system
def test_the_first_of_a_kind_compiles_for_all_sizes_off_the_training_thread(tmp_path):
    """Whatever number of values is logged after that, the call does not compile."""
    code = """
    import json, threading
    import jax, jax.numpy as jnp
    import tracking_core as tracking
    import tracking_core.intake.scalars as scalars, tracking_core.intake.sink as sink
    from tracking_core.on_device import beside
    sink.is_ready_on_host, scalars.read_ready = lambda values: False, lambda named, values: None
    main, compiled = threading.get_ident(), {"here": 0, "elsewhere": 0}
    def listen(event, seconds, **_):
        if event.endswith("backend_compile_duration"):
            compiled["here" if threading.get_ident() == main else "elsewhere"] += 1
    found = jax.jit(lambda x: [x + n for n in range(16)])(jnp.float32(1))
    jax.monitoring.register_event_duration_secs_listener(listen)
    with tracking.start_run("p", root="runs", strict=True) as run:
        run.log_scalars({"a": found[0]}, step=0)
        run.flush()
        assert beside.settle(60)
        first = dict(compiled)
        for count in range(1, 17):
            run.log_scalars({f"a{n}": value for n, value in enumerate(found[:count])}, step=count)
        singles = dict(compiled)
        row = jnp.stack(found)
        stacked = dict(compiled)
        for step in range(18, 30):
            run.log_scalars(tracking.Stacked([f"{n}/{step}" for n in range(16)], row), step=step)
        run.flush()
        assert compiled == stacked
    print(json.dumps([first, singles]))
    """
    out, _ = run_program(code, tmp_path)
    first, singles = json.loads(out.splitlines()[-1])
    # Sizes 1, 2, 4, 8 and 16.
    assert first == singles == {"here": 0, "elsewhere": 5}
    assert [row[2] for row in scalar_rows(only_run(tmp_path / "runs"))][:4] == [0, 1, 2, 2]


def test_bad_arrays_cost_their_own_key(troubles):
    deleted = jnp.float32(1.0)
    deleted.delete()
    with started() as run:
        run.log_scalars(
            {
                "good": jnp.float32(2.0),
                "deleted": deleted,
                "many": jnp.zeros(3),
                "complex": jnp.complex64(1j),
                "key": jax.random.key(0),
            },
            step=0,
        )

        @jax.jit
        def traced(x):
            run.log_scalars({"traced": x, "constant": jnp.float32(7.0), "host": 3.0}, step=1)
            return x

        traced(jnp.float32(1.0))
    rows = {row[0]: row[3] for row in scalar_rows(run.dir)}
    assert rows["good"] == 2.0
    assert rows["host"] == 3.0
    assert not {"deleted", "many", "complex", "key", "traced"} & set(rows)
    said = " ".join(message for _, message, _ in troubles)
    for remedy in ("donated", "x[0]", "inside jit", "PRNG"):
        assert remedy in said, said
    assert run.health.dropped["invalid"] == 6


def test_a_poisoned_value_does_not_fail_its_batch(troubles, monkeypatch):
    """What a device reports when a value is fetched concerns that value alone."""
    from tracking_core.intake.resolver import Draft, resolver

    class Poisoned:
        def copy_to_host_async(self):
            raise RuntimeError("poison")

        def __array__(self, *args, **keywords):
            raise RuntimeError("poison")

    seen = []
    for name, array in (("good", jnp.float32(1.0)), ("bad", Poisoned()), ("also", jnp.float32(2.0))):
        resolver().submit(
            Draft(
                [array],
                lambda host, name=name: seen.append((name, float(host[0]))),
                lambda error, name=name: seen.append((name, str(error))),
            )
        )
    assert resolver().drain(10)
    assert seen == [("good", 1.0), ("bad", "poison"), ("also", 2.0)]


def test_histogram_of_a_tree_counts_what_is_not_finite(troubles):
    tree = {
        "dense": {"kernel": jnp.asarray([[1.0, 2.0], [jnp.nan, jnp.inf]]), "bias": jnp.zeros(3, jnp.bfloat16)},
        "host": np.array([1.0, -np.inf]),
        "empty": jnp.zeros((0,)),
        "ints": jnp.arange(10),
    }
    with started() as run:
        run.log_histogram("params", tree, step=4, bins=4)
    found = {e["name"]: e for e in journal_events(run.dir) if e["kind"] == "histogram"}
    assert set(found) == {
        "params/dense/kernel", "params/dense/bias", "params/host", "params/empty", "params/ints",
    }  # fmt: skip
    kernel = found["params/dense/kernel"]
    assert (sum(kernel["counts"]), kernel["nan"], kernel["posinf"], kernel["neginf"]) == (2, 1, 1, 0)
    assert (kernel["min"], kernel["max"], kernel["mean"], kernel["std"]) == (1.0, 2.0, 1.5, 0.5)
    assert found["params/host"]["neginf"] == 1
    assert sum(found["params/empty"]["counts"]) == 0
    assert sum(found["params/dense/bias"]["counts"]) == 3
    assert found["params/ints"]["counts"] == [3, 2, 3, 2] or sum(found["params/ints"]["counts"]) == 10


@pytest.mark.parametrize("delivery", ["inline", "thread"])
def test_bad_leaves_of_a_tree_cost_themselves(troubles, delivery):
    deleted = jnp.zeros(3)
    deleted.delete()
    tree = {
        "a": jnp.ones(3),
        "b": np.array(["x"]),
        "c": np.ones(3),
        "d": deleted,
        "e": jnp.ones(3) * 1j,
        "f": jnp.ones(2),
    }
    with started(delivery=delivery) as run:
        run.log_histogram("t", tree, step=0)
        # A step that is none costs all of them, and is said once.
        run.log_histogram("u", tree, step=0.5)
        assert run.health.dropped == {"invalid": 4}
    assert {e["name"] for e in journal_events(run.dir) if e["kind"] == "histogram"} == {"t/a", "t/c", "t/f"}


@pytest.mark.parametrize("delivery", ["inline", "thread"])
def test_values_that_were_deleted_are_named_alike(delivery):
    run = tracking.start_run("p", backends="local", delivery=delivery, strict=True)
    step, both = jnp.int32(3), jnp.zeros(2)
    step.delete()
    stacked = tracking.Stacked(["a", "b"], both)
    both.delete()
    for log in (lambda: run.log_scalars({"x": 1.0}, step=step), lambda: run.log_text("x", "y", step=step)):
        with pytest.raises(InvalidStepError, match="'step': .* was deleted"):
            log()
    with pytest.raises(InvalidValueError, match="'a': .* was deleted"):
        run.log_scalars(stacked, step=1)
    run.finish()


def test_device_histograms_equal_those_of_the_host():
    rng = np.random.default_rng(0)
    values = rng.normal(size=100_000).astype(np.float32)
    with started() as run:
        run.log_histogram("device", jnp.asarray(values), step=0)
        run.log_histogram("host", values, step=0)
        values[:] = 0
    found = {e["name"]: e for e in journal_events(run.dir) if e["kind"] == "histogram"}
    a, b = found["device"], found["host"]
    np.testing.assert_allclose(a["edges"], b["edges"], rtol=1e-6)
    assert np.abs(np.array(a["counts"]) - b["counts"]).sum() <= 20
    for key in ("min", "max", "mean", "std"):
        assert a[key] == pytest.approx(b[key], rel=1e-4, abs=1e-4)


def test_images_from_devices_and_hosts_are_what_they_were():
    rng = np.random.default_rng(0)
    floats = rng.random((4, 8, 8, 3)).astype(np.float32)
    bytes_ = rng.integers(0, 256, (8, 8), dtype=np.uint8)
    host = bytes_.copy()
    with started() as run:
        run.log_images(
            {
                "floats": jnp.asarray(floats),
                "bytes": jnp.asarray(bytes_),
                "host": host,
                "captioned": tracking.Image(jnp.asarray(floats[0]), caption="one"),
                "list": [jnp.asarray(bytes_), tracking.Image(bytes_, caption="two")],
            },
            step=jnp.int32(3),
        )
        run.log_images({"range": jnp.asarray(floats * 2 - 1)}, step=4, value_range=(-1, 1))
        host[:] = 0
    record = tracking.open_store("runs").run(run.id)
    expected = np.rint(floats * 255).astype(np.uint8)
    assert record.images("floats")[0][0] == 3
    for got, want in zip(record.images("floats")[0][1], expected, strict=True):
        np.testing.assert_array_equal(got.pixels, want)
    for name in ("bytes", "host"):
        np.testing.assert_array_equal(record.images(name)[0][1][0].pixels[..., 0], bytes_)
    assert [image.caption for image in record.images("list")[0][1]] == [None, "two"]
    assert record.images("captioned")[0][1][0].caption == "one"
    assert np.abs(record.images("range")[0][1][0].pixels.astype(int) - expected[0]).max() <= 1


def test_bad_images_from_a_device_are_counted(troubles):
    with started() as run:
        run.log_images(
            {"nan": jnp.full((2, 2), jnp.nan), "range": jnp.full((2, 2), 9.0), "fine": jnp.ones((2, 2))}, step=0
        )
        run.log_images({"chw": jnp.zeros((3, 32, 32))}, step=1)
    assert [list(e["images"]) for e in journal_events(run.dir) if e["kind"] == "images"] == [["fine"]]
    said = " ".join(message for _, message, _ in troubles)
    for remedy in ("nan_to_num", "value_range=(0, 255)", "transpose(1, 2, 0)"):
        assert remedy in said
    assert run.health.dropped == {"invalid": 3}


def test_strict_raises_late_errors_at_the_next_call_or_the_end(troubles):
    with pytest.raises(tracking.InvalidValueError, match="not finite"), started(strict=True) as run:
        run.log_images({"nan": jnp.full((2, 2), jnp.nan)}, step=0)
    run = started(strict=True)
    run.log_images({"nan": jnp.full((2, 2), jnp.nan)}, step=0)
    run.flush()
    with pytest.raises(tracking.InvalidValueError, match="not finite"):
        run.log_scalars({"x": 1.0}, step=1)
    run.finish()


def test_too_many_media_are_dropped_and_scalars_never(troubles, monkeypatch):
    monkeypatch.setattr("tracking_core.intake.resolver.MEDIA_LIMIT", 100_000)
    gate = threading.Event()
    original = tracking.Image.png

    def held(self):
        gate.wait(30)
        return original(self)

    monkeypatch.setattr(tracking.Image, "png", held)
    with started() as run:
        for step in range(10):
            run.log_images({"big": np.zeros((200, 200), np.uint8)}, step=step)
            run.log_scalars({"x": jnp.float32(step)}, step=step)
        gate.set()
    assert 1 <= len([e for e in journal_events(run.dir) if e["kind"] == "images"]) <= 3
    assert [row[2] for row in scalar_rows(run.dir)] == list(range(10))
    assert run.health.dropped["media"] >= 7


def test_too_many_pages_are_dropped(troubles, monkeypatch):
    monkeypatch.setattr("tracking_core.intake.resolver.MEDIA_LIMIT", 100_000)
    gate = threading.Event()
    original = MEDIA["html"].hide
    monkeypatch.setattr(type(MEDIA["html"]), "hide", lambda self, value: gate.wait(30) and original(value))
    with started(delivery="thread") as run:
        for step in range(10):
            run.log_html("page", "x" * 40_000, step=step)
        gate.set()
    assert len([e for e in journal_events(run.dir) if e["kind"] == "html"]) == 2
    assert run.health.dropped == {"media": 8}


@pytest.mark.system
def test_jax_debugging_modes(tmp_path):
    code = """
    import jax, jax.numpy as jnp
    jax.config.update("jax_debug_nans", True)
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    import tracking_core as tracking
    import tracking_core.intake.scalars as scalars, tracking_core.intake.sink as sink
    sink.is_ready_on_host, scalars.read_ready = lambda values: False, lambda named, values: None
    import numpy as np
    nan = jax.device_put(np.float32("nan"))
    with tracking.start_run("p", root="runs", strict=True) as run, jax.transfer_guard("disallow"):
        run.log_scalars({"nan": nan, "int": jax.device_put(np.int32(16777217)), "half": jax.device_put(np.float16(0.5))}, step=0)
        run.log_histogram("h", jax.device_put(np.array([np.nan, 1.0, 2.0], np.float32)), step=0)
        run.flush()
    """
    run_program(code, tmp_path)
    rows = {row[0]: row[3] for row in scalar_rows(only_run(tmp_path / "runs"))}
    assert np.isnan(rows.pop("nan"))
    assert rows == {"int": 16777217.0, "half": 0.5}


@pytest.mark.system
def test_x64(tmp_path):
    code = """
    import jax, jax.numpy as jnp
    jax.config.update("jax_enable_x64", True)
    import tracking_core as tracking
    import tracking_core.intake.scalars as scalars, tracking_core.intake.sink as sink
    sink.is_ready_on_host, scalars.read_ready = lambda values: False, lambda named, values: None
    with tracking.start_run("p", root="runs", strict=True) as run:
        run.log_scalars({"i": jnp.int64(2**53 + 1), "f": jax.device_put(__import__("numpy").float64(1 / 3)), "s": jnp.float32(0.1)}, step=jnp.int64(2**40))
        run.log_histogram("h", jnp.linspace(0.0, 1.0, 11), step=0, bins=2)
    """
    run_program(code, tmp_path)
    directory = only_run(tmp_path / "runs")
    (event,) = [e for e in journal_events(directory) if e["kind"] == "scalars"]
    assert event["values"]["i"] == 2**53 + 1
    assert event["values"]["f"] == 1 / 3
    assert event["step"] == 2**40


@pytest.mark.system
def test_eight_devices(tmp_path):
    code = """
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
    import tracking_core as tracking
    import tracking_core.intake.scalars as scalars, tracking_core.intake.sink as sink
    from tracking_core.on_device import arrays as device
    sink.is_ready_on_host, scalars.read_ready = lambda values: False, lambda named, values: None
    mesh = Mesh(np.array(jax.devices()), ("x",))
    assert len(jax.devices()) == 8
    whole = jax.device_put(jnp.float32(3.0), NamedSharding(mesh, P()))
    parts = jax.device_put(jnp.arange(16.0), NamedSharding(mesh, P("x")))
    others = {f"d{i}": jax.device_put(jnp.float32(i), d) for i, d in enumerate(jax.devices())}
    with tracking.start_run("p", root="runs", strict=True) as run:
        run.log_scalars({"whole": whole, "mean": parts.mean(), **others}, step=0)
        same = jax.device_put(jnp.arange(2.0), NamedSharding(mesh, P()))
        for step, at_hand in enumerate((lambda values: False, device.is_ready_on_host), 1):
            sink.is_ready_on_host = at_hand  # Scalars in one array alone ask it.
            run.log_scalars(tracking.Stacked([f"p{i}" for i in range(16)], parts), step=step)
            run.log_scalars(tracking.Stacked(["r0", "r1"], same), step=step)
        sink.is_ready_on_host = lambda values: False
        run.log_histogram("parts", parts, step=0, bins=4)
        run.log_images({"parts": parts.reshape(4, 4) / 16}, step=0)
    """
    run_program(code, tmp_path, XLA_FLAGS="--xla_force_host_platform_device_count=8")
    directory = only_run(tmp_path / "runs")
    stacked = [row for row in scalar_rows(directory) if row[2]]
    rows = {row[0]: row[3] for row in scalar_rows(directory) if not row[2]}
    names = [(f"p{i}", float(i)) for i in range(16)] + [("r0", 0.0), ("r1", 1.0)]
    assert stacked == [(name, "step", step, value) for step in (1, 2) for name, value in names]
    assert rows == {"whole": 3.0, "mean": 7.5, **{f"d{i}": float(i) for i in range(8)}}
    (histogram,) = [e for e in journal_events(directory) if e["kind"] == "histogram"]
    assert histogram["counts"] == [4, 4, 4, 4]


# ---------------------------------------------------------------- stacked arrays

NAMES = tuple(f"train/metric_{n}" for n in range(10))


@pytest.mark.parametrize("at_hand", [True, False])
@pytest.mark.parametrize("dtype", [*DTYPES, "numpy float32", "numpy int64", "numpy float64"])
def test_a_stacked_array_is_exact(monkeypatch, dtype, at_hand):
    if not at_hand:
        never_at_hand(monkeypatch)
    numbers = [0, 1, 1, 0]
    if dtype in {"int32", "uint32"}:
        numbers = [2**24 + 1, 2**31 - 1, 7, 0]
    elif dtype == "numpy int64":
        numbers = [2**53 + 1, -(2**63), 7, 0]
    elif "float" in dtype:
        numbers = [0.1, float("nan"), -1.5, 1.0]
        if dtype != "float8_e4m3fn":
            numbers[3] = float("inf")
    if dtype.startswith("numpy "):
        array = np.array(numbers, dtype.removeprefix("numpy "))
    else:
        array = jnp.asarray(np.asarray(numbers).astype(jnp.dtype(dtype)))
    with started(strict=True) as run:
        run.log_scalars(tracking.Stacked(["a", "b", "c", "d"], array), step=jnp.int32(3))
    rows = {row[0]: row[1:] for row in scalar_rows(run.dir)}
    assert {row[:2] for row in rows.values()} == {("step", 3)}
    got = [rows[name][2] for name in "abcd"]
    if "int" in dtype:
        # What is read back as a series is float64; the journal has the integers.
        (event,) = [event for event in journal_events(run.dir) if event["kind"] == "scalars"]
        assert list(event["values"].values()) == [int(number) for number in np.asarray(array).tolist()]
    else:
        np.testing.assert_array_equal(got, np.asarray(array).astype(np.float64))


@pytest.mark.parametrize("dtype", ["float32", "uint32", "int32", "uint8"])
@pytest.mark.parametrize("at_hand", [True, False])
def test_two_hundred_of_two_hundred_stacked_under_donation(monkeypatch, dtype, at_hand):
    if not at_hand:
        never_at_hand(monkeypatch)
    change = jax.jit(lambda x, n: (x + jnp.ones((), x.dtype), n + 1), donate_argnums=(0, 1))
    array, n = jnp.arange(10).astype(dtype), jnp.int32(0)
    with started(strict=True) as run:
        for _ in range(200):
            logged = array
            run.log_scalars(tracking.Stacked(NAMES, array), step=n)
            array, n = change(array, n)
            assert logged.is_deleted(), "the donation was not possible: a view or a reference is held"
    wanted = [(name, "step", step, float(step + place)) for step in range(200) for place, name in enumerate(NAMES)]
    assert [(*row[:3], float(row[3])) for row in scalar_rows(run.dir)] == wanted


def test_a_stacked_array_is_one_event_and_one_transfer(monkeypatch):
    never_at_hand(monkeypatch)
    taken = []
    with started() as run:
        monkeypatch.setattr(resolver(), "submit", taken.append)
        run.log_scalars(tracking.Stacked(NAMES, jnp.arange(10.0)), step=1)
        monkeypatch.undo()
        assert [len(draft.arrays) for draft in taken] == [1]
        resolver().submit(taken[0])
    assert [event["values"] for event in journal_events(run.dir) if event["kind"] == "scalars"] == [
        dict(zip(NAMES, map(float, range(10)), strict=True))
    ]


def test_a_stacked_array_is_a_mapping_for_any_tracker():
    stacked = tracking.Stacked(["b", "a"], jnp.array([1.0, 2.0]))
    assert list(stacked) == ["b", "a"]
    assert len(stacked) == 2
    assert float(stacked["a"]) == 2.0
    assert "c" not in stacked
    from tracking_core.values import to_scalars

    assert to_scalars(stacked) == {"b": 1.0, "a": 2.0}
    assert to_scalars(tracking.Stacked(["x"], np.array([3], np.int8))) == {"x": 3}


@pytest.mark.parametrize(
    ("names", "array", "text"),
    [
        (["a"], np.zeros(2), "1 name needs an array of shape"),
        (["a", "b"], jnp.zeros((2, 1)), "2 names need an array of shape"),
        (["a"], np.float32(1), "1 name needs an array of shape"),
        (["a", "b", "a"], np.zeros(3), "'a' appears twice"),
        (["a", 1], np.zeros(2), "must be a str"),
        (["a", ["b"]], np.zeros(2), "cannot be read"),
        ("ab", np.zeros(2), "expected a sequence of names"),
        (3, np.zeros(2), "expected a sequence of names"),
        (map(str, itertools.count()), np.zeros(2), "may have no end"),
        (["a"], "x", "Stacked"),
    ],
)
def test_stacks_that_do_not_fit_are_refused(names, array, text):
    with pytest.raises(tracking.InvalidValueError, match=text):
        tracking.Stacked(names, array)


def test_bad_stacked_arrays_are_dropped_and_counted(troubles):
    deleted = jnp.zeros(2)
    bad = tracking.Stacked(["a", "b"], deleted)
    deleted.delete()
    with started() as run:
        run.log_scalars(bad, step=0)
        run.log_scalars(tracking.Stacked(["a", "b"], jnp.zeros(2, jnp.complex64)), step=0)
        run.log_scalars(tracking.Stacked(["a", "b"], np.array(["x", "y"])), step=0)
        jax.jit(lambda x: run.log_scalars(tracking.Stacked(["a", "b"], x), step=0))(jnp.zeros(2))
        assert sum(run.health.dropped.values()) >= 4
        run.log_scalars(tracking.Stacked([], np.zeros(0)), step=0)
        run.log_scalars(tracking.Stacked(["a", "b"], jnp.ones(2)), step=1)
    assert scalar_rows(run.dir) == [("a", "step", 1, 1.0), ("b", "step", 1, 1.0)]


def test_one_bad_value_costs_its_own_key_in_a_mixture(troubles):
    class Wild(Exception):
        def __str__(self):
            raise ValueError("no text")

    class Hostile:
        def __getattr__(self, name):
            raise Wild

    with started() as run:
        run.log({"first": 1.0, "bad": Hostile(), "text": "t", "last": 2.0, "deep": {"worse": Hostile(), "x": 3.0}})
        run.log_table("endless", {"x": itertools.count()}, step=0)
        assert run.health.dropped == {"invalid": 3}
    assert [(row[0], row[3]) for row in scalar_rows(run.dir)] == [("first", 1.0), ("last", 2.0), ("deep/x", 3.0)]


def test_histograms_of_mappings_that_jax_does_not_know():
    import types

    with started(strict=True) as run:
        run.log_histogram("h", {"a": types.MappingProxyType({"b": np.arange(4.0), "c": jnp.arange(4.0)})}, step=0)
    found = [event["name"] for event in journal_events(run.dir) if event["kind"] == "histogram"]
    assert sorted(found) == ["h/a/b", "h/a/c"]


def test_a_finaliser_that_logs_while_threads_are_started_starts_none_twice(monkeypatch):
    """Garbage is collected wherever something is allocated, also in the middle of starting a thread."""
    from tracking_core.intake import resolver as module

    made, written, starts = module.Resolver(), [], []

    def draft(name):
        return module.Draft([], lambda host: written.append(name), lambda error: written.append(error), encode=True)

    start = module._start_once

    def collect(thread):
        starts.append(thread)
        if len(starts) < 3:
            made.submit(draft("of a finaliser"))
        start(thread)

    monkeypatch.setattr(module, "_start_once", collect)
    made.submit(draft("of a call"))
    assert made.drain(60)
    assert starts == list(made._threads)
    assert written == ["of a finaliser", "of a finaliser", "of a call"]


def test_threads_that_log_first_at_the_same_time_start_none_twice(monkeypatch):
    from tracking_core.intake import resolver as module

    made, written, starts = module.Resolver(), [], []
    begun, go_on = threading.Event(), threading.Event()
    start = module._start_once

    def slowly(thread):
        starts.append(thread)
        begun.set()
        assert go_on.wait(60)
        start(thread)

    def submit(name):
        made.submit(module.Draft([], lambda host: written.append(name), written.append, encode=True))

    monkeypatch.setattr(module, "_start_once", slowly)
    first = threading.Thread(target=submit, args=("first",))
    first.start()
    assert begun.wait(60)
    submit("second")
    go_on.set()
    first.join(60)
    assert made.drain(60)
    assert (written, starts) == (["second", "first"], list(made._threads))
