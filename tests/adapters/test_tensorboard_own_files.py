"""A cursor is nobody's word: of what it names, only the run's own event files are continued, cut back or emptied."""

from __future__ import annotations

import copy
import json
import os
import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto import event_pb2

import tracking_core as tracking
from tests.support.programs import REPO
from tracking_core import RunInfo, SettingsError, open_tracker
from tracking_core.backends.targets import parse_target
from tracking_tensorboard.kept import kept
from tracking_tensorboard.testing import read_run

FIXTURE = REPO / "tests" / "fixtures" / "tensorboard-1"


def opened(state=None, target="tensorboard:tb", **details):
    run = RunInfo(**{"id": "r", "name": "r", "started": 1000.0, **details}, state=copy.deepcopy(state or {}))
    return open_tracker(target, run), run


def log(tracker, *steps):
    for step in steps:
        tracker.log_scalars({"loss": float(step)}, step=step, wall_time=1000.0 + step)


def written(*steps, **details):
    """A finished run, its event file and its state."""
    tracker, run = opened(**details)
    log(tracker, *steps)
    tracker.finish()
    return Path("tb", run.state["file"]), dict(run.state)


def snapshot(*places):
    """Everything below some places, without following links: content, size and kind."""
    found = {}
    for place in places:
        for path in sorted([Path(place), *Path(place).rglob("*")]):
            facts = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(facts.st_mode) else None
            found[str(path)] = (stat.S_IFMT(facts.st_mode), facts.st_size if content is not None else None, content)
    return found


def losses(place):
    return [row.step for row in read_run(Path(place)).scalars if row.name == "loss"]


def first_event(path):
    return event_pb2.Event.FromString(next(iter(RawEventFileLoader(str(path)).Load())))


# ---------------------------------------------------------------- the mark


def test_a_file_says_whose_it_is(tmp_path):
    file, state = written(0, id='a "r"\u00fc/', name="n")
    event = first_event(file)
    assert event.file_version == "brain.Event:2"
    kind, _, facts = event.source_metadata.writer.partition(" ")
    assert (kind, json.loads(facts)) == (
        "tracking-core", {"run": 'a "r"\u00fc/', "target": parse_target("tensorboard:tb").key}
    )  # fmt: skip
    assert state["target"] == parse_target("tensorboard:tb").key


def test_a_file_of_before_marks_is_continued_where_it_was_confirmed(tmp_path):
    shutil.copytree(FIXTURE, "tb")
    state = json.loads(Path("tb/state.json").read_text())
    details = {"id": "old", "name": "an old run", "config": {"lr": 0.5}}
    tracker, run = opened(state, **details)
    assert tracker.remarks == []
    file = Path("tb", state["file"])
    assert file.stat().st_size == state["length"]
    tracker.log_scalars({"val/loss": 1.5}, step=3, step_axis="epoch")
    tracker.finish()
    assert len(list(Path("tb").rglob("*tfevents*"))) == 1
    rows = [(row.axis, row.step, row.value) for row in read_run(file.parent).scalars if row.name == "val/loss"]
    assert rows == [("epoch", step, step / 2) for step in range(4)]
    # Another run's, all the same.
    before = snapshot("tb")
    tracker, _ = opened(state, **{**details, "id": "ld"})
    assert len(tracker.remarks) == 1
    tracker.finish()
    after = snapshot("tb")
    assert {path: after[path] for path in before if Path(path).is_file()} == {
        path: facts for path, facts in before.items() if Path(path).is_file()
    }


def test_another_spelling_of_the_place_continues_the_file(tmp_path):
    """The cursor is one for all spellings of a place; the file has the key of the one that it was begun under."""
    file, state = written(0, 1)
    tracker, run = opened(state, f"tensorboard:{tmp_path}/./tb/")
    assert tracker.remarks == []
    log(tracker, 2)
    tracker.finish()
    assert losses(file.parent) == [0, 1, 2]
    assert run.state["target"] == state["target"]


# ---------------------------------------------------------------- what a cursor may say


@pytest.fixture
def victim(tmp_path):
    """Something of somebody else: beside the log directory, and in it."""
    Path("victim.txt").write_text("precious " * 1000)
    Path("tb/other").mkdir(parents=True)
    Path("tb/other/notes.txt").write_text("mine " * 1000)
    Path("tb/notes.txt").write_text("mine too " * 1000)
    return tmp_path


