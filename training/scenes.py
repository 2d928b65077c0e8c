"""Training scenes for the detector: labeled photos, turned, zoomed, lit and spoiled as real ones are.

A ``Scene`` is a photo with everything known about it; ``Scenes`` is an endless stream of square training
samples cut from them. The same code serves plates with vehicles, and the lines that hold a VIN: the things
with four corners are called targets here, whatever they are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from carsight.geometry import box_corners, iou, sides
from training.camera import spoil_frame
from training.data import (
    TYPE_OF_LABEL,
    VEHICLE_TYPES,
    Pixels,
    clockwise,
    read_image,
    read_labels,
    read_photo_labels,
)
from training.plates_data import Plate, read_photos
from training.render_plates import draw_any
from training.render_vins import render_photo, render_without

Floats = NDArray[np.float32]

MAX_TARGETS = 12
MAX_VEHICLES = 20
MAX_IGNORED = 30
_SMALLEST_TARGET = 9.0
"""Width in pixels of the frame below which finding a target is neither asked for nor punished."""

_SWAPPED = 0.45
"""Share of the training samples whose plates are covered with others."""

_CLOSE_UPS = 0.2
"""Share of the training samples that show one target and little around it."""


def _boxes() -> Floats:
    return np.zeros((0, 4), np.float32)


@dataclass
class Scene:
    """A photo and what is in it. Boxes are xmin, ymin, xmax, ymax in its pixels."""

    image: Path
    quads: Floats = field(default_factory=lambda: np.zeros((0, 4, 2), np.float32))
    """Corners of each target, clockwise from the text's top left; the box's corners where none are known."""
    cornered: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    """Whether the corners are known."""
    boxes: Floats = field(default_factory=_boxes)
    rows: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    """1 where a target has two rows of text, 0 where one, -1 where nobody knows."""
    unsure: Floats = field(default_factory=_boxes)
    """Where an unlabeled target may be."""
    vehicles: Floats = field(default_factory=_boxes)
    types: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    """Index in ``VEHICLE_TYPES``, -1 where nobody knows."""
    unsure_vehicles: Floats = field(default_factory=_boxes)


def loose(quad: Floats) -> Floats:
    """Return the box that the labelers of most photos would have drawn around ``quad`` (4 x 2).

    It is a tenth wider and a fifth higher than the corners' extent, the middle of what photos with both show.
    """
    low, high = quad.min(axis=0), quad.max(axis=0)
    margin = (high - low) * np.array([0.05, 0.1], np.float32)
    return np.concatenate([low - margin, high + margin]).astype(np.float32)


def plate_scenes(data: Path, split: str, only: str | None = None) -> list[Scene]:
    """Return the photos of ``data``/plates, or of the folder ``only`` in it, with plates as targets."""
    scenes = []
    for folder, label in read_photo_labels(data, split, only):
        frame = np.array([0, 0, label["width"], label["height"]], np.float32)
        quads, cornered, boxes, rows = [], [], [], []
        vehicles: list[Any] = []
        types: list[float] = []
        # Neither group has complete vehicle labels.
        unknown = label["group"] in ("china", "romania")
        for plate in label["plates"]:
            box = plate.get("box")
            if not box:
                continue
            guess = plate.get("polygon") or plate.get("corners_guess")
            quad = box_corners(box)
            known = False
            if guess:
                corners = clockwise(np.array(guess, np.float32))
                round_corners = [*corners.min(axis=0), *corners.max(axis=0)]
                known = iou(round_corners, box) > 0.45
                quad = corners if known else quad
            quads.append(quad)
            cornered.append(known)
            boxes.append(loose(quad) if plate.get("polygon") and split == "train" else box)
            rows.append({1: 0.0, 2: 1.0}.get(plate.get("lines"), -1.0))
            vehicle = plate.get("vehicle") or {}
            if vehicle.get("box"):
                vehicles.append(vehicle["box"])
                kind = TYPE_OF_LABEL.get(vehicle.get("type") or "")
                types.append(float(VEHICLE_TYPES.index(kind)) if kind else -1.0)
        unsure, unsure_vehicles = [], []
        for other in label["other_vehicles"]:
            box = other["box"]
            if any(iou(box, known_box) > 0.6 for known_box in vehicles):
                continue
            if not any(_holds(box, target) for target in boxes):
                unsure.append(box)
            if other["score"] is None or other["score"] >= 0.4:
                vehicles.append(box)
                types.append({"bus": 1.0, "motorcycle": 2.0}.get(other["kind"], -1.0))
            else:
                unsure_vehicles.append(box)
        if unknown or any(not any(_holds(v, target) for v in vehicles) for target in boxes):
            unsure_vehicles = [frame]
        scenes.append(
            Scene(
                folder / label["image"],
                np.array(quads, np.float32).reshape(-1, 4, 2),
                np.array(cornered, np.bool_),
                np.array(boxes, np.float32).reshape(-1, 4),
                np.array(rows, np.float32),
                np.array(unsure, np.float32).reshape(-1, 4),
                np.array(vehicles, np.float32).reshape(-1, 4),
                np.array(types, np.float32),
                np.array(unsure_vehicles, np.float32).reshape(-1, 4),
            )
        )
    return scenes


def empty_scenes(data: Path, split: str) -> list[Scene]:
    """Return the photos without a plate, every fifth of them for validation. They may hold vehicles.

    For training the photos of VIN labels join them: so much text, and never a plate.
    """
    names = sorted((data / "plates" / "negatives").glob("*.webp"))
    chosen = [name for index, name in enumerate(names) if (index % 5 == 0) == (split == "val")]
    everywhere = np.array([[0, 0, 1e4, 1e4]], np.float32)
    if split == "train":
        labels = [data / "vin" / label["image"] for label in read_labels(data / "vin", "train")]
        chosen = chosen * 5 + labels[: 5 * len(chosen)]
    return [Scene(name, unsure_vehicles=everywhere) for name in chosen]


def line_scenes(data: Path, split: str) -> list[Scene]:
    """Return the photos of ``data``/vin, with the lines that hold a VIN as targets."""
    folder = data / "vin"
    scenes = []
    for label in read_labels(folder, split):
        boxes = np.array([v["box"] for v in label["vins"] if v.get("box")], np.float32).reshape(-1, 4)
        if not len(boxes):
            continue
        scenes.append(
            Scene(
                folder / label["image"],
                np.stack([box_corners(box) for box in boxes]),
                # A box higher than a level line needs holds a tilted one, whose corners nobody has marked.
                (boxes[:, 2] - boxes[:, 0]) > 7 * (boxes[:, 3] - boxes[:, 1]),
                boxes,
                np.full(len(boxes), -1, np.float32),
            )
        )
    return scenes


def rendered_line_scenes(folder: Path, count: int, seed: int) -> tuple[list[Scene], list[Scene]]:
    """``count`` rendered photos with a VIN, whose corners are exact, and a fifth as many without.

    They are rendered once and kept in ``folder``.
    """
    index = folder / "scenes.json"
    if not index.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        corners: list[list[list[float]] | None] = []
        for number in range(count + count // 5):
            if number < count:
                pixels, quad, _ = render_photo(rng)
                corners.append(quad.tolist())
            else:
                pixels = render_without(rng)
                corners.append(None)
            cv2.imwrite(str(folder / f"{number:05d}.jpg"), pixels, [cv2.IMWRITE_JPEG_QUALITY, 92])
        index.write_text(json.dumps(corners), encoding="utf-8")
    scenes: list[Scene] = []
    empty: list[Scene] = []
    for number, points in enumerate(json.loads(index.read_text(encoding="utf-8"))):
        path = folder / f"{number:05d}.jpg"
        if points is None:
            empty.append(Scene(path))
            continue
        quad = np.array(points, np.float32)
        box = np.concatenate([quad.min(axis=0), quad.max(axis=0)])
        known = np.ones(1, np.bool_)
        scenes.append(Scene(path, quad[None], known, box[None], np.full(1, -1, np.float32)))
    return scenes, empty


def plate_crops(data: Path, drawn: int, seed: int) -> list[tuple[list[Pixels], float, float]]:
    """Plates to paste: (pixels, chance, two rows) for each set of ``data``/plates/crops and of drawn ones.

    The chances make up for what the photos lack: US and Brazilian plates. The photos' own plates, seen from
    the front, change places. ``drawn`` plates, a quarter of them of two rows, bring the colors and shapes of
    countries of which there are no crops.
    """
    labels = read_labels(data / "plates" / "crops", "train")
    sets = []
    for name, chance, inset in (("us", 0.45, 0.0), ("br", 0.2, 0.05), ("eu", 0.22, 0.0), ("eu2", 0.13, 0.0)):
        pixels = []
        for label in labels:
            if label["image"].startswith(name + "/"):
                crop = read_image(data / "plates" / "crops" / label["image"])
                x, y = round(inset * crop.shape[1]), round(inset * crop.shape[0])
                pixels.append(crop[y : crop.shape[0] - y, x : crop.shape[1] - x])
        sets.append((pixels, chance, float(name == "eu2")))
    clear = _clear_plates(data)
    for two_rows, chance in ((False, 0.6), (True, 0.1)):
        plates = [_from_the_front(plate) for plate in clear if plate.two_rows == two_rows]
        if plates:
            sets.append((plates, chance, float(two_rows)))
    rng = np.random.default_rng(seed)
    for share, two_rows in ((0.75, False), (0.25, True)):
        plates = [draw_any(rng, two_rows) for _ in range(round(share * drawn))]
        if plates:
            sets.append((plates, share, float(two_rows)))
    return sets


def _clear_plates(data: Path) -> list[Plate]:
    """Return the labeled photos' plates with a sure text and known corners, from 60 pixels wide."""
    return [
        plate for plate in read_photos(data, "train") if not plate.loose and sides(plate.corners)[0] >= 60
    ]


