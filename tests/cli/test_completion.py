"""`tracking completion`: the scripts that shells take, and what they offer."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import COMMAND, environment, tracking
from tests.support.programs import run as run_program

pytestmark = pytest.mark.system


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_takes_its_script(shell, tmp_path):
    out, err = tracking("completion", shell, cwd=tmp_path)
    assert err == ""
    assert "_TRACKING_COMPLETE" in out
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([program, "-n"], input=out, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_another_shell_is_wrong_usage(tmp_path):
    _, err = tracking("completion", "tcsh", cwd=tmp_path, code=2)
    assert "'bash', 'zsh', 'fish'" in err


def offered(folder, *words):
    """What is offered for the last word."""
    env = environment(
        _TRACKING_COMPLETE="bash_complete", COMP_WORDS=" ".join(["tracking", *words]), COMP_CWORD=str(len(words))
    )
    done = subprocess.run(COMMAND, cwd=folder, env=env, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_verbs_options_and_runs_are_offered(tmp_path):
    run_program(
        "import tracking_core as t\nfor n in ('ab1', 'ab2', 'x'):\n    t.start_run('p', run_id=n).finish()", tmp_path
    )
    assert {"runs", "show", "scalars", "sync", "backends"} <= set(offered(tmp_path, ""))
    assert offered(tmp_path, "sca") == ["scalars"]
    assert offered(tmp_path, "runs", "--wh") == ["--where"]
    assert offered(tmp_path, "show", "ab") == ["ab2", "ab1"]
    assert offered(tmp_path, "compare", "x", "ab") == ["ab2", "ab1"]
    root = str(tmp_path / "tracking_runs")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert offered(elsewhere, "show", "--root", root, "x") == ["x"]
    assert offered(elsewhere, "show", "x") == []


def test_names_of_runs_and_of_scalars_are_offered(tmp_path):
    code = """
    import tracking_core as t
    for run_id, name in [("1", "base-line"), ("2", "twice"), ("3", "twice"), ("4", "base two"), ("5", "base$HOME")]:
        with t.start_run("p", name, run_id=run_id) as run:
            run.log_scalars({"train/loss": 1, "train/a b": 2, "val": 3}, step=0)
    """
    run_program(code, tmp_path)
    # Neither what several runs are called, nor what a shell would take apart.
    assert offered(tmp_path, "show", "ba") == ["base-line"]
    assert offered(tmp_path, "show", "tw") == []
    assert offered(tmp_path, "sync", "ba") == ["base-line"]
    assert offered(tmp_path, "show", "") == ["5", "4", "3", "2", "1"]
    assert offered(tmp_path, "scalars", "base-line", "tr") == ["train/loss"]
    assert offered(tmp_path, "tail", "base-line", "train/loss", "v") == ["val"]
    assert offered(tmp_path, "scalars", "nothing", "tr") == []
    assert offered(tmp_path, "runs", "--status", "f") == ["finished", "failed"]


def test_bash_completes_with_it(tmp_path):
    run_program("import tracking_core as t\nt.start_run('p', 'base-line', run_id='20261124-abc').finish()", tmp_path)
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    # The command as it would be on PATH.
    program = tmp_path / "bin" / "tracking"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tracking_core.cli "$@"\n')
    program.chmod(0o755)
    script = f"""
    PATH="{program.parent}:$PATH"
    eval "$(tracking completion bash)"
    for word in sca "show 2026" "show base"; do
        COMP_WORDS=(tracking $word); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=()
        _tracking_completion tracking
        echo "${{COMPREPLY[@]}}"
    done
    """
    done = subprocess.run(
        [bash, "-c", script], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("scalars\n20261124-abc\nbase-line\n", "")
    assert Path(bash).exists()
