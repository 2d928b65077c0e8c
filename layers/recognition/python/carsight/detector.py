"""Detection of the plates and vehicles of a photo or, with another model, of the lines that may hold a VIN.

The net answers for every cell of a few grids over the photo; this module resizes the photo for it, decodes
its raw output into boxes and corners, and keeps the best of those that overlap. What has four corners is
called a target here, whatever the model was trained on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from carsight import runtime
from carsight.geometry import turned, turned_back
from carsight.photo import Pixels, halve_to_cover, resized

Floats = NDArray[np.float32]

_STRIDES = (8, 16, 32)
_VEHICLE_STRIDES = (16, 32)
_CELL = 32
"""The net's input is padded to multiples of the coarsest grid's cell."""
_SLACK = 0.05
"""How far outside a vehicle's box, in shares of its sides, the middle of its plate may lie."""
_GRAY = (114, 114, 114)
"""Padding around a photo, as in training."""


@dataclass(frozen=True, slots=True)
class SecondLook:
    """How the net is run again on a target's surroundings.

    ``target_side`` is the target's longer side in the net's pixels, ``window`` the side of the crop in
    multiples of it.
    """

    target_side: float
    window: float


PLATES = SecondLook(64, 3.5)
LINES = SecondLook(176, 1.8)
"""A line of seventeen characters is flat: it has to be longer to be distinguished from other text."""


@dataclass(frozen=True, slots=True)
class WiderLook:
    """A run on the whole photo with a gray border.

    The net gets about ``side`` x ``side`` pixels; the border's width is ``margin`` times the photo's longer
    side.
    """

    side: int
    margin: float


@dataclass(frozen=True, slots=True)
class Fallback:
    """A further run, at ``side``, on a photo in which no target was found.

    It is made if some cell of the first run scored ``evidence`` and the photo has enough detail: ``gain``
    times the first run's pixels in each direction.
    """

    side: int
    evidence: float = 0.0
    gain: float = 0.0


@dataclass(frozen=True, slots=True)
class DetectorTuning:
    """What can be changed about a detector without training it again. Scores are 0..1.

    The defaults are for plates; ``for_lines`` is for lines that may hold a VIN.
    """

    side: int = 416
    """The photo is shrunk to an area of about ``side`` x ``side`` pixels, or enlarged at most twofold."""
    threshold: float | None = None
    """The lowest score of an answer, the model's own if None."""
    doubtful: float | None = None
    """A target between this and ``threshold`` is an answer too, to be decided by its text; with None none
    is."""
    box_shrink: float = 0.25
    """How far a box is moved towards the extent of its corners; at 0.25 the mean IoU with the labeled boxes
    of training photos is 0.79, at 0.5 it is 0.78."""

    # -- second looks ----------------------------------------------------------------------------------------

    second_look: SecondLook = PLATES
    second_looks: int = 5
    """How many targets get one at most."""
    proposal_score: float = 0.15
    """What a target has to score to get one."""
    faint_score: float = 0.05
    """What the best one on the largest vehicle has to."""
    sure: float = 0.7
    """A target gets none that scores this, is on a vehicle and not longer than ``sure_side``. That saves four
    second looks of five and changed no reading on 100 validation photos. Infinite where every one gets it."""
    sure_side: float = 110.0
    """In the net's pixels; a larger one may be half a plate."""
    edge: float = 0.04
    """A target closer to the photo's edge than this share of its longer side gets its second look with gray
    beyond the edge: it may be all the photo shows."""

    # -- photos that show nothing but a plate ----------------------------------------------------------------

    close_up: WiderLook | None = WiderLook(224, 0.5)
    """The net needs surroundings. Unless the best target is ``sure`` and on a vehicle, as in 80 of 100
    validation photos and none of 80 close-ups, this run is made too; never with None."""
    filling: float = 0.4
    """A target there that is at least this share of the photo wide or high is accepted without a second look.
    If it scores ``fallback_score``, everything inside it - stickers, slogans - is dropped. Otherwise it is
    kept beside that, even if ``doubtful``: a tilted plate is, and a part of one may score more. So their
    texts decide."""

    # -- where nothing is found ------------------------------------------------------------------------------

    fallbacks: tuple[Fallback, ...] = (Fallback(608, evidence=0.03, gain=1.4),)
    """Tried in order."""
    strip: float | None = 6.0
    """After those, a photo whose longer side is this many times the shorter is looked at with gray along it,
    because a plate there touches both edges: 200 instead of 188 of 224 drawn strips are read. With None no
    photo is."""
    fallback_score: float = 0.5
    """What the targets of all these runs have to score."""

    # -- targets that are not upright ------------------------------------------------------------------------

    turned: WiderLook = WiderLook(192, 0.15)
    """The run that searches for them."""
    turn_evidence: float = 0.08
    """A turn is promising if a target that scores this is confirmed by a second look with ``threshold``."""

    @classmethod
    def for_lines(cls, side: int, score: float, lines: int) -> DetectorTuning:
        """Return the tuning for up to ``lines`` lines that may hold a VIN, which have to ``score`` that much.

        The detector looks at each of them twice, as a reader needs their corners to a twentieth of their
        length, and makes none of the runs for plates alone.
        """
        return cls(
            side=side,
            threshold=score,
            proposal_score=score,
            second_look=LINES,
            second_looks=lines,
            sure=math.inf,
            close_up=None,
            fallbacks=(),
            strip=None,
        )


