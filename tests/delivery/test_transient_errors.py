"""Which errors of a backend may pass: as they come from real sockets, servers and clients, and wrapped in others."""

from __future__ import annotations

import errno
import http.client
import http.server
import socket
import sqlite3
import ssl
import threading
import time
import urllib.error
import urllib.request
from email.utils import formatdate
from types import SimpleNamespace

import pytest
import requests

import tracking_core as tracking
from tracking_core.delivery.transient import LONGEST, Verdict, judge
from tracking_core.errors import AdapterError


def raised(call):
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever it is
        call()
    return caught.value


def wrapped(error, how="from", times=1):
    """An error of an adapter, raised for another."""
    for _ in range(times):
        try:
            try:
                raise error
            except Exception as inner:
                if how == "from":
                    raise RuntimeError("the upload failed") from inner
                if how == "hidden":
                    raise RuntimeError("the upload failed") from None
                raise RuntimeError("the upload failed")  # noqa: B904 - this is what is tried
        except RuntimeError as outer:
            error = outer
    return error


def sending_what_is_gone():
    try:
        raise FileNotFoundError(errno.ENOENT, "no such file")
    except OSError as error:
        raise OSError("cannot send") from error


PASSING = [
    ConnectionError("gone"),
    ConnectionResetError(errno.ECONNRESET, "reset"),
    ConnectionRefusedError(),
    BrokenPipeError(),
    TimeoutError(),
    TimeoutError("timed out"),
    http.client.RemoteDisconnected("no answer"),
    http.client.IncompleteRead(b"", 10),
    http.client.BadStatusLine("nothing"),
    OSError("the server is away"),
    socket.gaierror(socket.EAI_AGAIN, "try again"),
    socket.gaierror(socket.EAI_NONAME, "unknown"),
    socket.herror(1, "host not found"),
    ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "EOF occurred in violation of protocol"),
    ssl.SSLZeroReturnError(ssl.SSL_ERROR_ZERO_RETURN, "TLS/SSL connection has been closed"),
    ssl.SSLError(ssl.SSL_ERROR_SSL, "[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred"),
    ssl.SSLError(ssl.SSL_ERROR_SSL, "[SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC] decryption failed"),
    *(
        OSError(number, "refused")
        for number in (
            *(errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.ENETDOWN, errno.ENETUNREACH),
            *(errno.ENETRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.EPIPE),
            *(errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EDQUOT),
        )
    ),
    tracking.RetryLater("busy"),
    urllib.error.URLError(ConnectionRefusedError()),
    requests.ConnectionError("Max retries exceeded"),
    requests.ReadTimeout("read timed out"),
    ExceptionGroup("all addresses", [ConnectionRefusedError(), TimeoutError()]),
]


@pytest.mark.parametrize("error", PASSING, ids=lambda error: f"{type(error).__name__}-{error}"[:60])
@pytest.mark.parametrize("how", ["bare", "from", "within", "deep"])
def test_what_passes(error, how):
    if how == "deep":
        error = wrapped(error, "within", 5)
    elif how != "bare":
        error = wrapped(error, how)
    assert judge(error).kind == "transient"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FileNotFoundError(errno.ENOENT, "no such file", "media/x.png"), "rejected"),
        (PermissionError(errno.EACCES, "denied"), "rejected"),
        (IsADirectoryError(errno.EISDIR, "a directory"), "rejected"),
        (raised(sending_what_is_gone), "rejected"),
        (wrapped(FileNotFoundError(errno.ENOENT, "no such file")), "rejected"),
        (tracking.Rejected("no"), "rejected"),
        (tracking.InvalidValueError("[3, 2] is no image"), "rejected"),
        (RuntimeError("the backend is broken"), "failed"),
        (AdapterError("wrong"), "failed"),
        (KeyboardInterrupt(), "failed"),
        (SystemExit(503), "failed"),
        (ssl.SSLCertVerificationError(1, "certificate verify failed: EOF"), "failed"),
        (wrapped(ssl.SSLCertVerificationError(1, "certificate verify failed")), "failed"),
        (ssl.SSLError(ssl.SSL_ERROR_SSL, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "failed"),
        # Their numbers are not those of the operating system: 5 is EIO there.
        (ssl.SSLError(ssl.SSL_ERROR_SYSCALL, "[SSL: NO_CIPHERS_AVAILABLE]"), "failed"),
        (socket.gaierror(socket.EAI_FAMILY, "family not supported"), "failed"),
        (wrapped(ConnectionError("gone"), "hidden"), "failed"),
    ],
    ids=lambda value: f"{type(value).__name__}-{value}"[:60],
)
def test_what_does_not(error, kind):
    assert judge(error).kind == kind


