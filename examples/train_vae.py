"""Train a convolutional VAE on scikit-learn's handwritten digits, with everything recorded.

    python examples/train_vae.py
    TRACKING_BACKEND='tensorboard:./tb,wandb://?mode=offline' python examples/train_vae.py

`train` knows the five methods of `Tracker` and nothing else: what is behind them is decided outside.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from flax.traverse_util import flatten_dict
from sklearn.datasets import load_digits

import tracking_core as tracking
from tracking_core import Image, Tracker


@dataclass(frozen=True)
class Config:
    epochs: int = 60
    batch_size: int = 64
    steps_per_epoch: int | None = None  # None: every training image once
    latent_dim: int = 8
    learning_rate: float = 4e-3
    seed: int = 0
    look_every: int = 10  # epochs between two looks at images and histograms


# ---------------------------------------------------------------- data


class Digits(NamedTuple):
    images: np.ndarray  # float32 [N, 8, 8, 1] in [0, 1]
    labels: np.ndarray  # int64 [N]


def load_data(seed: int, held_out: int = 360) -> tuple[Digits, Digits]:
    """The 1797 digits, shuffled and split into training and validation."""
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 16.0).astype(np.float32).reshape(-1, 8, 8, 1)
    order = np.random.default_rng(seed).permutation(len(images))
    rest, held = order[held_out:], order[:held_out]
    return Digits(images[rest], labels[rest]), Digits(images[held], labels[held])


def batches(images: np.ndarray, config: Config, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """One epoch in a new order. All batches have one size, so that the step is compiled once."""
    order = rng.permutation(len(images))
    for step in range(steps_in_epoch(images, config)):
        yield images[order[step * config.batch_size :][: config.batch_size]]


def steps_in_epoch(images: np.ndarray, config: Config) -> int:
    full = len(images) // config.batch_size
    return full if config.steps_per_epoch is None else min(full, config.steps_per_epoch)


# ---------------------------------------------------------------- model


class VAE(nnx.Module):
    """From 8x8 pixels to a Gaussian over `latent_dim` numbers, and back to the logits of the pixels."""

    def __init__(self, latent_dim: int, *, rngs: nnx.Rngs):
        self.conv1 = nnx.Conv(1, 32, (3, 3), strides=(2, 2), rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, (3, 3), strides=(2, 2), rngs=rngs)
        self.to_latent = nnx.Linear(2 * 2 * 64, 2 * latent_dim, rngs=rngs)
        self.from_latent = nnx.Linear(latent_dim, 2 * 2 * 64, rngs=rngs)
        self.deconv1 = nnx.ConvTranspose(64, 32, (3, 3), strides=(2, 2), rngs=rngs)
        self.deconv2 = nnx.ConvTranspose(32, 1, (3, 3), strides=(2, 2), rngs=rngs)

    def encode(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and log-variance of the latents, `[N, latent_dim]` each."""
        x = nnx.gelu(self.conv1(images))
        x = nnx.gelu(self.conv2(x))
        mean, logvar = jnp.split(self.to_latent(x.reshape(len(x), -1)), 2, axis=-1)
        return mean, logvar

    def decode(self, latents: jax.Array) -> jax.Array:
        """Logits of the pixels, `[N, 8, 8, 1]`."""
        x = nnx.gelu(self.from_latent(latents)).reshape(-1, 2, 2, 64)
        x = nnx.gelu(self.deconv1(x))
        return self.deconv2(x)


