"""Train the detector: ``python -m training.detector --data DIR --work DIR [--lines]``.

One small anchor-free net of plain 3x3 convolutions with ReLU, which is what INT8 on a CPU runs fastest. Each
cell of three grids (strides 8, 16 and 32) says whether a target (a plate, or with ``--lines`` the line of a
VIN) is centered there, its box, its four corners and whether it has two rows; the cells of the two coarser
grids also say whether a vehicle is, its box and its body. Cells are matched to the truth by how well they
predict it (task-aligned assignment, Feng et al., TOOD, 2021).

Every ``--every`` steps a checkpoint is written and the averaged weights are measured on the validation split
with the code that runs in production; the figures go to ``WORK/log.jsonl``. A run that is started again
resumes.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carsight.detector import LINES, PLATES, Detection, Detector, DetectorTuning, net_input
from training.data import VEHICLE_TYPES, read_image
from training.model_files import METADATA, describe, finish
from training.quantize import quantize
from training.rounding import plain_weights, round_weights
from training.scenes import (
    Scene,
    Scenes,
    box_iou,
    empty_scenes,
    line_scenes,
    plate_crops,
    plate_scenes,
    rendered_line_scenes,
)

STRIDES = (8, 16, 32)
TARGET_OUTPUTS = 14
"""Score, box (left, top, right, bottom distance), four corners (x, y), two rows."""
VEHICLE_OUTPUTS = 5 + len(VEHICLE_TYPES)
"""Score, box, body."""
_TOP = 9
"""Cells per true box that may be trained to find it."""


class Conv(nn.Sequential):
    """3x3 convolution, batch normalization, ReLU.

    Where it keeps shape it starts near the identity, which does for a plain net what a shortcut would.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        if stride == 1 and inputs == outputs:
            with torch.no_grad():
                conv.weight.mul_(0.7)
                nn.init.dirac_(extra := torch.empty_like(conv.weight))
                conv.weight.add_(extra)
        super().__init__(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Net(nn.Module):
    """Images (B, 3, H, W), BGR 0..1, H and W multiples of 32, to raw outputs, cells last:
    targets (B, 14, N) over all three grids and vehicles (B, 12, M) over the two coarser ones.
    """

    def __init__(self, vehicles: bool = True) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            Conv(3, 16, 2), Conv(16, 24, 2), Conv(24, 48, 2), Conv(48, 48), Conv(48, 48)
        )
        self.middle = nn.Sequential(Conv(48, 96, 2), Conv(96, 96), Conv(96, 96))
        self.deep = nn.Sequential(Conv(96, 128, 2), Conv(128, 128), Conv(128, 128))
        self.deep_to_middle = Conv(128, 64, kernel=1)
        self.middle_side = Conv(96, 64, kernel=1)
        self.middle_mix = Conv(64, 64)
        self.middle_to_fine = Conv(64, 48, kernel=1)
        self.fine_mix = Conv(48, 48)
        widths = (48, 64, 64)
        self.deep_side = Conv(128, 64, kernel=1)
        self.target_towers = nn.ModuleList(Conv(width, width) for width in widths)
        self.target_heads = nn.ModuleList(nn.Conv2d(width, TARGET_OUTPUTS, 1) for width in widths)
        self.vehicle_towers = nn.ModuleList(Conv(64, 64) for _ in range(2 if vehicles else 0))
        self.vehicle_heads = nn.ModuleList(
            nn.Conv2d(64, VEHICLE_OUTPUTS, 1) for _ in range(2 if vehicles else 0)
        )
        for head in [*self.target_heads, *self.vehicle_heads]:
            assert isinstance(head, nn.Conv2d) and head.bias is not None
            nn.init.normal_(head.weight, 0, 0.01)
            nn.init.zeros_(head.bias)
            # Begin by claiming that one cell in a hundred holds something two cells wide.
            head.bias.data[0] = -4.6
            head.bias.data[1:5] = 1.0

    def round_weights(self) -> None:
        """Train for INT8: all but the last convolution of each head is quantized."""
        round_weights(module[0] for module in self.modules() if isinstance(module, Conv))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        fine = self.stem(images)
        middle = self.middle(fine)
        deep = self.deep(middle)
        up = F.interpolate(self.deep_to_middle(deep), scale_factor=2.0, mode="nearest")
        middle = self.middle_mix(self.middle_side(middle) + up)
        fine = self.fine_mix(
            fine + F.interpolate(self.middle_to_fine(middle), scale_factor=2.0, mode="nearest")
        )
        levels = (fine, middle, self.deep_side(deep))
        targets = [
            head(tower(x)).flatten(2)
            for x, tower, head in zip(levels, self.target_towers, self.target_heads, strict=True)
        ]
        if not self.vehicle_heads:
            return (torch.cat(targets, 2),)
        vehicles = [
            head(tower(x)).flatten(2)
            for x, tower, head in zip(levels[1:], self.vehicle_towers, self.vehicle_heads, strict=True)
        ]
        return torch.cat(targets, 2), torch.cat(vehicles, 2)


