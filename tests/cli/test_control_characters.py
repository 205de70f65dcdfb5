"""Whatever stands in a store, no control character of it reaches the terminal, by any verb and at any place."""

from __future__ import annotations

import json
import os
import sys
import warnings

import pytest
from click.testing import CliRunner

import tracking_core as tracking
from tests.support.commands import COMMAND, Terminal, environment, spawned
from tests.support.commands import tracking as command
from tests.support.programs import REPO
from tracking_core.cli import terminal
from tracking_core.cli.app import app
from tracking_core.journal import encode_line
from tracking_core.naming import FILE_NAMES

TITLE = "\x1b]0;pwned\x07"
BAD = f"a{TITLE}\x1b[2J\x9b31m\r\x08\x7f\x85\u202egnp\u2066\u2028\u200f b"
UNSAFE = {*map(chr, range(32)), *map(chr, range(0x7F, 0xA0)), *"\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"} - {"\n"}  # fmt: skip


@pytest.fixture
def root(tmp_path, troubles):
    """A store in which everything that can have a name has that one."""
    root = tmp_path / f"runs{TITLE}"
    target = f"tensorboard:{tmp_path}/tb"
    with tracking.start_run(
        BAD, BAD, root=root, run_id="a", config={BAD: {BAD: BAD}}, tags=[BAD], group=BAD, job_type=BAD, notes=BAD,
        backends=target, delivery="thread",
    ) as run:  # fmt: skip
        for step in range(3):
            run.log_scalars({BAD: step + 0.5, "loss": 1.0}, step=step, step_axis=BAD)
        run.log_images({BAD: [[0.0, 1.0]]}, step=1, step_axis=BAD)
        run.log_text(BAD, BAD, step=1)
        run.log_histogram(BAD, [1.0, 2.0], step=1)
        run.log_summary({BAD: BAD})
        run.log_alert(BAD, BAD)
        run.log_artifact({f"{TITLE}/f": b"x"}, name=BAD, type=BAD, aliases=[BAD], metadata={BAD: BAD})
        run.use_artifact(f"{BAD}:{BAD}")
    with tracking.start_run(BAD, BAD, root=root, run_id="b", backends=target, delivery="thread") as other:
        other.log_scalars({BAD: 1.0, "loss": 1.0}, step=1)
        other.finish("failed", error=f"Traceback\n  {BAD}\n{BAD}")
    (run.dir / "media" / f"lost{TITLE}.png").write_bytes(b"x")
    (run.dir / f"{TITLE}.txt").write_bytes(b"x")
    # Lines that are well-formed and of a kind, or with a status, that nobody has written.
    (other.dir / "journal" / f"zz{TITLE}-000001.jsonl").write_bytes(
        encode_line(0, 1, "segment", 1.0, {"v": 1, "run": "b", "parent": None})
        + encode_line(1, 2, "images", 1.0, {"images": {BAD: [{"file": BAD}]}, "step": 1, "axis": BAD})
        + b"damaged " + BAD.encode() + b"\n"
    )  # fmt: skip
    # Runs that cannot be read, one of them under a name that nobody has given.
    for name, content in ((f"c{TITLE}", "{"), ("d", json.dumps({"v": 1, "id": BAD})), ("e", '{"v": 9}')):
        (run.dir.parent / name).mkdir()
        (run.dir.parent / name / "run.json").write_text(content)
    (run.dir.parent / "f").mkdir()
    targets = [BAD, f"x{TITLE}:y", f"tensorboard:tb{TITLE}", "tensorboard:tb%1B]0;pwned%07"]
    (run.dir.parent / "f" / "run.json").write_text(
        json.dumps({"v": 1, "id": "f", "name": BAD, "project": BAD, "started": 1, "targets": targets})
    )
    (run.dir / "origin.json").write_text(json.dumps({"v": 1, "kind": BAD, "source": BAD, "time": 1}))
    (tmp_path / f"log{TITLE}.csv").write_bytes(b'step,"' + BAD.encode() + b'",c' + TITLE.encode() + b"\n1,2,x\n")
    (tmp_path / "bad.csv").write_bytes(b"a" + TITLE.encode() + b"\n")
    (tmp_path / f"pack{TITLE}.zip").write_bytes(b"PK\3\4" + BAD.encode())
    (tmp_path / "tracking.toml").write_text(f"project = {json.dumps(BAD)}\n")
    return root


