"""However a training ends, what was acknowledged is in the journal, and nothing that it started stays behind."""

from __future__ import annotations

import secrets

import pytest

import tracking_core as tracking
from tests.support.processes import MARK, marked, wait_until_gone
from tests.support.programs import journal_events, only_run, run, scalar_rows, start
from tracking_core.backends.plugins import find_adapter

STEPS = 200
BEGIN = """
import atexit, os, signal, sys, threading, weakref
import tracking_core as tracking

def acknowledge(text):
    os.write(1, f"{text}\\n".encode())

before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
"""
TRAIN = f"""
run = tracking.start_run("p", root="runs", run_id="r", backends="tensorboard:./tb")
for step in range({STEPS}):
    run.log_scalars({{"x": float(step)}}, step=step)
    acknowledge(step)
"""


@pytest.fixture
def mark():
    """What the processes of one program carry; at the end none of them is left."""
    word = secrets.token_hex(8)
    yield word
    wait_until_gone(word)


def in_tensorboard(tmp_path):
    run_dir = only_run(tmp_path / "runs")
    info = tracking.RunInfo(id="r", name="r", project="p", dir=run_dir)
    return [
        (r.name, r.axis, r.step, r.value) for r in find_adapter("tensorboard").harness().read(tmp_path, info).scalars
    ]


def check(tmp_path, out, status):
    run_dir = only_run(tmp_path / "runs")
    rows = [row for row in scalar_rows(run_dir) if row[0] == "x"]
    acknowledged = [int(line) for line in out.split() if line.isdigit()]
    assert acknowledged == list(range(STEPS))
    assert rows == [("x", "step", step, float(step)) for step in range(STEPS)]
    assert tracking.open_store(tmp_path / "runs").runs()[0].status == status
    return rows


GIVEN_BACK = """
assert signal.getsignal(signal.SIGINT) is before[signal.SIGINT]
run.finish()
assert {number: signal.getsignal(number) for number in before} == before
"""
WAIT = "threading.Event().wait(30)"


@pytest.mark.parametrize(
    ("end", "exit_code", "status"),
    [
        pytest.param(GIVEN_BACK, 0, "finished", id="finished"),
        pytest.param("", 0, "finished", id="normal"),
        pytest.param("sys.exit(0)", 0, "finished", id="sys.exit 0"),
        pytest.param("with run: sys.exit(7)", 7, "failed", id="sys.exit 7"),
        pytest.param("raise ValueError('why')", 1, "failed", id="exception"),
        pytest.param("threading.Thread(target=sys.exit).start()", 0, "finished", id="exit of a thread"),
        pytest.param(f"os.kill(os.getpid(), signal.SIGINT); {WAIT}", -2, "interrupted", id="SIGINT"),
        pytest.param(f"os.kill(os.getpid(), signal.SIGTERM); {WAIT}", 143, "preempted", id="SIGTERM"),
    ],
)
def test_an_orderly_end_delivers_everything(tmp_path, mark, end, exit_code, status):
    out, _ = run(BEGIN + TRAIN + end, tmp_path, code_expected=exit_code, **{MARK: mark})
    # Nobody has to wait: the deliverer has gone before the training.
    assert marked(mark) == {}
    assert in_tensorboard(tmp_path) == check(tmp_path, out, status)


@pytest.mark.parametrize(
    ("end", "exit_code"),
    [
        pytest.param("os._exit(3)", 3, id="os._exit"),
        pytest.param("os.abort()", -6, id="abort", marks=pytest.mark.stress),
        pytest.param("os.kill(os.getpid(), signal.SIGKILL)", -9, id="SIGKILL", marks=pytest.mark.stress),
        pytest.param(
            "signal.signal(signal.SIGTERM, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGTERM)",
            -15,
            id="died of SIGTERM",
        ),
    ],
)
def test_a_sudden_end_loses_nothing_and_leaves_nothing(tmp_path, mark, end, exit_code):
    # What comes after the flush is in the journal alone when the end comes.
    loop = TRAIN[TRAIN.index("for step") :]
    program = BEGIN + TRAIN + "assert run.flush().ok\n" + loop.replace('"x"', '"y"') + end
    out, _ = run(program, tmp_path, code_expected=exit_code, **{MARK: mark})
    wait_until_gone(mark)
    run_dir = only_run(tmp_path / "runs")
    rows = scalar_rows(run_dir)
    assert rows == [(name, "step", step, float(step)) for name in "xy" for step in range(STEPS)]
    assert [int(line) for line in out.split()] == [*range(STEPS), *range(STEPS)]
    assert tracking.open_store(tmp_path / "runs").runs()[0].status == "crashed"
    # The deliverer outlives the training for as long as it takes to deliver what was recorded.
    assert in_tensorboard(tmp_path) == rows


