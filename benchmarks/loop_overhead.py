"""What logging every step costs a jitted JAX loop: ours with sets of targets, wandb and tensorboardX used directly.

One process for each contender; in it, blocks of steps without and with logging take turns, so that both see the same
machine. The overhead is the median, over pairs of neighbouring blocks, of the difference in time per step. A block with
logging begins when nothing is left to deliver from the one before, and the time that this took is shown as well: a
tracker that only puts work off has a small overhead and a large rest.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.machine import alone, in_turn, one_of, render

STEPS_MS = (0.3, 3.0, 100.0)
SCALARS = (10, 200)
BLOCK, FEWEST = 0.2, 3
"""Seconds that a block takes, about, and the steps that it has at least."""
PAIRS = 2
Metrics = dict[str, Any]


class Contender:
    """How one tracker takes the metrics of a step, and how it comes to rest."""

    def log(self, metrics: Metrics, step: int) -> None:
        """Log what a step gave, as its users would."""

    def settle(self) -> None:
        """Wait until nothing is under way."""

    def close(self, rows: int, scalars: int) -> None:
        """Come to an end, and make sure that all rows arrived."""


@cache
def repeats(target_ms: float) -> int:
    """How often the state is multiplied by itself in a step that takes about that long."""
    import jax

    def takes(count: int) -> float:
        step, state = built(target_ms, count, 1)
        times = []
        for _ in range(12):
            begin = time.perf_counter()
            state = jax.block_until_ready(step(state))[0]
            times.append((time.perf_counter() - begin) * 1e3)
        return min(times)

    once = takes(0)
    return max(1, round((target_ms - once) / max((takes(8) - once) / 8, 1e-4)))


def built(target_ms: float, count: int, scalars: int) -> tuple[Callable[[Any], tuple[Any, Metrics]], Any]:
    """A jitted step that donates its state, and gives that many metrics; and its first state."""
    import jax
    import jax.numpy as jnp

    side = 128 if target_ms < 10 else 512

    def step(state: Any) -> tuple[Any, Metrics]:
        state = jax.lax.fori_loop(0, count, lambda _, x: jnp.tanh(x @ x + 0.01), state)
        return state, {f"train/metric_{n}": state[0, n % side] + n for n in range(scalars)}

    return jax.jit(step, donate_argnums=0), jax.random.normal(jax.random.key(0), (side, side)) / side**0.5


def block(step: Callable[[Any], tuple[Any, Metrics]], state: Any, log: Any, first: int) -> tuple[Any, float, int]:
    """Run steps for a while; returns the state, the seconds of one (to the last result), and how many there were."""
    import jax

    begin = time.perf_counter()
    number = first
    while number < first + FEWEST or time.perf_counter() < begin + BLOCK:
        state, metrics = step(state)
        log(metrics, number)
        number += 1
    jax.block_until_ready(state)
    return state, (time.perf_counter() - begin) / (number - first), number - first


def nothing(metrics: Metrics, step: int) -> None:
    """Log nothing: dropping the metrics is what a loop without tracking does."""


def all_of(make: Callable[[str], Contender]) -> dict[str, float]:
    import jax

    found: dict[str, float] = {}
    for target_ms in STEPS_MS:
        for scalars in SCALARS:
            key = f"{target_ms:g}ms_{scalars}"
            step, state = built(target_ms, repeats(target_ms), scalars)
            tracker = make(key)
            # Warm: what is compiled, opened or imported is paid once, and is no part of a step.
            for number in range(5):
                state, metrics = step(state)
                tracker.log(metrics, number)
            jax.block_until_ready(state)
            tracker.settle()
            logged, bare_s, extra_s, rest = 5, [], [], []
            for pair in range(PAIRS):
                spent = {}
                for log in (nothing, tracker.log) if pair % 2 else (tracker.log, nothing):
                    state, spent[log], count = block(step, state, log, logged)
                    if log is not nothing:
                        logged += count
                        begin = time.perf_counter()
                        tracker.settle()
                        rest.append(time.perf_counter() - begin)
                bare_s.append(spent[nothing])
                extra_s.append(spent[tracker.log] - spent[nothing])
            tracker.close(logged, scalars)
            bare = statistics.median(bare_s)
            found[f"{key}_bare_us"] = bare * 1e6
            found[f"{key}_extra_us"] = statistics.median(extra_s) * 1e6
            found[f"{key}_rest_s"] = statistics.median(rest)
            found[f"{key}_rows"] = logged
    return found


def ours(backends: str) -> Callable[[], dict[str, float]]:
    def contender() -> dict[str, float]:
        import tracking_core as tracking

        class Ours(Contender):
            def __init__(self, key: str) -> None:
                self.run = tracking.start_run("bench", name=key, backends=backends)
                self.run.flush()

            def log(self, metrics: Metrics, step: int) -> None:
                self.run.log_scalars(metrics, step=step)

            def settle(self) -> None:
                self.run.flush()

            def close(self, rows: int, scalars: int) -> None:
                report = self.run.finish()
                short = {name: one.delivered for name, one in report.items() if one.delivered < rows}
                if not report.ok or self.run.health.dropped or short:
                    raise SystemExit(f"{rows} rows were logged; {report}; {self.run.health}")
                record = tracking.open_store("tracking_runs").run(self.run.id)
                for name in ("train/metric_0", f"train/metric_{scalars - 1}"):
                    steps = record.scalars(name).step.tolist()
                    if sorted(steps) != list(range(rows)):
                        raise SystemExit(f"{name}: {len(steps)} rows are stored, {rows} were logged")

        return all_of(Ours)

    return contender


def wandb_direct() -> dict[str, float]:
    import jax
    import wandb

    class Wandb(Contender):
        def __init__(self, key: str) -> None:
            self.run = wandb.init(mode="offline", name=key, settings=wandb.Settings(silent=True))

        def log(self, metrics: Metrics, step: int) -> None:
            # One transfer for all metrics, as its users do who care.
            self.run.log(jax.device_get(metrics), step=step)

        def settle(self) -> None:
            # There is nothing to wait on: the process of wandb is given a moment.
            time.sleep(0.1)

        def close(self, _rows: int, _scalars: int) -> None:
            self.run.finish()

    return all_of(Wandb)


def tensorboardx_direct() -> dict[str, float]:
    import jax
    from tensorboardX import SummaryWriter

    class TensorboardX(Contender):
        def __init__(self, key: str) -> None:
            self.writer = SummaryWriter(str(Path("tb") / key))

        def log(self, metrics: Metrics, step: int) -> None:
            for name, value in jax.device_get(metrics).items():
                self.writer.add_scalar(name, value, step)

        def settle(self) -> None:
            self.writer.flush()

        def close(self, _rows: int, _scalars: int) -> None:
            self.writer.close()

    return all_of(TensorboardX)


def no_logging() -> dict[str, float]:
    return all_of(lambda _: Contender())


CONTENDERS: dict[str, Callable[[], dict[str, float]]] = {
    "no logging": no_logging,
    "tracking-core, local": ours("local"),
    "tracking-core, local + tensorboard + wandb": ours("tensorboard,wandb://?mode=offline"),
    "tensorboardX directly": tensorboardx_direct,
    "wandb offline directly": wandb_direct,
}


def measure(rounds: int) -> dict[str, dict[str, float]]:
    return in_turn("benchmarks.loop_overhead", list(CONTENDERS), rounds)


def table(results: dict[str, dict[str, float]]) -> str:
    texts = []
    for scalars in SCALARS:
        header = ["overhead of a step"]
        for target_ms in STEPS_MS:
            header += [f"{target_ms:g} ms", "µs", "rest, s"]
        rows = []
        for name, numbers in results.items():
            row = [name]
            for target_ms in STEPS_MS:
                key = f"{target_ms:g}ms_{scalars}"
                extra, bare = numbers[f"{key}_extra_us"], numbers[f"{key}_bare_us"]
                row += [f"{100 * extra / bare:+.1f} %", f"{extra:+.0f}", f"{numbers[f'{key}_rest_s']:.2f}"]
            rows.append(row)
        texts.append(render(f"Overhead of logging {scalars} scalars every step of a JAX loop", header, rows))
    return "\n\n".join(texts)


if __name__ == "__main__":
    if not one_of(CONTENDERS):
        alone("loop_overhead", measure, table)
