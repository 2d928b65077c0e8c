"""Signed GET and PUT requests to S3, for photos and for the outcomes of batches.

botocore takes 2 CPU-milliseconds for each, an eighth of reading a small photo. This client handles buckets in
the deployment's region whose names can be host names; all others are left to botocore.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from carsight_service.aws.failures import Refused, repeated
from carsight_service.aws.signed import Host, Response, Service

CONNECT_SECONDS = 2.0
READ_SECONDS = 10.0

_NO_BODY = hashlib.sha256(b"").hexdigest()
_PLAIN_BUCKET = re.compile(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
"""Other names have dots, which certificates do not cover, or are directory buckets, which need sessions."""

_ADDRESS = re.compile(r"[0-9.]+")
"""An IP address, which cannot be prefixed with a bucket's name."""

_METADATA = "x-amz-meta-"
_CONDITIONS = {"IfMatch": "if-match", "IfNoneMatch": "if-none-match"}
_CODE = re.compile(rb"<Code>(\w+)</Code>")
_ELSEWHERE = {"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "301", "307"}
"""S3's errors for a bucket of another region."""


class ObjectClient:
    """Objects in S3, safe to share between threads; ``others()`` is botocore's client for all other buckets.

    Raises ``Refused``, ``NotSent``, ``AnswerLost`` or botocore's errors, all of which ``failure`` accepts.
    """

    def __init__(self, service: Service, most: int, others: Callable[[], Any]) -> None:
        self._service = service
        self._most = most
        self._others = others
        self._hosts: dict[str, Host] = {}
        self._elsewhere: set[str] = set()

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str], most: int, others: Callable[[], Any]
    ) -> ObjectClient | None:
        """Return the client that ``environment`` describes; None if only botocore supports it."""
        service = Service.of("s3", environment)
        return cls(service, most, others) if service else None

    def get_object(self, **wanted: str) -> Mapping[str, Any]:
        """Get an object in one piece; one of more than ``most`` bytes without its body.

        Arguments and result are botocore's: ``Bucket`` and ``Key``, optionally ``VersionId`` and ``IfMatch``.
        """
        bucket = wanted["Bucket"]
        if self._is_ours(bucket):
            try:
                response = self._exchange("GET", wanted)
            except Refused as error:
                if error.code not in _ELSEWHERE:
                    raise
                self._elsewhere.add(bucket)
            else:
                headers, content = response.headers, response.content
                return {
                    "Body": io.BytesIO(content),
                    "ContentLength": max(len(content), int(headers.get("content-length", 0))),
                    "ETag": headers.get("etag", ""),
                    "Metadata": {
                        name[len(_METADATA) :]: value
                        for name, value in headers.items()
                        if name.startswith(_METADATA)
                    },
                }
        answer: Mapping[str, Any] = self._others().get_object(**wanted)
        return answer

    def put_object(self, **wanted: Any) -> Mapping[str, Any]:
        """Put an object into a bucket.

        Arguments and result are botocore's: ``Bucket``, ``Key`` and ``Body``, and ``IfMatch`` or
        ``IfNoneMatch``. The object may be written twice if the first response is lost.
        """
        if self._is_ours(wanted["Bucket"]):
            return {"ETag": self._exchange("PUT", wanted, wanted["Body"]).headers.get("etag", "")}
        answer: Mapping[str, Any] = self._others().put_object(**wanted)
        return answer

    def _is_ours(self, bucket: str) -> bool:
        return _PLAIN_BUCKET.fullmatch(bucket) is not None and bucket not in self._elsewhere

    def _exchange(self, method: str, wanted: Mapping[str, Any], body: bytes = b"") -> Response:
        """Return the 200 to a request, which is repeated as by ``repeated``. Raises as the class says."""
        payload = hashlib.sha256(body).hexdigest() if body else _NO_BODY
        host, target, headers = self._request(wanted, payload)

        def exchange() -> Response:
            signed = self._service.signed(method, target, headers, payload)
            answer = host.exchange(method, target, signed, body, most=self._most)
            if answer.status != 200:
                named = _CODE.search(answer.content)
                raise Refused(named[1].decode() if named else str(answer.status), answer.status)
            return answer

        return repeated(exchange)

    def _request(
        self, wanted: Mapping[str, Any], payload: str = _NO_BODY
    ) -> tuple[Host, str, dict[str, str]]:
        """Return the host, target and headers of a request for an object, before they are signed.

        ``wanted`` are botocore's arguments, ``payload`` is the SHA-256 of the body in hex.
        """
        url, bucket = urlsplit(self._service.url), wanted["Bucket"]
        target, subdomain = f"/{quote(wanted['Key'], safe='/~')}", f"{bucket}."
        if _ADDRESS.fullmatch(url.hostname or ""):
            target, subdomain = f"/{bucket}{target}", ""
        if "VersionId" in wanted:
            target += f"?versionId={quote(wanted['VersionId'], safe='')}"
        if subdomain not in self._hosts:
            made = Host(f"{url.scheme}://{subdomain}{url.netloc}", CONNECT_SECONDS, READ_SECONDS)
            self._hosts.setdefault(subdomain, made)
        host = self._hosts[subdomain]
        headers = {"host": host.authority, "x-amz-content-sha256": payload}
        headers |= {header: wanted[name] for name, header in _CONDITIONS.items() if name in wanted}
        return host, target, headers
