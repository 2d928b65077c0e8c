"""The public API of a deployment, as commands call it."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from urllib3 import BaseHTTPResponse, PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError

from carsight_service.cli.installation import Installation
from carsight_service.cli.output import CommandError, NoAnswer
from carsight_service.contract.api import Api

AT_ONCE = 8
"""How many requests a command makes at the same time."""

_POLL_SECONDS = (0.25, 0.5, 1.0, 2.0)

_RETRIES = Retry(
    3, redirect=False, status_forcelist=(429, 502, 503, 504), raise_on_status=False, backoff_factor=0.5
)
"""A POST that may have arrived is not repeated, unless it has an ``Idempotency-Key``."""

_RETRIES_OF_ALL = _RETRIES.new(allowed_methods=None)


def add_caller(parser: argparse.ArgumentParser) -> None:
    """Add the option for the API key."""
    parser.add_argument(
        "--key", default=os.environ.get("CARSIGHT_KEY"), help="API key (default: $CARSIGHT_KEY)"
    )


def add_api(parser: argparse.ArgumentParser) -> None:
    """Add the option for what to read."""
    parser.add_argument(
        "--api",
        type=Api,
        choices=list(Api),
        default=Api.PLATE,
        metavar="|".join(Api),
        help="what to read (default: %(default)s)",
    )


def polls(patience: float = float("inf")) -> Iterator[None]:
    """Yield at growing intervals for ``patience`` seconds."""
    end, turn = time.monotonic() + patience, 0
    while time.monotonic() < end:
        yield
        time.sleep(_POLL_SECONDS[min(turn, len(_POLL_SECONDS) - 1)])
        turn += 1


class Client:
    """The public API of a deployment, called with one key. Safe to share between threads."""

    def __init__(self, installation: Installation, key: str | None) -> None:
        local = installation.resources.get("key") if installation.endpoint else None
        self._key = key or local
        if not self._key:
            raise CommandError("no API key: give --key or set CARSIGHT_KEY")
        self._url = installation.resource("url" if installation.endpoint else "API_URL").rstrip("/")
        self._http = PoolManager(maxsize=AT_ONCE, retries=_RETRIES, timeout=Timeout(connect=5, read=60))

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = "",
        *,
        token: str | None = None,
    ) -> dict[str, Any]:
        """Make one request and return the JSON of its 200.

        A POST with a ``token``, its ``Idempotency-Key``, is repeated if there is no response.

        Raises:
            CommandError: any other status; the text is the answer's message.
            NoAnswer: a status after which another attempt may succeed.
        """
        headers = {"x-api-key": self._key or "", "content-type": content_type, "idempotency-key": token}
        sent = {name: value for name, value in headers.items() if value}
        answer = self.send(method, f"{self._url}{path}", body, sent)
        payload: dict[str, Any] = {}
        with suppress(ValueError):
            payload = json.loads(answer.data)
        if answer.status != 200:
            details = " ".join(
                f"{payload[name].rstrip('.')}." for name in ("message", "detail") if name in payload
            )
            kind = NoAnswer if answer.status in _RETRIES.status_forcelist else CommandError
            raise kind(f"{path.partition('?')[0]} answered {answer.status}: {details}")
        return payload

    def send(
        self,
        method: str,
        url: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> BaseHTTPResponse:
        """Send a request to any address. Raises ``NoAnswer`` where there is none."""
        retries = _RETRIES_OF_ALL if "idempotency-key" in (headers or {}) else _RETRIES
        with _answering(url):
            return self._http.request(method, url, body=body, headers=headers, retries=retries)

    def send_form(
        self, url: str, form: bytes | Iterable[bytes], headers: Mapping[str, str]
    ) -> BaseHTTPResponse:
        """Send the form of an object to its bucket. Raises ``CommandError`` if the bucket refuses it."""
        answer = self.send("POST", url, form, headers)
        if answer.status not in (200, 201, 204):
            raise CommandError(f"the bucket answered {answer.status}")
        return answer

    def download(self, url: str, path: Path) -> None:
        """Write what is at ``url`` to ``path``, whole or not at all. Raises ``CommandError``."""
        part = path.with_name(f"{path.name}.part")
        with _answering(url), self._http.request("GET", url, preload_content=False) as answer:
            if answer.status != 200:
                raise CommandError(f"{url.partition('?')[0]} answered {answer.status}")
            try:
                with part.open("wb") as file:
                    for piece in answer.stream(1 << 20):
                        file.write(piece)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)


@contextmanager
def _answering(url: str) -> Iterator[None]:
    try:
        yield
    except HTTPError as error:
        raise NoAnswer(f"no answer from {url.partition('?')[0]}: {type(error).__name__}") from error