CALLS = {
    "runs": [[], ["--show", BAD], ["--sort", BAD], ["--ids"], ["--json"], ["--tag", BAD], ["--where", f"{BAD}=1"]],
    "show": [["a"], ["b"], ["f"], ["a", "--json"], ["d"], [BAD], [f"{BAD}/b"]],
    "scalars": [["a"], ["a", BAD], ["a", "*"], ["a", "--json"], ["a", "*", "--json"], ["a", f"no{BAD}"]],
    "plot": [["a", BAD], ["a", "b", BAD], ["b", BAD, "--json"], ["a", "x", "--axis", BAD]],
    "compare": [["a", "b"], ["a", "b", "--json"], ["a", "b", "--metric", f"no{BAD}"]],
    "tail": [["a", "--all"], ["a", "--all", "--json"], ["b", BAD, f"no{BAD}"]],
    "export": [
        ["a", "--to", f"out{TITLE}.csv"], ["a", "--to", f"out{TITLE}.csv"], ["a", "--to", "-", "--format", "jsonl"],
        ["a", "--to", "data", "--partition", "--format", "csv", "--json"], ["a", "--to", f"x{TITLE}"],
    ],
    "rm": [["f", "--dry-run"], ["b", "--yes"], [BAD, "--yes"], ["a", "--yes", "--json"]],
    "prune": [["--keep", "delivered:0s", "--dry-run"], ["--keep", "delivered:0s"], ["--keep", BAD], ["--keep", f"tag:{BAD}"]],
    "compact": [["--all"], ["a"], ["--all", "--json"], [BAD]],
    "verify": [["--all"], ["a"], ["b"], ["--all", "--json"], [BAD]],
    "completion": [["bash"], [BAD]],
    "backends": [[], ["local"], ["--json"], [BAD]],
    "doctor": [[], [BAD], ["--json"], [f"tensorboard:{TITLE}"]],
    "sync": [["a"], ["--all"], ["f"], ["a", "--to", f"tensorboard:again{TITLE}"], ["a", "--to", BAD], ["--all", "--json"]],
    "import": [["log{}.csv"], ["bad.csv"], ["pack{}.zip"], ["missing{}"], ["log{}.csv", "--json"], ["log{}.csv", "--step", BAD]],
    "pack": [["a", "-o", f"new{TITLE}.zip"], ["a", "-o", f"new{TITLE}.zip"], ["b", "--json"], [BAD], ["d"]],
}  # fmt: skip


def seen(text):
    """Where a text has what it must not."""
    return [(text[max(0, at - 40) : at + 10]) for at, char in enumerate(text) if char in UNSAFE]


def test_every_verb_is_tried():
    assert set(app.commands) == set(CALLS)


@pytest.mark.parametrize("verb", sorted(CALLS))
def test_no_verb_lets_a_control_character_through(root, verb, monkeypatch):
    monkeypatch.setenv("TRACKING_DIR", str(root))
    for arguments in CALLS[verb]:
        given = [one.replace("{}", TITLE) for one in arguments]
        result = CliRunner().invoke(app, [verb, *given])
        assert isinstance(result.exception, (SystemExit, type(None))), (arguments, result.exc_info)
        for said in (result.stdout_bytes, result.stderr_bytes):
            assert not seen(said.decode("utf-8", "surrogateescape")), (verb, arguments)
        assert result.output or verb == "runs" or "tail" in verb, (verb, arguments)
        if "--json" in given and result.exit_code in {0, 1} and result.stdout:
            # And it is what any reader takes, the names whole.
            lines = result.stdout.splitlines() if verb == "tail" else [result.stdout]
            assert all(json.loads(line) is not None for line in lines)


