"""What one call with ten scalars costs the training thread: in a tight loop, and paced at one call every 2 ms."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from benchmarks.machine import alone, in_turn, one_of, render

TIGHT, PACED, PACE = 5000, 500, 0.002
VALUES = {f"train/metric_{n}": 0.1 * n for n in range(10)}


def timed(log: Callable[[int], None]) -> dict[str, float]:
    """Microseconds of one call: median and 99th percentile."""
    for step in range(200):
        log(step)
    spent = []
    for step in range(200, 200 + TIGHT):
        begin = time.perf_counter_ns()
        log(step)
        spent.append(time.perf_counter_ns() - begin)
    paced = []
    due = time.perf_counter()
    for step in range(200 + TIGHT, 200 + TIGHT + PACED):
        due += PACE
        while time.perf_counter() < due:
            time.sleep(max(0.0, due - time.perf_counter()))
        begin = time.perf_counter_ns()
        log(step)
        paced.append(time.perf_counter_ns() - begin)
    return {
        "tight_us": statistics.median(spent) / 1e3,
        "tight_p99_us": statistics.quantiles(spent, n=100)[98] / 1e3,
        "paced_us": statistics.median(paced) / 1e3,
        "paced_p99_us": statistics.quantiles(paced, n=100)[98] / 1e3,
    }


def ours(backend: str) -> Callable[[], dict[str, float]]:
    def contender() -> dict[str, float]:
        import tracking_core as tracking

        with tracking.start_run("bench", backends=backend) as run:
            run.flush()
            result = timed(lambda step: run.log_scalars(VALUES, step=step))
        if not run.finish().ok:
            raise SystemExit(str(run.finish()))
        return result

    return contender


def wandb_direct() -> dict[str, float]:
    import wandb

    run = wandb.init(mode="offline", settings=wandb.Settings(silent=True))
    result = timed(lambda step: run.log(VALUES, step=step))
    run.finish()
    return result


def tensorboardx_direct() -> dict[str, float]:
    from tensorboardX import SummaryWriter

    writer = SummaryWriter("tb")

    def log(step: int) -> None:
        for name, value in VALUES.items():
            writer.add_scalar(name, value, step)

    result = timed(log)
    writer.close()
    return result


CONTENDERS: dict[str, Callable[[], dict[str, float]]] = {
    "tracking-core, none": ours("none"),
    "tracking-core, local": ours("local"),
    "tracking-core, tensorboard": ours("tensorboard"),
    "tracking-core, wandb offline": ours("wandb://?mode=offline"),
    "tracking-core, tensorboard + wandb": ours("tensorboard,wandb://?mode=offline"),
    "tensorboardX directly": tensorboardx_direct,
    "wandb offline directly": wandb_direct,
}
BASE = "tracking-core, local"


def measure(rounds: int) -> dict[str, dict[str, float]]:
    return in_turn("benchmarks.call_cost", list(CONTENDERS), rounds)


def table(results: dict[str, dict[str, float]]) -> str:
    rows = []
    for name, numbers in results.items():
        rows.append([name])
        for key in ("tight", "paced"):
            ratio = numbers[f"{key}_us"] / results[BASE][f"{key}_us"]
            rows[-1] += [f"{numbers[f'{key}_us']:.1f}", f"{numbers[f'{key}_p99_us']:.0f}", f"{ratio:.2f}x"]
    header = ["ten scalars, µs a call", "tight", "p99", "to local", "every 2 ms", "p99", "to local"]
    return render("Cost of a call on the training thread", header, rows)


if __name__ == "__main__":
    if not one_of(CONTENDERS):
        alone("call_cost", measure, table)
