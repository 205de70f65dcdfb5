"""Lines whose checksum is right and whose fields are not: each is damage, and hides nothing else."""

from __future__ import annotations

import json
import math
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

import tracking_core as tracking
from tests.support.hurt_stores import (
    HASH,
    HEADER,
    LOSSES,
    STEPPED,
    bad_run,
    check_api,
    check_everything,
    in_time,
    line_of,
    make_store,
    said,
)
from tracking_core.compaction.compaction import compact
from tracking_core.delivery.cursor import Cursor
from tracking_core.delivery.inbox import Inbox
from tracking_core.errors import JournalError
from tracking_core.journal import decode_line, read_events
from tracking_core.store import RunRecord
from tracking_core.store.verify import verify
from tracking_core.values import ArtifactRef, Audio, Histogram, Image

VALID = {
    "scalars": {**STEPPED, "values": {"loss": 0.5, "nan": "NaN", "big": "1180591620717411303424"}},
    "images": {**STEPPED, "images": {"i": [{"file": f"{HASH}.png", "shape": [1, 1, 3], "caption": None}]}},
    "histogram": {
        **STEPPED, "name": "h", "counts": [1, 2], "edges": [0.0, 1.0, 2.0], "nan": 0, "posinf": 0, "neginf": 0,
        "min": 0.0, "max": 2.0, "mean": {"$float": "NaN"}, "std": 1.0,
    },
    "table": {**STEPPED, "name": "t", "file": f"{HASH}.table.json", "rows": 1, "columns": 1},
    "video": {**STEPPED, "name": "v", "file": f"{HASH}.gif", "fps": 8.0},
    "audio": {**STEPPED, "name": "a", "file": f"{HASH}.wav", "sample_rate": 16000, "caption": None},
    "text": {**STEPPED, "name": "x", "text": "said"},
    "figure": {**STEPPED, "name": "f", "file": f"{HASH}.png"},
    "artifact": {
        "name": "vae", "type": "model", "version": 0, "digest": HASH, "metadata": {"a": 1}, "aliases": ["best"],
        "files": {"w.bin": {"sha256": HASH, "size": 3}}, "blobs": "/nowhere",
    },
    "use_artifact": {"artifact": "vae:v0", "name": "vae", "type": "model", "version": 0, "digest": HASH},
    "config": {"config": {"lr": 0.1}},
    "summary": {"summary": {"best": 0.5}},
    "environment": {"environment": {"git": {"commit": "abc"}}},
    "alert": {"title": "t", "text": "x", "level": "warn"},
    "finish": {"status": "finished", "error": None, "dropped": {"invalid": 1}},
    "truncate": {**STEPPED, "writers": {"w": {"last": 1, "from": None}}},
    "seal": {"segment": 1, "bytes": 10, "sha256": HASH},
    "segment": HEADER,
}  # fmt: skip

WRONG = [
    None, True, 5, -1, 2.5, -0.5, 2**70, -(2**70), 10**400, "", "text", "NaN", "-", [], [1], ["a"], [[]], [None], {}, {"a": 1},
    {"a": None}, {"a": "b"}, {"a": [1]}, {"a": [{}]}, {"a": {"last": "x"}}, {"a": {"last": 1, "from": "y"}},
    {"a": {"sha256": "../../etc/passwd", "size": 1}}, {"a": {"sha256": HASH, "size": "big"}}, {"$float": "x"},
    {"$float": "NaN"}, {"$int": "1"}, {"a": {"$int": "x"}}, {"a": {"$float": []}}, {"a": {"$int": "9" * 5000}},
    json.loads("[" * 300 + "]" * 300), json.loads('{"a":' * 300 + "1" + "}" * 300),
]  # fmt: skip


