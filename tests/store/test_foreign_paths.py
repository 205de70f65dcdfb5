"""Directories and files that others made: no link in them is followed, and nothing they say becomes a path of ours."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import zipfile

import pytest
from click.testing import CliRunner

import tracking_core as tracking
from tracking_core.cli.app import app
from tracking_core.journal import Event, encode_line, read_events
from tracking_core.journal.events import to_record
from tracking_core.layout.staging import FOLDER, staging
from tracking_core.mirror import cache
from tracking_core.store import index
from tracking_core.transfer import import_runs, pack_run

OLD = (1e9, 1e9)
GONE = {"pid": 2**22 + 5, "started": "1", "boot": "no boot", "host": socket.gethostname()}


def victim(place, *names):
    """Somebody's old directories, which look like what is swept."""
    for name in names:
        (place / name / "sub").mkdir(parents=True)
        (place / name / "sub" / "thesis.txt").write_text("mine")
        (place / name / "owner").write_text(json.dumps(GONE))
        for path in (*(place / name).rglob("*"), place / name):
            os.utime(path, OLD)
    return place


def contents(place):
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def a_run(root="runs", run_id="a", **more):
    with tracking.start_run("p", root=root, run_id=run_id, **more) as run:
        run.log_scalars({"loss": 1.0}, step=1)
    return run


def rewrite(run, **facts):
    path = run.dir / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **facts}))


def append(run, kind, **fields):
    """Add an event to a run that has ended, as another writer of it would have."""
    path = run.dir / "journal" / "zzzz-000001.jsonl"
    lines = [
        encode_line(0, 1, "segment", 1.0, {"v": 1, "run": run.id, "parent": None}),
        encode_line(1, 2, kind, 2.0, fields),
    ]
    path.write_bytes(b"".join(line.removesuffix(b"\n") + b"\n" for line in lines))


def invoke(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


# ---------------------------------------------------------------- what is swept


@pytest.mark.parametrize("there", [True, False])
def test_staging_is_no_link_that_is_followed(tmp_path, there):
    mine = victim(tmp_path / "mine", "0123456789abcdef", "projects")
    before = contents(mine)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / FOLDER).symlink_to(mine if there else tmp_path / "nowhere")
    (tmp_path / "log.csv").write_text("step,a\n1,2\n")
    result = invoke("import", "log.csv", "--root", "store")
    assert result.exit_code == 1
    assert f"{FOLDER} is a link" in result.output
    assert contents(mine) == before
    assert sorted(path.name for path in mine.iterdir()) == ["0123456789abcdef", "projects"]


def test_a_file_in_place_of_staging_is_left_alone(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / FOLDER).write_text("mine")
    with pytest.raises(tracking.StoreError, match="not a directory"), staging(tmp_path / "store"):
        pass
    assert (tmp_path / "store" / FOLDER).read_text() == "mine"


def test_only_what_is_ours_is_swept_from_staging(tmp_path):
    folder = tmp_path / "store" / FOLDER
    victim(folder, "0123456789abcdef", "projects", "0123456789ABCDEF", "0123456789abcde")
    # Without a word about whose it is, or with another.
    for name, owner in (("a" * 16, None), ("b" * 16, "{}"), ("c" * 16, "[" * 10**4), ("d" * 16, '{"host": "x"}')):
        (folder / name).mkdir()
        if owner is not None:
            (folder / name / "owner").write_text(owner)
            os.utime(folder / name / "owner", OLD)
        os.utime(folder / name, OLD)
    os.mkfifo(folder / ("e" * 16))
    (folder / ("f" * 16)).mkdir()
    os.mkfifo(folder / ("f" * 16) / "owner")
    mine = victim(tmp_path / "mine", "files")
    (folder / ("1" * 16)).symlink_to(mine / "files")
    (folder / ("2" * 16)).mkdir()
    (folder / ("2" * 16) / "owner").symlink_to(mine / "files" / "owner")
    before = {path.name for path in folder.iterdir()}
    with staging(tmp_path / "store") as place:
        (place / "run").symlink_to(mine)
        assert {path.name for path in folder.iterdir()} == before - {"0123456789abcdef"} | {place.name}
    assert {path.name for path in folder.iterdir()} == before - {"0123456789abcdef"}
    assert set(contents(mine)) == {"files/owner", "files/sub/thesis.txt"}


