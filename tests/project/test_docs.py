"""The documentation is true: its code runs and prints what it says, its commands, settings and links exist."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import json
import os
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
import zlib
from pathlib import Path

import click
import pytest

import tracking_core as tracking
from tests.support.pages import PAGES, ROOT, anchors, blocks, links, prose, shell_lines
from tracking_core.backends.destinations import with_options
from tracking_core.backends.plugins import FIRST_PARTY, find_adapter, forget_adapters
from tracking_core.backends.targets import parse_targets
from tracking_core.cli.app import app
from tracking_core.environment.settings import OPTION_PREFIX, VARIABLES, load_settings

SHELL = {"", "console", "bash", "sh", "shell"}
#: Verbs that the documentation says are not there yet.
MISSING_VERBS: set[str] = set()
MARKS = {"", "skip", "output", "run"}


def ids(page):
    return str(page.relative_to(ROOT))


def having(language):
    return [page for page in PAGES if any(block.language == language for block in blocks(page))]


# ---------------------------------------------------------------- code


@pytest.mark.system
@pytest.mark.parametrize("page", having("python"), ids=ids)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    """Blocks of a page run in order and share their names; a block with a title is a file of that name."""
    names = {"__name__": "__main__"}
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    before = set(sys.modules)
    printed = None
    try:
        for block in blocks(page):
            assert block.mark in MARKS, f"{block}: there is no mark {block.mark!r}"
            if block.mark == "skip":
                assert block.reason, f"{block}: skipped without a reason"
            elif block.mark == "run":
                printed = "".join(execute(words, tmp_path, block) for words in shell_lines(block.text))
                forget_adapters()
            elif block.mark == "output":
                assert printed is not None, f"{block}: there is no code whose output this is"
                compare(block, printed)
            elif block.title:
                place = tmp_path / block.title
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(block.text, encoding="utf-8")
            elif block.language == "python":
                printed = execute_python(block, names)
    finally:
        forget_adapters()
        for name in set(sys.modules) - before:
            if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
                del sys.modules[name]
    assert tracking.current_run() is None


def execute_python(block, names):
    out = io.StringIO()
    # Empty lines before it, so that a traceback shows the line of the page.
    code = compile("\n" * (block.line - 1) + block.text, str(block.page), "exec")
    with contextlib.redirect_stdout(out):
        exec(code, names)
    return out.getvalue()


def compare(block, printed):
    checker = doctest.OutputChecker()
    wanted = block.text.replace("…", "...")
    if not checker.check_output(wanted, printed, doctest.ELLIPSIS):
        pytest.fail(f"{block}: the page says\n\n{block.text}\nbut printed was\n\n{printed}")


def execute(words, directory, block):
    """Run a command of a page, and return what it prints; `pip install -e .` goes into a directory of its own instead of this environment."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(directory / "site"), str(ROOT)])}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        environment[name] = value
    programs = {
        "pip install -e .": "-m pip install --quiet --disable-pip-version-check --no-deps --no-index "
        "--no-build-isolation --upgrade --target site .",
        "pytest": "-m pytest -q -p no:cacheprovider",
    }
    if " ".join(words) in programs:
        words = shlex.split(programs[" ".join(words)])
    elif words[0] == "tracking":
        words = ["-m", "tracking_core.cli", *words[1:]]
    else:
        assert words.pop(0) == "python", f"{block}: cannot run {words}"
    done = subprocess.run(
        [sys.executable, *words], cwd=directory, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{block}: {' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_adapter_of_the_tutorial_is_checked_in_full(tmp_path):
    """The page shows `pytest` twice, for the adapter as it begins and as it ends."""
    runs = [block for block in blocks(ROOT / "docs" / "adapters.md") if block.mark == "run"]
    assert sum("pytest" in block.text.splitlines() for block in runs) == 2


def modules_with_examples():
    found = []
    for module in pkgutil.walk_packages(tracking.__path__, "tracking_core."):
        path = Path(importlib.util.find_spec(module.name).origin)
        if ">>>" in path.read_text(encoding="utf-8"):
            found.append(module.name)
    return found


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_docstrings_run(name):
    try:
        module = importlib.import_module(name)
    except tracking.MissingDependencyError as error:
        pytest.skip(str(error))
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    out = io.StringIO()
    for test in doctest.DocTestFinder().find(module):
        runner.run(test, out=out.write)
    assert runner.tries, f"{name} has examples, but none was found"
    assert not runner.failures, out.getvalue()


# ---------------------------------------------------------------- settings and commands


@pytest.mark.parametrize("page", having("toml"), ids=ids)
def test_toml_is_read_as_settings(page, tmp_path):
    for number, block in enumerate(blocks(page)):
        if block.language != "toml":
            continue
        table = tomllib.loads(block.text)
        folder = tmp_path / str(number)
        folder.mkdir()
        if "build-system" not in table:
            name = "pyproject.toml" if "tool" in table else "tracking.toml"
            (folder / name).write_text(block.text, encoding="utf-8")
            settings = load_settings({}, folder)
            assert settings.file == folder / name, block
            targets = parse_targets(settings.get("backend") or "local")
            targets += [target for name in settings.file_options for target in parse_targets(name)]
            for target in targets:
                check_target(with_options(target, settings), block)


def commands(page):
    """(where, words) of every command of a page, in blocks and in the text."""
    for block in blocks(page):
        if block.language in SHELL:
            for words in shell_lines(block.text):
                yield str(block), words
    for code in re.findall(r"`([^`\n]+)`", prose(page)):
        for words in shell_lines(code):
            yield f"{ids(page)}: `{code}`", words


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands_and_settings_exist(page):
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for where, words in commands(page):
        while words and re.match(r"[A-Z_]+=", words[0]):
            name, _, value = words.pop(0).partition("=")
            if name == "TRACKING_BACKEND" and "…" not in value and value != "name":
                for target in parse_targets(value):
                    check_target(target, where)
        if not words:
            continue
        program, *arguments = words
        if program == "tracking" and arguments:
            check_verb(arguments, where)
        elif program == "make" and arguments:
            assert arguments[0] in targets, f"{where}: the Makefile has no target {arguments[0]!r}"
        elif program == "pip" and arguments[:1] == ["install"]:
            for extras in re.findall(r"tracking-core\[([\w,]+)\]", " ".join(arguments)):
                assert set(extras.split(",")) <= set(project["optional-dependencies"]), where
        elif program.startswith("python") and arguments and arguments[0].startswith(("examples/", "docs/")):
            assert (ROOT / arguments[0]).is_file(), f"{where}: there is no {arguments[0]}"


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_variables_exist(page):
    known = {variable.env for variable in VARIABLES}
    for name in re.findall(r"\bTRACKING_[A-Z][A-Z_]*[A-Z]", page.read_text(encoding="utf-8")):
        assert name in known or name.startswith(OPTION_PREFIX), f"{ids(page)}: there is no variable {name}"


def check_target(target, where):
    if target.name in FIRST_PARTY:
        find_adapter(target.name).check_options(target, origin=str(where))


def check_verb(arguments, where):
    verb, *rest = arguments
    if verb in MISSING_VERBS:
        assert verb not in app.commands, f"{where}: there is a `tracking {verb}` now"
        return
    if not verb.startswith("-"):
        assert verb in app.commands, f"{where}: there is no `tracking {verb}`"
        command = app.commands[verb]
        try:
            command.make_parser(click.Context(command)).parse_args(list(rest))
        except click.UsageError as error:
            pytest.fail(f"{where}: {error.format_message()}")


# ---------------------------------------------------------------- the site


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_somewhere(page):
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        place = (page.parent / name).resolve() if name else page
        assert place.exists(), f"{ids(page)}: {link} leads nowhere"
        if anchor and place.suffix == ".md":
            assert anchor in anchors(place), f"{ids(page)}: {link}: there is no such heading"


def test_public_names_are_documented():
    shown = anchors(ROOT / "docs" / "reference" / "api.md")
    modules = {"errors", "naming", "testing", "values", "__version__"}
    for name in set(tracking.__all__) - modules:
        by_module = hasattr(tracking.errors, name) and "tracking_core.errors" in shown
        assert f"tracking_core.{name}" in shown or by_module, f"docs/reference/api.md does not show {name}"


def test_lines_of_journals_are_intact():
    """The lines that the page on formats shows have the checksums it specifies."""
    lines = [b.text.strip() for b in blocks(ROOT / "docs" / "formats.md") if b.language == "json" and '"crc"' in b.text]
    assert lines
    for line in lines:
        head, _, tail = line.encode().rpartition(b',"crc":"')
        assert tail == b'%08x"}' % zlib.crc32(head)
        json.loads(line)


@pytest.mark.system
def test_the_site_is_built_strictly_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("mkdocs", reason="needs the dependency group docs")
    pytest.importorskip("mkdocstrings", reason="needs the dependency group docs")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}
    # Without --quiet, which would hide warnings from --strict as well.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    loaded = re.compile(r"""<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=["']?(?:https?:)?//[^"'\s>]+""")
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        assert not loaded.findall(page.read_text(encoding="utf-8")), page
    for style in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"url\(\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")), style
