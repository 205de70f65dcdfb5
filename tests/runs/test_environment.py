"""What a run records of where it ran: real repositories, real processes, real JAX."""

from __future__ import annotations

import getpass
import importlib.metadata
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.programs import REPO
from tests.support.repositories import git
from tracking_core.base.redaction import REDACTED
from tracking_core.environment.git import MAX_DIFF_BYTES, git_state
from tracking_core.environment.machine import accelerators, capture, identity

TOKEN = "ghp_" + "aB3d" * 9


@pytest.fixture(autouse=True)
def _plain_git(monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "--initial-branch=work")
    (root / "train.py").write_text("lr = 0.1\n")
    git(root, "add", ".")
    git(root, "commit", "-m", "first")
    return root


def run_python(code, *arguments, cwd=None, **environment):
    path = os.pathsep.join([str(REPO), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestIdentity:
    def test_agrees_with_the_standard_library(self):
        found = identity()
        assert found["python"] == platform.python_version()
        assert found["implementation"] == platform.python_implementation().lower()
        assert found["executable"] == Path(sys.executable).name
        assert found["platform"] == f"{platform.system()}-{platform.release()}-{platform.machine()}"
        assert found["host"] == socket.gethostname()
        assert found["user"] == getpass.getuser()
        assert found["pid"] == os.getpid()
        assert found["cwd"] == str(Path.cwd())

    def test_program_and_redacted_arguments(self, tmp_path):
        script = tmp_path / "train.py"
        script.write_text(
            "import json\nfrom tracking_core.environment.machine import identity\nprint(json.dumps(identity()))\n"
        )
        done = subprocess.run(
            [
                sys.executable,
                "train.py",
                "--lr",
                "0.1",
                "--api-key",
                "hunter2",
                "horse-battery",
                f"--url=https://u:{TOKEN}@h/",
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPO), "MY_TOKEN": "horse-battery"},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        found = json.loads(done.stdout)
        assert found["argv"] == [
            "train.py",
            "--lr",
            "0.1",
            "--api-key",
            REDACTED,
            REDACTED,
            f"--url=https://{REDACTED}@h/",
        ]
        assert found["program"] == str(script)
        assert "hunter2" not in done.stdout
        assert TOKEN not in done.stdout

    def test_without_a_script_there_is_no_program(self):
        code = "from tracking_core.environment.machine import identity; print(identity()['program'])"
        assert run_python(code) == "None\n"

    def test_survives_a_removed_directory_and_an_unknown_user(self, tmp_path):
        gone = tmp_path / "gone"
        gone.mkdir()
        code = """
import os, sys
from tracking_core.environment.machine import capture, identity
os.rmdir(os.getcwd())
for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
    os.environ.pop(name, None)
os.getuid = lambda: 987654  # a container's user without an entry in the database
del sys.argv
found = identity()
print(found["cwd"], found["user"], found["argv"], capture(".")["git"])
"""
        assert run_python(code, cwd=gone) == "None None [] {}\n"

    def test_starts_no_process_and_imports_nothing_heavy(self):
        code = """
import sys
sys.addaudithook(lambda event, _: event.startswith(("subprocess", "os.fork", "os.posix_spawn", "os.exec")) and sys.exit(event))
from tracking_core.environment.machine import accelerators, identity
identity(), accelerators()
print(*sorted({"jax", "numpy", "subprocess", "importlib.metadata", "wandb"} & set(sys.modules)))
"""
        assert run_python(code) == "\n"


class TestGit:
    def test_clean(self, repository):
        assert git_state(repository) == {
            "commit": git(repository, "rev-parse", "HEAD"),
            "branch": "work",
            "dirty": False,
            "diff": "",
            "truncated": False,
        }

    def test_from_a_subdirectory_of_a_changed_tree(self, repository):
        below = repository / "a" / "b"
        below.mkdir(parents=True)
        (repository / "train.py").write_text("lr = 0.2\n")
        state = git_state(below)
        assert state["dirty"] is True
        assert "-lr = 0.1\n+lr = 0.2\n" in state["diff"]

    def test_diff_can_be_applied_whatever_the_configuration(self, repository):
        commit = git(repository, "rev-parse", "HEAD")
        marker = repository.parent / "started"
        for name, value in {
            "diff.noprefix": "true",
            "color.diff": "always",
            "color.ui": "always",
            "diff.mnemonicPrefix": "true",
            "diff.external": f"touch {marker}; true",
            "core.fsmonitor": f"touch {marker}; false",
            "core.pager": f"touch {marker}; cat",
            "diff.relative": "true",
        }.items():
            git(repository, "config", name, value)
        (repository / "train.py").write_text("lr = 0.2\nname = 'ü'\n")
        (repository / "staged.py").write_text("x = 1\n")
        git(repository, "-c", "core.fsmonitor=false", "add", "staged.py")
        diff = git_state(repository)["diff"]
        assert not marker.exists()

        clone = repository.parent / "clone"
        git(repository.parent, "clone", "--quiet", str(repository), str(clone))
        git(clone, "checkout", "--quiet", commit)
        (repository.parent / "x.diff").write_text(diff)
        git(clone, "apply", str(repository.parent / "x.diff"))
        assert (clone / "train.py").read_text() == "lr = 0.2\nname = 'ü'\n"
        assert (clone / "staged.py").read_text() == "x = 1\n"

    def test_secrets_in_the_diff_go_and_code_stays(self, repository, monkeypatch):
        monkeypatch.setenv("MY_PASSWORD", "horse battery")
        (repository / "train.py").write_text(
            f"lr = 0.1\nAPI_KEY = 'hunter2'\nurl = 'https://me:{TOKEN}@host/x'\nnote = 'horse battery'\n"
            "max_tokens = 4096\ntokens = tokenizer.encode(text)\ndigest = '3f2a91c0d4e5b6a7988776655443322110ffeedd'\n"
        )
        state = git_state(repository)
        assert state["diff"].splitlines()[-7:] == [
            " lr = 0.1",
            f"+API_KEY = '{REDACTED}'",
            f"+url = 'https://{REDACTED}@host/x'",
            f"+note = '{REDACTED}'",
            "+max_tokens = 4096",
            "+tokens = tokenizer.encode(text)",
            "+digest = '3f2a91c0d4e5b6a7988776655443322110ffeedd'",
        ]
        assert TOKEN not in str(state)

    def test_untracked_files_are_no_part_of_it(self, repository):
        (repository / "new.py").write_text("x = 1\n")
        state = git_state(repository)
        assert state["dirty"] is False
        assert state["diff"] == ""

    def test_long_diff_ends_with_a_whole_line(self, repository):
        secret = "password = 'hunter2'\n"
        (repository / "train.py").write_text(secret * (3 * MAX_DIFF_BYTES // len(secret)))
        state = git_state(repository)
        assert state["truncated"] is True
        assert state["dirty"] is True
        assert MAX_DIFF_BYTES - 100 < len(state["diff"].encode()) <= MAX_DIFF_BYTES
        assert state["diff"].endswith(f"+password = '{REDACTED}'\n")
        assert "hunter2" not in state["diff"]

    def test_a_secret_cut_in_two_does_not_stay(self, repository):
        (repository / "train.py").write_text(f"x = '{TOKEN}'\n")
        whole = git_state(repository)["diff"]
        raw = whole.replace(REDACTED, TOKEN)
        for limit in range(raw.index(TOKEN), raw.index(TOKEN) + len(TOKEN)):
            state = git_state(repository, max_bytes=limit)
            assert state["truncated"] is True
            assert TOKEN[:4] not in state["diff"]

    def test_remote_without_credentials(self, repository):
        git(repository, "remote", "add", "backup", f"https://user:{TOKEN}@host/backup.git")
        assert git_state(repository)["remote"] == "https://host/backup.git"
        git(repository, "remote", "add", "origin", "https://user:tok@host/org/repo.git")
        state = git_state(repository)
        assert state["remote"] == "https://host/org/repo.git"
        assert "tok@" not in str(state)
        git(repository, "config", "branch.work.remote", "backup")
        assert git_state(repository)["remote"] == "https://host/backup.git"
        git(repository, "remote", "set-url", "backup", "git@host:org/repo.git")
        assert git_state(repository)["remote"] == "git@host:org/repo.git"

    def test_detached(self, repository):
        git(repository, "checkout", "--quiet", "--detach")
        state = git_state(repository)
        assert "branch" not in state
        assert state["commit"] == git(repository, "rev-parse", "HEAD")

    def test_without_a_commit(self, tmp_path):
        git(tmp_path, "init", "--initial-branch=work")
        (tmp_path / "a.py").write_text("x = 1\n")
        git(tmp_path, "add", ".")
        state = git_state(tmp_path)
        assert "commit" not in state
        assert state["branch"] == "work"
        assert state["dirty"] is True
        assert "+x = 1\n" in state["diff"]

    def test_binary_and_undecodable_content(self, repository):
        (repository / "train.py").write_bytes(b"lr = 0.1\n# caf\xe9\n")
        state = git_state(repository)
        assert "caf\ufffd" in state["diff"]
        json.dumps(state)
        (repository / "train.py").write_bytes(bytes(range(256)))
        state = git_state(repository)
        assert state["dirty"] is True
        assert "Binary files" in state["diff"]

    def test_elsewhere_there_is_nothing(self, tmp_path):
        assert git_state(tmp_path) == {}
        assert git_state(tmp_path / "missing") == {}

    def test_without_git(self, repository, monkeypatch):
        monkeypatch.setenv("PATH", str(repository))
        assert git_state(repository) == {}

    def test_a_surrounding_hook_does_not_lead_it_astray(self, repository, tmp_path, monkeypatch):
        other = tmp_path / "other"
        other.mkdir()
        git(other, "init", "--initial-branch=other")
        monkeypatch.setenv("GIT_DIR", str(other / ".git"))
        monkeypatch.setenv("GIT_INDEX_FILE", str(other / "index"))
        assert git_state(repository)["branch"] == "work"

    def test_takes_no_lock(self, repository):
        # A refreshed index is written only under a lock: its bytes tell whether one was taken.
        (repository / "other.py").write_text("x = 1\n")
        git(repository, "add", "other.py")
        git(repository, "commit", "-m", "second")
        os.utime(repository / "train.py", (1, 1))
        os.utime(repository / "other.py", (1, 1))
        before = (repository / ".git" / "index").read_bytes()
        state = git_state(repository)
        assert (state["dirty"], state["diff"]) == (False, "")
        (repository / "other.py").write_text("x = 2\n")
        assert git_state(repository)["diff"].count("diff --git") == 1
        assert (repository / ".git" / "index").read_bytes() == before

    def test_empty_and_executable_files_are_changes(self, repository):
        (repository / "empty.py").touch()
        git(repository, "add", "empty.py")
        (repository / "train.py").chmod(0o755)
        diff = git_state(repository)["diff"]
        assert "new file mode" in diff
        assert "new mode 100755" in diff

    def test_a_git_that_hangs_is_ended_with_its_children(self, repository, tmp_path, monkeypatch):
        pids = tmp_path / "pids"
        fake = tmp_path / "bin" / "git"
        fake.parent.mkdir()
        real = shutil.which("git")
        fake.write_text(
            f'#!/bin/sh\ncase " $* " in *" diff "*) sleep 600 & echo $$ $! > {pids}; wait;; *) exec {real} "$@";; esac\n'
        )
        fake.chmod(0o755)
        monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
        state = git_state(repository, timeout=2.0)
        assert state == {"commit": git(repository, "rev-parse", "HEAD"), "branch": "work"}
        for pid in map(int, pids.read_text().split()):
            assert not _is_running(pid)


def _is_running(pid):
    """A killed grandchild may be a zombie until its reaper comes; what counts is that it runs no more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except FileNotFoundError:
        return False


class TestCapture:
    def test_everything(self, repository):
        found = capture(repository)
        assert found["git"]["branch"] == "work"
        assert found["cpu_count"] == os.cpu_count()
        assert 1 <= found["cpus_usable"] <= os.cpu_count()
        meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        assert found["memory_bytes"] == pytest.approx(int(meminfo["MemTotal"].split()[0]) * 1024, rel=0.1)
        json.dumps(found)

    def test_packages(self, repository):
        packages = capture(repository)["packages"]
        assert packages == sorted(packages, key=str.lower)
        assert f"pytest=={importlib.metadata.version('pytest')}" in packages
        names = [package.partition("==")[0].lower().replace("_", "-") for package in packages]
        assert len(set(names)) == len(names)

    def test_a_broken_distribution_is_left_out(self, tmp_path):
        for name, metadata in {
            "broken": None,
            "empty": "",
            "fine": "Metadata-Version: 2.1\nName: Fine\nVersion: 3\n",
        }.items():
            folder = tmp_path / f"{name}-1.dist-info"
            folder.mkdir()
            if metadata is not None:
                (folder / "METADATA").write_text(metadata)
        code = """
import sys
sys.path.insert(0, sys.argv[1])
from tracking_core.environment.machine import capture
packages = capture(sys.argv[1])["packages"]
print([p for p in packages if p.lower().startswith(("fine", "broken", "empty", "none"))], "pytest" in str(packages))
"""
        assert run_python(code, str(tmp_path)) == "['Fine==3'] True\n"

    def test_works_in_a_thread(self, repository):
        found = []
        thread = threading.Thread(target=lambda: found.append(capture(repository)))
        thread.start()
        thread.join(60)
        assert found[0]["git"]["branch"] == "work"


class TestAccelerators:
    def test_none_without_jax(self):
        code = "import sys; from tracking_core.environment.machine import accelerators; print(accelerators(), 'jax' in sys.modules)"
        assert run_python(code) == "None False\n"

    @pytest.mark.system
    def test_initialises_nothing_and_leaves_distributed_jax_possible(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        code = """
import sys
import jax
from jax._src import xla_bridge
from tracking_core.environment.machine import accelerators, capture, identity
identity(); capture(".")
assert accelerators() is None
assert not xla_bridge._backends, xla_bridge._backends
jax.distributed.initialize(f"127.0.0.1:{sys.argv[1]}", num_processes=1, process_id=0)
assert accelerators() is None
assert not xla_bridge._backends
jax.numpy.ones(1)
found = accelerators()
assert found["process_count"] == 1 and found["process_index"] == 0, found
print("fine")
"""
        assert run_python(code, str(port)).endswith("fine\n")

    @pytest.mark.system
    def test_describes_the_devices_once_they_are_in_use(self):
        code = """
import json, jax
from tracking_core.environment.machine import accelerators
jax.devices()
print(json.dumps([accelerators(), jax.__version__]))
"""
        found, version = json.loads(run_python(code, XLA_FLAGS="--xla_force_host_platform_device_count=4"))
        assert found == {
            "platform": "cpu",
            "kinds": {"cpu": 4},
            "device_count": 4,
            "local_device_count": 4,
            "process_index": 0,
            "process_count": 1,
            "jax": version,
        }

    @pytest.mark.parametrize("bridge", [None, object()])
    def test_unknown_jax_is_answered_with_none(self, monkeypatch, bridge):
        import types

        monkeypatch.setitem(sys.modules, "jax", types.ModuleType("jax"))
        monkeypatch.setitem(sys.modules, "jax._src.xla_bridge", bridge)
        assert accelerators() is None
