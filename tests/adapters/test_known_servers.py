"""The servers that an account named: kept for it alone, whole, whoever else writes, and never taken from what is odd."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import tracking_core as tracking
from tests.support.programs import REPO


def files():
    return list((Path(os.environ["XDG_STATE_HOME"]) / "tracking-core" / "servers").iterdir())


def test_what_was_named_is_known():
    assert not tracking.knows_server("b", "https://one")
    tracking.remember_server("b", "https://one")
    tracking.remember_server("b", "https://one")
    assert tracking.knows_server("b", "https://one")
    for backend, server in (
        ("c", "https://one"),
        ("b", "https://one/"),
        ("b", "https://on"),
        ("b", ""),
        ("", "x\0\ud800"),
    ):
        assert not tracking.knows_server(backend, server)
    (file,) = files()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert json.loads(file.read_text()) == {"v": 1, "backend": "b", "server": "https://one"}
    file.unlink()
    assert not tracking.knows_server("b", "https://one")


def test_without_the_variable_it_is_in_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in (None, "", "relative"):
        monkeypatch.delenv("XDG_STATE_HOME") if value is None else monkeypatch.setenv("XDG_STATE_HOME", value)
        tracking.remember_server("b", f"https://{value}")
    assert len(list((tmp_path / ".local/state/tracking-core/servers").iterdir())) == 3
    assert not (tmp_path / "relative").exists()


def _damage_text(file):
    file.write_text("{")


def _damage_bytes(file):
    file.write_bytes(b"\xff" * 100)


def _damage_type(file):
    file.write_text("[" * 9000)


def _other_server(file):
    file.write_text(json.dumps({"v": 1, "backend": "b", "server": "https://other"}))


def _link(file):
    file.rename(file.with_suffix(".away"))
    file.symlink_to(file.with_suffix(".away"))


def _fifo(file):
    file.unlink()
    os.mkfifo(file)


def _directory(file):
    file.unlink()
    file.mkdir()


def _anybody(file):
    file.chmod(0o666)


@pytest.mark.parametrize(
    "damage", [_damage_text, _damage_bytes, _damage_type, _other_server, _link, _fifo, _directory, _anybody]
)
def test_what_is_odd_is_not_known(damage):
    tracking.remember_server("b", "https://one")
    (file,) = files()
    damage(file)
    assert not tracking.knows_server("b", "https://one")
    # Naming it again mends what can be mended, and raises nothing.
    tracking.remember_server("b", "https://one")


def test_a_directory_that_cannot_be_written_raises_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    tracking.remember_server("b", "https://one")
    assert not tracking.knows_server("b", "https://one")


def test_many_processes_lose_none():
    program = (
        "import sys, tracking_core as t\nfor n in range(50): t.remember_server('b', f'https://{n % 25}.{sys.argv[1]}')"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(n % 2)], cwd=REPO) for n in range(4)]
    assert [one.wait(60) for one in running] == [0] * 4
    assert all(tracking.knows_server("b", f"https://{n}.{one}") for n in range(25) for one in (0, 1))
    assert len(files()) == 50
