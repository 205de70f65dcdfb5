"""Names, kinds and axes of the TensorBoard adapter, read back with TensorBoard's own loader."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from tracking_core import RunInfo, open_tracker
from tracking_tensorboard.tags import TagTable, escape, shorten
from tracking_tensorboard.testing import entries, find_run, read_run

HOSTILE = [
    "",
    " ",
    "~",
    "~7e",
    "~41 x",
    "a/b/../c",
    "/leading",
    "späß/損失",
    "new\nline\ttab",
    "nul\0",
    "<b>bold</b>",
    'quo"te',
    "\ud800lone",
    "\udc80\udcff",
    "step",
    "epoch",
    "_hparams_/session_start_info",
    "_hparams_/experiment",
    "_run_/config",
    "_run_/status",
    "tags (epoch)",
    "x" * 100_000,
    "x" * 99_999 + "y",
    "any text",
    " any text",
    "emoji 🎲",
]


def open_run(tmp_path, run=None):
    return open_tracker(f"tensorboard:{tmp_path / 'tb'}", run or RunInfo(id="r", name="r", config={"lr": 0.1}))


def stored(tmp_path):
    return read_run(find_run(tmp_path / "tb", "r"))


def rows(tmp_path):
    return [(row.name, row.axis, row.step, row.value) for row in stored(tmp_path).scalars]


def by_tag(tmp_path):
    """Steps and values by tag, from the accumulator that TensorBoard's own server uses."""
    accumulator = EventAccumulator(str(find_run(tmp_path / "tb", "r")), size_guidance={"tensors": 0}).Reload()
    return {
        tag: [(event.step, event.tensor_proto.float_val[0]) for event in accumulator.Tensors(tag)]
        for tag in accumulator.PluginTagToContent("scalars")
    }, accumulator


def test_epochs_after_larger_steps(tmp_path):
    tracker = open_run(tmp_path)
    for step in (900, 1000):
        tracker.log_scalars({"train/loss": step}, step=step)
    tracker.log_scalars({"val/loss": 0.5, "epoch": 1}, step=1, step_axis="epoch")
    tracker.log_scalars({"val/loss": 0.25, "epoch": 2}, step=2, step_axis="epoch")
    tracker.log_scalars({"train/loss": 1100}, step=1100)
    tracker.finish()
    tags, accumulator = by_tag(tmp_path)
    assert tags == {
        "train/loss": [(900, 900), (1000, 1000), (1100, 1100)],
        "val/loss": [(1, 0.5), (2, 0.25)],
        "epoch": [(1, 1), (2, 2)],
    }
    assert accumulator.SummaryMetadata("val/loss").summary_description == "step axis: epoch"
    assert accumulator.SummaryMetadata("train/loss").summary_description == ""
    assert ("val/loss", "epoch", 1, 0.5) in rows(tmp_path)


def test_repeated_backward_and_negative_steps_are_all_kept(tmp_path):
    steps = [0, 5, 5, 3, -7, 2**63 - 1, -(2**63), 4, 5]
    tracker = open_run(tmp_path)
    for number, step in enumerate(steps):
        tracker.log_scalars({"x": number}, step=step)
    tracker.finish()
    tags, _ = by_tag(tmp_path)
    assert tags["x"] == [(step, float(number)) for number, step in enumerate(steps)]


def test_one_name_on_two_axes(tmp_path):
    tracker = open_run(tmp_path)
    for axis, step in [("step", 100), ("epoch", 1), ("step", 200), ("epoch", 2), ("odd\naxis", 3)]:
        tracker.log_scalars({"loss": step}, step=step, step_axis=axis)
    tracker.log_scalars({"loss (epoch)": 7}, step=7)
    tracker.finish()
    tags, _ = by_tag(tmp_path)
    assert tags == {
        "loss": [(100, 100), (200, 200)],
        "loss (epoch)": [(1, 1), (2, 2)],
        "loss (odd\naxis)": [(3, 3)],
        "loss (epoch) (step)": [(7, 7)],
    }
    assert rows(tmp_path) == [
        ("loss", "step", 100, 100),
        ("loss", "epoch", 1, 1),
        ("loss", "step", 200, 200),
        ("loss", "epoch", 2, 2),
        ("loss", "odd\naxis", 3, 3),
        ("loss (epoch)", "step", 7, 7),
    ]


def test_one_name_for_several_kinds(tmp_path):
    tracker = open_run(tmp_path)
    tracker.log_scalars({"w": 1.0}, step=0)
    tracker.log_histogram("w", [1.0, 2.0, float("nan")], step=0, bins=2)
    tracker.log_text("w", "words", step=0)
    tracker.log_text("w", "epochs", step=0, step_axis="epoch")
    tracker.log_images({"w": [[0.0, 1.0], [1.0, 0.0]]}, step=0)
    tracker.finish()
    found = {entry.tag: entry.plugin for entry in entries(find_run(tmp_path / "tb", "r")) if entry.name == "w"}
    assert found == {
        "w": "scalars",
        "w (histogram)": "histograms",
        "w (nan)": "scalars",
        "w (text)": "text",
        "w (text, epoch)": "text",
        "w (images)": "images",
    }
    everything = stored(tmp_path)
    assert [(text.name, text.axis, text.value) for text in everything.texts] == [
        ("w", "step", "words"),
        ("w", "epoch", "epochs"),
    ]
    assert everything.histograms[0].value.nan == 1