def test_the_outermost_that_says_something_decides():
    refused = tracking.Rejected("given up on")
    refused.__cause__ = ConnectionError("gone")
    assert judge(refused).kind == "rejected"
    interrupted = tracking.BatchInterrupted(3)
    interrupted.__cause__ = TimeoutError()
    assert judge(interrupted).kind == "transient"
    # What a signal raised is no answer, whatever was under way.
    signal = KeyboardInterrupt()
    signal.__context__ = ConnectionError()
    assert judge(signal).kind == "failed"
    requests_error = requests.exceptions.SSLError("certificate")
    requests_error.__context__ = ssl.SSLCertVerificationError(1, "certificate verify failed")
    assert judge(requests_error).kind == "failed"


def test_chains_are_bounded_and_may_be_circles():
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first
    assert judge(first).kind == "failed"
    error = ConnectionError()
    for _ in range(1000):
        outer = RuntimeError()
        outer.__cause__, error = error, outer
    assert judge(error).kind == "failed"


class Hostile(Exception):
    @property
    def response(self):
        raise RuntimeError("no attribute of yours")

    status = code = status_code = property(lambda self: 1 / 0)


def test_errors_that_raise_when_they_are_looked_at():
    assert judge(Hostile()).kind == "failed"
    assert judge(wrapped(Hostile())).kind == "failed"
    error = Hostile()
    error.__context__ = TimeoutError()
    assert judge(error).kind == "transient"


# ---------------------------------------------------------------- statuses


def shaped(shape, status, headers):
    """An error that carries a status as one of the clients has it."""
    error = RuntimeError(f"status {status}")
    if shape == "response.status_code":
        error.response = SimpleNamespace(status_code=status, headers=headers)
    elif shape == "response.status":
        error.response = SimpleNamespace(status=status, headers=headers)
    elif shape == "resp.status":
        error.resp = SimpleNamespace(status=str(status), headers=headers)
    elif shape == "botocore":
        error.response = {
            "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers},
            "Error": {"Code": "X"},
        }
    else:
        setattr(error, shape, http.HTTPStatus(status) if shape == "code" else status)
        error.headers = headers
    return error


SHAPES = ["response.status_code", "response.status", "resp.status", "botocore", "status_code", "status", "code"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("how", ["bare", "from"])
def test_statuses(shape, how):
    for status in (408, 425, 429, 500, 502, 503, 504):
        error = shaped(shape, status, {"retry-after": "7"})
        assert judge(wrapped(error, how) if how == "from" else error) == Verdict("transient", 7.0), status
    for status in (400, 401, 403, 404, 409, 413, 422):
        error = shaped(shape, status, {})
        assert judge(wrapped(error, how) if how == "from" else error).kind == "rejected", status


def test_what_is_no_status():
    for value in (True, "5.3", 4.5, 42, 200, 1006, "RESOURCE_EXHAUSTED", None, object()):
        error = RuntimeError("strange")
        error.code = error.status = value
        assert judge(error).kind == "failed", value
    limited = RuntimeError("slow down")
    limited.response = {"ResponseMetadata": {"HTTPStatusCode": 400}, "Error": {"Code": "RequestTimeout"}}
    assert judge(limited).kind == "transient"


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("1e300", LONGEST),
        ("inf", LONGEST),
        ("nan", None),
        ("-3", None),
        ("soon", None),
        ("", None),
        (None, None),
        (17, 17.0),
        (formatdate(1_000_030, usegmt=True), 30.0),
        (formatdate(999_000, usegmt=True), 0.0),
        (formatdate(1e9, usegmt=True), LONGEST),
    ],
)
def test_how_long_a_backend_asks_to_be_left_alone(text, after):
    error = shaped("response.status_code", 503, {"Retry-After": text})
    assert judge(error, now=lambda: 1_000_000.0) == Verdict("transient", after)


