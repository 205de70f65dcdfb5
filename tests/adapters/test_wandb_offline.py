"""The W&B adapter with the real client offline, read from the transaction log that `wandb sync` would upload."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import wave
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image as Pillow

import tracking_core as tracking
from tests.support.programs import REPO
from tests.support.wandb_adapter import open_run, open_target, scalar
from tests.support.wandb_client import client_env, wandb_client
from tracking_core.values import Figure, Histogram, Image, Record, Table
from tracking_wandb import names
from tracking_wandb.offline.run import read_offline_run

pytestmark = pytest.mark.system

PIXELS = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
ENVIRONMENT = {
    "program": "/code/train.py",
    "host": "node-7",
    "git": {"commit": "c" * 40, "remote": "https://example.invalid/code.git"},
    "argv": ["/code/train.py", "--lr", "0.1", "--api-key", "[redacted]"],
    "pid": 1,
}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    env = client_env(tmp_path_factory.mktemp("client"))
    with wandb_client(env) as wandb:
        wandb.setup()
        yield SimpleNamespace(env=env, wandb=wandb)


@pytest.fixture(autouse=True)
def _environment(client, monkeypatch):
    for name, value in client.env.items():
        monkeypatch.setenv(name, value)


def read(tracker):
    return read_offline_run(Path(tracker.native.dir).parent)


def plain(row):
    return {key: value for key, value in row.items() if not key.startswith("_")}


def row_of(run, key):
    (row,) = [row for row in run.history if key in row]
    return row


def pixels_of(run, path):
    with Pillow.open(run.files[path]) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def rich(client, tmp_path_factory):
    """One run with everything in it."""
    place = tmp_path_factory.mktemp("rich")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in client.env.items():
            patch.setenv(name, value)
        tracker = open_run(
            place,
            "rich",
            name="a readable name " * 20,
            project="vision/digits: 1",
            config={"lr": 0.1, "model": {"depth": 3, "width": 8}, "_wandb": "mine"},
            tags=("short", "long " * 40, "short", ""),
            group="ablation",
            job_type="train",
            notes="# Notes",
            environment=ENVIRONMENT,
        )
        _log_rows(tracker)
        _log_media(tracker)
        _log_facts(tracker)
        _log_artifacts(tracker, place)
        tracker.finish("failed", error="ValueError: out of range")
        return SimpleNamespace(run=read(tracker), tracker=tracker)


def _log_rows(tracker):
    tracker.log_scalars({"loss": 0.5, "epoch": 1.5, "step": 40.0}, step=100, wall_time=1_600_000_000.25)
    tracker.log_scalars({"loss": 0.25}, step=50, wall_time=1_500_000_000.5)
    tracker.log_scalars({"loss": 0.125}, step=50)
    tracker.log_scalars({"val/loss": 4.0, "epoch": 2.5, "step": 41.0}, step=3, step_axis="epoch")
    numbers = {"nan": math.nan, "inf": -math.inf, "yes": True, "huge": 10**30, "uint64": 2**64 - 1}
    tracker.log_scalars({f"n/{key}": value for key, value in numbers.items()}, step=0)
    odd = {"": 1, "_step": 2, "_mine": 3, "a~b": 4, "nul\0": 5, "\ud800": 6, "*": 7, "a.b": 8, "x" * 2000: 9}
    tracker.log_scalars({f"{key}": value for key, value in odd.items()}, step=7)
    tracker.log_scalars({"star*": 1.0}, step=1, step_axis="odd * axis")


def _log_media(tracker):
    tracker.log_images({"captioned": [Image(PIXELS, "first"), PIXELS[::-1]]}, step=1, wall_time=1.6e9)
    tracker.log_images({"sizes": [PIXELS, PIXELS[:2], PIXELS[::-1]]}, step=1)
    tracker.log_images({"many": np.zeros((110, 2, 2), np.uint8)}, step=1)
    tracker.log_images({"../up/./x": PIXELS, "y" * 300: PIXELS}, step=1)
    tracker.log_histogram("hist", [0.0, 1.0, 1.0, math.nan, math.inf], step=1, bins=2)
    tracker.log_histogram("fine", Histogram(np.arange(1000), np.linspace(0.0, 1.0, 1001)), step=1)
    tracker.log_histogram("weighted", ([0.5, 1.25], [0.0, 1.0, 2.0]), step=1)
    tracker.log_table("table/one", Table(["a", "b"], [[1, "x"], [None, 2.5]]), step=1)
    tracker.log_video("video", np.stack([PIXELS, PIXELS[::-1]]), step=1, fps=4)
    tracker.log_audio("audio", np.array([0.0, 0.5, -1.0]), step=1, sample_rate=8000)
    tracker.log_text("text", "# <Title> & more\n  indented", step=1)
    tracker.log_figure("plotly", Figure.from_plotly('{"data": [{"y": [1, 2]}], "layout": {}}'), step=1)
    tracker.log_figure("picture", Figure(Image(PIXELS).png()), step=1)


def _log_facts(tracker):
    tracker.log_config({"model": {"depth": 4}, "batch": 32})
    tracker.log_summary({"best": 0.1, "loss": 0.01, "_private": 1})
    tracker.log_scalars({"loss": 99.0}, step=200)
    tracker.log_alert("Diverged", "loss is NaN", level="warn")
    tracker.log_alert("t" * 100, level="error")
    assert tracker.use_artifact("digits data:best").name == "digits data"


def _log_artifacts(tracker, place):
    file = place / "weights.bin"
    file.write_bytes(b"before")
    tracker.log_artifact(file, name="weights", type="model", aliases=["best"], metadata={"loss": math.nan, "n": 3})
    file.write_bytes(b"after")
    tracker.log_artifact({"d/a.txt": b"a", "é.txt": b"e"}, name="größe/1", type="job", aliases=["a/b", "v3"])
    tracker.log_artifact({"x": b"x"}, name="facts", metadata={str(n): n for n in range(150)})


# ---- rows


def test_a_row_is_a_call_with_its_step_under_its_axis_and_its_time(rich):
    first, second, third, fourth = rich.run.history[:4]
    assert plain(first) == {"step": 100, "loss": 0.5, "epoch": 1.5, "step~value": 40}
    assert plain(second) == {"step": 50, "loss": 0.25}
    assert plain(third) == {"step": 50, "loss": 0.125}
    assert plain(fourth) == {"epoch": 3, "val/loss": 4, "epoch~value": 2.5, "step": 41}
    assert [row["_timestamp"] for row in (first, second)] == [1_600_000_000.25, 1_500_000_000.5]
    assert abs(third["_timestamp"] - rich.run.start_time) < 60
    assert fourth["_tracking_axis"] == "epoch"
    assert "_tracking_axis" not in first


def test_axes_are_told_with_define_metric(rich):
    by_name = {(metric["name"] or metric["glob"]): metric for metric in rich.run.metrics}
    assert by_name["*"]["step_metric"] == "step"
    # They were logged as numbers, too, so they stay visible.
    assert not by_name["epoch"]["hidden"]
    assert not by_name["step"]["hidden"]
    assert by_name["val/loss"]["step_metric"] == "epoch"
    assert "loss" not in by_name  # the main axis needs no word for each name
    assert not any("*" in (metric["name"] or "") for metric in rich.run.metrics)
    assert not any(metric["step_sync"] for metric in rich.run.metrics)


def test_numbers_of_every_size(rich):
    row = plain(row_of(rich.run, "n/nan"))
    assert math.isnan(row["n/nan"])
    assert row["n/inf"] == -math.inf
    assert row["n/yes"] == 1
    assert row["n/yes"] is not True
    assert row["n/huge"] == 1e30
    assert row["n/uint64"] == float(2**64 - 1)


def test_odd_names_have_keys_of_their_own_and_come_back(rich):
    row = plain(row_of(rich.run, "a.b"))
    cut = next(key for key in row if key.startswith("xxx"))
    by_value = {value: key for key, value in row.items() if key != "step"}
    keys = ["~", "~5fstep", "~5fmine", "a~7eb", "nul~00", "~ed~a0~80", "*", "a.b", cut]
    assert by_value == dict(enumerate(keys, start=1))
    assert len(cut) == 1000
    assert rich.run.config["_tracking"]["names"][cut] == "x" * 2000
    assert row_of(rich.run, "star*")["_tracking_axis"] == "odd * axis"


def test_rows_of_the_journal_say_which_record_they_are(client, tmp_path):
    tracker = open_run(tmp_path, "numbered")
    tracker.deliver([scalar(1), scalar(2, writer="w2"), Record("config", 3, "w1", 0.0, data={"late": True})])
    tracker.deliver([])
    tracker.finish()
    run = read(tracker)
    told = [(row["_tracking_seq"], row["_tracking_writer"], row["step"], row["_timestamp"]) for row in run.history]
    assert told == [(1, "w1", 10, 1.7e9 + 1), (2, "w2", 20, 1.7e9 + 2)]
    assert run.config == {"late": True}
    assert [(metric["name"], metric["hidden"]) for metric in run.metrics] == [("step", True), (None, False)]


def joined_rows(run):
    own = ("_tracking_first", "_tracking_seq", "_tracking_writer", "step", "epoch", "_timestamp")
    return [
        (row.get("_tracking_first"), row["_tracking_seq"], {key for key in row if key[0] != "_" and key not in own})
        for row in run.history
    ]


def test_scalars_of_one_step_that_come_one_key_at_a_time_are_one_row(client, tmp_path):
    tracker = open_run(tmp_path, "joined")
    at = {"step": 5}
    tracker.deliver([scalar(1, data={"a": 1}, **at), scalar(2, data={"b": 2, "c": 3}, **at)])
    assert tracker.gathering
    # The next batch goes on where the one before ended.
    tracker.deliver([scalar(3, data={"d": 4}, **at)])
    tracker.flush()
    assert not tracker.gathering
    ends = [
        scalar(4, data={"e": 5}, **at),  # a flush ends a row
        scalar(5, data={"e": 6}, **at),  # a key that is there
        scalar(6, data={"f": 7}, step=6),  # another step
        scalar(7, data={"g": 8}, step=6, axis="epoch"),  # another axis
        scalar(8, data={"h": 9}, step=6, axis="epoch", writer="w2"),  # another writer
        scalar(10, data={"i": 10}, step=6, axis="epoch", writer="w2"),  # a record that the target does not get
        Record("text", 11, "w2", 0.0, step=6, axis="epoch", data={"name": "t", "value": "x"}),  # another kind
        scalar(12, data={"j": 11}, step=6, axis="epoch", writer="w2"),
        Record("config", 13, "w2", 0.0, data={"late": True}),
        scalar(14, data={"k": 12}, step=6, axis="epoch", writer="w2"),
        scalar(
            3, data={"l": 13}, step=6, axis="epoch", writer="w2", again=True
        ),  # what failed before is looked for alone
        scalar(4, data={"m": 14}, step=6, axis="epoch", writer="w2", again=True),
    ]
    tracker.deliver(ends)
    tracker.finish()
    run = read(tracker)
    assert joined_rows(run) == [
        (1, 3, {"a", "b", "c", "d"}),
        *((None, seq, {key}) for seq, key in zip((4, 5, 6, 7, 8, 10), "eefghi", strict=True)),
        (None, 11, {"t"}),
        *((None, seq, {key}) for seq, key in zip((12, 14, 3, 4), "jklm", strict=True)),
    ]
    # The time of the first record, and no row without a number.
    assert run.history[0]["_timestamp"] == 1.7e9 + 1
    assert tracker._session.info.state["sent"] == {"w1": 7, "w2": 14}


def test_a_row_is_open_for_a_second_and_for_so_many_keys(client, tmp_path, monkeypatch):
    tracker = open_run(tmp_path, "bounded")
    monkeypatch.setattr("tracking_wandb.joining.MOST_KEYS", 3)
    now = [1000.0]
    monkeypatch.setattr("tracking_wandb.joining.time", SimpleNamespace(monotonic=lambda: now[0]))
    for seq, seconds in enumerate((0.0, 0.5, 0.4, 0.05, 0.99, 0.02), start=1):
        now[0] += seconds
        tracker.deliver([scalar(seq, step=0, data={f"k{seq}": seq})])
    assert tracker.gathering
    now[0] += 1.0
    assert not tracker.gathering
    tracker.finish()
    assert [row[:2] for row in joined_rows(read(tracker))] == [(1, 3), (4, 5), (None, 6)]


def test_a_row_that_cannot_be_logged_fails_its_own_records(client, tmp_path, monkeypatch):
    """The record that ends it is not to blame."""
    tracker = open_run(tmp_path, "refusing")
    real = tracker.native.log

    def log(row):
        if "b" in row:
            raise ValueError("no b")
        real(row)

    monkeypatch.setattr(tracker.native, "log", log)
    tracker.deliver([scalar(1, step=0, data={"a": 1}), scalar(2, step=0, data={"b": 1}), scalar(3)])
    for seq in (1, 2):
        with pytest.raises(tracking.Rejected, match="no b") as caught:
            tracker.flush()
        assert caught.value.record == ("w1", seq)
    tracker.flush()
    tracker.finish()
    assert [row["_tracking_seq"] for row in read(tracker).history] == [3]


def test_a_row_waits_for_a_client_that_does_not_answer(client, tmp_path, monkeypatch):
    tracker = open_run(tmp_path, "waiting")
    real, faults = tracker.native.log, [TimeoutError("no answer")] * 2

    def log(row):
        if faults:
            raise faults.pop()
        real(row)

    monkeypatch.setattr(tracker.native, "log", log)
    records = [scalar(1, step=0, data={"a": 1}), scalar(2, step=0, data={"b": 1}), scalar(3), scalar(4)]
    with pytest.raises(tracking.BatchInterrupted) as caught:
        tracker.deliver(records)
    assert caught.value.taken == 2
    assert tracker._session.info.state.get("sent", {}) == {}
    with pytest.raises(tracking.RetryLater, match="no answer"):
        tracker.flush()
    tracker.deliver(records[2:])
    faults.append(TimeoutError("no answer"))
    # The client's run is finished; whoever delivers keeps the cursor before the row that it did not take.
    for _ in range(2):
        with pytest.raises(tracking.RetryLater, match="no answer"):
            tracker.finish()
    rows = read(tracker).history
    assert [(row.get("_tracking_first"), row["_tracking_seq"]) for row in rows] == [(1, 2), (None, 3)]
    assert read(tracker).exit_code == 0
    assert tracker._session.info.state["sent"] == {"w1": 3}


# ---- media


def test_images_with_captions_are_one_list_under_their_key(rich):
    row = row_of(rich.run, "captioned")
    value = row["captioned"]
    assert (value["_type"], value["count"], value["captions"]) == ("images/separated", 2, ["first", ""])
    assert row["_timestamp"] == 1.6e9
    for path, expected in zip(value["filenames"], (PIXELS, PIXELS[::-1]), strict=True):
        np.testing.assert_array_equal(pixels_of(rich.run, path), expected)


def test_images_of_other_sizes_or_beyond_108_get_further_keys(rich):
    row = row_of(rich.run, "sizes")
    assert (row["sizes"]["count"], row["sizes~part2"]["count"]) == (2, 1)
    assert json.loads(row["_tracking_order"]) == {"sizes": [0, 1, 0]}
    np.testing.assert_array_equal(pixels_of(rich.run, row["sizes~part2"]["filenames"][0]), PIXELS[:2])
    row = row_of(rich.run, "many")
    assert [row[key]["count"] for key in ("many", "many~part2")] == [108, 2]
    assert "_tracking_order" not in row


def test_media_stay_inside_the_folder_of_the_run(rich):
    row = row_of(rich.run, "~2e~2e/up/~2e/x")
    (cut,) = [key for key in row if key.startswith("yyy")]
    assert rich.run.config["_tracking"]["names"][cut] == "y" * 300
    files = Path(rich.tracker.native.dir)
    for key in ("~2e~2e/up/~2e/x", cut):
        (path,) = row[key]["filenames"]
        assert (files / path).resolve().is_relative_to(files.resolve())
        np.testing.assert_array_equal(pixels_of(rich.run, path), PIXELS)


def test_histograms(rich):
    row = row_of(rich.run, "hist")
    assert row["hist"] == {"_type": "histogram", "values": [1, 2], "bins": [0, 0.5, 1]}
    assert row["hist/nonfinite"] == 2
    assert row["_tracking_histogram"][:5] == [1, 1, 0, 0, 1]
    joined = row_of(rich.run, "fine")["fine"]
    assert len(joined["values"]) == 500
    assert joined["values"][:2] == [0 + 1, 2 + 3]
    assert sum(joined["values"]) == sum(range(1000))
    assert (joined["bins"][0], joined["bins"][-1]) == (0, 1)
    assert row_of(rich.run, "weighted")["weighted"]["values"] == [0.5, 1.25]
    assert "weighted/nonfinite" not in row_of(rich.run, "weighted")


def test_tables_video_audio_text_and_figures(rich):
    def file(key):
        return rich.run.files[row_of(rich.run, key)[key]["path"]]

    assert json.loads(file("table/one").read_text()) == {"columns": ["a", "b"], "data": [[1, "x"], [None, 2.5]]}
    assert any(artifact.type == "run_table" for artifact in rich.run.artifacts)
    with Pillow.open(file("video")) as clip:
        assert (clip.format, clip.n_frames, clip.size) == ("GIF", 2, (4, 5))
    with wave.open(str(file("audio"))) as sound:
        assert (sound.getframerate(), sound.getnframes()) == (8000, 3)
        assert np.frombuffer(sound.readframes(3), "<i2").tolist() == [0, 16384, -32767]
    page = file("text").read_text()
    assert "&lt;Title&gt; &amp; more\n  indented</pre>" in page
    assert json.loads(file("plotly").read_text())["data"] == [{"y": [1, 2]}]
    assert row_of(rich.run, "picture")["picture"]["_type"] == "image-file"
    with Pillow.open(file("picture")) as image:
        np.testing.assert_array_equal(np.asarray(image), PIXELS)


def test_a_video_that_wandb_does_not_play_becomes_an_artifact(client, tmp_path):
    (tmp_path / "clip.avi").write_bytes(b"RIFF")
    tracker = open_run(tmp_path, "clip")
    tracker.log_video("clip", tmp_path / "clip.avi", step=3)
    tracker.finish()
    (artifact,) = read(tracker).artifacts
    assert (artifact.name, artifact.type) == ("clip-step-3", "video")
    assert artifact.entries[0].local_path.read_bytes() == b"RIFF"


# ---- what belongs to the run


def test_identity_and_place_of_the_run(rich):
    run = rich.run
    assert (run.id, run.group, run.job_type, run.notes) == ("rich", "ablation", "train", "# Notes")
    assert run.project == "vision__x2fdigits__x3a 1"
    assert run.config["_tracking"]["project"] == "vision/digits: 1"
    assert len(run.display_name) == 128
    assert run.display_name.startswith("a readable name a readable name")
    short, cut = run.tags
    assert (short, len(cut), cut[:10]) == ("short", 64, "long long ")
    assert (run.program, run.host) == ("/code/train.py", "node-7")
    assert run.git == ENVIRONMENT["git"]
    assert (run.exit_code, run.complete) == (1, True)


def test_the_command_line_is_the_recorded_one(client, tmp_path, monkeypatch):
    """The training's, in which secrets are blacked out; not that of the process which delivers."""
    monkeypatch.setattr(sys, "argv", ["deliverer", "--argument-of-the-deliverer"])
    before = list(sys.argv)
    tracker = open_run(tmp_path, "argv", environment=ENVIRONMENT)
    tracker.finish()
    assert sys.argv == before
    log = (Path(tracker.native.dir).parent / "run-argv.wandb").read_bytes()
    assert b"[redacted]" in log
    assert before[-1].encode() not in log


