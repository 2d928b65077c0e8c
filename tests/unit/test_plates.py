"""Plates end to end with the shipped models, as a library's user calls them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from carsight import runtime
from carsight.detections import Detection
from carsight.detector import Detector, Findings
from carsight.geometry import Box, iou, turned_back
from carsight.photo import Photo, decode
from carsight.plate.reader import TWO_ROWS, Candidate, PlateReader, ReaderTuning, Reading
from carsight.plate.recognizer import Find, PlateReading, PlateRecognizer, PlateTuning
from carsight.plate.recognizer import _is_better as is_better
from carsight.plate.regions import agrees
from carsight.plate.vehicles import VehicleClassifier
from training.designs import ONE_ROW, Design
from training.designs import TWO_ROWS as DESIGNS_OF_TWO_ROWS
from training.render_plates import draw_plate

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("plate_us", "plate_de", "no_plate")
THREADS = 8


def box_of(corners: NDArray[Any]) -> NDArray[np.float32]:
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)]).astype(np.float32)


def photo(name: str) -> Photo:
    return decode((ROOT / "tests" / "data" / f"{name}.jpg").read_bytes())


@pytest.fixture(scope="module")
def recognizer() -> PlateRecognizer:
    return PlateRecognizer.load()


@pytest.mark.parametrize(
    "name, text, country", [("plate_us", "7kmr204", "us"), ("plate_de", "kapl482", "de")]
)
def test_a_plate_is_read_with_its_place_and_vehicle(
    recognizer: PlateRecognizer, name: str, text: str, country: str
) -> None:
    (reading,) = recognizer.read(photo(name))
    assert reading.text == reading.candidates[0].text == text
    assert "".join(character.text for character in reading.characters) == text
    assert reading.region.split("-")[0] == country
    assert reading.vehicle is not None
    assert reading.vehicle.box.xmin < reading.box.xmin < reading.box.xmax < reading.vehicle.box.xmax


def test_several_plates_each_have_their_own_vehicle(recognizer: PlateRecognizer) -> None:
    both = np.hstack([photo("plate_us").pixels, photo("plate_de").pixels])
    readings = {reading.text: reading for reading in recognizer.read(both)}
    assert readings.keys() == {"7kmr204", "kapl482"}
    for reading in readings.values():
        assert reading.vehicle is not None
        assert reading.vehicle.box.xmin < reading.box.xmin < reading.box.xmax < reading.vehicle.box.xmax


@pytest.mark.parametrize("name", ["plate_us", "plate_de"])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_photo_that_lies_on_its_side_is_read_where_it_lies(
    recognizer: PlateRecognizer, name: str, quarters: int
) -> None:
    upright = photo(name).pixels
    (expected,) = recognizer.read(upright)
    lying = np.ascontiguousarray(np.rot90(upright, -quarters))
    (reading,) = recognizer.read(lying)
    assert reading.text == expected.text
    # The lying photo is the upright one turned the other way.
    corners = turned_back(np.array(reading.polygon), -quarters, *upright.shape[1::-1])
    assert iou(box_of(corners), box_of(np.array(expected.polygon))) > 0.7
    width, height = lying.shape[1::-1]
    assert 0 <= reading.box.xmin < reading.box.xmax <= width
    assert 0 <= reading.box.ymin < reading.box.ymax <= height
    # The polygon begins at the top left of the text: in the upright photo that is the corner nearest to 0, 0.
    assert corners.sum(axis=1).argmin() == 0
    assert reading.vehicle is not None and expected.vehicle is not None
    assert reading.vehicle.type == expected.vehicle.type


@pytest.mark.parametrize("name, text", [("plate_us", "7kmr204"), ("plate_de", "kapl482")])
@pytest.mark.parametrize("around", [0.0, 0.15, 0.6])
@pytest.mark.parametrize("quarters", [0, 1, 2])
def test_nothing_but_the_plate_is_enough(
    recognizer: PlateRecognizer, name: str, text: str, around: float, quarters: int
) -> None:
    pixels = photo(name).pixels
    box = recognizer.read(pixels)[0].box
    dx, dy = round((box.xmax - box.xmin) * around), round((box.ymax - box.ymin) * around)
    close_up = pixels[box.ymin - dy : box.ymax + dy, box.xmin - dx : box.xmax + dx]
    (reading,) = recognizer.read(np.ascontiguousarray(np.rot90(close_up, quarters)))
    assert reading.text == text
    width, height = close_up.shape[1::-1] if quarters != 1 else close_up.shape[:2]
    assert 0 <= reading.box.xmin < reading.box.xmax <= width
    assert 0 <= reading.box.ymin < reading.box.ymax <= height


@pytest.mark.parametrize("name", ["plate_us", "plate_de"])
@pytest.mark.parametrize("quarters", [0, 1])
def test_of_a_plate_that_the_photo_cuts_no_text_is_sure(
    recognizer: PlateRecognizer, name: str, quarters: int
) -> None:
    pixels = photo(name).pixels
    (whole,) = recognizer.read(pixels)
    left, right = whole.box.xmin, whole.box.xmax
    third, beside = (right - left) // 3, (whole.box.ymax - whole.box.ymin) // 3
    for cut in (pixels[:, left + third :], pixels[:, : right - third]):
        (half,) = recognizer.read(np.ascontiguousarray(np.rot90(cut, quarters)))
        assert len(half.text) < len(whole.text)
        assert half.candidates[0] == Candidate(half.text, half.score)
        assert half.score == max(each.score for each in half.candidates) < 0.5
    for view in (pixels[:, left - beside :], pixels[:, : right + beside]):
        (near,) = recognizer.read(np.ascontiguousarray(np.rot90(view, quarters)))
        assert near.text == whole.text
        assert near.score > 0.9


@pytest.mark.parametrize("name", ["plate_us", "plate_de"])
def test_a_photo_cut_to_its_plate_does_not_cut_it(recognizer: PlateRecognizer, name: str) -> None:
    pixels = photo(name).pixels
    (whole,) = recognizer.read(pixels)
    box = whole.box
    (alone,) = recognizer.read(np.ascontiguousarray(pixels[box.ymin : box.ymax, box.xmin : box.xmax]))
    assert alone.text == whole.text
    assert alone.score > 0.9


@pytest.mark.parametrize("name", ["plate_us", "plate_de"])
def test_a_mirrored_plate_is_read_where_it_is(recognizer: PlateRecognizer, name: str) -> None:
    pixels = photo(name).pixels
    (expected,) = recognizer.read(pixels)
    (reading,) = recognizer.read(np.ascontiguousarray(pixels[:, ::-1]))
    assert (reading.text, reading.region) == (expected.text, expected.region)
    left, right = (pixels.shape[1] - side for side in (reading.box.xmax, reading.box.xmin))
    found = left, reading.box.ymin, right, reading.box.ymax
    box = expected.box
    assert iou(found, (box.xmin, box.ymin, box.xmax, box.ymax)) > 0.7


@pytest.mark.parametrize("name, text", [("plate_us", "7kmr204"), ("plate_de", "kapl482")])
@pytest.mark.parametrize("quarters", [1, 3])
def test_a_mirrored_photo_that_lies_on_its_side_is_read(
    recognizer: PlateRecognizer, name: str, text: str, quarters: int
) -> None:
    lying = np.rot90(photo(name).pixels[:, ::-1], quarters)
    assert [reading.text for reading in recognizer.read(np.ascontiguousarray(lying))] == [text]


@pytest.mark.parametrize(
    ("text", "band"), [("WA 0475G", "PL"), ("BOT 1046", "D"), ("0815 BDJ", "E"), ("HT 318 RN", "FIN")]
)
def test_a_plate_whose_edge_is_that_of_the_photo_is_enough(
    recognizer: PlateRecognizer, text: str, band: str
) -> None:
    """Its text takes half of its width, as a short number does."""
    font = cv2.FontFace("sans")
    written = np.full((300, 2000, 3), 246, np.uint8)
    cv2.putText(written, text, (50, 200), (20, 20, 20), font, 90, 700)
    rows, columns = np.nonzero(written[:, :, 0] < 133)
    written = written[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    plate = np.full((110, 520, 3), 246, np.uint8)
    plate[:, :42] = (153, 51, 0)
    cv2.putText(plate, band, (4, 96), (255, 255, 255), font, 18, 600)
    plate[20:88, 150:410] = cv2.resize(written, (260, 68), interpolation=cv2.INTER_AREA)
    cv2.rectangle(plate, (1, 1), (518, 108), (15, 15, 15), 3)
    grain = np.random.default_rng(1).normal(0, 3, plate.shape)
    (reading,) = recognizer.read(
        np.clip(cv2.GaussianBlur(plate, (0, 0), 0.7) + grain, 0, 255).astype(np.uint8)
    )
    assert reading.text == text.replace(" ", "").lower()
    assert reading.box.xmin < 60
    assert reading.box.xmax > 460


def with_text(pixels: NDArray[np.uint8], polygon: object, text: str) -> NDArray[np.uint8]:
    """Return a photo whose plate, at ``polygon``, says ``text`` in plain strokes."""
    plate = np.full((140, 520, 3), 235, np.uint8)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 3.2, 6)
    where = ((520 - width) // 2, (140 + height) // 2)
    cv2.putText(plate, text, where, cv2.FONT_HERSHEY_SIMPLEX, 3.2, (25, 25, 25), 6, cv2.LINE_AA)
    corners = np.array([(0, 0), (520, 0), (520, 140), (0, 140)], np.float32)
    matrix = cv2.getPerspectiveTransform(corners, np.array(polygon, np.float32))
    drawn = pixels.copy()
    size = (pixels.shape[1], pixels.shape[0])
    cv2.warpPerspective(plate, matrix, size, dst=drawn, borderMode=cv2.BORDER_TRANSPARENT)
    return np.asarray(cv2.GaussianBlur(drawn, (3, 3), 0), np.uint8)


@pytest.mark.parametrize("text", ["60", "1000", "6009", "8001"])
def test_digits_that_read_both_ways_are_read_as_sent(recognizer: PlateRecognizer, text: str) -> None:
    pixels = photo("plate_de").pixels
    (plate,) = recognizer.read(pixels)
    (reading,) = recognizer.read(with_text(pixels, plate.polygon, text))
    assert reading.text == text


def test_a_refusal_says_why(recognizer: PlateRecognizer) -> None:
    blank = recognizer.read(np.full((480, 640, 3), 90, np.uint8))
    assert blank == [] and blank.refusal is not None
    assert blank.refusal.reason == "no_plate" and 0 <= blank.refusal.figure < 0.3
    pixels = photo("plate_de").pixels
    tiny = cv2.resize(pixels, None, fx=0.08, fy=0.08, interpolation=cv2.INTER_AREA)
    small = recognizer.read(np.asarray(tiny, np.uint8)).refusal
    assert small is not None and small.reason == "plate_too_small"
    assert small.needed is not None and 2 < small.figure < 8 < small.needed
    blurred = recognizer.read(np.asarray(cv2.GaussianBlur(pixels, (51, 51), 0), np.uint8)).refusal
    assert blurred is not None and blurred.reason == "illegible"
    assert blurred.needed is not None and blurred.figure < blurred.needed


class Doubting(Detector):
    """A detector that finds what it finds, and is sure of none of it."""

    def find(self, pixels: NDArray[np.uint8], quarters: int = 0) -> Findings:
        seen = super().find(pixels, quarters)
        targets = tuple(each._replace(score=0.25) for each in seen.targets)
        return seen._replace(targets=targets)


def session(name: str) -> InferenceSession:
    return runtime.session(runtime.MODELS / f"plate_{name}.onnx")


def assembled(
    reader: Callable[[], PlateReader],
    lean: PlateReader | None = None,
    detect: type[Detector] = Detector,
    tuning: PlateTuning | None = None,
) -> PlateRecognizer:
    """Return a recognizer with other readers than the shipped ones, or another detector."""
    tuning = tuning or PlateTuning()
    detector = detect(session("detector"), tuning.detector)
    return PlateRecognizer(detector, reader, VehicleClassifier(session("vehicle")), tuning, lean)


def test_a_doubtful_plate_is_one_if_its_text_is_sure() -> None:
    reader = PlateReader(session("reader"))
    for convincing, found in ((0.9, True), (0.9999, False)):
        recognizer = assembled(lambda: reader, None, Doubting, PlateTuning(convincing=convincing))
        assert bool(recognizer.read(photo("plate_us"))) is found


class Blind(Detector):
    """A detector that finds vehicles, and no plate."""

    def find(self, pixels: NDArray[np.uint8], quarters: int = 0) -> Findings:
        return super().find(pixels, quarters)._replace(targets=())


class Sightless(Blind):
    """One that finds nothing."""

    def find(self, pixels: NDArray[np.uint8], quarters: int = 0) -> Findings:
        return super().find(pixels, quarters)._replace(vehicles=())


class Certain(Blind):
    """One that finds vehicles and is certain that no plate is in the photo."""

    def find(self, pixels: NDArray[np.uint8], quarters: int = 0) -> Findings:
        return super().find(pixels, quarters)._replace(evidence=0.001)


@pytest.mark.parametrize(
    ("first", "asked", "found"),
    [(Detector, 0, True), (Blind, 1, True), (Sightless, 0, False), (Certain, 0, False)],
)
def test_the_second_detector_is_asked_about_vehicles_without_a_plate(
    first: type[Detector], asked: int, found: bool
) -> None:
    opened: list[Detector] = []
    tuning = PlateTuning()

    def second() -> Detector:
        opened.append(Detector(session("detector_second"), tuning.second_detector))
        return opened[-1]

    recognizer = PlateRecognizer(
        first(session("detector"), tuning.detector),
        lambda: PlateReader(session("reader")),
        VehicleClassifier(session("vehicle")),
        tuning,
        second=second,
    )
    readings = recognizer.read(photo("plate_de"))
    assert [reading.text for reading in readings] == ["kapl482"] * found
    assert len(opened) == asked
    assert all(reading.vehicle is not None for reading in readings)


def test_what_the_first_detector_saw_is_the_refusal_if_the_second_finds_no_more() -> None:
    tuning = PlateTuning()
    recognizer = PlateRecognizer(
        Blind(session("detector"), tuning.detector),
        lambda: PlateReader(session("reader")),
        VehicleClassifier(session("vehicle")),
        tuning,
        second=lambda: Blind(session("detector_second"), tuning.second_detector),
    )
    evidence = Detector(session("detector"), tuning.detector).find(photo("plate_de").pixels).evidence
    refusal = recognizer.read(photo("plate_de")).refusal
    assert refusal is not None and (refusal.reason, refusal.figure) == ("no_plate", evidence)


class Claiming(PlateReader):
    """A reader that claims how sure it is of what it reads."""

    def __init__(
        self, session: InferenceSession, score: float, region_score: float, seen: float = 1.0
    ) -> None:
        super().__init__(session)
        self._claims = score, region_score, seen

    def read(self, crops: Sequence[NDArray[np.uint8]], regions: Sequence[str] = ()) -> list[Reading]:
        score, region_score, seen = self._claims
        readings = super().read(crops, regions)
        return [
            dataclasses.replace(
                each,
                score=score,
                region_score=region_score,
                candidates=tuple(Candidate(one.text, score) for one in each.candidates[:1]),
                characters=tuple(Candidate(one.text, seen) for one in each.characters),
            )
            for each in readings
        ]


def asking(
    first: Callable[[InferenceSession], PlateReader],
    detect: type[Detector] = Detector,
    tuning: PlateTuning | None = None,
) -> tuple[PlateRecognizer, list[PlateReader]]:
    """Return a recognizer whose lean reader is ``first``'s, and the other reader once it has been asked."""
    opened: list[PlateReader] = []

    def other() -> PlateReader:
        opened.append(PlateReader(session("reader")))
        return opened[-1]

    return assembled(other, first(session("reader_lean")), detect, tuning), opened


