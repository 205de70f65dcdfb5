"""The TensorBoard adapter as a plugin: hooks, options, places, diagnosis, buckets."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
from tensorboardX import record_writer

from tracking_core import RetryLater, RunInfo, SettingsError, Tracker, open_tracker
from tracking_core.backends.plugins import find_adapter
from tracking_core.backends.targets import Target, parse_target
from tracking_core.errors import MissingDependencyError
from tracking_core.protocol import OPTIONAL_CAPABILITIES
from tracking_tensorboard.events import LocalEventFile
from tracking_tensorboard.remote_events import RemoteEventFile
from tracking_tensorboard.testing import TensorBoardHarness, find_run, read_run


def test_asking_what_it_is_imports_no_backend():
    code = """
import sys
from tracking_core.backends.plugins import find_adapter
adapter = find_adapter("tensorboard")
assert adapter.info.name == "tensorboard" and adapter.missing() == []
print([name for name in ("tensorboardX", "tensorboard", "crc32c", "numpy", "PIL", "wandb") if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "[]"


@pytest.mark.system
def test_writing_imports_no_tensorboard(tmp_path):
    code = """
import sys
from tracking_core import open_tracker
tracker = open_tracker(f"tensorboard:{sys.argv[1]}")
tracker.log_scalars({"x": 1.0}, step=0)
tracker.finish()
print([name for name in ("tensorboard", "tensorflow", "jax", "wandb") if name in sys.modules])
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True, timeout=60
    )
    assert result.stdout.strip() == "[]"


def test_every_declared_capability_has_its_method(tmp_path):
    info = find_adapter("tensorboard").info
    tracker = open_tracker(f"tensorboard:{tmp_path}")
    assert isinstance(tracker, Tracker)
    for capability, (protocol, _) in OPTIONAL_CAPABILITIES.items():
        assert isinstance(tracker, protocol) == (capability in info.capabilities), capability
    assert (info.precision, info.guarantee, info.extra) == ("float32", "exactly once", "tracking-core[tensorboard]")
    tracker.finish()


def test_a_missing_package_gives_the_command(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(MissingDependencyError, match=r"tensorboardX.*pip install 'tracking-core\[tensorboard\]'"):
        open_tracker(f"tensorboard:{tmp_path}")


def test_options_are_checked(tmp_path):
    with pytest.raises(SettingsError, match=r"hparam.*did you mean 'hparams'"):
        open_tracker(f"tensorboard:{tmp_path}?hparam=off")
    with pytest.raises(SettingsError, match=r"hparams=maybe: expected 'on' or 'off'"):
        open_tracker(f"tensorboard:{tmp_path}?hparams=maybe")


@pytest.mark.parametrize(
    ("run", "directory"),
    [
        (RunInfo(id="k3j2", name="brisk otter"), "brisk~20otter"),
        (RunInfo(id="k3j2", name="brisk-otter-k3j2"), "brisk-otter-k3j2"),
        (RunInfo(id="k3j2", name=""), "k3j2"),
        (RunInfo(id="k3j2", name="../../etc"), "~2e.~2f..~2fetc"),
        (RunInfo(id="k3j2", name="n" * 500 + "k3j2"), None),
        (RunInfo(id="CON", name="aux"), "~61ux"),
        (RunInfo(id="CON", name=""), "~43ON"),
        (RunInfo(id="k3j2", name="a\nb\0c\ud800/.."), "a~0ab~00c~ed~a0~80~2f.~2e"),
    ],
)
def test_each_run_has_a_directory(tmp_path, run, directory):
    tracker = open_tracker(f"tensorboard:{tmp_path}/tb", run)
    tracker.finish()
    (place,) = (tmp_path / "tb").iterdir()
    assert place == Path(tracker.directory)
    assert place.name == directory or (directory is None and len(place.name) == 120)
    assert find_run(tmp_path / "tb", run.id) == place


def test_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    run = RunInfo(id="r", name="r", dir=tmp_path / "runs" / "r")
    for target, place in [
        ("tensorboard:tb", tmp_path / "tb" / "r"),
        ("tensorboard:./a b/../tb2", tmp_path / "a b" / ".." / "tb2" / "r"),
        ("tensorboard:~/tb", tmp_path / "home" / "tb" / "r"),
        ("tensorboard", tmp_path / "runs" / "r" / "tensorboard" / "r"),
    ]:
        tracker = open_tracker(target, run)
        # The directory does not depend on where the process goes afterwards.
        monkeypatch.chdir("/")
        tracker.log_scalars({"x": 1.0}, step=0)
        tracker.finish()
        monkeypatch.chdir(tmp_path)
        assert [row.name for row in read_run(place).scalars] == ["x"], target
        run.state.clear()


def test_a_host_is_refused():
    with pytest.raises(SettingsError, match=r"names the host 'example.org': write tensorboard:DIRECTORY"):
        open_tracker("tensorboard://example.org/tb")


@pytest.fixture
def bucket():
    """fsspec's own store in memory: the objects of it by name."""
    store = fsspec.filesystem("memory").store
    store.clear()
    yield store
    store.clear()


def test_buckets_are_written_through_fsspec(bucket, tmp_path):
    run = RunInfo(id="r", name="a run", config={"lr": 1})
    tracker = open_tracker("tensorboard:memory://bucket/runs/", run)
    tracker.log_scalars({"x": 1.0}, step=0, step_axis="epoch")
    tracker.log_scalars({"x": 2.0}, step=0)
    tracker.flush()
    (place,) = bucket
    data = bucket[place].getvalue()
    assert place.startswith("/bucket/runs/a~20run-r/events.out.tfevents.")
    assert tracker.directory == "memory://bucket/runs/a~20run-r"
    tracker.finish()
    assert bucket[place].getvalue().startswith(data)
    # What was uploaded cannot be continued: a restart begins another file, with the same tags, which comes after it.
    tracker = open_tracker("tensorboard:memory://bucket/runs", RunInfo(id="r", name="a run", state=dict(run.state)))
    tracker.log_scalars({"x": 3.0}, step=1)
    tracker.finish()
    assert len(bucket) == 2
    for number, name in enumerate(sorted(bucket)):
        (tmp_path / f"{number}.tfevents").write_bytes(bucket[name].getvalue())
    stored = read_run(tmp_path)
    assert [(row.axis, row.step, row.value) for row in stored.scalars] == [
        ("epoch", 0, 1),
        ("step", 0, 2),
        ("step", 1, 3),
    ]
    assert len(stored.extra["about"]) == 1


def test_a_flush_with_nothing_new_uploads_nothing(bucket, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    uploads = []
    real = MemoryFileSystem.pipe_file
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", lambda *a, **k: (uploads.append(len(a[2])), real(*a, **k)))
    tracker = open_tracker("tensorboard:memory://bucket", RunInfo(id="r", name="r"))
    tracker.flush()
    assert len(uploads) == 1
    tracker.log_scalars({"x": 1.0}, step=0)
    tracker.flush()
    tracker.flush()
    assert len(uploads) == 2
    assert sorted(uploads) == uploads


def test_a_bucket_that_does_not_answer_is_tried_again(bucket, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    tracker = open_tracker("tensorboard:memory://bucket", RunInfo(id="r", name="r"))
    tracker.log_scalars({"x": 1.0}, step=0)

    def refuse(*_, **__):
        raise RuntimeError("an error class of the client's own")

    with monkeypatch.context() as broken:
        broken.setattr(MemoryFileSystem, "pipe_file", refuse)
        with pytest.raises(RetryLater, match="an error class of the client's own"):
            tracker.flush()
    tracker.flush()
    (place,) = bucket
    assert b"x" in bucket[place].getvalue()


@pytest.mark.parametrize("error", [PermissionError("403"), FileNotFoundError("no such bucket")])
def test_a_bucket_that_lets_nobody_in_is_said_at_once(bucket, monkeypatch, error):
    from fsspec.implementations.memory import MemoryFileSystem

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
    with pytest.raises(SettingsError, match=f"cannot write to memory://bucket/r: {error}"):
        open_tracker("tensorboard:memory://bucket", RunInfo(id="r", name="r"))


def test_an_unknown_kind_of_bucket_is_refused():
    with pytest.raises(SettingsError, match=r"cannot write to swift://; name a directory, s3:// or gs://"):
        open_tracker("tensorboard:swift://bucket/runs")


@pytest.mark.parametrize(("target", "package"), [("gs://bucket/tb", "gcsfs"), ("s3://bucket/tb", "s3fs")])
def test_a_bucket_whose_package_is_missing(monkeypatch, target, package):
    monkeypatch.setitem(sys.modules, package, None)
    # What another test has used is known without being imported again.
    for protocol in ("gs", "gcs", "s3", "s3a"):
        monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, protocol, raising=False)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else real(name))
    with pytest.raises(MissingDependencyError, match=rf"needs {package}: pip install 'tracking-core\[remote\]'"):
        open_tracker(f"tensorboard:{target}")
    with pytest.raises(MissingDependencyError, match=r"pip install 'tracking-core\[remote\]'"):
        RemoteEventFile(f"{target}/file")


def test_checksums_are_native(tmp_path):
    import crc32c

    assert record_writer.crc32c is crc32c.crc32c
    path = tmp_path / "e.tfevents"
    LocalEventFile.create(path).close()
    with pytest.raises(FileExistsError):
        LocalEventFile.create(path)


def findings(target):
    return [(one.level, one.message, one.remedy) for one in find_adapter("tensorboard").diagnose(parse_target(target))]


def test_diagnosis_of_a_good_place(tmp_path):
    packages, directory, viewer = findings(f"tensorboard:{tmp_path}/new/tb")
    assert packages[0] == directory[0] == viewer[0] == "ok"
    assert "tensorboardX 2." in packages[1]
    assert directory[1] == f"{tmp_path}/new/tb can be written to"
    assert f"--logdir {tmp_path}/new/tb" in viewer[1]
    assert not (tmp_path / "new").exists()


def test_diagnosis_of_bad_places(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    assert findings(f"tensorboard:{tmp_path}/file/tb")[1][0] == "error"
    assert findings("tensorboard://host/tb")[1][:2] == (
        "error",
        "'tensorboard://host/tb' names the host 'host'; this backend writes into a directory",
    )
    assert findings("tensorboard:gs://bucket/tb")[1][0] == "warning"
    assert findings("tensorboard")[1][0] == "ok"
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "cannot be written to" in findings(f"tensorboard:{tmp_path}/tb")[1][1]


def test_diagnosis_of_slow_checksums(monkeypatch):
    monkeypatch.setattr("tensorboardX.crc32c.crc32c", lambda data: 0)
    level, message, _ = findings("tensorboard")[1]
    assert level == "warning"
    assert "100 times slower" in message


def test_diagnosis_without_packages(monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if "ensor" in name or name == "crc32c" else real(name)
    )
    packages, _, viewer = find_adapter("tensorboard").diagnose(Target("tensorboard"))
    assert packages.level == "error"
    assert packages.remedy == "pip install 'tracking-core[tensorboard]'"
    assert viewer.level == "warning"


def test_the_harness_comes_through_the_hook():
    assert isinstance(find_adapter("tensorboard").harness(), TensorBoardHarness)


def test_reading_back_without_tensorboard(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_file_loader", None)
    with pytest.raises(MissingDependencyError, match="pip install tensorboard"):
        read_run(tmp_path)
