"""Media: images to the pixel, and tables, text, audio, video, figures and HTML where they are declared."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from tracking_core.base.text import counted
from tracking_core.testing.contract.comparing import pixels_of, same_pixels, same_time
from tracking_core.testing.contract.registry import check
from tracking_core.values import Audio, Figure, Html, Image, Table, to_images

if TYPE_CHECKING:
    from tracking_core.backends.hooks import RunInfo
    from tracking_core.testing.contract.context import Context
    from tracking_core.testing.contract.harness import StoredImage


def _noise(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _require_images(ctx: Context, run: RunInfo, name: str, step: int, expected: list[Image]) -> list[StoredImage]:
    """Fail unless exactly these images, in this order, are there under a name at a step."""
    every = ctx.images(run)
    found = [one for one in every if one.name == name and one.step == step]
    ctx.require(
        len(found) == len(expected),
        f"under {name!r} at step {step}, {counted(len(expected), 'image')} logged, {len(found)} there; the backend "
        f"holds {[(one.name, one.step) for one in every][:20]}",
    )
    for number, (one, image) in enumerate(zip(found, expected, strict=True)):
        stored = pixels_of(one.pixels)
        ctx.require(
            stored.shape == image.pixels.shape,
            f"image {number} of {name!r} has shape {stored.shape}, logged were pixels of {image.pixels.shape}",
        )
        ctx.require(
            same_pixels(stored, image.pixels),
            f"image {number} of {name!r}: {int((stored != image.pixels).sum())} of {stored.size} values differ "
            f"({stored.dtype}); logged {image.pixels.reshape(-1)[:8]}, stored {stored.reshape(-1)[:8]}",
        )
    return found


@check("media.image_shapes", needs=("images",))
def image_shapes(ctx: Context) -> None:
    """uint8 images of every shape come back to the pixel: gray, gray with a channel, RGB, RGBA.

    If this fails, look for a lossy format, channels first, and images that are not square.
    """
    run = ctx.new_run()
    shapes = {"gray": (5, 9), "channel": (5, 9, 1), "rgb": (5, 9, 3), "rgba": (5, 9, 4), "pixel": (1, 1, 3)}
    arrays = {name: _noise(*shape) for name, shape in shapes.items()}
    with ctx.tracker(run) as tracker:
        tracker.log_images(arrays, step=1)
    for name, array in arrays.items():
        _require_images(ctx, run, name, 1, to_images(name, array))


@check("media.float_images", needs=("images",))
def float_images(ctx: Context) -> None:
    """Floats in [0, 1], and in a `value_range`, come back as the nearest of 256 levels.

    If this fails, use `tracking_core.values.to_image_mapping`, and do not scale uint8 values again.
    """
    run = ctx.new_run()
    unit = np.linspace(0.0, 1.0, 4 * 6 * 3, dtype=np.float32).reshape(4, 6, 3)
    with ctx.tracker(run) as tracker:
        tracker.log_images({"unit": unit}, step=1)
        tracker.log_images({"centred": unit * 2 - 1}, step=1, value_range=(-1.0, 1.0))
        tracker.log_images({"own": Image(unit * 4, value_range=(0.0, 4.0))}, step=1)
    for name in ("unit", "centred", "own"):
        _require_images(ctx, run, name, 1, to_images(name, unit))


@check("media.image_batches", needs=("images",))
def image_batches(ctx: Context) -> None:
    """A batch, and a sequence of images, come back as separate images under one name, in order.

    If this fails, store every image of `to_image_mapping`, not only the first.
    """
    run = ctx.new_run()
    batch, gray = _noise(4, 5, 7, 3), _noise(5, 6, 7, seed=1)
    with ctx.tracker(run) as tracker:
        tracker.log_images({"batch": batch, "gray": gray}, step=2)
        tracker.log_images({"list": [batch[1], batch[0]]}, step=2)
    _require_images(ctx, run, "batch", 2, to_images("batch", batch))
    _require_images(ctx, run, "gray", 2, to_images("gray", gray))
    _require_images(ctx, run, "list", 2, to_images("list", batch[1::-1]))


@check("media.image_steps", needs=("images",))
def image_steps(ctx: Context) -> None:
    """Images under one name at several steps are kept apart, also where a step goes back or repeats.

    If this fails, look for file names that use only the name and the step.
    """
    run = ctx.new_run()
    arrays = [_noise(4, 4, 3, seed=seed) for seed in range(4)]
    with ctx.tracker(run) as tracker:
        for step, array in zip((0, 10, 5, 5), arrays, strict=True):
            tracker.log_images({"sample": array}, step=step)
    _require_images(ctx, run, "sample", 0, to_images("", arrays[0]))
    _require_images(ctx, run, "sample", 10, to_images("", arrays[1]))
    _require_images(ctx, run, "sample", 5, [*to_images("", arrays[2]), *to_images("", arrays[3])])


@check("media.image_sizes_may_differ", needs=("images",))
def image_sizes_may_differ(ctx: Context) -> None:
    """Images of different sizes and channels may be logged under one name; each is stored, with a margin if necessary.

    If this fails, pad at the right and the bottom (`tracking_core.values.image_grid` does), or store them apart.
    """
    run = ctx.new_run()
    arrays = [_noise(4, 6, 3), _noise(5, 3, 3, seed=1)]
    with ctx.tracker(run) as tracker:
        tracker.log_images({"mixed": arrays}, step=1)
    found = [pixels_of(one.pixels) for one in ctx.images(run) if one.name == "mixed"]
    ctx.require(
        len(found) == len(arrays), f"{len(arrays)} images of different sizes were logged, {len(found)} are there"
    )
    for number, (stored, array) in enumerate(zip(found, arrays, strict=True)):
        height, width, depth = array.shape
        corner = stored[:height, :width, :depth]
        ctx.require(same_pixels(corner, array), f"image {number} is missing in the stored pixels {stored.shape}")


@check("media.image_names", needs=("images",))
def image_names(ctx: Context) -> None:
    """Several names in one call, odd names among them, each keep their image.

    If this fails, encode names with `tracking_core.naming`, and decode them in the harness.
    """
    run = ctx.new_run()
    names = ("a", "A", "a/b", "../up", "größe 🙂", "new\nline", "", "x" * 300)
    arrays = {name: _noise(3, 4, 3, seed=number) for number, name in enumerate(names)}
    with ctx.tracker(run) as tracker:
        tracker.log_images(arrays, step=1)
    for name, array in arrays.items():
        _require_images(ctx, run, name, 1, to_images(name, array))


@check("media.captions_kept", needs=("images",))
def captions_kept(ctx: Context) -> None:
    """Captions come back with their images, one by one in a batch.

    If this fails and the backend has no place for captions, say so in `expected_failures`.
    """
    run = ctx.new_run()
    batch = _noise(2, 4, 4, 3)
    with ctx.tracker(run) as tracker:
        tracker.log_images({"one": Image(batch[0], caption="ein Bild: größe"), "two": Image(batch, ["a", "b"])}, step=1)
    stored = [(one.name, one.caption) for one in ctx.images(run)]
    for expected in (("one", "ein Bild: größe"), ("two", "a"), ("two", "b")):
        ctx.require(expected in stored, f"(name, caption) {expected!r} is missing; the backend holds {stored!r:.300}")


@check("media.image_axis_and_time", needs=("images",))
def image_axis_and_time(ctx: Context) -> None:
    """Images keep the axis of their step, and their time if the adapter stores times.

    If this fails, treat images as scalars are treated.
    """
    run = ctx.new_run()
    moment = 1_600_000_000.25
    with ctx.tracker(run) as tracker:
        tracker.log_images({"sample": _noise(3, 3, 3)}, step=500, wall_time=moment)
        tracker.log_images({"sample": _noise(3, 3, 3, seed=1)}, step=1, step_axis="epoch", wall_time=moment + 1)
    stored = {(one.axis, one.step): one.time for one in ctx.images(run)}
    for place, time in ((("step", 500), moment), (("epoch", 1), moment + 1)):
        ctx.require(place in stored, f"no image at {place}; the backend holds {sorted(stored)}")
        if ctx.info.stores_wall_time:
            ctx.require(same_time(stored[place], time), f"wall_time={time!r} came back as {stored[place]!r}")


def _one(ctx: Context, run: RunInfo, kind: str, name: str, step: int, axis: str) -> Any:
    stored = ctx.values(run, kind)
    found = [one for one in stored if (one.name, one.step, one.axis) == (name, step, axis)]
    ctx.require(
        len(found) == 1,
        f"{len(found)} {kind} under {name!r} at {axis} {step}, expected 1; the backend holds "
        f"{[(one.name, one.axis, one.step) for one in stored][:20]}",
    )
    return found[0].value


@check("media.tables_kept", needs=("tables",))
def tables_kept(ctx: Context) -> None:
    """A table comes back with its columns in order and its cells.

    If this fails, look at how numbers, text, booleans and None in one table are stored.
    """
    run = ctx.new_run()
    table = Table(["digit", "score", "text", "right"], [[3, 0.5, 'größe, "x"', True], [7, -1.25, "", False]])
    with ctx.tracker(run) as tracker:
        tracker.log_table("eval/table", table, step=3)
        tracker.log_table("eval/table", {"n": [1, None]}, step=1, step_axis="epoch")
    for step, axis, expected in ((3, "step", table), (1, "epoch", Table(["n"], [[1], [None]]))):
        stored = _one(ctx, run, "tables", "eval/table", step, axis)
        ctx.require(
            tuple(stored.columns) == expected.columns and [tuple(row) for row in stored.rows] == list(expected.rows),
            f"logged {expected.columns} {expected.rows}, stored {stored.columns} {stored.rows}",
        )


@check("media.text_kept", needs=("text",))
def text_kept(ctx: Context) -> None:
    """Text comes back unchanged, including line ends.

    If this fails, look for Markdown that is rendered, and for text that is trimmed.
    """
    run = ctx.new_run()
    texts = {"sample": "# Größe\n\n- one\n- two 🙂\n\n    code <b>&amp;</b>\n", "empty": "", "long": "word " * 5000}
    with ctx.tracker(run) as tracker:
        for name, text in texts.items():
            tracker.log_text(name, text, step=2)
        tracker.log_text("sample", "on an epoch", step=1, step_axis="epoch")
    for name, text in texts.items():
        stored = _one(ctx, run, "texts", name, 2, "step")
        ctx.require(stored == text, f"{name!r}: logged {text!r:.100}, stored {stored!r:.100}")
    ctx.require(_one(ctx, run, "texts", "sample", 1, "epoch") == "on an epoch", "the text of epoch 1 differs")


@check("media.audio_kept", needs=("audio",))
def audio_kept(ctx: Context) -> None:
    """Sound comes back sample by sample, mono and stereo, as 16-bit numbers.

    If this fails, write the WAV file of `Audio.wav`, not your own.
    """
    run = ctx.new_run()
    tone = np.sin(np.arange(800) / 20.0)
    mono, stereo = Audio(tone * 0.5, 8000), Audio(np.stack([tone, -tone], axis=1), 16000)
    with ctx.tracker(run) as tracker:
        tracker.log_audio("mono", tone * 0.5, step=1, sample_rate=8000)
        tracker.log_audio("stereo", stereo, step=2, step_axis="epoch")
    for name, expected, place in (("mono", mono, (1, "step")), ("stereo", stereo, (2, "epoch"))):
        stored = np.asarray(_one(ctx, run, "audio", name, *place))
        stored = stored[:, None] if stored.ndim == 1 else stored
        ctx.require(
            stored.shape == expected.samples.shape and np.array_equal(stored, expected.samples),
            f"{name}: logged {expected.samples.shape}, stored {stored.dtype} of shape {stored.shape}, or other samples",
        )


@check("media.video_kept", needs=("video",))
def video_kept(ctx: Context) -> None:
    """A video comes back with all its frames, in order, at its size; colours may change slightly.

    If this fails, use the GIF of `Video.gif` if the backend has no encoder.
    """
    run = ctx.new_run()
    frames = np.zeros((4, 16, 24, 3), np.uint8)
    for number in range(4):
        frames[number, 4 * number : 4 * number + 4, :, number % 3] = 255
    with ctx.tracker(run) as tracker:
        tracker.log_video("rollout", frames, step=1, fps=4.0)
        tracker.log_video("rollout", frames[::-1], step=1, step_axis="epoch")
    for axis, expected in (("step", frames), ("epoch", frames[::-1])):
        stored = np.asarray(_one(ctx, run, "videos", "rollout", 1, axis))
        ctx.require(stored.shape[:3] == expected.shape[:3], f"logged frames of {expected.shape}, stored {stored.shape}")
        off = np.abs(stored[..., :3].astype(int) - expected.astype(int)).mean(axis=(1, 2, 3))
        ctx.require(bool((off < 12).all()), f"the mean errors of the frames are {off.round(1)}: is the order right?")


@check("media.figures_kept", needs=("figures",))
def figures_kept(ctx: Context) -> None:
    """The picture of a figure comes back to the pixel, as a figure or, where the backend knows no other, as an image.

    If this fails, use the PNG in `Figure`, and do not draw it again.
    """
    run = ctx.new_run()
    pixels = _noise(12, 16, 3)
    with ctx.tracker(run) as tracker:
        tracker.log_figure("curve", Figure(_png(pixels)), step=1)
        tracker.log_figure("curve", Figure(_png(pixels[::-1])), step=1, step_axis="epoch")
    for axis, expected in (("step", pixels), ("epoch", pixels[::-1])):
        place = ("curve", 1, axis)
        images = [one.pixels for one in ctx.read(run).images or () if (one.name, one.step, one.axis) == place]
        stored = images[0] if images else _one(ctx, run, "figures", "curve", 1, axis)
        ctx.require(same_pixels(stored, expected), f"logged pixels of {expected.shape}, stored others")


@check("media.html_kept", needs=("html",))
def html_kept(ctx: Context) -> None:
    """HTML comes back unchanged: tags, entities, scripts (which are never run), and line ends.

    If this fails, look for code that cleans or completes HTML; it is shown in a sandbox.
    """
    run = ctx.new_run()
    pages = {
        "piece": "<p>the <mark>seven</mark> &amp; größe 🙂</p>\n",
        "page": "<!doctype html>\r\n<html><style>p { color: red }</style><body><script>0</script></body></html>",
        "empty": "",
    }
    with ctx.tracker(run) as tracker:
        for name, page in pages.items():
            tracker.log_html(name, page, step=2)
        tracker.log_html("piece", Html("<i>on an epoch</i>"), step=1, step_axis="epoch")
    for name, page in pages.items():
        stored = _one(ctx, run, "html", name, 2, "step")
        ctx.require(stored == page, f"{name!r}: logged {page!r:.100}, stored {stored!r:.100}")
    ctx.require(_one(ctx, run, "html", "piece", 1, "epoch") == "<i>on an epoch</i>", "the HTML of epoch 1 differs")


def _png(pixels: np.ndarray[Any, Any]) -> bytes:
    from PIL import Image as Pillow

    out = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(pixels)).save(out, format="PNG")
    return out.getvalue()
