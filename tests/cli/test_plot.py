"""`tracking plot`: curves in the terminal, as text, as JSON and as images."""

from __future__ import annotations

import math

import pytest
from PIL import Image

from tests.support.commands import Terminal, as_json, spawned, tracking
from tests.support.programs import run as run_program
from tracking_core import start_run

RECORD = r"""
import math, tracking_core as t
for number, name in enumerate(["up", "down", "odd\x1b[31m$x$_"]):
    with t.start_run("p", name, run_id=f"r{number}") as run:
        for step in range(100):
            run.log_scalars({"line": step if number == 0 else 99 - step}, step=step)
        run.log_scalars({"one": 3.0, "none": float("nan"), "far": 1e300}, step=0)
        for step, value in enumerate([1, float("nan"), float("inf"), 10, -5, 1000]):
            run.log_scalars({"holes": value}, step=step)
        run.log_scalars({"flat": 2.0}, step=-5)
        run.log_scalars({"flat": 2.0}, step=2**40)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    pytest.importorskip("uniplot", reason="needs the extra plot")
    folder = tmp_path_factory.mktemp("store")
    run_program(RECORD, folder)
    return folder


def canvas(text):
    """The lines of a drawing, without frame, axes and numbers."""
    return [line.split("│", 1)[1].rsplit("│", 1)[0] for line in text.splitlines() if line.count("│") >= 2]


def marked(line):
    """The columns of a line that something is drawn in; braille, or blocks."""
    return [place for place, char in enumerate(line) if "⠁" <= char <= "⣿"]


def test_a_curve_is_drawn_where_its_values_are(place):
    up, err = tracking("plot", "up", "line", "--width", "40", "--height", "10", cwd=place)
    assert err == ""
    lines = canvas(up)
    assert (len(lines), {len(line) for line in lines}) == (10, {40})
    assert max(marked(lines[0])) == 39, "it ends at the top right"
    assert min(marked(lines[-1])) == 0, "it begins at the bottom left"
    assert "line of up" in up
    down, _ = tracking("plot", "down", "line", "--width", "40", "--height", "10", cwd=place)
    lines = canvas(down)
    assert min(marked(lines[0])) == 0
    assert max(marked(lines[-1])) == 39


def test_several_scalars_are_plots_of_their_own(place):
    text, err = tracking("plot", "up", "down", "line", "one", "ho*", "--height", "4", cwd=place)
    titles = [line.strip() for line in text.splitlines() if " of " in line]
    assert titles == ["line of up", "line of down", "one of up", "one of down", "holes of up", "holes of down"]
    assert err == ""
    found = as_json("plot", "up", "down", "line", "one", cwd=place)
    assert found["names"] == ["line", "one"]
    assert [(one["scalar"], one["run"]) for one in found["runs"]] == [
        ("line", "r0"), ("line", "r1"), ("one", "r0"), ("one", "r1"),
    ]  # fmt: skip


def test_without_a_scalar_those_that_there_are_are_listed(place):
    out, err = tracking("plot", "up", "down", cwd=place)
    assert out.splitlines() == [
        f"run r{n} ({name}): far, flat, holes, line, none, one" for n, name in enumerate(["up", "down"])
    ]
    assert err == ""
    assert as_json("plot", "up", cwd=place)["scalars"] == {"r0": ["far", "flat", "holes", "line", "none", "one"]}


def test_the_labels_of_the_y_axis_are_at_the_left(place):
    text, _ = tracking("plot", "up", "line", "--height", "10", "--width", "40", cwd=place)
    rows = [line for line in text.splitlines() if line.count("│") >= 2]
    assert all(line.endswith("│") for line in rows)
    labels = [line.partition("│")[0].strip() for line in rows]
    assert [label for label in labels if label] == ["80", "60", "40", "20", "0"] or "0" in labels
    assert len({line.index("│") for line in rows}) == 1


def test_curves_are_smoothed_as_tensorboard_does(place, tmp_path):
    with start_run("p", "noisy", run_id="n", root=tmp_path / "tracking_runs") as run:
        for step, value in enumerate([1.0, 3.0, math.nan, 5.0]):
            run.log_scalars({"a": value}, step=step)
    [one] = as_json("plot", "n", "a", "--smooth", "0.5", cwd=tmp_path)["runs"]
    last, debias, expected = 0.0, 0, []
    for value in (1.0, 3.0, 5.0):
        # The arithmetic of TensorBoard's line chart.
        last, debias = last * 0.5 + 0.5 * value, debias + 1
        expected.append(last / (1 - 0.5**debias))
    assert one["value"] == [*map(pytest.approx, expected[:2]), "NaN", pytest.approx(expected[2])]
    [one] = as_json("plot", "n", "a", cwd=tmp_path)["runs"]
    assert one["value"] == [1.0, 3.0, "NaN", 5.0]
    tracking("plot", "n", "a", "--smooth", "1", cwd=tmp_path, code=2)


def test_without_colours_each_run_gets_its_own_drawing(place):
    text, _ = tracking("plot", "up", "down", "line", "--height", "6", cwd=place)
    assert "\x1b" not in text
    assert text.index("line of up") < text.index("line of down")
    assert len(canvas(text)) == 12


@pytest.mark.system
def test_at_a_terminal_runs_share_a_drawing_in_colours(place):
    seen = Terminal("plot", "up", "down", "line", cwd=place, columns=90).end()
    assert seen.count("┌") == 1
    assert "\x1b[" in seen
    for name in ("up", "down"):
        assert name in seen
    assert "\x1b[" not in Terminal("plot", "up", "down", "line", cwd=place, NO_COLOR="1").end()


@pytest.mark.system
@pytest.mark.parametrize("name", ["one", "holes", "flat"])
@pytest.mark.parametrize("options", [[], ["--log"], ["--x", "time"]], ids=" ".join)
def test_odd_values_are_drawn(place, name, options):
    text, err = tracking("plot", "up", name, *options, "--height", "6", cwd=place)
    assert err == ""
    assert any(marked(line) for line in canvas(text))


@pytest.mark.parametrize(
    ("name", "options"), [("none", []), ("far", []), ("holes", ["--axis", "epoch"]), ("nothing", [])]
)
def test_what_cannot_be_drawn_is_said(place, name, options):
    out, err = tracking("plot", "up", name, *options, cwd=place, code=1)
    assert out == ""
    assert err.splitlines()[-1].startswith("Error: ")


def test_a_run_without_the_scalar_is_left_out(place, tmp_path):
    code = "import tracking_core as t\nfor n in 'ab':\n    with t.start_run('p', n, run_id=n) as r:\n        r.log_scalars({n: 1}, step=0)"
    run_program(code, tmp_path)
    out, err = tracking("plot", "a", "b", "a", cwd=tmp_path)
    assert "a of a" in out
    assert err.startswith("left out: run b has no scalar 'a'")


def test_a_terminal_that_knows_ascii_alone(place):
    text, _ = spawned("plot", "up", "line", cwd=place, PYTHONIOENCODING="ascii")
    assert "+" in text
    assert text.isascii()


def test_names_do_no_harm(place):
    text, _ = tracking("plot", "r2", "line", "--height", "5", cwd=place)
    assert "\x1b" not in text
    assert r"odd\x1b[31m" in text


def test_curves_as_json(place):
    found = as_json("plot", "up", "down", "holes", cwd=place)
    assert found["name"] == "holes"
    assert [one["run"] for one in found["runs"]] == ["r0", "r1"]
    assert found["runs"][0]["value"] == [1, "NaN", "Infinity", 10, -5, 1000]
    assert found["runs"][0]["step"] == [0, 1, 2, 3, 4, 5]


@pytest.mark.system
@pytest.mark.parametrize("options", [[], ["--log"], ["--x", "time"]], ids=" ".join)
def test_curves_as_an_image(place, options, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    out, err = tracking("plot", "up", "r2", "line", *options, "--png", str(tmp_path / "a.png"), cwd=place)
    assert (out, err) == ("", f"wrote {tmp_path}/a.png\n")
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        assert len(image.convert("RGB").getcolors(1 << 24)) > 10
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.system
def test_an_image_that_cannot_be_written_is_said(place, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    _, err = tracking("plot", "up", "line", "--png", str(tmp_path / "no" / "a.png"), cwd=place, code=1)
    assert err == f"Error: {tmp_path}/no: there is no such directory\n"
    _, err = tracking("plot", "up", "line", "--png", str(tmp_path / "a.xyz"), cwd=place, code=2)
    assert "Format 'xyz' is not supported" in err


def test_an_image_of_nothing_is_not_made(place, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    _, err = tracking("plot", "up", "none", "--png", str(tmp_path / "a.png"), cwd=place, code=1)
    assert err == "up: no value can be plotted\nError: there is nothing that can be drawn\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.system
def test_a_library_that_is_missing_is_named_with_its_install_command(place, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    blocker = "import sys\nsys.modules['uniplot'] = sys.modules['matplotlib'] = None\n"
    (site / "sitecustomize.py").write_text(blocker)
    import os

    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    for options in ([], ["--png", "a.png"]):
        _, err = spawned("plot", "up", "line", *options, cwd=place, code=1, PYTHONPATH=path)
        assert "which is not installed: pip install 'tracking-core[plot]'" in err
    assert as_json("plot", "up", "one", cwd=place, PYTHONPATH=path)["runs"][0]["value"] == [3.0]
