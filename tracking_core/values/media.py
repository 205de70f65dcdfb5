"""Video, audio, text and figures: values that can be turned into bytes."""

from __future__ import annotations

import io
import json
import math
import wave
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tracking_core.errors import InvalidValueError
from tracking_core.values.arrays import describe, is_on_device, to_host
from tracking_core.values.images import LARGEST_DECODED, Image, image_grid, to_images
from tracking_core.values.scalars import to_scalar

_STRIP = 16


class Video:
    """A video: frames, or an encoded file.

    Args:
        data: Frames of shape `[T, H, W]` or `[T, H, W, 1|3|4]` (uint8, or floats in `value_range`), a sequence of
            images of one size, or a path to (or, for GIF, the bytes of) an encoded file. Frames on a device are looked
            at when it is recorded, and `log_video` does not wait for that.
        fps: Frames a second.
        value_range: `(lo, hi)` that float values are scaled from; None means `[0, 1]`.
    """

    def __init__(self, data: Any, fps: float = 8.0, *, value_range: tuple[float, float] | None = None) -> None:
        self.fps = float(to_scalar(fps, "fps"))
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise InvalidValueError(f"a video needs a positive number of frames a second, got {self.fps}")
        self._frames: np.ndarray[Any, Any] | None = None
        self._data: Any = None
        self._value_range = value_range
        self.encoded: bytes | None = None
        """The bytes of an encoded file; None when there are frames."""
        self.format = "gif"
        """File name ending of the encoded form."""
        if isinstance(data, (str, Path)):
            path = Path(data)
            if not path.is_file():
                raise InvalidValueError(f"there is no video file {str(data)!r:.200}")
            self.encoded = path.read_bytes()
            ending = path.suffix[1:].lower()
            if not self.encoded.startswith(b"GIF8"):
                self.format = ending if ending.isascii() and ending.isalnum() and len(ending) <= 8 else "bin"
        elif isinstance(data, bytes):
            if not data.startswith(b"GIF8"):
                raise InvalidValueError("video bytes must be a GIF file; give other formats as a path")
            self.encoded = data
        elif _on_device(data):
            self._data = data
        else:
            self._frames = _frames(data, value_range)

    @property
    def frames(self) -> np.ndarray[Any, Any] | None:
        """uint8 array of shape `[T, H, W, 1|3|4]`; None for an encoded file."""
        if self._frames is None and self._data is not None:
            self._frames, self._data = _frames(self._data, self._value_range), None
        return self._frames

    @property
    def is_normal(self) -> bool:
        """Whether nothing of it is on a device."""
        return self._data is None

    @property
    def data(self) -> Any:
        """What it was made from, while that is on a device."""
        return self._data

    def with_data(self, data: Any) -> Video:
        """The same video of frames that are on the host."""
        return Video(data, self.fps, value_range=self._value_range)

    def gif(self) -> bytes:
        """The video as an animated GIF (256 colours a frame), looping.

        Raises:
            InvalidValueError: It is an encoded file of another format.
        """
        if self.encoded is not None:
            if self.format != "gif":
                raise InvalidValueError(f"this video is a {self.format} file, and is not decoded")
            return self.encoded
        from PIL import Image as Pillow

        assert self.frames is not None
        # GIF counts in 1/100 s with 16 bits, and viewers slow down what is faster than 2/100 s.
        delay = min(max(20, round(100 / self.fps) * 10), 655_350)
        shown = self.frames[..., 0] if self.frames.shape[-1] == 1 else self.frames[..., :3]
        images = [Pillow.fromarray(np.ascontiguousarray(frame)) for frame in shown]
        out = io.BytesIO()
        images[0].save(out, format="GIF", save_all=True, append_images=images[1:], duration=delay, loop=0)
        return out.getvalue()

    @classmethod
    def from_npz(cls, content: bytes, fps: float) -> Video:
        """Read the output of `npz`.

        Raises:
            ValueError: The frames are too large, or it is something else.
        """
        # From memory: of a damaged archive numpy would leave the file open.
        file = io.BytesIO(content)
        with zipfile.ZipFile(file) as archive:
            size = max((info.file_size for info in archive.infolist()), default=0)
        if size > LARGEST_DECODED:
            raise ValueError(
                f"frames of {size} bytes; up to {LARGEST_DECODED} are read, and a run takes no more than half"
            )
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            return cls(archive["frames"], fps)

    def npz(self) -> bytes:
        """The frames as a compressed numpy archive, without loss."""
        assert self.frames is not None
        out = io.BytesIO()
        np.savez_compressed(out, frames=self.frames)
        return out.getvalue()

    def strip(self) -> Image:
        """Up to 16 of the frames side by side, as one image; for backends that cannot show a video."""
        assert self.frames is not None
        shown = self.frames[:: max(1, -(-len(self.frames) // _STRIP))]
        return image_grid([Image.from_pixels(frame) for frame in shown], columns=len(shown))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Video):
            return NotImplemented
        if self.encoded is not None or other.encoded is not None:
            return self.encoded == other.encoded
        assert self.frames is not None
        assert other.frames is not None
        return self.fps == other.fps and np.array_equal(self.frames, other.frames)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        inside = f"{self.format} file" if self.frames is None else "x".join(map(str, self.frames.shape))
        return f"Video({inside}, fps={self.fps:g})"

    def _repr_html_(self) -> str | None:
        """None leaves it to the text, where no browser is known to play the format."""
        from tracking_core.values.notebook import media_html

        if self.frames is not None or self.format == "gif":
            return media_html(self.gif(), "image/gif")
        return media_html(self.encoded or b"", f"video/{self.format}") if self.format in {"mp4", "webm"} else None


class Audio:
    """Sound.

    Args:
        samples: `[T]` or `[T, channels]`: floats in [-1, 1], or int16. Those on a device are looked at when it is
            recorded, and `log_audio` does not wait for that.
        sample_rate: Samples a second, in Hz.
        caption: Shown with it.
    """

    def __init__(self, samples: Any, sample_rate: int = 16000, caption: str | None = None) -> None:
        rate = to_scalar(sample_rate, "sample_rate")
        if type(rate) is not int or not 0 < rate < 2**31:
            raise InvalidValueError(f"sample_rate must be a positive int (Hz), got {rate!r:.80}")
        self.sample_rate = rate
        self.caption = caption
        self._data: Any = samples if is_on_device(samples) else None
        self._samples = None if self._data is not None else _samples(samples)

    @property
    def samples(self) -> np.ndarray[Any, Any]:
        """int16 array of shape `[T, channels]`."""
        if self._samples is None:
            self._samples, self._data = _samples(self._data), None
        return self._samples

    @property
    def is_normal(self) -> bool:
        """Whether nothing of it is on a device."""
        return self._data is None

    @property
    def data(self) -> Any:
        """What it was made from, while that is on a device."""
        return self._data

    def with_data(self, data: Any) -> Audio:
        """The same sound of samples that are on the host."""
        return Audio(data, self.sample_rate, self.caption)

    def wav(self) -> bytes:
        """The sound as a WAV file, 16-bit PCM."""
        out = io.BytesIO()
        with wave.open(out, "wb") as file:
            file.setnchannels(self.samples.shape[1])
            file.setsampwidth(2)
            file.setframerate(self.sample_rate)
            file.writeframes(self.samples.astype("<i2").tobytes())
        return out.getvalue()

    @classmethod
    def from_wav(cls, data: bytes, caption: str | None = None) -> Audio:
        """Read a 16-bit PCM WAV file, as `wav` writes it.

        Raises:
            InvalidValueError: It is something else, or damaged.
        """
        try:
            with wave.open(io.BytesIO(data), "rb") as file:
                width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
                content, count = file.readframes(file.getnframes()), file.getnframes()
        except (wave.Error, EOFError) as error:
            raise InvalidValueError(f"this is not a WAV file: {error}") from error
        if width != 2 or len(content) != 2 * channels * count:
            raise InvalidValueError("expected a WAV file of 16-bit PCM, complete")
        return cls(np.frombuffer(content, "<i2").reshape(-1, channels).astype(np.int16), rate, caption)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Audio):
            return NotImplemented
        same = (self.sample_rate, self.caption) == (other.sample_rate, other.caption)
        return same and np.array_equal(self.samples, other.samples)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Audio({'x'.join(map(str, self.samples.shape))}, sample_rate={self.sample_rate})"

    def _repr_html_(self) -> str | None:
        from tracking_core.values.notebook import media_html

        return media_html(self.wav(), "audio/wav", self.caption or "")


class Text(str):
    """Text, shown as Markdown if the backend can do that."""

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        return str(self)


class Figure:
    """A figure: a picture of it, and the figure itself if it has a portable form.

    Args:
        figure: A matplotlib figure (has `savefig`), a plotly figure (has `to_json`), or PNG bytes.
    """

    def __init__(self, figure: Any) -> None:
        self.image: Image | None = None
        """The picture; None for a plotly figure."""
        self.plotly: str | None = None
        """Plotly's JSON; None for others."""
        if isinstance(figure, bytes):
            self.image = to_images("figure", figure)[0]
        elif hasattr(figure, "savefig"):
            out = io.BytesIO()
            figure.savefig(out, format="png", bbox_inches="tight")
            self.image = Image.from_png(out.getvalue())
        elif hasattr(figure, "to_plotly_json") and hasattr(figure, "to_json"):
            self.plotly = str(figure.to_json())
        else:
            raise InvalidValueError(f"expected a matplotlib or plotly figure, got {describe(figure)}")

    @classmethod
    def from_plotly(cls, text: str) -> Figure:
        """A figure over plotly's JSON."""
        figure = cls.__new__(cls)
        figure.image, figure.plotly = None, text
        return figure

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Figure):
            return NotImplemented
        return self.plotly == other.plotly and self.image == other.image

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Figure({'plotly' if self.plotly is not None else self.image!r})"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        if self.plotly is not None:
            return {"application/vnd.plotly.v1+json": json.loads(self.plotly), "text/plain": repr(self)}
        assert self.image is not None
        return {"image/png": self.image.png(), "text/plain": repr(self)}


