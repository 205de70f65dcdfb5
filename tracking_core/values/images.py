"""Images: from arrays of many shapes and ranges to uint8 pixels, and to PNG."""

from __future__ import annotations

import hashlib
import io
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from tracking_core.base.text import counted
from tracking_core.errors import InvalidValueError
from tracking_core.values.arrays import bounded, describe, is_integral, is_on_device, to_host
from tracking_core.values.scalars import entries, to_name

CHANNELS = (1, 3, 4)
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_USUAL_RANGES = ((-1, 1), (0, 255), (-128, 127), (0, 65535))
"""What pixels are scaled to where not to 0 to 1; the last two are those of integers."""
#: Values up to one grey level outside the range are rounding (bfloat16 has 8 bits of mantissa), and clipped.
OVERSHOOT = 1.0 / 128


LARGEST_DECODED = 1 << 27
"""Bytes of pixels up to which an image file is decoded: a few kilobytes can hold any number of them, and a run takes no
more than half of that in one call."""
_BYTES = {"1": 3, "L": 1, "RGB": 3, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""What a pixel of a mode takes; of others, which become RGBA or are such numbers, four."""


class Image:
    """One image, or a batch, with its caption.

    Args:
        data: uint8 or float array of shape `[H, W]`, `[H, W, 1|3|4]`, `[N, H, W]` or `[N, H, W, C]`; a PIL image;
            or a path to, or the bytes of, a PNG file.
        caption: Shown with the image; for a batch, one per image.
        value_range: `(lo, hi)` that float values are scaled from; None means `[0, 1]`.

    Raises:
        InvalidValueError: By `to_images`, when the shape or the values cannot be an image.

    Example:
        >>> import numpy as np
        >>> image = to_images("x", Image(np.zeros((2, 3)), caption="black"))[0]
        >>> image.pixels.shape, image.caption
        ((2, 3, 1), 'black')
    """

    __slots__ = ("_data", "_pixels", "_png", "caption", "clipped", "value_range")

    any_range: ClassVar[bool] = False
    """Whether pixels of any range are taken: those on a device come to the host as they are, and to `with_data`."""

    def __init__(
        self,
        data: Any,
        caption: str | Sequence[str | None] | None = None,
        *,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        self._data = data
        self._pixels: np.ndarray[Any, Any] | None = None
        self._png: bytes | Path | None = None
        self.caption = caption
        self.value_range = value_range
        self.clipped = 0
        """How many values were outside the range because of rounding, and were clipped."""

    @classmethod
    def from_pixels(cls, pixels: np.ndarray[Any, Any], caption: str | None = None, clipped: int = 0) -> Image:
        """An image over uint8 pixels of shape `[H, W, 1|3|4]`, which are not copied."""
        image = cls(None, caption)
        image._pixels = pixels
        image.clipped = clipped
        return image

    @classmethod
    def from_png(cls, png: bytes | Path, caption: str | None = None) -> Image:
        """An image over the bytes of a PNG file, or its path; decoded when the pixels are asked for."""
        image = cls(None, caption)
        image._png = png
        return image

    def captioned(self, caption: str | None) -> Image:
        """A copy of a normal image with another caption."""
        image = Image(None, caption)
        image._pixels, image._png, image.clipped = self._pixels, self._png, self.clipped
        return image

    @property
    def is_normal(self) -> bool:
        """Whether this is one image with known pixels or PNG bytes, as `to_images` makes it."""
        return self._pixels is not None or self._png is not None

    @property
    def pixels(self) -> np.ndarray[Any, Any]:
        """uint8 array of shape `[H, W, 1|3|4]`."""
        if self._pixels is None:
            if self._png is None:
                single = to_images("image", self)
                if len(single) != 1:
                    raise InvalidValueError("this Image holds a batch; to_images gives its images one by one")
                return single[0].pixels
            self._pixels = _decode(self.png())
        return self._pixels

    def png(self) -> bytes:
        """The image as a PNG file."""
        if isinstance(self._png, Path):
            return _read(self._png)
        if self._png is None:
            self._png = _encode(self.pixels)
        return self._png

    @property
    def data(self) -> Any:
        """The data that the image was made from."""
        return self._data

    def with_data(self, data: Any) -> Image:
        """The same over other data, such as an array of a device that is on the host by now."""
        return Image(data, self.caption, value_range=self.value_range)

    def digest(self) -> str:
        """sha256 over shape and pixels, hex: two images with one digest look the same."""
        pixels = self.pixels
        return hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Image):
            return NotImplemented
        return self.caption == other.caption and np.array_equal(self.pixels, other.pixels)

    def __hash__(self) -> int:
        return hash(self.digest())

    def __repr__(self) -> str:
        if self._pixels is not None:
            return f"Image({'x'.join(map(str, self._pixels.shape))}, caption={self.caption!r})"
        return f"Image(<{'png' if self._png is not None else describe(self._data)}>, caption={self.caption!r})"

    def _repr_png_(self) -> bytes:
        from tracking_core.values.notebook import LARGEST, thinned

        image = self
        if not self.is_normal:
            # What was not logged yet may be a batch.
            images = to_images("image", self)
            image = images[0] if len(images) == 1 else image_grid(images)
        png = image.png()
        return png if len(png) <= LARGEST else Image.from_pixels(thinned(image.pixels)).png()

    def _repr_html_(self) -> str | None:
        """With what is written below it; None leaves it to the PNG."""
        if not isinstance(self.caption, str):
            return None
        from tracking_core.values.notebook import media_html

        return media_html(self._repr_png_(), "image/png", self.caption)


def to_images(
    key: str, value: Any, *, value_range: tuple[float, float] | None = None, copy: bool = False
) -> list[Image]:
    """Turn an image-like value into images over uint8 pixels.

    Args:
        key: The name it is logged under, for error messages.
        value: See `Image`; or a sequence of these.
        value_range: `(lo, hi)` that float values are scaled from; None means `[0, 1]`.
        copy: Whether the pixels must not share memory with `value`.

    Returns:
        At least one image; `pixels` is `[H, W, 1|3|4]`, uint8.

    Raises:
        InvalidValueError: Wrong type, shape or range; the message has the remedy.
    """
    if isinstance(value, Image):
        return _from_image(key, value, value_range, copy=copy)
    if isinstance(value, (list, tuple)):
        value = bounded(value, repr(key))
        if not value:
            raise InvalidValueError(f"{key!r}: an empty sequence of images")
        if all(isinstance(part, (int, float)) for part in value):
            raise InvalidValueError(f"{key!r}: expected images, got a sequence of numbers")
        if not holds_numbers(value):
            return [
                image
                for number, part in enumerate(value)
                for image in to_images(f"{key}[{number}]", part, value_range=value_range, copy=copy)
            ]
    if isinstance(value, (bytes, Path)):
        return [_from_file(key, value, None)]
    if isinstance(value, (str, dict)) or value is None:
        raise InvalidValueError(f"{key!r}: expected an image, got {describe(value)}")
    if hasattr(value, "getbands") and hasattr(value, "convert"):
        value = _from_pil(key, value)
    array = to_host(value, key)
    pixels, clipped = _to_uint8(key, _batched(key, array), value_range)
    if copy and np.shares_memory(pixels, array):
        pixels = pixels.copy()
    return [Image.from_pixels(one, clipped=clipped if not number else 0) for number, one in enumerate(pixels)]


def holds_numbers(value: Any) -> bool:
    """Whether nested lists are one array of numbers; otherwise they are a sequence of images.

    Args:
        value: Any; lists and tuples are looked into.
    """
    if isinstance(value, (list, tuple)):
        return all(holds_numbers(part) for part in cast("Sequence[Any]", value))
    return isinstance(value, (int, float)) or getattr(value, "ndim", None) == 0


def to_image_mapping(
    images: Mapping[str, Any], *, value_range: tuple[float, float] | None = None, copy: bool = False
) -> dict[str, list[Image]]:
    """`to_images` for every entry of what `log_images` is given."""
    if not isinstance(images, Mapping):
        raise InvalidValueError(f"log_images: expected a mapping of names to images, got {describe(images)}")
    return {to_name(key): to_images(key, value, value_range=value_range, copy=copy) for key, value in entries(images)}


def image_grid(images: Sequence[Image], columns: int | None = None) -> Image:
    """Put images into one image, row by row; smaller ones are padded with black at the right and the bottom.

    Args:
        images: At least one.
        columns: Images per row; None makes the grid about square.

    Raises:
        InvalidValueError: There are no images.
    """
    if not images:
        raise InvalidValueError("image_grid: there are no images to lay out")
    arrays = [image.pixels for image in images]
    columns = columns or math.ceil(math.sqrt(len(arrays)))
    rows = math.ceil(len(arrays) / columns)
    height, width = max(a.shape[0] for a in arrays), max(a.shape[1] for a in arrays)
    depth = max(a.shape[2] for a in arrays)
    canvas = np.zeros((rows * height, columns * width, depth), np.uint8)
    for number, array in enumerate(arrays):
        top, left = number // columns * height, number % columns * width
        part = canvas[top : top + array.shape[0], left : left + array.shape[1]]
        if array.shape[2] == depth:
            part[...] = array
        else:
            part[..., :3] = array[..., :3]
            if depth == CHANNELS[-1]:
                part[..., 3] = 255
    return Image.from_pixels(canvas)


def _from_image(key: str, value: Image, value_range: tuple[float, float] | None, *, copy: bool) -> list[Image]:
    if value.is_normal:
        return [value]
    data, caption = value.data, value.caption
    if value.any_range and is_on_device(data):
        return _from_image(key, value.with_data(to_host(data, key)), value_range, copy=copy)
    if isinstance(data, (bytes, Path, str)):
        one = _from_file(key, Path(data) if isinstance(data, str) else data, None)
        images = [one]
    else:
        own = value.value_range if value.value_range is not None else value_range
        images = to_images(key, data, value_range=own, copy=copy)
    if caption is None:
        return images
    captions = (
        list(bounded(caption, f"{key!r}: captions")) if isinstance(caption, (list, tuple)) else [caption] * len(images)
    )
    if len(captions) != len(images):
        raise InvalidValueError(f"{key!r}: {counted(len(captions), 'caption')} for {counted(len(images), 'image')}")
    return [image if text is None else image.captioned(str(text)) for image, text in zip(images, captions, strict=True)]


def _from_file(key: str, source: bytes | Path, caption: str | None) -> Image:
    try:
        data = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise InvalidValueError(f"{key!r}: cannot read the image file: {error}") from error
    pixels = _decode(data, key)
    # The header says 8 bits, and gray, RGB or RGBA: what the pixels are too, so that the file can stay as it is.
    if data.startswith(_PNG_MAGIC) and data[24] == 8 and data[25] in {0, 2, 6}:
        return Image.from_png(data, caption)
    return Image.from_pixels(pixels, caption)


def _read(path: Path) -> bytes:
    from tracking_core.base.regular import OddFileError, read_regular

    try:
        return read_regular(path, LARGEST_DECODED)
    except OddFileError as error:
        raise InvalidValueError(f"the image {path} cannot be read: {error.strerror}") from error


def check_shape(key: str, shape: tuple[int, ...]) -> None:
    """Refuse the shape of what cannot be an image.

    Raises:
        InvalidValueError: It is none; the message has the remedy.
    """
    # A view of one byte has any shape for free.
    _batched(key, np.broadcast_to(np.uint8(0), shape))


def _batched(key: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """View as `[N, H, W, C]`."""
    shape = array.shape
    if array.ndim == 2:
        batch = array[None, :, :, None]
    elif array.ndim == 3 and shape[-1] in CHANNELS:
        batch = array[None]
    elif array.ndim == 3:
        if shape[0] == 3:
            raise InvalidValueError(
                f"{key!r}: shape {shape} looks like channels first, expected [H, W, C]: use x.transpose(1, 2, 0); "
                "if these are 3 gray images, use x[..., None]"
            )
        batch = array[..., None]
    elif array.ndim == 4 and shape[-1] in CHANNELS:
        batch = array
    elif array.ndim == 4 and shape[1] in CHANNELS:
        raise InvalidValueError(
            f"{key!r}: shape {shape} looks like channels first, expected [N, H, W, C]: use x.transpose(0, 2, 3, 1)"
        )
    else:
        raise InvalidValueError(
            f"{key!r}: shape {shape} is not an image; expected [H, W], [H, W, 1|3|4], [N, H, W] or [N, H, W, 1|3|4]"
        )
    if 0 in batch.shape:
        raise InvalidValueError(f"{key!r}: shape {shape} holds no pixels")
    return batch


def _to_uint8(
    key: str, array: np.ndarray[Any, Any], value_range: tuple[float, float] | None
) -> tuple[np.ndarray[Any, Any], int]:
    if array.dtype == np.uint8:
        return array, 0
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255), 0
    integral = is_integral(array.dtype)
    if integral and value_range is None:
        _check_extremes(key, array, int(array.min()), int(array.max()), None)
        return array.astype(np.uint8), 0
    # float32 is enough where its range is: half the memory.
    wide = array.dtype.itemsize > 4 or integral or value_range is not None
    with np.errstate(all="ignore"):
        values = array.astype(np.float64 if wide else np.float32)
    low, high = float(values.min()), float(values.max())
    lo, hi = _check_extremes(key, array, low, high, value_range)
    clipped = int(((values < lo) | (values > hi)).sum()) if low < lo or high > hi else 0
    scaled = (values - values.dtype.type(lo)) * values.dtype.type(255.0 / (hi - lo))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8), clipped


def check_pixels(key: str, array: np.ndarray[Any, Any], value_range: tuple[float, float] | None) -> None:
    """Refuse pixels that are not in their range, as far as numpy finds that out at the speed of a copy.

    Raises:
        InvalidValueError: Some are not; the message has the remedy.
    """
    if array.dtype.kind in "iuf" and array.dtype != np.uint8:
        _check_extremes(key, array, array.min().item(), array.max().item(), value_range)


def _check_extremes(
    key: str, array: np.ndarray[Any, Any], low: float, high: float, value_range: tuple[float, float] | None
) -> tuple[float, float]:
    """The range that pixels are scaled from, if they are in it."""
    if is_integral(array.dtype) and value_range is None:
        if low < 0 or high > 255:
            raise InvalidValueError(
                f"{key!r}: {array.dtype} pixels between {low} and {high}; expected 0 to 255: "
                f"{_range_remedy(low, high, integral=True)}"
            )
        return 0.0, 255.0
    lo, hi = checked_range(key, value_range)
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int((~np.isfinite(array)).sum())
        raise InvalidValueError(f"{key!r}: {bad} pixels are not finite; use jnp.nan_to_num to show them anyway")
    margin = (hi - lo) * OVERSHOOT
    if low < lo - margin or high > hi + margin:
        raise range_error(key, array.dtype, low, high, (lo, hi))
    return lo, hi


def range_error(key: str, dtype: Any, low: float, high: float, expected: tuple[float, float]) -> InvalidValueError:
    """The error for pixels outside their range, with the remedy."""
    lo, hi = expected
    return InvalidValueError(
        f"{key!r}: {dtype} pixels between {low:.6g} and {high:.6g}; expected {lo:g} to {hi:g}: "
        f"{_range_remedy(low, high, integral=is_integral(np.dtype(dtype)), beside=expected)}"
    )


def _range_remedy(low: float, high: float, *, integral: bool, beside: tuple[float, float] | None = None) -> str:
    """What to do about pixels out of range: never their own extremes, since those of the next batch are others."""
    for lo, hi in _USUAL_RANGES if integral else _USUAL_RANGES[:2]:
        margin = (hi - lo) * OVERSHOOT
        # A little beyond 1 is no byte.
        if (lo, hi) != beside and lo - margin <= low and high <= hi + margin and (lo < 0 or high > 2):
            whole = " (or log uint8)" if (lo, hi) == (0, 255) and not integral else ""
            return f"pass value_range=({lo}, {hi}){whole} if that is what they are scaled to, or clip them"
    return "clip them, or scale all batches alike to 0 to 1, or to a value_range=(low, high) of your choice"


def checked_range(key: str, value_range: tuple[float, float] | None) -> tuple[float, float]:
    """The range that floats are scaled from.

    Raises:
        InvalidValueError: It is no (lo, hi).
    """
    if value_range is None:
        return 0.0, 1.0
    try:
        lo, hi = float(value_range[0]), float(value_range[1])
    except (TypeError, ValueError, IndexError) as error:
        raise InvalidValueError(f"{key!r}: value_range must be (lo, hi), got {value_range!r:.80}") from error
    if not (lo < hi and math.isfinite(hi - lo) and math.isfinite(255.0 / max(hi - lo, sys.float_info.min))):
        raise InvalidValueError(f"{key!r}: value_range must be (lo, hi) with lo < hi, got {value_range!r:.80}")
    return lo, hi


def _from_pil(key: str, image: Any) -> np.ndarray[Any, Any]:
    """The pixels of a Pillow image, as uint8 where its mode has a natural range."""
    try:
        if image.mode in {"I", "F"}:
            # Any range is possible: the rules for arrays apply.
            return np.array(image)
        if image.mode.startswith("I;16"):
            # Rounded: 257 is odd, so that nothing lies in the middle.
            return ((np.array(image).astype(np.uint32) + 128) // 257).astype(np.uint8)
        if image.mode == "La":
            image = image.convert("LA")
        if image.mode not in {"L", "RGB", "RGBA"}:
            transparent = image.mode in {"LA", "PA", "RGBa"} or "transparency" in image.info
            image = image.convert("RGBA" if transparent else "RGB")
        return np.array(image)
    except Exception as error:
        raise InvalidValueError(f"{key!r}: {describe(image)} cannot be read: {error}") from error


def _decode(data: bytes, key: str = "image") -> np.ndarray[Any, Any]:
    """uint8 pixels of shape `[H, W, 1|3|4]` from the bytes of an image file."""
    from PIL import Image as Pillow

    try:
        with Pillow.open(io.BytesIO(data), formats=_formats(data)) as image:
            _check_size(key, image)
            array = _from_pil(key, image)
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning) as error:
        raise InvalidValueError(f"{key!r}: this image file is not decoded: {error}") from error
    except InvalidValueError:
        raise
    except Exception as error:
        raise InvalidValueError(f"{key!r}: Pillow cannot read these bytes as an image file") from error
    return _to_uint8(key, array[..., None] if array.ndim == 2 else array, None)[0]


def _formats(data: bytes) -> tuple[str, ...]:
    """What Pillow may take a file for: not for a program, which it would have run by another."""
    from PIL import Image as Pillow

    if data.startswith(_PNG_MAGIC):
        return ("PNG",)
    Pillow.init()
    return tuple(name for name in Pillow.OPEN if name != "EPS")


def _check_size(key: str, image: Any) -> None:
    """Refuse an image file of more pixels than are decoded; its header alone was read."""
    size = image.width * image.height * _BYTES.get(image.mode, 4)
    if size > LARGEST_DECODED:
        raise InvalidValueError(
            f"{key!r}: an image file of {image.width} x {image.height} pixels needs {size} bytes of memory; up to "
            f"{LARGEST_DECODED} are decoded: log parts of it, or a smaller one"
        )


def _encode(pixels: np.ndarray[Any, Any]) -> bytes:
    from PIL import Image as Pillow

    out = io.BytesIO()
    squeezed = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    Pillow.fromarray(np.ascontiguousarray(squeezed)).save(out, format="PNG", compress_level=3)
    return out.getvalue()
