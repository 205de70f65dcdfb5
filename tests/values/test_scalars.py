"""Scalars, steps and names: every real number comes out exactly, and anything else is refused with the remedy."""

from __future__ import annotations

import enum
import math
import struct
from collections import OrderedDict
from fractions import Fraction
from types import MappingProxyType

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax.core import FrozenDict
from hypothesis import given
from hypothesis import strategies as st

from tests.support.programs import run as run_program
from tracking_core.errors import InvalidStepError, InvalidValueError
from tracking_core.values import flatten_scalars, to_axis, to_host, to_name, to_scalar, to_scalars, to_step

NUMPY = [
    np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64,
    np.float16, np.float32, np.float64,
]  # fmt: skip
EXTENSION = [
    getattr(ml_dtypes, name)
    for name in dir(ml_dtypes)
    if name.startswith(("bfloat16", "float8", "float6", "float4", "int", "uint")) and name != "iinfo"
]
NARROW = [dtype for dtype in [*NUMPY, *EXTENSION] if np.dtype(dtype).itemsize <= 2 and dtype is not np.bool_]
#: What JAX has arrays of without the x64 flag.
IN_JAX = [
    "bool", "int8", "int16", "int32", "uint8", "uint16", "uint32", "float16", "float32", "bfloat16", "float8_e4m3fn",
    "float8_e5m2", "float8_e4m3b11fnuz", "float8_e4m3fnuz", "float8_e5m2fnuz", "int4", "uint4",
]  # fmt: skip


