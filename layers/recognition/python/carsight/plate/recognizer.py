"""License plates: a photo in, readings out.

``PlateRecognizer.read`` finds plates and vehicles, reads each plate (``cuts``), decides which plates to
return, and assigns vehicles to them. A photo in which nothing can be read may be rotated, and is also read in
other orientations (``turns``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from carsight import runtime
from carsight.ctc import softmax
from carsight.detections import Detection, carrier
from carsight.detector import Detector, Findings
from carsight.geometry import Box, Floats, Pixels, Polygon, box_corners, lies_in, polygon, sides
from carsight.photo import Photo, PhotoSource, open_photo
from carsight.pixels import halve_to_cover, percentile
from carsight.plate.cuts import CutReader, plate_height
from carsight.plate.reader import HEIGHT, ONE_ROW, Candidate, PlateReader, Reading
from carsight.plate.regions import CHOOSING, agrees, fits_series, plausibilities, rules
from carsight.plate.tuning import PlateTuning
from carsight.plate.vehicles import VehicleClassifier

if TYPE_CHECKING:
    from carsight.refusal import Refusal

__all__ = ["PlateReading", "PlateReadings", "PlateRecognizer", "PlateTuning", "Vehicle"]


@dataclass(frozen=True, slots=True)
class Vehicle:
    """A vehicle, with or without a plate.

    ``box`` is in pixels of the upright photo; ``score`` (0..1) is the detector's that this is a vehicle.
    ``type``, ``color`` and ``orientation`` use CarsXE's terms; the last two are None if unclear.
    """

    box: Box
    score: float
    type: str
    color: str | None = None
    orientation: str | None = None


@dataclass(frozen=True, slots=True)
class PlateReading:
    """One plate: its text, place, region and vehicle. Boxes are in pixels of the upright photo.

    ``text`` is lower case, letters and digits only, and equals ``candidates[0].text``. ``score`` is the
    probability that the whole text is right, ``detection_score`` that this is a plate; all scores are 0..1.
    ``region`` is ``cc`` or ``cc-state``. ``characters`` has each character of ``text`` with its own score.
    ``vehicle`` is None if no vehicle was found around the plate.
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
    """The plates of a photo, best first. If there are none, ``refusal`` says why.

    ``vehicles`` are those without a plate, best first, if they were requested.
    """

    def __init__(
        self,
        readings: Iterable[PlateReading] = (),
        refusal: Refusal | None = None,
        vehicles: tuple[Vehicle, ...] = (),
    ) -> None:
        super().__init__(readings)
        self.refusal = refusal
        self.vehicles = vehicles


_NOTHING = Reading("", 0.0, (), (), "", 0.0, np.zeros(0))
"""The reading of a plate that is too small to be read."""

_INSIDE, _OVERLAP = 0.9, 0.4
"""Two boxes are of one plate if this share of the smaller is inside the larger, or if their IoU is higher."""

_STICKER, _SURE_WHOLE = 0.2, 0.8
"""The largest area of a sticker, relative to its plate; what a plate's text scores if that is the whole."""


class Find(NamedTuple):
    """Something that may be a plate, its reading, and the vehicle that carries it, if any.

    ``stands_high`` says whether it is higher on the vehicle than most plates are, in the unturned photo.
    """

    plate: Detection
    reading: Reading
    vehicle: Detection | None
    stands_high: bool


class Attempt(NamedTuple):
    """What a photo shows when turned counterclockwise by ``quarters``, in coordinates of the unturned photo.

    ``found`` are the plates that are accepted, ``doubted`` those that are not; ``upside_down`` is the best
    score of a text that was read upside down, and ``evidence`` the best score of anything that might be a
    plate. ``bare`` are the vehicles that carry none of ``found``. ``written`` says whether a sign was read
    with certainty, which shows that the photo is upright.
    """

    quarters: int
    found: tuple[Find, ...]
    doubted: tuple[Find, ...]
    bare: tuple[Detection, ...]
    upside_down: float
    evidence: float
    written: bool = False

    @property
    def surest(self) -> Find | None:
        """The plate with the surest text."""
        return max(self.found, key=lambda each: each.reading.score, default=None)

    @property
    def best(self) -> float:
        """The score of the surest text, 0 if there is none."""
        return self.surest.reading.score if self.surest else 0.0

    @property
    def text(self) -> str:
        """The surest text, "" if there is none."""
        return self.surest.reading.text if self.surest else ""


