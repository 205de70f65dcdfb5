"""`tracking sync --follow` on a login node: with no jax there, and with none of what only a training needs.

The process is given a `sitecustomize` that writes down what was imported when it ends, and that refuses imports, as if
the packages were not installed. That the refusals work is seen by asking for them.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.commands import COMMAND, environment
from tests.support.everything import OTHER, from_journal, killed_training
from tests.support.programs import run as run_program
from tests.support.replayed import check_tensorboard, check_wandb, from_tensorboard, from_wandb, offline
from tests.support.wandb_client import client_env

pytestmark = pytest.mark.system

JAX = ("jax", "jaxlib", "flax", "optax", "orbax")
TRAINING = (*JAX, "sklearn", "matplotlib", "torch", "tensorflow", "keras")
#: A follower of TensorBoard needs neither the other backend nor columns.
BESIDE = ("wandb", "pyarrow", "pandas", "tensorboard")
REFUSE = r"""
import atexit, importlib.abc, os, sys

class Missing(importlib.abc.MetaPathFinder):
    asked = set()
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["TEST_MISSING"].split(","):
            self.asked.add(name)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None

sys.meta_path.insert(0, Missing())

def tell(leave=os._exit):
    def told(code):
        with open(os.environ["TEST_IMPORTED"] + f".{os.getpid()}", "w") as file:
            file.write("\n".join([*sys.modules, *(f"asked {name}" for name in Missing.asked)]))
        leave(code)
    return told

# The follower leaves without exit handlers.
os._exit = tell()
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(REFUSE)
    run_program(OTHER, tmp_path)
    run_dir = killed_training(tmp_path, "r", random.Random(5), 15, 20)
    return tmp_path, run_dir, from_journal(run_dir)


def follow(folder: Path, run_dir: Path, target: str, missing: tuple[str, ...], **env: str) -> list[str]:
    """Follow until the run is at the target; returns what was imported in the end."""
    inherited = environment()
    path = f"{folder / 'site'}:{inherited.get('PYTHONPATH', '')}"
    more = {"TEST_MISSING": ",".join(missing), "TEST_IMPORTED": str(folder / "imported"), "PYTHONPATH": path, **env}
    for name in missing[:1]:
        refused = subprocess.run(
            [sys.executable, "-c", f"import {name}"], env=environment(**more), capture_output=True, text=True
        )
        assert f"No module named '{name}'" in refused.stderr
    follower = subprocess.Popen(
        [*COMMAND, "sync", "--follow", "runs", "--to", target],
        cwd=folder,
        env=environment(**more),
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while [json.loads(path.read_text())["status"] for path in (run_dir / "cursors").glob("*.json")] != ["failed"]:
        assert follower.poll() is None, follower.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    follower.send_signal(signal.SIGTERM)
    _, err = follower.communicate(timeout=60)
    assert follower.returncode == 0, err
    assert "Traceback" not in err
    return (folder / f"imported.{follower.pid}").read_text().splitlines()


def test_without_jax_installed_and_without_asking_for_it(place):
    folder, run_dir, journal = place
    seen = follow(folder, run_dir, "tensorboard:./tb", (*TRAINING, *BESIDE))
    check_tensorboard(from_tensorboard(folder, "r"), journal)
    tops = {name.partition(".")[0] for name in seen}
    assert not tops & {*TRAINING, *BESIDE}
    # tensorboardX looks for torch by itself.
    asked = {name.removeprefix("asked ") for name in seen if name.startswith("asked ")}
    assert asked <= {"torch"}
    assert "tracking_tensorboard" in tops


def test_wandb_without_jax_installed(place):
    """Whatever W&B's client asks for itself, it is served without."""
    folder, run_dir, journal = place
    env = client_env(folder / "client")
    env.pop("WANDB_DIR")
    seen = follow(folder, run_dir, "wandb://?mode=offline", TRAINING, **env)
    check_wandb(from_wandb(offline(run_dir)), journal, online=False)
    assert not {name.partition(".")[0] for name in seen} & set(TRAINING)


def test_with_jax_installed_it_is_not_imported(place):
    folder, run_dir, journal = place
    pytest.importorskip("jax", reason="needs jax to be there")
    seen = follow(folder, run_dir, "tensorboard:./tb", ())
    check_tensorboard(from_tensorboard(folder, "r"), journal)
    assert not {name.partition(".")[0] for name in seen} & set(TRAINING)