def same(one, other):
    """Equal as numbers of one type, the sign of zero and NaN included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or struct.pack("d", one) == struct.pack("d", other)
    return one == other


def refused(value, *words, convert=to_scalar):
    with pytest.raises(InvalidValueError) as caught:
        convert(value, "train/loss") if convert in (to_scalar, to_host) else convert(value)
    message = str(caught.value)
    for word in words:
        assert word in message, message
    return message


# ---------------------------------------------------------------- exact


@given(st.one_of(st.floats(), st.integers(-(2**1023), 2**1023), st.booleans()))
def test_python_numbers_are_kept_as_they_are(value):
    assert same(to_scalar(value, "x"), value)
    assert same(to_scalars({"x": value})["x"], value)


@pytest.mark.parametrize("dtype", NARROW, ids=lambda dtype: np.dtype(dtype).name)
def test_every_value_of_a_narrow_dtype_is_exact(dtype):
    dtype = np.dtype(dtype)
    bits = np.arange(256, dtype=np.uint8) if dtype.itemsize == 1 else np.arange(0, 2**16, 37, dtype=np.uint16)
    if "int" in dtype.name and dtype.kind == "V":
        low, high = int(ml_dtypes.iinfo(dtype).min), int(ml_dtypes.iinfo(dtype).max)
        array = np.arange(low, high + 1).astype(dtype)
        expected = list(range(low, high + 1))
    else:
        array = bits.view(dtype)
        expected = array.tolist() if dtype.kind in "iu" else [float(np.float64(x)) for x in array]
    found = [to_scalar(x, "x") for x in array]
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))
    assert type(found[0]) is (int if "int" in dtype.name else float)
    # As arrays of size 1 of every number of dimensions, too.
    for shape in [(), (1,), (1, 1, 1)]:
        assert same(to_scalar(array[-1:].reshape(shape), "x"), expected[-1])


def test_bfloat16_is_decoded_as_its_definition_says():
    """Independently of ml_dtypes: bfloat16 is the upper half of a float32."""
    bits = np.arange(0, 2**16, 11, dtype=np.uint16)
    for pattern in bits.tolist():
        expected = struct.unpack("<f", struct.pack("<I", pattern << 16))[0]
        found = to_scalar(np.uint16(pattern).reshape(1).view(ml_dtypes.bfloat16), "x")
        assert same(found, expected) or (math.isnan(found) and math.isnan(expected))


def test_float8_is_decoded_as_its_definition_says():
    """Independently of ml_dtypes: e4m3fn has a bias of 7, no infinities, and one NaN of each sign."""
    for pattern in range(256):
        sign, exponent, mantissa = -1.0 if pattern & 128 else 1.0, pattern >> 3 & 15, pattern & 7
        if exponent == 15 and mantissa == 7:
            expected = math.nan
        elif exponent:
            expected = sign * (1 + mantissa / 8) * 2.0 ** (exponent - 7)
        else:
            expected = sign * mantissa / 8 * 2.0**-6
        assert same(to_scalar(np.uint8(pattern).reshape(()).view(ml_dtypes.float8_e4m3fn), "x"), expected)


@given(st.data())
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64, np.float32, np.float64])
def test_wide_dtypes_are_exact(dtype, data):
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        value = data.draw(st.floats(width=dtype.itemsize * 8))
    else:
        value = data.draw(st.integers(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)))
    assert same(to_scalar(dtype.type(value), "x"), value)
    assert same(to_scalar(np.array([[value]], dtype), "x"), value)
    # Not in native byte order.
    assert same(to_scalar(np.array(value, dtype.newbyteorder(">")), "x"), value)


@pytest.mark.parametrize("dtype", IN_JAX)
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_jax_arrays_are_exact(dtype, shape):
    host = np.array([1, 0, 0.75, -1.5])[:, None].astype(np.dtype(jnp.dtype(dtype)))
    for row in host:
        array = jnp.asarray(row.reshape(shape))
        assert str(array.dtype) == dtype
        assert same(to_scalar(array, "x"), to_scalar(row[0], "x"))


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308, 2**63, 2**64 + 1, -(2**200), True, False],
)
def test_edges_of_python_numbers(value):
    assert same(to_scalar(value, "x"), value)


def test_subclasses_become_plain_numbers():
    class Level(enum.IntEnum):
        HIGH = 3

    class Loss(float):
        pass

    assert same(to_scalar(Level.HIGH, "x"), 3)
    assert same(to_scalar(Loss(0.5), "x"), 0.5)
    assert same(to_scalar(np.float64(0.5), "x"), 0.5)
    assert same(to_scalar(np.True_, "x"), True)
    assert same(to_scalar(np.longdouble(0.5), "x"), 0.5)


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("0.5", ["str", "log_text"]),
        (b"0.5", ["bytes", "log_text"]),
        (None, ["NoneType"]),
        (1 + 2j, ["complex"]),
        (np.complex64(1), ["complex64", "magnitude"]),
        (jnp.complex64(1), ["complex64", "magnitude"]),
        (object(), ["object"]),
        ([1.0], ["list"]),
        (Fraction(1, 2), ["Fraction"]),
        (np.datetime64("2026-01-01"), ["datetime64"]),
        (np.array("a"), ["<U1"]),
        (np.array(None), ["object"]),
        (np.zeros((1,), [("a", "f4")]), ["ndarray"]),
        (np.zeros((0,)), ["shape (0,)"]),
        (np.zeros((2,)), ["shape (2,)", "x.mean()", "x[0]", "replica"]),
        (np.zeros((2, 3)), ["shape (2, 3)", "x.mean()", "log_histogram", "log_images"]),
        (jnp.zeros((8,)), ["shape (8,)", "x[0]"]),
        (10**400, ["1329 bits"]),
        (-(2**1024), ["1025 bits"]),
    ],
)
def test_anything_else_is_refused_with_the_remedy(value, words):
    refused(value, "'train/loss'", *words)


def test_integers_beyond_all_floats_cost_only_themselves():
    """No backend could hold them, and `float` of them raises."""
    errors = []
    largest = 2**1024 - 2**970 - 1
    found = to_scalars({"a": 10**400, "b": largest, "c": -(10**400)}, lambda name, error: errors.append(name))
    assert (found, errors) == ({"b": largest}, ["a", "c"])
    assert float(largest) == 1.7976931348623157e308


def test_a_longdouble_beyond_float64_is_refused_not_made_infinite():
    huge = np.finfo(np.longdouble).max
    if huge == np.finfo(np.float64).max:
        pytest.skip("long double is a double here")
    refused(huge, "too large for float64")
    assert to_scalar(np.longdouble("inf"), "x") == math.inf


def test_masked_numbers_are_refused():
    """What is behind a mask is no data; numpy would hand out 0.0."""
    refused(np.ma.masked, "masked")
    refused(np.ma.array([2.0], mask=[True]), "masked", "fill them")
    assert to_scalar(np.ma.array(2.0), "x") == 2.0


def test_a_donated_array_is_refused_with_the_remedy():
    donate = jax.jit(lambda x: x + 1, donate_argnums=0)
    loss = jnp.float32(1)
    donate(loss)
    refused(loss, "deleted", "donated", "before that call")


def test_a_tracer_is_refused_with_the_remedy():
    messages = []

    @jax.jit
    def step(x):
        messages.append(refused(x.sum(), "traced", "inside jit", "return the value"))
        with pytest.raises(InvalidStepError, match="traced"):
            to_step(x.astype(int).sum())
        return x

    step(jnp.zeros(3))
    jax.grad(lambda x: messages.append(refused(x * 2, "traced")) or x)(1.0)
    jax.vmap(lambda x: messages.append(refused(x, "traced")) or x)(jnp.zeros(2))
    assert len(messages) == 3


def test_prng_keys_are_refused_with_the_remedy():
    refused(jax.random.key(0), "PRNG key", "jax.random.key_data")
    # Old-style keys are two plain numbers.
    refused(jax.random.PRNGKey(0), "expected one number")


class Hostile:
    """Raises whatever is asked of it."""

    def _no(self, *args, **keywords):
        raise RuntimeError("no")

    __float__ = __int__ = __index__ = __len__ = __repr__ = __str__ = __iter__ = __getitem__ = __bool__ = _no


class HostileArray(Hostile):
    dtype = property(Hostile._no)
    shape = property(Hostile._no)
    __array__ = Hostile._no


class HostileAttributes(Hostile):
    def __getattr__(self, name):
        raise RuntimeError("no")


class HostileMapping(dict):
    def items(self):
        raise RuntimeError("no")


HOSTILE = [Hostile(), HostileArray(), HostileAttributes()]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: type(value).__name__)
def test_hostile_objects_are_refused_like_any_other(value):
    refused(value, "Hostile")
    refused(value, convert=to_step)
    refused(value, convert=to_axis)
    refused(value, convert=to_name)
    refused(value, convert=to_host)


def test_hostile_objects_cost_only_their_own_names():
    errors = []
    given_ = {"a": 1, "nested": {"b": HOSTILE[1], "c": 2}, "d": HostileMapping(x=1), HOSTILE[0]: 3, "e": {4: 1, "f": 5}}
    found = to_scalars(given_, lambda name, error: errors.append((name, error)))
    assert found == {"a": 1, "nested/c": 2, "e/f": 5}
    assert [name for name, _ in errors] == ["nested/b", "d", "Hostile", "e"]
    assert all(isinstance(error, InvalidValueError) for _, error in errors)
    for key, value in given_.items():
        if key != "a":
            with pytest.raises(InvalidValueError):
                to_scalars({key: value})


# ---------------------------------------------------------------- mappings

names = st.text(max_size=5)
trees = st.recursive(
    st.one_of(st.integers(-5, 5), st.floats(allow_nan=False), st.booleans()),
    lambda inner: st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.system
@given(st.dictionaries(names, trees, max_size=4))
def test_nested_mappings_are_joined_with_slashes(tree):
    expected = {}

    def walk(prefix, node):
        for key, value in node.items():
            # An empty prefix is none.
            path = f"{prefix}/{key}" if prefix else key
            if isinstance(value, dict):
                walk(path, value)
            else:
                expected[path] = value

    walk("", tree)
    assert to_scalars(tree) == expected
    assert dict(flatten_scalars(tree)) == expected
    assert to_scalars(FrozenDict(tree)) == expected
    assert to_scalars(to_scalars(tree)) == expected


@pytest.mark.parametrize("kind", [dict, OrderedDict, FrozenDict, MappingProxyType])
def test_mappings_of_every_kind(kind):
    assert to_scalars(kind({"a": kind({"b": 1}), "c": np.float32(2)})) == {"a/b": 1, "c": 2.0}


@pytest.mark.parametrize("value", [[("a", 1)], 3.0, None, "a", np.zeros(3)])
def test_what_is_no_mapping_is_refused(value):
    refused(value, "expected a mapping", convert=to_scalars)


def test_cycles_are_refused_and_cost_only_themselves():
    inner = {"x": 1}
    inner["self"] = inner
    tree = {"a": inner, "b": 2}
    tree["again"] = tree
    errors = []
    assert to_scalars(tree, lambda name, error: errors.append(name)) == {"a/x": 1, "b": 2}
    assert errors == ["a/self", "again"]
    with pytest.raises(InvalidValueError, match="holds itself"):
        to_scalars(tree)
    # One mapping in two places is no cycle.
    shared = {"x": 1}
    assert to_scalars({"a": shared, "b": shared}) == {"a/x": 1, "b/x": 1}


def test_depth_is_bounded():
    deep = {"leaf": 1}
    for _ in range(100):
        deep = {"d": deep}
    with pytest.raises(InvalidValueError, match="deep"):
        to_scalars(deep)


def test_the_mapping_is_not_changed():
    array = np.ones(1)
    given_ = {"a": {"b": array}}
    to_scalars(given_)
    assert given_ == {"a": {"b": array}} and given_["a"]["b"] is array


def test_names_may_be_any_str_and_nothing_else():
    class Name(str):
        __slots__ = ()

        def __str__(self):
            raise RuntimeError

    for name in ["", "\0", "\ud800", "../x", "a" * 100_000, "ü\n"]:
        assert to_name(name) == name
        assert to_scalars({name: 1}) == {name: 1}
    assert type(to_name(Name("x"))) is str
    (found,) = to_scalars({Name("x"): 1})
    assert type(found) is str
    refused(3, "a name must be a str", "int", convert=to_name)
    refused({3: 1}, "a name must be a str", convert=to_scalars)


# ---------------------------------------------------------------- steps


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (3, 3), (-3, -3), (0, 0), (2**63 - 1, 2**63 - 1), (-(2**63), -(2**63)), (3.0, 3), (np.int8(3), 3),
        (np.uint64(2**63 - 1), 2**63 - 1), (np.float32(3), 3), (np.array(3), 3), (np.array([3]), 3),
        (np.array(3.0), 3), (jnp.int32(3), 3), (jnp.array([3]), 3), (jnp.float32(3), 3), (-0.0, 0),
        (np.array(3, ml_dtypes.bfloat16), 3), (np.array(3, ml_dtypes.int4), 3),
    ],
)  # fmt: skip
def test_steps_are_whole_numbers(step, expected):
    found = to_step(step)
    assert found == expected
    assert type(found) is int


@pytest.mark.parametrize(
    ("step", "word"),
    [
        (True, "bool"), (np.True_, "True"), (np.array(True), "True"), (jnp.array(True), "True"), (None, "NoneType"),
        ("3", "str"), (b"3", "bytes"), (3.5, "3.5"), (math.nan, "nan"), (math.inf, "inf"), (np.float32(0.5), "0.5"),
        (2**63, "64 bits does not fit"), (-(2**63) - 1, "64"), (np.uint64(2**63), "64"), (10**5000, "bits"), (1e300, "bits"),
        (np.array([1, 2]), "(2,)"), (jnp.zeros((2,), int), "(2,)"), ([3], "list"), ({}, "dict"), (3j, "complex"),
    ],
    ids=lambda value: repr(value)[:20] if not isinstance(value, int) else value.bit_length(),
)  # fmt: skip
def test_other_steps_are_refused(step, word):
    with pytest.raises(InvalidStepError, match="step'?: ") as caught:
        to_step(step)
    assert word in str(caught.value)


@given(st.integers())
def test_steps_fit_into_64_bits_or_are_refused(step):
    if -(2**63) <= step < 2**63:
        assert to_step(step) == step
    else:
        with pytest.raises(InvalidStepError):
            to_step(step)


def test_axes_are_non_empty_strs():
    class Axis(enum.StrEnum):
        EPOCH = "epoch"

    assert to_axis("epoch") == "epoch"
    assert type(to_axis(Axis.EPOCH)) is str
    for wrong in ["", None, 3, b"epoch"]:
        with pytest.raises(InvalidStepError, match="step_axis"):
            to_axis(wrong)


# ---------------------------------------------------------------- arrays on the host


def test_a_copy_shares_no_memory():
    array = np.arange(4.0)
    assert to_host(array, "x") is array
    assert not np.shares_memory(to_host(array, "x", copy=True), array)
    device = jnp.arange(4.0)
    assert not np.shares_memory(to_host(device, "x"), np.asarray(device))


def test_nested_sequences_become_arrays():
    assert to_host([[1, 2], [3, 4]], "x").shape == (2, 2)
    refused([[1], [2, 3]], "cannot read", convert=to_host)
    refused(["a"], "real numbers", convert=to_host)


@pytest.mark.system
def test_sharded_and_replicated_arrays_over_eight_devices(tmp_path):
    out, _ = run_program(
        """
        import numpy as np, jax, jax.numpy as jnp
        from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
        from tracking_core.errors import InvalidValueError
        from tracking_core.values import to_host, to_scalar, to_scalars, to_step

        assert len(jax.devices()) == 8
        mesh = Mesh(np.array(jax.devices()), ("data",))
        sharded = jax.device_put(jnp.arange(16.0), NamedSharding(mesh, P("data")))
        assert len(sharded.addressable_shards) == 8
        np.testing.assert_array_equal(to_host(sharded, "x"), np.arange(16.0))
        replicated = jax.device_put(jnp.float32(2.5), NamedSharding(mesh, P()))
        mean = jax.jit(lambda x: x.mean(), out_shardings=NamedSharding(mesh, P()))(sharded)
        assert to_scalars({"a": replicated, "b": mean, "c": jax.device_put(1, jax.devices()[5])}) == {
            "a": 2.5, "b": 7.5, "c": 1}
        assert to_step(jax.device_put(jnp.int32(7), NamedSharding(mesh, P()))) == 7
        try:
            to_scalar(jax.pmap(lambda x: x.sum())(jnp.ones((8, 2))), "loss")
        except InvalidValueError as error:
            print(error)
        """,
        tmp_path,
        XLA_FLAGS="--xla_force_host_platform_device_count=8",
    )
    assert "log x[0] where the axis is a replica axis" in out


class Spread:
    """What of a `jax.Array` that spans several processes this process can see; several need several hosts."""

    dtype, shape, sharding, is_fully_addressable = np.dtype("float32"), (), object(), False

    def __init__(self, *, replicated):
        self.is_fully_replicated = replicated

    def addressable_data(self, index):
        assert index == 0
        return jnp.float32(1.5)

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("spans non-addressable devices")


def test_arrays_over_several_processes():
    assert to_scalar(Spread(replicated=True), "x") == 1.5
    refused(Spread(replicated=False), "spread over several processes", "process_allgather")
