"""How a run is named, by its id, the beginning of one, or as the latest: where runs are read, and where they are removed."""

from __future__ import annotations

import pytest

import tracking_core as tracking
from tests.support.commands import as_json
from tests.support.commands import tracking as command


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Runs of two projects, `abc-3` the last one that was started."""
    folder = tmp_path_factory.mktemp("store")
    for project, run_id in (("p", "abc-1"), ("q", "zz"), ("p", "xyz"), ("q", "abc-3")):
        with tracking.start_run(project, f"name of {run_id}", run_id=run_id, root=folder / "tracking_runs") as run:
            run.log_scalars({"loss": 1.0}, step=0)
    return folder


def test_the_latest_run_and_that_of_a_project(place):
    assert as_json("show", "latest", cwd=place)["id"] == "abc-3"
    assert as_json("show", "p/latest", cwd=place)["id"] == "xyz"
    assert as_json("scalars", "latest", "loss", cwd=place)["run"] == "abc-3"
    assert [one["id"] for one in as_json("compare", "latest", "abc-1", cwd=place)["runs"]] == ["abc-3", "abc-1"]
    store = tracking.open_store(place / "tracking_runs")
    assert store.run("latest").id == "abc-3"
    assert store.compare(["latest", "xy"]).runs == ("abc-3", "xyz")


def test_the_beginning_of_an_id_that_one_run_has(place):
    store = tracking.open_store(place / "tracking_runs")
    assert store.run("x").id == as_json("show", "x", cwd=place)["id"] == "xyz"
    with pytest.raises(tracking.RunNotFoundError, match="2 ids begin so: abc-1, abc-3"):
        store.run("ab")
    for nothing in ("", "nosuch", "p/x", "../p/xyz"):
        with pytest.raises(tracking.RunNotFoundError):
            store.run(nothing)


def test_an_exact_id_wins(tmp_path):
    for run_id in ("latest", "ab", "abc"):
        tracking.start_run("p", run_id=run_id, root=tmp_path / "tracking_runs").finish()
    store = tracking.open_store(tmp_path / "tracking_runs")
    for name in ("latest", "ab"):
        assert store.run(name).id == as_json("show", name, cwd=tmp_path)["id"] == name


def test_a_removed_run_is_not_another_that_begins_so(tmp_path):
    for run_id in ("ab", "abc"):
        tracking.start_run("p", run_id=run_id, root=tmp_path).finish()
    store = tracking.open_store(tmp_path)
    store.remove("ab")
    with pytest.raises(tracking.RunNotFoundError, match="was removed"):
        store.run("ab")


@pytest.mark.parametrize("name", ["latest", "q/latest", "x", "p/x"])
def test_runs_are_removed_by_whole_names_alone(place, name):
    _, err = command("rm", name, "--yes", cwd=place, code=1)
    assert "is neither the id nor the name of a run" in err
    store = tracking.open_store(place / "tracking_runs")
    with pytest.raises(tracking.RunNotFoundError):
        store.remove(name)
    assert len(store.runs()) == 4


def test_a_store_without_runs_has_no_latest(tmp_path):
    with pytest.raises(tracking.RunNotFoundError):
        tracking.open_store(tmp_path).run("latest")
    _, err = command("show", "latest", cwd=tmp_path, code=1)
    assert "there are no runs" in err
