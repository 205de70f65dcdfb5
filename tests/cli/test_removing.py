"""`tracking rm` and `tracking prune`: what is removed, what is asked and refused, and what stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zlib

import pytest
from click.testing import CliRunner

import tracking_core as t
from tests.support.commands import Terminal, as_json, environment, spawned, tracking
from tests.support.programs import REPO, here
from tests.support.programs import run as run_program
from tracking_core.cli.app import app

pytestmark = pytest.mark.system

SIMPLE = """
import tracking_core as t
for name in {names!r}:
    with t.start_run({project!r}, "name of " + name, run_id=name, backends={backends!r}, tags={tags!r}) as run:
        run.log_scalars({{"loss": 1.0}}, step=0)
        run.log_artifact({{"w.bin": b"12345"}}, name="vae", type="model")
"""


def record(folder, *names, project="p", backends=None, tags=()):
    code = SIMPLE.format(names=names, project=project, backends=backends, tags=list(tags))
    here(code, folder, TRACKING_DELIVERY="thread")


def there(folder):
    return sorted(path.parent.name for path in (folder / "tracking_runs").glob("*/*/run.json"))


@pytest.fixture
def running(tmp_path):
    """A run that goes on."""
    code = (
        "import sys, tracking_core as t\nt.start_run('p', run_id='live')\nprint('ready', flush=True)\nsys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


# ---------------------------------------------------------------- rm


def test_a_run_is_removed_and_leaves_a_tombstone(tmp_path):
    record(tmp_path, "a", "b")
    contents = sorted((tmp_path / "tracking_runs" / ".blobs").rglob("*"))
    before = time.time()
    out, err = tracking("rm", "a", "--yes", cwd=tmp_path)
    assert out.startswith("removed a (name of a), ")
    assert err == ""
    assert there(tmp_path) == ["b"]
    project = tmp_path / "tracking_runs" / "p"
    assert sorted(path.name for path in project.iterdir()) == [".removed", "artifacts", "b"]
    assert [path.name for path in (project / ".removed").iterdir()] == ["a.json"]
    stone = json.loads((project / ".removed" / "a.json").read_text())
    assert (stone["v"], stone["id"], stone["name"], stone["project"], stone["status"]) == (
        1,
        "a",
        "name of a",
        "p",
        "finished",
    )
    assert before - 1 <= stone["removed"] <= time.time() + 1
    assert sorted((tmp_path / "tracking_runs" / ".blobs").rglob("*")) == contents, "contents of artifacts stay"
    assert [run["id"] for run in as_json("runs", cwd=tmp_path)["runs"]] == ["b"]
    _, err = tracking("show", "a", cwd=tmp_path, code=1)
    assert "the run 'a' was removed: see tracking_runs/p/.removed/a.json" in err


def test_it_asks_first(tmp_path):
    record(tmp_path, "a")
    for answer in ("", "n\n", "\n"):
        _, err = tracking("rm", "a", cwd=tmp_path, code=1, stdin=answer)
        assert "a (name of a) of p, finished, " in err
        assert "Remove it? [y/N]: " in err
        assert there(tmp_path) == ["a"]
    out, _ = tracking("rm", "a", cwd=tmp_path, stdin="y\n")
    assert out.startswith("removed a")
    assert there(tmp_path) == []


def test_it_asks_at_a_terminal(tmp_path):
    record(tmp_path, "a", "b", "c")
    terminal = Terminal("rm", "a", "b", cwd=tmp_path)
    terminal.until("Remove these 2 runs? [y/N]: ")
    terminal.type("y\n")
    seen = terminal.end()
    assert "removed a" in seen
    assert there(tmp_path) == ["c"]


def test_a_running_run_is_refused(tmp_path, running):
    record(tmp_path, "a")
    _, err = tracking("rm", "a", "live", "--yes", cwd=tmp_path, code=1)
    assert "is running; --force removes it anyway" in err
    assert there(tmp_path) == ["a", "live"], "nothing is removed when one is refused"
    tracking("rm", "live", "--yes", "--force", cwd=tmp_path)
    assert there(tmp_path) == ["a"]


def test_a_run_that_was_continued_while_nobody_answered_stays(tmp_path):
    record(tmp_path, "a")
    terminal = Terminal("rm", "a", cwd=tmp_path)
    terminal.until("Remove it? [y/N]: ")
    code = "import sys, tracking_core as t\nt.start_run('p', run_id='a', resume='must')\nprint('ready', flush=True)\nsys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        terminal.type("y\n")
        assert "is running" in terminal.end(1)
        process.communicate("")
    assert there(tmp_path) == ["a"]


def test_a_run_of_a_newer_format_is_refused(tmp_path):
    record(tmp_path, "a")
    [journal] = tmp_path.glob("tracking_runs/p/a/journal/*.jsonl")
    head, _, rest = journal.read_bytes().partition(b"\n")
    newer = head.replace(b'"v":1', b'"v":9').rpartition(b',"crc":"')[0]
    journal.write_bytes(newer + b',"crc":"%08x"}\n' % zlib.crc32(newer) + rest)
    _, err = tracking("rm", "a", "--yes", cwd=tmp_path, code=1)
    assert "run a (name of a) cannot be read; --force removes it anyway" in err
    tracking("rm", "a", "--yes", "--force", cwd=tmp_path)
    assert there(tmp_path) == []


def test_what_was_not_delivered_is_said(tmp_path):
    code = """
    import os, tracking_core as t
    import tracking_tensorboard.tracker as tracker

    def open_run(target, run):
        raise PermissionError(13, "denied")

    tracker.open_run = open_run
    run = t.start_run("p", run_id="x", backends="tensorboard:./never")
    for step in range(3):
        run.log_scalars({"a": 1}, step=step)
    os.kill(os.getpid(), 9)
    """
    run_program(code, tmp_path, code_expected=-9, TRACKING_DELIVERY="thread")
    _, err = tracking("rm", "x", cwd=tmp_path, code=1, stdin="n\n")
    assert "crashed" in err
    assert f"3 records not delivered to tensorboard:{tmp_path}/never" in err


def test_nothing_is_removed_when_one_is_not_there(tmp_path):
    record(tmp_path, "a")
    _, err = tracking("rm", "a", "nothing", "--yes", cwd=tmp_path, code=1)
    assert "there is no run 'nothing'" in err
    assert there(tmp_path) == ["a"]


def test_the_report_is_json(tmp_path):
    record(tmp_path, "a")
    size = sum(path.stat().st_size for path in (tmp_path / "tracking_runs" / "p" / "a").rglob("*") if path.is_file())
    found = as_json("rm", "a", "--yes", cwd=tmp_path)
    assert found["bytes"] == size
    [one] = found["removed"]
    assert (one["id"], one["name"], one["project"], one["bytes"]) == ("a", "name of a", "p", size)
    assert json.loads((tmp_path / one["tombstone"]).read_text())["id"] == "a"


def test_an_interruption_leaves_no_half_of_a_run(tmp_path):
    """Killed anywhere: the run is there whole, or is none; the next removal clears up."""
    record(tmp_path, "a", "b")
    (tmp_path / "patch").mkdir()
    (tmp_path / "patch" / "sitecustomize.py").write_text(
        "import os, shutil\nshutil.rmtree = lambda *a, **k: os._exit(9)\n"
    )
    path = os.pathsep.join([str(tmp_path / "patch"), *filter(None, [os.environ.get("PYTHONPATH")])])
    spawned("rm", "a", "--yes", cwd=tmp_path, code=9, PYTHONPATH=path)
    assert there(tmp_path) == ["b"]
    assert [run["id"] for run in as_json("runs", cwd=tmp_path)["runs"]] == ["b"]
    folder = tmp_path / "tracking_runs" / "p" / ".removed"
    assert len(list(folder.iterdir())) == 2
    spawned("rm", "b", "--yes", cwd=tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["a.json", "b.json"]


def test_a_run_whose_name_is_hostile(tmp_path):
    here("import tracking_core as t\nt.start_run('p\\n[red]', 'x\\x1b[31m\\n', run_id='a').finish()", tmp_path)
    out, err = tracking("rm", "a", cwd=tmp_path, stdin="y\n")
    assert "\x1b" not in out + err
    assert "removed a (x\\x1b[31m\\n), " in out
    assert there(tmp_path) == []


# ---------------------------------------------------------------- prune


def pruned(folder, *rules, **keywords):
    found = as_json("prune", *[part for rule in rules for part in ("--keep", rule)], cwd=folder, **keywords)
    return sorted(one["id"] for one in found["removed"]), found["kept"]


def test_delivered_runs_go_and_others_stay(tmp_path, running):
    record(tmp_path, "local1")
    record(tmp_path, "sent1", "sent2", backends="tensorboard:./tb")
    record(tmp_path, "thin", backends="tensorboard:./thin?every=10")
    record(tmp_path, "objects", backends=None)
    code = """
    import os, tracking_core as t
    import tracking_tensorboard.tracker as tracker

    def open_run(target, run):
        raise PermissionError(13, "denied")

    tracker.open_run = open_run
    run = t.start_run("p", run_id="behind", backends="tensorboard:./never")
    run.log_scalars({"a": 1}, step=0)
    os.kill(os.getpid(), 9)
    """
    run_program(code, tmp_path, code_expected=-9, TRACKING_DELIVERY="thread")
    everything = there(tmp_path)
    out, err = tracking("prune", "--keep", "delivered:0s", "--dry-run", cwd=tmp_path)
    assert [line.split()[0] for line in out.splitlines()] == ["id", "sent2", "sent1"]
    assert err.startswith("would free ")
    assert there(tmp_path) == everything
    found = as_json("prune", "--keep", "delivered:0s", cwd=tmp_path)
    assert sorted(one["id"] for one in found["removed"]) == ["sent1", "sent2"]
    assert found["kept"] == {"is running": 1, "only in this store": 2, "not delivered completely": 2}
    assert found["bytes"] == sum(one["bytes"] for one in found["removed"]) > 0
    assert found["dry_run"] is False
    assert there(tmp_path) == sorted(set(everything) - {"sent1", "sent2"})
    assert (tmp_path / "tracking_runs" / "p" / ".removed" / "sent1.json").is_file()
    assert list((tmp_path / "tb").rglob("events*")), "what was delivered stays"


def test_what_is_behind_stays(tmp_path):
    """A target that had a part of the records, one that refused some, and one that nobody keeps count of."""
    record(tmp_path, "part", "refused", "whole", backends="tensorboard:./tb")
    project = tmp_path / "tracking_runs" / "p"
    for name in ("part", "refused"):
        [cursor] = (project / name).glob("cursors/*.json")
        content = json.loads(cursor.read_text())
        if name == "part":
            content["writers"] = {writer: {"seq": 1, "offset": 0} for writer in content["writers"]}
        else:
            content["counts"]["failed"] = 1
        cursor.write_text(json.dumps(content))
    code = """
    import tracking_core as t
    from tracking_core.testing import FakeTracker
    with t.start_run("p", run_id="object", backends=["tensorboard:./tb", FakeTracker()]) as run:
        run.log_scalars({"a": 1}, step=0)
    """
    here(code, tmp_path)
    [target] = as_json("show", "part", cwd=tmp_path)["targets"]
    assert target["pending"] > 0
    assert [target["pending"] for target in as_json("show", "object", cwd=tmp_path)["targets"]] == [0, None]
    assert pruned(tmp_path, "delivered:0s") == (["whole"], {"not delivered completely": 3})


def test_rules_keep_runs(tmp_path):
    for project in ("p", "q"):
        record(
            tmp_path, f"{project}1", f"{project}2", f"{project}3", project=project, backends=f"tensorboard:./{project}"
        )
    record(tmp_path, "best", backends="tensorboard:./best", tags=["best"])

    def would(*rules):
        return (
            pruned(tmp_path, *rules, "delivered:0s")[0]
            if not rules
            else sorted(
                one["id"]
                for one in as_json(
                    "prune",
                    "--dry-run",
                    "--keep",
                    "delivered:0s",
                    *[p for rule in rules for p in ("--keep", rule)],
                    cwd=tmp_path,
                )["removed"]
            )
        )

    assert would("tag:best") == ["p1", "p2", "p3", "q1", "q2", "q3"]
    assert would("project:q", "tag:best") == ["p1", "p2", "p3"]
    assert would("last:1") == ["p1", "p2", "p3", "q1", "q2"]
    assert would("last:2", "tag:best") == ["p1", "p2", "q1"]
    assert would("status:finished") == []
    assert would("delivered:1h") == []
    removed, kept = pruned(tmp_path, "delivered:0s", "last:2")
    assert removed == ["p1", "p2", "q1"]
    assert kept == {"last:2": 4}


def test_runs_are_kept_for_their_age(tmp_path):
    record(tmp_path, "old", "new", backends="tensorboard:./tb")
    place = tmp_path / "tracking_runs" / "p" / "old"
    # As if it had been a month ago: the end of the run, and the cursor.
    [journal] = place.glob("journal/*.jsonl")
    lines = []
    for line in journal.read_bytes().split(b"\n")[:-1]:
        event = json.loads(line)
        event.pop("crc")
        if event["kind"] == "finish":
            event["t"] -= 31 * 86400
        text = json.dumps(event, separators=(",", ":")).encode()[:-1]
        lines.append(text + b',"crc":"%08x"}\n' % zlib.crc32(text))
    journal.write_bytes(b"".join(lines))
    [cursor] = place.glob("cursors/*.json")
    content = json.loads(cursor.read_text())
    assert pruned(tmp_path, "delivered:30d") == ([], {"younger": 2}), "it was delivered just now"
    content["updated"] -= 31 * 86400
    # The journal was written anew, so that its lines may be longer.
    for position in content["writers"].values():
        position["offset"] = journal.stat().st_size
    cursor.write_text(json.dumps(content))
    assert pruned(tmp_path, "delivered:5w")[0] == []
    assert pruned(tmp_path, "delivered:30d") == (["old"], {"younger": 1})


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([], "--keep"),
        (["tag:best"], "name what to keep"),
        (["delivered"], "is not a rule"),
        (["delivered:"], "is not a rule"),
        (["delivered:30"], "expected an age"),
        (["delivered:-1d"], "expected an age"),
        (["delivered:1d", "last:0"], "positive whole number"),
        (["delivered:1d", "colour:red"], "is not a rule"),
    ],
)
def test_rules_that_are_none_are_wrong_usage(tmp_path, rules, said):
    _, err = tracking("prune", *[part for rule in rules for part in ("--keep", rule)], cwd=tmp_path, code=2)
    assert said in err


def test_an_empty_store_has_nothing_to_prune(tmp_path):
    out, err = tracking("prune", "--keep", "delivered:1d", cwd=tmp_path)
    assert out == ""
    assert err == "freed 0 B of 0 runs; nothing else is there\n"


# ---------------------------------------------------------------- what is said of runs that are gone


def test_a_tombstone_is_what_the_formats_page_says(tmp_path):
    """Read with json alone: every field that docs/formats.md names, and no other."""
    record(tmp_path, "a", project="my project", backends="tensorboard:./tb")
    before = json.loads((tmp_path / "tracking_runs" / "my~20project" / "a" / "run.json").read_text())
    tracking("rm", "a", "--yes", cwd=tmp_path)
    stone = json.loads(
        (tmp_path / "tracking_runs" / "my~20project" / ".removed" / "a.json").read_text(encoding="utf-8")
    )
    removed = stone.pop("removed")
    assert abs(removed - time.time()) < 600
    kept = {key: before[key] for key in ("v", "id", "name", "project", "started", "targets")}
    assert stone == {**kept, "status": "finished"}
    page = (
        (REPO / "docs" / "formats.md").read_text(encoding="utf-8").partition("## Removed runs")[2].partition("\n## ")[0]
    )
    for field in (*stone, "removed"):
        assert f"`{field}`" in page, field


def test_every_verb_says_that_a_run_was_removed(tmp_path):
    record(tmp_path, "a")
    tracking("rm", "a", "--yes", cwd=tmp_path)
    assert as_json("runs", cwd=tmp_path)["runs"] == []
    root = str(tmp_path / "tracking_runs")
    for verb in ("show", "scalars", "sync", "verify", "compact", "pack", "compare", "tail", "rm"):
        for name in ("a", "p/a"):
            result = CliRunner().invoke(app, [verb, name, "--root", root])
            assert result.exit_code == 1
            assert f"the run '{name}' was removed: see {root}/p/.removed/a.json" in result.output, verb
    result = CliRunner().invoke(app, ["show", "q/a", "--root", root])
    assert (result.exit_code, "there is no run 'q/a'" in result.output) == (1, True)


def test_what_the_library_says_of_a_removed_run(tmp_path):
    record(tmp_path, "a")
    tracking("pack", "a", cwd=tmp_path)
    tracking("rm", "a", "--yes", cwd=tmp_path)
    store = t.open_store(tmp_path / "tracking_runs")
    with pytest.raises(t.RunNotFoundError, match=r"the run 'a' was removed: see .*\.removed/a\.json"):
        store.run("a")
    root = str(tmp_path / "tracking_runs")
    with pytest.raises(t.RunNotFoundError, match="the run 'a' to continue was removed"):
        t.start_run("p", run_id="a", resume="must", root=root, backends="local")
    # The id is free again, and the stone says nothing once there is a run.
    with t.start_run("p", "second", run_id="a", root=root, backends="local") as run:
        run.log_scalars({"loss": 2.0}, step=0)
    assert (store.run("a").name, as_json("show", "a", cwd=tmp_path)["name"]) == ("second", "second")
    tracking("rm", "a", "--yes", cwd=tmp_path)
    assert json.loads((tmp_path / "tracking_runs" / "p" / ".removed" / "a.json").read_text())["name"] == "second"
    # So does a pack: what was removed comes back.
    out, _ = tracking("import", "a.tracking.zip", cwd=tmp_path)
    assert "imported" in out
    assert store.run("a").name == "name of a"


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path):
    record(tmp_path, "a")
    place = tmp_path / "tracking_runs" / "p" / "a"
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    tracking("rm", "a", "--yes", cwd=tmp_path)
    assert there(tmp_path) == []
    assert (tmp_path / "elsewhere" / "run.json").is_file()
    assert [path.name for path in (tmp_path / "tracking_runs" / "p" / ".removed").iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    "content", ["{nope", "[]", "null", '{"writers": {"w": {"seq": "x"}}, "updated": "soon"}', None]
)
def test_a_cursor_that_says_nothing_keeps_the_run(tmp_path, content):
    record(tmp_path, "a", backends="tensorboard:./tb")
    [cursor] = (tmp_path / "tracking_runs" / "p" / "a").glob("cursors/*.json")
    if content is None:
        cursor.unlink()
    else:
        cursor.write_text(content)
    assert pruned(tmp_path, "delivered:0s") == ([], {"not delivered completely": 1})
    assert there(tmp_path) == ["a"]


def test_a_target_that_was_added_later_counts_as_well(tmp_path):
    """Of two targets the one has everything and the other nothing yet."""
    record(tmp_path, "a", backends="tensorboard:./tb,tensorboard:./more")
    [gone] = [
        path for path in (tmp_path / "tracking_runs" / "p" / "a").glob("cursors/*.json") if "/more" in path.read_text()
    ]
    content = json.loads(gone.read_text())
    gone.write_text(json.dumps({**content, "writers": {}}))
    assert pruned(tmp_path, "delivered:0s") == ([], {"not delivered completely": 1})
    tracking("sync", "a", cwd=tmp_path)
    out, _ = tracking("prune", "--keep", "delivered:0s", "--dry-run", cwd=tmp_path)
    assert "a" in out
    assert there(tmp_path) == ["a"]
    assert not (tmp_path / "tracking_runs" / "p" / ".removed").exists(), "a rehearsal leaves no stone"
    assert pruned(tmp_path, "delivered:0s") == (["a"], {})
    assert json.loads((tmp_path / "tracking_runs" / "p" / ".removed" / "a.json").read_text())["targets"] != []
