"""The page of the configuration reference is what the code says."""

from __future__ import annotations

import importlib.util
import tomllib

import pytest

from tests.support.programs import REPO
from tracking_core.backends.plugins import FIRST_PARTY, find_adapter
from tracking_core.backends.targets import COMMON_OPTIONS, parse_target
from tracking_core.environment.settings import VARIABLES, load_settings

PAGE = (REPO / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")


def generated() -> str:
    spec = importlib.util.spec_from_file_location("generate_reference", REPO / "docs" / "generate_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.page()


def test_the_committed_page_is_what_the_code_generates():
    assert generated() == PAGE, "run: python docs/generate_reference.py"


def test_the_page_names_everything_that_can_be_set():
    for variable in VARIABLES:
        assert f"| `{variable.key}` | `{variable.env}` |" in PAGE
    for name in FIRST_PARTY:
        info = find_adapter(name).info
        for option, text in (info.options or {}).items():
            assert f"| `{option}` | `TRACKING_BACKEND_{name.upper()}_{option.upper()}` | {text}" in PAGE
    for option in COMMON_OPTIONS:
        assert f"| `{option}` |" in PAGE


@pytest.mark.parametrize("name", ["tracking.toml", "pyproject.toml"])
def test_the_settings_files_on_the_page_are_read_as_it_says(name, tmp_path):
    blocks = [part.partition("\n")[2] for part in PAGE.split("```") if part.startswith("toml")]
    content = next(block for block in blocks if ("[tool." in block) == (name == "pyproject.toml"))
    assert tomllib.loads(content)
    (tmp_path / name).write_text(content, encoding="utf-8")
    settings = load_settings({}, tmp_path)
    assert (settings.get("project"), settings.get("backend")) == ("vae", "tensorboard:./tb,wandb")
    assert settings.backend_options("wandb")["mode"].value == "offline"


def test_the_targets_on_the_page_parse():
    rows = [line for line in PAGE.splitlines() if line.startswith("| `") and "means" not in line]
    texts = [line.split("`")[1].replace("\\|", "|") for line in rows[len(VARIABLES) : len(VARIABLES) + 9]]
    targets = {text: parse_target(text.split(",")[0]) for text in texts}
    assert targets["tensorboard:C:\\tb"].path == "C:\\tb"
    assert targets["tensorboard:./a%2Cb"].path == "./a,b"
    assert targets["wandb://team/digits?mode=offline"].authority == "team"
    assert dict(targets["wandb?include=train/*|val/*&every=10"].filters) == {"include": "train/*|val/*", "every": "10"}
