"""Event files in buckets, through fsspec.

Objects have no append: a file is kept in memory, and a flush puts the whole of it there anew, in one request that the
store takes as a whole or not at all. What is there is never cut back, so a run that is continued begins another file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from tracking_core import MissingDependencyError, SettingsError
from tracking_tensorboard.events import Framing, first_event
from tracking_tensorboard.location import remote_scheme

CONNECT, READ = 10.0, 60.0
"""Seconds to wait for a connection, and for an answer."""
_NO_LOGIN = frozenset({"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "ProfileNotFound"})


class RemoteEventFile:
    """An event file in a bucket.

    Args:
        url: Such as `gs://bucket/runs/a/events.out.tfevents.…`.
        mark: What its first event says of whose it is; see `own_files.mark`.

    Raises:
        SettingsError: There is no such kind of storage.
        MissingDependencyError: The package for it is not installed.
    """

    def __init__(self, url: str, mark: bytes = b"") -> None:
        self._put: Callable[[bytes], None] = _putter(url)
        self._framing = Framing()
        self._data = bytearray()
        self._uploaded = 0
        self.append(first_event() + mark)

    @property
    def last(self) -> None:
        """Nothing: there is no place to go back to."""

    def append(self, event: bytes) -> None:
        """Add one serialized event; a flush uploads it."""
        self._data += self._framing.frame(event)

    @property
    def position(self) -> int:
        """How many bytes there are."""
        return len(self._data)

    def take_back(self, position: int) -> None:
        """Remove the records from a position on."""
        del self._data[position:]

    def flush(self) -> None:
        """Put everything there; when this returns, it is as durable as the store makes it.

        Raises:
            PermissionError: The store does not let this account in.
            FileNotFoundError: There is no such bucket.
            OSError: It cannot be reached, or refuses for now.
        """
        size = len(self._data)
        if size == self._uploaded:
            return
        try:
            self._put(bytes(self._data))
        except OSError:
            raise
        except Exception as error:
            # The clients have error classes of their own.
            text = f"{type(error).__name__}: {error}"
            raise (PermissionError(text) if type(error).__name__ in _NO_LOGIN else OSError(text)) from error
        self._uploaded = size

    def close(self) -> None:
        """Upload what a flush has not."""
        self.flush()


def _putter(url: str) -> Callable[[bytes], None]:
    """What puts a whole object at a URL."""
    scheme = remote_scheme(url)
    assert scheme is not None
    try:
        import fsspec

        files: Any = fsspec.filesystem(scheme, **_options(scheme))
    except ImportError as error:
        raise MissingDependencyError(
            f"tensorboard: writing to {scheme}:// needs another package: {error}; "
            "for s3:// and gs://: pip install 'tracking-core[remote]'"
        ) from error
    except ValueError as error:
        raise SettingsError(f"tensorboard: cannot write to {scheme}://: {error}") from error
    path: str = files._strip_protocol(url)  # noqa: SLF001 - fsspec has no public name for it
    return lambda content: files.pipe_file(path, content)


def _options(scheme: str) -> dict[str, Any]:
    # Not the instance of others: what it is told here is for us alone.
    options: dict[str, Any] = {"skip_instance_cache": True}
    if scheme == "s3":
        # s3fs tries again by itself.
        waits = {"connect_timeout": CONNECT, "read_timeout": READ, "retries": {"max_attempts": 1}}
        options["config_kwargs"] = waits
        # What tensorboardX calls it, for those who have set it; the clients' own name comes first.
        endpoint = os.environ.get("S3_ENDPOINT")
        if endpoint and not (os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")):
            options["endpoint_url"] = endpoint
    return options
