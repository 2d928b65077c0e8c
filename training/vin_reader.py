"""The VIN reader: PP-OCRv6 small's body with a 33-character CTC head, on real and rendered lines.

``lines`` writes WORK/lines.jsonl: where each line lies and what it says. The labeled boxes are upright
rectangles around lines that may be tilted, and most have no text, so the newest net is asked: for a line with
text the corners under which the text is likeliest, for one without also its text, kept where several cuts
agree (``pseudo``). The next training has lines of its own, which the net of this one labels.
"""

from __future__ import annotations

import json
import math
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from carsight import ctc
from carsight.runtime import session
from carsight.vin import rules as vin_rules
from carsight.vin.line_reader import WIDTH, Doubles, LineReader, LineReading, cut, decode, text_probabilities
from carsight.vin.rules import ALPHABET
from training import ppocr
from training.camera import farther, spoil_line
from training.config import VinReaderConfig
from training.data import Pixels, read_image, read_labels
from training.loop import ConfigOf, Figures, Task
from training.model_files import describe
from training.render_vins import Floats, Rng, jittered, photograph_line


@dataclass(frozen=True)
class Line:
    """A real line: ``corners`` (4 x 2, pixels of ``image``) in reading order, ``text``, and who read it."""

    image: str
    split: str
    kind: str
    corners: list[list[float]]
    text: str
    source: str
    """"label", "unsure" (a label that is partly a guess) or "pseudo"."""
    score: float


# -- lines ---------------------------------------------------------------------------------------------------


def possible_corners(box: Sequence[float]) -> list[Floats]:
    """Return the corners that a VIN line inside the upright ``box`` may have.

    Level, and where the box is too high for a level line, tilted either way so that a line of common
    proportions just fits. A box higher than wide is read downwards.
    """
    x0, y0, x1, y1 = box
    width, height = x1 - x0, y1 - y0
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])

    def quad(length: float, tall: float, angle: float) -> Floats:
        along = np.array([math.cos(angle), math.sin(angle)]) * length / 2
        down = np.array([-math.sin(angle), math.cos(angle)]) * tall / 2
        return np.array(
            [middle - along - down, middle + along - down, middle + along + down, middle - along + down],
            np.float32,
        )

    long, short = max(width, height), min(width, height)
    upright = 0.0 if width >= height else math.pi / 2
    quads = [quad(long, short, upright)]
    for ratio in (11.0,) if long > 4 * short else (8.0, 13.0):
        angles = np.linspace(0.01, math.pi / 4, 80)
        fits = (np.sin(angles) + np.cos(angles) / ratio) / (np.cos(angles) + np.sin(angles) / ratio)
        angle = float(angles[min(int(np.searchsorted(fits, short / long)), len(angles) - 1)])
        if angle > 0.05:
            length = long / (math.cos(angle) + math.sin(angle) / ratio)
            quads += [quad(length, length / ratio, upright + sign * angle) for sign in (1, -1)]
    return quads


@torch.no_grad()
def probabilities(reader: ppocr.Reader, crops: Sequence[Pixels]) -> Doubles:
    """Return the net's CTC output for crops (B x T x 34, rows sum to 1)."""
    with torch.autocast("cpu", torch.bfloat16, enabled=False):
        logits, _ = reader(ppocr.to_input(crops))
    return ctc.softmax(logits.double().numpy())


