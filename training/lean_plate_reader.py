"""The lean plate reader (training/lean.py), taught by the plate reader it is derived from.

It sees what the plate reader learns from and, as it has a teacher, also crops whose text is not known.
"""

from __future__ import annotations

import dataclasses
import itertools
import pickle
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carsight import runtime
from carsight.detector import Detector
from carsight.geometry import box_corners, sides
from carsight.plate.reader import GROW, rectify
from carsight.plate.recognizer import PlateTuning
from training import lean, ppocr
from training.camera import compressed
from training.config import LeanPlateReaderConfig
from training.data import Pixels, read_image, read_photo_labels
from training.loop import Figures, averaged_weights, checkpoint_of
from training.model_files import describe
from training.plate_reader import (
    UNKNOWN,
    CutPlate,
    PlateReaderTask,
    Sample,
    Samples,
    calibrate,
    crops_of,
    figures,
    photographed,
    run_torch,
)
from training.plates_data import ALPHABET, Plate, around, read_unread
from training.render_plates import read_backgrounds

HIDDEN = (160, 160, 160, 192, 320, 320, 320, 320, 320, 320, 320, 512, 512)
"""Hidden units of each block: of the plate reader's 192, 384 and 768."""


_KEPT = 1000
"""Crops of one or of two rows that wait to be drawn, 32 KB each at most."""

_PATIENCE = 20
"""Photos searched for plates with the wanted number of rows before others are cut as if they had as many."""


class Found:
    """Crops of what the shipped detector finds in varied training photos (``taken_anew``).

    They are what the product would cut, including false detections, halves of plates, and wrong row counts.
    """

    def __init__(self, data: Path) -> None:
        self._photos = read_photo_labels(data, "train")
        self._detector = Detector(
            runtime.session(runtime.MODELS / "plate_detector.onnx"), PlateTuning().detector
        )
        # More of one kind are found than are drawn: the oldest are dropped.
        self._kept: dict[bool, deque[Pixels]] = {rows: deque(maxlen=_KEPT) for rows in (False, True)}

    def draw(self, rng: np.random.Generator, two_rows: bool) -> Pixels:
        """Return a crop.

        Raises:
            LookupError: the detector finds no plate in any of many photos.
        """
        for number in range(50 * _PATIENCE):
            if self._kept[two_rows]:
                return self._kept[two_rows].popleft()
            folder, label = self._photos[rng.integers(len(self._photos))]
            photo = taken_anew(read_image(folder / label["image"]), rng)
            self._cut(photo, rng, both_ways=number >= _PATIENCE)
        raise LookupError("the plate detector finds no plate in the training photos")

    def _cut(self, photo: Pixels, rng: np.random.Generator, *, both_ways: bool = False) -> None:
        for plate in self._detector.find(photo).targets:
            width, height = sides(plate.corners)
            square = width < PlateTuning().square * max(height, 1.0)
            for rows in (False, True) if square or both_ways else (plate.two_rows > 0.5,):
                grow = GROW * float(rng.choice([1, 1, 2]))
                self._kept[rows].append(rectify(photo, plate.corners, rows, grow))


def taken_anew(photo: Pixels, rng: np.random.Generator) -> Pixels:
    """Return ``photo`` rescaled, perhaps tilted, relit or blurred, and compressed again."""
    scale = min(1.0, 1400 / max(photo.shape[:2])) * float(np.exp(rng.uniform(np.log(0.4), np.log(1.3))))
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    pixels = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=smooth)
    if rng.random() < 0.5:
        height, width = pixels.shape[:2]
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), float(rng.normal(0, 6)), 1)
        pixels = cv2.warpAffine(pixels, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    if rng.random() < 0.5:
        light = 255 * (np.arange(256) / 255) ** float(np.exp(rng.normal(0, 0.4)))
        pixels = cv2.LUT(pixels, light.astype(np.uint8))
    if rng.random() < 0.3:
        pixels = cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.4, 1.2)))
    return compressed(np.asarray(pixels, np.uint8), int(rng.integers(40, 95)))


class Drawing:
    """Draws crops as the product cuts them, including non-plates and wrong row counts.

    Of a hundred, 80 are the plate reader's own, 13 plates without a known text, 3 not plates, 2 plates with
    the wrong number of rows and 2 upside down. The last seven, of which the plate reader is seldom sure, have
    the text "".
    """

    def __init__(
        self, data: Path, plates: Sequence[Plate], pieces: Sequence[CutPlate], regions: Sequence[str]
    ) -> None:
        self._samples = Samples(plates, pieces, regions, read_backgrounds(data))
        self._classes = {region: i for i, region in enumerate(regions)}
        self._read = _by_rows(plates)
        self._unread = _by_rows(read_unread(data, "train"))
        self._photos = read_photo_labels(data, "train")

    def draw(self, rng: np.random.Generator, two_rows: bool) -> Sample:
        """Return a crop."""
        choice = rng.random()
        if choice < 0.8:
            return self._samples.batch(rng, 1, two_rows)[0]
        if choice < 0.83:
            return Sample(self._elsewhere(rng, two_rows), "", UNKNOWN)
        region = UNKNOWN
        if choice < 0.85:
            plate = _one_of(self._read[not two_rows], rng)
        elif choice < 0.87:
            plate = _one_of(self._read[two_rows], rng)
            plate = dataclasses.replace(plate, corners=plate.corners[[2, 3, 0, 1]])
        else:
            plate = _one_of(self._unread[two_rows] or self._read[two_rows], rng)
            region = self._classes.get(plate.region or "", UNKNOWN)
        return Sample(photographed(plate.pixels, plate.corners, two_rows, rng, plate.loose), "", region)

    def _elsewhere(self, rng: np.random.Generator, two_rows: bool) -> Pixels:
        """Return a random part of a photo with a plate's proportions."""
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


