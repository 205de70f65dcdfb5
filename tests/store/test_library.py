"""What the command does to a store, from Python: runs removed, pruned and exported, and how far targets have come.

Read back from the files, by json, csv and pyarrow.
"""

from __future__ import annotations

import csv
import json
import math
import os
import zlib

import pyarrow.dataset
import pyarrow.parquet
import pytest

import tracking_core as tracking
from tests.support.commands import as_json
from tests.support.commands import tracking as command
from tests.support.programs import run as run_program
from tracking_core.errors import (
    InvalidValueError,
    NameNotFoundError,
    PlaceTakenError,
    RunBusyError,
    RunNotFoundError,
    SettingsError,
    StoreError,
)

HEADER = ["project", "run_id", "run", "name", "axis", "step", "time", "value"]


@pytest.fixture(autouse=True)
def in_threads(monkeypatch, tmp_path):
    monkeypatch.setenv("TRACKING_DELIVERY", "thread")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def store(root):
    return tracking.open_store(root)


def record(root, run_id, backends="local", steps=3, **keywords):
    with tracking.start_run(
        "digits", f"name of {run_id}", run_id=run_id, root=root, backends=backends, **keywords
    ) as run:
        for step in range(steps):
            run.log_scalars({"loss": 1.0 / (step + 1), "val/loss": math.nan}, step=step)


def there(root):
    return sorted(path.parent.name for path in root.glob("*/*/run.json"))


# ---------------------------------------------------------------- remove


def test_runs_are_removed_by_id_and_as_records(root, store):
    for run_id in ("a", "b", "c", "d"):
        record(root, run_id)
    bytes_of_a = sum(path.stat().st_size for path in (root / "digits" / "a").rglob("*") if path.is_file())
    [removed] = store.remove("a")
    assert (removed.id, removed.name, removed.project, removed.status) == ("a", "name of a", "digits", "finished")
    assert removed.size == bytes_of_a
    assert removed.tombstone == root / "digits" / ".removed" / "a.json"
    assert json.loads(removed.tombstone.read_bytes())["id"] == "a"
    assert there(root) == ["b", "c", "d"]
    assert [one.id for one in store.remove(["c", store.run("b"), "c"])] == ["c", "b"]
    assert there(root) == ["d"]
    assert sorted(path.name for path in (root / "digits").iterdir()) == [".removed", "d"]
    assert store.remove([]) == []


def test_it_says_how_far_it_is(root, store):
    record(root, "a")
    record(root, "b")
    seen = []
    store.remove(["a", "b"], progress=lambda *how_far: seen.append(how_far))
    assert seen == [("removing", 0, 2), ("removing", 1, 2), ("removing", 2, 2)]


def test_a_running_run_keeps_all_of_them(root, store):
    record(root, "a")
    with tracking.start_run("digits", run_id="live", root=root, backends="local"):
        with pytest.raises(RunBusyError, match="run live .* is running; force=True removes it anyway") as caught:
            store.remove(["a", "live"])
        assert (caught.value.run_id, caught.value.reason) == ("live", "is running")
        assert isinstance(caught.value, StoreError)
        assert there(root) == ["a", "live"]


def test_a_run_that_cannot_be_read_is_removed_by_force_alone(root, store):
    record(root, "a")
    [journal] = (root / "digits" / "a" / "journal").glob("*.jsonl")
    head, _, rest = journal.read_bytes().partition(b"\n")
    newer = head.replace(b'"v":1', b'"v":9').rpartition(b',"crc":"')[0]
    journal.write_bytes(newer + b',"crc":"%08x"}\n' % zlib.crc32(newer) + rest)
    with pytest.raises(RunBusyError, match="cannot be read"):
        store.remove("a")
    assert there(root) == ["a"]
    store.remove("a", force=True)
    assert there(root) == []


@pytest.mark.parametrize("name", ["nothing", "../digits/a", "digits/a", "..", ".", "", "../../outside", "/", "a\0b"])
def test_names_that_are_of_no_run_remove_nothing(root, store, tmp_path, name):
    record(root, "a")
    outside = tmp_path / "outside"
    outside.mkdir()
    for place in (outside, root, root / "digits"):
        (place / "run.json").write_bytes((root / "digits" / "a" / "run.json").read_bytes())
    before = sorted(path for path in tmp_path.rglob("*") if ".index" not in path.parts)
    with pytest.raises((StoreError, InvalidValueError)):
        store.remove(["a", name], force=True)
    assert sorted(path for path in tmp_path.rglob("*") if ".index" not in path.parts) == before


@pytest.mark.parametrize("wrong", [None, 3, b"a", ["a", 3], [None], {"a": 1}.values()])
def test_what_is_no_run_is_refused(root, store, wrong):
    record(root, "a")
    with pytest.raises(InvalidValueError, match="remove: expected the id of a run"):
        store.remove(wrong)
    assert there(root) == ["a"]


def test_a_run_of_another_store_is_not_removed(root, store, tmp_path):
    other = tmp_path / "other"
    record(other, "a")
    record(root, "b")
    with pytest.raises(StoreError, match="is not in the store"):
        store.remove(["b", tracking.open_store(other).run("a")])
    assert (there(root), there(other)) == (["b"], ["a"])


