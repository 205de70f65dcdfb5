"""Histograms: every finite value is counted once, between edges that increase, and the others are counted apart."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tracking_core.errors import InvalidValueError
from tracking_core.values import Histogram, to_histogram

MAX = 1.7976931348623157e308
TINY = 5e-324

numbers = st.one_of(
    st.floats(),
    st.floats(-1, 1),
    st.sampled_from([0.0, -0.0, TINY, -TINY, MAX, -MAX, math.nan, math.inf, -math.inf, 1.0, math.nextafter(1.0, 2.0)]),
)


def count_by_hand(values, edges):
    """How many values fall between the edges, with plain comparisons."""
    counts = [0] * (len(edges) - 1)
    for value in values:
        for number in range(len(counts)):
            last = number == len(counts) - 1
            if edges[number] <= value < edges[number + 1] or (last and value == edges[-1]):
                counts[number] += 1
    return counts


def check(values, histogram):
    """What must hold of any histogram that was counted from these numbers."""
    finite = [value for value in values if math.isfinite(value)]
    edges, counts = histogram.edges.tolist(), histogram.counts.tolist()
    assert all(math.isfinite(edge) for edge in edges)
    assert all(a < b for a, b in zip(edges, edges[1:], strict=False))
    assert len(edges) == len(counts) + 1
    assert all(type(count) is int and count >= 0 for count in counts)
    assert counts == count_by_hand(finite, edges)
    assert sum(counts) == histogram.count == len(finite)
    assert histogram.nan == sum(math.isnan(value) for value in values)
    assert histogram.posinf == values.count(math.inf)
    assert histogram.neginf == values.count(-math.inf)
    if finite:
        assert (histogram.min, histogram.max) == (min(finite), max(finite))
        exact = [Fraction(value) for value in finite]
        mean = sum(exact) / len(exact)
        variance = sum((value - mean) ** 2 for value in exact) / len(exact)
        with localcontext(prec=50):
            std = Fraction((Decimal(variance.numerator) / Decimal(variance.denominator)).sqrt())
        # Sums of floats err in proportion to the largest of them, and nothing is finer than the smallest float.
        margin = max(map(abs, exact)) * len(finite) / 2**50 + 2 * Fraction(TINY)
        assert abs(Fraction(histogram.mean) - mean) <= margin
        assert abs(Fraction(histogram.std) - std) <= margin
        assert histogram.min <= histogram.mean <= histogram.max
        if histogram.min < histogram.max:
            assert (edges[0], edges[-1]) == (histogram.min, histogram.max)
    else:
        assert all(math.isnan(getattr(histogram, key)) for key in ("min", "max", "mean", "std"))


@pytest.mark.system
@settings(max_examples=300)
@given(st.lists(numbers, max_size=30), st.integers(1, 20))
@example([TINY, 0.0], 7)
@example([1e-320, 3e-320], 4096)
@example([MAX, -MAX], 1)
@example([MAX, -MAX, 0.0], 64)
@example([MAX] * 3, 3)
@example([-MAX] * 3, 3)
@example([1.0, math.nextafter(1.0, 2.0)], 10)
@example([1e17, 1e17 + 16], 64)
@example([-0.0, 0.0], 2)
def test_every_value_is_counted_once(values, bins):
    check(values, Histogram.from_values(values, bins=bins))


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30), st.integers(1, 100))
def test_bins_are_equal_and_as_many_as_asked_for(values, bins):
    low, high = min(values), max(values)
    histogram = Histogram.from_values(values, bins=bins)
    if high - low > 1e-6:
        assert len(histogram.counts) == bins
        np.testing.assert_allclose(np.diff(histogram.edges), (high - low) / bins, rtol=1e-3, atol=1e-9)
        assert (histogram.edges[0], histogram.edges[-1]) == (low, high)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -3.5, 1e-300, 1e300, MAX, -MAX, TINY, 1e17])
@pytest.mark.parametrize("bins", [1, 64])
def test_constants(value, bins):
    histogram = Histogram.from_values([value] * 5, bins=bins)
    check([value] * 5, histogram)
    assert len(histogram.counts) == bins
    assert (histogram.mean, histogram.std) == (value, 0.0)
    assert np.count_nonzero(histogram.counts) == 1


@pytest.mark.parametrize(
    "dtype",
    [
        np.bool_, np.int8, np.uint8, np.int64, np.uint64, np.float16, np.float32, np.float64, np.longdouble,
        ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.int4,
    ],
    ids=lambda dtype: np.dtype(dtype).name,
)  # fmt: skip
@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 6, 1)])
def test_every_dtype_and_shape(dtype, shape):
    array = np.array([0, 1, 1, 0, 1, 0]).astype(dtype).reshape(shape)
    histogram = to_histogram(array, bins=2)
    assert histogram.counts.tolist() == [3, 3]
    assert histogram.edges.tolist() == [0.0, 0.5, 1.0]
    assert (histogram.min, histogram.max, histogram.mean, histogram.std) == (0.0, 1.0, 0.5, 0.5)
    assert all(type(getattr(histogram, key)) is float for key in ("min", "max", "mean", "std"))
    if dtype not in (np.int64, np.uint64, np.float64, np.longdouble):
        assert to_histogram(jnp.asarray(array), bins=2) == histogram


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2])
def test_numbers_that_are_not_finite_are_counted_apart_in_every_dtype(dtype):
    array = np.array([1, np.nan, np.inf, 2, -np.inf, np.nan]).astype(dtype)
    histogram = to_histogram(array)
    assert (histogram.nan, histogram.posinf, histogram.neginf, histogram.count) == (2, 1, 1, 2)
    assert (histogram.min, histogram.max, histogram.mean) == (1.0, 2.0, 1.5)


def test_half_precision_is_summed_in_double():
    """65504 is the largest float16: sums beyond it must not become infinite."""
    assert to_histogram(np.full(10_000, 60_000, np.float16)).mean == 60_000
    assert to_histogram(np.ones(10_000, ml_dtypes.bfloat16)).mean == 1.0


@pytest.mark.parametrize("values", [[], np.zeros((0, 3)), [math.nan], [math.inf, -math.inf, math.nan]])
def test_without_finite_values_there_are_empty_bins(values):
    histogram = to_histogram(values, bins=8)
    check(np.ravel(values).tolist(), histogram)
    assert histogram.counts.tolist() == [0] * 8


def test_scalars_and_lists_are_values():
    assert to_histogram(3.0).count == 1
    assert to_histogram([[1, 2], [3, 4]]).count == 4
    assert to_histogram((1.0, 2.0)).count == 2
    assert to_histogram(range(10)).count == 10


def test_large_arrays_are_counted_right():
    array = np.random.default_rng(0).normal(size=(100, 1000)).astype(np.float32)
    histogram = to_histogram(array)
    counts, edges = np.histogram(array.astype(np.float64), bins=64)
    np.testing.assert_array_equal(histogram.counts, counts)
    np.testing.assert_allclose(histogram.edges, edges)


def test_values_are_not_changed_and_not_kept():
    array = np.array([1.0, np.nan, 3.0])
    before = array.copy()
    histogram = to_histogram(array, bins=2)
    np.testing.assert_array_equal(array, before)
    array[:] = 100
    assert histogram.max == 3.0
    counts, edges = np.array([1, 2]), np.array([0.0, 1.0, 2.0])
    ready = to_histogram((counts, edges))
    counts[:], edges[:] = 9, 9
    assert (ready.counts.tolist(), ready.edges.tolist()) == ([1, 2], [0.0, 1.0, 2.0])


# ---------------------------------------------------------------- ready-made


@pytest.mark.parametrize("make", [list, np.asarray, jnp.asarray, lambda part: np.asarray(part, np.float32)])
def test_ready_made_histograms(make):
    histogram = to_histogram((make([1, 0, 2]), make([0.0, 1.0, 2.0, 4.0])))
    assert histogram.counts.tolist() == [1, 0, 2]
    assert histogram.counts.dtype == np.int64
    assert histogram.edges.tolist() == [0.0, 1.0, 2.0, 4.0]
    assert histogram.count == 3
    assert math.isnan(histogram.mean)


def test_what_numpy_returns_is_ready_made():
    histogram = to_histogram(np.histogram([1.0, 2.0, 2.5], bins=3))
    assert histogram.counts.tolist() == [1, 0, 2]


def test_weighted_counts_stay_floats():
    histogram = to_histogram(([0.5, 1.25], [0, 1, 2]))
    assert histogram.counts.dtype == np.float64
    assert histogram.count == 1.75
    assert to_histogram(([2.0**60], [0, 1])).counts.tolist() == [2.0**60]


def test_ready_made_is_idempotent():
    histogram = Histogram([1, 2], [0, 1, 2], nan=1, mean=0.5)
    assert to_histogram(histogram, bins=9) is histogram


@pytest.mark.parametrize("edges", [[0, 1, math.inf], [math.nan, 1, 2], [math.nan] * 3])
def test_counts_between_edges_that_are_not_finite_are_lost_and_said(edges):
    found = to_histogram(([1, 2], edges), key="weights")
    assert (found.nan, found.count, found.edges.tolist()) == (3, 0, [0.0, 0.5, 1.0])
    with pytest.raises(InvalidValueError, match="finite"):
        Histogram([1, 2], edges)


@pytest.mark.parametrize(
    ("counts", "edges", "word"),
    [
        ([1, 2], [0, 1, 2, 3], "[B + 1]"),
        ([1, 2, 3], [0, 1], "[B + 1]"),
        ([], [0], "[B + 1]"),
        ([1, 2], [0, 2, 1], "increase"),
        ([1, -2], [0, 1, 2], "negative"),
        ([1, math.nan], [0, 1, 2], "finite"),
        ([1.0, math.inf], [0, 1, 2], "finite"),
        (["a"], [0, 1], "real numbers"),
        ([[1, 2], [3]], [0, 1, 2], "cannot read"),
    ],
)
def test_wrong_counts_and_edges_are_refused(counts, edges, word):
    with pytest.raises(InvalidValueError, match="'weights'") as caught:
        to_histogram((counts, edges), key="weights")
    assert word in str(caught.value)


@pytest.mark.parametrize("shape", [((2, 2), (3,)), ((2,), (3, 1)), ((), ())])
def test_histograms_of_wrong_shapes_are_refused(shape):
    with pytest.raises(InvalidValueError, match="shape"):
        Histogram(np.zeros(shape[0]), np.arange(int(np.prod(shape[1]))).reshape(shape[1]))


@pytest.mark.parametrize("bins", [0, -1, 4097, 1.5, "10", None, [0, 1]])
def test_wrong_numbers_of_bins_are_refused(bins):
    with pytest.raises(InvalidValueError, match="bins must be an int between 1 and 4096"):
        to_histogram([1.0], bins=bins)


def test_bins_may_be_numpy_integers():
    assert len(to_histogram([0.0, 1.0], bins=np.int64(5)).counts) == 5


@pytest.mark.parametrize(
    "value", ["abc", b"abc", None, {}, object(), np.array(["a"]), np.zeros(3, complex), [[1], [1, 2]]]
)
def test_what_holds_no_numbers_is_refused(value):
    with pytest.raises(InvalidValueError, match="'weights'"):
        to_histogram(value, key="weights")


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_equality_and_hash(one, other):
    a, b = (Histogram(counts, range(len(counts) + 1)) for counts in (one, other))
    assert (a == b) is (one == other)
    if one == other:
        assert hash(a) == hash(b)


def test_equality_knows_everything_it_holds():
    base = {"nan": 1, "posinf": 2, "neginf": 3, "min": 0.0, "max": 1.0, "mean": 0.5, "std": 0.25}
    histogram = Histogram([1], [0, 1], **base)
    assert histogram == Histogram([1.0], [0.0, 1.0], **base)
    for key in base:
        assert histogram != Histogram([1], [0, 1], **{**base, key: 9})
    assert Histogram([1], [0, 1]) == Histogram([1], [0, 1])
    assert Histogram([1], [0, 1]) != Histogram([1], [0, 2])
    assert Histogram([1], [0, 1]) != "something else"
    assert hash(Histogram([1], [-0.0, 1])) == hash(Histogram([1], [0.0, 1]))