def test_removing_clears_away_only_what_removals_have_left(tmp_path):
    run, other = a_run(), a_run(run_id="b")
    folder = run.dir.parent / ".removed"
    victim(folder, "a.0123456789ab", "projects", "c.0123456789ab", "a.0123456789")
    (folder / "a.json").write_text("{}")
    mine = victim(tmp_path / "mine", "x")
    (folder / "a.ba9876543210").symlink_to(mine / "x")
    assert invoke("rm", other.id, "--root", "runs", "--yes").exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "a.0123456789", "a.json", "b.json", "c.0123456789ab", "projects",
    ]  # fmt: skip
    assert set(contents(mine)) == {"x/owner", "x/sub/thesis.txt"}


@pytest.mark.parametrize("verb", ["rm", "prune"])
def test_runs_are_not_removed_through_a_link(tmp_path, verb):
    run = a_run(backends="tensorboard:./tb", delivery="thread")
    mine = victim(tmp_path / "mine", "b.0123456789ab")
    (mine / "b.json").write_text("{}")
    before = contents(mine)
    (run.dir.parent / ".removed").symlink_to(mine)
    arguments = ["rm", run.id, "--yes"] if verb == "rm" else ["prune", "--keep", "delivered:0s"]
    result = invoke(*arguments, "--root", "runs")
    assert result.exit_code == 1
    assert ".removed" in result.output
    assert contents(mine) == before
    assert (run.dir / "run.json").is_file()


def test_the_index_is_not_written_or_swept_through_a_link(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "FEWEST", 1)
    monkeypatch.setattr(index, "SETTLED", -(10**12))
    a_run()
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("letters", ".profile.0123456789ab"):
        (mine / name).write_text("mine")
        os.utime(mine / name, OLD)
    (tmp_path / "runs" / index.DIRECTORY).symlink_to(mine)
    assert len(tracking.open_store("runs").runs()) == 1
    assert set(contents(mine)) == {"letters", ".profile.0123456789ab"}
    # In a directory of its own it goes, and what is no index stays.
    (tmp_path / "runs" / index.DIRECTORY).unlink()
    shutil.copytree(mine, tmp_path / "runs" / index.DIRECTORY)
    (tmp_path / "runs" / index.DIRECTORY / "gone").write_bytes(b"tracking-core index 1 x\n")
    assert len(tracking.open_store("runs").runs()) == 1
    assert {path.name for path in (tmp_path / "runs" / index.DIRECTORY).iterdir()} == {"letters", "p"}


def test_the_copy_of_a_mirror_is_not_cleared_through_links(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKING_CACHE", str(tmp_path / "cache"))
    mirror = tmp_path / "mirror"
    shutil.copytree(a_run().dir.parent, mirror / "p")
    shutil.copytree(mirror / "p" / "a", mirror / "p" / "b")
    (copy,) = [tracking.open_store(f"file://{mirror}").root]
    store = tracking.open_store(f"file://{mirror}")
    assert len(store.runs()) == 2
    mine = victim(tmp_path / "mine", "x")
    before = contents(mine)
    (copy / "q").symlink_to(mine)
    (copy / "p" / "c").symlink_to(mine / "x")
    (copy / "p" / "b" / "media").symlink_to(mine / "x")
    (copy / "p" / "artifacts").symlink_to(mine / "x")
    (mine / "seen.txt").write_text("mine")
    marks = json.loads((copy / "p" / "a" / cache.MARK).read_bytes())
    marks["seen"]["../../../../../mine/seen.txt"] = [1, "x"]
    (copy / "p" / "a" / cache.MARK).write_text(json.dumps(marks))
    shutil.rmtree(mirror / "p" / "b")
    store._mirror._listed.clear()  # noqa: SLF001 - as if a while had passed
    assert [record.id for record in store.runs()] == ["a"]
    assert contents(mine) == {**before, "seen.txt": b"mine"}


# ---------------------------------------------------------------- ids and names that become paths


@pytest.mark.parametrize(
    "run_id", ["../../escaped", "..", "/tmp/escaped", "a/b", "", ".hidden", "artifacts", "a\n", "x" * 65]
)
def test_an_id_that_leads_elsewhere_is_none(tmp_path, run_id):
    run = a_run("deep/er/runs")
    rewrite(run, id=run_id)
    before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "deep/er/runs")}
    for arguments in (["pack", "a"], ["show", "a"], ["export", "a", "--to", "out", "--partition", "--format", "csv"]):
        result = invoke(*arguments, "--root", "deep/er/runs")
        assert result.exit_code != 0, arguments
        assert isinstance(result.exception, SystemExit), arguments
    with pytest.raises(tracking.StoreError, match="look at id"):
        pack_run("a", root="deep/er/runs")
    store = tracking.open_store("deep/er/runs")
    assert (store.runs(), [*store.unreadable]) == ([], [run.dir.relative_to(tmp_path)])
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "deep/er/runs")} == before