def test_config_is_merged_and_the_summary_holds(rich):
    config = dict(rich.run.config)
    own = config.pop("_tracking")
    assert config == {"lr": 0.1, "model": {"depth": 4, "width": 8}, "~5fwandb": "mine", "batch": 32}
    assert own["used_artifacts"] == ["digits__x20data:best"]
    summary = rich.run.summary
    assert (summary["best"], summary["loss"], summary["~5fprivate"]) == (0.1, 0.01, 1)
    assert summary["val/loss"] == 4
    assert summary["tracking/error"] == "ValueError: out of range"


def test_alerts(rich):
    first, second = rich.run.alerts
    assert (first.title, first.text, first.level) == ("Diverged", "loss is NaN", "WARN")
    assert (len(second.title), second.text, second.level) == (63, "t" * 100, "ERROR")
    with pytest.raises(tracking.InvalidValueError, match="info, warn or error"):
        rich.tracker.log_alert("x", level="fatal")


def test_artifacts(rich):
    weights, odd, facts = [one for one in rich.run.artifacts if one.type != "run_table"]
    assert (weights.name, weights.type, weights.aliases) == ("weights", "model", ("best", "latest"))
    assert weights.metadata == {"loss": "NaN", "n": 3}
    # The file was changed after it was logged.
    assert [(entry.path, entry.local_path.read_bytes()) for entry in weights.entries] == [("weights.bin", b"before")]
    assert odd.name == "gr__xc3__xb6__xc3__x9fe__x2f1"
    assert odd.metadata["_tracking"] == {"name": "größe/1", "type": "job", "aliases": ["a/b", "v3"]}
    assert sorted(odd.aliases) == ["__x763", "a__x2fb", "latest"]
    assert {entry.path: entry.local_path.read_bytes() for entry in odd.entries} == {"d/a.txt": b"a", "é.txt": b"e"}
    assert facts.metadata["metadata"]["149"] == 149


