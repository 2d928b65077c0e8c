"""Reading one plate: it is cut out of the photo in as many ways as necessary, and the readings vote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np

from carsight.ctc import odds
from carsight.detections import Detection
from carsight.geometry import Floats, Pixels, box_corners, sides
from carsight.photo import Photo
from carsight.pixels import straighten
from carsight.plate.reader import (
    GROW,
    HEIGHT,
    ONE_ROW,
    PlateReader,
    Reading,
    rectify,
    small_print,
    vote,
)
from carsight.plate.regions import fits_series
from carsight.plate.tuning import PlateTuning

_STACKING = frozenset({"us", "ca"})
"""Countries whose plates may have small stacked letters."""


class _FoundPlate(NamedTuple):
    """A ``plate`` that was found in ``photo``, prepared for reading.

    ``fine`` is the photo at the size that reading takes, ``corners`` (4 x 2) are the plate's there. ``rows``
    says for each of the usual ``crops`` whether it is cut as two rows.
    """

    photo: Photo
    plate: Detection
    fine: Photo
    corners: Floats
    rows: tuple[bool, ...]
    crops: list[Pixels]

    def cut(self, two_rows: bool, grow: float = GROW, *, sharp: bool = False) -> Pixels:
        """Return another crop of the plate, as by ``rectify``."""
        return rectify(self.fine.pixels, self.corners, two_rows, grow, sharp=sharp)


class CutReader:
    """Reads one plate at a time, with a lean net or, if that is unsure, with the full one.

    Safe to call from many threads.
    """

    def __init__(
        self,
        reader: Callable[[], PlateReader],
        lean: PlateReader | None,
        tuning: PlateTuning,
        threshold: float,
    ) -> None:
        """Read with ``lean``, if there is one, and with ``reader()``, which is called on first use.

        ``threshold`` is the detector's: detections that score less are doubtful.
        """
        self._reader = reader
        self._lean = lean
        self._tuning = tuning
        self._threshold = threshold

    @property
    def regions(self) -> tuple[str, ...]:
        """The codes of the regions in ``Reading.shares``, in the same order."""
        return (self._lean or self._reader()).regions

    def read(
        self, photo: Photo, plate: Detection, regions: Sequence[str], *, mirrored: bool = False
    ) -> Reading:
        """Read one plate, including its small print if the region is in doubt, and stacked letters.

        If ``mirrored``, a plate of which little can be read as it is may be read mirrored.
        """
        found = self._prepared(photo, plate)
        reader, first, reading = self._lean, None, None
        if reader is not None:
            first, reading = self._read_easily(reader, found, regions)
        if reader is None or reading is None:
            reader = self._reader()
            reading = self._read_text(reader, found, regions)
            reading = reading if first is None else reader.also_seen(reading, first)
        if mirrored and reading.score < self._tuning.mirrored and self.is_certain(photo, plate):
            other, needed = self._read_mirrored(found, regions), self._tuning.mirrored_odds
            if other.score >= self._tuning.sure and odds(other.score) >= needed * odds(reading.score):
                return other
        if (
            self.is_believable(photo, plate, reading)
            and sides(found.corners)[1] >= self._tuning.print_height
            and reader.doubts_region(reading)
        ):
            strips = small_print(found.fine.pixels, found.corners)
            reading = reader.with_small_print(reading, strips)
        return self._unstacked(reader, reading, found, regions)

    def read_upside_down(self, photo: Photo, plate: Detection, regions: Sequence[str]) -> Reading:
        """Read one plate upside down."""
        corners, fine = self._fine(photo, plate)
        crop = rectify(fine.pixels, corners[[2, 3, 0, 1]], plate.two_rows > 0.5)
        return self._read_unless_blank(lambda reader: reader.read([crop], regions)[0])

    def _read_mirrored(self, found: _FoundPlate, regions: Sequence[str]) -> Reading:
        """Read a plate mirrored."""
        mirrored = found._replace(corners=found.corners[[1, 0, 3, 2]])
        mirrored = mirrored._replace(crops=[mirrored.cut(two_rows) for two_rows in found.rows])
        return self._read_unless_blank(lambda reader: self._read_usual(reader, mirrored, regions)[0])

    def _read_unless_blank(self, read: Callable[[PlateReader], Reading]) -> Reading:
        """Return what ``read`` makes of a plate that is probably not the way it is cut.

        Of the lean net only the result that nothing is legible is used, which is the usual case: it may be
        sure of a wrong text.
        """
        if self._lean is not None:
            reading = read(self._lean)
            if reading.score < self._tuning.hopeless:
                return reading
        return read(self._reader())

    def is_certain(self, photo: Photo, plate: Detection) -> bool:
        """Return whether ``plate`` is certainly a plate, and large enough to be read."""
        large = plate_height(photo, plate) >= self._tuning.least_height
        return large and plate.score >= self._tuning.certain_plate

    def is_believable(self, photo: Photo, plate: Detection, reading: Reading) -> bool:
        """Return whether a detection is a plate: because it is certain, or because it reads like one."""
        if self.is_certain(photo, plate):
            return reading.score >= self._tuning.legible
        doubted = plate.score < self._threshold
        plausible = reading.score >= (self._tuning.convincing if doubted else self._tuning.plausible)
        return plausible and any(character.isdigit() for character in reading.text)

    def _read_easily(
        self, reader: PlateReader, found: _FoundPlate, regions: Sequence[str]
    ) -> tuple[Reading, Reading | None]:
        """Return the first reading of the lean ``reader``, and the reading to accept, or None."""
        tuning = self._tuning
        reading, second = self._read_usual(reader, found, regions)
        if reading.score < tuning.blank and not self.is_certain(found.photo, found.plate):
            return reading, reading
        least = tuning.easy_state if "-" in reading.region else tuning.easy_region
        if not reading.text or reading.score < tuning.promising or reading.region_score < least:
            return reading, None
        # A series may decide between characters that the net hardly sees, and a text that matches none may
        # lack stacked letters.
        distinct = min(character.score for character in reading.characters) >= tuning.distinct
        american = reading.region.partition("-")[0] in _STACKING
        odd = american and not fits_series(reading.text, reading.region)
        fills = sides(found.plate.corners)[0] > tuning.filling * found.photo.pixels.shape[1]
        if odd or (fills and not distinct):
            return reading, None
        if reading.score >= tuning.obvious and distinct:
            return reading, reading
        wider = found.cut(found.rows[second], grow=2 * GROW)
        (again,) = reader.read([wider], regions)
        if again.text != reading.text or again.score < tuning.promising:
            return reading, None
        both = vote([reading, again])
        return reading, both if both.score >= tuning.easy else None

    def _read_text(self, reader: PlateReader, found: _FoundPlate, regions: Sequence[str]) -> Reading:
        """Read a plate in its usual crops, and in further cuts if it is unsure."""
        tuning, rows, plate = self._tuning, found.rows, found.plate
        width, height = sides(plate.corners)
        reading, second = self._read_usual(reader, found, regions)
        hopeless = reading.score < tuning.hopeless and not self.is_certain(found.photo, plate)
        if reading.score >= tuning.sure or hopeless:
            return reading
        if len(rows) == 1 and width < tuning.either * max(height, 1.0):
            (other,) = reader.read([found.cut(not rows[0])], regions)
            if other.score >= tuning.sure and fits_series(other.text, other.region):
                return other
        upright = box_corners(plate.box * np.float32(found.fine.scale / found.photo.scale))
        cuts = [_longer(found.corners, tuning.wider), _beginning_at(upright, found.corners[0])]
        lost = reading.score < tuning.hopeless
        grown = (GROW, tuning.loose) if lost else (GROW,)
        crops = [rectify(found.fine.pixels, cut, rows[second], grow) for grow in grown for cut in cuts]
        if not lost and sides(found.corners)[1] < tuning.blurred:
            crops.append(found.cut(rows[second], sharp=True))
        return vote([reading, *reader.read(crops, regions)])

    def _rows(self, plate: Detection) -> tuple[bool, ...]:
        """Return whether to read ``plate`` as two rows; both values if the detector is unsure."""
        tuning = self._tuning
        width, height = sides(plate.corners)
        unsure = tuning.one_row < plate.two_rows < tuning.two_rows
        if unsure or width < tuning.square * max(height, 1.0):
            return (False, True)
        return (plate.two_rows > 0.5,)

    def _read_usual(
        self, reader: PlateReader, found: _FoundPlate, regions: Sequence[str]
    ) -> tuple[Reading, bool]:
        """Return the better reading of a plate's usual crops, and whether it is that of the second one."""
        if len(found.crops) == 1 or found.plate.two_rows <= 0.5:
            return self._better(reader.read(found.crops, regions))
        single, double = found.crops
        (two,) = reader.read([double], regions)
        if two.score >= self._tuning.two_rows_favor:
            return two, True
        return self._better([*reader.read([single], regions), two])

    def _better(self, readings: Sequence[Reading]) -> tuple[Reading, bool]:
        """Return the better of one or two readings, and whether it is the second, that of two rows."""
        single, *double = readings
        favor = 1.0 if double and double[0].text == single.text else self._tuning.two_rows_favor
        second = bool(double) and double[0].score > favor * single.score
        return (double[0] if second else single), second

    def _unstacked(
        self, reader: PlateReader, reading: Reading, found: _FoundPlate, regions: Sequence[str]
    ) -> Reading:
        """Return ``reading``, or the plate's reading with stacked letters spread if that is better."""
        tuning = self._tuning
        american = reading.region.partition("-")[0] in _STACKING
        if reading.score >= tuning.sure or not american or sides(found.corners)[1] < tuning.print_height:
            return reading
        from carsight.plate import stacked  # few plates need it

        whole = straighten(found.fine.pixels, found.corners, stacked.WIDTH, stacked.HEIGHT, GROW)
        spread = stacked.spread(whole)
        if spread is None:
            return reading
        crop = cv2.resize(spread, (ONE_ROW, HEIGHT), interpolation=cv2.INTER_AREA)
        other = reader.read([np.asarray(crop, np.uint8)], regions)[0]
        if other.score < max(tuning.unstacked, reading.score):
            return reading
        # Spreading destroys the design, by which the region is recognized.
        return replace(other, region=reading.region, region_score=reading.region_score, shares=reading.shares)

    def _prepared(self, photo: Photo, plate: Detection) -> _FoundPlate:
        """Return ``plate`` prepared for reading."""
        corners, fine = self._fine(photo, plate)
        rows = self._rows(plate)
        return _FoundPlate(
            photo, plate, fine, corners, rows, [rectify(fine.pixels, corners, each) for each in rows]
        )

    def _fine(self, photo: Photo, plate: Detection) -> tuple[Floats, Photo]:
        """Return the plate's corners and the photo that they refer to, at the size that reading takes."""
        if photo.scale == 1 or sides(plate.corners)[1] >= self._tuning.fine_height:
            return plate.corners, photo
        fine = photo.full()
        return plate.corners * np.float32(fine.scale / photo.scale), fine


def plate_height(photo: Photo, plate: Detection) -> float:
    """Return the height in pixels of the full ``photo`` of ``plate``, which was found in ``photo.pixels``."""
    return sides(plate.corners)[1] / photo.scale


def _longer(corners: Floats, share: float) -> Floats:
    """Return ``corners`` moved outwards along the text, by ``share`` of its length at each end."""
    along = corners[[1, 1, 2, 2]] - corners[[0, 0, 3, 3]]
    return corners + along * np.array([[-share], [share], [share], [-share]], np.float32)


def _beginning_at(corners: Floats, first: Floats) -> Floats:
    """Return ``corners`` in the same order, beginning with the one nearest to ``first``."""
    return np.roll(corners, -int(np.hypot(*(corners - first).T).argmin()), axis=0)
