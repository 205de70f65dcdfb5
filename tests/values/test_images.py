"""Images: every accepted shape and range becomes the right uint8 pixels; anything else is refused with the remedy."""

from __future__ import annotations

import io
import re
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as Pillow

from tracking_core.errors import InvalidValueError
from tracking_core.values import Image, image_grid, to_image_mapping, to_images

RNG = np.random.default_rng(0)


def pixels(value, **keywords):
    """The pixels of what must be one image."""
    (image,) = to_images("x", value, **keywords)
    return image.pixels


def refused(value, *words, **keywords):
    with pytest.raises(InvalidValueError) as caught:
        to_images("samples", value, **keywords)
    message = str(caught.value)
    for word in ("'samples", *words):
        assert word in message, message


def noise(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def png_bytes(array, mode=None):
    out = io.BytesIO()
    Pillow.fromarray(array, mode).save(out, format="PNG")
    return out.getvalue()


def decoded(png):
    """What an independent look at a PNG file gives."""
    with Pillow.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        array = np.array(image)
    return array[..., None] if array.ndim == 2 else array


# ---------------------------------------------------------------- shapes


@pytest.mark.parametrize(
    ("shape", "count", "single"),
    [
        ((5, 7), 1, (5, 7, 1)),
        ((5, 3), 1, (5, 3, 1)),
        ((1, 1), 1, (1, 1, 1)),
        ((5, 7, 1), 1, (5, 7, 1)),
        ((5, 7, 3), 1, (5, 7, 3)),
        ((5, 7, 4), 1, (5, 7, 4)),
        ((3, 7, 3), 1, (3, 7, 3)),
        ((2, 5, 7), 2, (5, 7, 1)),
        ((1, 5, 7), 1, (5, 7, 1)),
        ((4, 5, 7), 4, (5, 7, 1)),
        ((6, 5, 7, 1), 6, (5, 7, 1)),
        ((2, 5, 7, 3), 2, (5, 7, 3)),
        ((2, 5, 7, 4), 2, (5, 7, 4)),
        ((2, 3, 3, 3), 2, (3, 3, 3)),
        ((1, 3, 7, 3), 1, (3, 7, 3)),
    ],
)
@pytest.mark.parametrize("make", [np.asarray, jnp.asarray, np.ndarray.tolist], ids=["numpy", "jax", "lists"])
def test_every_accepted_shape(shape, count, single, make):
    array = noise(*shape)
    images = to_images("x", make(array))
    assert len(images) == count
    assert all(image.pixels.shape == single and image.pixels.dtype == np.uint8 for image in images)
    np.testing.assert_array_equal(np.stack([image.pixels for image in images]), array.reshape(count, *single))
    assert all(image.is_normal and image.clipped == 0 and image.caption is None for image in images)


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [
        ((3, 32, 32), "x.transpose(1, 2, 0)"),
        ((3, 32, 7), "x[..., None]"),
        ((8, 3, 32, 32), "x.transpose(0, 2, 3, 1)"),
        ((8, 1, 32, 32), "x.transpose(0, 2, 3, 1)"),
        ((8, 4, 32, 32), "x.transpose(0, 2, 3, 1)"),
    ],
)
def test_channels_first_is_recognised_and_refused(shape, remedy):
    refused(np.zeros(shape), "channels first", str(shape), remedy)


def test_the_remedy_for_channels_first_works():
    chw, nchw = noise(3, 32, 20), noise(5, 3, 32, 20)
    np.testing.assert_array_equal(pixels(chw.transpose(1, 2, 0)), np.moveaxis(chw, 0, -1))
    assert len(to_images("x", nchw.transpose(0, 2, 3, 1))) == 5
    assert len(to_images("x", chw[..., None])) == 3


@pytest.mark.parametrize("shape", [(), (7,), (8, 2, 32, 32), (5, 7, 2, 2), (1, 2, 5, 7, 3)])
def test_other_shapes_are_refused(shape):
    refused(np.zeros(shape), "is not an image", str(shape))


@pytest.mark.parametrize("shape", [(0, 7), (5, 0), (0, 5, 7), (0, 5, 7, 3), (2, 0, 7, 1)])
def test_images_without_pixels_are_refused(shape):
    refused(np.zeros(shape), "no pixels")