def test_behind_a_link_nothing_is_removed(root, store, tmp_path):
    record(tmp_path / "other", "a")
    root.mkdir()
    (root / "digits").symlink_to(tmp_path / "other" / "digits")
    with pytest.raises(StoreError, match="is a link"):
        store.remove("a")
    assert there(tmp_path / "other") == ["a"]


def test_a_removed_run_is_known_as_such(root, store):
    record(root, "a")
    store.remove("a")
    with pytest.raises(RunNotFoundError, match="was removed"):
        store.remove("a")


# ---------------------------------------------------------------- prune


def test_what_is_safe_elsewhere_is_pruned(root, store, tmp_path):
    record(root, "local")
    record(root, "safe", f"tensorboard:{tmp_path}/tb")
    record(root, "tagged", f"tensorboard:{tmp_path}/tb", tags=["best"])
    looked = store.prune(["delivered:0s", "tag:best"], dry_run=True)
    assert looked.dry_run
    assert [(one.id, one.tombstone) for one in looked.removed] == [("safe", None)]
    assert there(root) == ["local", "safe", "tagged"]
    done = store.prune(["delivered:0s", "tag:best"])
    assert [one.id for one in done.removed] == ["safe"]
    assert done.removed[0].targets == (f"tensorboard:{tmp_path}/tb",)
    assert done.removed[0].ended == looked.removed[0].ended
    assert done.size == looked.size == done.removed[0].size > 0
    assert dict(done.kept) == {"only in this store": 1, "tag:best": 1}
    assert there(root) == ["local", "tagged"]
    assert json.loads(done.removed[0].tombstone.read_bytes())["targets"] == [f"tensorboard:{tmp_path}/tb"]


def test_what_is_young_or_runs_stays(root, store, tmp_path):
    record(root, "young", f"tensorboard:{tmp_path}/tb")
    with tracking.start_run("digits", run_id="live", root=root, backends=f"tensorboard:{tmp_path}/tb"):
        done = store.prune("delivered:1d")
    assert (done.removed, dict(done.kept)) == ([], {"younger": 1, "is running": 1})
    assert there(root) == ["live", "young"]


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        ([], "name what to keep"),
        (["last:3"], "name what to keep"),
        ("delivered:soon", "expected an age"),
        (["delivered:1d", "last:0"], "positive whole number"),
        (["delivered:1d", "colour:red"], "is not a rule"),
        (["delivered:1d", 3], "expected a rule"),
        (None, "expected a rule"),
    ],
)
def test_rules_that_are_none_are_refused(root, store, tmp_path, keep, words):
    record(root, "a", f"tensorboard:{tmp_path}/tb")
    with pytest.raises(InvalidValueError, match=words):
        store.prune(keep)
    assert there(root) == ["a"]


def test_in_a_mirror_nothing_is_removed(root, tmp_path):
    run_program(
        f"""
        import tracking_core as t
        with t.start_run("digits", run_id="a", root={str(root)!r}, backends="local") as run:
            run.log_scalars({{"loss": 1.0}}, step=0)
        """,
        tmp_path,
        TRACKING_MIRROR=f"file://{tmp_path}/mirror",
    )
    mirror = tracking.open_store(f"file://{tmp_path}/mirror")
    assert mirror.run("a").deliveries() == []
    before = sorted((tmp_path / "mirror").rglob("*"))
    with pytest.raises(SettingsError, match="mirrors are read-only"):
        mirror.remove("a", force=True)
    with pytest.raises(SettingsError, match="mirrors are read-only"):
        mirror.prune("delivered:0s")
    assert sorted((tmp_path / "mirror").rglob("*")) == before
    assert mirror.export("a", tmp_path / "a.csv").rows == 1


# ---------------------------------------------------------------- export


