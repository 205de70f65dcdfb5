"""The run store: what runs recorded is read back, and what is damaged, newer or hostile hides nothing else.

Written through `start_run`, cross-checked by json, zlib, Pillow and wave.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import shutil
import socket
import time
import wave

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

import tracking_core as tracking
from tests.support.programs import journal_events, only_run
from tests.support.programs import run as run_program
from tests.support.programs import start as start_program
from tracking_core.base.files import replace_file, write_exclusively
from tracking_core.base.json_text import dump_json, load_json
from tracking_core.errors import JournalError, NameNotFoundError, RunExistsError, RunNotFoundError, StoreError
from tracking_core.journal import JournalWriter, encode_line
from tracking_core.journal.liveness import is_alive
from tracking_core.layout.media import put_media
from tracking_core.layout.runs import create_run, find_run
from tracking_core.values import Audio, Figure, Histogram, Image, Table, Text, Video

any_text = st.text(alphabet=st.characters(exclude_categories=()), max_size=8)
trees = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**100), 2**100), st.floats(), any_text),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def begin(root):
    """Starts runs under the root, and finishes what a test leaves open."""
    opened = []

    def start(project="digits", **keywords):
        opened.append(tracking.start_run(project, root=root, backends="local", **keywords))
        return opened[-1]

    yield start
    for run in opened:
        run.finish()


def only(root):
    """The only run under a root, by the store."""
    (record,) = tracking.open_store(root).runs()
    return record


# ---------------------------------------------------------------- everything of one run


def test_what_a_run_is(begin, root):
    before = time.time()
    with begin(
        "p", name="n", run_id="r", tags=("a", "b"), group="g", job_type="t", notes="why", config={"lr": 0.1}
    ) as run:
        pass
    record = only(root)
    facts = json.loads((root / "p" / "r" / "run.json").read_bytes())
    assert (record.id, record.name, record.project, record.dir) == ("r", "n", "p", run.dir) == (facts["id"], facts["name"], facts["project"], run.dir)  # fmt: skip
    assert (record.tags, record.group, record.job_type, record.notes) == (("a", "b"), "g", "t", "why")
    assert before - 1 < record.started == facts["started"] <= time.time()
    assert record.started <= record.finished <= time.time()
    assert (record.status, record.error, record.targets) == ("finished", None, ())
    assert record.environment["pid"] == os.getpid()
    assert repr(record) == "<RunRecord 'n' (r) of 'p'>"


def test_scalars(begin, root):
    rows = [(0, 0.5), (5, math.nan), (3, -math.inf), (3, 2**70), (-1, True), (10**12, 5e-324)]
    with begin() as run:
        for step, value in rows:
            run.log_scalars({"loss": value, "other": 1}, step=step, wall_time=min(step, 10**9) + 0.25)
        run.log_scalars({"loss": 9.0}, step=1, step_axis="epoch")
        run.log_scalars({"epoch": 7}, step=2, step_axis="epoch")
    record = only(root)
    assert record.scalar_names() == ["epoch", "loss", "other"]
    series = record.scalars("loss", raw=True)
    assert (series.name, series.axis, len(series)) == ("loss", "step", 6)
    assert (series.step.dtype, series.time.dtype, series.value.dtype) == (np.int64, np.float64, np.float64)
    assert series.step.tolist() == [step for step, _ in rows]
    np.testing.assert_array_equal(series.value, [float(value) for _, value in rows])
    assert series.time.tolist() == [min(step, 10**9) + 0.25 for step, _ in rows]
    assert series.last == 5e-324
    assert list(series)[0] == (0, 0.5)
    assert repr(series) == "Series('loss', axis='step', 6 values)"
    # One row a step, by step: the last one of step 3.
    assert list(record.scalars("loss")) == [(-1, 1.0), (0, 0.5), (3, float(2**70)), (5, pytest.approx(math.nan, nan_ok=True)), (10**12, 5e-324)]  # fmt: skip
    assert record.scalars("loss").time.tolist() == [-0.75, 0.25, 3.25, 5.25, 10**9 + 0.25]
    assert list(record.scalars("loss", "epoch")) == [(1, 9.0)]
    assert list(record.scalars("epoch")) == [(2, 7.0)]
    # The same, without our reader.
    events = [event for event in journal_events(run.dir) if event["kind"] == "scalars" and event["axis"] == "step"]
    assert [event["values"]["loss"] for event in events] == [0.5, "NaN", "-Infinity", str(2**70), True, 5e-324]


def test_missing_names_say_what_is_there(begin, root):
    with begin(run_id="r") as run:
        run.log_scalars({"train/loss": 1.0, "train/accuracy": 1.0}, step=0)
        run.log_histogram("weights", [1.0], step=0)
        run.log_images({"samples": np.zeros((2, 2))}, step=0)
    record = only(root)
    for do, words in [
        (
            lambda: record.scalars("train/los"),
            ["run r has no scalar 'train/los'", "did you mean 'train/loss'?", "train/accuracy, train/loss"],
        ),
        (lambda: record.scalars("train/loss", "epoch"), ["was logged on step, not on 'epoch'"]),
        (lambda: record.histograms("weight"), ["no histogram 'weight'", "did you mean 'weights'?"]),
        (lambda: record.images("xyz"), ["no image 'xyz'; there are samples"]),
        (lambda: record.tables("t"), ["no table 't'; there are none"]),
        (lambda: record.media("video", "v"), ["no video 'v'; there are none"]),
    ]:
        with pytest.raises(NameNotFoundError) as caught:
            do()
        assert isinstance(caught.value, KeyError)
        for word in words:
            assert word in str(caught.value)


def test_media(begin, root):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 6, 3), dtype=np.uint8)
    histogram = Histogram([1, 0, 2], [0, 1, 2, 4], nan=3, posinf=1, mean=0.5)
    table = Table(["name", "score"], [["a", math.nan], [None, 2**70], ["\ud800", [1, True]]])
    audio = Audio(np.array([1, -2, 3], np.int16), 8000, "beep")
    with begin() as run:
        run.log_images({"grid": Image(pixels, ["a", None, "c"])}, step=1)
        run.log_images({"grid": pixels[0]}, step=2, step_axis="epoch")
        run.log_histogram("w", histogram, step=3)
        run.log_table("t", table, step=4)
        run.log_video("v", pixels, step=5, fps=12)
        run.log_video("gif", Video(pixels).gif(), step=5)
        run.log_audio("a", audio, step=6)
        run.log_text("text", "# Title", step=7)
        run.log_figure("f", Figure(Image(pixels[1]).png()), step=8)
        run.log_figure("p", Figure.from_plotly('{"data":[]}'), step=8)
    record = only(root)
    (one, images), (two, single) = record.images("grid")
    assert (one, [i.caption for i in images], two, len(single)) == (1, ["a", None, "c"], 2, 1)
    np.testing.assert_array_equal(np.stack([image.pixels for image in images]), pixels)
    assert record.histograms("w") == [(3, histogram)]
    assert record.tables("t") == [(4, table)]
    assert record.media("video", "v") == [(5, Video(pixels, 12))]
    assert record.media("video", "gif") == [(5, Video(Video(pixels).gif()))]
    assert record.media("audio", "a") == [(6, audio)]
    assert record.media("text", "text") == [(7, Text("# Title"))]
    assert record.media("figure", "f") == [(8, Figure(Image(pixels[1]).png()))]
    assert record.media("figure", "p") == [(8, Figure.from_plotly('{"data":[]}'))]
    assert (record.image_names(), record.names("video"), record.names("audio")) == (["grid"], ["gif", "v"], ["a"])
    # The same, without our reader.
    events = {event.get("name", event["kind"]): event for event in journal_events(run.dir)}
    media = run.dir / "media"
    with Pillow.open(media / events["images"]["images"]["grid"][0]["file"]) as image:
        np.testing.assert_array_equal(np.array(image), pixels[0])
    with wave.open(str(media / events["a"]["file"])) as sound:
        assert (sound.getframerate(), sound.readframes(9)) == (8000, np.array([1, -2, 3], "<i2").tobytes())
    with np.load(media / events["v"]["file"], allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["frames"], pixels)
    stored = json.loads((media / events["t"]["file"]).read_text())
    assert stored["columns"] == ["name", "score"]
    assert stored["rows"][:2] == [["a", {"$float": "NaN"}], [None, {"$int": str(2**70)}]]
    assert (events["w"]["counts"], events["w"]["edges"], events["w"]["std"]) == (
        [1, 0, 2],
        [0, 1, 2, 4],
        {"$float": "NaN"},
    )
    # Equal contents are one file.
    assert events["images"]["images"]["grid"][0]["file"] in os.listdir(media)
    assert len(os.listdir(media)) == 8


def test_records_are_everything_in_order(begin, root):
    with begin() as run:
        run.log_scalars({"x": 1.0}, step=3, step_axis="epoch", wall_time=5.5)
        run.log_config({"a": 1})
        run.log_summary({"best": math.inf})
        run.log_alert("title", "text", level="warn")
        run.log_artifact({"f": b"content"}, name="art", metadata={"k": 1}, aliases=("al",))
        run.use_artifact("art:al")
    record = only(root)
    kinds = ["scalars", "config", "summary", "alert", "artifact", "use_artifact"]
    records = record.records()
    assert [r.kind for r in records] == kinds
    assert [r.seq for r in records] == sorted(r.seq for r in records)
    assert {r.writer for r in records} == {
        run.dir.joinpath("journal").glob("*.jsonl").__next__().name.rpartition("-")[0]
    }
    first = records[0]
    assert (first.step, first.axis, first.time, first.data) == (3, "epoch", 5.5, {"x": 1.0})
    artifact = records[4].data
    assert {path: place.read_bytes() for path, place in artifact["artifact"].items()} == {"f": b"content"}
    assert (artifact["name"], artifact["type"], artifact["version"], artifact["metadata"], artifact["aliases"]) == ("art", "file", 0, {"k": 1}, ("al",))  # fmt: skip
    assert records[5].data["artifact"] == "art:al"
    assert [(title, text, level) for _, title, text, level in record.alerts()] == [("title", "text", "warn")]


def test_summary_and_config(begin, root):
    with begin(config={"lr": 0.1, "model": {"width": 8, "depth": 2}, "kept": {"as": "it is"}}) as run:
        run.log_scalars({"loss": 3.0, "acc": 0.5}, step=0)
        run.log_scalars({"loss": 2.0}, step=1)
        run.log_scalars({"acc": 0.75}, step=0, step_axis="epoch")
        run.log_summary({"best": 2.0, "acc": 0.9})
        run.log_config({"model": {"width": 16}, "$odd": math.nan})
        run.log_config({"lr": {"start": 1}})
    record = only(root)
    assert record.summary() == {"loss": 2.0, "acc": 0.9, "best": 2.0}
    config = record.config
    assert math.isnan(config.pop("$odd"))
    assert config == {"lr": {"start": 1}, "model": {"width": 16, "depth": 2}, "kept": {"as": "it is"}}
    # `run.json` is what it was.
    assert json.loads((run.dir / "run.json").read_text())["config"] == {
        "lr": 0.1, "model": {"width": 8, "depth": 2}, "kept": {"as": "it is"},
    }  # fmt: skip
    # What is returned is the caller's.
    record.config["model"]["width"] = 99
    record.config["kept"]["as"] = "changed"
    record.environment["argv"].append("changed")
    again = record.config
    assert math.isnan(again.pop("$odd"))
    assert again == config
    assert "changed" not in record.environment["argv"]


def test_a_record_sees_what_comes_later(begin, root):
    run = begin()
    record = only(root)
    assert record.scalar_names() == []
    for step in range(3):
        run.log_scalars({"x": float(step)}, step=step)
        assert record.scalars("x").last == step
    assert (record.status, record.finished) == ("running", None)
    run.finish()
    assert record.status == "finished"


def test_artifacts_of_a_project(begin, root):
    with begin("p") as run:
        run.log_artifact({"f": b"1"}, name="a", type="model")
    assert tracking.open_store(root).artifacts("p").get("a").read("f") == b"1"
    (version,) = only(root).artifacts()
    assert (version.ref.type, version.run_id, version.read("f")) == ("model", run.id, b"1")


# ---------------------------------------------------------------- status


@pytest.mark.parametrize("status", ["finished", "failed", "interrupted", "preempted"])
def test_finished_runs(begin, root, status):
    begin().finish(status, error="went wrong" if status == "failed" else None)
    record = only(root)
    assert (record.status, record.error) == (status, "went wrong" if status == "failed" else None)


PROGRAM = """
import time
from pathlib import Path
import tracking_core as tracking
run = tracking.start_run("p", root="runs", run_id="r", resume="allow", backends="local")
run.log_scalars({"x": 1.0}, step=0)
print(flush=True)
while not Path("go-on").exists():
    time.sleep(0.005)