def test_hostile_names_come_back(tmp_path):
    tracker = open_run(tmp_path)
    tracker.log_scalars({name: number for number, name in enumerate(HOSTILE)}, step=0)
    tracker.log_scalars({name: -number for number, name in enumerate(HOSTILE)}, step=1)
    for name in HOSTILE:
        tracker.log_text(name, f"text of {name!r:.20}", step=0)
    tracker.log_config({"later": 1})
    tracker.finish()
    expected = [(name, "step", 0, number) for number, name in enumerate(HOSTILE)]
    expected += [(name, "step", 1, -number) for number, name in enumerate(HOSTILE)]
    assert rows(tmp_path) == expected
    assert [text.name for text in stored(tmp_path).texts] == HOSTILE
    assert stored(tmp_path).config == {"lr": 0.1, "later": 1}
    assert stored(tmp_path).status == "finished"
    every = list(entries(find_run(tmp_path / "tb", "r")))
    hparams = {entry.tag for entry in every if entry.plugin == "hparams"}
    assert hparams == {"_hparams_/session_start_info", "_hparams_/session_end_info"}
    assert max(len(entry.tag) for entry in every) < 420


def test_tags_are_the_same_after_a_restart(tmp_path):
    run = RunInfo(id="r", name="r")
    tracker = open_run(tmp_path, run)
    tracker.log_scalars({"a": 1}, step=1, step_axis="epoch")
    tracker.log_scalars({"a": 2}, step=2)
    tracker.log_histogram("a", [1.0], step=2)
    tracker.finish()
    # The state goes through JSON between two processes.
    again = RunInfo(id="r", name="renamed meanwhile", state=json.loads(json.dumps(run.state)), resumed=True)
    tracker = open_run(tmp_path, again)
    tracker.log_scalars({"a": 3}, step=3)
    tracker.log_scalars({"a": 4}, step=4, step_axis="epoch")
    tracker.log_histogram("a", [1.0], step=5, step_axis="epoch")
    tracker.finish()
    tags, _ = by_tag(tmp_path)
    assert tags == {"a": [(1, 1), (4, 4)], "a (step)": [(2, 2), (3, 3)]}
    assert [(one.name, one.axis, one.step) for one in stored(tmp_path).histograms] == [
        ("a", "step", 2),
        ("a", "epoch", 5),
    ]


@given(st.lists(st.text(st.characters(exclude_categories=[]) | st.sampled_from("~7eE(), ")), min_size=2, max_size=2))
def test_escaping_keeps_names_apart(names):
    one, two = names
    assert (escape(one) == escape(two)) == (one == two)
    escape(one).encode()
    assert (shorten(escape(one)) == shorten(escape(two))) == (one == two)


@given(st.text())
def test_ordinary_names_stay_as_they_are(name):
    if name and "~" not in name:
        assert escape(name) == name


_OWNERS = st.tuples(
    st.sampled_from(["a", "a (epoch)", "a (text)", "a (epoch) (2)", "b"]),
    st.sampled_from(["scalars", "text", "nan"]),
    st.sampled_from(["step", "epoch", "text"]),
)


@given(st.lists(_OWNERS, max_size=40), st.integers(0, 40))
def test_no_two_owners_share_a_tag(owners, restart):
    table, found = TagTable(), {}
    for number, owner in enumerate(owners):
        if number == restart:
            table = TagTable(json.loads(json.dumps(table.saved())))
        tag = table.tag(*owner)
        assert found.setdefault(owner, tag) == tag
        table.mark_described([tag])
    assert len(set(found.values())) == len(found)


def test_a_tag_is_described_once_and_again_when_its_first_event_failed():
    table = TagTable()
    tag = table.tag("x", "video", "epoch")
    assert table.description(tag, "x", "video", "epoch") == "step axis: epoch\n\nkind: video"
    assert table.description(tag, "x", "video", "epoch") is not None
    assert table.saved() == {}
    table.mark_described([tag])
    assert table.description(tag, "x", "video", "epoch") is None
    assert table.saved() == {"x": ["video", "epoch"]}
    assert TagTable(table.saved(), described=False).description(tag, "x", "video", "epoch") is not None


@pytest.mark.parametrize(("axis", "line"), [("my axis.2/x", "my axis.2/x"), (" x", '" x"'), ("\ud800", '"\\ud800"')])
def test_axes_in_descriptions(axis, line):
    table = TagTable()
    assert table.description(table.tag("n", "scalars", axis), "n", "scalars", axis) == f"step axis: {line}"
