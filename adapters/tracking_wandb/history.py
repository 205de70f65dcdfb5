"""What the server has of a run, asked through the client's public API."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from tracking_wandb.client import quiet
from tracking_wandb.rows import AGAIN, ROUND, SEQ, WRITER

_WINDOW = 1000
_PATIENCE = (0.0, 0.1, 0.2, 0.5, 1.0)
"""Seconds between two questions; the last one is repeated."""


class ServerHistory:
    """The rows of one run at the server.

    Args:
        wandb: The client.
        path: "entity/project/id".
        server: Address of the server.
        timeout: Seconds for one question.
    """

    def __init__(self, wandb: Any, path: str, server: str, *, timeout: int = 10) -> None:
        self._wandb = wandb
        self._path = path
        self._server = server
        self._timeout = timeout
        self._api: Any = None

    def confirmed(self, sent: Mapping[str, int], *, round_: int = 0, seconds: float = 60.0) -> dict[str, int]:
        """By writer, the highest sequence number that a row of a round has at the server; 0 if all are of other rounds.

        The rows are read from the end. Records of one writer go out in order, so the last row of a writer tells. Of a
        writer that started before all those with rows near the end, what it sent had arrived before theirs. One that
        started later and has no row there is looked for further back: its rows are there, or never arrived. What was
        sent again behind others tells nothing of these. A row of several records has the number of the last one, and
        arrives with all of them or not at all.

        Args:
            sent: By writer, the highest number that was sent in this round when the state of the run was last kept.
            round_: The round (see `RunInfo.round`): rounds follow one another, and each begins with the first record.
            seconds: How long all of it may take.

        Raises:
            TimeoutError: It took longer.
            Exception: Whatever the client raises when the server does not answer.
        """
        deadline = time.monotonic() + seconds
        found: dict[str, int] = {}
        before: dict[str, int] = {}
        with quiet(self._wandb):
            run = self.run()
            end = int(run.lastHistoryStep) + 1
            while end > 0 and not before and not _is_enough(found, sent):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"reading the history of {self._path} took longer than {seconds:g} s")
                start = max(0, end - _WINDOW)
                for row in run.scan_history(min_step=start, max_step=end, page_size=_WINDOW):
                    seq, writer = row.get(SEQ), row.get(WRITER)
                    if isinstance(seq, (int, float)) and isinstance(writer, str) and not row.get(AGAIN):
                        if int(row.get(ROUND) or 0) == round_:
                            found[writer] = max(found.get(writer, 0), int(seq))
                        else:
                            before[writer] = 0
                end = start
        earlier = {writer: seq for writer, seq in sent.items() if found and writer < min(found)}
        return {**before, **earlier, **found}

    def sent_again(self, *, round_: int = 0) -> set[tuple[str, int]]:
        """Writer and number of the records that had failed before, and whose rows have come on request since.

        Args:
            round_: The round that is asked about, the latest there is.

        Raises:
            Exception: Whatever the client raises when the server does not answer.
        """
        keys = [AGAIN, SEQ, WRITER, *([ROUND] if round_ else [])]
        with quiet(self._wandb):
            rows = self.run().scan_history(keys=keys, page_size=_WINDOW)
            return {(row[WRITER], int(row[SEQ])) for row in rows if int(row.get(ROUND) or 0) == round_}

    def await_rows(self, last_step: int, seconds: float) -> int | None:
        """Wait until the server has all rows up to the client's step `last_step`.

        Returns:
            None when it has; else how many rows it has.

        Raises:
            Exception: Whatever the client raises when the server does not answer.
        """
        deadline = time.monotonic() + seconds
        tries = 0
        while True:
            with quiet(self._wandb):
                run = self.run()
                rows = max(int(getattr(run, "historyLineCount", 0) or 0), int(run.lastHistoryStep) + 1)
            if rows > last_step:
                return None
            pause = _PATIENCE[min(tries, len(_PATIENCE) - 1)]
            if time.monotonic() + pause > deadline:
                return rows
            time.sleep(pause)
            tries += 1

    def run(self) -> Any:
        """The run, as the public API of the client has it now."""
        if self._api is None:
            self._api = self._wandb.Api(overrides={"base_url": self._server}, timeout=self._timeout)
        self._api.flush()  # it keeps what it was told before
        with _no_directories(self._path):
            return self._api.run(self._path)


@contextlib.contextmanager
def _no_directories(path: str) -> Generator[None]:
    """Take away again the empty directories that the client makes for a run it is asked about, and no others."""
    folder = Path(os.environ.get("WANDB_DIR") or tempfile.gettempdir()) / path
    made = [place for place in (folder, folder.parent, folder.parent.parent) if not place.exists()]
    try:
        yield
    finally:
        for place in made:
            with contextlib.suppress(OSError):
                place.rmdir()


def _is_enough(found: Mapping[str, int], sent: Mapping[str, int]) -> bool:
    return bool(found) and all(writer in found or writer < min(found) for writer in sent)
