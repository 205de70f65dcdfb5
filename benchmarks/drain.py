"""TensorBoard, drained: scalars per second until everything is in its files; bytes on disk; memory over a long run."""

from __future__ import annotations

import os
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.machine import alone, in_turn, one_of, render

SHORT, LONG = 10_000, 20_000
"""Calls of ten scalars: timed to the end; and again as many times, for memory."""
JOURNALS = "tracking_runs/*/*/journal"
VALUES = [{f"train/metric_{n}": 0.1 * n + 1e-3 * step for n in range(10)} for step in range(64)]


def timed(log: Callable[[int], None], close: Callable[[], None], places: dict[str, str]) -> dict[str, float]:
    """Log, come to an end, and look at what is on disk.

    Args:
        log: Logs the ten scalars of a step.
        close: Returns when everything is delivered.
        places: Patterns of directories by what they hold.
    """
    begin = time.perf_counter()
    for step in range(SHORT):
        log(step)
    called = time.perf_counter()
    close()
    done = time.perf_counter()
    scalars = SHORT * 10
    found = {"called_s": called - begin, "drained_s": done - begin, "per_s": scalars / (done - begin)}
    for name, place in places.items():
        size = sum(file.stat().st_size for file in found_in(place))
        found[f"{name}_bytes"] = size / scalars
    return found


def found_in(pattern: str) -> list[Path]:
    return [file for place in Path().glob(pattern) for file in place.rglob("*") if file.is_file()]


def peaks() -> dict[str, float]:
    """MiB: the highest memory of this process so far, and the sum over the processes that it has started."""
    started = 0.0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            status = (entry / "status").read_text()
        except OSError:
            continue
        if int(re.search(r"PPid:\s+(\d+)", status).group(1)) == os.getpid():  # pyright: ignore[reportOptionalMemberAccess]
            high = re.search(r"VmHWM:\s+(\d+)", status)
            started += int(high.group(1)) / 1024 if high else 0.0
    return {"own_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "started_mib": started}


def growth(log: Callable[[int], None], settle: Callable[[], None]) -> dict[str, float]:
    """Memory after a short run, and by how much a long one raises it."""
    for step in range(LONG // 10):
        log(step)
    settle()
    before = peaks()
    for step in range(LONG // 10, LONG):
        log(step)
    settle()
    after = peaks()
    return {
        "own_mib": before["own_mib"],
        "own_growth_mib": after["own_mib"] - before["own_mib"],
        "started_mib": before["started_mib"],
        "started_growth_mib": after["started_mib"] - before["started_mib"],
    }


def ours(backends: str, places: dict[str, str]) -> Callable[[], dict[str, float]]:
    def contender() -> dict[str, float]:
        import tracking_core as tracking

        def begin() -> tuple[Callable[[int], None], Callable[[], None], Callable[[], None]]:
            run = tracking.start_run("bench", backends=backends)
            run.flush()

            def log(step: int) -> None:
                run.log_scalars(VALUES[step % 64], step=step)

            def close() -> None:
                report = run.finish(timeout=300)
                if not report.ok or any(one.delivered < SHORT for one in report.values()):
                    raise SystemExit(str(report))

            return log, close, run.flush

        log, close, _ = begin()
        found = timed(log, close, places)
        log, close, settle = begin()
        found |= growth(log, settle)
        close()
        return found

    return contender


def tensorboardx_direct() -> dict[str, float]:
    from tensorboardX import SummaryWriter

    def begin(place: str) -> tuple[Callable[[int], None], SummaryWriter]:
        writer = SummaryWriter(place)

        def log(step: int) -> None:
            for name, value in VALUES[step % 64].items():
                writer.add_scalar(name, value, step)

        return log, writer

    log, writer = begin("tb")
    found = timed(log, writer.close, {"tensorboard": "tb"})
    log, writer = begin("tb_long")
    found |= growth(log, writer.flush)
    writer.close()
    return found


def wandb_direct() -> dict[str, float]:
    import wandb

    settings = wandb.Settings(silent=True)
    run = wandb.init(mode="offline", settings=settings)
    found = timed(lambda step: run.log(VALUES[step % 64], step=step), run.finish, {"wandb": "**/offline-run-*"})
    again = wandb.init(mode="offline", settings=settings)
    found |= growth(lambda step: again.log(VALUES[step % 64], step=step), lambda: None)
    again.finish()
    return found


CONTENDERS: dict[str, Callable[[], dict[str, float]]] = {
    "tracking-core, local": ours("local", {"journal": JOURNALS}),
    "tracking-core, local + tensorboard": ours("tensorboard:tb", {"journal": JOURNALS, "tensorboard": "tb"}),
    "tracking-core, local + wandb offline": ours(
        "wandb://?mode=offline", {"journal": JOURNALS, "wandb": "**/offline-run-*"}
    ),
    "tensorboardX directly": tensorboardx_direct,
    "wandb offline directly": wandb_direct,
}
BASE = "tensorboardX directly"


def measure(rounds: int) -> dict[str, dict[str, float]]:
    return in_turn("benchmarks.drain", list(CONTENDERS), rounds)


def table(results: dict[str, dict[str, float]]) -> str:
    rows = []
    for name, numbers in results.items():
        ratio = numbers["per_s"] / results[BASE]["per_s"]
        sizes = [
            f"{numbers[f'{kind}_bytes']:.0f} ({kind})"
            for kind in ("journal", "tensorboard", "wandb")
            if f"{kind}_bytes" in numbers
        ]
        row = [name, f"{numbers['per_s'] / 1e3:.0f}", f"{ratio:.1f}x", ", ".join(sizes)]
        row += [f"{numbers[f'{kind}_mib']:.0f} {numbers[f'{kind}_growth_mib']:+.0f}" for kind in ("own", "started")]
        rows.append(row)
    header = ["", "thousand scalars/s", "to tensorboardX", "bytes a scalar", "peak MiB, own", "peak MiB, started"]
    title = (
        f"Until everything is delivered ({SHORT * 10:,} scalars); memory after {LONG:,}, and growth to {LONG * 10:,}"
    )
    return render(title, header, rows)


if __name__ == "__main__":
    if not one_of(CONTENDERS):
        alone("drain", measure, table)
