"""Licence plates: a photo in, readings out.

``PlateRecognizer.read`` finds plates and vehicles, straightens each plate by its corners, reads it, and says
which vehicle carries it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carsight import runtime
from carsight.detector import Detection, Detector, box_corners
from carsight.geometry import Box, Polygon, polygon, sides
from carsight.photo import Photo, PhotoSource, open_photo
from carsight.plate.reader import Candidate, PlateReader, Reading, agreed, rectify
from carsight.plate.vehicles import VehicleClassifier, carrier
from carsight.refusal import Refusal

Floats = NDArray[np.float32]

_FINE_HEIGHT = 24
"""A plate lower than this in a reduced decode is read from the full one: its strokes are thinner than a
pixel.
"""

_ONE_ROW, _TWO_ROWS = 0.1, 0.9
"""Between these the detector does not know how many rows a plate has, and it is read both ways."""

_SQUARE = 1.8
"""A plate less than this many times as wide as high is read both ways too, whatever the detector thinks:
plates of two rows are rare in its training."""

_TWO_ROWS_FAVOUR = 0.6
"""Two rows win from this share of the score of one: the large row alone reads well, but is half a plate."""

_DOUBTFUL = 0.65
"""A detection below this score counts only if it reads like a plate; signs and grilles look like one."""

_SURE = 0.7
"""A reading below this score is made again from other cuts of the plate, as the corners may be at fault."""

_WIDER = 0.06
"""How much one of the other cuts gains at each end, in shares of the plate's width. Chosen with the other,
the upright box, on training photos: 944 of 991 plates right, 934 by one cut."""

_LEGIBLE = 0.1
"""What a doubtful plate's reading must score; it must hold a digit as well, which words on signs do not."""


@dataclass(frozen=True, slots=True)
class Vehicle:
    """The vehicle that carries a plate.

    ``type`` in CarsXE's words; colour and side only where they are clear.
    """

    box: Box
    score: float
    type: str
    color: str | None = None
    orientation: str | None = None


@dataclass(frozen=True, slots=True)
class PlateReading:
    """One plate: what it says, where it is, whose it is. Scores are 0..1, boxes in pixels of the upright
    photo.

    ``text`` is lower case, letters and digits only, and equals ``candidates[0].text``. ``score`` is the
    probability that the whole text is right, ``detection_score`` that this is a plate. ``region`` is ``cc``
    or ``cc-state``. ``characters`` holds each character of ``text`` with a score of its own. ``vehicle`` is
    None where no vehicle was found round the plate.
    """

    text: str
    score: float
    detection_score: float
    box: Box
    polygon: Polygon
    candidates: tuple[Candidate, ...]
    characters: tuple[Candidate, ...]
    region: str
    region_score: float
    vehicle: Vehicle | None


class PlateReadings(list[PlateReading]):
    """The plates of a photo, surest first. Where there are none, ``refusal`` says why."""

    def __init__(self, readings: Iterable[PlateReading] = (), refusal: Refusal | None = None) -> None:
        super().__init__(readings)
        self.refusal = refusal


