"""Several processes that train together: which one this is, and one run id for all of them.

Nothing here imports or initialises JAX. What is known comes from, in this order:

1. `start_run(process=…)`;
2. the state of `jax.distributed`, once it is initialised: rank, and a key-value store through which the first process
   tells the others the id of its run;
3. the variables of a launcher that started more than one process: Slurm, Open MPI, an MPI with PMI, Cloud TPU.

Before `jax.distributed.initialize()` there is no store: with `TRACKING_PROCESS=0` the first process records and the
others stay silent, which needs no agreement; with `TRACKING_PROCESS=all` one run needs `TRACKING_RUN_ID` then. Where
neither `process=` nor a launcher tells the rank, start the run after `initialize()`.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger("tracking_core")

LAUNCHERS: tuple[tuple[str, str], ...] = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
    ("PMI_RANK", "PMI_SIZE"),
    ("TPU_WORKER_ID", "TPU_WORKER_HOSTNAMES"),
)
"""Variables of launchers: the rank, and the number of processes (or the list of their hosts)."""
STORE_WAIT = 60.0
"""Seconds that a process waits to be told the id by the first one."""
FILE_WAIT = 10.0
"""Seconds that a process waits for the first one to create the run, where they share only a file system."""
_KEY = "tracking_core/run/{}"

# Every process starts the same runs in the same order: the n-th of one is the n-th of all.
_starts = itertools.count()


class Peers:
    """The processes that one `start_run` belongs to.

    Args:
        process: Which of them this is; None detects it.
        environ: The environment; None means `os.environ`.
    """

    def __init__(self, process: int | None = None, environ: Mapping[str, str] | None = None) -> None:
        self._client, known = _distributed()
        self._number = next(_starts)
        self._launcher = ""
        self._told: str | None = None
        if process is None and self._client is None:
            process, self._launcher = launcher_rank(os.environ if environ is None else environ)
        self.index = process if process is not None else known
        """Which process this is; 0 when nothing says otherwise."""

    def run_id(self, own: str, *, chosen: bool, records: bool) -> str:
        """The id of the run: that of the first process, if it says one, unless another was chosen here.

        Args:
            own: The id that this process would take.
            chosen: Whether the user chose it.
            records: Whether this process records.
        """
        if self.index == 0:
            return own
        if self._client is None:
            if records and not chosen:
                self._say(
                    "cannot learn the run id of the first process before jax.distributed.initialize(): it records "
                    "its own run. Set TRACKING_RUN_ID, or call start_run after initialize()"
                )
            elif not records and self._launcher:
                self._say(
                    f"({self._launcher}) does not record, because the first process does. To change this, "
                    "set TRACKING_PROCESS=all for one run of all processes, or pass process=0 for independent runs"
                )
            return own
        if chosen and not records:
            return own
        try:
            told = self._client.blocking_key_value_get(_KEY.format(self._number), int(STORE_WAIT * 1000))
        except Exception as error:  # noqa: BLE001 - a timeout, or the service is gone: training goes on either way
            self._say(f"did not receive the run id within {STORE_WAIT:.0f} s: {type(error).__name__}")
            self._told = ""
            return own
        self._told = told if isinstance(told, str) else ""
        return own if chosen or not self._told else self._told.partition(" ")[0]

    def origin(self) -> tuple[bool, int]:
        """Whether the first process continues a run, and the step it begins at; (False, 0) where nobody says so.

        The first question may wait until that process has opened the run.
        """
        if self._told is None and self._client is not None:
            self.run_id("", chosen=False, records=False)
        _, resumed, step = f"{self._told or ''}  ".split(" ", 2)
        return resumed == "resumed", int(step.strip() or 0)

    @staticmethod
    def unknown() -> tuple[bool, int]:
        """What is known of the origin of a run that nobody records."""
        return False, 0

    def await_run(self, exists: Callable[[], bool]) -> None:
        """Let the first process create the run, where only the file system can tell that it has.

        Args:
            exists: Whether the run is there.
        """
        if self.index == 0 or self._client is not None:
            return
        deadline = time.monotonic() + FILE_WAIT
        while not exists() and time.monotonic() < deadline:
            time.sleep(0.05)

    def announce(self, run_id: str, *, resumed: bool = False, step: int = 0) -> None:
        """Tell the others the run, once it is there. Only the first process does.

        Args:
            run_id: Its id.
            resumed: Whether it was there before.
            step: Where it begins.
        """
        if self.index != 0 or self._client is None:
            return
        try:
            self._client.key_value_set(_KEY.format(self._number), f"{run_id} {'resumed' if resumed else 'new'} {step}")
        except Exception as error:  # noqa: BLE001 - the others find that nothing comes, and say so
            self._say(f"could not send the run id to the others: {type(error).__name__}")

    def _say(self, message: str) -> None:
        logger.warning("process %d %s", self.index, message)


def run_file_exists(directory: Path) -> Callable[[], bool]:
    """Asks whether a run directory is there, in a way that a network file system answers from now, not from before."""

    def exists() -> bool:
        try:
            return "run.json" in os.listdir(directory)  # noqa: PTH208 - listing makes NFS look again
        except OSError:
            return False

    return exists


def launcher_rank(environ: Mapping[str, str]) -> tuple[int | None, str]:
    """(rank, variable) as a launcher of several processes says it; (None, "") when none does."""
    for rank, size in LAUNCHERS:
        count = environ.get(size, "")
        several = "," in count if size.endswith("HOSTNAMES") else count.isdigit() and int(count) > 1
        if several and environ.get(rank, "").isdigit():
            return int(environ[rank]), rank
    return None, ""


def watches_preemption() -> bool:
    """Whether JAX listens for SIGTERM, for `reached_preemption_sync_point`: all processes stop after the same step.

    Its handler is none of Python's, and `signal.getsignal` does not know of it.
    """
    state = getattr(sys.modules.get("jax._src.distributed"), "global_state", None)
    return getattr(state, "preemption_sync_manager", None) is not None


def _distributed() -> tuple[Any, int]:
    """(client of the key-value store, rank) of `jax.distributed`; (None, 0) as long as it is not initialised."""
    module = sys.modules.get("jax._src.distributed")
    state = getattr(module, "global_state", None)
    client = getattr(state, "client", None)
    index = getattr(state, "process_id", 0)
    return client, index if client is not None and isinstance(index, int) else 0
