"""How values show themselves in a notebook: what they say is well-formed, holds the values, and nothing of a user's."""

from __future__ import annotations

import base64
import io
import math
import pickle
import wave
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from tracking_core import (
    Audio,
    DeliveryReport,
    Figure,
    Histogram,
    Image,
    Series,
    Table,
    TargetReport,
    Text,
    Video,
    open_store,
    start_run,
)
from tracking_core.base.text import counted
from tracking_core.values.notebook import LARGEST, MOST_BARS, SHOWN_COLUMNS, SHOWN_ROWS, facts_html

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = ['<script>alert("1")</script>', "a & b", "'\"><img src=x onerror=y>", "\0\x1b\ud800\ufffe", "]]>", "é\n\tx"]
any_text = st.text(alphabet=st.characters(exclude_categories=()), max_size=12) | st.sampled_from(HOSTILE)


def parse(markup):
    """The tree of what is XML as well; only known elements, and nothing from elsewhere."""
    tree = ElementTree.fromstring(markup)
    known = {"div", "b", "table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "img", "audio", "video"}  # fmt: skip
    drawn = {f"{SVG}{name}" for name in ("svg", "title", "g", "rect", "path", "polyline", "text")}
    for element in tree.iter():
        assert element.tag in known | drawn
        for name, value in element.attrib.items():
            assert not name.startswith("on") and name not in {"href", "style"}
            assert name != "src" or value.startswith("data:")
    # A browser's parser sees the same.
    seen = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: seen.append(tag)
    parser.feed(markup)
    assert seen == [element.tag.removeprefix(SVG) for element in tree.iter()]
    return tree


def text_of(tree):
    return "".join(tree.itertext())


def content_of(tree, tag):
    head, _, content = tree.find(tag).attrib["src"].partition(",")
    return head, base64.b64decode(content, validate=True)


# ---------------------------------------------------------------- series


def curve(values, step=None, name="loss", axis="step"):
    value = np.array(values, np.float64)
    steps = np.arange(len(value)) if step is None else np.array(step)
    return Series(name, axis, steps, np.zeros(len(value)), value)


def lines(tree):
    return [
        [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        for line in tree.iter(f"{SVG}polyline")
    ]


def test_a_series_is_a_curve_and_its_numbers():
    tree = parse(curve([4.0, 1.0, 2.0, 3.0], [0, 10, 20, 40])._repr_html_())
    assert text_of(tree.find("div")) == "loss 4 values over step, last 3, min 1, max 4"
    (points,) = lines(tree)
    x, y = zip(*points, strict=True)
    # Steps to the right, to scale; larger values higher up.
    assert np.allclose(np.diff(x) / (x[-1] - x[0]), [0.25, 0.25, 0.5], atol=1e-3)
    assert np.argsort(y).tolist() == [0, 3, 2, 1]
    assert [e.text for e in tree.iter(f"{SVG}text")] == ["0", "40"]


def test_a_curve_is_broken_where_it_is_not_finite():
    tree = parse(curve([1.0, 2.0, math.nan, 3.0, 4.0, math.inf, math.nan, 5.0])._repr_html_())
    assert [len(line) for line in lines(tree)] == [2, 2, 2]
    assert "last 5, min 1, max 5" in text_of(tree)


@pytest.mark.parametrize("values", [[], [math.nan], [math.inf, -math.inf]])
def test_a_series_without_anything_to_draw(values):
    tree = parse(curve(values)._repr_html_())
    assert f"{counted(len(values), 'value')} over step" in text_of(tree)
    assert tree.find(f"{SVG}svg") is None


def test_a_long_series_stays_small():
    noise = np.random.default_rng(0).normal(size=200_000)
    noise[123_456] = 99.0
    markup = curve(noise)._repr_html_()
    assert len(markup) < 30_000
    assert "200,000 values over step" in markup and "max 99" in markup


def test_raw_rows_are_drawn_by_step():
    (points,) = lines(parse(curve([1.0, 2.0, 3.0, 4.0], [0, 2, 1, 2])._repr_html_()))
    x = [left for left, _ in points]
    assert len(points) == 3 and x == sorted(x)


@given(any_text, any_text, st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.floats()), max_size=30))
def test_any_series_is_well_formed(name, axis, rows):
    series = curve([value for _, value in rows], [step for step, _ in rows], name, axis)
    for line in lines(parse(series._repr_html_())):
        for x, y in line:
            assert 0 <= x <= 480 and 0 <= y <= 160


