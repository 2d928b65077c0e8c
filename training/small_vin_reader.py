"""The small VIN reader: plain convolutions for easy lines, taught by the VIN reader.

Its answer is accepted where it is sure; otherwise the VIN reader is asked (carsight.vin.recognizer).
Distillation per time step (training/small_readers.py) is not enough here: the large reader places characters
with the whole line in view, and a net without that view stays unsure where each begins. So for lines that the
large one reads clearly the text itself is learned too, by CTC.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from carsight import ctc, runtime
from carsight.photo import Photo
from carsight.vin.line_reader import HEIGHT, WIDTH, Doubles, LineReader, cut
from carsight.vin.recognizer import VinRecognizer, VinTuning
from carsight.vin.rules import ALPHABET
from training import render_vins
from training.camera import retaken
from training.config import SmallVinReaderConfig
from training.data import Pixels, read_image, read_labels
from training.loop import Figures
from training.model_files import describe
from training.nets import Conv
from training.small_readers import CROPS_A_FILE, Lesson, SmallReaderTask
from training.vin_reader import Line, Samples, judged, labeled_lines, validate


class SmallReader(nn.Module):
    """Images (B, 3, 48, 384), BGR 0..1, to CTC logits (B, 48, 34)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            Conv(3, 24, 2),
            Conv(24, 32),
            Conv(32, 64, 2),
            Conv(64, 64),
            Conv(64, 64),
            Conv(64, 112, 2),
            Conv(112, 112),
            Conv(112, 112),
            Conv(112, 144, (2, 1)),
            Conv(144, 144),
            Conv(144, 192, 1, 3, (0, 1)),
            Conv(192, 192, 1, (1, 5)),
            Conv(192, 192, 1, (1, 5)),
        )
        self.head = nn.Conv2d(192, 1 + len(ALPHABET), 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.head(self.body(images)).flatten(2).transpose(1, 2)
        return logits


class Noting(LineReader):
    """A reader that records every crop it is given, with its output."""

    def __init__(self, model: Path) -> None:
        super().__init__(runtime.session(model))
        self.noted: list[tuple[Pixels, Doubles]] = []

    def _probabilities(self, crops: Any) -> Doubles:
        found = super()._probabilities(crops)
        self.noted.extend(zip(crops, found, strict=True))
        return found


class SmallVinReaderTask(SmallReaderTask[SmallVinReaderConfig, Lesson]):
    """Reads easy lines as the VIN reader would."""

    command = "small-vin-reader"
    lesson = Lesson
    outputs = ("logits",)
    crop = (HEIGHT, WIDTH)
    teacher = runtime.MODELS / "vin_reader.onnx"

    @property
    def _folder(self) -> Path:
        return self.data / "vin"

    def labeled(self, split: str) -> list[Line]:
        """Return the lines that ``vin-reader lines`` has found; for validation those with a sure text."""
        return labeled_lines(self.work, split)

    def net(self) -> SmallReader:
        """Return the net with random weights."""
        return SmallReader()

    def lessons(self, rng: np.random.Generator) -> Iterator[Lesson]:
        """Yield crops: half as the recognizer cuts them from training photos, half labeled or drawn lines.

        The photos are varied as people send them, so the crops include other text, upside-down and clipped
        lines. One line in sixteen is drawn in lower case, which the large reader often misreads: there the
        text is the target, not its output.
        """
        cv2.setNumThreads(0)
        reader = Noting(self.teacher)
        shipped = VinRecognizer.load(tuning=VinTuning(barcodes=False))
        recognizer = VinRecognizer(shipped.near, shipped.far, reader, shipped.tuning)
        photos = read_labels(self._folder, "train")
        lines = Samples(self._folder, self.training, rng, self.config)
        while True:
            reader.noted.clear()
            while len(reader.noted) < CROPS_A_FILE // 2:
                self._read_photo(recognizer, photos[int(rng.integers(len(photos)))], rng)
            count = CROPS_A_FILE - len(reader.noted)
            lower = count // 16
            crops, _ = lines.batch(count - lower) if count > lower else ([], [])
            for start in range(0, len(crops), 16):
                reader.read(crops[start : start + 16], 1)
            noted = [(crop, np.log(np.maximum(matrix, 1e-6)), "") for crop, matrix in reader.noted]
            blank = np.zeros_like(noted[0][1])
            noted += [(crop, blank, text) for crop, text in (lower_case(rng) for _ in range(lower))]
            pixels, logits, texts = zip(*(noted[i] for i in rng.permutation(len(noted))), strict=True)
            yield Lesson(np.stack(pixels), np.stack(logits).astype(np.float16), np.array(texts))

    def _read_photo(self, recognizer: VinRecognizer, label: dict[str, Any], rng: np.random.Generator) -> None:
        boxes = [vin["box"] for vin in label["vins"] if vin.get("box")]
        photo = retaken(read_image(self._folder / label["image"]), boxes[0] if boxes else None, rng)
        if min(photo.shape[:2]) >= 8:
            recognizer.read(Photo.of(photo))

    def chosen(self, lesson: Lesson, rng: np.random.Generator) -> NDArray[np.integer]:
        """Return what the large reader reads, and a few of the lines that it cannot."""
        kept = clearness(lesson) > _LEGIBLE
        kept |= (lesson.texts != "") | (rng.random(len(lesson)) < self.config.illegible)
        return rng.permutation(np.flatnonzero(kept))

    def loss(self, outputs: Any, batch: Lesson) -> dict[str, Tensor]:
        """Return the divergence from the large reader per time step, and the CTC loss of clear texts."""
        log = outputs.float().log_softmax(-1)
        teacher = torch.from_numpy(batch.logits).float().log_softmax(-1)
        clear = (clearness(batch) > _CLEAR) & (batch.texts == "")
        weights = np.where(clear, self.config.same_clear, self.config.same) * (batch.texts == "")
        apart = (teacher.exp() * (teacher - log)).sum((1, 2))
        terms = {"same": (apart * torch.from_numpy(weights.astype(np.float32))).mean()}
        texts = [
            _characters(text) if text else _path(m) for text, m in zip(batch.texts, batch.logits, strict=True)
        ]
        which = [i for i, text in enumerate(texts) if text and (clear[i] or batch.texts[i])]
        if which:
            targets = torch.tensor([c for i in which for c in texts[i]])
            lengths = torch.tensor([len(texts[i]) for i in which])
            steps = torch.full((len(which),), log.shape[1])
            lost = F.ctc_loss(
                log[which].transpose(0, 1), targets, steps, lengths, ctc.BLANK, "sum", zero_infinity=True
            )
            terms["text"] = lost / len(batch)
        return terms

    def figures(self, net: nn.Module) -> Figures:
        """Measure ``net`` alone, on corners as inexact as a detector's."""
        net.eval()

        def read(crops: Sequence[Pixels]) -> Doubles:
            with torch.no_grad():
                return ctc.softmax(net(torch.from_numpy(runtime.floats(crops))).double().numpy())

        return validate(read, self._folder, self.validation)

    def judge(self, model: Path) -> Figures:
        """Measure production's reader with ``model`` alone, on the best corners that are known."""
        return judged(LineReader(runtime.session(model), centered=False), self._folder, self.validation)

    def crops(self, count: int) -> list[Pixels]:
        """Return crops of the pool, including illegible ones, which the ranges have to cover too."""
        lesson = next(self.stream(np.random.default_rng(0), "*.npz", count))
        return list(lesson.pixels)

    def finished(self, path: Path) -> None:
        """Give the model its alphabet and, until its own are fitted, the VIN reader's calibration."""
        whole = describe(self.teacher, {})
        describe(path, {"alphabet": ALPHABET} | {name: whole[name] for name in ("calibration", "threshold")})


_LEGIBLE, _CLEAR = -3.5, -1.2
"""Lowest `clearness` of crops that are always used, and of crops whose text is learned."""


def clearness(lesson: Lesson) -> NDArray[np.float64]:
    """Return the logarithm of the probability of the large reader's likeliest path, for each crop."""
    best: NDArray[np.float64] = np.log(ctc.softmax(lesson.logits.astype(np.float64)).max(-1)).sum(-1)
    return best


def clear_texts(lesson: Lesson) -> list[str]:
    """Return the large reader's text of each crop where it is clear, else ""."""
    return [
        "".join(ALPHABET[each - 1] for each in _path(logits)) if how > _CLEAR else ""
        for logits, how in zip(lesson.logits, clearness(lesson), strict=True)
    ]


def _path(logits: NDArray[np.float16]) -> list[int]:
    """Return the classes on the likeliest path of ``logits`` (T, C), without repeats and blanks."""
    best = logits.argmax(-1)
    changes = best[np.concatenate([[True], best[1:] != best[:-1]])]
    return [int(each) for each in changes if each != ctc.BLANK]


def _characters(text: str) -> list[int]:
    return [ALPHABET.index(character) + 1 for character in text]


def lower_case(rng: np.random.Generator) -> tuple[Pixels, str]:
    """Return a drawn line in lower case with characters at least 11 pixels high, and its text."""
    while True:
        pixels, corners, text = render_vins.photograph_line(rng, lower=True)
        if float(np.hypot(*(corners[3] - corners[0]))) >= _LOW:
            return cut(pixels, render_vins.jittered(corners, rng, 0.7)), text


_LOW = 11.0
"""Pixels of height below which lower case is not distinguishable."""
