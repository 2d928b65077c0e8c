"""Every dialect in which a request may bring its key, its image and its hints."""

from __future__ import annotations

import base64
import gzip
import io
import json
import random
import time
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from botocore.response import StreamingBody
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as some

from carsight_service.contract.api import MAX_IMAGE_BYTES
from carsight_service.contract.errors import (
    ImageTooLarge,
    InvalidImage,
    InvalidRequest,
    StoreUnavailable,
    envelope,
)
from carsight_service.deployment import Deployment
from carsight_service.http.request import Request, canonical_path, parse_request
from carsight_service.images import (
    Base64Source,
    BytesSource,
    S3Source,
    UnusableSource,
    UrlSource,
    b64decode,
)
from carsight_service.settings import Links, Settings
from tests.events import MULTIPART, event, form

URL = "https://photos.example/a%20b.jpg?X-Amz-Signature=abc&x=1"
PHOTO = b"\xff\xd8\xff\xe0" + random.Random(1).randbytes(3000) + b"\r\n--Xy\r\n\r\n\r\n\n"
BASE64 = base64.b64encode(PHOTO).decode()
NO_TEXT = UnusableSource("The image must be text: an http or https URL, or base64.")
JSON = "application/json"

load = Deployment(Settings(table_name="carsight")).images.load


def parsed(*args: Any, **kwargs: Any) -> Request:
    return parse_request(event(*args, **kwargs))


@pytest.mark.parametrize("name", ["image_url", "image", "upload_url", "imageUrl"])
@pytest.mark.parametrize(
    ("value", "source"),
    [
        (URL, UrlSource(URL)),
        ("HTTP://photos.example/a.jpg", UrlSource("HTTP://photos.example/a.jpg")),
        (BASE64, Base64Source(BASE64)),
        (f"data:image/jpeg;base64,{BASE64}", Base64Source(BASE64)),
        (f"data:image/jpeg,{quote(PHOTO)}", BytesSource(PHOTO)),
        ("s3://photos/incoming/a b.jpg", S3Source("photos", "incoming/a b.jpg")),
        (f"  {URL}\n", UrlSource(URL)),
        ("not base64!", Base64Source("not base64!")),
        ("file:///etc/passwd", Base64Source("file:///etc/passwd")),
        (17, NO_TEXT),
        (True, NO_TEXT),
        ({"url": URL}, NO_TEXT),
    ],
)
def test_every_form_of_an_image_is_recognized_in_json(name: str, value: object, source: object) -> None:
    assert parsed(json.dumps({name: value})).source == source


@pytest.mark.parametrize(
    "body",
    ["", "   ", "{}", "[]", "[1, 2]", '{"image": null}', '{"image": ""}', '{"image": []}', '{"photo": "x"}'],
)
def test_a_body_without_an_image_has_no_source(body: str) -> None:
    assert parsed(body).source is None


@pytest.mark.parametrize("nothing", ["", None, "null", "undefined", "None", 5, []])
def test_the_first_field_with_an_image_counts(nothing: object) -> None:
    assert parsed(json.dumps({"image_url": nothing, "image": URL})).source == UrlSource(URL)


def test_a_file_is_used_if_the_text_field_is_empty() -> None:
    body = form(("image_url", "null"), ("upload", PHOTO))
    assert parsed(body, MULTIPART).source == BytesSource(PHOTO)


@pytest.mark.parametrize("name", ["ImageUrl", "Image", "IMAGE_URL", "image-url", "uploadUrl", "UploadURL"])
def test_field_names_are_recognized_in_any_notation(name: str) -> None:
    """As serializers of .NET and Go write them that are told nothing."""
    assert parsed(json.dumps({"a": 1, name: URL})).source == UrlSource(URL)
    assert parsed(form((name, URL)), MULTIPART).source == UrlSource(URL)
    assert parsed(urlencode({name: URL}), "application/x-www-form-urlencoded").source == UrlSource(URL)


@pytest.mark.parametrize("fields", [{"photo": BASE64}, {"url": URL, "a": "b"}, {"file": "x"}])
def test_a_form_without_known_fields_has_no_image(fields: dict[str, str]) -> None:
    assert parsed(urlencode(fields), "application/x-www-form-urlencoded").source is None


@pytest.mark.parametrize("text", [BASE64, BASE64.rstrip("=") + "==", URL])
def test_a_body_wrongly_declared_as_a_form_is_taken_as_it_is(text: str) -> None:
    source = parsed(text, "application/x-www-form-urlencoded").source
    assert source == (UrlSource(URL) if text is URL else Base64Source(text))


