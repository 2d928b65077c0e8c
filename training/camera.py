"""What stands between a scene and its file: light, lens, sensor and compression.

One recipe for each thing that is trained on: a frame with a plate or a line somewhere in it, a plate, a line.
They differ as their nets do: a frame stays a photo, of a plate or a line no more is left than can be read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from carsight.geometry import GRAY
from training.data import Pixels

Rng = np.random.Generator
Floats = NDArray[np.float32]


def compressed(pixels: Pixels, quality: int) -> Pixels:
    """Return ``pixels`` as a JPEG of ``quality`` keeps them."""
    _, packed = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)


def sharpened(pixels: Pixels, sigma: float, amount: float) -> Pixels:
    """Return ``pixels`` as a phone sharpens them: with ``amount`` times what a blur of ``sigma`` takes."""
    soft = cv2.GaussianBlur(pixels, (0, 0), sigma)
    return np.asarray(cv2.addWeighted(pixels, 1 + amount, soft, -amount, 0), np.uint8)


def spoil_frame(image: Pixels, rng: Rng) -> Pixels:
    """Return a training frame as another camera, light or distance would have given it."""
    if rng.random() < 0.15:
        gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        image = cv2.merge([gray, gray, gray]).astype(np.uint8)
    kind = rng.random()
    if kind < 0.08:  # night: dark, with little light left in one color
        gain, power = rng.uniform(0.25, 0.6), rng.uniform(0.9, 1.6)
    elif kind < 0.14:  # against the light: the dark parts go under
        gain, power = rng.uniform(0.7, 1.1), rng.uniform(1.5, 2.6)
    else:
        gain, power = rng.uniform(0.75, 1.25), math.exp(rng.normal(0, 0.25))
    ramp = np.linspace(0, 1, 256) ** power * gain * 255 + rng.normal(0, 8)
    tint = 1 + rng.normal(0, 0.06, 3) * (rng.random() < 0.5)
    table = np.clip(ramp[:, None] * tint, 0, 255).astype(np.uint8)
    image = cv2.LUT(image, np.ascontiguousarray(table).reshape(1, 256, 3)).astype(np.uint8)
    blur = rng.random()
    if blur < 0.12:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 1.8))).astype(np.uint8)
    elif blur < 0.17:
        length = int(rng.integers(3, 9))
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1 / length
        spun = cv2.getRotationMatrix2D((length / 2 - 0.5, length / 2 - 0.5), float(rng.uniform(0, 180)), 1)
        kernel = cv2.warpAffine(kernel, spun, (length, length)).astype(np.float32)
        image = cv2.filter2D(image, -1, kernel / max(float(kernel.sum()), 1e-3)).astype(np.uint8)
    if rng.random() < 0.15:
        noise = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(2, 14))
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        image = compressed(image, int(rng.integers(20, 90)))
    return image


def retaken(photo: Pixels, box: Sequence[float] | None, rng: Rng) -> Pixels:
    """Return a photo in one of the ways in which people send it.

    Cut to the ``box`` (xmin, ymin, xmax, ymax) of what it shows and what is around that, or laid on gray,
    smaller or larger, tilted, in another light, and stored anew.
    """
    kind = rng.random()
    if box is not None and kind < 0.35:
        share = float(rng.choice([0, 0.05, 0.15, 0.3, 0.6, 1.0]))
        x0, y0, x1, y1 = box
        wide, high = (x1 - x0) * share, (y1 - y0) * share
        photo = photo[
            max(0, int(y0 - high)) : int(y1 + high) + 1, max(0, int(x0 - wide)) : int(x1 + wide) + 1
        ]
    elif kind < 0.45:
        border = int(max(photo.shape[:2]) * rng.uniform(0.1, 0.6))
        around = (border,) * 4
        photo = np.asarray(cv2.copyMakeBorder(photo, *around, cv2.BORDER_CONSTANT, value=GRAY), np.uint8)
    kind = rng.random()
    zoom = float(rng.uniform(0.5, 0.95) if kind < 0.45 else rng.uniform(1.1, 2.0) if kind < 0.6 else 1.0)
    zoom = min(zoom, 3000 / max(photo.shape[:2]))
    height, width = (max(1, round(side * zoom)) for side in photo.shape[:2])
    method = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    photo = np.asarray(cv2.resize(photo, (width, height), interpolation=method), np.uint8)
    if rng.random() < 0.3:
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), float(rng.normal(0, 7)), 1)
        cos, sin = abs(turn[0, 0]), abs(turn[0, 1])
        size = round(width * cos + height * sin), round(width * sin + height * cos)
        turn[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
        photo = np.asarray(cv2.warpAffine(photo, turn, size, borderValue=GRAY), np.uint8)
    photo = _relit(photo, rng)
    return compressed(photo, 92 if rng.random() < 0.5 else int(rng.integers(55, 96)))


def _relit(photo: Pixels, rng: Rng) -> Pixels:
    """Return a photo as darker, gray, paler, inverted, soft or noisy as it may be and still be read."""
    values: Floats = photo.astype(np.float32)
    kind = rng.random()
    if kind < 0.15:
        values = np.asarray(255 * (values / 255) ** rng.uniform(1.3, 2.6), np.float32)
    elif kind < 0.25:
        values = np.repeat(values.mean(axis=2, keepdims=True), 3, axis=2)
    elif kind < 0.5:
        mean = float(values.mean())
        values = (values - mean) * float(np.exp(rng.normal(0, 0.25))) + mean * float(
            np.exp(rng.normal(0, 0.2))
        )
        values += rng.normal(0, 6, 3).astype(np.float32)
    elif kind < 0.53:
        values = 255 - values
    kind = rng.random()
    if kind < 0.12:
        values = np.asarray(cv2.GaussianBlur(values, (0, 0), float(rng.uniform(0.4, 1.2))), np.float32)
    elif kind < 0.22:
        values = values + rng.standard_normal(values.shape, np.float32) * np.float32(rng.uniform(1, 7))
    return np.clip(values, 0, 255).astype(np.uint8)


_FAR = 4.6, 9.0
"""Pixels a character takes of a line that is seen from far; below 4 nobody could read it."""


def farther(pixels: Pixels, corners: Floats, characters: int, rng: Rng) -> tuple[Pixels, Floats]:
    """Return a line's surroundings as a camera farther away would have stored them.

    ``corners`` (4 x 2, pixels) are the line's, of so many ``characters``; they come back where they lie then.
    A line that is as small already stays as it is but for the storing.
    """
    low, high = np.log(_FAR)
    pitch = float(np.exp(rng.uniform(low, high)))
    zoom = pitch * characters / max(float(np.hypot(*(corners[1] - corners[0]))), 1.0)
    if zoom < 0.97:
        height, width = pixels.shape[:2]
        columns, rows = max(6, round(width * zoom)), max(6, round(height * zoom))
        method = cv2.INTER_AREA if rng.random() < 0.75 else cv2.INTER_LINEAR
        pixels = np.asarray(cv2.resize(pixels, (columns, rows), interpolation=method), np.uint8)
        corners = corners * np.array([columns / width, rows / height], np.float32)
    if rng.random() < 0.8:
        pixels = compressed(pixels, int(rng.integers(50, 96)))
    return pixels, corners


def spoil_line(pixels: Pixels, rng: Rng) -> Pixels:
    """Return a real line's surroundings as another camera, light or distance would have given it."""
    picture = pixels
    if rng.random() < 0.4:  # further away
        zoom = float(rng.uniform(0.55, 0.95)), float(rng.uniform(0.55, 0.95))
        small = cv2.resize(picture, None, fx=zoom[0], fy=zoom[1], interpolation=cv2.INTER_AREA)
        picture = np.asarray(cv2.resize(small, (pixels.shape[1], pixels.shape[0])), np.uint8)
    if rng.random() < 0.25:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.3, 1.0))), np.uint8)
    if rng.random() < 0.2:
        picture = sharpened(picture, 1.0, 0.7)
    values = picture.astype(np.float32)
    if rng.random() < 0.7:
        values = (values - values.mean()) * float(np.exp(rng.normal(0, 0.3))) + values.mean() * float(
            np.exp(rng.normal(0, 0.25))
        )
        values += rng.normal(0, 8, 3)
    if rng.random() < 0.3:  # light across the line
        slope = rng.normal(0, 40, 2)
        y, x = np.mgrid[-0.5 : 0.5 : values.shape[0] * 1j, -0.5 : 0.5 : values.shape[1] * 1j]
        values += (x * slope[0] + y * slope[1])[:, :, None]
    if rng.random() < 0.25:
        values = 255 - values
    if rng.random() < 0.4:
        values += rng.standard_normal(values.shape, np.float32) * float(rng.uniform(1, 9))
    picture = np.clip(values, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        picture = compressed(picture, int(rng.integers(40, 95)))
    return picture


def spoil_plate(photo: Pixels, rng: Rng, strength: float = 1.0) -> Pixels:
    """Do to a photo of a plate what light, lens, sensor and storage do.

    `strength` 0..1 scales how often and how much.
    """
    image = photo.astype(np.float32)
    height, width = image.shape[:2]
    if rng.random() < 0.35 * strength:
        image *= _shade(width, height, rng)
    if rng.random() < 0.12 * strength:
        image = _infrared(image, rng)
    elif rng.random() < 0.5 * strength:
        image *= np.exp(rng.normal(0, 0.08, 3)).astype(np.float32)
    contrast, shift = np.exp(rng.normal(0, 0.3 * strength)), rng.normal(0, 25 * strength)
    image = (image - 110) * contrast + 110 + shift
    if rng.random() < 0.15 * strength:
        image = image * rng.uniform(0.2, 0.6) + rng.uniform(0, 30)
    if rng.random() < 0.5 * strength:
        sigma = float(rng.uniform(0.3, 0.8 + width / 280))
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    if rng.random() < 0.22 * strength:
        image = _motion(image, rng)
    if rng.random() < 0.1 * strength:
        _glare(image, rng)
    if rng.random() < 0.5 * strength:
        noise = rng.normal(0, rng.uniform(2, 14), image.shape[:2] if rng.random() < 0.5 else image.shape)
        image += noise.astype(np.float32)[..., None] if noise.ndim == 2 else noise.astype(np.float32)
    result = np.clip(image, 0, 255).astype(np.uint8)
    if rng.random() < 0.6 * strength:
        result = compressed(result, int(rng.integers(18, 92)))
    return result


def _shade(width: int, height: int, rng: Rng) -> Floats:
    """Return a shadow's edge or uneven light, as a factor per pixel."""
    angle = rng.uniform(0, 2 * np.pi)
    x, y = np.meshgrid(
        np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    )
    distance = (
        x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle)) - np.float32(rng.uniform(-0.7, 0.7))
    )
    edge = 1 / (1 + np.exp(-distance * np.float32(rng.choice([2.0, 8.0, 30.0]))))
    low = np.float32(rng.uniform(0.3, 0.8))
    factor: Floats = (low + (1 - low) * edge)[..., None]
    return factor


