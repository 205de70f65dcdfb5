"""Many threads and processes at once, and calls from places where nothing may be waited for."""

from __future__ import annotations

import pytest

import tracking_core as tracking
from tests.support.programs import journal_events, only_run, run, scalar_rows, start

WATCHDOG = """
import faulthandler, os, signal, sys, threading
faulthandler.dump_traceback_later(60, exit=True)
import tracking_core as tracking
"""
"""A program that hangs says where, and ends."""

PROCESS = """
import threading
import tracking_core as tracking

threads, steps = {threads}, {steps}
with tracking.start_run("p", root="runs", run_id="process-{index}", delivery="thread") as run:
    begun = threading.Barrier(threads)

    def work(name):
        begun.wait()
        for step in range(steps):
            run.log_scalars({{name: float(step), "all": float(step)}}, step=step)

    workers = [threading.Thread(target=work, args=(f"t{{index}}",)) for index in range(threads)]
    for worker in workers: worker.start()
    for worker in workers: worker.join()
"""


@pytest.mark.parametrize(
    ("processes", "threads", "steps"),
    [pytest.param(3, 8, 200, id="short"), pytest.param(8, 8, 5000, id="long", marks=pytest.mark.stress)],
)
def test_threads_of_processes_under_one_root(tmp_path, processes, threads, steps):
    running = [start(PROCESS.format(threads=threads, steps=steps, index=i), tmp_path) for i in range(processes)]
    for process in running:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    store = tracking.open_store(tmp_path / "runs")
    assert {record.id: record.status for record in store.runs()} == {
        f"process-{i}": "finished" for i in range(processes)
    }
    for index in range(processes):
        run_dir = tmp_path / "runs" / "p" / f"process-{index}"
        events = journal_events(run_dir)
        numbers = [event["seq"] for event in events if event["kind"] != "segment"]
        assert sorted(numbers) == list(range(1, len(numbers) + 1))
        rows = scalar_rows(run_dir)
        for thread in range(threads):
            assert [row[2:] for row in rows if row[0] == f"t{thread}"] == [(s, float(s)) for s in range(steps)]
        assert len(rows) == 2 * threads * steps
        # And our own reader agrees.
        assert len(store.run(f"process-{index}").scalars("all", raw=True).value) == threads * steps


def test_one_run_of_many_processes(tmp_path):
    """Processes that continue one run write side by side, each its own journal."""
    code = """
import sys
import tracking_core as tracking
index = {index}
run = tracking.start_run("p", root="runs", run_id="r", resume="allow", delivery="thread")
for step in range(300):
    run.log_scalars({{f"p{{index}}": float(step)}}, step=step)
run.finish()
"""
    running = [start(code.format(index=index), tmp_path) for index in range(4)]
    for process in running:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    rows = scalar_rows(only_run(tmp_path / "runs"))
    for index in range(4):
        assert [row[2] for row in rows if row[0] == f"p{index}"] == list(range(300))
    assert len(rows) == 1200


DEVICE = "import jax\ndevice = jax.numpy.float32(3.0)\n"


@pytest.mark.parametrize("kind", ["host", "device", "image"])
def test_logging_from_a_signal_handler(tmp_path, kind):
    value = {
        "host": 'run.log_scalars({"signal": float(count)}, step=count)',
        "device": 'run.log_scalars({"signal": device}, step=count)',
        "image": 'run.log_images({"signal": pixels}, step=count)',
    }[kind]
    code = f"""{WATCHDOG}
import numpy as np
{DEVICE if kind == "device" else ""}
pixels = np.zeros((4, 4), np.uint8)
count = 0

def handler(number, frame):
    global count
    {value}
    count += 1
    signal.setitimer(signal.ITIMER_REAL, 0.0005)

with tracking.start_run("p", root="runs", backends="tensorboard:./tb") as run:
    run.log_scalars({{"main": 0.0}}, step=0)
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005)
    step = 0
    while count < 200 or step < 1500:
        step += 1
        run.log_scalars({{"main": float(step), "bad": object()}}, step=step)
        if step % 50 == 0:
            run.log_histogram("h", np.arange(8.0), step=step)
            run.log_images({{"i": pixels}}, step=step)
            run.log_text("t", "text", step=step)
            run.health, run.should_stop
            run.log_config({{"step": step}})
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    print(step, count)
"""
    out, err = run(code, tmp_path)
    steps, count = map(int, out.split())
    events = journal_events(only_run(tmp_path / "runs"))
    assert [e["step"] for e in events if "main" in e.get("values", {})] == list(range(steps + 1))
    if kind == "image":
        found = [e["step"] for e in events if e["kind"] == "images" and "signal" in str(e)]
    else:
        found = [e["step"] for e in events if "signal" in e.get("values", {})]
    assert found == list(range(count))


