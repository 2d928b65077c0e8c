"""A local API Gateway: converts HTTP requests to events of payload format 2.0, and answers back to HTTP.

Routes and CORS rules are read from ``template.yaml``, so that they are those of a deployment. The limits are
AWS's: 10 MB for a request, 6 MB for Lambda. A larger one gets a 413, whose body differs from AWS's.
"""

from __future__ import annotations

import base64
import json
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Request

from carsight_service.aws.lambda_types import Event, Response
from carsight_service.contract.errors import ImageTooLarge, InvalidRequest
from carsight_service.http.responses import refuse, respond
from carsight_service.settings import Links
from local.functions import Handler, LambdaContext, import_handler

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

GATEWAY_BYTES = 10 * 1024 * 1024
LAMBDA_BYTES = 6 * 1024 * 1024
"""The largest event that Lambda accepts, including base64 and JSON."""

_DRAINED_BYTES = 64 * 1024 * 1024
"""How much of a refused body is still read, so that its sender receives the answer."""

_TEXT_TYPES = ("application/json", "application/javascript", "application/xml")


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    """How many seconds a caller may send nothing, as in API Gateway."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


def quiet_server(port: int, application: WSGIApplication) -> BaseWSGIServer:
    """Return a server for this machine that logs nothing: werkzeug's log lines would contain keys."""
    server = make_server("127.0.0.1", port, application, threaded=True, request_handler=_Quiet)
    # Accepting must not block, as a caller may have left by then. On macOS an accepted socket would not block
    # either if this timeout were 0.
    server.socket.settimeout(0.1)
    return server


@contextmanager
def serving(port: int, application: WSGIApplication) -> Iterator[str]:
    """Answer requests on ``port`` (0: any free one) within the block; yield the address."""
    server = quiet_server(port, application)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True, slots=True)
class Function:
    """The handler of a function of the template, and how long it may take."""

    handler: Handler
    seconds: float


class Gateway:
    """A WSGI application that behaves like the template's HTTP API.

    It also answers ``/healthz``, by ``is_ready``.
    """

    def __init__(self, template: dict[str, Any], is_ready: Callable[[], bool]) -> None:
        self._is_ready = is_ready
        self._routes: dict[tuple[str, str], Function] = {}
        seconds = template.get("Globals", {}).get("Function", {}).get("Timeout", 28)
        for resource in template["Resources"].values():
            if resource["Type"] != "AWS::Serverless::Function":
                continue
            properties = resource["Properties"]
            events = properties.get("Events", {}).values()
            routes = [event.get("Properties", {}) for event in events if event["Type"] == "HttpApi"]
            if not routes:
                continue
            function = Function(import_handler(resource), float(properties.get("Timeout", seconds)))
            for route in routes:
                key = (route.get("Method", "ANY").upper(), route.get("Path", "$default"))
                self._routes[key] = function
        api = next(r for r in template["Resources"].values() if r["Type"] == "AWS::Serverless::HttpApi")
        self._cors: dict[str, Any] = api["Properties"].get("CorsConfiguration", {})

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start = time.perf_counter()
        request = Request(environ)
        response = self._preflight(request) or self._answer(request)
        _print_line(request, response, time.perf_counter() - start)
        headers = [(name, str(value)) for name, value in response.get("headers", {}).items()]
        origin = request.headers.get("origin")
        if origin and request.method != "OPTIONS" and self._cors:
            headers += [("access-control-allow-origin", self._allowed(origin))]
            exposed = self._cors.get("ExposeHeaders")
            if exposed:
                headers += [("access-control-expose-headers", ",".join(exposed))]
        body = response.get("body") or ""
        encoded = base64.b64decode(body) if response.get("isBase64Encoded") else body.encode()
        start_response(str(response["statusCode"]) + " ", [*headers, ("content-length", str(len(encoded)))])
        return [encoded] if request.method != "HEAD" else []

    def _answer(self, request: Request) -> Response:
        if request.path == "/healthz":
            if self._is_ready():
                return respond(200, {"success": True, "status": "ready"})
            return respond(503, {"success": False, "status": "the embedded stores do not answer"})
        try:
            body = _read(request)
        except OSError:  # includes timeouts
            broken = InvalidRequest("The body is incomplete, or its chunked encoding is invalid")
            return refuse(broken, uuid.uuid4().hex[:16], Links())
        route, function = self._route(request.method, request.path)
        event = to_event(request, route, body or b"")
        if body is None or len(event["body"]) > LAMBDA_BYTES:
            return refuse(ImageTooLarge(), event["requestContext"]["requestId"], Links())
        try:
            return function.handler(event, LambdaContext.of(function.seconds))
        except Exception:
            # API Gateway's answer for a function that raises; handlers normally answer themselves.
            sys.excepthook(*sys.exc_info())
            return respond(500, {"message": "Internal Server Error"})

    def _route(self, method: str, path: str) -> tuple[str, Function]:
        """Return the most specific route, as API Gateway does: full path, variables, then ``$default``."""
        specific = sorted(self._routes.items(), key=lambda item: (item[0][1].count("{"), item[0][0] == "ANY"))
        for key, function in specific:
            if key[0] in (method, "ANY") and _matches(key[1], path):
                return f"{key[0]} {key[1]}", function
        return "$default", self._routes["ANY", "$default"]

    def _preflight(self, request: Request) -> Response | None:
        asked = request.headers.get("access-control-request-method")
        if request.method != "OPTIONS" or not asked or not self._cors:
            return None
        headers = {
            "access-control-allow-origin": self._allowed(request.headers.get("origin", "")),
            "access-control-allow-methods": ",".join(self._cors.get("AllowMethods", [])),
            "access-control-allow-headers": ",".join(self._cors.get("AllowHeaders", [])),
            "access-control-max-age": str(self._cors.get("MaxAge", 0)),
        }
        return {"statusCode": 204, "headers": headers, "body": ""}

    def _allowed(self, origin: str) -> str:
        origins = self._cors.get("AllowOrigins", [])
        return "*" if "*" in origins else origin if origin in origins else ""


