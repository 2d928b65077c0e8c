"""S3's signed GET, for the photos of uploads and of batches.

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
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from carsight_service.aws.signed import Host, Refused, Service, repeated

CONNECT_SECONDS = 2.0
READ_SECONDS = 10.0

_NO_BODY = hashlib.sha256(b"").hexdigest()
_PLAIN_BUCKET = re.compile(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
"""Others have dots, which certificates do not cover, or are directory buckets, with sessions of their own."""

_ADDRESS = re.compile(r"[0-9.]+")
"""A host without a name, which no bucket's name can be put before."""

_METADATA = "x-amz-meta-"
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
        if _PLAIN_BUCKET.fullmatch(bucket) and bucket not in self._elsewhere:
            try:
                return repeated(partial(self._got, *self._request(bucket, wanted)))
            except Refused as error:
                if error.code not in _ELSEWHERE:
                    raise
            self._elsewhere.add(bucket)
        answer: Mapping[str, Any] = self._others().get_object(**wanted)
        return answer

    def _request(self, bucket: str, wanted: Mapping[str, str]) -> tuple[Host, str, dict[str, str]]:
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
        headers = {"host": host.authority, "x-amz-content-sha256": _NO_BODY}
        return host, target, headers | ({"if-match": wanted["IfMatch"]} if "IfMatch" in wanted else {})

    def _got(self, host: Host, target: str, headers: Mapping[str, str]) -> dict[str, Any]:
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        signed = self._service.signed("GET", target, headers, _NO_BODY, moment)
        response, content = host.exchange("GET", target, signed, most=self._most)
        if response.status != 200:
            named = _CODE.search(content)
            raise Refused(named[1].decode() if named else str(response.status), response.status)
        said = {name.lower(): value for name, value in response.getheaders()}
        return {
            "Body": io.BytesIO(content),
            "ETag": said.get("etag", ""),
            "ContentLength": max(len(content), int(said.get("content-length", 0))),
            "Metadata": {
                name[len(_METADATA) :]: value for name, value in said.items() if name.startswith(_METADATA)
            },
        }
