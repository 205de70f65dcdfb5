"""Targets that would train to the end and deliver nothing are refused when the run starts, with what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import tracking_core as tracking
from tests.support.distributions import good, install
from tests.support.programs import REPO
from tracking_core import SettingsError
from tracking_core.backends.destinations import requested_targets
from tracking_core.backends.plugins import forget_adapters
from tracking_core.delivery.destinations import destinations
from tracking_core.environment.settings import load_settings

COMMAS = "targets are joined by commas"


def asked(backends=None):
    """What a run would deliver to."""
    return [str(place.target) for place in destinations(requested_targets(backends, load_settings()))]


@pytest.mark.parametrize(
    "text",
    [
        "tensorboard:./tb wandb",
        "tensorboard:./tb  wandb",
        "tensorboard:./tb\twandb",
        "tensorboard:./tb\nwandb",
        "tensorboard:./tb; wandb",
        "tensorboard:./tb;wandb",
        "tensorboard:./tb and wandb",
        "tensorboard:./tb + wandb",
        "tensorboard:./tb WandB",
        "tensorboard:./tb 'wandb'",
        "tensorboard:./tb wandb://team/p",
        "tensorboard:./tb wandb?mode=offline",
        "tensorboard:./tb wandb:x more",
        "tensorboard:./tb local",
        "wandb://team/p tensorboard:./tb",
        "wandb://team tensorboard:./tb",
        "wandb?mode=offline tensorboard:./tb",
        "wandb?mode=offline tensorboard",
        "local:./runs tensorboard",
        "tensorboard wandb",
        "tensorboard;wandb",
        "tensorboard+wandb",
        "tensorboard|wandb",
        "tensorboard&wandb",
        "tensorboard\nwandb",
        "tensorboard:./tb wandb tail",
        "tensorboard:./tb; wandb; tail",
        "tensorboard:./tb wandb+tail",
        "tensorboard:./my wandb runs",
        "tensorboard:./tb+wandb",
        "tensorboard:./tb|wandb",
        "tensorboard:./tb&wandb",
        "tensorboard:./tb&wandb?mode=offline",
        "tensorboard:./tb+wandb+tail",
        "tensorboard:./tb+WandB",
        "tensorboard:./tb&wandb:team/p",
        "tensorboard:./tb|local:./runs",
        "wandb:digits+tensorboard",
        "wandb://team/digits&tensorboard:./tb",
        "wandb://team+tensorboard",
        "wandb?project=digits+tensorboard",
    ],
)
def test_another_target_behind_anything_but_a_comma(text):
    with pytest.raises(SettingsError, match=COMMAS):
        tracking.start_run(backends=text)
    with pytest.raises(SettingsError, match=COMMAS) as caught:
        tracking.start_run(backends=["local", text])
    assert str(caught.value).startswith("the argument backends: ")
    assert not os.path.exists("tracking_runs")


def test_where_it_was_written_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("TRACKING_BACKEND", "tensorboard:./tb wandb")
    with pytest.raises(SettingsError, match="^environment variable TRACKING_BACKEND: .*" + COMMAS):
        tracking.start_run()
    monkeypatch.delenv("TRACKING_BACKEND")
    (tmp_path / "tracking.toml").write_text('backend = "tensorboard:./tb wandb"')
    with pytest.raises(SettingsError, match=r"tracking\.toml: .*" + COMMAS):
        tracking.start_run()
    with pytest.raises(SettingsError, match="^open_tracker: .*" + COMMAS):
        tracking.open_tracker("tensorboard:./tb wandb")


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("tensorboard:./my runs", ["tensorboard:{cwd}/my runs"]),
        ("tensorboard:./my%20wandb runs", ["tensorboard:{cwd}/my wandb runs"]),
        ("tensorboard:./my local runs", ["tensorboard:{cwd}/my local runs"]),
        ("tensorboard:./none of these", ["tensorboard:{cwd}/none of these"]),
        ("tensorboard:./global+local", ["tensorboard:{cwd}/global+local"]),
        ("tensorboard:./(wandb) runs", ["tensorboard:{cwd}/(wandb) runs"]),
        ("tensorboard:./a+b", ["tensorboard:{cwd}/a+b"]),
        ("tensorboard:./a+b|c&d;e", ["tensorboard:{cwd}/a+b%7Cc%26d;e"]),
        ("tensorboard:./a+wandb/b", ["tensorboard:{cwd}/a+wandb/b"]),
        ("tensorboard:./wandb", ["tensorboard:{cwd}/wandb"]),
        ("tensorboard:wandb", ["tensorboard:{cwd}/wandb"]),
        ("tensorboard:./wandb runs", ["tensorboard:{cwd}/wandb runs"]),
        ("tensorboard:./tb/wandb", ["tensorboard:{cwd}/tb/wandb"]),
        ("tensorboard:./tb-wandb_1.0", ["tensorboard:{cwd}/tb-wandb_1.0"]),
        ("tensorboard:./lr=1e-3", ["tensorboard:{cwd}/lr=1e-3"]),
        ("tensorboard:./10:30", ["tensorboard:{cwd}/10:30"]),
        ("tensorboard:./http://h", ["tensorboard:{cwd}/http:/h"]),
        ("tensorboard:./5'", ["tensorboard:{cwd}/5'"]),
        ("tensorboard:./%20tb%20", ["tensorboard:{cwd}/ tb%20"]),
        ("tensorboard:./größe-数", ["tensorboard:{cwd}/gr%C3%B6%C3%9Fe-%E6%95%B0"]),
        ("tensorboard?include=loss|acc|wandb", ["tensorboard?include=loss%7Cacc%7Cwandb"]),
        ("tensorboard?exclude=a wandb b", ["tensorboard?exclude=a wandb b"]),
        ("tensorboard:./my wandb/runs", ["tensorboard:{cwd}/my wandb/runs"]),
        ("tensorboard:./my%20wandb", ["tensorboard:{cwd}/my wandb"]),
        ("tensorboard:./my wandbs", ["tensorboard:{cwd}/my wandbs"]),
        ("tensorboard:./a%2Bwandb", ["tensorboard:{cwd}/a+wandb"]),
        ("tensorboard:./a+wandbs", ["tensorboard:{cwd}/a+wandbs"]),
        ("tensorboard:./bob's", ["tensorboard:{cwd}/bob's"]),
        ("tensorboard:%22a%22", ['tensorboard:{cwd}/"a"']),
        ("tensorboard?include=loss local", ["tensorboard?include=loss local"]),
        ("tensorboard:./tb, local", ["tensorboard:{cwd}/tb"]),
        ("tensorboard:./tb ,\n local,", ["tensorboard:{cwd}/tb"]),
    ],
)
def test_what_is_right_is_left_alone(text, targets, tmp_path):
    found = [target.replace("%22", '"') for target in asked(text)]
    assert found == [target.format(cwd=tmp_path) for target in targets]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('"tensorboard:./tb"', "remove the quotation marks"),
        ("'tensorboard','local'", "remove the quotation marks"),
        ('tensorboard:"./tb"', "begins with a quotation mark"),
        ("tensorboard:'./tb'", "begins with a quotation mark"),
        ("tensorboard?include='train/*'", "begins with a quotation mark"),
        ("tensorboard:\u201c./tb\u201d", "begins with a quotation mark"),
        ("\u201ctensorboard:./tb\u201d", "remove the quotation marks"),
        ("tensorboard:./tb,nobody", "no backend 'nobody' is installed"),
        ("tensorboard:./tb,[local]", "does not start with the name of a backend"),
    ],
)
def test_quotation_marks_and_unknown_names(text, says):
    with pytest.raises(SettingsError, match=says):
        tracking.start_run(backends=text)


def test_a_quotation_mark_in_a_variable_for_an_option(monkeypatch):
    monkeypatch.setenv("TRACKING_BACKEND_TENSORBOARD_INCLUDE", "'train/*'")
    with pytest.raises(
        SettingsError, match="TENSORBOARD_INCLUDE: the option 'include' .* begins with a quotation mark"
    ):
        tracking.start_run(backends="tensorboard:./tb")


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("train/* | val/*", "has a pattern with a blank"),
        ("a||b", "a pattern is empty"),
        ("\u201ca\u201d", "quotation mark"),
    ],
)
def test_a_filter_that_is_set_is_looked_at_as_one_that_is_written(monkeypatch, pattern, says):
    monkeypatch.setenv("TRACKING_BACKEND_TENSORBOARD_INCLUDE", pattern)
    with pytest.raises(SettingsError, match=f"TENSORBOARD_INCLUDE: .*{says}"):
        tracking.start_run(backends="tensorboard:./tb")


def test_a_control_character_from_anywhere(monkeypatch, tmp_path):
    """In a setting, a target that is an object, and in the name of the working directory, as far as a target has it."""
    with pytest.raises(SettingsError, match="the argument backends: .* null character"):
        tracking.start_run(backends=tracking.Target("tensorboard", "a\0"))
    with pytest.raises(SettingsError, match="the argument backends: .* null character"):
        tracking.start_run(backends=tracking.Target("local", "a\0"))
    (tmp_path / "tracking.toml").write_text('[options.tensorboard]\nhparams = "on\\u001b"')
    with pytest.raises(SettingsError, match=r"tracking\.toml: .* control character '\\x1b'"):
        tracking.start_run(backends="tensorboard:./tb")
    (tmp_path / "tracking.toml").unlink()
    (tmp_path / "a\nb").mkdir()
    monkeypatch.chdir(tmp_path / "a\nb")
    with pytest.raises(SettingsError, match=r"control character '\\n'"):
        tracking.start_run(backends="tensorboard:./tb")
    assert asked(f"tensorboard:{tmp_path}/tb") == [f"tensorboard:{tmp_path}/tb"]


# ---------------------------------------------------------------- the exact value of a secret variable


def test_a_target_with_the_value_of_a_secret_variable(monkeypatch):
    monkeypatch.setenv("MY_SERVICE_TOKEN", "horse/battery")
    for text in ("tensorboard:./horse/battery/tb", "tensorboard:./tb?include=horse/battery*"):
        with pytest.raises(SettingsError, match="holds the value of a secret environment variable") as caught:
            tracking.start_run(backends=text)
        assert "horse/battery" not in str(caught.value)


# ---------------------------------------------------------------- the hook of adapters


CHECKED = (
    good("checked", options='{"mode": "how", "indent": "how far"}')
    + """