@pytest.mark.parametrize(
    "detect, score, region_score, asked",
    [
        (Detector, 0.98, 0.95, False),
        (Detector, 0.91, 0.95, False),
        (Detector, 0.85, 0.95, True),
        (Detector, 0.75, 0.95, True),
        (Detector, 0.98, 0.65, True),
        (Detector, 0.0, 0.95, True),
        (Doubting, 0.0, 0.95, False),
    ],
    ids=["sure", "sure twice", "unsure twice", "text unsure", "region unsure", "illegible", "no plate"],
)
def test_the_other_reader_is_asked_where_the_lean_one_is_unsure(
    detect: type[Detector], score: float, region_score: float, asked: bool
) -> None:
    recognizer, opened = asking(lambda lean: Claiming(lean, score, region_score), detect)
    readings = recognizer.read(photo("plate_de"))
    assert bool(opened) is asked
    if asked:
        assert [reading.text for reading in readings] == ["kapl482"]
        assert readings[0].score not in (score, 0)


def test_of_nothing_the_lean_reader_is_never_sure() -> None:
    class Mute(Claiming):
        def read(self, crops: Sequence[NDArray[np.uint8]], regions: Sequence[str] = ()) -> list[Reading]:
            return [
                dataclasses.replace(each, text="", candidates=(), characters=())
                for each in super().read(crops, regions)
            ]

    recognizer, _ = asking(lambda lean: Mute(lean, 0.0, 0.95), tuning=PlateTuning(promising=0.0))
    assert [reading.text for reading in recognizer.read(photo("plate_de"))] == ["kapl482"]


