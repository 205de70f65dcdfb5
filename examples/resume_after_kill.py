"""A training that is killed twice, continues from its Orbax checkpoints, and ends as if nothing had happened.

    python examples/resume_after_kill.py
    TRACKING_BACKEND=tensorboard:./tb python examples/resume_after_kill.py

A job script starts `train` again and again, always with the same command. `main` plays the scheduler: it starts this
file with `--train`, kills it (SIGKILL) when it hangs between two checkpoints, starts it again, and compares the record
with that of an undisturbed training.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import linen as nn
from sklearn.datasets import load_digits

import tracking_core as tracking

SEED, BATCH, LEARNING_RATE = 0, 64, 3e-3
STEPS = 300
SAVE_EVERY = 50
HANGS = (30, 180)
"""Steps after which the training hangs: before its first checkpoint, and between two."""

# ---------------------------------------------------------------- data and model


def load_data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images float32 `[N, 64]` in [0, 1] and labels `[N]`: for training, then for validation."""
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 16.0).astype(np.float32)
    return images[:1440], labels[:1440], images[1440:], labels[1440:]


def batch_of(step: int, count: int) -> np.ndarray:
    """The images of a step: they depend only on the step, so a continued training sees the same images."""
    epoch, place = divmod(step, count // BATCH)
    return np.random.default_rng((SEED, epoch)).permutation(count)[place * BATCH :][:BATCH]


class Classifier(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.gelu(nn.Dense(128)(x))
        return nn.Dense(10)(x)


MODEL = Classifier()
OPTIMISER = optax.adam(LEARNING_RATE)


def first_state() -> dict[str, Any]:
    params = MODEL.init(jax.random.key(SEED), jnp.zeros((1, 64)))
    return {"params": params, "optimiser": OPTIMISER.init(params)}


# The state is donated: the step reuses its memory.
@partial(jax.jit, donate_argnums=0)
def train_step(
    state: dict[str, Any], images: jax.Array, labels: jax.Array
) -> tuple[dict[str, Any], dict[str, jax.Array]]:
    def loss(params: Any) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(MODEL.apply(params, images), labels).mean()

    value, gradients = jax.value_and_grad(loss)(state["params"])
    updates, optimiser = OPTIMISER.update(gradients, state["optimiser"])
    state = {"params": optax.apply_updates(state["params"], updates), "optimiser": optimiser}
    return state, {"train/loss": value, "train/gradient_norm": optax.tree.norm(gradients)}


@jax.jit
def accuracy(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    return (MODEL.apply(params, images).argmax(axis=-1) == labels).mean()


# ---------------------------------------------------------------- the training


def train(checkpoints: Path, hang_after: int | None = None) -> None:
    """Train from the latest checkpoint, or from the beginning if there is none.

    TRACKING_RUN_ID is the id of the run, as in a job script.
    """
    images, labels, *held_out = load_data()
    state = first_state()
    with ocp.CheckpointManager(checkpoints.absolute(), options=ocp.CheckpointManagerOptions(max_to_keep=2)) as manager:
        latest = manager.latest_step()
        if latest is not None:
            abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
            state = manager.restore(latest, args=ocp.args.StandardRestore(abstract))
        # A checkpoint of step K is the state after it: steps up to K are done, and K + 1 is the next. If it is killed
        # before the first checkpoint, the training starts again, and all its records are superseded.
        done = -1 if latest is None else latest
        with tracking.start_run(
            "resume-after-kill",
            resume="allow",
            resume_step=done,
            config={"seed": SEED, "batch": BATCH, "learning_rate": LEARNING_RATE},
        ) as run:
            steps_per_epoch = len(images) // BATCH
            for step in range(done + 1, STEPS):
                chosen = batch_of(step, len(images))
                state, metrics = train_step(state, images[chosen], labels[chosen])
                run.log_scalars(metrics, step=step)
                epoch, place = divmod(step, steps_per_epoch)
                if place == steps_per_epoch - 1:
                    measured = accuracy(state["params"], *held_out)
                    run.log_scalars({"validation/accuracy": measured}, step=epoch, step_axis="epoch")
                if (step + 1) % SAVE_EVERY == 0:
                    # First the rows, then the checkpoint: a value that is still on its device is not in the journal
                    # yet, and a row that is missing below a checkpoint is never logged again.
                    run.flush()
                    # The state is copied before this returns, and may be donated; files are written meanwhile.
                    manager.save(step, args=ocp.args.StandardSave(state))
                if step == hang_after:
                    signal.pause()


# ---------------------------------------------------------------- the scheduler


def start(run_id: str, folder: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start the training in a separate process, as a job script does."""
    settings = {
        "TRACKING_RUN_ID": run_id,
        # Compiled once for all trainings: it makes restarts faster, also on a cluster.
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, __file__, "--train", str(folder / run_id), *options]
    return subprocess.Popen(command, env={**os.environ, **settings})


def last_step(run_id: str) -> int:
    """The last step of a run of another process; -1 before its first."""
    try:
        return int(tracking.open_store().run(run_id).scalars("train/loss").step[-1])
    except (tracking.RunNotFoundError, KeyError):
        return -1


def last_checkpoint(checkpoints: Path) -> int:
    """The newest complete checkpoint (an incomplete one has another name); -1 before the first."""
    return max((int(path.name) for path in checkpoints.glob("*") if path.name.isdigit()), default=-1)


def kill_after(step: int, training: subprocess.Popen[bytes], run_id: str, checkpoints: Path) -> None:
    """Watch a training from outside until it hangs after a step, with its checkpoints written; then kill it."""
    expected = (step + 1) // SAVE_EVERY * SAVE_EVERY - 1
    deadline = time.monotonic() + 120.0
    while (last_step(run_id), last_checkpoint(checkpoints)) != (step, expected):
        if training.poll() is not None or time.monotonic() > deadline:
            training.kill()
            raise RuntimeError(f"{run_id}: the training ended, or did not come to step {step} in two minutes")
        time.sleep(0.1)
    training.kill()
    training.wait()
    print(f"killed after step {step}; the newest checkpoint is {expected if expected >= 0 else 'none'}")


def finish(training: subprocess.Popen[bytes]) -> None:
    if training.wait():
        raise RuntimeError(f"the training failed: exit code {training.returncode}")


def main() -> None:
    if os.environ.get("TRACKING_BACKEND") == "none":
        raise SystemExit("TRACKING_BACKEND=none records nothing that could be compared")
    mark = secrets.token_hex(3)
    killed, undisturbed = f"killed-{mark}", f"undisturbed-{mark}"
    with tempfile.TemporaryDirectory() as folder:
        for step in HANGS:
            training = start(killed, Path(folder), "--hang-after", str(step))
            kill_after(step, training, killed, Path(folder) / killed)
        finish(start(killed, Path(folder)))
        finish(start(undisturbed, Path(folder)))
    compare(killed, undisturbed)


def compare(killed: str, undisturbed: str) -> None:
    store = tracking.open_store()
    record, reference = store.run(killed), store.run(undisturbed)
    root = store.root.absolute()
    for name in reference.scalar_names():
        series, expected = record.scalars(name), reference.scalars(name)
        superseded = len(record.scalars(name, raw=True)) - len(series)
        once = np.array_equal(series.step, np.arange(len(series)))
        equal = np.array_equal(series.step, expected.step) and np.array_equal(series.value, expected.value)
        print(
            f"{name}: {len(series)} {series.axis}s, {'each once' if once else 'NOT each once'}; "
            f"{superseded} rows were superseded; "
            f"{'equal' if equal else 'NOT EQUAL'} to the undisturbed training"
        )
        if not (once and equal):
            raise SystemExit(1)
    print(f"""
The killed run is {record.status}, in {record.dir.absolute()}
Read it in Python:

    import tracking_core as tracking
    record = tracking.open_store({str(root)!r}).run({killed!r})
    print(record.scalars("train/loss"))            # rows that count
    print(record.scalars("train/loss", raw=True))  # with superseded rows

Side by side: tracking compare {killed} {undisturbed}""")
    for target in record.targets:
        path = target.partition("?")[0].partition(":")[2]
        if target.startswith("tensorboard"):
            print(f"TensorBoard: tensorboard --logdir {path or record.dir.absolute() / 'tensorboard'}")
        elif target.startswith("wandb"):
            for directory in record.dir.absolute().rglob("offline-run-*"):
                print(f"Weights & Biases: wandb sync {directory}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A training that is killed and continued.")
    parser.add_argument("--train", type=Path, metavar="CHECKPOINTS", help="train, from the latest checkpoint there")
    parser.add_argument("--hang-after", type=int, metavar="STEP")
    given = parser.parse_args()
    if given.train:
        train(given.train, given.hang_after)
    else:
        main()
