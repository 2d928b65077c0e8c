"""What one plate says: it is cut out of its photo in as many ways as it takes, and the readings vote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

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
from carsight.plate.regions import plausibilities
from carsight.plate.tuning import PlateTuning

_STACKING = frozenset({"us", "ca"})
"""Countries whose plates have small letters that stand on each other."""


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

    def cut(
        self, two_rows: bool, grow: float = GROW, *, sharp: bool = False, mirrored: bool = False
    ) -> Pixels:
        """Return another crop of it, as ``rectify`` cuts."""
        corners = self.corners[[1, 0, 3, 2]] if mirrored else self.corners
        return rectify(self.fine.pixels, corners, two_rows, grow, sharp=sharp)


class CutReader:
    """Reads one plate from as many cuts as it takes, with a lean net or, where that is unsure, with another.

    Safe to call from many threads.
    """

    def __init__(
        self,
        reader: Callable[[], PlateReader],
        lean: PlateReader | None,
        tuning: PlateTuning,
        threshold: float,
    ) -> None:
        """Read with ``lean``, and with what ``reader`` returns, which is called when it is first needed.

        ``threshold`` is the score of a detection below which the detector doubts it.
        """
        self._reader = reader
        self._lean = lean
        self._tuning = tuning
        self._threshold = threshold

    @property
    def regions(self) -> tuple[str, ...]:
        """The codes that ``Reading.shares`` are of."""
        return (self._lean or self._reader()).regions

    def read(
        self, photo: Photo, plate: Detection, regions: Sequence[str], *, mirrored: bool = False
    ) -> Reading:
        """Read one plate, its small print where that may tell where it is from, and stacked letters.

        Where it may be ``mirrored`` it is read so, too, if little can be made of it as it is.
        """
        view = self._view(photo, plate)
        reader, first, reading = self._lean, None, None
        if reader is not None:
            first, reading = self._read_easily(reader, view, regions)
        if reader is None or reading is None:
            reader = self._reader()
            reading = self._read_text(reader, view, regions)
            reading = reading if first is None else reader.also_seen(reading, first)
        if mirrored and reading.score < self._tuning.mirrored and self.is_certain(photo, plate):
            other, needed = self._read_mirrored(view, regions), self._tuning.mirrored_odds
            if other.score >= self._tuning.sure and odds(other.score) >= needed * odds(reading.score):
                return other
        if (
            self.is_believable(photo, plate, reading)
            and sides(view.corners)[1] >= self._tuning.print_height
            and reader.doubts_region(reading)
        ):
            strips = small_print(view.fine.pixels, view.corners)
            reading = reader.with_small_print(reading, strips)
        return self._unstacked(reader, reading, view, regions)

    def read_upside_down(self, photo: Photo, plate: Detection, regions: Sequence[str]) -> Reading:
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

    def _read_mirrored(self, view: _View, regions: Sequence[str]) -> Reading:
        """Read a plate as it would be if the photo were mirrored; the lean net's part is as upside down."""
        mirrored = replace(view, crops=[view.cut(two_rows, mirrored=True) for two_rows in view.rows])
        if self._lean is not None:
            reading, _ = self._read_usual(self._lean, mirrored, regions)
            if reading.score < self._tuning.hopeless:
                return reading
        return self._read_usual(self._reader(), mirrored, regions)[0]

    def is_certain(self, photo: Photo, plate: Detection) -> bool:
        """Return whether ``plate`` is surely one, and large enough to be read."""
        large = plate_height(photo, plate) >= self._tuning.least_height
        return large and plate.score >= self._tuning.certain_plate

    def is_believable(self, photo: Photo, plate: Detection, reading: Reading) -> bool:
        """Return whether what was found is a plate: surely seen, or doubtfully seen and reading like one."""
        if self.is_certain(photo, plate):
            return reading.score >= self._tuning.legible
        doubted = plate.score < self._threshold
        plausible = reading.score >= (self._tuning.convincing if doubted else self._tuning.plausible)
        return plausible and any(character.isdigit() for character in reading.text)

    def _read_easily(
        self, reader: PlateReader, view: _View, regions: Sequence[str]
    ) -> tuple[Reading, Reading | None]:
        """Return what the lean ``reader`` says of the plate, and what of it stands, if anything."""
        tuning = self._tuning
        reading, second = self._read_usual(reader, view, regions)
        if reading.score < tuning.blank and not self.is_certain(view.photo, view.plate):
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
        hopeless = reading.score < tuning.hopeless and not self.is_certain(view.photo, plate)
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
        from carsight.plate import stacked  # few plates come here

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


def plate_height(photo: Photo, plate: Detection) -> float:
    """Return how high ``plate`` is in pixels of the full ``photo``, in whose ``pixels`` it was found."""
    return sides(plate.corners)[1] / photo.scale


def _longer(corners: Floats, share: float) -> Floats:
    """Return ``corners`` moved outwards along the text, by ``share`` of its length at each end."""
    along = corners[[1, 1, 2, 2]] - corners[[0, 0, 3, 3]]
    return corners + along * np.array([[-share], [share], [share], [-share]], np.float32)


def _beginning_at(corners: Floats, first: Floats) -> Floats:
    """Return ``corners`` in their order, beginning at the one that is nearest to ``first``."""
    return np.roll(corners, -int(np.hypot(*(corners - first).T).argmin()), axis=0)
