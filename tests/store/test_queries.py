"""Finding runs and comparing them: by status, tags, configuration, final metrics, and any function."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tracking_core as tracking
from tracking_core.errors import InvalidValueError, RunNotFoundError, TrackingError
from tracking_core.store import Comparison, MetricSummary
from tracking_core.store.filters import ABSENT, find, same


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("queries") / "runs"
    with tracking.start_run(
        "a", "first", run_id="r0", root=root, backends="local", tags=["x", "y"],
        config={"lr": 0.1, "model": {"depth": 2, "widths": (8, 4), "act.fn": "gelu"}, "seed": 1, "on": True, "nan": math.nan},
    ) as run:  # fmt: skip
        for step in range(5):
            run.log_scalars({"val/loss": 1.0 / (step + 1), "accuracy": step / 4}, step=step)
        run.log_summary({"best": {"step": 3}})
    with tracking.start_run(
        "a", "second", run_id="r1", root=root, backends="local", tags=["x"],
        config={"lr": 0.01, "model": {"depth": 4, "widths": [8, 4]}, "dtype": np.float32, "seed": 1},
    ) as run:  # fmt: skip
        for step, value in [(0, 3.0), (1, math.nan), (2, -1.0), (3, 2.0), (2, -4.0), (4, math.inf)]:
            run.log_scalars({"val/loss": value}, step=step)
        run.log_scalars({"epoch loss": math.nan}, step=1, step_axis="epoch")
        run.log_config({"model": {"depth": 6}})
    tracking.start_run(
        "b", "third", run_id="r2", root=root, backends="local", config={"lr": "warmup", "seed": 1}
    ).finish("failed")
    return tracking.open_store(root)


def ids(store, **conditions):
    return [record.id for record in store.runs(**conditions)]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, ["r2", "r1", "r0"]),
        ({"lr": 0.1}, ["r0"]),
        ({"lr": np.float64(0.1)}, ["r0"]),
        ({"seed": 1}, ["r2", "r1", "r0"]),
        ({"seed": 1.0}, ["r2", "r1", "r0"]),
        ({"seed": True}, []),
        ({"on": True}, ["r0"]),
        ({"on": 1}, []),
        ({"nan": math.nan}, ["r0"]),
        ({"lr": "warmup"}, ["r2"]),
        # Later changes count.
        ({"model.depth": 6}, ["r1"]),
        ({"model/depth": 2}, ["r0"]),
        ({"model.depth": lambda depth: depth > 1}, ["r1", "r0"]),
        ({"model.depth": lambda depth: np.bool_(depth > 2)}, ["r1"]),
        ({"model.widths": (8, 4)}, ["r1", "r0"]),
        ({"model.widths": [8, 4]}, ["r1", "r0"]),
        ({"model.widths": [8]}, []),
        ({"model/widths.1": 4}, ["r1", "r0"]),
        ({"model/widths/2": 4}, []),
        ({"model": {"depth": 6, "widths": [8, 4]}}, ["r1"]),
        ({"model": {"depth": 6}}, []),
        ({"model.act.fn": "gelu"}, ["r0"]),
        ({"dtype": np.float32}, ["r1"]),
        ({"model.nothing": None}, []),
        ({"lr.x": 1}, []),
        ({"seed": 1, "model.depth": 6}, ["r1"]),
    ],
)  # fmt: skip
def test_runs_by_configuration(store, config, expected):
    assert ids(store, config=config) == expected


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"val/loss": 0.2}, ["r0"]),
        ({"val/loss": lambda value: value < 0.5}, ["r0"]),
        ({"val/loss": math.inf}, ["r1"]),
        ({"val/loss": lambda value: True, "accuracy": 1}, ["r0"]),
        ({"epoch loss": math.nan}, ["r1"]),
        ({"best.step": 3}, ["r0"]),
        ({"best/step": lambda step: step == 3}, ["r0"]),
        ({"nothing": lambda value: True}, []),
    ],
)
def test_runs_by_their_final_metrics(store, metrics, expected):
    assert ids(store, metrics=metrics) == expected


def test_runs_by_any_function(store):
    assert ids(store, where=lambda record: record.name == "second") == ["r1"]
    # One that never logged the name is left out.
    assert ids(store, where=lambda record: record.scalars("accuracy").value.max() >= 1) == ["r0"]
    assert ids(store, where=lambda record: np.bool_(len(record.tags) > 0), tags="y") == ["r0"]
    assert ids(store, where=lambda record: None) == []


def test_conditions_add_up(store):
    assert ids(store, status=["finished", "failed"]) == ["r2", "r1", "r0"]
    assert ids(store, status={"failed"}, project="b") == ["r2"]
    assert ids(store, status=(), tags=[]) == []
    assert ids(store, tags=("x", "y"), config={"seed": 1}, metrics={"accuracy": 1.0}) == ["r0"]
    assert ids(store, project="b", tags="x") == []
    # What is cheap goes first: the predicate never sees the others.
    assert ids(store, project="a", config={"lr": lambda lr: lr > 0.05}) == ["r0"]


def fails(record):
    raise ValueError("of the caller")


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ({"project": 3}, ["project must be a name, got 3 (int)"]),
        ({"status": "finish"}, ["unknown status 'finish'", "did you mean 'finished'?", "running, finished, failed"]),
        ({"status": ["failed", "x"]}, ["unknown status 'x'; the statuses are"]),
        ({"status": 1}, ["status must be a str or several, got 1 (int)"]),
        ({"tags": 1}, ["tags must be a str or several"]),
        ({"tags": ["a", 1]}, ["tags must be a str or several, got ['a', 1] (list)"]),
        ({"tags": {"a": 1}}, ["tags must be a str or several"]),
        ({"tags": b"a"}, ["tags must be a str or several"]),
        ({"config": "lr=0.1"}, ["config must be a mapping of names to values or predicates", "'lr=0.1' (str)"]),
        ({"config": [("lr", 1)]}, ["config must be a mapping"]),
        ({"config": {3: 1}}, ["a name in config must be a str such as 'model.depth', got 3 (int)"]),
        ({"metrics": lambda value: True}, ["metrics must be a mapping"]),
        ({"where": {"lr": 1}}, ["where must be a function of a RunRecord", "(dict)"]),
        ({"where": fails}, ["where failed on run r", "ValueError: of the caller"]),
        ({"config": {"lr": lambda lr: lr < 1}}, ["predicate of config for 'lr' failed on run r2, where it is 'warmup' (str)", "TypeError"]),
        ({"metrics": {"best": lambda best: best > 1}}, ["predicate of metrics for 'best' failed on run r0", "(dict)"]),
    ],
)  # fmt: skip
def test_wrong_conditions_say_what_is_wrong(store, conditions, words):
    with pytest.raises(InvalidValueError) as caught:
        store.runs(**conditions)
    for word in words:
        assert word in str(caught.value)
    assert isinstance(caught.value, TypeError) and isinstance(caught.value, TrackingError)


@given(st.recursive(st.integers(0, 2), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("a./0", max_size=3), inner, max_size=3)))  # fmt: skip
def test_whatever_is_there_is_found(tree):
    """By the names of its keys joined by either sign; keys that hold the signs themselves may hide others."""

    def visit(value, path):
        if isinstance(value, dict):
            pairs = list(value.items())
        elif isinstance(value, list):
            pairs = [(str(place), part) for place, part in enumerate(value)]
        else:
            return
        for key, part in pairs:
            for sign in "./":
                whole = f"{path}{sign}{key}" if path else f"root{sign}{key}"
                assert find({"root": tree}, whole) is not ABSENT
            visit(part, f"{path or 'root'}/{key}")

    visit(tree, "")
    assert find({"root": tree}, "other") is ABSENT


def test_shorter_keys_are_tried_where_longer_ones_lead_nowhere():
    tree = {"a.b": {"c": 1}, "a": {"b.d": 2, "b": {"c": 3}}}
    assert [find(tree, path) for path in ("a.b.c", "a.b.d", "a/b/c", "a/b.d")] == [1, 2, 3, 2]
    assert find(tree, "a.b.e") is ABSENT


def test_equal_values():
    tree = {"a": [1, {"b": math.nan}], "c": None}
    assert same(tree, json.loads(json.dumps(tree)))
    assert not same(tree, {**tree, "c": 0})
    assert not same({"a": [1]}, {"a": [1, 2]})
    assert not same({"a": [True]}, {"a": [1]})
    assert not same("1", 1) and not same(math.nan, 1.0) and same(None, None)


# ---------------------------------------------------------------- comparing


def test_runs_side_by_side(store):
    found = store.compare(["r1", "r0", "r1"])
    assert found.runs == ("r1", "r0")
    assert (found.names, found.status) == ({"r1": "second", "r0": "first"}, {"r1": "finished", "r0": "finished"})
    assert found.config.pop("nan").keys() == {"r0"}
    assert found.config == {
        "lr": {"r1": 0.01, "r0": 0.1},
        "model.depth": {"r1": 6, "r0": 2},
        "dtype": {"r1": "float32"},
        "model.act.fn": {"r0": "gelu"},
        "on": {"r0": True},
    }
    assert found.metrics == {
        "val/loss": {
            "r1": MetricSummary("step", 5, math.inf, 4, -4.0, 2, math.inf, 4),
            "r0": MetricSummary("step", 5, 0.2, 4, 0.2, 4, 1.0, 0),
        }
    }
    assert store.compare([store.run("r1"), "r0"]).config.keys() == store.compare(["r1", "r0"]).config.keys()


def test_scalars_that_only_some_have(store):
    found = store.compare(["r0", "r1", "r2"], common=False)
    assert {name: set(values) for name, values in found.metrics.items()} == {
        "accuracy": {"r0"}, "epoch loss": {"r1"}, "val/loss": {"r0", "r1"},
    }  # fmt: skip
    lost = found.metrics["epoch loss"]["r1"]
    assert (lost.axis, lost.count, lost.last_step, lost.min_step, lost.max_step) == ("epoch", 1, 1, None, None)
    assert math.isnan(lost.last) and math.isnan(lost.min) and math.isnan(lost.max)
    assert store.compare(["r0", "r1", "r2"]).metrics == {}


def test_a_comparison_is_plain_data(store):
    found = store.compare(["r0", "r2"], common=False)
    assert json.loads(json.dumps(dataclasses.asdict(found)))["metrics"]["accuracy"]["r0"]["max"] == 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.runs = ()
    assert store.compare([]) == Comparison((), {}, {}, {}, {})
    alone = store.compare(["r0"])
    assert alone.config == {} and set(alone.metrics) == {"val/loss", "accuracy"}


@pytest.mark.parametrize("wrong", ["r0", 3, [3], [None], None])
def test_what_cannot_be_compared(store, wrong):
    with pytest.raises(InvalidValueError, match="compare: expected"):
        store.compare(wrong)


def test_unknown_runs_are_named(store):
    with pytest.raises(RunNotFoundError, match="there is no run 'nope'"):
        store.compare(["r0", "nope"])
