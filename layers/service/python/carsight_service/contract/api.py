"""The public contract: the two APIs and the content of their 200 answers.

The docstrings of classes are also the descriptions of schemas in the OpenAPI document.

Names, shapes and order of fields are CarsXE's. Additional fields come after CarsXE's, whose documentation
tells clients to ignore unknown ones. A field without a value is left out of the JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any, Literal

from carsight_service.contract.parts import NotEmpty, Number, Part, Pattern

MAX_IMAGE_BYTES = 10 * 1024 * 1024
"""The largest image file, from any source."""
MAX_URL_CHARACTERS = 2048
"""The longest URL of an image or a webhook."""

ApiName = Literal["plate_image_recognition", "vin_optical_character_recognition"]

IMAGE_FORMATS = "JPEG, PNG, WebP, HEIC, AVIF, TIFF, GIF or BMP"
IMAGE_LIMITS = "50 megapixels (WebP 16, HEIC 25, AVIF 16, TIFF 25)"
"""Formats and size limits: ``NAMES`` and ``LIMITS`` of ``carsight.formats``, for functions without the
engine. A test compares them."""

IMAGE_FIELDS = ("image_url", "image", "upload_url", "imageUrl")
"""Names of JSON members, form fields and CSV columns that may contain the image as text."""


class Api(StrEnum):
    """What a photo is read for; each API is metered on its own.

    The values also name the APIs in the key table, in metrics and in upload paths.
    """

    PLATE = "plate"
    VIN = "vin"

    @property
    def contract_name(self) -> ApiName:
        """The name in CarsXE's message about limits."""
        return "plate_image_recognition" if self is Api.PLATE else "vin_optical_character_recognition"


_BETWEEN_CODES = re.compile(r"[\s,;\[\]\"']+")
"""Includes brackets and quotes, as a form field may contain a JSON list."""


def region_codes(hints: Iterable[str]) -> tuple[str, ...]:
    """Return the region codes in ``hints``, each of which may be a list in one text, without duplicates.

    They are normalized to lower case and ISO 3166: clients also write ``us_ca``, and ``uk`` for ``gb``.
    """
    codes = (code.lower().replace("_", "-") for hint in hints for code in _BETWEEN_CODES.split(hint))
    return tuple(dict.fromkeys("gb" if code == "uk" else code for code in codes if code))


def without_surrogates(text: str) -> str:
    """Return ``text`` with question marks for lone surrogates, which JSON may hold and nothing can encode."""
    return text.encode("utf-8", "replace").decode()


MAX_BRACKETS = 10_000
"""The most opening brackets and braces of a JSON document, including those in strings; base64 has none."""


def bounded_json(text: str, most: int = MAX_BRACKETS) -> Any:
    """Parse JSON with at most ``most`` brackets, as an object of 7 characters takes 200 bytes of memory.

    Strings may contain unescaped line breaks, as base64 does that a shell has put between quotes. Raises
    ``ValueError`` if the text cannot be read, and its subclass ``JSONDecodeError`` if it is not JSON.
    """
    if text.count("{") + text.count("[") > most:
        raise ValueError("too many objects and lists")
    try:
        return json.loads(text, strict=False)
    except RecursionError:
        raise ValueError("nested too deeply") from None


Score = Annotated[float, Number(0, 1, places=3)]
"""0..1, to three places, like CarsXE's."""

Pixel = Annotated[int, Number(0)]
"""A coordinate in pixels of the upright photo."""

Point = tuple[Pixel, Pixel]


class Box(Part):
    """A rectangle, by its top left and bottom right corners."""

    xmin: Pixel
    ymin: Pixel
    xmax: Pixel
    ymax: Pixel


class Image(Part):
    """The size of the upright photo."""

    width: Pixel
    height: Pixel


class Answer(Part):
    """The body of a 200, without the request id and the time, which the endpoint adds."""

    def body(self, request_id: str, milliseconds: float) -> dict[str, Any]:
        """Return the JSON object to answer with, ``milliseconds`` after the image was loaded."""
        measured = {"request_id": request_id, "processing_time": round(milliseconds, 3)}
        return {**self.as_json(nulls=False), **measured}


# -- plates --------------------------------------------------------------------------------------------------

VehicleType = Literal["Big Truck", "Bus", "Motorcycle", "Pickup Truck", "Sedan", "SUV", "Van", "Unknown"]


class Region(Part):
    """A country code such as ``de``, or a country and its state such as ``us-ca``."""

    code: str
    score: Score
    """The probability that the plate is from there."""


class PlateCandidate(Part):
    """One possible text of a plate."""

    score: Score
    plate: str


class Character(Part):
    """One character of the plate, with its own score."""

    character: str
    score: Score


