"""What importing and starting cost a program that has imported JAX: the first time, and after that."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from benchmarks.machine import alone, in_turn, one_of, render


def ours(backends: str, starts: int) -> Callable[[], dict[str, float]]:
    def contender() -> dict[str, float]:
        import jax  # noqa: F401 - as in the programs that track

        begin = time.perf_counter()
        import tracking_core

        imported = time.perf_counter()
        run = tracking_core.start_run("bench", backends=backends)
        started = time.perf_counter()
        run.finish()
        warm = []
        for _ in range(starts):
            again = time.perf_counter()
            run = tracking_core.start_run("bench", backends=backends)
            warm.append(time.perf_counter() - again)
            if not run.finish().ok:
                raise SystemExit(str(run.finish()))
        return {
            "import_ms": (imported - begin) * 1e3,
            "first_start_ms": (started - imported) * 1e3,
            "warm_start_ms": statistics.median(warm) * 1e3,
        }

    return contender


def wandb_direct() -> dict[str, float]:
    import jax  # noqa: F401

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
    import jax  # noqa: F401

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
    "tracking-core, local": ours("local", 50),
    "tracking-core, local + tensorboard + wandb": ours("tensorboard,wandb://?mode=offline", 5),
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
    if not one_of(CONTENDERS):
        alone("start_cost", measure, table)
