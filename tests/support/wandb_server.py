"""A stand-in for the W&B server on the loopback interface, for tests with the real client.

```python
with WandbServer() as server, wandb_client(server.env(tmp_path)) as wandb:
    with wandb.init(id="my-run", settings=lean_settings()) as run:
        run.log({"loss": 3.0})
    assert [row["loss"] for row in server.runs["my-run"].history] == [3.0]
```

It answers what the client asks for in the course of runs, artifacts, alerts and reading back; `unknown` lists what it
was asked for and does not know. Faults are set with `fail`, `stall` and `refuse`. A mistake of the server itself is
raised when the `with` block ends.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar
from urllib.parse import unquote, urlsplit

from tests.support.wandb_backend import Backend
from tests.support.wandb_client import client_env

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.wandb_state import ServerArtifact, ServerRun

T = TypeVar("T")
Endpoint = Literal["graphql", "file_stream", "files"]

MAX_STALL = 30.0  # seconds after which a stalled request is answered whatever happens


@dataclass
class _Fault:
    on: Endpoint
    operation: str | None
    status: int | None  # None: stall
    left: int | None  # None: until it is taken back
    applied: bool = False  # whether the request takes effect although it is answered with an error
    released: threading.Event = field(default_factory=threading.Event)

    def hits(self, endpoint: str, operation: str | None) -> bool:
        return self.on == endpoint and self.operation in {None, operation} and self.left != 0


class WandbServer:
    """The server, running from `__enter__` (or `start`) to `__exit__` (or `stop`).

    Args:
        entity: Who the API key belongs to; runs without an entity are theirs.
    """

    def __init__(self, entity: str = "loopback") -> None:
        self._backend = Backend(entity)
        self._faults: list[_Fault] = []
        self._http: _Http | None = None
        self._thread: threading.Thread | None = None
        self._port = 0
        self._hits = 0
        self._errors: list[Exception] = []

    # ---- life

    def start(self) -> Self:
        """Listen, on the port that was used before if there was one."""
        assert self._http is None, "the server is listening already"
        self._http = _Http(self._port, self)
        self._port = self._http.server_address[1]
        self._backend.url = self.url
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, name="wandb-server", daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close everything and wait for all threads; what was received stays readable."""
        self.release()
        http, thread, self._http, self._thread = self._http, self._thread, None, None
        if http is not None and thread is not None:
            http.shutdown()
            http.server_close()
            http.hang_up()
            thread.join(10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, exc_type: object, *_: object) -> None:
        self.stop()
        if self._errors and exc_type is None:
            raise self._errors[0]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def env(self, tmp_path: Path) -> dict[str, str]:
        """Environment variables that point a client at this server and keep all its files under `tmp_path`."""
        return {
            **client_env(tmp_path, "online"),
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": "0123456789" * 4,
        }

    # ---- what was received

    @property
    def runs(self) -> dict[str, ServerRun]:
        """The runs by id."""
        with self._backend.changed:
            return dict(self._backend.runs)

    @property
    def artifacts(self) -> list[ServerArtifact]:
        """All artifact versions, in the order of creation."""
        with self._backend.changed:
            return list(self._backend.artifacts.values())

    @property
    def operations(self) -> list[tuple[str, dict[str, Any]]]:
        """Every GraphQL operation that was answered, with its variables."""
        with self._backend.changed:
            return list(self._backend.operations)

    @property
    def unknown(self) -> list[str]:
        """GraphQL operations and paths that were asked for and are not known here."""
        with self._backend.changed:
            return list(self._backend.unknown)

    def wait_for(self, predicate: Callable[[], T], timeout: float = 15.0) -> T:
        """Wait until `predicate` gives something true, and give that.

        It is asked again after each request. A LookupError in it means "not yet", so that it may name a run that
        is yet to come.

        Raises:
            TimeoutError: It did not happen in `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        with self._backend.changed:
            while True:
                with contextlib.suppress(LookupError):
                    if value := predicate():
                        return value
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._backend.changed.wait(left)
            state = {name: (run.state, len(run.history)) for name, run in self._backend.runs.items()}
            raise TimeoutError(
                f"not within {timeout} s; runs (state, history rows): {state}; "
                f"last operations: {[name for name, _ in self._backend.operations[-5:]]}; unknown: {self._backend.unknown}"
            )

    # ---- faults

    def fail(
        self,
        *,
        status: int = 500,
        on: Endpoint = "graphql",
        times: int | None = None,
        operation: str | None = None,
        applied: bool = False,
    ) -> None:
        """Answer with an error status: the next `times` requests, or all until `heal`.

        Args:
            status: The HTTP status.
            on: Which requests: GraphQL, the run's file stream, or uploads and downloads of files.
            times: How many; None means all.
            operation: Of GraphQL requests, only those of this name.
            applied: Whether the request takes effect all the same, as when an answer is lost on its way.
        """
        self._add(_Fault(on, operation, status, times, applied))

    def stall(self, *, on: Endpoint = "graphql", operation: str | None = None) -> None:
        """Let requests hang until `release`, `stop`, or `MAX_STALL` seconds have passed; then they are answered."""
        self._add(_Fault(on, operation, None, None))

    def release(self) -> None:
        """Answer the requests that hang, and stall no more."""
        with self._backend.changed:
            for fault in self._faults:
                fault.released.set()
            self._faults = [fault for fault in self._faults if fault.status is not None]

    def refuse(self) -> None:
        """Close the port and all connections: clients are refused until `accept`."""
        self.stop()

    def accept(self) -> None:
        """Listen again, on the same port."""
        self.start()

    def heal(self) -> None:
        """Take back all faults of `fail` and `stall`."""
        self.release()
        with self._backend.changed:
            self._faults.clear()

    @property
    def hits(self) -> int:
        """How many requests met a fault so far; of stalled ones, those that hang are counted already."""
        with self._backend.changed:
            return self._hits

    def _add(self, fault: _Fault) -> None:
        with self._backend.changed:
            self._faults.append(fault)

    # ---- requests; called by the handler's threads

    def handle(self, request: _Request) -> _Response:
        """Answer one request, or hang or fail as was asked for."""
        endpoint, operation = request.endpoint, request.operation
        with self._backend.changed:
            fault = next((fault for fault in self._faults if fault.hits(endpoint, operation)), None)
            if fault is not None and fault.left is not None:
                fault.left -= 1
            if fault is not None:
                self._hits += 1
                self._backend.changed.notify_all()
        if fault is not None and fault.status is None:
            fault.released.wait(MAX_STALL)
        elif fault is not None and not fault.applied:
            return _Response(fault.status, b'{"errors": [{"message": "a fault of the test"}]}')
        with self._backend.changed:
            try:
                response = self._route(request)
            except Exception as error:  # shown when the server stops; the client would only see a lost connection
                self._errors.append(error)
                response = _Response(500, b'{"error": "a mistake in the test server"}')
            self._backend.changed.notify_all()
        if fault is not None and fault.status is not None:
            return _Response(fault.status, b"{}")
        return response

    def _route(self, request: _Request) -> _Response:
        backend = self._backend
        parts = request.path.strip("/").split("/")
        if request.endpoint == "graphql":
            body = json.loads(request.body)
            return _json({"data": backend.answer(request.operation or "?", body.get("variables") or {})})
        if request.endpoint == "file_stream":
            run = backend.runs.get(parts[3])
            if run is None:
                return _Response(404, b'{"error": "no such run"}')
            run.take_stream(json.loads(request.body))
            return _json({})
        if request.endpoint == "files" and request.method == "PUT":
            backend.store(parts[1], parts[2], "/".join(parts[3:]), request.body)
            return _json({})
        if request.endpoint == "files":
            content = backend.fetch(parts[1], parts[2], "/".join(parts[3:]))
            return _Response(404, b"") if content is None else _Response(200, content, "application/octet-stream")
        if parts[0] == "artifactsV2":  # a file by its MD5, for clients that hold a manifest and no addresses
            content = backend.fetch_digest(parts[-2])
            return _Response(404, b"") if content is None else _Response(200, content, "application/octet-stream")
        backend.unknown.append(f"{request.method} {request.path}")
        return _Response(404, b"{}")


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    body: bytes

    @property
    def endpoint(self) -> str:
        if self.path == "/graphql":
            return "graphql"
        if self.path.startswith("/files/") and self.path.endswith("/file_stream"):
            return "file_stream"
        return "files" if self.path.startswith("/storage/") else "other"

    @property
    def operation(self) -> str | None:
        if self.endpoint != "graphql":
            return None
        found = re.search(r"(?:query|mutation)\s+(\w+)", json.loads(self.body)["query"])
        return found.group(1) if found else None


@dataclass(frozen=True)
class _Response:
    status: int
    body: bytes
    content_type: str = "application/json"


def _json(value: Any) -> _Response:
    return _Response(HTTPStatus.OK, json.dumps(value).encode())


class _Http(ThreadingHTTPServer):
    """The listening socket; it knows its connections, to be able to end them."""

    daemon_threads = True
    # The client uploads many files at once, each over a connection of its own; beyond the backlog they are reset.
    request_queue_size = 128

    def __init__(self, port: int, owner: WandbServer) -> None:
        self.owner = owner
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, socket.socket] = {}
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        with self._lock:
            self._open[thread] = request
        thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                del self._open[threading.current_thread()]

    def hang_up(self) -> None:
        """End all connections and wait for their threads."""
        with self._lock:
            connections = dict(self._open)
        for connection in connections.values():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in connections:
            thread.join(10)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up, or is hung up on, is none of our errors; the rest is shown."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Print no line for each request."""

    def _handle(self) -> None:
        response = self.server.owner.handle(_Request(self.command, unquote(urlsplit(self.path).path), self._body()))
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        self.wfile.write(response.body)

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b""
            while size := int(self.rfile.readline().split(b";")[0] or b"-1", 16):
                body += self._exactly(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self._exactly(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _exactly(self, size: int) -> bytes:
        body = self.rfile.read(size) if size >= 0 else b""
        if len(body) != size:
            raise ConnectionResetError("the client went away in the middle of a request")
        return body

    do_GET = do_POST = do_PUT = _handle