@pytest.mark.parametrize(
    "value",
    [None, "path.png", {}, 3, 3.5, [], (), [1, 2], [[1], [1, 2]], object(), np.array("a"), [np.float32(1)]],
)
def test_what_is_no_image_is_refused(value):
    refused(value)


def test_the_error_in_a_sequence_says_which():
    refused([noise(4, 4), noise(4, 4, 2, 2)], "samples[1]")


# ---------------------------------------------------------------- values


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)))
def test_uint8_is_taken_as_it_is(array):
    np.testing.assert_array_equal(pixels(array)[..., 0], array)
    np.testing.assert_array_equal(pixels(array, value_range=(0, 1))[..., 0], array)


@given(hnp.arrays(np.float64, (2, 3), elements=st.floats(0, 1)))
def test_floats_between_0_and_1_are_scaled_and_rounded(array):
    expected = np.array([[round(x * 255) for x in row] for row in array.tolist()])
    # The product is rounded before it is rounded to a level: one level of difference at an exact half.
    assert np.abs(pixels(array)[..., 0].astype(int) - expected).max() <= 1
    exact = np.arange(256).reshape(16, 16)
    for dtype in (np.float16, np.float32, np.float64):
        np.testing.assert_array_equal(pixels((exact / 255).astype(dtype))[..., 0], exact)


@pytest.mark.parametrize(
    "dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.longdouble]
)
def test_every_float_dtype(dtype):
    array = np.array([[0.0, 0.25, 0.5, 1.0]]).astype(dtype)
    np.testing.assert_array_equal(pixels(array).ravel(), [0, 64, 128, 255])
    np.testing.assert_array_equal(pixels(array, value_range=(-1, 1)).ravel(), [128, 159, 191, 255])


@pytest.mark.parametrize(
    "dtype", [np.int8, np.int16, np.int32, np.int64, np.uint16, np.uint32, np.uint64, ml_dtypes.int4]
)
def test_other_integers_are_grey_levels(dtype):
    np.testing.assert_array_equal(pixels(np.array([[0, 1, 7]]).astype(dtype)).ravel(), [0, 1, 7])


def test_integers_beyond_a_byte_are_refused_with_the_remedy():
    array = np.array([[0, 1000]], np.uint16)
    refused(array, "uint16", "0 and 1000", "value_range=(0, 65535)")
    np.testing.assert_array_equal(pixels(array, value_range=(0, 1000)).ravel(), [0, 255])
    refused(np.array([[-1, 255]]), "between -1 and 255", "clip them")
    refused(np.array([[-128, 127]], np.int8), "value_range=(-128, 127)")
    refused(np.array([[0, 70_000]]), "clip them")


def test_bools_are_black_and_white():
    np.testing.assert_array_equal(pixels(np.array([[True, False]])).ravel(), [255, 0])
    np.testing.assert_array_equal(pixels(jnp.array([[True, False]])).ravel(), [255, 0])


@pytest.mark.parametrize("dtype", [np.complex64, object])
def test_what_is_not_real_is_refused(dtype):
    refused(np.zeros((4, 4), dtype), "real numbers")


def test_value_range():
    array = np.array([[-1.0, -0.5, 0.0, 1.0]], np.float32)
    np.testing.assert_array_equal(pixels(array, value_range=(-1, 1)).ravel(), [0, 64, 128, 255])
    # The range of an image goes before the one of the call.
    np.testing.assert_array_equal(
        pixels(Image(array, value_range=(-1, 1)), value_range=(0, 9)).ravel(), [0, 64, 128, 255]
    )
    np.testing.assert_array_equal(pixels(Image(array), value_range=np.array([-1, 1])).ravel(), [0, 64, 128, 255])
    np.testing.assert_array_equal(pixels(Image(array, value_range=np.array([-1, 1]))).ravel(), [0, 64, 128, 255])
    refused(array, "between -1 and 1", "expected 0 to 1", "value_range=(-1, 1)")


@pytest.mark.parametrize("scale", [1e-300, 1e-40, 1e-6, 1e6, 1e40, 1e300])
def test_ranges_of_every_size(scale):
    array = np.array([[0.0, 0.25, 0.75, 1.0]]) * scale
    for dtype in (np.float64, np.float32) if 1e-44 < scale < 1e38 else (np.float64,):
        np.testing.assert_array_equal(pixels(array.astype(dtype), value_range=(0, scale)).ravel(), [0, 64, 191, 255])


