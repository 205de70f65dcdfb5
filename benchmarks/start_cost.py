"""What importing and starting cost: on top of the interpreter, cold, and warm."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

from benchmarks.machine import in_turn, one_of, render


def tracking() -> dict[str, float]:
    begin = time.perf_counter()
    import tracking_core

    imported = time.perf_counter()
    with tracking_core.start_run("bench", backends="local"):
        started = time.perf_counter()
    warm = []
    for _ in range(50):
        again = time.perf_counter()
        run = tracking_core.start_run("bench", backends="local")
        warm.append(time.perf_counter() - again)
        run.finish()
    return {
        "import_ms": (imported - begin) * 1e3,
        "first_start_ms": (started - imported) * 1e3,
        "warm_start_ms": statistics.median(warm) * 1e3,
    }


def wandb_direct() -> dict[str, float]:
    begin = time.perf_counter()
    import wandb

    imported = time.perf_counter()
    settings = wandb.Settings(silent=True)
    run = wandb.init(mode="offline", settings=settings)
    started = time.perf_counter()
    run.finish()
    warm = []
    for _ in range(5):
        again = time.perf_counter()
        run = wandb.init(mode="offline", settings=settings)
        warm.append(time.perf_counter() - again)
        run.finish()
    return {
        "import_ms": (imported - begin) * 1e3,
        "first_start_ms": (started - imported) * 1e3,
        "warm_start_ms": statistics.median(warm) * 1e3,
    }


def tensorboardx_direct() -> dict[str, float]:
    begin = time.perf_counter()
    import tensorboardX

    imported = time.perf_counter()
    writer = tensorboardX.SummaryWriter("tb")
    started = time.perf_counter()
    writer.close()
    warm = []
    for number in range(20):
        again = time.perf_counter()
        writer = tensorboardX.SummaryWriter(f"tb{number}")
        warm.append(time.perf_counter() - again)
        writer.close()
    return {
        "import_ms": (imported - begin) * 1e3,
        "first_start_ms": (started - imported) * 1e3,
        "warm_start_ms": statistics.median(warm) * 1e3,
    }


CONTENDERS: dict[str, Callable[[], dict[str, float]]] = {
    "tracking-core, local": tracking,
    "tensorboardX directly": tensorboardx_direct,
    "wandb offline directly": wandb_direct,
}


def measure(rounds: int) -> dict[str, dict[str, float]]:
    return in_turn("benchmarks.start_cost", list(CONTENDERS), rounds)


def table(results: dict[str, dict[str, float]]) -> str:
    base = results["tracking-core, local"]
    rows = []
    for name, numbers in results.items():
        row = [name]
        for key, value in numbers.items():
            row += [f"{value:.1f}", f"{value / base[key]:.2f}x"]
        rows.append(row)
    header = ["ms", "import", "", "first start", "", "warm start", ""]
    return render("Cost of importing and starting", header, rows)


if __name__ == "__main__":
    if "numpy" in sys.modules:
        print("note: something had imported numpy before the measurement", file=sys.stderr)
    one_of(CONTENDERS)
