"""Names: any str becomes one of a small alphabet and comes back, and no two ever meet."""

from __future__ import annotations

import os
import re
import string

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from tracking_core.naming import ARTIFACT_NAMES, FILE_NAMES, Encoding, printable

WORD = string.ascii_letters + string.digits

#: Encodings of every shape. Those with several characters as escape are where ambiguity would come from.
ENCODINGS = {
    "files": FILE_NAMES,
    "artifacts": ARTIFACT_NAMES,
    "one": Encoding(WORD + "_", escape="%"),
    "inside": Encoding(WORD + "_", escape="_"),
    "letter": Encoding(WORD, escape="x"),
    "digit": Encoding(WORD, escape="0"),
    "double": Encoding(WORD + "_", escape="_x"),
    "hex": Encoding(WORD, escape="fx"),
    "zero": Encoding(WORD, escape="0x"),
    "folded": Encoding(WORD + "_-", escape="~", fold_case=True),
    "edges": Encoding(WORD + "._", escape="__x", first=string.ascii_letters + "_", last=WORD),
    "slashes": Encoding(WORD + "/._- ", escape="~"),
}
UNCUT = {name: Encoding(**{**vars(encoding), "max_length": None}) for name, encoding in ENCODINGS.items()}

any_text = st.text(alphabet=st.characters(exclude_categories=()), max_size=20)
#: Names of what escapes are made of, so that they stand beside each other.
tricky = st.text(alphabet="_x~0f.5zCcOoNn/ é\0", max_size=8)
texts = st.one_of(any_text, tricky)


@pytest.mark.parametrize("encoding", UNCUT.values(), ids=UNCUT)
@settings(max_examples=200)
@given(name=texts)
@example(name="")
@example(name="\0")
@example(name="\ud800")
@example(name="\udcff\ud83d\ude00")
@example(name="😀")
@example(name="..")
@example(name="___x__x_xx")
def test_every_name_comes_back(encoding, name):
    encoded = encoding.encode(name)
    assert encoding.decode(encoded) == name
    assert encoded


@pytest.mark.parametrize("encoding", UNCUT.values(), ids=UNCUT)
@settings(max_examples=200)
@given(one=tricky, other=tricky)
def test_no_two_names_meet(encoding, one, other):
    assert (encoding.encode(one) == encoding.encode(other)) is (one == other)


@pytest.mark.parametrize("name", ENCODINGS)
@given(text=texts)
def test_the_alphabet_is_kept(name, text):
    encoding = ENCODINGS[name]
    encoded = encoding.encode(text)
    allowed = set(encoding.alphabet) | set(encoding.escape)
    assert set(encoded) <= allowed
    if encoding.max_length:
        assert len(encoded) <= encoding.max_length
    if encoding.fold_case:
        assert encoded == encoded.lower()
    if text:
        escaped = encoded.startswith(encoding.escape)
        assert encoding.first is None or encoded[0] in encoding.first or escaped
        # An escaped byte ends in a hex digit.
        assert encoding.last is None or encoded[-1] in encoding.last


@pytest.mark.parametrize("name", ["loss", "train_loss-2", "v1.5", "a" * 120])
def test_plain_names_stay_readable(name):
    assert FILE_NAMES.encode(name) == name


@pytest.mark.parametrize("name", ["loss", "a_b", "x__y", "a" * 128])
def test_plain_artifact_names_stay_readable(name):
    assert ARTIFACT_NAMES.encode(name) == name


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("../loss: é", "~2e.~2floss~3a~20~c3~a9"),
        ("", "~"),
        ("~", "~7e"),
        (".hidden", "~2ehidden"),
        ("end.", "end~2e"),
        ("a\0b", "a~00b"),
        ("\ud800", "~ed~a0~80"),
        ("con", "~63on"),
    ],
)
def test_the_form_that_is_documented(name, encoded):
    assert FILE_NAMES.encode(name) == encoded


