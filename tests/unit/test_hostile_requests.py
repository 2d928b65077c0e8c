"""Requests made to cost time or memory, or to be no text at all: bounded, and answered in the envelope."""

from __future__ import annotations

import base64
import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as some

from carsight_service import images
from carsight_service.contract.errors import InvalidImage, InvalidRequest
from carsight_service.http.multipart import MAX_HEAD_BYTES, MAX_PARTS
from carsight_service.http.plate_options import PlateOptions
from carsight_service.http.request import MAX_FIELDS, parse_request
from carsight_service.images import Base64Source, BytesSource, UnusableSource, percent_decoded
from tests.events import MULTIPART, event, form
from tests.unit.test_source import load

SIZE = 6_000_000
"""What Lambda takes of an event."""

FORM = "application/x-www-form-urlencoded"


def part(head: bytes, content: bytes = b"x") -> bytes:
    return b"--XyZ\r\n" + head + b"\r\n\r\n" + content + b"\r\n--XyZ--\r\n"


HOSTILE: dict[str, Callable[[int], dict[str, Any]]] = {
    "a header of very many parameters": lambda n: event(
        part(b"Content-Disposition: form-data" + b"; a=b" * (n // 5)), MULTIPART
    ),
    "a header of one parameter in very many pieces": lambda n: event(
        part(b"Content-Disposition: form-data" + b"".join(b"; n*%d=x" % i for i in range(n // 9))), MULTIPART
    ),
    "quotes that do not end": lambda n: event(
        part(b"Content-Disposition: form-data" + b';a="\\"' * (n // 6)), MULTIPART
    ),
    "very many headers": lambda n: event(part(b"a: b\r\n" * (n // 6)), MULTIPART),
    "very many parts": lambda n: event(b"--XyZ\r\n\r\n\r\n" * (n // 11), MULTIPART),
    "very many boundaries": lambda n: event(b"\n--X" * (n // 4), "multipart/form-data; boundary=X"),
    "a content type of very many parameters": lambda n: event(
        b"x", "multipart/form-data" + ";a=b" * (n // 4)
    ),
    "a form of very many fields": lambda n: event("a&" * (n // 2), FORM),
    "a form of escapes": lambda n: event("image=" + "%ff" * (n // 3), FORM),
    "a form of escapes, each for itself": lambda n: event("image=" + "%ffa" * (n // 4), FORM),
    "a query of very many fields": lambda n: event("{}", query="a&" * (n // 2)),
    "very many regions": lambda n: event("{}", query="regions=" + "," * n),
    "regions in JSON": lambda n: event(json.dumps({"regions": ["x"] * (n // 5)})),
    "very many images": lambda n: event(json.dumps({"image": [""] * (n // 4)})),
    "deep JSON": lambda n: event('{"image": ' + "[" * n),
    "JSON of very many objects": lambda n: event('{"image": [' + '{"":0},' * (n // 7) + "0]}"),
    "JSON of very many members": lambda n: event("{" + ",".join(f'"{i}":1' for i in range(n // 11)) + "}"),
    "base64 of blanks": lambda n: event("A " * (n // 2), "text/plain"),
    "a data address of escapes": lambda n: event("data:," + "%ff" * (n // 3), "text/plain"),
    "a configuration of very many objects, as text": lambda n: event(
        "image=x&config=[" + "{}," * (n // 3) + "0]", FORM
    ),
    "digits": lambda n: event('{"image": ' + "9" * n + "}"),
}


def taken_apart(sent: dict[str, Any]) -> None:
    """Everything of a request, as far as it goes."""
    try:
        request = parse_request(sent)
        _ = request.key, request.regions, request.camera_id, request.fingerprint(), request.plate_options
        if isinstance(request.source, Base64Source | BytesSource):
            load(request.source)
    except (InvalidRequest, InvalidImage):
        pass


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE.keys())
def test_parsing_takes_linear_time(make: Callable[[int], dict[str, Any]]) -> None:
    spent = []
    for size in (SIZE // 8, SIZE):
        sent = make(size)
        start = time.process_time()
        taken_apart(sent)
        spent.append(time.process_time() - start)
    assert spent[1] < 2
    assert spent[1] < 0.05 or spent[1] < 30 * spent[0]  # eight times the size


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE.keys())
def test_parsing_takes_a_few_times_the_request_s_memory(make: Callable[[int], dict[str, Any]]) -> None:
    sent = make(SIZE // 4)
    tracemalloc.start()
    try:
        taken_apart(sent)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 300_000_000 / 4


def test_matching_formats_takes_negligible_time() -> None:
    options = PlateOptions.of({"text_formats": ["[0-z]{0,9}" * 5 + "a"] * 20}, (), ())
    start = time.process_time()
    for _ in range(36 * 5):  # a photo full of plates, and of candidates
        assert not any(one.fullmatch("abcdefgh12") for one in options.text_formats)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    ("sent", "bound"),
    [
        (event("&".join(["image=x"] * (MAX_FIELDS + 1)), FORM), MAX_FIELDS),
        (event("{}", query="&".join(["a=b"] * (MAX_FIELDS + 1))), MAX_FIELDS),
        (event(form(*[("a", "b")] * (MAX_PARTS + 1)), MULTIPART), MAX_PARTS),
        (event(part(b"A: " + b"b" * MAX_HEAD_BYTES, b"x" * MAX_HEAD_BYTES), MULTIPART), MAX_HEAD_BYTES),
    ],
)
def test_exceeded_limits_are_named(sent: dict[str, Any], bound: int) -> None:
    with pytest.raises(InvalidRequest, match=str(bound)):
        _ = parse_request(sent).source


def test_objects_and_lists_next_to_a_photo_are_bounded() -> None:
    photo = base64.b64encode(bytes(6000)).decode()
    for extra in ("[" + "[]," * 9000 + "0]", "[" + "[]," * 11_000 + "0]"):
        source = parse_request(event(f'{{"image": "{photo}", "x": {extra}}}')).source
        assert isinstance(source, Base64Source) is (len(extra) < 30_000)
        if isinstance(source, UnusableSource):
            assert "too many objects" in source.detail


def test_everything_up_to_the_limits_is_accepted() -> None:
    body = form(*[("a", "b")] * (MAX_PARTS - 1), ("upload", b"photo"))
    assert parse_request(event(body, MULTIPART)).source == BytesSource(b"photo")
    assert parse_request(event("&".join(["a=b"] * (MAX_FIELDS - 1) + ["image=x"]), FORM)).source is not None


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Disposition: form-data; name*=utf-8''upload; filename=a.jpg",
        b"Content-Disposition: form-data; name*=UTF-8'en'%75pload; filename=a.jpg",
        b'Content-Disposition: form-data; name="upl\\oad"; filename="a\\"b;c.jpg"',
        b'Content-Disposition: form-data; filename="";name="upload"',
        b'Content-Disposition:\r\n form-data;\r\n\tname="upload"; filename=a',
        b"CONTENT-DISPOSITION: form-data; NAME = upload ; FileName = a",
        b"Content-Disposition: form-data; name=upload\r\nContent-Type: Image/JPEG",
        b"Content-Disposition: form-data; name*=latin-9''x; name=upload; filename=a",
        b"Content-Disposition: form-data; name=upload; filename*=utf-8''%ff%",
    ],
)
def test_every_notation_of_a_part_s_name_is_read(head: bytes) -> None:
    assert parse_request(event(part(head, b"photo"), MULTIPART)).source == BytesSource(b"photo")


SURROGATES = some.text(some.characters(codec=None, categories=None), max_size=20) | some.just("\ud800")


@hypothesis(max_examples=300, deadline=None, derandomize=True)
@given(
    some.dictionaries(
        some.sampled_from(["content-type", "x-api-key", "authorization", "idempotency-key", "X"]),
        SURROGATES | some.none() | some.integers(),
    ),
    SURROGATES,
    SURROGATES | some.none(),
    SURROGATES | some.none() | some.integers(),
    some.booleans(),
)
def test_bytes_that_are_not_text_are_handled(
    headers: dict[str, Any], path: str, query: str | None, body: Any, encoded: bool
) -> None:
    sent = {
        "headers": headers,
        "rawPath": path,
        "rawQueryString": query,
        "body": body,
        "isBase64Encoded": encoded,
        "requestContext": {"requestId": path, "http": {"method": path}},
    }
    request = parse_request(sent)
    _ = request.key, request.source, request.fingerprint()
    for text in (request.path, request.method, request.request_id, request.idempotency_key or ""):
        text.encode()


def test_with_a_key_in_the_head_the_body_is_not_parsed_for_one() -> None:
    """Nothing of the body is looked at before the key is known to be served."""
    request = parse_request(event(base64.b64encode(b"x" * 1000).decode(), "text/plain", query="key=abc"))
    assert request.key == "abc"
    assert "body" not in vars(request)


@given(some.text("%a4Fé", max_size=60), some.integers(3, 9))
def test_escapes_across_pieces_are_decoded(text: str, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("carsight_service.images._PIECE", piece)
        assert percent_decoded(text) == unquote_to_bytes(text)


@pytest.mark.parametrize("text", ["%4", "%"])
def test_invalid_escapes_across_pieces_are_kept(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = 0

    def undone(piece: bytes) -> bytes:
        nonlocal longest
        longest = max(longest, len(piece))
        return piece

    monkeypatch.setattr(images, "unquote_to_bytes", undone)
    assert percent_decoded(text * 200_000) == text.encode() * 200_000
    assert longest <= images._PIECE
