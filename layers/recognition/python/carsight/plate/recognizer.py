"""License plates: a photo in, readings out.

``PlateRecognizer.read`` finds plates and vehicles, straightens each plate by its corners, reads it, and says
which vehicle carries it. Where nothing can be read the photo may lie on its side: it is looked at turned,
too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from carsight import runtime
from carsight.detector import Detection, Detector, DetectorTuning, Findings, box_corners, carrier
from carsight.geometry import Box, Pixels, Polygon, polygon, sides, straighten
from carsight.photo import Photo, PhotoSource, open_photo, percentile
from carsight.plate import stacked
from carsight.plate.reader import (
    GROW,
    HEIGHT,
    ONE_ROW,
    Candidate,
    PlateReader,
    ReaderTuning,
    Reading,
    rectify,
    small_print,
    vote,
)
from carsight.plate.regions import fits_anywhere, plausibilities
from carsight.plate.vehicles import ClassifierTuning, VehicleClassifier
from carsight.refusal import Refusal

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PlateTuning:
    """What can be changed about the reading of plates without training a model again. Scores are 0..1.

    Which pixels: a plate lower than ``fine_height`` in a reduced decode is read from the full one, as its
    strokes are thinner than a pixel.

    Rows: between ``one_row`` and ``two_rows`` the detector does not know how many a plate has, and it is read
    both ways; so is one less than ``square`` times as wide as high, whatever the detector thinks, as plates
    of two rows are rare in its training. Two rows win from ``two_rows_favor`` of the score of one: the large
    row alone reads well, but is half a plate. Where both say the same the surer one counts. Two rows that
    are the likelier and score that much are not read as one: it could not win. One that is less
    than ``either`` times as wide as high is read with the other number, too, where the text is unsure. That
    has to be ``sure`` and of one of its region's series: the words on a plate are no row.

    Readers: a lean net reads first. What it says stands where its region scores ``easy_region``, or
    ``easy_state`` where that is a state, and its text ``obvious`` and each character ``distinct``; or its
    text ``promising``, a wider cut tells the same, and their vote scores ``easy``. A character that is not
    distinct is not easy where a plate is more than ``filling`` of the photo's width, as a wider cut shows
    little more; nor is an American text that is of none of its region's series. That nothing is legible
    stands on what is not certainly a plate: a text that scores less than ``blank``; and upside down, of one
    that scores less than ``hopeless``. Otherwise the other net reads. Small print is for who read the plate.

    Cuts: a reading below ``sure`` is made again from other cuts of the plate, as the corners may be at fault;
    one is longer by ``wider`` of the width at each end, one upright. Of 359 training plates whose first
    reading scores 0.65 to 0.95, 312 are right then, and 305 where only those below 0.7 are read again. Below
    ``hopeless`` that is only done for what is certainly a plate, and once more with both grown by ``loose``,
    as characters may be cut off. One lower than ``blurred`` is cut with sharper pixels as well: it is
    enlarged a good deal.

    Stacks: an American plate of ``print_height`` that is still unsure may have letters that stand on each
    other. It is read with these spread; that counts if it scores ``unstacked``, and more than before.

    Small print: where the region is in doubt and the plate ``print_height`` pixels high, what stands above
    and below the text is read, too, for the names and mottoes of regions.

    Answers: a detection that scores ``certain_plate`` and is ``least_height`` pixels high is one if its text
    scores ``legible``; a lesser one has to read like a plate, as signs and grilles look like one: its text
    must score ``plausible`` and hold a digit, which words on signs do not. One that the detector doubts needs
    a text that scores ``convincing``. Of a plate lower than ``least_height`` the refusal says that it is too
    small; it is not read upside down, and one lower than ``smallest`` not at all: of 120 such plates three
    would be answered, none of them with what it says.

    Signs: what no vehicle carries and says something that is of no country's series is a sign, as are dates
    and telephone numbers: of 4,300 labeled plates outside the four countries where many owners choose their
    text 26 say such a thing, most of them on vehicles. One of these countries has to score ``clear``. So has
    the region of a text of fewer than ``fewest`` characters ``clear_alone``: houses have such, too.

    Turns: where no text scores ``upright``, each is read upside down, too. Where that says more, or
    where no text scores ``settled``, the photo is looked at the other ways up; one of them wins if its best
    text scores ``turned``, and is not what the photo's own is upside down: "1000" may be "0001" as well, and
    then the photo is believed to be upright. Where the own text is on a vehicle, which is hardly seen upside
    down, the other must be ``turn_odds`` times as good a bet, and ``alike_odds`` where it is what the own may
    be misread for. A plate less than ``high`` of its vehicle's height below the top, as 8 in 100 are in
    photos that stand upright, is read upside down below ``high_upright``, and ``high_odds`` decide.

    Boxes: that of a plate whose corners span ``flat`` times as much one way as the other is drawn in by
    ``flat_shrink`` the narrow way, towards them: a few pixels too many count most there. Of 3,470 training
    plates 78 boxes overlap the labeled one by less than a half, of those left as they are 89; their mean
    overlap is 0.80 either way.

    Crops: a photo ``cropped`` times as wide as high, from and to, without a vehicle, may be cut out along the
    text. It is read as one more plate, which the detector doubts at ``cropped_score``, unless one was found
    that is less than ``cropped_share`` of it.

    Vehicles without a plate: at most ``most_vehicles`` are described, since each takes time.
    """

    fine_height: float = 24.0
    one_row: float = 0.1
    two_rows: float = 0.9
    square: float = 1.8
    two_rows_favor: float = 0.6
    either: float = 2.6
    obvious: float = 0.93
    distinct: float = 0.63
    filling: float = 0.5
    promising: float = 0.8
    easy: float = 0.9
    easy_region: float = 0.7
    easy_state: float = 0.6
    blank: float = 0.001
    sure: float = 0.9
    hopeless: float = 0.05
    wider: float = 0.06
    loose: float = 0.15
    blurred: float = 29.0
    unstacked: float = 0.5
    print_height: float = 28.0
    certain_plate: float = 0.65
    legible: float = 0.02
    plausible: float = 0.1
    convincing: float = 0.9
    least_height: float = 12.0
    smallest: float = 6.0
    fewest: int = 4
    clear: float = 0.6
    clear_alone: float = 0.9
    upright: float = 0.9
    settled: float = 0.3
    turned: float = 0.5
    turn_odds: float = 8.0
    alike_odds: float = 100.0
    high: float = 0.45
    high_upright: float = 0.99
    high_odds: float = 2.0
    flat: float = 2.2
    flat_shrink: float = 0.27
    cropped: tuple[float, float] = (2.5, 9.0)
    cropped_score: float = 0.2
    cropped_share: float = 0.3
    most_vehicles: int = 20
    detector: DetectorTuning = field(default_factory=lambda: DetectorTuning(doubtful=0.2))
    reader: ReaderTuning = field(default_factory=ReaderTuning)
    classifier: ClassifierTuning = field(default_factory=ClassifierTuning)


@dataclass(frozen=True, slots=True)
class Vehicle:
    """A vehicle: the one that carries a plate, or one without.

    ``type`` in CarsXE's words; color and side only where they are clear.
    """

    box: Box
    score: float
    type: str
    color: str | None = None
    orientation: str | None = None


@dataclass(frozen=True, slots=True)
class PlateReading:
    """One plate: what it says, where it is, whose it is. Boxes are in pixels of the upright photo.

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
    """The plates of a photo, surest first. Where there are none, ``refusal`` says why.

    ``vehicles`` are those that carry none of the plates, surest first, where they were asked for.
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


_INSIDE, _OVERLAP, _STICKER, _SURE_WHOLE = 0.9, 0.4, 0.2, 0.8
"""How much of a part is within its plate, or how much two share of what both cover; how large a sticker is
beside its plate, and what the plate's text scores."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What a photo shows this way up, turned anticlockwise by ``quarters``; where, in the photo as it is.

    ``found`` are the plates that are believed, each with its reading and its vehicle, ``doubted`` those that
    are not; ``upside_down`` is the best score of a text that was read the other way round, and ``evidence``
    the best score of anything that might be a plate. ``bare`` are the vehicles that carry none of ``found``.
    """

    quarters: int
    found: tuple[tuple[Detection, Reading, Detection | None], ...]
    doubted: tuple[tuple[Detection, Reading], ...]
    bare: tuple[Detection, ...]
    upside_down: float
    evidence: float

    @property
    def best(self) -> float:
        return max((reading.score for _, reading, _ in self.found), default=0.0)

    @property
    def text(self) -> str:
        """The surest text, "" where there is none."""
        return max(((reading.score, reading.text) for _, reading, _ in self.found), default=(0.0, ""))[1]

    @property
    def surest(self) -> tuple[Detection | None, Detection | None]:
        """The plate with the surest text, if there is one, and its vehicle."""
        found = max(self.found, key=lambda each: each[1].score, default=None)
        return (found[0], found[2]) if found else (None, None)


@dataclass(frozen=True, slots=True)
class _View:
    """What there is to read of a ``plate`` that was found in ``photo``.

    It has ``corners`` in ``fine``, the photo with as many pixels as it takes, and is read as one of two rows,
    of one, or as both: ``rows``. ``crops`` are its usual ones, one for each of them.
    """

    photo: Photo
    plate: Detection
    fine: Photo
    corners: Floats
    rows: tuple[bool, ...]
    crops: list[Pixels]

    def cut(self, two_rows: bool, grow: float = GROW, *, sharp: bool = False) -> Pixels:
        """Return another crop of it, as ``rectify`` cuts."""
        return rectify(self.fine.pixels, self.corners, two_rows, grow, sharp=sharp)


def _is_better(other: PlateReading, reading: PlateReading) -> bool:
    """Whether ``other`` is of the same plate as ``reading``, a part of it or more, and is to be believed.

    The whole is if it says more and is sure of it: all that the part says, unless that is a sticker or a word
    on the plate. Otherwise it shows more than the plate, and the part is.
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
    ) -> None:
        """Read with ``reader``, where ``lean`` is not sure; ``reader`` is called when it is first needed."""
        self._detector = detector
        self._reader = reader
        self._classifier = classifier
        self._tuning = tuning or PlateTuning()
        self._lean = lean

    @classmethod
    def load(cls, models: Path = runtime.MODELS, tuning: PlateTuning | None = None) -> PlateRecognizer:
        """Open the models in the folder ``models``.

        Raises:
            onnxruntime.capi.onnxruntime_pybind11_state.NoSuchFile: A model is not there.
            KeyError: A model's metadata is not complete.
        """
        tuning = tuning or PlateTuning()
        return cls(
            Detector(runtime.session(models / "plate_detector.onnx"), tuning.detector),
            runtime.once(lambda: PlateReader(runtime.session(models / "plate_reader.onnx"), tuning.reader)),
            VehicleClassifier(runtime.session(models / "plate_vehicle.onnx"), tuning.classifier),
            tuning,
            PlateReader(runtime.session(models / "plate_reader_lean.onnx"), tuning.reader),
        )

    def read(
        self, image: PhotoSource, regions: Sequence[str] = (), *, vehicles: bool = False
    ) -> PlateReadings:
        """Read the plates of ``image``, surest first; none found is an empty list that says why.

        Args:
            image: A file's path or bytes, its pixels (height x width x 3, BGR, uint8), or a decoded photo.
            regions: Codes of ``regions.CODES`` where the caller expects the plates to be from; a hint, no
                filter.
            vehicles: Tell of the vehicles without a plate, too; each takes as long as that of a plate.

        Raises:
            ImageError: ``image`` is not a photo that can be read.
            OSError: The file cannot be opened.
        """
        photo = open_photo(image)
        attempt = self._attempt(photo, 0, regions)
        if attempt.best < self._tuning.settled or attempt.upside_down > attempt.best:
            attempt = self._turned(photo, attempt, regions)
        readings = [
            self._answer(photo, plate, reading, vehicle, attempt.quarters)
            for plate, reading, vehicle in attempt.found
        ]
        readings = [each for each in readings if not any(_is_better(other, each) for other in readings)]
        readings.sort(key=lambda reading: reading.detection_score * reading.score, reverse=True)
        bare = attempt.bare[: self._tuning.most_vehicles] if vehicles else ()
        return PlateReadings(
            readings,
            None if readings else self._refusal(photo, attempt),
            tuple(self._described(photo, vehicle, attempt.quarters) for vehicle in bare),
        )

    def _answer(
        self, photo: Photo, plate: Detection, reading: Reading, vehicle: Detection | None, quarters: int
    ) -> PlateReading:
        """Return what is answered of ``plate``, which says ``reading`` and is on ``vehicle``."""
        box = self._plate_box(plate)
        return PlateReading(
            text=reading.text,
            score=reading.score,
            detection_score=plate.score,
            box=_whole(photo, box),
            polygon=polygon(plate.corners / photo.scale, photo.width, photo.height),
            candidates=reading.candidates,
            characters=reading.characters,
            region=reading.region,
            region_score=reading.region_score,
            vehicle=None if vehicle is None else self._described(photo, vehicle, quarters, box),
        )

    def _refusal(self, photo: Photo, attempt: _Attempt) -> Refusal:
        """Say why ``photo`` has no answer."""
        tuning = self._tuning
        plates = [
            (plate, reading) for plate, reading in attempt.doubted if plate.score >= tuning.certain_plate
        ]
        if not plates:
            return Refusal("no_plate", attempt.evidence)
        height = max(sides(plate.corners)[1] for plate, _ in plates) / photo.scale
        if height < tuning.least_height:
            return Refusal("plate_too_small", height, tuning.least_height)
        return Refusal("illegible", max(reading.score for _, reading in plates), tuning.legible)

    def _attempt(self, photo: Photo, quarters: int, regions: Sequence[str]) -> _Attempt:
        """Find and read the plates of ``photo`` as it is once turned anticlockwise by ``quarters``."""
        found, doubted, unsure, upright = [], [], [], False
        seen = self._detector.find(photo.pixels, quarters)
        cropped = None if quarters else self._cropped(photo, seen)
        for plate in seen.targets if cropped is None else (*seen.targets, cropped):
            height = sides(plate.corners)[1] / photo.scale
            if height < self._tuning.smallest:
                doubted.append((plate, _NOTHING))
                continue
            place = _on_paper(photo, plate) if plate is cropped else (photo, plate)
            reading = self._read_plate(*place, regions)
            vehicle = carrier(plate, seen.vehicles, quarters)
            high = not quarters and self._stands_high(plate, vehicle)
            sure = reading.score >= (self._tuning.high_upright if high else self._tuning.upright)
            if not self._believable(photo, plate, reading):
                doubted.append((plate, reading))
            elif vehicle is not None or not self._is_sign(reading):
                found.append((plate, reading, vehicle))
                upright = upright or sure
            large = height >= self._tuning.least_height
            if not sure and large and plate.score >= self._detector.threshold:
                unsure.append(plate)
        upside_down = 0.0
        if not upright:  # else one text already tells which way up the photo is
            turned = (self._read_upside_down(photo, plate, regions).score for plate in unsure)
            upside_down = max(turned, default=0.0)
        carriers = [id(vehicle) for _, _, vehicle in found]
        bare = tuple(vehicle for vehicle in seen.vehicles if id(vehicle) not in carriers)
        return _Attempt(quarters, tuple(found), tuple(doubted), bare, upside_down, seen.evidence)

    def _cropped(self, photo: Photo, seen: Findings) -> Detection | None:
        """Return all of ``photo`` as one more plate if it may be cut out along the text.

        Of such a plate the detector misses the edges, and with them the first character or all of them.
        """
        height, width = photo.pixels.shape[:2]
        least, most = self._tuning.cropped
        if seen.vehicles or not least <= width / height <= most:
            return None
        area = self._tuning.cropped_share * width * height
        if any((each.box[2:] - each.box[:2]).prod() < area for each in seen.targets):
            return None
        box = np.array([0, 0, width, height], np.float32)
        return Detection("target", self._tuning.cropped_score, box, box_corners(box))

    def _stands_high(self, plate: Detection, vehicle: Detection | None) -> bool:
        """Return whether ``plate`` is higher on its ``vehicle`` than most are, in the photo as it is."""
        if vehicle is None:
            return False
        top, bottom = vehicle.box[1::2].tolist()
        return bool(plate.box[1::2].mean() < top + self._tuning.high * (bottom - top))

    def _turned(self, photo: Photo, upright: _Attempt, regions: Sequence[str]) -> _Attempt:
        """Return ``upright``, or what the photo shows another way up, where that reads better."""
        best, tried = upright, {0}
        if upright.upside_down >= max(upright.best, self._tuning.plausible):
            best = self._best_of(photo, best, [2], tried, regions)
        if best.best < self._tuning.settled:
            turns = self._detector.promising_turns(photo.pixels)
            best = self._best_of(photo, best, turns, tried, regions)
        return best

    def _best_of(
        self, photo: Photo, best: _Attempt, turns: list[int], tried: set[int], regions: Sequence[str]
    ) -> _Attempt:
        """Return ``best`` or the attempt at ``turns`` that reads better; ``tried`` grows by those made."""
        while turns:
            quarters, *turns = turns
            if quarters in tried:
                continue
            tried.add(quarters)
            attempt = self._attempt(photo, quarters, regions)
            if self._wins(attempt, best):
                best = attempt
            if attempt.upside_down >= max(attempt.best, self._tuning.plausible):
                turns = [(quarters + 2) % 4, *turns]
            elif best.best >= self._tuning.sure:
                break
        return best

    def _wins(self, turned: _Attempt, best: _Attempt) -> bool:
        """Return whether what the photo shows ``turned`` is to be believed rather than ``best``."""
        needed = 1.0
        plate, vehicle = best.surest
        if plate is not None and vehicle is not None and not best.quarters:
            alike = _may_turn_into(best.text, turned.text)
            needed = self._tuning.alike_odds if alike else self._tuning.turn_odds
            needed = self._tuning.high_odds if self._stands_high(plate, vehicle) else needed
        return (
            turned.best >= self._tuning.turned
            and _odds(turned.best) >= needed * _odds(best.best)
            and not _turns_into(best.text, turned.text)
        )

    def _read_plate(self, photo: Photo, plate: Detection, regions: Sequence[str]) -> Reading:
        """Read one plate, its small print where that may tell where it is from, and stacked letters."""
        view = self._view(photo, plate)
        reader, first, reading = self._lean, None, None
        if reader is not None:
            first, reading = self._read_easily(reader, view, regions)
        if reader is None or reading is None:
            reader = self._reader()
            reading = self._read_text(reader, view, regions)
            reading = reading if first is None else reader.also_seen(reading, first)
        if (
            self._believable(photo, plate, reading)
            and sides(view.corners)[1] >= self._tuning.print_height
            and reader.doubts_region(reading)
        ):
            strips = small_print(view.fine.pixels, view.corners)
            reading = reader.with_small_print(reading, strips)
        return self._unstacked(reader, reading, view, regions)

    def _read_easily(
        self, reader: PlateReader, view: _View, regions: Sequence[str]
    ) -> tuple[Reading, Reading | None]:
        """Return what the lean ``reader`` says of the plate, and what of it stands, if anything."""
        tuning = self._tuning
        reading, second = self._read_usual(reader, view, regions)
        if reading.score < tuning.blank and not self._certain(view.photo, view.plate):
            return reading, reading
        least = tuning.easy_state if "-" in reading.region else tuning.easy_region
        if not reading.text or reading.score < tuning.promising or reading.region_score < least:
            return reading, None
        # A series may settle what the net hardly sees; and a text that is of none may lack stacked letters.
        distinct = min(character.score for character in reading.characters) >= tuning.distinct
        american = reading.region.partition("-")[0] in _STACKING
        odd = american and plausibilities(reading.text.upper(), (reading.region,))[0] < 1
        fills = sides(view.plate.corners)[0] > tuning.filling * view.photo.pixels.shape[1]
        if odd or (fills and not distinct):
            return reading, None
        if reading.score >= tuning.obvious and distinct:
            return reading, reading
        wider = view.cut(view.rows[second], grow=2 * GROW)
        (again,) = reader.read([wider], regions)
        if again.text != reading.text or again.score < tuning.promising:
            return reading, None
        both = vote([reading, again])
        return reading, both if both.score >= tuning.easy else None

    def _read_text(self, reader: PlateReader, view: _View, regions: Sequence[str]) -> Reading:
        """Read a plate in its usual crops, and in further cuts where these are not sure."""
        tuning, rows, plate = self._tuning, view.rows, view.plate
        width, height = sides(plate.corners)
        reading, second = self._read_usual(reader, view, regions)
        hopeless = reading.score < tuning.hopeless and not self._certain(view.photo, plate)
        if reading.score >= tuning.sure or hopeless:
            return reading
        if len(rows) == 1 and width < tuning.either * max(height, 1.0):
            (other,) = reader.read([view.cut(not rows[0])], regions)
            if other.score >= tuning.sure and plausibilities(other.text.upper(), (other.region,))[0] >= 1:
                return other
        upright = box_corners(plate.box * np.float32(view.fine.scale / view.photo.scale))
        cuts = [_longer(view.corners, tuning.wider), _beginning_at(upright, view.corners[0])]
        lost = reading.score < tuning.hopeless
        grown = (GROW, tuning.loose) if lost else (GROW,)
        crops = [rectify(view.fine.pixels, cut, rows[second], grow) for grow in grown for cut in cuts]
        if not lost and sides(view.corners)[1] < tuning.blurred:
            crops.append(view.cut(rows[second], sharp=True))
        return vote([reading, *reader.read(crops, regions)])

    def _rows(self, plate: Detection) -> tuple[bool, ...]:
        """Return whether to read ``plate`` as one of two rows, or both where the detector is unsure."""
        tuning = self._tuning
        width, height = sides(plate.corners)
        unsure = tuning.one_row < plate.two_rows < tuning.two_rows
        if unsure or width < tuning.square * max(height, 1.0):
            return (False, True)
        return (plate.two_rows > 0.5,)

    def _read_usual(self, reader: PlateReader, view: _View, regions: Sequence[str]) -> tuple[Reading, bool]:
        """Return what a plate's usual crops say, as ``_better`` does."""
        if len(view.crops) == 1 or view.plate.two_rows <= 0.5:
            return self._better(reader.read(view.crops, regions))
        single, double = view.crops
        (two,) = reader.read([double], regions)
        if two.score >= self._tuning.two_rows_favor:
            return two, True
        return self._better([*reader.read([single], regions), two])

    def _better(self, readings: Sequence[Reading]) -> tuple[Reading, bool]:
        """Return the better of the readings of one row and, where there is one, of two, and if it is that."""
        single, *double = readings
        favor = 1.0 if double and double[0].text == single.text else self._tuning.two_rows_favor
        second = bool(double) and double[0].score > favor * single.score
        return (double[0] if second else single), second

    def _unstacked(
        self, reader: PlateReader, reading: Reading, view: _View, regions: Sequence[str]
    ) -> Reading:
        """Return ``reading``, or what the plate says once letters that stand on each other are spread."""
        tuning = self._tuning
        american = reading.region.partition("-")[0] in _STACKING
        if reading.score >= tuning.sure or not american or sides(view.corners)[1] < tuning.print_height:
            return reading
        whole = straighten(view.fine.pixels, view.corners, stacked.WIDTH, stacked.HEIGHT, GROW)
        spread = stacked.spread(whole)
        if spread is None:
            return reading
        crop = cv2.resize(spread, (ONE_ROW, HEIGHT), interpolation=cv2.INTER_AREA)
        other = reader.read([np.asarray(crop, np.uint8)], regions)[0]
        if other.score < max(tuning.unstacked, reading.score):
            return reading
        # Little is left of the design, which tells the region.
        return replace(other, region=reading.region, region_score=reading.region_score, shares=reading.shares)

    def _read_upside_down(self, photo: Photo, plate: Detection, regions: Sequence[str]) -> Reading:
        """Read one plate as it would be if the photo stood on its head.

        The lean net only tells where nothing is legible, and so nearly always: of a text it may be sure.
        """
        corners, fine = self._fine(photo, plate)
        crop = rectify(fine.pixels, corners[[2, 3, 0, 1]], plate.two_rows > 0.5)
        if self._lean is not None:
            (reading,) = self._lean.read([crop], regions)
            if reading.score < self._tuning.hopeless:
                return reading
        return self._reader().read([crop], regions)[0]

    def _view(self, photo: Photo, plate: Detection) -> _View:
        """Return what there is to read of ``plate``."""
        corners, fine = self._fine(photo, plate)
        rows = self._rows(plate)
        return _View(
            photo, plate, fine, corners, rows, [rectify(fine.pixels, corners, each) for each in rows]
        )

    def _fine(self, photo: Photo, plate: Detection) -> tuple[Floats, Photo]:
        """Return the photo to cut ``plate`` from, as fine as it takes, with the plate's corners there."""
        if photo.scale == 1 or sides(plate.corners)[1] >= self._tuning.fine_height:
            return plate.corners, photo
        fine = photo.full()
        return plate.corners * np.float32(fine.scale / photo.scale), fine

    def _certain(self, photo: Photo, plate: Detection) -> bool:
        """Return whether ``plate`` is surely one, and large enough to be read."""
        height = sides(plate.corners)[1] / photo.scale
        return plate.score >= self._tuning.certain_plate and height >= self._tuning.least_height

    def _believable(self, photo: Photo, plate: Detection, reading: Reading) -> bool:
        """Return whether what was found is a plate: surely seen, or doubtfully seen and reading like one."""
        if self._certain(photo, plate):
            return reading.score >= self._tuning.legible
        doubted = plate.score < self._detector.threshold
        plausible = reading.score >= (self._tuning.convincing if doubted else self._tuning.plausible)
        return plausible and any(character.isdigit() for character in reading.text)

    def _is_sign(self, reading: Reading) -> bool:
        """Return whether what no vehicle carries says something that is no country's number."""
        if len(reading.text) < self._tuning.fewest:
            return reading.region_score < self._tuning.clear_alone
        regions = (self._lean or self._reader()).regions
        chosen = sum(
            share
            for code, share in zip(regions, reading.shares.tolist(), strict=True)
            if code.partition("-")[0] in _CHOOSING
        )
        return chosen < self._tuning.clear and not fits_anywhere(reading.text.upper(), regions)

    def _plate_box(self, plate: Detection) -> Floats:
        """Return the box to answer with, in the decoded photo."""
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
        """Say what ``vehicle`` looks like, which carries the plate in the box ``plate``, if any."""
        attributes = self._classifier.classify(photo.pixels, vehicle, quarters, plate)
        return Vehicle(
            box=_whole(photo, vehicle.box),
            score=vehicle.score,
            type=attributes.type,
            color=attributes.color,
            orientation=attributes.orientation,
        )


