"""The reader of lower case: the small VIN reader, taught lines in lower case as screens and papers show them.

Nothing on a vehicle is printed in lower case, so the small one has seen few such lines, and takes l for 1 and
b for 6. This one is taught by drawn lines alone, cut as the recognizer cuts them: around the corners that the
detector gives, or condensed from a line of print.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from carsight.runtime import session
from carsight.vin.line_reader import LineReader, cut, decode
from carsight.vin.rules import ALPHABET, LENGTH
from carsight.vin.text_lines import set_close
from carsight.vin.views import View
from training.data import Pixels
from training.loop import Figures
from training.render_screens import Screen, draw_screen
from training.small_vin_reader import Lesson, SmallReader, SmallVinReaderTask

Rng = np.random.Generator
Floats = NDArray[np.float32]

_CUTS = 4
"""How many crops are cut from one drawn screen."""

_FROZEN = 3
"""How many of the first layers stay as they are; a step then takes two thirds of the time."""

_STEPS = 48
"""How many time steps the net has."""

_LONGEST = 30
"""The most characters in a crop; more are not legible."""

_VALIDATION = 400
"""How many drawn VINs are read to measure a net."""

_MARGINS = (0.02, 0.09), (0.2, 0.5), (0.35, 0.95)
"""Ranges of the margins of a cut (see ``line_reader.grown``)."""

_FOLDED = str.maketrans("IOQ", "100")


class LowerVinReaderTask(SmallVinReaderTask):
    """Reads lines in lower case; ``start`` is the small VIN reader. It needs neither photos nor a pool."""

    def prepare(self, net: nn.Module) -> list[dict[str, Any]]:
        """Round the weights as INT8 will hold them, and leave the first layers, which see strokes, alone."""
        groups = super().prepare(net)
        assert isinstance(net, SmallReader)
        for layer in net.body[:_FROZEN]:
            layer.requires_grad_(False)
        return [
            {**group, "params": [each for each in group["params"] if each.requires_grad]} for group in groups
        ]

    def stream(self, rng: Rng, size: int) -> Iterator[Lesson]:
        """Yield drawn crops with their texts, ``size`` at a time."""
        while True:
            crops: list[tuple[Pixels, str]] = []
            while len(crops) < size:
                screen = draw_screen(rng)
                cuts = [crop(screen, rng) for _ in range(_CUTS)]
                crops += [each for each in cuts if 0 < len(each[1]) <= _LONGEST]
            pixels, texts = zip(*crops[:size], strict=True)
            untaught = np.zeros((size, _STEPS, 1 + len(ALPHABET)), np.float16)
            yield Lesson(np.stack(pixels), untaught, np.array(texts))

    @cached_property
    def held_out(self) -> list[tuple[Pixels, str]]:
        """Crops of VINs alone, with their texts, in fonts that are not taught."""
        rng = np.random.default_rng(12345)
        found: list[tuple[Pixels, str]] = []
        while len(found) < _VALIDATION:
            pixels, text = crop(draw_screen(rng, held_out=True), rng)
            found += [(pixels, text)] if len(text) == LENGTH else []
        return found

    def figures(self, net: nn.Module) -> Figures:
        """Return the share of the VINs held out that ``net`` reads right."""
        net.eval()
        read = [decode(self.read(net, [pixels]), 1)[0].greedy for pixels, _ in self.held_out]
        return {"right": self._right(read)}

    def judge(self, model: Path) -> Figures:
        """Return the share of the VINs held out that the reader ``model`` reads right, and its time."""
        reader = LineReader(session(model), centered=False)
        began = time.process_time()
        read = [reader.read([pixels])[0].greedy for pixels, _ in self.held_out]
        spent = time.process_time() - began
        return {"right": self._right(read), "cpu_ms": round(spent / len(read) * 1000, 1)}

    def _right(self, read: list[str]) -> float:
        hits = [text == wanted for text, (_, wanted) in zip(read, self.held_out, strict=True)]
        return round(float(np.mean(hits)), 4)


def crop(screen: Screen, rng: Rng) -> tuple[Pixels, str]:
    """Return a crop (48 x 384 x 3) of the line of ``screen``, or of its VIN alone, and what it says."""
    parts = screen.parts if rng.random() < 0.3 else screen.parts[1:2]
    signs = "".join(part for part, _ in parts).upper().translate(_FOLDED)
    text = "".join(sign for sign in signs if sign in ALPHABET)
    (a, _, _, d), (_, b, c, _) = parts[0][1], parts[-1][1]
    corners = np.stack([a, b, c, d])
    if rng.random() < 0.4:
        margins = (float(rng.uniform(*each)) for each in _MARGINS)
        return cut(screen.pixels, _as_found(corners, rng), *margins), text
    return set_close(View(screen.pixels, np.eye(3)), _as_print(corners, rng)).crop(), text


def _as_found(corners: Floats, rng: Rng) -> Floats:
    """Return ``corners`` as the detector gives them: it leaves ascenders and descenders out."""
    top, foot = float(rng.normal(0.09, 0.12)), float(rng.normal(-0.11, 0.1))
    return _moved(corners, (rng.normal(0, 0.02), rng.normal(0, 0.02)), (top, foot), rng)


def _as_print(corners: Floats, rng: Rng) -> Floats:
    """Return ``corners`` as a line of print has them, which is as high as its highest and lowest stroke."""
    top = rng.uniform(-0.3, 0.02)
    foot = rng.uniform(0.2, 0.52) if rng.random() < 0.75 else rng.uniform(0.0, 0.14)
    return _moved(corners, (rng.uniform(-0.012, 0.003), rng.uniform(-0.003, 0.012)), (top, foot), rng)


def _moved(corners: Floats, ends: tuple[float, float], levels: tuple[float, float], rng: Rng) -> Floats:
    """Return ``corners`` with ``ends`` moved to the right, in lengths, and ``levels`` down, in heights."""
    along, down = corners[1] - corners[0], corners[3] - corners[0]
    lean = down * np.float32(rng.normal(0, 0.04))
    left, right = (along * np.float32(end) for end in ends)
    above, below = (down * np.float32(level) for level in levels)
    return np.stack(
        [
            corners[0] + left + above - lean,
            corners[1] + right + above + lean,
            corners[2] + right + below + lean,
            corners[3] + left + below - lean,
        ]
    )
