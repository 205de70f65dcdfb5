"""What a measurement was made on, where numbers are kept, and how programs are measured in turn."""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
SOURCES = (ROOT, ROOT / "adapters")
"""What is measured stands here, whatever is installed: programs find these two first."""
PACKAGES = (
    "tracking-core", "wandb", "tensorboardX", "tensorboard", "trackio", "mlflow", "mlflow-skinny", "jax", "numpy",
    "msgspec", "pyarrow",
)  # fmt: skip


def facts() -> dict[str, object]:
    """Processor, cores, versions: what a number means nothing without."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "processor": model,
        "cores": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "python": platform.python_version(),
        "system": platform.system(),
        "versions": versions,
    }


def save(name: str, results: Mapping[str, object]) -> Path:
    """Keep numbers with the facts of the machine."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": facts(), "results": results}, indent=2) + "\n")
    return path.relative_to(ROOT)


def environment(home: str) -> dict[str, str]:
    """Environment of a measured program: this checkout, a home of its own, no settings of ours or of wandb."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TRACKING_", "WANDB_"))}
    path = os.pathsep.join(str(place) for place in SOURCES)
    own = {
        "HOME": home,
        "PYTHONPATH": path,
        "WANDB_ERROR_REPORTING": "false",
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu"),
    }
    return {**kept, **own}


def check_sources() -> None:
    """Make sure that a program measures this checkout, not another that is installed."""
    for package in ("tracking_core", "tracking_tensorboard", "tracking_wandb"):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None or ROOT not in Path(spec.origin).parents:
            raise SystemExit(f"{package} would come from {spec and spec.origin}, not from {ROOT}")


def in_turn(module: str, contenders: Sequence[str], rounds: int) -> dict[str, dict[str, float]]:
    """Run `python -m module --only NAME` for every contender in every round; medians over the rounds.

    Each program prints one JSON object of numbers.
    """
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name in contenders:
            with tempfile.TemporaryDirectory() as place:
                done = subprocess.run(
                    [sys.executable, "-m", module, "--only", name],
                    cwd=place,
                    env=environment(place),
                    capture_output=True,
                    text=True,
                    timeout=600,
                    check=False,
                )
                if done.returncode:
                    raise SystemExit(f"{name} failed:\n{done.stderr}")
                seen[name].append(json.loads(done.stdout.splitlines()[-1]))
    return {name: {key: statistics.median(one[key] for one in runs) for key in runs[0]} for name, runs in seen.items()}


def one_of(contenders: Mapping[str, Callable[[], dict[str, float]]]) -> bool:
    """The command line of a program that `in_turn` calls; False when it was started by hand."""
    if "--only" not in sys.argv:
        return False
    check_sources()
    name = sys.argv[sys.argv.index("--only") + 1]
    print(json.dumps(contenders[name]()))
    return True


def alone(name: str, measure: Callable[[int], Any], table: Callable[[Any], str]) -> None:
    """The command line of one measurement: measure, print the table, keep the numbers."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds; the median over them is shown")
    results = measure(parser.parse_args().rounds)
    print(table(results))
    print("\nkept in", save(name, results))


def render(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [f"### {title}", "", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
