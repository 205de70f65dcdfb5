"""W&B's offline directories, of the bare client and of our adapter, come into the run store."""

from __future__ import annotations

import importlib
import json
import math
import shutil
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner

import tracking_core as tracking
from tests.support.logged import log_everything, pixels
from tests.support.wandb_adapter import LEAN
from tests.support.wandb_client import client_env, lean_settings, wandb_client
from tracking_core.cli.app import app
from tracking_core.transfer import import_runs
from tracking_wandb.offline.transaction_log import BLOCK, MAGIC

T0 = 1_600_000_000.0


class Recorded(NamedTuple):
    root: Path
    cut: Path


def imported(source, root="store", **options):
    done = list(import_runs(source, root=root, **options))
    return done, {one.run: tracking.open_store(root).run(one.run) for one in done}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Three runs of the real client: one with everything, one with `_step` alone, one that never ended."""
    place = tmp_path_factory.mktemp("wandb")
    with wandb_client(client_env(place)) as wandb:
        run = wandb.init(
            project="proj", id="rich", name="the name", notes="some notes", tags=["one", "two"], group="g",
            job_type="train", config={"lr": 0.1, "net": {"width": 8}}, reinit="create_new", settings=lean_settings(),
        )  # fmt: skip
        run.define_metric("epoch", hidden=True)
        run.define_metric("val/*", step_metric="epoch")
        run.define_metric("best", step_metric="epoch", summary="min")
        run.config.update({"late": True})
        for step in range(5):
            run.log({"train/loss": 1 / (step + 1), "nested": {"a": step}, "_timestamp": T0 + step})
        run.log({"epoch": 1, "val/acc": 0.5, "best": 3.0, "train/loss": 0.125, "_timestamp": T0 + 10})
        run.log({"epoch": 2, "val/acc": float("nan"), "best": 2.0, "_timestamp": T0 + 20})
        run.log({"epoch": 2.5, "val/acc": 0.75, "_timestamp": T0 + 30})
        run.log({"text": "words", "flag": True, "_mine": 5, "_timestamp": T0 + 40})
        sound = place / "tone.wav"
        sound.write_bytes(tracking.Audio(np.arange(64, dtype=np.int16), 8000).wav())
        clip = place / "clip.gif"
        clip.write_bytes(
            tracking.Video(
                np.zeros((3, 4, 4, 3), np.uint8) + np.arange(3, dtype=np.uint8)[:, None, None, None], fps=5
            ).gif()
        )
        run.log({
            "image": wandb.Image(pixels(), caption="a caption"),
            "several": [wandb.Image(pixels()), wandb.Image(pixels() // 2)],
            "hist": wandb.Histogram(np_histogram=([1, 2, 3], [0.0, 1.0, 2.0, 4.0])),
            "table": wandb.Table(columns=["a", "b"], data=[[1, "x"], [2, None]]),
            "page": wandb.Html("<b>page</b>", inject=False),
            "sound": wandb.Audio(str(sound), sample_rate=8000),
            "clip": wandb.Video(str(clip), format="gif"),
            "tones": [wandb.Audio(str(sound), caption="c"), wandb.Audio(str(sound))],
            "cells": wandb.Table(columns=["i"], data=[[wandb.Image(pixels())]]),
            "numbers": [1, 2, 3],
            "_timestamp": T0 + 50,
        })  # fmt: skip
        run.summary["chosen"] = {"deep": 7}
        artifact = wandb.Artifact("data", type="dataset", metadata={"rows": 3})
        content = place / "content.bin"
        content.write_bytes(b"content of the artifact")
        artifact.add_file(str(content), name="sub/content.bin")
        run.log_artifact(artifact, aliases=["good"])
        run.alert("attention", text="something", level="WARN")
        run.finish(exit_code=1)
        plain = wandb.init(project="proj", id="plain", reinit="create_new", settings=lean_settings())
        for step in range(3):
            plain.log({"step": 100 * step, "a": step}, step=step * 2)
        plain.finish()
    (folder,) = (place / "runs" / "wandb").glob("offline-run-*-rich")
    # A client that was killed: the log of the same run, without its end.
    cut = place / "cut" / folder.name
    cut.mkdir(parents=True)
    log = (folder / "run-rich.wandb").read_bytes()
    (cut / "run-rich.wandb").write_bytes(log[: len(log) - 30])
    return Recorded(place / "runs", place / "cut")


@pytest.fixture
def rich(recorded):
    done, records = imported(recorded.root)
    by_name = {one.name: one for one in done}
    return by_name["the name"], records[by_name["the name"].run]


def rows(record, name, axis=None):
    series = record.scalars(name, axis)
    return list(zip(series.step.tolist(), series.time.tolist(), series.value.tolist(), strict=True))


def test_what_the_run_is(rich):
    done, record = rich
    assert (record.project, record.tags, record.group, record.job_type) == ("proj", ("one", "two"), "g", "train")
    assert (record.notes, record.status) == ("some notes", "failed")
    assert record.config == {"lr": 0.1, "net": {"width": 8}, "late": True}
    assert sorted(done.problems) == [
        "epoch: as the axis of 'val/acc' it is 2.5, which is not a whole number; such rows use W&B's own step",
        "numbers: a value of the type list is not read",
        "run-rich-cells: media in the cells of this table are not read",
    ]


def test_scalars_have_their_axes_and_times(rich):
    _, record = rich
    losses = [(step, T0 + step, 1 / (step + 1)) for step in range(5)]
    assert rows(record, "train/loss") == [*losses, (5, T0 + 10, 0.125)]
    assert rows(record, "nested.a", "step") == [(step, T0 + step, float(step)) for step in range(5)]
    assert rows(record, "val/acc", "epoch")[0] == (1, T0 + 10, 0.5)
    assert math.isnan(rows(record, "val/acc", "epoch")[1][2])
    assert rows(record, "val/acc", "step") == [(7, T0 + 30, 0.75)]
    assert rows(record, "epoch", "step") == [(7, T0 + 30, 2.5)]
    assert rows(record, "best", "epoch") == [(1, T0 + 10, 3.0), (2, T0 + 20, 2.0)]
    assert rows(record, "_mine") == [(8, T0 + 40, 5.0)]
    assert rows(record, "flag") == [(8, T0 + 40, 1.0)]
    assert record.media("text", "text") == [(8, "words")]


def test_media_come_with_their_content(rich):
    _, record = rich
    ((step, (image,)),) = record.images("image")
    assert (step, image.caption, np.array_equal(image.pixels, pixels())) == (9, "a caption", True)
    ((_, several),) = record.images("several")
    assert [np.array_equal(i.pixels, p) for i, p in zip(several, (pixels(), pixels() // 2), strict=True)] == [
        True,
        True,
    ]
    ((_, histogram),) = record.histograms("hist")
    assert (histogram.counts.tolist(), histogram.edges.tolist()) == ([1, 2, 3], [0.0, 1.0, 2.0, 4.0])
    assert record.tables("table") == [(9, tracking.Table(["a", "b"], [[1, "x"], [2, None]]))]
    assert record.media("html", "page") == [(9, "<b>page</b>")]
    ((_, sound),) = record.media("audio", "sound")
    assert (sound.samples[:, 0].tolist(), sound.sample_rate) == (list(range(64)), 8000)
    tones = record.media("audio", "tones")
    assert [(step, tone.caption, tone.samples.shape) for step, tone in tones] == [(9, "c", (64, 1)), (9, None, (64, 1))]
    ((_, clip),) = record.media("video", "clip")
    assert (clip.format, clip.fps, clip.encoded[:4]) == ("gif", 5.0, b"GIF8")
    assert {r.time for r in record.records() if r.kind in {"images", "table", "audio", "video"}} == {T0 + 50}


def test_summary_artifacts_and_alerts(rich):
    _, record = rich
    summary = record.summary()
    assert (summary["chosen.deep"], summary["best.min"], summary["train/loss"]) == (7, 2.0, 0.125)
    (version,) = record.artifacts()
    # What has no time of its own has that of the last row.
    assert {r.time for r in record.records() if r.kind in {"summary", "alert", "artifact"}} == {T0 + 50}
    assert (version.ref.name, version.ref.type, version.ref.aliases) == ("data", "dataset", ("good",))
    assert version.metadata == {"rows": 3}
    assert version.read("sub/content.bin") == b"content of the artifact"
    assert [alert[1:] for alert in record.alerts()] == [("attention", "something", "warn")]


def test_the_clients_own_step_and_a_metric_called_step(recorded):
    done, records = imported(recorded.root)
    (record,) = [one for one in records.values() if one.id.startswith("wandb-plain")]
    assert rows(record, "a")[0][0] == 0
    assert record.scalars("a").step.tolist() == [0, 2, 4]
    assert record.scalars("step").value.tolist() == [0.0, 100.0, 200.0]
    assert record.status == "finished"


def test_several_directories_at_once_and_again(recorded):
    arguments = [str(path) for path in sorted((recorded.root / "wandb").glob("offline-run-*"))]
    assert len(arguments) == 2
    first = CliRunner().invoke(app, ["import", *arguments, "--root", "store", "--json"])
    assert first.exit_code == 0, first.output
    runs = json.loads(first.stdout)["runs"]
    assert sorted(run["run"].rpartition("-")[0] for run in runs) == ["wandb-plain", "wandb-rich"]
    again = CliRunner().invoke(app, ["import", str(recorded.root), "--root", "store", "--json"])
    assert [(run["run"], run["there"]) for run in json.loads(again.stdout)["runs"]] == [
        (run["run"], True) for run in sorted(runs, key=lambda run: run["source"])
    ]


def test_a_run_without_an_end_is_crashed(recorded):
    done, records = imported(recorded.cut)
    (record,) = records.values()
    assert record.status == "crashed"
    assert record.scalars("train/loss").step.tolist() == list(range(6))
    assert any("is torn at byte" in problem for problem in done[0].problems)
    assert any("'media/" in problem or "media" in problem for problem in done[0].problems)


def test_a_link_out_of_the_directory_is_not_followed(recorded, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (folder,) = (recorded.root / "wandb").glob("offline-run-*-rich")
    copy = tmp_path / "w" / folder.name
    shutil.copytree(folder, copy)
    (page,) = copy.glob("files/media/html/*.html")
    page.unlink()
    page.symlink_to(secret)
    done, records = imported(tmp_path / "w")
    assert any("is a link to another place" in problem for problem in done[0].problems)
    assert "page" not in records[done[0].run].names("html")


def test_a_file_that_is_not_the_artifacts_is_not_taken(recorded, tmp_path):
    """A log may come from anybody: it must not make us copy any file of this machine."""
    from tracking_wandb.offline import importing
    from tracking_wandb.offline.importing import runs
    from tracking_wandb.offline.run import OfflineArtifact, OfflineArtifactEntry

    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (foreign, *_) = [run for run in runs(recorded.root) if run.id == "rich"]
    entry = OfflineArtifactEntry("a", "bm90IGl0cyBkaWdlc3Q=", 6, None, secret)
    artifact = OfflineArtifact("x", "file", (), (), None, {}, "", (entry,))
    reader = importing._WandbRun.__new__(importing._WandbRun)
    reader._names, reader._problems, reader._ended = None, [], 0.0
    assert list(reader._artifact(artifact)) == []
    assert "not on this machine: 1 of 1" in reader._problems[0]


# ---------------------------------------------------------------- our own runs there and back


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    place = tmp_path_factory.mktemp("ours")
    with wandb_client(client_env(place)), tracking.start_run(
        "proj: ä", name="ours", root=place / "runs", backends=f"wandb://?mode=offline&dir={place / 'w'}&{LEAN}",
        config={"lr": 0.1, "net": {"width": 8}, "_wandb": 1}, tags=["a", "b"], group="g", job_type="train",
        notes="notes", delivery="thread",
    ) as run:  # fmt: skip
        log_everything(run)
        run.log_scalars({"_hidden": 1.0, "n" * 1200: 2.0, "epoch": 3.0}, step=2, step_axis="epoch")
        run.log_images({"mixed": [pixels(), pixels(8, 8), pixels()]}, step=11)
        run.log_html("like text", '<pre style="white-space: pre-wrap">\n<b>bold</b></pre>', step=11)
        (place / "page.html").write_text("of somebody else")
        run.log_html("like a path", str(place / "page.html"), step=11)
        run.log_artifact({"f.txt": b"x"}, name="data ü", metadata={"a": 1}, aliases=["good"])
        run.log_alert("title", "text", level="error")
        run.use_artifact("other:v3")
    original = tracking.open_store(place / "runs").run(run.id)
    done, records = imported(place / "w", root=place / "store")
    assert len(done) == 1
    return done[0], records[done[0].run], original


@pytest.mark.system
def test_our_own_run_comes_back_from_offline_directories(ours):
    done, record, original = ours
    assert done.problems == ()
    for field in ("name", "project", "config", "tags", "group", "job_type", "notes", "status"):
        assert getattr(record, field) == getattr(original, field), field
    assert record.started == pytest.approx(original.started, abs=5)
    assert record.scalar_names() == original.scalar_names()


def test_our_own_records_come_back_one_for_one(ours):
    _, record, original = ours

    def told(run):
        found = []
        for r in run.records():
            if r.kind == "scalars":
                data = {name: repr(float(value)) for name, value in r.data.items()}
            elif r.kind == "images":
                data = {name: [(i.caption, i.pixels.tolist()) for i in images] for name, images in r.data.items()}
            elif r.kind == "video":
                data = r.data["value"].gif()
            elif r.kind in {"artifact", "use_artifact", "config", "summary", "alert"}:
                continue
            else:
                data = (r.data["name"], r.data["value"])
            found.append((r.kind, r.axis, r.step, round(r.time, 3), data))
        return found

    assert told(record) == told(original)


def test_our_own_artifacts_summary_and_alerts_come_back(ours):
    _, record, original = ours
    (ours_version,), (theirs,) = record.artifacts(), original.artifacts()
    assert (ours_version.ref.name, ours_version.ref.digest) == (theirs.ref.name, theirs.ref.digest)
    assert (ours_version.metadata, ours_version.ref.aliases) == ({"a": 1}, ("good",))
    assert [alert[1:] for alert in record.alerts()] == [alert[1:] for alert in original.alerts()]
    assert [ref.name for ref in record.used_artifacts()] == ["other"]
    theirs = {name: value for name, value in original.summary().items() if value == value}
    assert {name: value for name, value in record.summary().items() if value == value} == theirs


# ---------------------------------------------------------------- logs that nobody expects


def message(**fields):
    return importlib.import_module("wandb.proto.wandb_internal_pb2").Record(**fields)


def about(run_id, config=(), start=1_600_000_000, **fields):
    record = message(run={"run_id": run_id, "project": "p", **fields})
    record.run.start_time.seconds = start
    for key, value in config:
        item = record.run.config.update.add()
        item.key, item.value_json = key, value
    return record


def row(step, **values):
    record = message(history={"step": {"num": step}})
    for key, value in values.items():
        item = record.history.item.add()
        item.nested_key.append(key)
        item.value_json = value
    return record


def written(tmp_path, run_id, *records):
    """A log as a client would have written it; each record is shorter than a block."""
    content = bytearray(MAGIC)
    for record in records:
        data = record.SerializeToString()
        assert len(content) + len(data) < BLOCK
        content += struct.pack("<IHB", zlib.crc32(data, zlib.crc32(b"\1")), len(data), 1) + data
    folder = tmp_path / "logs" / f"offline-run-20200913_122640-{run_id}"
    folder.mkdir(parents=True)
    (folder / f"run-{run_id}.wandb").write_bytes(content)
    return tmp_path / "logs"


def end(code=0):
    return message(exit={"exit_code": code})


def single(logs):
    done, records = imported(logs)
    (one,) = done
    assert one.error is None
    return one, records[one.run]


def imported_errors(logs):
    return {one.source.name.rpartition("-")[2]: one.error for one in import_runs(logs, root="store")}


STAMP = "1600000001.5"


@pytest.mark.parametrize("entry", ["5", "[1]", '"x"', "true"])
def test_an_entry_of_another_program_that_is_called_like_ours(tmp_path, entry):
    logs = written(tmp_path, "r", about("r", [("_tracking", entry)]), row(0, a="1", _timestamp=STAMP), end())
    written(tmp_path, "s", about("s"), row(0, a="2", _timestamp=STAMP), end())
    assert imported_errors(logs) == {"r": None, "s": None}
    values = [record.scalars("a").value.tolist() for record in tracking.open_store("store").runs()]
    assert sorted(values) == [[1.0], [2.0]]
    assert {"_tracking": json.loads(entry)} in [record.config for record in tracking.open_store("store").runs()]


def test_facts_of_ours_that_are_none(tmp_path):
    facts = '{"project": ["x"], "names": 3, "used_artifacts": 7}'
    _, record = single(written(tmp_path, "r", about("r", [("_tracking", facts)]), row(0, a="1"), end()))
    assert (record.project, record.status) == ("p", "finished")


def test_times_that_are_none(tmp_path):
    logs = written(
        tmp_path, "r", about("r"), row(0, a="1", _timestamp='"abc"'), row(1, a="2", _timestamp="NaN", _runtime="5"),
        row(2, a="3", _timestamp="1e999", _runtime='"x"'), row(3, a="4", _timestamp=STAMP), end(),
    )  # fmt: skip
    done, record = single(logs)
    assert done.problems == ()
    assert rows(record, "a") == [(0, 1.6e9, 1.0), (1, 1.6e9 + 5, 2.0), (2, 1.6e9, 3.0), (3, 1.6e9 + 1.5, 4.0)]
    assert (record.started, record.finished) == (1.6e9, 1.6e9 + 1.5)


def test_steps_that_are_none(tmp_path):
    metric = message(metric={"name": "val", "step_metric": "epoch"})
    steps = [str(10**400), "1e300", "NaN", "true", '"2"', "2.5", "3"]
    values = [row(at, val=str(at), epoch=step, _timestamp=STAMP) for at, step in enumerate(steps)]
    done, record = single(written(tmp_path, "r", about("r"), metric, *values, end()))
    assert record.scalars("val", "epoch").step.tolist() == [3]
    assert record.scalars("val", "step").step.tolist() == [2, 3, 4, 5]
    assert any("does not fit into 64" in problem for problem in done.problems)


def test_media_that_make_no_sense_cost_themselves(tmp_path):
    values = {
        "a": '{"_type": "image-file", "path": "../../../etc/passwd"}', "b": '{"_type": ["x"]}',
        "c": '{"_type": "images/separated", "filenames": "x", "captions": 5}', "d": '{"_type": "histogram", "values": "x"}',
        "e": '{"_type": "images", "images": [5]}', "f": "[1, 2]", "g": "null", "h": '{"x": {}}',
        "ok": "1", "i": '{"_type": "table-file", "path": 5}', "j": '{"_type": "histogram"}',
    }  # fmt: skip
    done, record = single(written(tmp_path, "r", about("r"), row(0, _timestamp=STAMP, **values), end()))
    assert record.scalar_names() == ["ok"]
    assert sorted(problem[0] for problem in done.problems) == list("abcdefij")


def test_what_cannot_be_read_does_not_hide_the_others(tmp_path):
    logs = written(tmp_path, "deep", about("deep", [("c", "[" * 20_000)]), end())
    written(tmp_path, "json", about("json"), row(0, a="{bad"), end())
    written(tmp_path, "empty")
    written(tmp_path, "torn", row(0, a="1"))
    written(tmp_path, "whole", about("whole"), row(0, a="1"), end())
    found = imported_errors(logs)
    assert found.pop("whole") is None
    assert "nothing in it can be read (yet)" in found["empty"] and "nothing in it can be read (yet)" in found["torn"]
    assert found.keys() == {"deep", "json", "empty", "torn"} and None not in found.values()
    assert [record.name for record in tracking.open_store("store").runs()] == ["whole"]


def test_names_that_lead_elsewhere(tmp_path):
    logs = written(
        tmp_path, "r", about("../../x\ny", project="../../p\n/q", display_name="a\nb"),
        row(0, **{"../x": "1", "a\nb": "2"}), end(),
    )  # fmt: skip
    done, record = single(logs)
    assert (record.project, record.name) == ("../../p\n/q", "a\nb")
    assert record.scalar_names() == ["../x", "a\nb"]
    assert done.dir.resolve().parent.parent == (tmp_path / "store").resolve()


def test_artifacts_that_make_no_sense(tmp_path):
    damaged = tmp_path / "list.gz"
    damaged.write_bytes(b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + b"\xff" * 30)
    device = message(artifact={"name": "device", "type": "t", "metadata": "[1]"})
    entry = device.artifact.manifest.contents.add()
    # What it gives never ends.
    entry.path, entry.digest, entry.local_path = "../../evil", "x", "/dev/zero"
    listed = message(artifact={"name": "listed", "type": "t", "metadata": "null"})
    listed.artifact.manifest.manifest_file_path = str(damaged)
    done, record = single(written(tmp_path, "r", about("r"), device, listed, row(0, a="1"), end()))
    assert record.artifacts() == []
    assert done.problems == (
        "device: files of this artifact that are not on this machine: 1 of 1",
        "listed: the list of the files of this artifact is missing",
    )


@pytest.mark.parametrize(("code", "status"), [(0, "finished"), (1, "preempted"), (143, "preempted")])
def test_a_run_that_was_about_to_be_preempted(tmp_path, code, status):
    logs = written(tmp_path, "r", about("r"), message(preempting={}), row(0, a="1"), message(exit={"exit_code": code}))
    assert single(logs)[1].status == status
