"""Settings: which value holds, where it came from, and what is refused. Targets with their options included."""

from __future__ import annotations

import pytest

import tracking_core as tracking
from tests.support.programs import only_run
from tracking_core import NullTracker, SettingsError, Target
from tracking_core.backends.destinations import local_root, requested_targets
from tracking_core.delivery.destinations import destinations
from tracking_core.environment.settings import (
    OPTION_PREFIX,
    VARIABLES,
    find_file,
    load_settings,
    option_variable,
    unknown_variables,
)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# ---------------------------------------------------------------- precedence


def test_argument_before_environment_before_file_before_default(tmp_path):
    file = write(tmp_path / "tracking.toml", 'project = "from the file"\ngroup = "g"\n')
    settings = load_settings({"TRACKING_PROJECT": "from the environment"}, tmp_path)

    assert settings.get("project", "given") == "given"
    assert settings.origin("project", "given") == "argument"
    assert settings.get("project") == "from the environment"
    assert settings.origin("project") == "environment variable TRACKING_PROJECT"
    assert settings.get("group") == "g"
    assert settings.origin("group") == str(file)
    assert settings.get("resume") == "never"
    assert settings.origin("resume") == "default"
    assert settings.get("notes") is None
    assert settings.origin("notes") == "default"
    assert settings.file == file


def test_an_empty_variable_is_the_default_again(tmp_path):
    write(tmp_path / "tracking.toml", 'project = "p"\nresume = "allow"\n[options.wandb]\nmode = "offline"\n')
    environ = {"TRACKING_PROJECT": "", "TRACKING_RESUME": "", "TRACKING_BACKEND_WANDB_MODE": ""}
    settings = load_settings(environ, tmp_path)
    assert settings.get("project") is None
    assert settings.choice("resume") == "never"
    [target] = requested_targets("wandb", settings)
    assert "mode" not in target.options


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.key)
def test_every_setting_is_read_from_its_variable_and_from_the_file(variable, tmp_path):
    value = variable.choices[-1] if variable.choices else "something"
    from_environment = load_settings({variable.env: value}, tmp_path)
    assert from_environment.get(variable.key) == value
    assert from_environment.origin(variable.key) == f"environment variable {variable.env}"
    file = write(tmp_path / "tracking.toml", f"{variable.key} = '{value}'")
    from_file = load_settings({}, tmp_path)
    assert (from_file.get(variable.key), from_file.origin(variable.key)) == (value, str(file))


def test_a_run_takes_its_settings_from_file_environment_and_arguments(tmp_path, monkeypatch):
    write(
        tmp_path / "tracking.toml",
        'project = "file"\ngroup = "file"\nnotes = "file"\ndir = "kept"\ntags = ["a", "b"]\nname = "file"\n',
    )
    monkeypatch.setenv("TRACKING_GROUP", "environment")
    monkeypatch.setenv("TRACKING_NOTES", "environment")
    with tracking.start_run(notes="argument") as run:
        pass
    stored = tracking.open_store(tmp_path / "kept").run(run.id)
    assert (stored.project, stored.group, stored.notes) == ("file", "environment", "argument")
    assert (stored.name, stored.tags) == ("file", ("a", "b"))
    assert run.dir == only_run(tmp_path / "kept")


def test_the_root_in_a_target_wins_over_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKING_DIR", str(tmp_path / "environment"))
    monkeypatch.setenv("TRACKING_BACKEND", f"local:{tmp_path / 'target'}")
    with tracking.start_run():
        pass
    assert only_run(tmp_path / "target")
    with tracking.start_run(root=tmp_path / "argument"):
        pass
    assert only_run(tmp_path / "argument")
    assert not (tmp_path / "environment").exists()


# ---------------------------------------------------------------- choices


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        (
            {"TRACKING_RESUME": "alow"},
            "environment variable TRACKING_RESUME: 'alow' is not one of never, allow, must: did you mean 'allow'?",
        ),
        (
            {"TRACKING_DELIVERY": "THREAD"},
            "environment variable TRACKING_DELIVERY: 'THREAD' is not one of process, thread, inline",
        ),
        ({"TRACKING_PROCESS": "1"}, "'1' is not one of 0, all"),
        ({"TRACKING_CONSOLE": "yes"}, "'yes' is not one of auto, on, off"),
    ],
)
def test_a_value_that_is_none_of_the_choices_is_an_error_that_says_where(environ, says, monkeypatch):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    key = next(variable.key for variable in VARIABLES if variable.env in environ)
    with pytest.raises(SettingsError) as caught:
        load_settings().choice(key)
    assert says in str(caught.value)