_NOTHING = Reading("", 0.0, (), (), "", 0.0, np.zeros(0))
"""What a plate says that is too small to be read."""

_STACKING = frozenset({"us", "ca"})
"""Countries whose plates have small letters that stand on each other."""

_CHOOSING = frozenset({"us", "ca", "au", "nz"})
"""Countries where many owners choose their text, which then is of no series."""

_HALF_TURN = str.maketrans("oqil69mw", "001196wm")
"""What signs become upside down, where that is another; of O, Q, I and L the digit that each is taken for."""

_ALIKE = str.maketrans("oqil", "0011")


def _on_paper(photo: Photo, plate: Detection) -> tuple[Photo, Detection]:
    """Return ``photo``, all of which is ``plate``, with more of its paper round it, and the plate there.

    What is beyond a photo repeats its edge, which smears a character that touches it.
    """
    paper = [percentile(photo.pixels[..., channel], 0.5) for channel in range(3)]
    margin = photo.pixels.shape[0] // 4
    sides = (margin,) * 4
    larger = cv2.copyMakeBorder(photo.pixels, *sides, cv2.BORDER_CONSTANT, value=paper)
    moved = replace(plate, box=plate.box + np.float32(margin), corners=plate.corners + np.float32(margin))
    return Photo.of(np.asarray(larger, np.uint8)), moved


