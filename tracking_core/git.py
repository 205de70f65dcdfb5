"""What a git repository says about the code that runs: commit, branch, remote, and what differs from the commit."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from typing import TypedDict

from tracking_core.redaction import redact_text, redact_url

MAX_DIFF_BYTES = 1_000_000
TIMEOUT = 5.0
"""Seconds for each question; git may wait for a slow file system."""

# Refreshing the index takes its lock, GIT_OPTIONAL_LOCKS or not, and would make the user's own git command fail.
_CONFIGURATION = ("-c", "core.fsmonitor=false", "-c", "core.quotePath=false", "-c", "diff.autoRefreshIndex=false")
# Whatever the user's configuration is, the diff shall be one that `git apply` takes, and start nothing.
_DIFF_OPTIONS = (
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--no-relative",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--ignore-submodules=untracked",
)
# What a surrounding git command (a hook) says about the repository that it runs in.
_FOREIGN = frozenset(
    {
        "GIT_COMMON_DIR",
        "GIT_DIFF_OPTS",
        "GIT_DIR",
        "GIT_EXTERNAL_DIFF",
        "GIT_INDEX_FILE",
        "GIT_NAMESPACE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_WORK_TREE",
    }
)


class GitState(TypedDict, total=False):
    """What `git_state` returns; a field that git does not answer is left out."""

    commit: str
    branch: str
    remote: str
    dirty: bool
    diff: str
    truncated: bool


def git_state(cwd: str | os.PathLike[str], *, timeout: float = TIMEOUT, max_bytes: int = MAX_DIFF_BYTES) -> GitState:
    """The state of the repository around a directory; empty without git, a repository, or an answer in time.

    Takes no locks, starts no hooks, pagers, external diff programs or file system monitors, and asks nobody.
    Untracked files are no part of it.

    Args:
        cwd: A directory in the work tree.
        timeout: Seconds for each of the questions.
        max_bytes: Of the diff; where it is longer it ends with the last whole line, and `truncated` is True.
    """
    root = _ask(cwd, timeout, "rev-parse", "--show-toplevel")
    if root is None:
        return {}
    cwd = root.removesuffix("\n")
    state = GitState()
    commit = _ask(cwd, timeout, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if commit:
        state["commit"] = commit.strip()
    branch = _ask(cwd, timeout, "symbolic-ref", "--quiet", "--short", "HEAD")
    if branch:
        state["branch"] = redact_text(branch.strip())
    remote = _remote(cwd, timeout, branch.strip() if branch else "")
    if remote:
        state["remote"] = remote
    # In a repository without a commit everything differs from nothing.
    base = state.get("commit") or _ask(cwd, timeout, "hash-object", "-t", "tree", os.devnull)
    if base:
        _add_diff(state, cwd, base.strip(), timeout, max_bytes)
    return state


def _remote(cwd: str, timeout: float, branch: str) -> str | None:
    """The address of the branch's remote, of origin, or of whatever remote there is, without credentials."""
    listed = _ask(cwd, timeout, "config", "--null", "--get-regexp", r"^(remote\..*\.url|branch\..*\.remote)$") or ""
    settings: dict[str, str] = {}
    for entry in listed.split("\0"):
        name, _, value = entry.partition("\n")
        settings.setdefault(name, value)
    urls = {name: url for name, url in settings.items() if name.startswith("remote.")}
    for remote in (settings.get(f"branch.{branch}.remote"), "origin"):
        if f"remote.{remote}.url" in urls:
            return redact_url(urls[f"remote.{remote}.url"])
    return redact_url(next(iter(urls.values()))) if urls else None


def _add_diff(state: GitState, cwd: str, base: str, timeout: float, max_bytes: int) -> None:
    raw = _output(cwd, timeout, ("diff", base, *_DIFF_OPTIONS, "--"), limit=max_bytes + 1)
    if raw is None:
        return
    # Cut at a line, because half a secret is not recognised.
    diff = redact_text(_whole_lines(raw, max_bytes).decode("utf-8", "replace"))
    kept = _whole_lines(diff.encode(), max_bytes)
    state["diff"] = kept.decode()
    state["truncated"] = len(raw) > max_bytes or len(kept) < len(diff.encode())
    state["dirty"] = bool(raw)


def _whole_lines(data: bytes, limit: int) -> bytes:
    return data if len(data) <= limit else data[: data.rfind(b"\n", 0, limit) + 1]


def _ask(cwd: str | os.PathLike[str], timeout: float, *arguments: str) -> str | None:
    output = _output(cwd, timeout, arguments, limit=MAX_DIFF_BYTES)
    return None if output is None else os.fsdecode(output)


def _output(cwd: str | os.PathLike[str], timeout: float, arguments: tuple[str, ...], *, limit: int) -> bytes | None:
    """What git prints, up to `limit` bytes; None if it fails, is missing or takes too long."""
    command = ["git", "--no-pager", *_CONFIGURATION, *arguments]
    try:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,  # with its own children, so that all of them can be ended
        )
    except (OSError, ValueError):
        return None
    deadline = time.monotonic() + timeout
    try:
        output, complete = _read(process, deadline, limit)
        failed = complete and process.wait(max(0.1, deadline - time.monotonic())) != 0
    except (TimeoutError, subprocess.TimeoutExpired):
        return None
    else:
        return None if failed else output
    finally:
        _end(process)


def _read(process: subprocess.Popen[bytes], deadline: float, limit: int) -> tuple[bytes, bool]:
    """The output up to `limit` bytes, and whether that was all of it."""
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLHUP)
    output = bytearray()
    while len(output) < limit:
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not poll.poll(remaining * 1000):
            raise TimeoutError
        chunk = os.read(descriptor, min(65536, limit - len(output)))
        if not chunk:
            return bytes(output), True
        output += chunk
    return bytes(output), False


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.stdout is not None:
        process.stdout.close()
    # Even a killed process may be held up by a file system that does not answer.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1.0)


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _FOREIGN and "GIT_TRACE" not in name}
    # GIT_NO_LAZY_FETCH: a partial clone is not completed over the network.
    return kept | {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1"}
