"""One loop, every backend, no code changed: what each independent reader finds equals one expected table."""

from __future__ import annotations

import io
import json
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest

import tracking_core as tracking
from tests.support.programs import REPO
from tracking_core.backends.plugins import find_adapter
from tracking_core.testing.contract.local import LocalHarness, read_run_directory

PIXELS = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
VALUES = [1 / 3, -2.5, float("nan"), float("inf"), 1e-30, 12345.678901234]


def loop(tracker: tracking.Tracker) -> None:
    """All five methods; the epoch axis comes after larger steps, and steps go back and repeat."""
    for step, value in enumerate(VALUES):
        tracker.log_scalars({"train/loss": value, "epoch": float(step)}, step=step * 100)
    tracker.log_scalars({"train/loss": 7.0}, step=100)
    tracker.log_scalars({"train/loss": 8.0}, step=100)
    tracker.log_images({"sample": PIXELS}, step=500)
    for epoch in range(3):
        tracker.log_scalars({"val/loss": 0.1 * (epoch + 1)}, step=epoch, step_axis="epoch")
    tracker.log_images({"digits": [PIXELS, PIXELS[::-1]]}, step=2, step_axis="epoch")
    tracker.log_histogram("weights", np.linspace(-1.0, 1.0, 1000), step=500, bins=10)
    tracker.log_artifact({"w.bin": b"\x00\x01"}, name="weights", type="model", aliases=["best"])


def expected(run: tracking.Run) -> list[tuple]:
    """(kind, name, axis, step, value or pixel digest, wall time), from the loop itself and the clock of the journal."""
    times = iter([event["t"] for event in _events(run.dir) if event["kind"] in {"scalars", "images", "histogram"}])
    table = []
    for step, value in enumerate(VALUES):
        time = next(times)
        table += [("scalar", "train/loss", "step", step * 100, value, time)]
        table += [("scalar", "epoch", "step", step * 100, float(step), time)]
    table += [("scalar", "train/loss", "step", 100, value, next(times)) for value in (7.0, 8.0)]
    table += [("image", "sample", "step", 500, _digest(PIXELS), next(times))]
    table += [("scalar", "val/loss", "epoch", epoch, 0.1 * (epoch + 1), next(times)) for epoch in range(3)]
    time = next(times)
    table += [("image", "digits", "epoch", 2, _digest(image), time) for image in (PIXELS, PIXELS[::-1])]
    table += [("histogram", "weights", "step", 500, (100,) * 10, next(times))]
    return table


def found(stored) -> list[tuple]:
    table = [("scalar", r.name, r.axis, r.step, r.value, r.time) for r in stored.scalars]
    table += [("image", r.name, r.axis, r.step, _digest(r.pixels), r.time) for r in stored.images]
    table += [("histogram", r.name, r.axis, r.step, tuple(r.value.counts.tolist()), r.time) for r in stored.histograms]
    return table


def compare(got: list[tuple], want: list[tuple], precision: str) -> None:
    def key(row):
        kind, name, axis, step, value, time = row
        if kind == "scalar":
            value = float(np.float32(value)) if precision == "float32" else value
            value = repr(float(value))
        return (kind, name, axis, int(step), value, round(time, 3))

    assert sorted(map(key, got)) == sorted(map(key, want))
    # Rows of one name come in the order in which they were logged.
    for name in {row[1] for row in want if row[0] == "scalar"}:
        order = [key(row) for row in got if row[:2] == ("scalar", name)]
        assert order == [key(row) for row in want if row[:2] == ("scalar", name)]


def record(monkeypatch, backend: str) -> tracking.Run:
    monkeypatch.setenv("TRACKING_BACKEND", backend)
    with tracking.start_run("loop", name="loop", strict=True) as run:
        loop(run)
    assert run.finish().ok
    return run


def test_local(monkeypatch):
    run = record(monkeypatch, "local")
    stored = read_run_directory(run.dir)
    compare(found(stored), expected(run), "float64")
    assert [(a.name, a.type, dict(a.files), a.aliases) for a in stored.artifacts] == [
        ("weights", "model", {"w.bin": b"\x00\x01"}, ("best",))
    ]
    # The same through the public reader.
    record_ = tracking.open_store().run(run.id)
    assert record_.scalars("val/loss").step.tolist() == [0, 1, 2]
    raw = record_.scalars("train/loss", raw=True)
    np.testing.assert_array_equal(raw.value, [*VALUES, 7.0, 8.0])
    assert raw.step.tolist() == [0, 100, 200, 300, 400, 500, 100, 100]
    # Of repeated steps the last row counts.
    assert record_.scalars("train/loss").step.tolist() == [0, 100, 200, 300, 400, 500]
    assert record_.scalars("train/loss").value[1] == 8.0


