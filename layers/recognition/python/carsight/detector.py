"""Where the plates and vehicles of a photo are - or, with another model, the lines that hold a VIN.

The net answers for every cell of a few grids laid over the photo; this module shrinks the photo for it, turns
its raw numbers into boxes and corners, and keeps the best of those that overlap. The things with four corners
are called targets here, whatever the model was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from carsight.photo import Pixels, halved

Floats = NDArray[np.float32]

TARGET = "target"
"""The kind of a detection that is no vehicle."""

VEHICLE_TYPES = ("Big Truck", "Bus", "Motorcycle", "Pickup Truck", "Sedan", "SUV", "Van")
"""CarsXE's words for a vehicle's body, in the order of the model's outputs."""

_STRIDES = (8, 16, 32)
_VEHICLE_STRIDES = (16, 32)
_CELL = 32
"""Heights and widths given to the net are multiples of the coarsest grid's cell."""
_GREY = 114
_DOUBTFUL = 0.15
"""Score from which a target is worth a closer look."""
_CLOSER_LOOKS = 5
_FAR_SIDE, _NEAR_SIDE = 608, 256
"""Where nothing is found at the usual size, these are tried, and what they find has to be surer."""
_SURER = 0.5
_TIGHTER = np.float32(0.25)
"""How far a box is drawn in towards its corners' extent. Chosen on training photos: the mean overlap with the
labelled box is 0.79, against 0.78 half way."""


@dataclass(frozen=True, slots=True)
class Closer:
    """How the closer look is taken: ``size`` is the target's longer side in the net's pixels, and ``window``
    the side of the part of the photo that the net gets, in targets."""

    size: float
    window: float


PLATES = Closer(64, 3.5)
LINES = Closer(176, 1.8)
"""A line of seventeen characters is narrow: it has to be longer to be told from other text."""


@dataclass(frozen=True, slots=True)
class Detection:
    """One thing found. ``box`` is xmin, ymin, xmax, ymax in pixels of the photo given, possibly a little
    outside.

    ``kind`` is ``TARGET`` or one of ``VEHICLE_TYPES``; ``score`` 0..1. ``corners`` (4 x 2, pixels) go
    clockwise from the top left of the text and ``two_rows`` (0..1) says how surely the text has two rows; a
    vehicle's corners are those of its box and its ``two_rows`` is 0.
    """

    kind: str
    score: float
    box: Floats
    corners: Floats
    two_rows: float = 0.0

    @property
    def is_vehicle(self) -> bool:
        return self.kind != TARGET


