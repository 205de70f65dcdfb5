"""Runs of which something was damaged after it was written: what cannot be read is named, the rest is there."""

from __future__ import annotations

import os

import pytest

import tracking_core as t
from tests.support.commands import as_json, spawned, tracking
from tracking_core.errors import InvalidValueError, JournalError, RunNotFoundError

pytestmark = pytest.mark.system

pytest.importorskip("pyarrow", reason="needs the extra store")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A store of two runs, of which one is compacted."""
    from tracking_core.compaction.compaction import compact

    # Here, and not by a process that has not come to it yet.
    monkeypatch.setattr("tracking_core.compaction.background.WORTH", 1 << 40)

    place = tmp_path / "tracking_runs"
    for name in ("good", "hurt"):
        with t.start_run("p", name, run_id=name, root=place, config={"lr": 0.1}, delivery="inline") as run:
            for step in range(2000):
                run.log_scalars({"loss": step * 0.37, "acc": step / 3}, step=step)
    compact(place / "p" / "hurt", over=True)
    return place


def truncate(path):
    path.write_bytes(path.read_bytes()[:500])


def flip(path):
    content = bytearray(path.read_bytes())
    # Within the pages of the first columns that are read.
    for at in range(400, len(content) - 4000, 97):
        content[at] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("hurt", [truncate, flip])
def test_a_damaged_part_is_named(root, hurt):
    [part] = root.glob("p/hurt/scalars-*.parquet")
    hurt(part)
    record = t.open_store(root).run("hurt")
    assert record.config == {"lr": 0.1}
    assert record.summary()["loss"] == 1999 * 0.37, "the events file has it"
    for read in (lambda: record.scalars("loss"), record.records, lambda: list(record.follow())):
        with pytest.raises(JournalError, match="is damaged and cannot be read") as caught:
            read()
        assert str(part) in str(caught.value)
    folder = root.parent
    run = as_json("show", "hurt", cwd=folder)
    assert run["config"] == {"lr": 0.1}
    assert [str(part.relative_to(folder)) in text for text in run["damage"]] == [True]
    for arguments in (["scalars", "hurt", "loss"], ["export", "hurt", "--to", "x.csv"], ["tail", "hurt"]):
        _, err = tracking(*arguments, cwd=folder, code=1)
        assert err.startswith("Error: ")
        assert err.count("\n") == 1
    assert not (folder / "x.csv").exists()
    assert len(as_json("runs", cwd=folder)["runs"]) == 2


def test_runs_that_a_list_leaves_out_are_said(root):
    (root / "p" / "hurt" / "run.json").write_text("{")
    store = t.open_store(root)
    assert [record.id for record in store.runs()] == ["good"]
    [(place, why)] = store.unreadable.items()
    assert place == root / "p" / "hurt"
    assert "cannot be read" in why
    out, err = tracking("runs", "--ids", cwd=root.parent, code=1)
    assert out == "good\n"
    assert err.startswith("unreadable: tracking_runs/p/hurt/run.json cannot be read")
    tracking("rm", "good", "--yes", cwd=root.parent)
    (root / "p" / "hurt" / "run.json").unlink()
    store.runs()
    assert store.unreadable == {}


def test_without_pyarrow_only_the_rows_are_out_of_reach(root, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import sys\nsys.modules['pyarrow'] = None\n")
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    assert not list(root.glob("p/hurt/journal/*.jsonl"))
    runs = as_json("runs", "--sort", "loss", cwd=tmp_path, PYTHONPATH=path)["runs"]
    assert [(run["id"], run["summary"]["acc"], run["problem"]) for run in runs if run["id"] == "hurt"] == [
        ("hurt", 1999 / 3, None)
    ]
    run = as_json("show", "hurt", cwd=tmp_path, PYTHONPATH=path)
    assert (run["summary"]["loss"], run["scalars"], run["damage"]) == (1999 * 0.37, ["acc", "loss"], [])
    _, err = spawned("scalars", "hurt", "loss", cwd=tmp_path, code=1, PYTHONPATH=path)
    assert "pip install 'tracking-core[store]'" in err


def test_names_that_are_none(root):
    store = t.open_store(root)
    for wrong in (None, 3, ["good"]):
        with pytest.raises(InvalidValueError, match="expected the id of a run"):
            store.run(wrong)
    with pytest.raises(RunNotFoundError, match=r"by name it is found with runs\(where="):
        store.run("a name")
    record = store.run("good")
    for wrong in (None, 3, ["loss"]):
        for read in (record.scalars, record.images, record.histograms, record.tables):
            with pytest.raises(InvalidValueError, match="expected the name of one"):
                read(wrong)
    for kind, words in [("images", "image_names"), ("scalars", "scalar_names"), ("movie", "audio, figure, histogram")]:
        with pytest.raises(InvalidValueError, match=words):
            record.names(kind)
        with pytest.raises(InvalidValueError, match=words):
            record.media(kind, "x")
