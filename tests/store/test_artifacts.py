"""Artifacts: every version is kept once under its own number, and its contents once for the whole root."""

from __future__ import annotations

import hashlib
import json
import math
import os
import socket
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tracking_core as tracking
from tests.support.programs import run as run_program
from tracking_core.artifacts import ArtifactStore
from tracking_core.errors import InvalidValueError, NameNotFoundError, StoreError
from tracking_core.values import ArtifactFile, ArtifactRef, artifact_files


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "root", "digits")


def put(store, name="model", content=b"weights", *, type="file", aliases=(), **keywords):
    files = content if isinstance(content, dict) else {"data.bin": content}
    keywords = {"metadata": {}, "run_id": "run-1", "created": 1.5, **keywords}
    _, listed = artifact_files(files, name)
    return store.put(name, type, listed, aliases=aliases, **keywords)


def manifests(root):
    """Manifests by path, read by json alone."""
    return {path.relative_to(root).as_posix(): json.loads(path.read_bytes()) for path in sorted(root.rglob("v*.json"))}


def blobs(root):
    return sorted(path for path in (root / ".blobs").rglob("*") if path.is_file())


def refused(do, *words, error=InvalidValueError):
    with pytest.raises(error) as caught:
        do()
    for word in words:
        assert word in str(caught.value), str(caught.value)


# ---------------------------------------------------------------- versions


def test_the_manifest_is_plain_json(store, tmp_path):
    version = put(store, content={"a/b.txt": b"one", "c": b""}, type="model", aliases=("best",), metadata={"lr": 0.1})
    (manifest,) = manifests(tmp_path).values()
    one, empty = hashlib.sha256(b"one").hexdigest(), hashlib.sha256(b"").hexdigest()
    assert manifest == {
        "v": 1, "name": "model", "type": "model", "version": 0, "metadata": {"lr": 0.1}, "run": "run-1", "created": 1.5,
        "aliases": ["best"], "files": {"a/b.txt": {"sha256": one, "size": 3}, "c": {"sha256": empty, "size": 0}},
        "digest": hashlib.sha256(f"a/b.txt\0{one}\nc\0{empty}\n".encode()).hexdigest(),
    }  # fmt: skip
    assert list(manifests(tmp_path)) == ["root/digits/artifacts/model/model/v0.json"]
    assert (tmp_path / "root" / ".blobs" / "sha256" / one[:2] / one[2:]).read_bytes() == b"one"
    assert version.ref == ArtifactRef("model", "model", 0, manifest["digest"], ("best", "latest"))
    assert str(version.ref) == "model:v0"


def test_new_content_gives_a_new_version_and_the_same_content_none(store, tmp_path):
    assert [put(store, content=content).ref.version for content in (b"a", b"a", b"b", b"b", b"a")] == [0, 0, 1, 1, 2]
    assert len(manifests(tmp_path)) == 3
    # Stored once, however often.
    assert sorted(path.read_bytes() for path in blobs(tmp_path / "root")) == [b"a", b"b"]


def test_metadata_belong_to_the_version(store):
    assert put(store, metadata={"a": [1, 2]}).ref.version == 0
    assert put(store, metadata={"a": (1, 2)}).ref.version == 0
    assert put(store, metadata={"a": [1, 3]}).ref.version == 1
    # NaN is itself here.
    for _ in range(2):
        assert put(store, metadata={"b": math.nan, "c": 2**70, "$d": "\ud800"}).ref.version == 2
    metadata = store.get("model").metadata
    assert repr(metadata) == repr({"b": math.nan, "c": 2**70, "$d": "\ud800"})


def test_contents_are_shared_between_names_types_and_projects(tmp_path):
    for project in ("one", "two"):
        for name in ("a", "b"):
            for kind in ("file", "model"):
                put(ArtifactStore(tmp_path, project), name, type=kind)
    assert len(manifests(tmp_path)) == 8
    assert [path.read_bytes() for path in blobs(tmp_path)] == [b"weights"]
    assert [v.ref.name + v.ref.type for v in ArtifactStore(tmp_path, "one").versions()] == [
        "afile",
        "bfile",
        "amodel",
        "bmodel",
    ]
    # Nothing is left lying beside.
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]