def test_json_has_the_names_whole(root):
    out, _ = command("show", "a", "--json", "--root", str(root), cwd=root.parent)
    assert not seen(out)
    assert json.loads(out)["name"] == BAD
    out, _ = command("export", "a", "--to", "-", "--format", "jsonl", "--root", str(root), cwd=root.parent)
    assert not seen(out)
    assert BAD in {json.loads(line)["name"] for line in out.splitlines()}


def test_csv_for_a_program_is_exact_and_for_a_person_safe(root):
    out, _ = spawned("scalars", "a", "*", "--csv", "--root", str(root), cwd=root.parent)
    assert BAD.replace("\r", "\n") in out  # as subprocess reads lines
    text = Terminal("scalars", "a", "*", "--csv", "--root", str(root), cwd=root.parent).end()
    assert TITLE not in text
    assert "\\x1b]0;pwned\\x07" in text


@pytest.mark.system
@pytest.mark.parametrize(
    "arguments",
    [
        ["runs"], ["show", "a"], ["scalars", "a", "*"], ["plot", "a", "b", BAD], ["compare", "a", "b"], ["doctor"],
        ["tail", "a", "--all"], ["verify", "--all"], ["compact", "--all"], ["sync", "a", "--to", f"tensorboard:again{TITLE}"],
        ["pack", "a", "-o", f"new{TITLE}.zip"], ["import", f"log{TITLE}.csv"], ["export", "a", "b", "--to", f"o{TITLE}.csv"],
        ["rm", "b", "--yes"], ["prune", "--keep", "delivered:0s"],
    ],
)  # fmt: skip
def test_at_a_terminal_only_colours_and_progress_move(root, arguments):
    shown = Terminal(*arguments, cwd=root.parent, columns=120, TRACKING_DIR=str(root))
    while shown._read():  # noqa: SLF001 - whatever it ends with
        pass
    os.close(shown.master)
    shown.process.wait(60)
    assert "Traceback" not in shown.seen
    assert "pwned" in shown.seen or arguments[0] in {"prune", "compact"}
    for part in (TITLE, "\x1b]", "\x1b[2J\x9b", "\x9b", "\x85", "\u202e", "\u2066", "\u2028", "\x08", "\x7f", "\x07"):
        assert part not in shown.seen, part


@pytest.mark.system
def test_what_others_print_is_guarded_too(root, tmp_path):
    """Warnings, loggers, what a backend says, and the traceback of what nobody foresaw."""
    (tmp_path / "sitecustomize.py").write_text(
        f"""
import click, logging, sys, warnings
def say(*arguments):
    bad = {BAD!r}
    print(bad)
    warnings.warn(bad)
    logging.getLogger("wandb").error(bad)
    sys.stderr.writelines([bad, bad])
    raise RuntimeError(bad)
import tracking_core.cli.listing
tracking_core.cli.listing.rows = lambda *a, **k: say()
"""
    )
    import subprocess

    done = subprocess.run(
        [*COMMAND, "runs", "--root", str(root)],
        env=environment(PYTHONPATH=os.pathsep.join([str(tmp_path), str(REPO), str(REPO / "adapters")])),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert b"RuntimeError: a\\x1b]0;pwned" in done.stderr
    assert not seen(done.stdout.decode("utf-8", "replace"))
    assert not seen(done.stderr.decode("utf-8", "replace"))


def test_streams_are_as_they_were_afterwards():
    before = sys.stdout, sys.stderr
    CliRunner().invoke(app, ["--help"])
    assert (sys.stdout, sys.stderr) == before
    with terminal.guarded():
        assert sys.stdout.encoding == before[0].encoding
        with terminal.guarded():
            assert not isinstance(sys.stdout.stream, terminal.GuardedStream)
    assert (sys.stdout, sys.stderr) == before


def test_what_a_terminal_shows_is_left_as_it_is():
    text = "größe ε 日本 🎉 \U0001f469\u200d\U0001f680 \u00a0|\ttab\n"
    assert terminal.safe(text) == text
    assert terminal.safe(BAD) == terminal.safe(terminal.safe(BAD))
    assert FILE_NAMES.decode(FILE_NAMES.encode(BAD)) == BAD
    with warnings.catch_warnings(record=True):
        assert not seen(terminal.safe("".join(map(chr, range(0x3000)))).replace("\t", ""))
