"""Records of a run as they come, from whatever process writes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tracking_core.delivery.cursor import Cursor
from tracking_core.delivery.inbox import Inbox
from tracking_core.journal.events import to_record
from tracking_core.values import Record

BATCH = 256


def follow(directory: Path, has_ended: Callable[[], bool], poll: float, timeout: float | None) -> Iterator[Record]:
    """The records of a run from its beginning, then the new ones, until it has ended.

    Args:
        directory: The run directory.
        has_ended: Whether nothing more will be written.
        poll: Seconds between two looks.
        timeout: Stop after so many seconds without a new record; None goes on.

    Raises:
        JournalError: A record cannot be read.
    """
    inbox = Inbox(directory, Cursor(None))
    since = time.monotonic()
    while True:
        # Asked first: what was written before the end is read after it.
        over = has_ended()
        inbox.pull(final=over)
        while events := inbox.ready(BATCH):
            for event in events:
                yield to_record(event, directory)
                inbox.done(event)
            inbox.pull(final=over)
            since = time.monotonic()
        if over:
            return
        left = poll if timeout is None else min(poll, since + timeout - time.monotonic())
        if left <= 0:
            return
        time.sleep(left)