class LeanPlateReaderTask(PlateReaderTask):
    """Reads a plate's text and names its region as the plate reader at ``--start`` does."""

    config: LeanPlateReaderConfig
    centered = False

    @cached_property
    def teacher(self) -> lean.Teacher:
        """The plate reader to learn from."""
        return lean.Teacher(lean.read_reader(self.config.teacher or self.config.start, ALPHABET))

    @property
    def reader(self) -> nn.Module:
        """What cuts the training plates into characters: the teacher."""
        return self.teacher.reader

    @cached_property
    def regions(self) -> list[str]:
        """The plate reader's regions."""
        found = checkpoint_of(self.work) or Path(self.config.start or self.work)
        regions: list[str] = averaged_weights(found)[1]["regions"]
        return regions

    def net(self) -> nn.Module:
        """Return the net, with weights to come."""
        return lean.LeanReader(ALPHABET, len(self.regions), HIDDEN)

    def begin_with(self, net: nn.Module, checkpoint: Path) -> None:
        """Load a lean reader's weights into ``net``, or derive them from a plate reader's."""
        assert isinstance(net, lean.LeanReader)
        lean.begin(net, checkpoint, lambda: self.teacher.reader, lambda: self._crops(200))

    def prepare(self, net: nn.Module) -> list[dict[str, Any]]:
        """Round the weights as INT8 will, and freeze the stem."""
        assert isinstance(net, lean.LeanReader)
        net.body.prepare()
        return [{"params": [each for each in net.parameters() if each.requires_grad], "share": 1.0}]

    def batches(self, rng: np.random.Generator, size: int) -> Iterator[list[Sample]]:
        """Yield batches of one-row crops; every fifth has half as many two-row crops instead."""
        pieces: list[CutPlate] = pickle.loads(self._pieces_file.read_bytes())
        drawing, found = Drawing(self.data, self.training, pieces, self.regions), Found(self.data)
        for number in itertools.count(1):
            two_rows = number % 5 == 0
            count = self.config.batch // 2 if two_rows else self.config.batch
            yield [
                Sample(found.draw(rng, two_rows), "", UNKNOWN)
                if rng.random() < self.config.found
                else drawing.draw(rng, two_rows)
                for _ in range(count)
            ]

    def images(self, batch: list[Sample]) -> Tensor:
        """Return the crops, 0..1."""
        images = torch.from_numpy(runtime.floats([sample.pixels for sample in batch]))
        return images.contiguous(memory_format=torch.channels_last)

    def loss(self, outputs: Any, batch: list[Sample]) -> dict[str, Tensor]:
        """Return the losses against the teacher and against the labels."""
        config = self.config
        terms = self.teacher.terms(
            outputs, self.images(batch), config.hint_weight, config.same_weight, config.sure_weight
        )
        terms["same_region"] *= config.region_weight
        known = [i for i, sample in enumerate(batch) if sample.text]
        if known:
            texts = [batch[i].text for i in known]
            terms["text"] = config.text_weight * ppocr.ctc_loss(outputs[0][known], texts, ALPHABET)
        classes = torch.tensor([sample.region for sample in batch])
        if (classes != UNKNOWN).any():
            right = F.cross_entropy(outputs[1].float(), classes, ignore_index=UNKNOWN)
            terms["region"] = config.region_weight / 4 * right
        return terms

    def figures(self, net: nn.Module) -> Figures:
        """Measure ``net`` alone, by its best path."""
        run = run_torch(net, lambda crops: torch.from_numpy(runtime.floats(crops)))
        return figures(run, self.validation, self.regions)

    def quantize(self, exact: Path, out: Path) -> None:
        """Quantize with the ranges of training plates of every source, and calibrate again."""
        lean.quantize_reader(exact, out, self._crops(300))
        describe(out, {"alphabet": ALPHABET})
        calibrate(out, self.validation, self.regions, self.centered)

    def recovered(self, model: Path) -> nn.Module:
        """Return the net of ``model``; its regions are then this task's."""
        net, self.regions = lean.recovered(model)
        return net

    def _crops(self, count: int) -> list[Pixels]:
        """Return crops of training plates of every source, of one row."""
        chosen = np.random.default_rng(0).permutation(len(self.training))[:count]
        return crops_of([self.training[i] for i in chosen if not self.training[i].two_rows])
