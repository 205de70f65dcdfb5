"""A run directory that is deleted, moved away or replaced while the run goes on: recording goes on as promised."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import tracking_core as tracking
from tests.support.commands import tracking as command
from tests.support.hurt_stores import delete
from tests.support.programs import journal_events, only_run, scalar_rows
from tests.support.trackers import Five
from tracking_core.backends.plugins import find_adapter
from tracking_core.journal import JournalWriter
from tracking_core.layout.presence import Presence
from tracking_core.runs import housekeeping, start
from tracking_core.store.verify import verify
from tracking_tensorboard.testing import find_run, read_run

pytestmark = pytest.mark.system

WAIT = 60.0


def until(done, what):
    """Wait for what another thread or process brings about."""
    deadline = time.monotonic() + WAIT
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def restored(run, before):
    """Whether the run has a directory again, which is not the one from before."""
    try:
        return os.stat(run.dir / "run.json").st_mtime_ns != before and list((run.dir / "journal").glob("*.jsonl"))
    except OSError:
        return False


def steps(run_dir, name="x"):
    return [step for found, _, step, _ in scalar_rows(run_dir) if found == name]


def lost(troubles):
    return [message for reason, message, _ in troubles if reason == "directory"]


@pytest.mark.parametrize("what", ["run", "project", "root", "journal"])
def test_recording_goes_on_in_the_same_place(tmp_path, troubles, what):
    run = tracking.start_run(
        "p", "named", root=tmp_path / "runs", run_id="r", backends="local", config={"a": 1}, tags=["one"]
    )
    run.log_config({"b": {"c": 2}})
    for step in range(50):
        run.log_scalars({"x": float(step)}, step=step)
    before = run.dir
    made = os.stat(run.dir / "run.json").st_mtime_ns
    (journal,) = (run.dir / "journal").glob("*.jsonl")
    delete({"run": run.dir, "project": run.dir.parent, "root": tmp_path / "runs", "journal": journal.parent}[what])
    until(lambda: restored(run, made if what != "journal" else 0), "the directory was not begun anew")
    until(lambda: lost(troubles), "nothing was said")
    for step in range(50, 100):
        run.log_scalars({"x": float(step)}, step=step)
    run.log_images({"i": np.zeros((4, 4), np.uint8)}, step=100)
    run.log_artifact({"w": b"1"}, name="weights")
    report = run.finish()
    assert run.dir == before
    record = tracking.open_store(tmp_path / "runs").run("r")
    assert (record.name, record.status, record.tags) == ("named", "finished", ("one",))
    assert record.config == {"a": 1, "b": {"c": 2}}
    assert {"git", "packages"} <= record.environment.keys()
    assert steps(run.dir) == list(range(50, 100))
    assert len(record.images("i")) == 1
    assert [version.ref.name for version in record.artifacts()] == ["weights"]
    # Counted, and said: once for each time that it was found gone, and the run may come back while it is deleted.
    assert lost(troubles) and all("was deleted during the run" in message for message in lost(troubles))
    assert report["local"].failed == run.health.unwritten >= 51
    assert not report.ok
    assert report["local"].delivered == len([e for e in journal_events(run.dir) if e["kind"] != "segment"])
    # What is there is whole; and that the beginning is gone is no secret.
    (found,) = verify(run.dir).breaks
    assert "segment 1" in found.reason and "is gone" in found.reason


def test_what_is_in_earlier_segments_is_not_lost(tmp_path, monkeypatch, troubles):
    monkeypatch.setattr(housekeeping, "SEGMENT", 1 << 14)
    run = tracking.start_run("p", root=tmp_path, run_id="r", backends="local")
    journal = run._journal
    for step in range(500):
        run.log_scalars({"x": float(step)}, step=step)
    until(lambda: journal.path.name.endswith("-000002.jsonl"), "it did not turn")
    monkeypatch.setattr(housekeeping, "SEGMENT", 1 << 30)
    for step in range(500, 600):
        run.log_scalars({"x": float(step)}, step=step)
    # It turned while the first ones were logged, or after.
    journal.path.unlink()
    kept = steps(run.dir)
    assert kept == list(range(len(kept))) and 0 < len(kept) <= 500
    until(lambda: lost(troubles), "nothing was said")
    run.log_scalars({"x": 600.0}, step=600)
    run.finish()
    assert 600 - len(kept) <= run.health.unwritten <= 610 - len(kept)
    assert steps(run.dir) == [*kept, 600]


def test_run_json_alone(tmp_path, troubles):
    run = tracking.start_run("p", root=tmp_path, run_id="r", backends="local")
    content = (run.dir / "run.json").read_bytes()
    run.log_scalars({"x": 1.0}, step=0)
    (run.dir / "run.json").unlink()
    until(lambda: (run.dir / "run.json").exists(), "run.json was not written again")
    run.finish()
    assert (run.dir / "run.json").read_bytes() == content
    assert steps(run.dir) == [0]
    assert run.health.unwritten == 0
    assert len(lost(troubles)) == 1


def test_a_directory_that_is_moved_away_keeps_what_it_has(tmp_path, troubles):
    run = tracking.start_run("p", root=tmp_path / "runs", run_id="r", backends="local")
    for step in range(50):
        run.log_scalars({"x": float(step)}, step=step)
    made = os.stat(run.dir / "run.json").st_mtime_ns
    (tmp_path / "runs").rename(tmp_path / "kept")
    until(lambda: restored(run, made), "the directory was not begun anew")
    until(lambda: lost(troubles), "nothing was said")
    run.log_scalars({"x": 50.0}, step=50)
    assert run.finish()["local"].failed == 0
    assert steps(tmp_path / "kept/p/r") == list(range(50))
    assert steps(run.dir) == [50]
    assert "was moved during the run" in lost(troubles)[0]


def snapshot(place):
    return {path.relative_to(place): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("delivery", ["thread", "process", "inline"])
def test_another_run_in_its_place_is_left_alone(tmp_path, troubles, delivery):
    with tracking.start_run("p", "other", root=tmp_path / "others", run_id="r", backends="local") as other:
        other.log_scalars({"y": 1.0}, step=0)
    run = tracking.start_run(
        "p", "mine", root=tmp_path / "runs", run_id="r", backends=f"tensorboard:{tmp_path}/tb", delivery=delivery
    )
    for step in range(20):
        run.log_scalars({"x": float(step)}, step=step)
    assert run.flush()["tensorboard"].delivered == 20
    place = run.dir
    place.rename(tmp_path / "kept")
    while True:
        # It may be begun anew in between.
        try:
            other.dir.rename(place)
            break
        except OSError:
            delete(place)
    before = snapshot(place)
    # At once, media too: nothing of it goes there.
    run.log_images({"i": np.zeros((4, 4), np.uint8)}, step=20)
    until(lambda: run.dir != place, "it did not go elsewhere")
    for step in range(20, 40):
        run.log_scalars({"x": float(step)}, step=step)
    run.log_images({"i": np.ones((4, 4), np.uint8)}, step=21)
    report = run.finish()
    assert snapshot(place) == before
    assert run.dir.parent == place.parent and run.id == run.dir.name != "r"
    record = tracking.open_store(tmp_path / "runs").run(run.id)
    assert (record.name, record.status, record.id) == ("mine", "finished", run.id)
    assert set(range(20, 40)) <= {*steps(run.dir), *steps(tmp_path / "kept")}
    assert steps(run.dir)[-1] == 39
    assert tracking.open_store(tmp_path / "runs").run("r").name == "other"
    assert "another run" in report["tensorboard"].last_error
    # The backend got nothing of the other, and gets the rest when it is asked to.
    info = tracking.RunInfo(id="r", name="mine", project="p", dir=place)
    stored = find_adapter("tensorboard").harness().read(tmp_path, info).scalars
    assert [row.step for row in stored] == list(range(20)) and {row.name for row in stored} == {"x"}
    command("sync", run.id, cwd=tmp_path, TRACKING_DIR="runs")
    info = tracking.RunInfo(id=run.id, name="mine", project="p", dir=run.dir)
    stored = find_adapter("tensorboard").harness().read(tmp_path, info).scalars
    assert [row.step for row in stored] == steps(run.dir)


@pytest.mark.parametrize("delivery", ["thread", "process"])
@pytest.mark.parametrize("inside", [False, True])
def test_delivery_goes_on_when_cursors_are_gone(tmp_path, troubles, delivery, inside):
    """Each record once, also where the backend keeps its files in the run directory; and the configuration again."""
    target = "tensorboard" if inside else f"tensorboard:{tmp_path}/tb"
    run = tracking.start_run("p", "n", root=tmp_path / "runs", run_id="r", backends=target, delivery=delivery)
    for step in range(20):
        run.log_scalars({"x": float(step)}, step=step)
    assert run.flush()["tensorboard"].delivered == 20
    made = os.stat(run.dir / "run.json").st_mtime_ns
    delete(run.dir)
    until(lambda: restored(run, made), "the directory was not begun anew")
    for step in range(20, 40):
        run.log_scalars({"x": float(step)}, step=step)
    flushed = run.flush()["tensorboard"]
    for step in range(40, 60):
        run.log_scalars({"x": float(step)}, step=step)
    report = run.finish()["tensorboard"]
    assert (flushed.pending, report.pending, report.delivered, report.failed) == (0, 0, 61, 0), report
    info = tracking.RunInfo(id="r", name="n", project="p", dir=run.dir)
    place = run.dir / "tensorboard" if inside else tmp_path / "tb"
    (run_place,) = [path for path in place.iterdir() if path.is_dir()]
    assert run_place.is_dir()
    assert len(list((run.dir / "cursors").glob("*.json"))) == 1
    if not inside:
        stored = find_adapter("tensorboard").harness().read(tmp_path, info).scalars
        assert [row.step for row in stored] == list(range(60))
    # Whoever delivers it again finds nothing to do.
    cursor = next((run.dir / "cursors").glob("*.json"))
    assert json.loads(cursor.read_text())["counts"]["delivered"] == 61


def test_objects_get_everything(tmp_path, troubles):
    tracker = Five()
    run = tracking.start_run("p", root=tmp_path / "runs", backends=[tracker], delivery="thread")
    run.log_scalars({"x": 0.0}, step=0)
    run.flush()
    made = os.stat(run.dir / "run.json").st_mtime_ns
    delete(tmp_path / "runs")
    until(lambda: restored(run, made), "the directory was not begun anew")
    run.log_scalars({"x": 1.0}, step=1)
    assert run.finish().ok is False
    assert [call[2] for call in tracker.calls if call[0] == "scalars"] == [0, 1]
    assert tracker.calls[-1][0] == "finish"


def test_it_is_found_at_the_end_at_the_latest(tmp_path, troubles, monkeypatch):
    """Also where nobody had time to look, as in a run of a moment."""
    monkeypatch.setattr(housekeeping.Housekeeper, "_look_after", lambda self, charge: charge.captured.set())
    run = tracking.start_run("p", "n", root=tmp_path / "runs", run_id="r", backends="local")
    run.log_scalars({"x": 1.0}, step=0)
    delete(tmp_path / "runs")
    report = run.finish()
    assert report["local"].failed >= 1
    record = tracking.open_store(tmp_path / "runs").run("r")
    assert (record.name, record.status) == ("n", "finished")


def test_media_find_it_by_themselves(tmp_path, troubles, monkeypatch):
    monkeypatch.setattr(housekeeping.Housekeeper, "_look_after", lambda self, charge: charge.captured.set())
    for delivery in ("inline", "thread"):
        run = tracking.start_run("p", root=tmp_path / delivery, run_id="r", backends="local", delivery=delivery)
        delete(tmp_path / delivery)
        run.log_images({"i": np.zeros((4, 4), np.uint8)}, step=1)
        run.log_table("t", {"a": [1]}, step=1)
        run.finish()
        record = tracking.open_store(tmp_path / delivery).run("r")
        assert (len(record.images("i")), len(record.tables("t"))) == (1, 1)
    assert {reason for reason, _, _ in troubles} <= {"directory", "delivery"}


@pytest.mark.parametrize("delivery", ["thread", "inline", "process"])
@pytest.mark.parametrize("what", ["run", "journal", "project"])
def test_a_file_in_its_place_raises_nothing(tmp_path, troubles, what, delivery):
    run = tracking.start_run("p", root=tmp_path / "runs", backends=f"tensorboard:{tmp_path / 'tb'}", delivery=delivery)
    for step in range(5):
        run.log_scalars({"x": 1.0}, step=step)
    run.flush()
    place = {"run": run.dir, "journal": run.dir / "journal", "project": run.dir.parent}[what]
    while True:
        delete(place)
        # It may be begun anew in between.
        with contextlib.suppress(IsADirectoryError):
            place.write_text("no directory")
            break
    run.log({"x": 1.0, "t": tracking.Text("text")})
    assert run.health.recorded >= 5
    run.flush(2.0)
    run.flush(local=True)
    report = run.finish(timeout=3.0)
    assert report["tensorboard"].delivered == 5
    assert report["local"].failed >= 5
    assert [row.step for row in read_run(find_run(tmp_path / "tb", run.id)).scalars] == list(range(5))
    assert place.read_text() == "no directory"


def test_many_threads_lose_only_what_was_in_the_deleted_file(tmp_path, troubles):
    run = tracking.start_run("p", root=tmp_path / "runs", run_id="r", backends="local")
    stop = threading.Event()
    counts = [0] * 4

    def log(number):
        while not stop.is_set():
            run.log_scalars({f"x{number}": 1.0}, step=counts[number])
            counts[number] += 1

    threads = [threading.Thread(target=log, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for round_ in range(3):
        made = os.stat(run.dir / "run.json").st_mtime_ns
        delete(tmp_path / "runs")
        until(lambda made=made: restored(run, made), "the directory was not begun anew")
        until(lambda round_=round_: len(lost(troubles)) > round_, "nothing was said")
    begun = list(counts)
    until(lambda: all(now > then + 1 for now, then in zip(counts, begun, strict=True)), "a thread does not go on")
    stop.set()
    for thread in threads:
        thread.join()
    report = run.finish()
    there = [event for event in journal_events(run.dir) if event["kind"] != "segment"]
    assert len({event["seq"] for event in there}) == len(there)
    # Another thread may be between its write and its count when the file is exchanged.
    assert abs(report["local"].delivered - len(there)) <= 4
    for number in range(4):
        found = steps(run.dir, f"x{number}")
        assert found == list(range(found[0], counts[number]))


def test_where_it_cannot_be_made_anew_it_is_counted_and_tried_again(tmp_path, troubles):
    run = tracking.start_run("p", root=tmp_path / "runs", run_id="r", backends="local")
    run.log_scalars({"x": 1.0}, step=0)
    (tmp_path / "runs").rename(tmp_path / "kept")
    delete(tmp_path / "kept")
    # A file where the root was: no directory can be made there, not even by root. It may be begun anew in between.
    while not (tmp_path / "runs").is_file():
        delete(tmp_path / "runs")
        with contextlib.suppress(FileExistsError):
            (tmp_path / "runs").touch(exist_ok=False)
    until(lambda: any("cannot be created again" in message for message in lost(troubles)), "nothing was said")
    assert run.health.unwritten >= 1
    os.unlink(tmp_path / "runs")
    until(lambda: (run.dir / "run.json").exists(), "it was not tried again")
    run.log_scalars({"x": 2.0}, step=1)
    run.finish()
    assert steps(run.dir)[-1] == 1


def test_a_copy_in_its_place_is_the_run(tmp_path, troubles):
    run = tracking.start_run("p", root=tmp_path / "runs", run_id="r", backends="local")
    run.log_scalars({"x": 1.0}, step=0)
    shutil.copytree(tmp_path / "runs", tmp_path / "copy")
    # Nobody looks in between, and finds neither.
    with start._monitored[id(run)].busy:
        (tmp_path / "runs").rename(tmp_path / "kept")
        (tmp_path / "copy").rename(tmp_path / "runs")
    run.log_scalars({"x": 2.0}, step=1)
    until(lambda: lost(troubles), "nothing was said")
    run.log_scalars({"x": 3.0}, step=2)
    run.finish()
    assert run.id == "r"
    assert [steps(tmp_path / "kept/p/r"), steps(run.dir)] in ([[0, 1], [0, 2]], [[0], [0, 1, 2]])


def test_the_run_is_continued_afterwards(tmp_path, troubles):
    run = tracking.start_run("p", root=tmp_path / "runs", run_id="r", backends="local")
    run.log({"x": 1.0})
    made = os.stat(run.dir / "run.json").st_mtime_ns
    delete(tmp_path / "runs")
    until(lambda: restored(run, made), "the directory was not begun anew")
    run.log({"x": 2.0})
    run.finish()
    with tracking.start_run("p", root=tmp_path / "runs", run_id="r", resume="must", backends="local") as again:
        again.log({"x": 3.0})
    assert steps(again.dir) == [1, 2]
    assert tracking.open_store(tmp_path / "runs").run("r").status == "finished"


def test_a_training_that_is_killed_afterwards(tmp_path):
    program = """