def test_a_wait_that_an_adapter_asks_for_can_be_waited_for():
    for after, expected in ((0.5, 0.5), (1e300, LONGEST), (float("inf"), LONGEST), (float("nan"), None), (-1, None)):
        assert judge(tracking.RetryLater(after=after)).after == expected
    # What `Event.wait` takes at most is less than what may be asked for.
    assert not threading.Event().wait(0.0)
    assert LONGEST < threading.TIMEOUT_MAX


# ---------------------------------------------------------------- real clients, on loopback


@pytest.fixture
def server():
    """A server that answers with the status in the path; for 0 it closes the connection without a word."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status = int(self.path.strip("/"))
            if not status:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Retry-After", "3")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def closed_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def with_requests(url):
    requests.get(url, timeout=30).raise_for_status()


def with_urllib(url):
    try:
        with urllib.request.urlopen(url, timeout=30):
            pass
    except urllib.error.HTTPError as error:
        error.close()
        raise


@pytest.mark.parametrize("get", [with_requests, with_urllib])
def test_a_real_client_and_a_server_that_fails(server, get):
    assert judge(raised(lambda: get(f"{server}/503"))) == Verdict("transient", 3.0)
    assert judge(raised(lambda: get(f"{server}/429"))) == Verdict("transient", 3.0)
    assert judge(raised(lambda: get(f"{server}/404"))).kind == "rejected"
    assert judge(raised(lambda: get(f"{server}/0"))).kind == "transient"
    assert judge(raised(lambda: get(f"http://127.0.0.1:{closed_port()}/200"))).kind == "transient"


def test_a_name_that_is_not_found():
    error = raised(lambda: socket.getaddrinfo("nowhere.invalid", 80))
    assert isinstance(error, OSError)
    assert judge(error).kind == "transient"


def test_a_connection_that_breaks_within_tls():
    ours, theirs = socket.socketpair()

    def hang_up():
        theirs.recv(1)
        theirs.close()

    threading.Thread(target=hang_up, daemon=True).start()
    context = ssl.create_default_context()
    with ours:
        error = raised(lambda: context.wrap_socket(ours, server_hostname="localhost"))
    assert isinstance(error, OSError)
    assert judge(error).kind == "transient"


def test_a_database_that_is_locked(tmp_path):
    with sqlite3.connect(tmp_path / "db") as first:
        first.execute("create table t (x)")
    first.execute("begin exclusive")
    second = sqlite3.connect(tmp_path / "db", timeout=0)
    assert judge(raised(lambda: second.execute("insert into t values (1)"))).kind == "transient"
    assert judge(raised(lambda: first.execute("insert into nowhere values (1)"))).kind == "failed"
    first.close()
    second.close()


def test_nothing_is_imported_to_tell(tmp_path):
    from tests.support.programs import run as run_program

    code = """
    import sys
    from tracking_core.delivery.transient import judge
    before = set(sys.modules)
    assert judge(ConnectionError()).kind == "transient"
    assert judge(RuntimeError("x")).kind == "failed"
    print(sorted({name.partition(".")[0] for name in set(sys.modules)} & {"ssl", "requests", "urllib3", "httpx"}))
    print(sorted(set(sys.modules) - before))
    """
    out, _ = run_program(code, tmp_path)
    assert out.splitlines()[-2:] == ["[]", "[]"]
    assert time.time() > 0
