"""`tracking tail`: a run of another process is followed while it logs, until it ends in one way or another."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from tests.support.commands import COMMAND, Terminal, environment, refuse, tracking
from tests.support.programs import here

pytestmark = pytest.mark.system

WRITER = """
import sys
import numpy as np
import tracking_core as t
run = t.start_run("p", "live", run_id="live", config={"a": 1})
print("ready", flush=True)
step = 0
for line in sys.stdin:
    word = line.strip()
    if word == "end":
        run.finish()
        break
    if word == "fail":
        run.finish("failed", timeout=5)
        break
    if word == "media":
        run.log_images({"samples": np.zeros((4, 4))}, step=step)
        run.log_text("prompt", "hi", step=step)
        run.log_config({"b": 2})
        run.log_summary({"best": float("inf")})
        run.log_alert("hot", "it is", level="warn")
        run.log_artifact({"w": b"1"}, name="vae")
    else:
        run.log_scalars({"loss": float(word), "other": 1}, step=step)
    step += 1
    print("logged", flush=True)
"""


@pytest.fixture
def writer(tmp_path):
    """A training that logs what is written to its standard input."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"

    def tell(word, *, answers=True):
        process.stdin.write(word + "\n")
        process.stdin.flush()
        if answers:
            assert process.stdout.readline() == "logged\n"

    tell.process = process
    yield tell
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


@pytest.fixture
def tail(tmp_path):
    """Starts `tracking tail live --json …`, and ends what is left."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [*COMMAND, "tail", "live", "--json", *arguments],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def read(process):
    return json.loads(process.stdout.readline(), parse_constant=refuse)


def test_a_live_run_is_followed_to_its_end(writer, tail):
    writer("1.5")
    watching = tail()
    first = read(watching)
    assert (first["kind"], first["axis"], first["step"]) == ("scalars", "step", 0)
    assert first["values"] == {"loss": 1.5, "other": 1}
    # Each line is there before the next is logged.
    for step, value in enumerate(["0.5", "nan", "0.25"], start=1):
        writer(value)
        one = read(watching)
        assert (one["step"], one["values"]["loss"]) == (step, "NaN" if value == "nan" else float(value))
    writer("media")
    found = [read(watching) for _ in range(6)]
    assert [one["kind"] for one in found] == ["images", "text", "config", "summary", "alert", "artifact"]
    assert found[0]["names"] == ["samples"]
    assert found[1]["name"] == "prompt"
    assert found[2]["values"] == {"b": 2}
    assert found[3]["values"] == {"best": "Infinity"}
    assert (found[4]["title"], found[4]["level"]) == ("hot", "warn")
    assert (found[5]["name"], found[5]["version"]) == ("vae", 0)
    writer("end", answers=False)
    end = read(watching)
    assert (end["kind"], end["status"]) == ("end", "finished")
    assert watching.stdout.read() == ""
    assert watching.wait(60) == 0
    assert watching.stderr.read() == ""


def test_a_run_that_fails_or_is_killed_ends_with_1(writer, tail):
    watching = tail()
    writer("1")
    assert read(watching)["step"] == 0
    writer.process.kill()
    end = read(watching)
    assert (end["kind"], end["status"], end["time"]) == ("end", "crashed", None)
    assert watching.wait(60) == 1


def test_names_and_patterns_choose(writer, tail):
    watching = tail("lo*")
    writer("1")
    writer("media")
    writer("2")
    assert [read(watching)["values"] for _ in range(2)] == [{"loss": 1}, {"loss": 2}]


def test_ctrl_c_ends_it_quietly(writer, tail, tmp_path):
    watching = tail()
    writer("1")
    read(watching)
    watching.send_signal(signal.SIGINT)
    assert watching.wait(60) == 0
    assert watching.stderr.read() == ""
    terminal = Terminal("tail", "live", cwd=tmp_path)
    terminal.until("loss 1")
    terminal.interrupt()
    seen = terminal.end()
    assert "Aborted" not in seen


def test_it_begins_with_the_last_lines(tmp_path):
    here(
        "import tracking_core as t\nwith t.start_run('p', run_id='x') as r:\n    for s in range(50):\n        r.log_scalars({'a\\n': s}, step=s)",
        tmp_path,
    )
    for arguments, first in (([], 40), (["--last", "3"], 47), (["--all"], 0), (["--last", "0"], None)):
        out, _ = tracking("tail", "x", "--json", *arguments, cwd=tmp_path)
        *lines, end = map(json.loads, out.splitlines())
        assert [line["step"] for line in lines] == list(range(first, 50) if first is not None else ())
        assert end["kind"] == "end"
    out, _ = tracking("tail", "x", "--last", "1", cwd=tmp_path)
    line, end = out.splitlines()
    assert line.endswith("  step 49  a\\n 49")
    assert end.endswith("  the run is over: finished")


def test_a_name_that_fits_nothing_is_said(tmp_path):
    code = """
    import tracking_core as t
    with t.start_run("p", run_id="x") as run:
        run.log_scalars({"train/loss": 1.0}, step=0)
        run.log_text("note", "words", step=0)
        run.log_artifact({"a": b"b"}, name="weights")
    """
    here(code, tmp_path)
    out, err = tracking("tail", "x", "train/*", "note", "weights", cwd=tmp_path)
    assert len(out.splitlines()) == 4
    assert err == ""
    out, err = tracking("tail", "x", "train/los", "note", "val/*", cwd=tmp_path)
    assert len(out.splitlines()) == 2
    assert err == "".join(f"run x has logged nothing yet that fits '{name}'\n" for name in ("train/los", "val/*"))


def test_a_failed_run_ends_with_1(tmp_path):
    here("import tracking_core as t\nt.start_run('p', run_id='x').finish('failed')", tmp_path)
    out, _ = tracking("tail", "x", cwd=tmp_path, code=1)
    assert out.endswith("the run is over: failed\n")