def test_contents_may_lie_elsewhere(tmp_path):
    store = ArtifactStore(tmp_path / "root", "p", tmp_path / "elsewhere")
    assert put(store).read("data.bin") == b"weights"
    assert not (tmp_path / "root" / ".blobs").exists()


PROGRAM = """
import json, os
from pathlib import Path
from tracking_core.artifacts import ArtifactStore
from tracking_core.values import ArtifactFile

begin, go = os.pipe()
children = []
for who in range(8):
    child = os.fork()
    if child:
        children.append(child)
        continue
    os.close(go)
    os.read(begin, 1)  # returns when the parent has closed the other end, in all children at once
    store = ArtifactStore(Path("root"), "digits")
    found = []
    for count in range(COUNT):
        content = f"{count}" if SAME else f"{who} {count}"
        version = store.put("model", "file", [ArtifactFile("x", content.encode())], metadata={}, aliases=("best",),
                            run_id=str(who), created=0.0)
        found.append((content, version.ref.version))
    Path(f"found-{who}").write_text(json.dumps(found))
    os._exit(0)
os.close(go)
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
"""


def competing(tmp_path, *, same, count):
    run_program(PROGRAM.replace("SAME", str(same)).replace("COUNT", str(count)), tmp_path)
    return [tuple(pair) for path in tmp_path.glob("found-*") for pair in json.loads(path.read_text())]


@pytest.mark.system
def test_eight_processes_lose_and_share_no_number(tmp_path):
    found = competing(tmp_path, same=False, count=20)
    assert sorted(version for _, version in found) == list(range(160))
    stored = manifests(tmp_path)
    assert len(stored) == 160
    for path, manifest in stored.items():
        assert path.endswith(f"/v{manifest['version']}.json")
        content = (
            tmp_path / "root/.blobs/sha256" / (sha := manifest["files"]["x"]["sha256"])[:2] / sha[2:]
        ).read_text()
        assert (content, manifest["version"]) in found
    # Nobody points "latest" back.
    store = ArtifactStore(tmp_path / "root", "digits")
    assert store.get("model").ref.version == 159
    assert store.get("model:latest").ref.version == 159
    assert store.get("model:best").ref.version in range(160)


def test_eight_processes_with_one_content_make_one_version(tmp_path):
    found = competing(tmp_path, same=True, count=1)
    assert Counter(found) == {("0", 0): 8}
    assert len(manifests(tmp_path)) == 1


# ---------------------------------------------------------------- looking up


def test_references(store):
    for content in (b"a", b"b", b"c"):
        put(store, content=content, aliases=("first",) if content == b"a" else ("newer", "best"))
    for reference, version in [
        ("model", 2), ("model:latest", 2), ("model:v0", 0), ("model:v2", 2), ("model:first", 0), ("model:best", 2),
        (ArtifactRef("model"), 2), (ArtifactRef("model", "file", 1), 1),
    ]:  # fmt: skip
        assert store.get(reference).ref.version == version
    assert store.get("model:v0").ref.aliases == ("first",)
    assert store.get("model:v1").ref.aliases == ()
    assert store.get("model:v2").ref.aliases == ("best", "newer", "latest")


def test_an_alias_moves(store, tmp_path):
    put(store, content=b"a", aliases=("best",))
    put(store, content=b"b", aliases=("best",))
    assert store.get("model:best").ref.version == 1
    # The same content again: no version, but the alias.
    put(store, content=b"b", aliases=("prod",))
    assert store.get("model").ref.aliases == ("best", "prod", "latest")
    stored = [
        json.loads(path.read_bytes())
        for path in sorted((tmp_path / "root/digits/artifacts/file/model/aliases").iterdir())
    ]
    assert stored == [{"alias": "best", "version": 1}, {"alias": "prod", "version": 1}]


def test_an_alias_that_looks_like_a_version_hides_none(store):
    put(store, content=b"a", aliases=("v1", "latest"))
    assert store.get("model:v1").ref.version == 0
    put(store, content=b"b")
    assert store.get("model:v1").ref.version == 1
    assert store.get("model:latest").ref.version == 1