import faulthandler, shutil, time
faulthandler.dump_traceback_later(90, exit=True)
import tracking_core as tracking
run = tracking.start_run("p", root="runs", run_id="r", backends="tensorboard:./tb")
run.log_scalars({"x": 0.0}, step=0)
run.flush()
shutil.rmtree("runs", ignore_errors=True)
while not (run.dir / "journal").exists() or not list((run.dir / "journal").glob("*.alive")):
    time.sleep(0.01)
for step in range(1, 10):
    run.log_scalars({"x": float(step)}, step=step)
print("done", flush=True)
time.sleep(80)
"""
    env = {key: value for key, value in os.environ.items() if not key.startswith("TRACKING_")}
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "done\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    record = tracking.open_store(tmp_path / "runs").run("r")
    assert record.status == "crashed"
    assert steps(record.dir) == list(range(1, 10))
    info = tracking.RunInfo(id="r", name=record.name, project="p", dir=record.dir)

    def delivered():
        return [row.step for row in find_adapter("tensorboard").harness().read(tmp_path, info).scalars]

    # Its deliverer brings what is there to an end.
    until(lambda: delivered() == list(range(10)), "it was not delivered")


def test_what_is_asked_of_the_place(tmp_path):
    """Looking costs two questions to the file system, and an answer only where something has changed."""
    writer = JournalWriter(tmp_path / "p/r", "r")
    presence = Presence(tmp_path / "p/r")
    assert (presence.look(), writer.is_astray) == ("here", False)
    path = tmp_path / "p/r/run.json"
    path.write_text(json.dumps({"id": "r", "started": 1.0}))
    assert presence.look() == "here"
    path.write_text(json.dumps({"id": "r", "started": 1.0, "tags": ["edited"]}))
    assert presence.look() == "here"
    path.unlink()
    assert presence.look() == "gone"
    path.with_name("new").write_text(json.dumps({"id": "r", "started": 1.0, "tags": ["edited"]}))
    path.with_name("other").write_text(json.dumps({"id": "r", "started": 2.0}))
    path.with_name("new").rename(path)
    assert [presence.look(), presence.look()] == ["anew", "here"]
    path.with_name("other").rename(path)
    assert [presence.look(), presence.look()] == ["another", "another"]
    path.write_text("{")
    assert presence.look() == "gone"
    # A file that was numbered anew, and is the same in all else.
    content = writer.path.read_bytes()
    writer.path.with_name("aside").write_bytes(content)
    writer.path.with_name("aside").rename(writer.path)
    assert not writer.is_astray
    writer.append("mark", {})
    assert writer.is_astray
    writer.close()
    assert not writer.is_astray


def test_a_lease_that_is_gone_is_taken_again(tmp_path, monkeypatch):
    from tracking_core.delivery import lease as module

    lease = module.Lease(tmp_path, "k", "target")
    shutil.rmtree(tmp_path / "cursors")
    monkeypatch.setattr(module.time, "monotonic", lambda: lease._beaten + 11)
    lease.beat()
    with pytest.raises(tracking.errors.LeaseHeldError):
        module.Lease(tmp_path, "k", "target")


def test_only_one_place_is_left(tmp_path, troubles):
    """A root that is replaced as a whole, by one with other runs: it goes on among them."""
    with tracking.start_run("p", root=tmp_path / "others", run_id="s", backends="local") as other:
        other.log_scalars({"y": 1.0}, step=0)
    run = tracking.start_run("p", root=tmp_path / "runs", run_id="r", backends="local")
    (tmp_path / "runs").rename(tmp_path / "kept")
    Path(tmp_path / "others").rename(tmp_path / "runs")
    until(lambda: lost(troubles), "nothing was said")
    run.log_scalars({"x": 1.0}, step=5)
    run.finish()
    assert sorted(record.id for record in tracking.open_store(tmp_path / "runs").runs()) == ["r", "s"]
    assert steps(run.dir) == [5]
    assert only_run(tmp_path / "kept").name == "r"
