"""`tracking verify` names the first place where a run is not what was written."""

from __future__ import annotations

import json
import shutil
import zlib

import pytest
from click.testing import CliRunner

import tracking_core as tracking
from tests.support.segmented import everything, journals, record
from tracking_core.cli.app import app
from tracking_core.compaction.compaction import compact
from tracking_core.store.verify import verify


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run, as segments and as parts."""
    place = tmp_path_factory.mktemp("runs")
    record(place / "segments", rows=200)
    shutil.copytree(place / "segments", place / "parts")
    compact(place / "parts" / "p" / "r", over=True)
    return place


@pytest.fixture(params=["segments", "parts"])
def run(request, runs, tmp_path):
    shutil.copytree(runs / request.param, tmp_path / request.param)
    return tmp_path / request.param / "p" / "r"


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_what_is_whole_is_said_to_be(run):
    result = verify(run)
    assert result.ok, result.breaks
    assert result.events > 200


@pytest.mark.system
def test_a_flipped_bit_anywhere_is_found(run):
    expected = everything(run)
    for path in sorted(
        [*run.glob("journal/*.jsonl"), *run.glob("events-*"), *run.glob("scalars-*"), *run.glob("media/*")]
    ):
        content = path.read_bytes()
        for at in range(3, len(content) - 1, max(1, len(content) // 7)):
            flip(path, at)
            result = verify(run)
            if path.suffix == ".parquet" and result.ok:
                # A bit that says nothing.
                assert everything(run) == expected
                path.write_bytes(content)
                continue
            assert not result.ok, (path, at)
            assert path in {one.file for one in result.breaks} or path.name.startswith("scalars")
            path.write_bytes(content)
    assert verify(run).ok


def test_the_line_is_named(run):
    paths = sorted([*run.glob("journal/*.jsonl"), *run.glob("events-*.jsonl")])
    content = paths[1].read_bytes()
    start = content.index(b"\n", len(content) // 2) + 1
    flip(paths[1], start + 20)
    first = verify(run).breaks[0]
    assert (first.file, first.offset) == (paths[1], start)
    assert "the checksum does not match" in str(first)


def test_a_line_that_was_taken_out_is_missed(runs, tmp_path):
    shutil.copytree(runs / "segments", tmp_path / "s")
    run = tmp_path / "s" / "p" / "r"
    path = run / "journal" / journals(run)[1]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3] + lines[4:]))
    (one,) = verify(run).breaks
    assert one.file == path
    assert "its digest is not that of its seal" in one.reason
    path.unlink()
    (one,) = verify(run).breaks
    assert (one.file, "is gone" in one.reason) == (path, True)


def test_a_line_that_was_taken_out_of_a_part_is_missed(runs, tmp_path):
    shutil.copytree(runs / "parts", tmp_path / "s")
    run = tmp_path / "s" / "p" / "r"
    path = min(run.glob("events-*.jsonl"))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    assert "events, but its header says" in verify(run).breaks[0].reason


def test_a_medium_that_is_gone(run):
    (image,) = run.glob("media/*.png")
    image.unlink()
    (one,) = verify(run).breaks
    assert f"refers to media/{image.name}, which is gone" in one.reason


def test_the_command(run):
    root = str(run.parent.parent)
    for runs in (["r", "--all"], []):
        assert CliRunner().invoke(app, ["verify", *runs, "--root", root]).exit_code == 2
    assert CliRunner().invoke(app, ["verify", "--all", "--root", root]).exit_code == 0
    result = CliRunner().invoke(app, ["verify", "r", "--root", root])
    assert result.exit_code == 0
    assert "all as written" in result.output
    (image,) = run.glob("media/*.png")
    image.write_bytes(b"something else")
    result = CliRunner().invoke(app, ["verify", "r", "--root", root])
    assert result.exit_code == 1
    assert "its content does not match its name" in result.output
    result = CliRunner().invoke(app, ["verify", "r", "--root", root, "--json"])
    (one,) = json.loads(result.stdout)["runs"]
    assert (one["ok"], one["breaks"][0]["file"]) == (False, str(image))


def test_the_command_compact(runs, tmp_path, monkeypatch):
    from tracking_core.compaction import compaction

    shutil.copytree(runs / "segments", tmp_path / "s")
    monkeypatch.setattr(compaction, "SETTLED", -1.0)
    result = CliRunner().invoke(app, ["compact", "--all", "--root", str(tmp_path / "s"), "--json"])
    assert result.exit_code == 0, result.output
    (one,) = json.loads(result.stdout)["runs"]
    assert one["parts"] >= 1 and one["after"] < one["before"] and one["waiting"] == 0
    assert journals(tmp_path / "s" / "p" / "r") == []
    again = CliRunner().invoke(app, ["compact", "r", "--root", str(tmp_path / "s")])
    assert "nothing to merge" in again.output
    assert CliRunner().invoke(app, ["compact", "--root", str(tmp_path / "s")]).exit_code == 2


# ---------------------------------------------------------------- the chain


@pytest.fixture
def segments(runs, tmp_path):
    shutil.copytree(runs / "segments", tmp_path / "chain")
    run = tmp_path / "chain" / "p" / "r"
    paths = [run / "journal" / name for name in journals(run)]
    assert len(paths) > 5
    return run, paths


def first_break(run):
    """(exit code, first break) as the command has them."""
    result = CliRunner().invoke(app, ["verify", "r", "--root", str(run.parent.parent), "--json"])
    (one,) = json.loads(result.stdout)["runs"]
    return result.exit_code, (one["breaks"] or [None])[0]


def test_of_several_breaks_the_first_is_named(segments):
    run, paths = segments
    flip(paths[4], 200)
    lines = paths[1].read_bytes().splitlines(keepends=True)
    paths[1].write_bytes(b"".join(lines[:3] + lines[4:]))
    code, first = first_break(run)
    assert (code, first["file"]) == (1, str(paths[1])), first


def test_segments_that_were_swapped(segments):
    run, paths = segments
    one, other = paths[2].read_bytes(), paths[3].read_bytes()
    paths[2].write_bytes(other)
    paths[3].write_bytes(one)
    code, first = first_break(run)
    assert (code, first["file"], first["offset"]) == (1, str(paths[2]), 0)
    assert "does not begin with the header of segment 3" in first["reason"]


def test_a_segment_of_another_run_in_its_place(segments, tmp_path):
    run, paths = segments
    record(tmp_path / "other", rows=300)
    other = tmp_path / "other" / "p" / "r"
    paths[2].write_bytes((other / "journal" / journals(other)[2]).read_bytes())
    code, first = first_break(run)
    assert (code, first["file"]) == (1, str(paths[2]))


def test_a_segment_that_was_removed(segments):
    run, paths = segments
    flip(paths[4], 200)
    paths[2].unlink()
    code, first = first_break(run)
    assert (code, first["file"]) == (1, str(paths[2]))
    assert "is gone" in first["reason"]


@pytest.mark.parametrize("lost", [1, 30])
def test_the_last_segment_cut_off(segments, lost):
    run, paths = segments
    for alive in run.glob("journal/*.alive"):
        # It is that of this very process: what a living writer has not finished is no damage.
        alive.unlink()
    content = paths[-1].read_bytes()
    paths[-1].write_bytes(content[:-lost])
    code, first = first_break(run)
    assert (code, first["file"]) == (1, str(paths[-1]))
    assert "the last line is incomplete" in first["reason"]


def test_a_segment_that_stayed_beside_its_part(runs, tmp_path):
    """The last one has no seal; the part that was made of it says what it was."""
    shutil.copytree(runs / "parts", tmp_path / "s")
    run = tmp_path / "s" / "p" / "r"
    original = runs / "segments" / "p" / "r" / "journal"
    last = max(original.glob("*.jsonl"))
    (run / "journal").mkdir(exist_ok=True)
    (run / "journal" / last.name).write_bytes(last.read_bytes())
    assert verify(run).ok, verify(run).breaks
    lines = last.read_bytes().splitlines(keepends=True)
    (run / "journal" / last.name).write_bytes(b"".join(lines[:-1]))
    assert "its digest is not that of its seal" in verify(run).breaks[0].reason


# ---------------------------------------------------------------- contents of artifacts


@pytest.fixture
def logged(tmp_path):
    with tracking.start_run("p", run_id="a", root=tmp_path / "root", backends="local") as run:
        run.log_artifact(
            {"w/1.bin": b"x" * 5000, "w/2.bin": b"y" * 5000, "copy": b"x" * 5000}, name="vae", type="model"
        )
    return run.dir, sorted((tmp_path / "root" / ".blobs").rglob("*"), key=lambda path: -len(str(path)))[:2]


def test_contents_that_differ_are_named(logged):
    directory, (one, _) = logged
    assert verify(directory).ok
    name = {"x": "'copy'", "y": "'w/2.bin'"}[one.read_text()[0]]
    flip(one, 17)
    (found,) = verify(directory).breaks
    assert found.file == one
    assert "does not match its name" in found.reason and f"{name} of the artifact 'vae' v0" in found.reason
    quick = verify(directory, quick=True)
    assert quick.ok and "only existence and size" in quick.unchecked[0]
    result = CliRunner().invoke(app, ["verify", "a", "--quick", "--root", str(directory.parent.parent)])
    assert result.exit_code == 0
    one.write_bytes(one.read_bytes()[:-1])
    for quick in (False, True):
        (found,) = verify(directory, quick=quick).breaks
        assert (found.file, "4999 bytes instead of the 5000" in found.reason) == (one, True)


def test_contents_that_are_gone_are_named(logged):
    directory, (one, other) = logged
    one.unlink()
    for quick in (False, True):
        (found,) = verify(directory, quick=quick).breaks
        assert found.file.suffix == ".jsonl" and found.offset
        assert f"whose content {one} is gone" in found.reason
    other.unlink()
    other.mkdir()
    assert len(verify(directory).breaks) == 2


def test_contents_named_in_a_part(tmp_path, logged):
    directory, (one, _) = logged
    compact(directory, over=True)
    assert not journals(directory)
    flip(one, 17)
    assert [found.file for found in verify(directory).breaks] == [one]


def test_an_artifact_that_is_not_that_of_its_digest(logged):
    directory, _ = logged
    (journal,) = directory.glob("journal/*.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    at = next(at for at, line in enumerate(lines) if b'"kind":"artifact"' in line)
    body = lines[at].replace(b'"copy"', b'"coqy"').rpartition(b',"crc":"')[0]
    lines[at] = body + b',"crc":"%08x"}\n' % zlib.crc32(body)
    journal.write_bytes(b"".join(lines))
    (found,) = verify(directory).breaks
    assert "are not those of its digest" in found.reason


def test_what_is_no_file_is_said(run):
    (run / "media" / "folder").mkdir()
    (found,) = verify(run).breaks
    assert found.file.name == "folder" and "cannot be read" in found.reason


def test_a_run_that_is_compacted_meanwhile(runs, tmp_path, monkeypatch):
    """Segments that are gone when their turn comes are in a part by then."""
    from tracking_core.store import verify as module

    shutil.copytree(runs / "segments", tmp_path / "s")
    run = tmp_path / "s" / "p" / "r"
    find, done = module.find_files, []

    def listed(directory):
        files = find(directory)
        if not done:
            done.append(compact(directory, over=True))
        return files

    monkeypatch.setattr(module, "find_files", listed)
    result = verify(run)
    assert done[0].removed > 0
    assert result.ok, result.breaks
    assert result.events == verify(runs / "segments" / "p" / "r").events


def test_a_file_that_may_not_be_read_is_said(segments):
    run, paths = segments
    paths[1].unlink()
    paths[1].mkdir()
    code, first = first_break(run)
    assert (code, first["file"]) == (1, str(paths[1]))
    assert "directory" in first["reason"]
