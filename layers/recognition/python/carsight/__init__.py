"""License plates and VINs from photos: pixels in, readings out. Knows nothing of HTTP or AWS.

    import carsight

    for plate in carsight.read_plates("car.jpg"):
        print(plate.text, plate.score, plate.region, plate.box)

``read_plates`` and ``read_vin`` each load their models at the first call and keep them for the life of the
process. To choose when models are loaded, create a recognizer with ``PlateRecognizer.load()`` or
``VinRecognizer.load()``. All of these are safe to call from many threads. Modules are imported when one of
their names is first used, so that reading plates loads nothing that only VINs need, and vice versa.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from carsight.geometry import Box
    from carsight.photo import ImageError, Photo, PhotoSource
    from carsight.plate.reader import Candidate
    from carsight.plate.recognizer import PlateReading, PlateRecognizer, Vehicle
    from carsight.vin.recognizer import CheckDigit, Repair, VinCandidate, VinRecognizer, VinResult

    _Recognizer = TypeVar("_Recognizer", PlateRecognizer, VinRecognizer)

__version__ = "0.1.0"

__all__ = [
    "Box",
    "Candidate",
    "CheckDigit",
    "ImageError",
    "Photo",
    "PhotoSource",
    "PlateReading",
    "PlateRecognizer",
    "Repair",
    "Vehicle",
    "VinCandidate",
    "VinRecognizer",
    "VinResult",
    "read_plates",
    "read_vin",
]

_NAMES = {
    "carsight.geometry": ("Box",),
    "carsight.photo": ("ImageError", "Photo", "PhotoSource"),
    "carsight.plate.reader": ("Candidate",),
    "carsight.plate.recognizer": ("PlateReading", "PlateRecognizer", "Vehicle"),
    "carsight.vin.recognizer": ("CheckDigit", "Repair", "VinCandidate", "VinRecognizer", "VinResult"),
}
"""The public names by module, each of which is imported when one of its names is first used."""

_engines: dict[type, Any] = {}
_loading = Lock()


def read_plates(image: PhotoSource, regions: Sequence[str] = ()) -> list[PlateReading]:
    """Read the license plates of a photo, best first; the list is empty if none is found.

    Args:
        image: A photo's path or bytes (``carsight.formats`` lists the formats), or its pixels (height x width
            x 3, BGR, uint8).
        regions: Where the plates are expected to be from, such as ``us-ca`` or ``de``; a hint, not a filter.

    Raises:
        ImageError: it is not a photo that can be read.
        OSError: the file cannot be opened.
    """
    from carsight.plate.recognizer import PlateRecognizer

    return _engine(PlateRecognizer).read(image, regions)


def read_vin(image: PhotoSource) -> VinCandidate | None:
    """Read the VIN of a photo, from its text, its barcode or both; None if it would be a guess.

    Takes the same images as ``read_plates`` and raises the same errors. ``VinRecognizer.read`` also returns
    the other candidates, and whether the photo shows text at all.
    """
    from carsight.vin.recognizer import VinRecognizer

    candidates = _engine(VinRecognizer).read(image).candidates
    return candidates[0] if candidates else None


def _engine(recognizer: type[_Recognizer]) -> _Recognizer:
    """Return the process's instance of ``recognizer``, which the first call loads."""
    with _loading:
        if recognizer not in _engines:
            _engines[recognizer] = recognizer.load()
        engine: _Recognizer = _engines[recognizer]
    return engine


def __getattr__(name: str) -> Any:
    for module, names in _NAMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(module), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
