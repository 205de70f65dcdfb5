"""A training that logs whatever can be logged, and what it logged: read from its journal with json and Pillow alone.

What backends hold of it is brought into the same form: a `Counter` of rows, so that a point that is there twice differs
from one that is there once. A row is (kind, name, axis, step, value, seconds since the epoch); values are made
comparable: numbers as text, NaN included, and pixels, samples and frames as digests.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
import wave
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from tests.support.commands import environment

#: Arguments: id, first iteration, one beyond the last, seconds that an iteration pauses, how `start_run` shall resume.
#: Every iteration logs a few calls of scalars and one other thing. All times are those of September 2020.
TRAIN = r"""
import os, sys, time
import numpy as np
import tracking_core as tracking
from tracking_core.values import Audio, Figure, Image, Table

run_id, first, last, pace, resume = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]
config = {
    "lr": 0.1, "model": {"depth": 2, "widths": [8, 4], "name": "ü \"q\""}, "big": 2**70, "bad": float("nan"),
    "$odd": {"$x": 1}, "a b/c": None, "flag": True,
}
if resume == "must":
    config = None  # what was changed meanwhile holds
run = tracking.start_run(
    "p", "everything", root="runs", run_id=run_id, resume=resume, config=config, tags=["a b", "ü"], group="g", notes="n"
)
dice = np.random.default_rng(first)
x = dice.normal(size=(64, 4)).astype(np.float32)
y = x @ np.array([1, -2, 3, 0.5], np.float32)
w = np.zeros(4, np.float32)
calls = 0

def now():
    "A moment of its own for every call, to the microsecond."
    global calls
    calls += 1
    return 1.6e9 + first + calls * 10.000001

def other(i):
    at = {"step": i, "wall_time": now()}
    pixels = dice.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    match i % 13:
        case 0:
            run.log_images({"one": Image(pixels, caption=f"it is *{i}*\n<b>ü</b>"), "bare/gray": pixels[..., 0]}, **at)
        case 1:
            run.log_images({"several/../x": [Image(pixels, caption="a"), Image(pixels[:2], caption="b"), pixels]}, **at)
        case 2:
            values = np.concatenate([dice.normal(size=200), [np.nan, np.inf, -np.inf, np.nan]])
            run.log_histogram("weights", values, bins=16, **at)
        case 3:
            rows = [[i, 0.5, None, "x|y"], [-1, 1e-9, True, "ü\nz"]]
            run.log_table("a table", Table(["n", "v", "any", "text"], rows), **at)
        case 4:
            run.log_text("notes/ü", f"# {i}\n\n* <i>é</i> & \"q\"  two spaces\n", **at)
            run.log_html("pages/ü", f"<p>{i} &amp; <b>ü</b></p>\n<script>0</script>", **at)
        case 5:
            run.log_audio("tone", Audio(dice.integers(-2**15, 2**15, (80, 2)).astype(np.int16), 8000, f"tone {i}"), **at)
        case 6:
            frames = dice.choice(np.array([0, 85, 170, 255], np.uint8), (4, 6, 8, 1)).repeat(3, -1)
            run.log_video("clip", frames, fps=5.0, **at)
        case 7:
            import io
            from PIL import Image as Pillow
            out = io.BytesIO()
            Pillow.fromarray(pixels).save(out, "PNG")
            run.log_figure("drawn", Figure(out.getvalue()), **at)
        case 8:
            plot = f'{{"data": [{{"type": "scatter", "y": [1, {i}.5]}}], "layout": {{}}}}'
            run.log_figure("plotted", Figure.from_plotly(plot), **at)
        case 9:
            run.log_config({"model": {"depth": 3 + i}, "later": {f"at {i}": [i, None]}})
        case 10:
            run.log_summary({"best": i / 7, f"of {i}/ü": np.float32(1.5), "words": "a b", "none": float("nan")})
        case 11:
            run.log_alert(f"alert {i}", "ü\ntext", level=["info", "warn", "error"][i % 3], wall_time=at["wall_time"])
        case 12:
            files = {"w.bin": w.tobytes() + bytes([i % 256]), "sub dir/ü.txt": f"{i}".encode()}
            run.log_artifact(files, name="the model", type="model", metadata={"i": i, "ü": [1.5]}, aliases=[f"from-{first}-at-{i}"])
            run.use_artifact("data:latest")

