"""The examples run as a newcomer runs them, and what they recorded is read back: through the store, and without it."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

import tracking_core as tracking
from tests.support.programs import REPO, journal_events
from tracking_core.testing import FakeTracker

EXAMPLES = REPO / "examples"
METHODS = {"log_scalars", "log_images", "log_histogram", "log_artifact", "finish"}
EPOCHS, STEPS = 3, 8
SHORT = ("--epochs", str(EPOCHS), "--steps-per-epoch", str(STEPS), "--latent-dim", "4", "--project", "short")
PARAMETERS = {
    "conv1/kernel": (3, 3, 1, 32),
    "conv1/bias": (32,),
    "conv2/kernel": (3, 3, 32, 64),
    "conv2/bias": (64,),
    "to_latent/kernel": (256, 8),
    "to_latent/bias": (8,),
    "from_latent/kernel": (4, 256),
    "from_latent/bias": (256,),
    "deconv1/kernel": (3, 3, 64, 32),
    "deconv1/bias": (32,),
    "deconv2/kernel": (3, 3, 32, 1),
    "deconv2/bias": (1,),
}

# Deprecations inside JAX, Flax and Optax are theirs.
pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def run_example(name: str, cwd: Path, *options: str, **environment: str) -> str:
    """Run an example in its own process and an empty directory; returns what it printed."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("TRACKING_", "WANDB_"))}
    clean |= {"JAX_PLATFORMS": "cpu", "WANDB_ERROR_REPORTING": "false", **environment}
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *options],
        cwd=cwd,
        env=clean,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "RuntimeWarning" not in done.stderr
    assert "tracking:" not in done.stderr
    return done.stdout