@pytest.mark.parametrize("reference", ["", ":", "model:", "other", "model:v1", "model:v00", "model:best", "model:v²", "../model", ArtifactRef("model", "other"), ArtifactRef("model", "file", 7)], ids=str)  # fmt: skip
def test_what_is_not_there(store, reference):
    put(store)
    refused(lambda: store.get(reference), "no artifact", error=NameNotFoundError)


def test_an_empty_store(store):
    refused(lambda: store.get("model"), "no artifact", error=NameNotFoundError)
    assert list(store.versions()) == []


def test_types(store):
    put(store, content=b"a", type="model")
    put(store, content=b"b", type="dataset")
    assert store.get("model", type="model").read("data.bin") == b"a"
    assert store.get("model", type="dataset").read("data.bin") == b"b"
    assert store.get("model").ref.type == "dataset"
    refused(lambda: store.get("model", type="other"), error=NameNotFoundError)


any_text = st.text(alphabet=st.characters(exclude_categories=()), min_size=1, max_size=12)
hostile = st.one_of(any_text, st.sampled_from(["..", ".", "/", "../../x", "a:b", "a:v0", "con", "v0", "aliases", "latest", "~", "x" * 300, "é" * 100, "\0"]))  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=hostile, kind=hostile, alias=hostile)
def test_hostile_names(tmp_path, name, kind, alias):
    place = tmp_path / os.urandom(8).hex()
    store = ArtifactStore(place / "root", "digits")
    version = put(store, name, type=kind, aliases=(alias,))
    assert (version.ref.name, version.ref.type) == (name, kind)
    assert version.ref.aliases == ((alias, "latest") if alias != "latest" else ("latest",))
    for reference in (version.ref, f"{name}:v0", name, f"{name}:{alias}"):
        assert store.get(reference, None if isinstance(reference, ArtifactRef) else kind) == version
    assert list(store.versions()) == [version]
    # Nothing outside, and nothing half-done.
    assert os.listdir(place) == ["root"]
    assert sorted(os.listdir(place / "root")) == [".blobs", "digits"]
    assert os.listdir(place / "root" / "digits") == ["artifacts"]
    assert len(list((place / "root" / "digits" / "artifacts").glob("*/*/v0.json"))) == 1


def test_gaps_are_no_trouble(store, tmp_path):
    for content in (b"a", b"b", b"c"):
        put(store, content=content)
    (tmp_path / "root/digits/artifacts/file/model/v1.json").unlink()
    assert [version.ref.version for version in store.versions()] == [0, 2]
    refused(lambda: store.get("model:v1"), error=NameNotFoundError)
    assert put(store, content=b"d").ref.version == 3


# ---------------------------------------------------------------- reading


def test_download(store, tmp_path):
    contents = {"a": b"1", "deep/er/b": b"2", "deep/c": b"", "back\\slash": b"3"}
    version = put(store, content=dict(contents))
    there = version.download(tmp_path / "out" / "put")
    found = {path.relative_to(there).as_posix(): path.read_bytes() for path in there.rglob("*") if path.is_file()}
    assert found == {name.replace("\\", "/"): content for name, content in contents.items()}
    assert version.read("deep/er/b") == b"2"
    refused(lambda: version.path("nope"), "no file 'nope'", "deep/c", error=NameNotFoundError)


@pytest.mark.parametrize("path", ["../escaped", "/tmp/escaped", "a/../../escaped"])
def test_a_manifest_from_elsewhere_leads_nowhere(store, tmp_path, path):
    put(store)
    manifest = tmp_path / "root/digits/artifacts/file/model/v0.json"
    content = json.loads(manifest.read_bytes())
    content["files"] = {path: content["files"]["data.bin"]}
    manifest.write_text(json.dumps(content))
    version = store.get("model")
    refused(lambda: version.download(tmp_path / "out"), "leads out", error=StoreError)
    assert not (tmp_path / "escaped").exists() and not Path("/tmp/escaped").exists()


