"""Which event files are a run's own: no other file is ever continued, cut back or emptied.

A file is named by a state, which anybody may have written (see `kept`). It is the run's own when

- it lies in a directory inside the log directory, or in a sub-run of that, and nothing on the way is a link;
- its name, and those of the directories, are of the form that this adapter gives;
- its first record says so: `source_metadata.writer` of the event (where TensorBoard's own writers put their names) is
  `tracking-core {"run": …, "target": …}`, with the run's id and the key of the target, and `"layout": "scoped"` in that
  layout. Files of versions that did not write this begin with the format's version and the text `_run_/about`, which
  has the run's id.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import re
import stat
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking_core.naming import printable
from tracking_tensorboard.location import FLAT, SCOPED
from tracking_tensorboard.protos import Event
from tracking_tensorboard.reading.record_files import record_end, records_of

if TYPE_CHECKING:
    from tracking_core import RunInfo
    from tracking_tensorboard.kept import Kept

VERSION = "brain.Event:2"
_WRITER = "tracking-core "
_FOLDER = re.compile(r"[\w.~-]+", re.ASCII)
_NAME = re.compile(r"events\.out\.tfevents\.\d{10,11}\.[\w.~-]{1,160}\.\d{1,10}\.[0-9a-f]{8}", re.ASCII)
_NO_FILE = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO})
_ABOUT = "_run_/about"
_LARGEST_FIRST = 16 * 1024 * 1024
"""Bytes of a first record beyond which nobody looks: ours have a few hundred, and notes at most."""


class NotOursError(Exception):
    """A file is none that may be touched; the message says why, after the name of the file."""


class EmptyError(NotOursError):
    """A file has nothing in it: nothing that could be lost, and nothing that says whose it is."""


def mark(run_id: str, target: str, *, layout: str = FLAT, token: str = "") -> bytes:
    """What the first event of a file ends in: field 10 of `Event`, which tensorboardX's message classes do not know.

    Args:
        run_id: Id of the run.
        target: Key of the target.
        layout: How the tags of the run are distributed.
        token: What the state of the run has too, in the files of sub-runs.
    """
    facts = {"run": run_id, "target": target}
    facts |= {"layout": layout} if layout != FLAT else {}
    facts |= {"token": token} if token else {}
    # ASCII: an id may hold what protocol buffers cannot.
    writer = (_WRITER + json.dumps(facts)).encode("ascii")
    return _field(10, _field(1, writer))


def open_own(root: str, run: RunInfo, name: str, targets: Iterable[str]) -> int:
    """Open an event file of a run for reading and writing, if it is one.

    Args:
        root: The log directory.
        run: The run.
        name: The file as a state names it, relative to the log directory.
        targets: Keys of targets that it may have been begun for.

    Returns:
        Its descriptor; the caller closes it.

    Raises:
        NotOursError: It may not be touched.
        FileNotFoundError: There is none.
        OSError: The file system refuses.
    """
    *folders, leaf = name.split("/")
    if len(folders) not in {1, 2} or not all(map(is_folder, folders)) or not is_name(leaf):
        raise NotOursError("does not have the name of an event file of this run")
    descriptor = _open_inside(root, folders, leaf)
    try:
        _require_own(descriptor, run.id, targets)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_folder(name: str) -> bool:
    """Whether a directory may have been named by this adapter."""
    return _FOLDER.fullmatch(name) is not None and name.strip(".") != ""


def is_name(name: str) -> bool:
    """Whether a file may have been named by this adapter."""
    return _NAME.fullmatch(name) is not None


def layout_of(file: Path, run_id: str) -> str | None:
    """The layout of an event file of a run, "flat" or "scoped"; None if it is none of this run."""
    with _opened(file) as descriptor:
        facts = {} if descriptor is None else _facts(descriptor, run_id)
    return (SCOPED if facts.get("layout") == SCOPED else FLAT) if facts.get("run") == run_id else None


def scoped_run(file: Path) -> str | None:
    """The id of the run whose event file this is, if the run has sub-runs."""
    with _opened(file) as descriptor:
        facts = {} if descriptor is None else _facts(descriptor, "")
    return str(facts.get("run")) if facts.get("layout") == SCOPED else None


def has_token(file: Path, run_id: str, tokens: Iterable[str]) -> bool:
    """Whether an event file of a run has one of some tokens in its mark."""
    with _opened(file) as descriptor:
        facts = {} if descriptor is None else _facts(descriptor, run_id)
    return facts.get("run") == run_id and facts.get("token") in set(tokens)


@contextlib.contextmanager
def _opened(file: Path) -> Generator[int | None]:
    """A regular file, open for reading; None for anything else."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield descriptor if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    finally:
        os.close(descriptor)


