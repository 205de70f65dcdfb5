"""Opening files of a store, which anybody may have put there: only regular files, without waiting, and in bounds.

Opening a FIFO waits for somebody to write to it, a device may never end, and a line or a file of a gigabyte fills the
memory. What is no regular file is refused with an `OddFileError` that says so.

A link to a regular file is read like the file. Where it must not be, as where directories are cleared away, `trees`
opens files relative to a directory, and follows none.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

LONGEST = 1 << 27
"""Bytes of the longest line that is read or written, 134 MB; what is longer is damage."""
LARGEST = 1 << 26
"""Bytes of the largest file that is read as one JSON value, 67 MB: `run.json`, a cursor, a manifest."""
SMALL = 1 << 16
"""The same for heartbeats, leases, aliases and what is kept of places."""
EVERYTHING = 1 << 62
"""As many bytes as there are."""
BLOCK = 1 << 20
"""Bytes that are read at once."""
_TAIL = 1 << 16


class OddFileError(OSError):
    """Something else stands where a file should be, or the file is larger than any that was written there."""


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a file for reading, if it is a regular one; nothing is waited for.

    Raises:
        OddFileError: It is a directory, a FIFO, a socket or a device, or a link that leads nowhere.
        OSError: There is none, or it cannot be opened.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        what = _odd(path, error)
        if what is None:
            raise
        raise OddFileError(errno.EINVAL, what, os.fspath(path)) from error
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISREG(mode):
            return os.fdopen(fd, "rb")
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    raise OddFileError(errno.EINVAL, f"it is {_named(mode)}, not a regular file", os.fspath(path))


def read_regular(path: str | os.PathLike[str], limit: int = LARGEST) -> bytes:
    """The content of a regular file.

    Args:
        path: The file.
        limit: How many bytes it may have.

    Raises:
        OddFileError: It is something else, or has more.
        OSError: There is none, or it cannot be read.
    """
    with open_regular(path) as file:
        # What the system says of the size of some files is no bound; of others it spares reading them.
        is_larger = os.fstat(file.fileno()).st_size > limit
        content = b"" if is_larger else file.read(limit + 1) or b""
    if is_larger or len(content) > limit:
        raise OddFileError(errno.EFBIG, f"it is larger than {limit} bytes", os.fspath(path))
    return content


def is_regular(path: str | os.PathLike[str]) -> bool:
    """Whether there is a regular file, or a link that leads to one."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 - asked for every run of a listing
    except (OSError, ValueError):
        return False


def own_folder(path: Path, *, parents: bool = False) -> Path:
    """Make a directory inside a run directory, if it is not there; through a link nothing is written.

    The run directory itself, and those above it, may be links.

    Args:
        path: The directory.
        parents: Whether to make those above it as well.

    Returns:
        The path.

    Raises:
        OddFileError: It is a link.
        OSError: It cannot be made.
    """
    if path.is_symlink():
        what = "it is a link, and links inside a run directory are not followed: replace it with a directory"
        raise OddFileError(errno.ENOTDIR, what, os.fspath(path))
    path.mkdir(parents=parents, exist_ok=True)
    return path


def bounded_lines(file: IO[bytes], limit: int | None = None) -> Iterator[tuple[int, bytes | None]]:
    """The lines of a file from where it stands, each with its length; None for one that is longer than `limit`.

    A last line without newline is one as well. Newlines are left out, and do not count in the length.
    """
    limit = LONGEST if limit is None else limit
    while line := file.readline(limit + 1):
        if line.endswith(b"\n") or len(line) <= limit:
            line = line.removesuffix(b"\n")
            yield len(line), line
            continue
        length = len(line)
        while (part := file.readline(BLOCK)) and not part.endswith(b"\n"):
            length += len(part)
        yield length + max(0, len(part) - 1), None


class Stretch(NamedTuple):
    """What stands between two places of a file of lines.

    Args:
        start: Where it begins, in bytes.
        length: How long it is.
        text: Complete lines, with the newline of the last; empty for one that is longer than `LONGEST`.
        is_complete: Whether it ends in a newline.
    """

    start: int
    length: int
    text: bytes
    is_complete: bool = True


def stretches(file: IO[bytes], start: int, *, skipped: int = 0, limit: int = EVERYTHING) -> Iterator[Stretch]:
    """The lines of a file that may be written to, many at a time; of the last one the newline may be missing yet.

    Args:
        file: The file.
        start: Where a line starts, in bytes.
        skipped: How much of that line was read before, and has no newline, if that is more than `LONGEST`.
        limit: Stop after about so many bytes, but not before a line is complete.
    """
    file.seek(start + skipped)
    pieces, length, taken, first = list[bytes](), skipped, 0, start
    while (taken < limit or start == first) and (chunk := file.read(BLOCK)):
        taken += len(chunk)
        if length > LONGEST and (end := chunk.find(b"\n") + 1):
            yield Stretch(start, length + end, b"")
            start, length, chunk = start + length + end, 0, chunk[end:]
        if end := chunk.rfind(b"\n") + 1:
            text = b"".join([*pieces, chunk[:end]])
            yield Stretch(start, len(text), text)
            start, length, pieces, chunk = start + len(text), 0, [], chunk[end:]
        pieces.append(chunk)
        length += len(chunk)
        if length > LONGEST:
            pieces.clear()
    if length:
        yield Stretch(start, length, b"", is_complete=False)


def end_of_lines(file: IO[bytes]) -> int:
    """The length of a file up to its last newline; it may be written to meanwhile."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _TAIL)
        file.seek(start)
        at = file.read(end - start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0


def _odd(path: str | os.PathLike[str], error: OSError) -> str | None:
    """What stands at a path that cannot be opened, if it is no file."""
    if error.errno == errno.ELOOP:
        return "it is a link that leads to itself"
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - as above
    except OSError:
        is_link = error.errno == errno.ENOENT and os.path.islink(path)  # noqa: PTH114 - as above
        return "it is a link that leads nowhere" if is_link else None
    return None if stat.S_ISREG(mode) else f"it is {_named(mode)}, not a regular file"


def _named(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    }  # fmt: skip
    return kinds.get(stat.S_IFMT(mode), "something else")


def size_of(path: Path) -> int:
    """Bytes of a regular file; 0 for anything else.

    Raises:
        OSError: There is nothing.
    """
    found = path.stat()
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
