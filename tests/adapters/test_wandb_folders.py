"""Which folders of the W&B client a run removes or reads again: its own, and nothing that a cursor or a name points at."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import tracking_core as tracking
from tests.support.programs import REPO
from tests.support.wandb_adapter import open_run, scalar
from tests.support.wandb_client import wandb_client
from tests.support.wandb_server import WandbServer
from tracking_core.backends.targets import parse_target
from tracking_core.delivery.sync import sync_run
from tracking_wandb.folders import MARK, Folders
from tracking_wandb.offline.run import read_offline_run

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    with WandbServer() as server:
        env = server.env(tmp_path_factory.mktemp("client"))
        with wandb_client(env) as wandb:
            wandb.setup()
            yield server, env


@pytest.fixture(autouse=True)
def _environment(online, monkeypatch):
    for name, value in online[1].items():
        monkeypatch.setenv(name, value)
    yield
    online[0].heal()


@pytest.fixture
def server(online):
    return online[0]


def info(run_id, **more):
    return tracking.RunInfo(id=run_id, name=run_id, **more)


def folders(root, run, place="here"):
    return Folders(root, run, place)


def made(root, run_id, *, suffix="", offline=True, log=True, mark=None, home="wandb", date="20260101_120000"):
    """A folder as the client makes it."""
    folder = root / home / f"{'offline-' if offline else ''}run-{date}-{run_id}{suffix and '-'}{suffix}"
    (folder / "files" / "media").mkdir(parents=True)
    if log:
        (folder / f"run-{run_id}.wandb").write_bytes(b":W&B")
    if mark is not None:
        (folder / MARK).write_text(mark if isinstance(mark, str) else json.dumps(mark))
    return folder


# ---- whose folder it is

NEIGHBOURS = [
    "exp-10",
    "exp",
    "my-exp-1",
    "exp-1-1",
    "exp-1-abcd",
    "xexp-1",
    "exp-1.",
    "exp_1",
    "EXP-1",
    "2-exp-1",
    "20260101_120000-exp-1",
]


@pytest.mark.parametrize("other", NEIGHBOURS)
def test_a_failed_opening_takes_nothing_of_a_neighbour(tmp_path, other):
    run = info("exp-1")
    opening, beside = folders(tmp_path, run), folders(tmp_path, info(other))
    theirs = [made(tmp_path, other), made(tmp_path, other, suffix=beside.suffix), made(tmp_path, other, suffix="1")]
    theirs += [made(tmp_path, other, suffix=beside.suffix, offline=False)]
    # An earlier one of the run itself, and one that another process opens in the same second.
    theirs += [made(tmp_path, "exp-1", suffix=folders(tmp_path, run).suffix), made(tmp_path, "exp-1", offline=False)]
    ours = made(tmp_path, "exp-1", suffix=opening.suffix, offline=False)
    opening.undo()
    assert not ours.exists()
    assert all(folder.is_dir() for folder in theirs)


@pytest.mark.parametrize("run_id", ["exp-[1]0*", "a*", "[!x]", "a.b", "a+", "(a|b)"])
def test_an_id_is_no_pattern(tmp_path, run_id):
    opening = folders(tmp_path, info(run_id))
    theirs = [made(tmp_path, other) for other in ("exp-10", "exp-1", "abc", "axb", "aa", "a", "b")]
    ours = made(tmp_path, run_id, suffix=opening.suffix)
    opening.mark(ours)
    assert folders(tmp_path, info(run_id)).earlier() == [ours]
    opening.undo()
    assert not ours.exists()
    assert all(folder.is_dir() for folder in theirs)


def test_earlier_folders_are_those_of_run_and_place(tmp_path):
    run = info("exp-1", dir=tmp_path / "runs" / "exp-1")
    first = folders(tmp_path, run)
    marked = made(tmp_path, "exp-1", suffix=first.suffix)
    first.mark(marked)
    unmarked = made(tmp_path, "exp-1", suffix=folders(tmp_path, run).suffix, log=False, home=".wandb")
    beside = [
        folders(tmp_path, info("exp-1", dir=run.dir), "elsewhere"),
        folders(tmp_path, info("exp-1", dir=tmp_path / "copied" / "exp-1")),
        folders(tmp_path, info("exp-10", dir=run.dir)),
    ]
    for other in beside:
        other.mark(made(tmp_path, other.run.id, suffix=other.suffix))
        made(tmp_path, other.run.id, suffix=other.suffix, home=".wandb")
    made(tmp_path, "exp-1")
    made(tmp_path, "exp-1", suffix="1", mark="[")
    made(tmp_path, "exp-1", suffix="2", mark={"run": "exp-1"})
    (made(tmp_path, "exp-1", suffix="4") / MARK).mkdir()
    made(tmp_path, "exp-1", suffix="3", mark={"run": "exp-1", "place": "here", "token": None, "dir": ["x"]})
    # `exp-1-1` may be `exp-1` with a suffix of the client; its log tells.
    made(tmp_path, "exp-1-1", date="20260101_120001", mark={**json.loads((marked / MARK).read_text())})
    assert sorted(folders(tmp_path, run).earlier()) == sorted([marked, unmarked])
    # Its directory was moved: the cursor has the token.
    moved = info("exp-1", dir=tmp_path / "moved", state=json.loads(json.dumps(dict(run.state))))
    assert folders(tmp_path, moved).earlier() == [marked]
    assert folders(tmp_path, info("exp-1", dir=tmp_path / "moved")).earlier() == []


def test_a_mark_of_an_earlier_version_counts_with_the_cursor(tmp_path):
    old = made(tmp_path, "r", mark={"run": "r"})
    made(tmp_path, "r", date="20260101_120001", mark={"run": "r"})
    assert folders(tmp_path, info("r")).earlier() == []
    assert folders(tmp_path, info("r", state={"dir": str(old)})).earlier() == [old]
    # Moved with the run, it is known by its name.
    state = {"dir": f"/gone/wandb/{old.name}"}
    assert folders(tmp_path, info("r", state=dict(state))).earlier() == []
    assert folders(tmp_path, info("r", dir=tmp_path, state=dict(state))).earlier() == [old]


def test_links_are_no_folders(tmp_path):
    """Whoever sends a run may put links, marks and a cursor into it that fit."""
    victim, run_dir = tmp_path / "victim", tmp_path / "run"
    run_dir.mkdir()
    run = info("r", dir=run_dir)
    opening = folders(run_dir, run)
    theirs = made(victim, "r", suffix=opening.suffix)
    opening.mark(theirs)
    (run_dir / "wandb").mkdir()
    (run_dir / "wandb" / theirs.name).symlink_to(theirs)
    made(run_dir, "r", suffix="1", mark=None)
    (run_dir / "wandb" / "offline-run-20260101_120000-r-1" / MARK).symlink_to(theirs / MARK)
    run.state["dir"] = str(theirs)
    assert folders(run_dir, run).earlier() == []
    opening.remove(run_dir / "wandb" / theirs.name)
    opening.remove(theirs)
    opening.undo()
    assert (theirs / MARK).exists()

    (run_dir / "wandb").rename(run_dir / "aside")
    (run_dir / "wandb").symlink_to(victim / "wandb")
    assert folders(run_dir, run).earlier() == []
    opening.undo()
    assert (theirs / MARK).exists()
    with pytest.raises(tracking.SettingsError, match="is a link"):
        folders(run_dir, run).check()


# ---- a directory in which the client would not write, and take a temporary one


def offline(where, steps=range(1), **more):
    with tracking.start_run("p", root="runs", backends=where, delivery="inline", **more) as run:
        for step in steps:
            run.log_scalars({"x": float(step)}, step=step)
    return run


@pytest.fixture
def temporary(tmp_path_factory, monkeypatch):
    """What everybody takes for the temporary directory."""
    place = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr("tempfile.tempdir", str(place))
    return place


@pytest.mark.parametrize(
    ("directory", "says"),
    [
        ("file", "file is a file"),
        ("file/below", "file is a file, so .*file/below cannot be a directory"),
        ("dangling", "dangling is a broken link"),
        ("taken", "taken/wandb is a file"),
        ("hidden", "hidden/.wandb is a file"),
        ("shut", "shut cannot be written to"),
        ("shut/below", "shut cannot be written to"),
        ("unread", "unread cannot be read"),
        ("x" * 300, "File name too long"),
        ("/proc/x", "/proc is in a file system that cannot store files"),
    ],
)
@pytest.mark.parametrize("mode", ["offline", "online"])
def test_a_directory_that_cannot_be_is_refused_at_the_start(tmp_path, monkeypatch, directory, says, mode):
    if directory.startswith("/proc") and not os.path.exists("/proc/self/mountinfo"):
        pytest.skip("as Linux has it")
    for name in ("taken", "hidden", "shut", "unread"):
        (tmp_path / name).mkdir()
    for name in ("file", "taken/wandb", "hidden/.wandb"):
        (tmp_path / name).write_text("")
    (tmp_path / "dangling").symlink_to("nowhere")
    real = os.access
    shut = {str(tmp_path / "shut"): os.W_OK, str(tmp_path / "unread"): os.R_OK}
    monkeypatch.setattr(os, "access", lambda path, mode: not shut.get(str(path), 0) & mode and real(path, mode))
    with pytest.raises(tracking.SettingsError, match=f"^wandb: the option dir: .*{says}.*; name another directory"):
        offline(f"wandb?mode={mode}&dir={directory}")
    monkeypatch.setenv("WANDB_DIR", directory)
    with pytest.raises(tracking.SettingsError, match=f"^wandb: WANDB_DIR: .*{says}.*; name another directory"):
        offline(f"wandb?mode={mode}")
    assert not Path("runs").exists()
    # Where nothing is written it does not matter.
    offline("wandb?mode=disabled")


def test_directories_that_are_right(tmp_path, monkeypatch):
    (tmp_path / "real" / "wandb").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "arranged").mkdir()
    (tmp_path / "arranged" / "wandb").symlink_to(tmp_path / "real")
    for number, directory in enumerate(
        ("real", "link", "arranged", "new/below", "a:b", "a+b c", "10%25", "./x%20", "link/..")
    ):
        run = offline(f"wandb?mode=offline&dir={directory}", run_id=f"right{number}")
        assert run.finish().ok, directory
        (log,) = {path.resolve() for path in tmp_path.rglob(f"run-right{number}.wandb")}
        assert [row["x"] for row in read_offline_run(log).history] == [0]


@pytest.mark.parametrize("checked", [True, False])
def test_a_directory_that_is_lost_after_the_start_is_an_error_and_records_wait(
    tmp_path, monkeypatch, temporary, troubles, checked
):
    """Not even where it is lost in the moment in which the client looks: then it has begun elsewhere, and ends there."""
    (tmp_path / "client").write_text("")
    if not checked:
        monkeypatch.setattr(Folders, "prepare", lambda self: None)
    monkeypatch.setattr("tracking_wandb.checking._check_directory", lambda options: None)
    where = "wandb?mode=offline&dir=client"
    run = offline(where, run_id="r")
    report = run.finish()["wandb"]
    assert (report.delivered, report.pending) == (0, 1)
    assert ("client is a file" if checked else "did not write into") in report.last_error
    assert not list(temporary.rglob("run-r.wandb"))
    (tmp_path / "client").unlink()
    (report,) = sync_run(run.dir, [parse_target(where)], status="finished", note=lambda *note: None)
    assert (report.ok, report.delivered) == (True, 1)
    (log,) = tmp_path.rglob("run-r.wandb")
    assert log.is_relative_to(tmp_path / "client")


# ---- one directory, whatever links lead to it


@pytest.fixture
def linked(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_DIR")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "other").symlink_to("link")


def whole(tmp_path, steps):
    """There is one folder of the run, with every row once, and one cursor."""
    (log,) = {path.resolve() for path in tmp_path.rglob("run-r.wandb")}
    assert [row["x"] for row in read_offline_run(log).history] == list(range(steps))
    (_,) = (tmp_path / "runs" / "p" / "r" / "cursors").glob("wandb-*.json")


def test_links_to_one_directory_are_one_place(tmp_path, linked):
    run = offline("wandb?mode=offline&dir=link,wandb?mode=offline&dir=real", run_id="r")
    assert list(run.finish()) == ["local", "wandb"]
    for step, name in enumerate(("real", "link", "other"), 1):
        offline(f"wandb?mode=offline&dir={name}", [step], run_id="r", resume="must")
        whole(tmp_path, step + 1)


@pytest.mark.parametrize("order", [["real", "link", "other"], ["link", "other", "real"], ["other", "real", "link"]])
def test_what_was_begun_before_links_were_followed_is_gone_on_with(tmp_path, linked, monkeypatch, order):
    with monkeypatch.context() as before:
        before.setattr("tracking_wandb.places._offline", lambda folder, run: folder)
        before.setattr(
            "tracking_wandb.places.client_directory", lambda options, run: Path(os.path.normpath(options.dir))
        )
        run = offline("wandb?mode=offline&dir=link", run_id="r")
    (kept,) = run.dir.glob("cursors/*.place")
    assert json.loads(kept.read_text())["place"] == f"offline {tmp_path}/link ?/p"
    for step, name in enumerate(order, 1):
        offline(f"wandb?mode=offline&dir={name}", [step], run_id="r", resume="must")
        whole(tmp_path, step + 1)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"place": 7}', '{"place": "offline"}', '{"place": "offline  "}'])
def test_a_note_of_a_place_that_makes_no_sense_changes_nothing(tmp_path, linked, content):
    run = offline("wandb?mode=offline&dir=link", run_id="r")
    (run.dir / "cursors" / "wandb-0.place").write_text(content)
    offline("wandb?mode=offline&dir=real", [1], run_id="r", resume="must")
    whole(tmp_path, 2)


# ---- with the client


@contextlib.contextmanager
def opened_in_vain(server, tmp_path, **more):
    """While this lasts, the run exp-1 is being opened; then that fails."""
    problems = []

    def open_in_vain():
        try:
            open_run(tmp_path, "exp-1", f"base_url={server.url}&init_timeout=60", **more)
        except Exception as problem:
            problems.append(problem)

    before = set(tmp_path.glob("wandb/run-*"))
    server.stall()
    thread = threading.Thread(target=open_in_vain)
    thread.start()
    try:
        while not set(tmp_path.glob("wandb/run-*")) - before:
            assert thread.is_alive(), problems
            time.sleep(0.01)
        yield
    finally:
        # The request that hangs is answered, and those that follow are not.
        server.fail(status=500)
        server.release()
        thread.join(60)
        server.heal()
    assert [type(problem) for problem in problems] == [tracking.RetryLater]
    assert set(tmp_path.glob("wandb/run-*")) == before


@pytest.mark.parametrize("other", ["exp-10", "my-exp-1", "exp"])
@pytest.mark.parametrize("ended", [False, True])
def test_a_server_that_does_not_answer_costs_no_other_run_its_folder(server, tmp_path, other, ended):
    """The one is opened in vain while the other begins, in the same directory."""
    with opened_in_vain(server, tmp_path):
        tracker = open_run(tmp_path, other)
        tracker.deliver([scalar(1)])
        if ended:
            tracker.finish()
    if not ended:
        tracker.deliver([scalar(2)])
    tracker.finish()
    log = Path(tracker.native.dir).parent / f"run-{other}.wandb"
    assert [row["_tracking_seq"] for row in read_offline_run(log).history] == ([1] if ended else [1, 2])


_OTHER = """
import sys
from pathlib import Path
from tests.support.wandb_adapter import open_run, scalar
tracker = open_run(Path(sys.argv[1]), sys.argv[2])
tracker.deliver([scalar(1)])
tracker.flush()
print("open", flush=True)
sys.stdin.read()
tracker.deliver([scalar(2)])
tracker.finish()
"""


@pytest.mark.parametrize("other", ["exp-1", "exp-10"])
def test_nor_one_of_another_process(online, server, tmp_path, other):
    """Not even where that process has the same run open, from another directory of runs."""
    with opened_in_vain(server, tmp_path, dir=tmp_path / "copied"):
        process = subprocess.Popen(
            [sys.executable, "-c", _OTHER, str(tmp_path), other],
            cwd=REPO, env={**os.environ, **online[1]},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout.readline() == "open\n"
    try:
        process.communicate("", timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()
    (log,) = tmp_path.rglob(f"run-{other}.wandb")
    assert [row["_tracking_seq"] for row in read_offline_run(log).history] == [1, 2]


def test_a_cursor_of_a_copied_run_names_what_it_likes(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_DIR")
    with tracking.start_run("p", run_id="r", root="runs", backends="wandb?mode=offline") as run:
        run.log_scalars({"x": 1.0}, step=0)
    (path,) = run.dir.glob("cursors/wandb-*.json")
    (first,) = run.dir.glob("wandb/offline-run-*")
    victims = [tmp_path / "precious", tmp_path / "other"]
    for victim in victims:
        (victim / "files" / "media").mkdir(parents=True)
        (victim / "thesis.tex").write_text("years")
    (victims[1] / MARK).write_text((first / MARK).read_text())
    for state in ({"dir": str(victims[0])}, {"dir": str(victims[1])}, {"dir": "../../../../other"}, {"dir": "/"}):
        cursor = json.loads(path.read_text())
        cursor["state"] |= {**state, "folders": [str(victim) for victim in victims], "replaced": [str(victims[0])]}
        cursor["writers"] = {}
        path.write_text(json.dumps(cursor))
        notes: list = []
        (report,) = sync_run(
            run.dir,
            [parse_target("wandb?mode=offline")],
            status="finished",
            note=lambda *note, notes=notes: notes.append(note),
        )
        assert (report.ok, notes) == (True, [])
        assert all((victim / "thesis.tex").read_text() == "years" for victim in victims)
    # What it wrote itself was replaced, each time.
    (log,) = run.dir.rglob("run-r.wandb")
    assert [row["x"] for row in read_offline_run(log).history] == [1]


ODD = [None, True, -1, 1.5, float("nan"), "x", [], [1], [["w"]], [["w1", "2"]], [[1, 2]], {}, {"w1": "x"}, {"w1": -1}]


@pytest.mark.parametrize("odd", ODD)
def test_a_state_of_other_types_counts_as_none(server, tmp_path, odd):
    names = ("openings", "mode", "dir", "round", "sent", "token", "folders", "uploads", "facts", "config", "what")
    run_id = f"odd{ODD.index(odd)}"
    state = dict.fromkeys(names, odd)
    tracker = open_run(tmp_path, run_id, f"base_url={server.url}", state=state)
    tracker.deliver([scalar(1), tracking.Record("config", 2, "w1", 0.0, data={"a": 1})])
    tracker.finish()
    assert json.loads(json.dumps(state["sent"])) == {"w1": 2}
    again = open_run(tmp_path, run_id, f"base_url={server.url}", state={**json.loads(json.dumps(state)), "facts": odd})
    assert again.confirmed == {"w1": 1}
    again.finish()
    assert server.runs[run_id].config == {"a": 1}


def test_media_of_another_directory_are_not_uploaded(server, tmp_path):
    """A cursor that names a directory does not get its files to the server, and no link does."""
    secret = tmp_path / "home" / "files" / "media" / "id_rsa"
    secret.parent.mkdir(parents=True)
    secret.write_text("key")
    state: dict = {}
    tracker = open_run(tmp_path, "media", f"base_url={server.url}", state=state)
    folder = Path(state["dir"])
    (folder / "files" / "media" / "images").mkdir(parents=True)
    (folder / "files" / "media" / "link").symlink_to(secret)
    (folder / "files" / "media" / "links").symlink_to(secret.parent)
    (folder / "files" / "media" / "images" / "left.png").write_bytes(b"png")
    state["folders"] += [str(tmp_path / "home"), "../../home"]
    tracker.deliver([scalar(1)])
    tracker.finish()
    names = [name for name in server.runs["media"].files if name.startswith("media")]
    assert names == ["media/images/left.png"]
