"""Servers of the tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseServer


@contextmanager
def in_background(server: BaseServer) -> Iterator[None]:
    """Have ``server`` answer, in a thread of its own, until the block is left; it is closed then."""
    # By default a server looks every half a second whether it is to stop.
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def serving_photos(find: Callable[[str], bytes | None]) -> Iterator[str]:
    """Answer with what ``find`` makes of a path, 404 where that is None, until the block is left.

    Yields the address.
    """

    class Photos(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            photo = find(self.path)
            self.send_response(404 if photo is None else 200)
            self.send_header("content-type", "image/jpeg")
            self.send_header("content-length", str(len(photo or b"")))
            self.end_headers()
            self.wfile.write(photo or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Photos)
    with in_background(server):
        yield f"http://127.0.0.1:{server.server_port}"
