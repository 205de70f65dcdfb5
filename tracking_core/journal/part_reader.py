"""Reads what compaction made of segments as the events that stood in them, in order of their numbers."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from tracking_core.base.regular import OddFileError, bounded_lines, open_regular
from tracking_core.errors import JournalError, MissingDependencyError, TrackingError
from tracking_core.journal.lines import FORMAT, Event, decode_line
from tracking_core.journal.schema import UNNUMBERED
from tracking_core.journal.segment_reader import EVERYTHING, Damage
from tracking_core.journal.segments import PartFiles

EVENT = 96
"""Bytes that an event of a part counts for, where bytes are counted."""
MOST_ROWS = 1 << 25
"""Several times what eight full segments hold, at six bytes a value."""
_BLOCK = 1 << 16
"""Rows that are turned into Python numbers at a time."""


class PartReader:
    """The events of a part. It holds the part's columns while it is read; compaction keeps parts small.

    Args:
        files: The files.

    Raises:
        JournalError: The part is of a newer format, or its header is damaged.
        FileNotFoundError: It is gone.
    """

    def __init__(self, files: PartFiles) -> None:
        self.files = files
        header = read_header(files.events, files.writer)
        fields = header.fields
        self.parent: str | None = fields.get("parent")
        self.segments: tuple[int, int] = tuple(fields["segments"])
        """The first and the last segment that it was made of."""
        self.claim = header.low
        """Every event of the writer with a smaller number is in these segments, or in those before."""
        self.records: int = fields["records"]
        """How many events with a record there are."""
        self.total: int = fields["count"]
        """How many events there are."""
        self.whole: int = fields["whole"]
        """How many events of scalars stand among the others, because columns cannot hold them exactly."""
        self.low = 0
        """Every event with a smaller number was read, or will not come."""
        self.at_end = False
        self.damage: list[Damage] = []
        self._events: Iterator[Event] | None = None
        self._numbers: Any = None
        self._given = 0
        self._moved = 0

    def read(self, limit: int = EVERYTHING) -> list[tuple[tuple[int, int], Event]]:
        """The next events, of about `limit` bytes; ((first segment, how many came before), event) pairs."""
        if self._events is None:
            self._events = self._all()
        found: list[tuple[tuple[int, int], Event]] = []
        room = max(1, limit // EVENT)
        segment = self.segments[0]
        for event in self._events:
            found.append(((segment, self._given), event))
            self._given += 1
            self.low = event.low
            room -= 1
            if not room:
                break
        else:
            self.at_end, self._events, self.low = True, None, self.claim
        self._moved += len(found)
        return found

    def moved(self) -> int:
        """Bytes, as they are counted, since it was asked last."""
        moved, self._moved = self._moved, 0
        return moved * EVENT

    def behind(self) -> int:
        """About how many bytes are still to come."""
        return max(0, self.total - self._given) * EVENT

    def record_numbers(self) -> Any:
        """The numbers of all events with a record, as a sorted int64 array, which is kept."""
        if self._numbers is None:
            import numpy as np

            from tracking_core.journal.events import RECORD_KINDS

            table = read_columns(self.files.scalars, ["seq"])
            lines = part_lines(self.files.events, self.files.writer)
            others = [event.seq for event in lines if event.kind in RECORD_KINDS]
            self._numbers = np.union1d(integers(table, "seq"), np.array(others, np.int64))
        return self._numbers

    def _all(self) -> Iterator[Event]:
        """Both kinds of events, merged by number."""
        others = iter(self._others())
        other = next(others, None)
        for event in self._scalars():
            while other is not None and other.seq < event.seq:
                yield other
                other = next(others, None)
            yield event
        while other is not None:
            yield other
            other = next(others, None)

    def _others(self) -> list[Event]:
        found: list[Event] = []
        for event in part_lines(self.files.events, self.files.writer):
            if event.kind == "damage":
                self.damage.append(read_damage(event, self.files.directory))
            elif event.kind not in UNNUMBERED:
                found.append(self._renumbered(event))
        found.sort(key=lambda event: event.seq)
        return found

    def _renumbered(self, event: Event) -> Event:
        return Event(event.seq, self._low(event.seq), event.kind, event.time, event.fields, event.writer)

    def _low(self, seq: int) -> int:
        # They come in order here: what has a smaller number has come, unless it is in a later segment.
        return min(seq + 1, self.claim)

    def _scalars(self) -> Iterator[Event]:
        import numpy as np

        table = read_columns(self.files.scalars, ["name", "seq", "axis", "step", "time", "value", "kind"])
        if not table.num_rows:
            return
        with damage_named(self.files.scalars):
            text = {key: dictionary(table, key) for key in ("name", "axis", "kind")}
            numbers = {key: integers(table, key) for key in ("seq", "step", "time")}
            value = table.column("value").to_numpy()
            _check_rows(numbers["seq"], value, *text["kind"])
        order = np.argsort(numbers["seq"], kind="stable")
        starts = np.flatnonzero(np.diff(numbers["seq"][order], prepend=-1))
        ends = np.append(starts[1:], len(order))
        names, axes, kinds = (text[key][1] for key in ("name", "axis", "kind"))
        begin = 0
        while begin < len(starts):
            # Whole events, about a block of rows.
            stop = max(begin + 1, int(np.searchsorted(ends, starts[begin] + _BLOCK, side="right")))
            low = int(starts[begin])
            rows = order[low : int(ends[stop - 1])]
            block_seq, block_step, block_time = (numbers[key][rows].tolist() for key in ("seq", "step", "time"))
            block_name, block_axis, block_kind = (text[key][0][rows].tolist() for key in ("name", "axis", "kind"))
            block_value = value[rows].tolist()
            for first, last in zip((starts[begin:stop] - low).tolist(), (ends[begin:stop] - low).tolist(), strict=True):
                values = {
                    names[block_name[row]]: _number(block_value[row], kinds[block_kind[row]])
                    for row in range(first, last)
                }
                seq = block_seq[first]
                fields = {"axis": axes[block_axis[first]], "step": block_step[first], "values": values}
                at = block_time[first] / 1e6
                yield Event(seq, self._low(seq), "scalars", at, fields, self.files.writer)
            begin = stop


def _open(path: Path) -> IO[bytes]:
    """Open a file of a part.

    Raises:
        JournalError: Something else stands there.
        OSError: It cannot be opened.
    """
    try:
        return open_regular(path)
    except OddFileError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}") from error


def read_header(path: Path, writer: str = "") -> Event:
    """The first line of the events file of a part.

    Raises:
        JournalError: It is damaged, or of a newer format.
        OSError: It cannot be read.
    """
    with _open(path) as file:
        line = next(bounded_lines(file), (0, None))[1]
    try:
        header = decode_line(line or b"", writer)
    except JournalError as error:
        raise JournalError(f"{path}: the header is damaged: {error}") from error
    version = header.fields.get("v")
    if header.kind != "compacted" or version is None or version > FORMAT:
        raise JournalError(f"{path} has format {version}, this version reads up to {FORMAT}: upgrade tracking-core")
    return header


def read_damage(event: Event, directory: Path) -> Damage:
    """The damage that compaction found, from its event."""
    fields = event.fields
    return Damage(directory / "journal" / str(fields["file"]), fields["offset"], fields["length"], fields["reason"])


def has_unkept_damage(path: Path, writer: str) -> bool:
    """Whether something is damaged in the segments of a part that its events file holds no copy of."""
    for event in part_lines(path, writer):
        if event.seq > 0:
            break
        if event.kind == "damage" and "content" not in event.fields:
            return True
    return False


def part_lines(path: Path, writer: str) -> Iterator[Event]:
    """The lines of the events file of a part, those of its own included; a damaged one is left out."""
    with _open(path) as file:
        for _, line in bounded_lines(file):
            if line:
                with suppress(JournalError):
                    yield decode_line(line, writer)


def read_columns(path: Path, columns: list[str]) -> Any:
    """Columns of the Parquet file of a part, as a `pyarrow.Table`.

    Raises:
        JournalError: It is damaged.
    """
    with open_columns(path) as file, damage_named(path):
        table = file.read(columns=columns)
        check_columns(table)
        return table


def open_columns(path: Path) -> Any:
    """The Parquet file of a part, as a `pyarrow.parquet.ParquetFile`, if its columns are those of one.

    Raises:
        JournalError: They are not, or the file is damaged.
        OSError: There is none, or it is no regular file.
    """
    parquet = load_parquet(path)
    # pyarrow takes a path, and would wait for a FIFO.
    _open(path).close()
    with damage_named(path):
        file = parquet.ParquetFile(path, read_dictionary=["name", "axis", "kind"], page_checksum_verification=True)
        try:
            check_rows(path, file.metadata)
            _check_schema(file.schema_arrow)
        except BaseException:
            file.close()
            raise
        return file


_TEXT, _INT, _TIME, _FLOAT = "dictionary<values=string", "int64", "timestamp[us", "double"
_COLUMNS = {
    "name": _TEXT, "writer": "", "seq": _INT, "axis": _TEXT,
    "step": _INT, "time": _TIME, "value": _FLOAT, "kind": _TEXT,
}  # fmt: skip
"""Column → how pyarrow's word for its type begins."""


