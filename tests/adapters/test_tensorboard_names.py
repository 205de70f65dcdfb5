"""How a run is called in a log directory: by its name, which the first run of that name has, whatever processes do."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

import tracking_core as tracking
from tracking_core import RunInfo, SettingsError, open_tracker
from tracking_tensorboard.testing import find_run, read_run


def opened(run_id, name="vae", state=None, target="tensorboard:tb", **details):
    run = RunInfo(id=run_id, name=name, state=json.loads(json.dumps(state or {})), **details)
    return open_tracker(target, run), run


def written(run_id, step, **more):
    """A finished run with one number; where it is, and its state."""
    tracker, run = opened(run_id, **more)
    tracker.log_scalars({"loss": float(step)}, step=step)
    tracker.finish()
    return Path(tracker.directory).name, run.state


def steps(folder):
    return [row.step for row in read_run(Path("tb", folder)).scalars]


def test_runs_of_one_name_are_told_apart_by_their_ids(tmp_path):
    assert [written(one, number)[0] for number, one in enumerate(("a", "b", "c"))] == ["vae", "vae-b", "vae-c"]
    assert {path.name: steps(path.name) for path in Path("tb").iterdir()} == {"vae": [0], "vae-b": [1], "vae-c": [2]}
    assert [find_run(Path("tb"), one).name for one in "abc"] == ["vae", "vae-b", "vae-c"]


def test_a_run_finds_its_directory_again(tmp_path):
    """By its state; by the mark in its files, when the state was never kept; whatever it is called by then."""
    _, state = written("a", 0)
    assert written("a", 1, state=state)[0] == "vae"
    assert written("a", 2)[0] == "vae"
    assert written("b", 3)[0] == "vae-b"
    assert written("b", 4)[0] == "vae-b"
    assert written("a", 5, state=state, name="renamed")[0] == "vae"
    # The directory stays its own when somebody has cleaned up in it.
    for path in Path("tb/vae").iterdir():
        path.unlink()
    assert written("a", 6, state=state)[0] == "vae"
    shutil.rmtree("tb/vae")
    assert written("a", 7, state=state)[0] == "vae"


def test_a_run_of_before_stays_in_the_directory_it_has(tmp_path):
    """Earlier versions put the id behind the name of each run."""
    folder, state = written("a", 0)
    Path("tb", folder).rename("tb/vae-a")
    state["file"] = state["file"].replace("vae/", "vae-a/")
    assert written("a", 1, state=state)[0] == "vae-a"
    assert steps("vae-a") == [0, 1]
    tracker, run = opened("a", generation=1, replaced=(state,))
    tracker.log_scalars({"loss": 2.0}, step=2)
    tracker.finish()
    assert Path(tracker.directory).name == "vae-a"
    assert steps("vae-a") == [2]
    assert sorted(path.name for path in Path("tb").iterdir()) == ["vae-a"]


def test_a_name_that_somebody_else_has_is_left_to_them(tmp_path):
    from tensorboardX import SummaryWriter

    with SummaryWriter("tb/vae") as writer:
        writer.add_scalar("loss", 1.0, 0)
    Path("tb/empty").mkdir()
    Path("tb/file").write_text("")
    Path("tb/link").symlink_to("empty")
    names = {one: written("a", 1, name=one)[0] for one in ("vae", "empty", "file", "link")}
    assert names == {one: f"{one}-a" for one in names}
    # Even a name with this id may be somebody else's.
    shutil.copytree("tb/vae", "tb/other-b")
    assert written("b", 1, name="other-b")[0] == "other-b-2"
    Path("tb/own-c").symlink_to("empty")
    with pytest.raises(SettingsError, match="own-c is a link"):
        written("c", 1, name="own-c")
    assert list(Path("tb/empty").iterdir()) == []


CLAIM = """
import sys
from tracking_core import RunInfo, open_tracker
numbers = range(int(sys.argv[1]), int(sys.argv[1]) + 20)
print("ready", flush=True)
sys.stdin.readline()
for number in numbers:
    tracker = open_tracker("tensorboard:tb", RunInfo(id=f"r{number}", name=f"name {number % 20}"))
    tracker.log_scalars({"loss": float(number)}, step=number)
    tracker.finish()
"""


@pytest.mark.system
def test_processes_that_start_runs_of_one_name_at_once(tmp_path):
    command = [sys.executable, "-c", CLAIM]
    processes = [
        subprocess.Popen([*command, str(first)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for first in (0, 20, 40)
    ]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 3
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60) and process.returncode for process in processes] == [0, 0, 0]
    found = {path.name: steps(path.name) for path in Path("tb").iterdir()}
    assert sorted(found.values()) == [[number] for number in range(60)]
    for name in range(20):
        ids = {name, name + 20, name + 40}
        (first,) = found[f"name~20{name}"]
        assert first in ids
        assert {f"name~20{name}-r{one}" for one in ids - {first}} < set(found)


def test_behind_a_run_the_name_is_short_and_one_run_goes_on(tmp_path):
    for run_id, step, resume in (("a", 0, "never"), ("b", 1, "never"), ("a", 2, "must"), ("b", 3, "must")):
        start = {"run_id": run_id, "root": "runs", "resume": resume, "delivery": "inline"}
        with tracking.start_run("p", "vae", backends="tensorboard:tb", **start) as run:
            run.log_scalars({"loss": float(step)}, step=step)
    assert {path.name: steps(path.name) for path in Path("tb").iterdir()} == {"vae": [0, 2], "vae-b": [1, 3]}


def test_the_numbers_of_one_call_are_one_event(tmp_path):
    tracker, _ = opened("a")
    for step in range(3):
        tracker.log_scalars({f"k{number}": number for number in range(10)}, step=step)
    tracker.finish()
    accumulator = EventAccumulator("tb/vae", size_guidance={"tensors": 0}).Reload()
    assert [event.step for event in accumulator.Tensors("k9")] == [0, 1, 2]
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    (file,) = Path("tb/vae").iterdir()
    sizes = [len(event.summary.value) for event in EventFileLoader(str(file)).Load()]
    # The version, the text about the run, the numbers, the end.
    assert sizes == [0, 1, 10, 10, 10, 1]
