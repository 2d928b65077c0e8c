"""The labeled photos, as every training reads them: one JSON object a line, image paths relative to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from carsight.plate.vehicles import proportions

Pixels = NDArray[np.uint8]
"""Height x width x 3, blue-green-red, 0..255."""

VEHICLE_TYPES = ("Big Truck", "Bus", "Motorcycle", "Pickup Truck", "Sedan", "SUV", "Van")
"""CarsXE's words for a vehicle's body, in the order of the detector's and the classifier's outputs."""

COLORS = (
    "black", "white", "silver", "grey", "blue", "red", "green",
    "yellow", "orange", "brown", "beige", "purple", "gold",
)  # fmt: skip
"""The colors that can be answered, in the order of the classifier's outputs."""

ORIENTATIONS = ("front", "rear")
"""The sides that can be answered, in the order of the classifier's outputs."""

TYPE_OF_LABEL = {
    "sedan": "Sedan", "hatchback": "Sedan", "wagon": "Sedan", "coupe": "Sedan", "convertible": "Sedan",
    "suv": "SUV", "pickup": "Pickup Truck", "van": "Van", "minivan": "Van", "truck": "Big Truck",
    "bus": "Bus", "motorcycle": "Motorcycle",
}  # fmt: skip
"""CarsXE's word for each body that the labels name."""


def clockwise(corners: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return four corners, in any order, clockwise from the top left; tilted by less than 45 degrees."""
    x, y = (corners - corners.mean(axis=0)).T
    corners = corners[np.argsort(np.arctan2(y, x))]
    return np.roll(corners, -int(np.argmin(corners.sum(axis=1))), axis=0)


def tiled(tiles: Sequence[Pixels], columns: int, fill: int = 0) -> Pixels:
    """Pictures of one size side by side, ``columns`` in a row; what is left of the last row is ``fill``."""
    whole = [*tiles, *[np.full_like(tiles[0], fill)] * (-len(tiles) % columns)]
    return np.vstack([np.hstack(whole[i : i + columns]) for i in range(0, len(whole), columns)])


def read_labels(folder: Path, split: str | None = None) -> list[dict[str, Any]]:
    """Return the objects of ``folder``/labels.jsonl, or those of ``split`` ("train" or "val") alone.

    Raises:
        FileNotFoundError: ``folder`` has no labels.jsonl.
    """
    lines = (folder / "labels.jsonl").read_text(encoding="utf-8").splitlines()
    labels: list[dict[str, Any]] = [json.loads(line) for line in lines if line.strip()]
    return [label for label in labels if split is None or label.get("split") == split]


PHOTO_FOLDERS = ("photos", "openimages2")
"""The folders of ``plates`` that hold whole photos. The second need not be there."""


def read_photo_labels(data: Path, split: str, only: str | None = None) -> list[tuple[Path, dict[str, Any]]]:
    """Return the labeled photos of ``data``/plates, each with the folder of its image's path."""
    folders = [data / "plates" / name for name in PHOTO_FOLDERS if only in (None, name)]
    present = [folder for folder in folders if (folder / "labels.jsonl").exists()]
    return [(folder, label) for folder in present for label in read_labels(folder, split)]


def bodies(data: Path) -> dict[str, list[Any]]:
    """Return how common each body is among the labeled vehicles, and what ``proportions`` tell of it.

    ``shares`` of all vehicles; ``weights`` and ``offsets`` give the logarithm of how likely proportions are
    for a body, linear in them, as normal distributions of one covariance do (Fisher's discriminant). The mean
    of a rare body is drawn to that of all, as if that had been seen on five more of its kind.
    """
    seen: list[NDArray[np.float64]] = []
    words: list[int] = []
    for _, label in read_photo_labels(data, "train"):
        for plate in label["plates"]:
            vehicle = plate.get("vehicle") or {}
            word = TYPE_OF_LABEL.get(vehicle.get("type") or "")
            if word and vehicle.get("box") and plate.get("box"):
                seen.append(proportions(np.array(vehicle["box"], float), np.array(plate["box"], float)))
                words.append(VEHICLE_TYPES.index(word))
    values, body = np.array(seen), np.array(words)
    counts = np.bincount(body, minlength=len(VEHICLE_TYPES))
    sums = np.array([values[body == i].sum(axis=0) for i in range(len(VEHICLE_TYPES))])
    means = (sums + 5 * values.mean(axis=0)) / (counts[:, None] + 5)
    spread = values - means[body]
    weights = means @ np.linalg.inv(spread.T @ spread / len(values))
    return {
        "shares": ((counts + 1) / (counts + 1).sum()).round(4).tolist(),
        "weights": weights.round(3).tolist(),
        "offsets": (-(weights * means).sum(axis=1) / 2).round(3).tolist(),
    }


def read_image(path: Path) -> Pixels:
    """Decode ``path`` to color pixels, EXIF orientation applied. Raises ``OSError`` where that fails."""
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise OSError(f"not a readable image: {path}")
    return np.asarray(pixels, dtype=np.uint8)
