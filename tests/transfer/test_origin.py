"""What was imported or unpacked says where it came from, from the first moment it is seen, and brings nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import zipfile

import pytest
from click.testing import CliRunner

import tracking_core as tracking
from tracking_core.cli.app import app
from tracking_core.layout.runs import is_from_elsewhere
from tracking_core.transfer import foreign as runs_module
from tracking_core.transfer import import_runs, pack_run
from tracking_core.transfer import unpack as unpacking_module


def recorded(root="runs", **more):
    with tracking.start_run("p", root=root, run_id="a", backends="tensorboard:./tb", delivery="thread", **more) as run:
        run.log_scalars({"loss": 1.0}, step=1)
    return run


def take(source, root="store"):
    (done,) = import_runs(source, root=root)
    return done


def origin(directory):
    return json.loads((directory / "origin.json").read_bytes())


def source_of(kind, place):
    run = recorded()
    if kind == "tensorboard":
        return place / "tb"
    if kind == "pack":
        return pack_run(run.id, root="runs").file.absolute()
    (place / "log.csv").write_text("step,a\n1,2\n")
    return place / "log.csv"


@pytest.mark.parametrize("kind", ["csv", "tensorboard", "pack"])
def test_it_says_where_a_run_came_from(tmp_path, kind):
    before = time.time()
    source = source_of(kind, tmp_path)
    done = take(source)
    found = origin(done.dir)
    assert found.keys() == {"v", "kind", "source", "identity", "time", "by"}
    assert (found["v"], found["kind"]) == (1, kind)
    assert found["source"].startswith(str(source))
    assert len(bytes.fromhex(found["identity"])) == 32
    assert before <= found["time"] <= time.time()
    assert found["by"].startswith("tracking-core ")
    assert is_from_elsewhere(done.dir)
    # And nothing that is of somebody's targets, or of a process.
    assert not (done.dir / "cursors").exists()
    assert not [path for path in done.dir.rglob("*") if path.suffix == ".alive"]
    # Once more it is there, and stays as it is.
    assert take(source).there
    assert origin(done.dir) == found


def test_what_was_recorded_here_came_from_nowhere(tmp_path):
    run = recorded()
    assert not is_from_elsewhere(run.dir)
    packed = pack_run(run.id, root="runs")
    assert take(packed.file, "runs").there
    assert not is_from_elsewhere(run.dir)


@pytest.mark.parametrize("kind", ["csv", "pack"])
def test_a_run_is_not_seen_without_it(tmp_path, monkeypatch, kind):
    source = source_of(kind, tmp_path)
    seen = []

    def publish(run, place, **more):
        seen.append((run / "origin.json").is_file() and (run / "run.json").is_file())
        raise OSError(28, "No space left on device")

    for module in (runs_module, unpacking_module):
        monkeypatch.setattr(module, "publish", publish)
    with pytest.raises(tracking.StoreError, match="No space"):
        take(source)
    assert seen == [True]


def test_what_a_pack_says_of_its_origin_is_not_taken_over(tmp_path):
    run = recorded()
    claimed = {"v": 1, "kind": "csv", "source": "/home/you/safe.csv", "identity": "0", "time": 0, "by": "you"}
    (run.dir / "origin.json").write_text(json.dumps(claimed))
    packed = pack_run(run.id, root="runs")
    with zipfile.ZipFile(packed.file) as archive:
        assert json.loads(archive.read("run/origin.json")) == claimed
        manifest = archive.read("tracking-pack.json")
    done = take(packed.file)
    found = origin(done.dir)
    assert (found["kind"], found["source"]) == ("pack", str(packed.file.absolute()))
    assert found["identity"] == hashlib.sha256(manifest).hexdigest()
    # From there it goes on, and says so each time.
    again = take(pack_run(done.run, "again.zip", root="store").file, "third")
    assert origin(again.dir)["source"] == str(tmp_path / "again.zip")


def test_cursors_leases_and_heartbeats_stay_behind(tmp_path):
    run = recorded()
    assert list((run.dir / "cursors").iterdir())
    (run.dir / "journal" / "w.alive").write_text("{}")
    packed = pack_run(run.id, root="runs")
    with zipfile.ZipFile(packed.file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    assert not [name for name in entries if "cursor" in name or name.endswith(".alive")]
    for name in ("run/cursors/tensorboard-1.json", "run/journal/w.alive", "run/.alive", "run/cursors"):
        manifest = json.loads(entries["tracking-pack.json"])
        manifest["files"][name] = {"size": 2, "sha256": hashlib.sha256(b"{}").hexdigest()}
        with zipfile.ZipFile("bad.zip", "w") as archive:
            for known, content in {**entries, name: b"{}", "tracking-pack.json": json.dumps(manifest)}.items():
                archive.writestr(known, content)
        if name == "run/cursors":
            # A file is no directory, and nobody reads it.
            assert not (take("bad.zip").dir / "cursors").is_dir()
        else:
            with pytest.raises(tracking.StoreError, match="is not a valid name in a pack"):
                take("bad.zip")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "came from  pack: "),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"kind": 1}', "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("x" * 10**6, "cannot be read"),
    ],
)
def test_show_says_it(tmp_path, content, words):
    done = take(pack_run(recorded().id, root="runs").file)
    if content is not None:
        (done.dir / "origin.json").write_text(content)
    result = CliRunner().invoke(app, ["show", "a", "--root", "store"])
    assert result.exit_code == 0
    assert words in result.output
    shown = json.loads(CliRunner().invoke(app, ["show", "a", "--root", "store", "--json"]).stdout)["origin"]
    assert shown == (origin(done.dir) if content is None else shown)
    assert json.loads(CliRunner().invoke(app, ["show", "a", "--root", "runs", "--json"]).stdout)["origin"] is None


@pytest.mark.parametrize("what", ["link", "directory", "pipe"])
def test_whatever_is_in_its_place_counts(tmp_path, what):
    run = recorded()
    place = run.dir / "origin.json"
    if what == "link":
        (tmp_path / "secret").write_text('{"kind": "k", "source": "secret"}')
        place.symlink_to(tmp_path / "secret")
    elif what == "directory":
        place.mkdir()
    else:
        os.mkfifo(place)
    assert is_from_elsewhere(run.dir)
    result = CliRunner().invoke(app, ["show", "a", "--root", "runs"])
    assert "cannot be read" in result.output
    assert "secret" not in result.output


def test_no_secret_of_an_address_is_kept(tmp_path):
    from tracking_core.layout.runs import write_origin

    tmp_path.joinpath("run").mkdir()
    write_origin(tmp_path / "run", "pack", "https://me:hunter2@host/a.zip?api_key=hunter3&x=1", "00")
    assert origin(tmp_path / "run")["source"] == "https://host/a.zip?x=1"


@pytest.mark.system
def test_it_is_in_the_mirror_of_a_run_that_goes_on(tmp_path, monkeypatch):
    """An imported run can be continued, and mirrored then; whoever reads the mirror is told as well."""
    monkeypatch.setenv("TRACKING_CACHE", str(tmp_path / "cache"))
    done = take(pack_run(recorded().id, root="runs").file)
    shutil.rmtree("runs")
    monkeypatch.setenv("TRACKING_MIRROR", f"file://{tmp_path}/mirror")
    with tracking.start_run("p", root="store", run_id=done.run, resume="must", backends="local") as run:
        run.log_scalars({"loss": 2.0}, step=2)
    assert (tmp_path / "mirror" / "p" / "a" / "run.json").is_file()
    assert origin(tmp_path / "mirror" / "p" / "a") == origin(done.dir)
    record = tracking.open_store(f"file://{tmp_path}/mirror").run("a")
    assert record.scalars("loss").step.tolist() == [1, 2]
    assert is_from_elsewhere(record.dir)
    again = take(pack_run(record, "mirrored.zip").file, "third")
    assert origin(again.dir)["kind"] == "pack"
