"""Fuzzing with coverage (atheris) of what takes bytes apart before anything is decoded.

    python -m tests.hostile.fuzz.fuzz TARGET [seconds]

``TARGETS`` are our own readers: none of them hands the bytes to a library that decodes. What a target raises
other than its refusals, or takes seconds for, is a finding; it becomes a test beside the others.
"""

from __future__ import annotations

import base64
import json
import struct
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["carsight", "carsight_service"]):
    from carsight import bounds, heif, jpeg
    from carsight.formats import FORMATS, JPEG, WEBP, ImageError, sniff
    from carsight.tiff import orientation
    from carsight_service.contract.errors import InvalidImage, InvalidRequest, ServiceError
    from carsight_service.http.batches import parse_batch
    from carsight_service.http.request import parse_request
    from carsight_service.images import Base64Source, _decoded

from tests.events import MULTIPART, event
from tests.hostile import pictures

SECONDS_A_CALL = 20


def header(data: bytes) -> None:
    """Read a JPEG's header and go through its segments, as before it is decoded."""
    with suppress(ImageError):
        found = jpeg._header(b"\xff\xd8" + data)
        jpeg._rewritten(data, found)
        blank = jpeg.Jpeg.__new__(jpeg.Jpeg)
        blank._header, blank._sent, blank._data, blank._repaired = found, data, data, False
        blank.height, blank.width = found.size
        blank._lacks_intervals()
        blank._coefficient_bytes()


def container(data: bytes) -> None:
    """Bring any other picture file down to its first picture."""
    kind = (
        [kind for kind in FORMATS if kind is not JPEG][data[0] % (len(FORMATS) - 1)] if data else FORMATS[1]
    )
    with suppress(ImageError):
        essential = bounds.essential(kind, data[1:])
        if kind is WEBP:
            bounds.webp(essential)
    with suppress(ImageError):
        sniff(data[1:])
    assert 1 <= orientation(data[1:]) <= 8


def items(data: bytes) -> None:
    """Count the pixels of a HEIC or AVIF."""
    with suppress(heif.Malformed):
        assert heif.workload(data).pixels >= 0
        heif.without_sequence(data)


def _taken_apart(sent: dict[str, object]) -> None:
    with suppress(InvalidRequest, InvalidImage):
        request = parse_request(sent)
        _ = request.key, request.regions, request.camera_id, request.filename, request.fingerprint()
        if isinstance(request.source, Base64Source):
            _decoded(request.source.text)


def multipart(data: bytes) -> None:
    """Take a form apart."""
    _taken_apart(event(data, MULTIPART))
    _taken_apart(event(data[1:], "multipart/form-data; boundary=" + chr(data[0] if data else 45)))


def text(data: bytes) -> None:
    """Take JSON, a form or bare text apart; and a list of photos."""
    for kind in ("application/json", "application/x-www-form-urlencoded"):
        _taken_apart(event(data, kind))
    for kind in ("application/json", "text/csv"):
        with suppress(ServiceError):
            parse_batch(data, kind, {"api": ["plate"]})


def head(data: bytes) -> None:
    """Take a query and headers apart."""
    query, _, rest = data.decode("utf-8", "surrogateescape").partition("\n")
    kind, _, token = rest.partition("\n")
    made = event("{}", kind, query=query, headers={"authorization": token, "idempotency-key": token})
    _taken_apart({**made, "rawPath": token})


TARGETS: dict[str, Callable[[bytes], None]] = {
    one.__name__: one for one in (header, container, items, multipart, text, head)
}


def seeds(target: str) -> list[bytes]:
    """Return what to begin with."""
    files = [pictures.picture(Random(n))[1] for n in range(60)]
    files = [file for file in files if len(file) < 30_000]
    if target == "header":
        return [file[2:] for file in files if file[:2] == b"\xff\xd8"]
    if target == "items":
        return [file for file in files if file[4:8] == b"ftyp"]
    if target == "container":
        return [bytes([n]) + file for n in range(len(FORMATS) - 1) for file in files]
    image = base64.b64encode(b"\xff\xd8\xff a photo").decode()
    return [
        json.dumps({"image": image, "key": "a", "regions": ["us"], "config": {"mmc": 1}}).encode(),
        b"--XyZ\r\nContent-Disposition: form-data; name=\"upload\"; filename*=a''a\r\n\r\nx\r\n--XyZ--",
        b"image=%41&key=a&regions=us",
        b"sep=;\nid;url\n1;https://photos.example/a.jpg\n",
        b'key=a&regions=us\nmultipart/form-data; boundary="x"\nToken a',
        struct.pack("<I", 1),
    ]


def main() -> None:
    target, seconds = sys.argv[1], (sys.argv[2:] or ["60"])[0]
    with tempfile.TemporaryDirectory() as corpus:
        for n, seed in enumerate(seeds(target)):
            (Path(corpus) / str(n)).write_bytes(seed)
        settings = [
            f"-max_total_time={seconds}",
            f"-timeout={SECONDS_A_CALL}",
            "-max_len=40000",
            "-rss_limit_mb=1500",
        ]
        atheris.Setup([sys.argv[0], corpus, *settings, "-print_final_stats=1"], TARGETS[target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