@pytest.mark.parametrize(
    ("text", "region", "seen", "asked"),
    [
        ("7kmr204", "us-ca", 0.7, False),
        ("7kmr204", "us-ca", 0.5, True),
        ("r2515", "us-ca", 0.7, True),
    ],
    ids=["seen", "settled by the series", "of no series"],
)
def test_a_text_is_easy_only_if_it_is_seen_and_is_of_a_series(
    text: str, region: str, seen: float, asked: bool
) -> None:
    """A series may settle what the net hardly sees; a text that is of none may lack stacked letters."""

    class Saying(Claiming):
        def read(self, crops: Sequence[NDArray[np.uint8]], regions: Sequence[str] = ()) -> list[Reading]:
            return [
                dataclasses.replace(each, text=text, region=region) for each in super().read(crops, regions)
            ]

    recognizer, opened = asking(lambda lean: Saying(lean, 0.99, 0.95, seen))
    pixels = photo("plate_us").pixels[420:536, 520:720]
    (reading,) = recognizer.read(np.ascontiguousarray(pixels))
    assert reading.text == ("7kmr204" if asked else text)
    assert bool(opened) is asked


class Counting(Claiming):
    """A reader that counts what it is asked, and doubts where a plate is from."""

    def __init__(self, session: InferenceSession, score: float) -> None:
        super().__init__(session, score, 0.5)
        self.crops, self.strips = 0, 0

    def read(self, crops: Sequence[NDArray[np.uint8]], regions: Sequence[str] = ()) -> list[Reading]:
        self.crops += len(crops)
        return super().read(crops, regions)

    def doubts_region(self, reading: Reading) -> bool:
        return True

    def with_small_print(self, reading: Reading, strips: Sequence[NDArray[np.uint8]]) -> Reading:
        self.strips += len(strips)
        return reading


def counting(lean: float, other: float) -> tuple[Counting, Counting]:
    """What two readers with these scores are asked of a photo: the lean one and the other."""
    first, second = Counting(session("reader_lean"), lean), Counting(session("reader"), other)
    assembled(lambda: second, first).read(photo("plate_us"))
    return first, second


def test_who_reads_the_plate_reads_its_small_print() -> None:
    lean, other = counting(0.5, 0.95)
    assert other.crops == 1
    assert (lean.strips, other.strips) == (0, 2)


