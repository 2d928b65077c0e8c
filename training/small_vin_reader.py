"""The small VIN reader: plain convolutions for easy lines, taught by the VIN reader.

Its answer is accepted where it is sure; otherwise the VIN reader is asked (carsight.vin.recognizer).
Crops with the large reader's output form a *pool* on disk, which may be filled while the net learns. The
target is the large reader's distribution at every time step, however unsure it is: this teaches far more
quickly than texts alone, and needs none. Alone it is not enough: the large reader places characters with the
whole line in view, and a net without that view stays unsure where each begins. So for lines that the large
one reads clearly the text itself is learned too, by CTC.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
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
from training.model_files import describe, finish
from training.nets import Conv, fold_batch_norms, unfolded
from training.quantize import float_weights, quantize
from training.rounding import round_weights
from training.vin_reader import LineReaderTask, Samples

CROPS_A_FILE = 2000
_FILES_AT_ONCE = 8


@dataclass(frozen=True)
class Lesson:
    """Crops (N, 48, 384, 3), the large reader's ``logits`` (N, 48, 34) and known ``texts``, "" if unknown."""

    pixels: Pixels
    logits: NDArray[np.float16]
    texts: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.pixels)

    def part(self, which: NDArray[np.integer]) -> Lesson:
        """Return some of the crops."""
        return Lesson(self.pixels[which], self.logits[which], self.texts[which])

    @classmethod
    def together(cls, parts: Sequence[Lesson]) -> Lesson:
        """Return the crops of several lessons as one."""
        return cls(*map(np.concatenate, zip(*((p.pixels, p.logits, p.texts) for p in parts), strict=True)))

    def save(self, path: Path) -> None:
        """Write the lesson to ``path``, whole or not at all."""
        part = path.with_suffix(".new")
        with part.open("wb") as file:
            np.savez(file, pixels=self.pixels, logits=self.logits, texts=self.texts)
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Lesson:
        """Read what ``save`` has written."""
        with np.load(path) as arrays:
            return cls(arrays["pixels"], arrays["logits"], arrays["texts"])


