"""What SIGKILL loses: records whose call had returned, and that no reader finds afterwards."""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.machine import alone, check_sources, environment, render

PACE = 0.002
VALUES = {f"train/metric_{n}": 0.1 * n for n in range(9)}


def paced(log: Callable[[int], None]) -> None:
    """Log a step every 2 ms, for ever; each acknowledged step becomes one byte of a file, written at once."""
    done = os.open("acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    step = 0
    due = time.perf_counter()
    while True:
        log(step)
        os.write(done, b".")
        step += 1
        due += PACE
        time.sleep(max(0.0, due - time.perf_counter()))


def ours(backends: str) -> Callable[[], None]:
    def victim() -> None:
        import tracking_core as tracking

        run = tracking.start_run("bench", backends=backends)
        run.flush()
        paced(lambda step: run.log_scalars({**VALUES, "number": step}, step=step))

    return victim


def wandb_victim() -> None:
    import wandb

    run = wandb.init(mode="offline", settings=wandb.Settings(silent=True))
    paced(lambda step: run.log({**VALUES, "number": step}))


def tensorboardx_victim() -> None:
    from tensorboardX import SummaryWriter

    writer = SummaryWriter("tb")

    def log(step: int) -> None:
        for name, value in {**VALUES, "number": step}.items():
            writer.add_scalar(name, value, step)

    paced(log)


def in_journal(place: Path) -> int:
    import tracking_core as tracking

    (record,) = tracking.open_store(place / "tracking_runs").runs()
    return len(set(record.scalars("number").step.tolist()))


def in_tensorboard(place: Path) -> int:
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    steps = set()
    for path in (place / "tb").rglob("events.out.tfevents.*"):
        for data in RawEventFileLoader(str(path)).Load():
            event = Event.FromString(data)
            steps.update(event.step for value in event.summary.value if value.tag == "number")
    return len(steps)


def in_wandb(place: Path) -> int:
    from tracking_wandb.offline.transaction_log import TransactionLog

    numbers = set()
    for path in (place / "wandb").glob("offline-run-*/*.wandb"):
        for record in TransactionLog(path):
            for item in record.history.item:
                if (item.key or "/".join(item.nested_key)) == "number":
                    numbers.add(json.loads(item.value_json))
    return len(numbers)


VICTIMS: dict[str, tuple[Callable[[], None], Callable[[Path], int], float]] = {
    "tracking-core, local": (ours("local"), in_journal, 0.2),
    "tracking-core, local + tensorboard: TensorBoard": (ours("tensorboard:tb"), in_tensorboard, 4.0),
    "tensorboardX directly": (tensorboardx_victim, in_tensorboard, 0.2),
    "wandb offline directly": (wandb_victim, in_wandb, 4.0),
}
"""What logs, what counts afterwards, and the seconds that processes left behind are given to finish their work."""


def kill(name: str, chance: random.Random) -> tuple[int, int]:
    """Start a program, kill it at a random moment; returns how many records were acknowledged, how many lost."""
    _, count, grace = VICTIMS[name]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        done = Path(place) / "acknowledged"
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.kill_loss", "--victim", name],
            cwd=place,
            env=environment(place),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 120
            while not done.exists() or done.stat().st_size < 100:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{name}: it never came to log")
                time.sleep(0.01)
            time.sleep(chance.uniform(0.3, 1.5))
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        acknowledged = done.stat().st_size
        deadline = time.monotonic() + grace
        found = count(Path(place))
        while found < acknowledged and time.monotonic() < deadline:
            time.sleep(0.2)
            found = count(Path(place))
        return acknowledged, max(0, acknowledged - found)


def measure(rounds: int) -> dict[str, dict[str, float]]:
    chance = random.Random(0)
    seen: dict[str, list[tuple[int, int]]] = {name: [] for name in VICTIMS}
    for _ in range(rounds):
        for name in VICTIMS:
            seen[name].append(kill(name, chance))
    return {
        name: {
            "trials": len(pairs),
            "acknowledged": statistics.median(one for one, _ in pairs),
            "lost": statistics.median(lost for _, lost in pairs),
            "least_lost": min(lost for _, lost in pairs),
            "most_lost": max(lost for _, lost in pairs),
        }
        for name, pairs in seen.items()
    }


def table(results: dict[str, dict[str, float]]) -> str:
    rows = [
        [
            name,
            f"{numbers['trials']:.0f}",
            f"{numbers['acknowledged']:.0f}",
            f"{numbers['lost']:.0f}",
            f"{numbers['least_lost']:.0f} to {numbers['most_lost']:.0f}",
        ]
        for name, numbers in results.items()
    ]
    header = ["one record every 2 ms", "kills", "acknowledged (median)", "of them lost (median)", "range"]
    return render("Acknowledged records that SIGKILL loses", header, rows)


if __name__ == "__main__":
    check_sources()
    if "--victim" in sys.argv:
        VICTIMS[sys.argv[-1]][0]()
    else:
        alone("kill_loss", measure, table)
