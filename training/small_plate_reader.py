"""The small plate reader: plain convolutions that read what is easy, taught by the plate reader.

It does not ship (docs/decisions.md): it is to be asked first, and believed where it is sure. How it learns
is in training/small_readers.py.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from carsight import runtime
from carsight.plate.reader import HEIGHT, ONE_ROW, TWO_ROWS
from training import ppocr
from training.config import SmallPlateReaderConfig
from training.data import Pixels, read_image, read_photo_labels
from training.loop import Figures
from training.model_files import describe
from training.nets import Conv
from training.plate_reader import (
    UNKNOWN,
    CutPlate,
    Samples,
    calibrate,
    crops_of,
    cut_all,
    end_figures,
    figures,
    photographed,
    run_onnx,
)
from training.plates_data import ALPHABET, Plate, around, box_corners, read_plates, read_unread
from training.render_plates import read_backgrounds
from training.small_readers import CROPS_A_FILE, Lesson, SmallReaderTask


class SmallReader(nn.Module):
    """Images (B, 3, 48, W), BGR 0..1, to CTC logits (B, W / 8, 37) and region logits (B, regions).

    The region is told from what the first layers see, which is colors, and from the means of the rows of what
    the last ones do.
    """

    def __init__(self, regions: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(Conv(3, 24, 2), Conv(24, 48, 2))
        self.fine = nn.Sequential(Conv(48, 64), Conv(64, 64))
        self.middle = nn.Sequential(Conv(64, 96, (2, 1)), Conv(96, 96))
        self.deep = nn.Sequential(Conv(96, 128, (2, 1)), Conv(128, 128))
        self.steps = nn.Sequential(
            Conv(128, 160, (1, 2), (3, 2), (0, 0)), Conv(160, 160, 1, (1, 5)), Conv(160, 160, 1, (1, 5))
        )
        self.head = nn.Conv2d(160, 1 + len(ALPHABET), 1)
        inputs = 48 * 15 + 96 * 2 + 128 * 3
        self.scale = nn.BatchNorm1d(inputs, affine=False)
        self.region = nn.Linear(inputs, regions)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of the text and of the region."""
        early = self.stem(images)
        middle = self.middle(self.fine(early))
        deep = self.deep(middle)
        logits = self.head(self.steps(deep)).flatten(2).transpose(1, 2)
        cells = F.interpolate(F.avg_pool2d(early, (4, 8)), (3, 5), mode="bilinear")
        rows = (F.avg_pool2d(middle.mean(3, keepdim=True), (3, 1)), deep.mean(3))
        look = torch.cat([each.flatten(1) for each in (cells, *rows)], 1).float()
        return logits, self.region(F.dropout(self.scale(look), 0.2, self.training))


# --- what it learns from ---


@dataclasses.dataclass(frozen=True)
class PlateLesson(Lesson):
    """Crops of plates (N, 48, 160 or 224, 3). ``regions`` (N, classes) are the plate reader's logits.

    ``classes`` are those known to be right, `UNKNOWN` where that is not.
    """

    regions: NDArray[np.float16]
    classes: NDArray[np.int64]


class Drawing:
    """Draws crops as the product cuts them, those included that are no plate or none of so many rows.

    Of a hundred, 80 are those that the plate reader learns from, 13 are plates without a text, 3 no plates, 2
    plates of the other number of rows and 2 upside down: of the last seven, the plate reader is seldom sure.
    """

    def __init__(
        self, data: Path, plates: Sequence[Plate], pieces: Sequence[CutPlate], regions: Sequence[str]
    ) -> None:
        self._samples = Samples(plates, pieces, regions, read_backgrounds(data))
        self._classes = {region: i for i, region in enumerate(regions)}
        self._read = _by_rows(plates)
        self._unread = _by_rows(read_unread(data, "train"))
        self._photos = read_photo_labels(data, "train")

    def draw(self, rng: np.random.Generator, two_rows: bool) -> tuple[Pixels, str, int]:
        """Return a crop, its text and its region's class."""
        choice = rng.random()
        if choice < 0.8:
            sample = self._samples.batch(rng, 1, two_rows)[0]
            return sample.pixels, sample.text, sample.region
        if choice < 0.83:
            return self._elsewhere(rng, two_rows), "", UNKNOWN
        if choice < 0.85:
            plate = _one_of(self._read[not two_rows], rng)
        elif choice < 0.87:
            plate = _one_of(self._read[two_rows], rng)
            plate = dataclasses.replace(plate, corners=plate.corners[[2, 3, 0, 1]])
        else:
            plate = _one_of(self._unread[two_rows] or self._read[two_rows], rng)
            region = self._classes.get(plate.region or "", UNKNOWN)
            return photographed(plate.pixels, plate.corners, two_rows, rng, plate.loose), "", region
        return photographed(plate.pixels, plate.corners, two_rows, rng, plate.loose), "", UNKNOWN

    def _elsewhere(self, rng: np.random.Generator, two_rows: bool) -> Pixels:
        """Return a part of a photo, of a plate's shape, wherever it lies."""
        folder, label = self._photos[rng.integers(len(self._photos))]
        pixels = read_image(folder / label["image"])
        height, width = pixels.shape[:2]
        wide = float(np.exp(rng.uniform(np.log(30), np.log(max(40, width / 2)))))
        high = wide / (rng.uniform(1, 2) if two_rows else rng.uniform(1.8, 5))
        left, top = rng.uniform(0, max(width - wide, 1)), rng.uniform(0, max(height - high, 1))
        part, corners = around(pixels, box_corners([left, top, left + wide, top + high]))
        return photographed(part, corners, two_rows, rng, True)


