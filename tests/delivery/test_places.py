"""One place at a backend, however it is written: one cursor, one lease, and each row once."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

import tracking_core as tracking
from tests.support.recording_adapter import install_recorder
from tracking_core.backends.plugins import find_adapter, forget_adapters
from tracking_core.backends.targets import key_of, parse_target
from tracking_core.cli.app import app
from tracking_core.compaction import compaction
from tracking_core.delivery.cursor import Cursor
from tracking_core.delivery.lease import Lease
from tracking_core.delivery.places import cursor_key, cursor_path, cursor_paths, owner, take_lease
from tracking_core.delivery.process import client as deliverer
from tracking_core.store.records import RunRecord

pytestmark = pytest.mark.system

SHORT, LONG = "rec", "rec://stub/p"
HERE = "rec://stub/p"


@pytest.fixture
def rec(tmp_path, monkeypatch):
    return install_recorder(tmp_path, monkeypatch)


def record(backends, steps, **more):
    more = {"delivery": "inline", "run_id": "r", "resume": "allow", **more}
    with tracking.start_run("p", root="runs", backends=backends, **more) as run:
        for step in steps:
            run.log_scalars({"x": float(step)}, step=step)
    assert run.finish().ok
    return run


def sync(*arguments, code=0):
    result = CliRunner().invoke(app, ["sync", *arguments, "--root", "runs", "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)["runs"]


def cursors(run):
    return sorted(path.name for path in (run.dir / "cursors").glob("*.json"))


@pytest.mark.parametrize("delivery", ["inline", "thread", "process"])
@pytest.mark.parametrize("both", [f"{SHORT},{LONG}", [LONG, SHORT]])
def test_two_ways_to_write_a_place_are_one_destination(rec, both, delivery):
    run = record(both, range(5), delivery=delivery)
    assert list(run.finish()) == ["local", "rec"]
    assert rec.steps() == [(HERE, step) for step in range(5)]
    assert rec.opened == 1
    assert json.loads((run.dir / "run.json").read_text())["targets"] == [
        both.split(",")[0] if isinstance(both, str) else LONG
    ]


def test_one_place_with_two_sets_of_filters_is_refused_before_anything_is_there(rec):
    with pytest.raises(tracking.SettingsError, match="are one place with two sets of filters"):
        tracking.start_run("p", root="runs", backends=f"{SHORT}?every=2,{LONG}")
    assert not Path("runs").exists()
    # Two places may have them.
    run = record(f"{SHORT}?every=2,rec://stub/q", range(4))
    assert sorted(rec.steps()) == [(HERE, 0), (HERE, 2), *(("rec://stub/q", step) for step in range(4))]
    assert len(cursors(run)) == 2


@pytest.mark.parametrize("delivery", ["inline", "process"])
@pytest.mark.parametrize(("first", "second"), [(SHORT, LONG), (LONG, SHORT)])
def test_a_run_is_continued_under_another_way_to_write_its_target(rec, first, second, delivery):
    record(first, range(3), delivery=delivery)
    run = record(second, range(3, 6), delivery=delivery)
    assert rec.steps() == [(HERE, step) for step in range(6)]
    assert [call["resumed"] for call in rec.all("open")] == [False, True]
    assert len(cursors(run)) == 1
    # Each session counts what it did itself.
    assert run.finish()["rec"].delivered == 3


def test_a_session_counts_its_own_when_a_deliverer_dies(rec, troubles):
    """What the cursor says then is more: the place had records in an earlier session, under another name."""
    record(LONG, range(3), delivery="process")
    run = tracking.start_run("p", root="runs", backends=SHORT, run_id="r", resume="must")
    run.log_scalars({"x": 3.0}, step=3)
    assert run.flush(60)["rec"].delivered == 1
    process = deliverer.deliverer().process
    process.kill()
    process.wait(30)
    run.log_scalars({"x": 4.0}, step=4)
    assert run.finish()["rec"].delivered == 2
    assert {reason for reason, _, _ in troubles} == {"deliverer"}
    assert sorted({step for _, step in rec.steps()}) == [0, 1, 2, 3, 4]


def test_sync_knows_the_place_by_any_name(rec):
    run = record(SHORT, range(3))
    for to in (LONG, SHORT):
        (one,) = sync("r", "--to", to)
        assert [(target["delivered"], target["pending"]) for target in one["targets"]] == [(0, 0)]
    # Both at once are one.
    (one,) = sync("r", "--to", f"{LONG},{SHORT}")
    assert len(one["targets"]) == 1
    result = CliRunner().invoke(app, ["sync", "r", "--root", "runs", "--to", f"{LONG}?every=2", "--to", SHORT])
    assert result.exit_code == 1
    assert "two sets of filters" in result.output
    assert rec.steps() == [(HERE, step) for step in range(3)]
    assert len(cursors(run)) == 1


def test_what_a_target_meant_when_it_was_opened_first_holds_for_the_run(rec, monkeypatch):
    """Elsewhere the environment is another: that of a machine which synchronises, for one."""
    run = record(SHORT, range(3))
    monkeypatch.setenv("REC_TEAM", "elsewhere")
    asked = len(rec.all("asked"))
    target = parse_target(SHORT)
    assert cursor_key(run.dir, target) == cursor_key(run.dir, target, ask=True) == key_of("rec", HERE)
    (one,) = sync("r")
    assert [(target["delivered"], target["pending"]) for target in one["targets"]] == [(0, 0)]
    assert len(rec.all("asked")) == asked
    # What the run has not heard of yet is asked of the adapter, as things are here.
    assert cursor_key(run.dir, parse_target("rec:p"), ask=True) == key_of("rec", "rec://elsewhere/p")


def test_what_is_kept_of_a_place_is_as_documented(rec):
    import hashlib

    run = record(SHORT, range(1))
    spelling, place = (hashlib.sha256(text.encode()).hexdigest()[:12] for text in (SHORT, HERE))
    kept = json.loads((run.dir / "cursors" / f"rec-{spelling}.place").read_text())
    assert kept == {"v": 1, "target": SHORT, "place": HERE}
    assert cursors(run) == [f"rec-{place}.json"]
    # What the filters say has no part in it.
    assert cursor_key(run.dir, parse_target(f"{SHORT}?every=3")) == f"rec-{place}"


# ---------------------------------------------------------------- stores of before


def of_before(tmp_path, monkeypatch, *targets, steps=range(3)):
    """A run that was delivered while the adapter said nothing of places."""
    before = install_recorder(tmp_path, monkeypatch, places=False)
    for number, target in enumerate(targets):
        run = record(target, steps if not number else ())
    assert cursors(run) == sorted(f"{parse_target(target).key}.json" for target in targets)
    assert not list((run.dir / "cursors").glob("*.place"))
    install_recorder(tmp_path, monkeypatch)
    return run, before


@pytest.mark.parametrize("delivery", ["inline", "process"])
def test_a_cursor_of_before_is_taken_over(tmp_path, monkeypatch, delivery):
    run, rec = of_before(tmp_path, monkeypatch, SHORT)
    target = parse_target(SHORT)
    # Whoever only looks finds it where it is.
    assert cursor_path(run.dir, target, ask=True).stem == target.key
    assert [one.delivered for one in RunRecord(run.dir).deliveries()] == [3]
    again = record(SHORT, range(3, 5), delivery=delivery)
    assert rec.steps() == [(HERE, step) for step in range(5)]
    assert rec.all("open")[-1]["state"] == {"opened": 1}
    assert cursors(run) == [f"{key_of('rec', HERE)}.json"]
    assert again.finish()["rec"].delivered == 2
    # And under the other name it goes on.
    record(LONG, range(5, 6))
    assert rec.steps() == [(HERE, step) for step in range(6)]


def test_a_cursor_of_before_is_not_taken_from_who_delivers_with_it(tmp_path, monkeypatch):
    run, rec = of_before(tmp_path, monkeypatch, SHORT)
    target = parse_target(SHORT)
    lease = Lease(run.dir, target.key, "rec")
    assert owner(run.dir, target, ask=True) is not None
    with pytest.raises(tracking.LeaseHeldError):
        take_lease(run.dir, target, find_adapter("rec"), "rec")
    # Neither is taken: that of the place was given back.
    assert cursors(run) == [f"{target.key}.json"]
    assert [path.stem for path in (run.dir / "cursors").glob("*.lease")] == [target.key]
    (run.dir / "cursors" / f"{target.key}.json").rename(run.dir / "aside")
    with pytest.raises(tracking.LeaseHeldError):
        take_lease(run.dir, target, find_adapter("rec"), "rec")
    (run.dir / "aside").rename(run.dir / "cursors" / f"{target.key}.json")
    lease.release()
    take_lease(run.dir, target, find_adapter("rec"), "rec").release()
    assert cursors(run) == [f"{key_of('rec', HERE)}.json"]
    assert not list((run.dir / "cursors").glob("*.lease"))


def test_of_two_cursors_of_one_place_one_goes_on(tmp_path, monkeypatch):
    """Where a run was given twice to one place, what the second way to write it says holds nobody up."""
    run, rec = of_before(tmp_path, monkeypatch, SHORT, "rec:p")
    assert rec.steps() == [(HERE, step) for step in range(3)] * 2
    record(SHORT, range(3, 5))
    record("rec:p", range(5, 7))
    assert rec.steps()[6:] == [(HERE, step) for step in range(3, 7)]
    assert [path.stem for path in cursor_paths(run.dir)] == [key_of("rec", HERE)]
    assert [(one.pending, one.delivered) for one in RunRecord(run.dir).deliveries()] == [(0, 7)]


def test_compaction_waits_for_the_cursor_of_the_place(rec):
    pytest.importorskip("pyarrow")
    run = record(SHORT, range(50))
    done = compaction.compact(run.dir, over=True)
    assert (done.parts, done.removed, done.waiting) == (1, 1, 0)
    assert not list((run.dir / "journal").glob("*.jsonl"))
    (one,) = sync("r", "--to", LONG)
    assert one["ok"]
    assert rec.steps() == [(HERE, step) for step in range(50)]


def test_what_is_kept_of_places_is_mirrored_with_the_cursors(tmp_path, rec, monkeypatch):
    """Who delivers from the mirror, perhaps with another environment, goes on where the run had come to."""
    where = f"file://{tmp_path}/mirror"
    monkeypatch.setenv("TRACKING_MIRROR", where)
    monkeypatch.setenv("TRACKING_CACHE", str(tmp_path / "cache"))
    # What another had written before, and its cursor, are as good.
    run = begin_and_deliver(3)
    run.finish()
    kept = sorted(path.name for path in (tmp_path / "mirror" / "p" / "r" / "cursors").iterdir())
    assert kept == sorted([f"{key_of('rec', HERE)}.json", f"{parse_target(SHORT).key}.place"])
    monkeypatch.delenv("TRACKING_MIRROR")
    monkeypatch.setenv("REC_TEAM", "elsewhere")
    result = CliRunner().invoke(app, ["sync", "r", "--root", where, "--json"])
    assert result.exit_code == 0, result.output
    assert rec.steps() == [(HERE, step) for step in range(3)]


def begin_and_deliver(count):
    run = tracking.start_run("p", root="runs", run_id="r", backends=SHORT, delivery="inline")
    for step in range(count):
        run.log_scalars({"x": float(step)}, step=step)
    run.flush()
    return run


# ---------------------------------------------------------------- what may go wrong


def test_a_listing_needs_no_adapter(tmp_path, rec):
    run = record(SHORT, range(3))
    shutil.rmtree(rec.site)
    forget_adapters()
    with pytest.raises(tracking.UnknownAdapterError):
        find_adapter("rec")
    (found,) = RunRecord(run.dir).deliveries()
    assert (found.target, found.pending, found.delivered, found.status) == (SHORT, 0, 3, "finished")
    for command in (["runs"], ["prune", "--older-than", "0d", "--delivered", "--dry-run"], ["verify", "r"]):
        result = CliRunner().invoke(app, [*command, "--root", "runs"])
        assert result.exit_code in {0, 2}, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    # Who asks takes the target for itself.
    assert cursor_key(run.dir, parse_target(LONG), ask=True) == parse_target(LONG).key


def test_a_hook_that_fails_concerns_its_target_alone(tmp_path, monkeypatch, troubles):
    rec = install_recorder(tmp_path, monkeypatch)
    module = rec.site / "rec_adapter_with_places.py"
    module.write_text(module.read_text().replace('    write("asked", target=str(target))\n', "    1 / 0\n"))
    with tracking.start_run("p", root="runs", backends=f"{SHORT},tensorboard:./tb", delivery="thread") as run:
        run.log_scalars({"x": 1.0}, step=0)
    report = run.finish()
    assert (report["tensorboard"].ok, report["rec"].pending) == (True, 1)
    assert "failed to name the place of a run: ZeroDivisionError" in report["rec"].last_error
    with pytest.raises(tracking.BrokenAdapterError, match="failed to name the place of a run"):
        tracking.start_run("p", root="runs", backends=f"{SHORT},{LONG}")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"v":1}', b'{"v":1,"place":7}', b'{"v":1,"place":""}', b"\xff"]
)
def test_a_damaged_note_of_a_place_is_made_anew(rec, content):
    run = record(SHORT, range(2))
    path = run.dir / "cursors" / f"{parse_target(SHORT).key}.place"
    path.write_bytes(content)
    assert cursor_path(run.dir, parse_target(SHORT), ask=True).stem == key_of("rec", HERE)
    record(SHORT, range(2, 4))
    assert rec.steps() == [(HERE, step) for step in range(4)]
    assert json.loads(path.read_text())["place"] == HERE


def test_a_note_of_a_place_is_read_from_files_alone(rec):
    import os

    run = record("local", range(2))
    path = run.dir / "cursors" / f"{parse_target(SHORT).key}.place"
    path.parent.mkdir()
    os.mkfifo(path)
    # It would wait for ever for somebody to write.
    assert cursor_key(run.dir, parse_target(SHORT)) == parse_target(SHORT).key
    assert cursor_paths(run.dir) == []


def test_of_several_that_open_at_once_one_is_believed(rec, monkeypatch):
    run = record("local", range(2))
    adapter, target = find_adapter("rec"), parse_target(SHORT)
    begin, found = threading.Barrier(8), []

    def open_it():
        begin.wait()
        with contextlib.suppress(tracking.LeaseHeldError):
            take_lease(run.dir, target, adapter, "rec").release()
        found.append(cursor_key(run.dir, target))

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [key_of("rec", HERE)] * 8
    assert [path.name for path in (run.dir / "cursors").iterdir()] == [f"{target.key}.place"]


def test_an_adapter_that_says_nothing_keeps_nothing(tmp_path, monkeypatch):
    install_recorder(tmp_path, monkeypatch, places=False)
    run = record(SHORT, range(2))
    assert sorted(path.name for path in (run.dir / "cursors").iterdir()) == [f"{parse_target(SHORT).key}.json"]
    assert Cursor.load(run.dir, parse_target(SHORT)).count("delivered") == 2
