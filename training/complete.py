"""Adds to labels what a detector sees: ``python -m training.complete --photos DIR --model FILE --out DIR``.

The photos of ``plates/openimages2`` come with plate boxes only. OUT/labels.jsonl gets, for each photo, the
vehicle round each plate (``vehicle.box``), the other vehicles, and the corners of the plates whose labeled
box the detector agrees with (``corners_guess``). OUT otherwise links to DIR.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from carsight.detector import Detection, Detector, DetectorTuning, keep_best
from carsight.runtime import session
from training.data import read_image, read_labels
from training.scenes import box_iou

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
        best = max(targets, key=lambda d: box_iou(plate["box"], d.box), default=None)
        if best is not None and box_iou(plate["box"], best.box) > 0.5 and best.score > _SURE:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder with labels.jsonl")
    parser.add_argument("--model", type=Path, required=True, help="a plate and vehicle detector")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for entry in args.photos.iterdir():
        if entry.is_dir() and not (args.out / entry.name).exists():
            (args.out / entry.name).symlink_to(entry.resolve())
    detectors = [
        Detector(session(args.model), DetectorTuning(side=side, threshold=_DOUBTFUL)) for side in (416, 640)
    ]
    with (args.out / "labels.jsonl").open("w", encoding="utf-8") as file:
        for label in read_labels(args.photos):
            pixels = read_image(args.photos / label["image"])
            found = [d for detector in detectors for d in detector.detect(pixels)]
            for vehicles in (False, True):
                some = [d for d in found if d.is_vehicle == vehicles]
                rest = [d for d in found if d.is_vehicle != vehicles]
                if some:
                    boxes, scores = (
                        np.stack([d.box for d in some]),
                        np.array([d.score for d in some], np.float32),
                    )
                    found = rest + [some[i] for i in keep_best(boxes, scores, 0.6)]
            complete(label, found)
            file.write(json.dumps(label) + "\n")


if __name__ == "__main__":
    main()
