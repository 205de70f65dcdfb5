"""Values so large that the call must not do the work: it takes a copy, and the encoder's thread does the rest."""

from __future__ import annotations

import json
import threading

import numpy as np
import pandas as pd
import polars as pl
import pytest

import tracking_core as tracking
from tests.support.programs import journal_events
from tracking_core.base.redaction import text as searching
from tracking_core.values import cells

ROWS = 5000


def started(**keywords):
    return tracking.start_run("p", root="runs", delivery="thread", **keywords)


@pytest.fixture
def busy_encoder():
    """The encoder's thread stands still until it is told to go on."""
    from tracking_core.intake.resolver import Draft, resolver

    go_on = threading.Event()
    resolver().submit(Draft((), lambda _: go_on.wait(60), lambda error: None, encode=True))
    yield go_on
    go_on.set()


@pytest.fixture
def threads(monkeypatch):
    """The threads in which cells are converted or encoded, and texts searched piece by piece."""
    seen = {"convert": set(), "encode": set(), "search": set()}

    def watch(module, name, what):
        original = getattr(module, name)

        def watched(*args, **keywords):
            seen[what].add(threading.current_thread().name)
            return original(*args, **keywords)

        monkeypatch.setattr(module, name, watched)

    watch(cells, "plain_cell", "convert")
    monkeypatch.setattr(
        "tracking_core.values.tables.packed",
        lambda part: seen["encode"].add(threading.current_thread().name) or cells.packed(part),
    )
    watch(searching, "_redact_values", "search")
    return seen


COLUMNS = {
    "n": np.arange(ROWS),
    "x": np.linspace(0.0, 1.0, ROWS),
    "s": [f"text {row}" for row in range(ROWS)],
    "t": np.arange(ROWS).astype("M8[s]").astype("M8[us]"),
}
WAYS = {
    "arrays": lambda: {name: column.copy() for name, column in COLUMNS.items()},
    "lists": lambda: {name: list(column) for name, column in COLUMNS.items()},
    "pandas": lambda: pd.DataFrame(COLUMNS),
    "polars": lambda: pl.DataFrame(COLUMNS),
    "rows": lambda: [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)],
}


@pytest.mark.parametrize("make", WAYS.values(), ids=WAYS)
def test_the_call_of_a_large_table_copies_its_columns_alone(make, busy_encoder, threads):
    given = make()
    with started() as run:
        threads["search"].clear()
        run.log_table("t", given, step=3)
        # What happens to it afterwards does not matter.
        if isinstance(given, dict):
            given["x"][:5] = [9.0] * 5
        assert not [event for event in journal_events(run.dir) if event["kind"] == "table"]
        assert threads == {"convert": set(), "encode": set(), "search": set()}
        run.log_scalars({"x": 1.0}, step=4)
        busy_encoder.set()
    (event,) = [event for event in journal_events(run.dir) if event["kind"] == "table"]
    stored = json.loads((run.dir / "media" / event["file"]).read_text())
    assert (event["rows"], event["columns"], stored["columns"]) == (ROWS, 4, list("nxst"))
    assert [row[0] for row in stored["rows"]] == list(range(ROWS))
    assert [row[1] for row in stored["rows"]] == np.linspace(0.0, 1.0, ROWS).tolist()
    assert (stored["rows"][-1][2], stored["rows"][-1][3][:19]) == ("text 4999", "1970-01-01T01:23:19")
    assert threads["encode"] == {"tracking-encoder"}
    assert run.health.dropped == {}


def test_a_long_text_in_a_summary_is_searched_elsewhere(busy_encoder, threads):
    secret = "sk-" + "aB3d" * 12
    long = ("a line of a log\n" * 10_000) + secret
    with started() as run:
        run.log_summary({"short": 1.0, "text": "words"})
        # What is short is written when the call returns.
        (event,) = [event for event in journal_events(run.dir) if event["kind"] == "summary"]
        assert event["summary"] == {"short": 1.0, "text": "words"}
        threads["search"].clear()
        run.log_summary({"log": long, "deep": {"short": 2.0}})
        assert threads["search"] == set()
        run.log_summary({"short": 3.0})
        busy_encoder.set()
    summaries = [
        event["summary"]
        for event in sorted(journal_events(run.dir), key=lambda event: event["seq"])
        if event["kind"] == "summary"
    ]
    assert summaries[1] == {"log": long.replace(secret, "[redacted]"), "deep": {"short": 2.0}}
    assert tracking.open_store("runs").run(run.id).summary()["short"] == 3.0
    assert "tracking-encoder" in threads["search"]


def test_a_table_larger_than_what_may_wait_is_taken_alone(monkeypatch, troubles):
    monkeypatch.setattr("tracking_core.intake.resolver.MEDIA_LIMIT", 10_000)
    with started() as run:
        run.log_table("t", COLUMNS, step=0)
        run.flush(local=True)
    assert [event["rows"] for event in journal_events(run.dir) if event["kind"] == "table"] == [ROWS]
    assert run.health.dropped == {}


def test_secrets_in_large_tables_are_replaced():
    secret = "sk-" + "aB3d" * 12
    texts = ["fine"] * ROWS
    texts[4000] = f"my key is {secret}"
    with started() as run:
        run.log_table("t", {"n": np.arange(ROWS), "s": texts, secret: texts}, step=0)
    ((_, table),) = tracking.open_store("runs").run(run.id).tables("t")
    assert (table.rows[4000][1], table.rows[3999], table.rows[0][0]) == (
        "my key is [redacted]",
        (3999, "fine", "fine"),
        0,
    )
    assert secret not in repr(table.rows)
