"""The example of a third-party adapter: within its limits, on public names alone, and true to the contract.

It is taken from its source here, without being installed.
"""

from __future__ import annotations

import ast
import importlib
import sys
import tomllib

import numpy as np
import pytest

import tracking_core
from tests.support.programs import REPO
from tracking_core.backends.plugins import Adapter
from tracking_core.backends.targets import parse_target
from tracking_core.testing import ContractSuite

ROOT = REPO / "examples" / "third_party_adapter"
SOURCES = sorted((ROOT / "tracking_csv").rglob("*.py"))
for place in (ROOT, ROOT / "tests"):
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))

tracking_csv = importlib.import_module("tracking_csv")
CsvHarness = importlib.import_module("csv_harness").CsvHarness


class SourceHarness(CsvHarness):
    """The example's own harness, on the module itself."""

    def plugin(self):
        return tracking_csv


class TestCsvFromSource(ContractSuite):
    harness = SourceHarness()


def test_it_is_at_most_sixty_lines():
    assert SOURCES
    assert sum(len(path.read_text().splitlines()) for path in SOURCES) <= 60


def test_its_contract_test_is_ten_lines():
    assert len((ROOT / "tests" / "test_contract.py").read_text().splitlines()) <= 12


PUBLIC = {
    "tracking_core": set(tracking_core.__all__),
    "tracking_core.values": set(tracking_core.values.__all__),
    "tracking_core.testing": set(tracking_core.testing.__all__),
    "tracking_core.naming": {name for name in vars(tracking_core.naming) if not name.startswith("_")},
}


@pytest.mark.parametrize("path", [*SOURCES, *sorted((ROOT / "tests").glob("*.py"))], ids=lambda path: path.name)
def test_it_uses_public_names_alone(path):
    tree = ast.parse(path.read_text())
    short = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tracking_core"):
            assert node.module in PUBLIC, f"from {node.module} import …"
            for name in node.names:
                assert name.name in PUBLIC[node.module], f"from {node.module} import {name.name}"
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name.startswith("tracking_core"):
                    assert name.name in PUBLIC, f"import {name.name}"
                    short[name.asname or name.name] = name.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in short:
            assert node.attr in PUBLIC[short[node.value.id]], f"{short[node.value.id]}.{node.attr}"


def test_its_entry_point_names_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == "tracking-csv"
    assert project["entry-points"]["tracking_core.adapters"] == {"csv": "tracking_csv"}
    assert project["dependencies"] == ["tracking-core"]


def test_its_files_are_as_its_readme_says(tmp_path):
    target = parse_target(f"csv:{tmp_path}/out")
    tracker = Adapter(tracking_csv, "csv").open(target, tracking_core.RunInfo(id="run-1", name="one"))
    tracker.log_scalars({"train/loss": 0.1, "nan": float("nan")}, step=3, wall_time=1.5)
    tracker.log_images({"x": np.zeros((2, 2), np.uint8)}, step=3)
    tracker.log_histogram("h", [1.0, 2.0], step=1, step_axis="epoch", bins=1, wall_time=2.5)
    tracker.log_artifact({"a/b.txt": b"hello"}, name="files", aliases=["best"])
    tracker.finish()
    run = tmp_path / "out" / "run-1"
    assert (run / "scalars.csv").read_text() == "train/loss,step,3,1.5,0.1\nnan,step,3,1.5,nan\n"
    assert (run / "histograms.jsonl").read_text() == '["h", "epoch", 1, 2.5, [2], [1.0, 2.0]]\n'
    assert len(list((run / "images").glob("*.png"))) == 1
    [copied] = run.glob("artifacts/files-*/a/b.txt")
    assert copied.read_bytes() == b"hello"