def test_json_with_line_breaks_within_base64_is_read() -> None:
    lines = "\n".join(BASE64[at : at + 76] for at in range(0, len(BASE64), 76))
    source = parsed(f'{{"image": "{lines}"}}').source
    assert source is not None and load(source) == PHOTO


@pytest.mark.parametrize("content_type", [JSON, "application/octet-stream", None])
def test_a_body_compressed_with_gzip_is_read(content_type: str | None) -> None:
    packed = gzip.compress(json.dumps({"image": BASE64, "regions": ["gb"]}).encode())
    request = parsed(packed, content_type)
    source = request.source
    assert source is not None and load(source) == PHOTO
    assert request.regions == ("gb",)


def test_a_picture_compressed_with_gzip_is_read() -> None:
    assert parsed(gzip.compress(PHOTO), "image/jpeg").source == BytesSource(PHOTO)


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(PHOTO)[:-9],
        gzip.compress(bytes(MAX_IMAGE_BYTES * 2)),
        gzip.compress(gzip.compress(PHOTO)),
        gzip.compress(PHOTO).decode("utf-8", "replace"),
    ],
    ids=["cut short", "too much", "twice", "sent as text"],
)
def test_a_body_that_cannot_be_decompressed_is_reported(body: bytes | str) -> None:
    source = parsed(body, JSON).source
    assert isinstance(source, UnusableSource) and source.detail.startswith("The body is compressed")


@pytest.mark.parametrize(
    "content_type",
    [
        JSON,
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "text/plain",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "application/vnd.api+json",
        "",
        "image/jpeg",
        "nonsense",
        ";;;",
        None,
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"image": URL}),
        json.dumps({"image": URL}) + "\n",
        "\ufeff" + json.dumps({"image": URL}),
        json.dumps(URL),
        URL,
    ],
)
def test_the_content_decides_whatever_the_declared_type(content_type: str | None, body: str) -> None:
    assert parsed(body, content_type).source == UrlSource(URL)
    assert parsed(body.encode(), content_type).source == UrlSource(URL)


@pytest.mark.parametrize("content_type", ["text/plain", "text/plain; charset=us-ascii", JSON, None])
def test_base64_may_be_the_whole_body(content_type: str | None) -> None:
    assert parsed(BASE64, content_type).source == Base64Source(BASE64)


@pytest.mark.parametrize(
    "content_type", ["image/jpeg", "image/*", "application/octet-stream", JSON, "text/plain", None]
)
def test_the_photo_may_be_the_whole_body(content_type: str | None) -> None:
    assert parsed(PHOTO, content_type).source == BytesSource(PHOTO)


def test_a_text_file_sent_as_an_image_is_not_taken_for_base64() -> None:
    assert parsed(b"abcd", "image/png").source == BytesSource(b"abcd")


@pytest.mark.parametrize(
    "body",
    ['{"image": "https://photos.example/', "[" * 100_000, '{"image": ' + "9" * 5000 + "}", '{"a" "b"}'],
)
def test_broken_json_is_refused(body: str) -> None:
    source = parsed(body).source
    assert source is not None
    with pytest.raises(InvalidImage):
        load(source)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ('{"image": "https://photos.example/', "The JSON is incomplete: it ends at character 34"),
        ('{"image": "a.jpg", ', "The JSON is incomplete: it ends at character 18"),
        ('{"image": "a.jpg" "key": 1}', "The JSON is invalid at character 19: expecting ',' delimiter."),
        ("{image: 1}", "The JSON is invalid at character 2: "),
        ("[" * 100_000, "The JSON is nested too deeply"),
        ('{"image": 7}', "The image must be text"),
        ('{"image": {"url": "https://photos.example/"}}', "The image must be text"),
        ("/9j/4AAQ SkZJRg*", "The base64 is invalid at character 15, not counting blanks"),
        ("/9j/4AAQSkZJR", "The base64 is incomplete: 13 characters"),
    ],
)
def test_errors_in_a_body_are_explained(body: str, detail: str) -> None:
    source = parsed(body).source
    assert source is not None
    with pytest.raises(InvalidImage) as error:
        load(source)
    assert error.value.detail.startswith(detail)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://user@photos.example/",
        "ftp://photos.example/1.jpg",
        "file:///etc/passwd",
        "//169.254.169.254/latest",
        "169.254.169.254/latest",
        "www.photos.example/1.jpg",
        "localhost:8080/1.jpg",
        "http:/photos.example",
        "s3://secret/1.jpg",
        "s3:///",
    ],
)
def test_all_refused_urls_get_the_same_answer(url: str) -> None:
    source = parsed(json.dumps({"image": url})).source
    assert source is not None
    with pytest.raises(InvalidImage) as error:
        load(source)
    assert envelope(error.value, "id-1", Links()) == envelope(InvalidImage(), "id-1", Links())
    assert "detail" not in envelope(error.value, "id-1", Links())