def test_a_copy_under_another_name_is_not_packed_as_the_run(tmp_path):
    run = a_run()
    shutil.copytree(run.dir, run.dir.with_name("copy"))
    assert len(tracking.open_store("runs").runs()) == 2
    for arguments in (["pack", "copy"], ["export", "copy", "--to", "out", "--partition", "--format", "csv"]):
        result = invoke(*arguments, "--root", "runs")
        assert (result.exit_code, "but has another name" in result.output) == (1, True)
    assert invoke("rm", "copy", "--yes", "--root", "runs").exit_code == 0
    tombstone = json.loads((run.dir.parent / ".removed" / "copy.json").read_bytes())
    assert tombstone["id"] == "copy"
    assert pack_run("a", root="runs").run == "a"


# ---------------------------------------------------------------- contents


def test_media_are_not_read_through_links(tmp_path):
    run = a_run()
    secret = tmp_path / "id_rsa"
    secret.write_text("GIF89a secret")
    name = f"{'a' * 64}.mp4"
    (run.dir / "media").mkdir()
    (run.dir / "media" / name).symlink_to(secret)
    fields = {"name": "v", "file": name, "fps": 8.0, "step": 1, "axis": "step"}
    append(run, "video", **fields)
    (event,) = [event for event in read_events(run.dir) if event.kind == "video"]
    with pytest.raises(tracking.TrackingError, match="is not a regular file"):
        to_record(event, run.dir)
    packed = pack_run(run.id, "a.zip", root="runs")
    with zipfile.ZipFile(packed.file) as archive:
        assert not any(name.startswith("run/media") for name in archive.namelist())
    # Nor where the directory is the link.
    shutil.rmtree(run.dir / "media")
    secret.rename(tmp_path / "keys.txt")
    (tmp_path / "home").mkdir()
    (tmp_path / "keys.txt").rename(tmp_path / "home" / "id_rsa")
    (run.dir / "media").symlink_to(tmp_path / "home")
    packed = pack_run(run.id, "b.zip", root="runs")
    assert "'media' was left out: it is a link" in packed.problems[0]
    with zipfile.ZipFile(packed.file) as archive:
        assert not any(name.startswith("run/media") for name in archive.namelist())
    with pytest.raises(tracking.TrackingError, match="not a valid media file name"):
        to_record(Event(1, 2, "video", 2.0, {**fields, "file": "id_rsa"}, "w"), run.dir)
    # A fork has no files of others as its own.
    (run.dir / "media").unlink()
    (run.dir / "media").mkdir()
    (run.dir / "media" / name).symlink_to(tmp_path / "home" / "id_rsa")
    with tracking.start_run("p", root="runs", run_id="fork", fork_from=(run.id, 1)) as fork:
        pass
    assert not any(path.name == name for path in (fork.dir / "media").iterdir())


def artifact(sha, blobs, path="f"):
    line = f"{path}\0{sha}\n"
    return {
        "name": "n", "type": "file", "version": 0, "digest": hashlib.sha256(line.encode()).hexdigest(), "aliases": [],
        "metadata": {}, "files": {path: {"sha256": sha, "size": 6}}, "blobs": str(blobs),
    }  # fmt: skip


