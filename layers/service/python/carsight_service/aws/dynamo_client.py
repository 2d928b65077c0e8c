"""Signed requests to DynamoDB, for the calls that every request waits for.

The client has the operations that meters, leases and batches need, with botocore's arguments and results.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from functools import partial
from typing import Any

from carsight_service.aws.failures import AnswerLost, Refused, repeated
from carsight_service.aws.signed import Host, Service

CONNECT_SECONDS = 1.0
READ_SECONDS = 5.0

_CONTENT_TYPE = "application/x-amz-json-1.0"
_TARGET = "DynamoDB_20120810."


class DynamoClient:
    """DynamoDB in one region, safe to share between threads.

    Calls raise ``Refused``, ``NotSent`` or ``AnswerLost``, within seconds. With ``tries`` of 1, no write is
    repeated: one without a response may have been carried out.
    """

    def __init__(self, service: Service, tries: int) -> None:
        self._service = service
        self._tries = tries
        self._host = Host(service.url, CONNECT_SECONDS, READ_SECONDS)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], tries: int = 1) -> DynamoClient | None:
        """Return the client that ``environment`` describes; None if only botocore supports it."""
        service = Service.of("dynamodb", environment)
        return cls(service, tries) if service else None

    def update_item(self, **arguments: Any) -> dict[str, Any]:
        """Call ``UpdateItem``."""
        return self._call("UpdateItem", arguments)

    def get_item(self, **arguments: Any) -> dict[str, Any]:
        """Call ``GetItem``."""
        return self._call("GetItem", arguments)

    def query(self, **arguments: Any) -> dict[str, Any]:
        """Call ``Query``."""
        return self._call("Query", arguments)

    def put_item(self, **arguments: Any) -> dict[str, Any]:
        """Call ``PutItem``."""
        return self._call("PutItem", arguments)

    def delete_item(self, **arguments: Any) -> dict[str, Any]:
        """Call ``DeleteItem``."""
        return self._call("DeleteItem", arguments)

    def _call(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return repeated(partial(self._call_once, operation, arguments), self._tries)

    def _call_once(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(arguments).encode()
        response = self._host.exchange("POST", "/", self._signed(operation, body), body)
        checksum = response.headers.get("x-amz-crc32")
        if checksum and checksum != str(zlib.crc32(response.content)):
            raise AnswerLost("checksum")
        try:
            answer = json.loads(response.content)
        except ValueError:
            answer = {}
        if response.status == 200 and isinstance(answer, dict):
            return answer
        name = answer.get("__type", "") if isinstance(answer, dict) else ""
        code = name.rpartition("#")[2] or str(response.status)
        raise Refused(code, response.status, answer.get("Item") if name else None)

    def _signed(self, operation: str, body: bytes, moment: str | None = None) -> dict[str, str]:
        """Return the headers of a call, including its signature at ``moment``, as ``Service.signed`` does."""
        headers = {
            "content-type": _CONTENT_TYPE,
            "host": self._host.authority,
            "x-amz-target": _TARGET + operation,
        }
        return self._service.signed("POST", "/", headers, hashlib.sha256(body).hexdigest(), moment)
