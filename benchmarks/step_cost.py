"""What logging ten scalars really costs a training whose steps keep the machine busy, sustained and with cold caches.

Two things are measured in one loop of real steps: what a call takes when the caches are full of the step's own data,
beside reading the same scalars plainly and writing one line; and the processor time of the training and everything
that it started, over steps without logging, delivery included.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.machine import alone, in_turn, one_of, render

STEP_MS = 6.7
STEPS, PART = 1500, 250
"""Steps that are logged, and steps of one part: parts with and without logging take turns."""
Metrics = dict[str, Any]
Log = Callable[[Metrics, int], None]
TICK = os.sysconf("SC_CLK_TCK")


def family(root: int) -> set[int]:
    """A process and all that descend from it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def cpu_seconds() -> float:
    """Processor time of this process, of those that it started, and of those of them that have ended."""
    total = 0
    for pid in family(os.getpid()):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15] if pid == os.getpid() else fields[11:13]))
    return total / TICK


def built() -> tuple[Callable[[Any, Any], tuple[Any, Metrics]], Any, Any]:
    """A jitted training step on all cores of about that length; its first state, and its data."""
    import jax
    import jax.numpy as jnp

    side = 512
    names = [f"train/metric_{n}" for n in range(10)]

    def make(count: int) -> Callable[[Any, Any], tuple[Any, Metrics]]:
        def step(state: Any, data: Any) -> tuple[Any, Metrics]:
            for _ in range(count):
                state = jnp.tanh(state @ data / side**0.5)
            return state, {name: state[0, n] + n for n, name in enumerate(names)}

        return jax.jit(step, donate_argnums=0)

    state, data = (jax.random.normal(jax.random.key(n), (side, side)) for n in range(2))

    def takes(count: int) -> float:
        step = make(count)
        times = []
        current = jnp.copy(state)
        for _ in range(30):
            begin = time.perf_counter()
            current, _ = jax.block_until_ready(step(current, data))
            times.append((time.perf_counter() - begin) * 1e3)
        return statistics.median(times[5:])

    few, many = takes(2), takes(6)
    count = max(1, round(2 + (STEP_MS - few) / max((many - few) / 4, 1e-3)))
    return make(count), state, data


@contextmanager
def plain_line() -> Iterator[Log]:
    """Read each scalar, and write one line: the least that anything can do."""
    import numpy as np

    with Path("plain.jsonl").open("ab", buffering=0) as file:

        def log(metrics: Metrics, step: int) -> None:
            values = {name: np.asarray(value).item() for name, value in metrics.items()}
            os.write(file.fileno(), json.dumps({"step": step, "values": values}).encode() + b"\n")

        yield log


def nothing(metrics: Metrics, step: int) -> None:
    """Log nothing: dropping the metrics is what a loop without tracking does."""


class Contender:
    """How one tracker takes the metrics of a step, and how it comes to rest."""

    def log(self, metrics: Metrics, step: int) -> None:
        """Log what a step gave."""

    def settle(self) -> None:
        """Wait until nothing is under way."""

    def close(self, rows: int) -> None:
        """Come to an end, and make sure that all rows arrived."""


