"""Leases: one worker at a time delivers to a target of a run.

A lease is a file beside the cursor. It is created exclusively, and names the process that holds it. It is valid while
that process lives. On the same host the process is known by its number, start time and boot; on another host it lives
while the file is touched. A worker that finds the lease of a dead process removes it, and competes for a new one.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from pathlib import Path

from tracking_core.base.files import write_exclusively
from tracking_core.base.processes import owner_of, process_facts, read_facts
from tracking_core.base.regular import own_folder
from tracking_core.errors import LeaseHeldError


class Lease:
    """The right to deliver to one target of one run.

    Args:
        directory: The run directory.
        key: Key of the target.
        label: Name of the target, for the message.

    Raises:
        LeaseHeldError: A living worker holds it.
        OddFileError: `cursors` is a link.
        OSError: The run directory cannot be written.
    """

    def __init__(self, directory: Path, key: str, label: str) -> None:
        self.path = directory / "cursors" / f"{key}.lease"
        own_folder(self.path.parent, parents=True)
        self._token = secrets.token_hex(8)
        self._beaten = time.monotonic()
        content = self._content = json.dumps({**process_facts(), "token": self._token}).encode()
        for _ in range(3):
            if write_exclusively(self.path, content):
                return
            owner = owner_of(self.path)
            if owner is not None:
                raise LeaseHeldError(f"{label}: process {owner} delivers to it now; retry when that process has ended")
            self._remove_dead()
        raise LeaseHeldError(f"another process is acquiring the lease for {label}; retry")

    def beat(self) -> None:
        """Touch the file every few seconds, so that other hosts see that the owner lives."""
        now = time.monotonic()
        if now - self._beaten > 10.0:
            self._beaten = now
            with contextlib.suppress(OSError):
                try:
                    os.utime(self.path)
                except FileNotFoundError:
                    # It was deleted with its directory, and the directory is there again.
                    own_folder(self.path.parent)
                    write_exclusively(self.path, self._content)

    def release(self) -> None:
        """Remove the file, if it is still ours."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            if read_facts(self.path)["token"] == self._token:
                self.path.unlink()

    def _remove_dead(self) -> None:
        # By rename: of several processes that find it dead one removes it, and none removes a newer lease.
        aside = self.path.with_name(f".{self.path.name}.{self._token}")
        try:
            self.path.rename(aside)
        except OSError:
            return
        if owner_of(aside) is not None:
            # A new owner was faster than our rename: restore its lease.
            with contextlib.suppress(OSError):
                os.link(aside, self.path)
        aside.unlink(missing_ok=True)
