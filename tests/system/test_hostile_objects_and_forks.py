"""Whatever object comes, and wherever it comes from: no call raises or waits, and forked children keep to themselves."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import itertools
import json
import os
import signal

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings

import tracking_core as tracking
from tests.support.programs import journal_events, only_run, scalar_rows
from tests.support.programs import run as run_program

# ---------------------------------------------------------------- hostile objects

ERRORS = [ValueError, RuntimeError, KeyError, RecursionError, MemoryError, StopIteration, AttributeError, OSError]
GARBAGE = [None, "text", b"\xff", -1, 2**200, float("nan"), object(), (), [[]], NotImplemented]
METHODS = [
    "__float__", "__int__", "__index__", "__bool__", "__complex__", "__array__", "__array_interface__", "__len__",
    "__iter__", "__next__", "__getitem__", "__contains__", "__repr__", "__str__", "__format__", "__bytes__", "__eq__",
    "__hash__", "__lt__", "__neg__", "__fspath__", "__getattr__", "__reduce_ex__", "__deepcopy__", "__dlpack__",
    "__dataclass_fields__", "__jax_array__", "keys", "items", "values", "dtype", "shape", "ndim", "size", "tolist",
    "item", "copy", "savefig", "to_json", "to_numpy", "read", "pixels", "png", "columns", "nbytes", "is_deleted",
    "copy_to_host_async", "addressable_data", "model_dump", "to_dict",
]  # fmt: skip
BASES = [object, dict, list, tuple, str, bytes, int, float, np.float32, np.ndarray]


class Hostile(Exception):
    """Raised by what is asked of a hostile object; its own text cannot be had either."""

    def __str__(self):
        raise ValueError("no text")

    __repr__ = __str__


def hostile(base, methods, how, garbage):
    """An object of a class of its own, some of whose methods and attributes raise or return nonsense."""

    def misbehave(*_args, **_keywords):
        if how is None:
            return garbage
        raise how("hostile")

    body = dict.fromkeys(methods, misbehave)
    for name in methods:
        if not name.startswith("__") or name in {"__array_interface__", "__dataclass_fields__"}:
            body[name] = property(misbehave) if how is not None or name in {"dtype", "shape"} else garbage
    with contextlib.suppress(Exception):
        kind = type("Awkward", (base,), body)
        return base.__new__(kind, (2,)) if base is np.ndarray else base.__new__(kind)
    return type("Awkward", (), {"__float__": misbehave})()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a hostile object is made: what is drawn must have a `repr`."""

    base: type
    methods: frozenset
    how: type | None
    garbage: object


def made(tree):
    """A tree of values with its recipes carried out."""
    if isinstance(tree, Recipe):
        return hostile(tree.base, sorted(tree.methods), tree.how, tree.garbage)
    if type(tree) is list:
        return [made(part) for part in tree]
    if type(tree) is dict:
        return {key: made(part) for key, part in tree.items()}
    return tree


hostiles = st.builds(
    Recipe,
    st.sampled_from(BASES),
    st.frozensets(st.sampled_from(METHODS), max_size=12),
    st.sampled_from([None, Hostile, *ERRORS]),
    st.sampled_from(GARBAGE),
)
#: Things that do exist, in places where they do not belong.
odd = st.one_of(
    hostiles,
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(),
    st.complex_numbers(),
    st.binary(max_size=8),
    st.text(st.characters(codec=None, categories=None), max_size=8),
    st.sampled_from(
        [
            np.zeros(0), np.zeros((2, 3)), np.array("text"), np.array([None]), np.datetime64("NaT"),
            np.zeros(3, "V4"), np.ma.masked, np.array([1 + 2j]), np.zeros((1,) * 30), type, len, Ellipsis, object(),
            range(3), {1, 2}, {"a": {"b": object()}}, {None: 1}, {"x": "text"}, lambda: 1,
            np.zeros(3, [("a", "f4")]), np.float64("inf"), np.ones((2, 2, 4), np.uint8), np.full((2, 2), np.nan),
        ]
    ),
)  # fmt: skip
values = st.recursive(
    odd,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=4,
)
mappings = st.dictionaries(st.text(max_size=4), values, max_size=3) | values

