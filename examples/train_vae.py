"""Train a convolutional VAE on scikit-learn's handwritten digits, with everything recorded.

    python examples/train_vae.py
    TRACKING_BACKEND='tensorboard:./tb,wandb://?mode=offline' python examples/train_vae.py --epochs 10

`train` knows the five methods of `Tracker` and nothing else. Which backends are behind them is decided outside.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
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
    epochs: int = 50
    batch_size: int = 32
    steps_per_epoch: int | None = None  # None: every training image once
    latent_dim: int = 8
    learning_rate: float = 2e-3
    seed: int = 0


# ------------------------------------------------------------------ data and model


class Digits(NamedTuple):
    images: np.ndarray  # float32 [N, 8, 8, 1] in [0, 1]
    labels: np.ndarray  # int [N]


def load_data(seed: int, validation: int = 360) -> tuple[Digits, Digits]:
    """The 1797 digits, shuffled and split into training and validation."""
    digits = load_digits()
    images = (digits.images / 16.0).astype(np.float32)[..., None]
    order = np.random.default_rng(seed).permutation(len(images))
    held_out, rest = order[:validation], order[validation:]
    return Digits(images[rest], digits.target[rest]), Digits(images[held_out], digits.target[held_out])


def batches(images: np.ndarray, config: Config, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """One epoch in a new order; all batches have one size, so that the step is compiled once."""
    steps = len(images) // config.batch_size
    if config.steps_per_epoch is not None:
        steps = min(steps, config.steps_per_epoch)
    order = rng.permutation(len(images))[: steps * config.batch_size]
    for index in order.reshape(steps, config.batch_size):
        yield images[index]


class VAE(nnx.Module):
    """8x8 pixels to a Gaussian over `latent_dim` numbers, and back to the logits of the pixels."""

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
    """The negative ELBO and its two terms, in nats per image."""
    mean, logvar = model.encode(images)
    latents = mean + jnp.exp(0.5 * logvar) * jax.random.normal(key, mean.shape)
    pixels = optax.sigmoid_binary_cross_entropy(model.decode(latents), images)
    reconstruction = pixels.sum(axis=(1, 2, 3)).mean()
    kl = 0.5 * (jnp.exp(logvar) + mean**2 - 1.0 - logvar).sum(axis=-1).mean()
    return {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}


# ------------------------------------------------------------------ training


class State(NamedTuple):
    """What a training step takes, and gives back changed."""

    params: nnx.State
    opt_state: optax.OptState
    key: jax.Array
    step: jax.Array


def train(tracker: Tracker, config: Config) -> dict[str, float]:
    """Train, and record it. The tracker is whoever's opened it: it is not finished here.

    Returns:
        What describes the run as a whole.
    """
    training, validation = load_data(config.seed)
    graph, params = nnx.split(VAE(config.latent_dim, rngs=nnx.Rngs(config.seed)))
    steps = config.steps_per_epoch or len(training.images) // config.batch_size
    schedule = optax.cosine_decay_schedule(config.learning_rate, decay_steps=config.epochs * steps, alpha=0.05)
    optimizer = optax.adam(schedule)

    # The state is donated: a step reuses its memory, and the old one is gone after the call.
    @partial(jax.jit, donate_argnames="state")
    def train_step(state: State, images: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        key, noise = jax.random.split(state.key)

        def loss(params: nnx.State) -> tuple[jax.Array, dict[str, jax.Array]]:
            terms = loss_terms(nnx.merge(graph, params), images, noise)
            return terms["loss"], terms

        gradients, metrics = jax.grad(loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state)
        metrics["learning_rate"] = schedule(state.step)
        metrics["gradient_norm"] = optax.global_norm(gradients)
        return State(optax.apply_updates(state.params, updates), opt_state, key, state.step + 1), metrics

    @jax.jit
    def evaluate(params: nnx.State, images: jax.Array) -> tuple[dict[str, jax.Array], jax.Array, jax.Array]:
        model = nnx.merge(graph, params)
        latents, _ = model.encode(images)
        terms = loss_terms(model, images, jax.random.key(0))
        return terms, latents, jax.nn.sigmoid(model.decode(latents))

    @jax.jit
    def sample(params: nnx.State) -> jax.Array:
        latents = jax.random.normal(jax.random.key(1), (40, config.latent_dim))
        return jax.nn.sigmoid(nnx.merge(graph, params).decode(latents))

    # The first validation image of every class: the same ten at every epoch.
    shown = [int(np.flatnonzero(validation.labels == digit)[0]) for digit in range(10)]
    state = State(params, optimizer.init(params), jax.random.key(config.seed), jnp.zeros((), jnp.int32))
    rng = np.random.default_rng(config.seed)
    step, best = 0, float("inf")
    for epoch in range(config.epochs):
        for images in batches(training.images, config, rng):
            state, metrics = train_step(state, images)
            # Nested names are joined: train/loss, train/kl, … What the step returned may be handed over as it is.
            tracker.log_scalars({"train": metrics}, step=step)
            step += 1

        terms, latents, reconstructions = evaluate(state.params, validation.images)
        # Another axis for what is counted in epochs. Steps belong to metrics, not to one clock.
        tracker.log_scalars({"validation": terms}, step=epoch, step_axis="epoch")
        best = min(best, float(terms["loss"]))

        if epoch % 10 == 0 or epoch == config.epochs - 1:
            print(f"epoch {epoch:3d}: train loss {metrics['loss']:.2f}, validation loss {terms['loss']:.2f}")
            # Before the next step donates the parameters: afterwards they could not be read any more.
            for name, values in by_name(state.params).items():
                tracker.log_histogram(f"parameters/{name}", values, step=epoch, step_axis="epoch")
            tracker.log_histogram("latents", latents, step=epoch, step_axis="epoch")
            pairs = np.stack([validation.images[shown], reconstructions[np.array(shown)]])
            pictures = {
                "reconstructions": Image(picture(pairs), caption=f"epoch {epoch}: originals above reconstructions"),
                "samples": Image(
                    picture(np.reshape(sample(state.params), (4, 10, 8, 8, 1))), caption=f"epoch {epoch}: samples"
                ),
            }
            tracker.log_images(pictures, step=epoch, step_axis="epoch")

    last = float(terms["loss"])
    file = io.BytesIO()
    np.savez(file, **by_name(state.params))  # read it with np.load: arrays under their names, and no pickle
    tracker.log_artifact(
        {"parameters.npz": file.getvalue()},
        name="digits-vae",
        type="model",
        metadata={"validation_loss": last, "latent_dim": config.latent_dim, "steps": step},
        aliases=("final", f"epoch-{config.epochs}"),
    )
    return {"validation/best_loss": best, "validation/last_loss": last, "steps": step}


def by_name(params: nnx.State) -> dict[str, Any]:
    """Parameters as arrays by name: `conv1/kernel`, `conv1/bias`, …"""
    return flatten_dict(nnx.to_pure_dict(params), sep="/")


def picture(tiles: np.ndarray, scale: int = 6) -> np.ndarray:
    """Lay tiles `[rows, columns, H, W, 1]` out as one image `[rows * H * scale, columns * W * scale, 1]`."""
    rows, columns, height, width, _ = tiles.shape
    image = tiles.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 1)
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


# ------------------------------------------------------------------ the program


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a VAE on handwritten digits.")
    parser.add_argument("--project", default="digits")
    parser.add_argument("--epochs", type=int, default=Config.epochs)
    parser.add_argument("--batch-size", type=int, default=Config.batch_size)
    parser.add_argument("--steps-per-epoch", type=int, default=Config.steps_per_epoch)
    parser.add_argument("--latent-dim", type=int, default=Config.latent_dim)
    parser.add_argument("--learning-rate", type=float, default=Config.learning_rate)
    parser.add_argument("--seed", type=int, default=Config.seed)
    arguments = vars(parser.parse_args())
    project = arguments.pop("project")
    config = Config(**arguments)

    with tracking.start_run(project, config=config, tags=["vae", "example"]) as run:
        summary = train(run, config)
        run.log_summary(summary)
        url = run.url()


if __name__ == "__main__":
    main()