@pytest.mark.parametrize(("status", "code"), [("finished", 0), ("failed", 1), ("interrupted", 130), ("preempted", 143)])
def test_exit_codes(client, tmp_path, status, code):
    tracker = open_run(tmp_path, status)
    tracker.finish(status)
    run = read(tracker)
    assert (run.exit_code, run.preempting, run.complete) == (code, status == "preempted", True)


# ---- lives of a run


def test_several_runs_at_once_leave_the_user_alone(client, tmp_path, monkeypatch):
    first = open_run(tmp_path, "run0")
    assert client.wandb.run is None
    mine = client.wandb.init(mode="offline", dir=tmp_path / "mine", settings=client.wandb.Settings(console="off"))
    assert mine is not first.native
    trackers = [first, *(open_run(tmp_path, f"run{number}") for number in (1, 2))]
    for step in range(4):
        for number, tracker in enumerate(trackers):
            tracker.log_scalars({f"x{number}": step}, step=step)
    assert client.wandb.run is mine
    for tracker in trackers:
        tracker.finish()
    assert client.wandb.run is mine
    mine.finish()
    assert client.wandb.run is None
    for number, tracker in enumerate(trackers):
        assert [plain(row) for row in read(tracker).history] == [{"step": s, f"x{number}": s} for s in range(4)]