METHOD_CALLS = {
    "log_scalars": lambda run, a, b, when: run.log_scalars(a, **when),
    "log_images": lambda run, a, b, when: run.log_images(a, **when, value_range=b),
    "log_histogram": lambda run, a, b, when: run.log_histogram(b, a, **when),
    "log_histogram_bins": lambda run, a, b, when: run.log_histogram("h", [1.0, 2.0], **when, bins=a),
    "log_table": lambda run, a, b, when: run.log_table(b, a, **when),
    "log_video": lambda run, a, b, when: run.log_video(b, a, **when),
    "log_video_fps": lambda run, a, b, when: run.log_video("v", np.zeros((2, 2, 2, 3), np.uint8), **when, fps=a),
    "log_audio": lambda run, a, b, when: run.log_audio(b, a, **when),
    "log_audio_rate": lambda run, a, b, when: run.log_audio("a", np.zeros(8, np.float32), **when, sample_rate=a),
    "log_text": lambda run, a, b, when: run.log_text(b, a, **when),
    "log_figure": lambda run, a, b, when: run.log_figure(b, a, **when),
    "log": lambda run, a, b, when: run.log(a, b),
    "log_config": lambda run, a, b, when: run.log_config(a),
    "log_summary": lambda run, a, b, when: run.log_summary(a),
    "log_alert": lambda run, a, b, when: run.log_alert(a, b, level=b),
    # A str would be a path, and a real one would be stored.
    "log_artifact": lambda run, a, b, when: run.log_artifact(
        None if isinstance(a, (str, bytes)) else a, name=b, type=b, metadata=b, aliases=b
    ),
    "use_artifact": lambda run, a, b, when: run.use_artifact(a),
}


class TooLong(BaseException):
    """A call did not return."""


@contextlib.contextmanager
def at_most(seconds):
    """Interrupt what takes longer: it would have held up the training."""

    def ring(*_):
        raise TooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def campaign(examples):
    """Call every method with whatever comes; a good row after each must be in the journal."""
    run = tracking.start_run("p", root="runs")
    good = itertools.count()
    last = [0]

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(
        st.sampled_from(sorted(METHOD_CALLS)),
        mappings,
        values,
        st.fixed_dictionaries({}, optional={"step": values, "step_axis": values, "wall_time": values}),
    )
    @example("log_scalars", {"x": 1.0}, None, {"wall_time": float("nan")})
    @example("log_scalars", [("x", 1.0)], None, {})
    def call(method, a, b, when):
        with at_most(20):
            METHOD_CALLS[method](run, made(a), made(b), made(when))
            last[0] = next(good)
            run.log_scalars({"good": float(last[0])}, step=last[0], step_axis="good")

    call()
    report = run.finish()
    rows = [row for row in scalar_rows(run.dir) if row[0] == "good"]
    assert rows == [("good", "good", step, float(step)) for step in range(last[0] + 1)]
    assert report["local"].dropped > examples // 10
    assert report["local"].failed == 0
    record = tracking.open_store("runs").run(run.id)
    assert record.damage() == []
    # What was taken in can be read again.
    record.records()
    record.summary()
    events = journal_events(run.dir)
    # A long journal is in a part by now, whose rows stand for whole lines.
    lows = [event["low"] for event in events if "low" in event]
    assert max(lows) == max(event["seq"] for event in events) + 1


def test_whatever_object_comes(troubles):
    campaign(600)


@pytest.mark.stress
def test_whatever_objects_come(troubles):
    campaign(20_000)


class EndlessList(list):
    """Says that it has two parts, and gives one after another for ever."""

    def __init__(self):
        super().__init__([0, 0])

    def __iter__(self):
        return itertools.count()


class EndlessSequence(collections.abc.Sequence):
    """Has every index there is; its length is what it is told."""

    def __init__(self, length, part):
        self.length, self.part = length, part

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return self.part


class EndlessMapping(collections.abc.Mapping):
    """Has two keys, and no end of items."""

    def __len__(self):
        return 2

    def __iter__(self):
        return map(str, itertools.count())

    def __getitem__(self, key):
        return 1.0


ENDLESS = {
    "value": itertools.count,
    "column": lambda: {"x": itertools.count()},
    "list": EndlessList,
    "list in a list": lambda: [EndlessList(), EndlessList()],
    "sequence": lambda: EndlessSequence(2, 1.0),
    "long sequence": lambda: EndlessSequence(2**60, 1.0),
    "range": lambda: range(2**60),
    "rows": lambda: EndlessSequence(2, {"x": 1.0}),
    "images": lambda: {"x": EndlessList()},
    "mapping": EndlessMapping,
    "mapping in a mapping": lambda: {"x": EndlessMapping()},
    "row": lambda: [EndlessMapping()],
}
#: What else is unbounded is turned into plain values elsewhere.
FACTS = {"log_config", "log_summary", "log_artifact"}