def _from_the_front(plate: Plate) -> Pixels:
    """Return the pixels of ``plate``, and 2 % more on each side, as seen from the front.

    Exact to the half pixel, as labels of frames have to be, which ``straighten`` is not.
    """
    middle = plate.corners.mean(axis=0)
    corners = (middle + (plate.corners - middle) * 1.04).astype(np.float32)
    wide, high = sides(corners)
    width, height = round(wide), max(8, round(high))
    matrix = cv2.getPerspectiveTransform(corners, box_corners([0, 0, width, height]))
    return _warped(plate.pixels, np.asarray(matrix, np.float64), (width, height), cv2.BORDER_REPLICATE)


def _holds(outer: Sequence[float] | Floats, inner: Sequence[float] | Floats) -> bool:
    x, y = (inner[0] + inner[2]) / 2, (inner[1] + inner[3]) / 2
    return bool(outer[0] <= x <= outer[2] and outer[1] <= y <= outer[3])


@dataclass
class Sample:
    """A square training image and its truth.

    Rows beyond the true ones are zero and marked by ``valid`` false.
    """

    image: Pixels
    boxes: Floats
    quads: Floats
    cornered: NDArray[np.bool_]
    rows: Floats
    unsure: Floats
    vehicles: Floats
    types: Floats
    unsure_vehicles: Floats

    def padded(self) -> dict[str, NDArray[Any]]:
        """Arrays of equal shapes for every sample, ready to be stacked."""
        return {
            "image": self.image,
            "boxes": _pad(self.boxes, MAX_TARGETS),
            "quads": _pad(self.quads.reshape(-1, 8), MAX_TARGETS),
            "cornered": _pad(self.cornered.astype(np.float32), MAX_TARGETS),
            "rows": _pad(self.rows, MAX_TARGETS, -1),
            "valid": _pad(np.ones(len(self.boxes), np.float32), MAX_TARGETS),
            "unsure": _pad(self.unsure, MAX_IGNORED),
            "vehicles": _pad(self.vehicles, MAX_VEHICLES),
            "types": _pad(self.types, MAX_VEHICLES, -1),
            "valid_vehicles": _pad(np.ones(len(self.vehicles), np.float32), MAX_VEHICLES),
            "unsure_vehicles": _pad(self.unsure_vehicles, MAX_IGNORED),
        }


