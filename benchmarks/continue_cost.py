"""What it takes to continue a run of ten million points: where it had come to, and the whole of `start_run`.

Each figure is of a program that has just started, against one that starts a run anew.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import alone, environment, render
from benchmarks.peers import Shape
from benchmarks.store_read import RunStore

SHAPE = Shape(1, 10, 1_000_000)
LOOSE = Shape(1, 10, 50_000)
"""A run whose journal is not compacted: some 14 MB of lines, as much as two segments."""
PROGRAM = """
import json, os, sys, time
from pathlib import Path
import tracking_core as tracking
from tracking_core.runs.continuing import last_steps
root, begin = Path(sys.argv[1]), time.perf_counter()
found = last_steps(root / "p" / "r0") if sys.argv[2] != "new" else {}
took = time.perf_counter() - begin
how = {"resume": "must", **json.loads(sys.argv[3])} if sys.argv[2] != "new" else {}
begin = time.perf_counter()
run = tracking.start_run("p", root=root, run_id="r0" if how else None, backends="local", **how)
started = time.perf_counter() - begin
run.log({"x": 1.0})
print(json.dumps({"last_steps_ms": took * 1e3, "start_run_ms": started * 1e3, "found": found}), flush=True)
# At its end a run is compacted.
os._exit(0)
"""


def once(place: Path, kind: str, how: dict[str, int]) -> dict[str, float]:
    """Start one program."""
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(place), kind, json.dumps(how)],
            cwd=home, env=environment(home), capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])
    if kind != "new" and not found.pop("found"):
        raise SystemExit("it found no step")
    found.pop("found", None)
    return found


def measure(rounds: int) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for kind, shape in (("compacted", SHAPE), ("not compacted", LOOSE)):
            RunStore().write(place / kind, shape, compacted=kind == "compacted")
        (place / "new").mkdir()
        kinds: dict[str, tuple[str, dict[str, int]]] = {
            "a new run": ("new", {}),
            "10 million points, compacted": ("compacted", {}),
            "500 thousand points, not compacted": ("not compacted", {}),
        }
        seen: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
        for _ in range(rounds):
            for label, (kind, how) in kinds.items():
                seen[label].append(once(place / kind, kind, how))
        # Taken back once, and then continued: of what was cut off the columns are looked at.
        once(place / "compacted", "compacted", {"resume_step": SHAPE.rows // 2})
        label = "10 million points, compacted, half of them taken back"
        seen[label] = [once(place / "compacted", "compacted", {}) for _ in range(rounds)]
    return {
        label: {key: statistics.median(one[key] for one in found) for key in found[0]} for label, found in seen.items()
    }


def table(results: dict[str, dict[str, float]]) -> str:
    anew = results["a new run"]["start_run_ms"]
    rows = [
        [label, f"{one['last_steps_ms']:.3g}", f"{one['start_run_ms']:.3g}", f"{one['start_run_ms'] / anew:.2f}x"]
        for label, one in results.items()
    ]
    return render("Continuing a run", ["", "finding the steps, ms", "start_run, ms", "of a new run"], rows)


if __name__ == "__main__":
    alone("continue_cost", measure, table)
