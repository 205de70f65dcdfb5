"""How runs end when nobody ends them: exits, signals and forks, in processes of their own."""

from __future__ import annotations

import signal

import pytest

import tracking_core as tracking
from tests.support.programs import journal_events, only_run, run, scalar_rows, start

BEGIN = """
import os, signal, sys, threading
import tracking_core as tracking
run = tracking.start_run("p", root="runs")
run.log_scalars({"x": 1.0}, step=0)
"""


def ended(tmp_path):
    directory = only_run(tmp_path / "runs")
    events = journal_events(directory)
    assert [row[:3] for row in scalar_rows(directory)][:1] == [("x", "step", 0)]
    ends = [event for event in events if event["kind"] == "finish"]
    record = tracking.open_store(tmp_path / "runs").runs()[0]
    return record.status, (ends[0].get("error") if ends else None)


@pytest.mark.parametrize(
    ("code", "exit_code", "status", "error"),
    [
        ("", 0, "finished", None),
        ("sys.exit(0)", 0, "finished", None),
        ("raise ValueError('why')", 1, "failed", "ValueError: why"),
        ("os.kill(os.getpid(), signal.SIGINT); threading.Event().wait(10)", -2, "interrupted", "KeyboardInterrupt"),
        ("os.kill(os.getpid(), signal.SIGTERM); threading.Event().wait(10)", 143, "preempted", "SIGTERM"),
        ("os._exit(3)", 3, "crashed", None),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9, "crashed", None),
    ],
)
def test_exits(tmp_path, code, exit_code, status, error):
    run(BEGIN + code, tmp_path, code_expected=exit_code)
    found, text = ended(tmp_path)
    assert found == status
    assert (error is None and text is None) or error in text


def test_sigterm_inside_the_context_manager(tmp_path):
    code = """
    import os, signal, threading
    import tracking_core as tracking
    try:
        with tracking.start_run("p", root="runs") as run:
            run.log_scalars({"x": 1.0}, step=0)
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(10)
    finally:
        print("cleaned up", signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
    """
    out, _ = run(code, tmp_path, code_expected=143)
    assert out == "cleaned up True\n"
    assert ended(tmp_path)[0] == "preempted"


def test_a_handler_of_the_user_is_left_alone(tmp_path):
    code = """
    import os, signal
    import tracking_core as tracking
    got = []
    signal.signal(signal.SIGTERM, lambda *_: got.append(1))
    with tracking.start_run("p", root="runs") as run:
        run.log_scalars({"x": 1.0}, step=0)
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000): pass
    print(got)
    """
    out, _ = run(code, tmp_path)
    assert out == "[1]\n"
    assert ended(tmp_path)[0] == "finished"


@pytest.mark.stress
@pytest.mark.parametrize("least", range(50, 2050, 40))
def test_fifty_kills(tmp_path, least):
    kill_while_logging(tmp_path, least)


def test_a_killed_process_loses_nothing_that_was_acknowledged(tmp_path):
    kill_while_logging(tmp_path, 500)