def load_example(name: str, monkeypatch):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def journal(directory: Path) -> list[dict]:
    """The events of a run, by nothing but the documented format: JSON lines that end in their own crc32."""
    events = []
    for path in sorted((directory / "journal").glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            head, _, tail = line.rpartition(b',"crc":"')
            assert f"{zlib.crc32(head):08x}" == tail[:8].decode()
            events.append(json.loads(line))
    return sorted(events, key=lambda event: event["seq"])


def series(events: list[dict], name: str) -> list[tuple[str, int, float]]:
    """(axis, step, value) of a scalar, in the order in which it was logged."""
    scalars = [event for event in events if event["kind"] == "scalars"]
    return [(e["axis"], e["step"], e["values"][name]) for e in scalars if name in e["values"]]


def run_directories(root: Path) -> list[Path]:
    return sorted(path.parent for path in root.glob("*/*/run.json"))


# ---------------------------------------------------------------- the VAE


class Short:
    """One short training, recorded by all first-party backends."""

    def __init__(self, cwd: Path, compiled: dict[str, str]) -> None:
        self.cwd = cwd
        self.root = cwd / "store"
        self.output = run_example(
            "train_vae.py",
            cwd,
            *SHORT,
            **compiled,
            TRACKING_DIR=str(self.root),
            TRACKING_BACKEND="tensorboard:./tb,wandb://?mode=offline",
        )
        (self.dir,) = run_directories(self.root)
        self.events = journal(self.dir)
        self.record = tracking.open_store(self.root).run(self.dir.name)

    def picture(self, name: str) -> np.ndarray:
        """The last picture of a name, straight from its file."""
        event = [event for event in self.events if event["kind"] == "images"][-1]
        (entry,) = event["images"][name]
        return np.array(Pillow.open(self.dir / "media" / entry["file"]))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """What makes two trainings of one shape compile once."""
    folder = str(tmp_path_factory.mktemp("compiled"))
    return {"JAX_COMPILATION_CACHE_DIR": folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


@pytest.fixture(scope="module")
def short(tmp_path_factory, compiled):
    return Short(tmp_path_factory.mktemp("vae"), compiled)


def test_losses_fall_and_stand_under_their_names_and_axes(short):
    names = {"loss", "reconstruction", "kl", "learning_rate", "gradient_norm"}
    train = {name: series(short.events, f"train/{name}") for name in names}
    for points in train.values():
        assert [(axis, step) for axis, step, _ in points] == [("step", step) for step in range(EPOCHS * STEPS)]
    loss = [value for _, _, value in train["loss"]]
    assert np.mean(loss[-STEPS:]) < 0.8 * np.mean(loss[:STEPS])
    assert all(np.isfinite(value) and value > 0 for _, _, value in train["gradient_norm"])
    rates = [value for _, _, value in train["learning_rate"]]
    assert rates[0] == pytest.approx(4e-3)
    assert rates == sorted(rates, reverse=True)
    sums = [a + b for (*_, a), (*_, b) in zip(train["reconstruction"], train["kl"], strict=True)]
    assert loss == pytest.approx(sums, rel=1e-5)

    for name in ("loss", "reconstruction", "kl"):
        points = series(short.events, f"validation/{name}")
        assert [(axis, step) for axis, step, _ in points] == [("epoch", epoch) for epoch in range(EPOCHS)]
    validation = [value for *_, value in series(short.events, "validation/loss")]
    assert validation[-1] < 0.95 * validation[0]


def test_the_store_reads_what_the_journal_holds(short):
    record = short.record
    assert record.status == "finished"
    assert record.damage() == []
    assert record.config["latent_dim"] == 4
    assert record.config["epochs"] == EPOCHS
    assert record.project == "short"
    assert set(record.tags) == {"vae", "example"}
    for name, axis in (("train/loss", "step"), ("validation/loss", "epoch")):
        found = record.scalars(name)
        assert [(found.axis, *point) for point in found] == series(short.events, name)
        assert found.axis == axis
    assert [step for step, _ in record.images("samples")] == [0, 2]
    assert record.summary()["last_validation_loss"] == record.scalars("validation/loss").last
    assert record.summary()["first_validation_loss"] == record.scalars("validation/loss").value[0]
    assert [event["status"] for event in short.events if event["kind"] == "finish"] == ["finished"]


def test_originals_stand_above_reconstructions(short):
    from sklearn.datasets import load_digits

    for event in [event for event in short.events if event["kind"] == "images"]:
        assert event["axis"] == "epoch"
        assert event["images"]["reconstructions"][0]["caption"] == (
            f"epoch {event['step']}: originals above reconstructions"
        )
        assert "samples" in event["images"]["samples"][0]["caption"]
    # Tiles of 8x8 pixels with a border of one, each pixel six wide: undone, the digits must come out exactly.
    picture = short.picture("reconstructions")
    assert picture.shape == (2 * 60, 10 * 60)
    tiles = picture[::6, ::6].reshape(2, 10, 10, 10).swapaxes(1, 2)[:, :, 1:-1, 1:-1]
    digits = load_digits()
    known = np.rint(digits.images / 16 * 255).astype(np.uint8)
    for label, tile in enumerate(tiles[0]):
        assert (known[digits.target == label] == tile).all(axis=(1, 2)).any()
    # After two dozen steps the model knows where the ink is; it cannot know it exactly.
    alike = [np.corrcoef(pair.reshape(2, 64))[0, 1] for pair in tiles.swapaxes(0, 1)]
    assert 0.4 < np.mean(alike) < 0.99
    assert short.picture("samples").shape == (3 * 60, 10 * 60)


def test_the_artifact_holds_the_final_parameters(short):
    folder = short.root / "short" / "artifacts" / "model" / "digits-vae"
    manifest = json.loads((folder / "v0.json").read_text())
    assert {path.name for path in (folder / "aliases").iterdir()} == {"final", f"epoch-{EPOCHS}"}
    assert manifest["metadata"]["steps"] == EPOCHS * STEPS
    sha256 = manifest["files"]["parameters.npz"]["sha256"]
    content = (short.root / ".blobs" / "sha256" / sha256[:2] / sha256[2:]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == sha256
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        parameters = dict(file)
    assert {name: array.shape for name, array in parameters.items()} == PARAMETERS

    (stored,) = short.record.artifacts()
    assert stored.read("parameters.npz") == content
    # Parameters are donated again and again: the last histograms must be of the very arrays that were saved.
    for name, array in parameters.items():
        (_, first), (epoch, last) = short.record.histograms(f"parameters/{name}")
        assert epoch == EPOCHS - 1
        assert last.count == array.size
        assert (last.min, last.max) == (array.min(), array.max())
        assert first != last
    assert [step for step, _ in short.record.histograms("latents")] == [0, 2]


def test_tensorboard_and_wandb_have_the_same_losses(short):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from tracking_wandb.offline.run import read_offline_run

    expected = [(step, value) for _, step, value in series(short.events, "train/loss")]
    (folder,) = (short.cwd / "tb").iterdir()
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    assert [(e.step, e.value) for e in accumulator.Scalars("train/loss")] == [
        (step, float(np.float32(value))) for step, value in expected
    ]
    (offline,) = short.dir.rglob("offline-run-*")
    rows = read_offline_run(offline).history
    assert [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row] == expected


def test_it_says_where_to_look(short):
    assert str(short.dir) in short.output
    assert f"tensorboard --logdir {short.cwd / 'tb'}" in short.output
    (line,) = [line for line in short.output.splitlines() if "wandb sync" in line]
    assert list(Path(line.rpartition("wandb sync ")[2]).glob("run-*.wandb"))
    # The lines to paste into Python do run.
    snippet = "\n".join(line.strip() for line in short.output.splitlines() if line.startswith("    "))
    done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, timeout=60, check=True)
    assert "reconstructions" in done.stdout
    assert "digits-vae" in done.stdout


def test_with_the_backend_none_nothing_is_written(tmp_path, compiled):
    settings = {"TRACKING_BACKEND": "none", "TRACKING_DIR": str(tmp_path / "store")}
    output = run_example("train_vae.py", tmp_path, *SHORT, **compiled, **settings)
    assert "nothing was recorded" in output
    assert list(tmp_path.rglob("*")) == []


class FiveMethods:
    """A tracker with what the protocol asks for, and nothing else."""

    def __init__(self, tracker) -> None:
        for method in METHODS:
            setattr(self, method, getattr(tracker, method))


def test_the_loop_donates_its_state_and_needs_five_methods(monkeypatch):
    import jax

    example = load_example("train_vae", monkeypatch)
    real, donated = example.train_step, []

    def train_step(state, *args, **keywords):
        result = real(state, *args, **keywords)
        donated.append(all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params)))
        return result

    monkeypatch.setattr(example, "train_step", train_step)
    fake = FakeTracker()
    summary = example.train(FiveMethods(fake), example.Config(epochs=2, steps_per_epoch=2))
    assert donated == [True] * 4
    assert [step for step, _ in fake.scalars["train/loss"]] == [0, 1, 2, 3]
    assert summary["last_validation_loss"] == fake.scalars_on("epoch")["validation/loss"][-1][1]
    assert fake.status == "running"


