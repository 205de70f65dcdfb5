"""The recorder of a run: it takes values in without waiting; the resolver writes what is not at hand yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from tracking_core.artifacts import ArtifactStore
from tracking_core.errors import InvalidStepError, InvalidValueError
from tracking_core.intake.hiding import hide_fields
from tracking_core.intake.pixels import take
from tracking_core.intake.recorder import Recorder
from tracking_core.intake.resolver import Draft, resolver
from tracking_core.journal import JournalWriter
from tracking_core.journal.events import histogram_fields
from tracking_core.journal.numbers import Ticket
from tracking_core.on_device.arrays import DEVICE_TYPES, is_at_hand, is_device_array, local_view, tracing
from tracking_core.on_device.packing import Pack, pack_scalars, pack_stacked
from tracking_core.on_device.programs import histogram_words, read_histogram
from tracking_core.values import (
    Histogram,
    Stacked,
    to_axis,
    to_histogram,
    to_images,
    to_name,
    to_scalar,
    to_scalars,
    to_step,
)
from tracking_core.values.scalars import entries, flatten_scalars

Array = np.ndarray[Any, Any]
OnError = Callable[[str, InvalidValueError], None]
COUNTED_AT_ONCE = 4096
"""Host arrays up to this size are counted into bins by the call; larger ones are copied, and counted by the encoder."""
_STEP = "\0step"
_SMALL = 2**1023


class DeferredRecorder(Recorder):
    """Records calls into a journal; none of them waits for a device, or encodes media.

    Args:
        journal: The writer.
        directory: The run directory, for media.
        artifacts: Where artifacts are stored.
        on_error: Called with (key, error) when a value of a call cannot be taken, which is then left out.
    """

    def __init__(
        self,
        journal: JournalWriter,
        directory: Path,
        artifacts: ArtifactStore,
        on_error: OnError | None = None,
    ) -> None:
        super().__init__(journal, directory, artifacts, on_error)
        self.on_late: Callable[[str, Exception], None] = _ignore
        """Called with (key, error) when it turns out after the call that a value cannot be taken."""
        self.on_drop: Callable[[str], None] = _ignore
        """Called with a message when media are dropped because too many wait."""
        self.on_promise: Callable[[str, Any], None] = _ignore
        """Called with (axis, step) when something is to be recorded after the call; the step may be on a device."""
        self.on_outcome: Callable[[str, Any, int | None], None] = _ignore
        """Called with (axis, promised step, step) when that is done; the step is None where nothing can be taken."""

    # ------------------------------------------------------------------ scalars

    def log_scalars(
        self, scalars: Mapping[str, Any], *, step: Any, step_axis: str = "step", wall_time: float | None = None
    ) -> bool:
        """See `Tracker.log_scalars`; values on a device are packed there, and written once they have arrived.

        Returns:
            Whether something was recorded by now; what is to come is promised.
        """
        waiting: list[tuple[str, Any]] = []
        values: dict[str, Any] = {}
        if isinstance(scalars, Stacked):
            found = self._from_stacked(scalars)
            if found is None:
                return self._submit_stacked(scalars, step, to_axis(step_axis), wall_time)
            values = found
        elif type(scalars) is dict:
            rest: dict[str, Any] | None = None
            for name, value in scalars.items():
                kind = type(value)
                if type(name) is not str:
                    pass
                elif kind is float or kind is bool or (kind is int and -_SMALL < value < _SMALL):
                    values[name] = value
                    continue
                elif kind in DEVICE_TYPES:
                    waiting.append((name, value))
                    continue
                if rest is None:
                    rest = {}
                rest[name] = value
            if rest is not None:
                values.update(to_scalars(rest, self.on_error, _deferring(waiting)))
        else:
            values = to_scalars(scalars, self.on_error, _deferring(waiting))
        if type(step) is not int and is_device_array(step):
            waiting.append((_STEP, step))
        if waiting and ((traced := tracing()) or self._at_hand(waiting)):
            self._read_now(waiting, values, ready=not traced)
            step = values.pop(_STEP, step)
            waiting = []
        axis = to_axis(step_axis)
        if not waiting:
            if values:
                # `hide_fields`, written out: this is the call that every step makes. Comparing with the names of the
                # call before takes 0.1 µs, asking for each of ten 0.4 µs.
                found, names = [*values], self.names
                kept = values if found == names.last else names.keys(values)
                if axis not in names.known:
                    axis = names(axis)
                fields = {"axis": axis, "step": to_step(step), "values": kept}
                self.journal.append("scalars", fields, time=wall_time)
            return bool(values)
        pack = pack_scalars(waiting, self._deferred_error, _soon)
        number = step if is_device_array(step) else to_step(step)
        return self._submit_scalars(pack, values, number, axis, wall_time)

    def _from_stacked(self, stacked: Stacked) -> dict[str, Any] | None:
        """The numbers of a stacked array that is at hand; None where it has to come from a device."""
        array = stacked.array
        if type(array) is not np.ndarray:
            if type(array) not in DEVICE_TYPES and not is_device_array(array):
                return to_scalars(dict(stacked), self.on_error)
            if not is_at_hand((array,)) and not tracing():
                return None
            array = np.asarray(array)
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            return to_scalars(dict(zip(stacked.names, array, strict=True)), self.on_error)
        return dict(zip(stacked.names, array.tolist(), strict=False))

    def _submit_stacked(self, stacked: Stacked, step: Any, axis: str, wall_time: float | None) -> bool:
        step_pack = Pack([], [])
        if is_device_array(step):
            step_pack = pack_scalars([(_STEP, step)], self._deferred_error, _soon)
            if not step_pack.words:
                raise InvalidStepError("step: the array cannot be read")
        number = step if step_pack.words else to_step(step)
        if not stacked.names:
            return False
        pack = pack_stacked(stacked.array, stacked.names)
        joined = Pack(pack.words + step_pack.words, pack.groups + step_pack.groups)
        return self._submit_scalars(joined, {}, number, axis, wall_time)

    def _submit_scalars(self, pack: Any, values: dict[str, Any], step: Any, axis: str, wall_time: float | None) -> bool:
        names = [name for _, group in pack.groups for name in group if name != _STEP]
        if not names and not values:
            return False
        ticket, at = self._promise(axis, step, wall_time)

        def write(host: list[Array]) -> None:
            values.update(pack.read(host))
            number = to_step(values.pop(_STEP)) if _STEP in values else step
            if is_device_array(number):
                raise InvalidValueError("step: it could not be read from the device")
            fields = {"axis": axis, "step": number, "values": values} if values else {}
            self._write(ticket, "scalars", fields, at, (axis, step))

        resolver().submit(Draft(pack.words, write, self._failing(ticket, names[0] if names else "step", axis, step)))
        return False

    @staticmethod
    def _at_hand(waiting: Sequence[tuple[str, Any]]) -> bool:
        try:
            return is_at_hand([value for _, value in waiting])
        except Exception:  # noqa: BLE001 - a deleted array says so when it is packed
            return False

    def _read_now(self, waiting: Sequence[tuple[str, Any]], values: dict[str, Any], *, ready: bool) -> None:
        as_array = np.asarray
        for name, value in waiting:
            try:
                if ready:
                    # Nothing keeps the view that numpy gets, nor so the buffer from being donated.
                    number = as_array(value)
                    if number.size == 1 and number.dtype.kind in "biuf":
                        values[name] = number.item()
                        continue
                values[name] = to_scalar(value, name if name != _STEP else "step")
            except InvalidValueError as error:
                self._deferred_error(name, error)

    def _deferred_error(self, name: str, error: InvalidValueError) -> None:
        if self.on_error is None:
            raise error
        self.on_error(name if name != _STEP else "step", error)

    # ------------------------------------------------------------------ histograms

    def log_histogram(
        self,
        name: str,
        values: Any,
        *,
        step: Any,
        step_axis: str = "step",
        wall_time: float | None = None,
        bins: int = 64,
    ) -> bool:
        """See `Tracker.log_histogram`; a mapping or tree of arrays gives one for each, named by its path."""
        name = to_name(name)
        if isinstance(values, Mapping):
            return self._tree(name, values, step, step_axis, wall_time, bins)
        if is_device_array(values) and not tracing():
            return self._reduce([name], [values], step, step_axis, wall_time, bins)
        if _is_countable(values, bins):
            return self._count_later(name, values, step, step_axis, wall_time, bins)
        return super().log_histogram(name, values, step=step, step_axis=step_axis, wall_time=wall_time, bins=bins)

    def _tree(
        self, name: str, tree: Mapping[str, Any], step: Any, step_axis: str, wall_time: float | None, bins: int
    ) -> bool:
        names, arrays, taken = [], [], False
        for path, leaf in _leaves(tree):
            full = f"{name}/{path}"
            if is_device_array(leaf) and not tracing():
                names.append(full)
                arrays.append(leaf)
            else:
                taken |= self.log_histogram(full, leaf, step=step, step_axis=step_axis, wall_time=wall_time, bins=bins)
        if names:
            taken |= self._reduce(names, arrays, step, step_axis, wall_time, bins)
        return taken

    def _reduce(
        self, names: list[str], values: list[Any], step: Any, step_axis: str, wall_time: float | None, bins: int
    ) -> bool:
        """Dispatch the counting of device arrays, all in one program, and write one event for each."""
        axis = to_axis(step_axis)
        step_arrays, read_step = self._take_step(step)
        kept, arrays = [], []
        for name, value in zip(names, values, strict=True):
            try:
                if not isinstance(value.dtype, np.dtype) or value.dtype.kind == "c" or not 1 <= bins <= 4096:
                    raise InvalidValueError(f"{name!r}: expected real numbers and 1 to 4096 bins, got {value.dtype}")  # noqa: TRY301
                arrays.append(local_view(value, name))
                kept.append(name)
            except InvalidValueError as error:
                self._deferred_error(name, error)
        if not arrays:
            return False
        for name, words in zip(kept, histogram_words(arrays, bins), strict=True):
            ticket, at = self._promise(axis, step, wall_time)

            def write(host: list[Array], *, name: str = name, ticket: Ticket = ticket, at: float = at) -> None:
                numbers = read_histogram(host[0])
                numbers.pop("count")
                histogram = Histogram.from_counts(numbers.pop("counts"), **numbers)
                fields = {"axis": axis, "step": read_step(host[1:]), "name": name, **histogram_fields(histogram)}
                self._write(ticket, "histogram", fields, at, (axis, step))

            resolver().submit(Draft([words, *step_arrays], write, self._failing(ticket, name, axis, step)))
        return False

    def _count_later(
        self, name: str, values: Array, step: Any, step_axis: str, wall_time: float | None, bins: int
    ) -> bool:
        axis, copied = to_axis(step_axis), values.copy()
        step_arrays, read_step = self._take_step(step)

        def fields(host: list[Array]) -> dict[str, Any]:
            histogram = to_histogram(copied, bins=bins, key=name)
            return {"axis": axis, "step": read_step(host), "name": name, **histogram_fields(histogram)}

        return self._submit_media("histogram", name, step_arrays, fields, copied.nbytes, wall_time, (axis, step))

    # ------------------------------------------------------------------ images and other media

    def log_images(
        self,
        images: Mapping[str, Any],
        *,
        step: Any,
        step_axis: str = "step",
        wall_time: float | None = None,
        value_range: tuple[float, float] | None = None,
    ) -> bool:
        """See `Tracker.log_images`; pixels are copied, or become bytes on their device, and encoded elsewhere."""
        axis = to_axis(step_axis)
        if not isinstance(images, Mapping) or tracing():
            return super().log_images(images, step=step, step_axis=axis, wall_time=wall_time, value_range=value_range)
        step_arrays, read_step = self._take_step(step)
        taken: dict[str, Any] = {}
        arrays: list[Any] = []
        held = 0
        for key, value in entries(images):
            try:
                found, rebuild, nbytes = take(to_name(key), value, value_range)
            except InvalidValueError as error:
                self._deferred_error(key if isinstance(key, str) else type(key).__name__, error)
                continue
            taken[to_name(key)] = rebuild
            arrays += found
            held += nbytes

        def fields(host: list[Array]) -> dict[str, Any]:
            left, behind = iter(host), host[len(arrays) :]
            stored: dict[str, Any] = {}
            for key, rebuild in taken.items():
                try:
                    stored[key] = self._entries(to_images(key, rebuild(left), value_range=value_range))
                except InvalidValueError as error:
                    self.on_late(key, error)
            return {"axis": axis, "step": read_step(behind), "images": stored} if stored else {}

        if not taken:
            return False
        first, fetched = next(iter(taken)), [*arrays, *step_arrays]
        return self._submit_media("images", first, fetched, fields, held, wall_time, (axis, step))

    def _medium(self, kind: str, name: str, value: Any, step: Any, step_axis: str, wall_time: float | None) -> bool:
        axis = to_axis(step_axis)
        step_arrays, read_step = self._take_step(step)
        name = to_name(name)

        def fields(host: list[Array]) -> dict[str, Any]:
            return {"axis": axis, "step": read_step(host), "name": name, **self._media_fields(kind, value)}

        frames = getattr(value, "frames", None)
        nbytes = frames.nbytes if frames is not None else 0
        return self._submit_media(kind, name, step_arrays, fields, nbytes, wall_time, (axis, step))

    def _submit_media(
        self,
        kind: str,
        name: str,
        arrays: Sequence[Any],
        fields: Callable[[list[Array]], dict[str, Any]],
        nbytes: int,
        wall_time: float | None,
        where: tuple[str, Any],
    ) -> bool:
        if not resolver().has_room(nbytes):
            self.on_drop(f"{name!r}: too many media wait to be written; this {kind} record is dropped")
            return False
        ticket, at = self._promise(*where, wall_time)

        def write(host: list[Array]) -> None:
            self._write(ticket, kind, fields(host), at, where)

        resolver().submit(Draft(arrays, write, self._failing(ticket, name, *where), encode=True, nbytes=nbytes))
        return False

    # ------------------------------------------------------------------ what all share

    def _take_step(self, step: Any) -> tuple[list[Any], Callable[[list[Array]], int]]:
        """The arrays that a step travels in, and what reads it from them on the host."""
        if type(step) is int or not is_device_array(step) or tracing() or self._at_hand([("step", step)]):
            number = to_step(step)
            return [], lambda host: number  # noqa: ARG005 - there is nothing to read
        pack = pack_scalars([(_STEP, step)], self._deferred_error, _soon)
        if not pack.words:
            raise InvalidStepError("step: the array cannot be read")

        def read(host: list[Array]) -> int:
            return to_step(pack.read(host)[_STEP])

        return pack.words, read

    def _promise(self, axis: str, step: Any, wall_time: float | None) -> tuple[Ticket, float]:
        """The number and the time of something that is to be recorded after the call."""
        ticket, at = self.journal.reserve(wall_time)
        self.on_promise(axis, step)
        return ticket, at

    def _write(self, ticket: Ticket, kind: str, fields: dict[str, Any], at: float, promised: tuple[str, Any]) -> None:
        """Keep a promise, or give it up where there is nothing left of it to record."""
        if fields:
            self.journal.write(ticket, kind, hide_fields(fields, self.names), at)
        else:
            self.journal.give_up(ticket)
        self.on_outcome(*promised, fields.get("step"))

    def _failing(self, ticket: Ticket, key: str, axis: str, step: Any) -> Callable[[Exception], None]:
        def fail(error: Exception) -> None:
            self.journal.give_up(ticket)
            self.on_outcome(axis, step, None)
            self.on_late(key, error)

        return fail

    def drain(self, timeout: float) -> bool:
        """Wait until everything that was taken in is in the journal; False when `timeout` seconds passed first."""
        return resolver().drain(timeout)


def _deferring(waiting: list[tuple[str, Any]]) -> Callable[[str, Any], bool]:
    """What puts device arrays aside."""

    def defer(name: str, value: Any) -> bool:
        if is_device_array(value):
            waiting.append((name, value))
            return True
        return False

    return defer


def _soon(task: Callable[[], None]) -> None:
    """Do something on the encoder's thread; nobody hears of it when it fails."""
    resolver().submit(Draft((), lambda _: task(), _ignore, encode=True))


def _is_countable(values: Any, bins: int) -> bool:
    """Whether an array is large, and nothing keeps it from being counted later."""
    return (
        isinstance(values, np.ndarray)
        and values.size > COUNTED_AT_ONCE
        and values.dtype.kind in "biufV"
        and type(bins) is int
        and 1 <= bins <= 4096
    )


def _ignore(*args: Any) -> None:
    """Nobody wants to know."""


def _leaves(tree: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(path, leaf) pairs of a tree: with JAX at hand of any that it knows, such as a Flax state."""
    import sys

    jax = sys.modules.get("jax")
    if jax is None:
        return list(flatten_scalars(tree))
    found: list[tuple[str, Any]] = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
        if isinstance(leaf, Mapping):
            # A mapping that JAX does not know.
            found += flatten_scalars(cast("Mapping[str, Any]", leaf), name)
        else:
            found.append((name, leaf))
    return found