def test_a_wrong_argument_is_called_an_argument():
    with pytest.raises(SettingsError, match="the argument resume: 'sometimes' is not one of never, allow, must"):
        load_settings({}).choice("resume", "sometimes")


def test_start_run_refuses_a_wrong_choice(monkeypatch):
    monkeypatch.setenv("TRACKING_RESUME", "alow")
    with pytest.raises(SettingsError, match="did you mean 'allow'"):
        tracking.start_run()


# ---------------------------------------------------------------- the file


def test_the_file_is_looked_for_upwards_to_the_top_of_the_repository(tmp_path):
    outside = write(tmp_path / "tracking.toml", 'project = "outside"')
    repository = tmp_path / "repository"
    deep = repository / "a" / "b"
    deep.mkdir(parents=True)
    assert find_file(deep)[0] == outside
    (repository / ".git").mkdir()
    assert find_file(deep) == (None, {})
    top = write(repository / "pyproject.toml", '[tool.tracking]\nproject = "top"')
    assert find_file(deep)[0] == top
    near = write(repository / "a" / "tracking.toml", 'project = "near"')
    assert find_file(deep)[0] == near
    assert find_file(repository)[0] == top


def test_a_pyproject_without_a_table_of_ours_does_not_end_the_search(tmp_path):
    top = write(tmp_path / "tracking.toml", 'project = "top"')
    for content in ("[tool.other]\nx = 1", "tool = 3", "[tool]\ntracking = 3", "this is not valid TOML", "\ufffe"):
        write(tmp_path / "sub" / "pyproject.toml", content)
        assert find_file(tmp_path / "sub")[0] == top, content
    (tmp_path / "sub" / "pyproject.toml").write_bytes(b"\xff\xfe\x00")
    assert find_file(tmp_path / "sub")[0] == top


def test_of_two_files_in_one_directory_our_own_holds(tmp_path):
    write(tmp_path / "pyproject.toml", '[tool.tracking]\nproject = "theirs"')
    write(tmp_path / "tracking.toml", 'project = "ours"')
    assert load_settings({}, tmp_path).get("project") == "ours"


