"""`tracking runs`, `show`, `scalars` and `compare`: the real command on real runs, read back by json and csv."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
import subprocess
from datetime import datetime, timedelta, timezone

import pytest

from tests.support.commands import COMMAND, Terminal, as_json, environment, spawned, tracking
from tests.support.programs import REPO, here
from tests.support.programs import run as run_program
from tracking_core import start_run
from tracking_core.cli import choosing
from tracking_core.cli.expressions import found_in, parse
from tracking_core.cli.listing import short_ids
from tracking_core.cli.sync import describe

pytestmark = pytest.mark.system

RECORD = r"""
import math
import numpy as np
import tracking_core as tracking

HOSTILE = "evil\n[red]name\x1b[31m"
for number, (name, lr, project) in enumerate([("base", 1e-3, "digits"), ("wide", 3e-3, "digits"), (HOSTILE, 0.01, "other")]):
    with tracking.start_run(
        project, name, run_id=f"run-{number}", config={"lr": lr, "model": {"width": 64 << number, "act": "gelu"}, "seed": 1},
        tags=["vae", "best"] if number == 1 else ["vae"], group="g", notes="first\nsecond",
        backends="tensorboard:./tb" if number == 1 else None,
    ) as run:
        for step in range(20):
            run.log_scalars({"train/loss": 1 / (step + 1) + number, "acc": step / 20}, step=step)
        run.log_scalars({"train/loss": float("nan"), "limits/top": float("inf"), "big": 2**70}, step=20)
        run.log_scalars({"val/loss": 0.5 - 0.1 * number}, step=1, step_axis="epoch")
        run.log_scalars({"acc": 0.99}, step=19)
        run.log_summary({"verdict": "fine", "nested": {"deep": 3}})
        if number == 0:
            run.log_images({"samples": np.zeros((2, 8, 8))}, step=3)
            run.log_histogram("weights", np.arange(10.0), step=3)
            run.log_text("prompt", "hello", step=3)
            run.log_artifact({"w.bin": b"\0\1"}, name="vae", type="model", aliases=["prod"])
            run.log_alert("hot", "it is", level="warn")
        if number == 2:
            run.log_scalars({"a\n[b]\x1b": 1.0}, step=0)
            run.log_scalars({"two": 1.0}, step=5)
            run.log_scalars({"two": 2.0}, step=1, step_axis="epoch")