def content(blobs, data, sha=None):
    sha = sha or hashlib.sha256(data).hexdigest()
    place = blobs / "sha256" / sha[:2] / sha[2:]
    place.parent.mkdir(parents=True)
    place.write_bytes(data)
    return sha, place


def test_contents_are_taken_only_where_they_are_what_was_recorded(tmp_path):
    """An event may name any directory as the one in which the contents of its artifact are."""
    run = a_run()
    elsewhere = tmp_path / "elsewhere"
    sha, place = content(elsewhere, b"secret", "b" * 64)
    event = Event(1, 2, "artifact", 2.0, artifact(sha, elsewhere), "w")
    with pytest.raises(tracking.TrackingError, match="not the recorded content"):
        to_record(event, run.dir)
    # Kept outside of the root, as TRACKING_ARTIFACTS has it.
    sha, right = content(tmp_path / "shared", b"secret")
    event = Event(1, 2, "artifact", 2.0, artifact(sha, tmp_path / "shared"), "w")
    assert to_record(event, run.dir).data["artifact"] == {"f": right}
    # In the root itself a link is none either.
    own = tmp_path / "runs" / ".blobs" / "sha256" / "cc" / ("c" * 62)
    own.parent.mkdir(parents=True)
    own.symlink_to(place)
    shutil.rmtree(tmp_path / "shared")
    event = Event(1, 2, "artifact", 2.0, artifact("c" * 64, "nowhere"), "w")
    with pytest.raises(tracking.TrackingError, match="is not a regular file"):
        to_record(event, run.dir)
    append(run, "artifact", **artifact("c" * 64, "nowhere"))
    (version,) = tracking.open_store("runs").run(run.id).artifacts()
    with pytest.raises(tracking.StoreError, match="is a link"):
        version.download("out")


@pytest.mark.parametrize("path", ["../../x", "/etc/x", "a/../../x", "", "a\\..\\..\\x"])
def test_files_of_artifacts_have_paths_inside(tmp_path, path):
    run = a_run()
    sha, _ = content(tmp_path / "runs" / ".blobs", b"secret")
    with pytest.raises(tracking.TrackingError, match="leads out of the artifact"):
        to_record(Event(1, 2, "artifact", 2.0, artifact(sha, "x", path), "w"), run.dir)


@pytest.mark.parametrize("name", ["../../x", "..", "a/b"])
def test_imported_names_stay_names(tmp_path, name):
    (tmp_path / "log.csv").write_text(f'step,"{name}"\n1,2\n')
    (done,) = import_runs("log.csv", root="store", project=name)
    assert done.dir.parent.parent == tmp_path / "store" or done.dir.parent.parent.name == "store"
    assert tracking.open_store("store").run(done.run).scalar_names() == [name]
    assert {path.name for path in tmp_path.iterdir()} == {"log.csv", "store"}


def test_compaction_removes_only_what_compactors_have_left(tmp_path):
    run = a_run()
    name = "w-00000001-00000002"
    ours = [f".events-{name}.jsonl.4194305.0123456789ab", f".scalars-{name}.parquet.4194305.0123456789ab"]
    theirs = [
        ".events-2024",
        ".scalars-mine.parquet",
        f".events-{name}.jsonl.4194305.xyz",
        ".scalars-",
        ".events-a.b.c",
    ]
    for one in (*ours, *theirs):
        (run.dir / one).write_text("x")
        os.utime(run.dir / one, OLD)
    assert invoke("compact", run.id, "--root", "runs").exit_code == 0
    assert {path.name for path in run.dir.glob(".*")} == set(theirs)


def test_a_run_is_not_packed_as_one_of_another_project(tmp_path):
    """Its pack would hold that project's artifacts."""
    run = a_run()
    with tracking.start_run("private", root="runs", run_id="mine") as mine:
        mine.log_artifact({"f": b"secret"}, name="model")
    rewrite(run, project="private")
    append(run, "use_artifact", artifact="model:v0", name="model", type="file", version=0, digest="")
    for arguments in (["pack", "a"], ["export", "a", "--to", "out", "--partition", "--format", "csv"]):
        result = invoke(*arguments, "--root", "runs")
        assert (result.exit_code, "of the project 'private'" in result.output) == (1, True)
    assert not list(tmp_path.glob("*.zip"))