# ---------------------------------------------------------------- histograms


def test_a_histogram_is_its_bars():
    histogram = Histogram([1, 0, 2], [0, 1, 2, 4], nan=3, posinf=1, mean=0.5)
    tree = parse(histogram._repr_svg_())
    bars = [{key: float(value) for key, value in bar.attrib.items()} for bar in tree.iter(f"{SVG}rect")]
    assert len(bars) == 2
    first, second = bars
    # Twice as high and twice as wide, on one line.
    assert second["height"] == pytest.approx(2 * first["height"], abs=0.02)
    assert second["width"] == pytest.approx(2 * first["width"], abs=0.02)
    assert second["x"] == pytest.approx(first["x"] + 2 * first["width"], abs=0.02)
    assert first["y"] + first["height"] == pytest.approx(second["y"] + second["height"], abs=0.02)
    for part in ("3 values", "mean 0.5", "3 NaN", "1 +Inf"):
        assert part in text_of(tree)
    assert [e.text for e in tree.iter(f"{SVG}text")][:2] == ["0", "4"]


@given(st.lists(st.floats(), min_size=1, max_size=20), st.integers(1, 8))
def test_any_histogram_is_well_formed(values, bins):
    histogram = Histogram.from_values(np.array(values), bins=bins)
    bars = list(parse(histogram._repr_svg_()).iter(f"{SVG}rect"))
    assert len(bars) == np.count_nonzero(histogram.counts)
    for bar in bars:
        assert all(0 <= float(bar.attrib[key]) <= 480 for key in ("x", "y", "width", "height"))


def test_the_largest_floats_have_room():
    (points,) = lines(parse(curve([-1.7e308, 0.0, 1.7e308])._repr_html_()))
    heights = [y for _, y in points]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2]) != 0
    first, second = parse(Histogram([1, 1], [-1.7e308, 0, 1.7e308])._repr_svg_()).iter(f"{SVG}rect")
    assert float(first.attrib["width"]) == pytest.approx(float(second.attrib["width"])) == pytest.approx(220)


def test_many_bins_share_bars():
    counts = np.arange(100_001.0)
    markup = Histogram(counts, np.arange(100_002.0))._repr_svg_()
    bars = ElementTree.fromstring(markup).findall(f".//{SVG}rect")
    assert 200 < len(bars) <= MOST_BARS
    assert len(markup) < 100_000
    left, right = (float(bars[-1].attrib[key]) for key in ("x", "width"))
    assert left + right == pytest.approx(460, abs=0.02), "they reach to the last edge"
    heights = [float(bar.attrib["height"]) for bar in bars[:-1]]
    assert heights == sorted(heights)


def test_a_histogram_of_nothing():
    assert list(parse(Histogram.from_values(np.array([math.nan]))._repr_svg_()).iter(f"{SVG}rect")) == []
    assert "0.5 values" in text_of(parse(Histogram([0.5], [0, 1])._repr_svg_()))
    edges = np.array([0, 1, 2, 3]) * 5e-324
    assert len(list(parse(Histogram([1, 1, 1], edges)._repr_svg_()).iter(f"{SVG}rect"))) == 3


# ---------------------------------------------------------------- tables


def rows_of(tree):
    return [[cell.text or "" for cell in row] for row in tree.iter("tr")]


def test_a_table_is_its_cells():
    tree = parse(Table(["a", "<b>"], [[1, "x & y"], [None, 0.123456789], [True, [1, 2]]])._repr_html_())
    assert rows_of(tree) == [["a", "<b>"], ["1", "x & y"], ["", "0.123457"], ["True", "[1, 2]"]]
    assert tree.find("caption") is None


def test_a_long_table_is_cut():
    tree = parse(Table(["n", "text"], [[n, "x" * 1000] for n in range(100)])._repr_html_())
    assert len(rows_of(tree)) == 1 + SHOWN_ROWS
    assert tree.find("caption").text == f"the first {SHOWN_ROWS} of 100 rows"
    assert len(rows_of(tree)[1][1]) == 200


@given(st.lists(any_text, min_size=1, max_size=3, unique=True), any_text | st.floats() | st.integers())
def test_any_table_is_well_formed(columns, cell):
    tree = parse(Table(columns, [[cell] * len(columns)])._repr_html_())
    assert [len(row) for row in rows_of(tree)] == [len(columns)] * 2


