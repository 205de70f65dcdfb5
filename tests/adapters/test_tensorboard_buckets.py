"""Event files in a bucket, against a server that speaks S3 on loopback, read back by TensorBoard's own reader."""

from __future__ import annotations

import secrets
import sys
import urllib.request
from urllib.parse import quote

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tracking_core as tracking
from tests.support.bucket_server import BucketServer, GoogleServer
from tests.support.programs import run

pytestmark = pytest.mark.system


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
        from tracking_core.delivery.process import client as deliverer
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


def test_scalars_with_an_axis_are_all_there(bucket, tmp_path):
    """The file says whose it is, and every point of a described series is a plain value."""
    tracker = tracking.open_tracker(f"tensorboard:s3://{bucket.name}/logs/", tracking.RunInfo(id="r", name="r"))
    for epoch in range(3):
        tracker.log_scalars({"val/loss": epoch / 2}, step=epoch, step_axis="epoch")
        tracker.flush()
    tracker.finish()
    found, files = shown(bucket, tmp_path / "one")
    assert scalars(found, "val/loss") == [(epoch, epoch / 2) for epoch in range(3)]
    assert len(files) == 1
    assert found.GetSourceWriter().startswith('tracking-core {"run": "r"')


def test_boto3_is_not_needed_and_another_server_is_named_as_before(bucket, server, monkeypatch):
    """tensorboardX took S3_ENDPOINT; those who have set that alone still reach their server."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setitem(sys.modules, "boto3", None)
    tracker = tracking.open_tracker(f"tensorboard:s3://{bucket.name}/logs", tracking.RunInfo(id="r", name="r"))
    tracker.log_scalars({"x": 1.0}, step=0)
    tracker.finish()
    (key,) = bucket.listed("logs/r/")
    assert b"x" in bucket.read(key)


def test_a_bucket_that_is_not_there_is_said(bucket):
    with pytest.raises(tracking.errors.SettingsError, match=r"cannot write to s3://no-such-bucket/r: .*bucket"):
        tracking.open_tracker("tensorboard:s3://no-such-bucket", tracking.RunInfo(id="r", name="r"))


def test_a_run_is_written_into_a_bucket_of_google(tmp_path, monkeypatch):
    google = GoogleServer()
    try:
        for name, value in google.environ.items():
            monkeypatch.setenv(name, value)
        tracker = tracking.open_tracker("tensorboard:gs://runs/logs", tracking.RunInfo(id="r", name="r"))
        tracker.log_scalars({"x": 1.0}, step=0)
        tracker.flush()
        size = max(google.listed().values())
        tracker.log_scalars({"x": 2.0}, step=1)
        tracker.finish()
        listed = google.listed()
        (key,) = [name for name in listed if name]
        assert listed[key] > size
        with urllib.request.urlopen(
            f"{google.url}/download/storage/v1/b/runs/o/{quote(key, safe='')}?alt=media"
        ) as answer:
            (tmp_path / "tfevents").write_bytes(answer.read())
    finally:
        google.stop()
    found = EventAccumulator(str(tmp_path / "tfevents"), size_guidance={"scalars": 0}).Reload()
    assert scalars(found, "x") == [(0, 1.0), (1, 2.0)]