def kill_while_logging(tmp_path, least):
    code = """
    import sys
    import tracking_core as tracking
    run = tracking.start_run("p", root="runs")
    for step in range(10**9):
        run.log_scalars({"x": float(step)}, step=step)
        sys.stdout.write(f"{step}\\n"); sys.stdout.flush()
    """
    process = start(code, tmp_path)
    acknowledged = 0
    while acknowledged < least:
        acknowledged = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate(timeout=30)
    lines = [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    acknowledged = max([acknowledged, *lines])
    rows = scalar_rows(only_run(tmp_path / "runs"))
    assert [row[2] for row in rows][: acknowledged + 1] == list(range(acknowledged + 1))
    assert tracking.open_store(tmp_path / "runs").runs()[0].status == "crashed"


@pytest.mark.parametrize("how", ["fork", "multiprocessing"])
def test_a_forked_child_records_under_its_own_writer(tmp_path, how):
    fork = {
        "fork": """
pid = os.fork()
if pid == 0:
    child()
    sys.exit(0)
os.waitpid(pid, 0)
""",
        "multiprocessing": """
import multiprocessing
process = multiprocessing.get_context("fork").Process(target=child)
process.start(); process.join()
assert process.exitcode == 0
""",
    }[how]
    code = f"""
{BEGIN}
def child():
    with run:
        for step in range(50):
            run.log_scalars({{"child": float(step)}}, step=step)
    assert run.finish().status == "running"

for step in range(50):
    run.log_scalars({{"parent": float(step)}}, step=step)
{fork}
run.log_scalars({{"parent": 50.0}}, step=50)
run.finish()
"""
    run(code, tmp_path)
    directory = only_run(tmp_path / "runs")
    events = journal_events(directory)
    rows = scalar_rows(directory)
    assert [row[2] for row in rows if row[0] == "child"] == list(range(50))
    assert [row[2] for row in rows if row[0] == "parent"] == list(range(51))
    files = {e["writer_file"] for e in events if e["kind"] == "scalars" and "child" in e["values"]}
    assert len(files) == 1
    assert files.isdisjoint(e["writer_file"] for e in events if e["kind"] == "scalars" and "parent" in e["values"])
    assert [e["kind"] for e in events].count("finish") == 1
    assert tracking.open_store(tmp_path / "runs").runs()[0].status == "finished"


def test_the_start_does_not_touch_jax(tmp_path):
    code = """
    import sys, threading
    import tracking_core as tracking
    with tracking.start_run("p", root="runs") as run:
        run.log_scalars({"x": 1.0}, step=0)
    assert "jax" not in sys.modules
    import jax
    with tracking.start_run("p", root="runs") as run:
        run.log_scalars({"x": 1.0}, step=0)
    assert not jax._src.xla_bridge._backends
    with tracking.start_run("p", root="runs", name="used") as run:
        jax.numpy.zeros(3).block_until_ready()
    """
    run(code, tmp_path)
    records = {r.name: r for r in tracking.open_store(tmp_path / "runs").runs()}
    assert records["used"].environment["accelerators"]["platform"] == "cpu"
    others = [r.environment for name, r in records.items() if name != "used"]
    assert all("accelerators" not in environment for environment in others)


def test_a_handler_that_ends_the_run_while_it_is_ended(tmp_path):
    """The usual SIGTERM handler calls finish(); it may come while the main thread is in finish()."""
    code = """
    import faulthandler, os, signal
    faulthandler.dump_traceback_later(30, exit=True)
    import tracking_core as tracking

    class Signalling:
        def log_scalars(self, scalars, **keywords): pass
        log_images = log_histogram = log_artifact = log_scalars
        def finish(self, status="finished", **keywords):
            os.kill(os.getpid(), signal.SIGUSR1)

    run = tracking.start_run("p", root="runs", backends=[Signalling()])
    signal.signal(signal.SIGUSR1, lambda *_: print("report", len(run.finish())))
    run.log_scalars({"x": 1.0}, step=0)
    print(run.finish().ok)
    """
    out, _ = run(code, tmp_path)
    assert sorted(out.splitlines()) == ["True", "report 2"]
    assert ended(tmp_path)[0] == "finished"


def test_a_secret_in_a_long_exception_is_not_cut_in_half(tmp_path, monkeypatch, troubles):
    secret = "canary" * 8
    monkeypatch.setenv("SOME_API_KEY", secret)

    class Failing:
        def log_scalars(self, scalars, **keywords):
            raise ValueError("x" * 470 + secret)

        log_images = log_histogram = log_artifact = finish = log_scalars

    with tracking.start_run("p", root="runs", backends=[Failing()]) as failing:
        failing.log_scalars({"x": 1.0}, step=0)
    report = failing.finish()["Failing"]
    assert report.failed == 1
    assert "canary" not in report.last_error