def _turns_into(text: str, other: str) -> bool:
    """Return whether ``other`` is what ``text`` reads upside down."""
    return text[::-1].translate(_HALF_TURN) == other.translate(_ALIKE)


_LIKE_DIGITS = str.maketrans("odqiltzsbg", "0001112586")
"""The digits that letters look like, worn or far away."""

_DIGITS_TURNED = str.maketrans("69mw", "96wm")


def _may_turn_into(text: str, other: str) -> bool:
    """Return whether ``other`` may be what ``text`` is misread for upside down, but for a character."""
    turned = text[::-1].translate(_LIKE_DIGITS).translate(_DIGITS_TURNED)
    alike = other.translate(_LIKE_DIGITS)
    return len(turned) == len(alike) and sum(a != b for a, b in zip(turned, alike, strict=True)) <= 1


def _odds(score: float) -> float:
    """Return the odds of a probability."""
    return score / max(1.0 - score, 1e-6)


def _longer(corners: Floats, share: float) -> Floats:
    """Return ``corners`` moved outwards along the text, by ``share`` of its length at each end."""
    along = corners[[1, 1, 2, 2]] - corners[[0, 0, 3, 3]]
    return corners + along * np.array([[-share], [share], [share], [-share]], np.float32)


def _beginning_at(corners: Floats, first: Floats) -> Floats:
    """Return ``corners`` in their order, beginning at the one that is nearest to ``first``."""
    return np.roll(corners, -int(np.hypot(*(corners - first).T).argmin()), axis=0)


def _whole(photo: Photo, box: Floats) -> Box:
    """Return ``box`` of the decoded photo in whole pixels of the upright one."""
    return Box.around(box.reshape(2, 2) / photo.scale, photo.width, photo.height)