def test_a_digest_from_elsewhere_leads_nowhere(store, tmp_path):
    put(store)
    (tmp_path / "secret").write_text("x")
    manifest = tmp_path / "root/digits/artifacts/file/model/v0.json"
    content = json.loads(manifest.read_bytes())
    content["files"]["data.bin"]["sha256"] = "../../../secret"
    manifest.write_text(json.dumps(content))
    refused(lambda: store.get("model").read("data.bin"), "sha256", error=StoreError)


# ---------------------------------------------------------------- what is stored


def listed(artifact, name=None):
    found, files = artifact_files(artifact, name)
    return found, {file.path: file.read() for file in files}


def test_files_and_directories(tmp_path):
    tree = tmp_path / "ckpt"
    for path, content in {"a": b"1", "sub/b": b"2", "sub/deep/c": b"3", ".hidden": b"4"}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content)
    (tree / "empty").mkdir()
    assert listed(tree) == ("ckpt", {".hidden": b"4", "a": b"1", "sub/b": b"2", "sub/deep/c": b"3"})
    assert listed(str(tree), "other")[0] == "other"
    assert listed(tree / "a") == ("a", {"a": b"1"})
    os.chdir(tree)
    assert listed(".")[0] == "ckpt"
    assert listed("sub/b") == ("b", {"b": b"2"})


def test_names_of_bytes_that_are_no_text(tmp_path, store):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / os.fsdecode(b"\xff\xfe")).write_bytes(b"odd")
    (tree / "a\nb").write_bytes(b"line")
    name, files = artifact_files(tree)
    version = store.put(name, "file", files, metadata={}, aliases=(), run_id="r", created=0.0)
    there = store.get("tree").download(tmp_path / "out")
    assert sorted(os.listdir(os.fsencode(there))) == [b"a\nb", b"\xff\xfe"]
    assert version.read("a\nb") == b"line"


def test_links_are_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_bytes(b"far")
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "file").symlink_to(outside / "x")
    (tree / "folder").symlink_to(outside)
    (tree / "sub" / "near").symlink_to("../file")
    assert listed(tree)[1] == {"file": b"far", "folder/x": b"far", "sub/near": b"far"}
    (tmp_path / "link").symlink_to(tree)
    assert listed(tmp_path / "link")[1].keys() == {"file", "folder/x", "sub/near"}


@pytest.mark.parametrize("kind", ["circle", "dangling", "socket", "fifo"])
def test_what_cannot_be_stored_is_refused_not_left_out(tmp_path, kind):
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "file").write_bytes(b"x")
    odd = tree / "sub" / "odd"
    if kind == "circle":
        odd.symlink_to(tree)
        word = "form a loop"
    elif kind == "dangling":
        odd.symlink_to("nowhere")
        word = "broken link"
    elif kind == "socket":
        os.chdir(tree / "sub")  # names of sockets are short
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("odd")
        word = "a socket"
    else:
        os.mkfifo(odd)
        word = "a device"
    refused(lambda: artifact_files(tree), word)
    refused(lambda: artifact_files(odd) if kind != "circle" else artifact_files(tree))


def test_a_file_that_vanishes_is_refused(tmp_path, store):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a").write_bytes(b"x")
    _, files = artifact_files(tree)
    (tree / "a").unlink()
    refused(
        lambda: store.put("t", "file", files, metadata={}, aliases=(), run_id="r", created=0.0), "'a' cannot be read"
    )
    assert manifests(tmp_path) == {}
    assert blobs(tmp_path / "root") == []
    refused(lambda: store.put("t", "file", [ArtifactFile("d", tree)], metadata={}, aliases=(), run_id="r", created=0.0), "cannot be read")  # fmt: skip


def test_unreadable_files_and_directories_are_refused(tmp_path):
    """In a process of its own, which gives up the right of root to read everything."""
    run_program(
        """
        import os, tempfile
        from pathlib import Path
        from tracking_core.artifacts import ArtifactStore
        from tracking_core.errors import InvalidValueError
        from tracking_core.values import artifact_files

        if os.geteuid() == 0:
            os.seteuid(65534)
        with tempfile.TemporaryDirectory() as place:
            tree = Path(place) / "tree"
            (tree / "sub").mkdir(parents=True)
            (tree / "a").write_bytes(b"x")
            (tree / "a").chmod(0)
            name, files = artifact_files(tree / "a")
            store = ArtifactStore(Path(place) / "root", "p")
            try:
                store.put(name, "file", files, metadata={}, aliases=(), run_id="r", created=0.0)
            except InvalidValueError as error:
                assert "'a' cannot be read" in str(error) and "Permission" in str(error)
            else:
                raise AssertionError
            (tree / "sub").chmod(0)
            try:
                artifact_files(tree)
            except InvalidValueError as error:
                assert "sub' cannot be read" in str(error)
            else:
                raise AssertionError
            (tree / "sub").chmod(0o700)
        """,
        tmp_path,
    )


