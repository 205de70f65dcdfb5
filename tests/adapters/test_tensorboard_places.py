"""Which directory a target of TensorBoard names: told before a run starts, and one place under all its spellings."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import tracking_core as tracking
from tracking_core import MissingDependencyError, RunInfo, SettingsError
from tracking_core.backends.plugins import find_adapter
from tracking_core.backends.targets import parse_target


def place(target, run=None):
    return find_adapter("tensorboard").place(parse_target(target), run or RunInfo(id="r", name="r"))


def check(target):
    find_adapter("tensorboard").check_target(parse_target(target))


# ---------------------------------------------------------------- one place


def test_all_spellings_of_a_directory_are_one_place(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "tb").mkdir()
    (tmp_path / "link").symlink_to("tb")
    (tmp_path / "sub").mkdir()
    spellings = [
        "tensorboard:tb", "tensorboard:./tb", "tensorboard:tb/", "tensorboard:tb//", "tensorboard:./sub/../tb",
        f"tensorboard:{tmp_path}/tb", f"tensorboard:{tmp_path}/./tb/", f"tensorboard://{tmp_path}/tb",
        "tensorboard:~/tb", "tensorboard:link", "tensorboard:link/", "tensorboard:tb?hparams=off",
        "tensorboard:tb?hparams=on", "tensorboard:tb?every=10&include=a*", "TensorBoard:tb",
    ]  # fmt: skip
    assert {place(one) for one in spellings} == {f"tensorboard:{tmp_path}/tb"}
    others = ["tensorboard:tb2", "tensorboard:tb/x", "tensorboard:TB", "tensorboard", "tensorboard:s3://tb"]
    assert len({place(one) for one in [*others, "tensorboard:tb"]}) == len(others) + 1


def test_a_directory_that_is_not_there_yet_is_the_same_place_once_it_is(tmp_path):
    before = place("tensorboard:./new/tb/")
    (tmp_path / "new" / "tb").mkdir(parents=True)
    assert place(f"tensorboard:{tmp_path}/new/tb") == before
    assert not (tmp_path / "tracking_runs").exists()


def test_the_directory_inside_the_run_spelled_out(tmp_path):
    run = RunInfo(id="r", name="r", dir=tmp_path / "runs" / "p" / "r")
    assert place("tensorboard", run) == place("tensorboard:runs/p/r/tensorboard/", run)
    assert place("tensorboard", run) != place(
        "tensorboard", RunInfo(id="s", name="s", dir=tmp_path / "runs" / "p" / "s")
    )


def test_all_spellings_of_a_bucket_are_one_place():
    spellings = ["s3://bucket/tb", "s3://bucket/tb/", "S3://bucket/tb", "s3a://bucket/tb", "s3://bucket/tb//"]
    assert {place(f"tensorboard:{one}") for one in spellings} == {"tensorboard:s3://bucket/tb"}
    assert (
        place("tensorboard:gs://bucket/tb")
        == place("tensorboard:gcs://bucket/tb")
        != place("tensorboard:s3://bucket/tb")
    )
    # A key is what it is: there are no directories in a bucket.
    assert place("tensorboard:s3://bucket/a/../tb") != place("tensorboard:s3://bucket/tb")


def test_asking_imports_no_backend(tmp_path):
    code = """
import sys
from tracking_core import RunInfo
from tracking_core.backends.plugins import find_adapter
from tracking_core.backends.targets import parse_target
adapter = find_adapter("tensorboard")
for text in ("tensorboard:tb", "tensorboard:s3://bucket/tb", "tensorboard"):
    target = parse_target(text)
    adapter.check_target(target)
    adapter.place(target, RunInfo(id="r", name="r"))
print([name for name in ("tensorboardX", "tensorboard", "fsspec", "s3fs", "boto3", "numpy") if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- refused at the start


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("tensorboard://tb", r"names the host 'tb': write tensorboard:DIRECTORY, as in tensorboard:tb or"),
        ("tensorboard://example.org/tb/", r"names the host 'example.org': .*tensorboard:example.org/tb or"),
        ("tensorboard:tb?hparams=maybe", r"tensorboard\?hparams=maybe: expected 'on' or 'off'"),
        ("tensorboard?hparams=", r"tensorboard\?hparams=: expected 'on' or 'off'"),
        ("tensorboard:tb?hparam=on", r"has no option 'hparam', did you mean 'hparams'|did you mean 'hparams'"),
        ("tensorboard:file", r"file is a file; name another directory"),
        ("tensorboard:file/tb", r"file is a file, so .*file/tb cannot be a directory"),
        ("tensorboard:" + "x" * 5000, r"cannot be a directory: File name too long"),
        ("tensorboard:~nobody-of-that-name/tb", r"home directory"),
        ("tensorboard:a%00b", r"null character"),
        ("tensorboard:a%ED%A0%80", r"contains characters that no file name can hold"),
        ("tensorboard:swift://bucket/tb", r"cannot write to swift://"),
        ("tensorboard:file:///srv/tb", r"write only the directory, as in tensorboard:/srv/tb"),
        ("tensorboard:s3://", r"expected tensorboard:s3://BUCKET/PREFIX"),
        ("tensorboard:http://h/x", r"cannot write to http://; name a directory, s3:// or gs://"),
        ("tensorboard:HTTPS://h/x", r"cannot write to https://"),
        ("tensorboard:github://a/x", r"cannot write to github://"),
        ("tensorboard:zip://x.zip", r"cannot write to zip://"),
        ("tensorboard:simplecache://x", r"cannot write to simplecache://"),
        ("tensorboard:my_bucket://x", r"cannot write to my_bucket://.*put ./ in front"),
        ("tensorboard:az://bucket/tb", r"needs adlfs, which is not installed"),
    ],
)
def test_a_target_that_cannot_work_is_refused_before_anything_is_made(tmp_path, target, message):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=message):
        tracking.start_run("p", backends=target, root="runs")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.skipif(not os.path.exists("/proc/self/mountinfo"), reason="as Linux has it")
