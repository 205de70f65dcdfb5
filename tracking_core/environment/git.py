"""What a git repository says about the code that runs: commit, branch, remote, and what differs from the commit.

A repository may have been made by anybody, and its configuration names programs: filters, text converters, monitors,
helpers of remotes. None of them is started. That has a price where files pass through a filter, as those of git-lfs
do: whether one that was touched differs from the commit, only the filter could tell. Such files are named, and are no
part of the diff.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import tempfile
import threading
import time
from typing import IO, TypedDict

from tracking_core.base.redaction import redact_text, redact_url

MAX_DIFF_BYTES = 1_000_000
TIMEOUT = 5.0
"""Seconds for each question; git may wait for a slow file system."""

# Refreshing the index takes its lock, GIT_OPTIONAL_LOCKS or not, and would make the user's own git command fail.
_CONFIGURATION = (
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.quotePath=false",
    "-c",
    "diff.autoRefreshIndex=false",
    "-c",
    f"core.hooksPath={os.devnull}",
)
# Whatever the user's configuration is, the diff shall be one that `git apply` takes, and start nothing.
_DIFF_OPTIONS = (
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--no-relative",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    # To look into a submodule git would start another git there, which has programs of its own in its configuration.
    "--submodule=short",
    "--ignore-submodules=dirty",
)
_LONGEST_ARGUMENTS = 1 << 16
_MOST_FILTERED = 1000
# What a surrounding git command (a hook) says about the repository that it runs in.
_FOREIGN = frozenset(
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_ATTR_SOURCE",
        "GIT_COMMON_DIR",
        "GIT_CONFIG",
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
    filtered: list[str]


def git_state(cwd: str | os.PathLike[str], *, timeout: float = TIMEOUT, max_bytes: int = MAX_DIFF_BYTES) -> GitState:
    """The state of the repository around a directory; empty without git, a repository, or an answer in time.

    Takes no locks, starts no program that the configuration names, and asks nobody. Untracked files are no part of it.
    Nor is what is changed inside a submodule without a commit, nor a file that a filter is configured for: those of
    them that may have changed are in `filtered`.

    Args:
        cwd: A directory in the work tree.
        timeout: Seconds for each of the questions.
        max_bytes: Of the diff; where it is longer it ends with the last whole line, and `truncated` is True.
    """
    root = _ask(cwd, timeout, "rev-parse", "--show-toplevel")
    if root is None:
        return {}
    root = root.removesuffix("\n")
    if not _is_inside(cwd, root):
        # Its configuration says that it is about other files than those around it.
        return {}
    cwd = root
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
    filters = _filters(cwd, timeout)
    if filters is None:
        return
    left_out = _filtered(cwd, timeout, base, filters)
    if left_out is None:
        return
    if left_out:
        state["filtered"] = [redact_text(path.decode("utf-8", "replace")) for path in left_out[:_MOST_FILTERED]]
    if sum(len(path) + 32 for path in left_out) > _LONGEST_ARGUMENTS:
        return
    without = [":(top)", *(f":(exclude,top,literal){os.fsdecode(path)}" for path in left_out)] if left_out else []
    arguments = (*_without(filters), "diff", base, *_DIFF_OPTIONS, "--", *without)
    raw = _output(cwd, timeout, arguments, limit=max_bytes + 1)
    if raw is None:
        return
    # Cut at a line, because half a secret is not recognised.
    diff = redact_text(_whole_lines(raw, max_bytes).decode("utf-8", "replace"))
    kept = _whole_lines(diff.encode(), max_bytes)
    state["diff"] = kept.decode()
    state["truncated"] = len(raw) > max_bytes or len(kept) < len(diff.encode())
    state["dirty"] = bool(raw)


def _filters(cwd: str, timeout: float) -> list[str] | None:
    """The names of the filters that are configured; None where that cannot be told, or one cannot be put aside."""
    listed = _output(cwd, timeout, ("config", "--null", "--name-only", "--list"), limit=MAX_DIFF_BYTES)
    if listed is None or len(listed) >= MAX_DIFF_BYTES:
        return None
    found: set[str] = set()
    for key in os.fsdecode(listed).split("\0"):
        section, _, rest = key.partition(".")
        name, dot, _ = rest.rpartition(".")
        if section == "filter" and dot:
            found.add(name)
    # What follows the first "=" would be taken for the value.
    return None if any("=" in name for name in found) else sorted(found)


def _without(filters: list[str]) -> tuple[str, ...]:
    """Arguments of git that take what the filters start away from them."""
    settings = ("clean=", "smudge=", "process=", "required=false")
    return tuple(text for name in filters for setting in settings for text in ("-c", f"filter.{name}.{setting}"))


def _filtered(cwd: str, timeout: float, base: str, filters: list[str]) -> list[bytes] | None:
    """The files that a filter is configured for, and that may have changed; None where that cannot be told.

    Whether a file may have changed is told by its size and times, as git keeps them; its content says nothing without
    the filter.
    """
    if not filters:
        return []
    listing = (*_without(filters), "diff-index", "--name-only", "-z", "--ignore-submodules=dirty", base, "--")
    changed = _output(cwd, timeout, listing, limit=MAX_DIFF_BYTES)
    if changed is None or len(changed) >= MAX_DIFF_BYTES:
        return None
    if not changed:
        return []
    asked = ("check-attr", "-z", "--stdin", "filter")
    told = _output(cwd, timeout, asked, limit=2 * MAX_DIFF_BYTES, stdin=changed)
    if told is None or len(told) >= 2 * MAX_DIFF_BYTES:
        return None
    fields = told.split(b"\0")
    known = set(map(os.fsencode, filters))
    return [path for path, filter_ in zip(fields[::3], fields[2::3], strict=False) if filter_ in known]


def _is_inside(cwd: str | os.PathLike[str], root: str) -> bool:
    here = os.path.realpath(cwd)
    return os.path.commonpath([here, os.path.realpath(root)]) == os.path.realpath(root)


def _whole_lines(data: bytes, limit: int) -> bytes:
    return data if len(data) <= limit else data[: data.rfind(b"\n", 0, limit) + 1]


def _ask(cwd: str | os.PathLike[str], timeout: float, *arguments: str) -> str | None:
    output = _output(cwd, timeout, arguments, limit=MAX_DIFF_BYTES)
    return None if output is None else os.fsdecode(output)


def _output(
    cwd: str | os.PathLike[str], timeout: float, arguments: tuple[str, ...], *, limit: int, stdin: bytes = b""
) -> bytes | None:
    """What git prints, up to `limit` bytes; None if it fails, is missing or takes too long."""
    command = ["git", "--no-pager", *_CONFIGURATION, *arguments]
    try:
        with tempfile.TemporaryFile() as given:
            given.write(stdin)
            given.seek(0)
            return _run(command, cwd, timeout, given, limit)
    except (OSError, ValueError):
        return None


def _run(command: list[str], cwd: str | os.PathLike[str], timeout: float, stdin: IO[bytes], limit: int) -> bytes | None:
    try:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=_environment(),
            stdin=stdin,
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
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        # Somebody has to ask after it once it is gone.
        threading.Thread(target=process.wait, name="tracking-git", daemon=True).start()


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _FOREIGN and "GIT_TRACE" not in name}
    # GIT_NO_LAZY_FETCH: a partial clone is not completed over the network. For versions that do not know it no way to
    # another repository is allowed: each may start a program that the configuration names.
    return kept | {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "",
    }
