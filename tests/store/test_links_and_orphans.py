"""Links to runs and projects, and journals of no run: each is listed once, and nothing outside is touched."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import tracking_core as tracking
from tests.support.hurt_stores import bad_run, in_time, make_store, said
from tracking_core.delivery.ending import broke_off


@pytest.fixture(autouse=True)
def _in_time():
    with in_time(120):
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("made") / "runs")


@pytest.fixture
def root(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "runs"))


def listed(root):
    found = json.loads(said("runs", "--json", root=root, code=0).stdout)["runs"]
    assert [record.id for record in tracking.open_store(root).runs()] == [run["id"] for run in found]
    return sorted(run["id"] for run in found)


def test_a_link_to_what_is_listed_is_not_listed_again(root):
    (root / "p" / "latest").symlink_to("good-2")
    (root / "p" / "absolute").symlink_to(root / "p" / "good-2")
    (root / "q").symlink_to("p")
    (root / "other").mkdir()
    (root / "other" / "latest").symlink_to("../p/good-1")
    assert listed(root) == ["good-1", "good-2"]
    assert tracking.open_store(root).run("good-2").id == "good-2"
    said("compact", "--all", root=root, code=0)
    assert said("verify", "--all", root=root, code=0).output.count("good-2: ") == 1
    said("sync", "--all", root=root, code=0)


def test_what_only_links_lead_to_is_listed_once(root, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (root / "p" / "good-1").rename(tmp_path / "elsewhere" / "good-1")
    for name in ("good-1", "again", "latest"):
        (root / "p" / name).symlink_to(tmp_path / "elsewhere" / "good-1")
    (root / "q").symlink_to(tmp_path / "elsewhere")
    assert listed(root) == ["good-1", "good-2"]


def test_the_root_may_be_a_link(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    (root / "p" / "latest").symlink_to(tmp_path / "link" / "p" / "good-1")
    assert listed(tmp_path / "link") == ["good-1", "good-2"]
    said("rm", "good-1", "--yes", root=tmp_path / "link", code=0)
    assert listed(root) == ["good-2"]


def test_a_run_is_found_by_the_name_of_a_link(root):
    (root / "p" / "latest").symlink_to("good-2")
    assert json.loads(said("show", "latest", "--json", root=root, code=0).stdout)["id"] == "good-2"
    # Removing the link leaves the run.
    said("rm", "latest", "--yes", root=root, code=0)
    assert listed(root) == ["good-1", "good-2"]


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("link", ["run", "project", "removed"])
def test_nothing_outside_is_removed(root, tmp_path, link):
    outside = tmp_path / "outside"
    (outside / "keep").mkdir(parents=True)
    (outside / "keep" / "file").write_text("x")
    match link:
        case "run":
            (root / "p" / "good-1").rename(outside / "good-1")
            (root / "p" / "good-1").symlink_to(outside / "good-1")
        case "project":
            (root / "p").rename(outside / "p")
            (root / "p").symlink_to(outside / "p")
        case _:
            (root / "p" / ".removed").symlink_to(outside)
    before = everything(outside)
    result = said("rm", "good-1", "--yes", "--force", root=root)
    if link != "run":
        assert result.exit_code == 1
        assert "is a link" in result.output
    assert everything(outside) == before
    said("sync", "good-2", "--to", f"tensorboard:{tmp_path}/tb", root=root)
    said("prune", "--keep", "delivered:0s", root=root)
    assert everything(outside).keys() >= before.keys()
    if link == "run":
        assert not (root / "p" / "good-1").exists()


def test_prune_leaves_what_is_reached_through_a_link(root, tmp_path):
    (tmp_path / "outside").mkdir()
    said("sync", "good-1", "good-2", "--to", f"tensorboard:{tmp_path}/tb", root=root, code=0)
    (root / "p" / "good-1").rename(tmp_path / "outside" / "good-1")
    (root / "p" / "good-1").symlink_to(tmp_path / "outside" / "good-1")
    result = json.loads(said("prune", "--keep", "delivered:0s", "--json", root=root, code=0).stdout)
    assert [one["id"] for one in result["removed"]] == ["good-2"]
    assert result["kept"] == {"reached through a link": 1}
    assert (root / "p" / "good-1" / "run.json").is_file()


# ---------------------------------------------------------------- links inside a run


@pytest.mark.parametrize("folder", ["cursors", "journal", "media"])
def test_nothing_is_written_through_a_link_inside_a_run(root, tmp_path, troubles, folder):
    """A run directory that was copied may hold a link; what it leads to stays as it is, and other runs go on."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep.json").write_text("{}")
    place = root / "p" / "good-1" / folder
    if folder == "journal":
        for path in place.iterdir():
            path.rename(outside / path.name)
            os.utime(outside / path.name, (1.7e9, 1.7e9))
    if place.is_dir():
        place.rmdir()
    place.symlink_to(outside)
    before = everything(outside)
    if folder == "journal":
        with pytest.raises(tracking.StoreError, match="cannot continue because of .*journal: it is a link"):
            tracking.start_run("p", run_id="good-1", root=root, resume="allow", backends="local")
    else:
        with tracking.start_run(
            "p", run_id="good-1", root=root, resume="allow", backends=f"tensorboard:{tmp_path}/tb"
        ) as run:
            run.log_scalars({"loss": 0.3}, step=3)
            run.log_images({"i": np.zeros((2, 2), np.uint8)}, step=3)
        assert tracking.open_store(root).run("good-1").scalars("loss").value.tolist() == [0.0, 0.1, 0.2, 0.3]
        assert any("it is a link" in f"{message} {error}" for _, message, error in troubles)
        for segment in (run.dir / "journal").glob("*.jsonl"):
            os.utime(segment, (1.7e9, 1.7e9))
    result = said("sync", "good-1", "good-2", "--to", f"tensorboard:{tmp_path}/tb", root=root)
    assert f"tensorboard:{tmp_path}/tb: 4 delivered" in result.output or "3 delivered" in result.output
    if folder == "cursors":
        assert result.exit_code == 1
        assert "it is a link, and links inside a run directory are not followed" in result.output
    said("compact", "--all", root=root)
    said("sync", "--all", root=root)
    broke_off(root / "p" / "good-1")
    with tracking.start_run("p", run_id="child", root=root, fork_from=("good-1", 1), backends="local"):
        pass
    said("rm", "good-1", "--yes", "--force", root=root, code=0)
    assert everything(outside) == before
    assert not (root / "p" / "good-1").exists()
    assert tracking.open_store(root).run("good-2").scalars("loss").value.tolist() == [1.0, 1.1, 1.2]