def test_an_image_may_be_in_a_form() -> None:
    body = urlencode({"upload_url": URL, "regions": "gb"})
    request = parsed(body, "application/x-www-form-urlencoded")
    assert (request.source, request.regions) == (UrlSource(URL), ("gb",))


@pytest.mark.parametrize("between", [" ", "\n", "\r\n"])
def test_a_form_with_line_breaks_within_base64_is_read(between: str) -> None:
    large = base64.b64encode(PHOTO * 2).decode()
    lines = between.join(large[at : at + 76] for at in range(0, len(large), 76))
    source = parsed(urlencode({"image": lines}), "application/x-www-form-urlencoded").source
    assert source is not None and load(source) == PHOTO * 2


def test_equally_spaced_pluses_are_not_taken_for_line_breaks() -> None:
    photo = PHOTO * 2 + b"\0" * (-len(PHOTO * 2) % 3)
    pluses = base64.b64decode(("A" * 75 + "+") * 12) + photo
    text = base64.b64encode(pluses).decode()
    assert "+" in text[76 * 12 :] and len(text) > 4096
    source = parsed(f"image={text}", "application/x-www-form-urlencoded").source
    assert source is not None and load(source) == pluses


@pytest.mark.parametrize("part", [b"data:base64,", b"base64;"])
def test_repeated_base64_prefixes_take_no_time(part: bytes) -> None:
    body = part * 24 + b"!" * 500
    start = time.process_time()
    assert load(BytesSource(body)) == body
    assert time.process_time() - start < 0.5


def test_a_form_with_unescaped_base64_is_read() -> None:
    text = "+/+/" + BASE64
    source = parsed(f"image={text}", "application/x-www-form-urlencoded").source
    assert source == Base64Source(text)


# -- multipart -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["upload", "image", "image_url"])
@pytest.mark.parametrize(
    "content_type",
    [MULTIPART, 'multipart/form-data; boundary="XyZ"', "Multipart/Form-Data; charset=utf-8; boundary=XyZ"],
)
def test_a_multipart_file_is_the_image(name: str, content_type: str) -> None:
    body = form(("camera_id", "7"), (name, PHOTO), ("regions", "us-ca"), ("regions", "gb"))
    request = parsed(body, content_type)
    assert request.source == BytesSource(PHOTO)
    assert request.regions == ("us-ca", "gb")


@pytest.mark.parametrize("name", ["upload", "image", "upload_url", "image_url", "imageUrl"])
def test_an_image_may_be_a_text_of_a_multipart_form(name: str) -> None:
    assert parsed(form((name, URL)), MULTIPART).source == UrlSource(URL)


@pytest.mark.parametrize(
    "body",
    [
        b"preamble\r\n" + form(("upload", PHOTO)) + b"epilogue",
        form(("upload", PHOTO)).removesuffix(b"\r\n"),
        form(("upload", PHOTO)).replace(b"--XyZ\r\n", b"--XyZ  \r\n", 1),
        form(("upload", PHOTO)).replace(b"Content-Disposition", b"content-disposition"),
        form(("upload", PHOTO)).replace(b'name="upload"', b"name=upload"),
        form(("upload", PHOTO)).replace(b"form-data;", b"form-data; filename*=UTF-8''f%C3%B6to.jpg;"),
        form(("upload", PHOTO)).replace(b' filename="photo.jpg"', b""),
        form(("upload", PHOTO)).replace(  # .NET's HttpClient
            b'name="upload"; filename="photo.jpg"', b"name=upload; filename=car.jpg; filename*=utf-8''car.jpg"
        ),
        form(("upload", PHOTO)).replace(
            b'name="upload"; filename="photo.jpg"', b'filename="car.jpg"; name="upload"'
        ),
        form(("upload", PHOTO), end="\n"),
        form(("file", PHOTO)),  # a form's only file is the image, whatever it is called
        form(("note", "x"), ("photo", PHOTO)),
    ],
)
def test_multipart_as_clients_write_it(body: bytes) -> None:
    assert parsed(body, MULTIPART).source == BytesSource(PHOTO)


NAMELESS = b"".join(
    (b'--XyZ\r\nContent-Disposition: form-data; name="upload"\r\n', b"%s", b"\r\n", b"%s", b"\r\n--XyZ--\r\n")
)


