"""The clients for what every request or photo waits for: signatures, errors, connections."""

from __future__ import annotations

import io
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import botocore.auth
import botocore.credentials
import pytest
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as some

from carsight_service.aws import dynamo_client, failures, s3_client, signed
from carsight_service.aws.clients import Clients
from carsight_service.aws.dynamo_client import DynamoClient
from carsight_service.aws.failures import AnswerLost, NotSent, Refused, failure
from carsight_service.aws.s3_client import ObjectClient
from carsight_service.aws.signed import Credentials
from carsight_service.contract.api import Api
from carsight_service.metering.keyring import Keyring
from carsight_service.metering.meter_store import MeterStore

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "AWS_DEFAULT_REGION": "eu-central-1",
}


def client(url: str) -> DynamoClient:
    made = DynamoClient.from_environment(ENVIRONMENT | {"AWS_ENDPOINT_URL": url})
    assert made is not None
    return made


# -- the signature -------------------------------------------------------------------------------------------


@hypothesis(max_examples=200, deadline=None, derandomize=True)
@given(
    secret=some.text("abcXYZ019/+", min_size=1, max_size=60),
    token=some.just("") | some.text("abcXYZ019/+=", min_size=1, max_size=400),
    region=some.sampled_from(["us-east-1", "eu-central-1", "us-gov-west-1"]),
    url=some.sampled_from(["", "http://127.0.0.1:4566", "https://dynamodb.example:8443/"]),
    body=some.binary(max_size=300),
    moment=some.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),
    operation=some.sampled_from(["UpdateItem", "GetItem", "Query"]),
)
def test_a_call_is_signed_as_botocore_signs_it(
    secret: str, token: str, region: str, url: str, body: bytes, moment: datetime, operation: str
) -> None:
    environment = {
        "AWS_ACCESS_KEY_ID": "AKID",
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": region,
        "AWS_SESSION_TOKEN": token,
        "AWS_ENDPOINT_URL": url,
    }
    made = DynamoClient.from_environment(environment)
    assert made is not None
    ours = made._signed(operation, body, f"{moment:%Y%m%dT%H%M%SZ}")
    request = AWSRequest(
        "POST",
        url.rstrip("/") + "/" if url else f"https://dynamodb.{region}.amazonaws.com/",
        {"content-type": ours["content-type"], "x-amz-target": ours["x-amz-target"]},
        body,
    )
    keys = botocore.credentials.Credentials("AKID", secret, token or None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.auth.get_current_datetime", lambda: moment.replace(tzinfo=UTC))
        botocore.auth.SigV4Auth(keys, "dynamodb", region).add_auth(request)
    theirs = {name.lower(): value for name, value in request.headers.items()}
    assert {name: value for name, value in ours.items() if name != "host"} == theirs


KEYS = some.text(min_size=1, max_size=80) | some.text("/.~%+ ?#&=:@ü*'()", min_size=1, max_size=20)
"""Of objects, with what an address has to escape."""


def objects(url: str = "", most: int = 100, token: str = "", region: str = "eu-central-1") -> ObjectClient:
    environment = ENVIRONMENT | {
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_SESSION_TOKEN": token,
        "AWS_DEFAULT_REGION": region,
    }
    made = ObjectClient.from_environment(environment, most, Elsewhere)
    assert made is not None
    return made


class Elsewhere:
    """In the place of botocore's client."""

    def get_object(self, **wanted: str) -> Any:
        return {"elsewhere": wanted}


@hypothesis(max_examples=150, deadline=None, derandomize=True)
@given(
    key=KEYS.filter(lambda key: key.isprintable() or key.isascii()),
    version=some.just("") | some.text("abcXYZ019._-~/+= ", min_size=1, max_size=40),
    etag=some.sampled_from(["", '"9b2cf535f27731c974343645a3985328"', '"a-2"']),
    token=some.just("") | some.text("abcXYZ019/+=", min_size=1, max_size=400),
    region=some.sampled_from(["us-east-1", "eu-central-1", "us-gov-west-1"]),
    url=some.sampled_from(["", "http://127.0.0.1:4566", "https://objects.example:8443/"]),
    moment=some.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),
)
def test_an_object_is_requested_as_botocore_does(
    key: str, version: str, etag: str, token: str, region: str, url: str, moment: datetime
) -> None:
    """The address, the headers and the signature are those of botocore's own request."""
    wanted = {"Bucket": "photos", "Key": key} | ({"VersionId": version} if version else {})
    wanted |= {"IfMatch": etag} if etag else {}
    made = objects(url, token=token, region=region)
    host, target, headers = made._request(wanted)
    signed = made._service.signed("GET", target, headers, s3_client._NO_BODY, f"{moment:%Y%m%dT%H%M%SZ}")

    scheme = "http" if url.startswith("http:") else "https"
    request = AWSRequest("GET", f"{scheme}://{host.authority}{target}", {"if-match": etag} if etag else {})
    keys = botocore.credentials.Credentials(
        ENVIRONMENT["AWS_ACCESS_KEY_ID"], ENVIRONMENT["AWS_SECRET_ACCESS_KEY"], token or None
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.auth.get_current_datetime", lambda: moment.replace(tzinfo=UTC))
        botocore.auth.S3SigV4Auth(keys, "s3", region).add_auth(request)
    theirs = {name.lower(): value for name, value in request.headers.items()}
    assert {name: value for name, value in signed.items() if name != "host"} == theirs
    assert f"{scheme}://{host.authority}{target}" == botocore_address(url, region, wanted)


def botocore_address(url: str, region: str, wanted: dict[str, str]) -> str:
    """The address from which botocore's client, made as ``Clients`` makes it, would get an object."""
    client = _botocore_client(url, region)
    seen: list[str] = []

    def send(request: Any, **_: Any) -> AWSResponse:
        seen.append(request.url)
        return AWSResponse(request.url, 200, HTTPHeaders(), RawResponse(b""))

    client.meta.events.register_last("before-send.s3.GetObject", send, "send")
    client.get_object(**wanted)
    client.meta.events.unregister("before-send.s3.GetObject", unique_id="send")
    return seen[0]


@cache
def _botocore_client(url: str, region: str) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", region)
        patch.setenv("AWS_S3_US_EAST_1_REGIONAL_ENDPOINT", "regional")  # not the one of before 2019
        patch.setenv("AWS_ENDPOINT_URL_S3", url) if url else patch.delenv("AWS_ENDPOINT_URL", raising=False)
        return Clients().s3


class RawResponse(io.BytesIO):
    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


@pytest.mark.parametrize(
    "changed",
    [
        {"AWS_ACCESS_KEY_ID": ""},
        {"AWS_SECRET_ACCESS_KEY": ""},
        {"AWS_DEFAULT_REGION": ""},
        {"AWS_DEFAULT_REGION": "cn-north-1"},
        {"AWS_DEFAULT_REGION": "eusc-de-east-1"},
        {"AWS_PROFILE": "work"},
        {"AWS_USE_FIPS_ENDPOINT": "true"},
        {"HTTPS_PROXY": "http://proxy:3128"},
        {"https_proxy": "http://proxy:3128"},
        {"AWS_ENDPOINT_URL": "http://user@127.0.0.1:1/"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:1/path"},
    ],
)
def test_unusual_configurations_are_left_to_botocore(
    changed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert DynamoClient.from_environment(ENVIRONMENT) is not None
    assert DynamoClient.from_environment(ENVIRONMENT | changed) is None


def test_a_bypassed_proxy_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,.amazonaws.com")
    monkeypatch.delenv("no_proxy", raising=False)
    assert DynamoClient.from_environment(ENVIRONMENT | {"https_proxy": "http://proxy:3128"}) is not None
    local = ENVIRONMENT | {"HTTP_PROXY": "http://proxy:3128", "AWS_ENDPOINT_URL": "http://127.0.0.1:4566"}
    assert DynamoClient.from_environment(local) is not None
    monkeypatch.setenv("NO_PROXY", "localhost")
    assert DynamoClient.from_environment(local) is None


def test_an_unusual_region_is_left_to_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "cn-north-1")
    made = Clients()
    assert made.meters is made.metering


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(Credentials("AKID", "secret", "secret too"))


# -- against the embedded table ------------------------------------------------------------------------------


def test_both_clients_read_and_write_the_same(aws: str, table: str) -> None:
    clients = Clients()
    assert isinstance(clients.meters, DynamoClient)
    key, _ = Keyring(table, clients.metering).create(owner="owner@example.com", tier="pro")
    by_hand, by_botocore = MeterStore(table, clients.meters), MeterStore(table, clients.metering)
    assert by_hand.account(key) == by_botocore.account(key)
    with pytest.raises(Refused) as ours:
        clients.meters.update_item(TableName=table, Key={"pk": {"S": "a"}, "sk": {"S": "b"}}, **_NEVER)
    with pytest.raises(Exception) as theirs:
        clients.metering.update_item(TableName=table, Key={"pk": {"S": "a"}, "sk": {"S": "b"}}, **_NEVER)
    assert failure(ours.value) == failure(theirs.value)
    with pytest.raises(Refused) as ours:
        clients.meters.get_item(TableName="not-there", Key={"pk": {"S": "a"}})
    assert ours.value.code == "ResourceNotFoundException"
    by_hand.authorize(key, Api.PLATE)


_NEVER: dict[str, Any] = {
    "UpdateExpression": "SET x = :x",
    "ConditionExpression": "attribute_exists(y)",
    "ExpressionAttributeValues": {":x": {"S": "x"}},
    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
}


def test_both_clients_get_the_same_object(aws: str) -> None:
    clients = Clients()
    both: tuple[Any, Any] = clients.photos, clients.s3
    assert isinstance(clients.photos, ObjectClient)
    clients.s3.create_bucket(
        Bucket="photos-of-both", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    for key in ("a.jpg", "ä b+c%2F~*'(&=.jpg", "//..", "a?versionId=3#x", "x" * 1024):
        clients.s3.put_object(
            Bucket="photos-of-both", Key=key, Body=key.encode(), Metadata={"regions": "us-ca,de"}
        )
        ours, theirs = (client.get_object(Bucket="photos-of-both", Key=key) for client in both)
        assert ours["Body"].read() == theirs["Body"].read() == key.encode()
        told = ("ContentLength", "ETag", "Metadata")
        assert [ours[name] for name in told] == [theirs[name] for name in told]
        clients.s3.delete_object(Bucket="photos-of-both", Key=key)
    for wanted in ({"Key": "gone.jpg"}, {"Bucket": "nobody-s", "Key": "a.jpg"}):
        codes = []
        for client in both:
            with pytest.raises((Refused, ClientError)) as refused:
                client.get_object(**{"Bucket": "photos-of-both", **wanted})
            codes.append(failure(refused.value).code)
        assert codes[0] == codes[1]
    clients.s3.delete_bucket(Bucket="photos-of-both")


def test_both_clients_put_the_same_object_under_the_same_conditions(aws: str) -> None:
    clients = Clients()
    where: Any = {"Bucket": "photos-of-both", "Key": "ä b.jsonl"}
    clients.s3.create_bucket(
        Bucket="photos-of-both", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    for client in (clients.photos, clients.s3):
        put: Any = partial(client.put_object, **where)
        put(Body=b"one", IfNoneMatch="*")
        found: Any = clients.s3.get_object(**where)
        assert found["Body"].read() == b"one"
        for condition in ({"IfNoneMatch": "*"}, {"IfMatch": '"another"'}):
            with pytest.raises((Refused, ClientError)) as refused:
                put(Body=b"two", **condition)
            assert failure(refused.value).code == "PreconditionFailed"
        put(Body=b"two", IfMatch=found["ETag"])
        assert clients.s3.get_object(**where)["Body"].read() == b"two"
        clients.s3.delete_object(**where)
    clients.s3.delete_bucket(Bucket="photos-of-both")


# -- against a server that fails -----------------------------------------------------------------------------

Answer = Callable[[socket.socket], None]


def received(connection: socket.socket) -> bytes:
    """One request; its head and its JSON may come one after the other. A GET has no more than its head."""
    data = b""
    while not data.endswith(b"\r\n\r\n" if data[:4] == b"GET " else b"}") and (
        more := connection.recv(65536)
    ):
        data += more
    return data


@contextmanager
def server(*answers: Answer) -> Iterator[tuple[str, list[bytes]]]:
    """A server whose connections are handled by one of ``answers`` each; its address, and what it got."""
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for answer in answers:
                with suppress(OSError), listening.accept()[0] as connection:
                    got.append(received(connection))
                    answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", got
        listening.close()
        thread.join(5)


def answer(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def says(*answers: bytes) -> Answer:
    """Send the first of ``answers``, and each other one after another request; close the connection then."""

    def handle(connection: socket.socket) -> None:
        for number, sent in enumerate(answers):
            if number:
                received(connection)
            connection.sendall(sent)

    return handle


CONDITION = (
    b'{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException","Item":{"a":{"S":"b"}}}'
)


@pytest.mark.parametrize(
    ("status", "body", "code", "item", "is_answered"),
    [
        (400, CONDITION, "ConditionalCheckFailedException", {"a": {"S": "b"}}, True),
        (
            400,
            b'{"__type":"com.amazon.coral.service#ThrottlingException"}',
            "ThrottlingException",
            None,
            True,
        ),
        (500, b'{"__type":"x#InternalServerError","message":"?"}', "InternalServerError", None, False),
        (503, b"<html>busy</html>", "503", None, False),
        (403, b"[]", "403", None, True),
        (200, b"[]", "200", None, True),
    ],
)
def test_dynamodb_s_errors_are_raised(
    status: int, body: bytes, code: str, item: Any, is_answered: bool
) -> None:
    with server(says(answer(status, body))) as (url, _), pytest.raises(Refused) as refused:
        client(url).get_item(TableName="table")
    met = failure(refused.value)
    assert (met.code, met.item, met.is_sent, met.is_answered) == (code, item, True, is_answered)


def test_a_connection_is_reused_until_it_is_closed() -> None:
    closed = threading.Event()

    def twice(connection: socket.socket) -> None:
        says(answer(200, b'{"n":1}'), answer(200, b'{"n":2}'))(connection)
        connection.close()
        closed.set()

    with server(twice, says(answer(200, b'{"n":3}'))) as (url, got):
        made = client(url)
        assert [made.query(TableName="t")["n"] for _ in range(2)] == [1, 2]
        assert len(got) == 1
        assert closed.wait(5)  # else the third may be sent while it is being closed, and its answer is lost
        assert made.query(TableName="t")["n"] == 3
    assert got[0].startswith(b"POST / HTTP/1.1\r\n")
    assert got[0].endswith(b'{"TableName": "t"}')
    assert b"\r\nx-amz-target: DynamoDB_20120810.Query\r\n" in got[0]
    assert got[0].lower().count(b"\r\nhost:") == 1


def test_a_connection_closed_without_a_response_means_not_sent() -> None:
    with server(lambda connection: None) as (url, _), pytest.raises(NotSent) as error:
        client(url).query(TableName="t")
    assert not failure(error.value).is_sent


def test_a_refused_connection_means_not_sent() -> None:
    with pytest.raises(NotSent, match="ConnectionRefusedError"):
        client("http://127.0.0.1:9").query(TableName="t")


@pytest.mark.parametrize(
    "answered",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{",
        b"what?\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nwhat?\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: what?\r\n\r\n{}",
        answer(200, b"{}", f"x-amz-crc32: {zlib.crc32(b'{}') + 1}"),
    ],
)
def test_a_partial_response_is_lost(answered: bytes) -> None:
    with server(says(answered)) as (url, _), pytest.raises(AnswerLost) as error:
        client(url).query(TableName="t")
    met = failure(error.value)
    assert met.is_sent and not met.is_answered


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_responses_may_be_chunked_or_end_with_the_connection() -> None:
    pieces = CHUNKED + b'3;x=y\r\n{"n\r\n4\r\n":1}\r\n0\r\nx-late: 1\r\n\r\n'
    last = answer(200, b'{"n":2}', "Connection: close")
    to_the_end = b'HTTP/1.1 200 OK\r\n\r\n{"n":3}'
    with server(says(pieces, last), says(to_the_end), says(answer(200, b'{"n":4}'))) as (url, got):
        made = client(url)
        assert [made.query(TableName="t")["n"] for _ in range(4)] == [1, 2, 3, 4]
    assert len(got) == 3


def test_a_header_has_one_line() -> None:
    with server(says(answer(200, b"{}"))) as (url, _), pytest.raises(ValueError, match="more than one line"):
        signed.Host(url, 1, 1).exchange("GET", "/", {"if-match": "a\r\nx: y"})


def test_a_late_response_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamo_client, "READ_SECONDS", 0.05)
    done = threading.Event()

    def wait(connection: socket.socket) -> None:
        done.wait(5)

    with server(wait) as (url, _):
        with pytest.raises(AnswerLost, match="TimeoutError"):
            client(url).query(TableName="t")
        done.set()


def test_a_response_with_a_right_checksum_is_accepted() -> None:
    with server(says(answer(200, b"{}", f"x-amz-crc32: {zlib.crc32(b'{}')}"))) as (url, _):
        assert client(url).query(TableName="t") == {}


# -- objects -------------------------------------------------------------------------------------------------

WANTED = {"Bucket": "photos", "Key": "a b.jpg"}


@pytest.fixture
def no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carsight_service.aws.failures.time.sleep", lambda _: None)


def fault(status: int, code: str, *headers: str) -> bytes:
    """What S3 says in the place of an object: XML, in chunks."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>?</Message></Error>".encode()
    return b"\r\n".join(
        [
            f"HTTP/1.1 {status} Whatever".encode(),
            b"transfer-encoding: chunked",
            *map(str.encode, headers),
            b"",
            b"%x" % len(body),
            body,
            b"0",
            b"",
            b"",
        ]
    )


def test_a_second_object_uses_the_same_connection() -> None:
    twice = says(answer(200, b"one", "X-Amz-Meta-Regions: us-ca"), answer(200, b""))
    with server(twice) as (url, got):
        made = objects(url)
        first, second = made.get_object(**WANTED), made.get_object(**WANTED)
    assert len(got) == 1
    assert got[0].startswith(b"GET /photos/a%20b.jpg HTTP/1.1\r\n")
    assert (first["Body"].read(), first["ContentLength"], first["Metadata"]) == (
        b"one",
        3,
        {"regions": "us-ca"},
    )
    assert (second["Body"].read(), second["ContentLength"], second["Metadata"]) == (b"", 0, {})


@pytest.mark.parametrize("code", ["NoSuchKey", "AccessDenied", "PreconditionFailed", "InvalidObjectState"])
def test_s3_s_errors_are_raised(code: str) -> None:
    with server(says(fault(404, code), answer(200, b"another"))) as (url, got):
        made = objects(url)
        with pytest.raises(Refused) as refused:
            made.get_object(**WANTED)
        assert (failure(refused.value).code, refused.value.status) == (code, 404)
        assert made.get_object(**WANTED)["Body"].read() == b"another"
    assert len(got) == 1


@pytest.mark.parametrize(
    "first",
    [
        # It closes the connection then, and says so: else a next try may go out on it unseen.
        says(fault(503, "SlowDown", "connection: close")),
        says(fault(500, "InternalError", "connection: close")),
        says(fault(409, "ConditionalRequestConflict", "connection: close")),  # as where two write at once
        says(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"),
        lambda connection: None,
    ],
)
def test_a_fault_of_s3_is_retried(first: Answer, no_sleep: None) -> None:
    with server(first, says(answer(200, b"whole"))) as (url, _):
        assert objects(url).get_object(**WANTED)["Body"].read() == b"whole"
    with server(first, first, first) as (url, got):
        with pytest.raises((Refused, AnswerLost, NotSent)):
            objects(url).get_object(**WANTED)
        assert len(got) == failures.TRIES


@pytest.mark.parametrize("in_chunks", [False, True])
def test_a_too_large_object_is_not_read(in_chunks: bool) -> None:
    large = answer(200, b"x" * 5000)
    if in_chunks:
        large = (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1388\r\n" + b"x" * 5000 + b"\r\n0\r\n\r\n"
        )
    with server(says(large), says(answer(200, b"small"))) as (url, got):
        made = objects(url, most=100)
        found = made.get_object(**WANTED)
        assert found["ContentLength"] > 100
        assert len(found["Body"].read()) <= 101
        assert made.get_object(**WANTED)["Body"].read() == b"small"
    assert len(got) == 2  # what was left on the first connection is no answer to the next request


@pytest.mark.parametrize("code", ["PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed"])
def test_a_bucket_in_another_region_is_left_to_botocore(code: str) -> None:
    with server(says(fault(301, code))) as (url, got):
        made = objects(url)
        for _ in range(2):
            assert made.get_object(**WANTED) == {"elsewhere": WANTED}
    assert len(got) == 1


@pytest.mark.parametrize(
    "bucket", ["with.dots", "express--use1-az4--x-s3", "arn:aws:s3:::x", "Old_one", "a/b"]
)
def test_a_bucket_whose_name_is_no_host_is_left_to_botocore(bucket: str) -> None:
    assert objects().get_object(Bucket=bucket, Key="a") == {"elsewhere": {"Bucket": bucket, "Key": "a"}}


# -- over TLS ------------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for localhost that only whoever is told of it trusts, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "localhost.pem"
    form, how = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(made.public_bytes(form) + key.private_bytes(form, how, serialization.NoEncryption()))
    return path


@pytest.mark.parametrize(
    ("host", "is_trusted"), [("localhost", True), ("localhost", False), ("127.0.0.1", True)]
)
def test_an_untrusted_server_is_refused(
    certificate: Path, host: str, is_trusted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so is one whose certificate has another name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    if is_trusted:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    signed._trust.cache_clear()

    def serve(listening: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(listening.accept()[0], server_side=True) as connection:
            received(connection)
            connection.sendall(answer(200, b'{"n":1}'))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        made = client(f"https://{host}:{listening.getsockname()[1]}")
        if host == "localhost" and is_trusted:
            assert made.query(TableName="t") == {"n": 1}
        else:
            with pytest.raises(NotSent, match="SSLCertVerificationError"):
                made.query(TableName="t")
        thread.join(5)
    signed._trust.cache_clear()
