"""Artifacts: from files and names of any kind to the client's artifacts, and the watch over their uploads."""

from __future__ import annotations

import itertools
import shutil
import threading
import time
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking_core.values import ArtifactFile
from tracking_wandb.failures import is_gone, is_unreachable
from tracking_wandb.names import artifact_alias, artifact_name, artifact_type
from tracking_wandb.plain import OWN, plain_metadata

if TYPE_CHECKING:
    from tracking_core.values import ArtifactRef, Record

MAX_METADATA = 100
"""Keys that W&B accepts in the metadata of an artifact."""
_MAX_ALIAS_PATH = 2


class ArtifactBuilder:
    """Makes the client's artifacts.

    Files that belong to the caller are copied first, since the client reads them later: while the run goes on, or when
    an offline run is synchronised.

    Args:
        wandb: The client.
        folder: Where copies go.
    """

    def __init__(self, wandb: Any, folder: Path) -> None:
        self._wandb = wandb
        self._folder = folder
        self._numbers = itertools.count()

    def build(
        self,
        name: str,
        kind: str,
        files: Sequence[ArtifactFile],
        *,
        metadata: Mapping[str, Any] | None,
        aliases: Sequence[str],
        lasting: bool,
    ) -> tuple[Any, list[str], Path | None]:
        """An artifact that can be logged.

        Args:
            name: Its name, any str.
            kind: Its type, any str.
            files: Its files.
            metadata: JSON-like facts.
            aliases: Further names of this version.
            lasting: Whether the files on disk stay as they are, so that they need not be copied.

        Returns:
            The artifact, its aliases as W&B takes them, and the folder with its copies, if any.
        """
        encoded = artifact_name(name)
        encoded_kind = artifact_type(kind, encoded)
        encoded_aliases = [artifact_alias(alias) for alias in aliases if alias]
        facts = plain_metadata(metadata or {})
        originals = {
            key: value
            for key, value, sent in (
                ("name", name, encoded),
                ("type", kind, encoded_kind),
                ("aliases", [alias for alias in aliases if alias], encoded_aliases),
            )
            if value != sent
        }
        if len(facts) + bool(originals) > MAX_METADATA:
            facts = {"metadata": facts}
        if originals:
            facts[OWN] = plain_metadata(originals)
        artifact = self._wandb.Artifact(encoded, encoded_kind, metadata=facts)
        folder: Path | None = None
        for number, file in enumerate(files):
            source = file.source
            if isinstance(source, bytes) or not lasting:
                if folder is None:
                    folder = self._folder / f"{next(self._numbers)}"
                    folder.mkdir(parents=True, exist_ok=True)
                copy = folder / str(number)
                if isinstance(source, bytes):
                    copy.write_bytes(source)
                else:
                    shutil.copyfile(source, copy)
                source = copy
            artifact.add_file(str(source.absolute()), name=file.path, policy="immutable", skip_cache=True)
        return artifact, encoded_aliases, folder


def reference(artifact: str | ArtifactRef) -> str:
    """The `name:alias` by which W&B knows what a run uses; a full path (`entity/project/name:alias`) stays as it is."""
    text = str(artifact)
    if text.count("/") == _MAX_ALIAS_PATH and ":" in text:
        return text
    name, colon, alias = text.rpartition(":")
    if not colon:
        name, alias = text, "latest"
    encoded = alias if alias.startswith("v") and alias[1:].isdigit() else artifact_alias(alias)
    return f"{artifact_name(name)}:{encoded}"


class Uploads:
    """Watches artifacts until the server has them; each from a thread of its own, since the client can only wait.

    Args:
        state: Where the records of artifacts that are on their way are kept, under "uploads".
    """

    def __init__(self, state: MutableMapping[str, Any]) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._failures: list[tuple[str, BaseException, tuple[str, int] | None]] = []
        self._unsent: tuple[str, BaseException] | None = None

    def watch(self, name: str, artifact: Any, copies: Path | None, record: Record | None) -> None:
        """Watch an artifact; keep the error when the server will not have it.

        Args:
            name: Its name, for the error.
            artifact: The client's artifact.
            copies: A folder that is removed when the server has it.
            record: Its record in the journal. One that had failed before is not kept as on its way: it stays failed
                until the run is finished.
        """
        number = None if record is None else (record.writer, record.seq)
        kept = None if record is None or record.again else [record.writer, record.seq]
        if kept is not None:
            self._state.setdefault("uploads", []).append(kept)

        def wait() -> None:
            try:
                artifact.wait()
            except BaseException as error:  # noqa: BLE001 - raised where somebody asks
                # When wandb-core is gone, or done with the run, the client stops waiting: that says nothing.
                if not is_gone(error):
                    self._fail(name, error, number)
            else:
                if copies is not None:
                    shutil.rmtree(copies, ignore_errors=True)
                if kept is not None:
                    self._state["uploads"].remove(kept)

        thread = threading.Thread(target=wait, name=f"wandb: upload of {name[:60]}", daemon=True)
        with self._lock:
            self._threads = [one for one in self._threads if one.is_alive()]
            self._threads.append(thread)
        thread.start()

    def join(self, seconds: float) -> bool:
        """Whether all uploads came to an end within some seconds."""
        deadline = time.monotonic() + seconds
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _fail(self, name: str, error: BaseException, number: tuple[str, int] | None) -> None:
        with self._lock:
            self._failures.append((name, error, number))
            if is_unreachable(error):
                self._unsent = (name, error)

    @property
    def unsent(self) -> tuple[str, BaseException] | None:
        """The last upload that failed for a reason that may pass, and what it was; None when there is none."""
        return self._unsent

    def failure(self) -> tuple[str, BaseException, tuple[str, int] | None] | None:
        """The next upload that failed, once; None when there is none.

        From then on it is not on its way any more, unless the reason may pass: then opening the run again sends it.
        """
        with self._lock:
            if not self._failures:
                return None
            name, error, number = self._failures.pop(0)
        waiting: list[list[Any]] = self._state.get("uploads", [])
        if number is not None and list(number) in waiting and not is_unreachable(error):
            waiting.remove(list(number))
        return name, error, number
