"""Compaction: closed segments of a journal become a part, columns of scalars in Parquet and the other events beside it.

Crash invariant: a segment is removed only when both files of its part are in place and durable, every target has
passed it, and nothing is damaged in it that the part has no copy of. Whoever compacts makes the same files of the same
segments, so that two at once, or one that was killed and repeated, come to the same.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracking_core.backends.targets import parse_target
from tracking_core.base.json_text import read_json
from tracking_core.base.processes import read_facts
from tracking_core.base.regular import LONGEST, OddFileError, is_regular, open_regular, read_regular
from tracking_core.compaction.merging import merge
from tracking_core.delivery.places import cursor_path, cursor_paths
from tracking_core.errors import JournalError, MissingDependencyError, SettingsError
from tracking_core.journal import decode_line
from tracking_core.journal.finding import found_from_the_end
from tracking_core.journal.liveness import is_alive
from tracking_core.journal.part_reader import PartReader, has_unkept_damage
from tracking_core.journal.segments import MERGED, WriterFiles, find_files
from tracking_core.layout.runs import read_run

SETTLED = 2.0
"""Seconds without a change after which the end of a run is believed, while its process lives on."""
ELSEWHERE = 3600.0
"""Seconds without a sign of life after which a writer on another host counts as gone for good."""
NICE = 19
_TAIL = 1 << 24
"""The end of a run stands in the last bytes of its journal."""
_ASIDE = re.compile(r"\.(?:events-.+\.jsonl|scalars-.+\.parquet)\.(?P<pid>\d+)\.[0-9a-f]{12}", re.DOTALL)


@dataclass
class Compacted:
    """What compaction did to a run.

    Args:
        parts: How many parts were made.
        removed: How many segments were removed.
        waiting: How many segments are in parts, and stay until every target has passed them.
        damaged: How many segments are in parts, and stay because much in one of them is damaged.
        before: Bytes of journals and parts before.
        after: The same after.
    """

    parts: int = 0
    removed: int = 0
    waiting: int = 0
    damaged: int = 0
    before: int = 0
    after: int = 0


def compact(directory: Path, *, over: bool = False) -> Compacted:
    """Merge the closed segments of a run, and remove those that nobody needs any more.

    Args:
        directory: The run directory.
        over: Whether the process that finished the run says so itself: it need not be found out.

    Raises:
        MissingDependencyError: pyarrow is not installed.
        JournalError: A segment is of a newer format.
        OSError: Files cannot be written.
    """
    need_pyarrow(directory)
    result = Compacted(before=_size(directory))
    sweep_aside(directory)
    for writer, files in find_files(directory).items():
        covered = covered_segments(files)
        for numbers in _groups(directory, writer, files, covered, over=over):
            with contextlib.suppress(FileNotFoundError):
                # What is gone was merged by another in the meantime.
                if merge(directory, writer, [files.segments[number] for number in numbers], numbers):
                    result.parts += 1
    result.removed, result.waiting, result.damaged = remove_merged(directory)
    result.after = _size(directory)
    return result


# -------------------------------------------------------------------- what is closed


def covered_segments(files: WriterFiles) -> set[int]:
    """The segments of a writer that are in parts."""
    covered: set[int] = set()
    for part in files.parts:
        with contextlib.suppress(JournalError, FileNotFoundError, OddFileError):
            segments = PartReader(part).segments
            covered.update(range(segments[0], segments[1] + 1))
    return covered


def _groups(
    directory: Path, writer: str, files: WriterFiles, covered: set[int], *, over: bool
) -> Iterable[tuple[int, ...]]:
    """Segments to be merged, each time those that any other compactor would merge."""
    there = sorted(number for number, path in files.segments.items() if number not in covered and is_regular(path))
    if not there:
        return
    ended = _has_ended(directory, writer, files, over=over)
    sealed = set(there) if ended else _sealed(writer, files)
    blocks: dict[int, list[int]] = {}
    for number in there:
        blocks.setdefault((number - 1) // MERGED, []).append(number)
    for block, numbers in sorted(blocks.items()):
        whole = numbers == list(range(block * MERGED + 1, block * MERGED + MERGED + 1))
        if (whole and sealed.issuperset(numbers)) or (ended and numbers == list(range(numbers[0], numbers[-1] + 1))):
            yield tuple(numbers)


def _sealed(writer: str, files: WriterFiles) -> set[int]:
    """The segments that a `seal` names, and that are as long as it says."""
    found: set[int] = set()
    paths = [*files.segments.values(), *(part.events for part in files.parts)]
    for path in paths:
        # What is longer than any segment has none: such a file is merged when its writer is gone.
        with contextlib.suppress(FileNotFoundError, OddFileError):
            for _, event in found_from_the_end(read_regular(path, LONGEST), writer, "seal"):
                number = event.fields["segment"]
                with contextlib.suppress(OSError):
                    if number in files.segments and files.segments[number].stat().st_size == event.fields["bytes"]:
                        found.add(number)
    return found


def _has_ended(directory: Path, writer: str, files: WriterFiles, *, over: bool) -> bool:
    """Whether a writer writes no more: it is gone, or has finished its run."""
    path = files.segments[max(files.segments)]
    touched = path.stat().st_mtime
    alive = directory / "journal" / f"{writer}.alive"
    if not is_alive(directory, writer):
        return _is_here(alive) or time.time() - max(touched, _mtime(alive)) > ELSEWHERE
    if not over and time.time() - touched < SETTLED:
        return False
    return _is_finished(path, writer)


def _is_finished(path: Path, writer: str) -> bool:
    """Whether a segment holds the end of a run, and no event before it is missing."""
    try:
        with open_regular(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            content = file.read(_TAIL)
    except OddFileError:
        return False
    start, end = next(found_from_the_end(content, writer, "finish"), (0, None))
    if end is None or not content.endswith(b"\n"):
        return False
    try:
        return max(decode_line(line, writer).low for line in content[start:].split(b"\n") if line) > end.seq
    except JournalError:
        return False


def _is_here(alive: Path) -> bool:
    """Whether a writer belongs to this host, or to none that is known."""
    try:
        return read_facts(alive)["host"] == socket.gethostname()
    except FileNotFoundError:
        return True
    except (OSError, ValueError, KeyError):
        return False


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


# -------------------------------------------------------------------- what is left behind


def sweep_aside(directory: Path) -> None:
    """Remove what compactors that were killed have left half-written."""
    for path in directory.glob(".*"):
        match = _ASIDE.fullmatch(path.name)
        with contextlib.suppress(OSError):
            if match and (time.time() - path.lstat().st_mtime > ELSEWHERE or _left_behind(match["pid"])):
                path.unlink()


def _left_behind(pid: str) -> bool:
    return sys.platform == "linux" and not Path("/proc", pid).exists()


# -------------------------------------------------------------------- removing


def remove_merged(directory: Path) -> tuple[int, int, int]:
    """Remove segments that are in parts and that nobody needs any more; where `journal` is a link, they all stay.

    Returns:
        How many; how many stay since a target has not passed them; and how many since they are damaged.
    """
    removed = waiting = damaged = 0
    passed = _passed(directory)
    elsewhere = (directory / "journal").is_symlink()
    for writer, files in find_files(directory).items():
        for files_of_part in files.parts:
            try:
                part = PartReader(files_of_part)
                whole = not has_unkept_damage(files_of_part.events, writer)
            except (JournalError, FileNotFoundError, OddFileError):
                continue
            for number in range(part.segments[0], part.segments[1] + 1):
                if number not in files.segments:
                    continue
                if not whole:
                    damaged += 1
                elif not elsewhere and passed(writer, part):
                    files.segments[number].unlink(missing_ok=True)
                    removed += 1
                else:
                    waiting += 1
    return removed, waiting, damaged


def _passed(directory: Path) -> Callable[[str, PartReader], bool]:
    """Tells whether every target is beyond a part."""
    cursors: list[dict[str, Any]] = []
    known: set[str] = set()
    complete = True
    for path in cursor_paths(directory):
        try:
            cursors.append(dict(read_json(path)["writers"]))
            known.add(path.stem)
        except (OSError, ValueError, KeyError, TypeError):
            complete = False
    for text in read_run(directory).get("targets", ()):
        with contextlib.suppress(SettingsError):
            target = parse_target(text)
            # The label of a tracker that was passed as an object is not in canonical form: no cursor is kept for it.
            if str(target) == text and cursor_path(directory, target).stem not in known:
                complete = False

    def passed(writer: str, part: PartReader) -> bool:
        return complete and all(_is_beyond(cursor.get(writer), part) for cursor in cursors)

    return passed


def _is_beyond(position: Any, part: PartReader) -> bool:
    try:
        return position["seq"] >= part.files.last or position.get("segment", 1) > part.segments[1]
    except (TypeError, KeyError):
        return False


def _size(directory: Path) -> int:
    total = 0
    for files in find_files(directory).values():
        paths = [*files.segments.values(), *(path for part in files.parts for path in (part.events, part.scalars))]
        for path in paths:
            with contextlib.suppress(OSError):
                total += path.stat().st_size
    return total


def need_pyarrow(directory: Path) -> None:
    """Import pyarrow.

    Args:
        directory: What it is needed for.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401  # pyright: ignore[reportUnusedImport] - whether it is there
    except ImportError as error:
        raise MissingDependencyError(
            f"{directory}: compaction writes Parquet, and pyarrow is not installed: "
            "pip install 'tracking-core[store]'; everything can be read without it"
        ) from error


# -------------------------------------------------------------------- as a process


def main() -> None:
    """Compact one run, as trainings asked for it that began before the package was upgraded.

    It goes when whoever started it is gone. `compaction.server` is what a training starts now.
    """

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(3)

    threading.Thread(target=watch, daemon=True).start()
    try:
        # First: at the lowest priority that takes minutes on a busy machine.
        need_pyarrow(Path(sys.argv[1]))
        with contextlib.suppress(OSError, AttributeError):
            os.nice(NICE)
        compact(Path(sys.argv[1]), over="--over" in sys.argv[2:])
    except Exception as error:  # noqa: BLE001 - the parent is told in one line
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    main()