@dataclass
class Cells:
    """Centers (N, 2) and strides (N, 1) of the cells, pixels, in the order of the net's outputs."""

    centers: Tensor
    strides: Tensor

    @classmethod
    def of(cls, height: int, width: int, strides: tuple[int, ...]) -> Cells:
        centers, sizes = [], []
        for stride in strides:
            y, x = torch.meshgrid(
                torch.arange(height // stride), torch.arange(width // stride), indexing="ij"
            )
            centers.append((torch.stack([x.flatten(), y.flatten()], 1) + 0.5) * stride)
            sizes.append(torch.full((len(centers[-1]), 1), float(stride)))
        return cls(torch.cat(centers), torch.cat(sizes))

    def boxes(self, raw: Tensor) -> Tensor:
        """Distances as the net gives them (B, N, 4) to boxes in pixels."""
        distance = F.softplus(raw) * self.strides * 2
        return torch.cat([self.centers - distance[..., :2], self.centers + distance[..., 2:]], -1)

    def corners(self, raw: Tensor) -> Tensor:
        """Offsets as the net gives them (B, N, 8) to corners in pixels."""
        return self.centers.repeat(1, 4) + raw * self.strides * 2


def _iou(a: Tensor, b: Tensor, distance: bool = False) -> Tensor:
    """Intersection over union of broadcast boxes (..., 4); with ``distance`` less the middles' distance
    (DIoU).
    """
    wide = (torch.minimum(a[..., 2], b[..., 2]) - torch.maximum(a[..., 0], b[..., 0])).clamp(min=0)
    high = (torch.minimum(a[..., 3], b[..., 3]) - torch.maximum(a[..., 1], b[..., 1])).clamp(min=0)
    both = wide * high
    area_a = (a[..., 2] - a[..., 0]) * (a[..., 3] - a[..., 1])
    area_b = (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])
    iou = both / (area_a + area_b - both + 1e-6)
    if not distance:
        return iou
    outer_w = torch.maximum(a[..., 2], b[..., 2]) - torch.minimum(a[..., 0], b[..., 0])
    outer_h = torch.maximum(a[..., 3], b[..., 3]) - torch.minimum(a[..., 1], b[..., 1])
    apart = ((a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) ** 2).sum(-1) / 4
    return iou - apart / (outer_w**2 + outer_h**2 + 1e-6)


@dataclass
class Match:
    """Which cell shall find which truth: ``goal`` (B, N) 0..1 and ``index`` (B, N) into the truths."""

    goal: Tensor
    index: Tensor


