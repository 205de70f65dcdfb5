"""Habits that a network file system needs: nothing mapped, nothing locked, and readers that list again."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

import tracking_core as tracking
from tests.support.programs import only_run, run, scalar_rows, start
from tracking_core.environment import mounts
from tracking_core.journal import deferral
from tracking_tensorboard.testing import find_run, read_run

pytestmark = pytest.mark.system

TRAIN = """
import sys
import numpy as np
import tracking_core as tracking
with tracking.start_run("p", root="runs", backends={backend!r}) as run:
    for step in range(50):
        run.log_scalars({{"x": float(step)}}, step=step)
    run.log_images({{"i": np.zeros((4, 4), np.uint8)}}, step=0)
    run.log_artifact({{"f.txt": b"content"}}, name="a")
    run.flush()
assert run.finish().ok
store = tracking.open_store("runs")
record = store.runs()[0]
assert len(record.scalars("x").value) == 50
list(record.images("i")), list(record.artifacts())
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_file_of_ours_is_locked_or_mapped(tmp_path):
    """Every system call of the training and of the deliverer, seen by the kernel's own tracer."""
    log = tmp_path / "calls"
    code = textwrap.dedent(TRAIN.format(backend="tensorboard:./tb"))
    done = subprocess.run(
        ["strace", "-f", "-y", "-qq", "-e", "trace=flock,fcntl,mmap", "-o", str(log), sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "ptrace" in done.stderr and "not permitted" in done.stderr:
        pytest.skip("tracing is not permitted here")
    assert done.returncode == 0, done.stderr
    assert len(scalar_rows(only_run(tmp_path / "runs"))) == 50
    lines = log.read_text(errors="replace").splitlines()
    assert any("mmap(" in line and ".so" in line for line in lines)
    ours = [line for line in lines if f"<{tmp_path}/" in line]
    assert not [line for line in ours if re.search(r"\b(flock|mmap)\(|F_(OFD_)?SETLKW?\b", line)]


def test_python_asks_for_no_lock_and_no_map(tmp_path):
    """The same from inside, where no tracer is to be had: an audit hook that forbids them to the training."""
    guard = """
    import sys
    def forbid(event, arguments):
        if event in ("fcntl.flock", "fcntl.lockf", "mmap.__new__") and (event != "mmap.__new__" or arguments[0] != -1):
            raise RuntimeError(f"{event} {arguments}")
    sys.addaudithook(forbid)
    """
    code = textwrap.dedent(guard) + textwrap.dedent(TRAIN.format(backend="tensorboard:./tb"))
    _, err = run(code, tmp_path, TRACKING_DELIVERY="thread")
    assert "fcntl" not in err and "mmap" not in err
    assert len(scalar_rows(only_run(tmp_path / "runs"))) == 50


def test_readers_list_again(tmp_path):
    """A store that was opened before anything was there sees runs, writers and records as they come."""
    (tmp_path / "runs").mkdir()
    store = tracking.open_store(tmp_path / "runs")
    assert store.runs() == []
    writer = """
    import sys
    import tracking_core as tracking
    run = tracking.start_run("p", root="runs", run_id="r", resume="allow", backends="local")
    for step in range(3):
        run.log_scalars({"NAME": float(step)}, step=step)
        print(step, flush=True)
    run.flush()
    import os
    os._exit(0)
    """
    for count, name in enumerate("ab", 1):
        process = start(writer.replace("NAME", name), tmp_path)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert out.split() == ["0", "1", "2"]
        record = store.run("r")
        assert sorted(record.scalar_names()) == list("ab"[:count])
        assert list(record.scalars(name).value) == [0.0, 1.0, 2.0]
        assert [one.id for one in store.runs()] == ["r"]


@pytest.fixture
def memory_disk():
    """A directory on a tmpfs, which stands in for a network file system: one that is mounted by its kind."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("there is no /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield name


def test_a_network_file_system_is_told_by_its_mount(memory_disk, monkeypatch):
    assert not mounts.on_network(Path(memory_disk))
    monkeypatch.setattr(mounts, "_NETWORK", mounts._NETWORK | {"tmpfs"})
    assert mounts.on_network(Path(memory_disk))
    assert mounts.on_network(Path(memory_disk) / "not" / "there" / "yet")
    assert not mounts.on_network(Path("/proc"))


def test_appends_are_deferred_for_good_on_a_network_file_system(memory_disk, monkeypatch):
    monkeypatch.setattr(mounts, "_NETWORK", mounts._NETWORK | {"tmpfs"})
    monkeypatch.setattr(deferral, "RECOVERY", 0.0)
    with tracking.start_run("p", root=memory_disk, backends="tensorboard:" + memory_disk + "/tb") as run:
        for step in range(300):
            run.log_scalars({"x": float(step)}, step=step)
        assert run.health.durability == "deferred"
        assert run.flush()["tensorboard"].delivered == 300
        run.log_scalars({"x": 300.0}, step=300)
        assert run.health.durability == "deferred"
    assert [row[2] for row in scalar_rows(run.dir)] == list(range(301))
    assert run.finish().ok
    stored = read_run(find_run(Path(memory_disk) / "tb", run.id))
    assert [row.step for row in stored.scalars] == list(range(301))
