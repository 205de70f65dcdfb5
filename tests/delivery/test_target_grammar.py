"""The grammar of TRACKING_BACKEND, filters, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracking_core import SettingsError, Target
from tracking_core.backends.targets import COMMON_OPTIONS, parse_target, parse_targets, redact_targets

KEY = "0123456789abcdef0123456789abcdef01234567"

# ---------------------------------------------------------------- the grammar


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("local", Target("local")),
        ("TensorBoard:./tb", Target("tensorboard", "./tb")),
        ("tensorboard:C:\\runs\\tb", Target("tensorboard", "C:\\runs\\tb")),
        ("tensorboard:C:/runs/tb", Target("tensorboard", "C:/runs/tb")),
        ("tensorboard:gs://bucket/tb", Target("tensorboard", "gs://bucket/tb")),
        ("tensorboard:/abs/path", Target("tensorboard", "/abs/path")),
        ("tensorboard:///abs/path", Target("tensorboard", "/abs/path")),
        ("csv:./a%2Cb%3Fc%26d", Target("csv", "./a,b?c&d")),
        ("csv:100%", Target("csv", "100%")),
        ("csv:my dir", Target("csv", "my dir")),
        ("wandb://team/digits?mode=offline", Target("wandb", "digits", "team", {"mode": "offline"})),
        ("wandb://team", Target("wandb", "", "team")),
        ("wandb://team/", Target("wandb", "", "team")),
        ("mlflow://host:5000/exp/1", Target("mlflow", "exp/1", "host:5000")),
        ("wandb?mode=offline&every=10", Target("wandb", "", "", {"mode": "offline"}, {"every": "10"})),
        ("wandb?&mode=a=b&", Target("wandb", "", "", {"mode": "a=b"})),
        ("wandb?mode=", Target("wandb", "", "", {"mode": ""})),
        ("my-backend_2.x:p", Target("my-backend_2.x", "p")),
        ("csv:é/数", Target("csv", "é/数")),
        ("csv:%C3%A9", Target("csv", "é")),
        ("csv:%20./a%20", Target("csv", " ./a ")),
        ("csv:%E2%80%9Ca%E2%80%9D", Target("csv", "\u201ca\u201d")),
        ("csv:a\u201cb\u201d", Target("csv", "a\u201cb\u201d")),
        ("csv:./a+b|c&d;e", Target("csv", "./a+b|c&d;e")),
        ("csv:zero\u200dwidth", Target("csv", "zero\u200dwidth")),
        ("csv?include=%20a|[ ]b", Target("csv", filters={"include": " a|[ ]b"})),
        ("csv?x=", Target("csv", options={"x": ""})),
    ],
)
def test_a_target_is_read(text, expected):
    assert parse_target(text) == expected


def test_several_targets_are_joined_by_commas_and_blanks_do_not_count():
    assert parse_targets(" tensorboard:./tb , wandb?mode=offline,, local ") == [
        Target("tensorboard", "./tb"),
        Target("wandb", options={"mode": "offline"}),
        Target("local"),
    ]


def test_a_target_remembers_where_it_was_written_which_is_no_part_of_what_it_is():
    one, two = parse_target("csv:a", origin="here"), parse_target("csv:a", origin="there")
    assert one.origin == "here"
    assert one == two
    assert one.key == two.key


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no backend"),
        (" , ", "names no backend"),
        (":./tb", "does not start with the name of a backend"),
        ("./tb", "does not start with the name of a backend"),
        ("9lives", "does not start with the name of a backend"),
        ("wandb offline", "expected ':path', '://authority/path' or '?option=value'"),
        ("wandb/team", "expected ':path'"),
        ("wandb?mode", "options of 'wandb' are written key=value"),
        ("wandb?=x", "options of 'wandb' are written key=value"),
        ("wandb?mode=a&mode=b", "the option 'mode' of 'wandb' appears twice"),
        ("wandb?mode=a&mo%64e=b", "the option 'mode' of 'wandb' appears twice"),
        ("csv:%ff", "percent-encoded, but not as UTF-8"),
        ("csv?a=%ff", "percent-encoded, but not as UTF-8"),
        ("csv?%ff=a", "percent-encoded, but not as UTF-8"),
        ("csv?every=0", "expected a positive whole number"),
        ("csv?every=-1", "expected a positive whole number"),
        ("csv?every=1.5", "expected a positive whole number"),
        ("csv?every=²", "expected a positive whole number"),
        ("csv?every=" + "9" * 5000, "expected a positive whole number"),
        ("csv?media=no", "expected 'on' or 'off'"),
        ("csv?include=", "csv?include=: a pattern is empty"),
        ("csv?include=|", "a pattern is empty"),
        ("csv?include=a|", "a pattern is empty"),
        ("csv?exclude=", "csv?exclude=: a pattern is empty"),
        ("csv?exclude=a||b", "a pattern is empty"),
        ("csv?include=a | b", "write 'include=a'"),
        ("csv?include=a| b", "write 'include=b'"),
        ("csv?include='a'|'b'", "begins with a quotation mark"),
        ("csv?include=a|\u201cb\u201d", "begins with a quotation mark"),
        ("csv:a%00b", "the target 'csv' contains the null character, in 'a\\x00b'"),
        ("csv://a%00b", "contains the null character"),
        ("csv?x=%00", "contains the null character, in 'x=\\x00'"),
        ("csv?x%00=1", "contains the null character"),
        ("csv?include=%00", "contains the null character"),
        ("csv:a%0Ab", "contains the control character '\\n'"),
        ("csv:a%1B[31m", "contains the control character '\\x1b'"),
        ("csv:a%C2%85b", "contains the control character"),
        ("csv:a%E2%80%A8b", "contains the control character"),
        ("csv:a\nb", "contains the control character '\\n', in 'a\\nb'; targets are joined by commas"),
        ("csv: ./a", "write 'csv:./a'; a blank that belongs to it is written as %20"),
        ("csv:./a ?x=1", "write 'csv:./a'"),
        ("csv:\u00a0./a", "write 'csv:./a'"),
        ("csv:\u200b./a", "write 'csv:./a'"),
        ("csv:// team/a", "write 'csv://team'"),
        ("csv://team/ a", "write '/a'"),
        ("csv?x= 1", "write 'x=1'"),
        ("csv?x=1 &y=2", "write 'x=1'"),
        ("csv :./a", "remove the blank after 'csv'"),
        ("csv ?x=1", "remove the blank after 'csv'"),
        ("csv:\u201c./a\u201d", "begins with a quotation mark; remove it, or write it as %E2%80%9C"),
        ("csv:`./a`", "begins with a quotation mark; remove it, or write it as %60"),
        ("csv://\u00aba\u00bb", "begins with a quotation mark"),
        ("\u201ccsv:./a\u201d", "remove the quotation marks"),
        ("csv?x=1&tsv:./a", "another target is joined by a comma"),
    ],
)
def test_what_is_no_target_is_refused_and_the_message_says_where(text, says):
    with pytest.raises(SettingsError) as caught:
        parse_targets(text, origin="the place it was written")
    assert says in str(caught.value)
    assert str(caught.value).startswith("the place it was written: ")


@given(st.text(max_size=40))
def test_any_text_is_either_a_target_or_a_settings_error(text):
    try:
        targets = parse_targets(text)
    except SettingsError:
        return
    assert all(target.name for target in targets)


NAMES = st.from_regex(r"[a-z][a-z0-9_.-]{0,10}", fullmatch=True)
#: Any text, with the characters that mean something to the grammar more often than by chance.
TEXTS = st.text(st.one_of(st.sampled_from(":/?&=,%@ \\~#+;|*\n\ud800"), st.characters()), max_size=12)
OPTIONS = st.dictionaries(TEXTS.map(str.strip).filter(bool), TEXTS, max_size=3)


FILTERS = st.sampled_from([{}, {"every": "3", "include": "train/*|val/?"}, {"media": "off"}])


@given(NAMES, TEXTS, st.one_of(st.just(""), TEXTS), OPTIONS, FILTERS)
@example("csv", "//a/b", "", {}, {})
@example("csv", "a ", "", {}, {})
@example("csv", " ", "", {"x": "y  "}, {})
@example("csv", " a ", "", {"x": " ' "}, {})
@example("csv", " b", " a", {"x": "   "}, {})
@example("csv", "`a`", "", {"x": "\u201ca"}, {})
@example("csv", "a/b", "c/d", {}, {})
@example("csv", "", "", {"a=b&c": "d=e&f"}, {})
@example("csv", "a\udcff", "", {}, {})
def test_the_canonical_form_of_a_target_parses_to_an_equal_target(name, path, authority, options, filters):
    own = {key: value for key, value in options.items() if key not in COMMON_OPTIONS}
    target = Target(name, path, authority, own, filters)
    try:
        [parsed] = parse_targets(f"{target},local")[:-1]
    except SettingsError as error:
        # Only what holds a secret or a control character cannot be written down.
        assert any(why in str(error) for why in ("secret", "holds a user", "control character", "null character")), (
            error
        )
        return
    assert parsed == target
    assert str(parsed) == str(target)


@given(TEXTS)
def test_what_was_parsed_comes_back_from_its_canonical_form(text):
    try:
        target = parse_target("csv" + text)
    except SettingsError:
        return
    assert parse_targets(str(target)) == [target]


def test_the_key_of_a_target_is_where_things_go_and_filters_do_not_change_it():
    keys = {parse_target(text).key for text in ("csv:a?x=1", "csv:a?every=10&x=1", "csv:a?x=1&media=off")}
    assert len(keys) == 1
    others = {parse_target(text).key for text in ("csv:a", "csv:b?x=1", "csv:a?x=2", "tsv:a?x=1", "csv://a?x=1")}
    assert len(others) == 5
    assert not keys & others


# ---------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    "text",
    [
        "wandb?api_key=hunter2",
        "wandb?API-KEY=hunter2",
        "wandb?token=hunter2",
        "mlflow?password=hunter2",
        f"wandb?key={KEY}",
        "wandb?x=sk-abcdefghijklmnop1234",
        "wandb?x=hf_abcdefghijklmnop1234",
        "wandb?x=%68f_abcdefghijklmnop1234",
        "wandb?base_url=https://me:hunter2@host",
        "wandb://me:hunter2@host/project",
        "wandb://hunter2@host",
        "wandb://hunter2%40host",
        "tensorboard:s3://me:hunter2@bucket/tb",
        "mlflow://ghp_abcdefghijklmnop1234/x",
    ],
)
def test_secrets_are_refused_and_neither_named_nor_shown(text):
    with pytest.raises(SettingsError) as caught:
        parse_target(text)
    assert "keys come from the backend's own environment variables" in str(caught.value)
    secrets = ("hunter2", KEY, "abcdefghijklmnop1234")
    assert not any(secret in str(caught.value) for secret in secrets)
    shown = redact_targets(f"local,{text},csv:./out?x=1")
    assert not any(secret in shown for secret in secrets)
    assert shown.startswith("local,")
    assert shown.endswith(",csv:./out?x=1")


def test_an_error_about_what_cannot_be_parsed_shows_no_key():
    with pytest.raises(SettingsError) as caught:
        parse_target("wandb hf_abcdefghijklmnop1234")
    assert "abcdefghijklmnop" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["wandb?project=tokenizer", "csv:./monkey", "wandb?mode=offline", "csv?num_tokens=5", "csv:a@b"]
)
def test_what_only_looks_a_little_like_a_secret_is_taken(text):
    assert str(parse_target(text)) == text
    assert redact_targets(text) == text


# ---------------------------------------------------------------- filters


def takes(query, kind, name, step):
    return parse_target(f"csv?{query}").takes(kind, name, step)


def test_include_and_exclude_go_by_name():
    query = "include=train/*|val/loss&exclude=*/debug"
    assert takes(query, "scalars", "train/loss", 1)
    assert takes(query, "images", "val/loss", 1)
    assert not takes(query, "scalars", "val/accuracy", 1)
    assert not takes(query, "histogram", "train/debug", 1)
    assert not takes("include=Train/*", "scalars", "train/loss", 1), "case counts"


def test_every_thins_out_scalars_and_nothing_else():
    assert [step for step in range(-3, 10) if takes("every=3", "scalars", "a", step)] == [-3, 0, 3, 6, 9]
    assert takes("every=3", "images", "a", 1)


def test_media_off_leaves_numbers_and_what_describes_the_run():
    taken = ["scalars", "config", "summary", "artifact", "use_artifact", "alert"]
    left_out = ["images", "histogram", "table", "video", "audio", "text", "figure"]
    assert [kind for kind in taken + left_out if takes("media=off", kind, "a", 1)] == taken
    assert all(takes("media=on", kind, "a", 1) for kind in taken + left_out)


def test_filters_by_name_leave_alone_what_belongs_to_the_run_as_a_whole():
    for kind in ("config", "summary", "artifact", "use_artifact", "alert"):
        assert takes("include=nothing", kind, "a", None)