def test_a_wide_table_is_cut():
    columns = ["c" * 1000 + str(n) for n in range(500)]
    tree = parse(Table(columns, [list(range(500))] * 30)._repr_html_())
    rows = rows_of(tree)
    assert {len(row) for row in rows} == {SHOWN_COLUMNS}
    assert rows[1] == [str(n) for n in range(SHOWN_COLUMNS)]
    assert {len(head) for head in rows[0]} == {200}
    assert tree.find("caption").text == f"the first {SHOWN_ROWS} of 30 rows and {SHOWN_COLUMNS} of 500 columns"


# ---------------------------------------------------------------- images and other media


@pytest.mark.system
def test_an_image_of_any_size_has_room():
    pixels = np.random.default_rng(0).integers(0, 255, (3000, 3100, 3), dtype=np.uint8)
    shown = Image(pixels)._repr_png_()
    assert len(shown) < LARGEST < len(Image.from_pixels(pixels).png())
    assert np.array_equal(decoded(shown), pixels[::2, ::2])


PIXELS = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)


def decoded(png):
    with Pillow.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.array(image)


def test_an_image_is_a_png():
    np.testing.assert_array_equal(decoded(Image(PIXELS[0])._repr_png_()), PIXELS[0])
    assert Image(PIXELS[0])._repr_html_() is None
    # A batch that was not logged yet is a grid.
    assert decoded(Image(PIXELS, ["a", "b"])._repr_png_()).shape == (5, 14, 3)
    assert Image(PIXELS, ["a", "b"])._repr_html_() is None


@pytest.mark.parametrize("caption", ["a seven", *HOSTILE])
def test_a_caption_stands_below_its_image(caption):
    tree = parse(Image(PIXELS[0], caption)._repr_html_())
    head, png = content_of(tree, "img")
    assert head == "data:image/png;base64"
    np.testing.assert_array_equal(decoded(png), PIXELS[0])
    if caption.isascii() and caption.isprintable():
        assert tree.find("figcaption").text == caption


