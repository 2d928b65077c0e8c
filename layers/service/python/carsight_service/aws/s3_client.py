"""S3's signed GET and PUT, for photos and for what children of batches have come to.

botocore takes 2 CPU-milliseconds for each, an eighth of what reading a small photo takes. This client knows
objects of buckets whose names go into an address as they are, in the deployment's region; any other is
botocore's to find.
"""

from __future__ import annotations

import hashlib
import io
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from carsight_service.aws.signed import Answer, Host, Refused, Service, repeated

CONNECT_SECONDS = 2.0
READ_SECONDS = 10.0

_NO_BODY = hashlib.sha256(b"").hexdigest()
_PLAIN_BUCKET = re.compile(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
"""Others have dots, which certificates do not cover, or are directory buckets, with sessions of their own."""

_ADDRESS = re.compile(r"[0-9.]+")
"""A host without a name, which no bucket's name can be put before."""

_METADATA = "x-amz-meta-"
_CONDITIONS = {"IfMatch": "if-match", "IfNoneMatch": "if-none-match"}
_CODE = re.compile(rb"<Code>(\w+)</Code>")
_ELSEWHERE = {"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "301", "307"}
"""S3's errors for a bucket of another region."""


class ObjectClient:
    """Objects in S3, safe to share between threads; ``others`` makes botocore's client where that is needed.

    Raises ``Refused``, ``NotSent`` or ``AnswerLost`` as well as botocore's errors, which
    ``signed.failure`` tells apart.
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
        """Make the client that ``environment`` describes; None where it takes botocore to understand it."""
        service = Service.of("s3", environment)
        return cls(service, most, others) if service else None

    def get_object(self, **wanted: str) -> Mapping[str, Any]:
        """Get an object, at once; one of more than ``most`` bytes without its body.

        Arguments and answer are botocore's: ``Bucket`` and ``Key``, perhaps ``VersionId`` and ``IfMatch``.
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
                said, content = response.headers, response.content
                return {
                    "Body": io.BytesIO(content),
                    "ContentLength": max(len(content), int(said.get("content-length", 0))),
                    "ETag": said.get("etag", ""),
                    "Metadata": {
                        name[len(_METADATA) :]: value
                        for name, value in said.items()
                        if name.startswith(_METADATA)
                    },
                }
        answer: Mapping[str, Any] = self._others().get_object(**wanted)
        return answer

    def put_object(self, **wanted: Any) -> None:
        """Put an object into a bucket of this region.

        Arguments are botocore's: ``Bucket``, ``Key`` and ``Body``, ``Metadata``, and ``IfMatch`` or
        ``IfNoneMatch``. It may be put twice, where the answer to the first was lost.
        """
        if self._is_ours(wanted["Bucket"]):
            self._exchange("PUT", wanted, wanted["Body"])
        else:
            self._others().put_object(**wanted)

    def _is_ours(self, bucket: str) -> bool:
        return _PLAIN_BUCKET.fullmatch(bucket) is not None and bucket not in self._elsewhere

    def _exchange(self, method: str, wanted: Mapping[str, Any], body: bytes = b"") -> Answer:
        payload = hashlib.sha256(body).hexdigest() if body else _NO_BODY
        host, target, headers = self._request(wanted["Bucket"], wanted, payload)

        def exchange() -> Answer:
            moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            signed = self._service.signed(method, target, headers, payload, moment)
            answer = host.exchange(method, target, signed, body, most=self._most)
            if answer.status != 200:
                named = _CODE.search(answer.content)
                raise Refused(named[1].decode() if named else str(answer.status), answer.status)
            return answer

        return repeated(exchange)

    def _request(
        self, bucket: str, wanted: Mapping[str, Any], payload: str = _NO_BODY
    ) -> tuple[Host, str, dict[str, str]]:
        """Return where to ask for an object, by which address there and with which headers."""
        url = urlsplit(self._service.url)
        target, name = f"/{quote(wanted['Key'], safe='/~')}", f"{bucket}."
        if _ADDRESS.fullmatch(url.hostname or ""):
            target, name = f"/{bucket}{target}", ""
        if "VersionId" in wanted:
            target += f"?versionId={quote(wanted['VersionId'], safe='')}"
        if name not in self._hosts:
            made = Host(f"{url.scheme}://{name}{url.netloc}", CONNECT_SECONDS, READ_SECONDS)
            self._hosts.setdefault(name, made)
        host = self._hosts[name]
        headers = {"host": host.authority, "x-amz-content-sha256": payload}
        headers |= {header: wanted[name] for name, header in _CONDITIONS.items() if name in wanted}
        headers |= {f"{_METADATA}{name}": value for name, value in wanted.get("Metadata", {}).items()}
        return host, target, headers
