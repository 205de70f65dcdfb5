"""Event files in a bucket, against a server that speaks S3 on loopback, read back by TensorBoard's own reader."""

from __future__ import annotations

import secrets

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tracking_core as tracking
from tests.support.bucket_server import BucketServer
from tests.support.programs import run


@pytest.fixture(scope="module")
def server():
    one = BucketServer()
    yield one
    one.stop()


@pytest.fixture
def bucket(server, monkeypatch):
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    return server.make_bucket(f"tb-{secrets.token_hex(4)}")


def shown(bucket, folder):
    """The run as TensorBoard shows it."""
    there = bucket.download("logs", folder)
    (directory,) = there.iterdir()
    found = EventAccumulator(str(directory), size_guidance={"tensors": 0, "scalars": 0})
    found.Reload()
    return found, sorted(path.name for path in directory.iterdir())


def scalars(found, tag):
    return [(event.step, event.value) for event in found.Scalars(tag)]


def test_a_run_is_written_into_a_bucket(bucket, tmp_path):
    with tracking.start_run(
        "p", "vae", run_id="r", backends=f"tensorboard:s3://{bucket.name}/logs", root="runs"
    ) as one:
        for step in range(20):
            one.log_scalars({"loss": step / 4}, step=step, wall_time=1_700_000_000.0 + step)
        one.log_images({"sample": np.full((4, 4, 3), 200, np.uint8)}, step=3)
    assert one.finish()["tensorboard"].ok
    found, files = shown(bucket, tmp_path / "one")
    assert scalars(found, "loss") == [(step, step / 4) for step in range(20)]
    assert [event.wall_time for event in found.Scalars("loss")] == [1_700_000_000.0 + step for step in range(20)]
    assert any(tag.startswith("sample") for tag in (*found.Tags()["images"], *found.Tags()["tensors"]))
    assert len(files) == 1


def test_a_run_that_is_continued_goes_on_in_another_file(bucket, tmp_path):
    where = f"tensorboard:s3://{bucket.name}/logs"
    for begin in (0, 10):
        with tracking.start_run("p", "vae", run_id="r", resume="allow", backends=where, root="runs") as one:
            for step in range(begin, begin + 10):
                one.log_scalars({"loss": float(step)}, step=step)
        assert one.finish()["tensorboard"].ok
    found, files = shown(bucket, tmp_path / "one")
    assert len(files) == 2
    # Files that were begun within one second are read in any order.
    assert sorted(scalars(found, "loss")) == [(step, float(step)) for step in range(20)]


def test_after_a_kill_everything_is_there_at_least_once(bucket, server, tmp_path):
    """Objects cannot be cut back: what was uploaded, and not noted yet, comes a second time, with the same values."""
    where = f"tensorboard:s3://{bucket.name}/logs"
    program = f"""
        import os, signal, time, tracking_core as tracking
        from tracking_core.delivery import deliverer
        run = tracking.start_run("p", "vae", run_id="r", backends={where!r}, root="runs")
        for step in range(200):
            run.log_scalars({{"loss": float(step)}}, step=step)
        run.flush()
        for step in range(200, 400):
            run.log_scalars({{"loss": float(step)}}, step=step)
        os.kill(deliverer._shared.process.pid, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    run(program, tmp_path, code_expected=-9, **server.environ)
    command = "import sys; from tracking_core.cli import main; sys.argv[1:] = ['sync', 'r', '--root', 'runs']; main()"
    run(command, tmp_path, **server.environ)
    found, _ = shown(bucket, tmp_path / "one")
    rows = scalars(found, "loss")
    assert sorted(set(rows)) == [(step, float(step)) for step in range(400)]