@torch.no_grad()
def _assign(scores: Tensor, boxes: Tensor, cells: Cells, truth: Tensor, valid: Tensor) -> Match:
    """Task-aligned assignment: the ``_TOP`` cells near a truth's middle with the best score^0.5 x IoU^3."""
    iou = _iou(boxes[:, None], truth[:, :, None])  # B, M, N
    middle = (truth[..., :2] + truth[..., 2:]) / 2
    half = (truth[..., 2:] - truth[..., :2]) / 2
    away = (cells.centers[None, None] - middle[:, :, None]).abs()
    # Half of a small thing's neighbors still count, so that none is without a cell.
    reach = torch.maximum(half[:, :, None] * 0.7, cells.strides[None, None] * 1.0)
    near = (away <= reach).all(-1) & (valid[:, :, None] > 0)
    # Things many cells wide belong to coarser grids, whose cells can see them whole.
    longest = half.max(-1).values[:, :, None] * 2 / cells.strides[None, None, :, 0]
    near &= (longest < 14) & (longest > 0.6)
    metric = (scores[:, None].clamp(min=1e-4).sqrt() * iou**3 + 1e-9) * near
    best = metric.topk(_TOP, dim=-1)
    chosen = torch.zeros_like(metric).scatter_(-1, best.indices, 1.0) * near
    # A cell wanted by two truths goes to the one it fits better.
    owner = (iou * chosen + chosen * 1e-6).max(1)
    taken = chosen.sum(1) > 0
    mine = chosen * F.one_hot(owner.indices, truth.shape[1]).permute(0, 2, 1)
    metric = metric * mine
    peak = metric.amax(-1, keepdim=True).clamp(min=1e-9)
    goal = (metric / peak * (iou * mine).amax(-1, keepdim=True)).sum(1)
    return Match(goal * taken, owner.indices)


def _covered(cells: Cells, areas: Tensor) -> Tensor:
    """Which cells' centers (B, N) lie in one of ``areas`` (B, K, 4)."""
    c = cells.centers[None, :, None]
    a = areas[:, None]
    inside = (
        (c[..., 0] > a[..., 0]) & (c[..., 1] > a[..., 1]) & (c[..., 0] < a[..., 2]) & (c[..., 1] < a[..., 3])
    )
    return inside.any(-1)


