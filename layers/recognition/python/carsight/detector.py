"""Detection of plates and vehicles in a photo or, with another model, of lines that may be a VIN.

Whatever the model was trained to find with four corners is called a target here. ``detections`` decodes the
net's output; this module decides which parts of a photo the net gets, at what size, and which targets count.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import onnxruntime as ort

from carsight import runtime
from carsight.detections import Detection, carrier, decode_targets, decode_vehicles, keep_best, sigmoid
from carsight.geometry import GRAY, Floats, Pixels, iou, lies_in
from carsight.pixels import halve_to_cover, resized, turned

_CELL = 32
"""The net's input is padded to multiples of the coarsest grid's cell."""


class SecondLook(NamedTuple):
    """How the net is run again on a target's surroundings.

    ``target_side`` is the target's longer side in the net's pixels, ``window`` the side of the crop in
    multiples of it.
    """

    target_side: float
    window: float


PLATES = SecondLook(64, 3.5)
CROWDED = SecondLook(128, 1.3)
"""Plates beside each other: larger, and with less of the others around it."""
LINES = SecondLook(176, 1.8)
"""Lines of 17 characters: as they are flat, they have to be longer to be distinguished from other text."""


class WiderLook(NamedTuple):
    """A run on the whole photo with a gray border.

    The net gets about ``side`` x ``side`` pixels; the border's width is ``margin`` times the photo's longer
    side.
    """

    side: int
    margin: float


class Fallback(NamedTuple):
    """A further run, at ``side``, on a photo in which no target was found.

    It is made if some cell of the first run scored ``evidence`` and the photo has enough detail: ``gain``
    times the first run's pixels in each direction.
    """

    side: int
    evidence: float = 0.0
    gain: float = 0.0


class DetectorTuning(NamedTuple):
    """Settings of a detector that can be changed without training it again. Scores are 0..1.

    The defaults are for plates; ``for_lines`` is for lines that may be a VIN.
    """

    side: int = 416
    """The photo is shrunk to an area of about ``side`` x ``side`` pixels, or enlarged at most twofold."""
    threshold: float | None = None
    """Lowest score of a target; if None, the one stored in the model."""
    doubtful: float | None = None
    """Targets that score between this and ``threshold`` are returned too, for their text to decide. With
    None they are not."""
    box_shrink: float = 0.25
    """How far a box is moved towards the extent of its corners, as a share of the distance. With 0.25 the
    mean IoU with the labeled boxes of training photos is 0.79, with 0.5 it is 0.78."""

    # -- second looks ----------------------------------------------------------------------------------------

    second_look: SecondLook = PLATES
    """The net's run on the surroundings of a target, which confirms or rejects it and refines its corners."""
    second_looks: int = 5
    """The most targets that get a second look."""
    proposal_score: float = 0.15
    """Lowest score of a target that gets a second look."""
    faint_score: float = 0.05
    """Lowest score of a target that gets a second look as the best one on the largest vehicle."""
    sure: float = 0.7
    """A target with this score that is on a vehicle and not longer than ``sure_side`` gets no second look.
    This saves four of five second looks and changed no reading on 100 validation photos. If infinite, every
    target gets one."""
    sure_side: float = 110.0
    """The longest side of such a target, in the net's pixels; a larger one may be half a plate."""
    crowd: SecondLook | None = CROWDED
    """A further look at a target on no vehicle that the second look rejects, if it is one of several, as in a
    collage or on a table of plates; with None there is none. Of 65 drawn plates 64 are confirmed, and 24
    without it. A target confirmed by this look alone scores less than ``threshold``, as signs are confirmed
    too."""
    crowd_score: float = 0.3
    """There are several such targets if two of them score this."""
    crowd_length: float = 340.0
    """If there are several such targets, the photo is searched again, so much larger that their median length
    is this in the net's pixels, as neighbors hide each other when small: of 564 drawn plates, two to twelve
    in one to three columns, 498 are read, and 305 without this."""
    crowd_side: int = 900
    """The largest ``side`` of that run."""
    crowd_looks: int = 12
    """How many targets get a second look if there are several (see ``crowd_score``)."""
    edge: float = 0.04
    """The second look at a target closer to the photo's edge than this share of its longer side includes gray
    beyond the edge, as the target may be all that the photo shows."""

    # -- photos that show nothing but a plate ----------------------------------------------------------------

    close_up: WiderLook | None = WiderLook(224, 0.5)
    """A further run, as the net needs surroundings. It is made unless the best target is ``sure`` and on a
    vehicle, as in 80 of 100 validation photos and in none of 80 close-ups; with None it is never made."""
    filling: float = 0.4
    """A target of that run at least this share of the photo wide or high is accepted without a second look.
    If it scores ``fallback_score``, all targets inside it, such as stickers and slogans, are dropped.
    Otherwise it is returned together with these, even if only ``doubtful``, and their texts decide: a tilted
    plate is doubtful, and a part of it may score more."""

    # -- if nothing is found ---------------------------------------------------------------------------------

    fallbacks: tuple[Fallback, ...] = (Fallback(608, evidence=0.03, gain=1.4),)
    """The further runs, tried in order."""
    strip: float | None = 6.0
    """After those, a photo whose longer side is at least this many times the shorter is searched with gray
    along it, because a plate in it touches both edges: of 224 drawn strips 200 are read, and 188 without
    this. With None no photo is."""
    fallback_score: float = 0.5
    """Lowest score of the targets of all these runs."""

    # -- targets that are not upright ------------------------------------------------------------------------

    turned: WiderLook = WiderLook(192, 0.15)
    """The run that searches for turned targets."""
    turn_evidence: float = 0.08
    """A turn is promising if a target with this score is confirmed by a second look with ``threshold``."""

    @classmethod
    def for_lines(cls, side: int, score: float, lines: int) -> DetectorTuning:
        """Return the tuning for up to ``lines`` lines that may be a VIN, with at least the score ``score``.

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
            crowd=None,
            close_up=None,
            fallbacks=(),
            strip=None,
        )


class Findings(NamedTuple):
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
        """Find everything in ``pixels`` turned counterclockwise by ``quarters`` of a turn.

        Coordinates are those of the unturned photo; corners still begin at the top left of the text.
        """
        if quarters % 4:
            height, width = pixels.shape[:2]
            seen = self.find(turned(pixels, quarters))
            in_photo = [
                tuple(each.turned_back(quarters, width, height) for each in detections)
                for detections in (seen.targets, seen.vehicles)
            ]
            return Findings(in_photo[0], in_photo[1], seen.evidence)
        tuning = self._tuning
        least = tuning.faint_score if self.vehicle_types else tuning.proposal_score
        first = self._run(_fit(pixels, tuning.side), least, self.vehicle_types)
        vehicles = [d for d in first.found if d.is_vehicle]
        proposals = self._proposals(pixels, first, vehicles)
        if self._is_crowd(proposals, vehicles):
            proposals = self._proposals_in_crowd(pixels, proposals)
        targets = self._confirmed(pixels, proposals, vehicles)
        for fallback in tuning.fallbacks:
            if targets and targets[0].score >= self.threshold:
                break
            if first.evidence >= fallback.evidence and first.zoom * fallback.gain <= 1:
                again = self._run_on_whole(pixels, fallback.side)
                targets = self._clearly_confirmed(pixels, again.targets) or targets
        if not targets and (borders := self._strip_borders(pixels)):
            again = self._run(_fit_within(pixels, tuning.side, borders), tuning.proposal_score)
            targets = self._clearly_confirmed(pixels, again.targets)
        return Findings(tuple(targets), tuple(vehicles), first.evidence)

    def _strip_borders(self, pixels: Pixels) -> tuple[int, int, int, int] | None:
        """Return the gray borders for a very narrow photo, as ``_fit_within`` takes them; None for others."""
        height, width = pixels.shape[:2]
        if self._tuning.strip is None or max(height, width) < self._tuning.strip * min(height, width):
            return None
        gray = round(1.5 * min(height, width))
        return (0, gray, 0, gray) if width > height else (gray, 0, gray, 0)

    def promising_turns(self, pixels: Pixels) -> list[int]:
        """Return the quarter turns (1 to 3, counterclockwise) that show a target, most likely first."""
        tuning = self._tuning
        fitted = _fit(pixels, tuning.turned.side, tuning.turned.margin)
        scores: dict[int, float] = {}
        for quarters in (1, 2, 3):
            seen = self._run(_turned_fit(fitted, quarters, pixels.shape), tuning.turn_evidence)
            if seen.targets:
                upright = turned(pixels, quarters)
                confirmed = (
                    self._second_look(upright, proposal, tuning.second_look) for proposal in seen.targets[:2]
                )
                scores[quarters] = max((target.score for target in confirmed if target), default=0.0)
        likely = [quarters for quarters, score in scores.items() if score >= self.threshold]
        return sorted(likely, key=lambda quarters: -scores[quarters])

    def _proposals(self, pixels: Pixels, first: _Run, vehicles: Sequence[Detection]) -> list[_Proposal]:
        """Return possible targets of the ``first`` run, and of the close-up run where it helps."""
        tuning = self._tuning
        proposals = [each for each in first.targets if each.target.score >= tuning.proposal_score]
        proposals += self._faint_on_largest(first, vehicles)
        best = proposals[0].target if proposals else None
        if best and best.score >= tuning.sure and carrier(best, vehicles):
            return proposals
        if tuning.close_up is None:
            return proposals
        wider = self._run_on_whole(pixels, tuning.close_up.side, tuning.close_up.margin).targets
        size = np.array(pixels.shape[1::-1], np.float32)
        for proposal in wider:
            box = proposal.target.box
            shares = (box[2:] - box[:2]) / size
            if proposal.target.score >= self._least and shares.max() >= tuning.filling:
                filling = _Proposal(proposal.target, proposal.zoom, settled=True)
                sure = proposal.target.score >= tuning.fallback_score
                others = (each for each in proposals if not (sure and lies_in(each.target.box, box)))
                return [filling, *others]
        return proposals

    def _is_crowd(self, proposals: Sequence[_Proposal], vehicles: Sequence[Detection]) -> bool:
        """Return whether several of ``proposals`` are on no vehicle, as in a collage of plates."""
        likely = (each.target for each in proposals if self._is_likely(each))
        return self._tuning.crowd is not None and sum(carrier(each, vehicles) is None for each in likely) > 1

    def _is_likely(self, proposal: _Proposal) -> bool:
        """Return whether ``proposal`` may be one of several; a settled one may be another's second find."""
        return not proposal.settled and proposal.target.score >= self._tuning.crowd_score

    def _proposals_in_crowd(self, pixels: Pixels, proposals: Sequence[_Proposal]) -> list[_Proposal]:
        """Return what a run that shows plates beside each other larger finds, and what it misses."""
        lengths = sorted(
            float((each.target.box[2:] - each.target.box[:2]).max()) * each.zoom
            for each in proposals
            if self._is_likely(each)
        )
        larger = self._tuning.crowd_length / lengths[len(lengths) // 2]
        if larger <= 1:
            return list(proposals)
        side = min(round(self._tuning.side * larger), self._tuning.crowd_side)
        again = self._run_on_whole(pixels, side).targets
        seen = [each.target.box for each in again]
        missed = [
            each
            for each in proposals
            if each.settled or all(iou(each.target.box, box) <= 0.3 for box in seen)
        ]
        return sorted([*again, *missed], key=lambda each: -each.target.score)

    def _faint_on_largest(self, first: _Run, vehicles: Sequence[Detection]) -> list[_Proposal]:
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
        tuning = self._tuning
        confirmed: list[Detection] = []
        kept: set[int] = set()
        crowd = tuning.crowd if self._is_crowd(proposals, vehicles) else None
        looks = tuning.second_looks if crowd is None else tuning.crowd_looks
        just_below = math.nextafter(self.threshold, 0.0)
        for proposal in proposals[:looks]:
            by_itself = carrier(proposal.target, vehicles) is None
            target = self._second_look(pixels, proposal, tuning.second_look, carried=not by_itself)
            if target is None and crowd is not None and by_itself:
                closer = self._second_look(pixels, proposal, crowd)
                # Signs on a board look as much like plates there, so their texts have to decide.
                target = closer and closer._replace(score=min(closer.score, just_below))
            if target and target.score >= self._least:
                if proposal.settled:
                    kept.add(len(confirmed))
                confirmed.append(target)
        if len(confirmed) < 2:
            return confirmed
        scores = np.array([d.score for d in confirmed], np.float32)
        kept.update(keep_best(np.stack([d.box for d in confirmed]), scores, 0.4))
        return sorted((confirmed[i] for i in kept), key=lambda target: -target.score)

    def _clearly_confirmed(self, pixels: Pixels, proposals: Sequence[_Proposal]) -> list[Detection]:
        """Return those of ``proposals`` that are confirmed and score ``fallback_score``."""
        confirmed = self._confirmed(pixels, proposals)
        return [each for each in confirmed if each.score >= self._tuning.fallback_score]

    def _second_look(
        self, pixels: Pixels, proposal: _Proposal, look: SecondLook, *, carried: bool = False
    ) -> Detection | None:
        """Return a target as a second ``look`` sees it, with the mean of both scores; None if it is rejected.

        One that is sure, for which it has to be ``carried`` by a vehicle, is returned as it is.
        """
        first = proposal.target
        if proposal.settled:
            return first
        height, width = pixels.shape[:2]
        left, top, right, bottom = first.box.tolist()
        longer = max(right - left, bottom - top)
        at_edge = min(left, top, width - right, height - bottom) < self._tuning.edge * longer
        known = carried and not at_edge and longer * proposal.zoom <= self._tuning.sure_side
        if known and first.score >= self._tuning.sure:
            return first
        # In this window the target is as long as the net sees best.
        window = _window_around(first.box, longer * look.window, pixels, beyond=at_edge)
        side = round(look.target_side / longer * math.sqrt(window.area))
        fitted = _fit_within(window.part, side, window.borders)
        seen = self._run(fitted, self._tuning.proposal_score)
        for second in (each.target.moved(1.0, window.origin) for each in seen.targets):
            if iou(first.box, second.box) > 0.3:
                score = (first.score + second.score) / 2
                return Detection(score, second.box, second.corners, second.two_rows)
        return None

    def _run_on_whole(self, pixels: Pixels, side: int, margin: float = 0.0) -> _Run:
        return self._run(_fit(pixels, side, margin), self._tuning.proposal_score)

    def _run(self, fitted: _Fitted, least: float, vehicle_types: Sequence[str] = ()) -> _Run:
        """Run the net, and return the targets that score ``least``, in pixels of the photo that was fitted.

        With ``vehicle_types`` also the vehicles that score ``threshold``.
        """
        canvas = _to_cells(fitted.canvas)
        outputs = self._infer(canvas)
        size = (canvas.shape[0], canvas.shape[1])
        found = decode_targets(outputs[0], size, least, self._tuning.box_shrink)
        if vehicle_types:
            found += decode_vehicles(outputs[1], size, self.threshold, vehicle_types)
        back, offset = np.reciprocal(fitted.zoom), -fitted.offset / fitted.zoom
        placed = [each.moved(back, offset) for each in found]
        return _Run(placed, float(sigmoid(outputs[0][0].max())), float(fitted.zoom.max()))

    def _infer(self, canvas: Pixels) -> list[Floats]:
        return [np.asarray(output)[0] for output in self._session.run(None, {"image": self._input([canvas])})]


class _Run(NamedTuple):
    """The result of one run: the best score of any target cell, and the net's pixels per photo pixel."""

    found: list[Detection]
    evidence: float
    zoom: float

    @property
    def targets(self) -> list[_Proposal]:
        return [_Proposal(each, self.zoom) for each in self.found if not each.is_vehicle]


class _Proposal(NamedTuple):
    """A possible target, and the net's pixels per photo pixel in the run that found it.

    A ``settled`` one needs no second look.
    """

    target: Detection
    zoom: float
    settled: bool = False


class _Fitted(NamedTuple):
    """A photo shrunk for the net: times ``zoom`` (x, y), then moved by ``offset`` (x, y), onto ``canvas``."""

    canvas: Pixels
    zoom: Floats
    offset: Floats


def _fit(pixels: Pixels, side: int, margin: float = 0.0) -> _Fitted:
    """Shrink ``pixels`` to about ``side`` x ``side`` in area, gray of ``margin`` longer sides around them."""
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
        framed = cv2.copyMakeBorder(small, top, bottom, left, right, cv2.BORDER_CONSTANT, value=GRAY)
        small = np.asarray(framed, np.uint8)
    scale = np.array([columns / width, rows / height], np.float32)
    return _Fitted(small, scale, np.array([left, top], np.float32))


def _to_cells(canvas: Pixels) -> Pixels:
    """Fill ``canvas`` up with gray at the right and the bottom, to whole cells."""
    rows, columns = -canvas.shape[0] % _CELL, -canvas.shape[1] % _CELL
    if not rows and not columns:
        return canvas
    filled = cv2.copyMakeBorder(canvas, 0, rows, 0, columns, cv2.BORDER_CONSTANT, value=GRAY)
    return np.asarray(filled, np.uint8)


def net_input(pixels: Pixels, side: int) -> Floats:
    """Return ``pixels`` as the float model that is quantized takes them: 1 x 3 x H x W, 0..1.

    Calibration in training has to see what the product shows the net.
    """
    return runtime.floats([_to_cells(_fit(pixels, side).canvas)])


class _Window(NamedTuple):
    """A ``part`` of a photo that begins at ``origin`` (x, y), and the gray ``borders`` laid around it."""

    part: Pixels
    origin: Floats
    borders: tuple[int, int, int, int]

    @property
    def area(self) -> int:
        """Its pixels and those of its borders."""
        left, top, right, bottom = self.borders
        height, width = self.part.shape[:2]
        return int((width + left + right) * (height + top + bottom))


def _window_around(box: Floats, size: float, pixels: Pixels, *, beyond: bool) -> _Window:
    """Return the window of ``size`` pixels a side around ``box``; larger where the box nearly fills that.

    What lies outside of the photo is gray if ``beyond``, and left out otherwise.
    """
    height, width = pixels.shape[:2]
    left, top, right, bottom = box.tolist()
    low_x, high_x = _span(left, right, size)
    low_y, high_y = _span(top, bottom, size)
    x0, y0 = min(max(low_x, 0), width - 1), min(max(low_y, 0), height - 1)
    x1, y1 = min(max(high_x, x0 + 1), width), min(max(high_y, y0 + 1), height)
    borders = (0, 0, 0, 0)
    if beyond:
        borders = max(-low_x, 0), max(-low_y, 0), max(high_x - width, 0), max(high_y - height, 0)
    return _Window(pixels[y0:y1, x0:x1], np.array([x0, y0], np.float32), borders)


def _span(low: float, high: float, size: float) -> tuple[int, int]:
    """Return where a span begins and ends that is ``size`` long, and longer than ``low`` to ``high``."""
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
