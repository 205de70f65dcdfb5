"""Images and other media in: pixels are copied, or become bytes on their device, and are encoded elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tracking_core.errors import InvalidValueError
from tracking_core.intake.pixels import take
from tracking_core.intake.sink import Array, Sink
from tracking_core.on_device.arrays import tracing
from tracking_core.values import Image, Table, to_axis, to_images, to_name
from tracking_core.values.hiding import hide_png
from tracking_core.values.kinds import Medium, said, with_media
from tracking_core.values.scalars import entries


@with_media
class MediaIntake(Sink):
    """Takes images and other media in."""

    def log_images(
        self,
        images: Mapping[str, Any],
        *,
        step: Any,
        step_axis: str = "step",
        wall_time: float | None = None,
        value_range: tuple[float, float] | None = None,
    ) -> bool:
        """See `Tracker.log_images`."""
        axis = to_axis(step_axis)
        if not isinstance(images, Mapping):
            raise InvalidValueError(f"log_images: expected a mapping of names to images, got {type(images).__name__}")
        step_arrays, read_step = self._take_step(step)
        # Under a trace nothing can be dispatched, and what is on a device is read by the call itself.
        at_once = self._inline or tracing()
        taken: dict[str, Any] = {}
        arrays: list[Any] = []
        held = 0
        for key, value in entries(images):
            name = key if isinstance(key, str) else type(key).__name__
            try:
                if at_once:
                    taken[to_name(key)] = self._entries(to_images(to_name(key), value, value_range=value_range))
                    continue
                found, rebuild, nbytes = take(to_name(key), value, value_range)
            except InvalidValueError as error:
                self._left_out(name, error)
                continue
            taken[to_name(key)] = rebuild
            arrays += found
            held += nbytes
        if not taken:
            return False

        def fields(host: list[Array]) -> dict[str, Any]:
            left, behind = iter(host), host[len(arrays) :]
            stored: dict[str, Any] = taken if at_once else {}
            for key, rebuild in () if at_once else taken.items():
                try:
                    stored[key] = self._entries(to_images(key, rebuild(left), value_range=value_range))
                except InvalidValueError as error:
                    self.on_late(key, error)
            return {"axis": axis, "step": read_step(behind), "images": stored} if stored else {}

        first, fetched = next(iter(taken)), [*arrays, *step_arrays]
        return self._record("images", first, fetched, fields, (axis, step), wall_time, nbytes=held, late=not at_once)

    def _entries(self, images: Sequence[Image]) -> list[dict[str, Any]]:
        """Keep images as media, and describe them."""
        entries: list[dict[str, Any]] = []
        for image in images:
            file = self._put(hide_png(image.png()), "png")
            entries.append({"file": file, "shape": list(image.pixels.shape), "caption": said(image.caption)})
            if image.clipped:
                entries[-1]["clipped"] = image.clipped
        return entries

    def _log_medium(
        self,
        kind: Medium,
        name: str,
        value: Any,
        *,
        step: Any,
        step_axis: str = "step",
        wall_time: float | None = None,
        **options: Any,
    ) -> bool:
        """A value of one of the kinds of media: taken in by the call, and encoded elsewhere."""
        where = (step, step_axis, wall_time)
        apart = self._take_apart(name, value)
        if apart is not None:

            def arrived(host: list[Array]) -> dict[str, Any]:
                return kind.encode(kind.hide(kind.normal(apart.whole(host), **options)), self._put)

            held = sum(array.nbytes for array in apart.arrays)
            return self._named(kind.name, name, arrived, *where, arrays=apart.arrays, nbytes=held)
        medium = kind.normal(value, **options)

        def fields(_: list[Array]) -> dict[str, Any]:
            return kind.encode(kind.hide(medium), self._put)

        frames = getattr(medium, "frames", None)
        nbytes = frames.nbytes if frames is not None else len(medium) if isinstance(medium, str) else 0
        if isinstance(medium, Table):
            nbytes = medium.nbytes
        return self._named(kind.name, name, fields, *where, nbytes=nbytes)