def test_what_the_lean_reader_makes_nothing_of_upside_down_or_mirrored_is_asked_of_no_other() -> None:
    (lean, asked), (same, spared) = counting(0.2, 0.85), counting(0.03, 0.85)
    assert lean.crops == same.crops == 2
    assert asked.crops == spared.crops + 1
    (lean, asked), (same, spared) = counting(0.2, 0.45), counting(0.03, 0.45)
    assert lean.crops == same.crops == 3
    assert asked.crops == spared.crops + 2


@pytest.mark.parametrize("sure, turned", [("", 2), ("7kmr204", 0)])
def test_a_sure_text_tells_which_way_up_the_others_are(sure: str, turned: int) -> None:
    class Naming(PlateReader):
        """A reader that is sure of one text alone, and counts how often it is given one crop."""

        asked = 0

        def read(self, crops: Sequence[NDArray[np.uint8]], regions: Sequence[str] = ()) -> list[Reading]:
            self.asked += len(crops) == 1
            readings = super().read(crops, regions)
            scores = [0.95 if each.text == sure else 0.85 for each in readings]
            return [
                dataclasses.replace(each, score=score, candidates=(Candidate(each.text, score),))
                for each, score in zip(readings, scores, strict=True)
            ]

    naming = Naming(session("reader"))
    recognizer = assembled(lambda: naming, tuning=PlateTuning(either=0.0))
    both = np.hstack([photo("plate_us").pixels, photo("plate_de").pixels])
    assert len(recognizer.read(both)) == 2
    assert naming.asked == 2 + turned


