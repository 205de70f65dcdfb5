"""A training whose working directory was removed: with absolute places it goes on as any other."""

from __future__ import annotations

import pytest

import tracking_core as tracking
from tests.support.programs import run as run_program
from tests.support.programs import scalar_rows
from tracking_core.backends.plugins import find_adapter

GONE = """
import os
os.mkdir("gone")
os.chdir("gone")
import tracking_core as tracking
os.rmdir(os.getcwd())
try:
    os.getcwd()
except FileNotFoundError:
    pass
else:
    raise SystemExit("it is still there")
"""
LOG = """
import numpy as np
with tracking.start_run("p", root={root!r}, run_id="r", name="r", resume="allow", backends={backend!r},
                        delivery={delivery!r}) as run:
    for step in range(50):
        run.log_scalars({{"x": float(step)}}, step=step)
    run.log_images({{"i": np.zeros((4, 4), np.uint8)}}, step=3)
    run.log_artifact({{"w": b"1"}}, name="weights")
    report = run.flush()
report = run.finish()
assert report.ok, str(report)
"""
QUIET = """
from tracking_core.base import problems as troubles
seen = []
troubles.listeners.append(lambda *what: seen.append(what))
"""


def gone(body, place, **env):
    return run_program(GONE + QUIET + body + "\nassert not seen, seen", place, **env)


@pytest.mark.parametrize("delivery", ["process", "thread", "inline"])
@pytest.mark.parametrize("target", ["local", "tensorboard"])
def test_absolute_places_are_enough(tmp_path, target, delivery):
    backend = "local" if target == "local" else f"tensorboard:{tmp_path / 'tb'}"
    body = LOG.format(root=str(tmp_path / "runs"), backend=backend, delivery=delivery)
    gone(body, tmp_path)
    run_dir = tmp_path / "runs/p/r"
    assert [step for _, _, step, _ in scalar_rows(run_dir)] == list(range(50))
    if target == "tensorboard":
        info = tracking.RunInfo(id="r", name="r", project="p", dir=run_dir)
        stored = find_adapter("tensorboard").harness().read(tmp_path, info).scalars
        assert [row.step for row in stored if row.name == "x"] == list(range(50))
    # And it is continued there.
    gone(body, tmp_path)
    assert tracking.open_store(tmp_path / "runs").run("r").status == "finished"


def test_it_is_removed_while_the_run_goes_on(tmp_path):
    body = f"""
import os
os.mkdir("work"); os.chdir("work")
import tracking_core as tracking
run = tracking.start_run("p", root="../runs", run_id="r", backends="tensorboard:../tb")
os.rmdir("../work")
for step in range(50):
    run.log_scalars({{"x": float(step)}}, step=step)
report = run.finish()
assert report.ok, str(report)
second = tracking.start_run("p", root={str(tmp_path / "runs")!r}, run_id="s", backends="tensorboard:{tmp_path}/tb")
second.log_scalars({{"x": 1.0}}, step=0)
assert second.finish().ok
"""
    run_program(body, tmp_path)
    assert len(scalar_rows(tmp_path / "runs/p/r")) == 50
    assert len(scalar_rows(tmp_path / "runs/p/s")) == 1


def test_a_relative_root_falls_back_to_the_temporary_directory(tmp_path):
    (tmp_path / "tmp").mkdir()
    body = """
with tracking.start_run("p", run_id="r", backends="local") as run:
    run.log_scalars({"x": 1.0}, step=0)
print(run.dir)
"""
    out, err = run_program(GONE + body, tmp_path, TMPDIR=str(tmp_path / "tmp"))
    place = out.strip()
    assert place.startswith(str(tmp_path / "tmp"))
    assert err.count("cannot be written") == 1
    assert len(scalar_rows(tmp_path / "tmp" / place.split("/")[-3] / "p" / "r")) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("backends='local', strict=True", "the working directory was removed"),
        ("root={root!r}, backends='tensorboard:./tb'", "'tensorboard:./tb'"),
        ("root={root!r}, backends='tensorboard:./tb', delivery='thread'", "name an absolute path"),
    ],
)
def test_what_is_relative_to_it_is_refused(tmp_path, arguments, said):
    body = f"""
try:
    tracking.start_run("p", {arguments.format(root=str(tmp_path / "runs"))})
except tracking.SettingsError as error:
    print(error)
"""
    out, _ = run_program(GONE + body, tmp_path)
    assert said in out


def test_artifacts_that_are_kept_elsewhere(tmp_path):
    body = f"""
try:
    tracking.start_run("p", root={str(tmp_path / "runs")!r}, backends="local")
except tracking.SettingsError as error:
    print(error)
"""
    out, _ = run_program(GONE + body, tmp_path, TRACKING_ARTIFACTS="blobs")
    assert "environment variable TRACKING_ARTIFACTS: 'blobs' is relative" in out