@pytest.mark.parametrize(
    "wrong",
    [(1, 0), (0, 0), (0,), 3, "ab", (0, np.nan), (0, np.inf), (None, 1), (-1e308, 1e308), (0, 1e-308)],
)
def test_wrong_ranges_are_refused(wrong):
    refused(np.zeros((4, 4)), "value_range must be (lo, hi)", value_range=wrong)


def test_overshoot_by_rounding_is_clipped_and_counted():
    array = np.full((2, 4, 5), 0.5, np.float32)
    array[0, 0, :3] = [1.004, -0.003, 1.007]
    first, second = to_images("x", array)
    assert (first.clipped, second.clipped) == (3, 0)
    np.testing.assert_array_equal(first.pixels[0, :3, 0], [255, 0, 255])
    # One step of bfloat16 above 1.
    over = np.full((4, 4), 1.0).astype(ml_dtypes.bfloat16)
    over[0, 0] = 1.0078125
    assert to_images("x", over)[0].clipped == 1
    # The margin is relative to the range.
    assert to_images("x", np.full((2, 2), 1.01), value_range=(-1, 1))[0].clipped == 4


@pytest.mark.parametrize(
    ("low", "high", "remedy"),
    [(0.0, 1.02, None), (-0.02, 0.0, (-1, 1)), (-0.93, 0.98, (-1, 1)), (-1.01, 1.01, (-1, 1)), (0.0, 2.0, None), (0.0, 3.1, (0, 255)), (9.0, 9.0, (0, 255)),
     (0.0, 255.0, (0, 255)), (-0.5, 256.0, (0, 255)), (-1.5, 1.0, None), (-200.0, 3.0, None), (0.0, 1e9, None)],
)  # fmt: skip
@pytest.mark.parametrize("make", [np.asarray, jnp.asarray])
def test_beyond_rounding_is_refused_with_a_remedy_that_helps(make, low, high, remedy):
    array = make(np.array([[low, high]], np.float32))
    refused(array, "expected 0 to 1", "clip them")
    with pytest.raises(InvalidValueError) as caught:
        to_images("x", array)
    named = re.findall(r"value_range=\(([-\d.]+), ([-\d.]+)\)", str(caught.value))
    assert named == ([tuple(map(str, remedy))] if remedy else [])
    # What is advised is accepted, and does not depend on what this batch happens to hold.
    assert remedy is None or len(to_images("x", array, value_range=remedy)) == 1


def test_a_range_that_was_given_is_not_advised_again():
    refused(np.array([[-5.0, 0.5]]), "expected -1 to 1: clip them", value_range=(-1, 1))
    refused(np.array([[0, 300]]), "expected 0 to 255: pass value_range=(0, 65535)", value_range=(0, 255))


def every_image():
    """One of everything that is one image, and the grey or red level it has."""
    level = np.full((4, 5), 0.5, np.float32)
    colour = np.full((4, 5, 3), 128, np.uint8)
    return {
        "uint8": colour, "float": level, "bfloat16": level.astype(ml_dtypes.bfloat16), "bool": np.ones((4, 5), bool), "lists": level.tolist(),
        "jax uint8": jnp.asarray(colour), "jax float": jnp.asarray(level), "jax bfloat16": jnp.asarray(level, jnp.bfloat16),
        "PIL": Pillow.fromarray(colour), "PIL grey": Pillow.new("L", (5, 4), 128), "Image": Image(level, "said"),
        "Image of jax": Image(jnp.asarray(level), "said"), "Image of PIL": Image(Pillow.fromarray(colour), "said"), "Image with range": Image(level - 0.5, value_range=(-0.5, 0.5)),
        "png": to_images("x", colour)[0].png(), "normal": to_images("x", colour)[0],
    }  # fmt: skip