def test_one_run_is_open_once(client, tmp_path):
    tracker = open_run(tmp_path, "once")
    with pytest.raises(tracking.SettingsError, match="'once' is already open in this process"):
        open_run(tmp_path / "elsewhere", "once")
    tracker.finish()
    open_run(tmp_path / "elsewhere", "once").finish()


def test_after_the_end_everything_is_refused(client, tmp_path):
    tracker = open_run(tmp_path, "ended")
    tracker.log_scalars({"a": 1}, step=0)
    tracker.finish()
    tracker.finish("failed")
    for call in (
        lambda: tracker.log_scalars({"a": 1}, step=1),
        lambda: tracker.log_config({"a": 1}),
        lambda: tracker.log_artifact({"a": b""}, name="a"),
        lambda: tracker.flush(),
    ):
        with pytest.raises(tracking.Rejected, match="'ended' is finished"):
            call()
    run = read(tracker)
    assert (len(run.history), run.exit_code) == (1, 0)


def test_a_run_that_is_opened_again_is_written_anew(client, tmp_path):
    state: dict = {}
    first = open_run(tmp_path, "again", state=state)
    assert first.confirmed is None
    first.deliver([scalar(1), scalar(2)])
    first.finish("interrupted")
    old = Path(state["dir"])

    state = json.loads(json.dumps(state))
    second = open_run(tmp_path, "again", state=state, resumed=True)
    assert second.confirmed == {}
    # Only whoever delivers again replaces what is there.
    assert read_offline_run(old).exit_code == 130
    second.deliver([scalar(1), scalar(2)])
    assert not old.exists()
    second.deliver([scalar(3)])
    second.finish()
    (log,) = tmp_path.rglob("run-again.wandb")
    run = read_offline_run(log)
    assert [row["_tracking_seq"] for row in run.history] == [1, 2, 3]
    assert run.exit_code == 0