def test_logging_from_finalisers(tmp_path):
    code = f"""{WATCHDOG}
import gc, random
import numpy as np
made = 0

class Logs:
    def __init__(self):
        global made
        self.number, made = made, made + 1
        # Only the collector ends it: at a moment that nobody chooses, in the middle of anything that allocates.
        self.itself = self
    def __del__(self):
        run.log_scalars({{"finaliser": float(self.number)}}, step=self.number)
        run.log_text("said", "by a finaliser", step=self.number)

gc.set_threshold(20, 2, 2)
with tracking.start_run("p", root="runs", backends="tensorboard:./tb") as run:
    def work(name):
        for step in range(200):
            Logs()
            run.log_scalars({{name: float(step)}}, step=step)
            run.log_histogram(f"{{name}}.h", np.arange(4.0), step=step)
            run.log_images({{f"{{name}}.i": np.zeros((2, 2), np.uint8)}}, step=step)
    threads = [threading.Thread(target=work, args=(f"t{{i}}",)) for i in range(3)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    gc.collect()
print(made)
"""
    out, err = run(code, tmp_path)
    rows = scalar_rows(only_run(tmp_path / "runs"))
    assert sorted(row[2] for row in rows if row[0] == "finaliser") == list(range(int(out)))
    for index in range(3):
        assert [row[2] for row in rows if row[0] == f"t{index}"] == list(range(200))
    assert "Exception ignored" not in err, err


def test_logging_from_a_logging_handler(tmp_path):
    """A handler that records every message of every library, tracking's own warnings included."""
    code = f"""{WATCHDOG}
import logging

class Records(logging.Handler):
    def emit(self, record):
        run.log_text("log", record.getMessage(), step=0)
        run.log_scalars({{"messages": 1.0, "refused": object()}}, step=0)

run = tracking.start_run("p", root="runs", backends="tensorboard:./tb")
logging.getLogger().addHandler(Records())
def work(name):
    for step in range(100):
        logging.getLogger(name).warning("message %d of %s", step, name)
        run.log_scalars({{name: object(), name + ".ok": 1.0}}, step=step)
threads = [threading.Thread(target=work, args=(f"t{{i}}",)) for i in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
run.finish()
print(run.health.dropped)
"""
    out, _ = run(code, tmp_path)
    run_dir = only_run(tmp_path / "runs")
    texts = [event for event in journal_events(run_dir) if event["kind"] == "text"]
    said = {event["text"] if "text" in event else str(event) for event in texts}
    for index in range(4):
        assert sum(1 for step in range(100) if any(f"message {step} of t{index}" in text for text in said)) == 100
    assert sum(1 for row in scalar_rows(run_dir) if row[0].endswith(".ok")) == 400
    assert any("not recorded" in text for text in said)
    assert "invalid" in out


def test_a_run_that_another_thread_is_ending_is_waited_for(tmp_path):
    """A thread that dies with the program, as ours do, in which a finaliser happened to run."""
    code = f"""{WATCHDOG}
import time
from tracking_core.intake import Recorder
run = tracking.start_run("p", root="runs", backends="local")
begun = threading.Event()
end = Recorder.end
def slowly(*arguments):
    begun.set()
    time.sleep(0.5)
    end(*arguments)
Recorder.end = slowly
threading.Thread(target=lambda: run.finish("preempted"), daemon=True).start()
begun.wait()
"""
    run(code, tmp_path)
    (record,) = tracking.open_store(tmp_path / "runs").runs()
    assert record.status == "preempted"


@pytest.mark.parametrize("where", ["handler", "finaliser"])
def test_finishing_from_within_a_call(tmp_path, where):
    """Ending a run in a handler, or a finaliser, in the middle of whatever the training was doing."""
    code = f"""{WATCHDOG}
import gc
import numpy as np
if {where!r} == "handler":
    def handler(number, frame):
        run.finish("preempted")
        sys.exit(0)
    signal.signal(signal.SIGALRM, handler)
else:
    class Ends:
        def __init__(self):
            self.itself = self
        def __del__(self):
            run.finish("preempted")
run = tracking.start_run("p", root="runs", backends="tensorboard:./tb")
run.flush()
if {where!r} == "handler":
    signal.setitimer(signal.ITIMER_REAL, 0.05)
else:
    Ends()
step = 0
while run.status == "running":
    run.log_scalars({{"x": float(step)}}, step=step)
    run.log_images({{"i": np.zeros((2, 2), np.uint8)}}, step=step)
    step += 1
    if step > 100 and {where!r} == "finaliser":
        gc.collect()
"""
    run(code, tmp_path)
    (record,) = tracking.open_store(tmp_path / "runs").runs()
    assert record.status == "preempted"
    steps = [row[2] for row in scalar_rows(only_run(tmp_path / "runs"))]
    assert steps == list(range(len(steps)))


def test_finishing_from_a_handler_while_finishing(tmp_path):
    code = f"""{WATCHDOG.replace("60", "6")}
inside = threading.Event()

class Slow:
    def log_scalars(self, scalars, *, step, step_axis="step", wall_time=None):
        inside.set()
        go.wait(30)
    log_images = log_histogram = log_artifact = log_scalars
    def finish(self, status="finished", *, error=None):
        pass

go = threading.Event()

def handler(number, frame):
    run.finish("preempted")
    go.set()

signal.signal(signal.SIGALRM, handler)
run = tracking.start_run("p", root="runs", backends=[Slow()])
run.log_scalars({{"x": 1.0}}, step=0)
inside.wait()
signal.setitimer(signal.ITIMER_REAL, 0.2)
assert run.finish().ok
"""
    run(code, tmp_path)
    assert tracking.open_store(tmp_path / "runs").runs()[0].status == "finished"