@pytest.mark.parametrize("endless", list(ENDLESS))
def test_what_never_ends_does_not_hold_up_the_training(troubles, endless):
    thing = ENDLESS[endless]

    with tracking.start_run("p", root="runs") as run:
        for method, call in sorted(METHOD_CALLS.items()):
            try:
                if method in FACTS and endless != "value":
                    continue
                with at_most(8):
                    call(run, thing(), "name", {"step": 0})
            except TooLong:
                pytest.fail(f"{method} did not return")
        run.log_scalars({"good": 1.0}, step=0)
    assert ("good", "step", 0, 1.0) in scalar_rows(run.dir)


def test_one_bad_value_costs_its_own_key(troubles):
    bad = {f"bad{n}": hostile(object, [method], Hostile, None) for n, method in enumerate(METHODS)}
    with tracking.start_run("p", root="runs") as run:
        run.log_scalars({"first": 1.0, **bad, "last": 2.0}, step=0)
    rows = scalar_rows(run.dir)
    for row in (("first", "step", 0, 1.0), ("last", "step", 0, 2.0)):
        assert row in rows


def test_interrupting_the_training_interrupts_it():
    """Ctrl-C inside a call is for the training, not for us."""

    class Interrupted:
        def __float__(self):
            raise KeyboardInterrupt

        __array__ = __float__

    with tracking.start_run("p", root="runs") as run:
        with pytest.raises(KeyboardInterrupt):
            run.log_scalars({"x": Interrupted()}, step=0)
        run.log_scalars({"x": 1.0}, step=1)
    assert ("x", "step", 1, 1.0) in scalar_rows(run.dir)


# ---------------------------------------------------------------- forks

#: A training that forks in every way, with values that wait for a device in the parent, and with a target.
FORKS = """
import multiprocessing, os, sys, threading, warnings
warnings.simplefilter("ignore")
import tracking_core as tracking
{imports}

def child(run, name):
    # In a `with`, as a data loader's worker would inherit it: its end is not the end of the run.
    with run:
        for step in range(40):
            run.log_scalars({{name: float(step)}}, step=step)
            run.log_histogram(name + "/h", [1.0, 2.0], step=step)
    assert run.finish().status == "running"
    assert run.flush(1.0) is not None
    assert run.health.recorded >= 40
    run.should_stop, run.url()

def elsewhere(name):
    # A process that shares nothing with the training: no run, and none is made.
    assert tracking.current_run() is None

if __name__ == "__main__":
    run = tracking.start_run("p", root="runs", name="n", backends={backend!r}, delivery={delivery!r})
    step = 0
    def log(count):
        global step
        for _ in range(count):
            run.log_scalars({{"parent": {value}}}, step=step)
            step += 1
    log(30)
    # Other threads log and hold whatever they hold at the moment of the fork.
    stop = threading.Event()
    def busy(name):
        n = 0
        while not stop.is_set():
            run.log_scalars({{name: float(n)}}, step=n)
            n += 1
            stop.wait(0.001)
    threads = [threading.Thread(target=busy, args=(f"busy{{i}}",)) for i in range(2)]
    for t in threads: t.start()
    pids = []
    for n in range(4):
        log(5)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                child(run, f"fork{{n}}")
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    log(5)
    for pid in pids:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    process = multiprocessing.get_context("fork").Process(target=child, args=(run, "mp"))
    process.start(); process.join(60)
    assert process.exitcode == 0, process.exitcode
    process = multiprocessing.get_context("forkserver").Process(target=elsewhere, args=("server",))
    process.start(); process.join(60)
    assert process.exitcode == 0, process.exitcode
    # A pool, as data loaders have it; its workers are killed, not ended.
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert sorted(pool.map(abs, range(-4, 0))) == [1, 2, 3, 4]
    stop.set()
    for t in threads: t.join()
    log(5)
    report = run.finish()
    print(report, step)
    assert report.ok, str(report)
"""


