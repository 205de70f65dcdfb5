"""The table of kinds: what follows from a row, for every row; and HTML, which was added with it."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest

import tracking_core as tracking
from tests.support.programs import journal_events
from tests.support.trackers import Five, Full
from tracking_core import fallbacks, protocol
from tracking_core.errors import InvalidValueError
from tracking_core.journal.schema import _FIELDS
from tracking_core.protocol import CORE_CAPABILITIES, OPTIONAL_CAPABILITIES
from tracking_core.testing import FakeTracker
from tracking_core.testing.contract.registry import all_checks
from tracking_core.values import Audio, Figure, Html, Table, Text, Video, to_html
from tracking_core.values.kinds import KINDS, MEDIA, NAMED, STEPPED, FileOf

PIXELS = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
#: One value of each medium, as it is logged; a row that is added must be named here.
VALUES = {
    "table": {"a": [1, None], "b": ["x", float("nan")]},
    "video": PIXELS,
    "audio": np.linspace(-1, 1, 20),
    "text": "a *text*",
    "figure": Figure.from_plotly('{"data": []}'),
    "html": "<p>a &amp; b</p>",
}


def test_every_row_is_whole():
    for name, kind in KINDS.items():
        assert kind.name == name
        assert kind.singular
        assert kind.plural
        assert (name in STEPPED) == kind.has_step
        capabilities = {**CORE_CAPABILITIES, **{key: method for key, (_, method) in OPTIONAL_CAPABILITIES.items()}}
        assert capabilities[kind.capability] == kind.method
    assert MEDIA.keys() <= NAMED.keys() <= KINDS.keys()
    assert not [kind for kind in KINDS.values() if kind.is_media and not kind.has_step]
    # "flush" and "deliver" are no values; every other capability has a row.
    assert {kind.capability for kind in KINDS.values()} == {*CORE_CAPABILITIES, *OPTIONAL_CAPABILITIES} - {"flush", "deliver"}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_every_medium_has_what_people_read(name):
    kind = MEDIA[name]
    method = getattr(tracking.Run, kind.method)
    assert "Args:" in method.__doc__
    named = inspect.signature(method).parameters
    assert [*named][:3] == ["self", "name", "value"]
    assert {"step", "step_axis", "wall_time", *kind.options} == {*named} - {"self", "name", "value"}
    assert kind.method in dir(protocol.OPTIONAL_CAPABILITIES[kind.capability][0])
    assert inspect.signature(getattr(fallbacks, kind.method)).parameters.keys() >= {"step", *kind.options}
    assert f"media.{kind.plural}_kept" in all_checks() or f"media.{kind.name}_kept" in all_checks()


def test_every_medium_is_here():
    assert VALUES.keys() == MEDIA.keys()
    assert MEDIA.keys() <= _FIELDS.keys()


@pytest.mark.parametrize("name", VALUES)
def test_every_medium_comes_back_from_its_event(name, tmp_path):
    kind = MEDIA[name]
    value = kind.normal(VALUES[name])

    def put(content: bytes, ending: str) -> str:
        (tmp_path / f"medium.{ending}").write_bytes(content)
        return f"medium.{ending}"

    fields = json.loads(json.dumps(kind.encode(value, put)))
    assert {field[0] for field in kind.fields()} >= fields.keys()
    assert kind.data({"name": "n", **fields}, lambda file: tmp_path / file) == {"name": "n", "value": value}
    assert kind.normal(value) is value
    assert kind.is_one(value)
    assert kind.hide(value) == value
    shown = kind.fallback(value)
    assert isinstance(shown, FileOf) or shown.pixels.ndim == 3


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("around", ["none", "fake", "multi", "scope", "every", "run"])
def test_every_tracker_takes_every_medium(name, around):
    kind, value = MEDIA[name], VALUES[name]
    normal = kind.normal(value)
    if around == "none":
        assert getattr(tracking.NullTracker(), kind.method)("x", value, step=1) is None
        return
    if around == "run":
        with tracking.start_run("p", backends="local", delivery="inline") as run:
            getattr(run, kind.method)("x", value, step=1)
        assert tracking.open_store(run.dir.parent.parent).run(run.id).media(name, "x") == [(1, normal)]
        return
    fake = FakeTracker()
    tracker = {
        "fake": fake,
        "multi": tracking.multi(fake),
        "scope": tracking.scope(fake, "s"),
        "every": tracking.every(fake, 1),
    }[around]
    assert isinstance(tracker, OPTIONAL_CAPABILITIES[kind.capability][0])
    getattr(tracker, kind.method)("x", value, step=1)
    assert fake.values(name)["s/x" if around == "scope" else "x"] == [(1, normal)]


def test_a_value_that_is_none_of_its_kind_is_refused_by_every_row():
    for kind in MEDIA.values():
        with pytest.raises(InvalidValueError):
            kind.normal(object())


def test_the_first_row_that_fits_is_what_log_takes():
    for value, kind in (
        (Html("<b>"), "html"), (Text("<b>"), "text"), ("<b>", "text"), (Table(["a"], []), "table"),
        (Video(PIXELS), "video"), (Audio([0.0]), "audio"), (Figure.from_plotly("{}"), "figure"),
    ):  # fmt: skip
        assert fallbacks.kind_of(value) == kind


@pytest.mark.parametrize("name", VALUES)
def test_a_keyword_that_there_is_not_is_refused(name):
    method, value = MEDIA[name].method, VALUES[name]
    for tracker in (FakeTracker(), tracking.multi(FakeTracker()), tracking.scope(FakeTracker(), "s")):
        with pytest.raises(TypeError, match=rf"{method}\(\) got an unexpected keyword argument 'setp'"):
            getattr(tracker, method)("x", value, step=1, setp=2)
        with pytest.raises(TypeError, match="step"):
            getattr(tracker, method)("x", value)


# ---------------------------------------------------------------- HTML


def test_html_from_a_file_and_what_is_none(tmp_path):
    (tmp_path / "page.html").write_bytes(b"\xef\xbb\xbf<p>\xc3\xbc</p>\r\n")
    assert to_html(tmp_path / "page.html") == "<p>ü</p>\n"
    (tmp_path / "bad.html").write_bytes(b"\xff\xfe")
    for value in (tmp_path / "missing.html", tmp_path / "bad.html", tmp_path, b"<p>", None, 3, ["<p>"]):
        with pytest.raises(InvalidValueError, match=r"HTML"):
            to_html(value)


def test_html_shows_itself_in_a_sandbox_alone():
    shown = Html('<script>alert(1)</script>"></iframe><b>')._repr_html_()
    assert shown.startswith('<iframe sandbox="" srcdoc="')
    assert shown.count("<") == 2
    assert "allow" not in shown


def test_a_page_is_one_file_of_the_run(troubles):
    page = "<p>größe \ud800 &amp;</p>"
    with tracking.start_run("p", backends="local") as run:
        run.log_html("page", page, step=3)
        run.log_html("page", page, step=1, step_axis="epoch")
        run.log({"mixed": Html("<i>")}, step=4)
        run.log_html("page", 3, step=5)
    assert run.health.dropped == {"invalid": 1}
    assert "log_html: expected a str of HTML" in troubles[0][1]
    events = [event for event in journal_events(run.dir) if event["kind"] == "html"]
    assert [(event["name"], event["axis"], event["step"]) for event in events] == [
        ("page", "step", 3), ("page", "epoch", 1), ("mixed", "step", 4),
    ]  # fmt: skip
    assert events[0]["file"] == events[1]["file"]
    content = (run.dir / "media" / events[0]["file"]).read_bytes()
    assert Path(events[0]["file"]).suffix == ".html"
    assert content == page.encode("utf-8", "surrogatepass")
    record = tracking.open_store(run.dir.parent.parent).run(run.id)
    assert record.names("html") == ["mixed", "page"]
    assert record.media("html", "page") == [(3, page), (1, page)]
    assert type(record.media("html", "page")[0][1]) is Html


def test_html_is_media_for_filters():
    assert not tracking.Target("csv", filters={"media": "off"}).takes("html", "x", 1)
    assert not tracking.Target("csv", filters={"exclude": "x*"}).takes("html", "x", 1)


def test_html_at_trackers_that_have_no_place_for_it():
    five, full = Five(), Full()
    tracking.multi(five, full).log_html("page", Html("<b>"), step=7, step_axis="epoch")
    ((kind, files, name, type_, *_),) = five.calls
    assert (kind, files, name, type_) == ("artifact", {"value.html": b"<b>"}, "page-epoch-7", "html")
    assert full.calls[0][:4] == ("media", "page", "<b>", 7)