"""


def test_running_and_crashed(tmp_path, root):
    process = start_program(PROGRAM, tmp_path)
    process.stdout.readline()
    record = only(root)
    try:
        assert record.status == "running"
        assert record.damage() == []
    finally:
        process.kill()
        # Before anybody has asked after it, too: its number is still taken.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert record.status == "crashed"
        process.communicate()
    assert (record.status, record.finished, record.error) == ("crashed", None, None)
    assert [r.id for r in tracking.open_store(root).runs(status="crashed")] == ["r"]
    # Continued: it runs again, and is then finished.
    with tracking.start_run("p", root=root, run_id="r", resume="must", backends="local") as run:
        assert record.status == "running"
        run.log_scalars({"x": 2.0}, step=1)
    assert record.status == "finished"
    assert list(record.scalars("x")) == [(0, 1.0), (1, 2.0)]


def test_the_newest_session_counts(begin, root):
    begin(run_id="r").finish("failed", error="first")
    record = only(root)
    assert record.status == "failed"
    run = begin(run_id="r", resume="allow")
    assert (record.status, record.error, record.finished) == ("running", None, None)
    run.finish("preempted")
    assert (record.status, record.error) == ("preempted", None)


@pytest.mark.system
def test_a_forked_child_is_no_session(tmp_path, root):
    run_program(
        """
        import os
        import tracking_core as tracking
        run = tracking.start_run("p", root="runs", backends="local")
        run.log_scalars({"x": 1.0}, step=0)
        child = os.fork()
        if not child:
            run.log_scalars({"x": 2.0}, step=1)
            os._exit(0)
        os.waitpid(child, 0)
        run.finish("failed")
        """,
        tmp_path,
    )
    record = only(root)
    assert record.status == "failed"
    assert list(record.scalars("x")) == [(0, 1.0), (1, 2.0)]


def test_a_run_without_a_journal(root):
    create_run(root / "p" / "r", {"id": "r", "name": "n", "project": "p", "started": 1.0})
    # One that is new is being started just now.
    os.utime(root / "p" / "r" / "run.json", (1, 1))
    record = only(root)
    assert (record.status, record.scalar_names(), record.config, record.records()) == ("crashed", [], {}, [])
    assert (record.tags, record.group, record.notes, record.environment) == ((), None, None, {})


@pytest.mark.system
def test_two_writers_at_once(tmp_path, root):
    first, second = (start_program(PROGRAM, tmp_path) for _ in range(2))
    for process in (first, second):
        process.stdout.readline()
    record = only(root)
    assert len(list((root / "p/r/journal").glob("*.jsonl"))) == 2
    assert record.status == "running"
    (tmp_path / "go-on").touch()
    for process in (first, second):
        process.communicate()
        assert process.returncode == 0
    assert list(record.scalars("x", raw=True)) == [(0, 1.0), (0, 1.0)]
    assert list(record.scalars("x")) == [(0, 1.0)]
    assert record.status == "finished"
    writers = [r.writer for r in record.records()]
    assert writers == sorted(writers)
    assert len(set(writers)) == 2


# ---------------------------------------------------------------- liveness


@pytest.fixture
def alive(tmp_path):
    """(directory, writer, the file of its heartbeat, what stands in it) of a writer of this process."""
    writer = JournalWriter(tmp_path / "run", "r")
    file = tmp_path / "run" / "journal" / f"{writer.id}.alive"
    yield tmp_path / "run", writer.id, file, json.loads(file.read_text())
    writer.close()


def test_the_heartbeat_says_which_process(alive):
    directory, writer, _, facts = alive
    assert facts["pid"] == os.getpid()
    assert facts["host"] == socket.gethostname()
    assert abs(facts["beat"] - time.time()) < 60
    assert is_alive(directory, writer)
    assert not is_alive(directory, "other")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"started": "1"}, False),  # the number was given to another process
        ({"boot": "another"}, False),
        ({"pid": 2**22 + 1}, False),
        ({"pid": 2**22 + 1, "started": None, "boot": None}, False),
        ({"started": None, "boot": None}, True),
        ({"pid": 1, "started": None}, True),  # somebody else's process lives as well
        ({"host": "elsewhere"}, True),  # its heartbeat is fresh
        ({"host": "elsewhere", "boot": "another", "pid": 2**22 + 1}, True),
    ],
)
def test_a_writer_lives_while_its_process_does(alive, change, expected):
    directory, writer, file, facts = alive
    file.write_text(json.dumps({**facts, **change}))
    assert is_alive(directory, writer) is expected


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"pid": "x", "host": 1}', '{"pid": null, "host": ""}'])
def test_a_heartbeat_that_is_being_written_counts_while_it_is_fresh(alive, content):
    directory, writer, file, _ = alive
    file.write_text(content)
    assert is_alive(directory, writer)
    os.utime(file, (0, time.time() - 61))
    assert not is_alive(directory, writer)


def test_a_heartbeat_from_elsewhere_grows_stale(alive):
    directory, writer, file, facts = alive
    file.write_text(json.dumps({**facts, "host": "elsewhere"}))
    os.utime(file, (0, time.time() - 59))
    assert is_alive(directory, writer)
    os.utime(file, (0, time.time() - 61))
    assert not is_alive(directory, writer)


# ---------------------------------------------------------------- many runs


def test_runs_are_found_and_filtered(begin, root):
    for number, (project, tags) in enumerate([("a", ["x"]), ("a", ["x", "y"]), ("b", []), ("a", ["y"])]):
        begin(project, run_id=f"r{number}", tags=tags).finish("failed" if number == 2 else "finished")
    running = begin("b", run_id="r4")
    store = tracking.open_store(root)

    def ids(**filters):
        return [record.id for record in store.runs(**filters)]

    assert store.projects() == ["a", "b"]
    assert ids() == ["r4", "r3", "r2", "r1", "r0"]
    assert ids(project="a") == ["r3", "r1", "r0"]
    assert ids(tags="x") == ids(tags=["x"]) == ["r1", "r0"]
    assert ids(tags=["y", "x"]) == ["r1"]
    assert ids(status="failed") == ["r2"]
    assert ids(status="running", project="b") == ["r4"]
    assert ids(project="c") == ids(status="crashed") == ids(tags="z") == []
    assert store.run("r2").project == "b"
    assert repr(store) == f"Store({str(root)!r})"
    running.finish()


def test_roots(begin, root, monkeypatch, tmp_path):
    begin(run_id="r").finish()
    monkeypatch.setenv("TRACKING_DIR", str(root))
    assert [record.id for record in tracking.open_store().runs()] == ["r"]
    monkeypatch.delenv("TRACKING_DIR")
    assert tracking.open_store().root.name == "tracking_runs"
    for nothing in (tmp_path / "none", tmp_path / "file"):
        (tmp_path / "file").write_text("x")
        store = tracking.open_store(nothing)
        assert (store.runs(), store.projects()) == ([], [])
        with pytest.raises(RunNotFoundError, match="there is no run 'r'"):
            store.run("r")


@pytest.mark.parametrize(
    "run_id", ["nope", "", ".", "..", "../digits/r", "../../secret", "/etc", "r/", "./r", "r/../r", "a\0b", "r\n"]
)
def test_ids_that_are_asked_for_lead_out_of_no_project(begin, root, run_id):
    begin(run_id="r").finish()
    create_run(root.parent / "secret", {"id": "secret", "name": "s", "project": "p", "started": 1.0})
    with pytest.raises(RunNotFoundError) as caught:
        tracking.open_store(root).run(run_id)
    assert isinstance(caught.value, KeyError)


@pytest.mark.parametrize(
    "project", ["..", ".", "a/b", "../x", ".hidden", "con", "\0", "\ud800", "x" * 300, "é", " ", "artifacts", "~"]
)
def test_projects_with_hostile_names(begin, root, project):
    with begin(project, run_id="r", name="\ud800 name\n") as run:
        run.log_scalars({"x": 1.0}, step=0)
        run.log_artifact({"f": b"1"}, name="a")
    assert run.dir.parent.parent == root
    store = tracking.open_store(root)
    assert store.projects() == [project]
    assert [record.name for record in store.runs(project)] == ["\ud800 name\n"]
    assert store.artifacts(project).get("a").read("f") == b"1"
    assert os.listdir(root.parent) == ["runs"]
    assert json.loads((run.dir / "run.json").read_text())["project"] == project


def test_directories_that_are_no_runs_are_passed_over(begin, root):
    begin("p", run_id="r").finish()
    (root / "p" / "artifacts").mkdir()
    (root / "p" / "notes.txt").write_text("x")
    (root / "empty").mkdir()
    (root / "file").write_text("x")
    (root / ".blobs").mkdir(exist_ok=True)
    (root / "p" / "dir").mkdir()
    (root / "p" / "dir" / "run.json").mkdir()
    (root / "p" / "loop").symlink_to("loop")
    assert [record.id for record in tracking.open_store(root).runs()] == ["r"]


# ---------------------------------------------------------------- what is damaged, or newer

FACTS = {"v": 1, "id": "bad", "name": "n", "project": "p", "started": 1.0}


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "cannot be read"), (b"{", "cannot be read"), (b"\xff\xfe", "cannot be read"), (b"[]", "does not describe a run"),
        (b"3", "does not describe a run"), (b"{}", "look at v, id, name, project, started"), (b"[" * 100_000, "cannot be read"),
        (json.dumps({**FACTS, "v": 2}), "has format 2, this version reads up to 1: upgrade tracking-core"),
        (json.dumps({**FACTS, "v": 2, "started": "then"}), "has format 2"), (json.dumps({**FACTS, "v": "1"}), "look at v"),
        (json.dumps({**FACTS, "project": None}), "look at project"), (json.dumps({**FACTS, "started": "now"}), "look at started"),
        (json.dumps({**FACTS, "id": 3}), "look at id"),
    ],
    ids=lambda value: value[:30] if isinstance(value, (str, bytes)) else value,
)  # fmt: skip
def test_an_unreadable_run_json_hides_no_other_run(begin, root, content, word):
    begin("p", run_id="good").finish()
    (root / "p" / "bad").mkdir()
    (root / "p" / "bad" / "run.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    store = tracking.open_store(root)
    assert [record.id for record in store.runs()] == ["good"]
    assert store.projects() == ["p"]
    assert store.run("good").status == "finished"
    with pytest.raises(StoreError) as caught:
        store.run("bad")
    assert word in str(caught.value) and "run.json" in str(caught.value)


def test_a_journal_of_a_newer_format_hides_no_other_run(begin, root):
    begin("p", run_id="good").finish()
    run = begin("p", run_id="newer")
    run.finish()
    (journal,) = (run.dir / "journal").glob("*.jsonl")
    journal.write_bytes(encode_line(0, 1, "segment", 1.0, {"v": 2, "parent": None}) + journal.read_bytes())
    store = tracking.open_store(root)
    assert {record.id for record in store.runs()} == {"good", "newer"}
    assert [record.id for record in store.runs(status="finished")] == ["good"]
    for _ in range(2):
        with pytest.raises(JournalError, match="format 2"):
            _ = store.run("newer").status


def test_damage_is_reported_and_the_rest_is_read(begin, root, tmp_path):
    with begin() as run:
        for step in range(5):
            run.log_scalars({"x": float(step)}, step=step)
    # A copy, whose process is gone.
    copy = shutil.copytree(root, tmp_path / "copy", ignore=shutil.ignore_patterns("*.alive"))
    (journal,) = (copy / run.dir.relative_to(root) / "journal").glob("*.jsonl")
    content = journal.read_bytes()
    at = content.index(b'"step":2')
    journal.write_bytes(content[:at] + b"X" + content[at + 1 :] + b'{"seq":99,"low"')
    record = only(copy)
    assert list(record.scalars("x")) == [(0, 0.0), (1, 1.0), (3, 3.0), (4, 4.0)]
    assert record.status == "finished"
    first, last = record.damage()
    assert (first.offset, first.reason) == (content.rindex(b"\n", 0, at) + 1, "the checksum does not match")
    assert (last.offset, last.reason) == (len(content), "the last line is incomplete")
    assert record.damage() == [first, last]


def test_a_medium_that_is_missing_is_named(begin, root):
    with begin() as run:
        run.log_table("t", {"a": [1]}, step=0)
    (file,) = (run.dir / "media").iterdir()
    file.unlink()
    with pytest.raises(JournalError, match=r"event \d+ \(table\) of writer .* cannot be read"):
        only(root).tables("t")


# ---------------------------------------------------------------- files


@given(trees)
def test_json_files_come_back_exactly(tree):
    content = dump_json({"tree": tree})
    assert repr(load_json(content)) == repr({"tree": tree})

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    json.loads(content, parse_constant=refuse)


def test_exclusive_creation_has_one_winner(tmp_path):
    out, _ = run_program(
        """
        import os
        from pathlib import Path
        from tracking_core.layout.runs import write_exclusively

        children = []
        begin, go = os.pipe()
        for who in range(8):
            child = os.fork()
            if not child:
                os.close(go)
                os.read(begin, 1)
                won = [n for n in range(50) if write_exclusively(Path(f"place/{n}.json"), f"{who}".encode() * 5000)]
                Path(f"won-{who}").write_text(" ".join(map(str, won)))
                os._exit(0)
            children.append(child)
        Path("place").mkdir()
        os.close(go)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
        """,
        tmp_path,
    )
    won = {int(n): who for who in range(8) for n in (tmp_path / f"won-{who}").read_text().split()}
    assert sorted(won) == list(range(50))
    assert sum(len((tmp_path / f"won-{who}").read_text().split()) for who in range(8)) == 50
    assert {n: (tmp_path / "place" / f"{n}.json").read_text() for n in won} == {
        n: f"{who}" * 5000 for n, who in won.items()
    }
    assert len(os.listdir(tmp_path / "place")) == 50


def test_exclusive_creation_without_links(tmp_path, monkeypatch):
    """File systems without hard links are not at hand: the system call is told to refuse, as it does there."""

    def refuse(*args, **keywords):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert write_exclusively(tmp_path / "a", b"1") is True
    assert write_exclusively(tmp_path / "a", b"2") is False
    assert (tmp_path / "a").read_bytes() == b"1"
    assert os.listdir(tmp_path) == ["a"]


def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    (tmp_path / "run").mkdir()
    run_program(
        """
        import os, resource
        from pathlib import Path
        from tracking_core.base.files import replace_file, write_exclusively
        from tracking_core.layout.media import put_media
        from tracking_core.layout.runs import create_run

        Path("whole").write_bytes(b"old")
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        for do in [
            lambda: write_exclusively(Path("new"), b"x" * 5000),
            lambda: replace_file(Path("whole"), b"x" * 5000),
            lambda: put_media(Path("run"), b"x" * 5000, "bin"),
            lambda: create_run(Path("run"), {"notes": "x" * 5000}),
        ]:
            try:
                do()
            except OSError:
                continue
            raise AssertionError
        """,
        tmp_path,
    )
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["media", "run", "whole"]
    assert (tmp_path / "whole").read_bytes() == b"old"


def test_files_are_replaced_whole(tmp_path):
    path = tmp_path / "file"
    replace_file(path, b"one")
    with path.open("rb") as reading:
        replace_file(path, b"two")
        assert reading.read() == b"one"
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["file"]


def test_media_are_kept_under_their_digest(tmp_path):
    name = put_media(tmp_path, b"content", "txt")
    assert name == "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73.txt"
    assert put_media(tmp_path, b"content", "txt") == name
    assert {path.name: path.read_bytes() for path in (tmp_path / "media").iterdir()} == {name: b"content"}


def test_a_run_is_created_once(tmp_path):
    create_run(tmp_path / "p" / "r", {"id": "r"})
    with pytest.raises(RunExistsError, match="resume='allow'"):
        create_run(tmp_path / "p" / "r", {"id": "other"})
    assert json.loads((tmp_path / "p" / "r" / "run.json").read_text()) == {"v": 1, "id": "r"}
    assert find_run(tmp_path, "r") == tmp_path / "p" / "r"


@pytest.mark.system
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    config=st.dictionaries(any_text, trees, max_size=3),
    name=any_text,
    value=st.one_of(st.floats(), st.integers(-(2**80), 2**80)),
)
def test_any_names_and_values_come_back(tmp_path, config, name, value):
    with tracking.start_run("p", root=tmp_path / os.urandom(6).hex(), backends="local", config=config) as run:
        run.log_scalars({name: value}, step=0)
        run.log_text(name, name, step=1)
    directory = run.dir
    record = tracking.open_store(directory.parent.parent).run(run.id)
    assert repr(record.config) == repr(dict(run.config))
    assert record.scalar_names() == record.names("text") == [name]
    np.testing.assert_array_equal(record.scalars(name).value, [float(value)])
    assert record.media("text", name) == [(1, name)]
    assert only_run(directory.parent.parent) == directory


def test_bytes_of_an_image_are_kept(begin, root):
    out = io.BytesIO()
    Pillow.new("RGB", (3, 2), (1, 2, 3)).save(out, format="PNG", compress_level=0)
    with begin() as run:
        run.log_images({"a": Image(out.getvalue())}, step=0)
    (file,) = (run.dir / "media").iterdir()
    assert file.read_bytes() == out.getvalue()