def mutations(kind):
    """(what is wrong, body) of lines of a kind: each field missing, and each of wrong types and out of range."""
    seq = 0 if kind == "segment" else 7
    whole = {"seq": seq, "low": 1, "kind": kind, "t": 1.5, **VALID[kind]}
    for field, inner in whole.items():
        if field == "kind":
            continue
        yield f"{field} missing", {key: value for key, value in whole.items() if key != field}
        for value in WRONG:
            yield f"{field}={value!r:.40}", {**whole, field: value}
            if isinstance(inner, dict):
                key = next(iter(inner))
                yield f"{field}.{key}={value!r:.40}", {**whole, field: {**inner, key: value}}
                if isinstance(inner[key], dict):
                    for name in inner[key]:
                        yield (
                            f"{field}.{key}.{name}={value!r:.40}",
                            {**whole, field: {key: {**inner[key], name: value}}},
                        )
            if isinstance(inner, list):
                yield f"{field}[]={value!r:.40}", {**whole, field: [*inner, value]}


def _text(value):
    return isinstance(value, str)


def _maybe_text(value):
    return value is None or isinstance(value, str)


def _whole(value, low=-(2**63), high=2**63):
    return isinstance(value, int) and not isinstance(value, bool) and low <= value < high


def _count(value):
    return _whole(value, 0, 2**62)


def _real(value):
    return not isinstance(value, bool) and isinstance(value, (int, float)) and -1e308 < value < 1e308


def _number(value):
    if isinstance(value, str):
        digits = value.removeprefix("-")
        return value in {"NaN", "Infinity", "-Infinity"} or (
            digits.isascii() and digits.isdigit() and len(value) < 4000
        )
    return isinstance(value, (bool, int, float))


def _map(value, holds):
    return isinstance(value, dict) and all(map(holds, value.values()))


def _list(value, holds):
    return isinstance(value, list) and all(map(holds, value))


def _tree(value, depth=0):
    """What a reader may unpack: as deep as anybody logs, tagged numbers being numbers."""
    if depth > 127:
        return False
    if isinstance(value, dict):
        if list(value) == ["$float"] and isinstance(value["$float"], str):
            try:
                float(value["$float"])
            except ValueError:
                return False
            return depth > 0
        if list(value) == ["$int"] and isinstance(value["$int"], str):
            return depth > 0 and value["$int"].isdigit() and len(value["$int"]) < 4000
        return all(_tree(one, depth + 1) for one in value.values())
    if isinstance(value, list):
        return depth > 0 and all(_tree(one, depth + 1) for one in value)
    return depth > 0


def _moment(value):
    return _real(value)


def _content(value):
    return isinstance(value, dict) and _hash(value.get("sha256")) and _count(value.get("size"))


def _hash(value):
    return _text(value) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _image(value):
    return (
        isinstance(value, dict)
        and _text(value.get("file"))
        and _list(value.get("shape", []), _count)
        and _maybe_text(value.get("caption"))
        and _count(value.get("clipped", 0))
    )


def _cut(value):
    return (
        isinstance(value, dict) and _count(value.get("last")) and (value.get("from") is None or _count(value["from"]))
    )


def _tagged(value):
    return _real(value) or value in ({"$float": "NaN"}, {"$int": "1"})


MISSING = object()
NAMED = {"axis": _text, "step": _whole, "name": _text}
RULES = {
    "scalars": {"axis": _text, "step": _whole, "values": lambda v: _map(v, _number)},
    "images": {"axis": _text, "step": _whole, "images": lambda v: _map(v, lambda one: _list(one, _image))},
    "table": {**NAMED, "file": _text, "rows": _count, "columns": _count},
    "video": {**NAMED, "file": _text, "fps": lambda v: _real(v) and v > 0},
    "audio": {**NAMED, "file": _text, "sample_rate": lambda v: _count(v) and v > 0},
    "text": {**NAMED, "text": _text},
    "figure": {**NAMED, "file": _text},
    "artifact": {
        "name": _text, "type": _text, "version": _count, "digest": _text, "metadata": _tree,
        "aliases": lambda v: _list(v, _text), "files": lambda v: _map(v, _content), "blobs": _text,
    },
    "use_artifact": {
        "artifact": _text, "name": _text, "type": _text, "version": lambda v: v is None or _count(v), "digest": _text,
    },
    "config": {"config": _tree},
    "summary": {"summary": _tree},
    "environment": {"environment": _tree},
    "alert": {"title": _text, "text": _text, "level": lambda v: v in ("info", "warn", "error")},
    "finish": {"status": lambda v: v in ("finished", "failed", "interrupted", "preempted")},
    # Such a run is refused, see below.
    "truncate": {},
    "seal": {"segment": lambda v: _count(v) and v > 0, "bytes": _count, "sha256": _hash},
    "segment": {"v": _count, "run": _text, "writer": _text, "segment": lambda v: _count(v) and v > 0},
}  # fmt: skip
OPTIONAL = {
    "audio": {"caption": _maybe_text},
    "finish": {"error": _maybe_text, "dropped": lambda v: _map(v, _count)},
    "segment": {"previous": _maybe_text, "parent": _maybe_text},
}