@pytest.mark.parametrize(
    ("artifact", "name", "word"),
    [
        ("nowhere", None, "no file or directory 'nowhere'"), ("a\0b", None, "no file or directory"), ("", "x", "there are no files"),
        (b"bytes", "x", "expected a path or a mapping"), (3, "x", "got int"), (None, "x", "NoneType"), ({}, "x", "no files"),
        ({"a": b""}, None, "needs name="), ({"a": b""}, "", "needs name="), ({"a": b""}, 3, "a name must be a str"),
        ({"a": "no such file"}, "x", "pass content as bytes"), ({"a": 3}, "x", "expected a path or bytes"), ({"a": None}, "x", "NoneType"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_artifact_is_refused(artifact, name, word):
    refused(lambda: artifact_files(artifact, name), word)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "..", "", ".", "C:\\x", "c:/x", "a\0b", 3, None, b"x", "..\\x", "\\x"], ids=repr)  # fmt: skip
def test_paths_that_leave_the_artifact_are_refused(path):
    refused(lambda: artifact_files({path: b"x"}, "n"), "path")


@pytest.mark.parametrize(
    "paths", [("a", "./a"), ("a", "a/b"), ("a/b", "a/b/c"), ("a//b", "a/b"), ("a\\b", "a/b"), ("a", "a.b", "a/c")]
)
def test_paths_that_meet_are_refused(paths):
    refused(lambda: artifact_files(dict.fromkeys(paths, b"x"), "n"), "appears twice")


def test_mappings(tmp_path):
    (tmp_path / "f").write_bytes(b"file")
    given_ = {"b": b"1", "a/x": bytearray(b"2"), "c": memoryview(b"3"), "d": tmp_path / "f", "e": str(tmp_path / "f")}
    assert listed(given_, "n") == ("n", {"a/x": b"2", "b": b"1", "c": b"3", "d": b"file", "e": b"file"})
    assert [file.path for file in artifact_files(given_, "n")[1]] == ["a/x", "b", "c", "d", "e"]


# ---------------------------------------------------------------- through runs


def test_a_run_logs_and_uses(tmp_path):
    (tmp_path / "w.npy").write_bytes(b"numbers")
    with tracking.start_run("p", root=tmp_path / "root", run_id="one") as run:
        ref = run.log_artifact("w.npy", type="model", metadata={"acc": 0.5}, aliases=["best"])
        assert ref == ArtifactRef("w.npy", "model", 0, ref.digest, ("best", "latest"))
    with tracking.start_run("p", root=tmp_path / "root", run_id="two") as run:
        assert run.use_artifact("w.npy:best") == ref
    record = tracking.open_store(tmp_path / "root").run("one")
    (version,) = record.artifacts()
    assert (version.run_id, version.metadata) == ("one", {"acc": 0.5})
    assert version.read("w.npy") == b"numbers"
    (used,) = tracking.open_store(tmp_path / "root").run("two").used_artifacts()
    assert (used.name, used.version) == ("w.npy", 0)


def test_a_root_that_was_moved_still_has_its_contents(tmp_path):
    with tracking.start_run("p", root=tmp_path / "old", run_id="one") as run:
        run.log_artifact({"x": b"1"}, name="n")
    (tmp_path / "old").rename(tmp_path / "new")
    record = tracking.open_store(tmp_path / "new").run("one")
    assert record.artifacts()[0].read("x") == b"1"
    (replayed,) = [r for r in record.records() if r.kind == "artifact"]
    assert replayed.data["artifact"]["x"].read_bytes() == b"1"