def _is_better(other: PlateReading, reading: PlateReading) -> bool:
    """Whether ``other`` reads the same plate as ``reading``, with a larger or smaller box, and is better.

    The larger one is better if its text is longer and certain, and contains the smaller one's text, unless
    that is of a sticker or a word on the plate. Otherwise it shows more than the plate, and the smaller one
    is better.
    """
    part, whole = sorted((reading, other), key=lambda each: (_area(each.box), -each.detection_score))
    wide = min(part.box.xmax, whole.box.xmax) - max(part.box.xmin, whole.box.xmin)
    high = min(part.box.ymax, whole.box.ymax) - max(part.box.ymin, whole.box.ymin)
    area, of_whole, shared = _area(part.box), _area(whole.box), max(wide, 0) * max(high, 0)
    same = shared >= _INSIDE * area or shared > _OVERLAP * (area + of_whole - shared)
    if reading is other or not same:
        return False
    sticker = area <= _STICKER * of_whole
    says_more = len(whole.text) > len(part.text) and whole.score >= _SURE_WHOLE
    if says_more and (sticker or part.text in whole.text):
        return other is whole
    return other is part and not sticker


def _is_writing(reading: Reading) -> bool:
    """Whether ``reading`` has a form found on signs and in cameras' captions, such as a date."""
    from carsight.plate import writing  # not needed for most plates, whose region is clear

    return writing.is_known(reading.text.upper())


def _area(box: Box) -> int:
    return (box.xmax - box.xmin) * (box.ymax - box.ymin)


