"""The same tracker in a Flax Linen loop and in a plain JAX loop.

    python examples/linen_and_plain_jax.py

Neither loop knows what is behind the tracker, and the tracker does not care which library trains.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.training.train_state import TrainState

import tracking_core as tracking
from tracking_core import Tracker

# ---------------------------------------------------------------- Flax Linen


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.tanh(nn.Dense(32)(x))
        return nn.Dense(1)(x)


@jax.jit
def linen_step(state: TrainState, x: jax.Array, y: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
    def loss(params: optax.Params) -> jax.Array:
        return jnp.mean((state.apply_fn({"params": params}, x) - y) ** 2)

    value, gradients = jax.value_and_grad(loss)(state.params)
    return state.apply_gradients(grads=gradients), {"loss": value, "gradient_norm": optax.tree.norm(gradients)}


def fit_sine(tracker: Tracker, steps: int = 200) -> None:
    """A small network learns a sine; every step is logged."""
    x = jnp.linspace(-3.0, 3.0, 128)[:, None]
    y = jnp.sin(x)
    model = MLP()
    state = TrainState.create(
        apply_fn=model.apply, params=model.init(jax.random.key(0), x)["params"], tx=optax.adam(1e-2)
    )
    for step in range(steps):
        state, metrics = linen_step(state, x, y)
        tracker.log_scalars(metrics, step=step)


# ---------------------------------------------------------------- plain JAX


def fit_line(tracker: Tracker, steps: int = 200) -> None:
    """Linear regression, all steps in one `lax.scan`; the values are logged afterwards."""
    x = jax.random.normal(jax.random.key(0), (256, 3))
    y = x @ jnp.array([1.0, -2.0, 0.5]) + 3.0

    def loss(params: tuple[jax.Array, jax.Array]) -> jax.Array:
        weights, bias = params
        return jnp.mean((x @ weights + bias - y) ** 2)

    def one_step(
        params: tuple[jax.Array, jax.Array], _: None
    ) -> tuple[tuple[jax.Array, jax.Array], dict[str, jax.Array]]:
        value, gradients = jax.value_and_grad(loss)(params)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients)
        return params, {"loss": value, "gradient_norm": optax.tree.norm(gradients)}

    @jax.jit
    def run_all(params: tuple[jax.Array, jax.Array]) -> dict[str, jax.Array]:
        _, metrics = jax.lax.scan(one_step, params, length=steps)
        return metrics

    # Inside jit there is nothing to log yet. The scan returns one array per name, with an entry for each step.
    metrics = jax.device_get(run_all((jnp.zeros(3), jnp.zeros(()))))
    for step in range(steps):
        tracker.log_scalars({name: values[step] for name, values in metrics.items()}, step=step)


def main() -> None:
    for name, fit in (("linen", fit_sine), ("plain-jax", fit_line)):
        with tracking.start_run("two-loops", name=name) as run:
            fit(run)
        print(f"{name}: {run.finish()}")


if __name__ == "__main__":
    main()
