"""A small VAE on scikit-learn's handwritten digits, and the helpers that the guide's program leaves to the application."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

LATENT = 2


class VAE(nnx.Module):
    """From 64 pixels to a Gaussian over two numbers, and back."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.encoder = nnx.Linear(64, 2 * LATENT, rngs=rngs)
        self.decoder = nnx.Linear(LATENT, 64, rngs=rngs)

    def encode(self, images):
        return self.encoder(images.reshape(len(images), -1))[:, :LATENT]

    def decode(self, codes):
        return nnx.sigmoid(self.decoder(codes)).reshape(-1, 8, 8, 1)

    def sample(self, count):
        return self.decode(jax.random.normal(jax.random.key(1), (count, LATENT)))

    def reconstruct(self, images):
        return self.decode(self.encode(images))


def terms(model, images):
    """The loss of a batch, and its two parts."""
    codes = model.encode(images)
    reconstruction = ((model.decode(codes) - images) ** 2).sum(axis=(1, 2, 3)).mean()
    kl = 0.5 * (codes**2).sum(axis=-1).mean()
    return reconstruction + kl, {"reconstruction": reconstruction, "kl": kl}


class Lab:
    """Data, a model that was trained for a few steps, and what its losses were."""

    def __init__(self, steps: int = 4) -> None:
        pixels, labels = load_digits(return_X_y=True)
        self.images = (pixels / 16.0).astype(np.float32).reshape(-1, 8, 8, 1)
        self.labels = labels
        self.model = VAE(nnx.Rngs(0))
        graph, state = nnx.split(self.model)
        optimizer = optax.adam(0.02)

        @jax.jit
        def step(state, moments, images):
            (loss, parts), grads = jax.value_and_grad(lambda s: terms(nnx.merge(graph, s), images), has_aux=True)(state)
            updates, moments = optimizer.update(grads, moments)
            return optax.apply_updates(state, updates), moments, {"loss": loss, **parts}

        moments = optimizer.init(state)
        self.losses = []
        """Of each step: arrays that are on the device."""
        for at in range(steps):
            state, moments, losses = step(state, moments, jnp.asarray(self.images[64 * at : 64 * at + 64]))
            self.losses.append(losses)
        nnx.update(self.model, state)

    def parameters(self):
        """Name to array."""
        return {"/".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(nnx.state(self.model))}

    def validate(self):
        """Loss and parts on images that were held out."""
        loss, parts = terms(self.model, jnp.asarray(self.images[-64:]))
        return float(loss), {name: float(value) for name, value in parts.items()}


def grid(images, columns):
    """Images `[N, 8, 8, 1]` side by side: `[H, W]`."""
    images = np.asarray(images)[..., 0]
    rows = len(images) // columns
    return images.reshape(rows, columns, 8, 8).transpose(0, 2, 1, 3).reshape(rows * 8, columns * 8)


def frechet(one, other):
    """Squared distance of the means and the spreads of two sets of images, pixel by pixel."""
    one, other = (np.asarray(part).reshape(len(part), -1) for part in (one, other))
    return float(((one.mean(0) - other.mean(0)) ** 2).sum() + ((one.std(0) - other.std(0)) ** 2).sum())