def _print_line(request: Request, response: Response, seconds: float) -> None:
    """Print one line for people, without the query, which may contain a key, and without readings."""
    if request.path == "/healthz":
        return
    code = ""
    if response["statusCode"] >= 400:
        code = json.loads(response["body"]).get("code", "")
    now = datetime.now().astimezone()
    # Control characters, which a terminal would obey, are not printed.
    path = "".join(character if character.isprintable() else "?" for character in request.path[:80])
    answered = f"{response['statusCode']} {seconds * 1000:5.0f} ms {code}".rstrip()
    print(f"{now:%H:%M:%S} {request.method:4} {path} {answered}", flush=True)


def to_event(request: Request, route: str, body: bytes) -> Event:
    """Return the event (payload format 2.0) of ``request``; ``body`` is base64 unless its type is text."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        name = name.lower()
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    path = str(request.environ.get("REQUEST_URI", request.path)).partition("?")[0]
    now = datetime.now(UTC)
    text = request.mimetype.startswith("text/") or request.mimetype in _TEXT_TYPES
    return {
        "version": "2.0",
        "routeKey": route,
        "rawPath": path,
        "rawQueryString": request.query_string.decode("ascii", "replace"),
        "headers": headers,
        "queryStringParameters": {name: ",".join(values) for name, values in request.args.lists()},
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "local",
            "domainName": request.host,
            "http": {
                "method": request.method,
                "path": path,
                "protocol": request.environ.get("SERVER_PROTOCOL", "HTTP/1.1"),
                "sourceIp": request.remote_addr or "127.0.0.1",
                "userAgent": request.headers.get("user-agent", ""),
            },
            "requestId": uuid.uuid4().hex[:16],
            "routeKey": route,
            "stage": "$default",
            "time": now.strftime("%d/%b/%Y:%H:%M:%S %z"),
            "timeEpoch": int(now.timestamp() * 1000),
        },
        "body": body.decode("utf-8", "replace") if text else base64.b64encode(body).decode("ascii"),
        "isBase64Encoded": not text,
    }


def _read(request: Request) -> bytes | None:
    """Return the body, or None if it exceeds the gateway's limit."""
    body = request.stream.read(GATEWAY_BYTES + 1)
    if len(body) <= GATEWAY_BYTES:
        return body
    rest = _DRAINED_BYTES
    while rest > 0 and (chunk := request.stream.read(1 << 16)):
        rest -= len(chunk)
    return None


def _matches(pattern: str, path: str) -> bool:
    """Whether API Gateway's route ``pattern`` (``/a/{x}``, ``/a/{rest+}``) matches ``path``."""
    wanted, given = pattern.split("/"), path.split("/")
    if wanted[-1].endswith("+}"):
        wanted, given = wanted[:-1], given[: len(wanted) - 1] if len(given) >= len(wanted) else []
    return len(wanted) == len(given) and all(
        (part.startswith("{") and piece != "") or part == piece
        for part, piece in zip(wanted, given, strict=True)
    )