@pytest.mark.parametrize("declared", [b"Content-Type: application/octet-stream\r\n", b""])
def test_a_photo_without_a_file_name_is_a_photo(declared: bytes) -> None:
    """As form-data, axios and Apache's HttpClient send a buffer."""
    assert parsed(NAMELESS % (declared, PHOTO), MULTIPART).source == BytesSource(PHOTO)
    assert parsed(NAMELESS % (declared, URL.encode()), MULTIPART).source == UrlSource(URL)


def test_a_photo_sent_as_text_is_reported_as_destroyed() -> None:
    """As Node's FormData sends a Buffer."""
    source = parsed(NAMELESS % (b"", PHOTO.decode("utf-8", "replace").encode()), MULTIPART).source
    assert source is not None
    with pytest.raises(InvalidImage) as error:
        load(source)
    assert error.value.detail.startswith("The image's bytes were sent as text")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", MULTIPART),
        (b"--XyZ--\r\n", MULTIPART),
        (b"--XyZ\r\n--XyZ--\r\n", MULTIPART),
        (b"--XyZ", MULTIPART),
        (b"--XyZ\r\n\r\n\r\n--XyZ--", MULTIPART),
        (b"--XyZ\r\nContent-Disposition: form-data\r\n\r\nx\r\n--XyZ--", MULTIPART),
        (b"--XyZ\r\nname=upload\r\n\r\nx\r\n--XyZ--", MULTIPART),
        (form(("upload", b"")), MULTIPART),
        (form(("photo", "no file")), MULTIPART),
    ],
)
def test_a_form_without_an_image_has_no_source(body: bytes, content_type: str) -> None:
    assert parsed(body, content_type).source is None


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=other",
        "multipart/form-data; boundary=\udce9",
        "image/jpeg",
        "application/octet-stream",
        None,
    ],
)
def test_a_form_with_a_content_type_set_by_hand_is_read(content_type: str | None) -> None:
    request = parsed(form(("regions", "gb"), ("upload", PHOTO)), content_type)
    assert (request.source, request.regions) == (BytesSource(PHOTO), ("gb",))


def test_a_body_wrongly_declared_as_multipart_is_taken_as_it_is() -> None:
    assert parsed(PHOTO, MULTIPART).source == BytesSource(PHOTO)
    assert parsed(json.dumps({"image": URL}), "multipart/form-data").source == UrlSource(URL)


@pytest.mark.parametrize("name", ["file", "photo", ""])
def test_a_part_that_is_not_text_is_a_file(name: str) -> None:
    body = NAMELESS.replace(b"upload", name.encode()) % (b"", PHOTO)
    assert parsed(body, MULTIPART).source == BytesSource(PHOTO)


def test_an_undeclared_form_is_recognized() -> None:
    assert parsed(f"image={BASE64}&regions=gb", None).source == Base64Source(BASE64)
    assert parsed(urlencode({"image_url": URL}), "text/plain").source == UrlSource(URL)


@pytest.mark.parametrize(
    "text",
    [
        f"b'{BASE64}'",
        f'"{BASE64}"',
        f"base64,{BASE64}",
        f"image/jpeg;base64,{BASE64}",
        f"data:image/jpeg;base64,data:image/jpeg;base64,{BASE64}",
        f"data:image/jpeg;base64,{quote(BASE64, safe='')}",
        quote(BASE64, safe=""),
        BASE64.replace("/", "\\/"),
        "\\n".join(BASE64[at : at + 76] for at in range(0, len(BASE64), 76)),
        " ".join(BASE64[at : at + 76] for at in range(0, len(BASE64), 76)),
        BASE64.replace("+", " "),
        f"data:image/jpeg;base64, {BASE64} ",
        f"DATA:IMAGE/JPEG;BASE64,{BASE64}",
        f"data:image/jpeg;base64;{BASE64}",
        f"base64:{BASE64}",
        f"\ufeff{BASE64}",
        f"{BASE64}\0",
        base64.b64encode(BASE64.encode()).decode(),
        base64.b64encode(f"data:image/jpeg;base64,{BASE64}".encode()).decode(),
    ],
)
def test_wrapping_around_base64_is_removed(text: str) -> None:
    source = parsed(json.dumps({"image": text})).source
    assert source is not None and load(source) == PHOTO


