"""The run of this process that W&B's functions speak of: `init` starts it, `log` records to it, `finish` ends it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tracking_core.compat.wandb.artifacts import Artifact
from tracking_core.compat.wandb.configuration import Config, Summary
from tracking_core.compat.wandb.missing import BeforeInit, Error, ignored, said
from tracking_core.compat.wandb.runs import Run

_RESUME: dict[bool | str | None, str | None] = {None: None, False: "never", True: "allow", "auto": "allow"}
_WITHOUT_MEANING = "the backends and their options are set with TRACKING_BACKEND"
_runs: list[Run] = []
"""The runs that `init` has started, the newest last; the one that functions speak of is `_current`."""
_current: Run | None = None


def init(
    entity: str | None = None,
    project: str | None = None,
    dir: str | os.PathLike[str] | None = None,  # noqa: A002 - W&B's word
    id: str | None = None,  # noqa: A002 - as above
    name: str | None = None,
    notes: str | None = None,
    tags: Sequence[str] | str | None = None,
    config: Any = None,
    *,
    group: str | None = None,
    job_type: str | None = None,
    mode: str | None = None,
    reinit: bool | str | None = None,
    resume: bool | str | None = None,
    settings: Any = None,
    **others: Any,
) -> Run:
    """Start a run, as `wandb.init` does; it is recorded wherever `TRACKING_BACKEND` says, and in the run store.

    Args:
        entity: Ignored, and said so: the target names it, as in `wandb://ENTITY/PROJECT`.
        project: Project of the run; None uses TRACKING_PROJECT, the settings file, or "default".
        dir: Root of the run store; None uses TRACKING_DIR, the settings file, or "./tracking_runs".
        id: Identity; None generates one. One that is taken needs `resume`.
        name: Display name; None generates one.
        notes: Longer description.
        tags: Labels.
        config: Hyperparameters: a (nested) mapping, an argparse namespace, …
        group: Group of runs it belongs to.
        job_type: Kind of job.
        mode: "disabled" records nothing. "online" and "offline" change nothing: whether W&B's client goes to its server
            is an option of the target, as in `wandb:?mode=offline`.
        reinit: What becomes of a run that is still open: "return_previous" (or False) returns it, "finish_previous" (or
            True) ends it first, "create_new" leaves it alone, and `wandb.log` with it. None returns it, and in a
            notebook ends it.
        resume: "never", "allow" or "must"; True and "auto" mean "allow".
        settings: Ignored, and said so.
        others: Further arguments of W&B are ignored, and said so.

    Returns:
        The run.

    Raises:
        SettingsError: A setting is wrong, or a backend cannot be used.
        RunExistsError: The id is taken, and `resume` does not allow that.
        RunNotFoundError: The run does not exist, and `resume` is "must".

    Example:
        >>> run = init(project="digits", mode="disabled", config={"lr": 0.1})
        >>> run.log({"loss": 0.5})
        >>> run.config.lr
        0.1
        >>> run.finish()
    """
    global _current  # noqa: PLW0603 - the functions of the module speak of one run
    previous = _open_runs()
    how = (
        reinit
        if isinstance(reinit, str)
        else {True: "finish_previous", False: "return_previous", None: "default"}[reinit]
    )
    if previous and (how == "finish_previous" or (how == "default" and _is_notebook())):
        for run in previous:
            run.finish()
    elif previous and how != "create_new":
        said(
            f"wandb.init: run {previous[-1].name} ({previous[-1].id}) is still open, and is returned as it is; "
            "wandb.finish() ends it, and reinit='finish_previous' starts another",
            "reinit",
        )
        return previous[-1]
    _say_ignored(entity, mode, {"settings": settings, **others})
    from tracking_core.runs.start import start_run

    begun = Run(
        start_run(
            project,
            name,
            run_id=id,
            resume=resume if isinstance(resume, str) and resume != "auto" else _RESUME[resume],
            config=config,
            tags=tags or (),
            group=group,
            job_type=job_type,
            notes=notes,
            backends="none" if mode == "disabled" else None,
            root=None if dir is None else Path(dir),
        ),
        {"group": group, "job_type": job_type, "notes": notes},
    )
    _runs.append(begun)
    if how != "create_new":
        _current = begun
    return begun


def log(data: Mapping[str, Any], step: Any = None, commit: bool | None = None) -> None:
    """Record values to the run that `init` has started; see `Run.log`.

    Raises:
        Error: There is none.
    """
    _needed("log").log(data, step, commit)


def log_artifact(
    artifact_or_path: Artifact | str | Path,
    name: str | None = None,
    type: str | None = None,  # noqa: A002 - W&B's word
    aliases: Sequence[str] | None = None,
    **others: Any,
) -> Artifact:
    """Store an artifact as a new version; see `Run.log_artifact`.

    Raises:
        Error: There is no run.
    """
    return _needed("log_artifact").log_artifact(artifact_or_path, name, type, aliases, **others)


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    """End the run that `init` has started; without one nothing happens.

    Args:
        exit_code: Anything but 0 or None ends it as failed.
        quiet: Changes nothing.
    """
    run = current_run()
    if run is not None:
        run.finish(exit_code, quiet)


def current_run() -> Run | None:
    """The run that `log` records to; None if there is none."""
    return _current if _current is not None and _current.is_open else None


def current_config() -> Config:
    """The configuration of that run."""
    run = current_run()
    # What stands in its place raises whatever is done with it.
    return BeforeInit("wandb.config") if run is None else run.config  # pyright: ignore[reportReturnType]


def current_summary() -> Summary:
    """The summary of that run."""
    run = current_run()
    return BeforeInit("wandb.summary") if run is None else run.summary  # pyright: ignore[reportReturnType]


def _open_runs() -> list[Run]:
    _runs[:] = [run for run in _runs if run.is_open]
    return list(_runs)


def _needed(name: str) -> Run:
    run = current_run()
    if run is None:
        raise Error(f"You must call wandb.init() before wandb.{name}()")
    return run


def _say_ignored(entity: str | None, mode: str | None, others: Mapping[str, Any]) -> None:
    if entity is not None:
        ignored("wandb.init", "entity", "the target names it, as in TRACKING_BACKEND=wandb://ENTITY/PROJECT")
    if mode == "offline" and _may_go_online():
        ignored("wandb.init", "mode='offline'", "write TRACKING_BACKEND=wandb:?mode=offline to stay offline")
    for name, value in others.items():
        if value is not None:
            ignored("wandb.init", name, _WITHOUT_MEANING)


def _may_go_online() -> bool:
    """Whether a target of W&B does not say itself that it stays offline."""
    from tracking_core.environment.settings import load_settings

    parts = (load_settings().get("backend") or "").split(",")
    return any(part.strip().startswith("wandb") and "mode=" not in part for part in parts)


def _is_notebook() -> bool:
    from tracking_core.runs.console import notebook

    return notebook() is not None
