"""The vehicle classifier: body, color and side of a vehicle that the detector has found.

It looks at a vehicle's box, stretched to a small square, with the detector's own trunk - trained already on
many more vehicles than have a labeled body - and one linear layer each for body, color and side.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from carsight.plate.vehicles import SIDE, cut
from carsight.runtime import session
from training.camera import spoil_frame
from training.config import VehicleConfig
from training.data import (
    COLORS,
    ORIENTATIONS,
    TYPE_OF_LABEL,
    VEHICLE_TYPES,
    Pixels,
    bodies,
    read_image,
    read_photo_labels,
)
from training.loop import Figures, Task
from training.model_files import describe, finish
from training.nets import Conv, VehicleNet, fold_batch_norms, unfolded
from training.quantize import float_weights, quantize
from training.rounding import round_weights

UNKNOWN = -1
_HEADS = (("type", VEHICLE_TYPES), ("color", COLORS), ("orientation", ORIENTATIONS))
_TRUNK = ("stem", "middle", "deep")

Batch = tuple[Tensor, Tensor]
"""Views (B, 3, 128, 128) and answers (B, 3), -1 where nobody knows."""


@dataclass
class Labeled:
    """A photo's part, some context around the vehicle, its box there, and the index of each answer or -1."""

    pixels: Pixels
    box: NDArray[np.float32]
    answers: tuple[int, int, int]


class Vehicles(Task[VehicleConfig, Batch]):
    """Names what a vehicle looks like. Its ``--start`` may be a detector's, whose trunk it takes."""

    def labeled(self, split: str) -> list[Labeled]:
        """Return the vehicles of which something is known."""
        return labeled(self.data, split)

    def net(self) -> VehicleNet:
        """Return the untrained net."""
        return VehicleNet()

    def prepare(self, net: nn.Module) -> list[dict[str, Any]]:
        """Round the weights as INT8 will hold them; the trunk knows its work and learns more slowly."""
        round_weights(module[0] for module in net.modules() if isinstance(module, Conv))
        trunk: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, parameter in net.named_parameters():
            trunk[name.split(".")[0] in _TRUNK].append(parameter)
        return [
            {"params": trunk[False], "share": 1.0},
            {"params": trunk[True], "share": self.config.trunk_rate},
        ]

    def batches(self, rng: np.random.Generator, size: int) -> Iterator[Batch]:
        """Yield varied views of the labeled vehicles."""
        while True:
            chosen = rng.choice(len(self.training), self.config.batch, replace=False)
            pixels, answers = zip(*(_varied(self.training[int(i)], rng) for i in chosen), strict=True)
            images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float().div_(255)
            yield images.contiguous(memory_format=torch.channels_last), torch.tensor(answers)

    def images(self, batch: Batch) -> Tensor:
        """Return the views."""
        return batch[0]

    def loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """Return the cross entropy of each answer that is known."""
        _, answers = batch
        return {
            name: F.cross_entropy(
                values.float(),
                answers[:, i],
                weight=self._weights[i],
                ignore_index=UNKNOWN,
                label_smoothing=0.05,
            )
            for i, ((name, _), values) in enumerate(zip(_HEADS, outputs, strict=True))
            if bool((answers[:, i] >= 0).any())
        }

    @cached_property
    def _weights(self) -> list[Tensor]:
        """The weight of each answer: a little more for the rare.

        With none they are never answered, with much of it too often.
        """
        weights = []
        for i, (_, words) in enumerate(_HEADS):
            known = [v.answers[i] for v in self.training if v.answers[i] >= 0]
            counts = np.bincount(known, minlength=len(words)) + 1.0
            weights.append(torch.tensor((counts.mean() / counts) ** 0.25, dtype=torch.float32))
        return weights

    def figures(self, net: nn.Module) -> Figures:
        """Measure ``net`` as the file that it would be."""
        self.write(net, self.work / "float.onnx")
        return self.judge(self.work / "float.onnx")

    def judge(self, model: Path) -> Figures:
        """Measure ``model`` on the labeled boxes."""
        return figures(model, self.validation)

    def write(self, net: nn.Module, path: Path) -> None:
        """Write ``net`` for one view at a time."""
        torch.onnx.export(
            fold_batch_norms(net),
            (torch.zeros(1, 3, SIDE, SIDE),),
            str(path),
            input_names=["image"],
            output_names=[name for name, _ in _HEADS],
            opset_version=20,
            dynamo=True,
            external_data=False,
            verbose=False,
        )

    def quantize(self, exact: Path, out: Path) -> None:
        """Quantize the convolutions, and add what is known of bodies."""
        views = (cut(vehicle.pixels, vehicle.box) for vehicle in self.training[::6])
        feeds = ({"image": cv2.dnn.blobFromImage(view, 1 / 255)} for view in views)
        quantize(exact, out, feeds, op_types=("Conv", "Relu"))
        finish(out)
        describe(out, {"bodies": json.dumps(bodies(self.data))})

    def recovered(self, model: Path) -> nn.Module:
        """Return the net of ``model``, its folded normalizations put back with statistics of views."""
        stream = self.batches(np.random.default_rng(self.config.seed), 0)
        return unfolded(self.net(), float_weights(model), (self.images(batch) for batch in stream), 24)


