"""What a released version wrote stays readable: files of format 1, which are never written anew, read by today's code."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import struct

import numpy as np
import pytest

import tracking_core as tracking
from tests.support.programs import REPO
from tests.support.segmented import everything
from tracking_core.backends.targets import parse_target
from tracking_core.compaction.compaction import compact
from tracking_core.delivery.cursor import Cursor
from tracking_core.delivery.inbox import Inbox
from tracking_core.delivery.progress import is_delivered
from tracking_core.store.verify import verify
from tracking_core.transfer import import_runs

FILES = REPO / "tests" / "fixtures" / "format-1"
T0 = 1_764_000_000.0
KINDS = {
    "scalars": 69, "images": 1, "histogram": 1, "table": 1, "text": 1, "audio": 1, "video": 1, "figure": 1,
    "artifact": 1, "use_artifact": 1, "config": 1, "summary": 1, "alert": 1,
}  # fmt: skip


@pytest.fixture
def root(tmp_path):
    # A copy: whoever reads a store may put an index beside it.
    shutil.copytree(FILES / "runs", tmp_path / "runs")
    return tmp_path / "runs"


def bits(values):
    return [struct.pack("<d", value) for value in values]


def check(record):
    """Everything that the runs of the fixture hold; what is written here was never written by a run."""
    assert (record.project, record.tags, record.started) == ("the project", ("one", "ü"), T0)
    assert (record.name, record.group, record.job_type, record.notes) == (f"name of {record.id}", "g", "train", "notes")
    config = record.config
    assert math.isnan(config.pop("bad"))
    assert config == {"lr": 0.1, "net": {"width": 8, "depth": 2}, "big": 2**70, "$odd": [1, None, True]}
    loss = record.scalars("loss")
    assert (loss.axis, loss.step.tolist()) == ("step", list(range(60)))
    assert loss.value.tolist() == [1 / (step + 1) for step in range(60)]
    assert loss.time.tolist() == [round(T0 + step / 7, 6) for step in range(60)]
    epochs = record.scalars("val/loss")
    assert (epochs.axis, epochs.step.tolist(), epochs.value.tolist()) == (
        "epoch", list(range(6)), [0.0, 5.0, 10.0, 15.0, 20.0, 25.0]
    )  # fmt: skip
    odd = {name: bits(record.scalars(name).value) for name in ("nan", "inf", "zero", "flag", "huge", "\ud800")}
    wanted = {"nan": math.nan, "inf": -math.inf, "zero": -0.0, "flag": 1.0, "huge": 2.0**80, "\ud800": 1.0}
    assert odd == {name: bits([value]) for name, value in wanted.items()}
    summary = record.summary()
    assert (summary["huge"], summary["int"], summary["flag"], summary["best"]) == (2**80, 3, True, 0.5)
    assert record.scalars("int").value.tolist() == [2.0**53, 3.0]

    ((step, (image,)),) = record.images("img")
    assert (step, image.caption) == (1, "a caption")
    assert np.array_equal(image.pixels, np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    ((step, histogram),) = record.histograms("h")
    assert (step, histogram.counts.tolist(), histogram.edges.tolist(), histogram.nan) == (2, [1, 2, 3], [0, 1, 2, 4], 1)
    ((step, table),) = record.tables("table")
    assert (step, list(table.columns), [list(row) for row in table.rows][0]) == (3, ["a", "b"], [1, "x"])
    assert math.isnan(table.rows[1][0]) and table.rows[1][1] is None
    assert record.media("text", "note") == [(4, "words")]
    ((step, sound),) = record.media("audio", "beep")
    assert (step, sound.sample_rate, sound.samples[:, 0].tolist()) == (5, 8000, list(range(16)))
    ((step, clip),) = record.media("video", "clip")
    assert (step, clip.fps, clip.frames.shape, clip.frames[1].max()) == (6, 4, (2, 2, 2, 3), 1)
    ((step, figure),) = record.media("figure", "fig")
    assert (step, json.loads(figure.plotly)) == (7, {"data": [], "layout": {}})
    (version,) = record.artifacts()
    assert (version.ref.name, version.ref.type, version.ref.version, version.metadata) == ("vae", "model", 0, {"a": 1})
    assert (version.read("w.bin"), version.read("sub/c.txt")) == (b"weights", b"content")
    assert [(ref.name, ref.version) for ref in record.used_artifacts()] == [("vae", 0)]


@pytest.mark.parametrize("run_id", ["segments", "parts"])
def test_runs_are_read(root, run_id):
    record = tracking.open_store(root).run(run_id)
    check(record)
    assert record.status == "finished"
    kinds = [one.kind for one in record.records()]
    assert {kind: kinds.count(kind) for kind in KINDS} == KINDS
    assert record.damage() == []


def test_a_run_that_was_cut_off_is_read(root):
    record = tracking.open_store(root).run("crashed")
    # The alert was its last line.
    check(record)
    assert record.status == "crashed"
    assert [one.kind for one in record.records()].count("alert") == 0
    (damage,) = record.damage()
    assert damage.reason == "the last line is incomplete"


@pytest.mark.parametrize("run_id", ["segments", "parts"])
def test_runs_are_as_they_were_written(root, run_id):
    found = verify(root / "the~20project" / run_id)
    assert found.ok, found.breaks
    assert found.unchecked == []


@pytest.mark.parametrize("run_id", ["segments", "crashed"])
def test_runs_are_merged(root, run_id):
    directory = root / "the~20project" / run_id
    before = everything(directory)
    assert compact(directory, over=True).parts >= 1
    assert list(directory.glob("journal/*.jsonl")) == []
    assert everything(directory) == before
    check(tracking.open_store(root).run(run_id))


@pytest.mark.parametrize("run_id", ["segments", "parts"])
def test_cursors_are_read(root, run_id):
    """A target that had everything has it; one that had half of it gets the other half."""
    directory = root / "the~20project" / run_id
    target = parse_target("tensorboard:/srv/tb")
    found = tracking.open_store(root).run(run_id).deliveries()
    assert [(one.pending, one.delivered, one.status) for one in found] == [(0, 81, "finished")]
    assert is_delivered(found)
    (path,) = (directory / "cursors").glob("*.json")
    content = json.loads(path.read_bytes())
    (writer,) = content["writers"]
    # As the first files had it: without the number of a segment.
    content["writers"][writer] = {"seq": 40, "offset": 0}
    path.write_text(json.dumps(content))
    behind = sum(one.seq > 40 for one in tracking.open_store(root).run(run_id).records())
    assert Inbox(directory, Cursor.load(directory, target)).waiting() == behind > 0


def test_a_pack_is_unpacked(tmp_path):
    (done,) = import_runs(FILES / "segments.tracking.zip", root=tmp_path / "store")
    assert (done.run, done.there, done.problems) == ("segments", False, ())
    record = tracking.open_store(tmp_path / "store").run("segments")
    check(record)
    assert verify(done.dir).ok
    assert tracking.open_store(tmp_path / "store").artifacts("the project").get("vae:best").read("w.bin") == b"weights"


def test_a_tombstone_is_read(root):
    with pytest.raises(tracking.RunNotFoundError, match=r"the run 'removed' was removed: see .*removed\.json"):
        tracking.open_store(root).run("removed")
    assert sorted(run.id for run in tracking.open_store(root).runs()) == ["crashed", "parts", "segments"]


def test_the_files_are_what_they_were():
    """Written anew, they would say nothing about what an older version wrote."""
    digest = hashlib.sha256()
    for path in sorted(path for path in FILES.rglob("*") if path.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(FILES).as_posix()}\0{content}\n".encode())
    assert digest.hexdigest() == "9dd781f042c4852129e00e5837debd3c7bfaac98cd03521f28104dfb566255eb"