@pytest.mark.parametrize(
    "text",
    [
        f"b'{BASE64}'",
        f"base64,{BASE64}",
        f"DATA:IMAGE/JPEG;BASE64,{BASE64}",
        f"data:image/jpeg;base64,data:image/jpeg;base64,{BASE64}",
        quote(BASE64, safe=""),
        BASE64.replace("/", "\\/"),
        f"\ufeff{BASE64}",
        f"{BASE64}\0",
    ],
)
def test_wrapping_around_base64_in_a_file_is_removed(text: str) -> None:
    source = parsed(form(("upload", text.encode())), MULTIPART).source
    assert source is not None and load(source) == PHOTO


@pytest.mark.parametrize("photo", [PHOTO + b"\xff\xd9", b"\x89PNG\r\n\x1a\n" + PHOTO + b"\xaeB`\x82"])
def test_a_picture_sent_as_a_binary_string_is_read(photo: bytes) -> None:
    """As ``FileReader.readAsBinaryString`` gives it, and whatever takes it for text sends it."""
    text = photo.decode("latin-1")
    sources = (
        parsed(json.dumps({"image": text})).source,
        parsed(json.dumps({"image": text}, ensure_ascii=False).encode()).source,
        parsed(text.encode(), "image/jpeg").source,
        parsed(text, "text/plain").source,
        parsed(form(("upload", text.encode())), MULTIPART).source,
    )
    for source in sources:
        assert source is not None and load(source) == photo


@pytest.mark.parametrize("text", [BASE64, f"data:image/jpeg;base64,{BASE64}", BASE64.rstrip("=") + "\r\n"])
def test_base64_declared_as_a_picture_is_read(text: str) -> None:
    declared = parsed(text, "image/jpeg").source
    assert declared is not None and load(declared) == PHOTO
    file = parsed(form(("upload", text.encode())), MULTIPART).source
    assert isinstance(file, BytesSource) and load(file) == PHOTO


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("@@@@", "These 4 characters are neither a URL"),
        ("undefined", 'The image is the text "undefined"'),
        ("[object File]", "These 12 characters are neither a URL"),
        ("C:\\Users\\me\\car.jpg", "This is the path of a file on your machine"),
        ("/home/me/car.jpg", "This is the path of a file on your machine"),
        ("./car.jpeg", "This is the path of a file on your machine"),
        ("@car.jpg", "This is the path of a file on your machine"),
        ("x" * 200 + "*", "The base64 is invalid at character 201"),
    ],
)
def test_text_that_is_neither_a_url_nor_base64_is_explained(text: str, detail: str) -> None:
    source = parsed(json.dumps({"image": text})).source
    assert source is not None
    with pytest.raises(InvalidImage) as error:
        load(source)
    assert error.value.detail.startswith(detail)


@pytest.mark.parametrize(
    "text", ["<html><body>Not found</body></html>", "%PDF-1.4 1 0 obj", "\0\0\0\x18ftypmp42"]
)
def test_a_document_sent_as_text_is_passed_on_to_the_decoder(text: str) -> None:
    source = parsed(text, "application/octet-stream").source
    assert source is not None and load(source) == text.encode()


# -- keys and hints ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "key"),
    [
        (event(query="key=abc"), "abc"),
        (event(query="source=c%23&key=a%2Bb%20c&x"), "a+b c"),
        (event(query="key=&key=abc"), "abc"),
        (event(headers={"x-api-key": "abc"}), "abc"),
        (event(headers={"X-Api-Key": " abc "}), "abc"),
        (event(headers={"authorization": "Token abc"}), "abc"),
        (event(headers={"Authorization": "token  abc"}), "abc"),
        (event(headers={"authorization": "Bearer abc"}), "abc"),
        (event(json.dumps({"key": "abc", "image": URL})), "abc"),
        (event(form(("key", "abc"), ("upload", PHOTO)), MULTIPART), "abc"),
        (event(query="key=abc", headers={"x-api-key": "def"}), "abc"),
        ({**event(), "rawQueryString": "", "queryStringParameters": {"key": "abc"}}, "abc"),
        (event(), None),
        (event(query="key="), None),
        (event(query="key=%20"), None),
        (event(query="KEY=abc"), None),
        (event(headers={"authorization": "Basic abc"}), None),
        (event(json.dumps({"key": 5})), None),
        (event(json.dumps({"key": None})), None),
    ],
)
def test_the_key_may_be_in_the_query_a_header_or_the_body(request_: dict[str, Any], key: str | None) -> None:
    assert parse_request(request_).key == key


def test_a_key_with_lone_surrogates_can_be_encoded() -> None:
    key = parsed(json.dumps({"key": "\ud800"})).key
    assert key is not None
    key.encode()


