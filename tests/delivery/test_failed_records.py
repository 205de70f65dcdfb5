"""Records that failed: their numbers are kept, and `tracking sync --failed` brings them to the target, each once."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

import tracking_core as tracking
from tests.support.wandb_client import wandb_client
from tests.support.wandb_server import WandbServer
from tracking_core.backends.targets import parse_target
from tracking_core.cli.app import app
from tracking_core.delivery import failed as failed_module
from tracking_core.delivery.cursor import Cursor
from tracking_core.delivery.destinations import Destination
from tracking_core.delivery.failed import Failed
from tracking_core.delivery.worker import TargetWorker
from tracking_core.testing import FakeTracker
from tracking_tensorboard.testing import find_run, read_run
from tracking_tensorboard.tracker import TensorBoardTracker
from tracking_wandb.offline.run import read_offline_run
from tracking_wandb.tracker import WandbTracker

# ---------------------------------------------------------------- the numbers

NUMBERS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 30)), max_size=60)


def numbers(failed):
    return {(writer, seq) for writer, first, last in failed for seq in range(first, last + 1)}


@given(NUMBERS, NUMBERS)
@example([("a", 1), ("a", 3), ("a", 2)], [("a", 2)])
def test_ranges_are_what_a_set_would_be(added, taken):
    failed, expected = Failed(), set()
    for one in added:
        assert failed.add(*one)
        expected.add(one)
    for one in taken:
        assert failed.discard(*one) == (one in expected)
        expected.discard(one)
    assert numbers(failed) == expected
    assert failed.total == len(expected)
    assert bool(failed) == bool(expected)
    for writer in "abc":
        mine = sorted(seq for name, seq in expected if name == writer)
        assert failed.first(writer) == (mine[0] if mine else None)
        assert failed.last(writer) == (mine[-1] if mine else 0)
        assert [seq for seq in range(32) if failed.has(writer, seq)] == mine
    assert Failed.read(json.loads(json.dumps(failed.as_json()))) == failed
    # No two of them touch.
    for writer in "ab":
        mine = [one[1:] for one in failed if one[0] == writer]
        assert all(later[0] > earlier[1] + 1 for earlier, later in zip(mine, mine[1:], strict=False))


@given(NUMBERS, NUMBERS, st.integers(0, 30), st.integers(0, 30))
def test_what_failed_both_times(first, second, reached, other_reached):
    one, other = Failed(), Failed()
    for writer, seq in first:
        if seq <= reached:
            one.add(writer, seq)
    for writer, seq in second:
        if seq <= other_reached:
            other.add(writer, seq)

    def arrived(failed, end, writer, seq):
        return seq <= end and not failed.has(writer, seq)

    found = one.besides(other, dict.fromkeys("ab", reached), dict.fromkeys("ab", other_reached))
    for writer in "ab":
        for seq in range(1, max(reached, other_reached) + 1):
            some = arrived(one, reached, writer, seq) or arrived(other, other_reached, writer, seq)
            assert found.has(writer, seq) != some


def test_there_is_an_end_to_how_many_ranges_are_kept():
    failed = Failed(limit=3)
    assert [failed.add("a", seq) for seq in (1, 3, 5, 7, 9)] == [True, True, True, False, False]
    # What joins a range takes no room.
    assert failed.add("a", 2)
    assert failed.add("a", 7)
    assert numbers(failed) == {("a", 1), ("a", 2), ("a", 3), ("a", 5), ("a", 7)}
    whole = Failed({"a": [(1, 10), (20, 20), (30, 30)]}, limit=3)
    whole.discard("a", 3)
    # The larger half stays known.
    assert numbers(whole) == {*(("a", seq) for seq in range(4, 11)), ("a", 20), ("a", 30)}
    assert whole.total == 9


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        7,
        {"a": 3},
        {"a": [[1]]},
        {"a": [[2, 1]]},
        {"a": [[0, 4]]},
        {"a": [[1, 2], [3, 4]]},
        {"a": [[1, 2**63]]},
        {"a": [["1", "2"]]},
        {"a": [[3 * n + 1, 3 * n + 1] for n in range(failed_module.LIMIT + 1)]},
    ],
)
def test_what_cannot_be_read_is_not_known(content):
    assert not Failed.read(content)


# ---------------------------------------------------------------- workers and cursors


class Backend:
    """Keeps (kind, step or data) of what it is given; refuses steps, and kinds."""

    def __init__(self, bad=(), error=tracking.Rejected):
        self.bad, self.error = set(bad), error
        self.got = []

    def log_scalars(self, scalars, *, step, **keywords):
        if step in self.bad or "scalars" in self.bad:
            raise self.error("not that")
        self.got.append((step, dict(scalars)))

    def log_images(self, images, *, step, **keywords):
        self.got.append((step, sorted(images)))

    def log_histogram(self, name, values, *, step, **keywords):
        pass

    def log_artifact(self, artifact, **keywords):
        return tracking.ArtifactRef("a")

    def log_config(self, config):
        self.facts("config", config)

    def log_summary(self, summary):
        self.facts("summary", summary)

    def facts(self, kind, data):
        if kind in self.bad:
            raise self.error("not that")
        self.got.append((kind, dict(data)))

    def finish(self, status="finished", *, error=None):
        pass

    @property
    def steps(self):
        return [step for step, _ in self.got]


def recorded(steps, **keywords):
    with tracking.start_run("p", root="runs", name="r", backends="local", **keywords) as run:
        for step in range(steps):
            run.log_scalars({"x": float(step)}, step=step)
    return run.dir


def session(directory, backend, *, target="there", again=False, close=True):
    """One opening of a target whose cursor is kept in a file."""
    parsed = parse_target(target)
    worker = TargetWorker(directory, Destination(target, parsed, backend), pause=lambda _: True, note=lambda *_: None)
    worker._backlog.resume(Cursor.load(directory, parsed))
    assert worker.open(wait=0.0)
    while worker.deliver(final=True):
        pass
    while again and worker.deliver_failed(final=True):
        pass
    if close:
        worker.close("finished", None)
    return worker


def cursor_of(directory, target="there"):
    return Cursor.load(directory, parse_target(target))


def test_the_numbers_of_what_failed_are_kept_and_sent_again():
    directory = recorded(40)
    backend = Backend({3, 4, 5, 20})
    first = session(directory, backend)
    assert (first.report().failed, first.report().recoverable) == (4, 4)
    kept = cursor_of(directory)
    assert (kept.failed.total, kept.count("failed"), kept.count("delivered")) == (4, 4, 36)
    backend.bad = {4}
    # Nothing comes again by itself.
    assert session(directory, backend).report().delivered == 0
    second = session(directory, backend, again=True).report()
    assert (second.delivered, second.failed, second.recoverable) == (3, 1, 1)
    assert backend.steps == [step for step in range(40) if step not in {3, 4, 5, 20}] + [3, 5, 20]
    backend.bad = set()
    third = session(directory, backend, again=True).report()
    assert (third.delivered, third.failed, third.recoverable, third.ok) == (1, 0, 0, True)
    assert sorted(backend.steps) == list(range(40))
    kept = cursor_of(directory)
    assert (kept.failed.total, kept.count("failed"), kept.count("delivered")) == (0, 0, 40)
    assert session(directory, backend, again=True).report().delivered == 0


def test_records_say_that_they_come_again():
    directory = recorded(5)
    seen = []

    class Batches(Backend):
        def deliver(self, records):
            for taken, record in enumerate(records):
                if record.step in self.bad:
                    raise tracking.BatchInterrupted(taken) from tracking.Rejected("not that")
                seen.append((record.step, record.again))

    backend = Batches({2})
    session(directory, backend)
    backend.bad = set()
    session(directory, backend, again=True)
    assert seen == [(0, False), (1, False), (3, False), (4, False), (2, True)]


def test_what_was_not_confirmed_stays_failed():
    directory = recorded(10)
    session(directory, Backend({3}))
    backend = Backend()
    session(directory, backend, again=True, close=False)
    # Killed here.
    assert backend.steps == [3]
    assert cursor_of(directory).failed.total == 1

    class Unsure(Backend):
        def flush(self):
            if self.got:
                raise RuntimeError("the disk is broken")

    session(directory, Unsure(), again=True)
    assert cursor_of(directory).failed.total == 1
    session(directory, Backend(), again=True)
    assert cursor_of(directory).failed.total == 0


def test_one_that_is_away_does_not_hold_up_the_others_that_failed():
    directory = recorded(10)
    backend = Backend({3, 6, 8})
    session(directory, backend)
    backend.bad, backend.error = {3}, TimeoutError
    report = session(directory, backend, again=True).report()
    assert (report.delivered, report.failed) == (2, 1)
    assert cursor_of(directory).failed.total == 1


def test_a_cursor_of_before_knows_only_how_many():
    directory = recorded(10)
    session(directory, Backend({3, 4}))
    path = cursor_of(directory).path
    content = json.loads(path.read_text())
    ((first, last),) = next(iter(content["failed"].values()))
    assert last == first + 1
    for key in ("failed", "stuck"):
        del content[key]
    path.write_text(json.dumps(content))
    old = cursor_of(directory)
    assert (old.count("failed"), old.failed.total, old.count("delivered")) == (2, 0, 8)
    assert session(directory, Backend(), again=True).report().delivered == 0
    assert cursor_of(directory).count("failed") == 2


def test_more_than_there_is_room_for_is_counted(monkeypatch):
    notes = []
    monkeypatch.setattr(Failed.__init__, "__kwdefaults__", {"limit": 3})
    directory = recorded(20)
    worker = TargetWorker(
        directory,
        Destination("there", parse_target("there"), Backend(range(0, 20, 2))),
        pause=lambda _: True,
        note=lambda *one: notes.append(one[1]),
    )
    worker._backlog.resume(cursor_of(directory))
    worker.open(wait=0.0)
    while worker.deliver(final=True):
        pass
    worker.close("finished", None)
    assert (worker.report().failed, worker.report().recoverable) == (10, 3)
    assert sum("numbers of further ones are not kept" in note for note in notes) == 1
    kept = cursor_of(directory)
    assert (kept.count("failed"), kept.failed.total) == (10, 3)


def test_superseded_records_that_failed_are_dropped():
    """The run went back: what had failed of the rows beyond does not count, and is not sent."""
    with tracking.start_run("p", root="runs", run_id="r", backends="local") as run:
        for step in range(10):
            run.log_scalars({"x": float(step)}, step=step)
        run.log_config({"a": 1})
    backend = Backend({2, 7, 8, "config"})
    session(run.dir, backend)
    assert cursor_of(run.dir).failed.total == 4
    with tracking.start_run("p", root="runs", run_id="r", backends="local", resume="must", resume_step=5) as run:
        run.log_scalars({"x": 0.5}, step=6)
    backend.bad = set()
    session(run.dir, backend)
    kept = cursor_of(run.dir)
    assert (kept.failed.total, kept.count("failed")) == (2, 2)
    backend.got.clear()
    report = session(run.dir, backend, again=True).report()
    assert (report.delivered, report.failed) == (2, 0)
    assert backend.got == [(2, {"x": 2.0}), ("config", {"a": 1})]
    assert cursor_of(run.dir).count("failed") == 0


def test_rows_that_are_superseded_when_they_are_sent_again():
    """Nothing was delivered since the run went back: it is found out on the way."""
    with tracking.start_run("p", root="runs", run_id="r", backends="local") as run:
        for step in range(10):
            run.log_scalars({"x": float(step)}, step=step)
    backend = Backend({7, 8})
    session(run.dir, backend)
    path = cursor_of(run.dir).path
    with tracking.start_run("p", root="runs", run_id="r", backends="local", resume="must", resume_step=5) as run:
        pass
    content = json.loads(path.read_text())
    content["truncated"] = [event.stem.rpartition("-")[0] for event in (run.dir / "journal").glob("*-000001.jsonl")]
    path.write_text(json.dumps(content))
    backend.bad = set()
    assert session(run.dir, backend, again=True).report().delivered == 0
    assert cursor_of(run.dir).count("failed") == cursor_of(run.dir).failed.total == 0


def test_what_failed_is_compacted_and_still_sent_again():
    from tracking_core.compaction.compaction import compact

    directory = recorded(50)
    backend = Backend({7, 8, 30})
    session(directory, backend)
    compact(directory, over=True)
    assert list(directory.glob("scalars-*.parquet"))
    backend.bad = set()
    assert session(directory, backend, again=True).report().delivered == 3
    assert sorted(backend.steps) == list(range(50))


def test_filters_that_let_more_through_bring_what_failed_as_well():
    with tracking.start_run("p", root="runs", backends="local") as run:
        for step in range(6):
            run.log_scalars({"a": float(step), "b": float(step)}, step=step)
    backend = Backend({2, 4})

    def opened(target, **keywords):
        # As an adapter is opened: an object has no filters.
        from tracking_core.backends.hooks import AdapterInfo, hookimpl
        from tracking_core.backends.plugins import Adapter

        class Hooks:
            @hookimpl
            def tracking_adapter(self):
                return AdapterInfo(name="there", api_version=1)

            @hookimpl
            def open_tracker(self, target, run):
                return backend

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Destination, "adapter", lambda self: Adapter(Hooks(), "there"))
            worker = TargetWorker(
                run.dir, Destination("there", parse_target(target)), pause=lambda _: True, note=lambda *_: None
            )
            assert worker.open(wait=0.0)
            while worker.deliver(final=True):
                pass
            while keywords and worker.deliver_failed(final=True):
                pass
            worker.close("finished", None)
        return worker.report()

    assert opened("there?include=a").failed == 2
    backend.bad = {4}
    assert opened("there").failed == 1
    backend.bad = set()
    assert opened("there", again=True).delivered == 1
    values = sorted((step, name) for step, scalars in backend.got for name in scalars)
    assert values == sorted((step, name) for step in range(6) for name in "ab")


def test_an_old_configuration_that_comes_late_undoes_nothing():
    with tracking.start_run("p", root="runs", backends="local") as run:
        run.log_config({"lr": 0.1, "net": {"width": 3, "depth": 1}, "old": 1, "tree": {"x": 1}})
        run.log_summary({"best": 0.5, "first": 1.0})
        run.log_config({"lr": 0.01, "net": {"width": 4}, "tree": 7})
        run.log_summary({"best": 0.9})
        run.log_config({"lr": 0.001})
        run.log_config({"only": float("inf")})
    backend = Backend({"config", "summary"})
    session(run.dir, backend)
    backend.bad = set()
    report = session(run.dir, backend, again=True).report()
    assert report.ok
    assert backend.got == [
        ("config", {"net": {"depth": 1}, "old": 1}),
        ("summary", {"first": 1.0}),
        ("config", {"net": {"width": 4}, "tree": 7}),
        ("summary", {"best": 0.9}),
        ("config", {"lr": 0.001}),
        ("config", {"only": float("inf")}),
    ]
    assert cursor_of(run.dir).count("failed") == 0


def test_reports_say_what_to_do(troubles):
    with tracking.start_run("p", root="runs", backends="local") as run:
        run.log_scalars({"x": 1.0}, step=0)
    report = session(run.dir, Backend({0})).report()
    assert str(report).startswith("there: 0 delivered, 1 failed (refused a scalars record (seq ")
    assert str(report).endswith("Rejected: not that; `tracking sync --failed` sends what failed again)")
    again = session(run.dir, Backend({0})).report()
    assert str(again) == "there: 0 delivered (`tracking sync --failed` sends 1 that failed again)"
    # A tracker that was passed as an object cannot be opened by anybody else.
    with tracking.start_run("p", root="runs", backends=[FakeTracker()]) as run:
        run.log_scalars({"x": 1.0}, step=0)
    assert run.finish()["FakeTracker"].recoverable == 0


# ---------------------------------------------------------------- the command, with TensorBoard


@pytest.fixture
def refusing(monkeypatch):
    """Let trackers of a class refuse some steps of scalars; `steps` may be changed on the way."""

    def install(cls):
        original, steps = cls.log_scalars, set()

        def log_scalars(self, scalars, *, step, **keywords):
            if step in steps:
                raise tracking.Rejected("not that")
            original(self, scalars, step=step, **keywords)

        monkeypatch.setattr(cls, "log_scalars", log_scalars)
        return steps

    return install


def sync(*arguments, code=0):
    result = CliRunner().invoke(app, ["sync", *arguments, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)["runs"]


def in_tensorboard(place, directory):
    return [row.step for row in read_run(find_run(place, directory.name)).scalars]


def test_the_command_brings_what_failed_to_tensorboard_once(tmp_path, refusing):
    directory = recorded(30)
    bad = refusing(TensorBoardTracker)
    bad.update({3, 4, 17})
    there = ["--to", "tensorboard:./tb", "--root", "runs"]
    (first,) = sync(directory.name, *there, code=1)
    (target,) = first["targets"]
    assert (target["delivered"], target["failed"], target["recoverable"]) == (27, 3, 3)
    text = CliRunner().invoke(app, ["sync", directory.name, *there]).output
    assert "`tracking sync --failed` sends 3 that failed again" in text
    bad.remove(4)
    bad.remove(3)
    (second,) = sync(directory.name, "--failed", *there, code=1)
    assert [(t["delivered"], t["failed"], t["recoverable"]) for t in second["targets"]] == [(2, 1, 1)]
    bad.clear()
    (third,) = sync("--all", "--failed", *there)
    assert [(t["delivered"], t["failed"], t["recoverable"]) for t in third["targets"]] == [(1, 0, 0)]
    assert sorted(in_tensorboard(tmp_path / "tb", directory)) == list(range(30))
    target = parse_target(f"tensorboard:{tmp_path}/tb")
    opened = Cursor.load(directory, target).opened
    # With nothing to send nothing is opened.
    (fourth,) = sync(directory.name, "--failed", *there)
    assert [t["delivered"] for t in fourth["targets"]] == [0]
    assert Cursor.load(directory, target).opened == opened
    assert sorted(in_tensorboard(tmp_path / "tb", directory)) == list(range(30))


def test_a_run_that_failed_in_its_training_is_completed_by_hand(tmp_path, refusing, troubles):
    bad = refusing(TensorBoardTracker)
    bad.update({3, 4})
    with tracking.start_run("p", root="runs", backends="tensorboard:./tb", delivery="thread") as run:
        for step in range(10):
            run.log_scalars({"x": float(step)}, step=step)
    report = run.finish()
    assert "`tracking sync --failed` sends what failed again" in str(report)
    assert any(f"tracking sync {run.id} " in message and " --failed`" in message for _, message, _ in troubles)
    bad.clear()
    (result,) = sync(run.id, "--failed", "--root", "runs")
    assert result["ok"]
    assert sorted(in_tensorboard(tmp_path / "tb", run.dir)) == list(range(10))


@pytest.mark.parametrize("committed", [False, True])
def test_killed_on_the_way_each_row_is_in_tensorboard_once(tmp_path, refusing, committed):
    directory = recorded(30)
    bad = refusing(TensorBoardTracker)
    bad.update({3, 4, 17})
    sync(directory.name, "--to", "tensorboard:./tb", "--root", "runs", code=1)
    bad.clear()
    target = f"tensorboard:{tmp_path}/tb"
    worker = session_of(directory, target)
    assert worker.deliver_failed(final=True) == 3
    if committed:
        worker.commit()
    # Killed here: the rows are in the file.
    worker.release()
    assert sorted(in_tensorboard(tmp_path / "tb", directory)) == list(range(30))
    (result,) = sync(directory.name, "--failed", "--to", "tensorboard:./tb", "--root", "runs")
    assert [t["delivered"] for t in result["targets"]] == [0 if committed else 3]
    assert sorted(in_tensorboard(tmp_path / "tb", directory)) == list(range(30))


def session_of(directory, target):
    worker = TargetWorker(
        directory, Destination(target, parse_target(target)), pause=lambda _: True, note=lambda *_: None
    )
    assert worker.open(wait=0.0)
    while worker.deliver(final=True):
        pass
    worker.commit()
    return worker


def test_a_count_alone_is_said(tmp_path, refusing):
    directory = recorded(5)
    refusing(TensorBoardTracker).update({3})
    there = ["--to", "tensorboard:./tb", "--root", "runs"]
    sync(directory.name, *there, code=1)
    path = Cursor.load(directory, parse_target(f"tensorboard:{tmp_path}/tb")).path
    content = json.loads(path.read_text())
    del content["failed"]
    path.write_text(json.dumps(content))
    done = CliRunner().invoke(app, ["sync", directory.name, "--failed", *there])
    assert done.exit_code == 0, done.output
    assert "only the count is known of 1 failed record" in done.output
    assert "sends" not in done.output


def test_what_does_not_go_together():
    for wrong in (["--failed"], ["--failed", "--follow", "runs"]):
        assert CliRunner().invoke(app, ["sync", *wrong]).exit_code == 2


# ---------------------------------------------------------------- W&B


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    with WandbServer() as server:
        env = server.env(tmp_path_factory.mktemp("client"))
        with wandb_client(env) as wandb:
            wandb.setup()
            yield SimpleNamespace(server=server, env=env, wandb=wandb)


@pytest.fixture
def server(online, monkeypatch):
    for name, value in online.env.items():
        monkeypatch.setenv(name, value)
    yield online.server
    online.server.heal()


def at(server, run_id):
    """(step, number) of each row at the server, in its order, and whether it came again."""
    rows = server.runs[run_id].history
    return [(row["step"], row["_tracking_seq"], row.get("_tracking_again")) for row in rows if "x" in row]


def wandb_target(server, tmp_path):
    return f"wandb://?mode=online&base_url={server.url}&dir={tmp_path}/wb&finish_timeout=20&system_metrics=off"


@pytest.mark.system
def test_w_and_b_has_each_row_once(server, tmp_path, refusing):
    recorded(30, run_id="again")
    bad = refusing(WandbTracker)
    bad.update({3, 4, 17})
    target = wandb_target(server, tmp_path)
    there = ["--to", target, "--root", "runs"]
    (first,) = sync("again", *there, code=1)
    assert [(t["delivered"], t["failed"]) for t in first["targets"]] == [(27, 3)]
    bad.clear()
    (second,) = sync("again", "--failed", *there)
    assert [(t["delivered"], t["failed"], t["recoverable"]) for t in second["targets"]] == [(3, 0, 0)]
    rows = at(server, "again")
    assert sorted(step for step, _, _ in rows) == list(range(30))
    assert [(step, again) for step, _, again in rows[-3:]] == [(3, 1), (4, 1), (17, 1)]
    # W&B would take the row that came last for what the run came to.
    summary = server.runs["again"].summary
    assert (summary["x"], summary["step"]) == (29.0, 29)


@pytest.mark.system
def test_w_and_b_has_each_row_once_though_it_was_killed_on_the_way(server, tmp_path, refusing):
    directory = recorded(30, run_id="killed")
    bad = refusing(WandbTracker)
    bad.update({3, 4, 17})
    target = wandb_target(server, tmp_path)
    sync("killed", "--to", target, "--root", "runs", code=1)
    bad.clear()
    bad.add(17)
    worker = session_of(directory, target)
    assert worker.deliver_failed(final=True) == 3
    # The rows have arrived, and the cursor does not say so.
    worker.tracker.finish("interrupted")
    worker.release()
    assert len(at(server, "killed")) == 29
    bad.clear()
    (result,) = sync("killed", "--failed", "--to", target, "--root", "runs")
    assert result["ok"]
    assert sorted(step for step, _, _ in at(server, "killed")) == list(range(30))
    # And what comes then goes on behind the last that came in its turn, not behind those that came late.
    with tracking.start_run("p", root="runs", run_id="killed", resume="must", backends="local") as run:
        for step in range(30, 40):
            run.log_scalars({"x": float(step)}, step=step)
    (after,) = sync("killed", "--to", target, "--root", "runs")
    assert [t["delivered"] for t in after["targets"]] == [10]
    assert sorted(step for step, _, _ in at(server, "killed")) == list(range(40))


@pytest.mark.system
def test_rows_that_came_late_do_not_hide_how_far_w_and_b_is(server, tmp_path, refusing, monkeypatch):
    """The cursor is lost after rows came again: those at the end of the history have low numbers."""
    monkeypatch.setattr("tracking_wandb.history._WINDOW", 2)
    directory = recorded(30, run_id="lost")
    bad = refusing(WandbTracker)
    bad.update({3, 4})
    target = wandb_target(server, tmp_path)
    sync("lost", "--to", target, "--root", "runs", code=1)
    bad.clear()
    sync("lost", "--failed", "--to", target, "--root", "runs")
    path = Cursor.load(directory, parse_target(target)).path
    content = json.loads(path.read_text())
    content["writers"] = {}
    path.write_text(json.dumps(content))
    sync("lost", "--to", target, "--root", "runs")
    assert sorted(step for step, _, _ in at(server, "lost")) == list(range(30))


@pytest.mark.system
def test_without_an_answer_of_the_server_nothing_is_sent_twice(server, tmp_path, refusing, monkeypatch):
    recorded(10, run_id="unsure")
    bad = refusing(WandbTracker)
    bad.add(3)
    target = wandb_target(server, tmp_path)
    sync("unsure", "--to", target, "--root", "runs", code=1)
    bad.clear()
    from tracking_wandb.history import ServerHistory

    def silent(self, **keywords):
        raise ConnectionError("no answer")

    monkeypatch.setattr("tracking_core.delivery.retry.backoff", lambda tries: 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(ServerHistory, "sent_again", silent)
        (result,) = sync("unsure", "--failed", "--to", target, "--root", "runs", code=1)
    assert [(t["delivered"], t["failed"]) for t in result["targets"]] == [(0, 1)]
    assert len(at(server, "unsure")) == 9
    (result,) = sync("unsure", "--failed", "--to", target, "--root", "runs")
    assert len(at(server, "unsure")) == 10


@pytest.mark.system
def test_other_kinds_come_to_w_and_b_again(server, tmp_path, monkeypatch):
    with tracking.start_run("p", root="runs", run_id="kinds", backends="local") as run:
        run.log_scalars({"x": 1.0}, step=0)
        run.log_config({"lr": 0.1, "seed": 1})
        run.log_artifact({"w.bin": b"weights"}, name="weights", type="model")
        run.log_images({"i": np.zeros((2, 2), np.uint8)}, step=1)
        run.flush(local=True)
        run.log_config({"lr": 0.01})
        run.log_scalars({"x": 2.0}, step=2)
    target = wandb_target(server, tmp_path)
    there = ["--to", target, "--root", "runs"]

    def refuse(self, *arguments, **keywords):
        raise tracking.Rejected("not that")

    with monkeypatch.context() as patch:
        for method in ("log_artifact", "log_images"):
            patch.setattr(WandbTracker, method, refuse)
        original = WandbTracker.log_config
        patch.setattr(WandbTracker, "log_config", lambda self, c: refuse(self) if "seed" in c else original(self, c))
        (first,) = sync("kinds", *there, code=1)
    assert [t["failed"] for t in first["targets"]] == [3]
    (second,) = sync("kinds", "--failed", *there)
    assert [(t["delivered"], t["failed"]) for t in second["targets"]] == [(3, 0)]
    held = server.runs["kinds"]
    assert {key: held.config[key] for key in ("lr", "seed")} == {"lr": 0.01, "seed": 1}
    assert len([row for row in held.history if "i" in row]) == 1
    assert [one.name for one in server.artifacts if one.name == "weights"] == ["weights"]
    # Nothing of it is in doubt, so a later opening sends nothing again.
    state = Cursor.load(run.dir, parse_target(target)).state
    assert (state["uploads"], state["facts"]) == ([], [])


@pytest.mark.system
def test_an_offline_run_has_each_row_once(tmp_path, refusing):
    recorded(20, run_id="offline")
    bad = refusing(WandbTracker)
    bad.update({3, 4})
    there = ["--to", f"wandb://?mode=offline&dir={tmp_path}/wb&system_metrics=off", "--root", "runs"]

    def steps():
        (log,) = (tmp_path / "wb").rglob("*.wandb")
        return [row["step"] for row in read_offline_run(log).history if "x" in row]

    with wandb_client({"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path / "wb")}):
        (first,) = sync("offline", *there, code=1)
        assert [t["failed"] for t in first["targets"]] == [2]
        assert steps() == [step for step in range(20) if step not in {3, 4}]
        bad.clear()
        (second,) = sync("offline", "--failed", *there)
        assert [(t["failed"], t["recoverable"]) for t in second["targets"]] == [(0, 0)]
        assert sorted(steps()) == list(range(20))
        with tracking.start_run("p", root="runs", run_id="offline", resume="must", backends="local") as run:
            run.log_scalars({"x": 20.0}, step=20)
        sync("offline", *there)
    # It is written anew, and then all of it is in its place.
    assert steps() == list(range(21))


@pytest.mark.system
def test_an_upload_that_the_server_refused_afterwards_is_known_by_number(server, tmp_path):
    with tracking.start_run("p", root="runs", run_id="upload", backends="local") as run:
        run.log_scalars({"x": 1.0}, step=0)
        run.log_artifact({"w.bin": b"other weights"}, name="heavy", type="model")
        run.log_scalars({"x": 2.0}, step=1)
    there = ["--to", wandb_target(server, tmp_path), "--root", "runs"]
    server.fail(operation="CommitArtifact", status=400)
    (first,) = sync("upload", *there, code=1)
    assert [(t["delivered"], t["failed"], t["recoverable"]) for t in first["targets"]] == [(2, 1, 1)]
    assert "heavy" in first["targets"][0]["last_error"]
    (again,) = sync("upload", "--failed", *there, code=1)
    assert [(t["delivered"], t["failed"], t["recoverable"]) for t in again["targets"]] == [(0, 1, 1)]
    server.heal()
    (last,) = sync("upload", "--failed", *there)
    assert [(t["delivered"], t["failed"], t["recoverable"]) for t in last["targets"]] == [(1, 0, 0)]
    assert [one.committed for one in server.artifacts if one.name == "heavy"].count(True) == 1
    assert [step for step, _, _ in at(server, "upload")] == [0, 1]
    assert Cursor.load(run.dir, parse_target(there[1])).count("failed") == 0


@pytest.mark.parametrize("where", ["flush", "finish"])
def test_what_is_refused_after_it_was_taken(where):
    """A backend that finds out later: which record it was is known, and the others are confirmed all the same."""
    directory = recorded(10)
    taken, refused = [], []

    class Late(Backend):
        def deliver(self, records):
            taken.extend((record.writer, record.seq, record.step) for record in records)

        def check(self):
            for writer, seq, step in taken:
                if step in {3, 6} and step not in refused and self.bad:
                    refused.append(step)
                    raise tracking.Rejected("not that after all", record=(writer, seq))

        def flush(self):
            if where == "flush":
                self.check()

        def finish(self, status="finished", *, error=None):
            self.check()

    first = session(directory, Late({3})).report()
    assert (first.delivered, first.failed, first.recoverable, first.abandoned) == (8, 2, 2, False)
    kept = cursor_of(directory)
    assert (kept.count("delivered"), kept.count("failed"), kept.failed.total) == (8, 2, 2)
    taken.clear()
    assert session(directory, Late(), again=True).report().delivered == 2
    assert [step for _, _, step in taken] == [3, 6]
    assert cursor_of(directory).count("failed") == 0
