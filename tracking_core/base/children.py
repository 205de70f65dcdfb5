"""Child processes: what starts one that runs a module of ours, and what a training does with those that serve it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Generic, TypeVar

from tracking_core.base.redaction import redact_text

_LAST = 2000
_T = TypeVar("_T")


def import_path() -> list[str]:
    """Where this process imports from, for a child; the empty entry means the working directory, if there is one."""
    try:
        here = os.getcwd()  # noqa: PTH109 - as `sys.path` has it
    except OSError:
        here = ""
    return list(dict.fromkeys(place for entry in sys.path if (place := entry or here)))


class Child:
    """A process that runs a module of ours. What it says on its standard error is kept.

    Args:
        module: The module, run as a program.
        arguments: Its arguments.
        stdin: Its standard input, as `subprocess.Popen` takes it.
        inherited: File descriptors that it inherits.
        environ: Its environment; None for that of this process.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        stdin: int = subprocess.DEVNULL,
        inherited: Sequence[int] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._stderr = _scratch()
        try:
            self.process = subprocess.Popen(
                # Without -P the working directory would come first, and a json.py in it would be imported.
                [sys.executable, "-P", "-m", module, *arguments],
                stdin=stdin,
                # Whoever reads the training's output must not have to wait for a child that outlives it.
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                pass_fds=inherited,
                # Ctrl-C is for the training; the same session, since priorities are compared within one.
                process_group=0,
                env={**(os.environ if environ is None else environ), "PYTHONPATH": os.pathsep.join(import_path())},
            )
        except BaseException:
            self._stderr.close()
            raise

    @property
    def pid(self) -> int:
        """Its process number."""
        return self.process.pid

    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self.process.poll()

    def wait(self, seconds: float) -> int | None:
        """Wait for its end; returns its exit code, or None if it still runs."""
        try:
            return self.process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """End it at once, if it still runs."""
        if self.code() is None:
            self.process.kill()

    def forsake(self) -> None:
        """Leave it to itself: nobody will ask how it ended, and that it still runs is no oversight."""
        if self.process.returncode is None:
            self.process.returncode = 0

    def last_words(self) -> str:
        """The last line on its standard error, without secrets; "" if there is none."""
        with contextlib.suppress(OSError, ValueError):
            self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - _LAST))
            lines = self._stderr.read().decode(errors="replace").split("\n")
            return redact_text(next((line.strip() for line in reversed(lines) if line.strip()), ""))[:500]
        return ""

    def close(self) -> None:
        """Let go of its standard error, and of its standard input if that is a pipe."""
        self._stderr.close()
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()


def _scratch() -> IO[bytes]:
    """A file without a name; where none can be had, nothing is kept."""
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return Path(os.devnull).open("w+b")


class Restarts:
    """How often a child that has died is started again.

    Args:
        limit: How often.
        steady: Seconds of life after which the count begins again; None for never.
    """

    def __init__(self, limit: int, steady: float | None = None) -> None:
        self.count = 0
        self._limit = limit
        self._steady = steady
        self.begun = time.monotonic()

    def again(self) -> bool:
        """Count a death; returns whether another is started."""
        now = time.monotonic()
        if self._steady is not None and now - self.begun > self._steady:
            self.count = 0
        self.begun = now
        self.count += 1
        return self.count <= self._limit


class Children(Generic[_T]):
    """What stands for the children that serve this process. A forked child is not the one that they serve.

    Args:
        let_go: Called in a forked child with each of them, so that they see the end of this process, and not its.
    """

    def __init__(self, let_go: Callable[[_T], None]) -> None:
        self.all: list[_T] = []
        self.lock = threading.Lock()
        """Held while one is started."""
        self._let_go = let_go
        os.register_at_fork(after_in_child=self._in_child)

    def _in_child(self) -> None:
        for one in self.all:
            self._let_go(one)
        self.all.clear()
        self.lock = threading.Lock()
