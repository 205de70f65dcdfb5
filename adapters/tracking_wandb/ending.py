"""Finishing a run: its exit code, and the certainty that what was logged has arrived.

| status | exit code | at W&B |
|---|---|---|
| finished | 0 | finished |
| failed | 1 | failed |
| interrupted | 130 | failed |
| preempted | 143 | preempted: `mark_preempting` is called first |
| anything else | 255 | failed |

The client's `finish` returns before its transaction log is complete, and without a word when rows or files did not
reach the server. So it is looked for the record of the end in the log, and online the server is asked how many rows it
has, and which files.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tracking_core import RetryLater
from tracking_wandb import recovery
from tracking_wandb.client import quiet
from tracking_wandb.failures import gone, is_gone, is_unreachable, within
from tracking_wandb.names import clean
from tracking_wandb.session import closed

if TYPE_CHECKING:
    from tracking_wandb.artifacts import Uploads
    from tracking_wandb.offline.tail import LogTail
    from tracking_wandb.session import Session

_LOG = logging.getLogger("tracking_wandb")
EXIT_CODES: Mapping[str, int] = {"finished": 0, "failed": 1, "interrupted": 130, "preempted": 143}
_OTHER = 255
ERROR = "tracking/error"
"""Where the summary has the error of a failed run."""
_GRACE = 10.0
"""Seconds on top of the client's own limit, until it is taken for stuck."""
_UPLOAD_PATIENCE = 5.0
_SERVER_PATIENCE = 10.0
"""Seconds that the server may take to count rows it has received."""


class Ending:
    """The end of one run.

    Args:
        session: The opened run.
        tail: Its transaction log.
        uploads: The artifacts on their way.
    """

    def __init__(self, session: Session, tail: LogTail, uploads: Uploads) -> None:
        self._session = session
        self._tail = tail
        self._uploads = uploads
        self._problem: RetryLater | None = None
        self._verified = False

    def begin(self, status: str, error: str | None, summary: Mapping[str, Any]) -> None:
        """Tell the client what is still to be told, and finish its run; what goes wrong is raised by `complete`."""
        run = self._session.native
        limit = self._session.options.finish_timeout

        def finish() -> None:
            with quiet(self._session.wandb):
                last = dict(summary)
                if error:
                    last[ERROR] = clean(error)
                if last:
                    # Rows that came later have overwritten what was set explicitly.
                    run.summary.update(last)
                if status == "preempted":
                    run.mark_preempting()
                run.finish(exit_code=EXIT_CODES.get(status, _OTHER))
                # They are at the server now; what is left is to note that they are.
                self._uploads.join(_UPLOAD_PATIENCE)

        try:
            within(limit + _GRACE, f"finishing the run {self._session.info.id!r}", finish)
        except RetryLater as problem:
            self._problem = problem
        except TimeoutError as problem:
            self._problem = RetryLater(
                f"wandb: not everything of the run {self._session.info.id!r} was uploaded within {limit:g} s "
                f"({problem}); it is in {self._session.directory}"
            )
        except Exception as problem:
            if not is_gone(problem):
                raise
            self._problem = gone(self._session.info.id, problem)
            self._problem.__cause__ = problem
        finally:
            closed(self._session)

    def complete(self, last_step: int | None) -> None:
        """Make sure that everything has arrived; once that is so, further calls do nothing.

        Args:
            last_step: The client's own step of the last row; None when no row was logged.

        Raises:
            RetryLater: It has not.
        """
        if self._problem is not None:
            raise self._problem
        if self._verified:
            return
        limit = min(_SERVER_PATIENCE, self._session.options.finish_timeout)
        if self._session.mode == "offline":
            if not self._tail.await_end(limit):
                raise RetryLater(f"wandb: {self._session.log} is not complete: the record of the run's end is missing")
        elif last_step is not None:
            self._ask_server(last_step, limit)
        if self._session.mode == "online":
            recovery.complete(self._session)
            shutil.rmtree(self._session.directory / "artifacts", ignore_errors=True)
        self._verified = True

    def _ask_server(self, last_step: int, limit: float) -> None:
        run_id, directory = self._session.info.id, self._session.directory
        try:
            rows = self._session.history().await_rows(last_step, limit)
        except Exception as error:
            if not is_unreachable(error):
                # It answers, but not with what this version of the client understands: nothing speaks for a loss.
                _LOG.warning("W&B: could not ask for the rows of the run %s: %s", run_id, error)
                return
            raise RetryLater(
                f"wandb: the server does not report the rows of the run {run_id!r} ({type(error).__name__}: "
                f"{str(error)[:200]}); everything is in {directory}"
            ) from error
        if rows is not None:
            raise RetryLater(
                f"wandb: the server has {rows} of {last_step + 1} rows of the run {run_id!r}; opening it again sends "
                f"the rest, and everything is in {directory}"
            )