def test_a_file_system_that_keeps_no_files():
    with pytest.raises(
        SettingsError, match=r"/proc is in a file system that cannot store files \(proc\); name another"
    ):
        check("tensorboard:/proc/tb")


def test_a_link_that_leads_to_nothing(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    for target, message in (("link", "link is a broken link; "), ("link/tb", "so .*link/tb cannot be")):
        with pytest.raises(SettingsError, match=message):
            check(f"tensorboard:{target}")
    (tmp_path / "nowhere").mkdir()
    check("tensorboard:link/tb")


def test_where_the_system_does_not_say_what_is_mounted_nothing_is_refused(tmp_path, monkeypatch):
    from tracking_core.base import directories

    for content in (None, b"", b"x", b"1 2 0:1 / / rw - \n", b"\xff - \n"):
        if content is not None:
            (tmp_path / "mounts").write_bytes(content)
        monkeypatch.setattr(directories, "_MOUNTS", str(tmp_path / "mounts"))
        check("tensorboard:tb")
    (tmp_path / "a b").mkdir()
    where = str(tmp_path / "a b").replace(" ", "\\040")
    (tmp_path / "mounts").write_text(f"1 2 0:1 / / rw - ext4 x rw\n1 2 0:1 / {where} rw - sysfs x rw\n")
    with pytest.raises(SettingsError, match="cannot store files"):
        check("tensorboard:a b/c")
    check("tensorboard:a")


def test_the_message_says_where_it_was_written(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKING_BACKEND", "tensorboard:tb")
    monkeypatch.setenv("TRACKING_BACKEND_TENSORBOARD_HPARAMS", "maybe")
    with pytest.raises(
        SettingsError, match=r"^environment variable TRACKING_BACKEND_TENSORBOARD_HPARAMS: tensorboard\?hparams=maybe"
    ):
        tracking.start_run("p", root="runs")
    monkeypatch.setenv("TRACKING_BACKEND_TENSORBOARD_HPARAMS", "off")
    (tmp_path / "tb").write_text("")
    with pytest.raises(SettingsError, match=r"TRACKING_BACKEND: 'tensorboard:tb\?hparams=off': .*tb is a file"):
        tracking.start_run("p", root="runs")


def test_a_secret_in_the_place_of_a_value_is_not_repeated(monkeypatch):
    monkeypatch.setenv("MY_PASSWORD", "hunter2hunter2")
    with pytest.raises(SettingsError, match=r"hparams=\[redacted\]") as raised:
        tracking.start_run("p", backends="tensorboard:tb?hparams=hunter2hunter2", root="runs")
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_directory_that_nobody_may_write_to(tmp_path, monkeypatch):
    (tmp_path / "tb").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(tmp_path / "tb"))
    for target in ("tensorboard:tb", "tensorboard:tb/below/it"):
        with pytest.raises(SettingsError, match=r"tb cannot be written to; name another directory"):
            check(target)
    check("tensorboard:elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_places_that_can_work(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "tb").mkdir()
    (tmp_path / "link").symlink_to("tb")
    for target in (
        "tensorboard", "tensorboard:", "tensorboard:tb", "tensorboard:new/below", "tensorboard:~/tb", "tensorboard:link",
        "tensorboard?hparams=off", "tensorboard:s3://bucket/tb", "tensorboard:gs://bucket", "tensorboard:memory://b/tb",
        "tensorboard:10:30", "tensorboard:a:b/c", "tensorboard:http:", "tensorboard:http:/h", "tensorboard:./http://h/x",
        "tensorboard:C:/tb", "tensorboard:gcs://bucket/tb", "tensorboard:S3://bucket/a b+c", "tensorboard:-", "tensorboard:/",
        "tensorboard:/dev/shm/tb", "tensorboard:.", "tensorboard:..", "tensorboard:tb/", "tensorboard:a//b",
    ):  # fmt: skip
        check(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "tb"]


def test_a_bucket_without_its_package(monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "s3fs" else real(name))
    with pytest.raises(MissingDependencyError, match=r"s3:// needs s3fs: pip install 'tracking-core\[remote\]'"):
        tracking.start_run("p", backends="tensorboard:s3://bucket/tb", root="runs")
