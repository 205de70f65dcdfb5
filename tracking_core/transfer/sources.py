"""What is to be imported: which kind of files a path holds, and the runs in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tracking_core.backends.plugins import candidates, find_adapter
from tracking_core.base.keywords import names_nearest
from tracking_core.environment.settings import load_settings
from tracking_core.errors import AdapterError, SettingsError, StoreError, TrackingError
from tracking_core.remote.address import refuse_address
from tracking_core.transfer.csv_files import CsvOptions, csv_runs
from tracking_core.transfer.foreign import Imported, import_run
from tracking_core.transfer.pack_format import is_pack

if TYPE_CHECKING:
    from tracking_core.backends.hooks import ForeignRun

CSV, PACK = "csv", "pack"


@names_nearest
def import_runs(
    source: str | os.PathLike[str],
    *,
    kind: str | None = None,
    project: str | None = None,
    root: str | os.PathLike[str] | None = None,
    step: str | None = None,
    time: str | None = None,
    on_run: Callable[[str], None] | None = None,
) -> Iterator[Imported]:
    """Import all runs of a source into the run store; runs that it already has do not change.

    Args:
        source: A directory of event files or of W&B's offline runs, a CSV file, or a pack.
        kind: What it holds: the name of an adapter that can read runs back, "csv" or "pack"; None detects it.
        project: The project of the imported runs; None uses the project in the source, the settings, or "default".
        root: Root of the run store; None uses the settings.
        step: For CSV, the column that holds the steps.
        time: For CSV, the column that holds the times.
        on_run: Called with a description, before each run is read.

    Yields:
        The result for each run, as soon as it is imported; a run that cannot be read has an `error`.

    Raises:
        SettingsError: The source does not exist, nothing in it can be read, or it holds several kinds.
        StoreError: The root cannot be written, or a pack is damaged.
    """
    path = Path(source).expanduser()
    if not path.exists():
        raise SettingsError(f"there is no file or directory {str(path)!r} to import")
    settings = load_settings()
    refuse_address(settings.get("dir", root), what="import", remedy="name a directory with --root")
    place = Path(root if root is not None else settings.get("dir") or "tracking_runs").expanduser()
    kind = kind or _kind(path)
    if kind != CSV and (step or time):
        raise SettingsError(f"{path} holds no CSV file, and --step and --time are only for CSV files")
    if kind == PACK:
        from tracking_core.transfer.unpack import unpack_run

        if project is not None:
            raise SettingsError(f"{path}: a pack is restored as the same run, in its own project")
        yield unpack_run(path, place)
        return
    runs = csv_runs(path, CsvOptions(step, time)) if kind == CSV else _of_adapter(kind, path)
    for foreign in _named(runs, path):
        if on_run is not None:
            on_run(f"importing {foreign.name or foreign.id}")
        theirs = foreign.project if isinstance(foreign.project, str) else None
        wanted = project or theirs or settings.get("project")
        try:
            yield import_run(foreign, kind, place, wanted)
        except OSError as error:
            raise StoreError(f"{foreign.source} cannot be imported into {place}: {error}") from error


def _kind(path: Path) -> str:
    """What a path holds.

    Raises:
        SettingsError: Nothing that is known, or several kinds.
        StoreError: It cannot be read.
    """
    if path.is_file():
        try:
            if is_pack(path):
                return PACK
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error}") from error
        if path.suffix.lower() in {".csv", ".tsv"}:
            return CSV
    found: list[str] = []
    failures: list[str] = []
    for name in candidates():
        try:
            if find_adapter(name, origin="import").foreign_runs(path) is not None:
                found.append(name)
        except AdapterError as error:
            failures.append(str(error))
    if len(found) == 1:
        return found[0]
    if found:
        raise SettingsError(f"{path} holds runs of {' and of '.join(found)}: choose one with --from")
    if failures:
        raise SettingsError(f"{path}: nothing in it can be read; {'; '.join(failures)}")
    hint = ": for CSV files use --from csv" if path.is_dir() and any(path.glob("*.csv")) else ""
    raise SettingsError(
        f"{path} holds no event files of TensorBoard and no runs of W&B, and is neither a CSV file nor a complete pack"
        f"{hint}"
    )


def _named(runs: Iterable[ForeignRun], path: Path) -> Iterator[ForeignRun]:
    try:
        yield from runs
    except TrackingError:
        raise
    except Exception as error:
        # Adapters may come from anybody, and so may what they read.
        raise StoreError(f"{path} cannot be read: {type(error).__name__}: {error}"[:500]) from error


def _of_adapter(name: str, path: Path) -> Iterable[ForeignRun]:
    found = find_adapter(name, origin="--from").foreign_runs(path)
    if found is None:
        raise SettingsError(f"{path} holds no runs of {name}, or its adapter cannot read runs back")
    return found
