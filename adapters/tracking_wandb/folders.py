"""The folders that the client makes for a run: which of them are ours, and may be read again or removed.

The client makes `<directory>/wandb/run-<date>_<time>-<id>`, with `offline-` in front offline, and with a suffix behind
if it is given one. Ours gives the identity of run and place, and of the opening:

    offline-run-20260101_120000-exp-10-5e0c1f2a9b3d4477
                                ^run   ^owner  ^opening

So a folder is told from those of other runs in the same directory even where its process was killed before it could
leave more in it, and two processes that open a run in the same second have one each. Later `MARK` stands in it, with
the same in full and a token that only the run's own cursor knows.

What a cursor says is not obeyed, since it may have come with a run from anywhere: it chooses among the folders that are
found here, by their form, as real directories, in the client's own directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking_core import RetryLater, SettingsError
from tracking_wandb import places
from tracking_wandb.failures import PASSING_ERRNOS

if TYPE_CHECKING:
    from tracking_core import RunInfo

MARK = "tracking-core.json"
"""A file beside the transaction log: this adapter had the folder made, for the run and the place it names."""
_HOMES = ("wandb", ".wandb")
_LARGEST = 10_000
_RANDOM = 4


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of one run at one place.

    Args:
        root: The client's directory, in which it makes `wandb`.
        run: The run.
        place: Where it is recorded; see `tracking_wandb.places`.
        opening: What tells this opening from all others.
    """

    root: Path
    run: RunInfo
    place: str
    opening: str = field(default_factory=lambda: secrets.token_hex(_RANDOM))

    def __post_init__(self) -> None:
        state = self.run.state
        if not re.fullmatch(r"[0-9a-f]{32}", str(state.get("token"))):
            state["token"] = secrets.token_hex(16)

    @property
    def suffix(self) -> str:
        """What the client is to put behind the name of the folder that it makes."""
        return f"{self._owner}{self.opening}"

    def check(self) -> None:
        """See that the client will write where it should.

        Raises:
            SettingsError: In the run's own directory, a link stands where the client makes its folder.
        """
        if not self._is_own:
            # A directory that the user named may be arranged as the user likes.
            return
        for home in _HOMES:
            if (self.root / home).is_symlink():
                raise SettingsError(
                    f"wandb: {self.root / home} is a link that this adapter did not make: remove it, or name another "
                    "directory with dir=…"
                )

    def prepare(self) -> None:
        """Make the client's directory, which it would make as well, and take a temporary one where that fails.

        Raises:
            SettingsError: It cannot be made or written to, and no waiting helps.
            RetryLater: The file system refuses for now.
        """
        problem = places.directory_problem(self.root)
        if problem is None:
            try:
                self.root.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                if error.errno in PASSING_ERRNOS:
                    raise RetryLater(f"wandb: {self.root} cannot be created: {error}") from error
                problem = f"{self.root} cannot be created: {error.strerror}"
        if problem is not None:
            raise SettingsError(f"wandb: {problem}; name another directory with dir=…")

    def holds(self, folder: Path) -> bool:
        """Whether the client made a folder where it should; what a link in between leads to is the user's business."""
        return os.path.realpath(folder.parent.parent) == os.path.realpath(self.root)

    def mark(self, folder: Path) -> None:
        """Write into a folder that the client has just made whose it is."""
        facts = {"v": 1, **self._facts, "token": self.run.state["token"]}
        # The folder was made now, and by nobody else. Without a mark its name says enough.
        with contextlib.suppress(OSError), (folder / MARK).open("x", encoding="utf-8") as file:
            file.write(json.dumps(facts))

    def earlier(self) -> list[Path]:
        """The folders of earlier openings of this run at this place, oldest first."""
        return sorted(folder for folder in self._there() if self._is_ours(folder))

    def remembered(self, names: list[str]) -> list[Path]:
        """Those of the earlier folders that a cursor names, by their names or whole paths."""
        known = {Path(name).name for name in names}
        return [folder for folder in self.earlier() if folder.name in known]

    def made_now(self) -> list[Path]:
        """What this opening has made."""
        ours = re.compile(rf"(?:offline-)?run-\d{{8}}_\d{{6}}-{re.escape(self.run.id)}-{self.suffix}")
        return [folder for folder in self._directories() if ours.fullmatch(folder.name)]

    def remove(self, folder: Path) -> None:
        """Remove a folder, if it is still one of this run at this place."""
        if folder in self._there() and self._is_ours(folder):
            shutil.rmtree(folder, ignore_errors=True)

    def undo(self) -> None:
        """Remove what this opening has made; nothing of any other."""
        for folder in self.made_now():
            shutil.rmtree(folder, ignore_errors=True)

    # ------------------------------------------------------------------ inside

    @property
    def _facts(self) -> dict[str, Any]:
        home = self.run.dir
        return {"run": self.run.id, "place": self.place, "dir": None if home is None else os.path.realpath(home)}

    @property
    def _owner(self) -> str:
        return hashlib.sha256(json.dumps(self._facts, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def _is_own(self) -> bool:
        """Whether the client's directory is the run's own, and not one that the user named."""
        return os.path.realpath(self.root) == os.path.realpath(self.run.directory("wandb").parent)

    def _directories(self) -> Iterator[Path]:
        """Directories in which the client may keep runs; no links, and nothing behind one."""
        for home in _HOMES:
            place = self.root / home
            if self._is_own and place.is_symlink():
                continue
            with contextlib.suppress(OSError):
                yield from (Path(entry.path) for entry in os.scandir(place) if entry.is_dir(follow_symlinks=False))

    def _there(self) -> list[Path]:
        """The folders that openings of a run of this id have made, by whomever and for whatever place."""
        form = re.compile(rf"(?:offline-)?run-\d{{8}}_\d{{6}}-{re.escape(self.run.id)}(?:-[0-9a-f]+)?")
        return [folder for folder in self._directories() if form.fullmatch(folder.name) and self._has_own_log(folder)]

    def _has_own_log(self, folder: Path) -> bool:
        """Whether the log in a folder, if there is one yet, is of this very run: `exp-1` may be `exp` with a suffix."""
        logs = [path.name for path in folder.glob("run-*.wandb")]
        return not logs or logs == [f"run-{self.run.id}.wandb"]

    def _is_ours(self, folder: Path) -> bool:
        mark = _read(folder / MARK)
        if mark is None:
            # Killed before it was marked: its name says whose it is.
            return re.fullmatch(rf"{self._owner}[0-9a-f]{{{2 * _RANDOM}}}", folder.name.rpartition("-")[2]) is not None
        if mark.get("run") != self.run.id:
            return False
        if "place" not in mark:
            # Of before marks said more. Only the cursor told then that a folder was of this place.
            named = self.run.state.get("dir")
            return isinstance(named, str) and (
                named == str(folder) or (self._is_own and Path(named).name == folder.name)
            )
        # Who copies the files of a run, and writes a cursor for them, knows neither the token nor the directory.
        known = mark.get("token") == self.run.state["token"] or mark.get("dir") == self._facts["dir"]
        return known and mark["place"] == self.place


def _read(path: Path) -> dict[str, Any] | None:
    """A mark; {} for what is there and none, None for what is not there."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError:
        return {}
    try:
        regular = stat.S_ISREG(os.fstat(number).st_mode)
        content: Any = json.loads(os.read(number, _LARGEST)) if regular else {}
    except (OSError, ValueError, RecursionError):
        return {}
    finally:
        os.close(number)
    return content if isinstance(content, dict) else {}