def _open_inside(root: str, folders: Sequence[str], leaf: str) -> int:
    """Open a file below the log directory, not through links, which lead anywhere."""
    opened: list[int] = []
    try:
        opened.append(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        for folder in folders:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            opened.append(os.open(folder, flags, dir_fd=opened[-1]))
        # A pipe would make the opening wait.
        return os.open(leaf, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=opened[-1])
    except OSError as error:
        if error.errno in _NO_FILE:
            raise NotOursError("is not a regular file, or is reached through a link") from error
        raise
    finally:
        for one in opened:
            os.close(one)


def _require_own(descriptor: int, run_id: str, targets: Iterable[str]) -> None:
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        raise NotOursError("is not a regular file, or is reached through a link")
    if not facts.st_size:
        raise EmptyError("is empty")
    if not _is_marked(descriptor, run_id, targets):
        raise NotOursError("has no mark of this run and target")


def confirmed_length(descriptor: int, kept: Kept) -> int:
    """How many bytes of a file stay: what the state says, if the file has so many and a record ends there.

    Raises:
        NotOursError: It does not.
    """
    length = kept.length
    size = os.fstat(descriptor).st_size
    if length is None or length > size:
        raise NotOursError(f"has {size} bytes, but {'an unknown number' if length is None else length} were confirmed")
    at = kept.last
    if at is not None and record_end(descriptor, at) == length:
        return length
    # States of earlier versions do not say where the last record begins.
    at = 0
    while at < length:
        at = record_end(descriptor, at) or length + 1
    if at != length or not length:
        raise NotOursError(f"has no record that ends at byte {length}, the confirmed length")
    return length


def _is_marked(descriptor: int, run_id: str, targets: Iterable[str]) -> bool:
    facts = _facts(descriptor, run_id)
    return facts.get("run") == run_id and facts.get("target", None) in {*targets, None}


def _facts(descriptor: int, run_id: str) -> dict[str, Any]:
    """What the mark of a file says; without a mark, the run if the file introduces the one with this id."""
    if (record_end(descriptor, 0) or 0) > _LARGEST_FIRST:
        return {}
    with open(descriptor, "rb", closefd=False) as file:
        file.seek(0)
        records = list(itertools.islice(records_of(file), 4))
    version = _event(records[0]) if records else None
    if version is None or version.file_version != VERSION:
        return {}
    _, found, text = records[0].partition(_WRITER.encode())
    if not found:
        return {"run": run_id} if any(_introduces(record, run_id) for record in records) else {}
    with contextlib.suppress(ValueError, RecursionError):
        facts: Any = json.loads(text)
        if isinstance(facts, dict) and isinstance(facts.get("target"), str):
            return facts
    return {}


def _introduces(record: bytes, run_id: str) -> bool:
    """Whether an event is the text that says which run it is, with this id."""
    from tracking_tensorboard import markdown
    from tracking_tensorboard.reading import shown_text

    event = _event(record)
    for value in event.summary.value if event is not None else ():
        if value.tag == _ABOUT and value.metadata.summary_description == "kind: about":
            with contextlib.suppress(IndexError):
                pairs, _ = shown_text.facts(value.tensor.string_val[0].decode("utf-8", "replace"))
                return pairs.get("id") == markdown.encode(run_id).decode()
    return False


def _event(record: bytes) -> Any:
    with contextlib.suppress(Exception):  # the error class is the protocol buffer library's own
        return Event.FromString(record)
    return None


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes in the wire format of protocol buffers."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def shown(name: str) -> str:
    """The name of a file, as a state has it, for a message."""
    return repr(printable(name, limit=160))
