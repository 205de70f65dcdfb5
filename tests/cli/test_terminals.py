"""What the command shows at terminals that have less room than it would like."""

from __future__ import annotations

import re

import pytest

from tests.support.commands import Terminal, tracking
from tests.support.programs import run as run_program

RECORD = r"""
import tracking_core as t
for number, name in enumerate(["base", "wide", "a name that is rather long and has no end"]):
    with t.start_run("digits", name, run_id=f"20261124-123341-{number}abcdefg", config={"lr": 0.1 * number}, tags=["best"]) as run:
        for step in range(300):
            run.log_scalars({"train/loss": (number + 1) / (step + 7), "日本": 1.0, "abcdef": 2.0}, step=step)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    run_program(RECORD, folder)
    return folder


def seen_at(place, columns, *arguments):
    """The lines that a terminal of so many columns shows, without colours."""
    text = re.sub(
        r"\x1b\[[0-9;?]*[a-zA-Z]", "", Terminal(*arguments, cwd=place, columns=columns, TMPDIR=str(place)).end()
    )
    return [line.rstrip() for line in text.replace("\r", "").splitlines()]


@pytest.mark.parametrize(
    ("columns", "heads"),
    [
        (40, "id name"),
        (60, "id name"),
        (80, "id name project status"),
        (120, "id name project status started duration tags"),
    ],
)
def test_a_list_of_runs_leaves_out_what_there_is_no_room_for(place, columns, heads):
    lines = seen_at(place, columns, "runs")
    assert lines[0].split() == heads.split()
    assert max(map(len, lines)) <= columns
    [base] = [line for line in lines if " base" in line]
    assert base.startswith("20261124-123341-0  base")
    if "status" in heads:
        assert " finished" in base
    if "started" in heads:
        assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", base)
    # What was asked for stays.
    assert seen_at(place, columns, "runs", "--show", "abcdef")[0].split()[-1] == "abcdef"


def test_a_terminal_without_room_for_any_table_breaks_the_lines_itself(place):
    lines = seen_at(place, 20, "runs")
    assert lines[1].startswith("20261124-123341-2  a name that is rather long")


@pytest.mark.parametrize("columns", [40, 60, 200])
def test_a_comparison_goes_on_below(place, columns):
    lines = seen_at(place, columns, "compare", "20261124-123341-0", "20261124-123341-1", "20261124-123341-2")
    last = lines[lines.index("last") + 1 : lines.index("best")]
    for number in range(3):
        assert any(f"{(number + 1) / 306:.6g} @ 299" in line for line in last), "no number is broken"
    blocks = sum(line.startswith("train/loss") for line in last)
    assert blocks == {40: 3, 60: 2, 200: 1}[columns]


def test_points_stay_whole_without_their_times(place):
    lines = seen_at(place, 40, "scalars", "base", "train/loss", "--last", "1")
    assert lines[0].split() == ["name", "axis", "step", "value"]
    assert lines[-1].split() == ["train/loss", "step", "299", f"{1 / 306:.6g}"]


def test_wide_letters_count_twice(place):
    text, _ = tracking("show", "base", cwd=place)
    assert "\n  日本        1\n" in text
    assert "\n  abcdef      2\n" in text
