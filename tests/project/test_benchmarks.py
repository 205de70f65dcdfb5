"""What the benchmarks of reading compare is the same in every program that is compared."""

from __future__ import annotations

import pytest

from benchmarks import peers, store_read
from benchmarks.peers import Shape

SHAPE = Shape(runs=3, series=2, rows=40)


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    store = store_read.RunStore()
    store.write(tmp_path_factory.mktemp("ours"), SHAPE)
    return store


def test_our_own(ours):
    (_, times, rows), *_ = SHAPE.blocks(0)
    series = ours.series("train/metric_1")
    assert series.value.tolist() == [row[1] for row in rows]
    assert series.time.tolist() == pytest.approx(times, abs=1e-6)
    assert len(ours.last()) == SHAPE.runs
    assert ours.size() > 0


@pytest.mark.parametrize("name", peers.PEERS)
def test_the_others_hold_the_same(name, ours, tmp_path, capsys):
    make = peers.installed().get(name)
    if make is None:
        assert f"{name}: left out" in capsys.readouterr().out
        return
    peer = make()
    peer.write(tmp_path / "peer", SHAPE)
    expected = ours.compare(2)
    assert [{metric: (last, pytest.approx(low)) for metric, (last, low) in run.items()} for run in peer.compare(2)] == [
        {metric: (found[f"r{run}"].last, found[f"r{run}"].min) for metric, found in expected.metrics.items()}
        for run in range(2)
    ]
    assert len(peer.series("train/metric_1")) == SHAPE.rows
    assert len(peer.last()) == SHAPE.runs
    assert peer.size() > 0


def test_the_table_has_a_row_for_each():
    text = store_read.table(
        {"tracking-core": {"one_series_ms": 2.0, "list_10000_runs_ms": 3.0}, "other": {"one_series_ms": 30.0}}
    )
    assert "| other | 30 (15x) |" in text
    assert "| list_10000_runs_ms | 3 |" in text
