"""`wandb.Artifact`: files that are gathered, and logged as one version."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import weakref
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from tracking_core.compat.wandb.missing import ignored, no_such_name
from tracking_core.errors import InvalidValueError

if TYPE_CHECKING:
    from tracking_core.runs.run import Run
    from tracking_core.values import ArtifactRef

_HAS = (
    "add_dir", "add_file", "aliases", "description", "digest", "files", "metadata", "name", "new_file", "type",
    "version", "wait",
)  # fmt: skip


class Artifact:
    """Files under one name, as W&B's class of this name gathers them; `log_artifact` makes a version of them.

    What is added is copied at once, so that it may be changed or removed afterwards.

    Args:
        name: Name of the artifact.
        type: Its kind, such as "model" or "dataset".
        description: What it is; it is kept among the metadata.
        metadata: JSON-like facts about it.
        options: `incremental`, `use_as` and `storage_region` of W&B are taken, and change nothing.

    Example:
        >>> artifact = Artifact("digits", type="dataset")
        >>> with artifact.new_file("readme.txt") as file:
        ...     _ = file.write("1797 pictures")
        >>> list(artifact.files)
        ['readme.txt']
    """

    def __init__(
        self,
        name: str,
        type: str,  # noqa: A002 - W&B's word
        description: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        for option in options.keys() - {"incremental", "use_as", "storage_region"}:
            ignored("wandb.Artifact", option, "there is no such argument")
        self.name, self.type, self.description = name, type, description
        self.metadata: dict[str, Any] = dict(metadata or {})
        """Facts about it; what is changed before it is logged is recorded."""
        self.files: dict[str, Path] = {}
        """Path inside the artifact → where the content is."""
        self._folder: Path | None = None
        self._ref: ArtifactRef | None = None

    def add_file(
        self,
        local_path: str | Path,
        name: str | None = None,
        is_tmp: bool | None = False,  # noqa: ARG002 - W&B's signature
        *,
        policy: str = "mutable",
        **options: Any,  # noqa: ARG002 - as above
    ) -> None:
        """Add a file.

        Args:
            local_path: The file.
            name: Its path inside the artifact; None takes its own name.
            is_tmp: Changes nothing.
            policy: "mutable" copies it now; "immutable" reads it when the artifact is logged.
            options: Further arguments of W&B change nothing.

        Raises:
            InvalidValueError: There is no such file, or it cannot be read.
        """
        source = Path(local_path)
        if not source.is_file():
            raise InvalidValueError(f"wandb.Artifact {self.name!r}: {str(local_path)!r} is no file")
        place = _inside(source.name if name is None else name)
        if policy == "immutable":
            self.files[place] = source.absolute()
            return
        target = self._place(place)
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise InvalidValueError(f"wandb.Artifact {self.name!r}: {source} cannot be copied: {error}") from error
        self.files[place] = target

    def add_dir(self, local_path: str | Path, name: str | None = None, *, policy: str = "mutable", **_: Any) -> None:
        """Add all files of a directory, with their paths in it.

        Args:
            local_path: The directory.
            name: Where they are inside the artifact; None puts them at its root.
            policy: See `add_file`.

        Raises:
            InvalidValueError: There is no such directory, or a file cannot be read.
        """
        from tracking_core.values.artifacts import artifact_files

        if not Path(local_path).is_dir():
            raise InvalidValueError(f"wandb.Artifact {self.name!r}: {str(local_path)!r} is no directory")
        if not any(Path(local_path).iterdir()):
            return
        for file in artifact_files(Path(local_path), self.name)[1]:
            assert isinstance(file.source, Path)
            self.add_file(file.source, f"{name}/{file.path}" if name else file.path, policy=policy)

    @contextlib.contextmanager
    def new_file(self, name: str, mode: str = "x", encoding: str | None = None) -> Generator[IO[Any]]:
        """Write a file of the artifact: a context manager that gives the open file.

        Args:
            name: Its path inside the artifact.
            mode: As for `open`: "x" or "w", "xb" or "wb".
            encoding: As for `open`; None means UTF-8.

        Raises:
            InvalidValueError: There is such a file already, and `mode` is "x".
        """
        place = _inside(name)
        if "x" in mode and place in self.files:
            raise InvalidValueError(f"wandb.Artifact {self.name!r}: there is a file {place!r} already")
        target = self._place(place)
        with target.open(mode.replace("x", "w"), encoding=None if "b" in mode else encoding or "utf-8") as file:
            yield file
        self.files[place] = target

    def log_to(self, run: Run, aliases: Sequence[str] | None = None) -> None:
        """Record it as a version.

        Args:
            run: The run.
            aliases: Further names of the version.
        """
        facts = self.metadata if self.description is None else {"description": self.description, **self.metadata}
        self._ref = run.log_artifact(
            dict(self.files), name=self.name, type=self.type, metadata=facts, aliases=list(aliases or ())
        )

    def wait(self, timeout: float | None = None) -> Artifact:  # noqa: ARG002 - W&B's signature
        """Return at once: it is in the run store when `log_artifact` returns."""
        return self

    @property
    def version(self) -> str | None:
        """The version, such as "v3"; None before it is logged."""
        return None if self._ref is None or self._ref.version is None else f"v{self._ref.version}"

    @property
    def digest(self) -> str:
        """sha256 of its contents; "" before it is logged."""
        return "" if self._ref is None else self._ref.digest

    @property
    def aliases(self) -> list[str]:
        """Further names of the version."""
        return [] if self._ref is None else list(self._ref.aliases)

    def _place(self, name: str) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="tracking-artifact-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        place = self._folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(no_such_name("wandb.Artifact", name, _HAS), name=name)


def _inside(name: str) -> str:
    path = PurePosixPath(str(name).replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise InvalidValueError(f"wandb.Artifact: the path {name!r} leads out of the artifact; give a relative one")
    return path.as_posix()