def _check_schema(schema: Any) -> None:
    found = {field.name: str(field.type) for field in schema}
    if list(found) != list(_COLUMNS) or not all(found[name].startswith(kind) for name, kind in _COLUMNS.items()):
        raise ValueError(f"it does not have the columns of a part, but {str(found)[:200]}")


def check_columns(table: Any) -> None:
    """See that columns of a part have a value in each row.

    Raises:
        ValueError: One has not.
    """
    if any(column.null_count for column in table.columns):
        raise ValueError("a value is missing")


def _check_rows(seq: Any, value: Any, kinds: Any, words: list[str]) -> None:
    import numpy as np

    is_float = np.array([word == "float" for word in words], np.bool_)
    if not set(words) <= {"float", "int", "bool"} or not bool(np.all(np.isfinite(value) | is_float[kinds])):
        raise ValueError("a number does not fit its kind")
    if int(seq.min()) < 1:
        raise ValueError(f"an event has the number {seq.min()}")


def check_rows(path: Path, metadata: Any) -> None:
    """Refuse a Parquet file of more rows than a part can have: a few bytes may stand for any number of them.

    Args:
        path: The file.
        metadata: Its metadata, as pyarrow gives it.

    Raises:
        JournalError: It has more.
    """
    if metadata.num_rows > MOST_ROWS:
        raise JournalError(f"{path} has {metadata.num_rows} rows; a part of a journal has at most {MOST_ROWS}")


