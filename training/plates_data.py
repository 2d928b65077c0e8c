"""Labeled plates as the reader sees them: every plate with a text, with its corners where they are known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from carsight.geometry import box_corners
from training.data import Pixels, clockwise, read_image, read_labels, read_photo_labels

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_UMLAUTS = str.maketrans("ÄÖÜ", "AOU")


@dataclasses.dataclass(frozen=True)
class Plate:
    """A labeled plate: the pixels around it, its corners in them and what it says.

    `corners`: 4 x 2, clockwise from the top left; where `loose`, they are only the corners of a loose box.
    `region` is None where it is not known.
    """

    source: str
    pixels: Pixels
    corners: NDArray[np.float32]
    loose: bool
    two_rows: bool
    text: str
    region: str | None
    name: str


def around(pixels: Pixels, corners: NDArray[np.float32]) -> tuple[Pixels, NDArray[np.float32]]:
    """Return the part of the photo that augmentation may need, its plate at most 220 pixels across."""
    (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
    margin = 0.35 * max(x1 - x0, y1 - y0)
    left, top = int(max(x0 - margin, 0)), int(max(y0 - margin, 0))
    part = pixels[top : int(y1 + margin) + 1, left : int(x1 + margin) + 1]
    scale = min(1.0, 220 / max(x1 - x0, 1))
    if scale < 1:
        part = np.asarray(cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    return part.copy(), (corners - (left, top)).astype(np.float32) * np.float32(scale)


def clean_text(text: str) -> str | None:
    """Return the label in the reader's alphabet, or None if it has a character that is not in it."""
    text = text.upper().translate(_UMLAUTS)
    return text if text and all(character in ALPHABET for character in text) else None


def _of_photos(data: Path, split: str, *, with_text: bool) -> list[Plate]:
    """Return the labeled photos' plates with a sure text; or all others, with the text ""."""
    plates = []
    for folder, label in read_photo_labels(data, split):
        pixels: Pixels | None = None
        for plate in label["plates"]:
            is_sure = plate.get("text") and not plate.get("unsure") and not plate.get("note")
            text = clean_text(plate["text"]) if is_sure else ""
            if text is None or bool(text) != with_text:
                continue
            if pixels is None:
                pixels = read_image(folder / label["image"])
            exact = plate.get("polygon") or plate.get("corners_guess")
            corners = clockwise(np.array(exact, np.float32)) if exact else box_corners(plate["box"])
            part, corners = around(pixels, corners)
            two_rows = plate.get("lines") == 2
            source = label["group"] + ("2" if two_rows else "")
            plates.append(
                Plate(source, part, corners, not exact, two_rows, text, plate.get("region"), label["image"])
            )
    return plates


def read_photos(data: Path, split: str) -> list[Plate]:
    """Return every surely read plate of the labeled photos."""
    return _of_photos(data, split, with_text=True)


def read_unread(data: Path, split: str) -> list[Plate]:
    """Return the labeled photos' plates without a text, or with one that is not sure, with text ""."""
    return _of_photos(data, split, with_text=False)


def read_crops(folder: Path, split: str) -> list[Plate]:
    """Return the labeled crops of `folder`."""
    plates = []
    for label in read_labels(folder, split):
        text = clean_text(label["text"]) if label.get("text") else None
        if not text or label.get("unsure"):
            continue
        pixels = read_image(folder / label["image"])
        height, width = pixels.shape[:2]
        source = label["image"].split("/")[0]
        two_rows = label.get("lines") == 2
        corners = box_corners([0, 0, width, height])
        plates.append(
            Plate(source, pixels, corners, True, two_rows, text, label.get("region"), label["image"])
        )
    return plates


def read_plates(data: Path, split: str) -> list[Plate]:
    """Return all labeled plates of a split; `data` is the folder that holds `plates`."""
    return read_photos(data, split) + read_crops(data / "plates" / "crops", split)


def fold(text: str) -> str:
    """Return the text with the signs made equal that labels confuse: O and Q to 0, I to 1."""
    return text.replace("O", "0").replace("Q", "0").replace("I", "1")
