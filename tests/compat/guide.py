"""A training that follows a guide to W&B section by section, with nothing but the import changed.

Each function is one section. It returns what a backend must hold afterwards: rows of (kind, name, step, value).
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import tracking_core.compat.wandb as wandb
from tests.compat.digits import Lab, frechet, grid


def levels(images):
    """Pixels in [0, 1] as grey levels."""
    return np.rint(np.asarray(images, np.float32) * 255).astype(np.uint8)


# ---------------------------------------------------------------- experiment tracking


def quick_start(lab: Lab):
    from tracking_core.compat.artifex import WandbLoggerCallback, WandbLoggerConfig

    config = WandbLoggerConfig(project="guide", name="quick", tags=["vae", "baseline"], config={"lr": 0.02})
    callback = WandbLoggerCallback(config)
    callback.on_train_begin(lab)
    callback.on_train_end(lab)
    return []


def basic_logging(lab: Lab):
    config = {"model_type": "vae", "latent_dim": 2, "optimizer": {"name": "adam", "lr": 0.02}}
    wandb.init(project="guide", config=config, name=f"{config['model_type']}-default", tags=["baseline"])
    rows = []
    for step, losses in enumerate(lab.losses):
        # One value is on the device still, as whoever cares for speed leaves it.
        wandb.log({"train/loss": losses["loss"], "train/step": step, "train/kl": float(losses["kl"])}, step=step)
        rows += [
            ("scalar", "train/loss", step, float(losses["loss"])),
            ("scalar", "train/step", step, step),
            ("scalar", "train/kl", step, float(losses["kl"])),
        ]
    loss, parts = lab.validate()
    wandb.log({"val/loss": loss, **{f"val/{name}": value for name, value in parts.items()}}, step=step)
    pictures = ((lab.images[:3] * 2 - 1 + 1) / 2 * 255).astype(np.uint8)
    wandb.log({"samples": [wandb.Image(one) for one in pictures]}, step=step)
    assert wandb.config.latent_dim == 2
    assert wandb.config["optimizer"]["name"] == "adam"
    wandb.config.update({"epochs": 3})
    wandb.summary["best/loss"] = loss
    assert wandb.run.summary["best/loss"] == loss
    wandb.finish()
    assert wandb.run is None
    rows += [("scalar", "val/loss", step, loss), *(("scalar", f"val/{name}", step, v) for name, v in parts.items())]
    rows += [("image", "samples", step, one) for one in pictures]
    return [*rows, ("config", "latent_dim", None, 2), ("config", "epochs", None, 3)]


def watching(lab: Lab):
    wandb.watch(lab.model, log_freq=100)
    return []


def advanced_metrics(lab: Lab):
    rows = []
    for step, losses in enumerate(lab.losses):
        total, reconstruction, kl = (float(losses[name]) for name in ("loss", "reconstruction", "kl"))
        values = {
            "loss/total": total,
            "loss/reconstruction": reconstruction,
            "optimization/learning_rate": 0.02,
            "analysis/ratio": reconstruction / (kl + 1e-8),
        }
        wandb.log(values, step=step)
        rows += [("scalar", name, step, value) for name, value in values.items()]
    return rows


def histograms(lab: Lab):
    rows = []
    for name, value in lab.parameters().items():
        wandb.log({f"histograms/{name}": wandb.Histogram(np.array(value))}, step=4)
        # Counted on the device, where it is.
        wandb.log({f"device/{name}": wandb.Histogram(value, num_bins=8)}, step=4)
        counts, edges = np.histogram(np.array(value, np.float64), bins=64)
        wandb.log({f"ready/{name}": wandb.Histogram(np_histogram=(counts, edges))}, step=4)
        rows += [("histogram", f"{kind}/{name}", 4, np.size(value)) for kind in ("histograms", "device", "ready")]
    return rows


def latent_codes(lab: Lab):
    codes = np.array(lab.model.encode(jnp.asarray(lab.images[:50])))
    wandb.log({"codes": wandb.Histogram(codes)}, step=5)
    table = wandb.Table(columns=["x", "y", "label"])
    for (x, y), label in zip(codes[:5], lab.labels[:5], strict=True):
        table.add_data(x, y, label)
    wandb.log({"codes table": table}, step=5)
    shown = [[float(x), float(y), int(label)] for (x, y), label in zip(codes[:5], lab.labels[:5], strict=True)]
    return [("histogram", "codes", 5, 100), ("table", "codes table", 5, shown)]


def latent_space(lab: Lab):
    codes = np.array(lab.model.encode(jnp.asarray(lab.images[:50])))
    data = [[x, y, label] for (x, y), label in zip(codes, lab.labels, strict=False)]
    table = wandb.Table(data=data, columns=["x", "y", "label"])
    wandb.log({"latent space": wandb.plot.scatter(table, "x", "y", "label", title="Latent space")}, step=5)
    return []


def quality(lab: Lab):
    distance = frechet(lab.images[:64], lab.model.sample(64))
    wandb.log({"quality": {"distance": distance, "samples": 64}}, step=6)
    return [("scalar", "quality/distance", 6, distance), ("scalar", "quality/samples", 6, 64)]


# ---------------------------------------------------------------- sweeps

DEFINITION = {
    "method": "bayes",
    "metric": {"name": "val/loss", "goal": "minimize"},
    "parameters": {
        "learning_rate": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1},
        "batch_size": {"values": [32, 64]},
    },
}


def sweep(lab: Lab):
    assert wandb.sweep(sweep=DEFINITION, project="guide")
    return []


def agent(lab: Lab):
    def train():
        with wandb.init() as run:
            run.log({"val/loss": lab.validate()[0] / run.config.learning_rate})

    wandb.agent(sweep_id="guide", function=train, count=2)
    return []


def multi_objective(lab: Lab):
    def train():
        with wandb.init() as run:
            begin = time.perf_counter()
            loss = lab.validate()[0]
            took = time.perf_counter() - begin
            run.log({"val/loss": loss, "performance/time": took, "combined": -loss - took})

    wandb.agent(wandb.sweep({**DEFINITION, "metric": {"name": "combined", "goal": "maximize"}}), train, count=1)
    return []


# ---------------------------------------------------------------- artifacts


def model_artifact(lab: Lab):
    artifact = wandb.Artifact(name="vae-digits", type="model", metadata={"latent_dim": 2}, description="after 4 steps")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "model")
        place.mkdir()
        np.savez(place / "params.npz", **{name.replace("/", "."): value for name, value in lab.parameters().items()})
        content = (place / "params.npz").read_bytes()
        artifact.add_dir(str(place))
    # The folder is gone by now.
    wandb.log_artifact(artifact, aliases=["best"])
    assert artifact.wait().version == "v0"
    return [("artifact", "vae-digits", "model", {"params.npz": content})]


def model_loaded(lab: Lab):
    folder = wandb.use_artifact("vae-digits:latest", type="model").download()
    assert Path(folder, "params.npz").is_file()
    return []


def dataset(lab: Lab):
    artifact = wandb.Artifact(name="digits", type="dataset", description="the first 100")
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/data.npy", lab.images[:100])
        content = Path(folder, "data.npy").read_bytes()
        artifact.add_file(f"{folder}/data.npy")
    with artifact.new_file("labels.json") as file:
        json.dump(lab.labels[:100].tolist(), file)
    wandb.log_artifact(artifact)
    labels = json.dumps(lab.labels[:100].tolist()).encode()
    return [("artifact", "digits", "dataset", {"data.npy": content, "labels.json": labels})]


def link(lab: Lab):
    model = wandb.use_artifact("vae-digits:latest")
    model.link("trained on digits")
    return []


def lineage(lab: Lab):
    wandb.init(project="guide")
    artifact = wandb.Artifact("lineage-digits", type="dataset")
    with artifact.new_file("labels.json") as file:
        json.dump(lab.labels[:10].tolist(), file)
    wandb.log_artifact(artifact)
    wandb.use_artifact("lineage-digits:latest").download()
    wandb.finish()
    return []


# ---------------------------------------------------------------- reports and pictures


def report(lab: Lab):
    page = wandb.apis.reports.Report(project="guide", title="Two runs")
    page.blocks = [wandb.apis.reports.LinePlot(x="step", y=["train/loss"])]
    page.save()
    return []


def sample_grid(lab: Lab):
    pixels = grid(lab.model.sample(16), 4)
    wandb.log({"pictures/samples": wandb.Image(pixels, caption="16 samples")}, step=7)
    return [("image", "pictures/samples", 7, levels(pixels))]


def reconstruction(lab: Lab):
    shown = jnp.concatenate([lab.images[:8], lab.model.reconstruct(jnp.asarray(lab.images[:8]))])
    pixels = jnp.asarray(grid(shown, 8))
    # It is on the device.
    wandb.log({"pictures/reconstruction": wandb.Image(pixels)}, step=7)
    return [("image", "pictures/reconstruction", 7, levels(pixels))]


def t_sne(lab: Lab):
    codes = np.array(lab.model.encode(jnp.asarray(lab.images[:20])))
    table = wandb.Table(
        data=[[*code, int(one)] for code, one in zip(codes, lab.labels, strict=False)], columns=["x", "y", "label"]
    )
    wandb.log({"pictures/t-sne": wandb.plot.scatter(table, "x", "y", "label", title="t-SNE")}, step=7)
    return []


def interpolation_video(lab: Lab):
    codes = np.linspace([-1, -1], [1, 1], 6)
    frames = levels(lab.model.decode(jnp.asarray(codes, jnp.float32)))
    wandb.log({"pictures/interpolation": wandb.Video(frames, fps=30, format="gif")}, step=7)
    return []


# ---------------------------------------------------------------- a trainer


def trainer(lab: Lab):
    config = {"experiment_name": "vae-digits-baseline", "wandb_log_frequency": 2, "latent_dim": 2}
    run = wandb.init(project="guide", config=config, name=config.get("experiment_name"))
    assert run.name == "vae-digits-baseline"
    rows = []
    for step, losses in enumerate(lab.losses):
        if step % run.config.wandb_log_frequency == 0:
            wandb.log({"train/loss": float(losses["loss"])}, step=step)
            rows.append(("scalar", "train/loss", step, float(losses["loss"])))
    # Validation counts epochs: its step goes back.
    loss, _ = lab.validate()
    samples = np.array(lab.model.sample(2))
    wandb.log({"val/epoch": 1, "val/loss": loss}, step=1)
    wandb.log({"samples": [wandb.Image(one) for one in samples]}, step=1)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "state.json").write_text(json.dumps({"steps": 4}))
        artifact = wandb.Artifact("final_model", type="model")
        artifact.add_dir(folder)
        wandb.log_artifact(artifact)
    wandb.finish()
    rows += [("scalar", "val/epoch", 1, 1), ("scalar", "val/loss", 1, loss)]
    rows += [("image", "samples", 1, levels(one)) for one in samples]
    return [*rows, ("artifact", "final_model", "model", {"state.json": b'{"steps": 4}'})]
