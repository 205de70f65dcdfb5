"""Calls the command `tracking`: in this process, in one of its own with pipes, or at a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from tracking_core.cli.app import app

COMMAND = [sys.executable, "-m", "tracking_core.cli"]


def environment(**env: str) -> dict[str, str]:
    """The environment of the tests without settings of whoever runs them."""
    clean = {
        key: value for key, value in os.environ.items() if not key.startswith(("TRACKING_", "WANDB_", "_TRACKING"))
    }
    clean.pop("NO_COLOR", None)
    return {**clean, **env}


def tracking(*arguments: str, cwd: Path, code: int = 0, stdin: str = "", **env: str) -> tuple[str, str]:
    """Call the command, in a directory and with an environment of its own; returns (stdout, stderr).

    It runs in this process, unless it may start what outlives the call, as clients of backends do.
    """
    if arguments[0] in {"sync", "doctor"}:
        return spawned(*arguments, cwd=cwd, code=code, stdin=stdin, **env)
    clean = environment(**env)
    with contextlib.chdir(cwd):
        done = CliRunner().invoke(
            app, arguments, prog_name="tracking", input=stdin, env={**dict.fromkeys(os.environ), **clean}
        )
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, f"exit {done.exit_code}, expected {code}:\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout, done.stderr


def spawned(*arguments: str, cwd: Path, code: int = 0, stdin: str = "", **env: str) -> tuple[str, str]:
    """Run the command in a process of its own, for what depends on that; returns (stdout, stderr)."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=environment(**env),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == code, f"exit {done.returncode}, expected {code}:\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout, done.stderr


def as_json(*arguments: str, cwd: Path, **keywords: Any) -> Any:
    """What the command prints with --json, read strictly: no NaN, and nothing else on stdout."""
    out, _ = tracking(*arguments, "--json", cwd=cwd, **keywords)
    return json.loads(out, parse_constant=refuse)


def refuse(constant: str) -> None:
    """A number that JSON has not."""
    raise AssertionError(f"{constant} is no JSON")


class Terminal:
    """The command at a terminal of its own.

    Args:
        arguments: Of the command.
        cwd: Where it runs.
        columns: Width of the terminal.
        env: More for its environment.
    """

    def __init__(self, *arguments: str, cwd: Path, columns: int = 100, **env: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        kept = {key: value for key, value in environment(**env).items() if key not in {"COLUMNS", "LINES"}}
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=cwd,
            env={**kept, "TERM": "xterm-256color"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.seen = ""

    def until(self, text: str, seconds: float = 60) -> None:
        """Read until a text has been seen."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} did not come: {self.seen!r}"
            assert self._read(), f"{text!r} did not come before the end: {self.seen!r}"

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.master, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self, code: int = 0) -> str:
        """Read to the end; returns all that was seen."""
        while self._read():
            pass
        os.close(self.master)
        assert self.process.wait(60) == code, self.seen
        assert "Traceback" not in self.seen
        return self.seen

    def _read(self) -> bool:
        ready, _, _ = select.select([self.master], [], [], 5)
        if not ready:
            return self.process.poll() is None
        try:
            part = os.read(self.master, 65536)
        except OSError:
            # How Linux says that the other side is closed.
            return False
        self.seen += part.decode(errors="replace")
        return bool(part)
