"""What a detector learns from: which cell shall find which target or vehicle, and how far off it is.

Each cell of the grids is matched to the truth by how well it predicts it (task-aligned assignment, Feng et
al., TOOD, 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.nets import STRIDES

_TOP = 9
"""Cells per true box that may be trained to find it."""


@dataclass
class Cells:
    """Centers (N, 2) and strides (N, 1) of the cells, pixels, in the order of the net's outputs."""

    centers: Tensor
    strides: Tensor

    @classmethod
    def of(cls, height: int, width: int, strides: tuple[int, ...]) -> Cells:
        """Return the cells of an image, those of the finest grid first."""
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
    """Return the intersection over union of broadcast boxes (..., 4), as something to learn from.

    With ``distance`` less the distance of their middles (DIoU, Zheng et al., 2020).
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


def corner_errors(corners: Tensor, truth: Tensor) -> Tensor:
    """Return how far off ``corners`` (N, 8) are (N,): smooth L1, as a share of the height of the target."""
    short = torch.minimum(
        (truth[:, 0:2] - truth[:, 6:8]).norm(dim=1), (truth[:, 0:2] - truth[:, 2:4]).norm(dim=1)
    )
    off = (corners - truth) / short.clamp(min=4.0)[:, None]
    return F.smooth_l1_loss(off, torch.zeros_like(off), reduction="none", beta=0.1).mean(1)


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
    terms["corners"] = 2.0 * (corner_errors(corners, quads) * known * weight).sum() / total
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