def check_forks(directory, steps):
    events, rows = journal_events(directory), scalar_rows(directory)
    children = [f"fork{n}" for n in range(4)] + ["mp"]
    assert [row[2] for row in rows if row[0] == "parent"] == list(range(steps))
    assert [row[3] for row in rows if row[0] == "parent"] == [float(n) for n in range(steps)]
    for name in ("busy0", "busy1"):
        found = [row[2] for row in rows if row[0] == name]
        assert found == list(range(len(found)))
        assert found
    files = {}
    for event in events:
        for name in event.get("values", {}):
            files.setdefault(name, set()).add(event["writer_file"])
    for name in children:
        assert [row[2] for row in rows if row[0] == name] == list(range(40))
        assert [e["step"] for e in events if e["kind"] == "histogram" and e["name"] == f"{name}/h"] == list(range(40))
    # Every child has a file of its own, and nobody else writes to it.
    owners = [files[name] for name in [*children, "parent"]]
    assert all(len(owner) == 1 for owner in owners)
    assert len(set.union(*owners)) == len(owners)
    assert files["busy0"] == files["busy1"] == files["parent"]
    assert [event["kind"] for event in events].count("finish") == 1
    # A writer's numbers are its own, and none is there twice.
    for file in {event["writer_file"] for event in events}:
        numbers = [event["seq"] for event in events if event["writer_file"] == file and event["seq"]]
        assert len(numbers) == len(set(numbers))
    assert tracking.open_store("runs").runs()[0].status == "finished"
    return rows


@pytest.mark.parametrize("delivery", ["process", "thread"])
def test_forks_with_host_values(tmp_path, delivery):
    code = FORKS.format(imports="", value="float(step)", backend=f"tensorboard:{tmp_path}/tb", delivery=delivery)
    (tmp_path / "forks.py").write_text(code)
    out, _ = run_program("import runpy; runpy.run_path('forks.py', run_name='__main__')", tmp_path)
    directory = only_run(tmp_path / "runs")
    rows = check_forks(directory, int(out.split()[-1]))
    # The target got every row of every writer once.
    from tracking_core.backends.plugins import find_adapter

    run_id = directory.name
    info = tracking.RunInfo(id=run_id, name="n", project="p", dir=directory)
    got = [
        (r.name, r.axis, r.step, r.value) for r in find_adapter("tensorboard").harness().read(tmp_path, info).scalars
    ]
    assert sorted(got) == sorted(rows)


def test_forks_with_device_values_pending(tmp_path):
    imports = """
import jax, jax.numpy as jnp
import tracking_core.intake.scalars as scalars, tracking_core.intake.sink as sink
sink.is_ready_on_host, scalars.read_ready = lambda values: False, lambda named, values: None
"""
    code = FORKS.format(imports=imports, value="jnp.float32(step)", backend="local", delivery="process")
    (tmp_path / "forks.py").write_text(code)
    out, _ = run_program("import runpy; runpy.run_path('forks.py', run_name='__main__')", tmp_path)
    check_forks(only_run(tmp_path / "runs"), int(out.split()[-1]))


def test_a_forked_child_is_terminated_as_ever(tmp_path):
    """Our handler of SIGTERM stays with the training: a worker at a lock would never come to run it."""
    code = """
    import os, signal
    import tracking_core as tracking
    ours = []
    with tracking.start_run("p", root="runs") as run:
        ours.append(signal.getsignal(signal.SIGTERM))
        pid = os.fork()
        if pid == 0:
            os._exit(0 if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert signal.getsignal(signal.SIGTERM) is ours[0] is not signal.SIG_DFL
    mine = lambda *_: None
    signal.signal(signal.SIGTERM, mine)
    with tracking.start_run("p", root="runs") as run:
        pid = os.fork()
        if pid == 0:
            os._exit(0 if signal.getsignal(signal.SIGTERM) is mine else 1)
        assert os.waitpid(pid, 0)[1] == 0
    """
    run_program(code, tmp_path)


def test_a_child_that_outlives_its_parent_does_not_keep_the_deliverer(tmp_path):
    """The deliverer sees the end of the training, although a forked child holds what the training held open."""
    code = """
    import json, os, time
    import tracking_core as tracking
    from tracking_core.delivery.process.client import deliverer
    run = tracking.start_run("p", root="runs", backends="tensorboard:./tb")
    run.flush()
    pid = os.fork()
    if pid == 0:
        os.close(1); os.close(2)
        run.log_scalars({"child": 1.0}, step=0)
        time.sleep(60)
        os._exit(0)
    print(json.dumps([pid, deliverer().process.pid]), flush=True)
    os._exit(0)
    """
    out, _ = run_program(code, tmp_path)
    child, server = json.loads(out)
    try:
        wait_for_end(server)
        os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)


def wait_for_end(pid, seconds=40):
    """Wait until a process that is nobody's child here has ended."""
    import time

    from tracking_core.base.processes import process_start

    deadline = time.monotonic() + seconds
    while process_start(pid) is not None:
        assert time.monotonic() < deadline, f"process {pid} does not end"
        time.sleep(0.05)