@pytest.mark.parametrize(
    "request_",
    [
        event(query="regions=us-ca&regions=GB"),
        event(query="regions=us-ca,gb"),
        event(query="regions=us-ca%2C%20gb"),
        event(json.dumps({"regions": ["us-ca", "gb", "us-ca"]})),
        event(json.dumps({"regions": "us-ca, GB"})),
        event(json.dumps({"regions": "us_ca uk"})),
        event(json.dumps({"Regions": "us-ca;gb"})),
        event(form(("regions", '["us-ca", "gb"]')), MULTIPART),
        event(form(("regions[]", "us-ca"), ("regions[]", "gb")), MULTIPART),
        event(query="regions%5B0%5D=us-ca&regions[1]=gb"),
        event(form(("regions", "us-ca"), ("regions", "gb")), MULTIPART),
        {**event(), "rawQueryString": "", "queryStringParameters": {"regions": "us-ca,gb"}},
    ],
)
def test_regions_may_be_sent_in_every_form(request_: dict[str, Any]) -> None:
    assert parse_request(request_).regions == ("us-ca", "gb")


def test_invalid_regions_are_refused() -> None:
    assert parsed(json.dumps({"regions": [None, 4, {}, ["gb"]]})).regions == ()


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/platerecognition", "/platerecognition"),
        ("/platerecognition/", "/platerecognition"),
        ("/eu/platerecognition/", "/platerecognition"),
        ("/eu/v1/vinocr", "/v1/vinocr"),
        ("/eu", "/"),
        ("/", "/"),
        ("", "/"),
        ("/europe", "/europe"),
        ("/v1/eu", "/v1/eu"),
    ],
)
def test_prefix_and_trailing_slashes_are_no_part_of_a_path(raw: str, path: str) -> None:
    assert canonical_path(raw) == path
    assert parsed(path=raw).path == path


def test_method_ids_and_idempotency_key_of_a_request_are_parsed() -> None:
    request = parsed(method="get", headers={"Idempotency-Key": " retry-1 "})
    assert (request.method, request.idempotency_key, request.request_id) == ("GET", "retry-1", "id-1")
    assert parse_request({}).source is None


def test_secrets_are_removed_from_the_event() -> None:
    secret = "cs_secret"
    sent = event(
        json.dumps({"key": secret, "image": f"https://photos.example/?signature={secret}"}),
        query=f"key={secret}",
        headers={
            "X-Api-Key": secret,
            "Authorization": f"Token {secret}",
            "Cookie": secret,
            "Referer": secret,
        },
    )
    sent["queryStringParameters"] = {"key": secret}
    sent["cookies"] = [secret]
    request = parse_request(sent)
    assert request.key == secret
    assert secret not in json.dumps(sent)
    assert secret not in repr(request)


def test_the_fingerprint_covers_image_and_options() -> None:
    first = parsed(json.dumps({"image": URL}), query="key=a&source=npm").fingerprint()
    assert (
        first
        == parsed(json.dumps({"image_url": URL}), query="key=b", path="/eu/platerecognition/").fingerprint()
    )
    others = [
        parsed(json.dumps({"image": URL + "0"})),
        parsed(json.dumps({"image": URL}), path="/vinocr"),
        parsed(json.dumps({"image": URL}), query="regions=gb"),
        parsed(json.dumps({"image": URL}), query="text_formats=[a-z]{3}"),
        parsed(json.dumps({"image": URL, "config": "no JSON"})),  # which the VIN route has no use for
        parsed(json.dumps({"image": URL, "config": {"region": "strict"}})),
        parsed(json.dumps({"image": URL, "mmc": "true"})),
        parsed(json.dumps({"image": "s3://a/b"})),
        parsed(PHOTO),
        parsed(""),
    ]
    assert len({first, *(other.fingerprint() for other in others)}) == len(others) + 1


# -- loading -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        BASE64,
        BASE64.rstrip("="),
        base64.urlsafe_b64encode(PHOTO).decode(),
        base64.encodebytes(PHOTO).decode(),
        BASE64.replace("A", "A\r\n "),
    ],
)
def test_base64_is_decoded_in_either_alphabet_and_however_it_is_padded(text: str) -> None:
    assert load(Base64Source(text)) == PHOTO


@pytest.mark.parametrize("text", ["not base64!", "a", "äöü", "\ud800", "ab=cd", "%%%%"])
def test_text_that_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(InvalidImage):
        load(Base64Source(text))