@pytest.mark.parametrize("height, crops", [(20, 2), (10, 1), (5, 0)])
def test_how_large_a_plate_is_says_how_often_it_is_read(height: int, crops: int) -> None:
    """Upright and upside down, upright alone, or not at all."""
    zoom = height / 52  # its height in the photo
    small = cv2.resize(photo("plate_de").pixels, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    counter = Counting(session("reader"), 0.5)
    assembled(lambda: counter, tuning=PlateTuning(sure=0.0)).read(np.asarray(small, np.uint8))
    assert counter.crops == crops


class Noting(PlateReader):
    """A reader that notes what it is given, and can read none of it."""

    def __init__(self, session: InferenceSession, legible: bool) -> None:
        super().__init__(session, ReaderTuning(min_text_score=0.0 if legible else 1.0))
        self.given: list[Sequence[NDArray[np.uint8]]] = []

    def read(self, crops: Sequence[NDArray[np.uint8]], regions: Sequence[str] = ()) -> list[Reading]:
        self.given.append(crops)
        return super().read(crops, regions)


@pytest.mark.parametrize("legible, cuts", [(True, 0), (False, 4)])
def test_a_sure_plate_that_cannot_be_read_is_cut_looser_as_well(legible: bool, cuts: int) -> None:
    noting = Noting(session("reader"), legible)
    assert bool(assembled(lambda: noting).read(photo("plate_de"))) is legible
    first, *again = noting.given
    assert len(first) == 1
    assert [len(crops) for crops in again[:1]] == ([cuts] if cuts else [])
    if cuts:
        # Looser cuts of a white plate on a dark car show more of the car.
        assert all(
            loose.mean() < tight.mean() for tight, loose in zip(again[0][:2], again[0][2:], strict=True)
        )


class Scripted(PlateReader):
    """A reader that says ``one`` of a crop of one row, ``two`` of two rows, ``turned`` of one on its head.

    Each is a text, its score and its region. The first crop is upright.
    """

    def __init__(self, session: InferenceSession, **script: tuple[str, float, str]) -> None:
        super().__init__(session)
        self.script = script
        self.upright: NDArray[np.float32] | None = None

    def read(self, crops: Sequence[NDArray[np.uint8]], regions: Sequence[str] = ()) -> list[Reading]:
        return [self._says(crop) for crop in crops]

    def _says(self, crop: NDArray[np.uint8]) -> Reading:
        if crop.shape[1] == TWO_ROWS:
            text, score, region = self.script["two"]
        else:
            seen = crop.astype(np.float32)
            self.upright = seen if self.upright is None else self.upright
            level, headlong = (np.abs(view - self.upright).mean() for view in (seen, seen[::-1, ::-1]))
            text, score, region = self.script["one" if level <= headlong else "turned"]
        candidates = (Candidate(text, score),)
        shares = np.array([float(agrees(code, region)) for code in self.regions])
        return Reading(text, score, candidates, candidates, region, 0.9, shares / max(shares.sum(), 1.0))


def scripted(detect: type[Detector] = Detector, **script: tuple[str, float, str]) -> PlateRecognizer:
    says = Scripted(session("reader"), **script)
    return assembled(lambda: says, detect=detect)


class InAMirror(PlateReader):
    """A reader that says AB12CDE of a plate's mirror image, and 3DO21DA of it as it is, with ``plain``."""

    def __init__(self, session: InferenceSession, plain: float) -> None:
        super().__init__(session)
        self.plain = plain
        self.seen: NDArray[np.float32] | None = None

    def read(self, crops: Sequence[NDArray[np.uint8]], regions: Sequence[str] = ()) -> list[Reading]:
        return [self._says(crop.astype(np.float32)) for crop in crops]

    def _says(self, crop: NDArray[np.float32]) -> Reading:
        self.seen = crop if self.seen is None else self.seen
        plain, mirrored, turned = (
            np.abs(crop - view).mean() for view in (self.seen, self.seen[:, ::-1], self.seen[::-1, ::-1])
        )
        text, score = ("ab12cde", 0.95) if mirrored < min(plain, turned) else ("3do21da", self.plain)
        candidates = (Candidate(text, score),)
        shares = np.full(len(self.regions), 1 / len(self.regions))
        return Reading(text, score, candidates, candidates, "gb", 0.9, shares)


@pytest.mark.parametrize("plain, text", [(0.05, "ab12cde"), (0.3, "ab12cde"), (0.6, "3do21da")])
def test_a_plate_is_mirrored_only_if_it_reads_far_better_so(plain: float, text: str) -> None:
    says = InAMirror(session("reader"), plain)
    (reading,) = assembled(lambda: says).read(photo("plate_de"))
    assert reading.text == text


@pytest.mark.parametrize(
    "one, two, text",
    [
        (("1000", 0.77, "ae"), ("3141000", 0.97, "jp"), "3141000"),
        (("r0154", 0.03, "pk"), ("lxk0154", 0.99, "pk"), "lxk0154"),
        (("1000", 0.77, "ae"), ("3141000", 0.85, "jp"), "1000"),
        (("ba1919", 0.57, "pk"), ("khiba1919", 0.93, "pk"), "ba1919"),
        (("1000", 0.95, "ae"), ("3141000", 0.97, "jp"), "1000"),
    ],
    ids=["row above", "row lost", "unsure rows", "words for a row", "sure row"],
)
def test_a_high_plate_whose_row_is_unsure_may_have_two(
    one: tuple[str, float, str], two: tuple[str, float, str], text: str
) -> None:
    (reading,) = scripted(one=one, two=two, turned=("", 0.0, "us")).read(photo("plate_us"))
    assert reading.text == text


@pytest.mark.parametrize("score, two_rows", [(0.7, [True]), (0.5, [True, False])])
def test_two_likely_rows_that_read_well_are_not_read_as_one(score: float, two_rows: list[bool]) -> None:
    class TwoRows(Detector):
        def find(self, pixels: NDArray[np.uint8], quarters: int = 0) -> Findings:
            seen = super().find(pixels, quarters)
            targets = tuple(each._replace(two_rows=0.8) for each in seen.targets)
            return seen._replace(targets=targets)

    class Listing(Scripted):
        def read(self, crops: Sequence[NDArray[np.uint8]], regions: Sequence[str] = ()) -> list[Reading]:
            given.extend(crop.shape[1] == TWO_ROWS for crop in crops)
            return super().read(crops, regions)

    given: list[bool] = []
    script = {"one": ("0154", 0.6, "pk"), "two": ("lxk0154", score, "pk"), "turned": ("", 0.0, "pk")}
    listing = Listing(session("reader"), **script)
    recognizer = assembled(lambda: listing, detect=TwoRows, tuning=PlateTuning(sure=0.5, upright=0.5))
    (reading,) = recognizer.read(photo("plate_us"))
    assert reading.text == "lxk0154"
    assert given == two_rows


class HighUp(Detector):
    """A detector that sees the plate high on its vehicle, as on a car that stands on its head."""

    def find(self, pixels: NDArray[np.uint8], quarters: int = 0) -> Findings:
        seen = super().find(pixels, quarters)
        top = seen.targets[0].box[1] - 100
        cars = [
            car._replace(box=np.array([car.box[0], top, car.box[2], top + 400], np.float32))
            for car in seen.vehicles
        ]
        return seen._replace(vehicles=tuple(cars))


@pytest.mark.parametrize(
    "detect, score, text",
    [(Detector, 0.99, "bg56coh"), (HighUp, 0.99, "h0j9598"), (HighUp, 0.96, "bg56coh")],
)
def test_a_plate_high_on_its_vehicle_is_most_likely_upside_down(
    detect: type[Detector], score: float, text: str
) -> None:
    script = {"one": ("bg56coh", 0.95, "gb"), "two": ("", 0.0, "gb"), "turned": ("h0j9598", score, "us")}
    (reading,) = scripted(detect, **script).read(photo("plate_us"))
    assert reading.vehicle is not None
    assert reading.text == text


@pytest.mark.parametrize(
    "close_up, score, text",
    [(False, 0.67, "bg56coh"), (False, 0.999, "h0j9598"), (True, 0.67, "h0j9598"), (True, 0.44, "bg56coh")],
)
def test_a_car_stands_on_its_head_only_if_it_reads_far_better_so(
    close_up: bool, score: float, text: str
) -> None:
    """Upside down many a plate says something; of one without its car the better reading counts."""
    recognizer = scripted(one=("bg56coh", 0.45, "gb"), two=("", 0.0, "gb"), turned=("h0j9598", score, "us"))
    pixels = photo("plate_us").pixels
    if close_up:
        box = PlateRecognizer.load().read(pixels)[0].box
        dx, dy = (round(0.15 * side) for side in (box.xmax - box.xmin, box.ymax - box.ymin))
        pixels = pixels[box.ymin - dy : box.ymax + dy, box.xmin - dx : box.xmax + dx]
    (reading,) = recognizer.read(np.ascontiguousarray(pixels))
    assert (reading.vehicle is None) is close_up
    assert reading.text == text


@pytest.mark.parametrize(
    "text, turned, kept",
    [("hhoo7", "l00hh", True), ("ox168", "891x0", True), ("hhoa7", "l00hh", False)],
)
def test_a_text_that_reads_as_well_upside_down_is_taken_as_it_stands(
    text: str, turned: str, kept: bool
) -> None:
    recognizer = scripted(one=(text, 0.56, "de"), two=("", 0.0, "de"), turned=(turned, 0.73, "de"))
    box = PlateRecognizer.load().read(photo("plate_us"))[0].box
    pixels = photo("plate_us").pixels[box.ymin - 10 : box.ymax + 10, box.xmin - 20 : box.xmax + 20]
    (reading,) = recognizer.read(np.ascontiguousarray(pixels))
    assert reading.text == (text if kept else turned)


@pytest.mark.parametrize(
    "text, region, alone",
    [
        ("12jun2024", "in", False),
        ("0800123456", "in", False),
        ("exit", "gb", False),
        ("taxi4521", "pk", False),
        ("228pm", "nl", False),
        ("12052024", "il", False),
        ("stitchz", "us", True),
        ("1234mph", "es", True),
        ("jun4567", "my", True),
        ("rain24", "nl", True),  # of a series of another country's
    ],
)
def test_what_no_vehicle_carries_and_no_country_gives_out_is_a_sign(
    text: str, region: str, alone: bool
) -> None:
    recognizer = scripted(one=(text, 0.97, region), two=("", 0.0, "us"), turned=("", 0.0, "us"))
    pixels = photo("plate_us").pixels
    assert [reading.text for reading in recognizer.read(pixels)] == [text]
    box = PlateRecognizer.load().read(pixels)[0].box
    readings = recognizer.read(np.ascontiguousarray(pixels[box.ymin : box.ymax, box.xmin : box.xmax]))
    assert [reading.text for reading in readings] == ([text] if alone else [])
    assert alone or (readings.refusal is not None and readings.refusal.reason == "no_plate")


@pytest.mark.parametrize(("region_score", "sign"), [(0.6, True), (0.95, False)])
def test_digits_alone_are_a_plate_where_it_is_clear_where_they_are_from(
    region_score: float, sign: bool
) -> None:
    class Digits(PlateReader):
        def read(self, crops: Sequence[NDArray[np.uint8]], regions: Sequence[str] = ()) -> list[Reading]:
            looks = np.where(np.array(self.regions) == "de", 0.0, -20.0)
            shares = np.full(len(self.regions), 1 / len(self.regions))
            (says,) = candidates = (Candidate("123456", 0.97),)
            reading = Reading(says.text, says.score, candidates, (), "cr", region_score, shares, looks)
            return [reading] * len(crops)

    digits = Digits(session("reader"))
    readings = assembled(lambda: digits).read(photo("plate_us").pixels[420:536, 520:720])
    assert [reading.text for reading in readings] == ([] if sign else ["123456"])


def drawn_plate(text: str) -> NDArray[np.uint8]:
    """Draw a plate of 110 x 520 pixels and nothing else."""
    plate = np.full((110, 520, 3), 250, np.uint8)
    cv2.rectangle(plate, (2, 2), (517, 107), (20, 20, 20), 4)
    width, height = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, 2.6, 8)[0]
    place = ((520 - width) // 2, (110 + height) // 2)
    cv2.putText(plate, text, place, cv2.FONT_HERSHEY_DUPLEX, 2.6, (15, 15, 15), 8, cv2.LINE_AA)
    return plate


@pytest.mark.parametrize(
    "text, ratio, at",
    [("LK12 ABC", 12, 0.0), ("LK12 ABC", 16, 0.0), ("WE 41297", 16, 0.5), ("WE 41297", 20, 1.0)],
)
def test_a_plate_in_a_strip_of_its_own_height_is_read(
    recognizer: PlateRecognizer, text: str, ratio: int, at: float
) -> None:
    strip = np.full((110, 110 * ratio, 3), (90, 92, 95), np.uint8)
    left = round(at * (110 * ratio - 520))
    strip[:, left : left + 520] = drawn_plate(text)
    (reading,) = recognizer.read(np.asarray(cv2.GaussianBlur(strip, (0, 0), 0.7), np.uint8))
    assert reading.text == text.replace(" ", "").lower()
    assert abs(reading.box.xmin - left) < 60 and abs(reading.box.xmax - left - 520) < 60


def drawn_board(*words: str) -> NDArray[np.uint8]:
    """Draw framed signs on a board of 800 x 1200 pixels, in two columns."""
    rng = np.random.default_rng(72)
    board = np.full((800, 1200, 3), rng.integers(60, 200, 3), np.uint8)
    for number, word in enumerate(words):
        wide, high = int(rng.integers(330, 480)), int(rng.integers(100, 170))
        x, y = 60 + number % 2 * 580, 40 + number // 2 * 255
        cv2.rectangle(board, (x, y), (x + wide, y + high), (245, 245, 245), -1)
        cv2.rectangle(board, (x + 3, y + 3), (x + wide - 3, y + high - 3), (20, 20, 20), 4)
        (text, tall), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_DUPLEX, 1, 1)
        size = min(2.6, 0.86 * wide / text)
        left, low = round(x + (wide - size * text) / 2), round(y + (high + size * tall) / 2)
        cv2.putText(board, word, (left, low), cv2.FONT_HERSHEY_DUPLEX, size, (20, 20, 20), 6, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(board, (0, 0), 1.0), np.uint8)


