"""The values that can be logged, and the coercions into them.

Every coercion is idempotent: an adapter may receive raw arrays (used directly) or values that were already coerced
(behind a Run), and treats both alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracking_core.base.lazy import load_on_use

if TYPE_CHECKING:
    from tracking_core.values.arrays import to_host
    from tracking_core.values.artifacts import ArtifactFile, ArtifactRef, artifact_files
    from tracking_core.values.config import flatten_config, to_config
    from tracking_core.values.histograms import Histogram, to_histogram
    from tracking_core.values.html import Html, to_html
    from tracking_core.values.images import Image, image_grid, to_image_mapping, to_images
    from tracking_core.values.media import Audio, Figure, Text, Video, to_audio, to_figure, to_text, to_video
    from tracking_core.values.records import Record
    from tracking_core.values.scalars import Scalar, flatten_scalars, to_axis, to_name, to_scalar, to_scalars, to_step
    from tracking_core.values.stacked import Stacked
    from tracking_core.values.tables import Table, to_table

#: Where each public name lives; `__getattr__` loads it when it is first used.
_HOMES: dict[str, tuple[str, ...]] = {
    "arrays": ("to_host",),
    "artifacts": (
        "ArtifactFile",
        "ArtifactRef",
        "artifact_files",
    ),
    "config": (
        "flatten_config",
        "to_config",
    ),
    "histograms": (
        "Histogram",
        "to_histogram",
    ),
    "html": (
        "Html",
        "to_html",
    ),
    "images": (
        "Image",
        "image_grid",
        "to_image_mapping",
        "to_images",
    ),
    "media": (
        "Audio",
        "Figure",
        "Text",
        "Video",
        "to_audio",
        "to_figure",
        "to_text",
        "to_video",
    ),
    "records": ("Record",),
    "scalars": (
        "Scalar",
        "flatten_scalars",
        "to_axis",
        "to_name",
        "to_scalar",
        "to_scalars",
        "to_step",
    ),
    "stacked": ("Stacked",),
    "tables": (
        "Table",
        "to_table",
    ),
}

__all__ = [
    "ArtifactFile",
    "ArtifactRef",
    "Audio",
    "Figure",
    "Histogram",
    "Html",
    "Image",
    "Record",
    "Scalar",
    "Stacked",
    "Table",
    "Text",
    "Video",
    "artifact_files",
    "flatten_config",
    "flatten_scalars",
    "image_grid",
    "to_audio",
    "to_axis",
    "to_config",
    "to_figure",
    "to_histogram",
    "to_host",
    "to_html",
    "to_image_mapping",
    "to_images",
    "to_name",
    "to_scalar",
    "to_scalars",
    "to_step",
    "to_table",
    "to_text",
    "to_video",
]

__getattr__, __dir__ = load_on_use(__name__, _HOMES)
