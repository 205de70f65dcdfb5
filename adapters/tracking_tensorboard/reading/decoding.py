"""Events as records: which kind a summary value is, and what belongs together.

A value that this adapter wrote says in the description of its tag's first event what the tag alone does not
(`tags.TagTable.description`): its kind, its step axis, its name. `descriptions` carries that over to the others.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tracking_core import InvalidValueError, Record
from tracking_core.values import Audio, Figure, Histogram, Html, Image, Text, Video, to_images
from tracking_tensorboard.descriptions import TEXT_ENDING, Descriptions, Tag
from tracking_tensorboard.protos import HParamsPluginData
from tracking_tensorboard.reading import shown_text, tensors
from tracking_tensorboard.tags import EXPERIMENT_TAG, SESSION_END_TAG, SESSION_START_TAG

_HPARAMS = frozenset({EXPERIMENT_TAG, SESSION_START_TAG, SESSION_END_TAG})
_BESIDE = frozenset({"captions", "nan", "posinf", "neginf", "metric"})
_SUCCESS, _FAILURE = 1, 2


class Decoder:
    """Decodes the events of one run, in order.

    Args:
        problems: Gets what could not be read, in words.
    """

    def __init__(self, problems: list[str]) -> None:
        self.about: dict[str, str] = {}
        """What this adapter wrote about the run: "run", "id", "project", "tags", "group", "job type", "notes"."""
        self.started: float | None = None
        """Time of the first event, in seconds since the epoch."""
        self._problems = problems
        self._tags = Descriptions()
        self._own_config = False
        self._said: set[str] = set()
        self._last = 0.0
        self._end: dict[str, Any] | None = None
        self._ended = 0.0

    def begin_file(self) -> None:
        """Say that what comes is from the next file of the run."""
        self._tags.begin_file()

    def learn(self, event: Any) -> None:
        """Remember what an event that does not count any more says of its tags: others may have nothing else."""
        for value in event.summary.value:
            self._tags.learn(value)

    def decode(self, event: Any) -> Iterator[Record]:
        """The records of one event."""
        if not math.isfinite(event.wall_time):
            event.wall_time = self._last
        if self.started is None:
            self.started = event.wall_time
        if not event.HasField("summary"):
            return
        self._last = max(self._last, event.wall_time)
        values = [(self._tags.tag(value), value) for value in event.summary.value]
        if not self.about and any(tag.kind == "about" for tag, _ in values):
            # It has the time at which the run was started; the file may have been opened later.
            self.started = event.wall_time
        beside = {(tag.kind, tag.name): value for tag, value in values if tag.kind in _BESIDE}
        scalars: dict[str, dict[str, float]] = {}
        for tag, value in values:
            if tag.kind == "scalars":
                scalars.setdefault(tag.axis, {}).update(self._scalar(tag, value))
            elif tag.kind not in _BESIDE:
                yield from self._value(event, tag, value, beside)
        for axis, numbers in scalars.items():
            if numbers:
                yield Record("scalars", 0, "", event.wall_time, event.step, axis, numbers)

    def end(self) -> Iterator[Record]:
        """How the run ended: as it says, or, where the writer has no way to say it, finished with its last event."""
        if self.about and self._end is None:
            return
        data = self._end or {"status": "finished", "error": None}
        yield Record("finish", 0, "", self._ended or self._last, data=data)

    def _scalar(self, tag: Tag, value: Any) -> dict[str, float]:
        if value.WhichOneof("value") == "simple_value":
            return {tag.name: value.simple_value}
        try:
            array = tensors.numbers(value.tensor)
        except (InvalidValueError, ValueError, OverflowError) as error:
            self._say(f"{tag.name}: {error}")
            return {}
        if array.size != 1:
            self._say(f"{tag.name}: expected one number, got a tensor of shape {array.shape}")
            return {}
        return {tag.name: array.reshape(()).item()}

    def _value(self, event: Any, tag: Tag, value: Any, beside: Mapping[tuple[str, str], Any]) -> Iterator[Record]:
        if value.tag in _HPARAMS:
            yield from self._hparams(event, value)
            return
        read = _READERS.get(tag.kind)
        if read is None:
            self._unknown(tag)
            return
        try:
            made = read(self, tag, value, beside)
        except Exception as error:  # noqa: BLE001 - damaged media bring their decoders to anything
            self._say(f"{tag.name}: {tag.kind} of step {event.step} cannot be read: {error}")
            return
        if made is None:
            return
        kind, data = made
        if kind == "finish":
            self._end, self._ended = data, event.wall_time
        elif kind in {"config", "summary"}:
            yield Record(kind, 0, "", event.wall_time, data=data)
        else:
            yield Record(kind, 0, "", event.wall_time, event.step, tag.axis, data)

    def _hparams(self, event: Any, value: Any) -> Iterator[Record]:
        try:
            data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
        except Exception as error:  # noqa: BLE001 - the error class is the protocol buffer library's own
            self._say(f"{value.tag}: it cannot be read: {error}")
            return
        if data.HasField("session_start_info") and not self._own_config:
            found = {name: _plain(held) for name, held in sorted(data.session_start_info.hparams.items())}
            if found:
                yield Record("config", 0, "", event.wall_time, data=found)
        if data.HasField("session_end_info") and self._end is None:
            status = {_SUCCESS: "finished", _FAILURE: "failed"}.get(data.session_end_info.status)
            if status is not None:
                self._end = {"status": status, "error": None}
                self._ended = data.session_end_info.end_time_secs or event.wall_time

    def _unknown(self, tag: Tag) -> None:
        if tag.plugin not in {"graphs", "graph_run_metadata", "graph_keras_model", "custom_scalars"}:
            # A layout or a graph is about the display, or about the program; neither has steps.
            self._say(f"{tag.name}: values of the plugin {tag.plugin or '(none)'!r} are not read")

    def _say(self, problem: str) -> None:
        """Name a problem once for each tag, whatever the step."""
        key = problem.partition(": ")[0]
        if key not in self._said:
            self._said.add(key)
            self._problems.append(problem[:500])

    # -- kinds: each returns the kind and the data of a record, or None ------------------------------------------------

    def images(self, tag: Tag, value: Any, beside: Mapping[tuple[str, str], Any]) -> Any:
        """Images, in either form; an animated one is a video."""
        files = _files(value)
        if len(files) == 1 and (clip := _animation(files[0])) is not None:
            return "video", {"name": tag.name, "value": clip}
        captions = _captions(beside.get(("captions", tag.name)))
        pictures = [
            picture.captioned(captions.get(number))
            for number, data in enumerate(files, 1)
            for picture in _picture(tag.name, data)
        ]
        return "images", {tag.name: pictures} if pictures else None

    def video(self, tag: Tag, value: Any, _: Any) -> Any:
        """An animated GIF that was logged as a video."""
        data = _files(value)[0]
        return "video", {"name": tag.name, "value": _animation(data) or Video(data)}

    def figure(self, tag: Tag, value: Any, _: Any) -> Any:
        """The picture of a figure."""
        return "figure", {"name": tag.name, "value": Figure(_files(value)[0])}

    def histogram(self, tag: Tag, value: Any, beside: Mapping[tuple[str, str], Any]) -> Any:
        """A distribution, in either form, with what was not finite."""
        raw = value.WhichOneof("value") == "histo"
        found = tensors.raw_histogram(value.histo) if raw else tensors.histogram(value.tensor)
        lost = {
            kind: int(self._scalar(tag, beside[kind, tag.name]).get(tag.name, 0))
            for kind in ("nan", "posinf", "neginf")
            if (kind, tag.name) in beside
        }
        if found is None:
            self._say(f"{tag.name}: empty histograms were left out")
            return None
        if lost:
            facts = {key: getattr(found, key) for key in ("min", "max", "mean", "std")}
            found = Histogram(found.counts, found.edges, **lost, **facts)
        return "histogram", {"name": tag.name, "value": found}

    def audio(self, tag: Tag, value: Any, beside: Mapping[tuple[str, str], Any]) -> Any:
        """Sound, in either form; of several under one tag the first."""
        if value.WhichOneof("value") == "audio":
            data = value.audio.encoded_audio_string
        else:
            held = tensors.strings(value.tensor)
            # [k, 2] of (sound, label), or [k] of sounds.
            width = value.tensor.tensor_shape.dim[1].size if len(value.tensor.tensor_shape.dim) == 2 else 1
            data = held[0]
            if len(held) > width:
                self._say(f"{tag.name}: a step with several sounds; only the first was imported")
        caption = _captions(beside.get(("captions", tag.name))).get(1)
        return "audio", {"name": tag.name, "value": Audio.from_wav(data, caption)}

    def text(self, tag: Tag, value: Any, _: Any) -> Any:
        """Text; that of several lines, as TensorBoard shows a tensor of strings."""
        # Ours are under the name itself, and it may end so.
        name = tag.name if self.about else tag.name.removesuffix(TEXT_ENDING)
        return "text", {"name": name, "value": Text("\n\n".join(_texts(value)))}

    def html(self, tag: Tag, value: Any, _: Any) -> Any:
        """HTML that was shown as text."""
        return "html", {"name": tag.name, "value": Html(_texts(value)[0])}

    def table(self, tag: Tag, value: Any, _: Any) -> Any:
        """A table that was shown as text."""
        text = _texts(value)[0]
        if text.endswith("more rows, in the run store."):
            self._say(f"{tag.name}: TensorBoard has only the first rows of a table")
        return "table", {"name": tag.name, "value": shown_text.table(text)}

    def config(self, _: Tag, value: Any, __: Any) -> Any:
        """The configuration, or a part of it."""
        self._own_config = True
        return "config", shown_text.document(_texts(value)[0])

    def summary(self, _: Tag, value: Any, __: Any) -> Any:
        """Values that describe the run as a whole."""
        return "summary", shown_text.document(_texts(value)[0])

    def status(self, _: Tag, value: Any, __: Any) -> Any:
        """How the run ended."""
        status, colon, error = shown_text.plain(_texts(value)[0]).partition(": ")
        return "finish", {"status": status, "error": error if colon else None}

    def introduction(self, _: Tag, value: Any, __: Any) -> Any:
        """What the run is; it is not logged again."""
        pairs, notes = shown_text.facts(_texts(value)[0])
        self.about = {**pairs, **({"notes": notes} if notes else {})}

    def artifact(self, tag: Tag, _: Any, __: Any) -> Any:
        """An artifact, of which an event file only has the list of contents."""
        self._say(f"{tag.name.removeprefix('_run_/artifacts/')}: an artifact; its contents are not in event files")

    def note(self, tag: Tag, _: Any, __: Any) -> Any:
        """A value that TensorBoard had no place for."""
        self._say(f"{tag.name}: a value that could not be written for TensorBoard; the original run has it")


_READERS: Mapping[str, Callable[[Decoder, Tag, Any, Any], Any]] = {
    "images": Decoder.images,
    "video": Decoder.video,
    "figure": Decoder.figure,
    "histogram": Decoder.histogram,
    "audio": Decoder.audio,
    "text": Decoder.text,
    "table": Decoder.table,
    "html": Decoder.html,
    "config": Decoder.config,
    "summary": Decoder.summary,
    "status": Decoder.status,
    "about": Decoder.introduction,
    "artifact": Decoder.artifact,
    "note": Decoder.note,
}


def _files(value: Any) -> list[bytes]:
    """The image files of a value."""
    if value.WhichOneof("value") == "image":
        return [value.image.encoded_image_string]
    # Width and height stand before them.
    return tensors.strings(value.tensor)[2:]


def _texts(value: Any) -> list[str]:
    return [part.decode("utf-8", "replace") for part in tensors.strings(value.tensor)]


def _captions(value: Any) -> dict[int, str]:
    return shown_text.captions(_texts(value)[0]) if value is not None else {}


def _picture(name: str, data: bytes) -> list[Image]:
    if data.startswith(b"\x89PNG"):
        picture = to_images(name, data)
        # The file is kept as it is: the same pixels would give other bytes.
        return [Image.from_png(data)] if len(picture) == 1 else picture
    return to_images(name, data)


def _animation(data: bytes) -> Video | None:
    """An animated GIF as a video; None for a picture."""
    if not data.startswith(b"GIF8"):
        return None
    from PIL import Image as Pillow

    with Pillow.open(io.BytesIO(data), formats=("GIF",)) as image:
        if getattr(image, "n_frames", 1) < 2:
            return None
        delay = image.info.get("duration") or 0
    return Video(data, 1000 / delay if delay else 8.0)


def _plain(value: Any) -> Any:
    """A hyperparameter; the tab knows only floats, and nobody writes 64 layers as 64.0."""
    kind = value.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    held = getattr(value, kind)
    if kind == "list_value":
        return [_plain(part) for part in held.values]
    if kind == "struct_value":
        return {name: _plain(part) for name, part in held.fields.items()}
    return int(held) if isinstance(held, float) and held.is_integer() and abs(held) < 2**53 else held