def test_an_image_of_more_than_ten_megabytes_is_refused() -> None:
    assert len(load(BytesSource(bytes(MAX_IMAGE_BYTES)))) == MAX_IMAGE_BYTES
    with pytest.raises(ImageTooLarge, match="1 more than the limit"):
        load(BytesSource(bytes(MAX_IMAGE_BYTES + 1)))
    with pytest.raises(ImageTooLarge):
        load(Base64Source(base64.b64encode(bytes(MAX_IMAGE_BYTES + 1)).decode()))


def test_a_url_is_fetched_with_the_address_checks() -> None:
    with pytest.raises(InvalidImage):
        load(UrlSource("http://169.254.169.254/latest/meta-data/"))


@pytest.mark.parametrize("key", ["\ud800", "a" * 1025, "\0\ud800\udfff"])
def test_an_impossible_object_key_is_refused(key: str) -> None:
    settings = Settings(table_name="carsight", allowed_buckets=frozenset({"photos"}))
    with pytest.raises(InvalidImage):
        Deployment(settings).images.load(S3Source("photos", key))


@pytest.mark.parametrize("source", [S3Source("photos", "a.jpg"), S3Source("", ""), S3Source("photos", "")])
def test_no_bucket_is_allowed_unless_listed(source: S3Source) -> None:
    with pytest.raises(InvalidImage):
        load(source)


# -- anything at all -----------------------------------------------------------------------------------------

TYPES = some.one_of(
    some.none(),
    some.sampled_from(
        [
            "application/json",
            "text/plain",
            "image/png",
            MULTIPART,
            'multipart/form-data; boundary="',
            "multipart/form-data; boundary*0=X; boundary*1=yZ",
            "application/x-www-form-urlencoded",
            'a/b; charset="\\',
        ]
    ),
    some.text(max_size=60),
)
PIECES = some.sampled_from(
    [
        b"--XyZ\r\n",
        b"--XyZ--",
        b'Content-Disposition: form-data; name="upload"; filename="a"\r\n',
        b"Content-Disposition: form-data; name*=utf-8''%ff\r\n",
        b"Content-Type: \r\n",
        b"\r\n\r\n",
        b'{"image":',
        b'"\\ud800"',
        b"}",
        b"[",
        b"key=",
        b"&image=",
        b"%ff",
        b"data:;base64,",
        b"data:",
        b"s3://",
        b"\x00",
    ]
)
BODIES = some.one_of(
    some.binary(max_size=200),
    some.lists(some.one_of(PIECES, some.binary(max_size=6)), max_size=12).map(b"".join),
    some.text(max_size=100),
)


@hypothesis(max_examples=300, deadline=None, derandomize=True)
@given(BODIES, TYPES, some.text(max_size=40), some.text(max_size=30), some.text(max_size=20))
def test_no_request_causes_an_unexpected_exception(
    body: str | bytes, content_type: str | None, query: str, path: str, header: str
) -> None:
    headers = {"authorization": header, "idempotency-key": header}
    request = parsed(body, content_type, query, path, headers=headers)
    assert request.fingerprint()
    if isinstance(request.source, Base64Source | BytesSource):
        with suppress(InvalidImage):
            load(request.source)


# -- the short cut past json ---------------------------------------------------------------------------------

LONG = base64.b64encode(random.Random(2).randbytes(4500)).decode()
_NAMES = ("image", "image_url", "upload", "key", "regions", "config", "x")
_CUT = base64.b64encode(random.Random(3).randbytes(33)).decode()
_PIECES = (
    *(
        _CUT,
        _CUT + "=",
        _CUT[:-1],
        _CUT.replace("+", "-"),
        _CUT[:30] + "\\n" + _CUT[30:],
        _CUT[:8] + "\n" + _CUT,
    ),
    *(
        f"data:image/jpeg;base64,{_CUT}",
        f"DATA:;BASE64,{_CUT}",
        f"data:a\\u0062;base64,{_CUT}",
        f"data:,{_CUT}",
    ),
    *(f"https://photos.example/{_CUT}", _CUT + "%20", _CUT + "\x00", "\u00fc" + _CUT, "QUJD", ""),
    *(f'"{name}": "' for name in _NAMES),
    *(f'"{name}"' for name in _NAMES),
    *('", "image": "', '\\"', "\\", '"', ":", ",", "{", "}", "[", "]", " ", "\n", "\t"),
    *("1e9", "NaN", "null", "\ufeff", "\ud800"),
)


def _members(before: list[Any], image: tuple[str, Any], behind: list[Any], nested: bool) -> str:
    pairs = [*before, image, *behind]
    members = ",".join(f"{json.dumps(name)} : {json.dumps(value)}" for name, value in pairs)
    return f'{{"x": {{{members}}}}}' if nested else f"{{{members}}}"