def _pick(values: Tensor, index: Tensor) -> Tensor:
    """``values`` (B, M, K) at ``index`` (B, N): (B, N, K)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def _found_loss(
    raw: Tensor, cells: Cells, truth: Tensor, valid: Tensor, ignored: Tensor
) -> tuple[Tensor, Tensor, Match, Tensor, Tensor]:
    """Score and box losses, the match, its weights (B, N) and their sum."""
    boxes = cells.boxes(raw[..., 1:5])
    match = _assign(raw[..., 0].sigmoid(), boxes, cells, truth, valid)
    total = match.goal.sum().clamp(min=1.0)
    count = (~_covered(cells, ignored) | (match.goal > 0)).float()
    score = (
        F.binary_cross_entropy_with_logits(raw[..., 0], match.goal, reduction="none") * count
    ).sum() / total
    positive = match.goal > 0
    apart = 1 - _iou(boxes[positive], _pick(truth, match.index)[positive], distance=True)
    box = (apart * match.goal[positive]).sum() / total
    return score, box, match, positive, total


def loss(
    outputs: tuple[Tensor, ...], batch: dict[str, Tensor], size: int, kinds: Tensor
) -> dict[str, Tensor]:
    """Return the terms of the loss; ``kinds`` weighs the vehicle bodies against their frequency."""
    cells = Cells.of(size, size, STRIDES)
    raw = outputs[0].float().transpose(1, 2)
    score, box, match, positive, total = _found_loss(
        raw, cells, batch["boxes"], batch["valid"], batch["unsure"]
    )
    terms = {"score": score, "box": 2.0 * box}
    weight = match.goal[positive]
    quads = _pick(batch["quads"], match.index)[positive]
    known = _pick(batch["cornered"][..., None], match.index)[positive][:, 0]
    corners = cells.corners(raw[..., 5:13])[positive]
    # An error matters to the reader as a share of the target's height.
    short = torch.minimum(
        (quads[:, 0:2] - quads[:, 6:8]).norm(dim=1), (quads[:, 0:2] - quads[:, 2:4]).norm(dim=1)
    )
    off = (corners - quads) / short.clamp(min=4.0)[:, None]
    off = F.smooth_l1_loss(off, torch.zeros_like(off), reduction="none", beta=0.1).mean(1)
    terms["corners"] = 2.0 * (off * known * weight).sum() / total
    rows = _pick(batch["rows"][..., None], match.index)[positive][:, 0]
    two = F.binary_cross_entropy_with_logits(raw[..., 13][positive], rows.clamp(min=0), reduction="none")
    terms["rows"] = 0.3 * (two * (rows >= 0) * weight).sum() / total
    if len(outputs) == 2:
        cells = Cells.of(size, size, STRIDES[1:])
        raw = outputs[1].float().transpose(1, 2)
        score, box, match, positive, total = _found_loss(
            raw, cells, batch["vehicles"], batch["valid_vehicles"], batch["unsure_vehicles"]
        )
        terms["vehicle_score"], terms["vehicle_box"] = 0.5 * score, box
        types = _pick(batch["types"][..., None], match.index)[positive][:, 0].long()
        kind = F.cross_entropy(raw[..., 5:][positive], types, weight=kinds, ignore_index=-1, reduction="none")
        terms["type"] = 0.3 * (kind * match.goal[positive]).sum() / total
    return terms


def fold_batch_norms(net: nn.Module) -> nn.Module:
    """Return a copy of ``net`` for inference, the batch normalization of every ``Conv`` folded into its
    convolution, whose weights are rounded for good where they were for the training.
    """
    folded = copy.deepcopy(net).eval()
    for module in folded.modules():
        if isinstance(module, Conv):
            conv, norm = module[0], module[1]
            assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
            module[0] = torch.nn.utils.fusion.fuse_conv_bn_eval(conv, norm)
            module[1] = nn.Identity()
    plain_weights(folded)
    return folded


def export(net: Net, path: Path, lines: bool) -> None:
    """Write ``net`` to ``path`` as ONNX with free height and width."""
    height, width = torch.export.Dim("rows", min=2, max=64), torch.export.Dim("columns", min=2, max=64)
    program = torch.onnx.export(
        fold_batch_norms(net),
        (torch.zeros(1, 3, 256, 416),),
        input_names=["image"],
        output_names=["targets"] if lines else ["targets", "vehicles"],
        dynamic_shapes=({2: 32 * height, 3: 32 * width},),
        opset_version=20,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.save(str(path))
    describe(path, METADATA["vin_detector" if lines else "plate_detector"])


def figures(detector: Detector, scenes: list[Scene], empty: list[Scene]) -> dict[str, float]:
    """Validation figures: shares of targets and vehicles found at IoU 0.5, mean corner error and false
    alarms.

    ``false`` is the share of photos without a target in which something is found. ``corner`` is the mean
    distance of a corner as a share of the target's height, where corners are known.
    """
    targets = found = vehicles = seen = kinds = right = 0
    errors: list[float] = []
    for scene in scenes:
        detections = detector.detect(read_image(scene.image))
        plates = [d for d in detections if not d.is_vehicle]
        cars = [d for d in detections if d.is_vehicle]
        for box, quad, cornered in zip(scene.boxes, scene.quads, scene.cornered, strict=True):
            best = max(plates, key=lambda d: box_iou(box, d.box), default=None)
            targets += 1
            if best is None or box_iou(box, best.box) < 0.5:
                continue
            found += 1
            if cornered:
                high = float(np.linalg.norm(quad[0] - quad[3]))
                errors.append(float(np.linalg.norm(best.corners - quad, axis=1).mean()) / high)
        for box, kind in zip(scene.vehicles, scene.types, strict=True):
            if kind < 0:
                continue
            car: Detection | None = max(cars, key=lambda d: box_iou(box, d.box), default=None)
            hit = car is not None and box_iou(box, car.box) >= 0.5
            vehicles += 1
            seen += hit
            kinds += hit
            right += bool(hit and car is not None and car.vehicle_type == VEHICLE_TYPES[int(kind)])
    alarms = sum(any(not d.is_vehicle for d in detector.detect(read_image(scene.image))) for scene in empty)
    return {
        "targets": targets,
        "found": round(found / max(targets, 1), 4),
        "corner": round(float(np.mean(errors)) if errors else math.nan, 4),
        "vehicle_found": round(seen / max(vehicles, 1), 4),
        "vehicle_type": round(right / max(kinds, 1), 4),
        "false": round(alarms / max(len(empty), 1), 4),
    }


def _shared(weights: dict[str, Tensor], net: Net) -> dict[str, Tensor]:
    """Those of ``weights`` that ``net`` has too."""
    return {name: value for name, value in weights.items() if name in net.state_dict()}


def batches(source: Scenes, batch: int) -> Iterator[dict[str, Tensor]]:
    """Batches of ``source``, made ahead by a thread: OpenCV and Torch both let others run while they work.

    The thread ends with the process, or when the iterator is dropped.
    """
    ready: queue.Queue[dict[str, Tensor]] = queue.Queue(4)
    stop = threading.Event()

    def make() -> None:
        samples = iter(source)
        while not stop.is_set():
            rows = [next(samples) for _ in range(batch)]
            made = {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}
            while not stop.is_set():
                try:
                    ready.put(made, timeout=1.0)
                    break
                except queue.Full:
                    continue

    maker = threading.Thread(target=make, daemon=True)
    maker.start()
    try:
        while True:
            try:
                yield ready.get(timeout=60.0)
            except queue.Empty:
                raise RuntimeError("no training samples for a minute") from None
    finally:
        stop.set()


def _open(path: Path, lines: bool) -> Detector:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Detector(session, DetectorTuning(second_look=LINES if lines else PLATES))


def _judge(args: argparse.Namespace, model: Path) -> dict[str, float]:
    """Return the validation figures of ``model``, those of plates for each folder of photos."""
    detector = _open(model, args.lines)
    if args.lines:
        return figures(detector, line_scenes(args.data, "val"), [])
    found = figures(detector, plate_scenes(args.data, "val", "photos"), empty_scenes(args.data, "val"))
    newer = plate_scenes(args.data, "val", "openimages2")
    if newer:
        found |= {f"openimages2_{key}": value for key, value in figures(detector, newer, []).items()}
    return found


def _type_weights(scenes: list[Scene]) -> Tensor:
    """Weigh vehicle types (V,), the rarer the more."""
    counts = torch.ones(len(VEHICLE_TYPES))
    for scene in scenes:
        for kind in scene.types[scene.types >= 0]:
            counts[int(kind)] += 1
    return (counts.sum() / counts / len(VEHICLE_TYPES)).pow(0.4)


def _learn(
    net: Net, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], size: int, kinds: Tensor
) -> dict[str, float]:
    """Take one step on ``batch``, and return the terms of its loss."""
    images = (
        batch["image"].permute(0, 3, 1, 2).float().div_(255).contiguous(memory_format=torch.channels_last)
    )
    net.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = net(images)
    terms = loss(outputs, batch, size, kinds)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(torch.stack(list(terms.values())).sum())
    nn.utils.clip_grad_norm_(net.parameters(), 10.0)
    optimizer.step()
    return {name: term.item() for name, term in terms.items()}


@torch.no_grad()
def _follow(average: Net, net: Net, keep: float) -> None:
    """Move ``average`` towards ``net``; ``keep`` is the share of it that stays."""
    for ours, theirs in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if ours.dtype.is_floating_point:
            ours.lerp_(theirs, 1 - keep)


def train(args: argparse.Namespace) -> None:
    """Run the training that ``args`` describe, from its last checkpoint where there is one."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    net = Net(vehicles=not args.lines)
    net.round_weights()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = Net(vehicles=not args.lines)
    average.round_weights()
    average.load_state_dict(net.state_dict())
    decayed = [p for p in net.parameters() if p.ndim > 1]
    plain = [p for p in net.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}]
    )
    step, spent, lasted = 0, 0.0, 0.0
    last = args.work / "last.pt"
    if last.exists():
        state = torch.load(last, weights_only=True)
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent, lasted = state["step"], state["spent"], state["lasted"]
    elif args.start:
        net.load_state_dict(_shared(torch.load(args.start, weights_only=True)["average"], net), strict=False)
        average.load_state_dict(net.state_dict())
    if args.lines:
        drawn, empty = rendered_line_scenes(args.work / "rendered", args.rendered, args.seed)
        scenes, crops = line_scenes(args.data, "train") + drawn, []
    else:
        scenes, empty = plate_scenes(args.data, "train"), empty_scenes(args.data, "train")
        crops = plate_crops(args.data)
    kinds = _type_weights(scenes)
    stream: Iterator[dict[str, Tensor]] = iter(())
    size = 0
    began = time.process_time()
    sums: dict[str, float] = {}
    started, progress = time.monotonic() - lasted, 0.0
    while progress < 1:
        lasted = time.monotonic() - started
        progress = min(1.0, max(step / args.steps, lasted / (args.minutes * 60)))
        # Small frames first: they teach the same for less. The last part has the frames of production.
        wanted = args.size if progress < 0.7 else args.last_size
        if wanted != size:
            size = wanted
            source = Scenes(
                scenes,
                empty,
                crops,
                size,
                args.seed + step,
                args.lines,
                mosaic=0.1,
            )
            stream = batches(source, args.batch)
        batch: dict[str, Tensor] = next(stream)
        rate = args.rate * min(1.0, (step + 1) / 150) * (0.5 + 0.5 * math.cos(math.pi * progress) + 0.01)
        for group in optimizer.param_groups:
            group["lr"] = rate
        terms = _learn(net, optimizer, batch, size, kinds)
        step += 1
        _follow(average, net, min(0.998, (1 + step) / (10 + step)))
        for name, term in terms.items():
            sums[name] = sums.get(name, 0.0) + term
        if step % 100 == 0:
            told = " ".join(f"{name} {value / 100:.3f}" for name, value in sums.items())
            sums = {}
            print(f"{step} {size}px {spent + time.process_time() - began:.0f}s {told}", flush=True)
        now = spent + time.process_time() - began
        judging = step % args.every == 0 or progress == 1
        if judging or step % 200 == 0:
            torch.save(
                {
                    "net": net.state_dict(),
                    "average": average.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step,
                    "spent": now,
                    "lasted": lasted,
                },
                last,
            )
        if judging:
            export(average, args.work / "detector.onnx", args.lines)
            row = {
                "step": step,
                "cpu_s": round(now),
                **_judge(args, args.work / "detector.onnx"),
            }
            print(json.dumps(row), flush=True)
            with (args.work / "log.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")


