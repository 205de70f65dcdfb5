"""A run goes into one archive and comes back the same; archives that were tampered with, or cut, leave nothing."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner

import tracking_core as tracking
from tests.support.logged import log_everything
from tests.support.programs import run as run_program
from tracking_core.cli.app import app
from tracking_core.layout import staging as staging_module
from tracking_core.transfer import import_runs, pack_run


def tree(directory):
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def unpack(file, root="elsewhere"):
    (done,) = import_runs(file, root=root)
    return done


@pytest.fixture
def run(tmp_path):
    (tmp_path / "data.bin").write_bytes(os.urandom(3000))
    with tracking.start_run("a/proj", root="runs", config={"lr": 0.1}) as first:
        first.log_artifact("data.bin", name="used: one", aliases=["base"])
        first.log_artifact({"a": b"other"}, name="not used")
    with tracking.start_run("a/proj", name="r", root="runs", backends="tensorboard:./tb", delivery="thread") as run:
        log_everything(run)
        run.use_artifact("used: one:base")
        run.log_artifact({"sub/f.txt": b"content", "copy": b"content"}, name="model", type="model", aliases=["best"])
    return run


def test_a_run_goes_there_and_back(run, tmp_path):
    packed = pack_run(run.id, root="runs")
    assert (packed.file.name, packed.problems) == (f"{run.id}.tracking.zip", ())
    assert sorted(packed.artifacts) == ["model:v0", "used: one:v0"]
    done = unpack(packed.file)
    assert (done.run, done.project, done.there, done.problems) == (run.id, "a/proj", False, ())
    before, after = tree(run.dir), tree(done.dir)
    assert {name for name in before.keys() - after.keys()} == {
        name for name in before if name.startswith("cursors/") or name.endswith(".alive")
    }
    assert after.pop("origin.json")
    assert after == {name: content for name, content in before.items() if name in after}
    assert "run.json" in after and any(name.startswith("media/") for name in after)
    assert not (tmp_path / "elsewhere" / ".staging").exists()

    # Without what it came from.
    (tmp_path / "runs").rename(tmp_path / "gone")
    record = tracking.open_store("elsewhere").run(run.id)
    assert (record.status, record.config) == ("finished", {"added": {"deep": [1, 2]}})
    assert len(record.records()) == len(tracking.open_store("gone").run(run.id).records())
    (version,) = record.artifacts()
    assert version.read("sub/f.txt") == version.read("copy") == b"content"
    artifacts = tracking.open_store("elsewhere").artifacts("a/proj")
    assert artifacts.get("model:best").read("copy") == b"content"
    (used,) = record.used_artifacts()
    assert artifacts.get(used).read("data.bin") == (tmp_path / "data.bin").read_bytes()
    assert artifacts.get("used: one:base").ref.version == 0
    assert {version.ref.name for version in artifacts.versions()} == {"model", "used: one"}


def test_the_archive_is_an_ordinary_one(run):
    packed = pack_run(run.id, "there.zip", root="runs")
    with zipfile.ZipFile(packed.file) as archive:
        assert archive.testzip() is None
        manifest = json.loads(archive.read("tracking-pack.json"))
        names = set(archive.namelist())
        assert names == {*manifest["files"], "tracking-pack.json"}
        for name, facts in manifest["files"].items():
            content = archive.read(name)
            assert (len(content), hashlib.sha256(content).hexdigest()) == (facts["size"], facts["sha256"])
        assert json.loads(archive.read("run/run.json"))["id"] == run.id
    assert sum(name.startswith("blobs/") for name in names) == 2


def test_the_second_time_it_is_there(run):
    packed = pack_run(run.id, root="runs")
    first = unpack(packed.file)
    before = tree(first.dir)
    assert unpack(packed.file).there
    assert unpack(packed.file, "runs").there
    assert tree(first.dir) == before


def test_another_run_of_that_id_is_left_alone(run):
    packed = pack_run(run.id, root="runs")
    with tracking.start_run("q", root="elsewhere", run_id=run.id) as other:
        other.log_scalars({"a": 1}, step=1)
    before = tree(other.dir.parent.parent)
    with pytest.raises(tracking.RunExistsError, match="another run with the id"):
        unpack(packed.file)
    assert tree(other.dir.parent.parent) == before


def test_a_version_that_is_taken_gets_another_number(run):
    packed = pack_run(run.id, root="runs")
    with tracking.start_run("a/proj", root="elsewhere") as other:
        other.log_artifact({"x": b"mine"}, name="model", type="model", aliases=["best"])
    done = unpack(packed.file)
    assert len(done.problems) == 1
    assert "it was imported as v1" in done.problems[0]
    artifacts = tracking.open_store("elsewhere").artifacts("a/proj")
    assert artifacts.get("model:v0").read("x") == artifacts.get("model:best").read("x") == b"mine"
    assert artifacts.get("model:v1").read("copy") == b"content"
    # The run itself goes by contents, and has its own.
    (version,) = tracking.open_store("elsewhere").run(run.id).artifacts()
    assert version.read("copy") == b"content"


def test_a_run_that_goes_on_is_packed_as_far_as_it_is(tmp_path):
    run = tracking.start_run("p", root="runs", backends="local")
    try:
        run.log_scalars({"a": 1}, step=1)
        packed = pack_run(run.id, root="runs")
        run.log_scalars({"a": 2}, step=2)
    finally:
        run.finish()
    done = unpack(packed.file)
    record = tracking.open_store("elsewhere").run(done.run)
    assert (record.status, record.scalars("a").step.tolist()) == ("crashed", [1])


def test_what_is_missing_in_a_pack_is_said(run, tmp_path):
    blob = hashlib.sha256(b"content").hexdigest()
    (tmp_path / "runs" / ".blobs" / "sha256" / blob[:2] / blob[2:]).unlink()
    packed = pack_run(run.id, root="runs")
    assert len(packed.problems) == 2
    assert all("of the artifact model:v0 is gone" in problem for problem in packed.problems)
    assert unpack(packed.file).run == run.id


def test_nothing_is_overwritten_or_left_behind(run, tmp_path):
    (tmp_path / "there.zip").write_bytes(b"mine")
    result = CliRunner().invoke(app, ["pack", run.id, "-o", "there.zip", "--root", "runs"])
    assert (result.exit_code, "already exists" in result.output) == (1, True)
    assert (tmp_path / "there.zip").read_bytes() == b"mine"
    result = CliRunner().invoke(app, ["pack", run.id, "-o", "no/such/place.zip", "--root", "runs"])
    assert (result.exit_code, "cannot be packed" in result.output) == (1, True)
    result = CliRunner().invoke(app, ["pack", "nothing", "--root", "runs"])
    assert (result.exit_code, "there is no run 'nothing'" in result.output) == (1, True)


def test_the_commands(run):
    # As with every verb, a name will do.
    result = CliRunner().invoke(app, ["pack", "r", "--root", "runs", "--json"])
    assert result.exit_code == 0, result.output
    packed = json.loads(result.stdout)
    assert (packed["run"], packed["problems"]) == (run.id, [])
    result = CliRunner().invoke(app, ["import", packed["file"], "--root", "elsewhere"])
    assert (result.exit_code, result.output) == (0, f"{run.id}  a/proj/r  imported\n")
    result = CliRunner().invoke(app, ["import", packed["file"], "--root", "elsewhere", "--project", "q"])
    assert (result.exit_code, "in its own project" in result.output) == (1, True)


# ---------------------------------------------------------------- archives from anybody


def refused(file, words):
    with pytest.raises(tracking.StoreError, match=words):
        unpack(file)
    root = file.parent / "elsewhere"
    assert not root.exists() or tree(root) == {}


def rewritten(file, change):
    """The archive with its entries changed: `change` gets and gives (name, content, mode) triples."""
    with zipfile.ZipFile(file) as archive:
        entries = [(info.filename, archive.read(info), info.external_attr >> 16) for info in archive.infolist()]
    with zipfile.ZipFile(file, "w") as archive:
        for name, content, mode in change(entries):
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)


def listed(entries, name, content, mode=0o100644):
    """The entries and one more, which is listed as it should be."""
    *files, (manifest, text, manifest_mode) = entries
    listing = json.loads(text)
    listing["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return [*files, (name, content, mode), (manifest, json.dumps(listing).encode(), manifest_mode)]


@pytest.mark.parametrize(
    "name",
    [
        "../evil", "/tmp/evil", "run/../../evil", "run/media/../../../evil", "run\\..\\evil", "C:/evil", "run/.hidden",
        "run/cursors/x.json", "artifacts/../v0.json", "artifacts/a/../v1.json", "blobs/sha256/aa/short", "run/", "run/a\nb",
    ],
)  # fmt: skip
def test_paths_that_lead_elsewhere_are_refused(run, tmp_path, name):
    file = pack_run(run.id, root="runs").file.absolute()
    rewritten(file, lambda entries: listed(entries, name, b"evil"))
    refused(file, "is not a valid name in a pack|is a link, or not a regular file")
    assert not list(tmp_path.rglob("evil"))


def test_links_are_refused(run):
    file = pack_run(run.id, root="runs").file.absolute()
    rewritten(file, lambda entries: listed(entries, "run/media/link.png", b"/etc/passwd", stat.S_IFLNK | 0o777))
    refused(file, "is a link")


def test_an_id_that_leads_elsewhere_is_refused(run):
    file = pack_run(run.id, root="runs").file.absolute()

    def change(entries):
        files = [(name, content, mode) for name, content, mode in entries if name != "run/run.json"]
        text = json.loads(dict((name, content) for name, content, _ in entries)["run/run.json"])
        return listed(files, "run/run.json", json.dumps({**text, "id": "../../x"}).encode())

    rewritten(file, change)
    refused(file, "look at id in it")


def test_content_that_is_not_what_was_packed_is_refused(run):
    file = pack_run(run.id, root="runs").file.absolute()
    rewritten(file, lambda entries: [(n, c + b"x" if n.startswith("run/journal/") else c, m) for n, c, m in entries])
    refused(file, "has changed since it was packed")


def test_a_blob_of_another_name_is_refused(run):
    file = pack_run(run.id, root="runs").file.absolute()
    rewritten(file, lambda entries: listed(entries, f"blobs/sha256/aa/{'b' * 62}", b"another"))
    refused(file, "another digest than its name")


def test_what_is_not_listed_is_refused(run):
    file = pack_run(run.id, root="runs").file.absolute()
    rewritten(file, lambda entries: [*entries, ("run/extra.parquet", b"x", 0o100644)])
    refused(file, "does not match its own list of files")


def test_a_newer_format_is_refused(run):
    file = pack_run(run.id, root="runs").file.absolute()
    rewritten(file, lambda e: [*e[:-1], (e[-1][0], e[-1][1].replace(b'"v": 1,', b'"v": 2,', 1), e[-1][2])])
    refused(file, "format 2")


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_archive_is_refused(run, part):
    file = pack_run(run.id, root="runs").file.absolute()
    whole = file.read_bytes()
    file.write_bytes(whole[: max(4, int(len(whole) * part))])
    refused(file, "not a complete pack")


def test_every_flipped_byte_is_found(run):
    file = pack_run(run.id, root="runs").file.absolute()
    whole = file.read_bytes()
    reference = {name for name in tree(run.dir) if not name.startswith("cursors/") and not name.endswith(".alive")}
    for at in np.random.default_rng(0).integers(0, len(whole), 60).tolist():
        damaged = bytearray(whole)
        damaged[at] ^= 0x55
        file.write_bytes(bytes(damaged))
        root = file.parent / f"flipped-{at}"
        try:
            (done,) = import_runs(file, root=root, kind="pack")
        except tracking.StoreError:
            assert not root.exists() or tree(root) == {}, at
        else:
            # A field of the archive that says nothing about the content, such as a date.
            assert {n: c for n, c in tree(done.dir).items() if n != "origin.json"} == {
                n: c for n, c in tree(run.dir).items() if n in reference
            }


def test_another_zip_archive_is_no_pack(tmp_path):
    with zipfile.ZipFile("x.zip", "w") as archive:
        archive.writestr("run/run.json", "{}")
    refused(tmp_path / "x.zip", "but not a pack of a run")


# ---------------------------------------------------------------- interrupted


@pytest.mark.system
def test_an_import_that_is_killed_leaves_no_run(tmp_path):
    rows = "".join(f"{step},{step}\n" for step in range(9_000))
    (tmp_path / "big.csv").write_text(f"step,a\n{rows}")
    program = """
    import itertools, os, signal
    from tracking_core.journal import JournalWriter
    from tracking_core.transfer import import_runs
    append, calls = JournalWriter.append, itertools.count()
    def killed(self, *arguments, **keywords):
        if next(calls) == 5_000:
            os.kill(os.getpid(), signal.SIGKILL)
        return append(self, *arguments, **keywords)
    JournalWriter.append = killed
    list(import_runs("big.csv", root="store"))
    """
    run_program(program, tmp_path, code_expected=-signal.SIGKILL)
    assert list((tmp_path / "store").glob(".staging/*/run/journal/*.jsonl"))
    assert list((tmp_path / "store").glob(".staging/*/run/run.json"))
    assert tracking.open_store("store").runs() == []
    (done,) = import_runs("big.csv", root="store")
    assert (done.there, done.records) == (False, 9_001)  # and the end
    assert tracking.open_store("store").run(done.run).scalars("a").step.tolist() == list(range(9_000))
    assert not (tmp_path / "store" / staging_module.FOLDER).exists()


def test_an_import_beside_another_is_not_swept_away(tmp_path):
    with staging_module.staging(tmp_path / "store") as place:
        (tmp_path / "log.csv").write_text("step,a\n1,2\n")
        (done,) = import_runs("log.csv", root="store")
        assert not done.there
        assert (place / "owner").is_file()


def test_a_disk_that_refuses_leaves_no_run(tmp_path, monkeypatch):
    (tmp_path / "log.csv").write_text("step,a\n1,2\n")
    from tracking_core.journal import JournalWriter

    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(JournalWriter, "sync", full)
    result = CliRunner().invoke(app, ["import", "log.csv", "--root", "store"])
    assert (result.exit_code, "No space left" in result.output) == (1, True)
    assert tree(tmp_path / "store") == {}


def entry(manifest):
    return next(iter(manifest["files"].values()))


def of_files(manifest, files):
    """A manifest of other files, with the digest that it should have then."""
    lines = "".join(f"{name}\0{file['sha256']}\n" for name, file in sorted(files.items()))
    return {**manifest, "files": files, "digest": hashlib.sha256(lines.encode()).hexdigest()}


@pytest.mark.parametrize(
    "change",
    [
        lambda m: [], lambda m: {**m, "version": 7}, lambda m: {**m, "name": "other"}, lambda m: {**m, "files": {"a": {"sha256": "../../x"}}},
        lambda m: {**m, "version": "0"}, lambda m: {**m, "digest": "0" * 64}, lambda m: {**m, "created": "now"}, lambda m: {**m, "run": None},
        lambda m: of_files(m, {"../../x": entry(m)}), lambda m: of_files(m, {"/etc/x": entry(m)}), lambda m: of_files(m, {"x": {**entry(m), "size": None}}),
    ],
)  # fmt: skip
def test_a_manifest_that_is_none_is_refused(run, change):
    file = pack_run(run.id, root="runs").file.absolute()
    name = "artifacts/model/model/v0.json"

    def changed(entries):
        content = json.loads(dict((n, c) for n, c, _ in entries)[name])
        return listed([entry for entry in entries if entry[0] != name], name, json.dumps(change(content)).encode())

    rewritten(file, changed)
    refused(file, "is not a version of an artifact")


# ---------------------------------------------------------------- more that nobody expects


def test_a_way_of_compressing_that_packs_do_not_use_is_refused(run):
    file = pack_run(run.id, root="runs").file.absolute()
    with zipfile.ZipFile(file) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    for kind in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in entries:
                archive.writestr(zipfile.ZipInfo(name), content, kind)
        refused(file, "compressed in a way that packs do not use")


def test_text_that_would_fill_the_memory_is_refused(run, monkeypatch):
    from tracking_core.transfer import unpack as unpacking

    file = pack_run(run.id, root="runs").file.absolute()
    monkeypatch.setattr(unpacking, "_LARGEST_MANIFEST", 1 << 20)

    def change(entries):
        files = [(name, content, mode) for name, content, mode in entries if name != "run/run.json"]
        return listed(files, "run/run.json", b" " * (2 << 20))

    rewritten(file, change)
    refused(file, "'run/run.json' in it has 2097152 bytes")


def test_more_than_fits_on_the_disk_is_refused(run):
    """A few bytes that say they are a terabyte: nothing is written."""
    file = pack_run(run.id, root="runs").file.absolute()
    content = bytearray(file.read_bytes())
    # The size in the table of contents of the first entry.
    at = content.index(b"PK\1\2") + 24
    content[at : at + 4] = b"\xfe\xff\xff\xff"
    file.write_bytes(content)
    refused(file, "has changed since it was packed|bytes, and .* has|not a complete pack")


def test_a_heartbeat_in_a_pack_is_refused(run):
    """It would tell whether a run goes on here, of a process that is elsewhere."""
    file = pack_run(run.id, root="runs").file.absolute()
    rewritten(file, lambda entries: listed(entries, "run/journal/w.alive", json.dumps({"pid": os.getpid()}).encode()))
    refused(file, "is not a valid name in a pack")


@pytest.mark.parametrize("aliases", ["best", 7, {"a": 1}, None])
def test_aliases_that_are_none_are_refused(run, aliases):
    file = pack_run(run.id, root="runs").file.absolute()

    def change(entries):
        *files, (name, text, mode) = entries
        return [*files, (name, json.dumps({**json.loads(text), "aliases": {"x": aliases}}).encode(), mode)]

    rewritten(file, change)
    refused(file, "format|is not valid")


def test_latest_is_no_alias_that_a_pack_can_set(run):
    file = pack_run(run.id, root="runs").file.absolute()

    def change(entries):
        *files, (name, text, mode) = entries
        manifest = json.loads(text)
        manifest["aliases"] = {key: [*names, "latest", "", 7] for key, names in manifest["aliases"].items()}
        return [*files, (name, json.dumps(manifest).encode(), mode)]

    rewritten(file, change)
    unpack(file)
    found = sorted(path.name for path in (file.parent / "elsewhere").rglob("aliases/*"))
    assert found == ["base", "best"]


def test_files_that_no_run_has_are_left_out_and_said(run):
    """Notes that somebody put there must not make a pack that cannot be unpacked."""
    (run.dir / "my notes.txt").write_text("note to self")
    (run.dir / "media" / "größe.txt").write_text("another")
    packed = pack_run(run.id, root="runs")
    assert [problem for problem in packed.problems if "was left out" in problem] == [
        "the file 'my notes.txt' was left out: a run has no files of such names",
        "the file 'media/größe.txt' was left out: a run has no files of such names",
    ]
    assert unpack(packed.file).run == run.id


def test_a_damaged_content_does_not_spoil_the_pack(run):
    (version,) = tracking.open_store("runs").run(run.id).artifacts()
    place = version.path("copy")
    place.write_bytes(b"damaged")
    packed = pack_run(run.id, root="runs")
    assert [problem for problem in packed.problems if "is damaged" in problem] != []
    assert unpack(packed.file).run == run.id


def test_a_run_that_is_compacted_while_it_is_packed(tmp_path, monkeypatch):
    """Between the looks into its directories segments become a part: they must be in the pack in one form or the other."""
    from tests.support.segmented import everything, record
    from tracking_core.compaction.compaction import compact
    from tracking_core.transfer import pack as packing

    directory = record(tmp_path / "runs")
    before = everything(directory)
    add, done = packing._Packing._add, []

    def slow(self, archive, name, path, deflate):
        add(self, archive, name, path, deflate)
        if not done:
            done.append(compact(directory, over=True))

    monkeypatch.setattr(packing._Packing, "_add", slow)
    packed = pack_run("r", root="runs")
    assert done[0].parts > 0
    assert everything(unpack(packed.file).dir) == before


def test_an_unpacking_that_was_killed_can_be_repeated(run, monkeypatch):
    """Versions that it had placed under other numbers are not placed again."""
    from tracking_core.transfer import unpack as unpacking

    packed = pack_run(run.id, root="runs")
    with tracking.start_run("a/proj", root="elsewhere") as other:
        other.log_artifact({"x": b"mine"}, name="model", type="model")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(unpacking, "publish", killed)
        unpack(packed.file)
    assert [record.id for record in tracking.open_store("elsewhere").runs()] == [other.id]
    before = sorted(path.name for path in (run.dir.parents[2] / "elsewhere").rglob("v*.json"))
    (problem,) = unpack(packed.file).problems
    assert "it was imported as v1" in problem
    assert sorted(path.name for path in (run.dir.parents[2] / "elsewhere").rglob("v*.json")) == before


def test_an_import_on_another_host_is_not_swept_away(tmp_path):
    """Its process cannot be looked for; it is at work as long as its files change."""
    place = tmp_path / "store" / staging_module.FOLDER / "0123456789abcdef"
    (place / "run" / "journal").mkdir(parents=True)
    (place / "owner").write_text(json.dumps({"pid": 1, "host": "another", "boot": "b", "started": 5, "beat": 0}))
    journal = place / "run" / "journal" / "w-000001.jsonl"
    journal.write_text("")
    (tmp_path / "log.csv").write_text("step,a\n1,2\n")
    for path in (place / "owner", place, place / "run", place / "run" / "journal"):
        os.utime(path, (1e9, 1e9))
    assert not next(iter(import_runs("log.csv", root="store"))).there
    assert journal.is_file()
    os.utime(journal, (1e9, 1e9))
    (tmp_path / "log.csv").write_text("step,a\n1,3\n")
    assert not next(iter(import_runs("log.csv", root="store"))).there
    assert not place.exists()