def labeled(data: Path, split: str) -> list[Labeled]:
    """Return the vehicles of the labeled photos whose body, color or side is known."""
    by_eye = json.loads(Path(__file__).with_name("other_vehicles.json").read_text(encoding="utf-8"))
    found = []
    for folder, label in read_photo_labels(data, split):
        pixels: Pixels | None = None
        vehicles = [plate["vehicle"] for plate in label["plates"] if (plate.get("vehicle") or {}).get("box")]
        for index, word in by_eye.get(label["image"], {}).items():
            vehicles.append({"box": label["other_vehicles"][int(index)]["box"], "word": word})
        for vehicle in vehicles:
            word = vehicle.get("word") or TYPE_OF_LABEL.get(vehicle.get("type") or "")
            answers = (
                VEHICLE_TYPES.index(word) if word else UNKNOWN,
                COLORS.index(vehicle["color"]) if vehicle.get("color") in COLORS else UNKNOWN,
                ORIENTATIONS.index(vehicle["view"]) if vehicle.get("view") in ORIENTATIONS else UNKNOWN,
            )
            if pixels is None:
                pixels = read_image(folder / label["image"])
            x0, y0, x1, y1 = vehicle["box"]
            margin_x, margin_y = (x1 - x0) * 0.15, (y1 - y0) * 0.15
            left, top = max(0, int(x0 - margin_x)), max(0, int(y0 - margin_y))
            part = pixels[top : int(y1 + margin_y) + 1, left : int(x1 + margin_x) + 1]
            # Nothing larger than twice the net's input is of use.
            zoom = min(1.0, 2.2 * SIDE / min(part.shape[:2]))
            part = cv2.resize(part, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA).astype(np.uint8)
            box = np.array([x0 - left, y0 - top, x1 - left, y1 - top], np.float32) * np.float32(zoom)
            found.append(Labeled(part, box, answers))
    return found


def _varied(vehicle: Labeled, rng: np.random.Generator) -> tuple[Pixels, tuple[int, int, int]]:
    """Return a view of ``vehicle`` as the detector might cut it, in other light."""
    box = vehicle.box.copy()
    sides = np.tile(box[2:] - box[:2], 2)
    box += rng.normal(0, 0.04, 4).astype(np.float32) * sides
    pixels = vehicle.pixels
    if rng.random() < 0.4:
        middle = (float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2)
        turn = cv2.getRotationMatrix2D(middle, float(rng.normal(0, 4)), 1.0)
        size = (pixels.shape[1], pixels.shape[0])
        pixels = cv2.warpAffine(pixels, turn, size, borderMode=cv2.BORDER_REPLICATE).astype(np.uint8)
    view = cut(pixels, box)
    if rng.random() < 0.5:
        view = np.ascontiguousarray(view[:, ::-1])
    if rng.random() < 0.25:
        small = int(rng.integers(24, SIDE))
        view = cv2.resize(
            cv2.resize(view, (small, small), interpolation=cv2.INTER_AREA), (SIDE, SIDE)
        ).astype(np.uint8)
    view = spoil_frame(view, rng)
    kind, color, side = vehicle.answers
    # Color cannot be told from a gray picture.
    gray = bool(np.ptp(view.astype(np.int16), axis=2).max() < 12)
    return view, (kind, UNKNOWN if gray else color, side)


def figures(model: Path, vehicles: list[Labeled]) -> dict[str, float]:
    """Return the share of right answers of ``model`` for body, color and side over the labeled boxes."""
    run = session(model)
    right = {name: 0 for name, _ in _HEADS}
    asked = dict(right)
    for vehicle in vehicles:
        raw = run.run(None, {"image": cv2.dnn.blobFromImage(cut(vehicle.pixels, vehicle.box), 1 / 255)})
        for (name, _), values, answer in zip(_HEADS, raw, vehicle.answers, strict=True):
            asked[name] += answer >= 0
            right[name] += answer >= 0 and int(np.asarray(values).argmax()) == answer
    return {name: round(right[name] / max(asked[name], 1), 4) for name in right}