NAMES = [
    "../victim.txt", "other/notes.txt", "notes.txt", "r/../../victim.txt", "r/../other/notes.txt", "", ".", "..", "r",
    "r/", "/etc/hosts", "r/events.out.tfevents.1700000000.h.1.00000000/../../../victim.txt", "r\0", "r/\0",
    "x\0-r/events.out.tfevents.1700000000.h.1.00000000", "r//etc/hosts", "é" * 5000, "r/" + "x" * 5000,
    "../r/events.out.tfevents.1700000000.h.1.00000000",
]  # fmt: skip


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_file_elsewhere_is_left_alone(victim, name, absolute):
    """The name is what a cursor says; the run goes on in a file of its own, and says so."""
    if absolute:
        name = f"{victim}/tb/{name}"
    before = snapshot(".")
    state = {"file": name, "length": 10, "tags": {}, "target": parse_target("tensorboard:tb").key}
    for replaced in ((), (state,)):
        tracker, run = opened({} if replaced else state, replaced=replaced, generation=len(replaced))
        log(tracker, 1)
        tracker.finish()
        if not replaced:
            assert "a new one is started" in tracker.remarks[0]
        assert losses(Path("tb", run.state["file"]).parent) == [1]
        after = snapshot(".")
        assert {path: after[path] for path in before} == before
        shutil.rmtree("tb/r")


@pytest.mark.parametrize("wrong", [None, 5, 1.5, True, ["x"], {"a": 1}, -1, "x", 2**70, 10**400])
@pytest.mark.parametrize("key", ["file", "length", "tags", "counts", "hparams", "session", "ended", "last", "target"])
def test_a_value_of_another_type_costs_nobody_anything(tmp_path, key, wrong):
    tracker, run = opened(config={"lr": 1})
    log(tracker, 0, 1)
    tracker.flush()
    state = json.loads(json.dumps(run.state))
    file = Path("tb", state["file"])
    tracker.finish()
    state[key] = wrong
    tracker, run = opened(state, config={"lr": 1})
    log(tracker, 2)
    tracker.finish()
    assert sorted(losses(file.parent)) == [0, 1, 2]
    if key in {"file", "length"}:
        assert len(tracker.remarks) == 1
        assert len(list(file.parent.iterdir())) == 2
        assert losses_of(file) == [0, 1]


def losses_of(file):
    aside = file.parent.parent.parent / "aside"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    shutil.copy(file, aside)
    return losses(aside)


@pytest.mark.parametrize("change", ["huge", "amid a record", "in a header", "zero"])
def test_a_length_that_no_record_ends_at_cuts_nothing(tmp_path, change):
    file, state = written(*range(5))
    whole = file.read_bytes()
    state["length"] = {"huge": len(whole) + 1, "amid a record": len(whole) - 20, "in a header": 3, "zero": 0}[change]
    for last in (state["last"], None, 0, 10**9):
        tracker, _ = opened({**state, "last": last})
        log(tracker, 5)
        tracker.finish()
        assert file.read_bytes() == whole
        assert len(tracker.remarks) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = ["file", "length", "last", "target", "tags", "counts", "hparams", "session", "ended"]


@pytest.mark.system
@given(st.dictionaries(st.sampled_from(KEYS), json_values))
def test_any_state_is_read(state):
    known = kept(state)
    assert known.file is None or isinstance(known.file, str)
    assert known.length is None or 0 <= known.length < 2**53
    json.dumps([known.tags, known.counts, known.hparams, known.ended])


# ---------------------------------------------------------------- files and directories that are not what they seem


def link_to_file(file, elsewhere):
    elsewhere.write_bytes(file.read_bytes())
    file.unlink()
    file.symlink_to(elsewhere.resolve())


def link_to_directory(file, elsewhere):
    file.parent.rename(elsewhere)
    file.parent.symlink_to(elsewhere.resolve())


def pipe(file, elsewhere):
    file.unlink()
    os.mkfifo(file)


def directory(file, elsewhere):
    file.unlink()
    file.mkdir()


def of_another_run(file, elsewhere):
    other, _ = written(7, id="x-r", name="")
    file.write_bytes(other.read_bytes())


def of_another_target(file, elsewhere):
    other, _ = written(7, target="tensorboard:tb?hparams=off")
    file.write_bytes(other.read_bytes())
    other.unlink()


def of_another_writer(file, elsewhere):
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(elsewhere)) as writer:
        for step in range(5):
            writer.add_scalar("loss", step, step)
    (other,) = elsewhere.iterdir()
    file.write_bytes(other.read_bytes())


def text(file, elsewhere):
    file.write_bytes(b"tracking-core " + json.dumps({"run": "r"}).encode() + b"\n" * 5000)


def nothing(file, elsewhere):
    file.write_bytes(b"")


KINDS = [link_to_file, pipe, directory, of_another_run, of_another_target, of_another_writer, text]


