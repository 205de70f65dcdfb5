"""What can be logged, and the coercions that turn what researchers have into it.

Every coercion is idempotent: an adapter may be handed raw arrays (used directly) or values that went through here
already (behind a Run), and treats both alike.
"""

from tracking_core.values.arrays import to_host
from tracking_core.values.artifacts import ArtifactFile, ArtifactRef, artifact_files
from tracking_core.values.config import flatten as flatten_config
from tracking_core.values.config import to_plain as to_config
from tracking_core.values.histograms import Histogram, to_histogram
from tracking_core.values.images import Image, image_grid, to_image_mapping, to_images
from tracking_core.values.media import Audio, Figure, Text, Video, to_audio, to_figure, to_text, to_video
from tracking_core.values.records import Record
from tracking_core.values.scalars import Scalar, flatten_scalars, to_axis, to_name, to_scalar, to_scalars, to_step
from tracking_core.values.stacked import Stacked
from tracking_core.values.tables import Table, to_table

__all__ = [
    "ArtifactFile",
    "ArtifactRef",
    "Audio",
    "Figure",
    "Histogram",
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
