"""What a repository's configuration says is to be started is not started, to find out in what state the code is."""

from __future__ import annotations

import os

import pytest

import tracking_core as tracking
from tests.support.repositories import git
from tracking_core.environment.git import git_state

pytestmark = pytest.mark.system


@pytest.fixture(autouse=True)
def _plain_git(monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)


@pytest.fixture
def marker(tmp_path):
    """A program that leaves a trace, and passes on what it is given."""
    (tmp_path / "program").write_text(f'#!/bin/sh\ntouch "{tmp_path}/started"\ncat\n')
    (tmp_path / "program").chmod(0o755)
    return tmp_path / "started"


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "--initial-branch=work")
    (root / "train.py").write_text("lr = 0.1\n")
    (root / "weights.bin").write_text("pointer\n")
    (root / ".gitattributes").write_text("*.bin filter=evil diff=evil\n")
    git(root, "add", ".")
    git(root, "commit", "-m", "first")
    return root


def touch(path, text=None):
    """Give a file another time, so that git has to look at what is in it; and another text."""
    if text is not None:
        path.write_text(text)
    os.utime(path, (1e9, 1e9))


SETTINGS = {
    "clean": "filter.evil.clean", "process": "filter.evil.process", "smudge": "filter.evil.smudge", "ext diff": "diff.evil.command",
    "textconv": "diff.evil.textconv", "external": "diff.external", "monitor": "core.fsmonitor", "pager": "core.pager",
    "diff pager": "pager.diff", "ssh": "core.sshCommand", "editor": "core.editor", "askpass": "core.askPass",
    "credentials": "credential.helper", "gpg": "gpg.program", "alias": "alias.diff", "interactive": "interactive.diffFilter",
}  # fmt: skip


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("where", ["repository", "include", "global", "environment"])
def test_nothing_that_is_configured_is_started(repository, marker, monkeypatch, setting, where):
    program = str(marker.with_name("program"))
    if where == "repository":
        git(repository, "config", setting, program)
        git(repository, "config", "filter.evil.required", "true")
    elif where == "include":
        git(repository, "config", "--file", str(repository / "more"), setting, program)
        git(repository, "config", "include.path", "../more")
    elif where == "global":
        git(repository, "config", "--file", str(repository.parent / "global"), setting, program)
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(repository.parent / "global"))
    else:
        monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
        monkeypatch.setenv("GIT_CONFIG_KEY_0", setting)
        monkeypatch.setenv("GIT_CONFIG_VALUE_0", program)
    touch(repository / "weights.bin", "other\n")
    touch(repository / "train.py", "lr = 0.2\n")
    state = git_state(repository)
    assert not marker.exists()
    assert "+lr = 0.2\n" in state["diff"]
    if setting.startswith("filter.") or where == "repository":
        assert state["filtered"] == ["weights.bin"]
        assert "weights" not in state["diff"]
    else:
        assert "weights.bin" in state["diff"]
    # The program works where it is started.
    if setting == "filter.evil.clean" and where == "repository":
        git(repository, "diff")
        assert marker.exists()


def test_a_run_starts_nothing_either(repository, marker, monkeypatch):
    git(repository, "config", "filter.evil.clean", str(marker.with_name("program")))
    touch(repository / "weights.bin", "other\n")
    monkeypatch.chdir(repository)
    with tracking.start_run("p", root=marker.with_name("runs"), backends="local") as run:
        pass
    found = tracking.open_store(marker.with_name("runs")).run(run.id).environment["git"]
    assert (found["filtered"], found["dirty"], found["diff"]) == (["weights.bin"], False, "")
    assert not marker.exists()


def test_files_that_a_filter_has_changed_are_not_all_told_as_changed(repository):
    """As with git-lfs: what lies there is not what is committed, and git knows it by size and time."""
    git(repository, "config", "filter.evil.clean", "echo pointer")
    git(repository, "config", "filter.evil.smudge", "echo the whole content")
    (repository / "weights.bin").unlink()
    git(repository, "checkout", "--", "weights.bin")
    assert (repository / "weights.bin").read_text() == "the whole content\n"
    # Older than the index, or git looks into it all the same.
    os.utime(repository / "weights.bin", (1e9, 1e9))
    git(repository, "update-index", "--refresh")
    assert git_state(repository)["diff"] == ""
    assert "filtered" not in git_state(repository)
    touch(repository / "train.py", "lr = 0.2\n")
    assert git_state(repository)["diff"].count("diff --git") == 1
    # Touched: it cannot be told, and that is said.
    os.utime(repository / "weights.bin", (1.1e9, 1.1e9))
    state = git_state(repository)
    assert state["filtered"] == ["weights.bin"]
    assert state["diff"].count("diff --git") == 1
    assert "whole content" not in state["diff"]