def _infrared(image: Floats, rng: Rng) -> Floats:
    """Night: gray or one color, dark around the plate, which shines."""
    gray = image @ np.array([0.25, 0.45, 0.3], np.float32)
    gray = np.clip((gray - 90) * rng.uniform(0.6, 1.4) + rng.uniform(60, 150), 0, 255)
    tint = (
        np.array([1, 1, 1])
        if rng.random() < 0.6
        else np.array([[0.5, 1, 0.4], [1, 0.8, 0.75], [0.8, 0.8, 1]])[rng.integers(3)]
    )
    return np.asarray(gray[..., None] * tint.astype(np.float32), np.float32)


def _motion(image: Floats, rng: Rng) -> Floats:
    length = int(rng.integers(2, 3 + image.shape[1] // 40))
    kernel = np.zeros((length, length), np.float32)
    angle = rng.normal(0, 0.5) if rng.random() < 0.7 else rng.uniform(0, np.pi)
    center, reach = (length - 1) / 2, length / 2
    a = (round(center - reach * np.cos(angle)), round(center - reach * np.sin(angle)))
    b = (round(center + reach * np.cos(angle)), round(center + reach * np.sin(angle)))
    cv2.line(kernel, a, b, 1.0)
    return np.asarray(cv2.filter2D(image, -1, kernel / max(float(kernel.sum()), 1)), np.float32)


def _glare(image: Floats, rng: Rng) -> None:
    height, width = image.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    cx, cy, reach = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.05, 0.3) * width
    image += (np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * reach**2)) * rng.uniform(60, 220))[
        ..., None
    ].astype(np.float32)