def is_right(kind, body):
    """Whether docs/formats.md allows a line, written down a second time."""
    number = _count(body.get("seq")) and (body["seq"] == 0) == (kind == "segment")
    if not (number and _count(body.get("low")) and _moment(body.get("t"))):
        return False
    if kind == "segment" and type(body.get("v")) is int and body["v"] > 1:
        # A later format: its header says what it likes, and nothing else of the file is read.
        return True
    if kind == "histogram":
        counts, edges = body.get("counts"), body.get("edges")
        return (
            all(holds(body.get(key)) for key, holds in NAMED.items())
            and _list(counts, lambda v: _real(v) and v >= 0)
            and _list(edges, _real)
            and len(edges) == len(counts) + 1 > 1
            and all(a < b for a, b in zip(edges[:-1], edges[1:], strict=True))
            and all(_count(body.get(key)) for key in ("nan", "posinf", "neginf"))
            and all(_tagged(body.get(key)) for key in ("min", "max", "mean", "std"))
        )
    return all(holds(body.get(key, MISSING)) for key, holds in RULES[kind].items()) and all(
        holds(body[key]) for key, holds in OPTIONAL.get(kind, {}).items() if key in body
    )


@pytest.mark.parametrize("kind", VALID)
def test_a_line_is_an_event_only_if_its_fields_are_those_of_its_kind(kind):
    seq = 0 if kind == "segment" else 7
    whole = {"seq": seq, "low": 1, "kind": kind, "t": 1.5, **VALID[kind]}
    assert decode_line(line_of(whole)[:-1]).kind == kind
    # What later versions add is left alone.
    assert decode_line(line_of({**whole, "more": [1]})[:-1]).fields["more"] == [1]
    refused = 0
    for what, body in mutations(kind):
        try:
            decode_line(line_of(body)[:-1])
        except JournalError as error:
            assert not is_right(kind, body), (what, error)
            refused += 1
        else:
            assert is_right(kind, body), what
    assert refused > 50


# ---------------------------------------------------------------- in a store with others


@pytest.fixture(autouse=True)
def _in_time():
    with in_time():
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("made") / "runs")


@pytest.fixture
def root(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "runs"))


@pytest.mark.system
@pytest.mark.parametrize("kinds", [list(VALID)[at : at + 3] for at in range(0, len(VALID), 3)], ids="-".join)
def test_no_reader_is_brought_down_by_such_lines(root, tmp_path, kinds):
    lines = [line_of(body) for kind in kinds for _, body in mutations(kind) if not is_right(kind, body)]
    wrong = len(lines)
    assert wrong > 100
    directory = bad_run(root, lines)
    assert [(event.kind, event.fields["values"]) for event in read_events(directory)] == [("scalars", {"loss": 9.0})]
    assert len(check_api(directory).damage()) == wrong
    assert f"(the first of {wrong})" in said("verify", "bad", root=root, code=1).output
    inbox = Inbox(directory, Cursor(None))
    inbox.pull(final=True)
    assert [event.seq for event in inbox.ready(10)] == [1]
    check_everything(root, tmp_path)
    # Merged, they are kept as what they are.
    compact(directory)
    assert not list(directory.glob("journal/*.jsonl"))
    assert [event.fields["values"] for event in read_events(directory)] == [{"loss": 9.0}]
    assert len(check_api(directory).damage()) == wrong
    assert len(verify(directory).breaks) == wrong
    check_everything(root, tmp_path)
    said("rm", "bad", "--yes", root=root, code=0)
    assert not directory.exists()