@tracking.hookimpl
def check_target(target):
    import os
    found = target.options.get("mode", "good")
    if found == "settings":
        raise tracking.SettingsError("mode must be good")
    if found == "value":
        raise ValueError("mode must be good, not " + found + " " + os.environ.get("MY_SERVICE_TOKEN", ""))
    if found == "broken":
        raise KeyError("mode")
    if found == "exit":
        raise SystemExit(3)
    if found == "missing":
        raise tracking.MissingDependencyError("needs what is not there")
    with open("checked.txt", "a") as file:
        file.write(str(target.named) + " " + found + "\\n")
"""
)


@pytest.fixture
def checked(tmp_path, monkeypatch):
    """An adapter with the hook, installed in a place of its own."""
    place = install(
        tmp_path / "site", "checked-dist", "1.0", {"checked": "checked_module"}, {"checked_module": CHECKED}
    )
    monkeypatch.syspath_prepend(str(place))
    forget_adapters()
    yield str(place)
    forget_adapters()
    sys.modules.pop("checked_module", None)


def test_the_hook_is_asked_before_anything_of_the_run_exists(checked, tmp_path):
    for mode, kind, says in (
        ("settings", SettingsError, "^mode must be good$"),
        ("value", SettingsError, r"^the argument backends: 'checked:\./x\?mode=value': mode must be good, not value"),
        ("broken", tracking.BrokenAdapterError, "the adapter 'checked' failed to check a target: KeyError: 'mode'"),
        ("exit", tracking.BrokenAdapterError, "failed to check a target: SystemExit: 3"),
        ("missing", tracking.MissingDependencyError, "^needs what is not there$"),
    ):
        with pytest.raises(SettingsError, match=says) as caught:
            tracking.start_run(backends=f"checked:./x?mode={mode}")
        assert type(caught.value) is kind
    assert not (tmp_path / "tracking_runs").exists()
    with tracking.start_run(backends="checked:./x?mode=fine"):
        pass
    assert (tmp_path / "checked.txt").read_text() == "True fine\n"


def test_a_secret_in_what_the_hook_says_is_not_shown(checked, monkeypatch):
    monkeypatch.setenv("MY_SERVICE_TOKEN", "horse battery")
    with pytest.raises(SettingsError, match=r"mode must be good, not value \[redacted\]$"):
        tracking.start_run(backends="checked:./x?mode=value")


@pytest.mark.parametrize("mode", ["settings", "value"])
def test_where_an_option_comes_from_is_said(checked, tmp_path, monkeypatch, mode):
    monkeypatch.setenv("TRACKING_BACKEND_CHECKED_MODE", mode)
    monkeypatch.setenv("TRACKING_BACKEND_CHECKED_INDENT", "3")
    with pytest.raises(
        SettingsError, match="mode is from environment variable TRACKING_BACKEND_CHECKED_MODE"
    ) as caught:
        tracking.start_run(backends="checked:./x")
    assert "INDENT" not in str(caught.value)
    monkeypatch.delenv("TRACKING_BACKEND_CHECKED_MODE")
    (tmp_path / "tracking.toml").write_text(f'[options.checked]\nmode = "{mode}"')
    with pytest.raises(SettingsError, match=r"mode is from \S+tracking\.toml"):
        tracking.start_run(backends="checked:./x")
    # Where the target says it itself, nothing comes from elsewhere.
    with pytest.raises(SettingsError) as caught:
        tracking.start_run(backends=f"checked:./x?mode={mode}&indent=1")
    assert "is from" not in str(caught.value)


@pytest.mark.system
@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("checked:./x?mode=value", "mode must be good"),
        ("checked:./x?mode=broken", "failed to check a target"),
        ("checked:./x tensorboard", COMMAS),
        ("tensorboard;local", COMMAS),
    ],
)
def test_the_doctor_says_so_too(checked, tmp_path, target, says):
    done = subprocess.run(
        [sys.executable, "-m", "tracking_core.cli", "doctor", target],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{REPO}:{checked}", "COLUMNS": "1000"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert says in " ".join(done.stdout.split())


def test_sync_refuses_what_a_run_would(checked, tmp_path):
    with tracking.start_run(run_id="r", backends="local") as run:
        run.log_scalars({"x": 1.0}, step=0)
    from click.testing import CliRunner

    from tracking_core.cli.app import app

    for target, says in (("checked:./x?mode=value", "mode must be good"), ("tensorboard:./tb wandb", COMMAS)):
        done = CliRunner().invoke(app, ["sync", "r", "--to", target])
        assert done.exit_code != 0
        assert says in done.output
