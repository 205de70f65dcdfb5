"""Whatever researchers pass as a configuration becomes plain JSON, or an error that says where it is wrong."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import json
import math
import pathlib
import re
import subprocess
import sys
import types
import typing
import uuid

import ml_collections
import ml_dtypes
import msgspec
import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracking_core.base.redaction import REDACTED
from tracking_core.errors import InvalidValueError
from tracking_core.values.config import MAX_DEPTH, MAX_VALUES, flatten, to_plain


class Color(enum.Enum):
    RED = "red"
    BOTH = ("a", 1)


class Level(enum.IntEnum):
    HIGH = 3


class Point(typing.NamedTuple):
    x: int
    y: float = 0.5


@dataclasses.dataclass
class Model:
    width: int = 64
    shape: tuple = (1, 2)
    dtype: str = "float32"
    ndim: int = 2
    columns: int = 3
    inner: object = None


class Hostile:
    def __repr__(self):
        raise RuntimeError("no")


def hostile_object(name):
    """Made on demand: no framework survives a look at these classes."""

    class Disguised:
        @property
        def __class__(self):
            raise RuntimeError("no class")

        def __getattr__(self, name):
            raise RuntimeError(name)

        def __repr__(self):
            return 3

    class Meta(type):
        def __getattribute__(cls, name):
            raise RuntimeError(name)

    class WorstCase(metaclass=Meta):
        pass

    return {"Hostile": Hostile, "Disguised": Disguised, "WorstCase": WorstCase}[name]()


def value_of(value):
    """What becomes of one value."""
    return to_plain({"v": value})["v"]


class TestContainers:
    @pytest.mark.parametrize(
        "config",
        [
            {"lr": 0.1, "model": {"width": 64}},
            types.MappingProxyType({"lr": 0.1, "model": collections.OrderedDict(width=64)}),
            collections.ChainMap({"lr": 0.1}, {"model": {"width": 64}}),
            argparse.Namespace(lr=0.1, model=argparse.Namespace(width=64)),
            types.SimpleNamespace(lr=0.1, model={"width": 64}),
            ml_collections.ConfigDict({"lr": 0.1, "model": {"width": 64}}),
            ml_collections.FrozenConfigDict({"lr": 0.1, "model": {"width": 64}}),
            pydantic.create_model("Config", lr=(float, 0.1), model=(dict, {"width": 64}))(),
            dataclasses.make_dataclass("Config", ["lr", "model"])(0.1, {"width": 64}),
            typing.NamedTuple("Config", [("lr", float), ("model", dict)])(0.1, {"width": 64}),
            msgspec.defstruct("Config", ["lr", "model"])(0.1, {"width": 64}),
        ],
        ids=lambda config: type(config).__name__,
    )
    def test_what_has_names(self, config):
        assert to_plain(config) == {"lr": 0.1, "model": {"width": 64}}

    def test_flax(self):
        core = pytest.importorskip("flax.core")
        struct = pytest.importorskip("flax.struct")
        linen = pytest.importorskip("flax.linen")

        @struct.dataclass
        class State:
            step: int
            params: dict

        class Net(linen.Module):
            width: int = 3
            act: typing.Callable = linen.relu

        assert to_plain(core.freeze({"a": {"b": (1, 2)}})) == {"a": {"b": [1, 2]}}
        assert to_plain(State(1, core.freeze({"w": np.ones(2)}))) == {"step": 1, "params": {"w": [1.0, 1.0]}}
        net = to_plain(Net())
        assert net["width"] == 3
        assert net["act"].endswith(".relu")

    def test_attrs(self):
        attrs = pytest.importorskip("attrs")

        @attrs.define
        class Config:
            lr: float = 0.1
            _hidden: int = 1

        assert to_plain(Config()) == {"lr": 0.1, "_hidden": 1}

    def test_absl_flags(self):
        flags = pytest.importorskip("absl.flags")
        values = flags.FlagValues()
        flags.DEFINE_float("lr", 0.1, "", flag_values=values)
        flags.DEFINE_list("layers", ["a", "b"], "", flag_values=values)
        values(["program", "--lr=0.2"])
        assert to_plain(values) == {"lr": 0.2, "layers": ["a", "b"]}

    def test_omegaconf(self):
        omegaconf = pytest.importorskip("omegaconf")
        config = omegaconf.OmegaConf.create({"a": 1, "b": "${a}", "missing": "???", "l": [1, {"c": "${a}"}]})
        assert to_plain(config) == {
            "a": 1,
            "b": 1,
            "missing": "<unreadable: MissingMandatoryValue>",
            "l": [1, {"c": 1}],
        }

    def test_config_dict_with_awkward_names_and_references(self):
        config = ml_collections.ConfigDict(
            {"dtype": "float32", "shape": (1, 2), "ndim": 2, "model_dump": 1, "a": {"b": 1}}
        )
        config.same = config.get_oneway_ref("a")
        config.later = ml_collections.config_dict.placeholder(int)
        assert to_plain(config) == {
            "dtype": "float32",
            "shape": [1, 2],
            "ndim": 2,
            "model_dump": 1,
            "a": {"b": 1},
            "same": {"b": 1},
            "later": None,
        }
        config.needed = ml_collections.config_dict.required_placeholder(int)
        assert to_plain(config)["needed"] == "<unreadable: RequiredValueError>"
        assert to_plain(config)["a"] == {"b": 1}

    def test_dataclass_with_the_fields_of_an_array(self):
        assert to_plain(Model(inner=Model())) == {
            "width": 64,
            "shape": [1, 2],
            "dtype": "float32",
            "ndim": 2,
            "columns": 3,
            "inner": {"width": 64, "shape": [1, 2], "dtype": "float32", "ndim": 2, "columns": 3, "inner": None},
        }

    def test_pydantic_in_full(self):
        class Inner(pydantic.BaseModel):
            path: pathlib.Path = pathlib.Path("/data")
            when: datetime.date = datetime.date(2024, 1, 2)
            loss: float = math.nan
            color: Color = Color.RED
            word: pydantic.SecretStr = pydantic.SecretStr("hunter2")

        plain = to_plain(Inner())
        assert math.isnan(plain.pop("loss"))
        assert plain == {"path": "/data", "when": "2024-01-02", "color": "red", "word": "**********"}

        class WithArray(pydantic.BaseModel):
            model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
            array: np.ndarray
            inner: Inner

        plain = to_plain(WithArray(array=np.arange(3), inner=Inner(loss=1.0)))
        assert plain["array"] == [0, 1, 2]
        assert plain["inner"]["path"] == "/data"
        assert to_plain(pydantic.RootModel[list[int]]([1, 2])) == {"root": [1, 2]}

    def test_dataclass_field_that_was_never_set(self):
        @dataclasses.dataclass
        class Config:
            a: int = 1
            b: int = dataclasses.field(init=False)

        assert to_plain(Config()) == {"a": 1, "b": "<unreadable: AttributeError>"}

    def test_sequences_and_sets(self):
        assert value_of((1, [2, {3}])) == [1, [2, [3]]]
        assert value_of(collections.deque([1, 2])) == [1, 2]
        assert value_of({"b": 1, "a": 2}.keys()) == ["b", "a"]
        assert value_of({"b": 2, "a": 1}.values()) == [2, 1]
        assert value_of({3, 1, 2}) == [1, 2, 3]
        assert value_of(frozenset({"b", "a", 1, None, (2,), (1,)})) == [None, 1, [1], [2], "a", "b"]
        assert value_of(frozenset({"b", "a", 1})) == [1, "a", "b"]
        assert value_of({(2,), (1,)}) == [[1], [2]]
        assert value_of(range(10**9)) == "range(0, 1000000000)"

    def test_the_result_shares_nothing_with_the_input(self):
        inner = {"a": [1]}
        plain = to_plain({"inner": inner})
        plain["inner"]["a"].append(2)
        assert inner == {"a": [1]}

    def test_one_object_in_two_places_is_no_cycle(self):
        shared = {"a": 1}
        assert to_plain({"x": shared, "y": [shared, shared]}) == {"x": shared, "y": [shared, shared]}


class TestLeaves:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (None, None),
            (True, True),
            (Color.RED, "red"),
            (Color.BOTH, ["a", 1]),
            (Level.HIGH, 3),
            (Point(1), {"x": 1, "y": 0.5}),
            (pathlib.PurePosixPath("/a/b"), "/a/b"),
            (pathlib.PureWindowsPath("C:/a"), "C:\\a"),
            (datetime.datetime(2024, 1, 2, 3, tzinfo=datetime.UTC), "2024-01-02T03:00:00+00:00"),
            (datetime.date(2024, 1, 2), "2024-01-02"),
            (datetime.time(3, 4), "03:04:00"),
            (datetime.timedelta(days=1), "1 day, 0:00:00"),
            (decimal.Decimal("1.50"), "1.50"),
            (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
            (np.float32(0.1), 0.10000000149011612),
            (np.float16(1.5), 1.5),
            (np.int64(2**40), 2**40),
            (np.uint64(2**64 - 1), 2**64 - 1),
            (np.bool_(True), True),
            (np.str_("a"), "a"),
            (np.datetime64("2024-01-02T03:04:05.123456789"), "2024-01-02T03:04:05.123456789"),
            (ml_dtypes.bfloat16(1.5), 1.5),
            (ml_dtypes.float8_e4m3fn(1.5), 1.5),
            (np.array(3), 3),
            (np.array(1.5, ml_dtypes.bfloat16), 1.5),
            (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
            (np.ones(2, ml_dtypes.bfloat16), [1.0, 1.0]),
            (np.array(["a", "b"]), ["a", "b"]),
            (np.array([None, {"a": Level.HIGH}], dtype=object), [None, {"a": 3}]),
            (np.array(["2024-01-02"], dtype="datetime64[D]"), ["2024-01-02"]),
            (np.zeros(64), [0.0] * 64),
            (np.zeros(65), "<ndarray float64[65]>"),
            (np.zeros((128, 3), np.uint8), "<ndarray uint8[128, 3]>"),
            (np.zeros((0, 3)), []),
            (np.dtype("int8"), "int8"),
            (np.float32, "float32"),
            (ml_dtypes.bfloat16, "bfloat16"),
            (np.dtype(ml_dtypes.bfloat16), "bfloat16"),
            (Model, f"{__name__}.Model"),
            (int, "builtins.int"),
            (json.dumps, "json.dumps"),
            (len, "builtins.len"),
            (pathlib.PurePath("a").with_suffix, "pathlib.PurePath.with_suffix"),
            (b"abc", "b'abc'"),
            (b"a" * 1000, "<bytes of length 1000>"),
            (1 + 2j, "(1+2j)"),
            (10**30, 10**30),
            (1 << 10_000, hex(1 << 10_000)),
            ("caf\udce9", "caf\\udce9"),
            (object(), "<object object>"),
        ],
        ids=lambda value: type(value).__name__ if not isinstance(value, str) else value[:20],
    )
    def test_value(self, value, expected):
        plain = value_of(value)
        assert plain == expected
        assert type(plain) is type(expected)
        json.dumps(plain).encode()

    @pytest.mark.parametrize("name", ["Hostile", "Disguised", "WorstCase"])
    def test_hostile_objects_have_at_least_a_type(self, name):
        value, key = value_of(hostile_object(name)), to_plain({hostile_object(name): 1})
        assert name in value
        assert key == {value: 1}

    @pytest.mark.parametrize("kind", [float, np.float32, np.float64, ml_dtypes.bfloat16, np.array])
    def test_non_finite_stays(self, kind):
        assert math.isnan(value_of(kind(math.nan)))
        assert value_of(kind(-math.inf)) == -math.inf

    def test_subclasses_of_plain_types_become_plain(self):
        class Text(str):
            __slots__ = ()

            def __str__(self):
                raise RuntimeError

        class Number(int):
            def __repr__(self):
                raise RuntimeError

        class Real(float):
            def __float__(self):
                raise RuntimeError

        plain = to_plain({Text("t"): Text("a"), "n": Number(3), "r": Real(0.5)})
        assert plain == {"t": "a", "n": 3, "r": 0.5}
        assert {type(leaf) for leaf in [*plain, *plain.values()]} == {str, int, float}

    def test_long_repr_is_cut_and_the_same_in_every_process(self):
        text = value_of(functools.partial(lambda text: text, "x" * 1000))
        assert len(text) == 200
        assert text.startswith("functools.partial(<function ")
        assert "0x" not in text

    def test_lambda(self):
        assert value_of(lambda x: x).endswith("test_lambda.<locals>.<lambda>")

    def test_a_table_is_no_configuration(self):
        class Table:
            shape = (10**6, 2)

            def keys(self):
                return ["a"]

            def __getitem__(self, name):
                return [0] * 10**6

            def to_dict(self):
                return {"a": self["a"]}

            def __repr__(self):
                return "Table[1000000, 2]"

        assert value_of(Table()) == "Table[1000000, 2]"

    def test_a_generator_is_not_consumed(self):
        generator = (x for x in [1, 2])
        assert "generator" in value_of(generator)
        assert list(generator) == [1, 2]


class TestJax:
    def test_values(self):
        jax = pytest.importorskip("jax")
        jnp = jax.numpy
        deleted = jnp.ones(3)
        deleted.delete()
        plain = to_plain(
            {
                "scalar": jnp.array(3),
                "bfloat16": jnp.bfloat16(1.5),
                "array": jnp.ones((2, 2), jnp.float8_e4m3fn),
                "large": jnp.ones((100, 3)),
                "deleted": deleted,
                "abstract": jax.ShapeDtypeStruct((3,), jnp.float32),
                "dtypes": [jnp.float32, jnp.bfloat16, jnp.dtype("int8")],
                "seed": jax.random.key(0),
                "jitted": jax.jit(json.dumps),
                "activation": jax.nn.relu,
            }
        )
        assert plain["seed"].startswith("<PRNGKeyArray key<fry>[]")
        assert plain["activation"].startswith("jax.")
        assert plain["activation"].endswith(".relu")
        del plain["seed"], plain["activation"]
        assert plain == {
            "scalar": 3,
            "bfloat16": 1.5,
            "array": [[1.0, 1.0], [1.0, 1.0]],
            "large": "<ArrayImpl float32[100, 3]>",
            "deleted": "<ArrayImpl float32[3]>",
            "abstract": "<ShapeDtypeStruct float32[3]>",
            "dtypes": ["float32", "bfloat16", "int8"],
            "jitted": "json.dumps",
        }

    def test_tracer(self):
        jax = pytest.importorskip("jax")
        seen = []

        @jax.jit
        def step(x):
            seen.append(value_of(x))
            return x

        with pytest.raises(InvalidValueError, match=r"inside jit.*log that"):
            step(jax.numpy.ones(3))

        @jax.jit
        def left_out(x):
            config = {
                "lr": 0.1,
                "loss": x,
                "deep": {"x": x, "y": [1, x], "z": 2},
                "objects": argparse.Namespace(x=x, y=3),
            }
            errors = []
            seen.append((to_plain(config, lambda path, error: errors.append((path, str(error)))), errors))
            return x

        left_out(jax.numpy.ones(3))
        ((plain, errors),) = seen
        assert plain == {"lr": 0.1, "deep": {"z": 2}, "objects": {"y": 3}}
        assert [path for path, _ in errors] == ["loss", "config.deep.x", "config.deep.y", "config.objects.x"]
        assert all("inside jit" in text and "return the value" in text for _, text in errors)

    @pytest.mark.system
    def test_optimizers_and_networks(self):
        optax = pytest.importorskip("optax")
        nnx = pytest.importorskip("flax.nnx")
        plain = to_plain({"opt": optax.adam(1e-3), "net": nnx.Linear(2, 3, rngs=nnx.Rngs(0))})
        assert plain["opt"]["init"].startswith("optax.")
        assert plain["net"].startswith("Linear(")
        assert "\n" not in plain["net"]


class TestErrors:
    @pytest.mark.parametrize(
        "config",
        [None, 3, "lr=1", [("lr", 1)], {"lr"}, np.zeros(3), Model, object(), Hostile(), json.dumps],
    )
    def test_the_top_must_have_names(self, config):
        with pytest.raises(InvalidValueError, match=r"^config: expected a mapping, a dataclass, .*, got "):
            to_plain(config)

    def test_a_class_in_place_of_its_instance(self):
        with pytest.raises(InvalidValueError, match=r"got the class Model; pass an instance of it"):
            to_plain(Model)

    @pytest.mark.parametrize(
        ("config", "path", "keys"),
        [
            ({1: "a", "1": "b"}, "config", "1 and '1'"),
            ({"a": {"b c": [{}, {None: 1, "None": 2}]}}, "config.a['b c'][1]", "None and 'None'"),
            ({"m": Model(inner={Color.RED: 1, "red": 2})}, "config.m.inner", "Color.RED"),
            ({("a", 1): 1, "a/1": 2}, "config", "('a', 1) and 'a/1'"),
        ],
    )
    def test_keys_that_collide(self, config, path, keys):
        with pytest.raises(InvalidValueError) as caught:
            to_plain(config)
        assert str(caught.value).startswith(f"{path}: the keys ")
        assert keys in str(caught.value)

    def test_cycles(self):
        config = {"a": {"b": []}}
        config["a"]["b"].append(config["a"])
        with pytest.raises(InvalidValueError, match=re.escape("config.a.b[0]: refers back to config.a;")):
            to_plain(config)
        model = Model()
        model.inner = {"again": model}
        with pytest.raises(InvalidValueError, match=re.escape("config.inner.again: refers back to config;")):
            to_plain(model)
        array = np.array([None], dtype=object)
        array[0] = array
        with pytest.raises(InvalidValueError, match=re.escape("config.x[0]: refers back to config.x;")):
            to_plain({"x": array})

    def test_depth(self):
        def nested(levels):
            config = {}
            for _ in range(levels - 1):
                config = {"a": config}
            return config

        to_plain(nested(MAX_DEPTH))
        with pytest.raises(InvalidValueError, match=rf"^config(\.a){{{MAX_DEPTH}}}: .* deeper than {MAX_DEPTH}"):
            to_plain(nested(MAX_DEPTH + 1))

    def test_an_object_that_makes_ever_new_ones(self):
        class Endless:
            def to_dict(self):
                return {"again": Endless()}

        with pytest.raises(InvalidValueError, match="deeper than"):
            to_plain(Endless())

    def test_size(self):
        with pytest.raises(InvalidValueError, match=r"^config\.rows\[\d+\]: .* more than 500,000 values"):
            to_plain({"rows": [0] * MAX_VALUES})

    def test_methods_that_fail_are_no_reason_to_fail(self):
        class Broken(dict):
            def keys(self):
                raise RuntimeError

        class Loader:
            def to_dict(self, required):
                raise AssertionError

            def __repr__(self):
                return "Loader()"

        class Unreadable(collections.UserDict):
            def __getitem__(self, key):
                raise KeyError(key)

        assert value_of(Broken(a=1)) == "{'a': 1}"
        assert value_of(Loader()) == "Loader()"
        assert value_of(Unreadable(a=1)) == {"a": "<unreadable: KeyError>"}


class TestSecrets:
    def test_by_name_form_and_in_reprs(self, monkeypatch):
        monkeypatch.setenv("MY_TOKEN", "horse battery")
        key = "sk-" + "aB3d" * 12

        class Client:
            def __repr__(self):
                return f"Client(user='me', password='hunter2', {'x' * 145}, {key})"

        plain = to_plain(
            {
                "wandb": argparse.Namespace(api_key="abc", project="p"),
                "max_tokens": 5,
                "tokenizer": "bert",
                "client": Client(),
                "note": f"horse battery and {key}",
                "secret": pathlib.Path("hunter2"),
                "credentials": {"user": "me", "n": 3},
                key: 1,
            }
        )
        assert "hunter2" not in str(plain)
        assert key[:7] not in str(plain)
        assert plain["client"].endswith(f", {REDACTED})")
        assert plain["wandb"] == {"api_key": REDACTED, "project": "p"}
        assert plain["max_tokens"] == 5
        assert plain["tokenizer"] == "bert"
        assert plain["note"] == f"{REDACTED} and {REDACTED}"
        assert plain["credentials"] == {"user": REDACTED, "n": 3}
        assert plain[REDACTED] == 1


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.text(alphabet=st.characters(categories=["Cs", "Lu"]), max_size=3)
    | st.binary(max_size=5)
    | st.complex_numbers()
    | st.dates()
    | st.datetimes()
    | st.timedeltas()
    | st.decimals()
    | st.uuids()
    | st.sampled_from(
        [
            Color.RED,
            Level.HIGH,
            Point(1),
            int,
            json.dumps,
            np.float32(1),
            np.ones((2, 2)),
            pathlib.Path("a"),
        ]
    )
)
keys = (
    st.text(max_size=5) | st.integers() | st.none() | st.booleans() | st.sampled_from([Color.RED, Level.HIGH, ("a", 1)])
)
nested = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(keys, inner, max_size=4)
        | st.builds(Model, inner=inner)
        | st.builds(argparse.Namespace, inner=inner)
        | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3).map(types.MappingProxyType)
    ),
    max_leaves=15,
)


def is_plain(value):
    if type(value) is dict:
        return all(type(key) is str for key in value) and all(map(is_plain, value.values()))
    if type(value) is list:
        return all(map(is_plain, value))
    return value is None or type(value) in {bool, int, float, str}


class TestProperties:
    @pytest.mark.system
    @settings(max_examples=200, deadline=None)
    @given(st.dictionaries(keys, nested, max_size=4))
    def test_the_result_is_plain_survives_json_and_stays_as_it_is(self, config):
        try:
            plain = to_plain(config)
        except InvalidValueError as error:
            assert "both become" in str(error)
            return
        assert is_plain(plain)
        # A float is compared by its repr, because NaN is not equal to itself.
        assert repr(json.loads(json.dumps(plain, ensure_ascii=False).encode())) == repr(plain)
        assert repr(msgspec.json.decode(msgspec.json.encode(finite(plain)))) == repr(finite(plain))
        assert repr(to_plain(plain)) == repr(plain)

    @pytest.mark.system
    @settings(deadline=None)
    @given(st.dictionaries(st.text(max_size=5), nested, max_size=4))
    def test_flatten_loses_no_leaf(self, config):
        try:
            plain = to_plain(config)
        except InvalidValueError:
            return
        flat = flatten(plain)
        assert all(value is None or type(value) in {bool, int, float, str} for value in flat.values())
        assert len(flat) == count_leaves(plain)


def finite(value):
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def count_leaves(plain):
    return sum(count_leaves(value) if isinstance(value, dict) and value else 1 for value in plain.values())


class TestFlatten:
    def test_forms(self):
        plain = {"a": {"b": {"c": 1}, "d": "x"}, "l": [1, {"e": None}], "empty": {}, "n": None, "f": math.inf}
        expected = {"a/b/c": 1, "a/d": "x", "l": '[1, {"e": null}]', "empty": "{}", "n": None, "f": math.inf}
        assert flatten(plain) == expected
        assert list(flatten(plain, sep=".")) == ["a.b.c", "a.d", "l", "empty", "n", "f"]

    def test_names_that_coincide(self):
        assert flatten({"a/b": 1, "a": {"b": 2}, "a/b#2": 3}) == {"a/b": 1, "a/b#2": 2, "a/b#2#2": 3}

    def test_text_is_readable(self):
        assert flatten({"l": ["ü"]}) == {"l": '["ü"]'}


def test_imports_no_library():
    code = """
import sys
from tracking_core.values.config import to_plain
to_plain({"a": [1, object(), int], "b": {"c": print}})
print(*sorted({"jax", "flax", "ml_collections", "pydantic", "msgspec", "attrs"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("\n", "")
