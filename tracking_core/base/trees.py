"""Directories that are looked through and removed, without ever following a link.

A root may have been copied from anybody, and a link in it may lead anywhere. So what is cleared away is opened first,
without following links, and everything is removed relative to what was opened: nothing that is put in place of a name
in the meantime is reached.

Whoever reads a file by its path, and may follow a link to another, uses `regular`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Generator
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def open_directory(path: str | Path, dir_fd: int | None = None) -> int:
    """A descriptor of a directory.

    Args:
        path: The directory; its last part must not be a link.
        dir_fd: What a relative path is relative to; None for the working directory.

    Raises:
        NotADirectoryError: It is a link, or something else.
        OSError: It cannot be opened.
    """
    try:
        return os.open(path, _DIRECTORY, dir_fd=dir_fd)
    except OSError as error:
        if error.errno == errno.ELOOP:
            # What some systems say of a link here, and others do not.
            raise NotADirectoryError(errno.ENOTDIR, "it is a link", str(path)) from error
        raise


@contextlib.contextmanager
def opened(path: str | Path, dir_fd: int | None = None) -> Generator[int]:
    """As `open_directory`, for as long as the context lasts."""
    fd = open_directory(path, dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def names(fd: int) -> list[str]:
    """The names in an open directory, sorted."""
    return sorted(os.listdir(fd))


def is_directory(name: str, dir_fd: int) -> bool:
    """Whether a name in an open directory is that of a directory, and of no link to one."""
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode)
    except OSError:
        return False


def is_file(name: str, dir_fd: int) -> bool:
    """Whether a name in an open directory is that of a plain file, and of no link to one."""
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode)
    except OSError:
        return False


def is_plain_file(path: Path) -> bool:
    """Whether a path is that of a plain file: no link, no pipe and no device."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


def read_file(name: str, dir_fd: int, limit: int) -> bytes:
    """The first bytes of a plain file in an open directory.

    Raises:
        OSError: It is a link or no file, or cannot be read.
    """
    fd = os.open(name, _FILE, dir_fd=dir_fd)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(f"{name!r} is not a regular file")
        return os.read(fd, limit)
    finally:
        os.close(fd)


def write_file(name: str, dir_fd: int, content: bytes) -> None:
    """Make a file in an open directory.

    Raises:
        FileExistsError: Something of that name is there.
        OSError: It cannot be written.
    """
    with open(os.open(name, _NEW_FILE, 0o644, dir_fd=dir_fd), "wb") as file:  # noqa: PTH123 - by descriptor
        file.write(content)


def remove(name: str, dir_fd: int) -> None:
    """Remove what has a name in an open directory, with all that is in it; of a link the link.

    Raises:
        OSError: Something cannot be removed, or has gone meanwhile.
    """
    if is_directory(name, dir_fd):
        # It opens every directory before it empties it, and follows no links.
        shutil.rmtree(name, dir_fd=dir_fd)
    else:
        os.unlink(name, dir_fd=dir_fd)


def newest_change(fd: int) -> float:
    """When something in an open directory changed last, in seconds since the epoch."""
    newest = os.fstat(fd).st_mtime
    for _, folders, files, inside in os.fwalk(".", dir_fd=fd):
        for name in (*folders, *files):
            with contextlib.suppress(OSError):
                newest = max(newest, os.stat(name, dir_fd=inside, follow_symlinks=False).st_mtime)
    return newest