def _pad(array: NDArray[Any], length: int, fill: float = 0) -> NDArray[np.float32]:
    out = np.full((length, *array.shape[1:]), fill, np.float32)
    out[: min(len(array), length)] = array[:length]
    return out


@dataclass
class Scenes:
    """An endless stream of samples of ``size`` x ``size`` pixels.

    ``lines`` is true for VIN lines: turned by any quarter, and wider jitter.
    """

    scenes: list[Scene]
    empty: list[Scene]
    crops: list[tuple[list[Pixels], float, float]]
    size: int
    seed: int
    lines: bool = False
    mosaic: float = 0.2

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._photos: dict[Path, Pixels] = {}

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        order: list[int] = []
        while True:
            if len(order) < 4:
                order += [int(i) for i in self._rng.permutation(len(self.scenes))]
            if self._rng.random() < self.mosaic:
                half = self.size // 2
                sample = _join([self._sample(self.scenes[order.pop()], half) for _ in range(4)], half)
            elif self.empty and self._rng.random() < 0.2:
                sample = self._sample(self.empty[int(self._rng.integers(len(self.empty)))], self.size)
            else:
                sample = self._sample(self.scenes[order.pop()], self.size)
            if self.lines:
                sample.quads = readable(sample.quads)
            sample.image = spoil_frame(sample.image, self._rng)
            yield sample.padded()

    def _photo(self, path: Path) -> Pixels:
        photo = self._photos.get(path)
        if photo is None:
            photo = self._photos[path] = read_image(path)
        return photo

    def _sample(self, scene: Scene, size: int) -> Sample:
        photo = self._photo(scene.image)
        if self.crops and len(scene.boxes) and self._rng.random() < _SWAPPED:
            photo, scene = self._swap(photo, scene)
        if len(scene.boxes) and self._rng.random() < _CLOSE_UPS:
            photo, scene = self._close_up(photo, scene)
        turn, zoom = self._view(photo.shape[1], photo.shape[0], scene, size)
        # A warp reads four pixels for each it writes: shrink by averaging first where it would skip some.
        halves = 0
        while zoom < 0.6 and min(photo.shape[:2]) > 32:
            photo = cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(np.uint8)
            zoom *= 2
            halves += 1
        shrunk = turn @ np.diag([2.0**halves, 2.0**halves, 1.0])
        border = cv2.BORDER_CONSTANT if self._rng.random() < 0.8 else cv2.BORDER_REPLICATE
        shade = float(self._rng.uniform(0, 160))
        image = _warped(photo, shrunk, (size, size), border, (shade,) * 3)
        return _project(image, scene, turn, size)

    def _view(self, width: int, height: int, scene: Scene, size: int) -> tuple[NDArray[np.float64], float]:
        """Return a 3 x 3 matrix from the photo to the frame, and the zoom in it."""
        rng = self._rng
        anchor = int(rng.integers(len(scene.boxes))) if len(scene.boxes) else None
        whole = size / max(width, height)
        if (anchor is None and rng.random() < 0.6) or rng.random() < 0.08:
            # As close as a look at a target, but at anything.
            zoom = whole * math.exp(rng.uniform(0, math.log(6.0)))
            middle = rng.uniform(0.1, 0.9, 2) * (width, height)
        elif anchor is None or rng.random() < 0.45:
            zoom = whole * math.exp(rng.uniform(math.log(0.6), math.log(1.35)))
            middle = np.array([width / 2, height / 2]) + rng.normal(0, 0.08, 2) * (width, height)
        else:
            box = scene.boxes[anchor]
            low, high = (0.1, 0.95) if self.lines else (0.025, 0.85)
            share = math.exp(rng.uniform(math.log(low), math.log(high)))
            sides = box[2:] - box[:2]
            zoom = share * size / float(sides.max() if self.lines else sides[0])
            # Far zooms show nothing but blur, and very small photos nothing at all.
            zoom = min(max(zoom, 0.5 * whole), 8.0)
            # The target's middle lands anywhere in the frame where the target still fits.
            room = np.maximum(0.5 - 0.5 * zoom * (box[2:] - box[:2]) / size, 0.02)
            offset = rng.uniform(-1, 1, 2) * room * size / zoom
            middle = (box[:2] + box[2:]) / 2 - offset
        steep = 20.0 if self.lines else 18.0
        angle = rng.normal(0, 4) if rng.random() < 0.75 else rng.uniform(-steep, steep)
        if not self.lines and rng.random() < 0.02:
            angle = rng.uniform(-40, 40)
        if anchor is not None and not scene.cornered.all():
            angle = float(np.clip(angle, -4, 4))
        if self.lines or rng.random() < 0.02:
            # Lines come any way up; plates seldom do, and the corners tell where their text begins.
            angle += 90 * int(rng.integers(4))
        turn = math.radians(angle)
        aspect = math.exp(rng.normal(0, 0.1))
        flip = -1.0 if rng.random() < 0.4 else 1.0
        rotation = np.array(
            [(math.cos(turn), -math.sin(turn), 0), (math.sin(turn), math.cos(turn), 0), (0, 0, 1)]
        )
        shear = np.array([(1, rng.normal(0, 0.05), 0), (rng.normal(0, 0.05), 1, 0), (0, 0, 1)])
        tilt = np.eye(3)
        tilt[2, :2] = rng.normal(0, 0.12, 2) / size
        scale = np.diag([zoom * aspect * flip, zoom / aspect, 1.0])
        start = np.eye(3)
        start[:2, 2] = -middle
        end = np.eye(3)
        end[:2, 2] = size / 2
        return end @ tilt @ rotation @ shear @ scale @ start, float(zoom)

    def _close_up(self, photo: Pixels, scene: Scene) -> tuple[Pixels, Scene]:
        """Return a target with little of the photo around it, as one who fills a viewfinder with it takes it.

        On each side 0 to 60 % of the target's own width or height are left.
        """
        rng = self._rng
        anchor = int(rng.integers(len(scene.boxes)))
        box = scene.boxes[anchor].copy()
        if scene.cornered[anchor]:
            extent = scene.quads[anchor]
            box[:2], box[2:] = (
                np.minimum(box[:2], extent.min(axis=0)),
                np.maximum(box[2:], extent.max(axis=0)),
            )
        margin = rng.choice([0.0, 0.02, 0.15, 0.6]) if rng.random() < 0.5 else rng.uniform(0, 0.6)
        sides = np.tile(box[2:] - box[:2], 2) * np.array([-1, -1, 1, 1])
        spread = rng.uniform(0.5, 1.5, 4) if rng.random() < 0.5 else np.ones(4)
        limits = np.tile((photo.shape[1], photo.shape[0]), 2)
        x0, y0, x1, y1 = (int(v) for v in np.clip(np.round(box + sides * margin * spread), 0, limits))
        if x1 - x0 < 12 or y1 - y0 < 4:
            return photo, scene
        offset = np.array([x0, y0, x0, y0], np.float32)
        frame = np.array([x1 - x0, y1 - y0], np.float32)

        def inside(boxes: Floats) -> tuple[Floats, Floats]:
            """Return the boxes in the part's pixels, and how much of each is in it."""
            moved = (boxes - offset).astype(np.float32)
            clipped = np.clip(moved, 0, np.tile(frame, 2)).astype(np.float32)
            area = (moved[:, 2:] - moved[:, :2]).prod(axis=1)
            return moved, np.asarray((clipped[:, 2:] - clipped[:, :2]).prod(axis=1) / np.maximum(area, 1e-3))

        boxes, shown = inside(scene.boxes)
        vehicles, seen = inside(scene.vehicles)
        kept, kept_vehicles = shown > 0.85, seen > 0.6
        doubtful = boxes[~kept & (shown > 0)]
        remains = vehicles[~kept_vehicles & (seen > 0)]
        vehicles = np.clip(vehicles[kept_vehicles], 0, np.tile(frame, 2)).astype(np.float32)
        return np.ascontiguousarray(photo[y0:y1, x0:x1]), Scene(
            scene.image, scene.quads[kept] - offset[:2], scene.cornered[kept], boxes[kept], scene.rows[kept],
            np.concatenate([scene.unsure - offset, doubtful]).astype(np.float32),
            vehicles, scene.types[kept_vehicles],
            np.concatenate([scene.unsure_vehicles - offset, remains]).astype(np.float32),
        )  # fmt: skip

    def _swap(self, photo: Pixels, scene: Scene) -> tuple[Pixels, Scene]:
        """Cover the labeled plates, as seen from the front at their place, with other real plates."""
        rng = self._rng
        photo = photo.copy()
        quads, cornered = scene.quads.copy(), scene.cornered.copy()
        boxes, rows = scene.boxes.copy(), scene.rows.copy()
        chances = np.array([chance for _, chance, _ in self.crops])
        for i in range(len(boxes)):
            pixels, _, two = self.crops[int(rng.choice(len(chances), p=chances / chances.sum()))]
            crop = pixels[int(rng.integers(len(pixels)))]
            if rng.random() < 0.15:
                # Light letters on a dark plate: rare in the crops, and often missed where their car is dark.
                gray = 255 - cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
                crop = cv2.merge([gray, gray, gray]).astype(np.uint8)
            quad = quads[i]
            across, down = quad[1] - quad[0], quad[3] - quad[0]
            ratio = crop.shape[1] / crop.shape[0]
            grown = 1.02 if cornered[i] else 0.95
            half_across = across / 2 * grown
            half_down = down / 2 * grown
            wide, high = np.linalg.norm(half_across), np.linalg.norm(half_down)
            if wide < 6 or high < 3:
                continue
            # Cover the old plate wholly, whichever of the two is the longer shape.
            if wide / high < ratio:
                half_across = half_across * (high * ratio / wide)
            else:
                half_down = half_down * (wide / ratio / high)
            middle = quad.mean(axis=0)
            new = np.stack(
                [
                    middle - half_across - half_down,
                    middle + half_across - half_down,
                    middle + half_across + half_down,
                    middle - half_across + half_down,
                ]
            ).astype(np.float32)
            photo = _paste(photo, crop, new, boxes[i], rng)
            quads[i], cornered[i], rows[i] = new, True, two
            boxes[i] = loose(new)
        return photo, Scene(
            scene.image, quads, cornered, boxes, rows,
            scene.unsure, scene.vehicles, scene.types, scene.unsure_vehicles,
        )  # fmt: skip


