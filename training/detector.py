"""The detectors: one finds plates and vehicles, the other the lines that may be a VIN.

One small anchor-free net. Each cell of three grids (strides 8, 16 and 32) says whether a target (a plate or a
line) is centered there, its box, its four corners and whether it has two rows; the cells of the two coarser
grids also say whether a vehicle is, its box and its body. It is judged by the code that runs in production.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from carsight.detections import Detection, keep_best
from carsight.detector import LINES, PLATES, Detector, DetectorTuning, net_input
from carsight.geometry import iou
from carsight.runtime import session
from training.config import DetectorConfig, PlateDetectorConfig, VinDetectorConfig
from training.data import VEHICLE_TYPES, Pixels, read_image, read_labels
from training.detector_loss import loss
from training.loop import Figures, Task
from training.model_files import METADATA, describe, finish
from training.nets import Conv, DetectorNet, fold_batch_norms, unfolded
from training.quantize import float_weights, quantize
from training.rounding import round_weights
from training.scenes import (
    Scene,
    Scenes,
    empty_scenes,
    line_scenes,
    plate_crops,
    plate_scenes,
    rendered_line_scenes,
)

ConfigOf = TypeVar("ConfigOf", bound=DetectorConfig)
Tensors = dict[str, Tensor]


class _DetectorTask(Task[ConfigOf, Tensors], Generic[ConfigOf]):
    """What both detectors have in common."""

    lines: bool
    """Whether it looks for VIN lines instead of plates and vehicles."""

    @cached_property
    def scenes(self) -> tuple[list[Scene], list[Scene]]:
        """The training photos with targets, and those without."""
        raise NotImplementedError

    @cached_property
    def crops(self) -> list[tuple[list[Pixels], float, float]]:
        """Crops of plates that may be pasted over a photo's own."""
        return []

    def net(self) -> DetectorNet:
        """Return the untrained net."""
        return DetectorNet(vehicles=not self.lines)

    def prepare(self, net: nn.Module) -> list[dict[str, Any]]:
        """Round the weights as INT8 will hold them: all but the last convolution of each head."""
        round_weights(module[0] for module in net.modules() if isinstance(module, Conv))
        parameters = list(net.parameters())
        return [
            {"params": [p for p in parameters if p.ndim > 1], "share": 1.0},
            {"params": [p for p in parameters if p.ndim <= 1], "share": 1.0, "weight_decay": 0.0},
        ]

    def size(self, progress: float) -> int:
        """Return the side of a frame: small ones first, which teach the same for less."""
        return self.config.size if progress < 0.7 else self.config.last_size

    def batches(self, rng: np.random.Generator, size: int) -> Iterator[Tensors]:
        """Yield frames of ``size`` x ``size`` pixels with their truth, by the names of ``Sample``."""
        scenes, empty = self.scenes
        seed = int(rng.integers(2**32))
        yield from self._batches(
            Scenes(scenes, empty, self.crops, size, seed, self.lines, self.config.mosaic)
        )

    def _batches(self, scenes: Scenes) -> Iterator[Tensors]:
        samples = iter(scenes)
        while True:
            rows = [next(samples) for _ in range(self.config.batch)]
            yield {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}

    def images(self, batch: Tensors) -> Tensor:
        """Return the frames, BGR 0..1."""
        images = batch["image"].permute(0, 3, 1, 2).float().div_(255)
        return images.contiguous(memory_format=torch.channels_last)

    def loss(self, outputs: Any, batch: Tensors) -> Tensors:
        """Return the terms of the loss."""
        return loss(outputs, batch, batch["image"].shape[1], self._type_weights)

    @cached_property
    def _type_weights(self) -> Tensor:
        return _type_weights(self.scenes[0])

    def figures(self, net: nn.Module) -> Figures:
        """Measure ``net`` as the file that it would be."""
        self.write(net, self.work / "float.onnx")
        return self.judge(self.work / "float.onnx")

    def detector(self, model: Path) -> Detector:
        """Return the production's detector with ``model``."""
        return Detector(session(model), DetectorTuning(second_look=LINES if self.lines else PLATES))

    def write(self, net: nn.Module, path: Path) -> None:
        """Write ``net`` with free height and width."""
        height, width = torch.export.Dim("rows", min=2, max=64), torch.export.Dim("columns", min=2, max=64)
        program = torch.onnx.export(
            fold_batch_norms(net),
            (torch.zeros(1, 3, 256, 416),),
            input_names=["image"],
            output_names=["targets"] if self.lines else ["targets", "vehicles"],
            dynamic_shapes=({2: 32 * height, 3: 32 * width},),
            opset_version=20,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(str(path))
        describe(path, METADATA["vin_detector" if self.lines else "plate_detector"])

    def quantize(self, exact: Path, out: Path) -> None:
        """Quantize all but the heads' last convolutions: with them, recall is lost first."""
        scenes = self.training
        chosen = np.random.default_rng(self.config.seed).choice(
            len(scenes), min(300, len(scenes)), replace=False
        )
        feeds = ({"image": net_input(read_image(scenes[int(i)].image), 416)} for i in chosen)
        heads = [
            node.name
            for node in onnx.load(exact).graph.node
            if node.op_type == "Conv" and any("heads" in name for name in node.input)
        ]
        quantize(exact, out, feeds, keep_float=heads, op_types=("Conv", "Relu", "Add", "Resize"))
        finish(out)

    def recovered(self, model: Path) -> nn.Module:
        """Return the net of ``model``, its folded normalizations put back with statistics of frames."""
        scenes = Scenes(self.training, [], [], self.config.size, self.config.seed, self.lines)
        frames = (self.images(batch) for batch in self._batches(scenes))
        return unfolded(self.net(), float_weights(model), frames, 25)


class PlateDetector(_DetectorTask[PlateDetectorConfig]):
    """Finds plates and vehicles."""

    lines = False

    @cached_property
    def scenes(self) -> tuple[list[Scene], list[Scene]]:
        """The photos with plates, and those without."""
        return self.training, empty_scenes(self.data, "train")

    @cached_property
    def crops(self) -> list[tuple[list[Pixels], float, float]]:
        """Crops of the plates that the photos lack."""
        return plate_crops(self.data, self.config.drawn, self.config.seed)

    def labeled(self, split: str) -> list[Scene]:
        """Return the photos with plates."""
        return plate_scenes(self.data, split)

    def judge(self, model: Path) -> Figures:
        """Measure ``model`` on each folder of photos."""
        detector = self.detector(model)
        found = figures(detector, plate_scenes(self.data, "val", "photos"), empty_scenes(self.data, "val"))
        newer = plate_scenes(self.data, "val", "openimages2")
        if newer:
            found |= {f"openimages2_{key}": value for key, value in figures(detector, newer, []).items()}
        return found

    def complete(self, model: Path) -> None:
        """Add what the detector ``model`` sees to the labels of ``plates/openimages2``.

        They name the boxes of plates only. WORK/labels.jsonl gets, for each photo, the vehicle around each
        plate (``vehicle.box``), the other vehicles, and the corners of the plates whose labeled box the
        detector agrees with (``corners_guess``). WORK otherwise links to the photos, to take their place.
        """
        photos, out = self.data / "plates" / "openimages2", self.work
        out.mkdir(parents=True, exist_ok=True)
        for entry in photos.iterdir():
            if entry.is_dir() and not (out / entry.name).exists():
                (out / entry.name).symlink_to(entry.resolve())
        run = session(model)
        detectors = [Detector(run, DetectorTuning(side=side, threshold=_DOUBTFUL)) for side in (416, 640)]
        with (out / "labels.jsonl").open("w", encoding="utf-8") as file:
            for label in read_labels(photos):
                pixels = read_image(photos / label["image"])
                seen = [d for detector in detectors for d in detector.detect(pixels)]
                for vehicles in (False, True):
                    seen = _without_doubles(seen, vehicles)
                complete(label, seen)
                file.write(json.dumps(label) + "\n")


class VinDetector(_DetectorTask[VinDetectorConfig]):
    """Finds the lines that may be a VIN."""

    lines = True

    @cached_property
    def scenes(self) -> tuple[list[Scene], list[Scene]]:
        """Labeled and drawn photos with a VIN, and drawn ones without."""
        folder, config = self.work / "rendered", self.config
        drawn, empty = rendered_line_scenes(folder, config.rendered, config.seed)
        return self.training + drawn, empty

    def labeled(self, split: str) -> list[Scene]:
        """Return the photos with a line that holds a VIN."""
        return line_scenes(self.data, split)

    def judge(self, model: Path) -> Figures:
        """Measure ``model`` on the labeled photos."""
        return figures(self.detector(model), self.validation, [])


def _type_weights(scenes: list[Scene]) -> Tensor:
    """Weigh vehicle types (V,), the rarer the more."""
    counts = torch.ones(len(VEHICLE_TYPES))
    for scene in scenes:
        for kind in scene.types[scene.types >= 0]:
            counts[int(kind)] += 1
    return (counts.sum() / counts / len(VEHICLE_TYPES)).pow(0.4)


def figures(detector: Detector, scenes: list[Scene], empty: list[Scene]) -> dict[str, float]:
    """Return the shares of targets and vehicles found at IoU 0.5, corner errors and false alarms.

    ``false`` is the share of photos without a target in which something is found. ``corner`` is the mean
    distance of a corner as a share of the target's height, where corners are known.
    """
    targets = found = vehicles = seen = right = 0
    errors: list[float] = []
    for scene in scenes:
        detections = detector.detect(read_image(scene.image))
        plates = [d for d in detections if not d.is_vehicle]
        cars = [d for d in detections if d.is_vehicle]
        for box, quad, cornered in zip(scene.boxes, scene.quads, scene.cornered, strict=True):
            best = max(plates, key=lambda d: iou(box, d.box), default=None)
            targets += 1
            if best is None or iou(box, best.box) < 0.5:
                continue
            found += 1
            if cornered:
                high = float(np.linalg.norm(quad[0] - quad[3]))
                errors.append(float(np.linalg.norm(best.corners - quad, axis=1).mean()) / high)
        for box, kind in zip(scene.vehicles, scene.types, strict=True):
            if kind < 0:
                continue
            car: Detection | None = max(cars, key=lambda d: iou(box, d.box), default=None)
            hit = car is not None and iou(box, car.box) >= 0.5
            vehicles += 1
            seen += hit
            right += bool(hit and car is not None and car.vehicle_type == VEHICLE_TYPES[int(kind)])
    alarms = sum(any(not d.is_vehicle for d in detector.detect(read_image(scene.image))) for scene in empty)
    return {
        "targets": targets,
        "found": round(found / max(targets, 1), 4),
        "corner": round(float(np.mean(errors)) if errors else math.nan, 4),
        "vehicle_found": round(seen / max(vehicles, 1), 4),
        "vehicle_type": round(right / max(seen, 1), 4),
        "false": round(alarms / max(len(empty), 1), 4),
    }


# -- what a detector sees, as labels -------------------------------------------------------------------------

_SURE = 0.5
"""Score from which a vehicle counts as seen; less sure ones are noted as such."""
_DOUBTFUL = 0.25
_KINDS = {"Bus": "bus", "Motorcycle": "motorcycle", "Big Truck": "truck"}


def _rounded(values: Any) -> Any:
    return np.round(np.asarray(values, float), 1).tolist()


def _carries(vehicle: Detection, box: list[float]) -> bool:
    """Whether the plate at ``box`` may be on ``vehicle``: inside it, and much narrower."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    x0, y0, x1, y1 = vehicle.box
    return bool(x0 <= x <= x1 and y0 + 0.15 * (y1 - y0) <= y <= y1 and box[2] - box[0] < 0.7 * (x1 - x0))


def complete(label: dict[str, Any], found: list[Detection]) -> None:
    """Write what of ``found`` belongs to ``label`` into it."""
    targets = [d for d in found if not d.is_vehicle]
    vehicles = [d for d in found if d.is_vehicle]
    taken: set[int] = set()
    for plate in label["plates"]:
        best = max(targets, key=lambda d: iou(plate["box"], d.box), default=None)
        if best is not None and iou(plate["box"], best.box) > 0.5 and best.score > _SURE:
            plate["corners_guess"] = _rounded(best.corners)
        carriers = [i for i, d in enumerate(vehicles) if _carries(d, plate["box"]) and d.score >= _SURE]
        if carriers:
            chosen = max(carriers, key=lambda i: vehicles[i].score)
            taken.add(chosen)
            plate["vehicle"] = (plate.get("vehicle") or {}) | {"box": _rounded(vehicles[chosen].box)}
    label["other_vehicles"] = [
        {"box": _rounded(d.box), "kind": _KINDS.get(d.vehicle_type or "", "car"), "score": round(d.score, 3)}
        for i, d in enumerate(vehicles)
        if i not in taken
    ]


def _without_doubles(found: list[Detection], vehicles: bool) -> list[Detection]:
    """Return ``found`` with the best of the vehicles, or of the others, that lie on each other."""
    some = [d for d in found if d.is_vehicle == vehicles]
    rest = [d for d in found if d.is_vehicle != vehicles]
    if not some:
        return rest
    boxes, scores = np.stack([d.box for d in some]), np.array([d.score for d in some], np.float32)
    return rest + [some[i] for i in keep_best(boxes, scores, 0.6)]
