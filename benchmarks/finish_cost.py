"""What ending local runs takes besides the fsync of their journals: a short one, a long one, and sixteen of a training.

The limits are 20 ms for a run, whatever its length, and 300 ms for sixteen: they are compacted later, by one other
process. A run that ends as soon as it was started waits until its surroundings are captured; that is left out here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from benchmarks.machine import alone, in_turn, one_of, render

LIMIT_MS, SIXTEEN_LIMIT_MS = 20.0, 300.0


def ending(runs: int, calls: int) -> Callable[[], dict[str, float]]:
    def contender() -> dict[str, float]:
        import tracking_core
        from tracking_core.runs.start import _monitored

        spent = 0.0
        real = os.fsync

        def fsync(fd: int) -> None:
            nonlocal spent
            begin = time.perf_counter()
            real(fd)
            spent += time.perf_counter() - begin

        os.fsync = fsync
        started = [tracking_core.start_run("bench", backends="local") for _ in range(runs)]
        for run in started:
            for step in range(calls):
                run.log_scalars({"x": float(step), "y": 1 / (step + 1)}, step=step)
        for monitored in _monitored.values():
            monitored.captured.wait(60.0)
        size = sum(path.stat().st_size for path in started[0].dir.glob("journal/*.jsonl"))
        spent, begin = 0.0, time.perf_counter()
        for run in started:
            if not run.finish().ok:
                raise SystemExit(str(run.finish()))
        took = time.perf_counter() - begin
        return {"journal_kb": size / 1024, "finish_ms": took * 1e3, "beyond_fsync_ms": (took - spent) * 1e3}

    return contender


CONTENDERS: dict[str, Callable[[], dict[str, float]]] = {
    "a short run": ending(1, 20),
    "a run of 50,000 calls": ending(1, 50_000),
    "sixteen runs of 5,000 calls": ending(16, 5_000),
}


def measure(rounds: int) -> dict[str, dict[str, float]]:
    found = in_turn("benchmarks.finish_cost", list(CONTENDERS), rounds)
    for name, one in found.items():
        one["limit_ms"] = SIXTEEN_LIMIT_MS if name.startswith("sixteen") else LIMIT_MS
    return found


def table(results: dict[str, dict[str, float]]) -> str:
    rows = [
        [name, *(f"{one[key]:.1f}" for key in ("journal_kb", "finish_ms", "beyond_fsync_ms", "limit_ms"))]
        for name, one in results.items()
    ]
    return render("Ending local runs", ["", "journal, KB", "finish, ms", "besides fsync, ms", "limit, ms"], rows)


if __name__ == "__main__":
    if not one_of(CONTENDERS):
        alone("finish_cost", measure, table)