@pytest.mark.parametrize("outer", [list, tuple])
@pytest.mark.parametrize("deferred", [False, True], ids=["to_images", "a run"])
def test_every_image_in_every_sequence(outer, deferred):
    from tracking_core.intake.pixels import take

    def images(value):
        if not deferred:
            return to_images("x", value)
        arrays, rebuild, _ = take("x", value, None)
        return to_images("x", rebuild(iter([np.asarray(array) for array in arrays])))

    ones = every_image()
    for name, one in ones.items():
        (alone,) = images(one)
        twice = images(outer([one, one]))
        assert twice == [alone, alone], name
        # A batch, and a sequence inside one.
        batch = np.zeros((2, 4, 5), np.float32)
        for inner in (batch, jnp.asarray(batch), list(jnp.asarray(batch))):
            found = images(outer([inner, one]))
            assert len(found) == 3, name
            assert found[2] == alone, name
    mixed = images(outer(ones.values()))
    assert mixed == [image for one in ones.values() for image in images(one)]
    assert [image.caption for image in mixed] == [
        "said" if name in {"Image", "Image of jax", "Image of PIL"} else None for name in ones
    ]
    captions = [str(number) for number in range(len(ones))]
    captioned = images(Image(outer(ones.values()), captions))
    assert [image.caption for image in captioned] == captions


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.bfloat16])
def test_pixels_that_are_not_finite_are_refused_with_the_remedy(bad, dtype):
    array = np.full((4, 4), 0.5).astype(dtype)
    array[1, 2] = bad
    refused(array, "1 pixels are not finite", "nan_to_num")


# ---------------------------------------------------------------- captions and sequences


def test_a_caption_for_one_and_for_each_of_a_batch():
    assert to_images("x", Image(noise(4, 4), "one"))[0].caption == "one"
    assert [i.caption for i in to_images("x", Image(noise(2, 4, 5), ["a", None]))] == ["a", None]
    assert [i.caption for i in to_images("x", Image(noise(2, 4, 5), "both"))] == ["both", "both"]
    assert to_images("x", Image(noise(4, 4), 7))[0].caption == "7"
    refused(Image(noise(2, 4, 5), ["a"]), "1 caption for 2 images")
    refused(Image(noise(4, 4), ["a", "b"]), "2 captions for 1 image")


def test_sequences_of_anything_image_like():
    mixed = [
        noise(4, 4),
        Image(noise(2, 5, 5, 3), ["a", "b"]),
        Pillow.new("L", (3, 6)),
        jnp.zeros((2, 2)),
        png_bytes(noise(4, 4)),
    ]
    images = to_images("x", mixed)
    assert [image.pixels.shape for image in images] == [
        (4, 4, 1),
        (5, 5, 3),
        (5, 5, 3),
        (6, 3, 1),
        (2, 2, 1),
        (4, 4, 1),
    ]
    assert [image.caption for image in images] == [None, "a", "b", None, None, None]
    assert len(to_images("x", tuple(noise(4, 4) for _ in range(3)))) == 3


def test_captions_do_not_change_the_images_they_are_put_on():
    one = to_images("x", Image(noise(4, 4), "old"))[0]
    (two,) = to_images("x", Image([one], "new"))
    assert (one.caption, two.caption) == ("old", "new")
    np.testing.assert_array_equal(one.pixels, two.pixels)


def test_coercion_is_idempotent():
    once = to_images("x", Image(noise(2, 4, 5), ["a", "b"]))
    assert to_images("x", once) == once
    assert to_images("x", once[0], value_range=(5, 6)) == [once[0]]


def test_mappings():
    found = to_image_mapping({"a": noise(4, 4), "b": noise(2, 4, 5)})
    assert {name: len(images) for name, images in found.items()} == {"a": 1, "b": 2}
    for wrong in [noise(4, 4), None, [noise(4, 4)]]:
        with pytest.raises(InvalidValueError, match="expected a mapping"):
            to_image_mapping(wrong)
    with pytest.raises(InvalidValueError, match="a name must be a str"):
        to_image_mapping({3: noise(4, 4)})


# ---------------------------------------------------------------- PIL and files

MODES = {
    # mode: (colour that is put in, expected pixel)
    "1": (1, [255, 255, 255]),
    "L": (7, [7]),
    "LA": ((7, 9), [7, 7, 7, 9]),
    "P": (5, None),
    "PA": ((5, 200), None),
    "RGB": ((1, 2, 3), [1, 2, 3]),
    "RGBA": ((1, 2, 3, 4), [1, 2, 3, 4]),
    "RGBX": ((1, 2, 3, 4), [1, 2, 3]),
    "CMYK": ((0, 255, 255, 0), [255, 0, 0]),
    "YCbCr": ((0, 128, 128), [0, 0, 0]),
    "HSV": ((0, 0, 9), [9, 9, 9]),
    "LAB": ((0, 0, 0), None),
    "La": ((7, 255), [7, 7, 7, 255]),
    "RGBa": ((1, 2, 3, 255), [1, 2, 3, 255]),
    "I": (200, [200]),
    "F": (1.0, [255]),
    "I;16": (257 * 3, [3]),
    "I;16B": (257 * 3, [3]),
    "I;16L": (257 * 3, [3]),
}


