"""What device values, histograms and images cost the calling thread, in microseconds: median and 99th percentile.

Every call is timed alone. Between calls whatever it left to other threads settles, so that one measurement does not pay
for the one before; what the whole costs a training loop is what `benchmarks.loop_overhead` shows.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.machine import alone, in_turn, one_of, render

CALLS, WARM = 400, 30
BIG_CALLS, BIG_WARM = 30, 4
SIZE = 1_000_000
TREES, LEAVES = 8, 100
Log = Callable[[Any, int], None]


class Contender:
    """How one tracker takes each kind of value, and how it comes to rest."""

    scalars: Log
    stacked: Log
    histogram: Log
    tree: Log
    images: Log

    def settle(self) -> None:
        """Wait until nothing is under way."""

    def close(self) -> None:
        """Come to an end."""


def timed(log: Log, make: Callable[[int], Any], settle: Callable[[], None], calls: int, warm: int) -> dict[str, float]:
    spent = []
    for step in range(calls + warm):
        value = make(step)
        begin = time.perf_counter_ns()
        log(value, step)
        took = time.perf_counter_ns() - begin
        if step >= warm:
            spent.append(took / 1e3)
        if step % 10 == 9:
            settle()
    return {"us": statistics.median(spent), "p99_us": statistics.quantiles(spent, n=100)[98]}


def all_of(tracker: Contender) -> dict[str, float]:
    import jax
    import jax.numpy as jnp
    import numpy as np

    names = tuple(f"train/metric_{n}" for n in range(10))
    work = jax.jit(lambda x, n: jax.lax.fori_loop(0, 12, lambda _, y: jnp.tanh(y @ y), x) + n)
    take_ten = jax.jit(lambda x: [x[0, n] for n in range(10)])
    take_row = jax.jit(lambda x: x[0, :10])
    square = jax.random.normal(jax.random.key(0), (256, 256))
    data = jax.random.normal(jax.random.key(1), (SIZE,))
    host_data = np.asarray(data)
    images = np.random.default_rng(0).random((16, 64, 64, 3), dtype=np.float32)
    bytes_images = (images * 255).astype(np.uint8)
    device_images = jnp.asarray(images)

    def ready(step: int) -> Any:
        return jax.block_until_ready(dict(zip(names, take_ten(square + step), strict=True)))

    def pending(step: int) -> Any:
        return dict(zip(names, take_ten(work(square, step)), strict=True))

    def row(step: int) -> Any:
        return names, jax.block_until_ready(take_row(square + step))

    def pending_row(step: int) -> Any:
        return names, take_row(work(square, step))

    def of_new_shape(*shape: int) -> Callable[[int], Any]:
        return lambda step: jax.block_until_ready(
            jax.device_put(np.full((shape[0] + step, *shape[1:]), 0.5, np.float32))
        )

    def new_tree(step: int) -> Any:
        shapes = [(100 * step + n + 300, 70) for n in range(LEAVES)]
        return jax.block_until_ready(
            jax.device_put({f"layer{n}": np.full(shape, 0.5, np.float32) for n, shape in enumerate(shapes)})
        )

    found: dict[str, float] = {}
    plan: Mapping[str, tuple[Log, Callable[[int], Any], int, int]] = {
        "ready": (tracker.scalars, ready, CALLS, WARM),
        "pending": (tracker.scalars, pending, CALLS, WARM),
        "stacked_ready": (tracker.stacked, row, CALLS, WARM),
        "stacked_pending": (tracker.stacked, pending_row, CALLS, WARM),
        "histogram_device": (tracker.histogram, lambda _: data, BIG_CALLS, BIG_WARM),
        "histogram_host": (tracker.histogram, lambda _: host_data, BIG_CALLS, BIG_WARM),
        "images_uint8": (tracker.images, lambda _: bytes_images, BIG_CALLS, BIG_WARM),
        "images_float": (tracker.images, lambda _: images, BIG_CALLS, BIG_WARM),
        "images_device": (tracker.images, lambda _: device_images, BIG_CALLS, BIG_WARM),
        # Each is the first of its shape.
        "histogram_new": (tracker.histogram, of_new_shape(1000, 70), BIG_CALLS, BIG_WARM),
        "tree_new": (tracker.tree, new_tree, TREES, 1),
        "images_new": (tracker.images, of_new_shape(100, 64, 3), BIG_CALLS, BIG_WARM),
    }
    for key, (log, make, calls, warm) in plan.items():
        tracker.settle()
        for name, number in timed(log, make, tracker.settle, calls, warm).items():
            found[f"{key}_{name}"] = number
    tracker.close()
    return found


def ours() -> dict[str, float]:
    import tracking_core as tracking

    class Ours(Contender):
        def __init__(self) -> None:
            self.run = tracking.start_run("bench", backends="local")

        def scalars(self, value: Any, step: int) -> None:
            self.run.log_scalars(value, step=step)

        def stacked(self, value: Any, step: int) -> None:
            # A jitted step that gathers its metrics in one array.
            self.run.log_scalars(tracking.Stacked(*value), step=step)

        def histogram(self, value: Any, step: int) -> None:
            self.run.log_histogram("weights", value, step=step)

        def tree(self, value: Any, step: int) -> None:
            self.run.log_histogram("parameters", value, step=step)

        def images(self, value: Any, step: int) -> None:
            self.run.log_images({"samples": value}, step=step)

        def settle(self) -> None:
            self.run.flush()

        def close(self) -> None:
            report = self.run.finish()
            if not report.ok or self.run.health.dropped:
                raise SystemExit(f"{report}; {self.run.health}")

    return all_of(Ours())


def wandb_direct() -> dict[str, float]:
    import jax
    import numpy as np
    import wandb

    class Wandb(Contender):
        def __init__(self) -> None:
            self.run = wandb.init(mode="offline", settings=wandb.Settings(silent=True))

        def scalars(self, value: Any, _step: int) -> None:
            self.run.log(jax.device_get(value))

        def stacked(self, value: Any, _step: int) -> None:
            names, array = value
            self.run.log(dict(zip(names, np.asarray(array).tolist(), strict=True)))

        def histogram(self, value: Any, _step: int) -> None:
            # wandb.Histogram takes an array, or what np.histogram gives; the latter is the quicker of the two.
            self.run.log({"weights": wandb.Histogram(np_histogram=np.histogram(np.asarray(value), bins=64))})

        def tree(self, value: Any, _step: int) -> None:
            counted = {name: np.histogram(np.asarray(one), bins=64) for name, one in value.items()}
            self.run.log({name: wandb.Histogram(np_histogram=one) for name, one in counted.items()})

        def images(self, value: Any, _step: int) -> None:
            value = np.asarray(value)
            self.run.log({"samples": [wandb.Image(one) for one in (value if value.ndim == 4 else value[None])]})

        def close(self) -> None:
            self.run.finish()

    return all_of(Wandb())


def tensorboardx_direct() -> dict[str, float]:
    import jax
    import numpy as np
    from tensorboardX import SummaryWriter

    class TensorboardX(Contender):
        def __init__(self) -> None:
            self.writer = SummaryWriter("tb")

        def scalars(self, value: Any, step: int) -> None:
            for name, number in jax.device_get(value).items():
                self.writer.add_scalar(name, number, step)

        def stacked(self, value: Any, step: int) -> None:
            names, array = value
            for name, number in zip(names, np.asarray(array).tolist(), strict=True):
                self.writer.add_scalar(name, number, step)

        def histogram(self, value: Any, step: int) -> None:
            self.writer.add_histogram("weights", np.asarray(value), step, bins=64)

        def tree(self, value: Any, step: int) -> None:
            for name, one in value.items():
                self.writer.add_histogram(name, np.asarray(one), step, bins=64)

        def images(self, value: Any, step: int) -> None:
            value = np.asarray(value)
            shown = value if value.ndim == 4 else value[None]
            self.writer.add_images("samples", shown, step, dataformats="NHWC")

        def settle(self) -> None:
            self.writer.flush()

        def close(self) -> None:
            self.writer.close()

    return all_of(TensorboardX())


CONTENDERS: dict[str, Callable[[], dict[str, float]]] = {
    "tracking-core": ours,
    "wandb offline directly": wandb_direct,
    "tensorboardX directly": tensorboardx_direct,
}
BASE = "tracking-core"
ROWS = {
    "ready": "ten scalars, computed",
    "pending": "ten scalars, still computing",
    "stacked_ready": "ten in one array, computed",
    "stacked_pending": "ten in one array, still computing",
    "histogram_device": "histogram of 1 M float32, on the device",
    "histogram_host": "histogram of 1 M float32, on the host",
    "images_uint8": "16 images 64x64x3, uint8",
    "images_float": "16 images 64x64x3, float32",
    "images_device": "16 images 64x64x3, float32 on the device",
    "histogram_new": "first histogram of a shape, 70,000 float32",
    "tree_new": "histograms of a tree, 100 new shapes of 21,000 to 110,000",
    "images_new": "first image of a shape, 100x64x3, float32 on the device",
}


def measure(rounds: int) -> dict[str, dict[str, float]]:
    return in_turn("benchmarks.jax_cost", list(CONTENDERS), rounds)


def table(results: dict[str, dict[str, float]]) -> str:
    header = ["µs of one call"]
    for name in results:
        header += [name, "p99"] if name == BASE else [name, "p99", "ratio"]
    rows = []
    for key, title in ROWS.items():
        row = [title]
        for name, numbers in results.items():
            row += [f"{numbers[f'{key}_us']:.0f}", f"{numbers[f'{key}_p99_us']:.0f}"]
            if name != BASE:
                row.append(f"{numbers[f'{key}_us'] / results[BASE][f'{key}_us']:.1f}x")
        rows.append(row)
    return render("Cost of a call with JAX values and media on the training thread", header, rows)


if __name__ == "__main__":
    if not one_of(CONTENDERS):
        alone("jax_cost", measure, table)