def test_what_a_crash_left_is_replaced_although_its_state_was_lost(client, tmp_path):
    open_run(tmp_path, "lost").finish()
    foreign = tmp_path / "wandb" / "offline-run-20200101_000000-lost"
    foreign.mkdir()
    tracker = open_run(tmp_path, "lost")
    assert tracker.confirmed is None
    tracker.deliver([scalar(1)])
    tracker.finish()
    # What another program wrote under this id stays.
    assert foreign.exists()
    (log,) = tmp_path.rglob("run-lost.wandb")
    assert len(read_offline_run(log).history) == 1


def test_a_batch_tells_how_far_it_came(client, tmp_path):
    tracker = open_run(tmp_path, "batch")
    bad = Record("images", 2, "w1", 0.0, step=0, data={"x": [Image(np.zeros((3, 2, 2)))]})
    with pytest.raises(tracking.BatchInterrupted) as caught:
        tracker.deliver([scalar(1), bad, scalar(3)])
    assert caught.value.taken == 1
    assert isinstance(caught.value.__cause__, tracking.InvalidValueError)
    tracker.deliver([scalar(3)])
    tracker.finish()
    assert [row["_tracking_seq"] for row in read(tracker).history] == [1, 3]


_KILLED = """
import os, signal, sys
from pathlib import Path
from tests.support.wandb_adapter import open_run

def children():
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                yield int(process.name)
        except OSError:
            pass

tracker = open_run(Path(sys.argv[1]), "killed")
for step in range(60):
    tracker.log_scalars({"x": step}, step=step)
tracker.flush()
for child in children():
    os.kill(child, signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_flushed_survives_a_kill(client, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path)],
        cwd=REPO, env={**os.environ, **client.env}, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    (log,) = tmp_path.rglob("run-killed.wandb")
    run = read_offline_run(log)
    assert [row["x"] for row in run.history] == list(range(60))
    assert not run.complete


def test_disabled_records_nothing(client, tmp_path):
    tracker = open_run(tmp_path, "off", "mode=disabled")
    tracker.log_scalars({"a": 1}, step=0)
    tracker.log_table("t", {"a": [1]}, step=0)
    tracker.finish()
    assert tracker.url is None
    assert tracker.native.disabled
    assert not list(tmp_path.rglob("*.wandb"))


# ---- targets


def test_the_place_of_a_run(client, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_DIR")
    run = tracking.RunInfo(id="here", name="here", dir=tmp_path / "runs" / "here")
    tracker = open_target("wandb://team/from-target?mode=offline&system_metrics=off", run)
    tracker.finish()
    assert tracker.url is None
    (log,) = (tmp_path / "runs" / "here" / "wandb").glob("offline-run-*/run-here.wandb")
    found = read_offline_run(log)
    assert (found.entity, found.project) == ("team", "from-target")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("wandb://?mode=ofline", "expected online, offline or disabled"),
        ("wandb://?console=loud", "expected off, auto, redirect or wrap"),
        ("wandb://?system_metrics=maybe", "expected on or off"),
        ("wandb://?finish_timeout=-1", "positive number of seconds"),
        ("wandb://?base_url=ftp://x", "https://wandb.example.org"),
        ("wandb://a/b?project=c", "names the project twice"),
        ("wandb://a/b/c", "more than an entity and a project"),
        ("wandb://?moed=offline", "did you mean 'mode'"),
    ],
)
def test_mistakes_in_targets(client, target, message):
    with pytest.raises(tracking.SettingsError, match=message.replace("?", r"\?")):
        open_target(target, tracking.RunInfo(id="x", name="x"))


def test_without_a_key_nobody_is_asked_for_one(client, tmp_path, monkeypatch):
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(tracking.SettingsError, match=r"no API key.*wandb login.*mode=offline"):
        open_run(tmp_path, "keyless", "mode=online&base_url=http://127.0.0.1:1")


def test_keys_are_one_to_one():
    odd = [
        "",
        "~",
        "_",
        "~5f",
        "_a",
        "~5fa",
        "a~value",
        "a~part2",
        "a~z",
        "\0",
        "~00",
        "\udcff",
        "~ed~b3~bf",
        "x" * 1500,
    ]
    odd += ["x" * 1500 + "y", "é" * 900, ".", "~2e", "/a", "~2fa"]
    for encode in (names.metric_key, names.media_key):
        keys = [encode(name) for name in odd]
        assert len(set(keys)) == len(odd)
        for key in keys:
            key.encode()
            assert not key.startswith("_")
            assert not names.is_cut(key) or key.count("~z") == 1
    assert max(len(part.encode()) for name in odd for part in names.media_key(name).split("/")) <= 150
