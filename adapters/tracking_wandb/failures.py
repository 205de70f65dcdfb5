"""What the client's failures mean: a wrong setting, something that may pass, or a client that is gone."""

from __future__ import annotations

import contextlib
import errno
import re
import socket
import ssl
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

from tracking_core import Rejected, RetryLater, SettingsError, TrackingError

T = TypeVar("T")

#: Raised by the client when its service process, wandb-core, is gone; told by name, since their homes move.
_GONE = frozenset(
    {
        "HandleAbandonedError",
        "MailboxClosedError",
        "ServicePollForTokenError",
        "WandbServiceConnectionError",
        "WandbServiceNotOwnedError",
    }
)
_STATUS = re.compile(r"(?:error|HTTP|status(?: code)?)[ :]+(\d{3})\b")
_UNREACHABLE = re.compile(r"(?i)giving up|timed? ?out|deadline exceeded|connection|refused|unreachable|no such host")
_PASSING = frozenset({408, 409, 425, 429})
PASSING_ERRNOS = frozenset(
    code
    for name, code in vars(errno).items()
    if name.startswith(("ECONN", "ENET", "EHOST")) or name in {"ETIMEDOUT", "EPIPE", "EIO", "ESTALE", "ENOSPC"}
)
_WRONG_SETTINGS = frozenset({"UsageError", "ValidationError"})
_CLIENT = frozenset({"wandb", "requests", "urllib3", "httpx", "httpcore"})
_REFUSED = frozenset({401, 403})


def is_gone(error: BaseException) -> bool:
    """Whether an error says that wandb-core is gone, and with it every run of this process."""
    return any(isinstance(one, ConnectionError) or type(one).__name__ in _GONE for one in _chain(error))


def gone(run_id: str, error: BaseException) -> RetryLater:
    """The error for a run whose wandb-core is gone."""
    return RetryLater(
        f"wandb: the client's own process (wandb-core) is gone ({_brief(error)}), and the run {run_id!r} with it; "
        "opening the run again starts a new one, and continues after what the server has"
    )


def opening_error(error: BaseException, where: str) -> Exception:
    """What to raise when a run could not be opened.

    Args:
        error: What the client raised.
        where: The server and the run, for the message.

    Returns:
        A SettingsError for what the user has to change, a RetryLater for what may pass.
    """
    text = _brief(error)
    status = _status(error)
    kinds = {type(one).__name__ for one in _chain(error)}
    if "AuthenticationError" in kinds and is_unreachable(error):
        # It could not ask whether the key is right.
        return RetryLater(f"wandb: {where}: could not be opened ({text})")
    if "AuthenticationError" in kinds or status in _REFUSED or "No API key" in text:
        return SettingsError(
            f"wandb: {where}: the server refused the API key, or no key is set ({text}); run 'wandb login', set "
            "WANDB_API_KEY, or record with mode=offline and run 'wandb sync' later"
        )
    if status is not None and 400 <= status < 500 and status not in _PASSING:
        return SettingsError(f"wandb: {where}: the server refused the run ({text}); look at entity, project and name")
    if kinds & _WRONG_SETTINGS:
        return SettingsError(f"wandb: {where}: the client refused the settings ({text})")
    return RetryLater(f"wandb: {where}: could not be opened ({text})")


@contextlib.contextmanager
def settings_understood(where: str) -> Generator[None]:
    """Say in one line what the client cannot take of the settings that it reads from environment and files.

    Args:
        where: The run, for the message.

    Raises:
        SettingsError: There is something.
    """
    try:
        yield
    except Exception as error:
        if not _WRONG_SETTINGS & {type(one).__name__ for one in _chain(error)}:
            raise
        raise opening_error(error, where) from error


def call_error(error: Exception, what: str) -> Exception:
    """What to raise when a call of the client failed.

    Args:
        error: What the client raised.
        what: The run, for the message.

    Returns:
        A RetryLater for what may pass, a Rejected for what the server refused; the error itself where it says neither.
    """
    if isinstance(error, TrackingError) or not any(_is_of_client(one) for one in _chain(error)):
        return error
    if is_unreachable(error):
        return RetryLater(f"wandb: {what}: the server does not answer ({_brief(error)})")
    status = _status(error)
    if status is not None and 400 <= status < 500:
        return Rejected(f"wandb: {what}: the server refused it ({_brief(error)})")
    return error


def is_unreachable(error: BaseException) -> bool:
    """Whether an error says that the server does not answer, or not now."""
    status = _status(error)
    if status is not None:
        return status >= 500 or status in _PASSING
    return any(_may_pass(one) or _UNREACHABLE.search(f"{type(one).__name__}: {one}") for one in _chain(error))


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error speaks of, if it does."""
    return next((int(found[1]) for one in _chain(error) if (found := _STATUS.search(str(one)))), None)


def _may_pass(error: BaseException) -> bool:
    """Whether an error of the system is one of the network, or of a disk that is full; a missing file is none."""
    if isinstance(error, (ConnectionError, TimeoutError, socket.gaierror, ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return True
    return isinstance(error, OSError) and error.errno in PASSING_ERRNOS


def _is_of_client(error: BaseException) -> bool:
    """Whether an error comes from the client or from what it talks to the server with, and not from a value."""
    return type(error).__module__.partition(".")[0] in _CLIENT or _may_pass(error)


def within(seconds: float, what: str, call: Callable[[], T]) -> T:
    """Call something that may hang, and wait for it no longer than some seconds.

    Raises:
        RetryLater: It is not done in time; it goes on in a thread that ends with the process.
    """
    outcome: list[T] = []
    problem: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            problem.append(error)

    thread = threading.Thread(target=work, name=f"wandb: {what}", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise RetryLater(f"wandb: {what} did not end within {seconds:g} s; wandb-core does not answer")
    if problem:
        raise problem[0]
    return outcome[0]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _brief(error: BaseException) -> str:
    wrong = next((one for one in _chain(error) if type(one).__name__ == "ValidationError"), None)
    if wrong is not None:
        # What pydantic says takes several lines, and shows the value.
        with contextlib.suppress(Exception):
            found: list[Any] = wrong.errors(include_url=False, include_context=False, include_input=False)  # pyright: ignore[reportAttributeAccessIssue]
            return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found)[:400]
    return f"{type(error).__name__}: {error}"[:400].rstrip(": ")
