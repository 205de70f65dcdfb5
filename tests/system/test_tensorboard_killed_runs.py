"""The TensorBoard adapter behind a run, in training processes that are killed and started again."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tracking_tensorboard.testing import find_run, read_run

TRAINING = """
import os, sys, time
from pathlib import Path
import tracking_core as tracking

root, first, last, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
run = tracking.start_run("digits", "a run", run_id="k3j2", root=root, backends=f"tensorboard:{root}/tb",
                         resume="allow", delivery="thread", config={"lr": 0.1, "model": {"width": 64}})
for step in range(first, last):
    run.log_scalars({"train/loss": step / 2, "late": -step}, step=step)
    if step % 100 == 99:
        run.log_scalars({"val/loss": step}, step=step // 100, step_axis="epoch")
        run.log_histogram("weights", [0.0, 1.0, 2.0], step=step, bins=2)
if size:
    deadline = time.monotonic() + 30
    while sum(path.stat().st_size for path in Path(root, "tb").rglob("*tfevents*")) < size:
        assert time.monotonic() < deadline, "nothing is delivered"
        time.sleep(0.001)
    os.kill(os.getpid(), 9)
report = run.finish()
assert report.ok, report
"""


def train(root, first, last, size=0):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", TRAINING, str(root), str(first), str(last), str(size)],
        check=False, capture_output=True, text=True, timeout=180,
    )  # fmt: skip


@pytest.mark.parametrize("size", [1_000, 40_000, 80_000])
def test_a_killed_run_is_in_tensorboard_exactly_once(tmp_path, size):
    """Killed with the event file at some size: before the first records, amid them, near the end."""
    killed = train(tmp_path, 0, 1500, size)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = train(tmp_path, 1500, 2000)
    assert resumed.returncode == 0, resumed.stderr
    stored = read_run(find_run(tmp_path / "tb", "k3j2"))
    by_name = {name: [(row.axis, row.step, row.value) for row in stored.scalars if row.name == name]
               for name in ("train/loss", "late", "val/loss")}  # fmt: skip
    assert by_name["train/loss"] == [("step", step, step / 2) for step in range(2000)]
    assert by_name["late"] == [("step", step, -step) for step in range(2000)]
    assert by_name["val/loss"] == [("epoch", epoch, epoch * 100 + 99) for epoch in range(20)]
    assert [one.step for one in stored.histograms] == list(range(99, 2000, 100))
    assert stored.config == {"lr": 0.1, "model": {"width": 64}}
    assert stored.status == "finished"
