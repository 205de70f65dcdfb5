"""What a measurement was made on, where numbers are kept, and how programs are measured in turn."""

from __future__ import annotations

import datetime
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

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("tracking-core", "wandb", "tensorboardX", "tensorboard", "jax", "numpy", "msgspec")


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
        "python": platform.python_version(),
        "system": platform.system(),
        "versions": versions,
    }


def save(name: str, results: Mapping[str, object]) -> Path:
    """Keep numbers with the facts of the machine."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": facts(), "results": results}, indent=2) + "\n")
    return path.relative_to(Path(__file__).parent.parent)


def in_turn(module: str, contenders: Sequence[str], rounds: int) -> dict[str, dict[str, float]]:
    """Run `python -m module --only NAME` for every contender in every round; medians over the rounds.

    Each program prints one JSON object of numbers.
    """
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name in contenders:
            with tempfile.TemporaryDirectory() as place:
                env = {k: v for k, v in os.environ.items() if not k.startswith(("TRACKING_", "WANDB_"))}
                done = subprocess.run(
                    [sys.executable, "-m", module, "--only", name],
                    cwd=place,
                    env={
                        **env,
                        "HOME": place,
                        "PYTHONPATH": str(RESULTS.parent.parent),
                        "WANDB_ERROR_REPORTING": "false",
                    },
                    capture_output=True,
                    text=True,
                    timeout=600,
                    check=False,
                )
                if done.returncode:
                    raise SystemExit(f"{name} failed:\n{done.stderr}")
                seen[name].append(json.loads(done.stdout.splitlines()[-1]))
    return {name: {key: statistics.median(one[key] for one in runs) for key in runs[0]} for name, runs in seen.items()}


def one_of(contenders: Mapping[str, Callable[[], dict[str, float]]]) -> None:
    """The command line of a program that `in_turn` calls."""
    name = sys.argv[sys.argv.index("--only") + 1]
    print(json.dumps(contenders[name]()))


def render(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [f"### {title}", "", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