@pytest.mark.parametrize("mode", MODES)
def test_pil_images_of_every_mode(mode):
    colour, expected = MODES[mode]
    try:
        image = Pillow.new(mode, (3, 2), colour)
    except (ValueError, TypeError):
        # Modes that cannot be filled, only converted to.
        image = Pillow.new("LA" if mode == "La" else "RGBA", (3, 2), colour).convert(mode)
    found = pixels(image)
    assert found.dtype == np.uint8
    assert found.shape[:2] == (2, 3)
    if expected is not None:
        assert found[0, 0].tolist() == expected


def test_pil_palettes_keep_their_transparency():
    image = Pillow.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert pixels(image)[0, 0].tolist() == [10, 20, 30]
    image.info["transparency"] = 1
    assert pixels(image)[0, 0].tolist() == [10, 20, 30, 0]


def test_pil_images_of_any_range_follow_the_rules_for_arrays():
    refused(Pillow.new("I", (2, 2), 1000), "value_range=(0, 65535)")
    refused(Pillow.new("F", (2, 2), 3.0), "expected 0 to 1")
    assert pixels(Pillow.new("I", (2, 2), 1000), value_range=(0, 2000))[0, 0].tolist() == [128]


def test_a_pil_image_that_cannot_be_read_is_refused(tmp_path):
    data = png_bytes(noise(64, 64))
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with Pillow.open(tmp_path / "cut.png") as image:
        refused(image, "cannot be read")


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3), (4, 5, 4)])
def test_png_files_as_bytes_and_paths(shape, tmp_path):
    array = noise(*shape)
    data = png_bytes(array)
    path = tmp_path / "image.png"
    path.write_bytes(data)
    for value in [data, path, Image(data, "c"), Image(path, "c"), Image(str(path), "c")]:
        (image,) = to_images("x", value)
        np.testing.assert_array_equal(image.pixels, array.reshape(4, 5, -1))
        # The file stays as it is.
        assert image.png() == data
        assert image.caption == ("c" if isinstance(value, Image) else None)


@pytest.mark.parametrize(("mode", "expected"), [("I;16", [2]), ("1", [255, 255, 255]), ("P", None)])
def test_png_files_of_other_modes_become_8_bits(mode, expected):
    out = io.BytesIO()
    Pillow.new(mode, (3, 2), 257 * 2 if mode == "I;16" else 1).save(out, format="PNG")
    (image,) = to_images("x", out.getvalue())
    assert image.pixels.dtype == np.uint8
    if expected:
        assert image.pixels[0, 0].tolist() == expected
    np.testing.assert_array_equal(decoded(image.png()), image.pixels)


def test_jpeg_bytes_are_read():
    out = io.BytesIO()
    Pillow.new("RGB", (8, 8), (255, 0, 0)).save(out, format="JPEG")
    (image,) = to_images("x", out.getvalue())
    assert np.abs(image.pixels.astype(int) - [255, 0, 0]).max() < 5
    np.testing.assert_array_equal(decoded(image.png()), image.pixels)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"not an image", b"GIF89a"])
def test_bytes_that_are_no_image_are_refused(data, tmp_path):
    refused(data, "cannot read these bytes as an image file")
    refused(tmp_path / "none.png", "cannot read the image file")
    refused(Image("none.png"), "cannot read the image file")
    with pytest.raises(InvalidValueError):
        Image.from_png(data).pixels


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3), (4, 5, 4), (1, 1)])
def test_png_keeps_every_pixel(shape):
    (image,) = to_images("x", noise(*shape))
    np.testing.assert_array_equal(decoded(image.png()), image.pixels)
    assert Image.from_png(image.png()) == image


def test_png_of_strided_views():
    (image,) = to_images("x", noise(8, 10, 3)[::2, ::-1])
    np.testing.assert_array_equal(decoded(image.png()), image.pixels)


# ---------------------------------------------------------------- copies, digests, grids


