"""What tests call a function with: API Gateway events as the gateway makes them, and an invocation."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

MULTIPART = "multipart/form-data; boundary=XyZ"


def event(
    body: str | bytes = "",
    content_type: str | None = "application/json",
    query: str = "",
    path: str = "/platerecognition",
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return an event of an HTTP API (payload format 2.0): text as it is, bytes as base64."""
    declared = {} if content_type is None else {"content-type": content_type}
    binary = isinstance(body, bytes)
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {**declared, **(headers or {})},
        "requestContext": {"requestId": "id-1", "http": {"method": method, "path": path}},
        "body": base64.b64encode(body).decode() if isinstance(body, bytes) else body,
        "isBase64Encoded": binary,
    }


def form(*parts: tuple[str, str | bytes], boundary: str = "XyZ", end: str = "\r\n") -> bytes:
    """Return a ``multipart/form-data`` body; bytes are sent as a file."""
    body = b""
    for name, value in parts:
        head = f'--{boundary}{end}Content-Disposition: form-data; name="{name}"'
        if isinstance(value, bytes):
            head += f'; filename="photo.jpg"{end}Content-Type: image/jpeg'
        content = value if isinstance(value, bytes) else value.encode()
        body += f"{head}{end}{end}".encode() + content + end.encode()
    return body + f"--{boundary}--{end}".encode()


class Invocation:
    """A Lambda invocation that has ``milliseconds`` to go."""

    aws_request_id = "invocation-1"

    def __init__(self, milliseconds: int = 28_000) -> None:
        self._milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self._milliseconds
