"""Scalars in: numbers of the host are written at once; those on a device are packed there, and written when they come.

Nothing here but the fast path of `log_scalars` is written for speed: every step of a training passes through it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tracking_core.errors import InvalidStepError, InvalidValueError
from tracking_core.intake.sink import STEP, Array, Sink
from tracking_core.on_device.arrays import DEVICE_TYPES, is_device_array, local_view, read_ready, tracing
from tracking_core.on_device.packing import Pack, pack_scalars, pack_stacked
from tracking_core.values import Stacked, to_axis, to_scalar, to_scalars, to_step

_SMALL = 2**63


class ScalarIntake(Sink):
    """Takes scalars in."""

    def log_scalars(  # noqa: PLR0915 - written out: every step passes through it
        self, scalars: Mapping[str, Any], *, step: Any, step_axis: str = "step", wall_time: float | None = None
    ) -> bool:
        """See `Tracker.log_scalars`; values on a device are packed there, and written once they have arrived.

        Returns:
            Whether something was recorded by now; what is to come is promised.
        """
        waiting: list[tuple[str, Any]] = []
        values: dict[str, Any] = {}
        # Of what is read here it is known at once, and nothing has to be looked at again.
        small = False
        if isinstance(scalars, Stacked):
            found = self._from_stacked(scalars)
            if found is None:
                return self._submit_stacked(scalars, step, to_axis(step_axis), wall_time)
            values = found
        elif type(scalars) is dict:
            rest: dict[str, Any] | None = None
            small = True
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
                small = False
        else:
            values = to_scalars(scalars, self.on_error, _deferring(waiting))
        if type(step) is not int and is_device_array(step):
            waiting.append((STEP, step))
        if waiting:
            # Whether JAX traces is asked when it matters: with cold caches that takes as long as reading three numbers.
            odd = read_here(waiting, values)
            if odd is None and (self._inline or tracing()):
                odd = waiting
            if odd is not None:
                if odd:
                    self._read_now(odd, values)
                    small = False
                step = values.pop(STEP, step)
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
                number = to_step(step)
                fields = {"axis": axis, "step": number, "values": kept}
                self.journal.append("scalars", fields, time=wall_time, small=small)
                self.results.add(axis, number, kept)
            return bool(values)
        pack = pack_scalars(waiting, self._left_out)
        return self._submit_scalars(pack, values, step if is_device_array(step) else to_step(step), axis, wall_time)

    def _from_stacked(self, stacked: Stacked) -> dict[str, Any] | None:
        """The numbers of a stacked array that is at hand; None where it has to come from a device."""
        array = stacked.array
        if type(array) is not np.ndarray:
            if type(array) not in DEVICE_TYPES and not is_device_array(array):
                return to_scalars(dict(stacked), self.on_error)
            if self._waits_for((array,)):
                return None
            array = np.asarray(local_view(array, stacked.names[0]) if stacked.names else array)
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            return to_scalars(dict(zip(stacked.names, array, strict=True)), self.on_error)
        return dict(zip(stacked.names, array.tolist(), strict=False))

    def _submit_stacked(self, stacked: Stacked, step: Any, axis: str, wall_time: float | None) -> bool:
        step_pack = Pack([], [])
        if is_device_array(step):
            step_pack = pack_scalars([(STEP, step)], self._left_out)
            if not step_pack.words:
                raise InvalidStepError("step: the array cannot be read")
        number = step if step_pack.words else to_step(step)
        if not stacked.names:
            return False
        pack = pack_stacked(stacked.array, stacked.names)
        joined = Pack(pack.words + step_pack.words, pack.groups + step_pack.groups)
        return self._submit_scalars(joined, {}, number, axis, wall_time)

    def _submit_scalars(
        self, pack: Pack, values: dict[str, Any], step: Any, axis: str, wall_time: float | None
    ) -> bool:
        names = [name for _, group in pack.groups for name in group if name != STEP]
        if not names and not values:
            return False

        def fields(host: list[Array]) -> dict[str, Any]:
            values.update(pack.read(host))
            number = to_step(values.pop(STEP)) if STEP in values else step
            if is_device_array(number):
                raise InvalidValueError("step: it could not be read from the device")
            return {"axis": axis, "step": number, "values": values} if values else {}

        self._submit("scalars", names[0] if names else "step", pack.words, fields, wall_time, (axis, step))
        return False

    def _read_now(self, waiting: Sequence[tuple[str, Any]], values: dict[str, Any]) -> None:
        for name, value in waiting:
            try:
                values[name] = to_scalar(value, name if name != STEP else "step")
            except InvalidValueError as error:
                self._left_out(name, error)


def read_here(named: Sequence[tuple[str, Any]], values: dict[str, Any]) -> list[tuple[str, Any]] | None:
    """See `read_ready`."""
    try:
        return read_ready(named, values)
    except Exception:  # noqa: BLE001 - whatever is wrong with an array is said when it is packed
        return None


def _deferring(waiting: list[tuple[str, Any]]) -> Callable[[str, Any], bool]:
    """What puts device arrays aside."""

    def defer(name: str, value: Any) -> bool:
        if is_device_array(value):
            waiting.append((name, value))
            return True
        return False

    return defer