def loss_terms(model: VAE, images: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
    """The negative evidence lower bound and its two terms, in nats per image.

    A pixel of these images counts the black points in a block of 4x4, so its distribution is a binomial of 16 trials.
    """
    mean, logvar = model.encode(images)
    latents = mean + jnp.exp(0.5 * logvar) * jax.random.normal(key, mean.shape)
    pixels = 16 * optax.sigmoid_binary_cross_entropy(model.decode(latents), images)
    reconstruction = pixels.sum(axis=(1, 2, 3)).mean()
    kl = 0.5 * (jnp.exp(logvar) + mean**2 - 1.0 - logvar).sum(axis=-1).mean()
    return {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}


# ---------------------------------------------------------------- steps


class State(NamedTuple):
    params: nnx.State
    opt_state: optax.OptState
    key: jax.Array


# The state is donated: the step reuses its memory, and the arrays that went in are gone after the call.
@partial(jax.jit, static_argnames=("graph", "optimizer"), donate_argnames="state")
def train_step(
    state: State, images: jax.Array, *, graph: nnx.GraphDef, optimizer: optax.GradientTransformation
) -> tuple[State, dict[str, jax.Array]]:
    key, noise = jax.random.split(state.key)

    def loss(params: nnx.State) -> tuple[jax.Array, dict[str, jax.Array]]:
        terms = loss_terms(nnx.merge(graph, params), images, noise)
        return terms["loss"], terms

    gradients, metrics = jax.grad(loss, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(gradients, state.opt_state)
    metrics["learning_rate"] = opt_state.hyperparams["learning_rate"]
    metrics["gradient_norm"] = optax.tree.norm(gradients)
    return State(optax.apply_updates(state.params, updates), opt_state, key), metrics


@partial(jax.jit, static_argnames="graph")
def evaluate(params: nnx.State, images: jax.Array, *, graph: nnx.GraphDef) -> dict[str, jax.Array]:
    return loss_terms(nnx.merge(graph, params), images, jax.random.key(0))


@partial(jax.jit, static_argnames="graph")
def reconstruct(params: nnx.State, images: jax.Array, *, graph: nnx.GraphDef) -> tuple[jax.Array, jax.Array]:
    """Latents of images, and the images decoded from them."""
    model = nnx.merge(graph, params)
    latents, _ = model.encode(images)
    return latents, jax.nn.sigmoid(model.decode(latents))


@partial(jax.jit, static_argnames=("graph", "shape"))
def sample(params: nnx.State, *, graph: nnx.GraphDef, shape: tuple[int, int]) -> jax.Array:
    latents = jax.random.normal(jax.random.key(1), shape)
    return jax.nn.sigmoid(nnx.merge(graph, params).decode(latents))


# ---------------------------------------------------------------- the loop


def train(tracker: Tracker, config: Config) -> dict[str, float]:
    """Train and record. The code that opened the tracker finishes it.

    Returns:
        What describes the run as a whole.
    """
    training, validation = load_data(config.seed)
    graph, params = nnx.split(VAE(config.latent_dim, rngs=nnx.Rngs(config.seed)))
    steps = config.epochs * steps_in_epoch(training.images, config)
    schedule = optax.cosine_decay_schedule(config.learning_rate, decay_steps=steps, alpha=0.05)
    optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=schedule)
    state = State(params, optimizer.init(params), jax.random.key(config.seed))

    rng = np.random.default_rng(config.seed)
    losses = []
    step = 0
    for epoch in range(config.epochs):
        for images in batches(training.images, config, rng):
            state, metrics = train_step(state, images, graph=graph, optimizer=optimizer)
            # Device arrays can be passed directly; nested names are joined: train/loss, train/kl, …
            tracker.log_scalars({"train": metrics}, step=step)
            step += 1

        # Steps belong to metrics: values per epoch have their own axis.
        terms = evaluate(state.params, validation.images, graph=graph)
        tracker.log_scalars({"validation": terms}, step=epoch, step_axis="epoch")
        losses.append(float(terms["loss"]))

        if epoch % config.look_every == 0 or epoch == config.epochs - 1:
            print(f"epoch {epoch:3d}: train loss {metrics['loss']:.1f}, validation loss {losses[-1]:.1f}", flush=True)
            log_look(tracker, graph, state.params, validation, epoch)

    file = io.BytesIO()
    np.savez(file, **by_name(state.params))
    tracker.log_artifact(
        {"parameters.npz": file.getvalue()},
        name="digits-vae",
        type="model",
        metadata={"latent_dim": config.latent_dim, "steps": step, "validation_loss": losses[-1]},
        aliases=["final", f"epoch-{config.epochs}"],
    )
    return {"first_validation_loss": losses[0], "last_validation_loss": losses[-1], "best_validation_loss": min(losses)}


def log_look(tracker: Tracker, graph: nnx.GraphDef, params: nnx.State, validation: Digits, epoch: int) -> None:
    """Histograms of parameters and latents, and images of the model's output.

    A log call is done with an array when it returns, so it is safe to donate it to the next step; before that step is
    the time to log parameters.
    """
    for name, values in by_name(params).items():
        tracker.log_histogram(f"parameters/{name}", values, step=epoch, step_axis="epoch")
    latents, images = reconstruct(params, validation.images, graph=graph)
    tracker.log_histogram("latents", latents, step=epoch, step_axis="epoch")

    # The first digit of each class, the same ones every time.
    _, ten = np.unique(validation.labels, return_index=True)
    pairs = np.concatenate([validation.images[ten], np.asarray(images)[ten]])
    samples = sample(params, graph=graph, shape=(30, latents.shape[1]))
    tracker.log_images(
        {
            "reconstructions": Image(sheet(pairs), caption=f"epoch {epoch}: originals above reconstructions"),
            "samples": Image(sheet(samples), caption=f"epoch {epoch}: samples from the prior"),
        },
        step=epoch,
        step_axis="epoch",
    )


def by_name(params: nnx.State) -> Mapping[str, Any]:
    """Parameters by name: conv1/kernel, conv1/bias, …"""
    return flatten_dict(nnx.to_pure_dict(params), sep="/")


def sheet(images: Any, columns: int = 10, scale: int = 6) -> np.ndarray:
    """Put images `[N, 8, 8, 1]` into rows, large enough to see."""
    tiles = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=0.5)
    rows, (height, width) = len(tiles) // columns, tiles.shape[1:3]
    grid = tiles.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)
    return grid.repeat(scale, axis=0).repeat(scale, axis=1)