for i in range(first, last):
    residual = x @ w - y
    grad = x.T @ residual / len(x)
    w -= np.float32(0.05) * grad
    run.log_scalars(
        {"train/loss": np.mean(residual**2), "grad norm": np.linalg.norm(grad), "epoch": i / 5, "_hidden ~ü%:": i},
        step=i, wall_time=now(),
    )
    run.log_scalars(
        {"odd/nan": np.float32("nan"), "odd/inf": np.inf, "odd/-inf": -np.inf, "odd/zero": -0.0, "odd/tiny": 5e-324,
         "odd/int": 2**53 + 1 + i, "odd/huge": 2**70 + i, "odd/int64": np.int64(-2**62) - i, "odd/bool": bool(i % 2)},
        step=i, wall_time=now(),
    )
    if i % 5 == 4:
        run.log_scalars({"val/loss": 1.0 / (i + 1), "train/loss": 0.25}, step=i // 5, step_axis="epoch", wall_time=now())
    if i % 7 == 6:
        run.log_scalars({"train/loss": np.float64(i) / 3}, step=i - 6, wall_time=now())
        run.log_scalars({"tokens": i}, step=2**40 * i, step_axis="tokens seen", wall_time=now())
    other(i)
    print(i, flush=True)
    if pace:
        time.sleep(pace)
# Media are encoded beside the loop: whoever is told that all is done may read the journal.
run.flush(local=True)
print("done", flush=True)
sys.stdin.readline()
assert run.finish().ok
"""

#: A second run, which ends by itself, and logs the artifact that the training uses.
OTHER = r"""
import tracking_core as tracking
config = {"lr": 0.2, "model": {"depth": 1}}
with tracking.start_run("p", "the data", root="runs", run_id="data", config=config) as run:
    run.log_artifact({"d.csv": b"1,2"}, name="data", type="dataset", aliases=["best"])
    for step in range(5):
        run.log_scalars({"train/loss": 2.0 / (step + 1)}, step=step)
"""

ROWS = {"scalars", "images", "histogram", "table", "text", "audio", "video", "figure", "html"}
"""Kinds that become rows of a history."""


@dataclass
class Found:
    """What was logged, or what a backend holds: rows, each as often as it is there, and facts about the run."""

    rows: Counter = field(default_factory=Counter)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    alerts: Counter = field(default_factory=Counter)
    artifacts: Counter = field(default_factory=Counter)
    """(name, type, aliases, metadata, digests by path)."""
    used: list[str] = field(default_factory=list)
    times: Counter = field(default_factory=Counter)
    """(kind, seconds since the epoch) of configurations, summaries and artifacts."""
    marks: Counter = field(default_factory=Counter)
    """(writer, seq) of the calls that became rows."""
    moments: dict[tuple[str, int], float] = field(default_factory=dict)
    """(writer, seq) of the calls of scalars, and when they were made."""
    joined: dict[tuple[str, int], int] = field(default_factory=dict)
    """(writer, seq) of the calls that are in a row with earlier ones, and the seq of the first of these."""

    def kind(self, *kinds: str) -> Counter:
        """The rows of some kinds."""
        return Counter({row: count for row, count in self.rows.items() if row[0] in kinds})


def number(value: Any) -> str:
    """A number as text: the same for 1, 1.0 and np.float32(1), and exact for any integer."""
    if isinstance(value, float) and (not math.isfinite(value) or value != int(value) or math.copysign(1, value) < 0):
        return repr(float(value)) if value else "-0.0"
    return str(int(value))


def digest(array: Any) -> str:
    """Shape and content of an array; `[H, W, 1]` and `[H, W]` are one."""
    array = np.ascontiguousarray(np.asarray(array).squeeze())
    return f"{array.shape} {hashlib.sha256(array.tobytes()).hexdigest()[:16]}"


def pixels(png: bytes) -> str:
    with Pillow.open(io.BytesIO(png)) as image:
        return digest(image)


def sound(data: bytes) -> str:
    with wave.open(io.BytesIO(data)) as file:
        frames = file.readframes(file.getnframes())
        return f"{file.getframerate()} Hz {file.getnchannels()} {hashlib.sha256(frames).hexdigest()[:16]}"


def spread(counts: Any, edges: Any, lost: Any) -> str:
    """A histogram."""
    return f"{[number(float(n)) for n in counts]} {[repr(float(edge)) for edge in edges]} {[int(n) for n in lost]}"


def cells(columns: Any, rows: Any) -> str:
    return json.dumps([list(columns), [[number(c) if isinstance(c, float) else c for c in row] for row in rows]])


def plain(value: Any) -> Any:
    """Undo how a journal writes numbers that JSON has not, and keys that begin with a dollar."""
    if isinstance(value, list):
        return [plain(part) for part in value]
    if not isinstance(value, dict):
        return value
    if list(value) == ["$float"]:
        return float(value["$float"])
    if list(value) == ["$int"]:
        return int(value["$int"])
    return {key.removeprefix("$"): plain(part) for key, part in value.items()}


def merge(into: dict[str, Any], new: dict[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def from_journal(run_dir: Path) -> Found:
    """What a run logged, from the lines of its journal as they are; it must not be compacted."""
    assert not list(run_dir.glob("*.parquet"))
    facts = json.loads((run_dir / "run.json").read_text())
    found = Found(config=plain(facts["config"]), times=Counter([("config", facts["started"])]))
    for path in sorted((run_dir / "journal").glob("*.jsonl")):
        writer = path.stem.rpartition("-")[0]
        # The last line may have been cut off by the kill.
        events = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1] if line]
        for event in sorted(events, key=lambda event: event["seq"]):
            if event["kind"] in ROWS:
                found.marks[writer, event["seq"]] += 1
            if event["kind"] == "scalars":
                found.moments[writer, event["seq"]] = event["t"]
            _take(found, event, run_dir)
    return found


def _take(found: Found, event: dict[str, Any], run_dir: Path) -> None:
    kind, at = event["kind"], event["t"]
    where = (event.get("axis"), event.get("step"))

    def row(name: str, value: Any) -> None:
        found.rows[kind, name, *where, value, at] += 1

    def media(name: str) -> bytes:
        content = (run_dir / "media" / name).read_bytes()
        assert name.startswith(hashlib.sha256(content).hexdigest())
        return content

    if kind in {"config", "summary", "artifact"}:
        found.times[kind, at] += 1
    if kind == "scalars":
        for name, value in event["values"].items():
            exact = value if not isinstance(value, str) else int(value) if value.lstrip("-").isdigit() else float(value)
            row(name, number(exact))
    elif kind == "images":
        for name, images in event["images"].items():
            for place, image in enumerate(images):
                row(name, (place, pixels(media(image["file"])), image["caption"] or ""))
    elif kind == "histogram":
        row(event["name"], spread(event["counts"], event["edges"], [event[k] for k in ("nan", "posinf", "neginf")]))
    elif kind == "table":
        content = plain(json.loads(media(event["file"])))
        row(event["name"], cells(content["columns"], content["rows"]))
    elif kind == "text":
        row(event["name"], event["text"])
    elif kind == "html":
        row(event["name"], media(event["file"]).decode())
    elif kind == "audio":
        row(event["name"], (sound(media(event["file"])), event["caption"]))
    elif kind == "video":
        with np.load(io.BytesIO(media(event["file"])), allow_pickle=False) as archive:
            row(event["name"], digest(archive["frames"]))
    elif kind == "figure":
        content = media(event["file"])
        drawn = event["file"].endswith(".png")
        row(event["name"], pixels(content) if drawn else json.dumps(json.loads(content), sort_keys=True))
    elif kind in {"config", "summary"}:
        merge(getattr(found, kind), plain(event[kind]))
    elif kind == "alert":
        found.alerts[event["title"], event["text"], event["level"]] += 1
    elif kind == "use_artifact":
        found.used.append(event["artifact"])
    elif kind == "artifact":
        digests = {path: entry["sha256"] for path, entry in event["files"].items()}
        found.artifacts[
            artifact(event["name"], event["type"], event["aliases"], plain(event["metadata"]), digests)
        ] += 1


def artifact(name: str, type_: str, aliases: Any, metadata: Any, digests: dict[str, str]) -> tuple:
    return name, type_, tuple(sorted(aliases)), json.dumps(metadata, sort_keys=True), tuple(sorted(digests.items()))


def as_lines(facts: dict[str, Any]) -> Counter:
    """A nested mapping, a line for each entry, whatever their order; NaN equals NaN."""
    lines: Counter = Counter()
    for key, value in facts.items():
        if isinstance(value, dict) and value:
            lines.update({(key, *path): count for path, count in as_lines(value).items()})
        else:
            lines[key, json.dumps(value, sort_keys=True)] += 1
    return lines


def require_same(got: Counter, want: Counter) -> None:
    """Compare, each as often as it is there.

    Raises:
        AssertionError: With what is missing, and what is there too often.
    """
    missing, extra = want - got, got - want
    if missing or extra:
        shown = [f"missing: {row}" for row in sorted(missing, key=repr)[:5]]
        shown += [f"too many: {row}" for row in sorted(extra, key=repr)[:5]]
        head = f"{missing.total()} missing, {extra.total()} too many of {want.total()}"
        raise AssertionError("\n".join([head, *shown]))


def train(
    place: Path, run_id: str, first: int, last: int, pace: float, resume: str = "never", **env: str
) -> subprocess.Popen:
    """Start a training below a directory; it prints its iterations, and finishes when its stdin says or is closed."""
    return subprocess.Popen(
        [sys.executable, "-c", TRAIN, run_id, str(first), str(last), str(pace), resume],
        cwd=place,
        env=environment(**env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def killed_training(place: Path, run_id: str, dice: random.Random, least: int, most: int) -> Path:
    """Train in a process of its own, and kill it somewhere; returns the run directory."""
    process = train(place, run_id, 0, 10**6, 0.002)
    wanted = dice.randrange(least, most)
    try:
        for line in process.stdout:
            if int(line) >= wanted:
                break
        else:
            raise AssertionError(process.stderr.read())
        time.sleep(dice.random() * 0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)
    return place / "runs" / "p" / run_id
