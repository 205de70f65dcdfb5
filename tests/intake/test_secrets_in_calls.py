"""What of a call is kept under another name or with other text, because it holds the value of a secret variable."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

import tracking_core as tracking
from tests.support.programs import journal_events, only_run
from tracking_core.backends.hooks import ForeignRun
from tracking_core.transfer.foreign import import_run
from tracking_core.transfer.sources import import_runs
from tracking_core.values import Figure, Html, Record, Table, hiding
from tracking_core.values.hiding import Names, hide_png
from tracking_core.values.kinds import MEDIA

SECRET, OTHER = "horse-battery", "correct-staple"


@pytest.fixture(autouse=True)
def _secrets(monkeypatch):
    monkeypatch.setenv("A_TOKEN", SECRET)
    monkeypatch.setenv("B_TOKEN", OTHER)
    monkeypatch.setenv("C_TOKEN", "123456")


def test_names_that_differ_in_their_secrets_stay_apart_and_keep_their_names():
    names = Names()
    assert [names(f"a/{one}") for one in (SECRET, OTHER, "[redacted]", SECRET, OTHER)] == [
        "a/[redacted]",
        "a/[redacted]#2",
        "a/[redacted]#3",
        "a/[redacted]",
        "a/[redacted]#2",
    ]
    assert names("a/[redacted]#3") == "a/[redacted]#3#2"
    assert names("plain") == "plain"
    assert names.keys({f"a/{OTHER}": 1, "plain": 2}) == {"a/[redacted]#2": 1, "plain": 2}


def test_names_without_end_are_not_all_kept(monkeypatch):
    monkeypatch.setattr(hiding, "_MOST_KNOWN", 10)
    names = Names()
    for number in range(100):
        assert names(f"n{number}") == f"n{number}"
    assert len(names.known) <= 10


def test_a_secret_variable_that_comes_later_is_found_in_names_that_come_after(monkeypatch, tmp_path):
    with tracking.start_run(backends="local") as run:
        run.log_scalars({"early-sesame": 1.0}, step=0)
        monkeypatch.setenv("LATE_TOKEN", "sesame-open")
        run.log_scalars({"sesame-open": 1.0}, step=1, step_axis="sesame-open")
        run.log_text("t", "sesame-open", step=1)
    events = journal_events(run.dir)
    assert "sesame-open" not in json.dumps(events)


def test_numbers_are_no_text():
    """A secret that is a number must not tear numbers out of JSON."""
    table = MEDIA["table"].hide(Table(["x", SECRET, OTHER], [[123456, "is 123456", [SECRET]]]))
    assert table.columns == ("x", "[redacted]", "[redacted]#2")
    assert table.rows == ((123456, "is [redacted]", ["[redacted]"]),)
    figure = MEDIA["figure"].hide(Figure.from_plotly('{"data":[{"y":[123456,1.5],"name":"123456"}]}'))
    assert json.loads(figure.plotly) == {"data": [{"y": [123456, 1.5], "name": "[redacted]"}]}


def test_html():
    page = MEDIA["html"].hide(Html(f"<b>{SECRET}</b> <i>token: the</i>"))
    assert page == "<b>[redacted]</b> <i>token: the</i>"
    assert type(page) is Html


def test_what_holds_no_secret_is_the_same_object():
    table = Table(["token"], [["token: the"], ["password"]])
    assert MEDIA["table"].hide(table) is table
    text = '{ "data": [] }'
    assert MEDIA["figure"].hide(Figure.from_plotly(text)).plotly == text


def png(**texts):
    info = PngInfo()
    for name, text in texts.items():
        {"plain": info.add_text, "packed": lambda k, v: info.add_text(k, v, zip=True),
         "utf": lambda k, v: info.add_itxt(k, v, zip=True)}[name](name, text)  # fmt: skip
    out = io.BytesIO()
    Pillow.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).save(out, format="PNG", pnginfo=info)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["plain", "packed", "utf"])
def test_comments_of_a_picture(kind):
    clean = png(**{kind: "nothing to see, xylophone"})
    assert hide_png(clean) == clean
    hidden = hide_png(png(**{kind: f"key {SECRET} x"}))
    with Pillow.open(io.BytesIO(hidden)) as image:
        image.load()
        assert kind not in image.info
        assert np.asarray(image).tolist() == np.arange(16).reshape(4, 4).tolist()
    assert hide_png(hidden[:30]) == hidden[:30]
    assert hide_png(b"no picture at all") == b"no picture at all"


def test_an_imported_run(tmp_path):
    records = [
        Record("scalars", 1, "w", 1.0, 0, SECRET, {SECRET: 1.0}),
        Record("text", 2, "w", 1.0, 0, "step", {"name": SECRET, "value": SECRET}),
        Record("config", 3, "w", 1.0, data={"a": SECRET}),
        Record("artifact", 4, "w", 1.0, data={"artifact": {f"{SECRET}.txt": b"x"}, "name": SECRET, "type": SECRET,
               "metadata": {"m": SECRET}, "aliases": (SECRET,), "version": 0, "digest": ""}),
        Record("use_artifact", 5, "w", 1.0, data={"artifact": f"{SECRET}:{SECRET}"}),
        Record("finish", 6, "w", 1.0, data={"status": "failed", "error": f"with {SECRET}"}),
    ]  # fmt: skip
    place = tmp_path / SECRET
    place.mkdir()
    foreign = ForeignRun(SECRET, records, f"here/{SECRET}", SECRET, SECRET, {"c": SECRET}, (SECRET,), SECRET, SECRET,
                         SECRET, 1.0, {"host": SECRET}, place)  # fmt: skip
    root = tmp_path / "runs"
    found = import_run(foreign, "other", root)
    assert found.problems == ()
    assert found.project == "[redacted]"
    for path in root.rglob("*"):
        assert SECRET not in str(path.relative_to(root))
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()
    # It is known again.
    assert import_run(ForeignRun(SECRET, [], f"here/{SECRET}"), "other", root).there


def test_an_imported_csv_file(tmp_path):
    (tmp_path / f"{SECRET}.csv").write_text(f"step,{SECRET}\n0,0.5\n")
    [found] = import_runs(tmp_path / f"{SECRET}.csv", root=tmp_path / "runs")
    assert SECRET not in str(only_run(tmp_path / "runs").relative_to(tmp_path / "runs"))
    [series] = tracking.open_store(tmp_path / "runs").run(found.run).scalar_names()
    assert series == "[redacted]"