class PlateRecognizer:
    """Reads the plates of a photo. Made once per process; safe to call from many threads."""

    def __init__(
        self,
        detector: Detector,
        reader: Callable[[], PlateReader],
        classifier: VehicleClassifier,
        tuning: PlateTuning | None = None,
        lean: PlateReader | None = None,
        second: Callable[[], Detector] | None = None,
    ) -> None:
        """Detect with ``detector`` and read with ``lean``.

        Where the detector finds vehicles and no plate, ``second()`` is used, and where ``lean`` is unsure
        ``reader()``. Both are called on first use.
        """
        self._tuning = tuning or PlateTuning()
        self._detector = detector
        self._second = second
        self._cuts = CutReader(reader, lean, self._tuning, detector.threshold)
        self._classifier = classifier

    @classmethod
    def load(cls, models: Path = runtime.MODELS, tuning: PlateTuning | None = None) -> PlateRecognizer:
        """Open the models in the folder ``models``.

        Raises:
            onnxruntime.capi.onnxruntime_pybind11_state.NoSuchFile: A model is missing.
            KeyError: A model's metadata is incomplete.
        """
        tuning = tuning or PlateTuning()
        return cls(
            Detector(runtime.session(models / "plate_detector.onnx"), tuning.detector),
            runtime.once(lambda: PlateReader(runtime.session(models / "plate_reader.onnx"), tuning.reader)),
            VehicleClassifier(runtime.session(models / "plate_vehicle.onnx"), tuning.classifier),
            tuning,
            PlateReader(runtime.session(models / "plate_reader_lean.onnx"), tuning.reader),
            runtime.once(
                lambda: Detector(
                    runtime.session(models / "plate_detector_second.onnx"), tuning.second_detector
                )
            ),
        )

    def read(
        self, image: PhotoSource, regions: Sequence[str] = (), *, vehicles: bool = False
    ) -> PlateReadings:
        """Read the plates of ``image``, best first; an empty list has a ``refusal`` that says why.

        Args:
            image: A file's path or bytes, its pixels (height x width x 3, BGR, uint8), or a decoded photo.
            regions: Codes of ``regions.CODES`` that the plates are expected to be from; a hint, not a filter.
            vehicles: Also describe the vehicles without a plate; each takes as long as that of a plate.

        Raises:
            ImageError: ``image`` is not a photo that can be read.
            OSError: The file cannot be opened.
        """
        photo = open_photo(image)
        attempt = self._attempt(self._detector, photo, 0, regions)
        unseen = attempt.bare and not attempt.found and attempt.evidence >= self._tuning.second_evidence
        if unseen and self._second is not None:
            again = self._attempt(self._second(), photo, 0, regions)
            attempt = again if again.found else attempt
        unsettled = attempt.best < self._tuning.settled and not attempt.written
        if unsettled or attempt.upside_down > attempt.best:
            from carsight.plate.turns import best_way_up  # not needed for most photos, which are upright

            attempt = best_way_up(
                attempt,
                lambda quarters: self._attempt(self._detector, photo, quarters, regions),
                lambda: self._detector.promising_turns(photo.pixels),
                self._tuning,
            )
        readings = [self._answer(photo, find, attempt.quarters) for find in attempt.found]
        readings = [each for each in readings if not any(_is_better(other, each) for other in readings)]
        readings.sort(key=lambda reading: reading.detection_score * reading.score, reverse=True)
        bare = attempt.bare[: self._tuning.most_vehicles] if vehicles else ()
        return PlateReadings(
            readings,
            None if readings else self._refusal(photo, attempt),
            tuple(self._described(photo, vehicle, attempt.quarters) for vehicle in bare),
        )

    def _answer(self, photo: Photo, find: Find, quarters: int) -> PlateReading:
        """Return the public reading of ``find``."""
        plate, reading, vehicle = find.plate, find.reading, find.vehicle
        box, whole = self._plate_box(plate), self._seen_whole(photo, find)
        return PlateReading(
            text=reading.text,
            score=reading.score * whole,
            detection_score=plate.score,
            box=_whole(photo, box),
            polygon=polygon(plate.corners / photo.scale, photo.width, photo.height),
            candidates=tuple(replace(each, score=each.score * whole) for each in reading.candidates),
            characters=reading.characters,
            region=reading.region,
            region_score=reading.region_score,
            vehicle=None if vehicle is None else self._described(photo, vehicle, quarters, box),
        )

    def _seen_whole(self, photo: Photo, find: Find) -> float:
        """Return the probability that all of a plate's text is in the photo, whose edge may cut it."""
        tuning, reading, corners = self._tuning, find.reading, find.plate.corners
        along = corners[1] + corners[2] - corners[0] - corners[3]
        axis, height = int(abs(along[1]) > abs(along[0])), max(sides(corners)[1], 1.0)

        def margin(axis: int) -> float:
            """Return how far the nearer edge is, in heights; infinity in a photo cropped to the plate."""
            size = photo.pixels.shape[1 - axis]
            near, far = sorted((float(corners[:, axis].min()), size - float(corners[:, axis].max())))
            return near / height if far > tuning.far_edge * height else math.inf

        beside, above, region = margin(axis), margin(1 - axis), reading.region
        # One row of two matches no series, but nor do many texts that owners choose.
        row_missing = above < tuning.near_edge and region.partition("-")[0] not in CHOOSING
        if (
            (beside < tuning.near_edge_off_series or row_missing)
            and rules(region).series
            and not fits_series(reading.text, region)
        ):
            return tuning.cut_off_series
        return tuning.cut if beside < tuning.near_edge else 1.0

    def _refusal(self, photo: Photo, attempt: Attempt) -> Refusal:
        """Return why ``photo`` has no readings."""
        from carsight.refusal import Refusal  # not needed for most photos, which have some

        tuning = self._tuning
        certain = [find for find in attempt.doubted if find.plate.score >= tuning.certain_plate]
        if not certain:
            return Refusal("no_plate", attempt.evidence)
        height = max(plate_height(photo, find.plate) for find in certain)
        if height < tuning.least_height:
            return Refusal("plate_too_small", height, tuning.least_height)
        return Refusal("illegible", max(find.reading.score for find in certain), tuning.legible)

    def _attempt(self, detector: Detector, photo: Photo, quarters: int, regions: Sequence[str]) -> Attempt:
        """Find and read the plates of ``photo`` turned counterclockwise by ``quarters`` quarter turns."""
        tuning = self._tuning
        seen = detector.find(photo.pixels, quarters)
        found, doubted, unsure, signs, upright, written = [], [], [], [], False, False
        for each in self._finds(photo, seen, quarters, regions):
            sure = each.reading.score >= (tuning.high_upright if each.stands_high else tuning.upright)
            if not sure:
                unsure.append(each.plate)
            if not self._cuts.is_believable(photo, each.plate, each.reading):
                doubted.append(each)
                is_word = len(each.reading.text) >= tuning.fewest and each.reading.text.isalpha()
                if sure and is_word:
                    signs.append(each)
            elif not self._is_sign(photo, each, quarters, regions):
                found.append(each)
                upright = upright or sure
            elif sure:
                signs.append(each)
                written = written or _is_writing(each.reading)
        boxes = [
            each.plate.box
            for each in signs
            # Cameras write beside plates, too.
            if each.vehicle is None and not self._is_at_edge(photo, each.plate, quarters)
        ]
        found = self._without_signs(found, boxes)
        upright = upright or written
        # A single sure text shows which way up the photo is.
        upside_down = 0.0 if upright else self._read_upside_down(photo, unsure, regions)
        carriers = [id(each.vehicle) for each in found]
        bare = tuple(vehicle for vehicle in seen.vehicles if id(vehicle) not in carriers)
        return Attempt(quarters, tuple(found), tuple(doubted), bare, upside_down, seen.evidence, written)

    def _finds(self, photo: Photo, seen: Findings, quarters: int, regions: Sequence[str]) -> Iterator[Find]:
        """Yield everything that may be a plate with its reading, believable or not; "" if it is too small."""
        cropped = None if quarters else self._cropped(photo, seen)
        for plate in seen.targets if cropped is None else (*seen.targets, cropped):
            reading = _NOTHING
            if plate_height(photo, plate) >= self._tuning.smallest:
                place = _on_paper(photo.pixels, plate) if plate is cropped else (photo, plate)
                # Upside down, mirrored digits look like others: 853512 like 823215.
                reading = self._cuts.read(*place, regions, mirrored=quarters != 2)
            vehicle = carrier(plate, seen.vehicles, quarters)
            high = not quarters and self._stands_high(plate, vehicle)
            yield Find(plate, reading, vehicle, high)

    def _read_upside_down(self, photo: Photo, plates: Iterable[Detection], regions: Sequence[str]) -> float:
        """Return the best score of the clear ones among ``plates`` when read upside down; 0 without any."""
        clear = (
            plate
            for plate in plates
            if plate.score >= self._detector.threshold
            and plate_height(photo, plate) >= self._tuning.least_height
        )
        return max((self._cuts.read_upside_down(photo, each, regions).score for each in clear), default=0.0)

    def _cropped(self, photo: Photo, seen: Findings) -> Detection | None:
        """Return the whole ``photo`` as one more plate if it may be cropped along a plate's text.

        As such a plate has no visible edges, the detector misses its first character, or all of it.
        """
        height, width = photo.pixels.shape[:2]
        least, most = self._tuning.cropped
        if seen.vehicles or not least <= width / height <= most:
            return None
        area = self._tuning.cropped_share * width * height
        if any((each.box[2:] - each.box[:2]).prod() < area for each in seen.targets):
            return None
        box = np.array([0, 0, width, height], np.float32)
        return Detection(self._tuning.cropped_score, box, box_corners(box))

    def _stands_high(self, plate: Detection, vehicle: Detection | None) -> bool:
        """Return whether ``plate`` is higher on its ``vehicle`` than most are, in the unturned photo."""
        if vehicle is None:
            return False
        top, bottom = vehicle.box[1::2].tolist()
        return bool(plate.box[1::2].mean() < top + self._tuning.high * (bottom - top))

    def _is_sign(self, photo: Photo, find: Find, quarters: int, hints: Sequence[str]) -> bool:
        """Return whether ``find`` is text of a sign or of the camera, and not a plate."""
        tuning, reading, vehicle, text = self._tuning, find.reading, find.vehicle, find.reading.text.upper()
        at_edge = vehicle is None and self._is_at_edge(photo, find.plate, quarters)
        least = tuning.clear_of_words if vehicle is None else tuning.clear
        if (at_edge or reading.region_score < least) and _is_writing(reading):
            return True
        if vehicle is not None:
            return False
        if at_edge or len(text) < tuning.fewest:
            return reading.region_score < tuning.clear_alone
        regions = self._cuts.regions
        chosen = sum(
            share
            for code, share in zip(regions, reading.shares.tolist(), strict=True)
            if code.partition("-")[0] in CHOOSING
        )
        surely_unlisted = reading.region_score >= tuning.clear_of_words and not rules(reading.region).series
        if chosen >= tuning.clear or (surely_unlisted and text.isdigit()):
            return False
        fits = plausibilities(text, regions) >= 1
        if not fits.any():
            return True
        hinted = any(agrees(code, hint) for code in compress(regions, fits) for hint in hints)
        clear = hinted or reading.region_score >= tuning.clear_alone
        if clear or reading.design is None or not text.isdigit():
            return False
        return bool(softmax(reading.design)[fits].sum() < tuning.fit_of_digits)

    def _without_signs(self, found: list[Find], signs: Sequence[Floats]) -> list[Find]:
        """Return ``found`` without what hangs beside the boxes ``signs``, unless that is too much of it."""
        beside = [self._is_beside(signs, each) for each in found]
        if sum(beside) > self._tuning.beside_each_sign * len(signs):
            return found
        return [each for each, is_beside in zip(found, beside, strict=True) if not is_beside]

    def _is_beside(self, signs: Sequence[Floats], find: Find) -> bool:
        """Return whether ``find`` is beside one of the boxes ``signs``, neither mostly within the other."""
        if find.vehicle is not None or find.reading.region_score >= self._tuning.beside_sign:
            return False
        box = find.plate.box
        return any(not lies_in(sign, box) and not lies_in(box, sign) for sign in signs)

    def _is_at_edge(self, photo: Photo, plate: Detection, quarters: int) -> bool:
        """Return whether ``plate`` is small and next to an edge, where cameras write into the picture."""
        height, width = photo.pixels.shape[:2]
        left, top, right, bottom = plate.box.tolist()
        if quarters % 2:  # the box is in the unturned photo, in which these edges are left and right
            height, width, left, top, right, bottom = width, height, top, left, bottom, right
        widest, highest = self._tuning.small_at_edge
        small = right - left < widest * width and bottom - top < highest * height
        return bool(small and min(top, height - bottom) < bottom - top)

    def _plate_box(self, plate: Detection) -> Floats:
        """Return the box of ``plate`` to answer with, in pixels of the decoded photo."""
        tuning = self._tuning
        xs, ys = plate.corners.T.tolist()
        left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
        width, height = max(right - left, 1.0), max(bottom - top, 1.0)
        across = tuning.flat_shrink if height >= tuning.flat * width else 0.0
        down = tuning.flat_shrink if width >= tuning.flat * height else 0.0
        x0, y0, x1, y1 = plate.box.tolist()
        x0, x1 = x0 + across * (left - x0), x1 + across * (right - x1)
        y0, y1 = y0 + down * (top - y0), y1 + down * (bottom - y1)
        return np.array([x0, y0, x1, y1], np.float32)

    def _described(
        self, photo: Photo, vehicle: Detection, quarters: int, plate: Floats | None = None
    ) -> Vehicle:
        """Return the public description of ``vehicle``; ``plate`` is the box of its plate, if any."""
        attributes = self._classifier.classify(photo.pixels, vehicle, quarters, plate)
        return Vehicle(
            box=_whole(photo, vehicle.box),
            score=vehicle.score,
            type=attributes.type,
            color=attributes.color,
            orientation=attributes.orientation,
        )


def _on_paper(pixels: Pixels, plate: Detection) -> tuple[Photo, Detection]:
    """Return ``pixels``, which ``plate`` fills, with a margin of its background color, and the plate there.

    Without a margin, crops repeat the photo's edge, which smears a character that touches it. A large photo
    is reduced before: no crop shows that much detail, and with the margin it may exceed the limit on pixels.
    """
    pixels = halve_to_cover(pixels, 2 * ONE_ROW, 4 * HEIGHT)
    paper = [percentile(pixels[..., channel], 0.5) for channel in range(3)]
    height, width = pixels.shape[:2]
    margin = height // 4
    larger = cv2.copyMakeBorder(pixels, *(margin,) * 4, cv2.BORDER_CONSTANT, value=paper)
    box = np.array([margin, margin, margin + width, margin + height], np.float32)
    return Photo.of(np.asarray(larger, np.uint8)), plate._replace(box=box, corners=box_corners(box))


def _whole(photo: Photo, box: Floats) -> Box:
    """Return ``box``, in pixels of the decoded photo, in whole pixels of the full photo."""
    return Box.around(box.reshape(2, 2) / photo.scale, photo.width, photo.height)
