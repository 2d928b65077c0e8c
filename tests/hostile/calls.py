"""Calls that nobody means well with: requests, forms, JSON, addresses of photos and uploads.

``call`` makes one from a random generator, the same for the same seed. No name is looked up but
``localhost``: photo servers are those of ``sites``, on this machine.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import quote

from tests.events import event
from tests.hostile import pictures, sites
from tests.hostile.pictures import one_of

KEY = "hostile"
"""The key that the campaign has made."""

LARGEST_EVENT = 6_200_000
"""Characters of a body: Lambda takes 6 MB of an event."""

READING = ("/platerecognition", "/v1/vinocr", "/vinocr", "/vin-ocr", "/v1/plate-reader")
_ACCOUNT = (
    "/v1/auth/validate",
    "/v1/usage",
    "/v1/statistics",
    "/v1/uploads",
    "/v1/batches",
    "/v1/batches/x",
    "/nothing",
)
_TEXT = (
    "",
    "a",
    "\0",
    "\ud800",
    "\udfff\ud800",
    "é",
    "\u202e",
    "😀",
    "%",
    "%zz",
    "%ff",
    "+",
    "&",
    "=",
    "\r\n",
    '"',
    "\\",
    "'",
    "null",
)


@dataclass(frozen=True)
class Call:
    """One event for a handler, and what has to be in the uploads bucket for it."""

    kind: str
    path: str
    """The route; ``upload/plate`` and ``upload/vin`` are those of the workers."""
    event: dict[str, Any] = field(repr=False)
    photo: bytes = field(default=b"", repr=False)
    """What is uploaded before, where it is an upload."""


def call(chance: Random, site: str) -> Call:
    """Make one call; ``site`` is where the servers of ``sites`` are."""
    kind = chance.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
    return KINDS[kind][1](chance, site)


def _api_of(path: str) -> str:
    return "vin" if "vin" in path else "plate"


def _sent(kind: str, chance: Random, body: str | bytes, content_type: str | None, **more: Any) -> Call:
    """Send ``body`` to one of the routes, with the key at one of its places."""
    path = more.pop("path", None) or chance.choice(READING)
    headers: dict[str, str] = dict(more.pop("headers", {}))
    query = more.pop("query", "")
    match chance.randrange(8):
        case 0:
            headers["authorization"] = f"Token {KEY}"
        case 1:
            query = f"{query}&key={KEY}" if query else f"key={KEY}"
        case _:
            headers["x-api-key"] = KEY
    if isinstance(body, bytes):
        body = body[: LARGEST_EVENT // 4 * 3]
    made = event(body[:LARGEST_EVENT], content_type, query=query, path=path, headers=headers, **more)
    return Call(kind, path, made)


# -- pictures ------------------------------------------------------------------------------------------------


def _picture(chance: Random, site: str) -> Call:
    """Send a picture in any of the ways that there are."""
    kind, data = pictures.picture(chance)
    api = _api_of(chance.choice(["plate", "vin"]))
    if chance.random() < 0.08:
        return _upload(chance, kind, data, api)
    path = chance.choice([path for path in READING if _api_of(path) == api])
    match chance.randrange(6):
        case 0 | 1:
            return _sent(
                kind,
                chance,
                data,
                chance.choice(["image/jpeg", "image/x", "application/octet-stream"]),
                path=path,
            )
        case 2:
            body = json.dumps({"image": base64.b64encode(data).decode()})
            return _sent(kind, chance, body, "application/json", path=path)
        case 3:
            text = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
            return _sent(kind, chance, json.dumps({"upload_url": text}), "application/json", path=path)
        case 4:
            name = sites.keep(data)
            return _sent(
                kind, chance, json.dumps({"imageUrl": f"{site}/kept/{name}"}), "application/json", path=path
            )
    form = (
        b'--x\r\nContent-Disposition: form-data; name="upload"; filename="a.jpg"\r\n\r\n'
        + data
        + b"\r\n--x--\r\n"
    )
    return _sent(kind, chance, form, "multipart/form-data; boundary=x", path=path)


def _upload(chance: Random, kind: str, data: bytes, api: str) -> Call:
    name = (
        chance.choice(
            [
                "a.jpg",
                "a b+c.jpg",
                "ü/%2e%2e.jpg",
                "x" * 190,
                "..a",
                "'\".jpg",
                "日本" * 30,
                "a%00",
                "\u202eb",
                "é\u0301",
            ]
        )
        + f"-{chance.randrange(10**9)}"
    )
    return Call(f"upload: {kind}", f"upload/{api}", {"name": name}, data)


# -- requests ------------------------------------------------------------------------------------------------


def _word(chance: Random, longest: int = 40) -> str:
    return "".join(
        chance.choice([*_TEXT, "abc", "image", "key", "0"]) for _ in range(chance.randrange(longest))
    )


def _odd_event(chance: Random, _: str) -> Call:
    """Return an event with anything at all in its fields, as no gateway sends it."""
    path = chance.choice(
        [*READING, *_ACCOUNT, "", "/", "//", "/eu", "/eu/eu/vinocr", "/v1/vinocr/" * 99, "/" + _word(chance)]
    )
    bodies: list[str | bytes] = ["", "{}", _word(chance, 400), b"\xff\xfe"]
    made = event(chance.choice(bodies), path=path)
    values: list[Any] = [None, "", _word(chance), 7, True, [], {}, "\ud800", "x" * 100_000]
    headers = {
        chance.choice(
            ["Content-Type", "x-api-key", "AUTHORIZATION", "idempotency-key", _word(chance)]
        ): chance.choice(values)
        for _ in range(5)
    }
    for name in chance.sample(
        [
            "rawQueryString",
            "body",
            "isBase64Encoded",
            "requestContext",
            "queryStringParameters",
            "rawPath",
            "headers",
            "cookies",
            "multiValueHeaders",
            "version",
        ],
        3,
    ):
        match name:
            case "headers":
                made[name] = chance.choice([None, {}, headers, headers])
            case "requestContext":
                made[name] = chance.choice(
                    [
                        None,
                        {},
                        {"http": None},
                        {
                            "requestId": "\ud800",
                            "http": {"method": chance.choice(["post", "\ud800", "POST", ""])},
                        },
                    ]
                )
            case "queryStringParameters":
                made[name] = chance.choice([None, {}, {"key": KEY, "regions": "\ud800,x"}])
            case "isBase64Encoded":
                made[name] = chance.choice([None, True, False, 1])
            case "cookies" | "multiValueHeaders":
                made[name] = chance.choice([None, [], ["a=b"] * 5000, {"x-api-key": [KEY, "a"]}, ["\ud800"]])
            case _:
                made[name] = chance.choice([None, "", _word(chance, 300), "key=" + KEY])
        if chance.random() < 0.2:
            made.pop(name, None)
    return Call("event of odd fields", path, made)


def _head(chance: Random, _: str) -> Call:
    """Return a request with odd methods, types and headers."""
    content_type = chance.choice(
        [
            None,
            "",
            ";",
            "a" * 9000,
            "multipart/form-data",
            'multipart/form-data; boundary="',
            "multipart/form-data; boundary=" + "x" * 5000,
            "application/json; charset=\ud800",
            "text/plain;" + "a=b;" * 4000,
            "application/x-www-form-urlencoded",
            "image/" + _word(chance),
            "text/csv",
        ]
    )
    headers = {
        "idempotency-key": chance.choice(["", "a", "\ud800", "x" * 100_000, _word(chance)]),
        "authorization": chance.choice(["Token", "Token ", "Bearer " + _word(chance), "Basic " + "x" * 9999]),
        "x-amzn-trace-id": _word(chance),
        "content-encoding": chance.choice(["gzip", "br", "deflate, gzip", _word(chance)]),
        "content-length": chance.choice(["0", "-1", "9" * 400, "5, 6"]),
        "transfer-encoding": "chunked",
        "expect": "100-continue",
        "x-http-method-override": chance.choice(["DELETE", "PATCH"]),
    }
    bodies: list[str | bytes] = ["", "{}", _word(chance, 200), '{"image": "aGFsbG8="}', b"\xff\xd8\xff"]
    body = chance.choice(bodies)
    chosen = {name: headers[name] for name in chance.sample(list(headers), chance.randrange(5))}
    method = chance.choice(
        ["POST", "POST", "POST", "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "post", "\0", ""]
    )
    path = chance.choice([*READING, *_ACCOUNT])
    return _sent("odd head", chance, body, content_type, path=path, method=method, headers=chosen)


def _query(chance: Random, _: str) -> Call:
    """Return a request with an odd query string."""
    names = ["key", "regions", "api", "text_formats", "source", _word(chance, 3)]
    fields = [
        f"{chance.choice(names)}={quote(_word(chance), errors='replace')}"
        for _ in range(chance.choice([1, 3, 30]))
    ]
    query = chance.choice(
        [
            "&".join(fields),
            "&" * 100_000,
            "key=&key=&key=" + KEY,
            "=" * 9999,
            "%ff" * 3000,
            "regions=" + "," * 50_000,
            "api=null&api=null",
            "api=plate&api=vin",
            "text_formats=" + quote("[a-z]{0,9}" * 8),
            "text_formats=" + quote("[a--b]"),
            "regions=us&" * 150,
        ]
    )
    return _sent(
        "odd query",
        chance,
        chance.choice(["{}", '["a"]', '{"image": "aGFsbG8="}']),
        "application/json",
        query=query,
        path=chance.choice([*READING, *_ACCOUNT]),
    )


def _text(chance: Random, _: str) -> Call:
    """Return bare text: base64 or an address, or nearly."""
    length = chance.choice([9, 1000, 6_000_000])
    body = one_of(
        chance,
        lambda: "A" * length,
        lambda: "A \n" * (length // 3),
        lambda: "=" * length,
        lambda: "data:," + "%ff" * (length // 3),
        lambda: "\ufffd" * min(length, 1_000_000),
        lambda: "data:;base64," + "-_" * (length // 2),
        lambda: "s3://" + _word(chance),
        lambda: "s3://carsight-local-uploads/" + _word(chance),
        lambda: _word(chance, 2000),
        lambda: "http" * (length // 4),
    )
    return _sent(
        "text that is no photo",
        chance,
        body,
        chance.choice(["text/plain", "application/json", None, "image/png"]),
    )


def _urlencoded(chance: Random, _: str) -> Call:
    """Return a form of very many, long, repeated or broken fields."""
    names = [
        "image",
        "upload",
        "upload_url",
        "image_url",
        "imageUrl",
        "key",
        "regions",
        "config",
        "mmc",
        "camera_id",
        "timestamp",
        "text_formats",
    ]
    body = one_of(
        chance,
        lambda: "&".join(
            f"{chance.choice(names)}={_word(chance)}" for _ in range(chance.choice([1, 10, 190]))
        ),
        lambda: "a=b&" * 400_000,
        lambda: "image=" + "%41" * 1_500_000,
        lambda: "image=" + "+" * 3_000_000,
        lambda: "config=" + quote("[" * 90_000) + "&image=aGFsbG8=",
        lambda: "camera_id=" + "x" * 900_000 + "&image=aGFsbG8=",
    )
    return _sent("form", chance, body, "application/x-www-form-urlencoded")


def _multipart(chance: Random, _: str) -> Call:
    """Return a multipart form whose boundaries, headers and parts are broken."""
    end = chance.choice([b"\r\n", b"\r\n", b"\n", b"\r"])
    boundary = chance.choice([b"x", b"-", b"x" * 70, b"\xff", b"a b"])
    heads = [
        b'Content-Disposition: form-data; name="upload"; filename="a.jpg"',
        b"Content-Disposition: form-data" + b"; a=b" * 300,
        b'Content-Disposition: form-data; name="\\"',
        b"Content-Disposition: form-data; name*=utf-8''%ff%fe; filename*=x''y",
        b"Content-Disposition: form-data; name*0=up; name*1=load",
        b"content-disposition: form-data; name=image",
        b"Content-Type: image/jpeg",
        b"X: " + b"x" * 3000,
        b":",
        b"",
        b"Content-Disposition: form-data; name=image_url; filename=" + b"\xf0\x9f" * 90,
        b"Content-Transfer-Encoding: base64",
        b'Content-Disposition: form-data;name="key"',
        b"Content-Disposition: form-data" + b'; a="' * 300,
    ]
    body = b""
    for _part in range(chance.choice([0, 1, 2, 5, 99, 101, 5000])):
        content = chance.choice(
            [
                b"",
                b"x" * 50,
                b"\xff\xd8\xff" + bytes(99),
                _word(chance).encode("utf-8", "surrogatepass"),
                KEY.encode(),
            ]
        )
        body += (
            chance.choice([b"--", b"--", b"--", b"-", b""])
            + boundary
            + end
            + end.join(chance.sample(heads, chance.randrange(3)))
            + end
            + end
            + content
            + end
        )
    body += chance.choice([b"--" + boundary + b"--" + end, b"", b"--" + boundary])
    declared = boundary.decode("latin-1")
    kind = chance.choice(
        [
            f"multipart/form-data; boundary={declared}",
            f'multipart/form-data; boundary="{declared}"',
            f"multipart/form-data; boundary*=utf-8''{declared}",
            "multipart/form-data; boundary=y",
        ]
    )
    return _sent("multipart form", chance, body, kind)


def _value(chance: Random, depth: int = 3) -> Any:
    simple = [
        None,
        True,
        0,
        -1,
        1e308,
        10**400,
        "",
        "a",
        "\ud800",
        "http://127.0.0.1:1/",
        "aGFsbG8=",
        _word(chance),
    ]
    if depth == 0 or chance.random() < 0.6:
        return chance.choice(simple)
    if chance.random() < 0.5:
        return [_value(chance, depth - 1) for _ in range(chance.choice([0, 1, 5, 300]) if depth == 3 else 2)]
    return {_word(chance, 3): _value(chance, depth - 1) for _ in range(3)}


_MEMBERS = (
    "image",
    "image_url",
    "upload_url",
    "imageUrl",
    "upload",
    "key",
    "regions",
    "camera_id",
    "timestamp",
    "mmc",
    "config",
    "text_formats",
    "api",
    "images",
    "name",
    "content_type",
)


def _json(chance: Random, _: str) -> Call:
    """Return JSON that is deep, doubled, long, escaped, cut or of other types."""
    made = json.dumps(
        {name: _value(chance) for name in chance.sample(_MEMBERS, chance.randrange(1, 7))},
        ensure_ascii=chance.random() < 0.5,
    )
    numbers = ["NaN", "-Infinity", "1e999999", "-0", "0x1", "01", "1.", "tru"]
    deep = chance.choice([50, 900, 990, 1100, 200_000])
    name = chance.choice(_MEMBERS)
    body = one_of(
        chance,
        lambda: made,
        lambda: made,
        lambda: made,
        lambda: made[: chance.randrange(len(made) + 1)],
        lambda: f'{{"image":"aGFsbG8=","{name}":{"[" * deep}{"]" * deep}}}',
        lambda: '{"a":' * deep + "1" + "}" * deep,
        lambda: f'{{"image":"aGFsbG8=","{name}":{"9" * chance.choice([5, 4301, 3_000_000])}}}',
        lambda: f'{{"image":"aGFsbG8=","{name}":{chance.choice(numbers)}}}',
        lambda: "{" + f'"{name}":"aGFsbG8=",' * 90_000 + '"a":1}',
        lambda: '{"image":"' + "\\u0041" * 900_000 + '"}',
        lambda: '{"image":"' + "\\ud83d" * 400_000 + '"}',
        lambda: '{"image":"aGFsbG8\\u003d","image":"aGFs\\/bG8="}',
        lambda: '{"image":"http:\\/\\/127.0.0.1:1\\u002f"}',
        lambda: "[" + ",".join(['{"":0}'] * chance.choice([10, 90_000, 850_000])) + "]",
        lambda: "\ufeff" + made,
        lambda: " " * 3_000_000 + made,
        lambda: made + chance.choice(["x", "}", "\0", made]),
        lambda: '"' + "a" * 100 + chance.choice(['"', "", "\\", "\\u12"]),
        lambda: f'{{"image":"aGFsbG8=","{name}":"{"x" * chance.choice([199, 201, 3_000_000])}"}}',
    )
    path = chance.choice([*READING, *READING, "/v1/uploads", "/v1/batches"])
    return _sent(
        "JSON",
        chance,
        body,
        chance.choice(["application/json", "text/plain", "application/x-www-form-urlencoded"]),
        path=path,
    )


# -- photo servers -------------------------------------------------------------------------------------------


def _address(chance: Random, site: str) -> Call:
    """Return a photo's address that is odd, or reaches where it should not."""
    port = site.rpartition(":")[2]
    host = chance.choice(
        [
            "127.0.0.1",
            "localhost",
            "[::1]",
            "0x7f.1",
            "2130706433",
            "127.1",
            "[::ffff:127.0.0.1]",
            "169.254.169.254",
            "10.0.0.1",
            "[fe80::1%25eth0]",
            "0",
            "",
            "[",
            "a..b",
            "x" * 300,
            "user:pass@127.0.0.1",
            "127.0.0.1\\@x",
            "127.0.0.1#@x",
            "１２７.0.0.1",
            "ß" * 90,
            "\ud800",
            "127.0.0.1%00",
            "[::1",
            "255.255.255.255",
            "224.0.0.1",
        ]
    )
    scheme = chance.choice(["http", "http", "https", "HTTP", "ftp", "file", "gopher", "http:http", "s3", ""])
    port = chance.choice([port, port, "0", "65536", "-1", "", "٣", "1" * 5000])
    url = f"{scheme}://{host}:{port}/{quote(_word(chance, 9), errors='replace')}"
    body = chance.choice([json.dumps({"image_url": url}), json.dumps({"image_url": url + "x" * 3000})])
    return _sent("address of a photo", chance, body, "application/json")