_IMAGES = some.sampled_from([_CUT, _CUT, f"data:image/jpeg;base64,{_CUT}"])
_VALUES = (
    _IMAGES | some.sampled_from(["QUJD", "", None, 7, [_CUT], {"image": _CUT}, '"image": "']) | some.text()
)
_PAIRS = some.lists(some.tuples(some.sampled_from(_NAMES), _VALUES), max_size=2)
_OBJECTS = some.builds(
    _members,
    _PAIRS,
    some.tuples(some.sampled_from(_NAMES[:3]), _IMAGES),
    _PAIRS,
    some.sampled_from([False] * 5 + [True]),
)


@some.composite
def _nearly_json(draw: some.DrawFn) -> str:
    """Return JSON with an image in it, from which something was taken out or into which something was put."""
    text = draw(_OBJECTS)
    for _ in range(draw(some.sampled_from([0, 1, 1, 2]))):
        at = draw(some.integers(0, len(text)) | some.integers(0, 60))
        text = text[:at] + draw(some.sampled_from(_PIECES)) + text[at + draw(some.integers(0, 3)) :]
    return text


def outcome(body: str, content_type: str, is_base64: bool) -> object:
    """All that comes of a body: key, hints, the image's bytes or what its sender is told."""
    request = parsed(body.encode("utf-8", "replace") if is_base64 else body, content_type)
    image: object = request.source
    if isinstance(image, Base64Source | BytesSource | UnusableSource):
        try:
            image = load(image)
        except (InvalidImage, ImageTooLarge) as error:
            image = type(error), error.detail
    try:
        asked: object = request.regions, request.fingerprint()
    except InvalidRequest as error:
        asked = error.message
    return request.source, image, request.key, asked


@pytest.mark.parametrize("is_base64", [False, True])
@hypothesis(max_examples=500, deadline=None, derandomize=True)
@given(
    body=_nearly_json()
    | some.lists(some.sampled_from(_PIECES), max_size=9).map(lambda drawn: "{" + "".join(drawn)),
    content_type=some.sampled_from(["application/json", "application/x-www-form-urlencoded", "text/plain"]),
)
def test_cutting_the_image_out_reads_a_body_as_json_does(
    is_base64: bool, body: str, content_type: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("carsight_service.http.json_body._MIN_CUT", 16)
        quickly = outcome(body, content_type, is_base64)
        patch.setattr("carsight_service.http.json_body._without_image", lambda text, fields: None)
        patch.setattr("carsight_service.images.b64decode", partial(base64.b64decode, validate=True))
        assert quickly == outcome(body, content_type, is_base64)


@pytest.mark.parametrize("before", ["", "data:image/jpeg;base64,"])
@pytest.mark.parametrize("head", ['{"image": "', '{"key":"k","regions":["de"],\n"upload"\t:"'])
def test_an_image_is_cut_out_of_its_json(before: str, head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing as long as a photo is given to ``json``."""
    loads, seen = json.loads, []

    def counted(text: str, *, strict: bool) -> Any:
        seen.append(len(text))
        return loads(text, strict=strict)

    monkeypatch.setattr("carsight_service.http.json_body.json.loads", counted)
    request = parsed(f'{head}{before}{LONG}", "key": "secret"}}')
    assert request.source == Base64Source(LONG)
    assert load(request.source) == base64.b64decode(LONG)
    assert request.key == "secret"
    assert seen and max(seen) < 200


@hypothesis(max_examples=1000, deadline=None, derandomize=True)
@given(some.text("QUJD+/-_= \n!\u00fc", max_size=40).map(lambda text: text.rstrip("=")))
def test_base64_is_decoded_as_the_standard_library_does(text: str) -> None:
    def decoded(decode: Any) -> object:
        try:
            return decode(text + "=" * (-len(text) % 4))
        except ValueError:
            return None

    assert decoded(b64decode) == decoded(partial(base64.b64decode, validate=True))


def test_a_truncated_object_is_refused() -> None:
    """Botocore's body notices, and what it is entered as does not."""

    class Client:
        def get_object(self, **_: str) -> dict[str, Any]:
            body = StreamingBody(io.BytesIO(PHOTO[:-1]), len(PHOTO))
            return {"Body": body, "ContentLength": len(PHOTO), "Metadata": {}}

    deployment = Deployment(Settings(table_name="carsight"))
    deployment.aws.photos = Client()  # type: ignore[assignment]
    with pytest.raises(StoreUnavailable, match="IncompleteReadError"):
        deployment.storage.read_photo("photos", "car.jpg")
