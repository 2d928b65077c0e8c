"""The lean VIN reader (training/lean.py), taught by the VIN reader it is derived from.

A teacher can tell what it would read if the same line were larger, which no label can. So a part of the
crops are lines as a more distant camera would have stored them, whose target is the teacher's answer to the
original: where the remaining pixels are ambiguous, the net learns how often each reading is right. The other
crops are what the recognizer cuts out of photos, with the teacher's answer to the same crop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from carsight import ctc, runtime
from carsight.vin.line_reader import HEIGHT, WIDTH, Doubles, cut, cut_enlarged
from carsight.vin.rules import ALPHABET
from training import lean, ppocr
from training.camera import compressed, farther
from training.config import SMALL_VIN_READER, LeanVinReaderConfig
from training.data import Pixels
from training.model_files import describe
from training.render_vins import jittered, photograph_line
from training.small_vin_reader import Lesson, SmallVinReaderTask, clear_texts, relit
from training.vin_reader import METADATA, LineReaderTask, Samples

HIDDEN = (160, 160, 160, 192, 320, 320, 320, 320, 320, 320, 320, 512, 512)
"""Hidden units of each block: of the VIN reader's 192, 384 and 768."""


class Crop(NamedTuple):
    """A crop, the teacher's view of the same line, and its text if known, else ""."""

    pixels: Pixels
    clear: Pixels
    text: str


class Lit(NamedTuple):
    """A batch of relit crops (N, 3, 48, 384), 0..1."""

    pixels: Tensor
    clear: Tensor
    texts: list[str]


class Drawing:
    """Draws crops of the small VIN reader's pool, and distant lines."""

    def __init__(
        self, pool: Iterator[Lesson], lines: Samples, rng: np.random.Generator, config: LeanVinReaderConfig
    ) -> None:
        self._pool = pool
        self._lines = lines
        self._rng = rng
        self._config = config

    def batch(self, size: int) -> Lit:
        """Return ``size`` crops; both views of one are relit alike."""
        pixels, clear, texts = zip(*self.crops(size), strict=True)
        lit = torch.from_numpy(relit(np.concatenate([np.stack(pixels), np.stack(clear)], axis=2), self._rng))
        lit = lit.permute(0, 3, 1, 2)
        return Lit(
            lit[..., :WIDTH].contiguous(memory_format=torch.channels_last),
            lit[..., WIDTH:].contiguous(memory_format=torch.channels_last),
            list(texts),
        )

    def crops(self, size: int) -> list[Crop]:
        """Return ``size`` crops, distant lines first."""
        lines = round(size * self._config.smaller)
        return [self.line() for _ in range(lines)] + [self.sent() for _ in range(size - lines)]

    def line(self) -> Crop:
        """Return a distant line, as the recognizer cuts small text."""
        real = self._rng.random() < self._config.real
        pixels, corners, text = self._lines.real_line() if real else photograph_line(self._rng)
        corners = jittered(corners, self._rng)
        clear = cut(pixels, corners)
        pixels, corners = farther(pixels, corners, len(text), self._rng)
        kind = self._rng.random()
        if kind < 0.5:
            return Crop(cut(pixels, corners), clear, text)
        return Crop(cut_enlarged(pixels, corners, 0.05, 0.33, 0.35 if kind < 0.8 else 0.25), clear, text)

    def sent(self) -> Crop:
        """Return a crop of the pool, slightly skewed, one in four at low resolution; none in lower case."""
        lesson = next(lesson for lesson in self._pool if not lesson.texts[0])
        pixels = self.askew(lesson.pixels[0])
        (text,) = clear_texts(lesson)
        if text and self._rng.random() < 0.25:
            return Crop(self.shrunk(pixels), pixels, text)
        return Crop(pixels, pixels, text)

    def askew(self, crop: Pixels) -> Pixels:
        """Return ``crop`` shifted, stretched and tilted by a few percent, as other corners would have it."""
        middle = np.array([WIDTH / 2, HEIGHT / 2])
        scales = np.exp(self._rng.normal(0, 0.03, 2))
        turn = np.diag(scales) + np.array([[0, self._rng.normal(0, 0.06)], [self._rng.normal(0, 0.006), 0]])
        shift = middle - turn @ middle + self._rng.normal(0, 1, 2) * (4, 1.1)
        matrix = np.column_stack([turn, shift])
        return np.asarray(
            cv2.warpAffine(crop, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE), np.uint8
        )

    def shrunk(self, crop: Pixels) -> Pixels:
        """Return ``crop`` downsampled to 4.5 to 8.5 pixels per character."""
        zoom = float(np.exp(self._rng.uniform(np.log(4.5), np.log(8.5)))) / _PITCH
        small = cv2.resize(
            crop, (round(WIDTH * zoom), max(8, round(HEIGHT * zoom))), interpolation=cv2.INTER_AREA
        )
        if self._rng.random() < 0.8:
            small = compressed(np.asarray(small, np.uint8), int(self._rng.integers(55, 96)))
        return np.asarray(cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)


