"""The settings: what each is, where it came from, and what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from tracking_core.backends.hooks import Finding
from tracking_core.backends.targets import COMMON_OPTIONS, redact_option, redact_targets
from tracking_core.base.redaction import redact_text
from tracking_core.base.text import did_you_mean
from tracking_core.cli.backends import BackendRow
from tracking_core.cli.doctor.report import SettingRow
from tracking_core.environment.settings import (
    OPTION_PREFIX,
    VARIABLES,
    Settings,
    load_settings,
    option_variable,
    unknown_variables,
)
from tracking_core.errors import SettingsError


def read_settings() -> tuple[Settings, list[Finding]]:
    """Read the settings; a file that cannot be used is a finding, and the rest is read without it."""
    try:
        settings = load_settings()
    except SettingsError as error:
        finding = Finding("error", str(error), "correct the file; until then no run starts from here")
        return load_settings(read_file=False), [finding]
    if settings.file is not None:
        return settings, [Finding("ok", f"the settings file is {settings.file}")]
    message = f"there is no settings file from {Path.cwd()} upwards"
    return settings, [Finding("ok", f"{message} (tracking.toml, or [tool.tracking] in pyproject.toml)")]


def setting_rows(settings: Settings, targets: Sequence[str], backends: Iterable[str]) -> list[SettingRow]:
    """Every setting with its value and origin, secrets left out.

    Args:
        settings: What environment and file say.
        targets: What was given on the command line; stands for the argument of `start_run`.
        backends: Names of installed backends, whose options are shown as well where any are set.
    """
    rows: list[SettingRow] = []
    for variable in VARIABLES:
        argument = ",".join(targets) if variable.key == "backend" and targets else None
        value = settings.get(variable.key, argument) or ""
        shown = redact_targets(value) if variable.key == "backend" else redact_text(value)
        origin = settings.origin(variable.key, argument) if value else "default"
        rows.append(SettingRow(variable.key, variable.env, shown or variable.default, origin, variable.otherwise))
    for backend in sorted({*backends, *settings.file_options}):
        for option, setting in settings.backend_options(backend).items():
            name, variable = f"options.{backend}.{option}", option_variable(backend, option)
            rows.append(SettingRow(name, variable, redact_option(option, setting.value), setting.origin))
    return rows


def check_settings(settings: Settings, backends: Iterable[BackendRow]) -> list[Finding]:
    """Values that no run would take, and variables that nobody reads.

    Args:
        settings: What environment and file say.
        backends: What is installed.
    """
    found: list[Finding] = []
    for variable in VARIABLES:
        if variable.choices:
            try:
                settings.choice(variable.key)
            except SettingsError as error:
                found.append(
                    Finding("error", str(error), f"set {variable.env} to one of {', '.join(variable.choices)}")
                )
    found.extend(_check_run_id(settings))
    found.extend(
        Finding("warning", f"nothing reads the environment variable {text}", "correct or unset it")
        for text in unknown_variables()
    )
    found.extend(_check_option_variables(list(backends)))
    return found


def _check_run_id(settings: Settings) -> list[Finding]:
    from tracking_core.layout.run_ids import check_run_id

    run_id = settings.get("run_id")
    if run_id is None:
        return []
    try:
        check_run_id(run_id)
    except ValueError as error:
        return [Finding("error", f"{settings.origin('run_id')}: {error}")]
    message = f"{settings.origin('run_id')} gives every run the identity {run_id!r}"
    if settings.get("resume") in {"allow", "must"}:
        return [Finding("ok", f"{message}, which is continued")]
    return [Finding("warning", f"{message}: only the first can start", "unset it, or set TRACKING_RESUME=allow")]


def _check_option_variables(backends: Sequence[BackendRow]) -> list[Finding]:
    """Variables of the form TRACKING_BACKEND_<NAME>_<OPTION> that mean nothing to any backend."""
    # What a backend reads that takes any option, or that cannot be asked, is not known.
    prefixes = [option_variable(row.name, "") for row in backends if row.options is None]
    known = [
        option_variable(row.name, option) for row in backends for option in (*(row.options or ()), *COMMON_OPTIONS)
    ]
    found: list[Finding] = []
    for name in sorted(os.environ):
        word = name.upper()
        if not name.startswith(OPTION_PREFIX) or word in known or word.startswith(tuple(prefixes)):
            continue
        close = did_you_mean(name, known, prefix=OPTION_PREFIX)
        message = f"no installed backend reads the environment variable {name}{close}"
        found.append(Finding("warning", message, "tracking backends NAME shows the options of a backend"))
    return found
