"""The reader of W&B's transaction logs, against logs that the real client wrote, whole, cut off and damaged."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.support.wandb_client import client_env, lean_settings, wandb_client
from tests.support.wandb_logs import BLOCK, frame, write_log
from tracking_core.errors import MissingDependencyError
from tracking_wandb.offline.run import LogFormatError, OfflineRun, TransactionLog, read_offline_run

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

PIXELS = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3) * 4


@dataclass(frozen=True)
class Recorded:
    """What the client wrote: run directories, and the environment it ran in."""

    rich: Path
    described: Path
    long: Path
    env: dict[str, str]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    root = tmp_path_factory.mktemp("wandb_offline")
    env = client_env(root)
    with wandb_client(env) as wandb:
        rich = _record_rich(wandb, root)
        described = _record_described(wandb)
        long = _record_long(wandb)
    return Recorded(_only(root, rich), _only(root, described), _only(root, long), env)


def _record_rich(wandb: ModuleType, root: Path) -> str:
    run = wandb.init(
        project="proj",
        entity="team",
        id="rich",
        name="first name",
        config={"lr": 0.5, "net": {"layers": [1, 2, {"k": 3}], "a.b": "dot"}, "inf": math.inf},
        tags=["t1"],
        notes="first",
        group="grp",
        job_type="train",
        reinit="create_new",
        settings=lean_settings(),
    )
    run.define_metric("epoch", hidden=True)
    run.define_metric("val/*", step_metric="epoch", step_sync=False)
    run.define_metric("best", summary="min,mean")
    run.log({"epoch": 1, "val/loss": 1.5, "_timestamp": 1000.25})
    run.log({"nan": math.nan, "inf": math.inf, "ninf": -math.inf, "zero": -0.0, "tiny": 5e-324, "big": 2**53 + 1})
    run.log({"nested": {"a": 1, "b": {"c": [2, None]}}, "dotted.key": True, "text": "é\n", "epoch": 0})
    run.log({"img": wandb.Image(PIXELS, caption="one"), "imgs": [wandb.Image(PIXELS[::-1]), wandb.Image(PIXELS)]})
    run.log({"h": wandb.Histogram(np_histogram=([1, 2, 3], [0.0, 0.5, 1.0, 2.0]))})
    run.log({"tab": wandb.Table(columns=["a", "b"], data=[[1, "x"], [2, None]])})
    for value in (3.0, 1.0, 2.0):
        run.log({"best": value, "gone": 1})
    run.config.update({"lr": 0.25, "late": [1]}, allow_val_change=True)
    run.summary["score"] = {"deep": {"er": 1}}
    run.summary["score"]["deep"]["er"] = 2
    del run.summary["gone"]
    artifact = wandb.Artifact("weights", type="model", description="the weights", metadata={"n": 3, "m": {"k": [1]}})
    (root / "weights.bin").write_bytes(b"\x00\x01weights")
    artifact.add_file(str(root / "weights.bin"), name="dir/weights.bin")
    artifact.add_reference("https://example.invalid/data.bin", checksum=False)
    run.log_artifact(artifact, aliases=["best", "prod"], tags=["fine"])
    run.alert("title", "text", level="WARN", wait_duration=3)
    run.tags = (*run.tags, "t2")
    run.notes = "second"
    run.name = "second name"
    run.mark_preempting()
    run.finish(exit_code=3)
    return run.id


def _record_described(wandb: ModuleType) -> str:
    run = wandb.init(
        project="proj",
        id="described",
        reinit="create_new",
        settings=lean_settings(
            console="wrap",
            x_disable_meta=False,
            x_disable_machine_info=False,
            disable_git=False,
            host="some-host",
            program="train.py",
            git_commit="c0ffee",
            git_remote_url="https://example.invalid/repo.git",
        ),
    )
    print("printed")
    run.write_logs("a line")
    run.finish()
    return run.id


def _record_long(wandb: ModuleType) -> str:
    # Rows of many sizes, so that frames end everywhere in a block, and one that takes several blocks.
    run = wandb.init(project="proj", id="long", reinit="create_new", settings=lean_settings())
    for index in range(120):
        run.log({"i": index, "pad": "x" * (index * 37 % 2000)})
    run.log({"i": 120, "pad": "y" * 3 * BLOCK})
    run.log({"i": 121})
    run.finish()
    return run.id


def _only(root: Path, run_id: str) -> Path:
    (path,) = (root / "runs" / "wandb").glob(f"offline-run-*-{run_id}")
    return path


@pytest.fixture(scope="module")
def rich(recorded: Recorded) -> OfflineRun:
    return read_offline_run(recorded.rich)


def _logged(run: OfflineRun) -> list[dict[str, Any]]:
    """The rows without what the client adds."""
    return [{key: value for key, value in row.items() if not key.startswith("_")} for row in run.history]


# ---- what is in a run


def test_identity_is_the_last_one_given(rich: OfflineRun):
    assert (rich.id, rich.project, rich.entity) == ("rich", "proj", "team")
    assert (rich.display_name, rich.notes, rich.tags) == ("second name", "second", ("t1", "t2"))
    assert (rich.group, rich.job_type) == ("grp", "train")
    assert rich.start_time is not None
    assert rich.start_time > 1.7e9


def test_end_of_the_run(rich: OfflineRun):
    assert (rich.exit_code, rich.complete, rich.preempting) == (3, True, True)
    assert rich.end.kind == "clean"
    assert rich.end.offset == rich.path.stat().st_size


def test_config_is_plain_and_up_to_date(rich: OfflineRun):
    assert rich.config == {
        "lr": 0.25,
        "net": {"layers": [1, 2, {"k": 3}], "a.b": "dot"},
        "inf": math.inf,
        "late": [1],
    }


def test_history_values_are_exact(rich: OfflineRun):
    rows = _logged(rich)
    assert rows[0] == {"epoch": 1, "val/loss": 1.5}
    assert math.isnan(rows[1].pop("nan"))
    assert math.copysign(1, rows[1].pop("zero")) == -1
    assert rows[1] == {"inf": math.inf, "ninf": -math.inf, "tiny": 5e-324, "big": 2**53 + 1}
    assert rows[2] == {"nested": {"a": 1, "b": {"c": [2, None]}}, "dotted.key": True, "text": "é\n", "epoch": 0}


def test_history_has_steps_and_given_times(rich: OfflineRun):
    assert [row["_step"] for row in rich.history] == list(range(9))
    assert rich.history[0]["_timestamp"] == 1000.25
    assert rich.start_time is not None
    assert rich.history[1]["_timestamp"] >= rich.start_time - 5


def test_metric_definitions(rich: OfflineRun):
    nothing = {"name": None, "glob": None, "step_metric": None, "step_sync": False, "hidden": False, "summary": ()}
    assert list(rich.metrics) == [
        {**nothing, "name": "epoch", "hidden": True},
        {**nothing, "glob": "val/*", "step_metric": "epoch"},
        {**nothing, "name": "best", "summary": ("mean", "min")},
    ]


def test_summary_has_aggregates_updates_and_no_removed_key(rich: OfflineRun):
    assert rich.summary["best"] == {"min": 1, "mean": 2}
    assert rich.summary["score"] == {"deep": {"er": 2}}
    assert rich.summary["val/loss"] == 1.5
    assert math.isnan(rich.summary["nan"])
    assert "gone" not in rich.summary
    assert "_wandb" not in rich.summary


def test_images_are_found_and_hold_the_pixels(rich: OfflineRun):
    row = _logged(rich)[3]
    assert (row["img"]["_type"], row["img"]["caption"]) == ("image-file", "one")
    paths = [row["img"]["path"], *row["imgs"]["filenames"]]
    assert all(rich.files[path].is_absolute() for path in paths)
    found = [np.asarray(Image.open(rich.files[path])) for path in paths]
    np.testing.assert_array_equal(found, [PIXELS, PIXELS[::-1], PIXELS])
    assert hashlib.sha256(rich.files[paths[0]].read_bytes()).hexdigest() == row["img"]["sha256"]


def test_histogram(rich: OfflineRun):
    assert _logged(rich)[4]["h"] == {"_type": "histogram", "values": [1, 2, 3], "bins": [0, 0.5, 1, 2]}


def test_table_is_a_file_and_an_artifact(rich: OfflineRun):
    cell = _logged(rich)[5]["tab"]
    assert (cell["_type"], cell["ncols"], cell["nrows"]) == ("table-file", 2, 2)
    table = json.loads(rich.files[cell["path"]].read_bytes())
    assert (table["columns"], table["data"]) == (["a", "b"], [[1, "x"], [2, None]])
    assert [artifact.type for artifact in rich.artifacts] == ["run_table", "model"]


def test_artifact(rich: OfflineRun):
    artifact = rich.artifacts[1]
    assert (artifact.name, artifact.aliases, artifact.tags) == ("weights", ("best", "latest", "prod"), ("fine",))
    assert (artifact.description, artifact.metadata) == ("the weights", {"n": 3, "m": {"k": [1]}})
    reference, file = sorted(artifact.entries, key=lambda entry: entry.path)
    assert (reference.path, reference.ref) == ("data.bin", "https://example.invalid/data.bin")
    content = b"\x00\x01weights"
    assert (file.path, file.size, file.ref) == ("dir/weights.bin", len(content), None)
    assert base64.b64decode(file.digest) == hashlib.md5(content).digest()
    assert file.local_path is not None
    assert file.local_path.read_bytes() == content


def test_alert(rich: OfflineRun):
    (alert,) = rich.alerts
    assert (alert.title, alert.text, alert.level, alert.wait) == ("title", "text", "WARN", 3.0)


def test_environment_and_console(recorded: Recorded):
    run = read_offline_run(recorded.described)
    assert (run.host, run.program) == ("some-host", "train.py")
    assert run.git == {"remote": "https://example.invalid/repo.git", "commit": "c0ffee"}
    # What is printed is captured by the client when it gets round to it, which on a busy machine may be never.
    assert "a line" in run.console.splitlines()
    assert (run.exit_code, run.history, run.notes, run.entity) == (0, (), None, None)


def test_records_over_several_blocks(recorded: Recorded):
    run = read_offline_run(recorded.long)
    assert run.path.stat().st_size > 6 * BLOCK
    assert [row["i"] for row in run.history] == list(range(122))
    assert [len(row.get("pad", "")) for row in run.history[:120]] == [index * 37 % 2000 for index in range(120)]
    assert run.history[120]["pad"] == "y" * 3 * BLOCK
    assert run.complete


@pytest.mark.system
def test_records_are_those_that_the_client_itself_reads(recorded: Recorded):
    (path,) = recorded.rich.glob("*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    done = subprocess.run(command, env=recorded.env, capture_output=True, text=True, timeout=60, check=True)
    theirs = [json.loads(line) for line in done.stdout.splitlines()]
    ours = list(TransactionLog(path))
    assert [(row["num"], row["type"]) for row in theirs] == [
        (record.num, record.WhichOneof("record_type")) for record in ours
    ]


# ---- torn and damaged logs


@pytest.fixture(scope="module")
def content(recorded: Recorded) -> bytes:
    (path,) = recorded.rich.glob("*.wandb")
    return path.read_bytes()


def _read(path: Path, start: int = 0) -> tuple[list[bytes], TransactionLog]:
    log = TransactionLog(path, start=start)
    return list(log.payloads()), log


def _boundaries(path: Path) -> list[int]:
    log = TransactionLog(path)
    return [7, *(log.end.offset for _ in log.payloads())]


@pytest.mark.system
def test_cut_at_every_byte_gives_all_records_before(content: bytes, tmp_path: Path):
    path = tmp_path / "run-x.wandb"
    path.write_bytes(content)
    whole, ends = _read(path)[0], _boundaries(path)
    assert ends[-1] == len(content)
    for size in reversed(range(len(content))):
        with path.open("r+b") as file:
            file.truncate(size)
        records, log = _read(path)
        count = sum(end <= size for end in ends[1:])
        assert records == whole[:count]
        assert log.end.kind == ("clean" if size in ends else "torn")
        assert log.end.offset == (ends[count] if size >= 7 else 0)


@pytest.mark.parametrize("size", [BLOCK - 3, BLOCK + 5, 2 * BLOCK, 5 * BLOCK + 11])
def test_cut_in_a_long_log(recorded: Recorded, tmp_path: Path, size: int):
    (source,) = recorded.long.glob("*.wandb")
    path = tmp_path / "run-x.wandb"
    path.write_bytes(source.read_bytes()[:size])
    whole, ends = _read(source)[0], _boundaries(source)
    records, log = _read(path)
    assert records == whole[: sum(end <= size for end in ends[1:])]
    assert 0 < len(records) < len(whole)
    assert log.end.kind == "torn"
    assert log.end.offset in ends


@pytest.mark.system
def test_a_changed_bit_never_changes_a_record(content: bytes, tmp_path: Path):
    path = tmp_path / "run-x.wandb"
    path.write_bytes(content)
    whole, ends = _read(path)[0], _boundaries(path)
    for position in range(7, len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        records, log = _read(path)
        count = sum(end <= position for end in ends[1:])
        assert records == whole[:count]
        assert log.end.kind in {"torn", "corrupt"}
        assert log.end.offset == ends[count]
        assert log.end.reason


def test_a_cut_run_is_not_complete(content: bytes, tmp_path: Path):
    path = tmp_path / "run-cut.wandb"
    path.write_bytes(content[:-1])
    run = read_offline_run(path)
    assert (run.id, run.complete, run.exit_code) == ("rich", False, None)
    assert run.end.kind == "torn"
    assert run.history[0]["val/loss"] == 1.5
    assert len(run.history) == 9


def test_reading_goes_on_where_it_stopped_while_the_log_grows(recorded: Recorded, tmp_path: Path):
    (source,) = recorded.long.glob("*.wandb")
    content, path = source.read_bytes(), tmp_path / "run-x.wandb"
    wrote, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def write() -> None:
        with path.open("wb", buffering=0) as file:
            for begin in range(0, len(content), 4999):
                file.write(content[begin : begin + 4999])
                wrote.release()
                assert go_on.acquire(timeout=20)

    writer = threading.Thread(target=write)
    writer.start()
    records: list[bytes] = []
    offset = 0
    for _ in range(0, len(content), 4999):
        assert wrote.acquire(timeout=20)
        more, log = _read(path, offset)
        records += more
        assert log.end.offset >= offset
        offset = log.end.offset
        go_on.release()
    writer.join(20)
    assert records == _read(source)[0]
    assert offset == len(content)


def test_stopping_early_leaves_the_place_to_go_on_from(content: bytes, tmp_path: Path):
    path = tmp_path / "run-x.wandb"
    path.write_bytes(content)
    log = TransactionLog(path)
    nums = []
    for record in log:
        nums.append(record.num)
        if len(nums) == 5:
            break
    nums += [record.num for record in TransactionLog(path, start=log.end.offset)]
    assert nums == [record.num for record in TransactionLog(path)]
    assert len(nums) > 10


# ---- logs of our own making, for what the client does not write on demand


@pytest.fixture
def pb() -> Any:
    from wandb.proto import wandb_internal_pb2

    return wandb_internal_pb2


@pytest.mark.parametrize("room", range(10))
def test_every_room_that_a_block_can_leave(tmp_path: Path, pb: Any, room: int):
    def filled(size: int) -> Any:
        return pb.Record(uuid="x" * size)

    overhead = len(filled(30000).SerializeToString()) - 30000
    filler = filled(BLOCK - 7 - 7 - overhead - room)
    path = write_log(tmp_path / "run-z.wandb", [filler, pb.Record(num=2), filled(2 * BLOCK), pb.Record(num=4)])
    assert _boundaries(path)[1] == BLOCK - room
    log = TransactionLog(path)
    assert [record.num or len(record.uuid) for record in log] == [len(filler.uuid), 2, 2 * BLOCK, 4]
    assert log.end.kind == "clean"
    assert log.end.offset == path.stat().st_size


def test_zeros_at_the_end_are_a_torn_tail(tmp_path: Path, pb: Any):
    path = write_log(tmp_path / "run-z.wandb", [pb.Record(num=1)], tail=bytes(4096))
    records, log = _read(path)
    assert len(records) == 1
    assert log.end.kind == "torn"
    assert "zeros" in log.end.reason


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([(3, b"middle")], "out of place"),
        ([(2, b"first"), (1, b"full")], "out of place"),
        ([(2, b"first")], "fragments"),
        ([(9, b"what")], "type 9"),
        ([(1, b"\xff\xff\xff")], "not a wandb Record"),
    ],
)
def test_frames_that_do_not_fit_are_named(tmp_path: Path, pb: Any, frames: list[tuple[int, bytes]], reason: str):
    tail = b"".join(frame(kind, data) for kind, data in frames)
    log = TransactionLog(write_log(tmp_path / "run-z.wandb", [pb.Record(num=1)], tail))
    assert [record.num for record in log] == [1]
    assert log.end.kind in {"torn", "corrupt"}
    assert reason in log.end.reason


def test_paths_that_lead_out_of_the_run_are_none_of_its_files(tmp_path: Path, pb: Any):
    names = ["../secret", "/etc/hostname", "a/../../x", ".", "media/ok.png", "a/../ok.txt"]
    record = pb.Record(files=pb.FilesRecord(files=[pb.FilesItem(path=name) for name in names]))
    run = read_offline_run(write_log(tmp_path / "run-z.wandb", [record]))
    assert run.id == "z"
    assert run.files == {
        "media/ok.png": tmp_path / "files" / "media" / "ok.png",
        "a/../ok.txt": tmp_path / "files" / "ok.txt",
    }


def test_typed_history_values(tmp_path: Path, pb: Any):
    items = [
        pb.HistoryItem(key="b", boolean=True),
        pb.HistoryItem(key="i", integer=2**62 + 1),
        pb.HistoryItem(nested_key=["n", "x"], number=0.1),
        pb.HistoryItem(key="t", text="1"),
        pb.HistoryItem(key="j", json="[NaN]"),
    ]
    record = pb.Record(history=pb.HistoryRecord(item=items, step=pb.HistoryStep(num=7)))
    (row,) = read_offline_run(write_log(tmp_path / "run-z.wandb", [record])).history
    assert math.isnan(row["j"][0])
    assert {**row, "j": None} == {"b": True, "i": 2**62 + 1, "n": {"x": 0.1}, "t": "1", "j": None, "_step": 7}


def test_manifest_in_a_file_of_its_own(tmp_path: Path, pb: Any):
    lines = [
        {"path": "a", "digest": "d", "size": 3, "local_path": "/tmp/a"},
        {"path": "b", "digest": "e", "ref": "s3://b"},
    ]
    with gzip.open(tmp_path / "m.jl.gz", "wt") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    manifests = [pb.ArtifactManifest(manifest_file_path=str(tmp_path / name)) for name in ("m.jl.gz", "gone.jl.gz")]
    records = [pb.Record(artifact=pb.ArtifactRecord(name="big", type="t", manifest=manifest)) for manifest in manifests]
    there, gone = read_offline_run(write_log(tmp_path / "run-z.wandb", records)).artifacts
    assert [(entry.path, entry.size, entry.ref) for entry in there.entries] == [("a", 3, None), ("b", 0, "s3://b")]
    assert gone.entries == ()


def test_config_changes_by_nested_key_and_removal(tmp_path: Path, pb: Any):
    def change(update: list[Any] = (), remove: list[Any] = ()) -> Any:
        return pb.Record(config=pb.ConfigRecord(update=update, remove=remove))

    item = pb.ConfigItem
    records = [
        change([item(key="a", value_json="1"), item(key="n", value_json='{"x": 1, "y": 2}')]),
        change([item(nested_key=["n", "z", "w"], value_json="3")], [item(nested_key=["n", "x"])]),
        change([item(nested_key=["a", "b"], value_json="null")], [item(key="gone"), item(nested_key=["q", "r"])]),
    ]
    run = read_offline_run(write_log(tmp_path / "run-z.wandb", records))
    assert run.config == {"a": {"b": None}, "n": {"y": 2, "z": {"w": 3}}}


# ---- what is no log


def test_a_file_of_another_kind_is_refused(tmp_path: Path):
    path = tmp_path / "run-z.wandb"
    path.write_bytes(b"SQLite format 3\0")
    with pytest.raises(LogFormatError, match=r"run-z\.wandb is not a W&B transaction log"):
        read_offline_run(path)


@pytest.mark.parametrize("size", [0, 3, 6])
def test_a_file_that_is_just_being_created_is_an_empty_run(tmp_path: Path, content: bytes, size: int):
    path = tmp_path / "run-new.wandb"
    path.write_bytes(content[:size])
    run = read_offline_run(path)
    assert (run.id, run.history, run.complete) == ("new", (), False)
    assert (run.end.kind, run.end.offset) == ("torn", 0)


def test_a_directory_must_hold_one_log(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="found none"):
        read_offline_run(tmp_path)
    for name in ("run-a.wandb", "run-b.wandb"):
        (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError, match=r"run-a\.wandb, run-b\.wandb"):
        read_offline_run(tmp_path)


def test_without_wandb_the_message_says_what_to_install(recorded: Recorded, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "wandb.proto.wandb_internal_pb2", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'tracking-core\[wandb\]'"):
        read_offline_run(recorded.rich)


def test_importing_the_reader_does_not_import_wandb():
    code = "import sys, tracking_wandb.offline.run; sys.exit('wandb' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
