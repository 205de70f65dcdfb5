"""The wheel, as a user gets it: built, installed into clean environments, and trained with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support.bucket_server import BucketServer

pytestmark = pytest.mark.wheel
REPO = Path(__file__).resolve().parents[2]

LOOP = """
import sys
import numpy as np
import tracking_core as tracking

with tracking.start_run("smoke", name="smoke", config={"lr": 0.1}, strict=True) as run:
    for step in range(20):
        run.log_scalars({"train/loss": 1.0 / (step + 1)}, step=step)
    run.log_images({"image": np.zeros((8, 8), np.uint8)}, step=19)
    run.log_histogram("weights", np.linspace(0.0, 1.0, 100), step=19)
    run.log_artifact({"weights.bin": b"123"}, name="weights", type="model")
    run.log_scalars({"val/loss": 0.5}, step=1, step_axis="epoch")
report = run.finish()
print(report)
assert report.ok
"""


def call(*command, cwd=None, env=None, timeout=600):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TRACKING_", "WANDB_", "PYTHONPATH"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**clean, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(source: Path, out: Path) -> Path:
    # A copy: building must not depend on what lies in the checkout, nor leave anything in it.
    copy = out / "source"
    ignore = shutil.ignore_patterns(".venv", ".git", "tracking_runs", "__pycache__", "site", "dist", ".*_cache")
    shutil.copytree(source, copy, ignore=ignore)
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, copy)
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    return build(REPO, tmp_path_factory.mktemp("wheel"))


def environment(place: Path, *requirements) -> Path:
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    call(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements)
    return python


def test_it_holds_the_three_packages_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert top == {"tracking_core", "tracking_tensorboard", "tracking_wandb"}
    assert {name for name in names if name.endswith("py.typed")} == {f"{package}/py.typed" for package in top}
    assert not [name for name in names if name.endswith((".pyc", ".so"))]


def test_it_trains_without_any_extra(wheel, tmp_path):
    python = environment(tmp_path / "env", wheel)
    call(python, "-c", LOOP, cwd=tmp_path)
    (run,) = tmp_path.glob("tracking_runs/smoke/*/run.json")
    lines = [json.loads(line) for path in run.parent.glob("journal/*.jsonl") for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "scalars"] == [*range(20), 1]
    names = {"jax", "wandb", "tensorboardX", "pyarrow"}
    installed = {entry["name"] for entry in json.loads(call(python, "-m", "pip", "list", "--format=json"))}
    assert not names & installed
    missing = subprocess.run(
        [python, "-c", LOOP],
        cwd=tmp_path,
        env={**os.environ, "TRACKING_BACKEND": "wandb"},
        capture_output=True,
        text=True,
    )
    assert missing.returncode != 0
    assert "pip install 'tracking-core[wandb]'" in missing.stderr
    assert "local" in call(python.parent / "tracking", "backends", cwd=tmp_path)


def test_it_trains_with_tensorboard(wheel, tmp_path):
    python = environment(tmp_path / "env", f"{wheel}[tensorboard]")
    call(python, "-c", LOOP, cwd=tmp_path, env={"TRACKING_BACKEND": "tensorboard:./tb"})
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (directory,) = {path.parent for path in tmp_path.glob("tb/**/*tfevents*")}
    events = EventAccumulator(str(directory), size_guidance={"tensors": 0, "scalars": 0}).Reload()
    tags = events.Tags()
    assert {"train/loss", "val/loss"} <= {*tags["scalars"], *tags["tensors"]}


def test_it_trains_with_wandb(wheel, tmp_path):
    python = environment(tmp_path / "env", f"{wheel}[wandb]")
    call(python, "-c", LOOP, cwd=tmp_path, env={"TRACKING_BACKEND": "wandb://?mode=offline", "HOME": str(tmp_path)})
    (log,) = tmp_path.glob("**/offline-run-*/*.wandb")
    from tracking_wandb.offline.run import read_offline_run

    run = read_offline_run(log)
    assert [row["train/loss"] for row in run.history if "train/loss" in row] == [1 / n for n in range(1, 21)]
    assert run.exit_code == 0


INSTALL = 300
"""Seconds within which everything there is must be installed."""


def with_old_pip(place: Path, requirement: str) -> Path:
    """With the pip that the venv of Python 3.11 brings, whichever this one brings."""
    python = environment(place, "pip==23.2.1")
    call(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement, timeout=INSTALL)
    assert "pip 23.2.1 " in call(python, "-m", "pip", "--version")
    return python


def with_uv(place: Path, requirement: str) -> Path:
    tools = environment(place.with_name("tools"), "uv")
    venv.create(place)
    python = place / "bin" / "python"
    call(tools.parent / "uv", "pip", "install", "--quiet", "--python", python, requirement, timeout=INSTALL)
    return python


@pytest.mark.parametrize("install", [with_old_pip, with_uv])
def test_everything_installs_together_and_is_used(wheel, tmp_path, install):
    python = install(tmp_path / "env", f"{wheel}[all]")
    listed = "import importlib.metadata as m; print(sorted({d.name.lower() for d in m.distributions()}))"
    installed = call(python, "-c", listed)
    extras = ("tensorboardx", "wandb", "jax", "flax", "imageio", "pyarrow", "matplotlib", "fsspec", "s3fs", "gcsfs")
    assert not [name for name in extras if f"'{name}'" not in installed], installed
    # s3fs and boto3 hold botocore to versions of which older pips find no pair.
    assert "'boto3'" not in installed
    server = BucketServer()
    try:
        bucket = server.make_bucket("logs")
        backends = "tensorboard:./tb,tensorboard:s3://logs/tb,wandb://?mode=offline"
        # Buckets are found as the clients find them.
        env = {**server.environ, "TRACKING_BACKEND": backends, "HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
        call(python, "-c", LOOP, cwd=tmp_path, env=env)
        (key,) = bucket.listed("tb/")
        there = bucket.download("tb", tmp_path / "there")
    finally:
        server.stop()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for directory in ((there / key.removeprefix("tb/")).parent, *{path.parent for path in tmp_path.glob("tb/*/*")}):
        events = EventAccumulator(str(directory), size_guidance={"scalars": 0}).Reload()
        assert [event.step for event in events.Scalars("train/loss")] == list(range(20))
    assert len(list(tmp_path.glob("**/offline-run-*/*.wandb"))) == 1
    assert list(tmp_path.glob("tracking_runs/smoke/*/run.json"))
    call(python, "-c", "import jax.numpy as jnp, flax, optax; assert float(jnp.ones(3).sum()) == 3.0", env=env)


def test_a_third_party_adapter_installs_beside_it(wheel, tmp_path):
    csv_wheel = build(REPO / "examples" / "third_party_adapter", tmp_path / "csv")
    python = environment(tmp_path / "env", wheel, csv_wheel)
    call(python, "-c", LOOP, cwd=tmp_path, env={"TRACKING_BACKEND": "csv:./out"})
    assert "csv" in call(python.parent / "tracking", "backends", cwd=tmp_path)
    call(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "pytest")
    tests = shutil.copytree(REPO / "examples" / "third_party_adapter" / "tests", tmp_path / "contract")
    out = call(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests, cwd=tmp_path)
    assert " passed" in out
    files = [path for path in tmp_path.glob("out/**/*.csv")]
    assert len(files) == 1
    assert files[0].read_text().count("train/loss") == 20