def read_lines(reader: ppocr.Reader, data: Path, seed: int) -> Iterator[Line]:
    """Yield every labeled VIN line of ``data`` that has or can be given a text."""
    rng = np.random.default_rng(seed)
    for label in sorted(read_labels(data), key=lambda label: not any(v.get("text") for v in label["vins"])):
        pixels: Pixels | None = None
        for vin in label["vins"]:
            if not vin.get("box") or vin.get("box_approx"):
                continue
            if pixels is None:
                pixels = read_image(data / label["image"])
            quads = possible_corners(vin["box"])
            matrices = probabilities(reader, [cut(pixels, q) for q in quads])
            readings = decode(matrices, 4)
            if max(_certainty(reading) for reading in readings) < 0.02:  # upside down?
                quads += [q[[2, 3, 0, 1]] for q in quads]
                matrices = np.concatenate(
                    [matrices, probabilities(reader, [cut(pixels, q) for q in quads[len(quads) // 2 :]])]
                )
                readings = decode(matrices, 4)
            common = {"image": label["image"], "split": label["split"], "kind": label["kind"]}
            if vin.get("text"):
                fits = [float(text_probabilities(m, [vin["text"]])[0]) for m in matrices]
                best = int(np.argmax(fits))
                source = "unsure" if vin.get("unsure") else "label"
                yield Line(
                    **common, corners=quads[best].tolist(), text=vin["text"], source=source, score=fits[best]
                )
                continue
            best = max(range(len(quads)), key=lambda i: _certainty(readings[i]))
            if _certainty(readings[best]) < 0.1:
                continue
            again = [cut(pixels, jittered(quads[best], rng, 0.4)) for _ in range(2)]
            views = [readings[best], *decode(probabilities(reader, again), 4)]
            text = views[0].texts[0][0] if views[0].texts else ""
            agree = [v for v in views if v.texts and v.texts[0][0] == text]
            score = float(np.mean([_certainty(v) for v in agree])) if agree else 0.0
            checked = vin_rules.is_valid(text) if text else False
            enough = len(agree) == len(views) and (
                (checked and score > 0.3) or score > 0.85 or (vin_rules.known_maker(text) and score > 0.7)
            )
            if text and enough and not (vin_rules.check_applies(text) and not checked):
                yield Line(**common, corners=quads[best].tolist(), text=text, source="pseudo", score=score)


def _certainty(reading: LineReading) -> float:
    return reading.share * reading.texts[0][1] if reading.texts else 0.0


# -- samples -------------------------------------------------------------------------------------------------


class Samples:
    """Draws training lines: real ones, so that rare makers are not drowned, and rendered ones."""

    def __init__(self, data: Path, lines: Sequence[Line], rng: Rng, config: VinReaderConfig) -> None:
        self._rng = rng
        self._share, self._far, self._struck = config.real, config.far, config.struck
        self._lines = list(lines)
        self._parts: list[tuple[Pixels, Floats]] = []
        makers: dict[str, int] = {}
        for line in self._lines:
            makers[line.text[:3]] = makers.get(line.text[:3], 0) + 1
            pixels, corners = read_image(data / line.image), np.array(line.corners, np.float32)
            margin = float(np.hypot(*(corners[3] - corners[0]))) * 1.5 + 4
            x0, y0 = np.maximum(corners.min(axis=0) - margin, 0).astype(int)
            x1, y1 = (corners.max(axis=0) + margin).astype(int)
            self._parts.append((pixels[y0:y1, x0:x1].copy(), corners - np.array((x0, y0), np.float32)))
        trust = {"label": 2.0, "unsure": 0.7, "pseudo": 1.0}
        weights = np.array([trust[line.source] * makers[line.text[:3]] ** -0.35 for line in self._lines])
        self._weights = weights / weights.sum()

    def real(self) -> tuple[Pixels, str]:
        """Return a real line, photographed anew, and its text."""
        pixels, corners, text = self.real_line()
        return self._crop(pixels, corners, text), text

    def real_line(self) -> tuple[Pixels, Floats, str]:
        """Return a real line's surroundings, photographed anew, its corners and its text."""
        index = int(self._rng.choice(len(self._lines), p=self._weights))
        pixels, corners = self._parts[index]
        return spoil_line(pixels, self._rng), corners, self._lines[index].text

    def rendered(self, kind: str | None = None) -> tuple[Pixels, str]:
        """Return a rendered line, on one of ``render_vins.KINDS`` if given, and its text."""
        pixels, corners, text = photograph_line(self._rng, kind=kind)
        return self._crop(pixels, corners, text), text

    def _crop(self, pixels: Pixels, corners: Floats, text: str) -> Pixels:
        if self._rng.random() < self._far:
            pixels, corners = farther(pixels, corners, len(text), self._rng)
        return cut(pixels, jittered(corners, self._rng))

    def batch(self, size: int) -> tuple[list[Pixels], list[str]]:
        """Return ``size`` lines and their texts."""
        pairs = [self._draw() for _ in range(size)]
        return [pixels for pixels, _ in pairs], [text for _, text in pairs]

    def _draw(self) -> tuple[Pixels, str]:
        if self._struck and self._rng.random() < self._struck:
            return self.rendered("stamped")
        return self.real() if self._rng.random() < self._share else self.rendered()


def best_cut(data: Path, line: Line) -> Pixels:
    """Return ``line`` cut out by the best corners that are known of it."""
    return cut(read_image(data / line.image), np.array(line.corners, np.float32))


# -- the tasks -----------------------------------------------------------------------------------------------

BatchOf = TypeVar("BatchOf")


class LineReaderTask(Task[ConfigOf, BatchOf], Generic[ConfigOf, BatchOf]):
    """What the readers of VIN lines have in common: the labeled lines, and how they are measured on these."""

    centered: ClassVar[bool] = False
    """Whether its models take floats of -1..1 rather than 0..1."""

    @property
    def folder(self) -> Path:
        """The folder of the labeled VIN photos."""
        return self.data / "vin"

    def labeled(self, split: str) -> list[Line]:
        """Return the lines that ``vin-reader lines`` has found; for validation those with a sure text."""
        lines = [line for line in load_lines(self.work) if line.split == split]
        return [line for line in lines if split == "train" or line.source == "label"]

    @abstractmethod
    def read(self, net: nn.Module, crops: Sequence[Pixels]) -> Doubles:
        """Return the CTC output of ``net`` for crops (B x T x 34, rows sum to 1)."""

    def figures(self, net: nn.Module) -> Figures:
        """Return the share of lines that ``net`` reads right by itself, by kind: corners as a detector's."""
        net.eval()
        rng = np.random.default_rng(0)
        right: dict[str, list[bool]] = {}
        for line in self.validation:
            corners = jittered(np.array(line.corners, np.float32), rng)
            crop = cut(read_image(self.folder / line.image), corners)
            texts = decode(self.read(net, [crop]), 1)[0].texts
            hit = bool(texts) and texts[0][0] == line.text
            right.setdefault(line.kind, []).append(hit)
            right.setdefault("all", []).append(hit)
        return {kind: round(float(np.mean(hits)), 4) for kind, hits in sorted(right.items())}

    def judge(self, model: Path) -> Figures:
        """Measure production's reader with ``model`` alone, on the best corners that are known."""
        reader = LineReader(session(model), centered=self.centered)
        right, spent = [], 0.0
        for line in self.validation:
            crop = best_cut(self.folder, line)
            began = time.process_time()
            texts = reader.read([crop])[0].texts
            spent += time.process_time() - began
            right.append(bool(texts) and texts[0][0] == line.text)
        count = max(len(right), 1)
        return {
            "lines": len(right),
            "right": round(sum(right) / count, 4),
            "cpu_ms": round(spent / count * 1000, 1),
        }


Batch = tuple[list[Pixels], list[str]]


class VinReaderTask(LineReaderTask[VinReaderConfig, Batch]):
    """Reads the line that may be a VIN."""

    centered = True

    def label_lines(self, start: Path | None, seed: int) -> None:
        """Label the lines that this folder's training learns from, with the net of ``start``."""
        torch.set_num_threads(self.config.threads)
        self.work.mkdir(parents=True, exist_ok=True)
        found: dict[str, int] = {}
        reader = self.net()
        if start is not None:
            self.begin_with(reader, start)
        with (self.work / _LINES).open("w", encoding="utf-8", buffering=1) as file:
            for line in read_lines(reader.eval(), self.folder, seed):
                file.write(json.dumps(asdict(line)) + "\n")
                found[line.source] = found.get(line.source, 0) + 1
        print(found)

    def net(self) -> ppocr.Reader:
        """Return PP-OCR's body with a head for the alphabet of VINs."""
        return ppocr.Reader(ALPHABET)

    def prepare(self, net: nn.Module) -> list[dict[str, Any]]:
        """Round the weights as INT8 will hold them, and leave the first layers alone."""
        assert isinstance(net, ppocr.Reader)
        return [{"params": [*net.body.prepare(), *net.head.parameters()], "share": 1.0}]

    def batches(self, rng: np.random.Generator, size: int) -> Iterator[Batch]:
        """Yield crops of lines and their texts."""
        samples = Samples(self.folder, self.training, rng, self.config)
        while True:
            yield samples.batch(self.config.batch)

    def images(self, batch: Batch) -> Tensor:
        """Return the crops."""
        return ppocr.to_input(batch[0])

    def loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of the texts."""
        return {"text": ppocr.ctc_loss(outputs[0], batch[1], ALPHABET)}

    def read(self, net: nn.Module, crops: Sequence[Pixels]) -> Doubles:
        """Return the net's CTC output."""
        assert isinstance(net, ppocr.Reader)
        return probabilities(net, crops)

    def write(self, net: nn.Module, path: Path) -> None:
        """Write ``net``."""
        ppocr.export(net, path, WIDTH)
        describe(path, METADATA)

    def quantize(self, exact: Path, out: Path) -> None:
        """Quantize with the ranges of training lines; ``evaluate_vins`` calibrates."""
        chosen = np.random.default_rng(0).permutation(len(self.training))[:300]
        ppocr.quantize_reader(exact, out, [best_cut(self.folder, self.training[i]) for i in chosen])
        describe(out, METADATA)

    def recovered(self, model: Path) -> nn.Module:
        """Return the net of ``model``."""
        net, _ = ppocr.recovered(model, ALPHABET)
        return net


class HardVinReaderTask(VinReaderTask):
    """Reads what the VIN reader leaves in doubt: the same net, taught struck metal first of all.

    It begins with the VIN reader, or one that has learned lines from far. All but its very first layers
    learn, and its weights are not rounded as it does; in INT8 it reads as many lines as in floats.
    """

    def prepare(self, net: nn.Module) -> list[dict[str, Any]]:
        """Leave the very first layers alone."""
        assert isinstance(net, ppocr.Reader)
        for name, parameter in net.body.named_parameters():
            parameter.requires_grad_(not name.startswith("stem"))
        return [{"params": [each for each in net.parameters() if each.requires_grad], "share": 1.0}]


_LINES = "lines.jsonl"
METADATA = {
    "alphabet": ALPHABET,
    "license": "Apache-2.0; fine-tuned from PP-OCRv6 small (PaddleOCR, Apache-2.0)",
    "calibration": json.dumps({"slope": 1.0, "offset": 0.0}),
    "threshold": "0.9",
}
"""What a new model says of itself; its calibration is ``evaluate_vins``'s to fit."""


def load_lines(work: Path) -> list[Line]:
    """Return what ``lines`` wrote."""
    return [
        Line(**json.loads(row))
        for row in (work / _LINES).read_text(encoding="utf-8").splitlines()
        if row.endswith("}")
    ]
