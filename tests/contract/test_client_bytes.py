"""What CarsXE's clients put on the wire, replayed byte for byte through the gateway's event converter.

The npm and Python clients run unmodified in ``tests/e2e``; these are the ones that are not installed there.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request

from local.gateway import to_event
from service import endpoint, source
from tests.events import Invocation
from tests.fakes import BASE64, PHOTO, ROUTES, Service

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

URL = "https://photos.example/car%20one.jpg?signature=a%2Fb+c&x=1"


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing."""


@pytest.fixture
def send(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], tuple[int, Any]]]:
    """Sends raw bytes to a server that makes events of them, and gives back status and JSON of the answer."""

    def fetch(url: str, *, loopback: bool) -> bytes:
        assert url == URL
        return PHOTO

    monkeypatch.setattr(source, "fetch", fetch)

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        event = to_event(request, "$default", request.get_data())
        api = ROUTES[source.canonical_path(event["rawPath"])]
        response = endpoint.handle(event, Invocation(), api, lambda *args: service.recognise(api, *args))
        body = response["body"].encode()
        headers = {**response["headers"], "content-length": str(len(body)), "connection": "close"}
        start_response(f"{response['statusCode']} ", list(headers.items()))
        return [body]

    server = make_server("127.0.0.1", 0, application, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()

    def exchange(request: bytes) -> tuple[int, Any]:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(request)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)

    yield exchange
    server.shutdown()
    thread.join()
    server.server_close()


def request(target: str, headers: list[str], body: bytes, chunked: bool = False) -> bytes:
    """An HTTP/1.1 request, with its length or in one chunk."""
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    head = "\r\n".join([f"POST {target} HTTP/1.1", "Host: api.example", *headers, length, "", ""])
    return head.encode() + (b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body)


def go(path: str, key: str, image: str) -> bytes:
    """``encoding/json`` by an Encoder: a newline at the end, and ``&`` escaped."""
    body = json.dumps({"image": image}, separators=(",", ":")).replace("&", "\\u0026") + "\n"
    headers = ["User-Agent: Go-http-client/1.1", "Content-Type: application/json", "Accept-Encoding: gzip"]
    return request(f"{path}?key={key}&source=go", headers, body.encode())


def dotnet(path: str, key: str, image: str) -> bytes:
    """``System.Text.Json`` escapes what HTML might mind, ``+`` of base64 among it."""
    body = json.dumps({"image": image}, separators=(",", ":"))
    for character in "+&'<>":
        body = body.replace(character, f"\\u{ord(character):04X}")
    headers = ["Content-Type: application/json; charset=utf-8", "Accept: application/json"]
    return request(f"{path}?key={key}&source=c%23", headers, body.encode(), chunked=True)


def java(path: str, key: str, image: str) -> bytes:
    """``java.net.http`` asks for HTTP/2 first."""
    headers = [
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
        "User-Agent: Java-http-client/17.0.9",
        "Content-Type: application/json",
    ]
    return request(f"{path}?key={key}&source=java", headers, json.dumps({"image": image}).encode())


def php(path: str, key: str, image: str) -> bytes:
    """``json_encode`` escapes slashes."""
    body = json.dumps({"upload_url": image}, separators=(",", ":")).replace("/", "\\/")
    headers = ["User-Agent: GuzzleHttp/7", "Content-Type: application/json", "Accept: */*"]
    return request(f"{path}?key={key}&source=php", headers, body.encode())


def ruby(path: str, key: str, image: str) -> bytes:
    """``Net::HTTP``, with a key of its own spelling."""
    headers = [
        "Content-Type: application/json",
        "Accept-Encoding: gzip;q=1.0,deflate;q=0.6,identity;q=0.3",
        "Accept: */*",
        "User-Agent: Ruby",
    ]
    return request(f"{path}?key={key}&source=ruby", headers, json.dumps({"imageUrl": image}).encode())


def mcp(path: str, key: str, image: str) -> bytes:
    """The MCP servers' ``fetch``: the bare URL as text."""
    headers = [
        "connection: keep-alive",
        "content-type: text/plain;charset=UTF-8",
        "accept: */*",
        "accept-language: *",
        "sec-fetch-mode: cors",
        "user-agent: node",
    ]
    return request(f"{path}?key={key}&source=mcp", headers, image.encode())


def early_npm(path: str, key: str, image: str) -> bytes:
    """The key in the body."""
    body = json.dumps({"key": key, "image": image}, separators=(",", ":"))
    return request(path, ["Content-Type: application/json"], body.encode())


@pytest.mark.parametrize("client", [go, dotnet, java, php, ruby, mcp, early_npm])
@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("image", [URL, BASE64], ids=["url", "base64"])
def test_a_client(
    service: Service,
    send: Callable[[bytes], tuple[int, Any]],
    client: Callable[[str, str, str], bytes],
    path: str,
    image: str,
) -> None:
    key = service.key()
    status, answer = send(client(path, key, image))
    assert (status, answer["success"]) == (200, True)
    assert service.recognised == [(PHOTO, ())]
    assert all("box" in candidate for candidate in answer.get("candidates", ()))