@pytest.mark.parametrize(
    "name", [".", "..", "...", "/", "/etc/passwd", "../../x", "a/b", "a\\b", "C:\\x", "\0", "\n", "~", "-"]
)
def test_file_names_lead_nowhere(name, tmp_path):
    encoded = FILE_NAMES.encode(name)
    assert encoded not in {".", ".."} and "/" not in encoded and "\\" not in encoded
    path = tmp_path / encoded
    assert path.parent == tmp_path
    path.write_text("x")
    assert os.listdir(tmp_path) == [encoded]


@pytest.mark.parametrize("device", ["con", "CON", "Prn", "aux", "NUL", "com1", "LPT9", "con.txt", "nul.tar.gz"])
def test_device_names_are_escaped(device):
    encoded = FILE_NAMES.encode(device)
    assert not re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", encoded)
    assert FILE_NAMES.decode(encoded) == device
    for harmless in ["console", "com", "lpt10", "icon", "auxiliary.txt"]:
        assert FILE_NAMES.encode(harmless) == harmless


def test_folded_names_differ_where_case_does_not():
    encoding = ENCODINGS["folded"]
    assert encoding.encode("Loss") == "~4coss"
    assert len({encoding.encode(name).lower() for name in ("loss", "Loss", "LOSS")}) == 3


# ---------------------------------------------------------------- names that are cut


@pytest.mark.parametrize(
    "encoding",
    [FILE_NAMES, ARTIFACT_NAMES, Encoding(WORD, escape="%", max_length=18)],
    ids=["files", "artifacts", "least"],
)
def test_long_names_are_cut_and_differ(encoding):
    prefix = "a" * 200
    names = [prefix + str(number) for number in range(500)] + ["é" * length for length in range(50, 200)]
    encoded = [encoding.encode(name) for name in names]
    assert all(len(text) == encoding.max_length for text in encoded if len(text) > 100)
    assert len(set(encoded)) == len(names)


@given(st.text(alphabet="ab_xé~z0", min_size=20, max_size=60))
def test_what_was_cut_is_never_what_another_name_becomes(name):
    """A cut name can be no encoding of a short one: decoding it fails."""
    for escape in ("~", "__x", "_x"):
        encoding = Encoding(WORD + "_", escape=escape, max_length=25)
        text = encoding.encode(name)
        assert len(text) <= 25
        if len(Encoding(WORD + "_", escape=escape).encode(name)) > 25:
            with pytest.raises(ValueError, match="not an encoded name, or was cut"):
                encoding.decode(text)
        else:
            assert encoding.decode(text) == name


def test_a_megabyte_of_name():
    name = ("é/~" + "plain" * 19) * 10_500
    assert len(FILE_NAMES.encode(name)) == 120
    uncut = UNCUT["files"]
    assert uncut.decode(uncut.encode(name)) == name


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("text", ["~", "~2", "a~", "~zz", "~2g", "a~+1", "~ 1", "~ff", "~c3", "~z0123456789abcdef"])
def test_what_is_no_encoded_name_is_refused(text):
    if text == "~":
        assert FILE_NAMES.decode(text) == ""
        return
    with pytest.raises(ValueError):
        FILE_NAMES.decode(text)


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(st.text(alphabet="~abcdef0123456789_xz", max_size=12))
def test_decoding_raises_nothing_but_value_errors(text):
    try:
        name = FILE_NAMES.decode(text)
    except ValueError:
        return
    assume("~" in text)
    assert isinstance(name, str)


@pytest.mark.parametrize("escape", ["", "__", "aa", "xyx", "ababab"])
def test_escapes_under_which_names_could_meet_are_refused(escape):
    with pytest.raises(ValueError, match="overlap"):
        Encoding(WORD + "_", escape=escape)


def test_lengths_without_room_for_a_digest_are_refused():
    with pytest.raises(ValueError, match="no room"):
        Encoding(WORD, max_length=17)


# ---------------------------------------------------------------- names for people


@given(any_text, st.integers(2, 100))
def test_printable_names_are_one_short_line(name, limit):
    shown = printable(name, limit=limit)
    assert len(shown) <= limit
    assert shown.isprintable()
    shown.encode()


def test_printable_names():
    assert printable("loss") == "loss"
    assert printable("a\nb\x1b[31m") == "a\\nb\\x1b[31m"
    assert printable("\ud800") == "\\ud800"
    assert printable("x" * 100) == "x" * 79 + "…"
