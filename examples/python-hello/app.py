"""A service in Python on standard `wasi:http`: it knows nothing of the host that runs it.

`GET /` greets, `POST /echo` sends the body back. All other modules (`wit_world`, `componentize_py_types`)
are generated from `wit/` by componentize-py; imports must be at the top, since modules load at build time.
"""

import json
import platform
import sys
import traceback
from collections.abc import Callable
from urllib.parse import urlsplit

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import (
    Fields,
    IncomingBody,
    IncomingRequest,
    Method_Get,
    Method_Post,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)

READ_SIZE = 64 * 1024
# `blocking-write-and-flush` traps on more.
WRITE_SIZE = 4096


class Answer(Exception):
    """A status to end the request with, for what is the caller's fault."""

    def __init__(self, status: int, message: str, headers: list[tuple[str, str]] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or []


Reply = tuple[int, list[tuple[str, str]], bytes]


def hello(_request: IncomingRequest) -> Reply:
    body = {"message": "Hello from Python in a sandbox", "python": platform.python_version()}
    return json_reply(200, body)


def echo(request: IncomingRequest) -> Reply:
    content_type = b"".join(request.headers().get("content-type")[:1]).decode("latin-1")
    body = read_body(request)
    headers = [("content-type", content_type or "application/octet-stream"), ("x-body-length", str(len(body)))]
    return 200, headers, body


ROUTES: dict[str, tuple[type, str, Callable[[IncomingRequest], Reply]]] = {
    "/": (Method_Get, "GET", hello),
    "/echo": (Method_Post, "POST", echo),
}


class IncomingHandler(exports.IncomingHandler):
    """The export: one call is one request."""

    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        # An exception that leaves this method aborts the instance, so that the caller gets no reason.
        try:
            status, headers, body = route(request)
        except Answer as answer:
            status, headers, body = json_reply(answer.status, {"error": str(answer)}, answer.headers)
        except Exception:
            traceback.print_exc(file=sys.stderr)
            status, headers, body = json_reply(500, {"error": "the service failed; its log has the reason"})
        send(response_out, status, headers, body)


def route(request: IncomingRequest) -> Reply:
    path = urlsplit(request.path_with_query() or "/").path
    if path not in ROUTES:
        raise Answer(404, f"no route {path!r}; there are {', '.join(ROUTES)}")
    method, name, action = ROUTES[path]
    if not isinstance(request.method(), method):
        raise Answer(405, f"{path} takes {name}", [("allow", name)])
    return action(request)


def read_body(request: IncomingRequest) -> bytes:
    body = request.consume()
    received = bytearray()
    # The stream is a child of the body: it has to be gone before the body is finished.
    with body.stream() as stream:
        while True:
            try:
                received += stream.blocking_read(READ_SIZE)
            except Err as error:
                if isinstance(error.value, StreamError_Closed):
                    break
                raise Answer(400, f"the body could not be read: {error.value.value.to_debug_string()}") from error
    IncomingBody.finish(body)
    return bytes(received)


def json_reply(status: int, value: object, headers: list[tuple[str, str]] | None = None) -> Reply:
    return status, [("content-type", "application/json"), *(headers or [])], json.dumps(value).encode()


def send(response_out: ResponseOutparam, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
    fields = [(name, value.encode("latin-1")) for name, value in headers]
    response = OutgoingResponse(Fields.from_list([*fields, ("content-length", str(len(body)).encode())]))
    response.set_status_code(status)
    outgoing = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    try:
        with outgoing.write() as stream:
            for start in range(0, len(body), WRITE_SIZE):
                stream.blocking_write_and_flush(body[start : start + WRITE_SIZE])
        OutgoingBody.finish(outgoing, None)
    except Err as error:
        # Too late for another status: the caller left, or takes too long.
        print(f"the answer was not sent in full: {error.value}", file=sys.stderr)