with tracking.start_run("other", "broken", run_id="run-9") as run:
    run.finish("failed")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with runs below `tracking_runs`."""
    folder = tmp_path_factory.mktemp("store")
    here(RECORD, folder)
    return folder


def ids(place, *arguments):
    out, _ = tracking("runs", "--ids", *arguments, cwd=place)
    return out.split()


# ---------------------------------------------------------------- runs


def test_runs_are_listed_with_everything_known_of_them(place):
    found = as_json("runs", cwd=place)["runs"]
    assert [run["id"] for run in found] == ["run-9", "run-2", "run-1", "run-0"]
    base = found[-1]
    assert set(base) == {
        "id", "name", "project", "status", "tags", "group", "job_type", "started", "finished", "duration", "config",
        "summary", "targets", "dir", "problem",
    }  # fmt: skip
    assert (base["name"], base["project"], base["status"], base["tags"]) == ("base", "digits", "finished", ["vae"])
    assert base["config"] == {"lr": 0.001, "model": {"width": 64, "act": "gelu"}, "seed": 1}
    assert base["summary"]["train/loss"] == "NaN"
    assert base["summary"]["limits/top"] == "Infinity"
    assert base["summary"]["big"] == str(2**70)
    assert base["summary"]["val/loss"] == 0.5
    assert base["duration"] == base["finished"] - base["started"]
    assert base["problem"] is None
    assert found[-2]["targets"][0].startswith("tensorboard:")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--project", "digits"], ["run-1", "run-0"]),
        (["--project", "digits", "--project", "other", "--status", "finished"], ["run-2", "run-1", "run-0"]),
        (["--status", "failed"], ["run-9"]),
        (["--status", "failed", "--status", "crashed"], ["run-9"]),
        (["--tag", "vae", "--tag", "best"], ["run-1"]),
        (["--where", "val/loss<0.45"], ["run-2", "run-1"]),
        (["--where", "val/loss <= 0.4", "--where", "config.lr=3e-3"], ["run-1"]),
        (["--where", "config.model.width>=128"], ["run-2", "run-1"]),
        (["--where", "config.model.act!=gelu"], []),
        (["--where", "config.nothing!=1"], []),
        (["--where", "name~^(base|wide)$"], ["run-1", "run-0"]),
        (["--where", "verdict=fine", "--limit", "1"], ["run-2"]),
        (["--where", "nested.deep=3", "--project", "other"], ["run-2"]),
        (["--where", "train/loss=nan", "--project", "digits"], ["run-1", "run-0"]),
        (["--where", "status=failed"], ["run-9"]),
        (["--sort", "val/loss"], ["run-2", "run-1", "run-0", "run-9"]),
        (["--sort", "val/loss", "--reverse"], ["run-0", "run-1", "run-2", "run-9"]),
        (["--sort", "config.lr", "--limit", "2"], ["run-0", "run-1"]),
        (["--sort", "name", "--limit", "2"], ["run-0", "run-9"]),
        (["--reverse"], ["run-0", "run-1", "run-2", "run-9"]),
        (["--project", "nothing"], []),
        (
            ["--where", "started>2020-01-31", "--where", "finished<2999-01-01T12:00"],
            ["run-9", "run-2", "run-1", "run-0"],
        ),
        (["--where", "started<2020-01-31"], []),
        (["--status", "unreadable"], []),
    ],
)
def test_runs_are_filtered_and_sorted(place, arguments, expected):
    assert ids(place, *arguments) == expected


def test_the_list_is_a_table_with_the_columns_that_were_asked_for(place):
    out, err = tracking("runs", "--sort", "val/loss", "--show", "acc", "--where", "config.lr<1", cwd=place)
    head, *lines = out.splitlines()
    assert head.split() == [
        "id", "name", "project", "status", "started", "duration", "tags", "acc", "val/loss", "config.lr",
    ]  # fmt: skip
    assert [line.split()[0] for line in lines] == ["run-2", "run-1", "run-0"]
    assert lines[1].split()[-3:] == ["0.99", "0.4", "0.003"]
    assert err == ""


def test_an_empty_store_is_no_error(tmp_path):
    out, err = tracking("runs", cwd=tmp_path)
    assert (out, err) == ("", "no runs under tracking_runs\n")
    assert as_json("runs", cwd=tmp_path) == {"runs": [], "unreadable": []}
    assert not (tmp_path / "tracking_runs").exists()


def test_a_run_that_cannot_be_read_hides_no_other(place, tmp_path):
    root = tmp_path / "tracking_runs"
    here("import tracking_core as t\nfor n in 'ab':\n    t.start_run('p', n, run_id=n).finish()", tmp_path)
    [journal] = root.glob("p/a/journal/*.jsonl")
    newer = journal.read_bytes().replace(b'"v":1', b'"v":9')
    # With a checksum that holds, so that it is a newer format and no damage.
    import zlib

    lines = [line.rpartition(b',"crc":"')[0] for line in newer.split(b"\n")[:-1]]
    journal.write_bytes(b"".join(line + b',"crc":"%08x"}\n' % zlib.crc32(line) for line in lines))
    found = {run["id"]: run for run in as_json("runs", cwd=tmp_path, code=1)["runs"]}
    assert found["b"]["status"] == "finished"
    assert found["a"]["status"] is None
    assert "has format 9" in found["a"]["problem"]
    out, err = tracking("runs", cwd=tmp_path, code=1)
    assert "unreadable" in out
    assert "has format 9" in err
    _, err = tracking("show", "a", cwd=tmp_path, code=1)
    assert "has format 9, this version reads up to 1: upgrade tracking-core" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--where", "nonsense"],
        ["--where", "=3"],
        ["--where", "loss<"],
        ["--where", "name~("],
        ["--limit", "0"],
        ["--ids", "--json"],
        ["--status", "finnished"],
        ["--where", "started>yesterday"],
        ["--where", "duration>1h"],
    ],
)
def test_conditions_that_are_none_are_wrong_usage(tmp_path, arguments):
    out, err = tracking("runs", *arguments, cwd=tmp_path, code=2)
    assert out == ""
    assert "Usage: tracking runs" in err


def test_conditions_take_any_name():
    assert parse('"a<b">=3').left == "a<b"
    assert parse("x == 3").operator == "="
    assert not parse("a<2").holds("text")
    assert parse("a<2").holds("1")
    assert parse("a=true").holds(True)
    assert not parse("a=true").holds(False)
    assert parse('a="1"').holds("1")
    assert parse("a=[1,2]").holds([1, 2])
    assert not parse("a!=1").holds(None)
    assert parse("a=nan").holds(math.nan)
    assert not parse("a<1").holds(math.nan)
    assert found_in({"a.b": {"c": 1}}, "a.b.c") == 1
    assert found_in({"a": {"b/c": 2}}, "a.b/c") == 2
    assert found_in({"a": 1}, "a.b") is None
    assert found_in({"a": [1, {"b": 2}]}, "a.1.b") == 2
    # Without a zone it is the time that clocks show here.
    moment = datetime(2026, 1, 31, 12).timestamp()
    assert parse("started>=2026-01-31 12:00").holds(moment)
    assert not parse("started>=2026-01-31 12:00").holds(moment - 1)
    assert parse("started>=2026-01-31T12:00+02:00").right == repr(
        datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=2))).timestamp()
    )


def columns_of(text):
    """A plain table as (heads, rows), whose columns are two blanks apart."""
    head, *lines = text.splitlines()
    return re.split(r"  +", head), [re.split(r"  +", line) for line in lines]


def test_the_main_metric_is_a_column(place, tmp_path):
    head, rows = columns_of(tracking("runs", "--project", "digits", cwd=place)[0])
    assert head[-1] == "val/loss"
    assert [row[-1] for row in rows] == ["0.4", "0.5"]
    # Of runs without a validation loss or accuracy it is none.
    start_run("p", run_id="x", root=tmp_path / "tracking_runs").finish()
    assert columns_of(tracking("runs", cwd=tmp_path)[0])[0][-1] == "tags"


def test_a_name_to_sort_by_that_no_run_has_is_said_with_what_was_meant(place):
    out, err = tracking("runs", "--sort", "lr", "--show", "train/los", cwd=place)
    assert len(out.splitlines()) == 5
    assert "no run has a value 'lr': did you mean 'config.lr'?" in err
    assert "no run has a value 'train/los': did you mean 'train/loss'?" in err
    assert tracking("runs", "--sort", "config.lr", cwd=place)[1] == ""


def test_ids_are_shortened_as_far_as_they_are_unique():
    known = ["20260101-120000-abc", "20260101-120000-xyz", "20260102-000000-abc", "run-1", "run-12"]
    found = short_ids(known, known)
    assert found == {one: one[:17] for one in known}
    assert len(set(found.values())) == len(known)
    assert short_ids(["x" * 40], ["x" * 40, "y"]) == {"x" * 40: "x" * 8}
    assert short_ids([], known) == {}


# ---------------------------------------------------------------- naming a run


@pytest.mark.parametrize("name", ["run-0", "base", "digits/run-0", "digits/base"])
def test_a_run_is_named_by_id_or_name(place, name):
    assert as_json("show", name, cwd=place)["id"] == "run-0"


def test_a_run_is_named_by_the_beginning_of_its_id_if_only_one_fits(tmp_path):
    here(
        "import tracking_core as t\nfor n in ('ab1', 'ab2', 'x9'):\n    t.start_run('p', 'same', run_id=n).finish()",
        tmp_path,
    )
    assert as_json("show", "x", cwd=tmp_path)["id"] == "x9"
    assert as_json("show", "p/x", cwd=tmp_path)["id"] == "x9"
    _, err = tracking("show", "ab", cwd=tmp_path, code=1)
    assert err == "Error: 'ab' fits 2 runs: p/ab1, p/ab2: name one by its id, or as PROJECT/ID\n"
    _, err = tracking("show", "same", cwd=tmp_path, code=1)
    assert "'same' fits 3 runs" in err


def test_an_id_that_two_projects_have_is_told_apart(tmp_path):
    here("import tracking_core as t\nfor p in 'pq':\n    t.start_run(p, run_id='x').finish()", tmp_path)
    _, err = tracking("show", "x", cwd=tmp_path, code=1)
    assert "fits 2 runs: p/x, q/x" in err
    assert as_json("show", "q/x", cwd=tmp_path)["project"] == "q"
    assert {run["id"] for run in as_json("compare", "p/x", "q/x", cwd=tmp_path)["runs"]} == {"p/x", "q/x"}


@pytest.mark.parametrize("name", ["bse", "", "../digits", "run-0/..", "a\nb", "x" * 5000, "/etc/passwd", "run-00"])
@pytest.mark.parametrize("verb", ["show", "tail"])
def test_a_run_that_is_not_there_is_said_in_a_line(place, verb, name):
    out, err = tracking(verb, name, cwd=place, code=1)
    assert out == ""
    assert err.startswith("Error: there is no run ")
    assert err.count("\n") == 1
    if name == "bse":
        assert err.endswith("did you mean 'base'?\n")


def test_the_root_is_an_option_or_a_setting(place, tmp_path):
    root = str(place / "tracking_runs")
    assert as_json("show", "base", "--root", root, cwd=tmp_path)["id"] == "run-0"
    assert as_json("show", "base", cwd=tmp_path, TRACKING_DIR=root)["id"] == "run-0"
    _, err = tracking("show", "base", cwd=tmp_path, code=1)
    assert "there are no runs; --root names another store" in err


# ---------------------------------------------------------------- show


def test_show_tells_all_of_a_run(place):
    run = as_json("show", "base", cwd=place)
    assert run["scalars"] == ["acc", "big", "limits/top", "train/loss", "val/loss"]
    assert run["images"] == ["samples"]
    assert run["media"] == {"histogram": ["weights"], "text": ["prompt"]}
    [artifact] = run["artifacts"]
    assert (artifact["name"], artifact["type"], artifact["version"]) == ("vae", "model", 0)
    assert (artifact["aliases"], artifact["files"], artifact["bytes"]) == (["prod"], 1, 2)
    assert [(one["title"], one["level"]) for one in run["alerts"]] == [("hot", "warn")]
    assert run["notes"] == "first\nsecond"
    assert run["environment"]["pid"]
    assert (run["targets"], run["damage"], run["error"]) == ([], [], None)
    text, _ = tracking("show", "base", cwd=place)
    for part in (
        "  command    -c\n",
        "base (run-0) of digits",
        "status     finished",
        "model.width",
        "vae:v0",
        "1 file, 2 B (prod)",
        "weights",
        "  notes      first\n             second\n",
    ):
        assert part in text


def test_an_error_is_shown_line_by_line(tmp_path):
    code = """
    import tracking_core as t
    try:
        with t.start_run("p", run_id="x"):
            raise ValueError("one\\x1b[31m\\ntwo")
    except ValueError:
        pass
    """
    here(code, tmp_path)
    text, _ = tracking("show", "x", cwd=tmp_path)
    assert "\n  error      Traceback (most recent call last):\n" in text
    assert "\n             ValueError: one\\x1b[31m\n             two\n" in text


def test_show_counts_what_targets_wait_for(place, tmp_path):
    [target] = as_json("show", "wide", cwd=place)["targets"]
    assert target["target"] == f"tensorboard:{place}/tb"
    assert (target["pending"], target["failed"], target["status"]) == (0, 0, "finished")
    # Every call but the summary's came through it, and there were 24 with records, the summary included.
    assert target["delivered"] + target["skipped"] == 24
    code = """
    import os, tracking_core as t
    run = t.start_run("p", run_id="x", backends="tensorboard:./tb")
    run.log_scalars({"a": 1}, step=0)
    run.flush()
    for step in range(5):
        run.log_scalars({"a": 1}, step=step)
    os.kill(os.getpid(), 9)
    """
    run_program(code, tmp_path, code_expected=-9, TRACKING_DELIVERY="thread")
    run = as_json("show", "x", cwd=tmp_path)
    [target] = run["targets"]
    assert run["status"] == "crashed"
    assert target["status"] is None
    assert target["delivered"] + target["pending"] == 6
    before = sorted(path.name for path in (tmp_path / "tracking_runs").rglob("*"))
    tracking("show", "x", cwd=tmp_path)
    assert sorted(path.name for path in (tmp_path / "tracking_runs").rglob("*")) == before, "looking changes nothing"
    tracking("sync", "x", cwd=tmp_path)
    [target] = as_json("show", "x", cwd=tmp_path)["targets"]
    assert (target["delivered"], target["pending"]) == (6, 0)


def test_show_tells_of_a_crashed_run_how_long_it_went_and_how_often_it_began(tmp_path):
    code = """
    import os, time, tracking_core as t
    run = t.start_run("p", run_id="x", resume="allow")
    run.log_text("note", "b", step=5, step_axis="epoch")
    for _ in range(2):
        run.log_scalars({"a": 1}, step=run.step)
    run.flush(local=True)
    os.kill(os.getpid(), 9)
    """
    for _ in range(2):
        run_program(code, tmp_path, code_expected=-9)
    [path] = tmp_path.rglob("run.json")
    path.write_text(json.dumps({**(facts := json.loads(path.read_text())), "started": facts["started"] - 500}))
    run = as_json("show", "x", cwd=tmp_path)
    assert (run["status"], run["finished"], run["restarts"]) == ("crashed", None, 1)
    assert 500 <= run["duration"] < 600
    assert run["last_step"] == {"step": 3, "epoch": 5}
    text, _ = tracking("show", "x", cwd=tmp_path)
    assert ", 1 restart\n" in text and "  last step  5 (epoch), 3 (step)\n" in text
    [listed] = as_json("runs", cwd=tmp_path)["runs"]
    assert listed["duration"] == run["duration"]


def test_processes_of_one_training_are_no_restarts(tmp_path):
    runs = [start_run("p", run_id="x", resume="allow", root=tmp_path / "tracking_runs") for _ in range(3)]
    for run in runs:
        run.log_scalars({"a": 1.0}, step=0)
    for run in runs:
        run.finish()
    start_run("p", run_id="x", resume="must", root=tmp_path / "tracking_runs").finish()
    assert as_json("show", "x", cwd=tmp_path)["restarts"] == 1


def test_a_run_with_very_many_names_is_shown_in_bounds(tmp_path, monkeypatch):
    """Laying out a line takes a while: of 100,000 it took most of a minute."""
    from tracking_core.cli.output import Output

    with start_run("p", run_id="x", root=tmp_path / "tracking_runs", config={f"c{n}": n for n in range(1000)}) as run:
        run.log_scalars({f"s{number}": float(number) for number in range(5000)}, step=0)
    items, real = [], Output.item
    monkeypatch.setattr(Output, "item", lambda *arguments, **keywords: items.append(1) or real(*arguments, **keywords))
    text, _ = tracking("show", "x", cwd=tmp_path)
    assert len(items) < 300 and len(text) < 30_000
    assert "and 4,900 more, which --json prints" in text and "and 900 more, which" in text
    assert "and 4,950 more\n" in text
    assert len(as_json("show", "x", cwd=tmp_path)["scalars"]) == 5000


# ---------------------------------------------------------------- scalars


def test_scalars_come_back_exactly(place):
    found = as_json("scalars", "base", "train/loss", "val/loss", cwd=place)
    assert found["run"] == "run-0"
    loss, val = found["series"]
    assert (loss["name"], loss["axis"], loss["step"]) == ("train/loss", "step", list(range(21)))
    assert loss["value"] == [1 / (step + 1) for step in range(20)] + ["NaN"]
    assert all(isinstance(time, float) for time in loss["time"])
    assert (val["axis"], val["step"], val["value"]) == ("epoch", [1], [0.5])


def test_a_scalar_on_two_axes_is_two_series(place):
    found = as_json("scalars", "run-2", "two", cwd=place)["series"]
    assert [(one["axis"], one["step"], one["value"]) for one in found] == [("step", [5], [1.0]), ("epoch", [1], [2.0])]
    [one] = as_json("scalars", "run-2", "two", "--axis", "epoch", cwd=place)["series"]
    assert one["value"] == [2.0]


def test_scalars_as_csv(place):
    out, _ = tracking("scalars", "base", "train/*", "limits/top", "--csv", cwd=place)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == ["name", "axis", "step", "time", "value"]
    loss = [(int(row["step"]), float(row["value"])) for row in rows if row["name"] == "train/loss"]
    assert loss[:20] == [(step, 1 / (step + 1)) for step in range(20)]
    assert math.isnan(loss[20][1])
    assert [float(row["value"]) for row in rows if row["name"] == "limits/top"] == [math.inf]


def test_a_step_that_was_logged_again_counts_once(place):
    [acc] = as_json("scalars", "base", "acc", cwd=place)["series"]
    assert (acc["step"][-2:], acc["value"][-2:], len(acc["step"])) == ([18, 19], [0.9, 0.99], 20)
    [acc] = as_json("scalars", "base", "acc", "--raw", cwd=place)["series"]
    assert (acc["step"][-2:], acc["value"][-2:], len(acc["step"])) == ([19, 19], [0.95, 0.99], 21)


def test_scalars_for_people_and_the_last_of_them(place):
    out, _ = tracking("scalars", "base", "acc", "--last", "2", cwd=place)
    head, *lines = [line.split() for line in out.splitlines()]
    assert head == ["name", "axis", "step", "time", "value"]
    assert [(line[0], line[2], line[-1]) for line in lines] == [("acc", "18", "0.9"), ("acc", "19", "0.99")]


def test_without_names_the_scalars_are_listed(place):
    found = as_json("scalars", "base", cwd=place)["scalars"]
    assert [(one["name"], one["axis"], one["points"]) for one in found] == [
        ("acc", "step", 20),
        ("big", "step", 1),
        ("limits/top", "step", 1),
        ("train/loss", "step", 21),
        ("val/loss", "epoch", 1),
    ]
    assert found[3]["value"] == "NaN"
    out, _ = tracking("scalars", "base", "--csv", cwd=place)
    assert [row["name"] for row in csv.DictReader(io.StringIO(out))][-1] == "val/loss"
    out, _ = tracking("scalars", "base", "--axis", "epoch", cwd=place)
    assert len(out.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["los"], "has no scalar 'los'"),
        (["train/los"], "did you mean 'train/loss'?"),
        (["none/*"], "there are acc, big, limits/top, train/loss, val/loss"),
        (["acc", "--axis", "epoch"], "not"),
        (["--axis", "nothing"], "nothing is on the axis 'nothing', but on ['epoch', 'step']"),
    ],
)
def test_scalars_that_are_not_there_are_said(place, arguments, said):
    out, err = tracking("scalars", "base", *arguments, cwd=place, code=1)
    assert out == ""
    assert said in err


def test_a_run_without_scalars_says_so(place):
    out, err = tracking("scalars", "run-9", cwd=place)
    assert (out, err) == ("", "run run-9 (broken) has no scalars\n")
    assert as_json("scalars", "run-9", cwd=place) == {"run": "run-9", "scalars": []}
    _, err = tracking("scalars", "base", "--last", "3", cwd=place, code=2)
    assert "--last needs a NAME" in err


def test_names_with_line_ends_stay_one_field_of_csv(tmp_path):
    code = "import tracking_core as t\nwith t.start_run('p', run_id='x') as r:\n    r.log_scalars({'a\\rb': 1, 'c\\nd': 2, 'e,\"f': 3}, step=0)"
    here(code, tmp_path)
    out = subprocess.run(
        [*COMMAND, "scalars", "x", "*", "--csv"], cwd=tmp_path, env=environment(), capture_output=True, check=True
    ).stdout.decode()
    rows = list(csv.DictReader(io.StringIO(out, newline="")))
    assert [(row["name"], row["value"]) for row in rows] == [("a\rb", "1.0"), ("c\nd", "2.0"), ('e,"f', "3.0")]


# ---------------------------------------------------------------- compare


def test_runs_are_compared(place):
    found = as_json("compare", "base", "wide", "run-2", cwd=place)
    assert [(run["id"], run["name"]) for run in found["runs"][:2]] == [("run-0", "base"), ("run-1", "wide")]
    assert found["config"] == {
        "lr": {"run-0": 0.001, "run-1": 0.003, "run-2": 0.01},
        "model.width": {"run-0": 64, "run-1": 128, "run-2": 256},
    }
    assert as_json("compare", "base", "run-9", cwd=place)["config"]["seed"] == {"run-0": 1}, "the other has none"
    metrics = {(one["name"], one["axis"]): one for one in found["metrics"]}
    loss = metrics["train/loss", "step"]
    assert loss["best_is"] == "min"
    assert loss["runs"]["run-1"] == {"last": "NaN", "last_step": 20, "best": 1.05, "best_step": 19, "points": 21}
    acc = metrics["acc", "step"]
    assert (acc["best_is"], acc["runs"]["run-0"]["best"]) == ("max", 0.99)
    assert metrics["val/loss", "epoch"]["runs"]["run-0"]["last_step"] == 1
    assert list(metrics["a\n[b]\x1b", "step"]["runs"]) == ["run-2"]


def test_which_value_is_best_can_be_said(place):
    found = as_json("compare", "base", "--metric", "*loss", "--max", "train/*", cwd=place)
    assert [(one["name"], one["best_is"]) for one in found["metrics"]] == [("train/loss", "max"), ("val/loss", "min")]
    assert found["metrics"][0]["runs"]["run-0"]["best"] == 1.0
    [acc] = as_json("compare", "base", "--metric", "acc", "--min", "acc", cwd=place)["metrics"]
    assert acc["runs"]["run-0"]["best"] == 0.0
    assert as_json("compare", "base", "--all-config", cwd=place)["config"]["seed"] == {"run-0": 1}
    _, err = tracking("compare", "base", "--metric", "nothing", cwd=place, code=1)
    assert "none of the runs has nothing; there are acc" in err


def test_a_comparison_for_people(place):
    out, _ = tracking("compare", "base", "wide", cwd=place)
    lines = [line.split() for line in out.splitlines()]
    assert ["lr", "0.001", "0.003"] in lines
    assert ["model.width", "64", "128"] in lines
    assert ["val/loss", "(epoch)", "0.5", "@", "1", "0.4", "@", "1"] in lines
    assert ["train/loss", "(min)", "0.05", "@", "19", "1.05", "@", "19"] in lines
    assert not any(line[:1] == ["seed"] for line in lines)


def test_from_six_on_runs_are_rows(tmp_path):
    for number in range(6):
        config = {"lr": number / 10, "same": 1}
        with start_run(
            "p", f"name-{number}", run_id=f"r{number}", config=config, root=tmp_path / "tracking_runs"
        ) as run:
            run.log_scalars({"val/loss": 1.0 - number / 10, "acc": 0.5}, step=3)
    ids = [f"r{number}" for number in range(6)]
    head, rows = columns_of(tracking("compare", *ids, cwd=tmp_path)[0])
    assert head == [
        "run",
        "id",
        "project",
        "status",
        "lr",
        "last acc",
        "last val/loss",
        "best acc (max)",
        "best val/loss (min)",
    ]
    assert [row[0] for row in rows] == [f"name-{number}" for number in range(6)]
    assert rows[2] == ["name-2", "r2", "p", "finished", "0.2", "0.5 @ 3", "0.8 @ 3", "0.5 @ 3", "0.8 @ 3"]
    # Five are columns, as ever.
    head, _ = columns_of(tracking("compare", *ids[:5], cwd=tmp_path)[0].split("\n\n")[0])
    assert head == ["run", *(f"name-{number}" for number in range(5))]
    assert len(as_json("compare", *ids, cwd=tmp_path)["runs"]) == 6


def test_what_is_equal_does_not_differ_and_what_differs_looks_different(tmp_path):
    code = """
    import math
    import tracking_core as t
    for n in (0, 1):
        config = {"same": [1, 1.0][n], "none": math.nan, "flag": [1, True][n], "close": [0.1, 0.1 + 2**-55][n]}
        t.start_run("p", "ab"[n], run_id="xy"[n], config=config).finish()
    """
    here(code, tmp_path)
    assert set(as_json("compare", "x", "y", cwd=tmp_path)["config"]) == {"flag", "close"}
    text, _ = tracking("compare", "x", "y", cwd=tmp_path)
    assert ["close", "0.1", repr(0.1 + 2**-55)] in [line.split() for line in text.splitlines()]
    text, _ = tracking("show", "y", cwd=tmp_path)
    assert repr(0.1 + 2**-55) in text


def test_many_runs_are_looked_for_once(place, monkeypatch):
    looks = []
    places = choosing._places
    monkeypatch.setattr(choosing, "_places", lambda root: looks.append(root) or places(root))
    found = choosing.choose_all(["run-1", "base", "wide", "run-9", "other/run-2"], str(place / "tracking_runs"))
    assert [record.id for record in found] == ["run-1", "run-0", "run-9", "run-2"]
    assert len(looks) == 1


# ---------------------------------------------------------------- at a terminal, and in pipes


READING = (["runs"], ["show", "run-2"], ["scalars", "run-2"], ["scalars", "run-2", "a*"], ["compare", "run-2", "base"])


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_output_is_plain_in_pipes_and_names_are_escaped(place, arguments):
    out, err = tracking(*arguments, cwd=place)
    assert err == ""
    assert "\x1b" not in out
    assert not any(line.endswith(" ") for line in out.splitlines())
    assert r"evil\n[red]name\x1b[31m" in out or r"a\n[b]\x1b" in out


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_names_do_no_harm_at_a_terminal(place, arguments):
    seen = Terminal(*arguments, cwd=place, columns=180).end()
    assert r"\n[red]" in seen or r"\n[b]" in seen
    assert "\x1b[31m" not in seen, "that is the colour of the run's name"
    assert "\x1b[1m" in seen


@pytest.mark.parametrize(
    "arguments",
    [["runs"], ["scalars", "base", "acc"], ["scalars", "base", "--csv"], ["show", "base", "--json"]],
    ids=" ".join,
)
def test_a_reader_that_goes_away_is_no_error(place, arguments):
    program = subprocess.Popen(
        [*COMMAND, *arguments], cwd=place, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    program.stdout.close()
    assert program.stderr.read() == b""
    program.stderr.close()
    assert program.wait(60) in {0, 1}


def test_much_output_into_a_closed_pipe_ends(tmp_path):
    with start_run("p", run_id="x") as run:
        for step in range(12_000):
            run.log_scalars({"a": step}, step=step)
    for arguments in (
        ["scalars", "x", "a"],
        ["scalars", "x", "a", "--csv"],
        ["scalars", "x", "a", "--json"],
        ["tail", "x", "--all"],
    ):
        line = f"{' '.join([*COMMAND, *arguments])} | head -n 1"
        done = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=100
        )
        assert done.stderr == ""
        assert done.stdout.count("\n") == 1


def test_the_module_of_a_verb_is_imported_when_it_is_called(tmp_path):
    code = """
    import sys
    from tracking_core.cli.app import app
    assert "show" in app.commands
    assert len(app.commands) == len(list(app.commands))
    loaded = {name for name in sys.modules if name.startswith("tracking_core.cli.verbs.")}
    assert not loaded, loaded
    assert app.commands["show"].name
    heavy = {"numpy", "rich", "msgspec", "pyarrow", "uniplot"} & set(sys.modules)
    assert not heavy, heavy
    """
    run_program(code, tmp_path)


def test_json_is_one_document_of_stable_fields(place):
    """What programs rely on: the fields that the documentation lists."""
    expected = {
        ("show", "base"): {
            "id", "name", "project", "status", "error", "tags", "group", "job_type", "notes", "forked_from", "origin", "started", "finished", "duration", "restarts", "last_step", "dir", "config", "summary",
            "environment", "scalars", "images", "media", "artifacts", "used_artifacts", "alerts", "targets", "damage",
        },
        ("scalars", "base", "acc"): {"run", "series"},
        ("scalars", "base"): {"run", "scalars"},
        ("compare", "base"): {"runs", "config", "metrics"},
        ("runs",): {"runs", "unreadable"},
    }  # fmt: skip
    for arguments, fields in expected.items():
        assert set(as_json(*arguments, cwd=place)) == fields


def test_the_documentation_has_every_field(place, tmp_path):
    """Of the verbs that change something; those that read are above."""
    page = (REPO / "docs" / "cli.md").read_text(encoding="utf-8")
    shutil.copytree(place / "tracking_runs", tmp_path / "tracking_runs")
    for verb, *arguments in (
        ("compact", "base"),
        ("verify", "base"),
        ("sync", "base", "--to", "tensorboard:./tb"),
        ("pack", "base", "-o", "base.zip"),
        ("import", "base.zip", "--root", "other"),
    ):
        [row] = [line for line in page.splitlines() if line.startswith(f"| `{verb}` |")]
        said = set(re.findall(r"`(\w+)`", row))
        found = as_json(verb, *arguments, cwd=tmp_path)
        assert fields_of(found) <= said, verb


def fields_of(value):
    """All keys of nested objects."""
    if isinstance(value, list):
        return set().union(*map(fields_of, value))
    return set(value).union(*map(fields_of, value.values())) if isinstance(value, dict) else set()


def test_what_a_backend_says_does_no_harm():
    report = {
        "target": "x",
        "delivered": 0,
        "pending": 1,
        "failed": 0,
        "skipped": 0,
        "last_error": "\x1b[31mno\nway",
        "recoverable": 0,
        "ok": False,
    }
    [line] = describe({"runs": [{"run": "r", "targets": [report], "troubles": []}]})
    assert line == r"x: 0 delivered, 1 pending (\x1b[31mno\nway)"


def test_following_with_a_target_that_is_none_ends_at_once(tmp_path):
    _, err = spawned("sync", "--follow", "nowhere", "--to", "nosuch", cwd=tmp_path, code=1)
    assert err.startswith("Error: --to: no backend 'nosuch' is installed")


def test_ids_and_names_can_be_copied_from_a_narrow_terminal(tmp_path):
    name = "a-name-that-is-long-and-has-no-blanks-" + "n" * 20
    start_run("p", name, run_id="x" * 40, root=tmp_path / "tracking_runs").finish()
    seen = Terminal("runs", cwd=tmp_path, columns=90).end()
    assert name in seen, "names are whole"
    assert "x" * 8 in seen and "x" * 9 not in seen, "ids are as long as it takes to name the run"
    assert as_json("show", "x" * 8, cwd=tmp_path)["name"] == name
    # What a program reads has them whole.
    assert "x" * 40 in tracking("runs", cwd=tmp_path)[0]