def test_the_loop_knows_nothing_but_the_protocol():
    tree = ast.parse((EXAMPLES / "train_vae.py").read_text())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    imported = [
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tracking")
        for alias in node.names
    ]
    # The protocol, and the one value of it that carries a caption.
    assert imported == [("tracking_core", "Image"), ("tracking_core", "Tracker")]

    reached, waiting = {}, ["train"]
    while waiting:
        name = waiting.pop()
        if name in functions and name not in reached:
            reached[name] = functions[name]
            waiting += [node.id for node in ast.walk(functions[name]) if isinstance(node, ast.Name)]
    assert {"train", "log_look", "train_step"} <= set(reached)
    assert "main" not in reached

    used = set()
    for function in reached.values():
        arguments = function.args.args + function.args.kwonlyargs
        annotations = {a.arg: ast.unparse(a.annotation) for a in arguments if a.annotation}
        assert annotations.get("tracker", "Tracker") == "Tracker"
        for node in ast.walk(function):
            assert not isinstance(node, (ast.Import, ast.ImportFrom))
            # `tracking` itself, with start_run and all, belongs to main().
            assert not (isinstance(node, ast.Name) and node.id in {"tracking", "run"})
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tracker":
                used.add(node.attr)
    # Whoever opens a tracker finishes it: not the loop.
    assert used == METHODS - {"finish"}


# ---------------------------------------------------------------- the smaller ones


def test_linen_and_plain_jax_log_alike(tmp_path):
    output = run_example("linen_and_plain_jax.py", tmp_path)
    directories = run_directories(tmp_path / "tracking_runs")
    assert len(directories) == 2
    for directory in directories:
        events = journal(directory)
        for name in ("loss", "gradient_norm"):
            points = series(events, name)
            assert [(axis, step) for axis, step, _ in points] == [("step", step) for step in range(200)]
        losses = [value for *_, value in series(events, "loss")]
        assert losses[-1] < 0.05 * losses[0]
    runs = tracking.open_store(tmp_path / "tracking_runs").runs("two-loops", status="finished")
    assert {run.name for run in runs} == {"linen", "plain-jax"}
    assert all(f"{name}: local: " in output for name in ("linen", "plain-jax"))