def test_a_run_that_is_a_link_is_written_to(root, tmp_path):
    (root / "p" / "good-1").rename(tmp_path / "elsewhere")
    (root / "p" / "good-1").symlink_to(tmp_path / "elsewhere")
    with tracking.start_run(
        "p", run_id="good-1", root=root, resume="allow", backends=f"tensorboard:{tmp_path}/tb"
    ) as run:
        run.log_images({"i": np.zeros((2, 2), np.uint8)}, step=3)
    assert len(list((tmp_path / "elsewhere" / "media").iterdir())) == 1
    assert list((tmp_path / "elsewhere" / "cursors").glob("tensorboard-*.json")) != []


# ---------------------------------------------------------------- journals without a run


def test_a_journal_without_a_run_is_named(root):
    directory = bad_run(root, [])
    (directory / "run.json").unlink()
    (root / "p" / "empty" / "journal").mkdir(parents=True)
    (root / "p" / "notes").mkdir()
    (root / "p" / "notes" / "file.txt").write_text("x")
    assert listed(root) == ["good-1", "good-2"]
    result = said("verify", "--all", root=root, code=1)
    [line] = [line for line in result.output.splitlines() if "without run.json" in line]
    assert line.startswith(f"bad: {directory}: a journal without run.json")
    found = json.loads(said("verify", "--all", "--json", root=root, code=1).stdout)
    assert {run["id"]: run["ok"] for run in found["runs"]} == {"good-1": True, "good-2": True, "bad": False}
    for arguments in (["compact", "--all"], ["sync", "--all"], ["prune", "--keep", "delivered:0s"]):
        said(*arguments, root=root, code=0)
    assert (directory / "journal").is_dir()


def test_parts_without_a_run_are_named(root):
    directory = root / "p" / "good-1"
    # The end of a run whose process lives is believed when nothing has changed for a while.
    for segment in (directory / "journal").glob("*.jsonl"):
        os.utime(segment, (1.7e9, 1.7e9))
    said("compact", "good-1", root=root, code=0)
    (directory / "run.json").unlink()
    assert list(directory.glob("events-*")) != []
    assert "without run.json" in said("verify", "--all", root=root, code=1).output