@dataclass(frozen=True, slots=True)
class Detection:
    """A target, or a vehicle of a ``vehicle_type`` among the model's classes.

    ``box`` is xmin, ymin, xmax, ymax in pixels of the photo, possibly slightly outside; ``score`` 0..1.
    ``corners`` (4 x 2, pixels) go clockwise from the top left of the text; ``two_rows`` (0..1) is the
    probability that the text has two rows. A vehicle's corners are those of its box, its ``two_rows`` 0.
    """

    kind: Literal["target", "vehicle"]
    score: float
    box: Floats
    corners: Floats
    two_rows: float = 0.0
    vehicle_type: str | None = None

    @property
    def is_vehicle(self) -> bool:
        """Whether this is a vehicle, not a target."""
        return self.kind == "vehicle"


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything found in a photo, best first; ``evidence`` (0..1) is the best score of any target cell."""

    targets: tuple[Detection, ...]
    vehicles: tuple[Detection, ...]
    evidence: float


class Detector:
    """Finds targets and vehicles. Made once; safe to call from many threads.

    The net runs on the whole photo, and once more on the surroundings of whatever may be a target. The second
    look costs a fraction of the first run and rejects what only resembles text.
    """

    def __init__(self, session: ort.InferenceSession, tuning: DetectorTuning | None = None) -> None:
        """Detect with ``session``.

        The model takes ``image`` as in ``runtime.picture_input``, with H and W multiples of 32. It gives raw
        ``targets`` (1 x 14 x cells) and, where it knows vehicles, ``vehicles`` (1 x 5 + classes x cells). Its
        metadata holds ``threshold`` and, with vehicles, ``classes``, a JSON array.

        Raises:
            KeyError: The model carries no such metadata.
        """
        self._session = session
        self._tuning = tuning or DetectorTuning()
        metadata = session.get_modelmeta().custom_metadata_map
        given = self._tuning.threshold
        self.threshold = float(metadata["threshold"]) if given is None else given
        doubtful = self._tuning.doubtful
        self._least = self.threshold if doubtful is None else min(doubtful, self.threshold)
        self._input = runtime.picture_input(session)
        has_vehicles = len(session.get_outputs()) > 1
        self.vehicle_types: tuple[str, ...] = tuple(json.loads(metadata["classes"])) if has_vehicles else ()

    def detect(self, pixels: Pixels) -> list[Detection]:
        """Find everything in ``pixels`` (height x width x 3, BGR): targets first, each kind best first."""
        seen = self.find(pixels)
        return [*seen.targets, *seen.vehicles]

    def find(self, pixels: Pixels, quarters: int = 0) -> Findings:
        """Find everything in ``pixels`` turned anticlockwise by ``quarters`` of a turn.

        Coordinates are those of the unturned photo; corners still begin at the top left of the text.
        """
        if quarters % 4:
            height, width = pixels.shape[:2]
            seen = self.find(turned(pixels, quarters))
            in_photo = [
                tuple(_turned_back(detection, quarters, width, height) for detection in detections)
                for detections in (seen.targets, seen.vehicles)
            ]
            return Findings(in_photo[0], in_photo[1], seen.evidence)
        tuning = self._tuning
        least = tuning.faint_score if self.vehicle_types else tuning.proposal_score
        first = self._see(_fit(pixels, tuning.side), least, self.vehicle_types)
        vehicles = [d for d in first.found if d.is_vehicle]
        targets = self._confirmed(pixels, self._proposals(pixels, first, vehicles), vehicles)
        for fallback in tuning.fallbacks:
            if targets and targets[0].score >= self.threshold:
                break
            if first.evidence >= fallback.evidence and first.zoom * fallback.gain <= 1:
                again = self._look(pixels, fallback.side)
                targets = self._clear(pixels, again.targets) or targets
        if not targets and (borders := self._beside_strip(pixels)):
            again = self._see(_fit_within(pixels, tuning.side, borders), tuning.proposal_score)
            targets = self._clear(pixels, again.targets)
        return Findings(tuple(targets), tuple(vehicles), first.evidence)

    def _beside_strip(self, pixels: Pixels) -> tuple[int, int, int, int] | None:
        """Return the gray borders for a very narrow photo, as ``_fit_within`` takes them; None for others."""
        height, width = pixels.shape[:2]
        if self._tuning.strip is None or max(height, width) < self._tuning.strip * min(height, width):
            return None
        gray = round(1.5 * min(height, width))
        return (0, gray, 0, gray) if width > height else (gray, 0, gray, 0)

    def promising_turns(self, pixels: Pixels) -> list[int]:
        """Return the quarter turns (1 to 3, anticlockwise) that show a target, most likely first."""
        tuning = self._tuning
        fitted = _fit(pixels, tuning.turned.side, tuning.turned.margin)
        scores: dict[int, float] = {}
        for quarters in (1, 2, 3):
            seen = self._see(_turned_fit(fitted, quarters, pixels.shape), tuning.turn_evidence)
            if seen.targets:
                upright = turned(pixels, quarters)
                confirmed = (self._refine(upright, proposal) for proposal in seen.targets[:2])
                scores[quarters] = max((target.score for target in confirmed if target), default=0.0)
        likely = [quarters for quarters, score in scores.items() if score >= self.threshold]
        return sorted(likely, key=lambda quarters: -scores[quarters])

    def _proposals(self, pixels: Pixels, first: _Seen, vehicles: Sequence[Detection]) -> list[_Proposal]:
        """Return possible targets of the ``first`` run, and of the close-up run where it helps."""
        tuning = self._tuning
        proposals = [each for each in first.targets if each.target.score >= tuning.proposal_score]
        proposals += self._faint(first, vehicles)
        best = proposals[0].target if proposals else None
        if best and best.score >= tuning.sure and carrier(best, vehicles):
            return proposals
        if tuning.close_up is None:
            return proposals
        wider = self._look(pixels, tuning.close_up.side, tuning.close_up.margin).targets
        size = np.array(pixels.shape[1::-1], np.float32)
        for proposal in wider:
            box = proposal.target.box
            shares = (box[2:] - box[:2]) / size
            if proposal.target.score >= self._least and shares.max() >= tuning.filling:
                filling = _Proposal(proposal.target, proposal.zoom, settled=True)
                sure = proposal.target.score >= tuning.fallback_score
                others = (each for each in proposals if not (sure and _lies_in(each.target.box, box)))
                return [filling, *others]
        return proposals

    def _faint(self, first: _Seen, vehicles: Sequence[Detection]) -> list[_Proposal]:
        """Return what the ``first`` run hardly saw on the largest vehicle, if it saw nothing better there."""
        if not vehicles:
            return []
        largest = max(vehicles, key=lambda each: float((each.box[2:] - each.box[:2]).prod()))
        best = next((each for each in first.targets if carrier(each.target, [largest])), None)
        return [best] if best and best.target.score < self._tuning.proposal_score else []

    def _confirmed(
        self, pixels: Pixels, proposals: Sequence[_Proposal], vehicles: Sequence[Detection] = ()
    ) -> list[Detection]:
        """Return those of ``proposals`` that a second look confirms, or that need none, best first.

        Of those that overlap the best is kept, and beside it one that needed no second look.
        """
        confirmed: list[Detection] = []
        kept: set[int] = set()
        for proposal in proposals[: self._tuning.second_looks]:
            carried = carrier(proposal.target, vehicles) is not None
            target = self._refine(pixels, proposal, carried)
            if target and target.score >= self._least:
                if proposal.settled:
                    kept.add(len(confirmed))
                confirmed.append(target)
        if len(confirmed) < 2:
            return confirmed
        scores = np.array([d.score for d in confirmed], np.float32)
        kept.update(keep_best(np.stack([d.box for d in confirmed]), scores, 0.4))
        return sorted((confirmed[i] for i in kept), key=lambda target: -target.score)

    def _clear(self, pixels: Pixels, proposals: Sequence[_Proposal]) -> list[Detection]:
        """Return those of ``proposals`` that are confirmed and score ``fallback_score``."""
        confirmed = self._confirmed(pixels, proposals)
        return [each for each in confirmed if each.score >= self._tuning.fallback_score]

    def _refine(self, pixels: Pixels, proposal: _Proposal, carried: bool = False) -> Detection | None:
        """Return a target as a second look sees it, with the mean of both scores; None if it is rejected.

        One that is sure, for which it has to be ``carried`` by a vehicle, is returned as it is.
        """
        first = proposal.target
        if proposal.settled:
            return first
        height, width = pixels.shape[:2]
        left, top, right, bottom = first.box.tolist()
        longer = max(right - left, bottom - top)
        cut = min(left, top, width - right, height - bottom) < self._tuning.edge * longer
        known = carried and not cut and longer * proposal.zoom <= self._tuning.sure_side
        if known and first.score >= self._tuning.sure:
            return first
        # A window in which the target is as wide, or as high, as the net sees best.
        look = self._tuning.second_look
        low_x, high_x = _window(left, right, longer * look.window)
        low_y, high_y = _window(top, bottom, longer * look.window)
        x0, y0 = min(max(low_x, 0), width - 1), min(max(low_y, 0), height - 1)
        x1, y1 = min(max(high_x, x0 + 1), width), min(max(high_y, y0 + 1), height)
        beyond = (0, 0, 0, 0)
        if cut:
            beyond = max(-low_x, 0), max(-low_y, 0), max(high_x - width, 0), max(high_y - height, 0)
        area = (x1 - x0 + beyond[0] + beyond[2]) * (y1 - y0 + beyond[1] + beyond[3])
        side = round(look.target_side / longer * math.sqrt(area))
        seen = self._see(_fit_within(pixels[y0:y1, x0:x1], side, beyond), self._tuning.proposal_score)
        offset = np.array([x0, y0], np.float32)
        for second in (_moved(each.target, 1.0, offset) for each in seen.targets):
            if _overlap(first.box, second.box) > 0.3:
                score = (first.score + second.score) / 2
                return Detection("target", score, second.box, second.corners, second.two_rows)
        return None

    def _look(self, pixels: Pixels, side: int, margin: float = 0.0) -> _Seen:
        return self._see(_fit(pixels, side, margin), self._tuning.proposal_score)

    def _see(self, fitted: _Fitted, least: float, vehicle_types: Sequence[str] = ()) -> _Seen:
        """Run the net, and return the targets that score ``least``, in pixels of the photo that was fitted.

        With ``vehicle_types`` also the vehicles that score ``threshold``.
        """
        canvas = _to_cells(fitted.canvas)
        outputs = self._run(canvas)
        size = (canvas.shape[0], canvas.shape[1])
        found = decode_targets(outputs[0], size, least, self._tuning.box_shrink)
        if vehicle_types:
            found += decode_vehicles(outputs[1], size, self.threshold, vehicle_types)
        back, offset = np.reciprocal(fitted.zoom), -fitted.offset / fitted.zoom
        placed = [_moved(each, back, offset) for each in found]
        return _Seen(placed, float(_sigmoid(outputs[0][0].max())), float(fitted.zoom.max()))

    def _run(self, canvas: Pixels) -> list[Floats]:
        return [np.asarray(output)[0] for output in self._session.run(None, {"image": self._input([canvas])})]


@dataclass(frozen=True, slots=True)
class _Seen:
    """The result of one run: the best score of any target cell, and the net's pixels per photo pixel."""

    found: list[Detection]
    evidence: float
    zoom: float

    @property
    def targets(self) -> list[_Proposal]:
        return [_Proposal(each, self.zoom) for each in self.found if not each.is_vehicle]


