"""`wandb.Image`: arrays of any usual range, pictures of Pillow and matplotlib, and files."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tracking_core.compat.wandb.missing import ignored
from tracking_core.values.arrays import is_integral, is_on_device, to_host
from tracking_core.values.images import CHANNELS, OVERSHOOT, to_images
from tracking_core.values.images import Image as BaseImage

_KEY = "wandb.Image"


class Image(BaseImage):
    """A picture, as W&B's class of this name takes it. What is no picture is refused when it is logged, not before.

    Floats in [0, 1] are scaled by 255; floats in [0, 255] are grey levels; any others are scaled from their smallest to
    their largest value. So are integers that are not in [0, 255]. What is not finite is black. Channels may come first
    or last. The array may be changed when this returns; one on a device is read when the run records it.

    Args:
        data_or_path: Array of shape `[H, W]`, `[H, W, 1|3|4]` or `[1|3|4, H, W]`, or a batch of these; an image of
            Pillow; a figure of matplotlib, or its module pyplot; the path of an image file; another `Image`.
        mode: Mode of Pillow that it is converted to, such as "L" or "RGB".
        caption: Shown with the image.
        grouping: Ignored.
        classes: Ignored, as `boxes` and `masks` are: the run has no place for them yet.
        boxes: Ignored.
        masks: Ignored.
        file_type: Ignored: images are PNG files.
        normalize: Ignored: see above.

    Example:
        >>> import numpy as np
        >>> Image(np.array([[0.0, 0.5, 1.0]]), caption="three levels").pixels[..., 0].tolist()
        [[0, 128, 255]]
    """

    any_range = True

    def __init__(
        self,
        data_or_path: Any,
        mode: str | None = None,
        caption: str | None = None,
        grouping: int | None = None,
        classes: Any = None,
        boxes: Any = None,
        masks: Any = None,
        file_type: str | None = None,
        normalize: bool = True,
    ) -> None:
        del grouping, file_type, normalize
        for name, value in (("classes", classes), ("boxes", boxes), ("masks", masks)):
            if value is not None:
                ignored(_KEY, name, "the image is recorded without")
        self._mode = mode
        found = data_or_path
        if not is_on_device(data_or_path):
            try:
                found = _pictures(data_or_path, mode)
            except Exception:  # noqa: BLE001 - a training goes on: whoever logs it says what is wrong
                found = data_or_path
        super().__init__(found, caption)

    def with_data(self, data: Any) -> BaseImage:
        """The picture of an array that has come from a device."""
        return BaseImage(_pictures(data, self._mode), self.caption)


def grey_levels(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Pixels of any usual range as uint8, of the same shape.

    Args:
        array: Real numbers; see `Image` for how they are scaled.

    Example:
        >>> grey_levels(np.array([-1.0, 0.0, 1.0])).tolist()
        [0, 128, 255]
    """
    if array.dtype in (np.uint8, np.bool_):
        return array.astype(np.uint8) * np.uint8(255 if array.dtype == np.bool_ else 1)
    values = array.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low >= -OVERSHOOT and high <= 1 + OVERSHOOT and not is_integral(array.dtype):
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    # Halves, so that the difference of the largest floats does not overflow; all alike are black.
    span = high / 2 - low / 2
    with np.errstate(all="ignore"):
        parts = (values / 2 - low / 2) / span if span else np.zeros_like(values)
    return np.clip(np.rint(np.nan_to_num(parts, posinf=0.0, neginf=0.0) * 255), 0, 255).astype(np.uint8)


def _pictures(data: Any, mode: str | None) -> list[BaseImage]:
    """Everything that can be a picture, as images over pixels of their own."""
    if isinstance(data, ModuleType):
        data = data.gcf()
    if hasattr(data, "get_figure") and not hasattr(data, "savefig"):
        data = data.get_figure()
    if hasattr(data, "savefig"):
        from tracking_core.values.media import to_figure

        images = to_images(_KEY, to_figure(data).image)
    elif isinstance(data, (str, Path, BaseImage)) or hasattr(data, "getbands"):
        images = to_images(_KEY, Path(data) if isinstance(data, str) else data, copy=True)
    else:
        images = to_images(_KEY, grey_levels(_channels_last(to_host(data, _KEY))))
    return images if mode is None else [_converted(image, mode) for image in images]


def _channels_last(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim > 2 and array.shape[-1] not in CHANNELS and array.shape[-3] in CHANNELS:
        return np.moveaxis(array, -3, -1)
    return array


def _converted(image: BaseImage, mode: str) -> BaseImage:
    from PIL import Image as Pillow

    pixels = image.pixels
    picture = Pillow.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert(mode)
    return to_images(_KEY, picture)[0].captioned(image.caption if isinstance(image.caption, str) else None)