# ---------------------------------------------------------------- the program


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a VAE on handwritten digits.")
    parser.add_argument("--project", default="digits")
    parser.add_argument("--epochs", type=int, default=Config.epochs)
    parser.add_argument("--batch-size", type=int, default=Config.batch_size)
    parser.add_argument("--steps-per-epoch", type=int, default=Config.steps_per_epoch, help="default: all images once")
    parser.add_argument("--latent-dim", type=int, default=Config.latent_dim)
    parser.add_argument("--learning-rate", type=float, default=Config.learning_rate)
    parser.add_argument("--seed", type=int, default=Config.seed)
    options = vars(parser.parse_args())
    project = options.pop("project")
    config = Config(**options)

    with tracking.start_run(project, config=config, tags=["vae", "example"]) as run:
        summary = train(run, config)
        run.log_summary(summary)
        url = run.url()
    report = run.finish()  # finished already: this is what became of the records, target by target

    print(f"validation loss: {summary['first_validation_loss']:.1f} -> {summary['last_validation_loss']:.1f}")
    where_to_look(run, report, url)


def where_to_look(run: tracking.Run, report: tracking.DeliveryReport, url: str | None) -> None:
    if not report:
        print("nothing was recorded (TRACKING_BACKEND=none)")
        return
    root = run.dir.parent.parent
    print(f"""
The run {run.name} is in {run.dir}
Read it in Python:

    import tracking_core as tracking
    record = tracking.open_store({str(root)!r}).run({run.id!r})
    print(record.scalars("validation/loss").value, record.image_names(), record.artifacts())
""")
    for target in tracking.open_store(root).run(run.id).targets:
        path = target.partition("?")[0].partition(":")[2]
        if target.startswith("tensorboard"):
            print(f"TensorBoard: tensorboard --logdir {path or run.dir / 'tensorboard'}")
        elif target.startswith("wandb"):
            for directory in run.dir.rglob("offline-run-*"):
                print(f"Weights & Biases: wandb sync {directory}")
    if url:
        print(f"In the browser: {url}")
    print(f"Recorded: {report}")


if __name__ == "__main__":
    main()
