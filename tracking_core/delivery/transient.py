"""What an error of a backend says of a record: it may pass, it never will, or nobody knows.

Adapters raise what their clients raise, and wrap it in errors of their own. So it is looked through causes and
contexts, from the outside in, and the first that says something decides. No client is imported to tell its errors: they
are known by the shape in which they carry a status, and by their names.
"""

from __future__ import annotations

import errno
import math
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, cast

from tracking_core.errors import InvalidValueError, Rejected, RetryLater, SettingsError

LONGEST = 3600.0
"""The longest wait that a backend may ask for, in seconds."""
_DEPTH = 20
"""How many errors of a chain of causes are examined."""
_ERRNO = frozenset(
    getattr(errno, name)
    for name in (
        *("ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "ENOTCONN", "ESHUTDOWN", "EPIPE", "ETIMEDOUT"),
        *("ENETDOWN", "ENETRESET", "ENETUNREACH", "EHOSTDOWN", "EHOSTUNREACH", "EADDRNOTAVAIL"),
        # A disk that is full or over its quota, a network file system whose server was away, a machine under load.
        *("ENOSPC", "EDQUOT", "EIO", "ESTALE", "EREMOTEIO", "EAGAIN", "ENOBUFS", "EMFILE", "ENFILE"),
    )
    if hasattr(errno, name)
)
_LOOKUP = frozenset(
    getattr(socket, name) for name in ("EAI_AGAIN", "EAI_FAIL", "EAI_NODATA", "EAI_NONAME") if hasattr(socket, name)
)
#: SQLITE_BUSY, SQLITE_LOCKED, SQLITE_IOERR and SQLITE_FULL; in higher bits stands more about them.
_SQLITE = frozenset({5, 6, 10, 13})
#: What OpenSSL gives as the reason when the connection went, not the trust.
_TLS = ("EOF", "CONNECTION_RESET", "BAD_RECORD_MAC", "RECORD_LAYER_FAILURE", "SHUTDOWN", "TIMED_OUT", "CLOSED")
#: Of clients that are not imported here: by the package, classes whose instances mean a connection that failed.
_CLIENTS: Mapping[str, frozenset[str]] = {
    "http": frozenset({"IncompleteRead", "RemoteDisconnected", "BadStatusLine"}),
    "requests": frozenset({"ConnectionError", "Timeout", "ChunkedEncodingError"}),
    "urllib3": frozenset({"ProtocolError", "TimeoutError", "NewConnectionError"}),
    "httpx": frozenset({"TimeoutException", "NetworkError", "RemoteProtocolError"}),
    "httpcore": frozenset({"TimeoutException", "NetworkError", "RemoteProtocolError"}),
    "aiohttp": frozenset({"ClientConnectionError", "ClientPayloadError", "ServerTimeoutError"}),
    "botocore": frozenset({"ConnectionError", "HTTPClientError"}),
}
_PASSING, _SERVER, _REFUSED = frozenset({408, 425, 429}), range(500, 600), range(400, 500)
#: Where the kinds of S3 and its like have a status of their own, or one that says less.
_PASSING_CODES = frozenset({"RequestTimeout", "RequestTimeoutException", "SlowDown"})
_STATUS = ("status_code", "status", "code", "http_status")


class Verdict(NamedTuple):
    """What an error means for a record.

    Args:
        kind: "transient" (send it again), "rejected" (it failed; others may not), or "failed" (others may fail too).
        after: Seconds to wait that the backend asks for; None when it does not say.
    """

    kind: Literal["transient", "rejected", "failed"]
    after: float | None = None


def judge(error: BaseException, *, now: Callable[[], float] = time.time) -> Verdict:
    """Judge the error that a record was answered with.

    Args:
        error: What an adapter raised, with its causes and contexts.
        now: Gives seconds since the epoch, for dates in `Retry-After`.
    """
    if not isinstance(error, Exception):
        # What ends a process or a thread is no answer of a backend, whatever led to it.
        return Verdict("failed")
    chain = [one for one in _chain(error) if isinstance(one, Exception)]
    if any(_is_distrust(one) for one in chain):
        return Verdict("failed")
    for one in chain:
        verdict = _explicit(one) or _by_status(one, now) or _by_kind(one)
        if verdict is not None:
            return verdict
    # A file that is not there, say, is about this record, and nothing about the backend.
    if any(map(_is_of_files, chain)):
        return Verdict("rejected")
    # One without a number was raised by hand, mostly for a server or a disk that is away.
    return Verdict("transient" if any(type(one) is OSError and one.errno is None for one in chain) else "failed")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what led to it, from the outside in."""
    seen: set[int] = set()
    waiting = deque([error])
    while waiting and len(seen) < _DEPTH:
        one = waiting.popleft()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        led = [one.__cause__, None if one.__suppress_context__ else one.__context__]
        # Clients keep it there too, and so it comes through a pickle.
        led += [_attribute(one, "reason"), *one.args[:1]]
        if isinstance(one, BaseExceptionGroup):
            led += cast("BaseExceptionGroup[BaseException]", one).exceptions
        waiting += [cause for cause in led if isinstance(cause, BaseException)]


def _explicit(error: Exception) -> Verdict | None:
    if isinstance(error, RetryLater):
        return Verdict("transient", _seconds(error.after))
    if isinstance(error, (Rejected, InvalidValueError)):
        return Verdict("rejected")
    return Verdict("failed") if isinstance(error, SettingsError) else None


def _by_status(error: Exception, now: Callable[[], float]) -> Verdict | None:
    response = _attribute(error, "response")
    if response is None:
        response = _attribute(error, "resp")
    status, headers, code = _status_of(response), _attribute(response, "headers"), None
    if isinstance(response, Mapping):
        # As botocore has it.
        parts = cast("Mapping[str, Any]", response)
        facts, named = parts.get("ResponseMetadata"), parts.get("Error")
        if isinstance(facts, Mapping):
            facts = cast("Mapping[str, Any]", facts)
            status, headers = _number(facts.get("HTTPStatusCode")), facts.get("HTTPHeaders")
        code = cast("Mapping[str, Any]", named).get("Code") if isinstance(named, Mapping) else None
    if status is None:
        status, headers = _status_of(error), headers if headers is not None else _attribute(error, "headers")
    if isinstance(code, str) and (code in _PASSING_CODES or "Throttl" in code):
        return Verdict("transient", _retry_after(headers, now))
    if status in _PASSING or status in _SERVER:
        return Verdict("transient", _retry_after(headers, now))
    return Verdict("rejected") if status in _REFUSED else None


def _status_of(thing: object) -> int | None:
    found = (_number(_attribute(thing, name)) for name in _STATUS) if thing is not None else ()
    return next((status for status in found if status is not None), None)


def _number(value: object) -> int | None:
    """A status, if it is one."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) == len("200"):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and (value in _REFUSED or value in _SERVER):
        return int(value)
    return None


def _retry_after(headers: object, now: Callable[[], float]) -> float | None:
    get = _attribute(headers, "get")
    if not callable(get):
        return None
    try:
        text = get("Retry-After") or get("retry-after")
    except Exception:  # noqa: BLE001 - headers of a client may be anything
        return None
    try:
        return _seconds(float(cast("str", text)))
    except (TypeError, ValueError, OverflowError):
        pass
    from email.utils import parsedate_to_datetime

    try:
        return _seconds(max(0.0, parsedate_to_datetime(cast("str", text)).timestamp() - now()))
    except (TypeError, ValueError, OverflowError, AttributeError, IndexError):
        return None


def _seconds(value: object) -> float | None:
    """A wait that can be waited for; None where the worker's own is better."""
    if not isinstance(value, (int, float)) or math.isnan(value) or value < 0:
        return None
    return float(min(value, LONGEST))


def _by_kind(error: Exception) -> Verdict | None:
    ssl: Any = sys.modules.get("ssl")
    if ssl is not None and isinstance(error, ssl.SSLError):
        # Its `errno` counts on a scale of its own.
        return Verdict("transient") if _is_lost_connection(ssl, error) else None
    if isinstance(error, socket.gaierror):
        return Verdict("transient") if error.errno in _LOOKUP else None
    if isinstance(error, (ConnectionError, TimeoutError, socket.herror)):
        return Verdict("transient")
    if isinstance(error, OSError) and error.errno in _ERRNO:
        return Verdict("transient")
    code = _attribute(error, "sqlite_errorcode")
    if isinstance(code, int) and code & 0xFF in _SQLITE:
        return Verdict("transient")
    for kind in type(error).__mro__:
        if kind.__name__ in _CLIENTS.get(kind.__module__.partition(".")[0], ()):
            return Verdict("transient")
    return None


def _is_lost_connection(ssl: Any, error: Any) -> bool:
    ended = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
    if isinstance(error, (*ended, TimeoutError)):
        return True
    words = f"{getattr(error, 'reason', '') or ''} {error}".upper().replace(" ", "_")
    return any(word in words for word in _TLS)


def _is_of_files(error: Exception) -> bool:
    """Whether it is an error of the operating system with a number, of which none says that it passes."""
    ssl: Any = sys.modules.get("ssl")
    other = (socket.gaierror, socket.herror) if ssl is None else (socket.gaierror, socket.herror, ssl.SSLError)
    return isinstance(error, OSError) and error.errno is not None and not isinstance(error, other)


def _is_distrust(error: Exception) -> bool:
    """Whether a certificate was not trusted: no waiting mends that."""
    ssl: Any = sys.modules.get("ssl")
    return ssl is not None and isinstance(error, ssl.SSLCertVerificationError)


def _attribute(thing: object, name: str) -> Any:
    """An attribute of an object that may do anything when it is asked."""
    try:
        return getattr(thing, name, None)
    except Exception:  # noqa: BLE001 - see above
        return None
