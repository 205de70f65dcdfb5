"""Values given to the wrong call: the call that takes them, for the message that refuses them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

_OF_WANDB = {
    "Image": "log_images, or tracking_core.Image(array, caption)",
    "Table": "log_table, or tracking_core.Table(columns, rows)",
    "Histogram": "log_histogram, or tracking_core.Histogram(counts, edges)",
    "Video": "log_video, or tracking_core.Video(frames)",
    "Audio": "log_audio, or tracking_core.Audio(samples)",
    "Html": "log_html, or tracking_core.Html(text)",
    "Plotly": "log_figure with the figure itself",
    "Artifact": "log_artifact with the file",
}


def right_call(value: object) -> str:
    """What to call instead with a value that is no number, as the end of a message; empty where nothing is known.

    Args:
        value: Any; nothing of it is read but its type, and the types of the first parts of a list.

    Example:
        >>> right_call([{"digit": 3}])
        '; rows of a table go to log_table'
    """
    found = foreign_call(value)
    if found:
        return found
    if isinstance(value, (str, bytes)):
        return "; text goes to log_text"
    try:
        return _of_parts(cast("Any", value)) if isinstance(value, (list, tuple)) and value else ""
    except Exception:  # noqa: BLE001 - a hostile object must not break the message about it
        return ""


def foreign_call(value: object) -> str:
    """The same for a value of the W&B client, which only that client can read."""
    for kind in type(value).__mro__:
        if kind.__module__.partition(".")[0] == "wandb":
            name = type(value).__name__
            call = _OF_WANDB.get(name, "log_artifact with the file that it was made from")
            return f"; a wandb.{name} is W&B's own: use {call}"
    return ""


def array_call(value: Any) -> str:
    """What an array is to be logged with that may be several things; empty where that is clear.

    Args:
        value: An array of more than one number.
    """
    shape = tuple(value.shape)
    if len(shape) == 1:
        return "log_histogram for a distribution, log_audio for sound, log_table for a column, log_scalars for x.mean()"
    is_byte = str(value.dtype) == "uint8"
    if len(shape) == 3 and shape[-1] in {3, 4} and not is_byte:
        return "log_images or Image(x) for an image, log_histogram for the weights of a kernel"
    return ""


def _of_parts(parts: Any) -> str:
    first = parts[:8]
    if all(isinstance(part, Mapping) for part in first):
        return "; rows of a table go to log_table"
    if any(foreign_call(part) for part in first):
        return next(filter(None, map(foreign_call, first)))
    if all(isinstance(part, (bool, int, float)) or getattr(part, "ndim", None) == 0 for part in first):
        return (
            "; many numbers go to log_histogram (a distribution) or log_table (a column), and one for each step to "
            "log_scalars, step by step"
        )
    if all(hasattr(part, "dtype") or isinstance(part, (list, tuple)) for part in first):
        return "; a list of arrays goes to log_images if they are images, and to log_histogram if they are weights"
    if all(isinstance(part, str) for part in first):
        return "; lines of text go to log_text, joined"
    return ""