@pytest.mark.parametrize("ends", [False, True], ids=["goes on", "exits"])
def test_handlers_of_the_user_stay_and_decide(tmp_path, mark, ends):
    code = f"""{BEGIN}
def mine(number, frame):
    acknowledge("handled")
    if {ends}:
        sys.exit(5)

signal.signal(signal.SIGTERM, mine)
signal.signal(signal.SIGINT, mine)
{TRAIN}
assert signal.getsignal(signal.SIGTERM) is mine and signal.getsignal(signal.SIGINT) is mine
with run:
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000): pass
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000): pass
assert signal.getsignal(signal.SIGTERM) is mine and signal.getsignal(signal.SIGINT) is mine
"""
    out, _ = run(code, tmp_path, code_expected=5 if ends else 0, **{MARK: mark})
    assert out.split().count("handled") == (1 if ends else 2)
    assert in_tensorboard(tmp_path) == check(tmp_path, out, "failed" if ends else "finished")


def test_an_interrupt_of_the_whole_terminal_does_not_end_the_deliverer(tmp_path, mark):
    code = f"""{BEGIN}{TRAIN}
assert run.flush().ok
acknowledge("ready")
threading.Event().wait(60)
"""
    process = start(code, tmp_path, **{MARK: mark})
    out = ""
    while not out.endswith("ready\n"):
        line = process.stdout.readline()
        assert line, process.stderr.read()
        out += line
    import os
    import signal

    # As a terminal and a launcher do it: the signal goes to everything that was started.
    for pid in marked(mark):
        os.kill(pid, signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == -2
    check(tmp_path, out + rest, "interrupted")
    assert len(in_tensorboard(tmp_path)) == STEPS


@pytest.mark.parametrize("daemon", [True, False], ids=["daemon", "joined"])
def test_threads_that_log_while_the_interpreter_shuts_down(tmp_path, mark, daemon):
    code = f"""{BEGIN}
run = tracking.start_run("p", root="runs", run_id="r", backends="tensorboard:./tb")
begun = threading.Barrier(5)

def work(name):
    begun.wait()
    for step in range(10**9 if {daemon} else 300):
        run.log_scalars({{name: float(step)}}, step=step)
        if run.status != "running":
            break
        acknowledge(f"{{name}} {{step}}")
        pause.wait(0.001)

pause = threading.Event()
for index in range(4):
    threading.Thread(target=work, args=(f"t{{index}}",), daemon={daemon}).start()
begun.wait()
"""
    out, err = run(code, tmp_path, **{MARK: mark})
    assert "Traceback" not in err
    rows = scalar_rows(only_run(tmp_path / "runs"))
    for index in range(4):
        name = f"t{index}"
        acknowledged = [int(line.split()[1]) for line in out.splitlines() if line.startswith(f"{name} ")]
        stored = [row[2] for row in rows if row[0] == name]
        assert stored == list(range(len(stored)))
        assert acknowledged == stored[: len(acknowledged)]
        if not daemon:
            assert len(stored) == 300
    assert sorted(in_tensorboard(tmp_path)) == sorted(rows)


def test_no_thread_can_be_started_any_more(tmp_path, mark):
    """From Python 3.12 on a thread cannot be started while the interpreter ends; what needs one goes without."""
    code = f"""{BEGIN}
import jax, numpy as np
{TRAIN}
run.flush()

def refuse(self):
    raise RuntimeError("can't create new thread at interpreter shutdown")

class Late:
    def __del__(self):
        run.log_scalars({{"too late": 1.0}}, step=0)

late = Late()

def last():
    if sys.version_info < (3, 12):
        threading.Thread.start = refuse
    run.log_scalars({{"host": 1.0}}, step=0)
    run.log_scalars({{"device": jax.numpy.float32(2.0)}}, step=0)
    run.log_images({{"image": np.zeros((4, 4), np.uint8)}}, step=0)
    run.log_histogram("histogram", np.arange(9.0), step=0)
    acknowledge("last")

atexit.register(last)
"""
    out, err = run(code, tmp_path, **{MARK: mark})
    assert out.split()[-1] == "last", err
    run_dir = tmp_path / "runs" / "p" / "r"
    events = journal_events(run_dir)
    kinds = [event["kind"] for event in events]
    assert {"images", "histogram"} <= set(kinds)
    rows = scalar_rows(run_dir)
    assert [row for row in rows if row[0] in {"host", "device"}] == [
        ("host", "step", 0, 1.0),
        ("device", "step", 0, 2.0),
    ]
    assert kinds.count("finish") == 1


def test_a_run_that_is_started_at_exit_does_not_keep_the_others_from_ending(tmp_path, mark):
    code = f"""{BEGIN}{TRAIN}
def last():
    with tracking.start_run("p", root="runs", run_id="other") as other:
        other.log_scalars({{"host": 1.0}}, step=0)

atexit.register(last)
"""
    run(code, tmp_path, **{MARK: mark})
    assert scalar_rows(tmp_path / "runs" / "p" / "other") == [("host", "step", 0, 1.0)]
    assert {r.id: r.status for r in tracking.open_store(tmp_path / "runs").runs()} == {
        "r": "finished",
        "other": "finished",
    }