@pytest.mark.parametrize("name", ["a b", 'q"q', "dots.in.it", "ü", "UPPER", "-x", "new\\line"])
def test_filters_of_any_name(repository, marker, name):
    git(repository, "config", f"filter.{name}.clean", str(marker.with_name("program")))
    attribute = "*.bin filter=" + name if " " not in name else "*.bin filter=evil"
    (repository / ".git" / "info").mkdir(exist_ok=True)
    (repository / ".git" / "info" / "attributes").write_text(attribute + "\n")
    touch(repository / "weights.bin", "other\n")
    state = git_state(repository)
    assert not marker.exists()
    assert state["diff"] == "" or " " in name


def test_a_filter_that_cannot_be_put_aside_costs_the_diff(repository, marker):
    git(repository, "config", "filter.a=b.clean", str(marker.with_name("program")))
    (repository / ".git" / "info").mkdir(exist_ok=True)
    (repository / ".git" / "info" / "attributes").write_text("* filter=a=b\n")
    touch(repository / "weights.bin", "other\n")
    state = git_state(repository)
    assert not marker.exists()
    assert state == {"commit": git(repository, "rev-parse", "HEAD"), "branch": "work"}


@pytest.mark.parametrize("odd", ["a b", "über", "a*[b]?", ":(top)x", "new\nline", "-r", "quote\"'"])
def test_files_of_any_name(repository, marker, odd):
    git(repository, "config", "filter.evil.clean", str(marker.with_name("program")))
    (repository / f"{odd}.bin").write_text("1")
    (repository / f"{odd}.py").write_text("1")
    git(repository, "-c", "filter.evil.clean=", "add", "--all")
    git(repository, "-c", "filter.evil.clean=", "commit", "-m", "second")
    marker.unlink(missing_ok=True)
    touch(repository / f"{odd}.bin", "2")
    touch(repository / f"{odd}.py", "2")
    state = git_state(repository)
    assert state["filtered"] == [f"{odd}.bin"]
    assert state["diff"].count("diff --git") == 1
    assert not marker.exists()


def test_a_submodule_starts_nothing(repository, marker, tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    git(inner, "init", "--initial-branch=work")
    (inner / "x.py").write_text("1\n")
    git(inner, "add", ".")
    git(inner, "commit", "-m", "first")
    git(repository, "-c", "protocol.file.allow=always", "submodule", "add", str(inner), "sub")
    git(repository, "commit", "-m", "second")
    sub = repository / "sub"
    program = str(marker.with_name("program"))
    for setting in ("filter.deep.clean", "core.fsmonitor", "diff.external"):
        git(sub, "config", setting, program)
    git(repository, "config", "diff.submodule", "diff")
    (sub / ".gitattributes").write_text("* filter=deep\n")
    touch(sub / "x.py", "2\n")
    assert git_state(repository)["dirty"] is False
    assert not marker.exists()
    # Another commit of it is seen.
    git(sub, "-c", "filter.deep.clean=", "-c", "core.fsmonitor=false", "commit", "--allow-empty", "-m", "new")
    marker.unlink(missing_ok=True)
    state = git_state(repository)
    assert "+Subproject commit" in state["diff"]
    assert not marker.exists()


def test_a_partial_clone_asks_no_remote(repository, marker):
    """What is missing would be fetched, through a program that the configuration names."""
    program = str(marker.with_name("program"))
    blob = git(repository, "rev-parse", "HEAD:train.py")
    git(repository, "config", "core.repositoryFormatVersion", "1")
    git(repository, "config", "extensions.partialClone", "origin")
    git(repository, "config", "remote.origin.promisor", "true")
    git(repository, "config", "core.sshCommand", program)
    git(repository, "config", "remote.origin.uploadpack", program)
    (repository / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    touch(repository / "train.py", "lr = 0.2\n")
    for url in ("ssh://host/x", str(repository.parent), f"ext::{program}"):
        git(repository, "config", "remote.origin.url", url)
        assert "diff" not in git_state(repository)
        assert not marker.exists(), url


def test_files_elsewhere_are_not_looked_at(repository, tmp_path):
    """A repository may say that its files are somebody's home."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "train.py").write_text("a secret\n")
    git(repository, "config", "core.worktree", str(home))
    assert git_state(repository) == {}