def _paste(photo: Pixels, crop: Pixels, quad: Floats, old: Floats, rng: np.random.Generator) -> Pixels:
    height, width = photo.shape[:2]
    x0, y0 = np.clip(np.floor(quad.min(axis=0)).astype(int) - 2, 0, (width, height))
    x1, y1 = np.clip(np.ceil(quad.max(axis=0)).astype(int) + 3, 0, (width, height))
    if x1 - x0 < 4 or y1 - y0 < 3:
        return photo
    shrink = float(np.linalg.norm(quad[1] - quad[0])) / crop.shape[1]
    if shrink < 0.6:
        crop = cv2.resize(crop, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA).astype(np.uint8)
    rows, columns = crop.shape[:2]
    source = box_corners([0, 0, columns, rows])
    target = quad - np.array([x0, y0], np.float32)
    matrix = np.asarray(cv2.getPerspectiveTransform(source, target), np.float64)
    size = (int(x1 - x0), int(y1 - y0))
    patch = _warped(crop, matrix, size, cv2.BORDER_REPLICATE).astype(np.float32)
    if rng.random() < 0.4:
        # Few photos are as sharp as a crop or a drawing made smaller.
        patch = cv2.GaussianBlur(patch, (0, 0), float(rng.uniform(0.3, 1.0))).astype(np.float32)
    opaque = _warped(np.full((rows, columns), 255, np.uint8), matrix, size, cv2.BORDER_CONSTANT)
    mask = cv2.GaussianBlur(opaque, (3, 3), 0)[..., None] / np.float32(255)
    a, b, c, d = (int(v) for v in np.clip(old, 0, (width, height, width, height)))
    if c > a and d > b:
        # The light of the place: bring the brightest of the new plate halfway to that of the old one. That is
        # paper or letters, whichever are light.
        was, now = np.percentile(photo[b:d, a:c], 92), np.percentile(crop, 92)
        patch *= float(np.clip((was + 10) / (now + 10), 0.35, 1.6)) ** float(rng.uniform(0.4, 1.0))
    area = photo[y0:y1, x0:x1]
    area[:] = np.clip(area * (1 - mask) + patch * mask, 0, 255).astype(np.uint8)
    return photo


