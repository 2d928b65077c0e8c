"""VINs: a photo in, the number out, from its text line, its barcode, or both.

``VinRecognizer.read`` finds lines that may be a VIN, reads each as 17 characters, weights the readings by
what is known about VINs, looks for barcodes that confirm or correct them, and returns only what is
sufficiently certain: a wrong VIN does more harm than none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from carsight import runtime
from carsight.detector import Detector, DetectorTuning
from carsight.geometry import Pixels
from carsight.photo import PhotoSource, open_photo
from carsight.vin.line_reader import LineReader
from carsight.vin.ranking import CheckDigit, RankedCode, RankedLine, Repair, VinCandidate, weigh
from carsight.vin.search import Search
from carsight.vin.tuning import VinTuning
from carsight.vin.views import View, components

if TYPE_CHECKING:
    from carsight.refusal import Refusal

__all__ = ["CheckDigit", "Repair", "VinCandidate", "VinRecognizer", "VinResult", "VinTuning"]


@dataclass(frozen=True, slots=True)
class VinResult:
    """The VINs of a photo, best first; there are none if no reading is certain enough."""

    candidates: tuple[VinCandidate, ...]
    text_found: bool
    """Whether the photo shows text or a code."""
    refusal: Refusal | None = None
    """Why there is no candidate; None if there is one."""


@dataclass(eq=False, slots=True)
class VinRecognizer:
    """Reads the VIN of a photo. Created once per process; safe to call from many threads.

    It searches with ``near``, and closer with ``far``, which sees the photo at about twice the size.
    ``small`` reads every line first, and its calibration turns probabilities into confidences. ``reader()``
    is the VIN reader, for lines that ``small`` is not sure of, ``hard()`` the reader of hard lines, for lines
    that are still in doubt, and ``lower()`` that of lower case; each may be None.
    """

    near: Detector
    far: Detector
    small: LineReader
    tuning: VinTuning = field(default_factory=VinTuning)
    reader: Callable[[], LineReader] | None = None
    hard: Callable[[], LineReader] | None = None
    lower: Callable[[], LineReader] | None = None

    @property
    def threshold(self) -> float:
        """The lowest confidence of an answer."""
        given = self.tuning.threshold
        return self.small.threshold if given is None else given

    @classmethod
    def load(cls, models: Path = runtime.MODELS, tuning: VinTuning | None = None) -> VinRecognizer:
        """Open the models in the folder ``models``. Raises as ``PlateRecognizer.load`` does."""
        tuning = tuning or VinTuning()
        session = runtime.session(models / "vin_detector.onnx")
        near, far = (
            Detector(session, DetectorTuning.for_lines(*each))
            for each in zip(tuning.sides, tuning.scores, tuning.lines, strict=True)
        )
        small = LineReader(runtime.session(models / "vin_reader_small.onnx"), centered=False)
        reader = runtime.once(lambda: LineReader(runtime.session(models / "vin_reader.onnx")))
        hard = runtime.once(lambda: LineReader(runtime.session(models / "vin_reader_hard.onnx")))
        lower = runtime.once(
            lambda: LineReader(runtime.session(models / "vin_reader_lower.onnx"), centered=False)
        )
        return cls(near, far, small, tuning, reader, hard, lower)

    def read(self, image: PhotoSource) -> VinResult:
        """Read the VINs of ``image``, usually one.

        ``image`` is a file's path or bytes, its pixels (height x width x 3, BGR, uint8), or a decoded photo.

        Raises:
            ImageError: ``image`` is not a photo that can be read.
            OSError: The file cannot be opened.
        """
        photo = open_photo(image)
        search = Search(self, photo)
        search.run()
        finds = search.finds
        lines = [
            RankedLine(
                line.reading,
                line.ranked,
                search.box(line.corners),
                pooled=line.hard or line.lower_case or finds.readers.is_small(line),
            )
            for line in finds.lines
        ]
        codes = [RankedCode(code, search.box(code.corners)) for code in search.codes]
        found = weigh(lines, codes, finds.odds, self.small.calibration)
        seen = bool(lines or codes) or shows_text(search.view.pixels)
        if found and found[0].confidence >= self.threshold:
            kept = [c for i, c in enumerate(found[:5]) if i == 0 or c.confidence >= self.tuning.least]
            return VinResult(tuple(kept), seen)
        from carsight.refusal import Refusal  # not needed for most photos, which have an answer

        if found and found[0].confidence >= self.tuning.doubtful:
            return VinResult((), seen, Refusal("not_sure", found[0].confidence, self.threshold))
        return VinResult((), seen, Refusal("no_vin", len({line.box for line in lines}) + len(codes)))


def shows_text(pixels: Pixels) -> bool:
    """Return whether ``pixels`` show anything like a line of writing: a row of strokes, longer than high.

    This only decides between two refusals, so a cheap test of shapes is enough.
    """
    gray = View(pixels, np.eye(3)).gray().zoomed(min(1.0, 640 / max(pixels.shape[:2]))).pixels
    edges = cv2.morphologyEx(gray, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    _, strong = cv2.threshold(edges, max(30.0, float(edges.mean()) * 2.5), 255, cv2.THRESH_BINARY)
    for kernel in ((9, 1), (1, 9)):
        joined = cv2.morphologyEx(strong, cv2.MORPH_CLOSE, np.ones(kernel[::-1], np.uint8))
        _, stats = components(np.asarray(joined, np.uint8))
        for _, _, width, height, area in stats[1:].tolist():
            long, short = max(width, height), min(width, height)
            if short >= 5 and long >= 4 * short and 0.45 * width * height < area:
                return True
    return False