def test_lines_that_are_right_and_extreme(root, tmp_path, troubles):
    """As large, as late and as far as the format allows: nothing overflows."""
    bodies = [
        {"kind": "scalars", **STEPPED, "step": step, "values": {"loss": value}}
        for step in (-(2**63), 2**63 - 1)
        for value in (1e308, -1e308, "1" * 4000, 2**63, True, "Infinity")
    ]
    bodies += [{"kind": "mark", "t": t} for t in (1e308, -1e308)]
    bodies += [{"kind": "scalars", **STEPPED, "values": {"loss": 1.0}, "t": t} for t in (1e308, -1e308, 2**80, 1e12)]
    bodies += [{"kind": "finish", "status": "failed", "error": "x", "t": 1e308}]
    lines = [line_of({"seq": seq, "low": seq, "t": 1.0, **body}) for seq, body in enumerate(bodies, 2)]
    lines.append(line_of({"seq": 2**62 - 1, "low": 2**62 - 1, "kind": "mark", "t": 1.0}))
    lines.append(line_of({"seq": 2**62 - 2, "low": 1, "kind": "scalars", "t": 1.0, **STEPPED, "values": {"b": 1.0}}))
    directory = bad_run(root, lines, started=1e308, name="bad")
    before = check_api(directory)
    assert before.damage() == []
    raw = before.scalars("loss", raw=True)
    assert 1e308 in raw.time.tolist() and -1e308 in raw.time.tolist()
    check_everything(root, tmp_path)
    said("compact", "bad", root=root, code=0)
    assert not list(directory.glob("journal/*.jsonl"))
    after = check_api(directory).scalars("loss", raw=True)
    assert after.time.tolist() == raw.time.tolist()
    assert after.value.tolist() == raw.value.tolist()
    assert after.step.tolist() == raw.step.tolist()
    check_everything(root, tmp_path)
    said("compact", "--all", root=root, code=0)


def test_a_run_that_takes_back_nobody_knows_what_is_refused_in_words(root, tmp_path):
    """To step over it would let what was taken back count again."""
    rules = {"axis": _text, "step": _whole, "writers": lambda v: _map(v, _cut)}
    wrong = [
        body
        for _, body in mutations("truncate")
        if is_right("truncate", body) and not all(holds(body.get(key, MISSING)) for key, holds in rules.items())
    ]
    assert len(wrong) > 100
    directory = bad_run(root, [line_of({**body, "seq": seq}) for seq, body in enumerate(wrong, 2)])
    for read in (lambda run: run.scalars("loss"), lambda run: run.summary(), lambda run: run.records()):
        with pytest.raises(JournalError, match="a truncation of writer w cannot be read"):
            read(RunRecord(directory))
    assert f"(the first of {len(wrong)})" in said("verify", "bad", root=root, code=1).output
    check_everything(root, tmp_path)
    compact(directory)
    assert len(verify(directory).breaks) == len(wrong)
    check_everything(root, tmp_path)


# ---------------------------------------------------------------- run.json

ABOUT = {
    "v": 1, "id": "bad", "name": "n", "project": "p", "started": 1.0, "config": {"a": 1}, "tags": ["x"], "group": None,
    "job_type": None, "notes": "n", "environment": {"host": "h"}, "targets": ["tensorboard:/tb"],
    "forks": [{"run": "a", "project": "p", "axis": "step", "step": 1, "writers": {"w": {"last": 1, "from": None}}}],
    "imported": {"from": "csv", "size": 3},
}  # fmt: skip