def test_values_of_the_file_become_text(tmp_path):
    write(
        tmp_path / "tracking.toml",
        'tags = ["a", "b"]\nname = 7\nnotes = 0.5\n[options.csv]\nquoted = true\nheader = false\nwidth = 80\n',
    )
    settings = load_settings({}, tmp_path)
    assert [settings.get(key) for key in ("tags", "name", "notes")] == ["a,b", "7", "0.5"]
    options = {key: setting.value for key, setting in settings.backend_options("csv").items()}
    assert options == {"quoted": "on", "header": "off", "width": "80"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("projet = 'x'", "unknown setting 'projet': did you mean 'project'?; the settings are backend, dir, project"),
        ("[option.wandb]\nmode = 'x'", "unknown setting 'option': did you mean 'options'?"),
        ("options = 3", "'options' holds a table for each backend, such as [options.wandb]"),
        ("[options]\nwandb = 'offline'", "'options' holds a table for each backend"),
        ("tags = [1, 2]", "'tags' must be text, a number or a list of texts"),
        ("[options.wandb.mode]\nx = 1", "'options.wandb.mode' must be text"),
        ("project = 2020-01-01", "'project' must be text"),
        ("project = ", "is not valid TOML"),
    ],
)
def test_a_file_that_cannot_be_meant_is_an_error_that_names_it(content, says, tmp_path):
    file = write(tmp_path / "tracking.toml", content)
    with pytest.raises(SettingsError) as caught:
        load_settings({}, tmp_path)
    assert says in str(caught.value)
    assert str(caught.value).startswith(str(file))


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path):
    (tmp_path / "tracking.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match=r"tracking\.toml cannot be read"):
        load_settings({}, tmp_path)


def test_a_directory_that_cannot_be_looked_into_is_no_error(tmp_path):
    file = write(tmp_path / "tracking.toml", "")
    # Whoever may enter everything is still refused a name that is too long.
    assert find_file(tmp_path / ("d" * 300) / "inner")[0] == file


# ---------------------------------------------------------------- the environment


def test_variables_that_nobody_reads_are_named_with_what_was_probably_meant():
    environ = {
        "TRACKING_BACKEND": "local",
        "TRACKING_BACKEND_WANDB_MODE": "offline",
        "TRACKING_BACKENDS": "wandb",
        "TRACKING_PROJCT": "x",
        "TRACKING_XYZZY": "x",
        "OTHER": "x",
    }
    assert unknown_variables(environ) == [
        "TRACKING_BACKENDS: did you mean 'TRACKING_BACKEND'?",
        "TRACKING_PROJCT: did you mean 'TRACKING_PROJECT'?",
        "TRACKING_XYZZY",
    ]


def test_options_in_the_environment_belong_to_the_backend_they_name():
    settings = load_settings(
        {
            "TRACKING_BACKEND_WANDB_MODE": "offline",
            "TRACKING_BACKEND_WANDB_BASE_URL": "http://x",
            "TRACKING_BACKEND_MY_BACKEND_X": "1",
            "TRACKING_BACKEND_WANDB_": "nothing",
        }
    )
    assert {key: s.value for key, s in settings.backend_options("wandb").items()} == {
        "mode": "offline",
        "base_url": "http://x",
    }
    [(key, setting)] = settings.backend_options("my-backend").items()
    assert (key, setting.value, setting.origin) == ("x", "1", "environment variable TRACKING_BACKEND_MY_BACKEND_X")
    assert settings.backend_options("tensorboard") == {}


@pytest.mark.parametrize(("backend", "option"), [("wandb", "mode"), ("my-backend", "base_url"), ("a.b", "x1")])
def test_the_variable_of_an_option_sets_it(backend, option):
    variable = option_variable(backend, option)
    assert variable.startswith(OPTION_PREFIX)
    assert load_settings({variable: "v"}).backend_options(backend)[option].value == "v"


def test_an_option_that_no_variable_can_name_has_none():
    assert option_variable("wandb", "base-url") == option_variable("wandb", "Mode") == ""


# ---------------------------------------------------------------- targets and their options


def test_options_come_from_target_environment_and_file_in_this_order(tmp_path):
    file = write(
        tmp_path / "tracking.toml", '[options.wandb]\nmode = "online"\nproject = "file"\nentity = "file"\nevery = 7\n'
    )
    environ = {"TRACKING_BACKEND_WANDB_MODE": "disabled", "TRACKING_BACKEND_WANDB_PROJECT": "environment"}
    settings = load_settings(environ, tmp_path)
    [target] = requested_targets("wandb?mode=offline", settings)
    assert dict(target.options) == {"mode": "offline", "project": "environment", "entity": "file"}
    assert dict(target.filters) == {"every": "7"}
    assert dict(target.origins) == {
        "project": "environment variable TRACKING_BACKEND_WANDB_PROJECT",
        "entity": str(file),
        "every": str(file),
    }
    assert requested_targets("tensorboard:./tb", settings) == [Target("tensorboard", "./tb")]


@pytest.mark.parametrize(
    ("file", "environ", "target", "source"),
    [
        ("[options.tensorboard]\nhparam = 'on'", {}, "tensorboard", "tracking.toml"),
        ("", {"TRACKING_BACKEND_TENSORBOARD_HPARAM": "on"}, "tensorboard", "TRACKING_BACKEND_TENSORBOARD_HPARAM"),
        ("", {}, "tensorboard?hparam=on", "the argument backends"),
        ("", {"TRACKING_BACKEND": "tensorboard?hparam=on"}, None, "environment variable TRACKING_BACKEND"),
        ("backend = 'tensorboard?hparam=on'", {}, None, "tracking.toml"),
    ],
)
def test_an_unknown_option_is_an_error_that_says_where_it_came_from(file, environ, target, source, tmp_path):
    if file:
        write(tmp_path / "tracking.toml", file)
    settings = load_settings(environ, tmp_path)
    with pytest.raises(SettingsError) as caught:
        destinations(requested_targets(target, settings))
    message = str(caught.value)
    assert source in message.partition(": ")[0]
    assert "the backend 'tensorboard' has no option 'hparam': did you mean 'hparams'?" in message
    assert "its options are every, exclude, hparams, include, layout, media" in message


@pytest.mark.parametrize("name", ["api_key", "token"])
def test_secrets_in_options_are_refused_wherever_they_come_from(name, tmp_path):
    with pytest.raises(SettingsError) as caught:
        requested_targets("wandb", load_settings({f"TRACKING_BACKEND_WANDB_{name.upper()}": "hunter2"}, tmp_path))
    assert str(caught.value).startswith(f"environment variable TRACKING_BACKEND_WANDB_{name.upper()}: ")
    file = write(tmp_path / "tracking.toml", f"[options.wandb]\n{name} = 'hunter2'")
    with pytest.raises(SettingsError) as from_file:
        requested_targets("wandb", load_settings({}, tmp_path))
    assert str(from_file.value).startswith(str(file))
    assert "hunter2" not in str(caught.value) + str(from_file.value)


def test_a_filter_in_the_environment_that_makes_no_sense_is_refused():
    settings = load_settings({"TRACKING_BACKEND_WANDB_EVERY": "often"})
    with pytest.raises(SettingsError, match="TRACKING_BACKEND_WANDB_EVERY: wandb.every=often: expected a positive"):
        requested_targets("wandb", settings)


def test_backends_may_be_given_in_many_forms():
    settings = load_settings({"TRACKING_BACKEND": "tensorboard:./tb"})
    tracker = NullTracker()
    target = Target("tensorboard", "x")
    assert requested_targets(None, settings) == [Target("tensorboard", "./tb")]
    assert requested_targets("local,tensorboard:x", settings) == [Target("local"), target]
    assert requested_targets(target, settings) == [target]
    assert requested_targets(tracker, settings) == [tracker]
    assert requested_targets(["local,tensorboard:y", target, tracker], settings) == [
        Target("local"),
        Target("tensorboard", "y"),
        target,
        tracker,
    ]
    assert requested_targets(None, load_settings({})) == [Target("local")]


@pytest.mark.parametrize("backends", [[], [3], 3, {"wandb": 1}, [None]])
def test_what_is_no_backend_is_refused(backends):
    with pytest.raises(SettingsError, match="backends"):
        requested_targets(backends, load_settings({}))


@pytest.mark.parametrize("backends", ["none,local", "none,none", ["none", NullTracker()], ["tensorboard:./tb", "none"]])
def test_none_stands_alone(backends):
    with pytest.raises(SettingsError, match="'none' records nothing, and cannot be combined with others"):
        requested_targets(backends, load_settings({}))


def test_none_records_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKING_BACKEND", "none")
    with tracking.start_run() as run:
        run.log_scalars({"a": 1.0}, step=0)
    assert list(tmp_path.iterdir()) == []


def test_the_same_place_twice_is_one_destination(tmp_path):
    found = destinations(
        requested_targets("tensorboard:./tb,tensorboard:tb/,local,tensorboard:other", load_settings({}))
    )
    assert [place.target.path for place in found] == [str(tmp_path / "tb"), str(tmp_path / "other")]
    assert [place.label for place in found] == [f"tensorboard:{tmp_path}/tb", f"tensorboard:{tmp_path}/other"]
    [single] = destinations(requested_targets("tensorboard:./tb,local", load_settings({})))
    assert single.label == "tensorboard"


def test_the_same_place_with_two_sets_of_filters_is_an_error():
    text = "tensorboard:./tb?include=train/*,tensorboard:./tb?include=val/*"
    with pytest.raises(SettingsError, match="one place with two sets of filters"):
        destinations(requested_targets(text, load_settings({})))


def test_trackers_get_a_name_each():
    found = destinations(requested_targets([NullTracker(), NullTracker(), "local"], load_settings({})))
    assert [place.label for place in found] == ["NullTracker", "NullTracker#2"]


def test_local_is_no_destination_and_may_name_the_root():
    requested = requested_targets("local:./runs", load_settings({}))
    assert destinations(requested) == []
    assert local_root(requested) == "./runs"
    with pytest.raises(SettingsError, match="the backend 'local' has no option 'compress'"):
        destinations(requested_targets("local?compress=on", load_settings({})))