@contextmanager
def damage_named(path: Path) -> Generator[None]:
    """Say of a Parquet file that it cannot be read, and how to find out more.

    Raises:
        JournalError: In place of what pyarrow raises of contents. What the system says of a file stays as it is.
    """
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        # pyarrow says of contents ArrowInvalid, ArrowNotImplementedError and so on, or OSError without a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise JournalError(
            f"{path} is damaged and cannot be read: {error}; `tracking verify` shows what is left of the run"
        ) from error


def load_parquet(path: Path) -> Any:
    """The module `pyarrow.parquet`.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import pyarrow.parquet as module
    except ImportError as error:
        raise MissingDependencyError(
            f"{path} is Parquet, and pyarrow is not installed: pip install 'tracking-core[store]'"
        ) from error
    return module


def dictionary(table: Any, column: str) -> tuple[Any, list[str]]:
    """A column of few different texts: `[N]` numbers, and the texts they stand for."""
    whole = table.column(column).unify_dictionaries().combine_chunks()
    chunks = whole.chunks if hasattr(whole, "chunks") else [whole]
    import numpy as np

    codes = [chunk.indices.to_numpy() for chunk in chunks]
    return (codes[0] if len(codes) == 1 else np.concatenate(codes)), chunks[0].dictionary.to_pylist()


def integers(table: Any, column: str) -> Any:
    """A column of integers or times as an int64 array of shape `[N]`."""
    return table.column(column).to_numpy().view("int64")


def _number(value: float, kind: str) -> float:
    return value if kind == "float" else bool(value) if kind == "bool" else int(value)
