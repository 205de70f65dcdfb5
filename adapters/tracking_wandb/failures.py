"""What the client's failures mean: a wrong setting, something that may pass, or a client that is gone."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from tracking_core import RetryLater, SettingsError

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
_REFUSED = frozenset({401, 403})


def is_gone(error: BaseException) -> bool:
    """Whether an error says that wandb-core is gone, and with it every run of this process."""
    return any(isinstance(one, ConnectionError) or type(one).__name__ in _GONE for one in _chain(error))


def gone(run_id: str, error: BaseException) -> RetryLater:
    """The error for a run whose wandb-core is gone."""
    return RetryLater(
        f"wandb: the client's own process (wandb-core) is gone ({_brief(error)}), and the run {run_id!r} with it; "
        "opening the run again starts another one, and goes on after what the server has"
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
    status = next((int(found[1]) for one in _chain(error) if (found := _STATUS.search(str(one)))), None)
    kinds = {type(one).__name__ for one in _chain(error)}
    if "AuthenticationError" in kinds or status in _REFUSED or "No API key" in text:
        return SettingsError(
            f"wandb: {where}: the server refused the API key, or there is none ({text}); run 'wandb login', set "
            "WANDB_API_KEY, or record with mode=offline and run 'wandb sync' later"
        )
    if status is not None and 400 <= status < 500 and status not in _PASSING:
        return SettingsError(f"wandb: {where}: the server refused the run ({text}); look at entity, project and name")
    if kinds & {"UsageError", "ValidationError"}:
        return SettingsError(f"wandb: {where}: the client refused the settings ({text})")
    return RetryLater(f"wandb: {where}: could not be opened ({text})")


def is_unreachable(error: BaseException) -> bool:
    """Whether an error says that the server does not answer, or not now."""
    for one in _chain(error):
        found = _STATUS.search(str(one))
        if found and (int(found[1]) >= 500 or int(found[1]) in _PASSING):
            return True
        if isinstance(one, (OSError, TimeoutError)) or _UNREACHABLE.search(f"{type(one).__name__}: {one}"):
            return True
    return False


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
        raise RetryLater(f"wandb: {what} did not come to an end within {seconds:g} s; wandb-core does not answer")
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
    return f"{type(error).__name__}: {error}"[:400].rstrip(": ")