def test_framed_signs_on_a_board_have_to_read_like_plates(recognizer: PlateRecognizer) -> None:
    """Shown closer, framed signs look like plates; few have a text that must be one."""
    board = drawn_board("LIFT 63", "ZONE G55", "BAY A7", "ZONE A3", "HALL F82", "ROOM 12")
    assert len(recognizer.read(board)) <= 1  # of six


@pytest.mark.parametrize("sign", ["ROOM 12", "PARKING", "M25"], ids=["writing", "word", "short"])
def test_what_hangs_beside_a_sign_is_a_sign(recognizer: PlateRecognizer, sign: str) -> None:
    assert recognizer.read(drawn_board("SR 520", sign)) == []


def test_a_plate_beside_a_sign_is_one_where_it_is_clear_where_it_is_from(
    recognizer: PlateRecognizer,
) -> None:
    board = drawn_board("ROOM 12")
    design = next(design for design in ONE_ROW if design.region == "de")
    plate, _, _ = draw_plate(design, np.random.default_rng(4), "KA*PL 482")
    board[400:500, 100:573] = cv2.resize(plate, (473, 100), interpolation=cv2.INTER_AREA)
    assert [reading.text for reading in recognizer.read(board)] == ["kapl482"]


def test_a_plate_of_no_series_does_not_make_signs_of_a_table_of_plates(recognizer: PlateRecognizer) -> None:
    texts = ["A1B2C3D4", "AB*123*CD", "EF*456*GH", "JK*789*LM", "NP*234*QR", "ST*567*VW"]
    rng = np.random.default_rng(1)
    table = rng.normal((96, 112, 120), 8, (970, 1520, 3)).clip(0, 255).astype(np.uint8)
    design = next(design for design in ONE_ROW if design.region == "gb")
    for number, text in enumerate(texts):
        y, x = 160 + number // 2 * 270, 160 + number % 2 * 680
        plate, _, _ = draw_plate(design, rng, text)
        table[y : y + 110, x : x + 520] = cv2.resize(plate, (520, 110), interpolation=cv2.INTER_AREA)
    found = {plate.text for plate in recognizer.read(table)}
    assert found == {text.replace("*", "").lower() for text in texts[1:]}


@pytest.mark.parametrize(
    ("rows", "columns", "down", "across"),
    [
        (2, 2, 270, 680),
        (3, 2, 270, 680),
        (2, 3, 270, 680),
        (4, 2, 200, 600),
        (6, 2, 200, 600),
    ],
)
def test_plates_beside_each_other_are_all_read(
    recognizer: PlateRecognizer, rows: int, columns: int, down: int, across: int
) -> None:
    texts = ["B MK 4721", "HH RT 358", "M PX 9046", "K AL 2753", "S VN 6182", "F DW 5194"]
    texts += ["WI GH 735", "N ZT 8260", "LK12 ABC", "WE 41297", "1234 BCD", "ZH 48213"]
    texts = texts[: rows * columns]
    rng = np.random.default_rng(1)
    margin = across - 520
    shape = (rows * down + margin, columns * across + margin, 3)
    table = rng.normal((96, 112, 120), 8, shape).clip(0, 255).astype(np.uint8)
    for number, text in enumerate(texts):
        y, x = margin + number // columns * down, margin + number % columns * across
        table[y : y + 110, x : x + 520] = drawn_plate(text)
    found = recognizer.read(np.asarray(cv2.GaussianBlur(table, (0, 0), 0.8), np.uint8))
    assert {plate.text for plate in found} == {text.replace(" ", "").lower() for text in texts}


@pytest.mark.parametrize(
    "text, degrees, margin",
    [("HH KL 4821", -8, 0), ("HH KL 4821", 12, 10), ("ZH 123456", -12, 10), ("M X 12", 10, 80)],
)
def test_a_tilted_close_up_is_read(
    recognizer: PlateRecognizer, text: str, degrees: float, margin: int
) -> None:
    gray = (120, 120, 120)
    plate = cv2.copyMakeBorder(
        drawn_plate(text), margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=gray
    )
    height, width = plate.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    tilted = cv2.GaussianBlur(cv2.warpAffine(plate, turn, (width, height), borderValue=gray), (0, 0), 0.7)
    (reading,) = recognizer.read(np.asarray(tilted, np.uint8))
    assert reading.text == text.replace(" ", "").lower()