class PlateRecognizer:
    """Reads the plates of a photo. Made once per process; safe to call from many threads."""

    def __init__(self, detector: Detector, reader: PlateReader, classifier: VehicleClassifier) -> None:
        self._detector = detector
        self._reader = reader
        self._classifier = classifier

    @classmethod
    def load(cls, models: Path = runtime.MODELS) -> PlateRecognizer:
        """Open the models in the folder ``models`` and run each once, so that the first photo finds them
        warm.

        Raises:
            onnxruntime.capi.onnxruntime_pybind11_state.NoSuchFile: a model is not there.
        """
        recognizer = cls(
            Detector(runtime.session(models / "plate_detector.onnx")),
            PlateReader(runtime.session(models / "plate_reader.onnx")),
            VehicleClassifier(runtime.session(models / "plate_vehicle.onnx")),
        )
        recognizer._warm_up()
        return recognizer

    def read(self, image: PhotoSource, regions: Sequence[str] = ()) -> PlateReadings:
        """The plates of ``image``, surest first; none found is an empty list that says why.

        Args:
            image: A file's path or bytes, its pixels (height x width x 3, BGR, uint8), or a decoded photo.
            regions: Codes of ``regions.CODES`` where the caller expects the plates to be from; a hint, no
            filter.

        Raises:
            ImageError: ``image`` is not a photo that can be read.
            OSError: the file cannot be opened.
        """
        photo = open_photo(image)
        found = self._detector.detect(photo.pixels)
        vehicles = [detection for detection in found if detection.is_vehicle]
        readings = []
        for plate in (detection for detection in found if not detection.is_vehicle):
            reading = self._read_plate(photo, plate, regions)
            if not _believable(plate, reading):
                continue
            readings.append(
                PlateReading(
                    text=reading.text,
                    score=reading.score,
                    detection_score=plate.score,
                    box=_box(photo, plate),
                    polygon=polygon(plate.corners / photo.scale, photo.width, photo.height),
                    candidates=reading.candidates,
                    characters=reading.characters,
                    region=reading.region,
                    region_score=reading.region_score,
                    vehicle=self._vehicle(photo, plate, vehicles),
                )
            )
        readings.sort(key=lambda one: one.detection_score * one.score, reverse=True)
        return PlateReadings(readings)

    def _read_plate(self, photo: Photo, plate: Detection, regions: Sequence[str]) -> Reading:
        """The reading of one plate, of both numbers of rows where the detector is unsure."""
        corners, fine = plate.corners, photo
        width, height = sides(corners)
        if photo.scale < 1 and height < _FINE_HEIGHT:
            fine = photo.full()
            corners = corners * (fine.scale / photo.scale)
        ambiguous = _ONE_ROW < plate.two_rows < _TWO_ROWS or width < _SQUARE * max(height, 1.0)
        rows = (False, True) if ambiguous else (plate.two_rows > 0.5,)
        one, *two = self._reader.read([rectify(fine.pixels, corners, each) for each in rows], regions)
        second = bool(two) and two[0].score > _TWO_ROWS_FAVOUR * one.score
        reading = two[0] if second else one
        if reading.score >= _SURE:
            return reading
        cuts = _other_cuts(corners, plate.box * np.float32(fine.scale / photo.scale))
        crops = [rectify(fine.pixels, cut, rows[second]) for cut in cuts]
        return agreed([reading, *self._reader.read(crops, regions)])

    def _vehicle(self, photo: Photo, plate: Detection, vehicles: Sequence[Detection]) -> Vehicle | None:
        vehicle = carrier(plate, vehicles)
        if vehicle is None:
            return None
        looks = self._classifier.look(photo.pixels, vehicle)
        return Vehicle(
            box=_box(photo, vehicle),
            score=vehicle.score,
            type=looks.type,
            color=looks.color,
            orientation=looks.orientation,
        )

    def _warm_up(self) -> None:
        """Run every net once, on as little as it takes: the first inference makes ready what others use."""
        grey = np.full((64, 160, 3), 114, np.uint8)
        self._detector.detect(grey)
        self._reader.read([grey[:48]])
        box = np.array([0, 0, 160, 64], np.float32)
        self._classifier.look(grey, Detection("Sedan", 1.0, box, box))


def _other_cuts(corners: Floats, box: Floats) -> list[Floats]:
    """Where else the plate may lie: longer, or simply upright in its box."""
    along = corners[[1, 1, 2, 2]] - corners[[0, 0, 3, 3]]
    outwards = np.array([[-_WIDER], [_WIDER], [_WIDER], [-_WIDER]], np.float32)
    return [corners + along * outwards, box_corners(box)]


def _believable(plate: Detection, reading: Reading) -> bool:
    """Whether what was found is a plate: surely seen, or doubtfully seen and reading like one."""
    if plate.score >= _DOUBTFUL:
        return reading.text != ""
    return reading.score >= _LEGIBLE and any(character.isdigit() for character in reading.text)


def _box(photo: Photo, detection: Detection) -> Box:
    return Box.around(detection.box.reshape(2, 2) / photo.scale, photo.width, photo.height)