def _server(chance: Random, site: str) -> Call:
    """Return the address of a photo whose server misbehaves."""
    url = f"{site}/{chance.choice(list(sites.HABITS))}/{chance.randrange(10**6)}"
    return _sent("photo server", chance, json.dumps({"image_url": url}), "application/json")


# -- the routes without pixels -------------------------------------------------------------------------------


def _list(chance: Random, site: str) -> Call:
    """Return a list of photos that is odd."""
    texts: list[Callable[[], str | bytes]] = [
        lambda: json.dumps({"api": _value(chance), "images": _value(chance)}),
        lambda: json.dumps({"api": "plate", "images": ["\ud800", "a" * 2049, "s3://x/y"]}),
        lambda: json.dumps({"api": "vin", "images": [f"{site}/kept/none"], "regions": _value(chance)}),
        lambda: json.dumps({"api": "plate", "images": [f"https://a.b/{n}" + "x" * 500 for n in range(9000)]}),
        lambda: json.dumps({"api": "vin", "images": ["https://a.b/"] * chance.choice([10_000, 10_001])}),
        lambda: json.dumps({"api": "vin", "images": [{"url": "https://a.b/", "id": "\ud800"}, ["a"], None]}),
        lambda: b"\n" * chance.choice([9, 4_000_000]),
        lambda: b"a.b\n" * chance.choice([10_001, 1_000_000]),
        lambda: b"a.b," * chance.choice([9, 1_000_000]),
        lambda: b'"' * chance.choice([9, 1_000_000]),
        lambda: b"sep=" + chance.choice([b'"', b"\0", b"\r", b"\xc3\xa9", b""]) + b"\na.b\n",
        lambda: b"\xff\xfe" + chance.randbytes(chance.choice([9, 999])),
        lambda: chance.randbytes(999),
    ]
    body = chance.choice(texts)()
    kind = (
        "application/json"
        if isinstance(body, str)
        else chance.choice(["text/csv", "text/csv; charset=utf-16"])
    )
    query = chance.choice(["", "api=plate", "api=null&api=null", "api=vin&regions=" + "x," * 99])
    return _sent("list of photos", chance, body, kind, path="/v1/batches", query=query)


