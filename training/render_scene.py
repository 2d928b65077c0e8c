"""A drawn photo of the rear of a parked car, carrying a given plate.

No photo of the training sets may be handed on, so the samples that ship with the repository are made here:
plain shapes, shading, grain and a lens's softness, enough for a detector that learned from real cars.

    python -m training.render_scene --out tests/data
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Color = tuple[float, float, float]
Points = list[tuple[float, float]]

WIDTH, HEIGHT = 1280, 720
_MIDDLE = 620.0
PLATE_CORNERS = np.array([(548, 441), (694, 443), (693, 515), (547, 513)], np.float32)
"""Where a plate of the American shape goes: clockwise from its top left, pixels."""

_SAMPLES: tuple[tuple[str, str, str, Color, int], ...] = (
    ("plate_us.jpg", "us-ca", "7KMR204", (120, 60, 35), 3),
    ("plate_de.jpg", "de", "KA*PL 482", (70, 68, 66), 26),
)
"""File, design, text, the car's color and the seed that makes it again."""


def draw_scene(plate: Pixels | None, body: Color, rng: np.random.Generator) -> Pixels:
    """Draw a hatchback in ``body`` color (BGR, 0..255) with ``plate`` (BGR): 1280 x 720 BGR."""
    canvas = _background(rng)
    _car(canvas, np.array(body))
    if plate is not None:
        middle = PLATE_CORNERS.mean(axis=0)
        shape = plate.shape[1] / plate.shape[0]
        # Plates of the long shape are as high as they are long in proportion, on the same middle.
        stretch = np.array((min(shape / 2, 1.5), min(shape / 2, 1.5) * 2 / shape), np.float32)
        _paste(canvas, plate, (PLATE_CORNERS - middle) * stretch + middle)
    light = np.linspace(1.06, 0.92, WIDTH)[None, :, None] * np.linspace(1.02, 0.94, HEIGHT)[:, None, None]
    grain = cv2.GaussianBlur(rng.normal(0, 7, canvas.shape).astype(np.float32), (0, 0), 0.8)
    soft = cv2.GaussianBlur(canvas, (0, 0), 0.7).astype(np.float32)
    return np.clip(soft * light + grain, 0, 255).astype(np.uint8)


def _background(rng: np.random.Generator) -> Pixels:
    canvas = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    _ramp(canvas[:300], (225, 205, 190), (235, 228, 222))
    _ramp(canvas[300:], (120, 122, 124), (82, 84, 86))
    # Hedge and wall behind the car, tarmac with its coarse grain in front.
    hedge = cv2.GaussianBlur(rng.uniform(0, 1, (190, WIDTH)).astype(np.float32), (0, 0), 4)
    hedge = (hedge - hedge.min()) / np.ptp(hedge)
    canvas[130:320] = np.array((48, 86, 62)) * (0.5 + 0.9 * hedge[..., None])
    canvas[290:335] = (150, 160, 168)
    tarmac = cv2.GaussianBlur(rng.normal(0, 1, (HEIGHT - 335, WIDTH)).astype(np.float32), (0, 0), 1.2)
    canvas[335:] += 22 * tarmac[..., None]
    _fill(canvas, [(0, 690), (1280, 640), (1280, 656), (0, 708)], (205, 208, 210), 1.5)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _car(canvas: Pixels, body: NDArray[np.float64]) -> None:
    def both(points: Points, color: Color, soft: float = 0.8) -> None:
        _fill(canvas, points, color, soft)
        _fill(canvas, [(2 * _MIDDLE - x, y) for x, y in points], color, soft)

    def whole(half: Points, color: Color, soft: float = 0.8) -> None:
        """Return a symmetric shape from its left half, top to bottom."""
        _fill(canvas, half + [(2 * _MIDDLE - x, y) for x, y in reversed(half)], color, soft)

    def tone(factor: float) -> Color:
        b, g, r = np.clip(body * factor + 40 * max(0.0, factor - 1), 0, 255)
        return b, g, r

    whole([(300, 640), (320, 668), (560, 676)], (30, 30, 32), 14)  # shadow on the ground
    both([(345, 560), (345, 655), (425, 662), (430, 560)], (22, 22, 24), 1.5)  # tires
    whole(
        [(452, 172), (420, 190), (372, 318), (340, 350), (322, 420), (320, 560), (338, 606), (420, 622)],
        tone(1.0),
    )
    whole([(452, 172), (425, 186), (412, 206), (520, 192)], tone(1.35), 2)  # roof
    whole([(446, 198), (396, 312), (420, 322), (500, 326)], (58, 52, 48), 1.5)  # window
    _fill(canvas, [(470, 204), (560, 202), (470, 318), (424, 314)], (120, 112, 104), 10)  # sky in the window
    whole([(380, 330), (345, 356), (336, 392), (500, 400)], tone(1.3), 6)  # shoulder
    whole([(470, 402), (474, 540), (560, 548)], tone(0.9), 3)  # tailgate's recess
    both(
        [(322, 372), (330, 352), (440, 372), (452, 404), (448, 436), (322, 440)], (30, 22, 150), 1.2
    )  # lamps
    both([(338, 384), (432, 392), (436, 412), (338, 410)], (70, 70, 225), 2)
    both([(350, 418), (430, 420), (428, 432), (350, 430)], (190, 200, 230), 2)
    whole([(322, 520), (318, 560), (336, 606), (420, 622)], tone(0.78), 2)  # bumper
    whole([(420, 590), (440, 624), (560, 630)], (34, 34, 36), 2)  # skirt
    both([(352, 566), (420, 572), (420, 584), (352, 578)], (40, 40, 190), 1)
    whole([(500, 424), (500, 434), (560, 434)], (205, 205, 205), 1)  # handle strip
    cv2.ellipse(canvas, (int(_MIDDLE), 380), (20, 14), 0, 0, 360, (215, 215, 215), 3, cv2.LINE_AA)


