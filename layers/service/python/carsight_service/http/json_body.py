"""Parsing JSON bodies, without passing a photo's base64, which is most of the text, through ``json``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from secrets import token_hex
from typing import Any

from carsight_service.contract.api import bounded_json
from carsight_service.images import UnusableSource, decoded_source

_MAX_HEAD = 4096
"""How many characters are searched for an image's member; if it comes later, the text is parsed as usual."""
_MIN_CUT = 4096
"""The fewest characters of an image for which cutting it out pays."""

_TOO_MUCH = "The JSON is nested too deeply, or has too many objects and lists or too long a number."


def parse(text: str, image_fields: Iterable[str]) -> Any:
    """Return the value of ``text``; an ``UnusableSource``, which says why, if it cannot be read.

    If the member of one of ``image_fields`` is long base64, its value is an ``ImageSource``.
    """
    try:
        return _without_image(text, image_fields) or bounded_json(text)
    except json.JSONDecodeError as error:
        return UnusableSource(_mistake(text, error))
    except ValueError:
        return UnusableSource(_TOO_MUCH)


def _without_image(text: str, image_fields: Iterable[str]) -> dict[str, Any] | None:
    """Return what ``json.loads`` would, with an image's base64 decoded; None if this shortcut fails.

    The photo's base64, most of the text, is cut out and decoded separately, and the rest is parsed with an
    unguessable word in its place. If that word comes back as the member's whole value, the quotes around it
    were the value's own, because base64 contains neither quotes nor escapes.
    """
    beginning = re.compile(rf'"({"|".join(image_fields)})"[ \t\n\r]*+:[ \t\n\r]*+"')
    named = beginning.search(text, 0, _MAX_HEAD)
    if named is None:
        return None
    start = named.end()
    end = text.find('"', start)
    if end - start < _MIN_CUT:
        return None
    source = decoded_source(text[start:end])
    if source is None:
        return None
    word = f"x{token_hex(16)}"
    try:
        value = bounded_json(f"{text[:start]}{word}{text[end:]}")
    except ValueError:
        return None
    if not isinstance(value, dict) or value.get(named[1]) != word:
        return None
    value[named[1]] = source
    return value


def _mistake(text: str, error: json.JSONDecodeError) -> str:
    """Return where the JSON of ``text`` is broken; its first character is number 1."""
    if error.pos >= len(text) or error.msg.startswith("Unterminated string"):
        return f"The JSON is incomplete: it ends at character {len(text)}. Was the body cut off?"
    return f"The JSON is invalid at character {error.pos + 1}: {error.msg[0].lower()}{error.msg[1:]}."