def _warped(
    image: Pixels,
    matrix: NDArray[np.float64],
    size: tuple[int, int],
    border: int,
    color: tuple[float, ...] = (0.0,),
) -> Pixels:
    """Return ``image`` seen through ``matrix`` (3 x 3), of ``size`` (width, height) pixels.

    Labels, boxes and ``matrix`` measure from the edge of the first pixel, OpenCV from its middle. Taken for
    each other they would be apart by half a pixel of the photo less half a pixel of the frame: a twentieth of
    a distant plate's height.
    """
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    between = np.linalg.inv(half) @ matrix @ half
    return np.asarray(
        cv2.warpPerspective(image, between, size, borderMode=border, borderValue=color), np.uint8
    )


def _apply(turn: NDArray[np.float64], points: Floats) -> Floats:
    flat = np.concatenate([points.reshape(-1, 2), np.ones((points.size // 2, 1))], axis=1) @ turn.T
    depth = np.maximum(flat[:, 2:], 1e-3)
    return (flat[:, :2] / depth).astype(np.float32).reshape(points.shape)


def _project(image: Pixels, scene: Scene, turn: NDArray[np.float64], size: int) -> Sample:
    """Return what of ``scene`` is in the frame, in the frame's pixels."""

    def boxes_of(boxes: Floats) -> Floats:
        if not len(boxes):
            return _boxes()
        quads = _apply(turn, np.stack([box_corners(box) for box in boxes]))
        # The box around a turned box is too large: half way between its corners' extent and its sides' is
        # close.
        sides = (quads + np.roll(quads, -1, axis=1)) / 2
        low = (quads.min(axis=1) + sides.min(axis=1)) / 2
        high = (quads.max(axis=1) + sides.max(axis=1)) / 2
        outer = np.concatenate([quads.min(axis=1), quads.max(axis=1)], axis=1)
        return np.where(_tilted(quads)[:, None], np.concatenate([low, high], axis=1), outer).astype(
            np.float32
        )

    quads = _apply(turn, scene.quads) if len(scene.quads) else scene.quads
    flipped = np.linalg.det(turn[:2, :2]) < 0
    if flipped:
        quads = quads[:, [1, 0, 3, 2]]
    boxes = boxes_of(scene.boxes)
    for i in np.flatnonzero(scene.cornered):
        # The labeled box's slack around its corners stays in proportion.
        was = np.concatenate([scene.quads[i].min(axis=0), scene.quads[i].max(axis=0)])
        slack = (scene.boxes[i] - was) / np.tile(np.maximum(was[2:] - was[:2], 1), 2)
        now = np.concatenate([quads[i].min(axis=0), quads[i].max(axis=0)])
        mean = np.array([slack[0] - slack[2], slack[1] - slack[3]]) / 2
        boxes[i] = now + np.concatenate([mean, -mean]) * np.tile(now[2:] - now[:2], 2)
    visible = _visible(boxes, size)
    wide = boxes[:, 2] - boxes[:, 0] if len(boxes) else np.zeros(0)
    longest = np.maximum(wide, boxes[:, 3] - boxes[:, 1]) if len(boxes) else wide
    kept = (visible >= 0.85) & (longest >= _SMALLEST_TARGET)
    doubtful = ~kept & (visible > 0.15)
    vehicles = boxes_of(scene.vehicles)
    seen = _visible(vehicles, size)
    shown = (seen >= 0.6) & ((vehicles[:, 2] - vehicles[:, 0]) >= 14)
    half_shown = ~shown & (seen > 0.2)
    return Sample(
        image,
        np.clip(boxes[kept], 0, size),
        quads[kept],
        scene.cornered[kept],
        scene.rows[kept],
        np.concatenate([boxes_of(scene.unsure), _grown(boxes[doubtful], 0.1)]),
        np.clip(vehicles[shown], 0, size),
        scene.types[shown],
        np.concatenate([boxes_of(scene.unsure_vehicles), vehicles[half_shown]]),
    )


def _tilted(quads: Floats) -> NDArray[np.bool_]:
    across = quads[:, 1] - quads[:, 0]
    return np.asarray(
        np.minimum(abs(across[:, 0]), abs(across[:, 1])) > 0.06 * np.linalg.norm(across, axis=1)
    )


def _grown(boxes: Floats, by: float) -> Floats:
    margin = (boxes[:, 2:] - boxes[:, :2]) * by
    return np.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + margin], axis=1).astype(np.float32)


def _visible(boxes: Floats, size: int) -> Floats:
    """Return the share of each box that lies in the frame, 0..1."""
    inside = np.clip(boxes, 0, size)
    area = (inside[:, 2] - inside[:, 0]) * (inside[:, 3] - inside[:, 1])
    return np.asarray(
        area / np.maximum((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), 1e-3), np.float32
    )


def readable(quads: Floats) -> Floats:
    """``quads`` (N x 4 x 2) begun where the text runs between -60 and 120 degrees from level.

    A net sees which way a small line of text runs only up to half a turn. Asked for more it would answer the
    average of the two. The choice between them jumps where photos are rare, not at the level or the upright.
    """
    along = quads[:, 1] - quads[:, 0]
    angles = np.degrees(np.arctan2(along[:, 1], along[:, 0]))
    turned = (angles <= -60) | (angles > 120)
    return np.where(turned[:, None, None], quads[:, [2, 3, 0, 1]], quads).astype(np.float32)


def _join(tiles: list[Sample], half: int) -> Sample:
    """Four samples of ``half`` x ``half`` pixels in one frame."""
    offsets = [(0, 0), (half, 0), (0, half), (half, half)]

    def moved(name: str, repeat: int) -> Floats:
        parts = []
        for tile, offset in zip(tiles, offsets, strict=True):
            array = getattr(tile, name)
            if repeat == 2 and name.startswith("unsure"):
                array = np.clip(array, 0, half)
            shift = np.array(offset, np.float32)
            parts.append(array + (np.tile(shift, 2) if repeat == 2 else shift))
        return np.concatenate(parts)

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(tile, name) for tile in tiles])

    image = np.concatenate([np.concatenate([t.image for t in tiles[i : i + 2]], axis=1) for i in (0, 2)])
    return Sample(
        image, moved("boxes", 2), moved("quads", 1), joined("cornered"), joined("rows"), moved("unsure", 2),
        moved("vehicles", 2), joined("types"), moved("unsure_vehicles", 2),
    )  # fmt: skip