@pytest.mark.parametrize("text", ["LK12 ABC", "K RT 905", "1234 BCD"])
@pytest.mark.parametrize("margin", [0, 4])
def test_a_photo_that_was_cut_out_along_the_text_is_read(
    recognizer: PlateRecognizer, text: str, margin: int
) -> None:
    plate = drawn_plate(text)[8:-8, 8:-8]
    rows, columns = (np.flatnonzero((plate < 128).any(axis=(axis, 2))) for axis in (1, 0))
    top, left = max(rows[0] - margin, 0), max(columns[0] - margin, 0)
    cut = plate[top : rows[-1] + 1 + margin, left : columns[-1] + 1 + margin]
    (reading,) = recognizer.read(np.ascontiguousarray(cut))
    assert reading.text == text.replace(" ", "").lower()
    assert reading.box.xmax <= cut.shape[1] and reading.box.ymax <= cut.shape[0]


def test_a_photo_of_a_plates_shape_may_have_as_many_pixels_as_any(recognizer: PlateRecognizer) -> None:
    panorama = np.full((3000, 12_000, 3), 128, np.uint8)
    assert recognizer.read(panorama) == []


PART, ALL, MORE = ([20, 5, 90, 25], [5, 4, 96, 26], [0, 0, 100, 90])
"""Boxes of 1,400, 2,002 and 9,000 pixels, each in the next."""


@pytest.mark.parametrize(
    "boxes, texts, answered",
    [
        ((PART, ALL), (("kl4821", 1.0), ("hhkl4821", 0.9)), 1),
        ((PART, ALL), (("kl4821", 1.0), ("hhkl4821", 0.5)), 0),
        ((PART, ALL), (("kl4821", 1.0), ("ab1234cd", 0.9)), 0),
        ((PART, ALL), (("kl4821", 0.9), ("kl4821", 1.0)), 0),
        ((PART, MORE), (("dec", 0.99), ("abc123", 0.9)), 1),
    ],
    ids=["part", "unsure", "another", "same", "sticker"],
)
def test_of_a_plate_and_a_part_of_it_what_is_sure_to_say_more_is_answered(
    boxes: tuple[list[int], list[int]], texts: tuple[tuple[str, float], tuple[str, float]], answered: int
) -> None:
    readings = [
        PlateReading(text, score, 0.6, Box(*box), ((0, 0),) * 4, (), (), "de", 1.0, None)
        for box, (text, score) in zip(boxes, texts, strict=True)
    ]
    left = [each for each in readings if not any(is_better(other, each) for other in readings)]
    assert left == [readings[answered]]


def test_a_sticker_is_no_plate_beside_the_one_that_it_is_on(recognizer: PlateRecognizer) -> None:
    rng = np.random.default_rng(0)
    design = next(design for design in ONE_ROW if design.region == "us-mt")
    plate, text, _ = draw_plate(design, rng, str(rng.choice(design.patterns)))
    file = cv2.imencode(".jpg", cv2.rotate(plate, cv2.ROTATE_180), [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    assert [reading.text for reading in recognizer.read(file.tobytes())] == [text.lower()]


@pytest.mark.parametrize("sign, beside", [(PART, False), (MORE, False), ([10, 40, 80, 60], True)])
def test_a_word_on_a_plate_is_no_sign_beside_it(
    recognizer: PlateRecognizer, sign: list[int], beside: bool
) -> None:
    plate = Detection(0.9, np.array(ALL, np.float32), np.zeros((4, 2), np.float32))
    find = Find(plate, Reading("family", 1.0, (), (), "us", 0.8, np.zeros(0)), None, False)
    assert recognizer._is_beside([np.array(sign, np.float32)], find) == beside


def drawn_sign(*lines: str) -> NDArray[np.uint8]:
    """Draw a white board with black writing on a wall."""
    rng = np.random.default_rng(4)
    pixels = rng.normal((150, 160, 170), 6, (720, 1280, 3)).clip(0, 255).astype(np.uint8)
    bottom = 300 + 70 * len(lines)
    cv2.rectangle(pixels, (480, 280), (800, bottom), (250, 250, 250), -1)
    cv2.rectangle(pixels, (482, 282), (798, bottom - 2), (20, 20, 20), 3)
    for row, text in enumerate(lines):
        width = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, 1.4, 3)[0][0]
        at = (640 - width // 2, 340 + 70 * row)
        cv2.putText(pixels, text, at, cv2.FONT_HERSHEY_DUPLEX, 1.4, (20, 20, 20), 3, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), 0.7), np.uint8)


@pytest.mark.parametrize(
    "text",
    [
        *("SCAN ME", "12 JUN 2024", "SN 4028871", "12 B", "TAXI 4521", "EXIT 24B", "40 MPH"),
        *("GATE B12", "HALL F82", "HWY 101", "PLATZ 3", "KM 125", "PIN 4455", "CODE 7712"),
    ],
)
def test_a_sign_is_no_plate(recognizer: PlateRecognizer, text: str) -> None:
    assert recognizer.read(drawn_sign(text)) == []


def stamped(pixels: NDArray[np.uint8], text: str, *, black: bool) -> NDArray[np.uint8]:
    """Write ``text`` into the lower right corner, as cameras do: white on black, or black on white."""
    ink, paper = ((0, 0, 0), (255, 255, 255)) if black else ((255, 255, 255), (0, 0, 0))
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, 1.4, 3)
    right, bottom = pixels.shape[1] - 8, pixels.shape[0] - 8
    pixels = pixels.copy()
    cv2.rectangle(pixels, (right - width - 16, bottom - height - 16), (right, bottom), paper, -1)
    at = (right - width - 8, bottom - 8)
    cv2.putText(pixels, text, at, cv2.FONT_HERSHEY_DUPLEX, 1.4, ink, 3, cv2.LINE_AA)
    return pixels


@pytest.mark.parametrize("name, plates", [("plate_us", ["7kmr204"]), ("no_plate", [])])
@pytest.mark.parametrize(
    "text, black",
    [("CAM 03", True), ("SPEED 43", True), ("095 MPH", True), ("IMG 1104", True), ("AY2723", False)],
)
def test_what_a_camera_writes_into_its_picture_is_no_plate(
    recognizer: PlateRecognizer, name: str, plates: list[str], text: str, black: bool
) -> None:
    readings = recognizer.read(stamped(photo(name).pixels, text, black=black))
    assert [reading.text for reading in readings] == plates


@pytest.mark.parametrize("quarters", [1, 3])
def test_the_edges_that_cameras_write_at_are_those_of_the_photo_turned_upright(
    recognizer: PlateRecognizer, quarters: int
) -> None:
    pixels = np.rot90(stamped(photo("plate_us").pixels, "AY2723", black=False), quarters)
    assert [reading.text for reading in recognizer.read(np.ascontiguousarray(pixels))] == ["7kmr204"]


