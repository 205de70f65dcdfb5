"""Summary values: how each kind of value looks to TensorBoard's plugins."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tracking_tensorboard.protos import Summary, SummaryMetadata, TensorProto, TensorShapeProto
from tracking_tensorboard.tags import PLUGINS

if TYPE_CHECKING:
    from tracking_core.values import Audio, Histogram, Image, Scalar

Value: Any = Summary.Value


def metadata(kind: str, description: str | None) -> Any:
    """What the first event of a tag carries; None (later events) carries nothing.

    Args:
        kind: Kind of the value, a key of `PLUGINS`.
        description: Shown beside the chart.
    """
    if description is None:
        return None
    plugin = SummaryMetadata.PluginData(plugin_name=PLUGINS[kind])
    return SummaryMetadata(plugin_data=plugin, summary_description=description)


def scalar(tag: str, value: Scalar, about: Any) -> Any:
    """A number, rounded to float32; what float32 cannot reach becomes infinite.

    Plain even where it carries a description: readers that know scalars as plain values alone, such as
    `EventAccumulator.Scalars`, would not find the first point of a series that begins with a tensor. TensorBoard's fast
    loader drops the description of a plain value; it reads the value.
    """
    return Value(tag=tag, simple_value=float(value), metadata=about)


def images(tag: str, pictures: Sequence[Image], about: Any) -> Any:
    """Images under one tag: width and height of the first, then one PNG file each."""
    files = [picture.png() for picture in pictures]
    # A PNG file has its size in the header: most images come as files, and need not be decoded for it.
    width, height = struct.unpack(">II", files[0][16:24])
    parts = [str(width).encode(), str(height).encode(), *files]
    return Value(tag=tag, tensor=_strings(parts, (len(parts),)), metadata=about)


def gif(tag: str, data: bytes, size: tuple[int, int], about: Any) -> Any:
    """An animated GIF file, `size` being (width, height): the Images tab plays it."""
    parts = [str(size[0]).encode(), str(size[1]).encode(), data]
    return Value(tag=tag, tensor=_strings(parts, (len(parts),)), metadata=about)


def histogram(tag: str, value: Histogram, about: Any) -> Any:
    """Counts over edges as rows of (left, right, count), float64: nothing is rebinned or rounded."""
    rows = np.stack([value.edges[:-1], value.edges[1:], value.counts.astype(np.float64)], axis=1)
    data = np.ascontiguousarray(rows, "<f8").tobytes()
    tensor = TensorProto(dtype="DT_DOUBLE", tensor_shape=_shape(rows.shape), tensor_content=data)
    return Value(tag=tag, tensor=tensor, metadata=about)


def text(tag: str, data: bytes, about: Any) -> Any:
    """Markdown, as UTF-8."""
    return Value(tag=tag, tensor=_strings([data], ()), metadata=about)


def audio(tag: str, value: Audio, about: Any) -> Any:
    """Sound as a WAV file, 16-bit PCM."""
    frames, channels = value.samples.shape
    sound = Summary.Audio(
        sample_rate=value.sample_rate,
        num_channels=channels,
        length_frames=frames,
        encoded_audio_string=value.wav(),
        content_type="audio/wav",
    )
    return Value(tag=tag, audio=sound, metadata=about)


def nothing() -> Any:
    """An empty tensor, for summaries that are all metadata."""
    return TensorProto(dtype="DT_FLOAT", tensor_shape=_shape((0,)))


def _strings(parts: Sequence[bytes], shape: tuple[int, ...]) -> Any:
    return TensorProto(dtype="DT_STRING", tensor_shape=_shape(shape), string_val=parts)


def _shape(sizes: tuple[int, ...]) -> Any:
    return TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in sizes])
