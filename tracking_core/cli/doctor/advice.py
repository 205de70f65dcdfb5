"""What to do if something is as it should not be: what is seen here that bears on it, and what to try."""

from __future__ import annotations

from collections.abc import Sequence

from tracking_core.base.text import counted, size
from tracking_core.cli.doctor.report import Advice, Diagnosis, RunLook, SettingRow


def advise(diagnosis: Diagnosis, misplaced: Sequence[str]) -> list[Advice]:
    """Advice on the common complaints.

    Args:
        diagnosis: What was found.
        misplaced: Roots that runs fell back to because theirs could not be written.
    """
    settings = {row.key: row for row in diagnosis.settings}
    return [
        _slow(diagnosis, settings),
        _missing(diagnosis, settings),
        _invisible(diagnosis, settings, misplaced),
        _memory(diagnosis, settings),
    ]


def _slow(diagnosis: Diagnosis, settings: dict[str, SettingRow]) -> Advice:
    seen: list[str] = []
    remedies: list[str] = []
    delivery = settings["delivery"]
    if delivery.value == "inline":
        seen.append(f"delivery is inline ({delivery.origin}): each call waits for every backend")
        remedies.append("unset TRACKING_DELIVERY; inline is for debugging")
    else:
        seen.append(f"delivery is {delivery.value}: calls do not wait for backends")
    store = diagnosis.store
    if store is not None:
        if store.append_seconds is not None:
            seen.append(f"appending a record to the run store takes {store.append_seconds * 1e6:.0f} µs")
        if store.kind == "network":
            seen.append(f"the run store is on a network file system ({store.filesystem})")
            remedies.append("set TRACKING_DIR to a local disk")
    remedies += [
        "log device arrays as they are: float(x), x.item() and np.asarray(x) in the loop wait for the device",
        "log images, histograms and tables less often than scalars: run.every(100).log_images(…)",
        "time the loop with TRACKING_BACKEND=none: the remaining time is not tracking",
        "with several backends leave out one after the other; delivery shares the processor with the training",
    ]
    return Advice("logging is slow", seen, remedies)


def _missing(diagnosis: Diagnosis, settings: dict[str, SettingRow]) -> Advice:
    seen: list[str] = []
    remedies: list[str] = []
    for target in diagnosis.targets:
        filters = [row for row in target.options if row.option in {"include", "exclude", "every", "media"}]
        seen += [
            f"{target.backend} has the filter {row.option}={row.value} ({row.origin}): what it leaves out is only in "
            "the run store"
            for row in filters
        ]
        for row in diagnosis.backends:
            if row.name == target.backend and row.capabilities is not None:
                lacking = [
                    kind for kind in ("scalars", "images", "histograms", "artifacts") if kind not in row.capabilities
                ]
                if lacking and row.name != "none":
                    seen.append(f"{row.name} takes no {', '.join(lacking)}")
    for run in diagnosis.runs:
        seen += [
            f"run {run.id}: "
            + ("" if one.exact else "about ")
            + f"{counted(one.pending, 'record')} not delivered to {one.target}"
            for one in run.targets
            if one.pending
        ]
        seen += [
            f"run {run.id}: {one.target} failed on {counted(one.failed, 'record')}" for one in run.targets if one.failed
        ]
        if run.dropped:
            seen.append(f"run {run.id}: {counted(sum(run.dropped.values()), 'value')} dropped when logged")
    if settings["process"].value == "0":
        seen.append("only the first JAX process records (TRACKING_PROCESS=0)")
        remedies.append("for values that other processes log: TRACKING_PROCESS=all, or reduce them before logging")
    remedies += [
        "read the warnings of the logger tracking_core, and run.finish(): its report counts missing records",
        "run.health counts dropped values by reason; start_run(strict=True) raises if a value cannot be recorded",
        "compare with the run store: tracking_core.open_store().run(RUN_ID).scalar_names()",
        "a program that ends in os._exit or SIGKILL leaves the rest in the run store: continue the run to deliver it",
    ]
    return Advice("metrics are missing", seen, remedies)


def _invisible(diagnosis: Diagnosis, settings: dict[str, SettingRow], misplaced: Sequence[str]) -> Advice:
    seen: list[str] = []
    remedies: list[str] = []
    names = [target.backend for target in diagnosis.targets]
    if "none" in names:
        seen.append(f"the backend is none ({settings['backend'].origin}): nothing is recorded")
        remedies.append("unset TRACKING_BACKEND")
    if diagnosis.store is not None:
        seen.append(f"runs go to {diagnosis.store.root} ({settings['dir'].origin}): {_count(diagnosis.runs)}")
        if not settings["dir"].value.startswith(("/", "~")):
            seen.append(f"{settings['dir'].value} depends on the directory a program is started in")
            remedies.append("set TRACKING_DIR to an absolute path")
    if misplaced:
        seen.append(f"runs whose root could not be written are in {', '.join(misplaced[:5])}")
        remedies.append("move them under the root, project directory by project directory")
    remedies += [
        "look at run.dir and run.url() of the running program, or set TRACKING_CONSOLE=on to print them",
        "a run in another project: TRACKING_PROJECT and the settings file decide where it goes",
        "check that the program has this environment: a scheduler or ssh may not pass TRACKING_* on",
        "only the first JAX process records, unless TRACKING_PROCESS=all",
    ]
    return Advice("a run does not appear", seen, remedies)


def _memory(diagnosis: Diagnosis, settings: dict[str, SettingRow]) -> Advice:
    seen: list[str] = []
    remedies: list[str] = []
    store = diagnosis.store
    if store is not None and store.kind == "memory":
        seen.append(f"the run store is in memory ({store.filesystem}), so every record stays there")
        remedies.append("set TRACKING_DIR to a disk")
    elif store is not None:
        free = f", which has {size(store.free_bytes)} left" if store.free_bytes is not None else ""
        seen.append(f"records that wait for a backend wait in the journal on the disk{free}")
    waiting = sum(one.pending for run in diagnosis.runs for one in run.targets if run.status == "running")
    if waiting:
        seen.append(f"{counted(waiting, 'record')} of running runs not delivered yet")
        remedies.append("find the cause in run.health.errors")
    if settings["delivery"].value == "inline":
        seen.append("delivery is inline: a backend's own buffers are in the training process")
    running = sum(run.status == "running" for run in diagnosis.runs)
    if running > 1:
        seen.append(f"{running} of the newest runs are running")
    remedies += [
        "end each run, with `with start_run(…) as run:` or run.finish(): one that is open keeps its targets open",
        "compare with TRACKING_BACKEND=none: if it still grows, it is not tracking",
        "close matplotlib figures after logging them (plt.close(figure)), and keep no list of logged arrays",
        "compare with TRACKING_BACKEND=local: if that does not grow, it is the backend's own client",
        "log images and histograms less often, or with media=off for one target",
    ]
    return Advice("memory grows", seen, remedies)


def _count(runs: Sequence[RunLook]) -> str:
    if not runs:
        return "there are no runs yet"
    return f"the newest there is {runs[0].id} of project {runs[0].project}, {runs[0].status}"
