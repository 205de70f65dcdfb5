"""`tracking verify` names the first place where a run is not what was written."""

from __future__ import annotations

import json
import shutil

import pytest
from click.testing import CliRunner

from tests.test_compaction import everything, journals, record
from tracking_core.cli.app import app
from tracking_core.store.compaction import compact
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
    assert "another digest than its seal" in one.reason
    path.unlink()
    (one,) = verify(run).breaks
    assert (one.file, "is gone" in one.reason) == (path, True)


def test_a_line_that_was_taken_out_of_a_part_is_missed(runs, tmp_path):
    shutil.copytree(runs / "parts", tmp_path / "s")
    run = tmp_path / "s" / "p" / "r"
    path = min(run.glob("events-*.jsonl"))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    assert "events where its header says" in verify(run).breaks[0].reason


def test_a_medium_that_is_gone(run):
    (image,) = run.glob("media/*.png")
    image.unlink()
    (one,) = verify(run).breaks
    assert f"refers to media/{image.name}, which is gone" in one.reason


def test_the_command(run):
    root = str(run.parent.parent)
    result = CliRunner().invoke(app, ["verify", "r", "--root", root])
    assert result.exit_code == 0
    assert "are as they were written" in result.output
    (image,) = run.glob("media/*.png")
    image.write_bytes(b"something else")
    result = CliRunner().invoke(app, ["verify", "r", "--root", root])
    assert result.exit_code == 1
    assert "its content is not what its name says" in result.output
    result = CliRunner().invoke(app, ["verify", "r", "--root", root, "--json"])
    (one,) = json.loads(result.stdout)["runs"]
    assert (one["ok"], one["breaks"][0]["file"]) == (False, str(image))


def test_the_command_compact(runs, tmp_path, monkeypatch):
    from tracking_core.store import compaction

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