def relit(pixels: Pixels, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return crops (N, H, W, 3) relit and shifted by a pixel or two; 0..1.

    The change is so small that the large reader's answer would hardly differ.
    """
    count, height, width = pixels.shape[:3]
    padded = np.pad(pixels, ((0, 0), (2, 2), (1, 1), (0, 0)), mode="edge")
    down, right = rng.integers(0, 5), rng.integers(0, 3)
    values = padded[:, down : down + height, right : right + width].astype(np.float32) / 255
    gains = np.exp(rng.normal(0, 0.15, (count, 1, 1, 1)) + rng.normal(0, 0.05, (count, 1, 1, 3)))
    shifts = 0.45 * (1 - gains) + rng.normal(0, 0.06, (count, 1, 1, 1))
    values = values * gains.astype(np.float32) + shifts.astype(np.float32)
    return np.clip(values, 0, 1, dtype=np.float32)


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


_TEACHER = runtime.MODELS / "vin_reader.onnx"


class SmallVinReaderTask(LineReaderTask[SmallVinReaderConfig, Lesson]):
    """Reads easy lines as the VIN reader would. ``WORK/pool`` holds the lessons."""

    def net(self) -> SmallReader:
        """Return the net with random weights."""
        return SmallReader()

    def prepare(self, net: nn.Module) -> list[dict[str, Any]]:
        """Round the weights as INT8 will hold them."""
        round_weights([module[0] for module in net.modules() if isinstance(module, Conv)])
        return [{"params": list(net.parameters()), "share": 1.0}]

    def fill_pool(self, count: int, seed: int) -> None:
        """Draw ``count`` crops, label them with the large reader, and add them to the pool."""
        pool = self.work / "pool"
        pool.mkdir(parents=True, exist_ok=True)
        new = self.lessons(np.random.default_rng(seed))
        for number in range(count // CROPS_A_FILE):
            next(new).save(pool / f"{seed}-{number:04}.npz")
            print(f"{(number + 1) * CROPS_A_FILE} crops", flush=True)

    def lessons(self, rng: np.random.Generator) -> Iterator[Lesson]:
        """Yield lessons of ``CROPS_A_FILE`` crops, without end.

        Half are as the recognizer cuts them from training photos, half are labeled or drawn lines.
        The photos are varied as people send them, so the crops include other text, upside-down and clipped
        lines. One line in sixteen is drawn in lower case, which the large reader often misreads: there the
        text is the target, not its output.
        """
        cv2.setNumThreads(0)
        reader = Noting(_TEACHER)
        shipped = VinRecognizer.load(tuning=VinTuning(barcodes=False))
        recognizer = VinRecognizer(shipped.near, shipped.far, reader, shipped.tuning)
        photos = read_labels(self.folder, "train")
        lines = Samples(self.folder, self.training, rng, self.config)
        while True:
            reader.noted.clear()
            while len(reader.noted) < CROPS_A_FILE // 2:
                self._read_photo(recognizer, photos[int(rng.integers(len(photos)))], rng)
            count = CROPS_A_FILE - len(reader.noted)
            lower = count // 16
            crops, _ = lines.batch(count - lower) if count > lower else ([], [])
            for start in range(0, len(crops), 16):
                reader.read(crops[start : start + 16])
            noted = [(crop, np.log(np.maximum(matrix, 1e-6)), "") for crop, matrix in reader.noted]
            blank = np.zeros_like(noted[0][1])
            noted += [(crop, blank, text) for crop, text in (lower_case(rng) for _ in range(lower))]
            pixels, logits, texts = zip(*(noted[i] for i in rng.permutation(len(noted))), strict=True)
            yield Lesson(np.stack(pixels), np.stack(logits).astype(np.float16), np.array(texts))

    def _read_photo(self, recognizer: VinRecognizer, label: dict[str, Any], rng: np.random.Generator) -> None:
        boxes = [vin["box"] for vin in label["vins"] if vin.get("box")]
        photo = retaken(read_image(self.folder / label["image"]), boxes[0] if boxes else None, rng)
        if min(photo.shape[:2]) >= 8:
            recognizer.read(Photo.of(photo))

    def batches(self, rng: np.random.Generator, size: int) -> Iterator[Lesson]:
        """Yield the pool's crops, over and over."""
        return self.stream(rng, self.config.batch)

    def stream(self, rng: np.random.Generator, size: int) -> Iterator[Lesson]:
        """Yield the pool's crops, ``size`` at a time."""
        while True:
            files = sorted((self.work / "pool").glob("*.npz"))
            if not files:
                raise SystemExit(
                    f"{self.work} has no pool: fill it first, python -m training small-vin-reader pool"
                )
            rng.shuffle(files)  # type: ignore[arg-type]
            for start in range(0, len(files), _FILES_AT_ONCE):
                lesson = Lesson.together(
                    [Lesson.load(file) for file in files[start : start + _FILES_AT_ONCE]]
                )
                order = self.chosen(lesson, rng)
                for begin in range(0, len(order) - size + 1, size):
                    yield lesson.part(order[begin : begin + size])

    def chosen(self, lesson: Lesson, rng: np.random.Generator) -> NDArray[np.integer]:
        """Return what the large reader reads, and a few of the lines that it cannot."""
        kept = clearness(lesson) > _LEGIBLE
        kept |= (lesson.texts != "") | (rng.random(len(lesson)) < self.config.illegible)
        return rng.permutation(np.flatnonzero(kept))

    def images(self, batch: Lesson) -> Tensor:
        """Return the crops relit."""
        rng = np.random.default_rng(torch.randint(2**62, (1,)).item())
        images = torch.from_numpy(relit(batch.pixels, rng)).permute(0, 3, 1, 2)
        return images.contiguous(memory_format=torch.channels_last)

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

    @torch.no_grad()
    def read(self, net: nn.Module, crops: Sequence[Pixels]) -> Doubles:
        """Return the net's CTC output."""
        return ctc.softmax(net(torch.from_numpy(runtime.floats(crops))).double().numpy())

    def write(self, net: nn.Module, path: Path) -> None:
        """Write ``net`` for one crop at a time, with its metadata."""
        torch.onnx.export(
            fold_batch_norms(net),
            (torch.zeros(1, 3, HEIGHT, WIDTH),),
            str(path),
            input_names=["image"],
            output_names=["logits"],
            opset_version=20,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        _describe(path)

    def quantize(self, exact: Path, out: Path) -> None:
        """Quantize all convolutions but the last, which gives the logits.

        The ranges are those of the pool's crops; they have to cover illegible ones, too.
        """
        lesson = next(self.stream(np.random.default_rng(0), 300))
        feeds = ({"image": runtime.floats([crop])} for crop in lesson.pixels)
        head = [node.name for node in onnx.load(str(exact)).graph.node if "head.weight" in node.input]
        quantize(exact, out, feeds, head, ("Conv", "Relu"))
        finish(out)
        _describe(out)

    def recovered(self, model: Path) -> nn.Module:
        """Return the net of ``model``, its folded normalizations put back with statistics of the pool."""
        stream = self.batches(np.random.default_rng(self.config.seed), 0)
        return unfolded(self.net(), float_weights(model), (self.images(batch) for batch in stream), 24)


def _describe(path: Path) -> None:
    """Give the model its alphabet and, until its own are fitted, the VIN reader's calibration."""
    whole = describe(_TEACHER, {})
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