def test_csv_has_every_row(root, store, tmp_path):
    record(root, "a")
    record(root, "b", steps=2)
    done = store.export(["b", "a"], tmp_path / "new" / "all.csv")
    assert (done.files, done.rows, done.runs) == ((tmp_path / "new" / "all.csv",), 10, ("b", "a"))
    with open(tmp_path / "new" / "all.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == HEADER
    assert [(row[1], row[3], int(row[5])) for row in rows[:4]] == [
        ("b", "loss", 0), ("b", "loss", 1), ("b", "val/loss", 0), ("b", "val/loss", 1)
    ]  # fmt: skip
    assert [float(row[7]) for row in rows if row[1:4] == ["a", "name of a", "loss"]] == [1.0, 0.5, 1 / 3]
    assert {row[7] for row in rows if row[3] == "val/loss"} == {"nan"}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["all.csv"]


def test_json_lines_and_parquet_say_the_same(root, store, tmp_path):
    record(root, "a")
    store.export("a", str(tmp_path / "a.jsonl"), "loss")
    store.export(store.run("a"), tmp_path / "a.bin", ["lo*"], format="parquet")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert lines == pyarrow.parquet.read_table(tmp_path / "a.bin").to_pylist()
    assert [line["value"] for line in lines] == [1.0, 0.5, 1 / 3]


def test_a_dataset_has_a_file_for_each_run(root, store, tmp_path):
    record(root, "a")
    record(root, "b")
    done = store.export(store.runs(), tmp_path / "set", format="parquet", partition=True)
    assert {path.relative_to(tmp_path / "set").as_posix() for path in done.files} == {
        f"project=digits/run_id={run_id}/scalars.parquet" for run_id in "ab"
    }
    table = pyarrow.dataset.dataset(tmp_path / "set", partitioning="hive").to_table()
    assert table.num_rows == done.rows == 12
    assert set(table["run_id"].to_pylist()) == {"a", "b"}
    with pytest.raises(StoreError, match="a dataset of other files"):
        store.export(store.runs(), tmp_path / "set", format="csv", partition=True)


def test_what_is_there_is_replaced_by_force_alone(root, store, tmp_path):
    record(root, "a")
    place = tmp_path / "a.csv"
    place.write_text("mine")
    with pytest.raises(PlaceTakenError, match="already exists: force=True replaces it") as caught:
        store.export("a", place)
    assert (caught.value.path, place.read_text()) == (place, "mine")
    store.export("a", place, force=True)
    assert place.read_text().startswith(",".join(HEADER))


def test_bad_arguments_write_nothing(root, store, tmp_path):
    record(root, "a")
    (tmp_path / "folder.csv").mkdir()
    before = sorted(os.listdir(tmp_path))
    for error, words, call in [
        (StoreError, "is a directory", lambda: store.export("a", tmp_path / "folder.csv")),
        (StoreError, "is a directory", lambda: store.export("a", tmp_path / "folder.csv", force=True)),
        (InvalidValueError, "does not tell the format", lambda: store.export("a", tmp_path / "a.txt")),
        (InvalidValueError, "unknown format 'xlsx'", lambda: store.export("a", tmp_path / "a.csv", format="xlsx")),
        (InvalidValueError, "expected a path", lambda: store.export("a", 3)),
        (InvalidValueError, "expected the name of a scalar", lambda: store.export("a", tmp_path / "a.csv", [3])),
        (InvalidValueError, "expected the id of a run", lambda: store.export(3, tmp_path / "a.csv")),
        (NameNotFoundError, "none of the runs has x", lambda: store.export("a", tmp_path / "a.csv", "x")),
        (RunNotFoundError, "there is no run 'b'", lambda: store.export(["a", "b"], tmp_path / "a.csv")),
        (RunNotFoundError, "there is no run '../digits/a'", lambda: store.export("../digits/a", tmp_path / "a.csv")),
    ]:
        with pytest.raises(error, match=words):
            call()
    assert sorted(os.listdir(tmp_path)) == before
    assert list((tmp_path / "folder.csv").iterdir()) == []


# ---------------------------------------------------------------- deliveries


def test_what_a_target_has_had_is_what_its_cursor_says(root, store, tmp_path):
    record(root, "a", ["local", f"tensorboard:{tmp_path}/tb", tracking.testing.FakeTracker()])
    mine, other = store.run("a").deliveries()
    [path] = (root / "digits" / "a" / "cursors").glob("tensorboard-*.json")
    cursor = json.loads(path.read_bytes())
    assert (mine.target, mine.pending, mine.failed, mine.status) == (f"tensorboard:{tmp_path}/tb", 0, 0, "finished")
    assert (mine.delivered, mine.opened, mine.updated) == (
        cursor["counts"]["delivered"],
        cursor["opened"],
        cursor["updated"],
    )
    assert mine.complete
    assert (other.pending, other.delivered, other.complete) == (None, 0, False)


def test_what_waits_for_a_target_is_counted(root, store, tmp_path):
    record(root, "late", steps=4)
    facts_path = root / "digits" / "late" / "run.json"
    facts = json.loads(facts_path.read_bytes())
    facts_path.write_text(json.dumps({**facts, "targets": [f"tensorboard:{tmp_path}/tb"]}))
    [one] = store.run("late").deliveries()
    assert (one.pending, one.delivered, one.opened, one.complete) == (4, 0, 0, False)
    assert not (tmp_path / "tb").exists()
    assert not list((root / "digits" / "late").glob("cursors/tensorboard*")), "nothing is written"


def test_the_command_says_what_waits_before_it_removes(root, tmp_path):
    record(root, "late", steps=4)
    facts_path = root / "digits" / "late" / "run.json"
    facts = json.loads(facts_path.read_bytes())
    facts_path.write_text(json.dumps({**facts, "targets": [f"tensorboard:{tmp_path}/tb"]}))
    _, err = command("rm", "late", "--root", str(root), cwd=tmp_path, code=1, stdin="n\n")
    assert f"; 4 records not delivered to tensorboard:{tmp_path}/tb" in err
    assert there(root) == ["late"]
    found = as_json("prune", "--keep", "delivered:0s", "--root", str(root), cwd=tmp_path)
    assert found["kept"] == {"not delivered completely": 1}
