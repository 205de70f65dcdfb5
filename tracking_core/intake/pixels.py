"""Images on their way: copied by the call, or reduced to bytes on their device; checked and encoded by the encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tracking_core.errors import InvalidValueError
from tracking_core.intake.resolver import resolver
from tracking_core.on_device import reducing
from tracking_core.on_device.arrays import is_device_array, local_view, snapshots
from tracking_core.on_device.programs import programs
from tracking_core.values import Image, to_images
from tracking_core.values.arrays import bounded, to_host
from tracking_core.values.images import OVERSHOOT, check_pixels, check_shape, checked_range, holds_numbers, range_error

Array = np.ndarray[Any, Any]
Rebuild = Callable[[Iterator[Array]], Any]


def take(key: str, value: Any, value_range: tuple[float, float] | None) -> tuple[list[Any], Rebuild, int]:
    """Make image-like values safe to look at later.

    Args:
        key: The name they are logged under.
        value: What `log_images` takes for one name.
        value_range: `(lo, hi)` that floats are scaled from; None means `[0, 1]`.

    Returns:
        Device arrays to fetch; a function that takes them from an iterator once they are on the host, and gives what
        `to_images` takes; and how many bytes are held.

    Raises:
        InvalidValueError: A shape is none of an image, pixels of the host are out of range, or an array was deleted.
    """
    if is_device_array(value):
        return _from_device(key, value, value_range)
    if isinstance(value, Image) and value.any_range and is_device_array(value.data):
        array = local_view(value.data, key)
        return snapshots([array]), lambda host: value.with_data(next(host)), array.nbytes
    if isinstance(value, Image) and not value.is_normal:
        arrays, rebuild, nbytes = take(key, value.data, value.value_range or value_range)
        caption, inner_range = value.caption, value.value_range
        return arrays, lambda host: Image(rebuild(host), caption, value_range=inner_range), nbytes
    if isinstance(value, (list, tuple)):
        value = bounded(value, repr(key))
    if isinstance(value, (list, tuple)) and not holds_numbers(value):
        parts = [take(f"{key}[{number}]", part, value_range) for number, part in enumerate(value)]
        arrays = [array for part, _, _ in parts for array in part]
        return arrays, lambda host: [rebuild(host) for _, rebuild, _ in parts], sum(part[2] for part in parts)
    if isinstance(value, np.ndarray):
        value = to_host(value, key)
        check_shape(key, value.shape)
        check_pixels(key, value, value_range)
        copied: Array = value.copy()
        return [], lambda _: copied, copied.nbytes
    if isinstance(value, Image):
        return [], lambda _: value, 0
    # Whatever else an image can be is small, or has no form that is cheaper to keep: files, Pillow images, lists.
    images = to_images(key, value, value_range=value_range, copy=True)
    return [], lambda _: images, sum(image.pixels.nbytes for image in images)


def _from_device(key: str, value: Any, value_range: tuple[float, float] | None) -> tuple[list[Any], Rebuild, int]:
    array = local_view(value, key)
    dtype = np.dtype(array.dtype) if isinstance(array.dtype, np.dtype) else None
    if dtype is None or dtype.kind == "c":
        raise InvalidValueError(f"{key!r}: expected an image of real numbers, got {value.dtype}")
    check_shape(key, array.shape)
    if dtype.kind in "biu":
        return snapshots([array]), next, array.nbytes
    lo, hi = checked_range(key, value_range)
    ends = np.float32(lo), np.float32(hi)
    found, reduced = reducing.take(array, programs().image, *ends, has_room=resolver().has_room)
    if not reduced:
        return [found], next, array.nbytes
    pixels, words = found

    def rebuild(host: Iterator[Array]) -> list[Image]:
        shown, facts = next(host), next(host)
        low, high = facts[:2].view(np.float32).tolist()
        odd, clipped = facts[2:].view(np.int32).tolist()
        if odd:
            raise InvalidValueError(f"{key!r}: {odd} pixels are not finite; use jnp.nan_to_num to show them anyway")
        margin = (hi - lo) * OVERSHOOT
        if clipped and (low < lo - margin or high > hi + margin):
            raise range_error(key, dtype, low, high, (lo, hi))
        images = to_images(key, shown)
        images[0].clipped = clipped
        return images

    return [pixels, words], rebuild, pixels.nbytes