def test_pixels_are_shared_unless_a_copy_is_asked_for():
    array = noise(4, 4)
    assert np.shares_memory(pixels(array), array)
    kept = pixels(array, copy=True)
    expected = array.copy()
    array[:] = 0
    np.testing.assert_array_equal(kept[..., 0], expected)
    assert not np.shares_memory(pixels([array], copy=True), array)
    assert not np.shares_memory(pixels(Image(array), copy=True), array)
    device = jnp.asarray(noise(4, 4))
    assert not np.shares_memory(pixels(device), np.asarray(device))


def test_inputs_are_not_changed():
    array = np.array([[1.004, 0.5]])
    before = array.copy()
    to_images("x", array)
    np.testing.assert_array_equal(array, before)


@given(hnp.arrays(np.uint8, st.sampled_from([(1, 4, 1), (2, 2, 1), (4, 1, 1), (1, 1, 4), (1, 2, 3)]), elements=st.integers(0, 1)),
       hnp.arrays(np.uint8, st.sampled_from([(1, 4, 1), (2, 2, 1), (4, 1, 1), (1, 1, 4), (1, 2, 3)]), elements=st.integers(0, 1)))  # fmt: skip
def test_digests_and_equality_are_by_shape_and_pixels(one, other):
    a, b = Image.from_pixels(one), Image.from_pixels(other)
    alike = one.shape == other.shape and bool((one == other).all())
    assert (a == b) is alike
    assert (a.digest() == b.digest()) is alike
    if alike:
        assert hash(a) == hash(b)


def test_equality_knows_captions_and_forms():
    array = noise(4, 4)
    assert Image(array) == to_images("x", array)[0] == Image.from_png(Image(array).png())
    assert Image(array, "a") != Image(array, "b")
    assert Image(array) != array.tolist()
    assert Image(array).digest() == Image(array[..., None], "other caption").digest()


def test_reprs_say_what_it_is():
    assert repr(to_images("x", noise(4, 5, 3))[0]) == "Image(4x5x3, caption=None)"
    assert "shape (4, 5)" in repr(Image(noise(4, 5), "c")) and "'c'" in repr(Image(noise(4, 5), "c"))
    assert "png" in repr(Image.from_png(b""))


def test_a_batch_has_no_pixels_of_its_own():
    with pytest.raises(InvalidValueError, match="batch"):
        Image(noise(2, 4, 5)).pixels
    np.testing.assert_array_equal(Image(noise(1, 4, 5)).pixels.shape, (4, 5, 1))


@pytest.mark.parametrize(
    ("count", "columns", "shape"),
    [(1, None, (4, 5)), (4, None, (8, 10)), (5, None, (8, 15)), (5, 5, (4, 25)), (5, 1, (20, 5))],
)
def test_grids_hold_every_image_in_reading_order(count, columns, shape):
    images = [Image.from_pixels(np.full((4, 5, 1), number + 1, np.uint8)) for number in range(count)]
    grid = image_grid(images, columns)
    assert grid.pixels.shape == (*shape, 1)
    across = shape[1] // 5
    for number in range(count):
        top, left = number // across * 4, number % across * 5
        assert (grid.pixels[top : top + 4, left : left + 5] == number + 1).all()
    assert grid.pixels.sum() == sum(20 * (number + 1) for number in range(count))


def test_grids_of_different_sizes_and_channels():
    grey, colour, clear = noise(2, 2, 1), noise(3, 4, 3), noise(1, 1, 4)
    grid = image_grid([Image.from_pixels(one) for one in (grey, colour, clear)], 3).pixels
    assert grid.shape == (3, 12, 4)
    np.testing.assert_array_equal(grid[:2, :2, :3], np.repeat(grey, 3, axis=-1))
    assert (grid[:2, :2, 3] == 255).all()
    np.testing.assert_array_equal(grid[:3, 4:8, :3], colour)
    np.testing.assert_array_equal(grid[:1, 8:9], clear)
    assert not grid[2, :4].any()
    np.testing.assert_array_equal(
        image_grid([Image.from_pixels(grey), Image.from_pixels(colour)], 2).pixels[:2, :2], np.repeat(grey, 3, axis=-1)
    )


def test_an_empty_grid_is_refused():
    with pytest.raises(InvalidValueError, match="no images"):
        image_grid([])


def test_pathlike_strs_are_no_images_by_themselves():
    refused(str(Path("x.png")), "expected an image, got str")