def _offer(chance: Random, _: str) -> Call:
    """Return a wish to upload something odd, or a look at a batch that cannot be."""
    if chance.random() < 0.3:
        name = chance.choice(["0" * 32, "x" * 3000, "%00", "..%2f..", "\ud800", "é", _word(chance)])
        return _sent("look at a batch", chance, "", None, path=f"/v1/batches/{name}", method="GET")
    name = chance.choice(
        ["a", "../a", "a/./b", "", "x" * 201, "é" * 200, "\0", "\ud800", "${filename}", _word(chance)]
    )
    wanted = {
        "api": chance.choice(["plate", "vin", None, 3]),
        "name": name,
        "content_type": chance.choice(["image/jpeg", "text/html", "image/" + "x" * 200, 5]),
        "regions": chance.choice([[], ["us"], ["!"] * 400_000, "us", [1]]),
    }
    return _sent(
        "wish to upload",
        chance,
        json.dumps({key: wanted[key] for key in chance.sample(list(wanted), chance.choice([4, 4, 3]))}),
        "application/json",
        path="/v1/uploads",
    )


Make = Callable[[Random, str], Call]

KINDS: Mapping[str, tuple[int, Make]] = {
    "picture": (50, _picture),
    "event": (6, _odd_event),
    "head": (6, _head),
    "query": (5, _query),
    "text": (3, _text),
    "form": (3, _urlencoded),
    "multipart": (7, _multipart),
    "JSON": (10, _json),
    "address": (6, _address),
    "server": (5, _server),
    "list": (5, _list),
    "offer": (4, _offer),
}
"""How often each kind comes, and what makes one."""