@dataclass(frozen=True, slots=True)
class _Proposal:
    """A possible target, and the net's pixels per photo pixel in the run that found it.

    A ``settled`` one needs no second look.
    """

    target: Detection
    zoom: float
    settled: bool = False


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A photo shrunk for the net: times ``zoom`` (x, y), then moved by ``offset`` (x, y), onto ``canvas``."""

    canvas: Pixels
    zoom: Floats
    offset: Floats


def _fit(pixels: Pixels, side: int, margin: float = 0.0) -> _Fitted:
    """Shrink ``pixels`` to about ``side`` x ``side`` in area, gray of ``margin`` longer sides round them."""
    border = round(max(pixels.shape[:2]) * margin)
    return _fit_within(pixels, side, (border, border, border, border))


def _fit_within(pixels: Pixels, side: int, borders: tuple[int, int, int, int]) -> _Fitted:
    """Shrink ``pixels`` and gray ``borders`` (left, top, right, bottom) to about ``side`` x ``side``.

    The photo keeps its shape. It is never enlarged more than twice, which would only blur it.
    """
    height, width = pixels.shape[:2]
    left, top, right, bottom = borders
    zoom = min(side / math.sqrt((height + top + bottom) * (width + left + right)), 2.0)
    columns, rows = max(1, round(width * zoom)), max(1, round(height * zoom))
    # What is left to shrink after halving is less than a half, so linear interpolation skips no pixel.
    small = resized(halve_to_cover(pixels, columns, rows), columns, rows)
    left, top, right, bottom = (round(border * zoom) for border in borders)
    if left or top or right or bottom:
        framed = cv2.copyMakeBorder(small, top, bottom, left, right, cv2.BORDER_CONSTANT, value=_GRAY)
        small = np.asarray(framed, np.uint8)
    scale = np.array([columns / width, rows / height], np.float32)
    return _Fitted(small, scale, np.array([left, top], np.float32))


def _to_cells(canvas: Pixels) -> Pixels:
    """Fill ``canvas`` up with gray at the right and the bottom, to whole cells."""
    rows, columns = -canvas.shape[0] % _CELL, -canvas.shape[1] % _CELL
    if not rows and not columns:
        return canvas
    filled = cv2.copyMakeBorder(canvas, 0, rows, 0, columns, cv2.BORDER_CONSTANT, value=_GRAY)
    return np.asarray(filled, np.uint8)


def net_input(pixels: Pixels, side: int) -> Floats:
    """Return ``pixels`` as the float model that is quantized takes them: 1 x 3 x H x W, 0..1.

    Calibration in training has to see what the product shows the net.
    """
    return runtime.floats([_to_cells(_fit(pixels, side).canvas)])


def _window(low: float, high: float, size: float) -> tuple[int, int]:
    """Return where a window begins and ends that is ``size`` long, and longer than ``low`` to ``high``."""
    middle, reach = (low + high) / 2, max((high - low) * 1.1, size / 2)
    return math.floor(middle - reach), math.ceil(middle + reach)


def _turned_fit(fitted: _Fitted, quarters: int, shape: tuple[int, ...]) -> _Fitted:
    """Return what was fitted, of a photo of ``shape``, as if the photo had been turned before."""
    canvas = turned(fitted.canvas, quarters)
    height, width = fitted.canvas.shape[:2]
    low = fitted.offset
    high = np.array([width, height], np.float32) - low - fitted.zoom * np.array(shape[1::-1], np.float32)
    # The corner that becomes the top left one: the top right, the bottom right, the bottom left.
    x, y = ((high[0], low[1]), (high[0], high[1]), (low[0], high[1]))[quarters - 1]
    across = quarters % 2
    return _Fitted(
        canvas,
        fitted.zoom[::-1] if across else fitted.zoom,
        np.array([y, x] if across else [x, y], np.float32),
    )


def _moved(found: Detection, zoom: Floats | float, offset: Floats | float = 0.0) -> Detection:
    """Return ``found`` with its pixels times ``zoom`` (x, y), then moved by ``offset`` (x, y)."""
    box = (found.box.reshape(2, 2) * zoom + offset).ravel().astype(np.float32)
    corners = (found.corners * zoom + offset).astype(np.float32)
    return Detection(found.kind, found.score, box, corners, found.two_rows, found.vehicle_type)


def _turned_back(found: Detection, quarters: int, width: int, height: int) -> Detection:
    """Return ``found`` where it lies in the unturned photo, ``width`` x ``height``."""
    corners = turned_back(found.corners, quarters, width, height)
    ends = turned_back(found.box.reshape(2, 2), quarters, width, height)
    box = np.concatenate([ends.min(axis=0), ends.max(axis=0)])
    return Detection(found.kind, found.score, box, corners, found.two_rows, found.vehicle_type)


def box_corners(box: Floats) -> Floats:
    """Return the corners (4 x 2) of ``box`` (xmin, ymin, xmax, ymax), clockwise from its top left."""
    return box[[[0, 1], [2, 1], [2, 3], [0, 3]]]


def carrier(plate: Detection, vehicles: Sequence[Detection], quarters: int = 0) -> Detection | None:
    """Return the one of ``vehicles`` that carries ``plate``, or None.

    It contains the plate's center (within a twentieth of its sides), is at least twice as wide as the plate
    (one and a half times for a motorcycle), and does not have it in its top quarter, where no plate is
    mounted. Of several, the most confident wins; of those about as confident, the smallest. All are upright
    once the photo is turned anticlockwise by ``quarters`` of a turn.
    """
    across = quarters % 2
    x0, y0, x1, y1 = plate.box.tolist()
    wide = (x1 - x0, y1 - y0)[across]
    best: Detection | None = None
    smallest = math.inf
    for vehicle in vehicles:
        left, top, right, bottom = vehicle.box.tolist()
        sides = max(right - left, 1.0), max(bottom - top, 1.0)
        x, y = ((x0 + x1) / 2 - left) / sides[0], ((y0 + y1) / 2 - top) / sides[1]
        x, y = ((x, y), (y, 1 - x), (1 - x, 1 - y), (1 - y, x))[quarters % 4]
        if not (-_SLACK <= x <= 1 + _SLACK and 0.25 <= y <= 1 + _SLACK):
            continue
        if sides[across] < wide * (1.5 if vehicle.vehicle_type == "Motorcycle" else 2.0):
            continue
        # A larger vehicle behind the carrier may contain the plate too, and so may an uncertain box around a
        # part of it: a score higher by 0.1 makes up for a box seven times as large.
        area = sides[0] * sides[1] * math.exp(-20 * vehicle.score)
        if area < smallest:
            best, smallest = vehicle, area
    return best


def _lies_in(inner: Floats, outer: Floats) -> bool:
    """Return whether most of the box ``inner`` lies in ``outer``."""
    sides = np.maximum(np.minimum(inner[2:], outer[2:]) - np.maximum(inner[:2], outer[:2]), 0)
    return float(sides.prod()) > 0.5 * float((inner[2:] - inner[:2]).prod())


def _overlap(a: Floats, b: Floats) -> float:
    """Intersection over union of two boxes, 0..1."""
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    both = float(sides.prod())
    return both / max(float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod()) - both, 1e-6)


def decode_targets(raw: Floats, size: tuple[int, int], threshold: float, shrink: float) -> list[Detection]:
    """Decode targets, best first, from the net's ``raw`` answer (14 x cells) to an image of ``size``.

    ``size`` is height, width. Scores below ``threshold`` are left out; boxes are drawn in by ``shrink``.
    """
    chosen = np.flatnonzero(raw[0] > _logit(threshold))
    if not len(chosen):
        return []
    centers, strides = _cells(size, _STRIDES)
    centers, strides, raw = centers[chosen], strides[chosen], raw[:, chosen].T
    scores, loose = _sigmoid(raw[:, 0]), _boxes(centers, strides, raw[:, 1:5])
    corners = (np.tile(centers, 4) + raw[:, 5:13] * strides * 2).reshape(-1, 4, 2)
    # The net was trained on boxes with some margin around the plate, and on corners slightly inside it.
    extent = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    boxes = loose + np.float32(shrink) * (extent - loose)
    two_rows = _sigmoid(raw[:, 13])
    return [
        Detection("target", float(scores[i]), boxes[i], corners[i], float(two_rows[i]))
        for i in keep_best(boxes, scores, 0.4)
    ]


def decode_vehicles(
    raw: Floats, size: tuple[int, int], threshold: float, types: Sequence[str]
) -> list[Detection]:
    """Decode vehicles of ``types``, best first, from ``raw`` (5 + types x cells), as targets are."""
    chosen = np.flatnonzero(raw[0] > _logit(threshold))
    if not len(chosen):
        return []
    centers, strides = _cells(size, _VEHICLE_STRIDES)
    raw = raw[:, chosen].T
    scores, boxes = _sigmoid(raw[:, 0]), _boxes(centers[chosen], strides[chosen], raw[:, 1:5])
    return [
        Detection(
            "vehicle",
            float(scores[i]),
            boxes[i],
            box_corners(boxes[i]),
            vehicle_type=types[int(raw[i, 5:].argmax())],
        )
        for i in keep_best(boxes, scores, 0.6)
    ]


def keep_best(boxes: Floats, scores: Floats, overlap: float) -> list[int]:
    """Return indices of ``boxes`` (N x 4), best score first, without those that overlap a better one.

    Two overlap if their IoU exceeds ``overlap``, or if nine tenths of one lie in the other and it is at least
    a fifth as large (a much smaller box inside another is not suppressed).
    """
    areas = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)
    left = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(left):
        best, left = int(left[0]), left[1:]
        kept.append(best)
        others = boxes[left]
        sides = np.minimum(others[:, 2:], boxes[best, 2:]) - np.maximum(others[:, :2], boxes[best, :2])
        both = np.maximum(sides, 0).prod(axis=1)
        less, more = np.minimum(areas[left], areas[best]), np.maximum(areas[left], areas[best])
        same = (both > overlap * (less + more - both)) | ((both > 0.9 * less) & (less > 0.2 * more))
        left = left[~same]
    return kept


@lru_cache(maxsize=32)
def _cells(size: tuple[int, int], grids: Sequence[int]) -> tuple[Floats, Floats]:
    """Centers (N x 2, pixels) and strides (N x 1) of the cells of ``grids`` over ``size`` (height, width)."""
    centers, strides = [], []
    for stride in grids:
        y, x = np.mgrid[0 : size[0] // stride, 0 : size[1] // stride]
        centers.append((np.stack([x.ravel(), y.ravel()], 1) + 0.5) * stride)
        strides.append(np.full((x.size, 1), stride))
    return np.concatenate(centers).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _boxes(centers: Floats, strides: Floats, raw: Floats) -> Floats:
    distances = np.logaddexp(raw, np.float32(0)) * strides * 2
    return np.concatenate([centers - distances[:, :2], centers + distances[:, 2:]], axis=1).astype(np.float32)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)), np.float32)


def _logit(p: float) -> float:
    return math.log(p / (1 - p))