class Detector:
    """Finds targets and vehicles. Made once; safe to call from many threads.

    It looks twice: at the whole photo, and then closer at whatever may be a target there. The closer look
    costs a fraction of the first and tells text from what only looked like it.
    """

    def __init__(
        self, session: ort.InferenceSession, side: int = 416, threshold: float = 0.3, closer: Closer = PLATES
    ) -> None:
        """Detect with ``session``.

        Args:
            session: A model that takes ``image`` (1 x 3 x H x W float32, BGR 0..1, H and W multiples of 32)
                and gives raw ``targets`` (1 x 14 x cells) and, where it knows vehicles, ``vehicles``
                (1 x 12 x cells).
            side: The photo is shrunk to about ``side`` x ``side`` pixels in area, or enlarged up to twice.
            threshold: Lowest score of an answer, 0..1.
            closer: How the closer look is taken, ``PLATES`` or ``LINES``.
        """
        self._session = session
        self._side = side
        self._threshold = threshold
        self._close = closer

    def detect(self, pixels: Pixels) -> list[Detection]:
        """Everything found in ``pixels`` (height x width x 3, BGR), targets first, each kind best first."""
        found = self._look(pixels, self._side, _DOUBTFUL)
        targets = self._closer(pixels, [d for d in found if not d.is_vehicle])
        for side in (_FAR_SIDE, _NEAR_SIDE):
            if targets:
                break
            # Nothing at the usual size: what is left is too small for it, or fills the photo.
            seen = [d for d in self._look(pixels, side, _DOUBTFUL) if not d.is_vehicle]
            targets = [d for d in self._closer(pixels, seen) if d.score >= _SURER]
        vehicles = [d for d in found if d.is_vehicle and d.score >= self._threshold]
        return targets + vehicles

    def _closer(self, pixels: Pixels, doubtful: Sequence[Detection]) -> list[Detection]:
        """The targets among ``doubtful`` that a closer look confirms, best first."""
        height, width = pixels.shape[:2]
        confirmed = []
        for first in doubtful[:_CLOSER_LOOKS]:
            middle, sides = (first.box[:2] + first.box[2:]) / 2, first.box[2:] - first.box[:2]
            # A window in which the target is as wide, or as high, as the net sees best.
            reach = np.maximum(sides * 1.1, sides.max() * self._close.window / 2)
            x0, y0 = np.clip(np.floor(middle - reach), 0, (width - 1, height - 1)).astype(int)
            x1, y1 = np.clip(np.ceil(middle + reach), (x0 + 1, y0 + 1), (width, height)).astype(int)
            side = self._close.size / float(sides.max()) * math.sqrt(float((x1 - x0) * (y1 - y0)))
            seen = self._look(pixels[y0:y1, x0:x1], round(side), _DOUBTFUL)
            offset = np.array([x0, y0], np.float32)
            for second in (_moved(d, 1.0, offset) for d in seen if not d.is_vehicle):
                if _overlap(first.box, second.box) > 0.3:
                    score = (first.score + second.score) / 2
                    confirmed.append(Detection(TARGET, score, second.box, second.corners, second.two_rows))
                    break
        if not confirmed:
            return []
        scores = np.array([d.score for d in confirmed], np.float32)
        kept = keep_best(np.stack([d.box for d in confirmed]), scores, 0.4)
        return [confirmed[i] for i in kept if confirmed[i].score >= self._threshold]

    def _look(self, pixels: Pixels, side: int, threshold: float) -> list[Detection]:
        """What the net sees in ``pixels`` at about ``side`` x ``side``, from a score of ``threshold``."""
        image, scale = net_input(pixels, side)
        outputs = self._session.run(None, {"image": image})
        size = (image.shape[2], image.shape[3])
        found = decode_targets(np.asarray(outputs[0])[0], size, threshold)
        if len(outputs) > 1:
            found += decode_vehicles(np.asarray(outputs[1])[0], size, threshold)
        return [_moved(d, np.reciprocal(scale)) for d in found]


def _moved(found: Detection, zoom: Floats | float, offset: Floats | float = 0.0) -> Detection:
    """``found`` with its pixels times ``zoom`` (x, y), then moved by ``offset`` (x, y)."""
    box = (found.box.reshape(2, 2) * zoom + offset).ravel().astype(np.float32)
    corners = (found.corners * zoom + offset).astype(np.float32)
    return Detection(found.kind, found.score, box, corners, found.two_rows)


def box_corners(box: Floats) -> Floats:
    """The corners (4 x 2) of ``box`` (xmin, ymin, xmax, ymax), clockwise from its top left."""
    return box[[[0, 1], [2, 1], [2, 3], [0, 3]]]


def _overlap(a: Floats, b: Floats) -> float:
    """Intersection over union of two boxes, 0..1."""
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    both = float(sides.prod())
    return both / max(float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod()) - both, 1e-6)


def net_input(pixels: Pixels, side: int) -> tuple[Floats, Floats]:
    """``pixels`` as the net takes them, about ``side`` x ``side`` in area: (1 x 3 x H x W, 0..1), and the
    zoom in x and y.

    The photo keeps its shape and is filled up with grey at the right and the bottom. It is never enlarged
    more than twice, which would only blur it.
    """
    height, width = pixels.shape[:2]
    zoom = min(side / math.sqrt(height * width), 2.0)
    columns, rows = max(1, round(width * zoom)), max(1, round(height * zoom))
    method = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    small = cv2.resize(halved(pixels, columns, rows), (columns, rows), interpolation=method)
    fill = (_GREY, _GREY, _GREY)
    padded = cv2.copyMakeBorder(small, 0, -rows % _CELL, 0, -columns % _CELL, cv2.BORDER_CONSTANT, value=fill)
    image = cv2.dnn.blobFromImage(padded, 1 / 255).astype(np.float32, copy=False)
    return image, np.array([columns / width, rows / height], np.float32)


