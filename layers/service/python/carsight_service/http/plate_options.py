"""A caller's filters on plates, by text, region and vehicle.

The options and their names are Plate Recognizer's (Snapshot API reference, "POST Parameters" and "Engine
configuration"); ``text_formats`` is a field of both dialects. They only select from what was read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from carsight_service.contract.api import (
    Answer,
    Api,
    Character,
    PlateAnswer,
    PlateCandidate,
    PlateResult,
    PlatesAndVehicles,
    bounded_json,
)
from carsight_service.contract.errors import InvalidRequest, NothingFound
from carsight_service.reading import Recognize

MAX_FORMATS = 20
MAX_FORMAT_CHARACTERS = 100

_FORMAT = re.compile(r"(?:(?:[0-9a-z]|\[(?:[0-9a-z](?:-[0-9a-z])?)+\]|\\d)(?:\{\d(?:,\d)?\}|\?)?)+")
"""Characters, character classes and counts, without groups, alternatives or unbounded repetition, so that
matching takes negligible time for any format."""

_MAX_OPTIONAL = 5
"""The most parts of one format that vary in length: with 8, matching 20 formats and 36 plates took 1.4 s."""
_LEFT_OUT = (
    "The photo shows plates, but the request's text_formats and config exclude all of them. Send it without "
    "these options to see what was read."
)


@dataclass(frozen=True, slots=True)
class PlateOptions:
    """Which of the plates that were read are returned; by default all."""

    text_formats: tuple[re.Pattern[str], ...] = ()
    """Only plates whose lower-case text fully matches one of these; all if empty."""
    regions: tuple[str, ...] = ()
    """Only plates from one of these regions or a state of one; all if empty."""
    on_vehicles: bool = False
    """Only plates whose vehicle was found."""
    vehicles: bool = False
    """Also vehicles without a plate, in dialects that support them."""

    @classmethod
    def of(cls, config: object, text_formats: Sequence[object], regions: Sequence[str]) -> PlateOptions:
        """Read a request's options; ``config`` is a JSON object, or the text of one, or None.

        Unknown members are ignored. Raises ``InvalidRequest`` for an invalid configuration or format.
        """
        settings = _configuration(config)
        formats = settings.get("text_formats", text_formats)
        if not isinstance(formats, (list, tuple)):
            raise InvalidRequest("text_formats must be a list of patterns, such as [a-z]{2}[0-9]{4}")
        return cls(
            text_formats=tuple(_format(text) for text in formats[: MAX_FORMATS + 1]),
            regions=tuple(regions) if settings.get("region") == "strict" else (),
            on_vehicles=settings.get("detection_rule") == "strict",
            vehicles=settings.get("detection_mode") == "vehicle",
        )

    def choose(self, recognize: Recognize) -> Recognize:
        """Return ``recognize`` with filtered answers; it raises ``NothingFound`` if nothing is left."""
        if self == PlateOptions():
            return recognize

        def chosen(image: bytes, regions: Sequence[str]) -> Answer:
            answer = recognize(image, regions)
            if not isinstance(answer, PlateAnswer):
                return answer
            left = tuple(kept for plate in answer.results if (kept := self._select(plate)) is not None)
            if isinstance(answer, PlatesAndVehicles):
                return _with_left(answer, left)
            if not left:
                raise NothingFound(Api.PLATE, detail=_LEFT_OUT)
            return answer.changed(results=left)

        return chosen

    def _select(self, plate: PlateResult) -> PlateResult | None:
        """Return ``plate`` with the candidates that match, or None."""
        if self.on_vehicles and plate.vehicle.score == 0:
            return None
        code = plate.region.code
        if self.regions and not any(f"{code}-".startswith(f"{region}-") for region in self.regions):
            return None
        if not self.text_formats:
            return plate
        fitting = tuple(c for c in plate.candidates if any(f.fullmatch(c.plate) for f in self.text_formats))
        if not fitting:
            return None
        return plate.changed(candidates=fitting, **_best(plate, fitting[0]))


def _with_left(answer: PlatesAndVehicles, left: tuple[PlateResult, ...]) -> PlatesAndVehicles:
    """Return ``answer`` with the plates ``left``; the others' vehicles become vehicles without a plate."""
    shown = {plate.vehicle.box for plate in left} | {vehicle.box for vehicle in answer.vehicles}
    freed = {
        plate.vehicle.box: plate.vehicle
        for plate in answer.results
        if plate.vehicle.score > 0 and plate.vehicle.box not in shown
    }
    return answer.changed(results=left, vehicles=(*answer.vehicles, *freed.values()))


def _best(plate: PlateResult, candidate: PlateCandidate) -> dict[str, Any]:
    """Return the fields of a plate that change if its text is ``candidate``."""
    if candidate.plate == plate.plate:
        return {}
    # The characters' scores belong to another text, so each gets the score of the whole text.
    characters = tuple(Character(character=letter, score=candidate.score) for letter in candidate.plate)
    return {"plate": candidate.plate, "score": candidate.score, "characters": characters}


def _configuration(config: object) -> dict[str, Any]:
    if isinstance(config, str) and config.strip():
        try:
            config = bounded_json(config)
        except ValueError:
            raise InvalidRequest("config is not valid JSON") from None
    if config is None or config == "":
        return {}
    if not isinstance(config, dict):
        raise InvalidRequest('config must be a JSON object, such as {"region": "strict"}')
    return config


def _format(text: object) -> re.Pattern[str]:
    lowered = text.strip().lower() if isinstance(text, str) else ""
    varying = lowered.count("?") + lowered.count(",")
    if len(lowered) > MAX_FORMAT_CHARACTERS or varying > _MAX_OPTIONAL or _FORMAT.fullmatch(lowered) is None:
        raise InvalidRequest(
            "A pattern in text_formats consists of letters, digits and classes such as [a-z], [0-9] or \\d, "
            "each optionally followed by {2}, {1,3} or ?; for example [a-z]{2}[0-9]{2}[a-z]{3}"
        )
    try:
        return re.compile(lowered)
    except re.error:
        raise InvalidRequest(f"{lowered} is not a valid pattern") from None