def test_the_library_records_for_whoever_hands_it_a_tracker(tmp_path):
    output = run_example("library_with_tracker.py", tmp_path, TRACKING_DIR=str(tmp_path / "store"))
    assert "tested" in output
    # Of three uses one records into the store: the others have no tracker, and a fake.
    (directory,) = run_directories(tmp_path / "store")
    events = journal(directory)
    inertia = [value for *_, value in series(events, "kmeans/inertia")]
    assert len(inertia) == 20
    assert inertia == sorted(inertia, reverse=True)
    record = tracking.open_store(tmp_path / "store").run(directory.name)
    assert record.status == "finished"
    assert [step for step, _ in record.histograms("kmeans/distances")] == list(range(20))
    assert all(histogram.count == 150 for _, histogram in record.histograms("kmeans/distances"))
    centres = sorted(record.summary()["centres"])
    assert np.allclose(centres, [[-0.1, 3.0], [0.0, 0.0], [3.0, 0.0]], atol=0.2)


def test_the_library_can_be_tested_with_a_fake(monkeypatch):
    example = load_example("library_with_tracker", monkeypatch)
    fake = FakeTracker()
    points = example.three_heaps()
    recorded = example.kmeans(points, 3, steps=5, tracker=fake)
    assert np.array_equal(recorded, example.kmeans(points, 3, steps=5))
    assert list(fake.scalars) == ["kmeans/inertia"]
    assert list(fake.histograms) == ["kmeans/distances"]
    assert fake.status == "running"
    example.test_the_inertia_never_grows()


# ---------------------------------------------------------------- killed and resumed


def counted(events: list[dict], name: str) -> list[tuple[str, int, float]]:
    """(axis, step, value) of a scalar, without what was taken back: as docs/formats.md says it."""
    truncations = [event for event in events if event["kind"] == "truncate"]

    def is_superseded(event: dict) -> bool:
        for truncation in truncations:
            cut = truncation["writers"].get(event["writer_file"])
            if cut is None or event["seq"] > cut["last"]:
                continue
            if event["axis"] == truncation["axis"]:
                if event["step"] > truncation["step"]:
                    return True
            elif cut["from"] is not None and event["seq"] >= cut["from"]:
                return True
        return False

    return series([event for event in events if event["kind"] != "scalars" or not is_superseded(event)], name)


def test_a_training_that_was_killed_twice_ends_as_one_that_was_not(tmp_path):
    output = run_example("resume_after_kill.py", tmp_path)
    killed, undisturbed = run_directories(tmp_path / "tracking_runs")
    assert (killed.name[:7], undisturbed.name[:12]) == ("killed-", "undisturbed-")
    events, expected = journal_events(killed), journal_events(undisturbed)

    # Three attempts, of which the first two never came to say how they ended.
    writers = sorted({event["writer_file"] for event in events})
    assert len(writers) == 3
    assert [event["writer_file"] for event in events if event["kind"] == "finish"] == writers[2:]
    raw = [[step for _, step, _ in series([e for e in events if e["writer_file"] == writer], "train/loss")]
           for writer in writers]  # fmt: skip
    assert raw == [list(range(31)), list(range(181)), list(range(150, 300))]
    assert [(e["axis"], e["step"]) for e in events if e["kind"] == "truncate"] == [("step", -1), ("step", 149)]

    for name, axis, count in (
        ("train/loss", "step", 300), ("train/gradient_norm", "step", 300), ("validation/accuracy", "epoch", 13)
    ):  # fmt: skip
        points = counted(events, name)
        assert [(axis, place) for place in range(count)] == [(a, step) for a, step, _ in points]
        # Bit for bit: parameters and optimiser come from the checkpoint, and the order of the data from the step.
        assert points == series(expected, name)
        found = tracking.open_store(tmp_path / "tracking_runs").run(killed.name).scalars(name)
        assert [(found.axis, *point) for point in found] == points
    losses = [value for *_, value in counted(events, "train/loss")]
    assert losses[-1] < 0.2 * losses[0]
    assert counted(events, "validation/accuracy")[-1][2] > 0.9

    assert "killed after step 180; the newest checkpoint is 149" in output
    assert "train/loss: 300 steps, each once; 62 rows were superseded; equal to the undisturbed training" in output
    snippet = "\n".join(line.strip() for line in output.splitlines() if line.startswith("    "))
    done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count("train/loss") == 2