def release(args: argparse.Namespace) -> None:
    """Quantize the trained model to ``args.release`` and print the figures of both."""
    fp32 = args.work / "detector.onnx"
    net = Net(vehicles=not args.lines)
    net.load_state_dict(torch.load(args.work / "last.pt", weights_only=True)["average"])
    net.round_weights()
    export(net, fp32, args.lines)
    scenes = (line_scenes if args.lines else plate_scenes)(args.data, "train")
    chosen = np.random.default_rng(args.seed).choice(len(scenes), 300, replace=False)
    feeds = ({"image": net_input(read_image(scenes[int(i)].image), 416)[0]} for i in chosen)
    heads = [
        node.name
        for node in onnx.load(fp32).graph.node
        if node.op_type == "Conv" and any("heads" in name for name in node.input)
    ]
    args.release.parent.mkdir(parents=True, exist_ok=True)
    quantize(fp32, args.release, feeds, keep_float=heads, op_types=("Conv", "Relu", "Add", "Resize"))
    finish(args.release)
    for name, path in (("fp32", fp32), ("int8", args.release)):
        print(name, json.dumps(_judge(args, path)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with plates/ and vin/")
    parser.add_argument("--work", type=Path, required=True, help="checkpoints and logs go here")
    parser.add_argument("--lines", action="store_true", help="find VIN lines instead of plates and vehicles")
    parser.add_argument(
        "--start", type=Path, help="last.pt of another run, whose weights this one begins with"
    )
    parser.add_argument("--rendered", type=int, default=1500, help="rendered photos, for --lines")
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument(
        "--size", type=int, default=320, help="side of a training frame, the first 70 %% of the steps"
    )
    parser.add_argument("--last-size", type=int, default=416, help="side of a training frame after that")
    parser.add_argument("--minutes", type=float, default=math.inf, help="end by then, whatever the steps")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--every", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    # Before any photo is read: a worker that is forked from a process with OpenCV's thread pool hangs on it.
    cv2.setNumThreads(1)
    parser.add_argument(
        "--release", type=Path, help="quantize the trained model to this file instead of training"
    )
    args = parser.parse_args()
    if args.release:
        release(args)
    else:
        train(args)


if __name__ == "__main__":
    main()
