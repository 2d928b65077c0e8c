"""Decoding the detector net's output, one vector per grid cell, into boxes and corners."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from carsight.geometry import Floats, box_corners, turned_back

_STRIDES = (8, 16, 32)
_VEHICLE_STRIDES = (16, 32)
"""Sides in pixels of the cells of the grids in which the net looks for targets and for vehicles."""
_SLACK = 0.05
"""How far outside a vehicle's box the center of its plate may be, in shares of the box's sides."""


class Detection(NamedTuple):
    """A target, or a vehicle of a ``vehicle_type`` among the model's classes.

    ``score`` is 0..1. ``box`` is xmin, ymin, xmax, ymax in pixels of the photo, possibly slightly outside.
    ``corners`` (4 x 2, pixels) are clockwise from the top left of the text; ``two_rows`` (0..1) is the
    probability that the text has two rows. A vehicle has its box's corners and a ``two_rows`` of 0.
    """

    score: float
    box: Floats
    corners: Floats
    two_rows: float = 0.0
    vehicle_type: str | None = None

    @property
    def is_vehicle(self) -> bool:
        """Whether this is a vehicle, not a target."""
        return self.vehicle_type is not None

    def moved(self, zoom: Floats | float, offset: Floats | float = 0.0) -> Detection:
        """Return this with its coordinates multiplied by ``zoom`` (x, y), then moved by ``offset`` (x, y)."""
        box = (self.box.reshape(2, 2) * zoom + offset).ravel().astype(np.float32)
        return self._replace(box=box, corners=(self.corners * zoom + offset).astype(np.float32))

    def turned_back(self, quarters: int, width: int, height: int) -> Detection:
        """Return this detection, made after turning a ``width`` x ``height`` photo, in the unturned photo.

        ``quarters`` are quarter turns counterclockwise, as in ``pixels.turned``.
        """
        ends = turned_back(self.box.reshape(2, 2), quarters, width, height)
        box = np.concatenate([ends.min(axis=0), ends.max(axis=0)])
        return self._replace(box=box, corners=turned_back(self.corners, quarters, width, height))


def carrier(plate: Detection, vehicles: Sequence[Detection], quarters: int = 0) -> Detection | None:
    """Return the vehicle among ``vehicles`` that carries ``plate``, or None.

    It contains the plate's center (within a twentieth of its sides), is at least twice as wide as the plate
    (one and a half times for a motorcycle), and does not have it in its top quarter, where no plate is
    mounted. Of several such vehicles the one with the highest score is returned; of those with similar
    scores, the smallest. All are upright after the photo is turned counterclockwise by ``quarters`` quarter
    turns.
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


def decode_targets(raw: Floats, size: tuple[int, int], threshold: float, shrink: float) -> list[Detection]:
    """Decode targets, best first, from the net's ``raw`` output (14 x cells) for an image of ``size``.

    Args:
        raw: Logits and distances for each cell, as in training/nets.py.
        size: Height and width of the image.
        threshold: Targets that score less (0..1) are dropped.
        shrink: Share by which boxes are moved towards the extent of their corners.
    """
    chosen = np.flatnonzero(raw[0] > _logit(threshold))
    if not len(chosen):
        return []
    centers, strides = _cells(size, _STRIDES)
    centers, strides, raw = centers[chosen], strides[chosen], raw[:, chosen].T
    scores, loose = sigmoid(raw[:, 0]), _boxes(centers, strides, raw[:, 1:5])
    corners = (np.tile(centers, 4) + raw[:, 5:13] * strides * 2).reshape(-1, 4, 2)
    # The net was trained on boxes with some margin around the plate, and on corners slightly inside it.
    extent = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    boxes = loose + np.float32(shrink) * (extent - loose)
    two_rows = sigmoid(raw[:, 13])
    return [
        Detection(float(scores[i]), boxes[i], corners[i], float(two_rows[i]))
        for i in keep_best(boxes, scores, 0.4)
    ]


def decode_vehicles(
    raw: Floats, size: tuple[int, int], threshold: float, types: Sequence[str]
) -> list[Detection]:
    """Decode vehicles of ``types``, best first, from ``raw`` (5 + types x cells); see ``decode_targets``."""
    chosen = np.flatnonzero(raw[0] > _logit(threshold))
    if not len(chosen):
        return []
    centers, strides = _cells(size, _VEHICLE_STRIDES)
    raw = raw[:, chosen].T
    scores, boxes = sigmoid(raw[:, 0]), _boxes(centers[chosen], strides[chosen], raw[:, 1:5])
    return [
        Detection(
            float(scores[i]), boxes[i], box_corners(boxes[i]), vehicle_type=types[int(raw[i, 5:].argmax())]
        )
        for i in keep_best(boxes, scores, 0.6)
    ]


def keep_best(boxes: Floats, scores: Floats, overlap: float) -> list[int]:
    """Return the indices of ``boxes`` (N x 4) that overlap no better one, best score first (NMS).

    Two boxes overlap if their IoU exceeds ``overlap``, or if nine tenths of one are inside the other and it
    is at least a fifth as large (a much smaller box inside another is kept).
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
def _cells(size: tuple[int, int], strides: Sequence[int]) -> tuple[Floats, Floats]:
    """Return centers (N x 2, pixels) and strides (N x 1) of all cells of an image of ``size``.

    ``strides`` are the sides of the cells of each grid, in pixels, ``size`` is height and width.
    """
    centers, of_cells = [], []
    for stride in strides:
        y, x = np.mgrid[0 : size[0] // stride, 0 : size[1] // stride]
        centers.append((np.stack([x.ravel(), y.ravel()], 1) + 0.5) * stride)
        of_cells.append(np.full((x.size, 1), stride))
    return np.concatenate(centers).astype(np.float32), np.concatenate(of_cells).astype(np.float32)


def _boxes(centers: Floats, strides: Floats, raw: Floats) -> Floats:
    """Decode boxes (N x 4, xmin, ymin, xmax, ymax) from ``raw`` (N x 4) of cells with these ``centers``.

    The net gives the distances of the four sides from the center in units of two strides, before softplus.
    """
    distances = np.logaddexp(raw, np.float32(0)) * strides * 2
    return np.concatenate([centers - distances[:, :2], centers + distances[:, 2:]], axis=1).astype(np.float32)


def sigmoid(x: Floats) -> Floats:
    """Return the scores, 0..1, of logits."""
    return np.asarray(1 / (1 + np.exp(-x)), np.float32)


def _logit(p: float) -> float:
    return math.log(p / (1 - p))