class Vehicle(Part):
    """The vehicle that carries the plate; if none was found, its score and coordinates are 0."""

    score: Score
    """The probability that this is a vehicle."""
    type: VehicleType
    box: Box
    color: str | None = None
    """Left out if it is unclear."""
    orientation: Literal["front", "rear"] | None = None
    """The side that is seen; left out if it is unclear."""


class PlateResult(Part):
    """One plate in the photo."""

    box: Box
    plate: Annotated[str, Pattern(r"^[0-9a-z]+$")]
    """Letters and digits only."""
    region: Region
    score: Score
    """The probability that the text is right."""
    candidates: Annotated[tuple[PlateCandidate, ...], NotEmpty()]
    """Best first; the first is the plate."""
    dscore: Score
    """The probability that this is a plate."""
    vehicle: Vehicle
    polygon: tuple[Point, Point, Point, Point]
    """The plate's corners, clockwise from the top left of its text."""
    characters: tuple[Character, ...]


class PlateAnswer(Answer):
    """The plates in a photo."""

    success: Literal[True] = True
    message: Literal[""] = ""
    results: tuple[PlateResult, ...]
    processing_time: float = 0.0
    """Milliseconds from the image's bytes to the answer."""
    image: Image
    """After the orientation in its metadata has been applied."""
    request_id: str = ""


class PlatesAndVehicles(PlateAnswer):
    """The plates, possibly none, and the vehicles without one; it is always converted before it is sent."""

    vehicles: tuple[Vehicle, ...] = ()


# -- VINs ----------------------------------------------------------------------------------------------------

Vin = Annotated[str, Pattern(r"^[0-9A-HJ-NPR-Z]{17}$")]


class VinBox(Part):
    """The box around the 17 characters, with its fields in CarsXE's order for VINs."""

    xmin: Pixel
    xmax: Pixel
    ymin: Pixel
    ymax: Pixel


Confidence = Annotated[float, Number(0, 1, places=6)]
"""0..1, to six places: how close it is to 1 matters."""


class CheckDigit(Part):
    """Whether the ninth character is a valid check digit (49 CFR 565.15), and whether it has to be one."""

    valid: bool
    applies: bool


class Repair(Part):
    """A character that was corrected after it was read; ``position`` counts from 1."""

    position: Annotated[int, Number(1, 17)]
    from_: str
    """What the character looks most like."""
    to: str
    reason: str
    """``check_digit``, ``barcode``, ``maker`` or ``pattern``."""


class VinReading(Part):
    """One possible VIN."""

    vin: Vin
    confidence: Confidence
    """The probability that this is the VIN."""
    box: VinBox
    source: Literal["text", "barcode", "both"]
    """What was read: the printed text, the barcode, or both alike."""
    check_digit: CheckDigit
    repairs: tuple[Repair, ...]
    """How the VIN differs from what the pixels alone look most like."""


class VinAnswer(Answer):
    """The VIN in a photo: the best candidate, and all candidates, best first."""

    success: Literal[True] = True
    vin: Vin
    box: VinBox
    confidence: Confidence
    candidates: Annotated[tuple[VinReading, ...], NotEmpty()]
    source: Literal["text", "barcode", "both"]
    check_digit: CheckDigit
    repairs: tuple[Repair, ...]
    processing_time: float = 0.0
    image: Image
    request_id: str = ""


# -- keys ----------------------------------------------------------------------------------------------------

Period = Annotated[str, Pattern(r"^(\d{4}-\d{2}|lifetime)$")]
"""A month (UTC), or ``lifetime`` for a one-time allowance."""

Count = Annotated[int, Number(0)]


class User(Part):
    """The owner of a key, and its plan."""

    email: str
    label: str
    tier: str
    key: str
    """The part of the key that may be shown."""
    created: str
    """ISO 8601, UTC."""


class Validation(Part):
    """A key that is served."""

    success: Literal[True] = True
    active: Literal[True] = True
    user: User
    request_id: str


class CurrentUsage(Part):
    """One API's usage in the current period."""

    api: ApiName
    period: Period
    current: Count
    """Answers with a 200 so far."""
    limit: Count
    remaining: Count
    overage: bool
    """Whether requests over the limit are served and counted; otherwise they get a 429."""


class PastUsage(Part):
    """One API's usage in a past period."""

    api: ApiName
    period: Period
    current: Count
    limit: Count
    tier: str


class UsageReport(Part):
    """A key's current and past usage."""

    success: Literal[True] = True
    tier: str
    usage: tuple[CurrentUsage, ...]
    """One for each API that the tier includes."""
    history: tuple[PastUsage, ...]
    """Newest first; thirteen months are kept."""
    request_id: str