@pytest.mark.parametrize("become", KINDS)
def test_what_is_not_the_runs_own_file_is_left_as_it_is(tmp_path, become):
    file, state = written(*range(5))
    elsewhere = tmp_path / "elsewhere"
    become(file, elsewhere)
    before = snapshot(file, *([elsewhere] if elsewhere.exists() else []))
    tracker, run = opened(state)
    log(tracker, 5)
    tracker.finish()
    assert len(tracker.remarks) == 1
    assert run.state["file"] != state["file"]
    # As what is to be emptied it is left too.
    tracker, _ = opened({}, generation=1, replaced=(state,))
    tracker.finish()
    assert snapshot(*before) == before
    assert len(tracker.remarks) == 1


def test_a_directory_of_the_run_that_is_a_link_is_refused(tmp_path):
    """There is no other place for the run, and whose the directory is nobody can tell."""
    file, state = written(0)
    elsewhere = tmp_path / "elsewhere"
    link_to_directory(file, elsewhere)
    before = snapshot(elsewhere)
    for known in (state, {}):
        with pytest.raises(SettingsError, match=r"r is a link, and runs are not written through links: remove it"):
            opened(known)
    assert snapshot(elsewhere) == before


def test_the_log_directory_may_be_a_link_and_the_one_inside_a_run_may_not(tmp_path):
    Path("real").mkdir()
    Path("tb").symlink_to("real")
    file, state = written(0)
    tracker, _ = opened(state)
    assert tracker.remarks == []
    tracker.finish()
    run_dir = tmp_path / "copied"
    run_dir.mkdir()
    (run_dir / "tensorboard").symlink_to(tmp_path / "real")
    before = snapshot("real")
    with pytest.raises(SettingsError, match=r"copied/tensorboard is a link"):
        opened({}, "tensorboard", dir=run_dir)
    assert snapshot("real") == before


def test_files_of_earlier_generations_are_emptied_once(tmp_path):
    file, state = written(*range(5))
    tracker, run = opened({}, generation=1, replaced=(state, {"file": 5}, {}))
    log(tracker, 1)
    assert file.stat().st_size == 0
    assert tracker.remarks == []
    again, _ = opened({}, generation=1, replaced=(state,))
    assert again.remarks == []
    again.finish()
    tracker.finish()


# ---------------------------------------------------------------- behind a run


def cursor_of(run):
    (path,) = (run.dir / "cursors").glob("tensorboard-*.json")
    return path


@pytest.mark.system
@pytest.mark.parametrize("delivery", ["thread", "process"])
def test_a_cursor_that_names_another_file_is_said_and_nothing_is_lost(tmp_path, troubles, delivery):
    start = {"run_id": "r", "name": "r", "root": "runs", "backends": "tensorboard:tb", "delivery": delivery}
    with tracking.start_run("p", **start) as run:
        log(run, 0, 1)
    assert run.finish().ok
    Path("victim.txt").write_text("precious " * 1000)
    cursor = cursor_of(run)
    content = json.loads(cursor.read_text())
    content["state"]["file"] = "../victim.txt"
    content["state"]["length"] = 3
    cursor.write_text(json.dumps(content))
    with tracking.start_run("p", **start, resume="allow") as run:
        log(run, 2)
    assert run.finish().ok
    assert Path("victim.txt").read_text() == "precious " * 1000
    assert sorted(losses("tb/r")) == [0, 1, 2]
    ((reason, message, _),) = troubles
    assert reason == "opening"
    assert "'../victim.txt' does not have the name of an event file of this run" in message


def test_a_run_that_went_back_empties_no_other_file(tmp_path, troubles, monkeypatch):
    monkeypatch.setenv("TRACKING_DELIVERY", "thread")
    start = {"run_id": "r", "name": "r", "root": "runs", "backends": "tensorboard:tb"}
    with tracking.start_run("p", **start) as run:
        log(run, *range(5))
    (victim,) = Path("tb/r").iterdir()
    Path("tb/other-r").mkdir()
    other = shutil.copy(victim, f"tb/other-r/{victim.name[:-8]}00000000")
    Path(other).write_bytes(b"of somebody else")
    cursor = cursor_of(run)
    content = json.loads(cursor.read_text())
    content["state"]["file"] = f"other-r/{Path(other).name}"
    cursor.write_text(json.dumps(content))
    with tracking.start_run("p", **start, resume="must", resume_step=2) as run:
        log(run, 3)
    assert run.finish().ok
    assert Path(other).read_bytes() == b"of somebody else"
    assert [reason for reason, _, _ in troubles if reason == "opening"] == ["opening"]