def all_of(make: Callable[[], Contender]) -> dict[str, float]:
    import jax

    step, state, data = built()
    tracker = make()
    logged = 0

    def steps(count: int, log: Log, taken: list[int]) -> None:
        nonlocal state, logged
        for _ in range(count):
            state, metrics = step(state, data)
            jax.block_until_ready(state)
            begin = time.perf_counter_ns()
            log(metrics, logged)
            taken.append(time.perf_counter_ns() - begin)
            logged += log == tracker.log

    with plain_line() as plain:
        # What is compiled, opened or imported is paid once, and is no part of a step.
        steps(50, tracker.log, [])
        steps(50, plain, [])
        tracker.settle()
        spent: dict[str, list[float]] = {"bare": [], "logged": []}
        wall: dict[str, list[float]] = {"bare": [], "logged": []}
        calls: list[int] = []
        lines: list[int] = []
        for part in range(STEPS // PART):
            for kind in ("bare", "logged") if part % 2 else ("logged", "bare"):
                cpu, begin = cpu_seconds(), time.perf_counter()
                log, taken = (tracker.log, calls) if kind == "logged" else (nothing, [])
                steps(PART, log, taken)
                wall[kind].append((time.perf_counter() - begin) / PART * 1e3)
                tracker.settle()
                spent[kind].append((cpu_seconds() - cpu) / PART * 1e3)
            # The same steps, and nothing but one line each.
            steps(PART // 5, plain, lines)
    tracker.close(logged)
    bare = statistics.fmean(wall["bare"])
    return {
        "step_ms": bare,
        "cpu_ms": statistics.fmean(spent["logged"]) - statistics.fmean(spent["bare"]),
        "wall_percent": 100 * (statistics.fmean(wall["logged"]) / bare - 1),
        "call_us": statistics.median(calls) / 1e3,
        "line_us": statistics.median(lines) / 1e3,
    }


def ours(backends: str) -> Callable[[], dict[str, float]]:
    def contender() -> dict[str, float]:
        import tracking_core as tracking

        class Ours(Contender):
            def __init__(self) -> None:
                self.run = tracking.start_run("bench", backends=backends)
                self.run.flush()

            def log(self, metrics: Metrics, step: int) -> None:
                self.run.log_scalars(metrics, step=step)

            def settle(self) -> None:
                self.run.flush()

            def close(self, rows: int) -> None:
                report = self.run.finish()
                if not report.ok or self.run.health.dropped:
                    raise SystemExit(f"{rows} rows were logged; {report}; {self.run.health}")
                steps = tracking.open_store("tracking_runs").run(self.run.id).scalars("train/metric_9").step
                if sorted(steps.tolist()) != list(range(rows)):
                    raise SystemExit(f"{len(steps)} rows are stored, {rows} were logged")

        return all_of(Ours)

    return contender


def direct() -> dict[str, float]:
    """The same three: a line of JSON, tensorboardX and wandb, each used as its users do."""
    import jax
    import wandb
    from tensorboardX import SummaryWriter

    class Direct(Contender):
        def __init__(self) -> None:
            self.file = Path("local.jsonl").open("ab", buffering=0)  # noqa: SIM115 - closed in the end
            self.writer = SummaryWriter("tb")
            self.run = wandb.init(mode="offline", settings=wandb.Settings(silent=True))

        def log(self, metrics: Metrics, step: int) -> None:
            # One transfer for all three.
            values = {name: value.item() for name, value in jax.device_get(metrics).items()}
            self.file.write(json.dumps({"step": step, "values": values}).encode() + b"\n")
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)
            self.run.log(values, step=step)

        def settle(self) -> None:
            self.writer.flush()
            # There is nothing to wait on: the process of wandb is given a moment.
            time.sleep(0.3)

        def close(self, _rows: int) -> None:
            self.writer.close()
            self.run.finish()
            self.file.close()

    return all_of(Direct)


def one_line() -> dict[str, float]:
    with plain_line() as plain:

        class Line(Contender):
            def log(self, metrics: Metrics, step: int) -> None:
                plain(metrics, step)

        return all_of(Line)


CONTENDERS: dict[str, Callable[[], dict[str, float]]] = {
    "plain reading and one line": one_line,
    "tracking-core, local": ours("local"),
    "tracking-core, local + tensorboard + wandb": ours("tensorboard,wandb://?mode=offline"),
    "a line, tensorboardX and wandb directly": direct,
}
THREE, DIRECT = list(CONTENDERS)[2:]
CALL_LIMIT, CPU_LIMIT, WALL_LIMIT = 1.7, 1 / 3, 5.0
"""The call in plain lines, three targets to the same three used directly, and percent of the time of a step."""


def measure(rounds: int) -> dict[str, dict[str, float]]:
    return in_turn("benchmarks.step_cost", list(CONTENDERS), rounds)


def table(results: dict[str, dict[str, float]]) -> str:
    rows = [
        [
            name,
            f"{numbers['call_us']:.0f}",
            f"{numbers['call_us'] / numbers['line_us']:.2f}x",
            f"{numbers['cpu_ms']:+.2f}",
            f"{numbers['wall_percent']:+.1f} %",
        ]
        for name, numbers in results.items()
    ]
    step = statistics.median(numbers["step_ms"] for numbers in results.values())
    header = ["ten scalars every step", "call, µs", "to a plain line in the same loop", "CPU ms a step", "wall time"]
    title = f"What a step really costs: {STEPS} steps of {step:.1f} ms on all cores, delivery included"
    share = results[THREE]["cpu_ms"] / results[DIRECT]["cpu_ms"]
    ours = results["tracking-core, local"]
    limits = [
        f"call {ours['call_us'] / ours['line_us']:.2f} plain lines (limit {CALL_LIMIT})",
        f"three targets {share:.2f} of the CPU of the same three directly (limit {CPU_LIMIT:.2f})",
        f"and {results[THREE]['wall_percent']:+.1f} % of wall time (limit {WALL_LIMIT:g})",
    ]
    return render(title, header, rows) + "\n\n" + ", ".join(limits)


if __name__ == "__main__":
    if not one_of(CONTENDERS):
        alone("step_cost", measure, table)