def to_video(value: Any, *, fps: float = 8.0, value_range: tuple[float, float] | None = None) -> Video:
    """A `Video` as it is; anything else becomes one."""
    return value if isinstance(value, Video) else Video(value, fps, value_range=value_range)


def to_audio(value: Any, *, sample_rate: int = 16000) -> Audio:
    """An `Audio` as it is; samples become one."""
    return value if isinstance(value, Audio) else Audio(value, sample_rate)


def to_text(value: Any) -> Text:
    """A `Text` as it is; a str becomes one.

    Raises:
        InvalidValueError: It is not a str.
    """
    if isinstance(value, Text):
        return value
    if isinstance(value, str):
        return Text(value)
    raise InvalidValueError(f"log_text: expected a str, got {describe(value)}")


def to_figure(value: Any) -> Figure:
    """A `Figure` as it is; a matplotlib or plotly figure becomes one."""
    return value if isinstance(value, Figure) else Figure(value)


def _frames(data: Any, value_range: tuple[float, float] | None) -> np.ndarray[Any, Any]:
    # Nested lists of numbers are an array as well; a flat list holds images.
    if not isinstance(data, (list, tuple)) or (data and isinstance(data[0], (list, tuple))):
        array = to_host(data, "video")
        if array.ndim == 3:
            # Three dimensions are time, height and width here, whatever the last one's size.
            array = array[..., None]
        elif array.ndim != 4:
            raise InvalidValueError(f"a video must have shape [T, H, W] or [T, H, W, 1|3|4], got {array.shape}")
        data = array
    images: Sequence[Image] = to_images("video", data, value_range=value_range)
    if len({image.pixels.shape for image in images}) != 1:
        raise InvalidValueError("the frames of a video must have one size")
    return np.stack([image.pixels for image in images])


def _samples(samples: Any) -> np.ndarray[Any, Any]:
    array = to_host(samples, "audio", copy=True)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or not array.size:
        raise InvalidValueError(f"audio must have shape [T] or [T, channels], got {array.shape}")
    if array.shape[1] > array.shape[0] and array.shape[0] <= 8:
        raise InvalidValueError(f"audio of shape {array.shape} looks like channels first: use x.T")
    if array.dtype == np.int16:
        return array
    if array.dtype.kind in "iu":
        raise InvalidValueError(f"audio of dtype {array.dtype}: expected floats in [-1, 1] or int16")
    floats = array.astype(np.float64)
    peak = float(np.abs(floats).max())
    if not math.isfinite(peak) or peak > 1.0 + 1 / 128:
        raise InvalidValueError(f"audio reaches {peak:g}: expected floats in [-1, 1]; divide by the peak")
    return np.clip(np.rint(floats * 32767.0), -32767, 32767).astype(np.int16)


def _on_device(data: Any) -> bool:
    """Whether frames, or some of them, are on a device."""
    return is_on_device(data) or (type(data) in {list, tuple} and any(map(is_on_device, data)))
