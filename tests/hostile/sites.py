"""Photo servers of this machine, with the habits of broken and of hostile ones."""

from __future__ import annotations

import gzip
import socketserver
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from random import Random

from tests.serving import in_background

SECONDS = 12.0
"""How long a server goes on; a fetch is given up after 8."""

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BLOCK = 256 * 1024

_kept: dict[str, bytes] = {}


def keep(photo: bytes) -> str:
    """Return the name under which the servers have ``photo`` from now on; the newest few are there."""
    name = sha256(photo).hexdigest()[:20]
    _kept[name] = photo
    while len(_kept) > 8:
        del _kept[next(iter(_kept))]
    return name


@cache
def _bomb() -> bytes:
    return gzip.compress(bytes(200_000_000), 1)


def _endless(start: bytes, again: bytes) -> Iterator[bytes]:
    yield start
    block = again * max(1, BLOCK // len(again))
    while True:
        yield block


def _dripping(start: bytes) -> Iterator[bytes]:
    yield start
    while True:
        time.sleep(0.2)
        yield b"x"


def _redirect(to: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode("latin-1", "replace")


def _malformed(chance: Random) -> bytes:
    """Return an answer that the standard forbids, or that two readers would read differently."""
    line = chance.choice(
        [
            "HTTP/1.1 200 OK",
            "HTTP/1.1 200",
            "HTTP/9.9 200 OK",
            "HTTP/1.1 2x0 OK",
            "HTTP/1.1 -1 OK",
            "HTTP/1.1 99999 OK",
            "ICY 200 OK",
            "",
            "\0" * 99,
            "200",
            "HTTP/1.1 204 No",
            "HTTP/1.1 304 No",
        ]
    )
    fields = [
        "Content-Length: 5",
        "Content-Length: +5",
        "Content-Length: 5, 5",
        "Content-Length: -1",
        "Content-Length: " + "9" * 30,
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length:",
        "Content-Length: " + "9" * 6000,
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunkedx",
        "Content-Encoding: gzip",
        "Content-Encoding: br",
        "Content-Encoding: deflate, gzip",
        "Content-Type: image/jpeg; " + "a=b; " * 900,
        "X : y",
        "X",
        ": y",
        " folded",
        "X: " + "x" * 70_000,
        "\r\n".join(["X: y"] * 150),
        'Content-Type: multipart/mixed; boundary="',
        "Content-Disposition: attachment; filename*=utf-8''%ff",
        "Set-Cookie: \xff\xfe\0",
        "Location: http://[",
        "Content-Type: text/plain; charset=\xe9",
    ]
    head = "\r\n".join([line, *chance.sample(fields, chance.randrange(4))])
    body = chance.choice(
        [
            b"hello",
            b"",
            b"5\r\nhello\r\n0\r\n\r\n",
            b"-5\r\nhello",
            b'5;x="\r\nhello\r\n0\r\n\r\n',
            b"ffffffffffffffff\r\nx",
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhel",
            b"1_0\r\n" + bytes(16),
            b" 5 \r\nhello\r\n0\r\n\r\n",
            b"5\r\nhelloXX0\r\n\r\n",
            gzip.compress(b"hello")[:-5],
        ]
    )
    return (head + chance.choice(["\r\n\r\n", "\n\n", "\r\n", "\r\r\n\n"])).encode(
        "latin-1", "replace"
    ) + body


Habit = Callable[[Random, str], "bytes | Iterator[bytes]"]

HABITS: dict[str, Habit] = {
    "malformed": lambda chance, _: _malformed(chance),
    "malformed-too": lambda chance, _: _malformed(chance),
    "broken": lambda chance, _: _broken(chance),
    "continue": lambda *_: _endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "continue-with-headers": lambda *_: _endless(
        b"", b"HTTP/1.1 102 Processing\r\n" + b"a: b\r\n" * 50 + b"\r\n"
    ),
    "headers": lambda *_: _endless(OK, b"X: y\r\n"),
    "long-header": lambda *_: _endless(OK + b"X: ", b"y"),
    "one-byte-chunks": lambda *_: _endless(CHUNKED, b"1\r\nx\r\n"),
    "chunk-extensions": lambda *_: _endless(CHUNKED, b"1;" + b"x" * 60_000 + b"\r\nx\r\n"),
    "empty-lines": lambda *_: _endless(CHUNKED, b"\r\n"),
    "trailers": lambda *_: _endless(CHUNKED + b"0\r\n", b"X: y\r\n"),
    "endless": lambda *_: _endless(OK + b"\r\n", b"\xff\xd8\xff"),
    "bomb": lambda *_: OK + b"Content-Encoding: gzip\r\n\r\n" + _bomb(),
    "deflate-bomb": lambda *_: OK + b"Content-Encoding: deflate\r\n\r\n" + zlib.compress(bytes(60_000_000)),
    "members": lambda *_: OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"") * 300_000,
    "too-long": lambda *_: OK + b"Content-Length: 99999999\r\n\r\n" + bytes(11_000_000),
    "too-short": lambda *_: OK + b"Content-Length: 999\r\n\r\nx",
    "nothing": lambda *_: b"",
    "to-itself": lambda chance, site: _redirect(f"{site}/to-itself/{chance.randrange(99)}"),
    "to-metadata": lambda *_: _redirect("http://169.254.169.254/latest/meta-data/"),
    "to-file": lambda chance, _: _redirect(
        chance.choice(
            [
                "file:///etc/passwd",
                "//[",
                "http://a..b/",
                "\x00",
                "",
                "http://" + "a" * 90,
                "?" * 3000,
                "javascript:x",
                "/\xff",
            ]
        )
    ),
    "to-next": lambda chance, site: _redirect(f"{site}/to-next/{chance.randrange(10**9)}"),
    "to-kept": lambda _, site: _redirect(f"{site}/kept/{next(reversed(_kept), '')}"),
    "to-two-places": lambda *_: OK.replace(b"200 OK", b"302 x") + b"Location: /a\r\nLocation: //[\r\n\r\n",
    "chunked": lambda chance, _: CHUNKED + b"".join(_chunks(chance)) + b"0\r\n\r\n",
    "packed": lambda chance, _: (
        OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(_photo()) + _rest(chance)
    ),
    "part-of-it": lambda *_: b"HTTP/1.1 206 x\r\nContent-Range: bytes 0-9/99\r\n\r\n" + _photo(),
    "without-a-head": lambda *_: _photo(),
    "twice": lambda *_: OK + b"Content-Length: 4\r\n\r\n\xff\xd8\xff\xd9" + OK + b"\r\n" + _photo(),
    "web-page": lambda *_: OK + b"Content-Type: text/html\r\n\r\n<!DOCTYPE html>",
    "drip": lambda *_: _dripping(OK + b"\r\n"),
}
SLOW = ("drip",)
"""Habits that take the 8 seconds of a fetch."""


def _photo() -> bytes:
    """Return the photo that was put there last."""
    return next(reversed(_kept.values()), b"")


def _rest(chance: Random) -> bytes:
    """Return what may follow an answer that is packed: nothing, noise, or zeros, a thousandfold packed."""
    return chance.choice([b"", chance.randbytes(99), gzip.compress(bytes(30_000_000), 9)])


def _chunks(chance: Random) -> Iterator[bytes]:
    """Yield that photo in pieces, whose lengths are written in every way that is allowed."""
    photo, at = _photo(), 0
    while at < len(photo):
        piece = photo[at : at + chance.choice([1, 100, 65_536, 1 << 20])]
        size = f"{len(piece):{chance.choice(['x', 'X', '08x'])}}".encode()
        yield size + chance.choice([b"", b";a=b", b';a="b"']) + b"\r\n" + piece + b"\r\n"
        at += len(piece)


def _broken(chance: Random) -> bytes:
    data = bytearray(_malformed(chance))
    for _ in range(chance.randrange(1, 9)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        asked = self.request.recv(8192).split(b" ")
        _, habit, rest = (
            [*asked[1].decode("latin-1").split("/", 2), "", ""][:3] if len(asked) > 1 else ("", "", "")
        )
        if habit == "kept":
            photo = _kept.get(rest, b"")
            answer: bytes | Iterator[bytes] = OK + f"Content-Length: {len(photo)}\r\n\r\n".encode() + photo
        elif habit in HABITS:
            address = f"http://127.0.0.1:{self.request.getsockname()[1]}"
            answer = HABITS[habit](Random(f"{habit}/{rest}"), address)
        else:
            answer = b"HTTP/1.1 404 Not Found\r\n\r\n"
        until = time.monotonic() + SECONDS
        for part in [answer] if isinstance(answer, bytes) else answer:
            self.request.sendall(part)
            if time.monotonic() > until:
                break


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, *_: object) -> None:
        """Whoever was sent this has hung up."""


@contextmanager
def serve() -> Iterator[str]:
    """Run the servers until the block is left; yield their address."""
    server = _Server(("127.0.0.1", 0), _Handler)
    with in_background(server):
        yield f"http://127.0.0.1:{server.socket.getsockname()[1]}"
