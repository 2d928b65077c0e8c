"""Train the vehicle classifier: ``python -m training.vehicles --data DIR --detector WORK --work DIR``.

It looks at a vehicle's box, stretched to a small square, with the detector's own trunk - trained already on
many more vehicles than have a labeled body - and one linear layer each for body, color and side.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from carsight.plate.vehicles import SIDE, cut
from carsight.runtime import session
from training.data import (
    COLORS,
    ORIENTATIONS,
    TYPE_OF_LABEL,
    VEHICLE_TYPES,
    Pixels,
    read_image,
    read_photo_labels,
)
from training.detector import Conv, Net, fold_batch_norms
from training.model_files import finish
from training.quantize import quantize
from training.rounding import round_weights
from training.scenes import spoil

UNKNOWN = -1
_HEADS = (("type", VEHICLE_TYPES), ("color", COLORS), ("orientation", ORIENTATIONS))


@dataclass
class Labeled:
    """A photo's part, some context round the vehicle, its box there, and the index of each answer or -1."""

    pixels: Pixels
    box: NDArray[np.float32]
    answers: tuple[int, int, int]


class Looks(nn.Module):
    """Images (B, 3, 128, 128), BGR 0..1, to raw scores of body (B, 7), color (B, 13) and side (B, 2)."""

    def __init__(self) -> None:
        super().__init__()
        trunk = Net()
        self.stem, self.middle, self.deep = trunk.stem, trunk.middle, trunk.deep
        self.color_side = Conv(48, 48, 2)
        self.drop = nn.Dropout(0.3)
        # Color needs the early features, before the trunk has learnt to overlook it.
        self.type_head = nn.Linear(128, len(VEHICLE_TYPES))
        self.color_head = nn.Linear(48, len(COLORS))
        self.orientation_head = nn.Linear(128, len(ORIENTATIONS))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine = self.stem(images)
        shape = self.drop(self.deep(self.middle(fine)).mean((2, 3)))
        paint = self.drop(self.color_side(fine).mean((2, 3)))
        return self.type_head(shape), self.color_head(paint), self.orientation_head(shape)


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
    view = spoil(view, rng)
    kind, color, side = vehicle.answers
    # Color cannot be told from a gray picture.
    gray = bool(np.ptp(view.astype(np.int16), axis=2).max() < 12)
    return view, (kind, UNKNOWN if gray else color, side)


def views(vehicles: list[Labeled], batch: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of varied views without end: images (B, 3, 128, 128) and answers (B, 3)."""
    rng = np.random.default_rng(seed)
    while True:
        chosen = rng.choice(len(vehicles), batch, replace=False)
        pixels, answers = zip(*(_varied(vehicles[int(i)], rng) for i in chosen), strict=True)
        images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float().div_(255)
        yield images.contiguous(memory_format=torch.channels_last), torch.tensor(answers)


def _loss(raw: tuple[Tensor, ...], answers: Tensor, weights: list[Tensor]) -> Tensor:
    terms = [
        F.cross_entropy(
            values.float(), answers[:, i], weight=weights[i], ignore_index=UNKNOWN, label_smoothing=0.05
        )
        for i, values in enumerate(raw)
        if bool((answers[:, i] >= 0).any())
    ]
    return torch.stack(terms).sum()


def train(args: argparse.Namespace) -> None:
    """Train for ``args.epochs`` and write ``args.work``/looks.onnx."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    net = Looks()
    if args.start:
        net.load_state_dict(torch.load(args.start, weights_only=True)["net"])
    else:
        trunk = torch.load(args.detector / "last.pt", weights_only=True)["average"]
        net.load_state_dict(
            {k: v for k, v in trunk.items() if k.split(".")[0] in ("stem", "middle", "deep")}, strict=False
        )
    round_weights(module[0] for module in net.modules() if isinstance(module, Conv))
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    vehicles = labeled(args.data, "train")
    weights = []
    for i, (_, words) in enumerate(_HEADS):
        counts = (
            np.bincount([v.answers[i] for v in vehicles if v.answers[i] >= 0], minlength=len(words)) + 1.0
        )
        # A little weight for the rare: with none they are never answered, with much of it too often.
        weights.append(torch.tensor((counts.mean() / counts) ** 0.25, dtype=torch.float32))
    heads = [p for name, p in net.named_parameters() if name.split(".")[0] not in ("stem", "middle", "deep")]
    rest = [p for name, p in net.named_parameters() if name.split(".")[0] in ("stem", "middle", "deep")]
    optimizer = torch.optim.AdamW([{"params": heads}, {"params": rest}], weight_decay=0.05)
    steps = args.epochs * len(vehicles) // args.batch
    stream = views(vehicles, args.batch, args.seed)
    total, step, share, began = 0.0, 0, 0.0, time.monotonic()
    while share < 1:
        share = min(1.0, max(step / steps, (time.monotonic() - began) / (args.minutes * 60)))
        net.train()
        rate = args.rate * min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * share))
        optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = rate, rate * 0.5
        images, answers = next(stream)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            raw = net(images)
        value = _loss(raw, answers, weights)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(value)
        optimizer.step()
        total += value.item()
        step += 1
        if step % 100 == 0:
            print(f"{step}/{steps} loss {total / 100:.3f}", flush=True)
            total = 0.0
    torch.save({"net": net.state_dict(), "step": step}, args.work / "last.pt")
    torch.onnx.export(
        fold_batch_norms(net),
        (torch.zeros(1, 3, SIDE, SIDE),),
        str(args.work / "looks.onnx"),
        input_names=["image"],
        output_names=[name for name, _ in _HEADS],
        opset_version=20,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    begin = parser.add_mutually_exclusive_group(required=True)
    begin.add_argument("--detector", type=Path, help="a detector's --work folder, whose trunk to begin with")
    begin.add_argument("--start", type=Path, help="last.pt of another run, to begin with")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--release", type=Path, help="where the INT8 model goes")
    parser.add_argument("--minutes", type=float, default=math.inf, help="end by then, whatever the epochs")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if not (args.work / "looks.onnx").exists():
        train(args)
    judged = labeled(args.data, "val")
    print("fp32", figures(args.work / "looks.onnx", judged), flush=True)
    if args.release:
        feeds = (
            {"image": cv2.dnn.blobFromImage(cut(v.pixels, v.box), 1 / 255)}
            for v in labeled(args.data, "train")[::6]
        )
        quantize(args.work / "looks.onnx", args.release, feeds, op_types=("Conv", "Relu"))
        finish(args.release)
        print("int8", figures(args.release, judged), flush=True)


if __name__ == "__main__":
    main()