def _by_rows(plates: Sequence[Plate]) -> dict[bool, list[Plate]]:
    return {rows: [plate for plate in plates if plate.two_rows == rows] for rows in (False, True)}


def _one_of(plates: Sequence[Plate], rng: np.random.Generator) -> Plate:
    return plates[int(rng.integers(len(plates)))]


# --- the task ---


class SmallPlateReaderTask(SmallReaderTask[SmallPlateReaderConfig, PlateLesson]):
    """Reads easy plates as the plate reader would."""

    command = "small-plate-reader"
    lesson = PlateLesson
    outputs = ("logits", "regions")
    crop = (HEIGHT, ONE_ROW)
    dynamic_shapes = ({3: ppocr.STRIDE * torch.export.Dim("eighths", min=4, max=128)},)
    teacher = runtime.MODELS / "plate_reader.onnx"

    def labeled(self, split: str) -> list[Plate]:
        """Return the plates with a text."""
        return read_plates(self.data, split)

    @property
    def regions(self) -> list[str]:
        """The plate reader's regions."""
        found: list[str] = json.loads(
            runtime.session(self.teacher).get_modelmeta().custom_metadata_map["regions"]
        )
        return found

    def extra(self) -> dict[str, Any]:
        """Return the regions."""
        return {"regions": self.regions}

    def net(self) -> SmallReader:
        """Return the net with random weights."""
        return SmallReader(len(self.regions))

    def lessons(self, rng: np.random.Generator) -> Iterator[PlateLesson]:
        """Yield drawn crops with what the plate reader says of them, every fourth time of two rows."""
        cv2.setNumThreads(0)
        session = runtime.session(self.teacher)
        drawing = Drawing(self.data, self.training, self._pieces(), self.regions)
        for number in itertools.count(1):
            drawn = (drawing.draw(rng, number % 4 == 0) for _ in range(CROPS_A_FILE))
            crops, texts, classes = zip(*drawn, strict=True)
            answers = [
                session.run(
                    ["logits", "regions"], {"image": runtime.floats(crops[i : i + 16], centered=True)}
                )
                for i in range(0, CROPS_A_FILE, 16)
            ]
            logits, regions = (np.concatenate(each).astype(np.float16) for each in zip(*answers, strict=True))
            yield PlateLesson(np.stack(crops), logits, np.array(texts), regions, np.array(classes))

    def batches(self, rng: np.random.Generator, size: int) -> Iterator[PlateLesson]:
        """Yield crops of one row, and every fifth time half as many of two."""
        batch = self.config.batch
        one, two = (
            self.stream(rng, f"*-{ONE_ROW}.npz", batch),
            self.stream(rng, f"*-{TWO_ROWS}.npz", batch // 2),
        )
        for number in itertools.count(1):
            yield next(two if number % 5 == 0 else one)

    def _pieces(self) -> list[CutPlate]:
        """Return the training plates cut into characters, where the plate reader reads them."""
        path = self.work / "pieces.pkl"
        if not path.exists():
            path.write_bytes(pickle.dumps(cut_all(run_onnx(self.teacher), self.training)))
        pieces: list[CutPlate] = pickle.loads(path.read_bytes())
        return pieces

    def loss(self, outputs: Any, batch: PlateLesson) -> dict[str, Tensor]:
        """Return how far text and region are from what the teacher says, and from what is known."""
        logits, regions = outputs[0].float(), outputs[1].float()
        teacher = torch.from_numpy(batch.logits).float().softmax(-1)
        terms = {"same": -(teacher * logits.log_softmax(-1)).sum(-1).mean() * 4}
        known = torch.from_numpy(np.flatnonzero(batch.texts != ""))
        if len(known):
            texts = [str(text) for text in batch.texts if text]
            terms["text"] = self.config.text_weight * ppocr.ctc_loss(logits[known], texts, ALPHABET)
        weight = self.config.region_weight
        likely = torch.from_numpy(batch.regions).float().softmax(-1)
        terms["same_region"] = -weight * (likely * regions.log_softmax(-1)).sum(-1).mean()
        classes = torch.from_numpy(batch.classes.astype(np.int64))
        if (classes != UNKNOWN).any():
            terms["region"] = weight / 2 * F.cross_entropy(regions, classes, ignore_index=UNKNOWN)
        return terms

    def figures(self, net: nn.Module) -> Figures:
        """Measure ``net`` by itself, best path."""

        def run(crops: Sequence[Pixels]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            with torch.no_grad():
                logits, regions = net.eval()(torch.from_numpy(runtime.floats(crops)))
            return logits.float().numpy(), regions.float().numpy()

        return figures(run, self.validation, self.regions)

    def judge(self, model: Path) -> Figures:
        """Measure what production answers with ``model`` alone, calibrated as it is."""
        return end_figures(model, self.validation, centered=False)

    def crops(self, count: int) -> list[Pixels]:
        """Return crops of training plates of one row."""
        chosen = np.random.default_rng(0).permutation(len(self.training))[:count]
        return crops_of([self.training[i] for i in chosen if not self.training[i].two_rows])

    def finished(self, path: Path) -> None:
        """Calibrate the model at ``path``."""
        describe(path, {"alphabet": ALPHABET})
        calibrate(path, self.validation, self.regions, centered=False)