def _paste(canvas: Pixels, plate: Pixels, corners: NDArray[np.float32]) -> None:
    height, width = plate.shape[:2]
    rim = corners + np.array([(-4, -4), (4, -4), (4, 4), (-4, 4)], np.float32)
    _fill(canvas, [(float(x), float(y)) for x, y in rim], (40, 40, 42), 1)
    source = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    turn = cv2.getPerspectiveTransform(source, corners)
    # Shrinking with a plain warp aliases thin strokes: bring the plate near its final size first.
    blurred = cv2.GaussianBlur(plate, (0, 0), max(0.3, 0.35 * width / float(corners[1, 0] - corners[0, 0])))
    warped = cv2.warpPerspective(blurred, turn, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
    mask = (
        cv2.warpPerspective(np.full((height, width), 255, np.uint8), turn, (WIDTH, HEIGHT))[..., None] / 255.0
    )
    canvas[:] = (canvas * (1 - mask) + warped * mask * 0.92).astype(np.uint8)


def _ramp(area: NDArray[np.float32], top: Color, bottom: Color) -> None:
    at = np.linspace(0, 1, len(area), dtype=np.float32)[:, None, None]
    area[:] = np.array(top, np.float32) * (1 - at) + np.array(bottom, np.float32) * at


def _fill(canvas: NDArray[Any], points: Points, color: Color, soft: float) -> None:
    inside = np.zeros(canvas.shape[:2], np.float32)
    cv2.fillPoly(inside, [np.rint(np.array(points) * 16).astype(np.int32)], 1.0, cv2.LINE_AA, 4)
    mask = cv2.GaussianBlur(inside, (0, 0), max(soft, 0.3))[..., None]
    canvas[:] = (canvas * (1 - mask) + np.array(color) * mask).astype(canvas.dtype)


def main() -> None:
    """Run the command."""
    from training.designs import ONE_ROW
    from training.render_plates import draw_plate

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the photos")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for name, region, text, body, seed in _SAMPLES:
        rng = np.random.default_rng(seed)
        design = next(design for design in ONE_ROW if design.region == region)
        plate = draw_plate(design, rng, pattern=text)[0]
        _write(folder / name, draw_scene(plate, body, rng))
    _write(folder / "no_plate.jpg", draw_scene(None, (40, 40, 140), np.random.default_rng(1)))


def _write(path: Path, photo: Pixels) -> None:
    path.write_bytes(cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes())


if __name__ == "__main__":
    main()