def test_a_hint_is_believed_of_digits_alone(recognizer: PlateRecognizer) -> None:
    sign = drawn_sign("85-35-12")
    assert recognizer.read(sign) == []
    (reading,) = recognizer.read(sign, ["bh"])
    assert reading.text == "853512"


def on_a_wall(
    region: str, text: str, *, above: int, width: int, designs: Iterable[Design] = ONE_ROW
) -> NDArray[np.uint8]:
    """Draw a plate of ``region`` in 300 x 400 pixels of wall, so many rows above the lower edge."""
    rng = np.random.default_rng(4)
    pixels = rng.normal((150, 160, 170), 6, (300, 400, 3)).clip(0, 255).astype(np.uint8)
    design = next(design for design in designs if design.region == region)
    plate, _, _ = draw_plate(design, rng, text)
    height = round(plate.shape[0] * width / plate.shape[1])
    left, bottom = (400 - width) // 2, 300 - above
    pixels[bottom - height : bottom, left : left + width] = cv2.resize(
        plate, (width, height), interpolation=cv2.INTER_AREA
    )
    return pixels


@pytest.mark.parametrize("text", ["CAM 03", "AY2723"])
def test_what_a_camera_writes_beside_a_plate_does_not_make_it_a_sign(
    recognizer: PlateRecognizer, text: str
) -> None:
    wall = cv2.resize(on_a_wall("au-nsw", "ABC 12D", above=125, width=140), (1200, 900))
    (reading,) = recognizer.read(stamped(np.asarray(wall, np.uint8), text, black=True))
    assert (reading.vehicle, reading.text) == (None, "abc12d")
    assert reading.region_score < PlateTuning().beside_sign


def test_a_plate_at_the_lower_edge_of_a_close_up_is_higher_than_what_cameras_write(
    recognizer: PlateRecognizer,
) -> None:
    (reading,) = recognizer.read(on_a_wall("au-nsw", "ABC 12D", above=25, width=140))
    assert (reading.vehicle, reading.text) == (None, "abc12d")
    assert reading.region_score < PlateTuning().clear_alone


@pytest.mark.parametrize("quarters", [0, 1])
@pytest.mark.parametrize(
    "region, text",
    [("fr", "6523|AB01"), ("it", "BN|418DK"), ("pl", "WE|4D297"), ("de", "KA|PL482"), ("at", "W|48213K")],
)
def test_one_row_of_two_is_not_sure_where_the_photo_cuts_the_other(
    recognizer: PlateRecognizer, region: str, text: str, quarters: int
) -> None:
    pixels = on_a_wall(region, text, above=120, width=160, designs=DESIGNS_OF_TWO_ROWS)
    (whole,) = recognizer.read(np.ascontiguousarray(np.rot90(pixels, quarters)))
    assert (whole.text, whole.score > 0.9) == (text.replace("|", "").lower(), True)
    middle = 180 - round(
        (whole.box.ymax - whole.box.ymin if not quarters else whole.box.xmax - whole.box.xmin) / 2
    )
    (half,) = recognizer.read(np.ascontiguousarray(np.rot90(pixels[middle:], quarters)))
    assert half.text == text.partition("|")[2].lower()
    assert half.score < 0.2


@pytest.mark.parametrize("region, text", [("us-ca", "KHAN91"), ("au-nsw", "ABC 12D"), ("de", "KA PL482")])
def test_a_plate_at_the_lower_edge_is_sure_unless_its_text_is_of_no_series(
    recognizer: PlateRecognizer, region: str, text: str
) -> None:
    """Of one that owners choose that says nothing."""
    (reading,) = recognizer.read(on_a_wall(region, text, above=0, width=200))
    assert (reading.text, reading.score > 0.9) == (text.replace(" ", "").lower(), True)


@pytest.mark.parametrize("text, region", [("5-6523000<*>", "ly"), ("21248 314 40", "dz")])
def test_digits_of_a_country_without_series_are_a_plates_where_it_is_sure(
    recognizer: PlateRecognizer, text: str, region: str
) -> None:
    (reading,) = recognizer.read(on_a_wall(region, text, above=125, width=300))
    assert (reading.text, reading.region) == ("".join(filter(str.isdigit, text)), region)


@pytest.mark.parametrize(
    "text, turned",
    [("gs00622", "zz900s9"), ("sz05006", "90090zs"), ("zbd185", "s8tq8z"), ("sgg0o62", "z90099s")],
)
def test_a_car_does_not_stand_on_its_head_where_its_plate_reads_both_ways(text: str, turned: str) -> None:
    recognizer = scripted(one=(text, 0.6, "us"), two=("", 0.0, "us"), turned=(turned, 0.99, "ma"))
    (reading,) = recognizer.read(photo("plate_us"))
    assert reading.text == text


def test_a_car_without_a_plate_is_told_of_where_it_is_asked_for(recognizer: PlateRecognizer) -> None:
    bare = photo("no_plate")
    (vehicle,) = recognizer.read(bare, vehicles=True).vehicles
    box = vehicle.box
    found, drawn = np.array([box.xmin, box.ymin, box.xmax, box.ymax]), np.array([271, 157, 964, 720])
    assert iou(found.astype(np.float32), drawn.astype(np.float32)) > 0.7
    assert recognizer.read(bare).vehicles == ()


def test_a_car_with_a_plate_is_no_car_without_one(recognizer: PlateRecognizer) -> None:
    alone, asked = photo("plate_us"), photo("no_plate")
    assert recognizer.read(alone, vehicles=True).vehicles == ()
    beside = np.concatenate([alone.pixels, cv2.resize(asked.pixels, alone.pixels.shape[1::-1])], axis=1)
    readings = recognizer.read(beside, vehicles=True)
    assert [reading.text for reading in readings] == ["7kmr204"]
    (other,) = readings.vehicles
    assert other.box.xmin >= alone.pixels.shape[1] * 0.9


def test_no_more_vehicles_are_told_of_than_the_tuning_says(recognizer: PlateRecognizer) -> None:
    assert recognizer.read(photo("no_plate"), vehicles=True).vehicles
    few = PlateRecognizer.load(tuning=PlateTuning(most_vehicles=0))
    assert few.read(photo("no_plate"), vehicles=True).vehicles == ()


def test_a_car_without_a_plate_has_none(recognizer: PlateRecognizer) -> None:
    assert recognizer.read(photo("no_plate")) == []


def test_eight_threads_get_the_same_answers(recognizer: PlateRecognizer) -> None:
    photos = [photo(name) for name in NAMES] * THREADS
    alone = [recognizer.read(one) for one in photos[: len(NAMES)]] * THREADS

    def read(one: Photo) -> list[PlateReading]:
        return recognizer.read(one)

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(read, photos)) == alone