@pytest.mark.system
def test_a_run_file_is_what_describes_a_run_or_is_not_read(root, tmp_path):
    directory = bad_run(root, [])
    path = directory / "run.json"
    path.write_text(json.dumps(ABOUT))
    assert tracking.open_store(root).run("bad").tags == ("x",)
    refused = []
    for field in ABOUT:
        for value in [*WRONG, *(["tensorboard://[", "", "x" * 100],), "../../escaped", ".", "a/b", math.inf, "\ud800"]:
            path.write_text(json.dumps({**ABOUT, field: value}))
            store = tracking.open_store(root)
            found = {record.id: record for record in store.runs()}
            assert set(LOSSES) <= set(found)
            if directory in store.unreadable:
                words = [f"look at {field}", "cannot be read", "has format"]
                assert any(word in store.unreadable[directory] for word in words)
                refused.append(field)
            else:
                check_api(directory)
                said("show", "bad", root=root, code=0)
                said("runs", root=root, code=0)
    assert set(refused) == set(ABOUT)
    path.write_text(json.dumps({**ABOUT, "tags": [1]}))
    check_everything(root, tmp_path, bad_is_listed=False)
    listed = said("runs", root=root, code=1)
    assert [line.split()[:3] for line in listed.stdout.splitlines() if "unreadable" in line] == [
        ["bad", "p", "unreadable"]
    ]
    assert "look at tags in it" in listed.output
    assert json.loads(said("runs", "--json", root=root, code=1).stdout)["unreadable"][0]["id"] == "bad"
    assert "look at tags in it" in said("verify", "--all", root=root, code=1).output
    assert "look at tags in it" in said("compact", "--all", root=root, code=1).output
    assert "look at tags in it" in said("sync", "--all", root=root, code=1).output
    assert "cannot be read" in said("prune", "--keep", "delivered:0s", root=root, code=0).output


@pytest.mark.parametrize("seed", range(4))
def test_any_bytes_for_a_run_file(root, tmp_path, seed):
    """Bits flipped, pieces cut out and doubled, and values exchanged: no traceback, and the others are there."""
    rng = random.Random(seed)
    directory = bad_run(root, [])
    path = directory / "run.json"
    whole = json.dumps(ABOUT).encode()
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(content))
            end = min(len(content), at + rng.randint(1, 30))
            match rng.randrange(4):
                case 0:
                    content[at] ^= 1 << rng.randrange(8)
                case 1:
                    del content[at:end]
                case 2:
                    content[at:at] = content[at:end]
                case _:
                    content[at:end] = rng.choice(
                        [b"null", b"1e999", b'"', b"{", b"]", b"-1", b"[[", b"\xff\xfe", b"true"]
                    )
            if not content:
                content = bytearray(b"x")
        path.write_bytes(content)
        store = tracking.open_store(root)
        assert {"good-1", "good-2"} <= {record.id for record in store.runs()}
        for arguments in (["runs", "--json"], ["show", "bad"], ["verify", "--all", "--quick"]):
            said(*arguments, root=root)
    check_everything(root, tmp_path, bad_is_listed=directory not in store.unreadable and store.run("bad").id == "bad")


def test_what_is_logged_is_never_damage(tmp_path, troubles):
    """Odd arguments are taken as what readers know, or refused; none becomes a line that they step over."""
    with tracking.start_run("p", root=tmp_path, backends="local", config={"$float": 1, "$": {"$int": 2}}) as run:
        run.log_images({"i": Image(np.zeros((2, 2), np.uint8), caption=3)}, step=np.int8(1))
        run.log_images({"i": Image.from_pixels(np.zeros((2, 2, 1), np.uint8), caption=3)}, step=1)
        run.log_audio("a", Audio(np.zeros(8), caption=["x"]), step=1)
        run.log_video("v", np.zeros((2, 2, 2), np.uint8), step=1, fps=np.float32(3))
        run.log_table("t", {"a": [1, None, "x"]}, step=1)
        run.log_histogram("h", Histogram([0.5, 2], [0, 1, 2]), step=1)
        run.log_histogram("h", [np.nan, np.inf], step=1)
        run.use_artifact(ArtifactRef("x", version="v3"))
        run.use_artifact(ArtifactRef("x"))
        run.log_artifact({"a": b"1"}, name="x", metadata={"$float": "x"}, aliases=["b"])
        run.log_summary({"$int": "x", "n": np.float32(2), "deep": {"a": [1, {"b": None}]}})
        run.log_config({"big": 2**80, "nan": math.nan})
        run.log_alert(3, ["x"])
        run.log_scalars({"\ud800": 2**90, "": True, "a": np.float16(2)}, step=-(2**63), step_axis="\udcfe")
        run.finish("failed", error="x")
    record = tracking.open_store(tmp_path).run(run.id)
    assert record.damage() == []
    assert [message for reason, message, _ in troubles if "use_artifact" in message] != []
    assert [ref.version for ref in record.used_artifacts()] == [None]
    assert record.config["$float"] == 1
    assert record.images("i")[0][1][0].caption == "3"
    assert record.status == "failed"