def test_none(monkeypatch, tmp_path):
    record(monkeypatch, "none")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("backend", ["tensorboard:./tb", "wandb://?mode=offline", "tensorboard,wandb://?mode=offline"])
def test_first_party_backends(monkeypatch, tmp_path, backend):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    run = record(monkeypatch, backend)
    want = expected(run)
    compare(found(read_run_directory(run.dir)), want, "float64")
    for name in ("tensorboard", "wandb"):
        if name in backend:
            adapter = find_adapter(name)
            stored = adapter.harness().read(_place(name, backend, run), _info(run))
            compare(found(stored), want, adapter.info.precision)
            if name == "wandb":
                assert [(a.name, a.type, dict(a.files)) for a in stored.artifacts] == [
                    ("weights", "model", {"w.bin": b"\x00\x01"})
                ]


def test_a_third_party_backend(monkeypatch, tmp_path):
    """The CSV adapter of the examples, found by its entry point, as if it had been installed."""
    source = REPO / "examples" / "third_party_adapter"
    info = tmp_path / "site" / "tracking_csv-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tracking-csv\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[tracking_core.adapters]\ncsv = tracking_csv\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.syspath_prepend(str(source))
    run = record(monkeypatch, "csv:./out")
    import csv

    (path,) = Path("out").rglob("*.csv")
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    got = [("scalar", name, axis, int(step), float(value), float(time)) for name, axis, step, time, value in rows]
    compare(got, [row for row in expected(run) if row[0] == "scalar"], "float64")


def test_over_the_http_api_of_tensorboard(monkeypatch, tmp_path):
    run = record(monkeypatch, "tensorboard:./tb")
    from tensorboard import program

    server = program.TensorBoard()
    server.configure(
        argv=[None, "--logdir", str(tmp_path / "tb"), "--host", "127.0.0.1", "--port", "0", "--load_fast", "false"]
    )
    url = server.launch()

    def get(path, **query):
        with urllib.request.urlopen(f"{url}{path}?{urllib.parse.urlencode(query)}", timeout=30) as answer:
            return answer.read()

    (name,) = json.loads(get("data/runs"))
    got = []
    for tag, axis in (("train/loss", "step"), ("epoch", "step"), ("val/loss", "epoch")):
        points = json.loads(get("data/plugin/scalars/scalars", run=name, tag=tag))
        got += [("scalar", tag, axis, step, float(value), time) for time, step, value in points]
    for tag, axis, count in (("sample", "step", 1), ("digits", "epoch", 2)):
        shown = json.loads(get("data/plugin/images/images", run=name, tag=tag, sample=0))
        for sample in range(count):
            (entry,) = json.loads(get("data/plugin/images/images", run=name, tag=tag, sample=sample))
            pixels = _png(get(f"data/plugin/images/individualImage?{entry['query']}&x").split(b"?")[0])
            got.append(("image", tag, axis, entry["step"], _digest(pixels), entry["wall_time"]))
        assert len(shown) == 1
    want = [row for row in expected(run) if row[0] != "histogram"]
    compare(got, want, "float32")


def _png(data: bytes) -> np.ndarray:
    from PIL import Image

    return np.array(Image.open(io.BytesIO(data)))


def _place(name: str, backend: str, run: tracking.Run) -> Path:
    """The directory whose `{dir}` the harness of an adapter would have been given."""
    if name == "tensorboard":
        return Path.cwd() if ":./tb" in backend else run.dir
    return run.dir


def _info(run: tracking.Run) -> tracking.RunInfo:
    return tracking.RunInfo(id=run.id, name=run.name, project=run.project, dir=run.dir)


def _events(directory: Path) -> list[dict]:
    (path,) = (directory / "journal").glob("*.jsonl")
    return sorted((json.loads(line) for line in path.read_text().splitlines() if line), key=lambda event: event["seq"])


def _digest(pixels: np.ndarray) -> str:
    import hashlib

    squeezed = np.ascontiguousarray(pixels.squeeze())
    return hashlib.sha256(repr(squeezed.shape).encode() + squeezed.tobytes()).hexdigest()[:16]


def test_the_harness_of_the_local_store_reads_runs_of_its_own(tmp_path):
    harness = LocalHarness()
    info = tracking.RunInfo(id="r", name="r")
    tracker = harness.open(tmp_path, info)
    loop(tracker)
    tracker.finish()
    stored = harness.read(tmp_path, info)
    assert len(stored.scalars) == 2 * len(VALUES) + 2 + 3
    assert len(stored.images) == 3
