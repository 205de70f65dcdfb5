"""What intake writes into: the journal, at once or when values have arrived, and the files of media beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tracking_core.artifacts import ArtifactStore
from tracking_core.errors import InvalidStepError, InvalidValueError
from tracking_core.intake.resolver import Draft, resolver
from tracking_core.intake.results import Results
from tracking_core.journal import JournalWriter
from tracking_core.layout.media import put_media
from tracking_core.on_device.arrays import is_device_array, is_ready_on_host, local_view, snapshots, tracing
from tracking_core.on_device.packing import pack_scalars
from tracking_core.values import to_axis, to_name, to_step
from tracking_core.values.hiding import Names, hide_fields
from tracking_core.values.pending import Apart

Array = np.ndarray[Any, Any]
OnError = Callable[[str, InvalidValueError], None]
STEP = "\0step"
"""The name that a step travels under among the scalars of its call."""


class Sink:
    """Writes events, those of values on a device after they have arrived.

    Args:
        journal: The writer.
        directory: The run directory, for media.
        artifacts: Where artifacts are stored.
        on_error: Called with (key, error) when one of several values of a call cannot be taken, which is then left
            out; None raises.
        inline: Whether a call waits for devices and encodes media itself. Otherwise no call does: the resolver's
            threads write the event, under the number that the call reserved.
    """

    def __init__(
        self,
        journal: JournalWriter,
        directory: Path,
        artifacts: ArtifactStore,
        on_error: OnError | None = None,
        *,
        inline: bool = True,
    ) -> None:
        self.journal = journal
        # The journal's, unless it is asked to be elsewhere: a run that was deleted may go on in another.
        self._elsewhere = directory if directory != journal.directory else None
        self.artifacts = artifacts
        self.on_error = on_error
        self.names = Names()
        self.results = Results()
        """What the scalars have come to."""
        self._inline = inline
        self.on_late: Callable[[str, Exception], None] = ignore
        """Called with (key, error) when it turns out after the call that a value cannot be taken."""
        self.on_drop: Callable[[str], None] = ignore
        """Called with a message when media are dropped because too many wait."""
        self.on_promise: Callable[[str, Any], None] = ignore
        """Called with (axis, step) when something is to be recorded after the call; the step may be on a device."""
        self.on_outcome: Callable[[str, Any, int | None], None] = ignore
        """Called with (axis, promised step, step) when that is done; the step is None where nothing can be taken."""

    @property
    def directory(self) -> Path:
        """The run directory, for media."""
        return self._elsewhere or self.journal.directory

    def drain(self, timeout: float) -> bool:
        """Wait until everything that was taken in is in the journal; False when `timeout` seconds passed first."""
        return self._inline or resolver().drain(timeout)

    # ------------------------------------------------------------------ at once

    def _append(self, kind: str, fields: dict[str, Any], wall_time: float | None) -> None:
        self.journal.append(kind, hide_fields(fields, self.names), time=wall_time)

    def _put(self, content: bytes, extension: str) -> str:
        """Keep a medium; the name of its file."""
        # Its directory may be gone, or another run's by now.
        self.journal.recover()
        try:
            return put_media(self.directory, content, extension)
        except (FileNotFoundError, NotADirectoryError):
            self.journal.recover()
            return put_media(self.directory, content, extension)

    def _left_out(self, name: str, error: InvalidValueError) -> None:
        """One of several values cannot be taken."""
        if name == STEP:
            name, error = "step", InvalidStepError(str(error).replace(repr(STEP), "'step'"))
        if self.on_error is None:
            raise error
        self.on_error(name, error)

    # ------------------------------------------------------------------ when it has arrived

    def _waits_for(self, values: Sequence[Any]) -> bool:
        """Whether device values are to be waited for elsewhere: not under a trace, nor when they are here already."""
        return not (self._inline or tracing() or is_here(values))

    def _take_apart(self, name: str, value: Any) -> Apart | None:
        """What of a value has to come from a device, as copies that are ours; None where nothing has.

        Raises:
            InvalidValueError: An array was deleted, or is on other processes.
        """
        if self._inline or tracing():
            return None
        apart = Apart(value, is_device_array)
        if not apart.arrays:
            return None
        apart.arrays = snapshots([local_view(array, name) for array in apart.arrays])
        return apart

    def _take_step(self, step: Any) -> tuple[list[Any], Callable[[list[Array]], int]]:
        """The arrays that a step travels in, and what reads it from them on the host."""
        if type(step) is int or not is_device_array(step) or not self._waits_for((step,)):
            number = to_step(step)
            return [], lambda host: number  # noqa: ARG005 - there is nothing to read
        pack = pack_scalars([(STEP, step)], self._left_out)
        if not pack.words:
            raise InvalidStepError("step: the array cannot be read")

        def read(host: list[Array]) -> int:
            return to_step(pack.read(host)[STEP])

        return pack.words, read

    def _named(
        self,
        kind: str,
        name: Any,
        fields: Callable[[list[Array]], dict[str, Any]],
        step: Any,
        step_axis: str,
        wall_time: float | None,
        *,
        arrays: Sequence[Any] = (),
        nbytes: int = 0,
        is_copy: bool = False,
        late: bool = True,
    ) -> bool:
        """Record a value under a name; see `_record`.

        Args:
            kind: Kind of the event.
            name: The name.
            fields: Makes what the event says besides name and step, from `arrays` on the host.
            step: Its step.
            step_axis: The axis of that.
            wall_time: Seconds since the epoch; None means now.
            arrays: What of the value has to come from a device.
            nbytes: Memory that the value holds on to.
            is_copy: Whether that is a copy that waits to be counted, for which there is room.
            late: Whether `fields` takes long.
        """
        axis, name = to_axis(step_axis), to_name(name)
        step_arrays, read_step = self._take_step(step)

        def event(host: list[Array]) -> dict[str, Any]:
            behind = host[len(arrays) :]
            return {"axis": axis, "step": read_step(behind), "name": name, **fields(host[: len(arrays)])}

        fetched = [*arrays, *step_arrays]
        return self._record(
            kind, name, fetched, event, (axis, step), wall_time, nbytes=nbytes, is_copy=is_copy, late=late
        )

    def _record(
        self,
        kind: str,
        key: str,
        arrays: Sequence[Any],
        fields: Callable[[list[Array]], dict[str, Any]],
        where: tuple[str, Any],
        wall_time: float | None,
        *,
        nbytes: int,
        is_copy: bool = False,
        late: bool,
    ) -> bool:
        """Record an event: on the encoder's thread if its fields take long, at once if nothing has to come.

        Returns:
            Whether it is recorded by now.
        """
        if self._inline or not (late or arrays):
            made = fields([np.asarray(array) for array in arrays])
            if made:
                self._append(kind, made, wall_time)
            return bool(made)
        if not is_copy and not resolver().has_room(nbytes):
            self.on_drop(f"{key!r}: too many media wait to be written; this {kind} record is dropped")
            return False
        self._submit(kind, key, arrays, fields, wall_time, where, nbytes=nbytes, is_copy=is_copy, encode=late)
        return False

    def _submit(
        self,
        kind: str,
        key: str,
        arrays: Sequence[Any],
        fields: Callable[[list[Array]], dict[str, Any]],
        wall_time: float | None,
        promised: tuple[str, Any] | None = None,
        *,
        nbytes: int = 0,
        is_copy: bool = False,
        encode: bool = False,
    ) -> None:
        """Reserve a number, and write the event under it when the arrays have arrived.

        Args:
            kind: Kind of the event.
            key: What an error is reported under.
            arrays: What has to come from a device.
            fields: Makes the fields of the event from those arrays on the host; none where nothing is left to record.
            wall_time: Seconds since the epoch; None means now.
            promised: Axis and step, which may be on a device; None for what has no step.
            nbytes: Memory that it holds on to.
            is_copy: Whether that is a copy that waits to be counted, and no medium.
            encode: Whether `fields` takes long.
        """
        ticket, at = self.journal.reserve(wall_time)
        if promised is not None:
            self.on_promise(*promised)

        def write(host: list[Array]) -> None:
            made = fields(host)
            if made:
                shown = hide_fields(made, self.names)
                self.journal.write(ticket, kind, shown, at)
                if kind == "scalars":
                    self.results.add(shown["axis"], shown["step"], shown["values"])
            else:
                self.journal.give_up(ticket)
            if promised is not None:
                self.on_outcome(*promised, made.get("step"))

        def fail(error: Exception) -> None:
            self.journal.give_up(ticket)
            if promised is not None:
                self.on_outcome(*promised, None)
            self.on_late(key, error)

        resolver().submit(Draft(arrays, write, fail, encode=encode, nbytes=nbytes, is_copy=is_copy))


def is_here(values: Sequence[Any]) -> bool:
    """Whether device values can be read without waiting."""
    try:
        return is_ready_on_host(values)
    except Exception:  # noqa: BLE001 - a deleted array says so when it is packed
        return False


def ignore(*args: Any) -> None:
    """Nobody wants to know."""