def test_sound_can_be_played():
    audio = Audio(np.array([1, -2, 3], np.int16), 8000, "beep")
    tree = parse(audio._repr_html_())
    head, content = content_of(tree, "audio")
    assert head == "data:audio/wav;base64" and "controls" in tree.find("audio").attrib
    with wave.open(io.BytesIO(content)) as sound:
        assert (sound.getframerate(), sound.getnframes()) == (8000, 3)
    assert tree.find("figcaption").text == "beep"
    assert parse(Audio(np.zeros(3), 8000)._repr_html_()).find("figcaption") is None
    assert Audio(np.zeros(LARGEST // 2 + 1, np.int16))._repr_html_() is None


def test_frames_move(tmp_path):
    head, content = content_of(parse(Video(PIXELS)._repr_html_()), "img")
    with Pillow.open(io.BytesIO(content)) as image:
        assert (head, image.format, image.n_frames) == ("data:image/gif;base64", "GIF", 2)
    (tmp_path / "a.mp4").write_bytes(b"not decoded")
    assert content_of(parse(Video(tmp_path / "a.mp4")._repr_html_()), "video") == (
        "data:video/mp4;base64",
        b"not decoded",
    )
    (tmp_path / "a.mkv").write_bytes(b"not decoded")
    assert Video(tmp_path / "a.mkv")._repr_html_() is None


def test_figures_and_text():
    bundle = Figure(Image(PIXELS[0]).png())._repr_mimebundle_(include=None, exclude=None)
    np.testing.assert_array_equal(decoded(bundle["image/png"]), PIXELS[0])
    bundle = Figure.from_plotly('{"data": [], "layout": {"title": "t"}}')._repr_mimebundle_()
    assert bundle["application/vnd.plotly.v1+json"] == {"data": [], "layout": {"title": "t"}}
    assert Text("# Title")._repr_markdown_() == "# Title"
    assert type(Text("x")._repr_markdown_()) is str


# ---------------------------------------------------------------- runs and what is told of them


def page_of(markup):
    """The tree of a page of facts, whose links are addresses of pages."""
    tree = ElementTree.fromstring(markup)
    known = {"div", "b", "code", "a", "table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "img"}  # fmt: skip
    for element in tree.iter():
        assert element.tag in known
        assert element.attrib.get("href", "https://").startswith(("https://", "http://"))
        assert set(element.attrib) <= ({"href", "rel"} if element.tag == "a" else {"src", "alt"})
        assert element.attrib.get("src", "data:").startswith("data:")
    return tree


@given(any_text, any_text, any_text)
def test_facts_are_well_formed_whatever_they_say(title, name, value):
    links = [value, "javascript:alert(1)", "https://host/a?b=c&d=<e>"]
    tree = page_of(
        facts_html(title, [(name, value)], columns=(name, "b"), rows=[(value, title)] * 3, links=links, notes=[name])
    )
    assert [link.attrib["href"] for link in tree.iter("a")] == [links[2]]
    assert len(list(tree.iter("tr"))) == 4


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A store with two runs of hostile names, and one of the runs as it was."""
    root = tmp_path_factory.mktemp("store")
    for number in range(2):
        config = {"<b>lr</b>": number, "same": 1}
        with start_run(HOSTILE[0], HOSTILE[1], run_id=f"r{number}", root=root, config=config, tags=[HOSTILE[2]]) as run:
            for step in range(5):
                run.log_scalars({"val/<loss>": 1.0 / (step + 1 + number)}, step=step)
                run.log_images({"<i>": np.zeros((2, 8, 8), np.uint8)}, step=step)
                run.log_table("<t>", {HOSTILE[0]: [HOSTILE[1]]}, step=step)
            run.log_text("words", HOSTILE[0], step=0)
    return open_store(root), run


def test_a_run_that_is_recorded_shows_itself(recorded):
    _, run = recorded
    text = text_of(page_of(run._repr_html_()))
    for part in ("a & b (r1)", HOSTILE[0], "status: finished", "<b>lr</b>", "val/<loss>", "0.166667"):
        assert part in text


def test_stores_and_lists_of_runs_show_themselves(recorded):
    store, _ = recorded
    tree = page_of(store._repr_html_())
    assert str(store.root) in text_of(tree)
    for page in (tree, page_of(store.runs()._repr_html_())):
        rows = [[cell.text for cell in row] for row in page.iter("tr")]
        assert rows[0] == ["id", "name", "project", "status", "started", "val/<loss>"]
        assert [(row[0], row[1], row[3], row[5]) for row in rows[1:]] == [
            ("r1", "a & b", "finished", "0.166667"),
            ("r0", "a & b", "finished", "0.2"),
        ]
    assert isinstance(store.runs(), list)
    assert text_of(page_of(store.runs("nosuch")._repr_html_())) == "no runs"


def test_a_record_a_comparison_and_a_report_show_themselves(recorded):
    store, run = recorded
    record = text_of(page_of(store.run("r1")._repr_html_()))
    assert "a & b (r1)" in record and "tracking show r1" in record and HOSTILE[2] in record
    tree = page_of(store.compare(["r0", "r1"])._repr_html_())
    rows = [[cell.text for cell in row] for row in tree.iter("tr")]
    assert rows[0] == ["run", "status", "<b>lr</b>", "val/<loss> (last)", "val/<loss> (min)"]
    assert [row[2:] for row in rows[1:]] == [["0", "0.2", "0.2"], ["1", "0.166667", "0.166667"]]
    hurt = TargetReport("<x>", delivered=3, failed=2, last_error=HOSTILE[0], recoverable=2)
    tree = page_of(DeliveryReport({"<x>": hurt}, "finished")._repr_html_())
    assert [cell.text for cell in tree.iter("td")][:2] == ["<x>", "3"]
    assert "not everything arrived" in text_of(tree) and "tracking sync --failed" in text_of(tree)
    assert "everything arrived" in text_of(page_of(run.finish()._repr_html_()))


def test_images_and_tables_of_a_run_show_themselves(recorded):
    store, _ = recorded
    record = store.run("r0")
    images = record.images("<i>")
    tree = page_of(images._repr_html_())
    assert "the last 3 of 5" in text_of(tree) and "<i>, step 4" in text_of(tree)
    sources = [image.attrib["src"] for image in tree.iter("img")]
    assert len(sources) == 6
    with Pillow.open(io.BytesIO(base64.b64decode(sources[0].partition(",")[2]))) as image:
        assert image.size == (8, 8)
    assert HOSTILE[1] in text_of(page_of(record.tables("<t>")._repr_html_()))
    assert HOSTILE[0] in text_of(page_of(record.media("text", "words")._repr_html_()))
    # They are lists as before.
    assert [step for step, _ in images] == [0, 1, 2, 3, 4] and images == list(images)
    assert pickle.loads(pickle.dumps(record.tables("<t>"))) == record.tables("<t>")
