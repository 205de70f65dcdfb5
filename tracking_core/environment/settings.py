"""Settings: where each value may come from, which one wins, and how to tell the user.

Precedence: argument > target > environment > file > default. The file is the nearest `tracking.toml`, or
`pyproject.toml` with a table `[tool.tracking]`, from the working directory upwards to the top of the repository.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracking_core.base.text import did_you_mean
from tracking_core.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Variable:
    """One setting.

    Args:
        key: Its name in the file, and of the argument of `start_run`.
        env: Its environment variable.
        help: One line for the reference.
        default: Its default; "" for none.
        choices: The values it may have; () for any.
        otherwise: What happens without a value, where there is no default.
    """

    key: str
    env: str
    help: str
    default: str = ""
    choices: tuple[str, ...] = ()
    otherwise: str = ""


VARIABLES: tuple[Variable, ...] = (
    Variable("backend", "TRACKING_BACKEND", "Where runs go: targets joined by commas.", "local"),
    Variable("dir", "TRACKING_DIR", "Root of the run store.", "./tracking_runs"),
    Variable("project", "TRACKING_PROJECT", "Project of the run.", "default"),
    Variable("run_id", "TRACKING_RUN_ID", "Identity of the run.", otherwise="generated"),
    Variable("name", "TRACKING_NAME", "Display name of the run.", otherwise="generated"),
    Variable("tags", "TRACKING_TAGS", "Labels of the run, joined by commas.", ""),
    Variable("group", "TRACKING_GROUP", "Group of runs it belongs to.", ""),
    Variable("notes", "TRACKING_NOTES", "Longer description of the run.", ""),
    Variable(
        "resume",
        "TRACKING_RESUME",
        "Whether a run of that id is continued: never, allow (if it exists) or must.",
        "never",
        ("never", "allow", "must"),
    ),
    Variable(
        "delivery",
        "TRACKING_DELIVERY",
        "How records reach the backends: process (one of low priority for all runs), thread (of the training process), "
        "or inline (on the thread that logs, for debugging).",
        "process",
        ("process", "thread", "inline"),
    ),
    Variable(
        "process",
        "TRACKING_PROCESS",
        "Which JAX processes record: 0 (the first one) or all (each under a writer of its own).",
        "0",
        ("0", "all"),
    ),
    Variable("artifacts", "TRACKING_ARTIFACTS", "Directory of artifact contents.", otherwise="<dir>/.blobs"),
    Variable(
        "mirror",
        "TRACKING_MIRROR",
        "Where runs are copied to while they are recorded: s3://bucket/prefix, gs://bucket/prefix or file:///directory.",
        "",
    ),
    Variable("mirror_interval", "TRACKING_MIRROR_INTERVAL", "Seconds between two uploads to the mirror.", "25"),
    Variable(
        "cache",
        "TRACKING_CACHE",
        "Directory of the local copies of mirrors that you read.",
        otherwise="~/.cache/tracking",
    ),
    Variable(
        "console",
        "TRACKING_CONSOLE",
        "Whether a run prints where it is and what came of it: auto (at a terminal and in a notebook), on or off.",
        "auto",
        ("auto", "on", "off"),
    ),
)
_BY_KEY = {variable.key: variable for variable in VARIABLES}
_BY_ENV = {variable.env: variable for variable in VARIABLES}
OPTION_PREFIX = "TRACKING_BACKEND_"
"""Options of one backend: TRACKING_BACKEND_<NAME>_<OPTION>."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A value, and where it came from."""

    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a process, as they stand.

    Args:
        values: By key; defaults included where there is one to show.
        file_options: Options of backends by name, from the file.
        env_options: Options of backends from the environment, by what follows the prefix, in lower case.
        file: The file that was read, if any.
    """

    values: Mapping[str, Setting]
    file_options: Mapping[str, Mapping[str, Setting]] = field(default_factory=dict[str, Mapping[str, Setting]])
    env_options: Mapping[str, Setting] = field(default_factory=dict[str, Setting])
    file: Path | None = None

    def backend_options(self, name: str) -> dict[str, Setting]:
        """The options that environment and file set for one backend; the environment wins."""
        prefix = _variable_part(name) + "_"
        found = dict(self.file_options.get(name, {}))
        for key, setting in self.env_options.items():
            if key.startswith(prefix) and len(key) > len(prefix):
                found[key[len(prefix) :]] = setting
        return found

    def get(self, key: str, argument: Any = None) -> str | None:
        """The value of a setting: the argument if there is one, else what was set; None for nothing and for ""."""
        if argument is not None:
            return str(argument)
        setting = self.values.get(key)
        return setting.value if setting is not None and setting.value else None

    def origin(self, key: str, argument: Any = None) -> str:
        """Where the value of a setting came from."""
        if argument is not None:
            return "argument"
        setting = self.values.get(key)
        return setting.origin if setting is not None else "default"

    def choice(self, key: str, argument: Any = None) -> str:
        """The value of a setting with choices.

        Raises:
            SettingsError: It is none of them.
        """
        variable = _BY_KEY[key]
        value = self.get(key, argument) or variable.default
        if value not in variable.choices:
            origin = self.origin(key, argument)
            source = f"the argument {key}" if origin == "argument" else origin
            raise SettingsError(
                f"{source}: {value!r} is not one of {', '.join(variable.choices)}"
                f"{did_you_mean(value, variable.choices)}"
            )
        return value


def load_settings(
    environ: Mapping[str, str] | None = None, directory: Path | None = None, *, read_file: bool = True
) -> Settings:
    """Read the settings from environment and file.

    Args:
        environ: The environment; None means `os.environ`.
        directory: Where to begin looking for a file; None means the working directory.
        read_file: Whether to look for a file at all.

    Raises:
        SettingsError: A key is unknown, or the file is not valid TOML.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Setting] = {v.key: Setting(v.default, "default") for v in VARIABLES if v.default}
    options: dict[str, dict[str, Setting]] = {}
    env_options: dict[str, Setting] = {}
    here = working_directory() if directory is None else directory
    path, table = find_file(here) if read_file and here is not None else (None, {})
    if path is not None:
        _read_file(path, table, values, options)
    for name, value in environ.items():
        if not name.startswith("TRACKING_"):
            continue
        if name in _BY_ENV:
            values[_BY_ENV[name].key] = Setting(value, f"environment variable {name}")
        elif name.startswith(OPTION_PREFIX):
            env_options[name[len(OPTION_PREFIX) :].lower()] = Setting(value, f"environment variable {name}")
    return Settings(values, options, env_options, path)