_PITCH = 20.5
"""Pixels per character of a VIN in a crop."""


class LeanVinReaderTask(LineReaderTask[LeanVinReaderConfig, Lit]):
    """Reads lines as the VIN reader at ``--start`` does, and small ones as it reads them at full size.

    ``WORK/pool`` and ``WORK/lines.jsonl`` are those of the small VIN reader.
    """

    config: LeanVinReaderConfig

    @cached_property
    def teacher(self) -> lean.Teacher:
        """The VIN reader to learn from."""
        return lean.Teacher(lean.read_reader(self.config.teacher or self.config.start, ALPHABET))

    def net(self) -> lean.LeanReader:
        """Return the net, with weights to come."""
        return lean.LeanReader(ALPHABET, None, HIDDEN)

    def begin_with(self, net: nn.Module, checkpoint: Path) -> None:
        """Load a lean reader's weights into ``net``, or derive them from a VIN reader's."""
        assert isinstance(net, lean.LeanReader)
        lean.begin(net, checkpoint, lambda: self.teacher.reader, lambda: self._crops(64))

    def prepare(self, net: nn.Module) -> list[dict[str, Any]]:
        """Round the weights as INT8 will, and freeze the stem."""
        assert isinstance(net, lean.LeanReader)
        return [{"params": [*net.body.prepare(), *net.head.parameters()], "share": 1.0}]

    def batches(self, rng: np.random.Generator, size: int) -> Iterator[Lit]:
        """Yield batches, distant lines first."""
        drawing = self._drawing(rng)
        while True:
            yield drawing.batch(self.config.batch)

    def _drawing(self, rng: np.random.Generator) -> Drawing:
        pool = SmallVinReaderTask(self.data, self.work, SMALL_VIN_READER).stream(rng, 1)
        return Drawing(pool, Samples(self.folder, self.training, rng, self.config), rng, self.config)

    def images(self, batch: Lit) -> Tensor:
        """Return the crops."""
        return batch.pixels

    def loss(self, outputs: Any, batch: Lit) -> dict[str, Tensor]:
        """Return the losses against the teacher and against known texts."""
        terms = self.teacher.terms(outputs, batch.clear, self.config.hint_weight)
        known = [i for i, text in enumerate(batch.texts) if text]
        if known:
            texts = [batch.texts[i] for i in known]
            terms["text"] = self.config.text_weight * ppocr.ctc_loss(outputs[0][known], texts, ALPHABET)
        return terms

    @torch.no_grad()
    def read(self, net: nn.Module, crops: Sequence[Pixels]) -> Doubles:
        """Return the net's CTC output."""
        logits, _ = net(torch.from_numpy(runtime.floats(crops)))
        return ctc.softmax(logits.double().numpy())

    def write(self, net: nn.Module, path: Path) -> None:
        """Write ``net``."""
        ppocr.export(net, path, WIDTH)
        describe(path, METADATA)

    def quantize(self, exact: Path, out: Path) -> None:
        """Quantize with the ranges of the pool's crops and of small lines; ``evaluate_vins`` calibrates."""
        lean.quantize_reader(exact, out, self._crops(300))
        describe(out, METADATA)

    def recovered(self, model: Path) -> nn.Module:
        """Return the net of ``model``."""
        net, _ = lean.recovered(model)
        return net

    def _crops(self, count: int) -> list[Pixels]:
        """Return training crops before they are relit."""
        rng = np.random.default_rng(0)
        drawing = self._drawing(rng)
        return [crop.pixels for crop in drawing.crops(count)]
