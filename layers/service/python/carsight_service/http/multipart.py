"""Parsing ``multipart/form-data`` (RFC 7578), as written by browsers and libraries.

Parsing takes time linear in the body's length, whatever the content. The standard library's mail parser takes
seconds for a header with very many parameters, and goes through a photo line by line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import NamedTuple
from urllib.parse import unquote

from carsight_service.contract.errors import InvalidRequest

MAX_PARTS = 100
"""The most parts of a form."""

MAX_HEAD_BYTES = 2048
"""The most bytes of a part's header."""

_MAX_PARAMETERS = 20
"""The most parameters of a header; others are ignored."""

_PARAMETER = re.compile(r';\s*([^\s;="]+?)(\*?)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)', re.DOTALL)
"""Name, asterisk of an extended value (RFC 8187), value."""

_CHARSETS = ("utf-8", "iso-8859-1", "us-ascii")

_OPENING = re.compile(rb"\s{0,4}--([^\r\n]{1,70})\r?\nContent-", re.IGNORECASE)
"""The beginning of a form, whatever its declared type."""


class FormPart(NamedTuple):
    """One part of a form."""

    name: str
    content: bytes
    is_file: bool
    """Whether its header declares a file."""
    filename: str
    """Empty if none is given."""


def parts(boundary: str, body: bytes) -> Iterator[FormPart]:
    """Yield the parts of ``body``.

    Raises:
        InvalidRequest: There are more than ``MAX_PARTS``, or a header is longer than ``MAX_HEAD_BYTES``.
    """
    delimiter = b"\n--" + boundary.encode("ascii", "replace")
    sections = (b"\n" + body).split(delimiter, MAX_PARTS + 1)[1:]
    for number, section in enumerate(sections):
        if section.startswith(b"--"):
            break
        if number == MAX_PARTS:
            raise InvalidRequest(f"A form may have at most {MAX_PARTS} parts")
        if not re.match(rb"[ \t]*\r?\n", section):
            continue  # another boundary with the same beginning
        end = re.search(rb"\r?\n\r?\n", section[:MAX_HEAD_BYTES])
        if end is None and len(section) > MAX_HEAD_BYTES:
            raise InvalidRequest(f"The header of a form's part may have at most {MAX_HEAD_BYTES} bytes")
        if end is None:
            continue
        name, is_file, filename = _described(section[: end.start()].decode("utf-8", "replace"))
        yield FormPart(name, section[end.end() :].removesuffix(b"\r"), is_file, filename)


def boundary_of(content_type: str, head: bytes, body: bytes | str) -> str:
    """Return a form's boundary: the declared one or, if that is missing, the one the body begins with.

    ``head`` is the beginning of ``body``. Clients that set the type by hand leave out the boundary, declare
    the form as JSON, or send no form at all; then "" is returned.
    """
    kind, parameters = _header(content_type)
    declared, opening = parameters.get("boundary", ""), _OPENING.match(head)
    if declared and (opening or kind == "multipart/form-data"):
        delimiter = f"--{declared}"
        if delimiter in body if isinstance(body, str) else delimiter.encode("ascii", "replace") in body:
            return declared
    return opening[1].decode("ascii", "replace") if opening else ""


def _described(head: str) -> tuple[str, bool, str]:
    """Return a part's name, whether it is a file, and the file's name."""
    headers = {}
    for line in re.sub(r"\r?\n[ \t]+", " ", head).splitlines():
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value
    _, parameters = _header(headers.get("content-disposition", ""))
    kind, _ = _header(headers.get("content-type", ""))
    filename = parameters.get("filename")
    return parameters.get("name", ""), filename is not None or kind.startswith("image/"), filename or ""


def _header(text: str) -> tuple[str, Mapping[str, str]]:
    """Return a header's value in lower case, and its parameters by name (RFC 9110, 5.6.6)."""
    text = text[:MAX_HEAD_BYTES]
    value = text.partition(";")[0]
    parameters: dict[str, str] = {}
    for match in islice(_PARAMETER.finditer(text, len(value)), _MAX_PARAMETERS):
        name, extended, given = match.groups()
        given = given.strip()
        if given.startswith('"'):
            given = re.sub(
                r"\\(.)", r"\1", given[1:-1] if given.endswith('"') else given[1:], flags=re.DOTALL
            )
        if extended:
            charset, _, given = given.partition("'")
            if charset.lower() not in _CHARSETS:
                continue
            given = unquote(given.partition("'")[2], charset, "replace")
        parameters.setdefault(name.lower(), given)
    return value.strip().lower(), parameters
