"""`tracking export`: what it writes is read by pyarrow, polars, DuckDB, pandas, csv and json."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shlex
import subprocess
import time

import pytest

from tests.support.commands import COMMAND, Terminal, as_json, environment, refuse, spawned, tracking
from tests.support.programs import here
from tests.support.programs import run as run_program

pytestmark = pytest.mark.system

COLUMNS = ["project", "run_id", "run", "name", "axis", "step", "time", "value"]
RECORD = r"""
import tracking_core as t
for number, project in enumerate(["vae", "vae", "odd / pro=ject%"]):
    with t.start_run(project, f"name {number}\n[red]", run_id=f"r{number}", root="tracking_runs") as run:
        for step in range(10):
            run.log_scalars({"loss": number + 1 / (step + 1), "acc": step / 10}, step=step)
        run.log_scalars({"loss": 0.125}, step=9)
        for step, value in enumerate([float("nan"), float("inf"), float("-inf"), 5e-324, 0.1, -0.0]):
            run.log_scalars({"odd": value}, step=step - 2, step_axis="épo,\"ch")
"""
ODD = [math.nan, math.inf, -math.inf, 5e-324, 0.1, -0.0]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    here(RECORD, folder)
    return folder


@pytest.fixture(scope="module")
def dataset(place, tmp_path_factory):
    """A dataset of all runs in Parquet, partitioned."""
    pytest.importorskip("pyarrow", reason="needs the extra store")
    folder = tmp_path_factory.mktemp("out") / "dataset"
    tracking("export", "r0", "r1", "r2", "--to", str(folder), "--format", "parquet", "--partition", cwd=place)
    return folder


def expected(number, *, raw=False):
    """(name, axis, step, value) of a run, in the order of names."""
    project_rows = [("acc", "step", step, step / 10) for step in range(10)]
    project_rows += [("loss", "step", step, number + 1 / (step + 1)) for step in range(9 + raw)]
    project_rows += [("loss", "step", 9, 0.125)]
    return project_rows + [("odd", 'épo,"ch', step - 2, value) for step, value in enumerate(ODD)]


def same(rows, wanted):
    """Whether rows are the same, NaN and the sign of zero included."""
    return [tuple(map(repr, row)) for row in rows] == [tuple(map(repr, row)) for row in wanted]


def of(rows):
    return [(row["name"], row["axis"], int(row["step"]), float(row["value"])) for row in rows]


# ---------------------------------------------------------------- one file


def test_csv_is_read_by_csv(place, tmp_path):
    out, err = tracking("export", "r0", "r2", "--to", str(tmp_path / "out.csv"), cwd=place)
    assert (out, err) == ("", f"wrote 52 rows of 2 runs to {tmp_path}/out.csv\n")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS
    assert same(of(rows[:26]), expected(0))
    assert same(of(rows[26:]), expected(2))
    assert {(row["project"], row["run_id"], row["run"]) for row in rows[26:]} == {
        ("odd / pro=ject%", "r2", "name 2\n[red]")
    }
    assert all(float(row["time"]) > 1e9 for row in rows)


def test_json_lines_are_read_by_json(place, tmp_path):
    tracking("export", "r0", "--to", str(tmp_path / "out.jsonl"), cwd=place)
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line, parse_constant=refuse) for line in lines]
    assert list(rows[0]) == COLUMNS
    assert same(of(rows), expected(0))
    assert [row["value"] for row in rows[-6:-3]] == ["NaN", "Infinity", "-Infinity"]


def test_text_goes_to_stdout(place):
    out, err = tracking("export", "r0", "--to", "-", "--format", "csv", "--name", "l*", cwd=place)
    assert err == ""
    assert same(of(csv.DictReader(io.StringIO(out))), [row for row in expected(0) if row[0] == "loss"])
    out, _ = tracking("export", "r0", "r1", "--to", "-", "--format", "jsonl", "--raw", cwd=place)
    assert same(of(map(json.loads, out.splitlines())), expected(0, raw=True) + expected(1, raw=True))


def test_parquet_is_read_by_every_tool(place, tmp_path):
    path = str(tmp_path / "out.parquet")
    pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra store")
    pa = pytest.importorskip("pyarrow")
    report = as_json("export", "r0", "r1", "--to", path, cwd=place)
    assert report == {"files": [path], "rows": 52, "runs": ["r0", "r1"]}
    table = pq.read_table(path)
    assert table.schema.names == COLUMNS
    assert [table.schema.field(name).type for name in ("step", "time", "value")] == [
        pa.int64(),
        pa.float64(),
        pa.float64(),
    ]
    wanted = expected(0) + expected(1)
    assert same(of(table.to_pylist()), wanted)
    polars = pytest.importorskip("polars")
    assert same(of(polars.read_parquet(path).iter_rows(named=True)), wanted)
    pandas = pytest.importorskip("pandas")
    assert same(of(pandas.read_parquet(path).to_dict("records")), wanted)
    duckdb = pytest.importorskip("duckdb")
    found = duckdb.sql(f"select name, axis, step, value from '{path}'").fetchall()
    assert same(found, wanted)


def test_csv_and_json_lines_are_read_by_every_tool(place, tmp_path):
    polars, pandas, duckdb = map(pytest.importorskip, ("polars", "pandas", "duckdb"))
    path = str(tmp_path / "out.csv")
    tracking("export", "r0", "--to", path, cwd=place)
    assert same(of(polars.read_csv(path).iter_rows(named=True)), expected(0))
    assert same(of(pandas.read_csv(path).to_dict("records")), expected(0))
    assert same(duckdb.sql(f"select name, axis, step, value from '{path}'").fetchall(), expected(0))
    lines = str(tmp_path / "out.jsonl")
    tracking("export", "r0", "--to", lines, cwd=place)
    assert same(duckdb.sql(f"select name, axis, step, value::double from '{lines}'").fetchall(), expected(0))
    finite = str(tmp_path / "finite.jsonl")
    tracking("export", "r0", "--to", finite, "--name", "acc", cwd=place)
    assert same(of(polars.read_ndjson(finite).iter_rows(named=True)), expected(0)[:10])
    assert same(of(pandas.read_json(finite, lines=True, precise_float=True).to_dict("records")), expected(0)[:10])


# ---------------------------------------------------------------- datasets


def test_a_dataset_has_the_partitions_of_hive(dataset):
    files = sorted(str(path.relative_to(dataset)) for path in dataset.rglob("*") if path.is_file())
    assert files == [
        "project=odd%20%2F%20pro%3Dject%25/run_id=r2/scalars.parquet",
        "project=vae/run_id=r0/scalars.parquet",
        "project=vae/run_id=r1/scalars.parquet",
    ]


def check_dataset(rows):
    rows = list(rows)
    assert len(rows) == 78
    assert {(row["project"], row["run_id"]) for row in rows} == {
        ("vae", "r0"),
        ("vae", "r1"),
        ("odd / pro=ject%", "r2"),
    }
    for number in range(3):
        assert same(of(row for row in rows if row["run_id"] == f"r{number}"), expected(number))


def test_a_dataset_is_read_by_pyarrow(dataset):
    datasets = pytest.importorskip("pyarrow.dataset")
    found = datasets.dataset(dataset, partitioning="hive")
    check_dataset(found.to_table().to_pylist())
    assert found.to_table(filter=datasets.field("run_id") == "r1").num_rows == 26


def test_a_dataset_is_read_by_polars(dataset):
    polars = pytest.importorskip("polars")
    found = polars.scan_parquet(dataset, hive_partitioning=True)
    check_dataset(found.collect().iter_rows(named=True))


def test_a_dataset_is_read_by_duckdb(dataset):
    duckdb = pytest.importorskip("duckdb")
    relation = duckdb.sql(f"select * from read_parquet('{dataset}/**/*.parquet', hive_partitioning = true)")
    check_dataset(dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall())


def test_a_dataset_is_read_by_pandas(dataset):
    pandas = pytest.importorskip("pandas")
    check_dataset(pandas.read_parquet(dataset).to_dict("records"))


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_dataset_of_text(place, tmp_path, kind):
    folder = tmp_path / "dataset"
    tracking("export", "r0", "r1", "--to", str(folder), "--format", kind, "--partition", cwd=place)
    path = folder / "project=vae" / "run_id=r1" / f"scalars.{kind}"
    text = path.read_text(encoding="utf-8")
    rows = (
        list(csv.DictReader(io.StringIO(text))) if kind == "csv" else [json.loads(line) for line in text.splitlines()]
    )
    assert list(rows[0]) == COLUMNS[2:]
    assert same(of(rows), expected(1))


# ---------------------------------------------------------------- what goes wrong


def test_files_are_replaced_only_when_that_is_said(place, tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("mine")
    _, err = tracking("export", "r0", "--to", str(path), cwd=place, code=1)
    assert err == f"Error: {path} already exists: --force replaces it, or name another place\n"
    assert path.read_text() == "mine"
    tracking("export", "r0", "--to", str(path), "--force", cwd=place)
    assert path.read_text(encoding="utf-8").startswith("project,")
    folder = tmp_path / "dataset"
    arguments = ("--to", str(folder), "--format", "csv", "--partition")
    tracking("export", "r0", *arguments, cwd=place)
    tracking("export", "r0", "r1", *arguments, cwd=place, code=1)
    assert not list(folder.rglob("run_id=r1")), "nothing was begun"
    tracking("export", "r1", *arguments, cwd=place)
    assert len(list(folder.rglob("*.csv"))) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--to", "out"], 2, "--format is missing"),
        (["--to", "out.txt"], 2, "--format is missing"),
        (["--to", "-", "--format", "parquet"], 2, "stdout"),
        (["--to", "-", "--format", "csv", "--partition"], 2, "stdout"),
        (["--to", ".", "--format", "csv"], 2, "is a directory"),
        ([], 2, "--to"),
        (["--to", "out.csv", "--name", "nothing"], 1, "none of the runs has nothing"),
        (["--to", "/proc/nothing/out.csv"], 1, "/proc/nothing"),
    ],
)
def test_what_cannot_be_written_is_said(place, arguments, code, said):
    before = sorted(os.listdir(place))
    out, err = tracking("export", "r0", *arguments, cwd=place, code=code)
    assert out == ""
    assert said in err
    assert sorted(os.listdir(place)) == before


def test_pyarrow_that_is_missing_is_named_with_its_install_command(place, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import sys\nsys.modules['pyarrow'] = None\n")
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    _, err = spawned("export", "r0", "--to", str(tmp_path / "a.parquet"), cwd=place, code=1, PYTHONPATH=path)
    assert "pip install 'tracking-core[store]'" in err
    assert not (tmp_path / "a.parquet").exists()
    spawned("export", "r0", "--to", str(tmp_path / "a.csv"), cwd=place, PYTHONPATH=path)


def test_a_scalar_that_only_some_have(place, tmp_path):
    code = "import tracking_core as t\nfor n in 'ab':\n    with t.start_run('p', n, run_id=n) as r:\n        r.log_scalars({n: 1}, step=0)"
    here(code, tmp_path)
    out, _ = tracking("export", "a", "b", "--to", "-", "--format", "csv", "--name", "b", cwd=tmp_path)
    assert [row["run_id"] for row in csv.DictReader(io.StringIO(out))] == ["b"]


def test_a_run_without_scalars_makes_a_file_without_rows(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra store")
    here("import tracking_core as t\nt.start_run('p', run_id='x').finish()", tmp_path)
    tracking("export", "x", "--to", "out.parquet", cwd=tmp_path)
    table = pq.read_table(tmp_path / "out.parquet")
    assert (table.num_rows, table.schema.names) == (0, COLUMNS)


def test_progress_is_shown_at_a_terminal_alone(place, tmp_path):
    seen = Terminal("export", "r0", "r1", "--to", str(tmp_path / "a.csv"), cwd=place).end()
    assert "exporting" in seen
    assert "wrote 52 rows" in seen
    _, err = tracking("export", "r0", "--to", str(tmp_path / "b.csv"), cwd=place)
    assert err == f"wrote 26 rows of 1 run to {tmp_path}/b.csv\n"


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_disk_that_is_full_costs_nothing_that_was_there(place, tmp_path, kind):
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="needs the extra store")
    path = tmp_path / f"out.{kind}"
    path.write_text("mine")
    words = [*COMMAND, "export", "r0", "r1", "r2", "--to", str(path), "--force"]
    line = f"ulimit -f 1; exec {shlex.join(words)}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=place, env=environment(), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert path.read_text() == "mine"
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_names_with_line_ends_stay_one_field_of_csv(tmp_path):
    code = "import tracking_core as t\nwith t.start_run('p', 'na\\rme', run_id='x') as r:\n    r.log_scalars({'a\\rb': 1, 'c\\nd': 2}, step=0)"
    here(code, tmp_path)
    tracking("export", "x", "--to", "x.csv", cwd=tmp_path)
    content = (tmp_path / "x.csv").read_bytes().decode()
    rows = list(csv.DictReader(io.StringIO(content, newline="")))
    assert [(row["run"], row["name"]) for row in rows] == [("na\rme", "a\rb"), ("na\rme", "c\nd")]


def test_a_dataset_has_one_format(place, tmp_path):
    folder = tmp_path / "dataset"
    tracking("export", "r0", "--to", str(folder), "--format", "csv", "--partition", cwd=place)
    _, err = tracking("export", "r1", "--to", str(folder), "--format", "jsonl", "--partition", cwd=place, code=1)
    assert "is a dataset of other files, such as" in err
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_killed_export_leaves_nothing_in_a_dataset(tmp_path, kind):
    """Readers take every file that they find below a dataset, whatever it is called."""
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="needs the extra store")
    code = """
    import tracking_core as t
    with t.start_run("p", run_id="small", delivery="inline") as run:
        run.log_scalars({"a": 1.0}, step=0)
    with t.start_run("p", run_id="large", delivery="inline") as run:
        for step in range(3000):
            run.log_scalars({f"a{n}": step * 1.1 for n in range(100)}, step=step)
    """
    run_program(code, tmp_path)
    folder = tmp_path / "dataset"
    arguments = ("--to", "dataset", "--format", kind, "--partition")
    tracking("export", "small", *arguments, cwd=tmp_path)
    program = subprocess.Popen([*COMMAND, "export", "large", *arguments], cwd=tmp_path, env=environment())
    deadline = time.monotonic() + 60
    while program.poll() is None and not any(path.name.startswith(".scalars") for path in tmp_path.rglob("*")):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    program.kill()
    program.wait()
    left = [path for path in tmp_path.rglob("*") if path.name.startswith(".scalars")]
    assert left, "it was not killed half-way"
    assert [path.name for path in folder.rglob("*") if path.is_file()] == [f"scalars.{kind}"]
    tracking("export", "large", *arguments, cwd=tmp_path)
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 2


def test_all_runs_and_those_of_a_project(tmp_path):
    import csv
    import io

    from tracking_core import start_run

    for number, project in enumerate(("p", "q", "p")):
        with start_run(project, run_id=f"r{number}", root=tmp_path / "tracking_runs") as run:
            run.log_scalars({"a": number}, step=0)

    def runs(*arguments):
        out, _ = tracking("export", *arguments, "--to", "-", "--format", "csv", cwd=tmp_path)
        return [row["run_id"] for row in csv.DictReader(io.StringIO(out))]

    assert runs("--all") == ["r0", "r1", "r2"]
    assert runs("--project", "p") == ["r0", "r2"]
    assert runs("--project", "p", "--project", "q") == ["r0", "r1", "r2"]
    for wrong in ([], ["r0", "--all"], ["--all", "--project", "p"]):
        _, err = tracking("export", *wrong, "--to", "x.csv", cwd=tmp_path, code=2)
        assert "name runs, or give --all, or --project NAME" in err
    _, err = tracking("export", "--project", "nosuch", "--to", "x.csv", cwd=tmp_path, code=1)
    assert err == "Error: there are no runs of nosuch under tracking_runs\n"