def decode_targets(raw: Floats, size: tuple[int, int], threshold: float) -> list[Detection]:
    """Targets, best first, from the net's ``raw`` answer (14 x cells) to an image of ``size`` (height,
    width).
    """
    chosen = np.flatnonzero(raw[0] > _logit(threshold))
    if not len(chosen):
        return []
    centres, strides = _cells(size, _STRIDES)
    centres, strides, raw = centres[chosen], strides[chosen], raw[:, chosen].T
    scores, loose = _sigmoid(raw[:, 0]), _boxes(centres, strides, raw[:, 1:5])
    corners = (np.tile(centres, 4) + raw[:, 5:13] * strides * 2).reshape(-1, 4, 2)
    # The net was shown boxes with some air round the plate, and corners a little inside it.
    extent = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    boxes = loose + _TIGHTER * (extent - loose)
    two_rows = _sigmoid(raw[:, 13])
    return [
        Detection(TARGET, float(scores[i]), boxes[i], corners[i], float(two_rows[i]))
        for i in keep_best(boxes, scores, 0.4)
    ]


def decode_vehicles(raw: Floats, size: tuple[int, int], threshold: float) -> list[Detection]:
    """Vehicles, best first, from the net's ``raw`` answer (12 x cells) to an image of ``size`` (height,
    width).
    """
    chosen = np.flatnonzero(raw[0] > _logit(threshold))
    if not len(chosen):
        return []
    centres, strides = _cells(size, _VEHICLE_STRIDES)
    raw = raw[:, chosen].T
    scores, boxes = _sigmoid(raw[:, 0]), _boxes(centres[chosen], strides[chosen], raw[:, 1:5])
    return [
        Detection(
            VEHICLE_TYPES[int(raw[i, 5:].argmax())],
            float(scores[i]),
            boxes[i],
            box_corners(boxes[i]),
        )
        for i in keep_best(boxes, scores, 0.6)
    ]


def keep_best(boxes: Floats, scores: Floats, overlap: float) -> list[int]:
    """Indices of ``boxes`` (N x 4), best score first, less those that overlap a better one.

    Two overlap where their intersection over union exceeds ``overlap`` or one lies to nine tenths in the
    other and is of a like size (a box that holds a much smaller one does not rule it out).
    """
    order = [int(i) for i in np.argsort(-scores, kind="stable")]
    areas = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)
    kept: list[int] = []
    for i in order:
        if kept:
            others = boxes[kept]
            sides = np.minimum(others[:, 2:], boxes[i, 2:]) - np.maximum(others[:, :2], boxes[i, :2])
            both = np.maximum(sides, 0).prod(axis=1)
            less, more = np.minimum(areas[kept], areas[i]), np.maximum(areas[kept], areas[i])
            same = (both > overlap * (less + more - both)) | ((both > 0.9 * less) & (less > 0.2 * more))
            if same.any():
                continue
        kept.append(i)
    return kept


@lru_cache(maxsize=32)
def _cells(size: tuple[int, int], grids: Sequence[int]) -> tuple[Floats, Floats]:
    """Centres (N x 2, pixels) and strides (N x 1) of the cells of ``grids`` over ``size`` (height, width)."""
    centres, strides = [], []
    for stride in grids:
        y, x = np.mgrid[0 : size[0] // stride, 0 : size[1] // stride]
        centres.append((np.stack([x.ravel(), y.ravel()], 1) + 0.5) * stride)
        strides.append(np.full((x.size, 1), stride))
    return np.concatenate(centres).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _boxes(centres: Floats, strides: Floats, raw: Floats) -> Floats:
    distances = np.logaddexp(raw, np.float32(0)) * strides * 2
    return np.concatenate([centres - distances[:, :2], centres + distances[:, 2:]], axis=1).astype(np.float32)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)), np.float32)


def _logit(p: float) -> float:
    return math.log(p / (1 - p))