def working_directory() -> Path | None:
    """The working directory; None when it was removed, which is no error as long as nothing is relative to it."""
    try:
        return Path.cwd()
    except OSError:
        return None


def absolute_path(path: str | os.PathLike[str], what: str) -> Path:
    """A path that does not depend on the working directory.

    Args:
        path: The path; "~" is the home directory.
        what: What it is, for the message.

    Raises:
        SettingsError: It is relative, and the working directory was removed.
    """
    found = Path(path).expanduser()
    if not found.is_absolute() and working_directory() is None:
        raise SettingsError(
            f"{what}: {str(path)!r} is relative, and the working directory was removed: name an absolute path, or "
            "change to a directory that exists"
        )
    return found.absolute()


def option_variable(backend: str, option: str) -> str:
    """The environment variable that sets an option of a backend; "" when none can, for its capitals or dashes."""
    if option != option.lower() or not (option or "_").isidentifier():
        return ""
    return f"{OPTION_PREFIX}{_variable_part(backend)}_{option}".upper()


def _variable_part(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")


def unknown_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """Environment variables that look like settings and are none, each with what was probably meant."""
    environ = os.environ if environ is None else environ
    known = list(_BY_ENV)
    return [
        f"{name}{did_you_mean(name, known, prefix='TRACKING_')}"
        for name in sorted(environ)
        if name.startswith("TRACKING_") and name not in _BY_ENV and not name.startswith(OPTION_PREFIX)
    ]


def find_file(directory: Path) -> tuple[Path | None, Mapping[str, Any]]:
    """Find the settings file that holds for a directory.

    Returns:
        Its path and its table; (None, {}) when there is none.

    Raises:
        SettingsError: A file is there, and is not valid TOML.
    """
    for folder in (directory, *directory.parents):
        # os.path, because a folder above that may not be entered is no error here.
        own = folder / "tracking.toml"
        if os.path.isfile(own):  # noqa: PTH113
            return own, _load(own)
        project = folder / "pyproject.toml"
        if os.path.isfile(project):  # noqa: PTH113
            tool = _load(project).get("tool")
            table = tool.get("tracking") if isinstance(tool, dict) else None
            if isinstance(table, dict):
                return project, table
        if os.path.exists(folder / ".git"):  # noqa: PTH110
            break
    return None, {}


def _load(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if path.name == "pyproject.toml":
            # Not ours to judge: whoever needs that file will complain.
            return {}
        what = "is not valid TOML" if isinstance(error, tomllib.TOMLDecodeError) else "cannot be read"
        raise SettingsError(f"{path} {what}: {error}") from error


def _read_file(
    path: Path, table: Mapping[str, Any], values: dict[str, Setting], options: dict[str, dict[str, Setting]]
) -> None:
    for key, value in table.items():
        if key == "options":
            _read_options(path, value, options)
        elif key in _BY_KEY:
            values[key] = Setting(_text(path, key, value), str(path))
        else:
            known = [*_BY_KEY, "options"]
            raise SettingsError(
                f"{path}: unknown setting {key!r}{did_you_mean(key, known)}; the settings are {', '.join(known)}"
            )


def _read_options(path: Path, value: Any, options: dict[str, dict[str, Setting]]) -> None:
    if not isinstance(value, dict) or not all(isinstance(table, dict) for table in value.values()):
        raise SettingsError(f"{path}: 'options' holds a table for each backend, such as [options.wandb]")
    for backend, table in value.items():
        for option, content in table.items():
            name = f"options.{backend}.{option}"
            options.setdefault(str(backend).lower(), {})[str(option)] = Setting(_text(path, name, content), f"{path}")


def _text(path: Path, key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (str, int, float)):
        return str(value)
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return ",".join(value)
    raise SettingsError(f"{path}: {key!r} must be text, a number or a list of texts, got {value!r:.80}")
